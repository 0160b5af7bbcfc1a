"""The console's listener: uvicorn inside the running loop, on loopback unless told otherwise."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from gateway.errors import ConfigError, Mistake

STOP_S = 1  # SIGTERM to exit is 5 s in all; open requests get this much of it
MAX_CONNECTIONS = 1000
IDLE_S = 15


class ConsoleServer:
    """``await start()`` listens; ``run()`` serves until ``await stop()``. ``trusted_proxies``: addresses and networks
    that are believed when they say where a request came from, and that it came by TLS.

    Close the feed before stopping: its streams end only then.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 8080,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._listener: socket.socket | None = None
        self._stopped = asyncio.Event()
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),  # nobody else's X-Forwarded-… is believed
            forwarded_allow_ips=list(trusted_proxies),
            ws="none",
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=STOP_S,
            limit_concurrency=MAX_CONNECTIONS,
            h11_max_incomplete_event_size=16 << 10,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        self._server = uvicorn.Server(self._config)

    @property
    def port(self) -> int:
        """The port in use; only after ``start``."""
        assert self._listener is not None, "not started"
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds the page; only after ``start``."""
        scheme = "https" if self._config.ssl_certfile else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be used."""
        self._listener = _listen(self._host, self._port)
        # The steps of uvicorn's serve(), without its signal handlers: signals are the composition root's business.
        if not self._config.loaded:
            self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[self._listener])

    async def run(self) -> None:
        """Serve until ``stop``, or until cancelled; open requests get STOP_S to end."""
        try:
            await self._server.main_loop()
        finally:
            await self._server.shutdown(sockets=None if self._listener is None else [self._listener])
            self._stopped.set()

    async def stop(self) -> None:
        """Listen no more, let open requests end, and wait for ``run`` to return."""
        self._server.should_exit = True
        await self._stopped.wait()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        reason = f"{host}:{port} cannot be used: {error.strerror or error}"
        hint = "" if port == 0 else "; choose another with console.port or --port"
        raise ConfigError([Mistake("settings", None, "console.port", reason + hint)]) from error
