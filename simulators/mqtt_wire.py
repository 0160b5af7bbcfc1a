"""MQTT 3.1.1 packets packed by hand: what a device must say, and how the broker's answers are cut.

Written from the OASIS standard (3.1.1, sections 3.1–3.4); shares nothing with any client library, so that it can be
used as an independent witness, and costs a microsecond a packet. Only what a publisher needs.
"""

from __future__ import annotations

CONNACK, PUBACK, PINGRESP = 0x20, 0x40, 0xD0
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
DUP = 0x08

REFUSED = {
    1: "unacceptable protocol version",
    2: "client id rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorised",
}


def remaining_length(length: int) -> bytes:
    """The variable-length size field: 7 bits a byte, low first (2.2.3). Up to 268,435,455."""
    if length < 128:
        return bytes((length,))
    out = bytearray()
    while length >= 128:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out)


def text(value: str) -> bytes:
    """A UTF-8 string with its two-byte length (1.5.3)."""
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def connect(
    client_id: str, username: str | None, password: str | None, *, clean: bool = False, keep_alive: int = 30
) -> bytes:
    """CONNECT for protocol level 4."""
    flags = 0x02 * clean | 0x80 * (username is not None) | 0x40 * (password is not None)
    body = b"\x00\x04MQTT\x04" + bytes((flags,)) + keep_alive.to_bytes(2, "big") + text(client_id)
    if username is not None:
        body += text(username)
    if password is not None:
        body += text(password)
    return b"\x10" + remaining_length(len(body)) + body


def publish(topic_field: bytes, payload: bytes, packet_id: int) -> bytes:
    """PUBLISH with QoS 1; ``topic_field`` is ``text(topic)``, made once a device."""
    size = remaining_length(len(topic_field) + 2 + len(payload))
    return b"\x32" + size + topic_field + packet_id.to_bytes(2, "big") + payload


def publish_qos0(topic_field: bytes, payload: bytes) -> bytes:
    """PUBLISH with QoS 0."""
    return b"\x30" + remaining_length(len(topic_field) + len(payload)) + topic_field + payload


def again(packet: bytes) -> bytes:
    """The same PUBLISH, marked as sent before (3.3.1.1)."""
    return bytes((packet[0] | DUP,)) + packet[1:]


def cut(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take all complete packets off the front of ``buffer``: (first byte, body) each. Raises ValueError when the size
    field is longer than four bytes."""
    packets: list[tuple[int, bytes]] = []
    start = 0
    while True:
        length, shift, position = 0, 0, start + 1
        while True:
            if position >= len(buffer):
                del buffer[:start]
                return packets
            byte = buffer[position]
            length |= (byte & 0x7F) << shift
            position += 1
            if byte < 128:
                break
            shift += 7
            if shift > 21:
                raise ValueError("malformed remaining length")
        if position + length > len(buffer):
            del buffer[:start]
            return packets
        packets.append((buffer[start], bytes(buffer[position : position + length])))
        start = position + length
