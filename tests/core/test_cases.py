"""Cases: when one is opened, what the platform is told of it, when it is closed; and figures of the same steps."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.case_clock import Calendar
from gateway.core.case_figures import FORMULAS, CaseBook, Figures, figures
from gateway.core.cases import (
    CAUSES,
    CLOSED_WORDS,
    EVENT_WORDS,
    STATUS_WORDS,
    Case,
    CaseEvent,
    CaseRow,
    CaseStatus,
    Said,
    advance,
    arrived,
    due_at,
    event_key,
    hear,
    limit_words,
)
from gateway.core.model import HOUR, SECOND, Asset, CommandName, Micros, Transition
from gateway.core.routing import Feed
from gateway.core.rule import Rule
from tests.core.street import START, Street, rules_of

RULE = """
- rule: high
  applies_to: {kind: road}
  when:
    point: depth
    above: [{limit: 10, level: III}, {limit: 20, level: I}]
    deadband: 2
  %s
  response: go there
  sla: {resolve: 6h, clock: urgent}
  case: true
"""
ALARM = "r1/high"
DISPATCH, ACCEPT, REFUSE, ON_SITE, DONE = (
    CommandName.DISPATCH, CommandName.ACCEPT, CommandName.REFUSE, CommandName.ON_SITE, CommandName.DONE,
)  # fmt: skip
VERIFY, RETURN, CLOSE, ACKNOWLEDGE = CommandName.VERIFY, CommandName.RETURN, CommandName.CLOSE, CommandName.ACKNOWLEDGE


def street(extra: str = "off_delay: 0s") -> Street:
    return Street(RULE % extra)


def told(town: Street, alarm: str = ALARM) -> list[tuple[float, str]]:
    """(seconds, event) of everything the platform hears of one alarm."""
    return [(at, event.value) for at, event, _ in events(town, alarm)]


def events(town: Street, alarm: str = ALARM) -> list[tuple[float, CaseEvent, Case]]:
    case: Case | None = None
    found = []
    for step in town.transitions:
        moved = advance(case, step) if step.alarm_id == alarm else None
        if moved is not None:
            case, event = moved
            found.append(((step.at - START) / SECOND, event, case))
    return found


def newest(town: Street) -> Case:
    return events(town)[-1][2]


# -- from beginning to end --------------------------------------------------------------------------------------------


def test_nobody_is_sent_and_the_alarm_is_over_when_it_is_normal_and_acknowledged() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, ACKNOWLEDGE, ALARM)
    town.send(20, depth=1.0)
    assert told(town) == [(0, "opened"), (10, "acknowledged"), (20, "closed")]
    case = newest(town)
    assert (case.status, case.closed_how, case.closed_at) == ("closed", "recovered", START + 20 * SECOND)
    assert case.key == town.record(ALARM).occurrence_id


def test_what_is_normal_and_nobody_has_seen_stays_open_until_somebody_has() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.send(20, depth=1.0)
    town.do(30, ACKNOWLEDGE, ALARM)
    assert told(town) == [(0, "opened"), (20, "cleared"), (30, "closed")]


def test_what_latches_stays_open_until_it_is_reset() -> None:
    town = street("latch: true")
    town.send(0, depth=11.0)
    town.do(5, ACKNOWLEDGE, ALARM)
    town.send(20, depth=1.0)
    town.do(30, CommandName.RESET, ALARM)
    assert told(town) == [(0, "opened"), (5, "acknowledged"), (20, "cleared"), (30, "closed")]


def test_a_rule_that_asks_for_confirmation_keeps_the_case_until_then() -> None:
    town = street("confirm: true")
    town.send(0, depth=11.0)
    town.do(5, ACKNOWLEDGE, ALARM)
    town.send(20, depth=1.0)
    town.do(30, CommandName.CONFIRM, ALARM, why="looked", cause_code="leaves")
    assert told(town) == [(0, "opened"), (5, "acknowledged"), (20, "cleared"), (30, "closed")]


def test_who_was_sent_decides_when_it_is_over() -> None:
    """Dispatched, accepted, on site, done; the readings agree, and with them the case is closed."""
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, why="pump", to="crew-1")
    town.do(20, ACCEPT, ALARM)
    town.do(30, ON_SITE, ALARM)
    town.send(35, depth=1.0)
    town.do(40, DONE, ALARM, why="pumped out", cause_code="leaves")
    town.send(50, depth=1.0)
    town.at(200)
    assert told(town) == [
        (0, "opened"), (10, "dispatched"), (20, "accepted"), (30, "on-site"), (35, "cleared"), (40, "done"),
        (110, "closed"),
    ]  # fmt: skip
    assert newest(town).closed_how == "readings"


def test_a_person_verifies_returns_and_closes() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(20, ACCEPT, ALARM)
    town.do(30, DONE, ALARM, why="pumped out", cause_code="leaves", by_person=True)
    town.do(40, RETURN, ALARM, why="still wet")
    town.do(50, REFUSE, ALARM, why="no pump left")
    town.do(60, DISPATCH, ALARM, to="crew-2")
    town.do(70, ACCEPT, ALARM)
    town.do(80, DONE, ALARM, why="again", cause_code="leaves", by_person=True)
    town.do(90, VERIFY, ALARM)
    assert [event for _, event in told(town)] == [
        "opened", "dispatched", "accepted", "done", "rework", "refused", "dispatched", "accepted", "done", "closed",
    ]  # fmt: skip
    case = newest(town)
    assert (case.closed_how, case.reworks, case.reopened) == ("person", 1, 0)


def test_a_repair_that_does_not_last_a_day_opens_the_same_case_again() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(11, ACCEPT, ALARM)
    town.send(20, depth=1.0)
    town.do(30, CLOSE, ALARM, why="was a child's boat")
    first = newest(town)
    town.send(3600, depth=11.0)
    assert told(town)[-2:] == [(30, "closed"), (3600, "reopened")]
    again = newest(town)
    assert (again.key, again.status, again.closed_at, again.reopened) == (first.key, "rework", None, 1)
    assert again.occurrence != again.key


def test_after_more_than_a_day_it_is_another_case() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(11, ACCEPT, ALARM)
    town.send(20, depth=1.0)
    town.do(30, CLOSE, ALARM, why="gone")
    first = newest(town)
    town.send(100_000, depth=11.0)
    assert told(town)[-1] == (100_000, "opened")
    assert newest(town).key != first.key


def test_sent_again_after_the_work_was_closed_is_the_same_case() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(20, CLOSE, ALARM, why="false alarm")
    town.do(30, DISPATCH, ALARM, to="crew-2")
    assert told(town) == [(0, "opened"), (10, "dispatched"), (20, "closed"), (30, "reopened")]


def test_an_alarm_that_comes_back_before_it_was_seen_belongs_to_its_case() -> None:
    """Two holes reported, one hole in the road: the second occurrence is the first case."""
    town = street()
    town.send(0, depth=11.0)
    town.send(20, depth=1.0)
    town.send(40, depth=11.0)
    town.do(50, ACKNOWLEDGE, ALARM)
    town.send(60, depth=1.0)
    assert [event for _, event in told(town)] == ["opened", "cleared", "recurred", "acknowledged", "closed"]
    assert len({case.key for _, _, case in events(town)}) == 1
    assert newest(town).occurrence == town.record(ALARM).occurrence_id


def test_a_level_that_rises_is_told_and_one_that_falls_is_not() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.send(10, depth=25.0)
    town.send(20, depth=12.0)
    assert told(town) == [(0, "opened"), (10, "level")]


def test_what_is_set_aside_is_no_case_until_it_is_told() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(5, ACKNOWLEDGE, ALARM)
    town.send(8, depth=1.0)
    town.do(10, CommandName.SHELVE, ALARM, why="road works", seconds=100)
    town.send(20, depth=11.0)
    town.do(30, ACKNOWLEDGE, ALARM)
    assert told(town)[-1] == (8, "closed")
    town.at(120)
    assert told(town)[-1] == (110, "opened")


def test_who_is_sent_to_an_alarm_that_nobody_was_told_of_makes_a_case_of_it() -> None:
    town = street()
    town.send(0, depth=1.0)
    town.send(1, depth=11.0)
    town.do(5, ACKNOWLEDGE, ALARM)
    town.send(8, depth=1.0)
    town.do(10, CommandName.SHELVE, ALARM, why="road works", seconds=100)
    town.send(20, depth=11.0)
    town.do(30, DISPATCH, ALARM, to="crew-1")
    assert told(town)[-1] == (30, "opened")


def test_a_rule_that_goes_out_of_force_closes_its_cases() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.at(10)
    town.engine.replace_rules(rules_of("[]"), town.engine.now, town.events)
    assert told(town) == [(0, "opened"), (10, "closed")]
    assert newest(town).closed_how == "rule"


def test_a_step_that_was_told_is_told_no_more() -> None:
    """The process died between the platform's answer and our own note: the step comes again."""
    town = street()
    town.send(0, depth=11.0)
    town.do(10, ACKNOWLEDGE, ALARM)
    raised, seen = (step for step in town.transitions if step.cause in ("T3", "T10"))
    moved = advance(None, raised)
    assert moved is not None
    assert advance(moved[0], raised) is None
    after = advance(moved[0], seen)
    assert after is not None
    assert after[1] is CaseEvent.ACKNOWLEDGED


