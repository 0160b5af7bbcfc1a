"""Tries texts of rules beside the work: each in a process of its own, low in priority, so that no alarm waits for it.

What is asked for and what came of it is kept in memory only: a restart forgets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec
import structlog

from gateway.config.bundle import CONSOLE, Bundle
from gateway.console.rule_port import Backtest, BacktestState, Comparison, StoriesReport
from gateway.core.model import Micros
from gateway.errors import CitywatchError, Unavailable
from gateway.historian.archive import clear_pictures

if TYPE_CHECKING:
    from gateway.app import Gateway

log = structlog.get_logger("trials")

NICE = 15
STORIES_S = 60.0  # all 403 shipped stories take 4 s
BACKTEST_S = 6 * 3600.0
END_S = 2.0  # to take the still picture away; then it is killed, and we do that (a stop has 5 s in all)
STORIES_AT_ONCE = 2
WAITING = 5
KEPT = 20
LONGEST_LINE = 64 << 20  # an answer is one line

ROOT = Path(__file__).resolve().parent.parent


class StoriesRequest(msgspec.Struct, frozen=True, tag="stories"):
    """``text`` stands for the file ``file`` of ``bundle.console``; ``folders`` hold story files."""

    bundle: Bundle
    file: str
    text: str
    rule: str
    folders: list[str]


class BacktestRequest(msgspec.Struct, frozen=True, tag="backtest"):
    bundle: Bundle
    file: str
    text: str
    rule: str
    data: str
    since: Micros
    until: Micros
    assets: list[str]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the process says, a line each; any but ``progress`` is the last."""

    progress: float | None = None
    stories: StoriesReport | None = None
    comparison: Comparison | None = None
    error: str | None = None


class Trials:
    """Implements ``console.rule_port.Trials``; ``run`` must run."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tellers: set[str] = set()
        self._backtests: dict[str, Backtest] = {}
        self._texts: dict[str, BacktestRequest] = {}
        self._asked = asyncio.Event()
        self._running: tuple[str, asyncio.Task[None]] | None = None

    async def run(self) -> None:
        """Backtests one after the other, until cancelled."""
        await asyncio.to_thread(clear_pictures, self._gateway.settings.data)
        while True:
            waiting = next((one for one in self._backtests.values() if one.state is BacktestState.WAITING), None)
            if waiting is None:
                self._asked.clear()
                await self._asked.wait()
                continue
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._compare(waiting, self._texts.pop(waiting.id)), name="backtest")
                self._running = waiting.id, task
            self._running = None

    # -- stories ------------------------------------------------------------------------------------------------------

    async def stories(self, rule_id: str, text: str, who: str) -> StoriesReport:
        if who in self._tellers:
            raise Unavailable("your last stories are still being told")
        if len(self._tellers) >= STORIES_AT_ONCE:
            raise Unavailable(f"{STORIES_AT_ONCE} others are trying a rule just now")
        gateway = self._gateway
        bundle = msgspec.structs.replace(gateway.bundle, profiles={})
        folders = [str(folder) for folder in gateway.rulebook.story_folders()]
        self._tellers.add(who)
        try:
            answer = await self._ask(StoriesRequest(bundle, _file(rule_id), text, rule_id, folders), STORIES_S)
        except TimeoutError as error:
            raise Unavailable(f"the stories took longer than {STORIES_S:g} s") from error
        except CitywatchError as error:
            raise Unavailable(str(error)) from error
        finally:
            self._tellers.discard(who)
        assert answer.stories is not None
        return answer.stories

    # -- backtests ----------------------------------------------------------------------------------------------------

    def begin(self, rule_id: str, text: str, who: str, since: Micros, until: Micros, assets: Sequence[str]) -> Backtest:
        waiting = sum(one.state is BacktestState.WAITING for one in self._backtests.values())
        if waiting >= WAITING:
            raise Unavailable(f"{WAITING} backtests are waiting already")
        made = Backtest(secrets.token_hex(8), rule_id, who, self._gateway.clock.now(), since, until, tuple(assets))
        data = str(self._gateway.settings.data)
        self._texts[made.id] = BacktestRequest(
            self._gateway.bundle, _file(rule_id), text, rule_id, data, since, until, list(assets)
        )
        self._backtests[made.id] = made
        ended = [one.id for one in self._backtests.values() if one.ended]
        for id_ in ended[: max(0, len(self._backtests) - KEPT)]:
            del self._backtests[id_]
        self._asked.set()
        return made

    def backtests(self) -> Sequence[Backtest]:
        return list(reversed(self._backtests.values()))

    def backtest(self, id_: str) -> Backtest | None:
        return self._backtests.get(id_)

    def cancel(self, id_: str) -> Backtest | None:
        found = self._backtests.get(id_)
        if found is not None and not found.ended:
            found.state = BacktestState.CANCELLED
            self._texts.pop(id_, None)
            if self._running is not None and self._running[0] == id_:
                self._running[1].cancel()
        return found

    async def _compare(self, backtest: Backtest, request: BacktestRequest) -> None:
        def progress(part: float) -> None:
            backtest.progress = round(part, 3)

        backtest.state = BacktestState.RUNNING
        try:
            answer = await self._ask(request, BACKTEST_S, progress)
        except (TimeoutError, CitywatchError) as error:
            backtest.state, backtest.error = BacktestState.FAILED, str(error) or f"it took longer than {BACKTEST_S:g} s"
            return
        backtest.state, backtest.progress, backtest.report = BacktestState.DONE, 1.0, answer.comparison

    # -- the process --------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        request: StoriesRequest | BacktestRequest,
        patience_s: float,
        progress: Callable[[float], None] = lambda _: None,
    ) -> Line:
        """The last line of a process. Raises CitywatchError when it says an error or dies, TimeoutError."""
        with tempfile.TemporaryFile() as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "gateway.trial_process",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=said,
                start_new_session=True, limit=LONGEST_LINE, env=os.environ | {"PYTHONPATH": _path()},
            )  # fmt: skip
            with contextlib.suppress(ProcessLookupError):  # from its first import on
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            try:
                async with asyncio.timeout(patience_s):
                    line = await _last_line(process, msgspec.json.encode(request), progress)
            finally:
                await _whole(self._end(process))
            if line is None:
                log.error("a trial ended without an answer", status=process.returncode, said=_tail(said))
                raise CitywatchError(f"the process that tried it ended with status {process.returncode}")
        if line.error is not None:
            raise CitywatchError(line.error)
        return line

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """It is gone when this returns, and so is its still picture."""
        if process.stdin is not None:
            process.stdin.close()  # tells it to end, if it has not
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await asyncio.to_thread(clear_pictures, self._gateway.settings.data)


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Do it to its end, however often the caller is cancelled meanwhile; then the caller is."""
    task = asyncio.create_task(work, name="end of a trial")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _last_line(
    process: asyncio.subprocess.Process, request: bytes, progress: Callable[[float], None]
) -> Line | None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):  # it died: then it says nothing, too
        process.stdin.write(request + b"\n")
        await process.stdin.drain()
    while text := await process.stdout.readline():
        line = msgspec.json.decode(text, type=Line)
        if line.progress is None:
            return line
        progress(line.progress)
    return None


def _tail(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - 2000))
    return said.read().decode(errors="replace")


def _path() -> str:
    """Where the child finds us, whichever folder the gateway was started in."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _file(rule_id: str) -> str:
    return f"{CONSOLE}/{rule_id}.yaml"
