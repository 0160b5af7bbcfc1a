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

from gateway.config.assets import load_asset_files
from gateway.config.bundle import load_configuration
from gateway.config.settings import Settings, load_settings
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


# -- words ------------------------------------------------------------------------------------------------------------


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


def _local(at: Micros, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at / 1e6, UTC).astimezone(zone)


def _iso(at: Micros, zone: ZoneInfo) -> str:
    return _local(at, zone).isoformat(timespec="seconds")


def _seconds(length: Micros) -> float:
    return round(length / 1e6, 3)
