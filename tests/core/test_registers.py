"""Modbus words: every type and order comes back as it was put in, and every register is read exactly once."""

from __future__ import annotations

import math
import struct
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.model import ModbusCycle, ModbusRead
from gateway.core.profile import MAX_BITS, Form, Linear, Profile, Register, Transport
from gateway.core.registers import BlockRead, Fault, RegisterReader, all_zero, plan_reads, shortest_float32

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
FORMATS = {("int", 2): "h", ("uint", 2): "H", ("int", 4): "i", ("uint", 4): "I", ("int", 8): "q", ("uint", 8): "Q",
           ("float", 4): "f", ("float", 8): "d"}  # fmt: skip


def on_the_wire(data: bytes, order: str) -> list[int]:
    """Big-endian bytes as the words a device of that order sends: bytes swapped in words, words swapped, or both."""
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def read(register: Register, words: list[int], **more: object) -> object:
    cycle = ModbusCycle([ModbusRead(register.function, register.address, words, count=len(words))])
    return RegisterReader([register]).raw_values(cycle)[register.name]


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[str, int, float]:
    kind, size = draw(st.sampled_from(sorted(FORMATS)))
    if kind == "float":
        return kind, size, draw(st.floats(allow_nan=False, allow_infinity=False, width=32 if size == 4 else 64))
    low = -(2 ** (8 * size - 1)) if kind == "int" else 0
    return kind, size, draw(st.integers(low, low + 2 ** (8 * size) - 1))


