"""gateway.sources.broker: the real nats-server, its rights, its life and its death."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import psutil
import pytest
from structlog.testing import capture_logs

from gateway.errors import ConfigError
from gateway.sources.broker import (
    GATEWAY_USER,
    BrokerOptions,
    EmbeddedBroker,
    derived_password,
    find_server,
    loss_window,
    secret_file,
)
from gateway.sources.mqtt import MqttSource
from tests.servers import free_port
from tests.sources.conftest import Running, end, impatient
from tests.sources.held_intake import HeldIntake, eventually

DEVICES = ("d1", "d2", "lamp-0001")


def options(folder: Path, port: int = 0, fleet_users: tuple[str, ...] = ()) -> BrokerOptions:
    return BrokerOptions(folder / "broker", folder / "secrets", port, fleet_users, ack_wait_s=1)


@asynccontextmanager
async def started(folder: Path, **how: object) -> AsyncIterator[EmbeddedBroker]:
    broker = EmbeddedBroker(options(folder, **how))  # type: ignore[arg-type]
    await broker.start(DEVICES)
    try:
        yield broker
    finally:
        await broker.stop()


@asynccontextmanager
async def device(
    broker: EmbeddedBroker, name: str, *, client_id: str | None = None, **how: object
) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        username=name,
        password=broker.password(name),
        identifier=client_id or f"{name}-{os.urandom(4).hex()}",
        **how,  # type: ignore[arg-type]
    ) as client:
        yield client


def telemetry(name: str) -> str:
    return f"citywatch/v1/lamp/{name}/telemetry"


def reading(broker: EmbeddedBroker) -> MqttSource:
    return MqttSource(broker.source_options("main"), backoff=impatient())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def refused(codes: Iterable[Any]) -> bool:
    """Are all codes of a SUBACK refusals?"""
    return all(getattr(code, "value", code) >= 0x80 for code in codes)


# -- what it lets in --------------------------------------------------------------------------------------------------


async def test_what_a_device_sends_before_the_gateway_ever_read_is_kept(tmp_path: Path, running: Running) -> None:
    async with started(tmp_path) as broker:
        async with device(broker, "d1") as sender:
            for number in range(100):
                await sender.publish(telemetry("d1"), b"%d" % number, qos=1)
        intake = HeldIntake(commit_at_once=True)
        running(reading(broker), intake)
        await intake.count(100)
        assert intake.payloads == [b"%d" % number for number in range(100)]


async def test_no_device_may_log_in_before_our_session_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = EmbeddedBroker(options(tmp_path))
    make_session, seen = broker._make_session, []

    async def look_first() -> None:
        try:
            async with device(broker, "d1"):
                seen.append("in")
        except aiomqtt.MqttError:
            seen.append("out")
        await make_session()

    monkeypatch.setattr(broker, "_make_session", look_first)
    try:
        await broker.start(DEVICES)
        async with device(broker, "d1"):
            seen.append("in")
        assert seen == ["out", "in"]
    finally:
        await broker.stop()


async def test_the_session_is_made_once_and_again_when_the_store_is_gone(tmp_path: Path) -> None:
    for round_ in range(3):
        broker = EmbeddedBroker(options(tmp_path))
        first = not broker._has_session()
        assert first is (round_ != 1)
        await broker.start(DEVICES)
        await broker.stop()
        if round_ == 1:
            (tmp_path / "broker" / "store" / "gateway-session").unlink()


async def test_a_device_publishes_to_its_own_topics_and_to_nothing_else(tmp_path: Path, running: Running) -> None:
    async with started(tmp_path) as broker:
        intake = HeldIntake(commit_at_once=True)
        running(reading(broker), intake)
        with capture_logs() as logs:
            async with device(broker, "d1", client_id="evil") as d1:
                for topic in (
                    telemetry("d2"),
                    "citywatch/v1/lamp/d1/command",
                    "citywatch/v1/lamp/d1/x/telemetry",
                    "citywatch/v1/d1/telemetry",
                    "citywatch/v1/alarms/x/y",
                    "citywatch/v1/alarms/d1/telemetry",  # where the alarm d1/telemetry would be read
                    "other",
                    "$MQTT/sub/x",
                ):
                    await d1.publish(topic, b"forged", qos=1)
                await d1.publish(telemetry("d1"), b"own", qos=1)
                await d1.publish("citywatch/v1/manhole/d1/status", b"born", qos=1)
            await intake.count(2)
            await eventually(lambda: broker.stats().publishes_refused >= 7)
        assert intake.payloads == [b"own", b"born"]
        assert broker.stats().refused_by == {'"evil"': broker.stats().publishes_refused}
        said = [line for line in logs if "not its own" in str(line["event"])]
        assert len(said) == 1, "a flood of forged messages is one line, and a count"


async def test_a_last_will_is_held_to_the_same_rights(tmp_path: Path, running: Running) -> None:
    async with started(tmp_path) as broker:
        intake = HeldIntake(commit_at_once=True)
        running(reading(broker), intake)
        for topic in (telemetry("d2"), "citywatch/v1/lamp/d1/status"):
            client = aiomqtt.Client(
                "127.0.0.1",
                broker.port,
                username="d1",
                password=broker.password("d1"),
                will=aiomqtt.Will(topic, b"last words", qos=1),
            )
            await client.__aenter__()
            client._client._sock_close()  # a line that breaks; a DISCONNECT would take the will back
        await intake.count(1)
        await eventually(lambda: broker.stats().publishes_refused == 1)
        assert [frame.address for frame in intake.frames] == ["citywatch/v1/lamp/d1/status"]


async def test_a_device_reads_its_own_commands_and_nothing_else(tmp_path: Path) -> None:
    async with started(tmp_path) as broker, device(broker, "d1") as d1:
        assert not refused(await d1.subscribe("citywatch/v1/lamp/d1/command", qos=1))
        for others in (
            "#",
            "citywatch/#",
            telemetry("d1"),
            telemetry("+"),
            "citywatch/v1/lamp/+/command",
            "citywatch/v1/lamp/d2/command",
            "$MQTT/sub/#",
            "$JS/#",
            "$SYS/#",
            "$share/x/citywatch/#",
        ):
            assert refused(await d1.subscribe(others, qos=1)), others


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (None, None),
        ("d1", None),
        ("d1", ""),
        ("d1", "wrong"),
        ("admin", "admin"),
        ("citywatch", "citywatch"),
        (GATEWAY_USER, "password"),
        ("d3", "unknown device"),
    ],
)
async def test_nobody_gets_in_without_the_right_password(
    tmp_path: Path, user: str | None, password: str | None
) -> None:
    async with started(tmp_path) as broker:
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", broker.port, username=user, password=password):
                pass
        await eventually(lambda: broker.stats().logins_refused == 1)


async def test_a_fleet_user_publishes_for_any_device_and_only_telemetry(tmp_path: Path, running: Running) -> None:
    async with started(tmp_path, fleet_users=("fleet",)) as broker:
        intake = HeldIntake(commit_at_once=True)
        running(reading(broker), intake)
        async with device(broker, "fleet") as fleet:
            await fleet.publish("citywatch/v1/lamp/d1/command", b"open", qos=1)
            await fleet.publish("citywatch/v1/alarms/d1/telemetry", b"forged", qos=1)
            await fleet.publish(telemetry("d1"), b"1", qos=1)
            await fleet.publish(telemetry("d2"), b"2", qos=1)
        await intake.count(2)
        assert intake.payloads == [b"1", b"2"]


async def test_only_loopback_listens_and_only_we_can_read_the_files(tmp_path: Path) -> None:
    async with started(tmp_path) as broker:
        listening = [c.laddr.ip for c in psutil.Process(broker.stats().pid).net_connections() if c.status == "LISTEN"]
        assert set(listening) == {"127.0.0.1"}
        files = files_below(tmp_path)
        assert {path.name for path in files} >= {"nats.conf", "broker_secret", "mqtt_client_id", "gateway-session"}
        assert {oct(mode(path)) for path in files} == {"0o600"}
        assert mode(tmp_path / "secrets") == 0o700
        assert "sync_interval: always" in (tmp_path / "broker" / "nats.conf").read_text()


# -- client ids -------------------------------------------------------------------------------------------------------


async def test_our_queue_survives_devices_that_try_client_ids(tmp_path: Path, running: Running) -> None:
    """A03: on this broker whoever connects with our client id takes our queue, so it must be unguessable."""
    async with started(tmp_path) as broker:
        link, intake = reading(broker), HeldIntake()
        task = running(link, intake)
        await link.connected()
        await end(task)
        async with device(broker, "d1") as d1:
            for number in range(50):
                await d1.publish(telemetry("d1"), b"%d" % number, qos=1)
        for guess in ("citywatch", "gateway", "citywatch-gateway", "main", "bare", "0" * 32):
            for clean in (True, False):
                async with device(broker, "d2", client_id=guess, clean_session=clean):
                    pass
        again = HeldIntake(commit_at_once=True)
        running(reading(broker), again)
        await again.count(50)
        assert again.payloads == [b"%d" % number for number in range(50)]


def test_our_client_id_is_128_secret_bits_and_stays(tmp_path: Path) -> None:
    ids = {EmbeddedBroker(options(tmp_path / name)).source_options("main").client_id for name in ("a", "b", "a")}
    assert len(ids) == 2
    assert all(len(bytes.fromhex(client_id)) == 16 for client_id in ids)


async def test_a_device_with_anothers_client_id_still_speaks_only_for_itself(tmp_path: Path, running: Running) -> None:
    async with started(tmp_path) as broker:
        intake = HeldIntake(commit_at_once=True)
        running(reading(broker), intake)
        async with device(broker, "d2", client_id="d1") as thief:
            await thief.publish(telemetry("d1"), b"forged", qos=1)
            async with device(broker, "d1", client_id="d1") as owner:
                await owner.publish(telemetry("d1"), b"true", qos=1)
            await intake.count(1)
        await eventually(lambda: broker.stats().publishes_refused == 1 and broker.stats().sessions_taken_over == 1)
        assert intake.payloads == [b"true"]


# -- devices that come and go -----------------------------------------------------------------------------------------


async def test_devices_are_admitted_and_shut_out_while_the_others_stay_connected(
    tmp_path: Path, running: Running
) -> None:
    async with started(tmp_path) as broker:
        link, intake = reading(broker), HeldIntake(commit_at_once=True)
        running(link, intake)
        await link.connected()
        async with device(broker, "d1") as d1:
            await broker.admit(["d1", "new"])
            async with device(broker, "new") as new:
                await new.publish(telemetry("new"), b"hello", qos=1)
            await d1.publish(telemetry("d1"), b"still here", qos=1)
        with pytest.raises(aiomqtt.MqttError):
            async with device(broker, "d2"):
                pass
        await intake.count(2)
        assert intake.payloads == [b"hello", b"still here"]
        assert link.stats().reconnects == 0
        assert broker.stats().devices == 2


async def test_a_device_that_is_shut_out_is_cut_off(tmp_path: Path) -> None:
    async with started(tmp_path) as broker, device(broker, "d2") as d2:
        await broker.admit(["d1"])
        with pytest.raises(aiomqtt.MqttError):
            await asyncio.wait_for(anext(aiter(d2.messages)), 10)


async def test_five_thousand_devices_are_admitted_in_one_go(tmp_path: Path) -> None:
    async with started(tmp_path) as broker:
        before = asyncio.get_running_loop().time()
        await broker.admit([f"lamp-{number:05d}" for number in range(5000)])
        assert asyncio.get_running_loop().time() - before < 10
        async with device(broker, "lamp-04999") as lamp:
            await lamp.publish(telemetry("lamp-04999"), b"{}", qos=1)


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a*", ">", "+", "#", "$SYS", "a b", 'a"b', "..", "灯", "x" * 65])
async def test_a_name_that_could_reach_others_topics_is_refused(tmp_path: Path, name: str) -> None:
    broker = EmbeddedBroker(options(tmp_path))
    with pytest.raises(ConfigError, match="cannot log in to the broker"):
        await broker.start(["d1", name])
    assert not broker.stats().running


async def test_a_device_called_like_a_fleet_user_is_refused(tmp_path: Path) -> None:
    broker = EmbeddedBroker(options(tmp_path, fleet_users=("fleet",)))
    with pytest.raises(ConfigError, match="fleet"):
        await broker.start(["fleet"])


# -- life and death ---------------------------------------------------------------------------------------------------


async def test_a_broker_killed_under_load_comes_back_on_its_port_with_everything_it_acknowledged(
    tmp_path: Path, running: Running
) -> None:
    async with started(tmp_path) as broker:
        watch = asyncio.ensure_future(broker.run())
        link, intake = reading(broker), HeldIntake(commit_at_once=True)
        running(link, intake)
        await link.connected()
        port, acknowledged = broker.port, []

        async def send() -> None:
            async with device(broker, "d1", timeout=1) as d1:
                for number in range(100_000):
                    await d1.publish(telemetry("d1"), b"%d" % number, qos=1)
                    acknowledged.append(b"%d" % number)

        with capture_logs() as logs:
            sending = asyncio.ensure_future(send())
            await eventually(lambda: len(acknowledged) > 300)
            os.kill(broker.stats().pid or 0, signal.SIGKILL)
            with pytest.raises(aiomqtt.MqttError):
                await sending
            await eventually(lambda: broker.stats().restarts == 1)
            await eventually(lambda: link.stats().reconnects == 1)
            await intake.until(lambda frames: {frame.payload for frame in frames} >= set(acknowledged))
        assert broker.port == port
        events = [line["event"] for line in logs]
        assert events.count("embedded broker died") == events.count("embedded broker is back") == 1
        await end(watch)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux only")
async def test_no_broker_is_left_behind_when_we_are_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from gateway.sources.broker import BrokerOptions, EmbeddedBroker

async def main():
    folder = Path({str(tmp_path)!r})
    broker = EmbeddedBroker(BrokerOptions(folder / "broker", folder / "secrets", 0))
    await broker.start(["d1"])
    print(broker.stats().pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    try:
        assert parent.stdout is not None
        pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
        broker = psutil.Process(pid)
        assert "nats-server" in broker.name()
    finally:
        parent.kill()
        await parent.wait()
    await eventually(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE)


async def test_a_broker_left_behind_all_the_same_is_ended_at_the_next_start(tmp_path: Path) -> None:
    port = free_port()
    async with started(tmp_path, port=port):
        pass
    left = subprocess.Popen([find_server(), "-c", tmp_path / "broker" / "nats.conf"], stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        identity = {"pid": left.pid, "created": psutil.Process(left.pid).create_time()}
        (tmp_path / "broker" / "nats.pid").write_text(json.dumps(identity))
        with capture_logs() as logs:
            async with started(tmp_path, port=port) as broker, device(broker, "d1"):
                pass
        assert [line["pid"] for line in logs if "left behind" in str(line["event"])] == [left.pid]
    finally:
        left.kill()
        left.wait()


async def test_another_process_with_the_number_of_an_old_broker_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    innocent = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        for created in (psutil.Process(innocent.pid).create_time(), 1.0):
            (tmp_path / "broker" / "nats.pid").write_text(json.dumps({"pid": innocent.pid, "created": created}))
            async with started(tmp_path):
                assert innocent.returncode is None
        (tmp_path / "broker" / "nats.pid").write_text("nonsense")
        async with started(tmp_path):
            pass
    finally:
        innocent.kill()
        await innocent.wait()


async def test_a_port_in_use_is_one_line_that_says_so(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        broker = EmbeddedBroker(options(tmp_path, port=port))
        with pytest.raises(ConfigError) as error:
            await broker.start(DEVICES)
    assert str(error.value) == (
        f"settings: mqtt: port: port {port} is in use by another program: stop it, or choose another port"
    )
    assert broker._process is not None
    assert broker._process.returncode is not None
    await broker.stop()


async def test_an_ordered_stop_leaves_nothing(tmp_path: Path) -> None:
    broker = EmbeddedBroker(options(tmp_path))
    await broker.start(DEVICES)
    watch = asyncio.ensure_future(broker.run())
    await asyncio.sleep(0)
    process = psutil.Process(broker.stats().pid)
    await broker.stop()
    await asyncio.wait_for(watch, 5)
    assert not process.is_running()
    assert not (tmp_path / "broker" / "nats.pid").exists()
    await broker.stop()


async def test_a_broker_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    await EmbeddedBroker(options(tmp_path)).stop()


# -- words ------------------------------------------------------------------------------------------------------------


def test_passwords_differ_by_user_and_by_house_and_stay(tmp_path: Path) -> None:
    one, other = secret_file(tmp_path / "one"), secret_file(tmp_path / "other")
    assert one == secret_file(tmp_path / "one")
    passwords = {derived_password(secret, user) for secret in (one, other) for user in ("d1", "d2", "d1")}
    assert len(passwords) == 4
    assert all(len(password) == 32 for password in passwords)


def test_the_server_of_the_wheel_is_found() -> None:
    assert os.access(find_server(), os.X_OK)


@pytest.mark.parametrize(
    ("url", "has", "has_not"),
    [
        ("embedded", "keeps every message", "mosquitto"),
        ("mqtt://127.0.0.1:1883", "max_queued_messages 0", "not encrypted"),
        ("mqtt://broker.example", "not encrypted", "keeps every message"),
        ("mqtts://broker.example", "use_username_as_clientid true", "not encrypted"),
    ],
)
def test_the_loss_window_of_a_broker_is_told(url: str, has: str, has_not: str) -> None:
    text = "\n".join(loss_window(url))
    assert has in text
    assert has_not not in text
