"""YAML text → plain data that still knows its lines, and pydantic's complaints → mistakes with file, line and key.

The reader is strict on purpose: safe tags only, no duplicate keys, at most 50 aliases, at most 1 MiB, at most 64
levels, and YAML 1.2 booleans (``NO`` stays the text "NO"; ``off`` stays "off").
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from gateway.errors import ConfigError, Mistake

MAX_BYTES = 1 << 20  # a county's rules are 60 kB; a megabyte is a mistake or an attack
MAX_ALIASES = 50  # the "billion laughs" file needs ten aliases of ten; honest files use a handful
MAX_DEPTH = 64

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class YamlSource:
    """Plain data (dict, list, str, int, float, bool, None) and the 1-based line of every path in it."""

    file: str
    data: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int | None:
        """Line of ``path``, or of its nearest parent that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def mistake(self, path: Path, message: str) -> Mistake:
        return Mistake(self.file, self.line(path), dotted(path), message)


_OPEN = (
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
)
_CLOSE = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)


class _Loader(yaml.CSafeLoader):
    """SafeLoader with YAML 1.2 booleans; dates stay text. The one in C reads a configuration ten times as fast, but
    ends the process on a document nested 100,000 deep: ``_bounded`` looks at the tokens first."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _REPLACED]
    for _REPLACED in [("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
# YAML 1.1 reads 12:30:45 as a base-60 number and 010 as octal; here they stay text and a decimal.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16) if text.startswith("0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def dotted(path: Path) -> str:
    """``("rules", 3, "when")`` → ``rules[3].when``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def read_yaml(text: str, file: str) -> YamlSource:
    """Read one document. Raises ConfigError with every mistake of form (never a library exception)."""
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError([Mistake(file, None, "", f"larger than {MAX_BYTES} bytes")])
    mistakes: list[Mistake] = []
    lines: dict[Path, int] = {}
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # a control character
        raise ConfigError([Mistake(file, None, "", f"not valid YAML: {str(error).splitlines()[0][:200]}")]) from error
    try:
        _bounded(text, file)
        node = loader.get_single_node()
        data = _plain(loader, node, (), lines, mistakes, file) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # At the end of the text the reader's mark lies behind the last line.
        line = min(mark.line, text.count("\n")) + 1 if mark is not None else None
        raise ConfigError([Mistake(file, line, "", f"not valid YAML: {error.problem or error.context}")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([Mistake(file, None, "", f"not valid YAML: {str(error).splitlines()[0][:200]}")]) from error
    finally:
        loader.dispose()
    if mistakes:
        raise ConfigError(mistakes)
    return YamlSource(file, data, lines)


def _bounded(text: str, file: str) -> None:
    """Raises ConfigError for a document that is nested too deep or repeats itself too often, without building it."""
    depth = aliases = 0
    for token in yaml.scan(text, _Loader):
        if isinstance(token, _OPEN):
            depth += 1
            if depth > MAX_DEPTH:
                line = token.start_mark.line + 1
                raise ConfigError([Mistake(file, line, "", f"nested deeper than {MAX_DEPTH} levels")])
        elif isinstance(token, _CLOSE):
            depth -= 1
        elif isinstance(token, yaml.AliasToken):
            aliases += 1
            if aliases > MAX_ALIASES:
                raise ConfigError([Mistake(file, None, "", f"more than {MAX_ALIASES} aliases")])


def sequence_entries(text: str) -> list[tuple[int, int]]:
    """(line, column), from 0, of each dash of a document that is a list of dashes; [] for any other document."""
    found: list[tuple[int, int]] = []
    depth = 0
    for token in yaml.scan(text, _Loader):
        if isinstance(token, _OPEN):
            depth += 1
            if depth == 1 and not isinstance(token, yaml.BlockSequenceStartToken):
                return []
        elif isinstance(token, _CLOSE):
            depth -= 1
        elif isinstance(token, yaml.BlockEntryToken) and depth == 1:
            found.append((token.start_mark.line, token.start_mark.column))
    return found


class _Dumper(yaml.SafeDumper):
    """Writes what our reader reads as the same data, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def plain_yaml(data: Any) -> str:
    """``data`` as YAML, keys in their order."""
    text: str = yaml.dump(data, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=110)
    return text


def _plain(
    loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int], mistakes: list[Mistake], file: str
) -> Any:
    line = node.start_mark.line + 1
    lines[path] = line
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            here = key_node.start_mark.line + 1
            if not isinstance(key, Hashable) or isinstance(key, (tuple, list, dict)):
                mistakes.append(Mistake(file, here, dotted(path), "a key must be a plain word"))
                continue
            part = key if isinstance(key, str) else str(key)
            if key in result:
                mistakes.append(Mistake(file, here, dotted((*path, part)), "this key stands here twice"))
                continue
            result[key] = _plain(loader, value_node, (*path, part), lines, mistakes, file)
            lines[(*path, part)] = here
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*path, i), lines, mistakes, file) for i, item in enumerate(node.value)]
    if not node.tag.startswith("tag:yaml.org,2002:"):
        mistakes.append(Mistake(file, line, dotted(path), f"the tag {node.tag} is not allowed"))
        return None
    return loader.construct_object(node, deep=True)


def checked(model: type[Model], source: YamlSource, data: Any = None, at: Path = ()) -> Model:
    """``data`` (default: the whole document) as a ``model``; ConfigError names every wrong key with its line."""
    try:
        return model.model_validate(source.data if data is None and not at else data)
    except ValidationError as error:
        raise ConfigError(mistakes_of(error, source, at, model)) from error


def mistakes_of(
    error: ValidationError, source: YamlSource, at: Path = (), model: type[BaseModel] | None = None
) -> list[Mistake]:
    """Pydantic's errors as mistakes; an unknown key gets the nearest known one as a suggestion."""
    found: dict[tuple[Path, str], Mistake] = {}
    for item in error.errors():
        path = (*at, *_in_document(item["loc"], source, at))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "no such key" + did_you_mean(str(item["loc"][-1]), _known_keys(model))
        elif item["type"] == "missing":
            path, message = path[:-1] if path not in source.lines else path, f"`{item['loc'][-1]}` is missing"
        found.setdefault((path, message), source.mistake(path, message))
    return list(found.values())


def did_you_mean(word: str, known: object) -> str:
    """``": did you mean `wetwell`?"`` or ``""``; ``known`` is any iterable of words."""
    near = difflib.get_close_matches(word, [str(k) for k in known], n=1, cutoff=0.7)  # type: ignore[attr-defined]
    return f": did you mean `{near[0]}`?" if near else ""


def _known_keys(model: type[BaseModel] | None) -> set[str]:
    """Every field name in ``model`` and the models inside it."""
    known: set[str] = set()
    todo: list[Any] = [model] if model is not None else []
    seen: set[int] = set()
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, type) and issubclass(item, BaseModel):
            for name, field in item.model_fields.items():
                known.add(field.alias or name)
                todo.append(field.annotation)
        todo.extend(getattr(item, "__args__", ()))
    return known


def _in_document(loc: tuple[str | int, ...], source: YamlSource, at: Path) -> Path:
    """Drop the parts pydantic adds for unions and validators, which are not keys of the file."""
    path: Path = ()
    for part in loc:
        if (*at, *path, part) in source.lines:
            path = (*path, part)
    last = loc[-1] if loc else None
    if last is not None and (not path or path[-1] != last) and (*at, *path, last) not in source.lines:
        return (*path, last) if isinstance(last, str) and "[" not in last and "(" not in last else path
    return path
