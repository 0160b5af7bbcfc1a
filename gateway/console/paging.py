"""What all lists share: the limit, the cursor, and filters that may be repeated or comma-separated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Query

from gateway.console.problems import Problem
from gateway.core.records import MAX_PAGE, Page

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items a page.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="From the page before.")]

MAX_VALUES = 50  # of one filter; there are seven states and fewer than twenty kinds


async def page(found: Awaitable[Page[Item]], view: Callable[[Item], dict[str, Any]]) -> dict[str, Any]:
    """A page of the store as an answer; a cursor that is not of that list is the caller's mistake."""
    try:
        rows = await found
    except ValueError as error:
        raise Problem("bad_cursor") from error
    return {"items": [view(item) for item in rows.items], "cursor": rows.cursor}


def listed(given: Iterable[str] | None, name: str, known: Mapping[str, Any] | None) -> list[Any]:
    """``["UNACK,ACKED", "RTNUN"]`` → the known things of these names; Problem for a name that is none."""
    words = [word.strip() for text in given or () for word in text.split(",") if word.strip()]
    if len(words) > MAX_VALUES:
        raise Problem("invalid", f"{name}: at most {MAX_VALUES} values")
    if known is None:
        return words
    for word in words:
        if word.upper() not in known:
            raise Problem("invalid", f"{name}: there is no {word[:40]!r}; there are {', '.join(known)}")
    return [known[word.upper()] for word in words]
