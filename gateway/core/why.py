"""Why an alarm stands, and why one does not: everything its rule looks at, with the numbers, the timers and the reason.

For people: ``reasons`` says it in sentences, in Chinese and English, the deciding one first.
"""

from __future__ import annotations

import msgspec

from gateway.core.alarms import NOT_TIMING, Alarm
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    AlarmRecord,
    Condition,
    Level,
    Micros,
    OutOfService,
    Quality,
    Shelve,
    Value,
)
from gateway.core.plan import Check, Rung
from gateway.core.points import AssetState


class RungNow(msgspec.Struct, frozen=True):
    """One level of the rule now. ``beyond``: its limit is exceeded (None: cannot be known); ``distance``: value minus
    limit. Pending: ``since`` when the condition is true, and ``due_at`` when it would be raised (None: waits for
    ``readings_left`` more readings, or the data is not good). Clearing likewise."""

    level: Level
    on: bool
    beyond: bool | None
    value: Value = None
    limit: float | None = None
    unit: str = ""
    distance: float | None = None
    source: str = ""
    on_delay: Micros = 0
    off_delay: Micros = 0
    pending_since: Micros | None = None
    raises_at: Micros | None = None
    readings_left: int = 0
    clearing_since: Micros | None = None
    clears_at: Micros | None = None


class PointNow(msgspec.Struct, frozen=True):
    """The newest live reading of one point the rule looks at."""

    point: str
    reported: bool
    value: Value = None
    quality: Quality | None = None
    reason: str | None = None
    source_time: Micros | None = None


class Reason(msgspec.Struct, frozen=True):
    """One sentence; ``code`` for programs."""

    code: str
    zh: str
    en: str


class Verifying(msgspec.Struct, frozen=True):
    """Work that is said to be done ``since`` then. ``waits_for``: points (or devices) of which no good reading came
    since. ``still_true``: what fresh readings say of the condition, None while they say nothing; then ``decides_at`` is
    when they close it, or send the crew again, if it lasts (None: not before the alarm's own delay is over)."""

    since: Micros
    waits_for: list[str]
    still_true: bool | None = None
    decides_at: Micros | None = None


class Explanation(msgspec.Struct, frozen=True):
    """``applies``: the rule speaks of this asset; if not, ``reasons`` says what is missing. ``maintenance``: what the
    asset is under now."""

    alarm_id: str
    applies: bool
    stands: bool
    reasons: list[Reason]
    record: AlarmRecord | None = None
    rungs: list[RungNow] = []
    points: list[PointNow] = []
    in_schedule: bool = True
    schedule_changes_at: Micros | None = None
    silent: bool = False
    verifying: Verifying | None = None
    maintenance: OutOfService | None = None


def explain(
    asset: AssetState,
    check: Check,
    alarm: Alarm | None,
    record: AlarmRecord | None,
    in_schedule: bool,
    schedule_changes_at: Micros | None,
    now: Micros,
    verifying: Verifying | None = None,
    maintenance: OutOfService | None = None,
) -> Explanation:
    """Why the alarm of ``check`` on ``asset`` is as it is at ``now``. ``record`` as ``Engine.alarm`` gives it."""
    rungs = [_rung(asset, check, alarm, i, rung) for i, rung in enumerate(check.rungs)]
    points = [_point(asset, name) for name in sorted(check.points)]
    stands = record is not None and record.is_active
    silent = any(silence.key in asset.silent for silence in check.silences)
    reasons = [
        *(_overlay(record, now) if record is not None else ()),
        *(_under(maintenance, record, now) if maintenance is not None else ()),
        *(_work(verifying, now) if verifying is not None else ()),
        *(
            ()
            if in_schedule
            else (Reason("schedule", "当前不在规则生效时段", "the rule is not in force at this hour"),)
        ),
        *_of_data(points),
        *_of_rungs(rungs, stands),
    ]
    if not reasons:
        reasons.append(Reason("normal", "条件不满足", "the condition is not true"))
    return Explanation(
        f"{asset.id}/{check.rule.id}",
        True,
        stands,
        reasons,
        record,
        rungs,
        points,
        in_schedule,
        schedule_changes_at,
        silent,
        verifying,
        maintenance,
    )


