"""The live feed: a snapshot, then every transition, and nobody is waited for."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.console.feed import PULSE_S, Feed, FeedEvent
from gateway.core.model import AlarmRecord
from gateway.core.records import EVERYWHERE, Scope
from tests.console.city import START, record, running, step


class City:
    """What stands now, for a feed without a store."""

    def __init__(self, ring: int = 8) -> None:
        self.alarms: dict[str, AlarmRecord] = {}
        self.asked = 0
        self.feed = Feed(self.standing, lambda: START, ring=ring)

    async def standing(self, limit: int, scope: Scope = EVERYWHERE) -> list[AlarmRecord]:
        self.asked += 1
        return list(self.alarms.values())[:limit]

    def happens(self, after: AlarmRecord) -> None:
        self.alarms[after.alarm_id] = after
        self.feed.publish([step(after)])


async def take(events: Any, count: int) -> list[FeedEvent]:
    async with asyncio.timeout(5):
        return [await anext(events) for _ in range(count)]


def revs(events: list[FeedEvent]) -> list[int]:
    return [json.loads(event.data)["rev"] for event in events]


async def test_a_new_reader_gets_the_snapshot_then_the_deltas() -> None:
    city = City()
    city.happens(record(rev=1))
    reader = city.feed.subscribe()
    (snapshot,) = await take(reader, 1)
    assert snapshot.name == "snapshot"
    assert [alarm["rev"] for alarm in json.loads(snapshot.data)["alarms"]] == [1]
    city.happens(record(rev=2))
    city.happens(record(rev=3))
    assert revs(await take(reader, 2)) == [2, 3]
    await reader.aclose()
    assert city.feed.subscribers == 0


async def test_a_reader_that_comes_back_goes_on_where_it_stopped() -> None:
    city = City()
    reader = city.feed.subscribe()
    await take(reader, 1)
    city.happens(record(rev=1))
    (last,) = await take(reader, 1)
    await reader.aclose()
    city.happens(record(rev=2))
    city.happens(record(rev=3))
    again = city.feed.subscribe(last.id)
    assert revs(await take(again, 2)) == [2, 3]
    await again.aclose()


@pytest.mark.parametrize(
    "place", ["deadbeef-1", "x", "", "-", "deadbeef", "{boot}-99", "{boot}--1", "{boot}-١", "{boot}-" + "9" * 40]
)
async def test_a_place_that_is_not_ours_gets_a_snapshot(place: str) -> None:
    city = City()
    city.happens(record())
    reader = city.feed.subscribe(place.replace("{boot}", city.feed._boot))
    assert (await take(reader, 1))[0].name == "snapshot"
    await reader.aclose()


async def test_who_falls_out_of_the_ring_gets_a_fresh_snapshot_not_a_backlog() -> None:
    city = City(ring=8)
    slow = city.feed.subscribe()
    await take(slow, 1)
    for rev in range(1, 100):
        city.happens(record(rev=rev))
    (event,) = await take(slow, 1)
    assert event.name == "snapshot"
    assert json.loads(event.data)["alarms"][0]["rev"] == 99
    city.happens(record(rev=100))
    assert revs(await take(slow, 1)) == [100]
    await slow.aclose()


async def test_nothing_is_missed_between_a_snapshot_and_its_deltas() -> None:
    """Whatever happens while the store is asked comes as a delta too: twice is harmless, never is not."""
    city = City(ring=64)
    gate = asyncio.Event()

    async def slowly(limit: int, scope: Scope) -> list[AlarmRecord]:
        before = list(city.alarms.values())
        await gate.wait()
        return before

    city.feed._standing = slowly
    city.happens(record(rev=1))
    reader = city.feed.subscribe()
    waiting = asyncio.create_task(take(reader, 1))
    await asyncio.sleep(0)
    city.happens(record(rev=2))
    gate.set()
    (snapshot,) = await waiting
    assert json.loads(snapshot.data)["alarms"][0]["rev"] == 1
    assert revs(await take(reader, 1)) == [2]
    await reader.aclose()


async def test_a_hundred_readers_that_come_together_share_one_snapshot() -> None:
    city = City()
    readers = [city.feed.subscribe() for _ in range(100)]
    first = await asyncio.gather(*(take(reader, 1) for reader in readers))
    assert city.asked == 1
    assert len({events[0].data for events in first}) == 1
    city.happens(record())
    second = await asyncio.gather(*(take(reader, 1) for reader in readers))
    assert len({id(events[0]) for events in second}) == 1  # encoded once
    for reader in readers:
        await reader.aclose()


async def test_a_quiet_feed_says_that_it_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.console.feed.HEARTBEAT_S", 0.01)
    city = City()
    reader = city.feed.subscribe()
    _, alive = await take(reader, 2)
    assert alive.name == "alive"
    assert alive.wire().startswith(b": alive\nevent: alive\n")
    await reader.aclose()


async def test_closing_ends_every_reader() -> None:
    city = City()
    reader = city.feed.subscribe()
    await take(reader, 1)
    waiting = asyncio.create_task(anext(reader))
    await asyncio.sleep(0)
    city.feed.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


# ------------------------------------------------------------------------------------------ over a socket


async def sse(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """Events of a stream as a browser's EventSource would see them."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = value
        elif not line and "event" in event:
            yield event
            event = {}


