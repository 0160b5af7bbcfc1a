"""gateway.sources.mqtt against real mosquittos, and against a broker of bytes for what no real one does."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import aiomqtt
import pytest
from structlog.testing import capture_logs

from gateway.core.model import FrameKind
from gateway.errors import ConfigError
from gateway.sources import mqtt
from gateway.sources.gmqtt_ack import MAX_PAYLOAD
from gateway.sources.mqtt import MqttOptions, MqttSource
from tests import servers
from tests.sources.conftest import Running, end, impatient
from tests.sources.held_intake import HeldIntake, eventually
from tests.sources.raw_broker import DISCONNECT, PUBACK, PUBCOMP, PUBREC, publish, raw_broker

TOPIC = "citywatch/v1/lamp/{}/telemetry"


def source(url: str, version: Literal[5, 311] = 5, **options: object) -> MqttSource:
    return MqttSource(
        MqttOptions("main", url, "the-gateway", version=version, **options),  # type: ignore[arg-type]
        backoff=impatient(),
    )


async def send(broker: servers.Broker, payloads: list[bytes], qos: int = 1, **how: object) -> None:
    """As a device: publish and wait for the broker's PUBACKs."""
    async with aiomqtt.Client("127.0.0.1", broker.port) as device:
        for payload in payloads:
            await device.publish(TOPIC.format("lamp-1"), payload, qos=qos, **how)  # type: ignore[arg-type]


def down_and_back(logs: Sequence[Mapping[str, object]]) -> list[object]:
    return [line["event"] for line in logs if line["event"] in ("mqtt link down", "mqtt link back")]


# -- the promise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [5, 311])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_not_committed_comes_again_and_what_was_does_not(
    mosquitto: servers.Broker,
    running: Running,
    monkeypatch: pytest.MonkeyPatch,
    version: Literal[5, 311],
    qos: Literal[1, 2],
) -> None:
    monkeypatch.setattr(mqtt, "SETTLE_S", 0.02)
    intake = HeldIntake()
    first = source(mosquitto.url, version, qos=qos)
    task = running(first, intake)
    await first.connected()
    await send(mosquitto, [b"one", b"two"], qos)
    await intake.count(2)
    intake.commit()
    await eventually(lambda: first.stats().acknowledged == 2)
    await send(mosquitto, [b"three", b"four"], qos)
    await intake.count(4)
    assert first.stats().unacknowledged == 2
    await end(task)  # as good as a crash: nothing was committed in the time we wait for it

    again = HeldIntake(commit_at_once=True)
    second = source(mosquitto.url, version, qos=qos)
    running(second, again)
    await send_until(mosquitto, again, b"last", qos)
    assert again.payloads == [b"three", b"four", b"last"]
    assert [frame.duplicate for frame in again.frames] == [True, True, False]


async def send_until(broker: servers.Broker, intake: HeldIntake, payload: bytes, qos: int = 1) -> None:
    await send(broker, [payload], qos)
    await intake.until(lambda frames: any(frame.payload == payload for frame in frames))


async def test_an_acknowledgement_never_goes_to_another_connection_than_its_message(running: Running) -> None:
    intake = HeldIntake()
    async with raw_broker() as broker:
        link = source(broker.url)
        running(link, intake)
        old = await broker.line()
        await old.welcome()
        old.send(publish(TOPIC.format("a"), b"first message with id 7", 7))
        await intake.count(1)
        first = intake.seal()
        old.close()

        new = await broker.line()
        await new.welcome()
        new.send(publish(TOPIC.format("b"), b"other message with id 7", 7))
        await intake.count(2)
        second = intake.seal()
        assert first is not None
        assert second is not None
        first.set_result(0)  # the first is durable now; acknowledging id 7 here would lose the second in a crash
        assert await new.says_nothing()
        assert link.stats().late_acknowledgements == 1
        second.set_result(0)
        assert await new.expect(PUBACK) == b"\x00\x07"


