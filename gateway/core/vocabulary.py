"""The canonical points of every kind of asset and their units: what profiles map to and rules speak of.

``N`` in a name stands for a pump or channel number (``p1_current``). Units are fixed here; conversion happens at the
door, in the profile. ``""`` = no unit (booleans, counts, codes).
"""

from __future__ import annotations

import re
from functools import cache

CLOCK_SKEW = "clock_skew"  # how far a device's clock is from ours: found by the gateway, for assets a rule asks it of

COMMON: dict[str, str] = {
    CLOCK_SKEW: "s",
    "battery": "%",
    "battery_voltage": "V",
    "rssi": "dBm",
    "snr": "dB",
    "device_fault": "",
}

POINTS: dict[str, dict[str, str]] = {
    "lamp": {
        "on": "", "cmd_on": "", "dim": "%", "power": "W", "energy": "kWh", "voltage": "V", "current": "A", "pf": "",
        "temp": "°C", "burn_hours": "h", "fault": "",
    },
    "feeder": {
        "voltage_a": "V", "voltage_b": "V", "voltage_c": "V", "current_a": "A", "current_b": "A", "current_c": "A",
        "power": "kW", "energy": "kWh", "pf": "", "frequency": "Hz", "leak": "mA", "contactor": "", "cmd_on": "",
        "mains": "", "door_open": "",
    },
    "manhole": {
        "tilt": "deg", "angle_x": "deg", "angle_y": "deg", "angle_z": "deg", "cover": "", "water": "", "level": "m",
        "freeboard": "m", "ch4": "%LEL", "temp": "°C", "shock": "",
    },
    "pipe": {"level": "m", "fill": "%", "freeboard": "m", "flow": "m³/h", "velocity": "m/s", "temp": "°C"},
    "road": {"depth": "cm"},
    "rain": {
        "rain": "mm", "intensity": "mm/h", "rain_1h": "mm", "rain_3h": "mm", "rain_6h": "mm", "rain_12h": "mm",
        "total": "mm", "rain_30m": "mm", "rain_2h": "mm", "storm_notice": "",
    },
    "pump": {
        "wetwell": "m", "wetwell_2": "m", "outfall": "m", "pN_run": "", "pN_fault": "", "pN_auto": "",
        "pN_current": "A", "pN_freq": "Hz", "pN_power": "kW", "pN_hours": "h", "pN_starts": "", "pN_code": "",
        "flow": "m³/h", "pressure": "kPa", "mains": "", "life": "",
    },
    "bridge": {
        "gvw": "t", "axle_loads": "t", "speed": "km/h", "lane": "", "strain": "µε", "strain_mean": "µε",
        "deflection": "mm", "tilt": "deg", "crack": "mm", "accel_rms": "m/s²", "temp": "°C", "wind": "m/s",
        "load_overflow": "", "load_unstable": "", "load_overload": "", "load_zero": "",
        "inspection_age": "d",
    },
    "water": {"pressure": "kPa", "flow": "m³/h", "total": "m³", "velocity": "m/s"},
    "gas": {"gas": "%LEL", "pressure": "kPa", "flow": "m³/h", "valve": "", "alarm": ""},
    "heat": {
        "supply_temp": "°C", "return_temp": "°C", "room_temp": "°C", "flow": "m³/h", "pressure": "kPa", "total": "m³",
        "velocity": "m/s",
    },
    "site": {
        "pm1": "µg/m³", "pm25": "µg/m³", "pm10": "µg/m³", "tsp": "µg/m³", "laeq": "dB(A)", "lmax": "dB(A)",
        "wind": "m/s", "wind_direction": "deg", "temp": "°C", "rh": "%", "pressure": "kPa",
    },
    "parking": {"occupied": "", "since": "", "free": ""},
}  # fmt: skip

POINTS["cabinet"] = POINTS["feeder"]  # a cabinet may serve several feeders; it measures the same things

KINDS: tuple[str, ...] = tuple(POINTS)

# What the gateway says about itself: readings of the one asset of kind "gateway", which no file may name.
GATEWAY_POINTS: dict[str, str] = {
    "journal_failed": "", "disk_full": "", "disk_used": "%", "queue_used": "%", "broker_lost": "", "notify_failed": "",
    "clock_step": "", "clock_uncertain": "", "crash_quarantine": "", "config_rejected": "",
    "new_alarms_10m": "", "notify_failed_minor": "", "canary": "", "canary_lost": "",
}  # fmt: skip

_NUMBERED = re.compile(r"^p\d{1,2}_")


def points_of(kind: str) -> dict[str, str]:
    """Points and units of ``kind``, without those common to all kinds; {} for a kind that measures nothing."""
    return GATEWAY_POINTS if kind == "gateway" else POINTS.get(kind, {})


@cache
def unit_of(kind: str, point: str) -> str | None:
    """Canonical unit of ``point`` on an asset of ``kind``; None when the vocabulary does not know the point."""
    points = points_of(kind)
    for name in (point, _NUMBERED.sub("pN_", point)):
        if name in points:
            return points[name]
    return COMMON.get(point)
