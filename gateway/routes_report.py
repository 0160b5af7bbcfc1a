"""``citywatch routes``: who would be told of an alarm, when and why, without telling anybody; and who is on duty.

The answer comes from what the gateway itself runs: the alarm is raised in an ``Escalations`` of its own, nobody does
anything about it, and time goes on until nothing more is to be said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from gateway.config.assets import load_asset_files
from gateway.config.bundle import load_configuration
from gateway.config.settings import Settings, load_settings
from gateway.config.units import format_duration
from gateway.config.yaml_source import did_you_mean
from gateway.core.case_clock import deadline, reached
from gateway.core.escalation import WARN_AT, Escalations, Told
from gateway.core.model import (
    HOUR,
    MINUTE,
    AlarmRecord,
    Asset,
    Command,
    Condition,
    IsaState,
    Level,
    Micros,
    Transition,
)
from gateway.core.notification import Message, MessageKind
from gateway.core.processor import GATEWAY, Configuration
from gateway.core.rota import Duty, Rota
from gateway.core.routing import Match, Route, Routing, Target, TargetKind
from gateway.core.rule import Rule, RuleSet, steps
from gateway.core.schedule import Moment, Schedule, Span
from gateway.errors import ConfigError, Mistake
from gateway.store.still import city_of

HORIZON: Micros = 60 * 24 * HOUR  # the longest time of a shipped rule is 30 days; later nobody reads on
MAX_TOLD = 1000
MAX_SHOWN = 60  # lines of one answer for a person

LEVELS = {Level.I: ("Ⅰ 红 red", "bold white on red"), Level.II: ("Ⅱ 橙 orange", "bold dark_orange"),
          Level.III: ("Ⅲ 黄 yellow", "yellow"), Level.IV: ("Ⅳ 蓝 blue", "dodger_blue1")}  # fmt: skip
KINDS = {
    MessageKind.RAISED: ("告知", "told"),
    MessageKind.ESCALATED: ("升级", "escalated"),
    MessageKind.REMINDER: ("再次提醒", "reminded"),
    MessageKind.DIGEST: ("汇总", "digest"),
    MessageKind.DUE: ("即将超时", "nearly overdue"),
    MessageKind.OVERDUE: ("已超时", "overdue"),
    MessageKind.CLEARED: ("恢复", "cleared"),
    MessageKind.WORK: ("工单", "work"),
    MessageKind.CANARY: ("通路测试", "canary"),
}
WORK = ("自动派单", "work given")
TIMES = {"respond": ("响应", "respond"), "resolve": ("处置", "resolve")}
FIELDS = {
    "simulated": "模拟", "level": "级别", "kind": "类型", "rule": "规则", "asset": "资产", "road": "道路",
    "town": "乡镇", "unit": "单位", "notify": "通知对象", "attributes": "属性", "during": "时段", "unless": "除外时段",
}  # fmt: skip
WHY = {"swap": ("替班", "standing in"), "fallback": ("后备", "fallback")}
CLOCKS = {
    "urgent": ("紧急工作时", "every hour counts"),
    "working_hours": ("工作时", "working hours count"),
    "working_days": ("工作日", "working days count"),
    "natural_days": ("自然日", "calendar days count"),
}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Answer = dict[str, Any]


# -- the commands -----------------------------------------------------------------------------------------------------


def routes_test(alarms: Sequence[str], config: Path, at: str | None, level: Level | None) -> Answer:
    """Who would be told of ``alarms`` (``asset/rule``), all raised at one moment: ISO 8601, in the site's zone where it
    names none; None for now. ``level``: theirs; None for the worst each rule has. Raises ConfigError."""
    settings = load_settings(config)
    configuration = _configuration(settings, config)
    moment = moment_of(at, settings.site.timezone)
    return explained(alarms, configuration, _assets(settings, configuration), moment, level)


def routes_duty(config: Path, at: str | None) -> Answer:
    """Who is on duty in every rota at a moment, and what comes next. Raises ConfigError."""
    settings = load_settings(config)
    routing = _configuration(settings, config).routing
    moment = moment_of(at, settings.site.timezone)
    zone = ZoneInfo(routing.calendar.timezone)
    return {
        "at": _iso(moment, zone),
        "timezone": zone.key,
        "rotas": [_rota(rota, routing, moment, zone) for rota in routing.rotas.values()],
    }


def moment_of(text: str | None, timezone: str) -> Micros:
    """Raises ConfigError for what is no moment."""
    if text is None:
        return time.time_ns() // 1000
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        message = f"not a moment: {text!r} (write 2026-10-01T22:30, or with a zone 2026-10-01T22:30+08:00)"
        raise ConfigError([Mistake("--at", None, "", message)]) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(timezone))
    return round(found.timestamp() * 1e6)


def _configuration(settings: Settings, config: Path) -> Configuration:
    if settings.routes is None:
        message = "names no file with routes, so nobody is told (deploy/routes.yaml is one to begin with)"
        raise ConfigError([Mistake(str(config), None, "routes", message)])
    return load_configuration(settings)[1]


def _assets(settings: Settings, configuration: Configuration) -> dict[str, Asset]:
    """Those of the data folder, if there is one, and over them those of the files."""
    known = asyncio.run(city_of(settings.data))[0] if (settings.data / "store.db").exists() else []
    files = {str(file): file for file in settings.assets}
    layout = settings.site.component_code_layout
    read, _ = load_asset_files(files, configuration.profiles, None, layout) if files else ([], [])
    return {asset.asset: asset for asset in (GATEWAY, *known, *read)}


# -- an alarm that nobody does anything about -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Raised:
    record: AlarmRecord
    asset: Asset
    rule: Rule
    levels: tuple[Level, ...]


def explained(
    alarms: Sequence[str], configuration: Configuration, assets: Mapping[str, Asset], at: Micros, level: Level | None
) -> Answer:
    """See ``routes_test``; ``assets`` by id."""
    routing = configuration.routing
    zone = ZoneInfo(routing.calendar.timezone)
    raised = [_raised(alarm, configuration.rules, assets, at, level) for alarm in dict.fromkeys(alarms)]
    told = _told(raised, configuration, assets, at)
    return {
        "at": _iso(at, zone),
        "timezone": zone.key,
        "told": any(isinstance(one, Message) for one, _ in told),
        "alarms": [_alarm(one, routing, at, zone) for one in raised],
        "timeline": [_said(one, when, routing, at, zone) for one, when in told],
    }


def _raised(alarm: str, rules: RuleSet, assets: Mapping[str, Asset], at: Micros, level: Level | None) -> _Raised:
    asset_id, slash, rule_id = alarm.rpartition("/")
    if not slash:
        raise _wrong(alarm, "an alarm is asset/rule")
    asset, rule = assets.get(asset_id), rules.get(rule_id)
    if asset is None:
        raise _wrong(alarm, f"there is no asset {asset_id}{did_you_mean(asset_id, assets)}")
    if rule is None:
        raise _wrong(alarm, f"there is no rule {rule_id}{did_you_mean(rule_id, rules.rules)}")
    if asset.kind not in rule.kinds:
        raise _wrong(alarm, f"{asset_id} is a {asset.kind}; the rule is for {', '.join(rule.kinds)}")
    rule = rule.variant(asset_id)
    levels = tuple(sorted({step.level or rule.level for step in steps(rule.when)} or {rule.level}))
    record = AlarmRecord(
        alarm,
        asset_id,
        rule_id,
        asset.kind,
        occurrence_id=alarm,
        rev=1,
        cond=Condition.ACTIVE,
        level=level or levels[0],
        max_level=level or levels[0],
        acked=not rule.ack_required,
        active_at=at,
        detected_at=at,
        simulated=asset.simulated,
        shadow=rule.shadow,
        title_zh=rule.title_zh,
        title_en=rule.title_en,
    )
    return _Raised(record, asset, rule, levels)


def _wrong(alarm: str, message: str) -> ConfigError:
    return ConfigError([Mistake(alarm, None, "", message)])


def _told(
    raised: Sequence[_Raised], configuration: Configuration, assets: Mapping[str, Asset], at: Micros
) -> list[tuple[Message | Command, Micros]]:
    """Everything that is said, and when; nobody acts, so nothing is withdrawn."""
    found: list[tuple[Message | Command, Micros]] = []
    out: list[Told] = []
    escalations = Escalations(assets.get)
    escalations.use(configuration.routing, configuration.rules, out)

    def take(when: Micros) -> None:
        found.extend((one, when) for one in out if isinstance(one, (Message, Command)))
        out.clear()

    for one in raised:
        if one.rule.annunciates and one.rule.enabled:
            record = one.record
            escalations.hear(
                Transition(
                    record.alarm_id, 1, at, "T3", IsaState.NORM, record.isa_state, record, notify=record.annunciated
                ),
                out,
            )
    take(at)
    while len(found) < MAX_TOLD and (due := escalations.next_deadline) is not None and due <= at + HORIZON:
        escalations.advance(due, out)
        take(due)
    return found


# -- why --------------------------------------------------------------------------------------------------------------


def _alarm(one: _Raised, routing: Routing, at: Micros, zone: ZoneInfo) -> Answer:
    record, asset, rule = one.record, one.asset, one.rule
    choices = routing.choices(record, asset, rule, at)
    return {
        "alarm_id": record.alarm_id,
        "title": {"zh": rule.title_zh, "en": rule.title_en},
        "asset": asset.asset,
        "name": asset.name,
        "kind": asset.kind,
        "road": asset.road,
        "level": record.level.name,
        "levels": [level.name for level in one.levels],
        "simulated": asset.simulated,
        "notify": list(rule.notify),
        "silent_because": _silent(rule),
        "looked_at": [
            {
                "route": choice.route.name,
                "title": {"zh": choice.route.title_zh, "en": choice.route.title_en},
                "line": choice.route.line,
                "depth": choice.depth,
                "chosen": choice.chosen,
                "misses": choice.misses,
                "wanted": _wanted(choice.route.match, choice.misses),
                "found": _found(choice.misses, one, at, zone),
            }
            for choice in choices
        ],
        "chosen": [_chosen(choice.route, record, at, zone) for choice in choices if choice.chosen],
        "sla": _sla(rule, at, routing, zone),
    }


def _silent(rule: Rule) -> list[str] | None:
    """In Chinese and English, why a rule tells nobody, whatever the routes say."""
    if rule.shadow:
        return ["试运行规则，不通知任何人", "the rule is on trial (shadow) and tells nobody"]
    if not rule.enabled:
        return ["规则已停用", "the rule is switched off"]
    if not rule.annunciates:
        return ["规则没有处置要求，只作记录", "the rule names no response: an event that is only recorded"]
    return None


def _wanted(match: Match, missed: str | None) -> str | None:
    match missed:
        case None:
            return None
        case "simulated":
            return "true" if match.simulated else "false"
        case "level":
            return f"{match.level.name} or worse"
        case "during" | "unless":
            schedule = match.during if missed == "during" else match.unless
            return None if schedule is None else schedule_words(schedule)
        case "attributes":
            return ", ".join(f"{name}={value}" for name, value in match.attributes)
        case _:
            lists = {
                "kind": match.kinds, "rule": match.rules, "asset": match.assets, "road": match.roads,
                "town": match.towns, "unit": match.units, "notify": match.addressees,
            }  # fmt: skip
            return ", ".join(lists[missed])


def _found(missed: str | None, one: _Raised, at: Micros, zone: ZoneInfo) -> str | None:
    asset = one.asset
    match missed:
        case None:
            return None
        case "simulated":
            return "true" if asset.simulated else "false"
        case "level":
            return one.record.level.name
        case "during" | "unless":
            return f"{_local(at, zone):%a %H:%M}".lower()
        case "attributes":
            return ", ".join(f"{name}={value}" for name, value in sorted(asset.attributes.items())) or "none"
        case "notify":
            return ", ".join(one.rule.notify) or "none"
        case "rule":
            return one.rule.id
        case _:
            return str(getattr(asset, missed)) or "none"


def _chosen(route: Route, record: AlarmRecord, at: Micros, zone: ZoneInfo) -> Answer:
    when = at if record.level is Level.I else at + route.group.wait
    quiet = route.quiet is not None and route.quiet.is_on(when)
    waits = quiet and record.level is not Level.I
    repeat = route.repeat
    return {
        "route": route.name,
        "title": {"zh": route.title_zh, "en": route.title_en},
        "group": {
            "by": [by.value for by in route.group.by],
            "wait_s": _seconds(route.group.wait),
            "interval_s": _seconds(route.group.interval),
        },
        "repeat": None
        if repeat is None
        else {"every_s": _seconds(repeat.every), "times": repeat.times, "if_still": repeat.if_still.value},
        "quiet": None
        if route.quiet is None
        else {
            "hours": schedule_words(route.quiet),
            "on": quiet,
            "until": _iso(route.quiet.next_change(when), zone) if waits else None,
        },
        "cleared": route.cleared,
        "dispatch": route.dispatch,
    }


def _sla(rule: Rule, at: Micros, routing: Routing, zone: ZoneInfo) -> Answer | None:
    sla = rule.sla
    if sla is None:
        return None
    return {
        "clock": sla.clock,
        "times": [
            {
                "what": what,
                "lasts_s": _seconds(lasts),
                "warn_at": _iso(reached(sla.clock, at, lasts, WARN_AT, routing.calendar), zone),
                "over_at": _iso(deadline(sla.clock, at, lasts, routing.calendar), zone),
            }
            for what, lasts in (("respond", sla.respond), ("resolve", sla.resolve))
            if lasts is not None
        ],
    }


def _said(one: Message | Command, when: Micros, routing: Routing, at: Micros, zone: ZoneInfo) -> Answer:
    common = {"at": _iso(when, zone), "after_s": _seconds(when - at)}
    if isinstance(one, Command):
        team = str(one.arguments.get("to", ""))
        kind = TargetKind.ROTA if team in routing.rotas else TargetKind.TEAM
        people = routing.people_of((Target(kind, team),), when)
        return {
            **common,
            "kind": "dispatch",
            "alarms": [one.alarm_id],
            "count": 1,
            "to": team,
            "title": _titled(routing, team),
            "people": [_person(routing, person) for person in people],
        }
    return {
        **common,
        "kind": one.kind.value,
        "alarms": [line.alarm_id for line in one.lines],
        "count": one.count,
        "level": one.level.name,
        "route": one.route,
        "step": one.step,
        "person": _person(routing, one.recipient),
        "language": one.language,
        "because": _because(one, routing, zone),
        "channels": [{"receiver": channel.receiver, "to": channel.address} for channel in one.channels],
        "what": one.text or None,
        "due_at": None if one.due_at is None else _iso(one.due_at, zone),
    }


def _because(message: Message, routing: Routing, zone: ZoneInfo) -> list[Answer]:
    """The ways that led to the recipient: each from what the route names down to the person."""
    route = next((one for one in routing.root.all_routes if one.name == message.route), None)
    if route is None:
        return []
    first, last = route.steps[:1], route.steps[-1:]
    match message.kind:
        case MessageKind.DUE:
            targets = route.warn or tuple(target for step in first for target in step.tell)
        case MessageKind.OVERDUE:
            targets = route.overdue or tuple(target for step in last for target in step.tell)
        case _:
            targets = route.steps[message.step].tell if message.step < len(route.steps) else ()
    ways = (way for target in targets for way in _ways(target, message.recipient, routing, message.at, zone))
    return list(ways)


def _ways(target: Target, person: str, routing: Routing, at: Micros, zone: ZoneInfo) -> Iterator[Answer]:
    match target.kind:
        case TargetKind.PERSON:
            if target.name == person:
                yield {"by": [str(target)], "titles": [], "duty": None}
        case TargetKind.TEAM:
            for member in routing.teams[target.name]:
                for way in _ways(member, person, routing, at, zone):
                    titles = [_titled(routing, target.name), *way["titles"]]
                    yield {**way, "by": [str(target), *way["by"]], "titles": titles}
        case TargetKind.ROTA:
            duty = routing.rotas[target.name].on_duty(at)
            if person in duty.people:
                title = _titled(routing, target.name)
                yield {"by": [str(target)], "titles": [title], "duty": _duty(duty, routing, zone)}


def _person(routing: Routing, name: str) -> Answer:
    known = routing.people.get(name)
    return {"person": name, "name": known.name if known else name, "name_en": known.name_en if known else name}


def _titled(routing: Routing, name: str) -> Answer:
    zh, en = routing.titles.get(name, (name, name))
    return {"zh": zh, "en": en}


# -- duty -------------------------------------------------------------------------------------------------------------


def _rota(rota: Rota, routing: Routing, at: Micros, zone: ZoneInfo) -> Answer:
    change = rota.next_change(at)
    return {
        "rota": rota.rota,
        "title": _titled(routing, rota.rota),
        **_duty(rota.on_duty(at), routing, zone),
        "until": None if change is None else _iso(change, zone),
        "next": None if change is None else _duty(rota.on_duty(change), routing, zone),
    }


def _duty(duty: Duty, routing: Routing, zone: ZoneInfo) -> Answer:
    return {
        "people": [_person(routing, person) for person in duty.people],
        "why": duty.why,
        "shift": duty.shift or None,
        "swaps": [
            {
                "instead_of": _person(routing, swap.instead_of),
                "person": _person(routing, swap.person),
                "from": _iso(swap.begin, zone),
                "until": _iso(swap.end, zone),
                "why": swap.why,
            }
            for swap in duty.swaps
        ],
    }


# -- for people -------------------------------------------------------------------------------------------------------


def screen() -> Console:
    """Standard output; as wide as the answer needs where no terminal says how wide it is."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def show_test(answer: Answer, console: Console) -> None:
    zone = ZoneInfo(answer["timezone"])
    for alarm in answer["alarms"]:
        _show_alarm(alarm, zone, console)
    _show_timeline(answer, zone, console)


