"""Work, photos and maintenance in the store."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from gateway.core.model import SECOND, AssetsChanged, Condition, Maintenance, MaintenanceChanged, WorkOrder
from gateway.core.records import EVERYWHERE, MaintenanceState, Scope, WorkFilter
from gateway.store.store import Store
from tests.console.city import START, record, step

WINDOW = Maintenance("w1", "lamp-1", START + 100, START + 200, "W-7", "new lamp", "li", START)
OPEN, PLANNED, ENDED = MaintenanceState.OPEN, MaintenanceState.PLANNED, MaintenanceState.ENDED


async def test_a_window_is_kept_from_its_plan_to_its_end_and_known_until_then(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    try:
        assets = b'{"assets": [{"asset": "lamp-1", "kind": "lamp", "town": "A"}], "devices": []}'
        await store.commit(1, [AssetsChanged(START, assets), MaintenanceChanged(START, WINDOW)])
        assert (await store.known()).maintenance == [WINDOW]
        assert await store.work.maintenance_by_id("w1") == WINDOW
        assert await store.work.maintenance_by_id("w2") is None
        other = replace(WINDOW, id="w2", asset="pump-1", until=START + 300)
        await store.commit(2, [MaintenanceChanged(START, other)])

        async def ids(state: MaintenanceState | None, now: int, **more: object) -> list[str]:
            page = await store.work.maintenance(state, None, now, 10, **more)  # type: ignore[arg-type]
            return [window.id for window in page.items]

        assert await ids(None, START) == ["w2", "w1"]
        assert await ids(PLANNED, START) == ["w2", "w1"]
        assert await ids(OPEN, START) == []
        assert await ids(OPEN, START + 100) == ["w2", "w1"]
        assert await ids(None, START, scope=Scope(towns=("A",))) == ["w1"]
        first = await store.work.maintenance(None, None, START, 1)
        assert first.cursor is not None
        assert await ids(None, START, cursor=first.cursor) == ["w1"]
        ended = replace(WINDOW, ended_at=START + 150, ended_by="wang")
        await store.commit(3, [MaintenanceChanged(START + 150, ended)])
        assert (await store.known()).maintenance == [other]
        assert await ids(ENDED, START) == ["w1"]
        await store.commit(3, [MaintenanceChanged(START, WINDOW), MaintenanceChanged(START + 150, ended)])
        assert await store.work.maintenance_by_id("w1") == ended, "the same again changes nothing"
    finally:
        await store.close()


async def test_work_is_found_by_its_state_and_whose_it_is(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    try:
        order = WorkOrder("01J", "crew-1", "li", START)
        await store.commit(1, [step(record(work="DISPATCHED", order=order)), step(record("lamp-2"))])
        found = await store.work.orders(WorkFilter(("DISPATCHED",), ("crew-1",)), 10)
        assert [item.order for item in found.items] == [order]
        assert (await store.work.orders(WorkFilter(("DISPATCHED",), ("crew-2",)), 10)).items == []
        assert (await store.work.orders(WorkFilter(("CLOSED",)), 10)).items == []
        assert (await store.work.orders(WorkFilter(("DISPATCHED",), scope=Scope(kinds=("pump",))), 10)).items == []
        after = record(work="ACCEPTED", order=order, rev=2)
        await store.commit(2, [step(after, cause="W2"), step(record(rev=3, work="ACCEPTED", order=order), cause="T9")])
        assert [item.cause for item in await store.work.steps("lamp-1/lamp-out", 10)] == ["W2"]
    finally:
        await store.close()


async def test_the_same_photo_of_an_alarm_is_one_row_and_of_another_one_more(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    try:
        await store.commit(1, [step(record()), step(record("lamp-2"))])
        ids = []
        for alarm in ("lamp-1/lamp-out", "lamp-1/lamp-out", "lamp-2/lamp-out"):
            added = await store.work.add_photo(alarm, "01J", START, "li", "image/png", b"lamp", 5)
            assert added is not None
            ids.append((added[0].id, added[1]))
        assert ids == [(ids[0][0], True), (ids[0][0], False), (ids[0][0], True)]
        assert len(await store.work.photos("lamp-1/lamp-out")) == 1
        found = await store.work.photo(ids[0][0], EVERYWHERE)
        assert found is not None
        assert found[1] == b"lamp"
    finally:
        await store.close()


async def test_a_shift_hands_over_work_that_waits_for_somebody_although_its_alarm_is_over(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    try:
        order = WorkOrder("01J", "crew-1", "li", START)
        over = {"cond": Condition.NORMAL, "acked": True, "closed_at": START}
        waiting = record(**over, work="VERIFYING", order=order)
        closed = record("lamp-2", **over, work="CLOSED", order=replace(order, closed_at=START))
        await store.commit(1, [step(waiting), step(closed)])
        found = await store.desk.shift_lists(START + 60 * SECOND)
        assert [alarm.asset for alarm in found.open_work.alarms] == ["lamp-1"]
    finally:
        await store.close()
