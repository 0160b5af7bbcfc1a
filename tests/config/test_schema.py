"""The JSON Schemas for editors: everything that is shipped fits, and what is plainly wrong does not."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from gateway.cli import main
from gateway.config.profiles import CASES
from gateway.config.schema import What, schema_of
from gateway.config.shipped import read_tree, shipped
from gateway.config.yaml_source import read_yaml
from simulators.city import asset_document, build_city, ports_from

PROFILES = {name: text for name, text in read_tree(shipped("device_profiles")).items() if not name.endswith(CASES)}
RULES = {name: text for name, text in read_tree(shipped("rules")).items() if not name.startswith("tests/")}


def wrong(what: What, document: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(schema_of(what)).iter_errors(document)]


@pytest.mark.parametrize("what", ["profile", "rules", "assets"])
def test_it_is_a_schema(what: What, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(what))
    with pytest.raises(SystemExit) as end:
        main(["schema", what])
    assert end.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out) == schema_of(what)


@pytest.mark.parametrize("file", sorted(PROFILES))
def test_every_shipped_profile_fits(file: str) -> None:
    assert wrong("profile", _as_json(read_yaml(PROFILES[file], file).data)) == []


@pytest.mark.parametrize("file", sorted(RULES))
def test_every_shipped_rule_fits(file: str) -> None:
    assert wrong("rules", read_yaml(RULES[file], file).data) == []


def test_the_demo_s_assets_fit() -> None:
    city = build_city(1, 120)
    assert wrong("assets", asset_document(city, ports_from(502, city.modbus_devices))) == []


GOOD = {"title": {"zh": "试验", "en": "Trial"}, "kind": "lamp", "transport": "mqtt", "expected_interval": "1m",
        "points": {"power": None}}  # fmt: skip
RULE = {"rule": "x", "applies_to": {"kind": "lamp"}, "when": {"point": "power", "above": 5}}


@pytest.mark.parametrize(
    ("what", "document"),
    [
        ("profile", GOOD | {"kind": "lmp"}),
        ("profile", GOOD | {"transprot": "mqtt"}),
        ("profile", GOOD | {"points": {"power": {"scale": "much"}}}),
        ("profile", GOOD | {"points": {}}),
        ("profile", GOOD | {"payload": {"format": "xml"}}),
        ("rules", RULE),
        ("rules", [RULE | {"levle": "II"}]),
        ("rules", [RULE | {"level": "V"}]),
        ("rules", [RULE | {"when": {"point": "power", "abve": 5}}]),
        ("rules", [RULE | {"when": {"all": [{"any": [{"nothing": 1}]}]}}]),
        ("assets", {"assets": [{"asset": "L 1", "kind": "lamp"}]}),
        ("assets", {"assets": [{"asset": "L1", "kind": "lmp"}]}),
        ("assets", {"devices": [{"device": "d", "asset": "a"}]}),
    ],
)
def test_what_is_plainly_wrong_does_not_fit(what: What, document: Any) -> None:
    assert wrong("profile", GOOD) == wrong("rules", [RULE]) == []
    assert wrong(what, document)


def _as_json(value: Any) -> Any:
    """YAML's keys may be numbers and truths; an editor sees their text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key).lower(): _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list) else value
