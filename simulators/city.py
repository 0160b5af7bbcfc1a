"""The simulated county: which assets stand where, and which device is mounted on each.

Names of roads, towns and the place come from the county the project was asked for (Liangshan); every figure is
invented. One number gives the size, from 500 assets to 50,000; the same ``seed`` and size give the same city, to the
last decimal.

=============== ============================ =====================================================================
kind            share of all                 device
=============== ============================ =====================================================================
lamp            the rest, about 65 %         single-lamp controller, JSON
feeder          one for 35 lamps             cabinet controller, JSON; the first cabinet has a Modbus meter
manhole         18 %                         JSON; every tenth a LoRaWAN tilt sensor (Milesight EM320-TILT)
pipe, road      4.5 %, 1.6 %                 level gauges, JSON; every fifth pipe LoRaWAN (Milesight EM500-SWL)
rain            one for 125, 4 to 40         tipping bucket, JSON
pump            one for 125, 4 to 40         PLC with three pumps, Modbus TCP
bridge          one for 250, 2 to 40         monitoring unit, JSON; the second also has a weighing pad, Modbus TCP
water, gas,     2 %, 1 %, 0.8 %, 2 %         JSON
heat, parking
site            one for 250, 2 to 40         dust and noise station, JSON; every other one HJ 212 over TCP
network         one for 250, 2 to 40         none: the radio gateway that others' messages come through
area            1                            none: the county, whose share of lit lamps is watched
=============== ============================ =====================================================================

Above some 1,400 lamps the seven roads are full, and lanes branch off them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

Attribute = str | float | bool

CENTRE = (116.10, 35.80)  # longitude, latitude
KM_LON, KM_LAT = 1 / 90.2, 1 / 111.2  # degrees a kilometre, at this latitude

SMALLEST, LARGEST = 120, 50_000
LAMP_SPACING_KM = 0.035  # on both sides of a road
LAMPS_A_FEEDER = 35
LANE_KM = 0.8
MODBUS_UNIT = 1
MODBUS_PROFILES = frozenset({"generic/pump-station-3p", "eastron/sdm630", "generic/load-cell"})
LORAWAN_PROFILES = frozenset({"milesight/em320-tilt", "milesight/em500-swl"})
HJ212_PROFILE = "generic/hj212-dust"

UNITS = {
    "lighting": "县照明管理所",
    "drainage": "县排水管理处",
    "municipal": "县市政养护中心",
    "bridge": "县桥梁管理所",
    "water": "县供水公司",
    "gas": "县燃气公司",
    "heat": "县热力公司",
    "parking": "县停车管理中心",
    "site": "县综合执法局",
}

# How often a device of each kind speaks of its own accord, in seconds: as in the field, and fast for those who watch.
FIELD_INTERVALS: Mapping[str, int] = {
    "lamp": 900, "feeder": 60, "cabinet": 15, "manhole": 12 * 3600, "pipe": 300, "road": 300, "rain": 300, "pump": 5,
    "bridge": 60, "pad": 5, "water": 300, "gas": 300, "heat": 600, "parking": 600, "site": 60,
}  # fmt: skip
DEMO_INTERVALS: Mapping[str, int] = {
    "lamp": 15, "feeder": 15, "cabinet": 5, "manhole": 60, "pipe": 10, "road": 10, "rain": 10, "pump": 5,
    "bridge": 60, "pad": 5, "water": 30, "gas": 30, "heat": 60, "parking": 60, "site": 30,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Road:
    """A straight road: where it begins, how it runs (kilometres east and north), its town and its class (main,
    secondary or branch)."""

    name: str
    town: str
    east_km: float
    north_km: float
    run_east_km: float
    run_north_km: float
    road_class: str = "secondary"

    @property
    def length_km(self) -> float:
        return math.hypot(self.run_east_km, self.run_north_km)

    @property
    def bearing(self) -> float:
        """Degrees from north, clockwise."""
        return math.degrees(math.atan2(self.run_east_km, self.run_north_km)) % 360

    def at(self, share: float, aside_km: float = 0.0) -> tuple[float, float]:
        """Longitude and latitude at ``share`` (0…1) of the road, ``aside_km`` to the left of it."""
        east, north = self.km(share, aside_km)
        return round(CENTRE[0] + east * KM_LON, 6), round(CENTRE[1] + north * KM_LAT, 6)

    def km(self, share: float, aside_km: float = 0.0) -> tuple[float, float]:
        """The same in kilometres east and north of the centre."""
        length = self.length_km
        east = self.east_km + share * self.run_east_km - aside_km * self.run_north_km / length
        return east, self.north_km + share * self.run_north_km + aside_km * self.run_east_km / length


ROADS = (
    Road("水泊大街", "水泊街道", -2.4, 0.2, 4.8, 0.0, "main"),
    Road("公明大道", "梁山街道", -0.3, -2.2, 0.0, 4.4, "main"),
    Road("水泊西路", "水泊街道", -2.2, 1.1, 1.9, 0.1),
    Road("水泊东路", "水泊街道", 0.3, 1.2, 2.1, -0.1),
    Road("忠义路", "梁山街道", -1.4, -1.8, 0.1, 3.4),
    Road("安民山路", "梁山街道", 0.9, -2.0, 0.2, 3.6),
    Road("青年路", "梁山街道", -2.0, -0.9, 4.2, 0.1),
)


@dataclass(frozen=True, slots=True)
class Asset:
    """A thing in the street, as the gateway's asset file wants it."""

    asset: str
    kind: str
    name: str
    road: str
    town: str
    unit: str
    longitude: float
    latitude: float
    links: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def number(self, attribute: str) -> float:
        """An attribute that is a number. Raises KeyError or TypeError when it is not."""
        value = self.attributes[attribute]
        if isinstance(value, (str, bool)):
            raise TypeError(f"{self.asset}: {attribute} is not a number")
        return value


