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
from gateway.core.networks import split
from gateway.core.profile import Profile
from gateway.core.registers import plan_reads
from gateway.core.registry import Registry
from simulators.city import asset_document, ports_from
from simulators.devices import HJ212
from simulators.load import Plan, expected_values, kind_of, payload, topic, write_load_assets
from simulators.messages import Message
from simulators.modbus_servers import registers_of
from simulators.nonsense import DESERVES, NONSENSE
from simulators.scenario import load_scenario
from simulators.sensors import Fault
from simulators.simulation import Simulation
from tests.simulators.playing import simulation, small_city

EVENING = load_scenario("evening")
CITY = small_city(demo=True)
ADDRESS = {device.device: device.address for device in CITY.devices}
START_MS = round(EVENING.start.timestamp() * 1000)


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    files = read_tree(shipped("device_profiles"), *PROFILE_FILES)
    return dict(load_profiles({name: text for name, text in files.items() if not name.endswith(".cases.yaml")}))


@pytest.fixture(scope="module")
def decoder(profiles: dict[str, Profile]) -> Decoder:
    registry = Registry()
    document = asset_document(CITY, ports_from(15020, CITY.modbus_devices))
    registry.upsert(*load_assets(json.dumps(document), "city.json", set(profiles)))
    return Decoder(registry, profiles)


@pytest.fixture
def still() -> Simulation:
    """A city in the first seconds of a calm evening; the drains' engine is not needed yet."""
    return simulation(pace="demo")


def decoded(decoder: Decoder, message: Message) -> Decoded:
    received_at = START_MS * 1000 + round(message.at * 1e6)
    if message.topic == HJ212:
        return decoder.decode(Frame(FrameKind.HJ212, "hj212", ADDRESS[message.device], message.payload, received_at))
    ((address, part),) = split(message.topic, message.payload)
    return decoder.decode(Frame(FrameKind.MQTT, "mqtt", address, part, received_at))


def outcome(result: Decoded) -> str:
    """In the words of ``nonsense.DESERVES``."""
    if result.rejection is not None:
        return "rejected"
    qualities = {reading.quality for reading in result.readings}
    return "bad reading" if Quality.BAD in qualities else f"{min(qualities, key=list(Quality).index)} reading"


def test_an_evening_reads_as_it_was_meant(decoder: Decoder) -> None:
    outcomes: dict[str, set[str]] = defaultdict(set)
    heard = set()
    with Simulation(EVENING, CITY, 1) as evening:
        for message in evening.until(400):
            if isinstance(message, Message):
                result = decoded(decoder, message)
                outcomes[message.what].add(outcome(result))
                heard.add(message.device)
                assert result.extra_points == (), message
                if message.what == "telemetry":
                    assert [reading for reading in result.readings if reading.quality is not Quality.GOOD] == []
    assert outcomes.pop("telemetry") == {"good reading"}
    assert outcomes == {what: {DESERVES[what]} for what in outcomes}
    assert len(outcomes) == 8
    assert heard == {device.device for device in CITY.devices if not device.is_modbus} | {"lv-99"}


@pytest.mark.parametrize("what", NONSENSE)
def test_every_nonsense_gets_what_it_deserves(decoder: Decoder, still: Simulation, what: str) -> None:
    of_profile = {
        device.profile: device.device for device in CITY.devices if device.profile.startswith("generic/json-")
    }
    assert len(of_profile) == 12
    if what == "wrong-types":
        del of_profile["generic/json-parking"]  # whose one point may be true
    for profile, device in of_profile.items():
        result = decoded(decoder, still.voices.report(device, 10.0, what))
        assert outcome(result) == DESERVES[what], (profile, result)


def test_covers_lie_at_their_baseline_whatever_their_camber_and_lean_from_there(
    decoder: Decoder, still: Simulation
) -> None:
    profiles_seen = set()
    for device in CITY.devices:
        if device.device.startswith("mh-"):
            profiles_seen.add(device.profile)
            for at, tilt in ((0.0, 0.0), (1.0, 22.0)):
                still.world.covers.covers[device.asset].opened(at, tilt)
                list(still.world.advance(at))
                readings = decoded(decoder, still.voices.report(device.device, at)).readings
                found = {reading.point: reading.value for reading in readings}
                assert found["tilt"] == pytest.approx(tilt, abs=0.5), device
                if device.is_lorawan:
                    assert found["threshold_x"] == ("trigger" if tilt > 15 else "normal")
    assert profiles_seen == {"generic/json-manhole", "milesight/em320-tilt"}


