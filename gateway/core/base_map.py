"""What lies under the assets of a map: the roads and outlines of a site as GeoJSON, and where tiles come from."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

from gateway.core.map_lines import Place
from gateway.errors import DecodeError

Layer: TypeAlias = Literal["road", "outline"]

MAX_BYTES = 50 << 20  # of one file
_COORDINATES = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_PMTILES_KINDS = {1: "vector", 2: "raster", 3: "raster", 4: "raster", 5: "raster"}


class Bounds(msgspec.Struct, frozen=True):
    west: float
    south: float
    east: float
    north: float


class Tiles(msgspec.Struct, frozen=True):
    """Raster tiles of a server. ``gcj02``: they are drawn in the Chinese coordinates GCJ-02."""

    url: str
    attribution: str = ""
    gcj02: bool = False
    max_zoom: int = 18


class Archive(msgspec.Struct, frozen=True):
    """A PMTiles file: all tiles of a region in one."""

    file: str
    kind: Literal["vector", "raster"]
    min_zoom: int
    max_zoom: int
    bounds: Bounds
    attribution: str = ""


class BaseMap(msgspec.Struct, frozen=True):
    """``features``: GeoJSON features, encoded, each with the property ``layer``. ``outlines``: the rings of areas whose
    feature names an asset in its property ``asset``."""

    features: tuple[bytes, ...] = ()
    outlines: dict[str, list[list[Place]]] = {}
    bounds: Bounds | None = None
    center: Place | None = None
    zoom: float | None = None
    tiles: Tiles | None = None
    archive: Archive | None = None


NO_BASE = BaseMap()


class _Feature(msgspec.Struct):
    geometry: dict[str, Any] | None
    type: Literal["Feature"] = "Feature"
    properties: dict[str, Any] | None = None


class _Collection(msgspec.Struct):
    type: Literal["FeatureCollection"]
    features: list[msgspec.Raw]


class LayerRead(msgspec.Struct):
    """One file, read."""

    features: list[bytes]
    outlines: dict[str, list[list[Place]]]
    bounds: Bounds | None


_FEATURE = msgspec.json.Decoder(_Feature)
_ENCODE = msgspec.json.Encoder().encode


def read_layer(data: bytes, layer: Layer) -> LayerRead:
    """The features of a GeoJSON file (RFC 7946). Raises DecodeError with the number of the first that is none.

    Coordinates are kept to six decimals (0.1 m), heights are dropped; what no map draws (no geometry) is left out."""
    if len(data) > MAX_BYTES:
        raise DecodeError(f"longer than {MAX_BYTES >> 20} MB")
    try:
        collection = msgspec.json.decode(data, type=_Collection)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"not a GeoJSON FeatureCollection: {error}") from error
    found = LayerRead([], {}, None)
    west, south, east, north = 180.0, 90.0, -180.0, -90.0
    for number, raw in enumerate(collection.features, 1):
        try:
            feature = _FEATURE.decode(raw)
            if feature.geometry is None:
                continue
            kind, depth = _kind(feature.geometry)
            coordinates = _cleaned(feature.geometry.get("coordinates"), depth)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError) as error:
            raise DecodeError(f"feature {number}: {error}") from error
        for x, y in _places(coordinates, depth):
            west, east = min(west, x), max(east, x)
            south, north = min(south, y), max(north, y)
        properties = feature.properties or {}
        asset = properties.get("asset")
        if isinstance(asset, str) and kind == "Polygon":
            found.outlines[asset] = coordinates
        geometry = {"type": kind, "coordinates": coordinates}
        found.features.append(
            _ENCODE({"type": "Feature", "geometry": geometry, "properties": {**properties, "layer": layer}})
        )
    if found.features:
        found.bounds = Bounds(west, south, east, north)
    return found


def read_archive(head: bytes, file: str) -> Archive:
    """What the first 127 bytes of a PMTiles file say (version 3). Raises DecodeError when it is none."""
    if len(head) < 127 or head[:7] != b"PMTiles" or head[7] != 3:
        raise DecodeError("not a PMTiles file of version 3")
    kind = _PMTILES_KINDS.get(head[99])
    if kind is None:
        raise DecodeError("a PMTiles file without vector or picture tiles")
    west, south, east, north = (part / 1e7 for part in struct.unpack_from("<4i", head, 102))
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise DecodeError("its bounds are nowhere on earth")
    what: Literal["vector", "raster"] = "vector" if kind == "vector" else "raster"
    return Archive(file, what, head[100], head[101], Bounds(west, south, east, north))


def joined(bounds: list[Bounds | None]) -> Bounds | None:
    """The bounds of all."""
    known = [b for b in bounds if b is not None]
    if not known:
        return None
    return Bounds(
        min(b.west for b in known),
        min(b.south for b in known),
        max(b.east for b in known),
        max(b.north for b in known),
    )


def _kind(geometry: dict[str, Any]) -> tuple[str, int]:
    kind = geometry.get("type")
    if not isinstance(kind, str) or kind not in _COORDINATES:
        raise ValueError(f"geometry {str(kind)[:40]!r}; there are {', '.join(_COORDINATES)}")
    return kind, _COORDINATES[kind]


def _cleaned(given: Any, depth: int) -> Any:
    """Coordinates ``depth`` lists deep, checked."""
    if not isinstance(given, list):
        raise TypeError("coordinates are a list")
    if depth:
        return [_cleaned(part, depth - 1) for part in given]
    if len(given) < 2 or not all(type(part) in (int, float) for part in given[:2]):
        raise ValueError("a position is longitude, latitude")
    x, y = given[0], given[1]
    if not (-180 <= x <= 180 and -90 <= y <= 90):
        raise ValueError(f"{x}, {y} are not degrees of longitude and latitude (WGS 84)")
    return (round(float(x), 6), round(float(y), 6))


def _places(coordinates: Any, depth: int) -> Iterator[Place]:
    if depth == 0:
        yield coordinates
    else:
        for part in coordinates:
            yield from _places(part, depth - 1)
