"""A night of alarms as the people on duty live it: real SMTP and HTTP servers, a whole gateway, its own clock.

a lamp goes dark → an SMS to Zhang, whose gateway is away → after the level's patience a mail instead
he presses the link in it → acknowledged as him, the second step never goes out, the rest is withdrawn
another goes dark → an SMS this time → he answers with its code → acknowledged
the broker shows both alarms, retained, as they are
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.core.model import MINUTE, IsaState, Level
from gateway.core.records import OutboxState
from gateway.notify import dispatcher
from tests.console.living import Living, living
from tests.notify.test_apprise import mail_server
from tests.notify.test_mirror import reading
from tests.notify.witness import witness
from tests.servers import mosquitto

RULES = """
- rule: test-dark
  title: {zh: 灯灭, en: Dark}
  applies_to: {kind: lamp}
  when: {point: power, below: 5 W, level: II, deadband: 1 W}
  response: {zh: 派人更换, en: Send somebody}
  notify: [lighting]
"""
ROUTES: dict[str, Any] = {
    "people": [
        {
            "person": "zhang",
            "name": {"zh": "张三", "en": "Zhang San"},
            "user": "zhangsan",
            "numbers": ["+86 138 0000 0000"],
            "channels": [{"receiver": "sms", "to": "13800000000"}, {"receiver": "mail", "to": "zhang@example.org"}],
        },
        {"person": "li", "channels": [{"receiver": "mail", "to": "li@example.org"}]},
    ],
    "route": {
        "routes": [
            {
                "route": "lighting",
                "match": {"rule": "test-dark"},
                "steps": [{"tell": ["person:zhang"]}, {"after": "15m", "tell": ["person:li"]}],
            }
        ]
    },
}
CITY = {
    "assets": [{"asset": f"lamp-{n}", "kind": "lamp", "name": f"{n} 号灯", "road": "水泊大街"} for n in (1, 2)],
    "devices": [{"device": f"d-{n}", "asset": f"lamp-{n}", "profile": "generic/json-lamp"} for n in (1, 2)],
}
SECRET = "the SMS gateway's own secret"


async def until(ask: Any, what: str) -> Any:
    try:
        async with asyncio.timeout(20):
            while not (found := await ask()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return found
    except TimeoutError as error:
        raise AssertionError(f"still not: {what}") from error


async def state(house: Living, lamp: int) -> tuple[IsaState, str | None, str | None] | None:
    record = await house.gateway.store.alarm(f"lamp-{lamp}/test-dark")
    return None if record is None else (record.isa_state, record.acked_by, record.ack_channel)


async def test_an_alarm_finds_its_way_to_a_person_and_their_answer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "PATIENCE", {Level.II: 1_500_000})  # a second and a half instead of a minute
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "test.yaml").write_text(RULES, encoding="utf-8")
    (tmp_path / "routes.yaml").write_text(yaml.safe_dump(ROUTES), encoding="utf-8")
    (tmp_path / "sms.secret").write_text(SECRET)
    async with witness() as gone:
        pass  # a port where nobody listens yet
    port = int(gone.url.split(":")[2].split("/")[0])
    with mail_server() as (box, mail_port):
        (tmp_path / "mail.url").write_text(f"mailto://127.0.0.1:{mail_port}?from=alarm@example.org&to={{to}}")
        (tmp_path / "sms.url").write_text(f"json://127.0.0.1:{port}/send?:number={{to}}")
        async with mosquitto() as broker:
            settings = {
                "rules": [str(tmp_path / "rules")],
                "routes": str(tmp_path / "routes.yaml"),
                "console": {"port": 0, "public_url": "https://alarm.example.gov.cn"},
                "inbound": {"sms": {"secret_file": str(tmp_path / "sms.secret")}},
                "receivers": [
                    {"name": "mail", "type": "apprise", "url_file": str(tmp_path / "mail.url"), "allow_loopback": True},
                    {
                        "name": "sms", "type": "apprise", "url_file": str(tmp_path / "sms.url"), "form": "short",
                        "allow_loopback": True,
                    },
                    {"name": "wall", "type": "mqtt", "url": broker.url},
                ],
            }  # fmt: skip
            async with living(tmp_path, CITY, settings) as house:
                url = house.gateway.addresses.console_url
                async with httpx.AsyncClient(base_url=url, trust_env=False, verify=False) as phone:
                    await _by_mail(house, phone, box)
                    async with witness(port=port) as sms:
                        await _by_sms(house, phone, sms)
                async with reading(broker.url) as wall:
                    await until(lambda: _both(wall), "both alarms on the broker")
                    assert wall.documents["lamp-2/test-dark"]["acked"] is True


async def _by_mail(house: Living, phone: httpx.AsyncClient, box: Any) -> None:
    await house.say("citywatch/v1/lamp/d-1/telemetry", b'{"power": 0.5, "on": true}')

    async def arrived() -> list[Any]:
        return list(box.mails)

    (mail,) = await until(arrived, "a mail instead of the SMS")
    assert box.to == [["zhang@example.org"]]
    assert mail["subject"] == "橙色 II 级报警：1 号灯 灯灭"  # nobody doubts: the SMS gateway was never reached
    found = re.search(r"https://alarm\.example\.gov\.cn(/a/\S+)", mail.get_content())
    assert found is not None
    look = await phone.get(found[1])
    assert "将以 张三 的名义确认" in look.text
    assert await state(house, 1) == (IsaState.UNACK, None, None)
    done = await phone.post(found[1])
    assert (done.status_code, "已确认，谢谢。" in done.text) == (200, True)
    assert await state(house, 1) == (IsaState.ACKED, "zhangsan", "link")
    await house.pass_time(20 * MINUTE)
    await asyncio.sleep(0.3)
    assert len(box.mails) == 1  # the second step was for somebody who need not know any more


async def _by_sms(house: Living, phone: httpx.AsyncClient, sms: Any) -> None:
    await house.say("citywatch/v1/lamp/d-2/telemetry", b'{"power": 0.5, "on": true}')
    (request,) = await sms.until(1)
    body = json.loads(request.body)
    assert body["number"] == "13800000000"
    text = body["message"]
    assert len(text) <= 70
    code = re.search(r"回复 (\d{4}) 确认", text)
    assert code is not None, text
    headers = {"Authorization": f"Bearer {SECRET}"}
    answer = await phone.post(
        "/api/v1/inbound/sms", data={"number": "+8613800000000", "text": f"{code[1]}好"}, headers=headers
    )
    assert answer.json()["outcome"] == "acknowledged"
    assert await state(house, 2) == (IsaState.ACKED, "zhangsan", "sms")
    counts = (await house.gateway.store.counts())["outbox"]
    assert counts.get(OutboxState.PENDING.value, 0) == 0


async def _both(wall: Any) -> bool:
    return {"lamp-1/test-dark", "lamp-2/test-dark"} <= set(wall.documents)
