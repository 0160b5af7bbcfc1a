"""gateway.sources.modbus against pymodbus's own server, and against one that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import random
import struct
import tty
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from structlog.testing import capture_logs

from gateway.core.modbus_address import Line, parse_address
from gateway.core.model import SECOND, FrameKind, Micros, ModbusCycle, ModbusRead
from gateway.core.registers import BlockRead
from gateway.errors import ConfigError
from gateway.sources import modbus
from gateway.sources.modbus import (
    ModbusEndpoint,
    ModbusOptions,
    ModbusSource,
    ModbusUnit,
    endpoints,
)
from tests.servers import free_port
from tests.sources.conftest import Running
from tests.sources.faulty_modbus import Away, FaultyModbus, Request, faulty_modbus, well
from tests.sources.held_intake import HeldIntake, Offered, eventually

TIMEOUT: Micros = SECOND // 5
QUICK: Micros = SECOND // 20
LEVEL = BlockRead(3, 10, 4)


def unit(device: str, number: int = 1, *reads: BlockRead, interval: Micros = QUICK) -> ModbusUnit:
    return ModbusUnit(device, number, reads or (LEVEL,), interval)


def polling(*endpoints: tuple[int, Sequence[ModbusUnit]], timeout: Micros = TIMEOUT) -> ModbusSource:
    wanted = tuple(ModbusEndpoint(Line((("127.0.0.1", port),)), tuple(units)) for port, units in endpoints)
    return ModbusSource(ModbusOptions(wanted, timeout))


def cycles(frames: Sequence[Offered], device: str | None = None) -> list[ModbusCycle]:
    return [
        msgspec.msgpack.decode(frame.payload, type=ModbusCycle)
        for frame in frames
        if device is None or frame.address == device
    ]


def reads(frames: Sequence[Offered], device: str | None = None) -> list[ModbusRead]:
    return [read for cycle in cycles(frames, device) for read in cycle.reads]


def good(frames: Sequence[Offered], device: str | None = None) -> int:
    return sum(read.error is None for read in reads(frames, device))


def send_later(writer: asyncio.StreamWriter, delay_s: float, data: bytes) -> None:
    """If the line is still there then."""

    def send() -> None:
        if not writer.is_closing():
            writer.write(data)

    asyncio.get_running_loop().call_later(delay_s, send)


def errors(frames: Sequence[Offered], device: str | None = None) -> list[str]:
    return [read.error for read in reads(frames, device) if read.error is not None]


# -- a device that is well --------------------------------------------------------------------------------------------


async def test_all_four_tables_are_read_as_they_are(running: Running) -> None:
    def table(values: list[int] | list[bool], datatype: DataType) -> list[SimData]:
        return [SimData(0, values=values, datatype=datatype)]

    bits = [index % 3 == 0 for index in range(32)]
    device = SimDevice(
        7,
        simdata=(
            table(bits, DataType.BITS),
            table([not bit for bit in bits], DataType.BITS),
            table(list(range(100, 150)), DataType.REGISTERS),
            table([65535, 0, 32768, 1], DataType.REGISTERS),
        ),
    )
    server = ModbusTcpServer(device, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    listener: Any = server.transport
    port = listener.sockets[0].getsockname()[1]
    blocks = (BlockRead(1, 2, 11), BlockRead(2, 0, 3), BlockRead(3, 20, 3), BlockRead(4, 0, 4), BlockRead(3, 200, 1))
    intake = HeldIntake()
    try:
        running(polling((port, [unit("plc", 7, *blocks)])), intake)
        await intake.count(1)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
    frame = intake.frames[0]
    assert (frame.kind, frame.source, frame.address) == (FrameKind.MODBUS, "modbus", "plc")
    assert cycles([frame])[0].reads == [
        ModbusRead(1, 2, [int(bit) for bit in bits[2:13]], None, 11),
        ModbusRead(2, 0, [int(not bit) for bit in bits[:3]], None, 3),
        ModbusRead(3, 20, [120, 121, 122], None, 3),
        ModbusRead(4, 0, [65535, 0, 32768, 1], None, 4),
        ModbusRead(3, 200, [], "exception 02: illegal data address", 1),
    ]


async def test_one_frame_for_each_unit_and_cycle_over_one_connection(running: Running) -> None:
    async with faulty_modbus() as server:
        intake = HeldIntake()
        units = [unit(f"meter-{number}", number, LEVEL, BlockRead(4, 0, 2)) for number in (1, 2, 3)]
        running(polling((server.port, units)), intake)
        await intake.until(lambda frames: all(good(frames, u.device_id) >= 6 for u in units))
        assert server.connections == 1
        for u in units:
            for cycle in cycles(intake.frames, u.device_id):
                base = 1000 * u.unit_id
                assert cycle.reads == [
                    ModbusRead(3, 10, [base + 10, base + 11, base + 12, base + 13], None, 4),
                    ModbusRead(4, 0, [base, base + 1], None, 2),
                ]


async def test_a_full_intake_stops_the_polling(running: Running) -> None:
    async with faulty_modbus() as server:
        intake = HeldIntake(full_above=3)
        source = polling((server.port, [unit("plc")]))
        running(source, intake)
        await intake.count(3)
        await asyncio.sleep(0.2)
        assert len(intake.frames) == 3
        intake.make_room()
        await intake.count(5)
        assert source.stats()[0].overruns >= 2


# -- answers that are none --------------------------------------------------------------------------------------------

WRONG: list[tuple[str, Callable[[Request], bytes]]] = [
    ("another request: transaction", lambda r: r.answer(transaction=r.transaction ^ 1)),
    ("another request: transaction 0", lambda r: r.answer(transaction=0)),
    ("another unit: 9 instead of 1", lambda r: r.answer(unit=9)),
    ("another unit: 0 instead of 1", lambda r: r.answer(unit=0)),
    ("function code 4 instead of 3", lambda r: r.answer(function_code=4)),
    ("function code 132 instead of 3", lambda r: r.answer(function_code=0x84)),
    ("short answer: 6 bytes instead of 8", lambda r: r.answer(words=[6666] * (r.count - 1))),
    ("short answer: 0 bytes instead of 8", lambda r: r.answer(words=[])),
    ("long answer: 10 bytes instead of 8", lambda r: r.answer(words=[6666] * (r.count + 1))),
    ("short answer", lambda r: r.answer(byte_count=2 * r.count - 2)),
    ("answer", lambda r: r.answer(byte_count=200)),
    ("protocol id 7", lambda r: r.answer(protocol=7)),
    ("length 0", lambda r: r.answer(length=0)),
    ("length 2", lambda r: r.answer(length=2)),
    ("length 3000", lambda r: r.answer(length=3000)),
    ("more bytes than one answer", lambda r: r.answer() + r.answer()),
    ("more bytes than one answer", lambda r: r.answer() + b"\x00"),
    ("no answer within 0.2 s", lambda r: r.answer()[:-1]),
    ("no answer within 0.2 s", lambda r: r.answer()[:3]),
    ("no answer within 0.2 s", lambda r: r.answer(length=20)),
    ("not Modbus TCP", lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n"),
]


@pytest.mark.parametrize(("reason", "wrong"), WRONG, ids=[f"{n}-{reason}" for n, (reason, _) in enumerate(WRONG)])
async def test_what_is_not_exactly_the_answer_is_no_value_and_the_next_cycle_is_right(
    running: Running, reason: str, wrong: Callable[[Request], bytes]
) -> None:
    async def script(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return wrong(request) if request.number == 0 else request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        running(polling((server.port, [unit("plc")])), intake)
        await intake.until(lambda frames: good(frames) >= 2)
        first = reads(intake.frames)[0]
        assert first.error is not None
        assert reason in first.error
        assert first.words == []
        assert all(read.words == [1010, 1011, 1012, 1013] for read in reads(intake.frames)[1:])
        assert server.connections == 2, "a connection that said something wrong is not trusted again"


@pytest.mark.parametrize("code", range(1, 13))
async def test_every_exception_code_has_its_words_and_keeps_the_connection(running: Running, code: int) -> None:
    async def script(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return request.exception(code) if request.address == 10 else request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        source = polling((server.port, [unit("plc", 1, LEVEL, BlockRead(3, 50, 1))]))
        running(source, intake)
        await intake.count(2)
        refused, other = cycles(intake.frames)[0].reads
        assert (
            refused.error
            == {
                1: "exception 01: illegal function",
                2: "exception 02: illegal data address",
                3: "exception 03: illegal data value",
                4: "exception 04: device failure",
                5: "exception 05: acknowledge, still working on it",
                6: "exception 06: device busy",
                7: "exception 07: negative acknowledge",
                8: "exception 08: memory parity error",
                9: "exception 09: not in the standard",
                10: "exception 10: gateway path unavailable",
                11: "exception 11: gateway target device failed to respond",
                12: "exception 12: not in the standard",
            }[code]
        )
        # 10 and 11 are a converter's word about a unit that is silent: the rest of the cycle would be silent too.
        assert (other.error is None) == (code not in (10, 11))
        assert server.connections == 1


async def test_a_late_answer_is_never_taken_for_a_later_one(running: Running) -> None:
    """F41: the answer to the first request comes when the second has been asked, on the same line if there is one."""

    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number % 2 == 0:
            send_later(writer, 0.25, request.answer(words=[6666] * request.count))
            return None
        return request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        running(polling((server.port, [unit("plc", interval=QUICK)])), intake)
        await intake.until(lambda frames: len(errors(frames)) >= 3 and good(frames) >= 3)
        assert set(errors(intake.frames)) == {"no answer within 0.2 s"}
        assert all(read.words == [1010, 1011, 1012, 1013] for read in reads(intake.frames) if read.error is None)


async def test_an_answer_nobody_asked_for_ends_the_trust_in_the_connection(running: Running) -> None:
    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number == 0:
            # Comes between two cycles, numbered as the next request will be.
            send_later(writer, 0.01, request.answer(transaction=request.transaction + 1, words=[6666] * 4))
        return request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        running(polling((server.port, [unit("plc")])), intake)
        await intake.count(4)
        assert server.connections == 2
        assert all(read.words == [1010, 1011, 1012, 1013] for read in reads(intake.frames))


async def test_a_thousand_reads_among_faults_and_not_one_wrong_value(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modbus, "PROBE_EVERY_S", 0.0)
    dice = random.Random(41)

    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        chance = dice.random()
        if chance < 0.02:
            return None
        if chance < 0.06:
            raise Away
        if chance < 0.10:
            writer.write(request.answer()[: dice.randrange(1, 12)])
            raise Away
        if chance < 0.14:
            return request.exception(dice.randrange(1, 12))
        if chance < 0.30:
            return dice.choice(WRONG)[1](request)
        if chance < 0.32:
            late = request.answer(transaction=request.transaction + dice.randrange(3), words=[6666] * request.count)
            send_later(writer, dice.random() * 0.05, late)
        whole = request.answer()
        for byte in whole[:-1]:
            writer.write(bytes([byte]))
            if chance > 0.9:
                await asyncio.sleep(0)
        return whole[-1:]

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        units = [
            unit(f"plc-{n}", n, BlockRead(3, n, 5), BlockRead(4, 100 + n, 3), interval=SECOND // 500) for n in (1, 2)
        ]
        running(polling((server.port, units), timeout=SECOND // 50), intake)
        await intake.count(600)
        for u in units:
            for read in reads(intake.frames, u.device_id):
                if read.error is None:
                    assert read.words == [read.address + i + 1000 * u.unit_id for i in range(read.count)]
                else:
                    assert read.words == []
        assert good(intake.frames) > 300


# -- devices that are away --------------------------------------------------------------------------------------------


async def test_an_endpoint_that_hangs_leaves_the_others_alone(running: Running) -> None:
    """F43: one of twenty takes connections and never answers."""

    async def silence(_request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return None

    async with faulty_modbus(silence) as hanging, faulty_modbus() as fine:
        intake = HeldIntake()
        wanted = [(hanging.port, [unit("hanging")]), (fine.port, [unit("fine", interval=SECOND // 50)])]
        running(polling(*wanted, timeout=SECOND), intake)
        await asyncio.sleep(0.3)
        began = len(cycles(intake.frames, "fine"))
        await asyncio.sleep(1.0)
        assert len(cycles(intake.frames, "fine")) - began >= 25, "of 50 in that second"
        assert errors(intake.frames, "fine") == []


async def test_a_dead_unit_costs_its_neighbours_on_the_bus_a_time_out_now_and_then(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modbus, "PROBE_EVERY_S", 1.0)
    dead = True

    async def script(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return None if dead and request.unit == 2 else request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        running(polling((server.port, [unit("alive", 1), unit("dead", 2)])), intake)
        await intake.until(lambda frames: len(errors(frames, "dead")) >= 4)
        asked = sum(request.unit == 2 for request in server.requests)
        began = len(cycles(intake.frames, "alive"))
        await asyncio.sleep(0.8)
        assert len(cycles(intake.frames, "alive")) - began >= 8
        assert sum(request.unit == 2 for request in server.requests) - asked <= 1
        assert set(errors(intake.frames, "dead")) == {"no answer within 0.2 s"}
        assert errors(intake.frames, "alive") == []
        dead = False
        await intake.until(lambda frames: good(frames, "dead") >= 2)


async def test_polls_that_take_too_long_are_left_out_and_never_queued(running: Running) -> None:
    """F45: a cycle every 50 ms, answers after 120 ms."""

    async def slow(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        await asyncio.sleep(0.12)
        return request.answer()

    async with faulty_modbus(slow) as server:
        intake = HeldIntake()
        source = polling((server.port, [unit("slow")]))
        running(source, intake)
        await intake.count(4)
        assert source.stats()[0].overruns >= len(intake.frames) - 1
        server.script = well
        await intake.count(6)
        skipped = source.stats()[0].overruns
        await intake.count(10)
        assert source.stats()[0].overruns == skipped, "nothing was left to make up for"


async def test_an_endpoint_that_goes_and_comes_is_one_warning_and_one_info(running: Running) -> None:
    async with faulty_modbus() as server:
        intake = HeldIntake()
        source = polling((server.port, [unit("a", 1), unit("b", 2)]))
        with capture_logs() as logs:
            running(source, intake)
            await intake.until(lambda frames: good(frames) >= 4)
            await server.stop()
            await intake.until(lambda frames: len(errors(frames, "a")) >= 4 and len(errors(frames, "b")) >= 4)
            assert not source.stats()[0].connected
            assert "cannot connect" in (source.stats()[0].reason or "")
            at = len(intake.frames)
            await server.start()
            await intake.until(lambda frames: good(frames[at:], "a") >= 1 and good(frames[at:], "b") >= 1)
        assert [(line["log_level"], line["event"]) for line in logs] == [
            ("warning", "modbus link down"),
            ("info", "modbus link back"),
        ]
        assert source.stats()[0].connected
        assert source.stats()[0].reason is None
        assert all("cannot connect" in error for error in errors(intake.frames))


async def test_an_endpoint_that_is_back_is_polled_at_once_however_long_the_interval(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modbus, "START_SPREAD_S", 0.01)
    port = free_port()
    intake = HeldIntake()
    source = polling((port, [unit("plc", interval=60 * SECOND)]))
    running(source, intake)
    await intake.count(1)
    server = FaultyModbus(well)
    server.port = port
    await server.start()
    try:
        began = asyncio.get_running_loop().time()
        await intake.until(lambda frames: good(frames) >= 1)
        assert asyncio.get_running_loop().time() - began < 10
    finally:
        await server.stop()


async def test_a_device_that_fails_and_recovers_is_one_warning_and_one_info(running: Running) -> None:
    broken = True

    async def script(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return request.exception(4) if broken else request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        with capture_logs() as logs:
            running(polling((server.port, [unit("plc")])), intake)
            await intake.count(4)
            broken = False
            await intake.until(lambda frames: good(frames) >= 3)
        assert [(line["log_level"], line["event"]) for line in logs] == [
            ("warning", "modbus device fails"),
            ("info", "modbus device back"),
        ]


async def test_a_device_that_closes_idle_connections_loses_no_reading(running: Running) -> None:
    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        if request.number % 2:
            raise Away
        return request.answer()

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        source = polling((server.port, [unit("plc")]))
        with capture_logs() as logs:
            running(source, intake)
            await intake.count(5)
        assert errors(intake.frames) == []
        assert logs == []


async def test_a_device_that_closes_in_the_middle_of_every_answer_has_no_values(running: Running) -> None:
    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(request.answer()[:10])
        await writer.drain()
        await asyncio.sleep(0.01)
        raise Away

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        running(polling((server.port, [unit("plc")])), intake)
        await intake.count(2)
        assert set(errors(intake.frames)) == {"the connection was closed in the middle of a request"}


async def test_a_device_that_reboots_to_zeros_says_zeros(running: Running) -> None:
    """F44: whether zero can be true is the profile's to say; here it is passed on as it came."""

    async def script(request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return request.answer(words=[0] * 4)

    async with faulty_modbus(script) as server:
        intake = HeldIntake()
        running(polling((server.port, [unit("plc")])), intake)
        await intake.count(1)
        assert reads(intake.frames)[0].words == [0, 0, 0, 0]


@pytest.mark.parametrize("turns", range(6))
async def test_a_poller_told_to_end_in_the_moment_its_device_dies_ends(turns: int) -> None:
    async def silence(_request: Request, _writer: asyncio.StreamWriter) -> bytes | None:
        return None

    async with faulty_modbus(silence) as server:
        source = polling((server.port, [unit("plc")]), timeout=10 * SECOND)
        task = asyncio.ensure_future(source.run(HeldIntake()))
        await eventually(lambda: bool(server.requests))
        await server.stop()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=2)
        assert task.cancelled()


