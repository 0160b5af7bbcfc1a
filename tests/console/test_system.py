"""The gateway's keepers over HTTP: figures, what is in force without its secrets, the files, and who was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.settings import parse_settings
from gateway.core.model import SECOND, Micros
from gateway.core.records import OutboxOutcome, OutboxState, Role, Scope
from gateway.errors import Mistake
from gateway.upkeep import redacted, without_secrets
from tests.console.city import START, record, running, step
from tests.console.living import Living, living

CITY: dict[str, Any] = {
    "assets": [{"asset": "lamp-1", "kind": "lamp"}],
    "devices": [{"device": "lc-1", "asset": "lamp-1", "profile": "generic/json-lamp"}],
}


# -- figures ----------------------------------------------------------------------------------------------------------


async def test_the_system_page_shows_every_part_and_how_far_each_follower_is(tmp_path: Path) -> None:
    sinks = [{"name": "influx", "url": "http://127.0.0.1:9/"}]
    receivers = [{"name": "ops", "url": "http://127.0.0.1:9/hook", "allow_loopback": True}]
    async with living(tmp_path, CITY, {"sinks": sinks, "receivers": receivers}) as gateway:
        for number in range(5):
            await gateway.say("citywatch/v1/lamp/lc-1/telemetry", b'{"power": %d}' % number)
        await gateway.until(lambda: gateway.gateway.pipeline.history_lag == 0)
        await gateway.until(lambda: gateway.gateway.forwarders[0].status.away_reason is not None)
        async with gateway.client(Role.VIEWER) as client:
            found = (await client.get("system")).json()
        assert (found["status"], found["reasons"]) == ("ok", [])
        assert found["version"]
        assert found["uptime_s"] >= 0
        assert found["site"] == {"name_zh": "城市更夫", "name_en": "citywatch", "timezone": "Asia/Shanghai"}
        assert set(found["rates"]) == {"frames", "readings", "transitions"}
        assert found["parts"]["journal"]["ok"] is True
        journal = found["journal"]
        assert journal["last_position"] >= journal["first_position"] == 1
        assert journal["bytes"] > 0
        assert {one["name"]: one["behind"] for one in found["followers"]}["historian"] == 0
        (sink,) = found["sinks"]
        assert (sink["name"], sink["written"], sink["behind"]) == ("influx", 0, journal["last_position"])
        assert sink["away_s"] is not None
        assert sink["reason"]
        assert [one["name"] for one in found["receivers"]] == ["log", "ops"]
        disk = found["disk"]
        assert disk["total_bytes"] > disk["free_bytes"] > disk["reserve_bytes"] == 256 << 20
        assert 0 < disk["used_percent"] < 100


async def test_the_system_page_is_for_who_sees_the_whole_city(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        found = (await client.get("/api/v1/system")).json()
        assert found["sinks"][0]["reason"] == "connection refused"
        assert found["receivers"][0]["down_since"] == "2025-07-20T06:30:00Z"
        assert (found["disk"]["used_percent"], found["site"]["name_en"]) == (40.0, "Liangshan operations centre")
        token = await console.gateway.store.create_token("narrow", Role.ADMIN, START, None, Scope(kinds=("pump",)))
        client.headers["Authorization"] = f"Bearer {token}"
        for path in ("system", "configuration"):
            assert (await client.get(f"/api/v1/{path}")).json()["code"] == "narrowed"


# -- configuration ----------------------------------------------------------------------------------------------------

SECRETS = """
data: /var/lib/citywatch
mqtt: [{id: main, url: "mqtts://gate:Pa55word@broker.example:8883", username: gate, password_file: /etc/pw}]
sinks: [{name: influx, url: "https://user:Pa55word@influx.example/api?token=Pa55word", token_file: /etc/token}]
receivers:
  - {name: chat, url: "https://oapi.example/robot/send/Pa55word?access_token=Pa55word", secret_file: /etc/secret}
console:
  oidc: {issuer: "https://id.example/city", client_id: cw, client_secret_file: /etc/oidc, default_role: viewer}
  map: {tiles: {url: "https://t.example/{z}/{x}/{y}.png?tk=Pa55word", attribution: a}}
journal: {keep: 36h, max_size: 3 GB}
modbus: {timeout: 2500 ms}
"""


def test_no_secret_is_shown_and_numbers_have_their_units() -> None:
    shown = redacted(parse_settings(SECRETS, "citywatch.yaml", Path("/etc"), {}))
    told = yaml.safe_dump(shown, allow_unicode=True)
    assert "Pa55word" not in told
    assert shown["mqtt"][0]["url"] == "mqtts://***@broker.example:8883"
    assert shown["sinks"][0]["url"] == "https://***@influx.example/api?token=***"
    assert shown["receivers"][0]["url"] == "https://oapi.example/***"
    assert shown["console"]["map"]["tiles"]["url"] == "https://t.example/{z}/{x}/{y}.png?tk=***"
    assert shown["console"]["oidc"]["client_secret_file"] == "/etc/oidc", "a path is no secret"
    assert shown["mqtt"][0]["password_file"] == "/etc/pw"
    assert (shown["journal"]["keep"], shown["journal"]["max_size"]) == ("36h", "3 GB")
    assert (shown["modbus"]["timeout"], shown["historian"]["keep"]) == ("2.5s", "90d")
    assert (shown["console"]["port"], shown["console"]["oidc"]["roles"]) == (8080, {})
    assert yaml.safe_load(told) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://h/p", "https://h/p"),
        ("https://u@h:1/p", "https://***@h:1/p"),
        ("mqtt://u:p@[::1]:1883", "mqtt://***@[::1]:1883"),
        ("https://h/p?a=1&b=2#f", "https://h/p?a=***&b=***"),
        ("https://h:99999/p", "***"),
    ],
)
def test_an_address_is_shown_without_what_opens_a_door(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


def files(folder: Path) -> tuple[Path, Path]:
    rules, assets = folder / "rules", folder / "assets.yaml"
    rules.mkdir(exist_ok=True)
    return rules / "ours.yaml", assets


RULE = """
- rule: too-warm
  title: {{zh: 过热, en: Too warm}}
  applies_to: {{kind: lamp}}
  when: {{point: power, above: {limit}, deadband: 1 W}}
  level: III
  consequence: It burns.
  response: {{zh: 关灯, en: Switch it off}}
  notify: [maintenance]
