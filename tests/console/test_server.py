"""Where the console listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gateway.console.server import ConsoleServer
from gateway.errors import ConfigError
from tests.console.city import running


async def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = ConsoleServer(lambda scope, receive, send: None, port=taken.getsockname()[1])  # type: ignore[arg-type,return-value]
        with pytest.raises(ConfigError, match="cannot be used"):
            await server.start()


async def test_it_listens_on_loopback_unless_told_otherwise(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        assert console.url.startswith("http://127.0.0.1:")
