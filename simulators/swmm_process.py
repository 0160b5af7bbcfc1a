"""The process in which SWMM runs: reads a network, then steps; ends with its input or with its parent.

The talk is described in ``simulators.swmm``. Standard output belongs to the talk, so whatever the engine's library
prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import sys
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from simulators.swmm import ANSWER, BALANCE, BALANCE_ASKED, FAILURE, LENGTH, READY, STEP, read_message

# Neither package has type annotations.
solver: Any = import_module("swmm.toolkit.solver")
enums: Any = import_module("swmm.toolkit.shared_enum")

PARENT_CHECK_S = 1.0
# SWMM cannot calculate with infinity: behind a loss this high a brook of 200 L/s becomes one of 2 L/s.
SHUT = 1e6
M3_PER_FT3 = 0.3048**3  # the volumes in store come in the engine's own cubic feet, the others in cubic metres


class Engine:
    """SWMM with one network open. Every number that leaves is rounded to mm or 0.1 L/s."""

    def __init__(self, wanted: Mapping[str, Any], folder: Path) -> None:
        """Raises RuntimeError with SWMM's words."""
        source, report = folder / "city.inp", folder / "city.rpt"
        source.write_text(wanted["inp"], encoding="utf-8")
        try:
            solver.swmm_open(str(source), str(report), str(folder / "city.out"))
            solver.swmm_start(0)
        except Exception as error:
            # Closing is what flushes the report, and the report is where SWMM says which line it did not like.
            with contextlib.suppress(Exception):
                solver.swmm_close()
            raise RuntimeError(_complaint(report) or str(error).strip()) from error
        self._at_s = 0.0
        self._rain = -1.0
        self._told = b""
        kind = enums.ObjectType
        self._gage = solver.project_get_index(kind.GAGE, "RAIN")
        self._nodes = _indices(kind.NODE, wanted["nodes"])
        full = enums.NodeProperty.FULL_DEPTH
        self._full = [solver.node_get_parameter(index, full) - 1e-3 for index in self._nodes]
        self._links = _indices(kind.LINK, wanted["links"])
        # Looking a member of these enumerations up costs as much as the call that needs it.
        of_node, of_link = enums.NodeResult, enums.LinkResult
        self._results = (of_node.DEPTH, of_node.FLOOD, of_link.FLOW)
        self._pumps = _indices(kind.LINK, wanted["pumps"])
        self._conduits = _indices(kind.LINK, wanted["conduits"])
        self._settings = [math.nan] * len(self._pumps)
        self._losses = [math.nan] * len(self._conduits)

    def step(self, request: bytes) -> bytes:
        """One request, one answer."""
        to_s, rain = STEP.unpack_from(request)
        if to_s == BALANCE_ASKED:
            return self._balance()
        if rain != self._rain:
            solver.raingage_set_precipitation(self._gage, rain)
            self._rain = rain
        if request[STEP.size :] != self._told:
            self._told = request[STEP.size :]
            numbers = array("d", self._told).tolist()
            self._set(numbers[: len(self._pumps)], numbers[len(self._pumps) :])
        while to_s - self._at_s > 1e-3:
            # The library counts in whole seconds.
            seconds = max(1, round(to_s - self._at_s))
            if solver.swmm_stride(seconds) <= 0:
                raise RuntimeError("the simulation has come to its end")
            self._at_s += seconds
        return self._state().tobytes()

    def close(self) -> None:
        solver.swmm_end()
        solver.swmm_close()

    def _set(self, settings: Sequence[float], losses: Sequence[float]) -> None:
        """Tell the engine what has changed."""
        for place, (index, old, new) in enumerate(zip(self._pumps, self._settings, settings, strict=True)):
            if old != new:
                solver.link_set_target_setting(index, new)
                self._settings[place] = new
        for place, (index, old, new) in enumerate(zip(self._conduits, self._losses, losses, strict=True)):
            if old != new and not (math.isnan(old) and new == 0):
                solver.link_set_parameter(index, enums.LinkProperty.AVERAGE_LOSS, min(new, SHUT))
            self._losses[place] = new

    def _balance(self) -> bytes:
        routing, runoff = solver.system_get_routing_totals(), solver.system_get_runoff_totals()
        inflow = routing.dwInflow + routing.wwInflow + routing.exInflow + routing.initStorage * M3_PER_FT3
        stored = routing.finalStorage * M3_PER_FT3
        return BALANCE.pack(inflow, routing.outflow, routing.flooding, stored, runoff.pctError, routing.pctError)

    def _state(self) -> array[int]:
        """Milliseconds, millimetres, and tenths of a litre a second."""
        # Reading costs more than computing (0.1 ms against 0.06 ms a step, of 60 nodes), so what is not needed is not
        # read: nothing leaves a node upwards before it is full.
        node, link = solver.node_get_result, solver.link_get_result
        depth, flood, flow = self._results
        depths = [node(index, depth) for index in self._nodes]
        numbers = array("q", (round(1000 * self._at_s),))
        numbers.fromlist([round(1000 * now) for now in depths])
        numbers.fromlist([
            round(10 * node(index, flood)) if now >= full else 0
            for index, now, full in zip(self._nodes, depths, self._full, strict=True)
        ])  # fmt: skip
        numbers.fromlist([round(10 * link(index, flow)) for index in self._links])
        return numbers


def _indices(kind: object, names: Sequence[str]) -> list[int]:
    return [int(solver.project_get_index(kind, name)) for name in names]


def _complaint(report: Path) -> str:
    """The lines of a report that say ERROR, with the line they are about."""
    if not report.exists():
        return ""
    lines = [line.strip() for line in report.read_text(encoding="utf-8", errors="replace").splitlines()]
    found = [f"{line} {after}".strip() for line, after in zip(lines, [*lines[1:], ""], strict=True) if "ERROR" in line]
    return "; ".join(found)


def _next(stream: IO[bytes], parent: int) -> bytes | None:
    """The next message; None when the input has ended or the parent is another (so somebody else, a process it forked,
    may still hold the pipe's other end)."""
    while not select.select([stream], [], [], PARENT_CHECK_S)[0]:
        if os.getppid() != parent:
            return None
    return read_message(stream)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The whole life of the process."""
    parent = os.getppid()

    def answer(kind: bytes, body: bytes) -> None:
        answers.write(LENGTH.pack(1 + len(body)) + kind + body)
        answers.flush()

    with tempfile.TemporaryDirectory(prefix="citywatch-swmm-") as folder:
        first = _next(requests, parent)
        if first is None:
            return
        try:
            engine = Engine(json.loads(first), Path(folder))
            answer(READY, folder.encode())
            while (request := _next(requests, parent)) is not None:
                answer(ANSWER, engine.step(request))
        except BrokenPipeError:
            return
        except Exception as error:
            with contextlib.suppress(BrokenPipeError):
                answer(FAILURE, str(error).encode())
            return
        engine.close()


def main() -> None:
    # Ctrl-C reaches the whole group; the parent closes the pipe when it has finished what it does about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A service that is stopped as a whole is no reason to leave files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Unbuffered: a buffer that has read ahead would make select() wait for what is already here.
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests, contextlib.suppress(BrokenPipeError):
        serve(requests, answers)
    with contextlib.suppress(BrokenPipeError):
        answers.close()


if __name__ == "__main__":
    main()
