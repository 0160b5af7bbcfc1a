"""Work over HTTP: the actions of crews and dispatchers, whose work it is, photos."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.console import models, views
from gateway.console.work import MAX_PHOTOS, media_type_of
from gateway.core.model import MINUTE, SECOND, WorkOrder
from gateway.core.records import EVERYWHERE, Role, Scope
from tests.console.city import START, record, running, step

LAMP = "/api/v1/alarms/lamp-1%2Flamp-out"
JPEG, PNG, WEBP = b"\xff\xd8\xff\xe0 lamp", b"\x89PNG\r\n\x1a\n lamp", b"RIFF\x10\x00\x00\x00WEBPVP8 lamp"


async def act(client: httpx.AsyncClient, name: str, /, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"{LAMP}/{name}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["alarm"]


async def refused(client: httpx.AsyncClient, name: str, /, **body: Any) -> tuple[int, str, str]:
    answer = await client.post(f"{LAMP}/{name}", json=body)
    return answer.status_code, answer.json()["code"], answer.json().get("detail", "")


async def test_from_the_dispatch_to_what_the_readings_are_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        await console.gateway.commit(step(record()))
        async with console.client(Role.OPERATOR) as desk, console.client(Role.MAINTAINER) as crew:
            sent = await act(desk, "dispatch", to="crew-1", comment="take a ladder", rev=1)
            assert (sent["work"], sent["order"]["to"], sent["order"]["by"]) == ("DISPATCHED", "crew-1", "operator-1")
            assert sent["order"]["comment"] == "take a ladder"
            taken = await act(crew, "accept")
            assert (taken["work"], taken["acked"], taken["state"]) == ("ACCEPTED", True, "ACKED")
            there = await act(crew, "on-site", longitude=116.1, latitude=35.8001, accuracy_m=8)
            assert (there["work"], there["order"]["distance_m"], there["order"]["far"]) == ("ON_SITE", 11.1, False)
            photo = (await crew.post(f"{LAMP}/photos", content=JPEG, headers={"Content-Type": "image/jpeg"})).json()
            done = await act(crew, "done", cause_code="fuse", action="a new fuse", photos=[photo["id"]])
            assert (done["work"], done["order"]["photos"]) == ("VERIFYING", [photo["id"]])
            assert (done["order"]["cause_code"], done["order"]["action"]) == ("fuse", "a new fuse")
            models.AlarmView.model_validate(done, strict=False)
            commands = console.gateway.submitted
            assert [command.arguments.get("role") for command in commands] == ["operator"] + ["maintainer"] * 3


async def test_a_supervisor_looks_and_closes_or_sends_back(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        order = WorkOrder("01J", "crew-1", "li", START, done_at=START, done_by="wang")
        await console.gateway.commit(step(record(work="DONE", order=order)))
        async with console.client(Role.SUPERVISOR) as chief:
            assert await refused(chief, "return") == (422, "invalid", "body.reason: Field required")
            back = await act(chief, "return", reason="still dark")
            assert (back["work"], back["order"]["reworks"], back["order"]["comment"]) == (
                "DISPATCHED", 1, "still dark",
            )  # fmt: skip
            await act(chief, "accept")
            await act(chief, "done", cause_code="fuse", action="another fuse", by_person=True)
            assert console.gateway.submitted[-1].arguments["by_person"] is True
            closed = await act(chief, "verify", comment="lit")
            assert (closed["work"], closed["order"]["closed_by"]) == ("CLOSED", "supervisor-1")


async def test_refused_and_closed_with_a_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        await act(client, "dispatch", to="crew-1")
        turned_down = await act(client, "refuse", reason="no ladder")
        assert (turned_down["work"], turned_down["order"]["refused_why"]) == ("REJECTED", "no ladder")
        closed = await act(client, "close", reason="day burner")
        assert (closed["work"], closed["order"]["close_why"]) == ("CLOSED", "day burner")
        status, code, detail = await refused(client, "accept")
        assert (status, code) == (409, "not_allowed")
        assert "CLOSED" in detail


async def test_what_a_phone_tells_late_says_when_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.MAINTAINER) as crew:
        now = console.gateway.now()
        order = WorkOrder("01J", "crew-1", "li", now - 60 * MINUTE)
        await console.gateway.commit(step(record(work="DISPATCHED", order=order)))
        taken = await act(crew, "accept", at=views.iso(now - 50 * MINUTE))
        assert views.micros(taken["order"]["accepted_device_at"]) == now - 50 * MINUTE
        assert views.micros(taken["order"]["accepted_at"]) >= now
        late = {"cause_code": "fuse", "action": "a new fuse"}
        assert await refused(crew, "done", at=views.iso(now + 10 * MINUTE), **late) == (
            422, "invalid", "at: that is in the future",
        )  # fmt: skip
        assert await refused(crew, "done", at=views.iso(now - 90 * MINUTE), **late) == (
            422, "invalid", "at: that was before the dispatch",
        )  # fmt: skip
        assert (await refused(crew, "done", at="2025-07-20T12:00:00", **late))[:2] == (422, "invalid")
        await act(crew, "done", at=views.iso(now - 5 * MINUTE), **late)


async def test_the_same_key_does_it_once_and_only_photos_of_the_alarm_count(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()), step(record("lamp-2")))
        await act(client, "dispatch", to="crew-1")
        for _ in range(2):
            answer = await client.post(f"{LAMP}/accept", json={}, headers={"Idempotency-Key": "phone-7"})
            assert answer.status_code == 200, answer.text
        elsewhere = (await client.post("/api/v1/alarms/lamp-2/lamp-out/photos", content=JPEG)).json()["id"]
        status, code, detail = await refused(client, "done", cause_code="f", action="a", photos=[elsewhere])
        assert (status, code) == (422, "invalid")
        assert elsewhere in detail
        assert len(console.gateway.submitted) == 2


async def test_whose_work_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.MAINTAINER) as crew:
        sent = {"lamp-1": "maintainer-1", "lamp-2": "night crew", "pump-1": "pumps"}
        for number, (asset, to) in enumerate(sent.items(), 1):
            order = WorkOrder("01J", to, "li", START)
            await console.gateway.commit(step(record(asset, rev=number, work="DISPATCHED", order=order)))
        done = WorkOrder("01J", "pumps", "li", START, closed_at=START)
        await console.gateway.commit(step(record("pump-1", "jammed", work="CLOSED", order=done)), step(record("x")))

        async def found(**query: Any) -> list[str]:
            answer = await crew.get("/api/v1/work", params=query)
            assert answer.status_code == 200, answer.text
            for item in answer.json()["items"]:
                models.AlarmView.model_validate(item["alarm"])
            return [item["alarm"]["asset"] for item in answer.json()["items"]]

        assert await found() == ["pump-1", "lamp-2", "lamp-1"]
        assert await found(state="closed") == ["pump-1"]
        assert await found(to="pumps,night crew") == ["pump-1", "lamp-2"]
        assert await found(mine=True) == ["lamp-1"]
        console.gateway.teams["maintainer-1"] = frozenset({"night crew", "li wei"})
        assert await found(mine=True) == ["lamp-2", "lamp-1"]
        assert await found(mine=True, to="pumps") == []
        assert await found(since=views.iso(START + 2 * SECOND)) == ["pump-1", "lamp-2"]
        first = (await crew.get("/api/v1/work", params={"limit": 2})).json()
        assert len(first["items"]) == 2
        assert await found(cursor=first["cursor"]) == ["lamp-1"]
        assert (await crew.get("/api/v1/work?state=ASLEEP")).json()["code"] == "invalid"
        assert (await crew.get("/api/v1/work?cursor=x")).json()["code"] == "bad_cursor"
        assert (await crew.get("/api/v1/work?since=now")).json()["code"] == "invalid"


async def test_one_order_with_everything_its_crew_needs(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        assert (await client.get("/api/v1/work/lamp-1%2Flamp-out")).json()["code"] == "not_found"
        await act(client, "dispatch", to="crew-1")
        await act(client, "accept")
        await client.post(f"{LAMP}/photos", content=PNG)
        found = (await client.get("/api/v1/work/lamp-1%2Flamp-out")).json()
        assert (found["place"]["road"], found["place"]["longitude"], found["place"]["latitude"]) == (
            "水泊路", 116.1, 35.8,
        )  # fmt: skip
        assert [item["cause"] for item in found["steps"]] == ["W2", "W1"]
        assert [item["media_type"] for item in found["photos"]] == ["image/png"]
        assert found["alarm"]["work"] == "ACCEPTED"
        assert set(found["response"]) == {"zh", "en"}


@pytest.mark.parametrize(("content", "kind"), [(JPEG, "image/jpeg"), (PNG, "image/png"), (WEBP, "image/webp")])
async def test_a_photo_is_kept_by_its_content_and_given_back_as_it_is(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    async with running(tmp_path) as console, console.client(Role.MAINTAINER) as crew:
        await console.gateway.commit(step(record()))
        first = await crew.post(f"{LAMP}/photos", content=content, headers={"Content-Type": "text/html"})
        again = await crew.post(f"{LAMP}/photos", content=content)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        told = first.json()
        assert (told["id"], told["media_type"], told["by"], told["size"], told["occurrence_id"]) == (
            hashlib.sha256(content).hexdigest(), kind, "maintainer-1", len(content), "01J",
        )  # fmt: skip
        found = await crew.get(f"/api/v1/photos/{told['id']}")
        assert (found.content, found.headers["content-type"]) == (content, kind)
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "script-src" not in found.headers["content-security-policy"]
        async with console.client() as admin:
            lines = (await admin.get("/api/v1/audit")).json()["items"]
        assert [(line["action"], line["why"]) for line in lines if line["action"] == "photo"] == [("photo", told["id"])]


async def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        for content in (b"", b"GIF89a", b"<svg onload='x'>", b"RIFF\x10\x00\x00\x00WAVE", b"\x00" * 70_000):
            answer = await client.post(f"{LAMP}/photos", content=content, headers={"Content-Type": "image/jpeg"})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), content[:10]
        large = await client.post(f"{LAMP}/photos", content=JPEG + b"\x00" * (5 << 20))
        assert (large.status_code, large.json()["code"]) == (413, "too_large")
        fits = await client.post(f"{LAMP}/photos", content=JPEG * 100_000)
        assert fits.status_code == 201
        assert (await client.post("/api/v1/alarms/lamp-9/none/photos", content=JPEG)).status_code == 404
        assert (await client.get("/api/v1/photos/" + "0" * 64)).status_code == 404
        elsewhere = await client.post(f"{LAMP}/comment", content=b"x" * 70_000)
        assert elsewhere.status_code == 413, "other bodies are as short as before"


def test_a_photo_is_known_by_its_first_bytes() -> None:
    assert media_type_of(b"\xff\xd8") is None
    assert media_type_of(b"RIFF\x00\x00\x00\x00WEB") is None


async def test_an_alarm_has_so_many_photos_and_no_more(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        work = console.gateway.store.work
        for number in range(MAX_PHOTOS):
            await work.add_photo("lamp-1/lamp-out", "01J", START, "li", "image/png", b"%d" % number, MAX_PHOTOS)
        answer = await client.post(f"{LAMP}/photos", content=JPEG)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_allowed")
        assert len(await work.photos("lamp-1/lamp-out")) == MAX_PHOTOS


async def test_a_photo_is_seen_by_who_may_see_one_of_its_alarms(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        await console.gateway.commit(step(record()), step(record("pump-1")))
        work = console.gateway.store.work
        for alarm in ("lamp-1/lamp-out", "pump-1/lamp-out"):
            await work.add_photo(alarm, "01J", START, "li", "image/jpeg", JPEG, 9)
        id_ = hashlib.sha256(JPEG).hexdigest()
        for scope, alarm in (
            (EVERYWHERE, "lamp-1/lamp-out"),
            (Scope(kinds=("lamp",)), "lamp-1/lamp-out"),
            (Scope(kinds=("pump",)), "pump-1/lamp-out"),
        ):
            found = await work.photo(id_, scope)
            assert found is not None
            assert (found[0].alarm_id, found[1]) == (alarm, JPEG)
        assert await work.photo(id_, Scope(towns=("别处",))) is None
