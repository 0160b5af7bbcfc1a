"""Modbus: which blocks to read for a profile, and the words that come back → raw values.

The read plan: every register a profile names lies whole in exactly one block; neighbours less than ``max_gap`` apart
share one; no block is longer than the protocol (125 registers, 2000 bits) or the profile allows; a register that must
be asked for alone is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
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

MAX_LAYOUTS = 64  # shapes of a cycle: one when all is well, a few more for blocks that fail or come short
_FLOATS = {4: "f", 8: "d"}


def plan_reads(profile: Profile) -> tuple[BlockRead, ...]:
    """The requests of one polling cycle, in order of function code and address; () for a profile without registers."""
    alone = sorted({BlockRead(r.function, r.address, r.count) for r in profile.registers if r.alone})
    blocks: list[BlockRead] = []
    for register in sorted(profile.registers, key=lambda r: (r.function, r.address, -r.count)):
        mine = BlockRead(register.function, register.address, register.count)
        if any(_overlap(mine, other) for other in alone):
            continue
        limit = MAX_BITS if register.is_bit_space else min(profile.max_block, MAX_REGISTERS)
        end = register.address + register.count
        if blocks and blocks[-1].function_code == register.function:
            last = blocks[-1]
            stop = last.address + last.count
            if end <= stop:
                continue
            wider = BlockRead(last.function_code, last.address, end - last.address)
            near = register.address - stop <= profile.max_gap and wider.count <= limit
            if near and not any(_overlap(wider, other) for other in alone):
                blocks[-1] = wider
                continue
        blocks.append(mine)
    return tuple(sorted([*blocks, *alone]))


def _overlap(one: BlockRead, other: BlockRead) -> bool:
    return (
        one.function_code == other.function_code
        and one.address < other.address + other.count
        and other.address < one.address + one.count
    )


class RegisterReader:
    """Words → raw values for one profile; where each register stands in the answers is worked out once per shape of the
    cycle, not once per cycle."""

    def __init__(self, registers: Sequence[Register]) -> None:
        self._registers = tuple(registers)
        self._readers = {register.name: _reader(register) for register in registers}
        self._layouts: dict[tuple[tuple[int, int, int, int, bool], ...], list[_Place]] = {}

    def raw_values(self, cycle: ModbusCycle) -> dict[str, RawValue]:
        """The raw value of every register that the cycle asked for; a failed or short read makes Faults of its
        registers. Registers outside every read are left out: nobody asked for them."""
        shape = tuple([(r.function_code, r.address, len(r.words), r.count, r.error is None) for r in cycle.reads])
        layout = self._layouts.get(shape)
        if layout is None:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[shape] = self._lay_out(cycle)
        blocks = [_Block(read) for read in cycle.reads]
        values: dict[str, RawValue] = {}
        for name, index, first, reader in layout:
            block = blocks[index]
            values[name] = reader(block, first) if block.fault is None and reader is not None else block.why(first)
        return values

    def _lay_out(self, cycle: ModbusCycle) -> list[_Place]:
        places: list[_Place] = []
        for register in self._registers:
            found: _Place | None = None
            for index, read in enumerate(cycle.reads):
                first = register.address - read.address
                asked = max(read.count, len(read.words))
                if first < 0 or read.function_code != register.function or first + register.count > asked:
                    continue
                whole = first + register.count <= len(read.words)
                found = (register.name, index, first, self._readers[register.name] if whole else None)
                if read.error is None:
                    break  # an answered block counts more than a failed one that overlaps it
            if found is not None:
                places.append(found)
        return places


def all_zero(cycle: ModbusCycle) -> bool:
    """Every word of every answer is 0, and there is at least one."""
    answered = [read for read in cycle.reads if read.error is None and read.words]
    return bool(answered) and not any(any(read.words) for read in answered)


class _Block:
    """One read; its words as bytes, in both byte orders, made when first needed. ``fault``: why none can be used."""

    __slots__ = ("_big", "_little", "fault", "read", "words")

    def __init__(self, read: ModbusRead) -> None:
        self.read = read
        self.words = words = read.words
        self._big: bytes | None = None
        self._little: bytes | None = None
        self.fault: str | None = read.error
        if words and read.error is None and not (min(words) >= 0 and max(words) <= 0xFFFF):
            self.fault = "a word is not a number from 0 to 65535"

    def why(self, first: int) -> Fault:
        """Why the register at ``first`` has no value."""
        read = self.read
        asked = max(read.count, len(self.words))
        where = f"{read.function_code}:{read.address}+{asked}"
        if self.fault is not None:
            return Fault(f"read {where} failed: {self.fault}")
        return Fault(f"short answer: {len(self.words)} of {asked} words of {where}")

    @property
    def big(self) -> bytes:
        if self._big is None:
            self._big = struct.pack(f">{len(self.words)}H", *self.words)
        return self._big

    @property
    def little(self) -> bytes:
        if self._little is None:
            self._little = struct.pack(f"<{len(self.words)}H", *self.words)
        return self._little


_Reader: TypeAlias = Callable[[_Block, int], RawValue]
_Place: TypeAlias = tuple[str, int, int, _Reader | None]


def _reader(register: Register) -> _Reader:
    """A function that takes the register's value out of a block; the usual 16-bit ones read the word itself."""
    form, order, scale, sentinels = register.form, register.order, register.scale, register.sentinels
    if register.is_bit_space:
        return lambda block, first: bool(block.words[first])
    bare = scale.is_identity and not sentinels and order in ("ABCD", "CDAB")
    if bare and form.size == 2 and form.kind in ("uint", "int"):
        if form.is_flag:
            bit = form.low_bit
            return lambda block, first: bool(block.words[first] >> bit & 1)
        if form.kind == "uint" and not form.width:
            return lambda block, first: block.words[first]
    size = 2 * register.count
    # The order on the wire, and the packing and reading that undo it: see docs/profiles.md, "Word orders".
    little = order in ("CDAB", "DCBA")
    if order in ("ABCD", "DCBA"):
        return lambda block, first: finish(form, block.big[2 * first : 2 * first + size], little, scale, sentinels)
    return lambda block, first: finish(form, block.little[2 * first : 2 * first + size], little, scale, sentinels)


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
    kind = form.kind
    if kind == "uint" or kind == "int":
        number = int.from_bytes(data, "little" if little else "big", signed=kind == "int")
        return _bits(form, number) if form.width else number
    if kind == "float":
        real = struct.unpack(("<" if little else ">") + _FLOATS[form.size], data)[0]
        if not math.isfinite(real):
            return Fault("not a number (NaN)" if math.isnan(real) else "not a number (infinite)")
        return shortest_float32(real) if form.size == 4 else float(real)
    if kind == "bcd":
        digits = (data[::-1] if little else data).hex()
        return int(digits) if digits.isdigit() else Fault(f"{digits.upper()} is not BCD")
    text = data.split(b"\0", 1)[0]
    try:
        return text.decode("utf-8").strip()
    except UnicodeDecodeError:
        return Fault("the text is not UTF-8")


def _bits(form: Form, number: int) -> Value:
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
