"""Backtests over HTTP: a real process over readings that are kept, one at a time, ended when nobody wants it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from gateway import trials
from gateway.comparison import concerned
from gateway.config.bundle import read_rules
from gateway.config.rules import load_rules
from gateway.config.settings import Settings
from gateway.console.rule_port import BacktestState
from gateway.core.assets_json import to_json
from gateway.core.model import MINUTE, SECOND, Asset, AssetsChanged, Device, Micros, Quality, Reading
from gateway.core.records import Role
from gateway.historian.archive import Archive, clear_pictures
from gateway.historian.historian import Historian
from tests.console.city import Running, running
from tests.console.test_rules import Desk

BEGIN: Micros = 1_752_993_000 * SECOND  # 2025-07-20T06:30:00Z
ROADS = [Asset("road-1", "road"), Asset("road-2", "road"), Asset("lamp-9", "lamp")]
DEPTHS = [1.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0]
TIMES = {"since": "2025-07-20T06:30:00Z", "until": "2025-07-20T07:00:00Z"}


async def kept(data: Path, minutes: int = len(DEPTHS)) -> None:
    """Readings of two gauges, one of them always dry, and of a lamp."""
    historian = await Historian.open(data / "history")
    items = []
    for minute in range(minutes):
        at = BEGIN + minute * MINUTE
        values = (("road-1", "depth", DEPTHS[minute % len(DEPTHS)]), ("road-2", "depth", 0.0), ("lamp-9", "power", 5.0))
        batch = [
            Reading(asset, point, value, Quality.GOOD, at, at, asset, None, False, minute)
            for asset, point, value in values
        ]
        items.append((minute + 2, batch))
    await historian.append(items)
    await historian.close()


class Bench(Desk):
    async def ended(self, id_: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            found = await self.get(f"backtests/{id_}")
            if found["state"] not in ("waiting", "running"):
                return dict(found)
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def begin(self, **more: Any) -> str:
        body = {"rule": "road-depth", **TIMES, **more}
        answer = await self.ask("POST", "backtests", **body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    await kept(tmp_path)
    async with working(tmp_path) as (console, client):
        yield Bench(console, client, tmp_path)


class working:
    """A console whose trials run."""

    def __init__(self, data: Path) -> None:
        self._console = running(data)

    async def __aenter__(self) -> tuple[Running, httpx.AsyncClient]:
        console = await self._console.__aenter__()
        mounted = [Device(one.asset, one.asset, "generic/json-road", expected_interval=MINUTE) for one in ROADS[:2]]
        await console.gateway.commit(AssetsChanged(BEGIN, to_json(ROADS, mounted)))
        self._trials = asyncio.create_task(console.gateway.trials.run())  # type: ignore[attr-defined]
        self._client = console.client(Role.ENGINEER)
        client = await self._client.__aenter__()
        client.timeout = httpx.Timeout(60)
        return console, client

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(None, None, None)
        self._trials.cancel()
        await asyncio.gather(self._trials, return_exceptions=True)
        await self._console.__aexit__(*error)  # type: ignore[arg-type]


async def test_a_stricter_text_is_compared_with_the_rule_in_force(bench: Bench) -> None:
    text = (await bench.rule("road-depth"))["yaml"].replace("limit: 5 cm", "limit: 3 cm")
    id_ = await bench.begin(yaml=text)
    found = await bench.ended(id_)
    assert (found["state"], found["error"], found["progress"], found["who"]) == ("done", None, 1.0, "engineer-1")
    report = found["report"]
    assert report["readings"] == 2 * len(DEPTHS), "the lamp's are not heard: the rule does not speak of lamps"
    before, after = report["before"], report["after"]
    assert (before["raises"], after["raises"]) == (1, 1)
    assert (before["told"], after["told"]) == (1, 1)
    assert [(one["at"], one["alarm_id"], one["level"], one["value"], one["limit"]) for one in after["alarms"]] == [
        ("2025-07-20T06:33:00Z", "road-1/road-depth", "IV", 4.0, 3.0)
    ]
    assert before["alarms"][0]["at"] == "2025-07-20T06:39:00Z"
    assert after["periods"] == [1, 0, 0]
    assert before["levels"] == {"IV": 1}
    assert (report["assets"], report["others"]) == ([], [])
    assert (await bench.get("backtests"))[0] == found | {"report": None}
    assert pictures(bench.folder.parent.parent) == [], "nothing is left behind"
    assert (await bench.rule("road-depth"))["origin"] == "shipped"


async def test_where_and_for_whom_it_makes_a_difference_is_told(bench: Bench) -> None:
    text = (await bench.rule("raining"))["yaml"]
    wet = "- {rule: raining, applies_to: {kind: road}, when: {point: depth, above: 2 cm, deadband: 0 cm}}\n"
    found = await bench.ended(await bench.begin(rule="raining", yaml=wet))
    assert found["state"] == "done", found["error"]
    assert found["report"]["before"]["raises"] == 0, text
    assert found["report"]["after"]["raises"] == 2
    assert found["report"]["after"]["told"] == 0, "it names no response"
    assert found["report"]["assets"] == [{"asset": "road-1", "before": 0, "after": 2}]


async def test_a_rule_that_is_switched_off_or_on_trial_is_judged_all_the_same(bench: Bench) -> None:
    text = (await bench.rule("road-depth"))["yaml"].replace(
        "- rule: road-depth", "- rule: road-depth\n  enabled: false"
    )
    found = await bench.ended(await bench.begin(yaml=text, assets=["road-1"]))
    assert (found["report"]["before"]["raises"], found["report"]["after"]["raises"]) == (1, 1)
    assert found["report"]["readings"] == len(DEPTHS), "of the one asset that was asked for"
    assert found["assets"] == ["road-1"]


async def test_what_cannot_be_compared_is_refused_at_once(bench: Bench) -> None:
    text = (await bench.rule("road-depth"))["yaml"]
    wrong = await bench.refused("rule_mistakes", "POST", "backtests", rule="road-depth", yaml="- [", **TIMES)
    assert wrong["mistakes"]
    for since, until in (
        ("2025-07-20T07:00:00Z", "2025-07-20T06:00:00Z"),
        ("2025-01-01T00:00:00Z", "2025-07-01T00:00:00Z"),
    ):
        await bench.refused("invalid", "POST", "backtests", rule="road-depth", yaml=text, since=since, until=until)
    assert (await bench.ask("GET", "backtests/nothing")).status_code == 404
    assert (await bench.ask("DELETE", "backtests/nothing")).status_code == 404


async def test_one_runs_at_a_time_and_what_nobody_wants_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(tmp_path, 4000)
    async with working(tmp_path) as (console, client):
        bench = Bench(console, client, tmp_path)
        text = (await bench.rule("road-depth"))["yaml"]
        times = {"since": "2025-07-20T06:00:00Z", "until": "2025-07-30T00:00:00Z"}
        first, second, third = [await bench.begin(yaml=text, **times) for _ in range(3)]

        async def state(id_: str) -> str:
            return str((await bench.get(f"backtests/{id_}"))["state"])

        child = await process()
        assert await state(first) == "running"
        assert child.nice() >= 15
        assert (await state(second), await state(third)) == ("waiting", "waiting")
        assert (await bench.done("DELETE", f"backtests/{second}"))["state"] == "cancelled"
        assert (await bench.done("DELETE", f"backtests/{first}"))["state"] == "cancelled"
        assert (await bench.ended(third))["report"]["readings"] == 8000
        assert not child.is_running()
        assert pictures(tmp_path) == [], "nor is its picture there"
        assert [await state(one) for one in (first, second)] == ["cancelled", "cancelled"]
        assert (await bench.done("DELETE", f"backtests/{third}"))["state"] == "done", "ended is ended"
        monkeypatch.setattr(trials, "WAITING", 2)
        more = [await bench.ask("POST", "backtests", rule="road-depth", yaml=text, **times) for _ in range(5)]
        assert 503 in [answer.status_code for answer in more]


async def test_a_process_that_dies_is_told_as_failed_and_the_next_one_runs(bench: Bench) -> None:
    text = (await bench.rule("road-depth"))["yaml"]
    id_ = await bench.begin(yaml=text)
    (await process()).kill()
    found = await bench.ended(id_)
    assert found["state"] == "failed"
    assert "-9" in found["error"]
    assert (await bench.ended(await bench.begin(yaml=text)))["state"] == "done"


async def test_only_the_newest_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "KEPT", 3)
    text = (await bench.rule("road-depth"))["yaml"]
    ids = []
    for _ in range(5):
        ids.append(await bench.begin(yaml=text))
        assert (await bench.done("DELETE", f"backtests/{ids[-1]}"))["state"] == BacktestState.CANCELLED
    assert [one["id"] for one in await bench.get("backtests")] == ids[:1:-1]


def pictures(data: Path) -> list[Path]:
    return list(data.glob("picture-*"))


async def process() -> psutil.Process:
    """The trial that runs now."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process().children():
            if "gateway.trial_process" in child.cmdline():
                return child
        await asyncio.sleep(0.02)
    raise AssertionError("no process was started")


