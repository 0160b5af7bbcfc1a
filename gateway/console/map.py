"""The map over HTTP: where everything is and how it is, what connects it, and what lies below.

A city of 50,000 assets is asked for whole, by columns: a page makes one picture of it, and then follows the stream. It
comes from memory, in slices short enough that no alarm waits; whoever asks within two seconds shares one answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import FileResponse, Response

from gateway.console import models, views
from gateway.console.gate import scope_of
from gateway.console.packed import Packed, pack
from gateway.console.port import City, ConsolePort
from gateway.console.problems import Problem
from gateway.console.shared import Shared
from gateway.core.base_map import BaseMap, Bounds
from gateway.core.map_lines import Line, lines_of
from gateway.core.model import Asset
from gateway.core.records import Scope
from gateway.core.standing import AssetMark, mark_of

GEOJSON = "application/geo+json"
PMTILES = "application/vnd.pmtiles"
SLICE = 500  # assets looked at before others get their turn: about 1 ms
SILENT_S = 15.0  # how often it is found out anew who is silent: a look at every device
STALE_INTERVALS = 3  # silent: nothing for three expected intervals (设备在线率)
OUTLIERS = 0.002  # the share of assets at either edge that does not widen the map: one wrong digit is another country

Item = TypeVar("Item")
_encode = msgspec.json.Encoder().encode


class MapView(models.Out):
    """Every asset with coordinates that the caller may see; the n-th entries of all columns are those of one asset."""

    at: models.Time = Field(description="When the picture was made; it is at most some seconds old.")
    kinds: list[str] = Field(description="What `kind` counts in, from 0.")
    asset: list[str]
    name: list[str] = Field(description="Empty where the name is the id.")
    kind: list[int]
    longitude: list[float] = Field(description="WGS 84, degrees, six decimals.")
    latitude: list[float]
    level: list[int] = Field(
        description="The worst level of what stands on it, 1 to 4 for I to IV, 0 for none. What is shelved, suppressed "
        "or out of service counts only where nothing else stands."
    )
    state: list[int] = Field(
        description="0 normal; 1 an unacknowledged alarm, standing or returned; 2 only acknowledged ones; 3 only "
        "shelved, suppressed or out of service; 4 no alarm, and every device quiet for three of its intervals."
    )


class LineGeometry(models.Out):
    type: Literal["LineString"] = "LineString"
    coordinates: list[tuple[float, float]]


class LinesGeometry(models.Out):
    type: Literal["MultiLineString"] = "MultiLineString"
    coordinates: list[list[tuple[float, float]]]


class AreaGeometry(models.Out):
    type: Literal["Polygon"] = "Polygon"
    coordinates: list[list[tuple[float, float]]]


class LineProperties(models.Out):
    """``kind``: feeder (a circuit along its lamps), pipe or manhole (a drain, from here to the next one down),
    catchment, bridge, or the kind of an asset with an outline of its own. ``level`` as in the map."""

    kind: str
    asset: str
    level: int


class LineFeature(models.Out):
    type: Literal["Feature"] = "Feature"
    geometry: Annotated[LineGeometry | LinesGeometry | AreaGeometry, Field(discriminator="type")]
    properties: LineProperties


class LinesView(models.Out):
    """What connects the assets, as GeoJSON; drawn from their links, not surveyed."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[LineFeature]


class BaseGeometry(models.Out):
    type: Literal["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"]
    coordinates: list[Any]


class BaseFeature(models.Out):
    """``properties``: those of the file, and ``layer``: road or outline."""

    type: Literal["Feature"] = "Feature"
    geometry: BaseGeometry
    properties: dict[str, Any]


class BaseView(models.Out):
    """Outlines first, then roads."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[BaseFeature]


class TilesView(models.Out):
    """``gcj02``: these tiles are drawn in GCJ-02. Everything this API gives is WGS 84; a page shows both rightly by
    shifting what it lays over such tiles, on the screen and nowhere else."""

    url: str
    attribution: str
    gcj02: bool
    max_zoom: int


class ArchiveView(models.Out):
    """A PMTiles archive, to be asked for in parts (HTTP ranges)."""

    url: str
    kind: Literal["vector", "raster"]
    min_zoom: int
    max_zoom: int
    bounds: tuple[float, float, float, float]


class MapSettingsView(models.Out):
    """How a page sets its map up. ``bounds``: west, south, east, north of the roads and outlines, else of the assets;
    null in a city without either. ``center`` (longitude, latitude) and ``zoom`` where the settings say them."""

    bounds: tuple[float, float, float, float] | None
    center: tuple[float, float] | None
    zoom: float | None
    base: bool = Field(description="Whether there are roads or outlines.")
    tiles: TilesView | None
    pmtiles: ArchiveView | None


def slices(items: Sequence[Item], size: int = SLICE) -> Iterator[Sequence[Item]]:
    """``items`` in lists of ``size``; sleep(0) between two lets everybody else work."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def tiles_origin(base: BaseMap) -> str:
    """Where browsers fetch tiles from, for the content security policy; "" when from nowhere else."""
    if base.tiles is None:
        return ""
    parts = urlsplit(base.tiles.url)
    return f"{parts.scheme}://{parts.netloc}"


