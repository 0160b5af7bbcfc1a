"""Users, their passwords and their sessions, in a real store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from gateway.core.model import HOUR, MINUTE, SECOND
from gateway.core.passwords import COMMON, LONGEST, SHORTEST, one_time_password, weakness
from gateway.core.records import SESSION_IDLE, SESSION_LASTS, Role, Scope, SignedInBy, UserChange, UserRow
from gateway.errors import CommandRefused, Unavailable
from gateway.store import people
from gateway.store.store import Store
from tests.console.city import START

SECRET = "correct horse battery"
NEXT = "staple it to the gate"


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path)
    yield opened
    await opened.close()


async def add(store: Store, name: str = "li", role: Role = Role.OPERATOR, **more: object) -> UserRow:
    return await store.people.create(name, role, START, password=SECRET, **more)  # type: ignore[arg-type]


async def session_of(store: Store, user: UserRow, at: int = START) -> str:
    made = await store.people.begin_session(user, at, SESSION_LASTS)
    assert made is not None
    return made


async def code(refused: object) -> str:
    with pytest.raises(CommandRefused) as error:
        await refused  # type: ignore[misc]
    return error.value.code


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("store.db*"))


# ------------------------------------------------------------------------------------------ passwords


async def test_a_password_is_stored_as_argon2id_and_nothing_else(store: Store, tmp_path: Path) -> None:
    await add(store)
    content = on_disk(tmp_path)
    assert b"$argon2id$v=19$m=32768,t=3,p=1$" in content
    assert SECRET.encode() not in content


async def test_only_the_right_password_of_an_enabled_user_signs_in(store: Store) -> None:
    user = await add(store)
    assert await store.people.verified("li", SECRET) == user
    for name, password in (("li", SECRET + "x"), ("li", ""), ("wang", SECRET), ("", ""), ("li", "x" * 10_000)):
        assert await store.people.verified(name, password) is None
    await store.people.change("li", UserChange(disabled=True), START + 1)
    assert await store.people.verified("li", SECRET) is None


async def test_how_a_keyboard_composes_a_name_or_a_password_makes_no_difference(store: Store) -> None:
    await store.people.create("ＬｉWang", Role.VIEWER, START, password="café au lait noir")
    found = await store.people.verified("liwang", "cafe\u0301 au lait noir")
    assert found is not None
    assert found.name == "liwang"


async def test_a_password_kept_with_weaker_parameters_is_kept_anew_at_the_next_sign_in(store: Store) -> None:
    user = await add(store)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(SECRET)
    await store._write(lambda c: c.execute(people.users.update().values(password=weak)))
    assert await store.people.verified("li", SECRET) == user  # and no session ends of it

    kept = await store._read(lambda c: c.execute(people.users.select()).one().password)
    assert "m=32768,t=3,p=1" in kept
    assert await store.people.verified("li", SECRET) == user


async def test_a_damaged_hash_opens_nothing(store: Store) -> None:
    await add(store)
    await store._write(lambda c: c.execute(people.users.update().values(password="$argon2id$nonsense")))
    assert await store.people.verified("li", SECRET) is None


async def test_a_name_that_is_not_there_takes_as_long_as_a_wrong_password(store: Store) -> None:
    await add(store)
    await store.people.verified("li", "the first one makes nobody's hash")

    async def took(name: str) -> float:
        times = []
        for _ in range(9):
            begin = time.perf_counter()
            await store.people.verified(name, "wrong password")
            times.append(time.perf_counter() - begin)
        return sorted(times)[4]

    known, unknown = await took("li"), await took("nobody")
    assert 0.5 < known / unknown < 2.0, (known, unknown)


async def test_hashing_never_holds_the_loop_up(store: Store) -> None:
    await add(store)
    longest, stop = 0.0, False

    async def beat() -> None:
        nonlocal longest
        while not stop:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - begin)

    beating = asyncio.create_task(beat())
    await asyncio.gather(*(store.people.verified("li", "wrong password") for _ in range(10)))
    stop = True
    await beating
    assert longest < 0.1, longest  # ten hashes are a second of work


async def test_two_are_looked_at_at_once_and_forty_may_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(store)
    assert store.people._passwords._threads._max_workers == 2
    monkeypatch.setattr(people, "WAITING", 3)
    answers = await asyncio.gather(*(store.people.verified("li", SECRET) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 3
    assert sum(isinstance(answer, UserRow) for answer in answers) == 3


WEAK = [
    ("", "length"),
    ("123456789", "length"),
    ("x" * 129, "length"),
    ("operator-li", "name"),
    ("Operator-LI", "name"),
    ("operator-lioperator-li", "name"),
    ("李师傅李师傅李师傅李师傅", "name"),
    ("1111111111", "few characters"),
    ("abababababab", "few characters"),
    ("1234567890", "common"),
    ("PassWord123", "common"),
    ("ｐａｓｓｗｏｒｄ１２３", "common, in full width"),
    ("woaini1314520", "common"),
]


@pytest.mark.parametrize(("password", "why"), WEAK, ids=[f"{why}: {p[:20]}" for p, why in WEAK])
async def test_a_weak_password_is_not_taken(store: Store, password: str, why: str) -> None:
    assert weakness(password, "operator-li", "李师傅") is not None, why
    make = store.people.create("operator-li", Role.VIEWER, START, full_name="李师傅", password=password)
    assert await code(make) == "weak_password"
    assert await store.people.user("operator-li") is None


def test_a_good_password_is_taken_and_every_common_one_is_long_enough_to_matter() -> None:
    for password in (SECRET, "operator-li!7", "夜班的猫喜欢看着水位", "x1y2" + "z" * 124):
        assert weakness(password, "operator-li", "") is None, password
    for word in COMMON:
        assert SHORTEST <= len(word) <= LONGEST, word
        assert word == word.casefold()


def test_a_one_time_password_is_strong_and_can_be_read_out() -> None:
    import secrets

    made = {one_time_password(secrets.choice) for _ in range(1000)}
    assert len(made) == 1000
    assert all(weakness(word, "li") is None for word in made)
    assert not set("".join(made)) & set("0O1lIio")


# ------------------------------------------------------------------------------------------ users


async def test_a_user_is_found_again_as_made(store: Store) -> None:
    scope = Scope(kinds=("lamp", "manhole"), towns=("梁山",))
    made = await add(store, "li", Role.MAINTAINER, full_name=" 李师傅 ", scope=scope, must_change=True)
    assert made == UserRow("li", "李师傅", Role.MAINTAINER, scope, True, True, START, START)
    assert await store.people.user("LI") == made
    assert await store.people.user("wang") is None
    for number in range(5):
        await store.people.create(f"u{number}", Role.VIEWER, START, subject=f"https://idp.example {number}")
    page = await store.people.users(4)
    rest = await store.people.users(4, page.cursor)
    assert [user.name for user in page.items + rest.items] == ["li", "u0", "u1", "u2", "u3", "u4"]
    assert rest.cursor is None
    found = await store.people.user_of("https://idp.example 3")
    assert found is not None
    assert (found.name, found.by_password) == ("u3", False)


async def test_a_name_belongs_to_one_somebody(store: Store) -> None:
    await add(store, "li")
    await store.create_token("pump-script", Role.VIEWER, START)
    assert await code(add(store, "LI")) == "exists"
    assert await code(add(store, "pump-script")) == "exists"
    with pytest.raises(ValueError, match="already a user named li"):
        await store.create_token("li", Role.VIEWER, START)
    for name in ("", "a b", "x" * 65, ".", "-x", "a/b", "li\n", "a\x00b", "<b>"):
        assert await code(add(store, name)) == "invalid", name
    await store.people.create("zhao", Role.VIEWER, START, subject="https://idp.example 1")
    again = store.people.create("qian", Role.VIEWER, START, subject="https://idp.example 1")
    assert await code(again) == "exists"


async def test_a_change_says_only_what_changes(store: Store) -> None:
    before = await add(store)
    same = await store.people.change("li", UserChange(role=Role.OPERATOR, disabled=False), START + 5)
    assert same == before
    named = await store.people.change("li", UserChange(full_name="李四"), START + 6)
    assert (named.full_name, named.changed_at) == ("李四", START)
    raised = await store.people.change("li", UserChange(role=Role.ENGINEER), START + 7)
    assert (raised.role, raised.full_name, raised.changed_at) == (Role.ENGINEER, "李四", START + 7)
    assert await code(store.people.change("wang", UserChange(disabled=True), START)) == "not_found"
    assert await code(store.people.change("li", UserChange(full_name="a\nb"), START)) == "invalid"


async def test_somebody_who_may_change_users_and_tokens_is_always_left(store: Store) -> None:
    for name in ("boss", "deputy"):
        await add(store, name, Role.ADMIN)
    await add(store, "of-a-town", Role.ADMIN, scope=Scope(towns=("梁山",)))  # may not change users
    change = store.people.change
    await change("deputy", UserChange(role=Role.ENGINEER), START + 1)
    for wanted in (UserChange(disabled=True), UserChange(role=Role.ENGINEER), UserChange(scope=Scope(kinds=("lamp",)))):
        assert await code(change("boss", wanted, START + 2)) == "last_admin"
    row = await store.people.user("boss")
    assert row is not None
    assert (row.role, row.disabled_at, row.scope) == (Role.ADMIN, None, Scope())
    await store.create_token("root", Role.ADMIN, START, START + 100)
    await change("boss", UserChange(disabled=True), START + 3)
    await change("boss", UserChange(disabled=False), START + 4)
    assert await code(change("boss", UserChange(disabled=True), START + 100)) == "last_admin"  # the token has expired


async def test_the_last_token_that_may_change_users_and_tokens_stays(store: Store) -> None:
    await store.create_token("root", Role.ADMIN, START)
    await store.create_token("script", Role.SUPERVISOR, START)
    assert await store.revoke_token("script", START)
    assert await code(store.revoke_token("root", START)) == "last_admin"
    await add(store, "boss", Role.ADMIN)
    assert await store.revoke_token("root", START)


async def test_no_first_token_is_made_where_an_administrator_is(store: Store) -> None:
    await add(store, "boss", Role.ADMIN)
    assert await store.first_token(START) is None
    await store._write(lambda c: c.execute(people.users.update().values(disabled_at=START)))
    assert await store.first_token(START) is not None


async def test_who_signs_in_elsewhere_has_no_password_here(store: Store) -> None:
    await store.people.create("zhao", Role.VIEWER, START, subject="https://idp.example 1")
    assert await code(store.people.set_password("zhao", SECRET, START, must_change=True)) == "signs_in_elsewhere"
    assert await store.people.verified("zhao", "") is None


# ------------------------------------------------------------------------------------------ sessions


async def test_a_session_lasts_a_shift_and_ends_when_nothing_is_asked_for_two_hours(store: Store) -> None:
    user = await add(store, scope=Scope(towns=("梁山",)), full_name="李四")
    session = await session_of(store, user)
    at = START
    while at + SESSION_IDLE - MINUTE < START + SESSION_LASTS:
        at += SESSION_IDLE - MINUTE
        found = await store.session(session, at)
        assert found is not None, at - START
        assert (found.name, found.full_name, found.by, found.scope) == (
            "li", "李四", SignedInBy.PASSWORD, Scope(towns=("梁山",)),
        )  # fmt: skip
    assert await store.session(session, START + SESSION_LASTS) is None
    left = await session_of(store, user)
    assert await store.session(left, START + SESSION_IDLE - 1) is not None
    idle = await session_of(store, user)
    assert await store.session(idle, START + SESSION_IDLE) is None


async def test_that_a_session_was_used_is_written_once_a_minute(store: Store) -> None:
    session = await session_of(store, await add(store))

    async def seen() -> int:
        found = await store._read(lambda c: c.exec_driver_sql("SELECT seen_at FROM sessions").scalar())
        assert isinstance(found, int)
        return found

    for second in (1, 30, 59):
        assert await store.session(session, START + second * SECOND) is not None
        assert await seen() == START
    assert await store.session(session, START + MINUTE) is not None
    assert await seen() == START + MINUTE


CHANGES = [
    ("disabled", UserChange(disabled=True)),
    ("promoted", UserChange(role=Role.SUPERVISOR)),
    ("demoted", UserChange(role=Role.VIEWER)),
    ("narrowed", UserChange(scope=Scope(kinds=("lamp",)))),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
async def test_sessions_end_when_the_user_is_changed(store: Store, what: str, change: UserChange) -> None:
    user = await add(store)
    session = await session_of(store, user)
    await store.people.change("li", UserChange(full_name="李"), START + 1)
    assert await store.session(session, START + 2) is not None
    await store.people.change("li", change, START + 3)
    assert await store.session(session, START + 4) is None
    if what == "disabled":
        back = await store.people.change("li", UserChange(disabled=False), START + 5)
        assert await store.session(session, START + 6) is None
        assert await store.session(await session_of(store, back, START + 6), START + 7) is not None


async def test_a_session_of_what_was_verified_before_a_change_is_not_given(store: Store) -> None:
    """Disabled, or another password, between the password and the cookie."""
    user = await store.people.verified((await add(store)).name, SECRET)
    assert user is not None
    await store.people.set_password("li", NEXT, START + 1, must_change=False)
    assert await store.people.begin_session(user, START + 2, SESSION_LASTS) is None


async def test_an_old_password_that_is_being_looked_at_opens_nothing_when_it_is_changed(store: Store) -> None:
    await add(store)
    looked_at = store.people._passwords.verify

    async def slowly(kept: str | None, password: str) -> tuple[bool, str | None]:
        answer = await looked_at(kept, password)
        await store.people.set_password("li", NEXT, START + 1, must_change=False)
        return answer

    store.people._passwords.verify = slowly  # type: ignore[method-assign]
    user = await store.people.verified("li", SECRET)
    assert user is not None
    assert await store.people.begin_session(user, START + 2, SESSION_LASTS) is None


async def test_a_new_password_ends_every_session_and_opens_a_new_one(store: Store) -> None:
    user = await add(store)
    sessions = [await session_of(store, user, START + n) for n in range(3)]
    changed = await store.people.set_password("li", NEXT, START + 10, must_change=False)
    assert [await store.session(session, START + 11) for session in sessions] == [None] * 3
    assert await store.people.verified("li", SECRET) is None
    assert await store.people.verified("li", NEXT) == changed
    assert await store.session(await session_of(store, changed, START + 10), START + 11) is not None


async def test_another_clock_than_the_gateways_locks_nobody_out_and_lets_nobody_in(store: Store) -> None:
    """The command line changes users by the machine's clock; the gateway's may be hours from it."""
    user = await add(store)
    session = await session_of(store, user, START + 5 * HOUR)
    changed = await store.people.set_password("li", NEXT, START + HOUR, must_change=False)  # the machine's is behind
    assert await store.session(session, START + 5 * HOUR + 1) is None
    ahead = await store.people.set_password("li", SECRET, START + 9 * HOUR, must_change=False)
    assert changed.changed_at < ahead.changed_at
    session = await session_of(store, ahead, START + 6 * HOUR)
    assert await store.session(session, START + 6 * HOUR + 1) is not None


async def test_the_oldest_of_too_many_sessions_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.access.SESSIONS_EACH", 3)
    user = await add(store)
    sessions = [await session_of(store, user, START + n) for n in range(4)]
    assert [await store.session(session, START + 9) is not None for session in sessions] == [False, True, True, True]


async def test_a_token_can_be_for_a_part_of_the_city_and_so_are_its_sessions(store: Store) -> None:
    scope = Scope(kinds=("pump",))
    secret = await store.create_token("pump-script", Role.VIEWER, START, None, scope)
    row = await store.token(secret, START)
    assert row is not None
    assert row.scope == scope
    session = await store.create_session(secret, START, SESSION_LASTS)
    assert session is not None
    found = await store.session(session, START + 1)
    assert found is not None
    assert (found.scope, found.by) == (scope, SignedInBy.TOKEN)