@pytest.mark.parametrize("device", ["lv-01", "lv-05"])
def test_a_gauge_that_is_out_of_range_makes_no_good_level(decoder: Decoder, still: Simulation, device: str) -> None:
    """The second is a LoRaWAN gauge, whose frame has no room for such a number."""
    before = {reading.point: reading.quality for reading in decoded(decoder, still.voices.report(device, 1.0)).readings}
    assert before["level"] is Quality.GOOD
    still.sensors.breaks(device, Fault.OUT_OF_RANGE, 2.0)
    result = decoded(decoder, still.voices.report(device, 2.0))
    assert result.rejection is None
    assert {reading.point: reading.quality for reading in result.readings}["level"] is Quality.BAD


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
    decoder: Decoder, profiles: dict[str, Profile], still: Simulation
) -> None:
    world = still.world
    station, bridge = world.drains.stations["PS-01"], world.bridges.bridges["bridge-02"]
    station.level_m, station.pumps[0].running, station.pumps[0].fault = 1.234, True, False
    while bridge.on_pad_t:
        world.bridges.now += 1
    bridge.overload(world.bridges.now, 17.3)
    weight = round(bridge.on_pad_t, 2)
    assert weight == pytest.approx(17.3, abs=0.06)
    watts = sum(feeder.load_w for feeder in world.lighting.feeders.values())
    assert watts > 1000
    cases = {
        "plc-01": ("generic/pump-station-3p", 3, {"wetwell": 1.234, "p1_run": True, "p1_auto": True,
                   "p1_fault": False, "mains": True, "p1_freq": 50.0, "p1_starts": station.pumps[0].starts}),
        "meter-01": ("eastron/sdm630", 4, {"voltage_a": 230.2, "power": watts / 1000, "frequency": 50.0}),
        "loadcell-01": ("generic/load-cell", 3, {"gvw": weight, "load_zero": False, "load_unstable": False}),
    }  # fmt: skip
    registers = registers_of(world)
    for device, (profile, function_code, expected) in cases.items():
        cycle = words_read(profiles[profile], registers[device](), function_code)
        result = decoder.decode(Frame(FrameKind.MODBUS, "modbus", device, cycle, START_MS * 1000))
        assert result.rejection is None
        assert {reading.quality for reading in result.readings} == {Quality.GOOD}, result
        found = {reading.point: reading.value for reading in result.readings}
        assert {point: found[point] for point in expected} == pytest.approx(expected, rel=1e-6), device


def test_a_controller_that_restarted_with_zeros_makes_no_good_reading(
    decoder: Decoder, profiles: dict[str, Profile], still: Simulation
) -> None:
    still.world.drains.stations["PS-01"].just_restarted = True
    cycle = words_read(profiles["generic/pump-station-3p"], registers_of(still.world)["plc-01"](), 3)
    result = decoder.decode(Frame(FrameKind.MODBUS, "modbus", "plc-01", cycle, START_MS * 1000))
    assert {reading.quality for reading in result.readings} == {Quality.BAD}


def test_what_was_kept_behind_a_dead_network_is_read_as_history(decoder: Decoder) -> None:
    """Gauges that say so themselves, and a LoRaWAN gauge in its own frame for it."""
    cut = {"at": 60, "do": "network-cut", "asset": {"kind": "network", "pick": 2}, "for": "2m"}
    keep = {"at": 10, "do": "devices-remember", "kind": "pipe"}
    historical: dict[str, set[bool]] = defaultdict(set)
    with simulation(keep, cut, pace="demo") as played:
        for message in played.until(300):
            if isinstance(message, Message) and message.device.startswith("lv-"):
                assert not 60 < message.at <= 180, "nobody hears them"
                readings = decoded(decoder, message).readings
                assert len({reading.historical for reading in readings}) == 1
                historical[message.device] |= {readings[0].historical}
    assert historical == {f"lv-0{number}": {True, False} for number in range(1, 6)}


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
