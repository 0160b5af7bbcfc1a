"""A scenario being played: one calendar in which devices speak, people and faults act, and the truth is looked at.

``Simulation.until`` gives everything that happens, in the order of its time. The same scenario, city, seed and start
give the same messages to the last byte. Pure but for the drains, whose engine is a process of its own.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import TypeAlias

from simulators.acts import CITY, Act
from simulators.bridges import Vehicle
from simulators.city import City, Device
from simulators.devices import Voices, seeded
from simulators.messages import Message, Note, Poll
from simulators.scenario import Choice, Entry, Scenario, ScenarioError
from simulators.sensors import Fault, Sensors
from simulators.truth import CALM, Expected, Hazard, State, Truth
from simulators.world import World

STORM_INTERVAL_S = 60.0  # gauges sample each minute when it rains or the water is high
AFTER_LATE_S = 900.0  # the last one of them comes, and the next in its time
ALIVE_WITHOUT_MAINS_S = 60.0  # a lamp controller's capacitor
SWITCH_SPREAD_S = 90.0  # 20,000 lamps report a switching within a minute and a half
BACK_SPREAD_S = 60.0  # controllers come back one by one after their supply
MODBUS_TIMEOUT_S = 3.0
ANSWER = "no answer within 3 s"
VEHICLES_AHEAD_S = 600.0
LOOK_S = 30.0  # the truth of what is acted upon is looked at again so often

Happening: TypeAlias = "Message | Note | Poll | Done | Expected | Hazard"
Happen: TypeAlias = Callable[[float], Iterator[Happening]]


@dataclass(frozen=True, slots=True)
class Done:
    """An act and, once it is over, its end; ``scope``: what it touches."""

    act: str
    cause: str
    asset: str
    zh: str
    en: str
    since: float
    until: float | None
    scope: tuple[str, ...]


@dataclass(slots=True)
class _Going:
    """An act that goes on."""

    entry: Entry
    act: Act
    victims: list[str]
    since: float
    name: str
    given: dict[str, float | str | bool] = field(default_factory=dict)


class Simulation:
    """Use it as a context manager. ``start_ms``: what devices' clocks show at second 0; ``speed``: simulated seconds a
    second of those clocks. ``polls``: Modbus devices are asked by the simulation itself (where no gateway polls)."""

    def __init__(
        self,
        scenario: Scenario,
        city: City,
        seed: int,
        *,
        start_ms: int | None = None,
        speed: float = 1.0,
        polls: bool = False,
        stranger: bool = True,
    ) -> None:
        self.scenario, self.city, self.seed = scenario, city, seed
        start = scenario.start
        self.start_ms = round(start.timestamp() * 1000) if start_ms is None else start_ms
        self.world: World = World(city, seed, start, scenario.made_weather(), self.start_ms)
        self.sensors = Sensors(seed)
        self.voices = Voices(self.world, self.sensors, self.start_ms, speed)
        self.truth = Truth(self, frozenset(scenario.enable))
        self._polls, self._lets_strangers = polls, stranger
        self._kinds = {asset.asset: asset.kind for asset in city.assets}
        self._devices: dict[str, list[Device]] = {}
        for device in city.devices:
            self._devices.setdefault(device.asset, []).append(device)
        self._children: dict[tuple[str, str], list[str]] = {}
        for asset in city.assets:
            for link, parent in asset.links.items():
                self._children.setdefault((link, parent), []).append(asset.asset)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Happen]] = []
        self._turn: dict[str, int] = {}  # a device's periodic report: which of its appointments counts
        self._going: list[_Going] = []
        self._victims: dict[str, list[str]] = {}
        self._silent: dict[str, float] = {}  # device → since when nobody hears it
        self._was: dict[tuple[str, str], float] = {}
        self._storm = self._maybe_storm = (-math.inf, False)  # when last asked, and what it was
        self._watched: dict[str, int] = {}  # assets that acts are going on at
        self._held: list[Message] | None = None  # what is sent while the broker is away
        self._uttered: list[tuple[str, str]] = []
        self._begin()

    def __enter__(self) -> Simulation:
        self.world.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.__exit__(kind, error, trace)

    # -- asked by whoever plays it ------------------------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When the next thing happens, in simulated seconds."""
        return min(self._due[0][0], self.world.radio.next_at)

    def until(self, at: float) -> Iterator[Happening]:
        """Everything that happens up to ``at``, in order; the world is advanced on the way."""
        radio = self.world.radio
        while (due := self.next_at) <= at:
            yield from self._moves(due)
            if radio.next_at <= due:
                for when, message in radio.due(due):
                    yield from self._arrives(replace(message, at=when))
            else:
                _, _, happen = heapq.heappop(self._due)
                yield from happen(due)
        yield from self._moves(at)

    def ends(self) -> Iterator[Happening]:
        """The scenario is over: acts that still go on, and what may still be."""
        at = self.scenario.lasts
        for going in self._going:
            yield from self._done(going, None)
        for asset, kind in self._kinds.items():
            yield from self.truth.look(asset, kind, at)
        yield from self.truth.end(at)

    # -- asked by acts and by the truth -------------------------------------------------------------------------------

    def devices_of(self, asset: str) -> Sequence[Device]:
        return self._devices.get(asset, ())

    def speakers_of(self, kind: str) -> Iterator[Device]:
        """Devices of a kind of assets that speak by radio."""
        return (d for d in self.city.devices if self._kinds[d.asset] == kind and not d.is_modbus)

    def neighbours(self, asset: str, link: str) -> list[str]:
        """Assets of the same kind under the same parent."""
        parent = self.city.asset(asset).links.get(link, "")
        kind = self._kinds[asset]
        return [one for one in self._children.get((link, parent), ()) if one != asset and self._kinds[one] == kind]

    def vehicle(self, bridge: str, vehicle: Vehicle) -> None:
        """A vehicle that was sent by an act: it is weighed when it comes."""
        self._at(vehicle.at, lambda at: self._weighed(bridge, vehicle, at))

    def utter(self, device: str, at: float, what: str) -> None:
        """The device says something else than its report, now."""
        self._uttered.append((device, what))

    def stranger(self, at: float) -> None:
        if self._lets_strangers:
            self._at(at, lambda now: self._sent(self.voices.from_a_stranger(now), now))

    def broker_is_away(self, away: bool, at: float) -> None:
        """While it is away devices keep what they say and deliver it afterwards, some of it twice."""
        if away:
            self._held = []
            return
        held, self._held = self._held or [], None
        rng = seeded(self.seed, "broker", at)
        for number, message in enumerate(held):
            copies = 2 if rng.random() < 0.2 else 1
            for copy in range(copies):
                late = replace(message, at=at + 0.5 + 0.002 * number + 0.001 * copy)
                self._at(late.at, lambda now, late=late: iter((late,)))  # type: ignore[misc]

    def sun_is_up(self, at: float, margin_s: float = 0.0) -> bool:
        """Well after sunrise and before sunset, by the margin."""
        sun = self.world.lighting.plan.sun
        return all(
            sun.is_up(datetime.fromtimestamp(self.scenario.start.timestamp() + at + shift, self.scenario.start.tzinfo))
            for shift in (-margin_s, 0.0, margin_s)
        )

    def storm_mode(self, at: float) -> bool:
        """Rain that puts the county into storm mode has certainly fallen, and every gauge has said so."""
        if at != self._storm[0]:
            self._storm = at, self._rained(at - 2 * STORM_INTERVAL_S - 15.0, 1.0)
        return self._storm[1]

    def may_be_storm(self, at: float) -> bool:
        """Storm mode may be in force: it ends after six dry hours."""
        if at != self._maybe_storm[0]:
            self._maybe_storm = at, any(self._rained(at - 1800.0 * step, -1.0) for step in range(14))
        return self._maybe_storm[1]

    def _rained(self, at: float, more: float) -> bool:
        weather = self.world.weather
        return weather.fallen_mm(at - 12 * 3600, at) > 50 + more or weather.fallen_mm(at - 3 * 3600, at) > 50 + more

    def has_float(self, cover: str) -> bool:
        return any(not device.is_lorawan for device in self.devices_of(cover))

    def unheard(self, asset: str, at: float) -> bool:
        """Nobody hears its device, so nobody can know how it is."""
        return self.unheard_since(asset) is not None

    def unheard_since(self, asset: str) -> float | None:
        """Since when none of its devices is heard; None when one is."""
        devices = self.devices_of(asset)
        since = [self._silent.get(device.device) for device in devices]
        if not since or any(one is None for one in since):
            return None
        return max(one for one in since if one is not None)

    def out_of_time(self, asset: str, at: float) -> bool:
        """Its messages come late, or its clock stands so that they pass for repeats: nobody hears it in its time."""
        now = any(
            going.act.name == "messages-late" or (going.act.name == "clock-stuck" and asset in going.victims)
            for going in self._going
        )
        return self.was(asset, "out of time", at, now, AFTER_LATE_S)

    def network_is_cut(self, asset: str) -> bool:
        network = self.city.asset(asset).links.get("network")
        return network is not None and self.is_cut(network)

    def is_cut(self, network: str) -> bool:
        return any(going.act.name == "network-cut" and network in going.victims for going in self._going)

    def dark_circuit(self, lamp: str) -> bool:
        found = self.world.lighting.lamps.get(lamp)
        return found is not None and not found.feeder.mains

    def slowest_counted(self, network: str) -> float | None:
        """The interval of the quickest kind of which a network has ten or more: that one tells first that it is cut."""
        counts: dict[str, int] = {}
        for child in self._children.get(("network", network), ()):
            counts[self._kinds[child]] = counts.get(self._kinds[child], 0) + 1
        intervals = [
            self.scenario.city_intervals[kind] for kind, count in counts.items()
            if count >= 10 and kind in self.scenario.city_intervals and kind != "feeder"
        ]  # fmt: skip
        return min(intervals, default=None)

    def interval_of(self, asset: str) -> float:
        """Seconds between two reports of its devices as they are now; where some report and one is asked beside them,
        of those that report."""
        devices = self.devices_of(asset)
        devices = [device for device in devices if not device.is_modbus] or devices
        return min((self._interval(device, self.world.now) for device in devices), default=0.0)

    def answers(self, station: str) -> bool:
        after = [self.world.answers_after_s.get(device.device, 0.0) for device in self.devices_of(station)]
        return all(seconds < MODBUS_TIMEOUT_S for seconds in after)

    def gauge_tells(self, station: str) -> bool:
        """Whoever asks the PLC learns the true level."""
        its = self.world.drains.stations[station]
        return self.answers(station) and its.level_sensor == "ok" and not its.frozen and not its.just_restarted

    def faulty(self, asset: str, at: float) -> bool:
        """A sensor of the asset is broken, or nobody hears it."""
        return self.unheard(asset, at) or any(self.sensors.fault(d.device) for d in self.devices_of(asset))

    def sensor_state(self, asset: str, at: float) -> State:
        """Is a level gauge broken in a way that its readings show?"""
        shows = self.was(asset, "fault", at, self.faulty(asset, at) or self._talked_nonsense(asset, at), 60.0)
        if not shows:
            return CALM
        out = any(self.sensors.fault(device.device) is Fault.OUT_OF_RANGE for device in self.devices_of(asset))
        return State(True, (4, 0.0) if out and not self.unheard(asset, at) else None)

    def was(self, asset: str, what: str, at: float, now: bool, within_s: float) -> bool:
        """True now, or within the last seconds."""
        if now:
            self._was[asset, what] = at
        return at - self._was.get((asset, what), -math.inf) <= within_s

    def _talked_nonsense(self, asset: str, at: float) -> bool:
        return at - self._was.get((asset, "nonsense"), -math.inf) <= 3600.0

    # -- the calendar -------------------------------------------------------------------------------------------------

    def _at(self, at: float, happen: Happen) -> None:
        heapq.heappush(self._due, (at, next(self._order), happen))

    def _begin(self) -> None:
        lasts = self.scenario.lasts
        for device in self.city.devices:
            phase = seeded(self.seed, device.device, "phase").uniform(0, device.interval_s)
            if device.is_modbus:
                if self._polls:
                    self._at(round(phase, 3), self._poll(device))
            else:
                self._appoint(device, round(phase, 3))
        for bridge in self.world.bridges.bridges:
            if any(not device.is_modbus for device in self.devices_of(bridge)):
                self._at(0.0, self._traffic(bridge, 0.0))
        for asset in self.city.assets:
            if not self.devices_of(asset.asset):
                self._at(LOOK_S, self._looks(asset.asset))
        for at in self.world.lighting.line.switchings(0.0, lasts):
            self._at(at, self._switched)
        for begins, _ in self.world.weather.events:
            self._at(max(0.0, begins), self._rain_begins)
        self._plan(0.0, 0)

    def _moves(self, at: float) -> Iterator[Happening]:
        """The world comes up to ``at``; covers that the water moved speak."""
        for cover in self.world.advance(at):
            yield from self._speaks(cover, self.world.now)

    # -- devices speak ------------------------------------------------------------------------------------------------

    def _appoint(self, device: Device, at: float) -> None:
        turn = self._turn[device.device] = self._turn.get(device.device, 0) + 1
        self._at(at, self._periodic(device, turn))

    def _periodic(self, device: Device, turn: int) -> Happen:
        def happen(at: float) -> Iterator[Happening]:
            if self._turn[device.device] != turn:
                return
            self._at(at + self._interval(device, at), happen)
            yield from self._reports(device, at)

        return happen

    def _interval(self, device: Device, at: float) -> float:
        """How long until its next report: drains' gauges are quicker while it rains or the water is high."""
        drains, asset = self.world.drains, device.asset
        match self._kinds[asset]:
            case "pipe":
                busy = drains.pipes[asset].filled > 0.5
            case "road":
                busy = drains.roads[asset].depth_cm > 0.5
            case "rain":
                busy = False
            case _:
                return float(device.interval_s)
        busy = busy or self.world.weather.fallen_mm(at - 1800.0, at) > 0.05
        return min(device.interval_s, STORM_INTERVAL_S) if busy else float(device.interval_s)

    def _reports(self, device: Device, at: float, what: str = "telemetry") -> Iterator[Happening]:
        if self._has_supply(device, at):
            yield from self._sent(self.voices.report(device.device, at, what), at)
        yield from self.truth.look(device.asset, self._kinds[device.asset], at)

    def _has_supply(self, device: Device, at: float) -> bool:
        """A lamp controller lives on its circuit, and a minute longer."""
        lamp = self.world.lighting.lamps.get(device.asset)
        if lamp is None or lamp.feeder.mains:
            return True
        since = self._was.get((lamp.feeder.asset.asset, "mains"), at)
        return at - since <= ALIVE_WITHOUT_MAINS_S

    def _sent(self, message: Message, at: float) -> Iterator[Happening]:
        for when, delivered in self.world.radio.deliver(message, at):
            if when <= at:
                yield from self._arrives(delivered)
            else:
                late = replace(delivered, at=when)
                self._at(when, lambda now, late=late: self._arrives(late))  # type: ignore[misc]

    def _arrives(self, message: Message) -> Iterator[Happening]:
        if self._held is not None:
            self._held.append(message)
            return
        yield message

    def _speaks(self, asset: str, at: float) -> Iterator[Happening]:
        """All devices of an asset report at once."""
        for device in self.devices_of(asset):
            if not device.is_modbus:
                yield from self._reports(device, at)

    def _poll(self, device: Device) -> Happen:
        def happen(at: float) -> Iterator[Happening]:
            self._at(at + device.interval_s, happen)
            slow = self.world.answers_after_s.get(device.device, 0.0) >= MODBUS_TIMEOUT_S
            words = b"" if slow else self.voices.registers(device.device)
            yield Poll(at, device.device, words, ANSWER if slow else None)
            yield from self.truth.look(device.asset, self._kinds[device.asset], at)

        return happen

    def _traffic(self, bridge: str, since: float) -> Happen:
        """The vehicles of the next minutes, each weighed as it comes."""

        def happen(at: float) -> Iterator[Happening]:
            until = since + VEHICLES_AHEAD_S
            for vehicle in self.world.bridges.bridges[bridge].traffic(since, until):
                self.vehicle(bridge, vehicle)
            self._at(until, self._traffic(bridge, until))
            return iter(())

        return happen

    def _weighed(self, bridge: str, vehicle: Vehicle, at: float) -> Iterator[Happening]:
        device = next(device for device in self.devices_of(bridge) if not device.is_modbus)
        yield from self._sent(self.voices.crossing(device.device, at, vehicle), at)
        share = vehicle.gvw_t / self.world.bridges.bridges[bridge].limit_t
        if not self.unheard(bridge, at):
            yield from self.truth.crosses(bridge, share, at, 1.0)

    def _switched(self, at: float) -> Iterator[Happening]:
        """The plan has switched: every lamp and every cabinet says so, within a minute and a half."""
        rng = seeded(self.seed, "switching", at)
        for device in self.city.devices:
            if self._kinds[device.asset] in ("lamp", "feeder"):
                self._at(at + rng.uniform(0.0, SWITCH_SPREAD_S), lambda now, device=device: self._reports(device, now))  # type: ignore[misc]
        for asset, kind in self._kinds.items():
            if kind in ("lamp", "feeder", "area"):
                yield from self.truth.look(asset, kind, at)

    def _rain_begins(self, at: float) -> Iterator[Happening]:
        """Gauges that were slow go over to the quick interval."""
        for device in self.city.devices:
            if self._kinds[device.asset] in ("pipe", "road", "rain"):
                self._goes_quick(device, at)
        return iter(())

    def _goes_quick(self, device: Device, at: float) -> None:
        """It measures each minute at all times; now it also reports."""
        rng = seeded(self.seed, device.device, "rain", at)
        self._appoint(device, at + rng.uniform(0.0, min(device.interval_s, STORM_INTERVAL_S)))

    def _looks(self, asset: str) -> Happen:
        """An asset that says nothing itself is looked at now and then."""

        def happen(at: float) -> Iterator[Happening]:
            self._at(at + LOOK_S, happen)
            yield from self.truth.look(asset, self._kinds[asset], at)

        return happen

    def looks_again(self, asset: str, at: float) -> None:
        """The truth wants to see the asset then."""
        self._at(at, lambda now: self.truth.look(asset, self._kinds[asset], now))

    # -- acts ---------------------------------------------------------------------------------------------------------

    def _plan(self, begins: float, round_: int) -> None:
        """Put a round of the timeline into the calendar."""
        scenario = self.scenario
        for number, entry in enumerate(scenario.timeline):
            at = begins + scenario.second(entry.at)
            until = at if entry.until is None else begins + scenario.second(entry.until)
            times = [at]
            if entry.every:
                times = [at + entry.every * step for step in range(int((until - at) / entry.every) + 1)]
            for step, when in enumerate(times):
                if entry.end is not None:
                    self._at(when, self._ended(entry.end))
                else:
                    self._at(when, self._acts(entry, f"{round_}.{number}.{step}"))
        if scenario.repeat is not None and begins + scenario.repeat < scenario.lasts:
            again = begins + scenario.repeat
            self._at(again, lambda now: self._planned(again, round_ + 1))

    def _planned(self, begins: float, round_: int) -> Iterator[Happening]:
        self._plan(begins, round_)
        return iter(())

    def _acts(self, entry: Entry, number: str) -> Happen:
        def happen(at: float) -> Iterator[Happening]:
            act = entry.act
            victims = self._choose(entry, number)
            given = {name: value for name, value in {**act.takes, **entry.parameters}.items() if value is not None}
            going = _Going(entry, act, victims, at, f"{act.name}-{number}", given)
            if entry.name is not None:
                self._victims[entry.name] = victims
            for victim in victims:
                act.begin(self, victim, at, given)
            self._mark(going, at, begins=True)
            yield from self._noted(going, at, "begin")
            yield from self._after(going, at)
            if act.end is None:
                yield from self._done(going, at)
                return
            self._going.append(going)
            if entry.lasts is not None:
                self._at(at + entry.lasts, lambda now: self._over(going, now))

        return happen

    def _ended(self, name: str) -> Happen:
        def happen(at: float) -> Iterator[Happening]:
            for going in [going for going in self._going if going.entry.name == name]:
                yield from self._over(going, at)

        return happen

    def _over(self, going: _Going, at: float) -> Iterator[Happening]:
        if going not in self._going:
            return
        self._going.remove(going)
        assert going.act.end is not None
        for victim in going.victims:
            going.act.end(self, victim, at, going.given)
        self._mark(going, at, begins=False)
        yield from self._noted(going, at, "end")
        yield from self._after(going, at)
        yield from self._done(going, at)

    def _after(self, going: _Going, at: float) -> Iterator[Happening]:
        """What follows at once: devices that report, nonsense that is said, and a look at the truth."""
        for device_id, what in self._uttered:
            device = next(device for device in self.city.devices if device.device == device_id)
            self._was[device.asset, "nonsense"] = at
            yield from self._sent(self.voices.report(device_id, at, what), at)
        self._uttered.clear()
        for victim in going.victims:
            if going.act.speaks:
                yield from self._speaks(victim, at)
            if self._kinds.get(victim) == "road":
                for device in self.devices_of(victim):
                    self._goes_quick(device, at)
            for asset in (victim, *self._reached(going.act, victim)):
                if asset in self._kinds:
                    yield from self.truth.look(asset, self._kinds[asset], at)

    def _mark(self, going: _Going, at: float, begins: bool) -> None:
        """Remember what the truth asks for: who is not heard, and since when a circuit is dark."""
        match going.act.name:
            case "network-cut":
                for network in going.victims:
                    for child in self._children.get(("network", network), ()):
                        self._hush(child, at, begins)
            case "device-silent":
                for asset in going.victims:
                    self._hush(asset, at, begins)
            case "feeder-loses-mains":
                for feeder in going.victims:
                    self._was[feeder, "mains"] = at
                    for lamp in self._children.get(("feeder", feeder), ()):
                        self._hush(lamp, at + ALIVE_WITHOUT_MAINS_S, begins)
                        if not begins:
                            for device in self.devices_of(lamp):
                                rng = seeded(self.seed, device.device, "back", at)
                                self._appoint(device, at + rng.uniform(5.0, BACK_SPREAD_S))
            case _:
                pass
        if going.act.end is not None:
            for victim in going.victims:
                for asset in (victim, *self._reached(going.act, victim)):
                    self._watch(asset, at, 1 if begins else -1)

    def _watch(self, asset: str, at: float, change: int) -> None:
        """While something goes on at an asset, the truth is looked at every half minute."""
        if asset not in self._kinds:
            return
        count = self._watched.get(asset, 0) + change
        self._watched[asset] = count
        if count == 1 and change == 1:
            self._at(at + LOOK_S, self._watches(asset))

    def _watches(self, asset: str) -> Happen:
        def happen(at: float) -> Iterator[Happening]:
            if self._watched.get(asset, 0) > 0:
                self._at(at + LOOK_S, happen)
            yield from self.truth.look(asset, self._kinds[asset], at)

        return happen

    def _hush(self, asset: str, at: float, begins: bool) -> None:
        for device in self.devices_of(asset):
            if begins:
                self._silent.setdefault(device.device, at)
            elif not self.world.radio.is_down(device.device) and not self.dark_circuit(asset):
                self._silent.pop(device.device, None)

    def _reached(self, act: Act, victim: str) -> list[str]:
        return [child for link in act.reaches for child in self._children.get((link, victim), ())]

    def _noted(self, going: _Going, at: float, step: str) -> Iterator[Happening]:
        for victim in going.victims:
            thing = "" if victim == "city" else self.city.asset(victim).name
            zh, en = (
                (going.act.zh, going.act.en) if step == "begin" else (f"{going.act.zh}：结束", f"{going.act.en}: over")
            )
            yield Note(at, going.act.name, victim, step, f"{thing} {zh}".strip(), f"{victim}: {en}")

    def _done(self, going: _Going, at: float | None) -> Iterator[Done]:
        for number, victim in enumerate(going.victims):
            name = going.name if len(going.victims) == 1 else f"{going.name}.{number}"
            scope = tuple(self._reached(going.act, victim))
            yield Done(name, going.act.name, victim, going.act.zh, going.act.en, going.since, at, scope)

    # -- whom it befalls ----------------------------------------------------------------------------------------------

    def _choose(self, entry: Entry, number: str) -> list[str]:
        """The assets an entry speaks of. Raises ScenarioError when there are none, or none that this can befall."""
        kinds = entry.act.kinds
        if kinds == CITY:
            return ["city"]
        victims = self._meant(entry, number)
        for victim in victims:
            kind = self._kinds.get(victim, "no asset")
            if kind not in kinds and ("*" not in kinds or victim not in self._kinds):
                raise ScenarioError(f"{entry.do}: {victim} is {kind}, not {' or '.join(sorted(kinds))}")
        return victims

    def _meant(self, entry: Entry, number: str) -> list[str]:
        choice = entry.asset
        if isinstance(choice, str):
            return self._named(choice)
        wanted = choice or Choice()
        kinds = entry.act.kinds if wanted.kind is None else {wanted.kind}
        if wanted.kind is None and "*" in kinds:
            raise ScenarioError(f"{entry.do}: say which asset, or which kind")
        found = [a for a in self.city.assets if a.kind in kinds and self._fits(a.asset, wanted)]
        if not found:
            raise ScenarioError(f"{entry.do}: no asset in this city is as the scenario wants it")
        rng = random.Random(f"{self.seed}:{self.scenario.scenario}:{number}:victims")
        if wanted.apart > 1:
            first, room = rng.randrange(len(found)), max(1, len(found) // wanted.apart)
            steps = range(min(wanted.pick, room))
            chosen = [found[(first + step * wanted.apart) % len(found)].asset for step in steps]
        else:
            chosen = [asset.asset for asset in rng.sample(found, min(wanted.pick, len(found)))]
        return list(dict.fromkeys(one for asset in chosen for one in self._row(asset, wanted.row)))

    def _row(self, asset: str, length: int) -> list[str]:
        """The asset and its next neighbours; the ones before it where the row ends."""
        row, last = [asset], asset
        for link in ("after", "before"):
            last = row[-1] if link == "after" else row[0]
            while len(row) < length and (following := self.city.asset(last).links.get(link)) is not None:
                row = [*row, following] if link == "after" else [following, *row]
                last = following
        return row

    def _fits(self, asset: str, wanted: Choice) -> bool:
        links = self.city.asset(asset).links
        if any(links.get(link) not in self._named(parent) for link, parent in wanted.where.items()):
            return False
        but = [name for one in wanted.but for name in self._named(one)]
        if asset in but or any(parent in but for parent in links.values()):
            return False
        if any(asset in self.city.asset(name).links.values() for name in but):
            return False  # not the circuit of a lamp that is spared, either
        return wanted.profile is None or any(device.profile == wanted.profile for device in self.devices_of(asset))

    def _named(self, name: str) -> list[str]:
        """The asset of that id, or (`$name`) the victims of what was done under that name."""
        if not name.startswith("$"):
            if name not in self._kinds:
                raise ScenarioError(f"there is no asset {name!r} in a city of {len(self._kinds)}")
            return [name]
        if name[1:] not in self._victims:
            raise ScenarioError(f"nothing that has been done so far is called {name[1:]!r}")
        return self._victims[name[1:]]
