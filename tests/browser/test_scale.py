"""A county in a real browser: 50,000 assets on the map, 20,000 alarms in the list. How fast: ``bench/console.py``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from bench.big_city import HEAVY_T, BigCity, cover, lorry
from tests.browser.browsing import SCREENSHOTS, Site, browsing_site, chromium

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTY = BigCity(covers=20_000, bridges=6_000, probes=100, lamps=23_900)
PATIENCE_MS = 40_000  # two cores that are busy with other things as well
CHANGES_PER_S = 200

# What the map has drawn: its assets by number, the worst level of all, and how many marks stand for them.
DRAWN = """() => {
  const map = document.querySelector('.map[data-ready=true]')?.map;
  if (!map || !map.loaded()) return null;
  const found = new Map();
  for (const {properties: one} of map.queryRenderedFeatures({layers: ['clusters', 'marks']}))
    found.set(one.cluster_id ?? one.asset, [one.point_count ?? 1, one.rank, one.alarmed]);
  const all = [...found.values()];
  const sum = (column) => all.reduce((so_far, one) => so_far + one[column], 0);
  return {marks: all.length, assets: sum(0), worst: Math.min(...all.map((one) => one[1])), alarmed: sum(2)};
}"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with browsing_site(tmp_path_factory.mktemp("county"), COUNTY.document()) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_wrong(site: Site) -> AsyncIterator[None]:
    site.refused.clear()
    yield
    await site.close_pages()
    assert site.refused == []


async def test_the_map_counts_every_asset_of_the_county_and_shows_the_worst_alarm(browser: Browser, site: Site) -> None:
    page = await county(site, browser, "/map")
    await page.wait_for_selector(".map[data-ready=true]")
    # What lies far off is out of sight at first; who asks for the map itself waits 20 s for all of it.
    await page.evaluate("() => void document.querySelector('.map').map.zoomOut({animate: false})")
    drawn = await seen(page, "drawn => drawn.assets === 50000")
    assert drawn["worst"] == 9
    assert drawn["alarmed"] == 0
    assert 1 < drawn["marks"] < 1_000, "assets are drawn together"
    await site.publish(cover("probe-00001"), lorry("bridge-00001", HEAVY_T))
    drawn = await seen(page, "drawn => drawn.alarmed === 2")
    assert drawn["worst"] == 1, "the cover is worse than the lorry"
    assert drawn["assets"] == 50_000
    await page.screenshot(path=SCREENSHOTS / "map-50000.png")
    before = await page.evaluate("document.querySelector('.map').map.getZoom()")
    await page.get_by_role("button", name="Zoom in").click()
    await page.wait_for_function("before => document.querySelector('.map').map.getZoom() > before", arg=before)


async def test_a_flood_of_20000_is_counted_told_and_worked_on(browser: Browser, site: Site) -> None:
    page = await county(site, browser)
    await expect(page.locator("header .link")).to_have_text("Live")
    await site.publish(*(cover(f"cover-{number:05}") for number in range(COUNTY.covers)))
    await page.wait_for_function("() => document.querySelector('[role=treegrid]').ariaRowCount > 20000")
    await expect(page.get_by_role("alert")).to_contain_text("Alarm flood")
    await expect(page.locator("header .levels")).to_contain_text("20001")
    rows = await page.locator("[data-id]").count()
    assert 10 < rows < 200, "only what is in sight is drawn"

    async with changing(site):
        await page.keyboard.press("Home")
        for _ in range(5):
            before = await focused(page)
            began = time.monotonic()
            await page.keyboard.press("ArrowDown")
            await page.wait_for_function("before => document.activeElement?.dataset.id !== before", arg=before)
            assert time.monotonic() - began < 1.0
        alarm = await focused(page)
        assert alarm.endswith("/manhole-open")
        await page.keyboard.press("a")
        await expect(page.get_by_role("complementary")).to_contain_text("Acknowledged")
        await page.screenshot(path=SCREENSHOTS / "alarms-20000.png")
    found = await site.gateway.get(f"alarms/{quote(alarm, safe='')}")
    assert (found["state"], found["acked_by"]) == ("ACKED", "admin")


async def test_what_hangs_on_a_cause_is_folded_beneath_it_in_a_flood_too(browser: Browser, site: Site) -> None:
    page = await county(site, browser, "/alarms?state=UNACK,DSUPR&asset=probe-00002")
    await site.says("manhole", "probe-00002", cover="open")
    await expect(page.locator('[data-id="probe-00002/manhole-open"]')).to_be_visible()
    await site.says("manhole", "probe-00002", cover="open", water=True)
    cause = page.locator('[data-id="probe-00002/manhole-open-water"]')
    await expect(cause).to_contain_text("+1")
    await expect(page.locator('[data-id="probe-00002/manhole-open"]')).to_have_count(0)
    await cause.get_by_role("button").click()
    await expect(page.locator('[data-id="probe-00002/manhole-open"]')).to_have_attribute("aria-level", "2")
    await cause.get_by_role("button").click()
    await expect(page.locator("[data-id]")).to_have_count(1)


async def county(site: Site, browser: Browser, path: str = "/alarms") -> Page:
    page = await site.open(browser, path)
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    return page


async def seen(page: Page, wanted: str) -> dict[str, int]:
    """What the map has drawn, when that is as ``wanted``."""
    found = await page.wait_for_function(
        f"() => {{ const drawn = ({DRAWN})(); return drawn && ({wanted})(drawn) && drawn; }}", polling=100
    )
    drawn: dict[str, int] = await found.json_value()
    return drawn


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement?.dataset.id ?? ''"))


@asynccontextmanager
async def changing(site: Site) -> AsyncIterator[None]:
    """Beside this, alarms of level IV come, ``CHANGES_PER_S``."""
    over = asyncio.Event()

    async def go() -> None:
        for number in range(COUNTY.bridges):
            if over.is_set():
                return
            await site.publish(lorry(f"bridge-{number:05}", HEAVY_T))
            await asyncio.sleep(1 / CHANGES_PER_S)

    task = asyncio.create_task(go(), name="changes")
    try:
        yield
    finally:
        over.set()
        await task
