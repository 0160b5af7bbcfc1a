"""Sensor Measurement Lists (SenML, RFC 8428) in JSON and CBOR → samples of raw values.

A record's name is base name + name; base time, unit and value hold until the next one. Times from 2^28 s on are
absolute, smaller ones relative to now. A point is found by the whole name, by the record's own, or by its last part
(``urn:dev:mac:0024befffe804ff1:voltage`` → ``voltage``).
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from gateway.core.model import SECOND, Micros
from gateway.core.payload import MAX_EXTRA, MAX_NAME, MAX_SAMPLES, Refused, Sample

ABSOLUTE_FROM = 2**28  # RFC 8428, 4.5.3
VERSION = 10
_LABELS: dict[str, str] = {
    "-1": "bver", "-2": "bn", "-3": "bt", "-4": "bu", "-5": "bv", "-6": "bs", "0": "n", "1": "u", "2": "v", "3": "vs",
    "4": "vb", "5": "s", "6": "t", "7": "ut", "8": "vd",
}  # fmt: skip
_UNITS: dict[str, str | None] = {"%RH": "%", "%EL": "%", "l": "L", "l/s": "L/s", "count": None, "/": None}


def is_senml(document: Any) -> bool:
    """A list whose first record has a name or a base name."""
    if type(document) is not list or not document or type(document[0]) is not dict:
        return False
    return any(key in document[0] for key in ("bn", "n", "-2", "0"))


def senml_samples(document: list[Any], known: Container[str]) -> list[Sample]:
    """One sample for every time in it; ``known``: the names a profile knows. Raises Refused."""
    base_name, base_time, base_unit, base_value, base_sum = "", 0.0, None, 0.0, 0.0
    samples: dict[float, Sample] = {}
    for item in document:
        if type(item) is not dict:
            raise Refused("bad_payload", "a SenML record is an object")
        record: dict[str, Any] = {_LABELS.get(str(key), str(key)): value for key, value in item.items()}
        must = next((key for key in record if key.endswith("_")), None)
        if must is not None:
            raise Refused("bad_payload", f"SenML: {must[:MAX_NAME]!r} must be understood, and is not")
        if _number(record, "bver", VERSION) > VERSION:
            raise Refused("bad_payload", f"SenML of a version above {VERSION}")
        base_name = _text(record, "bn", base_name)
        base_time = _number(record, "bt", base_time)
        base_unit = _text(record, "bu", base_unit or "") or None
        base_value = _number(record, "bv", base_value)
        base_sum = _number(record, "bs", base_sum)
        time = base_time + _number(record, "t", 0.0)
        sample = samples.get(time)
        if sample is None:
            if len(samples) >= MAX_SAMPLES:
                raise Refused("bad_payload", f"more than {MAX_SAMPLES} samples in one message")
            sample = samples[time] = _sample(time)
        own = _text(record, "n", "")
        found, value = _value(record, base_value, base_sum)
        if not found:
            if "n" in record and len(sample.extra) < MAX_EXTRA:
                sample.extra = (*sample.extra, own[:MAX_NAME])
            continue
        unit = _text(record, "u", base_unit or "") or None
        unit = _UNITS.get(unit, unit) if unit is not None else None
        name = _point(base_name + own, own, known)
        sample.values[name] = {"value": value, "unit": unit} if unit is not None and type(value) is not bool else value
    if not samples:
        raise Refused("empty", "no records in it")
    return list(samples.values())


def _sample(time: float) -> Sample:
    if abs(time) >= ABSOLUTE_FROM:
        return Sample({}, time)
    age: Micros = -round(time * SECOND)
    return Sample({}, age=age)


def _point(name: str, own: str, known: Container[str]) -> str:
    last = name.replace("/", ":").rpartition(":")[2]
    return next((candidate for candidate in (name, own, last) if candidate in known), own or name)


def _value(record: dict[str, Any], base_value: float, base_sum: float) -> tuple[bool, Any]:
    """(whether there is one, the value)."""
    if "v" in record:
        return True, _number(record, "v", 0.0) + base_value if base_value else record["v"]
    for key in ("vb", "vs"):
        if key in record:
            return True, record[key]
    if "s" in record:
        return True, _number(record, "s", 0.0) + base_sum
    return False, None


def _number(record: dict[str, Any], key: str, default: float) -> float:
    value = record.get(key, default)
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 2.0**63:
        raise Refused("bad_payload", f"SenML: `{key}` is a number")
    return float(value)


def _text(record: dict[str, Any], key: str, default: str) -> str:
    value = record.get(key, default)
    if type(value) is not str:
        raise Refused("bad_payload", f"SenML: `{key}` is a text")
    return value
