"""A value for a point → the one Modbus request that sets it: reading's steps undone, in the opposite order.

    value ──state, invert, scale──▶ raw value ──type, word order──▶ words ──▶ WriteRequest

Which request follows from where the point is read: a coil is written by function code 5, one register by 6, several by
16 (Modbus application protocol V1.1b3, 6.5, 6.6 and 6.12). Nothing else can be written: input registers and discrete
inputs have no request for it, and a part of a register could only be set by reading the rest first, which is no longer
true when it is written back.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import msgspec

from gateway.core.model import Quality, Value
from gateway.core.profile import Form, Point, Register, ValueType, Writable
from gateway.core.registers import Fault, read_form


class WriteRequest(msgspec.Struct, frozen=True):
    """One request. ``words``: what is written from wire address ``address`` on; one 0 or 1 for function code 5.
    ``value``: what the point will read as afterwards, which is the value asked for to the device's own resolution."""

    function_code: int
    address: int
    words: tuple[int, ...]
    value: Value = None


def write_request(point: Point, value: object) -> WriteRequest:
    """The request that makes ``point`` read as ``value``: a number in the point's unit, a bool, or the name of a state.
    A number between two steps of the device becomes the nearer one.

    Raises ValueError with the reason for people: the point cannot be written, the value is of the wrong type, no
    state of the point, outside its limits, or nothing the register can hold.
    """
    writable = point.write
    if writable is None:
        raise ValueError(f"{point.name} can only be read")
    try:
        return _request(point, writable.register, _raw(point, writable, value))
    except OverflowError as error:
        raise ValueError(f"{_shown(value)} is beyond what the register holds") from error


def _request(point: Point, register: Register, raw: float) -> WriteRequest:
    if type(raw) is not bool and raw in point.sentinels:
        raise ValueError(f"the device takes {raw:g} for: {point.sentinels[raw]}")
    if register.is_bit_space:
        return WriteRequest(5, register.address, (int(raw),), _read_back(point, bool(raw)))
    little = register.order in ("CDAB", "DCBA")
    data = _to_bytes(register.form, raw, little=little)
    words = to_words(data, register.order)
    # What a 32-bit float makes of the number is only known by reading it.
    value = _read_back(point, read_form(register.form, data, little))
    return WriteRequest(6 if len(words) == 1 else 16, register.address, words, value)


def to_words(data: bytes, order: str) -> tuple[int, ...]:
    """``data`` as register words. It comes least significant byte first for CDAB and DCBA: then swapping the bytes of
    each word is all that is left to do."""
    swapped = order in ("CDAB", "BADC")
    return struct.unpack(f"{'<' if swapped else '>'}{len(data) // 2}H", data)


def codes(point: Point) -> dict[tuple[type, Value], Value]:
    """(type, value) of every state that can be written → its code. ``True`` is not 1, and a state whose readings are
    not good is none that anybody sets."""
    good = {code: state.value for code, state in (point.states or {}).items() if state.quality is Quality.GOOD}
    return {(_kind(value), value): code for code, value in good.items() if value is not None}


def _raw(point: Point, writable: Writable, value: object) -> float:
    if point.states is not None:
        return _code(point, value)
    if point.type is not ValueType.BOOL:
        return _raw_number(point, writable, value)
    if type(value) is not bool:
        raise ValueError(f"{point.name} is true or false, not {_shown(value)}")
    return value is not point.invert


def _code(point: Point, value: object) -> float:
    known = codes(point)
    code = known.get((_kind(value), value)) if isinstance(value, (bool, int, float, str)) else None
    if code is None:
        raise ValueError(f"{point.name} is one of {', '.join(_shown(name) for _, name in known)}, not {_shown(value)}")
    if isinstance(code, str):
        raise ValueError(f"{point.name}: a code is a number, not {_shown(code)}")
    return code


def _raw_number(point: Point, writable: Writable, value: object) -> float:
    """The raw value of a number: limits, then scale and offset undone."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{point.name} is a number, not {_shown(value)}")
    if not writable.low <= value <= writable.high:  # NaN is not in between either
        limits = f"{writable.low:g} to {writable.high:g} {point.unit}".rstrip()
        raise ValueError(f"{point.name} may be set from {limits}, not to {_shown(value)}")
    if point.type is ValueType.INTEGER and value != int(value):
        raise ValueError(f"{point.name} is a whole number, not {_shown(value)}")
    if value and abs(value) < point.smallest:
        raise ValueError(f"{point.name} is 0 or at least {point.smallest:g}, not {_shown(value)}")
    scale, is_float = point.scale, writable.register.form.kind == "float"
    if scale.is_identity and is_float:
        return float(value)
    if scale.is_identity:
        exact = Fraction(value)
    else:
        # As people write the numbers: 0.3 is three tenths, not the float beside it.
        exact = (_decimal(value) - _decimal(scale.offset)) * _decimal(scale.denominator) / _decimal(scale.numerator)
    if is_float:
        return float(exact)
    raw = math.floor(exact + Fraction(1, 2))
    if not writable.low <= scale(raw) <= writable.high:
        raise ValueError(f"the nearest to {_shown(value)} that the device knows is {scale(raw):g}: beyond the limits")
    return raw


def _to_bytes(form: Form, raw: float, *, little: bool) -> bytes:
    """``raw`` as the ``form.size`` bytes of its type. Raises ValueError for what does not fit in."""
    try:
        if form.kind == "float":
            return struct.pack(("<" if little else ">") + {4: "f", 8: "d"}[form.size], raw)
        if raw != int(raw):
            raise ValueError(f"{raw:g} is not a whole number")
        return int(raw).to_bytes(form.size, "little" if little else "big", signed=form.kind == "int")
    except OverflowError as error:
        raise ValueError(f"{raw:g} does not fit into {form.kind}{8 * form.size}") from error


def _read_back(point: Point, raw: Value | Fault) -> Value:
    """What ``raw`` reads as; it is known to be good."""
    assert isinstance(raw, (int, float))
    if point.states is not None:
        return point.states[raw].value
    if isinstance(raw, bool):
        return raw is not point.invert
    value = raw if point.scale.is_identity else point.scale(raw)
    return int(value) if point.type is ValueType.INTEGER else value


def _decimal(number: float) -> Fraction:
    return Fraction(str(number))


def _kind(value: object) -> type:
    """1 and 1.0 are one number; True and 1 are not."""
    return float if type(value) is int else type(value)


def _shown(value: object) -> str:
    return f"{value!r}"[:60]
