"""Cases and tickets as they are kept, listed and found again, and the steps that figures are made of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.core.cases import Case, CaseRow, CaseStatus, TicketRow
from gateway.core.model import HOUR, SECOND, AssetsChanged, Condition, Micros, Transition
from gateway.core.records import EVERYWHERE, Scope
from gateway.store.store import Store
from tests.console.city import ASSETS, DEVICES, START, record, step

ELSEWHERE = Scope(towns=("别处",))
HERE = Scope(towns=("梁山",))


def row(n: int = 1, asset: str = "lamp-1", platform: str = "city", **more: object) -> CaseRow:
    case = Case(f"01K{n:03}", f"{asset}/lamp-out", f"01K{n:03}", START + n * SECOND, CaseStatus.OPENED, 3)
    return msgspec.structs.replace(CaseRow(platform, case, "路灯熄灭", "Lamp out", 3, f"S-{n}"), **more)


def ticket(n: int = 1, alarm: str | None = "lamp-1/lamp-out", **more: object) -> TicketRow:
    at = START + n * SECOND
    return msgspec.structs.replace(TicketRow(0, "city", f"T-{n}", at, at, "路灯", "新", alarm_id=alarm), **more)


async def opened(folder: Path) -> Store:
    store = await Store.open(folder)
    await store.commit(1, [AssetsChanged(START, msgspec.json.encode({"assets": ASSETS, "devices": DEVICES}))])
    return store


async def keep(store: Store, *rows: CaseRow) -> None:
    for one in rows:
        await store.cases.change(one.platform, one.case.key, lambda _, one=one: one)  # type: ignore[misc]


async def test_a_case_is_kept_and_found_by_alarm_key_and_number(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await keep(store, row(1), row(2), row(1, platform="other"))
    cases = store.cases
    newest = await cases.newest("city", "lamp-1/lamp-out")
    assert newest == row(2)
    assert await cases.newest("third", "lamp-1/lamp-out") is None
    assert await cases.find("city", "01K001", "") == row(1)
    assert await cases.find("city", "", "S-2") == row(2)
    assert await cases.find("city", "nothing", "S-2") == row(2)
    assert await cases.find("other", "", "S-2") is None
    assert await cases.find("city", "", "") is None
    of_alarm = (await cases.page((), 9, None, EVERYWHERE, "lamp-1/lamp-out")).items
    assert [(one.platform, one.number) for one in of_alarm] == [("city", "S-2"), ("city", "S-1"), ("other", "S-1")]
    assert (await cases.page((), 9, None, EVERYWHERE, "lamp-2/lamp-out")).items == []
    await store.close()
    store = await Store.open(tmp_path)
    assert await store.cases.find("city", "01K001", "") == row(1)
    await store.close()


async def test_changes_of_one_row_come_one_after_the_other(tmp_path: Path) -> None:
    """The receiver and the platform's own news write at the same time: nothing of either is lost."""
    store = await opened(tmp_path)
    await keep(store, row(1))

    def hear(n: int) -> object:
        def change(now: CaseRow | None) -> CaseRow | None:
            assert now is not None
            return msgspec.structs.replace(now, heard=(*now.heard, f"m{n}"))

        return store.cases.change("city", "01K001", change)

    await asyncio.gather(*(hear(n) for n in range(20)))  # type: ignore[call-overload]
    found = await store.cases.find("city", "01K001", "")
    assert found is not None
    assert sorted(found.heard) == sorted(f"m{n}" for n in range(20))
    assert await store.cases.change("city", "01K001", lambda now: None) == found
    assert await store.cases.change("city", "nothing", lambda now: None) is None
    await store.close()


