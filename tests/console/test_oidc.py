"""Signing in through a provider: a real one on loopback, and everything it, or somebody between, may say wrongly."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from starlette.responses import JSONResponse, RedirectResponse, Response

from gateway.config.settings import parse_settings
from gateway.console import oidc
from gateway.console.port import OidcOptions
from gateway.core.model import MINUTE
from gateway.core.records import Role, Scope, UserChange
from gateway.errors import ConfigError
from tests.console.city import Running, running
from tests.console.oidc_provider import CLIENT, SECRET, Provider, provider
from tests.console.test_people import lines, page_of

ROLES = {"cw-view": Role.VIEWER, "cw-operate": Role.OPERATOR, "cw-admin": Role.ADMIN}


@contextlib.asynccontextmanager
async def both(folder: Path, **more: Any) -> AsyncIterator[tuple[Running, Provider]]:
    """A console and its provider; by default everybody is an operator."""
    async with provider() as idp, running(folder) as console:
        options = OidcOptions(idp.issuer, CLIENT, SECRET, "市统一认证", "City account", **more)
        console.gateway.oidc = options if more else OidcOptions(*_fields(options), default_role=Role.OPERATOR)
        yield console, idp


def _fields(options: OidcOptions) -> tuple[str, ...]:
    return (options.issuer, options.client_id, options.client_secret, options.title_zh, options.title_en)


def later(console: Running) -> None:
    """A quarter of an hour in which nobody tried anything."""
    moment = console.gateway.now() + 20 * MINUTE
    console.gateway.now = lambda: moment  # type: ignore[method-assign]


async def go(client: httpx.AsyncClient) -> httpx.Response:
    """As a browser does when somebody presses the button; the last answer is ours."""
    start = await client.get("/api/v1/oidc/start")
    assert start.status_code == 303, start.text
    async with httpx.AsyncClient(trust_env=False, verify=False) as outside:
        back = await outside.get(start.headers["location"])
    return await client.get(back.headers["location"])


def why(answer: httpx.Response) -> str | None:
    """What the page is told; None when the person is in."""
    assert answer.status_code == 303
    target = answer.headers["location"]
    assert target == "/" or target.startswith("/?sign_in=")
    if target == "/":
        return None
    assert not any(c.startswith(("citywatch=", "__Host-citywatch=")) for c in answer.headers.get_list("set-cookie"))
    return target.partition("=")[2]


async def test_somebody_unknown_becomes_a_user_and_is_in(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        ways = (await client.get("/api/v1/sign-in-ways")).json()
        assert ways["oidc"] == {"title": {"zh": "市统一认证", "en": "City account"}}
        assert why(await go(client)) is None
        who = (await client.get("/api/v1/session")).json()
        assert (who["name"], who["full_name"], who["role"], who["by"]) == ("zhao", "赵工", "operator", "oidc")
        user = await console.gateway.store.people.user_of(f"{idp.issuer} 10001")
        assert user is not None
        assert (user.name, user.by_password) == ("zhao", False)
        assert ("zhao", "zhao", "done", "by oidc from 127.0.0.1") in await lines(console, "sign-in")
        assert [line[1] for line in await lines(console, "create-user")] == ["zhao"]
        answer = await client.put("/api/v1/session/password", json={"old": "x", "new": "a new one for me"})
        assert answer.json()["code"] == "signs_in_elsewhere"
        assert why(await go(client)) is None  # and again, as the same
        assert len((await console.gateway.store.people.users(10)).items) == 1
        assert idp.asked.count("metadata") == idp.asked.count("jwks") == 1


async def test_the_request_to_the_provider_is_as_it_must_be(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, _), page_of(console) as client:
        answers = [await client.get("/api/v1/oidc/start") for _ in range(2)]
        queries = [parse_qs(urlsplit(answer.headers["location"]).query) for answer in answers]
        for query in queries:
            assert query["redirect_uri"] == [f"{console.url}/api/v1/oidc/callback"]
            assert query["scope"] == ["openid profile"]
            assert query["code_challenge_method"] == ["S256"]
            assert SECRET not in str(query)
        for name in ("state", "nonce", "code_challenge"):
            assert len({query[name][0] for query in queries}) == 2, name
            assert len(queries[0][name][0]) >= 43, name
        cookie = answers[0].headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Max-Age=600" in cookie


@pytest.mark.parametrize("how", ["client_secret_post", "ES256"])
async def test_other_providers_ways_work_too(tmp_path: Path, how: str) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        idp.by_post, idp.sign = how == "client_secret_post", "ES256" if how == "ES256" else "RS256"
        assert why(await go(client)) is None


# ------------------------------------------------------------------------------------------ roles


async def test_the_highest_role_that_the_claim_gives_is_taken(tmp_path: Path) -> None:
    async with both(tmp_path, role_claim="groups", roles=ROLES) as (console, idp), page_of(console) as client:
        idp.person["groups"] = ["cw-view", "cw-operate", "other", 7]
        assert why(await go(client)) is None
        assert (await client.get("/api/v1/session")).json()["role"] == "operator"
        idp.person["groups"] = "cw-view"
        assert why(await go(client)) is None
        assert (await client.get("/api/v1/session")).json()["role"] == "viewer"
        assert await lines(console, "change-user") == [
            ("zhao", "zhao", "done", "role operator → viewer, as the provider says")
        ]


@pytest.mark.parametrize("groups", [None, [], ["other"], "", {"cw-admin": True}, [["cw-admin"]], ["CW-ADMIN"]])
async def test_whom_no_role_fits_is_refused_and_not_made(tmp_path: Path, groups: Any) -> None:
    async with both(tmp_path, role_claim="groups", roles=ROLES) as (console, idp), page_of(console) as client:
        idp.person["groups"] = groups
        assert why(await go(client)) == "no_role"
        assert (await console.gateway.store.people.users(10)).items == []


async def test_whose_roles_are_gone_stays_out(tmp_path: Path) -> None:
    async with (
        both(tmp_path, role_claim="realm_access.roles", roles=ROLES) as (console, idp),
        page_of(console) as client,
    ):
        idp.person["realm_access"] = {"roles": ["cw-admin"]}
        assert why(await go(client)) is None
        idp.person["realm_access"] = {"roles": []}
        assert why(await go(client)) == "no_role"


async def test_a_role_given_here_stays_while_the_provider_says_nothing(tmp_path: Path) -> None:
    async with both(tmp_path, default_role=Role.VIEWER) as (console, idp), page_of(console) as client:
        assert why(await go(client)) is None
        change = UserChange(role=Role.SUPERVISOR, scope=Scope(towns=("梁山",)))
        await console.gateway.store.people.change("zhao", change, console.gateway.now())
        idp.person["role"] = "admin"
        assert why(await go(client)) is None
        who = (await client.get("/api/v1/session")).json()
        assert (who["role"], who["scope"]["towns"]) == ("supervisor", ["梁山"])


async def test_who_is_disabled_here_stays_out(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, _), page_of(console) as client:
        assert why(await go(client)) is None
        await console.gateway.store.people.change("zhao", UserChange(disabled=True), console.gateway.now())
        assert why(await go(client)) == "disabled"
        assert (await client.get("/api/v1/session")).status_code == 401


async def test_the_last_administrator_is_not_demoted_by_a_claim_and_stays_out(tmp_path: Path) -> None:
    async with both(tmp_path, role_claim="groups", roles=ROLES) as (console, idp), page_of(console) as client:
        idp.person["groups"] = ["cw-admin"]
        assert why(await go(client)) is None
        await console.gateway.store.revoke_token("admin-1", console.gateway.now())
        idp.person["groups"] = ["cw-view"]
        assert why(await go(client)) == "failed"


# ------------------------------------------------------------------------------------------ who somebody is


async def test_neither_name_nor_address_is_who_somebody_is(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client, page_of(console) as other:
        store = console.gateway.store.people
        await store.create("zhao", Role.ADMIN, console.gateway.now(), password="correct horse battery")
        idp.person |= {"email": "zhao@city.example", "email_verified": True}
        assert why(await go(client)) is None
        who = (await client.get("/api/v1/session")).json()
        assert (who["name"], who["role"]) == ("zhao-2", "operator")  # not the administrator of that name
        idp.person["sub"] = "10002"  # the name and the address were given to somebody else
        assert why(await go(other)) is None
        assert (await other.get("/api/v1/session")).json()["name"] == "zhao-3"
        idp.person |= {"sub": "10001", "preferred_username": "renamed"}
        assert why(await go(client)) is None
        assert (await client.get("/api/v1/session")).json()["name"] == "zhao-2"


NAMES = [
    ({"preferred_username": "ＺＨＡＯ Wei"}, "zhao-wei"),
    ({"preferred_username": "<script>alert(1)</script>"}, "script-alert-1-script"),
    ({"preferred_username": "../../etc/passwd"}, "etc-passwd"),
    ({"preferred_username": "x" * 300}, "x" * 60),
    ({"preferred_username": "赵伟"}, "赵伟"),
    ({"preferred_username": "\u202e\u0000", "name": "a\nb"}, None),
    ({"preferred_username": None, "name": None}, None),
    ({"preferred_username": ["zhao"], "name": {"a": 1}}, "zhao"),
]


@pytest.mark.parametrize(("said", "name"), NAMES, ids=[repr(said)[:40] for said, _ in NAMES])
async def test_whatever_the_provider_calls_somebody_becomes_a_name(
    tmp_path: Path, said: dict[str, Any], name: str | None
) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        idp.person |= said
        assert why(await go(client)) is None
        got = (await client.get("/api/v1/session")).json()["name"]
        assert got == name if name is not None else got.startswith("user-")


# ------------------------------------------------------------------------------------------ what must not get through

NOW = int(time.time())
LIES: list[tuple[str, dict[str, Any]]] = [
    ("another issuer", {"iss": "https://evil.example"}),
    ("no issuer", {"iss": None}),
    ("for another client", {"aud": "somebody-else"}),
    ("for nobody", {"aud": None}),
    ("for many, without saying whose it is", {"aud": [CLIENT, "other"]}),
    ("for many, another one's", {"aud": [CLIENT, "other"], "azp": "other"}),
    ("another one's", {"azp": "other"}),
    ("expired", {"exp": NOW - 120}),
    ("never expires", {"exp": None}),
    ("expires in words", {"exp": "tomorrow"}),
    ("of the future", {"iat": NOW + 3600}),
    ("of no time", {"iat": None}),
    ("not yet", {"nbf": NOW + 3600}),
    ("without nonce", {"nonce": None}),
    ("another nonce", {"nonce": "replayed"}),
    ("of nobody", {"sub": None}),
    ("of an empty subject", {"sub": ""}),
    ("of a number", {"sub": 10001}),
    ("of an endless subject", {"sub": "x" * 256}),
]


@pytest.mark.parametrize(("what", "claims"), LIES, ids=[what for what, _ in LIES])
async def test_an_id_token_that_is_not_for_us_now_opens_nothing(
    tmp_path: Path, what: str, claims: dict[str, Any]
) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        idp.claims = claims
        assert why(await go(client)) == "failed", what
        assert (await client.get("/api/v1/session")).status_code == 401
        assert (await console.gateway.store.people.users(10)).items == []


FORGED = [
    "none",
    "HS256 with the public key",
    "HS256 with the client's secret",
    "a stranger's key",
    "a key of its own header",
    "nothing",
]


@pytest.mark.parametrize("how", FORGED)
async def test_an_id_token_that_the_provider_did_not_sign_opens_nothing(tmp_path: Path, how: str) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        idp.sign = how
        assert why(await go(client)) == "failed"
        assert (await console.gateway.store.people.users(10)).items == []


async def test_a_new_key_of_the_provider_is_found_and_a_stranger_cannot_make_us_ask_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        assert why(await go(client)) is None
        idp.key = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
        monkeypatch.setattr(oidc, "AGAIN_S", 0.0)
        assert why(await go(client)) is None
        monkeypatch.setattr(oidc, "AGAIN_S", 60.0)
        idp.sign = "a stranger's key"
        before = idp.asked.count("jwks")
        for _ in range(3):
            assert why(await go(client)) == "failed"
        assert idp.asked.count("jwks") == before


async def test_the_way_back_belongs_to_the_browser_that_went(tmp_path: Path) -> None:
    """Login CSRF: a victim is sent to an attacker's answer; and the other way round."""
    async with both(tmp_path) as (console, _), page_of(console) as attacker, page_of(console) as victim:
        start = await attacker.get("/api/v1/oidc/start")
        async with httpx.AsyncClient(trust_env=False, verify=False) as outside:
            back = (await outside.get(start.headers["location"])).headers["location"]
        assert why(await victim.get(back)) == "failed"  # no cookie
        await victim.get("/api/v1/oidc/start")
        assert why(await victim.get(back)) == "failed"  # a cookie of another flow
        assert (await victim.get("/api/v1/session")).status_code == 401


