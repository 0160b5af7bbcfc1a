"""``citywatch user``: people who sign in, from the command line, where no gateway runs."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
from pathlib import Path

import pytest

from gateway import people
from gateway.cli import main
from gateway.core.records import AuditRow, Role, Scope, UserRow
from gateway.lock import DataLock
from gateway.store.store import Store

pytestmark = pytest.mark.usefixtures("cheap_passwords")

SECRET = "correct horse battery"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Shell:
    """Runs one command in this process, as the entry point does, with ``typed`` on its standard input."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = folder / "citywatch.yaml"
        self.config.write_text("data: data\n")
        self.data = folder / "data"
        self._capsys = capsys
        self._patch = monkeypatch

    def __call__(self, *words: str, typed: str = "") -> tuple[int, str, str]:
        """(exit code, output, errors)"""
        self._capsys.readouterr()
        self._patch.setattr("sys.stdin", io.StringIO(typed))
        return self.run(*words)

    def run(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["user", *words, "--config", str(self.config)])
        said = self._capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    def users(self) -> list[UserRow]:
        async def read() -> list[UserRow]:
            store = await Store.open(self.data)
            try:
                return (await store.people.users(100)).items
            finally:
                await store.close()

        return asyncio.run(read())

    def audit(self) -> list[AuditRow]:
        async def read() -> list[AuditRow]:
            store = await Store.open(self.data)
            try:
                return (await store.audit(100)).items[::-1]
            finally:
                await store.close()

        return asyncio.run(read())

    def opens(self, name: str, password: str) -> bool:
        async def ask() -> bool:
            store = await Store.open(self.data)
            try:
                return await store.people.verified(name, password) is not None
            finally:
                await store.close()

        return asyncio.run(ask())


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def test_the_first_administrator_is_made_before_the_first_start(shell: Shell) -> None:
    code, out, err = shell("add", "Boss", "--role", "admin", "--full-name", "主任", typed=SECRET + "\n")
    assert (code, out, err) == (0, "Boss can sign in\n", "")
    (user,) = shell.users()
    assert (user.name, user.full_name, user.role, user.must_change) == ("boss", "主任", Role.ADMIN, False)
    assert shell.opens("boss", SECRET)
    assert stat.S_IMODE((shell.data / "store.db").stat().st_mode) == 0o600
    (line,) = shell.audit()
    assert (line.channel, line.action, line.subject, line.why) == ("command", "create-user", "boss", "role admin")
    assert line.who


def test_a_scope_is_given_with_commas(shell: Shell) -> None:
    words = ("add", "li", "--role", "operator", "--kinds", "pump, lamp", "--towns", "梁山,水泊", "--units", "排水处")
    assert shell(*words, typed=SECRET)[0] == 0
    assert shell.users()[0].scope == Scope(("lamp", "pump"), ("梁山", "水泊"), ("排水处",))
    code, _, err = shell("add", "wang", "--role", "viewer", "--kinds", "lamps", typed=SECRET)
    assert code == 2
    assert "there is no kind lamps; there are " in err
    assert len(shell.users()) == 1


def test_a_one_time_password_is_printed_and_must_be_changed(shell: Shell) -> None:
    code, out, _ = shell("add", "li", "--role", "viewer", "--generate")
    password = out.strip().rpartition(" ")[2]
    assert (code, shell.opens("li", password), shell.users()[0].must_change) == (0, True, True)
    _, out, _ = shell("password", "li", "--generate")
    again = out.strip().rpartition(" ")[2]
    assert again != password
    assert not shell.opens("li", password)
    assert shell.opens("li", again)