@dataclass(frozen=True, slots=True)
class Device:
    """The electronics on an asset. ``address``: what it calls itself where that is not its id (DevEUI, MN); Modbus
    devices get theirs when the ports are known. ``interval_s``: how often it speaks or is polled."""

    device: str
    asset: str
    profile: str
    interval_s: int
    address: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def is_modbus(self) -> bool:
        return self.profile in MODBUS_PROFILES

    @property
    def is_lorawan(self) -> bool:
        return self.profile in LORAWAN_PROFILES

    @property
    def is_hj212(self) -> bool:
        return self.profile == HJ212_PROFILE


@dataclass(frozen=True)
class City:
    """All assets and devices, in a fixed order."""

    seed: int
    assets: tuple[Asset, ...]
    devices: tuple[Device, ...]
    roads: tuple[Road, ...] = ()

    def asset(self, asset_id: str) -> Asset:
        return self._by_id[asset_id]

    def of_kind(self, kind: str) -> list[Asset]:
        return [a for a in self.assets if a.kind == kind]

    @property
    def modbus_devices(self) -> list[str]:
        """In the order in which they get ports: base, base + 1, …"""
        return [device.device for device in self.devices if device.is_modbus]

    @functools.cached_property
    def _by_id(self) -> dict[str, Asset]:
        return {asset.asset: asset for asset in self.assets}


def build_city(seed: int = 1, assets: int = 500, intervals: Mapping[str, int] = FIELD_INTERVALS) -> City:
    """The city of ``seed`` with that many assets (at least SMALLEST, at most LARGEST).

    ``intervals``: seconds between two reports, by kind; what it does not name is as in the field.
    """
    size = min(LARGEST, max(SMALLEST, assets))
    builder = _Builder(random.Random(f"citywatch-city-{seed}"), size, {**FIELD_INTERVALS, **intervals})
    builder.build()
    return City(seed, tuple(builder.assets), tuple(builder.devices), tuple(builder.roads))


