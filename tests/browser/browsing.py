"""A real browser on a real gateway: Debian's Chromium, moved by Playwright; a city whose devices speak when told.

async with chromium() as browser, browsing_site(folder, CITY) as site:
    page = await site.signed_in(browser)
    await site.says("manhole", "cover-1", cover="open")
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from bench import browser
from bench.browser import signed_in
from tests.acceptance.running import RunningGateway, publisher, running_gateway
from tests.servers import free_port, mosquitto, need_debian, need_debian_file

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("CITYWATCH_SCREENSHOTS", ROOT / "build" / "screenshots"))
CHINESE = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)  # three browsers on two cores


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    program = need_debian("chromium", "chromium")
    need_debian_file("fonts-noto-cjk", CHINESE)
    if not (ROOT / "gateway" / "console" / "web" / "dist" / "index.html").exists():
        pytest.fail("the console's pages are not built: python3 run.py test", pytrace=False)
    async with browser.chromium(program) as one:
        yield one


class Site:
    """A running gateway, a voice for its devices, and browsers that are signed in."""

    def __init__(self, gateway: RunningGateway, client: aiomqtt.Client) -> None:
        self.gateway = gateway
        self._client = client
        self.contexts: list[BrowserContext] = []
        self.refused: list[str] = []  # requests that left the machine, errors of pages

    async def says(self, kind: str, device: str, **values: object) -> None:
        await self._client.publish(f"citywatch/v1/{kind}/{device}/telemetry", json.dumps(values), qos=1)

    async def publish(self, *messages: tuple[str, bytes]) -> None:
        """Topics and payloads, as fast as the broker takes them."""
        for topic, payload in messages:
            await self._client.publish(topic, payload, qos=0)

    async def open(
        self, browser: Browser, path: str = "/alarms", *, language: str = "en", theme: str = "light", token: str = ""
    ) -> Page:
        """A page of a browser of its own, signed in with a token (the administrator's when none is given)."""
        context = await signed_in(
            browser, self.gateway.url, token or self.gateway.token, language=language, theme=theme
        )
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        page = await context.new_page()
        self.watch(page)
        await page.goto(self.gateway.url + path)
        await page.wait_for_selector("main")
        return page

    def watch(self, page: Page) -> None:
        """Note every request to elsewhere and every error of the page itself."""

        def requested(request: Any) -> None:
            if not request.url.startswith((self.gateway.url, "blob:", "data:")):
                self.refused.append(f"asked elsewhere: {request.url}")

        page.on("request", requested)
        page.on("pageerror", lambda error: self.refused.append(f"page error: {error}"))
        page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and re.search(r"Content.Security|intlify|\[Vue", message.text):
            self.refused.append(f"console: {message.text}")

    async def close_pages(self) -> None:
        for context in self.contexts:
            await context.close()
        self.contexts.clear()


@contextlib.asynccontextmanager
async def browsing_site(
    folder: Path,
    city: Mapping[str, Sequence[Mapping[str, Any]]],
    more: Mapping[str, Any] | None = None,
    ground: Mapping[str, Any] | None = None,
) -> AsyncIterator[Site]:
    """``more``: further settings; ``ground``: what lies under the map (``console.map``)."""
    file = folder / "assets.json"
    await asyncio.to_thread(file.write_text, json.dumps(city), encoding="utf-8")
    async with mosquitto(lines=["max_queued_messages 0"]) as broker, publisher(broker.url) as client:
        settings = {
            "mqtt": [{"id": "main", "url": broker.url}],
            "assets": [str(file)],
            # A page comes back to the address it knows.
            "console": {"port": free_port(), **({"map": dict(ground)} if ground is not None else {})},
            **(more or {}),
        }
        async with running_gateway(folder, settings) as gateway:

            async def linked() -> bool:
                return bool((await gateway.get("health"))["parts"]["mqtt main"]["ok"])

            await gateway.until(linked, "the broker is there")
            yield Site(gateway, client)
