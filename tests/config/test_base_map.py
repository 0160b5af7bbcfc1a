"""The base map of the settings: GeoJSON is checked at the start, with the feature that is wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from gateway.check import check_everything
from gateway.config import base_map
from gateway.config.base_map import load_base_map
from gateway.config.settings import MapSettings, load_settings
from gateway.core.base_map import Bounds
from gateway.errors import ConfigError


def collection(*geometries: Any, **properties: Any) -> str:
    features = [{"type": "Feature", "geometry": g, "properties": properties or None} for g in geometries]
    return json.dumps({"type": "FeatureCollection", "features": features})


def line(*places: Any) -> dict[str, Any]:
    return {"type": "LineString", "coordinates": list(places)}


RING = [[116.0, 35.0], [117.0, 35.0], [117.0, 36.0], [116.0, 35.0]]


def test_roads_and_outlines_become_features_of_a_layer(tmp_path: Path) -> None:
    (tmp_path / "roads.geojson").write_text(
        collection(line([116.123456789, 35.8, 40.0], [116.2, 35.9]), None, name="水泊大街")
    )
    polygon = {"type": "Polygon", "coordinates": [RING]}
    (tmp_path / "outline.geojson").write_text(collection(polygon, asset="PS-01"))
    found = load_base_map(MapSettings(roads=tmp_path / "roads.geojson", outline=tmp_path / "outline.geojson"))
    outline, road = map(json.loads, found.features)
    assert outline["properties"] == {"asset": "PS-01", "layer": "outline"}
    assert road["properties"] == {"name": "水泊大街", "layer": "road"}
    assert road["geometry"]["coordinates"] == [[116.123457, 35.8], [116.2, 35.9]]
    assert found.bounds == Bounds(116.0, 35.0, 117.0, 36.0)
    assert found.outlines == {"PS-01": [[(116.0, 35.0), (117.0, 35.0), (117.0, 36.0), (116.0, 35.0)]]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "not a GeoJSON FeatureCollection"),
        ('{"type": "Feature"}', "not a GeoJSON FeatureCollection"),
        (collection(line([1, 2]), line([200, 2])), "feature 2: 200, 2 are not degrees"),
        (collection(line(["x", 2])), "feature 1: a position is longitude, latitude"),
        (collection(line([True, 2])), "feature 1: a position"),
        (collection({"type": "LineString", "coordinates": 3}), "feature 1: coordinates are a list"),
        (collection({"type": "Circle", "coordinates": []}), "feature 1: geometry 'Circle'"),
        (collection({"type": "Polygon", "coordinates": RING}), "feature 1"),
        ('{"type": "FeatureCollection", "features": [7]}', "feature 1"),
    ],
)
def test_a_file_that_is_no_map_is_told_with_its_feature(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "roads.geojson").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_base_map(MapSettings(roads=tmp_path / "roads.geojson", outline=tmp_path / "nothing.geojson"))
    outline, roads = error.value.mistakes
    assert (outline.key, roads.key) == ("console.map.outline", "console.map.roads")
    assert outline.message.startswith("cannot be read")
    assert says in roads.message


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_map, "MAX_BYTES", 100)
    monkeypatch.setattr("gateway.core.base_map.MAX_BYTES", 100)
    (tmp_path / "roads.geojson").write_text(collection(line([1, 2], [3, 4])) + " " * 200)
    with pytest.raises(ConfigError, match="longer than"):
        load_base_map(MapSettings(roads=tmp_path / "roads.geojson"))


def archive(kind: int = 1, version: int = 3) -> bytes:
    head = bytearray(127)
    head[:8] = b"PMTiles" + bytes([version])
    head[99:102] = bytes([kind, 3, 15])
    struct.pack_into("<4i", head, 102, 1160000000, 350000000, 1170000000, 360000000)
    return bytes(head)


def test_a_tile_archive_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "city.pmtiles").write_bytes(archive() + b"tiles")
    found = load_base_map(MapSettings(pmtiles=tmp_path / "city.pmtiles")).archive
    assert found is not None
    assert (found.kind, found.min_zoom, found.max_zoom) == ("vector", 3, 15)
    assert found.bounds == Bounds(116.0, 35.0, 117.0, 36.0)
    for wrong in (b"", archive(version=2), archive(kind=0), b"x" * 200):
        (tmp_path / "city.pmtiles").write_bytes(wrong)
        with pytest.raises(ConfigError, match=r"console\.map\.pmtiles"):
            load_base_map(MapSettings(pmtiles=tmp_path / "city.pmtiles"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tiles: {url: 'https://t.example/{z}/{x}.png'}", "{y}"),
        ('tiles: {url: "https://t.example/{z}/{x}/{y}\'; script-src *"}', "url"),
        ("tiles: {url: 'https://t.example;/{z}/{x}/{y}'}", "url"),
        ("tiles: {url: 'file:///{z}/{x}/{y}'}", "url"),
        ("{tiles: {url: 'https://t.example/{z}/{x}/{y}'}, pmtiles: a.pmtiles}", "either `tiles` or `pmtiles`"),
        ("center: [35.8, 116.1]", "center"),
    ],
)
def test_settings_that_cannot_be_meant_are_mistakes(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "citywatch.yaml").write_text(f"console:\n  map: {text if text[0] == '{' else '{' + text + '}'}\n")
    with pytest.raises(ConfigError) as error:
        load_settings(tmp_path / "citywatch.yaml")
    assert says in str(error.value)


def test_check_looks_at_the_map_too(tmp_path: Path) -> None:
    (tmp_path / "citywatch.yaml").write_text("console: {map: {roads: nothing.geojson}}\n")
    report = check_everything(tmp_path / "citywatch.yaml")
    assert [m.key for m in report.mistakes] == ["console.map.roads"]
