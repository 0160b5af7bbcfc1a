"""Frames → readings: the one place where a device's words become values with units, quality and reasons.

    topic ─▶ device, asset, profile ─▶ payload ─▶ samples of raw values ─▶ points ─▶ readings

Nothing here raises for what a device sends. Each frame ends as readings (good, uncertain or bad, the latter two with
the reason; a bad one never carries a value) or as one Rejection with a code of docs/profiles.md.

There are two ways through the points. ``evaluate`` is the whole of it, for every payload. JSON of plain numbers and
booleans, which is nearly everything that ever arrives, takes ``_quick``: the same result at a quarter of the cost;
whatever is unusual in the least makes it give up and leaves the frame to ``evaluate``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from gateway.core import hj212, sparkplug
from gateway.core.binary import BinaryReader
from gateway.core.counters import Counters
from gateway.core.formula import INT64_LOW, UINT64_HIGH, Formula, Uncomputable
from gateway.core.model import (
    SECOND,
    Asset,
    Decoded,
    Device,
    Frame,
    FrameKind,
    Micros,
    ModbusCycle,
    Quality,
    Reading,
    Rejection,
    Value,
)
from gateway.core.networks import (
    Network,
    Route,
    Uplink,
    bare_or_chirpstack,
    names_in_envelope,
    open_envelope,
    route_of,
)
from gateway.core.payload import (
    AHEAD,
    EARLIEST,
    MAX_EXTRA,
    MAX_NAME,
    MAX_PAYLOAD,
    MAX_SEQUENCE,
    MAX_TEXT,
    Refused,
    Sample,
    at_path,
    describe,
    json_samples,
    read_document,
    read_time,
)
from gateway.core.profile import Check, JsonPayload, Point, Profile, State, Transport, ValueType, raw_names
from gateway.core.registers import Fault, RegisterReader, all_zero, sentinel_reason
from gateway.core.registry import Registry
from gateway.core.senml import is_senml, senml_samples

MAX_QUICK = 4_096  # what is longer is not usual, and would only be parsed twice
MAX_TOPICS = 200_000  # plans kept, about 300 bytes each: twice the devices of the largest city we plan for

GOOD, UNCERTAIN, BAD = Quality.GOOD, Quality.UNCERTAIN, Quality.BAD
_NO_ATTRIBUTES: Mapping[str, float] = {}
_SPARKPLUG = f"{sparkplug.ROOT}/"
_POLLED = Route(Network.CITYWATCH, "", "modbus")
_decode_cycle = msgspec.msgpack.Decoder(ModbusCycle).decode

Outcome: TypeAlias = tuple[Point, Value, Quality, str | None]


class Decoder:
    """Decodes MQTT and MODBUS frames of registered devices. Reads the registry at every frame: a device replaced or an
    attribute changed counts from the next frame on."""

    def __init__(
        self,
        registry: Registry,
        profiles: Mapping[str, Profile],
        counters: Counters | None = None,
        sessions: sparkplug.Sessions | None = None,
    ) -> None:
        """``counters``: makes totals of what wraps and begins anew; without it counters are as devices say them.
        ``sessions``: what Sparkplug nodes said at their births."""
        self._registry = registry
        self._profiles = profiles
        self._counters = counters
        self._sessions = sessions if sessions is not None else sparkplug.Sessions()
        self._plans: dict[str, _ProfilePlan] = {}
        self._topics: dict[str, _Mounted] = {}
        self._modbus: dict[str, _Mounted] = {}
        self._stations: dict[str, _Mounted] = {}

    def decode(self, frame: Frame) -> Decoded:
        """What ``frame`` says. Never raises for any content of a frame of kind MQTT or MODBUS."""
        if frame.kind is FrameKind.MQTT:
            if frame.address.startswith(_SPARKPLUG):
                return self._sparkplug_message(frame)
            mounted = self._topics.get(frame.address)
            if mounted is None or not mounted.stands(self._registry):
                found = self._mount_topic(frame.address, frame.payload)
                if isinstance(found, Rejection):
                    return Decoded(None, [], found)
                mounted = found
            payload = frame.payload
            if b'"simulated"' in payload and not mounted.asset.simulated and _SIMULATED.search(payload) is not None:
                device = mounted.device.device
                return self._refuse(device, "simulated", f"made by a simulator, and {mounted.asset.asset} is real")
            if mounted.quick and not frame.retained and len(payload) <= MAX_QUICK:
                done = _quick(mounted, payload, frame.received_at)
                if done is not None:
                    return done
            try:
                return self._message(mounted, frame)
            except Refused as refused:
                return self._refuse(mounted.device.device, refused.code, str(refused))
        if frame.kind is FrameKind.MODBUS:
            return self._cycle(frame)
        if frame.kind is FrameKind.HJ212:
            return self._telegram(frame)
        raise ValueError(f"a {frame.kind} frame has no readings")

    # -- who speaks ---------------------------------------------------------------------------------------------------

    def _mount_topic(self, topic: str, payload: bytes) -> _Mounted | Rejection:
        route = route_of(topic)
        if route is None:
            return Rejection("unknown_topic", "not citywatch/v1/{kind}/{device}/telemetry, nor of a known network")
        name = route.address
        names = [spelt for one in (name, *names_in_envelope(route, payload)) for spelt in (one, one.upper())]
        device = next((found for one in names if (found := self._registry.device_by_address(one)) is not None), None)
        if device is None:
            return Rejection("unknown_device", f"no device {name[:MAX_NAME]!r} is registered", name[:MAX_NAME])
        mounted = self._mount(device, device.address or device.device, route)
        if isinstance(mounted, Rejection):
            return mounted
        if route.kind is not None and mounted.asset.kind != route.kind:
            return Rejection(
                "wrong_kind",
                f"{name!r} is on a {mounted.asset.kind}, the topic says {route.kind[:MAX_NAME]!r}",
                device.device,
            )
        transport = mounted.plan.profile.transport
        if transport in (Transport.MODBUS, Transport.HJ212):
            return Rejection("unknown_topic", f"{name!r} speaks {transport} and has no topic", device.device)
        if len(self._topics) >= MAX_TOPICS:
            self._topics.clear()
        self._topics[topic] = mounted
        return mounted

    def _mount(self, device: Device, address: str, route: Route) -> _Mounted | Rejection:
        asset = self._registry.asset(device.asset)
        if asset is None:
            return Rejection("unknown_device", f"the asset {device.asset!r} is not registered", device.device)
        plan = self._plans.get(device.profile)
        if plan is None:
            profile = self._profiles.get(device.profile)
            if profile is None:
                return Rejection("unknown_profile", f"there is no profile {device.profile!r}", device.device)
            plan = self._plans[device.profile] = _ProfilePlan(profile)
        return _Mounted(device, address, asset, plan, route)

    @staticmethod
    def _refuse(device: str, code: str, reason: str) -> Decoded:
        return Decoded(device, [], Rejection(code, reason, device))

    # -- MQTT ---------------------------------------------------------------------------------------------------------

    def _message(self, mounted: _Mounted, frame: Frame) -> Decoded:
        """The thorough way. Raises Refused."""
        device, plan = mounted.device.device, mounted.plan
        route = mounted.route
        if route.event == "status" and route.network is Network.CITYWATCH:
            return _status(mounted, frame)
        if frame.retained:
            raise Refused("retained", "telemetry kept by the broker: its age is unknown")
        payload = frame.payload
        if len(payload) > MAX_PAYLOAD:
            raise Refused("too_large", f"more than {MAX_PAYLOAD // 1024} kB")
        if not payload:
            raise Refused("empty", "the payload is empty")
        profile = plan.profile
        reader = plan.bytes_reader
        if not mounted.is_plain:
            samples = _uplink_samples(mounted, open_envelope(route, payload))
        elif reader is None:
            samples = _document_samples(mounted, read_document(payload))
        elif payload[:1] == b"{" or mounted.fport is not None:
            samples = _uplink_samples(mounted, bare_or_chirpstack(payload))
        else:
            samples = reader.samples(payload, None)
        zone = profile.payload.zone_offset_s if isinstance(profile.payload, JsonPayload) else 0
        readings: list[Reading] = []
        extra: list[str] = []
        for sample in samples:
            extra.extend(sample.extra)
            if sample.time is None:
                time, has_time, doubt = frame.received_at, False, None
            else:
                time, has_time, doubt = read_time(sample.time, frame.received_at, zone)
            if sample.age:
                time, has_time = time - sample.age, True
            if reader is None:
                outcomes = evaluate_json(mounted, sample.values)
                known = plan.keys
                extra.extend(key[:MAX_NAME] for key in sample.values if key not in known)
            else:
                outcomes = evaluate(mounted, sample.values)
            _append(readings, outcomes, mounted, time, frame.received_at, sample, has_time, doubt)
        if plan.counters and self._counters is not None:
            readings = self._counters.totals(device, readings, plan.counters)
        extra_points = tuple(dict.fromkeys(extra))[:MAX_EXTRA] if extra else ()
        if not readings and isinstance(profile.payload, JsonPayload):
            if extra_points:
                names = ", ".join(repr(name) for name in extra_points[:5])
                raise Refused("unknown_points", f"the profile {profile.id} knows none of {names}")
            raise Refused("empty", "no points in it")
        if not readings and not extra_points:
            raise Refused("unknown_points", f"nothing in it is a point of the profile {profile.id}")
        return Decoded(device, readings, None, extra_points)

    # -- Modbus -------------------------------------------------------------------------------------------------------

    def _cycle(self, frame: Frame) -> Decoded:
        mounted = self._modbus.get(frame.address)
        if mounted is None or not mounted.stands(self._registry):
            device = self._registry.device(frame.address) or self._registry.device_by_address(frame.address)
            if device is None:
                name = frame.address[:MAX_NAME]
                return Decoded(None, [], Rejection("unknown_device", f"no device {name!r} is registered", name))
            found = self._mount(device, device.address or device.device, _POLLED)
            if isinstance(found, Rejection):
                return Decoded(device.device, [], found)
            mounted = self._modbus[frame.address] = found
        name = mounted.device.device
        try:
            cycle = _decode_cycle(frame.payload)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return self._refuse(name, "bad_payload", f"not a Modbus cycle: {str(error)[:160]}")
        profile = mounted.plan.profile
        if not profile.registers:
            return self._refuse(name, "unknown_points", f"the profile {profile.id} has no registers")
        outcomes = evaluate_cycle(mounted, cycle)
        if not outcomes:
            return self._refuse(name, "empty", "the cycle read nothing the profile knows")
        readings: list[Reading] = []
        received = frame.received_at
        _append(readings, outcomes, mounted, received, received, Sample({}), False, None)
        if mounted.plan.counters and self._counters is not None:
            readings = self._counters.totals(name, readings, mounted.plan.counters)
        return Decoded(name, readings)

    # -- Sparkplug B --------------------------------------------------------------------------------------------------

    def _sparkplug_message(self, frame: Frame) -> Decoded:
        """The session hears every message, also of nodes and devices that are none of ours."""
        address = sparkplug.address_of(frame.address)
        if address is None:
            return Decoded(None, [], Rejection("unknown_topic", "no birth, data or death of a Sparkplug node"))
        device = next((d for name in address.names if (d := self._registry.device_by_address(name)) is not None), None)
        speaker = device.device if device is not None else None
        try:
            if frame.retained:
                raise Refused("retained", "a message kept by the broker: its age is unknown")
            if len(frame.payload) > MAX_PAYLOAD:
                raise Refused("too_large", f"more than {MAX_PAYLOAD // 1024} kB")
            samples = self._sessions.take(address, sparkplug.parse(frame.payload), frame.received_at)
            if device is None:
                if not address.device:  # a node is but the carrier of its devices
                    return Decoded(None, [], None, (address.event,))
                name = f"{address.edge}.{address.device}"[:MAX_NAME]
                return Decoded(None, [], Rejection("unknown_device", f"no device {name!r} is registered", name))
            mounted = self._stations.get(device.device)
            if mounted is None or not mounted.stands(self._registry):
                found = self._mount(device, device.address or device.device, _POLLED)
                if isinstance(found, Rejection):
                    return Decoded(device.device, [], found)
                mounted = self._stations[device.device] = found
            return self._named_values(mounted, samples, frame, address.event)
        except Refused as refused:
            return Decoded(None, [], Rejection(refused.code, str(refused), speaker))

    def _named_values(self, mounted: _Mounted, samples: Sequence[Sample], frame: Frame, event: str) -> Decoded:
        """Samples whose names are a JSON profile's. Raises Refused."""
        profile = mounted.plan.profile
        if not isinstance(profile.payload, JsonPayload):
            raise Refused("unknown_points", f"the profile {profile.id} reads bytes, and metrics have names")
        readings: list[Reading] = []
        extra: dict[str, None] = {}
        for sample in samples:
            extra |= dict.fromkeys(sample.extra)
            time, has_time, doubt = read_time(sample.time, frame.received_at, 0)
            outcomes = evaluate_json(mounted, sample.values)
            _append(readings, outcomes, mounted, time, frame.received_at, sample, has_time, doubt)
            extra |= dict.fromkeys(key[:MAX_NAME] for key in sample.values if key not in mounted.plan.keys)
        extra.pop("online", None)
        if not readings and not extra:
            extra = {event: None}
        if mounted.plan.counters and self._counters is not None:
            readings = self._counters.totals(mounted.device.device, readings, mounted.plan.counters)
        return Decoded(mounted.device.device, readings, None, tuple(extra)[:MAX_EXTRA])

    # -- HJ 212 -------------------------------------------------------------------------------------------------------

    def _telegram(self, frame: Frame) -> Decoded:
        try:
            telegram = hj212.parse(frame.payload)
        except Refused as refused:
            return Decoded(None, [], Rejection(refused.code, str(refused)))
        station = telegram.station
        device = self._registry.device_by_address(station)
        if device is None:
            unknown = station[:MAX_NAME]
            return Decoded(None, [], Rejection("unknown_device", f"no device {unknown!r} is registered", unknown))
        mounted = self._stations.get(device.device)
        if mounted is None or not mounted.stands(self._registry):
            found = self._mount(device, station, _POLLED)
            if isinstance(found, Rejection):
                return Decoded(device.device, [], found)
            mounted = self._stations[device.device] = found
        name = mounted.device.device
        shape = mounted.plan.profile.payload
        if mounted.plan.profile.transport is not Transport.HJ212 or not isinstance(shape, JsonPayload):
            return self._refuse(name, "unknown_points", f"the profile {mounted.plan.profile.id} is not for HJ 212")
        try:
            sample = hj212.sample_of(telegram)
            time, has_time, doubt = read_time(sample.time, frame.received_at, shape.zone_offset_s)
        except Refused as refused:
            return self._refuse(name, refused.code, str(refused))
        readings: list[Reading] = []
        _append(
            readings, evaluate_json(mounted, sample.values), mounted, time, frame.received_at, sample, has_time, doubt
        )
        known = mounted.plan.keys
        extra = (*sample.extra, *(key[:MAX_NAME] for key in sample.values if key not in known))[:MAX_EXTRA]
        if not readings and not extra:
            return self._refuse(name, "empty", "no values in it")
        if not readings and not sample.extra:
            return self._refuse(name, "unknown_points", f"nothing in it is a point of {mounted.plan.profile.id}")
        return Decoded(name, readings, None, extra)