# -- what to poll -----------------------------------------------------------------------------------------------------


async def test_another_list_of_endpoints_leaves_those_that_stay_alone(running: Running) -> None:
    async with faulty_modbus() as first, faulty_modbus() as second, faulty_modbus() as third:
        intake = HeldIntake()
        source = polling((first.port, [unit("stays")]), (second.port, [unit("goes")]))
        running(source, intake)
        await intake.until(lambda frames: good(frames, "stays") >= 1 and good(frames, "goes") >= 1)
        source.poll(
            [
                ModbusEndpoint(Line((("127.0.0.1", first.port),)), (unit("stays"),)),
                ModbusEndpoint(Line((("127.0.0.1", third.port),)), (unit("comes"),)),
            ]
        )
        await intake.until(lambda frames: good(frames, "comes") >= 1)
        gone = len(cycles(intake.frames, "goes"))
        stayed = len(cycles(intake.frames, "stays"))
        await intake.until(lambda frames: len(cycles(frames, "stays")) >= stayed + 3)
        assert len(cycles(intake.frames, "goes")) == gone
        assert first.connections == 1
        assert {stats.address for stats in source.stats()} == {f"127.0.0.1:{first.port}", f"127.0.0.1:{third.port}"}


async def test_nothing_to_poll_is_no_fault(running: Running) -> None:
    source = polling()
    task = running(source, HeldIntake())
    await asyncio.sleep(0.01)
    assert not task.done()
    assert source.stats() == []