@given(typed_values(), st.sampled_from(ORDERS))
def test_decode_of_encode_is_the_value_for_every_type_and_order(typed: tuple[str, int, float], order: str) -> None:
    kind, size, value = typed
    words = on_the_wire(struct.pack(">" + FORMATS[kind, size], value), order)
    got = read(Register("v", 3, 0, size // 2, Form(kind, size), order), words)
    if kind == "float" and size == 4:
        assert isinstance(got, float)
        assert struct.pack(">f", got) == struct.pack(">f", value)
    else:
        assert got == value


@pytest.mark.parametrize("order", ORDERS)
def test_bcd_in_every_order(order: str) -> None:
    words = on_the_wire(bytes.fromhex("12345678"), order)
    assert read(Register("v", 3, 0, 2, Form("bcd", 4), order), words) == 12345678
    bad = on_the_wire(bytes.fromhex("1234567A"), order)
    assert read(Register("v", 3, 0, 2, Form("bcd", 4), order), bad) == Fault("1234567A is not BCD")


def test_one_known_number_in_all_four_orders() -> None:
    """rules.md E.7.7: the bytes 43 66 33 33 read with each order."""
    expected = {"ABCD": 230.2, "CDAB": 4.1738e-08, "BADC": 2.3045e23, "DCBA": 4.1770e-08}
    for order, value in expected.items():
        got = read(Register("v", 4, 0, 2, Form("float", 4), order), [0x4366, 0x3333])
        assert got == pytest.approx(value, rel=1e-4)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@example(999999986991104.0)  # 1e15: more characters, fewer digits
def test_a_float32_is_shown_by_its_shortest_decimal(number: float) -> None:
    def digits(value: float) -> int:
        return len(Decimal(repr(value)).normalize().as_tuple().digits)

    short = shortest_float32(number)
    assert struct.unpack("f", struct.pack("f", short))[0] == number
    assert digits(short) <= digits(number)


def test_bits_of_a_register_flag_field_and_signed_field() -> None:
    words = [0x0802]
    assert read(Register("flag", 3, 8, 1, Form("uint", 2, 11, 1, True)), words) is True
    assert read(Register("flag", 3, 8, 1, Form("uint", 2, 0, 1, True)), words) is False
    assert read(Register("decimals", 3, 8, 1, Form("uint", 2, 0, 3)), words) == 2
    assert read(Register("signed", 3, 8, 1, Form("int", 2, 1, 15)), [0xF65C]) == -1234
    assert read(Register("flag", 3, 8, 1, Form("uint", 2, 8, 1, True), "DCBA"), [0x0100]) is False


def test_a_text_ends_at_its_first_zero() -> None:
    register = Register("name", 3, 0, 3, Form("text", 6))
    assert read(register, [0x5055, 0x4D50, 0x0041]) == "PUMP"
    assert read(register, [0xFFFF, 0, 0]) == Fault("the text is not UTF-8")
    assert read(Register("name", 3, 0, 2, Form("text", 4), "BADC"), [0x5550, 0x504D]) == "PUMP"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_no_number_is_a_fault(number: float) -> None:
    words = on_the_wire(struct.pack(">f", number), "ABCD")
    assert isinstance(read(Register("v", 3, 0, 2, Form("float", 4)), words), Fault)


def test_scale_and_sentinel_of_a_raw_value() -> None:
    register = Register("v", 3, 0, 1, Form("int", 2), scale=Linear(1, 10), sentinels={-1: "no sensor"})
    assert read(register, [153]) == 15.3
    assert read(register, [0xFFFF]) == Fault("sentinel FFFF: no sensor")


def test_a_failed_read_faults_its_registers_and_leaves_the_others() -> None:
    registers = [Register("a", 3, 0, 1, Form("uint", 2)), Register("b", 3, 50, 2, Form("float", 4))]
    reads = [ModbusRead(3, 0, [], "exception 02: illegal data address", 10), ModbusRead(3, 50, [0x4366, 0x3333])]
    values = RegisterReader(registers).raw_values(ModbusCycle(reads))
    assert values == {"a": Fault("read 3:0+10 failed: exception 02: illegal data address"), "b": 230.2}


def test_an_answered_block_counts_more_than_a_failed_one_over_the_same_register() -> None:
    register = Register("a", 3, 5, 1, Form("uint", 2))
    reads = [ModbusRead(3, 0, [], "timeout", 10), ModbusRead(3, 5, [7])]
    assert RegisterReader([register]).raw_values(ModbusCycle(reads)) == {"a": 7}


def test_a_short_answer_faults_only_what_it_lacks() -> None:
    registers = [Register("a", 3, 0, 1, Form("uint", 2)), Register("b", 3, 1, 2, Form("uint", 4))]
    values = RegisterReader(registers).raw_values(ModbusCycle([ModbusRead(3, 0, [1, 2], count=3)]))
    assert values == {"a": 1, "b": Fault("short answer: 2 of 3 words of 3:0+3")}


def test_a_word_that_is_none_faults_its_block() -> None:
    value = read(Register("a", 3, 0, 1, Form("uint", 2)), [70_000])
    assert value == Fault("read 3:0+1 failed: a word is not a number from 0 to 65535")


def test_the_same_reader_follows_a_cycle_that_changes_its_shape() -> None:
    reader = RegisterReader([Register("a", 3, 2, 1, Form("uint", 2))])
    assert reader.raw_values(ModbusCycle([ModbusRead(3, 0, [1, 2, 3])])) == {"a": 3}
    assert reader.raw_values(ModbusCycle([ModbusRead(3, 2, [9])])) == {"a": 9}
    assert reader.raw_values(ModbusCycle([ModbusRead(4, 2, [9])])) == {}
    for start in range(200):
        assert reader.raw_values(ModbusCycle([ModbusRead(3, start, [4])])) == ({"a": 4} if start == 2 else {})


def test_all_zero_needs_an_answer() -> None:
    assert all_zero(ModbusCycle([ModbusRead(3, 0, [0, 0]), ModbusRead(3, 50, [], "timeout", 2)]))
    assert not all_zero(ModbusCycle([ModbusRead(3, 0, [0, 1])]))
    assert not all_zero(ModbusCycle([ModbusRead(3, 0, [], "timeout", 2)]))


# -- the plan ---------------------------------------------------------------------------------------------------------


def profile_of(registers: list[Register], max_gap: int, max_block: int) -> Profile:
    return Profile(
        "t", ("pump",), Transport.MODBUS, (), registers=tuple(registers), max_gap=max_gap, max_block=max_block
    )


@st.composite
def register_maps(draw: st.DrawFn) -> list[Register]:
    """Registers that do not overlap by halves (two names for one register are allowed, as for bits)."""
    found: list[Register] = []
    for function in draw(st.lists(st.sampled_from([1, 3, 4]), min_size=1, max_size=3, unique=True)):
        address = draw(st.integers(0, 65000))
        for _ in range(draw(st.integers(1, 25))):
            count = 1 if function == 1 else draw(st.sampled_from([1, 1, 2, 4, 10]))
            if address + count > 65536:
                break
            form = Form("bool", 1) if function == 1 else Form("text", 2 * count)
            alone = draw(st.integers(0, 7)) == 0
            for _ in range(draw(st.integers(1, 2))):
                found.append(Register(f"r{len(found)}", function, address, count, form, alone=alone))
            address += count + draw(st.sampled_from([0, 0, 1, 5, 30, 300]))
    return draw(st.permutations(found))


@given(register_maps(), st.integers(0, 124), st.integers(10, 125))
def test_each_register_lies_in_exactly_one_block_and_no_block_is_over_the_limit(
    registers: list[Register], max_gap: int, max_block: int
) -> None:
    blocks = plan_reads(profile_of(registers, max_gap, max_block))
    for register in registers:
        holding = [
            block
            for block in blocks
            if block.function_code == register.function
            and block.address <= register.address
            and register.address + register.count <= block.address + block.count
        ]
        touching = [
            block
            for block in blocks
            if block.function_code == register.function
            and block.address < register.address + register.count
            and register.address < block.address + block.count
        ]
        assert len(holding) == len(touching) == 1
        if register.alone:
            assert holding == [BlockRead(register.function, register.address, register.count)]
    for block in blocks:
        assert 1 <= block.count <= (MAX_BITS if block.function_code == 1 else max_block)
        assert block.address + block.count <= 65536
        inside = [r for r in registers if r.function == block.function_code and block.address <= r.address]
        assert min(r.address for r in inside) == block.address  # a block begins and ends with something wanted
        ends = [r.address + r.count for r in inside if r.address < block.address + block.count]
        assert max(ends) == block.address + block.count


@given(register_maps(), st.integers(0, 124), st.integers(10, 125))
def test_reading_the_plan_gives_every_register_its_value(
    registers: list[Register], max_gap: int, max_block: int
) -> None:
    memory = {address: (address * 7919) % 65536 for address in range(65536)}
    reads = [
        ModbusRead(b.function_code, b.address, [memory[b.address + k] for k in range(b.count)], count=b.count)
        for b in plan_reads(profile_of(registers, max_gap, max_block))
    ]
    plain = [r if r.function == 1 else Register(r.name, r.function, r.address, 1, Form("uint", 2)) for r in registers]
    values = RegisterReader(plain).raw_values(ModbusCycle(reads))
    assert values == {r.name: bool(memory[r.address]) if r.function == 1 else memory[r.address] for r in plain}


def test_forty_points_over_two_hundred_registers_take_three_requests_at_most() -> None:
    registers = [Register(f"r{k}", 3, 5 * k, 1, Form("uint", 2)) for k in range(40)]
    assert plan_reads(profile_of(registers, 8, 125)) == (BlockRead(3, 0, 121), BlockRead(3, 125, 71))


def test_a_profile_without_registers_reads_nothing() -> None:
    assert plan_reads(profile_of([], 8, 125)) == ()


@given(st.lists(st.builds(
    ModbusRead, st.integers(0, 6), st.integers(-5, 70000), st.lists(st.integers(-5, 70000), max_size=20),
    st.none() | st.text(max_size=5), st.integers(-5, 200),
), max_size=4))  # fmt: skip
def test_no_cycle_raises(reads: list[ModbusRead]) -> None:
    registers = [
        Register("a", 3, 0, 1, Form("uint", 2)), Register("b", 3, 1, 2, Form("float", 4), "DCBA"),
        Register("c", 4, 3, 4, Form("text", 8)), Register("d", 1, 2, 1, Form("bool", 1)),
        Register("e", 3, 4, 2, Form("bcd", 4), "BADC"), Register("f", 3, 4, 1, Form("int", 2, 3, 5)),
    ]  # fmt: skip
    RegisterReader(registers).raw_values(ModbusCycle(reads))
    all_zero(ModbusCycle(reads))
