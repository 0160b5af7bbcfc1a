"""The console in a real browser: a county of 50,000 assets, 20,000 alarms, 500 changes a second, fifty browsers.

One gateway, mosquitto, Chromium without a window and this process share the machine's cores. A page's times are taken
in the page (``performance.timeOrigin + performance.now()``), the others here: one machine, one clock.

    python -m bench.console
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiomqtt
import httpx

from bench.big_city import HEAVIER_T, HEAVY_T, BigCity, cover, lorry
from bench.browser import chromium, signed_in
from bench.faults.disk import HarnessError
from bench.faults.processes import REPOSITORY, die_with_parent
from bench.report import percentile, say
from bench.stand import Gateway, Stand, children_cpu_s, cpu_s, rss_bytes, wait_for
from simulators.load import Plan

if TYPE_CHECKING:
    from playwright.async_api import Browser, CDPSession, Page

NIGHT = 50  # alarms of a normal night
LOADS, MAPS = 5, 3
PROBES, EVERY_S = 120, 0.25  # alarms that the page is watched for, and the pause after each on the average
BESIDE_PER_S, STORM_PER_S, STORM_LONGER = 200.0, 500.0, 5 / 3  # times the window: 20 s
READERS, TURNS, WINDOW_S, WINDOW_EVERY_S = 50, 2, 12.0, 0.1
STREAM = "/api/v1/stream?packed=true"  # as our page asks for it
PATIENCE_S, PATIENCE_MS = 120.0, 120_000
TICK_S = 0.02
CALM_S, CALM_SHARE = 2.0, 0.12
SETTLE_S = 1.5
OPENED = "manhole-open"

TARGETS = {
    "first_load.first_row_s": "<= 1.5",
    "first_load.kilobytes": "<= 900",
    "map.interactive_s": "<= 3",
    "alarm_to_row.from_raise_p95_ms": "<= 700",
    "alarm_to_row.alarms": ">= 100",
    "browsers.cpu_core_share": "<= 0.1",
    "browsers.bystander_p99_ratio": "<= 1.5",
}

# In every page before its own code: when a row first stood in the document, what kept the page busy, every frame.
WATCH = """
window.seen = new Map(); window.busy = []; window.frames = []; window.firstRow = null;
const look = (nodes) => {
  for (const node of nodes) {
    if (node.nodeType !== 1) continue;
    const rows = node.matches('[data-id]') ? [node] : node.querySelectorAll('[data-id]');
    for (const row of rows) {
      const at = performance.timeOrigin + performance.now();
      if (!seen.has(row.dataset.id)) seen.set(row.dataset.id, at);
      if (firstRow === null) requestAnimationFrame(() => setTimeout(() => firstRow ??= performance.now()));
    }
  }
};
new MutationObserver((changes) => { for (const change of changes) look(change.addedNodes); })
  .observe(document, {childList: true, subtree: true});
new PerformanceObserver((list) => { for (const task of list.getEntries()) busy.push([task.startTime, task.duration]); })
  .observe({type: 'longtask', buffered: true});
