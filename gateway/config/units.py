"""Durations and quantities as people write them → microseconds and canonical units; converted once, at load.

``duration("11m45s")`` = 705_000_000; ``quantity("5 cm", "m")`` = 0.05; a bare number is already in the wanted unit.
"""

from __future__ import annotations

import math
import re
from functools import cache
from tokenize import TokenError

import pint

from gateway.core.model import HOUR, MINUTE, SECOND, Micros

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_FACTORS: dict[str, Micros] = {"ms": 1000, "s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": 24 * HOUR}
_UNIT = re.compile(r"[A-Za-zµμε°℃%²³/()·23]{1,20}")  # no operators: a unit is looked up, never computed
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
    "mg/m³": "milligram/meter**3",
    "mg/m3": "milligram/meter**3",
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
    if isinstance(text, int):
        return text * SECOND
    if isinstance(text, float):
        return _whole(text * SECOND, text)
    total, end = 0.0, 0
    stripped = text.strip()
    for match in _DURATION.finditer(stripped):
        if stripped[end : match.start()].strip():
            break
        total += float(match[1]) * _FACTORS[match[2]]
        end = match.end()
    if end == 0 or stripped[end:].strip():
        raise ValueError(f"not a duration: {text!r} (write 90s, 10m, 2h or 11m45s)")
    return _whole(total, text)


def _whole(length: float, text: str | int | float) -> Micros:
    if not math.isfinite(length):
        raise ValueError(f"not a duration: {str(text)[:40]!r}")
    return round(length)


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
    """(factor, offset) of the linear conversion between two units. Raises ValueError."""
    try:
        dimension, factor, offset = _in_base_units(written)
        wanted, wanted_factor, wanted_offset = _in_base_units(unit)
    except (pint.PintError, TokenError, AssertionError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"{written[:20]!r} cannot be converted to {unit[:20]!r}: no such unit is known") from error
    if dimension != wanted:
        raise ValueError(f"{written!r} cannot be converted to {unit!r}")
    return factor / wanted_factor, (offset - wanted_offset) / wanted_factor


@cache
def _in_base_units(unit: str) -> tuple[object, float, float]:
    """Dimension, and (factor, offset) so that the value in base units is value × factor + offset."""
    if not _UNIT.fullmatch(unit):
        raise ValueError(f"{unit[:20]!r} is not a unit")
    zero, one = (_registry().Quantity(value, _SPELLINGS.get(unit, unit)).to_base_units() for value in (0.0, 1.0))
    return zero.dimensionality, float(one.magnitude - zero.magnitude), float(zero.magnitude)


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


# What the field measures in. pint's own list knows the slug and the furlong too, and takes a second to read at every
# start. Left of the first = the full name, then the definition, the symbol, other names.
_DEFINITIONS = """\
nano- = 1e-9 = n-
micro- = 1e-6 = µ- = μ- = u-
milli- = 1e-3 = m-
centi- = 1e-2 = c-
deci- = 1e-1 = d-
hecto- = 1e2 = h-
kilo- = 1e3 = k-
mega- = 1e6 = M-
giga- = 1e9 = G-

meter = [length] = m = metre
second = [time] = s = sec
gram = [mass] = g
ampere = [current] = A = amp
kelvin = [temperature]; offset: 0 = K
mole = [substance] = mol
candela = [luminosity] = cd
bit = [information]
radian = []
count = []

minute = 60 * second = min
hour = 60 * minute = h = hr
day = 24 * hour = d
week = 7 * day
degree = 0.017453292519943295 * radian = deg
revolution = 6.283185307179586 * radian = rev
rad = radian
percent = 0.01
permille = 0.001
ppm = 1e-6
ppb = 1e-9
strain = 1
microstrain = 1e-6
degC = kelvin; offset: 273.15 = celsius
degF = 5 / 9 * kelvin; offset: 233.15 + 200 / 9 = fahrenheit

inch = 25.4 * millimeter = in
foot = 12 * inch = ft
mile = 5280 * foot = mi
hectare = 10000 * meter ** 2 = ha
liter = 0.001 * meter ** 3 = l = L = litre
tonne = 1000 * kilogram = t
pound = 0.45359237 * kilogram = lb

hertz = 1 / second = Hz
rpm = revolution / minute
newton = kilogram * meter / second ** 2 = N
pascal = newton / meter ** 2 = Pa
bar = 100000 * pascal
psi = 6894.757293168361 * pascal
mH2O = 9806.65 * pascal = mWC
mmHg = 133.322387415 * pascal
atmosphere = 101325 * pascal = atm
joule = newton * meter = J
watt = joule / second = W
watt_hour = watt * hour = Wh
calorie = 4.184 * joule = cal
horsepower = 745.6998715822702 * watt = hp
coulomb = ampere * second = C
ampere_hour = ampere * hour = Ah
volt = watt / ampere = V
ohm = volt / ampere = Ω
siemens = ampere / volt = S
farad = coulomb / volt = F
henry = volt * second / ampere = H
tesla = volt * second / meter ** 2 = T
volt_ampere = watt = VA
var = watt
lumen = candela * radian ** 2 = lm
lux = lumen / meter ** 2 = lx
byte = 8 * bit
standard_gravity = 9.80665 * meter / second ** 2 = g_0

percent_lel = [explosive_limit]
percent_vol_ch4 = 20 * percent_lel
decibel_a = [sound_level]
decibel_m = [radio_level]
"""


@cache
def _registry() -> pint.UnitRegistry[float]:
    """5 %VOL of methane is its lower explosive limit. Volt-amperes and vars are watts of another name."""
    registry: pint.UnitRegistry[float] = pint.UnitRegistry(None)
    registry.load_definitions(_DEFINITIONS.splitlines())
    return registry