def tcp(host: str, port: int, *, rtu: bool = False) -> Line:
    return Line(((host, port),), rtu)


@pytest.mark.parametrize(
    ("address", "line", "unit_id"),
    [
        ("10.0.0.7:502/3", tcp("10.0.0.7", 502), 3),
        ("10.0.0.7/3", tcp("10.0.0.7", 502), 3),
        ("pump-7.example:1502/0", tcp("pump-7.example", 1502), 0),
        ("[::1]:502/255", tcp("::1", 502), 255),
        ("[::1]/1", tcp("::1", 502), 1),
        ("10.0.0.7:502|10.0.0.8:1502/1", Line((("10.0.0.7", 502), ("10.0.0.8", 1502))), 1),
        ("rtu://10.0.0.7:4001/3", tcp("10.0.0.7", 4001, rtu=True), 3),
        ("serial:/dev/ttyUSB0:9600:8N1/3", Line((), True, "/dev/ttyUSB0"), 3),
        ("serial:/dev/ttyS1:19200:7E2/247", Line((), True, "/dev/ttyS1", 19200, 7, "E", 2), 247),
    ],
)
def test_an_address_says_line_and_unit(address: str, line: Line, unit_id: int) -> None:
    assert parse_address(address) == (line, unit_id)
    assert parse_address(f"{line.name}/{unit_id}") == (line, unit_id)


