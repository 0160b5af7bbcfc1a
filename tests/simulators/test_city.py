"""The simulated city: the same seed makes the same one, and its asset file is one the gateway can read."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from simulators import city as cities
from simulators.__main__ import main
from simulators.city import (
    DEMO_INTERVALS,
    FIELD_INTERVALS,
    LAMPS_A_FEEDER,
    SMALLEST,
    asset_document,
    build_city,
    geojson,
    inclinations,
    outline_geojson,
    ports_from,
    read_modbus_ports,
    roads_geojson,
)

SMALL = build_city(1, SMALLEST)
PORTS = ports_from(15020, SMALL.modbus_devices)


def test_the_same_seed_and_size_build_the_same_city_and_another_seed_another() -> None:
    assert build_city(7, 200) == build_city(7, 200)
    assert build_city(7, 200) != build_city(8, 200)


def test_the_city_has_what_was_promised() -> None:
    city = build_city(1, 500)
    assert Counter(asset.kind for asset in city.assets) == {
        "lamp": 325, "feeder": 10, "cabinet": 1, "area": 1, "network": 2, "manhole": 90, "pump": 4, "pipe": 22,
        "road": 8, "rain": 4, "bridge": 2, "site": 2, "water": 10, "gas": 5, "heat": 4, "parking": 10,
    }  # fmt: skip
    assert set(city.modbus_devices) == {"plc-01", "plc-02", "plc-03", "plc-04", "meter-01", "loadcell-01"}


@pytest.mark.parametrize("size", [SMALLEST, 137, 500, 1000, 4000])
def test_every_lamp_hangs_on_a_feeder_and_every_device_on_an_asset(size: int) -> None:
    city = build_city(1, size)
    assets = {asset.asset for asset in city.assets}
    assert len(assets) == len(city.assets) == size
    assert len({device.device for device in city.devices}) == len(city.devices)
    silent = {asset.asset for asset in city.assets if asset.kind in ("area", "network")}
    assert {device.asset for device in city.devices} == assets - silent
    assert {link for asset in city.assets for link in asset.links.values()} <= assets
    loads = Counter(asset.links["feeder"] for asset in city.of_kind("lamp"))
    assert set(loads) == {feeder.asset for feeder in city.of_kind("feeder")}
    assert max(loads.values()) <= LAMPS_A_FEEDER
    assert max(loads.values()) - min(loads.values()) <= 1


def test_a_circuit_s_lamps_are_one_row_from_its_first_to_its_last() -> None:
    for feeder in SMALL.of_kind("feeder"):
        lamps = [lamp for lamp in SMALL.of_kind("lamp") if lamp.links["feeder"] == feeder.asset]
        assert [lamp.asset for lamp in lamps if "before" not in lamp.links] == [lamps[0].asset]
        row = [lamps[0]]
        while "after" in row[-1].links:
            row.append(SMALL.asset(row[-1].links["after"]))
            assert row[-1].links["before"] == row[-2].asset
        assert row == lamps


def test_a_city_is_never_smaller_or_larger_than_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_city(1, 1) == SMALL
    monkeypatch.setattr(cities, "LARGEST", 300)
    assert build_city(1, 301) == build_city(1, 300)
    assert len(build_city(1, 50_000).assets) == 300


def test_assets_stand_within_the_county() -> None:
    for asset in build_city(3, 4000).assets:
        assert abs(asset.longitude - 116.10) < 0.05, asset
        assert abs(asset.latitude - 35.80) < 0.05, asset
        assert asset.name


def test_devices_speak_as_often_as_they_are_told_and_else_as_in_the_field() -> None:
    kinds = {asset.asset: asset.kind for asset in SMALL.assets}

    def intervals(city: cities.City) -> dict[str, int]:
        return {
            kinds[device.asset]: device.interval_s for device in city.devices if device.profile != "generic/load-cell"
        }

    assert intervals(SMALL) == {kind: FIELD_INTERVALS[kind] for kind in intervals(SMALL)}
    assert intervals(build_city(1, SMALLEST, DEMO_INTERVALS))["lamp"] == DEMO_INTERVALS["lamp"]
    assert intervals(build_city(1, SMALLEST, {"lamp": 7})) == intervals(SMALL) | {"lamp": 7}


def test_the_three_inclinations_of_a_cover_are_a_gravity_vector() -> None:
    for tilt in (0.0, 4.2, 22.0, 64.0, 90.0):
        sines = [math.sin(math.radians(angle)) for angle in inclinations(tilt, 1.1)]
        assert math.hypot(*sines) == pytest.approx(1.0, abs=2e-4)
        assert math.degrees(math.acos(sines[2])) == pytest.approx(tilt, abs=0.8)  # 0.01° steps are coarse near 90°


@pytest.mark.parametrize("name", ["assets.yaml", "assets.json"])
def test_an_asset_file_says_what_the_city_is_and_where_its_modbus_devices_listen(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    document = asset_document(SMALL, PORTS)
    cities.write_assets(document, path)
    text = path.read_text(encoding="utf-8")
    assert (json.loads(text) if name.endswith("json") else yaml.safe_load(text)) == document
    assert "水泊大街" in text
    assert read_modbus_ports(path) == PORTS
    assert not list(tmp_path.glob("*.part"))


def test_every_asset_says_that_it_is_simulated() -> None:
    rows = asset_document(SMALL, PORTS)["assets"]
    assert isinstance(rows, list)
    assert [row["simulated"] for row in rows] == [True] * SMALLEST


def test_a_map_has_every_asset_where_it_stands() -> None:
    features = geojson(SMALL)["features"]
    assert isinstance(features, list)
    places = {feature["id"]: feature["geometry"]["coordinates"] for feature in features}
    assert places == {asset.asset: [asset.longitude, asset.latitude] for asset in SMALL.assets}


def test_every_asset_stands_within_the_outline_and_every_road_is_drawn() -> None:
    city = build_city(1, 5_000)  # the roads are full, and lanes branch off
    outline: Any = outline_geojson(city)
    ring = outline["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    west, east = min(x for x, _ in ring), max(x for x, _ in ring)
    south, north = min(y for _, y in ring), max(y for _, y in ring)
    assert all(west < asset.longitude < east and south < asset.latitude < north for asset in city.assets)
    roads: Any = roads_geojson(city)
    names = {feature["properties"]["name"] for feature in roads["features"]}
    assert {asset.road for asset in city.assets} <= names
    assert len(names) == len(roads["features"])


def test_the_assets_command_writes_the_map_beside(tmp_path: Path) -> None:
    assert main(["assets", "--devices", "120", "--out", str(tmp_path / "a.json"), "--map-out", str(tmp_path)]) == 0
    for name in ("roads", "outline"):
        assert json.loads((tmp_path / f"{name}.geojson").read_text())["type"] == "FeatureCollection"


def test_ports_are_those_from_the_base_on_and_free_ones_are_all_different() -> None:
    assert list(PORTS.values()) == list(range(15020, 15020 + len(PORTS)))
    ports = cities.free_ports(SMALL.modbus_devices)
    assert list(ports) == list(PORTS)
    assert len(set(ports.values())) == len(ports)
