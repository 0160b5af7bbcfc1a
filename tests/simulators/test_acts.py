"""Everything that can be done to the city: it changes what it says, and its end undoes it.

Each act is done to one of two equal cities; the other one says what would have been.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from simulators.acts import ACTS, ANY, CITY
from simulators.messages import Message
from simulators.scenario import ScenarioError
from simulators.sensors import Fault
from simulators.simulation import Simulation
from simulators.truth import WATCHES, State
from tests.simulators.playing import messages, notes, play, scenario, simulation, small_city

NIGHT, DAY, WINTER = "2025-07-20T21:00:00+08:00", "2025-07-20T10:00:00+08:00", "2025-01-20T10:00:00+08:00"
RAIN = {"rain": [{"at": 0, "shower": {"peak": 40, "lasts": "3h"}}]}
BEGINS, ENDS = 100.0, 5000.0

Says = Callable[[Simulation, str, float], Any]


class Case(NamedTuple):
    """``says``: what shows the act, ``after_s`` from its beginning; ``settles_s`` after its end all is as if nothing
    had been, but for ``left``, the most that may differ."""

    act: str
    asset: str
    says: Says
    start: str = NIGHT
    after_s: float = 60.0
    settles_s: float = 0.0
    left: float = 0.0
    weather: dict[str, Any] | None = None
    given: Mapping[str, Any] = MappingProxyType({})


def lamp(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.lighting.lamps[asset].power_at(at)


def lamp_state(sim: Simulation, asset: str, at: float) -> str:
    return sim.world.lighting.lamps[asset].state_at(at).value


def lamps_of(sim: Simulation, asset: str, at: float) -> list[float]:
    return [round(one.power_at(at)) for one in sim.world.lighting.feeders[asset].lamps]


def supply(sim: Simulation, asset: str, at: float) -> list[float]:
    return [sim.world.lighting.feeders[asset].voltage_at(phase, at) for phase in range(3)]


def leak(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.lighting.feeders[asset].leak_at(at)


def door(sim: Simulation, asset: str, at: float) -> bool:
    return sim.world.lighting.feeders[asset].circuit(at).door_open


def cover(sim: Simulation, asset: str, at: float) -> str:
    return sim.world.covers.covers[asset].state_at(at).value


def tilt(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.covers.covers[asset].tilt_at(at)


def battery(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.covers.covers[asset].battery_at(at)


def station(*fields: str) -> Says:
    return lambda sim, asset, at: [getattr(sim.world.drains.stations[asset], field) for field in fields]


def pumps(*fields: str) -> Says:
    """Of one pump after the other."""
    return lambda sim, asset, at: [
        getattr(pump, field) for pump in sim.world.drains.stations[asset].pumps for field in fields
    ]


def slow(sim: Simulation, asset: str, at: float) -> float:
    return max(sim.world.answers_after_s.get(device.device, 0.0) for device in sim.devices_of(asset))


def blocked(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.drains.pipes[asset].blocked


def poured(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.drains.roads[asset].leak_cm_target


def strain(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.bridges.bridges[asset].strain_mean_at(at)


def unheard(sim: Simulation, asset: str, at: float) -> list[bool]:
    """Of a network: whether its lamps are off the air."""
    lamps = [one.asset for one in sim.city.of_kind("lamp") if one.links["network"] == asset]
    return [sim.world.radio.is_down(device.device) for one in lamps or [asset] for device in sim.devices_of(one)]


def heard(sim: Simulation, asset: str, at: float) -> float:
    """How many of so many messages come, and how often, at once or late."""
    device = sim.devices_of(asset)[0].device
    sent = [Message(at, device, number, "t", b"") for number in range(400)]
    return round(sum((1 if when == at else 1.001) for one in sent for when, _ in sim.world.radio.deliver(one, at)), 3)


def clock(sim: Simulation, asset: str, at: float) -> float:
    return sim.world.radio.clock(sim.devices_of(asset)[0].device, at)


def sensor(sim: Simulation, asset: str, at: float) -> Fault | None:
    return sim.sensors.fault(sim.devices_of(asset)[0].device)


def of(point: str) -> Says:
    """A point of a utility's report."""
    return lambda sim, asset, at: sim.world.utilities.things[asset].values(at)[point]


