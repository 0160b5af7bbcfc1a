"""The short form of the fault campaign: processes are hurt, a judge decides, broken builds are caught.

Each story is one of ``bench.faults.stories``; the long form is ``citywatch bench faults --runs N``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults.campaign import caught, run_story
from bench.faults.disk import can_mount
from bench.faults.stories import SABOTAGE, STORIES
from tests.servers import need_debian

pytestmark = pytest.mark.faults

NEEDS: dict[str, tuple[str, str]] = {
    "boundaries": ("strace", "strace"),
    "failing_disk": ("strace", "strace"),
    "clock": ("faketime", "faketime"),
}
NEEDS_DISK = ("power", "full_disk")
SEED = 20_250_720


def _prepare(story: str) -> None:
    if story in NEEDS:
        need_debian(*NEEDS[story])
    if story in NEEDS_DISK and not can_mount():
        pytest.skip("needs root and loop devices: power cuts and full disks are NOT tested here")


@pytest.mark.parametrize("story", STORIES)
async def test_nothing_is_lost_doubled_or_changed(story: str, tmp_path: Path) -> None:
    _prepare(story)
    verdict = await run_story(story, tmp_path, SEED)
    assert verdict.holds, f"{story}\n{verdict}"


@pytest.mark.parametrize("defect", SABOTAGE)
async def test_a_broken_build_is_caught(defect: str, tmp_path: Path) -> None:
    _prepare(SABOTAGE[defect])
    found, _ = await caught(defect, tmp_path, SEED)
    assert found, f"{defect} was not noticed by {SABOTAGE[defect]}: that story proves nothing"
