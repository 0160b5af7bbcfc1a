"""Devices over HTTP, over a whole gateway: points in trouble, raw frames, frames offered again, Modbus as polled."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.console import devices
from gateway.console.equipment import Trouble, TroubledPoint
from gateway.console.views import iso, micros
from gateway.core.model import HOUR, MINUTE, SECOND, Asset, AssetsChanged, FrameKind, ModbusCycle, ModbusRead, Quality
from gateway.core.records import Role, Scope
from gateway.core.registers import plan_reads
from tests.console.city import START, running
from tests.console.living import Living, living
from tests.core import chronicle

CITY = {
    "assets": [
        {"asset": "lamp-1", "kind": "lamp", "town": "梁山"},
        {"asset": "lamp-2", "kind": "lamp", "town": "别处"},
        {"asset": "cover-1", "kind": "manhole", "town": "梁山"},
        {"asset": "pipe-1", "kind": "pipe", "town": "梁山", "attributes": {"mount_height": 3}},
    ],
    "devices": [
        {"device": "lc-1", "asset": "lamp-1", "profile": "generic/json-lamp"},
        {"device": "lc-2", "asset": "lamp-2", "profile": "generic/json-lamp"},
        {"device": "cover-1", "asset": "cover-1", "profile": "generic/json-manhole", "address": "CV-0001"},
    ],
}
BURNING = {"on": True, "cmd_on": True, "dim": 100, "power": 95.0, "voltage": 221.0}


async def lamp(gateway: Living, device: str, **values: Any) -> None:
    await gateway.say(f"citywatch/v1/lamp/{device}/telemetry", json.dumps(BURNING | values).encode())


async def cover(gateway: Living, payload: bytes) -> None:
    await gateway.say("citywatch/v1/manhole/CV-0001/telemetry", payload)


async def got(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


# -- points in trouble ------------------------------------------------------------------------------------------------


async def test_points_that_are_silent_bad_or_uncertain_are_listed_with_reason_and_since_when(
    tmp_path: Path,
) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.VIEWER) as client:
        await lamp(gateway, "lc-1")
        await cover(gateway, b'{"tilt": 3.0, "battery": 90}')
        assert (await got(client, "points"))["items"] == []
        good_at = (await got(client, "assets/cover-1/points"))[0]["received_time"]
        await gateway.pass_time(20 * SECOND)
        await cover(gateway, b'{"tilt": 900.0, "battery": {"value": 80, "quality": "uncertain", "reason": "cold"}}')
        found = (await got(client, "points"))["items"]
        assert [(p["asset"], p["point"], p["state"], p["value"], p["device"]) for p in found] == [
            ("cover-1", "battery", "uncertain", 80, "cover-1"),
            ("cover-1", "tilt", "bad", None, "cover-1"),
        ]
        assert "out of range" in found[1]["reason"]
        assert found[1]["since"] == good_at
        assert found[1]["received_time"] > good_at
        await gateway.pass_time(46 * MINUTE)  # three times the 15 min of a lamp; a cover speaks every 12 h
        silent = (await got(client, "points", state="silent"))["items"]
        assert {(p["asset"], p["state"], p["quality"]) for p in silent} == {("lamp-1", "silent", "good")}
        assert {p["point"] for p in silent} >= {"power", "voltage", "on"}
        assert silent[0]["since"] == silent[0]["received_time"]
        for query, assets in (
            ({"state": "bad,uncertain"}, {"cover-1"}),
            ({"kind": "lamp"}, {"lamp-1"}),
            ({"q": "LC-1"}, {"lamp-1"}),
            ({"q": "nothing"}, set()),
        ):
            assert {p["asset"] for p in (await got(client, "points", **query))["items"]} == assets, query
        assert (await client.get("points?state=odd")).status_code == 422
        for cursor in ("x", "/x", "x/"):
            assert (await client.get("points", params={"cursor": cursor})).status_code == 400


async def test_pages_of_points_go_through_the_middle_of_an_asset(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.VIEWER) as client:
        for device in ("lc-1", "lc-2"):
            await lamp(gateway, device)
        await gateway.pass_time(HOUR)
        whole = [(p["asset"], p["point"]) for p in (await got(client, "points"))["items"]]
        assert len(whole) == 2 * len(BURNING)
        for limit in (1, 3, 5, 7):
            found: list[tuple[str, str]] = []
            cursor: str | None = None
            while True:
                page = await got(client, "points", limit=limit, **({"cursor": cursor} if cursor else {}))
                found += [(p["asset"], p["point"]) for p in page["items"]]
                cursor = page["cursor"]
                if cursor is None:
                    break
            assert found == whole


async def test_points_outside_a_scope_are_not_there(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway:
        for device in ("lc-1", "lc-2"):
            await lamp(gateway, device)
        await gateway.pass_time(HOUR)
        token = await gateway.narrowed(Role.SUPERVISOR, Scope(towns=("梁山",)))
        async with gateway.client(token=token) as client:
            assert {p["asset"] for p in (await got(client, "points"))["items"]} == {"lamp-1"}
            assert [d["device"] for d in (await got(client, "devices"))["items"]] == ["cover-1", "lc-1"]
            for path in ("devices/lc-2", "devices/lc-2/frames"):
                assert (await client.get(path)).status_code == 404


class ManyPoints:
    """Five silent points on every asset."""

    def troubles(self, asset_id: str) -> Sequence[TroubledPoint]:
        one = TroubledPoint(asset_id, "", Trouble.SILENT, 1.0, "", Quality.GOOD, None, START, START, "d")
        return [msgspec.structs.replace(one, point=f"p{n}") for n in range(5)]


async def test_fifty_thousand_assets_never_hold_the_loop_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst question: nothing fits, so all of them are looked at."""
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        many = [Asset(f"a-{n:05}", "lamp") for n in range(50_000)]
        for first in range(0, len(many), 5000):
            part = msgspec.json.encode({"assets": many[first : first + 5000], "devices": []})
            await console.gateway.store.commit(9 + first, [AssetsChanged(START, part)])
        monkeypatch.setattr(type(console.gateway), "equipment", ManyPoints())
        assert len((await client.get("/api/v1/points?limit=1000")).json()["items"]) == 1000
        held: list[float] = []

        async def watch() -> None:
            while True:
                began = time.thread_time()  # of this thread: what the other tests do on two shared cores is not ours
                await asyncio.sleep(0)
                held.append(time.thread_time() - began)

        watching = asyncio.create_task(watch())
        try:
            answer = await client.get("/api/v1/points?state=bad", timeout=60)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        assert answer.json() == {"items": [], "cursor": None}
        assert sum(held) > 0.05, "what it takes in all"
        assert max(held) < 0.012, "and the most at a time"


