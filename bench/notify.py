"""Telling people: how soon a message is handed to its channel, what a storm makes of it, and whether kills repeat it.

A channel that records what it is handed stands in for the people's telephones: a signed webhook, on this machine.

- *latency*: 50 alarms a second, each told to one person by itself; from the device's message to the channel.
- *storm*: 5,000 alarms within 10 s on a grouped and limited route, with twenty of level I among them.
- *kills*: 1,000 alarms escalate through three people while the gateway is killed (-9) twenty times. The channel must
  hold one message for every alarm, step and person; a second one only if it says itself that it may be a repeat, with
  the same key.

    python -m bench.notify
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import yaml
from aiohttp import web

from bench.report import percentile, say
from bench.stand import Gateway, Stand, wait_for
from simulators.load import Plan

RATE = 50.0
SECONDS = 20.0
STORM = 5_000
STORM_S = 10.0
URGENT = 20
ALARMS = 1_000
KILLS = 20
PATIENCE_S = 120.0

TARGETS = {
    "latency.p99_ms": "<= 500",
    "storm.most_messages_a_person": "<= 12",
    "storm.level_1_max_s": "<= 2",
    "kills.missing": "== 0",
    "kills.repeated_unmarked": "== 0",
    "kills.other_keys": "== 0",
}

RULES = """
- rule: bench-wet
  title: {zh: 测试积水, en: Bench water}
  applies_to: {kind: pipe}
  when: {point: freeboard, below: [{limit: 1 m, level: II}, {limit: 0.3 m, level: I}], deadband: 0.1 m}
  off_delay: 0s
  response: {zh: 查看, en: look}
