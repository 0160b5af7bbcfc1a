"""The gateway watches itself: clock, disk, links and its own faults become readings of the asset "gateway".

Once a second; only changes are journaled (``Pipeline.report``), and the rules of ``rules/platform.yaml`` make alarms of
them like of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from gateway import disk
from gateway.clock import Clock
from gateway.core.model import MINUTE, SECOND, Blind, FrameKind, Level, Micros
from gateway.errors import StorageFailed
from gateway.intake import MAX_FRAMES, JournalIntake
from gateway.pipeline import Pipeline

log = structlog.get_logger("selfwatch")

CALM: Micros = 10 * MINUTE  # a fault of our own that has not come back for so long is over
DISK_FULL = "disk full"
GRAVE = Level.II  # a notification of this level or worse that nobody got is an alarm of level II itself


class Link(Protocol):
    """A connection to a broker, as ``LinkStats`` tells of it."""

    @property
    def connected(self) -> bool: ...


class SelfWatch:
    """``links``: the broker connections now. ``undelivered``: notifications given up so far, by their level.
    ``mistaken``: whether the files on the disk are wrong and an older configuration is in force. ``new_alarms``: of the
    last ten minutes."""

    def __init__(
        self,
        *,
        data: Path,
        reserve: int,
        clock: Clock,
        intake: JournalIntake,
        pipeline: Pipeline,
        links: Callable[[], Sequence[Link]],
        undelivered: Callable[[], Mapping[Level, int]],
        mistaken: Callable[[], bool],
        new_alarms: Callable[[], int],
    ) -> None:
        self._data = data
        self._guard = disk.DiskGuard(reserve)
        self._clock = clock
        self._intake = intake
        self._pipeline = pipeline
        self._links = links
        self._grave = _Recent(lambda: sum(count for level, count in undelivered().items() if level <= GRAVE))
        self._minor = _Recent(lambda: sum(count for level, count in undelivered().items() if level > GRAVE))
        self._crashes = _Recent(lambda: pipeline.processor.ledger.total.rejected.get("crashed", 0))
        self._mistaken = mistaken
        self._new_alarms = new_alarms
        self._started = self._looked = clock.now()

    def look(self) -> None:
        """Call once a second. Raises StorageFailed when the data folder is gone."""
        self._look_at_clock()
        self._look_at_disk()
        self._look_at_links()
        self._look_at_faults()

    def _look_at_clock(self) -> None:
        report = self._clock.check()
        if report.reanchored:
            log.warning("the wall clock was set: time goes on from there", offset_s=report.offset / SECOND)
            self._intake.clock_was_set()
        elif report.changed and report.uncertain:
            log.error("the wall clock stepped and is not believed", offset_s=round(report.offset / SECOND))
        elif report.changed:
            log.info("the wall clock agrees again")
        self._pipeline.report(clock_step=report.uncertain)

    def _look_at_disk(self) -> None:
        try:
            room = disk.room(self._data)
        except OSError as error:
            raise StorageFailed(f"data folder: {error.strerror or error}") from error
        was_full, full = self._guard.full, self._guard.judge(room)
        if full and not was_full:
            log.error("disk full: no telemetry is taken until there is room", free_mb=room.free >> 20)
            self._intake.close(DISK_FULL)
        elif was_full and not full:
            log.info("room on the disk again: telemetry is taken", free_mb=room.free >> 20)
            self._intake.reopen(DISK_FULL)
        self._pipeline.report(disk_full=full, disk_used=float(round(room.used)))

    def _look_at_links(self) -> None:
        """While a broker is away silence proves nothing: second by second the engine is told so."""
        links = self._links()
        lost = any(not link.connected for link in links)
        since, self._looked = self._looked, self._clock.now()
        if lost:
            self._intake.offer(FrameKind.BLIND, "mqtt", "", msgspec.json.encode(Blind(since)))
        if links:
            self._pipeline.report(broker_lost=lost)
        # In tens of percent: a figure that moves with every message would be a reading a second for ever.
        self._pipeline.report(queue_used=round(10 * self._pipeline.in_flight / MAX_FRAMES) * 10.0)

    def _look_at_faults(self) -> None:
        """Faults that are events (a failed disk, a quarantined frame) are over when they stay away."""
        now = self._clock.now()
        if now - self._started > CALM:
            self._pipeline.report(journal_failed=False)
        if self._crashes.rose(now):
            # The engine has raised it by itself, in the journal's order; here only its end is decided.
            self._pipeline.forget(crash_quarantine=True)
        elif not self._crashes.within(CALM, now):
            self._pipeline.report(crash_quarantine=False)
        # In tens: a figure that moves with every alarm would be a reading a second in a storm.
        self._pipeline.report(new_alarms_10m=self._new_alarms() // 10 * 10)
        self._grave.rose(now)
        self._minor.rose(now)
        self._pipeline.report(
            notify_failed=self._grave.within(CALM, now),
            notify_failed_minor=self._minor.within(CALM, now),
            config_rejected=self._mistaken(),
        )


class _Recent:
    """Remembers when a counter last rose."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._seen = count()
        self._at: Micros | None = None

    def rose(self, now: Micros) -> bool:
        count = self._count()
        risen, self._seen = count > self._seen, count
        if risen:
            self._at = now
        return risen

    def within(self, span: Micros, now: Micros) -> bool:
        return self._at is not None and now - self._at <= span
