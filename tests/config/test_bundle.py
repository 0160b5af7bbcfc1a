"""The configuration as one bundle: the operator's files over the shipped ones, a hash, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.check import check_everything
from gateway.config.bundle import (
    Bundle,
    compile_bundle,
    load_configuration,
    read_bundle,
    rule_origins,
    watched_folders,
)
from gateway.config.settings import Settings
from gateway.config.shipped import shipped
from gateway.errors import ConfigError

RULE = """\
- rule: lamp-hot
  title: {zh: 灯具过热, en: Lamp too hot}
  applies_to: {kind: lamp}
  when: {point: temp, above: 90 °C, deadband: 5 °C}
  level: IV
  consequence: The driver ages.
  response: {zh: 检查, en: Check}
  notify: [lighting-crew]
  source: test
"""
PROFILE = """\
title: {zh: 测试灯, en: Test lamp}
kind: lamp
transport: mqtt
expected_interval: 5m
points:
  power: {range: [0, 2000]}
"""


def folder(tmp_path: Path, name: str, **files: str) -> Path:
    path = tmp_path / name
    for file, text in files.items():
        target = path / f"{file}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return path


def test_what_is_shipped_compiles_and_neither_cases_nor_stories_are_part_of_it() -> None:
    bundle = read_bundle(Settings())
    assert not [name for name in bundle.profiles if name.endswith(".cases.yaml")]
    assert not [name for name in bundle.rules if name.startswith("tests/")]
    configuration = compile_bundle(bundle)
    assert configuration.hash == bundle.hash
    assert len(configuration.rules.rules) >= 10
    codecs = [name for name in bundle.profiles if name.endswith(".py")]
    assert codecs
    assert len(configuration.profiles) == len(bundle.profiles) - len(codecs)


def test_the_operators_files_are_added_and_one_of_the_same_name_replaces_the_shipped_one(tmp_path: Path) -> None:
    rules = folder(tmp_path, "rules", ours=RULE, lighting=RULE.replace("lamp-hot", "lamp-warm"))
    profiles = folder(tmp_path, "profiles", **{"town/lamp": PROFILE})
    bundle = read_bundle(Settings(rules=(rules,), profiles=(profiles,)))
    configuration = compile_bundle(bundle)
    assert "town/lamp" in configuration.profiles
    assert configuration.rules.get("lamp-hot") is not None
    assert configuration.rules.get("lamp-warm") is not None
    assert configuration.rules.get("lamp-out") is None, "the shipped lighting.yaml was replaced"


def test_the_hash_is_that_of_the_texts_whatever_the_order_and_changes_with_every_letter() -> None:
    one = Bundle({"a.yaml": "1", "b.yaml": "2"}, {"r.yaml": "3"})
    other = Bundle({"b.yaml": "2", "a.yaml": "1"}, {"r.yaml": "3"})
    assert one.hash == other.hash
    assert len(one.hash) == 32
    assert Bundle({"a.yaml": "1", "b.yaml": "2"}, {"r.yaml": "3 "}).hash != one.hash
    assert Bundle({"a.yaml": "1"}, {"b.yaml": "2", "r.yaml": "3"}).hash != one.hash


def test_a_bundle_survives_its_way_through_the_store() -> None:
    bundle = read_bundle(Settings())
    again = Bundle.from_json(bundle.to_json().decode())
    assert again == bundle
    assert again.hash == bundle.hash


@pytest.mark.parametrize("text", ["", "{", "[]", '{"profiles": 1}'])
def test_what_is_not_a_bundle_is_a_mistake_not_a_crash(text: str) -> None:
    with pytest.raises(ConfigError, match="not a configuration bundle"):
        Bundle.from_json(text)


def test_mistakes_of_profiles_and_rules_are_told_together_with_file_line_and_key(tmp_path: Path) -> None:
    rules = folder(tmp_path, "rules", ours=RULE.replace("deadband", "dedband"))
    profiles = folder(tmp_path, "profiles", ours=PROFILE.replace("range", "rnage"))
    with pytest.raises(ConfigError) as caught:
        load_configuration(Settings(rules=(rules,), profiles=(profiles,)))
    (profile,) = [m for m in caught.value.mistakes if "rnage" in m.key]
    assert (profile.file, profile.line, "did you mean `range`" in profile.message) == (
        str(profiles / "ours.yaml"),
        6,
        True,
    )
    (rule,) = [m for m in caught.value.mistakes if "dedband" in m.key]
    assert (rule.file, rule.line, "did you mean `deadband`" in rule.message) == (str(rules / "ours.yaml"), 4, True)


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read_bundle(Settings(rules=(tmp_path / "nowhere",)))


def test_the_folders_to_watch_are_the_shipped_ones_and_the_operators(tmp_path: Path) -> None:
    settings = Settings(rules=(tmp_path / "r",), profiles=(tmp_path / "p",))
    expected = [shipped("device_profiles"), shipped("rules"), tmp_path / "p", tmp_path / "r"]
    assert watched_folders(settings) == expected


# -- what was changed at the console ------------------------------------------------------------------------------


def changed_at_the_console(tmp_path: Path, **files: str) -> Settings:
    """Settings of a data folder in which these rules were changed."""
    folder(tmp_path, "data/rules/console", **files)
    return Settings(data=tmp_path / "data")


def test_a_rule_of_the_console_replaces_the_one_of_its_id_and_nothing_else(tmp_path: Path) -> None:
    ours = RULE.replace("lamp-hot", "lamp-out")
    settings = changed_at_the_console(tmp_path, **{"lamp-out": ours, "lamp-hot": RULE})
    bundle, configuration = load_configuration(settings)
    shipped_rules = compile_bundle(read_bundle(Settings())).rules
    assert set(configuration.rules.rules) == {*shipped_rules.rules, "lamp-hot"}
    changed = configuration.rules.get("lamp-out")
    assert changed is not None
    assert (changed.title_en, changed.file, changed.line) == ("Lamp too hot", "console/lamp-out.yaml", 1)
    assert [one for one in configuration.rules.rules if one != "lamp-hot"] == list(shipped_rules.rules), "in its place"
    assert all(configuration.rules.get(one.id) == one for one in shipped_rules if one.id != "lamp-out")
    assert Bundle.from_json(bundle.to_json()) == bundle, "a replay lays it over too"
    assert compile_bundle(bundle).rules == configuration.rules


def test_a_folder_without_changes_has_the_hash_it_always_had(tmp_path: Path) -> None:
    settings = changed_at_the_console(tmp_path)
    assert read_bundle(settings).hash == read_bundle(Settings()).hash
    assert b'"console":' not in read_bundle(settings).to_json()


def test_settings_that_name_no_data_folder_look_into_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_at_the_console(tmp_path, **{"lamp-hot": RULE})
    monkeypatch.chdir(tmp_path)
    assert read_bundle(Settings()).console == {}


@pytest.mark.parametrize(
    ("name", "text", "line", "said"),
    [
        ("lamp-hot", RULE.replace("deadband", "dedband"), 4, "did you mean `deadband`"),
        ("lamp-out", RULE, 1, "this must be the rule lamp-out"),
        ("lamp-hot", RULE + RULE.replace("lamp-hot", "lamp-warm"), 1, "must be one rule, not 2"),
        ("lamp-hot", "", 1, "a rule file is a list"),
        ("lamp-hot", "[]", 1, "must be one rule, not 0"),
        ("lamp-hot", "- [", 1, "not valid YAML"),
        ("lamp-hot", RULE + "  suppress_when: [{cause: circuit-lots}]\n", 10, "did you mean `circuit-lost`"),
        ("bridge-strain-instrument", RULE.replace("lamp-hot", "bridge-strain-instrument"), 1, "alarm of bridge-strain"),
    ],
)
def test_a_mistake_in_it_names_its_file(tmp_path: Path, name: str, text: str, line: int, said: str) -> None:
    settings = changed_at_the_console(tmp_path, **{name: text})
    with pytest.raises(ConfigError) as caught:
        load_configuration(settings)
    (mistake,) = caught.value.mistakes
    assert mistake.file == str(tmp_path / "data" / "rules" / "console" / f"{name}.yaml")
    assert mistake.line == line
    assert said in mistake.message


def test_a_change_can_be_looked_at_before_it_is_on_the_disk(tmp_path: Path) -> None:
    settings = changed_at_the_console(tmp_path, **{"lamp-hot": RULE})
    _, other = load_configuration(settings, {"console/lamp-warm.yaml": RULE.replace("lamp-hot", "lamp-warm")})
    assert other.rules.get("lamp-warm") is not None
    assert other.rules.get("lamp-hot") is None
    assert list((tmp_path / "data" / "rules" / "console").iterdir()) == [
        tmp_path / "data" / "rules" / "console" / "lamp-hot.yaml"
    ]


def test_the_check_of_a_configuration_looks_at_what_was_changed_at_the_console(tmp_path: Path) -> None:
    changed_at_the_console(tmp_path, **{"lamp-hot": RULE.replace("90 °C", "ninety")})
    (tmp_path / "citywatch.yaml").write_text("data: data\n", encoding="utf-8")
    report = check_everything(tmp_path / "citywatch.yaml")
    assert not report.ok
    assert str(report.mistakes[0]).startswith(str(tmp_path / "data" / "rules" / "console" / "lamp-hot.yaml:4: "))


def test_files_know_whether_they_were_shipped(tmp_path: Path) -> None:
    rules = folder(tmp_path, "rules", ours=RULE, lighting=RULE.replace("lamp-hot", "lamp-warm"))
    origins = rule_origins(Settings(rules=(rules,)))
    assert (origins["ours.yaml"], origins["lighting.yaml"], origins["drainage.yaml"]) == ("site", "site", "shipped")
