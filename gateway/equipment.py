"""The devices as their keepers see them: which points are in trouble, what a device said last, how lines are polled."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import msgspec

from gateway.console.equipment import (
    Block,
    DeviceNow,
    PlacedPoint,
    PolledLine,
    PolledUnit,
    ProfilePoint,
    SeenFrame,
    SeenFrames,
    Trouble,
    TroubledPoint,
)
from gateway.core.counters import Counters
from gateway.core.decode import Decoder
from gateway.core.model import Decoded, Device, Frame, FrameKind, Micros, Quality, Replay, Replayed
from gateway.core.points import PointState
from gateway.core.processor import DEFAULT_LATENESS, Processor
from gateway.core.profile import Point, Profile
from gateway.core.records import RejectedRow
from gateway.core.registers import BlockRead
from gateway.core.sparkplug import Sessions
from gateway.core.vocabulary import CLOCK_SKEW, unit_of
from gateway.journal.embedded import EmbeddedJournal
from gateway.pipeline import Pipeline
from gateway.sources.modbus import ModbusSource

STALE_INTERVALS = 3  # online means a message inside three expected intervals (docs: 设备在线率)
MAX_FRAMES = 100

_TELEMETRY = (FrameKind.MQTT, FrameKind.MODBUS, FrameKind.HJ212)


class LiveEquipment:
    """Implements ``console.equipment.Equipment``. ``modbus`` gives the source in use, None while nothing is polled."""

    def __init__(
        self,
        pipeline: Pipeline,
        journal: EmbeddedJournal,
        modbus: Callable[[], ModbusSource | None],
        now: Callable[[], Micros],
    ) -> None:
        self._pipeline = pipeline
        self._journal = journal
        self._modbus = modbus
        self._now = now

    @property
    def _processor(self) -> Processor:
        """The one in use: recovery makes another."""
        return self._pipeline.processor

    def _profile(self, device: Device) -> Profile | None:
        configuration = self._processor.configuration
        return configuration.profiles.get(device.profile) if configuration is not None else None

    def profiles(self) -> Sequence[Profile]:
        configuration = self._processor.configuration
        return sorted(configuration.profiles.values(), key=lambda one: one.id) if configuration is not None else ()

    # -- points ---------------------------------------------------------------------------------------------------

    def troubles(self, asset_id: str) -> Sequence[TroubledPoint]:
        processor = self._processor
        engine, registry = processor.engine, processor.registry
        asset = registry.asset(asset_id)
        if engine is None or asset is None:
            return ()
        mounted = registry.devices_of(asset_id)
        patience = max((processor.interval(d) or 0 for d in mounted), default=0) * STALE_INTERVALS
        now = self._now()
        found: list[TroubledPoint] = []
        for name, state in engine.points(asset_id).items():
            trouble = _trouble(state, now, patience)
            if trouble is None or name == CLOCK_SKEW:  # that one is ours, not the device's
                continue
            since = state.received_at if trouble is Trouble.SILENT else engine.last_good(state)
            found.append(
                TroubledPoint(
                    asset_id,
                    name,
                    trouble,
                    state.value,
                    unit_of(asset.kind, name) or "",
                    state.quality,
                    state.reason,
                    since,
                    state.received_at,
                    self._speaker(mounted, name),
                )
            )
        return sorted(found, key=lambda one: one.point)

    def _speaker(self, mounted: Sequence[str], point: str) -> str:
        """Which of the devices on an asset says this point; "" when none is there."""
        for device_id in reversed(mounted):
            device = self._processor.registry.device(device_id)
            profile = self._profile(device) if device is not None else None
            if profile is not None and profile.point(point) is not None:
                return device_id
        return mounted[-1] if mounted else ""

    # -- devices --------------------------------------------------------------------------------------------------

    def device(self, device_id: str) -> DeviceNow | None:
        registry = self._processor.registry
        device = registry.device(device_id)
        if device is None:
            return None
        profile = self._profile(device)
        last_heard, online = self.heard(device)
        return DeviceNow(
            device=device,
            asset=registry.asset(device.asset),
            title_zh=profile.title_zh if profile is not None else "",
            title_en=profile.title_en if profile is not None else "",
            transport=profile.transport.value if profile is not None else "",
            interval=self._processor.interval(device_id),
            lateness=profile.allowed_lateness if profile is not None else DEFAULT_LATENESS,
            points=tuple(_described(point) for point in profile.points) if profile is not None else (),
            last_heard=last_heard,
            online=online,
        )

    def heard(self, device: Device) -> tuple[Micros | None, bool | None]:
        engine, profile = self._processor.engine, self._profile(device)
        if engine is None or profile is None:
            return None, None
        states = engine.points(device.asset)
        names = [point.name for point in profile.points if point.name in states]
        last = max((states[name].received_at for name in names), default=None)
        return last, engine.heard(device.device, STALE_INTERVALS)

    # -- frames ---------------------------------------------------------------------------------------------------

    async def frames(self, device_id: str, limit: int) -> SeenFrames | None:
        device = self._processor.registry.device(device_id)
        configuration = self._processor.configuration
        if device is None:
            return None
        if configuration is None:
            return SeenFrames([], None, 0, True)
        look = _Reader(self._processor, device)
        found = await self._journal.search_back(look.marks, look, min(limit, MAX_FRAMES))
        items = [SeenFrame(position, index, frame, decoded) for position, index, _, (frame, decoded) in found.items]
        return SeenFrames(items, found.back_to, found.frames, found.whole)

    async def replay(self, rows: Sequence[RejectedRow], by: str) -> Sequence[Replayed | None]:
        replays = [
            Replay(
                Frame(
                    FrameKind(row.kind),
                    row.source,
                    row.address,
                    row.payload,
                    row.received_at,
                    row.retained,
                    principal=row.principal,
                ),
                row.position,
                row.index,
            )
            for row in rows
        ]
        return await self._pipeline.replay(replays, by)

    # -- Modbus ---------------------------------------------------------------------------------------------------

    def lines(self) -> Sequence[PolledLine]:
        source = self._modbus()
        return [] if source is None else list(self._lines(source))

    def _lines(self, source: ModbusSource) -> Iterator[PolledLine]:
        registry = self._processor.registry
        for endpoint, stats in source.polled():
            units: list[PolledUnit] = []
            for unit in endpoint.units:
                device = registry.device(unit.device_id)
                profile = self._profile(device) if device is not None else None
                own = stats.units.get(unit.device_id)
                units.append(
                    PolledUnit(
                        device=unit.device_id,
                        asset=device.asset if device is not None else "",
                        unit=unit.unit_id,
                        interval=unit.interval,
                        cycles=own.cycles if own is not None else 0,
                        failed_reads=own.failed_reads if own is not None else 0,
                        overruns=own.skipped_cycles if own is not None else 0,
                        reason=own.reason if own is not None else None,
                        blocks=tuple(_block(read, profile) for read in unit.reads),
                    )
                )
            yield PolledLine(
                address=endpoint.name,
                connected=stats.connected,
                on_standby=stats.on_standby,
                since=stats.since or None,
                cycles=stats.cycles,
                overruns=stats.overruns,
                writes=stats.writes,
                reconnects=stats.reconnects,
                timeouts=stats.timeouts,
                reason=stats.reason,
                units=tuple(units),
            )


class _Reader:
    """Tells whether a frame of the journal is of one device, and what it says under the files in force.

    It runs in a thread, beside the engine: what decoding changes (counters, Sparkplug sessions) is a copy, made anew
    for every frame, so that a frame of yesterday does not change what the next one says.
    """

    def __init__(self, processor: Processor, device: Device) -> None:
        assert processor.configuration is not None
        self._device = device
        self._address = device.address or device.device
        names = {device.device, self._address, self._address.lower(), self._address.upper()}
        edge, dot, rest = self._address.partition(".")  # a Sparkplug device: the topic has a slash there
        if dot:
            names |= {rest}
        self.marks = tuple(name.encode() for name in sorted(names))
        self._counts = {device.device: copy.deepcopy(processor.counters.known.get(device.device, {}))}
        nodes = processor.sessions.nodes
        self._nodes = {name: copy.deepcopy(node) for name, node in nodes.items() if name.endswith(f"/{edge}")}
        self._counters, self._sessions = Counters(), Sessions()
        profiles = processor.configuration.profiles
        self._decoder = Decoder(processor.registry, profiles, self._counters, self._sessions)

    def __call__(self, frame: Frame) -> tuple[Frame, Decoded] | None:
        if frame.kind is FrameKind.REPLAY:
            replay = msgspec.msgpack.decode(frame.payload, type=Replay)
            frame = msgspec.structs.replace(replay.frame, source=f"replay of {replay.position}/{replay.index}")
        if frame.kind not in _TELEMETRY:
            return None
        self._counters.known = copy.deepcopy(self._counts)
        self._sessions.nodes = copy.deepcopy(self._nodes)
        decoded = self._decoder.decode(frame)
        speaker = decoded.rejection.device if decoded.rejection is not None else decoded.device
        return (frame, decoded) if speaker in (self._device.device, self._address) else None


def _trouble(state: PointState, now: Micros, patience: Micros) -> Trouble | None:
    if patience and now - state.received_at > patience:
        return Trouble.SILENT
    match state.quality:
        case Quality.GOOD:
            return None
        case Quality.BAD:
            return Trouble.BAD
        case Quality.UNCERTAIN:
            return Trouble.UNCERTAIN


def _described(point: Point) -> ProfilePoint:
    words = [str(state.value) for state in (point.states or {}).values() if state.value is not None]
    write = point.write
    return ProfilePoint(
        point=point.name,
        unit=point.unit,
        type=point.type.value,
        low=_bound(point.low),
        high=_bound(point.high),
        states=tuple(dict.fromkeys(words)),
        may_be_set=write is not None,
        set_low=_bound(write.low) if write is not None else None,
        set_high=_bound(write.high) if write is not None else None,
    )


def _bound(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _block(read: BlockRead, profile: Profile | None) -> Block:
    """One request, with the points whose raw values lie in it."""
    end = read.address + read.count
    placed: list[PlacedPoint] = []
    for register in profile.registers if profile is not None else ():
        inside = read.address <= register.address and register.address + register.count <= end
        if register.function != read.function_code or not inside:
            continue
        assert profile is not None
        placed += [
            PlacedPoint(point.name, register.name, register.address, register.count)
            for point in profile.points
            if point.source == register.name or any(register.name in formula.names for formula in point.formulas)
        ]
    return Block(read.function_code, read.address, read.count, tuple(placed))
