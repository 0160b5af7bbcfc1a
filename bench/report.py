"""What benchmarks found, for people: targets checked, the machine named, ``bench/RESULTS.md`` kept section by section.

A target is a name of a figure and a bound as people write it: ``{"p99_ms": "<= 100", "mosquitto.rate": ">= 20000"}``.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import apsw

from gateway.errors import ConfigError
from gateway.journal.embedded import sync_probe
from gateway.sources.broker import find_server

RESULTS = Path(__file__).with_name("RESULTS.md")

HEADING = """\
# Results

Written by `citywatch bench NAME …`, section by section; what each figure means and how it is measured:
[docs/performance.md](../docs/performance.md). Broker, load generator and gateway share the cores of the machine named.
"""

PACKAGES = ("gmqtt", "duckdb", "msgspec", "uvloop")

_BOUND = re.compile(r"^(<=|>=|==) (-?\d+(?:\.\d+)?)$")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": lambda value, bound: value <= bound,
    ">=": lambda value, bound: value >= bound,
    "==": lambda value, bound: value == bound,
}
_SHOWN = {"<=": "≤", ">=": "≥", "==": "="}


def say(text: str) -> None:
    """A word for people about where we are, on standard error."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Checked:
    """One target: the figure's dotted name, what was measured (None: nothing) and the bound."""

    name: str
    value: float | None
    bound: str
    met: bool

    def __str__(self) -> str:
        return f"{self.name} = {_text(self.value)}, wanted {_bound_text(self.bound)}"


def check(figures: Mapping[str, Any], targets: Mapping[str, str]) -> list[Checked]:
    """Hold the figures against the targets; a figure that is missing misses its target. Raises ValueError for a bound
    that is none."""
    flat = dict(flatten(figures))
    checked = []
    for name, bound in targets.items():
        match = _BOUND.match(bound)
        if match is None:
            raise ValueError(f"not a bound: {bound!r} (write '<= 100')")
        value = flat.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            value = None
        met = value is not None and _COMPARE[match[1]](value, float(match[2]))
        checked.append(Checked(name, value, bound, met))
    return checked


def flatten(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures with dotted names, in their order; lists are left out."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{before}{name}.")
        elif not isinstance(value, (list, tuple)):
            yield f"{before}{name}", value


def machine() -> dict[str, Any]:
    """The machine a figure was measured on; ``load`` is how busy others kept it just now, in processes."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "fdatasync_p50_ms": round(sync_probe(Path(tempfile.gettempdir())) / 1000, 3),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """The versions that matter for the figures."""
    found = {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()}
    found |= {name: metadata.version(name) for name in PACKAGES}
    return found | _broker_versions()


def section(
    name: str,
    about: str,
    figures: Mapping[str, Any],
    checked: Sequence[Checked],
    where: Mapping[str, Any],
    programs: Mapping[str, str],
    now: datetime | None = None,
) -> str:
    """The section of one benchmark as Markdown: when and where, the targets, then every other figure."""
    day = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    place = f"{where['cpu']}, {where['cores']} cores, {where['kernel']}, fdatasync p50 {where['fdatasync_p50_ms']} ms"
    lines = [f"## {name}", "", about, "", f"{day} · {place} · load before: {where['load']}  "]
    lines += [" · ".join(f"{program} {version}" for program, version in programs.items()), ""]
    if checked:
        lines += ["| target | measured | wanted | |", "|---|--:|--:|---|"]
        for one in checked:
            verdict = "met" if one.met else "**missed**"
            lines.append(f"| {one.name} | {_text(one.value)} | {_bound_text(one.bound)} | {verdict} |")
        lines.append("")
    named = {one.name for one in checked}
    others = [(key, value) for key, value in flatten(figures) if key not in named]
    if others:
        lines += ["| figure | |", "|---|--:|", *(f"| {key} | {_text(value)} |" for key, value in others), ""]
    return "\n".join(lines)


def update(path: Path, name: str, text: str) -> None:
    """Put the section ``name`` into the file, in place of the one that is there, or at the end. Never half a file."""
    try:
        document = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        document = HEADING
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{text.rstrip()}\n{end}\n"
    old = re.compile(re.escape(begin) + r"\n.*?" + re.escape(end) + r"\n", re.DOTALL)
    if old.search(document):
        document = old.sub(lambda _: block, document, count=1)
    else:
        document = document.rstrip() + "\n\n" + block
    beside = path.with_suffix(".part")
    beside.write_text(document, encoding="utf-8")
    beside.replace(path)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` (0…1) of the ordered values do not exceed. Raises ValueError when there are none."""
    if not ordered:
        raise ValueError("no values")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _bound_text(bound: str) -> str:
    sign, _, number = bound.partition(" ")
    return f"{_SHOWN[sign]} {_text(float(number))}"


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _broker_versions() -> dict[str, str]:
    """Of the brokers that are installed."""
    commands: dict[str, list[str]] = {"mosquitto": ["mosquitto", "-h"]}
    try:
        commands["nats-server"] = [str(find_server()), "--version"]
    except ConfigError:
        commands.pop("nats-server", None)
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    found = {}
    for name, command in commands.items():
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
        except OSError:
            continue
        if match := re.search(r"\d+\.\d+\.\d+", answer.stdout + answer.stderr):
            found[name] = match[0]
    return found
