"""The judge's own law of provenance: what it must not let pass, whatever the gateway says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.faults.evidence import DataFolder, KeptOutbox, KeptTransition, Told
from bench.judge import LOG, _outbox_complete, _told_to_whom

RECEIVERS = {LOG: None, "crew": False, "testers": True}
LOADED, OWN = "load-000004/pipe-overflow", "gateway/gateway-clock-step"
LAWFUL = [(LOADED, LOG), (LOADED, "testers"), (OWN, LOG), (OWN, "crew")]


@dataclass(frozen=True)
class Rows(DataFolder):
    """A data folder of which only the outbox is asked."""

    rows: Sequence[tuple[str, str]] = ()

    def outbox(self) -> list[KeptOutbox]:
        return [KeptOutbox(alarm_id, 1, receiver, "delivered") for alarm_id, receiver in self.rows]


def examples_of(rows: Sequence[tuple[str, str]]) -> list[str]:
    document: dict[str, Any] = {"notify": True}
    transitions = [KeptTransition(alarm_id, 1, 1, document) for alarm_id in (LOADED, OWN)]
    return _outbox_complete(Rows(Path(), rows), transitions, RECEIVERS).examples


def test_a_row_for_everybody_who_may_hear_and_for_nobody_else_is_complete() -> None:
    assert examples_of(LAWFUL) == []


@pytest.mark.parametrize(
    ("alarm_id", "receiver"), [(LOADED, "crew"), (OWN, "testers")], ids=["a crew is paged", "a real one is hidden"]
)
def test_a_row_for_the_wrong_side_is_found(alarm_id: str, receiver: str) -> None:
    [found] = examples_of([*LAWFUL, (alarm_id, receiver)])
    assert "nobody asked for it" in found
    assert receiver in found


@pytest.mark.parametrize("missing", LAWFUL)
def test_a_missing_row_is_found(missing: tuple[str, str]) -> None:
    [found] = examples_of([one for one in LAWFUL if one != missing])
    assert "no row" in found


@pytest.mark.parametrize(
    ("receiver", "alarm_id", "simulated", "said"),
    [
        ("testers", LOADED, True, None),
        ("crew", OWN, False, None),
        ("crew", LOADED, True, "was told to crew"),
        ("testers", OWN, False, "was told to testers"),
        ("testers", LOADED, False, "says simulated: False"),
        ("crew", OWN, None, "says simulated: None"),
    ],
)
def test_what_arrived_may_have_arrived_there_and_says_what_it_is(
    receiver: str, alarm_id: str, simulated: bool | None, said: str | None
) -> None:
    told = Told("key", alarm_id, 1, "UNACK", 0, 200, simulated)
    finding = _told_to_whom({receiver: [told]}, RECEIVERS)
    assert finding.holds is (said is None)
    assert said is None or said in finding.examples[0]
