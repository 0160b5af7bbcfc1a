"""Every shipped rule is told in stories: raised, not raised, cleared, with bad, late, historical and doubled data."""

from __future__ import annotations

from collections import defaultdict

import pytest

from gateway.config.stories import rules_at
from gateway.core.model import MINUTE, IsaState, Quality
from gateway.core.storyteller import Raised, Send, StateIs, Story, TransitionsAre
from tests.config.test_rules import shipped_stories

STORIES = shipped_stories()
RULES = rules_at(None).rules
# The gateway's own alarms: their readings have no source and no network between; a state that is true or false.
OWN = "gateway-"
# Raised by another alarm or by silence: there is no reading of their own that could be bad, late or doubled.
WITHOUT_READINGS = ("-offline", "-silent", "-lost")


def told() -> dict[str, set[str]]:
    """Rule → what its stories show."""
    shown: dict[str, set[str]] = defaultdict(set)
    for story in STORIES:
        rules = {rule for rule in story.rules.rules if any(_speaks_of(story, rule))}
        facts = _facts(story)
        for rule in rules:
            shown[rule] |= facts | set(_speaks_of(story, rule))
    return shown


def _speaks_of(story: Story, rule: str) -> list[str]:
    """What the expectations of a story say of a rule."""
    said: list[str] = []
    for expected in story.expect:
        match expected:
            case StateIs(_, alarm, state) if alarm.endswith(f"/{rule}"):
                said.append("quiet" if state is IsaState.NORM else "raised")
            case TransitionsAre(alarm, changes) if alarm.endswith(f"/{rule}"):
                ups = [c for c in changes if c.to in (IsaState.UNACK, IsaState.DSUPR, IsaState.RTNUN)]
                said.append("raised" if ups else "quiet")
                if any(c.to in (IsaState.NORM, IsaState.RTNUN) for c in changes):
                    said.append("cleared")
            case Raised(_, counts) if counts.get(rule):
                said.append("raised")
            case Raised(_, counts) if rule not in counts and len(story.rules) < 40:
                said.append("quiet")
            case _:
                pass
    return said


def _facts(story: Story) -> set[str]:
    """What the input of a story holds."""
    found: set[str] = set()
    sent: set[tuple[str, str, int]] = set()
    for one in story.inputs:
        if not isinstance(one, Send):
            continue
        for reading in one.readings:
            if reading.quality is not Quality.GOOD:
                found.add("bad")
            if reading.historical:
                found.add("historical")
            if reading.received_at - reading.source_time > 10 * MINUTE:
                found.add("late")
            key = (reading.asset, reading.point, reading.source_time)
            if key in sent and reading.received_at > reading.source_time:
                found.add("doubled")
            sent.add(key)
    return found


SHOWN = told()


@pytest.mark.parametrize("rule", list(RULES))
def test_a_shipped_rule_is_told_in_full(rule: str) -> None:
    wanted = {"raised", "quiet"}
    if not RULES[rule].event:
        wanted |= {"cleared"}
    if not rule.startswith(OWN) and not rule.endswith((*WITHOUT_READINGS, "-instrument")) and rule != "alarm-flood":
        wanted |= {"bad", "late", "historical", "doubled"}
    missing = wanted - SHOWN[rule]
    assert not missing, f"{rule}: no story shows {sorted(missing)}"
