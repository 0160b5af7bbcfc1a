"""A disk of its own for a run: something to cut the power of, and to fill."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

FS_IOC_SHUTDOWN = 0x8004587D
NOLOGFLUSH = 2  # not even the file system's own journal is written


class HarnessError(Exception):
    """The run itself does not work: this says nothing about the gateway's promises."""


class LoopDisk:
    """An ext4 of its own in a file, mounted: something to cut the power of, or to fill. Root only."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._image = folder / "disk.img"
        self.mountpoint = folder / "disk"
        self._megabytes = megabytes

    def __enter__(self) -> LoopDisk:
        self._image.parent.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(self._megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.mountpoint.mkdir(exist_ok=True)
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.mountpoint))

    def unmount(self) -> None:
        """Waits for the last process that holds a file on it."""
        for _ in range(100):
            if _try("umount", str(self.mountpoint)):
                return
            time.sleep(0.05)
        _run("umount", "-l", str(self.mountpoint))

    def cut(self) -> None:
        """The power fails: nothing that was not synced will be there again."""
        fd = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(fd)


def can_mount() -> bool:
    """Whether this machine lets us mount an image of our own."""
    tools = all(_program(name) for name in ("mkfs.ext4", "mount", "umount", "losetup"))
    return os.geteuid() == 0 and tools and _try("losetup", "-f")


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin")


def _try(name: str, *words: str) -> bool:
    return (
        subprocess.run([_program(name) or name, *words], capture_output=True, timeout=30, check=False).returncode == 0
    )


def _run(name: str, *words: str) -> None:
    try:
        subprocess.run([_program(name) or name, *words], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise HarnessError(f"{name}: {error}") from error
