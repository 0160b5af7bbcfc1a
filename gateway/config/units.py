"""Durations and quantities as people write them → microseconds and canonical units; converted once, at load.

``duration("11m45s")`` = 705_000_000; ``quantity("5 cm", "m")`` = 0.05; a bare number is already in the wanted unit.
"""

from __future__ import annotations

import re
from functools import cache

import pint

from gateway.core.model import HOUR, MINUTE, SECOND, Micros

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_FACTORS: dict[str, Micros] = {"ms": 1000, "s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": 24 * HOUR}
_UNIT = re.compile(r"[A-Za-zµμ°℃%²³/()·23]{1,20}")  # no operators: a unit is looked up, never computed
_QUANTITY = re.compile(r"^\s*([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*(\S.*)?$")

# How the field writes its units → how pint spells them. %LEL, dB(A), µε and counts are units of their own.
_SPELLINGS = {
    "%": "percent",
    "%LEL": "percent_lel",
    "%VOL": "percent_vol_ch4",
    "°": "degree",
    "deg": "degree",
    "°C": "degC",
    "℃": "degC",
    "Cel": "degC",
    "m³/h": "meter**3/hour",
    "m3/h": "meter**3/hour",
    "m³": "meter**3",
    "m3": "meter**3",
    "µε": "microstrain",
    "ue": "microstrain",
    "dB(A)": "decibel_a",
    "dB": "decibel_a",
    "dBm": "decibel_m",
    "µg/m³": "microgram/meter**3",
    "ug/m3": "microgram/meter**3",
    "m/s²": "meter/second**2",
    "m/s2": "meter/second**2",
    "t": "tonne",
    "km/h": "kilometer/hour",
    "mm/h": "millimeter/hour",
}


def duration(text: str | int | float) -> Micros:
    """``"90s"``, ``"2h"``, ``"11m45s"``, ``"500ms"``, ``"1d"``, or a number of seconds. Raises ValueError."""
    if isinstance(text, bool):
        raise ValueError(f"not a duration: {text!r}")
    if isinstance(text, (int, float)):
        return round(text * SECOND)
    total, end = 0.0, 0
    stripped = text.strip()
    for match in _DURATION.finditer(stripped):
        if stripped[end : match.start()].strip():
            break
        total += float(match[1]) * _FACTORS[match[2]]
        end = match.end()
    if end == 0 or stripped[end:].strip():
        raise ValueError(f"not a duration: {text!r} (write 90s, 10m, 2h or 11m45s)")
    return round(total)


def format_duration(length: Micros) -> str:
    """The shortest of the spellings ``duration`` reads: 705 s → ``11m45s``."""
    if length < SECOND:
        return f"{length / 1000:g}ms"
    parts, rest = "", length
    for unit, factor in (("d", 24 * HOUR), ("h", HOUR), ("m", MINUTE)):
        count, rest = divmod(rest, factor)
        parts += f"{count}{unit}" if count else ""
    return parts + (f"{rest / SECOND:g}s" if rest or not parts else "")


def quantity(text: str | int | float, unit: str) -> float:
    """A number, or a number with a unit, in ``unit``. Raises ValueError for another dimension or no number."""
    if isinstance(text, bool):
        raise ValueError(f"not a quantity: {text!r}")
    if isinstance(text, (int, float)):
        return float(text)
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError(f"not a quantity: {text!r} (write a number, or a number and a unit: 5 cm)")
    number, written = float(match[1]), (match[2] or "").strip()
    if not written or written == unit:
        return number
    return convert(number, written, unit)


@cache
def _converter(written: str, unit: str) -> tuple[float, float]:
    """(factor, offset) of the linear conversion between two units."""
    if not _UNIT.fullmatch(written):
        raise ValueError(f"{written[:20]!r} is not a unit")
    registry = _registry()
    try:
        at0 = registry.Quantity(0.0, _SPELLINGS.get(written, written)).to(_SPELLINGS.get(unit, unit)).magnitude
        at1 = registry.Quantity(1.0, _SPELLINGS.get(written, written)).to(_SPELLINGS.get(unit, unit)).magnitude
    except (pint.PintError, AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{written!r} cannot be converted to {unit!r}") from error
    return float(at1 - at0), float(at0)


def convert(number: float, written: str, unit: str) -> float:
    """``number`` of unit ``written`` in ``unit``; both as the field spells them."""
    if written == unit:
        return number
    factor, offset = _converter(written, unit)
    # Twelve digits are more than any sensor has, and turn 0.05000000000000001 back into 0.05.
    return float(f"{number * factor + offset:.12g}")


def linear(written: str, unit: str) -> tuple[float, float]:
    """(factor, offset) so that ``value_in_unit = value_written × factor + offset``. Raises ValueError."""
    return (1.0, 0.0) if written == unit else _converter(written, unit)


@cache
def _registry() -> pint.UnitRegistry[float]:
    registry: pint.UnitRegistry[float] = pint.UnitRegistry()
    registry.define("percent_lel = [explosive_limit]")
    registry.define("percent_vol_ch4 = 20 * percent_lel")  # 5 %VOL methane is the lower explosive limit
    registry.define("microstrain = 1e-6")
    registry.define("decibel_a = [sound_level]")
    registry.define("decibel_m = [radio_level]")
    return registry