async def test_cases_are_listed_newest_first_by_state_within_a_scope_page_by_page(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    closed = msgspec.structs.replace(row(3).case, status=CaseStatus.CLOSED, closed_at=START)
    rows = [row(1), row(2), row(3, case=closed), row(4, platform="other"), row(5, asset="gone")]
    await keep(store, *rows)
    cases = store.cases
    first = await cases.page((), 2, None, EVERYWHERE)
    assert [one.number for one in first.items] == ["S-5", "S-4"]
    second = await cases.page((), 9, first.cursor, EVERYWHERE)
    assert ([one.number for one in second.items], second.cursor) == (["S-3", "S-2", "S-1"], None)
    assert [one.number for one in (await cases.page((CaseStatus.CLOSED,), 9, None, EVERYWHERE)).items] == ["S-3"]
    assert [one.number for one in (await cases.page((), 9, None, HERE)).items] == ["S-4", "S-3", "S-2", "S-1"]
    assert (await cases.page((), 9, None, ELSEWHERE)).items == []
    with pytest.raises(ValueError):
        await cases.page((), 9, "nonsense", EVERYWHERE)
    await store.close()


async def test_cases_of_one_moment_are_each_on_one_page(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    case = row(1).case
    await keep(store, *(row(n, case=msgspec.structs.replace(case, key=f"01K{n}")) for n in range(7)))
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.cases.page((), 2, cursor, EVERYWHERE)
        seen += [one.case.key for one in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"01K{n}" for n in range(7)]
    await store.close()


async def test_a_ticket_is_kept_once_by_its_number(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    cases = store.cases
    first = await cases.keep_ticket(ticket(1))
    assert first.id == 1
    again = await cases.keep_ticket(ticket(1, status="办结", text="灯亮了"))
    assert (again.id, again.text) == (1, "灯亮了")
    other = await cases.keep_ticket(ticket(1, platform="other"))
    assert other.id == 2
    assert await cases.ticket("city", "T-1") == again
    assert await cases.ticket("city", "T-2") is None
    await store.close()


async def test_tickets_are_listed_newest_first_and_those_about_nothing_are_the_whole_city_s(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    cases = store.cases
    for one in (ticket(1), ticket(2, alarm=None), ticket(3)):
        await cases.keep_ticket(one)
    page = await cases.tickets(2, None, EVERYWHERE, matched=None)
    assert [one.number for one in page.items] == ["T-3", "T-2"]
    rest = await cases.tickets(2, page.cursor, EVERYWHERE, matched=None)
    assert [one.number for one in rest.items] == ["T-1"]
    assert [one.number for one in (await cases.tickets(9, None, EVERYWHERE, matched=False)).items] == ["T-2"]
    assert [one.number for one in (await cases.tickets(9, None, HERE, matched=None)).items] == ["T-3", "T-1"]
    assert (await cases.tickets(9, None, ELSEWHERE, matched=None)).items == []
    await store.close()


async def test_alarms_that_a_report_may_be_about(tmp_path: Path) -> None:
    """Standing ones, however old, and those that changed lately; by kind or by rule."""
    store = await opened(tmp_path)
    normal = {"cond": Condition.NORMAL, "acked": True}
    late = START + 10 * HOUR

    def at(moment: Micros, **more: object) -> Transition:
        made = step(record(**more))  # type: ignore[arg-type]
        return msgspec.structs.replace(made, at=moment)

    await store.commit(
        2,
        [
            at(START, asset="lamp-1"),
            at(START, asset="lamp-2", **normal),
            at(late, asset="lamp-3", **normal),
            at(late, asset="c_1", rule="manhole-open", kind="manhole"),
            at(late, asset="lamp-9", simulated=True),
            at(late, asset="lamp-8", shadow=True),
        ],
    )

    async def near(*kinds: str, rules: tuple[str, ...] = (), simulated: bool = False) -> list[str]:
        found = await store.cases.near(kinds, rules, START + HOUR, 10, simulated=simulated)
        return sorted(one.asset for one in found)

    assert await near("lamp") == ["lamp-1", "lamp-3"]
    assert await near("lamp", simulated=True) == ["lamp-9"]
    assert await near(rules=("manhole-*",)) == ["c_1"]
    assert await near(rules=("manhole_open", "%", "x")) == []
    assert await near() == []
    assert len(await store.cases.near(("lamp",), (), START, 1, simulated=False)) <= 1
    await store.close()


async def test_the_steps_of_cases_come_each_alarms_in_order(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    steps = []
    for asset in ("lamp-2", "lamp-1", "pump-1"):
        for rev in range(1, 6):
            cause = ("T3", "T28", "T10", "W1", "T6")[rev - 1]
            steps.append(step(record(asset, rev=rev), cause=cause))
    await store.commit(2, [*steps, step(record("lamp-1", rule="other"))])

    async def fold(scope: Scope = EVERYWHERE, most: int = 100, until: Micros = START + HOUR) -> tuple[bool, list[str]]:
        seen: list[str] = []

        def take(one: Transition) -> None:
            seen.append(f"{one.record.asset} {one.rev}")

        whole = await store.cases.fold(["lamp-out"], START, until, scope, take, most)
        return whole, seen

    wanted = [f"{asset} {rev}" for asset in ("lamp-1", "lamp-2", "pump-1") for rev in (1, 3, 4, 5)]
    assert await fold() == (True, wanted)
    assert await fold(HERE) == (True, wanted)
    assert await fold(ELSEWHERE) == (True, [])
    assert await fold(most=5) == (False, wanted[:5])
    assert await fold(until=START + 3 * SECOND) == (True, [one for one in wanted if int(one[-1]) < 3])
    await store.close()


async def test_many_steps_come_portion_by_portion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.cases.STEPS_AT_ONCE", 2)
    store = await opened(tmp_path)
    await store.commit(2, [step(record(asset, rev=rev)) for asset in ("lamp-1", "lamp-2") for rev in range(1, 4)])
    seen: list[int] = []
    whole = await store.cases.fold(["lamp-out"], START, START + HOUR, EVERYWHERE, lambda one: seen.append(one.rev), 100)
    assert (whole, seen) == (True, [1, 2, 3, 1, 2, 3])
    await store.close()
