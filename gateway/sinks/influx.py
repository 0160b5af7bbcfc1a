"""Readings → InfluxDB line protocol → InfluxDB v2, or VictoriaMetrics, which speaks the same.

    lamp,asset=lamp-17,device=dtu-4,road=水泊中路,town=水泊街道 power=96.5 1735689600000
    quality,asset=lamp-17,device=dtu-4,point=power,road=…,town=… bad=1i 1735689615000

Measurement = kind of asset; one field a point, of one type for ever: numbers are always floats, then booleans, then
text. A bad reading is not a value: it becomes one count in the measurement ``quality``; an uncertain one is both.
Time = source time in milliseconds. Every line is a function of its reading alone, so writing one twice changes nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.core.model import Quality, Reading, Value
from gateway.errors import Rejected, Unavailable

if TYPE_CHECKING:
    from influxdb_client.client.exceptions import InfluxDBError

TIMEOUT_S = 10.0  # InfluxDB answers 5,000 lines in 0.1 s; one that takes a hundred times as long is away
COMPRESSION = 1  # 0.5 MB: 4 ms and a tenth of the size; level 9 takes five times as long for a fifth less
LONGEST_NAME = 1_000  # characters of a tag or a field name; InfluxDB refuses 64 kB

HEADS = 50_000  # a county has 40,000 series; one head is 200 bytes and 4 µs of work

NUMBERS_ONLY = "text: this database keeps numbers only"
NOT_FINITE = "not a finite number"

# No spelling of a backslash or a line break in a tag is read alike by InfluxDB and VictoriaMetrics, so none is used:
# the backslash becomes its full-width sister, control characters their pictures (U+2400…).
_PICTURES: dict[int, str] = {code: chr(0x2400 + code) for code in range(32)} | {127: "␡", ord("\\"): "＼"}
_PICTURES |= {0x85: "␤", 0x2028: "␤", 0x2029: "␤"}
_NAME = str.maketrans(_PICTURES | {ord(c): f"\\{c}" for c in ", ="})
_TEXT = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\0": "␀"})
_PLAIN = re.compile(r"[A-Za-z0-9_.:/\-]*\Z")


class AssetTags(NamedTuple):
    """What the lines say of an asset besides its id."""

    kind: str
    road: str = ""
    town: str = ""


Describe = Callable[[str], AssetTags]
"""Asset id → its tags. Never raises: an asset nobody knows is of kind ``unknown``."""


class InfluxSink:
    """Implements ``ports.Sink`` with the write API v2.

    ``stores_text`` None: found out at the first write from ``/health`` (VictoriaMetrics would keep every text as 0).
    Use it as an async context manager, or call ``close``; must be made inside a running loop.
    """

    def __init__(
        self,
        url: str,
        org: str,
        bucket: str,
        token: str | None,
        describe: Describe,
        *,
        timeout_s: float = TIMEOUT_S,
        stores_text: bool | None = None,
    ) -> None:
        # A third of the gateway's whole time to start, so only those pay it who have a sink.
        import aiohttp
        from influxdb_client.client.exceptions import InfluxDBError
        from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync

        self._said_no = InfluxDBError
        self._gone = (aiohttp.ClientError, TimeoutError, OSError)
        self._url = url.rstrip("/")
        self._bucket = bucket
        self._describe = describe
        self._stores_text = stores_text
        self._client: Any = InfluxDBClientAsync(
            self._url, token=token, org=org, timeout=round(timeout_s * 1000), allow_redirects=False
        )
        # The client's own gzip runs at level 9 on the event loop; ours runs at level 1 in a thread.
        self._client.api_client.set_default_header("Content-Encoding", "gzip")
        self._api = self._client.write_api()

    async def __aenter__(self) -> InfluxSink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.close()

    async def write(self, readings: Sequence[Reading]) -> None:
        """Write all, or raise Unavailable, or Rejected: with ``items`` when it was us who could not spell them (the
        rest is written), without when the database refused some and did not say which."""
        if self._stores_text is None:
            self._stores_text = await self._finds_out_about_text()
        body, unspeakable = await asyncio.to_thread(_body, readings, self._describe, self._stores_text)
        if body:
            await self._post(body)
        if unspeakable:
            raise Rejected("; ".join(dict.fromkeys(unspeakable.values())), tuple(unspeakable))

    async def _post(self, body: bytes) -> None:
        try:
            await self._api.write(self._bucket, record=body, write_precision="ms")
        except self._said_no as error:
            raise _translated(error) from error
        except self._gone as error:
            raise Unavailable(f"{self._url}: {error or type(error).__name__}") from error

    async def _finds_out_about_text(self) -> bool:
        """False when the other side is VictoriaMetrics, whose health is the word OK; InfluxDB's is a JSON object."""
        try:
            answer = await self._client.api_client.rest_client.GET(f"{self._url}/health")
            return bool(answer.data.strip() != b"OK")
        except self._said_no as error:
            if error.response is not None and error.response.status < 500:
                return True  # somebody in front of InfluxDB keeps its health to himself
            raise _translated(error) from error
        except self._gone as error:
            raise Unavailable(f"{self._url}: {error or type(error).__name__}") from error


