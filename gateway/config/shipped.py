"""Where the profiles and rules that come with citywatch lie, and how a folder of YAML files is read safely.

In a checkout they are the folders ``device_profiles/`` and ``rules/`` at its root; in an installed wheel they lie
inside the package, under ``gateway/_shipped/``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from gateway.config.yaml_source import MAX_BYTES
from gateway.errors import ConfigError, Mistake

PACKAGE = Path(__file__).resolve().parent.parent

PROFILE_FILES = (".yaml", ".py")  # profiles and their cases, and the codecs beside them

MAX_FILES = 10_000  # the whole library of devices we know of is some 200 files; ten thousand is the wrong folder
MAX_DEPTH = 8  # <vendor>/<model>.yaml needs two


def shipped(name: Literal["device_profiles", "rules"]) -> Path:
    """The folder of that name that came with this citywatch. Raises ConfigError when the installation lacks it."""
    # The wheel first: beside an installed package, `rules/` could be somebody else's.
    for folder in (PACKAGE / "_shipped" / name, PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigError([Mistake(name, None, "", "is missing from this installation: install citywatch again")])


def read_tree(folder: Path, *suffixes: str) -> dict[str, str]:
    """Every file below ``folder`` whose name ends with one of ``suffixes`` (.yaml when there is none): name relative to
    ``folder`` (with ``/``) → text.

    Sorted by name. Hidden files and folders are passed over, links to folders are not followed, a link to a file
    counts only when the file lies inside ``folder``. Raises ConfigError with every file that is too large, unreadable,
    not UTF-8, or outside; and with files ending in ``.yml`` where ``.yaml`` is read, which would else be ignored in
    silence.
    """
    suffixes = suffixes or (".yaml",)
    root = folder.resolve()
    if not root.is_dir():
        raise ConfigError([Mistake(str(folder), None, "", "there is no such folder")])
    texts: dict[str, str] = {}
    mistakes: list[Mistake] = []
    for name in _names(root, mistakes):
        path = root / name
        file = str(folder / name)
        if ".yaml" in suffixes and name.endswith(".yml"):
            mistakes.append(Mistake(file, None, "", "name it .yaml: files ending in .yml are not read"))
        if not name.endswith(suffixes):
            continue
        if not path.resolve().is_relative_to(root):
            mistakes.append(Mistake(file, None, "", "is a link that leads out of the folder"))
            continue
        if len(texts) >= MAX_FILES:
            mistakes.append(Mistake(str(folder), None, "", f"holds more than {MAX_FILES} files"))
            break
        try:
            texts[name] = read_text(path)
        except ConfigError as error:
            mistakes.extend(Mistake(file, m.line, m.key, m.message) for m in error.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return dict(sorted(texts.items()))


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """One file as text, a byte-order mark dropped. ConfigError when it cannot be read, is not UTF-8, or is longer
    than ``limit`` bytes (no more than that is ever read)."""
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise ConfigError([Mistake(str(path), None, "", f"cannot be read: {error.strerror or error}")]) from error
    if len(content) > limit:
        raise ConfigError([Mistake(str(path), None, "", f"larger than {limit} bytes")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8 at byte {error.start}: save the file as UTF-8"
        raise ConfigError([Mistake(str(path), line, "", message)]) from error


def _names(root: Path, mistakes: list[Mistake]) -> list[str]:
    """Names of all visible files below ``root``, relative to it."""
    names: list[str] = []
    errors: list[OSError] = []
    for here, folders, files in os.walk(root, onerror=errors.append, followlinks=False):
        depth = len(Path(here).relative_to(root).parts)
        folders[:] = [f for f in folders if not f.startswith(".")] if depth < MAX_DEPTH else []
        names.extend(Path(here, f).relative_to(root).as_posix() for f in files if not f.startswith("."))
    # A folder that cannot be listed would else look empty.
    mistakes.extend(Mistake(str(e.filename), None, "", f"cannot be listed: {e.strerror or e}") for e in errors)
    return sorted(names)
