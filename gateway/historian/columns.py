"""Readings ↔ columns: what DuckDB is handed in one piece, and what comes back as readings.

Building rows in Python costs the pipeline its interpreter, so every column is one pass of C code over the batch
(``map`` into ``fromiter``): 0.6 µs a reading in all, where ``executemany`` takes 20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gateway.core.model import Quality, Reading, Value

POSITION_SHIFT = 22  # cursor = journal position << 22 | number of the reading among those of that position
MAX_ROWS = 1 << POSITION_SHIFT  # a batch of the intake is 4 MB and a frame; no reading is smaller than a byte

# One byte beside every value: bits 0–1 quality, 2–4 kind of value, 5 historical, 6 the device gave no time.
QUALITIES = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD)
QUALITY_MASK = 0b11
BAD_BITS = 2
KIND_SHIFT = 2
KIND_MASK = 0b111
NOTHING, FLOAT, INTEGER, BOOLEAN, TEXT = range(5)
HISTORICAL = 1 << 5
UNTIMED = 1 << 6

NO_SEQUENCE = -(2**63)  # stands for none on the way into the table

SeriesKey: TypeAlias = tuple[str, str, str]

series_key: Callable[[Reading], SeriesKey] = attrgetter("asset", "point", "device")
_QUALITY_BITS = {id(quality): bits for bits, quality in enumerate(QUALITIES)}  # hashing an enum runs Python code
_KINDS: dict[type, int] = {type(None): NOTHING, float: FLOAT, int: INTEGER, bool: BOOLEAN, str: TEXT}
_value = attrgetter("value")
_quality = attrgetter("quality")
_source_time = attrgetter("source_time")
_received_at = attrgetter("received_at")
_historical = attrgetter("historical")
_has_source_time = attrgetter("has_source_time")
_sequence = attrgetter("sequence")
_reason = attrgetter("reason")

Columns: TypeAlias = dict[str, npt.NDArray[Any]]


def encode(items: Sequence[tuple[int, Sequence[Reading]]], series: npt.NDArray[np.int32]) -> Columns:
    """The columns of table ``hot`` for readings by position; ``series`` are their numbers, in order.

    Columns that hold nothing in this batch (``text``, ``reason``, ``sequence``) are left out.
    """
    readings = [reading for _, batch in items for reading in batch]
    count = len(readings)
    values = list(map(_value, readings))
    kinds = np.fromiter(map(_KINDS.__getitem__, map(type, values)), np.uint8, count)
    flags = kinds << KIND_SHIFT
    flags |= np.fromiter(map(_QUALITY_BITS.__getitem__, map(id, map(_quality, readings))), np.uint8, count)
    flags |= np.fromiter(map(_historical, readings), np.bool_, count) * np.uint8(HISTORICAL)
    flags |= ~np.fromiter(map(_has_source_time, readings), np.bool_, count) * np.uint8(UNTIMED)
    columns: Columns = {
        "series": series,
        "time": np.fromiter(map(_source_time, readings), np.int64, count),
        "received": np.fromiter(map(_received_at, readings), np.int64, count),
        "flags": flags,
        "cursor": _cursors(items),
    }
    if bool((kinds == TEXT).any()):
        columns["text"] = _texts([value if type(value) is str else None for value in values])
        values = [None if type(value) is str else value for value in values]
    columns["value"] = _numbers(values)
    reasons = list(map(_reason, readings))
    if any(reasons):
        columns["reason"] = _texts(reasons)
    sequences = list(map(_sequence, readings))
    if sequences.count(None) < count:
        columns["sequence"] = np.array([NO_SEQUENCE if s is None else s for s in sequences], np.int64)
    return columns


def _cursors(items: Sequence[tuple[int, Sequence[Reading]]]) -> npt.NDArray[np.int64]:
    pieces = []
    for position, batch in items:
        if len(batch) > MAX_ROWS:
            raise ValueError(f"{len(batch)} readings at one position; the cursor counts {MAX_ROWS}")
        pieces.append(np.arange(len(batch), dtype=np.int64) + (position << POSITION_SHIFT))
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def _numbers(values: list[Any]) -> npt.NDArray[np.float64]:
    """Floats; none becomes NaN, which DuckDB takes for NULL."""
    try:
        return np.array(values, np.float64)
    except OverflowError:  # an integer beyond the range of a float
        return np.array([_float(value) for value in values], np.float64)


def _float(value: float | int | bool | None) -> float:
    if value is None:
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _texts(texts: Iterable[str | None]) -> npt.NDArray[np.object_]:
    return np.array([None if text is None else clean(text) for text in texts], np.object_)


def clean(text: str) -> str:
    """``text`` without lone surrogates, which no database takes and some JSON carries."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def to_value(flags: int, number: float | None, text: str | None) -> Value:
    """The value as it was given: its kind is in ``flags``."""
    kind = flags >> KIND_SHIFT & KIND_MASK
    if kind == TEXT:
        return text
    if number is None or kind == NOTHING:
        return None
    if kind == BOOLEAN:
        return bool(number)
    if kind == INTEGER and abs(number) != float("inf"):
        return int(number)
    return number


def to_quality(flags: int) -> Quality:
    return QUALITIES[flags & QUALITY_MASK]