def every_water(sim: Simulation, asset: str, at: float) -> list[Any]:
    return [point.values(at)["pressure"] for point in sim.world.utilities.water.values()]


CASES = [
    Case("lamp-fails", "lamp-0003", lamp),
    Case("lamp-burns-by-day", "lamp-0003", lamp, DAY),
    Case("lamp-cycles", "lamp-0003", lamp_state),
    Case("feeder-loses-mains", "F01", lamps_of),
    Case("contactor-sticks-open", "F01", lamps_of),
    Case("contactor-sticks-closed", "F01", lamps_of, DAY),
    Case("switched-by-hand", "F01", lamps_of, DAY),
    Case("insulation-fails", "F01", leak, weather=RAIN, after_s=3600.0),
    Case("earth-fault", "F01", leak),
    Case("voltage-shifts", "F01", supply),
    Case("cabinet-opened", "F01", door),
    Case("cover-opened", "cover-003", cover),
    Case("cover-stolen", "cover-003", cover),
    Case("cover-tilted", "cover-003", tilt, left=1.5),
    Case("cover-shifted", "cover-003", tilt, left=1.5),
    Case("battery-low", "cover-003", battery, left=45.0),  # it gets a new one, which is fuller than the old one was
    Case("pump-refuses", "PS-01", pumps("refuses")),
    Case("pump-faults", "PS-01", pumps("fault", "code")),
    Case("pump-clogged", "PS-01", pumps("blocked")),
    Case("pump-by-hand", "PS-01", pumps("auto")),
    Case("station-loses-mains", "PS-01", station("mains")),
    Case("station-answers-late", "PS-01", slow),
    Case("station-answers-late", "bridge-02", slow),
    Case("station-answers-late", "CAB-01", slow, given={"after_s": 2.0}),
    Case("plc-frozen", "PS-01", station("frozen")),
    Case("plc-restarts", "PS-01", station("just_restarted")),
    Case("level-sensor-fails", "PS-01", station("level_sensor", "sensed_m")),
    Case("level-sensor-sticks", "PS-01", station("level_sensor")),
    Case("drain-blocked", "pipe-02", blocked),
    Case("water-on-road", "road-02", poured),
    Case("strain-drifts", "bridge-01", strain, after_s=3600.0),
    Case("strain-jumps", "bridge-01", strain),
    Case("gauge-loosens", "bridge-01", strain, settles_s=1200.0),
    Case("network-cut", "net-02", unheard),
    Case("device-silent", "pipe-02", unheard),
    Case("device-weak", "pipe-02", heard),
    Case("clock-wrong", "pipe-02", clock),
    Case("clock-factory", "pipe-02", clock),
    Case("clock-stuck", "pipe-02", clock),
    *(Case(f"sensor-{fault}", "pipe-02", sensor) for fault in Fault),
    Case("gas-leaks", "gas-01", of("gas"), after_s=3600.0, settles_s=6 * 3600.0, left=2.0),
    Case("heating-fails", "heat-01", of("supply_temp"), WINTER, after_s=4000.0, settles_s=20 * 3600.0, left=0.1),
    Case("dust-blows", "site-01", of("pm10"), after_s=900.0, settles_s=7200.0, left=0.1),
    Case("main-bursts", "water-01", every_water, after_s=900.0, settles_s=7200.0, left=0.1),
]
# Below, one by one.
AT_ONCE = {"cover-shaken", "overload", "works-at-night", "nonsense", "stranger-speaks", "devices-remember"}
OF_THE_CITY = {"messages-twice", "messages-late", "broker-away"}


def world_of(case: Case) -> Simulation:
    """Nothing of it needs the drains' engine: everything else is worked out for the second that is asked for."""
    return simulation(start=case.start, weather=case.weather or {})


def given(case: Case) -> dict[str, Any]:
    return {name: value for name, value in ACTS[case.act].takes.items() if value is not None} | dict(case.given)


def test_every_act_is_tried_here() -> None:
    assert {case.act for case in CASES} | AT_ONCE | OF_THE_CITY == set(ACTS)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.act}-{case.asset}" for case in CASES])
