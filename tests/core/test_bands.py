"""Bands: an alarm stood from when its condition became true until it was no longer, level by level."""

from __future__ import annotations

from gateway.core.bands import Band, bands_of
from gateway.core.model import SECOND, AlarmRecord, Condition, Level, Transition


def told(
    at: int,
    rule: str = "r",
    *,
    up: bool = True,
    level: int = 3,
    cause: str = "T3",
    shadow: bool = False,
    latched: bool = False,
) -> Transition:
    cond = Condition.ACTIVE if up else Condition.NORMAL
    record = AlarmRecord(
        f"a/{rule}",
        "a",
        rule,
        "lamp",
        rev=at,
        cond=cond,
        level=Level(level),
        acked=False,
        shadow=shadow,
        latched=latched,
    )
    return Transition(record.alarm_id, at, at * SECOND, cause, record.isa_state, record.isa_state, record)


def spans(bands: list[Band]) -> list[tuple[str, int, float, float | None]]:
    return [(b.rule, b.level, b.since / SECOND, None if b.until is None else b.until / SECOND) for b in bands]


def test_a_band_begins_with_the_condition_and_ends_with_it() -> None:
    steps = [told(10), told(12, cause="T10"), told(20, up=False, cause="T6"), told(21, up=False, cause="T10"), told(30)]
    assert spans(bands_of([], steps, 0)) == [("r", 3, 10, 20), ("r", 3, 30, None)]


def test_what_stood_before_begins_at_the_beginning() -> None:
    before = [told(1, "old"), told(2, "gone", up=False)]
    assert spans(bands_of(before, [told(20, "old", up=False, cause="T6")], 5 * SECOND)) == [("old", 3, 5, 20)]
    assert spans(bands_of(before, [], 5 * SECOND)) == [("old", 3, 5, None)]


def test_another_level_is_another_band() -> None:
    steps = [
        told(10, level=4),
        told(20, level=2, cause="T8"),
        told(30, level=4, cause="T9"),
        told(40, up=False, cause="T6"),
    ]
    assert spans(bands_of([], steps, 0)) == [("r", 4, 10, 20), ("r", 2, 20, 30), ("r", 4, 30, 40)]


def test_an_event_is_a_moment_and_a_latched_alarm_stands_until_it_is_reset() -> None:
    steps = [told(10, "event", up=False, cause="T26"), told(11, "event", up=False, cause="T10")]
    assert spans(bands_of([], steps, 0)) == [("event", 3, 10, 10)]
    latched = [told(10), told(20, up=False, latched=True, cause="T6"), told(30, up=False, cause="T14")]
    assert spans(bands_of([], latched, 0)) == [("r", 3, 10, 30)]


def test_a_rule_on_trial_has_no_bands() -> None:
    assert bands_of([told(1, shadow=True)], [told(10, shadow=True), told(20, up=False, shadow=True)], 0) == []
