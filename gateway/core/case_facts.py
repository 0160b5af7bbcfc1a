"""Everything there is to say of a case, by paths that a field map can name (``asset.road``), in Chinese or English."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from gateway.core.case_clock import Calendar
from gateway.core.cases import (
    CLOCK_WORDS,
    CLOSED_WORDS,
    EVENT_WORDS,
    STATUS_WORDS,
    CaseEvent,
    CaseRow,
    Pair,
    event_key,
    limit_words,
)
from gateway.core.civil import civil
from gateway.core.component_code import Layout, parse_component_code
from gateway.core.model import Asset, Level, Transition, WorkOrder, WorkState
from gateway.core.names import kind_name
from gateway.core.rule import Rule

Scalar = str | int | float | bool | None
Facts = dict[str, Scalar]
Language = Literal["zh", "en"]


class What(StrEnum):
    """What a fact is; it decides how it may be written."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    FLAG = "flag"


_TEXT, _NUMBER, _TIME, _FLAG = What.TEXT, What.NUMBER, What.TIME, What.FLAG

PATHS: dict[str, tuple[What, str, str]] = {
    "case.key": (_TEXT, "案件外部编号，始终不变", "our key of the case, the same for ever"),
    "case.number": (_TEXT, "平台编号", "the platform's number, once it has given one"),
    "case.status": (_TEXT, "案件状态代码", "opened, handling, done, rework, closed"),
    "case.status_name": (_TEXT, "案件状态", "the same in words"),
    "case.opened_at": (_TIME, "立案时间", "when it was opened"),
    "case.closed_at": (_TIME, "结案时间", "when it was closed"),
    "case.closed_how": (_TEXT, "结案方式代码", "readings, person, recovered, forced, rule"),
    "case.closed_how_name": (_TEXT, "结案方式", "the same in words"),
    "case.reworks": (_NUMBER, "返工次数", "how often it was not right"),
    "case.reopened": (_NUMBER, "复发次数", "how often it was opened again"),
    "event.key": (_TEXT, "幂等键：同一事件重发不变", "the idempotency key: the same in every attempt"),
    "event.kind": (_TEXT, "事件代码", "opened, dispatched, accepted, … closed"),
    "event.name": (_TEXT, "事件", "the same in words"),
    "event.at": (_TIME, "事件时间", "when it happened"),
    "event.by": (_TEXT, "操作人", "who did it, where it was a person"),
    "event.why": (_TEXT, "说明", "what the person said"),
    "class.major": (_TEXT, "大类代码", "major class in the city's catalogue"),
    "class.minor": (_TEXT, "小类代码", "minor class"),
    "alarm.id": (_TEXT, "报警编号", "asset/rule"),
    "alarm.level": (_TEXT, "级别代码", "I, II, III, IV"),
    "alarm.level_name": (_TEXT, "级别", "the same in words"),
    "alarm.title": (_TEXT, "报警名称", "the rule's title"),
    "alarm.text": (_TEXT, "问题描述", "where, what, and the value that decided"),
    "alarm.value": (_TEXT, "实测值", "the value that decided"),
    "alarm.limit": (_NUMBER, "限值", "the limit"),
    "alarm.unit": (_TEXT, "单位", "its unit"),
    "alarm.raised_at": (_TIME, "上报时间", "when it was detected"),
    "alarm.cleared_at": (_TIME, "恢复时间", "when it was normal again"),
    "alarm.active": (_FLAG, "报警仍在", "whether it stands"),
    "alarm.simulated": (_FLAG, "模拟数据", "of a simulated asset"),
    "asset.id": (_TEXT, "设施编号", "our id"),
    "asset.code": (_TEXT, "部件标识码", "the 16-digit component code"),
    "asset.name": (_TEXT, "设施名称", "its name"),
    "asset.kind": (_TEXT, "设施类型代码", "lamp, manhole, …"),
    "asset.kind_name": (_TEXT, "设施类型", "the same in words"),
    "asset.road": (_TEXT, "道路", "its road"),
    "asset.town": (_TEXT, "街道（乡镇）", "its town"),
    "asset.unit": (_TEXT, "权属（养护）单位", "whom it belongs to"),
    "asset.place": (_TEXT, "地址描述", "town, road and name"),
    "asset.longitude": (_NUMBER, "经度", "longitude"),
    "asset.latitude": (_NUMBER, "纬度", "latitude"),
    "asset.coordinates": (_TEXT, "经纬度", "longitude,latitude"),
    "rule.id": (_TEXT, "规则编号", "the rule"),
    "rule.response": (_TEXT, "处置要求", "what is to be done"),
    "rule.consequence": (_TEXT, "后果", "what may happen"),
    "rule.opened_when": (_TEXT, "立案条件", "when a case is opened"),
    "rule.closed_when": (_TEXT, "结案条件", "when it may be closed"),
    "rule.supervised_by": (_TEXT, "监管主体", "who supervises"),
    "rule.responsible": (_TEXT, "责任主体", "who is responsible"),
    "deadline.at": (_TIME, "处置截止时间", "when the time limit ends"),
    "deadline.clock": (_TEXT, "计时方式代码", "urgent, working_hours, working_days, natural_days"),
    "deadline.clock_name": (_TEXT, "计时方式", "the same as cities call it"),
    "deadline.limit": (_TEXT, "处置时限", "the time limit: 6 紧急工作时"),
    "deadline.text": (_TEXT, "处置时限说明", "the limit and when it ends, in a sentence"),
    "work.state": (_TEXT, "处置状态代码", "NONE, DISPATCHED, … CLOSED"),
    "work.to": (_TEXT, "派遣对象", "who was sent"),
    "work.by": (_TEXT, "派遣人", "who sent them"),
    "work.comment": (_TEXT, "派遣说明", "what they were told"),
    "work.dispatched_at": (_TIME, "派遣时间", "when"),
    "work.accepted_by": (_TEXT, "接单人", "who accepted"),
    "work.accepted_at": (_TIME, "接单时间", "when"),
    "work.on_site_at": (_TIME, "到场时间", "when they were there"),
    "work.done_by": (_TEXT, "处置人", "who did it"),
    "work.done_at": (_TIME, "处置完成时间", "when it was done"),
    "work.action": (_TEXT, "处置措施", "what was done"),
    "work.cause_code": (_TEXT, "原因代码", "what it was"),
    "work.closed_by": (_TEXT, "核查人", "who closed it; nobody when the readings did"),
}
ATTRIBUTE = "asset.attributes."  # and behind it the name of any attribute
NEEDED = ("case.key", "event.key")  # without these the platform cannot tell two events, nor name the case