# -- devices and their frames -----------------------------------------------------------------------------------------


async def test_one_device_tells_its_profile_its_points_its_account_and_when_it_was_heard(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.VIEWER) as client:
        never = await got(client, "devices/lc-2")
        assert (never["last_heard"], never["online"], never["ledger"]) == (
            None,
            True,
            None,
        )  # for 45 min it may be quiet
        await lamp(gateway, "lc-1", power=96.5)
        await gateway.say("citywatch/v1/lamp/lc-1/telemetry", b"nonsense")
        found = await got(client, "devices/lc-1")
        assert (found["device"], found["asset"], found["kind"], found["profile"]) == (
            "lc-1",
            "lamp-1",
            "lamp",
            "generic/json-lamp",
        )
        assert (found["transport"], found["interval_s"], found["allowed_lateness_s"]) == ("mqtt", 900.0, 600.0)
        assert found["title"]["zh"]
        assert found["online"] is True
        power = next(point for point in found["points"] if point["point"] == "power")
        assert (power["unit"], power["type"], power["settable"]) == ("W", "number", False)
        assert (power["now"]["value"], power["now"]["received_time"]) == (96.5, found["last_heard"])
        assert next(point for point in found["points"] if point["point"] == "rssi")["now"] is None
        ledger = found["ledger"]
        assert (ledger["received"], ledger["stored"], ledger["rejected"]) == (2, 1, {"bad_payload": 1})
        await gateway.pass_time(50 * MINUTE)
        assert (await got(client, "devices/lc-1"))["online"] is False
        assert (await client.get("devices/nothing")).status_code == 404


