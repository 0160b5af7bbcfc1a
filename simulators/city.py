"""The little city that is simulated: which assets stand where, and which device is mounted on each.

Names of roads, towns and the place come from the county the project was asked for (Liangshan); every figure
is invented. The same ``seed`` and sizes give the same city, to the last decimal.

Sizes: ``lamps`` in feeders of 30 to 40, 80 covers (every tenth is a LoRaWAN tilt sensor), 22 pipe gauges and 8 road
gauges, 4 rain gauges, 4 pump stations and a cabinet meter and a load cell over Modbus TCP, 2 bridges.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

Attribute = str | float | bool

CENTRE = (116.10, 35.80)  # longitude, latitude
KM_LON, KM_LAT = 1 / 90.2, 1 / 111.2  # degrees a kilometre, at this latitude

# Modbus devices in the order in which they get ports: base, base + 1, …
MODBUS_DEVICES = ("plc-01", "plc-02", "plc-03", "plc-04", "meter-01", "loadcell-01")
MODBUS_UNIT = 1

UNITS = {
    "lighting": "县照明管理所",
    "drainage": "县排水管理处",
    "municipal": "县市政养护中心",
    "bridge": "县桥梁管理所",
}


@dataclass(frozen=True, slots=True)
class Road:
    """A straight road: where it begins, how it runs (kilometres east and north), and the town it belongs to."""

    name: str
    town: str
    east_km: float
    north_km: float
    run_east_km: float
    run_north_km: float

    def at(self, share: float, aside_km: float = 0.0) -> tuple[float, float]:
        """Longitude and latitude at ``share`` (0…1) of the road, ``aside_km`` to the left of it."""
        length = math.hypot(self.run_east_km, self.run_north_km)
        east = self.east_km + share * self.run_east_km - aside_km * self.run_north_km / length
        north = self.north_km + share * self.run_north_km + aside_km * self.run_east_km / length
        return round(CENTRE[0] + east * KM_LON, 6), round(CENTRE[1] + north * KM_LAT, 6)


ROADS = (
    Road("水泊大街", "水泊街道", -2.4, 0.2, 4.8, 0.0),
    Road("公明大道", "梁山街道", -0.3, -2.2, 0.0, 4.4),
    Road("水泊西路", "水泊街道", -2.2, 1.1, 1.9, 0.1),
    Road("水泊东路", "水泊街道", 0.3, 1.2, 2.1, -0.1),
    Road("忠义路", "梁山街道", -1.4, -1.8, 0.1, 3.4),
    Road("安民山路", "梁山街道", 0.9, -2.0, 0.2, 3.6),
    Road("青年路", "梁山街道", -2.0, -0.9, 4.2, 0.1),
)
_FEEDER_ROADS = (0, 1, 2, 3, 4, 5, 6, 0, 1, 6)  # the long roads have two


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
    """The electronics on an asset. ``address`` is the id in the MQTT topic; Modbus devices get theirs when the ports
    are known. ``interval_s``: how often it speaks or is polled."""

    device: str
    asset: str
    profile: str
    interval_s: int
    address: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @property
    def is_modbus(self) -> bool:
        return self.device in MODBUS_DEVICES


@dataclass(frozen=True, slots=True)
class City:
    """All assets and devices, in a fixed order."""

    seed: int
    assets: tuple[Asset, ...]
    devices: tuple[Device, ...]

    def asset(self, asset_id: str) -> Asset:
        return next(a for a in self.assets if a.asset == asset_id)

    def of_kind(self, kind: str) -> list[Asset]:
        return [a for a in self.assets if a.kind == kind]


def build_city(seed: int = 1, lamps: int = 300) -> City:
    """The city of ``seed`` with that many lamps (at least 10)."""
    builder = _Builder(random.Random(f"citywatch-city-{seed}"))
    builder.lighting(max(10, lamps))
    builder.covers(80)
    builder.pumps()
    builder.gauges(pipes=22, roads=8, rains=4)
    builder.bridges()
    return City(seed, tuple(builder.assets), tuple(builder.devices))


class _Builder:
    """Lays the city out, kind by kind; the order of calls is part of what a seed means."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.assets: list[Asset] = []
        self.devices: list[Device] = []

    def lighting(self, lamps: int) -> None:
        feeders = 10 if lamps <= 400 else math.ceil(lamps / 40)
        for number in range(feeders):
            road = ROADS[_FEEDER_ROADS[number % 10]]
            share = 0.25 if number % 10 < 7 else 0.75
            name = f"{road.name} {number + 1} 号照明控制箱"
            longitude, latitude = road.at(share, 0.03)
            feeder = f"F{number + 1:02d}"
            of_feeder = lamps * (number + 1) // feeders - lamps * number // feeders
            load_kw = round(of_feeder * 0.12, 2)
            self.assets.append(
                Asset(feeder, "feeder", name, road.name, road.town, UNITS["lighting"], longitude, latitude,
                      attributes={"rated_power": round(load_kw * 1000.0, 1)})
            )  # fmt: skip
            self.devices.append(Device(f"fc-{number + 1:02d}", feeder, "generic/json-feeder", 15))
        longitude, latitude = ROADS[1].at(0.5, 0.04)
        self.assets.append(
            Asset("CAB-01", "cabinet", "公明大道配电柜", ROADS[1].name, ROADS[1].town, UNITS["lighting"],
                  longitude, latitude)
        )  # fmt: skip
        self.devices.append(Device("meter-01", "CAB-01", "eastron/sdm630", 5))
        numbers: dict[str, int] = {}
        for number in range(lamps):
            feeder_number = _feeder_of(number, lamps, feeders)
            road = ROADS[_FEEDER_ROADS[feeder_number % 10]]
            first = lamps * feeder_number // feeders
            count = lamps * (feeder_number + 1) // feeders - first
            begin = 0.5 if feeder_number % 10 >= 7 else 0.0
            width = 0.5 if _FEEDER_ROADS.count(_FEEDER_ROADS[feeder_number % 10]) == 2 else 1.0
            share = begin + width * (number - first + 0.5) / count
            numbers[road.name] = numbers.get(road.name, 0) + 1
            longitude, latitude = road.at(share, 0.012 if number % 2 else -0.012)
            rated = self.rng.choice((90.0, 120.0, 120.0, 150.0))
            self.assets.append(
                Asset(f"lamp-{number + 1:04d}", "lamp", f"{road.name} {numbers[road.name]} 号灯", road.name,
                      road.town, UNITS["lighting"], longitude, latitude, {"feeder": f"F{feeder_number + 1:02d}"},
                      {"rated_power": rated})
            )  # fmt: skip
            self.devices.append(Device(f"lc-{number + 1:04d}", f"lamp-{number + 1:04d}", "generic/json-lamp", 15))

    def covers(self, count: int) -> None:
        uses = ("雨水井", "污水井", "上水井", "电力井")
        for number in range(1, count + 1):
            road = ROADS[number % len(ROADS)]
            longitude, latitude = road.at(self.rng.random(), self.rng.choice((-0.006, 0.006)))
            camber, towards = round(self.rng.uniform(0.3, 5.0), 2), self.rng.uniform(0, 2 * math.pi)
            x, y, z = inclinations(camber, towards)
            tilt_sensor = number % 10 == 0
            self.assets.append(
                Asset(f"cover-{number:03d}", "manhole", f"{road.name}{uses[number % 4]}盖 {number} 号", road.name,
                      road.town, UNITS["municipal"], longitude, latitude,
                      attributes={"baseline_x": x, "baseline_y": y, "baseline_z": z} if tilt_sensor
                      else {"baseline_tilt": camber})
            )  # fmt: skip
            profile = "milesight/em320-tilt" if tilt_sensor else "generic/json-manhole"
            self.devices.append(Device(f"mh-{number:03d}", f"cover-{number:03d}", profile, 60))

    def pumps(self) -> None:
        places = ((0, 0.06, "水泊大街西"), (6, 0.55, "青年路"), (5, 0.08, "安民山路南"), (3, 0.93, "水泊东路"))
        for number, (road_number, share, name) in enumerate(places, 1):
            road = ROADS[road_number]
            longitude, latitude = road.at(share, 0.08)
            self.assets.append(
                Asset(f"PS-{number:02d}", "pump", f"{name}雨水泵站", road.name, road.town, UNITS["drainage"],
                      longitude, latitude,
                      attributes={"L1": 0.6, "L2": 1.8, "L3": 2.2, "L4": 2.6, "L5": 3.0, "L6": 4.0, "ground": 6.0,
                                  "start_level": 1.8, "stop_level": 0.8, "rated_current": 96.0, "pumps": 3})
            )  # fmt: skip
            self.devices.append(Device(f"plc-{number:02d}", f"PS-{number:02d}", "generic/pump-station-3p", 5))

    def gauges(self, pipes: int, roads: int, rains: int) -> None:
        for number in range(1, pipes + 1):
            road = ROADS[(number * 3) % len(ROADS)]
            longitude, latitude = road.at(self.rng.random(), 0.0)
            diameter = self.rng.choice((0.6, 0.8, 1.0, 1.2))
            ground = round(diameter + self.rng.uniform(1.4, 2.4), 2)
            self.assets.append(
                Asset(f"pipe-{number:02d}", "pipe", f"{road.name}雨水管 {number} 号井", road.name, road.town,
                      UNITS["drainage"], longitude, latitude, {"station": f"PS-{number % 4 + 1:02d}"},
                      {"diameter": diameter, "ground": ground, "mount_height": round(ground - 0.1, 2)})
            )  # fmt: skip
            self.devices.append(Device(f"lv-{number:02d}", f"pipe-{number:02d}", "generic/json-pipe", 10))
        places = ("下穿铁路处", "路口", "学校门前", "菜市场前", "医院门前", "河桥东", "汽车站前", "广场北")
        for number in range(1, roads + 1):
            road = ROADS[number % len(ROADS)]
            longitude, latitude = road.at(0.1 + 0.8 * self.rng.random(), 0.0)
            self.assets.append(
                Asset(f"road-{number:02d}", "road", f"{road.name}{places[(number - 1) % 8]}积水点", road.name,
                      road.town, UNITS["drainage"], longitude, latitude, {"station": f"PS-{number % 4 + 1:02d}"})
            )  # fmt: skip
            self.devices.append(Device(f"wl-{number:02d}", f"road-{number:02d}", "generic/json-road", 10))
        for number in range(1, rains + 1):
            road = ROADS[(number * 2) % len(ROADS)]
            longitude, latitude = road.at(0.5, 0.25)
            self.assets.append(
                Asset(f"rain-{number:02d}", "rain", f"{road.name}雨量站", road.name, road.town, UNITS["drainage"],
                      longitude, latitude)
            )  # fmt: skip
            self.devices.append(Device(f"rg-{number:02d}", f"rain-{number:02d}", "generic/json-rain", 10))

    def bridges(self) -> None:
        for number, (road_number, share, name, limit) in enumerate(
            ((0, 0.97, "水泊大街运河桥", 30.0), (6, 0.03, "青年路桥", 20.0)), 1
        ):
            road = ROADS[road_number]
            longitude, latitude = road.at(share)
            self.assets.append(
                Asset(f"bridge-{number:02d}", "bridge", name, road.name, road.town, UNITS["bridge"], longitude,
                      latitude, attributes={"posted_limit": limit, "design_strain": 180.0})
            )  # fmt: skip
            self.devices.append(Device(f"br-{number:02d}", f"bridge-{number:02d}", "generic/json-bridge", 60))
        self.devices.append(Device("loadcell-01", "bridge-02", "generic/load-cell", 5))


