"""What a profile makes of one payload, as the JSON of ``citywatch decode`` (design/contracts.md, ``decode``)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.profiles import CASES, CODEC, load_profiles
from gateway.config.shipped import PROFILE_FILES, read_text, read_tree, shipped
from gateway.config.units import quantity
from gateway.config.yaml_source import did_you_mean
from gateway.core.decode import Decoder
from gateway.core.hj212 import wrap
from gateway.core.model import (
    Asset,
    Decoded,
    Device,
    Frame,
    FrameKind,
    Micros,
    ModbusCycle,
    ModbusRead,
    Reading,
)
from gateway.core.profile import Profile
from gateway.core.registry import Registry
from gateway.errors import ConfigError, Mistake

_STATION = re.compile(r"MN=([^;]{1,64})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def decode_report(
    profile_id: str,
    profiles: Mapping[str, Profile],
    *,
    hex: str | None = None,
    fport: int | None = None,
    json: str | None = None,
    modbus: Sequence[str] = (),
    hj212: str | None = None,
    topic: str | None = None,
    attributes: Mapping[str, str | float | bool] | None = None,
    received_at: Micros | None = None,
) -> dict[str, Any]:
    """Exactly one of ``hex``, ``json``, ``modbus`` ("4:0:43663333" each) and ``hj212`` is the payload. The device is
    made up, or named by ``topic``. ``received_at``: the present by default. Raises ConfigError for wrong
    arguments only."""
    profile = profiles.get(profile_id)
    if profile is None:
        message = f"no profile `{profile_id}`{did_you_mean(profile_id, profiles)}"
        raise ConfigError([Mistake("decode", None, "", message)])
    decoded = decode_one(
        profile, hex=hex, fport=fport, json=json, modbus=modbus, hj212=hj212, topic=topic, attributes=attributes,
        received_at=received_at,
    )  # fmt: skip
    readings = decoded.readings
    instants = {reading.source_time for reading in readings}
    newest = max((r for r in readings if r.has_source_time), key=lambda r: r.source_time, default=None)
    return {
        "profile": profile.id,
        "device_time": iso(newest.source_time) if newest is not None else None,
        "historical": bool(readings) and all(reading.historical for reading in readings),
        "readings": [_shown(reading, profile, len(instants) > 1) for reading in readings],
        "error": f"{decoded.rejection.code}: {decoded.rejection.reason}" if decoded.rejection is not None else None,
        **({"extra_points": list(decoded.extra_points)} if decoded.extra_points else {}),
    }


def decode_one(
    profile: Profile,
    *,
    hex: str | None = None,
    fport: int | None = None,
    json: str | bytes | None = None,
    modbus: Sequence[str] = (),
    hj212: str | None = None,
    topic: str | None = None,
    attributes: Mapping[str, str | float | bool] | None = None,
    received_at: Micros | None = None,
) -> Decoded:
    """Decode one payload as the gateway would, for a device made up for it. Raises ConfigError for wrong arguments."""
    if (hex is not None) + (json is not None) + bool(modbus) + (hj212 is not None) != 1:
        raise ConfigError([Mistake("decode", None, "", "give one of --hex, --json, --modbus and --hj212")])
    given = {**({"fport": float(fport)} if fport is not None else {}), **(attributes or {})}
    kind, name = profile.kind, "device"
    if topic is not None and len(parts := topic.split("/")) == 5:
        kind, name = parts[2], parts[3]
    if hj212 is not None and (station := _STATION.search(hj212)) is not None:
        name = station[1]
    registry = Registry()
    kind = kind if kind in profile.kinds else profile.kind
    registry.upsert([Asset("asset", kind)], [Device(name, "asset", profile.id, name, attributes=given)])
    now = received_at if received_at is not None else time.time_ns() // 1000
    if hj212 is not None:
        telegram = wrap(hj212) if not hj212.startswith("##") else f"{hj212.strip()}\r\n".encode()
        frame = Frame(FrameKind.HJ212, "decode", name, telegram, now)
    elif modbus:
        cycle = ModbusCycle([parse_read(text) for text in modbus])
        frame = Frame(FrameKind.MODBUS, "decode", name, msgspec.msgpack.encode(cycle), now)
    else:
        payload = bytes_of(hex) if hex is not None else json.encode() if isinstance(json, str) else json or b""
        frame = Frame(FrameKind.MQTT, "decode", topic or f"citywatch/v1/{kind}/{name}/telemetry", payload, now)
    return Decoder(registry, {profile.id: profile}).decode(frame)


def bytes_of(text: str) -> bytes:
    """``"01 75 64"`` or ``"017564"`` → bytes. Raises ConfigError."""
    try:
        return bytes.fromhex("".join(text.split()))
    except ValueError:
        raise ConfigError([Mistake("decode", None, "hex", f"not hexadecimal: {text[:40]!r}")]) from None


def parse_read(text: str) -> ModbusRead:
    """``"4:0:43663333"`` → the answer to FC 4 from address 0. For FC 1 and 2 the bits are packed as on the wire, least
    significant first. ``"4:0+2:!timeout"`` is a read that failed. Raises ConfigError."""
    try:
        code, address, words = text.split(":", 2)
        function = int(code)
        start, _, asked = address.partition("+")
        if words.startswith("!"):
            return ModbusRead(function, int(start), [], words[1:] or "no answer", int(asked or 125))
        data = bytes.fromhex("".join(words.split()))
        if function in (1, 2):
            bits = [byte >> bit & 1 for byte in data for bit in range(8)]
            return ModbusRead(function, int(start), bits, None, len(bits))
        if function not in (3, 4) or len(data) % 2 or not data:
            raise ValueError
        values = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
        return ModbusRead(function, int(start), values, None, int(asked or len(values)))
    except ValueError:
        message = f"not FC:ADDRESS:HEXWORDS: {text[:60]!r} (write 4:0:43663333)"
        raise ConfigError([Mistake("decode", None, "modbus", message)]) from None


def parse_attributes(pairs: Sequence[str]) -> dict[str, str | float | bool]:
    """``["mount_height=3.2", "baseline_x=0"]`` → attributes; numbers where they are numbers. Raises ConfigError."""
    found: dict[str, str | float | bool] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise ConfigError([Mistake("decode", None, "attr", f"not NAME=VALUE: {pair[:60]!r}")])
        try:
            found[name.strip()] = quantity(text.strip(), "")
        except ValueError:
            found[name.strip()] = {"true": True, "false": False}.get(text.strip(), text.strip())
    return found


def profile_and_library(name: str) -> tuple[str, dict[str, Profile]]:
    """A profile id, or the path of a profile file → its id, and all shipped profiles with it. Raises ConfigError."""
    files = read_tree(shipped("device_profiles"), *PROFILE_FILES)
    if name.endswith(".yaml"):
        path = Path(name)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError([Mistake(name, None, "", f"cannot be read: {error}")]) from error
        beside = {other.as_posix(): read_text(other) for other in sorted(path.parent.glob(f"*{CODEC}"))}
        profiles = load_profiles({path.as_posix(): text, **beside})
        return path.as_posix().removesuffix(".yaml"), profiles
    if f"{name}.yaml" in files:
        codecs = {file: text for file, text in files.items() if file.endswith(CODEC)}
        return name, load_profiles({f"{name}.yaml": files[f"{name}.yaml"], **codecs})
    known = [file.removesuffix(".yaml") for file in files if not file.endswith((CASES, CODEC))]
    raise ConfigError([Mistake("decode", None, "", f"no profile `{name}`{did_you_mean(name, known)}")])


def iso(micros: Micros) -> str:
    """ISO 8601 in UTC, as short as it is exact."""
    moment = _EPOCH + timedelta(microseconds=micros)
    digits = "seconds" if micros % 1_000_000 == 0 else "milliseconds" if micros % 1000 == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=digits) + "Z"


def _shown(reading: Reading, profile: Profile, own_time: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "point": reading.point,
        "value": reading.value,
        "unit": profile.unit(reading.point),
        "quality": str(reading.quality),
    }
    if reading.reason is not None:
        shown["reason"] = reading.reason
    if own_time:
        shown["device_time"] = iso(reading.source_time) if reading.has_source_time else None
        shown["historical"] = reading.historical
    return shown
