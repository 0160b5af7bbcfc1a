"""Path tests through a whole gateway: each hop measured, a lost one is an alarm, and it stands nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.canary import HOPS, Canary
from gateway.core.model import SECOND, IsaState
from gateway.core.records import CanaryOutcome, OutboxState, Role
from tests.console.living import Living, living
from tests.notify.witness import hang, status, witness

CITY = {"assets": [{"asset": "lamp-1", "kind": "lamp"}]}


def settings(folder: Path, url: str, people: tuple[str, ...] = ("zhang",), patience: str = "10s") -> dict[str, Any]:
    """A desk's webhook as everybody's channel; the canary goes to ``people``."""
    routes = folder / "routes.yaml"
    known = [{"person": name, "channels": [{"receiver": "desk", "to": "1"}]} for name in ("zhang", "li")]
    routes.write_text(yaml.safe_dump({"people": known, "canary": [f"person:{name}" for name in people]}))
    return {
        "routes": str(routes),
        "receivers": [{"name": "desk", "url": url, "allow_loopback": True, "people_only": True}],
        "canary": {"every": "15m", "patience": patience},
    }


def canary_of(house: Living) -> Canary:
    canary = house.gateway.canary
    assert canary is not None
    return canary


async def lost(house: Living) -> IsaState | None:
    await asyncio.sleep(0.1)
    await house.gateway.pipeline.settled()
    record = await house.gateway.store.alarm("gateway/canary-lost")
    return None if record is None else record.isa_state


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await ask():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_every_hop_is_measured_and_nothing_stands(tmp_path: Path) -> None:
    async with witness() as seen, living(tmp_path, CITY, settings(tmp_path, seen.url, ("zhang", "li"))) as house:
        row = await canary_of(house).fly()
        assert row.outcome is CanaryOutcome.DELIVERED
        assert tuple(row.hops) == HOPS
        assert all(0 <= milliseconds < 5000 for milliseconds in row.hops.values())
        events = [request.event for request in seen.requests]
        assert sorted(event["subject"] for event in events) == ["li", "zhang"]
        assert {event["type"] for event in events} == {"citywatch.message.canary"}
        assert events[0]["data"]["text"].endswith("一切正常，无需处理。")
        record = await house.gateway.store.alarm("gateway/canary")
        assert record is not None
        assert (record.isa_state, record.value) == (IsaState.NORM, int(row.id))
        assert not [alarm for alarm in await house.gateway.store.standing(100) if alarm.rule == "canary"]
        assert house.gateway.view.load().count == 0

        # No feed hears of it: only the two messages went into the outbox.
        async def only_those() -> bool:
            return (await house.gateway.store.counts())["outbox"] == {OutboxState.DELIVERED.value: 2}

        await until(only_those)
        async with house.client(Role.VIEWER) as client:
            (told,) = (await client.get("canaries")).json()["items"]
            assert (told["id"], told["outcome"]) == (row.id, "delivered")
            assert told["hops"]["handed_over"] == row.hops["handed_over"]
            figures = (await client.get(f"{house.gateway.addresses.console_url}/metrics")).text
        assert 'citywatch_canary_seconds_count{hop="handed_over"} 1.0' in figures
        assert await lost(house) in (None, IsaState.NORM)


async def test_one_that_does_not_arrive_is_an_alarm_until_the_next_one_does(tmp_path: Path) -> None:
    async with witness(hang) as seen, living(tmp_path, CITY, settings(tmp_path, seen.url, patience="1s")) as house:
        row = await canary_of(house).fly()
        assert row.outcome is CanaryOutcome.LOST
        assert "stored" in row.hops
        assert "handed_over" not in row.hops
        assert await lost(house) is IsaState.UNACK
        await house.pass_time(2 * SECOND)
        again = await canary_of(house).fly()
        assert again.outcome is CanaryOutcome.DELIVERED
        assert await lost(house) is IsaState.RTNUN
        rows = (await house.gateway.store.canaries.newest(10)).items
        assert [one.outcome for one in rows] == [CanaryOutcome.DELIVERED, CanaryOutcome.LOST]


async def test_one_that_comes_after_all_was_late(tmp_path: Path) -> None:
    async with (
        witness(status(503), status(503)) as seen,
        living(tmp_path, CITY, settings(tmp_path, seen.url, patience="1s")) as house,
    ):
        assert (await canary_of(house).fly()).outcome is CanaryOutcome.LOST
        await seen.until(3)

        async def was_late() -> bool:
            return (await house.gateway.store.canaries.newest(1)).items[0].outcome is CanaryOutcome.LATE

        await until(was_late)


async def test_without_anybody_to_tell_it_proves_the_path_to_the_store(tmp_path: Path) -> None:
    async with witness() as seen, living(tmp_path, CITY, settings(tmp_path, seen.url, ())) as house:
        row = await canary_of(house).fly()
        assert row.outcome is CanaryOutcome.DELIVERED
        assert tuple(row.hops) == ("journaled", "decided", "stored")
        assert seen.requests == []


async def test_without_settings_there_is_none(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as house:
        assert house.gateway.canary is None
        async with house.client(Role.VIEWER) as client:
            assert (await client.get("canaries")).json() == {"items": [], "cursor": None}


@pytest.mark.parametrize(("level", "rule"), [("I", "gateway-notify-failed"), ("IV", "gateway-notify-failed-minor")])
async def test_what_nobody_got_is_an_alarm_by_how_much_it_mattered(tmp_path: Path, level: str, rule: str) -> None:
    """The desk refuses for good; the log, which is another receiver, tells of it."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "test.yaml").write_text(
        f"""- rule: test-dark
  title: {{zh: 灯灭, en: Dark}}
  applies_to: {{kind: lamp}}
  when: {{point: power, below: 5 W, level: {level}, deadband: 1 W}}
  response: {{zh: 看, en: Look}}
  notify: [platform]
""",
        encoding="utf-8",
    )
    city = {
        "assets": [{"asset": "lamp-1", "kind": "lamp"}],
        "devices": [{"device": "d-1", "asset": "lamp-1", "profile": "generic/json-lamp"}],
    }
    async with witness(*[status(410)] * 50) as seen:
        more = {
            "rules": [str(rules)],
            "receivers": [{"name": "desk", "url": seen.url, "allow_loopback": True, "kinds": ["lamp"]}],
        }
        async with living(tmp_path, city, more) as house:
            await house.say("citywatch/v1/lamp/d-1/telemetry", b'{"power": 0.5, "on": true}')

            async def raised() -> bool:
                record = await house.gateway.store.alarm(f"gateway/{rule}")
                return record is not None and record.isa_state is IsaState.UNACK

            await until(raised)
            other = {"gateway-notify-failed", "gateway-notify-failed-minor"} - {rule}
            assert await house.gateway.store.alarm(f"gateway/{other.pop()}") is None

            async def told_by_the_log() -> bool:
                rows = await house.gateway.store.outbox_rows(OutboxState.DELIVERED, 50)
                return any(key.startswith(f"gateway/{rule}/") and key.endswith("/log") for key, _ in rows)

            await until(told_by_the_log)
