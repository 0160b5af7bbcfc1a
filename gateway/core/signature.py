"""How two programs that share a key know one another's messages: HMAC-SHA256 over the time and the body.

``X-Citywatch-Signature: t=<unix seconds>,v1=<hex>``, where v1 = HMAC-SHA256(key, "<t>.<body>"). The time makes an old
message worthless; that a fresh one comes twice is the reader's affair (its id).
"""

from __future__ import annotations

import hashlib
import hmac
import re

HEADER = "X-Citywatch-Signature"
OLDEST_S = 300  # two servers with NTP differ by milliseconds, two without by minutes

_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-fA-F]{64})")


def sign(key: bytes, at: int, body: bytes) -> str:
    """The value of ``HEADER`` for a body sent at ``at`` (unix seconds)."""
    return f"t={at},v1={hmac.new(key, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def why_not(key: bytes, said: str | None, body: bytes, now: float) -> str | None:
    """Why the signature ``said`` of ``body`` is not good at ``now`` (unix seconds); None when it is."""
    if not said:
        return f"there is no {HEADER}"
    match = _FORM.fullmatch(said.strip())
    if match is None:
        return "the signature is not t=<seconds>,v1=<hex>"
    at = int(match[1])
    right = sign(key, at, body)
    if not hmac.compare_digest(right, f"t={at},v1={match[2].lower()}"):
        return "the signature is not of this body with this key"
    if abs(now - at) > OLDEST_S:
        return f"the signature is {abs(now - at):.0f} s {'old' if now > at else 'ahead'}; {OLDEST_S} s are allowed"
    return None
