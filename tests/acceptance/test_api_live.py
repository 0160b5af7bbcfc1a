"""The API of a running gateway, table row by table row, with nothing between the caller and the real parts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.running import RunningGateway, listening, publisher, running_gateway
from tests.servers import mosquitto

COVER = "cover-1/manhole-open"
CITY = {
    "assets": [
        {"asset": "cover-1", "kind": "manhole", "road": "水泊大街", "longitude": 116.1, "latitude": 35.8},
        {"asset": "lamp-1", "kind": "lamp", "road": "水泊大街"},
        {"asset": "lamp-2", "kind": "lamp", "road": "忠义路"},
    ],
    "devices": [
        {"device": "cover-1", "asset": "cover-1", "profile": "generic/json-manhole"},
        {"device": "lamp-1", "asset": "lamp-1", "profile": "generic/json-lamp"},
        {"device": "lamp-2", "asset": "lamp-2", "profile": "generic/json-lamp"},
    ],
}


class Site:
    """A running gateway and a voice for its devices."""

    def __init__(self, gateway: RunningGateway, client: Any) -> None:
        self.gateway = gateway
        self._client = client
        self.sent = 0

    async def says(self, kind: str, device: str, **values: object) -> None:
        """Returns when it is decided."""
        await self._client.publish(f"citywatch/v1/{kind}/{device}/telemetry", json.dumps(values), qos=1)
        self.sent += 1
        await self.gateway.received(self.sent)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "assets.json").write_text(json.dumps(CITY), encoding="utf-8")
    async with mosquitto() as broker, publisher(broker.url) as client:
        settings = {"mqtt": [{"id": "main", "url": broker.url}], "assets": [str(tmp_path / "assets.json")]}
        async with running_gateway(tmp_path, settings) as gateway:

            async def linked() -> bool:
                return bool((await gateway.get("health"))["parts"]["mqtt main"]["ok"])

            await gateway.until(linked, "the broker is there")
            yield Site(gateway, client)


async def test_every_row_of_the_contract_on_a_running_gateway(site: Site) -> None:
    gateway = site.gateway
    await the_door(gateway)
    await assets_and_what_they_report(site)
    await an_alarm_from_raise_to_reset(site)
    await the_stream_goes_on_where_it_stopped(site)
    await readings_raw_and_by_step(site)
    await ledger_metrics_and_audit(site)


async def the_door(gateway: RunningGateway) -> None:
    """Public: health, the page, the description. Everything else wants a name, and some of it a role."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, verify=False) as nobody:
        for path in ("/", "/docs", "/openapi.json", "/api/v1/health"):
            assert (await nobody.get(path)).status_code == 200, path
        for path in ("/api/v1/alarms", "/api/v1/assets", "/api/v1/ledger", "/api/v1/stream", "/metrics"):
            refused = await nobody.get(path)
            assert refused.status_code == 401, path
            assert refused.headers["content-type"] == "application/problem+json"
        described = set((await nobody.get("/openapi.json")).json()["paths"])
    table = {
        "health",
        "assets",
        "assets/{asset_id}",
        "assets/{asset_id}/points",
        "readings",
        "alarms",
        "stream",
        "ledger",
    }
    assert {f"/api/v1/{path}" for path in table} <= described
    for action in ("acknowledge", "unacknowledge", "shelve", "unshelve", "out-of-service", "in-service", "reset",
                   "comment", "assign"):  # fmt: skip
        assert f"/api/v1/alarms/{{alarm_id}}/{action}" in described
    made = await gateway.post("tokens", {"name": "wall", "role": "viewer"})
    assert made.status_code == 201
    refused = await gateway.post(f"alarms/{COVER}/comment", {"rev": 0, "comment": "x"}, token=made.json()["token"])
    assert refused.status_code == 404, "there is no such alarm yet"


async def assets_and_what_they_report(site: Site) -> None:
    gateway = site.gateway
    await site.says("lamp", "lamp-1", power=95.0, on=True)
    names = [asset["asset"] for asset in await gateway.all_pages("assets", kind="lamp", road="水泊大街")]
    assert names == ["lamp-1"]
    async with gateway.client() as client:
        map_ = await client.get("assets", headers={"Accept": "application/geo+json"}, params={"kind": "manhole"})
        (feature,) = map_.json()["features"]
        assert feature["geometry"] == {"type": "Point", "coordinates": [116.1, 35.8]}
        assert (await client.get("assets/nobody")).status_code == 404
    points = {point["point"]: point for point in await gateway.get("assets/lamp-1/points")}
    assert (points["power"]["value"], points["power"]["unit"], points["power"]["quality"]) == (95.0, "W", "good")
    assert points["power"]["device"] == "lamp-1"
    own = {point["point"] for point in await gateway.get("assets/gateway/points")}
    assert "disk_used" in own, "the gateway reports about itself"