"""
PEOPLE = ("li", "zhang", "chief")
FREE = {"messages": 1_000, "in_all": 1_000, "within": "10s"}  # no limit to what is measured here


def _routes(route: dict[str, Any], **more: Any) -> str:
    people = [{"person": name, "name": name, "channels": [{"receiver": "phones", "to": name}]} for name in PEOPLE]
    match = {"rule": ["bench-wet"]}
    return yaml.safe_dump({"people": people, "route": {"route": "bench", "match": match, **route}, **more})


AT_ONCE = _routes({"steps": [{"tell": ["person:li"]}]}, limits=FREE)
GROUPED = _routes(
    {
        "steps": [{"tell": [f"person:{name}" for name in PEOPLE]}],
        "group": {"by": ["road"], "wait": "2s", "interval": "30s"},
    }
)


def _ladder(step_s: float) -> str:
    steps = [{"after": f"{turn * step_s:g}s", "tell": [f"person:{name}"]} for turn, name in enumerate(PEOPLE)]
    return _routes({"steps": steps}, limits=FREE)


@dataclass
class Phones:
    """What the people's channel was handed: (when, message) in order."""

    url: str = ""
    got: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def about(self, kind: str | None = None) -> list[tuple[float, dict[str, Any]]]:
        return [(at, one) for at, one in self.got if kind is None or one["type"] == f"citywatch.message.{kind}"]

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Phones]:
        phones = cls()

        async def take(request: web.Request) -> web.Response:
            try:
                body = await request.read()
            except ConnectionResetError:  # whoever spoke was killed in the middle of a sentence
                return web.Response(status=400)
            phones.got.append((time.time(), json.loads(body)))
            return web.Response(status=204)

        app = web.Application()
        app.router.add_post("/", take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        phones.url = f"http://{host}:{port}/"
        try:
            yield phones
        finally:
            await runner.cleanup()


def run(
    seconds: float = SECONDS, storm: int = STORM, storm_s: float = STORM_S, alarms: int = ALARMS, kills: int = KILLS,
    step_s: float = 20.0,
) -> dict[str, Any]:  # fmt: skip
    """Figures; about five minutes."""
    with tempfile.TemporaryDirectory(prefix="citywatch-notify-") as folder:
        return asyncio.run(_measure(Path(folder), seconds, storm, storm_s, alarms, kills, step_s))


async def _measure(
    folder: Path, seconds: float, storm: int, storm_s: float, alarms: int, kills: int, step_s: float
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    async with Stand(folder) as stand, Phones.open() as phones:
        count = round(RATE * seconds)
        gateway = await _gateway(stand, folder / "latency", phones, AT_ONCE, count)
        figures["latency"] = await _latency(gateway, phones, count)
        await gateway.close()
        say(f"  latency {figures['latency']}")
    async with Stand(folder / "s") as stand, Phones.open() as phones:
        gateway = await _gateway(stand, folder / "storm", phones, GROUPED, storm)
        figures["storm"] = await _storm(gateway, phones, storm, storm_s)
        await gateway.close()
        say(f"  storm {figures['storm']}")
    async with Stand(folder / "k") as stand, Phones.open() as phones:
        gateway = await _gateway(stand, folder / "kills", phones, _ladder(step_s), alarms)
        figures["kills"] = await _kills(gateway, phones, alarms, kills, step_s)
        say(f"  kills {figures['kills']}")
    return figures


async def _gateway(stand: Stand, folder: Path, phones: Phones, routes: str, gauges: int) -> Gateway:
    _write(folder, routes, gauges)
    return await stand.gateway(
        "mosquitto",
        Plan(devices=1),
        more_assets=[folder / "gauges.yaml"],
        rules=[str(folder / "rules")],
        routes=str(folder / "routes.yaml"),
        receivers=[_channel(phones)],
    )


def _channel(phones: Phones) -> dict[str, Any]:
    return {"name": "phones", "type": "webhook", "url": phones.url, "allow_loopback": True, "people_only": True}


def _write(folder: Path, routes: str, gauges: int) -> None:
    """Files of a gateway with so many gauges (g0, g1 …), ten to a road, whose alarms go to the phones."""
    folder.mkdir(parents=True)
    names = [f"g{n}" for n in range(gauges)]
    assets = [{"asset": name, "kind": "pipe", "name": name, "road": f"road {n // 10}"} for n, name in enumerate(names)]
    devices = [
        {"device": name, "asset": name, "profile": "generic/json-pipe", "address": name, "expected_interval": "1h"}
        for name in names
    ]
    (folder / "gauges.yaml").write_text(yaml.safe_dump({"assets": assets, "devices": devices}), encoding="utf-8")
    (folder / "rules").mkdir()
    (folder / "rules" / "bench.yaml").write_text(RULES, encoding="utf-8")
    (folder / "routes.yaml").write_text(routes, encoding="utf-8")


class _Gauges:
    """Sends for the gauges."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client

    async def say(self, name: str, freeboard: float) -> None:
        body = json.dumps({"values": {"freeboard": freeboard}})
        await self._client.publish(f"citywatch/v1/pipe/{name}/telemetry", body, qos=1)

    @classmethod
    @asynccontextmanager
    async def of(cls, gateway: Gateway) -> AsyncIterator[_Gauges]:
        assert gateway.broker is not None
        async with aiomqtt.Client("127.0.0.1", gateway.broker.port, max_inflight_messages=1_000) as client:
            yield cls(client)


async def _latency(gateway: Gateway, phones: Phones, count: int) -> dict[str, Any]:
    sent: dict[str, float] = {}
    async with _Gauges.of(gateway) as gauges:
        await gauges.say("g0", 5.0)  # everything has been used once
        await asyncio.sleep(1.0)
        began = time.time()
        for n in range(count):
            await asyncio.sleep(max(0.0, began + n / RATE - time.time()))
            sent[f"g{n}/bench-wet"] = time.time()
            await gauges.say(f"g{n}", 0.5)

        async def all_there() -> bool:
            return len(phones.got) >= count

        await wait_for(all_there, f"{count} messages are handed over", PATIENCE_S)
    took = sorted(at - sent[one["data"]["alarms"][0]["alarm_id"]] for at, one in phones.about("raised"))
    return {
        "messages": len(took),
        **{f"p{share}_ms": round(percentile(took, share / 100) * 1e3, 1) for share in (50, 90, 99)},
        "max_ms": round(took[-1] * 1e3, 1),
    }


async def _storm(gateway: Gateway, phones: Phones, count: int, seconds: float) -> dict[str, Any]:
    urgent: dict[str, float] = {}
    every = max(1, count // URGENT)
    async with _Gauges.of(gateway) as gauges:
        began = time.time()
        for n in range(count):
            await asyncio.sleep(max(0.0, began + n * seconds / count - time.time()))
            level_1 = n % every == every - 1
            if level_1:
                urgent[f"g{n}/bench-wet"] = time.time()
            await gauges.say(f"g{n}", 0.1 if level_1 else 0.5)
        input_s = time.time() - began

        async def all_there() -> bool:
            seen = {line["alarm_id"] for _, one in phones.got for line in one["data"]["alarms"] if line["level"] == "I"}
            return seen >= set(urgent)

        await wait_for(all_there, "every alarm of level I is told", PATIENCE_S)
        await asyncio.sleep(15.0 if count >= STORM else 3.0)
    messages = Counter(one["data"]["recipient"] for _, one in phones.got if one["data"]["level"] != "I")
    told: dict[str, float] = {}
    for at, one in phones.got:
        if one["data"]["level"] == "I":
            for line in one["data"]["alarms"]:
                told.setdefault(line["alarm_id"], at)
    late = [told[alarm] - at for alarm, at in urgent.items()]
    return {
        "alarms": count,
        "input_s": round(input_s, 2),
        "most_messages_a_person": max(messages.values(), default=0),
        "level_1": len(late),
        "level_1_max_s": round(max(late), 3),
        "named_or_counted": sum(one["data"]["count"] for _, one in phones.got if one["data"]["recipient"] == "li"),
    }


async def _kills(gateway: Gateway, phones: Phones, count: int, kills: int, step_s: float) -> dict[str, Any]:
    async with _Gauges.of(gateway) as gauges:
        for n in range(count):
            await gauges.say(f"g{n}", 0.5)
    for turn in range(kills):
        await asyncio.sleep(0.2 + turn % 5 * 0.35)
        await gateway.process.kill()
        await gateway.start()
    wanted = count * len(PEOPLE)

    async def all_there() -> bool:
        return len({one["id"] for _, one in phones.got}) >= wanted

    try:
        await wait_for(all_there, f"{wanted} messages are handed over", PATIENCE_S + 3 * step_s)
    except TimeoutError:
        say(f"  {wanted - len({one['id'] for _, one in phones.got})} messages did not come")
    await asyncio.sleep(2.0)
    return {"alarms": count, "kills": kills, "steps": len(PEOPLE), **_verdict(phones.got, count)}


def _verdict(got: Sequence[tuple[float, dict[str, Any]]], count: int) -> dict[str, int]:
    """One message an (occurrence, step, recipient): what is missing, what came twice, marked or not, and what has
    another key than its first."""
    by_place: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for _, one in got:
        [line] = one["data"]["alarms"]
        by_place[line["occurrence_id"], one["data"]["step"], one["data"]["recipient"]].append(one)
    repeats = [one for many in by_place.values() for one in many[1:]]
    return {
        "messages": len(got),
        "missing": count * len(PEOPLE) - len(by_place),
        "possible_repeats": sum(bool(one["data"].get("possible_repeat", False)) for one in repeats),
        "repeated_unmarked": sum(not one["data"].get("possible_repeat", False) for one in repeats),
        "other_keys": sum(len({one["id"] for one in many}) > 1 for many in by_place.values()),
    }


if __name__ == "__main__":
    print(json.dumps(run()))
