"""Conditions in CEL, the Common Expression Language: for what limits and windows cannot say.

    wetwell > L5 && outfall > wetwell + 0.5

A name is a point of the asset or one of its attributes, in canonical units. No functions but a few of CEL's own, no
macros that walk over lists, no regular expressions: the work is bounded by the length of the text. The text is parsed
when the rule is loaded. The library (CEL in Rust) is imported by the first expression: up to a second that a
configuration without one is spared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from gateway.core.model import Value

MAX_LENGTH = 500  # characters; an expression nobody can read is one nobody has checked
MAX_DEPTH = 16

_TEXT = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_FUNCTIONS = frozenset({"size", "int", "double", "string", "contains", "startsWith", "endsWith"})
_OPERATORS = frozenset(
    {"_&&_", "_||_", "!_", "-_", "_+_", "_-_", "_*_", "_/_", "_%_", "_<_", "_<=_", "_>_", "_>=_", "_==_", "_!=_",
     "_?_:_", "@in"}
)  # fmt: skip


def names_of(text: str) -> tuple[str, ...]:
    """Check an expression; gives the names it looks at, sorted. Raises ValueError with what is wrong with it."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    depth = 0
    for character in _TEXT.sub('""', text):
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    program = _program(text)
    for name in sorted(program.functions()):
        if name not in _OPERATORS and name not in _FUNCTIONS:
            known = ", ".join(sorted(_FUNCTIONS))
            raise ValueError(f"`{name.strip('@_')}` is not possible here (functions: {known})")
    names = tuple(sorted(program.variables()))
    if not names:
        raise ValueError("it looks at nothing")
    return names


@cache
def evaluator(text: str) -> Callable[[Mapping[str, Value]], bool | None]:
    """A checked expression as a function of its names' values; None where it has no truth (types that do not go
    together, a division by zero, an answer that is not true or false)."""
    import cel

    execute = _program(text).execute
    context = cel.Context()  # reused: a mapping given anew each time costs seven times as much

    def evaluate(values: Mapping[str, Value]) -> bool | None:
        context.update(dict(values))
        try:
            found = execute(context)
        except (ValueError, TypeError, RuntimeError, ArithmeticError):
            return None
        return found if isinstance(found, bool) else None

    return evaluate


@cache
def _program(text: str) -> Any:
    import cel

    try:
        return cel.compile(text)
    except ValueError as error:
        reason = str(error).partition("ERROR: <input>:")[2].splitlines()
        raise ValueError(f"not a CEL expression: {(reason or [str(error)])[0][:120]}") from error