def show_duty(answer: Answer, console: Console) -> None:
    zone = ZoneInfo(answer["timezone"])
    console.print(Text.assemble(("值班 On duty", "bold"), f"  {_shown(answer['at'], zone)}"))
    if not answer["rotas"]:
        console.print(Text("没有值班表 There are no rotas", style="dim"))
        return
    table = _table()
    for rota in answer["rotas"]:
        title, after = rota["title"], rota["next"]
        following = "" if after is None else f"{_shown(rota['until'], zone)} → {_names(after['people'])}"
        style = "yellow" if rota["why"] == "fallback" else "green"
        table.add_row(
            Text(_both(title["zh"], title["en"]), style="bold"),
            Text(_names(rota["people"]), style=style),
            Text(_duty_words(rota)),
            Text(following, style="dim"),
        )
    console.print(table)


def _show_alarm(alarm: Answer, zone: ZoneInfo, console: Console) -> None:
    words, style = LEVELS[Level[alarm["level"]]]
    title = alarm["title"]
    console.print(
        Text.assemble((words, style), "  ", (_both(title["zh"], title["en"]), "bold"), "  ", alarm["alarm_id"])
    )
    place = [part for part in (alarm["name"], alarm["road"], alarm["kind"]) if part]
    others = [level for level in alarm["levels"] if level != alarm["level"]]
    if others:
        place.append(f"另有级别 other levels {', '.join(others)}（--level）")
    if alarm["simulated"]:
        place.append("模拟资产 simulated")
    console.print(Text("  " + " · ".join(place), style="dim"))
    if alarm["silent_because"]:
        console.print(Text("  " + _both(*alarm["silent_because"]), style="yellow"))
    console.print(_tree(alarm["looked_at"]))
    for route in alarm["chosen"]:
        _show_chosen(route, zone, console)
    if alarm["sla"] is not None:
        _show_sla(alarm["sla"], zone, console)
    console.print()


