"""What everybody asks at the same time is made once: of the whole city, and of each part of it that somebody sees."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from gateway.core.records import Scope

SHARED_S = 2.0  # how old an answer may be …
COST = 20.0  # … or as many times older than it took to make: never more than 5 % of a core
SCOPES = 8  # answers kept

Kept = TypeVar("Kept")


class Shared(Generic[Kept]):
    """One answer a scope for everybody who asks; made anew when it is ``SHARED_S`` old, and when making it took long,
    later than that. ``make`` gets the answer before, of which it may use what still stands."""

    def __init__(self, make: Callable[[Scope, Kept | None], Awaitable[Kept]]) -> None:
        self._make = make
        self._kept: OrderedDict[Scope, tuple[float, Kept]] = OrderedDict()
        self._making = asyncio.Lock()

    async def get(self, scope: Scope) -> Kept:
        clock = asyncio.get_running_loop().time
        async with self._making:
            due, kept = self._kept.get(scope, (0.0, None))
            if kept is None or clock() >= due:
                began = clock()
                kept = await self._make(scope, kept)
                took = clock() - began
                self._kept[scope] = (began + max(SHARED_S, COST * took), kept)
            self._kept.move_to_end(scope)
            if len(self._kept) > SCOPES:
                self._kept.popitem(last=False)
            return kept
