"""What a case platform sends: news of our cases, and tickets. Read by its field map, trusted in nothing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.core.case_fields import MAX_NUMBER, ClassOf, Receiving, Source, text_of, value_at, word_of
from gateway.core.cases import CaseStatus, Said
from gateway.core.gcj02 import from_gcj02
from gateway.core.model import Micros
from gateway.errors import DecodeError

MAX_TEXT = 2000  # of what a platform writes; a report of a citizen is a few sentences
MAX_WORD = 64


class CaseMessage(msgspec.Struct, frozen=True):
    """The platform about one of our cases, by its number or by our key."""

    id: str
    key: str
    number: str
    said: Said


class TicketMessage(msgspec.Struct, frozen=True):
    """The platform about something that was reported to it. ``class_`` is its own word, ``class_of`` what we take it
    for."""

    id: str
    number: str
    at: Micros
    class_: str
    class_of: ClassOf
    status: str = ""
    text: str = ""
    place: str = ""
    road: str = ""
    longitude: float | None = None
    latitude: float | None = None


def read_message(receiving: Receiving, body: bytes, received_at: Micros) -> CaseMessage | TicketMessage:
    """What a platform has sent. Raises DecodeError with what is wrong with it, in words for who wrote it."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}"[:200]) from error
    if not isinstance(document, dict):
        raise DecodeError("not a JSON object")
    reader = _Reader(receiving, document, received_at)
    message_id = reader.text(receiving.id, MAX_NUMBER) or hashlib.sha256(body).hexdigest()[:32]
    return reader.ticket(message_id) if reader.is_ticket() else reader.update(message_id)


class _Reader:
    def __init__(self, receiving: Receiving, document: dict[str, Any], received_at: Micros) -> None:
        self._map = receiving
        self._document = document
        self._received_at = received_at

    def is_ticket(self) -> bool:
        kind = self._map.kind
        if kind is None:
            return not self._map.update
        said = word_of(value_at(self._document, kind.name))
        meant = kind.values.get(said)
        if meant is None:
            raise DecodeError(f"{'.'.join(kind.name)}: {said[:50]!r} is neither of {', '.join(kind.values)}")
        return meant == "ticket"

    def update(self, message_id: str) -> CaseMessage:
        fields = self._map.update
        key, number = self.text(fields.get("key"), 26), self.text(fields.get("number"), MAX_NUMBER)
        if not key and not number:
            raise DecodeError(f"it names no case: {self._named(fields, 'key', 'number')} is missing")
        at = self.time(fields.get("at"))
        word, status = self._status(fields.get("status"))
        said = Said(
            min(at, self._received_at),  # a clock that runs ahead must not silence what comes later
            self._received_at,
            word,
            status,
            self.text(fields.get("by"), MAX_WORD),
            self.text(fields.get("text"), MAX_TEXT),
        )
        return CaseMessage(message_id, key, number, said)

    def ticket(self, message_id: str) -> TicketMessage:
        fields = self._map.ticket
        number = self.text(fields.get("number"), MAX_NUMBER)
        if not number:
            raise DecodeError(f"the ticket has no number: {self._named(fields, 'number')} is missing")
        class_ = self.text(fields.get("class"), MAX_WORD)
        longitude, latitude = self._position(fields)
        return TicketMessage(
            message_id,
            number,
            self.time(fields.get("at")),
            class_,
            self._map.classes.get(class_, ClassOf()),
            self.text(fields.get("status"), 32),
            self.text(fields.get("text"), MAX_TEXT),
            self.text(fields.get("place"), 500),
            self.text(fields.get("road"), 200),
            longitude,
            latitude,
        )

    def text(self, source: Source | None, most: int) -> str:
        return "" if source is None else text_of(value_at(self._document, source.name), most)

    def time(self, source: Source | None) -> Micros:
        """Now, where the platform does not say."""
        value = None if source is None else value_at(self._document, source.name)
        if source is None or value is None or value == "":
            return self._received_at
        try:
            return (source.time or self._map.time).read(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise DecodeError(
                f"{'.'.join(source.name)}: not a time as the field map says: {text_of(value, 50)!r}"
            ) from error

    def _status(self, source: Source | None) -> tuple[str, CaseStatus | None]:
        """The platform's word, and what we take it for: None when the table does not know it."""
        word = self.text(source, MAX_WORD)
        meant = source.values.get(word) if source is not None else None
        return word, None if meant is None else CaseStatus(meant)

    def _position(self, fields: Mapping[str, Source]) -> tuple[float | None, float | None]:
        both = self.text(fields.get("coordinates"), 64)
        if both:
            raw: list[Any] = both.replace("，", ",").replace(";", ",").split(",")
        else:
            raw = [value_at(self._document, source.name) if source is not None else None
                   for source in (fields.get("longitude"), fields.get("latitude"))]  # fmt: skip
        numbers = [_number(value) for value in raw]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            return None, None
        longitude, latitude = numbers[0], numbers[1]
        # 0, 0 is what programs send that do not know.
        if not (-180 <= longitude <= 180 and -90 <= latitude <= 90) or (not longitude and not latitude):
            return None, None
        return from_gcj02(longitude, latitude) if self._map.gcj02 else (longitude, latitude)

    @staticmethod
    def _named(fields: Mapping[str, Source], *names: str) -> str:
        return " or ".join(".".join(fields[name].name) for name in names if name in fields) or "what would name it"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
