"""Work and maintenance on a whole gateway: from a raised alarm to an order that its readings closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from gateway.console import views
from gateway.core.model import HOUR, MINUTE, SECOND
from gateway.core.records import Role
from tests.console.living import Living, living

CITY = {
    "assets": [{"asset": "cover-1", "kind": "manhole", "road": "水泊大街", "longitude": 116.1, "latitude": 35.8}],
    "devices": [{"device": "cover-1", "asset": "cover-1", "profile": "generic/json-manhole"}],
}
RECEIVERS = [{"name": "desk", "url": "http://127.0.0.1:9/hook", "allow_loopback": True}]
ROUTES = """\
people: [{person: wang, user: maintainer-1, channels: [{receiver: desk}]}]
teams: [{team: covers, members: [person:wang]}]
route: {steps: [{tell: team:covers}]}
"""
ALARM = "cover-1/manhole-tilted"


async def tilt(town: Living, degrees: float) -> None:
    payload = json.dumps({"ts": town.gateway.clock.now() // 1000, "values": {"tilt": degrees}}).encode()
    await town.say("citywatch/v1/manhole/cover-1/telemetry", payload)


async def asked(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found.get("alarm", found)


async def test_from_the_alarm_to_an_order_that_its_readings_closed_and_reopened(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES, encoding="utf-8")
    async with (
        living(tmp_path, CITY, {"routes": str(file), "receivers": RECEIVERS}) as town,
        town.client(Role.OPERATOR) as desk,
        town.client(Role.MAINTAINER) as crew,
    ):
        await tilt(town, 1.0)
        await tilt(town, 40.0)
        await town.pass_time(MINUTE)
        sent = await asked(desk, f"alarms/{ALARM}/dispatch", to="covers")
        assert (sent["work"], sent["acked"]) == ("DISPATCHED", False)
        (mine,) = (await crew.get("work", params={"mine": True})).json()["items"]
        assert (mine["alarm"]["alarm_id"], mine["place"]["road"]) == (ALARM, "水泊大街")
        taken = await asked(crew, f"alarms/{ALARM}/accept")
        assert taken["acked_by"] == "maintainer-1"
        await asked(crew, f"alarms/{ALARM}/on-site", longitude=116.1, latitude=35.8)
        photo = (await crew.post(f"alarms/{ALARM}/photos", content=b"\xff\xd8\xff\xe0 a cover")).json()["id"]
        done = await asked(
            crew, f"alarms/{ALARM}/done", cause_code="loose", action="turned it round", photos=[photo]
        )  # fmt: skip
        assert (done["work"], done["order"]["waits_for"]) == ("VERIFYING", ["tilt"])
        why = (await desk.get(f"alarms/{ALARM}/why")).json()["explanation"]
        assert (why["verifying"]["waits_for"], why["reasons"][0]["code"]) == (["tilt"], "verifying")
        await town.pass_time(5 * MINUTE)
        await tilt(town, 1.0)
        await town.pass_time(10 * MINUTE)
        closed = (await desk.get(f"alarms/{ALARM}")).json()
        assert (closed["work"], closed["order"]["closed_by"], closed["state"]) == ("CLOSED", None, "NORM")
        await tilt(town, 40.0)
        await town.pass_time(MINUTE)
        again = (await desk.get(f"work/{ALARM}")).json()
        assert (again["alarm"]["work"], again["alarm"]["order"]["reopened"]) == ("DISPATCHED", 1)
        assert [step["cause"] for step in again["steps"]] == ["W8", "W6", "W5", "W4", "W2", "W1"]
        assert [one["id"] for one in again["photos"]] == [photo]
        assert again["response"]["zh"]


async def test_maintenance_goes_on_when_all_snapshots_are_lost(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as town, town.client(Role.MAINTAINER) as crew:
        await tilt(town, 1.0)
        until = views.iso(town.gateway.clock.now() + HOUR)
        window = await asked(crew, "maintenance", asset="cover-1", until=until, work="W-7", reason="new frame")
        await tilt(town, 40.0)
        await town.pass_time(MINUTE)
        raised = (await crew.get(f"alarms/{ALARM}")).json()
        assert (raised["state"], raised["out_of_service"]["maintenance"]) == ("OOSRV", window["id"])
        await town.gateway.journal.release(town.gateway.journal.last_position)
    for snapshot in (tmp_path / "data").rglob("*.snapshot"):
        snapshot.unlink()
    async with living(tmp_path, CITY, life=2) as town, town.client() as crew:
        (still,) = (await crew.get("maintenance")).json()["items"]
        assert still["id"] == window["id"]
        await town.pass_time(HOUR + SECOND)
        back = (await crew.get(f"alarms/{ALARM}/history")).json()["items"]
        assert [step["cause"] for step in back] == ["T23", "T3"]
        assert (await crew.get("maintenance", params={"state": "ended"})).json()["items"][0]["ended_by"] is None
