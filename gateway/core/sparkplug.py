"""Sparkplug B: births that name what later messages only number, sequence, deaths, and the wish for a new birth.

    spBv1.0/{group}/{NBIRTH|NDATA|NDEATH}/{edge}     spBv1.0/{group}/{DBIRTH|DDATA|DDEATH}/{edge}/{device}

A birth lists all metrics with name and alias; data may give the alias alone. So what a message means depends on the
ones before it: ``Sessions`` is that memory, part of the state of the gateway. Where it lacks something (data before a
birth, a number left out in the sequence, an unknown alias) it asks for a rebirth (NCMD), at most once a minute a node.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec

from gateway.core.model import MINUTE, Micros
from gateway.core.payload import MAX_EXTRA, MAX_NAME, MAX_TEXT, Refused, Sample
from gateway.core.registers import Fault, shortest_float32

ROOT = "spBv1.0"
NODE_EVENTS = ("NBIRTH", "NDATA", "NDEATH")
DEVICE_EVENTS = ("DBIRTH", "DDATA", "DDEATH")
# Commands are left out: what we ask for ourselves is nothing we want to hear.
TOPICS = (
    *(f"{ROOT}/+/{event}/+" for event in NODE_EVENTS),
    *(f"{ROOT}/+/{event}/+/+" for event in DEVICE_EVENTS),
)
MAX_METRICS = 5_000  # in one message, and aliases of one device
MAX_NODES = 10_000
REBIRTH_EVERY: Micros = MINUTE
REBIRTH_METRIC = "Node Control/Rebirth"

_BIRTHS, _DATA = ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA")
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # Int8 … Int64
_UNSIGNED = (5, 6, 7, 8, 13)  # UInt8 … UInt64, DateTime
_FLOAT, _DOUBLE, _BOOLEAN, _TEXTS = 9, 10, 11, (12, 14, 15)


class Metric(msgspec.Struct, frozen=True):
    """``time`` in ms; ``value`` as the wire has it, typed by ``datatype`` (0: not said, as in a birth)."""

    name: str | None
    alias: int | None
    time: int | None
    datatype: int
    historical: bool
    null: bool
    value: Any


class Payload(msgspec.Struct, frozen=True):
    time: int | None
    sequence: int | None
    metrics: list[Metric]


class Address(msgspec.Struct, frozen=True):
    """Who speaks. ``device`` is "" for the node itself."""

    group: str
    event: str
    edge: str
    device: str = ""

    @property
    def node(self) -> str:
        return f"{self.group}/{self.edge}"

    @property
    def names(self) -> tuple[str, ...]:
        """Under which addresses a device of ours may be registered."""
        return (f"{self.edge}.{self.device}", self.device) if self.device else (self.edge,)


class Node(msgspec.Struct, array_like=True):
    """An edge node. ``birth``: number and time of its newest birth. ``aliases``: device ("" for the node itself) →
    alias → (name, datatype)."""

    sequence: int
    birth: tuple[int | None, int | None]
    online: bool
    aliases: dict[str, dict[int, tuple[str, int]]]
    asked_at: Micros = 0


def address_of(topic: str) -> Address | None:
    match topic.split("/"):
        case [root, group, event, edge] if root == ROOT and event in NODE_EVENTS:
            return Address(group, event, edge)
        case [root, group, event, edge, device] if root == ROOT and event in DEVICE_EVENTS and device:
            return Address(group, event, edge, device)
    return None


class Sessions:
    """All edge nodes; ``nodes`` is the whole state. ``wanted``: nodes to ask for a rebirth, since it was last taken."""

    def __init__(self, nodes: dict[str, Node] | None = None) -> None:
        self.nodes: dict[str, Node] = {} if nodes is None else nodes
        self.wanted: list[str] = []

    def take(self, address: Address, payload: Payload, now: Micros) -> list[Sample]:
        """The samples of one message, one for every time in it. Raises Refused for data nobody can name."""
        node = self.nodes.get(address.node)
        if address.event == "NBIRTH":
            node = self._born(address, payload)
        elif address.event == "NDEATH":
            # The last will of a connection before the present one says nothing about it.
            if node is not None and _birth_number(payload) in (node.birth[0], None):
                node.online = False
            return [Sample({"online": False})]
        elif node is None or not node.online:
            self._ask(address, now)
            raise Refused("no_birth", f"{address.event} of {address.node} before its NBIRTH: a rebirth was asked for")
        else:
            self._count(node, address, payload, now)
        if address.event == "DDEATH":
            return [Sample({"online": False})]
        if address.event in _BIRTHS:
            known = {
                m.alias: (m.name, m.datatype) for m in payload.metrics if m.alias is not None and m.name is not None
            }
            node.aliases[address.device] = known
        known = node.aliases.get(address.device, {})
        if address.device and address.event in _DATA and address.device not in node.aliases:
            self._ask(address, now)
            raise Refused("no_birth", f"DDATA of {address.device} before its DBIRTH: a rebirth was asked for")
        samples = self._samples(address, payload, known, now)
        if address.event in _BIRTHS:
            samples.append(Sample({"online": True}))
        return samples

    def take_wanted(self) -> list[str]:
        wanted, self.wanted = self.wanted, []
        return wanted

    def _born(self, address: Address, payload: Payload) -> Node:
        before = self.nodes.get(address.node)
        if before is None and len(self.nodes) >= MAX_NODES:
            raise Refused("bad_payload", f"more than {MAX_NODES} edge nodes")
        birth = (_birth_number(payload), payload.time)
        if before is not None and before.online and before.birth == birth and payload.time is not None:
            return before  # the same birth delivered again: its devices need not be born again
        asked = before.asked_at if before is not None else 0
        node = self.nodes[address.node] = Node(payload.sequence or 0, birth, True, {}, asked)
        return node

    def _count(self, node: Node, address: Address, payload: Payload, now: Micros) -> None:
        """A number left out is a message lost: what it said, a rebirth says again. One of before is a message that was
        delivered again."""
        if payload.sequence is None:
            return
        ahead = (payload.sequence - node.sequence) % 256
        if ahead == 0 or ahead > 128:
            return
        if ahead > 1:
            self._ask(address, now)
        node.sequence = payload.sequence

    def _samples(
        self, address: Address, payload: Payload, known: dict[int, tuple[str, int]], now: Micros
    ) -> list[Sample]:
        found: dict[tuple[int | None, bool], Sample] = {}
        for metric in payload.metrics:
            name, datatype = metric.name, metric.datatype
            if metric.alias is not None and metric.alias in known:
                name = name or known[metric.alias][0]
                datatype = datatype or known[metric.alias][1]
            key = (metric.time if metric.time is not None else payload.time, metric.historical)
            sample = found.get(key)
            if sample is None:
                sample = found[key] = Sample({}, key[0], None, metric.historical)
            if name is None:
                self._ask(address, now)
                if len(sample.extra) < MAX_EXTRA:
                    sample.extra = (*sample.extra, f"alias {metric.alias}")
            elif name != "bdSeq" and not name.startswith("Node Control/"):
                sample.values[name] = typed(metric, datatype)
        return list(found.values())

    def _ask(self, address: Address, now: Micros) -> None:
        node = self.nodes.get(address.node)
        if node is None:
            if len(self.nodes) >= MAX_NODES:
                return
            node = self.nodes[address.node] = Node(0, (None, None), False, {})
        if not node.asked_at or now - node.asked_at >= REBIRTH_EVERY:
            node.asked_at = now
            self.wanted.append(address.node)


def typed(metric: Metric, datatype: int) -> Any:
    """The value of a metric as its datatype says; a Fault for what cannot be one."""
    value = metric.value
    if metric.null or value is None:
        return None
    if datatype in _SIGNED and isinstance(value, int):
        bits = _SIGNED[datatype]
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    if datatype in _UNSIGNED and isinstance(value, int):
        return value
    if datatype in (_FLOAT, _DOUBLE) and isinstance(value, float):
        if not math.isfinite(value):
            return Fault("not a number")
        return shortest_float32(value) if datatype == _FLOAT else value
    if datatype == _BOOLEAN and isinstance(value, (bool, int)):
        return bool(value)
    if datatype in _TEXTS and isinstance(value, str):
        return value[: MAX_TEXT + 1]
    return Fault(f"a value of the Sparkplug datatype {datatype} has no place here")


def rebirth(now: Micros) -> bytes:
    """The payload of an NCMD that asks for a rebirth."""
    metric = _field(1, REBIRTH_METRIC.encode()) + _number(4, _BOOLEAN) + _number(14, 1)
    return _number(1, now // 1000) + _field(2, metric)


# -- protobuf ---------------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Payload:
    """org.eclipse.tahu.protobuf.Payload, as far as it concerns us. Raises Refused for anything else."""
    time: int | None = None
    sequence: int | None = None
    metrics: list[Metric] = []
    for number, value in _fields(data):
        match number:
            case 1 if isinstance(value, int):
                time = value
            case 2 if isinstance(value, bytes):
                if len(metrics) >= MAX_METRICS:
                    raise Refused("bad_payload", f"more than {MAX_METRICS} metrics in one message")
                metrics.append(_metric(value))
            case 3 if isinstance(value, int):
                sequence = value & 0xFF
            case _:
                pass
    return Payload(time, sequence, metrics)


def _metric(data: bytes) -> Metric:
    name: str | None = None
    alias = time = None
    datatype = 0
    historical = null = False
    value: Any = None
    for number, raw in _fields(data):
        match number, raw:
            case 1, bytes():
                name = _utf8(raw)[:MAX_NAME]
            case 2, int():
                alias = raw
            case 3, int():
                time = raw
            case 4, int():
                datatype = raw
            case 5, int():
                historical = bool(raw)
            case 7, int():
                null = bool(raw)
            case ((10 | 11), int()):
                value = raw
            case 12, float():
                value = raw
            case 13, float():
                value = raw
            case 14, int():
                value = bool(raw)
            case 15, bytes():
                value = _utf8(raw)
            case _:
                pass
    return Metric(name, alias, time, datatype, historical, null, value)


def _fields(data: bytes) -> list[tuple[int, int | float | bytes]]:
    """(field number, value) one after the other: varints and fixed numbers as such, what has a length as bytes."""
    found: list[tuple[int, int | float | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        value: int | float | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            part = data[at : at + size]
            if len(part) < size:
                raise Refused("bad_payload", "truncated in the middle of a number")
            value, at = struct.unpack("<d" if wire == 1 else "<f", part)[0], at + size
        elif wire == 2:
            size, at = _varint(data, at)
            value = data[at : at + size]
            if len(value) < size:
                raise Refused("bad_payload", f"truncated: {len(value)} of {size} bytes")
            at += size
        else:
            raise Refused("bad_payload", "not a Sparkplug payload")
        found.append((number, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value & (2**64 - 1), at
        shift += 7
    raise Refused("bad_payload", "not a Sparkplug payload: a number without an end")


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused("bad_payload", "a text that is not UTF-8") from None


def _birth_number(payload: Payload) -> int | None:
    """Which birth this belongs to (bdSeq)."""
    return next((m.value for m in payload.metrics if m.name == "bdSeq" and isinstance(m.value, int)), None)


def _number(field: int, value: int) -> bytes:
    return _varint_of(field << 3) + _varint_of(value)


def _field(field: int, data: bytes) -> bytes:
    return _varint_of(field << 3 | 2) + _varint_of(len(data)) + data


def _varint_of(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
