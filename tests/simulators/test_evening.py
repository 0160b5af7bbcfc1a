"""The scripted evening as a pure stream: seeded, in order, and honest about its physics."""

from __future__ import annotations

import json
import struct
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from simulators.city import build_city
from simulators.devices import Message, Note, Simulation, em320_tilt
from simulators.faults import DESERVES, NONSENSE
from simulators.physics import Cover
from simulators.scenarios import NONSENSE_ORDER, SCENARIOS, calm, evening

START_MS = 1_752_980_400_000
CITY = build_city(1, 60)


def play(seconds: float, *, seed: int = 1, speed: float = 1.0, scenario: str = "evening") -> list[Message | Note]:
    return list(Simulation(CITY, seed, START_MS, speed, SCENARIOS[scenario]).until(seconds))


def messages(happenings: list[Message | Note]) -> list[Message]:
    return [happening for happening in happenings if isinstance(happening, Message)]


def values_of(message: Message) -> dict[str, float]:
    values: dict[str, float] = json.loads(message.payload)["values"]
    return values


def test_the_same_seed_says_the_same_to_the_last_byte() -> None:
    assert play(200) == play(200)
    assert play(200) != play(200, seed=2)


def test_it_does_not_matter_in_which_steps_the_time_passes() -> None:
    whole = play(150)
    simulation = Simulation(CITY, 1, START_MS, 1.0, evening)
    pieces = [happening for at in range(1, 3001) for happening in simulation.until(at / 20)]
    assert pieces == whole


def test_everything_comes_in_the_order_of_its_time_with_sequences_that_count() -> None:
    happenings = play(400)
    assert [h.at for h in happenings] == sorted(h.at for h in happenings)
    sequences: dict[str, list[int]] = defaultdict(list)
    for message in messages(happenings):
        sequences[message.device].append(message.sequence)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in sequences.values())


def test_within_three_minutes_everything_that_was_announced_goes_wrong() -> None:
    begun = {note.fault: note for note in play(180) if isinstance(note, Note) and note.step == "begin"}
    assert set(begun) >= {"cover-open", "pump-no-start", "circuit-lost", "overload", "nonsense"}
    for note in begun.values():
        assert note.zh
        assert note.en
        assert all(alarm.startswith(f"{note.asset}/") for alarm in note.expect)


def test_within_six_minutes_all_but_the_dark_lamp_is_mended() -> None:
    state: dict[tuple[str, str], str] = {}
    for note in play(360):
        if isinstance(note, Note):
            state[note.fault, note.asset] = note.step
    assert {fault for (fault, _), step in state.items() if step == "begin"} == {"rain", "lamp-out", "overload"}


def test_the_second_round_has_other_victims() -> None:
    notes = [note for note in play(1400) if isinstance(note, Note) and note.fault == "cover-open"]
    assert [note.at for note in notes] == [30, 120, 1230, 1320]
    assert notes[0].asset != notes[2].asset


def test_a_calm_city_has_no_faults_and_no_nonsense() -> None:
    happenings = play(300, scenario="calm")
    assert not [h for h in happenings if isinstance(h, Note)]
    assert {m.what for m in messages(happenings)} == {"telemetry"}
    assert list(calm(Simulation(CITY, 1, START_MS))) == []


def test_each_device_speaks_at_its_own_interval() -> None:
    said: dict[str, list[float]] = defaultdict(list)
    for message in messages(play(200, scenario="calm")):
        said[message.device].append(message.at)
    for device in CITY.devices:
        if not device.is_modbus and not device.device.startswith("br-"):
            gaps = [later - earlier for earlier, later in pairwise(said[device.device])]
            assert gaps == pytest.approx([device.interval_s] * len(gaps)), device


def test_devices_clocks_never_run_ahead_of_the_wall_at_any_speed() -> None:
    for speed in (1.0, 60.0):
        for message in messages(play(120, speed=speed, scenario="calm")):
            if not message.payload.startswith(b"{"):
                continue
            assert json.loads(message.payload)["ts"] == START_MS + round(message.at * 1000 / speed)


def test_nonsense_comes_in_its_order_from_one_gauge_and_a_stranger_speaks() -> None:
    wrong = [message for message in messages(play(200)) if message.what != "telemetry"]
    assert [message.what for message in wrong] == [*NONSENSE_ORDER, "unknown-device"]
    assert len({message.topic for message in wrong}) == 2
    assert set(DESERVES) == {*NONSENSE, "unknown-device"}


