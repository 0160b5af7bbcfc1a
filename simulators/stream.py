"""``python -m simulators stream SCENARIO``: all that a scenario says, and what is true, on stdout, as fast as it goes.

Each record is four bytes of length (big-endian) and an array in MessagePack whose first element names it; times are
microseconds since the scenario's start.

========= ===========================================================================================================
begin     {scenario, title_zh, title_en, seed, start (µs since the epoch), lasts_s, enable, floor, assets (a document)}
mqtt      at, topic, payload
hj212     at, telegram
modbus    at, device, registers from address 0 on (big-endian words), error or null
act       {act, cause, asset, zh, en, since, until, scope}
due       {asset, rule, level, since, due, delay, interval}: by ``due`` this alarm must be there
hazard    {asset, rule, since, until}: in this time this alarm may be there
now       at: so far has the scenario come
end       at
========= ===========================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import msgspec

from simulators.city import asset_document, build_city, ports_from
from simulators.devices import HJ212
from simulators.messages import Message, Note, Poll
from simulators.scenario import Scenario
from simulators.simulation import Done, Happening, Simulation
from simulators.truth import Expected

NOW_EVERY_S = 60.0
FLUSH_BYTES = 1 << 16


def stream(scenario: Scenario, seed: int | None, assets: int | None, out: BinaryIO) -> None:
    """Play it. Raises BrokenPipeError when nobody listens any more."""
    played = scenario.seed if seed is None else seed
    city = build_city(played, assets or scenario.assets, scenario.city_intervals)
    writer = _Writer(out)
    ports = ports_from(15020, city.modbus_devices)  # nobody connects: addresses must only be different
    writer.write(
        "begin",
        {
            "scenario": scenario.scenario, "title_zh": scenario.title.zh, "title_en": scenario.title.en, "seed": played,
            "start": _us(scenario.start.timestamp()), "lasts_s": scenario.lasts, "enable": list(scenario.enable),
            "floor": dict(scenario.floor), "assets": asset_document(city, ports),
        },
    )  # fmt: skip
    with Simulation(scenario, city, played, polls=True) as simulation:
        at = 0.0
        while at < scenario.lasts:
            at = min(scenario.lasts, at + NOW_EVERY_S)
            writer.happened(simulation.until(at))
            writer.write("now", _us(at))
        writer.happened(simulation.ends())
    writer.write("end", _us(scenario.lasts))
    writer.flush()


def record(happening: Happening) -> tuple[object, ...] | None:
    """The record of one happening; None for what is for people only."""
    match happening:
        case Message(topic=topic) if topic == HJ212:
            return "hj212", _us(happening.at), happening.payload
        case Message():
            return "mqtt", _us(happening.at), happening.topic, happening.payload
        case Poll():
            return "modbus", _us(happening.at), happening.device, happening.words, happening.error
        case Note():
            return None
        case Done():
            return "act", {
                "act": happening.act, "cause": happening.cause, "asset": happening.asset, "zh": happening.zh,
                "en": happening.en, "since": _us(happening.since),
                "until": None if happening.until is None else _us(happening.until), "scope": list(happening.scope),
            }  # fmt: skip
        case Expected():
            return "due", {
                "asset": happening.asset, "rule": happening.rule, "level": happening.level,
                "since": _us(happening.since), "due": _us(happening.due), "delay": _us(happening.delay),
                "interval": _us(happening.interval),
            }  # fmt: skip
        case _:
            until = None if happening.until is None else _us(happening.until)
            return "hazard", {
                "asset": happening.asset, "rule": happening.rule, "since": _us(happening.since), "until": until,
            }  # fmt: skip


class _Writer:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._encode = msgspec.msgpack.Encoder().encode
        self._buffer = bytearray()

    def happened(self, happenings: Iterable[Happening]) -> None:
        for happening in happenings:
            found = record(happening)
            if found is not None:
                self.write(*found)

    def write(self, *what: object) -> None:
        packed = self._encode(what)
        self._buffer += len(packed).to_bytes(4, "big") + packed
        if len(self._buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        self._out.write(self._buffer)
        self._out.flush()
        self._buffer.clear()


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
