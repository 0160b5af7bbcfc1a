"""Acknowledging without signing in: links and reply codes that only the person who got the message has.

A link ends in a token: which row of the outbox, and a MAC over that row's key, its person and the alarms it names. A
code is four digits of a MAC over the key: for answers by SMS, where a guesser is slowed down (``console/inbound.py``).
Both are good for a day, and a message made anew has others. The secret is made once and stands with the gateway's
others; without a public address of the console there are no links.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from gateway.core.notification import Message

CODE_DIGITS = 4
LARGEST_ROW = 2**63 - 1
MAC_BYTES = 16

_TOKEN = re.compile(r"([0-9a-z]{1,13})\.([A-Za-z0-9_-]{22})")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Links:
    """``secret``: at least 128 bits; ``public_url``: the console as people's phones reach it."""

    def __init__(self, secret: str, public_url: str | None) -> None:
        self._secret = secret.encode()
        self._public_url = (public_url or "").rstrip("/")

    def link(self, row: int, message: Message) -> str:
        """The address of the page where its alarms can be acknowledged; "" when nobody could reach it."""
        return f"{self._public_url}/a/{self.token(row, message)}" if self._public_url and row else ""

    def token(self, row: int, message: Message) -> str:
        mac = base64.urlsafe_b64encode(self._mac("link v1", _named(row, message))[:MAC_BYTES])
        return f"{_base36(row)}.{mac.decode().rstrip('=')}"

    def row_of(self, token: str) -> int | None:
        """Which row a token says it is of; None for what is no token."""
        match = _TOKEN.fullmatch(token)
        row = int(match[1], 36) if match is not None else 0
        return row if 0 < row <= LARGEST_ROW else None

    def good(self, token: str, row: int, message: Message) -> bool:
        return hmac.compare_digest(token.encode(), self.token(row, message).encode())

    def code(self, key: str) -> str:
        """What an answer by SMS to the message of this key must say."""
        return f"{int.from_bytes(self._mac('code v1', key)[:8]) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"

    def _mac(self, what: str, of: str) -> bytes:
        named = f"citywatch {what}\n{of}".encode("utf-8", "backslashreplace")
        return hmac.new(self._secret, named, hashlib.sha256).digest()


def _named(row: int, message: Message) -> str:
    alarms = (f"{line.alarm_id} {line.occurrence_id}" for line in message.lines)
    return "\n".join((str(row), message.key, message.recipient, *alarms))


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"
