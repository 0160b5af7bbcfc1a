"""``citywatch bench``: names, exit codes, and what it writes where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from bench import run as runner
from bench.faults.disk import HarnessError
from bench.run import BENCHMARKS, Benchmark, run_benchmarks
from gateway.errors import ConfigError


def _benchmark(figures: Mapping[str, float], targets: Mapping[str, str]) -> Benchmark:
    return Benchmark("A quick one.", "bench.report", lambda _module, _runs: figures, targets)


def _broken(_module: object, _runs: int) -> Mapping[str, float]:
    raise HarnessError("no broker here")


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "good": _benchmark({"rate": 2.0}, {"rate": ">= 1"}),
        "slow": _benchmark({"rate": 0.5}, {"rate": ">= 1"}),
        "broken": Benchmark("Cannot run.", "bench.report", _broken),
    }
    monkeypatch.setattr(runner, "BENCHMARKS", MappingProxyType(table))


def test_every_benchmark_of_the_list_can_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_benchmarks(["list"], runs=1) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(BENCHMARKS)


def test_an_unknown_name_is_wrong_usage() -> None:
    with pytest.raises(ConfigError, match="no such benchmark"):
        run_benchmarks(["ingets"], runs=1)


@pytest.mark.usefixtures("three")
def test_figures_are_json_on_stdout_and_sections_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "RESULTS.md"
    assert run_benchmarks(["good"], runs=1, results=results) == 0
    spoken = capsys.readouterr()
    report = json.loads(spoken.out)
    assert report["benchmarks"] == {"good": {"figures": {"rate": 2.0}, "missed": []}}
    assert report["machine"]["cores"] >= 1
    assert "good: all 1 targets met" in spoken.err
    assert "| rate | 2 | ≥ 1 | met |" in results.read_text()


@pytest.mark.usefixtures("three")
def test_a_missed_target_is_named_and_the_exit_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_benchmarks(["slow", "good"], runs=1, results=tmp_path / "RESULTS.md") == 1
    spoken = capsys.readouterr()
    assert json.loads(spoken.out)["benchmarks"]["slow"]["missed"] == ["rate = 0.5, wanted ≥ 1"]
    assert "slow: missed: rate = 0.5, wanted ≥ 1" in spoken.err


@pytest.mark.usefixtures("three")
def test_one_that_cannot_be_run_does_not_keep_the_others_from_running(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_benchmarks(["broken", "good"], runs=1, results=None) == 1
    report = json.loads(capsys.readouterr().out)["benchmarks"]
    assert report["broken"] == {"error": "no broker here"}
    assert report["good"]["figures"] == {"rate": 2.0}