async def test_the_profiles_say_what_a_device_can_be_and_where(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.VIEWER) as client:
        found = {one["profile"]: one for one in await got(client, "profiles")}
    assert found["generic/json-manhole"]["kinds"] == ["manhole"]
    assert found["generic/json-manhole"]["title"]["zh"]


async def test_devices_are_found_by_profile_and_by_part_of_a_name(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.VIEWER) as client:
        await lamp(gateway, "lc-1")

        async def ids(**query: Any) -> list[str]:
            return [device["device"] for device in (await got(client, "devices", **query))["items"]]

        assert await ids() == ["cover-1", "lc-1", "lc-2"]
        assert await ids(profile="generic/json-lamp") == ["lc-1", "lc-2"]
        assert await ids(q="cv-00") == ["cover-1"], "its address"
        assert await ids(q="LAMP-2") == ["lc-2"], "its asset"
        assert await ids(q="lc", profile="generic/json-manhole") == []
        first = (await got(client, "devices", limit=2))["items"][1]
        assert (first["device"], first["online"]) == ("lc-1", True)
        assert first["last_heard"] is not None


async def test_the_last_frames_of_a_device_come_with_what_they_say_now(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.VIEWER) as client:
        for number in range(5):
            await cover(gateway, b'{"tilt": %d.0}' % number)
            await lamp(gateway, "lc-1")
        await cover(gateway, b"\xff\xfe")
        found = await got(client, "devices/cover-1/frames", limit=3)
        newest, before, _ = found["items"]
        assert (newest["payload_text"], newest["payload_hex"], newest["payload_base64"]) == (None, "ff fe", "//4=")
        assert (newest["code"], newest["readings"]) == ("bad_payload", [])
        assert newest["error"]
        assert (before["address"], before["kind"]) == ("citywatch/v1/manhole/CV-0001/telemetry", "mqtt")
        assert json.loads(before["payload_text"]) == {"tilt": 4.0}
        assert [(r["point"], r["value"], r["unit"], r["quality"]) for r in before["readings"]] == [
            ("tilt", 4.0, "deg", "good")
        ]
        assert found["whole"] is False
        everything = await got(client, "devices/cover-1/frames", limit=100)
        assert len(everything["items"]) == 6
        assert everything["whole"] is True
        assert everything["searched_frames"] >= 11
        assert (await got(client, "devices/lc-2/frames"))["items"] == []
        assert (await client.get("devices/nothing/frames")).status_code == 404
        assert (await client.get("devices/cover-1/frames?limit=101")).status_code == 422


async def test_to_look_at_frames_changes_nothing_that_the_next_one_says(tmp_path: Path) -> None:
    """Energy of a meter with 24 bits that has wrapped, and a Sparkplug gauge that says only aliases."""
    city = {
        "assets": [{"asset": "lamp-3", "kind": "lamp"}, {"asset": "pipe-2", "kind": "pipe"}],
        "devices": [
            {"device": "volc-3", "asset": "lamp-3", "profile": "sls/volc2180"},
            {"device": "gauge-2", "asset": "pipe-2", "profile": "generic/json-pipe", "address": "E.gauge"},
        ],
    }
    made = [
        chronicle.sparkplug("NBIRTH/E", b"\x18\x00"),
        chronicle.sparkplug("DBIRTH/E/gauge", chronicle.BIRTH),
        chronicle.metered(16_777_000),
        chronicle.metered(500),
        chronicle.sparkplug("DDATA/E/gauge", chronicle.ALIASED),
    ]
    async with living(tmp_path, city) as gateway, gateway.client(Role.VIEWER) as client:
        for make in made:
            frame = make(0)
            await gateway.say(frame.address, frame.payload)
        before = gateway.gateway.pipeline.processor.snapshot()
        meter = (await got(client, "devices/volc-3/frames"))["items"]
        energy = [next(r["value"] for r in frame["readings"] if r["point"] == "energy") for frame in meter]
        assert energy == [16777.716, 16777.0]
        gauge = (await got(client, "devices/gauge-2/frames"))["items"]
        assert [frame["readings"][0]["value"] for frame in gauge] == [0.5, 0.5]
        assert [frame["error"] for frame in gauge] == [None, None]
        after = gateway.gateway.pipeline.processor
        assert msgspec.msgpack.decode(after.snapshot())["counters"] == msgspec.msgpack.decode(before)["counters"]
        assert msgspec.msgpack.decode(after.snapshot())["nodes"] == msgspec.msgpack.decode(before)["nodes"]
        assert after.sessions.wanted == []