def test_on_a_terminal_it_is_typed_twice(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    answers = [SECRET, SECRET + "x", SECRET, SECRET]
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    code, _, err = shell.run("add", "li", "--role", "viewer")
    assert (code, "two different passwords" in err) == (1, True)
    assert shell.run("add", "li", "--role", "viewer")[0] == 0
    assert answers == []
    assert shell.opens("li", SECRET)


WRONG = [
    (("add", "li", "--role", "viewer"), "short", 1, "10 to 128 characters"),
    (("add", "li", "--role", "viewer"), "", 1, "10 to 128 characters"),
    (("add", "li", "--role", "viewer"), "password123", 1, "guessed first"),
    (("add", "a b", "--role", "viewer"), SECRET, 1, "a user's name is"),
    (("add", "boss", "--role", "viewer"), SECRET, 1, "already a user named boss"),
    (("add", "li", "--role", "root"), SECRET, 2, "root"),
    (("add", "li"), SECRET, 2, "--role"),
    (("password", "nobody"), SECRET, 1, "there is no user 'nobody'"),
    (("disable", "nobody"), "", 1, "there is no user 'nobody'"),
    (("disable", "boss"), "", 1, "last who may change users"),
]


@pytest.mark.parametrize(("words", "typed", "code", "said"), WRONG, ids=[" ".join(w) + f" {s}" for w, _, _, s in WRONG])
def test_what_is_wrong_is_said_and_changes_nothing(
    shell: Shell, words: tuple[str, ...], typed: str, code: int, said: str
) -> None:
    shell("add", "boss", "--role", "admin", typed=SECRET)
    got, out, err = shell(*words, typed=typed)
    assert (got, out) == (code, "")
    assert said in err
    assert [user.name for user in shell.users()] == ["boss"]
    assert shell.opens("boss", SECRET)


def test_users_are_listed_disabled_and_enabled(shell: Shell) -> None:
    for name, role in (("boss", "admin"), ("li", "operator")):
        shell("add", name, "--role", role, "--kinds", "pump" if name == "li" else "", typed=SECRET)
    assert shell("disable", "LI") == (0, "LI is disabled\n", "")
    assert not shell.opens("li", SECRET)
    _, out, _ = shell("list")
    boss, li = out.splitlines()
    assert boss.split() == ["boss", "admin", "-", "the", "whole", "city"]
    assert li.split() == ["li", "operator", "-", "kinds", "pump", "(disabled)"]
    listed = json.loads(shell("list", "--json")[1])
    assert [(user["name"], user["role"], user["disabled_at"] is None) for user in listed] == [
        ("boss", "admin", True), ("li", "operator", False),
    ]  # fmt: skip
    assert not any("password" in key and key != "by_password" for user in listed for key in user)
    assert shell("enable", "li")[0] == 0
    assert shell.opens("li", SECRET)


def test_no_gateway_starts_in_the_middle(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lock while it works, because it may have to bring an old store up to date."""
    held = []
    opened = Store.open

    async def watched(place: Path, *, beside: bool) -> Store:
        held.append((people.is_running(place), beside))
        return await opened(place, beside=beside)

    monkeypatch.setattr(people.Store, "open", watched)
    assert shell("add", "li", "--role", "viewer", typed=SECRET)[0] == 0
    assert held == [(True, False)]
    assert not people.is_running(shell.data)
    lock = DataLock(shell.data)
    lock.take()
    try:
        assert shell("password", "li", typed=SECRET + "!")[0] == 0
        assert held[1:] == [(True, True)]
    finally:
        lock.release()


def test_beside_a_gateway_of_another_version_nothing_is_touched(shell: Shell) -> None:
    assert shell("add", "li", "--role", "viewer", typed=SECRET)[0] == 0

    async def age() -> None:
        store = await Store.open(shell.data)
        await store._write(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'"))
        await store.close()

    asyncio.run(age())
    lock = DataLock(shell.data)
    lock.take()
    try:
        code, _, err = shell("add", "wang", "--role", "viewer", typed=SECRET)
        assert code == 2
        assert "restart the gateway first" in err
    finally:
        lock.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_folder_of_another_account_alone(shell: Shell) -> None:
    shell.data.mkdir()
    os.chown(shell.data, 65534, 65534)
    code, _, err = shell("add", "li", "--role", "viewer", typed=SECRET)
    assert code == 2
    assert "run this as that user (sudo -u nobody" in err
    assert list(shell.data.iterdir()) == []
