"""Every benchmark of a running gateway but that of the console, as small as it goes: that it works, not how fast."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import connections, ingest, latency, recovery, scale
from bench.stand import Stand
from bench.trial import BareSubject
from simulators.load import Plan
from tests.bench.measured import all_measured

pytestmark = pytest.mark.usefixtures("as_a_benchmark")


def test_ingest_finds_a_rate_on_the_embedded_broker() -> None:
    figures = ingest.run(seconds=0.5, try_s=0.5, brokers=["embedded"], devices=20, highest=100)
    assert 0 < figures["embedded"]["tried"] <= 100
    assert figures["embedded"]["cpu_us_per_message"] > 0


async def test_the_bare_subscriber_is_tried_in_the_same_way(tmp_path: Path) -> None:
    async with Stand(tmp_path) as stand:
        trial = await BareSubject(stand, "nats", Plan(devices=20)).trial(100, 0.5)
    assert trial.sent > 0
    assert trial.rss_peak >= trial.rss > 0
    assert trial.cpu_us > 0


def test_latency_sees_every_alarm() -> None:
    figures = latency.run(probes=10, quiet_probes=3, rate=100, devices=50)
    all_measured(figures, latency.TARGETS)
    assert figures["alarms"] == 10


def test_scale_compares_two_fleets() -> None:
    figures = scale.run(few=50, many=100, rate=100, seconds=1)
    all_measured(figures, scale.TARGETS)
    assert figures["devices_100"]["cpu_us_per_message"] > 0


def test_connections_are_all_held_and_every_message_is_acknowledged() -> None:
    figures = connections.run(connections=120, seconds=2)
    all_measured(figures, connections.TARGETS)
    assert [figures[name] for name in ("connections_missing", "lost", "not_acknowledged")] == [0, 0, 0]
    assert figures["sent"] == pytest.approx(4, abs=1)
    assert figures["broker_files"] >= 120


def test_recovery_kills_and_serves_again() -> None:
    figures = recovery.run(frames=500, devices=50, rate=1_000, without_snapshots=False)
    all_measured(figures, recovery.TARGETS)
    assert figures["frames_in_journal"] >= 500
