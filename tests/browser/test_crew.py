"""A crew in the field with a phone: their work, without a network in between; and the centre that sent them."""

from __future__ import annotations

import asyncio
import json
import re
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, FilePayload, Page, Route, expect

from tests.browser.browsing import PATIENCE_MS, SCREENSHOTS, Site, browsing_site, chromium
from tests.browser.test_console import AXE, axe_results

pytestmark = pytest.mark.asyncio(loop_scope="module")

PHONE = {"width": 360, "height": 740}
HERE = {"longitude": 116.0921, "latitude": 35.8003, "accuracy": 12}  # 40 m from the first cover
TEXTS = {"crew", "work", "nav", "action", "alarm", "account", "cause", "system", "unit"}

ROUTES = """
people:
  - {person: wang, name: {zh: 王水生, en: Wang Shuisheng}, channels: [{receiver: log, to: wang}]}
  - {person: feng, name: {zh: 冯长河, en: Feng Changhe}, channels: [{receiver: log, to: feng}]}
teams:
  - {team: drainage, name: {zh: 排水管护班, en: Drainage crew}, members: [person:wang]}
  - {team: lighting, name: {zh: 路灯维修班, en: Lighting crew}, members: [person:feng]}
"""

CITY: dict[str, list[dict[str, Any]]] = {
    "assets": [
        *(
            {
                "asset": f"cover-{n}", "kind": "manhole", "name": f"水泊大街 {n} 号井", "road": "水泊大街",
                "town": "水泊街道", "unit": "市政养护中心", "longitude": 116.09 + n / 500, "latitude": 35.8,
            }
            for n in range(1, 7)
        ),
        {"asset": "road-1", "kind": "road", "name": "南环路下穿通道", "road": "南环路", "town": "水泊街道"},
    ],
    "devices": [
        *({"device": f"cover-{n}", "asset": f"cover-{n}", "profile": "generic/json-manhole"} for n in range(1, 7)),
    ],
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("crew")
    routes = folder / "routes.yaml"
    await asyncio.to_thread(routes.write_text, ROUTES, encoding="utf-8")
    async with browsing_site(folder, CITY, {"routes": str(routes)}) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tokens(site: Site) -> dict[str, str]:
    """Who works here, with a token each."""
    made = {}
    for name, role in {"wang": "maintainer", "feng": "maintainer", "li": "supervisor"}.items():
        answer = await site.gateway.post("tokens", {"name": name, "role": role})
        assert answer.status_code == 201, answer.text
        made[name] = answer.json()["token"]
    return made


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_wrong(site: Site) -> AsyncIterator[None]:
    """No page asks anybody but the gateway, breaks the security policy, lacks a text or throws."""
    site.refused.clear()
    yield
    await site.close_pages()
    assert site.refused == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages are left for people to look at."""
    folder = SCREENSHOTS / "crew"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# ---------------------------------------------------------------------------------------------------------- a phone


async def phone(
    browser: Browser, site: Site, token: str, path: str = "", *, language: str = "zh-CN", theme: str = "light"
) -> Page:
    """The crew page on a phone whose owner has signed in; ready to lose its network."""
    context = await browser.new_context(
        viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True, reduced_motion="reduce"  # type: ignore[arg-type]
    )  # fmt: skip
    context.set_default_timeout(PATIENCE_MS)
    site.contexts.append(context)
    await context.add_init_script(
        f"localStorage.setItem('citywatch.language', '{language}'); localStorage.setItem('citywatch.theme', '{theme}');"
        f"navigator.geolocation.getCurrentPosition = (found) => found({{coords: {json.dumps(HERE)}}});"
    )
    await sign_in(context, site, token)
    page = await context.new_page()
    site.watch(page)
    await page.goto(f"{site.gateway.url}/crew{path}")
    await page.wait_for_selector("main")
    await page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    return page


async def sign_in(context: BrowserContext, site: Site, token: str) -> None:
    headers = {"Origin": site.gateway.url, "X-Citywatch": "1"}
    answer = await context.request.post(f"{site.gateway.url}/api/v1/session", data={"token": token}, headers=headers)
    assert answer.ok, await answer.text()


async def opened(site: Site, asset: str, **values: object) -> str:
    """The alarm of an open cover."""
    alarm_id = f"{asset}/manhole-open"
    await site.says("manhole", asset, **({"cover": "open"} | values))

    async def stands() -> bool:
        found = await site.gateway.get("alarms", asset=asset, limit=500)
        return any(one["alarm_id"] == alarm_id and one["active"] for one in found["items"])

    await site.gateway.until(stands, f"{alarm_id} stands")
    return alarm_id


async def do(site: Site, alarm_id: str, action: str, /, **body: Any) -> dict[str, Any]:
    answer = await site.gateway.post(f"alarms/{alarm_id.replace('/', '%2F')}/{action}", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["alarm"]  # type: ignore[no-any-return]


async def alarm(site: Site, alarm_id: str) -> dict[str, Any]:
    return await site.gateway.get(f"alarms/{alarm_id.replace('/', '%2F')}")  # type: ignore[no-any-return]


async def work_is(site: Site, alarm_id: str, state: str) -> dict[str, Any]:
    async def so() -> dict[str, Any] | None:
        found = await alarm(site, alarm_id)
        return found if found["work"] == state else None

    return await site.gateway.until(so, f"the work on {alarm_id} is {state}")  # type: ignore[no-any-return]


async def steps(site: Site, alarm_id: str) -> list[str]:
    """The rows of the table of work, in their order."""
    found = await site.gateway.get(f"alarms/{alarm_id.replace('/', '%2F')}/history", limit=100)
    return [step["cause"] for step in reversed(found["items"]) if step["cause"].startswith("W")]


def card(page: Page, alarm_id: str):  # type: ignore[no-untyped-def]
    return page.locator(f'[data-id="{alarm_id}"]')


def button(page: Page, name: str):  # type: ignore[no-untyped-def]
    return page.get_by_role("button", name=name, exact=True)


def photograph(width: int, height: int) -> bytes:
    """A PNG as large as a camera's."""
    row = b"\0" + bytes(i * 255 // width for i in range(width) for _ in range(3))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(row * height, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg_size(content: bytes) -> tuple[int, int]:
    """Width and height, as the frame header says."""
    at = 2
    while content[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    height, width = struct.unpack(">HH", content[at + 5 : at + 9])
    return width, height


def keys_in(text: str) -> list[str]:
    return [key for key in re.findall(r"\b[a-z]+\.[A-Za-z_0-9-]+\b", text) if key.split(".", 1)[0] in TEXTS]


async def look(page: Page, pictures: Path, name: str, *, whole: bool = False) -> None:
    """Keep a picture; nothing lacks a text, and nothing is wider than the phone."""
    await page.wait_for_timeout(150)
    await page.screenshot(path=pictures / f"{name}.png", full_page=whole)
    assert keys_in(await page.locator("body").inner_text()) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is cut off"


# ---------------------------------------------------------------------------------------------------------- the tests


async def test_a_crew_works_without_a_network_and_everything_is_told_once_and_in_order(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path
) -> None:
    first = await opened(site, "cover-1")
    second = await opened(site, "cover-2")
    other = await opened(site, "cover-3")
    await do(site, first, "dispatch", to="drainage", comment="带上围挡和反光锥")
    await do(site, second, "dispatch", to="wang")
    await do(site, other, "dispatch", to="lighting")

    page = await phone(browser, site, tokens["wang"])
    await expect(card(page, first)).to_contain_text("水泊大街 1 号井")
    await expect(card(page, second)).to_be_visible()
    await expect(card(page, other)).to_have_count(0)
    assert await page.locator("[data-id]").evaluate_all("all => all.map(one => one.dataset.id)") == [first, second]
    await look(page, pictures, "list")

    await card(page, first).click()
    await expect(page.get_by_text("带上围挡和反光锥")).to_be_visible()
    await look(page, pictures, "work", whole=True)
    await button(page, "接单").click()
    taken = await work_is(site, first, "ACCEPTED")
    assert (taken["acked"], taken["order"]["accepted_by"]) == (True, "wang")
    await expect(button(page, "到场")).to_be_visible()

    await page.context.set_offline(True)
    await button(page, "到场").click()
    await button(page, "◎ 获取当前位置").click()
    await expect(page.get_by_text(re.compile(r"距设施约 \d+ 米，精度 ±12 米"))).to_be_visible()
    await look(page, pictures, "on-site")
    await page.get_by_role("dialog").get_by_role("button", name="到场", exact=True).click()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await button(page, "处置完成").click()
    await page.get_by_label("原因").select_option("cover-moved")
    await page.get_by_label("做了什么").fill("井盖已复位，锁具已更换")
    await page.locator("#camera").set_input_files(
        {"name": "IMG_1.png", "mimeType": "image/png", "buffer": photograph(2400, 1800)}
    )
    await expect(page.get_by_role("dialog").locator("img")).to_have_count(1)
    await look(page, pictures, "done")
    await button(page, "提交").click()
    await expect(page.get_by_role("link", name=re.compile("3 项待发送"))).to_be_visible()
    await look(page, pictures, "offline-work", whole=True)

    # The phone is off for a while: the page, the list and what waits are all there.
    await page.reload()
    await expect(page.get_by_role("heading", name="井盖打开或丢失")).to_be_visible()
    await page.goto(f"{site.gateway.url}/crew")
    await expect(card(page, first)).to_contain_text("待发送")
    await expect(page.get_by_text(re.compile("没有网络，这是"))).to_be_visible()
    await look(page, pictures, "offline-list")
    await card(page, second).click()
    await expect(page.get_by_text("水泊大街 2 号井")).to_be_visible()
    await page.get_by_role("link", name=re.compile("3 项待发送")).click()
    await expect(page.get_by_role("listitem")).to_have_count(3)
    await look(page, pictures, "waiting")
    assert (await alarm(site, first))["work"] == "ACCEPTED"

    await page.context.set_offline(False)
    done = await work_is(site, first, "VERIFYING")
    await expect(page.get_by_text("没有待发送的内容")).to_be_visible()
    assert await steps(site, first) == ["W1", "W2", "W4", "W5"]
    order = done["order"]
    assert (order["on_site_by"], order["done_by"], order["cause_code"]) == ("wang", "wang", "cover-moved")
    assert order["distance_m"] == pytest.approx(38, abs=10)
    assert order["on_site_device_at"] < order["done_device_at"] < order["on_site_at"], (
        "when it was, not when it was told"
    )
    assert len(order["photos"]) == 1
    async with site.gateway.client() as client:
        kept = await client.get(f"photos/{order['photos'][0]}")
    assert kept.headers["content-type"] == "image/jpeg"
    assert jpeg_size(kept.content) == (1600, 1200)

    await page.goto(f"{site.gateway.url}/crew")
    await card(page, first).click()
    await expect(page.get_by_text(re.compile("正在等待 .* 之后的新数据"))).to_be_visible()
    await expect(page.locator(".pictures img")).to_have_count(1)
    await look(page, pictures, "verifying", whole=True)


async def test_what_the_gateway_refuses_is_shown_with_its_reason_and_dropped(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path
) -> None:
    mine = await opened(site, "cover-4")
    await do(site, mine, "dispatch", to="wang")
    page = await phone(browser, site, tokens["wang"], "/cover-4/manhole-open", language="en", theme="dark")
    await expect(button(page, "Accept")).to_be_visible()
    await page.context.set_offline(True)
    await button(page, "Accept").click()
    await expect(button(page, "On site")).to_be_visible()
    await button(page, "On site").click()
    await page.get_by_role("dialog").get_by_role("button", name="On site", exact=True).click()
    await do(site, mine, "close", reason="children had taken it")
    await page.context.set_offline(False)
    await expect(page.get_by_role("alert").first).to_contain_text("1 not accepted")
    await look(page, pictures, "refused-work", whole=True)
    await page.get_by_role("alert").first.get_by_role("link").click()
    await expect(page.get_by_role("listitem")).to_have_count(2)
    await expect(page.get_by_text(re.compile("CLOSED"))).to_be_visible()
    await look(page, pictures, "refused")
    for left in (1, 0):
        await button(page, "Drop").click()
        await expect(page.get_by_role("listitem")).to_have_count(left)
        if left:  # it is tried, and refused as well
            await expect(button(page, "Drop")).to_be_visible()
    assert await steps(site, mine) == ["W1", "W9"]


async def test_a_session_that_ends_loses_nothing(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path
) -> None:
    mine = await opened(site, "cover-5")
    await do(site, mine, "dispatch", to="wang")
    page = await phone(browser, site, tokens["wang"], "/cover-5/manhole-open", language="en")
    await expect(button(page, "Accept")).to_be_visible()
    await page.wait_for_load_state("networkidle")
    await page.context.clear_cookies()
    await button(page, "Accept").click()
    await expect(page.get_by_text("You are signed out")).to_be_visible()
    await look(page, pictures, "signed-out")
    await page.reload()
    await expect(page.get_by_text("You are signed out")).to_be_visible()
    assert (await alarm(site, mine))["work"] == "DISPATCHED"
    # Without a network nobody can sign in, and the phone's owner goes on.
    await page.context.set_offline(True)
    await expect(button(page, "On site")).to_be_visible()
    await page.reload()
    await expect(button(page, "On site")).to_be_visible()
    await page.context.set_offline(False)
    await expect(page.get_by_text("You are signed out")).to_be_visible()

    # Somebody else borrows the phone: they see their own work, and tell nothing of the other's.
    await page.get_by_role("button", name="Sign in with a token").click()
    await page.get_by_label("Token").fill(tokens["feng"])
    await page.keyboard.press("Enter")
    await expect(card(page, "cover-3/manhole-open")).to_be_visible()
    await expect(card(page, mine)).to_have_count(0)
    await expect(page.get_by_text("to be sent")).to_have_count(0)
    assert (await alarm(site, mine))["work"] == "DISPATCHED"
    await page.get_by_role("button", name="Menu").click()
    await look(page, pictures, "menu")
    await button(page, "Sign out").click()

    await page.get_by_role("button", name="Sign in with a token").click()
    await page.get_by_label("Token").fill(tokens["wang"])
    await page.keyboard.press("Enter")
    await work_is(site, mine, "ACCEPTED")
    assert await steps(site, mine) == ["W1", "W2"]


async def test_the_page_is_installed_and_keeps_nothing_of_the_api(
    browser: Browser, site: Site, tokens: dict[str, str]
) -> None:
    page = await phone(browser, site, tokens["wang"])
    async with site.gateway.client() as client:
        manifest = await client.get(f"{site.gateway.url}/crew/manifest.webmanifest")
        worker = await client.get(f"{site.gateway.url}/sw.js")
        icon = await client.get(f"{site.gateway.url}/crew/icon-512.png")
        deep = await client.get(f"{site.gateway.url}/crew/cover-1/manhole-open")
        other = await client.get(f"{site.gateway.url}/crews")
    assert manifest.headers["content-type"] == "application/manifest+json"
    assert manifest.json()["start_url"] == "/crew"
    assert worker.headers["content-type"].startswith("text/javascript")
    assert worker.headers["cache-control"] == "no-cache"
    assert icon.headers["content-type"] == "image/png"
    assert "manifest.webmanifest" in deep.text
    assert "manifest.webmanifest" not in other.text
    session = await page.context.new_cdp_session(page)
    errors = (await session.send("Page.getInstallabilityErrors"))["installabilityErrors"]
    assert [one["errorId"] for one in errors if one["errorId"] != "in-incognito"] == []
    kept = await page.evaluate(
        "caches.keys().then(async names => (await Promise.all(names.map(async name => "
        "(await (await caches.open(name)).keys()).map(one => new URL(one.url).pathname)))).flat())"
    )
    assert "/crew/index.html" in kept
    assert not [path for path in kept if path.startswith("/api")]
    scopes = await page.evaluate("navigator.serviceWorker.getRegistrations().then(all => all.map(one => one.scope))")
    assert scopes == [f"{site.gateway.url}/crew"], "the console itself is never kept"


async def test_work_is_sent_back_and_checked_from_the_operations_centre(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path
) -> None:
    mine = await opened(site, "cover-6")
    desk = await site.open(browser, f"/alarms?alarm={mine.replace('/', '%2F')}", token=tokens["li"])
    await desk.get_by_role("complementary").get_by_role("button", name="Dispatch").click()
    dialog = desk.get_by_role("dialog")
    await dialog.get_by_role("combobox").click()
    await desk.get_by_role("option", name=re.compile("Drainage crew")).click()
    await dialog.get_by_label("Comment").fill("the lock is new")
    await desk.screenshot(path=pictures / "dispatch.png")
    await dialog.get_by_role("button", name="Dispatch").click()
    await work_is(site, mine, "DISPATCHED")
    await expect(desk.get_by_role("complementary")).to_contain_text("Drainage crew")

    page = await phone(browser, site, tokens["wang"], "/cover-6/manhole-open")
    await button(page, "接单").click()
    await button(page, "处置完成").click()
    await page.get_by_label("原因").select_option("other")
    await page.get_by_label("原因", exact=True).nth(1).fill("铰链断裂")
    await page.get_by_label("做了什么").fill("已焊接")
    await page.locator("#album").set_input_files(
        [FilePayload(name=f"{n}.png", mimeType="image/png", buffer=photograph(900 + n, 700)) for n in range(2)]
    )
    await expect(page.get_by_role("dialog").locator("img")).to_have_count(2)
    await page.get_by_label("传感器无法反映结果").check()
    await button(page, "提交").click()
    await work_is(site, mine, "DONE")
    await expect(page.get_by_text("请值班长核查")).to_be_visible()

    pane = desk.get_by_role("complementary")
    await expect(pane.locator(".photos img")).to_have_count(2)
    await expect(pane).to_contain_text("铰链断裂")
    await desk.screenshot(path=pictures / "detail.png")
    await pane.get_by_role("button", name="Send back").click()
    await dialog.get_by_label("Reason").fill("the cordon is still there")
    await dialog.get_by_role("button", name="Send back").click()
    await work_is(site, mine, "DISPATCHED")
    await expect(page.get_by_role("alert")).to_contain_text("the cordon is still there", timeout=40_000)
    await look(page, pictures, "returned", whole=True)
    await button(page, "接单").click()
    await work_is(site, mine, "ACCEPTED")

    await desk.goto(f"{site.gateway.url}/work")
    await expect(desk.locator(f'[data-id="{mine}"]')).to_contain_text("Drainage crew")
    await expect(desk.locator(f'[data-id="{mine}"]')).to_contain_text("sent again ×1")
    await desk.screenshot(path=pictures / "open-work.png")
    await desk.get_by_role("button", name=re.compile("^.*Refused")).click()
    await expect(desk.locator(f'[data-id="{mine}"]')).to_have_count(0)
    item = next(one for one in (await site.gateway.get("work"))["items"] if one["alarm"]["alarm_id"] == mine)
    assert item["alarm"]["detected_at"] < item["due"]["respond_by"] < item["due"]["resolve_by"]


async def test_an_asset_is_put_under_maintenance_and_taken_back(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path
) -> None:
    page = await site.open(browser, "/assets/cover-2", token=tokens["li"])
    await page.get_by_role("button", name="Plan maintenance").click()
    await page.get_by_label("Work order or what is done").fill("WO-17")
    await page.get_by_label("Reason", exact=True).fill("a new frame")
    await page.get_by_role("button", name="Plan maintenance").click()
    await expect(page.get_by_text("under way")).to_be_visible()
    await page.screenshot(path=pictures / "asset.png", full_page=True)
    await expect(page.get_by_text("Work history")).to_be_visible()
    assert (await alarm(site, "cover-2/manhole-open"))["state"] == "OOSRV"
    await page.get_by_role("button", name="End it").click()
    await expect(page.get_by_text("ended", exact=True)).to_be_visible()
    assert (await alarm(site, "cover-2/manhole-open"))["out_of_service"] is None
    await page.goto(f"{site.gateway.url}/system")
    await expect(page.get_by_role("heading", name="Notifications")).to_be_visible()
    await page.screenshot(path=pictures / "system.png", full_page=True)


@pytest.mark.parametrize(("language", "theme"), [("zh-CN", "dark"), ("en", "light")])
async def test_every_page_of_the_crew_is_whole_and_readable(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path, language: str, theme: str
) -> None:
    """In both languages and themes, and nothing serious for axe; the console's page of work too."""
    axe = await asyncio.to_thread(AXE.read_text)
    page = await phone(browser, site, tokens["wang"], language=language, theme=theme)
    await expect(card(page, "cover-1/manhole-open")).to_be_visible()
    found = []
    for path in ("", "/cover-1/manhole-open", "/cover-6/manhole-open", "/waiting"):
        await page.goto(f"{site.gateway.url}/crew{path}")
        await page.wait_for_selector("main h2")
        name = f"{language}-{theme}{path.replace('/', '-')}"
        await look(page, pictures, name, whole=True)
        found += [f"/crew{path}: {one}" for one in await axe_results(page, axe)]
    await page.goto(f"{site.gateway.url}/crew/cover-6/manhole-open")
    await page.locator(".bar .press").nth(1).click()
    await look(page, pictures, f"{language}-{theme}-done")
    found += [f"done: {one}" for one in await axe_results(page, axe)]
    desk = await site.open(browser, "/work", language=language, theme=theme)
    await expect(desk.locator("[data-id]").first).to_be_visible()
    await desk.screenshot(path=pictures / f"{language}-{theme}-open-work.png")
    found += [f"/work: {one}" for one in await axe_results(desk, axe)]
    assert keys_in(await desk.locator("body").inner_text()) == []
    assert not found, "\n".join(found)


async def test_what_is_late_says_so_and_work_is_refused_with_a_reason(
    browser: Browser, site: Site, tokens: dict[str, str], pictures: Path
) -> None:
    late = "cover-3/manhole-open"
    page = await phone(browser, site, tokens["feng"])

    async def an_hour_ago(route: Route) -> None:
        answer = await route.fetch()
        found = await answer.json()
        for item in found.get("items", [found]):
            item["due"] = dict.fromkeys(item["due"], "2026-01-01T00:00:00.000000Z")
        await route.fulfill(response=answer, json=found)

    await page.route(re.compile("/api/v1/work"), an_hour_ago)
    await page.reload()
    await expect(card(page, late)).to_contain_text("处置超时")
    await look(page, pictures, "late")
    await card(page, late).click()
    await button(page, "拒单").click()
    await expect(page.get_by_role("dialog").get_by_role("button", name="拒单")).to_be_disabled()
    await page.get_by_label("为什么不能去？").fill("没有登高车")
    await look(page, pictures, "refuse")
    await page.get_by_role("dialog").get_by_role("button", name="拒单").click()
    refused = await work_is(site, late, "REJECTED")
    assert refused["order"]["refused_why"] == "没有登高车"
    await expect(page.get_by_text("等待另行派遣")).to_be_visible()
    await page.unroute_all(behavior="ignoreErrors")  # one may be on its way
