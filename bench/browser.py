"""Chromium without a window, moved by Playwright: how the benchmark of the console and the browser tests start it and
sign in.

    async with chromium() as browser:
        context = await signed_in(browser, gateway.base_url, gateway.token())
        page = await context.new_page()

Playwright comes with the packages for tests: ``pip install citywatch[test]``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.faults.disk import HarnessError
from bench.stand import debian
from gateway.console.pages import DIST

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

# Nothing is asked of the outside by the browser itself; what a graphics card would draw is drawn in software.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)  # fmt: skip
SCREEN = (1600, 900)


@asynccontextmanager
async def chromium(program: Path | None = None) -> AsyncIterator[Browser]:
    """A browser; ``program``: Debian's when none is given. Raises HarnessError when something must be installed, and
    for what Playwright says meanwhile."""
    try:
        from playwright.async_api import Error, async_playwright
    except ImportError as error:
        raise HarnessError("Playwright is not installed: pip install 'citywatch[bench]'") from error
    if not (DIST / "index.html").exists():
        raise HarnessError("the console's pages are not built: python3 run.py test")
    path = program or Path(debian("chromium", "chromium"))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(path), args=list(FLAGS))
        try:
            yield browser
        except Error as error:
            raise HarnessError(f"in the browser: {error}") from error
        finally:
            await browser.close()


async def signed_in(
    browser: Browser, url: str, token: str, *, language: str = "en", theme: str = "light"
) -> BrowserContext:
    """A fresh profile of ``browser`` with a session at the gateway of ``url``. Raises HarnessError when refused."""
    width, height = SCREEN
    context = await browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    await context.add_init_script(
        f"localStorage.setItem('citywatch.language', '{language}');localStorage.setItem('citywatch.theme', '{theme}');"
    )
    headers = {"Origin": url, "X-Citywatch": "1"}
    answer = await context.request.post(f"{url}/api/v1/session", data={"token": token}, headers=headers)
    if not answer.ok:
        raise HarnessError(f"signing in: {answer.status} {await answer.text()}")
    return context
