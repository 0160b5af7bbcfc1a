"""The lock is in step with the project, and the wheel holds everything that citywatch needs to run."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway import __version__
from gateway.config.shipped import read_tree, shipped
from gateway.config.yaml_source import MAX_BYTES
from gateway.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
OURS = {"gateway", "simulators", "bench", "tests"}
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.*?))? \\$", re.MULTILINE)


def pins(extras: tuple[str | None, ...]) -> dict[str, list[str]]:
    """Name → locked versions, of the lines with one of those marks (None: without a mark)."""
    found: dict[str, list[str]] = {}
    for match in PIN.finditer(LOCK):
        mark = re.search(r"extra == '([a-z]+)'", match["marker"] or "")
        if (mark[1] if mark else None) in extras:
            found.setdefault(canonicalize_name(match["name"]), []).append(match["version"])
    return found


@pytest.mark.parametrize(
    ("requirements", "extras"),
    [
        (PROJECT["project"]["dependencies"], (None,)),
        (PROJECT["project"]["optional-dependencies"]["test"], (None, "build", "test")),
        (PROJECT["dependency-groups"]["build"], (None, "build")),
        (PROJECT["dependency-groups"]["bootstrap"], ("bootstrap",)),
        (PROJECT["dependency-groups"]["node"], ("node",)),
    ],
    ids=["what runs", "what tests", "what builds", "what installs", "what builds pages"],
)
def test_the_lock_is_in_step_with_the_project(requirements: list[str], extras: tuple[str | None, ...]) -> None:
    """If this fails: python3 deploy/lock.py"""
    locked = pins(extras)
    for requirement in map(Requirement, requirements):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in requirements.lock as it should be: python3 deploy/lock.py"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {versions}"


def test_every_line_of_the_lock_has_hashes_and_none_has_an_address() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PIN.findall(LOCK)) > 50
    assert [b.split()[0] for b in blocks if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", b)] == []
    assert not re.search(r"://|--index|--find-links|--extra", LOCK)


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == __version__
    assert f"## {__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_what_ships_is_found_in_a_checkout() -> None:
    assert shipped("device_profiles") == ROOT / "device_profiles"
    assert shipped("rules") == ROOT / "rules"


def test_the_wheel_holds_the_profiles_the_rules_the_migrations_and_the_page(tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: python3 run.py test")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("citywatch-*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    inside = {p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*") if p.is_file()}

    def expected(folder: str, put: str, pattern: str = "*") -> set[str]:
        files = (p.relative_to(ROOT / folder) for p in (ROOT / folder).rglob(pattern) if p.is_file())
        return {f"{put}/{p.as_posix()}" for p in files if "__pycache__" not in p.parts and p.suffix != ".pyc"}

    assert expected("device_profiles", "gateway/_shipped/device_profiles") - inside == set()
    assert expected("rules", "gateway/_shipped/rules") - inside == set()
    web = "gateway/console/web/"
    modules = {name for name in expected("gateway", "gateway") if not name.startswith(web)}
    assert modules - inside == set(), "migrations and all modules"
    pages = expected("gateway/console/web/dist", web + "dist")
    assert {web + "dist/index.html", web + "dist/favicon.svg"} <= pages
    assert {name for name in inside if name.startswith(web)} == pages, "the built pages, and nothing of their sources"
    assert expected("simulators", "simulators") - inside == set()
    assert not [name for name in inside if name.startswith(("tests/", "docs/"))]

    # And it finds its own files when nothing of the checkout is near.
    script = "from gateway.config.shipped import shipped, read_tree; print(len(read_tree(shipped('device_profiles'))))"
    answer = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {script}"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert int(answer.stdout) == len(read_tree(ROOT / "device_profiles"))


def test_a_tree_is_read_by_relative_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "vendor/model.yaml", ".git/x.yaml", ".hidden.yaml", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "b.yaml").write_text("\ufeffb.yaml")
    assert read_tree(tmp_path) == {"b.yaml": "b.yaml", "vendor/model.yaml": "vendor/model.yaml"}


def test_a_tree_never_leads_out_of_its_folder_and_says_everything_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("x")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "fine.yaml").write_text("x")
    (tree / "inside.yaml").symlink_to(tree / "fine.yaml")
    assert sorted(read_tree(tree)) == ["fine.yaml", "inside.yaml"]
    (tree / "out.yaml").symlink_to(tmp_path / "secret.yaml")
    (tree / "folder").symlink_to(tmp_path)
    (tree / "gone.yaml").symlink_to(tree / "nowhere")
    (tree / "latin.yaml").write_bytes(b"a\n\xe9")
    (tree / "large.yaml").write_bytes(b"x" * (MAX_BYTES + 1))
    (tree / "other.yml").write_text("x")
    with pytest.raises(ConfigError) as caught:
        read_tree(tree)
    assert [f"{Path(m.file).name}:{m.line} {m.message}" for m in caught.value.mistakes] == [
        "gone.yaml:None cannot be read: No such file or directory",
        f"large.yaml:None larger than {MAX_BYTES} bytes",
        "latin.yaml:2 not UTF-8 at byte 2: save the file as UTF-8",
        "other.yml:None name it .yaml: files ending in .yml are not read",
        "out.yaml:None is a link that leads out of the folder",
    ]


def test_a_folder_that_does_not_exist_is_a_mistake_not_an_empty_tree(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        read_tree(tmp_path / "nowhere")


def test_what_is_imported_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    requirements = PROJECT["project"]["dependencies"] + extras["bench"]  # those say so when they are not there
    declared = {canonicalize_name(Requirement(r).name) for r in requirements}
    providers = importlib.metadata.packages_distributions()
    undeclared = set()
    for folder in ("gateway", "simulators", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names = [node.module]
                for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                    if declared.isdisjoint(map(canonicalize_name, providers.get(top, ["nothing installed"]))):
                        undeclared.add(f"{path.relative_to(ROOT)}: {top}")
    assert undeclared == set()
