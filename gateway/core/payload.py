"""JSON and CBOR payloads → samples of raw values, in the shapes of docs/profiles.md; and what a device's time means.

Everything here raises Refused for bytes that are not what they should be, and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import cbor2
import msgspec

from gateway.core.formula import UINT64_HIGH
from gateway.core.model import SECOND, Micros
from gateway.core.profile import JsonPayload
from gateway.errors import DecodeError

MAX_PAYLOAD = 256 * 1024  # a wider one blocks the loop for more than 20 ms (measured: 38–76 ms for 1 MB)
MAX_VALUES = 20_000  # in one document: keeps the worst message of 256 kB near 20 ms
MAX_BINARY = 4_096  # LoRaWAN carries 242 bytes, its NB-IoT cousins some more
MAX_DEPTH = 32
MAX_SAMPLES = 2_000  # a week of 5-minute samples in one message
MAX_EXTRA = 20
MAX_NAME = 64
MAX_TEXT = 256
MAX_SEQUENCE = 2**63 - 1

EARLIEST: Micros = int(datetime(2010, 1, 1, tzinfo=UTC).timestamp()) * SECOND
AHEAD: Micros = 24 * 3600 * SECOND  # further in the future a device's clock is not wrong by a zone but broken

_decode_json = msgspec.json.Decoder().decode


class Refused(DecodeError):
    """The whole payload is refused; ``code`` is one of the rejection codes of docs/profiles.md."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Sample(msgspec.Struct):
    """What a device said about one instant. ``time``: as it was written (number, text or None); ``age``: how long
    before that (before its message, without a time) it was measured."""

    values: dict[str, Any]
    time: Any = None
    sequence: int | None = None
    historical: bool = False
    extra: tuple[str, ...] = ()
    age: Micros = 0


# -- JSON -------------------------------------------------------------------------------------------------------------


def read_json(payload: bytes) -> Any:
    """Strict JSON: UTF-8, no duplicate keys, no NaN, at most 32 levels. Raises Refused."""
    value = parse_json(payload)
    check_json(payload, value)
    return value


