"""Who is called about an alarm, who is on duty, who can be given work: over a real server."""

from __future__ import annotations

from dataclasses import replace
from datetime import time
from pathlib import Path

from gateway.core.calls import CallStatus
from gateway.core.model import MINUTE
from gateway.core.notification import Channel
from gateway.core.records import Role
from gateway.core.rota import Rota, Shift
from gateway.core.routing import Person, Routing, Target, TargetKind
from tests.console.city import START, Running, record, running, step

LI, ZHANG = Target(TargetKind.PERSON, "li"), Target(TargetKind.PERSON, "zhang")
NIGHT = Rota("night", ("li",), (Shift("night", time(20), time(8), (("zhang",),)),))
ROUTING = Routing(
    people={
        "li": Person("li", "李强", (Channel("sms", "1"),), name_en="Li Qiang"),
        "zhang": Person("zhang", "张伟", (Channel("sms", "2"),)),
    },
    teams={"lamps": (LI, ZHANG)},
    rotas={"night": NIGHT},
    titles={"lamps": ("路灯班", "Lamp crew")},
)
CALL = CallStatus(
    "root",
    "",
    "",
    3,
    True,
    START,
    None,
    False,
    ("li",),
    0,
    START + 10 * MINUTE,
    "step",
    (Target(TargetKind.TEAM, "lamps"),),
)


async def asked(here: Running, path: str) -> object:
    async with here.client(Role.VIEWER) as client:
        answer = await client.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_an_alarm_says_who_was_called_and_who_is_next(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        here.gateway.routing = ROUTING
        await here.gateway.commit(step(record("lamp-1")))
        here.gateway.calls = {"lamp-1/lamp-out": ([CALL], ["zhang"])}
        found = await asked(here, "/alarms/lamp-1%2Flamp-out/calls")
    assert isinstance(found, dict)
    [call] = found["calls"]
    assert (call["alarms"], call["told"], call["next"]["what"]) == (3, True, "step")
    assert [one["title"] for one in call["reached"]] == [{"zh": "李强", "en": "Li Qiang"}]
    assert [one["name"] for one in call["next"]["people"]] == ["li", "zhang"]
    assert [one["name"] for one in found["held_for"]] == ["zhang"]


async def test_an_alarm_that_never_was_is_not_found(tmp_path: Path) -> None:
    async with running(tmp_path) as here, here.client(Role.VIEWER) as client:
        assert (await client.get("/api/v1/alarms/lamp-1%2Fnever/calls")).status_code == 404


async def test_the_rota_says_who_is_on_duty_and_until_when(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        here.gateway.routing = ROUTING
        [night] = await asked(here, "/duty?at=2026-03-02T21:00:00%2B08:00")  # type: ignore[misc]
        assert (night["why"], [one["name"] for one in night["people"]]) == ("shift", ["zhang"])
        assert night["until"] == "2026-03-03T00:00:00.000Z" or night["until"].startswith("2026-03-03T00:00:00")
        [day] = await asked(here, "/duty?at=2026-03-02T12:00:00%2B08:00")  # type: ignore[misc]
        assert (day["why"], [one["name"] for one in day["people"]]) == ("fallback", ["li"])
        async with here.client(Role.VIEWER) as client:
            assert (await client.get("/api/v1/duty?at=tonight")).status_code == 422


async def test_work_can_be_given_to_teams_rotas_and_people(tmp_path: Path) -> None:
    async with running(tmp_path) as here:
        here.gateway.routing = replace(ROUTING)
        crews = await asked(here, "/crews")
    assert isinstance(crews, list)
    assert [(one["name"], one["kind"]) for one in crews] == [
        ("lamps", "team"), ("night", "rota"), ("li", "person"), ("zhang", "person"),
    ]  # fmt: skip
    assert crews[0]["title"] == {"zh": "路灯班", "en": "Lamp crew"}
    assert [one["name"] for one in crews[0]["people"]] == ["li", "zhang"]
