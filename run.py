#!/usr/bin/env python3
"""Sets everything up in this folder, then starts citywatch.

    python3 run.py                 the demo city; the addresses to open are printed
    python3 run.py test            every check and test; `test ARGUMENTS` runs pytest alone with those arguments
    python3 run.py COMMAND …       any command of citywatch: run, check, decode, doctor, …; --help lists them

Nothing but Python 3.11 or newer is needed. All of it goes into this folder: packages, exactly those of
requirements.lock, into .venv; uv, which installs them, into .uv unless it is on the PATH. Where uv cannot be had, pip
does it. The second start finds everything in place and takes no time. Settings of pip and uv (PIP_*, UV_*, pip.conf,
HTTPS_PROXY) are honoured.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  an older Python gets this far: nothing below is new syntax
    import shutil

    newer = [p for p in ("python3.11", "python3.12", "python3.13", "python3.14") if shutil.which(p)]
    advice = f"start it with {newer[-1]} run.py" if newer else "install Python 3.11 or newer"
    sys.exit(f"run.py: this is Python {sys.version.split()[0]}, citywatch needs 3.11: {advice}")

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
OWN_UV = ROOT / ".uv"
LOCK = ROOT / "requirements.lock"
BIN = "Scripts" if os.name == "nt" else "bin"
PYTHON = VENV / BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "citywatch-setup"  # what was installed, in one line; written last
LOG = VENV / "citywatch-setup.log"
SAYING = threading.Lock()

# Tests of whole gateways in processes of their own: some files of them at a time, and each file in its order.
WHOLE = ("tests/bench/test_smoke.py", "tests/bench/test_smoke_console.py", "tests/browser", "tests/acceptance")
# These hurt, starve and time whole gateways: another test beside them would be one more fault.
ALONE = (
    "tests/acceptance/test_clock.py",
    "tests/acceptance/test_faults.py",
    "tests/acceptance/test_modbus_faults.py",
    "tests/browser/test_scale.py",
    "tests/sources",
)
APART = [f"--ignore={one}" for one in (*WHOLE, *ALONE)]
QUIET = [f"--ignore={one}" for one in ALONE]
Check = tuple[str, list[str]]
# Two cores, two lanes; in each, one check after the other.
LANES: tuple[tuple[Check, ...], ...] = (
    (
        ("ruff check", ["-m", "ruff", "check", "."]),
        ("ruff format --check", ["-m", "ruff", "format", "--check", "."]),
        ("mypy --strict", ["-m", "mypy"]),
        ("lint-imports", ["-c", "import importlinter.cli; importlinter.cli.lint_imports_command()"]),
        ("citywatch check", ["-P", "-m", "gateway", "check"]),
    ),
    (
        ("vue-tsc --strict", ["hatch_build.py", "check"]),
        ("vitest", ["hatch_build.py", "test"]),
    ),
)
TESTS: tuple[Check, ...] = (
    # They wait as long as they compute: four of them keep two cores busy.
    ("pytest, four at a time", ["-m", "pytest", "-n4", "--dist=worksteal", *APART]),
    ("pytest, three files at a time", ["-m", "pytest", "-n3", "--dist=loadfile", *WHOLE, *QUIET]),
    ("pytest, one at a time", ["-m", "pytest", *ALONE]),
)

# What an installer says → what the person can do. The first that matches is the cause.
CAUSES: tuple[tuple[str, str], ...] = (
    (r"No space left|disk quota exceeded", f"the disk is full: make room for about 1 GB in {ROOT}"),
    (r"Read-only file system|Permission denied", f"{ROOT} cannot be written: copy the folder to a place of your own"),
    (r"DO NOT MATCH THE HASHES|Hash mismatch", "a download is not what requirements.lock expects: try again; if it "
     "stays, the package index in use is damaged or altered"),
    (r"No module named '?(venv|ensurepip)|ensurepip is not available", "Python's venv module is missing: "
     "apt-get install python3-venv (or put uv on the PATH)"),
    (r"No module named '?pip", "Python's pip is missing: apt-get install python3-pip python3-venv (or put uv on the "
     "PATH)"),
    (r"dns error|[Cc]ould not resolve|name resolution|getaddrinfo|Network is unreachable|No route to host|"
     r"[Cc]onnection refused|Failed to establish|error sending request|client error|timed out|[Tt]imeout|Max retries",
     "no network, the packages cannot be fetched: connect, or name a proxy (HTTPS_PROXY) or a package index that can "
     "be reached (PIP_INDEX_URL)"),
    (r"certificate", "the package index's certificate is not trusted: name your CA file in SSL_CERT_FILE and PIP_CERT"),
    (r"No matching distribution|No solution found|not found in the package registry|has no wheels|no wheels with",
     "the package index in use lacks a package for this machine, or cannot be reached"),
)  # fmt: skip


Command = list[str | Path]


class SetupFailed(Exception):
    """Setting up cannot go on; the text says what to do."""


def main(words: list[str]) -> int:
    testing = words[:1] == ["test"]
    try:
        if not in_place(testing):
            with alone():
                if not in_place(testing):  # else the other one has just done it
                    set_up(testing)
    except SetupFailed as failure:
        print(f"run.py: {failure}", file=sys.stderr)
        return 1
    if testing:
        return test(words[1:])
    # -P: what happens to lie in the current folder is not imported.
    command = [str(PYTHON), "-P", "-m", "gateway", *(words or ["demo"])]
    if os.name == "nt":
        return subprocess.run(command, env=quick()).returncode
    os.execve(command[0], command, quick())  # signals and the exit code are citywatch's own


def test(arguments: list[str]) -> int:
    """The checks, then the tests in turn, up to the first that fails; with arguments, pytest alone."""
    if arguments:
        return int(not passes("pytest", ["-m", "pytest", *arguments]))
    with ThreadPoolExecutor(len(LANES)) as lanes:
        passed = [*lanes.map(lambda lane: all(passes(*check, aside=True) for check in lane), LANES)]
    return int(not (all(passed) and all(passes(*check) for check in TESTS)))


def passes(name: str, words: list[str], aside: bool = False) -> bool:
    """Run one check; ``aside``: what it says is shown in one piece, when it has ended."""
    head = f"── {name} " + "─" * (60 - len(name))
    start = time.monotonic()
    if aside:
        done = subprocess.run([PYTHON, *words], cwd=ROOT, env=quick(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = done.stdout.decode(errors="replace")
    else:
        print(head, flush=True)
        done, said = subprocess.run([PYTHON, *words], cwd=ROOT, env=quick()), ""
    end = f"   {name}: passed in {time.monotonic() - start:.0f} s\n"
    if done.returncode:
        end = f"run.py: {name} failed (exit {done.returncode})\n"
    with SAYING:
        print(f"{head}\n{said}{end}" if aside else end, end="", flush=True)
    return not done.returncode


def quick() -> dict[str, str]:
    """The environment of what runs. Without compiled modules every start would read 1,500 sources again: 4.5 s here
    instead of 1.3 s, and the tests start a hundred gateways."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def wanted(testing: bool) -> str:
    """What STAMP says when all is in place: the lock, the project, the pages and the Python, and where they are."""
    digest = hashlib.sha256()
    for part in (LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode(), sys.version.encode()):
        digest.update(hashlib.sha256(part).digest())
    for path in pages():
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{digest.hexdigest()} {'test' if testing else 'run'}"