async def test_the_stream_over_http_resumes_by_last_event_id(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        async with client.stream("GET", "/api/v1/stream") as answer, asyncio.timeout(5):
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = sse(answer)
            first = await anext(events)
            assert [a["alarm_id"] for a in json.loads(first["data"])["alarms"]] == ["lamp-1/lamp-out"]
        await console.gateway.commit(step(record(rev=2)))
        headers = {"Last-Event-ID": first["id"]}
        async with client.stream("GET", "/api/v1/stream", headers=headers) as answer, asyncio.timeout(5):
            second = await anext(sse(answer))
            assert (second["event"], json.loads(second["data"])["rev"]) == ("alarm", 2)


async def test_readers_are_told_at_once_after_a_rest_and_then_together(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        feed, clock = console.gateway.feed, asyncio.get_running_loop().time
        readers = [feed.batches(), feed.batches()]
        for reader in readers:
            assert [event.name for event in (await anext(reader)).events] == ["snapshot"]
        await asyncio.sleep(2 * PULSE_S)
        began = clock()
        feed.publish([step(record(rev=1))])
        first = [await anext(reader) for reader in readers]
        assert clock() - began < PULSE_S / 2, "nobody waits who has been waiting"
        for rev in range(2, 12):
            feed.publish([step(record(rev=rev))])
        later = await asyncio.gather(*(anext(reader) for reader in readers))
        assert [len(batch.events) for batch in later] == [10, 10], "what came meanwhile goes out together"
        assert first[0] is first[1]
        assert later[0] is later[1], "made once for all who stand at the same place"
        for reader in readers:
            await reader.aclose()


async def test_a_browser_that_reads_nothing_delays_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.console.stream.STALLED_S", 0.3)
    async with running(tmp_path, ring=256) as console, console.client() as client:
        port = int(console.url.rsplit(":", 1)[1])
        _, deaf = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        token = client.headers["Authorization"]
        deaf.write(f"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        await deaf.drain()
        async with client.stream("GET", "/api/v1/stream") as answer, asyncio.timeout(20):
            events = sse(answer)
            assert (await anext(events))["event"] == "snapshot"
            big = "x" * 20_000
            for rev in range(1, 400, 50):
                console.gateway.feed.publish([step(record(rev=rev + n, comment=big)) for n in range(50)])
                for n in range(50):
                    event = await anext(events)
                    assert json.loads(event["data"])["rev"] == rev + n
            while console.gateway.feed.subscribers > 1:  # noqa: ASYNC110  until the deaf one is given up
                await asyncio.sleep(0.05)
        deaf.close()


async def test_stopping_ends_open_streams_quickly(tmp_path: Path) -> None:
    async with asyncio.timeout(5):
        async with running(tmp_path) as console:
            client = console.client()
            request = client.build_request("GET", "/api/v1/stream")
            answer = await client.send(request, stream=True)
            reading = asyncio.create_task(answer.aread())
            await asyncio.sleep(0.1)
        assert b"snapshot" in await reading
        await client.aclose()


async def test_a_packed_stream_says_the_same_to_who_asks_for_it_and_takes_it(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client, asyncio.timeout(20):
        publish = console.gateway.feed.publish
        async with client.stream("GET", "/api/v1/stream?packed=true", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            events = sse(answer)
            assert (await anext(events))["event"] == "snapshot"
            for rev in (1, 2, 3):  # pieces that were packed apart
                publish([step(record(rev=rev, comment="x" * 5_000))])
                event = await anext(events)
                assert json.loads(event["data"])["rev"] == rev
        for path, takes in (("/api/v1/stream", "gzip"), ("/api/v1/stream?packed=true", "identity")):
            async with client.stream("GET", path, headers={"Accept-Encoding": takes}) as answer:
                assert "content-encoding" not in answer.headers
                assert (await anext(sse(answer)))["event"] == "snapshot"


async def test_a_long_snapshot_is_packed_to_a_tenth() -> None:
    city = City()
    city.alarms = {f"lamp-{n}/lamp-out": record(alarm_id=f"lamp-{n}/lamp-out", rev=n) for n in range(2_000)}
    reader = city.feed.batches()
    snapshot = await anext(reader)
    assert len(snapshot.packed()) < len(snapshot.wire) / 10
    assert zlib.decompressobj(-zlib.MAX_WBITS).decompress(snapshot.packed()) == snapshot.wire
    await reader.aclose()
