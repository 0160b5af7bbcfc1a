"""pymodbus's client with its doubts resolved against the answer: what is not exactly the answer asked for is a fault.

Why pymodbus alone is not enough (3.16.1, pinned below 3.17): it takes an answer with transaction id 0 for the answer to
anything, does not compare function code and length with the request, raises inside the transport when a PDU is too
short, starts every connection at transaction 1, and waits for the full time-out when the connection is gone.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from pymodbus import FramerType, ModbusException
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ModbusPDU

from gateway.core.modbus_address import Line

_Client: TypeAlias = AsyncModbusTcpClient | AsyncModbusSerialClient

HEADER = 7  # transaction, protocol, length (two bytes each), unit
RTU_EXCEPTION = 5  # unit, function code, exception code, checksum: the shortest answer
MAX_PDU = 253  # Modbus application protocol V1.1b3, 4.1

# Modbus application protocol V1.1b3, 7; 9 is not assigned.
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge, still working on it",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what it has to say comes out as one of our errors


class LinkBroken(Exception):
    """No connection, or an answer that makes no sense: close it, trust nothing that may still come."""


class ClosedByDevice(LinkBroken):
    """The other side closed the connection while we waited: some do so to idle masters, so one new try is fair."""


class NoAnswer(LinkBroken):
    """The time is up; the answer may still come, so the connection must be closed."""


class DeviceSaysNo(Exception):
    """A proper exception answer: this cannot be read or written now. ``absent``: a converter says it about a silent
    unit; ``for_good``: asking again would be answered the same; ``open_end``: it may be carried out all the same."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:02d}: {EXCEPTIONS.get(code, 'not in the standard')}")
        self.absent = code in (10, 11)
        self.open_end = code in (5, 11)
        self.for_good = code not in (5, 6, 10, 11)


class _Fault(ModbusPDU):
    """Stands where an answer should be; ``reason`` says what was wrong with it."""

    def __init__(self, reason: str, unit: int, transaction: int) -> None:
        super().__init__(dev_id=unit, transaction_id=transaction)
        self.reason = reason


class _Answer(ModbusPDU):
    """The data bytes of a clean answer."""

    def __init__(self, data: bytes, unit: int, transaction: int) -> None:
        super().__init__(dev_id=unit, transaction_id=transaction)
        self.data = data


class _Exception(ModbusPDU):
    """A clean exception answer."""

    def __init__(self, code: int, unit: int, transaction: int) -> None:
        super().__init__(dev_id=unit, transaction_id=transaction)
        self.code = code


class _Asked:
    """The one open request of a connection, and what the bytes that come mean for it."""

    function_code = 0  # 0: nothing is asked, whatever comes is wrong
    data_bytes = 0
    echo = b""  # of a write: what must come back behind the function code, byte for byte
    unsolicited = False

    def answer(self, body: bytes, unit: int, transaction: int) -> ModbusPDU:
        """``body``: function code and what follows it, without header or checksum."""
        if body[0] == self.function_code | 0x80 and len(body) == 2:
            return _Exception(body[1], unit, transaction)
        if body[0] != self.function_code:
            return _Fault(f"answer with function code {body[0]} instead of {self.function_code}", unit, transaction)
        if self.echo:
            if body[1:] == self.echo:
                return _Answer(b"", unit, transaction)
            said = f"another write was confirmed: {body[1:].hex(' ')} instead of {self.echo.hex(' ')}"
            return _Fault(said, unit, transaction)
        if body[1] != self.data_bytes or len(body) != 2 + self.data_bytes:
            got = min(body[1], len(body) - 2) if body[1] != len(body) - 2 else body[1]
            kind = "short" if got < self.data_bytes else "long"
            return _Fault(f"{kind} answer: {got} bytes instead of {self.data_bytes}", unit, transaction)
        return _Answer(body[2:], unit, transaction)


