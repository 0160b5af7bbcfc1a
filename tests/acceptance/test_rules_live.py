"""Rules changed at the console of a running gateway: alarms follow, a restart keeps them, a kill loses nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import httpx
import pytest
import pytest_asyncio

from tests.acceptance.running import RunningGateway, publisher, running_gateway
from tests.acceptance.test_reload import RULE, lamps, put
from tests.servers import mosquitto


class Site:
    """A gateway with three lamps, a rule of the site's, and somebody who speaks for the lamps."""

    def __init__(self, gateway: RunningGateway, client: aiomqtt.Client) -> None:
        self.gateway = gateway
        self._client = client

    async def temperature(self, lamp: str, value: float) -> None:
        before = (await self.gateway.received(0))["received"]  # what is in flight is no telemetry, or counted twice
        await self._client.publish(f"citywatch/v1/lamp/{lamp}/telemetry", json.dumps({"temp": value}), qos=1)
        await self.gateway.received(before + 1)

    async def alarm(self, lamp: str) -> dict[str, Any] | None:
        alarms = (await self.gateway.get("alarms", asset=lamp, rule="lamp-hot"))["items"]
        return dict(alarms[0]) if alarms else None

    async def rule(self, name: str = "lamp-hot") -> dict[str, Any]:
        return dict(await self.gateway.get(f"rules/{name}"))

    async def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        async with self.gateway.client(timeout_s=30) as client:
            return await client.request(method, path, json=body)

    async def done(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.ask(method, path, **body)
        assert answer.status_code in (200, 202), answer.text
        return dict(answer.json())

    async def linked(self) -> None:
        async def asked() -> bool:
            return bool((await self.gateway.get("health"))["parts"]["mqtt main"]["ok"])

        await self.gateway.until(asked, "the broker is there")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    put(tmp_path / "ours.yaml", "")
    (tmp_path / "rules").mkdir()
    put(tmp_path / "rules" / "ours.yaml", RULE.format(limit=90, deadband="deadband"))
    put(tmp_path / "assets.json", lamps(3))
    async with mosquitto() as broker, publisher(broker.url) as client:
        settings = {
            "mqtt": [{"id": "main", "url": broker.url}],
            "rules": [str(tmp_path / "rules")],
            "assets": [str(tmp_path / "assets.json")],
        }
        async with running_gateway(tmp_path, settings) as gateway:
            found = Site(gateway, client)
            await found.linked()
            yield found


async def test_alarms_follow_the_rule_that_is_put_in_force_and_a_restart_keeps_it(site: Site) -> None:
    await site.temperature("lamp-1", 95)
    raised = await site.alarm("lamp-1")
    assert raised is not None
    assert raised["state"] == "UNACK"
    now = await site.rule()
    assert (now["origin"], now["standing"], now["raised_24h"]) == ("site", 1, 1)

    text = now["yaml"].replace("90 °C", "80 °C")
    after = await site.done("PUT", "rules/lamp-hot", yaml=text, why="drivers age at 80", rev=now["rev"])
    assert (after["origin"], after["limits"][0]["value"]) == ("console", 80)
    await site.temperature("lamp-2", 85)
    lower = await site.alarm("lamp-2")
    assert lower is not None
    assert lower["limit"] == 80
    kept = await site.alarm("lamp-1")
    assert kept is not None
    assert kept["occurrence_id"] == raised["occurrence_id"], "the one that stood stands"
    assert (await site.gateway.get("health"))["status"] == "ok"

    off = await site.done("PATCH", "rules/lamp-hot", enabled=False, why="summer", rev=after["rev"])
    closed = await site.alarm("lamp-1")
    assert closed is not None
    assert (closed["state"], closed["enabled"]) == ("NORM", False)
    newest = (await site.gateway.get("alarms/lamp-1%2Flamp-hot/history"))["items"][0]
    assert (newest["cause"], newest["why"]) == ("T24", "rule lamp-hot is not in force here")

    assert (await site.gateway.process.stop())[0] == 0
    await site.gateway.start()
    await site.linked()
    again = await site.rule()
    assert (again["rev"], again["enabled"], again["history"]) == (off["rev"], False, 2)
    changes = (await site.gateway.get("rules/lamp-hot/changes"))["items"]
    back = await site.done("POST", f"rule-changes/{changes[0]['id']}/undo", why="autumn")
    assert back["rule"]["enabled"]
    await site.temperature("lamp-3", 85)
    assert (await site.alarm("lamp-3") or {})["state"] == "UNACK"
    audit = [line for line in (await site.gateway.get("audit"))["items"] if line["action"] == "change-rule"]
    assert [(line["outcome"], line["why"]) for line in reversed(audit)] == [
        (outcome, why) for why in ("drivers age at 80", "summer", "autumn") for outcome in ("asked", "done")
    ]
    assert {(line["who"], line["channel"], line["subject"]) for line in audit} == {("admin", "api", "lamp-hot")}


async def test_a_file_of_the_site_and_a_change_at_the_console_live_together(site: Site, tmp_path: Path) -> None:
    now = await site.rule()
    await site.done("PUT", "rules/lamp-hot", yaml=now["yaml"].replace("90 °C", "80 °C"), why="w", rev=now["rev"])
    put(tmp_path / "rules" / "ours.yaml", RULE.format(limit=85, deadband="deadband"))

    async def filed() -> bool:
        return "85 °C" in str((await site.rule())["base_yaml"])

    await site.gateway.until(filed, "the file was read again")
    assert (await site.rule())["limits"][0]["value"] == 80, "the console's counts"
    await site.done("DELETE", "rules/lamp-hot", why="the file says it better")
    assert (await site.rule())["limits"][0]["value"] == 85
    put(tmp_path / "rules" / "ours.yaml", RULE.format(limit=85, deadband="dedband"))
    refused = await site.ask("PUT", "rules/road-depth", yaml=(await site.rule("road-depth"))["yaml"].replace("5 cm", "6 cm"), why="w", rev=(await site.rule("road-depth"))["rev"])  # fmt: skip  # noqa: E501
    assert refused.status_code == 422
    assert refused.json()["mistakes"][0]["file"] == str(tmp_path / "rules" / "ours.yaml"), "not while a file is wrong"


@pytest.mark.parametrize("step", ["rule change asked", "rule change written"])
async def test_killed_in_the_middle_of_a_change_the_next_start_brings_it_to_its_end(tmp_path: Path, step: str) -> None:
    put(tmp_path / "assets.json", lamps(1))
    settings = {"assets": [str(tmp_path / "assets.json")]}
    async with running_gateway(tmp_path, settings, {"CITYWATCH_KILL_AT": step}) as gateway:
        now = await gateway.get("rules/road-depth")
        text = now["yaml"].replace("limit: 5 cm", "limit: 6 cm")
        async with gateway.client() as client:
            with pytest.raises(httpx.HTTPError):
                await client.put("rules/road-depth", json={"yaml": text, "why": "kerbs", "rev": now["rev"]})
        assert await gateway.process.ended() == -9
    async with running_gateway(tmp_path, settings) as gateway:
        after = await gateway.get("rules/road-depth")
        assert (after["yaml"], after["history"], after["changed_by"]) == (text, 1, "admin")
        assert (await gateway.get("rules/road-depth/changes"))["items"][0]["after"] == text
        audit = [line for line in (await gateway.get("audit"))["items"] if line["subject"] == "road-depth"]
        assert [(line["outcome"], line["channel"]) for line in reversed(audit)] == [
            ("asked", "api"),
            ("done", "restart"),
        ]

        # The way out when such a file keeps the gateway from starting: take it away.
        assert (await gateway.process.stop())[0] == 0
        file = tmp_path / "data" / "rules" / "console" / "road-depth.yaml"
        put(file, text.replace("deadband", "dedband"))
        gateway.process.spawn()
        assert await gateway.process.ended() == 2
        assert gateway.process.last_words(1).startswith(f"{file}:10: ")
        file.unlink()
        await gateway.start()
        assert (await gateway.get("rules/road-depth"))["origin"] == "shipped"
        assert (await gateway.get("rules/road-depth/changes"))["items"][0]["who"] == "data folder"


async def test_a_text_is_compared_over_what_the_running_gateway_has_kept(site: Site) -> None:
    for value in (20.0, 85.0, 20.0, 86.0, 20.0, 95.0, 20.0):
        await site.temperature("lamp-1", value)
    now = await site.rule()
    text = now["yaml"].replace("90 °C", "80 °C")
    moment = datetime.now(UTC)
    times = {"since": (moment - timedelta(hours=1)).isoformat(), "until": (moment + timedelta(minutes=1)).isoformat()}

    async def compared() -> dict[str, Any] | None:
        """The historian is a follower: asked again until it has everything."""
        asked = await site.done("POST", "backtests", yaml=text, rule="lamp-hot", **times)

        async def ended() -> dict[str, Any] | None:
            found = await site.gateway.get(f"backtests/{asked['id']}")
            return None if found["state"] in ("waiting", "running") else found

        found = await site.gateway.until(ended, "it has ended")
        assert found["state"] == "done", found
        return found["report"] if found["report"]["readings"] >= 7 else None

    report = await site.gateway.until(compared, "all readings are compared", 60)
    assert (report["before"]["raises"], report["after"]["raises"]) == (1, 3)
    assert report["assets"] == [{"asset": "lamp-1", "before": 1, "after": 3}]
    assert (await site.gateway.get("health"))["status"] == "ok"
