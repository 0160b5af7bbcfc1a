"""Durations and quantities: what people write, in canonical units, or one clear reason."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.units import duration, format_duration, linear, quantity
from gateway.core.model import HOUR, MINUTE, SECOND


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0s", 0),
        ("90s", 90 * SECOND),
        ("11m45s", 11 * MINUTE + 45 * SECOND),
        ("2h", 2 * HOUR),
        ("500ms", SECOND // 2),
        ("1d", 24 * HOUR),
        ("1.5 h", 90 * MINUTE),
        ("10min", 10 * MINUTE),
        (15, 15 * SECOND),
    ],
)
def test_a_duration(text: str | int, length: int) -> None:
    assert duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "soon", "5", "5x", "s", "5m now", "-5s", True, float("inf"), float("nan"), 1e305, "9" * 400 + "s"]
)
def test_what_is_not_a_duration(text: str | float | bool) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)


@given(st.integers(0, 10**7).map(lambda n: n * 1000))
def test_a_formatted_duration_reads_back(length: int) -> None:
    if length < SECOND or length % SECOND == 0:
        assert duration(format_duration(length)) == length


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("5 cm", "m", 0.05),
        ("100 W", "kW", 0.1),
        ("20 %", "%", 20.0),
        ("1 %VOL", "%LEL", 20.0),
        ("0.14 MPa", "kPa", 140.0),
        ("300 K", "°C", 26.85),
        ("12 m3/h", "m³/h", 12.0),
        ("1.57 rad", "deg", 89.9543738355),
        (7, "m", 7.0),
        ("7", "m", 7.0),
        ("-2.5e1 mm", "mm", -25.0),
    ],
)
def test_a_quantity(text: str | int, unit: str, number: float) -> None:
    assert quantity(text, unit) == pytest.approx(number, rel=1e-9)


@pytest.mark.parametrize("text", ["", "five cm", "5 bananas", "5 s", "0:", "5 m**9**9**9", "5 __import__('os')", False])
def test_what_is_not_a_length(text: str | bool) -> None:
    with pytest.raises(ValueError, match=r"not a|cannot be converted"):
        quantity(text, "m")


@given(st.text(max_size=30))
@example(")")
def test_no_text_does_anything_but_convert_or_refuse(text: str) -> None:
    try:
        linear(text, "m")
    except ValueError:
        return
