"""Rule files: what is understood, and how every mistake is named. And the stories of the shipped rules."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from gateway.config.rules import load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.config.stories import load_stories, parse_stories, report, run_stories
from gateway.core.model import HOUR, MINUTE, SECOND, Level
from gateway.core.rule import Bad, Limit, RuleSet, Side
from gateway.core.storyteller import Story, tell
from gateway.errors import ConfigError

WHOLE = """
- rule: road-depth
  title: {zh: 道路积水, en: Road flooding}
  applies_to: {kind: road}                    # kind, profile, or a selector on asset attributes
  when:
    point: depth                              # canonical point name
    above:                                    # one limit, or a ladder: the level follows the highest rung, up and down
      - {limit: 5 cm,  level: IV, on_delay: 2m}
      - {limit: 15 cm, level: II, on_delay: 1m, source: "GB 50014: one lane passable to 15 cm"}
      - {limit: 25 cm, level: I,  on_delay: 1m, source: "Shanghai, Shenyang: road closed at 25 cm"}
    deadband: 3 cm
  off_delay: 2m
  consequence: Vehicles stall; people can be swept into open wells.
  response: {zh: 封闭道路，通知交警, en: Close the road and call the traffic police}
  notify: [flood-desk, traffic-police, road-chief]
  sla: {respond: 15m, resolve: 4h, clock: urgent}     # urgent · working_hours · working_days · natural_days
  case: true                                  # push to the city's case platform