async def an_alarm_from_raise_to_reset(site: Site) -> None:
    gateway = site.gateway
    await site.says("manhole", "cover-1", tilt=70.0)
    (alarm,) = (await gateway.get("alarms", state="UNACK", level="I", kind="manhole"))["items"]
    assert (alarm["alarm_id"], alarm["value"], alarm["unit"]) == (COVER, 70.0, "deg")

    async def act(action: str, **body: object) -> httpx.Response:
        current = await gateway.get(f"alarms/{COVER}")
        return await gateway.post(f"alarms/{COVER}/{action}", {"rev": current["rev"], **body})

    viewer = (await gateway.post("tokens", {"name": "second-wall", "role": "viewer"})).json()["token"]
    forbidden = await gateway.post(f"alarms/{COVER}/acknowledge", {"rev": alarm["rev"]}, token=viewer)
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, "forbidden")
    stale = await gateway.post(f"alarms/{COVER}/acknowledge", {"rev": alarm["rev"] - 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "stale_rev")

    assert (await act("comment", comment="seen on camera 4")).status_code == 200
    assert (await act("acknowledge")).json()["alarm"]["state"] == "ACKED"
    assert (await act("unacknowledge", comment="wrong street")).json()["alarm"]["state"] == "UNACK"
    assert (await act("acknowledge")).status_code == 200
    assert (await act("assign", to="crew 3")).json()["alarm"]["assigned_to"] == "crew 3"
    refused = await act("reset")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_allowed"), "the cover is still open"
    await site.says("manhole", "cover-1", tilt=1.0)
    latched = await gateway.get(f"alarms/{COVER}")
    assert (latched["state"], latched["latched"]) == ("ACKED", True), "it waits for somebody who has looked"
    assert (await act("reset")).json()["alarm"]["state"] == "NORM"

    history = await gateway.all_pages(f"alarms/{COVER}/history")
    assert [step["rev"] for step in history] == list(range(len(history), 0, -1)), "no step is missing"
    assert [step["cause"] for step in history if step["cause"].startswith("T")][::-1] == [
        "T3", "T10", "T12", "T10", "T6", "T13",
    ]  # fmt: skip
    why = await gateway.get(f"alarms/{COVER}/why")
    assert (why["rule"]["id"], why["last_transition"]["cause"]) == ("manhole-open", "T13")


async def the_stream_goes_on_where_it_stopped(site: Site) -> None:
    async with listening(site.gateway) as stream:
        snapshot = await stream.next("snapshot")
        assert COVER not in {alarm["alarm_id"] for alarm in snapshot["alarms"]}
        last = stream.last_id
    await site.says("manhole", "cover-1", tilt=80.0)
    async with listening(site.gateway, last) as stream:
        missed = await stream.next()
        assert (missed["event"], missed["alarm_id"], missed["to"]) == ("alarm", COVER, "UNACK")
    # Many readers at once, each with the same news, and soon.
    async with asyncio.timeout(20):
        states = await asyncio.gather(*(_state_as_read(site.gateway) for _ in range(30)))
    assert states == ["UNACK"] * 30


async def _state_as_read(gateway: RunningGateway) -> str:
    """The cover's state as a new reader learns it: from its snapshot, or, when it shares one that another reader took
    a moment ago, from the transitions that follow it."""
    async with listening(gateway) as stream:
        snapshot = await stream.next("snapshot")
        state = next((a["state"] for a in snapshot["alarms"] if a["alarm_id"] == COVER), None)
        while state is None:
            event = await stream.next("alarm")
            state = event["to"] if event["alarm_id"] == COVER else None
        return str(state)


async def readings_raw_and_by_step(site: Site) -> None:
    gateway = site.gateway
    begin = int(time.time() // 60 * 60) - 300
    for i in range(6):
        await site.says("lamp", "lamp-2", ts=begin + i * 60, values={"power": 50.0 + i})

    async def stored() -> Any:
        items = (await gateway.get("readings", asset="lamp-2", point="power"))["items"]
        return items if len(items) == 6 else None

    items = await gateway.until(stored, "six readings")
    assert [item["value"] for item in items] == [50.0 + i for i in range(6)]
    paged: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = await gateway.get("readings", asset="lamp-2", point="power", limit=4, **cursor)
        paged += page["items"]
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
    assert paged == items
    span = {"from": _iso(begin), "to": _iso(begin + 360), "step": "2m"}
    steps = (await gateway.get("readings", asset="lamp-2", point="power", **span))["items"]
    assert sum(step["count"] for step in steps) == 6
    assert min(step["min"] for step in steps) == 50.0
    assert steps[-1]["last"] == 55.0


async def ledger_metrics_and_audit(site: Site) -> None:
    gateway = site.gateway
    ledger = await gateway.received(site.sent)
    assert (ledger["received"], ledger["stored"], ledger["balanced"]) == (site.sent, site.sent, True)
    one = await gateway.get("ledger", device="lamp-2")
    assert (one["received"], one["readings"]) == (6, 6)
    async with gateway.client() as client:
        assert (await client.get("ledger", params={"device": "nobody"})).status_code == 404
        text = (await client.get(f"{gateway.url}/metrics")).text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["citywatch_frames_total", (("outcome", "stored"), ("reason", ""))] == site.sent
    assert samples["citywatch_alarms", (("level", "I"), ("state", "UNACK"))] == 1
    assert samples["citywatch_previous_shutdown_clean", ()] == 1
    audit = await gateway.all_pages("audit")
    done = {(line["action"], line["outcome"]) for line in audit}
    assert {
        ("acknowledge", "done"),
        ("acknowledge", "forbidden"),
        ("acknowledge", "stale_rev"),
        ("reset", "done"),
    } <= done
    assert {line["who"] for line in audit} >= {"admin", "second-wall"}


def _iso(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