def test_an_act_changes_what_it_says_and_its_end_undoes_it(case: Case) -> None:
    act, city, untouched = ACTS[case.act], world_of(case), world_of(case)
    assert case.says(city, case.asset, BEGINS - 1) == case.says(untouched, case.asset, BEGINS - 1)
    act.begin(city, case.asset, BEGINS, given(case))
    shown = case.says(city, case.asset, BEGINS + case.after_s)
    assert shown != case.says(untouched, case.asset, BEGINS + case.after_s)
    assert act.end is not None
    act.end(city, case.asset, ENDS, given(case))
    at = ENDS + case.settles_s
    assert case.says(city, case.asset, at) == pytest.approx(case.says(untouched, case.asset, at), abs=case.left)


@pytest.mark.parametrize(
    ("act", "asset", "says", "size", "seen"),
    [
        ("cover-opened", "cover-003", tilt, {"degrees": 64.0}, 64.0),
        ("cover-tilted", "cover-003", tilt, {"degrees": 24.0}, 24.0),
        ("battery-low", "cover-003", battery, {"percent": 14.0}, 14.0),
        ("clock-wrong", "pipe-02", clock, {"seconds": -1200.0, "drift_ppm": 0.0}, -1200.0),
        ("clock-wrong", "pipe-02", clock, {"seconds": 5.0, "drift_ppm": 1e6}, 65.0),
        ("clock-stuck", "pipe-02", clock, {}, -60.0),
        ("station-answers-late", "PS-02", slow, {"after_s": 2.5}, 2.5),
        ("drain-blocked", "pipe-02", blocked, {"share": 0.75}, 0.75),
        ("pump-clogged", "PS-01", pumps("blocked"), {"pump": 2.0}, [False, True, False]),
        ("pump-refuses", "PS-01", pumps("refuses"), {"pump": 0.0}, [True] * 3),
        ("pump-faults", "PS-01", pumps("fault", "code"), {"pump": 3.0}, [False, 0, False, 0, True, 7]),
        ("device-weak", "pipe-02", heard, {"lost": 1.0}, 0),
    ],
)
def test_its_parameters_say_how_much(act: str, asset: str, says: Says, size: dict[str, Any], seen: Any) -> None:
    city = simulation()
    ACTS[act].begin(city, asset, BEGINS, size)
    assert says(city, asset, BEGINS + 60) == pytest.approx(seen, abs=0.01)


def test_a_pump_that_refuses_or_trips_stands_still_and_one_that_is_clogged_does_not() -> None:
    city = simulation()
    pump, second, third = city.world.drains.stations["PS-01"].pumps
    pump.running = second.running = third.running = True
    ACTS["pump-refuses"].begin(city, "PS-01", 0.0, {"pump": 1.0})
    ACTS["pump-faults"].begin(city, "PS-01", 0.0, {"pump": 2.0})
    ACTS["pump-clogged"].begin(city, "PS-01", 0.0, {"pump": 3.0})
    assert (pump.running, second.running, third.running) == (False, False, True)
    pump.command(True)
    assert not pump.running


def test_a_burst_takes_the_whole_pressure_here_half_at_its_neighbours_and_none_elsewhere() -> None:
    city, untouched = simulation(assets=500), simulation(assets=500)
    ACTS["main-bursts"].begin(city, "water-01", BEGINS, {"kpa": 100.0})
    before, now = every_water(untouched, "", 3600.0), every_water(city, "", 3600.0)
    lost = dict(zip(city.world.utilities.water, (a - b for a, b in zip(before, now, strict=True)), strict=True))
    network = city.city.asset("water-01").links["network"]
    for asset, kpa in lost.items():
        near = city.city.asset(asset).links["network"] == network
        assert kpa == pytest.approx(100 if asset == "water-01" else 50 if near else 0, abs=0.5), asset
    assert sorted({round(kpa, -1) for kpa in lost.values()}) == [0, 50, 100], "it has neighbours, and others"


# -- acts that are over at once ---------------------------------------------------------------------------------------


def test_acts_that_are_over_at_once_have_no_end() -> None:
    assert {act.name for act in ACTS.values() if act.end is None} == AT_ONCE


