"""Two independent hands, one language: what the simulators encode, the gateway's decoders read as it was meant."""

from __future__ import annotations

import json
from collections import defaultdict

import msgspec
import pytest

from gateway.config.assets import load_assets
from gateway.config.profiles import load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.decode import Decoder
from gateway.core.model import Decoded, Frame, FrameKind, ModbusCycle, ModbusRead, Quality
from gateway.core.profile import Profile
from gateway.core.registers import plan_reads
from gateway.core.registry import Registry
from simulators.city import asset_document, build_city, ports_from
from simulators.devices import Message, Simulation
from simulators.faults import DESERVES, NONSENSE
from simulators.load import Plan, expected_values, kind_of, payload, topic, write_load_assets
from simulators.modbus_servers import load_cell_words, meter_words, station_words
from simulators.physics import World
from simulators.scenarios import evening

START_MS = 1_752_980_400_000
CITY = build_city(1, 40)


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    files = read_tree(shipped("device_profiles"), *PROFILE_FILES)
    return dict(load_profiles({name: text for name, text in files.items() if not name.endswith(".cases.yaml")}))


@pytest.fixture(scope="module")
def decoder(profiles: dict[str, Profile]) -> Decoder:
    registry = Registry()
    registry.upsert(*load_assets(json.dumps(asset_document(CITY, ports_from(15020))), "city.json", set(profiles)))
    return Decoder(registry, profiles)


def decoded(decoder: Decoder, message: Message) -> Decoded:
    received_at = START_MS * 1000 + round(message.at * 1e6)
    return decoder.decode(Frame(FrameKind.MQTT, "mqtt", message.topic, message.payload, received_at))


def outcome(result: Decoded) -> str:
    """In the words of ``faults.DESERVES``."""
    if result.rejection is not None:
        return "rejected"
    qualities = {reading.quality for reading in result.readings}
    return "bad reading" if Quality.BAD in qualities else f"{min(qualities, key=list(Quality).index)} reading"


def test_an_evening_reads_as_it_was_meant(decoder: Decoder) -> None:
    outcomes: dict[str, set[str]] = defaultdict(set)
    for message in Simulation(CITY, 1, START_MS, 1.0, evening).until(400):
        if isinstance(message, Message):
            result = decoded(decoder, message)
            outcomes[message.what].add(outcome(result))
            assert result.extra_points == ()
            if message.what == "telemetry":
                assert [reading for reading in result.readings if reading.quality is not Quality.GOOD] == []
    assert outcomes.pop("telemetry") == {"good reading"}
    assert outcomes == {what: {DESERVES[what]} for what in outcomes}
    assert len(outcomes) == 8


@pytest.mark.parametrize("what", NONSENSE)
def test_every_nonsense_gets_what_it_deserves(decoder: Decoder, what: str) -> None:
    simulation = Simulation(CITY, 1, START_MS)
    for device in ("lv-01", "lc-0001", "wl-01", "rg-01", "fc-01"):
        result = decoded(decoder, simulation.report(device, 10.0, what))
        assert outcome(result) == DESERVES[what], (device, result)


def test_covers_lie_at_their_baseline_whatever_their_camber_and_lean_from_there(decoder: Decoder) -> None:
    simulation = Simulation(CITY, 1, START_MS)
    for device in CITY.devices:
        if device.device.startswith("mh-"):
            for tilt in (0.0, 22.0):
                simulation.world.covers[device.asset].tilt = tilt
                readings = decoded(decoder, simulation.report(device.device, 1.0)).readings
                found = next(reading.value for reading in readings if reading.point == "tilt")
                assert found == pytest.approx(tilt, abs=0.5), device


def words_read(profile: Profile, words: list[int], function_code: int) -> bytes:
    """One polling cycle as the gateway's source journals it, over these registers."""
    reads = []
    for block in plan_reads(profile):
        assert block.function_code == function_code
        part = words[block.address : block.address + block.count]
        assert len(part) == block.count
        reads.append(ModbusRead(block.function_code, block.address, part, None, block.count))
    return msgspec.msgpack.encode(ModbusCycle(reads))


def test_modbus_devices_read_by_their_profiles_say_what_the_world_is(
    decoder: Decoder, profiles: dict[str, Profile]
) -> None:
    world = World(CITY, 1)
    world.advance(1200.0)
    station = world.stations["PS-01"]
    station.level_m, station.pumps[0].running, station.pumps[0].fault = 1.234, True, False
    world.bridges["bridge-02"].on_pad_t = 17.31
    watts = sum(feeder.load_w for feeder in world.feeders.values())
    cases = {
        "plc-01": ("generic/pump-station-3p", station_words(station), 3, {"wetwell": 1.234, "p1_run": True,
                   "p1_auto": True, "p1_fault": False, "mains": True, "p1_freq": 50.0,
                   "p1_starts": station.pumps[0].starts}),
        "meter-01": ("eastron/sdm630", meter_words(world), 4, {"voltage_a": 230.2, "power": watts / 1000,
                     "frequency": 50.0}),
        "loadcell-01": ("generic/load-cell", load_cell_words(world.bridges["bridge-02"]), 3, {"gvw": 17.31,
                        "load_zero": False, "load_unstable": False}),
    }  # fmt: skip
    for device, (profile, words, function_code, expected) in cases.items():
        cycle = words_read(profiles[profile], words, function_code)
        result = decoder.decode(Frame(FrameKind.MODBUS, "modbus", device, cycle, START_MS * 1000))
        assert result.rejection is None
        assert {reading.quality for reading in result.readings} == {Quality.GOOD}, result
        found = {reading.point: reading.value for reading in result.readings}
        assert {point: found[point] for point in expected} == pytest.approx(expected, rel=1e-6), device


def test_a_controller_that_restarted_with_zeros_makes_no_good_reading(
    decoder: Decoder, profiles: dict[str, Profile]
) -> None:
    world = World(CITY, 1)
    world.stations["PS-01"].just_restarted = True
    cycle = words_read(profiles["generic/pump-station-3p"], station_words(world.stations["PS-01"]), 3)
    result = decoder.decode(Frame(FrameKind.MODBUS, "modbus", "plc-01", cycle, START_MS * 1000))
    assert {reading.quality for reading in result.readings} == {Quality.BAD}


@pytest.mark.parametrize("count", [4, 8])
def test_every_value_of_the_load_is_read_exactly(tmp_path_factory: pytest.TempPathFactory, count: int,
                                                 profiles: dict[str, Profile]) -> None:  # fmt: skip
    plan = Plan(seed=11, devices=30, payload_values=count, alarms_every=6)
    path = tmp_path_factory.mktemp("load") / "assets.csv"
    write_load_assets(plan, path)
    registry = Registry()
    registry.upsert(*load_assets(path, path.name, set(profiles)))
    decoder = Decoder(registry, profiles)
    for index in range(1, 31):
        for sequence in range(1, 25):
            name = topic(index, plan.alarms_every)
            body = payload(plan, index, sequence, START_MS)
            result = decoder.decode(Frame(FrameKind.MQTT, "mqtt", name, body, START_MS * 1000))
            found = {reading.point: reading.value for reading in result.readings}
            assert found == expected_values(plan.seed, index, sequence, count, plan.alarms_every)
            assert all(reading.sequence == sequence for reading in result.readings), kind_of(index)
