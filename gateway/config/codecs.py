"""Codecs: the Python files beside profiles, for what the language of profiles cannot say.

A codec has one function ``decode(data: bytes, fport: int | None) -> list[Sample]`` and needs nothing but its bytes. Its
text is part of the configuration, under the configuration's hash: a replay runs the codec that was in force then. It is
code like ours: who may write into a folder of profiles may run code in the gateway, so such a folder is the operator's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gateway.errors import ConfigError, Mistake

ALLOWED = frozenset(("__future__", "struct", "math", "typing", "collections.abc", "gateway.codec"))


def load_codec(file: str, text: str) -> Callable[[bytes, int | None], Any]:
    """The ``decode`` of a codec. Raises ConfigError for one that cannot be loaded or imports more than it needs."""

    def wrong(message: str, line: int | None = None) -> ConfigError:
        return ConfigError([Mistake(file, line, "", message)])

    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        raise wrong(f"{file}: not Python: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["." if node.level or node.module is None else node.module]
        else:
            continue
        for name in names:
            if name not in ALLOWED:
                allowed = ", ".join(sorted(ALLOWED - {"__future__"}))
                raise wrong(f"{file}: a codec may import {allowed}, not {name}", node.lineno)
    module = ModuleType(f"codec {file}")
    try:
        exec(compile(tree, file, "exec"), module.__dict__)  # noqa: S102  the operator's own code, as a plug-in
    except Exception as error:
        raise wrong(f"{file}: {type(error).__name__}: {error}") from error
    decode = module.__dict__.get("decode")
    if not callable(decode):
        raise wrong(f"{file}: has no function decode(data, fport)")
    found: Callable[[bytes, int | None], Any] = decode
    return found
