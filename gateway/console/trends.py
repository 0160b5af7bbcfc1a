"""The past of an asset over HTTP: readings of a point at any width, the bad stretches among them, when alarms stood."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from gateway.console import models, views
from gateway.console.gate import in_scope
from gateway.console.paging import Cursor
from gateway.console.port import ConsolePort, RawRow, StepRow
from gateway.console.problems import Problem
from gateway.core.bands import Band
from gateway.core.model import HOUR, MINUTE, SECOND, Asset, Micros, Quality
from gateway.core.records import MAX_PAGE, AlarmFilter
from gateway.core.vocabulary import unit_of
from gateway.errors import Unavailable

MAX_READINGS = 10_000  # a week of minutes; a page of raw ones is about 1 MB
DAY: Micros = 24 * HOUR
MAX_STEPS = 100_000  # from…to in steps: a month of minutes twice over
MAX_POINTS = 5_000  # more than a wall of screens has columns
QUERIES = 4  # readings queries at once: the historian has other work
QUERY_S = 10.0
MAX_BAND_STEPS = 2_000  # recorded steps that bands are made of: twenty changes a day for a quarter

# Widths a chart may get. All from a minute on are told by rollups of minutes, from an hour on by those of hours.
WIDTHS: tuple[Micros, ...] = (
    *(n * SECOND for n in (10, 30)),
    *(n * MINUTE for n in (1, 2, 5, 10, 30)),
    *(n * HOUR for n in (1, 2, 6)),
    *(n * DAY for n in (1, 7, 30, 365)),
)

_STEP = re.compile(r"^(\d{1,9})(s|m|h|d)$")
_STEP_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}

From = Annotated[str | None, Query(alias="from", max_length=40, description="ISO 8601 with zone; default to − 24 h.")]
To = Annotated[str | None, Query(max_length=40, description="ISO 8601 with zone, not included; default now.")]


class StepView(models.Out):
    """One step: of its ``count`` readings that say something, and how many ``bad`` ones there were beside."""

    time: models.Time
    count: int
    min: float | None
    mean: float | None
    max: float | None
    last: models.Scalar
    bad: int


class BadView(models.Out):
    """Bad readings in a row, or steps in a row that hold some: from the first until the next one that is none."""

    from_: models.Time = Field(alias="from")
    to: models.Time
    readings: int


class ReadingsView(models.Out):
    """Readings of one point, oldest first; ``step_s`` is null for raw ones. ``bad``: stretches of bad quality among
    them."""

    asset: str
    point: str
    unit: str | None
    step_s: float | None
    items: list[models.RawView] | list[StepView]
    bad: list[BadView]
    cursor: str | None = None


class BandView(models.Out):
    """An alarm stood with one level. ``to`` null: beyond the time that was asked for. An event has no length."""

    alarm_id: str
    rule: str
    title: models.Title
    level: models.LevelName
    from_: models.Time = Field(alias="from")
    to: models.Time | None


class BandsView(models.Out):
    """``cut``: there is more than can be told at once; the bands end early."""

    items: list[BandView]
    cut: bool


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["trends"])
    records = gateway.records
    querying = asyncio.Semaphore(QUERIES)

    async def existing(request: Request, asset_id: str) -> Asset:
        row = await records.asset(asset_id)
        if row is None or not in_scope(request, row.asset):
            raise Problem("not_found", f"there is no asset {asset_id!r}")
        return row.asset

    def period(since: str | None, until: str | None) -> tuple[Micros, Micros]:
        end = _time(until, "to") if until is not None else gateway.now() + 1
        start = _time(since, "from") if since is not None else end - DAY
        if start > end:
            raise Problem("invalid", "from is later than to")
        return start, end

    async def ask(
        asset: str, point: str, start: Micros, end: Micros, step: Micros | None, limit: int
    ) -> list[RawRow | StepRow]:
        """The historian's answer; raises Unavailable rather than letting questions pile up."""
        try:
            async with asyncio.timeout(QUERY_S), querying:
                return list(await gateway.readings(asset, point, start, end, step, limit))
        except TimeoutError as error:
            raise Unavailable("the historian is busy with other questions") from error

    async def fitting(
        asset: str, point: str, start: Micros, end: Micros, points: int
    ) -> tuple[Micros | None, list[RawRow | StepRow]]:
        """At most ``points`` rows for start … end: the readings themselves while they are few enough and still kept,
        else the narrowest steps that are; and how wide these are."""
        kept = await gateway.resolution(start, end)
        width = max(kept, next((w for w in WIDTHS if _steps(start, end, w) <= points), WIDTHS[-1]))
        rows = await ask(asset, point, start, end, width, MAX_POINTS)
        while len(rows) > points:  # a few points for many years
            width = width * 2
            rows = await ask(asset, point, start, end, width, MAX_POINTS)
        told = sum(row.count + row.bad for row in rows if isinstance(row, StepRow))
        if kept == 0 and told <= 2 * points:  # the steps reach a little beyond both ends
            raw = await ask(asset, point, start, end, None, points + 1)
            if len(raw) <= points:
                return None, raw
        return width, rows

    @router.get("/readings", response_model=ReadingsView)
    async def readings(
        request: Request,
        asset: Annotated[str, Query(max_length=200)],
        point: Annotated[str, Query(max_length=64)],
        from_: From = None,
        to: To = None,
        step: Annotated[
            str | None, Query(max_length=20, description="10s, 1m, 1h, 1d …; raw readings when left out.")
        ] = None,
        points: Annotated[
            int | None,
            Query(
                ge=2,
                le=MAX_POINTS,
                description="Instead of `step`: as many rows as a chart has room for. Raw readings when they are few "
                "enough and still kept, else steps of 10 s to a year.",
            ),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_READINGS)] = 1000,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Readings of one point, oldest first: raw, or count, min, mean, max and last of every step. Steps are told by
        minute and hour values where the readings themselves are no longer kept."""
        found = await existing(request, asset)
        start, end = period(from_, to)
        answer = {"asset": asset, "point": point, "unit": unit_of(found.kind, point)}
        if points is not None:
            if step is not None or cursor is not None:
                raise Problem("invalid", "points goes with neither step nor cursor: everything comes at once")
            width, rows = await fitting(asset, point, start, end, points)
            return answer | _shown(rows, width)
        width = None if step is None else _step(step)
        if width is not None and (end - start) // width > MAX_STEPS:
            raise Problem("invalid", f"more than {MAX_STEPS} steps: take a wider step or a shorter time")
        given = 0
        if cursor is not None:
            start, given = _cursor(cursor)
        rows = await ask(asset, point, start, end, width, limit + given + 1)
        rows = rows[given:]
        more = len(rows) > limit
        rows = rows[:limit]
        return answer | _shown(rows, width) | {"cursor": _cursor_behind(rows, start, given) if more else None}

    @router.get("/assets/{asset_id}/alarm-bands", response_model=BandsView)
    async def alarm_bands(
        request: Request,
        asset_id: str,
        point: Annotated[
            str | None, Query(max_length=64, description="Only alarms whose rule looks at this point now.")
        ] = None,
        from_: From = None,
        to: To = None,
    ) -> dict[str, Any]:
        """When alarms of this asset stood, level by level: bands behind a chart. Acknowledged, shelved and suppressed
        ones stand all the same; rules on trial do not count."""
        await existing(request, asset_id)
        start, end = period(from_, to)
        rules: list[str] | None = None
        if point is not None:
            ever = (await records.alarms(AlarmFilter(asset=asset_id), MAX_PAGE)).items
            rules = [
                record.rule
                for record in ever
                if any(point == seen.point for seen in gateway.why(record.alarm_id).points)
            ]
        bands, cut = await records.figures.bands(asset_id, rules, start, end, MAX_BAND_STEPS)
        return {"items": [_band(band) for band in bands], "cut": cut}

    return router


def _shown(rows: Sequence[RawRow | StepRow], width: Micros | None) -> dict[str, Any]:
    return {
        "step_s": None if width is None else width / SECOND,
        "items": [views.reading(row) for row in rows],
        "bad": _bad(rows, width or 0),
        "cursor": None,
    }


def _bad(rows: Sequence[RawRow | StepRow], width: Micros) -> list[dict[str, Any]]:
    """Stretches of bad readings."""
    stretches: list[tuple[Micros, Micros, int]] = []
    going_on = False
    for row in rows:
        bad = row.bad if isinstance(row, StepRow) else int(row.quality is Quality.BAD)
        adjoins = going_on and (width == 0 or row.time == stretches[-1][1])
        if bad and adjoins:
            since, _, count = stretches[-1]
            stretches[-1] = (since, row.time + width, count + bad)
        elif bad:
            stretches.append((row.time, row.time + width, bad))
        elif going_on and width == 0:
            since, _, count = stretches[-1]
            stretches[-1] = (since, row.time, count)
        going_on = bool(bad)
    return [
        {"from": views.iso(since), "to": views.iso(until), "readings": readings} for since, until, readings in stretches
    ]


def _band(band: Band) -> dict[str, Any]:
    return {
        "alarm_id": band.alarm_id,
        "rule": band.rule,
        "title": {"zh": band.title_zh, "en": band.title_en},
        "level": band.level.name,
        "from": views.iso(band.since),
        "to": views.iso_or_none(band.until),
    }


def _steps(start: Micros, end: Micros, width: Micros) -> int:
    """How many steps of ``width`` a time touches."""
    return -(-end // width) - start // width


def _cursor_behind(rows: Sequence[RawRow | StepRow], start: Micros, given: int) -> str:
    """``<time>.<n>``: go on at ``time``, of which ``n`` rows were given already (several may share a time)."""
    last = rows[-1].time
    same = sum(1 for row in rows if row.time == last)
    return f"{last}.{same + given if last == start else same}"


def _cursor(text: str) -> tuple[Micros, int]:
    match = re.match(r"^(-?\d{1,18})\.(\d{1,5})$", text)
    if match is None:
        raise Problem("bad_cursor")
    return int(match[1]), min(int(match[2]), MAX_READINGS)


def _time(text: str, name: str) -> Micros:
    try:
        return views.micros(text)
    except (ValueError, OverflowError) as error:
        raise Problem("invalid", f"{name}: {error}") from error


def _step(text: str) -> Micros:
    match = _STEP.match(text)
    if match is None or int(match[1]) == 0:
        raise Problem("invalid", "step: write 10s, 1m, 1h or 1d")
    return int(match[1]) * _STEP_UNITS[match[2]]
