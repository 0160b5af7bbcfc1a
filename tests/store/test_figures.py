"""Figures out of the recorded steps, over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest_asyncio

from gateway.core.model import HOUR, SECOND, Asset, AssetsChanged, Condition, Level, Transition
from gateway.core.records import Scope
from gateway.store.store import Store
from tests.console.city import ASSETS, DEVICES, START, record, step


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path)
    await store.commit(1, [AssetsChanged(START, msgspec.json.encode({"assets": ASSETS, "devices": DEVICES}))])
    try:
        yield store
    finally:
        await store.close()


def at(seconds: float, transition: Transition) -> Transition:
    return msgspec.structs.replace(transition, at=START + round(seconds * SECOND))


async def test_only_what_asked_for_attention_is_counted(store: Store) -> None:
    sly = msgspec.structs.replace(step(record("lamp-2")), why='"notify":true,"by":', notify=False)
    await store.commit(
        2,
        [
            at(0, step(record("lamp-1", level=Level.I))),
            at(1, step(record("lamp-1", level=Level.I, rev=2), cause="T10")),
            at(2, sly),
            at(3599.9, step(record("pump-1", level=Level.II))),
            at(3600, step(record("pump-1", level=Level.II, rev=2), cause="T7")),
            at(3601, step(record("pump-1", "other", level=Level.II))),
            at(7200, step(record("late"))),
        ],
    )
    found = await store.figures.alarms_by(START, START + 2 * HOUR, HOUR)
    assert found == [(START, Level.I, 1), (START, Level.II, 1), (START + HOUR, Level.II, 2)]
    lighting = await store.figures.alarms_by(START, START + 2 * HOUR, HOUR, Scope(units=("养护一所",)))
    assert lighting == [(START, Level.I, 1)]


async def test_a_rule_is_counted_by_asset(store: Store) -> None:
    def over(asset: str, rev: int, seconds: float, rule: str = "bridge-overload") -> Transition:
        return at(seconds, step(record(asset, rule, rev, kind="bridge"), cause="T26", notify=False))

    steps = [
        over("b1", 1, 10),
        over("b1", 2, 20),
        over("b2", 1, 5),
        over("b2", 2, 11),
        over("b1", 1, 12, "x/bridge-overload"),
    ]
    await store.commit(2, steps)
    bridges = {"assets": [Asset("b1", "bridge"), Asset("b2", "bridge")], "devices": []}
    await store.commit(3, [AssetsChanged(START, msgspec.json.encode(bridges))])
    found = await store.figures.raised("bridge-overload", "bridge", START + 10 * SECOND)
    assert found == {"b1": 2, "b2": 1}
    assert await store.figures.raised("bridge-overload", "lamp", START) == {}


async def test_bands_know_what_stood_before_and_stop_at_their_limit(store: Store) -> None:
    up = record("lamp-1")
    down = record("lamp-1", rev=2, cond=Condition.NORMAL)
    await store.commit(2, [at(0, step(up)), at(100, step(down, up, "T6")), at(5, step(record("lamp-1", "other")))])
    await store.commit(3, [at(3, step(record("lamp-2")))])
    bands, cut = await store.figures.bands("lamp-1", None, START + 10 * SECOND, START + 200 * SECOND, 100)
    assert [(band.rule, band.since - START, band.until) for band in bands] == [
        ("lamp-out", 10 * SECOND, START + 100 * SECOND),
        ("other", 10 * SECOND, None),
    ]
    assert not cut
    only, _ = await store.figures.bands("lamp-1", ["other"], START, START + 200 * SECOND, 100)
    assert [(band.rule, band.since - START) for band in only] == [("other", 5 * SECOND)]
    none, _ = await store.figures.bands("lamp-1", [], START, START + 200 * SECOND, 100)
    assert none == []
    first, cut = await store.figures.bands("lamp-1", None, START, START + 200 * SECOND, 1)
    assert (len(first), cut) == (1, True)
