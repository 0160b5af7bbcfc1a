"""The load generator: every message accounted for, through a broker that is killed in between."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import sys
import time
from array import array
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from simulators.ledger import LoadLedger, Sent, read_load_ledger, read_parameters
from simulators.load import (
    ALARM_PERIOD,
    Generator,
    Latencies,
    Plan,
    Target,
    broker_of,
    device_id,
    expected_values,
    in_alarm,
    kind_of,
    payload,
    topic,
    write_load_assets,
)
from tests import servers
from tests.simulators.listener import Heard, listening

numbers = st.integers(1, 100_000)


@given(numbers, numbers, st.integers(1, 1_000_000), st.integers(1, 8), st.sampled_from([0, 1, 7]))
def test_what_is_sent_is_exactly_what_a_judge_can_recompute(
    seed: int, index: int, sequence: int, count: int, alarms_every: int
) -> None:
    plan = Plan(seed, 1, count, alarms_every)
    message = payload(plan, index, sequence, 1_700_000_000_000)
    assert message.startswith(b'{"simulated":true,')
    document = json.loads(message)
    assert document == {
        "simulated": True,
        "ts": 1_700_000_000_000,
        "seq": sequence,
        "values": expected_values(seed, index, sequence, count, alarms_every),
    }
    assert 1 <= len(document["values"]) <= count


@given(numbers, numbers, numbers)
def test_values_stay_within_every_limit_unless_an_alarm_is_asked_for(seed: int, index: int, sequence: int) -> None:
    values = expected_values(seed, index, sequence, 8)
    assert 198 <= values.get("voltage", 220) <= 231
    assert values.get("freeboard", 1) > 0.5
    assert values.get("depth", 0) < 5
    assert values.get("battery", 100) > 25


def test_an_alarming_device_overflows_three_messages_in_twenty_and_no_other_does() -> None:
    for index in range(1, 41):
        overflows = [seq for seq in range(1, 61) if expected_values(1, index, seq, 4, 10).get("freeboard", 1) <= 0]
        assert overflows == ([10, 11, 12, 30, 31, 32, 50, 51, 52] if index % 10 == 0 else [])
        assert overflows == [seq for seq in range(1, 61) if in_alarm(index, seq, 10)]
    assert ALARM_PERIOD == 20


def test_a_ledger_reads_back_what_was_written_and_forgives_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = LoadLedger(path, {"seed": 3})
    ledger.pending.extend((1, 2, 3, 4))
    ledger.flush()
    ledger.pending.extend((5, 6, 7, 0))
    ledger.close()
    with path.open("ab") as file:
        file.write(b"half a record")
    assert read_parameters(path) == {"seed": 3}
    assert list(read_load_ledger(path)) == [Sent(1, 2, 3, 4), Sent(5, 6, 7, 0)]
    (tmp_path / "other").write_bytes(b"something else\n{}\n")
    with pytest.raises(ValueError, match="not a load ledger"):
        read_parameters(tmp_path / "other")


@pytest.mark.parametrize("name", ["a.yaml", "a.json", "a.csv"])
def test_the_asset_file_has_a_device_for_every_topic_and_no_asset_is_real(tmp_path: Path, name: str) -> None:
    path, plan = tmp_path / name, Plan(devices=25, alarms_every=5)
    write_load_assets(plan, path)
    text = path.read_text(encoding="utf-8")
    if name.endswith("csv"):
        rows = list(csv.DictReader(text.splitlines()))
        found = {row["device"]: row["kind"] for row in rows}
        assert {row["simulated"] for row in rows} == {"true"}
    else:
        document = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
        kinds = {row["asset"]: row["kind"] for row in document["assets"]}
        assert {row["simulated"] for row in document["assets"]} == {True}
        found = {row["device"]: kinds[row["asset"]] for row in document["devices"]}
    assert found == {device_id(index): kind_of(index, 5) for index in range(1, 26)}


def test_a_broker_address_is_read_with_its_credentials() -> None:
    assert broker_of("mqtt://a%40b:p%3Aw@localhost:99") == ("localhost", 99, "a@b", "p:w")
    assert broker_of("mqtt://127.0.0.1") == ("127.0.0.1", 1883, None, None)
    assert broker_of("mqtts://host")[:2] == ("host", 8883)
    for wrong in ("http://127.0.0.1", "mqtt://", "127.0.0.1:1883", "mqtt://u:secret@host:x"):
        with pytest.raises(ValueError, match="not an MQTT address"):
            broker_of(wrong)


def check_account(plan: Plan, entries: list[Sent], heard: Heard) -> None:
    """Every acknowledged message was delivered, with the values its seed gives, at the time the ledger says."""
    delivered = Counter(heard.messages)
    for entry in entries:
        assert entry.acked_at >= entry.sent_at > 0
        message = payload(plan, entry.device, entry.sequence, entry.sent_at // 1000)
        assert delivered[topic(entry.device, plan.alarms_every), message] >= 1
    identities = {(entry.device, entry.sequence) for entry in entries}
    assert len(identities) == len(entries)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_real_broker_delivers_every_message_once_and_the_ledger_knows_it(tmp_path: Path, qos: int) -> None:
    plan = Plan(seed=5, devices=40, alarms_every=4)
    ledger = LoadLedger(tmp_path / "ledger", asdict(plan))
    # Mosquitto throws away what a slow subscriber has not taken beyond 1,000 messages, unless told not to.
    async with servers.mosquitto(lines=["max_queued_messages 0"]) as broker, listening(broker) as heard:
        target = Target(broker.host, broker.port, connections=3, qos=qos, count=2_001)
        summary = await Generator(plan, target, ledger).run()
        ledger.close()
        assert (summary["sent"], summary["unacked"]) == (2_001, 0)
        await heard.until(2_001)
        entries = list(read_load_ledger(tmp_path / "ledger"))
        assert len(entries) == 2_001
        if qos:
            check_account(plan, entries, heard)
        assert len(set(heard.messages)) == 2_001
    assert Plan(**read_parameters(tmp_path / "ledger")) == plan


async def test_a_given_rate_is_kept(mosquitto: servers.Broker) -> None:
    target = Target(mosquitto.host, mosquitto.port, connections=2, rate=400, duration_s=1.5)
    summary = await Generator(Plan(devices=10), target).run()
    assert summary["rate"] == pytest.approx(400, rel=0.1)
    assert summary["acked"] == summary["sent"]


async def test_a_killed_broker_is_found_again_and_what_it_had_not_acknowledged_sent_again(
    mosquitto: servers.Broker, tmp_path: Path
) -> None:
    plan = Plan(seed=9, devices=30)
    ledger = LoadLedger(tmp_path / "ledger", asdict(plan))
    generator = Generator(plan, Target(mosquitto.host, mosquitto.port, connections=2, rate=2_000), ledger)
    running = asyncio.create_task(generator.run())
    await until(lambda: generator.acked > 500)
    mosquitto.signal(signal.SIGSTOP)  # it takes messages and answers nothing more
    await asyncio.sleep(0.2)  # what it had answered before is read
    await until(lambda: generator.unacked > 50)
    await mosquitto.kill()
    await mosquitto.start()
    before = generator.acked
    await until(lambda: generator.acked > before + 500)
    generator.stop()
    summary = await running
    ledger.close()
    assert summary["reconnects"] >= 2
    assert summary["resent"] >= 50
    assert summary["acked"] == summary["sent"]
    entries = list(read_load_ledger(tmp_path / "ledger"))
    assert {(e.device, e.sequence) for e in entries if e.acked_at} == {(e.device, e.sequence) for e in entries}
    assert len(entries) == summary["sent"]


async def test_a_slow_connection_is_not_given_up_for_having_been_silent(
    mosquitto: servers.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulators.load._STALL_S", 0.3)
    target = Target(mosquitto.host, mosquitto.port, connections=2, rate=2, duration_s=3.5)
    summary = await Generator(Plan(devices=2), target).run()
    assert summary["acked"] == summary["sent"] >= 6
    assert summary["reconnects"] == 0


def test_latencies_are_a_fair_sample_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.load.LATENCIES_KEPT", 1000)
    latencies = Latencies()
    assert latencies.in_ms() == {}
    for number in range(10_000):
        latencies.add(array("q", [number * 1000] * 2))
    found = latencies.in_ms()
    assert found["p50"] == pytest.approx(5_000, rel=0.1)
    assert found["p90"] == pytest.approx(9_000, rel=0.1)
    assert found["max"] == pytest.approx(10_000, rel=0.05)


async def test_wrong_credentials_are_said_and_nothing_is_claimed() -> None:
    async with servers.mosquitto(users={"dev": "right"}) as broker:
        wrong = Target(broker.host, broker.port, "dev", "wrong", connections=1, duration_s=0.5, drain_s=0.1)
        summary = await Generator(Plan(devices=2), wrong).run()
        assert (summary["sent"], summary["acked"]) == (0, 0)
        assert summary["refused"] >= 1
        right = Target(broker.host, broker.port, "dev", "right", connections=1, count=10)
        assert (await Generator(Plan(devices=2), right).run())["acked"] == 10


async def test_a_generator_that_is_killed_leaves_a_ledger_of_whole_seconds(
    mosquitto: servers.Broker, tmp_path: Path
) -> None:
    path = tmp_path / "ledger"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "--die-with-parent", "load", "--mqtt-url", mosquitto.url, "--devices", "50",
        "--rate", "1000", "--ledger", str(path), cwd=Path(__file__).parents[2],
    )  # fmt: skip
    await until(lambda: path.exists() and path.stat().st_size > 20_000)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    entries = list(read_load_ledger(path))
    assert len(entries) > 500
    assert all(entry.acked_at >= entry.sent_at for entry in entries)


async def test_the_command_ends_in_order_when_told_to_and_prints_its_summary(
    mosquitto: servers.Broker, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "load", "--mqtt-url", mosquitto.url, "--devices", "20", "--rate", "200",
        "--status", "--ledger", str(tmp_path / "ledger"), cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        first = json.loads(await process.stdout.readline())
    assert first["type"] == "rates"
    process.terminate()
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    summary = json.loads(out.splitlines()[-1])
    assert process.returncode == 0
    assert summary["acked"] == summary["sent"] == len(list(read_load_ledger(tmp_path / "ledger")))


async def until(condition: object, seconds: float = 20.0) -> None:
    """Wait for something another process or thread does. Raises AssertionError."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)
