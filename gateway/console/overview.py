"""The overview over HTTP: everything that a big screen shows, counted from what is in memory.

One look at the whole city in slices, shared by everybody who asks while it is young. How each figure is counted stands
in ``overview_models`` and in ``core.overview``.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from gateway.console import views
from gateway.console.gate import scope_of
from gateway.console.load import load_now
from gateway.console.map import STALE_INTERVALS, slices
from gateway.console.overview_models import AlarmHistoryView, OverviewView
from gateway.console.port import City, ConsolePort, StepRow
from gateway.console.shared import Shared
from gateway.core import overview
from gateway.core.model import HOUR, MINUTE, SECOND, AlarmRecord, Asset, IsaState, Level, Micros, Value
from gateway.core.overview import Ask, Cover, Lamp, Pump, Share
from gateway.core.records import Scope
from gateway.core.standing import AssetMark, mark_of
from gateway.errors import Unavailable

SHOWN = 12  # of newest alarms, levels, gauges
BRIDGES = 6
TREND: Micros = 5 * MINUTE  # over which a level rises or falls
TREND_AT_LEAST: Micros = 2 * MINUTE
TREND_EVERY: Micros = 30 * SECOND
STEADY = 0.02  # of the limit: less is no trend
DAY: Micros = 24 * HOUR
RAIN_DAY: Micros = 10 * MINUTE  # how often a gauge's last 24 hours are asked for
RAIN_DAYS_AT_ONCE = 2  # questions to the historian in one go
OVERLOAD = ("bridge-overload", "bridge")  # the rule that raises for each vehicle above the posted limit, and its kind
OVERLOAD_EVERY: Micros = MINUTE
CIRCUIT_LOST = "circuit-lost"
LIT_INTERVALS = 2  # a lamp that was not heard for so long counts as dark
MOST_HOURS = 7 * 24

_RANKED = (IsaState.UNACK, IsaState.ACKED, IsaState.RTNUN)


@dataclass(slots=True)
class _Kind:
    total: int = 0
    in_alarm: int = 0
    silent: int = 0
    worst: Level | None = None


@dataclass(slots=True)
class _Counts:
    """What one look at the city adds up."""

    kinds: dict[str, _Kind] = field(default_factory=dict)
    lamps: Counter[Lamp] = field(default_factory=Counter)
    lamps_aside: int = 0
    target: float | None = None
    unsupplied: Counter[str] = field(default_factory=Counter)
    covers: Counter[Cover] = field(default_factory=Counter)
    wet: int = 0
    pumps: Counter[Pump] = field(default_factory=Counter)
    wells: list[tuple[Asset, Share]] = field(default_factory=list)
    drains: list[tuple[Asset, Share]] = field(default_factory=list)
    full: Counter[str] = field(default_factory=Counter)
    gauges: list[tuple[Asset, float | None, float | None]] = field(default_factory=list)
    bridges: list[tuple[Asset, Share]] = field(default_factory=list)
    alarms: Counter[tuple[Level, IsaState]] = field(default_factory=Counter)
    newest: list[AlarmRecord] = field(default_factory=list)
    devices: int = 0
    online: int = 0

    def of(self, kind: str) -> _Kind:
        return self.kinds.get(kind) or _Kind()


class CityOverview:
    """Looks at the city, and remembers what a single look cannot tell: trends, and what the stores have added up."""

    def __init__(self, gateway: ConsolePort) -> None:
        self._gateway = gateway
        self._trends: dict[str, deque[tuple[Micros, float]]] = {}
        self._rain: dict[str, tuple[Micros, float | None]] = {}
        self._overloads: tuple[Micros, dict[str, int]] | None = None

    async def view(self, scope: Scope, before: dict[str, Any] | None = None) -> dict[str, Any]:
        gateway, now = self._gateway, self._gateway.now()
        counts = await self._look(gateway.city, scope)
        self._remember(counts, now)
        gauges = await self._gauges(counts, now)
        overloads = await self._overweight(now)
        report = gateway.health()
        health = views.health(report, inside=not scope)
        figures = {part.name: part.figures for part in report.parts}
        return {
            "at": views.iso(now),
            "assets": sum(kind.total for kind in counts.kinds.values()),
            "alarms": [_levels(level, counts.alarms) for level in Level],
            "lamps": _lamps(counts),
            "covers": {
                "total": counts.of("manhole").total,
                **{state.value: counts.covers[state] for state in Cover if state is not Cover.CLOSED},
                "water_high": counts.wet,
            },
            "pumps": {
                "stations": counts.of("pump").total,
                "stations_silent": counts.of("pump").silent,
                "stations_without_supply": counts.unsupplied["pump"],
                "pumps": counts.pumps.total(),
                **{state.value: counts.pumps[state] for state in Pump},
                "levels": self._fullest(counts.wells, now),
            },
            "drains": {
                "pipes": counts.of("pipe").total,
                "surcharged": counts.full["pipe"],
                "roads": counts.of("road").total,
                "flooded": counts.full["road"],
                "levels": self._fullest(counts.drains, now),
            },
            "rain": gauges,
            "bridges": _bridges(counts, overloads, scope, gateway.city),
            "kinds": [
                {
                    "kind": name,
                    "total": kind.total,
                    "in_alarm": kind.in_alarm,
                    "worst_level": None if kind.worst is None else kind.worst.name,
                    "silent": kind.silent,
                }
                for name, kind in sorted(counts.kinds.items(), key=lambda item: (-item[1].total, item[0]))
            ],
            "load": views.load_now(await load_now(gateway, scope)),
            "gateway": {
                "ok": health["status"] == "ok",
                "reasons": health["reasons"],
                "started_at": health["started_at"],
                "rates": health["rates"],
                "devices": {
                    "expected": counts.devices,
                    "online": counts.online,
                    "online_share": percent(counts.online, counts.devices),
                },
                "waiting": _whole(figures.get("journal", {}).get("waiting")),
                "history_behind": _whole(figures.get("historian", {}).get("behind")),
            },
            "newest": [views.alarm(record) for record in counts.newest],
        }

    # -- one look -----------------------------------------------------------------------------------------------------

    async def _look(self, city: City, scope: Scope) -> _Counts:
        counts = _Counts()
        for part in slices(list(city.standing.assets())):
            records = [
                record
                for name in part
                if not scope or _covered(scope, city.asset(name))
                for record in city.standing.of(name)
            ]
            counts.alarms.update((record.level, record.isa_state) for record in records)
            told = [record for record in records if record.isa_state in _RANKED]
            counts.newest = heapq.nlargest(SHOWN, [*counts.newest, *told], key=_begun)
            await asyncio.sleep(0)
        feeders: dict[str, bool | None] = {}
        for assets in slices(city.assets()):
            for asset in assets:
                if asset.kind != "gateway" and (not scope or scope.covers(asset)):
                    _count(counts, asset, city, feeders)
            await asyncio.sleep(0)
        for devices in slices(city.devices()):
            for device in devices:
                if scope and not _covered(scope, city.asset(device.asset)):
                    continue
                heard = city.heard(device.device, STALE_INTERVALS)
                counts.devices += heard is not None
                counts.online += heard is True
            await asyncio.sleep(0)
        return counts

    # -- what a look cannot tell --------------------------------------------------------------------------------------

    def _remember(self, counts: _Counts, now: Micros) -> None:
        """Levels now and then, for their trends."""
        for asset, share in (*counts.wells, *counts.drains):
            kept = self._trends.get(asset.asset)
            if kept is None:
                kept = self._trends[asset.asset] = deque(maxlen=1 + TREND // TREND_EVERY)
            if not kept or now - kept[-1][0] >= TREND_EVERY:
                kept.append((now, share.value))

    def _trend(self, asset: str, share: Share, now: Micros) -> str | None:
        then = next(((at, value) for at, value in self._trends.get(asset, ()) if now - at <= TREND), None)
        if then is None or now - then[0] < TREND_AT_LEAST:
            return None
        change = (share.value - then[1]) / share.limit
        return "rising" if change > STEADY else "falling" if change < -STEADY else "steady"

    def _fullest(self, levels: list[tuple[Asset, Share]], now: Micros) -> list[dict[str, Any]]:
        return [
            {
                "asset": asset.asset,
                "name": asset.name,
                "kind": asset.kind,
                "value": share.value,
                "limit": share.limit,
                "unit": share.unit,
                "share": round(share.share, 4),
                "trend": self._trend(asset.asset, share, now),
            }
            for asset, share in heapq.nlargest(SHOWN, levels, key=lambda item: item[1].share)
        ]

    async def _gauges(self, counts: _Counts, now: Micros) -> dict[str, Any]:
        wettest = heapq.nlargest(SHOWN, counts.gauges, key=lambda item: (item[2] or 0.0, item[1] or 0.0))
        left = RAIN_DAYS_AT_ONCE
        for asset, _, _ in wettest:
            at, _sum = self._rain.get(asset.asset, (None, None))
            if left and (at is None or now - at >= RAIN_DAY):
                left -= 1
                self._rain[asset.asset] = (now, await self._rained(asset.asset, now))
        return {
            "total": counts.of("rain").total,
            "silent": counts.of("rain").silent,
            "raining": sum((intensity or 0) > 0 for _, intensity, _ in counts.gauges),
            "intensity": max((i for _, i, _ in counts.gauges if i is not None), default=None),
            "last_hour": max((hour for _, _, hour in counts.gauges if hour is not None), default=None),
            "gauges": [
                {
                    "asset": asset.asset,
                    "name": asset.name,
                    "intensity": intensity,
                    "last_hour": hour,
                    "last_24_h": self._rain.get(asset.asset, (0, None))[1],
                }
                for asset, intensity, hour in wettest
            ],
        }

    async def _rained(self, gauge: str, now: Micros) -> float | None:
        """What a gauge's reports of the last 24 hours add up to, mm."""
        try:
            steps = await self._gateway.readings(gauge, "rain", now - DAY, now, HOUR, 25)
        except Unavailable:
            return None
        sums = [step.mean * step.count for step in steps if isinstance(step, StepRow) and step.mean is not None]
        return round(sum(sums), 1) if sums else None

    async def _overweight(self, now: Micros) -> dict[str, int]:
        if self._overloads is None or now - self._overloads[0] >= OVERLOAD_EVERY:
            before = self._overloads[1] if self._overloads is not None else {}
            self._overloads = (now, before)  # should the store be busy, a minute's rest for both
            with contextlib.suppress(Unavailable):
                self._overloads = (now, await self._gateway.records.figures.raised(*OVERLOAD, now - DAY))
        return self._overloads[1]


