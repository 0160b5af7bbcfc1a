"""gateway.sources.hj212: telegrams over real sockets, answered only when on disk; whatever else comes is kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import hj212
from gateway.core.model import FrameKind
from gateway.errors import ConfigError
from gateway.sources.hj212 import Hj212Options, Hj212Source
from tests.sources.conftest import Running
from tests.sources.held_intake import HeldIntake, eventually

EXAMPLE = (
    b"##0101QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;"
    b"CP=&&RtdInterval=30&&1C80\r\n"
)
DATA = hj212.wrap("QN=7;ST=22;CN=2011;PW=1;MN=S1;Flag=5;CP=&&DataTime=20250720162630;LA-Rtd=61,LA-Flag=N&&")
QUIET = hj212.wrap("QN=8;ST=22;CN=2011;PW=1;MN=S1;Flag=4;CP=&&DataTime=20250720162730;LA-Rtd=62,LA-Flag=N&&")


def test_the_standard_s_own_example() -> None:
    telegram = hj212.parse(EXAMPLE)
    assert telegram.station == "010000A8900016F000169DC0"
    assert telegram.wants_answer
    assert hj212.wrap(EXAMPLE[6:-6].decode()) == EXAMPLE
    assert hj212.parse(hj212.answer(telegram)).fields == {
        "QN": "20160801085857223", "ST": "91", "CN": "9014", "PW": "100000", "MN": "010000A8900016F000169DC0",
        "Flag": "4",
    }  # fmt: skip


def drained(buffer: bytearray) -> tuple[list[bytes], bytes]:
    """All telegrams now in ``buffer``, and the noise between them."""
    found: list[bytes] = []
    noise = b""
    while True:
        before = len(buffer)
        telegram, junk = hj212.cut(buffer)
        noise += junk
        if telegram is not None:
            found.append(telegram)
        elif len(buffer) == before or not buffer:
            return found, noise


@given(
    st.lists(st.sampled_from([EXAMPLE, DATA, QUIET, b"noise", b"#", b"##", b"##12x4", b"##9999", b"\r\n"]), max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_stream_cut_anywhere_gives_the_same_telegrams(parts: list[bytes], draw: random.Random) -> None:
    stream = b"".join(parts)
    whole, whole_noise = drained(bytearray(stream))
    buffer, found, noise = bytearray(), [], b""
    rest = stream
    while rest:
        size = draw.randrange(1, len(rest) + 1)
        buffer += rest[:size]
        rest = rest[size:]
        more, junk = drained(buffer)
        found += more
        noise += junk
    assert (found, noise) == (whole, whole_noise)
    assert sum(map(len, found)) + len(noise) + len(buffer) == len(stream)
    assert len(buffer) < hj212.MAX_BODY + hj212.OVERHEAD


@asynccontextmanager
async def listening(
    running: Running, intake: HeldIntake
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A station's connection to a source at work."""
    source = Hj212Source(Hj212Options())
    await source.open()
    running(source, intake)
    for _ in range(100):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            break
    yield reader, writer
    writer.close()


async def test_an_answer_comes_only_when_the_telegram_is_on_disk(running: Running) -> None:
    intake = HeldIntake()
    async with listening(running, intake) as (reader, writer):
        writer.write(DATA[:20])
        await asyncio.sleep(0.05)
        writer.write(DATA[20:])
        await eventually(lambda: len(intake.frames) == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(100)
        intake.commit()
        async with asyncio.timeout(5):
            told = hj212.parse(await reader.readuntil(b"\r\n"))
        assert (told.fields["CN"], told.fields["QN"], told.fields["MN"]) == ("9014", "7", "S1")
        [frame] = intake.frames
        assert (frame.kind, frame.address, frame.payload) == (FrameKind.HJ212, "S1", DATA)


async def test_whatever_stands_between_is_kept_and_stops_nothing(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    wrong = bytearray(DATA)
    wrong[30] ^= 1
    async with listening(running, intake) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + QUIET + bytes(wrong) + b"##9999" + QUIET)
        await eventually(lambda: sum(frame.payload == QUIET for frame in intake.frames) == 2)
    payloads = [frame.payload for frame in intake.frames]
    assert b"GET / HTTP/1.1\r\n" in payloads
    assert bytes(wrong) in payloads
    assert b"".join(payloads) == b"GET / HTTP/1.1\r\n" + QUIET + bytes(wrong) + b"##9999" + QUIET


async def test_a_station_that_goes_in_the_middle_leaves_what_it_said(running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    async with listening(running, intake) as (_, writer):
        writer.write(DATA[:40])
        await writer.drain()
    await eventually(lambda: [frame.payload for frame in intake.frames] == [DATA[:40]])


async def test_a_taken_port_is_told_at_the_start() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ConfigError, match="cannot listen on"):
            await Hj212Source(Hj212Options(port=port)).open()
