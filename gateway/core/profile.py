"""What a type of device measures, and where it says so: the compiled, frozen form of one profile file.

    payload bytes ──where (JSON keys, TLV channels, frames, registers)──▶ raw values ──points──▶ readings

A *raw value* is what the device said, under a name of the profile. A *point* takes one raw value (its ``source``) or a
formula over raw values, earlier points and attributes of the asset, and says how to turn it into a value in the
canonical unit, and when not to believe it. How the file is written: docs/profiles.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeAlias

from gateway.core.formula import Formula
from gateway.core.model import MINUTE, Micros, Quality, Value

MAX_REGISTERS = 125  # Modbus application protocol V1.1b3: the most one FC 3/4 request may ask for
MAX_BITS = 2000  # the same for FC 1/2
SIGNALS = ("rssi", "snr", "gateway", "battery")  # what networks say of a LoRaWAN device beside its own bytes


class Transport(StrEnum):
    MQTT = "mqtt"
    LORAWAN = "lorawan"
    MODBUS = "modbus"
    HJ212 = "hj212"


class ValueType(StrEnum):
    """The type of a point's values, fixed for ever: sinks make one field of one type of it."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOL = "bool"
    TEXT = "text"
    LIST = "list"  # numbers; kept as the text of a JSON array


@dataclass(frozen=True, slots=True)
class Linear:
    """value = raw × numerator / denominator + offset.

    Two whole numbers where possible, because 3567 / 100 is 35.67 and 3567 × 0.01 may be 35.670000000000002.
    """

    numerator: float = 1
    denominator: float = 1
    offset: float = 0.0

    @classmethod
    def of(cls, factor: Fraction, offset: float) -> Linear:
        """``factor`` in lowest terms, as floats where whole numbers would be longer than a float is exact."""
        if abs(factor.numerator) < 2**53 and factor.denominator < 2**53:
            return cls(factor.numerator, factor.denominator, offset)
        return cls(float(factor), 1, offset)

    @property
    def is_identity(self) -> bool:
        return self.numerator == 1 and self.denominator == 1 and self.offset == 0.0

    def __call__(self, raw: float) -> float:
        """Raises OverflowError for a raw value beyond what a float can hold."""
        value = raw * self.numerator if self.numerator != 1 else raw
        if self.denominator != 1:
            value = value / self.denominator
        # Adding an offset is where 273.15 leaves 1e-14 behind; twelve digits are more than any sensor has.
        return float(f"{value + self.offset:.12g}") if self.offset else value


@dataclass(frozen=True, slots=True)
class Form:
    """How some bytes are a raw value.

    ``kind``: uint, int, float, bcd, text, bool (a coil or discrete input). ``size``: bytes. ``low_bit``/``width``: only
    these bits of an integer, sign-extended when the integer is signed; a width of 0 is the whole of it, ``is_flag``
    makes one bit a yes or no.
    """

    kind: str
    size: int
    low_bit: int = 0
    width: int = 0
    is_flag: bool = False


@dataclass(frozen=True, slots=True)
class Register:
    """Where a raw value stands in a Modbus device. ``address`` is 0-based as on the wire; ``order`` ABCD, CDAB, BADC or
    DCBA (for 64 bits the same reading: words swapped, bytes swapped, both). ``alone``: no request may ask for more."""

    name: str
    function: int
    address: int
    count: int
    form: Form
    order: str = "ABCD"
    scale: Linear = Linear()
    sentinels: Mapping[float, str] = field(default_factory=dict)
    alone: bool = False

    @property
    def is_bit_space(self) -> bool:
        """True for coils and discrete inputs."""
        return self.function in (1, 2)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a raw value stands in a binary payload: ``at`` bytes from the start of its channel or frame."""

    name: str
    at: int
    form: Form
    little: bool
    scale: Linear = Linear()
    sentinels: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Channel:
    """What follows a TLV head. ``time``: name of the field that is the sample's own time (s since 1970): then every
    occurrence is a sample of its own, ``historical`` or not."""

    size: int
    fields: tuple[Field, ...] = ()
    time: str | None = None
    historical: bool = False


@dataclass(frozen=True, slots=True)
class TlvPayload:
    """Repeated head + data; a head is ``head_size`` bytes and fixes the length of its data (Milesight: 2 bytes)."""

    head_size: int
    channels: Mapping[bytes, Channel]


@dataclass(frozen=True, slots=True)
class FramePayload:
    """Whole frames of fixed layout; the first variant whose prefix and size fit decides."""

    variants: tuple[FrameVariant, ...]


@dataclass(frozen=True, slots=True)
class FrameVariant:
    """``at_least``/``at_most`` bytes, beginning with ``prefix``, on ``fports`` (None: any). ``remark``: what it is,
    when it is no measurement."""

    prefix: bytes
    at_least: int
    at_most: int
    fields: tuple[Field, ...]
    fports: frozenset[int] | None = None
    records: Records | None = None
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Several samples in one frame: from byte ``at`` to its end, ``size`` bytes each. Their times: the field ``time``
    of each, or ``every`` so long from the frame's own time back (``oldest_first`` or newest first)."""

    at: int
    size: int
    fields: tuple[Field, ...]
    time: str | None = None
    every: Micros = 0
    oldest_first: bool = False
    historical: bool = False