def _tree(looked_at: Sequence[Answer]) -> Tree:
    """The routes that were looked at, those passed by with the field that did not match."""
    top = Tree(_label(looked_at[0]), guide_style="dim")
    branches = [top]
    for one in looked_at[1:]:
        del branches[one["depth"] :]
        branches.append(branches[-1].add(_label(one)))
    return top


def _label(one: Answer) -> Text:
    title = one["title"]
    shown = one["route"]
    if title["zh"] != one["route"]:
        shown += f"  {_both(title['zh'], title['en'])}"
    if one["misses"] is not None:
        field = f"{FIELDS[one['misses']]} {one['misses']}"
        return Text(f"✗ {shown}   {field}: {one['found']} ≠ {one['wanted']}", style="dim")
    if one["chosen"]:
        return Text.assemble(("✓ " + shown, "bold green"))
    return Text(f"· {shown}")


def _show_chosen(route: Answer, zone: ZoneInfo, console: Console) -> None:
    group, repeat, quiet = route["group"], route["repeat"], route["quiet"]
    facts = [f"合并 grouped by {', '.join(group['by'])}{_waits(group)}"]
    if repeat is not None:
        facts.append(f"重复 repeated every {_length(repeat['every_s'])} × {repeat['times']} ({repeat['if_still']})")
    if quiet is not None:
        facts.append(f"静默 quiet {quiet['hours']}: {_quiet_words(quiet, zone)}")
    if not route["cleared"]:
        facts.append("恢复不通知 the end is not told")
    if route["dispatch"]:
        facts.append(f"自动派单 work goes to {route['dispatch']}")
    console.print(Text.assemble("  ", (f"✓ {route['route']}", "green"), "  ", (" · ".join(facts), "dim")))


