"""A rule in words, as an engineer would say it: what raises it, when it is told, when it ends, what people shall do.

The two languages have the same lines in the same order. A line that belongs under the one before it begins with two
spaces for each step, and a dot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from gateway.core.condition_words import ConditionWords, Line, duration_words, level_words, spaced
from gateway.core.model import Level, Micros
from gateway.core.names import Pair, kind_name, link_name
from gateway.core.plan import delays
from gateway.core.rule import (
    DEFAULT_MAX_SHELVED,
    DEFAULT_SETTLE,
    Chatter,
    Condition,
    OnBadData,
    Rule,
    steps,
)
from gateway.core.schedule import Moment, Schedule, Span

COLOURS: dict[Level, Pair] = {
    Level.I: ("红", "red"),
    Level.II: ("橙", "orange"),
    Level.III: ("黄", "yellow"),
    Level.IV: ("蓝", "blue"),
}
CLOCKS: dict[str, Pair] = {
    "urgent": ("昼夜连续计时", "around the clock"),
    "working_hours": ("按工作时间计", "in working hours"),
    "working_days": ("按工作日计", "in working days"),
    "natural_days": ("按自然日计", "in calendar days"),
}
_DAYS: tuple[Pair, ...] = (
    ("周一", "Mon"),
    ("周二", "Tue"),
    ("周三", "Wed"),
    ("周四", "Thu"),
    ("周五", "Fri"),
    ("周六", "Sat"),
    ("周日", "Sun"),
)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip


class Words(msgspec.Struct, frozen=True):
    zh: tuple[str, ...]
    en: tuple[str, ...]


def titles_of(rules: Mapping[str, Rule]) -> dict[str, Pair]:
    """What ``words`` calls the alarms of other rules."""
    return {rule.id: (rule.title_zh or rule.id, rule.title_en or rule.id) for rule in rules.values()}


def words(rule: Rule, titles: Mapping[str, Pair] | None = None) -> Words:
    """``rule`` in words; other rules are called by their ``titles``, else by their ids."""
    known = titles or {}
    found = _lines(rule, known)
    for patterns, variant in rule.overrides:
        found += _override(patterns, _lines(replace(variant, overrides=()), known), found)
    return Words(
        tuple(_shown(line.depth, line.zh) for line in found), tuple(_shown(line.depth, line.en) for line in found)
    )


def _shown(depth: int, text: str) -> str:
    return f"{'  ' * depth}· {text}" if depth else text


def _lines(rule: Rule, titles: Mapping[str, Pair]) -> list[Line]:
    speaker = ConditionWords(rule.kinds, titles, deadbands=rule.clear_when is None and not rule.event)
    found = [_applies(rule), *_standing(rule, speaker)]
    found += _introduced(speaker, rule.when, "报警条件：", "Raised when: ")
    found += [*_levels(rule), *_delays(rule)]
    if rule.clear_when is not None:
        ends = ConditionWords(rule.kinds, titles, deadbands=False)
        found += _introduced(ends, rule.clear_when, "解除条件：", "Over when: ")
    if rule.schedule is not None:
        found.append(_schedule(rule.schedule))
    return [*found, *_life(rule), *_bad_data(rule), *_causes(rule, speaker), *_people(rule)]


def _override(patterns: Sequence[str], variant: list[Line], common: list[Line]) -> list[Line]:
    """What of the variant is said otherwise."""
    known = set(common)
    named_zh, named_en = "、".join(patterns), ", ".join(patterns)
    other = [line for line in variant if line not in known]
    heading = Line(0, f"例外（{named_zh}）：", f"Otherwise for {named_en}:")
    return [heading, *(Line(line.depth + 1, line.zh, line.en) for line in other)]


def _introduced(speaker: ConditionWords, condition: Condition, zh: str, en: str) -> list[Line]:
    first, *rest = speaker.lines(condition)
    return [Line(0, zh + first.zh, en + first.en), *rest]


def _applies(rule: Rule) -> Line:
    kinds = [kind_name(kind) for kind in rule.kinds]
    zh, en = "、".join(pair[0] for pair in kinds), ", ".join(pair[1] for pair in kinds)
    if rule.profile is not None:
        zh, en = f"{zh}（设备型号 {rule.profile}）", f"{en} with a device of profile {rule.profile}"
    for name, value in rule.attributes:
        shown = ("是" if value else "否") if isinstance(value, bool) else f"{value}"
        english = ("yes" if value else "no") if isinstance(value, bool) else f"{value}"
        zh, en = f"{zh}，且 {name} = {shown}", f"{en} whose {name} is {english}"
    return Line(0, spaced(f"适用于：{zh}"), f"Applies to: {en}")


def _standing(rule: Rule, speaker: ConditionWords) -> list[Line]:
    """In force, on trial, switched off."""
    found: list[Line] = []
    if not rule.enabled:
        found.append(Line(0, "当前停用：不产生报警", "Switched off: it raises nothing"))
    if rule.shadow:
        zh, en = "试运行：只记录，不通知任何人", "On trial: recorded, told to nobody"
        if rule.shadow_of is not None:
            other = speaker.title(rule.shadow_of)
            zh, en = f"{zh}；与{other[0]}对比", f"{en}; compared with {other[1]}"
        found.append(Line(0, zh, en))
    return found


def _levels(rule: Rule) -> list[Line]:
    levels = _levels_of(rule)
    if levels == [None]:
        zh, en = level_words(rule.level)
        colour = COLOURS[rule.level]
        return [Line(0, f"级别：{zh}（{colour[0]}）", f"Level: {en.removeprefix('level ')} ({colour[1]})")]
    if len(levels) == 1:
        return []
    named_zh = "、".join(f"{level.name}（{COLOURS[level][0]}）" for level in levels if level is not None)
    named_en = ", ".join(f"{level.name} ({COLOURS[level][1]})" for level in levels if level is not None)
    return [Line(0, f"级别：{named_zh}，取达到的最高一级", f"Level: the worst that is reached of {named_en}")]


def _levels_of(rule: Rule) -> list[Level | None]:
    named = sorted({step.level for step in steps(rule.when) if step.level is not None}, reverse=True)
    return [*named] or [None]


def _delays(rule: Rule) -> list[Line]:
    """One line where all levels have the same delays, else one a level."""
    if rule.event:
        zh, en = ("，须确认", ", and wants acknowledgement") if rule.ack_required else ("", "")
        return [Line(0, f"一次性事件：每条符合条件的读数记一次{zh}", f"An event: each such reading counts once{en}")]
    by_level = {level: delays(rule, level) for level in _levels_of(rule)}
    if len(set(by_level.values())) == 1:
        zh, en = _delay(rule, *next(iter(by_level.values())))
        return [Line(0, f"延时：{zh}", f"Delays: {en}")]
    said = []
    for level, times in by_level.items():
        zh, en = _delay(rule, *times)
        name = "" if level is None else level.name
        said.append(Line(0, f"延时（{name} 级）：{zh}", f"Delays (level {name}): {en}"))
    return said


def _delay(rule: Rule, on_delay: Micros, readings: int, off_delay: Micros) -> Pair:
    if readings > 1:
        raised = f"连续 {readings} 次读数成立后报警", f"raised after {readings} readings in a row"
    elif on_delay:
        zh, en = duration_words(on_delay)
        raised = f"持续 {zh}后报警", f"raised after {en}"
    else:
        raised = "立即报警", "raised at once"
    over = ("解除条件成立", "its end") if rule.clear_when is not None else ("恢复正常", "normal")
    if off_delay:
        zh, en = duration_words(off_delay)
        until = "true" if rule.clear_when is not None else "normal"
        what = "the condition below has been" if rule.clear_when is not None else "it has been"
        return f"{raised[0]}；{over[0]}并持续 {zh}后解除", f"{raised[1]}; over when {what} {until} for {en}"
    until = "the condition below is true" if rule.clear_when is not None else "it is normal"
    return f"{raised[0]}；{over[0]}即解除", f"{raised[1]}; over as soon as {until}"


def _life(rule: Rule) -> list[Line]:
    """What is unusual about how it stands, is told again and ends."""
    found: list[Line] = []
    if rule.latch:
        found.append(
            Line(0, "锁存：现场核实并人工复位后才解除", "Latched: stays up until somebody has looked and resets it")
        )
    if rule.confirm:
        found.append(Line(0, "结束后须复核并注明原因", "Needs a second sign-off, with its cause, when it is over"))
    if rule.annunciates and not rule.ack_required and not rule.event:
        found.append(Line(0, "无须确认", "Needs no acknowledgement"))
    if rule.realarm is not None:
        zh, en = duration_words(rule.realarm.after)
        times = rule.realarm.times
        again = f"Asks again when it still stands {en} after it was acknowledged, at most {times} times"
        found.append(Line(0, f"确认后 {zh}仍未恢复则再次提醒，最多 {times} 次", again))
    if rule.chatter != Chatter():
        zh, en = duration_words(rule.chatter.within)
        count = rule.chatter.activations
        found.append(Line(0, f"{zh}内发生 {count} 次视为频繁波动，合并通知",
                          f"Raised {count} times within {en} it chatters, and is told folded"))  # fmt: skip
    if rule.max_time_shelved != DEFAULT_MAX_SHELVED:
        zh, en = duration_words(rule.max_time_shelved)
        found.append(Line(0, f"最长可搁置 {zh}", f"May be shelved for {en} at most"))
    return found


def _bad_data(rule: Rule) -> list[Line]:
    match rule.on_bad_data:
        case OnBadData.HOLD:
            return []
        case OnBadData.INSTRUMENT_ALARM:
            held = "While its data cannot be trusted it stays as it was, and an alarm for the instrument is raised"
            return [Line(0, "数据不可信时保持原状，并另发仪表报警", held)]
        case OnBadData.ASSUME_ACTIVE:
            return [Line(0, "数据不可信时视为报警", "Data that cannot be trusted count as an alarm")]
        case OnBadData.ASSUME_NORMAL:
            why = rule.bad_data_reason
            return [Line(0, f"数据不可信时视为正常（{why}）", f"Data that cannot be trusted count as normal ({why})")]


def _causes(rule: Rule, speaker: ConditionWords) -> list[Line]:
    if not rule.suppress_when:
        return []
    by_place: dict[str | None, list[Pair]] = {}
    for cause in rule.suppress_when:
        by_place.setdefault(cause.link, []).append(speaker.title(cause.rule))
    zh, en = [], []
    for link, titles in by_place.items():
        where = link_name(link) if link is not None else ("本设施", "this asset")
        zh.append(f"{where[0]}有{'或'.join(title[0] for title in titles)}报警")
        en.append(f"{' or '.join(title[1] for title in titles)} stands on {where[1]}")
    after_zh, after_en = duration_words(rule.settle)
    again = "" if rule.settle == DEFAULT_SETTLE else f"；原因消除 {after_zh}后恢复通知"
    again_en = "" if rule.settle == DEFAULT_SETTLE else f"; it speaks for itself again {after_en} after that has gone"
    return [
        Line(
            0, spaced(f"抑制：{'，或'.join(zh)}时，不通知本报警{again}"), f"Not told while {', or '.join(en)}{again_en}"
        )
    ]


def _people(rule: Rule) -> list[Line]:
    if not rule.response_zh and not rule.response_en:
        return [Line(0, "只记录，不通知任何人", "Recorded only: nobody is told")]
    zh, en = rule.response_zh or rule.response_en, rule.response_en or rule.response_zh
    found = [Line(0, f"处置：{zh}", f"Response: {en}")]
    if rule.notify:
        found.append(Line(0, f"通知：{'、'.join(rule.notify)}", f"Told: {', '.join(rule.notify)}"))
    if rule.sla is not None and (rule.sla.respond is not None or rule.sla.resolve is not None):
        zh_parts, en_parts = [], []
        for length, said in ((rule.sla.respond, ("响应", "respond")), (rule.sla.resolve, ("解决", "resolve"))):
            if length is not None:
                time_zh, time_en = duration_words(length, days=rule.sla.clock.endswith("days"))
                zh_parts.append(f"{time_zh}内{said[0]}")
                en_parts.append(f"{said[1]} within {time_en}")
        clock = CLOCKS.get(rule.sla.clock, (rule.sla.clock, rule.sla.clock))
        found.append(
            Line(0, f"时限：{'，'.join(zh_parts)}（{clock[0]}）", f"Deadline: {', '.join(en_parts)} ({clock[1]})")
        )
    if rule.case:
        found.append(Line(0, "推送城市管理案件平台", "Pushed to the city's case platform"))
    return found


# -- schedules --------------------------------------------------------------------------------------------------------


def _schedule(schedule: Schedule) -> Line:
    said = [_span(span) for span in schedule.spans]
    zh, en = "；或 ".join(pair[0] for pair in said), "; or ".join(pair[1] for pair in said)
    zone = "" if schedule.zone == "Asia/Shanghai" else f"（{schedule.zone}）"
    zone_en = "" if schedule.zone == "Asia/Shanghai" else f" ({schedule.zone})"
    return Line(0, spaced(f"生效时段：{zh}{zone}"), f"In force: {en}{zone_en}")


def _span(span: Span) -> Pair:
    begin, end = _moment(span.begin), _moment(span.end)
    if span.begin.civil is not None and span.end.civil is not None and span.end.civil < span.begin.civil:
        end = f"次日 {end[0]}", f"{end[1]} of the next day"
    whole_day = span.begin.civil is not None and span.begin == span.end
    found: list[Pair] = [] if whole_day else [(f"{begin[0]}至{end[0]}", f"from {begin[1]} to {end[1]}")]
    if len(span.days) < 7:
        days = [_DAYS[day] for day in sorted(span.days)]
        found.append(("、".join(day[0] for day in days), ", ".join(day[1] for day in days)))
    if span.season is not None:
        (month, day), (last_month, last_day) = span.season
        found.append((f"{month} 月 {day} 日至 {last_month} 月 {last_day} 日",
                      f"from {day} {_MONTHS[month - 1]} to {last_day} {_MONTHS[last_month - 1]}"))  # fmt: skip
    if not found:
        return "全天", "all day"
    return "，".join(pair[0] for pair in found), ", ".join(pair[1] for pair in found)


def _moment(moment: Moment) -> Pair:
    if moment.civil is not None:
        text = moment.civil.isoformat("minutes" if not moment.civil.second else "seconds")
        return text, text
    zh, en = ("日出", "sunrise") if moment.rises else ("日落", "sunset")
    if not moment.offset:
        return zh, en
    length_zh, length_en = duration_words(abs(moment.offset))
    when = ("后", "after") if moment.offset > 0 else ("前", "before")
    return f"{zh}{when[0]} {length_zh}", f"{length_en} {when[1]} {en}"
