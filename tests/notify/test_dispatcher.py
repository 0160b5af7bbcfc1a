"""Telling people: in order, again until it works, and one receiver never delays another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.model import HOUR, SECOND, Level, Micros
from gateway.core.records import OutboxState
from gateway.errors import Rejected, StorageFailed, Unavailable
from gateway.notify.dispatcher import Dispatcher
from gateway.notify.log import LogReceiver
from gateway.notify.webhook import WebhookReceiver
from gateway.ports import Notification, Receiver
from gateway.store.store import Store
from tests.console.city import START, record, step
from tests.notify.witness import nothing, status, witness


class Told:
    """Writes down what it is given; ``script`` holds what to raise, one a send, then nothing."""

    def __init__(self, *script: Exception | None, hang: bool = False) -> None:
        self.script = list(script)
        self.hang = hang
        self.got: list[Notification] = []
        self.came = asyncio.Condition()
        self.in_air = 0
        self.most_at_once = 0

    async def send(self, notification: Notification) -> None:
        self.in_air += 1
        self.most_at_once = max(self.most_at_once, self.in_air)
        try:
            async with self.came:
                self.got.append(notification)
                self.came.notify_all()
            if self.hang:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            if self.script and (error := self.script.pop(0)) is not None:
                raise error
        finally:
            self.in_air -= 1

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: len(self.got) >= count)
        return [notification.key for notification in self.got]


class Clock:
    """Gateway time that the test moves. It runs a hundred times as fast as the wall, so that retries are short."""

    def __init__(self) -> None:
        self._start = asyncio.get_running_loop().time()
        self.ahead: Micros = 0

    def now(self) -> Micros:
        passed = asyncio.get_running_loop().time() - self._start
        return START + 60 * SECOND + self.ahead + round(passed * SECOND * 100)


@contextlib.asynccontextmanager
async def dispatching(
    folder: Path, receivers: dict[str, Receiver], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Store, Dispatcher, Clock]]:
    """Store and dispatcher running; looks at the outbox every 10 ms, because this clock runs fast."""
    monkeypatch.setattr("gateway.notify.dispatcher.IDLE_S", 0.01)
    store = await Store.open(folder, receivers=lambda transition: tuple(receivers))
    clock = Clock()
    dispatcher = Dispatcher(store, receivers, clock.now)
    task = asyncio.create_task(dispatcher.run(), name="dispatcher")
    try:
        yield store, dispatcher, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def settled(store: Store, **wanted: int) -> None:
    """Returns when the outbox holds these counts."""
    async with asyncio.timeout(10):
        while (await store.counts())["outbox"] != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_every_receiver_is_told_of_every_transition_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops, crew = Told(), Told()
    async with dispatching(tmp_path, {"ops": ops, "crew": crew}, monkeypatch) as (store, dispatcher, _):
        for rev in range(1, 6):
            await store.commit(rev, [step(record(asset, rev=rev)) for asset in ("a", "b")])
            dispatcher.wake()
        await settled(store, delivered=20)
        for told, name in ((ops, "ops"), (crew, "crew")):
            for asset in ("a", "b"):
                keys = [n.key for n in told.got if n.transition.record.asset == asset]
                assert keys == [f"{asset}/lamp-out/{rev}/{name}" for rev in range(1, 6)]
        assert dispatcher.statistics["ops"].delivered == 10


async def test_a_raise_and_its_clear_wait_together_while_the_receiver_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(Unavailable("down"), Unavailable("down"), Unavailable("down"))
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [step(record(rev=1)), step(record(rev=2))])
        dispatcher.wake()
        keys = await told.until(5)
        assert keys == ["lamp-1/lamp-out/1/ops"] * 4 + ["lamp-1/lamp-out/2/ops"]
        assert [n.attempt for n in told.got] == [1, 2, 3, 4, 1]
        await settled(store, delivered=2)
        assert dispatcher.statistics["ops"].retried == 3
        assert dispatcher.statistics["ops"].down_since is None


async def test_a_receiver_that_hangs_delays_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf, well = Told(hang=True), Told()
    async with dispatching(tmp_path, {"deaf": deaf, "well": well}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [step(record(f"x-{i}")) for i in range(40)])
        dispatcher.wake()
        await well.until(40)
        assert deaf.most_at_once == 8
        await settled(store, delivered=40, sending=8, pending=32)


async def test_a_refusal_for_good_is_written_down_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(Rejected("HTTP 410"))
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [step(record(rev=1)), step(record(rev=2))])
        dispatcher.wake()
        await settled(store, failed=1, delivered=1)
        assert await store.outbox_rows(OutboxState.FAILED, 10) == [("lamp-1/lamp-out/1/ops", "HTTP 410")]
        assert dispatcher.statistics["ops"].failed == 1


async def test_after_a_day_it_is_given_up_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(*[Unavailable("down")] * 10_000)
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, dispatcher, clock):
        await store.commit(1, [step(record())])
        dispatcher.wake()
        await told.until(2)
        clock.ahead = 25 * HOUR
        await settled(store, failed=1)
        ((key, error),) = await store.outbox_rows(OutboxState.FAILED, 10)
        assert key == "lamp-1/lamp-out/1/ops"
        assert error == "given up after a day: down"


async def test_a_bug_in_a_receiver_silences_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(ZeroDivisionError("bug"))
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [step(record())])
        dispatcher.wake()
        await settled(store, delivered=1)
        assert len(told.got) == 2


async def test_in_a_storm_level_i_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    storm = [step(record(f"x-{i}", level=Level.IV)) for i in range(200)]
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [*storm, step(record("worst", level=Level.I))])
        dispatcher.wake()
        assert (await told.until(8)).index("worst/lamp-out/1/ops") == 0
        await settled(store, delivered=201)


async def test_what_a_dead_process_left_in_the_air_is_sent_again_with_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dispatching(tmp_path, {"ops": Told(hang=True)}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [step(record())])
        dispatcher.wake()
        await settled(store, sending=1)
    told = Told()
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, _, _):
        assert await told.until(1) == ["lamp-1/lamp-out/1/ops"]
        assert told.got[0].attempt == 2
        await settled(store, delivered=1)


async def test_retry_after_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(Unavailable("busy", 1000.0))
    async with dispatching(tmp_path, {"ops": told}, monkeypatch) as (store, dispatcher, clock):
        await store.commit(1, [step(record())])
        dispatcher.wake()
        await told.until(1)
        await settled(store, pending=1)
        due = await store.next_due("ops")
        assert due is not None
        assert due - clock.now() > 900 * SECOND
        clock.ahead = 1001 * SECOND
        await told.until(2)


async def test_a_failed_store_ends_the_dispatcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await Store.open(tmp_path, receivers=lambda transition: ("ops",))
    dispatcher = Dispatcher(store, {"ops": Told()}, lambda: START + HOUR)
    store._failed = StorageFailed("disk")
    with pytest.raises(StorageFailed):
        await dispatcher.run()
    store._failed = None
    await store.commit(1, [step(record())])
    monkeypatch.setattr(store, "mark", store.claim)  # a write that cannot succeed
    with pytest.raises(ExceptionGroup):
        await dispatcher.run()
    await store.close()


async def test_to_a_real_webhook_that_fails_in_every_way_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with witness(status(500), nothing, status(429, "Retry-After: 1"), status(503)) as seen:
        hook = WebhookReceiver(seen.url, "key", allow_loopback=True)
        receivers: dict[str, Receiver] = {"hook": hook, "log": LogReceiver()}
        async with dispatching(tmp_path, receivers, monkeypatch) as (store, dispatcher, _):
            await store.commit(1, [step(record(rev=1)), step(record(rev=2))])
            dispatcher.wake()
            await settled(store, delivered=4)
        await hook.close()
        assert seen.keys == ["lamp-1/lamp-out/1/hook"] * 5 + ["lamp-1/lamp-out/2/hook"]


async def test_the_log_lets_a_storm_pass_but_people_are_told_and_it_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, person = Told(), Told()
    patient.patient = True  # type: ignore[attr-defined]
    assert LogReceiver.patient
    monkeypatch.setattr("gateway.notify.dispatcher.LOOK_S", 0.01)
    async with dispatching(tmp_path, {"log": patient, "ops": person}, monkeypatch) as (store, dispatcher, _):
        storm = [True]
        dispatcher._busy = lambda: storm[0]
        await asyncio.sleep(0.05)  # the lane is where it waits
        await store.commit(1, [step(record("a"))])
        dispatcher.wake()
        await person.until(1)
        await asyncio.sleep(0.1)
        assert patient.got == []
        storm[0] = False
        await patient.until(1)
        storm[0] = True
        monkeypatch.setattr("gateway.notify.dispatcher.CALM_S", 0.05)
        await store.commit(2, [step(record("b"))])
        dispatcher.wake()
        await patient.until(2)
