"""A made-up journal: one evening of a very small city as batches of frames, in everything a journal can hold.

Lamps, covers, pipes, a pump station, a dust station, a Sparkplug gauge and a counter that wraps; good, late, doubled,
reordered and broken messages, commands, deadlines that only a TICK brings, a change of rules, a new asset, two hours
without power, and a restart after them.
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.config.bundle import Bundle, compile_bundle, read_bundle
from gateway.config.settings import Settings
from gateway.core.assets_json import to_json
from gateway.core.hj212 import wrap
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Asset,
    Blind,
    Command,
    CommandName,
    Device,
    Frame,
    FrameKind,
    Micros,
    ModbusCycle,
    ModbusRead,
    Reading,
    Replay,
    Start,
)
from gateway.core.processor import Configuration, Outcome, Processor

NOON: Micros = 1_753_000_000 * SECOND

ASSETS = (
    Asset("feeder-1", "feeder"),
    Asset("lamp-1", "lamp", links={"feeder": "feeder-1"}, attributes={"rated_power": 100.0}),
    Asset("lamp-2", "lamp", links={"feeder": "feeder-1"}, attributes={"rated_power": 100.0}),
    Asset("cover-1", "manhole"),
    Asset("cover-2", "manhole"),
    Asset("pipe-1", "pipe", attributes={"diameter": 1.0, "ground": 4.0}),
    Asset("pump-1", "pump"),
    Asset("site-1", "site"),
    Asset("pipe-2", "pipe"),
    Asset("lamp-3", "lamp"),
)
DEVICES = (
    Device("lamp-1", "lamp-1", "generic/json-lamp"),
    Device("lamp-2", "lamp-2", "generic/json-lamp"),
    Device("cover-1", "cover-1", "generic/json-manhole"),
    Device("cover-2", "cover-2", "generic/json-manhole"),
    Device("pipe-1", "pipe-1", "generic/json-pipe"),
    Device("pump-1", "pump-1", "generic/pump-station-3p", "127.0.0.1:502/1"),
    Device("dust-1", "site-1", "generic/hj212-dust", "S1"),
    Device("gauge-2", "pipe-2", "generic/json-pipe", "E.gauge"),
    Device("volc-3", "lamp-3", "sls/volc2180"),
)
LATER = Asset("cover-3", "manhole"), Device("cover-3", "cover-3", "generic/json-manhole")

ROUTES = """
people:
  - {person: li, name: 李强, channels: [{receiver: phone, to: "1"}]}
  - {person: chief, name: 王刚, channels: [{receiver: phone, to: "2"}]}
route:
  route: everybody
  steps:
    - {tell: [person:li]}
    - {after: 5m, tell: [person:chief]}
  group: {by: [kind], wait: 10s, interval: 1m}
  repeat: {every: 3m, times: 2}
