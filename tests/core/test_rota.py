"""Rotas: shifts across midnight, turns, holidays, swaps, and who answers when nobody is on duty."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.case_clock import Calendar
from gateway.core.model import HOUR, MINUTE, Micros
from gateway.core.rota import DayKind, Duty, Rota, Shift, Swap, kind_of

# Spring Festival 2026; Saturday the 28th of February is worked for it.
COUNTY = Calendar(
    holidays=frozenset(date(2026, 2, day) for day in (16, 17, 18, 19, 20, 23)),
    workdays=frozenset({date(2026, 2, 14), date(2026, 2, 28)}),
)
MONDAY = date(2026, 1, 5)
DAY = Shift("day", time(8), time(18), (("an",),), kinds=frozenset({DayKind.WORKDAYS}))
NIGHT = Shift("night", time(18), time(8), (("bao",), ("cui",), ("ding",)), every=1, since=MONDAY)
FESTIVE = Shift("festive", time(8), time(8), (("fu", "gu"),), kinds=frozenset({DayKind.HOLIDAYS}))
DESK = Rota("desk", ("chief",), (FESTIVE, DAY, NIGHT), (), COUNTY)


def at(text: str, zone: str = "Asia/Shanghai") -> Micros:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("why", "moment", "people", "shift"),
    [
        ("Monday at work", "2026-01-05T12:00", ("an",), "day"),
        ("the day shift begins", "2026-01-05T08:00", ("an",), "day"),
        ("and is over on the second", "2026-01-05T18:00", ("bao",), "night"),
        ("a night belongs to the day on which it began", "2026-01-06T03:00", ("bao",), "night"),
        ("the next night is another's turn", "2026-01-06T18:00", ("cui",), "night"),
        ("the fourth night is the first one's again", "2026-01-08T23:59", ("bao",), "night"),
        ("turns before the first day go on backwards", "2026-01-04T20:00", ("ding",), "night"),
        ("nobody has the day of a Saturday", "2026-01-10T12:00", ("chief",), ""),
        ("but a Saturday that is worked is a working day", "2026-02-28T12:00", ("an",), "day"),
        ("a holiday has people of its own, all day", "2026-02-18T12:00", ("fu", "gu"), "festive"),
        ("and all night", "2026-02-19T03:00", ("fu", "gu"), "festive"),
        ("a weekend inside the festival is no public holiday", "2026-02-21T12:00", ("chief",), ""),
    ],
)
def test_who_is_on_duty(why: str, moment: str, people: tuple[str, ...], shift: str) -> None:
    duty = DESK.on_duty(at(moment))
    assert (duty.people, duty.shift) == (people, shift), why
    assert duty.why == ("shift" if shift else "fallback")


def test_turns_of_a_week_change_with_the_first_shift_of_the_week() -> None:
    weekly = Shift("week", time(8), time(8), (("an",), ("bao", "cui")), every=7, since=MONDAY)
    rota = Rota("crew", ("chief",), (weekly,))
    assert rota.on_duty(at("2026-01-12T07:59")).people == ("an",)
    assert rota.on_duty(at("2026-01-12T08:00")).people == ("bao", "cui")
    assert rota.on_duty(at("2026-01-19T08:00")).people == ("an",)
    assert rota.next_change(at("2026-01-06T12:00")) == at("2026-01-12T08:00")


def test_days_of_the_week_hold_on_holidays_too() -> None:
    tuesdays = Shift("tue", time(8), time(12), (("an",),), weekdays=frozenset({1}), kinds=frozenset())
    rota = Rota("crew", ("chief",), (tuesdays,), (), COUNTY)
    assert rota.on_duty(at("2026-02-17T09:00")).people == ("an",)  # New Year's Day
    assert rota.on_duty(at("2026-02-18T09:00")).why == "fallback"


def test_every_day_is_of_exactly_one_kind() -> None:
    kinds = {kind: [d for d in range(1, 29) if kind_of(date(2026, 2, d), COUNTY) is kind] for kind in DayKind}
    assert kinds[DayKind.HOLIDAYS] == [16, 17, 18, 19, 20, 23]
    assert kinds[DayKind.WEEKENDS] == [1, 7, 8, 15, 21, 22]
    assert sum(map(len, kinds.values())) == 28


def test_who_stands_in_has_the_duty_as_long_as_the_swap_lasts() -> None:
    swap = Swap(at("2026-01-05T20:00"), at("2026-01-06T08:00"), "bao", "zhang", "a wedding")
    rota = replace(DESK, swaps=(swap,))
    assert rota.on_duty(at("2026-01-05T19:59")) == Duty(("bao",), "shift", "night")
    assert rota.on_duty(at("2026-01-05T20:00")) == Duty(("zhang",), "swap", "night", (swap,))
    assert rota.on_duty(at("2026-01-08T20:00")).people == ("bao",)
    assert rota.next_change(at("2026-01-05T18:00")) == at("2026-01-05T20:00")
    assert rota.next_change(at("2026-01-05T21:00")) == at("2026-01-06T08:00")


def test_a_swap_that_ends_within_a_shift_gives_the_duty_back() -> None:
    rota = replace(DESK, swaps=(Swap(at("2026-01-05T18:00"), at("2026-01-06T02:00"), "bao", "zhang"),))
    assert rota.on_duty(at("2026-01-06T02:00") - 1).people == ("zhang",)
    assert rota.on_duty(at("2026-01-06T02:00")).people == ("bao",)


def test_a_swap_with_somebody_who_is_not_on_duty_changes_nothing() -> None:
    swap = Swap(at("2026-01-05T18:00"), at("2026-01-06T08:00"), "cui", "zhang")
    assert replace(DESK, swaps=(swap,)).on_duty(at("2026-01-05T20:00")) == Duty(("bao",), "shift", "night")


def test_nobody_is_on_duty_twice_when_a_swap_gives_them_a_second_place() -> None:
    pair = Shift("pair", time(0), time(0), (("an", "bao"),))
    swap = Swap(at("2026-01-05T00:00"), at("2026-01-06T00:00"), "bao", "an")
    assert Rota("pair", ("chief",), (pair,), (swap,)).on_duty(at("2026-01-05T12:00")).people == ("an",)


def test_a_change_is_where_a_shift_ends_though_nobody_follows() -> None:
    assert DESK.next_change(at("2026-01-09T20:00")) == at("2026-01-10T08:00")  # Saturday: the fallback
    assert DESK.next_change(at("2026-01-10T08:00")) == at("2026-01-10T18:00")
    assert DESK.next_change(at("2026-02-18T12:00")) is not None


def test_a_rota_of_one_person_never_changes() -> None:
    assert Rota("chief", ("chief",)).next_change(at("2026-01-05T00:00")) is None
    always = Shift("always", time(0), time(0), (("an",),))
    assert Rota("an", ("chief",), (always,)).next_change(at("2026-01-05T00:00")) is None


def test_a_night_in_which_clocks_are_changed_has_one_shift() -> None:
    zone = "Europe/Berlin"
    rota = Rota("night", ("chief",), (replace(NIGHT, turns=(("bao",),)),), (), Calendar(zone))
    begin, end = at("2025-10-25T18:00", zone), at("2025-10-26T08:00", zone)
    assert end - begin == 15 * HOUR
    assert all(rota.on_duty(moment).people == ("bao",) for moment in range(begin, end, 30 * MINUTE))
    assert rota.next_change(begin) == end


@given(st.integers(at("2026-01-01T00:00"), at("2026-12-01T00:00")))
def test_between_now_and_the_next_change_the_duty_is_the_same(moment: Micros) -> None:
    change = DESK.next_change(moment)
    assert change is not None
    now = DESK.on_duty(moment)
    assert DESK.on_duty(change) != now
    for number in range(1, 20):
        assert DESK.on_duty(moment + (change - moment) * number // 20) == now
    assert DESK.on_duty(change - 1) == now
