"""What a chart asks, over a real historian: as many points as it has room for, from seconds to years, and the bad
stretches among them; and the bands of alarms behind it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.console.port import RawRow, StepRow
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Asset,
    AssetsChanged,
    Condition,
    Level,
    Micros,
    Quality,
    Reading,
    Transition,
)
from gateway.core.records import Role
from gateway.historian.catalog import DAY
from gateway.historian.compaction import Retention
from gateway.historian.historian import Historian
from tests.console.city import Running, record, running, step

MIDNIGHT: Micros = 20_000 * DAY
RETENTION = Retention(raw=5 * DAY, minutes=30 * DAY, hours=1000 * DAY)


def when(time: Micros) -> str:
    return datetime.fromtimestamp(time / SECOND, UTC).isoformat()


def power(time: Micros, value: float = 1.0, quality: Quality = Quality.GOOD) -> Reading:
    return Reading("lamp-1", "power", value, quality, time, time, "d-1")


@dataclass
class Chart:
    console: Running
    historian: Historian
    client: httpx.AsyncClient
    position: int = 0

    async def store(self, readings: Sequence[Reading]) -> None:
        self.position += 1
        await self.historian.append([(self.position, readings)])

    async def get(self, start: Micros, end: Micros, points: int = 800, **more: Any) -> Any:
        asked = {"asset": "lamp-1", "point": "power", "from": when(start), "to": when(end), "points": points, **more}
        answer = await self.client.get("/api/v1/readings", params=asked)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert len(found["items"]) <= points
        assert found["cursor"] is None
        return found


@contextlib.asynccontextmanager
async def chart(folder: Path) -> AsyncIterator[Chart]:
    """A console whose readings come from a real historian."""
    historian = await Historian.open(folder / "history", retention=RETENTION)
    try:
        async with running(folder) as console, console.client(Role.VIEWER) as client:

            async def readings(
                asset: str, point: str, start: Micros, end: Micros, step: Micros | None, limit: int
            ) -> Sequence[RawRow] | Sequence[StepRow]:
                if step is None:
                    samples = await historian.readings(asset, point, start, end, limit=limit)
                    return [RawRow(r.time, r.value, r.quality, r.reason) for r in samples]
                steps = await historian.readings(asset, point, start, end, step, limit=limit)
                return [StepRow(r.time, r.count, r.min, r.mean, r.max, r.last, r.bad) for r in steps]

            gateway: Any = console.gateway
            gateway.readings = readings
            gateway.resolution = historian.resolution
            yield Chart(console, historian, client)
    finally:
        await historian.close()


async def test_few_readings_are_given_as_they_are_and_many_as_steps_that_fit(tmp_path: Path) -> None:
    async with chart(tmp_path) as asked:
        await asked.store([power(MIDNIGHT + n * 10 * SECOND, n % 7) for n in range(8640)])
        minutes = await asked.get(MIDNIGHT, MIDNIGHT + HOUR)
        assert (minutes["step_s"], len(minutes["items"])) == (None, 360)
        assert minutes["items"][0] == {
            "time": when(MIDNIGHT)[:19] + "Z",
            "value": 0.0,
            "quality": "good",
            "reason": None,
        }
        for end, points, step_s in (
            (3 * HOUR, 800, 30),
            (12 * HOUR, 800, 60),
            (DAY, 800, 120),
            (DAY, 100, 1800),
            (DAY, 2, 86400),
            (20 * MINUTE, 60, 30),
        ):
            found = await asked.get(MIDNIGHT, MIDNIGHT + end, points)
            assert found["step_s"] == step_s, (end, points)
            assert sum(item["count"] for item in found["items"]) == end // (10 * SECOND)
            assert found["items"][0]["min"] == 0.0
        nothing = await asked.get(MIDNIGHT + 9 * DAY, MIDNIGHT + 10 * DAY)
        assert (nothing["items"], nothing["bad"]) == ([], [])


async def test_years_back_a_chart_is_drawn_from_what_is_still_kept(tmp_path: Path) -> None:
    """Raw readings are kept for 5 days here, minutes for 30, hours for 1,000."""
    async with chart(tmp_path) as asked:
        days = (0, 380, 399)
        for day in days:
            await asked.store([power(MIDNIGHT + day * DAY + n * MINUTE, day) for n in range(0, 1440, 2)])
        now = MIDNIGHT + 400 * DAY + 2 * HOUR
        await asked.historian._run(asked.historian._writer, asked.historian._seal)
        for hour in range(4):
            await asked.historian.compact(now + hour * HOUR)
        await asked.historian.retain(now)
        old = await asked.get(MIDNIGHT + 6 * HOUR, MIDNIGHT + 8 * HOUR)
        assert old["step_s"] == 3600
        assert [(item["count"], item["mean"]) for item in old["items"]] == [(30, 0.0), (30, 0.0)]
        month = await asked.get(MIDNIGHT + 380 * DAY, MIDNIGHT + 380 * DAY + HOUR)
        assert (month["step_s"], len(month["items"])) == (60, 30), "no raw ones any more, but minutes"
        new = await asked.get(MIDNIGHT + 399 * DAY, MIDNIGHT + 399 * DAY + HOUR)
        assert (new["step_s"], len(new["items"])) == (None, 30)
        everything = await asked.get(MIDNIGHT, now)
        assert everything["step_s"] == 86400
        assert [(item["count"], item["last"]) for item in everything["items"]] == [(720, 0), (720, 380), (720, 399)]
        decades = await asked.get(MIDNIGHT - 20_000 * DAY, now, 2)
        assert sum(item["count"] for item in decades["items"]) == 2160


async def test_bad_stretches_are_told_in_readings_and_in_steps(tmp_path: Path) -> None:
    async with chart(tmp_path) as asked:
        bad = {60, 70, 80, 300, *range(600, 660)}
        given = [
            power(MIDNIGHT + s * SECOND, 1.0, Quality.BAD if s in bad else Quality.GOOD) for s in range(0, 900, 10)
        ]
        await asked.store(given)

        def spans(found: Any) -> list[tuple[float, float, int]]:
            def seconds(text: str) -> float:
                return datetime.fromisoformat(text).timestamp() - MIDNIGHT / SECOND

            return [(seconds(one["from"]), seconds(one["to"]), one["readings"]) for one in found["bad"]]

        raw = await asked.get(MIDNIGHT, MIDNIGHT + 900 * SECOND)
        assert raw["step_s"] is None
        assert [item["quality"] for item in raw["items"]].count("bad") == 10
        assert spans(raw) == [(60, 90, 3), (300, 310, 1), (600, 660, 6)]
        steps = await asked.get(MIDNIGHT, MIDNIGHT + 900 * SECOND, 20)
        assert steps["step_s"] == 60
        assert spans(steps) == [(60, 120, 3), (300, 360, 1), (600, 660, 6)]
        assert [item["count"] for item in steps["items"]] == [6, 3, 6, 6, 6, 5, 6, 6, 6, 6, 0, 6, 6, 6, 6]
        assert steps["items"][10]["mean"] is None
        await asked.store([power(MIDNIGHT + 3600 * SECOND, 1.0, Quality.BAD)])
        last = await asked.get(MIDNIGHT + 1000 * SECOND, MIDNIGHT + 2 * HOUR)
        assert spans(last) == [(3600, 3600, 1)], "nobody knows for how long"


async def test_points_stand_alone(tmp_path: Path) -> None:
    async with chart(tmp_path) as asked:
        for query in ("points=800&step=1m", "points=800&cursor=1.1", "points=1", "points=5001"):
            answer = await asked.client.get(f"/api/v1/readings?asset=lamp-1&point=power&{query}")
            assert answer.json()["code"] == "invalid", query


async def test_steps_that_are_asked_for_by_width_come_in_pages_as_before(tmp_path: Path) -> None:
    async with chart(tmp_path) as asked:
        await asked.store([power(MIDNIGHT + n * MINUTE, n) for n in range(60)])
        query = {
            "asset": "lamp-1",
            "point": "power",
            "from": when(MIDNIGHT),
            "to": when(MIDNIGHT + HOUR),
            "step": "10m",
        }
        page = (await asked.client.get("/api/v1/readings", params={**query, "limit": 4})).json()
        rest = (await asked.client.get("/api/v1/readings", params={**query, "cursor": page["cursor"]})).json()
        assert [item["max"] for item in page["items"] + rest["items"]] == [9, 19, 29, 39, 49, 59]
        assert (page["step_s"], rest["cursor"]) == (600, None)


# -- bands --------------------------------------------------------------------------------------------------------


def at(seconds: int, transition: Transition) -> Transition:
    return msgspec.structs.replace(transition, at=MIDNIGHT + seconds * SECOND)


async def test_bands_are_those_of_the_alarms_that_look_at_the_point(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        up, other = record("lamp-1"), record("lamp-1", "lamp-offline", level=Level.IV)
        down = record("lamp-1", rev=2, cond=Condition.NORMAL)
        await console.gateway.commit(at(10, step(up)), at(20, step(other)), at(100, step(down, up, "T6")))
        query = {"from": when(MIDNIGHT), "to": when(MIDNIGHT + HOUR)}
        path = "/api/v1/assets/lamp-1/alarm-bands"
        found = (await client.get(path, params=query)).json()
        assert found["cut"] is False
        first, second = found["items"]
        assert first == {
            "alarm_id": "lamp-1/lamp-out",
            "rule": "lamp-out",
            "title": {"zh": "路灯熄灭", "en": "Lamp out"},
            "level": "III",
            "from": when(MIDNIGHT + 10 * SECOND)[:19] + "Z",
            "to": when(MIDNIGHT + 100 * SECOND)[:19] + "Z",
        }
        assert (second["rule"], second["to"]) == ("lamp-offline", None)
        ours = (await client.get(path, params={**query, "point": "power"})).json()["items"]
        assert [band["rule"] for band in ours] == ["lamp-out"]
        assert (await client.get(path, params={**query, "point": "voltage"})).json()["items"] == []
        assert (await client.get("/api/v1/assets/nothing/alarm-bands")).status_code == 404
        assert (await client.get(path, params={"from": query["to"], "to": query["from"]})).status_code == 422


async def test_an_asset_tells_what_it_names_and_what_names_it(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        lamps = [Asset(f"l{n:03d}", "lamp", f"{n} 号灯", links={"feeder": "F9", "area": "gone"}) for n in range(250)]
        assets = [Asset("F9", "feeder", "九号箱", links={"network": "net"}), Asset("net", "network"), *lamps]
        await console.gateway.commit(AssetsChanged(MIDNIGHT, msgspec.json.encode({"assets": assets, "devices": []})))
        feeder = (await client.get("/api/v1/assets/F9")).json()
        assert feeder["parents"] == [{"link": "network", "asset": "net", "kind": "network", "name": ""}]
        assert (len(feeder["children"]), feeder["children_total"]) == (200, 250)
        assert feeder["children"][0] == {"link": "feeder", "asset": "l000", "kind": "lamp", "name": "0 号灯"}
        lamp = (await client.get("/api/v1/assets/l001")).json()
        assert [parent["asset"] for parent in lamp["parents"]] == ["F9"]
        assert (lamp["links"], lamp["children_total"]) == ({"feeder": "F9", "area": "gone"}, 0)
