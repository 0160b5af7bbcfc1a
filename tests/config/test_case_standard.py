"""The row of the city's standard that a rule must have before its alarms become cases."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.check import check_everything
from gateway.config.case_standard import missing_standards
from gateway.config.rules import load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.core.model import HOUR
from gateway.core.rule import Rule
from gateway.errors import ConfigError

RULE = """
- rule: deep
  applies_to: {kind: road}
  when: {point: depth, above: 15 cm}
  case: true
"""
ROW = """
  sla: {resolve: 4h, clock: working_hours}
  standard:
    opened_when: 路面积水影响通行
    closed_when: {zh: 积水排除, en: The water is gone}
    supervised_by: {zh: 排水主管部门}
    responsible: {en: The drains' owner}
    case_class: {major: "04", minor: "0406"}
"""


def one(text: str) -> Rule:
    return load_rules({"r.yaml": text}).rules["deep"]


def mistakes(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        one(text)
    return str(caught.value)


def test_the_row_is_read_and_one_language_stands_for_the_other() -> None:
    row = one(RULE + ROW.lstrip("\n")).standard
    assert row is not None
    assert row.opened_when == ("路面积水影响通行", "路面积水影响通行")
    assert row.closed_when == ("积水排除", "The water is gone")
    assert row.supervised_by == ("排水主管部门", "排水主管部门")
    assert row.responsible == ("The drains' owner", "The drains' owner")
    assert (row.major, row.minor) == ("04", "0406")


def test_an_override_has_the_row_of_its_rule() -> None:
    text = RULE + ROW.lstrip("\n") + "  overrides: [{assets: road-7, set: {sla.resolve: 2h}}]\n"
    variant = one(text).variant("road-7")
    assert variant.standard == one(text).standard
    assert variant.sla is not None
    assert variant.sla.resolve == 2 * HOUR


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("responsible: {en: The drains' owner}", "", "`responsible` is missing"),
        ("{zh: 排水主管部门}", "{zh: ' '}", r"standard.supervised_by: must say something"),
        ('minor: "0406"', "minor: 0406", r"write it in quotes, zeros get lost else"),
        ('minor: "0406"', 'minor: "四"', "pattern"),
        ("case_class", "case_clas", "did you mean `case_class`"),
    ],
)
def test_a_mistake_in_the_row_is_told_with_its_place(wrong: str, right: str, said: str) -> None:
    text = RULE + ROW.lstrip("\n")
    assert wrong in text
    found = mistakes(text.replace(wrong, right))
    assert re.search(said, found), found
    assert re.match(r"r\.yaml:\d+: ", found)


def test_rules_from_before_there_was_a_row_are_still_understood() -> None:
    """The journal is read again with the rules that were in force then."""
    rule = one(RULE)
    assert rule.standard is None
    said = [str(one) for one in missing_standards([rule])]
    assert said == [
        "r.yaml:2: standard: deep becomes a case: "
        "say `standard` (opened_when, closed_when, supervised_by, responsible)",
        "r.yaml:2: sla: deep becomes a case: say its time limit, `sla: {resolve: …}`",
    ]
    assert list(missing_standards([one(RULE + ROW.lstrip("\n"))])) == []
    assert list(missing_standards([one(RULE.replace("case: true", "case: false"))])) == []


def test_check_wants_the_row_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "mine.yaml").write_text(RULE.replace("deep", "mine"), encoding="utf-8")
    config = tmp_path / "citywatch.yaml"
    config.write_text("rules: [rules]\n", encoding="utf-8")
    said = check_everything(config).lines()
    assert said[0].startswith(f"{tmp_path / 'rules' / 'mine.yaml'}:2: standard: mine becomes a case")
    assert said[-1] == "2 mistakes"


def test_every_shipped_rule_that_becomes_a_case_has_its_row_in_both_languages() -> None:
    rules = load_rules({n: t for n, t in read_tree(shipped("rules")).items() if not n.startswith("tests/")})
    assert list(missing_standards(rules)) == []
    cases = [rule for rule in rules if rule.case]
    assert len(cases) == 9
    for rule in cases:
        assert rule.standard is not None
        for zh, en in (
            rule.standard.opened_when,
            rule.standard.closed_when,
            rule.standard.supervised_by,
            rule.standard.responsible,
        ):
            assert re.search(r"[一-鿿]", zh), rule.id
            assert not re.search(r"[一-鿿]", en), rule.id
        assert rule.standard.source, rule.id