@pytest.mark.parametrize("what", ["truncated", "not-utf8", "empty"])
def test_what_is_to_be_rejected_cannot_be_read_as_json(what: str) -> None:
    payload = NONSENSE[what](START_MS, 1, {"level": 0.5, "flow": 3})
    with pytest.raises(ValueError):
        json.loads(payload)


def test_a_dark_circuit_takes_its_lamps_with_it_and_no_other() -> None:
    simulation = Simulation(CITY, 1, START_MS, 1.0, evening)
    happenings = list(simulation.until(200))
    lost = next(h.asset for h in happenings if isinstance(h, Note) and h.fault == "circuit-lost")
    broken = next(h.asset for h in happenings if isinstance(h, Note) and h.fault == "lamp-out")
    feeder_of = {asset.asset: asset.links["feeder"] for asset in CITY.of_kind("lamp")}
    asset_of = {device.device: device.asset for device in CITY.devices}
    for message in messages(happenings):
        if "/lamp/" in message.topic and message.at > 80:
            asset, power = asset_of[message.device], values_of(message)["power"]
            dark = feeder_of[asset] == lost or asset == broken
            assert (power == 0) == dark, (asset, power)


def test_a_lamp_draws_its_rated_power_within_noise_and_its_voltage_sags_little() -> None:
    rated = {asset.asset: asset.number("rated_power") for asset in CITY.of_kind("lamp")}
    asset_of = {device.device: device.asset for device in CITY.devices}
    for message in messages(play(60, scenario="calm")):
        if "/lamp/" in message.topic:
            values = values_of(message)
            assert values["power"] == pytest.approx(rated[asset_of[message.device]], rel=0.03)
            assert 218 < values["voltage"] < 228  # within 198–231 V with room


def test_the_hanging_station_rises_above_its_start_level_and_is_pumped_down_afterwards() -> None:
    simulation = Simulation(CITY, 1, START_MS, 1.0, evening)
    notes = [h for h in simulation.until(55) if isinstance(h, Note)]
    station = simulation.world.stations[next(n.asset for n in notes if n.fault == "pump-no-start")]
    start = station.asset.number("start_level")
    assert start + 0.1 <= station.level_m < start + 0.3
    list(simulation.until(149))
    assert start + 0.1 < station.level_m < station.asset.number("L6") - 0.3
    assert not any(pump.running for pump in station.pumps)
    list(simulation.until(155))
    assert any(pump.running for pump in station.pumps)
    list(simulation.until(900))
    assert station.level_m < start


def test_water_in_a_well_is_conserved_and_no_pump_runs_dry() -> None:
    simulation = Simulation(CITY, 3, START_MS, 1.0, calm)
    for minute in range(1, 90):
        list(simulation.until(60.0 * minute))
        for station in simulation.world.stations.values():
            assert 0.7 < station.level_m < 3.0
            if station.level_m < station.asset.number("stop_level"):
                assert not any(pump.running for pump in station.pumps)
    for station in simulation.world.stations.values():
        assert sum(pump.starts for pump in station.pumps) > 0


def test_the_lead_pump_rotates() -> None:
    simulation = Simulation(CITY, 3, START_MS, 1.0, calm)
    leads = set()
    for minute in range(1, 120):
        list(simulation.until(60.0 * minute))
        leads.add(simulation.world.stations["PS-01"].lead)
    assert leads == {0, 1, 2}


def test_ordinary_vehicles_stay_below_the_limit_and_the_truck_does_not() -> None:
    weights = Counter[bool]()
    for message in messages(play(600)):
        if message.device == "br-01" and "gvw" in values_of(message):
            weights[values_of(message)["gvw"] > 1.5 * 30.0] += 1
    assert weights[True] == 1
    assert weights[False] > 20


def test_a_lorawan_tilt_frame_is_the_published_one() -> None:
    asset = next(asset for asset in CITY.of_kind("manhole") if "baseline_x" in asset.attributes)
    cover = Cover(asset, 0.0, 0.0, battery=100.0)
    assert em320_tilt(cover).hex() == "01756403d400000000" + struct.pack("<h", 9000 << 1).hex()
    # Document C.2: battery 60, x −12.34, y 35.67 with trigger, z 54 → 5C F6 · DF 1B · 30 2A.
    words = struct.unpack("<hhh", bytes.fromhex("5cf6df1b302a"))
    assert [word >> 1 for word in words] == [-1234, 3567, 5400]
