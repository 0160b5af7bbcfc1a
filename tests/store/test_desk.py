"""The log book, shifts, notes, views and notifications, over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
import sqlalchemy as sa

from gateway.core.model import (
    SECOND,
    AssetsChanged,
    Command,
    CommandDone,
    CommandName,
    Condition,
    Level,
    OutOfService,
    Shelve,
    Transition,
)
from gateway.core.records import (
    EVERYWHERE,
    AuditRow,
    Entry,
    EntryFilter,
    HandoverRow,
    OutboxFilter,
    OutboxOutcome,
    OutboxState,
    SavedView,
    Scope,
)
from gateway.store import schema, shifts
from gateway.store.store import Store
from tests.console.city import ASSETS, DEVICES, START, record, step

ALL = EntryFilter(actions=True)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path, receivers=lambda transition: ("ops",))
    await store.commit(1, [AssetsChanged(START, msgspec.json.encode({"assets": ASSETS, "devices": DEVICES}))])
    try:
        yield store
    finally:
        await store.close()


def at(seconds: int, transition: Transition) -> Transition:
    return msgspec.structs.replace(transition, at=START + seconds * SECOND)


def line(seconds: int, action: str, subject: str, outcome: str = "done") -> AuditRow:
    return AuditRow(0, START + seconds * SECOND, "li", "api", action, subject, outcome)


async def every_page(store: Store, wanted: EntryFilter, limit: int) -> list[Entry]:
    found: list[Entry] = []
    cursor: str | None = None
    while True:
        page = await store.desk.entries(wanted, limit, cursor)
        assert len(page.items) <= limit
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


async def filled(store: Store) -> None:
    """Steps and lines in the same moments."""
    for second in range(4):
        for asset in ("lamp-1", "lamp-2", "pump-1"):
            after = record(asset, rev=second + 1)
            await store.commit(10 + second, [at(second, step(after))])
        for number, (action, subject) in enumerate(
            (("acknowledge", "lamp-1/lamp-out"), ("write-point", "d-2/setpoint"), ("sign-in", "somebody"))
        ):
            await store.add_audit(f"{second}-{number}", line(second, action, subject, "forbidden"))


# -- the log book -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 23, 24, 1000])
async def test_pages_of_any_size_give_every_line_once_newest_first(store: Store, limit: int) -> None:
    await filled(store)
    found = await every_page(store, ALL, limit)
    assert len({entry.key for entry in found}) == len(found) == 24
    assert [entry.at for entry in found] == sorted((entry.at for entry in found), reverse=True)
    assert [entry.key for entry in found] == [entry.key for entry in await every_page(store, ALL, 1000)]


async def test_a_line_written_between_two_pages_moves_nothing(store: Store) -> None:
    await filled(store)
    whole = [entry.key for entry in await every_page(store, ALL, 1000)]
    first = await store.desk.entries(ALL, 9)
    await store.commit(99, [at(9, step(record("lamp-1", rev=9)))])
    await store.add_audit("later", line(9, "do", "somebody"))
    second = await store.desk.entries(ALL, 1000, first.cursor)
    assert [entry.key for entry in [*first.items, *second.items]] == whole


async def test_what_a_transition_tells_is_not_told_twice(store: Store) -> None:
    raised = record()
    acked = record(rev=2, acked=True)
    command = Command("c-1", CommandName.ACKNOWLEDGE, raised.alarm_id, "li", "api", 1, "on my way")
    stale = Command("c-2", CommandName.ACKNOWLEDGE, raised.alarm_id, "wang", "api", 1)
    done = at(5, step(acked, raised, "T10", by="li", why="on my way"))
    await store.commit(5, [at(1, step(raised)), done, CommandDone(command, done.at)])
    await store.commit(6, [CommandDone(stale, done.at + 1, ("stale_rev", "it is at rev 2"))])
    found = (await store.desk.entries(ALL, 10)).items
    assert [(e.who, e.cause, e.action, e.outcome, e.why) for e in found] == [
        ("wang", None, "acknowledge", "stale_rev", None),
        ("li", "T10", None, None, "on my way"),
        (None, "T3", None, None, None),
    ]
    assert (found[0].asset, found[0].title_zh, found[0].level) == ("lamp-1", "路灯熄灭", Level.III)
    assert [e.cause for e in (await store.desk.entries(EntryFilter(), 10)).items] == ["T10", "T3"]


OUT = {"lamp-1/lamp-out", "lamp-2/lamp-out", "pump-1/lamp-out"}
FILTERS = [
    (EntryFilter(asset="lamp-1", actions=True), {"lamp-1/lamp-out"}, 8),
    (EntryFilter(asset="lamp-2", actions=True), {"lamp-2/lamp-out", "d-2/setpoint"}, 8),  # d-2 is mounted on lamp-2
    (EntryFilter(alarm="lamp-1/lamp-out", actions=True), {"lamp-1/lamp-out"}, 8),
    (EntryFilter(kinds=("lamp",), actions=True), OUT | {"d-2/setpoint"}, 20),
    (EntryFilter(levels=(Level.III,), actions=True), OUT, 12),
    (EntryFilter(levels=(Level.I,), actions=True), set(), 0),
    (EntryFilter(causes=("T3",), actions=True), OUT, 12),
    (EntryFilter(by="li", actions=True), {"lamp-1/lamp-out", "d-2/setpoint", "somebody"}, 12),
    (EntryFilter(q="SOMEB", actions=True), {"somebody"}, 4),
    (EntryFilter(q="熄灭", actions=True), OUT, 12),
    (EntryFilter(since=START + SECOND, until=START + 2 * SECOND, actions=True), None, 6),
    (EntryFilter(scope=Scope(kinds=("pump",)), actions=True), {"pump-1/lamp-out"}, 4),
    (EntryFilter(scope=Scope(units=("养护一所",)), actions=True), OUT - {"pump-1/lamp-out"} | {"d-2/setpoint"}, 16),
]


@pytest.mark.parametrize(("wanted", "subjects", "count"), FILTERS)
async def test_each_filter_narrows_in_the_database(
    store: Store, wanted: EntryFilter, subjects: set[str] | None, count: int
) -> None:
    await filled(store)
    found = await every_page(store, wanted, 3)
    assert len(found) == count
    assert subjects is None or {entry.subject for entry in found} == subjects


async def test_a_person_or_a_rule_that_is_called_like_an_asset_is_not_the_asset(store: Store) -> None:
    for action in ("sign-in", "change-rule", "create-token"):
        await store.add_audit(action, line(1, action, "pump-1"))
    await store.add_audit("note", line(1, "note", "pump-1"))
    narrow = EntryFilter(scope=Scope(kinds=("pump",)), actions=True)
    assert [entry.action for entry in (await store.desk.entries(narrow, 10)).items] == ["note"]
    found = {entry.action: entry.asset for entry in (await store.desk.entries(ALL, 10)).items}
    assert found == {"sign-in": None, "change-rule": None, "create-token": None, "note": "pump-1"}


@pytest.mark.parametrize(
    ("q", "found"), [("way", True), ("WAY", True), ('"hm"', True), ("50%", True), ("late", False), ("5_%", False)]
)
async def test_words_are_found_and_the_rest_of_a_document_is_not(store: Store, q: str, found: bool) -> None:
    raised = record()
    said = step(record(rev=2, acked=True), raised, "T10", by="li", why='on my way, "hm", 50% sure')
    await store.commit(5, [step(raised), said])
    entries = (await store.desk.entries(EntryFilter(q=q), 10)).items
    assert [entry.cause for entry in entries] == (["T10"] if found else [])


async def test_a_cursor_of_another_list_is_refused(store: Store) -> None:
    await filled(store)
    cursor = (await store.audit(1)).cursor
    with pytest.raises(ValueError, match="cursor"):
        await store.desk.entries(ALL, 10, cursor)


def test_the_log_book_is_read_by_its_indexes(tmp_path: Path) -> None:
    """With a million lines a page must not sort them all."""
    from gateway.store import dialect, migrate

    engine = dialect.writer_engine(dialect.url_of(tmp_path))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        for statement in (
            "SELECT * FROM transitions ORDER BY at DESC, alarm_id DESC, rev DESC LIMIT 100",
            "SELECT * FROM transitions WHERE asset = 'x' ORDER BY at DESC, alarm_id DESC, rev DESC LIMIT 100",
            "SELECT * FROM audit WHERE at <= 5 ORDER BY at DESC, id DESC LIMIT 100",
            "SELECT * FROM outbox WHERE state = 'failed' ORDER BY id DESC LIMIT 100",
        ):
            plan = " ".join(row[3] for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}")))
            assert "USING INDEX" in plan, plan
            assert "SCAN transitions" not in plan.replace("SCAN transitions USING INDEX", ""), plan
    engine.dispose()


# -- shifts -----------------------------------------------------------------------------------------------------------


async def test_the_lists_of_a_moment_are_those_of_that_moment_whatever_came_later(store: Store) -> None:
    up = record("lamp-1")
    acked = record("lamp-1", rev=2, acked=True, assigned_to="crew 7")
    shelved = record("lamp-2", shelve=Shelve.TIMED, unshelve_at=START + 900 * SECOND, chattering=True)
    away = record("pump-1", out_of_service=OutOfService("W-1", "li", "repair", START))
    over = record("lamp-1", rev=3, cond=Condition.NORMAL, acked=True, closed_at=START, assigned_to="crew 7")
    trial = record("lamp-1", "trial", shadow=True)
    await store.commit(
        5,
        [
            at(1, step(up)),
            at(2, step(shelved, cause="T15", by="li", why="noise")),
            at(3, step(away)),
            at(4, step(acked, up)),
            at(5, step(trial)),
            at(6, step(over, acked)),
        ],
    )

    async def lists(second: int, scope: Scope = EVERYWHERE) -> dict[str, list[str]]:
        found = await store.desk.shift_lists(START + second * SECOND, scope)
        names = ("unacknowledged", "acknowledged", "shelved", "out_of_service", "chattering", "stale", "open_work")
        return {name: [a.asset for a in getattr(found, name).alarms] for name in names if getattr(found, name).total}

    assert await lists(1) == {}
    assert await lists(2) == {"unacknowledged": ["lamp-1"]}
    middle = {"acknowledged": ["lamp-1"], "shelved": ["lamp-2"], "out_of_service": ["pump-1"], "chattering": ["lamp-2"]}
    assert await lists(5) == middle | {"open_work": ["lamp-1"]}
    assert await lists(60) == {name: middle[name] for name in ("shelved", "out_of_service", "chattering")}
    assert await lists(5, Scope(kinds=("pump",))) == {"out_of_service": ["pump-1"]}
    words = await store.desk.shelvings(["lamp-2/lamp-out", "lamp-1/lamp-out"], START + 60 * SECOND)
    assert [(s.by, s.why) for s in words.values()] == [("li", "noise")]


async def test_the_worst_of_a_long_list_are_kept_and_all_are_counted(store: Store) -> None:
    await store.commit(5, [step(record(f"x-{i:04}", level=Level(i % 4 + 1))) for i in range(1300)])
    found = await store.desk.shift_lists(START + 9999 * SECOND)
    assert (found.unacknowledged.total, len(found.unacknowledged.alarms)) == (1300, 500)
    assert {alarm.level for alarm in found.unacknowledged.alarms} == {Level.I, Level.II}
    assert found.standing == dict.fromkeys(Level, 325)


async def test_a_handover_is_signed_once_by_somebody_else(store: Store) -> None:
    town = Scope(towns=("梁山",))
    row = HandoverRow(0, START, START + 60, "{}", "li", START, "quiet")
    whole = await store.desk.add_handover(row)
    part = await store.desk.add_handover(msgspec.structs.replace(row, scope=town))
    assert not await store.desk.take_handover(whole.id, "li", START, "me again")
    assert await store.desk.take_handover(whole.id, "wang", START + 1, "taken")
    assert not await store.desk.take_handover(whole.id, "zhao", START + 2, "too late")
    kept = await store.desk.handover(whole.id)
    assert kept is not None
    assert (kept.taken_by, kept.taken_at, kept.taken_words, kept.report) == ("wang", START + 1, "taken", "{}")
    assert [h.id for h in (await store.desk.handovers(10)).items] == [part.id, whole.id]
    assert [h.id for h in (await store.desk.handovers(10, None, town)).items] == [part.id]
    assert await store.desk.handover(whole.id, town) is None
    page = await store.desk.handovers(1)
    assert [h.id for h in (await store.desk.handovers(1, page.cursor)).items] == [whole.id]


def test_a_part_of_the_city_lies_in_another_when_nothing_of_it_is_outside() -> None:
    lamps, lamps_here = Scope(kinds=("lamp",)), Scope(kinds=("lamp",), towns=("梁山",))
    assert shifts.contains(EVERYWHERE, lamps_here)
    assert shifts.contains(lamps, lamps_here)
    assert not shifts.contains(lamps_here, lamps)
    assert not shifts.contains(lamps, EVERYWHERE)


# -- notes, views, notifications --------------------------------------------------------------------------------------


async def test_notes_are_newest_first_and_of_one_asset(store: Store) -> None:
    for number in range(5):
        await store.desk.add_note("lamp-1" if number != 2 else "pump-1", START + number, "li", f"note {number}")
    page = await store.desk.notes("lamp-1", 3)
    rest = await store.desk.notes("lamp-1", 3, page.cursor)
    assert [note.text for note in [*page.items, *rest.items]] == ["note 4", "note 3", "note 1", "note 0"]
    total, newest = await store.desk.notes_between(START + 1, START + 4, 2)
    assert (total, [note.text for note in newest]) == (3, ["note 3", "note 2"])
    total, newest = await store.desk.notes_between(START, START + 99, 9, Scope(kinds=("pump",)))
    assert (total, [note.text for note in newest]) == (1, ["note 2"])


async def test_views_are_ones_own_and_the_shared_and_bounded(store: Store) -> None:
    for name in ("a", "b"):
        assert await store.desk.put_view(SavedView("li", "alarms", name, "?level=I", START), most=2)
    assert not await store.desk.put_view(SavedView("li", "map", "c", "", START), most=2)
    again = SavedView("li", "alarms", "b", "?level=II", START + 1)
    assert await store.desk.put_view(again, most=2), "one that takes another's place is no more"
    assert await store.desk.put_view(SavedView("", "alarms", "all", "", START), most=2)
    await store.desk.put_view(SavedView("wang", "alarms", "his", "", START), most=2)
    assert [(v.owner, v.name, v.query) for v in await store.desk.views("li", "alarms")] == [
        ("li", "a", "?level=I"),
        ("", "all", ""),
        ("li", "b", "?level=II"),
    ]
    assert await store.desk.delete_view("li", "alarms", "a")
    assert not await store.desk.delete_view("li", "alarms", "his")


async def test_notifications_by_state(store: Store) -> None:
    await store.commit(5, [step(record(name)) for name in ("lamp-1", "lamp-2", "pump-1")])
    claimed = {row.transition.record.asset: row for row in await store.claim("ops", START + 99 * SECOND, SECOND, 2)}
    one, two = claimed.values()
    delivered = OutboxOutcome(one.id, OutboxState.DELIVERED, START)
    await store.mark([delivered, OutboxOutcome(two.id, OutboxState.FAILED, START, error="410")])

    async def of(state: OutboxState | None, scope: Scope = EVERYWHERE) -> list[tuple[str, str | None]]:
        page = await store.desk.notifications(OutboxFilter(state), 10, None, scope)
        return [(row.transition.record.asset, row.error) for row in page.items]

    assert len(await of(None)) == 3
    assert await of(OutboxState.FAILED) == [(two.transition.record.asset, "410")]
    assert len(await of(OutboxState.PENDING)) == len(await of(OutboxState.DELIVERED)) == 1
    assert [asset for asset, _ in await of(None, Scope(kinds=("pump",)))] == ["pump-1"]
    about = await store.desk.notifications(OutboxFilter(alarm="lamp-2/lamp-out"), 10)
    assert [row.transition.record.asset for row in about.items] == ["lamp-2"]
    assert (await store.desk.notifications(OutboxFilter(recipient="li"), 10)).items == []
    page = await store.desk.notifications(OutboxFilter(), 2)
    assert len((await store.desk.notifications(OutboxFilter(), 2, page.cursor)).items) == 1
    with store._writer.connect() as connection:
        used = sa.select(schema.outbox.c.id).where(schema.outbox.c.state == sa.literal_column("'failed'"))
        text = str(used.compile(dialect=connection.dialect))
        plan = [row[3] for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
    assert any("outbox_failed" in row for row in plan)


async def test_asset_ids_come_in_order_and_are_found_by_their_devices(store: Store) -> None:
    desk = store.desk
    assert await desk.asset_ids((), None, "", 2, EVERYWHERE) == ["lamp-1", "lamp-2"]
    assert await desk.asset_ids((), None, "lamp-1", 9, EVERYWHERE) == ["lamp-2", "pump-1"]
    assert await desk.asset_ids(("pump",), None, "", 9, EVERYWHERE) == ["pump-1"]
    assert await desk.asset_ids((), "D-2", "", 9, EVERYWHERE) == ["lamp-2"]
    assert await desk.asset_ids((), "泵站", "", 9, EVERYWHERE) == ["pump-1"]
    assert await desk.asset_ids((), None, "", 9, Scope(units=("排水处",))) == ["pump-1"]