"""
FRAMES = """() => { let last = performance.now(); const next = () => { const now = performance.now();
  frames.push(now - last); last = now; requestAnimationFrame(next); }; requestAnimationFrame(next); }"""
MAP_DRAWN = """() => { const map = document.querySelector('.map[data-ready=true]')?.map;
  return map && map.queryRenderedFeatures({layers: ['clusters']}).length > 0 ? performance.now() : false; }"""
ZOOM = """() => new Promise((done) => { const map = document.querySelector('.map').map; const began = performance.now();
  map.once('zoom', () => map.once('render', () => setTimeout(() => done(performance.now() - began))));
  document.querySelector('.maplibregl-ctrl-zoom-in').click(); })"""
SCROLL = """() => { const list = document.querySelector('.scroller'); let down = true; setInterval(() => {
  if (list.scrollTop > 20000) down = false; if (list.scrollTop < 10) down = true;
  list.scrollBy(0, down ? 40 : -40); }, 16); }"""


def run(
    city: BigCity | None = None,
    probes: int = PROBES,
    readers: int = READERS,
    window_s: float = WINDOW_S,
    loads: int = LOADS,
) -> dict[str, Any]:
    """Figures; about five minutes with the defaults."""
    with tempfile.TemporaryDirectory(prefix="citywatch-console-") as folder:
        return asyncio.run(_measure(Path(folder), city or BigCity(), probes, readers, window_s, loads))


async def _measure(
    folder: Path, city: BigCity, probes: int, readers: int, window_s: float, loads: int
) -> dict[str, Any]:
    assets = folder / "city.json"
    await asyncio.to_thread(city.write, assets)
    async with Stand(folder) as stand, chromium() as browser:
        gateway = await stand.gateway("mosquitto", Plan(devices=1), more_assets=[assets])
        async with Bench.open(gateway, browser, city) as bench:
            figures: dict[str, Any] = {"assets": city.size}
            await bench.night()
            figures["first_load"] = _told("first load", await bench.first_load(loads))
            figures["map"] = _told("map", await bench.map(min(loads, MAPS)))
            figures["flood"] = _told("flood", await bench.flood())
            figures |= await bench.beside_a_flood(probes, window_s * STORM_LONGER)
            figures["browsers"] = _told("browsers", await bench.browsers(readers, window_s))
            figures["gateway_rss_mb"] = rss_bytes(gateway.pid, peak=True) >> 20
            return figures


def _told(what: str, figures: dict[str, Any]) -> dict[str, Any]:
    say(f"  {what}: {figures}")
    return figures


class Bench:
    """The devices' voice, a bare reader of the stream, and a browser, at one gateway."""

    def __init__(self, gateway: Gateway, browser: Browser, city: BigCity, client: aiomqtt.Client) -> None:
        self._gateway = gateway
        self._browser = browser
        self._city = city
        self._client = client
        self._probe = 0
        self._lorries = 0
        self._said: dict[str, float] = {}
        self._raised: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._open = asyncio.Event()
        self._changes = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, gateway: Gateway, browser: Browser, city: BigCity) -> AsyncIterator[Bench]:
        """Connected to the broker and reading the stream."""
        assert gateway.broker is not None
        async with aiomqtt.Client("127.0.0.1", gateway.broker.port) as client:
            bench = cls(gateway, browser, city, client)
            reading = asyncio.create_task(bench._read(), name="stream")
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await bench._open.wait()
                yield bench
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    # ------------------------------------------------------------------------------------------ what happens outside

    async def night(self) -> None:
        """The alarms of a normal night, of two levels."""
        for _ in range(NIGHT // 5):
            await self._opened_cover()
        await self._lorries_pass(NIGHT - NIGHT // 5, HEAVY_T)

        async def there() -> bool:
            return self._changes >= NIGHT

        await wait_for(there, f"{NIGHT} alarms", PATIENCE_S)

    async def _opened_cover(self) -> str:
        """The next probe is opened; gives its alarm's id."""
        name = f"probe-{self._probe:05}"
        self._probe += 1
        if self._probe > self._city.probes:
            raise HarnessError(f"{self._city.probes} probes are too few")
        alarm = f"{name}/{OPENED}"
        self._said[alarm] = time.time()
        await self._say(cover(name), qos=1)
        return alarm

    async def _probes(self, count: int, every_s: float) -> list[str]:
        """So many are opened at uneven times; returns when the bare reader has heard of all."""
        draw = random.Random(count)
        names = []
        for _ in range(count):
            names.append(await self._opened_cover())
            await asyncio.sleep(every_s * draw.uniform(0.2, 1.8))

        async def all_heard() -> bool:
            return all(name in self._heard for name in names)

        await wait_for(all_heard, "every alarm was heard of", PATIENCE_S)
        return names

    async def _lorries_pass(self, count: int, tonnes: float) -> None:
        """So many bridges are crossed, one after the other: a bridge again when all were."""
        for _ in range(count):
            await self._say(lorry(f"bridge-{self._lorries % self._city.bridges:05}", tonnes))
            self._lorries += 1

    @asynccontextmanager
    async def _changing(self, rate: float, tonnes: float = HEAVY_T) -> AsyncIterator[None]:
        """Beside this, ``rate`` alarms a second change."""
        if not rate:
            yield
            return
        over = asyncio.Event()

        async def go() -> None:
            began, sent = time.monotonic(), 0
            while not over.is_set():
                due = int((time.monotonic() - began) * rate)
                await self._lorries_pass(due - sent, tonnes)
                sent = due
                await asyncio.sleep(TICK_S)

        task = asyncio.create_task(go(), name="changes")
        try:
            await asyncio.sleep(SETTLE_S)
            yield
        finally:
            over.set()  # not by cancelling: Python 3.11 can lose a cancellation inside a publish
            await task

    async def _say(self, message: tuple[str, bytes], qos: int = 0) -> None:
        await self._client.publish(*message, qos=qos)

    async def _read(self) -> None:
        async with aclosing(self._gateway.events()) as events:
            async for name, event in events:
                now = time.time()
                if name == "snapshot":
                    self._open.set()
                elif name == "alarm":
                    self._changes += 1
                    if event["to"] == "UNACK" and event["alarm_id"] in self._said:
                        self._heard.setdefault(event["alarm_id"], now)
                        self._raised.setdefault(event["alarm_id"], datetime.fromisoformat(event["at"]).timestamp())

    # -------------------------------------------------------------------------------------------------- what is seen

    @asynccontextmanager
    async def _page(self, path: str | None) -> AsyncIterator[Page]:
        """A page of a browser that has never been here; ``path`` None: it goes nowhere yet."""
        context = await signed_in(self._browser, self._gateway.base_url, self._gateway.token())
        try:
            context.set_default_timeout(PATIENCE_MS)
            await context.add_init_script(WATCH)
            page = await context.new_page()
            if path is not None:
                await page.goto(self._gateway.base_url + path, wait_until="commit")
            yield page
        finally:
            await context.close()

    async def first_load(self, times: int) -> dict[str, Any]:
        """Of the alarm list, by a browser with an empty cache."""
        rows, traffics = [], []
        for _ in range(times):
            async with self._page(None) as page:
                traffic = Traffic(await page.context.new_cdp_session(page))
                await traffic.begin()
                await page.goto(f"{self._gateway.base_url}/alarms", wait_until="commit")
                rows.append(await _first_row_s(page))
                await asyncio.sleep(SETTLE_S)
                traffics.append(traffic)
        return {
            "first_row_s": round(median(rows), 3),
            "slowest_s": round(max(rows), 3),
            "kilobytes": round(max(traffic.total for traffic in traffics) / 1000),
            "of_them_page": round(traffics[0].of("/assets/") / 1000),
            "of_them_directory": round(traffics[0].of("/api/v1/places") / 1000),
            "requests": traffics[0].requests,
        }

    async def map(self, times: int) -> dict[str, Any]:
        """From navigation until the clusters are drawn, and until a click on + has moved them."""
        drawn, answered, blocked = [], [], []
        for _ in range(times):
            async with self._page("/map") as page:
                found = await page.wait_for_function(MAP_DRAWN, polling="raf")
                drawn.append(await found.json_value() / 1000)
                blocked.append(await _busy(page))
                answered.append(await page.evaluate(ZOOM) / 1000)
        return {
            "interactive_s": round(median([one + more for one, more in zip(drawn, answered, strict=True)]), 2),
            "drawn_s": round(median(drawn), 2),
            "click_answered_s": round(median(answered), 3),
            "blocked_longest_ms": round(max(max(one, default=0) for one in blocked)),
        }

    async def calm(self) -> None:
        """Wait until the gateway has told its receivers of everything and does nothing any more."""
        busy = True
        while busy:
            spent = cpu_s(self._gateway.pid)
            await asyncio.sleep(CALM_S)
            busy = cpu_s(self._gateway.pid) - spent > CALM_SHARE * CALM_S

    async def flood(self) -> dict[str, Any]:
        """All covers are opened while a page looks on."""
        async with self._page("/alarms") as page:
            await _first_row_s(page)
            await page.evaluate("() => { busy.length = 0; }")
            began = time.monotonic()
            for number in range(self._city.covers):
                await self._say(cover(f"cover-{number:05}"))
            said = time.monotonic() - began
            await _count(page, self._city.covers)
            took = time.monotonic() - began
            busy = await _busy(page)
        await self.calm()
        return {
            "alarms": self._city.covers, "said_s": round(said, 2), "in_list_s": round(took, 2), **_blocked(busy, took),
        }  # fmt: skip

    async def beside_a_flood(self, probes: int, seconds: float) -> dict[str, Any]:
        """What one alarm takes when 20,000 rows stand, and how the page bears a storm of changes."""
        async with self._page("/alarms") as page:
            opened = await _first_row_s(page)
            await _count(page, self._city.covers)
            busy = await _busy(page)
            figures: dict[str, Any] = {
                "opened_in_a_flood": _told(
                    "opened in a flood", {"first_row_s": round(opened, 2), **_blocked(busy, opened)}
                ),
                "alarm_to_row": _told("alarm to row", await self._alarm_to_row(page, probes, 0)),
                "alarm_to_row_beside": _told("beside changes", await self._alarm_to_row(page, probes, BESIDE_PER_S)),
            }
            for name, scrolling in (("storm", False), ("storm_scrolled", True)):
                figures[name] = _told(name, await self._storm(page, seconds, scrolling=scrolling))
            figures["page_heap_mb"] = round(await page.evaluate("() => performance.memory.usedJSHeapSize") / 1e6)
        return figures

    async def _alarm_to_row(self, page: Page, probes: int, rate: float) -> dict[str, Any]:
        async with self._changing(rate):
            names = await self._probes(probes, EVERY_S)
            await asyncio.sleep(SETTLE_S)
        seen: dict[str, float] = await page.evaluate("() => Object.fromEntries(seen)")
        missing = [name for name in names if name not in seen]
        if missing:
            raise HarnessError(f"{len(missing)} rows were never there: {missing[:3]}")
        figures: dict[str, Any] = {"alarms": len(names), "rows": await _rows(page)}
        for word, begin in (("raise", self._raised), ("publish", self._said), ("stream", self._heard)):
            took = sorted(seen[name] / 1000 - begin[name] for name in names)
            figures |= {f"from_{word}_{key}": value for key, value in _percentiles(took).items()}
        return figures

    async def _storm(self, page: Page, seconds: float, *, scrolling: bool) -> dict[str, Any]:
        """Changes at the top of the list: every one moves all rows."""
        if scrolling:
            await page.evaluate(SCROLL)
        async with self._changing(STORM_PER_S, HEAVIER_T):
            await page.evaluate("() => { busy.length = 0; frames.length = 0; }")
            if not scrolling:
                await page.evaluate(FRAMES)
            before, began = self._changes, time.monotonic()
            await asyncio.sleep(seconds)
            took, changes = time.monotonic() - began, self._changes - before
            busy, frames = await _busy(page), sorted(await page.evaluate("() => frames"))
        return {
            "changes_per_s": round(changes / took),
            **_blocked(busy, took),
            "frame_p50_ms": round(percentile(frames, 0.5), 1),
            "frame_p95_ms": round(percentile(frames, 0.95), 1),
            "frame_longest_ms": round(frames[-1], 1),
        }

    async def browsers(self, count: int, seconds: float) -> dict[str, Any]:
        """What so many readers of the stream cost: windows without and with them in turn, each with beside its
        neighbours without."""
        await self.calm()
        without, beside, costs = [await self._window(seconds)], [], []
        for _ in range(TURNS):
            async with self._readers(count) as account:
                beside.append(await self._window(seconds))
                rss = rss_bytes(self._gateway.pid)
            without.append(await self._window(seconds))
            costs.append(beside[-1].cpu - (without[-1].cpu + without[-2].cpu) / 2)
        alone = sorted(took for window in without for took in window.delays)
        watched = sorted(took for window in beside for took in window.delays)
        return {
            "browsers": count,
            "changes_per_s": round(sum(window.changes for window in beside) / TURNS),
            "cpu_core_share": round(sum(costs) / TURNS, 3),
            "cpu_core_share_least": round(min(costs), 3),
            "cpu_core_share_most": round(max(costs), 3),
            "gateway_cpu_with": round(sum(window.cpu for window in beside) / len(beside), 3),
            "gateway_cpu_without": round(sum(window.cpu for window in without) / len(without), 3),
            "bystander_p99_ratio": round(percentile(watched, 0.99) / percentile(alone, 0.99), 2),
            **{f"bystander_with_{key}": value for key, value in _percentiles(watched).items()},
            **{f"bystander_without_{key}": value for key, value in _percentiles(alone).items()},
            "kilobytes_per_s_each": round(account["bytes_in_window"] / count / account["seconds"] / 1000, 1),
            "ended_early": account["ended"],
            "gateway_rss_mb_with": rss >> 20,
        }

    async def _window(self, seconds: float) -> Window:
        async with self._changing(BESIDE_PER_S):
            changes, cpu, began = self._changes, self._own_cpu_s(), time.monotonic()
            names = await self._probes(int(seconds / WINDOW_EVERY_S), WINDOW_EVERY_S)
            took = time.monotonic() - began
            share = (self._own_cpu_s() - cpu) / took
            rate = (self._changes - changes) / took
        return Window(share, rate, [self._heard[name] - self._said[name] for name in names])

    def _own_cpu_s(self) -> float:
        """Without the children that write snapshots: they come now and then, and cost more than the readers."""
        return cpu_s(self._gateway.pid) - children_cpu_s(self._gateway.pid)

    @asynccontextmanager
    async def _readers(self, count: int) -> AsyncIterator[dict[str, float]]:
        """A process of so many browsers' streams, each with a session of its own; filled with its account at the
        end."""
        cookies = await self._sessions(count)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.console_readers", self._gateway.base_url + STREAM, stdin=PIPE, stdout=PIPE,
            cwd=REPOSITORY, preexec_fn=die_with_parent,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        account: dict[str, float] = {}
        try:
            process.stdin.write("".join(f"{cookie}\n" for cookie in [*cookies, ""]).encode())
            opened = json.loads(await process.stdout.readline() or b"{}")
            if opened.get("open") != count:
                raise HarnessError("the browsers' streams do not open")
            began = time.monotonic()
            yield account
            process.stdin.close()
            last = json.loads(await process.stdout.readline() or b"{}")
            account |= {"seconds": time.monotonic() - began, "bytes_in_window": last["bytes"] - opened["bytes"], **last}
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _sessions(self, count: int) -> list[str]:
        url, token = self._gateway.base_url, self._gateway.token()
        headers = {"Origin": url, "X-Citywatch": "1"}
        cookies = []
        for _ in range(count):
            async with httpx.AsyncClient(
                trust_env=False, verify=False, timeout=10, base_url=url, headers=headers
            ) as client:
                answer = await client.post("/api/v1/session", json={"token": token})
                if answer.status_code >= 300:
                    raise HarnessError(f"signing in: {answer.status_code} {answer.text}")
                cookies.append("; ".join(f"{name}={value}" for name, value in answer.cookies.items()))
        return cookies


class Window:
    """Gateway CPU as a share of a core, changes a second, and what the bystander's alarms took."""

    def __init__(self, cpu: float, changes: float, delays: Sequence[float]) -> None:
        self.cpu = cpu
        self.changes = changes
        self.delays = delays


class Traffic:
    """Bytes as they came over the wire, by path."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._paths: dict[str, str] = {}
        self._bytes: dict[str, float] = {}

    async def begin(self) -> None:
        self._session.on("Network.responseReceived", self._response)
        self._session.on("Network.dataReceived", self._data)
        self._session.on("Network.loadingFinished", self._finished)
        await self._session.send("Network.enable")

    @property
    def total(self) -> float:
        return sum(self._bytes.values())

    @property
    def requests(self) -> int:
        return len(self._paths)

    def of(self, begin: str) -> float:
        return sum(size for key, size in self._bytes.items() if self._paths.get(key, "").startswith(begin))

    def _response(self, event: Mapping[str, Any]) -> None:
        self._paths[event["requestId"]] = urlsplit(event["response"]["url"]).path
        self._bytes.setdefault(event["requestId"], event["response"]["encodedDataLength"])

    def _data(self, event: Mapping[str, Any]) -> None:
        self._bytes[event["requestId"]] = self._bytes.get(event["requestId"], 0) + event["encodedDataLength"]

    def _finished(self, event: Mapping[str, Any]) -> None:
        self._bytes[event["requestId"]] = event["encodedDataLength"]  # headers and body, all in all


async def _first_row_s(page: Page) -> float:
    """Seconds from navigation until the first row had been drawn."""
    found = await page.wait_for_function("() => window.firstRow", polling=20)
    return float(await found.json_value()) / 1000


async def _rows(page: Page) -> int:
    return int(await page.locator('[role="treegrid"]').get_attribute("aria-rowcount") or "1") - 1


async def _count(page: Page, at_least: int) -> None:
    """Wait until the list has so many rows."""

    async def there() -> bool:
        return await _rows(page) >= at_least

    await wait_for(there, f"{at_least} rows", PATIENCE_S)


async def _busy(page: Page) -> list[float]:
    """Milliseconds of every long task (50 ms or more) that has ended."""
    return [duration for _, duration in await page.evaluate("() => busy")]


def _blocked(tasks: Sequence[float], seconds: float) -> dict[str, float]:
    return {
        "blocked_share": round(sum(tasks) / 1000 / seconds, 3),
        "blocked_longest_ms": round(max(tasks, default=0)),
        "long_tasks": len(tasks),
    }


def _percentiles(ordered: list[float]) -> dict[str, float]:
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: round(percentile(ordered, share) * 1e3, 1) for name, share in shares.items()}


if __name__ == "__main__":
    print(json.dumps(run()))
