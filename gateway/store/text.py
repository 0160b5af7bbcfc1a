"""Text from the outside, made safe to keep: what a database may refuse is replaced, and nothing is endless."""

from __future__ import annotations


def clean(text: str, limit: int) -> str:
    """At most ``limit`` characters; NUL (PostgreSQL refuses it) and lone surrogates (UTF-8 has none) become U+FFFD."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if "\0" in cut:
        cut = cut.replace("\0", "\ufffd")
    try:
        cut.encode()
    except UnicodeEncodeError:
        cut = cut.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut
