"""What ``deploy/`` and ``docs/`` offer to operators is true: programs accept it, and it does what its words say."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import aiomqtt
import pytest
from pydantic import BaseModel

from gateway.config.assets import ATTRIBUTE_UNITS, TEXT_ATTRIBUTES, UNIT_OF_ENDING
from gateway.config.case_fields import load_case_fields, read_case_fields
from gateway.config.rules import load_rules
from gateway.config.settings import Settings, parse_settings
from gateway.config.shipped import read_tree, shipped
from gateway.core.case_facts import PATHS
from tests import servers

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))


def test_the_example_settings_are_right_and_name_every_part() -> None:
    text = (DEPLOY / "citywatch.yaml").read_text()
    settings = parse_settings(text, "citywatch.yaml", Path("/etc/citywatch"), {})
    assert settings.data == Path("/var/lib/citywatch")
    for name in Settings.model_fields:
        if name != "snapshots":  # nobody should have a reason to touch those
            assert re.search(rf"^(# )?{name}:", text, re.MULTILINE), f"{name} is not in the example"


def test_the_commented_parts_of_the_example_are_right_too() -> None:
    text = (DEPLOY / "citywatch.yaml").read_text()
    keys = "map|oidc|trusted_proxies|public_url|hj212|sinks|receivers|inbound|canary"
    shown = re.sub(rf"^( *)# (?=- id|  |({keys}):)", r"\1", text, flags=re.MULTILINE)
    settings = parse_settings(shown, "citywatch.yaml", Path("/etc/citywatch"), {})
    assert settings.console.map.roads == Path("/etc/citywatch/roads.geojson")
    assert settings.console.trusted_proxies == ("127.0.0.1",)
    assert settings.console.oidc is not None
    assert settings.console.oidc.roles["heads"] == "supervisor"
    assert [m.id for m in settings.mqtt] == ["main", "county"]
    assert settings.mqtt[1].password_file == Path("/etc/citywatch/secrets/county.password")
    assert [(h.id, h.port) for h in settings.hj212] == [("dust", 9212)]
    assert [s.name for s in settings.sinks] == ["county-influx"]
    assert [r.name for r in settings.receivers] == ["duty-desk", "mail", "sms", "crew-group", "wall", "city"]
    assert [r.type for r in settings.receivers] == ["webhook", "apprise", "apprise", "robot", "mqtt", "case-platform"]
    assert settings.console.public_url == "https://alarm.example.gov.cn"
    assert settings.inbound.sms is not None
    assert settings.canary is not None


def test_the_unit_starts_what_run_py_made() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "systemd" / "citywatch.service", encoding="utf-8")
    service = unit["Service"]
    assert service["ExecStart"].startswith("/opt/citywatch/.venv/bin/python -P -m gateway run --config ")
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 60, "gateway.app holds its sign of life back for up to 60 s"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("this test needs systemd-analyze")
    # The program it starts must exist: any will do.
    unit = (DEPLOY / "systemd" / "citywatch.service").read_text()
    unit = unit.replace("/opt/citywatch/.venv/bin/python", sys.executable)
    (tmp_path / "citywatch.service").write_text(unit)
    command = [program, "verify", "--man=no", str(tmp_path / "citywatch.service")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in answer.stderr.splitlines() if "citywatch.service" in line]
    assert complaints == []


async def test_mosquitto_with_these_settings_keeps_devices_apart_and_our_queue_safe() -> None:
    text = (DEPLOY / "mosquitto" / "citywatch.conf").read_text()
    not_here = (
        "listener",
        "cafile",
        "certfile",
        "keyfile",
        "tls_version",
        "allow_anonymous",
        "password_file",
        "acl_file",
    )
    replaced = ("persistence_location", "persistence ", "autosave_interval", "per_listener_settings")
    lines = [
        line
        for line in text.splitlines()
        if line and not line.startswith("#") and not line.startswith((*not_here, *replaced))
    ]
    broker_options = {
        "users": {"citywatch-gateway": "g", "lamp-1": "l", "lamp-2": "m"},
        "acl": (DEPLOY / "mosquitto" / "citywatch.acl").read_text(),
    }
    async with servers.mosquitto(**broker_options, lines=lines, persistence=True, autosave_interval_s=1) as broker:  # type: ignore[arg-type]

        def client(user: str, password: str, identifier: str, clean: bool = False) -> aiomqtt.Client:
            return aiomqtt.Client(
                "127.0.0.1", broker.port, username=user, password=password, identifier=identifier, clean_session=clean
            )

        async with client("citywatch-gateway", "g", "the-gateway") as gateway:
            await gateway.subscribe("citywatch/v1/+/+/telemetry", qos=1)
        # A thief with a device's password and our client id, and a device that speaks for another.
        async with client("lamp-2", "m", "citywatch-gateway", clean=True) as thief:
            await thief.publish("citywatch/v1/lamp/lamp-1/telemetry", "not mine", qos=1)
        async with client("lamp-1", "l", "lamp-1") as lamp:
            for number in range(1_500):  # more than mosquitto would keep by default
                await lamp.publish("citywatch/v1/lamp/lamp-1/telemetry", str(number), qos=1)
        await broker.stop()
        await broker.start()
        got: list[str] = []
        async with client("citywatch-gateway", "g", "the-gateway") as gateway:
            async for message in gateway.messages:
                got.append(bytes(message.payload).decode())
                if len(got) == 1_500:
                    break
        assert got == [str(number) for number in range(1_500)]


def test_the_manual_explains_every_setting() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()

    def keys(model: type[BaseModel], before: str) -> Iterator[str]:
        for name, setting in model.model_fields.items():
            inner = [a for a in (setting.annotation, *get_args(setting.annotation)) if isinstance(a, type)]
            models = [a for a in inner if issubclass(a, BaseModel)]
            several = "[]" if get_origin(setting.annotation) is tuple and models else ""
            if models:
                yield from keys(models[0], f"{before}{name}{several}.")
            else:
                yield before + name

    missing = [key for key in keys(Settings, "") if f"`{key}`" not in text]
    assert missing == []


def test_the_manual_names_every_attribute_with_its_unit() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for name in (*ATTRIBUTE_UNITS, *UNIT_OF_ENDING, *TEXT_ATTRIBUTES):
        assert name in text or re.fullmatch(r"L[2-5]", name), name


@pytest.mark.parametrize("file", ["README.md", "README.zh-CN.md", "CHANGELOG.md", *PAGES])
def test_no_link_of_the_documentation_leads_nowhere(file: str) -> None:
    page = ROOT / file
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


def test_the_example_field_map_is_right_by_the_shipped_rules() -> None:
    rules = load_rules({n: t for n, t in read_tree(shipped("rules")).items() if not n.startswith("tests/")})
    for file in (None, DEPLOY / "cases.fields.yaml"):
        read_case_fields(file, rules.rules)


def test_the_manual_names_every_fact_of_a_case() -> None:
    text = (ROOT / "docs" / "cases.md").read_text()
    for path in PATHS:
        group, _, name = path.partition(".")
        line = next(line for line in text.splitlines() if line.startswith(f"| `{group}.` |"))
        assert f"`{name}`" in line, path


def test_the_field_maps_in_the_manual_are_right() -> None:
    text = (ROOT / "docs" / "cases.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    send, receive = (next(block for block in blocks if key in block) for key in ("send:", "receive:"))
    load_case_fields(send + receive, "docs/cases.md")
