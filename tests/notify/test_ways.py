"""Messages for people: the next way when one refuses or is away, doubts that are said, rows that nobody would send."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.model import HOUR, MINUTE, SECOND, Level, Micros
from gateway.core.notification import Channel, Message, MessagesWithdrawn
from gateway.core.records import OutboxState
from gateway.errors import Rejected, Unavailable
from gateway.notify.dispatcher import Dispatcher, Handed
from gateway.notify.log import LogReceiver
from gateway.notify.webhook import WebhookReceiver
from gateway.ports import Receiver
from gateway.store.store import Store
from tests.console.city import START, record, step
from tests.notify.messages import message, wording
from tests.notify.test_dispatcher import Clock, Told, dispatching, settled
from tests.notify.witness import nothing, status, witness

SMS, MAIL, CALL = (Channel(name, f"{name}-address") for name in ("sms", "mail", "call"))


def to(*channels: Channel, level: Level = Level.I, key: str = "k", **more: Any) -> Message:
    return msgspec.structs.replace(
        message(), key=key, thread=key, channels=channels, level=level, at=START + 60 * SECOND, **more
    )


async def test_a_refusal_sends_it_the_next_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms, mail = Told(Rejected("no such number")), Told()
    receivers: dict[str, Receiver] = {"sms": sms, "mail": mail}
    async with dispatching(tmp_path, receivers, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL)])
        dispatcher.wake()
        await settled(store, delivered=1)
        assert [(n.key, n.address, n.doubtful) for n in (*sms.got, *mail.got)] == [
            ("k", "sms-address", False), ("k", "mail-address", False),
        ]  # fmt: skip
        assert (dispatcher.statistics["sms"].moved, dispatcher.statistics["sms"].failed) == (1, 0)


async def test_when_every_way_refuses_it_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms, mail = Told(*[Rejected("no")] * 5), Told(*[Rejected("never")] * 5)
    async with dispatching(tmp_path, {"sms": sms, "mail": mail}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL, level=Level.II)])
        dispatcher.wake()
        await settled(store, failed=1)
        assert (len(sms.got), len(mail.got)) == (1, 1)
        assert await store.outbox_rows(OutboxState.FAILED, 10) == [("k", "never")]
        assert dispatcher.undelivered == {Level.II: 1}


@pytest.mark.parametrize(
    ("level", "patience"), [(Level.I, 20 * SECOND), (Level.II, MINUTE), (Level.III, 5 * MINUTE), (Level.IV, 5 * MINUTE)]
)
async def test_a_receiver_that_is_away_has_as_long_as_the_level_has_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Level, patience: Micros
) -> None:
    """With a clock that stands still but for the test."""
    now = START + 61 * SECOND
    sms, mail = Told(*[Unavailable("down")] * 1000), Told()
    store = await Store.open(tmp_path)
    dispatcher = Dispatcher(store, {"sms": sms, "mail": mail}, lambda: now)
    task = asyncio.create_task(dispatcher.run())
    try:
        await store.commit(1, [to(SMS, MAIL, level=level)])
        dispatcher.wake()
        await sms.until(1)
        await settled(store, pending=1)
        now += patience - 1
        dispatcher.wake()
        await sms.until(2)
        await settled(store, pending=1)
        assert mail.got == []
        assert await store.next_due("sms") == now + 1  # no longer than there is patience
        now += 1
        dispatcher.wake()
        await settled(store, delivered=1)
        assert [n.attempt for n in mail.got] == [len(sms.got) + 1]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def test_from_the_last_way_it_comes_back_to_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms, mail = Told(*[Unavailable("down")] * 5), Told(*[Unavailable("down")] * 1000)
    async with dispatching(tmp_path, {"sms": sms, "mail": mail}, monkeypatch) as (store, dispatcher, _):
        sms.script = [*[Unavailable("down")] * 200]
        await store.commit(1, [to(SMS, MAIL)])
        dispatcher.wake()
        await mail.until(1)
        sms.script = []
        await settled(store, delivered=1)
        assert dispatcher.statistics["mail"].moved == 1
        assert dispatcher.statistics["sms"].delivered == 1


async def test_a_way_that_refused_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms, mail, call = Told(Rejected("no")), Told(*[Unavailable("down")] * 1000), Told(*[Unavailable("down")] * 1000)
    receivers: dict[str, Receiver] = {"sms": sms, "mail": mail, "call": call}
    async with dispatching(tmp_path, receivers, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL, CALL)])
        dispatcher.wake()
        await call.until(1)
        seen = len(mail.got)
        await mail.until(seen + 1)
        assert len(sms.got) == 1


async def test_who_asks_for_more_patience_than_there_is_loses_the_message(tmp_path: Path) -> None:
    """No time passes here at all."""
    sms, mail = Told(Unavailable("busy", 600.0)), Told()
    store = await Store.open(tmp_path)
    dispatcher = Dispatcher(store, {"sms": sms, "mail": mail}, lambda: START + 61 * SECOND)
    task = asyncio.create_task(dispatcher.run())
    await store.commit(1, [to(SMS, MAIL)])
    dispatcher.wake()
    await settled(store, delivered=1)
    assert (len(sms.got), len(mail.got)) == (1, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()


async def test_a_single_way_is_tried_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms = Told(*[Unavailable("down")] * 10_000)
    async with dispatching(tmp_path, {"sms": sms}, monkeypatch) as (store, dispatcher, clock):
        await store.commit(1, [to(SMS)])
        dispatcher.wake()
        await sms.until(3)
        clock.ahead = 25 * HOUR
        await settled(store, failed=1)
        assert (await store.outbox_rows(OutboxState.FAILED, 1))[0][1] == "given up after a day: down"


async def test_what_may_have_arrived_says_so_the_next_time_whichever_way_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Unavailable("no answer", may_have_arrived=True)
    sms, mail = Told(lost, Rejected("no")), Told(Unavailable("down"))
    async with dispatching(tmp_path, {"sms": sms, "mail": mail}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL)])
        dispatcher.wake()
        await settled(store, delivered=1)
        assert [n.doubtful for n in (*sms.got, *mail.got)] == [False, True, True, True]
        assert {n.key for n in (*sms.got, *mail.got)} == {"k"}


async def test_who_was_never_reached_leaves_no_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms = Told(Unavailable("refused"), Unavailable("refused"))
    async with dispatching(tmp_path, {"sms": sms}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS)])
        dispatcher.wake()
        await settled(store, delivered=1)
        assert [n.doubtful for n in sms.got] == [False, False, False]


async def test_a_receiver_that_hangs_and_a_bug_leave_a_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.notify.dispatcher.SEND_S", 0.05)
    sms = Told(hang=True)
    async with dispatching(tmp_path, {"sms": sms}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS)])
        dispatcher.wake()
        await sms.until(1)
        sms.hang, sms.script = False, [ZeroDivisionError("bug"), None]
        await settled(store, delivered=1)
        assert [n.doubtful for n in sms.got] == [False, True, True]


async def test_what_was_in_the_air_when_we_died_is_doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dispatching(tmp_path, {"sms": Told(hang=True)}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS)])
        dispatcher.wake()
        await settled(store, sending=1)
    sms = Told()
    async with dispatching(tmp_path, {"sms": sms}, monkeypatch) as (store, _, _):
        await sms.until(1)
        assert sms.got[0].doubtful


async def test_what_is_withdrawn_is_not_sent_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms, mail = Told(*[Unavailable("down")] * 1000), Told()
    async with dispatching(tmp_path, {"sms": sms, "mail": mail}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL, level=Level.IV)])
        dispatcher.wake()
        await sms.until(1)
        await store.commit(2, [MessagesWithdrawn(START, ("k",), "acknowledged")])
        await settled(store, withdrawn=1)
        await asyncio.sleep(0.2)
        assert mail.got == []


async def test_rows_of_receivers_that_are_gone_move_or_fail_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(tmp_path, receivers=lambda transition: ("gone",))
    await store.commit(1, [step(record()), to(SMS, MAIL, key="a"), to(SMS, CALL, key="b"), to(MAIL, SMS, key="c")])
    await store.close()
    mail = Told()
    async with dispatching(tmp_path, {"mail": mail}, monkeypatch) as (store, dispatcher, _):
        await settled(store, delivered=2, failed=2)
        assert sorted((n.key, n.address) for n in mail.got) == [("a", "mail-address"), ("c", "mail-address")]
        failed = dict(await store.outbox_rows(OutboxState.FAILED, 10))
        assert failed == {
            "lamp-1/lamp-out/1/gone": "the settings name no receiver gone any more",
            "b": "the settings name no receiver sms any more",
        }
        assert dispatcher.undelivered == {Level.III: 1, Level.I: 1}


async def test_a_way_that_leads_to_no_receiver_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sms, call = Told(Rejected("no")), Told()
    async with dispatching(tmp_path, {"sms": sms, "call": call}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL, CALL)])
        dispatcher.wake()
        await settled(store, delivered=1)
        assert [n.address for n in call.got] == ["call-address"]


async def test_a_receiver_says_how_many_it_takes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(hang=True)
    told.at_once = 3  # type: ignore[attr-defined]
    async with dispatching(tmp_path, {"ops": told, "log": LogReceiver()}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [step(record(f"x-{i}")) for i in range(100)])
        dispatcher.wake()
        await settled(store, delivered=100, sending=3, pending=97)
        assert told.most_at_once == 3


async def test_a_quiet_dispatcher_asks_for_nothing(tmp_path: Path) -> None:
    """A row that waits for its time wakes nobody before."""
    asked = 0
    store = await Store.open(tmp_path)
    claim = store.claim

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await claim(*arguments)

    store.claim = counted  # type: ignore[method-assign]
    told = Told(*[Unavailable("down")] * 100)
    clock = START + 61 * SECOND
    dispatcher = Dispatcher(store, {"sms": told}, lambda: clock)  # time stands still
    task = asyncio.create_task(dispatcher.run())
    await store.commit(1, [to(SMS)])
    dispatcher.wake()
    await told.until(1)
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
    assert asked <= 4


async def test_of_every_delivery_somebody_may_hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Handed] = []
    monkeypatch.setattr("gateway.notify.dispatcher.IDLE_S", 0.01)
    store, clock = await Store.open(tmp_path), Clock()
    dispatcher = Dispatcher(store, {"sms": Told()}, clock.now, on_handed=heard.append)
    task = asyncio.create_task(dispatcher.run())
    await store.commit(1, [to(SMS)])
    dispatcher.wake()
    await settled(store, delivered=1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()
    ((row, receiver, claimed, at),) = ((h.row, h.receiver, h.claimed_at, h.at) for h in heard)
    assert (row.key, receiver) == ("k", "sms")
    assert claimed <= at


async def test_to_people_by_a_real_webhook_that_fails_in_every_way_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepts and hangs up (doubt), too fast, ill, then takes it: one key, and the doubt is said once there is one."""
    async with witness(status(503), nothing, status(429), status(204)) as seen:
        hook = WebhookReceiver(seen.url, "key", allow_loopback=True, wording=wording())
        async with dispatching(tmp_path, {"sms": hook}, monkeypatch) as (store, dispatcher, _):
            await store.commit(1, [to(SMS)])
            dispatcher.wake()
            await settled(store, delivered=1)
        await hook.close()
    events = [request.event for request in seen.requests]
    assert seen.keys == ["k"] * 4
    assert [event["type"] for event in events] == ["citywatch.message.raised"] * 4
    assert [event["data"].get("possible_repeat") for event in events] == [None, None, True, True]
    data = events[3]["data"]
    assert (data["recipient"], data["address"]) == ("zhang", "sms-address")
    assert data["title"] == "红色 I 级报警：西泵站 集水井水位过高（可能重复）"
    assert "启动备用泵" in data["text"]
    assert [alarm["alarm_id"] for alarm in data["alarms"]] == ["PS-01/wetwell-high"]


async def test_to_a_server_that_is_down_and_then_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with witness() as gone:
        url = gone.url
    hook = WebhookReceiver(url, allow_loopback=True, wording=wording())
    mail = Told()
    async with dispatching(tmp_path, {"sms": hook, "mail": mail}, monkeypatch) as (store, dispatcher, _):
        await store.commit(1, [to(SMS, MAIL)])
        dispatcher.wake()
        await settled(store, delivered=1)
        assert [(n.doubtful, n.address) for n in mail.got] == [(False, "mail-address")]
    await hook.close()
