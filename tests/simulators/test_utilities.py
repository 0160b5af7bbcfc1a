"""Gas, heat, water, parking, building sites: calm on a normal day, beyond the rules' limits when a scenario acts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.city import Asset
from simulators.lighting import CHINA
from simulators.utilities import GasChamber, HeatStation, ParkingLot, Utilities

MIDNIGHT = datetime(2025, 12, 20, 0, 0, tzinfo=CHINA)
JULY = datetime(2025, 7, 20, 0, 0, tzinfo=CHINA)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
ASSETS = [
    Asset(f"{kind}-{number}", kind, kind, "青年路", "梁山街道", "县", 116.1, 35.8, {}, attributes)
    for number in range(8)
    for kind, attributes in (
        ("gas", {}), ("heat", {"plan_temp": 50.0}), ("water", {}), ("parking", {"lot": True, "spaces": 180.0}),
        ("site", {}), ("lamp", {"rated_power": 90.0}),
    )
]  # fmt: skip
BAYS = [Asset(f"bay-{number}", "parking", "", "", "", "", 116.1, 35.8) for number in range(30)]


def utilities(
    seed: int = 1, start: datetime = MIDNIGHT, outside: float = 2.0, wet: Callable[[float], float] = lambda at: 0.0
) -> Utilities:
    return Utilities([*ASSETS, *BAYS], start, seed, lambda at: outside, wet)


def number(values: dict[str, bool | int | float | str], name: str) -> float:
    value = values[name]
    assert isinstance(value, (int, float))
    return value


def course(city: Utilities, asset: str, name: str, begin: float = 0.0, end: float = DAY) -> list[float]:
    """A value each five minutes."""
    return [
        number(city.things[asset].values(begin + 300 * step), name) for step in range(int((end - begin) / 300))
    ]  # fmt: skip


def test_every_kind_of_asset_that_is_a_utility_is_there_and_no_other() -> None:
    city = utilities()
    assert set(city.things) == {asset.asset for asset in [*ASSETS, *BAYS] if asset.kind != "lamp"}
    assert (len(city.gas), len(city.heat), len(city.water), len(city.lots), len(city.bays)) == (8, 8, 8, 8, 30)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_on_a_normal_day_nothing_comes_near_a_limit(seed: int) -> None:
    city = utilities(seed)
    for index in range(8):
        assert 0 < max(course(city, f"gas-{index}", "gas")) < 4
        assert min(course(city, f"heat-{index}", "supply_temp")) > 43
        assert min(course(city, f"heat-{index}", "room_temp")) > 19
        assert min(course(city, f"water-{index}", "pressure")) > 200
        assert max(course(city, f"site-{index}", "pm10")) < 135
        assert max(course(city, f"site-{index}", "laeq", 6 * HOUR, 22 * HOUR)) < 70
        night = course(city, f"site-{index}", "laeq", 22 * HOUR, 30 * HOUR)
        assert max(night) < 52
        assert max(course(city, f"site-{index}", "lmax", 22 * HOUR + 120, 30 * HOUR)) < 66


def test_a_normal_day_of_water_has_no_fall_that_looks_like_a_burst() -> None:
    city = utilities()
    for index in range(8):
        pressure = course(city, f"water-{index}", "pressure")
        assert min(after - before for before, after in zip(pressure, pressure[3:], strict=False)) > -25


def test_values_are_named_and_physical_as_the_profiles_check() -> None:
    city = utilities()
    for at in range(0, 86400, 1800):
        for site in city.sites.values():
            values = site.values(at)
            assert number(values, "pm25") <= number(values, "pm10") <= number(values, "tsp")
            assert number(values, "lmax") > number(values, "laeq")
            assert 0 <= number(values, "wind") < 8
            assert 0 <= number(values, "wind_direction") < 360
        for heat in city.heat.values():
            assert number(heat.values(at), "return_temp") < number(heat.values(at), "supply_temp")
        for lot in city.lots.values():
            assert 0 <= number(lot.values(at), "free") <= 180


# gas


def gas() -> GasChamber:
    return utilities().gas["gas-0"]


def test_a_leak_fills_the_chamber_towards_what_the_air_carries_away() -> None:
    its = gas()
    its.leaks(HOUR, 0.3)
    course = [its.lel_at(HOUR + minute * MINUTE) for minute in range(0, 600, 5)]
    assert course[0] < 4
    assert all(before < after + 0.2 for before, after in pairwise(course))
    assert 25 < course[-1] < 150
    assert its.values(HOUR + 600 * MINUTE)["alarm"] is True
    twice = gas()
    twice.leaks(HOUR, 0.6)
    assert 1.7 < twice.lel_at(12 * HOUR) / its.lel_at(12 * HOUR) < 2


def test_shutting_the_valve_ends_leak_flow_and_pressure() -> None:
    its = gas()
    its.leaks(HOUR, 0.5)
    its.valve_shut(3 * HOUR)
    values = its.values(14 * HOUR)
    assert (values["valve"], values["flow"], values["alarm"]) == (False, 0.0, False)
    assert number(values, "gas") < 4
    assert number(values, "pressure") < 20
    its.valve_opened(15 * HOUR)
    assert number(its.values(15 * HOUR), "pressure") > 150


def test_a_blocked_exhaust_lets_what_always_seeps_gather() -> None:
    its = gas()
    its.exhaust_blocked(HOUR)
    assert its.lel_at(2 * HOUR) < 5
    assert its.lel_at(3 * DAY) > 10
    its.ventilated(3 * DAY)
    assert its.lel_at(4 * DAY) < 4


def test_a_puff_of_sewer_gas_is_gone_in_some_hours() -> None:
    its = gas()
    its.puff(HOUR, 15.0)
    assert its.lel_at(HOUR) > 14
    assert its.lel_at(8 * HOUR) < 4


# heat


def heat(start: datetime = MIDNIGHT, outside: float = 2.0) -> HeatStation:
    return utilities(start=start, outside=outside).heat["heat-0"]


def test_supply_is_hotter_in_the_cold_and_never_ten_degrees_below_plan() -> None:
    supply = [number(heat(outside=outside).values(HOUR), "supply_temp") for outside in (-20, -5, 5, 18)]
    assert supply == sorted(supply, reverse=True)
    assert min(supply) > 42


def test_when_heat_is_missing_the_supply_falls_within_hours_and_the_room_within_a_day() -> None:
    its = heat(outside=-5.0)
    its.heat_fails(HOUR, 0.7)
    supply = [number(its.values(at * HOUR), "supply_temp") for at in (1, 2, 5)]
    room = [number(its.values(at * HOUR), "room_temp") for at in (1, 2, 5, 25)]
    assert supply[0] > 45 > 40 > supply[1] > supply[2]
    assert room[1] > 19
    assert room[3] < 14
    its.heat_back(26 * HOUR)
    assert number(its.values(30 * HOUR), "supply_temp") > 45
    assert number(its.values(30 * HOUR), "room_temp") < 18
    assert number(its.values(90 * HOUR), "room_temp") > 19.5


def test_the_room_follows_its_lag_without_a_jump_at_any_act() -> None:
    its = heat()
    its.heat_fails(HOUR, 0.5)
    its.heat_fails(3 * HOUR, 0.9)
    its.heat_back(4 * HOUR)
    for act in (1, 3, 4):
        before, after = (number(its.values(act * HOUR + delta), "room_temp") for delta in (-0.5, 0.5))
        assert before == pytest.approx(after, abs=0.01)


def test_out_of_season_the_station_is_as_warm_as_its_cellar_and_its_meter_stands() -> None:
    its = heat(JULY, 30.0)
    values, later = its.values(HOUR), its.values(9 * DAY)
    assert abs(number(values, "supply_temp") - number(values, "return_temp")) < 1
    assert values["flow"] == 0
    assert values["total"] == later["total"]
    winter = heat()
    used = number(winter.values(DAY), "total") - number(winter.values(0.0), "total")
    assert used == pytest.approx(24 * number(winter.values(0.0), "flow"))


def test_a_station_that_loses_water_loses_pressure_until_it_is_refilled() -> None:
    its = heat()
    normal = number(its.values(HOUR), "pressure")
    its.leaks(HOUR)
    assert number(its.values(2 * HOUR), "pressure") < normal - 240
    its.refilled(2 * HOUR)
    assert number(its.values(4 * HOUR), "pressure") == pytest.approx(normal, abs=1)


# water


def test_a_burst_takes_the_pressure_down_within_a_quarter_of_an_hour() -> None:
    its = utilities().water["water-0"]
    at = 10 * HOUR
    its.burst(at)
    fall = number(its.values(at), "pressure") - number(its.values(at + 15 * MINUTE), "pressure")
    assert fall > 60
    its.burst_closed(14 * HOUR)
    assert number(its.values(16 * HOUR), "pressure") > 200


# parking


def test_a_lot_fills_and_empties_with_the_day_and_a_fair_fills_it_whole() -> None:
    city = utilities()
    for its in city.lots.values():
        taken = [its.occupied_at(at) for at in range(0, 86400, 600)]
        assert min(taken) < 0.35 * its.spaces
        assert 0.6 * its.spaces < max(taken) <= its.spaces
    lot: ParkingLot = city.lots["parking-0"]
    lot.fills(10 * HOUR)
    assert lot.values(12 * HOUR)["free"] == 0
    lot.empties(13 * HOUR)
    lot.miscounts(3 * DAY, 300)
    assert number(lot.values(3 * DAY), "free") > lot.spaces


def test_a_bay_is_used_by_day_and_free_before_dawn_and_tells_since_when() -> None:
    bays = utilities().bays.values()

    def taken(hour: float) -> int:
        return sum(bay.occupied_at(hour * HOUR) for bay in bays)

    assert taken(27.99) == 0
    assert taken(14) > 12
    for bay in bays:
        changes = sum(
            bay.occupied_at(at) != bay.occupied_at(at + 60) for at in range(4 * 3600, 28 * 3600, 60)
        )  # fmt: skip
        assert 4 < changes < 60
    parked = next(bay for bay in bays if bay.occupied_at(14 * HOUR))
    since = parked.since_at(14 * HOUR)
    assert since is not None
    assert since <= 14 * HOUR
    assert not parked.occupied_at(since - 1)
    assert str(parked.values(14 * HOUR)["since"]).startswith("2025-12-20T")


def test_a_blocked_bay_stays_taken_through_the_night() -> None:
    its = utilities().bays["bay-0"]
    its.blocked(20 * HOUR)
    assert its.values(27.99 * HOUR)["occupied"] is True
    its.cleared(30 * HOUR)
    assert all(not its.occupied_at(28 * HOUR + DAY - second) for second in range(1, 50))


# building sites


def test_works_are_louder_and_dustier_than_the_night() -> None:
    its = utilities().sites["site-0"]
    assert its.works_at(9 * HOUR)
    assert not its.works_at(12.5 * HOUR)
    day, night = its.values(9 * HOUR), its.values(2 * HOUR)
    assert number(day, "laeq") > number(night, "laeq") + 12
    assert number(day, "tsp") > number(night, "tsp")


def test_loud_work_at_night_breaks_both_night_limits_while_it_lasts() -> None:
    city = utilities()
    city.sites["site-0"].loud_night_work(23 * HOUR, 25 * HOUR)
    loud = course(city, "site-0", "laeq", 23 * HOUR, 25 * HOUR)
    assert min(loud) > 60
    assert max(course(city, "site-0", "lmax", 23 * HOUR, 25 * HOUR)) > 70
    assert max(course(city, "site-0", "laeq", 25 * HOUR, 28 * HOUR)) < 52


def test_a_dust_burst_passes_the_limits_and_spray_and_rain_lay_it() -> None:
    dry, soaked = utilities(), utilities(wet=lambda at: 1.0)
    for city in (dry, soaked):
        city.sites["site-0"].dust_burst(9 * HOUR)
    at = 9 * HOUR + 600
    burst = number(dry.sites["site-0"].values(at), "pm10")
    assert burst > 300
    assert number(soaked.sites["site-0"].values(at), "pm10") < 0.6 * burst
    dry.sites["site-0"].spray(at, True)
    assert number(dry.sites["site-0"].values(at + 1800), "pm10") < 0.6 * burst
    dry.sites["site-0"].dust_settles(at + 1800)
    assert number(dry.sites["site-0"].values(13 * HOUR), "pm10") < 120


# all of them


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 2 * DAY), max_size=20))
def test_asking_often_or_seldom_gives_the_same_values(asked: list[float]) -> None:
    often, seldom = utilities(), utilities()
    for at in asked:  # backwards and forwards
        for thing in often.things.values():
            thing.values(at)
    for name in ("gas-3", "heat-3", "water-3", "parking-3", "site-3", "bay-3"):
        assert often.things[name].values(DAY + 1234.5) == seldom.things[name].values(DAY + 1234.5)


def test_acts_out_of_order_are_refused() -> None:
    its = gas()
    its.leaks(100.0, 0.1)
    with pytest.raises(ValueError, match=r"an act at 99\.0 s after one at 100\.0 s"):
        its.leak_stopped(99.0)
