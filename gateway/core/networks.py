"""Whose message is it: topics of our own and of other people's networks, and the envelopes these put around it.

==================  =====================================================  =============================================
network             topic                                                  payload
==================  =====================================================  =============================================
citywatch           ``citywatch/v1/{kind}/{device}/telemetry``, ``status``  the device's own
ChirpStack v4       ``application/{id}/device/{DevEUI}/event/{event}``      ``{"fPort", "data", "object", "rxInfo", …}``
The Things Stack 3  ``v3/{application}/devices/{device}/{event}``           ``{"end_device_ids", "uplink_message", …}``
ThingsBoard         ``v1/devices/{device}/telemetry``                       ``{"ts", "values"}`` or plain values
ThingsBoard         ``v1/gateway/telemetry``                                ``{device: [{"ts", "values"}, …], …}``
Sparkplug B         ``spBv1.0/{group}/{type}/{edge}/{device}``              protobuf; see ``core.sparkplug``
==================  =====================================================  =============================================

A message for several devices is cut into one for each *before* it is journaled (``split``), so that a frame, its
ledger and its rejection always are one device's.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import Any

import msgspec

from gateway.core import sparkplug
from gateway.core.payload import MAX_SEQUENCE, Refused, describe, read_json

TOPIC_ROOT = "citywatch/v1/"
THINGSBOARD_GATEWAY = "v1/gateway/telemetry"
MAX_DEVICES = 1_000  # in one message of a gateway


class Network(StrEnum):
    CITYWATCH = "citywatch"
    CHIRPSTACK = "chirpstack"
    THINGS_STACK = "things-stack"
    THINGSBOARD = "thingsboard"
    SPARKPLUG = "sparkplug"


# What a source of each network subscribes to.
TOPICS: dict[Network, tuple[str, ...]] = {
    Network.CITYWATCH: ("citywatch/v1/+/+/telemetry", "citywatch/v1/+/+/status"),
    Network.CHIRPSTACK: ("application/+/device/+/event/+",),
    Network.THINGS_STACK: ("v3/+/devices/+/up", "v3/+/devices/+/join"),
    Network.THINGSBOARD: ("v1/devices/+/telemetry", THINGSBOARD_GATEWAY),
    Network.SPARKPLUG: sparkplug.TOPICS,
}


class Route(msgspec.Struct, frozen=True):
    """``address``: how the network calls the device. ``event``: telemetry, status, up, join … ``kind``: the kind of
    asset the topic claims; None when it says none."""

    network: Network
    address: str
    event: str
    kind: str | None = None

    @property
    def is_plain(self) -> bool:
        """The payload is the device's own, without an envelope."""
        return self.network in (Network.CITYWATCH, Network.THINGSBOARD)


def route_of(topic: str) -> Route | None:
    """None for a topic of no network we know."""
    match topic.split("/"):
        case ["citywatch", "v1", kind, device, "telemetry" | "status" as event]:
            return Route(Network.CITYWATCH, device, event, kind)
        case ["application", _, "device", eui, "event", event]:
            return Route(Network.CHIRPSTACK, eui.lower(), event)
        case ["v3", _, "devices", device, event]:
            return Route(Network.THINGS_STACK, device, event)
        case ["v1", "devices", device, "telemetry"]:
            return Route(Network.THINGSBOARD, device, "telemetry")
        case ["v1", "gateway", "telemetry", *rest] if rest:
            return Route(Network.THINGSBOARD, "/".join(rest), "telemetry")
    return None


def split(topic: str, payload: bytes) -> list[tuple[str, bytes]]:
    """The messages in one of a gateway that speaks for many devices, as (topic, payload) each; anything else as it
    is, also when it is not what it should be: then it is one frame, and rejected with its reason."""
    if topic != THINGSBOARD_GATEWAY:
        return [(topic, payload)]
    try:
        document = read_json(payload)
    except Refused:
        return [(topic, payload)]
    if not isinstance(document, dict) or not 0 < len(document) <= MAX_DEVICES:
        return [(topic, payload)]
    return [(f"{topic}/{device}", msgspec.json.encode(samples)) for device, samples in document.items()]


class Uplink(msgspec.Struct):
    """A device's message out of its network server's envelope. ``data``: the device's bytes; ``object``: what the
    network's own decoder made of them; ``signals``: rssi, snr and gateway of the best receiver, battery of a status."""

    data: bytes = b""
    fport: int | None = None
    time: Any = None
    counter: int | None = None
    signals: dict[str, Any] = {}
    object: dict[str, Any] | None = None
    remark: str | None = None  # an event without readings