"""


def shipped_texts() -> dict[str, str]:
    return {name: text for name, text in read_tree(shipped("rules")).items() if not name.startswith("tests/")}


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_rules({"rules.yaml": text})
    return [str(mistake) for mistake in caught.value.mistakes]


def test_the_rule_of_the_manual_is_understood_whole() -> None:
    rule = load_rules({"rules.yaml": WHOLE}).rules["road-depth"]
    assert isinstance(rule.when, Limit)
    assert rule.when.side is Side.ABOVE
    assert [(s.limit.factor, s.level, s.on_delay) for s in rule.when.steps] == [
        (5.0, Level.IV, 2 * MINUTE),
        (15.0, Level.II, MINUTE),
        (25.0, Level.I, MINUTE),
    ]
    assert rule.when.deadband.factor == 3.0
    assert rule.when.steps[1].source == "GB 50014: one lane passable to 15 cm"
    assert (rule.off_delay, rule.title_zh, rule.notify[0], rule.case) == (2 * MINUTE, "道路积水", "flood-desk", True)
    assert rule.sla is not None
    assert (rule.sla.respond, rule.sla.resolve, rule.sla.clock) == (15 * MINUTE, 4 * HOUR, "urgent")
    assert (rule.file, rule.line) == ("rules.yaml", 2)
    assert rule.annunciates


def test_a_rule_without_a_response_is_an_event_that_wakes_nobody() -> None:
    rule = load_rules({"r": "- {rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}}"}).rules["x"]
    assert not rule.annunciates
    assert not rule.ack_required


def test_every_limit_has_a_deadband_and_a_clear_delay_even_when_nobody_wrote_one() -> None:
    from gateway.core.model import Asset
    from gateway.core.plan import compile_check

    rule = load_rules({"r": "- {rule: x, applies_to: {kind: road}, when: {point: depth, above: 20 cm}, on_delay: 90s}"})
    check = compile_check(rule.rules["x"], 0, Asset("r", "road"))
    assert isinstance(rule.rules["x"].when, Limit)
    assert rule.rules["x"].when.deadband.factor == 1.0  # 5 % for a level
    assert (check.rungs[0].on_delay, check.rungs[0].off_delay) == (90 * SECOND, 90 * SECOND)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{rule: x, applies_to: {kind: pump}, when: {point: wetwel, above: 5}}",
         "when.point: pump has no point `wetwel`: did you mean `wetwell`?"),
        ("{rule: x, applies_to: {kind: pomp}, when: {point: wetwell, above: 5}}",
         "applies_to.kind: there is no kind pomp: did you mean `pump`?"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, abve: 5}}",
         "when.abve: no such condition: did you mean `above`?"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5 kg}}",
         "when.above: 'kg' cannot be converted to 'cm'"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: deep}}",
         "when.above: not a quantity: 'deep'"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5, below: 1}}",
         "when: `above` and `below` in one condition"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, window: 5m}}",
         "when.window: Input should be a valid dictionary"),
        ("{rule: x, applies_to: {kind: road}, when: {expr: depht > 5.0}}", "when.expr: `depht` is neither a point of road nor an attribute: did you mean `depth`?"),  # noqa: E501
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, schedule: {}}",
         "schedule: say `between: [22:00, 06:00]` or `sun: up`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, levle: II}",
         "levle: no such key: did you mean `level`?"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, level: V}", "level: not a level: 'V'"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, on_delay: soon}",
         "on_delay: not a duration: 'soon'"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, off_delay: -5}",
         "off_delay: a duration cannot be negative"),
        ("{rule: X y, applies_to: {kind: road}, when: {point: depth, above: 5}}", "rule: 'X y' is not a rule name"),
        ("{rule: x, applies_to: {kind: road}}", "`when` is missing"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: [{limit: 5, level: IV}, {limit: 4, level: II}]}}",  # noqa: E501
         "when.above[1]: each limit must lie further above"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: [{limit: 5, level: II}, {limit: 9, level: IV}]}}",  # noqa: E501
         "when.above[1]: each rung must be more severe"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: [{limit: 5}]}}",
         "every rung of a ladder has a `level`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, outside: [9, 5]}}",
         "the first limit must be lower than the second"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5, deadband: -1}}",
         "a deadband cannot be negative"),
        ("{rule: x, applies_to: {kind: lamp}, when: {point: power, below: 20 W, of: [rated_power]}}",
         "with `of`, a limit is a share: 20 %"),
        ("{rule: x, applies_to: {kind: [road, lamp]}, when: {point: depth, above: 5}}", "lamp has no point `depth`"),
        ("{rule: x, applies_to: {kind: [bridge, water]}, when: {point: velocity, above: 5}}", "bridge has no point"),
        ("{rule: x, applies_to: {kind: road}, when: {all: []}}", "`all` is a list of conditions"),
        ("{rule: x, applies_to: {kind: road}, when: {not: {point: depth, above: {limit: 5, level: I}}}}",
         "there are no levels inside `not`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, on_bad_data: assume_normal}",
         "assume_normal needs a written `bad_data_reason`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, on_bad_data: ignore}", "on_bad_data"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, event: true, on_delay: 5s}",
         "an event without a return has no delays"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, suppress_when: [{cause: y}]}",
         "suppress_when[0].cause: there is no rule y"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, suppress_when: [{cause: x, link: feder}]}",  # noqa: E501
         "there is no link feder: did you mean `feeder`?"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, suppress_when: [{cause: x}]}",
         "causes form a circle: x → x"),
        ("{rule: x, applies_to: {kind: feeder}, when: {share: {of: lmp, link: feeder, where: {silent: 3}, above: 60 %}}}",  # noqa: E501
         "there is no kind lmp: did you mean `lamp`?"),
        ("{rule: x, applies_to: {kind: feeder}, when: {share: {of: lamp, link: feeder, where: {point: dimm, above: 5}, above: 60 %}}}",  # noqa: E501
         "lamp has no point `dimm`: did you mean `dim`?"),
        ("{rule: x, applies_to: {kind: road}, when: {silent: 0}}", "greater than 0"),
        ("{rule: x, applies_to: {kind: road}, when: {expr: 'depth >'}}", "when.expr: not a CEL expression"),
        ("{rule: x, applies_to: {kind: road}, when: {expr: '[1, 2].exists(i, i > depth)'}}", "is not possible here"),
        ("{rule: x, applies_to: {kind: road}, when: {expr: 'matches(depth, depth)'}}", "`matches` is not possible here"),  # noqa: E501
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, window: {over: 5m, function: average, above: 5}}}",
         "when.window.function: Input should be 'mean'"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, window: {over: 5m, function: mean}}}",
         "say either `above` or `below`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, window: {over: 5m, function: mean, counting: {above: 1}, above: 5}}}",  # noqa: E501
         "when.window.counting: only `function: count` counts the readings beyond a limit"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, window: {over: 5m, function: count, counting: {above: 1}, above: 600}}}",  # noqa: E501
         "when.window: a window counts up to 512"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, window: {over: 5m, function: count, counting: {}, above: 6}}}",  # noqa: E501
         "say either `above` or `below`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, frozen: {over: 1h, change: 1 V}}}",
         "cannot be converted"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, frozen: {over: 1h, change: 1, link: catchmnt}}}",
         "there is no link catchmnt: did you mean `catchment`?"),
        ("{rule: x, applies_to: {kind: pump}, when: {point: wetwell, deviation: {from: {point: flow}, above: 1}}}",
         "`flow` is measured in m³/h, `wetwell` in m"),
        ("{rule: x, applies_to: {kind: road}, when: {stands: flood-mode}}", "there is no rule flood-mode"),
        ("{rule: x, applies_to: {kind: road}, when: {stands: {rule: x, link: feeder, anywhere: true}}}", "not two of them"),  # noqa: E501
        ("{rule: x, applies_to: {kind: road}, when: {bad: depht}}", "did you mean `depth`?"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, schedule: {between: [25:00, 06:00]}}",
         "a moment is 22:00"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, schedule: {sun: up, zone: Asia/Liangshan}}",  # noqa: E501
         "no such zone or place"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, schedule: {sun: up, days: [monday]}}",
         "no such day: monday"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, shadow_of: y}",
         "only a rule with `shadow: true`"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, overrides: [{assets: r1, set: {'when.abov[0]': 3}}]}",  # noqa: E501
         "the rule has no `when.abov[0]` to set"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, overrides: [{assets: r1, set: {when.above: 3 V}}]}",  # noqa: E501
         "as overrides[0] sets it"),
        ("{rule: x, applies_to: {kind: road}, when: {point: depth, above: 5}, realarm: {after: 30m}}",
         "`times` is missing"),
        ("just words", "a rule is a mapping"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_key_and_a_suggestion(rule: str, said: str) -> None:
    found = mistakes(f"- {rule}\n")
    assert any(said in mistake for mistake in found), found
    assert all(mistake.startswith("rules.yaml:1: ") for mistake in found), found


def test_all_mistakes_of_all_files_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_rules(
            {
                "a.yaml": "- {rule: x, applies_to: {kind: pump}, when: {all: [{point: wetwel, above: 1}, {point: flwo, above: 1}]}}",  # noqa: E501
                "b.yaml": "rules: {}",
                "c.yaml": "- [",
                "d.yaml": "- {rule: y, applies_to: {kind: road}, when: {point: depth, above: 5}}\n" * 2,
            }
        )
    text = "\n".join(str(m) for m in caught.value.mistakes)
    assert "did you mean `wetwell`?" in text
    assert "did you mean `flow`?" in text
    assert "b.yaml:1: a rule file is a list" in text
    assert "c.yaml" in text
    assert "d.yaml:2: [1].rule: rule y stands already in d.yaml:1" in text


def test_rules_that_ask_for_one_another_in_a_circle_are_refused() -> None:
    text = "".join(
        f"- {{rule: {rule}, applies_to: {{kind: road}}, when: {{stands: {other}}}}}\n"
        for rule, other in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    assert "in a circle: a → b → c → a" in mistakes(text)[0]


def test_an_override_is_the_same_rule_with_other_numbers_for_some_assets() -> None:
    rules = load_rules(
        {
            "a.yaml": """