def test_an_opening_whose_end_nobody_knows_is_the_same_event_again() -> None:
    town = street()
    town.send(0, depth=11.0)
    (raised,) = town.transitions
    trying = Case(raised.record.occurrence_id, ALARM, raised.record.occurrence_id, raised.at)
    for status in (CaseStatus.OPENING, CaseStatus.HANDLING, CaseStatus.CLOSED):  # the platform may have spoken already
        moved = advance(msgspec.structs.replace(trying, status=status), raised)
        assert moved is not None
        assert moved[1] is CaseEvent.OPENED
        assert event_key(moved[0], raised, moved[1]) == f"{trying.key}/{raised.rev}/opened"
        assert moved[0].status == (CaseStatus.OPENED if status is CaseStatus.OPENING else status)


def test_every_cause_that_may_matter_is_known_and_no_other_is_told() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(5, CommandName.COMMENT, ALARM, why="a comment")
    town.do(6, CommandName.ASSIGN, ALARM, to="zhang")
    town.do(7, CommandName.SILENCE, ALARM)
    assert told(town) == [(0, "opened")]
    assert not {"comment", "assign", "T9", "T15", "T20", "T22", "T28", "T30", "T31"} & CAUSES


def test_every_word_is_there_in_both_languages() -> None:
    assert set(EVENT_WORDS) == set(CaseEvent)
    assert set(STATUS_WORDS) == set(CaseStatus)
    assert set(FORMULAS) == {"registered", "closed", "due", "in_time_rate", "rework_rate", "average_handling"}
    for zh, en in (*EVENT_WORDS.values(), *STATUS_WORDS.values(), *CLOSED_WORDS.values(), *FORMULAS.values()):
        assert zh
        assert en


