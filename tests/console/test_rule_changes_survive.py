"""A change of a rule and its row in the history agree, whenever the process is killed (as ``tests/store`` does it)."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from gateway import sabotage
from gateway.app import Files
from gateway.config.bundle import Bundle
from gateway.console.rule_port import ChangeBy
from gateway.core.processor import Processor
from gateway.core.records import RuleChangeRow
from gateway.store.store import Store
from tests.console.rule_house import House
from tests.console.test_rules import HOT, NEW
from tests.store.forked import forked

BY = ChangeBy("li", "because", "console")
TEXTS = [NEW.replace("90 °C", f"{limit} °C") for limit in range(60, 100)]


async def opened(data: Path) -> tuple[Store, House]:
    store = await Store.open(data)
    return store, House(data, store, Processor({}))


def settled_at_start(data: Path) -> tuple[dict[str, str], list[RuleChangeRow], list[tuple[str, str]], str | None]:
    """What the next start makes of a folder: files, rows of the rule, audit, and what is in force."""

    async def look() -> tuple[dict[str, str], list[RuleChangeRow], list[tuple[str, str]], str | None]:
        store, house = await opened(data)
        try:
            if await house.rulebook.finish():
                house._use(house.read_files())
            await house.rulebook.note_outside_changes()
            folder = data / "rules" / "console"
            files = (
                {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")} if folder.is_dir() else {}
            )
            assert await store.rule_changes.unsettled() == []
            rows = (await store.rule_changes.page("lamp-hot", 1000)).items
            audit = [(line.action, line.outcome) for line in reversed((await store.audit(1000)).items)]
            found = (await house.rulebook.rules()).get("lamp-hot")
            return files, rows, audit, None if found is None else found.text
        finally:
            await store.close()

    return asyncio.run(look())


def changing(
    data: Path, die_at: str, before: str | None, after: str | None
) -> Callable[[Callable[[object], None]], None]:
    """A life in which the rule is as ``before`` and is made ``after``, and that ends at a step of the way."""

    def run(say: Callable[[object], None]) -> None:
        async def work() -> None:
            store, house = await opened(data)
            now = (await house.rulebook.rules()).get("lamp-hot")
            if before is not None and now is None:
                now = await house.rulebook.put("lamp-hot", before, None, BY)
            sabotage.KILL_AT = die_at
            if after is None:
                await house.rulebook.reset("lamp-hot", None, BY)
            else:
                await house.rulebook.put("lamp-hot", after, None if now is None else now.rev, BY)
            say("done")
            await store.close()

        asyncio.run(work())

    return run


@pytest.mark.parametrize("step", ["rule change asked", "rule change written", "rule change settled"])
@pytest.mark.parametrize(("before", "after"), [(None, NEW), (NEW, HOT), (NEW, None)], ids=["new", "changed", "removed"])
def test_killed_after_the_row_the_change_is_made_by_the_next_start(
    tmp_path: Path, step: str, before: str | None, after: str | None
) -> None:
    with forked(changing(tmp_path, step, before, after)) as child:
        assert child.said.read() == "", "it never came to its end"
        assert child.wait() == -9
    files, rows, audit, in_force = settled_at_start(tmp_path)
    assert files == ({} if after is None else {"lamp-hot.yaml": after})
    assert in_force == after
    assert (rows[0].before, rows[0].after, rows[0].who, rows[0].why) == (before, after, "li", "because")
    assert len(rows) == (1 if before is None else 2)
    assert [outcome for _, outcome in audit] == ["asked", "done"] * len(rows)
    assert settled_at_start(tmp_path) == (files, rows, audit, in_force), "and the start after that changes nothing"


def test_killed_at_any_instant_file_history_and_audit_agree(tmp_path: Path) -> None:
    def run(say: Callable[[object], None]) -> None:
        async def work() -> None:
            _store, house = await opened(tmp_path)
            await house.rulebook.finish()
            house._use(house.read_files())
            say("begun")
            for number in range(1000):
                now = (await house.rulebook.rules()).get("lamp-hot")
                if now is not None and number % 3 == 2:
                    await house.rulebook.reset("lamp-hot", now.rev, BY)
                else:
                    text = random.choice([one for one in TEXTS if now is None or one != now.text])
                    await house.rulebook.put("lamp-hot", text, None if now is None else now.rev, BY)
                say("changed")

        random.seed(os.getpid())
        asyncio.run(work())

    before: list[RuleChangeRow] = []
    for _ in range(8):
        with forked(run) as child:
            assert child.said.readline() == "begun\n"
            began = time.monotonic()
            assert child.said.readline() == "changed\n"
            change_s = time.monotonic() - began
            time.sleep(change_s * random.uniform(0, 2.5))
            child.kill()
        files, rows, audit, in_force = settled_at_start(tmp_path)
        newest = rows[0] if rows else None
        expected = newest.after if newest is not None and newest.kept else None
        assert files.get("lamp-hot.yaml") == expected == in_force
        assert all(row.who == "li" for row in rows), "nobody but us changed a file"
        for after, earlier in pairwise(rows):
            assert after.before == earlier.after, "the history is one chain"
        assert [row for row in rows if row.id <= (before[0].id if before else 0)] == before, "and never rewritten"
        assert [outcome for _, outcome in audit] == ["asked", "done"] * len(rows)
        before = rows
    assert len(before) > 8


def test_a_row_that_is_settled_is_never_done_again(tmp_path: Path) -> None:
    """Taking a file away is the way out when a rule keeps the gateway from starting."""
    with forked(changing(tmp_path, "", None, NEW)) as child:
        assert child.wait() == 0
    (tmp_path / "rules" / "console" / "lamp-hot.yaml").unlink()
    files, rows, _, in_force = settled_at_start(tmp_path)
    assert (files, in_force) == ({}, None)
    assert [(row.who, row.before, row.after) for row in rows] == [("data folder", NEW, None), ("li", None, NEW)]


def test_the_control_a_build_that_writes_the_file_first_forgets_who_it_was(tmp_path: Path) -> None:
    def run(say: Callable[[object], None]) -> None:
        async def work() -> None:
            _store, house = await opened(tmp_path)
            whole = house.rulebook._with

            def file_first(rule_id: str, text: str | None, in_force: Bundle) -> Files:
                files = whole(rule_id, text, in_force)
                house.rulebook._files.write(rule_id, text)
                sabotage.crash()
                return files

            house.rulebook._with = file_first  # type: ignore[method-assign]
            await house.rulebook.put("lamp-hot", NEW, None, BY)

        asyncio.run(work())

    with forked(run) as child:
        assert child.wait() == -9
    files, rows, _, _ = settled_at_start(tmp_path)
    assert files == {"lamp-hot.yaml": NEW}
    assert [row.who for row in rows] == ["data folder"], "this is what the test above would notice"
