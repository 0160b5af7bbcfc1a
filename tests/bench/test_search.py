"""The search for the highest rate that holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bench.ingest import Search


@given(limit=st.floats(200, 60_000), first=st.floats(500, 40_000))
def test_the_rate_found_holds_and_is_within_five_percent_of_the_limit(limit: float, first: float) -> None:
    search, tries = Search(first, highest=100_000), 0
    while not search.done:
        search.tell(search.rate <= limit)
        tries += 1
    assert search.holds <= limit <= search.holds * 1.05 + 1
    assert tries < 40


def test_the_search_ends_at_the_highest_rate_worth_trying() -> None:
    search = Search(1_000, highest=2_000)
    while not search.done:
        search.tell(True)
    assert search.holds == 2_000


def test_the_search_ends_when_nothing_holds() -> None:
    search = Search(1_000)
    while not search.done:
        search.tell(False)
    assert search.holds == 0
