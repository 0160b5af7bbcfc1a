"""Other people's networks: topics and envelopes of ChirpStack, The Things Stack and ThingsBoard."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.profiles import load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.decode import Decoder
from gateway.core.model import SECOND, Asset, Decoded, Device, Frame, FrameKind
from gateway.core.networks import open_envelope, route_of, split
from gateway.core.payload import Refused
from gateway.core.registry import Registry

NOW = 1_753_000_000 * SECOND
PROFILES = load_profiles(read_tree(shipped("device_profiles"), *PROFILE_FILES))
EUI = "24e124713d000001"
FRAME = base64.b64encode(bytes.fromhex("01756403821E00")).decode()
UPLINK = {
    "time": "2025-07-20T08:26:30Z",
    "fCnt": 9,
    "fPort": 85,
    "data": FRAME,
    "rxInfo": [{"gatewayId": "gw-1", "rssi": -101, "snr": 2.5}, {"gatewayId": "gw-2", "rssi": -88, "snr": 7.25}],
}


def decode(topic: str, payload: Any) -> Decoded:
    registry = Registry()
    registry.upsert(
        [Asset("pipe-1", "pipe", attributes={"mount_height": 3.0}), Asset("lamp-1", "lamp")],
        [
            Device("gauge-1", "pipe-1", "milesight/em500-udl", EUI.upper()),
            Device("lc-1", "lamp-1", "generic/json-lamp"),
        ],
    )
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Decoder(registry, PROFILES).decode(Frame(FrameKind.MQTT, "net", topic, data, NOW))


def values(decoded: Decoded) -> dict[str, Any]:
    assert decoded.rejection is None, decoded.rejection
    return {reading.point: reading.value for reading in decoded.readings}


def test_a_chirpstack_uplink_with_the_network_s_time_and_the_best_gateway_s_signal() -> None:
    decoded = decode(f"application/7/device/{EUI}/event/up", UPLINK)
    assert values(decoded) == {"battery": 100, "distance": 30, "level": 2.97, "rssi": -88, "snr": 7.25}
    assert {reading.source_time for reading in decoded.readings} == {NOW - 10 * SECOND}
    assert decoded.device == "gauge-1"


@pytest.mark.parametrize("event", ["join", "ack", "txack", "log", "location", "integration"])
def test_events_without_readings_are_remarks(event: str) -> None:
    decoded = decode(f"application/7/device/{EUI}/event/{event}", {"deviceInfo": {}})
    assert (decoded.rejection, decoded.readings, decoded.extra_points) == (None, [], (event,))


def test_a_chirpstack_status_tells_the_battery_unless_it_does_not_know() -> None:
    topic = f"application/7/device/{EUI}/event/status"
    assert values(decode(topic, {"batteryLevel": 87.5, "margin": 10})) == {"battery": 87.5}
    for unknown in ({"batteryLevelUnavailable": True, "batteryLevel": 0}, {"externalPowerSource": True}, {}):
        assert decode(topic, unknown).extra_points == ("status",)


def things_stack(**message: Any) -> dict[str, Any]:
    return {
        "end_device_ids": {"device_id": "north-gauge", "dev_eui": EUI.upper()},
        "uplink_message": {
            "f_port": 85, "f_cnt": 9, "frm_payload": FRAME, "received_at": "2025-07-20T08:26:30.123456789Z",
            "rx_metadata": [{"gateway_ids": {"gateway_id": "hill"}, "rssi": -70, "snr": 9.5}], **message,
        },
    }  # fmt: skip


def test_a_things_stack_uplink_finds_the_device_by_its_eui() -> None:
    decoded = decode("v3/water@ttn/devices/north-gauge/up", things_stack())
    assert values(decoded) == {"battery": 100, "distance": 30, "level": 2.97, "rssi": -70, "snr": 9.5}
    assert decoded.readings[0].source_time == NOW - 10 * SECOND + 123_456
    assert decode("v3/water@ttn/devices/north-gauge/join", things_stack()).extra_points == ("join",)


def test_what_the_network_decoded_itself_is_for_a_json_profile() -> None:
    registry = Registry()
    registry.upsert([Asset("lamp-1", "lamp")], [Device("lc-1", "lamp-1", "generic/json-lamp", "aabb")])
    payload = json.dumps({"fPort": 2, "data": "AA==", "object": {"power": 95.5}, "rxInfo": [{"rssi": -60}]}).encode()
    decoded = Decoder(registry, PROFILES).decode(
        Frame(FrameKind.MQTT, "net", "application/1/device/aabb/event/up", payload, NOW)
    )
    assert values(decoded)["power"] == 95.5


def test_thingsboard_one_device_and_a_gateway_for_many() -> None:
    telemetry = {"ts": NOW // 1000, "values": {"power": 95.5}}
    assert values(decode("v1/devices/lc-1/telemetry", telemetry)) == {"power": 95.5}
    gateway = json.dumps({"lc-1": [telemetry], "gauge/9": [{"ts": 1, "values": {"x": 1}}]}).encode()
    parts = split("v1/gateway/telemetry", gateway)
    assert [topic for topic, _ in parts] == ["v1/gateway/telemetry/lc-1", "v1/gateway/telemetry/gauge/9"]
    assert values(decode(*parts[0])) == {"power": 95.5}
    assert decode(*parts[1]).rejection is not None
    assert decode("v1/devices/me/telemetry", telemetry).rejection is not None


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"5", b'{"a": 1, "a": 2}', b"{}"])
def test_a_gateway_message_that_is_none_is_one_frame_and_rejected(payload: bytes) -> None:
    assert split("v1/gateway/telemetry", payload) == [("v1/gateway/telemetry", payload)]
    rejection = decode("v1/gateway/telemetry", payload).rejection
    assert rejection is not None
    assert rejection.code == "unknown_topic"


@pytest.mark.parametrize(
    ("envelope", "said"),
    [
        ([], "a JSON object was expected"),
        ({"fPort": 85}, 'no "data"'),
        ({"data": "not base64!"}, "not base64"),
        ({"data": "", "fPort": 85}, "empty"),
        ({"data": "AXVk", "fPort": 86}, "fPort 86"),
    ],
)
def test_an_envelope_that_is_none_is_rejected_with_the_device_s_name(envelope: Any, said: str) -> None:
    decoded = decode(f"application/7/device/{EUI}/event/up", envelope)
    assert decoded.rejection is not None
    assert said in decoded.rejection.reason
    assert decoded.rejection.device == "gauge-1"


def test_topics_of_nobody() -> None:
    for topic in ("", "a/b", "application/1/device/x/event", "v1/gateway/attributes", "citywatch/v2/lamp/x/telemetry"):
        assert route_of(topic) is None


plain = st.none() | st.integers() | st.text(max_size=4)
receivers = st.lists(st.dictionaries(st.sampled_from(["rssi", "snr", "gateway_ids"]), plain, max_size=2), max_size=2)
messages = st.dictionaries(
    st.sampled_from(["frm_payload", "rx_metadata", "f_port", "received_at", "decoded_payload"]), plain | receivers
)
envelopes = st.dictionaries(
    st.sampled_from(["data", "fPort", "fCnt", "time", "rxInfo", "object", "uplink_message", "batteryLevel"]),
    plain | receivers | messages,
)


@given(st.sampled_from(["up", "status", "join"]), st.booleans(), envelopes)
def test_any_envelope_is_opened_or_refused(event: str, is_chirpstack: bool, envelope: dict[str, Any]) -> None:
    route = route_of(f"application/1/device/x/event/{event}" if is_chirpstack else f"v3/a/devices/x/{event}")
    assert route is not None
    with contextlib.suppress(Refused):
        open_envelope(route, json.dumps(envelope).encode())
