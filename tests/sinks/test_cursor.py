"""The cursor file: one number, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.sinks.cursor import FileCursor


async def test_a_new_sink_starts_at_the_beginning(tmp_path: Path) -> None:
    assert await FileCursor(tmp_path / "sinks", "influx").get() == 0


async def test_a_cursor_is_there_for_the_next_process(tmp_path: Path) -> None:
    await FileCursor(tmp_path, "influx").set(1 << 60)
    assert await FileCursor(tmp_path, "influx").get() == 1 << 60
    assert os.listdir(tmp_path) == ["influx.cursor"]


async def test_a_damaged_cursor_is_set_aside_and_the_sink_filled_again(tmp_path: Path) -> None:
    (tmp_path / "influx.cursor").write_bytes(b"\0\0\0")
    assert await FileCursor(tmp_path, "influx").get() == 0
    assert (tmp_path / "influx.damaged").read_bytes() == b"\0\0\0"
