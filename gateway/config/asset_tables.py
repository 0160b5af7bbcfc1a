"""Assets and devices as tables that people keep: Excel and GeoJSON in, and CSV, Excel, GeoJSON out in the same shape.

One row an asset with its device; a further device of the asset is a further row that repeats it. What is written here
can be read again by ``config.assets`` and gives the same, but for texts that look like numbers: a cell has no quotes.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from openpyxl import Workbook, load_workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.utils.exceptions import InvalidFileException

from gateway.core.model import SECOND, Asset, Device
from gateway.errors import ConfigError, Mistake

ASSET_COLUMNS = ("asset", "kind", "name", "road", "town", "unit", "longitude", "latitude")
MARKS = ("simulated",)  # columns of true and false, written only where one is true
DEVICE_COLUMNS = ("device", "profile", "address", "expected_interval")
MAX_ROWS = 1_000_000
MAX_COLUMNS = 300
MAX_UNPACKED = 512 << 20  # an Excel file is a zip: one that unpacks to more is an attack or a mistake


# -- in ---------------------------------------------------------------------------------------------------------------


def xlsx_rows(path: Path, file: str) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells as text) of the first sheet. Raises ConfigError for what is no Excel file."""

    def wrong(message: str) -> ConfigError:
        return ConfigError([Mistake(file, None, "", message)])

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED:
                raise wrong(f"unpacks to more than {MAX_UNPACKED >> 20} MiB")
        book = load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise wrong(f"not an Excel file (.xlsx): {error}") from error
    try:
        if not book.worksheets:
            raise wrong("has no sheet")
        for number, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), 1):
            if number > MAX_ROWS or len(cells) > MAX_COLUMNS:
                raise wrong(f"more than {MAX_ROWS:,} rows or {MAX_COLUMNS} columns")
            texts = [cell_text(cell) for cell in cells]
            while texts and not texts[-1]:
                texts.pop()  # Excel remembers columns that were once used
            yield number, texts
    finally:
        book.close()


def geojson_rows(document: Any, file: str) -> Iterator[tuple[int | None, str, list[str]]]:
    """First the columns of all features, then (no line, where it stands, cells) for each. Raises ConfigError for what
    is no collection of points."""
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(document, dict) or document.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise ConfigError([Mistake(file, None, "", "must be a GeoJSON FeatureCollection")])
    rows: list[dict[str, str]] = []
    mistakes: list[Mistake] = []
    for index, feature in enumerate(features):
        where = f"features[{index}]"
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if not isinstance(properties, dict):
            mistakes.append(Mistake(file, None, f"{where}.properties", "must be an object with `asset`, `kind` …"))
            continue
        row = {str(key): cell_text(value) for key, value in properties.items()}
        geometry = feature.get("geometry")
        if geometry is not None:
            place = geometry.get("coordinates") if isinstance(geometry, dict) else None
            numbers = isinstance(place, list) and len(place) in (2, 3) and all(type(n) in (int, float) for n in place)
            if not isinstance(geometry, dict) or geometry.get("type") != "Point" or not numbers:
                mistakes.append(
                    Mistake(file, None, f"{where}.geometry", "must be a Point [longitude, latitude], or null")
                )
                continue
            assert isinstance(place, list)
            row["longitude"], row["latitude"] = cell_text(place[0]), cell_text(place[1])
        rows.append(row)
    if mistakes:
        raise ConfigError(mistakes)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    yield 1, "", columns
    for index, row in enumerate(rows):
        yield None, f"features[{index}].", [row.get(column, "") for column in columns]


