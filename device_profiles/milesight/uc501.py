"""Milesight UC501: how long a Modbus channel is depends on its type; channels are numbered from 7 on the air."""

from __future__ import annotations

import math
import struct
from typing import Any

from gateway.codec import Fault, Refused, Sample

ABOUT_ITSELF = {0x01: 1, 0x09: 2, 0x0A: 2, 0x0B: 1, 0x0F: 1, 0x14: 1, 0x16: 8, 0xFE: 1, 0xFF: 2}
FORMS = {0: "B", 1: "B", 2: "<H", 3: "<H", 4: "<I", 5: "<f", 6: "<I", 7: "<f"}
FIRST = 7


def decode(data: bytes, fport: int | None) -> list[Sample]:
    now = Sample({})
    samples = [now]
    at = 0
    while at + 2 <= len(data):
        channel, kind = data[at], data[at + 1]
        at += 2
        if channel in (0xFF, 0x80) and kind == 0x0E:  # 0x80: with what raised the alarm behind it
            name, declared = number(take(data, at, 2)[0]), data[at + 1] & 7
            size = struct.calcsize(FORMS[declared])
            now.values[name] = unpack(declared, take(data, at + 2, size))
            at += 2 + size
            if channel == 0x80:
                now.values[f"{name}_alarm"] = take(data, at, 1)[0]
                at += 1
        elif channel == 0xFF and kind == 0x15:
            now.values[number(take(data, at, 1)[0])] = Fault("the converter could not read it")
            at += 1
        elif channel == 0xFF and kind in ABOUT_ITSELF:
            at += len(take(data, at, ABOUT_ITSELF[kind]))
        elif channel == 0x01 and kind == 0x75:
            now.values["battery"] = take(data, at, 1)[0]
            at += 1
        elif channel in (0x03, 0x04) and kind in (0x00, 0x01):
            now.values[f"gpio_{'output' if kind else 'input'}_{channel - 2}"] = bool(take(data, at, 1)[0])
            at += 1
        elif channel in (0x03, 0x04) and kind == 0xC8:
            now.values[f"gpio_counter_{channel - 2}"] = struct.unpack("<I", take(data, at, 4))[0]
            at += 4
        elif channel in (0x05, 0x06, 0x85, 0x86) and kind in (0x02, 0xE2):  # newest, least, greatest, mean
            part = take(data, at, 8 + (channel > 0x80))
            value = struct.unpack_from("<h", part)[0] / 1000 if kind == 0x02 else struct.unpack_from("<e", part)[0]
            shown = float(f"{value:.4g}") if math.isfinite(value) else Fault("not a number")
            now.values[f"analog_{(channel & 0x7F) - 4}"] = shown
            at += len(part)
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
    time, mask = struct.unpack("<IH", take(data, at, 6))
    at += 6
    sample = Sample({}, time, historical=True)
    for index in range(16):
        if mask >> index & 1:
            part = take(data, at, 5)
            kind = part[0] & 7
            sample.values[f"modbus_chn_{index + 1}"] = unpack(kind if kind in (5, 7) else 4, part[1:])
            at += 5
    samples.append(sample)
    return at


def number(on_air: int) -> str:
    if not FIRST <= on_air < FIRST + 16:
        raise Refused("bad_payload", f"there is no Modbus channel {on_air}")
    return f"modbus_chn_{on_air - FIRST + 1}"


def unpack(kind: int, field: bytes) -> Any:
    value = struct.unpack(FORMS[kind], field)[0]
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else Fault("not a number")
    return value


def take(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) < size:
        raise Refused("bad_payload", f"truncated: {len(part)} of {size} bytes at {at}")
    return part
