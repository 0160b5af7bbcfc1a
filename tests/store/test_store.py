"""The store: one transaction for what follows from the journal, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from gateway import sabotage
from gateway.core.model import (
    SECOND,
    Asset,
    AssetsChanged,
    Command,
    CommandDone,
    CommandName,
    Device,
    Frame,
    FrameKind,
    FrameRejected,
    IsaState,
    Level,
    Rejection,
    Shelve,
)
from gateway.core.records import AlarmFilter, AssetFilter, AssetState, OutboxOutcome, OutboxState, Role
from gateway.errors import StorageFailed, Unavailable
from gateway.store import dialect
from gateway.store.store import Store
from tests.console.city import ASSETS, DEVICES, START, record, step
from tests.store.forked import forked

LATER = START + 3600 * SECOND
TWO = ("ops", "crew")


async def opened(folder: Path, **more: object) -> Store:
    return await Store.open(folder, receivers=lambda transition: TWO, **more)  # type: ignore[arg-type]


def reject(position: int, index: int, device: str | None = "d-1", payload: bytes = b"nonsense") -> FrameRejected:
    frame = Frame(FrameKind.MQTT, "mqtt", f"citywatch/v1/lamp/{device}/telemetry", payload, START)
    return FrameRejected(position, index, frame, Rejection("bad_payload", "not JSON", device))


async def test_what_is_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    alarm = record()
    command = Command("c-1", CommandName.ACKNOWLEDGE, alarm.alarm_id, "li", "api", 1, "seen")
    assets = AssetsChanged(START, msgspec.json.encode({"assets": ASSETS, "devices": DEVICES}))
    await store.commit(7, [step(alarm), reject(7, 0), CommandDone(command, START), assets])
    await store.close()

    store = await opened(tmp_path)
    assert store.position == 7
    assert await store.alarm(alarm.alarm_id) == alarm
    assert (await store.history(alarm.alarm_id, 10)).items == [step(alarm)]
    assert (await store.rejected(None, 10)).items[0].payload == b"nonsense"
    done = await store.command("c-1")
    assert done is not None
    assert (done.by, done.why, done.refused) == ("li", "seen", None)
    assert await store.everything() == (sorted(ASSETS, key=lambda a: a.asset), sorted(DEVICES, key=lambda d: d.device))
    assert [line.action for line in (await store.audit(10)).items] == ["acknowledge"]
    assert await store.next_due("ops") == step(alarm).at
    await store.close()


async def test_committing_the_same_events_again_changes_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    command = Command("c-1", CommandName.ACKNOWLEDGE, "lamp-1/lamp-out", "li", "api", 1)
    events = [step(record()), reject(3, 0), CommandDone(command, START, ("stale_rev", "changed"))]
    for position in (3, 3, 4):
        await store.commit(position, events)
    assert store.position == 4
    assert len((await store.history("lamp-1/lamp-out", 10)).items) == 1
    assert len((await store.rejected(None, 10)).items) == 1
    assert len((await store.audit(10)).items) == 1
    assert (await store.counts())["outbox"] == {"pending": 2}
    await store.close()


async def test_neither_the_position_nor_an_alarm_goes_back(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(9, [step(record(rev=5))])
    await store.commit(4, [step(record(rev=2))])
    assert store.position == 9
    found = await store.alarm("lamp-1/lamp-out")
    assert found is not None
    assert found.rev == 5
    await store.close()
    store = await opened(tmp_path)
    assert store.position == 9
    await store.close()


async def test_simulated_shadow_and_silent_transitions_tell_nobody(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(
        1,
        [
            step(record("a", simulated=True)),
            step(record("b", shadow=True)),
            step(record("c"), notify=False),
        ],
    )
    assert (await store.counts())["outbox"] == {}
    await store.close()


async def test_only_receivers_of_tests_are_told_of_simulated_assets(tmp_path: Path) -> None:
    store = await opened(tmp_path, for_simulated=frozenset({"ops"}))
    await store.commit(1, [step(record("a", simulated=True))])
    assert [row.receiver for row in await store.claim("ops", LATER, SECOND, 10)] == ["ops"]
    assert await store.claim("crew", LATER, SECOND, 10) == []
    await store.close()


async def test_the_list_of_alarms_is_worst_and_newest_first_with_the_normal_ones_last(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    normal = record("n", level=Level.I, acked=True, cond="NORMAL")
    events = [
        step(msgspec.convert(msgspec.to_builtins(normal), type(normal))),
        step(record("old", level=Level.II, rev=1)),
        step(record("new", level=Level.II, rev=2)),
        step(record("mild", level=Level.IV)),
        step(record("worst", level=Level.I)),
    ]
    await store.commit(1, events)
    found = await store.alarms(AlarmFilter(), 10)
    assert [alarm.asset for alarm in found.items] == ["worst", "new", "old", "mild", "n"]
    assert [alarm.asset for alarm in await store.standing(3)] == ["worst", "new", "old"]
    await store.close()


async def test_filters_narrow(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    shelved = record("s", shelve=Shelve.TIMED, level=Level.I)
    await store.commit(1, [step(record("a")), step(shelved), step(record("b_1", "battery", title_zh="电池 100%"))])

    async def ids(**wanted: object) -> list[str]:
        return [alarm.asset for alarm in (await store.alarms(AlarmFilter(**wanted), 10)).items]  # type: ignore[arg-type]

    assert await ids(states=(IsaState.SHLVD,)) == ["s"]
    assert await ids(levels=(Level.III,)) == ["a", "b_1"]
    assert await ids(asset="a") == ["a"]
    assert await ids(rule="battery") == ["b_1"]
    assert await ids(kinds=("road",)) == []
    assert await ids(q="100%") == ["b_1"]
    assert await ids(q="B_1") == ["b_1"]
    assert await ids(q="a_") == []  # the underscore is a character, not a wildcard
    assert await ids(q="' OR 1=1 --") == []
    await store.close()


async def test_pages_join_without_gap_or_overlap(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    rng = random.Random(1)
    events = [step(record(f"x-{i:03}", level=Level(rng.randint(1, 4)), rev=rng.randint(1, 5))) for i in range(57)]
    payload = msgspec.json.encode({"assets": [Asset(f"x-{i:03}", "lamp") for i in range(57)], "devices": []})
    await store.commit(1, [*events, AssetsChanged(START, payload), *(reject(1, i) for i in range(23))])
    whole = [alarm.alarm_id for alarm in (await store.alarms(AlarmFilter(), 1000)).items]
    assert len(whole) == 57
    pages: list[str] = []
    cursor = None
    while True:
        page = await store.alarms(AlarmFilter(), 10, cursor)
        pages += [alarm.alarm_id for alarm in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == whole
    first = await store.assets(AssetFilter(), 30)
    rest = await store.assets(AssetFilter(), 30, first.cursor)
    assert [row.asset.asset for row in first.items + rest.items] == [f"x-{i:03}" for i in range(57)]
    assert rest.cursor is None
    one = await store.rejected("d-1", 20)
    two = await store.rejected("d-1", 20, one.cursor)
    assert [row.index for row in one.items + two.items] == list(range(22, -1, -1))
    await store.close()


@pytest.mark.parametrize(
    "cursor", ["", "x", "W10", "WzFd", "WyJhIiwiYiIsImMiXQ", "é", "WzEsMiwzXQ", "WzFlMzAsMiwiYSJd"]
)
async def test_a_cursor_that_is_not_ours_is_a_value_error(tmp_path: Path, cursor: str) -> None:
    store = await opened(tmp_path)
    with pytest.raises(ValueError, match="cursor"):
        await store.alarms(AlarmFilter(), 10, cursor)
    await store.close()


async def test_assets_carry_what_stands_on_them(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    payload = msgspec.json.encode({"assets": ASSETS, "devices": DEVICES})
    await store.commit(1, [AssetsChanged(START, payload), step(record()), step(record(rule="voltage", level=Level.II))])
    row = await store.asset("lamp-1")
    assert row is not None
    assert (row.standing_alarms, row.worst_level, row.state) == (2, Level.II, AssetState.ALARM)

    async def ids(**wanted: object) -> list[str]:
        return [row.asset.asset for row in (await store.assets(AssetFilter(**wanted), 10)).items]  # type: ignore[arg-type]

    assert await ids(state=AssetState.ALARM) == ["lamp-1"]
    assert await ids(state=AssetState.NORMAL) == ["lamp-2", "pump-1"]
    assert await ids(road="水泊路", kinds=("lamp",)) == ["lamp-1", "lamp-2"]
    assert await ids(q="二号") == ["lamp-2"]
    assert [device.device for device in (await store.devices("lamp-1", 10)).items] == ["d-1"]
    assert await store.asset("nothing") is None
    moved = AssetsChanged(LATER, msgspec.json.encode({"devices": [Device("d-1", "lamp-2", "generic/json-lamp")]}))
    await store.commit(2, [moved])
    assert [device.device for device in (await store.devices("lamp-2", 10)).items] == ["d-1", "d-2"]
    await store.close()


# ------------------------------------------------------------------------------------------ rejected frames


async def test_rejected_frames_stay_within_their_budgets_and_the_oldest_go_first(tmp_path: Path) -> None:
    store = await opened(tmp_path, rejected_bytes=100_000, rejected_bytes_device=40_000)
    await store.commit(1, [reject(1, 0, "quiet")])
    for position in range(2, 30):
        await store.commit(position, [reject(position, i, "noisy", b"x" * 500) for i in range(50)])
    noisy = (await store.rejected("noisy", 1000)).items
    assert 30_000 <= sum(row.payload_size + 260 for row in noisy) <= 41_000
    assert noisy[0].position == 29
    assert len((await store.rejected("quiet", 10)).items) == 1
    for position in range(30, 40):
        await store.commit(position, [reject(position, i, f"other-{i}", b"x" * 1000) for i in range(50)])
    everything = (await store.rejected(None, 1000)).items
    assert sum(row.payload_size for row in everything) < 100_000
    assert everything[0].position == 39
    await store.close()


async def test_the_budgets_hold_across_a_restart(tmp_path: Path) -> None:
    for position in range(1, 8):
        store = await opened(tmp_path, rejected_bytes=20_000, rejected_bytes_device=20_000)
        await store.commit(position, [reject(position, i, "d", b"x" * 300) for i in range(20)])
        size = sum(row.payload_size + 200 for row in (await store.rejected(None, 1000)).items)
        assert size <= 20_000
        await store.close()


async def test_text_that_a_database_refuses_is_kept_all_the_same(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    frame = Frame(FrameKind.MQTT, "mqtt", "a\0b\ud800c" + "x" * 9999, b"\xff\0" * 9000, START, principal="\udfff")
    await store.commit(1, [FrameRejected(1, 0, frame, Rejection("bad_payload", "r\0" * 9999, "\ud83d"))])
    (row,) = (await store.rejected(None, 10)).items
    assert row.address.startswith("a\ufffdb\ufffdc")
    assert len(row.address) == 500
    assert (len(row.payload), row.payload_size) == (4096, 18000)
    await store.close()


# ------------------------------------------------------------------------------------------ outbox


async def test_the_outbox_keeps_the_order_of_one_alarm_and_gives_the_worst_first(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(
        1,
        [
            step(record("a", level=Level.IV, rev=1)),
            step(record("a", level=Level.IV, rev=2)),
            step(record("b", level=Level.I, rev=1)),
        ],
    )
    taken = await store.claim("ops", LATER, 60 * SECOND, 10)
    assert [row.key for row in taken] == ["b/lamp-out/1/ops", "a/lamp-out/1/ops"]
    assert await store.claim("ops", LATER, 60 * SECOND, 10) == []
    again, delivered = taken[1], taken[0]
    await store.mark(
        [
            OutboxOutcome(delivered.id, OutboxState.DELIVERED, LATER),
            OutboxOutcome(again.id, OutboxState.PENDING, LATER, LATER + 5 * SECOND, "HTTP 500"),
        ]
    )
    assert await store.claim("ops", LATER, 60 * SECOND, 10) == []
    assert await store.next_due("ops") == LATER + 5 * SECOND
    (retry,) = await store.claim("ops", LATER + 6 * SECOND, 60 * SECOND, 10)
    assert (retry.key, retry.attempt) == ("a/lamp-out/1/ops", 2)
    await store.mark([OutboxOutcome(retry.id, OutboxState.FAILED, LATER, error="HTTP 410")])
    (second,) = await store.claim("ops", LATER, 60 * SECOND, 10)
    assert second.key == "a/lamp-out/2/ops"
    assert await store.outbox_rows(OutboxState.FAILED, 10) == [("a/lamp-out/1/ops", "HTTP 410")]
    assert len(await store.claim("crew", LATER, 60 * SECOND, 10)) == 2
    await store.close()


async def test_attempts_left_in_the_air_by_a_dead_process_are_made_again(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(1, [step(record())])
    await store.claim("ops", LATER, 60 * SECOND, 10)
    await store.close()
    store = await opened(tmp_path)
    assert await store.unclaim() == 1
    (row,) = await store.claim("ops", LATER, 60 * SECOND, 10)
    assert row.attempt == 2
    await store.close()


# ------------------------------------------------------------------------------------------ configuration, access


async def test_configurations_are_kept_by_hash_and_one_is_current(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    assert store.current_config_hash is None
    await store.save_config("h1", "{}", START)
    await store.save_config("h2", '{"a":1}', START)
    await store.save_config("h1", "{}", LATER)
    await store.close()
    store = await opened(tmp_path)
    assert store.current_config_hash == "h1"
    assert await store.config("h2") == '{"a":1}'
    assert await store.config("h3") is None
    await store.set_cursor("sink", 12)
    await store.set_cursor("sink", 3)
    assert await store.cursor("sink") == 3
    assert await store.cursor("other") == 0
    await store.close()


async def test_a_token_is_stored_only_as_its_hash(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    secret = await store.first_token(START)
    assert secret is not None
    assert await store.first_token(START) is None
    row = await store.token(secret, START)
    assert row is not None
    assert row.role is Role.ADMIN
    session = await store.create_session(secret, START, 60 * SECOND)
    assert session is not None
    found = await store.session(session, START + 59 * SECOND)
    assert found is not None
    assert (found.name, found.role) == (row.name, row.role)
    assert await store.session(session, START + 60 * SECOND) is None
    assert await store.token(secret[:-1], START) is None
    await store.close()
    content = (tmp_path / "store.db").read_bytes()  # the last connection to close folds the WAL into it
    assert secret.encode() not in content
    assert session.encode() not in content


async def test_a_revoked_or_expired_token_opens_nothing_and_its_sessions_end(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    secret = await store.create_token("li", Role.OPERATOR, START, START + 100 * SECOND)
    session = await store.create_session(secret, START, 999 * SECOND)
    assert session is not None
    assert await store.token(secret, START + 100 * SECOND) is None
    assert await store.session(session, START + 100 * SECOND) is None
    assert await store.session(session, START) is not None
    assert await store.revoke_token("li", START)
    assert await store.token(secret, START) is None
    assert await store.session(session, START) is None
    assert await store.create_session(secret, START, SECOND) is None
    assert not await store.revoke_token("wang", START)
    with pytest.raises(ValueError, match="already"):
        await store.create_token("li", Role.VIEWER, START)
    with pytest.raises(ValueError, match="name"):
        await store.create_token("li wang", Role.VIEWER, START)
    assert await store.first_token(START) is not None
    await store.close()


# ------------------------------------------------------------------------------------------ the file


async def test_the_file_is_its_owners_alone_and_synchronous_is_full(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    assert stat.S_IMODE((tmp_path / "store.db").stat().st_mode) == 0o600
    with store._writer.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    await store.close()


async def test_a_damaged_file_is_said_at_open(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(1, [step(record(f"x-{i}")) for i in range(500)])
    await store.close()
    path = tmp_path / "store.db"
    content = bytearray(path.read_bytes())
    for start in range(8192, len(content), 4096):
        content[start : start + 200] = os.urandom(200)
    path.write_bytes(content)
    with pytest.raises(StorageFailed):
        await opened(tmp_path)
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(StorageFailed):
        await opened(tmp_path)


async def test_after_a_failed_write_every_later_write_is_refused(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.commit(1, [step(record())])
    other = apsw.Connection(str(tmp_path / "store.db"))
    other.execute("DROP TABLE transitions")
    other.close()
    with pytest.raises(StorageFailed, match="transitions"):
        await store.commit(2, [step(record(rev=2))])
    with pytest.raises(StorageFailed, match="before"):
        await store.commit(3, [])
    assert store.position == 1
    await store.close()


async def test_a_query_that_takes_too_long_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialect, "READ_TIME_S", 0.05)
    store = await opened(tmp_path)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(Unavailable):
        await store._read(lambda connection: connection.exec_driver_sql(endless).scalar())
    await store.commit(1, [step(record())])
    assert await store.alarm("lamp-1/lamp-out") is not None
    await store.close()


async def test_readers_cannot_write(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with pytest.raises(StorageFailed, match="readonly"):
        await store._read(lambda connection: connection.exec_driver_sql("DELETE FROM alarms"))
    await store.close()


def commit_for_ever(folder: Path, say: Callable[[object], None]) -> None:
    """Twenty transitions and forty notifications a position; says a position once it is committed."""

    async def main() -> None:
        store = await opened(folder)
        while True:
            position = store.position + 1
            await store.commit(position, [step(record(f"x-{i}", rev=position)) for i in range(20)])
            say(position)

    asyncio.run(main())


@pytest.mark.faults
def test_kill_9_during_commit_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    rng = random.Random(7)
    for _ in range(10):
        with forked(lambda say: commit_for_ever(tmp_path, say)) as child:
            for _ in range(rng.randint(1, 60)):
                said = child.said.readline()
            child.kill()
            rest = child.said.read().splitlines()
        acknowledged = int(rest[-1] if rest else said)
        database = sqlite3.connect(tmp_path / "store.db")
        (position,) = database.execute("SELECT position FROM progress WHERE name = 'position'").fetchone()
        assert position in (acknowledged, acknowledged + 1)
        assert database.execute("SELECT count(*) FROM transitions").fetchone() == (20 * position,)
        assert database.execute("SELECT count(*) FROM outbox").fetchone() == (40 * position,)
        alarms = database.execute("SELECT count(*), min(rev), max(rev) FROM alarms").fetchone()
        assert alarms == (20, position, position)
        database.close()


@pytest.mark.faults
def test_the_control_outbox_after_state_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the defect on, the same kills must find a state whose notifications are missing."""
    monkeypatch.setattr(sabotage, "OUTBOX_AFTER_STATE", True)
    rng = random.Random(7)
    for _ in range(200):
        with forked(lambda say: commit_for_ever(tmp_path, say)) as child:
            child.said.readline()
            time.sleep(rng.uniform(0, 0.03))  # anywhere in the next commit, which is mostly the gap
            child.kill()
        database = sqlite3.connect(tmp_path / "store.db")
        (position,) = database.execute("SELECT position FROM progress WHERE name = 'position'").fetchone()
        found = database.execute("SELECT count(*) FROM outbox").fetchone()
        database.close()
        if found != (40 * position,):
            return
    pytest.fail("two hundred kills never met the gap between the two transactions")
