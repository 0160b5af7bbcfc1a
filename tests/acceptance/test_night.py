"""A cover is gone at night: who is called, who is next, what stops it; and a kill -9 in the middle changes nothing.

real broker → gateway → a webhook that stands in for the people's telephones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio
import yaml

from tests.acceptance.running import RunningGateway, publisher, running_gateway
from tests.notify.witness import Witness, witness
from tests.servers import mosquitto

COVER = "cover-1/gone"
CITY = {
    "assets": [{"asset": "cover-1", "kind": "manhole", "name": "水泊大街7号井", "road": "水泊大街"}],
    "devices": [{"device": "cover-1", "asset": "cover-1", "profile": "generic/json-manhole"}],
}
RULES = """
- rule: gone
  title: {zh: 井盖不见了, en: Cover gone}
  applies_to: {kind: manhole}
  when: {point: cover, is: open}
  level: I
  off_delay: 0s
  response: {zh: 立即围挡, en: Fence it off at once}
"""


def routes(second_s: float) -> str:
    def person(name: str) -> dict[str, Any]:
        return {"person": name, "name": name, "channels": [{"receiver": "phones", "to": f"+86 {name}"}]}

    return yaml.safe_dump(
        {
            "people": [person("li"), person("chief")],
            "teams": [{"team": "crew", "members": ["person:li"]}],
            "route": {
                "match": {"rule": ["gone"]},
                "steps": [{"tell": ["person:li"]}, {"after": f"{second_s:g}s", "tell": ["person:chief"]}],
            },
        }
    )


class Night:
    """A gateway, a voice for its cover, and what the people's telephones were handed."""

    def __init__(self, gateway: RunningGateway, client: Any, phones: Witness) -> None:
        self.gateway, self._client, self._phones = gateway, client, phones

    async def cover(self, state: str) -> None:
        await self._client.publish("citywatch/v1/manhole/cover-1/telemetry", json.dumps({"cover": state}), qos=1)

    @property
    def told(self) -> list[tuple[str, str]]:
        """(whom, why) in order."""
        events = [request.event for request in self._phones.requests]
        return [(one["data"]["recipient"], one["type"].removeprefix("citywatch.message.")) for one in events]

    async def until_told(self, who: str, why: str) -> dict[str, Any]:
        async def there() -> bool:
            return (who, why) in self.told

        await self.gateway.until(there, f"{who} is told ({why}); so far: {self.told}")
        return next(
            request.event
            for request in reversed(self._phones.requests)
            if (request.event["data"]["recipient"], request.event["type"]) == (who, f"citywatch.message.{why}")
        )

    async def does(self, name: str, /, **body: Any) -> dict[str, Any]:
        answer = await self.gateway.post(f"alarms/{COVER.replace('/', '%2F')}/{name}", body)
        assert answer.status_code == 200, answer.text
        alarm: dict[str, Any] = answer.json()["alarm"]
        return alarm

    async def calls(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.gateway.get(f"alarms/{COVER.replace('/', '%2F')}/calls")
        return found


@pytest_asyncio.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    (tmp_path / "assets.json").write_text(json.dumps(CITY), encoding="utf-8")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "night.yaml").write_text(RULES, encoding="utf-8")
    (tmp_path / "routes.yaml").write_text(routes(3), encoding="utf-8")
    async with witness() as phones, mosquitto() as broker, publisher(broker.url) as client:
        settings = {
            "mqtt": [{"id": "main", "url": broker.url}],
            "assets": [str(tmp_path / "assets.json")],
            "rules": [str(tmp_path / "rules")],
            "routes": str(tmp_path / "routes.yaml"),
            "receivers": [{"name": "phones", "url": phones.url, "allow_loopback": True, "people_only": True}],
        }
        async with running_gateway(tmp_path, settings) as gateway:

            async def linked() -> bool:
                return bool((await gateway.get("health"))["parts"]["mqtt main"]["ok"])

            await gateway.until(linked, "the broker is there")
            yield Night(gateway, client, phones)


async def test_an_alarm_at_night_goes_from_one_to_the_next_until_somebody_acts(night: Night) -> None:
    await night.cover("closed")
    await night.cover("open")
    message = await night.until_told("li", "raised")
    [alarm] = message["data"]["alarms"]
    assert (alarm["alarm_id"], alarm["level"]) == (COVER, "I")
    words = json.dumps(message["data"], ensure_ascii=False)
    assert "水泊大街7号井" in words
    assert "立即围挡" in words
    [call] = (await night.calls())["calls"]
    assert [one["name"] for one in call["reached"]] == ["li"]
    assert (call["next"]["what"], [one["name"] for one in call["next"]["people"]]) == ("step", ["chief"])

    await night.until_told("chief", "escalated")  # nobody has done anything for three seconds
    await night.does("dispatch", to="crew")
    assert (await night.until_told("li", "work"))["data"]["about"] == "dispatched"
    assert (await night.does("accept"))["acked"] is True

    # From now on nobody is asked again; a kill changes nothing of it, and repeats nothing.
    before = list(night.told)
    await night.gateway.process.kill()
    await night.gateway.start()
    await asyncio.sleep(2.0)
    assert night.told == before

    await night.does("on-site")
    done = await night.does("done", cause_code="stolen", action="换新井盖")
    assert done["work"] == "VERIFYING"
    await night.cover("closed")
    await night.until_told("li", "cleared")
    await night.until_told("chief", "cleared")
    notifications = await night.gateway.all_pages("notifications", alarm=COVER)
    assert {(one["recipient"], one["kind"], one["state"]) for one in notifications if one["recipient"]} == {
        ("li", "raised", "delivered"), ("chief", "escalated", "delivered"), ("li", "work", "delivered"),
        ("li", "cleared", "delivered"), ("chief", "cleared", "delivered"),
    }  # fmt: skip
    assert (await night.calls())["calls"] == []
    keys = [request.headers["idempotency-key"] for request in night._phones.requests]
    assert len(keys) == len(set(keys))