def lines_of(reading: Reading, tags: AssetTags, stores_text: bool = True) -> list[str]:
    """The lines of one reading, without line ends. Raises ValueError with the reason when no line can say it."""
    value, count = _heads(reading.asset, reading.point, reading.device, tags)
    time_ms = reading.source_time // 1000
    lines: list[str] = []
    if reading.quality is not Quality.BAD:
        lines.append(f"{value}={field_text(reading.value, stores_text)} {time_ms}")
    if reading.quality is not Quality.GOOD:
        lines.append(f"{count} {reading.quality.value}=1i {time_ms}")
    return lines


@lru_cache(HEADS)
def _heads(asset: str, point: str, device: str, tags: AssetTags) -> tuple[str, str]:
    """A value's line up to its ``=``, and a count's up to its field."""
    series = f",asset={tag_text(asset)}" + (f",device={tag_text(device)}" if device else "")
    place = "".join(f",{k}={tag_text(v)}" for k, v in (("road", tags.road), ("town", tags.town)) if v)
    field = tag_text(point)
    return (
        f"{tag_text(tags.kind or 'unknown')}{series}{place} {field}",
        f"quality{series},point={field}{place}",
    )


def tag_text(text: str) -> str:
    """A measurement, tag value or field name as the line protocol wants it; see ``_PICTURES`` for what is changed."""
    if _PLAIN.match(text) and len(text) <= LONGEST_NAME:
        return text
    return text[:LONGEST_NAME].encode("utf-8", "replace").decode().translate(_NAME)


def field_text(value: Value, stores_text: bool = True) -> str:
    """A field value. An integer is written as a float: a field that was once an integer refuses the first 0.5."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        if not math.isfinite(number := float(value)):
            raise ValueError(NOT_FINITE)
        return repr(number)
    if value is None:
        raise ValueError("no value")
    if not stores_text:
        raise ValueError(NUMBERS_ONLY)
    return '"' + value.encode("utf-8", "replace").decode().translate(_TEXT) + '"'


def _body(readings: Sequence[Reading], describe: Describe, stores_text: bool) -> tuple[bytes, dict[int, str]]:
    """The compressed lines (empty when there are none), and index → reason of the readings no line can say."""
    lines: list[str] = []
    unspeakable: dict[int, str] = {}
    tags: dict[str, AssetTags] = {}
    for index, reading in enumerate(readings):
        known = tags.get(reading.asset)
        if known is None:
            known = tags[reading.asset] = describe(reading.asset)
        try:
            lines += lines_of(reading, known, stores_text)
        except (ValueError, OverflowError) as error:
            unspeakable[index] = str(error)
    text = "\n".join(lines).encode()
    return gzip.compress(text, COMPRESSION) if text else b"", unspeakable


def _translated(error: InfluxDBError) -> Unavailable | Rejected:
    """What the answer means for us: 400, 413 and 422 are about these lines, everything else is about the database."""
    status = error.response.status if error.response is not None else 0
    text = f"{status}: {_first_line(error)}"
    if status in (400, 413, 422):
        return Rejected(text)
    return Unavailable(text, _seconds(error.retry_after))


def _first_line(error: InfluxDBError) -> str:
    """What the database said, on one line. The client has already looked for InfluxDB's ``message``."""
    message = error.message
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
    return (text.strip().splitlines() or ["no reason given"])[0][:300]


def _seconds(retry_after: str | None) -> float | None:
    """``Retry-After`` when it is a number of seconds; a date is not worth a parser."""
    try:
        return float(retry_after) if retry_after is not None else None
    except ValueError:
        return None
