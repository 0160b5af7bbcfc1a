"""A drainage network in the words of EPA's SWMM 5, and the engine that runs it, in a process of its own.

``Network`` is what stands in the ground; ``inp()`` writes it the way SWMM reads it (metres, L/s, hectares).
``Drainage`` runs it step by step. The engine is a C library with one global state that ends its process when it is
mistreated, so it lives in a child (``simulators.swmm_process``) behind two pipes: a message asks for the next step and
brings rain and settings, the answer brings every depth and flow. Same messages, same answers, to the last digit.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO

ROUTING_STEP_S = 5.0
# A round trip takes a tenth of a millisecond; ten seconds without an answer is a hanging engine, not a slow one.
STOP_TIMEOUT_S = 10.0
GAGE = "RAIN"


class DrainageError(Exception):
    """The engine refuses the network or a step, or is gone; the text has SWMM's own words when there are any."""


@dataclass(frozen=True, slots=True)
class Subcatchment:
    """A piece of the town that drains into ``outlet``. ``impervious``: 0…1; ``slope`` in percent; ``store_…_mm``: the
    puddles that never run off; ``horton_mm_h``: what the soil takes at first and in the end; ``horton_decay``: 1/h."""

    name: str
    outlet: str
    area_ha: float
    impervious: float
    width_m: float
    slope: float = 0.5
    n_impervious: float = 0.013
    n_pervious: float = 0.15
    store_impervious_mm: float = 2.0
    store_pervious_mm: float = 5.0
    without_store: float = 25.0
    horton_mm_h: tuple[float, float] = (75.0, 10.0)
    horton_decay: float = 4.0


@dataclass(frozen=True, slots=True)
class Junction:
    """A manhole: floor ``invert_m`` above datum, ground ``depth_m`` above the floor. Water above ground spreads over
    ``ponded_m2`` and comes back; with 0 it is lost. ``inflow_l_s`` runs in all the time, rain or not."""

    name: str
    invert_m: float
    depth_m: float
    ponded_m2: float = 0.0
    inflow_l_s: float = 0.0
    surcharge_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Well:
    """A pump station's wet well with vertical walls. What rises above ``depth_m`` + ``surcharge_m`` is lost."""

    name: str
    invert_m: float
    depth_m: float
    area_m2: float
    initial_m: float = 0.0
    inflow_l_s: float = 0.0
    surcharge_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Conduit:
    """A round pipe from ``start`` to ``end``; offsets are metres above the nodes' floors, ``loss`` is in velocity
    heads along the way (a little of it must be there for ``losses`` to change it while the engine runs)."""

    name: str
    start: str
    end: str
    length_m: float
    diameter_m: float
    roughness: float = 0.013
    start_offset_m: float = 0.0
    end_offset_m: float = 0.0
    loss: float = 0.0


@dataclass(frozen=True, slots=True)
class Pump:
    """A pump of constant flow. ``starts_at_m``, ``stops_at_m``: levels in its well at which it switches by itself;
    without them it does what its setting says."""

    name: str
    start: str
    end: str
    flow_m3_s: float
    starts_at_m: float | None = None
    stops_at_m: float | None = None


@dataclass(frozen=True, slots=True)
class Outfall:
    """Where water leaves: freely, or against a river ``stage_m`` above datum."""

    name: str
    invert_m: float
    stage_m: float | None = None


Node = Junction | Well | Outfall
Link = Conduit | Pump


@dataclass(frozen=True, slots=True)
class Network:
    """Everything at once; several stations that never meet are simply one network."""

    subcatchments: Sequence[Subcatchment]
    nodes: Sequence[Node]
    links: Sequence[Link]

    @property
    def pumps(self) -> list[Pump]:
        return [link for link in self.links if isinstance(link, Pump)]

    @property
    def conduits(self) -> list[Conduit]:
        return [link for link in self.links if isinstance(link, Conduit)]


def inp(
    network: Network, routing_step_s: float = ROUTING_STEP_S, wet_step_s: float = 5.0, variable_step: float = 0.0
) -> str:
    """The network as SWMM's input text, for a run of years whose rain and settings come from outside.

    ``variable_step``: the share of the Courant limit at which the engine divides its step; 0 keeps the step.
    Dry and wet runoff steps are equal: the engine does not wake up early for rain it is told about while it runs.
    """
    return "\n".join(
        f"[{name}]\n" + "\n".join(" ".join(map(_word, row)) for row in rows) + "\n"
        for name, rows in _sections(network, routing_step_s, wet_step_s, variable_step)
        if rows
    )


