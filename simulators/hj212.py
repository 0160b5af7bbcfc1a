"""Dust and noise stations: HJ 212-2017 telegrams, and the station's side of the conversation over TCP.

    ##0101QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&1C80

Written from the standard: ``##``, four decimal digits of length, the body, four hexadecimal digits of its checksum,
carriage return and line feed. Bit 0 of Flag asks for an answer (CN 9014 with the same QN), bits 2 to 7 say which
edition (1: 2017). Without an answer within the overtime a telegram is sent again, so and so often, QN and all.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

REAL_TIME, MINUTES = "2011", "2051"
ANSWER = "9014"
EDITION_2017, ANSWER_WANTED = 0b100, 0b1
LONGEST_BODY = 1024

# What a station measures: point, canonical unit → the standard's code, its unit as a multiple of ours, decimals sent.
CODES: Mapping[str, tuple[str, float, int]] = {
    "pm25": ("a34004", 1, 1),  # µg/m³
    "pm10": ("a34002", 1, 1),
    "tsp": ("a34001", 1, 1),
    "laeq": ("LA", 1, 1),  # dB(A)
    "temp": ("a01001", 1, 1),  # °C
    "rh": ("a01002", 1, 1),  # %
    "pressure": ("a01006", 10, 1),  # hPa of our kPa
    "wind": ("a01007", 1, 1),  # m/s
    "wind_direction": ("a01008", 1, 0),  # degrees
}
_CHINA = timedelta(hours=8)


def _shifted(register: int) -> int:
    for _ in range(8):
        odd = register & 1
        register >>= 1
        if odd:
            register ^= 0xA001
    return register


_SHIFTED = [_shifted(register) for register in range(256)]


def checksum(body: bytes) -> int:
    """The standard's CRC: each byte is put upon the high half of the register alone, then eight steps by A001. (Modbus
    puts it upon the whole register.)"""
    register = 0xFFFF
    for byte in body:
        register = _SHIFTED[register >> 8 ^ byte]
    return register


def wrap(body: str) -> bytes:
    """A whole telegram around its body. Raises ValueError for a body longer than the standard allows."""
    data = body.encode("ascii")
    if len(data) > LONGEST_BODY:
        raise ValueError(f"a body of {len(data)} bytes; {LONGEST_BODY} is the most")
    return b"##%04d%b%04X\r\n" % (len(data), data, checksum(data))


class Telegram(NamedTuple):
    """``number``: its QN, by which the answer names it."""

    number: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Station:
    """``name``: its MN. ``system``: its ST, 22 for ambient air. ``asks``: does it want its telegrams answered."""

    name: str
    password: str = "123456"
    system: int = 22
    asks: bool = True

    def real_time(self, at_ms: int, values: Mapping[str, float | None], flags: Mapping[str, str] | None = None,
                  *, sent_ms: int | None = None) -> Telegram:  # fmt: skip
        """What it measures now. ``flags``: N where none is given; a value of None is sent as 0 with flag D (fault).
        ``at_ms``: by the station's clock; ``sent_ms``: when it is sent, where that is later."""
        groups = []
        for point, value in values.items():
            code, factor, decimals = CODES[point]
            flag = (flags or {}).get(point, "N" if value is not None else "D")
            groups.append(f"{code}-Rtd={(value or 0.0) * factor:.{decimals}f},{code}-Flag={flag}")
        return self._telegram(REAL_TIME, at_ms, groups, sent_ms)

    def minutes(self, at_ms: int, statistics: Mapping[str, tuple[float, float, float]],
                flags: Mapping[str, str] | None = None, *, sent_ms: int | None = None) -> Telegram:  # fmt: skip
        """Minimum, mean and maximum of the minutes that began at ``at_ms``."""
        groups = []
        for point, numbers in statistics.items():
            code, factor, decimals = CODES[point]
            least, mean, most = (f"{number * factor:.{decimals}f}" for number in numbers)
            flag = (flags or {}).get(point, "N")
            groups.append(f"{code}-Min={least},{code}-Avg={mean},{code}-Max={most},{code}-Flag={flag}")
        return self._telegram(MINUTES, at_ms, groups, sent_ms)

    def _telegram(self, command: str, at_ms: int, groups: list[str], sent_ms: int | None) -> Telegram:
        number = _digits(at_ms if sent_ms is None else sent_ms)
        flag = EDITION_2017 | ANSWER_WANTED * self.asks
        content = ";".join([f"DataTime={_digits(at_ms)[:14]}", *groups])
        return Telegram(number, wrap(
            f"QN={number};ST={self.system};CN={command};PW={self.password};MN={self.name};Flag={flag};CP=&&{content}&&"
        ))  # fmt: skip


