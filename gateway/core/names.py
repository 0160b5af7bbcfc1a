"""What people call the kinds, points, attributes and links of the vocabulary, in Chinese and English.

English names of points and attributes go after "the": the water depth, the rated power.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Pair: TypeAlias = tuple[str, str]  # Chinese, English

KIND_NAMES: dict[str, Pair] = {
    "lamp": ("路灯", "lamps"),
    "feeder": ("照明回路", "lighting circuits"),
    "cabinet": ("照明控制箱", "lighting cabinets"),
    "manhole": ("井盖", "manhole covers"),
    "pipe": ("排水管道", "drain pipes"),
    "road": ("道路积水点", "roads"),
    "rain": ("雨量站", "rain gauges"),
    "pump": ("泵站", "pump stations"),
    "bridge": ("桥梁", "bridges"),
    "water": ("供水监测点", "drinking-water sensors"),
    "gas": ("燃气监测点", "gas detectors"),
    "heat": ("供热监测点", "heating sensors"),
    "site": ("工地监测站", "building sites"),
    "parking": ("停车设施", "parking places"),
    "network": ("通信网络", "networks"),
    "catchment": ("汇水区", "catchments"),
    "area": ("片区", "areas"),
    "gateway": ("网关", "the gateway"),
}

# The asset that a link names: as somebody's own ("its circuit"), and as what several have in common.
LINK_NAMES: dict[str, tuple[Pair, Pair]] = {
    "feeder": (("所属回路", "its circuit"), ("回路", "circuit")),
    "network": (("所属网络", "its network"), ("网络", "network")),
    "catchment": (("所属汇水区", "its catchment"), ("汇水区", "catchment")),
    "station": (("所属泵站", "its station"), ("泵站", "station")),
    "area": (("所属片区", "its area"), ("片区", "area")),
    "before": (("前一盏", "the one before it"), ("前一盏", "neighbour before")),
    "after": (("后一盏", "the one after it"), ("后一盏", "neighbour after")),
}

# By kind where one name means different things, else by name alone.
OF_KIND: dict[str, dict[str, Pair]] = {
    "lamp": {"fault": ("故障码", "fault code"), "temp": ("灯具温度", "lamp temperature")},
    "manhole": {
        "level": ("井内水位", "water level in the well"),
        "freeboard": ("水面至井口距离", "distance from water to cover"),
        "tilt": ("倾斜角", "tilt"),
        "temp": ("井内温度", "temperature in the well"),
    },
    "pipe": {
        "level": ("管道水位", "water level in the pipe"),
        "freeboard": ("水面至地面距离", "distance from water to ground"),
    },
    "bridge": {"temp": ("结构温度", "structure temperature"), "tilt": ("桥墩倾角", "tilt of the pier")},
    "rain": {"total": ("累计雨量", "rain total")},
    "site": {"pressure": ("气压", "air pressure"), "temp": ("气温", "air temperature")},
    "water": {"pressure": ("供水压力", "water pressure")},
    "gas": {"pressure": ("燃气压力", "gas pressure")},
    "heat": {"pressure": ("供热压力", "heating pressure")},
}

POINT_NAMES: dict[str, Pair] = {
    "clock_skew": ("设备时钟偏差", "error of the device's clock"),
    "battery": ("电池电量", "battery charge"),
    "battery_voltage": ("电池电压", "battery voltage"),
    "rssi": ("信号强度", "signal strength"),
    "snr": ("信噪比", "signal-to-noise ratio"),
    "device_fault": ("设备故障", "device fault"),
    "on": ("亮灯状态", "lamp state (lit or dark)"),
    "cmd_on": ("开灯指令", "command to be on"),
    "dim": ("调光值", "dimming level"),
    "power": ("功率", "power"),
    "energy": ("电量", "energy"),
    "voltage": ("电压", "voltage"),
    "current": ("电流", "current"),
    "pf": ("功率因数", "power factor"),
    "temp": ("温度", "temperature"),
    "burn_hours": ("累计亮灯时间", "burning hours"),
    "fault": ("故障", "fault"),
    "voltage_a": ("A 相电压", "voltage of phase A"),
    "voltage_b": ("B 相电压", "voltage of phase B"),
    "voltage_c": ("C 相电压", "voltage of phase C"),
    "current_a": ("A 相电流", "current of phase A"),
    "current_b": ("B 相电流", "current of phase B"),
    "current_c": ("C 相电流", "current of phase C"),
    "frequency": ("频率", "frequency"),
    "leak": ("漏电电流", "leakage current"),
    "contactor": ("接触器", "contactor"),
    "mains": ("市电", "mains supply"),
    "door_open": ("箱门", "door"),
    "tilt": ("倾角", "tilt"),
    "angle_x": ("X 轴角度", "angle of the X axis"),
    "angle_y": ("Y 轴角度", "angle of the Y axis"),
    "angle_z": ("Z 轴角度", "angle of the Z axis"),
    "cover": ("井盖状态", "cover"),
    "water": ("井内积水", "water in the well"),
    "level": ("水位", "water level"),
    "freeboard": ("超高", "freeboard"),
    "ch4": ("甲烷浓度", "methane concentration"),
    "shock": ("冲击", "shock"),
    "fill": ("充满度", "filling"),
    "flow": ("流量", "flow"),
    "velocity": ("流速", "velocity"),
    "depth": ("积水深度", "water depth"),
    "rain": ("雨量", "rain"),
    "intensity": ("雨强", "rain intensity"),
    "rain_30m": ("30 分钟雨量", "rain of 30 min"),
    "rain_1h": ("1 小时雨量", "rain of 1 h"),
    "rain_2h": ("2 小时雨量", "rain of 2 h"),
    "rain_3h": ("3 小时雨量", "rain of 3 h"),
    "rain_6h": ("6 小时雨量", "rain of 6 h"),
    "rain_12h": ("12 小时雨量", "rain of 12 h"),
    "total": ("累计流量", "total flow"),
    "storm_notice": ("暴雨通知", "storm notice"),
    "wetwell": ("集水池水位", "wet-well level"),
    "wetwell_2": ("集水池第二液位计水位", "wet-well level of the second gauge"),
    "outfall": ("出水口水位", "outfall level"),
    "pN_run": ("运行状态", "running state"),
    "pN_fault": ("故障信号", "fault signal"),
    "pN_auto": ("自动状态", "automatic mode"),
    "pN_current": ("电机电流", "motor current"),
    "pN_freq": ("变频器频率", "drive frequency"),
    "pN_power": ("电机功率", "motor power"),
    "pN_hours": ("运行时间", "running hours"),
    "pN_starts": ("启动次数", "number of starts"),
    "pN_code": ("故障码", "fault code"),
    "pressure": ("压力", "pressure"),
    "life": ("心跳计数", "life counter"),
    "gvw": ("车辆总重", "gross vehicle weight"),
    "axle_loads": ("轴重", "axle loads"),
    "speed": ("车速", "speed"),
    "lane": ("车道", "lane"),
    "strain": ("应变", "strain"),
    "strain_mean": ("应变均值（已去温度影响）", "mean strain (without what temperature does)"),
    "deflection": ("挠度", "deflection"),
    "crack": ("裂缝宽度", "crack width"),
    "accel_rms": ("振动加速度均方根", "vibration (RMS acceleration)"),
    "wind": ("风速", "wind speed"),
    "load_overflow": ("称重超量程", "load cell overflow"),
    "load_unstable": ("称重不稳定", "load cell unsteadiness"),
    "load_overload": ("称重过载", "load cell overload"),
    "load_zero": ("称重零点", "load cell zero"),
    "inspection_age": ("距上次检测时间", "time since the last inspection"),
    "gas": ("燃气浓度", "gas concentration"),
    "valve": ("阀门", "valve"),
    "alarm": ("探测器报警", "detector alarm"),
    "supply_temp": ("供水温度", "supply temperature"),
    "return_temp": ("回水温度", "return temperature"),
    "room_temp": ("室内温度", "room temperature"),
    "pm1": ("PM1 浓度", "PM1 concentration"),
    "pm25": ("PM2.5 浓度", "PM2.5 concentration"),
    "pm10": ("PM10 浓度", "PM10 concentration"),
    "tsp": ("总悬浮颗粒物浓度", "concentration of suspended particles"),
    "laeq": ("等效声级", "equivalent sound level"),
    "lmax": ("最大声级", "maximum sound level"),
    "wind_direction": ("风向", "wind direction"),
    "rh": ("相对湿度", "relative humidity"),
    "occupied": ("车位占用", "occupancy"),
    "since": ("占用起始时间", "time of arrival"),
    "free": ("空余车位", "number of free places"),
    "journal_failed": ("写盘失败", "journal failure"),
    "disk_full": ("磁盘已满", "full disk"),
    "disk_used": ("磁盘使用率", "disk use"),
    "queue_used": ("接收队列使用率", "use of the intake queue"),
    "broker_lost": ("消息服务器断开", "loss of the broker"),
    "notify_failed": ("重要通知发送失败", "failure of a notification of level I or II"),
    "notify_failed_minor": ("一般通知发送失败", "failure of a notification of level III or IV"),
    "canary": ("通道测试编号", "number of the path test"),
    "canary_lost": ("通道测试未送达", "loss of the path test"),
    "clock_step": ("时钟跳变", "step of the clock"),
    "clock_uncertain": ("时钟不可信", "doubt about the clock"),
    "crash_quarantine": ("报文隔离", "quarantine of a frame"),
    "config_rejected": ("配置未生效", "rejection of the configuration"),
    "new_alarms_10m": ("10 分钟新增报警数", "number of new alarms in 10 min"),
}

# A state as a whole clause.
STATES: dict[str, dict[str | float | bool, Pair]] = {
    "on": {True: ("灯亮", "the lamp is lit"), False: ("灯灭", "the lamp is dark")},
    "cmd_on": {True: ("指令为开灯", "it is commanded on"), False: ("指令为关灯", "it is commanded off")},
    "contactor": {
        True: ("接触器吸合", "the contactor is closed"),
        False: ("接触器断开", "the contactor is open"),
    },
    "mains": {True: ("市电正常", "the mains supply is there"), False: ("市电失电", "the mains supply is lost")},
    "door_open": {True: ("箱门打开", "the door is open"), False: ("箱门关闭", "the door is closed")},
    "cover": {
        "open": ("井盖打开", "the cover is open"),
        "missing": ("井盖丢失", "the cover is missing"),
        "closed": ("井盖关闭", "the cover is closed"),
    },
    "water": {True: ("井内有水", "there is water in the well"), False: ("井内无水", "the well is dry")},
    "shock": {True: ("受到冲击", "the sensor reports a shock"), False: ("无冲击", "the sensor reports no shock")},
    "storm_notice": {
        True: ("有暴雨通知", "a storm notice is given"),
        False: ("无暴雨通知", "no storm notice is given"),
    },
    "pN_run": {True: ("水泵运行", "the pump runs"), False: ("水泵停止", "the pump stands still")},
    "pN_fault": {True: ("水泵故障", "the pump reports a fault"), False: ("水泵无故障", "the pump reports no fault")},
    "pN_auto": {
        True: ("水泵处于自动", "the pump is in automatic"),
        False: ("水泵不在自动", "the pump is not in automatic"),
    },
    "load_overflow": {True: ("称重超量程", "the load cell is beyond its range")},
    "load_unstable": {True: ("称重不稳定", "the load cell is unsteady")},
    "load_overload": {True: ("称重过载", "the load cell is overloaded")},
    "device_fault": {True: ("设备自报故障", "the device reports a fault")},
    "occupied": {True: ("车位占用", "the place is taken"), False: ("车位空闲", "the place is free")},
    "journal_failed": {True: ("网关写盘失败", "the gateway could not write to its journal")},
    "disk_full": {True: ("网关磁盘已满", "the gateway's disk is full")},
    "broker_lost": {True: ("与消息服务器断开", "the connection to the broker is lost")},
    "notify_failed": {True: ("有重要通知发送失败", "a notification of level I or II could not be delivered")},
    "notify_failed_minor": {True: ("有一般通知发送失败", "a notification of level III or IV could not be delivered")},
    "canary_lost": {True: ("通道测试未送达", "the path test did not arrive")},
    "clock_step": {True: ("网关时钟跳变", "the gateway's clock was stepped")},
    "clock_uncertain": {True: ("网关时钟不可信", "the gateway's clock is not believed")},
    "crash_quarantine": {True: ("有报文被隔离", "a frame is in quarantine")},
    "config_rejected": {True: ("新配置有误，未生效", "a changed configuration was not taken over")},
}

ATTRIBUTE_NAMES: dict[str, Pair] = {
    "rated_power": ("额定功率", "rated power"),
    "rated_current": ("额定电流", "rated current"),
    "rated_voltage": ("额定电压", "rated voltage"),
    "rated_flow": ("额定流量", "rated flow"),
    "ground": ("地面高程", "ground level"),
    "diameter": ("管径", "diameter"),
    "start_level": ("启泵水位", "start level"),
    "stop_level": ("停泵水位", "stop level"),
    "posted_limit": ("限载", "posted weight limit"),
    "design_strain": ("设计应变", "design strain"),
    "design_deflection": ("设计挠度", "design deflection"),
    "design_angle": ("允许倾角", "allowed tilt"),
    "tilt_limit": ("倾角限值", "tilt limit"),
    "leak_limit": ("漏电限值", "leakage limit"),
    "lit_share_min": ("亮灯率下限", "least share of lit lamps"),
    "plan_temp": ("计划供水温度", "planned supply temperature"),
    "min_flow": ("最小流量", "least flow"),
    "zero_drift_weight": ("零点漂移限值", "limit of zero drift"),
    "inspection_interval": ("检测周期", "inspection interval"),
    "design_rain_30": ("30 分钟设计雨量", "design rain of 30 min"),
    "design_rain_60": ("60 分钟设计雨量", "design rain of 60 min"),
    "design_rain_120": ("120 分钟设计雨量", "design rain of 120 min"),
    **{f"L{n}": (f"L{n} 水位", f"L{n} level") for n in range(1, 7)},
}

_PUMP = re.compile(r"^p(\d{1,2})_")


def kind_name(kind: str) -> Pair:
    """A kind the vocabulary does not know is called by its id."""
    return KIND_NAMES.get(kind, (kind, kind))


def point_name(kind: str, point: str) -> Pair:
    """``p2_current`` is 2 号泵电机电流, the motor current of pump 2."""
    numbered = _PUMP.match(point)
    plain = _PUMP.sub("pN_", point)
    zh, en = OF_KIND.get(kind, {}).get(plain) or POINT_NAMES.get(plain, (point, point))
    if numbered is None:
        return zh, en
    return f"{numbered[1]} 号泵{zh}", f"{en} of pump {numbered[1]}"


def attribute_name(name: str) -> Pair:
    """An attribute of the site's own is called by its id."""
    return ATTRIBUTE_NAMES.get(name, (f"属性 {name}", f"attribute {name}"))


def link_name(link: str) -> Pair:
    """The asset a link names, as seen from the asset that has the link."""
    return LINK_NAMES[link][0] if link in LINK_NAMES else (f"所属 {link}", f"its {link}")


def common_name(link: str) -> Pair:
    """The same, as what several assets have in common."""
    return LINK_NAMES[link][1] if link in LINK_NAMES else (link, link)
