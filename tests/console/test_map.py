"""The map: every asset once, marked by what stands on it; lines, base and tiles; shared, compressed, known again."""

from __future__ import annotations

import asyncio
import gzip
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.console import map as city_map
from gateway.console import shared
from gateway.console.map import CityLines, CityMap
from gateway.core.base_map import Archive, BaseMap, Bounds, Tiles, read_layer
from gateway.core.model import (
    SECOND,
    Asset,
    AssetsChanged,
    Condition,
    Level,
    Micros,
    OutOfService,
    Shelve,
)
from gateway.core.records import EVERYWHERE, Role, Scope
from gateway.live_city import LiveCity
from tests.console.city import START, holding, real_city, record, running, step, tick

ROADS = b"""{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "r"},
 "geometry": {"type": "LineString", "coordinates": [[116.0, 35.7], [116.2, 35.9]]}}]}"""


def placed(asset: str, kind: str = "lamp", number: int = 0, **more: Any) -> Asset:
    return Asset(asset, kind, longitude=116.0 + number / 1000, latitude=35.8, **more)


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SHARED_S", 0.0)
    monkeypatch.setattr(shared, "COST", 0.0)
    monkeypatch.setattr(city_map, "SILENT_S", 0.0)


async def test_every_asset_with_a_place_is_there_once_with_what_stands_on_it(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        names = ("plain", "new", "acked", "back", "aside", "mixed")
        assets = [placed(name, "pump" if name == "new" else "lamp", n) for n, name in enumerate(names)]
        assets.append(Asset("nowhere", "lamp"))
        await console.gateway.commit(AssetsChanged(START, msgspec.json.encode({"assets": assets, "devices": []})))
        await console.gateway.commit(
            step(record("new", level=Level.II)),
            step(record("acked", level=Level.III, acked=True)),
            step(record("back", level=Level.I, cond=Condition.NORMAL)),
            step(record("aside", level=Level.I, shelve=Shelve.TIMED)),
            step(record("mixed", "a", level=Level.I, out_of_service=OutOfService("w", "b", "r", START))),
            step(record("mixed", "b", level=Level.IV, acked=True)),
            step(record("plain", level=Level.I, shadow=True)),
            step(record("nowhere")),
        )
        found = (await client.get("/api/v1/map")).json()
        assert found["kinds"] == ["lamp", "pump"]
        rows = {
            asset: (found["kinds"][kind], level, state)
            for asset, kind, level, state in zip(
                found["asset"], found["kind"], found["level"], found["state"], strict=True
            )
        }
        assert rows == {
            "lamp-1": ("lamp", 0, 0),
            "plain": ("lamp", 0, 0),
            "new": ("pump", 2, 1),
            "acked": ("lamp", 3, 2),
            "back": ("lamp", 1, 1),
            "aside": ("lamp", 1, 3),
            "mixed": ("lamp", 4, 2),
        }
        assert dict(zip(found["asset"], found["name"], strict=True))["lamp-1"] == "一号灯"
        assert found["longitude"][found["asset"].index("new")] == 116.001
        before = record("new", level=Level.II)
        await console.gateway.commit(step(record("new", rev=2, cond=Condition.NORMAL, acked=True), before, "T6"))
        again = (await client.get("/api/v1/map")).json()
        assert again["state"][again["asset"].index("new")] == 0


async def test_an_asset_is_silent_when_all_its_devices_are_and_nothing_stands(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        processor = real_city([placed("quiet"), placed("ill", number=1)])
        console.gateway.processor = processor

        async def states() -> dict[str, int]:
            found = (await client.get("/api/v1/map")).json()
            return dict(zip(found["asset"], found["state"], strict=True))

        assert await states() == {"quiet": 0, "ill": 0}
        tick(processor, START + 200 * SECOND)
        await console.gateway.commit(step(record("ill")))
        assert await states() == {"quiet": 4, "ill": 1}
        processor.engine.blind(START + 20 * SECOND, START + 200 * SECOND) if processor.engine else None
        assert await states() == {"quiet": 0, "ill": 1}, "while the gateway could not listen nobody was silent"


async def test_what_is_the_same_is_not_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        first = await client.get("/api/v1/map", headers={"Accept-Encoding": "gzip"})
        assert first.headers["content-encoding"] == "gzip"
        plain = await client.get("/api/v1/map", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.headers["etag"] == first.headers["etag"]
        for path in ("/api/v1/map", "/api/v1/map/lines", "/api/v1/map/base"):
            tag = (await client.get(path)).headers["etag"]
            assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 304
        await console.gateway.commit(step(record("lamp-1")))
        changed = await client.get("/api/v1/map", headers={"If-None-Match": first.headers["etag"]})
        assert (changed.status_code, changed.json()["state"]) == (200, [1])


async def test_many_who_ask_at_once_share_one_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared, "SHARED_S", 60.0)
    async with running(tmp_path) as console, console.client() as client:
        answers = await asyncio.gather(*(client.get("/api/v1/map") for _ in range(20)))
        assert len({answer.headers["etag"] for answer in answers}) == 1
        assert len({answer.json()["at"] for answer in answers}) == 1


async def test_a_part_of_the_city_is_a_map_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        pictures = CityMap(console.gateway)
        console.gateway.processor.registry.upsert([placed("ps", "pump", town="水泊")])
        for scope, expected in (
            (EVERYWHERE, ["lamp-1", "ps"]),
            (Scope(kinds=("pump",)), ["ps"]),
            (Scope(towns=("梁山",)), ["lamp-1"]),
            (Scope(units=("nobody",)), []),
        ):
            assert (await pictures.picture(scope)).columns.ids == expected


async def test_lines_join_lamps_and_bear_the_level_of_their_asset(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        lamps = [placed(f"l{n}", number=n, links={"feeder": "F", "catchment": "C"}) for n in range(1, 6)]
        assets = [placed("F", "feeder"), *lamps]
        await console.gateway.commit(AssetsChanged(START, msgspec.json.encode({"assets": assets, "devices": []})))
        await console.gateway.commit(step(record("F", "circuit-lost", level=Level.II)))
        answer = await client.get("/api/v1/map/lines")
        assert answer.headers["content-type"] == "application/geo+json"
        (feature,) = answer.json()["features"]
        assert feature["properties"] == {"kind": "feeder", "asset": "F", "level": 2}
        assert feature["geometry"] == {"type": "LineString", "coordinates": [[116.0, 35.8], [116.005, 35.8]]}


async def test_the_base_map_and_its_settings_are_those_of_the_files(tmp_path: Path) -> None:
    layer = read_layer(ROADS, "road")
    (tmp_path / "city.pmtiles").write_bytes(bytes(range(200)))
    archive = Archive(str(tmp_path / "city.pmtiles"), "vector", 0, 15, Bounds(116, 35, 117, 36))
    base = BaseMap(tuple(layer.features), {}, layer.bounds, (116.1, 35.8), 13.0, None, archive)
    async with running(tmp_path, base=base) as console, console.client(Role.VIEWER) as client:
        (road,) = (await client.get("/api/v1/map/base")).json()["features"]
        assert road["properties"] == {"name": "r", "layer": "road"}
        settings = (await client.get("/api/v1/map/settings")).json()
        assert settings["bounds"] == [116.0, 35.7, 116.2, 35.9]
        assert (settings["center"], settings["zoom"], settings["base"]) == ([116.1, 35.8], 13.0, True)
        assert settings["tiles"] is None
        path = settings["pmtiles"]["url"]
        part = await client.get(path, headers={"Range": "bytes=10-19", "Accept-Encoding": "gzip"})
        assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
        assert part.headers["content-range"] == "bytes 10-19/200"
        assert "content-encoding" not in part.headers
        assert (await client.get(path)).content == bytes(range(200))
        assert (await client.get(path, headers={"Range": "bytes=900-"})).status_code == 416
        async with console.client(None) as nobody:
            assert (await nobody.get(path)).status_code == 401
            assert "t.example" not in (await nobody.get("/docs")).headers["content-security-policy"]


async def test_without_roads_the_map_begins_where_the_assets_are(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        console.gateway.processor.registry.upsert([placed(f"l{n}", number=n) for n in range(1000)])
        console.gateway.processor.registry.upsert([Asset("typo", "lamp", longitude=11.6, latitude=35.8)])
        settings = (await client.get("/api/v1/map/settings")).json()
        west, south, east, north = settings["bounds"]
        assert 116 <= west < 116.01 < 116.9 < east < 117, "one wrong digit does not show half the earth"
        assert (south, north) == (35.8, 35.8)
        assert (await client.get("/api/v1/map/tiles.pmtiles")).json()["code"] == "not_found"
        assert (await client.get("/api/v1/map/base")).json() == {"type": "FeatureCollection", "features": []}


async def test_only_the_host_of_the_tiles_enters_the_policy(tmp_path: Path) -> None:
    tiles = Tiles("https://t.example:8443/x/{z}/{x}/{y}.png?key=1", "© somebody", gcj02=True)
    async with running(tmp_path, base=BaseMap(tiles=tiles)) as console, console.client() as client:
        answer = await client.get("/api/v1/map/settings")
        assert answer.json()["tiles"]["gcj02"] is True
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["img-src"] == "'self' data: blob: https://t.example:8443"
        assert policy["connect-src"] == "'self' https://t.example:8443"
        assert policy["default-src"] == "'self'"


async def test_fifty_thousand_assets_are_made_in_slices_and_sent_in_a_moment() -> None:
    class Gateway:
        def __init__(self, city: LiveCity) -> None:
            self.city = city

        def now(self) -> Micros:
            return START

    assets = [
        placed(f"lamp-{n:05d}", number=n % 300, links={"feeder": f"F{n // 35}"}, name=f"水泊大街 {n} 号灯")
        for n in range(50_000)
    ]
    processor = real_city(assets)
    city = LiveCity(lambda: processor)
    assert len(city.standing) == 0
    city.count([step(record(asset.asset, level=Level(n % 4 + 1))) for n, asset in enumerate(assets[:20_000])])
    gateway: Any = Gateway(city)
    pictures, lines = CityMap(gateway), CityLines(gateway, BaseMap())
    async with holding() as held:
        began = time.perf_counter()
        picture = await pictures.picture(EVERYWHERE)
        took = time.perf_counter() - began
        packed = await lines.packed(await lines.drawn(EVERYWHERE), picture)
    document = msgspec.json.decode(gzip.decompress(picture.packed.squeezed))
    assert len(document["asset"]) == 50_000
    assert sum(state == 1 for state in document["state"]) == 20_000
    assert len(msgspec.json.decode(gzip.decompress(packed.squeezed))["features"]) == 1429
    assert len(picture.packed.squeezed) < 1_000_000
    assert took < 3, "a quarter of a second on two quiet cores"
    assert sorted(held)[-3] < 0.025, "5 ms on two quiet cores; the collector has its own moments in a test"
