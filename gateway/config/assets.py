"""Asset files → assets and devices: what stands in the street, and which electronics are mounted on it.

Three forms say the same things. **YAML** (to 1 MiB) and **JSON** (to 256 MiB) hold two lists::

    assets:
      - {asset: L-001, kind: lamp, road: 水泊大街, longitude: 116.1, latitude: 35.8,
         links: {feeder: F1}, attributes: {rated_power: 100 W}}
    devices:
      - {device: lc-001, asset: L-001, profile: generic/json-lamp, expected_interval: 15s}

**CSV** (to 256 MiB; comma, semicolon or tab; headings in English or Chinese) has one row an asset, with its device in
the same row; a row that repeats an asset mounts one more device on it::

    asset,kind,road,link.feeder,attr.rated_power,device,profile,expected_interval
    L-001,lamp,水泊大街,F1,100 W,lc-001,generic/json-lamp,15s

Attributes are numbers in canonical units, yes/no, or text. A number may carry its unit when the name of the attribute
says what is measured (``ATTRIBUTE_UNITS``, else the ending of the name: ``UNIT_OF_ENDING``); then it is converted.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from gateway.config.asset_tables import ASSET_COLUMNS, DEVICE_COLUMNS, MARKS, geojson_rows, xlsx_rows
from gateway.config.units import convert, duration, quantity
from gateway.config.yaml_source import YamlSource, did_you_mean, read_yaml
from gateway.core.component_code import Layout, layouts_of, parse_component_code
from gateway.core.modbus_address import is_modbus_address, parse_address
from gateway.core.model import HOUR, SECOND, Asset, Device, Micros
from gateway.core.vocabulary import KINDS
from gateway.errors import ConfigError, Mistake

Attributes: TypeAlias = dict[str, str | float | bool]
Found: TypeAlias = tuple[list[Asset], list[Device]]

MAX_BYTES = 256 << 20  # a million assets are 200 MB as CSV: ten times the largest city we know of
MAX_MISTAKES = 200  # a wrong column makes one mistake a row; nobody reads more than the first screens
MAX_TEXT = 200  # characters of a name; the longest official road name in the county has 31
LONGEST_INTERVAL: Micros = 366 * 24 * HOUR

# Kinds that measure nothing themselves and stand in the cause graph only.
ASSET_KINDS: tuple[str, ...] = (*KINDS, "network", "catchment", "area")

LINKS: tuple[str, ...] = ("feeder", "network", "catchment", "station", "area", "before", "after")

ATTRIBUTE_UNITS: dict[str, str] = {
    "rated_power": "W", "rated_current": "A", "rated_voltage": "V", "rated_flow": "m³/h",
    "mount_height": "m", "ground": "m", "diameter": "m", "invert": "m", "start_level": "m", "stop_level": "m",
    "L1": "m", "L2": "m", "L3": "m", "L4": "m", "L5": "m", "L6": "m",
    "baseline_tilt": "deg", "baseline_x": "deg", "baseline_y": "deg", "baseline_z": "deg",
    "posted_limit": "t", "design_strain": "µε", "design_deflection": "mm", "span": "m",
}  # fmt: skip

UNIT_OF_ENDING: dict[str, str] = {
    "_power": "W", "_current": "A", "_voltage": "V", "_height": "m", "_depth": "m", "_level": "m", "_length": "m",
    "_width": "m", "_area": "m²", "_volume": "m³", "_flow": "m³/h", "_temp": "°C", "_weight": "t", "_strain": "µε",
    "_speed": "km/h", "_angle": "deg",
}  # fmt: skip

# Of these, zero or less is a slip of the pen, and a limit derived from it would alarm for ever or never.
POSITIVE: frozenset[str] = frozenset(
    {"rated_power", "rated_current", "rated_voltage", "rated_flow", "mount_height", "diameter", "posted_limit",
     "design_strain", "design_deflection", "span"}
)  # fmt: skip

# Digits that are names, not numbers: 0004 must stay 0004 in a CSV cell, where nothing can be quoted.
TEXT_ATTRIBUTES: frozenset[str] = frozenset(
    {
        "serial",
        "model",
        "maker",
        "material",
        "contract",
        "phone",
        "pole",
        "plate",
        "eui",
        "imei",
        "iccid",
        "firmware",
        "component_code",
    }
)

COMPONENT_CODE = "component_code"  # of the city's platform, 16 digits

HEADINGS: dict[str, str] = {
    "资产": "asset", "资产编号": "asset", "类型": "kind", "名称": "name", "道路": "road", "乡镇": "town",
    "权属单位": "unit", "经度": "longitude", "纬度": "latitude", "设备": "device", "设备编号": "device",
    "设备型号": "profile", "部件编码": "attr.component_code", "地址": "address", "上报周期": "expected_interval",
}  # fmt: skip

_ASSET_KEYS = (
    "asset",
    "kind",
    "name",
    "road",
    "town",
    "unit",
    "longitude",
    "latitude",
    "links",
    "attributes",
    "simulated",
)
_DEVICE_KEYS = ("device", "asset", "profile", "address", "expected_interval", "attributes")
ENDINGS = (".csv", ".xlsx", ".geojson", ".yaml", ".yml", ".json")
_PREFIXES = ("link.", "attr.", "device.")  # device.NAME is an attribute of the device

_ASSET_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dot: it is one level of an MQTT topic, and a subject token in nats
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][-+]?\d{1,2})?")  # 15 digits survive a float
_BEGINS_A_NUMBER = re.compile(r"\s*[-+]?\d")  # risk_level: high is a text, mast_height: 8 m a number
_WITH_UNIT = re.compile(r"[-+]?\d+(?:\.\d+)?\s*([^\d\s.].*)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Where: TypeAlias = Callable[[str], tuple[int | None, str]]  # a key of an entry → its line and how to call it


def load_assets(
    text: str | Path,
    file_name: str,
    profile_ids: Collection[str],
    known_assets: Collection[str] | None = (),
    layout: Layout | None = None,
) -> Found:
    """The assets and devices of one file.

    ``text`` is the content, or the path to read it from; the ending of ``file_name`` (.csv, .yaml, .yml, .json) tells
    the form, and it is what mistakes are said to be in. ``known_assets`` are those the gateway has already: devices
    and links may name them; None when they cannot be known here: then any may be named. ``layout``: of the city's
    component codes, None when either may stand there. Raises ConfigError with all mistakes (the first
    ``MAX_MISTAKES``).
    """
    return load_asset_files({file_name: text}, profile_ids, known_assets, layout)


def load_asset_files(
    files: Mapping[str, str | Path],
    profile_ids: Collection[str],
    known_assets: Collection[str] | None = (),
    layout: Layout | None = None,
) -> Found:
    """As ``load_assets`` for several files that may speak of one another's assets; ids are unique over all of them."""
    book = _Book(profile_ids, known_assets or (), layout)
    for file, text in files.items():
        try:
            _read_file(text, file, book)
        except ConfigError as error:
            book.mistakes.extend(error.mistakes)
    if known_assets is not None:
        book.check_references()
    if book.mistakes:
        found = list(dict.fromkeys(book.mistakes))  # a CSV row without its asset is wrong as an asset and as a device
        if len(found) > MAX_MISTAKES:
            more = Mistake(found[MAX_MISTAKES].file, None, "", f"and {len(found) - MAX_MISTAKES} more mistakes")
            found = [*found[:MAX_MISTAKES], more]
        raise ConfigError(found)
    return list(book.assets.values()), list(book.devices.values())