class _ProfilePlan:
    """What the decoder works out once per profile."""

    __slots__ = (
        "bytes_reader",
        "counters",
        "derived",
        "keys",
        "known",
        "numbers",
        "paths",
        "profile",
        "quick",
        "raws",
        "reader",
        "sources",
        "steps",
        "truths",
    )

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.keys: frozenset[str] = frozenset(_key(point.source) for point in profile.points)
        self.counters = {point.name: point.wraps_at for point in profile.points if point.wraps_at is not None}
        self.known = {point.name for point in profile.points}
        self.paths: dict[str, tuple[str | int, ...]] = {
            point.source: json_path(point.source) for point in profile.points if not _is_key(point.source)
        }
        self.sources = tuple(dict.fromkeys(point.source for point in profile.points))
        formulas = [formula for point in profile.points for formula in point.formulas]
        checks = [*profile.checks, *(check for point in profile.points for check in point.checks)]
        read = {name for formula in (*formulas, *(check.when for check in checks)) for name in formula.names}
        self.steps = tuple(_Step(point, point.name in read) for point in profile.points)
        self.reader = RegisterReader(profile.registers)
        shape = profile.payload
        self.raws = raw_names(profile)
        self.bytes_reader = BinaryReader(shape) if shape is not None and not isinstance(shape, JsonPayload) else None
        # Points whose value is the JSON value itself, if it lies between the limits.
        self.numbers: dict[str, tuple[str, float, float]] = {}
        self.truths: dict[str, str] = {}
        self.derived: tuple[Point, ...] = tuple(point for point in profile.points if point.formulas)
        for point in profile.points:
            plain = not (point.sentinels or point.states or point.checks or point.uses_itself or point.invert)
            if not plain or not point.scale.is_identity or point.smallest:
                continue
            if point.type is ValueType.NUMBER:
                self.numbers[point.source] = (point.name, *_limits(point))
            elif point.type is ValueType.BOOL:
                self.truths[point.source] = point.name
        self.quick = (
            profile.payload == JsonPayload()
            and not profile.checks
            and not self.paths
            and not self.counters
            and not any(point.checks for point in self.derived)
        )

    def steps_for(self, attributes: Mapping[str, float]) -> tuple[_Step, ...]:
        """The steps of an asset with these attributes: without the optional points that it can never have."""
        never = {name for name in self.profile.attributes if name not in attributes}
        kept: list[_Step] = []
        for step in self.steps:
            point = step.point
            hopeless = point.formulas and all(not never.isdisjoint(formula.names) for formula in point.formulas)
            if hopeless and point.optional and point.source == point.name and not self._is_raw(point.source):
                never.add(point.name)
            else:
                kept.append(step)
        return tuple(kept)

    def _is_raw(self, name: str) -> bool:
        """Whether a device of this profile may say a value of this name."""
        return isinstance(self.profile.payload, JsonPayload) or name in self.raws


