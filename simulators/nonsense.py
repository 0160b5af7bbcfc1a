"""Nonsense on purpose: what broken sensors, firmware and wiring send, each with the outcome it deserves.

A payload maker gets the values a healthy device would have sent and returns the bytes. ``DESERVES`` says what a
gateway must make of them: a reading of quality bad, a rejected frame, or a reading whose time is in doubt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Values = Mapping[str, object]
Maker = Callable[[int, int, Values], bytes]  # (ts in ms, sequence, values) → payload


def telemetry(ts: int, sequence: int, values: Values) -> bytes:
    """A healthy message, with its provenance: no gateway may take it for a real asset's."""
    document = {"ts": ts, "seq": sequence, "values": values, "simulated": True}
    return json.dumps(document, separators=(",", ":")).encode()


def _first_number(values: Values) -> str:
    return next(name for name, value in values.items() if isinstance(value, (int, float)))


def _nan(ts: int, sequence: int, values: Values) -> bytes:
    """``NaN`` is not JSON."""
    return telemetry(ts, sequence, {**values, _first_number(values): float("nan")})


def _nan_text(ts: int, sequence: int, values: Values) -> bytes:
    return telemetry(ts, sequence, {**values, _first_number(values): "NaN"})


def _wrong_types(ts: int, sequence: int, values: Values) -> bytes:
    """Booleans, texts and lists where numbers belong."""
    wrong: tuple[object, ...] = (True, "3.1", [], {})
    return telemetry(ts, sequence, {name: wrong[number % 4] for number, name in enumerate(values)})


def _out_of_range(ts: int, sequence: int, values: Values) -> bytes:
    return telemetry(ts, sequence, {**values, _first_number(values): 98765.4})


def _truncated(ts: int, sequence: int, values: Values) -> bytes:
    whole = telemetry(ts, sequence, values)
    return whole[: len(whole) * 2 // 3]


def _not_utf8(ts: int, sequence: int, values: Values) -> bytes:
    return telemetry(ts, sequence, values).replace(b'"seq"', b'"s\xff\xfeq"')


def _duplicate_keys(ts: int, sequence: int, values: Values) -> bytes:
    name = _first_number(values)
    return b'{"ts":%d,"seq":%d,"values":{"%s":1.0,"%s":2.0}}' % (ts, sequence, name.encode(), name.encode())


def _year_1970(ts: int, sequence: int, values: Values) -> bytes:
    """The clock of a device that has lost its battery."""
    return telemetry(42_000, sequence, values)


def _deep(ts: int, sequence: int, values: Values) -> bytes:
    return b'{"values":' * 200 + b"1" + b"}" * 200


def _empty(ts: int, sequence: int, values: Values) -> bytes:
    return b""


NONSENSE: dict[str, Maker] = {
    "nan": _nan,
    "nan-text": _nan_text,
    "wrong-types": _wrong_types,
    "out-of-range": _out_of_range,
    "truncated": _truncated,
    "not-utf8": _not_utf8,
    "duplicate-keys": _duplicate_keys,
    "year-1970": _year_1970,
    "deep": _deep,
    "empty": _empty,
}

DESERVES: dict[str, str] = {
    "nan": "rejected",
    "nan-text": "bad reading",
    "wrong-types": "bad reading",
    "out-of-range": "bad reading",
    "truncated": "rejected",
    "not-utf8": "rejected",
    "duplicate-keys": "rejected",
    "year-1970": "uncertain reading",
    "deep": "rejected",
    "empty": "rejected",
    "unknown-device": "rejected",
}