def pages() -> Iterator[Path]:
    """What the console's pages are made from, as far as one can tell without asking hatch_build.py, which does it."""
    web = ROOT / "gateway" / "console" / "web"
    made = {web / "openapi.json", web / "components.d.ts", web / "src" / "api" / "schema.d.ts"}
    for folder in (web / "src", web / "public"):
        yield from sorted(path for path in folder.rglob("*") if path.is_file() and path not in made)
    yield from sorted(path for path in web.glob("*") if path.is_file() and path not in made)
    yield from sorted(web.parent.glob("*.py"))  # the shapes of the API


def in_place(testing: bool) -> bool:
    """Is everything installed? What the tests need is more than what runs."""
    with contextlib.suppress(OSError):
        return PYTHON.exists() and STAMP.read_text().strip() in {wanted(True), wanted(testing)}
    return False


def set_up(testing: bool) -> None:
    start = time.monotonic()
    try:
        VENV.mkdir(exist_ok=True)
        LOG.write_text("")
        STAMP.unlink(missing_ok=True)
        requirements = VENV / "citywatch-requirements.txt"
        extras = ["build", *(["test"] if testing else []), *([] if shutil.which("npm") else ["node"])]
        requirements.write_text(locked(*extras))
    except OSError as error:
        raise SetupFailed(cause_of(str(error)) or f"cannot write in {VENV}: {error.strerror or error}") from error
    uv = find_uv()
    try:
        if uv is None:
            raise SetupFailed("uv could not be had")
        install_with_uv(uv, requirements)
    except SetupFailed as failure:
        if "disk is full" in str(failure):
            raise
        say(f"going on with pip ({str(failure).partition(':')[0]})")
        install_with_pip(requirements)
    STAMP.write_text(wanted(testing) + "\n")
    say(f"ready after {time.monotonic() - start:.0f} s")


def locked(*extras: str) -> str:
    """The lock with the marks of these extras taken away, so that their packages are installed too."""
    text = LOCK.read_text(encoding="utf-8")
    for extra in extras:
        text = text.replace(f" ; extra == '{extra}'", "").replace(f" and extra == '{extra}'", "")
    return text


def find_uv() -> Path | None:
    """uv on the PATH, or our own in .uv, fetched when it is not there yet; None where that fails."""
    own = OWN_UV / "bin" / ("uv.exe" if os.name == "nt" else "uv")
    for path in (shutil.which("uv"), shutil.which(own)):
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return Path(path)
    requirements = VENV / "citywatch-uv.txt"
    uv_alone = re.search(r"^uv==.*(?:\n    .*)*", locked("bootstrap"), re.MULTILINE)
    requirements.write_text(uv_alone[0] + "\n" if uv_alone else "uv\n")
    # A --target of its own is allowed even where a Linux distribution forbids pip to touch its Python (PEP 668).
    pip: Command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    try:
        do("fetching uv into .uv", [*pip, "--target", OWN_UV, "--require-hashes", "-r", requirements])
    except SetupFailed as failure:
        if "disk is full" in str(failure):
            raise
        return None
    return own if own.exists() else None


