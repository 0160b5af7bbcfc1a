"""Milesight UC300: how long a Modbus channel is depends on its type; kept data come by a mask of channels."""

from __future__ import annotations

import math
import struct
from typing import Any

from gateway.codec import Fault, Refused, Sample

# Behind these heads stand so many bytes that are no measurement: versions, serial number, class, status, reset.
ABOUT_ITSELF = {0x01: 1, 0x09: 2, 0x0A: 2, 0x0B: 1, 0x0F: 1, 0x16: 8, 0xFE: 1, 0xFF: 2}
# Of a Modbus channel's type: struct format without and with sign, where it lies in its field, how long the field is.
UNSIGNED = {0: "?", 1: "B", 2: "<H", 3: "<H", 4: "<I", 6: "<I", 8: "<H", 10: "<H", 9: "<H", 11: "<H", 5: "<f", 7: "<f"}
SIGNED = {1: "b", 2: "<h", 3: "<h", 4: "<i", 6: "<i", 8: "<h", 10: "<h", 9: "<h", 11: "<h"}
HIGH_WORD = (9, 11)
LONG = (4, 5, 6, 7, 8, 9, 10, 11)


def decode(data: bytes, fport: int | None) -> list[Sample]:
    now = Sample({})
    samples = [now]
    at = 0
    while at + 2 <= len(data):
        channel, kind = data[at], data[at + 1]
        at += 2
        if channel == 0xFF and kind == 0x19:
            number, declared = take(data, at, 3)[0], data[at + 2]
            at += 3
            size = 4 if declared & 0x7F in LONG else 2 if declared & 0x7F in (2, 3) else 1
            now.values[f"modbus_chn_{number + 1}"] = modbus(declared, take(data, at, size))
            at += size
        elif channel == 0xFF and kind == 0x15:
            now.values[f"modbus_chn_{take(data, at, 1)[0] + 1}"] = Fault("the converter could not read it")
            at += 1
        elif channel == 0xFF and kind in ABOUT_ITSELF:
            at += len(take(data, at, ABOUT_ITSELF[kind]))
        elif 0x03 <= channel <= 0x06 and kind == 0x00:
            now.values[f"gpio_input_{channel - 2}"] = bool(take(data, at, 1)[0])
            at += 1
        elif 0x03 <= channel <= 0x06 and kind == 0xC8:
            now.values[f"gpio_counter_{channel - 2}"] = unpack("<I", take(data, at, 4))
            at += 4
        elif channel in (0x07, 0x08) and kind == 0x01:
            now.values[f"gpio_output_{channel - 6}"] = bool(take(data, at, 1)[0])
            at += 1
        elif channel in (0x09, 0x0A) and kind == 0x67:
            now.values[f"pt100_{channel - 8}"] = unpack("<h", take(data, at, 2)) / 10
            at += 2
        elif 0x0B <= channel <= 0x0E and kind == 0x02:
            now.values[analog(channel)] = unpack("<I", take(data, at, 4)) / 100
            at += 4
        elif 0x09 <= channel <= 0x0E and kind == 0xE2:  # newest, greatest, least, mean
            name = f"pt100_{channel - 8}" if channel < 0x0B else analog(channel)
            now.values[name] = half(take(data, at, 8)[:2])
            at += 8
        elif channel == 0x20 and kind == 0xDD:
            at = kept(data, at, samples)
        else:
            now.extra = (f"channel {channel:02X} {kind:02X}",)
            break
    if not now.values and not now.extra and len(samples) > 1:
        samples.pop(0)
    return samples


def kept(data: bytes, at: int, samples: list[Sample]) -> int:
    """Modbus channels kept while the network was away: time, mask of channels, a type and four bytes for each."""
    time, mask = struct.unpack("<II", take(data, at, 8))
    at += 8
    sample = Sample({}, time, historical=True)
    for number in range(32):
        if mask >> number & 1:
            part = take(data, at, 5)
            sample.values[f"modbus_chn_{number + 1}"] = modbus(part[0], part[1:])
            at += 5
    samples.append(sample)
    return at


def modbus(declared: int, field: bytes) -> Any:
    kind, signed = declared & 0x7F, bool(declared & 0x80)
    form = (SIGNED.get(kind) if signed else None) or UNSIGNED.get(kind)
    if form is None:
        raise Refused("bad_payload", f"a Modbus channel of the unknown type {kind}")
    return unpack(form, field[2:] if kind in HIGH_WORD else field)


def unpack(form: str, field: bytes) -> Any:
    value = struct.unpack_from(form, field)[0]
    if isinstance(value, bool):
        return int(value)  # a coil beside registers: all channels are numbers
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else Fault("not a number")
    return value


def half(field: bytes) -> Any:
    value = struct.unpack("<e", field)[0]
    return float(f"{value:.4g}") if math.isfinite(value) else Fault("not a number")


def analog(channel: int) -> str:
    return f"adc_{channel - 0x0A}" if channel < 0x0D else f"adv_{channel - 0x0C}"


def take(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) < size:
        raise Refused("bad_payload", f"truncated: {len(part)} of {size} bytes at {at}")
    return part