def _feeder_of(lamp: int, lamps: int, feeders: int) -> int:
    """The feeder of lamp number ``lamp``: feeder k holds the lamps [lamps·k/feeders, lamps·(k+1)/feeders)."""
    return next(k for k in range(lamp * feeders // lamps, feeders) if lamp < lamps * (k + 1) // feeders)


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
        if device["device"] in MODBUS_DEVICES:
            endpoint, _, _unit = str(device["address"]).partition("/")
            ports[device["device"]] = int(endpoint.rpartition(":")[2])
    return ports


def ports_from(base: int, devices: Iterable[str] = MODBUS_DEVICES) -> dict[str, int]:
    """The ports of the Modbus devices when they begin at ``base``."""
    return {device: base + number for number, device in enumerate(devices)}


def free_ports(host: str = "127.0.0.1") -> dict[str, int]:
    """A port that nobody uses now for each Modbus device (somebody may take it before the city does)."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for device in MODBUS_DEVICES:
            listener = stack.enter_context(socket.socket())
            listener.bind((host, 0))
            ports[device] = int(listener.getsockname()[1])
        return ports


def _asset_row(asset: Asset) -> dict[str, object]:
    row: dict[str, object] = {
        "asset": asset.asset, "kind": asset.kind, "name": asset.name, "road": asset.road, "town": asset.town,
        "unit": asset.unit, "longitude": asset.longitude, "latitude": asset.latitude,
    }  # fmt: skip
    if asset.links:
        row["links"] = dict(asset.links)
    if asset.attributes:
        row["attributes"] = dict(asset.attributes)
    return row


def _device_row(device: Device, modbus_ports: Mapping[str, int], host: str) -> dict[str, object]:
    address = f"{host}:{modbus_ports[device.device]}/{MODBUS_UNIT}" if device.is_modbus else device.device
    row: dict[str, object] = {
        "device": device.device, "asset": device.asset, "profile": device.profile, "address": address,
        "expected_interval": f"{device.interval_s}s",
    }  # fmt: skip
    if device.attributes:
        row["attributes"] = dict(device.attributes)
    return row


_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