def install_with_uv(uv: Path, requirements: Path) -> None:
    settings = {**settings_of_pip(), **os.environ, "UV_PYTHON_DOWNLOADS": "never", "VIRTUAL_ENV": str(VENV)}
    settings.pop("PYTHONPATH", None)
    if not usable_venv():
        # --allow-existing: our own notes lie in the folder already.
        make: Command = [uv, "venv", "--quiet", "--no-project", "--allow-existing", "--python", sys.executable, VENV]
        do(f"making .venv with {uv.name}, Python {sys.version.split()[0]}", make, settings)
    sync: Command = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", PYTHON, requirements]
    do("installing the packages of requirements.lock (some minutes the first time)", sync, settings)
    project: Command = [uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--python", PYTHON]
    do("installing citywatch itself and building its pages", [*project, "-e", ROOT], settings)


def install_with_pip(requirements: Path) -> None:
    if not usable_venv() or subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode:
        do(f"making .venv with Python {sys.version.split()[0]}", [sys.executable, "-m", "venv", VENV])
    pip: Command = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
    packages: Command = [*pip, "install", "--no-deps", "--require-hashes", "-r", requirements]
    do("installing the packages of requirements.lock with pip (some minutes the first time)", packages)
    do(
        "installing citywatch itself and building its pages",
        [*pip, "install", "--no-deps", "--no-build-isolation", "-e", ROOT],
    )
    keep = {"pip", "setuptools", "citywatch", *re.findall(r"^([A-Za-z0-9._-]+)==", requirements.read_text(), re.M)}
    freeze = subprocess.run([*pip, "list", "--format=freeze"], capture_output=True, text=True).stdout
    plain = {re.sub(r"[-_.]+", "-", name).lower() for name in keep}
    names = [line.split("==")[0] for line in freeze.splitlines() if "==" in line]
    extra = [name for name in names if re.sub(r"[-_.]+", "-", name).lower() not in plain]
    if extra:
        do(f"removing what is not in the lock: {' '.join(extra)}", [*pip, "uninstall", "--yes", *extra])


def usable_venv() -> bool:
    """Is there a Python of the same version in .venv, and does it work? (One that a removed Python made does not.)"""
    check = f"import sys; sys.exit(sys.version != {sys.version!r} or sys.prefix != {str(VENV)!r})"
    with contextlib.suppress(OSError):
        return subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0
    return False


def settings_of_pip() -> dict[str, str]:
    """pip's settings (files and environment) as uv's: uv reads none of them, and in many offices and countries they
    name the only package index that can be reached. Nothing when uv has settings of its own."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE")):
        return {}
    listing = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    found: dict[str, str] = {}
    for line in listing.splitlines():  # global.index-url='…', :env:.index-url='…': the later wins
        match = re.match(r"[^=]*\.([a-z-]+)='(.*)'$", line)
        if match:
            found[match[1]] = match[2].replace("\\n", " ")
    folders = [f for f in found.get("find-links", "").split() if "://" in f or Path(f).is_dir()]
    settings = {
        "UV_DEFAULT_INDEX": found.get("index-url", ""),
        "UV_INDEX": found.get("extra-index-url", ""),
        "UV_INDEX_STRATEGY": "unsafe-best-match" if "extra-index-url" in found else "",  # as pip does; hashes guard us
        "UV_FIND_LINKS": ",".join(folders),
        "UV_NO_INDEX": found.get("no-index", ""),
        "UV_INSECURE_HOST": found.get("trusted-host", ""),
        "SSL_CERT_FILE": found.get("cert", ""),
        "ALL_PROXY": found.get("proxy", ""),
    }
    return {name: value for name, value in settings.items() if value}


def do(what: str, command: Command, environment: dict[str, str] | None = None) -> None:
    """Run one step, with a sign of life every ten seconds. Raises SetupFailed with the cause; all output is in LOG."""
    say(what)
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            [str(word) for word in command], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise SetupFailed(f"cannot start {command[0]}: {error.strerror}") from error
    while True:
        try:
            output, _ = process.communicate(timeout=10)
            break
        except subprocess.TimeoutExpired:
            say(f"… still at it, {time.monotonic() - start:.0f} s")
    with contextlib.suppress(OSError), LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(map(str, command))}\n{output}\n")
    if process.returncode:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "no output")
        raise SetupFailed(cause_of(output) or f"{what} failed: {last[:200]} (the whole output: {LOG})")


def cause_of(output: str) -> str | None:
    return next((advice for pattern, advice in CAUSES if re.search(pattern, output)), None)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two starts at once wait for one another instead of installing into each other's steps."""
    with contextlib.suppress(ImportError), open(__file__, "rb") as mark:
        import fcntl

        fcntl.flock(mark, fcntl.LOCK_EX)
        yield
        return
    yield


def say(line: str) -> None:
    print(f"run.py: {line}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
