"""The lighting model: the sun's clock, the plan, voltage along the cable, energy, faults; the same however asked."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.city import Asset
from simulators.lighting import CHINA, Feeder, Lamp, LampState, Lighting, LightingPlan, Sun, drawn

NOON = datetime(2025, 7, 20, 12, 0, tzinfo=CHINA)
HOUR = 3600.0
ON, OFF = 7 * HOUR + 39 * 60 + 7, 17 * HOUR + 5 * 60 + 15  # 19:39:07, ten minutes after sunset; about 05:05
EVENING, LATE, NIGHT, DAY = 9 * HOUR, 11.5 * HOUR, 15 * HOUR, 24 * HOUR


def street(lamps: int = 30, feeders: int = 1, power: float = 120.0) -> list[Asset]:
    """Feeders F0…, each with its lamps F0-0… in a row; every fourth is a half-night lamp."""
    assets = []
    for feeder in range(feeders):
        name = f"F{feeder}"
        assets.append(_asset(name, "feeder", {}, {"rated_power": power * lamps}))
        for number in range(lamps):
            links = {"feeder": name}
            if number:
                links["before"] = f"{name}-{number - 1}"
            if number < lamps - 1:
                links["after"] = f"{name}-{number + 1}"
            half = {"half_night": number % 4 == 3}
            assets.append(_asset(f"{name}-{number}", "lamp", links, {"rated_power": power, **half}))
    return assets


def _asset(name: str, kind: str, links: dict[str, str], attributes: dict[str, float | bool]) -> Asset:
    return Asset(name, kind, name, "水泊大街", "水泊街道", "县照明管理所", 116.1, 35.8, links, attributes)


def lighting(lamps: int = 30, feeders: int = 1, wet: float = 0.0, power: float = 120.0) -> Lighting:
    return Lighting(street(lamps, feeders, power), LightingPlan(), NOON, 1, lambda at: wet)


# the sun and the plan


@pytest.mark.parametrize(
    ("day", "rise", "fall"),
    [
        ("2025-03-20", "06:19", "18:27"),
        ("2025-06-21", "05:00", "19:35"),
        ("2025-07-20", "05:14", "19:30"),
        ("2025-09-23", "06:04", "18:12"),
        ("2025-12-21", "07:22", "17:05"),
    ],
)
def test_the_sun_rises_and_sets_by_the_almanac_to_the_minute(day: str, rise: str, fall: str) -> None:
    sun, of = Sun(), date.fromisoformat(day)
    for seen, told in ((sun.rise(of), rise), (sun.set(of), fall)):
        expected = datetime.combine(of, time.fromisoformat(told), CHINA)
        assert abs(seen - expected) <= timedelta(minutes=1)
    assert sun.is_up(datetime.combine(of, time(12), CHINA))
    assert not sun.is_up(datetime.combine(of, time(23), CHINA))


def test_the_circuit_burns_from_sunset_to_sunrise_and_dims_at_eleven() -> None:
    feeder = lighting().feeders["F0"]
    seen = [(at, feeder.told(at).on, feeder.told(at).dim) for at in (0.0, ON - 1, ON, 11 * HOUR - 1, 11 * HOUR, OFF)]
    assert [(on, dim) for _, on, dim in seen] == [
        (False, 0.0), (False, 0.0), (True, 100.0), (True, 100.0), (True, 50.0), (False, 0.0),
    ]  # fmt: skip


def test_a_half_night_lamp_goes_dark_at_midnight_and_nobody_expects_it_to_burn() -> None:
    city = lighting()
    assert city.should_be_lit("F0-3", LATE)
    assert city.is_lit("F0-3", LATE)
    assert not city.should_be_lit("F0-3", NIGHT)
    assert not city.is_lit("F0-3", NIGHT)
    assert city.should_be_lit("F0-2", NIGHT)


def test_a_summer_night_in_which_the_dim_step_comes_before_the_lamps_burn_begins_dimmed() -> None:
    plan = LightingPlan(steps=((time(19, 0), 70.0), (time(23, 0), 40.0)))
    city = Lighting(street(), plan, NOON, 1)
    assert city.feeders["F0"].told(EVENING).dim == 70.0
    assert city.feeders["F0"].told(NIGHT).dim == 40.0


# the cable


@pytest.mark.parametrize("lamps", [1, 3, 30, 60, 120, 400])
def test_a_healthy_feeder_under_full_load_stays_within_the_limits_at_the_lamp(lamps: int) -> None:
    city = lighting(lamps, power=150.0)
    for at in (ON + 60, EVENING, LATE, NIGHT):
        volts = [lamp.voltage_at(at) for lamp in city.lamps.values()]
        assert min(volts) > 205
        assert max(volts) <= 228


def test_voltage_falls_from_lamp_to_lamp_along_each_phase() -> None:
    lamps = list(lighting(60).lamps.values())
    for phase in range(3):
        volts = [lamp.voltage_at(EVENING) for lamp in lamps[phase::3]]
        assert all(near > far for near, far in pairwise(volts))


def test_voltage_falls_with_load_and_rises_when_lamps_go_out() -> None:
    city = lighting(60)
    far = city.lamps["F0-57"]
    by_day, full = far.feeder.sag_at(far, HOUR), far.feeder.sag_at(far, EVENING)
    dimmed, half_night_off = far.feeder.sag_at(far, LATE), far.feeder.sag_at(far, NIGHT)
    assert by_day == 0 < half_night_off < dimmed < full
    city.lamps["F0-30"].breaks(EVENING)  # phase A, as lamp 57
    assert far.feeder.sag_at(far, EVENING) < full
    other = city.lamps["F0-58"]
    assert other.feeder.sag_at(other, EVENING) == pytest.approx(other.feeder.sag_at(other, EVENING - 1), abs=1e-9)


def test_the_sag_is_the_sum_over_lamps_of_current_times_the_cable_they_share() -> None:
    city = lighting(30)
    feeder = city.feeders["F0"]
    city.lamps["F0-9"].cycles(EVENING)
    lamp = feeder.lamps[24]
    expected = sum(
        other.power_at(EVENING) / (220 * other.pf) * feeder._ohm_m * min(lamp.position_m, other.position_m)
        for other in feeder.lamps[lamp.number % 3 :: 3]
    )
    assert feeder.sag_at(lamp, EVENING) == pytest.approx(expected)


def test_lamps_stand_along_the_cable_in_the_order_their_neighbours_say() -> None:
    assets = street(12)
    city = Lighting([assets[0], *reversed(assets[1:])], LightingPlan(), NOON, 1)
    assert [lamp.asset.asset for lamp in city.feeders["F0"].lamps] == [f"F0-{number}" for number in range(12)]


def test_a_lamp_whose_feeder_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="its feeder F0 is not there"):
        Lighting(street()[1:], LightingPlan(), NOON, 1)


# power and energy


def test_the_load_of_a_feeder_is_the_sum_of_its_lamps_in_every_state() -> None:
    city = _battered()
    feeder = city.feeders["F0"]
    for at in (HOUR, EVENING, EVENING + 100, LATE, NIGHT, DAY - 1):
        assert feeder.load_at(at) == pytest.approx(sum(lamp.power_at(at) for lamp in feeder.lamps))


@pytest.mark.parametrize("lamp", ["F0-0", "F0-1", "F0-2", "F0-3", "F0-4", "F0-5", "F0-6", "F0-7"])
def test_energy_is_the_integral_of_power_whatever_happens_to_the_lamp(lamp: str) -> None:
    its = _battered().lamps[lamp]
    step, at, summed, burnt = 10.0, 0.0, 0.0, 0.0
    while at < DAY:
        power = its.power_at(at + step / 2)
        summed, burnt, at = summed + power * step / 3.6e6, burnt + (step if power else 0.0) / HOUR, at + step
    assert its.energy_at(DAY) - its.energy_at(0.0) == pytest.approx(summed, abs=0.002)
    assert its.burn_hours_at(DAY) - its.burn_hours_at(0.0) == pytest.approx(burnt, abs=0.02)


def test_the_meter_of_a_feeder_counts_what_its_lamps_use() -> None:
    city = _battered()
    feeder = city.feeders["F0"]
    for at in (HOUR, LATE, DAY, 5 * DAY):
        assert feeder.energy_at(at) == pytest.approx(sum(lamp.energy_at(at) for lamp in feeder.lamps), rel=1e-9)


def _battered() -> Lighting:
    """One feeder to which a night has happened: every state a lamp can have, mains lost, hands at the switch."""
    city = lighting(12)
    feeder, lamps = city.feeders["F0"], city.lamps
    lamps["F0-2"].burns_by_day(2 * HOUR)
    lamps["F0-1"].cycles(ON - 500)
    lamps["F0-0"].breaks(EVENING)
    lamps["F0-3"].stops_dimming(EVENING, 100.0)
    lamps["F0-4"].cycles(EVENING)
    feeder.loses_mains(EVENING + 300)
    feeder.has_mains_back(EVENING + 1300)
    lamps["F0-5"].stops_dimming(LATE, 30.0)
    lamps["F0-4"].is_mended(NIGHT)
    feeder.by_hand(NIGHT, True, 80.0)
    lamps["F0-5"].breaks(NIGHT + 1800)
    feeder.by_plan(NIGHT + 2400)
    feeder.contactor_sticks(NIGHT + 3000, closed=True)
    feeder.contactor_works(20 * HOUR)
    return city


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, DAY), max_size=40))
def test_asking_often_or_seldom_gives_the_same_state(asked: list[float]) -> None:
    often, seldom = _battered(), _battered()
    for at in sorted(asked):
        often.now = at
        for lamp in often.lamps.values():
            assert lamp.power_w >= 0
            assert lamp.energy_kwh > 0
    often.now = seldom.now = DAY
    assert [_all(lamp) for lamp in often.lamps.values()] == [_all(lamp) for lamp in seldom.lamps.values()]
    assert often.feeders["F0"].energy_kwh == seldom.feeders["F0"].energy_kwh


def _all(lamp: Lamp) -> tuple[float, ...]:
    return lamp.power_w, lamp.voltage_v, lamp.current_a, lamp.energy_kwh, lamp.burn_hours, float(lamp.commanded)


def test_the_past_can_be_asked_after_the_future() -> None:
    first, then = lighting(), lighting()
    expected = (first.lamps["F0-5"].energy_at(LATE), first.feeders["F0"].energy_at(LATE))
    then.feeders["F0"].loses_mains(NIGHT)
    then.lamps["F0-5"].breaks(NIGHT)
    assert then.lamps["F0-5"].energy_at(3 * DAY) > 0
    assert (then.lamps["F0-5"].energy_at(LATE), then.feeders["F0"].energy_at(LATE)) == expected
    assert then.is_lit("F0-5", LATE)
    assert not then.is_lit("F0-5", NIGHT + 1)


def test_a_lamp_is_the_same_in_a_small_city_and_in_a_large_one() -> None:
    small, large = lighting(feeders=1), lighting(feeders=7)
    small.now = large.now = LATE
    assert _all(small.lamps["F0-17"]) == _all(large.lamps["F0-17"])


def test_acts_out_of_order_are_refused() -> None:
    city = lighting()
    city.lamps["F0-1"].breaks(100.0)
    with pytest.raises(ValueError, match=r"F0: an act at 99\.0 s after one at 100\.0 s"):
        city.lamps["F0-1"].is_mended(99.0)
    city.feeders["F0"].loses_mains(100.0)
    with pytest.raises(ValueError, match=r"an act at 99\.0 s"):
        city.feeders["F0"].has_mains_back(99.0)


# ageing


def test_an_old_lamp_gives_less_light_and_draws_more_current_for_its_power() -> None:
    lamps = sorted(lighting().lamps.values(), key=lambda lamp: lamp.burn_hours)
    young, old = lamps[0], lamps[-1]
    assert old.pf < young.pf
    assert old.full_w < young.full_w < 120.0
    assert old.full_w / old.pf > young.full_w / young.pf
    assert 0.7 < old.lumen_share_at(EVENING) < young.lumen_share_at(EVENING) < 1
    assert 0.49 * old.lumen_share_at(EVENING) < old.lumen_share_at(LATE) < 0.51 * old.lumen_share_at(EVENING)


def test_natural_failures_come_in_order_only_while_lamps_burn_and_more_in_more_time() -> None:
    city = lighting(60, feeders=20)
    month, year = (list(city.natural_failures(days * DAY)) for days in (30, 365))
    assert [lamp.asset.asset for _, lamp in year[: len(month)]] == [lamp.asset.asset for _, lamp in month]
    assert 1200 * 30 * 10 / 60_000 * 0.4 < len(month) < len(year) < 1200
    assert all(city.feeders["F0"].told(at).on for at, _ in month)
    assert all(before <= after for (before, _), (after, _) in pairwise(year))
    assert all(lamp.state is LampState.OK for lamp in city.lamps.values())


# faults, as the operator sees them


def _report(lamp: Lamp, at: float) -> tuple[bool, bool]:
    """(told to burn, burns)"""
    return lamp.commanded_at(at), lamp.power_at(at) > 0


def test_a_broken_lamp_is_dark_at_night_and_a_day_burner_burns_by_day() -> None:
    city = lighting()
    broken, burner = city.lamps["F0-1"], city.lamps["F0-2"]
    broken.breaks(HOUR)
    burner.burns_by_day(HOUR)
    assert _report(broken, EVENING) == (True, False)
    assert _report(burner, 2 * HOUR) == (False, True)
    assert not city.is_lit("F0-1", EVENING)
    assert city.is_lit("F0-2", 2 * HOUR)
    assert not city.should_be_lit("F0-2", 2 * HOUR)


def test_a_cycling_lamp_changes_more_than_ten_times_in_half_an_hour() -> None:
    lamp = lighting().lamps["F0-1"]
    lamp.cycles(EVENING)
    seen = [lamp.power_at(EVENING + second) > 0 for second in range(0, 1800, 15)]
    assert sum(before != after for before, after in pairwise(seen)) > 10


def test_without_mains_everything_is_dark_and_without_volts_and_should_still_be_lit() -> None:
    city = lighting()
    feeder, lamp = city.feeders["F0"], city.lamps["F0-1"]
    feeder.loses_mains(EVENING)
    city.now = EVENING + 60
    assert (feeder.mains, feeder.contactor, feeder.lit, feeder.load_w, feeder.leak_ma) == (False, False, False, 0, 0)
    assert (lamp.voltage_v, lamp.power_w, lamp.current_a) == (0, 0, 0)
    assert city.should_be_lit("F0-1", city.now)
    feeder.has_mains_back(EVENING + 600)
    city.now = EVENING + 601
    assert feeder.lit
    assert city.is_lit("F0-1", city.now)


def test_a_contactor_stuck_open_leaves_the_street_dark_with_volts_at_the_controllers() -> None:
    city = lighting()
    feeder = city.feeders["F0"]
    feeder.contactor_sticks(HOUR, closed=False)
    city.now = EVENING
    assert (feeder.commanded, feeder.contactor, feeder.load_w) == (True, False, 0)
    assert city.lamps["F0-1"].voltage_v > 220


def test_a_contactor_stuck_closed_lets_the_street_burn_undimmed_by_day() -> None:
    city = lighting()
    feeder = city.feeders["F0"]
    feeder.contactor_sticks(HOUR, closed=True)
    city.now = 2 * HOUR
    assert (feeder.commanded, feeder.contactor) == (False, True)
    assert feeder.load_w == pytest.approx(sum(lamp.full_w for lamp in feeder.lamps))


def test_a_hand_at_the_switch_is_stronger_than_the_plan_until_it_is_given_back() -> None:
    feeder = lighting().feeders["F0"]
    feeder.by_hand(HOUR, True, 60.0)
    feeder.by_plan(2 * HOUR)
    feeder.by_hand(EVENING, False)
    assert [feeder.told(at).on for at in (0.0, HOUR, 2 * HOUR, EVENING - 1, EVENING, NIGHT)] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    assert feeder.lamps[0].power_at(HOUR + 1) == pytest.approx(feeder.lamps[0].full_w * drawn(60.0))


def test_a_damaged_cable_leaks_only_when_it_is_wet_and_only_while_the_circuit_burns() -> None:
    def leaks(wet: float) -> list[float]:
        feeder: Feeder = lighting(wet=wet).feeders["F0"]
        sound = feeder.leak_at(EVENING)
        feeder.insulation_fails(EVENING)
        return [sound, feeder.leak_at(EVENING + 1), feeder.leak_at(DAY)]

    dry, soaked = leaks(0.0), leaks(1.0)
    assert dry[0] == dry[1] < 10
    assert dry[0] < soaked[0] < 30
    assert soaked[1] > 100
    assert soaked[2] < 10


def test_a_broken_neutral_pulls_the_phases_apart() -> None:
    city = lighting()
    feeder = city.feeders["F0"]
    feeder.supply_shifts(EVENING, 40.0, -60.0, 25.0)
    city.now = EVENING + 1
    assert feeder.lamps[0].voltage_v > 231
    assert feeder.lamps[1].voltage_v < 198
    feeder.supply_shifts(NIGHT, 0.0, 0.0, 0.0)
    assert 198 < feeder.lamps[0].voltage_at(NIGHT) < 231
