"""``citywatch bench``: run benchmarks by name, hold their figures against the targets, keep ``bench/RESULTS.md``.

People are told on standard error where we are; the figures come as one JSON document on standard output. Exit 1 when a
target was missed or a benchmark could not be run, 2 for a name that is none.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.disk import HarnessError
from bench.report import RESULTS, Checked, check, machine, say, section, update, versions
from gateway.errors import CitywatchError, ConfigError, Mistake


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: what it shows in a sentence, and how it runs (``runs`` concerns the fault campaign alone).

    ``targets`` stand here for those that have no ``TARGETS`` of their own.
    """

    about: str
    module: str
    run: Callable[[Any, int], Mapping[str, Any]] = lambda module, _runs: module.run()
    targets: Mapping[str, str] = field(default_factory=dict)


def _faults(campaign: Any, runs: int) -> dict[str, Any]:
    """The campaign's report, with what must be zero counted: broken promises, broken builds not noticed, stories that
    could not be told here."""
    report: dict[str, Any] = campaign.run(runs)
    stories, builds = report["stories"].values(), report["sabotage"].values()
    return {
        "runs_with_a_broken_promise": sum(story["runs"] - story["held"] for story in stories),
        "acknowledged_and_lost": sum(story["lost"] for story in stories),
        "acknowledged": sum(story["acked"] for story in stories),
        "broken_builds_not_noticed": sum(not build.get("caught", True) for build in builds),
        "not_tried_here": sum("skipped" in one for one in (*stories, *builds)),
        **report,
    }


BENCHMARKS: Mapping[str, Benchmark] = {
    "ingest": Benchmark(
        "Messages a second taken in for good, on mosquitto, on nats-server and on the embedded broker that syncs every "
        "message, beside a bare gmqtt subscriber that only journals.",
        "bench.ingest",
    ),
    "latency": Benchmark("From a device's message to the alarm on the live stream, under load.", "bench.latency"),
    "deadlines": Benchmark("How punctual delays are beside 10,000 messages a second.", "bench.deadlines"),
    "scale": Benchmark("CPU a message and memory a device, from 1,000 to 100,000 devices.", "bench.scale"),
    "history": Benchmark(
        "One point's day asked for while 20,000 readings a second are written; bytes a reading on disk.",
        "bench.history",
        targets={"p95_ms": "<= 50", "bytes_per_reading": "<= 6"},
    ),
    "recovery": Benchmark("Serving again after kill -9 with a million frames in the journal.", "bench.recovery"),
    "engine": Benchmark(
        "Readings a second of the engine alone, and its memory a device.",
        "bench.engine",
        targets={"readings_per_second_1000": ">= 250000", "slowdown_1000_to_100000": "<= 1.25"},
    ),
    "decode": Benchmark("What decoding one frame costs, from its bytes to its readings.", "bench.decode"),
    "modbus": Benchmark("1,000 Modbus endpoints polled once a second, 50 of them dead or none.", "bench.modbus"),
    "connections": Benchmark(
        "10,000 devices with a connection and a login each, a message a minute, on the embedded broker.",
        "bench.connections",
    ),
    "storm": Benchmark(
        "20,000 alarms raised within a second, and cleared: when all are stored, outboxed and on the stream.",
        "bench.storm",
    ),
    "notify": Benchmark(
        "People are told: 50 alarms a second, a storm of 5,000, and twenty kills while 1,000 alarms escalate.",
        "bench.notify",
    ),
    "console": Benchmark(
        "The console in a browser: 50,000 assets, 20,000 alarms, 500 changes a second, fifty browsers.",
        "bench.console",
    ),
    "drill": Benchmark(
        "A day of the simulated city of 1,000 assets through the engine, as fast as it goes.", "bench.drill"
    ),
    "backtest": Benchmark("Ten million kept readings through a set of rules.", "bench.backtest"),
    "journal": Benchmark(
        "Durable batches a second, of one frame and of 500.",
        "bench.journal",
        targets={"batches_of_1.batches_per_s": ">= 1000", "batches_of_500.frames_per_s": ">= 100000"},
    ),
    "faults": Benchmark(
        "The fault campaign: every story many times, every broken build.",
        "bench.faults.campaign",
        _faults,
        {"runs_with_a_broken_promise": "== 0", "acknowledged_and_lost": "== 0", "broken_builds_not_noticed": "== 0"},
    ),
}


def run_benchmarks(names: list[str], *, runs: int, results: Path | None = RESULTS) -> int:
    """Run the benchmarks called ``names`` (none: all; ``list``: only name them) and print their figures.

    ``results``: the Markdown file to keep, None for none. Returns 1 when a target was missed or one could not be run.
    Raises ConfigError for an unknown name.
    """
    if names == ["list"]:
        width = max(map(len, BENCHMARKS))
        print("\n".join(f"{name:{width}}  {benchmark.about}" for name, benchmark in BENCHMARKS.items()))
        return 0
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        known = ", ".join(BENCHMARKS)
        raise ConfigError([Mistake("bench", None, name, f"no such benchmark; there are {known}") for name in unknown])
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "benchmarks": {}}
    good = True
    for name in names or BENCHMARKS:
        outcome, ok = _one(name, runs, report["versions"], results)
        report["benchmarks"][name] = outcome
        good = good and ok
    print(json.dumps(report, ensure_ascii=False))
    return 0 if good else 1


def _one(name: str, runs: int, programs: Mapping[str, str], results: Path | None) -> tuple[dict[str, Any], bool]:
    """One benchmark: its figures and missed targets for the JSON, and whether all is well."""
    benchmark = BENCHMARKS[name]
    say(f"{name}: {benchmark.about}")
    where = machine()  # before the run: whoever else keeps the cores busy belongs to the figure
    began = time.monotonic()
    try:
        module = importlib.import_module(benchmark.module)
        figures = dict(benchmark.run(module, runs))
    except (HarnessError, CitywatchError, OSError) as error:
        say(f"{name}: could not be run: {error}")
        return {"error": str(error)}, False
    checked = check(figures, getattr(module, "TARGETS", benchmark.targets))
    missed = [str(one) for one in checked if not one.met]
    say(f"{name}: {_verdict(checked, missed)} ({time.monotonic() - began:.0f} s)")
    if results is not None and os.access(results.parent, os.W_OK):
        update(results, name, section(name, benchmark.about, figures, checked, where, programs))
    return {"figures": figures, "missed": missed}, not missed


def _verdict(checked: list[Checked], missed: list[str]) -> str:
    if missed:
        return "missed: " + "; ".join(missed)
    return f"all {len(checked)} targets met" if checked else "done"


if __name__ == "__main__":
    sys.exit(run_benchmarks(sys.argv[1:], runs=20))
