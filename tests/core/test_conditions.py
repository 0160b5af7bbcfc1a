"""What each kind of condition says to good, bad, missing and odd values. 1 true, 0 false, None unknown."""

from __future__ import annotations

import pytest

from gateway.core.model import Asset, Quality, Value
from tests.core.street import Street

RULE = """
- rule: probe
  applies_to: {kind: %s}
  when: %s
  response: look
"""
BAD = object()
UNCERTAIN = object()


def truth(kind: str, when: str, values: dict[str, object], attributes: dict[str, float] | None = None) -> object:
    """What the mildest rung of a rule says once ``values`` have arrived."""
    asset = Asset("a", kind, attributes=dict(attributes or {}))
    street = Street(RULE % (kind, when), [asset])
    for point, value in values.items():
        if value is BAD or value is UNCERTAIN:
            quality = Quality.BAD if value is BAD else Quality.UNCERTAIN
            street.send(street.now, "a", timed=False, quality=quality, **{point: 1e9})
        else:
            street.send(street.now, "a", timed=False, **{point: value})  # type: ignore[arg-type]
    state = street.engine._assets["a"]
    assert not street.engine.not_applicable("a"), street.engine.not_applicable("a")
    return state.plan.checks[0].rungs[0].raises(state)


@pytest.mark.parametrize(
    ("when", "value", "expected"),
    [
        ("{point: depth, above: 5 cm}", 5.0, True),
        ("{point: depth, above: 5 cm}", 4.999, False),
        ("{point: depth, above: 5 cm, inclusive: false}", 5.0, False),
        ("{point: depth, above: 0.05 m}", 5, True),
        ("{point: depth, below: 5}", 5.0, False),
        ("{point: depth, below: 5, inclusive: true}", 5.0, True),
        ("{point: depth, outside: [1, 2]}", 1.0, False),
        ("{point: depth, outside: [1, 2]}", 2.01, True),
        ("{point: depth, above: 5}", True, None),
        ("{point: depth, above: 5}", "deep", None),
        ("{point: depth, above: 5}", float("nan"), None),
        ("{point: depth, above: 5}", BAD, None),
        ("{point: depth, above: 5}", UNCERTAIN, None),
        ("{not: {point: depth, above: 5}}", 4.0, True),
        ("{not: {point: depth, above: 5}}", BAD, None),
    ],
)
def test_limits(when: str, value: object, expected: bool | None) -> None:
    assert truth("road", when, {"depth": value}) is expected


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        ("true", True, True),
        ("true", 1, False),
        ("1", True, False),
        ("1", 1.0, True),
        ("open", "open", True),
        ("[open, missing]", "missing", True),
        ("[2, 32, 40]", 32, True),
        ("[2, 32, 40]", 57, False),
        ("false", BAD, None),
    ],
)
def test_a_state_is_compared_with_its_type(wanted: str, value: object, expected: bool | None) -> None:
    assert truth("manhole", f"{{point: cover, is: {wanted}}}", {"cover": value}) is expected


def test_a_point_never_reported_is_unknown_unless_the_rule_says_what_absence_means() -> None:
    assert truth("lamp", "{point: cmd_on, is: true}", {}) is None
    assert truth("lamp", "{point: cmd_on, is: true, absent: true}", {}) is True
    assert truth("lamp", "{point: cmd_on, is: true, absent: true}", {"cmd_on": BAD}) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"depth": 9.0, "battery": 1.0}, True),
        ({"depth": 9.0, "battery": 90.0}, False),
        ({"depth": 9.0, "battery": BAD}, None),
        ({"depth": 1.0, "battery": BAD}, False),
        ({"depth": 9.0}, None),
    ],
)
def test_all_is_false_as_soon_as_one_is(values: dict[str, object], expected: bool | None) -> None:
    assert truth("road", "{all: [{point: depth, above: 5}, {point: battery, below: 20}]}", values) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"depth": 9.0, "battery": BAD}, True),
        ({"depth": 1.0, "battery": BAD}, None),
        ({"depth": 1.0}, False),  # what was never reported makes no difference
        ({}, None),
    ],
)
def test_any_is_true_as_soon_as_one_is(values: dict[str, object], expected: bool | None) -> None:
    assert truth("road", "{any: [{point: depth, above: 5}, {point: battery, below: 20}]}", values) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"power": 19.9, "dim": 100.0}, True),
        ({"power": 20.0, "dim": 100.0}, False),
        ({"power": 9.9, "dim": 50.0}, True),
        ({"power": 10.0, "dim": 50.0}, False),
        ({"power": 0.0, "dim": BAD}, None),
        ({"power": 0.0}, None),
        ({"power": 0.0, "dim": 0.0}, False),
    ],
)
def test_a_limit_can_be_a_share_of_attributes_and_points(values: dict[str, object], expected: bool | None) -> None:
    when = "{point: power, below: 20 %, of: [rated_power, dim]}"
    assert truth("lamp", when, values, {"rated_power": 100.0}) is expected


