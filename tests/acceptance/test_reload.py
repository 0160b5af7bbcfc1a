"""Files changed while the gateway runs: a mistake changes nothing and is told, a good change loses no alarm (F59)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest_asyncio

from bench.faults.processes import REPOSITORY
from tests.acceptance.running import RunningGateway, publisher, running_gateway
from tests.servers import mosquitto

RULE = """\
- rule: lamp-hot
  title: {{zh: 灯具过热, en: Lamp too hot}}
  applies_to: {{kind: lamp}}
  when: {{point: temp, above: {limit} °C, {deadband}: 5 °C}}
  level: III
  on_delay: 0s
  consequence: The driver ages.
  response: {{zh: 检查灯具, en: Check the lamp}}
  notify: [lighting-crew]
  source: test
"""


def put(path: Path, text: str) -> None:
    """As editors and deployment tools do it: written beside, renamed over."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def lamps(count: int, **more: Any) -> str:
    names = [f"lamp-{i}" for i in range(1, count + 1)]
    return json.dumps(
        {
            "assets": [{"asset": name, "kind": "lamp", **more} for name in names],
            "devices": [{"device": name, "asset": name, "profile": "generic/json-lamp"} for name in names],
        }
    )


class Site:
    """A running gateway, its files, and somebody who speaks for its lamps."""

    def __init__(self, gateway: RunningGateway, client: aiomqtt.Client, folder: Path) -> None:
        self.gateway = gateway
        self.rules = folder / "rules" / "ours.yaml"
        self.assets = folder / "assets.json"
        self._client = client
        self._sent = 0

    async def temperature(self, lamp: str, value: float) -> None:
        await self._client.publish(f"citywatch/v1/lamp/{lamp}/telemetry", json.dumps({"temp": value}), qos=1)
        self._sent += 1
        await self.gateway.received(self._sent)

    async def alarm(self, lamp: str) -> dict[str, Any] | None:
        alarms = (await self.gateway.get("alarms", asset=lamp, rule="lamp-hot"))["items"]
        return dict(alarms[0]) if alarms else None

    async def configuration(self) -> dict[str, Any]:
        return dict((await self.gateway.get("health"))["parts"]["configuration"])

    async def refused(self) -> str:
        """What health says of the files that were not taken over."""

        async def told() -> dict[str, Any] | None:
            part = await self.configuration()
            return None if part["ok"] else part

        return str((await self.gateway.until(told, "the mistake is told"))["text"])

    async def in_force(self, before: str) -> str:
        """The hash in force, when it is another one than ``before``."""

        async def changed() -> str | None:
            part = await self.configuration()
            return str(part["figures"]["hash"]) if part["ok"] and part["figures"]["hash"] != before else None

        return str(await self.gateway.until(changed, "another configuration is in force"))


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "ours.yaml").write_text(RULE.format(limit=90, deadband="deadband"), encoding="utf-8")
    (tmp_path / "assets.json").write_text(lamps(3), encoding="utf-8")
    async with mosquitto() as broker, publisher(broker.url) as client:
        settings = {
            "mqtt": [{"id": "main", "url": broker.url}],
            "rules": [str(tmp_path / "rules")],
            "assets": [str(tmp_path / "assets.json")],
        }
        async with running_gateway(tmp_path, settings) as gateway:

            async def linked() -> bool:
                return bool((await gateway.get("health"))["parts"]["mqtt main"]["ok"])

            await gateway.until(linked, "the broker is there")
            yield Site(gateway, client, tmp_path)