def _sections(
    network: Network, routing_step_s: float, wet_step_s: float, variable_step: float
) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    yield "OPTIONS", _options(routing_step_s, wet_step_s, variable_step)
    yield "RAINGAGES", [(GAGE, "INTENSITY", "0:01", 1.0, "TIMESERIES", "DRY")]
    yield "TIMESERIES", [("DRY", 0, 0.0)]
    yield (
        "SUBCATCHMENTS",
        [(s.name, GAGE, s.outlet, s.area_ha, 100 * s.impervious, s.width_m, s.slope, 0) for s in network.subcatchments],
    )
    yield (
        "SUBAREAS",
        [
            (
                s.name,
                s.n_impervious,
                s.n_pervious,
                s.store_impervious_mm,
                s.store_pervious_mm,
                s.without_store,
                "OUTLET",
            )
            for s in network.subcatchments
        ],
    )
    yield "INFILTRATION", [(s.name, *s.horton_mm_h, s.horton_decay, 7, 0) for s in network.subcatchments]
    nodes, conduits = network.nodes, network.conduits
    junctions = [node for node in nodes if isinstance(node, Junction)]
    wells = [node for node in nodes if isinstance(node, Well)]
    yield "JUNCTIONS", [(j.name, j.invert_m, j.depth_m, 0, j.surcharge_m, j.ponded_m2) for j in junctions]
    yield "OUTFALLS", [
        (o.name, o.invert_m, *(("FREE",) if o.stage_m is None else ("FIXED", o.stage_m)), "NO")
        for o in nodes if isinstance(o, Outfall)
    ]  # fmt: skip
    yield (
        "STORAGE",
        [(w.name, w.invert_m, w.depth_m, w.initial_m, "FUNCTIONAL", 0, 0, w.area_m2, w.surcharge_m, 0) for w in wells],
    )
    yield (
        "CONDUITS",
        [(c.name, c.start, c.end, c.length_m, c.roughness, c.start_offset_m, c.end_offset_m, 0, 0) for c in conduits],
    )
    yield "XSECTIONS", [(c.name, "CIRCULAR", c.diameter_m, 0, 0, 0, 1) for c in conduits]
    yield "LOSSES", [(c.name, 0, 0, c.loss, "NO", 0) for c in conduits if c.loss]
    yield (
        "PUMPS",
        [
            (p.name, p.start, p.end, f"CURVE_{p.name}", "OFF", p.starts_at_m or 0, p.stops_at_m or 0)
            for p in network.pumps
        ],
    )
    yield (
        "CURVES",
        [
            row
            for p in network.pumps
            for row in (
                (f"CURVE_{p.name}", "PUMP4", 0, 1000 * p.flow_m3_s),
                (f"CURVE_{p.name}", 100, 1000 * p.flow_m3_s),
            )
        ],
    )
    fed: list[Junction | Well] = [*junctions, *wells]
    yield "INFLOWS", [(node.name, "FLOW", '""', "FLOW", 1, 1, node.inflow_l_s) for node in fed if node.inflow_l_s]


def _options(routing_step_s: float, wet_step_s: float, variable_step: float) -> list[tuple[object, ...]]:
    wet = f"{int(wet_step_s) // 3600:02d}:{int(wet_step_s) // 60 % 60:02d}:{int(wet_step_s) % 60:02d}"
    return [
        ("FLOW_UNITS", "LPS"),
        ("INFILTRATION", "HORTON"),
        ("FLOW_ROUTING", "DYNWAVE"),
        ("LINK_OFFSETS", "DEPTH"),
        ("ALLOW_PONDING", "YES"),
        ("START_DATE", "01/01/2024"),
        ("START_TIME", "00:00:00"),
        ("REPORT_START_DATE", "01/01/2024"),
        ("REPORT_START_TIME", "00:00:00"),
        ("END_DATE", "01/01/2044"),
        ("END_TIME", "00:00:00"),
        ("DRY_DAYS", 5),
        ("REPORT_STEP", "24:00:00"),
        ("WET_STEP", wet),
        ("DRY_STEP", wet),
        ("ROUTING_STEP", routing_step_s),
        ("VARIABLE_STEP", variable_step),
        ("MINIMUM_STEP", 0.5),
        ("THREADS", 1),
    ]