class _Builder:
    """Lays the city out, kind by kind; the order of calls is part of what a seed means."""

    def __init__(self, rng: random.Random, size: int, intervals: Mapping[str, int]) -> None:
        self.rng = rng
        self.size = size
        self.intervals = intervals
        self.assets: list[Asset] = []
        self.devices: list[Device] = []
        self.roads: list[Road] = list(ROADS)
        self._of_kind: dict[str, list[Asset]] = {}
        self._to_here: list[float] = []  # length of the roads up to and with each

    def build(self) -> None:
        size = self.size
        covers, pipes, roads = round(0.18 * size), round(0.045 * size), max(4, round(0.016 * size))
        stations, bridges = _between(4, size // 125, 40), _between(2, size // 250, 40)
        networks, rains = _between(2, size // 250, 40), _between(4, size // 125, 40)
        sites = _between(2, size // 250, 40)
        utilities = {"water": max(4, round(0.02 * size)), "gas": max(2, round(0.01 * size)),
                     "heat": max(2, round(0.008 * size)), "parking": max(2, round(0.02 * size))}  # fmt: skip
        others = covers + pipes + roads + stations + bridges + networks + rains + sites + sum(utilities.values()) + 2
        lamps = round((size - others) * LAMPS_A_FEEDER / (LAMPS_A_FEEDER + 1))
        self._pave(lamps)
        self._networks(networks)
        self._add("county", "area", "全县道路照明", ROADS[0], 0.5, 0.0, "lighting", attributes={"lit_share_min": 98})
        self._pumps(stations)
        self._pipes(pipes)
        self._low_points(roads)
        self._rain_gauges(rains)
        self._covers(covers)
        self._bridges(bridges)
        self._sites(sites)
        self._utilities(utilities)
        self._lighting(size - len(self.assets) - 1)

    def _pave(self, lamps: int) -> None:
        """Lanes off the seven roads, until there is room for all lamps."""
        room = sum(road.length_km for road in self.roads) * 2 / LAMP_SPACING_KM
        number = 0
        while room < lamps:
            parent, along = ROADS[number % 7], (number // 14 % 19 + 0.5) / 19
            side, ring = (1 if number // 7 % 2 else -1), number // 266
            start_east, start_north = parent.km(along, side * (0.03 + ring * (LANE_KM + 0.05)))
            east, north = -parent.run_north_km / parent.length_km, parent.run_east_km / parent.length_km
            self.roads.append(
                Road(f"{parent.name}{number // 7 + 1}巷", parent.town, start_east, start_north, side * LANE_KM * east,
                     side * LANE_KM * north, "branch")
            )  # fmt: skip
            room += LANE_KM * 2 / LAMP_SPACING_KM
            number += 1
        self._to_here = list(itertools.accumulate(road.length_km for road in self.roads))

    # -- one of each kind ---------------------------------------------------------------------------------------------

    def _add(
        self,
        asset: str,
        kind: str,
        name: str,
        road: Road,
        share: float,
        aside_km: float,
        unit: str,
        links: Mapping[str, str] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
    ) -> Asset:
        longitude, latitude = road.at(share, aside_km)
        all_attributes = {"road_class": road.road_class} | dict(attributes or {})
        self.assets.append(
            Asset(
                asset, kind, name, road.name, road.town, UNITS[unit], longitude, latitude, links or {}, all_attributes
            )
        )
        self._of_kind.setdefault(kind, []).append(self.assets[-1])
        return self.assets[-1]

    def _mount(self, device: str, asset: Asset, profile: str, address: str = "", interval: str = "") -> None:
        self.devices.append(Device(device, asset.asset, profile, self.intervals[interval or asset.kind], address))

    def _somewhere(self) -> tuple[Road, float]:
        """A place on some road, longer roads more often."""
        road = self.rng.choices(self.roads, cum_weights=self._to_here)[0]
        return road, self.rng.uniform(0.02, 0.98)

    def _nearest(self, kind: str, road: Road, share: float) -> str:
        longitude, latitude = road.at(share)
        return min(
            self._of_kind[kind],
            key=lambda a: ((a.longitude - longitude) / KM_LON) ** 2 + ((a.latitude - latitude) / KM_LAT) ** 2,
        ).asset

    def _network(self, road: Road, share: float) -> dict[str, str]:
        return {"network": self._nearest("network", road, share)}

    def _networks(self, count: int) -> None:
        for number in range(1, count + 1):
            road = self.roads[(number * 3 - 2) % len(self.roads)]
            self._add(f"net-{number:02d}", "network", f"{road.name}物联网网关 {number} 号", road,
                      (number * 0.37) % 0.9 + 0.05, 0.05, "municipal")  # fmt: skip

    def _lighting(self, room: int) -> None:
        """Feeders with their lamps in ``room`` assets; the cabinet with the meter of all is one more."""
        feeders = max(2, math.ceil(room / (LAMPS_A_FEEDER + 1)))
        lamps = room - feeders
        cabinet = self._add("CAB-01", "cabinet", "公明大道配电柜", ROADS[1], 0.5, 0.04, "lighting")
        self._mount("meter-01", cabinet, "eastron/sdm630")
        places = self._sections(feeders)
        number, on_road = 0, dict.fromkeys((road.name for road in self.roads), 0)
        for index, (road, begin, end) in enumerate(places):
            count = lamps * (index + 1) // feeders - lamps * index // feeders
            feeder = f"F{index + 1:02d}"
            network = self._network(road, begin)
            attributes: dict[str, Attribute] = {"rated_power": round(count * 120.0, 1)}
            name = f"{road.name} {index + 1} 号照明控制箱"
            cabinet = self._add(feeder, "feeder", name, road, begin, 0.03, "lighting", network, attributes)
            self._mount(f"fc-{index + 1:02d}", cabinet, "generic/json-feeder")
            for place in range(count):
                number += 1
                on_road[road.name] += 1
                links = {"feeder": feeder, "area": "county", **network}
                if place:
                    links["before"] = f"lamp-{number - 1:04d}"
                if place < count - 1:
                    links["after"] = f"lamp-{number + 1:04d}"
                lamp = self._add(
                    f"lamp-{number:04d}", "lamp", f"{road.name} {on_road[road.name]} 号灯", road,
                    begin + (end - begin) * (place + 0.5) / count, 0.012 if place % 2 else -0.012, "lighting", links,
                    {"rated_power": self.rng.choice((90.0, 120.0, 120.0, 150.0))},
                )  # fmt: skip
                self._mount(f"lc-{number:04d}", lamp, "generic/json-lamp")

    def _sections(self, feeders: int) -> list[tuple[Road, float, float]]:
        """So many sections of road, as even as the roads allow: (road, from, to)."""
        counts = dict.fromkeys(range(len(self.roads)), 1)
        for _ in range(feeders - len(self.roads)):
            longest = max(counts, key=lambda index: (self.roads[index].length_km / counts[index], -index))
            counts[longest] += 1
        return [
            (self.roads[index], part / count, (part + 1) / count)
            for index, count in counts.items()
            for part in range(count)
        ][:feeders]

    def _pumps(self, count: int) -> None:
        for number in range(1, count + 1):
            road = self.roads[(number - 1) * 3 % len(self.roads)]
            share = (0.06 + 0.29 * ((number - 1) // len(self.roads) + number)) % 0.9 + 0.05
            station = self._add(
                f"PS-{number:02d}", "pump", f"{road.name}雨水泵站 {number} 号", road, share, 0.08, "drainage",
                attributes={"L1": 0.6, "L2": 1.8, "L3": 2.2, "L4": 2.6, "L5": 3.0, "L6": 4.0, "ground": 6.0,
                            "start_level": 1.8, "stop_level": 0.8, "rated_current": 96.0, "pumps": 3,
                            "well_area": 120.0, "pump_flow": 0.7,
                            "catchment_area": round(self.rng.uniform(8.0, 12.0), 1), "imperviousness": 0.7},
            )  # fmt: skip
            self._mount(f"plc-{number:02d}", station, "generic/pump-station-3p")

    def _pipes(self, count: int) -> None:
        """Gauged wells on the drains, numbered station by station, the farthest from its station first: the order in
        which the water passes them."""
        stations = self._of_kind["pump"]
        of_station: dict[str, list[tuple[float, Road, float]]] = {station.asset: [] for station in stations}
        for index in range(count):
            # Every station has its share of gauges, at the places nearest to it of a few looked at.
            station = stations[index % len(stations)]
            looked_at = [(_km_between(station, road, share), road, share)
                         for road, share in (self._somewhere() for _ in range(6))]  # fmt: skip
            of_station[station.asset].append(min(looked_at, key=lambda place: place[0]))
        number = 0
        for station_id, places in of_station.items():
            for _, road, share in sorted(places, key=lambda place: -place[0]):
                number += 1
                diameter = self.rng.choice((0.6, 0.8, 1.0, 1.2))
                ground = round(diameter + self.rng.uniform(1.4, 2.4), 2)
                lorawan = number % 5 == 0
                attributes: dict[str, Attribute] = {"diameter": diameter, "ground": ground}
                if not lorawan:
                    attributes["mount_height"] = round(ground - 0.1, 2)
                links = {"station": station_id, "catchment": station_id, **self._network(road, share)}
                pipe = self._add(f"pipe-{number:02d}", "pipe", f"{road.name}雨水管 {number} 号井", road, share, 0.0,
                                 "drainage", links, attributes)  # fmt: skip
                if lorawan:
                    self._mount(f"lv-{number:02d}", pipe, "milesight/em500-swl", eui(f"lv-{number:02d}"))
                else:
                    self._mount(f"lv-{number:02d}", pipe, "generic/json-pipe")

    def _low_points(self, count: int) -> None:
        places = ("下穿铁路处", "路口", "学校门前", "菜市场前", "医院门前", "河桥东", "汽车站前", "广场北")
        pipes = self._of_kind["pipe"]
        for number in range(1, count + 1):
            pipe = pipes[(number * 5 - 3) % len(pipes)]
            road = next(road for road in self.roads if road.name == pipe.road)
            share = self.rng.uniform(0.1, 0.9)
            links = {"station": pipe.links["station"], "pipe": pipe.asset, **self._network(road, share)}
            name = f"{road.name}{places[(number - 1) % 8]}积水点"
            gauge = self._add(f"road-{number:02d}", "road", name, road, share, 0.0, "drainage", links)
            self._mount(f"wl-{number:02d}", gauge, "generic/json-road")

    def _rain_gauges(self, count: int) -> None:
        for number in range(1, count + 1):
            road = self.roads[(number * 2) % len(self.roads)]
            share = (number * 0.31) % 0.9 + 0.05
            gauge = self._add(f"rain-{number:02d}", "rain", f"{road.name}雨量站 {number} 号", road, share, 0.25,
                              "drainage", self._network(road, share))  # fmt: skip
            self._mount(f"rg-{number:02d}", gauge, "generic/json-rain")

    def _covers(self, count: int) -> None:
        uses = ("雨水井", "污水井", "上水井", "电力井")
        for number in range(1, count + 1):
            road, share = self._somewhere()
            camber, towards = round(self.rng.uniform(0.3, 5.0), 2), self.rng.uniform(0, 2 * math.pi)
            x, y, z = inclinations(camber, towards)
            lorawan = number % 10 == 0
            links = self._network(road, share)
            if number % 4 == 0:
                links["pipe"] = self._nearest("pipe", road, share)
            cover = self._add(
                f"cover-{number:03d}", "manhole", f"{road.name}{uses[number % 4]}盖 {number} 号", road, share,
                self.rng.choice((-0.006, 0.006)), "municipal", links,
                {"baseline_x": x, "baseline_y": y, "baseline_z": z} if lorawan else {"baseline_tilt": camber},
            )  # fmt: skip
            if lorawan:
                self._mount(f"mh-{number:03d}", cover, "milesight/em320-tilt", eui(f"mh-{number:03d}"))
            else:
                self._mount(f"mh-{number:03d}", cover, "generic/json-manhole")

    def _bridges(self, count: int) -> None:
        for number in range(1, count + 1):
            road = self.roads[(number * 6 - 6) % len(self.roads)]
            share, limit = (0.97 if number % 2 else 0.03), (30.0 if number % 2 else 20.0)
            name = f"{road.name}{'运河' if number % 2 else ''}桥 {number} 号"
            bridge = self._add(
                f"bridge-{number:02d}", "bridge", name, road, share, 0.0, "bridge", self._network(road, share),
                {"posted_limit": limit, "design_strain": 180.0, "design_deflection": 12.0, "design_angle": 0.2,
                 "span": 25.0 if number % 2 else 18.0, "bearing": round(road.bearing, 1)},
            )  # fmt: skip
            self._mount(f"br-{number:02d}", bridge, "generic/json-bridge")
            if number == 2:
                self._mount("loadcell-01", bridge, "generic/load-cell", interval="pad")

    def _sites(self, count: int) -> None:
        for number in range(1, count + 1):
            road, share = self._somewhere()
            name = f"{road.name}在建工地 {number} 号"
            site = self._add(f"site-{number:02d}", "site", name, road, share, 0.06, "site", self._network(road, share))
            if number % 2:
                self._mount(f"dust-{number:02d}", site, "generic/json-site")
            else:
                self._mount(f"dust-{number:02d}", site, HJ212_PROFILE, f"370832{number:018d}")

    def _utilities(self, counts: Mapping[str, int]) -> None:
        titles = {"water": "供水测压点", "gas": "燃气邻近窨井", "heat": "换热站", "parking": "停车泊位"}
        for kind, count in counts.items():
            for number in range(1, count + 1):
                road, share = self._somewhere()
                attributes: dict[str, Attribute] = {"plan_temp": 52.0} if kind == "heat" else {}
                asset = self._add(f"{kind}-{number:02d}", kind, f"{road.name}{titles[kind]} {number} 号", road, share,
                                  0.008, kind, self._network(road, share), attributes)  # fmt: skip
                self._mount(f"{kind}-d{number:02d}", asset, f"generic/json-{kind}")


def _between(least: int, wanted: int, most: int) -> int:
    return max(least, min(most, wanted))


def _km_between(asset: Asset, road: Road, share: float) -> float:
    longitude, latitude = road.at(share)
    return math.hypot((asset.longitude - longitude) / KM_LON, (asset.latitude - latitude) / KM_LAT)


def eui(name: str) -> str:
    """An EUI-64 for a LoRaWAN device or gateway: locally administered, so that no real one has it."""
    return "02" + hashlib.sha256(f"eui {name}".encode()).hexdigest()[:14]


def inclinations(tilt_deg: float, towards: float) -> tuple[float, float, float]:
    """The three inclinations to the horizontal (degrees) a tilt sensor reports when it leans ``tilt_deg`` towards the
    bearing ``towards`` (radians): their sines are the gravity vector."""
    tilt = math.radians(tilt_deg)
    vector = (math.sin(tilt) * math.cos(towards), math.sin(tilt) * math.sin(towards), math.cos(tilt))
    x, y, z = (round(math.degrees(math.asin(max(-1.0, min(1.0, part)))), 2) for part in vector)
    return x, y, z


def asset_document(city: City, modbus_ports: Mapping[str, int], host: str = "127.0.0.1") -> dict[str, object]:
    """The asset file as plain data; ``modbus_ports`` says which port each Modbus device listens on."""
    return {
        "assets": [_asset_row(asset) for asset in city.assets],
        "devices": [_device_row(device, modbus_ports, host) for device in city.devices],
    }


def write_assets(document: Mapping[str, object], path: Path) -> None:
    """Write an asset file: YAML that a human can read, or JSON when the name ends in ``.json`` (for cities of more
    than some thousand lamps, where YAML is slow to read). It appears under its name only when it is complete."""
    if path.suffix == ".json":
        write_whole(path, json.dumps(document, ensure_ascii=False, indent=1))
        return
    text = yaml.dump(document, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=200, default_flow_style=None)
    write_whole(path, "# Made by `python -m simulators assets`: every asset and device of the simulated city.\n" + text)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read_modbus_ports(path: Path) -> dict[str, int]:
    """The Modbus devices' ports as an asset file (made by ``write_assets``) tells them."""
    text = path.read_text(encoding="utf-8")
    document = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_Loader)
    ports: dict[str, int] = {}
    for device in document["devices"]:
        if device["profile"] in MODBUS_PROFILES:
            endpoint, _, _unit = str(device["address"]).partition("/")
            ports[device["device"]] = int(endpoint.rpartition(":")[2])
    return ports


def ports_from(base: int, devices: Sequence[str]) -> dict[str, int]:
    """The ports of the Modbus devices when they begin at ``base``."""
    return {device: base + number for number, device in enumerate(devices)}


def free_ports(devices: Iterable[str], host: str = "127.0.0.1") -> dict[str, int]:
    """A port that nobody uses now for each Modbus device (somebody may take it before the city does)."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for device in devices:
            listener = stack.enter_context(socket.socket())
            listener.bind((host, 0))
            ports[device] = int(listener.getsockname()[1])
        return ports


def geojson(city: City) -> dict[str, object]:
    """All assets as a GeoJSON FeatureCollection (RFC 7946)."""
    return {"type": "FeatureCollection", "features": [_feature(asset) for asset in city.assets]}


def roads_geojson(city: City) -> dict[str, object]:
    """The roads, for a map to draw below the assets."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "LineString", "coordinates": [road.at(0), road.at(1)]},
                "properties": {"name": road.name, "town": road.town, "road_class": road.road_class},
            }
            for road in city.roads
        ],
    }


def outline_geojson(city: City) -> dict[str, object]:
    """The edge of the built-up area: a margin around all roads."""
    margin = 0.3
    east = [place[0] for road in city.roads for place in (road.km(0), road.km(1))]
    north = [place[1] for road in city.roads for place in (road.km(0), road.km(1))]
    west, right, south, top = min(east) - margin, max(east) + margin, min(north) - margin, max(north) + margin
    cut = 0.5  # no town has corners
    ring = [(west + cut, south), (right - cut, south), (right, south + cut), (right, top - cut), (right - cut, top),
            (west + cut, top), (west, top - cut), (west, south + cut), (west + cut, south)]  # fmt: skip
    places = [(round(CENTRE[0] + x * KM_LON, 6), round(CENTRE[1] + y * KM_LAT, 6)) for x, y in ring]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [places]},
        "properties": {"name": "梁山县城"},
    }
    return {"type": "FeatureCollection", "features": [feature]}


def _feature(asset: Asset) -> dict[str, object]:
    row = _asset_row(asset)
    place = [row.pop("longitude"), row.pop("latitude")]
    return {
        "type": "Feature",
        "id": asset.asset,
        "geometry": {"type": "Point", "coordinates": place},
        "properties": row,
    }


def _asset_row(asset: Asset) -> dict[str, object]:
    row: dict[str, object] = {
        "asset": asset.asset, "kind": asset.kind, "name": asset.name, "road": asset.road, "town": asset.town,
        "unit": asset.unit, "longitude": asset.longitude, "latitude": asset.latitude,
    }  # fmt: skip
    if asset.links:
        row["links"] = dict(asset.links)
    if asset.attributes:
        row["attributes"] = dict(asset.attributes)
    row["simulated"] = True
    return row


def _device_row(device: Device, modbus_ports: Mapping[str, int], host: str) -> dict[str, object]:
    address = (
        f"{host}:{modbus_ports[device.device]}/{MODBUS_UNIT}" if device.is_modbus else device.address or device.device
    )
    row: dict[str, object] = {
        "device": device.device, "asset": device.asset, "profile": device.profile, "address": address,
        "expected_interval": f"{device.interval_s}s",
    }  # fmt: skip
    if device.attributes:
        row["attributes"] = dict(device.attributes)
    return row


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