class _Mounted:
    """One device on its asset with its profile: all a frame of one topic needs."""

    __slots__ = (
        "address",
        "asset",
        "attributes",
        "device",
        "fport",
        "is_plain",
        "plan",
        "quick",
        "route",
        "steps",
        "version",
    )

    def __init__(self, device: Device, address: str, asset: Asset, plan: _ProfilePlan, route: Route) -> None:
        self.version = -1  # the registry's when this was last looked at
        self.device = device
        self.address = address
        self.asset = asset
        self.plan = plan
        self.route = route
        self.is_plain = route.is_plain
        own = device.attributes.get("fport")
        self.fport = int(own) if isinstance(own, (int, float)) else None  # of bare bytes, where somebody said so
        self.quick = plan.quick and route.is_plain and route.event == "telemetry"
        self.attributes = attributes_of(plan.profile, asset, device)
        self.steps = plan.steps_for(self.attributes)

    def stands(self, registry: Registry) -> bool:
        """Device and asset are still the same objects: nothing about them has changed."""
        if self.version != registry.version:
            if registry.device_by_address(self.address) is not self.device:
                return False
            if registry.asset(self.device.asset) is not self.asset:
                return False
            self.version = registry.version
        return True


def attributes_of(profile: Profile, asset: Asset, device: Device) -> Mapping[str, float]:
    """The numbers the profile's formulas may use: the device's own before the asset's before the default."""
    if not profile.attributes:
        return _NO_ATTRIBUTES
    found: dict[str, float] = {}
    for name, attribute in profile.attributes.items():
        value = device.attributes.get(name, asset.attributes.get(name, attribute.default))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
    return found