# -- time limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sla", "zh", "en"),
    [
        ("{resolve: 6h}", "6 紧急工作时", "6 hours, night and day"),
        ("{resolve: 4h, clock: working_hours}", "4 工作时", "4 working hours"),
        ("{resolve: 3d, clock: working_days}", "3 工作日", "3 working days"),
        ("{resolve: 7d, clock: natural_days}", "7 自然日", "7 calendar days"),
        ("{resolve: 30m}", "0.5 紧急工作时", "0.5 hours, night and day"),
        ("{respond: 30m}", "", ""),
    ],
)
def test_a_time_limit_is_said_as_a_city_says_it(sla: str, zh: str, en: str) -> None:
    rule = the_rule(f"sla: {sla}")
    assert limit_words(rule) == (zh, en)
    assert (due_at(rule, START, Calendar()) is None) is (zh == "")


def the_rule(extra: str) -> Rule:
    text = f"- {{rule: high, applies_to: {{kind: road}}, when: {{point: depth, above: 1}}, {extra}}}"
    return rules_of(text).rules["high"]


# -- what the platform says -------------------------------------------------------------------------------------------


def row(status: CaseStatus = CaseStatus.OPENED, **more: object) -> CaseRow:
    base = CaseRow("city", Case("01K", ALARM, "01K", START, status, 3))
    return msgspec.structs.replace(base, **more)


def said(status: CaseStatus | None, at: float = 10, text: str = "") -> Said:
    moment = START + round(at * SECOND)
    return Said(moment, moment, status.value if status is not None else "督办", status, "wang", text)


def test_what_the_platform_says_is_written_down_once() -> None:
    heard = hear(row(), "m1", said(CaseStatus.HANDLING), "T-17")
    assert heard is not None
    assert (heard.case.status, heard.number, heard.heard) == ("handling", "T-17", ("m1",))
    assert hear(heard, "m1", said(CaseStatus.CLOSED, 20), None) is None