async def test_state_cookie_and_code_are_good_once_together_and_for_ten_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(tmp_path) as (console, _), page_of(console) as client:

        async def way_back() -> str:
            start = await client.get("/api/v1/oidc/start")
            async with httpx.AsyncClient(trust_env=False, verify=False) as outside:
                return (await outside.get(start.headers["location"])).headers["location"]

        back = await way_back()
        kept = client.cookies["citywatch-oidc"]
        for wrong in ("", "&state=", "&state=guess"):
            bare = back.partition("?")[0] + "?code=" + parse_qs(urlsplit(back).query)["code"][0] + wrong
            assert why(await client.get(bare)) == "failed"
        later(console)
        for forged in (kept[:-1] + ("0" if kept[-1] != "0" else "1"), "e30=." + kept.rpartition(".")[2], "x", "."):
            client.cookies.clear()
            client.cookies.set("citywatch-oidc", forged, domain="127.0.0.1")
            assert why(await client.get(back)) == "failed"
        client.cookies.clear()

        later(console)
        back = await way_back()
        kept = client.cookies["citywatch-oidc"]
        assert why(await client.get(back)) is None
        client.cookies.set("citywatch-oidc", kept, domain="127.0.0.1")
        assert why(await client.get(back)) == "failed"  # the provider takes a code once
        back = await way_back()
        monkeypatch.setattr(oidc, "FLOW_S", 0)
        assert why(await client.get(back)) == "failed"


