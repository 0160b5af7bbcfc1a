"""An evening in the simulated city, as its operations centre lives it: real broker, real Modbus, real time.

second 0   gateway up, a console listens to the live stream, the city begins (its scenario at six times the pace)
second 8   a cover is opened → alarm on the stream → acknowledged by a person, once, and not with a stale rev
second 35  a gauge talks nonsense → bad readings and rejected frames, each with its reason
second 40  SIGTERM while everybody talks → exit 0 within 5 s; the second start continues with the same alarms
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bench.faults.processes import REPOSITORY, free_port
from gateway.sources.broker import derived_password, secret_file
from tests.acceptance.running import RunningGateway, listening, running_gateway
from tests.servers import die_with_parent

SEED, ASSETS, SPEED = "7", "120", "6"
STOP_S = 5.0  # F04
FLEET = "city"


class City:
    """``python -m simulators city``: what it says is kept in ``said``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []
        self._listening = asyncio.create_task(self._listen(), name="city's words")

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.append(json.loads(line))

    async def fault(self, name: str) -> dict[str, Any]:
        """The first begin of this fault, when it has come."""
        async with asyncio.timeout(60):
            while True:
                for word in self.said:
                    if word["type"] == "fault" and word["fault"] == name:
                        return word
                await asyncio.sleep(0.05)

    async def stop(self) -> dict[str, Any]:
        """SIGTERM; its account of what was acknowledged."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        async with asyncio.timeout(20):
            await self._process.wait()
            await self._listening
        # A link that breaks with the end may say so behind it.
        return next(line for line in reversed(self.said) if "acked" in line)


@contextlib.asynccontextmanager
async def evening_in(gateway: RunningGateway, assets: Path) -> AsyncIterator[City]:
    url = str(gateway.process.info["mqtt_url"])
    password = derived_password(secret_file(gateway.data / "secrets" / "broker_secret"), FLEET)
    credentials = gateway.folder / "credentials.json"
    credentials.write_text(json.dumps({"fleet": {"username": FLEET, "password": password}}))
    # The devices' clocks run at the scenario's pace: they begin behind and never come more than a minute ahead.
    start_ms = int(time.time() * 1000) - 300_000
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "city", "--mqtt-url", url, "--credentials", str(credentials),
        "--assets", str(assets), "--seed", SEED, "--devices", ASSETS, "--speed", SPEED, "--start-ms", str(start_ms),
        stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY, preexec_fn=die_with_parent,
    )  # fmt: skip
    city = City(process)
    try:
        yield city
    finally:
        await city.stop()


def settings(assets: Path) -> dict[str, Any]:
    return {
        "mqtt": [{"id": "main", "embedded": True, "port": free_port(), "fleet_users": [FLEET]}],
        "assets": [str(assets)],
        "snapshots": {"frames": 500, "interval": "5s"},
    }


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    path = tmp_path / "assets.json"
    command = [sys.executable, "-m", "simulators", "assets", "--seed", SEED, "--devices", ASSETS, "--out", str(path)]
    subprocess.run(command, check=True, cwd=REPOSITORY, timeout=60)
    return path


async def test_an_evening_from_wire_to_person_and_on_after_a_restart(tmp_path: Path, assets: Path) -> None:
    async with running_gateway(tmp_path, settings(assets)) as gateway, evening_in(gateway, assets) as city:
        async with listening(gateway) as stream:
            assert (await stream.next())["event"] == "snapshot"
            await the_cover_is_opened_and_acknowledged(gateway, city, stream)
        await readings_come_from_mqtt_and_modbus(gateway, kinds_in(assets))
        await nonsense_is_kept_with_its_reason(gateway, city)
        await the_ledger_balances(gateway)

        before = await standing(gateway)
        assert before
        code, seconds = await gateway.process.stop()
        assert (code, seconds < STOP_S) == (0, True), f"exit {code} after {seconds:.1f} s"
        taken = gateway.process.last_words()

        await gateway.start()
        assert gateway.process.said("first token") == 1, "a token is shown once"
        after = await standing(gateway)
        assert {a: after[a]["occurrence_id"] for a in before} == {a: before[a]["occurrence_id"] for a in before}, taken
        latched = [a for a, alarm in before.items() if alarm["latched"]]
        assert latched
        assert {a: (after[a]["state"], after[a]["rev"]) for a in latched} == {
            a: (before[a]["state"], before[a]["rev"]) for a in latched
        }
        async with listening(gateway) as stream:
            shown = {alarm["alarm_id"] for alarm in (await stream.next("snapshot"))["alarms"]}
            assert set(latched) <= shown
        summary = await city.stop()
        ledger = await gateway.received(summary["acked"])
        assert ledger["balanced"]
        assert (await gateway.process.stop())[0] == 0


async def the_cover_is_opened_and_acknowledged(gateway: RunningGateway, city: City, stream: Any) -> None:
    alarm_id = f"{(await city.fault('cover-opened'))['asset']}/manhole-open"
    raised = await stream.alarm(lambda step: step["alarm_id"] == alarm_id and step["to"] == "UNACK")
    assert raised["alarm"]["level"] == "I"
    assert raised["alarm"]["title"] == {"zh": "井盖打开或丢失", "en": "Manhole cover open or missing"}

    acknowledge = f"alarms/{alarm_id}/acknowledge"
    stale = await gateway.post(acknowledge, {"rev": raised["rev"] + 7})
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_rev")
    done = await gateway.post(acknowledge, {"rev": raised["rev"], "comment": "crew 3 is on its way"})
    assert (done.status_code, done.json()["alarm"]["state"]) == (200, "ACKED")
    twice = await gateway.post(acknowledge, {"rev": raised["rev"]})
    assert twice.status_code == 409
    seen = await stream.alarm(lambda step: step["alarm_id"] == alarm_id and step["cause"] == "T10")
    assert (seen["to"], seen["alarm"]["acked_by"]) == ("ACKED", "admin")
    history = (await gateway.get(f"alarms/{alarm_id}/history"))["items"]
    assert [step["cause"] for step in history][-2:] == ["T10", "T3"]
    why = await gateway.get(f"alarms/{alarm_id}/why")
    assert why["rule"]["id"] == "manhole-open"
    assert "tilt" in {point["point"] for point in why["points"]}


async def readings_come_from_mqtt_and_modbus(gateway: RunningGateway, names: dict[str, str]) -> None:
    for kind, point in (("lamp", "power"), ("pump", "wetwell")):
        asset = next(name for name, of in names.items() if of == kind)

        async def stored(asset: str = asset, point: str = point) -> list[Any]:
            answer = await gateway.get("readings", asset=asset, point=point)
            return [item for item in answer["items"] if item["quality"] == "good"]

        found = await gateway.until(stored, f"readings of {asset}")
        assert all(isinstance(item["value"], int | float) for item in found)
        now = await gateway.get(f"assets/{asset}/points")
        assert point in {p["point"] for p in now if p["quality"] == "good"}
    assert len(await gateway.all_pages("assets")) == len(names) + 1  # and the gateway itself


async def nonsense_is_kept_with_its_reason(gateway: RunningGateway, city: City) -> None:
    gauge = (await city.fault("nonsense"))["asset"]

    async def rejected() -> list[Any]:
        rows = await gateway.all_pages("rejected")
        return rows if "unknown_device" in {row["code"] for row in rows} else []

    rows = await gateway.until(rejected, "the stranger is rejected")
    reasons = {row["reason"] for row in rows}
    assert any("not UTF-8" in reason for reason in reasons)
    assert any("not JSON" in reason for reason in reasons)
    assert all(row["payload_base64"] is not None and row["address"] for row in rows)
    answer = await gateway.get("readings", asset=gauge, point="level")
    bad = [item for item in answer["items"] if item["quality"] == "bad"]
    assert bad
    assert all(item["value"] is None and item["reason"] for item in bad)


async def the_ledger_balances(gateway: RunningGateway) -> None:
    ledger = await gateway.get("ledger", limit=500)
    assert ledger["balanced"]
    parts = ("stored", "duplicate", "rejected_total", "in_flight")
    assert ledger["received"] == sum(ledger[part] for part in parts)
    assert ledger["rejected"]["bad_payload"] >= 3
    assert all(account["balanced"] for account in ledger["devices"])
    health = await gateway.get("health")
    assert health["status"] == "ok", health["reasons"]
    async with gateway.client() as client:
        metrics = (await client.get(f"{gateway.url}/metrics")).text
    assert 'citywatch_frames_total{outcome="rejected",reason="bad_payload"}' in metrics


def kinds_in(assets: Path) -> dict[str, str]:
    document = json.loads(assets.read_text(encoding="utf-8"))
    return {asset["asset"]: asset["kind"] for asset in document["assets"]}


async def standing(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    """Alarms that are not normal, by id."""
    alarms = await gateway.all_pages("alarms", state="UNACK,ACKED,RTNUN,DSUPR")
    return {alarm["alarm_id"]: alarm for alarm in alarms}


def test_the_demo_shows_a_living_city_and_stops_by_itself_leaving_nothing(tmp_path: Path) -> None:
    """Not a terminal: a line a minute and the addresses, no picture; exit 0 when its time is up."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--port", "0", "--mqtt-port", "0", "--data", str(tmp_path),
         "--devices", "120", "--seed", "3", "--for", "6s", "--no-browser"],
        capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY, preexec_fn=die_with_parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert time.monotonic() - began < 40
    assert "http://127.0.0.1:" in done.stdout
    assert "cw_" in done.stdout, "the token is shown"
    assert not done.stderr
    assert "Traceback" not in done.stdout + done.stderr + (tmp_path / "citywatch.log").read_text()
    assert "\x1b[" not in done.stdout, "no picture where nobody looks"
    assert "mqtt link up" in (tmp_path / "citywatch.log").read_text()
    assert not (tmp_path / "data" / "run.json").exists()
