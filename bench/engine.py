"""The engine alone: readings a second on one core with the shipped rules, by number of assets, and bytes a device."""

from __future__ import annotations

import gc
import time
import tracemalloc

from gateway.config.rules import load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.core.engine import Engine
from gateway.core.model import MINUTE, SECOND, Asset, Decoded, Device, Event, Micros, Quality, Reading
from gateway.core.registry import Registry
from gateway.core.rule import RuleSet

START: Micros = 1_750_000_000 * SECOND
VALUES: dict[str, dict[str, float | bool]] = {
    "lamp": {"cmd_on": True, "dim": 100.0, "power": 95.0, "voltage": 221.0},
    "pipe": {"level": 0.4, "fill": 40.0, "freeboard": 1.6, "flow": 12.0},
    "road": {"depth": 0.2, "battery": 90.0, "rssi": -70.0, "battery_voltage": 3.6},
    "manhole": {"tilt": 1.5, "battery": 90.0, "rssi": -70.0, "snr": 8.0},
}
KINDS = ("lamp", "lamp", "pipe", "road", "manhole")


def shipped_rules() -> RuleSet:
    return load_rules(
        {name: text for name, text in read_tree(shipped("rules")).items() if not name.startswith("tests/")}
    )


def city(assets: int) -> tuple[list[Asset], list[Device]]:
    """``assets`` lamps, pipes, roads and covers, and a feeder for each forty of them."""
    street = [Asset(f"F{n}", "feeder") for n in range(assets // 40 + 1)]
    devices: list[Device] = []
    for n in range(assets):
        kind = KINDS[n % len(KINDS)]
        links = {"feeder": f"F{n // 40}"} if kind == "lamp" else {}
        attributes: dict[str, str | float | bool] = {"rated_power": 100.0} if kind == "lamp" else {}
        street.append(Asset(f"a{n:06}", kind, links=links, attributes=attributes))
        devices.append(Device(f"a{n:06}", f"a{n:06}", f"generic/json-{kind}"))
    return street, devices


def engine_of(assets: int, rules: RuleSet) -> Engine:
    engine = Engine(Registry(), rules, lambda _: 15 * MINUTE)
    events: list[Event] = []
    engine.advance(START, events)
    street, devices = city(assets)
    engine.apply_assets(street, devices, START, events)
    return engine


def messages(assets: int, count: int, first: int = 0) -> list[Decoded]:
    """``count`` messages of four readings, one device after the other, one every 50 µs; their time is that of the
    frame less 20 ms."""
    made: list[Decoded] = []
    for i in range(first, first + count):
        n = i % assets
        name = f"a{n:06}"
        received = START + SECOND + i * 50
        readings = [
            Reading(name, point, value, Quality.GOOD, received - 20_000, received, name, None, False, i // assets)
            for point, value in VALUES[KINDS[n % len(KINDS)]].items()
        ]
        made.append(Decoded(name, readings))
    return made


def readings_per_second(assets: int, count: int, rules: RuleSet) -> float:
    engine = engine_of(assets, rules)
    events: list[Event] = []
    for decoded in messages(assets, assets):  # the first message of a device makes its points
        engine.advance(decoded.readings[0].received_at, events)
        engine.observe(decoded, events)
    batch = messages(assets, count, assets)
    gc.collect()
    gc.freeze()
    began = time.process_time()  # other processes share the cores of a bench; their turns are not our cost
    for decoded in batch:
        engine.advance(decoded.readings[0].received_at, events)
        engine.observe(decoded, events)
    took = time.process_time() - began
    gc.unfreeze()
    assert not events, events[:3]
    return count * 4 / took


def bytes_per_device(assets: int, rules: RuleSet) -> float:
    """Memory of assets, devices, points and watches in registry and engine, for four points a device."""
    warm = messages(assets, assets)
    gc.collect()
    tracemalloc.start()
    engine = engine_of(assets, rules)
    events: list[Event] = []
    for decoded in warm:
        engine.advance(decoded.readings[0].received_at, events)
        engine.observe(decoded, events)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / assets


def run() -> dict[str, float]:
    """Figures of ``citywatch bench engine``."""
    rules = shipped_rules()
    figures: dict[str, float] = {}
    for assets in (1_000, 10_000, 100_000):
        best = max(readings_per_second(assets, 60_000, rules) for _ in range(1 if assets == 100_000 else 2))
        figures[f"readings_per_second_{assets}"] = round(best)
    figures["slowdown_1000_to_100000"] = round(
        figures["readings_per_second_1000"] / figures["readings_per_second_100000"], 3
    )
    figures["bytes_per_device"] = round(bytes_per_device(10_000, rules))
    return figures


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:40} {value:>12,}")
