"""Tilt is the angle between gravity vectors; the baseline is the median of the first day."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import HOUR, MINUTE
from gateway.core.tilt import MOST_SAMPLES, BaselineLearner, gravity_length, tilt_between

angles = st.floats(-89, 89)


def test_the_two_frames_of_the_vendor_are_37_51_degrees_apart() -> None:
    assert tilt_between(-12.34, 35.67, 54, 0, 0, 90) == pytest.approx(37.51, abs=0.005)
    assert gravity_length(-12.34, 35.67, 54) == pytest.approx(1.02, abs=0.005)


@given(angles, angles, angles)
def test_a_cover_that_has_not_moved_has_no_tilt(x: float, y: float, z: float) -> None:
    if gravity_length(x, y, z) > 0.01:
        assert tilt_between(x, y, z, x, y, z) == pytest.approx(0, abs=1e-4)


@given(st.floats(0, 180), st.floats(0, 6.28))
def test_a_sensor_mounted_level_reports_how_far_it_is_tipped(tilt: float, towards: float) -> None:
    vector = (
        math.sin(math.radians(tilt)) * math.cos(towards),
        math.sin(math.radians(tilt)) * math.sin(towards),
        math.cos(math.radians(tilt)),
    )
    x, y, z = (math.degrees(math.asin(max(-1, min(1, part)))) for part in vector)
    assert tilt_between(x, y, z, 0, 0, 90) == pytest.approx(tilt, abs=1e-3)


def test_the_baseline_is_the_median_of_the_first_day_so_a_kick_does_not_count() -> None:
    learner = BaselineLearner(("tilt",))
    assert learner.add(0, (3.0,)) is None
    assert learner.add(12 * HOUR, (40.0,)) is None
    assert learner.add(24 * HOUR, (3.2,)) == {"baseline_tilt": 3.2}


def test_three_angles_become_three_attributes() -> None:
    learner = BaselineLearner(("angle_x", "angle_y", "angle_z"))
    learner.add(0, (1.0, 2.0, 88.0))
    learner.add(1 * HOUR, (1.2, 2.2, 88.2))
    assert learner.add(25 * HOUR, (1.1, 2.1, 88.1)) == {"baseline_x": 1.1, "baseline_y": 2.1, "baseline_z": 88.1}


def test_a_chatty_sensor_does_not_fill_the_memory_and_a_snapshot_goes_on_exactly() -> None:
    learner = BaselineLearner(("tilt",))
    for minute in range(0, 20 * 60):
        assert learner.add(minute * MINUTE, (minute % 7 / 10,)) is None
    assert len(learner.samples) <= MOST_SAMPLES
    twin = msgspec.msgpack.decode(msgspec.msgpack.encode(learner), type=BaselineLearner)
    for minute in range(20 * 60, 24 * 60 + 1):
        at, values = minute * MINUTE, (minute % 7 / 10,)
        assert learner.add(at, values) == twin.add(at, values)
    learned = twin.add(25 * HOUR, (0.3,))
    assert learned is not None
    assert learned["baseline_tilt"] == pytest.approx(0.3, abs=0.1)


def test_two_learners_share_nothing() -> None:
    first, second = BaselineLearner(("tilt",)), BaselineLearner(("tilt",))
    first.add(0, (1.0,))
    assert second.samples == []
