"""Case platforms out of the settings: every mistake before the start, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.case_platforms import LiveCaseWorld, platforms_of
from gateway.check import check_everything
from gateway.config.bundle import load_configuration
from gateway.config.receivers import CasePlatformSettings
from gateway.config.settings import Settings, load_settings
from gateway.core.model import MINUTE, Level
from gateway.errors import ConfigError
from gateway.notify.case_platform import CaseBook

RECEIVER = """
receivers:
  - type: case-platform
    name: city
    url: "http://127.0.0.1:9/cases"
    secret_file: out.key
    inbound_secret_file: in.key
    folder: drop
"""


def settings_of(folder: Path, text: str = RECEIVER, out: str = "one key", inbound: str = "another") -> Settings:
    (folder / "out.key").write_text(out)
    (folder / "in.key").write_text(inbound)
    (folder / "citywatch.yaml").write_text(f"data: data\n{text}", encoding="utf-8")
    return load_settings(folder / "citywatch.yaml")


def made_of(settings: Settings) -> object:
    def nothing() -> CaseBook:
        raise AssertionError("nobody asks")

    world = LiveCaseWorld(object.__new__(Gateway))
    return platforms_of(settings, ["manhole-open", "manhole-tilted", "lamp-out", "circuit-lost", "road-depth",
                                   "pipe-overflow", "heat-room-cold"], world, nothing, lambda: 0)  # fmt: skip


def test_a_platform_gets_cases_and_may_speak_with_its_own_key(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, RECEIVER + "    level: II\n    kinds: [manhole]\n")
    (options,) = settings.receivers
    assert isinstance(options, CasePlatformSettings)
    assert (options.folder, options.patience) == (tmp_path / "drop", 10 * MINUTE)
    found = platforms_of(settings, load_configuration(settings)[1].rules.rules, LiveCaseWorld(object.__new__(Gateway)),
                         lambda: None, lambda: 0)  # type: ignore[arg-type,return-value]  # fmt: skip
    (feed,) = found.feeds
    assert (feed.receivers, feed.level, feed.kinds, feed.cases, feed.simulated) == (
        ("city",), Level.II, ("manhole",), True, False,
    )  # fmt: skip
    assert found.speaking["city"].key == b"another"
    assert found.for_simulated == frozenset()


def test_one_of_simulated_assets_hears_of_no_other_and_without_a_key_nobody_speaks(tmp_path: Path) -> None:
    text = RECEIVER.replace("    inbound_secret_file: in.key\n", "    simulated: true\n")
    settings = settings_of(tmp_path, text)
    found = made_of(settings)
    assert found.for_simulated == {"city"}  # type: ignore[attr-defined]
    assert found.feeds[0].simulated is True  # type: ignore[attr-defined]
    assert found.speaking == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("out", "inbound", "said"),
    [
        ("same", "same", "must hold two keys"),
        ("same ", "same\n", "must hold two keys"),
        ("", "x", "a key is empty"),
        ("x", " \n", "a key is empty"),
    ],
)
def test_two_directions_have_two_keys(tmp_path: Path, out: str, inbound: str, said: str) -> None:
    """Else what we send could be sent back to us."""
    with pytest.raises(ConfigError, match=said):
        made_of(settings_of(tmp_path, out=out, inbound=inbound))


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("    folder: drop\n", "", "`folder` is missing"),
        ("    secret_file: out.key\n", "", "`secret_file` is missing"),
        ('"http://127.0.0.1:9/cases"', "ftp://x", "String should match pattern"),
        ("    folder: drop\n", "    folder: drop\n    patience: 13h\n", "between 1s and 12h"),
        ("    folder: drop\n", "    folder: drop\n    fields: x.yml\n", "name it .yaml"),
        ("    folder: drop\n", "    folder: drop\n    groups: [x]\n", "no such key"),
        ("case-platform", "case-plattform", "webhook, apprise, robot, mqtt or case-platform"),
    ],
)
def test_a_mistake_in_the_settings_is_told(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_of(tmp_path, RECEIVER.replace(wrong, right))


def test_check_reads_the_field_map_and_looks_for_the_keys(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("send: {fields: {event.key: a, case.key: b, asset.raod: c}}\n", encoding="utf-8")
    settings_of(tmp_path, RECEIVER.replace("in.key", "nothing.key") + "    fields: m.yaml\n")
    said = check_everything(tmp_path / "citywatch.yaml").lines()
    assert any("there is no file" in line and "nothing.key" in line for line in said), said
    assert any(line.startswith(f"{tmp_path / 'm.yaml'}:1: send.fields.asset.raod") for line in said), said


def test_people_are_not_told_through_a_case_platform(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(
        "people: [{person: li, channels: [{receiver: city}]}]\nroute: {}\n", encoding="utf-8"
    )
    settings = settings_of(tmp_path, RECEIVER + "routes: routes.yaml\n")
    with pytest.raises(ConfigError, match="the settings have no receiver city"):
        load_configuration(settings)
