"""The description of the API: the same from the command as from a running console."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from tests.console.city import running


async def test_the_command_describes_what_a_running_console_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        served = (await client.get("/openapi.json")).json()
    with pytest.raises(SystemExit) as ended:
        main(["openapi"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == served


def test_the_document_can_be_written_to_a_file(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["openapi", "--output", str(tmp_path / "api.json")])
    assert "/api/v1/alarms" in json.loads((tmp_path / "api.json").read_text())["paths"]
