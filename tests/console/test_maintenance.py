"""Maintenance over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.console import views
from gateway.core.model import HOUR, MINUTE, SECOND
from gateway.core.records import Role
from tests.console.city import START, record, running, step

PATH = "/api/v1/maintenance"


def body(until: int, **more: Any) -> dict[str, Any]:
    return {"asset": "lamp-1", "until": views.iso(until), "work": "W-7", "reason": "new lamp"} | more


async def test_an_asset_is_put_under_maintenance_and_back(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.MAINTAINER) as crew:
        now = console.gateway.now()
        made = await crew.post(PATH, json=body(now + HOUR))
        assert made.status_code == 201, made.text
        window = made.json()
        assert (window["asset"], window["state"], window["by"], window["reason"], window["work"]) == (
            "lamp-1", "open", "maintainer-1", "new lamp", "W-7",
        )  # fmt: skip
        assert views.micros(window["until"]) == now + HOUR
        assert (await crew.get(PATH)).json()["items"] == [window]
        ended = await crew.post(f"{PATH}/{window['id']}/end", json={"comment": "fits"})
        assert (ended.status_code, ended.json()["state"], ended.json()["ended_by"]) == (200, "ended", "maintainer-1")
        assert (await crew.get(PATH)).json()["items"] == []
        assert [one["id"] for one in (await crew.get(f"{PATH}?state=ended")).json()["items"]] == [window["id"]]
        again = await crew.post(f"{PATH}/{window['id']}/end", json={})
        assert (again.status_code, again.json()["code"]) == (404, "not_found")
        command = console.gateway.submitted[1]
        assert (command.alarm_id, command.why, command.arguments["id"]) == ("lamp-1", "fits", window["id"])


async def test_it_is_planned_and_the_same_key_plans_it_once(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        now = console.gateway.now()
        later = body(now + 3 * HOUR, since=views.iso(now + HOUR))
        made = [await client.post(PATH, json=later, headers={"Idempotency-Key": "k/1"}) for _ in range(2)]
        assert [one.status_code for one in made] == [201, 201]
        assert made[0].json() == made[1].json()
        assert made[0].json()["state"] == "planned"
        assert len(console.gateway.submitted) == 1
        assert (await client.get(f"{PATH}?state=open")).json()["items"] == []
        assert len((await client.get(f"{PATH}?state=planned&asset=lamp-1")).json()["items"]) == 1
        assert (await client.get(f"{PATH}?asset=lamp-2")).json()["items"] == []
        overlapping = await client.post(PATH, json=body(now + 2 * HOUR))
        assert (overlapping.status_code, overlapping.json()["code"]) == (409, "not_allowed")


async def test_what_is_not_right_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        now = console.gateway.now()
        wrong: list[tuple[dict[str, Any], int]] = [
            (body(now + 31 * 24 * HOUR), 422),
            (body(now - MINUTE), 422),
            (body(now + HOUR) | {"until": "2025-07-20T12:00:00"}, 422),
            (body(now + HOUR) | {"reason": ""}, 422),
            ({k: v for k, v in body(now + HOUR).items() if k != "until"}, 422),
        ]
        for given, status in wrong:
            answer = await client.post(PATH, json=given)
            assert answer.status_code == status, (given, answer.text)
        assert (await client.get(f"{PATH}?state=asleep")).status_code == 422
        assert (await client.get(f"{PATH}?cursor=x")).json()["code"] == "bad_cursor"
        assert (await client.post(f"{PATH}/none/end", json={})).status_code == 404


async def test_who_may_not_is_written_down(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as admin, console.client(Role.OPERATOR) as desk:
        answer = await desk.post(PATH, json=body(console.gateway.now() + HOUR))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        line = (await admin.get("/api/v1/audit")).json()["items"][0]
        assert (line["who"], line["action"], line["subject"], line["outcome"]) == (
            "operator-1", "maintenance", "lamp-1", "forbidden",
        )  # fmt: skip


async def test_an_alarm_is_taken_out_of_service_until_a_time(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.MAINTAINER) as crew:
        await console.gateway.commit(step(record()))
        until = START + 60 * SECOND
        asked = {"rev": 1, "work": "W-1", "reason": "repair", "until": views.iso(until)}
        answer = await crew.post("/api/v1/alarms/lamp-1%2Flamp-out/out-of-service", json=asked)
        assert answer.status_code == 200, answer.text
        assert console.gateway.submitted[0].arguments["until"] == until