# -- frames that are offered again ------------------------------------------------------------------------------------


async def rejected(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await got(client, "rejected", **query))["items"]
    return items


async def offer(client: httpx.AsyncClient, row: dict[str, Any], why: str = "profile mended") -> httpx.Response:
    return await client.post(f"rejected/{row['position']}/{row['index']}/replay", json={"why": why})


async def register(gateway: Living, device: str = "newcomer", asset: str = "pipe-1") -> None:
    async with gateway.client(Role.SUPERVISOR) as client:
        body = {"asset": asset, "profile": "generic/json-pipe"}
        assert (await client.post(f"unknown-devices/{device}/claim", json=body)).status_code == 201


FLOOD = b'{"level": 3.9, "freeboard": 0.0}'  # water at the cover: a level I alarm, were it now


async def test_a_stranger_that_was_claimed_gets_what_it_said_before(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.SUPERVISOR) as client:
        await gateway.say("citywatch/v1/pipe/newcomer/telemetry", b'{"level": 0.4}')
        (row,) = await rejected(client, device="newcomer")
        still = await offer(client, row)
        assert (still.status_code, still.json()["outcome"]) == (200, "unknown_device")
        await register(gateway)
        done = (await offer(client, row)).json()
        assert done == {"offered": True, "outcome": "stored", "reason": None, "readings": 1, "historical": 0}
        (point,) = await got(client, "assets/pipe-1/points")
        assert (point["value"], point["source_time"]) == (0.4, row["received_time"])
        ledger = (await got(client, "devices/newcomer"))["ledger"]
        assert (ledger["received"], ledger["stored"], ledger["balanced"]) == (1, 1, True)
        again = (await offer(client, row)).json()
        assert (again["outcome"], again["readings"]) == ("duplicate", 0)
        lines = [line for line in await audit(gateway) if line["action"] == "replay"]
        where = f"newcomer/{row['position']}/{row['index']}"
        assert [(line["who"], line["subject"], line["outcome"], line["why"]) for line in lines] == [
            ("supervisor-1", where, "duplicate", "profile mended"),
            ("supervisor-1", where, "stored", "profile mended"),
            ("supervisor-1", where, "unknown_device", "profile mended"),
        ]
        frames = (await got(client, "devices/newcomer/frames"))["items"]
        assert [frame["source"] for frame in frames] == [
            *[f"replay of {row['position']}/{row['index']}"] * 3,
            "main",
        ]


async def audit(gateway: Living) -> list[dict[str, Any]]:
    async with gateway.client(Role.ADMIN) as client:
        items: list[dict[str, Any]] = (await got(client, "audit"))["items"]
        return items


async def alarms_of(client: httpx.AsyncClient, asset: str) -> list[str]:
    return [alarm["alarm_id"] for alarm in (await got(client, "alarms", asset=asset))["items"]]


