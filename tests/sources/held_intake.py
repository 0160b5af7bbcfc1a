"""An intake whose commit is in the hands of the test: what was offered, and when it becomes durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.model import FrameKind

WAIT_S = 15.0  # far above anything that should happen; a test that reaches it has failed


@dataclass(frozen=True, slots=True)
class Offered:
    kind: FrameKind
    source: str
    address: str
    payload: bytes
    retained: bool = False
    duplicate: bool = False


@dataclass(slots=True)
class HeldIntake:
    """``ports.Intake``. Nothing is durable before ``commit``; ``full`` only when the test says so."""

    frames: list[Offered] = field(default_factory=list)
    commit_at_once: bool = False
    full_above: int | None = None
    raise_on: bytes | None = None
    _durable: asyncio.Future[int] | None = None
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._room.set()

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
        if self.raise_on is not None and self.raise_on in payload:
            raise RuntimeError("the intake broke its word")
        if self._durable is None:
            self._durable = asyncio.get_running_loop().create_future()
        durable = self._durable
        self.frames.append(Offered(kind, source, address, payload, retained, duplicate_hint))
        if self.full_above is not None and len(self.frames) >= self.full_above:
            self._room.clear()
        if self.commit_at_once:
            self.commit()
        self._came.set()
        return durable

    @property
    def full(self) -> bool:
        return not self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    def make_room(self) -> None:
        self.full_above = None
        self._room.set()

    def commit(self) -> None:
        """Everything offered since the last ``commit`` or ``seal`` is durable."""
        durable = self.seal()
        if durable is not None:
            durable.set_result(0)

    def seal(self) -> asyncio.Future[int] | None:
        """The open batch's future; what comes from now on belongs to another batch."""
        durable, self._durable = self._durable, None
        return durable

    async def until(self, condition: Callable[[list[Offered]], bool]) -> list[Offered]:
        """Wait until the frames fulfil ``condition``; the frames."""
        async with asyncio.timeout(WAIT_S):
            while not condition(self.frames):
                self._came.clear()
                await self._came.wait()
        return self.frames

    async def count(self, number: int) -> list[Offered]:
        return await self.until(lambda frames: len(frames) >= number)

    @property
    def payloads(self) -> list[bytes]:
        return [frame.payload for frame in self.frames]


async def eventually(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for something outside our loop (another process, a socket) that nobody announces."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  nobody could set an event
            await asyncio.sleep(0.005)
