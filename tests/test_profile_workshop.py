"""``citywatch profile new`` and ``try``: what is begun holds; what is wrong is said each time it is saved."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.core.profile import Transport
from gateway.core.vocabulary import KINDS
from gateway.errors import ConfigError
from gateway.profile_workshop import new_profile, try_again_and_again, verdict


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_begun_holds_as_it_is(tmp_path: Path, kind: str, transport: Transport) -> None:
    file = tmp_path / "town" / "device.yaml"
    assert [path.name for path in new_profile(file, kind, transport)] == ["device.yaml", "device.cases.yaml"]
    assert verdict(file) == (True, [f"{file}: 1 cases hold"])


def test_nothing_is_overwritten_and_a_kind_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "device.yaml"
    with pytest.raises(ConfigError, match="did you mean `lamp`"):
        new_profile(file, "lmp", Transport.MQTT)
    new_profile(file, "lamp", Transport.MQTT)
    written = file.read_text()
    with pytest.raises(ConfigError, match="is there already"):
        new_profile(file, "pump", Transport.MODBUS)
    assert file.read_text() == written
    with pytest.raises(ConfigError, match=r"a profile is a file"):
        new_profile(tmp_path / "device.cases.yaml", "lamp", Transport.MQTT)


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gauge.yaml"
    for arguments, code in (
        (["profile", "new", str(file), "--kind", "pipe", "--transport", "lorawan"], 0),
        (["profile", "try", str(file)], 0),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == code
    assert "1 cases hold" in capsys.readouterr().out
    file.write_text(file.read_text().replace("from: raw_value", "from: raw_valeu"))
    with pytest.raises(SystemExit) as end:
        main(["profile", "try", str(file)])
    assert end.value.code == 1
    assert "did you mean `raw_value`?" in capsys.readouterr().out


def test_each_time_it_is_saved_the_verdict_comes_again(tmp_path: Path) -> None:
    file = tmp_path / "gauge.yaml"
    new_profile(file, "pipe", Transport.MODBUS)
    told: list[tuple[bool, list[str]]] = []
    watching = threading.Thread(target=try_again_and_again, args=(file, lambda *said: told.append(said)), daemon=True)
    watching.start()
    good = file.read_text()
    for wanted, text in ((True, None), (False, good.replace("uint16", "uint61")), (True, good)):
        if text is not None:
            time.sleep(0.3)
            file.write_text(text)
        deadline = time.monotonic() + 15
        while not told or told[-1][0] is not wanted:
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
    assert any("there is no type `uint61` here: did you mean" in line for _, lines in told for line in lines)