@pytest.mark.parametrize(
    "address",
    ["", "10.0.0.7", "10.0.0.7:502", ":502/1", "a:0/1", "a:70000/1", "a:502/256", "a b:502/1", "a:502/-1", "a|b|c/1",
     "serial:/dev/ttyS1:9600:8N1/0", "serial:/dev/ttyS1:9601:8N1/1", "serial:/etc/passwd:9600:8N1/1",
     "serial:/dev/ttyS1:9600:9N1/1", "http://a:502/1"],
)  # fmt: skip
def test_an_address_that_makes_no_sense_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        parse_address(address)


def test_devices_become_endpoints_with_their_units() -> None:
    found = endpoints(
        [
            ("10.0.0.2:502/1", unit("b", 0)),
            ("10.0.0.1:502/2", unit("a2", 0)),
            ("10.0.0.1:502/1", unit("a1", 0)),
        ]
    )
    assert [(endpoint.name, [(u.device_id, u.unit_id) for u in endpoint.units]) for endpoint in found] == [
        ("10.0.0.1:502", [("a1", 1), ("a2", 2)]),
        ("10.0.0.2:502", [("b", 1)]),
    ]


def test_all_mistakes_in_the_devices_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        endpoints(
            [
                ("10.0.0.1:502/1", unit("a")),
                ("10.0.0.1:502/1", unit("twin")),
                ("somewhere", unit("nowhere")),
                ("10.0.0.1:502/2", unit("hasty", interval=0)),
                ("10.0.0.1:502/3", unit("writer", 1, BlockRead(6, 0, 1))),
                ("10.0.0.1:502/4", unit("greedy", 1, BlockRead(3, 0, 126))),
                ("10.0.0.1:502/5", unit("outside", 1, BlockRead(3, 65530, 10))),
                ("serial:/dev/ttyS1:9600:8N1/1", unit("slow")),
                ("serial:/dev/ttyS1:19200:8N1/2", unit("fast")),
            ]
        )
    assert [mistake.key for mistake in error.value.mistakes] == [
        "device twin", "device nowhere", "device hasty", "device writer", "device greedy", "device outside",
        "device fast",
    ]  # fmt: skip


