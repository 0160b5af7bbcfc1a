"""``citywatch simulate``: load against a real broker, and an account that holds when the broker dies in between."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.errors import ConfigError
from gateway.simulate import LoadOptions, all_acknowledged, run_load
from simulators.ledger import read_load_ledger
from simulators.load import Plan, payload, topic
from tests import servers
from tests.simulators.listener import listening

REPOSITORY = Path(__file__).parents[1]


async def simulate(*words: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "simulate", *words, cwd=REPOSITORY, env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_load_is_accounted_for_and_the_answer_is_yes(tmp_path: Path) -> None:
    async with servers.mosquitto(lines=["max_queued_messages 0"]) as broker:
        code, out, err = await ended(
            await simulate("--devices", "50", "--rate", "500", "--mqtt", broker.url, "--for", "2s", "--json",
                           "--ledger", str(tmp_path / "ledger"), "--assets-out", str(tmp_path / "assets.csv"))
        )  # fmt: skip
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert summary["sent"] == summary["acked"] == len(list(read_load_ledger(tmp_path / "ledger")))
    assert summary["sent"] == pytest.approx(1000, rel=0.15)
    assert 0 < summary["ack_ms"]["p50"] <= summary["ack_ms"]["p99"] <= summary["ack_ms"]["max"]
    assert len((tmp_path / "assets.csv").read_text().splitlines()) == 51


async def test_a_broker_killed_in_between_loses_nothing_that_the_ledger_calls_acknowledged(tmp_path: Path) -> None:
    """A subscriber hears until the kill, another from the restart on; what both missed was not acknowledged then."""
    path = tmp_path / "ledger"
    heard: set[tuple[str, bytes]] = set()
    async with servers.mosquitto(lines=["max_queued_messages 0"]) as broker:
        process = await simulate("--devices", "40", "--rate", "1000", "--mqtt", broker.url, "--ledger", str(path),
                                 "--connections", "4")  # fmt: skip
        async with listening(broker) as first:
            await until(lambda: len(first.messages) > 1000)
            broker.signal(signal.SIGSTOP)  # takes messages, and answers nothing more
            await asyncio.sleep(0.3)
            await broker.kill()
            heard |= set(first.messages)
        await broker.start()
        async with listening(broker) as second:
            await until(lambda: len(second.messages) > 1000)
            process.send_signal(signal.SIGINT)
            code, out, _ = await ended(process)
            entries = list(read_load_ledger(path))
            await until(lambda: second.messages and len(heard | set(second.messages)) >= len(entries) - 200)
            await asyncio.sleep(0.5)
            heard |= set(second.messages)
    assert code == 0
    assert f"acknowledged    {len(entries):,}" in out
    assert "unacknowledged  0" in out
    assert "sent again" in out
    plan = Plan(devices=40)
    assert all(entry.acked_at for entry in entries)
    said = {(topic(e.device), payload(plan, e.device, e.sequence, e.sent_at // 1000)) for e in entries}
    assert heard <= said  # nothing was delivered that the ledger does not know
    between = said - heard  # acknowledged by the new broker before the second subscription stood
    assert len(between) < len(said) / 4


async def test_a_broker_that_stays_dead_leaves_messages_unacknowledged_and_the_answer_is_no() -> None:
    async with servers.mosquitto() as broker:
        process = await simulate("--devices", "10", "--rate", "200", "--mqtt", broker.url, "--json")
        async with listening(broker) as heard:
            await until(lambda: len(heard.messages) > 50)
            broker.signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            process.terminate()
            code, out, _ = await ended(process)
            broker.signal(signal.SIGCONT)
    summary = json.loads(out)
    assert code == 1
    assert summary["unacked"] > 0
    assert summary["acked"] + summary["unacked"] == summary["sent"]


async def test_the_password_comes_by_address_or_environment_and_is_never_shown(tmp_path: Path) -> None:
    async with servers.mosquitto(users={"dev": "s@cr/et"}) as broker:
        short = ("--devices", "5", "--rate", "100", "--for", "1s")
        address = f"mqtt://dev:s%40cr%2Fet@127.0.0.1:{broker.port}"
        process = await simulate(*short, "--mqtt", address)
        us = psutil.Process(process.pid)
        await until(lambda: any("simulators" in child.cmdline() for child in us.children()))
        listed = [" ".join(child.cmdline()) for child in us.children()]
        code, out, err = await ended(process)
        assert code == 0
        assert "cr/et" not in listed[0]
        assert "cr%2Fet" not in listed[0]
        assert "cr/et" not in out + err
        environment = {"CITYWATCH_MQTT_USERNAME": "dev", "CITYWATCH_MQTT_PASSWORD": "s@cr/et"}
        assert (await ended(await simulate(*short, "--mqtt", broker.url, env=environment)))[0] == 0
        environment["CITYWATCH_MQTT_PASSWORD"] = "wrong"
        code, out, err = await ended(await simulate(*short, "--mqtt", broker.url, env=environment))
        assert code == 1
        assert "check the login" in out
        assert "wrong" not in out + err


async def test_a_broker_behind_tls_is_spoken_to_when_its_certificate_is_trusted(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("this test needs openssl: apt-get install openssl")
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
        "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1",
    ]  # fmt: skip
    await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, check=True, capture_output=True)
    lines = [f"certfile {tmp_path / 'cert.pem'}", f"keyfile {tmp_path / 'key.pem'}"]
    async with servers.mosquitto(lines=lines) as broker:
        words = ("--devices", "5", "--rate", "100", "--for", "1s", "--mqtt", f"mqtts://127.0.0.1:{broker.port}")
        trusting = {"SSL_CERT_FILE": str(tmp_path / "cert.pem")}
        assert (await ended(await simulate(*words, env=trusting)))[0] == 0
        assert (await ended(await simulate(*words)))[0] == 1


async def test_many_connections_are_made_at_a_bounded_pace_and_take_turns() -> None:
    async with servers.mosquitto() as broker:
        began = asyncio.get_running_loop().time()
        code, out, _ = await ended(
            await simulate("--devices", "600", "--connections", "600", "--rate", "300", "--mqtt", broker.url, "--for",
                           "6s", "--json")
        )  # fmt: skip
        assert asyncio.get_running_loop().time() - began > 6
    summary = json.loads(out)
    assert code == 0
    assert (summary["connections"], summary["reconnects"]) == (600, 0)
    assert summary["sent"] == pytest.approx(1800, rel=0.15)


def test_assets_alone_are_written_without_a_broker(tmp_path: Path) -> None:
    assert run_load(LoadOptions(devices=3, assets_out=tmp_path / "a.json")) is None
    assert len(json.loads((tmp_path / "a.json").read_text())["devices"]) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--mqtt"),
        (("--mqtt", "http://u:secret@x"), "mqtt://host:port"),
        (("--mqtt", "mqtt://x", "--rate", "fast"), "messages a second"),
        (("--mqtt", "mqtt://x", "--for", "long"), "--for"),
        (("--mqtt", "mqtt://x", "--devices", "0"), "--devices"),
    ],
)
async def test_wrong_usage_is_said_in_words(words: tuple[str, ...], said: str) -> None:
    code, _, err = await ended(await simulate(*words))
    assert code == 2
    assert said in err
    assert "secret" not in err
    assert "Traceback" not in err


def test_an_answer_needs_something_sent() -> None:
    nothing: dict[str, Any] = {"sent": 0, "unacked": 0}
    assert not all_acknowledged(nothing)
    with pytest.raises(ConfigError):
        run_load(LoadOptions(devices=1, url="mqtt://host:port"))


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  other processes
            await asyncio.sleep(0.01)
