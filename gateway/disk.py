"""How much room the data folder has, and when telemetry must wait so that alarms can still be kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """``free`` bytes for us, ``used`` as a share of the file system in percent."""

    free: int
    total: int

    @property
    def used(self) -> float:
        return 100.0 * (1 - self.free / self.total) if self.total else 100.0


def room(folder: Path) -> DiskRoom:
    """Raises OSError."""
    stat = os.statvfs(folder)
    return DiskRoom(stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize)


class DiskGuard:
    """Says when telemetry must stop and when it may go on; the gap between the two keeps it from flapping.

    The reserve is at most a quarter of the file system, so that a small card can still be used.
    """

    RESUME = 1.25  # times the reserve: telemetry comes back only when a quarter more is free

    def __init__(self, reserve: int) -> None:
        self._reserve = reserve
        self.full = False

    def judge(self, room: DiskRoom) -> bool:
        """True: take no telemetry."""
        reserve = min(self._reserve, room.total // 4)
        self.full = room.free < (reserve * self.RESUME if self.full else reserve)
        return self.full
