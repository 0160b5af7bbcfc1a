"""Ten million readings that are kept, heard again by two sets of rules: how long ``citywatch backtest`` takes.

A data folder as a gateway leaves it is made first (not measured): 10,000 devices with four points each, their readings
of four hours and a bit in the historian, the last of them still in its hot table.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import say
from gateway.backtest import backtest
from gateway.config.assets import load_asset_files
from gateway.config.bundle import load_configuration
from gateway.config.settings import Settings
from gateway.config.shipped import shipped
from gateway.core.assets_json import to_json
from gateway.core.model import MINUTE, AssetsChanged, Micros, Quality, Reading
from gateway.historian.historian import Historian
from gateway.store.store import Store
from simulators.load import Plan, device_id, expected_values, write_load_assets

READINGS = 10_000_000
DEVICES = 10_000
BEGIN: Micros = 1_750_000_000_000_000
ROUND: Micros = MINUTE
BATCH = 500  # devices of one journal position

TARGETS = {"seconds": "<= 60", "readings": ">= 10000000"}


def run(readings: int = READINGS, devices: int = DEVICES) -> dict[str, Any]:
    """Figures; about five minutes with the defaults, most of it making the folder."""
    with tempfile.TemporaryDirectory(prefix="citywatch-backtest-bench-") as name:
        data = Path(name) / "data"
        rounds = asyncio.run(_fill(data, readings, devices))
        until = BEGIN + rounds * ROUND
        began = time.monotonic()
        report = backtest(shipped("rules"), data, BEGIN, until)
        seconds = time.monotonic() - began
    say(f"  {report['readings']:,} readings in {seconds:.1f} s, {report['tried']['raises']} raises")
    return {
        "readings": report["readings"],
        "seconds": round(seconds, 1),
        "readings_per_second": round(report["readings"] / seconds),
        "raises": report["tried"]["raises"],
        "same_as_in_force": report["tried"] == report["in_force"],
    }


async def _fill(data: Path, readings: int, devices: int) -> int:
    """Gives the rounds in which every device spoke."""
    data.mkdir(parents=True)  # noqa: ASYNC240  nobody waits meanwhile
    plan = Plan(devices=devices, alarms_every=500)
    write_load_assets(plan, data / "assets.json", expected_interval="10m")
    _, configuration = load_configuration(Settings(data=data))
    file = data / "assets.json"
    assets, mounted = load_asset_files({str(file): file}, configuration.profiles)
    store = await Store.open(data)
    await store.commit(1, [AssetsChanged(BEGIN, to_json(assets, mounted))])
    await store.close()
    historian = await Historian.open(data / "history")
    rounds = -(-readings // (devices * plan.payload_values))
    position = 1
    for round_ in range(rounds):
        for first in range(1, devices + 1, BATCH):
            position += 1
            at = BEGIN + round_ * ROUND + first * (ROUND // (devices + 1))
            batch = [
                Reading(name, point, value, Quality.GOOD, at + i, at + i, name, None, False, round_ + 1)
                for i in range(min(BATCH, devices + 1 - first))
                for name in (device_id(first + i),)
                for point, value in expected_values(
                    plan.seed, first + i, round_ + 1, plan.payload_values, plan.alarms_every
                ).items()
            ]
            await historian.append([(position, batch)])
        if round_ % 50 == 49:
            await historian.compact(BEGIN + round_ * ROUND)
            say(f"  {round_ + 1} of {rounds} rounds kept")
    await historian.close()
    return rounds


if __name__ == "__main__":
    print(json.dumps(run()))
