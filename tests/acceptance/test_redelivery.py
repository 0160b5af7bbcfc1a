"""F34: a broker that sends everything three times, the repetitions in any order, changes nothing.

Two gateways hear the same hour of the same gauges, one of them once, the other three times; both through a broker made
of bytes, because no real one does it on demand.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml

from tests.acceptance.running import RunningGateway, running_gateway
from tests.sources.raw_broker import PUBACK, Line, publish, raw_broker

ROADS = [f"road-{number}" for number in range(1, 5)]
MESSAGES = 60
DUP = 0b1000
CITY = {
    "assets": [{"asset": name, "kind": "road"} for name in ROADS],
    "devices": [{"device": name, "asset": name, "profile": "generic/json-road"} for name in ROADS],
}


def hour(begin_ms: int) -> list[tuple[str, bytes]]:
    """The hour in the order of its times: each road floods and dries again, some of them to level I."""
    told: list[tuple[str, bytes]] = []
    for number in range(MESSAGES):
        road = number % len(ROADS)
        step = number // len(ROADS)
        depth = 30.0 + road if 3 <= step <= 9 else 1.0
        document = {"ts": begin_ms + number * 1_000, "seq": step + 1, "values": {"depth": depth}}
        told.append((f"citywatch/v1/road/{ROADS[road]}/telemetry", json.dumps(document).encode()))
    return told


async def deliver(line: Line, messages: Sequence[tuple[str, bytes]], duplicate: bool) -> None:
    """All of them, each acknowledged before this returns."""
    for number, (topic, payload) in enumerate(messages, 1):
        packet = bytearray(publish(topic, payload, number))
        if duplicate:
            packet[0] |= DUP
        line.send(bytes(packet))
    for _ in messages:
        await line.expect(PUBACK)


async def outcome(gateway: RunningGateway) -> tuple[list[Any], dict[str, list[Any]]]:
    """What people were told, alarm by alarm, and what is kept, road by road."""
    steps: list[Any] = []
    kept: dict[str, list[Any]] = {}
    for road in ROADS:
        history = await gateway.all_pages(f"alarms/{road}/road-wet/history")
        steps += [(t["alarm_id"], t["rev"], t["cause"], t["to"], t["alarm"]["level"]) for t in history]
        items = await gateway.all_pages("readings", asset=road, point="depth")
        kept[road] = [(item["time"], item["value"], item["quality"]) for item in items]
    return steps, kept


async def test_everything_three_times_in_any_order_changes_nothing(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "redelivery.yaml").write_text(
        "- rule: road-wet\n"
        "  title: {zh: 道路积水, en: Road flooding}\n"
        "  applies_to: {kind: road}\n"
        "  when: {point: depth, above: [{limit: 5 cm, level: IV}, {limit: 32 cm, level: I}], deadband: 3 cm}\n"
        "  response: {zh: 封闭道路, en: Close the road}\n",
        encoding="utf-8",
    )
    told = hour(int(time.time() * 1000) - 2 * MESSAGES * 1_000)
    chance = random.Random(34)
    results = {}
    async with AsyncExitStack() as stack:
        for name, times in (("once", 1), ("three times", 3)):
            folder = tmp_path / name.replace(" ", "-")
            folder.mkdir()
            (folder / "assets.yaml").write_text(yaml.safe_dump(CITY), encoding="utf-8")
            broker = await stack.enter_async_context(raw_broker())
            settings = {
                "mqtt": [{"id": "main", "url": broker.url}],
                "assets": [str(folder / "assets.yaml")],
                "rules": [str(rules)],
            }
            gateway = await stack.enter_async_context(running_gateway(folder, settings))
            line = await broker.line()
            await line.welcome()
            await deliver(line, told, False)
            for _ in range(times - 1):
                await deliver(line, chance.sample(told, len(told)), True)
            ledger = await gateway.received(times * len(told))
            assert ledger["stored"] == len(told)
            assert ledger["duplicate"] == (times - 1) * len(told)
            assert ledger["balanced"]

            async def all_kept(gateway: RunningGateway = gateway) -> bool:
                return sum(map(len, (await outcome(gateway))[1].values())) >= len(told)

            await gateway.until(all_kept, "all readings are in history")
            results[name] = await outcome(gateway)
    assert results["three times"] == results["once"]
    levels = {level for *_, level in results["once"][0]}
    assert levels == {"I", "IV"}, "the hour had alarms to repeat"