- rule: deep
  applies_to: {kind: road}
  when: {point: depth, above: [{limit: 5 cm, level: IV}, {limit: 0.25 m, level: I, on_delay: 1m}]}
  overrides:
    - {assets: [underpass-*, r7], set: {"when.above[0].limit": 3 cm, "when.above[1].on_delay": 10s, off_delay: 5m}}
    - {assets: r*, set: {enabled: false}}
"""
        }
    )
    rule = rules.rules["deep"]
    assert [rule.variant(asset).enabled for asset in ("x", "r7", "r8", "underpass-3")] == [True, True, False, True]
    low = rule.variant("underpass-3")
    assert isinstance(low.when, Limit)
    assert [step.limit.factor for step in low.when.steps] == [3.0, 25.0]
    assert (low.when.steps[1].on_delay, low.off_delay) == (10_000_000, 300_000_000)


def test_instrument_alarm_brings_a_companion_that_watches_the_data() -> None:
    rules = load_rules(
        {
            "a.yaml": "- {rule: deep, title: 积水, applies_to: {kind: road}, when: {point: depth, above: 5}, "
            "on_bad_data: instrument_alarm}\n"
        }
    )
    assert list(rules.rules) == ["deep", "deep-instrument"]
    assert rules.rules["deep-instrument"].when == Bad(("depth",))


def test_nesting_without_end_is_refused() -> None:
    when = "{point: depth, above: 5}"
    for _ in range(12):
        when = f"{{all: [{when}]}}"
    assert "nested deeper" in mistakes(f"- {{rule: x, applies_to: {{kind: road}}, when: {when}}}")[0]


# -- the shipped rules ---------------------------------------------------------------------------------------------


# Only recorded, never told to anybody: what others ask for, and what the journal wants to know.
JOURNALLED = {"raining", "storm-mode", "pressure-drop", "alarm-flood", "manhole-shock", "manhole-vibration"}


def test_the_shipped_rules_say_what_to_do_in_both_languages() -> None:
    rules = load_rules(shipped_texts())
    assert len(rules) >= 75
    assert {rule.id for rule in rules if not rule.annunciates} == JOURNALLED
    for rule in rules:
        assert re.search(r"[一-鿿]", rule.title_zh), rule.id
        assert rule.title_en != rule.id, rule.id
        assert rule.consequence, rule.id
        if rule.annunciates:
            assert rule.response_zh, rule.id
            assert rule.response_en, rule.id
            assert rule.notify, rule.id
            assert rule.sla or rule.id == "canary", rule.id  # nobody has to do anything about that one


@cache
def shipped_stories() -> list[Story]:
    """Read once: it takes two seconds."""
    return load_stories([shipped("rules") / "tests"])


@pytest.mark.parametrize("story", shipped_stories(), ids=lambda story: f"{Path(story.file).stem}: {story.name}")
def test_a_shipped_story(story: Story) -> None:
    result = tell(story)
    assert result.passed, "\n".join(report(result))


def test_every_shipped_rule_has_a_story_in_which_it_is_raised() -> None:
    raised: set[str] = set()
    for story in shipped_stories():
        raised |= {step.record.rule for step in tell(story).transitions if step.cause in ("T3", "T26")}
    rules = load_rules(shipped_texts())
    assert {rule.id for rule in rules} - raised == set()


# -- stories -------------------------------------------------------------------------------------------------------

STORY = """
rules: rules.yaml
assets:
  r1: {kind: road}
