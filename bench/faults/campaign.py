"""The long form: every story many times with other chances, and every broken build; figures for the card.

citywatch bench faults --runs 20        python -m bench.faults.campaign --runs 20 [--story kills] [--keep DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.faults.disk import HarnessError
from bench.faults.forkserver import forked_starts
from bench.faults.stories import SABOTAGE, STORIES
from bench.judge import Verdict

TRIES = 5  # a defect shows only when the kill falls into its window; so many runs may look for it


async def run_story(name: str, folder: Path, seed: int) -> Verdict:
    """One run of one story in an empty folder; the same seed draws the same instants."""
    return await STORIES[name](folder, random.Random(seed), {})


async def caught(defect: str, folder: Path, seed: int) -> tuple[bool, list[str]]:
    """Whether the story that is to notice ``defect`` does, and by which invariants."""
    for attempt in range(TRIES):
        chance = random.Random(seed + attempt)
        verdict = await SABOTAGE[defect](folder / f"{defect}-{attempt}", chance, {"CITYWATCH_SABOTAGE": defect})
        by = [name for name in verdict.broken() if name.startswith("I") and not name.startswith("I9")]
        if by:
            return True, by
    return False, []


def run(runs: int = 20, stories: Sequence[str] = (), keep: Path | None = None) -> dict[str, Any]:
    """Run everything ``runs`` times; gives the figures. Folders of runs that failed are kept in ``keep``."""
    with forked_starts():
        return asyncio.run(_campaign(runs, stories or list(STORIES), keep))


async def _campaign(runs: int, stories: Sequence[str], keep: Path | None) -> dict[str, Any]:
    began = time.monotonic()
    report: dict[str, Any] = {"runs": runs, "stories": {}, "sabotage": {}}
    with tempfile.TemporaryDirectory(prefix="citywatch-faults-") as name:
        folder = Path(name)
        for story in stories:
            verdicts: list[Verdict] = []
            failures: list[dict[str, Any]] = []
            skipped = None
            for seed in range(1, runs + 1):
                place = folder / f"{story}-{seed}"
                try:
                    verdict = await run_story(story, place, seed)
                except HarnessError as error:
                    skipped = str(error)
                    break
                verdicts.append(verdict)
                if not verdict.holds:
                    failures.append({"seed": seed, **verdict.as_json()})
                    if keep is not None:
                        shutil.copytree(place, keep / place.name, dirs_exist_ok=True)
                shutil.rmtree(place, ignore_errors=True)
            report["stories"][story] = _figures(verdicts, failures, skipped)
            print(json.dumps({story: report["stories"][story]}, ensure_ascii=False), file=sys.stderr, flush=True)
        for defect in SABOTAGE if set(stories) == set(STORIES) else ():
            try:
                found, by = await caught(defect, folder, seed=1)
                report["sabotage"][defect] = {"caught": found, "by": by}
            except HarnessError as error:
                report["sabotage"][defect] = {"skipped": str(error)}
    report["caught"] = f"{sum(bool(s.get('caught')) for s in report['sabotage'].values())} of {len(SABOTAGE)}"
    report["seconds"] = round(time.monotonic() - began, 1)
    return report


def _figures(verdicts: Sequence[Verdict], failures: list[dict[str, Any]], skipped: str | None) -> dict[str, Any]:
    def total(name: str) -> int:
        return round(sum(v.figures.get(name, 0) for v in verdicts))

    recoveries = [v.figures["recovery_max_s"] for v in verdicts if "recovery_max_s" in v.figures]
    figures: dict[str, Any] = {
        "runs": len(verdicts),
        "held": len(verdicts) - len(failures),
        "acked": total("acked"),
        "lost": sum(f.broken for v in verdicts for f in v.findings if f.invariant.startswith("I1")),
        "redelivered": total("redelivered"),
        "transitions": total("transitions"),
        "recovery_p50_s": round(statistics.median(recoveries), 2) if recoveries else None,
        "recovery_max_s": max(recoveries, default=None),
    }
    if failures:
        figures["failures"] = failures
    if skipped is not None:
        figures["skipped"] = skipped
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report as JSON; exit 1 when a promise broke or a broken build was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults.campaign", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--story", action="append", default=[], choices=list(STORIES))
    parser.add_argument("--keep", type=Path, help="keep the folders of runs that failed here")
    options = parser.parse_args(arguments)
    report = run(options.runs, options.story, options.keep)
    print(json.dumps(report, ensure_ascii=False))
    held = all(s["held"] == s["runs"] for s in report["stories"].values())
    noticed = all(s.get("caught", True) for s in report["sabotage"].values())
    return 0 if held and noticed else 1


if __name__ == "__main__":
    sys.exit(main())