def test_what_comes_late_changes_nothing_and_is_still_known() -> None:
    closed = hear(row(), "m2", said(CaseStatus.CLOSED, 20), None)
    assert closed is not None
    assert (closed.case.status, closed.case.closed_at, closed.case.closed_how) == (
        "closed", START + 20 * SECOND, "platform",
    )  # fmt: skip
    late = hear(closed, "m1", said(CaseStatus.HANDLING, 10), None)
    assert late is not None
    assert (late.case.status, late.said, late.heard) == ("closed", closed.said, ("m2", "m1"))


def test_a_case_that_the_platform_sends_back_after_we_had_closed_the_work_waits_for_the_next_raise() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(20, CLOSE, ALARM, why="false alarm")
    town.send(25, depth=1.0)
    case = msgspec.structs.replace(events(town)[-1][2], status=CaseStatus.REWORK, closed_at=None)
    town.send(30, depth=11.0)
    raised, relapsed = town.transitions[-2:]
    assert (raised.cause, relapsed.cause) == ("T7", "W8")
    assert advance(case, raised) is None, "W8 says more"
    moved = advance(case, relapsed)
    assert moved is not None
    assert moved[1] is CaseEvent.REOPENED


def test_only_rework_opens_a_closed_case_again() -> None:
    closed = row(CaseStatus.CLOSED)
    handling = hear(closed, "m1", said(CaseStatus.HANDLING), None)
    assert handling is not None
    assert handling.case.status is CaseStatus.CLOSED
    rework = hear(closed, "m2", said(CaseStatus.REWORK), None)
    assert rework is not None
    assert (rework.case.status, rework.case.reworks) == ("rework", 1)


def test_a_word_that_means_no_status_is_kept_as_said() -> None:
    noted = hear(row(), "m1", said(None, text="请加快"), None)
    assert noted is not None
    assert noted.case.status is CaseStatus.OPENED
    assert noted.said is not None
    assert (noted.said.word, noted.said.text) == ("督办", "请加快")


def test_what_the_platform_has_closed_is_not_opened_by_what_we_had_to_tell() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, ACKNOWLEDGE, ALARM)
    seen = town.transitions[-1]
    after = arrived(row(CaseStatus.CLOSED), seen, CaseEvent.ACKNOWLEDGED, START, number="T-1")
    assert (after.case.status, after.case.rev, after.number, after.way) == ("closed", seen.rev, "T-1", "platform")
    closed = msgspec.structs.replace(row().case, status=CaseStatus.CLOSED, closed_at=START, closed_how="platform")
    for event in (CaseEvent.DISPATCHED, CaseEvent.ACKNOWLEDGED, CaseEvent.CLOSED, CaseEvent.OPENED):
        after = arrived(row(case=closed), seen, event, START + SECOND)
        assert (after.case.status, after.case.closed_at, after.case.closed_how) == ("closed", START, "platform"), event
    assert arrived(row(case=closed), seen, CaseEvent.REOPENED, START).case.closed_at is None
    dropped = arrived(row(), seen, CaseEvent.ACKNOWLEDGED, START, dropped=("k", "f.csv", "down"))
    assert (dropped.way, dropped.file, dropped.error, dropped.dropped) == ("csv", "f.csv", "down", ("k",))


# -- figures ----------------------------------------------------------------------------------------------------------


def case(opened: float, closed: float | None = None, due: float | None = None, **more: int) -> Case:
    times = [None if at is None else START + round(at * HOUR) for at in (closed, due)]
    status = CaseStatus.OPENED if closed is None else CaseStatus.CLOSED
    return Case("k", "a", "k", START + round(opened * HOUR), status, 1, times[1], times[0], **more)


def of(*cases: Case, now: float = 1000) -> Figures:
    return figures(cases, START, START + 24 * HOUR, START + round(now * HOUR))


