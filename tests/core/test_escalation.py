"""Calling people until somebody acts: stories with times in seconds, then the laws over random scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import time

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.escalation import Escalations, Told
from gateway.core.model import MINUTE, SECOND, Asset, Command, CommandName, Level, Transition
from gateway.core.notification import Channel, Message, MessageKind, MessagesWithdrawn
from gateway.core.routing import (
    GroupBy,
    Grouping,
    Limit,
    Match,
    Person,
    Repeat,
    Route,
    Routing,
    Step,
    Target,
    TargetKind,
    While,
)
from gateway.core.schedule import Moment, Schedule, Span
from tests.core.street import START, Street

RULES = """
- rule: wet
  applies_to: {kind: road}
  when: {point: depth, above: [{limit: 5, level: III}, {limit: 20, level: I}], deadband: 1}
  suppress_when: [{cause: basin, link: catchment}]
  settle: 5s
  response: look
  sla: {respond: 100s, resolve: 1000s, clock: urgent}
- rule: hit
  applies_to: {kind: road}
  when: {point: rssi, above: -50}
  event: true
  level: II
  response: look
- rule: basin
  applies_to: {kind: pipe}
  when: {point: level, above: 3, deadband: 1}
  level: II
  response: everybody
"""
ROADS = tuple(f"r{n}" for n in range(1, 5))
ASSETS = [
    Asset("basin-1", "pipe"),
    *(Asset(road, "road", road="Main", links={"catchment": "basin-1"}) for road in ROADS),
]
FREE = Limit(messages=10_000, in_all=10_000)


def person(name: str) -> Person:
    return Person(name, name, (Channel("sms", f"+86{name}"), Channel("mail", f"{name}@x")))


def crew(*names: str) -> tuple[Target, ...]:
    return tuple(Target(TargetKind.PERSON, name) for name in names)


PEOPLE = {name: person(name) for name in ("li", "zhang", "chief")}
LADDER = Route(
    "roads",
    steps=(Step(0, crew("li")), Step(300 * SECOND, crew("zhang")), Step(600 * SECOND, crew("chief"), While.ACTIVE)),
)


class Town(Street):
    """A street whose alarms are told to people."""

    def __init__(self, route: Route = LADDER, limit: Limit = FREE, **more: object) -> None:
        super().__init__(RULES, ASSETS)
        self.routing = Routing(route, dict(PEOPLE), limit=limit, **more)  # type: ignore[arg-type]
        self.escalations = Escalations(self.registry.asset)
        self.escalations.use(self.routing, self.rules, [])
        self.told: list[Told] = []
        self.heard = 0
        self.listen()

    def listen(self) -> None:
        """What the processor does after each frame."""
        while True:
            told: list[Told] = []
            while self.heard < len(self.events):
                event = self.events[self.heard]
                self.heard += 1
                if isinstance(event, Transition):
                    self.escalations.advance(event.at, told)
                    self.escalations.hear(event, told)
            self.escalations.advance(self.engine.now, told)
            self.told += told
            for one in told:
                if isinstance(one, Command):
                    self.engine.command(one, self.engine.now, self.events)
            if not told:
                return

    def until(self, seconds: float) -> None:
        """Let time pass, waking for every deadline as the pipeline does."""
        end = START + round(seconds * SECOND)
        while True:
            times = [at for at in (self.engine.next_deadline, self.escalations.next_deadline) if at is not None]
            at = min([end, *times])
            self.engine.advance(max(at, self.engine.now), self.events)
            self.listen()
            if at >= end:
                return

    def depth(self, at: float, value: float, road: str = "r1") -> None:
        self.until(at)
        self.send(at, road, depth=value)
        self.listen()

    def act(self, at: float, name: CommandName, alarm: str = "r1/wet", **arguments: object) -> None:
        self.until(at)
        refused = self.do(at, name, alarm, "because", **arguments)  # type: ignore[arg-type]
        assert refused is None, refused
        self.listen()

    @property
    def messages(self) -> list[Message]:
        return [one for one in self.told if isinstance(one, Message)]

    def story(self, *kinds: MessageKind) -> list[tuple[float, str, str, int]]:  # type: ignore[override]
        """(seconds, whom, why, about how many alarms) of the messages, in their order."""
        return [
            ((m.at - START) / SECOND, m.recipient, m.kind.value, m.count)
            for m in self.messages
            if not kinds or m.kind in kinds
        ]

    def rebooted(self) -> Town:
        """After a restart from a snapshot."""
        other = self.restarted()
        other.__class__ = Town
        assert isinstance(other, Town)
        other.routing, other.told, other.heard = self.routing, [], 0
        other.escalations = Escalations(other.registry.asset)
        other.escalations.restore(self.escalations.snapshot(), self.routing, self.rules)
        return other


NO_TIMES = (MessageKind.RAISED, MessageKind.ESCALATED, MessageKind.REMINDER, MessageKind.CLEARED, MessageKind.DIGEST)


# ---------------------------------------------------------------------------------------------------------- escalation


def test_who_does_not_answer_is_passed_over_step_by_step() -> None:
    town = Town()
    town.depth(10, 8)
    town.until(2000)
    assert town.story(*NO_TIMES) == [
        (10, "li", "raised", 1), (310, "zhang", "escalated", 1), (610, "chief", "escalated", 1),
    ]  # fmt: skip


def test_an_acknowledgement_stops_what_asks_for_one_and_nothing_else() -> None:
    town = Town()
    town.depth(10, 8)
    town.act(100, CommandName.ACKNOWLEDGE)
    town.until(2000)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1), (610, "chief", "escalated", 1)]


def test_an_acknowledgement_withdraws_what_waits_for_delivery_in_the_same_step() -> None:
    town = Town()
    town.depth(10, 8)
    before = len(town.told)
    town.act(50, CommandName.ACKNOWLEDGE)
    [withdrawn] = town.told[before:]
    assert isinstance(withdrawn, MessagesWithdrawn)
    assert withdrawn.keys == (town.messages[0].key,)
    assert withdrawn.at == START + 50 * SECOND


def test_a_clear_stops_everything_and_is_told_to_those_who_were_told() -> None:
    town = Town()
    town.depth(10, 8)
    town.until(320)
    town.depth(400, 0)
    town.until(3000)
    assert town.story(*NO_TIMES) == [
        (10, "li", "raised", 1), (310, "zhang", "escalated", 1),
        (400, "li", "cleared", 1), (400, "zhang", "cleared", 1), (400, "chief", "cleared", 1),
    ]  # fmt: skip


def test_a_shelf_stops_the_steps_and_its_end_begins_them_anew() -> None:
    town = Town()
    town.depth(10, 8)
    town.act(20, CommandName.SHELVE, seconds=600)
    town.until(1000)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1), (620, "li", "raised", 1), (920, "zhang", "escalated", 1)]


def test_out_of_service_stops_them_too() -> None:
    town = Town()
    town.depth(10, 8)
    town.act(20, CommandName.OUT_OF_SERVICE, work="W1")
    town.until(900)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1)]


def test_a_cause_stops_them_for_its_effects_and_is_told_itself() -> None:
    town = Town()
    town.depth(10, 8)
    town.until(20)
    town.send(20, "basin-1", level=5)
    town.listen()
    town.until(330)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1), (20, "li", "raised", 1), (320, "zhang", "escalated", 1)]
    assert {line.alarm_id for message in town.messages[1:] for line in message.lines} == {"basin-1/basin"}


def test_a_worse_level_is_told_anew_and_escalates_from_the_beginning() -> None:
    town = Town()
    town.depth(10, 8)
    town.act(20, CommandName.ACKNOWLEDGE)
    town.depth(100, 25)
    town.until(420)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1), (100, "li", "raised", 1), (400, "zhang", "escalated", 1)]
    assert [m.level for m in town.messages if m.kind is MessageKind.RAISED] == [Level.III, Level.I]


def test_an_event_without_a_return_is_escalated_until_somebody_acknowledges() -> None:
    town = Town()
    town.until(10)
    town.send(10, "r1", rssi=-40)
    town.listen()
    town.until(320)
    town.act(330, CommandName.ACKNOWLEDGE, "r1/hit")
    town.until(3000)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1), (310, "zhang", "escalated", 1)]


def test_an_unacknowledged_alarm_is_repeated_as_often_as_said() -> None:
    town = Town(Route("all", steps=(Step(0, crew("li")),), repeat=Repeat(60 * SECOND, 2)))
    town.depth(10, 8)
    town.until(1000)
    assert town.story(*NO_TIMES) == [(10, "li", "raised", 1), (70, "li", "reminder", 1), (130, "li", "reminder", 1)]


# ------------------------------------------------------------------------------------------------------------- groups


def by(*what: GroupBy, wait: int = 30, interval: int = 120) -> Route:
    return replace(LADDER, group=Grouping(what, wait * SECOND, interval * SECOND))


def test_alarms_alike_in_what_the_route_groups_by_are_one_message() -> None:
    town = Town(by(GroupBy.RULE))
    for n, road in enumerate(ROADS[:3]):
        town.depth(10 + n, 8, road)
    town.until(80)
    assert town.story() == [(40, "li", "raised", 3)]


def test_what_joins_later_waits_for_the_interval_and_does_not_restart_the_steps() -> None:
    town = Town(by(GroupBy.RULE))
    town.depth(10, 8, "r1")
    town.until(50)
    town.depth(60, 8, "r2")
    town.depth(70, 8, "r3")
    town.until(500)
    assert town.story(*NO_TIMES) == [
        (40, "li", "raised", 1), (160, "li", "raised", 2), (340, "zhang", "escalated", 3),
    ]  # fmt: skip


def test_level_one_waits_for_no_group() -> None:
    town = Town(by(GroupBy.RULE))
    town.depth(10, 8, "r1")
    town.until(50)
    town.depth(60, 8, "r2")
    town.depth(61, 30, "r3")
    assert town.story(*NO_TIMES) == [(40, "li", "raised", 1), (61, "li", "raised", 1)]
    assert town.messages[-1].level is Level.I


def test_a_group_is_over_when_its_last_alarm_is() -> None:
    town = Town(by(GroupBy.RULE))
    for road in ROADS[:2]:
        town.depth(10, 8, road)
    town.depth(60, 0, "r1")
    assert town.story() == [(40, "li", "raised", 2)]
    town.depth(70, 0, "r2")
    assert town.story()[1:] == [(70, "li", "cleared", 2)]


def test_what_is_over_before_it_was_told_is_told_to_nobody() -> None:
    town = Town(by(GroupBy.RULE))
    town.depth(10, 8)
    town.depth(20, 0)
    town.until(1000)
    assert town.story() == []


def test_a_message_about_many_is_withdrawn_when_nobody_waits_for_any_of_them() -> None:
    town = Town(by(GroupBy.RULE))
    for road in ROADS[:2]:
        town.depth(10, 8, road)
    town.until(50)
    town.act(60, CommandName.ACKNOWLEDGE, "r1/wet")
    assert not [one for one in town.told if isinstance(one, MessagesWithdrawn)]
    town.act(61, CommandName.ACKNOWLEDGE, "r2/wet")
    [withdrawn] = [one for one in town.told if isinstance(one, MessagesWithdrawn)]
    assert withdrawn.keys == (town.messages[0].key,)


# ------------------------------------------------------------------------------------------------------ quiet, limits


def test_quiet_hours_put_off_what_is_not_level_one() -> None:
    # START is 23:06:40 in Shanghai.
    quiet = Schedule((Span(Moment(time(22, 0)), Moment(time(23, 30))),))
    town = Town(replace(LADDER, quiet=quiet))
    town.depth(10, 8, "r1")
    town.depth(11, 30, "r2")
    town.depth(12, 8, "r3")
    town.depth(20, 0, "r3")
    town.until(1500)
    assert [m for m in town.story(*NO_TIMES) if m[1] == "li"] == [(11, "li", "raised", 1), (1400, "li", "digest", 1)]


def test_what_is_over_a_limit_comes_as_one_digest_and_level_one_always_comes() -> None:
    town = Town(Route("all", steps=(Step(0, crew("li")),)), Limit(2, 2, 600 * SECOND, 60 * SECOND))
    for n, road in enumerate(ROADS):
        town.depth(10 + n, 8, road)
    town.depth(20, 30, "r1")
    town.until(60)
    assert town.story(MessageKind.RAISED) == [(10, "li", "raised", 1), (11, "li", "raised", 1), (20, "li", "raised", 1)]
    town.until(75)
    assert town.story(MessageKind.DIGEST) == [(72, "li", "digest", 2)]


def test_a_digest_leaves_out_what_is_over_and_was_never_told() -> None:
    town = Town(Route("all", steps=(Step(0, crew("li")),)), Limit(1, 1, 600 * SECOND, 60 * SECOND))
    town.depth(10, 8, "r1")
    town.depth(11, 8, "r2")
    town.depth(12, 8, "r3")
    town.act(20, CommandName.ACKNOWLEDGE, "r2/wet")
    town.depth(21, 0, "r2")
    town.depth(22, 0, "r1")
    town.until(100)
    [digest] = [m for m in town.messages if m.kind is MessageKind.DIGEST]
    assert [(line.alarm_id, line.state.value) for line in digest.lines] == [("r1/wet", "RTNUN"), ("r3/wet", "UNACK")]


def test_nobody_gets_more_than_a_dozen_messages_from_a_storm_and_all_level_one_come_at_once() -> None:
    town = Town(Route("all", steps=(Step(0, crew("li")),)), Limit())
    for turn in range(100):
        for road in ROADS:
            town.depth(turn * 0.1, 8, road)
            town.depth(turn * 0.1, 0, road)
    town.depth(11, 30, "r1")
    assert town.messages[-1].at == START + 11 * SECOND
    town.until(600)
    assert len(town.messages) <= 12


# ------------------------------------------------------------------------------------------------- times, work, others


def test_the_times_of_the_rule_are_warned_of_and_escalated() -> None:
    town = Town(replace(LADDER, steps=(Step(0, crew("li")),), overdue=crew("chief")))
    town.depth(0, 8)
    town.act(90, CommandName.ACKNOWLEDGE)
    town.until(2000)
    assert town.story(MessageKind.DUE, MessageKind.OVERDUE) == [
        (80, "li", "due", 1), (800, "li", "due", 1), (1000, "chief", "overdue", 1),
    ]  # fmt: skip
    assert [(m.text, m.due_at) for m in town.messages if m.kind is MessageKind.DUE] == [
        ("respond", START + 100 * SECOND), ("resolve", START + 1000 * SECOND),
    ]  # fmt: skip


def test_a_person_on_two_routes_is_warned_once_of_the_same_time() -> None:
    both = (Route("a", steps=(Step(0, crew("li")),), go_on=True), Route("b", steps=(Step(0, crew("li")),)))
    town = Town(Route("root", routes=both))
    town.depth(0, 8)
    town.until(2000)
    assert town.story(MessageKind.RAISED) == [(0, "li", "raised", 1)] * 2
    assert [m.kind for m in town.messages if m.text == "respond"] == [MessageKind.DUE, MessageKind.OVERDUE]


def test_what_is_overdue_when_it_is_first_told_is_not_nearly_overdue_too() -> None:
    quiet = Schedule((Span(Moment(time(22, 0)), Moment(time(23, 30))),))
    town = Town(Route("all", steps=(Step(0, crew("li")),), quiet=quiet))
    town.depth(10, 8)
    town.until(1500)
    assert [(m.kind, m.text) for m in town.messages] == [
        (MessageKind.DIGEST, ""), (MessageKind.OVERDUE, "respond"), (MessageKind.OVERDUE, "resolve"),
    ]  # fmt: skip


def test_work_is_given_by_itself_and_its_crew_is_not_told_twice() -> None:
    town = Town(replace(LADDER, dispatch="li"))
    town.depth(10, 8)
    assert town.record("r1/wet").work == "DISPATCHED"
    order = town.record("r1/wet").order
    assert order is not None
    assert (order.to, order.by) == ("li", "citywatch")
    assert town.story() == [(10, "li", "raised", 1)]


def test_a_crew_is_told_of_work_a_person_gives_them() -> None:
    town = Town()
    town.depth(10, 8)
    town.act(20, CommandName.DISPATCH, to="zhang")
    assert town.story(MessageKind.WORK) == [(20, "zhang", "work", 1)]
    assert town.messages[-1].text == "dispatched"


def test_simulated_alarms_call_nobody_unless_a_route_is_made_for_them() -> None:
    for simulated, messages in ((False, 0), (True, 1)):
        town = Town(replace(LADDER, match=Match(simulated=simulated)))
        town.engine.apply_assets([replace_asset("r1")], [], town.engine.now, town.events)
        town.depth(10, 8)
        assert len(town.messages) == messages


def replace_asset(name: str) -> Asset:
    return Asset(name, "road", road="Main", links={"catchment": "basin-1"}, simulated=True)


def test_a_new_routing_lets_calls_go_on_and_tells_those_of_routes_that_are_gone_anew() -> None:
    town = Town()
    town.depth(10, 8)
    out: list[Told] = []
    town.escalations.use(replace(town.routing, root=replace(LADDER, cleared=False)), town.rules, out)
    assert out == []
    town.escalations.use(replace(town.routing, root=replace(LADDER, name="other")), town.rules, out)
    assert [(m.recipient, m.route) for m in out if isinstance(m, Message)] == [("li", "other")]


def test_a_second_in_a_storm_of_five_thousand_is_not_spent_on_one_group() -> None:
    """A group of many must not be looked through for every alarm that joins it: counted, not timed."""
    town = Town(by(GroupBy.ALL))
    looked = Counter[str]()
    fire = town.escalations._watch_times

    def counted(call, route, at, out):  # type: ignore[no-untyped-def]
        if call.times_at is not None and call.times_at <= at:
            looked["members"] += len(call.members)
        fire(call, route, at, out)

    town.escalations._watch_times = counted  # type: ignore[method-assign]
    for n in range(200):
        town.depth(n * 0.01, 8 if n % 2 == 0 else 0, ROADS[n % 4])
    assert looked["members"] == 0


# --------------------------------------------------------------------------------------------------------------- laws

TWO = ROADS[:2]  # few enough that a random command finds its alarm
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, 29, 31, 90, 301, 700]),
        st.one_of(
            st.tuples(st.just("depth"), st.sampled_from(TWO), st.sampled_from([0.0, 4.5, 8.0, 8.5, 25.0])),
            st.tuples(st.just("rssi"), st.sampled_from(TWO), st.sampled_from([-90.0, -40.0])),
            st.tuples(st.just("level"), st.just("basin-1"), st.sampled_from([0.0, 5.0])),
            st.tuples(st.just("do"), st.sampled_from(["r1/wet", "r2/wet"]), st.just(CommandName.ACKNOWLEDGE)),
            st.tuples(
                st.just("do"),
                st.sampled_from([f"{road}/{rule}" for road in TWO for rule in ("wet", "hit")]),
                st.sampled_from(
                    [
                        CommandName.ACKNOWLEDGE, CommandName.UNACKNOWLEDGE, CommandName.SHELVE, CommandName.UNSHELVE,
                        CommandName.OUT_OF_SERVICE, CommandName.IN_SERVICE, CommandName.FORCE_CLEAR,
                    ]
                ),
            ),
        ),
    ),
    max_size=40,
)  # fmt: skip
ROUTES = st.sampled_from(
    [
        LADDER,
        by(GroupBy.RULE),
        by(GroupBy.CAUSE, wait=5, interval=10),
        replace(by(GroupBy.ALL), repeat=Repeat(50 * SECOND, 3), dispatch="li"),
    ]
)
LIMITS = st.sampled_from([FREE, Limit(2, 3, 5 * MINUTE, 1 * MINUTE)])
Script = list[tuple[int, tuple[object, ...]]]


def play(town: Town, script: Script, *, wakes: bool, restart_at: int | None = None) -> Town:
    """Play a script; ``wakes``: for every deadline; else only when something comes."""
    now, told = town.now, []
    for index, (pause, (what, whom, value)) in enumerate(script):
        if index == restart_at:
            told += town.told
            town = town.rebooted()
        now += pause
        if wakes:
            town.until(now)
        if what == "do":
            town.at(now)
            town.listen()
            town.do(now, value, whom, "why", seconds=60, work="W")  # type: ignore[arg-type]
        else:
            town.at(now)
            town.listen()
            town.send(now, whom, **{what: value})  # type: ignore[arg-type]
        town.listen()
    town.until(now + 2000)
    town.told = told + town.told
    return town


def outcome(town: Town) -> list[object]:
    return [one for one in town.told if not isinstance(one, Command)]


@given(STEPS, ROUTES, LIMITS)
@settings(max_examples=60, deadline=None)
def test_waking_late_tells_the_same_as_waking_on_time(script: Script, route: Route, limit: Limit) -> None:
    route = replace(route, dispatch=None)  # a dispatch is a command of the moment in which it is made
    timely = play(Town(route, limit), script, wakes=True)
    late = play(Town(route, limit), script, wakes=False)
    assert outcome(timely) == outcome(late)


@given(STEPS, ROUTES, LIMITS, st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_restart_changes_nothing(script: Script, route: Route, limit: Limit, restart_at: int) -> None:
    whole = play(Town(route, limit), script, wakes=True)
    cut = play(Town(route, limit), script, wakes=True, restart_at=restart_at)
    assert outcome(whole) == outcome(cut)


@given(STEPS, ROUTES, LIMITS)
@settings(max_examples=60, deadline=None)
def test_nobody_is_told_the_same_twice(script: Script, route: Route, limit: Limit) -> None:
    keys = [message.key for message in play(Town(route, limit), script, wakes=True).messages]
    assert len(keys) == len(set(keys))


@given(STEPS, ROUTES)
@settings(max_examples=100, deadline=None)
def test_no_step_is_taken_for_an_alarm_that_somebody_acts_on_or_that_is_over(script: Script, route: Route) -> None:
    """Law 2: every line of an escalation or reminder was unacknowledged and annunciated, and stood, at its moment."""
    town = play(Town(route), script, wakes=True)
    for message in town.messages:
        if message.kind not in (MessageKind.ESCALATED, MessageKind.REMINDER):
            continue
        for line in message.lines:
            at_most = [t for t in town.transitions if t.alarm_id == line.alarm_id and t.at <= message.at]
            # At the very instant of an acknowledgement either order is right: the step came before it.
            candidates = [t.record for t in at_most if t.at == message.at] + [
                t.record for t in at_most if t.at < message.at
            ][-1:]
            wanted = message.step == 2  # the ladder's third step asks for what is active, acknowledged or not
            assert any(
                record.annunciated and (record.is_active or record.rule == "hit") and (wanted or not record.acked)
                for record in candidates
            ), (message, candidates)
