"""Targets, sections and the file of results."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.report import check, machine, percentile, section, update, versions

FIGURES = {"rate": 21_000, "nats": {"rate": 19_999.5, "held": True}, "rss_mb": 340, "list": [1, 2]}
WHERE = {"cpu": "Some CPU", "cores": 2, "kernel": "Linux 6", "fdatasync_p50_ms": 0.1, "load": 0.2}


@pytest.mark.parametrize(
    ("name", "bound", "met"),
    [
        ("rate", ">= 20000", True),
        ("rate", "<= 20000", False),
        ("nats.rate", ">= 20000", False),
        ("rss_mb", "== 340", True),
        ("nothing.like.it", ">= 1", False),
        ("nats.held", ">= 1", False),
    ],
)
def test_a_figure_is_held_against_its_bound_and_a_missing_one_misses_it(name: str, bound: str, met: bool) -> None:
    assert [one.met for one in check(FIGURES, {name: bound})] == [met]


def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a bound"):
        check(FIGURES, {"rate": "fast"})


def test_a_section_names_the_machine_the_targets_and_every_other_figure() -> None:
    checked = check(FIGURES, {"rate": ">= 20000", "nats.rate": ">= 20000"})
    text = section(
        "ingest", "About it.", FIGURES, checked, WHERE, {"python": "3.11"}, datetime(2025, 7, 20, tzinfo=UTC)
    )
    assert "2025-07-20 00:00 UTC · Some CPU, 2 cores, Linux 6, fdatasync p50 0.1 ms · load before: 0.2" in text
    assert "| rate | 21,000 | ≥ 20,000 | met |" in text
    assert "| nats.rate | 20,000 | ≥ 20,000 | **missed** |" in text
    assert "| rss_mb | 340 |" in text
    assert text.count("| rate |") == 1


def test_results_are_kept_section_by_section(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    update(path, "ingest", "## ingest\n\nfirst")
    update(path, "scale", "## scale\n\nother")
    update(path, "ingest", "## ingest\n\nsecond \\1")
    text = path.read_text()
    assert text.startswith("# Results\n")
    assert "first" not in text
    assert text.index("second \\1") < text.index("other")
    assert list(tmp_path.iterdir()) == [path]


def test_percentiles_are_values_that_were_measured() -> None:
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_machine_and_versions_are_known() -> None:
    where = machine()
    assert where["cores"] >= 1
    assert where["fdatasync_p50_ms"] > 0
    assert {"python", "gmqtt", "duckdb", "sqlite", "nats-server"} <= versions().keys()
