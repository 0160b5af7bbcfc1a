"""Signing in, passwords, users and tokens over HTTP; who guesses, who steals a cookie, who wants more than they may."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.console.app import create_app
from gateway.console.problems import Problem
from gateway.console.server import ConsoleServer
from gateway.console.throttle import FREE, LINES, REMEMBERED, Sparingly, Throttle
from gateway.core.model import MINUTE, SECOND, Micros
from gateway.core.records import Role, Scope, UserChange
from tests.console.city import START, Running, record, running, step

SECRET = "correct horse battery"
NEXT = "staple it to the gate"


@contextlib.asynccontextmanager
async def people(folder: Path) -> AsyncIterator[Running]:
    """A console with users boss (admin), li (operator) and wang (viewer of the pumps)."""
    async with running(folder) as console:
        users = console.gateway.store.people
        at = console.gateway.now()
        await users.create("boss", Role.ADMIN, at, password=SECRET)
        await users.create("li", Role.OPERATOR, at, password=SECRET, full_name="李师傅")
        await users.create("wang", Role.VIEWER, at, password=SECRET, scope=Scope(kinds=("pump",)))
        yield console


def page_of(console: Running) -> httpx.AsyncClient:
    """What our own page sends; it keeps its cookie."""
    headers = {"X-Citywatch": "1", "Origin": console.url}
    return httpx.AsyncClient(base_url=console.url, headers=headers, timeout=20, trust_env=False, verify=False)


async def sign_in(client: httpx.AsyncClient, name: str, password: str = SECRET) -> httpx.Response:
    return await client.post("/api/v1/session", json={"name": name, "password": password})


@contextlib.asynccontextmanager
async def as_(console: Running, name: str, password: str = SECRET) -> AsyncIterator[httpx.AsyncClient]:
    async with page_of(console) as client:
        answer = await sign_in(client, name, password)
        assert answer.status_code == 200, answer.text
        yield client


async def lines(console: Running, action: str) -> list[tuple[str, str, str, str | None]]:
    """(who, subject, outcome, why) in the audit, oldest first."""
    rows = (await console.gateway.store.audit(1000)).items
    return [(row.who, row.subject, row.outcome, row.why) for row in reversed(rows) if row.action == action]


# ------------------------------------------------------------------------------------------ signing in


async def test_a_name_and_a_password_open_a_session(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        answer = await sign_in(client, "Li")
        assert answer.status_code == 200
        assert answer.json() == {
            "name": "li", "full_name": "李师傅", "role": "operator", "must_change": False, "by": "password",
            "scope": {"kinds": [], "towns": [], "units": []},
        }  # fmt: skip
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await client.get("/api/v1/session")).json() == answer.json()
        assert await lines(console, "sign-in") == [("li", "li", "done", "by password from 127.0.0.1")]


async def test_what_can_be_used_to_sign_in_is_public(tmp_path: Path) -> None:
    async with people(tmp_path) as console, console.client(None) as client:
        assert (await client.get("/api/v1/sign-in-ways")).json() == {
            "password": True,
            "token": True,
            "oidc": None,
            "site": {
                "name_zh": "梁山城市运行中心",
                "name_en": "Liangshan operations centre",
                "timezone": "Asia/Shanghai",
            },
        }


async def test_whoever_is_not_let_in_is_told_the_same(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        await console.gateway.store.people.create("gone", Role.VIEWER, START, password=SECRET)
        await console.gateway.store.people.change("gone", UserChange(disabled=True), START + 1)
        told = set()
        for name, password in (("li", NEXT), ("nobody", SECRET), ("gone", SECRET), ("gone", NEXT)):
            answer = await sign_in(client, name, password)
            assert "set-cookie" not in answer.headers
            told.add((answer.status_code, answer.text))
        assert len(told) == 1
        assert json.loads(told.pop()[1])["code"] == "bad_sign_in"


async def test_the_time_an_answer_takes_does_not_tell_who_exists(tmp_path: Path, costly_passwords: None) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        took: dict[str, list[float]] = {"li": [], "nobody": []}
        moment = console.gateway.now()
        await sign_in(client, "warm", "the first makes nobody's hash")
        for number in range(10):
            moment += 20 * MINUTE  # nobody is slowed down here
            at = moment
            console.gateway.now = lambda at=at: at  # type: ignore[misc,method-assign]
            for name in ("li", "nobody") if number % 2 else ("nobody", "li"):
                begin = time.perf_counter()
                assert (await sign_in(client, name, NEXT)).status_code == 401
                took[name].append(time.perf_counter() - begin)
        known, unknown = (statistics.median(times) for times in took.values())
        assert 0.6 < known / unknown < 1.6, took


async def test_signing_in_is_for_our_own_page(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        for wrong in ({"X-Citywatch": ""}, {"Origin": "http://evil.example"}, {"Origin": ""}):
            headers = dict(client.headers) | {k.lower(): v for k, v in wrong.items()}
            headers = {name: value for name, value in headers.items() if value}
            async with httpx.AsyncClient(base_url=console.url, headers=headers, trust_env=False, verify=False) as other:
                answer = await sign_in(other, "li")
                assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")


async def test_a_body_that_is_neither_way_is_refused_without_repeating_the_password(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        for body in (
            {"name": "li"},
            {"name": "li", "password": SECRET, "token": "x"},
            {"name": "li", "password": SECRET, "role": "admin"},
            {"name": "li", "password": SECRET * 9},
            {"name": ["li"], "password": SECRET},
            {},
        ):
            answer = await client.post("/api/v1/session", json=body)
            assert answer.status_code == 422, body
            assert SECRET not in answer.text


async def test_a_session_id_is_new_at_every_sign_in_and_the_one_before_ends(tmp_path: Path) -> None:
    """Fixation: a cookie that somebody planted never becomes anybody's session."""
    async with people(tmp_path) as console, page_of(console) as client:
        client.cookies.set("citywatch", "planted-by-somebody-else", domain="127.0.0.1")
        first = (await sign_in(client, "li")).cookies["citywatch"]
        assert first != "planted-by-somebody-else"
        async with page_of(console) as thief:
            thief.cookies.set("citywatch", "planted-by-somebody-else", domain="127.0.0.1")
            assert (await thief.get("/api/v1/session")).status_code == 401
            client.cookies.clear()
            client.cookies.set("citywatch", first, domain="127.0.0.1")
            second = (await sign_in(client, "boss")).cookies["citywatch"]
            assert second != first
            thief.cookies.set("citywatch", first, domain="127.0.0.1")
            assert (await thief.get("/api/v1/session")).status_code == 401


