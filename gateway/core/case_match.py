"""Is what a citizen reports one of our alarms? By class, place and time; pure, and it says why.

Class: the alarm's rule or kind is among those that the field map gives for the report's class. Place: within
``distance_m``; where one of the two has no position, on the same road. Time: the report was made while the alarm stood,
or within ``within`` of that; what has been over for longer than ``recent`` is no candidate at all. Of several the
nearest counts, and the others are named: a person can see that there was a choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gateway.core.model import HOUR, MINUTE, AlarmRecord, Asset, Micros
from gateway.core.work import distance_m

MAX_OTHERS = 5  # named; of more it says how many

BY_RULE, BY_KIND = 1.0, 0.8  # how much a class says: that it is this rule, or only that it is such a thing
AT_THE_EDGE = 0.5  # how much is left of place and time at the end of what is allowed
SAME_ROAD = 0.4  # a road is a kilometre long


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a report may be from an alarm: in metres, in time, and how long that may have been over."""

    distance_m: float = 150.0
    within: Micros = 2 * HOUR
    recent: Micros = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody saw ``at`` a time. ``kinds``, ``rules`` (patterns): what alarms of its class are; both empty: a
    class that the field map does not know. ``road``: where the platform names it; ``place``: the address in words."""

    at: Micros
    kinds: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    longitude: float | None = None
    latitude: float | None = None
    road: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """``record`` is None when no alarm fits. ``score`` 0 to 1: for people to judge by, not a probability."""

    record: AlarmRecord | None
    score: float
    why_zh: str
    why_en: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Fit:
    record: AlarmRecord
    distance: float | None
    road: str
    gap: Micros
    by_rule: bool

    def order(self) -> tuple[bool, float, Micros, bool, int, str]:
        """The nearest first; what explains the others, and the worse one, before what stands at the same place."""
        record = self.record
        distance = 0.0 if self.distance is None else round(self.distance, 1)
        return (
            self.distance is None, distance, self.gap, bool(record.suppressed_by), int(record.level), record.alarm_id,
        )  # fmt: skip

    def score(self, bounds: Bounds) -> float:
        place = SAME_ROAD if self.distance is None else _less(self.distance, bounds.distance_m)
        return round((BY_RULE if self.by_rule else BY_KIND) * place * _less(self.gap, bounds.within), 2)


def match(
    report: Report, candidates: Iterable[tuple[AlarmRecord, Asset]], now: Micros, bounds: Bounds = Bounds()
) -> Match:
    """The alarm that ``report`` is about."""
    if not report.kinds and not report.rules:
        return Match(None, 0.0, "类别不在对照表中", "its class is not in the table")
    pairs = list(candidates)
    roads = _roads(report, {asset.road for _, asset in pairs})
    fits = [fit for record, asset in pairs if (fit := _fit(report, record, asset, roads, now, bounds)) is not None]
    if not fits:
        return Match(None, 0.0, "附近同期没有同类报警", "no alarm of this class near it at that time")
    best, *others = sorted(fits, key=_Fit.order)
    zh, en = _words(best, report)
    if others:
        zh, en = (
            f"{zh}；另有 {len(others)} 个报警也符合，取最近者",
            f"{en}; {len(others)} more fit, this is the nearest",
        )
    names = tuple(fit.record.alarm_id for fit in others[:MAX_OTHERS])
    return Match(best.record, best.score(bounds), zh, en, names)


def _fit(
    report: Report, record: AlarmRecord, asset: Asset, roads: frozenset[str], now: Micros, bounds: Bounds
) -> _Fit | None:
    by_rule = any(fnmatchcase(record.rule, pattern) for pattern in report.rules)
    # Where the table names rules, a kind beside them is for the class as a whole.
    if not by_rule and record.kind not in report.kinds:
        return None
    gap = _gap(report.at, record, now, bounds.recent)
    if gap is None or gap > bounds.within:
        return None
    distance = _distance(report, asset)
    if distance is None:
        return _Fit(record, None, asset.road, gap, by_rule) if asset.road in roads else None
    return _Fit(record, distance, asset.road, gap, by_rule) if distance <= bounds.distance_m else None


def _gap(at: Micros, record: AlarmRecord, now: Micros, recent: Micros) -> Micros | None:
    """How far ``at`` is from the time in which the alarm stood; None when that is no candidate."""
    begin = record.active_at if record.active_at is not None else record.detected_at
    if begin is None:
        return None
    if at < begin:
        return begin - at
    if record.is_active:
        return 0
    end = record.inactive_at if record.inactive_at is not None else record.closed_at
    if end is None or now - end > recent:
        return None
    return max(0, at - end)


def _distance(report: Report, asset: Asset) -> float | None:
    if report.longitude is None or report.latitude is None or asset.longitude is None or asset.latitude is None:
        return None
    return distance_m(report.longitude, report.latitude, asset.longitude, asset.latitude)


def _roads(report: Report, known: Iterable[str]) -> frozenset[str]:
    """Those of ``known`` that the report is about: the one it names, else those in its address. 青年路 is not meant
    where 新青年路 is known and written."""
    named = "".join(report.road.split())
    if named:
        return frozenset(road for road in known if "".join(road.split()) == named)
    written = {road for road in known if len(road) > 1 and road in report.place}
    return frozenset(road for road in written if not any(road != other and road in other for other in written))


def _less(used: float, allowed: float) -> float:
    return 1.0 - AT_THE_EDGE * (used / allowed if allowed else 0.0)


def _words(fit: _Fit, report: Report) -> tuple[str, str]:
    if fit.distance is None:
        zh, en = f"同一道路（{fit.road}）", f"on the same road ({fit.road})"
    else:
        zh, en = f"相距 {fit.distance:.0f} 米", f"{fit.distance:.0f} m away"
    if not fit.gap:
        return f"同类，{zh}，报警期间", f"same class, {en}, while the alarm stood"
    minutes = max(1, round(fit.gap / MINUTE))
    begin = fit.record.active_at if fit.record.active_at is not None else fit.record.detected_at
    before = begin is not None and report.at < begin
    side = ("报警前", "before the alarm") if before else ("恢复后", "after it was over")
    return f"同类，{zh}，{side[0]} {minutes} 分钟", f"same class, {en}, {minutes} min {side[1]}"
