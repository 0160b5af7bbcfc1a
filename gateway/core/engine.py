"""The engine: readings, commands and the time go in; alarm transitions come out. No clock, no I/O, no threads.

One owner calls ``advance(frame.received_at)`` and then ``observe``, ``command``, ``apply_assets`` or ``replace_rules``,
frame by frame. Every deadline that is due fires inside ``advance``, in order, at its own time; so waking late gives the
same transitions as waking on time, and replaying the journal gives the same engine.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from gateway.core import maintenance, verification, work
from gateway.core.alarms import NOWHERE, Alarm, Evidence, new_alarm
from gateway.core.correlation import CauseGraph
from gateway.core.maintenance import Windows
from gateway.core.model import (
    MINUTE,
    SECOND,
    AlarmRecord,
    Asset,
    Command,
    CommandDone,
    CommandName,
    Condition,
    Decoded,
    Device,
    Event,
    Maintenance,
    MaintenanceChanged,
    Micros,
    Quality,
    Reading,
)
from gateway.core.plan import Check, Plan, PointPlan, Rung, attributes_of, compile_plan, links_of
from gateway.core.points import (
    NEVER,
    NOTHING,
    AssetState,
    DeviceState,
    Group,
    Packets,
    PointState,
    Watch,
    WindowKey,
    own,
    packet_keys,
)
from gateway.core.registry import Registry
from gateway.core.rule import OnBadData, Rule, RuleSet, Share, Stands, parts
from gateway.core.schedule import Schedule
from gateway.core.silence import SavedWatch, Silences, Touched
from gateway.core.vocabulary import CLOCK_SKEW
from gateway.core.why import Explanation, Verifying, explain, not_applicable
from gateway.errors import CommandRefused

DEFAULT_LATENESS: Micros = 10 * MINUTE
MAX_AHEAD: Micros = 60 * SECOND  # a device clock further ahead than this is not believed
COMMANDS_REMEMBERED = 1_000

_FORMAT = 2
# The memory of packets holds hashes of integers; Python keeps them equal between processes, not between versions.
_HASHES = hash((1, 2, 3))

_ASSUMED = (OnBadData.ASSUME_ACTIVE, OnBadData.ASSUME_NORMAL)

GOOD = Quality.GOOD
structs = msgspec.structs


class Observed(msgspec.Struct, frozen=True, gc=False):
    """What became of one frame's readings: those to keep, how many were duplicates, and how many of these differed."""

    keep: list[Reading]
    duplicates: int = 0
    conflicts: int = 0


class Counters(msgspec.Struct, gc=False):
    """What happened so far without being a transition."""

    fleeting: int = 0  # pending alarms that went away before their delay (T2)
    clock_skew: int = 0  # readings stamped more than a minute ahead of us
    late: int = 0  # readings too old for a live alarm
    duplicates: int = 0
    conflicts: int = 0


class Edge:
    """Waits for a schedule to go on or off. Before the first moment it is off."""

    __slots__ = ("at", "no", "on", "schedule", "scheduled")

    def __init__(self, no: int, schedule: Schedule) -> None:
        self.no = no
        self.schedule = schedule
        self.scheduled: Micros | None = None
        self.on = False
        self.at: Micros = NEVER

    def turn(self, now: Micros) -> None:
        """Find out what is so now, and until when."""
        self.on = self.schedule.is_on(now)
        self.at = self.schedule.next_change(now)


Target: TypeAlias = Alarm | Watch | Edge | Windows  # of a deadline


class _SavedAsset(msgspec.Struct, array_like=True):
    id: str
    points: dict[str, PointState]
    windows: list[tuple[WindowKey, list[tuple[Micros, float]]]]
    watches: list[SavedWatch]
    counted: list[str] = []


class _Saved(msgspec.Struct, array_like=True):
    format: int
    hashes: int
    now: Micros
    deaf: Micros
    next_no: int
    devices: list[tuple[str, int, Micros, Micros, float]]  # id, no, seen, newest, skew
    assets: list[_SavedAsset]
    alarms: list[Alarm]
    packets: list[tuple[list[int], list[bytes]]]
    commands: dict[str, tuple[str, str] | None]
    counters: Counters
    maintenance: list[tuple[Maintenance, bool]] = []