def test_a_change_concerns_what_asks_for_it_and_all_that_these_need() -> None:
    rules = load_rules(read_rules(Settings())[0])
    assert concerned("site-dust", rules) == {"site-dust"}
    assert concerned("lamp-out", rules) >= {"lamp-out", "lamp-out-row", "circuit-lost"}
    storm = concerned("storm-mode", rules)
    assert storm >= {"rain-sum", "manhole-open-water", "feeder-leakage", "road-depth"}
    assert "site-dust" not in storm
    assert concerned("road-depth", rules, others=False) == {"road-depth"}


async def test_an_archive_gives_the_readings_of_the_assets_one_asks_for(tmp_path: Path) -> None:
    await kept(tmp_path)
    until = BEGIN + 60 * MINUTE
    with Archive.open(tmp_path / "history") as archive:
        archive.only({"road-1", "nobody"})
        assert archive.count(BEGIN, until) == len(DEPTHS)
        found = [one for batch in archive.messages(BEGIN, until, 100) for message in batch for one in message]
        assert {one.asset for one in found} == {"road-1"}
        archive.only(())
        assert archive.count(BEGIN, until) == 0


def test_pictures_of_readers_that_are_gone_are_taken_away(tmp_path: Path) -> None:
    for name in ("picture-1-abc", "picture-999999999-abc", "picture-strange"):
        (tmp_path / name).mkdir()
    clear_pictures(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture-1-abc", "picture-strange"]
