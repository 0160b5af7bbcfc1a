"""A child process to be killed: forked, because importing the database libraries anew takes two seconds."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO


@dataclass
class Child:
    """``said``: what it printed, line by line."""

    pid: int
    said: TextIO
    status: int | None = None

    def kill(self) -> None:
        """SIGKILL, then wait."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status


@contextlib.contextmanager
def forked(run: Callable[[Callable[[object], None]], None]) -> Iterator[Child]:
    """Run ``run(say)`` in a child; killed and reaped at the end if it still lives."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            run(lambda what: os.write(writer, f"{what}\n".encode()) and None)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as said:
        child = Child(pid, said)
        try:
            yield child
        finally:
            if child.status is None:
                child.kill()