class _Book:
    """What has been read so far, from which line, and what was wrong with it."""

    def __init__(self, profile_ids: Collection[str], known_assets: Collection[str], layout: Layout | None) -> None:
        self.profile_ids = frozenset(profile_ids)
        self.layout = layout
        self.known_assets = frozenset(known_assets)
        self.assets: dict[str, Asset] = {}
        self.devices: dict[str, Device] = {}
        self.mistakes: list[Mistake] = []
        self.named: set[str] = set()  # asset ids that stand somewhere, even in an entry with a mistake
        self._first: dict[tuple[str, str], _Entry] = {}  # (what, id) → the entry where it first stood
        self._references: list[tuple[str, str, str, Where]] = []  # (asset named, key, file, where)

    def add_asset(self, given: Mapping[str, Any], file: str, where: Where) -> None:
        entry = _Entry(given, file, where, self.mistakes)
        asset_id = entry.identifier("asset", _ASSET_ID, "A-Z a-z 0-9 . _ -")
        if asset_id is not None:
            self.named.add(asset_id)
            if asset_id == "gateway":
                entry.wrong("asset", "`gateway` is citywatch itself: choose another id")
            self._once(entry, "asset", asset_id)
        kind = entry.one_of("kind", ASSET_KINDS, "kind")
        links = entry.links()
        for link, parent in links.items():
            if parent == asset_id:
                entry.wrong(f"links.{link}", "an asset cannot be linked to itself")
            self._references.append((parent, f"links.{link}", file, where))
        longitude = entry.coordinate("longitude", 180.0)
        latitude = entry.coordinate("latitude", 90.0)
        if (longitude is None) != (latitude is None) and not entry.failed:
            missing = "latitude" if latitude is None else "longitude"
            entry.wrong(missing, f"`{missing}` is missing: give both coordinates or neither")
        texts = {key: entry.text(key) for key in ("name", "road", "town", "unit")}
        attributes = entry.attributes(self.layout)
        simulated = entry.truth("simulated")
        if not entry.failed and asset_id is not None and kind is not None:
            self.assets[asset_id] = Asset(
                asset_id,
                kind,
                **texts,
                longitude=longitude,
                latitude=latitude,
                links=links,
                attributes=attributes,
                simulated=simulated,
            )

    def add_device(self, given: Mapping[str, Any], file: str, where: Where) -> None:
        entry = _Entry(given, file, where, self.mistakes)
        device_id = entry.identifier("device", _DEVICE_ID, "A-Z a-z 0-9 _ -")
        asset_id = entry.identifier("asset", _ASSET_ID, "A-Z a-z 0-9 . _ -")
        profile = entry.one_of("profile", self.profile_ids, "profile")
        address = entry.address()
        interval = entry.interval()
        attributes = entry.attributes(self.layout)
        if device_id is not None and self._once(entry, "device", device_id):
            self._once(entry, "address", address or device_id)
        if asset_id is not None:
            self._references.append((asset_id, "asset", file, where))
        if not entry.failed and device_id is not None and asset_id is not None and profile is not None:
            self.devices[device_id] = Device(device_id, asset_id, profile, address, interval, attributes)

    def check_references(self) -> None:
        """Every asset that a device or a link names must stand in a file, or be known."""
        near: dict[str, str] = {}  # one search for a misspelling that stands in a thousand rows
        for named, key, file, where in self._references:
            if named in self.named or named in self.known_assets:
                continue
            if named not in near:
                near[named] = did_you_mean(named, self.named | self.known_assets) if len(near) < 20 else ""
            line, label = where(key)
            self.mistakes.append(Mistake(file, line, label, f"there is no asset `{named}`{near[named]}"))

    def _once(self, entry: _Entry, what: str, name: str) -> bool:
        first = self._first.setdefault((what, name), entry)
        if first is not entry:
            line, label = first.where(what)
            place = f"{first.file}: {label}" if line is None else f"{first.file}:{line}"
            entry.wrong(what, f"`{name}` stands already at {place}")
        return first is entry


