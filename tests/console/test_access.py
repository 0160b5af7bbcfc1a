"""Tokens, sessions, and requests from other sites. Who may do what: ``test_matrix.py``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.console.gate import MAX_BODY
from gateway.core.model import SECOND
from gateway.core.records import Role
from tests.console.city import Running, record, running, step


async def test_a_path_that_is_not_there_is_closed_too(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        for path in ("/api/v1/nothing", "/api/v2/alarms", "//api/v1/alarms", "/api", "/API/V1/ALARMS", "/metrics"):
            assert (await client.get(httpx.URL(console.url + path))).status_code == 401, path


async def test_a_wrong_token_is_nobody(tmp_path: Path) -> None:
    wrong = ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "x" * 5000, "bearer cw_\x7f", "Bearer null", "cw_abc"]
    async with running(tmp_path) as console, console.client(None) as client:
        for header in wrong:
            answer = await client.get("/api/v1/alarms", headers={"Authorization": header})
            assert answer.status_code == 401, header
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["code"] == "unauthenticated"


async def test_a_revoked_token_is_refused_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as admin, console.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/api/v1/alarms")).status_code == 200
        assert (await admin.delete("/api/v1/tokens/viewer-1")).status_code == 204
        assert (await viewer.get("/api/v1/alarms")).status_code == 401
        assert (await admin.delete("/api/v1/tokens/viewer-1")).status_code == 204
        assert (await admin.delete("/api/v1/tokens/nobody")).status_code == 404
        assert (await admin.delete("/api/v1/tokens/admin-1")).status_code == 409


async def test_an_admin_makes_tokens_and_nobody_sees_them_again(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as admin:
        made = await admin.post("/api/v1/tokens", json={"name": "night-shift", "role": "operator"})
        assert made.status_code == 201
        secret = made.json()["token"]
        who = await admin.get("/api/v1/session", headers={"Authorization": f"Bearer {secret}"})
        assert who.json() == {
            "name": "night-shift", "full_name": "", "role": "operator", "must_change": False, "by": "token",
            "scope": {"kinds": [], "towns": [], "units": []},
        }  # fmt: skip
        assert secret not in (await admin.get("/api/v1/tokens")).text
        assert (await admin.post("/api/v1/tokens", json={"name": "night-shift", "role": "admin"})).status_code == 409
        for wrong in (
            {"name": "a b", "role": "viewer"},
            {"name": "x", "role": "root"},
            {"name": "x", "role": "viewer", "id": 1},
        ):
            assert (await admin.post("/api/v1/tokens", json=wrong)).status_code == 422
        lines = (await admin.get("/api/v1/audit")).json()["items"]
        assert [(line["action"], line["subject"]) for line in lines] == [("create-token", "night-shift")]


# ------------------------------------------------------------------------------------------ sessions


async def signed_in(console: Running, client: httpx.AsyncClient, role: Role = Role.OPERATOR) -> httpx.Response:
    """The page's way in."""
    headers = {"X-Citywatch": "1", "Origin": console.url}
    answer = await client.post("/api/v1/session", json={"token": console.tokens[role]}, headers=headers)
    assert answer.status_code == 200
    return answer


async def test_a_session_cookie_is_closed_to_scripts_and_other_sites(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        cookie = (await signed_in(console, client)).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert console.tokens[Role.OPERATOR] not in cookie
        who = (await client.get("/api/v1/session")).json()
        assert (who["name"], who["role"], who["by"]) == ("operator-1", "operator", "token")


async def test_a_write_with_a_session_must_come_from_our_own_page(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        await console.gateway.commit(step(record()))
        await signed_in(console, client)
        path = "/api/v1/alarms/lamp-1%2Flamp-out/acknowledge"
        ours, mark = {"Origin": console.url}, {"X-Citywatch": "1"}
        for headers in (
            {},
            ours,
            mark,
            mark | {"Origin": "http://evil.example"},
            mark | {"Origin": "null"},
            mark | {"Origin": console.url + ".evil.example"},
        ):
            answer = await client.post(path, json={"rev": 1}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
        assert console.gateway.submitted == []
        assert (await client.post(path, json={"rev": 1}, headers=ours | mark)).status_code == 200
        assert console.gateway.submitted[0].channel == "console"


async def test_signing_in_from_another_site_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        body = {"token": console.tokens[Role.VIEWER]}
        assert (await client.post("/api/v1/session", json=body)).status_code == 403
        headers = {"X-Citywatch": "1", "Origin": "http://evil.example"}
        assert (await client.post("/api/v1/session", json=body, headers=headers)).status_code == 403
        headers["Origin"] = console.url
        wrong = await client.post("/api/v1/session", json={"token": "cw_guess"}, headers=headers)
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers


async def test_after_sign_out_the_cookie_opens_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        await signed_in(console, client)
        kept = dict(client.cookies)
        headers = {"X-Citywatch": "1", "Origin": console.url}
        assert (await client.delete("/api/v1/session", headers=headers)).status_code == 204
        client.cookies.update(kept)
        assert (await client.get("/api/v1/alarms")).status_code == 401


async def test_a_session_of_a_revoked_token_ends(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client, console.client() as admin:
        await signed_in(console, client)
        assert (await client.get("/api/v1/alarms")).status_code == 200
        await admin.delete("/api/v1/tokens/operator-1")
        assert (await client.get("/api/v1/alarms")).status_code == 401


async def test_a_stream_ends_when_its_token_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.console.stream.CHECK_S", 0.05)
    async with (
        running(tmp_path) as console,
        console.client(Role.VIEWER) as client,
        console.client() as admin,
        client.stream("GET", "/api/v1/stream") as answer,
        asyncio.timeout(5),
    ):
        chunks = answer.aiter_raw()
        await anext(chunks)
        await admin.delete("/api/v1/tokens/viewer-1")
        async for _ in chunks:
            pass


async def test_the_identity_is_remembered_only_briefly(tmp_path: Path) -> None:
    """Another process (the command line) may revoke a token: the gate must look again."""
    async with running(tmp_path) as console, console.client(Role.VIEWER) as viewer:
        assert (await viewer.get("/api/v1/alarms")).status_code == 200
        await console.gateway.store.revoke_token("viewer-1", console.gateway.now())
        moment = console.gateway.now() + 3 * SECOND
        console.gateway.now = lambda: moment  # type: ignore[method-assign]
        assert (await viewer.get("/api/v1/alarms")).status_code == 401


# ------------------------------------------------------------------------------------------ caps and headers


async def test_a_large_body_is_refused_declared_or_not(tmp_path: Path) -> None:
    async def chunks() -> Any:
        for _ in range(8):
            yield b" " * 10_000

    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        path = "/api/v1/alarms/lamp-1%2Flamp-out/comment"
        assert (await client.post(path, content=b" " * (MAX_BODY + 1))).status_code == 413
        assert (await client.post(path, content=chunks())).status_code == 413
        assert (await client.get("/api/v1/health")).status_code == 200


async def test_every_answer_carries_the_security_headers(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        for path in ("/", "/docs", "/docs/docs.js", "/api/v1/health", "/api/v1/alarms", "/nothing"):
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers
        assert (await client.get("/api/v1/health")).headers["cache-control"] == "no-store"
