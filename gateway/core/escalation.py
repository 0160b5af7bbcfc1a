"""Telling people until somebody acts: waiting, grouping, escalating, repeating, limiting. No clock, no I/O.

An alarm that is told to people goes down the tree of routes (``core/routing.py``) and joins one *call* on each route it
arrives at. A call is what one group of people is called about: alarms alike in what the route groups by. It waits for
others (``wait``), is told for the first time (its *base*, from which the steps count), tells what joins later
(``interval``), escalates and repeats as long as one of its alarms still wants that, and ends when none stands any more;
then those who were told are told so.

Who stops it: whoever acknowledges, and the alarm itself when it is over, shelved, suppressed or out of service. The
transition that says so takes its alarm out of the call *in the same step of the journal*, and withdraws the messages
that wait for delivery and are about nothing else.

``Escalations.hear`` takes every transition in its order, ``advance`` lets time pass; both give ``Message``,
``MessagesWithdrawn`` and, where a route dispatches work by itself, a ``Command``. The owner (``core/processor.py``)
calls ``advance(transition.at)`` before ``hear(transition)``: waking late gives the same messages as waking on time.

Level I waits for no group, no quiet hours and no limit.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from gateway.core.calls import Call, CallStatus, Held, Member, Sent, matters, still_due, values_of
from gateway.core.case_clock import deadline, reached
from gateway.core.model import (
    AlarmRecord,
    Asset,
    Command,
    CommandName,
    Level,
    Micros,
    Transition,
)
from gateway.core.notification import Message, MessageKind, MessagesWithdrawn, lines_of
from gateway.core.routing import Route, Routing, Step, Target, While
from gateway.core.rule import Rule, RuleSet

Told: TypeAlias = Message | MessagesWithdrawn | Command

WARN_AT = 0.8  # of a time to respond or resolve: whoever can still do something is warned
CANARY = "canary"  # the rule that proves the path
US = "citywatch"  # who dispatches when a route does
MAX_SENT = 1_000  # messages of one call whose withdrawal is still possible; older ones are out

_CLEARED = "T6"
_WORK_WORDS = {"W1": "dispatched", "W7": "rework", "W8": "reopened", "W3": "refused"}


class _Saved(msgspec.Struct, array_like=True):
    now: Micros
    next_no: int
    calls: list[Call]
    recent: dict[str, list[tuple[Micros, str]]]
    held: dict[str, Held]
    digests: int


class Escalations:
    """``asset_of``: the asset of an id, None for one that is unknown."""

    def __init__(self, asset_of: Callable[[str], Asset | None]) -> None:
        self.routing = Routing()
        self.now: Micros = 0
        self._rules: RuleSet | None = None
        self._asset_of = asset_of
        self._routes: dict[str, Route] = {}
        self._calls: dict[tuple[str, tuple[str, ...]], Call] = {}
        self._by_alarm: dict[str, list[Call]] = {}
        self._recent: dict[str, list[tuple[Micros, str]]] = {}  # person → (when, rule) of messages that count
        self._held: dict[str, Held] = {}
        self._digests = 0
        self._reminded: tuple[Micros, set[tuple[str, str, str]]] = (0, set())  # whom of what, at one moment
        self._heap: list[tuple[Micros, int, int, str, Call | None]] = []  # (when, order, pushed, person, call)
        self._pushed = 0
        self._next_no = 0
        self._idle = True

    # -- configuration ------------------------------------------------------------------------------------------------

    def use(self, routing: Routing, rules: RuleSet, out: list[Told]) -> None:
        """Put a routing in force. Calls on routes that are still there go on; alarms of the others are told anew."""
        self.routing, self._rules = routing, rules
        self._routes = {route.name: route for route in routing.root.all_routes}
        self._idle = not (routing.canary or any(route.steps for route in self._routes.values()))
        for call in [call for call in self._calls.values() if call.route not in self._routes]:
            members = [member for member in call.members.values() if member.wants(While.UNACKNOWLEDGED)]
            self._end(call)
            for member in members:
                self._raise(member.record, self.now, out)
        for call in self._calls.values():
            self._schedule(call)
        for person in [person for person in self._held if person not in routing.people]:
            del self._held[person]

    # -- time ---------------------------------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> Micros | None:
        """When ``advance`` should be called at the latest; perhaps there is nothing to do then."""
        return self._heap[0][0] if self._heap else None

    def advance(self, to: Micros, out: list[Told]) -> None:
        """Let time pass: everything due up to and including ``to`` happens, in order, each at its own time."""
        heap = self._heap
        while heap and heap[0][0] <= to:
            at, _, _, person, call = heapq.heappop(heap)
            if call is None:
                held = self._held.get(person)
                if held is not None and held.due_at <= at:
                    self.now = max(self.now, at)
                    self._digest(person, at, out)
                continue
            if call.scheduled != at or self._calls.get((call.route, call.values)) is not call:
                continue
            call.scheduled = None
            self.now = max(self.now, at)
            self._fire(call, at, out)
        self.now = max(self.now, to)

    def _schedule(self, call: Call) -> None:
        due = self._due(call)
        if due is not None and call.scheduled != due:
            call.scheduled = due
            self._push(due, call.no, "", call)

    def _push(self, at: Micros, no: int, person: str, call: Call | None) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, no, self._pushed, person, call))

    def _due(self, call: Call) -> Micros | None:
        route = self._routes[call.route]
        times = [call.flush_at, call.repeat_at]
        if call.base is not None:
            times.append(call.times_at)
            if call.step < len(route.steps):
                times.append(call.base + route.steps[call.step].after)
        return min((time for time in times if time is not None), default=None)

    def _fire(self, call: Call, at: Micros, out: list[Told]) -> None:
        """Everything of a call that is due at ``at``."""
        route = self._routes[call.route]
        if call.flush_at is not None and call.flush_at <= at:
            self._flush(call, route, at, out)
        while call.base is not None and call.step < len(route.steps):
            step = route.steps[call.step]
            if call.base + step.after > at:
                break
            self._take(call, route, step, at, out)
        if call.repeat_at is not None and call.repeat_at <= at:
            self._repeat(call, route, at, out)
        self._watch_times(call, route, at, out)
        self._schedule(call)

    def calls_of(self, alarm_id: str) -> tuple[list[CallStatus], list[str]]:
        """The calls an alarm is in, and the people for whom it waits in a digest."""
        held = [person for person, one in self._held.items() if alarm_id in one.alarms or alarm_id in one.over]
        return [self._status(call, alarm_id) for call in self._by_alarm.get(alarm_id, ())], held

    def _status(self, call: Call, alarm_id: str) -> CallStatus:
        route, member = self._routes[call.route], call.members[alarm_id]
        comes: list[tuple[Micros, str, tuple[Target, ...]]] = []
        if call.flush_at is not None:
            first = route.steps[0].tell if route.steps and route.steps[0].after == 0 else ()
            comes.append((call.flush_at, "first", first))
        if call.base is not None and call.step < len(route.steps):
            step = route.steps[call.step]
            if member.wants(step.if_still):
                comes.append((call.base + step.after, "step", step.tell))
        if call.repeat_at is not None and route.repeat is not None and member.wants(route.repeat.if_still):
            comes.append((call.repeat_at, "repeat", _targets(route.steps[max(0, call.step - 1) : call.step])))
        if call.base is not None and member.due:
            over = member.due[0][2]
            last, first = _targets(route.steps[-1:]), _targets(route.steps[:1])
            comes.append((member.due[0][0], "time", (route.overdue or last) if over else (route.warn or first)))
        status = CallStatus(
            call.route,
            route.title_zh,
            route.title_en,
            len(call.members),
            member.told,
            call.told_at or None,
            call.flush_at,
            call.quiet,
            tuple(call.reached),
            call.repeats,
        )
        if not comes:
            return status
        at, what, tell = min(comes, key=lambda one: one[0])
        return msgspec.structs.replace(status, next_at=at, next_what=what, next_tell=tell)

    # -- what is heard ------------------------------------------------------------------------------------------------

    def hear(self, transition: Transition, out: list[Told]) -> None:
        """One transition, in the order of the journal; ``advance`` up to its time comes first."""
        if self._idle or transition.record.shadow:
            return
        record, at = transition.record, transition.at
        cause = transition.cause
        if record.rule == CANARY:
            if transition.notify:
                self._canary(transition, out)
            return
        if cause[0] == "W":
            self._hear_of_work(transition, out)
        raises = transition.notify and cause != _CLEARED
        for held in self._held.values():
            if record.alarm_id in held.alarms:
                held.alarms[record.alarm_id] = record
        for call in list(self._by_alarm.get(record.alarm_id, ())):
            member = call.members[record.alarm_id]
            if cause == "T29" and raises and member.record.occurrence_id == record.occurrence_id and not record.acked:
                raises = False  # it is being told of already
            self._update(call, member, record, at, rejoins=raises, out=out)
        if raises:
            self._raise(record, at, out)

    def _update(
        self, call: Call, member: Member, record: AlarmRecord, at: Micros, *, rejoins: bool, out: list[Told]
    ) -> None:
        """An alarm of a call changed: it stays, or leaves."""
        alarm_id = record.alarm_id
        member.record = record
        if rejoins:
            self._leave(call, alarm_id, at, "told anew", out)
            return
        if not member.wants(While.UNACKNOWLEDGED):
            self._withdraw(call, alarm_id, at, "acknowledged" if record.acked else "over", out)
        if member.wants(While.ACTIVE):
            self._schedule(call)
            return
        if member.told and record.annunciated and not member.event:
            call.over[alarm_id] = record
        self._leave(call, alarm_id, at, "over", out)

    def _leave(self, call: Call, alarm_id: str, at: Micros, why: str, out: list[Told]) -> None:
        self._withdraw(call, alarm_id, at, why, out)
        del call.members[alarm_id]
        calls = self._by_alarm[alarm_id]
        calls.remove(call)
        if not calls:
            del self._by_alarm[alarm_id]
        if not call.members:
            self._tell_over(call, at, out)
            self._end(call)

    def _withdraw(self, call: Call, alarm_id: str, at: Micros, why: str, out: list[Told]) -> None:
        keys: list[str] = []
        for sent in call.sent:
            sent.open.discard(alarm_id)
            if not sent.open:
                keys += sent.keys
        if keys:
            call.sent = [sent for sent in call.sent if sent.open]
            out.append(MessagesWithdrawn(at, tuple(keys), why))

    def _end(self, call: Call) -> None:
        self._calls.pop((call.route, call.values), None)
        for alarm_id in call.members:
            calls = self._by_alarm.get(alarm_id)
            if calls is not None:
                calls.remove(call)
                if not calls:
                    del self._by_alarm[alarm_id]
        call.members = {}

    # -- joining ------------------------------------------------------------------------------------------------------

    def _raise(self, record: AlarmRecord, at: Micros, out: list[Told]) -> None:
        """Call people about an alarm; not about one that is over (when chattering ends, it may be)."""
        asset = self._asset_of(record.asset) or Asset(record.asset, record.kind)
        rule = self._rule(record)
        member = Member(record, rule is not None and rule.event)
        if not record.is_active and not member.event:
            return
        for route in self.routing.of(record, asset, rule, at):
            self._join(route, member, asset, rule, at, out)

    def _join(self, route: Route, raised: Member, asset: Asset, rule: Rule | None, at: Micros, out: list[Told]) -> None:
        record = raised.record
        values = values_of(route, record, asset)
        call = self._calls.get((route.name, values))
        if call is None:
            self._next_no += 1
            call = Call(
                f"{record.occurrence_id}.{record.rev}/{route.name}", self._next_no, route.name, values, {}, {}, None
            )
            self._calls[route.name, values] = call
        member = call.members[record.alarm_id] = Member(record, raised.event, due=self._times(record, rule))
        if member.due and (call.times_at is None or member.due[0][0] < call.times_at):
            call.times_at = member.due[0][0]
        call.over.pop(record.alarm_id, None)
        self._by_alarm.setdefault(record.alarm_id, []).append(call)
        if record.level is Level.I:
            if call.base is None:
                self._flush(call, route, at, out)
            else:
                self._tell_news(call, route, [member], at, out)
        elif call.flush_at is None:
            wait = route.group.wait
            if call.base is not None:
                wait = max(wait, call.told_at + route.group.interval - at)
            call.flush_at = at + max(0, wait)
            if route.quiet is not None and route.quiet.is_on(call.flush_at):
                call.flush_at, call.quiet = route.quiet.next_change(call.flush_at), True
        self._fire(call, at, out)

    def _times(self, record: AlarmRecord, rule: Rule | None) -> list[tuple[Micros, str, bool]]:
        """When the alarm's times are nearly and quite over, by the clock of its rule, earliest first."""
        sla = rule.sla if rule is not None else None
        since = record.detected_at
        if sla is None or since is None:
            return []
        found: list[tuple[Micros, str, bool]] = []
        calendar = self.routing.calendar
        for what, lasts in (("respond", sla.respond), ("resolve", sla.resolve)):
            if lasts is not None:
                found.append((reached(sla.clock, since, lasts, WARN_AT, calendar), what, False))
                found.append((deadline(sla.clock, since, lasts, calendar), what, True))
        return sorted(found)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _flush(self, call: Call, route: Route, at: Micros, out: list[Told]) -> None:
        """Tell those of a call who were not told yet; the first time is the call's base."""
        call.flush_at = None
        quiet, call.quiet = call.quiet, False
        fresh = [member for member in call.members.values() if not member.told]
        if call.base is None:
            call.base = at
            self._dispatch(route, fresh, at, out)
            if not route.steps or route.steps[0].after > 0:
                return
            step = route.steps[0]
            call.step = 1
            kind = MessageKind.DIGEST if quiet else MessageKind.RAISED
            self._say(call, route, fresh, self.routing.people_of(step.tell, at), kind, "s0", at, out)
            self._again(call, route, at)
        elif fresh:
            self._tell_news(call, route, fresh, at, out)

    def _tell_news(self, call: Call, route: Route, members: list[Member], at: Micros, out: list[Told]) -> None:
        """What joined a call later: to everybody who was told so far."""
        self._dispatch(route, members, at, out)
        if call.reached:
            call.parts += 1
            self._say(call, route, members, tuple(call.reached), MessageKind.RAISED, f"n{call.parts}", at, out)

    def _take(self, call: Call, route: Route, step: Step, at: Micros, out: list[Told]) -> None:
        """One step of a route, if it is still wanted."""
        number, call.step = call.step, call.step + 1
        members = [member for member in call.members.values() if member.wants(step.if_still)]
        if not members:
            return
        kind = MessageKind.ESCALATED if call.reached else MessageKind.RAISED
        self._say(call, route, members, self.routing.people_of(step.tell, at), kind, f"s{number}", at, out)
        self._again(call, route, at)

    def _again(self, call: Call, route: Route, at: Micros) -> None:
        if route.repeat is not None and call.repeats < route.repeat.times:
            call.repeat_at = at + route.repeat.every

    def _repeat(self, call: Call, route: Route, at: Micros, out: list[Told]) -> None:
        call.repeat_at = None
        repeat = route.repeat
        if repeat is None or call.repeats >= repeat.times or not route.steps:
            return
        call.repeats += 1
        members = [member for member in call.members.values() if member.wants(repeat.if_still)]
        if members:
            people = self.routing.people_of(route.steps[max(0, call.step - 1)].tell, at)
            self._say(call, route, members, people, MessageKind.REMINDER, f"r{call.repeats}", at, out)
        self._again(call, route, at)

    def _watch_times(self, call: Call, route: Route, at: Micros, out: list[Told]) -> None:
        """Times to respond and to resolve that are nearly over, or over."""
        if call.base is None or call.times_at is None or call.times_at > at:
            return
        due: dict[tuple[str, bool], list[tuple[Member, Micros]]] = {}
        for member in call.members.values():
            passed: dict[str, tuple[bool, Micros]] = {}
            while member.due and member.due[0][0] <= at:
                time, what, over = member.due.pop(0)
                # The deadline itself, also in the warning; of one that has passed since nobody is warned any more.
                passed[what] = over, time if over else next(t for t, w, o in member.due if w == what and o)
            for what, (over, time) in passed.items():
                if still_due(member.record, what):
                    due.setdefault((what, over), []).append((member, time))
        call.times_at = min((member.due[0][0] for member in call.members.values() if member.due), default=None)
        for (what, over), found in due.items():
            targets = (
                (route.overdue or _targets(route.steps[-1:])) if over else (route.warn or _targets(route.steps[:1]))
            )
            members, deadline_at = [member for member, _ in found], min(time for _, time in found)
            people = self._not_yet(self.routing.people_of(targets, at), members, f"{what} {over}", at)
            call.parts += 1
            call.reminded += [one for one in people if one not in call.reminded]
            kind = MessageKind.OVERDUE if over else MessageKind.DUE
            records = [member.record for member in members]
            keys = self._send(call, route, records, people, kind, f"d{call.parts}", at, out, deadline_at, what)
            self._may_be_withdrawn(call, members, keys)

    def _not_yet(self, people: Iterable[str], members: Sequence[Member], what: str, at: Micros) -> tuple[str, ...]:
        """Those whom no other call of the same alarms has told the same at this moment."""
        if self._reminded[0] != at:
            self._reminded = (at, set())
        seen = self._reminded[1]
        found = []
        for person in people:
            marks = {(person, what, member.record.alarm_id) for member in members}
            if not marks <= seen:
                found.append(person)
            seen |= marks
        return tuple(found)

    def _tell_over(self, call: Call, at: Micros, out: list[Told]) -> None:
        route = self._routes[call.route]
        people = tuple(dict.fromkeys(call.reached + call.reminded))
        if call.over and route.cleared and people:
            self._send(call, route, list(call.over.values()), people, MessageKind.CLEARED, "c", at, out)

    def _say(
        self, call: Call, route: Route, members: Sequence[Member], people: tuple[str, ...], kind: MessageKind,
        part: str, at: Micros, out: list[Told],
    ) -> None:  # fmt: skip
        """A step of a call: from now on its people know of ``members``."""
        if not members:
            return
        for member in members:
            member.told = True
        call.reached += [person for person in people if person not in call.reached]
        call.told_at = at
        self._may_be_withdrawn(
            call, members, self._send(call, route, [m.record for m in members], people, kind, part, at, out)
        )

    def _may_be_withdrawn(self, call: Call, members: Iterable[Member], keys: list[str]) -> None:
        waiting = {member.record.alarm_id for member in members if member.wants(While.UNACKNOWLEDGED)}
        if keys and waiting:
            call.sent = [*call.sent[1 - MAX_SENT :], Sent(keys, waiting)]

    def _send(
        self, call: Call, route: Route, records: list[AlarmRecord], people: tuple[str, ...], kind: MessageKind,
        part: str, at: Micros, out: list[Told], due_at: Micros | None = None, text: str = "",
    ) -> list[str]:  # fmt: skip
        """One message a person, or a place in their digest; gives the keys of those sent."""
        lines = lines_of(records)
        level = min(record.level for record in records)
        keys: list[str] = []
        for name in people:
            person = self.routing.people.get(name)
            if person is None or not person.channels:
                continue
            if level is not Level.I and self._over_limit(name, lines[0].rule, at):
                self._hold(name, kind, records, at)
                continue
            message = Message(
                f"{call.id}/{part}/{name}",
                call.id,
                name,
                kind,
                at,
                level,
                lines,
                len(records),
                route.name,
                max(0, call.step - 1),
                person.channels,
                person.language,
                records[0].simulated,
                due_at,
                text,
            )
            keys.append(message.key)
            out.append(message)
        return keys

    # -- limits -------------------------------------------------------------------------------------------------------

    def _over_limit(self, person: str, rule: str, at: Micros) -> bool:
        """Has the person had enough for now? If not, this one is counted."""
        limit = self.routing.limit
        recent = [one for one in self._recent.get(person, ()) if one[0] > at - limit.within]
        self._recent[person] = recent
        of_rule = sum(1 for _, one in recent if one == rule)
        if len(recent) >= limit.in_all or of_rule >= limit.messages:
            return True
        recent.append((at, rule))
        return False

    def _hold(self, person: str, kind: MessageKind, records: Iterable[AlarmRecord], at: Micros) -> None:
        held = self._held.get(person)
        if held is None:
            held = self._held[person] = Held(at + self.routing.limit.digest, {}, {})
            self._push(held.due_at, 0, person, None)
        for record in records:
            if kind is not MessageKind.CLEARED:
                held.alarms[record.alarm_id] = record
            elif held.alarms.pop(record.alarm_id, None) is None:
                held.over[record.alarm_id] = record

    def _digest(self, person: str, at: Micros, out: list[Told]) -> None:
        """What was held back from a person, as far as it still matters."""
        held = self._held.pop(person)
        known = self.routing.people.get(person)
        records = [record for record in held.alarms.values() if matters(record)] + list(held.over.values())
        if known is None or not known.channels or not records:
            return
        self._digests += 1
        self._recent.setdefault(person, []).append((at, ""))
        level = min(record.level for record in records)
        lines, simulated = lines_of(records), any(record.simulated for record in records)
        out.append(
            Message(
                f"digest.{self._digests}.{at}/{person}", "digest", person, MessageKind.DIGEST, at, level, lines,
                len(records), "", 0, known.channels, known.language, simulated,
            )
        )  # fmt: skip

    # -- work ---------------------------------------------------------------------------------------------------------

    def _dispatch(self, route: Route, members: Iterable[Member], at: Micros, out: list[Told]) -> None:
        """Give the work to those the route names, once an occurrence."""
        if route.dispatch is None:
            return
        for member in members:
            record = member.record
            if record.work in ("NONE", "CLOSED", "REJECTED") and member.wants(While.ACTIVE):
                name = CommandName.DISPATCH
                command_id = f"route:{record.occurrence_id}:{route.name}"
                out.append(Command(command_id, name, record.alarm_id, US, "route", arguments={"to": route.dispatch}))

    def _hear_of_work(self, transition: Transition, out: list[Told]) -> None:
        """Tell the crew what they are given, and the one who sent them what they gave back."""
        record, at = transition.record, transition.at
        order = record.order
        word = _WORK_WORDS.get(transition.cause)
        if transition.cause == "W10" and record.work == "DISPATCHED":
            word = "returned"
        if order is None or word is None:
            return
        if word == "refused":
            sender = self.routing.person_of_user(order.by)
            people: tuple[str, ...] = () if sender is None else (sender.person,)
        else:
            people = self.routing.people_of(self.routing.named(order.to), at)
        lines = lines_of([record])
        for name in people:
            person = self.routing.people.get(name)
            if person is None or not person.channels or self._just_told(record.alarm_id, name, at):
                continue
            key = f"{order.id}.{record.rev}/work/{name}"
            out.append(
                Message(
                    key, f"work {order.id}", name, MessageKind.WORK, at, record.level, lines, 1, "", 0, person.channels,
                    person.language, record.simulated, None, word,
                )
            )  # fmt: skip

    def _just_told(self, alarm_id: str, person: str, at: Micros) -> bool:
        """A message of this very moment names the alarm: no second one that says it is theirs."""
        return any(call.told_at == at and person in call.reached for call in self._by_alarm.get(alarm_id, ()))

    def _canary(self, transition: Transition, out: list[Told]) -> None:
        record = transition.record
        for name in self.routing.people_of(self.routing.canary, transition.at):
            person = self.routing.people.get(name)
            if person is not None and person.channels:
                key = f"{record.occurrence_id}/canary/{name}"
                out.append(
                    Message(
                        key, key, name, MessageKind.CANARY, transition.at, Level.I, lines_of([record]), 1, "", 0,
                        person.channels, person.language, False,
                    )
                )  # fmt: skip

    def _rule(self, record: AlarmRecord) -> Rule | None:
        rule = self._rules.get(record.rule) if self._rules is not None else None
        return rule.variant(record.asset) if rule is not None else None

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def adopt(self, records: Iterable[AlarmRecord], at: Micros) -> list[Told]:
        """Without a snapshot: what stands and nobody acknowledged is told (again), rather than forgotten."""
        out: list[Told] = []
        self.now = at
        for record in records:
            if not self._idle and not record.shadow and record.annunciated and not record.acked:
                self._raise(record, at, out)
        return out

    def snapshot(self) -> bytes:
        """The whole state but for the routing: restored with the same one, it goes on exactly as this would."""
        calls = [msgspec.structs.replace(call, scheduled=None) for call in self._calls.values()]
        return msgspec.msgpack.encode(_Saved(self.now, self._next_no, calls, self._recent, self._held, self._digests))

    def restore(self, data: bytes, routing: Routing, rules: RuleSet) -> None:
        """Take over a snapshot made under the same routing. Raises ValueError when it is damaged."""
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a snapshot of the escalations: {error}") from error
        self.use(routing, rules, [])
        self.now, self._next_no, self._digests = saved.now, saved.next_no, saved.digests
        self._recent, self._held = saved.recent, saved.held
        self._calls, self._by_alarm, self._heap = {}, {}, []
        for call in saved.calls:
            if call.route not in self._routes:
                continue
            self._calls[call.route, call.values] = call
            for alarm_id in call.members:
                self._by_alarm.setdefault(alarm_id, []).append(call)
            self._schedule(call)
        for person, held in self._held.items():
            self._push(held.due_at, 0, person, None)


def _targets(steps: Sequence[Step]) -> tuple[Target, ...]:
    return tuple(target for step in steps for target in step.tell)