def test_the_figures_of_a_day() -> None:
    found = of(
        case(-5, 3, 1),  # opened before, closed too late
        case(1, 5, 7),  # in time
        case(2, 10, 8, reworks=1),  # sent again, too late
        case(3, None, 9),  # due and not closed
        case(23, None, 29),  # due tomorrow
        case(4, 30, 10),  # closed tomorrow
    )
    assert (found.registered, found.closed, found.due, found.in_time, found.reworked) == (5, 3, 5, 1, 1)
    assert found.in_time_rate == pytest.approx(0.2)
    assert found.rework_rate == pytest.approx(1 / 3)
    assert found.average_handling == round((8 + 4 + 8) / 3 * HOUR)


def test_what_is_not_due_yet_is_not_held_against_anybody() -> None:
    assert of(case(1, None, 7), now=6).due == 0
    assert of(case(1, None, 7), now=8).due == 1


def test_closed_at_the_very_end_of_its_time_is_in_time() -> None:
    assert of(case(1, 7, 7)).in_time == 1
    assert of(case(1, 7.001, 7)).in_time == 0


def test_the_ends_of_the_period() -> None:
    assert of(case(0, None), case(24, None), case(23.999, None)).registered == 2
    assert of(case(-2, 0), case(-2, 24)).closed == 1


def test_a_rate_of_nothing_is_not_zero() -> None:
    found = of()
    assert (found.in_time_rate, found.rework_rate, found.average_handling) == (None, None, None)


def test_a_book_of_steps_gives_the_cases() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(11, ACCEPT, ALARM)
    town.do(30, CLOSE, ALARM, why="gone")
    town.send(40, depth=1.0)
    town.send(100_000, depth=11.0)
    book = book_of(town.transitions)
    first, second = book.cases
    assert (first.status, first.due_at) == ("closed", START + 6 * HOUR)
    assert (second.status, second.due_at) == ("opened", START + 100_000 * SECOND + 6 * HOUR)
    found = figures(book.cases, START, START + 48 * HOUR, START + 48 * HOUR)
    assert (found.registered, found.closed, found.due, found.in_time) == (2, 1, 2, 1)


def test_steps_that_begin_in_the_middle_give_a_case_from_there_on() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(20, ACCEPT, ALARM)
    (found,) = book_of(town.transitions[1:]).cases
    assert (found.opened_at, found.status) == (START + 10 * SECOND, "handling")


def book_of(steps: list[Transition]) -> CaseBook:
    def due(record: object, opened_at: Micros) -> Micros:
        return opened_at + 6 * HOUR

    book = CaseBook(due)
    for step in steps:
        book.take(step)
    return book


# -- who hears of it --------------------------------------------------------------------------------------------------


def heard(town: Street, feed: Feed) -> list[str]:
    """The rows of what a feed takes."""
    rules = {rule.id: rule for rule in town.rules}
    return [step.cause for step in town.transitions if feed.takes(step, rules.get(step.record.rule))]


def test_a_platform_hears_the_steps_of_a_case_that_people_are_not_told_of() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.do(5, CommandName.COMMENT, ALARM, why="a comment")
    town.do(10, DISPATCH, ALARM, to="crew-1")
    town.do(20, ACCEPT, ALARM)
    town.send(30, depth=1.0)
    assert heard(town, Feed(("city",), cases=True)) == ["T3", "W1", "W2", "T6"]
    assert heard(town, Feed(("webhook",))) == ["T3", "T6"]


def test_a_platform_hears_nothing_of_other_rules() -> None:
    town = Street((RULE % "off_delay: 0s").replace("case: true", "case: false"))
    town.send(0, depth=11.0)
    town.do(10, DISPATCH, ALARM, to="crew-1")
    assert heard(town, Feed(("city",), cases=True)) == []


def test_a_platform_hears_the_end_of_a_rule_whose_file_is_gone() -> None:
    town = street()
    town.send(0, depth=11.0)
    town.engine.replace_rules(rules_of("[]"), town.engine.now, town.events)
    feed = Feed(("city",), cases=True)
    assert [step.cause for step in town.transitions if feed.takes(step, None)] == ["T24"]


def test_a_platform_of_simulated_assets_hears_of_no_other() -> None:
    town = street()
    town.send(0, depth=11.0)
    assert heard(town, Feed(("city",), cases=True, simulated=True)) == []
    simulated = Street(RULE % "off_delay: 0s", [Asset("r1", "road", simulated=True)])
    simulated.send(0, depth=11.0)
    assert heard(simulated, Feed(("city",), cases=True)) == []
    assert heard(simulated, Feed(("city",), cases=True, simulated=True)) == ["T3"]
