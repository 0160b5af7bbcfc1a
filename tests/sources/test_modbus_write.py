"""Commands over Modbus: written once, before any read that waits, confirmed byte for byte, never sent again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.core.modbus_address import Line
from gateway.core.modbus_write import WriteRequest, write_request
from gateway.core.model import HOUR, SECOND
from gateway.core.profile import Form, Point, Register, Writable
from gateway.core.registers import BlockRead, RegisterReader
from gateway.errors import Rejected, Unavailable
from gateway.retry import Backoff
from gateway.sources import modbus
from gateway.sources.modbus import MAX_COMMANDS, ModbusEndpoint, ModbusSource, ModbusUnit
from tests.servers import free_port
from tests.sources.conftest import Running
from tests.sources.faulty_modbus import Away, FaultyModbus, Request, faulty_modbus
from tests.sources.held_intake import HeldIntake, eventually
from tests.sources.test_modbus import crc, cycles, good, over, polling, rtu_answer, rtu_converter, tcp, unit

SET = WriteRequest(6, 12, (2500,))
CALM = 2 * SECOND  # for a device that does answer, however busy this machine is
UNKNOWN = "it is not known whether the device carried it out"


@dataclass
class Plc:
    """pymodbus's own server, slow on demand; ``seen``: function code and address of every request, in order."""

    port: int = 0
    wait_s: float = 0.0
    refuse: ExcCodes | None = None
    seen: list[tuple[int, int]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def act(
        self, function_code: int, _start: int, address: int, _count: int, _registers: list[int], given: Any
    ) -> ExcCodes | None:
        if function_code > 4 and given is None:
            return None  # pymodbus reads what it wrote for its answer; nobody asked for that
        self.seen.append((function_code, address))
        self.asked.set()
        await asyncio.sleep(self.wait_s)
        return self.refuse if given is not None else None

    @property
    def writes(self) -> list[tuple[int, int]]:
        return [(code, address) for code, address in self.seen if code > 4]


@asynccontextmanager
async def plc(unit_id: int = 1) -> AsyncIterator[Plc]:
    made = Plc()
    bits = [SimData(0, values=[False] * 32, datatype=DataType.BITS)]
    words = [SimData(0, values=[0] * 200, datatype=DataType.REGISTERS)]
    device = SimDevice(unit_id, simdata=(bits, bits, words, words), action=made.act)
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    listener: Any = server.transport
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def polled(source: ModbusSource) -> None:
    """The workers are there and have a connection."""
    await eventually(lambda: any(endpoint.connected for endpoint in source.stats()))


def echo(request: Request) -> bytes:
    """What the standard wants for function codes 5, 6 and 16: the first five bytes again."""
    return request.frame(struct.pack(">BHH", request.function_code, request.address, request.count))


async def write_answers(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
    return echo(request) if request.function_code > 4 else request.answer()


# -- a device that is well --------------------------------------------------------------------------------------------


async def test_a_coil_a_register_and_a_float_in_two_word_orders_are_written_and_read_back(running: Running) -> None:
    reads = (BlockRead(1, 5, 1), BlockRead(3, 12, 1), BlockRead(3, 20, 2), BlockRead(3, 30, 2))
    registers = [Register(order, 3, at, 2, Form("float", 4), order) for order, at in (("ABCD", 20), ("CDAB", 30))]
    intake = HeldIntake(commit_at_once=True)
    async with plc(7) as device:
        source = polling((device.port, [unit("plc", 7, *reads)]), timeout=CALM)
        running(source, intake)
        await polled(source)
        await source.write("plc", WriteRequest(5, 5, (1,)))
        await source.write("plc", SET)
        for register in registers:
            point = Point(register.name, register.name, write=Writable(register, -1000, 1000))
            await source.write("plc", write_request(point, -12.625))
        seen = len(intake.frames)
        await intake.count(seen + 2)
    newest = cycles(intake.frames)[-1]
    assert [read.words for read in newest.reads[:2]] == [[1], [2500]]
    assert newest.reads[2].words == newest.reads[3].words[::-1]
    assert RegisterReader(registers).raw_values(newest) == {"ABCD": -12.625, "CDAB": -12.625}
    assert device.writes == [(5, 5), (6, 12), (16, 20), (16, 30)]
    assert source.stats()[0].writes == 4


async def test_a_command_goes_before_the_reads_that_wait_also_in_the_middle_of_a_cycle(running: Running) -> None:
    reads = tuple(BlockRead(3, 20 * block, 10) for block in range(6))
    intake = HeldIntake(commit_at_once=True)
    async with plc() as device:
        device.wait_s = 0.05
        source = polling((device.port, [unit("a", 1, *reads)]), timeout=CALM)
        running(source, intake)
        await eventually(lambda: (3, 20) in device.seen)
        in_flight = len(device.seen)
        await asyncio.gather(source.write("a", SET), source.write("a", WriteRequest(6, 13, (1,))))
        await intake.count(1)
    assert device.seen[:in_flight] == [(3, 0), (3, 20)][:in_flight]
    assert device.seen[in_flight : in_flight + 3] == [(6, 12), (6, 13), (3, 40)]
    assert [read.error for read in cycles(intake.frames)[0].reads] == [None] * 6, "the cycle it cut into is whole"


async def test_an_idle_line_is_woken_and_the_unit_is_read_again_at_once(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with plc() as device:
        monkeypatch.setattr(modbus, "START_SPREAD_S", 0.0)
        source = polling((device.port, [unit("a", 1, BlockRead(3, 12, 1), interval=HOUR)]), timeout=CALM)
        running(source, intake)
        await intake.count(1)
        async with asyncio.timeout(2):
            await source.write("a", SET)
            await intake.count(2)
    assert [cycle.reads[0].words for cycle in cycles(intake.frames)] == [[0], [2500]]


async def test_a_full_intake_does_not_hold_up_a_command(running: Running) -> None:
    intake = HeldIntake(full_above=1)
    async with plc() as device:
        source = polling((device.port, [unit("a", 1, BlockRead(3, 12, 1))]), timeout=CALM)
        running(source, intake)
        await intake.count(1)
        await asyncio.sleep(0.1)
        async with asyncio.timeout(2):
            await source.write("a", SET)
        assert device.seen == [(3, 12), (6, 12)]
        intake.make_room()
        await intake.count(2)


async def test_the_pause_a_device_wants_is_kept_before_and_after_a_command(running: Running) -> None:
    times: list[float] = []

    async def note(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        times.append(asyncio.get_running_loop().time())
        return await write_answers(request, writer)

    intake = HeldIntake(commit_at_once=True)
    async with faulty_modbus(note) as device:
        slow = ModbusUnit("a", 1, (BlockRead(3, 10, 4),), SECOND // 20, pause=SECOND // 10)
        source = over(tcp("127.0.0.1", device.port), slow)
        running(source, intake)
        await eventually(lambda: len(times) == 2)
        await source.write("a", SET)
        await eventually(lambda: len(times) >= 4)
        codes = [request.function_code for request in device.requests]
    assert codes.count(6) == 1
    assert min(later - sooner for sooner, later in pairwise(times)) >= 0.095


# -- what can go wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (ExcCodes.ILLEGAL_FUNCTION, Rejected, "exception 01: illegal function"),
        (ExcCodes.ILLEGAL_VALUE, Rejected, "exception 03: illegal data value"),
        (ExcCodes.DEVICE_BUSY, Unavailable, "exception 06: device busy"),
        (ExcCodes.ACKNOWLEDGE, Unavailable, f"exception 05: acknowledge, still working on it; {UNKNOWN}"),
    ],
)
async def test_a_device_that_refuses_says_why_and_keeps_its_connection(
    running: Running, code: ExcCodes, error: type[Exception], said: str
) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with plc() as device:
        device.refuse = code
        source = polling((device.port, [unit("a", 1, BlockRead(3, 12, 1))]), timeout=CALM)
        running(source, intake)
        await polled(source)
        with pytest.raises(error) as caught:
            await source.write("a", SET)
        assert str(caught.value) == said
        await intake.count(len(intake.frames) + 2)
        assert device.writes == [(6, 12)]
        assert source.stats()[0].reconnects == 0


async def test_a_command_without_an_answer_is_in_doubt_and_never_sent_again(running: Running) -> None:
    async def deaf(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return None if request.function_code > 4 else request.answer()

    intake = HeldIntake(commit_at_once=True)
    async with faulty_modbus(deaf) as device:
        source = polling((device.port, [unit("a")]))
        running(source, intake)
        await polled(source)
        with pytest.raises(Unavailable, match=f"no answer within 0.2 s; {UNKNOWN}"):
            await source.write("a", SET)
        before = good(intake.frames)
        await intake.until(lambda frames: good(frames) >= before + 4)
        assert [request.function_code for request in device.requests].count(6) == 1
        assert device.connections == 2, "a late confirmation must meet no later request"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda r: r.frame(struct.pack(">BHH", 6, 12, 2501)), "another write was confirmed: 00 0c 09 c5"),
        (lambda r: r.frame(struct.pack(">BHH", 6, 13, 2500)), "another write was confirmed: 00 0d 09 c4"),
        (lambda r: r.frame(struct.pack(">BHHB", 6, 12, 2500, 0)), "another write was confirmed"),
        (lambda r: r.frame(struct.pack(">BHH", 16, 12, 2500)), "function code 16 instead of 6"),
        (lambda r: r.frame(struct.pack(">BHH", 6, 12, 2500), transaction=r.transaction ^ 1), "another request"),
        (lambda r: r.frame(struct.pack(">BHH", 6, 12, 2500), unit=9), "another unit"),
        (lambda r: echo(r) + echo(r), "more bytes than one answer"),
    ],
)
async def test_what_is_not_exactly_the_confirmation_leaves_the_command_in_doubt(
    running: Running, answer: Callable[[Request], bytes], said: str
) -> None:
    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        return answer(request) if request.function_code > 4 else request.answer()

    intake = HeldIntake(commit_at_once=True)
    async with faulty_modbus(script) as device:
        source = polling((device.port, [unit("a")]))
        running(source, intake)
        await polled(source)
        with pytest.raises(Unavailable) as caught:
            await source.write("a", SET)
        assert said in str(caught.value)
        assert str(caught.value).endswith(UNKNOWN)
        before = good(intake.frames)
        await intake.until(lambda frames: good(frames) >= before + 2)
        assert [request.function_code for request in device.requests].count(6) == 1


async def test_a_device_that_hangs_up_on_a_command_leaves_it_in_doubt(running: Running) -> None:
    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.function_code > 4:
            raise Away
        return request.answer()

    intake = HeldIntake(commit_at_once=True)
    async with faulty_modbus(script) as device:
        source = polling((device.port, [unit("a")]))
        running(source, intake)
        await polled(source)
        with pytest.raises(Unavailable, match=f"closed in the middle of a request; {UNKNOWN}"):
            await source.write("a", SET)
        await intake.count(len(intake.frames) + 2)
        assert [request.function_code for request in device.requests].count(6) == 1


async def test_a_device_that_cannot_be_reached_is_tried_once_and_nothing_is_kept_for_later(running: Running) -> None:
    port = free_port()
    intake = HeldIntake(commit_at_once=True)
    source = polling((port, [unit("a")]))
    running(source, intake)
    await eventually(lambda: bool(source.stats()) and source.stats()[0].reason is not None)
    with pytest.raises(Unavailable, match=rf"cannot connect to 127.0.0.1:{port}; it was not sent"):
        await source.write("a", SET)
    with pytest.raises(Unavailable, match="b is not polled now"):
        await source.write("b", SET)
    async with plc() as device:
        source.poll([ModbusEndpoint(Line((("127.0.0.1", device.port),)), (unit("a", 1, BlockRead(3, 12, 1)),))])
        await intake.until(lambda frames: good(frames) >= 2)
        assert device.writes == []


async def test_a_line_that_was_down_is_connected_for_a_command(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt of its own would come much later."""
    monkeypatch.setattr(Backoff, "next_delay_s", lambda self: 60.0)
    port = free_port()
    intake = HeldIntake(commit_at_once=True)
    source = polling((port, [unit("a")]))
    running(source, intake)
    await eventually(lambda: bool(source.stats()) and source.stats()[0].reason is not None)
    async with faulty_modbus_at(port) as seen:
        async with asyncio.timeout(5):
            await source.write("a", SET)
            await intake.until(lambda frames: good(frames) >= 1)
        assert seen[0] == 6


@asynccontextmanager
async def faulty_modbus_at(port: int) -> AsyncIterator[list[int]]:
    """A device on ``port``; the function codes it was asked."""
    device, seen = FaultyModbus(write_answers), list[int]()

    async def note(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        seen.append(request.function_code)
        return await write_answers(request, writer)

    device.script, device.port = note, port
    await device.start()
    try:
        yield seen
    finally:
        await device.stop()


async def test_more_commands_than_a_line_can_hold_are_refused_at_once(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with plc() as device:
        device.wait_s = 0.1
        source = polling((device.port, [unit("a", 1, BlockRead(3, 12, 1))]), timeout=CALM)
        running(source, intake)
        await device.asked.wait()
        asked = [source.write("a", WriteRequest(6, 12, (n,))) for n in range(MAX_COMMANDS + 4)]
        device.wait_s = 0.0
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert len(refused) == 4
    assert all("16 commands already wait" in str(outcome) for outcome in refused)
    assert len(device.writes) == MAX_COMMANDS


async def test_a_command_whose_caller_has_gone_is_not_sent(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with plc() as device:
        device.wait_s = 0.2
        source = polling((device.port, [unit("a", 1, BlockRead(3, 12, 1))]), timeout=CALM)
        running(source, intake)
        await device.asked.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await source.write("a", SET)
        await intake.count(2)
        assert device.writes == []


async def test_commands_that_wait_when_the_polling_ends_are_answered(running: Running) -> None:
    async def hang(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return None

    async with faulty_modbus(hang) as device:
        source = polling((device.port, [unit("a")]), timeout=30 * SECOND)
        task = running(source, HeldIntake(commit_at_once=True))
        await eventually(lambda: len(device.requests) == 1)
        waiting = asyncio.ensure_future(source.write("a", SET))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(Unavailable, match="no longer polled"):
            await waiting
        with pytest.raises(Unavailable, match="no longer polled"):
            await source.write("a", SET)


# -- RTU --------------------------------------------------------------------------------------------------------------


def framed(body: bytes) -> bytes:
    return body + crc(body)


def rtu_device(request: bytes) -> bytes:
    return framed(request[:6]) if request[1] in (5, 6) else rtu_answer(request)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame, None),
        (lambda frame: framed(frame[:4] + b"\0\1"), "another write was confirmed"),
        (lambda frame: framed(bytes([frame[0], 0x86, 2])), "exception 02"),
        (lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]), "checksum"),
        (lambda frame: frame[:7], "no answer within"),
    ],
)
async def test_a_command_in_rtu_frames(running: Running, change: Callable[[bytes], bytes], said: str | None) -> None:
    def answer(request: bytes) -> bytes:
        return change(rtu_device(request)) if request[1] == 6 else rtu_answer(request)

    intake = HeldIntake(commit_at_once=True)
    async with rtu_converter(answer) as port:
        source = over(tcp("127.0.0.1", port, rtu=True), unit("a", 3))
        running(source, intake)
        await polled(source)
        if said is None:
            await source.write("a", SET)
        else:
            with pytest.raises((Rejected, Unavailable), match=said):
                await source.write("a", SET)
        before = good(intake.frames)
        await intake.until(lambda frames: good(frames) >= before + 2)


async def test_a_command_on_a_serial_line(running: Running) -> None:
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    os.set_blocking(master, False)
    loop = asyncio.get_running_loop()
    waiting = bytearray()

    def hear() -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            waiting.extend(os.read(master, 256))
        while len(waiting) >= 8:
            request = bytes(waiting[:8])
            del waiting[:8]
            os.write(master, rtu_device(request))

    loop.add_reader(master, hear)
    source = over(Line((), True, os.ttyname(slave)), unit("a", 1))
    try:
        running(source, HeldIntake(commit_at_once=True))
        await polled(source)
        await source.write("a", WriteRequest(5, 3, (1,)))
        await source.write("a", SET)
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)
    assert source.stats()[0].writes == 2
