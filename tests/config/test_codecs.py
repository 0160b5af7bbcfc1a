"""Codecs beside profiles: loaded from the configuration's text, told plainly when they cannot be."""

from __future__ import annotations

import pytest

from gateway.config.profiles import load_profiles
from gateway.core.decode import Decoder
from gateway.core.model import Asset, Device, Frame, FrameKind
from gateway.core.registry import Registry
from gateway.errors import ConfigError

PROFILE = """
title: {zh: 试验, en: Trial}
kind: pipe
transport: lorawan
expected_interval: 1m
payload: {format: codec, codec: trial.py, names: [depth, battery]}
points:
  level: {from: depth, unit: cm, range: [0, 10]}
  battery: {range: [0, 100]}
"""
CODEC = """
from gateway.codec import Fault, Refused, Sample

def decode(data, fport):
    if data[0] != 1:
        raise Refused("unknown_points", "not mine")
    return [Sample({"depth": data[1], "battery": Fault("no cell") if data[2] == 255 else data[2]})]
"""


def mistakes(profile: str = PROFILE, codec: str | None = CODEC) -> list[str]:
    files = {"town/trial.yaml": profile} | ({"town/trial.py": codec} if codec is not None else {})
    with pytest.raises(ConfigError) as error:
        load_profiles(files)
    return [str(mistake) for mistake in error.value.mistakes]


def test_a_codec_gives_raw_values_and_the_profile_makes_points_of_them() -> None:
    profiles = load_profiles({"town/trial.yaml": PROFILE, "town/trial.py": CODEC})
    registry = Registry()
    registry.upsert([Asset("p", "pipe")], [Device("d", "p", "town/trial")])
    decoder = Decoder(registry, profiles)

    def decode(data: bytes) -> object:
        decoded = decoder.decode(Frame(FrameKind.MQTT, "t", "citywatch/v1/pipe/d/telemetry", data, 1))
        if decoded.rejection is not None:
            return f"{decoded.rejection.code}: {decoded.rejection.reason}"
        return {
            reading.point: reading.value if reading.reason is None else reading.reason for reading in decoded.readings
        }

    assert decode(b"\x01\x64\x32") == {"level": 1.0, "battery": 50}
    assert decode(b"\x01\x64\xff") == {"level": 1.0, "battery": "no cell"}
    assert decode(b"\x02\x64\x32") == "unknown_points: not mine"
    assert decode(b"\x01\x64") == "bad_payload: IndexError: index out of range"


@pytest.mark.parametrize(
    ("codec", "said"),
    [
        (None, "there is no file town/trial.py"),
        ("def decode(", "town/trial.py: not Python"),
        ("x = 1", "has no function decode"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os\n" + CODEC, "a codec may import collections.abc, gateway.codec, math, struct, typing, not os"),
        ("def decode(data, fport):\n    from subprocess import run\n", "not subprocess"),
        ("from . import other\n" + CODEC, "a codec may import"),
    ],
)
def test_a_codec_that_cannot_be_used_is_a_mistake_of_its_profile(codec: str | None, said: str) -> None:
    [mistake] = mistakes(codec=codec)
    assert mistake.startswith("town/trial.yaml:6: payload.codec: ")
    assert said in mistake


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("codec: trial.py", "codec: ../../etc/trial.py", "name the Python file beside this one"),
        (", names: [depth, battery]", "", "list the raw values the codec gives"),
        ("from: depth", "from: dept", "no raw value is called `dept`: did you mean `depth`?"),
    ],
)
def test_what_a_profile_says_of_its_codec_is_checked(old: str, new: str, said: str) -> None:
    assert any(said in mistake for mistake in mistakes(PROFILE.replace(old, new)))
