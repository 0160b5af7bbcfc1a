"""What the streets, drains and stations do when it rains, and when something breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from simulators.city import Asset, City
from simulators.stormwater import BRANCH, Stormwater, branches, design_slope, manning_full_m3_s, wetted_m2
from simulators.weather import FORMULAS, ChicagoStorm, Shower, Weather

STORM = ChicagoStorm(FORMULAS["jinan"], 20, 120)
STORM_BEGINS = 1800.0
DRY = Weather()
TWENTY_YEARS = Weather([(STORM_BEGINS, STORM)])


def asset(asset_id: str, kind: str, links: dict[str, str] | None = None, **attributes: float) -> Asset:
    return Asset(
        asset=asset_id, kind=kind, name=asset_id, road="水泊大街", town="水泊街道", unit="县排水管理处",
        longitude=116.1, latitude=35.8, links=links or {}, attributes=attributes,
    )  # fmt: skip


def small_city() -> City:
    """Two stations: PS-01 with a branch of five gauge wells, PS-02 with two branches of four."""
    assets = [
        asset(
            f"PS-0{number}", "pump", L1=0.6, L2=1.8, L3=2.2, L4=2.6, L5=3.0, L6=4.0, ground=6.0, start_level=1.8,
            stop_level=0.8, rated_current=96.0, pumps=3, well_area=120.0, pump_flow=0.7, catchment_area=area,
            imperviousness=0.7,
        )
        for number, area in ((1, 9.0), (2, 12.0))
    ]  # fmt: skip
    sizes = [(0.6, 2.4), (0.8, 2.6), (0.6, 2.9), (1.0, 2.7), (1.2, 3.4)]
    for number in range(1, 14):
        diameter, ground = sizes[number % 5]
        station = {"station": "PS-01" if number <= 5 else "PS-02"}
        assets.append(asset(f"pipe-{number:02d}", "pipe", station, diameter=diameter, ground=ground))
    for number, pipe in enumerate(("pipe-02", "pipe-07", "pipe-12"), 1):
        assets.append(asset(f"road-0{number}", "road", {"station": "PS-01" if number == 1 else "PS-02", "pipe": pipe}))
    return City(7, tuple(assets), ())


@contextmanager
def drains(weather: Weather = DRY) -> Iterator[Stormwater]:
    with Stormwater(small_city(), weather) as stormwater:
        yield stormwater


def watch(stormwater: Stormwater, until_s: float, look: Callable[[], float], every_s: float = 30.0) -> list[float]:
    """What ``look`` saw on the way."""
    seen = []
    while stormwater.now + every_s <= until_s:
        stormwater.advance(stormwater.now + every_s)
        seen.append(look())
    return seen


def highest_well(stormwater: Stormwater) -> float:
    return max(station.level_m for station in stormwater.stations.values())


def test_on_a_dry_day_pumps_work_now_and_then_and_streets_are_dry() -> None:
    with drains() as dry:
        before = {name: sum(pump.starts for pump in station.pumps) for name, station in dry.stations.items()}
        levels = watch(dry, 12 * 3600, lambda: highest_well(dry))
        assert max(levels) < 1.9
        for name, station in dry.stations.items():
            assert 4 < sum(pump.starts for pump in station.pumps) - before[name] < 40
            assert 0.6 < station.level_m < 1.9
            assert station.current_a > 70
        assert all(0.02 < pipe.filled < 0.5 for pipe in dry.pipes.values())
        assert all(0.1 < pipe.velocity_m_s < 3 for pipe in dry.pipes.values())
        assert all(road.depth_cm == 0 for road in dry.roads.values())
        assert all(dry.surcharge_m(pipe) < -1 for pipe in dry.pipes)
        assert abs(dry.balance.errors[1]) < 1


def test_the_storm_of_twenty_years_floods_the_low_points_and_fills_the_wells() -> None:
    with drains(TWENTY_YEARS) as storm:
        roads = dict.fromkeys(storm.roads, 0.0)
        wells = dict.fromkeys(storm.stations, 0.0)
        heads = dict.fromkeys(storm.pipes, 0.0)
        while storm.now < STORM_BEGINS + 3 * 3600:
            storm.advance(storm.now + 30)
            roads = {name: max(roads[name], road.depth_cm) for name, road in storm.roads.items()}
            wells = {name: max(wells[name], station.level_m) for name, station in storm.stations.items()}
            heads = {name: max(heads[name], storm.surcharge_m(name)) for name in storm.pipes}
        assert all(15 < depth < 120 for depth in roads.values()), roads
        assert all(level > 4.0 for level in wells.values()), wells
        assert sum(head > 0.2 for head in heads.values()) >= 2, heads
        assert any(pipe.filled > 0 for pipe in storm.pipes.values())
        # Three hours after it began the streets are free again and the wells are under control.
        assert all(road.depth_cm == 0 for road in storm.roads.values())
        assert highest_well(storm) < 2.6
        runoff, routing = storm.balance.errors
        assert abs(runoff) < 2
        assert abs(routing) < 2


def test_a_storm_of_two_years_is_a_nuisance_only() -> None:
    with drains(Weather([(0.0, ChicagoStorm(FORMULAS["jinan"], 2, 120))])) as storm:
        deepest = watch(storm, 3 * 3600, lambda: max(road.depth_cm for road in storm.roads.values()))
        assert max(deepest) < 15


def test_a_shower_raises_no_well_above_L5_and_wets_no_road() -> None:
    with drains(Weather([(600.0, Shower(peak_mm_h=10, duration_s=5400))])) as shower:
        levels = watch(shower, 3 * 3600, lambda: highest_well(shower))
        assert max(levels) < 3.0
        assert all(road.depth_cm == 0 for road in shower.roads.values())


def test_every_drop_is_accounted_for() -> None:
    with drains(TWENTY_YEARS) as storm:
        storm.advance(STORM_BEGINS + 3 * 3600)
        balance = storm.balance
        left = balance.inflow_m3 - balance.outflow_m3 - balance.flooded_m3 - balance.stored_m3
        assert abs(left) < 0.02 * balance.inflow_m3
        # 21 ha, 70 % paved: at least what fell on the paved part has run off.
        assert balance.inflow_m3 > 0.9 * 210_000 * 0.7 * STORM.fallen_mm(1e9) / 1000


def test_failed_pumps_leave_more_water_in_the_well() -> None:
    def peak(failed: int) -> float:
        with drains(Weather([(0.0, Shower(peak_mm_h=40, duration_s=3600))])) as rain:
            for pump in rain.stations["PS-02"].pumps[:failed]:
                pump.fault = True
            return max(watch(rain, 5400, lambda: rain.stations["PS-02"].level_m))

    assert peak(0) < peak(2) < peak(3)
    assert peak(3) > 4.0


def test_a_pump_that_is_told_to_start_and_refuses_does_not_run() -> None:
    with drains() as dry:
        station = dry.stations["PS-01"]
        for pump in station.pumps:
            pump.refuses = True
        levels = watch(dry, 2 * 3600, lambda: station.level_m)
        assert station.wanted > 0
        assert not any(pump.running for pump in station.pumps)
        assert max(levels) > 2.0


def test_a_blocked_drain_backs_up_at_its_gauge_and_not_below() -> None:
    with drains() as clean, drains() as blocked:
        blocked.pipes["pipe-03"].blocked = 0.95
        for city in (clean, blocked):
            city.advance(3 * 3600)
        assert blocked.pipes["pipe-03"].level_m > 2 * clean.pipes["pipe-03"].level_m
        assert blocked.pipes["pipe-05"].level_m == pytest.approx(clean.pipes["pipe-05"].level_m, abs=0.03)
        blocked.pipes["pipe-03"].blocked = 1.0
        blocked.advance(9 * 3600)
        assert blocked.pipes["pipe-03"].filled > 1
        blocked.pipes["pipe-03"].blocked = 0.0
        blocked.advance(10 * 3600)
        assert blocked.pipes["pipe-03"].level_m == pytest.approx(clean.pipes["pipe-03"].level_m, abs=0.03)


def test_without_mains_the_pumps_stop_and_with_mains_they_go_on() -> None:
    with drains(Weather([(0.0, Shower(peak_mm_h=40, duration_s=7200))])) as rain:
        station = rain.stations["PS-02"]
        rain.advance(3600)
        assert any(pump.running for pump in station.pumps)
        station.mains = False
        life, level = station.life, station.level_m
        rain.advance(4500)
        assert not any(pump.running for pump in station.pumps)
        assert station.flow_m3_h == 0
        assert station.life == life
        assert station.level_m > level + 0.5
        station.mains = True
        rain.advance(4560)
        assert sum(pump.running for pump in station.pumps) == 3


def test_a_stuck_sensor_lets_the_well_rise_while_the_other_gauge_tells_the_truth() -> None:
    with drains(Weather([(600.0, Shower(peak_mm_h=40, duration_s=7200))])) as rain:
        station = rain.stations["PS-01"]
        watch(rain, 590, lambda: station.level_m, every_s=5)
        station.level_sensor = "stuck"
        stuck = station.level_m
        rain.advance(6000)
        assert station.sensed_m == pytest.approx(stuck, abs=0.01)
        assert station.level_m > 4
        assert station.second_m == pytest.approx(station.level_m, abs=0.03)
        station.level_sensor = "ok"
        rain.advance(6060)
        assert sum(pump.running for pump in station.pumps) == 3


def test_without_its_sensor_the_controller_goes_by_its_floats() -> None:
    with drains(Weather([(600.0, Shower(peak_mm_h=40, duration_s=7200))])) as rain:
        station = rain.stations["PS-01"]
        station.level_sensor = "failed"
        levels = watch(rain, 9000, lambda: station.level_m, every_s=5)
        assert station.sensed_m is None
        assert not station.level_sensor_ok
        highest = levels.index(max(levels))
        assert 4.0 <= levels[highest] < 4.6
        assert min(levels[highest:]) < 0.8
        assert min(levels[highest:]) > 0.3


def test_rags_in_the_impeller_draw_current_and_move_nothing() -> None:
    with drains() as dry:
        station = dry.stations["PS-01"]
        for pump in station.pumps:
            pump.blocked = True
        watch(dry, 3 * 3600, lambda: station.level_m)
        running = [pump for pump in station.pumps if pump.running]
        assert running
        assert station.flow_m3_h == 0
        assert all(station.pump_current_a(pump) > station.asset.number("rated_current") for pump in running)
        assert station.level_m > 1.8


def test_the_lead_goes_round_so_that_all_pumps_work_alike() -> None:
    with drains() as dry:
        station = dry.stations["PS-02"]
        before = [pump.starts for pump in station.pumps]
        dry.advance(24 * 3600)
        starts = [pump.starts - was for pump, was in zip(station.pumps, before, strict=True)]
        assert min(starts) > 2
        assert max(starts) - min(starts) <= 1


def test_a_pump_in_manual_does_what_the_man_at_the_panel_says() -> None:
    with drains() as dry:
        station = dry.stations["PS-01"]
        by_hand = station.pumps[0]
        by_hand.auto = False
        by_hand.command(True)
        levels = watch(dry, 1200, lambda: station.level_m, every_s=5)
        # Down to the float that keeps pumps from running dry, and no further.
        assert 0.4 < min(levels) < 0.65
        assert not by_hand.running


def test_a_burst_main_floods_one_road_without_any_rain() -> None:
    with drains() as dry:
        road = dry.roads["road-02"]
        road.leak_cm_target = 12.0
        dry.advance(120)
        assert road.depth_cm == pytest.approx(12, abs=0.2)
        assert dry.roads["road-01"].depth_cm == 0
        road.leak_cm_target = 0.0
        dry.advance(400)
        assert road.depth_cm == 0


def test_the_same_city_gives_the_same_numbers_however_it_is_asked() -> None:
    weather = Weather([(900.0, ChicagoStorm(FORMULAS["jinan"], 5, 60))])

    def course(every_s: int) -> list[str]:
        with drains(weather) as city:
            for at in range(0, 7200, every_s):
                city.advance(at + every_s)
            return [
                *map(repr, city.pipes.values()),
                *map(repr, city.stations.values()),
                *map(repr, city.roads.values()),
            ]

    assert course(1) == course(600)


def test_branches_are_short_and_even() -> None:
    pipes = [asset(f"pipe-{number:02d}", "pipe") for number in range(14)]
    assert [len(branch) for branch in branches(pipes)] == [4, 5, 5]
    assert [pipe for branch in branches(pipes) for pipe in branch] == pipes
    assert branches([]) == []
    assert len(branches(pipes[:BRANCH])) == 1


def test_pipes_are_laid_as_steep_as_they_must_and_can() -> None:
    flow = manning_full_m3_s(0.8, 0.004)
    assert design_slope(0.8, flow) == pytest.approx(0.004)
    assert design_slope(0.8, 0.0) == 0.0015
    assert design_slope(0.6, 10.0) == 0.012
    assert wetted_m2(1.0, 0.5) == pytest.approx(3.14159 / 8, rel=1e-4)
    assert wetted_m2(1.0, 2.0) == pytest.approx(3.14159 / 4, rel=1e-4)


def test_a_road_on_a_drain_that_is_not_there_is_refused() -> None:
    city = small_city()
    broken = City(city.seed, (*city.assets, asset("road-09", "road", {"station": "PS-01", "pipe": "pipe-99"})), ())
    with pytest.raises(KeyError, match="pipe-99"):
        Stormwater(broken, DRY)