@dataclass(slots=True)
class _Columns:
    """What changes only with the assets."""

    version: int
    ids: list[str]
    index: dict[str, int]
    longitude: list[float]
    latitude: list[float]
    head: list[bytes]


@dataclass(slots=True)
class _Picture:
    """``levels``: those that are not 0."""

    columns: _Columns
    changes: int
    silent: set[int]
    silent_at: float
    levels: dict[str, int]
    packed: Packed


@dataclass(frozen=True, slots=True)
class _Lines:
    """(asset, its feature but for the level and the end), of one version of the assets."""

    version: int
    features: list[tuple[str, bytes]]


class CityMap:
    """Makes the pictures."""

    def __init__(self, gateway: ConsolePort) -> None:
        self._gateway = gateway

    async def picture(self, scope: Scope, kept: _Picture | None = None) -> _Picture:
        """How everything is now; ``kept`` as it is when nothing has changed."""
        city, now = self._gateway.city, asyncio.get_running_loop().time()
        if (
            kept is not None
            and now - kept.silent_at < SILENT_S
            and (kept.changes, kept.columns.version) == _state(city)
        ):
            return kept
        return await self._make(city, scope, kept)

    async def _make(self, city: City, scope: Scope, kept: _Picture | None) -> _Picture:
        at = self._gateway.now()
        now = asyncio.get_running_loop().time()
        columns, silent, silent_at = None, set[int](), 0.0
        if kept is not None and kept.columns.version == city.version:
            columns, silent, silent_at = kept.columns, kept.silent, kept.silent_at
        columns = columns or await _columns(city, scope)
        if now - silent_at >= SILENT_S:
            silent, silent_at = await _silent(city, columns), now
        changes = city.standing.changes
        level, state = [0] * len(columns.ids), [0] * len(columns.ids)
        for number in silent:
            state[number] = AssetMark.SILENT.value
        levels: dict[str, int] = {}
        for part in slices(list(city.standing.assets())):
            for asset in part:
                position = columns.index.get(asset)
                mark, worst = mark_of(city.standing.of(asset))
                if position is not None and worst is not None:
                    levels[asset] = level[position] = worst.value
                    state[position] = mark.value
            await asyncio.sleep(0)
        parts = [
            b'{"at":',
            _encode(views.iso(at)),
            *columns.head,
            b',"level":',
            _encode(level),
            b',"state":',
            _encode(state),
            b"}",
        ]
        return _Picture(columns, changes, silent, silent_at, levels, await pack(parts, parts[2:]))


class CityLines:
    """Draws the lines anew when the assets have changed, and their levels whenever it is asked."""

    def __init__(self, gateway: ConsolePort, base: BaseMap) -> None:
        self._gateway = gateway
        self._outlines = base.outlines

    async def drawn(self, scope: Scope, kept: _Lines | None = None) -> _Lines:
        city = self._gateway.city
        if kept is not None and kept.version == city.version:
            return kept
        version, assets = city.version, city.assets()
        # Frozen assets in a list of our own: the thread sees one moment, and gives way every millisecond.
        return _Lines(version, await asyncio.to_thread(_features, assets, self._outlines, scope))

    @staticmethod
    async def packed(lines: _Lines, picture: _Picture) -> Packed:
        """With the levels of ``picture``."""
        parts = [b'{"type":"FeatureCollection","features":[']
        for number, (asset, feature) in enumerate(lines.features):
            parts += [b",", feature] if number else [feature]
            parts.append(b"%d}}" % picture.levels.get(asset, 0))
        return await pack([b"".join([*parts, b"]}"])])


