"""citywatch.yaml: every mistake at once, with its line; secrets only from files and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.settings import Settings, load_settings, parse_settings, size
from gateway.errors import ConfigError

HERE = Path("/etc/citywatch")


def parse(text: str, **environment: str) -> Settings:
    return parse_settings(text, "citywatch.yaml", HERE, environment)


def test_an_empty_file_is_a_gateway_on_loopback_without_sources() -> None:
    settings = parse("")
    assert settings.console.host == "127.0.0.1"
    assert settings.mqtt == ()
    assert settings.data == HERE / "data"


def test_paths_are_relative_to_the_file() -> None:
    settings = parse("data: d\nassets: [a.csv, /b.yaml]\n")
    assert settings.data == HERE / "d"
    assert settings.assets == (HERE / "a.csv", Path("/b.yaml"))


def test_environment_variables_are_filled_in_and_missing_ones_are_mistakes() -> None:
    assert parse("mqtt: [{url: '${BROKER}'}]", BROKER="mqtt://b:1").mqtt[0].url == "mqtt://b:1"
    with pytest.raises(ConfigError, match=r"citywatch.yaml:1: mqtt\[0\].url: the environment has no variable BROKER"):
        parse("mqtt: [{url: '${BROKER}'}]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mqtt: [{embeded: true}]", "no such key: did you mean `embedded`?"),
        ("mqtt: [{}]", "say either `embedded: true` or `url"),
        ("mqtt: [{embedded: true, url: mqtt://x}]", "say either"),
        ("mqtt: [{url: http://x}]", "url must be mqtt://"),
        ("mqtt: [{id: a, embedded: true}, {id: b, embedded: true}]", "only one embedded broker"),
        ("mqtt: [{url: mqtt://a}, {url: mqtt://b}]", "two mqtt entries are called 'main'"),
        ("console: {port: 70000}", "console.port"),
        ("disk: {reserve: lots}", "not a size"),
        ("snapshots: {interval: soon}", "not a duration"),
        ("- a\n", "must be a mapping"),
        ("data: a\ndata: b\n", "stands here twice"),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert said in str(caught.value)


def test_all_mistakes_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("dta: x\nconsole:\n  port: x\nmqtt: [{}]\n")
    assert sorted(m.line or 0 for m in caught.value.mistakes) == [1, 3, 4]


def test_a_version_written_as_a_number_is_understood() -> None:
    assert parse("mqtt: [{embedded: true, version: 5}]").mqtt[0].version == "5"


def test_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


@pytest.mark.parametrize(("text", "number"), [("256 MB", 256 << 20), ("2 GiB", 2 << 30), (7, 7), ("1.5k", 1536)])
def test_sizes(text: str | int, number: int) -> None:
    assert size(text) == number
