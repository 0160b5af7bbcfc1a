"""A value for a point becomes words, and the words read as that value again."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.modbus_write import WriteRequest, write_request
from gateway.core.model import ModbusCycle, ModbusRead, Quality, Value
from gateway.core.profile import Form, Linear, Point, Register, State, ValueType, Writable
from gateway.core.registers import RegisterReader
from tests.core.test_registers import ORDERS, typed_values


def point(register: Register, low: float = -math.inf, high: float = math.inf, **more: object) -> Point:
    return Point(register.name, register.name, write=Writable(register, low, high), **more)  # type: ignore[arg-type]


def holding(kind: str = "uint", size: int = 2, order: str = "ABCD", address: int = 10) -> Register:
    return Register("v", 3, address, size // 2, Form(kind, size), order)


def read_back(register: Register, request: WriteRequest) -> object:
    """What a device that keeps what it is told answers to the next read."""
    cycle = ModbusCycle([ModbusRead(register.function, request.address, list(request.words))])
    return RegisterReader([register]).raw_values(cycle)[register.name]


@given(typed_values(), st.sampled_from(ORDERS))
def test_what_is_written_reads_as_what_was_asked_for_every_type_and_order(
    typed: tuple[str, int, float], order: str
) -> None:
    kind, size, value = typed
    register = holding(kind, size, order)
    request = write_request(point(register), value)
    assert (request.function_code, request.address) == (6 if size == 2 else 16, 10)
    assert len(request.words) == size // 2
    got = read_back(register, request)
    assert got == request.value
    if kind == "float" and size == 4:
        assert isinstance(got, float)
        assert struct.pack(">f", got) == struct.pack(">f", value)
    else:
        assert got == value


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.sampled_from([Fraction(1, 10), Fraction(1, 100), Fraction(1, 1000), Fraction(18, 5), Fraction(-2), Fraction(7)]),
    st.sampled_from([0.0, -273.15, 4.0]),
    st.sampled_from(ORDERS),
)
def test_every_value_a_scaled_register_can_say_can_be_written_back(
    raw: int, factor: Fraction, offset: float, order: str
) -> None:
    scale, register = Linear.of(factor, offset), holding("int", 4, order)
    request = write_request(point(register, -math.inf, math.inf, scale=scale), scale(raw))
    assert read_back(register, request) == raw
    assert request.value == scale(raw)


def test_a_number_between_two_steps_becomes_the_nearer_and_the_request_says_which() -> None:
    level = point(holding(), 0, 6, scale=Linear(1, 1000), unit="m")
    assert write_request(level, 2.5) == WriteRequest(6, 10, (2500,), 2.5)
    assert write_request(level, 2.50049) == WriteRequest(6, 10, (2500,), 2.5)
    assert write_request(level, 2.5005) == WriteRequest(6, 10, (2501,), 2.501)
    assert write_request(point(holding("float", 4), 0, 1), 0.1).value == 0.1


def test_a_coil_is_one_bit_and_may_be_inverted() -> None:
    coil = Register("v", 1, 7, 1, Form("bool", 1))
    assert write_request(point(coil, type=ValueType.BOOL), True) == WriteRequest(5, 7, (1,), True)
    assert write_request(point(coil, type=ValueType.BOOL, invert=True), True) == WriteRequest(5, 7, (0,), True)
    named = {True: State("open"), False: State("closed")}
    assert write_request(point(coil, type=ValueType.TEXT, states=named), "closed") == WriteRequest(5, 7, (0,), "closed")


STATES: dict[Value, State] = {0: State("auto"), 4: State("slow"), 9: State("torn", Quality.BAD, "broken"), 1: State(1)}
REFUSED: list[tuple[Point, object, str]] = [
    (Point("v", "v"), 1, "can only be read"),
    (point(holding(), 0, 10), 10.5, "from 0 to 10, not to 10.5"),
    (point(holding(), 0, 10, unit="m"), -1, "from 0 to 10 m, not to -1"),
    (point(holding(), 0, 10), math.nan, "not to nan"),
    (point(holding(), 0, 10), True, "is a number, not True"),
    (point(holding(), 0, 10), "3", "is a number, not '3'"),
    (point(holding(), 0, 10), None, "is a number, not None"),
    (point(holding(), 0, 10, type=ValueType.INTEGER), 2.5, "a whole number"),
    (point(holding(), 0, 10, smallest=0.5), 0.1, "0 or at least 0.5"),
    (point(holding(), 0, 70000), 65536, "65536 does not fit into uint16"),
    (point(holding("int", 2), -40000, 0), -32769, "does not fit into int16"),
    (point(holding("float", 4), 0, 1e300), 1e39, "does not fit into float32"),
    (point(holding(), 0, 65535, sentinels={65535: "sensor fault"}), 65535, "takes 65535 for: sensor fault"),
    (point(holding(), states=STATES), "fast", "one of 'auto', 'slow', 1, not 'fast'"),
    (point(holding(), states=STATES), "torn", "one of"),
    (point(holding(), states=STATES), True, "one of"),
    (point(holding(), states=STATES), ["auto"], "one of"),
    (point(Register("v", 1, 0, 1, Form("bool", 1)), type=ValueType.BOOL), 1, "true or false, not 1"),
]


@pytest.mark.parametrize(("where", "value", "reason"), REFUSED)
def test_a_value_that_cannot_be_meant_is_refused_with_the_reason(where: Point, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        write_request(where, value)
    assert reason in str(caught.value)


def test_rounding_never_leaves_the_limits() -> None:
    steps_of_three = point(holding(), 0, 10, scale=Linear(3))
    assert write_request(steps_of_three, 10).value == 9
    with pytest.raises(ValueError, match="nearest to 11 that the device knows is 12: beyond the limits"):
        write_request(point(holding(), 0, 11, scale=Linear(3)), 11)


def test_a_state_is_written_as_its_code() -> None:
    assert write_request(point(holding(), states=STATES), "slow") == WriteRequest(6, 10, (4,), "slow")
    assert write_request(point(holding(), states=STATES), 1.0) == WriteRequest(6, 10, (1,), 1)
