"""Reports of citizens and our alarms: class, place and time, each with its edges."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.case_match import Bounds, Match, Report, match
from gateway.core.model import HOUR, MINUTE, SECOND, AlarmRecord, Asset, Condition, Level, Micros

NOW: Micros = 1_750_000_000 * SECOND
METRE = 1 / 111_194.9  # degrees of latitude
LONGITUDE, LATITUDE = 116.10, 35.80
USUAL = Bounds()


def alarm(name: str = "cover-1", rule: str = "manhole-open", kind: str = "manhole", **more: object) -> AlarmRecord:
    """Stands since three hours ago."""
    base = AlarmRecord(
        f"{name}/{rule}", name, rule, kind, "01K", 3, cond=Condition.ACTIVE, level=Level.I, acked=False,
        active_at=NOW - 3 * HOUR, detected_at=NOW - 3 * HOUR,
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def over(ago: float, **more: object) -> AlarmRecord:
    """Was over so many hours ago."""
    end = NOW - round(ago * HOUR)
    return alarm(cond=Condition.NORMAL, active_at=end - HOUR, inactive_at=end, acked=True, **more)


def asset(name: str = "cover-1", metres: float | None = 0.0, road: str = "水泊大街", kind: str = "manhole") -> Asset:
    if metres is None:
        return Asset(name, kind, road=road)
    return Asset(name, kind, road=road, longitude=LONGITUDE, latitude=LATITUDE + metres * METRE)


def report(at: float = 0.0, **more: object) -> Report:
    """Seen so many hours after now, at the place."""
    fields: dict[str, object] = {"kinds": ("manhole",), "longitude": LONGITUDE, "latitude": LATITUDE}
    return Report(NOW + round(at * HOUR), **(fields | more))  # type: ignore[arg-type]


def of(*candidates: tuple[AlarmRecord, Asset], what: Report | None = None, bounds: Bounds = USUAL) -> Match:
    return match(what if what is not None else report(), candidates, NOW, bounds)


def fits(*candidates: tuple[AlarmRecord, Asset], what: Report | None = None) -> bool:
    return of(*candidates, what=what).record is not None


# -- class ------------------------------------------------------------------------------------------------------------


def test_a_report_of_its_class_at_its_place_while_it_stands_is_about_it() -> None:
    found = of((alarm(), asset(metres=42)))
    assert found.record is not None
    assert found.record.alarm_id == "cover-1/manhole-open"
    assert (found.why_zh, found.why_en) == (
        "同类，相距 42 米，报警期间", "same class, 42 m away, while the alarm stood",
    )  # fmt: skip
    assert found.score == pytest.approx(0.8 * (1 - 0.5 * 42 / 150), abs=0.006)


def test_another_class_at_the_same_place_is_not() -> None:
    assert not fits((alarm(), asset()), what=report(kinds=("lamp",)))
    assert of((alarm(), asset()), what=report(kinds=("lamp",))).why_en == (
        "no alarm of this class near it at that time"
    )  # fmt: skip


def test_a_class_that_is_not_in_the_table_fits_nothing() -> None:
    found = of((alarm(), asset()), what=report(kinds=()))
    assert (found.record, found.why_zh) == (None, "类别不在对照表中")


def test_a_class_may_name_rules() -> None:
    named = report(kinds=(), rules=("manhole-open*",))
    assert fits((alarm(), asset()), what=named)
    assert not fits((alarm(rule="manhole-battery"), asset()), what=named)
    assert of((alarm(), asset()), what=named).score == 1.0
    assert of((alarm(), asset())).score == 0.8


# -- place ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metres", "near"), [(0, True), (149.9, True), (150.2, False), (-149.9, True), (5000, False)])
def test_a_place_is_within_150_metres(metres: float, near: bool) -> None:
    assert fits((alarm(), asset(metres=metres))) is near


def test_without_a_position_the_road_counts() -> None:
    on_the_road = report(longitude=None, latitude=None, place="水泊大街与忠义路交叉口往东")
    found = of((alarm(), asset(metres=5000)), what=on_the_road)
    assert found.record is not None
    assert (found.why_zh, found.score) == ("同类，同一道路（水泊大街），报警期间", pytest.approx(0.32))
    assert fits((alarm(), asset(metres=None)), what=report(place="水泊大街 12 号"))  # here the asset has none
    assert not fits((alarm(), asset(road="青年路")), what=on_the_road)


def test_a_road_that_the_platform_names_must_be_the_same() -> None:
    named = report(longitude=None, latitude=None, road=" 水泊大街", place="青年路口")
    assert fits((alarm(), asset()), what=named)
    assert not fits((alarm(), asset(road="青年路")), what=named)


def test_a_road_whose_name_is_a_part_of_anothers_is_not_meant() -> None:
    written = report(longitude=None, latitude=None, place="新青年路 3 号")
    new, old = (alarm("a"), asset("a", road="新青年路")), (alarm("b"), asset("b", road="青年路"))
    found = of(new, old, what=written)
    assert found.record is not None
    assert (found.record.asset, found.others) == ("a", ())


def test_a_place_with_neither_position_nor_road_is_nowhere() -> None:
    nowhere = report(longitude=None, latitude=None)
    assert not fits((alarm(), asset(road="")), what=nowhere)
    assert not fits((alarm(), asset()), what=nowhere)


def test_with_positions_the_road_does_not_help() -> None:
    assert not fits((alarm(), asset(metres=200)), what=report(road="水泊大街"))


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "fits_"),
    [(-5.01, False), (-5.0, True), (-3, True), (-1, True), (0, True)],
)
def test_a_report_from_before_the_alarm_may_be_two_hours_old(hours: float, fits_: bool) -> None:
    """The alarm stands since three hours ago: a sensor speaks later than eyes."""
    assert fits((alarm(), asset()), what=report(hours)) is fits_


@pytest.mark.parametrize(("hours", "fits_"), [(-2, True), (-1, True), (1, True), (1.01, False)])
def test_a_report_from_after_its_end_may_be_two_hours_later(hours: float, fits_: bool) -> None:
    """It was over an hour ago."""
    assert fits((over(1), asset()), what=report(hours)) is fits_


def test_an_alarm_that_stands_fits_however_long_it_has() -> None:
    old = alarm(active_at=NOW - 72 * HOUR)
    assert fits((old, asset()), what=report(-1))


def test_what_has_been_over_for_more_than_a_day_is_no_candidate() -> None:
    assert fits((over(23.9), asset()), what=report(-23.9))
    assert not fits((over(24.1), asset()), what=report(-24.1))


def test_the_bounds_can_be_set() -> None:
    bounds = Bounds(50, 30 * MINUTE)
    assert of((alarm(), asset(metres=60)), bounds=bounds).record is None
    assert of((alarm(), asset()), what=report(-3.6), bounds=bounds).record is None
    found = of((alarm(), asset()), what=report(-3.4), bounds=bounds)
    assert found.record is not None
    assert found.why_en == "same class, 0 m away, 24 min before the alarm"


def test_after_its_end_the_words_say_so() -> None:
    assert of((over(1), asset()), what=report(-0.5)).why_zh == "同类，相距 0 米，恢复后 30 分钟"


# -- more than one ----------------------------------------------------------------------------------------------------


def test_of_several_the_nearest_counts_and_the_others_are_named() -> None:
    pairs = [(alarm(f"c{n}"), asset(f"c{n}", metres=n)) for n in (90, 30, 120)]
    found = of(*pairs)
    assert found.record is not None
    assert found.record.asset == "c30"
    assert found.others == ("c90/manhole-open", "c120/manhole-open")
    assert found.why_zh.endswith("；另有 2 个报警也符合，取最近者")


def test_a_position_is_nearer_than_a_road() -> None:
    far, road = (alarm("far"), asset("far", metres=149)), (alarm("road"), asset("road", metres=None))
    found = of(road, far, what=report(place="水泊大街"))
    assert found.record is not None
    assert (found.record.asset, found.others) == ("far", ("road/manhole-open",))


def test_at_one_place_the_cause_comes_before_what_it_explains_and_the_worse_before_the_milder() -> None:
    here = asset()
    tilted = alarm(rule="manhole-tilted", level=Level.II, suppressed_by=("cover-1/manhole-open",))
    mild = alarm(rule="a-mild-one", level=Level.IV)
    found = of((tilted, here), (mild, here), (alarm(), here))
    assert found.record is not None
    assert found.record.rule == "manhole-open"
    assert found.others == ("cover-1/a-mild-one", "cover-1/manhole-tilted")


def test_of_many_five_are_named() -> None:
    found = of(*((alarm(f"c{n}"), asset(f"c{n}", metres=n)) for n in range(20)))
    assert len(found.others) == 5
    assert "19 more fit" in found.why_en


def test_the_order_in_which_they_come_does_not_matter() -> None:
    pairs = [(alarm(f"c{n}"), asset(f"c{n}", metres=n % 7)) for n in range(20)]
    assert of(*pairs) == of(*reversed(pairs))