@pytest.mark.parametrize(("late", "live"), [(1 * MINUTE, True), (11 * MINUTE, False), (26 * HOUR, False)])
@pytest.mark.parametrize("stamped", [True, False])
async def test_only_a_frame_that_would_not_have_been_late_may_raise_an_alarm(
    tmp_path: Path, late: int, live: bool, stamped: bool
) -> None:
    """A flood that was reported by a device nobody had registered: with a time of its own, or without one."""
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.SUPERVISOR) as client:
        now = gateway.gateway.clock.now()
        payload = b'{"ts": %d, "values": %s}' % (now // 1000, FLOOD) if stamped else FLOOD
        await gateway.say("citywatch/v1/pipe/newcomer/telemetry", payload)
        (row,) = await rejected(client, device="newcomer")
        await register(gateway)
        await gateway.pass_time(late)
        done = (await offer(client, row)).json()
        assert (done["outcome"], done["readings"], done["historical"]) == ("stored", 2, 0 if live else 2)
        await gateway.pass_time(10 * MINUTE)  # whatever delay a rule has
        raised = await alarms_of(client, "pipe-1")
        assert bool([alarm for alarm in raised if "offline" not in alarm and "silent" not in alarm]) is live, raised
        assert bool(await got(client, "assets/pipe-1/points")) is live
        begin = gateway.gateway.clock.now() - 48 * HOUR
        await gateway.until(lambda: gateway.gateway.pipeline.history_lag == 0)
        query = {"asset": "pipe-1", "point": "level", "from": iso(begin)}
        kept = (await got(client, "readings", **query))["items"]
        assert [reading["value"] for reading in kept] == [3.9], "history has it, at the time when it was so"
        assert micros(kept[0]["time"]) <= micros(row["received_time"])


async def test_what_cannot_be_offered_again_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.SUPERVISOR) as client:
        await cover(gateway, b"x" * 5000)
        await gateway.say("spBv1.0/G/DDATA/E/gauge", b"\x18\x02")
        sparkplug, cut = await rejected(client)
        for row, said in ((cut, "4096 of its 5000 bytes"), (sparkplug, "session")):
            refused = await offer(client, row)
            assert (refused.status_code, refused.json()["code"]) == (409, "not_allowed")
            assert said in refused.json()["detail"]
        assert (await client.post("rejected/99999/0/replay", json={"why": "x"})).status_code == 404
        assert (await client.post("rejected/1/0/replay", json={})).status_code == 422
        async with gateway.client(Role.MAINTAINER) as other:
            assert (await offer(other, cut)).status_code == 403
        gateway.gateway.intake.close("disk full")
        await cover_kept(gateway)
        gateway.gateway.intake.reopen("disk full")


async def cover_kept(gateway: Living) -> None:
    """While no telemetry is taken, nothing is offered again either."""
    async with gateway.client(Role.SUPERVISOR) as client:
        await gateway.say("citywatch/v1/manhole/CV-0001/telemetry", b"{not json")
        row = (await rejected(client, device="cover-1"))[0]
        assert (await offer(client, row)).status_code == 503
        line = next(line for line in await audit(gateway) if line["action"] == "replay")
        assert line["outcome"] == "unavailable"


async def test_many_are_offered_at_once_and_told_by_outcome(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.SUPERVISOR) as client:
        for number in range(30):
            await gateway.gateway.intake.offer(
                FrameKind.MQTT, "main", "citywatch/v1/pipe/newcomer/telemetry", b'{"level": 0.%02d}' % number
            )
        await gateway.say("citywatch/v1/pipe/newcomer/telemetry", b"x" * 5000)
        await gateway.say("citywatch/v1/pipe/newcomer/telemetry", b"{broken")
        await register(gateway)
        body = {"device": "newcomer", "why": "claimed today"}
        done = (await client.post("rejected/replay", json=body)).json()
        assert done == {
            "offered": 31,
            "outcomes": {"bad_payload": 1, "stored": 30},
            "skipped": {"cut": 1},
            "cursor": None,
        }
        (point,) = await got(client, "assets/pipe-1/points")
        assert point["value"] == 0.29, "the newest of them, not the last in the list"
        again = (await client.post("rejected/replay", json=body)).json()
        assert again["outcomes"] == {"bad_payload": 1, "duplicate": 30}, "none of them a third time"
        by_code = (await client.post("rejected/replay", json={"code": "unknown_device", "why": "x"})).json()
        assert by_code["outcomes"] == {"bad_payload": 1, "duplicate": 30}
        assert (await client.post("rejected/replay", json={"why": "x"})).status_code == 422
        assert (await client.post("rejected/replay", json=body | {"cursor": "x"})).status_code == 400
        line = next(line for line in await audit(gateway) if line["action"] == "replay")
        assert (line["subject"], line["why"]) == ("code unknown_device", "x (1 bad_payload, 30 duplicate)")


async def test_more_than_fit_in_one_request_are_reached_by_the_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST_REPLAYED", 4)
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.SUPERVISOR) as client:
        for number in range(10):
            await cover(gateway, b"{broken %d" % number)
        body: dict[str, Any] = {"device": "cover-1", "why": "x"}
        offered = 0
        while True:
            done = (await client.post("rejected/replay", json=body)).json()
            offered += done["offered"]
            if done["cursor"] is None:
                break
            body["cursor"] = done["cursor"]
        assert offered == 10


