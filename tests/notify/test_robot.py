"""Group robots: what they say in the body is what counts, and 200 means nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.core.notification import MessageKind
from gateway.errors import Rejected, Unavailable
from gateway.notify.robot import MOST, Platform, RobotReceiver
from tests.notify.messages import line, message, note, wording
from tests.notify.witness import Answer, Witness, nothing, status, witness

DINGTALK, WECOM, FEISHU = Platform


def says(**document: Any) -> Answer:
    return status(200, body=json.dumps(document).encode())


@asynccontextmanager
async def robot(
    platform: Platform, *answers: Answer, secret: str | None = None
) -> AsyncIterator[tuple[RobotReceiver, Witness]]:
    async with witness(*answers) as seen:
        made = RobotReceiver(
            platform, f"{seen.url}?access_token=t0ken", wording(), secret=secret, allow_loopback=True,
            now_s=lambda: 1_752_993_180.5,
        )  # fmt: skip
        try:
            yield made, seen
        finally:
            await made.close()


async def test_dingtalk_names_the_person_and_is_signed() -> None:
    async with robot(DINGTALK, says(errcode=0, errmsg="ok"), secret="SEC123") as (made, seen):
        await made.send(note(address="13800000000"))
        (request,) = seen.requests
    query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
    mac = hmac.new(b"SEC123", b"1752993180500\nSEC123", hashlib.sha256).digest()
    assert query == {"access_token": "t0ken", "timestamp": "1752993180500", "sign": base64.b64encode(mac).decode()}
    body = json.loads(request.body)
    assert body["at"] == {"atMobiles": ["13800000000"], "isAtAll": False}
    assert body["text"]["content"].startswith("红色 I 级报警：西泵站 集水井水位过高\n级别：I 级")
    assert body["text"]["content"].endswith("\n@13800000000")


async def test_wecom_names_the_person() -> None:
    async with robot(WECOM, says(errcode=0, errmsg="ok")) as (made, seen):
        await made.send(note(address="13800000000"))
        body = json.loads(seen.requests[0].body)
    assert body["text"]["mentioned_mobile_list"] == ["13800000000"]
    assert len(body["text"]["content"].encode()) <= 2048


async def test_feishu_is_signed_in_the_body_and_nobody_else_can_be_named() -> None:
    odd = line(title_zh='<at user_id="all"></at>')
    async with robot(FEISHU, says(code=0, msg="success"), secret="abc") as (made, seen):
        await made.send(note(message(MessageKind.RAISED, odd), "ou_123"))
        body = json.loads(seen.requests[0].body)
    assert body["sign"] == base64.b64encode(hmac.new(b"1752993180\nabc", b"", hashlib.sha256).digest()).decode()
    assert body["content"]["text"].count("<at") == 1
    assert body["content"]["text"].endswith('<at user_id="ou_123"></at>')


@pytest.mark.parametrize(
    ("platform", "answer"),
    [
        (DINGTALK, {"errcode": 310000, "errmsg": "keywords not in content"}),
        (DINGTALK, {"errcode": 300001, "errmsg": "token is not exist"}),
        (WECOM, {"errcode": 93000, "errmsg": "invalid webhook url"}),
        (FEISHU, {"code": 19024, "msg": "Key Words Not Found"}),
    ],
)
async def test_a_refusal_that_comes_with_200_is_a_refusal(platform: Platform, answer: dict[str, Any]) -> None:
    async with robot(platform, says(**answer)) as (made, _):
        with pytest.raises(Rejected, match=str(answer.get("errcode") or answer.get("code"))):
            await made.send(note())


@pytest.mark.parametrize(
    ("platform", "answer"),
    [
        (DINGTALK, {"errcode": 130101, "errmsg": "send too fast"}),
        (WECOM, {"errcode": 45009, "errmsg": "api freq out of limit"}),
        (FEISHU, {"code": 11232, "msg": "frequency limited"}),
    ],
)
async def test_too_fast_is_not_now(platform: Platform, answer: dict[str, Any]) -> None:
    async with robot(platform, says(**answer)) as (made, _):
        with pytest.raises(Unavailable) as caught:
            await made.send(note())
        assert caught.value.retry_after_s
        assert not caught.value.may_have_arrived


@pytest.mark.parametrize("answer", [nothing, status(200, body=b"<html>"), says(hello=1), says(errcode="0")])
async def test_an_answer_that_does_not_say_leaves_a_doubt(answer: Answer) -> None:
    async with robot(DINGTALK, answer) as (made, _):
        with pytest.raises(Unavailable) as caught:
            await made.send(note())
        assert caught.value.may_have_arrived


async def test_an_address_that_is_none_is_refused() -> None:
    async with robot(FEISHU) as (made, seen):
        with pytest.raises(Rejected):
            await made.send(note(address='x"></at><at user_id="all'))
        assert seen.requests == []


async def test_long_texts_fit() -> None:
    many = tuple(line(title_zh="积水" * 30, alarm_id=f"PS-01/r-{i}") for i in range(20))
    async with robot(WECOM, says(errcode=0)) as (made, seen):
        await made.send(note(message(MessageKind.RAISED, *many, count=300)))
        text = json.loads(seen.requests[0].body)["text"]["content"]
    assert len(text) <= MOST
    assert len(text.encode()) <= 2048
    assert "未列出" in text
    assert "https://alarm.example.gov.cn/a/" in text
