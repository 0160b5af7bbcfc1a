"""What stands where: counts and marks agree with the records, whatever order they came in."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from gateway.core.model import AlarmRecord, Condition, IsaState, Level, OutOfService, Shelve
from gateway.core.standing import AssetMark, Standing, mark_of


def record(asset: str = "a", rule: str = "r", rev: int = 1, state: str = "UNACK", level: int = 3) -> AlarmRecord:
    base = AlarmRecord(f"{asset}/{rule}", asset, rule, "lamp", rev=rev, level=Level(level))
    active = {"cond": Condition.ACTIVE, "acked": False}
    changes: dict[str, dict[str, object]] = {
        "NORM": {},
        "UNACK": active,
        "ACKED": active | {"acked": True},
        "RTNUN": {"acked": False},
        "SHLVD": active | {"shelve": Shelve.TIMED},
        "DSUPR": active | {"suppressed_by": ("x",)},
        "OOSRV": active | {"out_of_service": OutOfService("w", "b", "r", 0)},
    }
    made = msgspec.structs.replace(base, **changes[state])
    assert made.isa_state is IsaState[state]
    return made


def test_counts_are_those_of_the_newest_records() -> None:
    choose = random.Random(7)
    standing, newest = Standing(), {}
    for rev in range(1, 2000):
        made = record(
            f"a{choose.randrange(20)}",
            f"r{choose.randrange(4)}",
            rev,
            choose.choice([*IsaState]),
            choose.choice([*Level]),
        )
        standing.take(made)
        newest[made.alarm_id] = made
    up = [r for r in newest.values() if r.isa_state is not IsaState.NORM]
    assert standing.counts == Counter((r.level, r.isa_state) for r in up)
    assert len(standing) == len(up)
    assert sorted(standing.assets()) == sorted({r.asset for r in up})
    for asset in standing.assets():
        assert {r.alarm_id for r in standing.of(asset)} == {r.alarm_id for r in up if r.asset == asset}
    assert list(standing.of("nothing")) == []


def test_an_older_record_and_a_rule_on_trial_change_nothing() -> None:
    standing = Standing([record(rev=5, state="ACKED")])
    before = standing.changes
    standing.take(record(rev=4))
    standing.take(AlarmRecord("a/s", "a", "s", "lamp", rev=9, cond=Condition.ACTIVE, acked=False, shadow=True))
    standing.take(record("b", rev=3, state="NORM"))
    assert standing.changes == before
    assert [r.isa_state for r in standing.of("a")] == [IsaState.ACKED]


@pytest.mark.parametrize(
    ("records", "mark", "level"),
    [
        ([], AssetMark.NORMAL, None),
        ([("ACKED", 1), ("RTNUN", 4)], AssetMark.UNACKNOWLEDGED, 1),
        ([("ACKED", 2), ("ACKED", 3)], AssetMark.ACKNOWLEDGED, 2),
        ([("SHLVD", 1), ("DSUPR", 2), ("OOSRV", 4)], AssetMark.SET_ASIDE, 1),
        ([("DSUPR", 1), ("ACKED", 4)], AssetMark.ACKNOWLEDGED, 4),
        ([("UNACK", 3), ("SHLVD", 1)], AssetMark.UNACKNOWLEDGED, 3),
        ([("SHLVD", 1), ("UNACK", 3), ("ACKED", 2)], AssetMark.UNACKNOWLEDGED, 2),
    ],
)
def test_what_is_set_aside_does_not_colour_what_is_not(
    records: list[tuple[str, int]], mark: AssetMark, level: int | None
) -> None:
    given = [record("a", f"r{n}", 1, state, worst) for n, (state, worst) in enumerate(records)]
    assert mark_of(given) == (mark, level)
    assert mark_of(given[::-1]) == (mark, level)
