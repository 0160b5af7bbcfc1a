"""Whom to tell: which receivers get which transition.

Pure: a route looks at the transition's record and its rule and says yes or no. The dispatcher owns sending, retry and
receipts; escalation by time will be deadlines of the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.model import Level, Transition
from gateway.core.rule import Rule


@dataclass(frozen=True, slots=True)
class Route:
    """``receivers`` get what is at least as severe as ``level`` and, where these say something, of one of ``kinds`` and
    with one of the rule's addressees (``notify``) in ``groups``. ``simulated``: they get the alarms of simulated assets
    and no others; None: both, for what is no person."""

    receivers: tuple[str, ...]
    level: Level = Level.IV
    kinds: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    simulated: bool | None = False

    def takes(self, transition: Transition, rule: Rule | None) -> bool:
        record = transition.record
        # A clear is told to everybody who was told of the worst level the alarm ever had.
        level = min(record.level, record.max_level)
        addressees = rule.notify if rule is not None else ()
        return (
            self.simulated in (None, record.simulated)
            and level <= self.level
            and (not self.kinds or record.kind in self.kinds)
            and (not self.groups or any(group in self.groups for group in addressees))
        )


def receivers(transition: Transition, rule: Rule | None, routes: Iterable[Route]) -> tuple[str, ...]:
    """Names of all receivers of ``transition``, each once, in the order of the routes; none unless it annunciates, and
    never for shadow alarms."""
    if not transition.notify or transition.record.shadow:
        return ()
    found: dict[str, None] = {}
    for route in routes:
        if route.takes(transition, rule):
            found.update(dict.fromkeys(route.receivers))
    return tuple(found)