def not_applicable(alarm_id: str, code: str, zh: str, en: str, record: AlarmRecord | None = None) -> Explanation:
    """The rule does not speak of the asset."""
    return Explanation(alarm_id, False, False, [Reason(code, zh, en)], record)


def _rung(asset: AssetState, check: Check, alarm: Alarm | None, i: int, rung: Rung) -> RungNow:
    value, limit, unit = check.evidence(asset, i)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and limit is not None
    on = alarm is not None and i < alarm.on
    pending = alarm.on_since[i] if alarm is not None and not on and alarm.on_since[i] != NOT_TIMING else None
    clearing = alarm.off_since[i] if alarm is not None and on and alarm.off_since[i] != NOT_TIMING else None
    held = alarm is not None and bool(alarm.unknown >> i & 1)
    left = max(0, rung.on_readings - 1 - alarm.count[i]) if alarm is not None and pending is not None else 0
    return RungNow(
        rung.level,
        on,
        rung.raises(asset),
        value,
        limit,
        unit,
        round(value - limit, 6) if number and limit is not None else None,  # type: ignore[operator]
        rung.source,
        rung.on_delay,
        rung.off_delay,
        pending,
        None if pending is None or held or left else pending + rung.on_delay,
        left,
        clearing,
        None if clearing is None or held else clearing + rung.off_delay,
    )


def _point(asset: AssetState, name: str) -> PointNow:
    state = asset.points.get(name)
    if state is None or not state.reported:
        return PointNow(name, False)
    return PointNow(name, True, state.value, state.quality, state.reason, state.source_time)


def _overlay(record: AlarmRecord, now: Micros) -> list[Reason]:
    """What keeps an alarm from being told, whatever its condition."""
    found: list[Reason] = []
    if record.out_of_service is not None:
        away = record.out_of_service
        zh, en = _left(away, now)
        found.append(Reason("out_of_service", f"停用检修：{away.work}（{away.by}：{away.reason}）{zh}",
                            f"out of service for {away.work} ({away.by}: {away.reason}){en}"))  # fmt: skip
    if record.suppressed_by:
        causes = ", ".join(record.suppressed_by)
        found.append(Reason("suppressed", f"被上级报警抑制：{causes}", f"suppressed by {causes}"))
    if record.shelve is not Shelve.UNSHELVED:
        found.append(Reason("shelved", "已搁置，到期自动恢复", "shelved until `unshelve_at`"))
    if not record.enabled:
        found.append(Reason("disabled", "规则已停用", "its rule was taken out of force"))
    if record.latched and record.cond is Condition.NORMAL:
        found.append(Reason("latched", "锁存：现场核实后复位", "latched: it waits for somebody to look and reset it"))
    if record.shadow:
        found.append(Reason("shadow", "试运行规则，只记录不通知", "a rule on trial: recorded, told to nobody"))
    return found


def _under(maintenance: OutOfService, record: AlarmRecord | None, now: Micros) -> list[Reason]:
    """The asset is under maintenance, and the alarm does not say so itself."""
    if record is not None and record.out_of_service is not None:
        return []
    zh, en = _left(maintenance, now)
    told = f"the asset is under maintenance for {maintenance.work}: what is raised is told to nobody{en}"
    return [Reason("maintenance", f"设施检修中：{maintenance.work}，新报警只记录、不通知{zh}", told)]


