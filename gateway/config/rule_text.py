"""The text of single rules: taken out of a file with the comments that belong to them, and changed by a key.

A comment belongs to the rule below it when no empty line stands between them. What cannot be taken out as it stands
(an alias of another rule's anchor, a list in brackets) is written anew without comments: the data are right.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.yaml_source import YamlSource, plain_yaml, read_yaml, sequence_entries
from gateway.errors import ConfigError

_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")  # what YAML ends a line with


@dataclass(frozen=True, slots=True)
class RuleText:
    """``text``: `- rule: …` and what belongs to it, at the left margin, with one line break at its end. ``line``: of
    the file it comes from, where its first line stands; ``data``: what the text says."""

    rule: str
    text: str
    data: dict[str, Any]
    file: str
    line: int

    @property
    def rev(self) -> str:
        return rev_of(self.text)


def rev_of(text: str) -> str:
    """12 hexadecimal digits; another text, another rev."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def rule_texts(text: str, file: str) -> dict[str, RuleText]:
    """The rules of a file by id; those without one are left out, of two with the same id the first counts. Raises
    ConfigError for what is no YAML."""
    source = read_yaml(text, file)
    if not isinstance(source.data, list):
        return {}
    lines = _BREAK.split(text)
    found: dict[str, RuleText] = {}
    for index, (item, (begin, block)) in enumerate(zip(source.data, _blocks(text, lines, source), strict=True)):
        name = item.get("rule") if isinstance(item, dict) else None
        if isinstance(name, str) and name not in found:
            if not _is(block, [item]):
                begin, block = source.line((index,)) or 1, plain_yaml([item])
            found[name] = RuleText(name, block, item, file, begin)
    return found


def with_keys(text: str, changes: Mapping[str, str | bool]) -> str:
    """The text of one rule in which these top keys have these values; everything else stays as it is written. Raises
    ConfigError when ``text`` is not one rule."""
    source = read_yaml(text, "rule")
    data = source.data
    if not isinstance(data, list) or len(data) != 1 or not isinstance(data[0], dict) or "rule" not in data[0]:
        raise ConfigError([source.mistake((), "one rule is a list of one: `- rule: …`")])
    lines = text.splitlines(keepends=True)
    head = (source.line((0, "rule")) or 1) - 1
    dash = re.match(r"[ -]*", lines[head])
    margin = " " * (dash.end() if dash is not None else 2)
    added: list[str] = []
    for key, value in changes.items():
        shown = ("true" if value else "false") if isinstance(value, bool) else value
        at = source.line((0, key)) if key in data[0] else None
        if at is None:
            added.append(f"{margin}{key}: {shown}\n")
        else:
            lines[at - 1] = re.sub(
                rf"^([ -]*{re.escape(key)}:[ ]+)[^#\r\n]*?([ ]*(?:[ ]#.*)?)(\r?\n?)$",
                rf"\g<1>{shown}\g<2>\g<3>",
                lines[at - 1],
            )
    if not lines[head].endswith("\n"):
        lines[head] += "\n"
    lines[head + 1 : head + 1] = added
    changed = "".join(lines)
    wanted = [{**data[0], **changes}]
    return changed if _is(changed, wanted) else plain_yaml(wanted)


def _is(text: str, data: Any) -> bool:
    """Whether ``text`` by itself says ``data``."""
    try:
        return bool(read_yaml(text, "").data == data)
    except ConfigError:
        return False


def _blocks(text: str, lines: list[str], source: YamlSource) -> list[tuple[int, str]]:
    """(first line, text) of each entry of the list; guesses where it is no list of dashes."""
    entries = sequence_entries(text)
    if len(entries) != len(source.data):
        return [(source.line((i,)) or 1, "") for i in range(len(source.data))]
    begins: list[int] = []
    for at, column in entries:
        floor = begins[-1] + 1 if begins else 0
        while at > floor and _is_comment(lines[at - 1], column):
            at -= 1
        begins.append(at)
    ends = [*begins[1:], len(lines)]
    found: list[tuple[int, str]] = []
    for (_, column), begin, end in zip(entries, begins, ends, strict=True):
        block = lines[begin:end]
        while block and (not block[-1].strip() or _is_comment(block[-1], column)):
            block.pop()
        found.append((begin + 1, textwrap.dedent("\n".join(block)) + "\n"))
    return found


def _is_comment(line: str, column: int) -> bool:
    """A comment that is not indented under the entry."""
    bare = line.lstrip(" ")
    return bare.startswith("#") and len(line) - len(bare) <= column
