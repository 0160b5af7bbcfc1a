"""The benchmark of telling people, as small as it goes: nothing is missing, nothing comes twice unmarked."""

from __future__ import annotations

import pytest

from bench import notify
from bench.report import check
from tests.servers import need_debian


@pytest.fixture(autouse=True)
def mosquitto_installed() -> None:
    need_debian("mosquitto", "mosquitto")


def test_people_are_told_once_in_a_storm_and_beside_kills() -> None:
    figures = notify.run(seconds=1, storm=100, storm_s=1, alarms=20, kills=2, step_s=3)
    assert not [one.name for one in check(figures, notify.TARGETS) if one.value is None]
    assert figures["latency"]["messages"] == 50
    assert figures["storm"]["most_messages_a_person"] <= 12
    assert [figures["kills"][name] for name in ("missing", "repeated_unmarked", "other_keys")] == [0, 0, 0]
    assert figures["kills"]["messages"] == 60 + figures["kills"]["possible_repeats"]
