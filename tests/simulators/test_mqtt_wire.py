"""The hand-packed packets are MQTT 3.1.1 to the byte, whatever way the answers are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import mqtt_wire


@pytest.mark.parametrize(
    ("length", "encoded"),
    # The borders of table 2.4 of the standard.
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
)
def test_the_size_field_has_the_standards_borders(length: int, encoded: str) -> None:
    assert mqtt_wire.remaining_length(length).hex() == encoded


def test_connect_is_the_standards_example() -> None:
    packet = mqtt_wire.connect("id", "me", "pw", keep_alive=10)
    assert packet.hex() == "10160004" + b"MQTT".hex() + "04c0000a" + "00026964" + "00026d65" + "00027077"
    assert mqtt_wire.connect("id", None, None, clean=True)[9] == 0x02


def test_a_publish_carries_topic_id_and_payload_and_its_repetition_only_the_dup_flag_more() -> None:
    packet = mqtt_wire.publish(mqtt_wire.text("a/b"), b"hello", 258)
    assert packet == b"\x32\x0c\x00\x03a/b\x01\x02hello"
    assert mqtt_wire.again(packet) == b"\x3a" + packet[1:]
    assert mqtt_wire.publish_qos0(mqtt_wire.text("a/b"), b"hello") == b"\x30\x0a\x00\x03a/bhello"


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300))), st.integers(1, 50))
def test_packets_are_found_however_the_stream_is_cut(packets: list[tuple[int, bytes]], piece: int) -> None:
    stream = b"".join(bytes((first,)) + mqtt_wire.remaining_length(len(body)) + body for first, body in packets)
    buffer, found = bytearray(), []
    for start in range(0, len(stream), piece):
        buffer += stream[start : start + piece]
        found += mqtt_wire.cut(buffer)
    assert found == packets
    assert not buffer


def test_a_size_field_of_five_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="malformed"):
        mqtt_wire.cut(bytearray(b"\x40\xff\xff\xff\xff\x01"))