def parse_json(payload: bytes) -> Any:
    """JSON without the checks for duplicate keys and depth. Raises Refused."""
    if len(payload) > MAX_VALUES and payload.count(b",") + payload.count(b"[") + payload.count(b"{") > MAX_VALUES:
        raise Refused("bad_payload", f"more than {MAX_VALUES} values in one message")
    try:
        return _decode_json(payload)
    except RecursionError:
        raise Refused("bad_payload", f"JSON nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise Refused("bad_payload", "not UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:
        if not payload.strip():
            raise Refused("empty", "the payload is empty") from None
        raise Refused("bad_payload", f"not JSON: {str(error)[:160]}") from None


def check_json(payload: bytes, value: Any) -> None:
    """Refuse duplicate keys and depth in ``value`` as parsed from ``payload``.

    Every key has one colon behind it and a dictionary holds each key once; so if the payload has as many colons as
    keys and colons inside texts together, no key was there twice. Only texts with escapes need the exact look.
    """
    keys, colons = _count(value, 0)
    if payload.count(b":") == keys + colons and (colons == 0 or b"\\" not in payload):
        return
    try:
        json.loads(payload, object_pairs_hook=_unique)
    except RecursionError:
        raise Refused("bad_payload", f"JSON nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        raise Refused("bad_payload", f"not JSON: {str(error)[:160]}") from None


def read_document(payload: bytes) -> Any:
    """JSON, or CBOR where the first byte is that of an array, a map or a tag: no text begins so. Raises Refused."""
    if b"\x80" <= payload[:1] <= b"\xdb":
        return _read_cbor(payload)
    document = parse_json(payload)
    check_json(payload, document)
    return document


def _read_cbor(payload: bytes) -> Any:
    """As JSON would have it: keys are texts (whole numbers are written out), no NaN, no bytes. Raises Refused."""
    stream = BytesIO(payload)
    try:
        document = cbor2.CBORDecoder(stream).decode()
    except Exception as error:  # tags make anything of anything, and raise whatever that raises
        raise Refused("bad_payload", f"not CBOR: {str(error)[:160]}") from None
    if stream.tell() != len(payload):
        raise Refused("bad_payload", "not CBOR: there is more behind its end")
    left = [MAX_VALUES]
    return _plain(document, 0, left)


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    kind = type(value)
    left[0] -= 1
    if left[0] < 0:
        raise Refused("bad_payload", f"more than {MAX_VALUES} values in one message")
    if kind in (str, bool, int) or value is None:
        return value
    if kind is float:
        if not math.isfinite(value):
            raise Refused("bad_payload", "NaN or infinite")
        return value
    if depth >= MAX_DEPTH:
        raise Refused("bad_payload", f"nested deeper than {MAX_DEPTH} levels")
    if kind is list:
        return [_plain(item, depth + 1, left) for item in value]
    if kind is dict:
        if not all(type(key) in (str, int) for key in value):
            raise Refused("bad_payload", "a key is neither a text nor a whole number")
        return {str(key): _plain(item, depth + 1, left) for key, item in value.items()}
    raise Refused("bad_payload", f"a CBOR value of the kind {kind.__name__} has no place here")


def _count(value: Any, depth: int) -> tuple[int, int]:
    """Keys in ``value``, and colons in its texts (keys' texts included)."""
    kind = type(value)
    if kind is str:
        return 0, value.count(":")
    if kind is not dict and kind is not list:
        return 0, 0
    if depth >= MAX_DEPTH:
        raise Refused("bad_payload", f"JSON nested deeper than {MAX_DEPTH} levels")
    keys = colons = 0
    if kind is dict:
        keys = len(value)
        for key in value:
            colons += key.count(":")
        value = value.values()
    for item in value:
        kind = type(item)
        if kind is str:
            colons += item.count(":")
        elif kind is dict or kind is list:
            more_keys, more_colons = _count(item, depth + 1)
            keys += more_keys
            colons += more_colons
    return keys, colons


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Refused("bad_payload", f"the key {key[:MAX_NAME]!r} stands there twice")
        found[key] = value
    return found


def json_samples(document: Any, shape: JsonPayload, device: str) -> list[Sample]:
    """The samples in one telemetry document (see docs/profiles.md, "Telemetry in JSON"). Raises Refused."""
    if isinstance(document, dict):
        return [_json_sample(document, shape, device)]
    if isinstance(document, list):
        if len(document) > MAX_SAMPLES:
            raise Refused("bad_payload", f"{len(document)} samples in one message; {MAX_SAMPLES} are allowed")
        if not document:
            raise Refused("empty", "an empty array")
        return [_json_sample(item, shape, device) for item in document]
    raise Refused("bad_payload", f"a JSON object or array was expected, not {describe(document)}")


def _json_sample(item: Any, shape: JsonPayload, device: str) -> Sample:
    if not isinstance(item, dict):
        raise Refused("bad_payload", f"a JSON object was expected, not {describe(item)}")
    named = item.get("device", item.get("device_id"))
    if isinstance(named, str) and named != device:
        raise Refused("wrong_device", f"the payload speaks for {named[:MAX_NAME]!r}, the topic for {device!r}")
    values = item.get(shape.values)
    extra: tuple[str, ...] = ()
    if isinstance(values, dict):
        extra = tuple(key[:MAX_NAME] for key in item if key not in _reserved(shape))[:MAX_EXTRA]
    elif values is None:
        reserved = _reserved(shape)
        values = {key: value for key, value in item.items() if key not in reserved}
    else:
        raise Refused("bad_payload", f"`{shape.values}` must be an object of points, not {describe(values)}")
    sequence = item.get(shape.sequence)
    if sequence is not None and (type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE):
        extra, sequence = (*extra, shape.sequence), None
    return Sample(values, item.get(shape.time), sequence, item.get("historical") is True, extra)


def _reserved(shape: JsonPayload) -> frozenset[str]:
    return frozenset((shape.time, shape.sequence, shape.values, "historical", "device", "device_id", "simulated"))


def describe(value: Any) -> str:
    """What a JSON value is, for a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case str():
            return f"the text {value[:40]!r}"
        case int() | float():
            return f"the number {value:.12g}" if abs(value) < 1e300 else "a number"
        case list():
            return "an array"
        case _:
            return "an object"


def at_path(document: Any, path: tuple[str | int, ...]) -> Any:
    """The value at ``("sensors", 0, "temp")``; None where there is nothing."""
    for part in path:
        if isinstance(part, str) and isinstance(document, dict):
            document = document.get(part)
        elif isinstance(part, int) and isinstance(document, list) and -len(document) <= part < len(document):
            document = document[part]
        else:
            return None
    return document


# -- time -------------------------------------------------------------------------------------------------------------


def read_time(written: Any, received_at: Micros, zone_offset_s: int) -> tuple[Micros, bool, str | None]:
    """A device's time → (source time, whether it is the device's, why it was not believed).

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size (up to 10^11,
    10^14, 10^17, above): so seconds reach to the year 5138 and milliseconds begin in 1973. Texts are ISO 8601; without
    a zone they are the civil time of the site. A time before 2010 or more than a day ahead of ours is not believed: the
    time of receipt stands in for it. Raises Refused(bad_time) when it is no time at all.
    """
    if written is None:
        return received_at, False, None
    kind = type(written)
    if kind is int or kind is float:
        size = abs(written)
        if kind is int and size > UINT64_HIGH:
            raise Refused("bad_payload", "the time is an integer beyond 64 bits")
        if size < 100_000_000_000:
            micros = round(written * SECOND)
        elif size < 100_000_000_000_000:
            micros = round(written * 1000)
        elif size < 100_000_000_000_000_000:
            micros = round(written)
        else:
            micros = round(written) // 1000
    elif kind is str:
        micros = _iso(written, zone_offset_s)
    else:
        raise Refused("bad_time", f"the time must be a number or a text, not {describe(written)}")
    if EARLIEST <= micros <= received_at + AHEAD:
        return micros, True, None
    return received_at, False, f"device time {_shown(micros)} is not believed; received time used"


def _iso(text: str, zone_offset_s: int) -> Micros:
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone(timedelta(seconds=zone_offset_s)))
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise Refused("bad_time", f"{text[:40]!r} is not a time") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _shown(micros: Micros) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except OverflowError:
        return f"{micros / SECOND:.3g} s since 1970"
