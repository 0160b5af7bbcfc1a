"""Whether a benchmark has a figure for every target."""

from __future__ import annotations

from bench.report import check


def all_measured(figures: dict[str, object], targets: dict[str, str]) -> None:
    missing = [one.name for one in check(figures, targets) if one.value is None]
    assert not missing, f"no figure for the targets {missing}"
