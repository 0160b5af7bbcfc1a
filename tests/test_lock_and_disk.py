"""One gateway per folder; telemetry waits before the disk is full, and does not flap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.disk import DiskGuard, DiskRoom
from gateway.errors import ConfigError
from gateway.lock import DataLock, is_running


def test_a_second_gateway_on_the_same_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    lock = DataLock(tmp_path)
    lock.take()
    code = f"from pathlib import Path; from gateway.lock import DataLock; DataLock(Path({str(tmp_path)!r})).take()"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert f"another gateway (process {os.getpid()})" in other.stderr
    assert is_running(tmp_path)
    lock.release()
    assert not is_running(tmp_path)
    lock.take()
    lock.release()


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        DataLock(tmp_path / "file" / "data").take()


def test_telemetry_stops_below_the_reserve_and_comes_back_only_well_above_it() -> None:
    guard = DiskGuard(reserve=100)
    judged = [guard.judge(DiskRoom(free, 10_000)) for free in (500, 99, 110, 124, 125, 101, 99)]
    assert judged == [False, True, True, True, False, False, True]


def test_the_reserve_is_at_most_a_quarter_of_a_small_disk() -> None:
    assert not DiskGuard(reserve=1 << 30).judge(DiskRoom(30, 100))