async def test_a_stolen_cookie_is_worth_nothing_after_the_owner_signs_out(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client, page_of(console) as thief:
        thief.cookies.update(client.cookies)
        assert (await thief.get("/api/v1/alarms")).status_code == 200
        assert (await client.delete("/api/v1/session")).status_code == 204
        assert (await thief.get("/api/v1/alarms")).status_code == 401


THEFT = [
    ("disabled", "PATCH", "/api/v1/users/li", {"disabled": True}),
    ("demoted", "PATCH", "/api/v1/users/li", {"role": "viewer"}),
    ("narrowed", "PATCH", "/api/v1/users/li", {"scope": {"towns": ["梁山"]}}),
    ("given a new password", "POST", "/api/v1/users/li/password", None),
]


@pytest.mark.parametrize(("what", "method", "path", "body"), THEFT, ids=[row[0] for row in THEFT])
async def test_sessions_and_streams_end_when_a_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    async with (
        people(tmp_path) as console,
        as_(console, "boss") as boss,
        as_(console, "li") as client,
        client.stream("GET", "/api/v1/stream") as stream,
        asyncio.timeout(12),
    ):
        chunks = stream.aiter_raw()
        await anext(chunks)
        begin = time.monotonic()
        answer = await boss.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        assert (await client.get("/api/v1/alarms")).status_code == 401, what
        async for _ in chunks:
            pass
        assert time.monotonic() - begin <= 5.0


async def test_a_change_by_the_command_line_ends_a_session_too(tmp_path: Path) -> None:
    """It writes to the store beside us; the gate believes what it knows for two seconds."""
    async with people(tmp_path) as console, as_(console, "li") as client:
        assert (await client.get("/api/v1/alarms")).status_code == 200
        await console.gateway.store.people.change("li", UserChange(disabled=True), console.gateway.now())
        begin = time.monotonic()
        while (await client.get("/api/v1/alarms")).status_code == 200:  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.1)
        assert time.monotonic() - begin < 3


