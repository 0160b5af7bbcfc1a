"""Snapshots of the processor on disk: one file each, named by journal position, checked before it is believed.

A file is CRC-32 (4 bytes, big-endian) + the snapshot, not compressed: that took longer than making it. It is written
beside, synced and renamed; a file that does not check is left alone, reported and passed over: the journal can always
rebuild what it held.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

_NAME = re.compile(r"^(\d{16})\.snapshot$")


class SnapshotFolder:
    """``damaged`` lists the files that were passed over, with the reason."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[str] = []
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def positions(self) -> list[int]:
        """Journal positions of all files, ascending."""
        matches = (_NAME.match(p.name) for p in self.folder.iterdir())
        return sorted(int(m[1]) for m in matches if m is not None)

    def save(self, position: int, data: bytes) -> None:
        """Durable when it returns. Raises OSError."""
        path = self.folder / f"{position:016d}.snapshot"
        beside = path.with_suffix(".part")
        with beside.open("wb") as file:
            file.write(struct.pack(">I", zlib.crc32(data)))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    async def save_now(self, position: int, data: bytes) -> None:
        """``save`` in a thread."""
        await asyncio.to_thread(self.save, position, data)

    async def save_aside(self, position: int, make: Callable[[], bytes], forget: Sequence[int]) -> None:
        """``save`` of ``make()`` in a forked child: it sees this instant's state while we go on changing ours.

        Encoding 40,000 points in place holds the loop for 95 to 220 ms, a fork of 340 MB for 7.
        The child only encodes, writes and ends; it runs no loop, takes no library lock, and closes ``forget`` first
        (the data folder's lock must not outlive us in it). Raises OSError when the child failed.
        """
        child = os.fork()
        if child == 0:
            status = 1
            gc.disable()  # it would look at, and so copy, every page of a city
            try:
                for number in forget:
                    os.close(number)
                self.save(position, make())
                status = 0
            finally:
                os._exit(status)
        _, code = await asyncio.to_thread(os.waitpid, child, 0)
        if code != 0:
            raise OSError(f"the child that writes it ended with status {os.waitstatus_to_exitcode(code)}")

    def newest(self, upto: int) -> tuple[int, bytes] | None:
        """The newest snapshot at or before position ``upto`` that checks."""
        for position in reversed(self.positions()):
            if position > upto:
                continue
            try:
                raw = (self.folder / f"{position:016d}.snapshot").read_bytes()
                data = raw[4:]
                if len(raw) < 5 or struct.unpack(">I", raw[:4])[0] != zlib.crc32(data):
                    raise ValueError("the checksum does not match")
                return position, data
            except (OSError, ValueError) as error:
                self.damaged.append(f"snapshot {position}: {error}")
        return None

    def prune(self, needed: int) -> int:
        """Delete all but the newest at or before ``needed`` and those after it; gives the oldest position kept (0:
        none). Keeps two at least, so that a damaged one costs a longer replay and nothing else."""
        positions = self.positions()
        before = [p for p in positions if p <= needed]
        keep = before[-2:] + [p for p in positions if p > needed]
        for position in positions:
            if position not in keep:
                (self.folder / f"{position:016d}.snapshot").unlink(missing_ok=True)
        return keep[0] if keep else 0
