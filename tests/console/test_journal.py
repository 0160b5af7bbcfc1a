"""The log book over HTTP: who sees what, pages that stay, and the files made of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest

from gateway.console import journal
from gateway.core.model import SECOND, CommandDone, CommandName, Level
from gateway.core.model import Command as Asked
from gateway.core.records import AuditRow, Role, Scope
from tests.console.city import START, Running, record, running, step


async def happened(console: Running) -> None:
    """Two alarms; li acknowledges one with words that a spreadsheet might run; wang is refused; somebody signs in."""
    gateway = console.gateway
    up, pump = record("lamp-1"), record("pump-1", level=Level.I)
    await gateway.commit(step(up, at=START), step(pump, at=START))
    acked = record("lamp-1", rev=2, acked=True)
    at = START + 5 * SECOND
    asked = Asked("c-1", CommandName.ACKNOWLEDGE, up.alarm_id, "li", "api", 1, "=1+1")
    await gateway.commit(step(acked, up, "T10", by="li", why="=1+1", at=at), CommandDone(asked, at))
    refused = AuditRow(0, at, "wang", "console", "shelve", "pump-1/lamp-out", "forbidden")
    await gateway.store.add_audit("1", refused)
    await gateway.store.add_audit("2", AuditRow(0, START, "zhao", "console", "sign-in", "zhao", "done"))


async def lines(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/api/v1/journal", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_transition_and_an_action_have_one_shape_newest_first(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.SUPERVISOR) as client:
        await happened(console)
        found = await lines(client)
        assert [(e["type"], e["who"], e["subject"]) for e in found] == [
            ("transition", "li", "lamp-1/lamp-out"),
            ("action", "wang", "pump-1/lamp-out"),
            ("transition", None, "pump-1/lamp-out"),
            ("transition", None, "lamp-1/lamp-out"),
            ("action", "zhao", "zhao"),
        ]
        assert found[0] == {
            "key": "t/lamp-1/lamp-out/2",
            "type": "transition",
            "at": "2025-07-20T06:30:05Z",
            "who": "li",
            "alarm_id": "lamp-1/lamp-out",
            "asset": "lamp-1",
            "title": {"zh": "路灯熄灭", "en": "Lamp out"},
            "level": "III",
            "from": "UNACK",
            "to": "ACKED",
            "cause": "T10",
            "action": None,
            "channel": None,
            "subject": "lamp-1/lamp-out",
            "outcome": None,
            "why": "=1+1",
        }
        assert (found[1]["action"], found[1]["outcome"], found[1]["channel"]) == ("shelve", "forbidden", "console")
        assert (found[1]["asset"], found[1]["level"], found[1]["title"]["en"]) == ("pump-1", "I", "Lamp out")


async def test_what_people_did_beside_the_alarms_is_for_supervisors(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        await happened(console)
        for role in Role:
            async with console.client(role) as client:
                kinds = {entry["type"] for entry in await lines(client)}
                assert ("action" in kinds) == (role >= Role.SUPERVISOR)


async def test_what_is_outside_somebodys_scope_is_in_no_line(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        await happened(console)
        token = await console.gateway.store.create_token("narrow", Role.SUPERVISOR, START, None, Scope(kinds=("pump",)))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=console.url, headers=headers, trust_env=False, verify=False) as client:
            assert {entry["asset"] for entry in await lines(client)} == {"pump-1"}
            assert await lines(client, asset="lamp-1") == []
            answer = await client.get("/api/v1/journal/export")
            assert "lamp-1" not in answer.text
            assert "zhao" not in answer.text


async def test_every_filter_is_one_of_the_url(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        await happened(console)
        for query, count in (
            ({"since": "2025-07-20T06:30:05Z"}, 2),
            ({"until": "2025-07-20T06:30:05Z"}, 3),
            ({"asset": "lamp-1"}, 2),
            ({"alarm": "pump-1/lamp-out"}, 2),
            ({"kind": "lamp,pump"}, 4),
            ({"level": "I"}, 1),
            ({"cause": "T3"}, 2),
            ({"by": "wang"}, 1),
            ({"q": "熄灭"}, 3),
            ({"q": "=1+"}, 1),
            ({"q": "zha"}, 1),
            ({"limit": 2}, 2),
        ):
            assert len(await lines(client, **query)) == count, query


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_pages_of_both_kinds_at_equal_times_give_every_line_once(tmp_path: Path, limit: int) -> None:
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        await happened(console)
        whole = [entry["key"] for entry in await lines(client)]
        found: list[str] = []
        cursor: str | None = None
        while True:
            query = {"limit": limit, **({"cursor": cursor} if cursor else {})}
            page = (await client.get("/api/v1/journal", params=query)).json()
            found += [entry["key"] for entry in page["items"]]
            cursor = page["cursor"]
            # Written meanwhile, and later: on no page that follows.
            await console.gateway.store.add_audit(
                f"now {len(found)}", AuditRow(0, START + 9 * SECOND, "x", "api", "x", "x", "done")
            )
            if cursor is None:
                break
        assert found == whole


async def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        for query, status in (("since=yesterday", 422), ("level=9", 422), ("cursor=!!", 400), ("limit=0", 422)):
            assert (await client.get(f"/api/v1/journal?{query}")).status_code == status, query
        assert (await client.get("/api/v1/journal/export?format=pdf")).status_code == 422


# -- files ------------------------------------------------------------------------------------------------------------


async def test_a_csv_file_is_for_people_in_their_language_and_their_time(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        await happened(console)
        answer = await client.get("/api/v1/journal/export")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="citywatch-journal.csv"'
        assert answer.content.startswith(b"\xef\xbb\xbf")
        table = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert table[0][:3] == ["时间 (Asia/Shanghai)", "类型", "级别"]
        assert table[1] == [
            "2025-07-20 14:30:05.000", "报警", "III", "lamp-1", "路灯熄灭", "未确认", "已确认", "li", "确认",
            "lamp-1/lamp-out", "", "'=1+1",
        ]  # fmt: skip
        assert table[2][1:2] + table[2][8:11] == ["操作", "搁置", "pump-1/lamp-out", "权限不足"]
        assert len(table) == 6
        english = await client.get("/api/v1/journal/export?lang=en&asset=lamp-1")
        table = list(csv.reader(io.StringIO(english.content.decode("utf-8-sig"))))
        assert table[0][0] == "time (Asia/Shanghai)"
        assert [row[8] for row in table[1:]] == ["acknowledged", "raised"]


async def test_an_excel_file_holds_texts_and_no_formula(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        await happened(console)
        answer = await client.get("/api/v1/journal/export?format=xlsx&lang=en")
        assert "content-encoding" not in answer.headers
        sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).active
        assert sheet is not None
        rows = list(sheet.iter_rows())
        assert len(rows) == 6
        words = rows[1][11]
        assert (words.value, words.data_type) == ("=1+1", "s")


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_a_file_that_was_cut_says_so_in_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(journal, "MAX_ROWS", 3)
    monkeypatch.setattr(journal, "MAX_PAGE", 2)
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        await happened(console)
        answer = await client.get(f"/api/v1/journal/export?format={form}")
        if form == "csv":
            table: list[list[Any]] = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
        else:
            sheet = openpyxl.load_workbook(io.BytesIO(answer.content)).active
            assert sheet is not None
            table = [list(row) for row in sheet.iter_rows(values_only=True)]
        assert len(table) == 1 + 3 + 1
        assert table[-1][0] == "仅导出前 3 行；请缩小时间范围"
        whole = await client.get("/api/v1/journal/export?asset=lamp-1")
        assert "仅导出" not in whole.text


async def test_an_empty_file_still_has_its_header(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        answer = await client.get("/api/v1/journal/export?lang=en")
        assert answer.text.splitlines()[0].lstrip("\ufeff").startswith("time (Asia/Shanghai),what,level")


async def test_two_files_are_written_at_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "EXPORTS", 0)
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        assert (await client.get("/api/v1/journal/export")).status_code == 503


async def test_a_reader_who_leaves_gives_up_his_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten readers, one after the other, each going away in the middle: the eleventh gets his file."""
    monkeypatch.setattr(journal, "MAX_PAGE", 50)
    async with running(tmp_path) as console, console.client(Role.ADMIN) as client:
        await console.gateway.commit(*(step(record(f"x-{i}")) for i in range(3000)))
        for _ in range(10):
            async with client.stream("GET", "/api/v1/journal/export") as answer:
                assert answer.status_code in (200, 503)
                async for _piece in answer.aiter_bytes():
                    break
        for _ in range(50):
            whole = await client.get("/api/v1/journal/export")
            if whole.status_code == 200:
                break
        assert len(whole.text.splitlines()) == 3001
