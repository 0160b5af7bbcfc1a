"""How long to wait before asking the other side again: exponential back-off with full jitter.

Full jitter (a draw from zero to the present ceiling) spreads ten thousand clients that lost the same broker at the same
moment best: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
"""

from __future__ import annotations

import asyncio
import random

FIRST_S = 1.0
CAP_S = 30.0


class Backoff:
    """The waits of one link. Not shared between links.

    ``first_s``: ceiling of the first wait; it doubles with every wait up to ``cap_s``. Both in seconds.
    """

    def __init__(self, first_s: float = FIRST_S, cap_s: float = CAP_S, *, rng: random.Random | None = None) -> None:
        if not 0 < first_s <= cap_s:
            raise ValueError(f"first_s must be above 0 and at most cap_s: {first_s}, {cap_s}")
        self._first_s = first_s
        self._cap_s = cap_s
        self._rng = rng or random.Random()
        self.attempts = 0

    def next_delay_s(self) -> float:
        """The next wait in seconds, never above ``cap_s``; counts one attempt."""
        # 2**60 would still be a float, but an outage of a year must not build ever larger integers.
        ceiling = min(self._cap_s, self._first_s * 2 ** min(self.attempts, 60))
        self.attempts += 1
        return self._rng.uniform(0.0, ceiling)

    async def wait(self, at_least_s: float = 0.0) -> None:
        """Sleep until the next attempt is due; ``at_least_s`` where the other side told us (Retry-After)."""
        await asyncio.sleep(max(at_least_s, self.next_delay_s()))

    def reset(self) -> None:
        """The other side is well again: the next outage starts with the shortest wait."""
        self.attempts = 0
