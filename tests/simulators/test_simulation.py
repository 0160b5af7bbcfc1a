"""One calendar: who is chosen, when an act begins and is over, and who speaks meanwhile."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from simulators.messages import Message, Note, Poll
from simulators.scenario import ScenarioError
from simulators.simulation import ANSWER, Done, Happening, Simulation
from tests.simulators.playing import messages, notes, play, simulation, small_city

CITY = small_city()


def victims(*timeline: dict[str, Any], fault: str = "lamp-fails", **others: Any) -> list[str]:
    """On whom that act fell, in order."""
    assert all(entry["at"] < 4 for entry in timeline)
    happenings = play(4.0, *timeline, **others)
    return [note.asset for note in notes(happenings) if note.fault == fault and note.step == "begin"]


def fails(**choice: Any) -> dict[str, Any]:
    return {"at": 2, "do": "lamp-fails", "asset": {"kind": "lamp", **choice}}


# -- whom it befalls --------------------------------------------------------------------------------------------------


def test_without_a_choice_one_asset_of_the_act_s_kinds_is_chosen_by_the_seed() -> None:
    act = {"at": 2, "do": "lamp-fails"}
    (chosen,) = victims(act)
    assert CITY.asset(chosen).kind == "lamp"
    assert victims(act) == [chosen]
    assert {*victims(act, seed=2), *victims(act, seed=3), *victims(act, seed=4)} != {chosen}


def test_another_act_of_the_same_kind_chooses_anew() -> None:
    chosen = victims(*(fails() | {"at": 0.25 * step} for step in range(8)))
    assert len(set(chosen)) > 4


def test_so_many_different_assets_are_picked_and_never_more_than_there_are() -> None:
    assert len(set(victims(fails(pick=7)))) == 7
    assert sorted(victims(fails(pick=500))) == sorted(lamp.asset for lamp in CITY.of_kind("lamp"))


def test_picked_assets_are_apart_round_the_whole_list() -> None:
    lamps = [lamp.asset for lamp in CITY.of_kind("lamp")]
    for seed in range(1, 6):
        places = sorted(lamps.index(one) for one in victims(fails(pick=3, apart=20), seed=seed))
        gaps = [b - a for a, b in zip(places, [*places[1:], places[0] + len(lamps)], strict=True)]
        assert len(gaps) == 3
        assert min(gaps) >= 20


def test_where_there_is_no_room_fewer_are_picked_rather_than_nearer_ones() -> None:
    assert len(victims(fails(pick=9, apart=25))) == 2
    assert len(victims(fails(pick=9, apart=1000))) == 1


def test_a_row_is_of_neighbours_on_one_circuit_and_whole_at_its_end_too() -> None:
    for seed in range(1, 9):
        row = victims(fails(row=6), seed=seed)
        assert len(row) == 6
        numbers = [int(one.removeprefix("lamp-")) for one in row]
        assert numbers == list(range(numbers[0], numbers[0] + 6))
        assert len({small_city(seed).asset(one).links["feeder"] for one in row}) == 1


def test_rows_that_overlap_name_nobody_twice() -> None:
    row = victims(fails(pick=20, row=10))
    assert len(row) == len(set(row)) > 20


def test_where_keeps_to_what_a_thing_is_linked_to_by_name_or_by_an_earlier_act() -> None:
    by_name = victims(fails(pick=9, where={"feeder": "F02"}))
    assert {CITY.asset(one).links["feeder"] for one in by_name} == {"F02"}
    lost = {"at": 1, "do": "feeder-loses-mains", "asset": {"kind": "feeder"}, "as": "dark"}
    (feeder,) = victims(lost, fault="feeder-loses-mains")
    by_act = victims(lost, fails(pick=9, where={"feeder": "$dark"}))
    assert {CITY.asset(one).links["feeder"] for one in by_act} == {feeder}


def test_but_spares_the_thing_itself_what_hangs_on_it_and_what_it_hangs_on() -> None:
    feeder_of = {lamp.asset: lamp.links["feeder"] for lamp in CITY.of_kind("lamp")}
    assert {feeder_of[one] for one in victims(fails(pick=20, but=["F01"]))} == {"F02"}
    near = {"lamp-0001", "lamp-0002", "lamp-0039", "lamp-0040", "lamp-0041"}
    assert set(victims(fails(pick=99, but=["lamp-0001", "lamp-0040"]))) == {*feeder_of} - near
    cut = {"at": 3, "do": "feeder-loses-mains", "asset": {"kind": "feeder", "pick": 9, "but": ["$out"]}}
    (lamp,) = victims(fails() | {"as": "out"})
    spared = victims(fails() | {"as": "out"}, cut, fault="feeder-loses-mains")
    assert spared == [feeder for feeder in ("F01", "F02") if feeder != feeder_of[lamp]]


def test_a_profile_keeps_to_devices_of_one_make() -> None:
    act = {"at": 2, "do": "cover-opened", "asset": {"kind": "manhole", "profile": "milesight/em320-tilt", "pick": 9}}
    chosen = victims(act, fault="cover-opened")
    made = {device.asset for device in CITY.devices if device.is_lorawan and device.device.startswith("mh-")}
    assert set(chosen) == made
    assert len(made) == 2


def test_a_name_stands_for_the_same_victims_later() -> None:
    first = fails(pick=3) | {"as": "dark", "for": 0.5}
    again = {"at": 3, "do": "lamp-cycles", "asset": "$dark"}
    assert victims(first, again, fault="lamp-cycles") == victims(first)
    assert len(victims(first)) == 3


def test_nobody_to_choose_is_an_error_that_says_so() -> None:
    with pytest.raises(ScenarioError, match="lamp-fails: no asset in this city is as the scenario wants it"):
        victims(fails(profile="generic/json-pipe"))


# -- when -------------------------------------------------------------------------------------------------------------


def steps(happenings: list[Happening]) -> list[tuple[float, str, str]]:
    return [(note.at, note.fault, note.step) for note in notes(happenings)]


def test_an_act_is_over_after_its_time_and_what_it_did_is_undone() -> None:
    with simulation({"at": 10, "do": "lamp-fails", "asset": "lamp-0003", "for": "30s"}) as played:
        lamp = played.world.lighting.lamps["lamp-0003"]
        assert steps(list(played.until(10))) == [(10, "lamp-fails", "begin")]
        assert lamp.power_at(11) == 0
        (note, done) = [h for h in played.until(60) if isinstance(h, (Note, Done))]
        assert lamp.power_at(41) > 0
    assert isinstance(note, Note)
    assert (note.at, note.step) == (40, "end")
    assert done == Done("lamp-fails-0.0.0", "lamp-fails", "lamp-0003", "灯具损坏", "a lamp fails", 10, 40, ())


def test_an_act_without_an_end_goes_on_and_is_told_when_all_is_over() -> None:
    with simulation({"at": 10, "do": "feeder-loses-mains", "asset": "F01"}, lasts="2m") as played:
        during = list(played.until(120))
        assert steps(during) == [(10, "feeder-loses-mains", "begin")]
        assert [h for h in during if isinstance(h, Done)] == []
        (done,) = [h for h in played.ends() if isinstance(h, Done)]
    assert (done.since, done.until) == (10, None)
    assert len(done.scope) == 30
    assert set(done.scope) == {lamp.asset for lamp in CITY.of_kind("lamp") if lamp.links["feeder"] == "F01"}


def test_an_act_can_be_ended_by_its_name_and_no_other_is() -> None:
    happenings = play(
        200.0,
        {"at": 10, "do": "lamp-fails", "asset": "lamp-0003", "as": "one"},
        {"at": 12, "do": "lamp-fails", "asset": "lamp-0009", "as": "two", "for": "100s"},
        {"at": 50, "end": "one"},
        {"at": 150, "end": "two"},
    )
    ends = [(note.at, note.asset) for note in notes(happenings) if note.step == "end"]
    assert ends == [(50, "lamp-0003"), (112, "lamp-0009")]


def test_an_act_is_done_every_so_often_until_a_time_to_others_each_time() -> None:
    every = {"at": 10, "do": "cover-shaken", "asset": {"kind": "manhole", "pick": 2}, "every": "20s", "until": 70}
    begun = [note for note in notes(play(200.0, every)) if note.step == "begin"]
    assert [note.at for note in begun] == [10, 10, 30, 30, 50, 50, 70, 70]
    assert len({note.asset for note in begun}) > 4


def test_a_timeline_is_repeated_until_the_scenario_is_over_with_other_victims_and_its_own_ends() -> None:
    acts = ({"at": 10, "do": "lamp-fails", "as": "x"}, {"at": 40, "end": "x"})
    happenings = play(600.0, *acts, repeat="100s", lasts="350s")
    assert [(at, step) for at, _, step in steps(happenings)] == [
        (10, "begin"), (40, "end"), (110, "begin"), (140, "end"), (210, "begin"), (240, "end"), (310, "begin"),
        (340, "end"),
    ]  # fmt: skip
    told = [(note.asset, note.step) for note in notes(happenings)]
    assert all(begun[0] == ended[0] for begun, ended in zip(told[::2], told[1::2], strict=True))
    assert len({asset for asset, _ in told}) > 1
    assert len({done.act for done in happenings if isinstance(done, Done)}) == 4, "each is an act of its own"


def test_nothing_happens_before_next_at_and_something_then() -> None:
    with simulation({"at": 33.5, "do": "stranger-speaks"}) as played:
        for _ in range(50):
            due = played.next_at
            assert list(played.until(math.nextafter(due, 0))) == []
            list(played.until(due))
            assert played.next_at >= due
        assert played.next_at > 5


# -- who speaks -------------------------------------------------------------------------------------------------------


def heard(happenings: list[Happening], device: str) -> list[float]:
    return [message.at for message in messages(happenings) if message.device == device]


def test_devices_of_an_act_that_is_felt_at_once_report_at_once() -> None:
    opened = {"at": 100, "do": "cover-opened", "asset": "cover-003", "for": "50s"}
    happenings = play(200.0, opened)
    assert heard(happenings, "mh-003") == [100, 150]
    states = [json.loads(m.payload)["values"]["cover"] for m in messages(happenings) if m.device == "mh-003"]
    assert states == ["open", "closed"]


def test_gauges_speak_each_minute_when_it_rains_and_seldom_when_it_does_not() -> None:
    rain = {"rain": [{"at": "30m", "shower": {"peak": 30, "lasts": "20m"}}]}
    happenings = play(4000.0, weather=rain)
    for device in ("lv-01", "wl-01"):
        times = heard(happenings, device)
        dry = [b - a for a, b in itertools.pairwise(times) if b < 1800]
        wet = [b - a for a, b in itertools.pairwise(times) if 2200 < a < 2900]
        assert dry == pytest.approx([300] * len(dry))
        assert wet == pytest.approx([60] * len(wet))
        assert len(dry) == 5
        assert 10 <= len(wet) <= 12


def test_when_the_plan_switches_every_lamp_and_cabinet_says_so_within_a_minute_and_a_half() -> None:
    start = "2025-06-21T19:30:00+08:00"
    with simulation(start=start) as played:
        (at, *_) = played.world.lighting.line.switchings(0.0, 3600.0)
        happenings = list(played.until(at + 100))
    lamps = {d.device for d in CITY.devices if d.device.startswith(("lc-", "fc-"))}
    after = {message.device for message in messages(happenings) if at <= message.at <= at + 90}
    assert lamps <= after
    assert 0 < at < 3600


def test_the_controllers_of_a_dark_circuit_live_a_minute_longer_and_come_back_within_a_minute() -> None:
    dark = {"at": 100, "do": "feeder-loses-mains", "asset": "F01", "for": "30m"}
    happenings = play(2100.0, dark)
    of_f01 = {f"lc-{n:04d}" for n in range(1, 31)}
    told = [message for message in messages(happenings) if message.device in of_f01]
    assert [message.at for message in told if 160 < message.at < 1905] == []
    assert {message.device for message in told if 1905 <= message.at <= 1960} == of_f01
    others = [m for m in messages(happenings) if m.device == "lc-0050"]
    assert any(160 < message.at < 1900 for message in others)


def test_a_network_that_is_cut_takes_its_devices_with_it_and_is_counted_so() -> None:
    with simulation({"at": 100, "do": "network-cut", "asset": "net-01", "for": "20m"}) as played:
        during = list(played.until(1200))
        behind = {asset.asset for asset in CITY.assets if asset.links.get("network") == "net-01"}
        speakers = {m.device for m in messages(during) if m.at > 100}
        assert {d.device for d in CITY.devices if d.asset in behind and not d.is_modbus}.isdisjoint(speakers)
        assert played.is_cut("net-01")
        assert not played.is_cut("net-02")
        assert all(played.unheard_since(asset) == 100 for asset in behind)
        later = list(played.until(2300))
        assert not any(played.unheard(asset, 2300) for asset in behind)
        lamp = next(d.device for d in CITY.devices if d.asset in behind and d.device.startswith("lc-"))
        assert heard(later, lamp)


def test_a_lamp_on_a_dark_circuit_is_not_heard_again_when_its_network_is() -> None:
    with simulation(
        {"at": 100, "do": "feeder-loses-mains", "asset": "F01", "for": "30m"},
        {"at": 200, "do": "network-cut", "asset": {"kind": "network", "pick": 2}, "for": "5m"},
    ) as played:
        list(played.until(600))
        assert played.unheard_since("lamp-0003") == 160
        assert not played.unheard("lamp-0050", 600), "the other circuit's"
        list(played.until(1950))
        assert not played.unheard("lamp-0003", 1950)


def test_polls_are_answered_by_devices_that_answer_and_time_out_with_the_others() -> None:
    late = {"at": 30, "do": "station-answers-late", "asset": "PS-01", "for": "30s"}
    polls = [poll for poll in play(90.0, late, polls=True) if isinstance(poll, Poll)]
    assert {poll.device for poll in polls} == set(CITY.modbus_devices)
    of_station = [poll for poll in polls if poll.device == "plc-01"]
    assert all((poll.error == ANSWER) == (30 <= poll.at < 60) for poll in of_station)
    assert all((poll.words == b"") == (poll.error is not None) for poll in polls)
    assert len({len(poll.words) for poll in of_station}) == 2
    assert sum(poll.error is not None for poll in polls) == 6
    assert [h for h in play(90.0, late) if isinstance(h, Poll)] == [], "where a gateway polls, nobody else does"


def test_a_stuck_sensor_repeats_itself_in_the_messages_and_nowhere_else() -> None:
    stuck = {"at": 10, "do": "sensor-sticks", "asset": "bridge-01", "for": "8m"}
    with simulation(stuck) as played:
        happenings = list(played.until(900))
    said = [(m.at, json.loads(m.payload)["values"]) for m in messages(happenings) if m.device == "br-01"]
    means = [(at, values["strain_mean"]) for at, values in said if "strain_mean" in values]
    during = {mean for at, mean in means if 10 < at < 490}
    assert len(during) == 1
    assert len({mean for at, mean in means if at >= 490}) > 2
    assert len({values["strain"] for at, values in said if "strain" in values and at < 490}) > 2


def test_a_clock_that_is_wrong_shows_in_the_message_and_not_in_when_it_comes() -> None:
    wrong = {"at": 0, "do": "clock-wrong", "asset": "pipe-01", "seconds": -1200}
    with simulation(wrong) as played:
        begin = played.start_ms
        said = [h for h in played.until(700) if isinstance(h, Message) and h.device in ("lv-01", "lv-02")]
    assert {message.device for message in said} == {"lv-01", "lv-02"}
    for message in said:
        off = json.loads(message.payload)["ts"] - begin - round(message.at * 1000)
        assert off == (-1_200_000 if message.device == "lv-01" else 0)


def test_it_is_the_same_however_long_the_city_had_stood() -> None:
    """Nothing is kept from one simulation of a city to the next."""
    first, second = Simulation(*_parts()), Simulation(*_parts())
    with first, second:
        assert list(first.until(300)) == list(second.until(300))


def _parts() -> tuple[Any, Any, int]:
    played = simulation({"at": 5, "do": "lamp-fails"}, {"at": 9, "do": "cover-stolen", "for": "1m"})
    return played.scenario, played.city, played.seed
