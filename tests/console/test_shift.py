"""The handover of a shift: what is in it, that it stays as it was signed, and who may sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from gateway.core.model import MINUTE, SECOND, Condition, Level, Micros, OutOfService, Shelve, Transition
from gateway.core.records import Role, Scope
from tests.console.city import START, Running, record, running, step

SHIFT = {"since": "2025-07-20T06:00:00Z", "until": "2025-07-20T18:00:00Z"}


def at(second: float, transition: Transition) -> Transition:
    return step_at(START + round(second * SECOND), transition)


def step_at(moment: Micros, transition: Transition) -> Transition:
    import msgspec

    return msgspec.structs.replace(transition, at=moment)


async def busy_evening(console: Running) -> None:
    """One of everything that a shift may leave behind."""
    up = record("lamp-1", level=Level.II)
    acked = record(
        "lamp-1", rev=2, level=Level.II, acked=True, acked_by="li", assigned_to="crew 7", comment="on my way"
    )
    returned = record("lamp-2", cond=Condition.NORMAL)
    shelved = record("lamp-1", "tilted", shelve=Shelve.TIMED, unshelve_at=START + 3600 * SECOND, chattering=True)
    away = record(
        "pump-1", "stopped", level=Level.I, out_of_service=OutOfService("W-12", "wang", "new impeller", START)
    )
    stale = record("pump-1", "level", stale=True)
    effect = record("lamp-2", "offline", suppressed_by=("F1/feeder-lost",))
    trial = record("lamp-1", "trial", shadow=True)
    await console.gateway.commit(
        at(1, step(up)),
        at(2, step(returned)),
        at(3, step(shelved, cause="T15", by="li", why="vibrates in the storm")),
        at(4, step(away, cause="T22", by="wang", why="new impeller")),
        at(5, step(stale)),
        at(6, step(effect)),
        at(7, step(acked, up, "T10", by="li", why="on my way")),
        at(8, step(trial)),
        *(at(60 + i, step(record(f"x-{i}"))) for i in range(12)),
        *(
            at(120 + i, step(record(f"x-{i}", rev=2, cond=Condition.NORMAL, acked=True), record(f"x-{i}"), "T6"))
            for i in range(12)
        ),
    )
    await console.gateway.store.desk.add_note("lamp-1", START + 30 * SECOND, "li", "the lock is new")
    await console.gateway.store.desk.add_note("lamp-1", START - 99 * MINUTE, "li", "of another shift")


async def shift(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/api/v1/shift", params=SHIFT | query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_shift_hands_over_what_stands_what_was_set_aside_and_what_was_said(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        await busy_evening(console)
        console.gateway.healthy = False
        found = await shift(client)
        lists = {
            name: [alarm["alarm_id"] for alarm in value["items"]]
            for name, value in found.items()
            if isinstance(value, dict) and "items" in value and name not in ("comments", "notes")
        }
        assert lists == {
            "unacknowledged": ["lamp-2/lamp-out", "pump-1/level"],
            "acknowledged": ["lamp-1/lamp-out"],
            "shelved": ["lamp-1/tilted"],
            "out_of_service": ["pump-1/stopped"],
            "chattering": ["lamp-1/tilted"],
            "stale": ["pump-1/level"],
            "open_work": ["lamp-1/lamp-out"],
        }
        assert found["suppressed"] == 1
        (shelved,) = found["shelved"]["items"]
        assert (shelved["until"], shelved["by"], shelved["reason"]) == (
            "2025-07-20T07:30:00Z",
            "li",
            "vibrates in the storm",
        )
        (away,) = found["out_of_service"]["items"]
        assert (away["work"], away["by"], away["reason"]) == ("W-12", "wang", "new impeller")
        assert found["acknowledged"]["items"][0]["assigned_to"] == "crew 7"
        assert found["levels"]["I"] == {"raised": 0, "standing": 1}  # it came with the work upon it
        assert found["levels"]["II"] == {"raised": 1, "standing": 1}
        assert found["levels"]["III"]["standing"] == 4
        assert [flood["alarms"] for flood in found["floods"]] == [found["load"]["alarms"]]
        assert [(words["who"], words["cause"], words["text"]) for words in found["comments"]["items"]] == [
            ("li", "T10", "on my way"),
            ("wang", "T22", "new impeller"),
            ("li", "T15", "vibrates in the storm"),
        ]
        assert [note["text"] for note in found["notes"]["items"]] == ["the lock is new"]
        assert found["gateway"] == ["journal: disk full"]
        assert found["scope"] == {"kinds": [], "towns": [], "units": []}


async def test_the_last_twelve_hours_when_nothing_is_said_and_a_week_at_most(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        now = console.gateway.now()
        found = (await client.get("/api/v1/shift")).json()
        assert found["until"] >= found["since"]
        assert found["unacknowledged"] == {"total": 0, "items": []}
        assert now
        for wrong in (
            {"since": "x"},
            {"since": SHIFT["until"], "until": SHIFT["since"]},
            {"since": "2025-07-01T00:00:00Z", "until": "2025-07-20T00:00:00Z"},
        ):
            assert (await client.get("/api/v1/shift", params=wrong)).status_code == 422


async def test_a_long_list_is_cut_and_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        await console.gateway.commit(*(step(record(f"y-{i:04}", level=Level(i % 4 + 1))) for i in range(900)))
        found = await shift(client)
        assert (found["unacknowledged"]["total"], len(found["unacknowledged"]["items"])) == (900, 500)
        assert {alarm["level"] for alarm in found["unacknowledged"]["items"]} == {"I", "II", "III"}


async def test_somebody_with_a_part_of_the_city_hands_over_that_part(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.OPERATOR) as whole:
        await busy_evening(console)
        pumps = Scope(kinds=("pump",))
        token = await console.gateway.store.create_token("pumps", Role.OPERATOR, START, None, pumps)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=console.url, headers=headers, trust_env=False, verify=False) as client:
            found = await shift(client)
            assert found["scope"] == {"kinds": ["pump"], "towns": [], "units": []}
            assert found["unacknowledged"]["total"] == found["out_of_service"]["total"] == 1
            assert found["acknowledged"]["total"] == found["notes"]["total"] == 0
            assert [words["who"] for words in found["comments"]["items"]] == ["wang"]
            mine = (await client.post("/api/v1/handovers", json={**SHIFT, "words": "pumps"})).json()
            theirs = (await whole.post("/api/v1/handovers", json={**SHIFT, "words": "all"})).json()
            assert [row["id"] for row in (await client.get("/api/v1/handovers")).json()["items"]] == [mine["id"]]
            assert (await client.get(f"/api/v1/handovers/{theirs['id']}")).status_code == 404
            assert (await client.post(f"/api/v1/handovers/{theirs['id']}/take", json={})).status_code == 404
        assert len((await whole.get("/api/v1/handovers")).json()["items"]) == 2


async def test_a_signed_report_stays_as_it_was_and_another_person_signs_for_the_next_shift(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.OPERATOR) as leaving:
        await busy_evening(console)
        signed = await leaving.post("/api/v1/handovers", json={**SHIFT, "words": "F1 is dark; crew 7 is there"})
        assert signed.status_code == 201
        made = signed.json()
        assert (made["left"]["who"], made["left"]["words"], made["taken"]) == (
            "operator-1",
            "F1 is dark; crew 7 is there",
            None,
        )
        over = record("pump-1", "level", rev=2, cond=Condition.NORMAL, acked=True)
        await console.gateway.commit(at(900, step(over, cause="T6")))
        path = f"/api/v1/handovers/{made['id']}"
        assert (await leaving.get(path)).json()["report"] == made["report"]
        assert "pump-1/level" in [a["alarm_id"] for a in made["report"]["unacknowledged"]["items"]]
        own = await leaving.post(f"{path}/take", json={"words": "me"})
        assert (own.status_code, own.json()["code"]) == (409, "not_allowed")
        async with console.client(Role.MAINTAINER) as coming, console.client(Role.VIEWER) as viewer:
            assert (await viewer.post(f"{path}/take", json={})).status_code == 403
            taken = (await coming.post(f"{path}/take", json={"words": "taken"})).json()
            assert (taken["taken"]["who"], taken["taken"]["words"]) == ("maintainer-1", "taken")
            assert "report" not in taken
        async with console.client(Role.SUPERVISOR) as late:
            again = await late.post(f"{path}/take", json={})
            assert (again.status_code, again.json()["detail"]) == (409, "maintainer-1 has taken it over")
        lines = (await console.gateway.store.audit(9)).items
        assert [(line.who, line.action, line.why) for line in lines] == [
            ("maintainer-1", "take-over", "taken"),
            ("operator-1", "hand-over", "F1 is dark; crew 7 is there"),
        ]


async def test_handovers_are_paged_and_need_an_operator(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as console,
        console.client(Role.OPERATOR) as client,
        console.client(Role.VIEWER) as viewer,
    ):
        assert (await viewer.post("/api/v1/handovers", json={"words": "x"})).status_code == 403
        assert (await client.post("/api/v1/handovers", json={"words": ""})).status_code == 422
        ids = [(await client.post("/api/v1/handovers", json={"words": str(i)})).json()["id"] for i in range(3)]
        page = (await viewer.get("/api/v1/handovers?limit=2")).json()
        rest = (await viewer.get("/api/v1/handovers", params={"cursor": page["cursor"]})).json()
        assert [row["id"] for row in page["items"] + rest["items"]] == ids[::-1]
        assert rest["cursor"] is None
        assert (await viewer.get("/api/v1/handovers/99")).status_code == 404
        assert (await viewer.get("/api/v1/handovers?cursor=x")).status_code == 400


# -- notes and views --------------------------------------------------------------------------------------------------


async def test_a_note_is_written_for_colleagues_and_in_the_audit(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as console,
        console.client(Role.OPERATOR) as client,
        console.client(Role.VIEWER) as viewer,
    ):
        path = "/api/v1/assets/lamp-1/notes"
        made = await client.post(path, json={"text": "  2 号锁具已换 "})
        assert (made.status_code, made.json()["text"], made.json()["who"]) == (201, "2 号锁具已换", "operator-1")
        assert [note["text"] for note in (await viewer.get(path)).json()["items"]] == ["2 号锁具已换"]
        assert (await viewer.post(path, json={"text": "x"})).status_code == 403
        for wrong in ({"text": ""}, {"text": "   "}, {"text": "x" * 2001}, {"words": "x"}):
            assert (await client.post(path, json=wrong)).status_code == 422
        assert (await client.post("/api/v1/assets/nothing/notes", json={"text": "x"})).status_code == 404
        assert (await client.get("/api/v1/assets/nothing/notes")).status_code == 404
        (line,) = (await console.gateway.store.audit(9)).items
        assert (line.who, line.action, line.subject, line.why) == ("operator-1", "note", "lamp-1", "2 号锁具已换")


async def test_views_are_ones_own_or_shared_by_a_supervisor(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as console,
        console.client(Role.VIEWER) as li,
        console.client(Role.SUPERVISOR) as chief,
    ):
        mine = await li.put("/api/v1/views/alarms/夜班", json={"query": "level=I,II"})
        assert (mine.status_code, mine.json()["owner"], mine.json()["shared"]) == (200, "viewer-1", False)
        assert (await li.put("/api/v1/views/alarms/all", json={"query": "", "shared": True})).status_code == 403
        assert (await chief.put("/api/v1/views/alarms/all", json={"query": "state=UNACK", "shared": True})).json()[
            "owner"
        ] == ""
        await li.put("/api/v1/views/map/here", json={"query": "z=12"})
        names = [(v["name"], v["query"], v["shared"]) for v in (await li.get("/api/v1/views?page=alarms")).json()]
        assert names == [("all", "state=UNACK", True), ("夜班", "level=I,II", False)]
        assert [v["name"] for v in (await chief.get("/api/v1/views")).json()] == ["all"]
        assert (await li.delete("/api/v1/views/alarms/all?shared=true")).status_code == 403
        assert (await li.delete("/api/v1/views/alarms/all")).status_code == 404
        assert (await li.delete("/api/v1/views/alarms/夜班")).status_code == 204
        assert (await chief.delete("/api/v1/views/alarms/all?shared=true")).status_code == 204
        for wrong in ("/api/v1/views/ALARMS/x", f"/api/v1/views/alarms/{'x' * 101}"):
            assert (await li.put(wrong, json={"query": ""})).status_code == 422
        assert (await li.put("/api/v1/views/alarms/x", json={"query": "x" * 2001})).status_code == 422


async def test_a_person_keeps_a_hundred_views(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as li:
        for number in range(100):
            assert (await li.put(f"/api/v1/views/alarms/v{number}", json={"query": "x"})).status_code == 200
        more = await li.put("/api/v1/views/alarms/one-more", json={"query": "x"})
        assert (more.status_code, more.json()["code"]) == (409, "not_allowed")
        assert (await li.put("/api/v1/views/alarms/v7", json={"query": "y"})).status_code == 200