async def test_qos_2_is_received_only_after_the_commit_and_completed_at_once(running: Running) -> None:
    intake = HeldIntake()
    async with raw_broker() as broker:
        running(source(broker.url), intake)
        line = await broker.line()
        await line.welcome()
        line.send(publish(TOPIC.format("a"), b"{}", 9, qos=2))
        await intake.count(1)
        assert await line.says_nothing()
        intake.commit()
        assert await line.expect(PUBREC) == b"\x00\x09"
        line.send(b"\x62\x02\x00\x09")
        assert (await line.expect(PUBCOMP))[:2] == b"\x00\x09"


async def test_at_an_ordered_stop_what_becomes_durable_in_time_is_still_acknowledged(running: Running) -> None:
    intake = HeldIntake()
    async with raw_broker() as broker:
        link = source(broker.url)
        task = running(link, intake)
        line = await broker.line()
        await line.welcome()
        line.send(publish(TOPIC.format("a"), b"{}", 3))
        await intake.count(1)
        task.cancel()
        await asyncio.sleep(0.01)
        intake.commit()
        assert await line.expect(PUBACK) == b"\x00\x03"
        await line.expect(DISCONNECT)
        await asyncio.wait({task})
        assert task.cancelled()


async def test_an_intake_that_breaks_its_word_costs_the_connection_and_not_the_message(
    mosquitto: servers.Broker, running: Running
) -> None:
    intake = HeldIntake(commit_at_once=True, raise_on=b"poison")
    link = source(mosquitto.url)
    running(link, intake)
    await link.connected()
    await send(mosquitto, [b"poison"])
    await eventually(lambda: link._backoff.attempts > 3)
    intake.raise_on = None
    await intake.until(lambda frames: any(frame.payload == b"poison" for frame in frames))
    good = [b"%d" % number for number in range(500)]
    await send(mosquitto, good)
    await intake.until(lambda frames: len(frames) >= 501)
    assert [payload for payload in intake.payloads if payload != b"poison"] == good


# -- flow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [5, 311])
async def test_a_full_intake_stops_the_reading_of_the_socket_and_nothing_is_lost(
    running: Running, version: Literal[5, 311]
) -> None:
    # Twenty in flight would never fill a socket, so the broker's own limit is taken away.
    async with servers.mosquitto(lines=["max_inflight_messages 0", "max_queued_messages 0"]) as broker:
        intake = HeldIntake(full_above=50, commit_at_once=True)
        link = source(broker.url, version, receive_maximum=65535)
        running(link, intake)
        await link.connected()
        sent = [number.to_bytes(4, "big") * 2500 for number in range(1000)]  # 10 MB: more than any socket buffer
        sending = asyncio.ensure_future(send(broker, sent))
        await intake.count(50)
        await asyncio.wait({sending}, timeout=1.0)
        held = len(intake.frames)
        assert held < 50 + (256 << 10) // 10_000 + 2, "one read of the socket may still come in, no more"
        assert link.stats().paused
        intake.make_room()
        await intake.count(1000)
        await sending
        assert intake.payloads == sent
        assert not link.stats().paused
        assert link.stats().reconnects == 0


async def test_a_full_intake_before_the_subscription_is_answered_does_not_end_the_connection(running: Running) -> None:
    intake = HeldIntake(full_above=1)
    async with raw_broker() as broker:
        link = source(broker.url)
        running(link, intake)
        line = await broker.line()
        await line.packet()
        line.send(b"\x20\x03\x01\x00\x00" + publish(TOPIC.format("a"), b"backlog", 1))
        await intake.count(1)
        subscribe = (await line.packet())[1]
        line.send(b"\x90\x05" + subscribe[:2] + b"\x00\x01\x01")
        await asyncio.sleep(0.05)
        assert not link.stats().connected
        intake.make_room()
        await asyncio.wait_for(link.connected(), 5)


