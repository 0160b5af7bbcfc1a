"""``console.map`` → the base map: GeoJSON files read and checked, a PMTiles file looked at."""

from __future__ import annotations

from pathlib import Path

from gateway.config.settings import MapSettings
from gateway.core.base_map import MAX_BYTES, Archive, BaseMap, Bounds, Layer, Tiles, joined, read_archive, read_layer
from gateway.core.map_lines import Place
from gateway.errors import ConfigError, DecodeError, Mistake

_HEAD = 127  # bytes of a PMTiles file that say what it is


def load_base_map(settings: MapSettings) -> BaseMap:
    """Raises ConfigError with every file that is missing or wrong."""
    mistakes: list[Mistake] = []
    features: list[bytes] = []
    outlines: dict[str, list[list[Place]]] = {}
    bounds: list[Bounds | None] = []
    layers: tuple[tuple[Layer, str, Path | None], ...] = (
        ("outline", "outline", settings.outline),  # below the roads
        ("road", "roads", settings.roads),
    )
    for layer, key, file in layers:
        if file is None:
            continue
        try:
            with file.open("rb") as opened:
                read = read_layer(opened.read(MAX_BYTES + 1), layer)
        except (OSError, DecodeError) as error:
            mistakes.append(_mistake(file, key, error))
            continue
        features += read.features
        outlines |= read.outlines
        bounds.append(read.bounds)
    archive = _archive(settings.pmtiles, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    tiles = settings.tiles
    return BaseMap(
        tuple(features),
        outlines,
        joined(bounds),
        settings.center,
        settings.zoom,
        None if tiles is None else Tiles(tiles.url, tiles.attribution, tiles.gcj02, tiles.max_zoom),
        archive,
    )


def _archive(file: Path | None, mistakes: list[Mistake]) -> Archive | None:
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            return read_archive(opened.read(_HEAD), str(file))
    except (OSError, DecodeError) as error:
        mistakes.append(_mistake(file, "pmtiles", error))
        return None


def _mistake(file: Path, key: str, error: OSError | DecodeError) -> Mistake:
    said = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
    return Mistake(str(file), None, f"console.map.{key}", said)