def test_a_limit_can_be_an_attribute_with_factor_addition_and_default() -> None:
    assert truth(
        "bridge", "{point: gvw, above: {attribute: posted_limit, factor: 1.2}}", {"gvw": 24.0}, {"posted_limit": 20.0}
    )
    when = "{point: wetwell, above: {attribute: L6, plus: -0.3 m}}"
    assert truth("pump", when, {"wetwell": 3.7}, {"L6": 4.0}) is True
    assert truth("pump", when, {"wetwell": 3.69}, {"L6": 4.0}) is False
    assert truth("manhole", "{point: tilt, above: {attribute: tilt_limit, default: 15 deg}}", {"tilt": 15.0}) is True


@pytest.mark.parametrize(
    ("when", "values", "expected"),
    [
        ("{any_pump: {point: pN_run, is: true}}", {"p1_run": False, "p3_run": True}, True),
        ("{any_pump: {point: pN_run, is: true}}", {"p1_run": False, "p2_run": False}, False),
        ("{any_pump: {point: pN_run, is: true}}", {"p1_run": False, "p2_run": BAD}, None),
        ("{any_pump: {point: pN_run, is: true}}", {"p1_run": True, "p2_run": BAD}, True),
        ("{any_pump: {point: pN_run, is: true}}", {}, None),
        ("{every_pump: {point: pN_run, is: true}}", {"p1_run": True, "p2_run": True}, True),
        ("{every_pump: {point: pN_run, is: true}}", {"p1_run": True, "p2_run": False}, False),
        ("{not: {any_pump: {point: pN_run, is: true}}}", {"p1_run": False}, True),
        ("{any_pump: {all: [{point: pN_run, is: true}, {point: pN_current, below: 1}]}}",
         {"p1_run": True, "p1_current": 9.0, "p2_run": False, "p2_current": 0.0}, False),
        ("{any_pump: {all: [{point: pN_run, is: true}, {point: pN_current, below: 1}]}}",
         {"p1_run": True, "p1_current": 9.0, "p2_run": True, "p2_current": 0.0}, True),
    ],
)  # fmt: skip
def test_pumps_that_never_reported_do_not_exist(when: str, values: dict[str, object], expected: bool | None) -> None:
    assert truth("pump", when, values) is expected


def test_a_rate_is_the_change_since_the_oldest_sample_within_the_window() -> None:
    street = Street(RULE % ("pipe", "{point: level, rate: {over: 10m, above: 0.5 m}}"), [Asset("a", "pipe")])
    for minute in range(0, 60):
        street.send(minute * 60, "a", level=minute * 0.049)
    assert street.transitions == []
    street.send(3600, "a", level=59 * 0.049 + 0.1)
    assert street.story("a/probe") == [(3600, "T3", "UNACK")]


def test_a_branch_without_level_takes_the_level_of_the_rule() -> None:
    rule = """
- rule: mixed
  applies_to: {kind: road}
  level: III
  when:
    any:
      - {point: battery, below: 20}
      - {point: depth, above: [{limit: 5, level: IV}, {limit: 25, level: I}]}
  response: look
"""
    street = Street(rule, [Asset("a", "road")])
    street.send(0, "a", battery=10.0)
    assert street.record("a/mixed").level.name == "III"
    street.send(1, "a", depth=30.0)
    assert street.record("a/mixed").level.name == "I"