async def test_there_is_no_way_to_say_where_the_browser_goes(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, _), page_of(console) as client:
        for query in ("next=https://evil.example", "redirect_uri=https://evil.example", "return_to=//evil.example"):
            start = await client.get(f"/api/v1/oidc/start?{query}")
            assert "evil" not in start.headers["location"]
            assert "evil" not in (await client.get(f"/api/v1/oidc/callback?{query}")).headers["location"]


async def test_what_the_provider_refuses_and_another_ones_answer(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, _), page_of(console) as client:
        for query, told in (
            ("error=access_denied", "cancelled"),
            ("error=server_error&error_description=<script>", "failed"),
            ("code=x&iss=https://evil.example", "failed"),
            ("code=made-up", "failed"),
            ("code=", "failed"),
        ):
            start = await client.get("/api/v1/oidc/start")
            state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
            answer = await client.get(f"/api/v1/oidc/callback?state={state}&{query}")
            assert why(answer) == told, query
            later(console)


async def test_who_tries_codes_is_slowed_down(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        moment = console.gateway.now()
        console.gateway.now = lambda: moment  # type: ignore[method-assign]
        told = [why(await client.get("/api/v1/oidc/callback?state=x&code=y")) for _ in range(8)]
        assert told == ["failed"] * 5 + ["too_many"] * 3
        assert "token" not in idp.asked


BROKEN: list[tuple[str, str, Response, str]] = [
    ("metadata", "503", Response(status_code=503), "unavailable"),
    ("metadata", "a redirect", RedirectResponse("http://169.254.169.254/"), "unavailable"),
    ("metadata", "no JSON", Response("<html>"), "unavailable"),
    ("metadata", "a list", JSONResponse([1]), "unavailable"),
    ("metadata", "endless", Response(b"{" + b" " * (300 << 10)), "unavailable"),
    ("jwks", "500", Response(status_code=500), "unavailable"),
    ("jwks", "no keys", JSONResponse({"keys": "none"}), "failed"),
    ("token", "500", Response(status_code=500), "unavailable"),
    ("token", "a refusal", JSONResponse({"error": "invalid_client"}, 401), "failed"),
    ("token", "no token", JSONResponse({"access_token": "x"}), "failed"),
    ("token", "a number", JSONResponse({"id_token": 7}), "failed"),
]


@pytest.mark.parametrize(("where", "what", "answer", "told"), BROKEN, ids=[f"{row[0]}: {row[1]}" for row in BROKEN])
async def test_a_provider_that_is_broken_lets_nobody_in(
    tmp_path: Path, where: str, what: str, answer: Response, told: str
) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        idp.broken[where] = answer
        start = await client.get("/api/v1/oidc/start")
        if where == "metadata":
            assert why(start) == told
            assert why(await client.get("/api/v1/oidc/start")) == told
            assert idp.asked.count("metadata") == 1  # left in peace for a while
        else:
            assert why(await go(client)) == told


ODD_METADATA = [
    {"issuer": "https://evil.example"},
    {"token_endpoint": "http://10.0.0.1/token"},
    {"jwks_uri": "file:///etc/passwd"},
    {"authorization_endpoint": "javascript:alert(1)"},
    {"token_endpoint": "http://127.0.0.1.evil.example/token"},
    {"token_endpoint": None},
]


@pytest.mark.parametrize("metadata", ODD_METADATA, ids=[next(iter(m)) + " " + str(*m.values()) for m in ODD_METADATA])
async def test_a_provider_that_describes_itself_oddly_is_not_used(tmp_path: Path, metadata: dict[str, Any]) -> None:
    async with both(tmp_path) as (console, idp), page_of(console) as client:
        idp.metadata = metadata
        assert why(await client.get("/api/v1/oidc/start")) == "unavailable"


async def test_a_provider_that_is_not_there_lets_nobody_in(tmp_path: Path) -> None:
    async with both(tmp_path) as (console, _), page_of(console) as client:
        console.gateway.oidc = OidcOptions("http://127.0.0.1:9", CLIENT, SECRET, "x", "x", default_role=Role.ADMIN)
        assert why(await client.get("/api/v1/oidc/start")) == "unavailable"


async def test_without_a_provider_there_is_nothing_there(tmp_path: Path) -> None:
    async with running(tmp_path) as console, page_of(console) as client:
        for path in ("start", "callback?state=x&code=y"):
            answer = await client.get(f"/api/v1/oidc/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# ------------------------------------------------------------------------------------------ settings

GOOD = {"issuer": "https://idp.city.example/realms/ops", "client_id": "citywatch", "client_secret_file": "secret"}
SETTINGS: list[tuple[dict[str, Any], str | None]] = [
    ({"default_role": "viewer"}, None),
    ({"role_claim": "groups", "roles": {"a": "admin"}}, None),
    ({"issuer": "http://127.0.0.1:8080", "default_role": "viewer"}, None),
    ({"issuer": "http://idp.city.example", "default_role": "viewer"}, "https"),
    ({"issuer": "http://localhost.evil.example", "default_role": "viewer"}, "https"),
    ({}, "nobody could sign in"),
    ({"role_claim": "groups"}, "need one another"),
    ({"roles": {"a": "admin"}, "default_role": "viewer"}, "need one another"),
    ({"role_claim": "groups", "roles": {"a": "root"}}, "roles"),
    ({"default_role": "viewer", "client_secret": "in the file"}, "client_secret"),
]


@pytest.mark.parametrize(("more", "mistake"), SETTINGS, ids=[str(more)[:50] for more, _ in SETTINGS])
def test_the_settings_say_what_is_missing(tmp_path: Path, more: dict[str, Any], mistake: str | None) -> None:
    text = json.dumps({"console": {"oidc": GOOD | more}})
    if mistake is None:
        assert parse_settings(text, "citywatch.yaml", tmp_path, {}).console.oidc is not None
        return
    with pytest.raises(ConfigError, match=mistake):
        parse_settings(text, "citywatch.yaml", tmp_path, {})
