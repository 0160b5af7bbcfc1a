"""Modbus: which blocks to read for a profile, and the words that come back → raw values.

The read plan: every register a profile names lies whole in exactly one block; neighbours less than ``max_gap`` apart
share one; no block is longer than the protocol (125 registers, 2000 bits) or the profile allows.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from gateway.core.model import ModbusCycle, ModbusRead, Value
from gateway.core.profile import MAX_BITS, MAX_REGISTERS, Form, Profile, Register


class BlockRead(msgspec.Struct, frozen=True, order=True):
    """One request: ``count`` registers (or bits, function codes 1 and 2) from wire address ``address`` on."""

    function_code: int
    address: int
    count: int


class Fault(msgspec.Struct, frozen=True):
    """A raw value that is none; the reason goes to every reading that needs it."""

    reason: str


RawValue: TypeAlias = Value | list[float] | Fault

_FLOATS = {4: "f", 8: "d"}


def plan_reads(profile: Profile) -> tuple[BlockRead, ...]:
    """The requests of one polling cycle, in order of function code and address; () for a profile without registers."""
    blocks: list[BlockRead] = []
    for register in sorted(profile.registers, key=lambda r: (r.function, r.address, -r.count)):
        limit = MAX_BITS if register.is_bit_space else min(profile.max_block, MAX_REGISTERS)
        end = register.address + register.count
        if blocks and blocks[-1].function_code == register.function:
            last = blocks[-1]
            stop = last.address + last.count
            if end <= stop:
                continue
            if register.address - stop <= profile.max_gap and end - last.address <= limit:
                blocks[-1] = BlockRead(last.function_code, last.address, end - last.address)
                continue
        blocks.append(BlockRead(register.function, register.address, register.count))
    return tuple(blocks)


def raw_values(registers: Iterable[Register], cycle: ModbusCycle) -> dict[str, RawValue]:
    """The raw value of every register that the cycle asked for; a failed or short read makes Faults of its registers.

    Registers outside every read are left out: nobody asked for them.
    """
    blocks = [_Block(read) for read in cycle.reads]
    values: dict[str, RawValue] = {}
    for register in registers:
        for block in blocks:
            read = block.read
            first = register.address - read.address
            if (
                first >= 0
                and read.function_code == register.function
                and first + register.count <= block.asked
            ):
                values[register.name] = block.value(register, first)
                if read.error is None:
                    break  # an answered block counts more than a failed one that overlaps it
    return values


def all_zero(cycle: ModbusCycle) -> bool:
    """Every word of every answer is 0, and there is at least one."""
    answered = [read for read in cycle.reads if read.error is None and read.words]
    return bool(answered) and not any(any(read.words) for read in answered)


class _Block:
    """One answered read; its words as bytes, in both byte orders, made when first needed."""

    __slots__ = ("asked", "big", "little", "read")

    def __init__(self, read: ModbusRead) -> None:
        self.read = read
        self.asked = max(read.count, len(read.words))
        self.big: bytes | None = None
        self.little: bytes | None = None

    def value(self, register: Register, first: int) -> RawValue:
        read = self.read
        if read.error is not None:
            return Fault(f"read {read.function_code}:{read.address}+{self.asked} failed: {read.error}")
        if first + register.count > len(read.words):
            return Fault(
                f"short answer: {len(read.words)} of {self.asked} words of {read.function_code}:{read.address}"
            )
        if register.is_bit_space:
            return bool(read.words[first])
        if self.big is None or self.little is None:
            try:
                self.big = struct.pack(f">{len(read.words)}H", *read.words)
                self.little = struct.pack(f"<{len(read.words)}H", *read.words)
            except (struct.error, TypeError):
                return Fault("a word is not a number from 0 to 65535")
        data = slice(2 * first, 2 * (first + register.count))
        # Received byte order and the packing that undoes it: see docs/profiles.md, "Word orders".
        match register.order:
            case "ABCD":
                return finish(register.form, self.big[data], False, register.scale, register.sentinels)
            case "DCBA":
                return finish(register.form, self.big[data], True, register.scale, register.sentinels)
            case "BADC":
                return finish(register.form, self.little[data], False, register.scale, register.sentinels)
            case _:
                return finish(register.form, self.little[data], True, register.scale, register.sentinels)


def finish(form: Form, data: bytes, little: bool, scale: Any, sentinels: Mapping[float, str]) -> RawValue:
    """Bytes → raw value: number, bits, sentinel, scale."""
    value = read_form(form, data, little)
    if isinstance(value, Fault):
        return value
    if sentinels and value in sentinels:
        return Fault(sentinel_reason(value, sentinels[value], form.size))  # type: ignore[index]
    if scale.is_identity or isinstance(value, (str, bool)):
        return value
    return scale(value)  # type: ignore[no-any-return]


def read_form(form: Form, data: bytes, little: bool) -> Value | Fault:
    """``data`` (exactly ``form.size`` bytes) as the form says; ``little``: least significant byte first."""
    match form.kind:
        case "float":
            number = struct.unpack(("<" if little else ">") + _FLOATS[form.size], data)[0]
            if not math.isfinite(number):
                return Fault("not a number (NaN)" if math.isnan(number) else "not a number (infinite)")
            return shortest_float32(number) if form.size == 4 else float(number)
        case "text":
            # Bytes in the order of the words; a little-endian text would be a reversed one, which nobody means.
            text = data.split(b"\0", 1)[0]
            try:
                return text.decode("utf-8").strip()
            except UnicodeDecodeError:
                return Fault("the text is not UTF-8")
        case "bcd":
            digits = (data[::-1] if little else data).hex()
            return int(digits) if digits.isdigit() else Fault(f"{digits.upper()} is not BCD")
        case _:
            return _bits(form, int.from_bytes(data, "little" if little else "big", signed=form.kind == "int"))


def _bits(form: Form, number: int) -> Value:
    if not form.width:
        return number
    part = (number >> form.low_bit) & ((1 << form.width) - 1)
    if form.is_flag:
        return bool(part)
    if form.kind == "int" and part >> (form.width - 1):
        part -= 1 << form.width
    return part


def shortest_float32(number: float) -> float:
    """The shortest decimal that is this 32-bit float: 230.2, not 230.1999969482422."""
    for digits in (7, 8):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.unpack("f", struct.pack("f", short))[0] == number:
                return short
        except OverflowError:
            break
    return number


def sentinel_reason(value: Any, meaning: str, size: int = 0) -> str:
    """``sentinel FFFF: sensor error``; hexadecimal where the manual speaks of bytes, else as the value is written."""
    if size and type(value) is int:
        return f"sentinel {value & ((1 << 8 * size) - 1):0{2 * size}X}: {meaning}"
    return f"sentinel {value}: {meaning}"