def test_the_record_shows_the_number_that_decided() -> None:
    rule = RULE % ("lamp", "{all: [{point: cmd_on, is: true}, {point: power, below: 20 %, of: [rated_power]}]}")
    street = Street(rule, [Asset("a", "lamp", attributes={"rated_power": 120.0})])
    street.send(0, "a", cmd_on=True, power=3.0)
    record = street.record("a/probe")
    assert (record.value, record.limit, record.unit) == (3.0, 24.0, "W")


def test_a_plain_limit_is_not_even_asked_while_it_is_normal() -> None:
    street = Street(RULE % ("road", "{point: depth, above: 5}"), [Asset("a", "road")])
    point = street.engine._assets["a"].plan.by_point["depth"]
    assert (point.banded, point.always, point.high) == (1, 0, 5.0)


def test_an_asset_without_the_attribute_has_no_such_alarm() -> None:
    street = Street(RULE % ("lamp", "{point: power, below: 20 %, of: [rated_power]}"), [Asset("a", "lamp")])
    assert street.engine.not_applicable("a") == {"probe": "attribute rated_power"}
    values: dict[str, Value] = {"power": 0.0}
    street.send(0, "a", **values)
    assert street.transitions == []


# -- windows, frozen values, deviations, other alarms, expressions ----------------------------------------------------


def told(when: str, samples: list[tuple[float, object]], point: str = "depth") -> list[object]:
    """What the condition says after each (second, value) of one road."""
    street = Street(RULE % ("road", when), [Asset("a", "road")])
    said: list[object] = []
    for at, value in samples:
        street.send(at, "a", **{point: value})  # type: ignore[arg-type]
        state = street.engine._assets["a"]
        said.append(state.plan.checks[0].rungs[0].raises(state))
    return said


@pytest.mark.parametrize(
    ("function", "limit", "expected"),
    [
        ("mean", "above: 5", [None, None, False, True]),  # of 2; 2, 8; 2, 8, 4; 8, 4, 6 within a minute
        ("min", "above: 3", [False, False, False, True]),
        ("max", "above: 7", [None, True, True, True]),
        ("max", "below: 9", [None, None, True, True]),
        ("min", "below: 3", [True, True, True, False]),
        ("spread", "above: 5", [None, True, True, False]),
        ("count", "above: 3", [None, None, True, True]),
        ("changes", "above: 1", [None, True, True, True]),
    ],
)
def test_a_window_of_a_minute(function: str, limit: str, expected: list[object]) -> None:
    when = f"{{point: depth, window: {{over: 60s, function: {function}, {limit}}}}}"
    assert told(when, [(0, 2.0), (20, 8.0), (40, 4.0), (80, 6.0)]) == expected


def test_only_the_readings_beyond_a_limit_are_counted_each_of_them_and_none_is_a_number() -> None:
    when = "{point: depth, window: {over: 60s, function: count, counting: {above: 5}, above: 3}}"
    samples = [(0, 5.0), (1, 5.1), (1.001, 6.0), (1.002, 9.0), (62, 0.0), (63, 7.0)]
    assert told(when, samples) == [False, False, False, True, False, False]
    below = "{point: depth, window: {over: 60s, function: count, counting: {below: 5}, below: 1, inclusive: false}}"
    assert told(below, [(0, 5.0), (1, 4.0), (70, 5.0)]) == [True, False, True]


def test_changes_of_a_state_are_all_counted() -> None:
    when = "{point: device_fault, window: {over: 10m, function: changes, above: 4}}"
    flapping = [(second, second % 2 == 0) for second in range(6)]
    assert told(when, flapping, "device_fault") == [None, None, None, None, True, True]  # type: ignore[arg-type]


def test_a_difference_is_compared_as_people_write_it() -> None:
    assert told("{point: depth, rate: {over: 60s, above: 0.5}}", [(0, 0.2), (30, 0.7)]) == [None, True]
    assert told("{point: depth, window: {over: 60s, function: spread, above: 0.1}}", [(0, 0.6), (30, 0.5)]) == [
        None, True,
    ]  # fmt: skip