async def test_a_bad_rule_changes_nothing_and_a_good_one_keeps_every_alarm(site: Site) -> None:
    first = (await site.configuration())["figures"]["hash"]
    await site.temperature("lamp-1", 95)
    raised = await site.alarm("lamp-1")
    assert raised is not None
    done = await site.gateway.post("alarms/lamp-1%2Flamp-hot/acknowledge", {"rev": raised["rev"]})
    assert done.status_code == 200, done.text

    put(site.rules, RULE.format(limit=80, deadband="dedband"))
    text = await site.refused()
    assert f"{site.rules}:4: " in text, "file and line"
    assert "dedband" in text, "key"
    assert "did you mean `deadband`" in text
    assert (await site.gateway.get("health"))["status"] == "failing"
    await site.temperature("lamp-2", 85)  # above the new limit, below the one in force
    assert await site.alarm("lamp-2") is None
    await site.temperature("lamp-2", 95)
    assert await site.alarm("lamp-2") is not None
    assert (await site.configuration())["figures"]["hash"] == first

    put(site.rules, RULE.format(limit=80, deadband="deadband"))
    second = await site.in_force(first)
    assert (await site.gateway.get("health"))["status"] == "ok"
    kept = await site.alarm("lamp-1")
    assert kept is not None
    assert (kept["state"], kept["occurrence_id"]) == ("ACKED", raised["occurrence_id"])
    await site.temperature("lamp-3", 85)
    assert (await site.alarm("lamp-3") or {})["state"] == "UNACK"

    # A restart goes on with the same: what was replayed under the first rules, and the rules now in force.
    assert (await site.gateway.process.stop())[0] == 0
    await site.gateway.start()
    assert (await site.configuration())["figures"]["hash"] == second
    again = await site.alarm("lamp-1")
    assert again is not None
    assert (again["state"], again["rev"], again["occurrence_id"]) == ("ACKED", kept["rev"], raised["occurrence_id"])

    # A rule that is gone takes its alarms with it, and says so.
    put(site.rules, "[]\n")
    await site.in_force(second)
    gone = await site.alarm("lamp-1")
    assert gone is not None
    assert not gone["active"]
    history = (await site.gateway.get("alarms/lamp-1%2Flamp-hot/history"))["items"]
    assert "was removed" in history[0]["why"]


async def test_asset_files_are_taken_over_each_time_they_are_replaced(site: Site) -> None:
    async def known(lamp: str) -> bool:
        async with site.gateway.client() as client:
            return (await client.get(f"assets/{lamp}")).status_code == 200

    for count in (4, 5):  # twice: the name leads to another file now
        put(site.assets, lamps(count))
        await site.gateway.until(lambda lamp=f"lamp-{count}": known(lamp), f"lamp-{count} is known")  # type: ignore[misc]
    await site.temperature("lamp-5", 95)
    assert await site.alarm("lamp-5") is not None

    put(site.assets, lamps(6, kind="lantern"))
    text = await site.refused()
    assert str(site.assets) in text
    assert "lantern" in text
    assert not await known("lamp-6")
    put(site.assets, lamps(6))
    await site.gateway.until(lambda: known("lamp-6"), "lamp-6 is known")
    assert (await site.configuration())["ok"]
    await assets_are_handed_over_and_refused_whole_when_a_name_leads_nowhere(site)


async def test_a_hang_up_signal_reads_the_files_again_and_a_bad_start_says_why(site: Site) -> None:
    site.gateway.process.signal(signal.SIGHUP)
    await site.temperature("lamp-1", 20)  # still there
    assert (await site.configuration())["ok"]
    assert (await site.gateway.process.stop())[0] == 0

    put(site.rules, RULE.format(limit="ninety", deadband="deadband"))
    site.gateway.process.spawn()
    assert await site.gateway.process.ended() == 2
    last = site.gateway.process.last_words(1)
    assert last.startswith(f"{site.rules}:4: ")
    assert "ninety" in last


async def assets_are_handed_over_and_refused_whole_when_a_name_leads_nowhere(site: Site) -> None:
    """``citywatch import-assets`` beside the running gateway."""
    folder = site.assets.parent

    async def hand_over(name: str, text: str) -> tuple[int, str, str]:
        file = folder / name
        put(file, text)
        command = [
            sys.executable,
            "-m",
            "gateway",
            "import-assets",
            str(file),
            "--config",
            str(folder / "citywatch.yaml"),
        ]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=REPOSITORY
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return int(process.returncode or 0), out.decode(), err.decode()

    header = "asset,kind,device,profile,link.feeder\n"
    code, out, err = await hand_over("more.csv", f"{header}lamp-7,lamp,lamp-7,generic/json-lamp,\n")
    assert (code, out) == (0, "1 assets and 1 devices are in force\n"), err
    await site.temperature("lamp-7", 95)
    assert await site.alarm("lamp-7") is not None

    code, out, err = await hand_over(
        "lost.yaml", "devices: [{device: d-8, asset: lamp-8, profile: generic/json-lamp}]\n"
    )
    assert (code, out) == (2, "")
    assert "no such asset: lamp-8" in err
    assert str(folder / "lost.yaml") in err
    (refused,) = (folder / "data" / "inbox").glob("*.refused")
    assert "lamp-8" in refused.with_suffix(".reason").read_text(encoding="utf-8")