def _word(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def published_drill(area_ha: float = 12.0) -> Network:
    """The pump drill the project publishes: 12 ha, 70 % paved, a well of 120 m² × 6 m, three pumps of 700 L/s.

    Published are also the switching levels, the inlet's depth of 3.0 m, the storm (Jinan's form, 20 years, 120 min,
    peak at 0.4, pieces of 5 min) and 15 rows of results: well, inlet, flooding at the inlet, pumps. The rest was found
    by an evolution strategy (CMA-ES, about 40,000 runs from random starts over 14 to 16 parameters), its cost counting
    each depth and flow in units of 2 %. Slope and roughness of the paved ground are not among them: with the width they
    make one number, so they are what they usually are. What it found looks like somebody's round numbers: an inlet
    floor at 3.0 m, a pipe of 1.5 m and 100 m ending at 2.5 m, 2,000 m² of street. With exactly those, the flooding of
    00:55 misses by 4 % and the inlet of 01:30 by 6 %; with what stands here every number of every row holds within 2 %,
    but for the last inlet, 0.083 m where 0.08 is printed. The pumps that run are those that are printed. Two more
    results were not used: 20 and 30 ha of equal width keep the well full as long as is published, to the row.

    Routing steps of 5 s and runoff steps of 60 s belong to the fit: the flooding of 00:50 moves by 2 % with runoff
    steps of 5 s and by 10 to 14 % with routing steps of 10 or 1 s. The pumps switch by themselves, and the well loses
    what rises above its 6 m.
    """
    levels = ((1.8, 0.8), (2.2, 1.0), (2.6, 1.2))
    land = Subcatchment(
        "land", "inlet", area_ha, 0.7, width_m=953.8, slope=0.5, n_impervious=0.013, n_pervious=0.219,
        store_impervious_mm=1.649, store_pervious_mm=7.357, without_store=27.46, horton_mm_h=(120.3, 3.763),
        horton_decay=9.133,
    )  # fmt: skip
    return Network(
        [land],
        [
            Junction("inlet", 3.011, 3.0, ponded_m2=2309.0),
            Well("well", 0.0, 6.0, 120.0, initial_m=0.7345),
            # Several pumps may not lead to one outfall (SWMM's error 145), so they meet first.
            Junction("outlet", 3.0, 3.0),
            Outfall("river", 0.0),
        ],
        [
            Conduit("trunk", "inlet", "well", 106.3, 1.54, 0.01406, end_offset_m=2.506),
            *(
                Pump(f"pump-{number}", "well", "outlet", 0.7, start, stop)
                for number, (start, stop) in enumerate(levels, 1)
            ),
            Conduit("river-pipe", "outlet", "river", 50.0, 1.5),
        ],
    )


DRILL_WET_STEP_S = 60.0

# On the wire: every message begins with its length. Questions are doubles, answers whole numbers (ms, mm, 0.1 L/s) of
# 64 bits, in the machine's own order (the child is on the same machine); texts are UTF-8.
LENGTH = struct.Struct("=I")
STEP = struct.Struct("=dd")  # advance to (s), rain (mm/h); the pumps' settings and the conduits' losses follow
BALANCE_ASKED = -1.0  # in place of a time: no step, but the water balance so far
BALANCE = struct.Struct("=6d")
ANSWER, FAILURE, READY = b"=", b"!", b"+"


@dataclass(frozen=True, slots=True)
class Balance:
    """Where the water of a run came from and went, m³. ``errors``: SWMM's continuity errors of runoff and of routing,
    in percent."""

    inflow_m3: float
    outflow_m3: float
    flooded_m3: float
    stored_m3: float
    errors: tuple[float, float]


@dataclass(frozen=True, slots=True)
class DrainageState:
    """The network at one moment: millimetres and decilitres a second, as a good gauge would read them.

    ``depth_m``: above the node's floor (a junction's may stand above its ground); ``flooding_l_s``: what leaves the
    node upwards; ``flow_m3_s`` by link.
    """

    at_s: float
    depth_m: Mapping[str, float] = field(repr=False)
    flooding_l_s: Mapping[str, float] = field(repr=False)
    flow_m3_s: Mapping[str, float] = field(repr=False)


class Drainage:
    """The engine, running a network from time 0 while the context is open.

    with Drainage(network) as drainage:
        state = drainage.advance(5.0, rain_mm_h=12.0, pump_settings={"P1": 1.0})

    Settings and losses stay until they are changed. Raises DrainageError when SWMM refuses the network or when the
    process is gone; nothing is left behind either way.
    """

    def __init__(
        self,
        network: Network,
        routing_step_s: float = ROUTING_STEP_S,
        wet_step_s: float = 5.0,
        variable_step: float = 0.0,
    ) -> None:
        """``routing_step_s``: hydraulics; ``wet_step_s``: runoff; see ``inp``."""
        self.network = network
        self._text = inp(network, routing_step_s, wet_step_s, variable_step)
        self._nodes = [node.name for node in network.nodes]
        self._links = [link.name for link in network.links]
        told = (pump.name for pump in network.pumps if pump.starts_at_m is None)
        self._pumps = {name: number for number, name in enumerate(told)}
        self._conduits = {conduit.name: number for number, conduit in enumerate(network.conduits)}
        self._settings = array("d", bytes(8 * len(self._pumps)))
        self._losses = array("d", (conduit.loss for conduit in network.conduits))
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = ""  # the engine's files, while it runs

    @property
    def pid(self) -> int:
        """The engine's process."""
        return self._running().pid

    def __enter__(self) -> Drainage:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulators.swmm_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            wanted = {
                "inp": self._text,
                "nodes": self._nodes,
                "links": self._links,
                "pumps": list(self._pumps),
                "conduits": list(self._conduits),
            }
            self.folder = self._ask(json.dumps(wanted).encode(), READY).decode()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def advance(
        self,
        to_s: float,
        rain_mm_h: float = 0.0,
        pump_settings: Mapping[str, float] | None = None,
        losses: Mapping[str, float] | None = None,
    ) -> DrainageState:
        """Let the water run until ``to_s`` under that rain. ``pump_settings``: 0 stopped, 1 full speed, for pumps
        that do not switch by themselves; ``losses``: a conduit's velocity heads, infinity for one that is shut."""
        for name, setting in (pump_settings or {}).items():
            self._settings[self._pumps[name]] = setting
        for name, loss in (losses or {}).items():
            self._losses[self._conduits[name]] = loss
        request = STEP.pack(to_s, rain_mm_h) + self._settings.tobytes() + self._losses.tobytes()
        at_ms, *numbers = array("q", self._ask(request, ANSWER)).tolist()
        nodes = len(self._nodes)
        return DrainageState(
            at_ms / 1000,
            dict(zip(self._nodes, [depth / 1000 for depth in numbers[:nodes]], strict=True)),
            dict(zip(self._nodes, [flow / 10 for flow in numbers[nodes : 2 * nodes]], strict=True)),
            dict(zip(self._links, [flow / 10_000 for flow in numbers[2 * nodes :]], strict=True)),
        )

    def balance(self) -> Balance:
        """The water so far."""
        request = STEP.pack(BALANCE_ASKED, 0.0) + self._settings.tobytes() + self._losses.tobytes()
        inflow, outflow, flooded, stored, runoff_error, routing_error = BALANCE.unpack(self._ask(request, ANSWER))
        return Balance(inflow, outflow, flooded, stored, (runoff_error, routing_error))

    def _ask(self, message: bytes, expected: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(LENGTH.pack(len(message)) + message)
            process.stdin.flush()
            answer = read_message(process.stdout)
        except OSError as error:
            raise DrainageError(f"the drainage engine is gone ({self._ending()})") from error
        if answer is None:
            raise DrainageError(f"the drainage engine is gone ({self._ending()})")
        if answer[:1] == FAILURE:
            raise DrainageError(answer[1:].decode())
        if answer[:1] != expected:
            raise DrainageError(f"the drainage engine answers out of turn: {answer[:20]!r}")
        return answer[1:]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DrainageError("the drainage engine is not running")
        return self._process

    def _ending(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"exit code {self._running().wait(1.0)}"
        return "its pipe is closed"

    def _stop(self) -> None:
        """The child ends when its input does; one that does not is killed. Its folder goes even if it could not."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdout is not None
        try:
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            process.stdout.close()
            if self.folder:
                shutil.rmtree(self.folder, ignore_errors=True)


def read_message(stream: IO[bytes]) -> bytes | None:
    """The next message of a pipe; None when it ended."""
    head = _read(stream, LENGTH.size)
    return _read(stream, *LENGTH.unpack(head)) if head else None


def _read(stream: IO[bytes], length: int) -> bytes | None:
    """So many bytes, or None: a pipe gives what it holds, 64 KiB at most."""
    body = b""
    while len(body) < length:
        part = stream.read(length - len(body))
        if not part:
            return None
        body += part
    return body
