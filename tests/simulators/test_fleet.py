"""The living city against a real broker: what it says arrives, in order, and its ledger tells the truth."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from pymodbus.client import AsyncModbusTcpClient

from simulators.city import DEMO_INTERVALS, build_city
from simulators.fleet import CityOptions, Link, run_city
from simulators.ledger import CityLedger
from simulators.messages import Message
from simulators.scenario import load_scenario
from tests import servers
from tests.simulators.listener import listening
from tests.simulators.test_hj212 import answer, centre
from tests.simulators.test_load import until

EVENING = load_scenario("evening")
CITY = build_city(1, 120, DEMO_INTERVALS)
ROOT = Path(__file__).parents[2]


@pytest_asyncio.fixture
async def patient_broker() -> AsyncIterator[servers.Broker]:
    """One that keeps whatever a slow listener has not taken yet; by itself it drops all beyond 1,000."""
    async with servers.mosquitto(lines=["max_queued_messages 0"]) as broker:
        yield broker


async def test_the_evening_reaches_a_real_broker_whole_and_in_order(
    patient_broker: servers.Broker, tmp_path: Path
) -> None:
    said: list[dict[str, Any]] = []
    options = CityOptions(CITY, EVENING, patient_broker.url, own_credentials=2, speed=100.0, duration_s=2.0)
    async with listening(patient_broker) as heard:
        with CityLedger(tmp_path / "ledger.db") as ledger:
            summary = await run_city(options, ledger, said.append, asyncio.Event())
        assert summary["sent"] == summary["acked"] > 500
        assert summary["dropped"] == 0
        await heard.until(summary["sent"])
    rows = sqlite3.connect(tmp_path / "ledger.db").execute("SELECT topic, payload, acked_at, sent_at FROM messages")
    account = {(topic, payload): acked_at >= sent_at for topic, payload, acked_at, sent_at in rows}
    assert set(account) == set(heard.messages)
    assert all(account.values())
    sequences: dict[str, list[int]] = defaultdict(list)
    for topic, payload in heard.messages:
        if payload.startswith(b'{"ts"') and payload.endswith(b"}") and b"\xff" not in payload:
            sequences[topic].append(json.loads(payload)["seq"])
    assert all(numbers == sorted(numbers) for numbers in sequences.values())
    kinds = {line["type"] for line in said}
    assert kinds == {"ready", "link", "rates", "fault", "truth", "summary"}
    faults = sqlite3.connect(tmp_path / "ledger.db").execute("SELECT fault, step FROM faults").fetchall()
    assert faults == [(line["fault"], line["step"]) for line in said if line["type"] == "fault"]
    assert ("cover-opened", "begin") in faults


async def test_devices_with_credentials_of_their_own_log_in_as_themselves() -> None:
    users = {"fleet": "f", "lc-0001": "one", "lc-0002": "two"}
    acl = "user fleet\ntopic write citywatch/v1/#\n" + "".join(
        f"user {name}\ntopic write citywatch/v1/lamp/{name}/#\n" for name in ("lc-0001", "lc-0002")
    )
    credentials = {"fleet": {"username": "fleet", "password": "f"}, "devices": {"lc-0001": "one", "lc-0002": "two"}}
    said: list[dict[str, Any]] = []
    async with servers.mosquitto(users=users, acl=acl) as broker:
        options = CityOptions(
            CITY,
            EVENING,
            broker.url,
            credentials=credentials,
            own_credentials=2,
            connections=1,
            speed=20.0,
            duration_s=1.5,
        )
        summary = await run_city(options, None, said.append, asyncio.Event())
    assert summary["sent"] == summary["acked"] > 50
    assert {line["link"] for line in said if line["type"] == "link" and line["up"]} == {
        "city-1-0",
        "lc-0001",
        "lc-0002",
    }


async def test_by_the_scenario_s_clock_devices_show_its_time_and_the_truth_is_told(
    patient_broker: servers.Broker,
) -> None:
    said: list[dict[str, Any]] = []
    options = CityOptions(CITY, EVENING, patient_broker.url, speed=200.0, duration_s=1.0, scenario_clock=True)
    async with listening(patient_broker) as heard:
        summary = await run_city(options, None, said.append, asyncio.Event())
        await heard.until(summary["sent"])
    begin = EVENING.start.timestamp() * 1000
    whole = [body for _, body in heard.messages if body.startswith(b'{"ts":17') and body.endswith(b"true}")]
    stamps = [json.loads(body)["ts"] for body in whole if b"\xff" not in body]
    assert len(stamps) > 500
    assert begin <= min(stamps) < begin + 5_000
    assert begin + 195_000 < max(stamps) <= begin + 200_000
    truth = [line["record"] for line in said if line["type"] == "truth"]
    assert {record[0] for record in truth} == {"act", "due", "hazard"}
    acts = {record[1]["cause"]: record[1] for record in truth if record[0] == "act"}
    assert acts["cover-opened"]["until"] == 120_000_000
    assert acts["feeder-loses-mains"]["until"] is None, "it is still going on when the city ends"


async def test_every_other_dust_station_speaks_hj_212_to_the_centre_it_is_given() -> None:
    async with centre(lambda number, line: answer(line)) as (port, heard):
        options = CityOptions(CITY, EVENING, None, hj212=("127.0.0.1", port), speed=100.0, duration_s=1.0)
        summary = await run_city(options, None, lambda line: None, asyncio.Event())
    assert summary["sent"] == 0, "nothing by MQTT"
    (station,) = [device for device in CITY.devices if device.is_hj212]
    assert len(heard) == pytest.approx(100 / station.interval_s, abs=1)
    assert all(line.startswith(b"##") and b"MN=%s;" % station.address.encode() in line for line in heard)


async def test_a_link_keeps_what_a_killed_broker_did_not_acknowledge(mosquitto: servers.Broker) -> None:
    said: list[dict[str, Any]] = []
    link = Link("city-test", mosquitto.url, None, None, None, said.append)
    running = asyncio.create_task(link.run())
    try:
        link.offer(Message(0.0, "d", 1, "t/1", b"1"))
        await until(lambda: link.acked == 1)
        await mosquitto.kill()
        for number in range(2, 102):
            link.offer(Message(0.0, "d", number, f"t/{number}", b"%d" % number))
        # A message handed over in the moment of the kill is waited for, and so is the end of the connection: 10 s each.
        await until(lambda: any(not line["up"] for line in said), 45)
        await mosquitto.start()
        await until(lambda: link.acked == 101, 45)
        assert link.idle
        assert [line["up"] for line in said] == [True, False, True]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_store_of_a_link_is_bounded_and_counts_what_it_drops() -> None:
    link = Link("city-test", "mqtt://127.0.0.1:1", None, None, None, lambda line: None)
    for number in range(20_003):
        link.offer(Message(0.0, "d", number, "t", b""))
    assert link.dropped == 3


async def test_the_city_command_writes_its_ports_answers_modbus_and_ends_with_its_parent_s_word(
    mosquitto: servers.Broker, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "--die-with-parent", "city", "--mqtt-url", mosquitto.url,
        "--devices", "120", "--modbus-ports-file", str(tmp_path / "ports.json"),
        "--ledger", str(tmp_path / "ledger.db"), cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(30):
        ready = json.loads(await process.stdout.readline())
    assert ready["type"] == "ready"
    assert json.loads((tmp_path / "ports.json").read_text()) == ready["modbus"]
    assert list(ready["modbus"]) == build_city(1, 120).modbus_devices
    client = AsyncModbusTcpClient("127.0.0.1", port=ready["modbus"]["plc-01"], timeout=3)
    assert await client.connect()
    assert (await client.read_holding_registers(7, count=1, device_id=1)).registers == [1]
    client.close()
    async with aiomqtt.Client(mosquitto.host, mosquitto.port, timeout=10) as listener:
        await listener.subscribe("citywatch/v1/+/+/telemetry")
        async with asyncio.timeout(20):
            await anext(aiter(listener.messages))
    process.terminate()
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["type"] == "summary"


async def test_a_wrong_word_on_the_command_line_is_one_line_and_exit_2(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "city", "--mqtt-url", "http://nowhere", "--for", "1s", cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert err.decode().splitlines() == [
        "city: not an MQTT address: 'http://nowhere' (write mqtt://127.0.0.1:1883 or mqtts://host:8883)"
    ]
