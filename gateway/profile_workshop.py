"""``citywatch profile new``: a profile and its cases to begin with, and their verdict each time they are saved.

citywatch profile new town/level-gauge.yaml --kind pipe --transport lorawan
citywatch profile try town/level-gauge.yaml --watch
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from watchfiles import watch

from gateway.config.profile_cases import run_all_cases
from gateway.config.profiles import CASES, CODEC, load_profiles
from gateway.config.shipped import read_text
from gateway.config.yaml_source import did_you_mean
from gateway.core.profile import Transport
from gateway.core.vocabulary import KINDS, points_of
from gateway.errors import ConfigError, Mistake

_SHAPES = {
    Transport.MQTT: ("", "{from: KEY}", "json: '{\"KEY\": 1}'"),
    Transport.LORAWAN: (
        """
payload:
  format: frames               # or milesight, tlv, decentlab, codec
  frames:
    - prefix: "01"
      fields:
        raw_value: {at: 1, type: uint16}
""",
        "{from: raw_value}",
        "hex: 01 00 01",
    ),
    Transport.MODBUS: (
        """
modbus: {function: 3, order: ABCD, first_address: 0}
""",
        "{address: 0, type: uint16}",
        'modbus: ["3:0:0001"]',
    ),
    Transport.HJ212: (
        "",
        "{from: a34004-Rtd}",
        'hj212: "ST=22;CN=2011;PW=1;MN=1;Flag=4;CP=&&DataTime=20250720162640;a34004-Rtd=1,a34004-Flag=N&&"',
    ),
}


def new_profile(file: Path, kind: str, transport: Transport) -> list[Path]:
    """Write ``file`` and its cases; both can be loaded and hold as they are. Gives what was written. Raises ConfigError
    for a kind that does not exist and for files that do."""
    cases = _cases_of(file)
    if kind not in KINDS:
        raise ConfigError([Mistake("--kind", None, "", f"there is no kind `{kind}`{did_you_mean(kind, KINDS)}")])
    for path in (file, cases):
        if path.exists():
            raise ConfigError([Mistake(str(path), None, "", "is there already; nothing was written")])
    point = next((name for name, unit in points_of(kind).items() if unit), "battery").replace("pN_", "p1_")
    shape, takes, payload = (text.replace("KEY", point) for text in _SHAPES[transport])
    body = f"""\
# What the device is, and what is special about it.
title: {{zh: {file.stem}, en: {file.stem}}}
kind: {kind}
transport: {transport}
expected_interval: 15m
source: where the facts come from
{shape}
points:
  {point}: {takes}            # unit, range, sentinels, states, formula: see docs/profiles.md
"""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body, encoding="utf-8")
    cases.write_text(
        "source: captured frames, if possible\ncases:\n"
        f"  - {{name: a first frame, {payload}, expect: {{{point}: 1}}}}\n",
        encoding="utf-8",
    )
    return [file, cases]


def verdict(file: Path) -> tuple[bool, list[str]]:
    """Whether the profile loads and all its cases hold; every mistake, else how many there are."""
    try:
        files = {file.name: read_text(file)}
        files |= {path.name: read_text(path) for path in sorted(file.parent.glob(f"*{CODEC}"))}
        profiles = load_profiles(files)
        cases = _cases_of(file)
        if not cases.exists():
            return False, [f"{cases}: is missing: cases show that the profile is right"]
        count, mistakes = run_all_cases({cases.name: read_text(cases)}, profiles)
    except ConfigError as error:
        return False, [str(mistake) for mistake in error.mistakes]
    if mistakes:
        return False, [str(mistake) for mistake in mistakes]
    return True, [f"{file}: {count} cases hold"]


def try_again_and_again(file: Path, tell: Callable[[bool, list[str]], None]) -> None:
    """The verdict now and each time something beside the profile is saved, until Ctrl-C."""
    tell(*verdict(file))
    for _ in watch(file.parent, recursive=False, raise_interrupt=False):
        tell(*verdict(file))


def _cases_of(file: Path) -> Path:
    if file.suffix != ".yaml" or file.name.endswith(CASES):
        raise ConfigError([Mistake(str(file), None, "", "a profile is a file <vendor>/<model>.yaml")])
    return file.with_name(file.name.removesuffix(".yaml") + CASES)
