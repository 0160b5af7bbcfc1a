"""What everybody asks at the same time is made once: for the whole city, and for each part of it that somebody sees."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

SHARED_S = 2.0  # how old an answer may be …
COST = 20.0  # … or as many times older than it took to make: never more than 5 % of a core
KEPT = 8  # answers

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class Shared(Generic[Key, Kept]):
    """One answer a key (a scope, mostly) for everybody who asks; made anew when it is ``SHARED_S`` old, and when making
    it took long, later than that. ``make`` gets the answer before, of which it may use what still stands."""

    def __init__(self, make: Callable[[Key, Kept | None], Awaitable[Kept]]) -> None:
        self._make = make
        self._kept: OrderedDict[Key, tuple[float, Kept]] = OrderedDict()
        self._making = asyncio.Lock()

    async def get(self, key: Key) -> Kept:
        clock = asyncio.get_running_loop().time
        async with self._making:
            due, kept = self._kept.get(key, (0.0, None))
            if kept is None or clock() >= due:
                began = clock()
                kept = await self._make(key, kept)
                took = clock() - began
                self._kept[key] = (began + max(SHARED_S, COST * took), kept)
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return kept