# -- the quick way ----------------------------------------------------------------------------------------------------


def _quick(mounted: _Mounted, payload: bytes, received_at: Micros) -> Decoded | None:
    """Decode the usual telemetry document, or None when there is anything in it that needs a closer look.

    Usual: one object, ``{"ts", "seq", "values"}`` or flat; every known point a number within its limits or a boolean;
    as many colons as keys (so no key twice, no object inside).
    """
    try:
        document = _parse(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if type(document) is not dict:
        return None
    values = document.get("values")
    written = document.get("ts")
    sequence = document.get("seq")
    if values is None:
        if payload.count(b":") != len(document) or not _RESERVED_RARE.isdisjoint(document):
            return None
        values = document
        values.pop("ts", None)
        values.pop("seq", None)
    else:
        if type(values) is not dict or payload.count(b":") != len(document) + len(values):
            return None
        if len(document) != 1 + (written is not None) + (sequence is not None) + ("simulated" in document):
            return None
    if sequence is not None and (type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE):
        return None
    if type(written) is int:
        time = written * 1000 if written > 100_000_000_000 else written * 1_000_000
        if not EARLIEST <= time <= received_at + AHEAD:
            return None
        has_time = True
    elif type(written) is float and written < 100_000_000_000:
        time = round(written * SECOND)
        if not EARLIEST <= time <= received_at + AHEAD:
            return None
        has_time = True
    elif written is None:
        time, has_time = received_at, False
    else:
        return None
    device, asset, plan = mounted.device.device, mounted.asset.asset, mounted.plan
    numbers, truths = plan.numbers, plan.truths
    readings: list[Reading] = []
    add = readings.append
    extra: list[str] = []
    for key, value in values.items():
        kind = type(value)
        number = numbers.get(key)
        if number is not None:
            if (kind is float or kind is int) and number[1] <= value <= number[2]:
                add(Reading(asset, number[0], value, GOOD, time, received_at, device, None, False, sequence, has_time))
                continue
            return None
        name = truths.get(key)
        if name is not None:
            if kind is not bool:
                return None
            add(Reading(asset, name, value, GOOD, time, received_at, device, None, False, sequence, has_time))
            continue
        if key in plan.keys or kind is list or kind is dict or len(extra) >= MAX_EXTRA:
            return None
        extra.append(key[:MAX_NAME])
    if not readings:
        return None
    if plan.derived:
        _derive(plan, readings, mounted.attributes)
    if extra:
        return Decoded(device, readings, None, tuple(dict.fromkeys(extra)))
    return Decoded(device, readings)


_parse = msgspec.json.Decoder().decode
_RESERVED_RARE = frozenset(("historical", "device", "device_id", "values", "simulated"))
# What a simulator writes into everything it sends. Inside a text its quotes would be escaped.
_SIMULATED = re.compile(rb'"simulated"\s*:\s*"?true\b')


def _derive(plan: _ProfilePlan, readings: list[Reading], attributes: Mapping[str, float]) -> None:
    """Add the points that formulas give and the device did not, when everything it said was good."""
    scope: dict[str, Any] = dict(attributes)
    for reading in readings:
        scope[reading.point] = reading.value
    faults: dict[str, str] = {}
    first = readings[0]
    for point in plan.derived:
        if point.name in scope:
            continue
        outcome = _by_formula(plan.profile, point, scope, faults, {})
        if outcome is None:
            continue
        value, quality, reason = _in_range(point, *outcome)
        if quality is GOOD:
            scope[point.name] = value
        else:
            faults[point.name] = reason or "bad"
        readings.append(
            Reading(
                first.asset, point.name, value, quality, first.source_time, first.received_at, first.device, reason,
                False, first.sequence, first.has_source_time,
            )
        )  # fmt: skip


# -- the thorough way -------------------------------------------------------------------------------------------------


def evaluate_json(mounted: _Mounted, values: Mapping[str, Any]) -> list[Outcome]:
    """The outcomes of one JSON sample."""
    plan = mounted.plan
    raws: dict[str, Any] = {}
    for source in plan.sources:
        path = plan.paths.get(source)
        if path is not None:
            raw = at_path(values, path)
            if raw is not None:
                raws[source] = raw
        elif source in values:
            raws[source] = values[source]
    return _evaluate(plan, mounted.steps, raws, dict(mounted.attributes), _from_json)


def evaluate(mounted: _Mounted, raws: Mapping[str, Any]) -> list[Outcome]:
    """The outcomes of one sample of raw values out of a binary payload or registers, in the order of the points.

    A point whose raw value is not in ``raws`` (this frame does not speak of it) gives nothing.
    """
    return _evaluate(mounted.plan, mounted.steps, raws, {**mounted.attributes, **raws}, _from_raw)


def evaluate_cycle(mounted: _Mounted, cycle: ModbusCycle) -> list[Outcome]:
    """The outcomes of one polling cycle."""
    plan = mounted.plan
    raws: Mapping[str, Any] = plan.reader.raw_values(cycle)
    if plan.profile.all_zero_is_restart and all_zero(cycle):
        fault = Fault("all registers are zero: the device has restarted")
        raws = {name: raw if isinstance(raw, Fault) else fault for name, raw in raws.items()}
    return evaluate(mounted, raws)


class _Step:
    """One point, and whether the short way is enough for it: a number that needs nothing but a scale and its limits
    (``is_number``), a plain truth (``is_truth``), a code (``states``, all of one type). ``is_read``: a formula or check
    reads it."""

    __slots__ = (
        "code", "denominator", "formulas", "high", "is_number", "is_read", "is_truth", "low", "name", "numerator",
        "point", "source", "states", "uses_itself",
    )  # fmt: skip

    def __init__(self, point: Point, is_read: bool) -> None:
        self.point, self.name, self.source, self.is_read = point, point.name, point.source, is_read
        self.formulas, self.uses_itself = point.formulas, point.uses_itself
        bare = not (point.sentinels or point.checks or point.formulas or point.invert or point.smallest)
        plain = bare and not point.states
        self.is_number = plain and point.type is ValueType.NUMBER and not point.scale.offset
        self.is_truth = plain and point.type is ValueType.BOOL
        self.numerator, self.denominator = point.scale.numerator, point.scale.denominator
        self.low, self.high = _limits(point)
        self.states: dict[Value, State] = {}
        self.code: type = bool
        codes = {type(code) for code in point.states} if point.states else set()
        if bare and point.states and len(codes) == 1 and point.low == -math.inf and point.high == math.inf:
            self.code = codes.pop()
            self.states = {code: state for code, state in point.states.items() if state.quality is GOOD}


def _limits(point: Point) -> tuple[float, float]:
    """The point's range within what is a plain number for certain; outside of it the long way decides."""
    return max(point.low, float(INT64_LOW)), min(point.high, 2.0**63 - 1024)


def _evaluate(
    plan: _ProfilePlan,
    steps: Sequence[_Step],
    raws: Mapping[str, Any],
    scope: dict[str, Any],
    convert: Callable[[Point, Any], tuple[Any, Quality, str | None]],
) -> list[Outcome]:
    """``scope``: what formulas see; grows by every point. ``faults`` and ``doubts``: why a name cannot be used, or not
    quite be trusted."""
    profile = plan.profile
    faults: dict[str, str] = {}
    doubts: dict[str, str] = {}
    for name, raw in raws.items():
        if type(raw) is Fault:
            faults[name] = raw.reason
            scope.pop(name, None)
    outcomes: list[Outcome] = []
    for step in steps:
        given = raws.get(step.source, _NOTHING)
        result: tuple[Any, Quality, str | None] | None = None
        point = step.point
        if given is _NOTHING:
            if not step.formulas:
                continue
        else:
            kind = type(given)
            if step.is_number:
                if kind is float or kind is int:
                    value = given * step.numerator if step.numerator != 1 else given
                    if step.denominator != 1:
                        value /= step.denominator
                    if step.low <= value <= step.high:
                        if step.is_read:
                            _note(step.name, (value, GOOD, None), scope, faults, doubts)
                        outcomes.append((point, value, GOOD, None))
                        continue
            elif step.is_truth:
                if kind is bool:
                    if step.is_read:
                        _note(step.name, (given, GOOD, None), scope, faults, doubts)
                    outcomes.append((point, given, GOOD, None))
                    continue
            elif step.states and kind is step.code:
                state = step.states.get(given)
                if state is not None:
                    if step.is_read:
                        _note(step.name, (state.value, GOOD, None), scope, faults, doubts)
                    outcomes.append((point, state.value, GOOD, None))
                    continue
            result = convert(point, given)
            _note(step.name, result, scope, faults, doubts)
        if step.formulas and (result is None or (step.uses_itself and result[1] is not BAD)):
            result = _by_formula(profile, point, scope, faults, doubts)
        if result is None:
            continue
        value, quality, reason = _in_range(point, *result)
        if step.is_read or point.checks:
            _note(step.name, (value, quality, reason), scope, faults, doubts)
        for check in point.checks:
            value, quality, reason = _checked(check, _verdict(check.when, scope, faults), value, quality, reason)
            _note(step.name, (value, quality, reason), scope, faults, doubts)
        outcomes.append((point, _kept(value), quality, reason))
    for check in profile.checks:
        verdict = _verdict(check.when, scope, faults)
        if verdict in (_HOLDS_NOT, _NOT_CONCERNED):
            continue
        outcomes = [
            (outcome[0], *_checked(check, verdict, *outcome[1:]))
            if check.points is None or outcome[0].name in check.points
            else outcome
            for outcome in outcomes
        ]
    return outcomes


class _Nothing:
    """The device did not speak of it; None is something a device may say."""


_NOTHING = _Nothing()


def _note(
    name: str,
    result: tuple[Any, Quality, str | None],
    scope: dict[str, Any],
    faults: dict[str, str],
    doubts: dict[str, str],
) -> None:
    """Remember a point's value, or why it has none, for the formulas behind it."""
    value, quality, reason = result
    if faults:
        faults.pop(name, None)
    if doubts:
        doubts.pop(name, None)
    if quality is BAD:
        scope.pop(name, None)
        faults[name] = reason or "bad"
        return
    scope[name] = value
    if quality is UNCERTAIN:
        doubts[name] = reason or "uncertain"


def _by_formula(
    profile: Profile, point: Point, scope: Mapping[str, Any], faults: Mapping[str, str], doubts: Mapping[str, str]
) -> tuple[Any, Quality, str | None] | None:
    """The value by the first formula whose inputs are there. None: this frame says nothing about the point."""
    unset: str | None = None
    for formula in point.formulas:
        if not all(map(scope.__contains__, formula.names)):
            # Not all there: because of a fault, or because this frame or the asset does not say.
            missing = [name for name in formula.names if name not in scope and name not in faults]
            if missing:
                if unset is None and all(name in profile.attributes for name in missing):
                    unset = missing[0]
                continue
            fault = next(name for name in formula.names if name in faults)
            return None, BAD, faults[fault] if fault == point.name else f"{fault}: {faults[fault]}"
        try:
            value: Any = formula.value(scope)
        except Uncomputable as error:
            return None, BAD, str(error)
        if type(value) is float:
            value = float(f"{value:.12g}")  # 1.5 - 1.2 is 0.3 for people
        if type(value) not in _RESULTS[point.type]:
            return None, BAD, f"the formula gave {describe(value)}"
        if doubts:
            doubt = next((name for name in formula.names if name in doubts), None)
            if doubt is not None:
                return value, UNCERTAIN, doubts[doubt] if doubt == point.name else f"{doubt}: {doubts[doubt]}"
        return value, GOOD, None
    if unset is not None and not point.optional:
        return None, BAD, f"the attribute {unset!r} of the asset is not set"
    return None


# What a formula may give a point of each type.
_RESULTS: dict[ValueType, tuple[type, ...]] = {
    ValueType.NUMBER: (float, int),
    ValueType.INTEGER: (int,),
    ValueType.BOOL: (bool,),
    ValueType.TEXT: (str,),
    ValueType.LIST: (),
}


def _from_json(point: Point, raw: Any) -> tuple[Any, Quality, str | None]:
    """As ``_from_raw``, for a JSON value or ``{"value": …, "unit": …, "quality": …, "reason": …}``."""
    if type(raw) is not dict:
        return _from_raw(point, raw)
    if "value" not in raw:
        return None, BAD, "an object without a value"
    value, unit, word = raw["value"], raw.get("unit"), raw.get("quality", "good")
    linear: tuple[float, float] | None = None
    if unit is not None and unit != point.unit:
        linear = point.units.get(unit) if isinstance(unit, str) else None
        if linear is None:
            return None, BAD, f"the unit {str(unit)[:20]!r} cannot be converted to {point.unit or 'this point'!r}"
    own = raw.get("reason")
    own = f": {own[:MAX_TEXT]}" if isinstance(own, str) and own.isprintable() else ""
    if word == "bad":
        return None, BAD, f"the device says bad{own}"
    result = _from_raw(point, value, linear if linear is not None else ((1.0, 0.0) if unit is not None else None))
    if word == "good" or result[1] is BAD:
        return result
    said = "uncertain" if word == "uncertain" else f"quality {str(word)[:20]!r}"
    return result[0], UNCERTAIN, f"the device says {said}{own}"


def _from_raw(point: Point, raw: Any, linear: tuple[float, float] | None = None) -> tuple[Any, Quality, str | None]:
    """A raw value as the point's value: sentinel, state, type, scale, invert; not yet its range.

    ``linear``: (factor, offset) of a unit the device named itself; it takes the place of the profile's scale.
    """
    if isinstance(raw, Fault):
        return None, BAD, raw.reason
    if raw is None:
        return None, BAD, "no value (null)"
    kind = type(raw)
    if kind is int and not INT64_LOW <= raw <= UINT64_HIGH:
        raise Refused("bad_payload", f"{point.source}: an integer beyond 64 bits")
    if point.sentinels and kind is not bool and kind is not list and kind is not dict and raw in point.sentinels:
        return None, BAD, sentinel_reason(raw, point.sentinels[raw], point.raw_bytes)
    if point.states is not None:
        return _state(point, raw)
    match point.type:
        case ValueType.NUMBER | ValueType.INTEGER:
            if kind is not float and kind is not int:
                return None, BAD, f"{describe(raw)} where a number belongs"
            value: Any = _scaled(point, raw, linear)
            if type(value) is float:
                if not math.isfinite(value):
                    return None, BAD, "beyond what a number can hold"
                if point.type is ValueType.INTEGER:
                    if not value.is_integer():
                        return None, BAD, f"{value:.12g} is not a whole number"
                    value = int(value)
            if type(value) is int and not INT64_LOW <= value <= UINT64_HIGH:
                return None, BAD, "beyond what a number can hold"
        case ValueType.BOOL:
            if kind is not bool:
                return None, BAD, f"{describe(raw)} where true or false belongs"
            value = raw is not point.invert
        case ValueType.TEXT:
            if kind is not str:
                return None, BAD, f"{describe(raw)} where a text belongs"
            if len(raw) > MAX_TEXT or not raw.isprintable():
                return None, BAD, "a text too long or with unprintable characters"
            value = raw
        case ValueType.LIST:
            if kind is not list or not all(type(item) in (int, float) and abs(item) <= 1e300 for item in raw):
                return None, BAD, f"{describe(raw)} where a list of numbers belongs"
            if len(raw) > MAX_TEXT // 8:
                return None, BAD, f"a list of {len(raw)} numbers"
            value = [_scaled(point, item, linear) for item in raw]
    return value, GOOD, None


def _scaled(point: Point, raw: float, linear: tuple[float, float] | None) -> float:
    if linear is not None:
        return raw if linear == (1.0, 0.0) else float(f"{raw * linear[0] + linear[1]:.12g}")
    return raw if point.scale.is_identity else point.scale(raw)


def _state(point: Point, raw: Any) -> tuple[Any, Quality, str | None]:
    states = point.states or {}
    kind = type(raw)
    state = states.get(raw) if kind is not list and kind is not dict else None
    # True is 1 to a dictionary; to us it is not.
    if state is None or (kind is bool) is not any(type(key) is bool for key in states):
        shown = describe(raw) if kind is list or kind is dict else f"code {raw!r}"[:60]
        return None, BAD, f"unknown {shown}"
    return (None if state.quality is BAD else state.value), state.quality, state.reason


def _in_range(point: Point, value: Any, quality: Quality, reason: str | None) -> tuple[Any, Quality, str | None]:
    if quality is BAD:
        return value, quality, reason
    for item in value if type(value) is list else (value,):
        if type(item) is not float and type(item) is not int:
            break
        if not point.low <= item <= point.high:
            side, limit = ("below", point.low) if item < point.low else ("above", point.high)
            return None, BAD, f"out of range: {item:.6g} is {side} {limit:g} {point.unit}".rstrip()
        if item and abs(item) < point.smallest:
            return None, BAD, f"out of range: {item:.6g} is no measurement, only zero or {point.smallest:g} and more is"
    return value, quality, reason


def _checked(
    check: Check, verdict: _Verdict, value: Any, quality: Quality, reason: str | None
) -> tuple[Any, Quality, str | None]:
    """Apply the outcome of a check to one value; one that could not be made leaves the value in doubt."""
    holds, why = verdict
    if quality is BAD or holds is None:
        return value, quality, reason
    if holds:
        return (None if check.quality is BAD else value), check.quality, check.reason
    if why is not None:
        return value, UNCERTAIN, f"cannot be checked: {why}"
    return value, quality, reason


_Verdict: TypeAlias = tuple[bool | None, str | None]
_NOT_CONCERNED: _Verdict = (None, None)
_HOLDS_NOT: _Verdict = (False, None)


def _verdict(when: Formula, scope: Mapping[str, Any], faults: Mapping[str, str]) -> _Verdict:
    """(whether it holds, why that could not be told); ``_NOT_CONCERNED``: the frame says nothing about it."""
    for name in when.names:
        if name in faults:
            return False, faults[name]
        if name not in scope:
            return _NOT_CONCERNED
    try:
        return when.holds(scope), None
    except Uncomputable as error:
        return False, str(error)


def _kept(value: Any) -> Value:
    """A list as the text of a JSON array; everything else as it is."""
    return msgspec.json.encode(value).decode() if type(value) is list else value


def _append(
    readings: list[Reading],
    outcomes: list[Outcome],
    mounted: _Mounted,
    time: Micros,
    received_at: Micros,
    sample: Sample,
    has_time: bool,
    doubt: str | None,
) -> None:
    """Outcomes as readings; ``doubt``: why the time is not believed, which leaves no reading better than uncertain."""
    asset, device = mounted.asset.asset, mounted.device.device
    for point, value, quality, reason in outcomes:
        if doubt is not None:
            quality = UNCERTAIN if quality is GOOD else quality
            reason = doubt if reason is None else f"{reason}; {doubt}"
        readings.append(
            Reading(
                asset, point.name, value, quality, time, received_at, device, reason, sample.historical,
                sample.sequence, has_time,
            )
        )  # fmt: skip


def _document_samples(mounted: _Mounted, document: Any) -> list[Sample]:
    """The samples of a JSON or CBOR document. Raises Refused."""
    shape = mounted.plan.profile.payload
    assert isinstance(shape, JsonPayload)
    if is_senml(document) and not mounted.plan.keys & _SENML_KEYS:
        return senml_samples(document, mounted.plan.keys)
    return json_samples(document, shape, mounted.address)


_SENML_KEYS = frozenset(("n", "bn"))  # a profile that reads them itself means something else by them


def _uplink_samples(mounted: _Mounted, uplink: Uplink) -> list[Sample]:
    """The samples of a message that came in an envelope, or of a device's bare bytes. Raises Refused."""
    profile = mounted.plan.profile
    if uplink.remark is not None:
        return [Sample({}, extra=(uplink.remark,))]
    if (mounted.fport if uplink.fport is None else uplink.fport) == 0:
        return [Sample({}, extra=("fPort 0: network commands only",))]
    shape = profile.payload
    assert shape is not None
    if isinstance(shape, JsonPayload):
        # What the network's own decoder made of the bytes; without one the bytes are the document.
        if uplink.object is not None:
            samples = json_samples(uplink.object, shape, mounted.address) if uplink.object else [Sample({})]
        else:
            samples = _document_samples(mounted, read_document(uplink.data))
    elif uplink.object is not None and not uplink.data and uplink.signals:
        samples = [Sample({})]  # a status: the network says how the battery is
    else:
        reader = mounted.plan.bytes_reader
        assert reader is not None
        samples = reader.samples(uplink.data, _checked_port(mounted, uplink))
    known = mounted.plan.known if isinstance(shape, JsonPayload) else uplink.signals
    for sample in samples:
        if sample.time is None:
            sample.time = uplink.time
            # The counter begins again at every join: it tells uplinks apart only where no time does.
            sample.sequence = uplink.counter if uplink.time is None and sample.sequence is None else sample.sequence
            sample.values |= {name: value for name, value in uplink.signals.items() if name in known}
    return samples


def _checked_port(mounted: _Mounted, uplink: Uplink) -> int | None:
    """The port of an uplink; for bare bytes the device's attribute. Raises Refused for one that carries no data."""
    fport = mounted.fport if uplink.fport is None else uplink.fport
    wanted = mounted.plan.profile.fports
    if fport is not None and wanted is not None and fport not in wanted:
        ports = ", ".join(str(port) for port in sorted(wanted))
        raise Refused("bad_payload", f"fPort {fport}: this device sends data on {ports}")
    return fport


def _status(mounted: _Mounted, frame: Frame) -> Decoded:
    """Birth and last will: the point ``online`` where the profile has it, else one counted remark; never a rejection.

    A retained one is an old one and says nothing.
    """
    profile, device = mounted.plan.profile, mounted.device.device
    point = profile.point("online")
    online = _ONLINE.get(frame.payload[:64].strip().lower())
    if point is None or online is None or frame.retained:
        return Decoded(device, [], None, ("status",))
    at = frame.received_at
    reading = Reading(mounted.asset.asset, "online", online, GOOD, at, at, device, None, False, None, False)
    return Decoded(device, [reading])


_ONLINE = {
    b"online": True, b"1": True, b"true": True, b'{"online":true}': True, b'{"online": true}': True,
    b"offline": False, b"0": False, b"false": False, b'{"online":false}': False, b'{"online": false}': False,
}  # fmt: skip


# -- JSON paths -------------------------------------------------------------------------------------------------------


def json_path(text: str) -> tuple[str | int, ...]:
    """``"sensors[0].temp"`` → ("sensors", 0, "temp"). Raises ValueError."""
    path: list[str | int] = []
    for part in text.split("."):
        name, *indexes = part.split("[")
        if name:
            path.append(name)
        elif not indexes:
            raise ValueError(f"not a path: {text!r}")
        for index in indexes:
            if not index.endswith("]"):
                raise ValueError(f"not a path: {text!r}")
            path.append(int(index[:-1]))
    return tuple(path)


def _is_key(source: str) -> bool:
    return "." not in source and "[" not in source


def _key(source: str) -> str:
    """The outermost key a source reads."""
    return source if _is_key(source) else str(json_path(source)[0])
