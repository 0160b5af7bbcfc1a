"""Every benchmark of the running gateway once, as small as it goes: that it works, not how fast it is."""

from __future__ import annotations

import pytest

from bench import ingest, latency, recovery, scale
from bench.report import check
from tests.servers import need_debian


@pytest.fixture(autouse=True)
def mosquitto_installed() -> None:
    need_debian("mosquitto", "mosquitto")


def _all_measured(figures: dict[str, object], targets: dict[str, str]) -> None:
    missing = [one.name for one in check(figures, targets) if one.value is None]
    assert not missing, f"no figure for the targets {missing}"


def test_ingest_finds_a_rate_for_the_gateway_and_for_the_bare_subscriber() -> None:
    figures = ingest.run(seconds=1, try_s=1, brokers=["mosquitto"], devices=100, highest=300)
    of_mosquitto = {name: bound for name, bound in ingest.TARGETS.items() if name.startswith("mosquitto")}
    _all_measured(figures, of_mosquitto)
    assert figures["mosquitto"]["rate"] > 0
    assert figures["mosquitto"]["bare"]["rate"] > 0


def test_ingest_works_on_the_embedded_broker() -> None:
    figures = ingest.run(seconds=0.5, try_s=0.5, brokers=["embedded"], devices=20, highest=100)
    assert figures["embedded"]["rate"] > 0


def test_latency_sees_every_alarm() -> None:
    figures = latency.run(probes=10, quiet_probes=3, rate=100, devices=50)
    _all_measured(figures, latency.TARGETS)
    assert figures["alarms"] == 10


def test_scale_compares_two_fleets() -> None:
    figures = scale.run(few=50, many=100, rate=100, seconds=1)
    _all_measured(figures, scale.TARGETS)
    assert figures["devices_100"]["cpu_us_per_message"] > 0


def test_recovery_kills_and_serves_again() -> None:
    figures = recovery.run(frames=500, devices=50, rate=1_000)
    _all_measured(figures, recovery.TARGETS)
    assert figures["frames_in_journal"] >= 500
    assert figures["without_snapshots"]["serving_after_s"] > 0