def _quiet_words(quiet: Answer, zone: ZoneInfo) -> str:
    if not quiet["on"]:
        return "现在不在其中 not now"
    if quiet["until"] is None:
        return "Ⅰ级不等待 level I waits for nothing"
    return f"等到 waits until {_shown(quiet['until'], zone)}"


def _waits(group: Answer) -> str:
    waits = [(group["wait_s"], "等待 wait"), (group["interval_s"], "间隔 interval")]
    said = [f"{words} {_length(length)}" for length, words in waits if length]
    return f" ({', '.join(said)})" if said else ""


def _show_sla(sla: Answer, zone: ZoneInfo, console: Console) -> None:
    for one in sla["times"]:
        zh, en = TIMES[one["what"]]
        in_hours = sla["clock"] == "working_hours"  # of which 24 are three days
        lasts = f"{one['lasts_s'] / 3600:g}h" if in_hours else _length(one["lasts_s"])
        line = f"{lasts} → {_shown(one['over_at'], zone)}（{_shown(one['warn_at'], zone)} 预警 warned）"
        console.print(
            Text.assemble("  ", (f"{zh}时限 time to {en}", "dim"), f"  {line}  {_both(*CLOCKS[sla['clock']])}")
        )


def _show_timeline(answer: Answer, zone: ZoneInfo, console: Console) -> None:
    console.print(Text.assemble(("如果没有人处理 If nobody does anything", "bold"), f"  {_shown(answer['at'], zone)}"))
    if not answer["told"]:
        console.print(Text("  没有人会收到通知 Nobody would be told", style="bold red"))
    moments = _moments(answer["timeline"])
    several = len(answer["alarms"]) > 1
    table = _table()
    for moment in moments[:MAX_SHOWN]:
        for number, (who, how, why) in enumerate(moment.people):
            first = number == 0
            style = {"overdue": "red", "escalated": "dark_orange", "due": "yellow"}.get(moment.kind, "")
            table.add_row(
                Text(f"+{_length(moment.after_s)}" if first else ""),
                Text(_shown(moment.at, zone) if first else "", style="dim"),
                Text(_moment_title(moment, zone) if first else "", style=style),
                Text(who),
                Text(how, style="dim"),
                Text(why, style="dim"),
                Text(", ".join(moment.alarms) if first and several else "", style="dim"),
            )
    if moments:
        console.print(table)
    if len(moments) > MAX_SHOWN:
        console.print(Text(f"  …还有 and {len(moments) - MAX_SHOWN} more", style="dim"))


