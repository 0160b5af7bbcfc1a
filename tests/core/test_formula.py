"""Formulas say what Python would say, and never say anything else than a value or Uncomputable."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.formula import FormulaError, Uncomputable, parse_formula


@pytest.mark.parametrize(
    ("text", "scope", "value"),
    [
        ("mount_height - distance / 1000", {"mount_height": 2.5, "distance": 1500}, 1.0),
        ("2 + 3 * 4 ** 2", {}, 50.0),
        ("-2 ** 2", {}, -4.0),
        ("2 ** 3 ** 2", {}, 512.0),
        ("(a + b) * c", {"a": 1, "b": 2, "c": 3}, 9),
        ("7 // 2 + 7 % 4", {}, 6),
        ("status & 0x07", {"status": 0x0802}, 2),
        ("status >> 11 & 1", {"status": 0x0802}, 1),
        ("~0 & 255", {}, 255),
        ("not a and b or c", {"a": True, "b": 1, "c": 0}, False),
        ("a < 2 and b >= 2", {"a": 1, "b": 2}, True),
        ('quality == "R"', {"quality": "R"}, True),
        ("quality != 'R'", {"quality": "I"}, True),
        ("if(unit == 17, 0.01, 1)", {"unit": 17}, 0.01),
        ('if(n > 3, "many", "few")', {"n": 4}, "many"),
        ("min(a, 3, b) + max(1, 2)", {"a": 5, "b": 4}, 5),
        ("sum(axles) / count(axles)", {"axles": [6.0, 10.0]}, 8.0),
        ("round(2.345, 2) + floor(2.9) + abs(-1)", {}, 5.35),
        ("sin(30) + atan2(1, 1)", {}, 45.5),
        (".5e1 + 1.", {}, 6.0),
    ],
)
def test_a_formula_means_what_it_says(text: str, scope: dict[str, object], value: object) -> None:
    got = parse_formula(text).value(scope)
    assert got == pytest.approx(value) if isinstance(value, float) else got == value


def test_names_are_known_in_order_of_appearance() -> None:
    assert parse_formula("b + sum(a) * if(c == 'x', b, 1)").names == ("b", "a", "c")


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "a > 'b'",
     "(1", "1 2", "a b", "a.b", "a[0]", "f(1)", "__import__('os')", "abs()", "abs(1, 2)", "if(1, 2)", "if",
     "'text' * 3", "1 < 2 < 3", "1 ;", "sum(1)", "lambda: 1", "a = 1", "1e999", "0x", "9" * 30,
     "(" * 40 + "1" + ")" * 40, "-" * 40 + "1", "1+" * 300 + "1"],
)  # fmt: skip
def test_what_is_no_formula_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(FormulaError, match=r".{10}"):
        parse_formula(text)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("1 / a", {"a": 0}),
        ("a % 0", {"a": 1}),
        ("a * 2", {"a": "x" * 10}),
        ("a + 1", {"a": None}),
        ("a + 1", {"a": [1.0]}),
        ("sum(a)", {"a": 3}),
        ("sum(a)", {"a": [1, "x"]}),
        ("sqrt(a)", {"a": -1}),
        ("a ** 0.5", {"a": -1}),
        ("a ** a", {"a": 1e300}),
        ("1 << a", {"a": 10**6}),
        ("a & 1", {"a": 1.5}),
        ("a * a", {"a": 2**63}),
        ("a * a", {"a": 1e200}),
        ("a", {"a": [1]}),
        ("asin(a)", {"a": 2}),
        ("log(a)", {"a": 0}),
    ],
)
def test_what_has_no_value_says_so(text: str, scope: dict[str, object]) -> None:
    with pytest.raises(Uncomputable):
        parse_formula(text).value(scope)


numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.text(max_size=5), st.none(),
                    st.lists(st.floats(), max_size=3))  # fmt: skip


@given(st.text(max_size=60), st.dictionaries(st.sampled_from("abc"), numbers))
def test_no_text_does_anything_but_parse_or_be_refused(text: str, scope: dict[str, object]) -> None:
    try:
        formula = parse_formula(text)
    except FormulaError:
        return
    if all(name in scope for name in formula.names):
        _value_or_uncomputable(formula.text, scope)


@st.composite
def formulas(draw: st.DrawFn, depth: int = 0) -> str:
    if depth > 4 or draw(st.booleans()):
        return draw(st.sampled_from(["a", "b", "c", "0", "1.5", "7", "0xFF", "'x'", "true"]))
    left, right = draw(formulas(depth + 1)), draw(formulas(depth + 1))
    shape = draw(st.sampled_from(["({} {} {})", "min({0}, {2})", "if({0}, {2}, 1)", "abs({0})", "-{0}", "not {0}"]))
    operators = ["+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>", "<", "==", "and", "or"]
    return shape.format(left, draw(st.sampled_from(operators)), right)


@given(formulas(), st.fixed_dictionaries(dict.fromkeys("abc", numbers)))
def test_every_formula_over_anything_gives_a_value_or_says_it_has_none(text: str, scope: dict[str, object]) -> None:
    try:
        parse_formula(text)
    except FormulaError:
        return
    _value_or_uncomputable(text, scope)


def _value_or_uncomputable(text: str, scope: dict[str, object]) -> None:
    try:
        value = parse_formula(text).value(scope)
    except Uncomputable:
        return
    assert isinstance(value, (int, float, bool, str))
    assert not isinstance(value, float) or math.isfinite(value)