class _Entry:
    """One asset or device as written; every question notes its own mistake."""

    def __init__(self, given: Mapping[str, Any], file: str, where: Where, mistakes: list[Mistake]) -> None:
        self.given = given
        self.file = file
        self.where = where
        self.failed = False
        self._mistakes = mistakes

    def wrong(self, key: str, message: str) -> None:
        self.failed = True
        line, label = self.where(key)
        self._mistakes.append(Mistake(self.file, line, label, message))

    def text(self, key: str) -> str:
        value = self.given.get(key)
        if value is None or value == "":
            return ""
        if not isinstance(value, str):
            self.wrong(key, f"must be text: write it in quotes ({json.dumps(value, ensure_ascii=False)!s:.60})")
            return ""
        if len(value) > MAX_TEXT:
            self.wrong(key, f"longer than {MAX_TEXT} characters")
        elif _UNPRINTABLE.search(value):
            self.wrong(key, "holds a control character")
        return value.strip()

    def truth(self, key: str) -> bool:
        value = self.given.get(key)
        if value in (None, ""):
            return False
        if value not in (True, False, "true", "false"):
            self.wrong(key, f"must be true or false, not {value!r:.40}")
        return value in (True, "true")

    def identifier(self, key: str, pattern: re.Pattern[str], allowed: str) -> str | None:
        """An id, None after a mistake."""
        value = self.given.get(key)
        if value is None or value == "":
            self.wrong(key, f"`{key}` is missing")
        elif not isinstance(value, str):
            self.wrong(key, f"an id is text: write it in quotes ({json.dumps(value, ensure_ascii=False)!s:.60})")
        elif not pattern.fullmatch(value):
            self.wrong(key, f"`{value[:80]}` is not an id: up to 64 of {allowed}")
        else:
            return value
        return None

    def one_of(self, key: str, known: Collection[str], what: str) -> str | None:
        value = self.text(key)
        if value in known:
            return value
        if not value:
            if not self.failed or self.given.get(key) in (None, ""):
                self.wrong(key, f"`{key}` is missing")
        else:
            self.wrong(key, f"there is no {what} `{value}`{did_you_mean(value, known)}")
        return None

    def coordinate(self, key: str, limit: float) -> float | None:
        """Degrees within ±``limit``; None when not given."""
        value = self.given.get(key)
        if value is None or value == "":
            return None
        number = _number(value)
        if number is None:
            self.wrong(key, f"must be degrees as a decimal number, not {value!r:.40}")
        elif abs(number) > limit:
            hint = " (longitude and latitude exchanged?)" if key == "latitude" and abs(number) <= 180 else ""
            self.wrong(key, f"{number:g} is outside ±{limit:g} degrees{hint}")
        return number

    def interval(self) -> Micros | None:
        value = self.given.get("expected_interval")
        if value is None or value == "":
            return None
        try:
            length = duration(value)
        except (ValueError, TypeError, AttributeError, OverflowError):
            self.wrong("expected_interval", f"not a duration: {value!r:.40} (write 15s, 10m, 12h)")
            return None
        if not SECOND <= length <= LONGEST_INTERVAL:
            self.wrong("expected_interval", "must lie between 1s and 366d")
        return length

    def address(self) -> str:
        """As given; an endpoint must be complete and possible."""
        value = self.text("address")
        if re.search(r"\s", value):
            self.wrong("address", "must not hold blanks")
        elif is_modbus_address(value):
            try:
                parse_address(value)
            except ValueError as error:
                self.wrong("address", str(error))
        return value

    def links(self) -> dict[str, str]:
        links: dict[str, str] = {}
        for name, value in self._mapping("links"):
            key = f"links.{name}"
            if name not in LINKS and (near := did_you_mean(name, LINKS)):
                self.wrong(key, f"no such link{near}")
            elif not isinstance(value, str) or not _ASSET_ID.fullmatch(value):
                self.wrong(key, f"must be the id of an asset, not {value!r:.60}")
            else:
                links[name] = value
        return links

    def attributes(self, layout: Layout | None) -> Attributes:
        attributes: Attributes = {}
        for name, value in self._mapping("attributes"):
            try:
                attributes[name] = attribute(name, value, layout)
            except ValueError as error:
                self.wrong(f"attributes.{name}", str(error))
        return attributes

    def _mapping(self, key: str) -> Iterator[tuple[str, Any]]:
        """The named values under ``key``, empty ones left out."""
        given = self.given.get(key)
        if given is None:
            return
        if not isinstance(given, Mapping):
            self.wrong(key, "must be a mapping of names to values")
            return
        for name, value in given.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                self.wrong(key, f"`{name!s:.80}` is not a name: a letter, then up to 63 letters, digits and _")
            elif value is not None and value != "":
                yield name, value


