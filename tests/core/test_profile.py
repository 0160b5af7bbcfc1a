"""Scales are exact where decimals are, whatever the unit."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.profile import Linear, Point, Profile, Transport


@given(st.integers(-(2**31), 2**31), st.sampled_from(["0.1", "0.01", "0.001", "2.5", "0.125", "1000"]))
def test_a_decimal_scale_gives_the_nearest_float(raw: int, scale: str) -> None:
    assert Linear.of(Fraction(scale), 0.0)(raw) == float(raw * Fraction(scale))


@pytest.mark.parametrize(
    ("factor", "offset", "raw", "value"),
    [("0.01", 0.0, 3567, 35.67), ("0.1", -40.0, 625, 22.5), ("1", -273.15, 295, 21.85), ("1/1000", 0.0, 2350, 2.35)],
)
def test_scales_and_offsets_leave_no_dust(factor: str, offset: float, raw: int, value: float) -> None:
    assert Linear.of(Fraction(factor), offset)(raw) == value


def test_a_factor_too_long_for_whole_numbers_becomes_a_float() -> None:
    assert Linear.of(Fraction(10**20, 3), 0.0)(3) == 1e20
    assert Linear.of(Fraction(1), 0.0).is_identity
    assert not Linear.of(Fraction(1), 0.5).is_identity


def test_a_profile_knows_its_points_and_their_units() -> None:
    profile = Profile("x", ("lamp", "feeder"), Transport.MQTT, (Point("power", "power", "W"),))
    assert (profile.kind, profile.unit("power"), profile.unit("none")) == ("lamp", "W", "")
    assert profile.point("none") is None