LEVEL_WORDS: dict[Level, Pair] = {
    Level.I: ("特别重大", "level I (red)"),
    Level.II: ("重大", "level II (orange)"),
    Level.III: ("较大", "level III (yellow)"),
    Level.IV: ("一般", "level IV (blue)"),
}


def what_of(path: str) -> What | None:
    """What is under ``path``; None when nothing is."""
    if path.startswith(ATTRIBUTE) and len(path) > len(ATTRIBUTE):
        return What.TEXT
    found = PATHS.get(path)
    return None if found is None else found[0]


def facts(
    row: CaseRow,
    step: Transition,
    event: CaseEvent,
    asset: Asset | None,
    rule: Rule | None,
    calendar: Calendar,
    *,
    language: Language = "zh",
    layout: Layout | None = None,
) -> Facts:
    """Everything there is to say of a case and of what has just happened to it; times are microseconds UTC. ``row`` is
    as it is after the event."""
    record, case, at = step.record, row.case, 0 if language == "zh" else 1
    found: Facts = {
        "case.key": case.key,
        "case.number": row.number,
        "case.status": case.status.value,
        "case.status_name": STATUS_WORDS[case.status][at],
        "case.opened_at": case.opened_at,
        "case.closed_at": case.closed_at,
        "case.closed_how": case.closed_how or None,
        "case.closed_how_name": CLOSED_WORDS[case.closed_how][at] if case.closed_how in CLOSED_WORDS else None,
        "case.reworks": case.reworks,
        "case.reopened": case.reopened,
        "event.key": event_key(case, step, event),
        "event.kind": event.value,
        "event.name": EVENT_WORDS[event][at],
        "event.at": step.at,
        "event.by": step.by,
        "event.why": step.why,
        "alarm.id": record.alarm_id,
        "alarm.level": record.level.name,
        "alarm.level_name": LEVEL_WORDS[record.level][at],
        "alarm.title": (record.title_zh, record.title_en)[at] or record.title_zh or record.title_en,
        "alarm.text": describe(step, asset, language),
        "alarm.value": _plain(record.value),
        "alarm.limit": record.limit,
        "alarm.unit": record.unit,
        "alarm.raised_at": record.detected_at,
        "alarm.cleared_at": record.inactive_at,
        "alarm.active": record.is_active,
        "alarm.simulated": record.simulated,
    }
    found |= _of_asset(record.asset, record.kind, asset, at)
    found |= _of_rule(record.rule, rule, asset, layout, at)
    found |= _of_deadline(row, rule, calendar, at)
    return found | _of_work(record.work, record.order)


