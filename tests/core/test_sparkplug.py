"""Sparkplug B: what a message means after the birth before it; and whatever the bytes, readings or a reason."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.profiles import load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.decode import Decoder
from gateway.core.model import MINUTE, SECOND, Asset, Decoded, Device, Frame, FrameKind
from gateway.core.payload import Refused
from gateway.core.processor import Processor
from gateway.core.registry import Registry
from gateway.core.sparkplug import Sessions, address_of, parse, rebirth

NOW = 1_753_000_000 * SECOND
MS = NOW // 1000
PROFILES = load_profiles(read_tree(shipped("device_profiles"), *PROFILE_FILES))
INT32, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 3, 8, 9, 10, 11, 12


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def metric(
    name: str | None = None, alias: int | None = None, value: Any = None, datatype: int = 0, **more: int
) -> bytes:
    """``more``: time, historical, null."""
    out = block(1, name.encode()) if name is not None else b""
    out += number(2, alias) if alias is not None else b""
    out += number(3, more["time"]) if "time" in more else b""
    out += number(4, datatype) if datatype else b""
    out += number(5, 1) if more.get("historical") else b""
    out += number(7, 1) if more.get("null") else b""
    if isinstance(value, bool):
        out += number(14, value)
    elif isinstance(value, int):
        out += number(11, value & (2**64 - 1)) if datatype in (4, UINT64, 13) else number(10, value & 0xFFFFFFFF)
    elif isinstance(value, float):
        out += (
            varint(12 << 3 | 5) + struct.pack("<f", value)
            if datatype == FLOAT
            else varint(13 << 3 | 1) + struct.pack("<d", value)
        )
    elif isinstance(value, str):
        out += block(15, value.encode())
    return out


def payload(*metrics: bytes, seq: int | None = None, time: int | None = MS) -> bytes:
    head = number(1, time) if time is not None else b""
    return head + b"".join(block(2, one) for one in metrics) + (number(3, seq) if seq is not None else b"")


class Plant:
    """A decoder with a pump-house gauge on edge E, and one node's conversation with it."""

    def __init__(self) -> None:
        registry = Registry()
        registry.upsert(
            [Asset("pipe-1", "pipe"), Asset("pipe-2", "pipe")],
            [Device("gauge", "pipe-1", "generic/json-pipe", "E.gauge"), Device("other", "pipe-2", "generic/json-pipe")],
        )
        self.sessions = Sessions()
        self.decoder = Decoder(registry, PROFILES, None, self.sessions)
        self.now = NOW

    def hear(self, topic: str, data: bytes, after: int = 0) -> Decoded:
        self.now += after
        return self.decoder.decode(Frame(FrameKind.MQTT, "scada", f"spBv1.0/G/{topic}", data, self.now))

    def born(self) -> None:
        assert self.hear("NBIRTH/E", payload(metric("bdSeq", value=1, datatype=UINT64), seq=0)).rejection is None
        birth = payload(
            metric("level", 1, 0.5, DOUBLE),
            metric("flow", 2, 10, INT32),
            metric("device_fault", 3, False, BOOLEAN),
            seq=1,
        )
        assert self.hear("DBIRTH/E/gauge", birth).rejection is None


def values(decoded: Decoded) -> dict[str, Any]:
    assert decoded.rejection is None, decoded.rejection
    return {reading.point: reading.value for reading in decoded.readings}


def test_data_by_alias_means_what_the_birth_said() -> None:
    plant = Plant()
    plant.born()
    found = plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.25), metric(alias=2, value=-3), seq=2))
    assert values(found) == {"level": 1.25, "flow": -3}
    assert {reading.source_time for reading in found.readings} == {NOW}
    by_name = plant.hear("DDATA/E/gauge", payload(metric("level", value=2.5, datatype=FLOAT, time=MS - 5000), seq=3))
    assert values(by_name) == {"level": 2.5}
    assert by_name.readings[0].source_time == NOW - 5 * SECOND
    assert plant.sessions.take_wanted() == []