def routes(gateway: ConsolePort, base: BaseMap) -> APIRouter:
    router = APIRouter(tags=["map"])
    pictures = Shared(CityMap(gateway).picture)
    city_lines = CityLines(gateway, base)
    drawn = Shared(city_lines.drawn)
    packed_base: list[Packed] = []

    @router.get("/map", response_model=MapView)
    async def whole_map(request: Request) -> Response:
        """All assets with coordinates, by columns: id, name, kind, place, worst level and state. One answer serves
        everybody for two seconds; `ETag` spares sending it again."""
        return await (await pictures.get(scope_of(request))).packed.answer(request)

    @router.get("/map/lines", response_model=LinesView)
    async def lines(request: Request) -> Response:
        """What connects the assets, as GeoJSON: circuits along their lamps, drains towards their station, catchments,
        bridges that say their length and bearing, outlines."""
        scope = scope_of(request)
        packed = await city_lines.packed(await drawn.get(scope), await pictures.get(scope))
        return await packed.answer(request, GEOJSON)

    @router.get("/map/base", response_model=BaseView)
    async def base_map(request: Request) -> Response:
        """The roads and outlines of the settings, as GeoJSON."""
        if not packed_base:
            packed_base.append(await pack(_collection(base.features)))
        return await packed_base[0].answer(request, GEOJSON)

    @router.get("/map/settings", response_model=MapSettingsView)
    async def settings(request: Request) -> dict[str, Any]:
        """Where the map begins, and where its tiles come from."""
        bounds = base.bounds
        if bounds is None:
            columns = (await pictures.get(scope_of(request))).columns
            bounds = _extent(columns.longitude, columns.latitude)
        return {
            "bounds": None if bounds is None else msgspec.structs.astuple(bounds),
            "center": base.center,
            "zoom": base.zoom,
            "base": bool(base.features),
            "tiles": None if base.tiles is None else msgspec.structs.asdict(base.tiles),
            "pmtiles": _archive(base),
        }

    @router.get(
        "/map/tiles.pmtiles",
        response_class=FileResponse,
        responses={200: {"content": {PMTILES: {}}}, 206: {"content": {PMTILES: {}}, "description": "A part."}},
    )
    async def tiles() -> FileResponse:
        """The PMTiles archive of the settings; ask for parts of it with `Range`."""
        if base.archive is None:
            raise Problem("not_found", "the settings name no `console.map.pmtiles`")
        return FileResponse(base.archive.file, media_type=PMTILES, headers={"Cache-Control": "private, max-age=3600"})

    return router


def _state(city: City) -> tuple[int, int]:
    return city.standing.changes, city.version


async def _columns(city: City, scope: Scope) -> _Columns:
    version, assets = city.version, city.assets()
    kinds: dict[str, int] = {}
    ids: list[str] = []
    index: dict[str, int] = {}
    names: list[str] = []
    kind: list[int] = []
    longitude: list[float] = []
    latitude: list[float] = []
    for part in slices(assets):
        for asset in part:
            if asset.longitude is None or asset.latitude is None or (scope and not scope.covers(asset)):
                continue
            index[asset.asset] = len(ids)
            ids.append(asset.asset)
            names.append("" if asset.name == asset.asset else asset.name)
            kind.append(kinds.setdefault(asset.kind, len(kinds)))
            longitude.append(round(asset.longitude, 6))
            latitude.append(round(asset.latitude, 6))
        await asyncio.sleep(0)
    head: list[bytes] = []
    columns: tuple[tuple[str, Sequence[Any]], ...] = (
        ("kinds", list(kinds)),
        ("asset", ids),
        ("name", names),
        ("kind", kind),
        ("longitude", longitude),
        ("latitude", latitude),
    )
    for name, column in columns:
        head += [b',"%s":' % name.encode(), _encode(column)]
        await asyncio.sleep(0)
    return _Columns(version, ids, index, longitude, latitude, head)


async def _silent(city: City, columns: _Columns) -> set[int]:
    silent: set[int] = set()
    for first in range(0, len(columns.ids), SLICE):
        part = columns.ids[first : first + SLICE]
        silent.update(number for number, asset in enumerate(part, first) if (city.quiet(asset) or 0) > STALE_INTERVALS)
        await asyncio.sleep(0)
    return silent


def _features(
    assets: Sequence[Asset], outlines: dict[str, list[list[tuple[float, float]]]], scope: Scope
) -> list[tuple[str, bytes]]:
    """(asset, its feature but for the level and the end)."""
    seen = [asset for asset in assets if scope.covers(asset)] if scope else assets
    return [(line.asset, _feature(line)) for line in lines_of(seen, outlines)]


def _feature(line: Line) -> bytes:
    geometry: dict[str, object] = {"type": "LineString", "coordinates": line.places[0]}
    if line.area:
        geometry = {"type": "Polygon", "coordinates": line.places}
    elif len(line.places) > 1:
        geometry = {"type": "MultiLineString", "coordinates": line.places}
    head = b'{"type":"Feature","geometry":%s,"properties":{"kind":%s,"asset":%s,"level":'
    return head % (_encode(geometry), _encode(line.kind), _encode(line.asset))


def _collection(features: Sequence[bytes]) -> list[bytes]:
    parts = [b'{"type":"FeatureCollection","features":[']
    for number, feature in enumerate(features):
        parts += [b",", feature] if number else [feature]
    return [*parts, b"]}"]


def _archive(base: BaseMap) -> dict[str, Any] | None:
    archive = base.archive
    if archive is None:
        return None
    return {
        "url": "/api/v1/map/tiles.pmtiles",
        "kind": archive.kind,
        "min_zoom": archive.min_zoom,
        "max_zoom": archive.max_zoom,
        "bounds": msgspec.structs.astuple(archive.bounds),
    }


def _extent(longitude: Sequence[float], latitude: Sequence[float]) -> Bounds | None:
    if not longitude:
        return None
    shares = (OUTLIERS, 1 - OUTLIERS) if len(longitude) * OUTLIERS >= 1 else (0, 1)
    west, east = np.quantile(longitude, shares)
    south, north = np.quantile(latitude, shares)
    return Bounds(*(round(float(edge), 6) for edge in (west, south, east, north)))