def describe(step: Transition, asset: Asset | None, language: Language) -> str:
    """The problem in a sentence: where it is, what it is, and the value that decided."""
    record = step.record
    zh = language == "zh"
    title = (record.title_zh or record.title_en) if zh else (record.title_en or record.title_zh)
    where = place_of(asset, zh) if asset is not None else record.asset
    number = ""
    if isinstance(record.value, (int, float)) and not isinstance(record.value, bool):
        number = f"{record.value:.6g}{' ' if record.unit else ''}{record.unit}"
        if record.limit is not None:
            number += f"，限值 {record.limit:.6g}" if zh else f", limit {record.limit:.6g}"
    if zh:
        return f"{where}：{title}" + (f"（{number}）" if number else "")
    return f"{where}: {title}" + (f" ({number})" if number else "")


def place_of(asset: Asset, zh: bool) -> str:
    parts = [part for part in (asset.town, asset.road, asset.name or asset.asset) if part]
    return "".join(parts) if zh else ", ".join(parts)


def _of_asset(name: str, kind: str, asset: Asset | None, at: int) -> Facts:
    found: Facts = {"asset.id": name, "asset.kind": kind, "asset.kind_name": kind_name(kind)[at]}
    if asset is None:
        return found
    code = asset.attributes.get("component_code")
    found |= {
        "asset.code": code if isinstance(code, str) else None,
        "asset.name": asset.name,
        "asset.road": asset.road,
        "asset.town": asset.town,
        "asset.unit": asset.unit,
        "asset.place": place_of(asset, at == 0),
        "asset.longitude": asset.longitude,
        "asset.latitude": asset.latitude,
    }
    return found | {f"{ATTRIBUTE}{key}": value for key, value in asset.attributes.items()}


def _of_rule(name: str, rule: Rule | None, asset: Asset | None, layout: Layout | None, at: int) -> Facts:
    found: Facts = {"rule.id": name}
    if rule is None:
        return found
    found |= {
        "rule.response": (rule.response_zh, rule.response_en)[at] or rule.response_zh or rule.response_en,
        "rule.consequence": rule.consequence,
    }
    row = rule.standard
    if row is None:
        return found
    found |= {
        "rule.opened_when": row.opened_when[at],
        "rule.closed_when": row.closed_when[at],
        "rule.supervised_by": row.supervised_by[at],
        "rule.responsible": row.responsible[at],
        "class.major": row.major,
        "class.minor": row.minor,
    }
    code = asset.attributes.get("component_code") if asset is not None else None
    if layout is not None and isinstance(code, str):
        try:
            parts = parse_component_code(code, layout)
        except ValueError:
            return found
        # A rule about covers says 雨水井盖; the cover itself knows whether it is one.
        if parts.major == row.major:
            found["class.minor"] = parts.minor
    return found


def _of_deadline(row: CaseRow, rule: Rule | None, calendar: Calendar, at: int) -> Facts:
    limit = limit_words(rule)[at]
    if rule is None or rule.sla is None or not limit:
        return {}
    found: Facts = {
        "deadline.at": row.case.due_at,
        "deadline.clock": rule.sla.clock,
        "deadline.clock_name": CLOCK_WORDS[rule.sla.clock][at],
        "deadline.limit": limit,
        "deadline.text": limit,
    }
    if row.case.due_at is not None:
        due = civil(row.case.due_at, calendar.timezone).strftime("%Y-%m-%d %H:%M")
        found["deadline.text"] = f"{limit}，{due} 前" if at == 0 else f"{limit}, by {due}"
    return found


def _of_work(state: str, order: WorkOrder | None) -> Facts:
    found: Facts = {"work.state": state}
    if order is None or state == WorkState.NONE:
        return found
    return found | {
        "work.to": order.to,
        "work.by": order.by,
        "work.comment": order.comment,
        "work.dispatched_at": order.since,
        "work.accepted_by": order.accepted_by,
        "work.accepted_at": order.accepted_at,
        "work.on_site_at": order.on_site_at,
        "work.done_by": order.done_by,
        "work.done_at": order.done_at,
        "work.action": order.action,
        "work.cause_code": order.cause_code,
        "work.closed_by": order.closed_by,
    }


def _plain(value: Any) -> Scalar:
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