"""


@functools.cache
def bundles() -> tuple[Bundle, Bundle]:
    """The shipped files, and the same with another on-delay of manhole-tilted; both tell people."""
    shipped = read_bundle(Settings())
    text = shipped.rules["manhole.yaml"]
    changed = text.replace("on_delay: 30s", "on_delay: 20s", 1)
    assert changed != text
    told = {"routes.yaml": ROUTES}
    later = {"routes.yaml": ROUTES.replace("after: 5m", "after: 4m")}
    return (
        Bundle(shipped.profiles, shipped.rules, routes=told),
        Bundle(shipped.profiles, {**shipped.rules, "manhole.yaml": changed}, routes=later),
    )


@functools.cache
def configurations() -> dict[str, Configuration]:
    """Both, compiled, by hash."""
    return {bundle.hash: compile_bundle(bundle) for bundle in bundles()}


def mqtt(asset: str, values: dict[str, Any] | bytes, at: Micros, *, kind: str = "manhole", **more: Any) -> Frame:
    """A telemetry message of the device that bears its asset's name; ``seq`` and ``ts`` (µs) if they are given."""
    retained = bool(more.pop("retained", False))
    if isinstance(values, bytes):
        payload = values
    else:
        ts = more.pop("ts", None)
        document = {**({"ts": ts // 1000} if ts is not None else {}), **more, "values": values}
        payload = json.dumps(document).encode()
    return Frame(FrameKind.MQTT, "main", f"citywatch/v1/{kind}/{asset}/telemetry", payload, at, retained)


def control(kind: FrameKind, content: object, at: Micros, address: str = "") -> Frame:
    payload = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Frame(kind, "gateway", address, payload, at)


def command(name: CommandName, alarm_id: str, rev: int | None, at: Micros, id_: str, **more: Any) -> Frame:
    asked = Command(id_, name, alarm_id, "li", "api", rev, **more)
    return Frame(FrameKind.COMMAND, "api", id_, msgspec.msgpack.encode(asked), at)


def modbus(at: Micros, level: int, error: str | None = None) -> Frame:
    """One cycle of the pump station: every register ``level``, or no answer."""
    from gateway.core.registers import plan_reads

    profile = next(iter(configurations().values())).profiles["generic/pump-station-3p"]
    reads = [
        ModbusRead(
            read.function_code,
            read.address,
            [] if error else [level & 1 if read.function_code < 3 else level] * read.count,
            error,
            read.count,
        )
        for read in plan_reads(profile)
    ]
    return Frame(FrameKind.MODBUS, "modbus", "pump-1", msgspec.msgpack.encode(ModbusCycle(reads)), at)


def again(frame: Frame, position: int, index: int) -> Any:
    """A frame that was rejected there, offered again."""
    replay = msgspec.msgpack.encode(Replay(frame, position, index))
    return lambda at: Frame(FrameKind.REPLAY, "replay", f"{position}/{index}/1", replay, at, principal="li")


def dust(pm25: int) -> Any:
    """A telegram of the dust station, made when it is received."""

    def make(at: Micros) -> Frame:
        moment = datetime.fromtimestamp(at // SECOND + 8 * 3600, UTC).strftime("%Y%m%d%H%M%S")
        body = f"ST=22;CN=2011;PW=1;MN=S1;Flag=5;CP=&&DataTime={moment};a34004-Rtd={pm25},a34004-Flag=N&&"
        return Frame(FrameKind.HJ212, "hj212", "S1", wrap(body), at)

    return make


def metered(watt_hours: int) -> Any:
    """A reply of lamp 3's controller, whose energy counter has 24 bits."""
    data = bytes.fromhex("58c8004c") + watt_hours.to_bytes(3, "big") + bytes.fromhex("03b9015f00037848")
    return lambda at: Frame(FrameKind.MQTT, "main", "citywatch/v1/lamp/volc-3/telemetry", data, at)


# Sparkplug: a birth that calls the level 1 (a double of 0.5), and a message that says only the alias.
_HALF = b"\x69" + struct.pack("<d", 0.5)
BIRTH = b"\x12\x14" + b"\x0a\x05level\x10\x01\x20\x0a" + _HALF + b"\x18\x01"
ALIASED = b"\x12\x0b" + b"\x10\x01" + _HALF + b"\x18\x02"


def sparkplug(what: str, payload: bytes) -> Any:
    return lambda at: Frame(FrameKind.MQTT, "main", f"spBv1.0/G/{what}", payload, at)


@functools.cache
def evening() -> tuple[tuple[Frame, ...], ...]:
    """The journal: position n is ``evening()[n - 1]``."""
    first, second = (bundle.hash for bundle in bundles())
    t = NOON
    batches: list[tuple[Frame, ...]] = [
        (control(FrameKind.START, Start(True), t),),
        (control(FrameKind.CONFIG, b"", t + 1, first),),
        (control(FrameKind.ASSETS, to_json(ASSETS, DEVICES), t + 2),),
        (control(FrameKind.SYSTEM, {"disk_full": False, "disk_used": 41.0}, t + 3),),
    ]
    sequence = 0

    def step(seconds: float, *frames: Any) -> None:
        nonlocal t
        t += round(seconds * SECOND)
        batches.append(tuple(make(t + i) for i, make in enumerate(frames)))

    def said(
        asset: str, values: dict[str, Any], *, kind: str = "manhole", ago: Micros = 0, seq: int | None = None
    ) -> Any:
        nonlocal sequence
        sequence += 1
        number = sequence if seq is None else seq
        return lambda at: mqtt(asset, values, at, kind=kind, seq=number, ts=at // SECOND * SECOND - ago)

    def raw(asset: str, payload: bytes, kind: str = "manhole", **more: Any) -> Any:
        return lambda at: mqtt(asset, payload, at, kind=kind, **more)

    burning = {"on": True, "cmd_on": True, "dim": 100, "power": 95.0, "voltage": 221.0}
    dark = {**burning, "power": 0.5}
    step(
        5,
        said("lamp-1", burning, kind="lamp"),
        said("lamp-2", burning, kind="lamp"),
        said("pipe-1", {"level": 0.3}, kind="pipe"),
    )
    early = mqtt("cover-3", b'{"tilt":4}', t + 5 * SECOND)  # of a cover that nobody has registered yet
    broken = mqtt("cover-1", b"{not json", t + 5 * SECOND)
    step(
        5,
        said("cover-1", {"tilt": 2.0, "battery": 88}),
        raw("cover-9", b'{"tilt":1}'),
        lambda at: msgspec.structs.replace(broken, received_at=at),
        lambda at: msgspec.structs.replace(early, received_at=at),
    )
    twice = said("cover-2", {"tilt": 3.0}, seq=700)
    stamped = twice(t)
    step(
        5,
        lambda at: msgspec.structs.replace(stamped, received_at=at),
        lambda at: msgspec.structs.replace(stamped, received_at=at),
    )
    step(
        5,
        dust(35),
        metered(16_777_000),
        sparkplug("NBIRTH/E", b"\x18\x00"),
        sparkplug("DBIRTH/E/gauge", BIRTH),
    )
    step(5, dust(37), metered(500), sparkplug("DDATA/E/gauge", ALIASED))
    step(5, lambda at: modbus(at, 1), lambda at: modbus(at, 1, "no answer in 3 s"))
    step(5, said("cover-1", {"tilt": 21.0}), said("lamp-1", dark, kind="lamp"))  # manhole-tilted and lamp-out pend
    step(31, lambda at: control(FrameKind.TICK, b"", at))  # … and the first is raised with no further message
    step(4, lambda at: command(CommandName.ACKNOWLEDGE, "cover-1/manhole-tilted", 99, at, "c-1"))  # a stale rev
    tilted = "cover-1/manhole-tilted"
    done = {"why": "turned it round", "arguments": {"cause_code": "loose"}}
    step(
        4,
        lambda at: command(CommandName.ACKNOWLEDGE, tilted, 1, at, "c-2"),
        lambda at: command(CommandName.DISPATCH, tilted, None, at, "c-4", arguments={"to": "crew-1"}),
        lambda at: command(CommandName.ACCEPT, tilted, None, at, "c-5"),
        lambda at: command(CommandName.DONE, tilted, None, at, "c-6", **done),
    )
    step(4, said("cover-2", {"tilt": 66.0, "cover": "open"}), raw("cover-2", b"", retained=True))
    step(9, said("cover-1", {"tilt": 30.0}, ago=20 * MINUTE))  # too late for a live alarm
    step(9, said("lamp-2", {"power": float(10**9)}, kind="lamp"), raw("lamp-2", b'{"power": NaN}', "lamp"))  # bad
    step(60, said("cover-1", {"tilt": 1.0}), lambda at: control(FrameKind.BLIND, Blind(at - 20 * SECOND), at))
    step(30, lambda at: control(FrameKind.CONFIG, b"", at, second))
    for_an_hour = {"why": "new frame", "arguments": {"work": "W-7", "seconds": 3600}}
    step(
        1,
        lambda at: control(FrameKind.ASSETS, to_json([LATER[0]], [LATER[1]]), at),
        lambda at: command(CommandName.MAINTENANCE, "lamp-2", None, at, "c-7", **for_an_hour),
    )
    step(9, said("cover-3", {"tilt": 17.0}), said("lamp-1", dark, kind="lamp"))  # 20 s until it is raised
    step(2 * HOUR / SECOND, lambda at: control(FrameKind.START, Start(False, "EIO"), at))  # we were away
    step(2, said("cover-3", {"tilt": 17.0}), said("lamp-1", dark, kind="lamp"))
    step(3, said("cover-2", {"tilt": 1.0, "cover": "closed"}))
    step(2, lambda at: command(CommandName.RESET, "cover-2/manhole-open", None, at, "c-3"))
    step(2, lambda at: command(CommandName.RESET, "cover-2/manhole-open", None, at, "c-3"))  # the same once more
    step(9, *(said("lamp-2", {**burning, "power": 90.0 + i}, kind="lamp") for i in range(5)))
    step(9, said("cover-3", {"tilt": 1.0}), again(early, 6, 3), again(early, 6, 3), again(broken, 6, 2))
    step(40, said("cover-3", {"tilt": 19.0}))  # raised again before anybody has acknowledged it
    step(400, lambda at: control(FrameKind.TICK, b"", at))
    return tuple(batches)


def replayed(
    batches: Iterable[tuple[int, Sequence[Frame]]], processor: Processor | None = None
) -> tuple[Processor, list[Outcome]]:
    """A processor (a new one by default) that was given ``batches``, and what each gave."""
    processor = processor or Processor(configurations())
    return processor, [processor.process(position, frames) for position, frames in batches]


def journal() -> list[tuple[int, tuple[Frame, ...]]]:
    return list(enumerate(evening(), 1))


def readings(outcomes: Iterable[Outcome]) -> list[Reading]:
    return [reading for outcome in outcomes for reading in outcome.readings]
