"""The command line: exit codes 0, 1 and 2, errors of one line that say what to do, answers that programs can read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway import __version__, inbox
from gateway.cli import main
from gateway.config.shipped import shipped
from gateway.core.assets_json import parse_assets
from gateway.lock import DataLock

REPOSITORY = Path(__file__).parents[1]
COMMANDS = ("demo", "run", "check", "decode", "test-rules", "backtest", "import-assets", "doctor", "simulate", "bench")

ASSETS = """\
assets:
  - {asset: L-001, kind: lamp, attributes: {rated_power: 100 W}}
devices:
  - {device: lc-001, asset: L-001, profile: generic/json-lamp}
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        (line,) = self.err.strip().splitlines()
        assert "Traceback" not in line
        return line


Cli = Callable[..., Answer]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Run one command in this process, as the entry point does."""

    def call(*words: str) -> Answer:
        capsys.readouterr()
        try:
            main(list(words))
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    yield call
    structlog.reset_defaults()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Settings with an asset file and a folder of rules; gives the folder."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "assets.yaml").write_text(ASSETS, encoding="utf-8")
    (tmp_path / "citywatch.yaml").write_text(
        "data: data\nassets: [assets.yaml]\nrules: [rules]\nconsole: {port: 0}\n", encoding="utf-8"
    )
    return tmp_path


# -- the whole --------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_each_has_help_of_its_own(cli: Cli) -> None:
    answer = cli("--help")
    assert answer.code == 0
    for command in COMMANDS:
        assert f"  {command} " in answer.out
        own = cli(command, "--help")
        assert own.code == 0
        assert own.out.startswith(f"Usage: citywatch {command}")


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert cli("--version").out == f"citywatch {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nosuch"],
        ["check", "--nosuch"],
        ["decode"],
        ["demo", "--devices", "3"],
        ["demo", "--for", "soon", "--no-browser"],
        ["demo", "--port", "http"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(cli: Cli, words: list[str]) -> None:
    answer = cli(*words)
    assert answer.code == 2
    assert "Traceback" not in answer.err


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).parent / "citywatch"
    for command in ([str(script)], [sys.executable, "-m", "gateway"]):
        done = subprocess.run(
            [*command, "decode", "eastron/sdm630", "--modbus", "4:0:43663333"],
            capture_output=True, text=True, timeout=60, check=True, cwd=REPOSITORY,
        )  # fmt: skip
        assert json.loads(done.stdout)["readings"][0]["value"] == 230.2
        assert not done.stderr


def test_debug_shows_the_traceback_and_nothing_else_does(cli: Cli) -> None:
    assert cli("run", "--config", "/nowhere.yaml").code == 2
    with pytest.raises(Exception, match="cannot be read"):
        main(["--debug", "run", "--config", "/nowhere.yaml"])


# -- decode -----------------------------------------------------------------------------------------------------------


def test_decode_gives_the_line_of_the_contract(cli: Cli) -> None:
    answer = cli("decode", "milesight/em320-tilt", "--hex", "01753C03D45CF6DF1B302A")
    assert answer.code == 0
    assert len(answer.out.splitlines()) == 1
    assert answer.json == {
        "profile": "milesight/em320-tilt",
        "device_time": None,
        "historical": False,
        "readings": [
            {"point": "battery", "value": 60, "unit": "%", "quality": "good"},
            {"point": "angle_x", "value": -12.34, "unit": "deg", "quality": "good"},
            {"point": "angle_y", "value": 35.67, "unit": "deg", "quality": "good"},
            {"point": "angle_z", "value": 54.0, "unit": "deg", "quality": "good"},
            {"point": "threshold_x", "value": "normal", "unit": "", "quality": "good"},
            {"point": "threshold_y", "value": "trigger", "unit": "", "quality": "good"},
            {"point": "threshold_z", "value": "normal", "unit": "", "quality": "good"},
        ],
        "error": None,
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # domain/devices.md C.2 … C.7, as captured or worked out there
        (
            ["milesight/em320-tilt", "--hex", "01 75 64 03 D4 00 00 01 00 50 46"],
            {"battery": 100, "angle_x": 0, "angle_z": 90},
        ),
        (["milesight/em500-udl", "--hex", "01756403821E00", "--attr", "mount_height=3.2"], {"level": 3.17}),
        (["eastron/sdm630", "--modbus", "4:0:43663333"], {"voltage_a": 230.2}),
        (["chint/dtsu666", "--modbus", "3:8198:450FE000"], {"voltage_a": 230.2}),
        (["qdy30a/level", "--modbus", "3:2:001100010099"], {"level": 0.153}),
        (["qdy30a/level", "--modbus", "3:2:00110001FFFB"], {"level": -0.005}),
        (["generic/load-cell", "--modbus", "3:8:0802", "--modbus", "3:80:00001590"], {"gvw": 55.2}),
        (["tuf/tuf-2000m", "--modbus", "3:0:00004148", "--modbus", "3:91:0052"], {"flow": 12.5}),
        (["generic/json-lamp", "--json", '{"power": 95.2, "on": true}'], {"power": 95.2, "on": True}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_decode_reads_what_the_vendors_papers_say(cli: Cli, words: list[str], expected: dict[str, Any]) -> None:
    answer = cli("decode", *words)
    assert (answer.code, answer.json["error"]) == (0, None)
    values = {reading["point"]: reading["value"] for reading in answer.json["readings"]}
    assert {point: values[point] for point in expected} == pytest.approx(expected)


def test_a_sentinel_is_a_bad_reading_with_its_reason_and_no_value(cli: Cli) -> None:
    """Decoded all the same: exit 0."""
    answer = cli("decode", "tuf/tuf-2000m", "--modbus", "3:0:00000000", "--modbus", "3:91:0049")
    flow = next(reading for reading in answer.json["readings"] if reading["point"] == "flow")
    assert (answer.code, flow["value"], flow["quality"]) == (0, None, "bad")
    assert "no signal" in flow["reason"]


def test_a_device_time_is_shown_and_belongs_to_all_readings(cli: Cli) -> None:
    answer = cli("decode", "generic/json-lamp", "--json", '{"ts": 1753000000, "values": {"power": 5}}')
    assert answer.json["device_time"] == "2025-07-20T08:26:40Z"


@pytest.mark.parametrize(
    ("payload", "says"),
    [('{"power": 1', "bad_payload"), ("", "empty"), ('{"power": 1, "power": 2}', "twice"), ("[1]", "bad_payload")],
)
def test_what_cannot_be_decoded_is_exit_1_with_the_error_in_the_answer(cli: Cli, payload: str, says: str) -> None:
    answer = cli("decode", "generic/json-lamp", "--json", payload)
    assert answer.code == 1
    assert answer.json["readings"] == []
    assert says in answer.json["error"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generic/json-lmap", "--json", "{}"], "did you mean `generic/json-lamp`"),
        (["generic/json-lamp"], "give one of --hex, --json, --modbus and --hj212"),
        (["generic/json-lamp", "--json", "{}", "--hex", "00"], "give one of"),
        (["milesight/em320-tilt", "--hex", "01zz"], "not hexadecimal"),
        (["eastron/sdm630", "--modbus", "4:0"], "write 4:0:43663333"),
        (["generic/json-lamp", "--json", "{}", "--attr", "height"], "not NAME=VALUE"),
        (["nowhere/profile.yaml", "--json", "{}"], "cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_of_decode_are_exit_2_in_one_line(cli: Cli, words: list[str], says: str) -> None:
    answer = cli("decode", *words)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.error


def test_a_profile_of_ones_own_is_tried_by_its_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "lamp.yaml"
    head = "title: {zh: 灯, en: Lamp}\nkind: lamp\ntransport: mqtt\nexpected_interval: 5m\n"
    file.write_text(head + "points:\n  power: {from: P, unit: kW}\n")
    answer = cli("decode", str(file), "--json", '{"P": 0.25}')
    assert answer.code == 0, answer
    assert answer.json["readings"] == [{"point": "power", "value": 250.0, "unit": "W", "quality": "good"}]
    file.write_text(file.read_text().replace("unit: kW", "unit: kg"))
    assert f"{file}:6:" in cli("decode", str(file), "--json", "{}").error


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_of_the_shipped_files_is_good(cli: Cli) -> None:
    answer = cli("check", "--json")
    assert (answer.code, answer.json["ok"], answer.json["mistakes"]) == (0, True, [])
    assert answer.json["counts"]["rules"] >= 10


def test_check_counts_the_assets_of_the_settings(cli: Cli, site: Path) -> None:
    answer = cli("check", "--config", str(site / "citywatch.yaml"))
    assert answer.code == 0
    assert "1 assets, 1 devices" in answer.out


def test_check_prints_every_mistake_with_file_line_and_key_and_is_exit_1(cli: Cli, site: Path) -> None:
    (site / "rules" / "ours.yaml").write_text("- rule: x\n  nonsense: 1\n")
    (site / "citywatch.yaml").write_text(
        "data: data\nrules: [rules]\nmqtt:\n  - {id: main, url: 'mqtt://b:1', password_file: nowhere}\n"
    )
    answer = cli("check", "--config", str(site / "citywatch.yaml"), "--json")
    assert answer.code == 1
    mistakes = answer.json["mistakes"]
    assert {
        "file": str(site / "rules" / "ours.yaml"),
        "line": 2,
        "key": "[0].nonsense",
        "message": "no such key",
    } in mistakes
    lines = cli("check", "--config", str(site / "citywatch.yaml")).out.splitlines()
    assert f"{site}/rules/ours.yaml:2: [0].nonsense: no such key" in lines
    assert lines[-1] == f"{len(mistakes)} mistakes"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("consle: {port: 1}\n", "1: consle: no such key: did you mean `console`?"),
        ("console: {port: 99999}\n", "1: console.port"),
        ("mqtt:\n  - {id: a}\n", "2: mqtt[0]"),
        ("data: ${NO_SUCH_VARIABLE_HERE}\n", "NO_SUCH_VARIABLE_HERE"),
        ("a: b: c\n", "not valid YAML"),
        ("data: x\ndata: y\n", "2: data: this key stands here twice"),
    ],
)
def test_mistakes_in_the_settings_are_told_with_their_place(cli: Cli, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "citywatch.yaml"
    file.write_text(text)
    checked = cli("check", "--config", str(file))
    assert checked.code == 1
    assert says in checked.out
    ran = cli("run", "--config", str(file))
    assert ran.code == 2
    assert f"{file}:" in ran.error
    assert says in ran.error


def test_assets_that_name_what_is_not_there_are_mistakes(cli: Cli, site: Path) -> None:
    (site / "assets.yaml").write_text(ASSETS.replace("generic/json-lamp", "generic/json-lmap"))
    answer = cli("check", "--config", str(site / "citywatch.yaml"))
    assert answer.code == 1
    assert f"{site / 'assets.yaml'}:4:" in answer.out
    assert "generic/json-lamp" in answer.out


# -- run --------------------------------------------------------------------------------------------------------------


def test_run_on_a_folder_that_is_taken_is_exit_2_and_names_who_has_it(cli: Cli, site: Path) -> None:
    lock = DataLock(site / "data")
    lock.take()
    try:
        answer = cli("run", "--config", str(site / "citywatch.yaml"))
    finally:
        lock.release()
    assert answer.code == 2
    assert "another gateway (process " in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_run_with_a_bad_rule_is_exit_2_before_anything_is_touched(cli: Cli, site: Path) -> None:
    (site / "rules" / "ours.yaml").write_text("- rule: x\n  nonsense: 1\n")
    answer = cli("run", "--config", str(site / "citywatch.yaml"))
    assert answer.code == 2
    assert f"{site}/rules/ours.yaml:2: [0].nonsense: no such key" in answer.err.splitlines()
    assert not (site / "data").exists()


# -- import-assets ----------------------------------------------------------------------------------------------------


def test_assets_are_handed_over_to_a_gateway_that_is_not_running(cli: Cli, site: Path) -> None:
    answer = cli("import-assets", str(site / "assets.yaml"), "--config", str(site / "citywatch.yaml"), "--json")
    assert answer.code == 0
    assert (answer.json["assets"], answer.json["devices"], answer.json["taken"]) == (1, 1, False)
    assert "when it starts" in answer.json["message"]
    ((_, payload),) = inbox.letters(site / "data")
    assets, devices = parse_assets(payload)
    assert ([a.asset for a in assets], [d.device for d in devices]) == (["L-001"], ["lc-001"])
    assert (site / "data" / "inbox").stat().st_mode & 0o077 == 0, "nobody else may write there"


def test_a_csv_is_as_good_as_a_yaml(cli: Cli, site: Path) -> None:
    file = site / "lamps.csv"
    file.write_text("asset,kind,device,profile\nL-7,lamp,lc-7,generic/json-lamp\n", encoding="utf-8")
    answer = cli("import-assets", str(file), "--config", str(site / "citywatch.yaml"))
    assert (answer.code, answer.out) == (
        0,
        "1 assets and 1 devices are handed over; the gateway takes them in when it starts\n",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ASSETS.replace("kind: lamp", "kind: lantern"), ":2:"),
        (ASSETS.replace("profile: generic/json-lamp", "profile: generic/nothing"), ":4:"),
        ("assets: 7\n", "assets"),
        ("\x00", "not valid YAML"),
    ],
)
def test_assets_with_mistakes_are_refused_whole(cli: Cli, site: Path, text: str, says: str) -> None:
    file = site / "more.yaml"
    file.write_text(text, encoding="utf-8")
    answer = cli("import-assets", str(file), "--config", str(site / "citywatch.yaml"))
    assert answer.code == 2
    assert str(file) in answer.err
    assert says in answer.err
    assert not list(inbox.letters(site / "data"))


def test_an_asset_file_that_is_not_there_is_exit_2(cli: Cli, site: Path) -> None:
    answer = cli("import-assets", str(site / "none.yaml"), "--config", str(site / "citywatch.yaml"))
    assert answer.code == 2
    assert "none.yaml" in answer.error


# -- test-rules -------------------------------------------------------------------------------------------------------


STORY = """\
rules: {rules}
assets: {{cover-1: {{kind: manhole}}}}
stories:
  - name: a cover that stands open
    input: [{{at: 0s, cover-1: {{tilt: 60}}}}]
    expect: [{{at: 1s, alarm: cover-1/manhole-open, state: {state}}}]
