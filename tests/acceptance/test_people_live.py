"""The first administrator, a shift that signs in, and the command line beside a running gateway."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import httpx

from bench.faults.processes import REPOSITORY
from tests.acceptance.running import RunningGateway, running_gateway

SECRET = "correct horse battery"


async def user(gateway: RunningGateway, *words: str, typed: str = "") -> tuple[int, str]:
    """``citywatch user …`` as a process of its own; (exit code, what it said)."""
    config = gateway.folder / "citywatch.yaml"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "user", *words, "--config", str(config),
        cwd=REPOSITORY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate(typed.encode())
    return process.returncode or 0, said.decode()


def page_of(gateway: RunningGateway) -> httpx.AsyncClient:
    headers = {"X-Citywatch": "1", "Origin": gateway.url}
    return httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=20, trust_env=False, verify=False)


async def test_people_are_made_and_ended_beside_a_running_gateway(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, {}) as gateway, page_of(gateway) as page:
        log = gateway.process.log.read_text(encoding="utf-8")
        assert "make the first person who signs in: citywatch user add NAME --role admin --config" in log
        code, said = await user(gateway, "add", "boss", "--role", "admin", typed=SECRET)
        assert code == 0, said
        # Many at once, while the gateway writes too: nobody is turned away, and it goes on.
        made = await asyncio.gather(
            *(user(gateway, "add", f"u{n}", "--role", "viewer", typed=SECRET) for n in range(6))
        )
        assert made == [(0, f"u{n} can sign in\n") for n in range(6)]

        answer = await page.post("/api/v1/session", json={"name": "boss", "password": SECRET})
        assert (answer.status_code, answer.json()["role"]) == (200, "admin")
        listed = (await page.get("/api/v1/users")).json()["items"]
        assert [one["name"] for one in listed] == ["boss", *(f"u{n}" for n in range(6))]
        assert SECRET not in gateway.process.log.read_text(encoding="utf-8")

        code, said = await user(gateway, "password", "boss", "--generate")
        begin = time.monotonic()
        while (await page.get("/api/v1/users")).status_code == 200:  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.1)
        assert time.monotonic() - begin < 5
        password = said.strip().rpartition(" ")[2]
        answer = await page.post("/api/v1/session", json={"name": "boss", "password": password})
        assert answer.json()["must_change"] is True
        lines = (await gateway.get("audit"))["items"]
        assert ("command", "reset-password", "boss") in [(li["channel"], li["action"], li["subject"]) for li in lines]
        assert (await gateway.get("health"))["status"] == "ok"


async def test_a_session_outlives_a_restart_of_the_gateway(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, {}) as gateway:
        await user(gateway, "add", "li", "--role", "operator", typed=SECRET)
        async with page_of(gateway) as page:
            await page.post("/api/v1/session", json={"name": "li", "password": SECRET})
            cookie = page.cookies["citywatch"]
        await gateway.process.kill()
        await gateway.start()
        async with page_of(gateway) as page:
            page.cookies.set("citywatch", cookie, domain="127.0.0.1")
            assert (await page.get("/api/v1/session")).json()["name"] == "li"
