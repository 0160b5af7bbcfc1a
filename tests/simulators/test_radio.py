"""Between a device and the broker: nothing happens unless it is asked for, and then the same every time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from simulators.messages import Message
from simulators.radio import FACTORY_S, FLOOR_SNR, Delivery, Memory, Radio

START_MS = 1_752_980_400_000


def message(device: str, sequence: int, at: float) -> Message:
    return Message(at, device, sequence, f"t/{device}", b"%d" % sequence)


def minutes(radio: Radio, device: str, since: int, until: int) -> list[Delivery]:
    """A message a minute, and what comes out of the device's memory meanwhile."""
    out: list[Delivery] = []
    for at in range(since, until, 60):
        out += radio.due(at) + radio.deliver(message(device, at // 60, float(at)), at)
    return out


def test_a_radio_that_nobody_broke_delivers_at_once_and_unchanged() -> None:
    radio = Radio(1)
    for number in range(100):
        sent = message(f"d-{number % 7}", number, number * 1.5)
        assert radio.deliver(sent, sent.at) == [(sent.at, sent)]
        assert radio.clock(sent.device, sent.at) == 0
    assert radio.next_at == math.inf
    assert not radio.counts


def test_a_cut_gateway_silences_its_devices_and_no_others() -> None:
    radio = Radio(3, gateways=2)
    radio.place("near", "gateway-1", 100)
    radio.place("far", "gateway-2", 100)
    radio.cut("gateway-1", 0)
    assert radio.deliver(message("near", 1, 0), 0) == []
    assert len(radio.deliver(message("far", 1, 0), 0)) == 1
    radio.restore("gateway-1", 60)
    assert len(radio.deliver(message("near", 2, 60), 60)) == 1
    assert radio.counts == {"lost": 1}
    with pytest.raises(ValueError, match="no such gateway"):
        radio.place("near", "gateway-9", 1)


def test_what_was_kept_comes_after_the_outage_oldest_first_marked_and_no_faster_than_its_rate() -> None:
    def mark(kept: Message, at: float) -> Message:
        return replace(kept, payload=b"history " + kept.payload)

    radio = Radio(1)
    radio.remember(["gauge"], Memory(messages=5, per_s=0.5, within_s=(10, 20), mark=mark))
    radio.cut(radio.home("gauge"), 0)
    assert minutes(radio, "gauge", 0, 480) == []  # eight messages, the memory holds five
    assert radio.kept("gauge") == 5
    radio.restore(radio.home("gauge"), 480)
    begin = radio.next_at
    assert 490 <= begin <= 500
    filled = radio.due(600)
    assert [(when, kept.sequence, kept.at) for when, kept in filled] == [
        (begin + 2 * step, 3 + step, 60.0 * (3 + step)) for step in range(5)
    ]
    assert {kept.payload for _, kept in filled} == {b"history %d" % number for number in range(3, 8)}
    assert radio.counts == {"kept": 8, "overwritten": 3, "back-filled": 5}
    assert radio.next_at == math.inf


def test_a_second_outage_stops_the_back_fill_and_nothing_is_sent_twice() -> None:
    radio = Radio(1)
    radio.remember(["gauge"], Memory(messages=100, per_s=0.1))
    radio.cut("gauge", 0)
    minutes(radio, "gauge", 0, 600)
    radio.restore("gauge", 600)
    first = radio.due(650)
    assert 0 < len(first) < 10
    radio.cut("gauge", 650)
    assert radio.due(1200) == []
    radio.restore("gauge", 1200)
    rest = radio.due(2000)
    assert [kept.sequence for _, kept in first + rest] == list(range(10))


def test_a_device_gets_the_same_fate_however_many_others_there_are() -> None:
    def fate(*devices: str) -> list[Delivery]:
        radio = Radio(9)
        radio.duplicate(0.3)
        radio.delay(0.3)
        radio.lose("d-1", 0.2)
        return [
            delivery
            for at in range(200)
            for device in devices
            for delivery in radio.deliver(message(device, at, at), at)
            if device == "d-1"
        ]

    assert fate("d-1") == fate("d-0", "d-1", "d-2")
    assert fate("d-1") == fate("d-1")


def test_shares_of_loss_duplicates_and_delay_are_kept_and_end() -> None:
    radio = Radio(5)
    radio.lose("d", 0.25)
    radio.duplicate(0.5, after_s=(2, 4))
    radio.delay(0.1, by_s=(60, 90))
    deliveries = [radio.deliver(message("d", n, n), n) for n in range(4000)]
    lost = sum(not one for one in deliveries)
    twice = [one for one in deliveries if len(one) == 2]
    late = [one for n, one in enumerate(deliveries) if one and one[0][0] > n]
    assert lost == pytest.approx(1000, rel=0.1)
    assert len(twice) == pytest.approx(1500, rel=0.1)
    assert len(late) == pytest.approx(300, rel=0.25)
    assert all(2 <= again[0] - first[0] <= 4 and again[1] is first[1] for first, again in twice)
    assert radio.counts == {"lost": lost, "duplicated": len(twice), "late": len(late)}
    radio.lose("d", 0)
    radio.duplicate(0)
    radio.delay(0)
    assert radio.deliver(message("d", 1, 5000), 5000) == [(5000, message("d", 1, 5000))]


def test_one_device_may_have_a_share_of_its_own() -> None:
    radio = Radio(5)
    radio.duplicate(1.0, "twice")
    radio.delay(1.0, "late")
    assert [len(radio.deliver(message(device, 1, 0), 0)) for device in ("twice", "late", "other")] == [2, 1, 1]
    assert radio.deliver(message("late", 2, 10), 10)[0][0] >= 40


def test_the_signal_falls_with_distance_and_a_lid_makes_it_slow_then_lost() -> None:
    radio = Radio(1)
    radio.place("d", "gateway-1", 100)
    near = [radio.signal("d") for _ in range(200)]
    radio.place("d", "gateway-1", 5_000)
    far = [radio.signal("d") for _ in range(200)]
    drop = sum(one.rssi for one in near) / 200 - sum(one.rssi for one in far) / 200
    assert drop == pytest.approx(23.2 * math.log10(50), abs=1)
    assert near[0].spreading <= far[0].spreading
    radio.place("d", "gateway-1", 100)
    heard = []
    for db in (0, 15, 30, 45, 90):
        radio.attenuate("d", db)
        heard.append(sum(len(radio.deliver(message("d", n, n), n)) for n in range(200)))
    assert heard[0] == heard[1] == 200
    assert heard[-1] == 0
    assert heard == sorted(heard, reverse=True)
    for number in range(500):
        signal = radio.signal(f"other-{number}")
        assert -140 <= signal.rssi <= -20
        assert -25 <= signal.snr <= 12
        assert signal.spreading in FLOOR_SNR


def test_clocks_drift_stand_still_or_fall_back_to_the_factory_and_are_set_right() -> None:
    radio = Radio(1, START_MS)
    radio.skew("d", -90, at=0, drift_ppm=100)
    assert radio.clock("d", 0) == -90
    assert radio.clock("d", 86_400) == pytest.approx(-90 + 8.64)
    radio.stick("d", 86_400)
    shown = 86_400 + radio.clock("d", 86_400)
    assert 90_000 + radio.clock("d", 90_000) == pytest.approx(shown)
    radio.factory_time("d", 100_000)
    assert START_MS / 1000 + 100_060 + radio.clock("d", 100_060) == pytest.approx(FACTORY_S + 60)
    radio.set_right("d")
    assert radio.clock("d", 100_100) == 0