def open_envelope(route: Route, payload: bytes) -> Uplink:
    """What a network server delivered. Raises Refused for anything that is not its envelope."""
    envelope = read_json(payload)
    if not isinstance(envelope, dict):
        raise Refused("bad_payload", f"a JSON object was expected, not {describe(envelope)}")
    if route.network is Network.CHIRPSTACK:
        return _chirpstack(route.event, envelope)
    return _things_stack(route.event, envelope)


def bare_or_chirpstack(payload: bytes) -> Uplink:
    """The device's bytes on a topic of our own: bare, or in ChirpStack's JSON ``{"fPort": 85, "data": "<base64>"}``.

    A payload that begins with ``{`` and ends with ``}`` but is not such an object is taken as the device's own bytes.
    Raises Refused for an envelope whose data is not base64.
    """
    if payload[:1] != b"{" or payload.rstrip()[-1:] != b"}":
        return Uplink(payload)
    try:
        envelope = read_json(payload)
    except Refused:
        return Uplink(payload)
    return _chirpstack("up", envelope)


def names_in_envelope(route: Route, payload: bytes) -> list[str]:
    """Other names of the device that the envelope gives: its DevEUI, where the topic has the network's name for it."""
    if route.network is not Network.THINGS_STACK:
        return []
    try:
        envelope = read_json(payload)
    except Refused:
        return []
    eui = _inner(envelope, "end_device_ids").get("dev_eui") if isinstance(envelope, dict) else None
    return [eui.lower()] if isinstance(eui, str) else []


def _chirpstack(event: str, envelope: dict[str, Any]) -> Uplink:
    time = envelope.get("time") if isinstance(envelope.get("time"), str) else None
    if event == "status":
        level = envelope.get("batteryLevel")
        unknown = envelope.get("batteryLevelUnavailable") is True or envelope.get("externalPowerSource") is True
        if type(level) not in (int, float) or unknown:
            return Uplink(remark="status")
        return Uplink(time=time, object={}, signals={"battery": level})
    if event != "up":
        return Uplink(remark=event[:40])
    data = _base64(envelope.get("data"), "data")
    own = envelope.get("object")
    return Uplink(
        data,
        _port(envelope.get("fPort")),
        time,
        _counter(envelope.get("fCnt")),
        _best(envelope.get("rxInfo"), lambda receiver: receiver.get("gatewayId")),
        own if isinstance(own, dict) else None,
    )


def _things_stack(event: str, envelope: dict[str, Any]) -> Uplink:
    if event != "up":
        return Uplink(remark=event[:40])
    message = _inner(envelope, "uplink_message")
    if not message:
        raise Refused("bad_payload", 'the envelope has no "uplink_message"')
    settled = message.get("received_at") or envelope.get("received_at")
    own = message.get("decoded_payload")
    return Uplink(
        _base64(message.get("frm_payload", ""), "frm_payload"),
        _port(message.get("f_port")),
        _micros_at_most(settled) if isinstance(settled, str) else None,
        _counter(message.get("f_cnt")),
        _best(message.get("rx_metadata"), lambda receiver: _inner(receiver, "gateway_ids").get("gateway_id")),
        own if isinstance(own, dict) else None,
    )


def _micros_at_most(text: str) -> str:
    """The Things Stack writes nanoseconds, ISO 8601 readers take six digits."""
    head, dot, tail = text.partition(".")
    digits = tail.rstrip("Z")
    return f"{head}.{digits[:6]}Z" if dot and digits.isdigit() else text


def _base64(text: Any, key: str) -> bytes:
    if not isinstance(text, str):
        raise Refused("bad_payload", f'the envelope has no "{key}" in base64')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("bad_payload", f'"{key}" is not base64') from None


def _inner(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _port(value: Any) -> int | None:
    return value if type(value) is int else None


def _counter(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_SEQUENCE else None


def _best(receivers: Any, gateway_of: Any) -> dict[str, Any]:
    """rssi, snr and gateway of the receiver that heard it best."""
    heard = (
        [r for r in receivers if isinstance(r, dict) and type(r.get("rssi")) is int] if type(receivers) is list else []
    )
    if not heard:
        return {}
    best = max(heard, key=lambda r: r["rssi"])
    signals = {name: best[name] for name in ("rssi", "snr") if type(best.get(name)) in (int, float)}
    gateway = gateway_of(best)
    return signals | {"gateway": gateway} if isinstance(gateway, str) else signals