@dataclass(slots=True)
class _Told:
    """What is said at one moment, for a person to read: everybody once. ``repeats``: how often after that too, until
    ``last``."""

    at: str
    after_s: float
    kind: str
    what: str | None
    alarms: list[str]
    people: list[tuple[str, str, str]]
    repeats: int = 0
    last: str = ""


def _moments(timeline: Sequence[Answer]) -> list[_Told]:
    found: dict[tuple[str, str, str | None], _Told] = {}
    for said in timeline:
        key = (said["at"], said["kind"], said.get("what"))
        moment = found.setdefault(key, _Told(said["at"], said["after_s"], said["kind"], said.get("what"), [], []))
        moment.alarms += [alarm for alarm in said["alarms"] if alarm not in moment.alarms]
        row = _row(said)
        if row not in moment.people:
            moment.people.append(row)
    folded: list[_Told] = []
    reminders: dict[str, _Told] = {}
    for moment in found.values():
        names = repr((sorted(who for who, _, _ in moment.people), sorted(moment.alarms)))
        before = reminders.get(names)
        if moment.kind == MessageKind.REMINDER and before is not None:
            before.repeats, before.last = before.repeats + 1, moment.at
            continue
        if moment.kind == MessageKind.REMINDER:
            reminders[names] = moment
        folded.append(moment)
    return folded


