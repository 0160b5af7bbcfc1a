"""A cover learns how it lies in its first day, keeps it over restarts and re-read files, and alarms against it."""

from __future__ import annotations

import json

import pytest

from gateway.config.bundle import Bundle, compile_bundle
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.assets_json import to_json
from gateway.core.baselines import with_learned
from gateway.core.model import HOUR, MINUTE, SECOND, Asset, Device, Frame, FrameKind, Micros, Transition
from gateway.core.processor import Configuration, Outcome, Processor

NOON: Micros = 1_780_000_000 * SECOND
COVER = Asset("cover-1", "manhole")
DEVICE = Device("m1", "cover-1", "generic/json-manhole", "m1")


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    profiles = {
        n: t for n, t in read_tree(shipped("device_profiles"), *PROFILE_FILES).items() if not n.endswith(".cases.yaml")
    }
    rules = {n: t for n, t in read_tree(shipped("rules")).items() if not n.startswith("tests/")}
    return compile_bundle(Bundle(profiles, rules))


class Street:
    """One cover and the processor that watches it."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.processor = Processor({configuration.hash: configuration})
        self.position = 0
        self.feed(FrameKind.CONFIG, configuration.hash, b"", NOON)
        self.feed(FrameKind.ASSETS, "", to_json([COVER], [DEVICE]), NOON)

    def feed(self, kind: FrameKind, address: str, payload: bytes, at: Micros) -> Outcome:
        self.position += 1
        return self.processor.process(self.position, [Frame(kind, "test", address, payload, at)])

    def says(self, at: Micros, **values: float) -> Outcome:
        payload = json.dumps({"ts": at // 1000, "values": values}).encode()
        return self.feed(FrameKind.MQTT, "citywatch/v1/manhole/m1/telemetry", payload, at)

    def a_day(self, **values: float) -> None:
        for hour in range(26):
            self.says(NOON + hour * HOUR, **values)

    def restart(self) -> None:
        data = self.processor.snapshot()
        self.processor = Processor({self.configuration.hash: self.configuration})
        self.processor.restore(data)

    @property
    def attributes(self) -> dict[str, str | float | bool]:
        asset = self.processor.registry.asset("cover-1")
        assert asset is not None
        return asset.attributes


def test_a_plain_tilt_sensor_learns_the_camber_of_the_road(configuration: Configuration) -> None:
    street = Street(configuration)
    street.a_day(tilt=4.0)
    assert street.attributes["baseline_tilt"] == 4.0


def test_the_median_ignores_a_kick(configuration: Configuration) -> None:
    street = Street(configuration)
    street.says(NOON, tilt=60.0)
    street.a_day(tilt=4.0)
    assert street.attributes["baseline_tilt"] == 4.0


def test_three_inclinations_learn_a_vector(configuration: Configuration) -> None:
    street = Street(configuration)
    street.a_day(angle_x=3.0, angle_y=-2.0, angle_z=86.0)
    assert {k: street.attributes[k] for k in ("baseline_x", "baseline_y", "baseline_z")} == {
        "baseline_x": 3.0, "baseline_y": -2.0, "baseline_z": 86.0,
    }  # fmt: skip


def test_learning_goes_on_over_a_restart(configuration: Configuration) -> None:
    street = Street(configuration)
    for hour in range(13):
        street.says(NOON + hour * HOUR, tilt=4.0)
    street.restart()
    for hour in range(13, 26):
        street.says(NOON + hour * HOUR, tilt=4.0)
    assert street.attributes["baseline_tilt"] == 4.0


def test_a_file_without_a_baseline_does_not_undo_what_was_learned(configuration: Configuration) -> None:
    street = Street(configuration)
    street.a_day(tilt=4.0)
    street.feed(FrameKind.ASSETS, "", to_json([COVER], []), NOON + 30 * HOUR)
    assert street.attributes["baseline_tilt"] == 4.0
    assert with_learned(COVER, street.processor.registry.asset("cover-1")).attributes["baseline_tilt"] == 4.0


def test_an_alarm_is_counted_from_the_learned_baseline(configuration: Configuration) -> None:
    street = Street(configuration)
    street.a_day(tilt=4.0)
    later = NOON + 30 * HOUR
    street.says(later, tilt=18.0)  # 14° from the baseline: below the 15° of the rule
    quiet = street.feed(FrameKind.TICK, "", b"", later + MINUTE)
    assert not [e for e in quiet.events if isinstance(e, Transition) and e.record.rule == "manhole-tilted"]
    street.says(later + HOUR, tilt=20.0)
    raised = street.feed(FrameKind.TICK, "", b"", later + HOUR + MINUTE)
    tilted = [e for e in raised.events if isinstance(e, Transition) and e.record.rule == "manhole-tilted"]
    assert [e.at for e in tilted] == [later + HOUR + 30 * SECOND]
