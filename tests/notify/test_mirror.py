"""The mirror of alarms on a real broker: every step, in order, and nothing missed while one of the two was away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.core.model import Condition, Transition
from gateway.notify import mirror
from gateway.notify.mirror import TOPIC, Address, AlarmMirror, payload
from gateway.sources.broker import MIRROR_USER, BrokerOptions, EmbeddedBroker, derived_password
from gateway.store.store import Store
from tests.console.city import START, record, step
from tests.servers import Broker, mosquitto


@contextlib.asynccontextmanager
async def mirroring(store: Store, broker: Broker, **more: Any) -> AsyncIterator[AlarmMirror]:
    made = AlarmMirror("city", store, lambda: Address(broker.url), lambda: START, **more)
    task = asyncio.create_task(made.run(), name="mirror")
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Reader:
    """Whoever follows the alarms on the broker; ``got``: alarm id → revisions as they came."""

    def __init__(self) -> None:
        self.got: dict[str, list[int]] = {}
        self.documents: dict[str, dict[str, Any]] = {}
        self.retained: set[str] = set()
        self.came = asyncio.Condition()

    async def follow(self, url: str, user: str | None = None, password: str | None = None) -> None:
        host, _, port = url.removeprefix("mqtt://").partition(":")
        async with aiomqtt.Client(
            host, int(port), username=user, password=password, protocol=aiomqtt.ProtocolVersion.V311
        ) as client:
            await client.subscribe(f"{TOPIC}/#", qos=1)
            async for message in client.messages:
                document = json.loads(message.payload)  # type: ignore[arg-type]
                alarm_id = str(message.topic).removeprefix(f"{TOPIC}/")
                async with self.came:
                    self.got.setdefault(alarm_id, []).append(document["rev"])
                    self.documents[alarm_id] = document
                    if message.retain:
                        self.retained.add(alarm_id)
                    self.came.notify_all()

    async def until(self, **revs: int) -> None:
        """Until the newest of each asset's alarm is of this revision."""
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(
                lambda: all((self.got.get(f"{name.replace('_', '-')}/lamp-out") or [0])[-1] == rev
                            for name, rev in revs.items())
            )  # fmt: skip


@contextlib.asynccontextmanager
async def reading(url: str, user: str | None = None, password: str | None = None) -> AsyncIterator[Reader]:
    reader = Reader()
    task = asyncio.create_task(reader.follow(url, user, password), name="reader")
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def happen(store: Store, made: AlarmMirror | None, position: int, *steps: Transition) -> None:
    """Steps as the pipeline commits them and tells of them."""
    await store.commit(position, list(steps))
    if made is not None:
        made.hear(steps)


