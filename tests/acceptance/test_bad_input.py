"""Whatever a device, a stranger or an attacker sends: a defined outcome, its reason in the API, and no harm to others.

Through a real mosquitto and through the embedded broker, into a running gateway (A22–A27, A31, A34–A36, A49).
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
import yaml

from bench.faults.processes import free_port
from gateway.sources.broker import derived_password, secret_file
from tests.acceptance.running import RunningGateway, publisher, running_gateway
from tests.servers import mosquitto

ASSETS = {
    "assets": [
        {"asset": "lamp-1", "kind": "lamp"},
        {"asset": "lamp-2", "kind": "lamp"},
        {"asset": "pipe-1", "kind": "pipe"},
        {"asset": "tilt-1", "kind": "manhole"},
    ],
    "devices": [
        {"device": "lamp-1", "asset": "lamp-1", "profile": "generic/json-lamp"},
        {"device": "lamp-2", "asset": "lamp-2", "profile": "generic/json-lamp"},
        {"device": "pipe-1", "asset": "pipe-1", "profile": "generic/json-pipe"},
        {"device": "tilt-1", "asset": "tilt-1", "profile": "milesight/em320-tilt"},
    ],
}
LAMP = "citywatch/v1/lamp/lamp-1/telemetry"
GOOD = "citywatch/v1/lamp/lamp-2/telemetry"
NOW_MS = int(time.time() * 1000)


def deep(levels: int) -> bytes:
    return b'{"power": ' + b"[" * levels + b"]" * levels + b"}"


@dataclass(frozen=True)
class Rejected:
    """One message that becomes no readings. ``says``: part of the reason people read."""

    name: str
    payload: bytes
    code: str
    says: str
    topic: str = LAMP


REJECTED = [
    Rejected("empty", b"", "empty", "empty"),
    Rejected("blank", b"  \n", "empty", "empty"),
    Rejected("truncated", b'{"power": 12.', "bad_payload", "not JSON"),
    Rejected("not UTF-8", b'{"power": "\xff\xfe"}', "bad_payload", "UTF-8"),
    Rejected("1 MB", b'{"note": "' + b"x" * (1 << 20) + b'"}', "too_large", "256 kB"),
    Rejected("200 deep", deep(200), "bad_payload", "nested deeper"),
    Rejected("20,000 deep", deep(20_000), "bad_payload", "20000 values"),
    Rejected("400 digits", b'{"power": ' + b"9" * 400 + b"}", "bad_payload", "beyond 64 bits"),
    Rejected("a number beyond all numbers", b'{"power": 1e999}', "bad_payload", "out of range"),
    Rejected("a time that is none", b'{"ts": "yesterday", "values": {"power": 1}}', "bad_time", "yesterday"),
    Rejected("duplicate keys", b'{"power": 1, "power": 9}', "bad_payload", "power"),
    Rejected("NaN", b'{"power": NaN}', "bad_payload", "not JSON"),
    Rejected("Infinity", b'{"power": -Infinity}', "bad_payload", "not JSON"),
    Rejected("no object", b'"hello"', "bad_payload", "object"),
    Rejected("a page of a web server", b"<html>it works</html>", "bad_payload", "not JSON"),
    Rejected("binary where JSON belongs", bytes(range(256)), "bad_payload", "not JSON"),
    Rejected("only unknown points", b'{"blink": 1}', "unknown_points", "blink"),
    Rejected("JSON where binary belongs", b"{}", "bad_payload", "", "citywatch/v1/manhole/tilt-1/telemetry"),
    Rejected("unknown device", b'{"power": 1}', "unknown_device", "'lamp-9'", "citywatch/v1/lamp/lamp-9/telemetry"),
    Rejected("wrong kind", b'{"power": 1}', "wrong_kind", "lamp", "citywatch/v1/pipe/lamp-1/telemetry"),
    Rejected(
        "a made-up name", b'{"power": 1}', "unknown_device", "registered", f"citywatch/v1/lamp/{'a' * 5_000}/telemetry"
    ),
    Rejected("a name of tricks", b"{}", "unknown_device", "registered", "citywatch/v1/lamp/' OR 1=1;--/telemetry"),
]


@dataclass(frozen=True)
class Doubtful:
    """One message whose reading is kept as ``quality``; ``says``: part of the reason people read."""

    name: str
    payload: dict[str, Any]
    quality: str
    says: str
    point: str = "power"


DOUBTFUL = [
    Doubtful("a string where a number belongs", {"power": "hello"}, "bad", "where a number belongs"),
    Doubtful("an object where a number belongs", {"power": {"v": 1}}, "bad", "an object without a value"),
    Doubtful("true where a number belongs", {"power": True}, "bad", "where a number belongs"),
    Doubtful("a text that says NaN", {"power": "NaN"}, "bad", "NaN"),
    Doubtful("watts in a wrong unit", {"power": 95_000}, "bad", "2000"),
    Doubtful("a wrong unit in words", {"power": "95 kW"}, "bad", "where a number belongs"),
    Doubtful("a number where a truth belongs", {"on": 7}, "bad", "where true or false belongs", "on"),
    Doubtful("the year 1970", {"ts": 3_600_000, "values": {"power": 50}}, "uncertain", "1970"),
    Doubtful("the year 2100", {"ts": 4_102_444_800_000, "values": {"power": 50}}, "uncertain", "2100"),
]


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, aiomqtt.Client]]:
    """A running gateway behind a real mosquitto, and somebody who may publish anything."""
    (tmp_path / "assets.yaml").write_text(yaml.safe_dump(ASSETS))
    async with mosquitto() as broker:
        settings = {"mqtt": [{"id": "main", "url": broker.url}], "assets": [str(tmp_path / "assets.yaml")]}
        async with publisher(broker.url) as client:
            # Kept by the broker since long before we came: how old it is nobody knows.
            await client.publish(LAMP, b'{"power": 66}', qos=1, retain=True)
            await client.publish("citywatch/v1/lamp/lamp-1/status", b"online", qos=1, retain=True)
            async with running_gateway(tmp_path, settings) as running:
                await running.received(2)
                yield running, client


async def test_each_has_its_outcome_with_its_reason_and_500_good_ones_are_stored(
    gateway: tuple[RunningGateway, aiomqtt.Client],
) -> None:
    running, client = gateway
    for case in REJECTED:
        await client.publish(case.topic, case.payload, qos=1)
    for number, doubtful in enumerate(DOUBTFUL):
        document = doubtful.payload if "values" in doubtful.payload else {"values": doubtful.payload}
        await client.publish(LAMP, json.dumps({**document, "seq": number}), qos=1)
    # Seconds where milliseconds are usual is not nonsense: both are understood.
    await client.publish(LAMP, json.dumps({"ts": NOW_MS // 1000, "values": {"voltage": 220.5}}), qos=1)
    # Topics that are not ours never reach us: we asked the broker for two filters only.
    for topic in ("citywatch/v1/lamp/telemetry", "other/v1/lamp/lamp-1/telemetry", "$SYS/broker/x"):
        await client.publish(topic, b'{"power": 1}', qos=1)
    # A bomb of point names: counted, not kept as five thousand points.
    bomb = {"power": 51.0} | {f"p{i}": i for i in range(5_000)}
    await client.publish(LAMP, json.dumps({"values": bomb}), qos=1)
    before = time.monotonic()
    for i in range(500):
        values = {"power": 90.0 + i / 100, "voltage": 221.0, "on": True, "dim": 100}
        await client.publish(GOOD, json.dumps({"ts": NOW_MS + i, "seq": i, "values": values}), qos=1)
    retained = 2
    frames = retained + len(REJECTED) + len(DOUBTFUL) + 2 + 500
    ledger = await running.received(frames)
    assert time.monotonic() - before < 20, "and none of it slows the stream"

    async def kept() -> bool:
        found = await running.get("readings", asset="lamp-2", point="power", limit=1_000)
        return len(found["items"]) == 500

    await running.until(kept, "the historian, a follower, has the last of them")
    await the_rejected_are_there_with_their_reasons(running)
    await the_doubtful_are_readings_with_their_reasons(running)
    assert ledger["received"] == frames
    assert ledger["balanced"]
    wanted: dict[str, int] = {"retained": 1}
    for case in REJECTED:
        wanted[case.code] = wanted.get(case.code, 0) + 1
    assert ledger["rejected"] == wanted
    assert ledger["stored"] == frames - sum(wanted.values())
    assert ledger["extra_points"] >= 20
    by_device = {account["device"]: account for account in ledger["devices"]}
    assert by_device["lamp-2"] == by_device["lamp-2"] | {
        "received": 500,
        "stored": 500,
        "readings": 2_000,
        "bad_readings": 0,
    }
    assert set(by_device) == {"lamp-1", "lamp-2", "tilt-1", "?"}, "no account for a made-up name"
    good = await running.get("readings", asset="lamp-2", point="power", limit=1_000)
    assert [item["value"] for item in good["items"]] == [90.0 + i / 100 for i in range(500)]
    points = {point["point"] for point in await running.get("assets/lamp-1/points")}
    assert not [name for name in points if name.startswith("p") and name[1:].isdigit()]
    alarms = await running.all_pages("alarms")
    assert not [a for a in alarms if a["asset"] != "gateway"], "nothing of it is an alarm"
    assert (await running.get("health"))["status"] == "ok"


async def the_rejected_are_there_with_their_reasons(running: RunningGateway) -> None:
    rows = await running.all_pages("rejected")
    oldest_first = rows[::-1]
    (kept, *others) = oldest_first
    assert (kept["code"], kept["retained"]) == ("retained", True)
    assert len(others) == len(REJECTED)
    for row, case in zip(others, REJECTED, strict=True):
        assert row["code"] == case.code, f"{case.name}: {row}"
        assert case.says in row["reason"], f"{case.name}: {row['reason']}"
        assert row["payload_size"] == min(len(case.payload), (256 << 10) + 1), "no more of it is journaled"
        assert len(row["payload_base64"]) <= 4 * 4_096 // 3 + 4, "a megabyte is not kept a second time"
        assert row["address"][:400] == case.topic[:400]


async def the_doubtful_are_readings_with_their_reasons(running: RunningGateway) -> None:
    span = {"from": _iso(0), "to": _iso(5_000_000_000), "limit": 1_000}
    found: list[dict[str, Any]] = []
    for point in ("power", "on"):
        items = (await running.get("readings", asset="lamp-1", point=point, **span))["items"]
        found += [{**item, "point": point} for item in items]
    for case in DOUBTFUL:
        matching = [
            item
            for item in found
            if item["quality"] == case.quality and item["point"] == case.point and case.says in (item["reason"] or "")
        ]
        assert matching, f"{case.name}: {[i for i in found if i['quality'] != 'good']}"
        assert all((item["value"] is None) is (case.quality == "bad") for item in matching)
    assert len([i for i in found if i["quality"] == "bad"]) == sum(c.quality == "bad" for c in DOUBTFUL)
    assert len([i for i in found if i["quality"] == "uncertain"]) == sum(c.quality == "uncertain" for c in DOUBTFUL)
    (volts,) = (await running.get("readings", asset="lamp-1", point="voltage"))["items"]
    assert (volts["value"], volts["quality"]) == (220.5, "good")
    assert _seconds(volts["time"]) == NOW_MS // 1000


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


async def test_a_device_that_speaks_on_anothers_topic_is_refused_and_counted(tmp_path: Path) -> None:
    """The embedded broker knows who may say what; what it refuses never reaches us, and is counted all the same."""
    (tmp_path / "assets.yaml").write_text(yaml.safe_dump(ASSETS))
    settings = {
        "mqtt": [{"id": "main", "embedded": True, "port": free_port()}],
        "assets": [str(tmp_path / "assets.yaml")],
    }
    async with running_gateway(tmp_path, settings) as running:
        url = str(running.process.info["mqtt_url"])
        password = derived_password(secret_file(running.data / "secrets" / "broker_secret"), "lamp-1")
        async with publisher(url, "lamp-1", password) as lamp:
            for topic in (GOOD, "citywatch/v1/pipe/pipe-1/telemetry", "citywatch/v1/lamp/lamp-9/telemetry"):
                try:
                    await lamp.publish(topic, b'{"power": 1}', qos=1, timeout=1)
                except aiomqtt.MqttError:
                    continue  # how a refusal is told is the broker's way; that it is one is asserted below
        async with publisher(url, "lamp-1", password) as lamp:
            await lamp.publish(LAMP, b'{"power": 42}', qos=1)
        with pytest.raises(aiomqtt.MqttError):
            async with publisher(url, "lamp-1", "guessed"):
                pass
        ledger = await running.received(1)
        assert (ledger["received"], ledger["stored"]) == (1, 1)
        assert [account["device"] for account in ledger["devices"]] == ["lamp-1"]

        async def counted() -> Any:
            figures = (await running.get("health"))["parts"]["broker"]["figures"]
            return figures if figures["publishes_refused"] >= 1 and figures["logins_refused"] >= 1 else None

        figures = await running.until(counted, "the refusals are counted")
        assert figures["publishes_refused"] >= 1
