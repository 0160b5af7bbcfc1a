"""Writes ``requirements.lock`` from ``pyproject.toml``: every package that an installation may need, with its hashes.

    python3 deploy/lock.py              # keeps the versions that still fit
    python3 deploy/lock.py --upgrade    # takes the newest

Needs ``uv``. One file serves all: what only the tests need is marked ``extra == 'test'``, what builds the package
``extra == 'build'``, uv itself ``extra == 'bootstrap'``, and Node.js for machines without npm ``extra == 'node'``. For
pip and uv such a marker is false, so that ``pip install -r requirements.lock`` installs what runs; ``run.py`` takes the
marks away where it wants more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"

HEADER = """\
# Made by deploy/lock.py from pyproject.toml; do not edit.
# Installed when citywatch runs: every line without an `extra`. What builds it is marked 'build', what only the tests
# need 'test', uv itself 'bootstrap', and Node.js for machines without npm 'node'.
"""

_BLOCK = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)
_FIRST_LINE = re.compile(r"^(?P<pin>[A-Za-z0-9._-]+==[^\s;]+)(?: ; (?P<marker>[^\\\n]*?))? \\$", re.MULTILINE)


def main() -> None:
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder, "all.txt")
        if LOCK.exists() and "--upgrade" not in sys.argv:
            everything.write_text(unmarked(LOCK.read_text()))  # uv keeps the versions it finds in its output file
        compile_ = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--no-header"]
        groups = ["--group", "build", "--group", "bootstrap", "--group", "node"]
        upgrade = ["--upgrade"] if "--upgrade" in sys.argv else []
        run([*compile_, "--generate-hashes", "pyproject.toml", "--extra", "test", *groups, *upgrade, "-o", everything])
        runs, builds, boots, nodes = (
            names(run([*compile_, "--no-annotate", "--constraints", everything, *what]))
            for what in (["pyproject.toml"], ["--group", "build"], ["--group", "bootstrap"], ["--group", "node"])
        )
        marked = []
        for block in _BLOCK.split(everything.read_text())[1:]:
            name = block.split("==", 1)[0]
            marks = {"build": builds, "bootstrap": boots, "node": nodes}
            extra = next((mark for mark, of_it in marks.items() if name in of_it), "test")
            marked.append(block if name in runs else with_mark(block, extra))
    LOCK.write_text(HEADER + "".join(marked))
    print(f"requirements.lock: {len(marked)} packages, {len(runs)} of them when citywatch runs")


def run(command: list[object]) -> str:
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def names(text: str) -> set[str]:
    return {line.split("==", 1)[0] for line in text.splitlines() if "==" in line}


def with_mark(block: str, extra: str) -> str:
    """``tomli==2 ; python < '3.11' \\`` → ``tomli==2 ; (python < '3.11') and extra == 'test' \\``"""

    def mark(match: re.Match[str]) -> str:
        before = f"({match['marker']}) and " if match["marker"] else ""
        return f"{match['pin']} ; {before}extra == '{extra}' \\"

    return _FIRST_LINE.sub(mark, block, count=1)


def unmarked(text: str) -> str:
    """The lock without its marks, as uv wrote it."""
    text = re.sub(r" ; extra == '[a-z]+' \\$", r" \\", text, flags=re.MULTILINE)
    return re.sub(r" ; \((.*)\) and extra == '[a-z]+' \\$", r" ; \1 \\", text, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
