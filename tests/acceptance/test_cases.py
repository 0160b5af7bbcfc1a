"""A cover is open, and the city's platform knows: from 立案 to 结案, a real gateway and the simulated platform."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from simulators.case_platform import CaseFile, CasePlatform, Fault
from tests.acceptance.running import RunningGateway, publisher, running_gateway
from tests.servers import mosquitto

COVER = "cover-1/manhole-open"
PLACE = (116.1, 35.8)
CITY = {
    "assets": [
        {"asset": "cover-1", "kind": "manhole", "name": "12 号井盖", "road": "水泊大街", "town": "梁山街道",
         "longitude": PLACE[0], "latitude": PLACE[1]},
        {"asset": "cover-s", "kind": "manhole", "road": "水泊大街", "simulated": True},
    ],
    "devices": [
        {"device": "cover-1", "asset": "cover-1", "profile": "generic/json-manhole"},
        {"device": "cover-s", "asset": "cover-s", "profile": "generic/json-manhole"},
    ],
}  # fmt: skip
OUT_KEY, IN_KEY = "what the gateway signs with", "what the platform signs with"


class Street:
    """A gateway, the platform, and the covers' sensors."""

    def __init__(self, gateway: RunningGateway, city: CasePlatform, client: Any) -> None:
        self.gateway, self.city, self._client = gateway, city, client

    async def tilt(self, degrees: float, cover: str = "cover-1") -> None:
        said = {"tilt": degrees} | ({"simulated": True} if cover == "cover-s" else {})
        await self._client.publish(f"citywatch/v1/manhole/{cover}/telemetry", json.dumps({"values": said} | (
            {"simulated": True} if cover == "cover-s" else {})), qos=1)  # fmt: skip

    async def alarm(self, alarm_id: str = COVER) -> dict[str, Any]:
        found: dict[str, Any] = await self.gateway.get(f"alarms/{alarm_id.replace('/', '%2F')}")
        return found

    async def do(self, name: str, /, **body: Any) -> None:
        answer = await self.gateway.post(f"alarms/{COVER}/{name}", body)
        assert answer.status_code == 200, f"{name}: {answer.text}"

    async def until_raised(self) -> None:
        async def raised() -> bool:
            found = await self.gateway.get("alarms", state="UNACK", rule="manhole-open", asset="cover-1")
            return bool(found["items"])

        await self.gateway.until(raised, "the cover's alarm is raised")

    async def told(self, *events: str, case: int = 0) -> CaseFile:
        """Wait until the platform has heard exactly these of its case number ``case``."""

        async def heard() -> bool:
            cases = list(self.city.cases.values())
            return len(cases) > case and cases[case].events == list(events)

        seen = {key: one.events for key, one in self.city.cases.items()}
        await self.gateway.until(heard, f"the platform has heard {events}; before {seen}")
        return list(self.city.cases.values())[case]

    async def cases(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.gateway.get("cases", **query))["items"]
        return found

    async def until_case(self, **wanted: Any) -> dict[str, Any]:
        """Wait until the newest case is so."""

        async def so() -> dict[str, Any] | None:
            found = await self.cases()
            return found[0] if found and all(found[0][name] == value for name, value in wanted.items()) else None

        found: dict[str, Any] = await self.gateway.until(so, f"the case is {wanted}; it is {await self.cases()}")
        return found


@pytest_asyncio.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    (tmp_path / "assets.json").write_text(json.dumps(CITY), encoding="utf-8")
    for name, key in (("out", OUT_KEY), ("in", IN_KEY)):
        (tmp_path / f"{name}.key").write_text(key)
    async with (
        mosquitto() as broker,
        publisher(broker.url) as client,
        CasePlatform(OUT_KEY, own_key=IN_KEY) as city,
    ):
        settings = {
            "mqtt": [{"id": "main", "url": broker.url}],
            "assets": [str(tmp_path / "assets.json")],
            "receivers": [
                {
                    "type": "case-platform", "name": "city", "url": city.url, "secret_file": str(tmp_path / "out.key"),
                    "inbound_secret_file": str(tmp_path / "in.key"), "folder": str(tmp_path / "drop"),
                    "patience": "5s", "allow_loopback": True,
                }
            ],
        }  # fmt: skip
        async with running_gateway(tmp_path, settings) as gateway:
            await linked(gateway)
            city.gateway = f"{gateway.url}/api/v1/inbound/cases/city"
            yield Street(gateway, city, client)


async def linked(gateway: RunningGateway) -> None:
    async def there() -> bool:
        return bool((await gateway.get("health"))["parts"]["mqtt main"]["ok"])

    await gateway.until(there, "the broker is there")