class _TcpFramer(_Asked, FramerSocket):
    """Modbus TCP. Never raises, whatever comes in."""

    def handleFrame(self, data: bytes, exp_devid: int, exp_tid: int) -> tuple[int, ModbusPDU | None]:
        if self.function_code == 0:
            self.unsolicited = True
            return len(data), None
        if len(data) < HEADER:
            return 0, None
        transaction = int.from_bytes(data[0:2], "big")
        protocol = int.from_bytes(data[2:4], "big")
        length = int.from_bytes(data[4:6], "big")
        unit = data[6]

        def fault(reason: str) -> tuple[int, ModbusPDU]:
            return len(data), _Fault(reason, exp_devid, exp_tid)

        if protocol != 0:
            return fault(f"not Modbus TCP: protocol id {protocol}")
        if not 3 <= length <= MAX_PDU + 1:
            return fault(f"not Modbus TCP: length {length}")
        if transaction != exp_tid:
            return fault(f"answer to another request: transaction {transaction} instead of {exp_tid}")
        if unit != exp_devid:
            return fault(f"answer of another unit: {unit} instead of {exp_devid}")
        if len(data) < 6 + length:
            return 0, None
        if len(data) > 6 + length:
            return fault("more bytes than one answer")
        return len(data), self.answer(data[HEADER:], unit, transaction)


class _RtuFramer(_Asked, FramerRTU):
    """RTU frames, on a serial line or through TCP. Never raises, whatever comes in."""

    def handleFrame(self, data: bytes, exp_devid: int, exp_tid: int) -> tuple[int, ModbusPDU | None]:
        if self.function_code == 0:
            self.unsolicited = True
            return len(data), None

        def fault(reason: str) -> tuple[int, ModbusPDU]:
            return len(data), _Fault(reason, exp_devid, exp_tid)

        if len(data) < RTU_EXCEPTION:
            return 0, None
        if data[0] != exp_devid:
            return fault(f"answer of another unit: {data[0]} instead of {exp_devid}")
        size = RTU_EXCEPTION if data[1] & 0x80 else 4 + len(self.echo) if self.echo else 5 + data[2]
        if len(data) < size:
            return 0, None
        if len(data) > size:
            return fault("more bytes than one answer")
        if FramerRTU.compute_CRC(data[:-2]) != int.from_bytes(data[-2:], "big"):
            return fault("the checksum of the answer is wrong")
        return len(data), self.answer(data[1:-2], exp_devid, exp_tid)