async def test_the_retained_flag_goes_with_the_frame(mosquitto: servers.Broker, running: Running) -> None:
    await send(mosquitto, [b"old news"], retain=True)
    intake = HeldIntake(commit_at_once=True)
    link = source(mosquitto.url)
    running(link, intake)
    await link.connected()
    await send(mosquitto, [b"live"])
    await intake.count(2)
    assert [(frame.payload, frame.retained) for frame in intake.frames] == [(b"old news", True), (b"live", False)]
    assert {(frame.kind, frame.source, frame.address) for frame in intake.frames} == {
        (FrameKind.MQTT, "main", TOPIC.format("lamp-1"))
    }


async def test_with_mqtt_5_retained_messages_come_once_and_not_at_every_reconnect(
    mosquitto: servers.Broker, running: Running
) -> None:
    await send(mosquitto, [b"old news"], retain=True)
    for expected in ([b"old news", b"live"], [b"live"]):
        intake = HeldIntake(commit_at_once=True)
        link = source(mosquitto.url)
        task = running(link, intake)
        await link.connected()
        await send_until(mosquitto, intake, b"live")
        assert intake.payloads == expected
        await end(task)


async def test_a_megabyte_is_cut_and_the_stream_goes_on(mosquitto: servers.Broker, running: Running) -> None:
    intake = HeldIntake(commit_at_once=True)
    link = source(mosquitto.url)
    running(link, intake)
    await link.connected()
    await send(mosquitto, [b"x" * (1 << 20), b"", b"after"])
    await intake.count(3)
    assert [len(payload) for payload in intake.payloads] == [MAX_PAYLOAD + 1, 0, 5]


async def test_qos_0_is_taken_as_well(mosquitto: servers.Broker, running: Running) -> None:
    intake = HeldIntake()
    link = source(mosquitto.url)
    running(link, intake)
    await link.connected()
    await send(mosquitto, [b"best effort"], qos=0)
    await intake.count(1)
    assert link.stats().unacknowledged == 0


async def test_two_of_a_share_group_get_every_message_once_between_them(
    mosquitto: servers.Broker, running: Running
) -> None:
    intakes = [HeldIntake(commit_at_once=True) for _ in range(2)]
    for number, intake in enumerate(intakes):
        link = MqttSource(MqttOptions("main", mosquitto.url, f"gateway-{number}", share_group="pair"))
        running(link, intake)
        await link.connected()
    sent = [b"%d" % number for number in range(200)]
    await send(mosquitto, sent)
    await eventually(lambda: sum(len(intake.frames) for intake in intakes) == 200)
    assert sorted(intakes[0].payloads + intakes[1].payloads) == sorted(sent)
    assert all(intake.frames for intake in intakes)


# -- links that go and come -------------------------------------------------------------------------------------------


async def test_a_broker_that_goes_and_comes_is_one_warning_and_one_info(running: Running) -> None:
    async with servers.mosquitto(persistence=True) as broker:
        intake = HeldIntake(commit_at_once=True)
        link = source(broker.url)
        with capture_logs() as logs:
            running(link, intake)
            await link.connected()
            await broker.stop()
            await eventually(lambda: not link.stats().connected)
            await asyncio.sleep(0.3)  # several attempts fail meanwhile
            await broker.start()
            await link.connected()
            await send_until(broker, intake, b"after")
        assert down_and_back(logs) == ["mqtt link down", "mqtt link back"]
        assert link.stats().reconnects == 1
        assert not any("forgotten" in str(line["event"]) for line in logs)


async def test_a_broker_that_forgot_our_session_is_told_to_people(mosquitto: servers.Broker, running: Running) -> None:
    link = source(mosquitto.url)
    with capture_logs() as logs:
        running(link, HeldIntake())
        await link.connected()
        await mosquitto.kill()
        await mosquitto.start()
        await eventually(lambda: link.stats().reconnects == 1)
    assert sum("forgotten" in str(line["event"]) for line in logs) == 1


