"""Faults that come as messages: frames that raise or kill, people who want to be somebody else, bad configuration."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from pathlib import Path

import aiomqtt

from bench.faults.disk import HarnessError
from bench.faults.processes import until
from bench.faults.scene import STRANGERS, Scene
from bench.judge import expect


async def publish(
    scene: Scene,
    username: str,
    password: str,
    messages: list[tuple[str, bytes]],
    *,
    client_id: str = "",
    retain: bool = False,
    seconds: float = 5.0,
) -> int:
    """QoS 1 messages from a client of our own; gives how many were acknowledged."""
    host, _, port = scene.mqtt_url.removeprefix("mqtt://").partition(":")
    acknowledged = 0
    try:
        async with asyncio.timeout(seconds):
            async with aiomqtt.Client(
                host,
                int(port),
                username=username,
                password=password or None,
                identifier=client_id or None,
                timeout=seconds,
            ) as client:
                for topic, payload in messages:
                    await client.publish(topic, payload, qos=1, retain=retain)
                    acknowledged += 1
    except (aiomqtt.MqttError, TimeoutError, OSError):
        pass  # refused, or cut off: that is an answer too
    return acknowledged


def telemetry(kind: str, device: str, sequence: int, values: dict[str, object]) -> tuple[str, bytes]:
    """Topic and payload of one message by hand."""
    body = {"ts": time.time_ns() // 1_000_000, "seq": sequence, "values": values}
    return f"citywatch/v1/{kind}/{device}/telemetry", json.dumps(body).encode()


async def accounts(scene: Scene, device: str | None = None) -> dict[str, int]:
    """Rejected frames by code, from the gateway's own ledger."""
    balance = await scene.get("ledger", **({"device": device} if device else {}))
    return dict(balance["rejected"])


async def rejected_rises(scene: Scene, code: str, by: int, before: int, what: str, seconds: float = 10.0) -> None:
    """Notes whether the count of ``code`` rose by ``by`` within ``seconds``."""
    deadline = time.monotonic() + seconds
    now = before
    while time.monotonic() < deadline and now < before + by:
        now = (await accounts(scene)).get(code, 0)
        await asyncio.sleep(0.1)
    scene.facts.append(expect(what, now == before + by, f"{code}: {before} → {now}, expected +{by}"))


async def bad_reload(scene: Scene, rules: Path) -> None:
    """F59: a rule file with a mistake arrives; the running configuration stays and the place is named."""
    async with scene.fault("F59 reload of a bad file"):
        before = (await scene.get("health")).get("configuration")
        wrong = rules / "mistaken.yaml"
        wrong.write_text("- rule: broken\n  applies_to: {kind: lamp}\n  when: {point: powr, above: 5}\n")
        scene.gateway.signal(signal.SIGHUP)
        await until(lambda: scene.gateway.said("mistaken.yaml") > 0, "the mistake in the log", 10)
        after = (await scene.get("health")).get("configuration")
        scene.facts.append(expect("F59 a bad file changes nothing", before == after, f"{before} → {after}"))
        named = "mistaken.yaml:3" in scene.gateway.last_words(200)
        scene.facts.append(expect("F59 the log names file and line", named, scene.gateway.last_words(5)))
        wrong.unlink()


async def poison(scene: Scene, marker: bytes, good: int = 500) -> None:
    """F09: frames that make the decision raise; every good one behind them is decided."""
    user = STRANGERS[0]
    async with scene.fault("F09 poison frames"):
        before = await accounts(scene)
        topic, _ = telemetry("pipe", user, 0, {})
        bad = [(topic, b'{"seq":%d,"note":"%b"}' % (i, marker)) for i in range(5)]
        after = [telemetry("pipe", user, i, {"level": 0.2}) for i in range(1, good + 1)]
        sent = await publish(scene, user, scene.password(user), bad + after, seconds=20)
        scene.facts.append(expect("F09 all frames were acknowledged by the broker", sent == 5 + good, sent))
        await rejected_rises(scene, "crashed", 5, before.get("crashed", 0), "F09 each poison frame is quarantined")
        stored = await scene.arrived(user, good)
        scene.facts.append(expect(f"F09 {good} of {good} frames behind it are stored", stored == good, stored))