def test_a_shaken_cover_leans_for_a_second_and_is_never_open() -> None:
    city = simulation()
    ACTS["cover-shaken"].begin(city, "cover-003", BEGINS, {"degrees": 25.0})
    assert tilt(city, "cover-003", BEGINS + 0.1) > 20
    assert cover(city, "cover-003", BEGINS + 0.1) == "closed"
    assert tilt(city, "cover-003", BEGINS + 3) == tilt(city, "cover-003", BEGINS - 1)


def test_a_convoy_crosses_one_truck_after_the_other_and_each_is_weighed_once() -> None:
    """The trucks come on both sides of the ten minutes for which ordinary traffic is planned ahead."""
    convoy = {"at": 590, "do": "overload", "asset": "bridge-01", "trucks": 3, "times_limit": 1.6, "gap_s": 10}
    with simulation(convoy, {"at": 600, "do": "overload", "asset": "bridge-02", "times_limit": 1.3}) as played:
        said = messages(list(played.until(640)))
        weights = [(m.at, m.device, json.loads(m.payload)["values"].get("gvw", 0)) for m in said if "/br-" in m.topic]
        heavy = [(at, device, round(gvw)) for at, device, gvw in weights if gvw > 25.5]
        assert heavy == [(590, "br-01", 48), (600, "br-01", 48), (600, "br-02", 26), (610, "br-01", 48)]


def test_a_site_that_works_at_night_is_loud_for_so_many_minutes() -> None:
    city, untouched = simulation(start=NIGHT), simulation(start=NIGHT)
    ACTS["works-at-night"].begin(city, "site-01", BEGINS, {"minutes": 30.0, "db": 72.0})
    for at, is_loud in ((BEGINS - 1, False), (BEGINS + 60, True), (BEGINS + 1790, True), (BEGINS + 1810, False)):
        louder = of("laeq")(city, "site-01", at) - of("laeq")(untouched, "site-01", at)
        assert (louder > 15) == is_loud
        assert is_loud or louder == 0


def test_a_device_talks_nonsense_in_its_own_topic_at_that_second() -> None:
    said = messages(play(4.0, {"at": 2, "do": "nonsense", "asset": "pipe-02", "what": "truncated"}))
    (wrong,) = [message for message in said if message.what != "telemetry"]
    assert (wrong.at, wrong.device, wrong.what) == (2.0, "lv-02", "truncated")
    assert wrong.topic == "citywatch/v1/pipe/lv-02/telemetry"


def test_unknown_nonsense_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"there is no nonsense 'gibberish': nan, nan-text"):
        play(4.0, {"at": 2, "do": "nonsense", "asset": "pipe-02", "what": "gibberish"})


def test_a_stranger_speaks_with_an_address_that_nobody_knows() -> None:
    said = messages(play(4.0, {"at": 2, "do": "stranger-speaks"}))
    (stranger,) = [message for message in said if message.what == "unknown-device"]
    assert stranger.device not in {device.device for device in small_city().devices}


# -- acts of the whole city -------------------------------------------------------------------------------------------


def test_messages_come_twice_or_late_while_that_goes_on_and_not_afterwards() -> None:
    def plain(*timeline: dict[str, Any]) -> list[Message]:
        """Without those by LoRaWAN, whose network server tells how it heard them each time."""
        return [message for message in messages(play(1200.0, *timeline)) if message.topic.startswith("citywatch/")]

    calm = plain()
    for act in ("messages-twice", "messages-late"):
        broken = plain({"at": 300, "do": act, "share": 0.5, "for": "5m"})
        delivered = [message.payload for message in broken]
        assert delivered[:50] == [message.payload for message in calm][:50]
        sent = {message.payload: message.at for message in calm}
        late = [message.at - sent[message.payload] for message in broken if message.at > sent[message.payload]]
        assert all(300 <= sent[message.payload] <= 600 for message in broken if message.at > sent[message.payload])
        assert 20 < len(late) < 0.8 * sum(300 <= at <= 600 for at in sent.values())
        assert len(set(delivered)) == len(calm)
        if act == "messages-twice":
            assert len(broken) == len(calm) + len(late)
            assert all(1 <= seconds <= 8 for seconds in late)
        else:
            assert len(broken) == len(calm)
            assert all(30 <= seconds <= 300 for seconds in late)


