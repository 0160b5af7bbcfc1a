"""The numeric limits of rules: as the rule has them, and as numbers for one asset."""

from __future__ import annotations

from gateway.config.bundle import read_bundle
from gateway.config.rules import load_rules
from gateway.config.settings import Settings
from gateway.core.limits import LimitView, limits_of, limits_on
from gateway.core.model import MINUTE, Asset, Level
from gateway.core.rule import Rule, Side

SHIPPED = load_rules(read_bundle(Settings()).rules)


def rule(name: str) -> Rule:
    found = SHIPPED.get(name)
    assert found is not None
    return found


def test_a_ladder_gives_a_limit_a_rung_with_where_it_is_over() -> None:
    assert limits_of(rule("road-depth")) == [
        LimitView("depth", "cm", Side.ABOVE, level, value=value, holds=value - 3)
        for value, level in ((5.0, Level.IV), (15.0, Level.II), (25.0, Level.I))
    ]


def test_a_limit_of_an_attribute_has_no_value_until_an_asset_is_named() -> None:
    mild, _, worst = limits_of(rule("bridge-overload"))
    assert (mild.value, mild.attribute, mild.factor, mild.level, mild.inclusive) == (
        None,
        "posted_limit",
        1.0,
        Level.IV,
        False,
    )
    assert (worst.factor, worst.level, worst.holds) == (1.5, Level.I, None)
    bridge = Asset("B1", "bridge", attributes={"posted_limit": 20.0})
    assert [limit.value for limit in limits_on(rule("bridge-overload"), bridge, {})] == [20.0, 24.0, 30.0]
    assert limits_on(rule("bridge-overload"), Asset("B2", "bridge"), {}) == [], "it does not have that alarm"


def test_defaults_additions_and_what_raises_the_level_count() -> None:
    (tilted,) = limits_of(rule("manhole-tilted"))
    assert (tilted.value, tilted.default, tilted.attribute) == (None, 15.0, "tilt_limit")
    assert limits_on(rule("manhole-tilted"), Asset("M1", "manhole"), {})[0].value == 15.0
    (high,) = limits_on(rule("wetwell-high"), Asset("P1", "pump", attributes={"L6": 4.0, "hazard_source": True}), {})
    assert (high.value, high.holds, high.level) == (3.7, 3.4, Level.I)


def test_a_share_of_what_a_point_reports_follows_it() -> None:
    (symbolic,) = limits_of(rule("lamp-out"))
    assert (symbolic.attribute, symbolic.factor, symbolic.points, symbolic.value) == (
        "rated_power",
        0.2,
        ("dim",),
        None,
    )
    lamp = Asset("L1", "lamp", attributes={"rated_power": 100.0})
    assert limits_on(rule("lamp-out"), lamp, {})[0].value == 20.0, "never reported: at full light"
    assert limits_on(rule("lamp-out"), lamp, {"dim": 50.0})[0].value == 10.0


def test_every_pump_that_reports_has_its_own_line() -> None:
    station = Asset("P1", "pump", attributes={"rated_current": 40.0})
    found = limits_on(rule("pump-overcurrent"), station, {"p1_current": 3.0, "p12_current": None, "p3_run": True})
    assert [(limit.point, limit.value) for limit in found] == [
        ("p1_current", 44.0),
        ("p12_current", 44.0),
        ("p1_current", 52.0),
        ("p12_current", 52.0),
    ]


def test_changes_and_means_say_what_they_are_and_a_level_in_an_all_counts_for_its_limit() -> None:
    assert [(limit.measure, limit.over, limit.value) for limit in limits_of(rule("pipe-fast-rise"))] == [
        ("change", 10 * MINUTE, 0.5)
    ]
    assert {limit.measure for limit in limits_of(rule("site-dust"))} == {"mean"}
    assert [limit.level for limit in limits_of(rule("pump-no-start"))] == [Level.II, Level.I], (
        "the second one in a storm"
    )
    low, high = limits_of(rule("lamp-voltage"))
    assert (low.side, low.value, low.holds, high.side, high.value, high.holds) == (
        "below",
        198.0,
        201.0,
        "above",
        231.0,
        228.0,
    )


def test_an_override_counts_for_the_assets_it_names() -> None:
    text = """
- rule: x
  applies_to: {kind: road}
  when: {point: depth, above: 5 cm, deadband: 1 cm}
  overrides: [{assets: road-7, set: {when.above: 3 cm, level: II}}]
"""
    found = load_rules({"r.yaml": text}).rules["x"]
    assert [(limit.value, limit.level) for limit in limits_of(found)] == [(5.0, Level.IV)]
    assert [(limit.value, limit.level) for limit in limits_on(found, Asset("road-7", "road"), {})] == [(3.0, Level.II)]


def test_no_rule_is_too_odd_to_list() -> None:
    listed = {one.id: limits_of(one) for one in SHIPPED}
    assert sum(map(len, listed.values())) > 70
    assert listed["lamp-offline"] == listed["circuit-lost"] == []
