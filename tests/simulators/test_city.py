"""The simulated city: the same seed makes the same one, and its asset file is one the gateway can read."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml

from simulators import city as cities
from simulators.city import MODBUS_DEVICES, asset_document, build_city, inclinations, ports_from, read_modbus_ports

PORTS = ports_from(15020)


def test_the_same_seed_builds_the_same_city_and_another_seed_another() -> None:
    assert build_city(7) == build_city(7)
    assert build_city(7) != build_city(8)


def test_the_city_has_what_was_promised() -> None:
    city = build_city(1)
    assert Counter(asset.kind for asset in city.assets) == {
        "lamp": 300, "feeder": 10, "cabinet": 1, "manhole": 80, "pump": 4, "pipe": 22, "road": 8, "rain": 4,
        "bridge": 2,
    }  # fmt: skip
    assert {device.device for device in city.devices if device.is_modbus} == set(MODBUS_DEVICES)


@pytest.mark.parametrize("lamps", [1, 10, 37, 300, 401, 2500])
def test_every_lamp_hangs_on_a_feeder_and_every_device_on_an_asset(lamps: int) -> None:
    city = build_city(1, lamps)
    assets = {asset.asset for asset in city.assets}
    assert len(assets) == len(city.assets)
    assert len({device.device for device in city.devices}) == len(city.devices)
    assert {device.asset for device in city.devices} == assets
    assert {link for asset in city.assets for link in asset.links.values()} <= assets
    loads = Counter(asset.links["feeder"] for asset in city.of_kind("lamp"))
    assert sum(loads.values()) == max(10, lamps)
    assert max(loads.values()) <= 41
    assert max(loads.values()) - min(loads.values()) <= 1


def test_assets_stand_within_the_county() -> None:
    for asset in build_city(3).assets:
        assert abs(asset.longitude - 116.10) < 0.05, asset
        assert abs(asset.latitude - 35.80) < 0.05, asset
        assert asset.name


def test_the_three_inclinations_of_a_cover_are_a_gravity_vector() -> None:
    for tilt in (0.0, 4.2, 22.0, 64.0, 90.0):
        sines = [math.sin(math.radians(angle)) for angle in inclinations(tilt, 1.1)]
        assert math.hypot(*sines) == pytest.approx(1.0, abs=2e-4)
        assert math.degrees(math.acos(sines[2])) == pytest.approx(tilt, abs=0.8)  # 0.01° steps are coarse near 90°


@pytest.mark.parametrize("name", ["assets.yaml", "assets.json"])
def test_an_asset_file_says_what_the_city_is_and_where_its_modbus_devices_listen(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    document = asset_document(build_city(1, 20), PORTS)
    cities.write_assets(document, path)
    text = path.read_text(encoding="utf-8")
    assert (json.loads(text) if name.endswith("json") else yaml.safe_load(text)) == document
    assert "水泊大街" in text
    assert read_modbus_ports(path) == PORTS
    assert not list(tmp_path.glob("*.part"))


def test_free_ports_are_all_different() -> None:
    ports = cities.free_ports()
    assert set(ports) == set(MODBUS_DEVICES)
    assert len(set(ports.values())) == len(ports)
