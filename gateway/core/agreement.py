"""How far a rule on trial and the rule in force agree: asset by asset, when each stood.

Two alarms agree on an occurrence when they stood at the same time at some moment. An alarm that stood before the period
began is seen from its first step within it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.model import Micros, Transition

Span = tuple[Micros, Micros]


class Agreement(msgspec.Struct, frozen=True):
    """``both``: occurrences of the rule on trial that met one of the rule in force; the others were its own
    (``only_shadow``), and ``only_other`` are those it missed. Seconds: how long both, or one of them, stood."""

    shadow: str
    other: str | None
    occurrences: int
    both: int
    only_shadow: int
    only_other: int
    both_s: float
    only_shadow_s: float
    only_other_s: float
    assets_that_differ: list[str]


def agreement(steps: Iterable[Transition], shadow: str, other: str | None, since: Micros, until: Micros) -> Agreement:
    """Compare from the steps of a period, in their order."""
    mine: dict[str, list[Span]] = {}
    theirs: dict[str, list[Span]] = {}
    open_since: dict[str, Micros] = {}
    for step in steps:
        record = step.record
        spans = mine if record.rule == shadow else theirs if record.rule == other else None
        if spans is None:
            continue
        key = step.alarm_id
        if record.is_active:
            open_since.setdefault(key, step.at)
            continue
        began = open_since.pop(key, None)
        if began is None:
            began = step.at if step.cause in ("T26", "T7") else since
        spans.setdefault(record.asset, []).append((began, max(step.at, began)))
    for key, began in open_since.items():
        asset, _, rule = key.rpartition("/")
        (mine if rule == shadow else theirs).setdefault(asset, []).append((began, until))
    both = only_mine = only_theirs = 0
    together = alone = missed = 0
    differ: list[str] = []
    for asset in sorted({*mine, *theirs}):
        ours, others = mine.get(asset, []), theirs.get(asset, [])
        met = sum(any(_meet(a, b) for b in others) for a in ours)
        unmet = sum(not any(_meet(a, b) for a in ours) for b in others)
        both, only_mine, only_theirs = both + met, only_mine + len(ours) - met, only_theirs + unmet
        shared = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in ours for b in others)
        together += shared
        alone += _length(ours) - shared
        missed += _length(others) - shared
        if met < len(ours) or unmet:
            differ.append(asset)
    return Agreement(
        shadow, other, both + only_mine, both, only_mine, only_theirs,
        together / 1e6, alone / 1e6, missed / 1e6, differ[:100],
    )  # fmt: skip


def _meet(a: Span, b: Span) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _length(spans: Iterable[Span]) -> Micros:
    return sum(end - begin for begin, end in spans)
