"""The HTTP API, asked over a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.console import models, views
from gateway.console.port import RawRow, StepRow
from gateway.core.component_code import Layout
from gateway.core.model import (
    MINUTE,
    SECOND,
    Asset,
    Condition,
    Frame,
    FrameKind,
    FrameRejected,
    Level,
    OutOfService,
    Quality,
    Rejection,
    Shelve,
)
from gateway.core.records import Role
from gateway.errors import CommandRefused, Unavailable
from tests.console.city import START, record, running, step


async def test_health_is_200_while_well_and_503_with_reasons_otherwise(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        well = await client.get("/api/v1/health")
        assert (well.status_code, well.json()["status"], well.json()["reasons"]) == (200, "ok", [])
        console.gateway.healthy = False
        ill = await client.get("/api/v1/health")
        assert (ill.status_code, ill.json()["reasons"], ill.json()["parts"]) == (503, ["journal: not well"], {})
        async with console.client(Role.VIEWER) as viewer:
            told = (await viewer.get("/api/v1/health")).json()
        assert told["reasons"] == ["journal: disk full"]
        assert told["parts"]["journal"]["ok"] is False


async def test_an_alarm_is_found_with_its_slash_encoded_or_not(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()), step(record(rule="history")))
        for path in ("lamp-1%2Flamp-out", "lamp-1/lamp-out", "lamp-1%2flamp-out"):
            found = await client.get(f"/api/v1/alarms/{path}")
            assert found.json()["alarm_id"] == "lamp-1/lamp-out"
            history = await client.get(f"/api/v1/alarms/{path}/history")
            assert [item["to"] for item in history.json()["items"]] == ["UNACK"]
        odd = await client.get("/api/v1/alarms/lamp-1%2Fhistory")
        assert odd.json()["alarm_id"] == "lamp-1/history"
        assert (await client.get("/api/v1/alarms/lamp-1%2Fhistory/history")).status_code == 200
        assert (await client.get("/api/v1/alarms/lamp-1%2Fnothing")).json()["code"] == "not_found"


async def test_the_list_filters_and_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(
            *(step(record(f"x-{i}", level=Level(i % 4 + 1))) for i in range(12)),
            step(record("s", shelve=Shelve.TIMED, unshelve_at=START)),
        )

        async def ids(query: str) -> list[str]:
            answer = await client.get(f"/api/v1/alarms?{query}")
            assert answer.status_code == 200, answer.text
            return [item["asset"] for item in answer.json()["items"]]

        assert await ids("level=I") == ["x-0", "x-4", "x-8"]
        assert len(await ids("level=I,ii&level=III&state=UNACK")) == 9
        assert await ids("state=SHLVD") == ["s"]
        assert await ids("q=X-11") == ["x-11"]
        assert len(await ids("kind=lamp&limit=1000")) == 13
        page = (await client.get("/api/v1/alarms?limit=5")).json()
        rest = (await client.get("/api/v1/alarms", params={"limit": 100, "cursor": page["cursor"]})).json()
        assert len({item["alarm_id"] for item in page["items"] + rest["items"]}) == 13
        assert rest["cursor"] is None


WRONG = [
    ("alarms?limit=0", 422),
    ("alarms?limit=1001", 422),
    ("alarms?state=LOUD", 422),
    ("alarms?level=5", 422),
    ("alarms?cursor=!!", 400),
    ("assets?state=odd", 422),
    ("assets/nothing", 404),
    ("assets/nothing/points", 404),
    ("readings?asset=lamp-1", 422),
    ("readings?asset=nothing&point=power", 404),
    ("readings?asset=lamp-1&point=power&from=2025-07-20T20:00:00", 422),
    ("readings?asset=lamp-1&point=power&from=yesterday", 422),
    ("readings?asset=lamp-1&point=power&from=2025-07-20T20:00:00Z&to=2025-07-20T19:00:00Z", 422),
    ("readings?asset=lamp-1&point=power&step=0s", 422),
    ("readings?asset=lamp-1&point=power&step=1y", 422),
    ("readings?asset=lamp-1&point=power&from=1990-01-01T00:00:00Z&step=1s", 422),
    ("readings?asset=lamp-1&point=power&cursor=1", 400),
    ("ledger?device=nothing", 404),
    ("nothing", 404),
    ("alarms/lamp-1%2Fnothing/why", 404),
]


async def test_what_is_wrong_is_a_problem_document_in_both_languages(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        for path, status in WRONG:
            answer = await client.get(f"/api/v1/{path}")
            assert answer.status_code == status, (path, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
            assert problem["status"] == status
            assert problem["titles"]["zh"]
            assert problem["title"] == problem["titles"]["en"]


async def test_why_shows_the_record_the_rule_and_what_the_asset_reports(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        why = (await client.get("/api/v1/alarms/lamp-1%2Flamp-out/why")).json()
        assert why["rule"]["when"] == {"point": "power"}
        assert why["last_transition"]["cause"] == "T3"
        assert why["points"][0]["value"] == 0.5
        assert why["points"][0]["source_time"] == "2025-07-20T06:30:00Z"
        assert why["explanation"]["reasons"][0] == {"code": "above", "zh": "条件成立", "en": "the condition is true"}
        assert why["explanation"]["rungs"][0]["distance"] == -19.5


async def test_why_also_says_why_an_alarm_that_never_was_does_not_stand(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        console.gateway.rows = [RawRow(console.gateway.now() - SECOND, 96.0, Quality.GOOD, None)]
        why = (await client.get("/api/v1/alarms/lamp-2%2Flamp-out/why")).json()
        assert (why["alarm"], why["last_transition"], why["explanation"]["stands"]) == (None, None, False)
        assert [sample["value"] for sample in why["samples"]["power"]] == [96.0]


async def test_operator_load_of_a_period_and_of_now(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        for number in range(12):
            await console.gateway.commit(step(record(f"lamp-{number}", rev=1)))
            console.gateway.watch.take(step(record(f"lamp-{number}", rev=1)))
        acked = record("lamp-0", rev=2, acked=True)
        await console.gateway.commit(step(acked, record("lamp-0"), "T10", notify=False))
        load = (
            await client.get(
                "/api/v1/operator-load", params={"since": "2025-07-20T06:30:00Z", "until": "2025-07-20T07:00:00Z"}
            )
        ).json()
        assert (load["alarms"], load["peak_10_min"], load["share_above_10"]) == (12, 12, 33.33)
        assert load["periods"] == [12, 0, 0]
        assert load["by_level"] == {"I": 0, "II": 0, "III": 12, "IV": 0}
        assert load["most_frequent"] == [{"rule": "lamp-out", "alarms": 12, "share": 100.0}]
        assert [flood["alarms"] for flood in load["floods"]] == [12]
        assert load["to_acknowledge"] == {"count": 1, "median_s": 2.0, "p90_s": 2.0, "longest_s": 2.0}
        assert load["now"]["alarms_10_min"] == 12
        assert load["now"]["flood"]["until"] is None
        for wrong in ({"since": "yesterday"}, {"since": "2025-07-20T07:00:00Z", "until": "2025-07-20T07:00:00Z"}):
            assert (await client.get("/api/v1/operator-load", params=wrong)).status_code == 422


async def test_a_rule_on_trial_is_compared_with_the_rule_in_force(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        for rule, shadow in (("lamp-out", False), ("lamp-out-strict", True)):
            for asset in ("lamp-1", "lamp-2") if not shadow else ("lamp-1",):
                up = record(asset, rule, shadow=shadow)
                over = record(asset, rule, rev=11, shadow=shadow, cond=Condition.NORMAL)
                await console.gateway.commit(step(up), step(over, up, "T6"))
        (found,) = (
            await client.get(
                "/api/v1/shadow", params={"since": "2025-07-20T06:00:00Z", "until": "2025-07-20T07:00:00Z"}
            )
        ).json()
        assert found == {
            "shadow": "lamp-out-strict", "other": "lamp-out", "occurrences": 1, "both": 1, "only_shadow": 0,
            "only_other": 1, "both_s": 10.0, "only_shadow_s": 0.0, "only_other_s": 10.0,
            "assets_that_differ": ["lamp-2"],
        }  # fmt: skip


# ------------------------------------------------------------------------------------------ actions


async def test_acknowledging_carries_who_why_and_the_rev_that_was_seen(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.OPERATOR) as client:
        await console.gateway.commit(step(record()))
        path = "/api/v1/alarms/lamp-1%2Flamp-out/acknowledge"
        done = await client.post(path, json={"rev": 1, "comment": "已派人"})
        assert done.status_code == 200
        assert (done.json()["alarm"]["state"], done.json()["alarm"]["rev"]) == ("ACKED", 2)
        (command,) = console.gateway.submitted
        assert (command.by, command.channel, command.rev, command.why) == ("operator-1", "api", 1, "已派人")
        stale = await client.post(path, json={"rev": 1})
        assert (stale.status_code, stale.json()["code"]) == (409, "stale_rev")
        assert (await client.post(path, json={})).status_code == 422
        assert (await client.post(path, json={"rev": 1, "by": "somebody else"})).status_code == 422
        assert (await client.post("/api/v1/alarms/x%2Fy/acknowledge", json={"rev": 1})).status_code == 404


async def test_the_same_idempotency_key_does_it_once(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.OPERATOR) as client:
        await console.gateway.commit(step(record()))
        path, key = "/api/v1/alarms/lamp-1%2Flamp-out/acknowledge", {"Idempotency-Key": "k-1"}
        one = await client.post(path, json={"rev": 1}, headers=key)
        two = await client.post(path, json={"rev": 1}, headers=key)
        assert one.status_code == two.status_code == 200
        assert one.json()["command_id"] == two.json()["command_id"]
        assert len(console.gateway.submitted) == 1
        refused = await client.post(path, json={"rev": 1}, headers={"Idempotency-Key": "k-2"})
        again = await client.post(path, json={"rev": 2}, headers={"Idempotency-Key": "k-2"})
        assert refused.status_code == again.status_code == 409
        other = await client.post(path.replace("acknowledge", "comment"), json={"rev": 2, "comment": "c"}, headers=key)
        assert other.status_code == 422
        assert (await client.post(path, json={"rev": 2}, headers={"Idempotency-Key": "a b"})).status_code == 422


async def test_a_level_i_alarm_is_shelved_by_a_supervisor_only_and_refusals_are_recorded(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.OPERATOR) as operator:
        await console.gateway.commit(step(record(level=Level.I)), step(record("lamp-2", level=Level.II)))
        body = {"rev": 1, "reason": "works", "seconds": 3600}
        refused = await operator.post("/api/v1/alarms/lamp-1%2Flamp-out/shelve", json=body)
        assert refused.status_code == 403
        assert (await operator.post("/api/v1/alarms/lamp-2%2Flamp-out/shelve", json=body)).status_code == 200
        async with console.client(Role.SUPERVISOR) as supervisor:
            assert (await supervisor.post("/api/v1/alarms/lamp-1%2Flamp-out/shelve", json=body)).status_code == 200
            lines = (await supervisor.get("/api/v1/audit")).json()["items"]
        outcomes = [(line["who"], line["action"], line["outcome"]) for line in lines]
        assert ("operator-1", "shelve", "forbidden") in outcomes
        assert [command.arguments["seconds"] for command in console.gateway.submitted] == [3600, 3600]
        no_end = await operator.post("/api/v1/alarms/lamp-2%2Flamp-out/shelve", json={"rev": 2, "reason": "r"})
        assert no_end.status_code == 422


# ------------------------------------------------------------------------------------------ the city


async def test_assets_come_as_json_or_geojson(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(step(record()))
        plain = (await client.get("/api/v1/assets?kind=lamp")).json()
        assert [(item["asset"], item["state"]) for item in plain["items"]] == [
            ("lamp-1", "alarm"),
            ("lamp-2", "normal"),
        ]
        geo = {"Accept": "application/geo+json"}
        drawn = await client.get("/api/v1/assets?state=alarm", headers=geo)
        assert drawn.headers["content-type"] == "application/geo+json"
        (feature,) = drawn.json()["features"]
        assert feature["geometry"] == {"type": "Point", "coordinates": [116.1, 35.8]}
        assert feature["properties"]["name"] == "一号灯"
        points = (await client.get("/api/v1/assets/lamp-1/points", headers=geo)).json()
        assert points["properties"]["points"]["power"]["value"] == 0.5
        assert (await client.get("/api/v1/assets/pump-1", headers=geo)).json()["geometry"] is None
        devices = (await client.get("/api/v1/devices?asset=lamp-1")).json()["items"]
        assert (devices[0]["device"], devices[0]["expected_interval_s"]) == ("d-1", 15.0)
        assert len((await client.get("/api/v1/devices")).json()["items"]) == 2


async def test_an_asset_has_its_component_code_in_parts(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        parts = {"code": "3708320103000001", "county": "370832", "major": "01", "minor": "03", "sequence": "000001"}
        lamp = (await client.get("/api/v1/assets/lamp-2")).json()
        assert (lamp["component"], lamp["attributes"]["component_code"]) == (parts, parts["code"])
        listed = (await client.get("/api/v1/assets?kind=lamp")).json()["items"]
        assert [one["component"] for one in listed] == [None, parts]
        feature = (await client.get("/api/v1/assets/lamp-2", headers={"Accept": "application/geo+json"})).json()
        assert feature["properties"]["component"] == parts


def test_a_code_that_is_none_of_the_layout_has_no_parts() -> None:
    coded = Asset("a", "lamp", attributes={"component_code": "3205080100100001"})
    assert views.component(coded, Layout.EXTENDED) is not None
    assert views.component(coded, Layout.CLASSIC) is None
    assert views.component(coded, None) is None
    assert views.component(Asset("a", "lamp"), Layout.CLASSIC) is None


async def test_raw_readings_page_without_gap_even_where_times_are_equal(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        times = [START + (i // 3) * SECOND for i in range(20)]
        console.gateway.rows = [RawRow(time, float(i), Quality.GOOD) for i, time in enumerate(times)]
        seen: list[float] = []
        cursor = None
        for _ in range(20):
            query = {"asset": "lamp-1", "point": "power", "from": "2025-07-20T14:30:00+08:00", "limit": "2"}
            answer = await client.get("/api/v1/readings", params=query | ({"cursor": cursor} if cursor else {}))
            seen += [item["value"] for item in answer.json()["items"]]
            cursor = answer.json()["cursor"]
            if cursor is None:
                break
        assert seen == [float(i) for i in range(20)]
        assert answer.json()["unit"] == "W"


async def test_stepped_readings_and_times_with_a_plus_that_became_a_space(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        console.gateway.rows = [StepRow(START + i * MINUTE, 4, 1.0, 2.0, 3.0, 2.5) for i in range(5)]
        times = "from=2025-07-20T14:30:00+08:00&to=2025-07-20T14:33:00+08:00"
        answer = (await client.get(f"/api/v1/readings?asset=lamp-1&point=power&step=1m&{times}")).json()
        assert answer["step_s"] == 60.0
        assert [item["time"] for item in answer["items"]] == [f"2025-07-20T06:3{i}:00Z" for i in range(3)]
        assert answer["items"][0] == {
            "time": "2025-07-20T06:30:00Z",
            "count": 4,
            "min": 1,
            "mean": 2,
            "max": 3,
            "last": 2.5,
            "bad": 0,
        }


async def test_the_ledger_in_all_and_by_device(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        whole = (await client.get("/api/v1/ledger?limit=1")).json()
        assert whole["received"] == whole["stored"] + whole["duplicate"] + whole["rejected_total"] + whole["in_flight"]
        assert [account["device"] for account in whole["devices"]] == ["d-1"]
        rest = (await client.get(f"/api/v1/ledger?cursor={whole['cursor']}")).json()
        assert [account["device"] for account in rest["devices"]] == ["d-2"]
        one = (await client.get("/api/v1/ledger?device=d-2")).json()
        assert (one["device"], one["devices"]) == ("d-2", [])


async def test_rejected_frames_are_shown_whatever_they_hold(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        for index, payload in enumerate([b'{"a":', b"\xff\xfe\0", b"<script>alert(1)</script>"]):
            frame = Frame(FrameKind.MQTT, "mqtt", "t", payload, START)
            event = FrameRejected(console.gateway.position + 1, index, frame, Rejection("bad_payload", "why", "d-1"))
            await console.gateway.commit(event)
        items = (await client.get("/api/v1/rejected?device=d-1")).json()["items"]
        assert [item["payload_text"] for item in items] == ["<script>alert(1)</script>", None, '{"a":']
        assert items[1]["payload_base64"] == "//4A"


async def test_strangers_are_listed_newest_first_and_claimed_by_a_supervisor(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        told = [("gauge-7", 1), ("gauge-8", 2), ("gauge-7", 3), ("d-1", 4)]
        for index, (name, second) in enumerate(told):
            frame = Frame(FrameKind.MQTT, "mqtt", f"topic/{second}", b"x", START + second * SECOND)
            rejection = Rejection("unknown_device", "nobody", name)
            await console.gateway.commit(FrameRejected(console.gateway.position + 1, index, frame, rejection))
        found = (await client.get("/api/v1/unknown-devices")).json()
        assert [(one["name"], one["frames"], one["topic"]) for one in found] == [
            ("gauge-7", 2, "topic/3"), ("gauge-8", 1, "topic/2"),
        ]  # fmt: skip
        assert found[0]["first_time"] < found[1]["last_time"] < found[0]["last_time"]
        assert len((await client.get("/api/v1/unknown-devices?limit=1")).json()) == 1

        claim, body = "/api/v1/unknown-devices/gauge-7/claim", {"asset": "lamp-2", "profile": "generic/json-lamp"}
        async with console.client(Role.OPERATOR) as operator:
            assert (await operator.post(claim, json=body)).status_code == 403
        wrong = await client.post(claim, json=body | {"asset": "lamp-9"})
        assert (wrong.status_code, wrong.json()["detail"]) == (422, "asset: there is no asset `lamp-9`")
        assert (await client.post(claim, json=body | {"colour": "red"})).status_code == 422
        async with console.client(Role.SUPERVISOR) as supervisor:
            done = await supervisor.post(claim, json=body | {"device": "g-7", "why": "new"})
        assert done.status_code == 201
        assert (done.json()["device"], done.json()["address"]) == ("g-7", "gauge-7")
        assert (await client.post(claim, json=body)).status_code == 409
        assert [one["name"] for one in (await client.get("/api/v1/unknown-devices")).json()] == ["gauge-8"]
        [line] = [one for one in (await client.get("/api/v1/audit")).json()["items"] if one["action"] == "claim"]
        assert (line["who"], line["subject"], line["why"]) == ("supervisor-1", "g-7", "new")


async def test_credentials_are_issued_and_revoked_by_an_administrator(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        path = "/api/v1/devices/d-1/credentials"
        async with console.client(Role.SUPERVISOR) as supervisor:
            assert (await supervisor.post(path)).status_code == 403
            assert (await supervisor.delete(path)).status_code == 403
        issued = await client.post(path)
        assert (issued.status_code, issued.json()) == (201, {"user": "d-1", "password": "a new password"})
        assert (await client.delete(path)).status_code == 204
        assert (await client.post("/api/v1/devices/d-9/credentials")).status_code == 404
        actions = [one["action"] for one in (await client.get("/api/v1/audit")).json()["items"]]
        assert actions[:2] == ["revoke-credentials", "issue-credentials"]


async def test_a_supervisor_sets_a_point_and_the_audit_knew_before_the_device(tmp_path: Path) -> None:
    path, body = "/api/v1/devices/d-1/points/setpoint", {"value": 45.26, "why": "storm tonight"}
    async with running(tmp_path) as console, console.client(Role.SUPERVISOR) as client:
        async with console.client(Role.OPERATOR) as operator:
            assert (await operator.post(path, json=body)).status_code == 403
        assert console.gateway.written == []
        done = await client.post(path, json=body)
        assert done.status_code == 200
        assert {**done.json(), "written_at": ""} == {
            "device": "d-1", "point": "setpoint", "value": 45.3, "written_at": "",
        }  # fmt: skip
        lines = (await client.get("/api/v1/audit")).json()["items"]
        assert [(line["who"], line["action"], line["subject"], line["outcome"]) for line in lines] == [
            ("supervisor-1", "write-point", "d-1/setpoint", "done"),
            ("supervisor-1", "write-point", "d-1/setpoint", "asked"),
        ]
        assert lines[0]["why"] == lines[1]["why"] == "45.26: storm tonight"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("d-9/points/setpoint", {}, 404, "not_found"),
        ("d-1/points/colour", {}, 404, "not_found"),
        ("d-1/points/setpoint", {"value": True}, 422, "invalid"),
        ("d-1/points/setpoint", {"value": "much"}, 422, "invalid"),
        ("d-1/points/setpoint", {"value": None}, 422, None),
        ("d-1/points/setpoint", {"value": [1]}, 422, None),
        ("d-1/points/setpoint", {"why": " "}, 422, None),
        ("d-1/points/setpoint", {"why": "w" * 501}, 422, None),
        ("d-1/points/setpoint", {"colour": "red"}, 422, None),
    ],
)
async def test_a_point_that_cannot_be_set_is_a_problem_and_the_refusal_is_recorded(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, code: str | None
) -> None:
    async with running(tmp_path) as console, console.client(Role.SUPERVISOR) as client:
        answer = await client.post(f"/api/v1/devices/{path}", json={"value": 1.5, "why": "w"} | body)
        assert (answer.status_code, answer.json()["code"]) == (status, code or "invalid")
        assert console.gateway.written == []
        outcomes = [line["outcome"] for line in (await client.get("/api/v1/audit")).json()["items"]]
        assert outcomes == ([] if code is None else [code, "asked"]), "a body of no known shape asks for nothing"


async def test_what_became_of_a_value_that_was_sent_is_said_and_recorded(tmp_path: Path) -> None:
    path, body = "/api/v1/devices/d-1/points/setpoint", {"value": 1.5, "why": "w"}
    async with running(tmp_path) as console, console.client(Role.SUPERVISOR) as client:
        doubt = "no answer within 3 s; it is not known whether the device carried it out"
        for fault, status, code in (
            (Unavailable(doubt), 503, "unavailable"),
            (CommandRefused("device_refused", "exception 03: illegal data value"), 409, "device_refused"),
        ):
            console.gateway.write_fault = fault
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (status, code, str(fault))
            assert (await client.get("/api/v1/audit")).json()["items"][0]["outcome"] == code
        console.gateway.writes_allowed = False
        off = await client.post(path, json=body)
        assert (off.status_code, off.json()["code"]) == (403, "writes_off")
        assert off.json()["titles"]["zh"] == "未启用远程下发"
        assert len(console.gateway.written) == 2


async def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "citywatch_up 1" in answer.text


# ------------------------------------------------------------------------------------------ shapes


def test_what_we_say_is_what_openapi_promises() -> None:
    """``views`` makes the answers, ``models`` describes them: the same members, and valid values."""
    out = OutOfService("W-1", "li", "painting", START)
    full = record(
        out_of_service=out, unshelve_at=START, parent_alarm_id="F1/x", suppressed_by=("F1/x",), acked_at=START
    )
    for model, view in (
        (models.AlarmView, views.alarm(record())),
        (models.AlarmView, views.alarm(full)),
        (models.TransitionView, views.transition(step(full))),
    ):
        checked = model.model_validate(view)
        assert set(view) == {field.alias or name for name, field in model.model_fields.items()}
        assert msgspec.json.decode(checked.model_dump_json(by_alias=True))["rev"] == view["rev"]


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (START + 500_000, "2025-07-20T06:30:00.5Z"),
        (10**18, "9999-12-31T23:59:59Z"),
        (-(10**18), "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_iso_8601_with_zone(at: int, text: str) -> None:
    assert views.iso(at) == text


@pytest.mark.parametrize(
    "text", ["2025-07-20T14:30:00+08:00", "2025-07-20T14:30:00 08:00", "2025-07-20T06:30:00Z", "2025-07-20 06:30:00Z"]
)
def test_times_are_read_however_a_url_mangles_them(text: str) -> None:
    assert views.micros(text) == START