def _row(said: Answer) -> tuple[str, str, str]:
    """Who, how, why."""
    if said["kind"] == "dispatch":
        return _both(said["title"]["zh"], said["title"]["en"]), _names(said["people"]), ""
    who = _both(said["person"]["name"], said["person"]["name_en"])
    return who, _channels(said["channels"]), _why(said["because"])


def _channels(channels: Sequence[Answer]) -> str:
    """In the order in which they are tried; an address that is the same for several stands at the last of them."""
    words: list[str] = []
    for number, channel in enumerate(channels):
        following = channels[number + 1]["to"] if number + 1 < len(channels) else None
        words.append(channel["receiver"] if channel["to"] == following else f"{channel['receiver']} {channel['to']}")
    return " ⇢ ".join(word.strip() for word in words)


def _moment_title(moment: _Told, zone: ZoneInfo) -> str:
    zh, en = WORK if moment.kind == "dispatch" else KINDS[MessageKind(moment.kind)]
    if moment.what in TIMES:
        zh, en = f"{TIMES[moment.what][0]}{zh}", f"{TIMES[moment.what][1]} {en}"
    repeats = f" ×{moment.repeats + 1} → {_shown(moment.last, zone)[-5:]}" if moment.repeats else ""
    return _both(zh, en) + repeats