def test_devices_that_were_told_to_remember_deliver_afterwards_what_nobody_heard() -> None:
    remember = {"at": 1, "do": "devices-remember", "kind": "pipe"}
    cut = {"at": 300, "do": "network-cut", "asset": {"kind": "network", "pick": 2}, "for": "20m"}
    counts = {}
    for name, timeline in (("calm", ()), ("cut", (cut,)), ("kept", (remember, cut))):
        said = messages(play(3000.0, *timeline))
        counts[name] = {
            kind: sum(f"/{kind}/" in message.topic for message in said) for kind in ("pipe", "road")
        }  # fmt: skip
    assert counts["cut"]["pipe"] < counts["calm"]["pipe"] == counts["kept"]["pipe"]
    assert counts["cut"]["road"] == counts["kept"]["road"] < counts["calm"]["road"]


def test_while_the_broker_is_away_nothing_comes_and_everything_afterwards_some_of_it_twice() -> None:
    calm = messages(play(1000.0))
    away = messages(play(1000.0, {"at": 300, "do": "broker-away", "for": "2m"}))
    assert [message.at for message in away if 300 < message.at <= 420] == []
    held = [message for message in away if 420 < message.at < 422]
    missed = [message.payload for message in calm if 300 < message.at <= 420]
    payloads = [message.payload for message in held]
    assert [payload for payload in dict.fromkeys(payloads) if payload in missed] == missed
    assert len(missed) > 20
    assert any(payloads.count(payload) == 2 for payload in missed)


# -- whom it can befall -----------------------------------------------------------------------------------------------


def test_kinds_of_acts_are_kinds_of_assets() -> None:
    kinds = {asset.kind for asset in small_city().assets}
    for act in ACTS.values():
        assert act.kinds in (ANY, CITY) or act.kinds <= kinds, act.name
        assert act.zh
        assert act.en.isascii()


@pytest.mark.parametrize(
    ("timeline", "reason"),
    [
        ([{"at": 2, "do": "lamp-fails", "asset": "F01"}], "lamp-fails: F01 is feeder, not lamp"),
        ([{"at": 2, "do": "station-answers-late", "asset": "F01"}], "F01 is feeder, not bridge or cabinet or pump"),
        ([{"at": 2, "do": "lamp-fails", "asset": "lamp-9999"}], "there is no asset 'lamp-9999' in a city of 120"),
        ([{"at": 2, "do": "lamp-fails", "asset": {"but": ["F09"]}}], "there is no asset 'F09'"),
        ([{"at": 2, "do": "device-silent"}], "device-silent: say which asset, or which kind"),
        ([{"at": 2, "do": "device-silent", "asset": {"kind": "tram"}}], "no asset in this city is as"),
        ([{"at": 2, "do": "lamp-fails", "asset": {"where": {"feeder": "net-01"}}}], "no asset in this city is as"),
        (
            [
                {"at": 2, "do": "cover-opened", "asset": "cover-001", "as": "hole"},
                {"at": 3, "do": "lamp-fails", "asset": "$hole"},
            ],
            "lamp-fails: cover-001 is manhole, not lamp",
        ),
    ],
)
def test_what_cannot_befall_an_asset_is_refused(timeline: list[dict[str, Any]], reason: str) -> None:
    assert scenario(*timeline).timeline
    with pytest.raises(ScenarioError, match=reason):
        play(4.0, *timeline)


def test_a_device_act_can_befall_any_asset_and_one_without_devices_does_not_mind() -> None:
    happenings = play(4.0, {"at": 2, "do": "device-silent", "asset": "county"})
    assert [note.asset for note in notes(happenings)] == ["county"]


def test_the_truth_of_an_act_is_that_of_the_state_not_of_the_act() -> None:
    """A cover that the water or a person opened is open for the truth as one that an act opened."""
    opened = next(watch for watch in WATCHES if watch.rule == "manhole-open")
    city = simulation()
    assert opened.asks(city, "cover-003", 50.0) == State(False)
    city.world.covers.covers["cover-003"].opened(60.0)
    assert opened.asks(city, "cover-003", 70.0) == State(True, (1, 0.0))
