"""The text of single rules: taken out of their file with their comments, and changed by a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.bundle import read_bundle
from gateway.config.rule_text import rev_of, rule_texts, with_keys
from gateway.config.settings import Settings
from gateway.config.yaml_source import read_yaml
from gateway.errors import ConfigError

FILE = """\
# Roads. [P] is our own.

# R1, of the county's table.
# Two lines of it.
- rule: road-depth   # the first
  when: {point: depth, above: 5 cm}
  enabled: false     # until the gauges are mounted
  # what is left
# R2
- rule: rain
  text: |
    # no comment

# the end
"""


def test_a_rule_is_taken_out_with_the_comments_that_belong_to_it() -> None:
    first, second = rule_texts(FILE, "roads.yaml").values()
    assert first.text.splitlines() == FILE.splitlines()[2:8]
    assert (first.file, first.line) == ("roads.yaml", 3)
    assert second.text == "# R2\n- rule: rain\n  text: |\n    # no comment\n"
    assert second.line == 9
    assert first.rev == rev_of(first.text) != second.rev
    assert len(first.rev) == 12


def test_every_shipped_rule_says_the_same_outside_its_file() -> None:
    for name, text in read_bundle(Settings()).rules.items():
        data, found = read_yaml(text, name).data, rule_texts(text, name)
        assert [item["rule"] for item in data] == list(found)
        for item, one in zip(data, found.values(), strict=True):
            assert read_yaml(one.text, name).data == [item]
            assert text.splitlines()[one.line - 1].strip() == one.text.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[{rule: a}, {rule: b, x: off}]", {"a": "- rule: a\n", "b": "- rule: b\n  x: off\n"}),
        ("- &one {rule: a, x: 1}\n- {rule: b, y: *one}\n", {"a": "- &one {rule: a, x: 1}\n",
                                                            "b": "- rule: b\n  y:\n    rule: a\n    x: 1\n"}),
        ("  - rule: a\n    x: 1\n\n  - rule: b", {"a": "- rule: a\n  x: 1\n", "b": "- rule: b\n"}),
        ("-\n  rule: a\n", {"a": "-\n  rule: a\n"}),
        ("- rule: a\r\n  x: 1\r\n- rule: b\r\n", {"a": "- rule: a\n  x: 1\n", "b": "- rule: b\n"}),
        ("rule: a", {}),
        ("- rule: 7\n- 8\n- rule: [a]\n", {}),
        ("- rule: a\n  x: 1\n- rule: a\n  x: 2\n", {"a": "- rule: a\n  x: 1\n"}),
        ("", {}),
    ],
)  # fmt: skip
def test_odd_files_are_taken_apart_too(text: str, found: dict[str, str]) -> None:
    assert {name: one.text for name, one in rule_texts(text, "f.yaml").items()} == found


def test_a_key_is_changed_where_it_stands_and_a_new_one_added_below_the_name() -> None:
    text = rule_texts(FILE, "f")["road-depth"].text
    assert with_keys(text, {"enabled": True}) == text.replace("enabled: false ", "enabled: true ")
    tried = with_keys(text, {"rule": "road-depth-trial", "shadow": True, "shadow_of": "road-depth"})
    assert tried.splitlines()[2:5] == [
        "- rule: road-depth-trial   # the first",
        "  shadow: true",
        "  shadow_of: road-depth",
    ]
    assert tried.splitlines()[5:] == text.splitlines()[3:]


@pytest.mark.parametrize(
    "text",
    [
        "- {rule: a, enabled: false, when: {x: [1, 2]}}",
        "- rule: a\n  enabled:\n    false\n",
        '- "rule": a\n  "enabled": false\n',
        "- enabled: false\n  rule: a",
        "- when: {rule: z}\n  rule: a\n",
    ],
)
def test_however_it_is_written_the_data_are_right_afterwards(text: str) -> None:
    before = read_yaml(text, "f").data[0]
    changes = {"enabled": True, "rule": "b", "shadow": False}
    assert read_yaml(with_keys(text, changes), "f").data == [{**before, **changes}]


@pytest.mark.parametrize("text", ["", "rule: a", "- rule: a\n- rule: b\n", "- [", "- x: 1", "- 1"])
def test_what_is_not_one_rule_cannot_be_changed(text: str) -> None:
    with pytest.raises(ConfigError):
        with_keys(text, {"enabled": True})


words = st.text(st.sampled_from("abc#:- '\"{}[]|>&*!%@`,\n\t0172eEonyf."), max_size=12)


@given(st.recursive(words | st.booleans() | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3)))
def test_data_written_anew_are_read_as_they_were(value: object) -> None:
    text = f"[{{rule: a, x: {_json(value)}}}]"
    data = read_yaml(text, "f").data
    assert read_yaml(rule_texts(text, "f")["a"].text, "f").data == data


def _json(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=True)