async def test_an_idle_session_ends_and_a_used_one_after_its_shift(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client:
        begin = console.gateway.now()

        async def status_after(minutes: int) -> int:
            console.gateway.now = lambda: begin + minutes * MINUTE  # type: ignore[method-assign]
            return (await client.get("/api/v1/alarms")).status_code

        for minutes in (119, 230, 340, 450, 560, 670, 719):
            assert await status_after(minutes) == 200, minutes
        assert await status_after(721) == 401
        console.gateway.now = lambda: begin  # type: ignore[method-assign]
        assert (await sign_in(client, "li")).status_code == 200
        assert await status_after(121) == 401


async def test_a_write_with_a_users_session_must_come_from_our_own_page(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client:
        await console.gateway.commit(step(record()))
        path = "/api/v1/alarms/lamp-1%2Flamp-out/acknowledge"
        for headers in ({"X-Citywatch": "1"}, {"Origin": console.url}, {"X-Citywatch": "1", "Origin": "http://a.b"}):
            async with httpx.AsyncClient(
                base_url=console.url, headers=headers, cookies=client.cookies, verify=False
            ) as other:
                answer = await other.post(path, json={"rev": 1})
                assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
        assert console.gateway.submitted == []
        assert (await client.post(path, json={"rev": 1})).status_code == 200
        assert (console.gateway.submitted[0].by, console.gateway.submitted[0].channel) == ("li", "console")


# ------------------------------------------------------------------------------------------ guessing


async def test_who_guesses_waits_and_longer_each_time(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        moment = console.gateway.now()
        console.gateway.now = lambda: moment  # type: ignore[method-assign]
        for _ in range(FREE):
            assert (await sign_in(client, "li", NEXT)).status_code == 401
        waits = []
        for _ in range(10):
            answer = await sign_in(client, "li", SECRET)  # even with the right one
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many")
            assert answer.headers["retry-after"] == str(answer.json()["retry_after_s"])
            waits.append(answer.json()["retry_after_s"])
            moment += waits[-1] * SECOND
            assert (await sign_in(client, "li", NEXT)).status_code == 401
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        moment += 300 * SECOND
        assert (await sign_in(client, "li", SECRET)).status_code == 200
        assert (await sign_in(client, "li", NEXT)).status_code == 401  # and is as free as before


async def test_a_hundred_guesses_at_once_are_no_way_around(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        answers = await asyncio.gather(*(sign_in(client, "li", f"guess number {n}") for n in range(60)))
        tried = [answer for answer in answers if answer.status_code == 401]
        assert len(tried) <= FREE + 2  # the clock runs: a second has passed, perhaps two
        assert {answer.status_code for answer in answers} == {401, 429}


async def test_names_that_do_not_exist_are_slowed_down_alike(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        moment = console.gateway.now()
        console.gateway.now = lambda: moment  # type: ignore[method-assign]
        told = []
        for name in ("li", "nobody"):
            moment += 20 * MINUTE
            told.append([(await sign_in(client, name, NEXT)).status_code for _ in range(8)])
        assert told[0] == told[1] == [401] * FREE + [429] * 3


async def test_a_wrong_old_password_is_a_guess_too(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client:
        moment = console.gateway.now()
        console.gateway.now = lambda: moment  # type: ignore[method-assign]
        body = {"old": "a guess at it", "new": NEXT}
        told = [(await client.put("/api/v1/session/password", json=body)).json()["code"] for _ in range(7)]
        assert told == ["wrong_password"] * FREE + ["too_many"] * 2


async def test_failures_are_in_the_audit_without_what_was_typed_and_without_end(tmp_path: Path) -> None:
    async with people(tmp_path) as console, page_of(console) as client:
        moment = console.gateway.now()
        console.gateway.now = lambda: moment  # type: ignore[method-assign]
        await sign_in(client, "li", NEXT)
        await sign_in(client, "my secret in the wrong field", "x")
        await client.post("/api/v1/session", json={"token": "cw_guess"})
        assert await lines(console, "sign-in") == [
            ("li", "li", "refused", "from 127.0.0.1"),
            ("?", "?", "refused", "from 127.0.0.1"),
            ("?", "?", "refused", "from 127.0.0.1"),
        ]
    sparingly = Sparingly()
    told = [sparingly.worth(START + n) for n in range(50_000)]
    assert sum(count > 0 for count in told) == LINES + 4
    assert told[-1] == 0
    assert max(told) == 10_000
    assert sparingly.worth(START + 61 * MINUTE) == 1


class Clock:
    def __init__(self) -> None:
        self.now: Micros = START
        self.throttle = Throttle(lambda: self.now)

    def tries(self, name: str | None, address: str) -> bool:
        try:
            self.throttle.begin(name, address)
        except Problem:
            return False
        return True


def test_one_address_that_tries_many_names_waits_and_so_does_one_name_from_many_addresses() -> None:
    clock = Clock()
    assert [clock.tries(f"user-{n}", "10.0.0.1") for n in range(7)] == [True] * FREE + [False] * 2
    assert clock.tries("user-9", "10.0.0.2")
    clock = Clock()
    assert [clock.tries("li", f"10.0.0.{n}") for n in range(7)] == [True] * FREE + [False] * 2
    assert clock.tries("wang", "10.0.0.1")


def test_an_ipv6_customer_is_one_address() -> None:
    clock = Clock()
    assert [clock.tries(f"u{n}", f"2001:db8:1:2::{n:x}") for n in range(6)] == [True] * FREE + [False]
    assert clock.tries("u", "2001:db8:1:3::1")
    clock = Clock()
    told = [clock.tries(f"u{n}", "::ffff:10.0.0.1" if n % 2 else "10.0.0.1") for n in range(6)]
    assert told == [True] * FREE + [False]


def test_a_shift_that_signs_in_behind_one_address_forgives_its_own_slips_and_no_others() -> None:
    clock = Clock()
    for number in range(30):
        clock.now += SECOND
        for _ in range(2):  # a slip each, then right
            assert clock.tries(f"user-{number}", "10.0.0.1"), number
        clock.throttle.succeeded(f"user-{number}", "10.0.0.1")
    told = []
    for number in range(12):  # a colleague's machine guesses at others between two sign-ins of its own
        told.append(clock.tries(f"victim-{number}", "10.0.0.1"))
        if clock.tries("mallory", "10.0.0.1"):
            clock.throttle.succeeded("mallory", "10.0.0.1")
    assert told == [True] * FREE + [False] * 7


def test_strangers_who_guess_at_a_name_do_not_keep_its_owner_out() -> None:
    clock = Clock()
    assert clock.tries("li", "10.0.0.1")
    clock.throttle.succeeded("li", "10.0.0.1")
    for number in range(20):
        clock.tries("li", f"203.0.113.{number}")
    assert not clock.tries("li", "203.0.113.99")
    assert clock.tries("li", "10.0.0.1")


def test_what_the_throttle_remembers_is_bounded_and_forgotten() -> None:
    clock = Clock()
    for number in range(REMEMBERED + 500):
        clock.tries(f"user-{number}", f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
    throttle = clock.throttle
    for table in (throttle._names, throttle._addresses, throttle._pairs):
        assert len(table._counts) == REMEMBERED
    clock = Clock()
    for _ in range(6):
        clock.tries("li", "10.0.0.1")
    clock.now += 16 * MINUTE
    assert [clock.tries("li", "10.0.0.1") for _ in range(6)] == [True] * FREE + [False]


async def test_only_a_proxy_that_is_trusted_says_where_somebody_is(tmp_path: Path) -> None:
    """Else whoever guesses would name another address each time."""
    async with people(tmp_path) as console:
        for trusted, told in ((("127.0.0.1",), [401] * 8), ((), [401] * FREE + [429] * 3)):
            app = create_app(console.gateway, console.gateway.feed)
            server = ConsoleServer(app, port=0, trusted_proxies=trusted)
            async with asyncio.TaskGroup() as group:
                await server.start()
                group.create_task(server.run(), name="behind a proxy")
                scheme = "https" if trusted else "http"
                host = server.url.removeprefix("http://")
                headers = {"X-Citywatch": "1", "Origin": f"{scheme}://{host}", "X-Forwarded-Proto": "https"}
                async with httpx.AsyncClient(
                    base_url=server.url, headers=headers, trust_env=False, verify=False
                ) as client:
                    statuses = []
                    for number in range(8):
                        client.headers["X-Forwarded-For"] = f"203.0.113.{number}"
                        statuses.append((await sign_in(client, f"name-{number}", NEXT)).status_code)
                    assert statuses == told
                    client.headers["X-Forwarded-For"] = "203.0.113.77"
                    if trusted:
                        cookie = (await sign_in(client, "li")).headers["set-cookie"]
                        assert cookie.startswith("__Host-citywatch=")
                        assert "Secure" in cookie
                        assert ("li", "li", "done", "by password from 203.0.113.77") in await lines(console, "sign-in")
                await server.stop()


# ------------------------------------------------------------------------------------------ one's own password


async def test_a_new_password_ends_the_other_sessions_and_renews_this_one(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client, as_(console, "li") as elsewhere:
        before = client.cookies["citywatch"]
        answer = await client.put("/api/v1/session/password", json={"old": SECRET, "new": NEXT})
        assert (answer.status_code, answer.json()["name"]) == (200, "li")
        assert client.cookies["citywatch"] != before
        assert (await client.get("/api/v1/alarms")).status_code == 200
        assert (await elsewhere.get("/api/v1/alarms")).status_code == 401
        assert (await sign_in(elsewhere, "li", SECRET)).status_code == 401
        assert (await sign_in(elsewhere, "li", NEXT)).status_code == 200
        assert ("li", "li", "done", None) in await lines(console, "change-password")


async def test_a_password_must_be_good_and_new(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client:
        for new in ("short", "password123", "李师傅李师傅李师傅李师傅", SECRET):
            answer = await client.put("/api/v1/session/password", json={"old": SECRET, "new": new})
            assert (answer.status_code, answer.json()["code"]) == (422, "weak_password"), new
            assert answer.json()["titles"]["zh"].startswith("密码须为 10 至 128 个字符")
        assert (await sign_in(client, "li", SECRET)).status_code == 200


async def test_the_spaces_of_a_password_are_part_of_it(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client:
        new = f"  {NEXT} "
        assert (await client.put("/api/v1/session/password", json={"old": SECRET, "new": new})).status_code == 200
        assert (await sign_in(client, "li", NEXT)).status_code == 401
        assert (await sign_in(client, "li", new)).status_code == 200


async def test_a_token_has_no_password(tmp_path: Path) -> None:
    async with people(tmp_path) as console, console.client() as client, page_of(console) as browser:
        body = {"old": SECRET, "new": NEXT}
        assert (await client.put("/api/v1/session/password", json=body)).json()["code"] == "signs_in_elsewhere"
        await browser.post("/api/v1/session", json={"token": console.tokens[Role.VIEWER]})
        assert (await browser.put("/api/v1/session/password", json=body)).json()["code"] == "signs_in_elsewhere"


# ------------------------------------------------------------------------------------------ administrators


async def test_a_new_user_changes_the_one_time_password_and_can_do_nothing_before(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss, page_of(console) as client:
        body = {"name": "Zhao", "full_name": "赵工", "role": "engineer", "scope": {"kinds": ["pump", "pump"]}}
        made = await boss.post("/api/v1/users", json=body)
        assert made.status_code == 201
        user, password = made.json()["user"], made.json()["password"]
        assert (user["name"], user["role"], user["must_change"], user["by"]) == ("zhao", "engineer", True, "password")
        assert user["scope"] == {"kinds": ["pump"], "towns": [], "units": []}
        assert password not in (await boss.get("/api/v1/users")).text

        assert (await sign_in(client, "zhao", password)).json()["must_change"] is True
        for method, path in (
            ("GET", "/api/v1/alarms"), ("GET", "/api/v1/stream"), ("GET", "/metrics"), ("GET", "/api/v1/users"),
            ("POST", "/api/v1/alarms/lamp-1%2Flamp-out/acknowledge"), ("GET", "/api/v1/nothing"),
        ):  # fmt: skip
            answer = await client.request(method, path, json={"rev": 1} if method == "POST" else None)
            assert (answer.status_code, answer.json()["code"]) == (403, "must_change"), path
        assert (await client.get("/api/v1/health")).json()["parts"] == {}
        assert (await client.get("/api/v1/session")).json()["must_change"] is True
        changed = await client.put("/api/v1/session/password", json={"old": password, "new": NEXT})
        assert changed.json()["must_change"] is False
        assert (await client.get("/api/v1/alarms")).status_code == 200
        assert await lines(console, "create-user") == [("boss", "zhao", "done", "role engineer; kinds pump")]


async def test_who_has_a_foreign_password_may_also_just_leave(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss:
        password = (await boss.post("/api/v1/users/li/password")).json()["password"]
        async with as_(console, "li", password) as client:
            assert (await client.delete("/api/v1/session")).status_code == 204
            assert (await client.get("/api/v1/session")).status_code == 401
        assert await lines(console, "reset-password") == [("boss", "li", "done", None)]


async def test_users_are_listed_by_pages_and_changed_with_a_line_in_the_audit(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss:
        first = (await boss.get("/api/v1/users?limit=2")).json()
        rest = (await boss.get("/api/v1/users", params={"limit": 2, "cursor": first["cursor"]})).json()
        assert [user["name"] for user in first["items"] + rest["items"]] == ["boss", "li", "wang"]
        assert (await boss.get("/api/v1/users?cursor=!")).status_code == 400
        body = {"role": "supervisor", "scope": {"towns": ["梁山"], "units": ["养护一所"]}, "why": "夜班带班"}
        changed = (await boss.patch("/api/v1/users/LI", json=body)).json()
        assert (changed["role"], changed["full_name"], changed["scope"]["units"]) == (
            "supervisor", "李师傅", ["养护一所"],
        )  # fmt: skip
        off = await boss.patch("/api/v1/users/li", json={"disabled": True})
        assert off.json()["disabled_at"] is not None
        assert await lines(console, "change-user") == [
            ("boss", "li", "done", "role operator → supervisor, scope all → towns 梁山 units 养护一所: 夜班带班"),
            ("boss", "li", "done", "disabled"),
        ]
        assert (await boss.patch("/api/v1/users/nobody", json={"disabled": True})).status_code == 404


async def test_nobody_raises_or_disables_themselves(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss:
        for body in ({"role": "viewer"}, {"disabled": True}, {"scope": {}}, {"role": "admin"}, {"disabled": False}):
            answer = await boss.patch("/api/v1/users/BOSS", json=body)
            assert (answer.status_code, answer.json()["code"]) == (409, "own_account"), body
        assert (await boss.post("/api/v1/users/boss/password")).json()["code"] == "own_account"
        assert (await boss.patch("/api/v1/users/boss", json={"full_name": "The boss"})).status_code == 200
        assert (await boss.get("/api/v1/alarms")).status_code == 200  # and a name ends no session


async def test_the_last_administrator_stays_one(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss, console.client() as script:
        assert (await boss.delete("/api/v1/tokens/admin-1")).status_code == 204
        assert (await script.get("/api/v1/alarms")).status_code == 401
        # Two administrators who turn each other off: the second finds that it would be the last.
        await boss.post("/api/v1/users", json={"name": "deputy", "role": "admin"})
        password = (await boss.post("/api/v1/users/deputy/password")).json()["password"]
        async with as_(console, "deputy", password) as deputy:
            await deputy.put("/api/v1/session/password", json={"old": password, "new": NEXT})
            assert (await deputy.patch("/api/v1/users/boss", json={"role": "viewer"})).status_code == 200
        user = console.gateway.store.people
        with pytest.raises(Exception, match="last who may change users"):
            await user.change("deputy", UserChange(disabled=True), console.gateway.now())


MASS = [
    ("PATCH", "/api/v1/users/li", {"must_change": False}),
    ("PATCH", "/api/v1/users/li", {"name": "boss"}),
    ("PATCH", "/api/v1/users/li", {"password": NEXT}),
    ("PATCH", "/api/v1/users/li", {"subject": "https://idp.example 1"}),
    ("PATCH", "/api/v1/users/li", {"changed_at": "2020-01-01T00:00:00Z"}),
    ("PATCH", "/api/v1/users/li", {"role": "root"}),
    ("PATCH", "/api/v1/users/li", {"role": 6}),
    ("PATCH", "/api/v1/users/li", {"scope": {"kinds": ["spaceship"]}}),
    ("PATCH", "/api/v1/users/li", {"scope": {"roads": ["x"]}}),
    ("PATCH", "/api/v1/users/li", {"scope": {"towns": [""]}}),
    ("PATCH", "/api/v1/users/li", {"scope": {"towns": ["x"] * 51}}),
    ("POST", "/api/v1/users", {"name": "x", "role": "viewer", "must_change": False}),
    ("POST", "/api/v1/users", {"name": "x", "role": "viewer", "password": NEXT}),
    ("POST", "/api/v1/users", {"name": "a/b", "role": "viewer"}),
    ("POST", "/api/v1/users", {"name": "x"}),
    ("POST", "/api/v1/tokens", {"name": "x", "role": "viewer", "hash": "0" * 64}),
    ("PUT", "/api/v1/session/password", {"old": SECRET, "new": NEXT, "name": "li"}),
    ("PUT", "/api/v1/session/password", {"old": SECRET, "new": NEXT, "role": "admin"}),
]


async def test_what_a_body_may_not_say_is_refused_and_not_left_out(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss:
        before = (await boss.get("/api/v1/users")).json()
        for method, path, body in MASS:
            assert (await boss.request(method, path, json=body)).status_code == 422, body
        assert (await boss.get("/api/v1/users")).json() == before


async def test_an_operator_cannot_make_themselves_anything(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "li") as client:
        for method, path, body in (
            ("PATCH", "/api/v1/users/li", {"role": "admin"}),
            ("POST", "/api/v1/users", {"name": "x", "role": "admin"}),
            ("POST", "/api/v1/tokens", {"name": "x", "role": "admin"}),
            ("POST", "/api/v1/users/boss/password", None),
            ("GET", "/api/v1/users", None),
        ):
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert (await client.get("/api/v1/session")).json()["role"] == "operator"


async def test_users_and_tokens_have_names_of_their_own(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss:
        for path, name in (("users", "viewer-1"), ("users", "LI"), ("tokens", "li"), ("tokens", "viewer-1")):
            answer = await boss.post(f"/api/v1/{path}", json={"name": name, "role": "viewer"})
            assert (answer.status_code, answer.json()["code"]) == (409, "exists"), (path, name)


# ------------------------------------------------------------------------------------------ a part of the city


async def test_a_narrowed_user_sees_their_part_with_full_pages(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "wang") as client:
        await console.gateway.commit(
            step(record("lamp-1")), step(record("lamp-2")), step(record("pump-1", "level")), step(record("lamp-9"))
        )
        assets = (await client.get("/api/v1/assets?limit=1")).json()
        assert ([item["asset"] for item in assets["items"]], assets["cursor"]) == (["pump-1"], None)
        alarms = (await client.get("/api/v1/alarms?limit=1")).json()
        assert ([item["alarm_id"] for item in alarms["items"]], alarms["cursor"]) == (["pump-1/level"], None)
        assert (await client.get("/api/v1/devices")).json()["items"] == []
        assert (await client.get("/api/v1/assets/pump-1")).status_code == 200
        told = []
        for name in ("nothing", "lamp-1"):
            answer = await client.get(f"/api/v1/assets/{name}")
            told.append((answer.status_code, answer.text.replace(name, "…")))
        assert told[0] == told[1]


async def test_a_narrowed_operator_acts_within_their_part_only(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "boss") as boss:
        await console.gateway.commit(step(record("lamp-1")), step(record("pump-1", "level")))
        scope = {"kinds": ["pump"], "towns": ["梁山"]}
        token = (await boss.post("/api/v1/tokens", json={"name": "pumps", "role": "operator", "scope": scope})).json()
        assert token["scope"] == scope | {"units": []}
        headers = {"Authorization": f"Bearer {token['token']}"}
        async with httpx.AsyncClient(base_url=console.url, headers=headers, trust_env=False, verify=False) as script:
            path = "/api/v1/alarms/{}/acknowledge"
            assert (await script.post(path.format("pump-1%2Flevel"), json={"rev": 1})).status_code == 200
            assert (await script.post(path.format("lamp-1%2Flamp-out"), json={"rev": 1})).status_code == 404
        assert [command.alarm_id for command in console.gateway.submitted] == ["pump-1/level"]


async def test_load_and_rules_on_trial_are_those_of_ones_part(tmp_path: Path) -> None:
    async with people(tmp_path) as console, as_(console, "wang") as client, console.client() as whole:
        now = console.gateway.now()
        for asset in ("lamp-1", "lamp-2", "pump-1"):
            happened = step(record(asset), at=now - MINUTE)
            await console.gateway.commit(happened)
            console.gateway.watch.take(happened)
        part, city = [(await who.get("/api/v1/operator-load")).json() for who in (client, whole)]
        assert (part["alarms"], part["now"]["alarms_10_min"]) == (1, 1)
        assert (city["alarms"], city["now"]["alarms_10_min"]) == (3, 3)


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(event, data) of a stream."""
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


async def until(stream: AsyncIterator[tuple[str, Any]], name: str) -> AsyncIterator[tuple[str, Any]]:
    """Events up to and with the first called ``name``; only those of that name."""
    async for found, data in stream:
        if found == name:
            yield found, data
            return


async def test_the_stream_tells_a_narrowed_reader_of_their_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.console.feed.HEARTBEAT_S", 0.3)
    monkeypatch.setattr("gateway.console.feed.PART_LOAD_S", 0.2)
    async with (
        people(tmp_path) as console,
        as_(console, "wang") as client,
        console.client() as whole,
        asyncio.timeout(20),
    ):
        await console.gateway.commit(step(record("lamp-1")), step(record("pump-1", "level")))
        async with client.stream("GET", "/api/v1/stream") as narrow, whole.stream("GET", "/api/v1/stream") as wide:
            part, city = events(narrow), events(wide)
            name, snapshot = await anext(part)
            assert (name, [alarm["alarm_id"] for alarm in snapshot["alarms"]]) == ("snapshot", ["pump-1/level"])
            assert snapshot["load"] == {"alarms_10_min": 0, "flood": None}  # not the whole city's
            _, snapshot = await anext(city)
            assert len(snapshot["alarms"]) == 2
            for rev in range(2, 8):  # much happens elsewhere: the line is alive all the same
                await console.gateway.commit(step(record("lamp-1", rev=rev)))
                await asyncio.sleep(0.1)
            console.gateway.watch.take(step(record("lamp-1"), at=console.gateway.now()))
            console.gateway.feed.publish_load(console.gateway.watch)
            await console.gateway.commit(step(record("pump-1", "level", rev=2)))
            seen = []
            while not seen or seen[-1][0] != "alarm":
                seen.append(await anext(part))
            assert {name for name, _ in seen[:-1]} <= {"alive", "load"}
            assert [data["alarms_10_min"] for name, data in seen if name == "load"] in ([], [0])
            await console.gateway.commit(step(record("pump-1", "rain"), at=console.gateway.now()))
            loads = [data async for name, data in until(part, "load")]
            assert loads[-1] == {"alarms_10_min": 1, "flood": None}
            assert seen[-1][1]["alarm_id"] == "pump-1/level"
            told = [await anext(city) for _ in range(8)]
            assert [name for name, _ in told if name != "alive"] == ["alarm"] * 6 + ["load"] + ["alarm"] * 1
