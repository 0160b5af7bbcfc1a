"""How many messages a second the gateway takes in for good, beside a bare gmqtt subscriber in the same run.

10,000 devices, JSON of 4 values, QoS 1, all shipped rules, journal, store and historian on. The rate is searched for:
loads of a fixed rate for some seconds, up until one does not hold, then halving; at last a long load at the rate found.
The gateway and the bare subscriber are tried in turn, so that both meet the same machine.

    python -m bench.ingest --seconds 20 --broker mosquitto
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import say
from bench.stand import BrokerKind, Stand
from bench.trial import BareSubject, GatewaySubject, Subject, Trial
from simulators.load import Plan

DEVICES = 10_000
SECONDS = 60.0
TRY_S = 6.0
FIRST = {"citywatch": 16_000.0, "bare gmqtt": 24_000.0}
FIRST_EMBEDDED = 1_000.0
WARM = 4_000.0  # msg/s while every device makes itself known
HIGHEST = 60_000.0  # the load generator's own limit on two shared cores
STEP_DOWN = 0.92  # a long load that does not hold what a short one held
PLATEAUS = 5
BROKERS: tuple[BrokerKind, ...] = ("mosquitto", "nats", "embedded")

TARGETS = {
    "mosquitto.rate": ">= 20000",
    "mosquitto.ratio_to_bare": ">= 0.55",
    "mosquitto.rss_peak_mb": "<= 350",
    "nats.rate": ">= 20000",
    "nats.ratio_to_bare": ">= 0.55",
    "nats.rss_peak_mb": "<= 350",
}


@dataclass
class Search:
    """The highest rate that holds: up by ``step`` until one does not, then between the two until they are ``close``."""

    rate: float
    highest: float = HIGHEST
    step: float = 1.4
    close: float = 1.05
    holds: float = 0.0
    fails: float = 0.0

    @property
    def done(self) -> bool:
        if self.holds >= self.highest:
            return True
        if self.fails:
            return self.fails <= self.holds * self.close if self.holds else self.fails < 50
        return False

    def tell(self, holds: bool) -> None:
        """What came of a try at ``rate``; sets the next one to try."""
        if holds:
            self.holds = max(self.holds, self.rate)
            self.rate = min(self.highest, self.rate * self.step)
        else:
            self.fails = self.rate
            self.rate /= self.step
        if self.holds and self.fails:
            self.rate = (self.holds + self.fails) / 2


def run(
    seconds: float = SECONDS,
    try_s: float = TRY_S,
    brokers: Sequence[BrokerKind] = BROKERS,
    devices: int = DEVICES,
    highest: float = HIGHEST,
) -> dict[str, Any]:
    """Figures by broker; about 8 minutes with the defaults."""
    figures: dict[str, Any] = {"devices": devices, "seconds": seconds}
    for kind in brokers:
        with tempfile.TemporaryDirectory(prefix="citywatch-ingest-") as folder:
            figures[kind] = asyncio.run(_measure(Path(folder), kind, Plan(devices=devices), seconds, try_s, highest))
    return figures


async def _measure(
    folder: Path, kind: BrokerKind, plan: Plan, seconds: float, try_s: float, highest: float
) -> dict[str, Any]:
    async with Stand(folder) as stand:
        gateway = await stand.gateway(kind, plan)
        await gateway.warm(FIRST_EMBEDDED if kind == "embedded" else WARM)
        subjects: list[Subject] = [GatewaySubject(gateway)]
        if kind != "embedded":
            subjects.append(BareSubject(stand, kind, plan))
        found = await search(kind, subjects, try_s, highest)
        ours = await plateau(kind, subjects[0], found[0], seconds)
        figures = _figures(ours)
        if len(subjects) > 1:
            bare = await plateau(kind, subjects[1], found[1], seconds)
            figures["bare"] = _figures(bare)
            if ours.holds and bare.holds:
                figures["ratio_to_bare"] = round(ours.delivered / bare.delivered, 3)
        return figures


async def search(kind: str, subjects: Sequence[Subject], try_s: float, highest: float) -> list[float]:
    """The highest rate that each holds for ``try_s``; one try each, in turn, until all are found."""
    first = [FIRST_EMBEDDED if kind == "embedded" else FIRST[subject.name] for subject in subjects]
    searches = [Search(min(rate, highest), highest) for rate in first]
    while not all(one.done for one in searches):
        for subject, one in zip(subjects, searches, strict=True):
            if not one.done:
                trial = await subject.trial(one.rate, try_s)
                say(f"  {kind}, {subject.name}: {trial}")
                one.tell(trial.holds)
    return [one.holds or one.fails for one in searches]


async def plateau(kind: str, subject: Subject, rate: float, seconds: float) -> Trial:
    """The long load, a step lower each time it does not hold; the last one when none does."""
    for _ in range(PLATEAUS):
        trial = await subject.trial(rate, seconds)
        say(f"  {kind}, {subject.name}: {trial}")
        if trial.holds:
            break
        rate *= STEP_DOWN
    return trial


def _figures(trial: Trial) -> dict[str, Any]:
    """``rate`` is None when even the lowest rate tried did not hold."""
    return {
        "rate": round(trial.delivered) if trial.holds else None,
        "tried": round(trial.rate),
        "cpu_us_per_message": round(trial.cpu_us, 1),
        "broker_cpu_us_per_message": round(trial.broker_cpu_us, 1),
        "load_cpu_us_per_message": round(trial.load_cpu_us, 1),
        "lag_s": round(trial.lag_s, 2),
        "rss_mb": round(trial.rss / 1e6),
        "rss_peak_mb": round(trial.rss_peak / 1e6),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of the last, long load")
    parser.add_argument("--try", dest="try_s", type=float, default=TRY_S, help="length of the loads of the search")
    parser.add_argument("--broker", action="append", choices=BROKERS, help="repeatable; default: all")
    parser.add_argument("--devices", type=int, default=DEVICES)
    given = parser.parse_args(arguments)
    print(json.dumps(run(given.seconds, given.try_s, given.broker or BROKERS, given.devices)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
