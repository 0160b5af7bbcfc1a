"""What must be raised, what may be, and what is not asked for: the truth looks at the state, and takes its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from simulators import truth
from simulators.acts import ACTS
from simulators.simulation import Simulation
from simulators.truth import (
    AFTER_S,
    CALM,
    EVENT_S,
    GRACE_S,
    MAY_BE,
    OFF_BY_DEFAULT,
    READINGS,
    WATCHES,
    Expected,
    Hazard,
    State,
    Truth,
    Watch,
)
from tests.simulators.playing import notes, play, simulation, small_city

CITY = small_city()
LAMP = "lamp-0003"
LAMP_S = 900.0  # a lamp's interval in the field
SURE = State(True, (3, 60.0))


@dataclass
class Trial:
    """A rule whose truth is what ``state`` says, looked at by hand."""

    truth: Truth
    state: State = CALM

    def looks(self, at: float, state: State | None = None) -> list[Expected | Hazard]:
        self.state = state if state is not None else self.state
        return list(self.truth.look(LAMP, "lamp", at))


@pytest.fixture(params=[False])
def trial(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """The parameter: does the device report at once?"""
    monkeypatch.setattr(truth, "WATCHES", (Watch("trial", ("lamp",), lambda *_: made.state, request.param),))
    made = Trial(Truth(simulation(), frozenset()))
    return made


# -- when --------------------------------------------------------------------------------------------------------------


def test_what_certainly_is_must_be_raised_after_its_delay_two_intervals_and_some_grace(trial: Trial) -> None:
    due = 100 + 60 + 2 * LAMP_S + GRACE_S
    assert trial.looks(100, SURE) == []
    assert trial.looks(due - 1) == []
    assert trial.looks(due) == [Expected(LAMP, "trial", 3, 100, due, 60, LAMP_S)]
    assert trial.looks(due + 1) == [], "it is told once"


@pytest.mark.parametrize("trial", [True], indirect=True)
def test_a_device_that_reports_at_once_is_not_given_its_heartbeat(trial: Trial) -> None:
    due = 100 + 60 + 2 * EVENT_S + GRACE_S
    assert trial.looks(100, SURE) == []
    assert trial.looks(due - 1) == []
    assert trial.looks(due) == [Expected(LAMP, "trial", 3, 100, due, 60, EVENT_S)]


def test_a_delay_of_readings_is_of_the_device_s_intervals(trial: Trial) -> None:
    trial.looks(100, State(True, (3, 2 * READINGS)))
    due = 100 + 2 * LAMP_S + 2 * LAMP_S + GRACE_S
    assert trial.looks(due - 1) == []
    assert trial.looks(due) == [Expected(LAMP, "trial", 3, 100, due, 2 * LAMP_S, LAMP_S)]


def test_what_only_may_be_is_never_expected(trial: Trial) -> None:
    assert [trial.looks(at, MAY_BE) for at in (100, 5000, 90_000)] == [[], [], []]


def test_what_was_certain_for_too_short_a_time_is_not_expected_and_begins_anew(trial: Trial) -> None:
    trial.looks(100, SURE)
    trial.looks(1000, MAY_BE)
    trial.looks(1100, SURE)
    assert trial.looks(100 + 60 + 2 * LAMP_S + GRACE_S) == []
    (expected,) = trial.looks(1100 + 60 + 2 * LAMP_S + GRACE_S)
    assert isinstance(expected, Expected)
    assert expected.since == 1100


def test_what_gets_worse_is_expected_at_each_level_since_it_was_that_severe(trial: Trial) -> None:
    trial.looks(100, State(True, (4, 0.0)))
    trial.looks(500, State(True, (2, 0.0)))
    told = [(one.level, one.since) for one in trial.looks(100_000) if isinstance(one, Expected)]
    assert told == [(4, 100), (2, 500)]


def test_each_level_has_the_delay_that_it_had_when_it_became_certain(trial: Trial) -> None:
    trial.looks(100, State(True, (4, 300.0)))
    trial.looks(150, State(True, (2, 60.0)))
    told = {at: trial.looks(at) for at in (150 + 60 + 2 * LAMP_S + GRACE_S, 100 + 300 + 2 * LAMP_S + GRACE_S)}
    levels = [(at, one.level, one.delay) for at, found in told.items() for one in found if isinstance(one, Expected)]
    assert levels == [(150 + 60 + 2 * LAMP_S + GRACE_S, 2, 60), (100 + 300 + 2 * LAMP_S + GRACE_S, 4, 300)]


def test_what_was_severe_for_a_moment_is_expected_only_as_it_stayed(trial: Trial) -> None:
    trial.looks(100, State(True, (2, 0.0)))
    trial.looks(500, State(True, (4, 0.0)))
    told = [(one.level, one.since) for one in trial.looks(100_000) if isinstance(one, Expected)]
    assert told == [(4, 500)]
    trial.looks(200_000, State(True, (2, 0.0)))
    (again,) = trial.looks(300_000)
    assert isinstance(again, Expected)
    assert (again.level, again.since) == (2, 200_000)


def test_a_hazard_lasts_from_a_second_before_until_an_alarm_on_its_way_has_come(trial: Trial) -> None:
    assert trial.looks(100, SURE) == []
    assert trial.looks(1000, MAY_BE) == []
    (hazard,) = trial.looks(1500, CALM)
    assert hazard == Hazard(LAMP, "trial", 99, 1500 + 60 + 2 * LAMP_S + AFTER_S)
    assert trial.looks(1600) == []


def test_each_hazard_has_the_delay_of_its_own_states(trial: Trial) -> None:
    trial.looks(100, SURE)
    trial.looks(200, CALM)
    trial.looks(300, MAY_BE)
    assert trial.looks(400, CALM) == [Hazard(LAMP, "trial", 299, 400 + 2 * LAMP_S + AFTER_S)]


def test_what_still_may_be_at_the_end_is_open(trial: Trial) -> None:
    trial.looks(100, MAY_BE)
    assert list(trial.truth.end(5000)) == [Hazard(LAMP, "trial", 99, None)]
    trial.looks(5000, CALM)
    assert list(trial.truth.end(6000)) == []


def test_rules_that_ship_switched_off_are_judged_when_the_scenario_switches_them_on() -> None:
    city = simulation()
    city.world.utilities.gas["gas-01"].leaks(0.0, 2.0)

    def hazards(*enabled: str) -> list[str]:
        judged = Truth(city, frozenset(enabled))
        assert list(judged.look("gas-01", "gas", 7200.0)) == []
        return [hazard.rule for hazard in judged.end(7200.0)]

    assert hazards() == []
    assert hazards("gas-leak") == ["gas-leak"]
    assert {watch.rule for watch in WATCHES} >= OFF_BY_DEFAULT


@pytest.mark.parametrize(
    ("share", "level"),
    [(0.97, None), (0.99, "may be"), (1.01, "may be"), (1.03, 4), (1.19, 4), (1.23, 3), (1.51, 3), (1.53, 1)],
)
def test_a_vehicle_is_judged_as_it_crosses_with_the_scale_s_tolerance(share: float, level: int | str | None) -> None:
    found = list(Truth(simulation(), frozenset()).crosses("bridge-01", share, 50.0, 1.0))
    hazard, due = Hazard("bridge-01", "bridge-overload", 49.0, 50.0 + GRACE_S), 50.0 + GRACE_S
    match level:
        case None:
            assert found == []
        case "may be":
            assert found == [hazard]
        case _:
            assert found == [hazard, Expected("bridge-01", "bridge-overload", int(level), 50.0, due, 0.0, 1.0)]


# -- what --------------------------------------------------------------------------------------------------------------


def state(city: Simulation, rule: str, asset: str, at: float) -> State:
    (watch,) = (watch for watch in WATCHES if watch.rule == rule)
    assert city.city.asset(asset).kind in watch.kinds
    return watch.asks(city, asset, at)


@pytest.mark.parametrize("start", ["2025-05-14T10:00:00+08:00", "2025-05-14T22:00:00+08:00"])
def test_in_a_calm_city_nothing_is_certain_and_nearly_nothing_may_be(start: str) -> None:
    city = simulation(start=start)
    kinds = {asset.asset: asset.kind for asset in CITY.assets}
    may_be = set()
    for watch in WATCHES:
        for asset in (asset for asset, kind in kinds.items() if kind in watch.kinds):
            found = watch.asks(city, asset, 600.0)
            assert found.certain is None, (watch.rule, asset)
            may_be |= {watch.rule} if found.possible else set()
    assert may_be <= {"heat-supply-low", "site-noise-day", "site-noise-night", "site-noise-night-peak"}


NIGHT, DAY, WINTER = "2025-07-20T22:30:00+08:00", "2025-07-20T10:00:00+08:00", "2025-01-20T10:00:00+08:00"

SEEN: list[tuple[str, dict[str, Any], str, str, str, float, int]] = [
    ("lamp-fails", {}, "lamp-0003", "lamp-out", NIGHT, 60, 4),
    ("lamp-burns-by-day", {}, "lamp-0003", "lamp-day-burner", DAY, 60, 4),
    ("voltage-shifts", {"a": 14.0, "b": 14.0, "c": 14.0}, "F01", "lamp-voltage", NIGHT, 60, 3),
    ("feeder-loses-mains", {}, "F01", "circuit-lost", NIGHT, 60, 2),
    ("contactor-sticks-open", {}, "F01", "circuit-lost", NIGHT, 60, 2),
    ("earth-fault", {}, "F01", "feeder-leakage", NIGHT, 60, 2),
    ("cabinet-opened", {}, "F01", "cabinet-door", NIGHT, 60, 3),
    ("cover-opened", {}, "cover-003", "manhole-open", DAY, 60, 1),
    ("cover-stolen", {}, "cover-003", "manhole-open", DAY, 60, 1),
    ("cover-tilted", {}, "cover-003", "manhole-tilted", DAY, 60, 2),
    ("battery-low", {"percent": 14.0}, "cover-003", "manhole-battery", DAY, 60, 4),
    ("battery-low", {"percent": 8.0}, "cover-003", "manhole-battery", DAY, 60, 3),
    ("station-loses-mains", {}, "PS-01", "station-power-lost", DAY, 60, 2),
    ("station-answers-late", {"after_s": 3600.0}, "PS-01", "station-stale", DAY, 60, 3),
    ("plc-frozen", {}, "PS-01", "station-stale", DAY, 60, 3),
    ("pump-by-hand", {"pump": 2.0}, "PS-01", "pump-not-auto", DAY, 60, 3),
    ("strain-jumps", {"ue": 140.0}, "bridge-01", "bridge-strain", DAY, 900, 2),
    ("strain-jumps", {"ue": 190.0}, "bridge-01", "bridge-strain", DAY, 900, 1),
    ("gas-leaks", {"m3_h": 0.9}, "gas-01", "gas-leak", DAY, 7200, 1),
    ("heating-fails", {"lack": 0.6}, "heat-01", "heat-supply-low", WINTER, 7200, 3),
    ("dust-blows", {"pm10": 420.0}, "site-01", "site-dust", DAY, 900, 3),
    ("works-at-night", {"minutes": 90.0, "db": 72.0}, "site-01", "site-noise-night", NIGHT, 900, 3),
    ("main-bursts", {"kpa": 150.0}, "water-01", "water-burst", DAY, 600, 2),
    ("main-bursts", {"kpa": 150.0}, "water-01", "pressure-drop", DAY, 600, 4),
    ("main-bursts", {"kpa": 250.0}, "water-01", "water-pressure-low", DAY, 1800, 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "given", "asset", "rule", "start", "after_s", "level"),
    SEEN,
    ids=[f"{row[0]}-{row[3]}-{row[6]}" for row in SEEN],
)
def test_what_is_done_is_seen_at_the_level_of_the_table(
    act: str, given: dict[str, Any], asset: str, rule: str, start: str, after_s: float, level: int
) -> None:
    city = simulation(start=start)
    judged = LAMP if rule == "lamp-voltage" else asset
    assert state(city, rule, judged, 600.0).certain is None
    usual = {name: value for name, value in ACTS[act].takes.items() if value is not None}
    ACTS[act].begin(city, asset, 601.0, usual | given)
    city.world.lighting.now = 601.0 + after_s
    found = state(city, rule, judged, 601.0 + after_s)
    assert found.possible
    assert found.certain is not None
    assert found.certain[0] == level


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(3.0, CALM), (9.0, MAY_BE), (17.0, MAY_BE), (22.0, State(True, (2, 30.0))), (43.0, MAY_BE), (70.0, MAY_BE)],
)
def test_a_tilted_cover_is_certain_only_between_its_limit_and_open(degrees: float, expected: State) -> None:
    city = simulation()
    city.world.covers.covers["cover-003"].opened(10.0, degrees)
    assert state(city, "manhole-tilted", "cover-003", 20.0) == expected


@pytest.mark.parametrize(
    ("depth", "possible", "level"),
    [(0.0, False, None), (1.0, False, None), (2.0, True, None), (4.6, True, None), (5.4, True, None), (5.6, True, 4),
     (14.9, True, 4), (15.6, True, 2), (25.6, True, 1)],
)  # fmt: skip
def test_water_on_a_road_is_judged_within_half_a_centimetre(depth: float, possible: bool, level: int | None) -> None:
    city = simulation()
    city.world.drains.roads["road-01"].depth_cm = depth
    found = state(city, "road-depth", "road-01", 20.0)
    assert found.possible is possible
    assert (found.certain or (None,))[0] == level


@pytest.mark.parametrize(
    ("freeboard", "overflow", "near"),
    [(1.0, CALM, CALM), (0.3, CALM, State(True, (2, 60.0))), (0.6, CALM, MAY_BE), (0.1, MAY_BE, State(True, (2, 60.0))),
     (-0.05, State(True, (1, 0.0)), MAY_BE)],
)  # fmt: skip
def test_a_drain_near_the_street_is_one_and_over_it_the_other(freeboard: float, overflow: State, near: State) -> None:
    city = simulation()
    pipe = city.world.drains.pipes["pipe-01"]
    pipe.level_m = pipe.ground_m - freeboard
    assert state(city, "pipe-overflow", "pipe-01", 20.0) == overflow
    assert state(city, "pipe-near-ground", "pipe-01", 20.0) == near


def test_a_broken_gauge_makes_no_level_certain_but_itself_a_fault() -> None:
    city = simulation()
    pipe = city.world.drains.pipes["pipe-01"]
    pipe.level_m = pipe.ground_m + 0.05
    ACTS["sensor-out-of-range"].begin(city, "pipe-01", 10.0, {"size": 0.0})
    assert state(city, "pipe-overflow", "pipe-01", 20.0) == MAY_BE
    assert state(city, "gauge-fault", "pipe-01", 20.0) == State(True, (4, 0.0))
    ACTS["sensor-out-of-range"].begin(city, "pipe-02", 10.0, {"size": 0.0})
    assert state(city, "gauge-fault", "pipe-02", 20.0).certain == (4, 0.0)
    assert state(city, "gauge-fault", "pipe-03", 20.0) == CALM


# -- what nobody can know ----------------------------------------------------------------------------------------------


def told(*timeline: dict[str, Any], seconds: float, **others: Any) -> tuple[set[tuple[str, str]], list[Hazard]]:
    """Which alarms are expected, and the hazards."""
    with simulation(*timeline, pace="demo", lasts=seconds, **others) as played:
        happenings = [*played.until(seconds), *played.ends()]
    return (
        {(one.asset, one.rule) for one in happenings if isinstance(one, Expected)},
        [one for one in happenings if isinstance(one, Hazard)],
    )


def test_a_device_that_is_not_heard_is_expected_to_be_missed_and_nothing_else_of_it() -> None:
    silent = {"at": 20, "do": "device-silent", "asset": "lamp-0003", "for": "15m"}
    fails = {"at": 40, "do": "lamp-fails", "asset": "lamp-0003"}
    expected, hazards = told(silent, fails, seconds=900.0)
    assert expected == {("lamp-0003", "lamp-offline")}
    assert {(one.rule, one.until) for one in hazards if one.asset == "lamp-0003"} >= {("lamp-out", None)}
    expected, _ = told(fails, seconds=900.0)
    assert expected == {("lamp-0003", "lamp-out")}


def test_an_open_cover_that_nobody_hears_is_not_expected_until_it_is_heard() -> None:
    silent = {"at": 20, "do": "device-silent", "asset": "cover-003", "for": "5m"}
    opened = {"at": 40, "do": "cover-opened", "asset": "cover-003"}
    assert told(silent, opened, seconds=300.0)[0] == set()
    assert told(silent, opened, seconds=600.0)[0] == {("cover-003", "manhole-open")}
    assert told(opened, seconds=300.0)[0] == {("cover-003", "manhole-open")}


def test_a_dark_circuit_is_one_alarm_and_its_lamps_may_be_but_need_not() -> None:
    lost = {"at": 20, "do": "feeder-loses-mains", "asset": "F01"}
    expected, hazards = told(lost, seconds=400.0)
    assert expected == {("F01", "circuit-lost")}
    lamps = {lamp.asset for lamp in CITY.of_kind("lamp") if lamp.links["feeder"] == "F01"}
    for rule in ("lamp-out", "lamp-offline", "lamp-voltage"):
        assert {one.asset for one in hazards if one.rule == rule} == lamps


def test_a_cut_network_is_expected_instead_of_the_devices_behind_it() -> None:
    cut = {"at": 20, "do": "network-cut", "asset": {"kind": "network"}, "as": "out"}
    happenings = play(500.0, cut, pace="demo")
    (network,) = {note.asset for note in notes(happenings)}
    behind = {asset.asset for asset in CITY.assets if asset.links.get("network") == network}
    expected = {(one.asset, one.rule) for one in happenings if isinstance(one, Expected)}
    assert (network, "network-lost") in expected
    assert not {(asset, rule) for asset, rule in expected if asset in behind and rule.endswith(("offline", "silent"))}