async def test_a_refused_login_is_said_once_and_tried_until_it_works(running: Running) -> None:
    async with servers.mosquitto(users={"gateway": "right"}) as broker:
        wrong = source(broker.url, username="gateway", password="wrong")
        with capture_logs() as logs:
            task = running(wrong, HeldIntake())
            await eventually(lambda: wrong._backoff.attempts >= 3)
        assert len([line for line in logs if line["log_level"] == "warning"]) == 1
        reason = wrong.stats().reason
        assert reason is not None
        assert "not authori" in reason.lower() or "password" in reason.lower()
        await end(task)

        intake = HeldIntake(commit_at_once=True)
        right = source(broker.url, username="gateway", password="right")
        running(right, intake)
        await right.connected()
        assert right.stats().reason is None


async def test_a_login_refused_in_the_middle_of_an_outage_is_said_too(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url)
        with capture_logs() as logs:
            running(link, HeldIntake())
            (await broker.line()).close()
            for _ in range(3):
                line = await broker.line()
                await line.packet()
                line.send(b"\x20\x03\x00\x87\x00")
                await line.closed_by_client()
    assert [line["event"] for line in logs] == ["mqtt link down", "mqtt login refused"]


async def test_a_subscription_the_broker_refuses_is_a_refused_login(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url)
        running(link, HeldIntake())
        line = await broker.line()
        await line.packet()
        line.send(b"\x20\x03\x00\x00\x00")
        subscribe = (await line.packet())[1]
        line.send(b"\x90\x05" + subscribe[:2] + b"\x00\x01\x87")
        await line.closed_by_client()
        assert "refuses our subscription to citywatch/v1/+/+/status" in (link.stats().reason or "")


async def test_a_broker_that_grants_less_than_asked_is_told_to_people(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url)
        with capture_logs() as logs:
            running(link, HeldIntake())
            line = await broker.line()
            await line.packet()
            line.send(b"\x20\x03\x00\x00\x00")
            subscribe = (await line.packet())[1]
            line.send(b"\x90\x05" + subscribe[:2] + b"\x00\x01\x00")
            await asyncio.wait_for(link.connected(), 5)
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
            "the broker grants QoS 0 only: it may lose any message"
        ]


async def test_a_broker_of_3_1_1_only_is_spoken_to_in_3_1_1(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url)
        intake = HeldIntake()
        running(link, intake)
        line = await broker.line()
        assert (await line.packet())[1][6] == 5
        line.send(b"\x20\x02\x00\x01")
        line = await broker.line()
        assert (await line.welcome())[6] == 4
        await link.connected()
        line.send(publish(TOPIC.format("a"), b"{}", 1, properties=None))
        await intake.count(1)
        intake.commit()
        assert await line.expect(PUBACK) == b"\x00\x01"


async def test_a_broker_that_never_answers_does_not_hold_us_for_ever(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "CONNECT_TIMEOUT_S", 0.05)
    async with raw_broker() as broker:
        link = source(broker.url)
        running(link, HeldIntake())
        await broker.line()
        await broker.line()
        assert link.stats().reason == "no answer within 0.05 s"
        monkeypatch.undo()
        for _ in range(20):
            line = await broker.line()
            if not line.reader.at_eof():
                break
        await line.welcome()
        await asyncio.wait_for(link.connected(), 5)


async def test_a_half_open_connection_is_noticed_within_one_and_a_half_keep_alives(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url, keepalive_s=1)
        running(link, HeldIntake())
        line = await broker.line()
        await line.welcome()
        began = asyncio.get_running_loop().time()
        await broker.line()  # it has given the first one up and comes again
        assert 1.0 < asyncio.get_running_loop().time() - began < 6.0
        assert "nothing heard" in (link.stats().reason or "")


async def test_a_broker_that_answers_pings_is_alive_however_little_it_says(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url, keepalive_s=1)
        running(link, HeldIntake())
        line = await broker.line()
        await line.welcome()
        for _ in range(2):
            await line.expect(12)
            line.send(b"\xd0\x00")
        assert link.stats().connected
        assert link.stats().reconnects == 0


async def test_why_the_broker_disconnected_us_is_told(running: Running) -> None:
    async with raw_broker() as broker:
        link = source(broker.url)
        running(link, HeldIntake())
        line = await broker.line()
        await line.welcome()
        await link.connected()
        line.send(b"\xe0\x02\x8e\x00")
        await line.closed_by_client()
        assert link.stats().reason == "another client took over our client id"