async def test_from_an_open_cover_to_a_closed_case(street: Street) -> None:
    """The platform's own people close it; the sensor agrees, and who watches signs."""
    await street.tilt(1.0, "cover-1")
    await street.tilt(70.0, "cover-s")
    await street.tilt(70.0)
    case = await street.told("opened")
    assert case.document["问题描述"].startswith("梁山街道水泊大街12 号井盖：井盖打开或丢失")
    assert case.document["处置时限"] == "6 紧急工作时"
    found = await street.until_case(status="opened", number=case.number)
    assert (found["alarm_id"], found["way"], found["overdue"]) == (COVER, "platform", False)

    # The platform says that somebody is on the way; a citizen has seen the hole, too.
    status, said = await street.city.news(case, "处置中", "已通知养护单位", id="m-1")
    assert (status, said["case"]["status"]) == (200, "handling")
    status, said = await street.city.ticket("T-7", "井盖", "井盖不见了", place="水泊大街 12 号", at=PLACE)
    assert (status, said["alarm_id"], said["done"]) == (200, COVER, "comment")
    status, said = await street.city.ticket("T-8", "路灯", "路灯不亮", at=PLACE)
    assert (status, said["alarm_id"]) == (200, None)
    comments = [
        step for step in await street.gateway.all_pages(f"alarms/{COVER}/history") if step["cause"] == "comment"
    ]
    assert [step["by"] for step in comments] == ["platform:city", "platform:city"]
    assert comments[0]["why"].startswith("【city 工单 T-7】井盖（水泊大街 12 号）：井盖不见了（同类，相距 0 米")

    rev = (await street.alarm())["rev"]
    await street.do("acknowledge", rev=rev)
    await street.told("opened", "acknowledged")
    await street.tilt(1.0)
    await street.told("opened", "acknowledged", "cleared")
    await street.do("reset", rev=(await street.alarm())["rev"])
    case = await street.told("opened", "acknowledged", "cleared", "closed")
    assert (case.document["案件状态"], case.document["结案方式"]) == ("已结案", "报警已恢复")
    found = await street.until_case(status="closed")
    assert (found["closed_how"], found["number"]) == ("recovered", case.number)
    assert street.city.refused == []
    assert len(street.city.cases) == 1, "nothing of the simulated cover"

    day = {"from": "2020-01-01T00:00:00Z", "to": "2020-12-31T00:00:00Z"}
    assert (await street.gateway.get("cases/figures", **day))["registered"] == 0


async def test_the_crew_s_work_is_told_sent_back_and_closed_by_the_platform(street: Street) -> None:
    await street.tilt(70.0)
    case = await street.told("opened")
    await street.until_case(status="opened")
    for action, body in (
        ("dispatch", {"to": "cover-crew", "comment": "补盖"}),
        ("accept", {}),
        ("on-site", {}),
        ("done", {"action": "补盖", "cause_code": "stolen", "by_person": True}),
    ):
        await street.do(action, rev=(await street.alarm())["rev"], **body)
    case = await street.told("opened", "dispatched", "accepted", "on-site", "done")
    assert (case.document["派遣对象"], case.document["处置措施"], case.document["原因"]) == (
        "cover-crew",
        "补盖",
        "stolen",
    )

    status, said = await street.city.news(case, "返工", "井盖松动", id="m-1")
    assert (status, said["done"], said["refused"]) == (200, "return", None)
    alarm = await street.alarm()
    assert (alarm["work"], alarm["order"]["reworks"]) == ("DISPATCHED", 1)
    await street.do("accept", rev=alarm["rev"])
    # What the platform did itself was not told to it; what followed was.
    case = await street.told("opened", "dispatched", "accepted", "on-site", "done", "accepted")
    status, said = await street.city.news(case, "已结案", "现场核查合格", id="m-2")
    assert (status, said["done"]) == (200, "close")
    again_status, again = await street.city.news(case, "已结案", "现场核查合格", id="m-2")
    assert (again_status, again["repeated"]) == (200, True)
    alarm = await street.alarm()
    assert (alarm["work"], alarm["order"]["closed_by"]) == ("CLOSED", "platform:city")
    assert "报警仍在" in alarm["order"]["close_why"]
    found = await street.until_case(status="closed")
    assert (found["closed_how"], found["reworks"]) == ("platform", 1)
    assert case.events[-1] == "accepted"


async def test_a_kill_and_lost_answers_open_one_case_and_an_outage_fills_a_file(street: Street, tmp_path: Path) -> None:
    # The answer is lost, and the gateway dies before it can ask again.
    street.city.then(Fault(lost=True), Fault(status=503))
    await street.tilt(70.0)
    await street.told("opened")
    await street.gateway.process.kill()
    await street.gateway.start()
    await linked(street.gateway)
    street.city.gateway = f"{street.gateway.url}/api/v1/inbound/cases/city"
    found = await street.until_case(status="opened", way="platform")
    case = await street.told("opened")
    assert (found["number"], street.city.repeats) == (case.number, 1)

    # The platform is away for longer than the patience (5 s here): what happens meanwhile lies in a file, once.
    await street.city.go_down()
    await street.do("acknowledge", rev=(await street.alarm())["rev"])
    found = await street.until_case(way="csv")
    assert found["error"].startswith("ConnectError")
    text = (tmp_path / "drop" / found["file"]).read_bytes()
    assert text.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline="")))
    assert [row["事件"] for row in rows] == ["受理"]
    assert rows[0]["问题编号"] == case.number

    # It is back: the next event goes there again, with the whole case. (While it is away it is asked every 30 s.)
    await street.city.come_up()
    await street.gateway.process.kill()
    await street.gateway.start()
    await linked(street.gateway)
    await street.do("dispatch", rev=(await street.alarm())["rev"], to="cover-crew")
    case = await street.told("opened", "dispatched")
    assert case.document["派遣对象"] == "cover-crew"
    found = await street.until_case(way="platform")
    assert (found["dropped"], found["error"]) == (1, None)


async def test_nobody_else_speaks_for_the_platform(street: Street) -> None:
    await street.tilt(70.0)
    case = await street.told("opened")
    news = {"消息类型": "案件状态", "问题编号": case.number, "案件状态": "已结案"}
    for how in ({"key": OUT_KEY}, {"age_s": 301.0}, {"body": json.dumps(news | {"说明": "x"}).encode()}):
        status, said = await street.city.say(news, **how)  # type: ignore[arg-type]
        assert (status, said["code"]) == (403, "bad_signature"), how
    assert (await street.cases(state="open"))[0]["status"] in ("opening", "opened")
    audit = (await street.gateway.get("audit"))["items"]
    assert [line["outcome"] for line in audit if line["action"] == "inbound"] == ["forbidden"] * 3