async def crasher(scene: Scene, marker: bytes, good: int = 500) -> None:
    """F10: a frame that ends the process each time it is decided, in every replay too. Whoever supervises starts it
    again; at the third crash at this place the frame is passed over, and what came behind it is decided."""
    user = STRANGERS[0]
    async with scene.fault("F10 a frame that ends the process"):
        topic, _ = telemetry("pipe", user, 0, {})
        after = [telemetry("pipe", user, i, {"level": 0.2}) for i in range(1, good + 1)]
        await publish(scene, user, scene.password(user), [(topic, b'{"note":"%b"}' % marker), *after], seconds=20)
        crashes = 0
        while crashes < 6:
            try:
                await scene.gateway.ended(3.0)
            except HarnessError:
                break  # it lives
            crashes += 1
            scene.gateway.spawn()
            with contextlib.suppress(HarnessError):
                await scene.gateway.ready()
        scene.facts.append(expect("F10 at most three crashes", 1 <= crashes <= 3, crashes))
        stored = await scene.arrived(user, good)
        scene.facts.append(expect(f"F10 {good} of {good} frames behind it are stored", stored == good, stored))
        rejected = (await accounts(scene)).get("crashed", 0)
        scene.facts.append(expect("F10 the frame is quarantined", rejected == 1, rejected))


async def speaks_as_another(scene: Scene) -> None:
    """A02: one device's login publishes on another's topic; nothing of it becomes a reading."""
    one, other, _ = STRANGERS
    async with scene.fault("A02 speaks as another"):
        await publish(scene, one, scene.password(one), [telemetry("pipe", other, 1, {"freeboard": -0.05})])
        await asyncio.sleep(0.5)
        try:
            balance = await scene.get("ledger", device=other)
        except HarnessError:
            balance = {"stored": 0}  # nothing ever came from it
        scene.facts.append(expect("A02 nothing is stored for the other device", balance["stored"] == 0, balance))
        refused = (await scene.get("health"))["parts"]["broker"]["figures"]["publishes_refused"]
        scene.facts.append(expect("A02 the refusal is counted", refused == 1, refused))


async def takes_a_client_id(scene: Scene) -> None:
    """A03, A04: client ids that can be guessed, and that of a device under way, are taken by another login."""
    user = STRANGERS[0]
    async with scene.fault("A03 A04 takes client ids"):
        for client_id in ("citywatch", "gateway", "citywatch.gateway", "load-1-0", "load-1-1"):
            await publish(scene, user, scene.password(user), [], client_id=client_id)
        secret = scene.gateway.data / "secrets"
        open_files = [f.name for f in secret.iterdir() if f.stat().st_mode & 0o077]
        scene.facts.append(
            expect("A03 the secrets, our client id among them, are ours alone", not open_files, open_files)
        )


async def retained_poison(scene: Scene) -> None:
    """A07: a device leaves an alarming message retained and recovers; a restart must not raise its alarm again."""
    user = STRANGERS[1]
    async with scene.fault("A07 retained poison"):
        alarming = telemetry("pipe", user, 1, {"freeboard": -0.05, "level": 3.0})
        well = telemetry("pipe", user, 2, {"freeboard": 1.5, "level": 0.2})
        await publish(scene, user, scene.password(user), [alarming], retain=True)
        await publish(scene, user, scene.password(user), [well])
        await scene.arrived(user, 2)
        before = await _alarms_of(scene, user)
        await scene.gateway.stop()
        await scene.gateway.start()
        await asyncio.sleep(1.0)
        after = await _alarms_of(scene, user)
        scene.facts.append(expect("A07 a retained message never raises an alarm", after == before, (before, after)))


async def _alarms_of(scene: Scene, asset: str) -> dict[str, int]:
    """Raises so far, by alarm: an alarm that came and went has a rev of its own for each step."""
    page = await scene.get("alarms", asset=asset)
    return {alarm["alarm_id"]: alarm["rev"] for alarm in page["items"]}