class AlarmHistory:
    """Alarms by the hour. Each hour is a question of its own, and one that is over is asked once."""

    def __init__(self, gateway: ConsolePort) -> None:
        self._gateway = gateway
        self._over: dict[Micros, dict[str, int]] = {}

    async def view(self, wanted: tuple[Scope, int], before: dict[str, Any] | None = None) -> dict[str, Any]:
        """``wanted``: for whom, and how many hours."""
        scope, hours = wanted
        now = self._gateway.now()
        this = now - now % HOUR
        shown = []
        for begin in range(this - (hours - 1) * HOUR, this + 1, HOUR):
            shown.append({"at": views.iso(begin), "counts": await self._hour(begin, scope, now)})
        self._over = {hour: counts for hour, counts in self._over.items() if hour > this - MOST_HOURS * HOUR}
        return {"since": shown[0]["at"], "until": views.iso(now), "hours": shown}

    async def _hour(self, begin: Micros, scope: Scope, now: Micros) -> dict[str, int]:
        if not scope and begin in self._over:
            return self._over[begin]
        counts = {level.name: 0 for level in Level}
        for _, level, count in await self._gateway.records.figures.alarms_by(begin, begin + HOUR, HOUR, scope):
            counts[level.name] = count
        # A step is recorded within seconds of its time; an hour counts as over when the next is a minute old.
        if not scope and now - begin >= HOUR + MINUTE:
            self._over[begin] = counts
        return counts


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["overview"])
    shared = Shared(CityOverview(gateway).view)
    history = Shared(AlarmHistory(gateway).view)

    @router.get("/overview", response_model=OverviewView)
    async def whole_overview(request: Request) -> dict[str, Any]:
        """Everything a big screen shows: alarms by level and state, lamps lit, covers, pumps, levels against limits,
        rain, bridges, every kind of asset, operator load, the gateway, and the newest alarms."""
        return await shared.get(scope_of(request))

    @router.get("/overview/history", response_model=AlarmHistoryView)
    async def alarm_history(
        request: Request, hours: Annotated[int, Query(ge=1, le=MOST_HOURS, description="Full hours back.")] = 24
    ) -> dict[str, Any]:
        """How many alarms asked for attention in each hour, by level."""
        return await history.get((scope_of(request), hours))

    return router


