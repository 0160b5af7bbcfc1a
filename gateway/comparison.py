"""One rule before and after a change: what each makes of the readings that are kept.

Both engines hear the same readings, in one process. They have only the rules that matter: the one that was changed,
those that ask for its alarm or are suppressed by it, and whatever these depend on; and only the assets these speak of.
The changed rule is judged as if it were switched on and not on trial: one asks what it would do.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.backtest import STEP_ROWS, Heard, Trial
from gateway.config.rules import INSTRUMENT
from gateway.console.rule_port import AssetDifference, Comparison, Raised, RuleDifference, Side
from gateway.core.model import Asset, Micros
from gateway.core.profile import Profile
from gateway.core.rule import (
    Deviation,
    Frozen,
    Rule,
    RuleSet,
    Share,
    Stands,
    closure,
    depending_on,
    parts,
    with_dependencies,
)
from gateway.historian.archive import Archive
from gateway.store.still import city_of

ALARMS_SHOWN = 200
ASSETS_SHOWN = 500


def compare(
    rule_id: str,
    before: RuleSet,
    after: RuleSet,
    profiles: dict[str, Profile],
    data: Path,
    since: Micros,
    until: Micros,
    only: Collection[str] = (),
    progress: Callable[[float], None] = lambda _: None,
) -> Comparison:
    """``only``: what it does on these assets, and nothing of other rules: quick, where it looks at few others.
    ``progress`` is told the part that is done, 0 to 1. Raises ConfigError for a folder without data, StorageFailed when
    it cannot be read."""
    after = _switched_on(rule_id, after)
    wanted = concerned(rule_id, before, not only) | concerned(rule_id, after, not only)
    wanted |= {name + INSTRUMENT for name in wanted}
    rules = [RuleSet({one.id: one for one in side if one.id in wanted}) for side in (before, after)]
    assets, devices = asyncio.run(city_of(data))
    heard = _heard(assets, [one for side in rules for one in side], set(only))
    devices = [device for device in devices if device.asset in heard]
    among = set(only) or None
    trials = [Trial(side, heard.values(), devices, profiles, since, rule_id, among) for side in rules]
    done = _listen(data, since, until, heard, trials, progress)
    old, new = (trial.end(until, done) for trial in trials)
    return _compared(rule_id, since, until, old, new)


def _switched_on(rule_id: str, rules: RuleSet) -> RuleSet:
    rule = rules.rules[rule_id]
    variants = tuple((assets, replace(one, shadow=False)) for assets, one in rule.overrides)
    return RuleSet({**rules.rules, rule_id: replace(rule, enabled=True, shadow=False, overrides=variants)})


def concerned(rule_id: str, rules: RuleSet, others: bool = True) -> set[str]:
    """The rule, with ``others`` also those whose alarms a change of it can change; and what all these depend on."""
    return with_dependencies(depending_on({rule_id}, rules) if others else {rule_id}, rules)


def _heard(assets: Sequence[Asset], rules: Sequence[Rule], only: set[str]) -> dict[str, Asset]:
    """The assets whose readings matter."""
    known = {asset.asset: asset for asset in assets}
    if only and not any(_looks_around(rule) for rule in rules):
        linked = closure(only & set(known), lambda name: (a for a in known[name].links.values() if a in known))
        return {name: known[name] for name in known if name in linked}
    kinds = {kind for rule in rules for kind in rule.kinds}
    kinds |= {part.of for rule in rules for part in _parts(rule) if isinstance(part, Share)}
    return {name: asset for name, asset in known.items() if asset.kind in kinds}


def _looks_around(rule: Rule) -> bool:
    """Whether it asks for more assets than its own and those it is linked with."""
    return any(
        isinstance(part, Share)
        or (isinstance(part, Deviation | Frozen) and part.link is not None)
        or (isinstance(part, Stands) and (part.beside or part.anywhere))
        for part in _parts(rule)
    )


def _parts(rule: Rule) -> Iterator[object]:
    for variant in rule.all_variants:
        yield from parts(variant.when)
        if variant.clear_when is not None:
            yield from parts(variant.clear_when)


def _listen(
    data: Path,
    since: Micros,
    until: Micros,
    assets: Collection[str],
    trials: Sequence[Trial],
    progress: Callable[[float], None],
) -> int:
    """How many readings were heard."""
    done = 0
    gc.disable()  # millions of short-lived readings and no circles among them
    try:
        with Archive.open(data / "history") as archive:
            archive.only(assets)
            total = archive.count(since, until)
            for messages in archive.messages(since, until, STEP_ROWS):
                for readings in messages:
                    for trial in trials:
                        trial.hear(readings)
                    done += len(readings)
                progress(min(1.0, done / max(1, total)))
    finally:
        gc.enable()
    return done


def _compared(rule_id: str, since: Micros, until: Micros, old: Heard, new: Heard) -> Comparison:
    assets = [
        AssetDifference(alarm.rpartition("/")[0], old.alarms.get(alarm, 0), new.alarms.get(alarm, 0))
        for alarm in sorted({*old.alarms, *new.alarms})
        if old.alarms.get(alarm, 0) != new.alarms.get(alarm, 0)
    ]
    assets.sort(key=lambda one: (-abs(one.after - one.before), one.asset))
    others = [
        RuleDifference(name, old.raises.get(name, 0), new.raises.get(name, 0))
        for name in sorted({*old.raises, *new.raises} - {rule_id})
        if old.raises.get(name, 0) != new.raises.get(name, 0)
    ]
    return Comparison(
        rule_id,
        since,
        until,
        new.readings,
        _side(rule_id, old),
        _side(rule_id, new),
        assets[:ASSETS_SHOWN],
        max(0, len(assets) - ASSETS_SHOWN),
        others,
    )


def _side(rule_id: str, heard: Heard) -> Side:
    told = [
        Raised(step.at, step.alarm_id, step.record.level.name, step.record.value, step.record.limit, step.record.unit)
        for step in heard.told[:ALARMS_SHOWN]
    ]
    return Side(
        heard.raises.get(rule_id, 0),
        heard.levels,
        heard.load,
        told,
        heard.told_in_all - len(told),
    )
