"""The configuration as one bundle: the operator's files over the shipped ones, a hash, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.bundle import Bundle, compile_bundle, load_configuration, read_bundle, watched_folders
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