# -- RTU, serial lines, standby, pauses -------------------------------------------------------------------------------


def crc(frame: bytes) -> bytes:
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def rtu_answer(request: bytes) -> bytes:
    """What a unit with register n = 100 + n says to a read of holding registers."""
    unit_id, function, first, count = request[0], request[1], *struct.unpack(">HH", request[2:6])
    body = bytes((unit_id, function, 2 * count)) + b"".join((100 + first + i).to_bytes(2, "big") for i in range(count))
    return body + crc(body)


@asynccontextmanager
async def rtu_converter(answer: Callable[[bytes], bytes] = rtu_answer) -> AsyncIterator[int]:
    """A converter that passes RTU frames through TCP; gives its port. Each answer comes in two pieces."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await reader.readexactly(8)
                assert request[-2:] == crc(request[:-2])
                said = answer(request)
                writer.write(said[:3])
                await asyncio.sleep(0.005)
                writer.write(said[3:])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def over(line: Line, *units: ModbusUnit, timeout: Micros = TIMEOUT) -> ModbusSource:
    return ModbusSource(ModbusOptions((ModbusEndpoint(line, units),), timeout))


async def test_rtu_frames_through_tcp(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with rtu_converter() as port:
        running(over(tcp("127.0.0.1", port, rtu=True), unit("a", 3), unit("b", 4)), intake)
        await eventually(lambda: good(intake.frames) >= 2 and good(intake.frames, "b") >= 2)
    assert reads(intake.frames, "a")[0].words == [110, 111, 112, 113]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda answer: answer[:-1] + bytes((answer[-1] ^ 1,)), "the checksum of the answer is wrong"),
        (lambda answer: (lambda body: body + crc(body))(bytes((9,)) + answer[1:-2]), "answer of another unit: 9"),
        (lambda answer: (lambda body: body + crc(body))(answer[:2] + bytes((2,)) + answer[3:5]), "short answer: 2"),
        (lambda answer: answer + b"\x00", "more bytes than one answer"),
        (lambda answer: (lambda body: body + crc(body))(answer[:1] + b"\x83\x02"), "exception 02"),
        (lambda answer: (lambda body: body + crc(body))(answer[:1] + b"\x04" + answer[2:-2]), "function code 4"),
    ],
)
async def test_an_rtu_answer_that_is_not_the_one_asked_for_is_no_value(
    running: Running, change: Callable[[bytes], bytes], said: str
) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with rtu_converter(lambda request: change(rtu_answer(request))) as port:
        running(over(tcp("127.0.0.1", port, rtu=True), unit("a", 3)), intake)
        await eventually(lambda: len(errors(intake.frames)) >= 2)
    assert good(intake.frames) == 0
    assert any(said in error for error in errors(intake.frames)), errors(intake.frames)


async def test_a_serial_line_with_two_units_one_of_them_dead(running: Running) -> None:
    """On a pair of pseudo-terminals: what one end writes the other reads, as on a line."""
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
            if request[0] == 1:
                os.write(master, rtu_answer(request))

    loop.add_reader(master, hear)
    intake = HeldIntake(commit_at_once=True)
    line = Line((), True, os.ttyname(slave))
    try:
        running(over(line, unit("alive", 1), unit("dead", 2)), intake)
        await eventually(lambda: good(intake.frames) >= 10)
    finally:
        loop.remove_reader(master)
        os.close(master)
        os.close(slave)
    assert good(intake.frames, "dead") == 0
    assert any("no answer" in error for error in errors(intake.frames, "dead"))
    assert reads(intake.frames, "alive")[0].words == [110, 111, 112, 113]


async def test_a_serial_line_that_is_not_there_is_a_reason(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    running(over(Line((), True, "/dev/ttyNOWHERE"), unit("a")), intake)
    await eventually(lambda: bool(errors(intake.frames)))
    assert "cannot connect to /dev/ttyNOWHERE" in errors(intake.frames)[0]


async def test_the_standby_is_asked_while_the_first_cannot_be_reached(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with faulty_modbus() as standby:
        line = Line((("127.0.0.1", free_port()), ("127.0.0.1", standby.port)))
        source = over(line, unit("a"))
        running(source, intake)
        await eventually(lambda: good(intake.frames) >= 2)
        [stats] = source.stats()
    assert stats.connected
    assert stats.on_standby


async def test_a_device_that_wants_a_pause_gets_it(running: Running) -> None:
    asked: list[float] = []

    async def note(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        asked.append(asyncio.get_running_loop().time())
        return await well(request, writer)

    intake = HeldIntake(commit_at_once=True)
    two = (BlockRead(3, 10, 4), BlockRead(3, 100, 4))
    async with faulty_modbus(note) as device:
        began = asyncio.get_running_loop().time()
        slow = ModbusUnit("a", 1, two, QUICK, pause=SECOND // 10, connect_pause=SECOND // 4)
        running(over(tcp("127.0.0.1", device.port), slow), intake)
        await eventually(lambda: len(asked) >= 5)
    assert asked[0] - began >= 0.25
    assert min(later - sooner for sooner, later in pairwise(asked)) >= 0.095