def attribute_unit(name: str) -> str | None:
    """The canonical unit of the attribute ``name``; None when its name does not tell."""
    if name in ATTRIBUTE_UNITS:
        return ATTRIBUTE_UNITS[name]
    return next((unit for ending, unit in UNIT_OF_ENDING.items() if name.endswith(ending)), None)


def attribute(name: str, value: Any, layout: Layout | None = None) -> str | float | bool:
    """One attribute as it is kept: ``attribute("rated_power", "0.1 kW")`` = 100.0. ``layout``: see ``load_assets``.
    Raises ValueError."""
    if not isinstance(value, (str, int, float)):
        raise ValueError("must be a number, true or false, or text")
    if name == COMPONENT_CODE:
        return _component_code(str(value), layout)
    unit = attribute_unit(name)
    if unit is not None and (name in ATTRIBUTE_UNITS or not isinstance(value, str) or _BEGINS_A_NUMBER.match(value)):
        number = quantity(value, unit)
        if not math.isfinite(number):
            raise ValueError("must be a finite number")
        if number <= 0 and name in POSITIVE:
            raise ValueError(f"must be more than 0 {unit}, not {number:g}")
        return number
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value) or float(value) != value:
            raise ValueError("must be a finite number of at most 15 digits")
        return float(value)
    if len(value) > MAX_TEXT or _UNPRINTABLE.search(value):
        raise ValueError(f"must be text of at most {MAX_TEXT} characters, without control characters")
    if name not in TEXT_ATTRIBUTES and (match := _WITH_UNIT.fullmatch(value)) and _is_unit(match[1]):
        # Kept as text, a limit that refers to it could never hold: better said now.
        raise ValueError(
            f"`{value}` carries a unit, but what `{name}` measures is not known"
            + (did_you_mean(name, ATTRIBUTE_UNITS) or "; end the name in _height, _power, … or write a bare number")
        )
    return value