def _digits(epoch_ms: int) -> str:
    """Seventeen digits, in the time of Beijing, whatever zone the machine is in."""
    moment = datetime.fromtimestamp(epoch_ms // 1000, UTC) + _CHINA
    return f"{moment:%Y%m%d%H%M%S}{epoch_ms % 1000:03d}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How a station waits. The standard lets the centre set overtime and repeats; 5 s and 3 are customary."""

    overtime_s: float = 5.0
    repeats: int = 3
    connect_s: float = 5.0
    back_off_s: tuple[float, float] = (1.0, 30.0)


class StationLink:
    """One station's connection: connect → telegram → answer → next; repeat, give up the connection, connect again.

    Nothing that wants an answer is forgotten before it has one, except that beyond ``store`` telegrams the oldest goes
    (``dropped``). The order is kept. ``sent`` counts telegrams, ``repeated`` what was sent again.
    """

    def __init__(self, host: str, port: int, *, patience: Patience | None = None, store: int = 1_000) -> None:
        self._host, self._port = host, port
        self._patience = patience or Patience()
        self._store: deque[Telegram] = deque()
        self._limit = store
        self._arrived = asyncio.Event()
        self._head: Telegram | None = None  # has been sent, and has no answer yet
        self.sent = self.answered = self.repeated = self.dropped = self.connections = 0

    @property
    def waiting(self) -> int:
        """How many telegrams are not done with."""
        return len(self._store) + (self._head is not None)

    def offer(self, telegram: Telegram) -> None:
        """Take a telegram to send as soon as possible."""
        if len(self._store) >= self._limit:
            self._store.popleft()
            self.dropped += 1
        self._store.append(telegram)
        self._arrived.set()

    async def run(self) -> None:
        """Keep the connection; until cancelled."""
        pause, longest = self._patience.back_off_s
        while True:
            answered = self.answered
            with contextlib.suppress(OSError, TimeoutError):
                await self._converse()
            pause = self._patience.back_off_s[0] if self.answered > answered else min(longest, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def _converse(self) -> None:
        async with asyncio.timeout(self._patience.connect_s):
            reader, writer = await asyncio.open_connection(self._host, self._port)
        self.connections += 1
        try:
            while True:
                if self._head is None:
                    self._head = await self._next(reader)
                    self.sent += 1
                else:
                    self.repeated += 1
                await self._deliver(self._head, reader, writer)
                self._head = None
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _next(self, reader: asyncio.StreamReader) -> Telegram:
        """The next telegram. Raises ConnectionError when the centre hangs up before there is one."""
        while not self._store:
            self._arrived.clear()
            async with asyncio.TaskGroup() as group:
                hung_up = group.create_task(_until_closed(reader), name="station-hears")
                arrived = group.create_task(self._arrived.wait(), name="station-waits")
                await asyncio.wait((hung_up, arrived), return_when=asyncio.FIRST_COMPLETED)
                closed = hung_up.done() and not arrived.done()
                hung_up.cancel()
                arrived.cancel()
            if closed:
                raise ConnectionResetError("the centre hung up")
        return self._store.popleft()

    async def _deliver(self, telegram: Telegram, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send until it is answered. Raises TimeoutError when all repeats are in vain."""
        wanted = _wants_answer(telegram.data)
        for attempt in range(self._patience.repeats + 1):
            self.repeated += attempt > 0
            writer.write(telegram.data)
            await writer.drain()
            if not wanted:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience.overtime_s):
                    while not _answers(await _line(reader), telegram.number):
                        pass  # of another telegram: an answer that came late
                self.answered += 1
                return
        raise TimeoutError


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Raises ConnectionError at the end of the stream."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the centre hung up")
    return line


async def _until_closed(reader: asyncio.StreamReader) -> None:
    """Answers that come while none is waited for are late ones: they are passed over."""
    while await reader.readline():
        pass


def _wants_answer(telegram: bytes) -> bool:
    _, _, rest = telegram.partition(b";Flag=")
    return bool(int(rest.partition(b";")[0]) & ANSWER_WANTED)


def _answers(line: bytes, number: str) -> bool:
    """Is this line the whole, unharmed acknowledgement of the telegram with that number?"""
    body, check = line[6:-6], line[-6:-2]
    if line[:2] != b"##" or not check.isalnum() or b"%04X" % checksum(body) != check.upper():
        return False
    fields = dict(part.split(b"=", 1) for part in body.partition(b";CP=")[0].split(b";") if b"=" in part)
    return fields.get(b"CN") == ANSWER.encode() and fields.get(b"QN") == number.encode()
