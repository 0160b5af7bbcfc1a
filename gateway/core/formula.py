"""Small safe arithmetic for profiles: ``mount_height - distance / 1000`` → a function of named values.

Numbers, names, ``true`` ``false``, texts in quotes; ``+ - * / // % **``, bits ``& | ^ ~ << >>``, comparisons,
``and or not``, and the functions of ``FUNCTIONS`` plus ``if(test, then, else)``. No attributes, no calls of anything
else, no loops: every formula ends, in time proportional to its length. It is parsed once, into closures, at load.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.core.model import Value
from gateway.core.tilt import gravity_length, tilt_between

MAX_LENGTH = 500
MAX_DEPTH = 32
MAX_SHIFT = 64
INT64_LOW, UINT64_HIGH = -(2**63), 2**64 - 1

Scope: TypeAlias = Mapping[str, Any]
Evaluate: TypeAlias = Callable[[Scope], Any]


class FormulaError(ValueError):
    """The text is not a formula; says what and where."""


class Uncomputable(ArithmeticError):
    """The formula has no value for these inputs (division by zero, a text where a number belongs …)."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula. ``names``: what it reads, in order of appearance. Two formulas of one text are equal."""

    text: str
    names: tuple[str, ...]
    _numbers: tuple[str, ...] = field(compare=False, repr=False)
    _lists: tuple[str, ...] = field(compare=False, repr=False)
    _evaluate: Evaluate = field(compare=False, repr=False)

    def value(self, scope: Scope) -> Value:
        """The value for the named inputs, all of which must be in ``scope``. Raises Uncomputable, nothing else."""
        for name in self._numbers:
            kind = type(scope[name])
            if kind is not float and kind is not int and kind is not bool:
                raise Uncomputable(f"{name} is not a number")
        for name in self._lists:
            items = scope[name]
            if type(items) is not list or not all(type(i) is float or type(i) is int for i in items):
                raise Uncomputable(f"{name} is not a list of numbers")
        try:
            result = self._evaluate(scope)
        except ZeroDivisionError:
            raise Uncomputable("division by zero") from None
        except (ArithmeticError, ValueError, TypeError):
            raise Uncomputable(f"`{self.text}` has no value here") from None
        kind = type(result)
        if (kind is float and not math.isfinite(result)) or (kind is int and not INT64_LOW <= result <= UINT64_HIGH):
            raise Uncomputable("the result is not a number we can keep")
        if kind is not float and kind is not int and kind is not bool and kind is not str:
            raise Uncomputable("the result is not a value")
        return result  # type: ignore[no-any-return]

    def holds(self, scope: Scope) -> bool:
        """The value as a yes or no. Raises Uncomputable."""
        return bool(self.value(scope))


def _power(base: float, exponent: float) -> float:
    return math.pow(base, exponent)


def _shift(value: int, by: int, left: bool) -> int:
    if not 0 <= by <= MAX_SHIFT:
        raise ValueError("shift out of range")
    return value << by if left else value >> by


def _round(value: float, digits: float = 0) -> float:
    return round(value, int(digits)) if digits else float(round(value))


# name → (least, most arguments, function). Lists are only for the functions of _LIST_FUNCTIONS.
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "abs": (1, 1, abs),
    "min": (2, 8, min),
    "max": (2, 8, max),
    "floor": (1, 1, math.floor),
    "ceil": (1, 1, math.ceil),
    "round": (1, 2, _round),
    "int": (1, 1, int),
    "sqrt": (1, 1, math.sqrt),
    "exp": (1, 1, math.exp),
    "log": (1, 1, math.log),
    "log10": (1, 1, math.log10),
    "sin": (1, 1, lambda a: math.sin(math.radians(a))),
    "cos": (1, 1, lambda a: math.cos(math.radians(a))),
    "tan": (1, 1, lambda a: math.tan(math.radians(a))),
    "asin": (1, 1, lambda v: math.degrees(math.asin(v))),
    "acos": (1, 1, lambda v: math.degrees(math.acos(v))),
    "atan2": (2, 2, lambda y, x: math.degrees(math.atan2(y, x))),
    "tilt_between": (6, 6, tilt_between),
    "gravity_length": (3, 3, gravity_length),
}
_LIST_FUNCTIONS: dict[str, Callable[[list[float]], float]] = {"sum": math.fsum, "count": len}

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
          |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
          |(?P<text>"[^"]*"|'[^']*')
          |(?P<mark>\*\*|//|<<|>>|<=|>=|==|!=|[-+*/%()<>,&|^~]))""",
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "not", "true", "false", "if"})
# Binding powers, loosest first, as in Python.
_BINARY: dict[str, int] = {
    "or": 1, "and": 2, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "|": 5, "^": 6, "&": 7, "<<": 8, ">>": 8,
    "+": 9, "-": 9, "*": 10, "/": 10, "//": 10, "%": 10, "**": 12,
}  # fmt: skip
_NOT, _SIGN = 3, 11


