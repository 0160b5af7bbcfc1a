"""The small protocols that adapters implement; one wrapper owns the hard part for all of a kind.

Who owns what: the intake owns batching and acknowledgement, the forwarder owns batching, cursor and retry for every
sink, the dispatcher owns retry, limits and receipts for every receiver.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from gateway.core.model import Frame, FrameKind, Reading, Transition
from gateway.core.notification import Message


class Intake(Protocol):
    """Where sources put what arrives. Bounded; never raises in ``offer``."""

    def offer(
        self,
        kind: FrameKind,
        source: str,
        address: str,
        payload: bytes,
        *,
        retained: bool = False,
        duplicate_hint: bool = False,
        principal: str = "",
    ) -> asyncio.Future[int]:
        """Take one frame, stamped with gateway time now. The future ends with 0 once the batch that holds the frame
        is durable; it never ends if the journal fails (the process exits instead). Many frames share one future."""
        ...

    @property
    def full(self) -> bool:
        """True above 20,000 frames or 32 MB: stop reading the socket until ``room`` returns."""
        ...

    async def room(self) -> None:
        """Returns when there is room again."""
        ...


class Source(Protocol):
    async def run(self, intake: Intake) -> None:
        """Deliver frames until cancelled; reconnects by itself."""
        ...


class Journal(Protocol):
    """The durable log of batches. Positions rise by 1 from 1."""

    async def append(self, batch: Sequence[Frame]) -> int:
        """Durable when it returns; gives the batch's position. Raises StorageFailed: then acknowledge nothing."""
        ...

    def read(self, after: int) -> AsyncIterator[tuple[int, Sequence[Frame]]]:
        """Every batch behind position ``after``, in order, up to the end at the time of the call."""
        ...

    async def release(self, upto: int) -> None:
        """Every follower has passed ``upto``; batches up to it may be deleted."""
        ...


class Sink(Protocol):
    async def write(self, readings: Sequence[Reading]) -> None:
        """Write all or raise Unavailable (keep, back off) or Rejected (with the indexes refused for good; the rest
        was written)."""
        ...


class Notification(Protocol):
    """What a receiver is given: a transition (machines) or a message (people); see ``notify.dispatcher``."""

    @property
    def key(self) -> str: ...
    @property
    def transition(self) -> Transition | None: ...
    @property
    def message(self) -> Message | None: ...
    @property
    def address(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def doubtful(self) -> bool: ...
    @property
    def row(self) -> int: ...


class Receiver(Protocol):
    """One that takes more or fewer than eight at the same time says so: ``at_once: int``."""

    async def send(self, notification: Notification) -> None:
        """Hand over, or raise Unavailable (retry) or Rejected (give up, visibly)."""
        ...