def test_a_value_is_frozen_only_after_the_whole_time_and_while_a_neighbour_moves() -> None:
    when = "{point: depth, frozen: {over: 60s, change: 1, link: catchment, moved: 5}}"
    roads = [Asset(name, "road", links={"catchment": "c"}) for name in ("a", "b", "c1")]
    street = Street(RULE % ("road", when), [Asset("c", "catchment"), *roads])

    def says() -> object:
        state = street.engine._assets["a"]
        return state.plan.checks[0].rungs[0].raises(state)

    street.send(0, "a", depth=3.0)
    street.send(30, "b", depth=3.0)
    street.send(59, "a", depth=3.5)
    assert says() is None, "a second is missing"
    street.send(60, "a", depth=3.5)
    assert says() is False, "nobody around it moved"
    street.send(65, "b", depth=8.0)
    street.send(66, "a", depth=3.5)
    assert says() is True
    street.send(67, "a", depth=4.5)
    assert says() is False, "it moves"


def test_a_deviation_from_a_number_another_point_and_the_neighbours() -> None:
    assert truth("pump", "{point: wetwell, deviation: {from: {point: wetwell_2}, above: 0.3 m}}",
                 {"wetwell": 1.0, "wetwell_2": 1.3}) is True  # fmt: skip
    assert (
        truth("pump", "{point: wetwell, deviation: {from: {point: wetwell_2}, above: 0.3 m}}", {"wetwell": 1}) is None
    )
    assert truth("heat", "{point: supply_temp, deviation: {from: {attribute: plan}, above: 10 °C}}",
                 {"supply_temp": 59.0}, {"plan": 70.0}) is True  # fmt: skip
    when = "{point: depth, deviation: {from: {neighbours: catchment}, above: 5}}"
    roads = [Asset(name, "road", links={"catchment": "c"}) for name in ("a", "b", "d", "e")]
    street = Street(RULE % ("road", when), [Asset("c", "catchment"), *roads])
    for name, depth in (("b", 1.0), ("d", 2.0), ("e", 30.0), ("a", 8.0)):
        street.send(0, name, depth=depth)
    state = street.engine._assets["a"]
    assert state.plan.checks[0].rungs[0].raises(state) is True, "8 against a median of 2"


def test_an_expression_over_points_and_attributes() -> None:
    when = '{expr: "wetwell > L5 && outfall > wetwell + 0.5"}'
    assert truth("pump", when, {"wetwell": 3.0, "outfall": 4.0}, {"L5": 2.5}) is True
    assert truth("pump", when, {"wetwell": 2, "outfall": 4.0}, {"L5": 2.5}) is False
    assert truth("pump", when, {"wetwell": 3.0, "outfall": BAD}, {"L5": 2.5}) is None
    assert truth("pump", '{expr: "wetwell / 0.0 > p1_code"}', {"wetwell": 3.0, "p1_code": "x"}) is None


def test_an_alarm_that_is_asked_for_moves_those_that_ask() -> None:
    rules = """
- {rule: wet, applies_to: {kind: road}, when: {point: depth, above: 10, deadband: 5}, response: look}
- rule: together
  applies_to: {kind: road}
  when: {all: [{stands: wet}, {point: battery, below: 20}]}
  response: look
- {rule: storm, applies_to: {kind: pipe}, when: {stands: {rule: wet, anywhere: true}}, response: look}
- {rule: beside, applies_to: {kind: road}, when: {stands: {rule: wet, neighbours: catchment}}, response: look}
"""
    roads = [Asset(name, "road", links={"catchment": "c"}) for name in ("r1", "r2")]
    street = Street(rules, [Asset("c", "catchment"), *roads, Asset("p1", "pipe")])
    street.send(0, "r1", battery=10.0)
    assert street.transitions == []
    street.send(10, "r1", depth=12.0)
    assert {t.alarm_id for t in street.transitions} == {"r1/wet", "r1/together", "p1/storm", "r2/beside"}
    street.send(20, "r1", depth=1.0)
    assert [t.cause for t in street.transitions[4:]] == ["T6"] * 4


def test_on_a_hazard_source_every_alarm_is_one_level_worse() -> None:
    rule = "- {rule: wet, applies_to: {kind: road}, when: {point: depth, above: 5}, level: III, response: look}"
    street = Street(rule, [Asset("r1", "road"), Asset("r2", "road", attributes={"hazard_source": True})])
    for road in ("r1", "r2"):
        street.send(0, road, depth=9.0)
    assert [street.record(f"{road}/wet").level.name for road in ("r1", "r2")] == ["III", "II"]