def parse_formula(text: str) -> Formula:
    """Raises FormulaError with a sentence for the operator."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"a formula may have {MAX_LENGTH} characters, this has {len(text)}")
    parser = _Parser(text)
    tree = parser.expression(0, 0)
    if parser.token is not None:
        raise FormulaError(f"`{parser.token[1]}` does not belong there in `{text}`")
    compiler = _Compiler()
    evaluate = compiler.any(tree)
    return Formula(text, tuple(compiler.names), tuple(compiler.numbers), tuple(compiler.lists), evaluate)


class _Parser:
    """Text → tree of tuples: ("number", 5), ("name", "x"), ("text", "R"), ("bool", True), (operator, a, b), …"""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.token: tuple[str, str] | None = None
        self.next()

    def next(self) -> None:
        rest = self.text[self.at :]
        if not rest.strip():
            self.token = None
            return
        match = _TOKEN.match(rest)
        if match is None:
            raise FormulaError(f"`{rest.strip()[0]}` is not understood in `{self.text}`")
        self.at += match.end()
        kind = str(match.lastgroup)
        word = match[kind]
        self.token = ("mark" if word in _WORDS and word not in ("true", "false") else kind, word)

    def expression(self, power: int, depth: int) -> tuple[Any, ...]:
        if depth > MAX_DEPTH:
            raise FormulaError(f"nested deeper than {MAX_DEPTH} in `{self.text}`")
        left = self.operand(depth)
        while self.token is not None and self.token[0] == "mark" and _BINARY.get(self.token[1], 0) > power:
            operator = self.token[1]
            binding = _BINARY[operator]
            self.next()
            right = self.expression(binding - 1 if operator == "**" else binding, depth + 1)
            if binding == 4 and left[0] in ("==", "!=", "<", "<=", ">", ">="):
                raise FormulaError(f"comparisons cannot be chained in `{self.text}`: write `a < b and b < c`")
            left = (operator, left, right)
        return left

    def operand(self, depth: int) -> tuple[Any, ...]:
        if self.token is None:
            raise FormulaError(f"`{self.text}` ends too early")
        kind, word = self.token
        self.next()
        if kind == "number":
            return "number", _literal(word, self.text)
        if kind == "text":
            return "text", word[1:-1]
        if kind == "name" and word in ("true", "false"):
            return "bool", word == "true"
        if word == "(" and kind == "mark":
            inner = self.expression(0, depth + 1)
            self.expect(")")
            return inner
        if kind == "mark" and word == "not":
            return "not", self.expression(_NOT, depth + 1)
        if kind == "mark" and word in "-+~":
            return f"unary{word}", self.expression(_SIGN, depth + 1)
        if kind == "name" or word == "if":
            if self.token != ("mark", "("):
                if word == "if":
                    raise FormulaError(f"`if` is a function in `{self.text}`: write `if(test, then, else)`")
                return "name", word
            return "call", word, self.arguments(depth)
        raise FormulaError(f"`{word}` does not belong there in `{self.text}`")

    def arguments(self, depth: int) -> list[tuple[Any, ...]]:
        self.expect("(")
        found = [self.expression(0, depth + 1)]
        while self.token == ("mark", ","):
            self.next()
            found.append(self.expression(0, depth + 1))
        self.expect(")")
        return found

    def expect(self, mark: str) -> None:
        if self.token != ("mark", mark):
            raise FormulaError(f"`{mark}` is missing in `{self.text}`")
        self.next()


def _literal(word: str, text: str) -> float | int:
    if word[:2].lower() == "0x":
        number: float | int = int(word, 16)
    elif word.isdigit():
        number = int(word)
    else:
        number = float(word)
    if not -(2.0**63) <= number < 2.0**64:
        raise FormulaError(f"the number {word[:30]} is too large in `{text[:60]}`")
    return number


_ARITHMETIC: dict[str, Callable[[Evaluate, Evaluate], Evaluate]] = {
    "+": lambda a, b: lambda s: a(s) + b(s),
    "-": lambda a, b: lambda s: a(s) - b(s),
    "*": lambda a, b: lambda s: a(s) * b(s),
    "/": lambda a, b: lambda s: a(s) / b(s),
    "//": lambda a, b: lambda s: a(s) // b(s),
    "%": lambda a, b: lambda s: a(s) % b(s),
    "**": lambda a, b: lambda s: _power(a(s), b(s)),
    "&": lambda a, b: lambda s: a(s) & b(s),
    "|": lambda a, b: lambda s: a(s) | b(s),
    "^": lambda a, b: lambda s: a(s) ^ b(s),
    "<<": lambda a, b: lambda s: _shift(a(s), b(s), True),
    ">>": lambda a, b: lambda s: _shift(a(s), b(s), False),
    "<": lambda a, b: lambda s: a(s) < b(s),
    "<=": lambda a, b: lambda s: a(s) <= b(s),
    ">": lambda a, b: lambda s: a(s) > b(s),
    ">=": lambda a, b: lambda s: a(s) >= b(s),
}


class _Compiler:
    """Tree → closures, noting which names must be numbers and which lists.

    The checks of types happen once per evaluation, on the names, so that the closures need none: a text can never
    reach ``*`` and multiply itself into a gigabyte.
    """

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.numbers: dict[str, None] = {}
        self.lists: dict[str, None] = {}

    def any(self, node: tuple[Any, ...]) -> Evaluate:
        """A value of any type: for results, and the two sides of an equality."""
        if node[0] == "text":
            text = node[1]
            return lambda s: text
        if node[0] == "name":
            name = node[1]
            self.names[name] = None
            return lambda s: s[name]
        if node[0] == "call" and node[1] == "if":
            return self._if(node[2], self.any)
        return self.number(node)

    def number(self, node: tuple[Any, ...]) -> Evaluate:
        kind = node[0]
        if kind in ("number", "bool"):
            constant = node[1]
            return lambda s: constant
        if kind == "text":
            raise FormulaError(f'the text "{node[1]}" stands where a number belongs')
        if kind == "name":
            name = node[1]
            self.names[name] = None
            self.numbers[name] = None
            return lambda s: s[name]
        if kind == "call":
            return self._call(node[1], node[2])
        if kind in ("==", "!="):
            return self._equal(node)
        if kind in ("and", "or", "not"):
            return self._logic(node)
        if kind.startswith("unary"):
            inner = self.number(node[1])
            match kind:
                case "unary-":
                    return lambda s: -inner(s)
                case "unary~":
                    return lambda s: ~inner(s)
                case _:
                    return inner
        return _ARITHMETIC[kind](self.number(node[1]), self.number(node[2]))

    def _equal(self, node: tuple[Any, ...]) -> Evaluate:
        left, right = self.any(node[1]), self.any(node[2])
        if node[0] == "==":
            return lambda s: left(s) == right(s)
        return lambda s: left(s) != right(s)

    def _logic(self, node: tuple[Any, ...]) -> Evaluate:
        left = self.number(node[1])
        if node[0] == "not":
            return lambda s: not left(s)
        right = self.number(node[2])
        if node[0] == "and":
            return lambda s: bool(left(s) and right(s))
        return lambda s: bool(left(s) or right(s))

    def _if(self, arguments: Sequence[tuple[Any, ...]], branch: Callable[[tuple[Any, ...]], Evaluate]) -> Evaluate:
        if len(arguments) != 3:
            raise FormulaError("`if` takes three arguments: if(test, then, else)")
        test, then, otherwise = self.number(arguments[0]), branch(arguments[1]), branch(arguments[2])
        return lambda s: then(s) if test(s) else otherwise(s)

    def _call(self, name: str, arguments: list[tuple[Any, ...]]) -> Evaluate:
        if name == "if":
            return self._if(arguments, self.number)
        of_list = _LIST_FUNCTIONS.get(name)
        if of_list is not None:
            if len(arguments) != 1 or arguments[0][0] != "name":
                raise FormulaError(f"`{name}` takes the name of one list")
            items = arguments[0][1]
            self.names[items] = None
            self.lists[items] = None
            return lambda s: of_list(s[items])
        if name not in FUNCTIONS:
            known = ", ".join(sorted((*FUNCTIONS, *_LIST_FUNCTIONS, "if")))
            raise FormulaError(f"there is no function `{name}` (there are {known})")
        least, most, function = FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise FormulaError(f"`{name}` takes {wanted} arguments, not {len(arguments)}")
        compiled = [self.number(argument) for argument in arguments]
        if len(compiled) == 1:
            only = compiled[0]
            return lambda s: function(only(s))
        return lambda s: function(*[argument(s) for argument in compiled])