def test_historical_null_and_values_that_have_no_place() -> None:
    plant = Plant()
    plant.born()
    old = plant.hear(
        "DDATA/E/gauge",
        payload(metric(alias=1, value=3.0, time=MS - 60_000, historical=1), metric(alias=2, null=1), seq=2),
    )
    assert {(r.point, r.value, r.historical) for r in old.readings} == {("level", 3.0, True), ("flow", None, False)}
    nan = plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=float("nan")), metric(alias=2, value="ten"), seq=3))
    assert {(r.point, r.reason) for r in nan.readings} == {
        ("level", "not a number"), ("flow", "a value of the Sparkplug datatype 3 has no place here"),
    }  # fmt: skip


def test_before_a_birth_nothing_can_be_named_and_a_rebirth_is_asked_for_once_a_minute() -> None:
    plant = Plant()
    data = payload(metric(alias=1, value=1.0), seq=7)
    for after in (0, SECOND, 58 * SECOND):
        refused = plant.hear("DDATA/E/gauge", data, after).rejection
        assert refused is not None
        assert (refused.code, refused.device) == ("no_birth", "gauge")
    assert plant.sessions.take_wanted() == ["G/E"]
    plant.hear("DDATA/E/gauge", data, MINUTE)
    assert plant.sessions.take_wanted() == ["G/E"]
    plant.hear("NBIRTH/E", payload(seq=0))
    refused = plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.0), seq=1), MINUTE).rejection
    assert refused is not None
    assert "before its DBIRTH" in refused.reason
    assert plant.sessions.take_wanted() == ["G/E"]


def test_a_number_left_out_and_an_unknown_alias_ask_for_a_rebirth_and_what_can_be_named_counts() -> None:
    plant = Plant()
    plant.born()
    assert values(plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.0), seq=9))) == {"level": 1.0}
    assert plant.sessions.take_wanted() == ["G/E"]
    odd = plant.hear(
        "DDATA/E/gauge", payload(metric(alias=1, value=2.0), metric(alias=77, value=5), seq=10), 2 * MINUTE
    )
    assert values(odd) == {"level": 2.0}
    assert odd.extra_points == ("alias 77",)
    assert plant.sessions.take_wanted() == ["G/E"]


def test_messages_delivered_again_change_nothing() -> None:
    plant = Plant()
    plant.born()
    birth = payload(metric("bdSeq", value=1, datatype=UINT64), seq=0)
    for seq in (2, 3, 3, 2, 3, 4):
        assert values(plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.0), seq=seq))) == {"level": 1.0}
    plant.hear("NBIRTH/E", birth)
    assert values(plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.5), seq=5))) == {"level": 1.5}
    assert plant.sessions.take_wanted() == []
    plant.hear("NBIRTH/E", payload(metric("bdSeq", value=1, datatype=UINT64), seq=0, time=MS + 1))  # a new one
    assert plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.5), seq=1)).rejection is not None


def test_the_sequence_goes_from_255_to_0() -> None:
    plant = Plant()
    plant.born()
    for seq in (*range(2, 256), 0, 1):
        plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.0), seq=seq))
    assert plant.sessions.take_wanted() == []


def test_a_death_ends_the_session_and_an_older_will_does_not() -> None:
    plant = Plant()
    plant.born()
    plant.hear("NDEATH/E", payload(metric("bdSeq", value=0, datatype=UINT64)))
    assert values(plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.0), seq=2))) == {"level": 1.0}
    plant.hear("NDEATH/E", payload(metric("bdSeq", value=1, datatype=UINT64)))
    refused = plant.hear("DDATA/E/gauge", payload(metric(alias=1, value=1.0), seq=3)).rejection
    assert refused is not None
    assert refused.code == "no_birth"
    assert plant.hear("DDEATH/E/gauge", payload(seq=4)).rejection is not None  # its node is dead already
    plant.born()
    assert plant.hear("DDEATH/E/gauge", payload(seq=2)).extra_points == ("DDEATH",)


