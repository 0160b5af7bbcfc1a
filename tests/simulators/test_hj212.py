"""A dust station's telegrams, and its patience with a centre that does not answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.decode_report import decode_report
from gateway.config.profiles import load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core import hj212 as decoder
from simulators.hj212 import Patience, Station, StationLink, Telegram, checksum, wrap
from tests.acceptance.running import running_gateway
from tests.servers import free_port

EXAMPLE = "QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&"
START_MS = 1_752_999_990_123  # 2025-07-20T16:26:30.123 in Beijing
VALUES = {"pm25": 35.2, "pm10": 81.0, "tsp": 120.5, "laeq": 61.3, "temp": -3.5, "rh": 45.0, "pressure": 101.3,
          "wind": 2.4, "wind_direction": 271.0}  # fmt: skip
QUICK = Patience(overtime_s=0.1, repeats=2, connect_s=1.0, back_off_s=(0.02, 0.1))


def read(telegram: Telegram) -> dict[str, Any]:
    """What ``citywatch decode`` says of it."""
    files = read_tree(shipped("device_profiles"), *PROFILE_FILES)
    profiles = load_profiles({name: text for name, text in files.items() if name.startswith("generic/hj212-dust.y")})
    text = telegram.data.decode().strip()
    return decode_report("generic/hj212-dust", profiles, hj212=text, received_at=(START_MS + 1000) * 1000)


def test_the_standards_own_example_has_its_checksum_and_length() -> None:
    assert checksum(EXAMPLE.encode()) == 0x1C80
    assert wrap(EXAMPLE) == f"##0101{EXAMPLE}1C80\r\n".encode()
    with pytest.raises(ValueError, match="1024 is the most"):
        wrap("x" * 1025)


def test_real_time_values_are_read_back_with_their_time() -> None:
    telegram = Station("A110000_0001").real_time(START_MS, VALUES)
    assert telegram.number == "20250720162630123"
    report = read(telegram)
    assert report["error"] is None
    assert {r["point"]: r["value"] for r in report["readings"]} == pytest.approx(VALUES)
    assert report["device_time"] == "2025-07-20T08:26:30Z"


def test_a_fault_a_flag_and_means_of_minutes_are_what_they_are() -> None:
    station = Station("S1", asks=False)
    report = read(station.real_time(START_MS, {"pm25": None, "pm10": 40.0}, {"pm10": "M"}))
    assert [reading["quality"] for reading in report["readings"]] == ["bad", "bad"]
    telegram = station.minutes(START_MS, {"pm25": (30.0, 33.4, 41.0), "laeq": (50, 58, 66)})
    assert b";Flag=4;" in telegram.data
    means = {reading["point"]: reading["value"] for reading in read(telegram)["readings"]}
    assert means == {"pm25_mean": 33.4, "laeq_mean": 58}
    late = station.real_time(START_MS, {"pm25": 1.0}, sent_ms=START_MS + 60_000)
    assert (late.number[:14], read(late)["device_time"]) == ("20250720162730", "2025-07-20T08:26:30Z")


Answering = Callable[[int, bytes], bytes | None]


@asynccontextmanager
async def centre(answering: Answering) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A centre that writes down every telegram and answers as told: (how many before, telegram) → answer, b"" for
    none, None to hang up."""
    heard: list[bytes] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.append(line)
            answer = answering(len(heard) - 1, line)
            if answer is None:
                break
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()


@asynccontextmanager
async def linked(port: int, *telegrams: Telegram, store: int = 100) -> AsyncIterator[StationLink]:
    link = StationLink("127.0.0.1", port, patience=QUICK, store=store)
    for telegram in telegrams:
        link.offer(telegram)
    task = asyncio.create_task(link.run(), name="station")
    try:
        yield link
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  another process answers
            await asyncio.sleep(0.01)


def answer(line: bytes) -> bytes:
    return decoder.answer(decoder.parse(line))


def series(count: int, since_ms: int = START_MS) -> list[Telegram]:
    return [Station("S1").real_time(since_ms + n * 60_000, {"pm25": float(n)}) for n in range(count)]


async def test_a_telegram_without_an_answer_is_sent_again_word_for_word() -> None:
    telegrams = series(3)
    async with (
        centre(lambda n, line: answer(line) if n >= 2 else b"") as (port, heard),
        linked(port, *telegrams) as link,
    ):
        await until(lambda: link.waiting == 0)
        assert heard == [telegrams[0].data] * 3 + [telegrams[1].data, telegrams[2].data]
        assert (link.sent, link.answered, link.repeated, link.connections) == (3, 3, 2, 1)


async def test_when_all_repeats_are_in_vain_the_connection_is_made_anew_and_nothing_is_forgotten() -> None:
    telegrams = series(2)
    async with (
        centre(lambda n, line: answer(line) if n >= 4 else b"") as (port, heard),
        linked(port, *telegrams) as link,
    ):
        await until(lambda: link.waiting == 0)
        assert heard == [telegrams[0].data] * 5 + [telegrams[1].data]
        assert link.connections == 2


async def test_an_answer_to_something_else_or_with_a_wrong_checksum_is_none() -> None:
    [telegram] = series(1)

    def answering(n: int, line: bytes) -> bytes:
        right = answer(line)
        return [right.replace(telegram.number.encode(), b"2" * 17), right[:-3] + b"!\r\n", right][n]

    async with centre(answering) as (port, heard), linked(port, telegram) as link:
        await until(lambda: link.waiting == 0)
        assert len(heard) == 3


async def test_a_centre_that_hangs_up_is_found_again_even_when_there_is_nothing_to_say() -> None:
    telegrams = series(2)
    async with (
        centre(lambda n, line: None if n == 0 else answer(line)) as (port, heard),
        linked(port, telegrams[0]) as link,
    ):
        await until(lambda: link.waiting == 0)
        link.offer(telegrams[1])
        await until(lambda: link.waiting == 0)
        assert heard == [telegrams[0].data] * 2 + [telegrams[1].data]


async def test_a_full_store_lets_the_oldest_go() -> None:
    telegrams = series(5)
    link = StationLink("127.0.0.1", free_port(), store=3)
    for telegram in telegrams:
        link.offer(telegram)
    assert (link.waiting, link.dropped) == (3, 2)


async def test_a_station_talks_to_the_gateway_through_its_death(tmp_path: Path) -> None:
    """The gateway is killed after the third telegram, and misses none."""
    assets, port = tmp_path / "assets.json", free_port()
    city = {
        "assets": [{"asset": "site-1", "kind": "site"}],
        "devices": [{"device": "dust-1", "asset": "site-1", "profile": "generic/hj212-dust", "address": "S1"}],
    }
    assets.write_text(json.dumps(city), encoding="utf-8")
    async with running_gateway(tmp_path, {"hj212": [{"port": port}], "assets": [str(assets)]}) as gateway:
        telegrams = series(6, time.time_ns() // 1_000_000 - 300_000)
        async with linked(port, *telegrams[:3]) as link:
            await until(lambda: link.answered == 3)
            await gateway.process.kill()
            for telegram in telegrams[3:]:
                link.offer(telegram)
            await gateway.start()
            await until(lambda: link.answered == 6)
        ledger = await gateway.received(6)
        assert (ledger["stored"], ledger["rejected"]) == (6, {})  # and what was repeated counts as duplicates
        points = {point["point"]: point["value"] for point in await gateway.get("assets/site-1/points")}
        assert points["pm25"] == 5.0