@dataclass(frozen=True, slots=True)
class BlockPayload:
    """Decentlab's frames: version 2, device id, flags; block k follows where bit k of the flags is set."""

    blocks: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class CodecPayload:
    """What only Python can say: ``decode(data, fport)`` gives samples; ``names`` of the raw values in them."""

    decode: Callable[[bytes, int | None], Any]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonPayload:
    """Names of the envelope's keys; ``zone_offset_s``: what a written time without a zone means."""

    time: str = "ts"
    sequence: str = "seq"
    values: str = "values"
    zone_offset_s: int = 8 * 3600


Payload: TypeAlias = JsonPayload | TlvPayload | FramePayload | BlockPayload | CodecPayload


@dataclass(frozen=True, slots=True)
class State:
    """What a code means, and whether a value of that meaning can be trusted."""

    value: Value
    quality: Quality = Quality.GOOD
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """When ``when`` holds, the value is not better than ``quality``. ``points``: those concerned, None = all."""

    when: Formula
    quality: Quality
    reason: str
    points: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    """A number of the asset or device that formulas use (mount_height, baseline_x); in canonical units."""

    name: str
    unit: str = ""
    default: float | None = None


@dataclass(frozen=True, slots=True)
class Writable:
    """A point that a person may set: the ``register`` it is written to, and the least and greatest number, in the
    point's unit (no bounds where the values are states)."""

    register: Register
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Point:
    """One point: from raw value to reading.

    Steps, in order: sentinel → bad · state code → value · number × scale to the canonical unit · invert · formula
    (given the value under its own name; without that name the formula counts only when the device did not say) ·
    range → bad · checks. ``low``/``high``/``smallest`` in ``unit``; nearer to zero than ``smallest``, but not zero, is
    no measurement either (230.2 V with its words swapped is 4e-08). ``formulas``: the first whose inputs are there is
    used; ``optional``: a missing attribute gives no reading instead of a bad one.
    """

    name: str
    source: str
    unit: str = ""
    type: ValueType = ValueType.NUMBER
    scale: Linear = Linear()
    low: float = -math.inf
    high: float = math.inf
    smallest: float = 0.0
    sentinels: Mapping[Value, str] = field(default_factory=dict)
    states: Mapping[Value, State] | None = None
    invert: bool = False
    formulas: tuple[Formula, ...] = ()
    optional: bool = False
    checks: tuple[Check, ...] = ()
    units: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    wraps_at: float | None = None  # a counter: what it holds before it begins again, in ``unit``; inf: it is only reset
    raw_bytes: int = 0  # size of the integer it comes from, to write sentinels as the manual does; 0: not binary
    write: Writable | None = None  # None: it can only be read

    @property
    def uses_itself(self) -> bool:
        """The formula refines what the device said, rather than standing in for it."""
        return any(self.name in formula.names for formula in self.formulas)


@dataclass(frozen=True, slots=True)
class Profile:
    """One type of device. ``points`` in the order of the file: a formula may use the points before it."""

    id: str
    kinds: tuple[str, ...]
    transport: Transport
    points: tuple[Point, ...]
    title_zh: str = ""
    title_en: str = ""
    expected_interval: Micros | None = None
    allowed_lateness: Micros = 10 * MINUTE
    payload: Payload | None = None
    fports: frozenset[int] | None = None
    registers: tuple[Register, ...] = ()
    max_gap: int = 8
    max_block: int = MAX_REGISTERS
    all_zero_is_restart: bool = False
    pause: Micros = 0  # between two requests to it
    connect_pause: Micros = 0  # after connecting to it
    checks: tuple[Check, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    source: str = ""

    @property
    def kind(self) -> str:
        return self.kinds[0]

    def point(self, name: str) -> Point | None:
        return next((point for point in self.points if point.name == name), None)

    def unit(self, name: str) -> str:
        """Canonical unit of a point; "" for one it does not have."""
        point = self.point(name)
        return point.unit if point is not None else ""


def raw_names(profile: Profile) -> frozenset[str]:
    """Every raw value a binary payload or the registers of ``profile`` may give, and what a network adds."""
    names = {register.name for register in profile.registers} | set(SIGNALS)
    match profile.payload:
        case TlvPayload(channels=channels):
            names |= {field.name for channel in channels.values() for field in channel.fields}
        case FramePayload(variants=variants):
            for variant in variants:
                of_records = variant.records.fields if variant.records is not None else ()
                names |= {field.name for field in (*variant.fields, *of_records)}
        case BlockPayload(blocks=blocks):
            names |= {field.name for block in blocks for field in block.fields}
        case CodecPayload(names=given):
            names |= set(given)
        case _:
            pass
    return frozenset(names)
