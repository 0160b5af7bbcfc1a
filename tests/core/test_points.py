"""What is new, what was seen before, what is late, and what is from the future."""

from __future__ import annotations

from gateway.core.model import Asset, Decoded, Quality, Reading
from gateway.core.points import Packets, Window
from tests.core.street import START, Street

S = 1_000_000


def test_the_same_message_three_times_is_one() -> None:
    street = Street()
    assert len(street.send(0, sequence=1, depth=1.0).keep) == 1
    for second in (1, 2):
        again = street.send(second, measured=0, sequence=1, depth=1.0)
        assert (again.keep, again.duplicates, again.conflicts) == ([], 1, 0)


def test_a_batch_redelivered_out_of_order_is_found_packet_by_packet() -> None:
    street = Street()
    for second in range(10):
        street.send(second, sequence=second, depth=1.0)
    for second in (7, 3, 9, 0, 5):
        assert street.send(20 + second, measured=second, sequence=second, depth=1.0).duplicates == 1


def test_equal_key_other_value_the_first_is_kept_and_the_conflict_counted() -> None:
    street = Street()
    street.send(0, depth=1.0)
    street.send(1, depth=2.0)
    again = street.send(2, measured=0, depth=9.0)
    assert (again.keep, again.duplicates, again.conflicts) == ([], 1, 1)
    point = street.engine.point("r1", "depth")
    assert point is not None
    assert point.value == 2.0


def test_a_packet_in_two_messages_is_two_halves_not_a_duplicate() -> None:
    street = Street()
    street.send(0, depth=1.0)
    second = street.send(0, measured=0, battery=90.0)
    assert len(second.keep) == 1
    both = street.send(1, measured=0, depth=1.0, battery=90.0, rssi=-70.0)
    assert [r.point for r in both.keep] == ["rssi"]
    assert both.duplicates == 2


def test_two_observations_without_time_or_sequence_are_two() -> None:
    street = Street()
    for second in (0, 0, 5):
        assert len(street.send(second, timed=False, depth=1.0).keep) == 1


def test_a_counter_without_a_clock_finds_redelivery_but_may_wrap() -> None:
    street = Street()
    assert street.send(0, timed=False, sequence=7, depth=1.0).duplicates == 0
    assert street.send(5, timed=False, sequence=7, depth=1.0).duplicates == 1
    assert street.send(4 * 3600, timed=False, sequence=7, depth=1.0).duplicates == 0


def test_two_messages_of_one_second_with_different_sequence_are_both_evaluated() -> None:
    street = Street()
    street.send(0, sequence=1, depth=1.0)
    street.send(0.5, measured=0, sequence=2, depth=4.0)
    point = street.engine.point("r1", "depth")
    assert point is not None
    assert point.value == 4.0


def test_an_older_reading_within_the_lateness_is_kept_and_not_evaluated() -> None:
    street = Street()
    street.send(60, depth=1.0)
    older = street.send(61, measured=30, depth=50.0)
    assert [r.historical for r in older.keep] == [False]
    point = street.engine.point("r1", "depth")
    assert point is not None
    assert point.value == 1.0


def test_a_historical_reading_makes_no_current_value_and_is_found_when_it_comes_again() -> None:
    street = Street()
    assert len(street.send(0, measured=-50, historical=True, depth=1.0).keep) == 1
    assert street.engine.point("r1", "depth") is None
    assert street.send(1, measured=-50, historical=True, depth=1.0).duplicates == 1


def test_a_packet_that_came_too_late_is_a_duplicate_when_it_comes_again() -> None:
    street = Street()
    street.send(3600, measured=3600, depth=1.0)
    late = street.send(7200, measured=3700, depth=2.0)
    assert [r.historical for r in late.keep] == [True]
    assert street.send(7201, measured=3700, depth=2.0).duplicates == 1


def test_a_reading_from_the_future_is_uncertain_and_does_not_make_honest_ones_old() -> None:
    street = Street()
    ahead = street.send(0, measured=3600, depth=20.0)
    assert ahead.keep[0].quality is Quality.UNCERTAIN
    assert ahead.keep[0].source_time == START + 3600 * S
    assert "3600 s ahead" in (ahead.keep[0].reason or "")
    street.send(10, depth=1.0)
    point = street.engine.point("r1", "depth")
    assert point is not None
    assert (point.value, point.quality) == (1.0, Quality.GOOD)
    assert street.send(11, measured=3600, depth=20.0).duplicates == 1
    assert street.engine.counters.clock_skew == 1


def test_a_clock_a_minute_ahead_is_believed() -> None:
    street = Street()
    assert street.send(0, measured=60, depth=1.0).keep[0].quality is Quality.GOOD


def test_a_message_with_several_moments_is_several_packets() -> None:
    street = Street()
    street.at(100)
    now = street.engine.now

    def array() -> Decoded:
        return Decoded(
            "r1",
            [
                Reading("r1", "depth", float(i), Quality.GOOD, START + i * 10 * S, now, "r1", None, False, None)
                for i in range(5)
            ],
        )

    assert len(street.engine.observe(array(), street.events).keep) == 5
    point = street.engine.point("r1", "depth")
    assert point is not None
    assert point.value == 4.0
    assert street.engine.observe(array(), street.events).duplicates == 5


def test_a_device_with_more_than_64_points_survives_a_snapshot() -> None:
    street = Street()
    values = {f"x{n}": float(n) for n in range(80)}
    street.send(0, **values)
    again = street.restarted()
    assert again.send(1, measured=0, **values).duplicates == 80


def test_the_memory_of_packets_is_bounded_and_knows_the_last_ones() -> None:
    packets = Packets(size=100)
    for key in range(1000):
        packets.remember(key, 1, 0)
    assert len(packets.young) + len(packets.old) <= 200
    assert all(packets.seen(key)[0] for key in range(900, 1000))
    assert packets.seen(5) == (0, None)


def test_a_window_gives_the_change_since_the_oldest_sample_in_it() -> None:
    window = Window(600 * S)
    for minute in range(30):
        window.add(minute * 60 * S, float(minute))
    assert window.change(29 * 60 * S, 29.0) == 10.0
    assert len(window.samples) <= 257
    assert Window(600 * S).change(0, 1.0) is None


def test_readings_of_an_asset_nobody_registered_are_kept() -> None:
    street = Street()
    assert len(street.send(0, "stranger", depth=1.0).keep) == 1
    assert street.engine.points("stranger")["depth"].value == 1.0
    assert Asset("r1", "road").asset == "r1"
