"""What decoding one frame costs, from its bytes to its readings: JSON of a lamp, Milesight's TLV, a Modbus cycle.

Times are of the process, the best of several rounds: what other processes take from the core is not ours.

    python -m bench.decode
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Sequence

import msgspec

from gateway.config.profiles import load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.decode import Decoder
from gateway.core.model import SECOND, Asset, Device, Frame, FrameKind, Micros, ModbusCycle, ModbusRead
from gateway.core.registers import plan_reads
from gateway.core.registry import Registry

START: Micros = 1_753_000_000 * SECOND
DEVICES = 1_000
ROUNDS = 7
FRAMES = 20_000

TARGETS = {"json_us": "<= 4", "milesight_us": "<= 12"}


def run(frames: int = FRAMES) -> dict[str, float]:
    """Figures in µs a frame; about ten seconds."""
    profiles = load_profiles(read_tree(shipped("device_profiles"), *PROFILE_FILES))
    registry = Registry()
    registry.upsert(
        [
            *(Asset(f"lamp-{n}", "lamp") for n in range(DEVICES)),
            *(Asset(f"pipe-{n}", "pipe", attributes={"mount_height": 5.0}) for n in range(DEVICES)),
            *(Asset(f"cover-{n}", "manhole") for n in range(DEVICES)),
            *(Asset(f"feeder-{n}", "feeder") for n in range(DEVICES)),
        ],
        [
            *(Device(f"lc-{n}", f"lamp-{n}", "generic/json-lamp") for n in range(DEVICES)),
            *(Device(f"gauge-{n}", f"pipe-{n}", "milesight/em500-udl") for n in range(DEVICES)),
            *(Device(f"tilt-{n}", f"cover-{n}", "milesight/em320-tilt") for n in range(DEVICES)),
            *(Device(f"meter-{n}", f"feeder-{n}", "eastron/sdm630") for n in range(DEVICES)),
        ],
    )
    decoder = Decoder(registry, profiles)
    cycle = ModbusCycle(
        [
            ModbusRead(r.function_code, r.address, [0x4366, 0x3333] * (r.count // 2))
            for r in plan_reads(profiles["eastron/sdm630"])
        ]
    )
    figures: dict[str, float] = {}
    for name, made in {
        "json": [_lamp(n, frames) for n in range(frames)],
        "milesight_with_level": [_gauge(n) for n in range(frames)],
        "milesight": [_cover(n) for n in range(frames)],
        "modbus_19_points": [_meter(n, msgspec.msgpack.encode(cycle)) for n in range(frames)],
    }.items():
        figures[f"{name}_us"] = round(min(_round(decoder, made) for _ in range(ROUNDS)) / frames * 1e6, 2)
    return figures


def _round(decoder: Decoder, frames: Sequence[Frame]) -> float:
    for frame in frames[:DEVICES]:
        assert decoder.decode(frame).rejection is None
    gc.collect()
    gc.freeze()
    began = time.process_time()
    for frame in frames:
        decoder.decode(frame)
    took = time.process_time() - began
    gc.unfreeze()
    return took


def _lamp(n: int, frames: int) -> Frame:
    """Time, number and three values, as the load generator sends them."""
    document = {
        "ts": (START + n * 50) // 1000,
        "seq": n,
        "values": {"power": 95.0 + n / frames, "voltage": 229.1, "dim": 100},
    }
    topic = f"citywatch/v1/lamp/lc-{n % DEVICES}/telemetry"
    return Frame(FrameKind.MQTT, "bench", topic, json.dumps(document).encode(), START + n * 50 + 20_000)


def _gauge(n: int) -> Frame:
    """Battery and distance; the level follows from the asset's mount height."""
    data = bytes.fromhex("0175640382") + (n % 3_000).to_bytes(2, "little")
    return Frame(FrameKind.MQTT, "bench", f"citywatch/v1/pipe/gauge-{n % DEVICES}/telemetry", data, START + n * 50)


def _cover(n: int) -> Frame:
    """Battery and three angles with their threshold bits."""
    data = bytes.fromhex("01753C03D4") + ((n % 100) * 2).to_bytes(2, "little") + bytes.fromhex("DF1B302A")
    topic = f"citywatch/v1/manhole/tilt-{n % DEVICES}/telemetry"
    return Frame(FrameKind.MQTT, "bench", topic, data, START + n * 50)


def _meter(n: int, payload: bytes) -> Frame:
    return Frame(FrameKind.MODBUS, "bench", f"meter-{n % DEVICES}", payload, START + n * 50)


if __name__ == "__main__":
    print(json.dumps(run()))
