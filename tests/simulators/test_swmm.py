"""The drainage engine: the published drill, errors in SWMM's words, and a process that never outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest

from simulators.swmm import (
    DRILL_WET_STEP_S,
    Conduit,
    Drainage,
    DrainageError,
    DrainageState,
    Junction,
    Network,
    Outfall,
    Pump,
    Subcatchment,
    Well,
    inp,
    published_drill,
)
from simulators.weather import FORMULAS, Blocks, ChicagoStorm

DRILL_STORM = Blocks(ChicagoStorm(FORMULAS["jinan"], 20, 120).bins(5), 300.0)

# minute: (well m, inlet m, flooding L/s, pumps running)
PUBLISHED = {
    10: (0.98, 0.22, 0, 0),
    15: (1.76, 0.31, 0, 0),
    20: (1.36, 0.37, 0, 1),
    35: (2.16, 0.50, 0, 2),
    45: (2.65, 0.76, 0, 3),
    50: (6.00, 3.02, 1975, 3),
    55: (6.00, 3.34, 1179, 3),
    60: (6.00, 3.36, 0, 3),
    80: (5.96, 3.06, 0, 3),
    90: (4.36, 1.44, 0, 3),
    100: (1.31, 0.51, 0, 3),
    105: (1.63, 0.49, 0, 1),
    135: (1.40, 0.23, 0, 0),
    140: (1.48, 0.20, 0, 1),
    180: (1.01, 0.08, 0, 0),
}


@pytest.fixture(scope="module")
def drill() -> dict[int, DrainageState]:
    """The drill's state at every minute of three hours."""
    states = {}
    with Drainage(published_drill(), routing_step_s=5.0, wet_step_s=DRILL_WET_STEP_S) as drainage:
        for at in range(0, 180 * 60, 60):
            states[at // 60 + 1] = drainage.advance(at + 60.0, DRILL_STORM.intensity_mm_h(at))
        balance = drainage.balance()
    assert max(map(abs, balance.errors)) < 2
    return states


@pytest.mark.parametrize("minute", PUBLISHED)
def test_the_published_drill_is_reproduced(drill: dict[int, DrainageState], minute: int) -> None:
    """Within 2 %, or within the half centimetre that was lost in printing."""
    well, inlet, flooding, pumps = PUBLISHED[minute]
    state = drill[minute]
    assert state.depth_m["well"] == pytest.approx(well, rel=0.02, abs=0.005)
    assert state.depth_m["inlet"] == pytest.approx(inlet, rel=0.02, abs=0.005)
    assert state.flooding_l_s["inlet"] == pytest.approx(flooding, rel=0.02)
    assert sum(state.flow_m3_s[f"pump-{number}"] > 0 for number in (1, 2, 3)) == pumps


@pytest.mark.parametrize(("area_ha", "first", "last"), [(20.0, 50, 100), (30.0, 45, 125)])
def test_larger_catchments_keep_the_well_full_as_long_as_published(area_ha: float, first: int, last: int) -> None:
    full = []
    with Drainage(published_drill(area_ha), routing_step_s=5.0, wet_step_s=DRILL_WET_STEP_S) as drainage:
        for minute in range(5, 181, 5):
            state = drainage.advance(minute * 60.0, DRILL_STORM.intensity_mm_h((minute - 5) * 60))
            if state.depth_m["well"] >= 5.99:
                full.append(minute)
    assert (full[0], full[-1]) == (first, last)


def test_the_drill_ends_in_short_cycling_of_one_pump(drill: dict[int, DrainageState]) -> None:
    running = [drill[minute].flow_m3_s["pump-1"] > 0 for minute in range(105, 166)]
    assert sum(not before and now for before, now in pairwise(running)) >= 2


def test_the_same_network_and_rain_give_the_same_numbers() -> None:
    def course() -> list[str]:
        with Drainage(published_drill()) as drainage:
            return [repr(drainage.advance(at + 30.0, 60.0)) for at in range(0, 1800, 30)]

    assert course() == course()


def test_what_leaves_is_rounded_as_a_gauge_would(drill: dict[int, DrainageState]) -> None:
    state = drill[47]
    assert all(depth == round(depth, 3) for depth in state.depth_m.values())
    assert all(flow == round(flow, 1) for flow in state.flooding_l_s.values())
    assert all(flow == round(flow, 4) for flow in state.flow_m3_s.values())
    assert state.at_s == 47 * 60


# A brook of 200 L/s through two pipes, and a well whose pump does as it is told.
BROOK = Network(
    [],
    [
        Junction("upper", 3.5, 3.0, ponded_m2=2000.0, inflow_l_s=200.0),
        Junction("lower", 3.2, 3.0, ponded_m2=2000.0),
        Well("well", 0.0, 6.0, 100.0, initial_m=1.0),
        Junction("outlet", 3.0, 3.0),
        Outfall("river", 2.5, stage_m=2.6),
    ],
    [
        Conduit("first", "upper", "lower", 100.0, 0.8, loss=0.1),
        Conduit("second", "lower", "well", 100.0, 0.8, end_offset_m=2.8, loss=0.1),
        Pump("pump", "well", "outlet", 0.5),
        Conduit("river-pipe", "outlet", "river", 50.0, 1.0),
    ],
)


def test_a_pump_follows_its_setting() -> None:
    with Drainage(BROOK) as drainage:
        assert drainage.advance(600.0).flow_m3_s["pump"] == 0
        filled = drainage.advance(1200.0).depth_m["well"]
        state = drainage.advance(1230.0, pump_settings={"pump": 1.0})
        assert state.flow_m3_s["pump"] == pytest.approx(0.5)
        assert drainage.advance(1260.0).flow_m3_s["pump"] == pytest.approx(0.5)
        state = drainage.advance(1500.0, pump_settings={"pump": 0.5})
        assert state.flow_m3_s["pump"] == pytest.approx(0.25)
        assert state.depth_m["well"] < filled + 0.6
        assert drainage.advance(1510.0, pump_settings={"pump": 0.0}).flow_m3_s["pump"] == 0


def test_losses_change_while_the_engine_runs_and_water_on_the_road_comes_back() -> None:
    with Drainage(BROOK) as drainage:
        clean = drainage.advance(1800.0, pump_settings={"pump": 1.0}).depth_m["upper"]
        narrow = drainage.advance(3600.0, losses={"first": 50.0}).depth_m["upper"]
        shut = drainage.advance(7200.0, losses={"first": inf})
        assert clean < narrow < 3.0
        assert 3.0 < shut.depth_m["upper"] < 3.5
        assert shut.flooding_l_s["upper"] > 150
        again = drainage.advance(10_800.0, losses={"first": 0.1})
        assert again.depth_m["upper"] == pytest.approx(clean, abs=0.01)


def test_rain_runs_off_and_is_accounted_for() -> None:
    network = Network(
        [Subcatchment("land", "upper", 5.0, 0.7, 400.0)], BROOK.nodes, BROOK.links
    )  # 20 mm on 5 ha, of which a third never arrives
    with Drainage(network) as drainage:
        drainage.advance(3600.0, rain_mm_h=20.0)
        drainage.advance(7200.0)
        balance = drainage.balance()
    assert 0.6 < (balance.inflow_m3 - 0.2 * 7200 - 100) / 1000 < 1.0
    left = balance.inflow_m3 - balance.outflow_m3 - balance.flooded_m3 - balance.stored_m3
    assert abs(left) < 0.02 * balance.inflow_m3
    assert max(map(abs, balance.errors)) < 2


def test_the_input_is_what_SWMM_reads() -> None:
    text = inp(BROOK, routing_step_s=10.0, wet_step_s=75.0)
    assert "ROUTING_STEP 10\n" in text
    assert "WET_STEP 00:01:15\n" in text
    assert "river 2.5 FIXED 2.6 NO\n" in text
    assert "[SUBCATCHMENTS]" not in text


def test_a_network_that_SWMM_refuses_is_refused_in_its_words() -> None:
    broken = Network([], [Junction("upper", 3.0, 3.0)], [Conduit("pipe", "upper", "nowhere", 10.0, 1.0)])
    drainage = Drainage(broken)
    with pytest.raises(DrainageError, match="undefined object nowhere"):
        drainage.__enter__()
    with pytest.raises(DrainageError, match="not running"):
        drainage.advance(5.0)


def test_a_network_larger_than_a_pipe_holds_is_read_whole() -> None:
    nodes = [Junction(f"gauge-well-of-the-long-road-{number:05d}", 100 - 0.1 * number, 3.0) for number in range(900)]
    links = [
        Conduit(f"drain-of-the-long-road-{number:05d}", above.name, below.name, 50.0, 0.8)
        for number, (above, below) in enumerate(pairwise(nodes))
    ]
    end = Conduit("end", nodes[-1].name, "river", 50.0, 0.8)
    network = Network([], [*nodes, Outfall("river", 5.0)], [*links, end])
    assert len(inp(network)) > 100_000
    with Drainage(network) as drainage:
        assert len(drainage.advance(5.0).depth_m) == 901


def gone(pid: int) -> bool:
    """Is the process no more (or only waiting to be counted)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition: object, within_s: float = 10.0) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def test_leaving_the_context_leaves_no_process_and_no_files() -> None:
    with Drainage(BROOK) as drainage:
        drainage.advance(60.0)
        pid, folder = drainage.pid, Path(drainage.folder)
        assert list(folder.iterdir())
    assert gone(pid)
    assert not folder.exists()


def test_an_engine_that_crashes_is_an_error_and_its_files_go() -> None:
    with Drainage(BROOK) as drainage:
        drainage.advance(60.0)
        folder = Path(drainage.folder)
        os.kill(drainage.pid, signal.SIGKILL)
        with pytest.raises(DrainageError, match="gone"):
            drainage.advance(120.0)
        with pytest.raises(DrainageError, match="gone"):
            drainage.advance(120.0)
    assert not folder.exists()


PARENT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell started in the background ignores it
from simulators.swmm import *
from tests.simulators.test_swmm import BROOK
with Drainage(BROOK) as drainage:
    drainage.advance(60.0)
    print(drainage.pid, drainage.folder, flush=True)
    at = 60.0
    while True:
        at += 5.0
        drainage.advance(at)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("last_word", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_parent_is_killed_no_engine_stays(last_word: signal.Signals) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        parent.send_signal(last_word)
        try:
            parent.wait(10)
        finally:
            parent.kill()
    assert eventually(lambda: gone(int(pid)))
    assert eventually(lambda: not Path(folder).exists())
