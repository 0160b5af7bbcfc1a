"""One browser's end of the live feed: an HTTP answer that does not end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.console.feed import Batch, deflated

STALLED_S = 30.0  # a browser that takes nothing for this long is gone or hopeless; it comes back by itself
RETRY = b"retry: 2000\n\n"
GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: deflate, no name, no time
CHECK_S = 3.0  # with the two seconds that the gate believes what it knows: a stream ends within five of its session


class EventStream(Response):
    """Server-Sent Events until the feed closes, the browser leaves, stalls, or is no longer ``allowed``.

    ``packed``: as gzip, of pieces that were packed once for everybody. It ends without gzip's last word, the checksum
    of everything said: as a stream that was cut does, and a reader of events comes back either way."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[Batch, None], allowed: Callable[[], Awaitable[bool]], *, packed: bool = False
    ) -> None:
        encoding = {"Content-Encoding": "gzip"} if packed else {}
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **encoding})
        del self.headers["content-length"]
        self._events = events
        self._allowed = allowed
        self._packed = packed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        begin = GZIP + deflated(RETRY) if self._packed else RETRY
        await send({"type": "http.response.body", "body": begin, "more_body": True})
        tasks = {
            asyncio.create_task(self._send(send), name="stream-send"),
            asyncio.create_task(_left(receive), name="stream-left"),
            asyncio.create_task(self._forbidden(), name="stream-allowed"),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, TimeoutError):
                raise error
        async with asyncio.timeout(STALLED_S):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for batch in events:
                body = batch.packed() if self._packed else batch.wire
                async with asyncio.timeout(STALLED_S):
                    await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _forbidden(self) -> None:
        while await self._allowed():  # noqa: ASYNC110  nobody tells us when a token expires
            await asyncio.sleep(CHECK_S)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