async def test_frames_outside_a_scope_are_not_offered(tmp_path: Path) -> None:
    async with living(tmp_path, CITY) as gateway, gateway.client(Role.SUPERVISOR) as client:
        await gateway.say("citywatch/v1/lamp/lc-2/telemetry", b"{broken")
        await gateway.say("citywatch/v1/pipe/newcomer/telemetry", b"{}")
        rows = await rejected(client)
        token = await gateway.narrowed(Role.SUPERVISOR, Scope(towns=("梁山",)))
        async with gateway.client(token=token) as narrow:
            for row in rows:
                assert (await offer(narrow, row)).status_code == 404
            for body in ({"device": "lc-2"}, {"code": "bad_payload"}, {"code": "unknown_device"}):
                done = (await narrow.post("rejected/replay", json=body | {"why": "x"})).json()
                assert (done["offered"], done["skipped"]) == (0, {})


# -- Modbus -----------------------------------------------------------------------------------------------------------


async def test_modbus_is_shown_as_it_is_polled(tmp_path: Path) -> None:
    words = [SimData(0, values=[0] * 400, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    server = ModbusTcpServer(SimDevice(1, simdata=(bits, bits, words, words)), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    listener: Any = server.transport
    port = listener.sockets[0].getsockname()[1]
    city = {
        "assets": [{"asset": "station", "kind": "pump", "town": "梁山"}],
        "devices": [
            {"device": "cim-1", "asset": "station", "profile": "grundfos/cim", "address": f"127.0.0.1:{port}/1"},
        ],
    }
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.shutdown)
        gateway = await stack.enter_async_context(living(tmp_path, city))
        client = await stack.enter_async_context(gateway.client(Role.VIEWER))
        source = gateway.gateway.modbus
        assert source is not None
        await gateway.until(lambda: any(stats.cycles for stats in source.stats()))
        (line,) = (await got(client, "modbus"))["items"]
        assert (line["address"], line["connected"], line["reason"], line["writes"]) == (
            f"127.0.0.1:{port}",
            True,
            None,
            0,
        )
        (unit,) = line["units"]
        assert (unit["device"], unit["asset"], unit["unit"], unit["interval_s"]) == ("cim-1", "station", 1, 10.0)
        configuration = gateway.gateway.pipeline.processor.configuration
        assert configuration is not None
        profile = configuration.profiles["grundfos/cim"]
        assert [(b["function_code"], b["first_address"], b["count"]) for b in unit["blocks"]] == [
            (read.function_code, read.address, read.count) for read in plan_reads(profile)
        ]
        placed = [point for block in unit["blocks"] for point in block["points"]]
        assert {point["point"] for point in placed} <= {point.name for point in profile.points}
        for block in unit["blocks"]:
            for point in block["points"]:
                assert block["first_address"] <= point["address"]
                assert point["address"] + point["count"] <= block["first_address"] + block["count"]
        frames = await got(client, "devices/cim-1/frames", limit=1)
        (frame,) = frames["items"]
        assert (frame["kind"], frame["payload_text"]) == ("modbus", None)
        assert [read["error"] for read in frame["reads"]] == [None] * len(unit["blocks"])
        assert base64.b64decode(frame["payload_base64"])
        assert frame["readings"]
        token = await gateway.narrowed(Role.VIEWER, Scope(towns=("别处",)))
        async with gateway.client(token=token) as narrow:
            assert (await got(narrow, "modbus"))["items"] == []
        assert (await client.get("modbus?cursor=nowhere")).status_code == 400


def test_a_cycle_without_answers_shows_why() -> None:
    cycle = ModbusCycle([ModbusRead(3, 0, [], "no answer in 3 s", 12), ModbusRead(4, 7, [1, 2])])
    assert devices._reads(msgspec.msgpack.encode(cycle)) == [
        {"function_code": 3, "address": 0, "count": 12, "words": [], "error": "no answer in 3 s"},
        {"function_code": 4, "address": 7, "count": 2, "words": [1, 2], "error": None},
    ]
    assert devices._reads(b"\xc1") is None
