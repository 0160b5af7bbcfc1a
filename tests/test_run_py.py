"""``run.py`` sets up once, exactly what the lock says, and says in one line what is in the way."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LOCK = """\
always==1 \\
    --hash=sha256:00
builder==1 ; extra == 'build' \\
    --hash=sha256:00
tester==1 ; (sys_platform == 'linux') and extra == 'test' \\
    --hash=sha256:00
uv==1 ; extra == 'bootstrap' \\
    --hash=sha256:00
"""

# A uv that makes a real environment and "installs" the project by a .pth file, and notes what it was asked.
FAKE_UV = """\
#!{python}
import os, pathlib, shutil, subprocess, sys
words, here = sys.argv[1:], pathlib.Path(__file__).parent
with open(here / "calls", "a") as calls:
    print(*words, file=calls)
if "--version" in words:
    print("uv 0")
elif os.environ.get("UV_FAILS"):
    sys.exit("error: " + os.environ["UV_FAILS"])
elif words[0] == "venv":
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", words[-1]], check=True)
elif words[:2] == ["pip", "sync"]:
    shutil.copy(words[-1], here / "synced")
else:
    site = next(pathlib.Path(words[-1], ".venv", "lib").glob("python*/site-packages"))
    (site / "project.pth").write_text(words[-1])
"""


class Folder:
    """A project of two files beside the real run.py, and a uv that needs no network."""

    def __init__(self, path: Path) -> None:
        self.path = path / "project"
        self.bin = path / "bin"
        (self.path / "gateway").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "run.py", self.path)
        (self.path / "requirements.lock").write_text(LOCK)
        (self.path / "pyproject.toml").write_text("[project]\n")
        (self.path / "gateway" / "__main__.py").write_text("import sys; print('citywatch', *sys.argv[1:])\n")
        (self.bin / "uv").write_text(FAKE_UV.format(python=sys.executable))
        (self.bin / "uv").chmod(0o755)

    def start(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
        environment = {**clean, "PATH": f"{self.bin}{os.pathsep}/usr/bin{os.pathsep}/bin", **environment}
        command = [sys.executable, str(self.path / "run.py"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def calls(self) -> list[str]:
        """What uv was asked since the last time, but for its version."""
        file = self.bin / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [line.split(" --", 1)[0] for line in lines if line != "--version"]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_no_argument_starts_the_demo_and_any_other_is_forwarded(folder: Folder) -> None:
    assert folder.start().stdout.splitlines()[-1] == "citywatch demo"
    assert folder.start("decode", "a b", "--json").stdout == "citywatch decode a b --json\n"


def test_the_second_start_finds_everything_in_place(folder: Folder) -> None:
    folder.start()
    assert folder.calls() == ["venv", "pip sync", "pip install"]
    again = folder.start("run")
    assert (again.stdout, again.stderr, folder.calls()) == ("citywatch run\n", "", [])


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_another_lock_or_project_is_installed_again(folder: Folder, changed: str) -> None:
    folder.start()
    folder.calls()
    with (folder.path / changed).open("a") as file:
        file.write("# changed\n")
    folder.start()
    assert folder.calls() == ["pip sync", "pip install"]


def test_only_the_tests_get_what_only_the_tests_need(folder: Folder) -> None:
    folder.start()
    assert (folder.bin / "synced").read_text() == LOCK.replace(" ; extra == 'build'", "")
    folder.start("test", "--version")
    assert "tester==1 ; (sys_platform == 'linux') \\" in (folder.bin / "synced").read_text()
    folder.calls()
    folder.start()
    assert folder.calls() == [], "what the tests need is more than what runs"


def test_a_failed_set_up_is_tried_again(folder: Folder) -> None:
    assert folder.start(UV_FAILS="No space left on device").returncode == 1
    assert folder.start().returncode == 0


def test_a_full_disk_is_one_line(folder: Folder) -> None:
    failed = folder.start(UV_FAILS="failed to write: No space left on device (os error 28)")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith("run.py: the disk is full: make room for")


def test_no_network_is_one_line_after_pip_was_tried_too(folder: Folder) -> None:
    # Port 9 of loopback: refused at once, like a network that is not there.
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
    failed = folder.start(UV_FAILS="dns error: failed to lookup address information", **nowhere)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith("run.py: no network, the packages cannot be fetched: connect, or name a proxy")
    assert "run.py: going on with pip (no network, the packages cannot be fetched)" in failed.stdout


def test_a_folder_that_cannot_be_written_is_one_line(folder: Folder) -> None:
    (folder.path / ".venv").write_text("in the way")
    failed = folder.start()
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith(f"run.py: cannot write in {folder.path / '.venv'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_line(folder: Folder) -> None:
    folder.path.chmod(0o555)
    failed = folder.start()
    folder.path.chmod(0o755)
    assert failed.stderr == f"run.py: {folder.path} cannot be written: copy the folder to a place of your own\n"


def test_settings_of_pip_reach_uv_unless_uv_has_its_own() -> None:
    script = "import run, json; print(json.dumps(run.settings_of_pip()))"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))},
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "PIP_FIND_LINKS": f"{ROOT} /no/such/folder",
    }
    python = Path(sys.base_prefix, "bin", "python3")  # this environment need not have pip
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"{python} has no pip")

    def settings(**more: str) -> str:
        environment_ = {**environment, **more}
        return subprocess.run(
            [python, "-c", script], env=environment_, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

    assert settings() == f'{{"UV_DEFAULT_INDEX": "https://mirror.example/simple", "UV_FIND_LINKS": "{ROOT}"}}\n'
    assert settings(UV_DEFAULT_INDEX="https://other.example/simple") == "{}\n"


def test_an_old_python_can_read_it_far_enough_to_be_told_so() -> None:
    text = (ROOT / "run.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    position = {type(node).__name__: index for index, node in reversed(list(enumerate(tree.body)))}
    assert position["If"] < position["FunctionDef"], "the version is checked before anything else runs"


def test_it_uses_the_standard_library_only() -> None:
    names = set()
    for node in ast.walk(ast.parse((ROOT / "run.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