def _why(ways: Sequence[Answer]) -> str:
    said: list[str] = []
    for way in ways[:2]:
        titles = [_both(title["zh"], title["en"]) for title in way["titles"]]
        if way["duty"] is not None:
            titles.append(_duty_words(way["duty"]))
        if titles:
            said.append(" › ".join(titles))
    return "; ".join(said)


def _duty_words(duty: Answer) -> str:
    why = "" if duty["why"] == "shift" else _both(*WHY[duty["why"]])
    words = " ".join(part for part in (duty["shift"], why) if part)
    for swap in duty["swaps"]:
        instead = _both(swap["instead_of"]["name"], swap["instead_of"]["name_en"])
        words += f"（代 for {instead}{'：' + swap['why'] if swap['why'] else ''}）"
    return words


def _names(people: Sequence[Answer]) -> str:
    return ", ".join(_both(person["name"], person["name_en"]) for person in people)


def _both(zh: str, en: str) -> str:
    return zh if zh == en else f"{zh} {en}"


def _table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(7):
        table.add_column(overflow="fold")
    return table


def schedule_words(schedule: Schedule) -> str:
    return " or ".join(_span_words(span) for span in schedule.spans)


def _span_words(span: Span) -> str:
    end = _moment_words(span.end)
    words = f"{_moment_words(span.begin)}–{'24:00' if end == '00:00' else end}"
    if len(span.days) < 7:
        words += " " + ",".join(day for number, day in enumerate(_DAYS) if number in span.days)
    return words


def _moment_words(moment: Moment) -> str:
    if moment.civil is not None:
        return f"{moment.civil:%H:%M}"
    offset = "" if not moment.offset else f"{moment.offset // MINUTE:+d}m"
    return ("sunrise" if moment.rises else "sunset") + offset


def _length(seconds: float) -> str:
    return format_duration(round(seconds * 1e6)) if seconds else "0m"


def _shown(text: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(text).astimezone(zone):%m-%d %a %H:%M}"


def _local(at: Micros, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at / 1e6, UTC).astimezone(zone)


def _iso(at: Micros, zone: ZoneInfo) -> str:
    return _local(at, zone).isoformat(timespec="seconds")


def _seconds(length: Micros) -> float:
    return round(length / 1e6, 3)
