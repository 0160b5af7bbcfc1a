"""Do the readings agree that the work is done? What "fresh" means for every kind of rule, and the verdict (W6, W7).

Fresh is a good reading that was measured *and* received after the crew said it is done: what lay in a device's memory,
or was under way, proves nothing about a repair. A device whose clock runs behind is believed a little later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.core.conditions import Silence
from gateway.core.model import Micros, Quality, WorkOrder
from gateway.core.plan import Check, groups_of
from gateway.core.points import AssetState, Group
from gateway.core.rule import Share, Side

Newest = Callable[[str], Micros]  # the source time of the newest packet of a device
Members = Callable[[AssetState, Share], Iterable[AssetState]]  # the assets that a share of an asset counts


def can_tell(check: Check) -> bool:
    """Whether readings can tell that the condition of a rule is over. Not of an event that has no return, and not of
    what only asks for other alarms."""
    return not check.rule.event and bool(check.points or check.silences or check.groups)


def looks(check: Check) -> bool:
    """Whether it depends on more than the readings of the asset's own points: then it must be looked for."""
    return bool(check.silences or check.groups)


def reported(asset: AssetState, check: Check) -> tuple[str, ...]:
    """The points the rule looks at that have ever been heard: those whose fresh readings decide."""
    return tuple(sorted(name for name in _names(check.points, check.silences) if _is_reported(asset, name)))


def unheard(asset: AssetState, check: Check, order: WorkOrder, since: Micros, newest: Newest) -> list[str]:
    """What is not newer than ``since`` yet: names of points; of a rule about silence also devices ("*": the asset has
    none). Points that were never reported do not count, unless they were when it was done."""
    missing = [name for name in _wanted(asset, check, order) if not _fresh_point(asset, name, since)]
    if not missing and any(silence.point is None for silence in check.silences):
        missing = _unheard_devices(asset, since, newest)
    if not missing and not check.groups and not check.silences and not _wanted(asset, check, order):
        missing = sorted(check.points)
    return missing


def verdict(
    asset: AssetState,
    check: Check,
    order: WorkOrder,
    since: Micros,
    standing: bool,
    members: Members,
    newest: Newest,
) -> bool | None:
    """Whether the condition is true by readings newer than ``since``; None: they do not say. ``standing``: the alarm is
    active, so that the deadband counts."""
    if unheard(asset, check, order, since, newest):
        return None
    rung = check.rungs[0]
    test = rung.holds if standing else rung.raises
    if not check.groups:
        return test(asset)
    before = asset.groups
    answers: set[bool | None] = set()
    try:
        for in_favour in (False, True):
            asset.groups = {**before, **_counted(asset, check, since, members, newest, in_favour)}
            answers.add(test(asset))
    finally:
        asset.groups = before
    return answers.pop() if len(answers) == 1 else None


def _counted(
    asset: AssetState, check: Check, since: Micros, members: Members, newest: Newest, in_favour: bool
) -> dict[str, Group]:
    """The groups of the rule with every member whose readings are not fresh taken for the alarm, or against it."""
    found: dict[str, Group] = {}
    for name, share in groups_of(check.rule):
        known = asset.groups.get(name)
        if known is None:
            continue
        doubtful = {one.id for one in members(asset, share) if not _fresh_member(one, name, since, newest)}
        group = found[name] = Group()
        group.size = known.size
        counts = in_favour is (share.side is Side.ABOVE)
        group.true = known.true | doubtful if counts else known.true - doubtful
    return found


def _fresh_member(asset: AssetState, group: str, since: Micros, newest: Newest) -> bool:
    membership = next((one for one in asset.plan.memberships if one.group == group), None)
    if membership is None:
        return False
    names = [name for name in _names(membership.points, membership.silences) if _is_reported(asset, name)]
    if not all(_fresh_point(asset, name, since) for name in names):
        return False
    return bool(names) or not _unheard_devices(asset, since, newest)


def _names(points: Iterable[str], silences: Iterable[Silence]) -> set[str]:
    return {*points, *(silence.point for silence in silences if silence.point is not None)}


def _wanted(asset: AssetState, check: Check, order: WorkOrder) -> list[str]:
    """Points that must be fresh: those the rule looks at now and that were heard, now or when it was done."""
    names = _names(check.points, check.silences)
    return sorted(name for name in names if name in order.waits_for or _is_reported(asset, name))


def _is_reported(asset: AssetState, name: str) -> bool:
    state = asset.points.get(name)
    return state is not None and state.reported


def _fresh_point(asset: AssetState, name: str, since: Micros) -> bool:
    state = asset.points.get(name)
    return (
        state is not None and state.quality is Quality.GOOD and state.source_time > since and state.received_at > since
    )


def _unheard_devices(asset: AssetState, since: Micros, newest: Newest) -> list[str]:
    """Of the devices on an asset those that said nothing since; of a single one no good reading of any point."""
    if not any(_fresh_point(asset, name, since) for name in asset.points):
        return list(asset.devices) or ["*"]
    return [name for name in asset.devices if len(asset.devices) > 1 and newest(name) <= since]
