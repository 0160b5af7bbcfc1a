"""What can be done to the city: the words of a scenario's timeline.

An act has a name, the kinds of assets it can befall, words for people, and two halves: what begins and what ends it.
Acts change the true state of the world (or a sensor, a wire, a clock); which alarms must follow is not their business:
``truth.py`` looks at the state, whoever changed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from simulators.nonsense import NONSENSE
from simulators.radio import Memory
from simulators.sensors import Fault

if TYPE_CHECKING:
    from simulators.simulation import Simulation

Given: TypeAlias = Mapping[str, float | str | bool]
Do: TypeAlias = Callable[["Simulation", str, float, Given], None]  # (simulation, asset, second, parameters)

ANY = frozenset({"*"})
CITY = frozenset({"city"})  # of no single asset


@dataclass(frozen=True)
class Act:
    """``takes``: parameters with their defaults; None where one must be given. ``speaks``: the asset's devices report
    at once, when it begins and when it ends. ``reaches``: links by which others are touched (their incidents count as
    this act's): "feeder" means every asset that names this one as its feeder."""

    name: str
    kinds: frozenset[str]
    zh: str
    en: str
    begin: Do
    end: Do | None = None
    takes: Mapping[str, float | str | bool | None] = field(default_factory=dict)
    speaks: bool = False
    reaches: tuple[str, ...] = ()


def _act(
    name: str, kinds: str | frozenset[str], zh: str, en: str, begin: Do, end: Do | None = None, *, speaks: bool = False,
    reaches: tuple[str, ...] = (), **takes: float | str | bool | None,
) -> Act:  # fmt: skip
    of = kinds if isinstance(kinds, frozenset) else frozenset(kinds.split())
    return Act(name, of, zh, en, begin, end, takes, speaks, reaches)


def _number(given: Given, name: str) -> float:
    value = given[name]
    if isinstance(value, (str, bool)):
        raise ValueError(f"{name} must be a number")
    return float(value)


# -- lighting ---------------------------------------------------------------------------------------------------------


def _lamp(method: str, **more: float) -> Do:
    return lambda sim, asset, at, given: getattr(sim.world.lighting.lamps[asset], method)(at, **more)


def _feeder(method: str, **more: object) -> Do:
    return lambda sim, asset, at, given: getattr(sim.world.lighting.feeders[asset], method)(at, **more)


def _insulation(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.lighting.feeders[asset].insulation_fails(at, _number(given, "wet_ma"))


def _earth_fault(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.lighting.feeders[asset].earth_fault(at, _number(given, "ma"))


def _voltage(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.lighting.feeders[asset].supply_shifts(at, *(_number(given, phase) for phase in "abc"))


# -- covers -----------------------------------------------------------------------------------------------------------


def _opened(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].opened(at, _number(given, "degrees"))


def _shifted(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].shifted(at, _number(given, "degrees"))


def _shaken(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].shaken(at, _number(given, "degrees"))


def _stolen(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].stolen(at)


def _closed(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].closed(at)


def _battery(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].battery_is(at, _number(given, "percent"))


def _new_battery(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.covers.covers[asset].battery_is(at, 100.0)


# -- pump stations and drains -----------------------------------------------------------------------------------------


def _pumps(field: str, begins: bool) -> Do:
    """``pump``: 1, 2, 3 … or 0 for all."""

    def do(sim: Simulation, asset: str, at: float, given: Given) -> None:
        station, which = sim.world.drains.stations[asset], round(_number(given, "pump"))
        for number, pump in enumerate(station.pumps, 1):
            if which in (0, number):
                setattr(pump, field, begins)
                if field == "fault":
                    pump.code = 7 if begins else 0
                if begins and field in ("refuses", "fault"):
                    pump.command(False)

    return do


def _station(field: str, begins: object, ends: object) -> tuple[Do, Do]:
    def begin(sim: Simulation, asset: str, at: float, given: Given) -> None:
        setattr(sim.world.drains.stations[asset], field, begins)

    def end(sim: Simulation, asset: str, at: float, given: Given) -> None:
        setattr(sim.world.drains.stations[asset], field, ends)

    return begin, end


def _answers_late(sim: Simulation, asset: str, at: float, given: Given) -> None:
    for device in sim.devices_of(asset):
        if device.is_modbus:
            sim.world.answers_after_s[device.device] = _number(given, "after_s")


def _answers_again(sim: Simulation, asset: str, at: float, given: Given) -> None:
    for device in sim.devices_of(asset):
        sim.world.answers_after_s.pop(device.device, None)


def _blocked(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.drains.pipes[asset].blocked = _number(given, "share")


def _cleaned(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.drains.pipes[asset].blocked = 0.0


def _poured(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.drains.roads[asset].leak_cm_target = _number(given, "cm")


def _ran_off(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.drains.roads[asset].leak_cm_target = 0.0


# -- bridges ----------------------------------------------------------------------------------------------------------


def _overload(sim: Simulation, asset: str, at: float, given: Given) -> None:
    bridge = sim.world.bridges.bridges[asset]
    count = round(_number(given, "trucks"))
    weight = _number(given, "times_limit") * bridge.limit_t
    for vehicle in bridge.convoy(at, [weight] * count, _number(given, "gap_s")):
        sim.vehicle(asset, vehicle)


def _strain_drift(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.bridges.bridges[asset].strain_drifts(at, _number(given, "ue_per_h"))


def _strain_jump(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.bridges.bridges[asset].strain_jumps(at, _number(given, "ue"))


def _bridge(method: str, **more: float) -> Do:
    return lambda sim, asset, at, given: getattr(sim.world.bridges.bridges[asset], method)(at, **more)


# -- radio, clocks, sensors -------------------------------------------------------------------------------------------


def _network_cut(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.radio.cut(sim.world.radio_gateway(asset), at)


def _network_back(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.radio.restore(sim.world.radio_gateway(asset), at)


def _of_devices(do: Callable[[Simulation, str, float, Given], None]) -> Do:
    """For every device of the asset."""

    def act(sim: Simulation, asset: str, at: float, given: Given) -> None:
        for device in sim.devices_of(asset):
            do(sim, device.device, at, given)

    return act


@_of_devices
def _silent(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.cut(device, at)


@_of_devices
def _heard_again(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.restore(device, at)


@_of_devices
def _weak(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.lose(device, _number(given, "lost"))


@_of_devices
def _strong(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.lose(device, 0.0)


@_of_devices
def _skew(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.skew(device, _number(given, "seconds"), at, _number(given, "drift_ppm"))


@_of_devices
def _factory(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.factory_time(device, at)


@_of_devices
def _stuck_clock(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.stick(device, at)


@_of_devices
def _right_time(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.world.radio.set_right(device)


def _sensor(fault: Fault) -> Do:
    @_of_devices
    def breaks(sim: Simulation, device: str, at: float, given: Given) -> None:
        size = given.get("size", 0.0)
        assert not isinstance(size, (str, bool))
        sim.sensors.breaks(device, fault, at, size)

    return breaks


@_of_devices
def _sensor_mended(sim: Simulation, device: str, at: float, given: Given) -> None:
    sim.sensors.is_mended(device)


def _nonsense(sim: Simulation, asset: str, at: float, given: Given) -> None:
    what = given["what"]
    if what not in NONSENSE:
        raise ValueError(f"there is no nonsense {what!r}: {', '.join(NONSENSE)}")
    for device in sim.devices_of(asset):
        if not device.is_modbus and not device.is_hj212:
            sim.utter(device.device, at, str(what))


def _duplicates(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.radio.duplicate(_number(given, "share"))


def _no_duplicates(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.radio.duplicate(0.0)


def _late(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.radio.delay(_number(given, "share"))


def _in_time(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.radio.delay(0.0)


def _remember(sim: Simulation, asset: str, at: float, given: Given) -> None:
    kind, memory = str(given["kind"]), Memory(round(_number(given, "messages")), 0.5, mark=sim.voices.as_history)
    sim.world.radio.remember([device.device for device in sim.speakers_of(kind)], memory)


def _broker_away(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.broker_is_away(True, at)


def _broker_back(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.broker_is_away(False, at)


def _stranger(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.stranger(at)


# -- utilities --------------------------------------------------------------------------------------------------------


def _gas_leaks(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.utilities.gas[asset].leaks(at, _number(given, "m3_h"))


def _gas_tight(sim: Simulation, asset: str, at: float, given: Given) -> None:
    chamber = sim.world.utilities.gas[asset]
    chamber.leak_stopped(at)
    chamber.ventilated(at, 20.0)


def _heat_fails(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.utilities.heat[asset].heat_fails(at, _number(given, "lack"))


def _heat_back(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.utilities.heat[asset].heat_back(at)


def _dust(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.utilities.sites[asset].dust_burst(at, _number(given, "pm10"))


def _dust_settles(sim: Simulation, asset: str, at: float, given: Given) -> None:
    sim.world.utilities.sites[asset].dust_settles(at)


def _night_work(sim: Simulation, asset: str, at: float, given: Given) -> None:
    until = at + 60 * _number(given, "minutes")
    sim.world.utilities.sites[asset].loud_night_work(at, until, _number(given, "db"))


def _bursts(sim: Simulation, asset: str, at: float, given: Given) -> None:
    """The whole pressure is lost here, half of it at the points of the same network."""
    points = sim.world.utilities.water
    points[asset].burst(at, _number(given, "kpa"))
    for other in sim.neighbours(asset, "network"):
        points[other].burst(at, _number(given, "kpa") / 2)


def _burst_closed(sim: Simulation, asset: str, at: float, given: Given) -> None:
    for point in (asset, *sim.neighbours(asset, "network")):
        sim.world.utilities.water[point].burst_closed(at)


_frozen, _thawed = _station("frozen", True, False)
_no_mains, _mains = _station("mains", False, True)
_level_failed, _level_ok = _station("level_sensor", "failed", "ok")
_level_stuck, _ = _station("level_sensor", "stuck", "ok")
_restarts, _restarted = _station("just_restarted", True, False)

ACTS: Mapping[str, Act] = {
    act.name: act
    for act in (
        _act("lamp-fails", "lamp", "灯具损坏", "a lamp fails", _lamp("breaks"), _lamp("is_mended")),
        _act("lamp-burns-by-day", "lamp", "白天亮灯", "a lamp burns by day", _lamp("burns_by_day"), _lamp("is_mended")),
        _act("lamp-cycles", "lamp", "灯具闪灭", "a lamp cycles", _lamp("cycles"), _lamp("is_mended")),
        _act("feeder-loses-mains", "feeder", "照明回路失电", "a lighting circuit loses its supply",
             _feeder("loses_mains"), _feeder("has_mains_back"), speaks=True, reaches=("feeder",)),
        _act("contactor-sticks-open", "feeder", "接触器拒合", "a contactor sticks open",
             _feeder("contactor_sticks", closed=False), _feeder("contactor_works"), reaches=("feeder",)),
        _act("contactor-sticks-closed", "feeder", "接触器粘连", "a contactor sticks closed",
             _feeder("contactor_sticks", closed=True), _feeder("contactor_works"), reaches=("feeder",)),
        _act("switched-by-hand", "feeder", "手动开灯", "a circuit is switched on by hand",
             _feeder("by_hand", on=True), _feeder("by_plan"), reaches=("feeder",)),
        _act("insulation-fails", "feeder", "电缆绝缘受潮", "a cable's insulation fails in the wet", _insulation,
             _feeder("insulation_mended"), wet_ma=180.0),
        _act("earth-fault", "feeder", "回路漏电", "a circuit leaks to earth", _earth_fault,
             _feeder("insulation_mended"), ma=150.0),
        _act("voltage-shifts", "feeder", "电压偏移", "the supply voltage shifts", _voltage,
             lambda sim, asset, at, given: sim.world.lighting.feeders[asset].supply_shifts(at, 0.0, 0.0, 0.0),
             reaches=("feeder",), a=12.0, b=12.0, c=12.0),
        _act("cabinet-opened", "feeder", "控制箱门打开", "a cabinet's door is opened", _feeder("door", is_open=True),
             _feeder("door", is_open=False), speaks=True),
        _act("cover-opened", "manhole", "井盖被掀开", "a cover is opened", _opened, _closed, speaks=True, degrees=70.0),
        _act("cover-stolen", "manhole", "井盖被盗", "a cover is stolen", _stolen, _closed, speaks=True),
        _act("cover-tilted", "manhole", "井盖倾斜", "a cover tilts", _opened, _closed, speaks=True, degrees=22.0),
        _act("cover-shifted", "manhole", "井盖移位", "a cover is shifted", _shifted, _closed, speaks=True, degrees=9.0),
        _act("cover-shaken", "manhole", "车辆碾压", "traffic shakes a cover", _shaken, degrees=25.0),
        _act("battery-low", "manhole", "电池电量低", "a cover's battery is low", _battery, _new_battery, percent=15.0),
        _act("pump-refuses", "pump", "水泵拒动", "pumps do not start when told", _pumps("refuses", True),
             _pumps("refuses", False), reaches=("station",), pump=0.0),
        _act("pump-faults", "pump", "水泵故障", "pumps trip", _pumps("fault", True), _pumps("fault", False),
             reaches=("station",), pump=0.0),
        _act("pump-clogged", "pump", "叶轮堵塞", "rags clog an impeller", _pumps("blocked", True),
             _pumps("blocked", False), reaches=("station",), pump=1.0),
        _act("pump-by-hand", "pump", "水泵转手动", "pumps are set to manual", _pumps("auto", False),
             _pumps("auto", True), reaches=("station",), pump=0.0),
        _act("station-loses-mains", "pump", "泵站停电", "a station loses its mains", _no_mains, _mains,
             reaches=("station",)),
        _act("station-answers-late", "pump bridge cabinet", "PLC 响应迟缓", "a controller answers late or never",
             _answers_late, _answers_again, after_s=math.inf),
        _act("plc-frozen", "pump", "PLC 程序停滞", "a PLC's program stands still", _frozen, _thawed),
        _act("plc-restarts", "pump", "PLC 重启", "a PLC restarts with empty registers", _restarts, _restarted),
        _act("level-sensor-fails", "pump", "液位计失效", "a wet well's gauge fails", _level_failed, _level_ok,
             reaches=("station",)),
        _act("level-sensor-sticks", "pump", "液位计卡滞", "a wet well's gauge sticks", _level_stuck, _level_ok,
             reaches=("station",)),
        _act("drain-blocked", "pipe", "管道堵塞", "a drain is blocked", _blocked, _cleaned, share=0.9),
        _act("water-on-road", "road", "路面积水", "water stands on a road", _poured, _ran_off, cm=18.0),
        _act("overload", "bridge", "超载车辆过桥", "an overloaded truck crosses", _overload,
             trucks=1.0, times_limit=1.6, gap_s=4.0),
        _act("strain-drifts", "bridge", "应变漂移", "a bridge's strain drifts", _strain_drift,
             _bridge("strain_reset"), ue_per_h=20.0),
        _act("strain-jumps", "bridge", "应变突变", "a bridge's strain jumps", _strain_jump, _bridge("strain_reset"),
             ue=140.0),
        _act("gauge-loosens", "bridge", "应变计松脱", "a strain gauge comes loose", _bridge("sensor_loosens"),
             _bridge("sensor_fixed")),
        _act("network-cut", "network", "物联网网关中断", "a radio gateway is cut off", _network_cut, _network_back,
             reaches=("network",)),
        _act("device-silent", ANY, "设备离线", "a device falls silent", _silent, _heard_again),
        _act("device-weak", ANY, "信号差", "a device's messages are lost", _weak, _strong, lost=0.5),
        _act("clock-wrong", ANY, "设备时钟偏差", "a device's clock is wrong", _skew, _right_time,
             seconds=1800.0, drift_ppm=0.0),
        _act("clock-factory", ANY, "设备时钟复位", "a device's clock falls back to 2000", _factory, _right_time),
        _act("clock-stuck", ANY, "设备时钟停走", "a device's clock stands still", _stuck_clock, _right_time),
        *(
            _act(f"sensor-{fault}", ANY, zh, en, _sensor(fault), _sensor_mended, size=size)
            for fault, zh, en, size in (
                (Fault.STICKS, "传感器卡滞", "a sensor sticks", 0.0),
                (Fault.DRIFTS, "传感器漂移", "a sensor drifts", 0.1),
                (Fault.SPIKES, "传感器跳变", "a sensor spikes", 3.0),
                (Fault.OUT_OF_RANGE, "传感器超量程", "a sensor goes out of range", 0.0),
                (Fault.NOISY, "传感器噪声大", "a sensor is noisy", 0.02),
            )
        ),
        _act("nonsense", ANY, "设备乱报", "a device talks nonsense", _nonsense, what="nan"),
        _act("messages-twice", CITY, "消息重复", "messages arrive twice", _duplicates, _no_duplicates, share=0.2),
        _act("messages-late", CITY, "消息迟到", "messages arrive late", _late, _in_time, share=0.1),
        _act("devices-remember", CITY, "设备缓存补报", "devices keep what nobody hears", _remember, kind="pipe",
             messages=500.0),
        _act("broker-away", CITY, "消息服务器重启", "the broker is away", _broker_away, _broker_back),
        _act("stranger-speaks", CITY, "未登记设备发送数据", "an unknown device speaks", _stranger),
        _act("gas-leaks", "gas", "燃气泄漏", "gas leaks into a chamber", _gas_leaks, _gas_tight, m3_h=0.4),
        _act("heating-fails", "heat", "供热不足", "a heating station gives too little", _heat_fails, _heat_back,
             lack=0.6),
        _act("dust-blows", "site", "工地扬尘", "dust blows from a site", _dust, _dust_settles, pm10=320.0),
        _act("works-at-night", "site", "夜间施工噪声", "a site works at night", _night_work, minutes=90.0, db=70.0),
        _act("main-bursts", "water", "供水管爆裂", "a water main bursts", _bursts, _burst_closed,
             reaches=("network",), kpa=130.0),
    )
}  # fmt: skip
