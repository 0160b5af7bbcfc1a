"""The witness writes down every notification before it answers, and answers as scripted."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from pathlib import Path

import httpx
import pytest

from simulators.witness import Answer, Witness, read_script

STEP = {"alarm_id": "lamp-1/lamp-out", "rev": 3, "from": "NORM", "to": "UNACK", "alarm": {"level": "IV"}}
BODY = {"specversion": "1.0", "data": STEP}


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, verify=False, timeout=10)


async def test_a_notification_is_written_down_with_its_key_and_its_alarm(tmp_path: Path) -> None:
    before = time.time_ns() // 1000
    async with Witness(tmp_path / "witness.db") as witness, client() as http:
        answer = await http.post(witness.url, json=BODY, headers={"Idempotency-Key": "lamp-1/lamp-out/3/crew"})
        assert answer.status_code == 200
        assert witness.rows() == [("lamp-1/lamp-out/3/crew", "lamp-1/lamp-out", 3, "UNACK", "200")]
        ((received_at, body, level),) = witness.rows("received_at, body, level")
        assert before <= received_at <= time.time_ns() // 1000
        assert json.loads(body) == BODY
        assert level == "IV"


async def test_a_body_that_is_not_json_is_kept_all_the_same() -> None:
    async with Witness(":memory:") as witness, client() as http:
        await http.post(witness.url, content=b"\xff not json")
        await http.post(witness.url, json=[1, 2])
        assert witness.rows("alarm, body") == [(None, b"\xff not json"), (None, b"[1,2]")]


async def test_it_answers_by_its_script_and_then_with_200() -> None:
    script = read_script(
        json.loads('[{"status": 500, "times": 2}, {"status": 429, "retry_after": 2}, {"delay_s": 0.05}]')
    )
    async with Witness(":memory:", script) as witness, client() as http:
        answers = [await http.post(witness.url, json=BODY) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [500, 500, 429, 200, 200]
        assert answers[2].headers["Retry-After"] == "2"
        assert [row[-1] for row in witness.rows()] == ["500", "500", "429", "200 after 0.05 s", "200"]


async def test_it_can_close_without_a_word_after_having_taken_the_message() -> None:
    async with Witness(":memory:", [Answer(close=True)]) as witness, client() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post(witness.url, json=BODY)
        assert witness.received == 1
        witness.then(Answer(503))
        assert (await http.post(witness.url, json=BODY)).status_code == 503


async def test_many_requests_on_one_connection_are_all_seen() -> None:
    async with Witness(":memory:") as witness, client() as http:
        for _ in range(50):
            await http.post(witness.url, json=BODY)
        assert witness.received == 50


async def test_an_unknown_word_in_a_script_is_refused() -> None:
    with pytest.raises(TypeError):
        read_script([{"statsu": 500}])


async def test_the_command_tells_where_it_listens_and_keeps_what_came(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", "witness", "--out", str(tmp_path / "w.db"), "--script",
        '[{"status": 503}]', cwd=Path(__file__).parents[2], stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(20):
        ready = json.loads(await process.stdout.readline())
    async with client() as http:
        assert (await http.post(ready["url"], json=BODY)).status_code == 503
    process.kill()
    await process.wait()
    rows = sqlite3.connect(tmp_path / "w.db").execute("SELECT alarm, answer FROM notifications").fetchall()
    assert rows == [("lamp-1/lamp-out", "503")]
