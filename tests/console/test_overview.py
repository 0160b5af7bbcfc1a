"""The overview: every figure is counted as its description says, for the whole city and for a part of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.console import overview, shared
from gateway.console.overview import CityOverview, percent
from gateway.console.port import StepRow
from gateway.console.shared import Shared
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Asset,
    AssetsChanged,
    Condition,
    IsaState,
    Level,
    OutOfService,
    Quality,
    Shelve,
)
from gateway.core.processor import Processor
from gateway.core.records import EVERYWHERE, Scope
from gateway.live_city import LiveCity
from tests.console.city import START, Running, holding, real_city, record, running, says, step, tick


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHARED_S", 0.0)
    monkeypatch.setattr(shared, "COST", 0.0)


async def look(console: Running, processor: Processor | None = None) -> Any:
    if processor is not None:
        console.gateway.processor = processor
    async with console.client() as client:
        answer = await client.get("/api/v1/overview")
        assert answer.status_code == 200, answer.text
        return answer.json()


def lamps(count: int, **attributes: float) -> list[Asset]:
    return [
        Asset(f"l{n}", "lamp", links={"feeder": "F"}, attributes={"rated_power": 100.0, **attributes})
        for n in range(count)
    ]


async def test_alarms_are_counted_by_level_and_state(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        await console.gateway.commit(
            step(record("a", level=Level.I)),
            step(record("b", level=Level.I, acked=True)),
            step(record("c", level=Level.II, cond=Condition.NORMAL)),
            step(record("d", level=Level.II, shelve=Shelve.TIMED)),
            step(record("e", level=Level.III, suppressed_by=("x",))),
            step(record("f", level=Level.IV, out_of_service=OutOfService("w", "b", "r", START))),
            step(record("g", level=Level.IV, shadow=True)),
        )
        found = await look(console)
        names = ("unacknowledged", "acknowledged", "returned", "shelved", "suppressed", "out_of_service")
        assert {row["level"]: [row[name] for name in names] for row in found["alarms"]} == {
            "I": [1, 1, 0, 0, 0, 0],
            "II": [0, 0, 1, 1, 0, 0],
            "III": [0, 0, 0, 0, 1, 0],
            "IV": [0, 0, 0, 0, 0, 1],
        }
        assert {alarm["asset"] for alarm in found["newest"]} == {"a", "b", "c"}, "those that are told"


async def test_the_newest_alarms_come_first_and_are_twelve(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        steps = [step(record(f"a{n:02d}", detected_at=START + (n * 7 % 40) * SECOND)) for n in range(40)]
        await console.gateway.commit(*steps)
        found = await look(console)
        times = [alarm["detected_at"] for alarm in found["newest"]]
        assert len(times) == 12
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("count", "dark", "share", "good"),
    [(100, 3, 97.0, False), (100, 2, 98.0, True), (50, 1, 98.0, True), (49, 1, 97.95, False)],
)
async def test_lamps_lit_are_compared_before_they_are_rounded(
    tmp_path: Path, count: int, dark: int, share: float, good: bool
) -> None:
    """The sums of the domain: 48 of 49 lamps are 97.96 %, and no 98; the figure shown is not rounded up to it."""
    processor = real_city(lamps(count))
    for n in range(count):
        says(processor, f"l{n}", cmd_on=True, power=0.4 if n < dark else 95.0)
    async with running(tmp_path) as console:
        found = (await look(console, processor))["lamps"]
        assert (found["should_be_lit"], found["lit"], found["dark"]) == (count, count - dark, dark)
        assert (found["lit_share"], found["on_target"], found["target"]) == (share, good, 98.0)


async def test_a_lamp_is_lit_by_what_it_takes_not_by_what_its_relay_says(tmp_path: Path) -> None:
    street = [*lamps(8), Asset("F", "feeder"), Asset("old", "lamp", attributes={"rated_current": 0.5})]
    street.append(Asset("county", "area", attributes={"lit_share_min": 40.0}))
    processor = real_city(street)
    says(processor, "F", cmd_on=True, mains=True)
    says(processor, "l0", cmd_on=True, power=20.0)  # 20 % of rated power
    says(processor, "l1", cmd_on=True, on=True, power=19.0)
    says(processor, "l2", cmd_on=True, power=11.0, dim=50.0)  # dimmed to half
    says(processor, "l3", cmd_on=False, power=95.0)  # switched off by plan
    says(processor, "l4", cmd_on=True, on=True)  # says nothing of what it takes
    says(processor, "l5", cmd_on=True)
    says(processor, "l5", Quality.BAD, power=95.0)  # … and what it says cannot be believed
    says(processor, "l6", power=95.0)  # is asked what its feeder is
    says(processor, "old", cmd_on=True, current=0.4)
    async with running(tmp_path) as console:
        await console.gateway.commit(
            step(record("l7", out_of_service=OutOfService("w", "b", "r", START))),
        )
        found = (await look(console, processor))["lamps"]
        assert (found["total"], found["out_of_service"], found["should_be_lit"]) == (9, 1, 7)
        assert (found["lit"], found["dark"], found["unknown"]) == (4, 1, 2)
        assert (found["lit_share"], found["lit_share_observed"], found["coverage"]) == (57.14, 80.0, 71.42)
        assert (found["target"], found["on_target"]) == (40.0, True)


async def test_a_silent_lamp_counts_as_dark_while_its_feeder_is_on(tmp_path: Path) -> None:
    """It was heard by day, commanded off; then it fell silent. The feeder has been switched on since."""
    processor = real_city([*lamps(2), Asset("F", "feeder")])
    for n in range(2):
        says(processor, f"l{n}", cmd_on=False, power=0.0)
    tick(processor, START + 10 * MINUTE)
    says(processor, "F", cmd_on=True, mains=True)
    says(processor, "l1", cmd_on=True, power=95.0)
    async with running(tmp_path) as console:
        found = (await look(console, processor))["lamps"]
        assert (found["should_be_lit"], found["lit"], found["unknown"], found["lit_share"]) == (2, 1, 1, 50.0)


async def test_by_day_there_is_no_share(tmp_path: Path) -> None:
    processor = real_city(lamps(3))
    for n in range(3):
        says(processor, f"l{n}", cmd_on=False, power=0.0)
    async with running(tmp_path) as console:
        found = (await look(console, processor))["lamps"]
        assert (found["should_be_lit"], found["lit_share"], found["on_target"]) == (0, None, None)


async def test_feeders_without_supply_are_those_that_say_so_or_whose_circuit_is_lost(tmp_path: Path) -> None:
    processor = real_city([Asset(f"F{n}", "feeder") for n in range(4)] + [Asset("CAB", "cabinet")])
    says(processor, "F0", mains=False)
    says(processor, "F1", mains=True, contactor=False, cmd_on=True)
    says(processor, "F2", mains=True, contactor=False, cmd_on=False)
    says(processor, "CAB", mains=True)
    async with running(tmp_path) as console:
        await console.gateway.commit(step(record("F3", "circuit-lost")), step(record("F2", "feeder-leakage")))
        found = (await look(console, processor))["lamps"]
        assert (found["feeders"], found["feeders_without_supply"]) == (5, 3)


async def test_covers_lie_as_they_say_or_as_they_tilt(tmp_path: Path) -> None:
    covers = [Asset(f"c{n}", "manhole", attributes={"tilt_limit": 5.0} if n == 6 else {}) for n in range(9)]
    processor = real_city(covers)
    says(processor, "c0", cover="closed", water=True)
    says(processor, "c1", cover="open")
    says(processor, "c2", cover="missing")
    says(processor, "c3", cover="ajar")
    says(processor, "c4", tilt=44.0)
    says(processor, "c5", tilt=45.0)
    says(processor, "c6", tilt=6.0)  # its own limit
    says(processor, "c7", tilt=6.0)
    async with running(tmp_path) as console:
        found = (await look(console, processor))["covers"]
        counts = {"open": 2, "missing": 1, "moved": 3, "unknown": 1, "water_high": 1}
        assert found == {"total": 9, **counts}


async def test_pumps_run_stand_by_or_fail_and_wells_fill(tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"L6": 4.0, "pumps": 3}
    processor = real_city([Asset(f"ps{n}", "pump", f"泵站 {n}", attributes=attributes) for n in range(15)])
    says(processor, "ps0", p1_run=True, p1_auto=True, p1_fault=False, p2_run=False, p2_auto=True, p3_run=False)
    says(processor, "ps1", p1_run=True, p1_fault=True, p2_run=False, p2_auto=False, mains=False)
    for n in range(15):
        says(processor, f"ps{n}", wetwell=n / 4)
    says(processor, "ps14", Quality.BAD, wetwell=9.0)
    async with running(tmp_path) as console:
        found = (await look(console, processor))["pumps"]
        assert (found["stations"], found["stations_without_supply"], found["stations_silent"]) == (15, 1, 0)
        assert {name: found[name] for name in ("pumps", "running", "standby", "manual", "failed")} == {
            "pumps": 5,
            "running": 1,
            "standby": 2,
            "manual": 1,
            "failed": 1,
        }
        levels = found["levels"]
        assert len(levels) == 12
        assert levels[0] | {"trend": None} == {
            "asset": "ps13",
            "name": "泵站 13",
            "kind": "pump",
            "value": 3.25,
            "limit": 4.0,
            "unit": "m",
            "share": 0.8125,
            "trend": None,
        }


async def test_a_level_has_a_trend_when_it_was_watched_for_minutes() -> None:
    class Gateway:
        def now(self) -> int:
            return 0

    gateway: Any = Gateway()
    look_at = CityOverview(gateway)
    asset = Asset("ps", "pump")

    def share(value: float) -> Any:
        return overview.Share("wetwell", value, 4.0, "m")

    trends = []
    for minute, value in enumerate([1.0, 1.01, 1.02, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.2]):
        counts: Any = overview._Counts(wells=[(asset, share(value))])
        look_at._remember(counts, minute * MINUTE)
        trends.append(look_at._trend("ps", share(value), minute * MINUTE))
    assert trends == [None, None, "steady", "rising", "rising", "rising", "rising", "rising", "steady", "falling"]


async def test_drains_rain_and_bridges_show_the_worst_first(tmp_path: Path) -> None:
    bridge: dict[str, Any] = {"design_strain": 180.0, "design_deflection": 12.0}
    processor = real_city(
        [
            Asset("p1", "pipe"),
            Asset("p2", "pipe"),
            Asset("r1", "road"),
            Asset("g1", "rain"),
            Asset("g2", "rain"),
            Asset("b1", "bridge", attributes=bridge),
            Asset("b2", "bridge", attributes=bridge),
            Asset("b3", "bridge"),
        ]
    )
    says(processor, "p1", fill=100.0)
    says(processor, "p2", fill=40.0)
    says(processor, "r1", depth=30.0)
    says(processor, "g1", intensity=12.0, rain_1h=3.0)
    says(processor, "g2", intensity=0.0, rain_1h=8.0)
    says(processor, "b1", strain_mean=90.0, deflection=-9.0)
    says(processor, "b2", strain=18.0)
    says(processor, "b3", strain=18.0)
    async with running(tmp_path) as console:
        console.gateway.rows = [StepRow(console.gateway.now() - HOUR, 4, 0.0, 2.5, 5.0, 1.0)]
        now = console.gateway.now()
        bridges = {"assets": [Asset("b1", "bridge"), Asset("b2", "bridge")], "devices": []}
        await console.gateway.commit(AssetsChanged(now, msgspec.json.encode(bridges)))
        await console.gateway.commit(
            step(record("b1", "bridge-overload", kind="bridge", rev=1), at=now - HOUR, cause="T26"),
            step(record("b1", "bridge-overload", kind="bridge", rev=2), at=now - HOUR, cause="T7"),
            step(record("b1", "bridge-overload", kind="bridge", rev=3), at=now - HOUR, cause="T10"),
            step(record("b2", "bridge-overload", kind="bridge", rev=1), at=now - 25 * HOUR, cause="T26"),
            step(record("b2", "bridge-strain", kind="bridge", rev=1), at=now - HOUR),
        )
        found = await look(console, processor)
        assert {name: found["drains"][name] for name in ("pipes", "surcharged", "roads", "flooded")} == {
            "pipes": 2,
            "surcharged": 1,
            "roads": 1,
            "flooded": 1,
        }
        assert [(row["asset"], row["share"]) for row in found["drains"]["levels"]] == [
            ("r1", 2.0),
            ("p1", 1.0),
            ("p2", 0.4),
        ]
        rain = found["rain"]
        assert (rain["total"], rain["raining"], rain["intensity"], rain["last_hour"]) == (2, 1, 12.0, 8.0)
        assert [(row["asset"], row["last_hour"], row["last_24_h"]) for row in rain["gauges"]] == [
            ("g2", 8.0, 10.0),
            ("g1", 3.0, 10.0),
        ]
        bridges = found["bridges"]
        assert (bridges["total"], bridges["overweight_24_h"]) == (3, 2)
        assert [(row["asset"], row["point"], row["share"]) for row in bridges["worst"]] == [
            ("b1", "deflection", 0.75),
            ("b2", "strain", 0.1),
        ]


async def test_kinds_devices_and_the_gateway_itself(tmp_path: Path) -> None:
    assets = [Asset(f"gas{n}", "gas") for n in range(3)] + [Asset("w", "water"), Asset("bare", "heat")]
    processor = real_city(assets)
    tick(processor, START + 10 * MINUTE)
    says(processor, "gas0", gas=1.0)
    async with running(tmp_path) as console:
        await console.gateway.commit(
            step(record("gas1", level=Level.II)),
            step(record("gas1", "other", level=Level.I, shelve=Shelve.TIMED)),
            step(record("w", shelve=Shelve.TIMED)),
        )
        found = await look(console, processor)
        kinds = {row.pop("kind"): row for row in found["kinds"]}
        assert kinds["gas"] == {"total": 3, "in_alarm": 1, "worst_level": "II", "silent": 1}
        assert kinds["water"] == {"total": 1, "in_alarm": 0, "worst_level": None, "silent": 0}
        gateway = found["gateway"]
        assert gateway["devices"] == {"expected": 5, "online": 1, "online_share": 20.0}
        assert (gateway["ok"], gateway["reasons"], gateway["waiting"]) == (True, [], 0)
        console.gateway.healthy = False
        assert (await look(console))["gateway"]["reasons"] == ["journal: disk full"]
        assert found["load"] == {"alarms_10_min": 0, "flood": None}


async def test_a_part_of_the_city_is_counted_by_itself(tmp_path: Path) -> None:
    processor = real_city(
        [Asset("a", "gas", town="梁山"), Asset("b", "gas", town="水泊"), Asset("c", "pump", town="水泊")]
    )
    async with running(tmp_path) as console:
        console.gateway.processor = processor
        await console.gateway.commit(step(record("a")), step(record("b", level=Level.I)))
        found = await CityOverview(console.gateway).view(Scope(towns=("水泊",)))
        assert found["assets"] == 2
        assert [alarm["asset"] for alarm in found["newest"]] == ["b"]
        assert [row["unacknowledged"] for row in found["alarms"]] == [1, 0, 0, 0]
        assert found["gateway"]["devices"]["expected"] == 2


async def test_who_asks_together_shares_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHARED_S", 60.0)
    looks = []

    async def make(scope: Scope, before: int | None) -> int:
        looks.append(scope)
        await asyncio.sleep(0.01)
        return len(looks)

    one = Shared(make)
    assert await asyncio.gather(*(one.get(EVERYWHERE) for _ in range(50))) == [1] * 50
    assert await one.get(Scope(kinds=("gas",))) == 2
    assert await one.get(EVERYWHERE) == 1


async def test_a_look_that_takes_long_is_kept_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "COST", 20.0)
    looks = []

    async def make(scope: Scope, before: int | None) -> int:
        looks.append(scope)
        await asyncio.sleep(0.05)
        return len(looks)

    one = Shared(make)
    began = time.monotonic()
    for _ in range(500):
        if await one.get(EVERYWHERE) > 1:
            break
        await asyncio.sleep(0.02)
    assert 0.9 < time.monotonic() - began < 9


async def test_the_hours_are_full_ones_and_an_hour_that_is_over_is_asked_for_once(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        now = console.gateway.now()
        this = now - now % HOUR
        await console.gateway.commit(
            step(record("a", level=Level.I), at=this - 2 * HOUR),
            step(record("b", level=Level.II), at=this - 2 * HOUR + 1),
            step(record("c", level=Level.II), at=this - 1),
            step(record("d", level=Level.IV), at=this),
            step(record("e"), at=this, notify=False),  # shelved, say
            step(record("a", level=Level.I, rev=2), at=this, cause="T10"),  # an acknowledgement
        )

        async def counts(query: str = "") -> list[list[int]]:
            answer = (await client.get(f"/api/v1/overview/history{query}")).json()
            assert answer["hours"][-1]["at"] <= answer["until"]
            return [list(hour["counts"].values()) for hour in answer["hours"]]

        assert (await counts("?hours=3")) == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
        day = await counts()
        assert len(day) == 24
        assert sum(map(sum, day)) == 4
        await console.gateway.commit(step(record("f", level=Level.III), at=this + 1))
        assert (await counts("?hours=2")) == [[0, 1, 0, 0], [0, 0, 1, 1]]
        assert (await client.get("/api/v1/overview/history?hours=0")).status_code == 422
        assert (await client.get("/api/v1/overview/history?hours=200")).status_code == 422


def test_shares_are_never_rounded_up() -> None:
    assert percent(9799, 10_000) == 97.99
    assert percent(97_999, 100_000) == 97.99
    assert percent(1, 3) == 33.33
    assert percent(3, 3) == 100.0
    assert percent(0, 0) is None


async def test_fifty_thousand_assets_are_looked_at_in_slices() -> None:
    class Gateway:
        def __init__(self, city: LiveCity) -> None:
            self.city = city

    street = [*lamps(49_000), *(Asset(f"c{n}", "manhole") for n in range(1000))]
    processor = real_city(street)
    assert processor.engine is not None
    for asset in street[:49_000:7]:
        says(processor, asset.asset, cmd_on=True, power=95.0, dim=100.0)
    city = LiveCity(lambda: processor)
    assert len(city.standing) == 0
    city.count([step(record(asset.asset)) for asset in street[:20_000]])
    gateway: Any = Gateway(city)
    async with holding() as held:
        counts = await CityOverview(gateway)._look(city, EVERYWHERE)
    assert counts.alarms == {(Level.III, IsaState.UNACK): 20_000}
    assert counts.lamps[overview.Lamp.LIT] == 7_000
    assert sorted(held)[-3] < 0.025, "4 ms on two quiet cores; the collector has its own moments in a test"