async def test_nobody_listening_is_an_outage_like_any_other(running: Running) -> None:
    link = source(f"mqtt://127.0.0.1:{servers.free_port()}")
    with capture_logs() as logs:
        running(link, HeldIntake())
        await eventually(lambda: link._backoff.attempts >= 3)
    assert [line["event"] for line in logs] == ["mqtt link down"]
    assert "refused" in str(logs[0]["reason"]).lower() or "connect" in str(logs[0]["reason"]).lower()


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca, server (127.0.0.1), client and a stranger's ca: .crt and .key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("this test needs openssl: apt-get install openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "stranger"):
        run("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}", "-days",
            "1", "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    for name in ("server", "client"):
        (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
        run("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1",
            "-extfile", "extensions", "-out", f"{name}.crt")  # fmt: skip
    return folder


def tls_lines(folder: Path) -> list[str]:
    return [
        f"cafile {folder / 'ca.crt'}",
        f"certfile {folder / 'server.crt'}",
        f"keyfile {folder / 'server.key'}",
        "require_certificate true",
        "use_identity_as_username true",
    ]


async def test_tls_with_a_certificate_of_ours(certificates: Path, running: Running) -> None:
    async with servers.mosquitto(lines=tls_lines(certificates)) as broker:
        intake = HeldIntake(commit_at_once=True)
        link = source(
            broker.url.replace("mqtt:", "mqtts:"),
            ca_file=certificates / "ca.crt",
            certificate_file=certificates / "client.crt",
            key_file=certificates / "client.key",
        )
        running(link, intake)
        await asyncio.wait_for(link.connected(), 10)
        parameters = aiomqtt.TLSParameters(
            ca_certs=str(certificates / "ca.crt"),
            certfile=str(certificates / "client.crt"),
            keyfile=str(certificates / "client.key"),
        )
        async with aiomqtt.Client("127.0.0.1", broker.port, tls_params=parameters) as device:
            await device.publish(TOPIC.format("a"), b"x" * 300_000, qos=1)
            await device.publish(TOPIC.format("a"), b"{}", qos=1)
        await intake.count(2)
        await eventually(lambda: link.stats().acknowledged == 2)


@pytest.mark.parametrize(
    ("ca", "client", "reason"),
    [("stranger", "client", "not trusted"), ("ca", None, ""), (None, "client", "not trusted")],
    ids=["a broker we do not know", "no certificate of our own", "no CA given"],
)
async def test_tls_without_the_right_certificates_is_refused(
    certificates: Path, running: Running, ca: str | None, client: str | None, reason: str
) -> None:
    async with servers.mosquitto(lines=tls_lines(certificates)) as broker:
        link = source(
            broker.url.replace("mqtt:", "mqtts:"),
            ca_file=certificates / f"{ca}.crt" if ca else None,
            certificate_file=certificates / f"{client}.crt" if client else None,
            key_file=certificates / f"{client}.key" if client else None,
        )
        with capture_logs() as logs:
            running(link, HeldIntake())
            await eventually(lambda: link._backoff.attempts >= 2)
        assert not any(line["event"] == "mqtt link up" for line in logs)
        assert len([line for line in logs if line["log_level"] == "warning"]) == 1
        assert reason in str(link.stats().reason)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"url": "http://broker"}, "url"),
        ({"url": "mqtt://"}, "url"),
        ({"url": "mqtt://broker:99999"}, "url"),
        ({"url": "mqtt://broker", "ca_file": Path("ca.crt")}, "url"),
        ({"url": "mqtts://broker", "ca_file": Path("/nowhere/ca.crt")}, "certificates"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=f"mqtt main: {key}"):
        MqttSource(MqttOptions(**{"id": "main", "client_id": "c", **options}))  # type: ignore[arg-type]


def test_the_password_does_not_stand_in_the_log() -> None:
    assert "hush" not in repr(MqttOptions("main", "mqtt://broker", "c", username="u", password="hush"))