class StrictClient:
    """One Modbus connection at a time; one request at a time. Errors are those of this file."""

    def __init__(self, line: Line, timeout_s: float) -> None:
        self._line = line
        self._timeout_s = timeout_s
        self._place = 0  # the standby's turn comes when the first cannot be reached
        self._client: _Client | None = None
        self._framer: _TcpFramer | _RtuFramer = _TcpFramer(DecodePDU(False))

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.connected and not self._framer.unsolicited

    async def connect(self) -> None:
        """A new connection; an old one is thrown away. Tries the standby at once where there is one. Raises
        LinkBroken."""
        places = max(1, len(self._line.places))
        for turn in range(places):
            self._place = turn
            if await self._connect_to(turn):
                return
        where = " or ".join(f"{host}:{port}" for host, port in self._line.places) or self._line.port
        raise LinkBroken(f"cannot connect to {where}")

    @property
    def on_standby(self) -> bool:
        return self._place > 0

    async def _connect_to(self, place: int) -> bool:
        self.close()
        client = self._new_client(place)
        framer: _TcpFramer | _RtuFramer = (_RtuFramer if self._line.rtu else _TcpFramer)(DecodePDU(False))
        self._framer = client.ctx.framer = framer
        self._client = client
        connected = await client.connect()
        _cancelled_after_all()
        if not connected:
            self.close()
            return False
        # Not from 1 on every connection: a converter that delivers an old answer late must not hit the same number.
        client.ctx.next_tid = random.randrange(1, 60_000)
        return True

    def _new_client(self, place: int) -> _Client:
        """One without retries and without reconnecting: both are the worker's."""
        line = self._line
        if line.port:
            return AsyncModbusSerialClient(
                line.port,
                framer=FramerType.RTU,
                baudrate=line.baudrate,
                bytesize=line.bits,
                parity=line.parity,
                stopbits=line.stop,
                timeout=self._timeout_s,
                retries=0,
                reconnect_delay=0,
                trace_connect=self._connection_changed,
            )
        host, port = line.places[place]
        return AsyncModbusTcpClient(
            host,
            port=port,
            framer=FramerType.RTU if line.rtu else FramerType.SOCKET,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,
            trace_connect=self._connection_changed,
        )

    async def read(self, unit: int, function_code: int, address: int, count: int) -> list[int]:
        """``count`` register words, or bits as 0/1 for function codes 1 and 2. Raises NoAnswer, LinkBroken,
        ClosedByDevice, DeviceSaysNo; after all but the last the connection must be closed."""
        bits = function_code in (1, 2)
        data_bytes = (count + 7) // 8 if bits else count * 2
        data = await self._ask(
            function_code, lambda client: _read_request(client, function_code, address, count, unit), data_bytes
        )
        if bits:
            return [data[i >> 3] >> (i & 7) & 1 for i in range(count)]
        return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]

    async def write(self, unit: int, function_code: int, address: int, words: Sequence[int]) -> None:
        """Write ``words`` (function code 5: one 0 or 1) and have it confirmed. Raises as ``read``; only a DeviceSaysNo
        without ``open_end`` tells that nothing was written, after everything else it is not known."""
        second = {5: 0xFF00 * words[0], 6: words[0], 16: len(words)}[function_code]
        echo = address.to_bytes(2, "big") + second.to_bytes(2, "big")
        await self._ask(
            function_code, lambda client: _write_request(client, function_code, address, words, unit), 0, echo
        )

    async def _ask(
        self, function_code: int, ask: Callable[[_Client], Awaitable[ModbusPDU]], data_bytes: int, echo: bytes = b""
    ) -> bytes:
        """The data of the one answer that is right."""
        client = self._client
        if client is None or not client.connected:
            raise ClosedByDevice("not connected")
        framer = self._framer
        framer.function_code, framer.data_bytes, framer.echo = function_code, data_bytes, echo
        try:
            answer: Any = await ask(client)
        except ModbusException as error:
            _cancelled_after_all()
            if not client.connected:
                raise ClosedByDevice("the connection was closed in the middle of a request") from error
            raise NoAnswer(f"no answer within {self._timeout_s:g} s") from error
        finally:
            framer.function_code = 0
        _cancelled_after_all()
        if isinstance(answer, _Exception):
            raise DeviceSaysNo(answer.code)
        if not isinstance(answer, _Answer):
            raise LinkBroken(answer.reason if isinstance(answer, _Fault) else "an answer of no known kind")
        return answer.data

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connection_changed(self, connected: bool) -> None:
        """pymodbus calls this; a request that waits on a connection that is gone need not wait any longer."""
        client = self._client
        if connected or client is None or self._framer.function_code == 0:
            return
        waiting = client.ctx.response_future
        if not waiting.done():
            waiting.set_exception(ModbusException("connection closed"))


def _cancelled_after_all() -> None:
    """Raises the cancellation that ``asyncio.wait_for`` of Python 3.11 loses when it meets an answer or an error.

    pymodbus waits with it; a worker that has lost its cancellation would poll on for ever (cpython #86296).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _read_request(client: _Client, function_code: int, address: int, count: int, unit: int) -> ModbusPDU:
    if function_code == 1:
        return await client.read_coils(address, count=count, device_id=unit)
    if function_code == 2:
        return await client.read_discrete_inputs(address, count=count, device_id=unit)
    if function_code == 3:
        return await client.read_holding_registers(address, count=count, device_id=unit)
    if function_code == 4:
        return await client.read_input_registers(address, count=count, device_id=unit)
    raise ValueError(f"function code {function_code} is not a read")


async def _write_request(
    client: _Client, function_code: int, address: int, words: Sequence[int], unit: int
) -> ModbusPDU:
    if function_code == 5:
        return await client.write_coil(address, bool(words[0]), device_id=unit)
    if function_code == 6:
        return await client.write_register(address, words[0], device_id=unit)
    return await client.write_registers(address, list(words), device_id=unit)