stories:
  - name: it floods
    input:
      - {at: 0s, every: 10s, until: 3m, r1: {depth: 20 cm}}
    expect:
      - {at: 59s, alarm: r1/road-depth, state: UNACK}
      - {at: 1m, alarm: r1/road-depth, state: UNACK, level: I}
      - {transitions: r1/road-depth, are: [{at: 2m, to: UNACK}]}
      - {until: 3m, raised: {}}
"""


def rules_file(folder: Path) -> RuleSet:
    (folder / "rules.yaml").write_text(WHOLE, encoding="utf-8")
    return load_rules({"rules.yaml": WHOLE})


def test_a_failed_expectation_names_time_alarm_expected_and_got(tmp_path: Path) -> None:
    rules_file(tmp_path)
    (tmp_path / "story.yaml").write_text(STORY, encoding="utf-8")
    (result,) = run_stories([tmp_path / "story.yaml"])
    assert [(f.at, f.alarm, f.expected, f.got, f.line) for f in result.failures] == [
        (59 * SECOND, "r1/road-depth", "UNACK", "NORM", 10),
        (60 * SECOND, "r1/road-depth", "UNACK I", "UNACK II", 11),
        (180 * SECOND, "*/road-depth", "raised 0 times", "1 times", 13),
        (120 * SECOND, "r1/road-depth", "120s → UNACK", "60s → UNACK II", 12),
    ]
    assert "at 59s r1/road-depth: expected UNACK, got NORM (line 10)" in "\n".join(report(result))


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("r1: {depth: 20 cm}", "r2: {depth: 20 cm}", "there is no asset r2"),
        ("{depth: 20 cm}", "{dept: 20 cm}", "road has no point `dept`: did you mean `depth`?"),
        ("20 cm", "20 kg", "'kg' cannot be converted to 'cm'"),
        ("state: UNACK, level", "state: UNAK, level", "not a state: 'UNAK': did you mean `UNACK`?"),
        ("alarm: r1/road-depth, state: UNACK}", "alarm: r1/road-deth, state: UNACK}", "did you mean `road-depth`?"),
        ("raised: {}", "raised: {road-dept: 1}", "there is no rule road-dept: did you mean `road-depth`?"),
        ("every: 10s, until: 3m", "every: 10s", "`every` and `until` come together"),
        ("every: 10s, until: 3m", "every: 1ms, until: 30d", "more than"),
        ("kind: road", "kind: raod", "did you mean `road`?"),
        ("{at: 59s, alarm: r1/road-depth, state: UNACK}", "{at: 59s}", "expect {at, alarm, state}"),
        ("- {at: 0s, every", "- {at: 0s, do: acknowlege, alarm: r1/road-depth}\n      - {at: 0s, every",
         "there is no command acknowlege: did you mean `acknowledge`?"),
        ("name: it floods", "name: it floods\n    start: yesterday", "not a time: 'yesterday'"),
        ("name: it floods", "name: it floods\n    start: 2025-01-01T00:00:00", "a time needs its zone"),
        ("rules: rules.yaml", "rules: nowhere.yaml", "cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_story_is_named(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    rules_file(tmp_path)
    assert wrong in STORY
    with pytest.raises(ConfigError) as caught:
        parse_stories(STORY.replace(wrong, right, 1), str(tmp_path / "story.yaml"))
    assert any(said in str(mistake) for mistake in caught.value.mistakes), caught.value.mistakes


def test_other_rules_can_be_put_to_the_same_stories(tmp_path: Path) -> None:
    rules_file(tmp_path)
    (tmp_path / "story.yaml").write_text(STORY, encoding="utf-8")
    later = tmp_path / "later.yaml"
    later.write_text(WHOLE.replace("on_delay: 1m", "on_delay: 10m"), encoding="utf-8")
    (result,) = run_stories([tmp_path / "story.yaml"], later)
    assert [t.record.level for t in result.transitions] == [Level.IV]