def _component_code(text: str, layout: Layout | None) -> str:
    if layout is None:
        layouts_of(text)
        return text
    try:
        parse_component_code(text, layout)
    except ValueError as error:
        raise ValueError(f"{error} (site.component_code_layout is {layout})") from error
    return text


def _is_unit(written: str) -> bool:
    known = {*ATTRIBUTE_UNITS.values(), *UNIT_OF_ENDING.values(), "mm", "kg", "g", "s", "h", "kPa", "ha", "%"}
    for unit in known:
        try:
            convert(1.0, written.strip(), unit)
        except ValueError:
            continue
        return True
    return False


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d{1,4}(\.\d{1,20})?", value):
        value = float(value)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


# --- the three forms ---------------------------------------------------------------------------------------------


def _read_file(text: str | Path, file: str, book: _Book) -> None:
    ending = Path(file).suffix.lower()
    if ending not in ENDINGS:
        raise ConfigError([Mistake(file, None, "", f"must end in {', '.join(ENDINGS)}: the ending tells the form")])
    if ending == ".xlsx":
        if not isinstance(text, Path):
            raise ConfigError([Mistake(file, None, "", "an Excel file is read from the disk only")])
        _read_rows(((line, "", cells) for line, cells in xlsx_rows(text, file)), file, book)
        return
    if isinstance(text, Path):
        text = _read_path(text, file)
    text = text.removeprefix("\ufeff")
    if ending == ".csv":
        _read_csv(text, file, book)
    elif ending == ".geojson":
        _read_rows(geojson_rows(_parse_json(text, file).data, file), file, book)
    elif ending == ".json":
        _read_document(_parse_json(text, file), book)
    elif len(text) > (1 << 20):
        raise ConfigError([Mistake(file, None, "", "larger than 1 MiB: write so many assets as .csv or .json")])
    else:
        _read_document(read_yaml(text, file), book)


