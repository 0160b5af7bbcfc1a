"""Signatures between two programs: right, old, changed, and of somebody else."""

from __future__ import annotations

import pytest

from gateway.core.signature import OLDEST_S, sign, why_not

NOW = 1_750_000_000
KEY, BODY = b"a key", '{"问题编号": "S-1"}'.encode()


def test_what_was_signed_just_now_with_the_key_is_good() -> None:
    assert why_not(KEY, sign(KEY, NOW, BODY), BODY, NOW) is None
    assert why_not(KEY, f" {sign(KEY, NOW, BODY).upper().replace('T=', 't=').replace('V1', 'v1')}", BODY, NOW) is None


@pytest.mark.parametrize(
    ("off", "good"),
    [(0, True), (OLDEST_S, True), (OLDEST_S + 1, False), (-OLDEST_S, True), (-OLDEST_S - 1, False), (-(10**9), False)],
)
def test_it_is_good_for_five_minutes_either_way(off: int, good: bool) -> None:
    assert (why_not(KEY, sign(KEY, NOW - off, BODY), BODY, NOW) is None) is good


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "there is no"),
        ("", "there is no"),
        ("nonsense", "is not t="),
        (f"t={NOW}", "is not t="),
        (f"t=,v1={'0' * 64}", "is not t="),
        (f"t={NOW},v1={'0' * 64}", "not of this body"),
        (f"t={NOW},v1={'é' * 64}", "is not t="),
        (f"t={'9' * 13},v1={'0' * 64}", "is not t="),
        (sign(b"another key", NOW, BODY), "not of this body"),
        (sign(KEY, NOW, BODY + b" "), "not of this body"),
        (sign(KEY, NOW - 1, BODY).replace(str(NOW - 1), str(NOW)), "not of this body"),
    ],
)
def test_what_is_not_is_refused_with_its_reason(said: str | None, why: str) -> None:
    assert why in (why_not(KEY, said, BODY, NOW) or "")
