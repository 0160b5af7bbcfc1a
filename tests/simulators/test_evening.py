"""The shipped evening as a pure stream: seeded, in order, and honest about its physics."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from simulators.messages import Message, Note
from simulators.nonsense import DESERVES, NONSENSE
from simulators.scenario import Scenario, load_scenario
from simulators.simulation import Done, Happening, Simulation
from tests.simulators.playing import messages, notes, small_city

EVENING = load_scenario("evening")
CALM = EVENING.model_copy(update={"timeline": (), "weather": load_scenario("broker-restart").weather})
CITY = small_city(demo=True)
START_MS = round(EVENING.start.timestamp() * 1000)
NONSENSE_ORDER = ["nan", "nan-text", "wrong-types", "out-of-range", "truncated", "not-utf8", "year-1970"]


def play(seconds: float, *, seed: int = 1, speed: float = 1.0, scenario: Scenario = EVENING) -> list[Happening]:
    with Simulation(scenario, CITY, seed, speed=speed) as simulation:
        return list(simulation.until(seconds))


@pytest.fixture(scope="module")
def evening() -> list[Happening]:
    """A round and the first minutes of the second."""
    return play(1400)


@pytest.fixture(scope="module")
def calm() -> list[Happening]:
    return play(300, scenario=CALM)


def values_of(message: Message) -> dict[str, float]:
    values: dict[str, float] = json.loads(message.payload)["values"]
    return values


def test_the_same_seed_says_the_same_to_the_last_byte(evening: list[Happening]) -> None:
    again = play(200)
    assert again == evening[: len(again)]
    assert len(messages(again)) > 500
    assert again != play(200, seed=2)


def test_it_does_not_matter_in_which_steps_the_time_passes(evening: list[Happening]) -> None:
    with Simulation(EVENING, CITY, 1) as simulation:
        pieces = [happening for at in range(1, 3001) for happening in simulation.until(at / 20)]
    assert pieces == evening[: len(pieces)]
    assert messages(pieces)[-1].at > 149


def test_everything_comes_in_the_order_of_its_time_with_sequences_that_count(evening: list[Happening]) -> None:
    times = [happening.at for happening in evening if isinstance(happening, (Message, Note))]
    assert times == sorted(times)
    sequences: dict[str, list[int]] = defaultdict(list)
    for message in messages(evening):
        sequences[message.device].append(message.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in sequences.values())


def test_within_three_minutes_everything_that_was_announced_goes_wrong(evening: list[Happening]) -> None:
    begun = [note for note in notes(evening) if note.step == "begin" and note.at <= 180]
    assert {note.fault for note in begun} == {
        "lamp-fails", "cover-opened", "water-on-road", "battery-low", "station-loses-mains", "cover-tilted",
        "feeder-loses-mains", "overload", "nonsense", "stranger-speaks",
    }  # fmt: skip
    for note in begun:
        assert note.en.startswith(f"{note.asset}: ")
        thing = "" if note.asset == "city" else CITY.asset(note.asset).name
        assert note.zh.startswith(thing)
        assert len(note.zh) > len(thing)


def test_within_six_minutes_all_but_the_dark_lamp_is_mended(evening: list[Happening]) -> None:
    begun = Counter((note.fault, note.asset) for note in notes(evening) if note.step == "begin" and note.at < 360)
    over = Counter((done.cause, done.asset) for done in evening if isinstance(done, Done) and (done.until or 0) < 360)
    assert [fault for fault, _ in begun - over] == ["lamp-fails"]


def test_the_second_round_has_other_victims(evening: list[Happening]) -> None:
    opened = [note for note in notes(evening) if note.fault == "cover-opened"]
    assert [note.at for note in opened] == [30, 120, 1230, 1320]
    assert opened[0].asset == opened[1].asset
    assert opened[0].asset != opened[2].asset


def test_a_calm_city_has_no_faults_and_no_nonsense(calm: list[Happening]) -> None:
    assert {type(happening) for happening in calm} == {Message}
    assert {message.what for message in messages(calm)} == {"telemetry"}


def test_each_device_speaks_at_its_own_interval(calm: list[Happening]) -> None:
    said: dict[str, list[float]] = defaultdict(list)
    for message in messages(calm):
        said[message.device].append(message.at)
    for device in CITY.devices:
        if not device.is_modbus and not device.device.startswith("br-"):  # a bridge speaks of every vehicle too
            gaps = [later - earlier for earlier, later in pairwise(said[device.device])]
            assert len(gaps) >= 300 // device.interval_s - 1
            assert gaps == pytest.approx([device.interval_s] * len(gaps)), device


def test_devices_clocks_never_run_ahead_of_the_wall_at_any_speed() -> None:
    for speed in (1.0, 60.0):
        clocks = [
            (message.at, json.loads(message.payload)["ts"])
            for message in messages(play(120, speed=speed, scenario=CALM))
            if message.payload.startswith(b'{"ts"')
        ]
        assert len(clocks) > 300
        assert all(ts == START_MS + round(at * 1000 / speed) for at, ts in clocks)


def test_nonsense_comes_in_its_order_from_one_gauge_and_a_stranger_speaks(evening: list[Happening]) -> None:
    wrong = [message for message in messages(evening) if message.what != "telemetry" and message.at < 1200]
    assert [message.what for message in wrong] == [*NONSENSE_ORDER, "unknown-device"]
    assert len({message.topic for message in wrong}) == 2
    assert wrong[-1].device not in {device.device for device in CITY.devices}
    assert set(DESERVES) == {*NONSENSE, "unknown-device"}


def test_a_city_without_strangers_hears_none() -> None:
    with Simulation(EVENING, CITY, 1, stranger=False) as simulation:
        happenings = list(simulation.until(200))
    known = {device.device for device in CITY.devices}
    assert {message.device for message in messages(happenings)} <= known


@pytest.mark.parametrize("what", ["nan", "truncated", "not-utf8", "empty"])
def test_what_is_to_be_rejected_cannot_be_read_as_json(what: str) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    payload = NONSENSE[what](START_MS, 1, {"level": 0.5, "flow": 3})
    with pytest.raises(ValueError):
        json.loads(payload, parse_constant=refuse)  # NaN, which Python alone takes for JSON


def test_a_dark_circuit_takes_its_lamps_with_it_and_no_other(evening: list[Happening]) -> None:
    lost, back = [note for note in notes(evening) if note.fault == "feeder-loses-mains"][:2]
    broken = next(note.asset for note in notes(evening) if note.fault == "lamp-fails")
    feeder_of = {asset.asset: asset.links["feeder"] for asset in CITY.of_kind("lamp")}
    asset_of = {device.device: device.asset for device in CITY.devices}
    dark_for_a_minute, bright_again = set(), set()
    for message in messages(evening):
        if "/lamp/" not in message.topic or message.at > 600:
            continue
        asset, power = asset_of[message.device], values_of(message)["power"]
        if feeder_of[asset] == lost.asset and lost.at < message.at <= back.at:
            assert power == 0
            dark_for_a_minute.add(asset)
            assert message.at <= lost.at + 60, "its controller has a capacitor for a minute"
        elif asset != broken or message.at < 15:
            assert power > 0, (asset, message.at)
            bright_again |= {asset} if message.at > back.at else set()
        else:
            assert power == 0
    assert dark_for_a_minute == {lamp for lamp, feeder in feeder_of.items() if feeder == lost.asset}
    assert bright_again == set(feeder_of) - {broken}


def test_a_lamp_draws_its_rated_power_within_noise_and_its_voltage_sags_little(calm: list[Happening]) -> None:
    rated = {asset.asset: asset.number("rated_power") for asset in CITY.of_kind("lamp")}
    asset_of = {device.device: device.asset for device in CITY.devices}
    seen = set()
    for message in messages(calm):
        if "/lamp/" in message.topic:
            values = values_of(message)
            seen.add(asset_of[message.device])
            assert values["power"] == pytest.approx(rated[asset_of[message.device]], rel=0.03)
            assert 214 < values["voltage"] < 228  # within 198–231 V with room
    assert seen == set(rated)


def test_the_station_without_mains_fills_and_is_pumped_down_afterwards() -> None:
    with Simulation(EVENING, CITY, 1) as simulation:
        begun = notes(list(simulation.until(51)))
        station = simulation.world.drains.stations[next(n.asset for n in begun if n.fault == "station-loses-mains")]
        before = station.level_m
        list(simulation.until(149))
        assert station.level_m > before
        assert not any(pump.running for pump in station.pumps)
        levels, running = [station.level_m], 0
        for at in range(155, 1200, 5):
            list(simulation.until(at))
            levels.append(station.level_m)
            running += any(pump.running for pump in station.pumps)
        highest = max(levels)
        assert highest == pytest.approx(station.asset.number("start_level"), abs=0.05)
        assert running > 5
        assert levels[-1] < highest - 0.4


def test_ordinary_vehicles_stay_below_the_limit_and_the_trucks_do_not(evening: list[Happening]) -> None:
    limits = {asset.asset: asset.number("posted_limit") for asset in CITY.of_kind("bridge")}
    asset_of = {device.device: device.asset for device in CITY.devices}
    heavy: list[tuple[float, str, float]] = []
    light = 0
    for message in messages(evening):
        if asset_of.get(message.device) in limits and "gvw" in values_of(message):
            asset = asset_of[message.device]
            share = values_of(message)["gvw"] / limits[asset]
            light += share <= 1
            if share > 1:
                heavy.append((message.at, asset, round(share, 2)))
    assert heavy == [(110, "bridge-01", 1.6), (170, "bridge-02", 1.15), (1310, "bridge-01", 1.6),
                     (1370, "bridge-02", 1.15)]  # fmt: skip
    assert light > 20
