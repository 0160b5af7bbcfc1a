"""The ledger: every frame has exactly one end, and the accounts add up to the total."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ledger import UNKNOWN, Ledger

NAMES = st.sampled_from(["lamp-1", "lamp-2", "cover-1"])
COUNTS = st.integers(0, 5)
STORED = st.tuples(NAMES, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
REJECTED = st.tuples(st.none() | NAMES, st.sampled_from(["bad_payload", "retained", "crashed"]))


@given(st.lists(STORED | REJECTED, max_size=60))
def test_it_always_balances_and_survives_a_snapshot(frames: list[tuple[object, ...]]) -> None:
    ledger = Ledger()
    for frame in frames:
        if len(frame) == 2:
            ledger.rejected(*frame)  # type: ignore[arg-type]
        else:
            ledger.stored(*frame)  # type: ignore[arg-type]
    balance = ledger.balance()
    assert balance["received"] == len(frames)
    assert balance["balanced"]
    for name in ledger.accounts:
        assert ledger.balance(name)["balanced"]
    for figure in ("received", "stored", "duplicate", "readings", "bad", "conflicts", "extra_points"):
        assert sum(getattr(a, figure) for a in ledger.accounts.values()) == getattr(ledger.total, figure)
    again = Ledger()
    again.restore(ledger.snapshot())
    assert again.balance() == balance
    assert again.accounts == ledger.accounts


def test_a_frame_is_stored_when_one_reading_of_it_was_new() -> None:
    ledger = Ledger()
    ledger.stored("lamp-1", readings=1, bad=0, duplicate_readings=3, conflicts=0, extra=0)
    assert (ledger.total.stored, ledger.total.duplicate) == (1, 0)


def test_a_frame_is_a_duplicate_when_every_reading_of_it_was_seen_before() -> None:
    ledger = Ledger()
    ledger.stored("lamp-1", readings=0, bad=0, duplicate_readings=4, conflicts=1, extra=0)
    assert (ledger.total.stored, ledger.total.duplicate, ledger.total.conflicts) == (0, 1, 1)


def test_a_frame_that_only_said_what_nobody_asked_for_was_taken_in() -> None:
    """A status message, or one with nothing but unknown points: not lost, not refused."""
    ledger = Ledger()
    ledger.stored("lamp-1", readings=0, bad=0, duplicate_readings=0, conflicts=0, extra=1)
    assert ledger.total.stored == 1


def test_a_frame_whose_device_cannot_be_told_has_an_account_too() -> None:
    ledger = Ledger()
    ledger.rejected(None, "unknown_topic")
    assert ledger.accounts[UNKNOWN].rejected == {"unknown_topic": 1}
    assert ledger.balance()["balanced"]


def test_frames_under_way_are_received_and_counted_apart() -> None:
    ledger = Ledger()
    ledger.stored("lamp-1", 4, 0, 0, 0, 0)
    balance = ledger.balance(None, in_flight=7)
    assert (balance["received"], balance["in_flight"]) == (8, 7)
    assert balance["balanced"]


def test_rejections_of_one_account_do_not_leak_into_another() -> None:
    ledger = Ledger()
    ledger.rejected("lamp-1", "empty")
    assert ledger.account("lamp-2").rejected == {}
    assert ledger.account("lamp-1").rejected == {"empty": 1}