def percent(part: int, whole: int) -> float | None:
    """% with two decimals, rounded down: what is not reached does not look as if it were."""
    return None if whole == 0 else (10_000 * part // whole) / 100


def _count(counts: _Counts, asset: Asset, city: City, feeders: dict[str, bool | None]) -> None:
    """Add one asset."""
    kind = counts.kinds.get(asset.kind)
    if kind is None:
        kind = counts.kinds[asset.kind] = _Kind()
    kind.total += 1
    standing = city.standing.of(asset.asset)
    mark, level = mark_of(standing)
    quiet = city.quiet(asset.asset) or 0
    silent = quiet > STALE_INTERVALS
    if mark in (AssetMark.UNACKNOWLEDGED, AssetMark.ACKNOWLEDGED) and level is not None:
        kind.in_alarm += 1
        kind.worst = level if kind.worst is None else min(kind.worst, level)
    elif mark is AssetMark.NORMAL and silent:
        kind.silent += 1
    ask: Ask = partial(city.point, asset.asset)
    match asset.kind:
        case "lamp":
            if any(record.out_of_service is not None for record in standing):
                counts.lamps_aside += 1
            else:
                feeder_on = _feeder_on(asset, city, feeders)
                counts.lamps[overview.lamp(asset, ask, quiet <= LIT_INTERVALS, feeder_on)] += 1
        case "feeder" | "cabinet":
            lost = any(record.rule == CIRCUIT_LOST and record.is_active for record in standing)
            counts.unsupplied["feeder"] += lost or overview.without_supply(ask)
        case "manhole":
            counts.covers[Cover.UNKNOWN if silent else overview.cover(asset, ask)] += 1
            counts.wet += not silent and overview.water_high(ask)
        case "pump":
            counts.unsupplied["pump"] += overview.without_supply(ask)
            counts.pumps.update(overview.pumps(asset, ask))
            if (share := overview.level(asset, ask)) is not None and not silent:
                counts.wells.append((asset, share))
        case "pipe" | "road":
            if (share := overview.level(asset, ask)) is not None and not silent:
                counts.drains.append((asset, share))
                counts.full[asset.kind] += share.share >= 1
        case "rain":
            if not silent:
                known = overview.believed(ask("intensity")), overview.believed(ask("rain_1h"))
                counts.gauges.append((asset, *known))
        case "bridge":
            if (share := overview.strain(asset, ask)) is not None and not silent:
                counts.bridges.append((asset, share))
        case "area":
            target = asset.attributes.get("lit_share_min")
            if counts.target is None and isinstance(target, (int, float)) and not isinstance(target, bool):
                counts.target = float(target)
        case _:
            pass


def _feeder_on(lamp: Asset, city: City, feeders: dict[str, bool | None]) -> bool | None:
    """What the feeder of a lamp is commanded; None when it does not say or was not heard."""
    feeder = lamp.links.get("feeder")
    if feeder is None:
        return None
    if feeder not in feeders:
        heard = (city.quiet(feeder) or 0) <= LIT_INTERVALS
        feeders[feeder] = overview.believed_state(city.point(feeder, "cmd_on")) if heard else None
    return feeders[feeder]


def _lamps(counts: _Counts) -> dict[str, Any]:
    lit, dark, unknown = (counts.lamps[state] for state in (Lamp.LIT, Lamp.DARK, Lamp.UNKNOWN))
    should = lit + dark + unknown
    target = overview.LIT_TARGET if counts.target is None else counts.target
    return {
        "total": counts.of("lamp").total,
        "out_of_service": counts.lamps_aside,
        "should_be_lit": should,
        "lit": lit,
        "dark": dark,
        "unknown": unknown,
        "lit_share": percent(lit, should),
        "lit_share_observed": percent(lit, lit + dark),
        "coverage": percent(lit + dark, should),
        "target": target,
        "on_target": None if should == 0 else 100 * lit >= target * should,
        "feeders": counts.of("feeder").total + counts.of("cabinet").total,
        "feeders_without_supply": counts.unsupplied["feeder"],
    }


def _bridges(counts: _Counts, overloads: dict[str, int], scope: Scope, city: City) -> dict[str, Any]:
    seen = {asset: n for asset, n in overloads.items() if not scope or _covered(scope, city.asset(asset))}
    return {
        "total": counts.of("bridge").total,
        "silent": counts.of("bridge").silent,
        "overweight_24_h": sum(seen.values()),
        "worst": [
            {
                "asset": asset.asset,
                "name": asset.name,
                "point": share.point,
                "value": share.value,
                "limit": share.limit,
                "unit": share.unit,
                "share": round(share.share, 4),
                "overweight_24_h": seen.get(asset.asset, 0),
            }
            for asset, share in heapq.nlargest(BRIDGES, counts.bridges, key=lambda item: item[1].share)
        ],
    }


def _levels(level: Level, alarms: Counter[tuple[Level, IsaState]]) -> dict[str, Any]:
    names = {
        "unacknowledged": IsaState.UNACK,
        "acknowledged": IsaState.ACKED,
        "returned": IsaState.RTNUN,
        "shelved": IsaState.SHLVD,
        "suppressed": IsaState.DSUPR,
        "out_of_service": IsaState.OOSRV,
    }
    return {"level": level.name, **{name: alarms[level, state] for name, state in names.items()}}


def _begun(record: AlarmRecord) -> tuple[Micros, str]:
    return record.detected_at or record.active_at or 0, record.alarm_id


def _covered(scope: Scope, asset: Asset | None) -> bool:
    return asset is not None and scope.covers(asset)


def _whole(value: Value) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
