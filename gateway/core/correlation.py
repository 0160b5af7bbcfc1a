"""Cause first: which alarms explain which, from the asset graph.

A rule says by which causes it is suppressed (``suppress_when``): an alarm of the asset its link names (a lamp's feeder,
a device's network), or another alarm of the same asset. While a feeder's circuit is lost, four hundred dark lamps are
one alarm. The cause itself is never suppressed by its effects: the graph of rules has no circle
(checked when rules are loaded).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.core.model import Asset
from gateway.core.registry import Registry
from gateway.core.rule import Cause, RuleSet


class CauseGraph:
    """Who explains whom, asked from both ends."""

    def __init__(self, rules: RuleSet) -> None:
        self._causes: dict[str, tuple[Cause, ...]] = {}
        self._effects: dict[str, list[tuple[str | None, str]]] = {}
        for rule in rules:
            if rule.enabled and rule.suppress_when:
                self._causes[rule.id] = rule.suppress_when
                for cause in rule.suppress_when:
                    self._effects.setdefault(cause.rule, []).append((cause.link, rule.id))

    def has_causes(self, rule_id: str) -> bool:
        return rule_id in self._causes

    def has_effects(self, rule_id: str) -> bool:
        return rule_id in self._effects

    def causes(self, rule_id: str, asset: Asset) -> Iterator[tuple[str, str]]:
        """(asset, rule) of every alarm that would explain the alarm of ``rule_id`` on ``asset``."""
        for cause in self._causes.get(rule_id, ()):
            where = asset.asset if cause.link is None else asset.links.get(cause.link)
            if where is not None:
                yield where, cause.rule

    def effects(self, rule_id: str, asset_id: str, registry: Registry) -> Iterator[tuple[str, str]]:
        """(asset, rule) of every alarm that the alarm of ``rule_id`` on ``asset_id`` would explain."""
        for link, effect in self._effects.get(rule_id, ()):
            if link is None:
                yield asset_id, effect
            else:
                for child in sorted(registry.children(link, asset_id)):
                    yield child, effect


def circle(suppressions: Iterable[tuple[str, str]]) -> list[str]:
    """A circle among (effect, cause) pairs as the list of rules on it, or an empty list."""
    graph: dict[str, list[str]] = {}
    for effect, cause in suppressions:
        graph.setdefault(effect, []).append(cause)
    done: set[str] = set()

    def walk(rule: str, path: list[str]) -> list[str]:
        if rule in path:
            return path[path.index(rule) :]
        if rule in done:
            return []
        for cause in graph.get(rule, ()):
            found = walk(cause, [*path, rule])
            if found:
                return found
        done.add(rule)
        return []

    for rule in graph:
        found = walk(rule, [])
        if found:
            return found
    return []
