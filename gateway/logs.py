"""Logging: structlog, one line an event, to standard error; readable on a terminal, JSON elsewhere.

Values that came from outside are escaped and cut, so that nobody forges a line or fills the disk with one (A68).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

MAX_VALUE = 500  # characters of one value in a log line


def _safe(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            shown = value if value.isprintable() else value.encode("unicode_escape").decode("ascii")
            event[key] = shown if len(shown) <= MAX_VALUE else shown[:MAX_VALUE] + "…"
    return event


def configure(level: str = "INFO", file: TextIO | None = None) -> None:
    """Once per process, before anything logs. ``level``: DEBUG, INFO, WARNING or ERROR. ``file``: instead of standard
    error, when a picture is drawn there."""
    stream = sys.stderr if file is None else file
    terminal = stream.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            _safe,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong; what we need to know of them we say ourselves.
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(levelname)s %(name)s: %(message)s")
    for noisy in ("asyncio", "uvicorn.access", "httpx", "gmqtt"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
