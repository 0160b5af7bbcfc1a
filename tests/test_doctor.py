"""``citywatch doctor`` against the real thing: brokers up and down, ports taken, sinks away, a gateway at work."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli import main
from gateway.disk import DiskRoom
from gateway.doctor import Finding, examine
from gateway.errors import ConfigError
from gateway.lock import DataLock
from tests.servers import free_port, mosquitto, victoria_metrics


@pytest.fixture(autouse=True)
def honest_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test machines keep /tmp in memory, and doctor is right to call that a lie."""
    monkeypatch.setattr("gateway.doctor.sync_probe", lambda folder: 900.0)


def settings(tmp_path: Path, **more: Any) -> Path:
    file = tmp_path / "citywatch.yaml"
    usual = {"data": str(tmp_path / "data"), "console": {"port": 0}}
    file.write_text(yaml.safe_dump(usual | more), encoding="utf-8")
    return file


async def found(file: Path) -> dict[str, Finding]:
    """Findings by subject; of several about one subject the first that is bad, else the first."""
    findings = await asyncio.to_thread(examine, file)
    by_subject: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda f: f.ok):
        by_subject.setdefault(finding.subject, finding)
    return by_subject


@contextmanager
def taken() -> Iterator[int]:
    """A port somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


async def test_a_healthy_site_is_all_ok_and_nothing_is_left_behind(tmp_path: Path) -> None:
    file = settings(tmp_path, mqtt=[{"embedded": True, "port": free_port()}], console={"port": free_port()})
    findings = await found(file)
    assert {"files", "gateway", "disk", "sync", "clock", "database", "console", "mqtt main"} <= set(findings)
    assert all(finding.ok for finding in findings.values()), findings
    assert os.listdir(tmp_path) == [file.name], "it looks from outside and touches nothing"


async def test_a_broker_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    async with mosquitto() as broker:
        file = settings(tmp_path, mqtt=[{"id": "main", "url": broker.url}])
        assert (await found(file))["mqtt main"].ok
        texts = [f.text for f in await asyncio.to_thread(examine, file) if f.subject == "mqtt main"]
        assert any("answers" in text for text in texts)
        assert any("persistence true" in text for text in texts), "its loss window, and what narrows it"
        await broker.stop()
        down = (await found(file))["mqtt main"]
    assert not down.ok
    assert f"127.0.0.1:{broker.port} does not answer" in down.text


async def test_a_broker_with_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    finding = (await found(settings(tmp_path, mqtt=[{"url": "mqtt://no-such-host.invalid"}])))["mqtt main"]
    assert not finding.ok
    assert "no-such-host.invalid:1883 does not answer" in finding.text


async def test_a_broker_that_speaks_no_tls_where_tls_is_asked_for(tmp_path: Path) -> None:
    async with mosquitto() as broker:
        file = settings(tmp_path, mqtt=[{"url": broker.url.replace("mqtt://", "mqtts://")}])
        assert not (await found(file))["mqtt main"].ok


async def test_ports_in_use_are_told_unless_it_is_our_own_gateway(tmp_path: Path) -> None:
    with taken() as port:
        file = settings(tmp_path, console={"port": port}, mqtt=[{"embedded": True, "port": port}])
        findings = await found(file)
        for subject in ("console", "mqtt main"):
            assert not findings[subject].ok
            assert f"port {port} on 127.0.0.1" in findings[subject].text
            assert "stop who holds it" in findings[subject].text
        lock = DataLock(tmp_path / "data")
        lock.take()
        try:
            findings = await found(file)
        finally:
            lock.release()
        assert findings["gateway"].text == "is running"
        assert findings["console"].ok
        assert "by the running gateway" in findings["console"].text


async def test_a_sink_that_is_there_and_one_that_is_away(tmp_path: Path) -> None:
    async with victoria_metrics() as database:
        file = settings(tmp_path, sinks=[{"name": "vm", "url": database.url}])
        assert (await found(file))["sink vm"].ok
        await database.stop()
        away = (await found(file))["sink vm"]
    assert not away.ok
    assert "does not answer" in away.text


async def test_a_receiver_that_does_not_answer(tmp_path: Path) -> None:
    port = free_port()
    hook = {"name": "desk", "url": f"http://127.0.0.1:{port}/alarms", "allow_loopback": True}
    finding = (await found(settings(tmp_path, receivers=[hook])))["receiver desk"]
    assert not finding.ok
    assert f"127.0.0.1:{port} does not answer" in finding.text


async def test_a_disk_without_room_a_clock_of_1970_and_a_sync_that_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.disk.room", lambda folder: DiskRoom(free=1 << 20, total=100 << 30))
    monkeypatch.setattr("gateway.doctor.sync_probe", lambda folder: 3.0)
    monkeypatch.setattr("time.time", lambda: 86_400.0)
    findings = await found(settings(tmp_path))
    assert "below the reserve" in findings["disk"].text
    assert "would not survive a power cut" in findings["sync"].text
    assert "plainly wrong" in findings["clock"].text
    assert not any(findings[subject].ok for subject in ("disk", "sync", "clock"))


async def test_mistakes_in_the_files_are_one_finding_and_unreadable_settings_an_error(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "ours.yaml").write_text("- rule: x\n  nonsense: 1\n")
    finding = (await found(settings(tmp_path, rules=[str(rules)])))["files"]
    assert not finding.ok
    assert "mistakes" in finding.text
    with pytest.raises(ConfigError, match="cannot be read"):
        await asyncio.to_thread(examine, tmp_path / "none.yaml")


def test_the_command_prints_a_line_a_finding_and_answers_with_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["doctor", *words])
        return int(end.value.code or 0), capsys.readouterr().out

    file = settings(tmp_path)
    code, text = run("--config", str(file))
    assert code == 0
    assert all(line.startswith("ok   ") for line in text.splitlines())
    code, text = run("--config", str(file), "--json")
    assert code == 0
    assert {"subject": "gateway", "ok": True, "text": "is not running"} in json.loads(text)
    with taken() as port:
        code, text = run("--config", str(settings(tmp_path, console={"port": port})))
    assert code == 1
    assert [line for line in text.splitlines() if line.startswith("BAD  console")]


async def test_every_modbus_device_s_read_plan_is_told_and_whether_it_can_be_reached(tmp_path: Path) -> None:
    assets = tmp_path / "assets.yaml"
    with taken() as port:
        document = {
            "assets": [{"asset": "pump-1", "kind": "pump"}, {"asset": "well-1", "kind": "pipe"}],
            "devices": [
                {"device": "plc", "asset": "pump-1", "profile": "generic/pump-station-3p",
                 "address": f"127.0.0.1:{port}/1", "expected_interval": "2s"},
                {"device": "away", "asset": "well-1", "profile": "qdy30a/level",
                 "address": f"127.0.0.1:{free_port()}/7"},
                {"device": "cim", "asset": "pump-1", "profile": "grundfos/cim", "address": f"127.0.0.1:{port}/2"},
                {"device": "wired", "asset": "well-1", "profile": "qdy30a/level",
                 "address": "serial:/dev/ttyNOWHERE:9600:8N1/7"},
            ],
        }  # fmt: skip
        assets.write_text(yaml.safe_dump(document), encoding="utf-8")
        findings = await found(settings(tmp_path, assets=[str(assets)]))
    plc, away, wired = (findings[f"modbus {name}"] for name in ("plc", "away", "wired"))
    assert (plc.ok, away.ok, wired.ok) == (True, False, False)
    assert f"unit 1 on 127.0.0.1:{port}, every 2 s: 3:0+39 (" in plc.text
    assert "every 60 s: 3:2+3 (3 values)" in away.text
    assert "there is no /dev/ttyNOWHERE" in wired.text
    told = "; may be set (switched off): p1_operation, p1_setpoint 0 to 100 %; "
    assert told in findings["modbus cim"].text
    assert "may be set" not in plc.text