async def test_every_step_is_published_in_order_and_the_newest_stays(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    async with mosquitto() as broker, mirroring(store, broker) as made, reading(broker.url) as reader:
        await happen(store, made, 1, *(step(record(asset, rev=1)) for asset in ("lamp-1", "lamp-2")))
        await reader.until(lamp_1=1, lamp_2=1)
        for rev in range(2, 30):
            quiet = step(record(rev=rev, acked=rev % 2 == 0), cause="T10", notify=False)
            await happen(store, made, rev, quiet)
        await reader.until(lamp_1=29)
        assert [rev for rev in reader.got["lamp-1/lamp-out"] if rev > 1] == list(range(2, 30))
        async with reading(broker.url) as late:
            await late.until(lamp_1=29, lamp_2=1)
            assert late.retained == {"lamp-1/lamp-out", "lamp-2/lamp-out"}
        assert made.statistics.delivered >= 30
    await store.close()


async def test_what_was_there_before_the_mirror_is_shown_as_it_is(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await happen(store, None, 5, *(step(record(rev=rev)) for rev in (1, 2, 3)), step(record("lamp-2", rev=1)))
    async with mosquitto() as broker, reading(broker.url) as reader, mirroring(store, broker):
        await reader.until(lamp_1=3, lamp_2=1)
        assert reader.got["lamp-1/lamp-out"] == [3]
    await store.close()


async def test_a_broker_that_is_killed_misses_nothing(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    async with mosquitto() as broker, mirroring(store, broker) as made:
        async with reading(broker.url) as reader:
            await happen(store, made, 1, step(record(rev=1)))
            await reader.until(lamp_1=1)
        await broker.kill()
        for rev in range(2, 12):
            await happen(store, made, rev, step(record(rev=rev)))
        await asyncio.sleep(0.1)
        assert made.statistics.down_since is not None
        await broker.start()
        async with reading(broker.url) as reader:
            await happen(store, made, 12, step(record(rev=12)))
            await reader.until(lamp_1=12)
        assert made.statistics.down_since is None
    await store.close()


async def test_after_a_crash_of_ours_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "CURSOR_EVERY_S", 0.0)
    store = await Store.open(tmp_path)
    async with mosquitto() as broker:
        async with mirroring(store, broker) as made, reading(broker.url) as reader:
            await happen(store, made, 1, step(record(rev=1)))
            await reader.until(lamp_1=1)
            async with asyncio.timeout(10):
                while await store.cursor("mirror:city") != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        for rev in range(2, 8):
            await happen(store, None, rev, step(record(rev=rev)))
        async with reading(broker.url) as reader:
            await reader.until(lamp_1=1)  # what is retained
            async with mirroring(store, broker):
                await reader.until(lamp_1=7)
            assert reader.got["lamp-1/lamp-out"] == [1, 2, 3, 4, 5, 6, 7]
    await store.close()


async def test_more_than_is_kept_in_memory_is_read_from_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "WAITING", 5)
    monkeypatch.setattr(mirror, "MAX_PAGE", 3)  # pages end within a position
    store = await Store.open(tmp_path)
    async with mosquitto() as broker, mirroring(store, broker) as made, reading(broker.url) as reader:
        await happen(store, made, 1, step(record(rev=1)))
        await reader.until(lamp_1=1)
        for position in range(2, 10):
            steps = [step(record(rev=4 * position + more)) for more in range(4)]
            await happen(store, made, position, *steps)
        await reader.until(lamp_1=39)
        fresh = list(dict.fromkeys(reader.got["lamp-1/lamp-out"]))
        assert fresh == [1, *range(8, 40)]
    await store.close()


async def test_simulated_and_shadow_alarms_are_not_among_the_real_ones(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    async with mosquitto() as broker, mirroring(store, broker) as made, reading(broker.url) as reader:
        await happen(store, made, 1, step(record("sim", simulated=True)), step(record("trial", shadow=True)))
        await happen(store, made, 2, step(record()))
        await reader.until(lamp_1=1)
        assert set(reader.got) == {"lamp-1/lamp-out"}
    await store.close()


def test_the_document_says_how_it_is_and_what_led_there() -> None:
    before = record(rev=1)
    after = record(rev=2, cond=Condition.NORMAL)
    document = json.loads(payload(after, step(after, before, cause="T6")))
    assert (document["alarm_id"], document["rev"], document["state"]) == ("lamp-1/lamp-out", 2, "RTNUN")
    assert (document["cause"], document["from"], document["level"]) == ("T6", "UNACK", "III")
    assert document["title"] == {"zh": "路灯熄灭", "en": "Lamp out"}


async def test_the_embedded_broker_lets_readers_read_and_nobody_else(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "data")
    options = BrokerOptions(
        tmp_path / "broker", tmp_path / "secrets", 0, fleet_users=("fleet",), readers=("wall",), ack_wait_s=1
    )
    broker = EmbeddedBroker(options)
    await broker.start(["d-1"])
    secret = (tmp_path / "secrets" / "broker_secret").read_text().strip()
    where = Address(broker.url, MIRROR_USER, broker.password(MIRROR_USER))
    made = AlarmMirror("city", store, lambda: where, lambda: START)
    task = asyncio.create_task(made.run(), name="mirror")
    try:
        async with reading(broker.url, "wall", derived_password(secret, "wall")) as reader:
            await happen(store, made, 1, step(record()), step(record("lamp.2")))
            async with asyncio.timeout(20):
                while len(reader.got) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert set(reader.got) == {"lamp-1/lamp-out", "lamp.2/lamp-out"}
        async with reading(broker.url, "wall", derived_password(secret, "wall")) as late:
            async with asyncio.timeout(20):
                while len(late.retained) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        for user in ("fleet", "d-1"):
            async with reading(broker.url, user, derived_password(secret, user)) as nosy:
                await asyncio.sleep(0.5)
                assert nosy.got == {}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await broker.stop()
        await store.close()
