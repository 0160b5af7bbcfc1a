"""Gateways that start in a third of the time: forked from a process that has imported everything and done nothing.

Half of a start is Python reading modules, and a run of many faults is mostly starts. The forked process then does what
``citywatch run`` does, from the command line on; it is killed, traced and judged like any other. The server has one
thread and no loop, so nothing is torn by the fork. What must be there before the first instruction (``LD_PRELOAD``)
cannot be forked.

    with forked_starts():
        ... every GatewayProcess started in here is forked
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

FORKS: ContextVar[ForkServer | None] = ContextVar("FORKS", default=None)
REPOSITORY = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def forked_starts() -> Iterator[None]:
    """Inside, gateways are forked where they can be."""
    with ForkServer() as server:
        token = FORKS.set(server)
        try:
            yield
        finally:
            FORKS.reset(token)


class ForkServer:
    """The server and its children, seen from the parent. Usable from any thread."""

    def __enter__(self) -> ForkServer:
        from bench.faults.processes import die_with_parent

        self._ends: dict[int, int] = {}
        self._news = threading.Condition()
        self._born: list[int] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.faults.forkserver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            preexec_fn=die_with_parent,
        )
        self._asking = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="fork-server", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def spawn(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> ForkedProcess:
        """Fork a gateway that runs ``citywatch ARGUMENTS`` and appends what it says to ``log``."""
        assert self._process.stdin is not None
        request = {"arguments": arguments, "environment": dict(environment), "log": str(log)}
        with self._asking:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            with self._news:
                if not self._news.wait_for(lambda: self._born, 30):
                    raise TimeoutError("the fork server does not answer")
                return ForkedProcess(self, self._born.pop())

    def end_of(self, pid: int, timeout_s: float) -> int | None:
        """The exit code of a child as ``subprocess`` has it; None when it lives on."""
        with self._news:
            self._news.wait_for(lambda: pid in self._ends, timeout_s)
            return self._ends.get(pid)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said: dict[str, Any] = json.loads(line)
            with self._news:
                if "code" in said:
                    self._ends[said["pid"]] = said["code"]
                else:
                    self._born.append(said["pid"])
                self._news.notify_all()


class ForkedProcess:
    """What a harness needs of ``subprocess.Popen``, for a child of the fork server."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self._server = server

    def poll(self) -> int | None:
        return self._server.end_of(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        code = self._server.end_of(self.pid, 1e6 if timeout is None else timeout)
        if code is None:
            raise subprocess.TimeoutExpired("citywatch", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# -- the server -------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Fork for each line on stdin, tell births and deaths on stdout; ends, with all children, when stdin does."""
    import gateway.app
    import gateway.cli
    import gateway.config.units  # noqa: F401  imports only

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    living: set[int] = set()
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == wake_read:
                    os.read(wake_read, 4096)
                    _bury(living)
                    continue
                data = os.read(0, 65536)
                if not data:
                    for pid in living:
                        os.kill(pid, signal.SIGKILL)
                    return
                *requests, rest = (rest + data).split(b"\n")
                for request in requests:
                    living.add(_fork(json.loads(request), (wake_read, wake_write)))


def _bury(living: set[int]) -> None:
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        living.discard(pid)
        _say({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(news: Mapping[str, int]) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


def _fork(request: Mapping[str, Any], pipes: tuple[int, int]) -> int:
    pid = os.fork()
    if pid:
        _say({"pid": pid})
        return pid
    code = 70
    try:
        _become(request, pipes)
        from gateway.cli import main

        main(request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the server's own clean-up is not the child's


def _become(request: Mapping[str, Any], pipes: tuple[int, int]) -> None:
    """Turn the copy of the server into a process of its own."""
    from bench.faults.processes import die_with_parent
    from gateway import sabotage

    die_with_parent()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pipe in pipes:
        os.close(pipe)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(request["environment"])
    importlib.reload(sabotage)  # it reads the environment when it is imported


if __name__ == "__main__":
    serve()