"""


async def test_the_files_are_checked_without_and_taken_over_with_a_reason(tmp_path: Path) -> None:
    rule, assets = files(tmp_path)
    rule.write_text(RULE.format(limit="100 W"), encoding="utf-8")
    async with (
        living(tmp_path, CITY, {"rules": [str(rule.parent)]}) as gateway,
        gateway.client(Role.ENGINEER) as client,
    ):
        before = (await client.get("configuration")).json()
        assert before["settings"]["site"]["timezone"] == "Asia/Shanghai"
        assert before["sources"]["settings"] == str(tmp_path / "citywatch.yaml")
        assert before["sources"]["rules"][-1] == str(rule.parent)
        assert before["sources"]["assets"] == [str(assets)]
        assert (before["mistakes"], before["rules"] > 50, before["profiles"] > 20) == ([], True, True)
        assert before["taken_over_at"] is not None
        same = (await client.post("configuration/check")).json()
        assert same == {
            "ok": True,
            "hash": before["hash"],
            "changes": False,
            "settings_changed": [],
            "mistakes": [],
        }
        rule.write_text(RULE.format(limit="100 kg"), encoding="utf-8")
        (tmp_path / "citywatch.yaml").write_text("console: {port: 99999}", encoding="utf-8")
        wrong = (await client.post("configuration/check")).json()
        assert (wrong["ok"], wrong["hash"], wrong["changes"]) == (False, None, False)
        assert [(mistake["file"], mistake["line"] is not None) for mistake in wrong["mistakes"]] == [
            (str(tmp_path / "citywatch.yaml"), True),
            (str(rule), True),
        ]
        assert (await client.post("configuration/reload", json={})).status_code == 422
        refused = (await client.post("configuration/reload", json={"why": "warmer summer"})).json()
        assert (refused["taken_over"], refused["configuration"]["hash"]) == (False, before["hash"])
        assert len(refused["configuration"]["mistakes"]) == 1
        rule.write_text(RULE.format(limit="120 W"), encoding="utf-8")
        settings = {"data": str(tmp_path / "data"), "console": {"port": 0}, "assets": [str(assets)]}
        changed = settings | {"rules": [str(rule.parent)], "site": {"name_en": "Elsewhere"}}
        (tmp_path / "citywatch.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
        right = (await client.post("configuration/check")).json()
        assert (right["ok"], right["changes"], right["settings_changed"]) == (True, True, ["site"])
        done = (await client.post("configuration/reload", json={"why": "warmer summer"})).json()
        assert (done["taken_over"], done["configuration"]["hash"]) == (True, right["hash"])
        assert done["configuration"]["taken_over_at"] > before["taken_over_at"]
        assert [(who, outcome, why) for who, action, outcome, why in await lines(gateway) if action == "reload"] == [
            ("engineer-1", "done", "warmer summer"),
            ("engineer-1", "invalid", "warmer summer"),
        ]


async def lines(gateway: Living) -> list[tuple[str, str, str, str | None]]:
    found = await gateway.gateway.store.audit(20)
    return [(line.who, line.action, line.outcome, line.why) for line in found.items]


async def test_who_may_see_check_and_reload(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        console.gateway.upkeep.mistakes = [Mistake("rules/a.yaml", 7, "when", "no such point")]
        for role in Role:
            async with console.client(role) as client:
                seen = await client.get("/api/v1/configuration")
                checked = await client.post("/api/v1/configuration/check")
                reloaded = await client.post("/api/v1/configuration/reload", json={"why": "x"})
                assert (seen.status_code == 200) is (role >= Role.SUPERVISOR)
                assert (checked.status_code == 200) is (role >= Role.ENGINEER)
                assert (reloaded.status_code == 200) is (role >= Role.ENGINEER)
        assert checked.json()["mistakes"] == [
            {"file": "rules/a.yaml", "line": 7, "key": "when", "message": "no such point"}
        ]
        assert reloaded.json()["taken_over"] is False
        assert console.gateway.upkeep.reloads == 2


# -- notifications ----------------------------------------------------------------------------------------------------


async def test_who_was_told_and_who_could_not_be(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        store = console.gateway.store
        store.receivers = lambda transition: ("ops",)
        await console.gateway.commit(*(step(record(name)) for name in ("lamp-1", "lamp-2", "pump-1")))
        one, two = await store.claim("ops", START + 99 * SECOND, SECOND, 2)
        ended: Micros = START + 5 * SECOND
        failed = OutboxOutcome(two.id, OutboxState.FAILED, ended, error="HTTP 410")
        await store.mark([OutboxOutcome(one.id, OutboxState.DELIVERED, ended), failed])

        async def of(state: str) -> list[dict[str, Any]]:
            items: list[dict[str, Any]] = (await client.get(f"/api/v1/notifications{state}")).json()["items"]
            return items

        assert len(await of("")) == 3
        (given_up,) = await of("?state=failed")
        assert (given_up["error"], given_up["ended_at"], given_up["due_at"]) == (
            "HTTP 410",
            "2025-07-20T06:30:05Z",
            None,
        )
        assert (given_up["receiver"], given_up["attempts"], given_up["cause"], given_up["level"]) == (
            "ops",
            1,
            "T3",
            "III",
        )
        assert given_up["alarm_id"] == f"{given_up['asset']}/lamp-out"
        (waiting,) = await of("?state=pending")
        assert waiting["due_at"] is not None
        assert len(await of("?state=delivered")) == 1
        page = (await client.get("/api/v1/notifications?limit=2")).json()
        rest = (await client.get("/api/v1/notifications", params={"cursor": page["cursor"]})).json()
        assert len({row["id"] for row in page["items"] + rest["items"]}) == 3
        assert (await client.get("/api/v1/notifications?state=odd")).status_code == 422
        assert (await client.get("/api/v1/notifications?cursor=x")).status_code == 400
        token = await store.create_token("narrow", Role.VIEWER, START, None, Scope(kinds=("pump",)))
        client.headers["Authorization"] = f"Bearer {token}"
        assert {row["asset"] for row in await of("")} == {"pump-1"}