def test_nodes_carry_devices_of_others_and_devices_nobody_registered() -> None:
    plant = Plant()
    plant.born()
    stranger = plant.hear("DBIRTH/E/pump", payload(metric("speed", 1, 5, INT32), seq=2)).rejection
    assert stranger is not None
    assert (stranger.code, stranger.device) == ("unknown_device", "E.pump")
    assert values(plant.hear("DBIRTH/E/other", payload(metric("level", 1, 0.5, DOUBLE), seq=3))) == {"level": 0.5}
    assert plant.hear("NDATA/E", payload(metric("Properties/Uptime", value=5, datatype=INT32), seq=4)).extra_points == (
        "NDATA",
    )
    assert plant.sessions.take_wanted() == []


def test_our_own_wish_is_a_metric_a_node_understands() -> None:
    [wish] = parse(rebirth(NOW)).metrics
    assert (wish.name, wish.datatype, wish.value) == ("Node Control/Rebirth", BOOLEAN, True)


def test_topics() -> None:
    assert address_of("spBv1.0/G/DDATA/E/gauge") is not None
    for topic in ("spBv1.0/G/NCMD/E", "spBv1.0/STATE/scada", "spBv1.0/G/DDATA/E", "spBv1.0/G/NDATA/E/x", "spBv1.0/G"):
        assert address_of(topic) is None


def test_what_nodes_said_is_part_of_the_state() -> None:
    processor = Processor({})
    address = address_of("spBv1.0/G/DBIRTH/E/gauge")
    node = address_of("spBv1.0/G/NBIRTH/E")
    assert address is not None
    assert node is not None
    processor.sessions.take(node, parse(payload(seq=0)), NOW)
    processor.sessions.take(address, parse(payload(metric("level", 1, 0.5, DOUBLE), seq=1)), NOW)
    other = Processor({})
    other.restore(processor.snapshot())
    assert other.sessions.nodes == processor.sessions.nodes
    assert other.sessions.nodes["G/E"].aliases == {"": {}, "gauge": {1: ("level", DOUBLE)}}


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a", b"\x12\x05\x0a", b"\x80" * 12, b"\x12\x02\x0a\x05", b"\x0b", b"\x15\x00"]
)
def test_what_is_no_payload_is_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parse(data)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["NBIRTH/E", "DBIRTH/E/gauge", "NDATA/E", "DDATA/E/gauge", "NDEATH/E", "DDEATH/E/gauge"]),
            st.binary(max_size=40)
            | st.builds(
                lambda items, seq: payload(*(metric(n, a, v, d) for n, a, v, d in items), seq=seq),
                st.lists(
                    st.tuples(
                        st.none() | st.sampled_from(["level", "flow", "bdSeq"]),
                        st.none() | st.integers(0, 3),
                        st.none()
                        | st.booleans()
                        | st.integers(-(2**40), 2**40)
                        | st.floats(width=32)
                        | st.text(max_size=3),
                        st.integers(0, 20),
                    ),
                    max_size=4,
                ),
                st.none() | st.integers(0, 255),
            ),
        ),
        max_size=12,
    )
)
def test_any_conversation_is_readings_or_reasons(messages: list[tuple[str, bytes]]) -> None:
    plant = Plant()
    for topic, data in messages:
        decoded = plant.hear(topic, data, SECOND)
        if decoded.rejection is not None:
            assert decoded.rejection.code in ("bad_payload", "no_birth", "unknown_points", "bad_time", "unknown_device")
            assert decoded.rejection.reason
        for reading in decoded.readings:
            assert (reading.value is None) == (reading.quality == "bad")
    assert len(plant.sessions.take_wanted()) <= 1