def _work(verifying: Verifying, now: Micros) -> list[Reason]:
    """What the readings say of work that is said to be done."""
    zh, en = _length(now - verifying.since)
    if verifying.waits_for:
        names = ", ".join(verifying.waits_for)
        found_zh, found_en = f"{names} 尚无新的有效数据", f"no fresh reading of {names} yet"
    elif verifying.still_true is None:
        found_zh, found_en = "新数据尚不能判断", "the fresh readings do not tell yet"
    elif verifying.still_true:
        found_zh = "新数据仍满足报警条件，持续则退回返工"
        found_en = "by fresh readings it is still so; if that lasts, the crew is sent again"
    else:
        found_zh = "新数据已恢复正常，持续则自动结案"
        found_en = "by fresh readings it is over; if that lasts, the work is closed"
    begin_zh, begin_en = f"处置已报完成 {zh}，核实中：", f"said to be done {en} ago, and verified: "
    return [Reason("verifying", begin_zh + found_zh, begin_en + found_en)]


def _left(away: OutOfService, now: Micros) -> tuple[str, str]:
    """Until when, as the time that is left: which zone's clock people look at is not known here."""
    if away.until is None:
        return "", ""
    zh, en = _length(away.until - now)
    return f"，{zh}后自动恢复", f", for another {en}"


def _length(length: Micros) -> tuple[str, str]:
    length = max(0, length)
    for unit, zh, en in ((24 * HOUR, "天", "d"), (HOUR, "小时", "h"), (MINUTE, "分钟", "min")):
        if length >= 2 * unit:
            return f"{length // unit} {zh}", f"{length // unit} {en}"
    return f"{length // SECOND} 秒", f"{length // SECOND} s"


def _of_data(points: list[PointNow]) -> list[Reason]:
    found: list[Reason] = []
    for point in points:
        if not point.reported:
            found.append(Reason("never_reported", f"{point.point} 从未上报", f"{point.point} was never reported"))
        elif point.quality is not Quality.GOOD:
            why = f" ({point.reason})" if point.reason else ""
            found.append(Reason("bad_data", f"{point.point} 数据不可信{why}：保持原状态",
                                f"{point.point} is {point.quality}{why}: the alarm is held as it was"))  # fmt: skip
    return found


def _of_rungs(rungs: list[RungNow], stands: bool) -> list[Reason]:
    """The rung that decides: the highest that is on, else the first that is on its way, else the nearest limit."""
    on = [rung for rung in rungs if rung.on]
    if on:
        top = on[-1]
        found = [Reason("above", f"{top.level.name} 级条件成立：{_numbers(top)}",
                        f"level {top.level.name}: {_numbers(top)}{_source(top)}")]  # fmt: skip
        if top.clearing_since is not None:
            found.append(Reason("clearing", f"正在恢复，延时 {_seconds(top.off_delay)}",
                                f"clearing: inside the limit, {_seconds(top.off_delay)} must pass"))  # fmt: skip
        elif top.beyond is False:
            found.append(Reason("deadband", "已回到限值内，但仍在回差内", "inside the limit, but not by the deadband"))
        return found
    pending = next((rung for rung in rungs if rung.pending_since is not None), None)
    if pending is not None:
        text = f"还差 {pending.readings_left} 次读数" if pending.readings_left else f"延时 {_seconds(pending.on_delay)}"
        english = (
            f"{pending.readings_left} more readings in a row"
            if pending.readings_left
            else f"it must last for {_seconds(pending.on_delay)}"
        )
        return [Reason("pending", f"条件已成立，{text}后报警", f"the condition is true; {english}")]
    nearest = next((rung for rung in rungs if rung.distance is not None), None)
    if nearest is not None and not stands:
        return [Reason("below", f"未越限：{_numbers(nearest)}", f"not beyond the limit: {_numbers(nearest)}")]
    return []


def _numbers(rung: RungNow) -> str:
    if rung.limit is None:
        return f"{rung.value}"
    value = f"{rung.value:g}" if isinstance(rung.value, float) else f"{rung.value}"
    gap = "" if rung.distance is None else f" ({rung.distance:+g})"
    unit = f" {rung.unit}" if rung.unit else ""
    return f"{value}{unit} / {rung.limit:g}{unit}{gap}"


def _source(rung: RungNow) -> str:
    return f" [{rung.source}]" if rung.source else ""


def _seconds(length: Micros) -> str:
    return f"{length / SECOND:g} s"