def cell_text(value: Any) -> str:
    """A cell as it would stand in a CSV file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else format(Decimal(repr(value)), "f")
    return str(value).strip()


# -- out --------------------------------------------------------------------------------------------------------------


def table(assets: Sequence[Asset], devices: Sequence[Device]) -> tuple[list[str], Iterator[list[Any]]]:
    """Columns, and a row for each asset and device; cells are texts, numbers, truths or None."""
    mounted: dict[str, list[Device | None]] = {}
    for device in devices:
        mounted.setdefault(device.asset, []).append(device)
    links = sorted({name for asset in assets for name in asset.links})
    attributes = sorted({name for asset in assets for name in asset.attributes})
    of_devices = sorted({name for device in devices for name in device.attributes})
    marks = tuple(mark for mark in MARKS if any(getattr(asset, mark) for asset in assets))
    columns = [
        *ASSET_COLUMNS,
        *marks,
        *(f"link.{name}" for name in links),
        *(f"attr.{name}" for name in attributes),
        *DEVICE_COLUMNS,
        *(f"device.{name}" for name in of_devices),
    ]

    nobody: list[Device | None] = [None]

    def rows() -> Iterator[list[Any]]:
        for asset in assets:
            about = [
                *(getattr(asset, column) for column in (*ASSET_COLUMNS, *marks)),
                *(asset.links.get(name) for name in links),
                *(asset.attributes.get(name) for name in attributes),
            ]
            for device in mounted.get(asset.asset, nobody):
                yield about + _device_cells(device, of_devices)

    return columns, rows()


def _device_cells(device: Device | None, attributes: Iterable[str]) -> list[Any]:
    if device is None:
        return [None] * (len(DEVICE_COLUMNS) + len(list(attributes)))
    interval = device.expected_interval
    every = None if interval is None else f"{interval / SECOND:.15g}s"
    return [
        device.device,
        device.profile,
        device.address or None,
        every,
        *(device.attributes.get(name) for name in attributes),
    ]


def to_csv(assets: Sequence[Asset], devices: Sequence[Device]) -> bytes:
    """UTF-8 with a byte-order mark: Excel takes it for what it is."""
    columns, rows = table(assets, devices)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(columns)
    writer.writerows([cell_text(cell) for cell in row] for row in rows)
    return b"\xef\xbb\xbf" + stream.getvalue().encode()


def to_xlsx(assets: Sequence[Asset], devices: Sequence[Device]) -> bytes:
    """One sheet; a text that begins with ``=`` stays a text."""
    columns, rows = table(assets, devices)
    book = Workbook(write_only=True)
    sheet = book.create_sheet("assets")
    sheet.append(columns)
    for row in rows:
        cells = []
        for value in row:
            cell = WriteOnlyCell(sheet, value="" if value is None else value)
            if isinstance(value, str):
                cell.data_type = "s"
            cells.append(cell)
        sheet.append(cells)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def to_geojson(assets: Sequence[Asset], devices: Sequence[Device]) -> bytes:
    """A feature for each row; its properties are the columns that have a value."""
    columns, rows = table(assets, devices)
    features = []
    for row in rows:
        properties: Mapping[str, Any] = {c: v for c, v in zip(columns, row, strict=True) if v not in (None, "")}
        place = [properties.get("longitude"), properties.get("latitude")]
        point = {"type": "Point", "coordinates": place} if None not in place else None
        shown = {c: v for c, v in properties.items() if c not in ("longitude", "latitude")}
        features.append({"type": "Feature", "geometry": point, "properties": shown})
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False).encode()


def document_json(assets: Sequence[Asset], devices: Sequence[Device]) -> bytes:
    """The lists ``assets`` and ``devices`` of an asset file; nothing is lost in it."""
    document = {
        "assets": [
            {column: value for column in ASSET_COLUMNS if (value := getattr(asset, column)) not in (None, "")}
            | ({"links": dict(asset.links)} if asset.links else {})
            | ({"attributes": dict(asset.attributes)} if asset.attributes else {})
            | ({"simulated": True} if asset.simulated else {})
            for asset in assets
        ],
        "devices": [
            {"device": device.device, "asset": device.asset, "profile": device.profile}
            | ({"address": device.address} if device.address else {})
            | ({"expected_interval": device.expected_interval / SECOND} if device.expected_interval else {})
            | ({"attributes": dict(device.attributes)} if device.attributes else {})
            for device in devices
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode()