class Engine:
    """The whole state of all alarms.

    ``registry``: the assets and devices; the engine adds to it (``apply_assets``). ``intervals``: the expected interval
    of a device, None if it has none; ``lateness``: how old its readings may be and still count as live.
    """

    def __init__(
        self,
        registry: Registry,
        rules: RuleSet,
        intervals: Callable[[Device], Micros | None],
        lateness: Callable[[Device], Micros] | None = None,
    ) -> None:
        self.registry = registry
        self.rules = rules
        self.now: Micros = 0
        self.counters = Counters()
        self.fleeting: Counter[str] = Counter()  # by rule, since this engine was made
        self._silences = Silences(
            registry, intervals, lateness or (lambda _: DEFAULT_LATENESS), self._number, self._schedule
        )
        self._next_no = 0
        self._heap: list[tuple[Micros, int, Target]] = []
        self._windows = Windows()
        self._edges: dict[Schedule, Edge] = {}
        self._asked: dict[str, set[str | None]] = {}  # rules whose alarms others ask for → whom it concerns
        self._up: dict[str, int] = {}  # of these: how many alarms stand
        self._assets: dict[str, AssetState] = {}
        self._packets = Packets()
        self._commands: dict[str, tuple[str, str] | None] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}
        self._attributes: tuple[str, ...] = ()
        self._links: tuple[str, ...] = ()
        self._causes = CauseGraph(rules)
        self._use(rules)
        self._bind_all()

    # -- questions ----------------------------------------------------------------------------------------------------

    def wake_at(self, now: Micros) -> Micros | None:
        """When ``advance`` should be called at the latest; None when nothing is pending.

        Never later than the earliest deadline, and not later than ``now`` only when one is really due: those of silence
        move with every message, and are looked at again only when their old time has come.
        """
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, no, target = heap[0]
            due = self._due(target)
            if due is None:
                heapq.heappop(heap)
                target.scheduled = None
            elif due > at:
                heapq.heapreplace(heap, (due, no, target))
                target.scheduled = due
            else:
                return at
        return heap[0][0] if heap else None

    @property
    def next_deadline(self) -> Micros | None:
        """The earliest deadline exactly; None when nothing is pending. Costs a look at every one that has moved."""
        while (at := self.wake_at(NEVER)) is not None and self.wake_at(at) != at:
            pass
        return at

    def alarms(self) -> Iterable[AlarmRecord]:
        """Every alarm that was ever raised, with its condition region as it is now, and every pending one."""
        for asset in self._assets.values():
            for alarm in asset.alarms.values():
                if alarm.record.rev or not alarm.idle:
                    yield alarm.current()

    def alarm(self, alarm_id: str) -> AlarmRecord | None:
        """The live record of ``<asset>/<rule>``; None if it was never raised and is not pending."""
        asset_id, _, rule_id = alarm_id.rpartition("/")
        asset = self._assets.get(asset_id)
        alarm = asset.alarms.get(rule_id) if asset is not None else None
        return alarm.current() if alarm is not None else None

    def point(self, asset: str, point: str) -> PointState | None:
        """The newest live reading; None when there was none yet."""
        state = self._assets.get(asset)
        found = state.points.get(point) if state is not None else None
        return found if found is not None and found.reported else None

    def points(self, asset: str) -> dict[str, PointState]:
        """The newest live reading of every point of an asset."""
        state = self._assets.get(asset)
        return {name: point for name, point in state.points.items() if point.reported} if state is not None else {}

    def quiet(self, asset: str) -> float | None:
        """For how many of its expected intervals the device of an asset that was heard last has been quiet, the time in
        which the gateway could not listen left out; None for an asset without a device that has an interval."""
        state = self._assets.get(asset)
        least: float | None = None
        for device in state.devices if state is not None else ():
            quiet = self._quiet(device)
            if quiet is not None and (least is None or quiet < least):
                least = quiet
        return least

    def heard(self, device: str, intervals: float) -> bool | None:
        """Whether a device was heard within so many of its expected intervals; None for one that has none."""
        quiet = self._quiet(device)
        return None if quiet is None else quiet <= intervals

    def _quiet(self, device: str) -> float | None:
        found = self._silences.devices.get(device)
        if found is None or not found.interval:
            return None
        return (self.now - self._silences.deaf - found.seen) / found.interval

    def last_good(self, state: PointState) -> Micros | None:
        """When the newest good reading of a point came; None when there was none. A moment too late where the gateway
        could not listen since."""
        return None if state.good_at == NEVER else min(state.good_at + self._silences.deaf, state.received_at)

    def not_applicable(self, asset: str) -> dict[str, str]:
        """Rules of the asset's kind that cannot be applied to it, and what it lacks."""
        state = self._assets.get(asset)
        return state.plan.not_applicable if state is not None else {}

    def why(self, alarm_id: str) -> Explanation:
        """Why the alarm ``<asset>/<rule>`` is up, or why it is not; also for one that never was."""
        asset_id, _, rule_id = alarm_id.rpartition("/")
        asset = self._assets.get(asset_id)
        rule = self.rules.get(rule_id)
        record = self.alarm(alarm_id)
        if asset is None:
            return not_applicable(alarm_id, "no_asset", f"没有设施 {asset_id}", f"there is no asset {asset_id}")
        if rule is None:
            return not_applicable(alarm_id, "no_rule", f"没有规则 {rule_id}", f"there is no rule {rule_id}", record)
        index = asset.plan.by_rule.get(rule_id)
        if index is None:
            lacks = asset.plan.not_applicable.get(rule_id)
            if lacks is not None:
                return not_applicable(alarm_id, "lacks", f"设施缺少 {lacks}", f"the asset lacks {lacks}", record)
            if not rule.variant(asset_id).enabled:
                return not_applicable(alarm_id, "disabled", "规则未启用", "the rule is not enabled", record)
            zh, en = "规则不适用于该设施", "the rule is about other assets"
            return not_applicable(alarm_id, "other_kind", zh, en, record)
        check = asset.plan.checks[index]
        edge = self._edges.get(check.rule.schedule) if check.rule.schedule is not None else None
        in_schedule, changes_at = (True, None) if edge is None else (edge.on, edge.at)
        alarm = asset.alarms.get(rule_id)
        verifying = self._verifying(asset, check, alarm) if alarm is not None else None
        under = self._windows.open.get(asset_id)
        return explain(asset, check, alarm, record, in_schedule, changes_at, self.now, verifying, under)

    # -- time ---------------------------------------------------------------------------------------------------------

    def advance(self, to: Micros, out: list[Event], late: bool = False) -> None:
        """Let time pass: fire every deadline up to and including ``to``, each at its own time. ``late``: the gateway
        was away; what fires now is marked so. Time never goes back."""
        if not self.now:
            self._silences.deaf = to  # the first moment: nobody was silent before it
            self.now = to
            self._set_edges()
        heap = self._heap
        while heap and heap[0][0] <= to:
            at, no, target = heap[0]
            due = self._due(target)
            if due is None:
                heapq.heappop(heap)
                target.scheduled = None
                continue
            if due > at:
                heapq.heapreplace(heap, (due, no, target))
                target.scheduled = due
                continue
            heapq.heappop(heap)
            target.scheduled = None
            if at > self.now:
                self.now = at
            if type(target) is Alarm:
                self._fire(target, at, out, late)
            elif type(target) is Watch:
                self._fall_silent(target, at, out, late)
            elif type(target) is Edge:
                self._turn(target, at, out, late)
            elif type(target) is Windows:
                self._maintain(at, out, late)
        if to > self.now:
            self.now = to

    def blind(self, since: Micros, until: Micros) -> None:
        """From ``since`` until ``until`` the gateway could not listen: silence in that time proves nothing, so the
        clocks of silence stand still. Call before ``advance(until, late=True)``."""
        self._silences.deaf += max(0, until - since)

    def leap(self, since: Micros, until: Micros) -> None:
        """The clock was wrong and is set right: between ``since`` and ``until`` no time passed at all. Silences and
        delays that run go on from where they were; what a person set an end to ends at that time."""
        by = max(0, until - since)
        self._silences.deaf += by
        for asset in self._assets.values():
            for alarm in asset.alarms.values():
                alarm.leap(by)

    def _due(self, target: Target) -> Micros | None:
        if type(target) is Watch:
            return target.due(self._silences.deaf)
        if type(target) is Edge:
            return target.at if self._edges.get(target.schedule) is target else None
        if type(target) is Windows:
            return target.due()
        assert type(target) is Alarm
        asset = self._assets[target.asset]
        index = asset.plan.by_rule.get(target.rule)
        if index is None:
            return None
        check = asset.plan.checks[index]
        return target.due(check.rule, check.rungs)

    def _schedule(self, target: Target, due: Micros | None) -> None:
        """At most one useful entry a target: a later deadline waits for the earlier entry to look again."""
        if due is not None and (target.scheduled is None or due < target.scheduled):
            target.scheduled = due
            heapq.heappush(self._heap, (due, target.no, target))

    def _fire(self, alarm: Alarm, at: Micros, out: list[Event], late: bool) -> None:
        asset = self._assets[alarm.asset]
        check = asset.plan.checks[asset.plan.by_rule[alarm.rule]]
        self._settle(asset, check, alarm, at, out, late)

    def _turn(self, edge: Edge, at: Micros, out: list[Event], late: bool) -> None:
        """A schedule went on or off: every check that follows it is asked."""
        edge.turn(at)
        self._schedule(edge, edge.at)
        for asset in self._assets.values():
            checks = asset.plan.by_schedule.get(edge.schedule, 0)
            if checks:
                self._ask(asset, checks, 0, at, out, False, late)

    def _set_edges(self) -> None:
        """Put the schedules of the rules in force on the heap, as they are now."""
        for edge in self._edges.values():
            edge.scheduled = None
            edge.turn(self.now)
            self._schedule(edge, edge.at)

    # -- readings -----------------------------------------------------------------------------------------------------

    def observe(self, decoded: Decoded, out: list[Event], came: Micros | None = None) -> Observed:
        """Take in the readings of one frame, received now. All are applied first, then every rule they touch is asked
        once; an event without a return is asked once per packet.

        ``came``: when the frame first came, for one that is offered again. Its readings are as late as they are then,
        and it proves nothing about now: neither that its device is there, nor how its clock goes."""
        readings = decoded.readings
        keep: list[Reading] | None = None  # None: every one so far, unchanged
        duplicates = conflicts = 0
        now = self.now
        anew = came is None
        came = now if came is None else came
        heard = came - self._silences.deaf
        devices = self._silences.devices
        asset: AssetState | None = None
        points: dict[str, PointState] = {}
        by_point: Mapping[str, PointPlan] = {}
        device: DeviceState | None = None
        touched: list[Touched] = []
        asset_id = device_id = ""
        time: Micros = NEVER
        sequence: int | None = NEVER
        late = ahead = fresh = spoke = False
        order: Micros = 0
        seen = bits = fingerprint = checks = memberships = events = 0
        known: int | None = None
        key = 0
        keyed = False

        for i, reading in enumerate(readings):
            if (
                reading.source_time != time
                or reading.sequence != sequence
                or reading.device != device_id
                or reading.asset != asset_id
            ):
                # A new packet: close the one before, then find out whether this one was seen.
                if asset is not None and device is not None:
                    if keyed:
                        conflicts += self._remember(key, seen, bits, known, fingerprint)
                    if spoke and (anew or heard > device.seen):
                        device.seen = heard
                        if device.silenced:
                            touched += self._silences.heard(device, now)
                    if checks or memberships or events:
                        if events:
                            self._happen(asset, events, now, out)
                            events = 0
                        if reading.asset != asset_id:
                            touched.append((asset, checks, memberships))
                            checks = memberships = 0
                asset_id, device_id = reading.asset, reading.device
                time, sequence = reading.source_time, reading.sequence
                asset = self._assets.get(asset_id) or self._unregistered(asset_id)
                points, by_point = asset.points, asset.plan.by_point
                device = devices.get(device_id) or self._silences.stranger(device_id, asset_id, now)
                seen = bits = fingerprint = 0
                known = None
                spoke = False
                timed = reading.has_source_time
                late = timed and now - min(time, came) > device.lateness
                ahead = timed and time - came > MAX_AHEAD
                order = came if ahead else time
                fresh = timed and not late and device.newest < time <= now
                keys = packet_keys(device, reading, now)
                keyed = bool(keys)
                if keyed:
                    key = keys[0]
                    if not fresh:
                        for candidate in keys:
                            seen, known = self._packets.seen(candidate)
                            if seen:
                                break
                if timed and anew and not seen and CLOCK_SKEW in by_point and not reading.historical:
                    checks |= self._note_skew(asset, device, time, now)
                if time > device.newest and not ahead and not late:
                    device.newest = time
            assert asset is not None
            assert device is not None
            name = reading.point
            state = points.get(name)
            if state is None:
                state = points[name] = PointState(len(points))
            value = reading.value
            bit = 1 << state.no
            bits |= bit
            fingerprint ^= hash((bit, value))
            if seen & bit:
                if keep is None:
                    keep = readings[:i]
                duplicates += 1
                continue
            quality = reading.quality
            if late or ahead or reading.historical:
                if keep is None:
                    keep = readings[:i]
                if ahead:
                    self.counters.clock_skew += 1
                    if quality is GOOD:
                        quality = Quality.UNCERTAIN
                    ahead_s = (time - came) / SECOND
                    reading = structs.replace(
                        reading, quality=quality, reason=reading.reason or f"device clock {ahead_s:.0f} s ahead"
                    )
                if late or reading.historical:
                    self.counters.late += 1
                    keep.append(reading if reading.historical else structs.replace(reading, historical=True))
                    continue
            if keep is not None:
                keep.append(reading)
            if order < state.source_time:
                spoke = spoke or quality is GOOD
                continue  # newer is known: kept, not evaluated
            state.value = value
            state.quality = quality
            state.source_time = order
            state.received_at = came
            state.reason = reading.reason
            if quality is GOOD:
                state.good_at = heard if anew else max(heard, state.good_at)
                spoke = True
            plan = by_point.get(name)
            if plan is None:
                continue
            checks |= plan.always
            memberships |= plan.memberships
            events |= plan.events
            kind = type(value)
            if plan.banded and (
                quality is not GOOD
                or (kind is not float and kind is not int)
                or not plan.low <= value < plan.high  # type: ignore[operator]  # a number, by the line before
                or plan.banded & asset.live
            ):
                checks |= plan.banded
            for guarded, members, low, high in plan.guards:
                if quality is GOOD and (kind is float or kind is int) and low <= value < high:  # type: ignore[operator]
                    asset.safe |= guarded
                    asset.safe_members |= members
                else:
                    asset.safe &= ~guarded
                    asset.safe_members &= ~members
            if plan.windows and quality is GOOD and isinstance(value, (int, float)):
                for window in plan.windows:
                    asset.windows[window].add(order, float(value), kind is bool)

        if asset is not None and device is not None:
            if keyed:
                conflicts += self._remember(key, seen, bits, known, fingerprint)
            if spoke and (anew or heard > device.seen):
                device.seen = heard
                if device.silenced:
                    touched += self._silences.heard(device, now)
            if events:
                self._happen(asset, events, now, out)
            if checks or memberships:
                if touched:
                    touched.append((asset, checks, memberships))
                else:
                    self._ask(asset, checks, memberships, now, out, True)
            for one, one_checks, one_memberships in _merged(touched) if touched else ():
                self._ask(one, one_checks, one_memberships, now, out, True)
        if duplicates:
            self.counters.duplicates += duplicates
            self.counters.conflicts += conflicts
        return Observed(readings if keep is None else keep, duplicates, conflicts)

    def _note_skew(self, asset: AssetState, device: DeviceState, time: Micros, now: Micros) -> int:
        """The clock of ``device`` against ours, as a point of its asset: the worst of its devices. Gives the checks to
        ask: also for a packet so late that its readings are not."""
        device.skew = abs(now - time) / SECOND
        known = self._silences.devices
        skew = max((known[name].skew for name in asset.devices if name in known), default=device.skew)
        state = asset.points.get(CLOCK_SKEW)
        if state is None:
            state = asset.points[CLOCK_SKEW] = PointState(len(asset.points))
        state.value, state.quality = skew, GOOD
        state.source_time = state.received_at = now
        plan = asset.plan.by_point[CLOCK_SKEW]
        return plan.always | plan.banded

    def _remember(self, key: int, seen: int, bits: int, known: int | None, fingerprint: int) -> bool:
        """Note a packet; True when it was seen whole before, with other values."""
        if not seen:
            self._packets.remember(key, bits, fingerprint)
            return False
        again = bits & ~seen == 0
        self._packets.remember(key, seen | bits, known if again else None)
        return seen == bits and known is not None and known != fingerprint

    def _fall_silent(self, watch: Watch, at: Micros, out: list[Event], late: bool) -> None:
        asset, checks, memberships = self._silences.fall_silent(watch)
        self._ask(asset, checks, memberships, at, out, False, late)

    # -- rules --------------------------------------------------------------------------------------------------------

    def _ask(
        self,
        asset: AssetState,
        checks: int,
        memberships: int,
        now: Micros,
        out: list[Event],
        counted: bool,
        late: bool = False,
    ) -> None:
        """Evaluate the memberships and the checks whose bits are set, in the order of the rules. Memberships first: a
        cause that begins with this asset explains its alarm already."""
        while memberships:
            lowest = memberships & -memberships
            memberships ^= lowest
            index = lowest.bit_length() - 1
            joined = asset.parents[index]
            if joined is None:
                continue
            parent, group = joined
            was = asset.id in group.true
            if not was and asset.safe_members >> index & 1 and not asset.silent:
                continue
            membership = asset.plan.memberships[index]
            is_ = membership.where(asset)
            if is_ is not None and is_ is not was:  # of unknown truth it stays as it was
                (group.true.discard if was else group.true.add)(asset.id)
                check = parent.plan.checks[parent.plan.groups[membership.group]]
                self._judge(parent, check, now, out, counted, late)
        all_checks = asset.plan.checks
        checks &= ~asset.safe | asset.live
        while checks:
            lowest = checks & -checks
            checks ^= lowest
            self._judge(asset, all_checks[lowest.bit_length() - 1], now, out, counted, late)

    def _judge(self, asset: AssetState, check: Check, now: Micros, out: list[Event], counted: bool, late: bool) -> None:
        """Ask one rule about one asset, and let its alarm take the consequences."""
        rungs = check.rungs
        rule = check.rule
        if not asset.live >> check.index & 1:
            truth = rungs[0].raises(asset)
            if truth is False or (truth is None and rule.on_bad_data is not OnBadData.ASSUME_ACTIVE):
                return
        alarm = asset.alarms.get(rule.id)
        if alarm is None:
            alarm = self._new_alarm(asset, check)
        truths: list[bool | None] = []
        for i, rung in enumerate(rungs):
            truth = rung.holds(asset) if i < alarm.on else rung.raises(asset)
            if truth is None and rule.on_bad_data in _ASSUMED and check.quality(asset) is not GOOD:
                truth = rule.on_bad_data is OnBadData.ASSUME_ACTIVE
            truths.append(truth)
        stood = alarm.stands
        if alarm.feel(now, truths, counted):
            self.counters.fleeting += 1
            self.fleeting[rule.id] += 1
        quality = GOOD if truths[0] is not None else check.quality(asset)
        noted = alarm.note_quality(now, quality)
        if noted is not None:
            out.append(noted)
        self._settle(asset, check, alarm, now, out, late, stood)

    def _happen(self, asset: AssetState, events: int, now: Micros, out: list[Event]) -> None:
        """T26: ask the rules whose condition is an event without a return."""
        while events:
            lowest = events & -events
            events ^= lowest
            check = asset.plan.checks[lowest.bit_length() - 1]
            reached = 0
            for i, rung in enumerate(check.rungs):
                if rung.raises(asset) is True:
                    reached = i + 1
            if reached:
                alarm = asset.alarms.get(check.rule.id) or self._new_alarm(asset, check)
                evidence = Evidence(*check.evidence(asset, reached - 1))
                level = check.rungs[reached - 1].level
                causes = self._standing_causes(asset, check.rule)
                out.extend(alarm.happen(check.rule, level, now, evidence, causes, self._windows.open.get(asset.id)))
                self._schedule(alarm, alarm.due(check.rule, check.rungs))

    def _settle(
        self,
        asset: AssetState,
        check: Check,
        alarm: Alarm,
        now: Micros,
        out: list[Event],
        late: bool,
        stood: bool | None = None,
    ) -> None:
        """Let run-out timers take effect, tell effects when a cause comes or goes, and set the next deadline."""
        stood = alarm.stands if stood is None else stood
        rungs: tuple[Rung, ...] = check.rungs
        under = self._windows.open.get(asset.id)
        if alarm.matured(rungs, now) != alarm.on:
            raising = alarm.on == 0
            causes = self._standing_causes(asset, check.rule) if raising else ()
            out.extend(
                alarm.settle(
                    check.rule, rungs, now, lambda rung: Evidence(*check.evidence(asset, rung)), causes, late, under
                )
            )
        out.extend(alarm.timed(check.rule, now, late, under))
        if alarm.record.order is not None:
            self._verify(asset, check, alarm, now, out, late)
        self._after(asset, check, alarm, now, out, late, stood)

    def _after(
        self, asset: AssetState, check: Check, alarm: Alarm, now: Micros, out: list[Event], late: bool, stood: bool
    ) -> None:
        bit = 1 << check.index
        if alarm.idle:
            asset.live &= ~bit
            if alarm.record.rev == 0:
                del asset.alarms[check.rule.id]
        else:
            asset.live |= bit
        self._schedule(alarm, alarm.due(check.rule, check.rungs))
        if alarm.stands is not stood and self._causes.has_effects(check.rule.id):
            self._explain(asset.id, check.rule.id, now, out, late)
        if check.rule.id in self._asked:
            self._tell(alarm, now, out, late)

    # -- work ---------------------------------------------------------------------------------------------------------

    def _verify(self, asset: AssetState, check: Check, alarm: Alarm, now: Micros, out: list[Event], late: bool) -> None:
        """W6, W7: ask the fresh readings whether the work is done, and let what they said long enough take effect."""
        order = alarm.record.order
        if order is None or order.done_at is None or not alarm.verifying:
            return
        schedule = check.rule.schedule
        verdict: bool | None = None
        if schedule is not None and not self._edges[schedule].on:
            alarm.fresh_after = now  # outside its hours a rule's condition is false by itself: that proves nothing
        else:
            since = max(order.done_at, alarm.fresh_after)
            verdict = verification.verdict(asset, check, order, since, alarm.on > 0, self._counted_by, self._newest)
        alarm.weigh(now, verdict)
        decides_at = alarm.decides_at(check.rungs)
        if decides_at is not None and decides_at <= now:
            quiet = self.quiet(asset.id)
            if verdict is False and quiet is not None and quiet > work.QUIET_INTERVALS:
                alarm.weigh(now, None)  # nobody vouches for it any more: from the next reading on
            else:
                out.extend(alarm.judge_work(now, late))
        if alarm.verifying and verification.looks(check) and (alarm.look_at is None or alarm.look_at <= now):
            alarm.look_at = now + work.LOOK_EVERY

    def _verifying(self, asset: AssetState, check: Check, alarm: Alarm) -> Verifying | None:
        """How far a verification is; None when there is none."""
        order = alarm.record.order
        if order is None or order.done_at is None or not alarm.verifying:
            return None
        waits_for = verification.unheard(asset, check, order, max(order.done_at, alarm.fresh_after), self._newest)
        return Verifying(order.done_at, waits_for, alarm.verdict, alarm.decides_at(check.rungs))

    def _scene(self, asset: AssetState, check: Check | None) -> work.Scene:
        """What a command about work on an alarm of ``asset`` must know."""
        known = self.registry.asset(asset.id)
        return work.Scene(
            verification.reported(asset, check) if check is not None and verification.can_tell(check) else None,
            check is not None and check.rule.confirm,
            known.longitude if known is not None else None,
            known.latitude if known is not None else None,
        )

    def _counted_by(self, asset: AssetState, share: Share) -> Iterable[AssetState]:
        """The assets that a share of ``asset`` counts."""
        for name in self.registry.children(share.link, asset.id):
            known, state = self.registry.asset(name), self._assets.get(name)
            if known is not None and state is not None and known.kind == share.of:
                yield state

    def _newest(self, device: str) -> Micros:
        found = self._silences.devices.get(device)
        return NEVER if found is None else found.newest

    def _new_alarm(self, asset: AssetState, check: Check) -> Alarm:
        known = self.registry.asset(asset.id)
        kind, simulated = (known.kind, known.simulated) if known is not None else ("", False)
        alarm = new_alarm(self._number(), asset.id, kind, check.rule, check.rungs, simulated=simulated)
        asset.alarms = own(asset.alarms)
        asset.alarms[check.rule.id] = alarm
        return alarm

    def _number(self) -> int:
        self._next_no += 1
        return self._next_no

    # -- correlation --------------------------------------------------------------------------------------------------

    def _standing_causes(self, asset: AssetState, rule: Rule) -> tuple[str, ...]:
        """Ids of the alarms that stand (or are about to) and explain this one."""
        if not self._causes.has_causes(rule.id):
            return ()
        known = self.registry.asset(asset.id)
        found: list[str] = []
        for cause_asset, cause_rule in self._causes.causes(rule.id, known) if known is not None else ():
            holder = self._assets.get(cause_asset)
            cause = holder.alarms.get(cause_rule) if holder is not None else None
            if cause is not None and cause.stands:
                found.append(f"{cause_asset}/{cause_rule}")
        return tuple(found)

    def _explain(self, asset_id: str, rule_id: str, now: Micros, out: list[Event], late: bool) -> None:
        """A cause came or went: T20 for its effects that are up, or the beginning of T21."""
        for effect_asset, effect_rule in self._causes.effects(rule_id, asset_id, self.registry):
            asset = self._assets.get(effect_asset)
            alarm = asset.alarms.get(effect_rule) if asset is not None else None
            index = asset.plan.by_rule.get(effect_rule) if asset is not None else None
            if asset is None or alarm is None or index is None:
                continue
            check = asset.plan.checks[index]
            step = alarm.suppress(now, self._standing_causes(asset, check.rule), check.rule.settle, late)
            if step is not None:
                out.append(step)
            self._schedule(alarm, alarm.due(check.rule, check.rungs))

    # -- what conditions ask beyond their asset (``conditions.Surroundings``) ------------------------------------------

    def neighbours(self, asset: AssetState, link: str) -> Iterable[AssetState]:
        known = self.registry.asset(asset.id)
        parent = known.links.get(link) if known is not None else None
        if known is None or parent is None:
            return
        for name in self.registry.children(link, parent):
            other = self._assets.get(name)
            sibling = self.registry.asset(name)
            if other is not None and other is not asset and sibling is not None and sibling.kind == known.kind:
                yield other

    def stands(self, asset: AssetState, rule: str, link: str | None) -> bool:
        holder: AssetState | None = asset
        if link is not None:
            known = self.registry.asset(asset.id)
            holder = self._assets.get(known.links.get(link, "")) if known is not None else None
        alarm = holder.alarms.get(rule) if holder is not None else None
        return alarm is not None and alarm.up

    def stands_anywhere(self, rule: str) -> bool:
        return self._up.get(rule, 0) > 0

    def edge(self, schedule: Schedule) -> Edge:
        return self._edges[schedule]

    def _tell(self, alarm: Alarm, now: Micros, out: list[Event], late: bool) -> None:
        """The alarm came up or went down: whoever asks whether it stands is asked again."""
        up = alarm.on > 0 or alarm.record.latched
        if up is alarm.up:
            return
        alarm.up = up
        self._up[alarm.rule] = self._up.get(alarm.rule, 0) + (1 if up else -1)
        concerned: dict[str, None] = {}
        for link in sorted(self._asked.get(alarm.rule, ()), key=str):
            if link == "*":
                concerned |= {name: None for name, asset in self._assets.items() if alarm.rule in asset.plan.by_alarm}
            elif link is None:
                concerned[alarm.asset] = None
            elif link.startswith("="):
                holder = self._assets[alarm.asset]
                concerned |= dict.fromkeys(sorted(other.id for other in self.neighbours(holder, link[1:])))
            else:
                concerned |= dict.fromkeys(sorted(self.registry.children(link, alarm.asset)))
        for name in concerned:
            state = self._assets.get(name)
            if state is not None and (asking := state.plan.by_alarm.get(alarm.rule)) is not None:
                self._ask(state, *asking, now, out, False, late)

    def _count_up(self) -> None:
        """Which alarms that others ask for stand, counted anew."""
        self._up = {}
        for asset in self._assets.values():
            for alarm in asset.alarms.values():
                alarm.up = alarm.rule in self._asked and (alarm.on > 0 or alarm.record.latched)
                if alarm.up:
                    self._up[alarm.rule] = self._up.get(alarm.rule, 0) + 1

    # -- commands -----------------------------------------------------------------------------------------------------

    def command(self, command: Command, at: Micros, out: list[Event]) -> None:
        """Carry out what a person asked for, or refuse it: the transition if there is one, then CommandDone. The same
        command id again gives the same answer and does nothing."""
        if command.command_id in self._commands:
            out.append(CommandDone(command, at, self._commands[command.command_id]))
            return
        refused: tuple[str, str] | None = None
        try:
            self._obey(command, at, out)
        except CommandRefused as refusal:
            refused = (refusal.code, str(refusal))
        self._commands[command.command_id] = refused
        if len(self._commands) > COMMANDS_REMEMBERED:
            del self._commands[next(iter(self._commands))]
        out.append(CommandDone(command, at, refused))

    def _obey(self, command: Command, at: Micros, out: list[Event]) -> None:
        if command.name in (CommandName.MAINTENANCE, CommandName.END_MAINTENANCE):
            self._obey_about_asset(command, at, out)
            return
        asset_id, _, rule_id = command.alarm_id.rpartition("/")
        asset = self._assets.get(asset_id)
        alarm = asset.alarms.get(rule_id) if asset is not None else None
        if asset is None or alarm is None or alarm.record.rev == 0:
            raise CommandRefused("not_found", f"there is no alarm {command.alarm_id}")
        index = asset.plan.by_rule.get(rule_id)
        check = asset.plan.checks[index] if index is not None else None
        scene = self._scene(asset, check) if command.name in work.COMMANDS else NOWHERE
        if check is None:
            out.append(alarm.obey(None, command, at, scene=scene))
            return
        if command.name is CommandName.IN_SERVICE and asset_id in self._windows.open:
            raise CommandRefused("not_allowed", f"{asset_id} is under maintenance: end that")
        stood = alarm.stands
        is_true = command.name is CommandName.FORCE_CLEAR and check.rungs[0].raises(asset) is True
        out.append(alarm.obey(check.rule, command, at, is_true, scene))
        self._verify(asset, check, alarm, at, out, False)
        self._after(asset, check, alarm, at, out, False, stood)

    # -- maintenance --------------------------------------------------------------------------------------------------

    def maintenance_of(self, asset: str) -> list[Maintenance]:
        """The windows of an asset that are planned or open, the next one first."""
        return self._windows.of(asset)

    def _obey_about_asset(self, command: Command, at: Micros, out: list[Event]) -> None:
        """Put an asset under maintenance, now or later; or end that (argument ``id``, or the one that is open)."""
        if self.registry.asset(command.alarm_id) is None:
            raise CommandRefused("not_found", f"there is no asset {command.alarm_id}")
        if command.name is CommandName.MAINTENANCE:
            window = maintenance.asked_for(command, at)
            self._windows.add(window)
            out.append(MaintenanceChanged(at, window))
            self._maintain(at, out, False)
            return
        wanted = command.arguments.get("id")
        windows = self._windows.of(command.alarm_id)
        found = next((w for w in windows if (self._windows.has_begun(w) if wanted is None else w.id == wanted)), None)
        if found is None:
            raise CommandRefused("not_found", f"{command.alarm_id} has no such maintenance, or it is over")
        self._end(found, at, out, by=command.by, why=command.why)
        self._schedule(self._windows, self._windows.due())

    def _maintain(self, at: Micros, out: list[Event], late: bool) -> None:
        """Windows begin and end, each at its own time."""
        while (window := self._windows.next(at)) is not None:
            if self._windows.has_begun(window):
                self._windows.end(window)  # its alarms know the end themselves
                out.append(MaintenanceChanged(at, structs.replace(window, ended_at=window.until)))
            else:
                self._begin(window, at, out, late)
        self._schedule(self._windows, self._windows.due())

    def _begin(self, window: Maintenance, at: Micros, out: list[Event], late: bool) -> None:
        """T22 for every alarm of the asset that stands or waits for somebody."""
        away = self._windows.begin(window)
        for asset, check, alarm in self._alarms_in_force(window.asset):
            step = alarm.take_out(at, away, late)
            if step is not None:
                out.append(step)
                self._after(asset, check, alarm, at, out, late, alarm.stands)

    def _end(self, window: Maintenance, at: Micros, out: list[Event], *, by: str, why: str | None) -> None:
        """A person ends it before its time, or calls it off: T23 for what it took out."""
        self._windows.end(window)
        out.append(MaintenanceChanged(at, structs.replace(window, ended_at=at, ended_by=by)))
        for asset, check, alarm in self._alarms_in_force(window.asset):
            away = alarm.record.out_of_service
            if away is not None and away.maintenance == window.id:
                out.append(alarm.bring_back(check.rule, at, by=by, why=why))
                self._after(asset, check, alarm, at, out, False, alarm.stands)

    def _alarms_in_force(self, asset_id: str) -> list[tuple[AssetState, Check, Alarm]]:
        asset = self._assets.get(asset_id)
        if asset is None:
            return []
        plan = asset.plan
        found = ((plan.by_rule.get(rule), alarm) for rule, alarm in asset.alarms.items())
        return [(asset, plan.checks[index], alarm) for index, alarm in found if index is not None]

    # -- assets and rules ---------------------------------------------------------------------------------------------

    def apply_assets(self, assets: Iterable[Asset], devices: Iterable[Device], at: Micros, out: list[Event]) -> None:
        """Add or change assets and devices; states, alarms and timers stay, limits follow the new attributes."""
        self.advance(at, out)
        assets, devices = list(assets), list(devices)
        touched = {asset.asset: None for asset in assets}
        for device in devices:
            before = self.registry.device(device.device)
            if before is not None:
                touched[before.asset] = None
            touched[device.asset] = None
        self.registry.upsert(assets, devices)
        changed = [asset for name in touched if (asset := self.registry.asset(name)) is not None]
        # Children may have been there before the parent they name; a parent has more or fewer of them now.
        members = {asset.asset: asset for asset in changed}
        for link in self._links:
            for asset in changed:
                for child in self.registry.children(link, asset.asset):
                    members.setdefault(child, self.registry.asset(child) or asset)
        concerned = self._parents_of(members)
        for asset in changed:
            self._bind(asset)
            for alarm in self._assets[asset.asset].alarms.values():
                alarm.mark(asset.simulated)
        for asset in members.values():
            self._regroup(asset)
        concerned |= {asset.asset: None for asset in changed} | self._parents_of(members)
        for asset in changed:
            self._close_orphans(self._assets[asset.asset], at, out)
        for name in concerned:
            self._reconsider(self._assets[name], at, out)

    def replace_rules(self, rules: RuleSet, at: Micros, out: list[Event]) -> None:
        """Put other rules in force. Alarms of rules that stay keep their state; alarms of rules that are gone or
        disabled are closed with the reason."""
        self.advance(at, out)
        self._use(rules)
        self._set_edges()
        self._bind_all()
        self._count_up()
        for state in self._assets.values():
            self._close_orphans(state, at, out)
        for state in self._assets.values():
            self._reconsider(state, at, out)

    def _parents_of(self, members: Iterable[str]) -> dict[str, None]:
        """The assets in whose groups ``members`` are counted now, in their order."""
        states = (self._assets.get(name) for name in members)
        return {joined[0].id: None for state in states if state is not None for joined in state.parents if joined}

    def _use(self, rules: RuleSet) -> None:
        self.rules = rules
        self._causes = CauseGraph(rules)
        self._attributes = tuple(sorted(attributes_of(rules)))
        self._links = links_of(rules)
        self._plans.clear()
        self._heap = [entry for entry in self._heap if type(entry[2]) is not Edge]
        heapq.heapify(self._heap)
        schedules = dict.fromkeys(variant.schedule for rule in rules for variant in rule.all_variants)
        # Numbers below those of everything else: a schedule turns before what happens at the same moment.
        self._edges = {
            schedule: Edge(-number, schedule)
            for number, schedule in enumerate((one for one in schedules if one is not None), 1)
        }
        self._varied = [rule for rule in rules if rule.overrides]
        self._asked = {}
        for rule in rules:
            for variant in rule.all_variants if rule.enabled else ():
                for condition in (variant.when, *([variant.clear_when] if variant.clear_when is not None else [])):
                    inner = [one for part in parts(condition) if isinstance(part, Share) for one in parts(part.where)]
                    for part in (*parts(condition), *inner):
                        if isinstance(part, Stands):
                            self._asked.setdefault(part.rule, set()).add(_whom(part))

    def _close_orphans(self, state: AssetState, at: Micros, out: list[Event]) -> None:
        """End the alarms of rules that no longer apply to the asset."""
        for rule_id, alarm in list(state.alarms.items()):
            if rule_id in state.plan.by_rule:
                continue
            stood = alarm.stands
            removed = self.rules.get(rule_id) is None
            step = alarm.close(at, f"rule {rule_id} {'was removed' if removed else 'is not in force here'}")
            if step is not None:
                out.append(step)
            if alarm.up:
                self._tell(alarm, at, out, False)
            if alarm.record.rev == 0:
                del state.alarms[rule_id]
            if stood and self._causes.has_effects(rule_id):
                self._explain(state.id, rule_id, at, out, False)

    def _plan(self, asset: Asset) -> Plan:
        """The plan of ``asset``, shared with every asset that differs in nothing a rule looks at."""
        profiles = tuple(
            device.profile
            for device_id in self.registry.devices_of(asset.asset)
            if (device := self.registry.device(device_id)) is not None
        )
        variants = tuple(id(rule.variant(asset.asset)) for rule in self._varied)
        key = (asset.kind, profiles, variants, *(asset.attributes.get(name) for name in self._attributes))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = compile_plan(self.rules, asset, profiles, self)
        return plan

    def _bind_all(self) -> None:
        for asset in self.registry.assets():
            self._bind(asset)
        for asset in self.registry.assets():
            self._regroup(asset)

    def _bind(self, asset: Asset) -> None:
        """Give an asset the plan that fits it now, with its alarms, watches, windows and groups."""
        plan = self._plan(asset)
        state = self._assets.get(asset.asset)
        if state is None:
            state = self._assets[asset.asset] = AssetState(asset.asset, plan)
        self._leave_groups(state)
        state.plan = plan
        state.live = state.safe = state.safe_members = 0
        for rule_id, alarm in state.alarms.items():
            index = plan.by_rule.get(rule_id)
            if index is not None:
                alarm.fit(len(plan.checks[index].rungs))
                if not alarm.idle:
                    state.live |= 1 << index
        wanted = {window for point in plan.by_point.values() for window in point.windows}
        state.windows = {key: state.windows.get(key) or key.window() for key in sorted(wanted)} or NOTHING
        state.groups = {group: state.groups.get(group) or Group() for group in plan.groups} or NOTHING
        self._silences.mount(state, self.now)

    # -- groups -------------------------------------------------------------------------------------------------------

    def _counted(self, state: AssetState) -> list[str]:
        """The groups in which an asset counts as fulfilling the condition now."""
        return [
            membership.group
            for membership, joined in zip(state.plan.memberships, state.parents, strict=False)
            if joined is not None and state.id in joined[1].true
        ]

    def _regroup(self, asset: Asset, counted: Sequence[str] | None = None) -> None:
        """Count an asset among the members of the assets its links name. Where its truth is unknown it stays as it was,
        or as ``counted`` says."""
        state = self._assets[asset.asset]
        self._leave_groups(state)
        if counted is None:
            counted = state.counted
        state.counted = ()
        parents: list[tuple[AssetState, Group] | None] = []
        for membership in state.plan.memberships:
            parent = self._assets.get(asset.links.get(membership.link, ""))
            group = parent.groups.get(membership.group) if parent is not None else None
            if parent is None or group is None:
                parents.append(None)
                continue
            parents.append((parent, group))
            group.size += 1
            truth = membership.where(state)
            if truth is True or (truth is None and membership.group in counted):
                group.true.add(state.id)
        state.parents = tuple(parents)

    def _leave_groups(self, state: AssetState) -> None:
        state.counted = tuple(self._counted(state)) or state.counted
        for joined in state.parents:
            if joined is not None:
                _, group = joined
                group.size -= 1
                group.true.discard(state.id)
        state.parents = ()

    def _reconsider(self, state: AssetState, at: Micros, out: list[Event]) -> None:
        """Ask every rule about an asset whose limits, causes or members may have changed."""
        checks = sum(1 << check.index for check in state.plan.checks if not check.rule.event)
        self._ask(state, checks, (1 << len(state.plan.memberships)) - 1, at, out, False)
        for check in state.plan.checks:
            alarm = state.alarms.get(check.rule.id)
            if alarm is not None:
                step = alarm.suppress(at, self._standing_causes(state, check.rule), check.rule.settle)
                if step is not None:
                    out.append(step)
                self._schedule(alarm, alarm.due(check.rule, check.rungs))

    def _unregistered(self, asset_id: str) -> AssetState:
        state = self._assets[asset_id] = AssetState(asset_id, Plan())
        return state

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def adopt(self, records: Iterable[AlarmRecord], at: Micros, windows: Iterable[Maintenance] = ()) -> None:
        """Take over what a store knows of alarms and of maintenance when there is no snapshot: the records as they are,
        with a timer run out where one stands; points, pending timers and the memory of packets begin anew. For a new
        engine only."""
        self.advance(at, [])
        # Whether one has begun is seen from its alarms: what it took out, it takes out no second time.
        self._windows.load((window, False) for window in windows)
        self._schedule(self._windows, self._windows.due())
        for record in records:
            asset = self._assets.get(record.asset)
            index = asset.plan.by_rule.get(record.rule) if asset is not None else None
            if asset is None or index is None:
                continue
            check = asset.plan.checks[index]
            alarm = self._new_alarm(asset, check)
            alarm.record = record
            if record.cond in (Condition.ACTIVE, Condition.PENDING_OFF):
                alarm.record = structs.replace(record, cond=Condition.ACTIVE)
                # The ladder climbs from the mildest level; so many rungs are not above the record's.
                alarm.on = max(1, sum(rung.level >= record.level for rung in check.rungs))
            if not alarm.idle:
                asset.live |= 1 << index
            if alarm.verifying and verification.looks(check):
                alarm.look_at = at + work.LOOK_EVERY
            self._schedule(alarm, alarm.due(check.rule, check.rungs))
        for one in self.registry.assets():
            self._regroup(one)
        self._count_up()

    def snapshot(self) -> bytes:
        """The whole state, but not the registry nor the rules: restored over the same ones, the engine continues
        exactly as this one would."""
        watches = self._silences.dump_watches()
        saved = _Saved(
            _FORMAT,
            _HASHES,
            self.now,
            self._silences.deaf,
            self._next_no,
            [
                (name, device.no, device.seen, device.newest, device.skew)
                for name, device in self._silences.devices.items()
            ],
            [
                _SavedAsset(
                    asset.id,
                    asset.points,
                    [(key, list(window.samples)) for key, window in asset.windows.items()],
                    watches.get(asset.id, []),
                    self._counted(asset),
                )
                for asset in self._assets.values()
            ],
            # Where the heap looks next is no state: it is worked out again.
            [
                structs.replace(alarm, scheduled=None)
                for asset in self._assets.values()
                for alarm in asset.alarms.values()
            ],
            self._packets.dump(),
            self._commands,
            self.counters,
            self._windows.dump(),
        )
        return msgspec.msgpack.encode(saved)

    def restore(self, data: bytes) -> None:
        """Take over a snapshot made with the same rules and the same registry. Raises ValueError when it is damaged or
        of another version."""
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a snapshot of the engine: {error}") from error
        if saved.format != _FORMAT:
            raise ValueError(f"an engine snapshot of format {saved.format}; this program reads {_FORMAT}")
        self.now = saved.now
        self._heap, self._assets = [], {}
        self._commands, self.counters = saved.commands, saved.counters
        self._packets = Packets()
        if saved.hashes == _HASHES:  # else a redelivery of what came before the restart is seen as new
            self._packets.load(saved.packets)
        self._windows = Windows()
        self._windows.load(saved.maintenance)
        self._silences.load(saved.deaf, saved.devices)
        for kept in saved.assets:
            asset = self._assets[kept.id] = AssetState(kept.id, Plan())
            asset.points = kept.points
            asset.windows = {key: key.window(samples) for key, samples in kept.windows}
        for alarm in saved.alarms:
            alarm.scheduled = None
            state = self._assets[alarm.asset]
            state.alarms = own(state.alarms)
            state.alarms[alarm.rule] = alarm
        self._bind_all()
        for kept in saved.assets:
            self._silences.load_watches(self._assets[kept.id], kept.watches)
        counted = {kept.id: kept.counted for kept in saved.assets if kept.counted}
        for one in self.registry.assets():
            self._regroup(one, counted.get(one.asset, ()))
        self._count_up()
        self._next_no = saved.next_no
        self._heap = []
        self._silences.schedule_all()
        self._set_edges()
        self._schedule(self._windows, self._windows.due())
        for alarm in saved.alarms:
            alarm.scheduled = None
            self._schedule(alarm, self._due(alarm))


def _whom(part: Stands) -> str | None:
    """Whom an alarm concerns that a condition asks for: "*" everybody, "=link" the assets beside, "link" those whose
    link names its asset, None its own."""
    if part.anywhere:
        return "*"
    return f"={part.link}" if part.beside else part.link


def _merged(touched: Iterable[Touched]) -> list[Touched]:
    """One entry an asset, in the order of first touch."""
    found: dict[str, Touched] = {}
    for asset, checks, memberships in touched:
        _, before, before_memberships = found.get(asset.id, (asset, 0, 0))
        found[asset.id] = (asset, before | checks, before_memberships | memberships)
    return list(found.values())