"""


def test_a_story_that_does_not_hold_is_exit_1_and_names_time_alarm_expected_and_got(cli: Cli, tmp_path: Path) -> None:
    story = tmp_path / "story.yaml"
    rules = shipped("rules") / "manhole.yaml"
    story.write_text(STORY.format(rules=rules, state="UNACK"))
    assert cli("test-rules", str(story)).code == 0
    story.write_text(STORY.format(rules=rules, state="ACKED"))
    answer = cli("test-rules", str(story))
    assert answer.code == 1
    for word in ("a cover that stands open", "cover-1/manhole-open", "ACKED", "UNACK", "1s"):
        assert word in answer.out, answer.out
    told = cli("test-rules", str(story), "--json")
    assert told.code == 1
    assert json.loads(told.out)


def test_the_shipped_stories_hold(cli: Cli) -> None:
    answer = cli("test-rules")
    assert answer.code == 0, answer.out
    assert answer.out.splitlines()[-1].endswith("0 do not")


def test_a_story_that_cannot_be_read_is_exit_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text("stories: 3\n")
    assert cli("test-rules", str(tmp_path / "story.yaml")).code == 2
    assert cli("test-rules", str(tmp_path / "nowhere")).code == 2


# -- bench ------------------------------------------------------------------------------------------------------------


def test_bench_lists_its_benchmarks_and_refuses_others(cli: Cli) -> None:
    listed = cli("bench", "list")
    assert listed.code == 0
    for name in ("ingest", "latency", "scale", "history", "recovery"):
        assert name in listed.out + listed.err
    assert cli("bench", "nosuch").code == 2
