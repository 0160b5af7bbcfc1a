"""A small street to test the engine in: times in seconds from the start, values by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from gateway.config.rules import load_rules
from gateway.core.engine import Engine, Observed
from gateway.core.model import (
    SECOND,
    AlarmRecord,
    Asset,
    Command,
    CommandDone,
    CommandName,
    Decoded,
    Device,
    Event,
    Micros,
    Quality,
    Reading,
    Transition,
    Value,
)
from gateway.core.registry import Registry
from gateway.core.rule import RuleSet

START: Micros = 1_750_000_000 * SECOND

ROAD = """
- rule: road-depth
  applies_to: {kind: road}
  when:
    point: depth
    above:
      - {limit: 5, level: IV, on_delay: 120s}
      - {limit: 15, level: II, on_delay: 60s}
    deadband: 3
  off_delay: 120s
  response: close the road
"""


@cache
def rules_of(text: str) -> RuleSet:
    return load_rules({"rules.yaml": text})


class Street:
    """An engine, its clock and everything that came out of it."""

    def __init__(
        self,
        rules: str = ROAD,
        assets: list[Asset] | None = None,
        interval_s: Callable[[str], float | None] | None = None,
    ) -> None:
        self.rules = rules_of(rules)
        self.interval_s = interval_s or (lambda _: None)
        self.registry = Registry()
        self.engine = Engine(self.registry, self.rules, self._interval)
        self.events: list[Event] = []
        self.done = 0
        self.engine.advance(START, self.events)
        street = assets if assets is not None else [Asset("r1", "road")]
        devices = [Device(a.asset, a.asset, "p") for a in street]
        self.engine.apply_assets(street, devices, START, self.events)

    def _interval(self, device: Device) -> Micros | None:
        seconds = self.interval_s(device.device)
        return None if seconds is None else round(seconds * SECOND)

    @property
    def now(self) -> float:
        return (self.engine.now - START) / SECOND

    def at(self, seconds: float, late: bool = False) -> None:
        self.engine.advance(START + round(seconds * SECOND), self.events, late)

    def send(
        self,
        at: float,
        asset: str = "r1",
        /,
        *,
        measured: float | None = None,
        quality: Quality = Quality.GOOD,
        sequence: int | None = None,
        historical: bool = False,
        timed: bool = True,
        **values: Value,
    ) -> Observed:
        """One message from the device of ``asset``; ``measured``: its own time, else the time of sending."""
        self.at(at)
        received = self.engine.now
        source = received if measured is None else START + round(measured * SECOND)
        readings = [
            Reading(asset, point, value, quality, source, received, asset, None, historical, sequence, timed)
            for point, value in values.items()
        ]
        return self.engine.observe(Decoded(asset, readings), self.events)

    def do(
        self,
        at: float,
        name: CommandName,
        alarm: str = "r1/road-depth",
        why: str | None = None,
        rev: int | None = None,
        **arguments: str | int | float | bool | None,
    ) -> tuple[str, str] | None:
        """What a person does; gives the refusal, or None."""
        self.at(at)
        self.done += 1
        command = Command(f"c{self.done}", name, alarm, "li", "web", rev, why, arguments)
        self.engine.command(command, self.engine.now, self.events)
        outcome = self.events[-1]
        assert isinstance(outcome, CommandDone)
        return outcome.refused

    def record(self, alarm: str = "r1/road-depth") -> AlarmRecord:
        found = self.engine.alarm(alarm)
        assert found is not None, f"{alarm} never happened"
        return found

    @property
    def transitions(self) -> list[Transition]:
        return [event for event in self.events if isinstance(event, Transition)]

    def story(self, alarm: str = "r1/road-depth") -> list[tuple[float, str, str]]:
        """(seconds, row of the table, state afterwards) of every recorded step."""
        return [((t.at - START) / SECOND, t.cause, t.to_state.value) for t in self.transitions if t.alarm_id == alarm]

    def restarted(self) -> Street:
        """The same street after a restart from a snapshot."""
        other = Street.__new__(Street)
        other.rules, other.interval_s, other.done = self.rules, self.interval_s, self.done
        other.registry = Registry()
        other.registry.upsert(self.registry.assets(), self.registry.devices())
        other.engine = Engine(other.registry, self.rules, other._interval)
        other.engine.restore(self.engine.snapshot())
        other.events = []
        return other
