"""Messages to people in the outbox: once, in their thread's order, withdrawn, moved to another channel, in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from gateway.core.model import SECOND, Level
from gateway.core.notification import Channel, Message, MessageKind, MessagesWithdrawn, lines_of
from gateway.core.records import OutboxFilter, OutboxOutcome, OutboxState
from gateway.store.store import Store
from tests.console.city import START, record, step

LATER = START + 100 * SECOND
LEASE = 60 * SECOND
RAISED = record("lamp-1", level=Level.II)
MESSAGE = Message(
    "o1/route/s0/li", "o1/route", "li", MessageKind.RAISED, START, Level.II, lines_of([RAISED]), 1, "route", 0,
    (Channel("sms", "+861"), Channel("mail", "li@x")),
)  # fmt: skip
ESCALATED = replace(MESSAGE, key="o1/route/s1/li", kind=MessageKind.ESCALATED, step=1)


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return await Store.open(tmp_path, receivers=lambda _: ())


async def states(store: Store) -> dict[str, str]:
    return {row.key: row.state.value for row in (await store.desk.notifications(OutboxFilter(), 100)).items}


async def test_a_message_is_kept_once_whatever_is_replayed(store: Store) -> None:
    for position in (1, 1, 2):
        await store.commit(position, [step(RAISED), MESSAGE])
    [row] = await store.claim("sms", LATER, LEASE, 10)
    assert (row.key, row.message, row.transition, row.attempt, row.doubtful) == (MESSAGE.key, MESSAGE, None, 1, False)
    await store.close()


async def test_messages_of_a_thread_leave_in_their_order_and_others_beside_them(store: Store) -> None:
    other = replace(MESSAGE, key="o2/route/s0/li", thread="o2/route")
    await store.commit(1, [MESSAGE, ESCALATED, other])
    assert [row.key for row in await store.claim("sms", LATER, LEASE, 10)] == [MESSAGE.key, other.key]
    await store.close()


async def test_what_waits_is_withdrawn_with_the_step_that_says_so(store: Store) -> None:
    await store.commit(1, [MESSAGE, MessagesWithdrawn(START, (MESSAGE.key,), "acknowledged")])
    assert await states(store) == {MESSAGE.key: "withdrawn"}
    assert await store.claim("sms", LATER, LEASE, 10) == []
    await store.close()


async def test_what_is_in_the_air_when_it_is_withdrawn_counts_as_it_ended_and_is_not_tried_again(store: Store) -> None:
    await store.commit(1, [MESSAGE, ESCALATED])
    [first] = await store.claim("sms", LATER, LEASE, 10)
    await store.commit(2, [MessagesWithdrawn(START, (MESSAGE.key, ESCALATED.key), "acknowledged")])
    await store.mark([OutboxOutcome(first.id, OutboxState.PENDING, LATER, LATER, "HTTP 500")])
    assert await states(store) == {MESSAGE.key: "withdrawn", ESCALATED.key: "withdrawn"}
    await store.mark([OutboxOutcome(first.id, OutboxState.DELIVERED, LATER)])
    assert (await states(store))[MESSAGE.key] == "delivered"
    await store.close()


async def test_a_message_goes_on_by_another_channel_with_the_same_key(store: Store) -> None:
    await store.commit(1, [MESSAGE])
    [first] = await store.claim("sms", LATER, LEASE, 10)
    moved = OutboxOutcome(first.id, OutboxState.PENDING, LATER, LATER, "refused", "mail", 1, doubtful=True)
    await store.mark([moved])
    assert await store.claim("sms", LATER, LEASE, 10) == []
    [second] = await store.claim("mail", LATER, LEASE, 10)
    assert (second.key, second.channel, second.attempt, second.doubtful) == (MESSAGE.key, 1, 2, True)
    await store.close()


async def test_what_a_dead_process_had_in_the_air_is_in_doubt_and_nothing_else_is(store: Store) -> None:
    await store.commit(1, [MESSAGE, ESCALATED])
    await store.claim("sms", LATER, LEASE, 1)
    assert await store.unclaim() == 1
    [again] = await store.claim("sms", LATER, LEASE, 10)
    assert (again.key, again.doubtful) == (MESSAGE.key, True)
    await store.mark([OutboxOutcome(again.id, OutboxState.DELIVERED, LATER)])
    [after] = await store.claim("sms", LATER, LEASE, 10)
    assert (after.key, after.doubtful) == (ESCALATED.key, False)
    await store.close()


async def test_the_newest_messages_to_a_person_are_found(store: Store) -> None:
    await store.commit(1, [MESSAGE, ESCALATED, replace(MESSAGE, key="x", recipient="zhang")])
    assert [row.key for row in await store.sent_to("li", START, 10)] == [ESCALATED.key, MESSAGE.key]
    assert await store.sent_to("li", START + 1, 10) == []
    await store.close()


async def test_a_claim_reads_the_index_of_what_is_open(store: Store) -> None:
    """A bound value in the condition would make SQLite read every message that ever was."""
    statements: list[str] = []
    sa.event.listen(store._writer, "before_cursor_execute", lambda *given: statements.append(given[2]))
    await store.commit(1, [MESSAGE])
    statements.clear()
    await store.claim("sms", LATER, LEASE, 8)
    query = next(text for text in statements if text.lstrip().startswith("SELECT"))
    with store._writer.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", ("sms", LATER, 8, 0)).all()
    used = " / ".join(row[3] for row in plan)
    assert "USING INDEX outbox_open (receiver=?)" in used
    assert "outbox_open_by_thread" in used
    assert "SCAN outbox" not in used
    await store.close()
