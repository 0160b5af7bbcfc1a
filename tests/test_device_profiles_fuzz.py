"""Every shipped profile against arbitrary bytes: no exception, no good value outside of what its profile declares.

Half a minute in CI (CITYWATCH_FUZZ_S says otherwise), a few seconds elsewhere. Half of the frames are noise, half are
the captured ones with some bytes changed, cut or doubled: these come further. Failures name profile, frame and seed.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator

import cbor2
import msgspec
import pytest

from gateway.config.decode_report import bytes_of
from gateway.config.profile_cases import CaseModel, load_cases
from gateway.config.profiles import CASES, load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.decode import Decoder
from gateway.core.hj212 import wrap
from gateway.core.model import Asset, Device, Frame, FrameKind, ModbusCycle, ModbusRead, Quality
from gateway.core.payload import MAX_BINARY
from gateway.core.profile import Profile, Transport, ValueType
from gateway.core.registers import plan_reads
from gateway.core.registry import Registry

FILES = read_tree(shipped("device_profiles"), *PROFILE_FILES)
PROFILES = load_profiles(FILES)
SECONDS = float(os.environ.get("CITYWATCH_FUZZ_S", "30" if os.environ.get("CI") else "6"))
NOW = 1_753_000_000_000_000
CODES = {"empty", "unknown_device", "too_large", "bad_payload", "unknown_points", "bad_time", "wrong_device"}
NUMBERS = (ValueType.NUMBER, ValueType.INTEGER)
TEXTS = (b"null", b"true", b"-1", b"1e300", b"NaN", b'"\\u0000"', b"[]", b"{}", b"1e-320", b"18446744073709551616")


def captured(profile_id: str) -> list[CaseModel]:
    file = f"{profile_id}{CASES}"
    return load_cases(file, FILES[file])


def frames(profile: Profile, draw: random.Random) -> Iterator[bytes]:
    """Payloads without end."""
    if profile.transport is Transport.MODBUS:
        yield from _cycles(profile, draw)
    if profile.transport is Transport.HJ212:
        yield from _telegrams(profile, draw)
    seeds = [payload for case in captured(profile.id) if (payload := _payload_of(case))]
    makers: list[Callable[[], bytes]] = [lambda: draw.randbytes(draw.randrange(0, 60))]
    if seeds:
        makers += [lambda: _changed(draw.choice(seeds), draw)] * 3
    if profile.transport is Transport.MQTT:
        makers.append(lambda: _spliced(draw.choice(seeds or [b'{"a": 1}']), draw))
        makers.append(lambda: cbor2.dumps(_document(profile, draw)))
        makers.append(lambda: msgspec.json.encode(_document(profile, draw)))
    while True:
        yield draw.choice(makers)()[:MAX_BINARY]


def _payload_of(case: CaseModel) -> bytes | None:
    if case.hex is not None:
        return bytes_of(case.hex)
    if case.json_ is None:
        return None
    return case.json_.encode() if isinstance(case.json_, str) else msgspec.json.encode(case.json_)


def _changed(data: bytes, draw: random.Random) -> bytes:
    """A few bytes other, a piece cut out or repeated."""
    found = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        if found:
            found[draw.randrange(len(found))] = draw.choice((0, 0xFF, 0x7F, 0x80, draw.randrange(256)))
    if found and draw.random() < 0.3:
        at = draw.randrange(len(found))
        found[at : at + draw.randrange(5)] = found[:5] if draw.random() < 0.5 else b""
    return bytes(found)


def _spliced(data: bytes, draw: random.Random) -> bytes:
    at = data.find(b":", draw.randrange(max(1, len(data))))
    end = min([place for sign in (b",", b"}") if (place := data.find(sign, at)) > 0] or [len(data)])
    return data[: at + 1] + draw.choice(TEXTS) + data[end:] if at >= 0 else data + draw.choice(TEXTS)


def _document(profile: Profile, draw: random.Random) -> dict[str, object]:
    values: tuple[object, ...] = (
        0,
        -1,
        1,
        2**63,
        -(2**63),
        1e300,
        -1e-300,
        True,
        False,
        None,
        "",
        "x" * 300,
        [1, 2],
        {},
    )
    return {point.source: draw.choice((*values, draw.uniform(-1e4, 1e4))) for point in profile.points}


def _telegrams(profile: Profile, draw: random.Random) -> Iterator[bytes]:
    """With the right checksum, nearly always: else nothing of them would be looked at."""
    bodies = [case.hj212 for case in captured(profile.id) if case.hj212 is not None and not case.hj212.startswith("##")]
    while True:
        body = _changed(draw.choice(bodies).encode(), draw).decode("utf-8", "replace")
        telegram = wrap(draw.choice((body, re.sub(r"MN=[^;]*", "MN=d", body))))
        yield telegram if draw.random() < 0.9 else _changed(telegram, draw)


def _cycles(profile: Profile, draw: random.Random) -> Iterator[bytes]:
    reads = plan_reads(profile)
    while True:
        answers = []
        for read in reads:
            count = read.count if draw.random() < 0.9 else draw.randrange(read.count + 2)
            top = 1 if read.function_code in (1, 2) else draw.choice((0xFFFF, 0xFFFF, 120, 0))
            error = "timeout" if draw.random() < 0.05 else None
            words = [draw.randrange(top + 1) for _ in range(count)] if error is None else []
            answers.append(ModbusRead(read.function_code, read.address, words, error, read.count))
        yield msgspec.msgpack.encode(ModbusCycle(answers))


def mounted(profile: Profile, draw: random.Random) -> tuple[Decoder, Callable[[bytes], Frame]]:
    """A decoder with one device of the profile, all of whose attributes are set to something plausible, or none."""
    attributes = (
        {name: draw.choice((0.0, 1.0, 2.5, 90.0)) for name in profile.attributes} if draw.random() < 0.8 else {}
    )
    registry = Registry()
    registry.upsert([Asset("a", profile.kind, attributes=dict(attributes))], [Device("d", "a", profile.id)])
    kinds = {Transport.MODBUS: FrameKind.MODBUS, Transport.HJ212: FrameKind.HJ212}
    kind = kinds.get(profile.transport, FrameKind.MQTT)
    address = "d" if kind is not FrameKind.MQTT else f"citywatch/v1/{profile.kind}/d/telemetry"
    return Decoder(registry, PROFILES), lambda payload: Frame(kind, "fuzz", address, payload, NOW)


@pytest.mark.parametrize("profile_id", sorted(PROFILES))
def test_any_bytes_are_readings_within_bounds_or_a_rejection(profile_id: str) -> None:
    profile = PROFILES[profile_id]
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    until = time.monotonic() + SECONDS / len(PROFILES)
    source = frames(profile, draw)
    while time.monotonic() < until:
        decoder, frame_of = mounted(profile, draw)
        for _ in range(50):
            payload = next(source)
            told = f"{profile_id} seed {seed} frame {payload.hex()}"
            decoded = decoder.decode(frame_of(payload))
            if decoded.rejection is not None:
                assert decoded.rejection.code in CODES, told
                assert decoded.rejection.reason, told
                assert not decoded.readings, told
            for reading in decoded.readings:
                point = profile.point(reading.point)
                assert point is not None, told
                if reading.quality is Quality.BAD:
                    assert reading.value is None, told
                    assert reading.reason, told
                elif point.type in NUMBERS:
                    assert type(reading.value) in (int, float), told
                    assert point.low <= reading.value <= point.high, f"{told}: {reading}"  # type: ignore[operator]
