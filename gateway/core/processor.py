"""The pure middle of the one path: frames in journal order go in; events and readings to keep come out.

The same frames always give the same outcome, which is what makes recovery, backtests and the tests' oracle one
mechanism: there is no clock here, and nothing but the journal changes the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from gateway.core.assets_json import parse_assets, to_json
from gateway.core.baselines import Baselines, with_learned
from gateway.core.counters import Count, Counters
from gateway.core.decode import Decoder
from gateway.core.engine import Engine, Observed
from gateway.core.escalation import Escalations, Told
from gateway.core.ledger import Ledger
from gateway.core.model import (
    MINUTE,
    AlarmRecord,
    Asset,
    AssetsChanged,
    Blind,
    Command,
    Decoded,
    Device,
    Event,
    Frame,
    FrameKind,
    FrameRejected,
    Maintenance,
    Micros,
    Quality,
    Reading,
    Rejection,
    Replay,
    Replayed,
    Start,
    Transition,
    Value,
)
from gateway.core.profile import Profile
from gateway.core.registry import Registry
from gateway.core.routing import Routing
from gateway.core.rule import RuleSet
from gateway.core.sparkplug import Node, Sessions
from gateway.core.tilt import BaselineLearner

GATEWAY = Asset("gateway", "gateway", name="citywatch")
SNAPSHOT_VERSION = 2
DEFAULT_LATENESS: Micros = 10 * MINUTE  # for what no profile speaks of: the gateway itself

FrameHook: TypeAlias = Callable[[Frame], None]


class Configuration(msgspec.Struct, frozen=True):
    """Profiles, rules and routes in force, and the hash of the files they came from."""

    hash: str
    profiles: dict[str, Profile]
    rules: RuleSet
    routing: Routing = msgspec.field(default_factory=Routing)


class Outcome(msgspec.Struct):
    """What one batch gave: events for the store, readings (first sight of each) for the historian, and what became of
    frames that were offered again."""

    position: int
    events: list[Event]
    readings: list[Reading]
    replayed: list[Replayed] = []


class _Snapshot(msgspec.Struct, frozen=True):
    version: int
    position: int
    received_at: Micros
    configuration: str | None
    assets: list[Asset]
    devices: list[Device]
    engine: bytes | None
    ledger: bytes
    learners: dict[str, BaselineLearner] = {}
    counters: dict[str, dict[str, Count]] = {}
    nodes: dict[str, Node] = {}
    escalations: bytes | None = None


class Processor:
    """Registry, decoder, engine, escalations and ledger as one state machine over the journal.

    ``configurations`` maps a hash to its Configuration; it must hold every hash a CONFIG frame names before that frame
    is processed. ``hook`` is called before each frame is decoded (the fault tests' way in).
    """

    def __init__(self, configurations: Mapping[str, Configuration], hook: FrameHook | None = None) -> None:
        self._configurations = configurations
        self._hook = hook
        self.registry = Registry()
        self.registry.upsert([GATEWAY], [])
        self.ledger = Ledger()
        self.baselines = Baselines()
        self.counters = Counters()
        self.sessions = Sessions()
        self.configuration: Configuration | None = None
        self.escalations = Escalations(self.registry.asset)
        self._told: list[Told] = []  # made outside of a frame: given with the next one
        self.engine: Engine | None = None
        self.decoder: Decoder | None = None
        self.on_frame: Callable[[int], None] | None = None
        self.position = 0
        self.received_at: Micros = 0

    def wake_at(self, now: Micros) -> Micros | None:
        """When the engine wants time to have passed (``Engine.wake_at``); None: nothing is pending."""
        return _earlier(self.engine.wake_at(now) if self.engine is not None else None, self.escalations.next_deadline)

    @property
    def next_deadline(self) -> Micros | None:
        """The earliest deadline exactly; None when nothing is pending."""
        return _earlier(self.engine.next_deadline if self.engine is not None else None, self.escalations.next_deadline)

    def process(self, position: int, frames: Sequence[Frame], skip: frozenset[int] = frozenset()) -> Outcome:
        """Apply one batch. ``skip``: indexes of frames that crashed the process before: quarantined unseen."""
        outcome = Outcome(position, [], [])
        self.process_slice(position, frames, 0, outcome, skip)
        self.position = position
        return outcome

    def process_slice(
        self,
        position: int,
        frames: Sequence[Frame],
        first: int,
        outcome: Outcome,
        skip: frozenset[int] = frozenset(),
    ) -> None:
        """A part of a batch that begins at index ``first``; ``position`` moves only when the caller sets it."""
        for index, frame in enumerate(frames, first):
            if self.on_frame is not None:
                self.on_frame(index)
            try:
                if index in skip:
                    if self.engine is not None:
                        self.engine.advance(frame.received_at, outcome.events)
                    raise RuntimeError("this frame ended the process three times")
                decided = len(outcome.events)
                self._apply(position, index, frame, outcome)
                due = self.escalations.next_deadline
                if len(outcome.events) > decided or (due is not None and due <= frame.received_at) or self._told:
                    self._escalate(decided, frame.received_at, outcome.events)
            except Exception as error:  # the top of the stream: one frame must never stop the next one
                self._quarantine(position, index, frame, error, outcome)
            self.received_at = frame.received_at

    def _apply(self, position: int, index: int, frame: Frame, outcome: Outcome) -> None:
        engine = self.engine
        if engine is not None and frame.kind is not FrameKind.START and frame.kind is not FrameKind.BLIND:
            engine.advance(frame.received_at, outcome.events)
        match frame.kind:
            case FrameKind.MQTT | FrameKind.MODBUS | FrameKind.HJ212:
                self._telemetry(position, index, frame, outcome)
            case FrameKind.REPLAY:
                self._replay(position, index, frame, outcome)
            case FrameKind.TICK:
                pass
            case FrameKind.COMMAND:
                if engine is not None:
                    engine.command(
                        msgspec.msgpack.decode(frame.payload, type=Command), frame.received_at, outcome.events
                    )
            case FrameKind.ASSETS:
                self._assets(frame, outcome)
            case FrameKind.CONFIG:
                self._configure(self._configurations[frame.address], frame.received_at, outcome)
            case FrameKind.SYSTEM:
                self._system(msgspec.json.decode(frame.payload, type=dict[str, Value]), frame.received_at, outcome)
            case FrameKind.START:
                self._start(frame, outcome)
            case FrameKind.BLIND:
                blind = msgspec.json.decode(frame.payload, type=Blind)
                if blind.leap and engine is not None:
                    engine.leap(blind.since, frame.received_at)
                else:
                    self._blind(blind.since, frame.received_at, outcome)

    def _escalate(self, decided: int, at: Micros, events: list[Event]) -> None:
        """Tell people what follows from the transitions behind ``decided``, and from the time that passed."""
        escalations = self.escalations
        told, self._told = self._told, []
        while True:
            while decided < len(events):
                event = events[decided]
                decided += 1
                if type(event) is Transition:
                    escalations.advance(event.at, told)
                    escalations.hear(event, told)
            escalations.advance(at, told)
            for one in told:
                if isinstance(one, Command):
                    if self.engine is not None:
                        self.engine.command(one, at, events)
                else:
                    events.append(one)
            if not told:
                return
            told = []

    def _telemetry(self, position: int, index: int, frame: Frame, outcome: Outcome) -> None:
        decoded = self._decode(frame)
        if decoded.rejection is not None:
            self._reject(position, index, frame, decoded.rejection, outcome)
            return
        assert self.engine is not None
        observed = self.engine.observe(decoded, outcome.events)
        self._keep(decoded, observed, frame.received_at, outcome)

    def _decode(self, frame: Frame) -> Decoded:
        if self._hook is not None:
            self._hook(frame)
        if self.engine is None or self.decoder is None:
            return Decoded(None, [], Rejection("not_configured", "no configuration was in force yet"))
        return self.decoder.decode(frame)

    def _reject(self, position: int, index: int, frame: Frame, rejection: Rejection, outcome: Outcome) -> None:
        self.ledger.rejected(self._known(rejection.device), rejection.code)
        outcome.events.append(FrameRejected(position, index, frame, rejection))

    def _replay(self, position: int, index: int, frame: Frame, outcome: Outcome) -> None:
        """A frame that was rejected once, under the files in force now. It is decoded as of the time it first came:
        what it says without a time of its own was true then, not now. Rejected again, it is kept again as it came."""
        replay = msgspec.msgpack.decode(frame.payload, type=Replay)
        came = replay.frame
        decoded = self._decode(came)
        rejection = decoded.rejection
        if rejection is not None:
            source = f"replay of {replay.position}/{replay.index}"
            self._reject(position, index, msgspec.structs.replace(came, source=source), rejection, outcome)
            outcome.replayed.append(Replayed(frame.address, rejection.code, rejection.reason))
            return
        assert self.engine is not None
        timed = [msgspec.structs.replace(reading, has_source_time=True) for reading in decoded.readings]
        decoded = msgspec.structs.replace(decoded, readings=timed)
        observed = self.engine.observe(decoded, outcome.events, came.received_at)
        fate = self._keep(decoded, observed, frame.received_at, outcome)
        late = sum(reading.historical for reading in observed.keep)
        outcome.replayed.append(Replayed(frame.address, fate, None, len(observed.keep), late))

    def _keep(self, decoded: Decoded, observed: Observed, at: Micros, outcome: Outcome) -> str:
        """Account for a frame and hand its readings on. Gives its fate: "stored" or "duplicate"."""
        keep = observed.keep
        bad = 0
        for reading in keep:
            if reading.quality is Quality.BAD:
                bad += 1
        self.ledger.stored(
            decoded.device or "", len(keep), bad, observed.duplicates, observed.conflicts, len(decoded.extra_points)
        )
        outcome.readings.extend(keep)
        if keep and keep[0].asset in self.baselines.wanted:
            self._learn(keep[0].asset, keep, at, outcome)
        return "stored" if keep or not observed.duplicates else "duplicate"

    def _learn(self, asset_id: str, readings: Sequence[Reading], at: Micros, outcome: Outcome) -> None:
        """A cover that has no baseline yet spoke."""
        baseline = self.baselines.observe(asset_id, readings, at)
        asset = self.registry.asset(asset_id)
        if baseline is None or asset is None:
            return
        learned = msgspec.structs.replace(asset, attributes={**asset.attributes, **baseline})
        self._change_assets([learned], [], at, outcome)

    def _known(self, device: str | None) -> str | None:
        """``device`` if it is one of ours: a sender's made-up names must not fill the ledger."""
        return device if device is not None and self.registry.device(device) is not None else None

    def _assets(self, frame: Frame, outcome: Outcome) -> None:
        assets, devices = parse_assets(frame.payload)
        kept = [with_learned(asset, self.registry.asset(asset.asset)) for asset in assets]
        self._change_assets(kept, devices, frame.received_at, outcome)

    def _change_assets(self, assets: Sequence[Asset], devices: Sequence[Device], at: Micros, outcome: Outcome) -> None:
        if self.engine is not None:
            self.engine.apply_assets(assets, devices, at, outcome.events)
        else:
            self.registry.upsert(assets, devices)
        self.baselines.assets_changed(assets)
        if self.configuration is not None:
            self.decoder = Decoder(self.registry, self.configuration.profiles, self.counters, self.sessions)
        outcome.events.append(AssetsChanged(at, to_json(assets, devices)))

    def _configure(self, configuration: Configuration, at: Micros, outcome: Outcome) -> None:
        self.configuration = configuration
        if self.engine is None:
            self.engine = self._new_engine(configuration)
            self.engine.advance(at, outcome.events)
        else:
            self.engine.replace_rules(configuration.rules, at, outcome.events)
        self.escalations.use(configuration.routing, configuration.rules, self._told)
        self.decoder = Decoder(self.registry, configuration.profiles, self.counters, self.sessions)

    def _new_engine(self, configuration: Configuration) -> Engine:
        return Engine(self.registry, configuration.rules, self._interval_of, self._lateness_of)

    def interval(self, device_id: str) -> Micros | None:
        """How often a device is expected to speak; None when nobody said."""
        device = self.registry.device(device_id)
        return self._interval_of(device) if device is not None else None

    def _interval_of(self, device: Device) -> Micros | None:
        if device.expected_interval is not None:
            return device.expected_interval
        profile = self.configuration.profiles.get(device.profile) if self.configuration is not None else None
        return profile.expected_interval if profile is not None else None

    def _lateness_of(self, device: Device) -> Micros:
        profile = self.configuration.profiles.get(device.profile) if self.configuration is not None else None
        return profile.allowed_lateness if profile is not None else DEFAULT_LATENESS

    def _start(self, frame: Frame, outcome: Outcome) -> None:
        start = msgspec.json.decode(frame.payload, type=Start)
        if self.received_at:
            self._blind(self.received_at, frame.received_at, outcome)
        if start.failure is not None:
            self._system({"journal_failed": True}, frame.received_at, outcome)

    def _blind(self, since: Micros, until: Micros, outcome: Outcome) -> None:
        if self.engine is not None:
            self.engine.blind(since, until)
            self.engine.advance(until, outcome.events, late=True)

    def _system(self, values: Mapping[str, Value], at: Micros, outcome: Outcome) -> None:
        """The gateway's readings about itself; part of no ledger, kept like all others."""
        if self.engine is None:
            return
        readings = [
            Reading(GATEWAY.asset, point, value, Quality.GOOD, at, at, GATEWAY.asset, None, False, None, False)
            for point, value in values.items()
        ]
        outcome.readings.extend(self.engine.observe(Decoded(GATEWAY.asset, readings), outcome.events).keep)

    def _quarantine(self, position: int, index: int, frame: Frame, error: Exception, outcome: Outcome) -> None:
        reason = f"{type(error).__name__}: {error}"[:500]
        outcome.events.append(FrameRejected(position, index, frame, Rejection("crashed", reason)))
        if frame.kind in (FrameKind.MQTT, FrameKind.MODBUS, FrameKind.HJ212, FrameKind.REPLAY):
            self.ledger.rejected(None, "crashed")
        if frame.kind is FrameKind.REPLAY:
            outcome.replayed.append(Replayed(frame.address, "crashed", reason))
        self._system({"crash_quarantine": True}, frame.received_at, outcome)

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole state; ``restore`` of it continues exactly as this object would."""
        return msgspec.msgpack.encode(
            _Snapshot(
                SNAPSHOT_VERSION,
                self.position,
                self.received_at,
                self.configuration.hash if self.configuration is not None else None,
                list(self.registry.assets()),
                list(self.registry.devices()),
                self.engine.snapshot() if self.engine is not None else None,
                self.ledger.snapshot(),
                self.baselines.learners,
                self.counters.known,
                self.sessions.nodes,
                self.escalations.snapshot(),
            )
        )

    def rebuild(
        self,
        position: int,
        configuration: Configuration,
        assets: Sequence[Asset],
        devices: Sequence[Device],
        records: Sequence[AlarmRecord],
        at: Micros,
        maintenance: Sequence[Maintenance] = (),
    ) -> None:
        """Go on from what the store knows at ``position``, when no snapshot can be read and the journal no longer
        begins at the beginning. Assets, alarms and their numbers are whole; current values come with the next
        messages, the ledger begins anew."""
        self.registry.upsert(assets, devices)
        self.configuration = configuration
        self.engine = self._new_engine(configuration)
        self.engine.adopt(records, at, maintenance)
        self.escalations.use(configuration.routing, configuration.rules, [])
        self._told = self.escalations.adopt(records, at)
        self.decoder = Decoder(self.registry, configuration.profiles, self.counters, self.sessions)
        self.baselines.assets_changed(assets)
        self.position = position
        self.received_at = at

    def restore(self, data: bytes) -> None:
        """Take over a snapshot's state. Raises ValueError when it is of another version or not whole."""
        snapshot = read_snapshot(data)
        self.registry.upsert(snapshot.assets, snapshot.devices)
        self.ledger.restore(snapshot.ledger)
        self.baselines.assets_changed(snapshot.assets)
        self.baselines.learners = snapshot.learners
        self.counters = Counters(snapshot.counters)
        self.sessions = Sessions(snapshot.nodes)
        if snapshot.configuration is not None:
            self.configuration = self._configurations[snapshot.configuration]
            self.engine = self._new_engine(self.configuration)
            self.decoder = Decoder(self.registry, self.configuration.profiles, self.counters, self.sessions)
            if snapshot.engine is not None:
                self.engine.restore(snapshot.engine)
            routing, rules = self.configuration.routing, self.configuration.rules
            if snapshot.escalations is not None:
                self.escalations.restore(snapshot.escalations, routing, rules)
            else:
                self.escalations.use(routing, rules, [])
        self.position = snapshot.position
        self.received_at = snapshot.received_at


def _earlier(one: Micros | None, other: Micros | None) -> Micros | None:
    return other if one is None else one if other is None else min(one, other)


def read_snapshot(data: bytes) -> _Snapshot:
    """Decode without taking it over. Raises ValueError."""
    try:
        snapshot = msgspec.msgpack.decode(data, type=_Snapshot)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a snapshot: {error}") from error
    if snapshot.version != SNAPSHOT_VERSION:
        raise ValueError(f"snapshot version {snapshot.version}, this program reads {SNAPSHOT_VERSION}")
    return snapshot