def _read_path(path: Path, file: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Mistake(file, None, "", f"cannot be read: {error.strerror or error}")]) from error
    if len(content) > MAX_BYTES:
        raise ConfigError([Mistake(file, None, "", f"larger than {MAX_BYTES >> 20} MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = "not UTF-8: save the file as UTF-8 (in Excel: “CSV UTF-8”, 在 Excel 中另存为“CSV UTF-8”)"
        raise ConfigError([Mistake(file, line, "", message)]) from error


def _parse_json(text: str, file: str) -> YamlSource:
    mistakes: list[Mistake] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            mistakes.append(Mistake(file, None, twice, "this key stands here twice"))
        return result

    try:
        data = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError([Mistake(file, error.lineno, "", f"not valid JSON: {error.msg}")]) from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer of more than 4,300 digits
        raise ConfigError([Mistake(file, None, "", f"not valid JSON: {str(error)[:200]}")]) from error
    if mistakes:
        raise ConfigError(mistakes)
    return YamlSource(file, data, {})


def _read_document(source: YamlSource, book: _Book) -> None:
    """Two lists, ``assets`` and ``devices``."""
    data = {} if source.data is None else source.data
    if not isinstance(data, dict):
        raise ConfigError([Mistake(source.file, 1, "", "must be a mapping with the lists `assets` and `devices`")])
    for key, entries in data.items():
        if key not in ("assets", "devices"):
            message = "no such key" + did_you_mean(str(key), ("assets", "devices"))
            book.mistakes.append(source.mistake((key,), message))
        elif entries is not None and not isinstance(entries, list):
            book.mistakes.append(source.mistake((key,), "must be a list"))
        else:
            known = _ASSET_KEYS if key == "assets" else _DEVICE_KEYS
            add = book.add_asset if key == "assets" else book.add_device
            for index, given in enumerate(entries or ()):
                if not isinstance(given, dict):
                    book.mistakes.append(source.mistake((key, index), "must be a mapping"))
                    continue
                for unknown in (name for name in given if name not in known):
                    message = "no such key" + did_you_mean(str(unknown), known)
                    book.mistakes.append(source.mistake((key, index, str(unknown)), message))
                add(given, source.file, _in_document(source, key, index))


def _in_document(source: YamlSource, key: str, index: int) -> Where:
    def where(inner: str) -> tuple[int | None, str]:
        mistake = source.mistake((key, index, *inner.split(".")), "")
        return mistake.line, mistake.key

    return where


def _read_csv(text: str, file: str, book: _Book) -> None:
    heading = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    _read_rows(((line, "", cells) for line, cells in _csv_rows(reader, file)), file, book)


def _read_rows(rows: Iterator[tuple[int | None, str, list[str]]], file: str, book: _Book) -> None:
    """(line, where it stands, cells) of a table whose first row names the columns."""
    first = next(rows, None)
    if first is None:
        raise ConfigError([Mistake(file, None, "", "is empty: the first line must name the columns")])
    columns = _columns(first[2], file)
    seen: dict[str, list[str]] = {}  # asset → the cells of its first row
    about_asset = [
        i for i, c in enumerate(columns) if c in (*ASSET_COLUMNS, *MARKS) or c.startswith(("link.", "attr."))
    ]
    for line, place, cells in rows:
        if not any(cells):
            continue
        if len(cells) > len(columns):
            message = f"{len(cells)} cells, but there are {len(columns)} columns"
            book.mistakes.append(Mistake(file, line, place, message))
            continue
        cells += [""] * (len(columns) - len(cells))
        row = dict(zip(columns, cells, strict=True))
        where = _in_row(line, place, row)
        before = seen.get(row["asset"]) if row["asset"] else None
        has_device = any(row.get(c) for c in DEVICE_COLUMNS) or any(row[c] for c in row if c.startswith("device."))
        if before is None or not has_device or any(cells[i] not in ("", before[i]) for i in about_asset):
            # The second time this says: stands already at …
            book.add_asset(_csv_asset(row), file, where)
            seen.setdefault(row["asset"], cells)
        if has_device:
            book.add_device(_csv_device(row), file, where)


def _csv_rows(reader: Any, file: str) -> Iterator[tuple[int, list[str]]]:
    """(line where the row begins, its cells without blanks around them)."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigError([Mistake(file, line, "", f"not valid CSV: {error}")]) from error
        yield line, [cell.strip() for cell in cells]


def _columns(cells: list[str], file: str) -> list[str]:
    columns = [HEADINGS.get(cell, cell) for cell in cells]
    known = (*ASSET_COLUMNS, *MARKS, *DEVICE_COLUMNS)
    mistakes = []
    for column in columns:
        prefix, _, name = column.partition(".")
        if column not in known and not (f"{prefix}." in _PREFIXES and _NAME.fullmatch(name)):
            near = did_you_mean(column, known) or "; there are " + ", ".join((*known, *(p + "NAME" for p in _PREFIXES)))
            mistakes.append(Mistake(file, 1, column, f"no such column{near}"))
    for column in {c for c in columns if columns.count(c) > 1}:
        mistakes.append(Mistake(file, 1, column, "this column stands here twice"))
    if "asset" not in columns:
        mistakes.append(Mistake(file, 1, "asset", "the column `asset` is missing"))
    if mistakes:
        raise ConfigError(mistakes)
    return columns


def _csv_asset(row: Mapping[str, str]) -> dict[str, Any]:
    asset: dict[str, Any] = {column: row[column] for column in ASSET_COLUMNS if column in row}
    asset |= {mark: row[mark].lower() for mark in MARKS if mark in row}  # Excel writes TRUE into a CSV file
    asset["links"] = dict(_cells_under("link.", row.items()))
    asset["attributes"] = {name: _cell(name, text) for name, text in _cells_under("attr.", row.items())}
    return asset


def _csv_device(row: Mapping[str, str]) -> dict[str, Any]:
    device: dict[str, Any] = {column: row[column] for column in DEVICE_COLUMNS if column in row}
    device["asset"] = row["asset"]
    device["attributes"] = {name: _cell(name, text) for name, text in _cells_under("device.", row.items())}
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", interval := row.get("expected_interval", "")):
        device["expected_interval"] = float(interval)  # a bare number is seconds, as in YAML
    return device


def _cells_under(prefix: str, cells: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((column.removeprefix(prefix), text) for column, text in cells if column.startswith(prefix) and text)


def _cell(name: str, text: str) -> str | float | bool:
    """A CSV cell of an attribute: YAML would know a number from a text by its quotes."""
    if name in TEXT_ATTRIBUTES:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return float(text) if _NUMBER.fullmatch(text) else text


def _in_row(line: int | None, place: str, row: Mapping[str, str]) -> Where:
    def where(key: str) -> tuple[int | None, str]:
        key = key.replace("links.", "link.")
        if key.startswith("attributes."):
            name = key.removeprefix("attributes.")
            key = f"attr.{name}" if f"attr.{name}" in row else f"device.{name}"
        return line, place + key

    return where
