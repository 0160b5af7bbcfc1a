"""LoRaWAN devices say what was measured: the gateway's decoders, written by other hands, read it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.profiles import load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core import networks
from gateway.core.decode import Decoder
from gateway.core.model import Asset, Decoded, Device, Frame, FrameKind, Quality
from gateway.core.networks import Network
from gateway.core.profile import Profile
from gateway.core.registry import Registry
from simulators import lorawan
from simulators.city import eui
from simulators.messages import Message
from simulators.radio import Memory, Radio, Signal

START_MS = 1_752_980_400_000
DEVICE = "node-1"

# What the devices of each profile may say: (least, most, resolution) of numbers, or the states.
Span = tuple[float, float, float] | list[Any]
ANGLES: dict[str, Span] = {
    "battery": (0, 100, 1), **{f"angle_{axis}": (-90, 90, 0.01) for axis in "xyz"},
    **{f"threshold_{axis}": ["normal", "trigger"] for axis in "xyz"},
}  # fmt: skip
WELL: dict[str, Span] = {"battery": (0, 100, 1), "temp": (-40, 90, 0.1), "humidity": (0, 100, 0.5)}
SITE: dict[str, float] = {"mount_height": 8.0, "probe_height": 0.25, "p_max": 1.0, "resolution": 0.2}
SAYS: Mapping[str, dict[str, Span]] = {
    "milesight/em320-tilt": ANGLES,
    "milesight/em310-tilt": ANGLES,
    "milesight/em300-zld": {**WELL, "water": [False, True]},
    "milesight/em300-mcs": {**WELL, "cover": ["closed", "open"]},
    "milesight/em300-mcs-door": {**WELL, "door_open": [False, True]},
    "milesight/em500-swl": {"battery": (0, 100, 1), "level": (0.25, 40, 0.01)},
    "milesight/em500-swl-wetwell": {"battery": (0, 100, 1), "wetwell": (0.25, 20, 0.01)},
    "milesight/em500-udl": {"battery": (0, 100, 1), "level": (-0.5, 8, 0.001)},
    "milesight/em310-udl": {"battery": (0, 100, 1), "level": (-0.5, 8, 0.001), "position": ["normal"]},
    "milesight/em410-rdl": {
        "battery": (0, 100, 1), "temp": (-40, 90, 0.1), "level": (-0.5, 8, 0.001), "position": ["normal"],
        "radar_signal_rssi": (-200, 200, 0.01),
    },
    "milesight/em500-pt100": {"battery": (0, 100, 1), "temp": (-200, 800, 0.1)},
    "milesight/em500-pp": {"battery": (0, 100, 1), "pressure": (-100, 10_000, 1)},
    "milesight/gs101": {
        "alarm": [False, True], "valve": [False, True], "relay": [False, True], "life_remain": (0, 4e9, 1),
        "event": ["power_on", "device_fault", "device_fault_recovered"],
    },
    "milesight/ws558": {
        "voltage_a": (0, 500, 0.1), "power": (0, 100, 0.001), "pf": (0, 1, 0.01), "energy": (0, 4_000_000, 0.001),
        "current_a": (0, 65, 0.001), **{f"switch_{number}": [False, True] for number in range(1, 9)},
    },
    "decentlab/pr26": {"level": (0.25, 10, 0.0005), "temp": (-40, 100, 0.003125), "battery_voltage": (2, 3.6, 0.001)},
    "decentlab/tbrg": {
        "rain": (0, 60, 0.2), "interval": (600, 3600, 1), "total": (0, 900_000, 0.2), "battery_voltage": (2, 3.6, 0.001)
    },
    "dragino/ldds75": {
        "level": (0.5, 7.7, 0.001), "temp": (0.1, 120, 0.1), "interrupt": [False, True],
        "battery_voltage": (2, 3.6, 0.001),
    },
    "sls/volc2180": {
        "dim": (0, 100, 0.4), "power": (0, 2000, 1), "energy": (0, 16_777, 0.001), "pf": (0, 1, 0.001),
        "current": (0, 20, 0.001), "voltage": (0, 500, 0.001), "temp": (-60, 120, 1),
    },
    "bosch/tpl110": {"occupied": [False, True], "temp": (-50, 100, 1)},
    "nwave/nps405": {
        "occupied": [False, True], "battery_voltage": (2.5, 3.5, 0.004), "temp": (-50, 70, 0.5),
        "hardware_health": (0, 127, 1),
    },
}  # fmt: skip


@cache
def profiles() -> dict[str, Profile]:
    files = read_tree(shipped("device_profiles"), *PROFILE_FILES)
    return dict(load_profiles({name: text for name, text in files.items() if not name.endswith(".cases.yaml")}))


def decode(profile: str, message: Message) -> Decoded:
    registry = Registry()
    kind = profiles()[profile].kind
    address = eui(message.device)
    registry.upsert(
        [Asset("a-1", kind, attributes=dict(SITE), simulated=True)], [Device(message.device, "a-1", profile, address)]
    )
    received_at = START_MS * 1000 + round(message.at * 1e6)
    return Decoder(registry, profiles()).decode(
        Frame(FrameKind.MQTT, "mqtt", message.topic, message.payload, received_at)
    )


def readings(profile: str, frame: lorawan.Frame) -> dict[str, object]:
    """What the gateway reads out of the frame, sent over a whole network."""
    server = lorawan.NetworkServer(Radio(1), START_MS)
    result = decode(profile, server.uplink(DEVICE, profile, 10.0, 1, frame))
    assert result.rejection is None, result
    assert result.extra_points == ()
    assert {reading.quality for reading in result.readings} == {Quality.GOOD}, result
    return {reading.point: reading.value for reading in result.readings}


def values_of(span: Span) -> st.SearchStrategy[Any]:
    return st.sampled_from(span) if isinstance(span, list) else st.floats(span[0], span[1])


@pytest.mark.parametrize("profile", lorawan.PROFILES)
def test_what_a_device_says_is_read_back_within_its_resolution(profile: str) -> None:
    says = SAYS[profile]

    @settings(max_examples=20, deadline=None)
    @given(st.fixed_dictionaries({point: values_of(span) for point, span in says.items()}))
    def check(values: dict[str, Any]) -> None:
        found = readings(profile, lorawan.encode(profile, values, SITE))
        for point, value in values.items():
            span = says[point]
            if isinstance(span, list):
                assert found[point] == value, point
            else:
                assert found[point] == pytest.approx(value, abs=span[2] * 0.5001 + 1e-9), point

    check()


@pytest.mark.parametrize(
    ("profile", "values", "hex"),
    [
        ("milesight/em320-tilt", {"battery": 60, "angle_x": -12.34, "angle_y": 35.67, "angle_z": 54,
                                  "threshold_y": "trigger"}, "01753C03D45CF6DF1B302A"),
        ("milesight/em310-tilt", {"angle_x": 0, "angle_y": 0, "angle_z": 90, "threshold_x": "trigger",
                                  "threshold_y": "trigger", "threshold_z": "trigger"}, "03CF00000000282307"),
        ("milesight/em300-zld", {"battery": 92, "temp": 30.8, "humidity": 50.5, "water": False},
         "01755C03673401046865050000"),
        ("milesight/em500-swl", {"battery": 45, "depth": 366}, "01752D03776E01"),
        ("milesight/em500-udl", {"battery": 100, "distance": 30}, "01756403821E00"),
        ("milesight/em410-rdl", {"battery": 92, "temp": 24.6, "distance": 3000, "position": "normal"},
         "01755C0367F6000482B80B050000"),
        ("milesight/em500-pt100", {"battery": 100, "temp": 28.1}, "01756403671901"),
        ("milesight/em500-pp", {"battery": 100, "pressure": 10}, "017564037B0A00"),
        ("milesight/gs101", {"alarm": True, "valve": False, "relay": True}, "058E01060100070101"),
        ("decentlab/pr26", {"pressure": -1.171875, "temp": 25.671875, "battery_voltage": 3.199},
         "02016700033e8060170c7f"),
        ("decentlab/tbrg", {"rain": 0.8, "interval": 600, "total": 3307.6, "battery_voltage": 3.156},
         "0202f8000300040258409a00000c54"),
        ("sls/volc2180", {"dim": 80, "power": 76, "energy": 123.456, "pf": 0.953, "current": 0.351, "voltage": 227.4},
         "58c8004c01e24003b9015f00037848"),
        ("dragino/ldds75", {"battery_voltage": 3.338, "distance": 2025, "temp": 26.1}, "0D0A07E900010501"),
        ("bosch/tpl110", {"occupied": True}, "01"),
        ("bosch/tpl110", {"occupied": False, "temp": -10}, "00F6"),
        ("nwave/nps405", {"occupied": True, "previous_duration": 74}, "95"),
    ],
)  # fmt: skip
def test_the_makers_own_examples_come_out_byte_for_byte(profile: str, values: dict[str, Any], hex: str) -> None:
    assert lorawan.encode(profile, values, SITE).data == bytes.fromhex(hex)


def test_a_parking_sensor_says_how_long_the_state_before_lasted() -> None:
    for minutes in (*range(0, 90), *range(90, 240, 5), *range(240, 660, 60)):
        frame = lorawan.encode("nwave/nps405", {"occupied": True, "previous_duration": minutes})
        assert readings("nwave/nps405", frame)["previous_duration"] == minutes


@pytest.mark.parametrize(
    "profile", ["milesight/em500-swl", "milesight/em500-udl", "milesight/em410-rdl", "dragino/ldds75"]
)
def test_a_sensor_that_has_failed_says_so_and_is_no_level(profile: str) -> None:
    frame = lorawan.encode(profile, {"level": None}, SITE)
    server = lorawan.NetworkServer(Radio(1), START_MS)
    result = decode(profile, server.uplink(DEVICE, profile, 10.0, 1, frame))
    level = next(reading for reading in result.readings if reading.point == "level")
    assert level.quality is Quality.BAD


@pytest.mark.parametrize(
    ("profile", "values", "wrong"),
    [
        ("generic/json-lamp", {"power": 1}, "no encoder"),
        ("milesight/em500-pp", {"presure": 1}, "does not measure presure"),
        ("milesight/em500-pp", {"pressure": 40_000}, "does not fit"),
        ("milesight/em500-pp", {"pressure": None}, "cannot say"),
        ("milesight/em500-pp", {"pressure": "high"}, "a number is needed"),
        ("milesight/em500-pp", {}, "nothing to say"),
        ("milesight/em300-mcs", {"cover": "ajar"}, "none of closed, open"),
        ("milesight/em320-tilt", {"angle_y": 1}, "angle_x is missing"),
    ],
)
def test_what_a_frame_cannot_say_is_an_error(profile: str, values: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        lorawan.encode(profile, values)


@pytest.mark.parametrize("profile", lorawan.HISTORY_PROFILES)
def test_history_has_its_own_times_and_raises_no_hand(profile: str) -> None:
    samples = []
    for n in (1, 2):
        values = {p: s[n % len(s)] if isinstance(s, list) else s[0] + n * s[2] for p, s in SAYS[profile].items()}
        samples.append((START_MS // 1000 + 60 * n, values))
    server = lorawan.NetworkServer(Radio(1), START_MS)
    frame = lorawan.encode_history(profile, samples, SITE)
    result = decode(profile, server.uplink(DEVICE, profile, 600.0, 1, frame))
    assert result.rejection is None
    old = [reading for reading in result.readings if reading.point not in ("rssi", "snr", "gateway")]
    assert {reading.source_time for reading in old} == {second * 1_000_000 for second, _ in samples}
    assert all(reading.historical for reading in old)
    point = "level" if "level" in SAYS[profile] else next(p for p in SAYS[profile] if p != "battery")
    wanted = [values[point] for _, values in samples]
    assert [reading.value for reading in old if reading.point == point] == pytest.approx(wanted, abs=0.005)


def test_what_a_gauge_kept_behind_a_dead_gateway_arrives_as_history() -> None:
    radio = Radio(4)
    server = lorawan.NetworkServer(radio, START_MS)
    radio.remember([DEVICE], Memory(messages=50, per_s=1, mark=server.as_history))
    radio.cut(radio.home(DEVICE), 0)
    radio.skew(DEVICE, -7, at=0)
    for number in range(3):
        frame = lorawan.encode("milesight/em500-swl", {"battery": 90, "level": 1 + number / 10}, SITE)
        assert (
            radio.deliver(server.uplink(DEVICE, "milesight/em500-swl", number * 60.0, number, frame), number * 60) == []
        )
    radio.restore(radio.home(DEVICE), 180)
    filled = radio.due(300)
    assert [message.sequence for _, message in filled] == [0, 1, 2]
    levels = {}
    counters = []
    for when, message in filled:
        event = json.loads(message.payload)
        counters.append(event["fCnt"])
        assert abs(since_start(event["time"]) - when) < 0.01
        for reading in decode("milesight/em500-swl", message).readings:
            if reading.point == "level":
                assert reading.historical
                levels[reading.source_time // 1_000_000 - START_MS // 1000] = reading.value
    assert levels == pytest.approx({-7: 1.0, 53: 1.1, 113: 1.2})
    assert counters == [3, 4, 5]
    with pytest.raises(ValueError, match="keeps no history"):
        server.as_history(
            server.uplink("x", "bosch/tpl110", 0, 1, lorawan.encode("bosch/tpl110", {"occupied": True})), 9
        )


def since_start(text: str) -> float:
    """Seconds since the start."""
    return datetime.fromisoformat(text).timestamp() - START_MS / 1000


def test_events_are_those_of_a_network_server_and_lead_to_the_device() -> None:
    server = lorawan.NetworkServer(Radio(1), START_MS)
    frame = lorawan.encode("milesight/em500-pp", {"battery": 80, "pressure": 250})
    heard = [Signal("gateway-1", -101, 2.5, 9), Signal("gateway-2", -88, 7.0, 9)]
    join = server.join(DEVICE, "milesight/em500-pp", 1.0, 1)
    up = server.uplink(DEVICE, "milesight/em500-pp", 2.0, 2, frame, heard=heard)
    status = server.status(DEVICE, "milesight/em500-pp", 3.0, 3, 79.5)
    for message, event in ((join, "join"), (up, "up"), (status, "status")):
        route = networks.route_of(message.topic)
        assert route == networks.Route(Network.CHIRPSTACK, eui(DEVICE), event)
        assert networks.split(message.topic, message.payload) == [(message.topic, message.payload)]
        document = json.loads(message.payload)
        assert document["deviceInfo"]["tags"] == {"simulated": "true"}
        assert document["deviceInfo"]["devEui"] == eui(DEVICE)
        assert decode("milesight/em500-pp", message).rejection is None
    route = networks.route_of(up.topic)
    assert route is not None
    opened = networks.open_envelope(route, up.payload)
    assert (opened.data, opened.fport, opened.counter) == (frame.data, 85, 0)
    assert opened.signals == {"rssi": -88, "snr": 7.0, "gateway": eui("gateway-2")}
    result = decode("milesight/em500-pp", up)
    times = {reading.source_time for reading in result.readings}
    assert times == {START_MS * 1000 + 2_000_000}
    [battery] = [r.value for r in decode("milesight/em500-pp", status).readings if r.point == "battery"]
    assert battery == 79.5


def test_the_same_seed_gives_the_same_bytes() -> None:
    def said() -> list[Message]:
        server = lorawan.NetworkServer(Radio(7), START_MS)
        frame = lorawan.encode("bosch/tpl110", {"occupied": True})
        return [server.uplink(f"d-{n % 3}", "bosch/tpl110", float(n), n, frame) for n in range(9)]

    assert said() == said()
