"""The console's listener: uvicorn inside the running loop, on loopback unless told otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from gateway.console.feed import Feed
from gateway.errors import ConfigError, Mistake

STOP_S = 2.0  # SIGTERM to exit is 5 s in all; open requests get this much of it
MAX_CONNECTIONS = 1000
IDLE_S = 15  # keep-alive; also how long a slow sender of headers is waited for


class _Server(uvicorn.Server):
    """uvicorn, but signals are the composition root's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp,
    feed: Feed,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> AsyncIterator[int]:
    """Serve ``app`` inside ``async with``; gives the port. Raises ConfigError when the port is taken.

    Leaving ends the live streams first, then waits up to STOP_S for the rest.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # nobody's X-Forwarded-… is believed
        ws="none",
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=int(STOP_S),
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=16 << 10,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="console")
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("the console's server ended before it began")
            await asyncio.sleep(0.01)
        yield int(listener.getsockname()[1])
    finally:
        feed.close()
        server.should_exit = True
        await asyncio.shield(task)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512, reuse_port=False
        )
    except OSError as error:
        reason = f"{host}:{port} cannot be used: {error.strerror or error}"
        hint = "" if port == 0 else "; choose another with console.port or --port"
        raise ConfigError([Mistake("settings", None, "console.port", reason + hint)]) from error
