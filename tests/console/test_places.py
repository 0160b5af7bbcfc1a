"""The directory of assets: every name once, by columns, of the part of the city that one sees."""

from __future__ import annotations

from pathlib import Path

from gateway.core.model import Asset
from gateway.core.records import Role, Scope
from gateway.core.vocabulary import KINDS, POINTS
from gateway.live_city import LiveCity
from tests.console.city import START, running
from tests.console.test_map import real_city

CITY = [
    Asset(
        "lamp-1", "lamp", "南环路 1 号灯", road="南环路", town="水泊街道", unit="市政", longitude=116.1, latitude=35.8
    ),
    Asset("lamp-2", "lamp", "lamp-2", road="南环路", town="拳铺镇", unit="市政", longitude=116.2, latitude=35.7),
    Asset("station-1", "pump", "一号泵站", road="", town="水泊街道", unit="排水"),
]


async def test_the_directory_says_every_name_once_and_knows_assets_without_a_place(tmp_path: Path) -> None:
    processor = real_city(CITY)
    async with running(tmp_path) as console, console.client() as client:
        console.gateway.city = LiveCity(lambda: processor)
        answer = await client.get("/api/v1/places")
        places = answer.json()
        rows = {asset: n for n, asset in enumerate(places["asset"]) if asset != "gateway"}
        assert sorted(rows) == ["lamp-1", "lamp-2", "station-1"]
        n = rows["lamp-1"]
        assert places["name"][n] == "南环路 1 号灯"
        assert places["roads"][places["road"][n]] == "南环路"
        assert places["towns"][places["town"][n]] == "水泊街道"
        assert places["units"][places["unit"][n]] == "市政"
        assert places["kinds"][places["kind"][n]] == "lamp"
        assert (places["longitude"][n], places["latitude"][n]) == (116.1, 35.8)
        assert places["name"][rows["lamp-2"]] == "", "the id does"
        assert places["longitude"][rows["station-1"]] is None
        assert places["roads"].count("南环路") == 1
        headers = {"If-None-Match": answer.headers["etag"]}
        assert (await client.get("/api/v1/places", headers=headers)).status_code == 304


async def test_the_directory_ends_where_the_scope_does(tmp_path: Path) -> None:
    processor = real_city(CITY)
    scope = Scope(towns=("水泊街道",))
    async with running(tmp_path) as console, console.client(None) as client:
        console.gateway.city = LiveCity(lambda: processor)
        token = await console.gateway.store.create_token("town", Role.OPERATOR, START, None, scope)
        answer = await client.get("/api/v1/places", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["asset"] == ["lamp-1", "station-1"]


async def test_every_kind_and_point_of_the_vocabulary_has_a_name_in_both_languages(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(Role.VIEWER) as client:
        names = (await client.get("/api/v1/names")).json()
    assert set(KINDS) <= set(names["kinds"])
    points = {point for kind in KINDS for point in POINTS[kind]}
    assert points <= set(names["points"])
    assert all(
        name["zh"] and name["en"] for group in ("kinds", "points", "attributes") for name in names[group].values()
    )
    assert names["points_of_kind"]["pipe"]["level"]["zh"] == "管道水位"
    assert names["states"]["pN_run"]["true"]["en"]
