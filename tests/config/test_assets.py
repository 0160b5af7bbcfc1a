"""Asset files: what is taken, what it becomes, and what a wrong cell is answered."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.assets import attribute, load_asset_files, load_assets
from gateway.core.assets_json import parse_assets, to_json
from gateway.core.model import MINUTE, SECOND, Asset, Device
from gateway.errors import ConfigError, DecodeError

PROFILES = ("generic/json-lamp", "generic/json-feeder", "generic/pump-station-3p")

CSV = """\
asset,kind,name,road,town,unit,longitude,latitude,link.feeder,attr.rated_power,device,profile,address,expected_interval
F1,feeder,一号箱,水泊大街,水泊街道,路灯所,116.1,35.8,,,fc-1,generic/json-feeder,,1m
L-001,lamp,1 号灯,水泊大街,水泊街道,路灯所,116.11,35.81,F1,0.1 kW,lc-1,generic/json-lamp,lc-1,15s
"""

CHINESE_HEADINGS = (
    "资产编号,类型,名称,道路,乡镇,权属单位,经度,纬度,link.feeder,attr.rated_power,设备编号,设备型号,地址,上报周期\n"
)

YAML = """\
assets:
  - {asset: F1, kind: feeder, name: 一号箱, road: 水泊大街, town: 水泊街道, unit: 路灯所,
     longitude: 116.1, latitude: 35.8}
  - asset: L-001
    kind: lamp
    name: 1 号灯
    road: 水泊大街
    town: 水泊街道
    unit: 路灯所
    longitude: 116.11
    latitude: 35.81
    links: {feeder: F1}
    attributes: {rated_power: 100 W}
devices:
  - {device: fc-1, asset: F1, profile: generic/json-feeder, expected_interval: 60}
  - {device: lc-1, asset: L-001, profile: generic/json-lamp, address: lc-1, expected_interval: 15s}
"""

EXPECTED = (
    [
        Asset("F1", "feeder", "一号箱", "水泊大街", "水泊街道", "路灯所", 116.1, 35.8),
        Asset("L-001", "lamp", "1 号灯", "水泊大街", "水泊街道", "路灯所", 116.11, 35.81, {"feeder": "F1"},
              {"rated_power": 100.0}),
    ],
    [
        Device("fc-1", "F1", "generic/json-feeder", "", MINUTE),
        Device("lc-1", "L-001", "generic/json-lamp", "lc-1", 15 * SECOND),
    ],
)  # fmt: skip


def mistakes(text: str, file: str, known: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_assets(text, file, PROFILES, known)
    return [str(m) for m in caught.value.mistakes]


def row(cells: str, columns: str = "asset,kind,device,profile") -> str:
    return f"{columns}\n{cells}\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("city.csv", CSV),
        ("with-bom.csv", "\ufeff" + CSV),
        ("excel.csv", CSV.replace(",", ";").replace("\n", "\r\n")),
        ("tabs.csv", CSV.replace(",", "\t")),
        ("blank-lines.csv", CSV.replace("\n", "\n\n")),
        ("chinese-headings.csv", CHINESE_HEADINGS + CSV[CSV.index("F1,") :]),
        ("city.yaml", YAML),
    ],
)  # fmt: skip
def test_every_form_says_the_same(file: str, text: str) -> None:
    assert load_assets(text, file, PROFILES) == EXPECTED


def test_json_says_the_same_as_yaml_and_may_be_large() -> None:
    entry = {"kind": "lamp", "attributes": {"rated_power": "100 W"}}
    document = {"assets": [{"asset": f"L-{n:05d}", **entry} for n in range(20_000)]}
    text = json.dumps(document)
    assert len(text) > 1 << 20
    assets, devices = load_assets(text, "city.json", PROFILES)
    assert (len(assets), devices) == (20_000, [])
    assert assets[-1] == Asset("L-19999", "lamp", attributes={"rated_power": 100.0})


def test_a_file_is_read_from_its_path_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        path = tmp_path / "city.csv"
        path.write_text(CSV, encoding=encoding)
        assert load_assets(path, str(path), PROFILES) == EXPECTED


def test_a_file_in_gbk_names_the_line_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "city.csv"
    path.write_text(CSV, encoding="gbk")
    with pytest.raises(ConfigError, match=r"city\.csv:2: not UTF-8: .*CSV UTF-8"):
        load_assets(path, "city.csv", PROFILES)


def test_a_row_that_repeats_an_asset_mounts_one_more_device() -> None:
    text = "asset,kind,road,device,profile\nB1,bridge,r,d1,generic/json-lamp\nB1,,,d2,generic/json-lamp\n"
    assets, devices = load_assets(text, "a.csv", PROFILES)
    assert [a.asset for a in assets] == ["B1"]
    assert [(d.device, d.asset) for d in devices] == [("d1", "B1"), ("d2", "B1")]


def test_a_file_may_name_assets_of_another_file_and_of_the_gateway() -> None:
    files: dict[str, str | Path] = {
        "lamps.csv": row("L-1,lamp,F1,", "asset,kind,link.feeder,link.station"),
        "feeders.csv": row("F1,feeder,PS-1", "asset,kind,link.station"),
    }
    assets, _ = load_asset_files(files, PROFILES, known_assets=["PS-1"])
    assert [a.links for a in assets] == [{"feeder": "F1"}, {"station": "PS-1"}]

    lamps = row("L-1,lamp,F1", "asset,kind,link.feeder")
    assert load_assets(lamps, "a.csv", PROFILES, known_assets=None)[0][0].links == {"feeder": "F1"}


def test_all_mistakes_of_all_files_come_at_once() -> None:
    files: dict[str, str | Path] = {"a.csv": row("L 1,lamp,,"), "b.yaml": "assets: [{asset: L-1}]", "c.txt": ""}
    with pytest.raises(ConfigError) as caught:
        load_asset_files(files, PROFILES)
    assert [(m.file, m.line, m.key) for m in caught.value.mistakes] == [
        ("a.csv", 2, "asset"),
        ("b.yaml", 1, "assets[0].kind"),
        ("c.txt", None, ""),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (row("L-1,lmap,,"), "a.csv:2: kind: there is no kind `lmap`: did you mean `lamp`?"),
        (row("L-1,,,"), "a.csv:2: kind: `kind` is missing"),
        (row(",lamp,d,generic/json-lamp"), "a.csv:2: asset: `asset` is missing"),
        (row("L/1,lamp,,"), "a.csv:2: asset: `L/1` is not an id: up to 64 of A-Z a-z 0-9 . _ -"),
        (row("灯一,lamp,,"), "a.csv:2: asset: `灯一` is not an id: up to 64 of A-Z a-z 0-9 . _ -"),
        (row("L-1,lamp,d.1,generic/json-lamp"), "a.csv:2: device: `d.1` is not an id: up to 64 of A-Z a-z 0-9 _ -"),
        (row("L-1,lamp,d,generic/json-lmap"),
         "a.csv:2: profile: there is no profile `generic/json-lmap`: did you mean `generic/json-lamp`?"),
        (row("L-1,lamp,d,"), "a.csv:2: profile: `profile` is missing"),
        (row("gateway,lamp,,"), "a.csv:2: asset: `gateway` is citywatch itself: choose another id"),
        (row("L-1,lamp,,\nL-1,lamp,,"), "a.csv:3: asset: `L-1` stands already at a.csv:2"),
        (row("L-1,lamp,d,generic/json-lamp\nL-2,lamp,d,generic/json-lamp"),
         "a.csv:3: device: `d` stands already at a.csv:2"),
        (row("L-1,lamp,,,,"), "a.csv:2: 6 cells, but there are 4 columns"),
        (row('L-1,"lamp,,'), "a.csv:2: not valid CSV: unexpected end of data"),
        (row("L-1,lamp", "asset,knid"), "a.csv:1: knid: no such column: did you mean `kind`?"),
        (row("L-1,lamp,lamp", "asset,kind,kind"), "a.csv:1: kind: this column stands here twice"),
        (row("lamp", "kind"), "a.csv:1: asset: the column `asset` is missing"),
        ("", "a.csv: is empty: the first line must name the columns"),
        (row("L-1,lamp,35.8,116.1", "asset,kind,longitude,latitude"),
         "a.csv:2: latitude: 116.1 is outside ±90 degrees (longitude and latitude exchanged?)"),
        (row("L-1,lamp,116.1", "asset,kind,longitude"),
         "a.csv:2: latitude: `latitude` is missing: give both coordinates or neither"),
        (row("L-1,lamp,nan,1", "asset,kind,longitude,latitude"),
         "a.csv:2: longitude: must be degrees as a decimal number, not 'nan'"),
        (row("L-1,lamp,F9", "asset,kind,link.feeder"), "a.csv:2: link.feeder: there is no asset `F9`"),
        (row("L-1,lamp,L-1", "asset,kind,link.feeder"),
         "a.csv:2: link.feeder: an asset cannot be linked to itself"),
        (row("L-1,lamp,F1", "asset,kind,link.feedr"),
         "a.csv:2: link.feedr: no such link: did you mean `feeder`?"),
        (row("L-1,lamp,10 cm", "asset,kind,attr.rated_power"),
         "a.csv:2: attr.rated_power: 'cm' cannot be converted to 'W'"),
        (row("L-1,lamp,0", "asset,kind,attr.rated_power"),
         "a.csv:2: attr.rated_power: must be more than 0 W, not 0"),
        (row("L-1,lamp,100 W", "asset,kind,attr.rated_powr"),
         "a.csv:2: attr.rated_powr: `100 W` carries a unit, but what `rated_powr` measures is not known: "
         "did you mean `rated_power`?"),
        (row("L-1,lamp,d,generic/json-lamp,soon", "asset,kind,device,profile,expected_interval"),
         "a.csv:2: expected_interval: not a duration: 'soon' (write 15s, 10m, 12h)"),
        (row("L-1,lamp,d,generic/json-lamp,0s", "asset,kind,device,profile,expected_interval"),
         "a.csv:2: expected_interval: must lie between 1s and 366d"),
        (row("L-1,lamp,d,generic/json-lamp,10.0.0.7:502", "asset,kind,device,profile,address"),
         "a.csv:2: address: not a Modbus address: '10.0.0.7:502' (write host:port/unit, like 10.0.0.7:502/1; "
         "rtu://host:port/unit; serial:/dev/ttyS1:9600:8N1/unit)"),
        (row("L-1,lamp,d,generic/json-lamp,h:0/1", "asset,kind,device,profile,address"),
         "a.csv:2: address: not a port: 0"),
        (row("L-1,lamp,a\x1b[31mb", "asset,kind,name"), "a.csv:2: name: holds a control character"),
        (row(f"L-1,lamp,{'x' * 201}", "asset,kind,name"), "a.csv:2: name: longer than 200 characters"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_named_by_line_and_column(text: str, expected: str) -> None:
    assert mistakes(text, "a.csv") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- 1", "a.yaml:1: must be a mapping with the lists `assets` and `devices`"),
        ("asets: []", "a.yaml:1: asets: no such key: did you mean `assets`?"),
        ("assets: {}", "a.yaml:1: assets: must be a list"),
        ("assets: [L-1]", "a.yaml:1: assets[0]: must be a mapping"),
        ("assets:\n- {asset: 17, kind: lamp}", "a.yaml:2: assets[0].asset: an id is text: write it in quotes (17)"),
        ("assets:\n- asset: L-1\n  kind: lamp\n  raod: r",
         "a.yaml:4: assets[0].raod: no such key: did you mean `road`?"),
        ("assets:\n- {asset: L-1, kind: lamp}\n- {asset: L-1, kind: lamp}",
         "a.yaml:3: assets[1].asset: `L-1` stands already at a.yaml:2"),
        ("assets:\n- {asset: L-1, kind: lamp, attributes: {x: .nan}}",
         "a.yaml:2: assets[0].attributes.x: must be a finite number of at most 15 digits"),
        ("assets:\n- {asset: L-1, kind: lamp, attributes: {x: [1]}}",
         "a.yaml:2: assets[0].attributes.x: must be a number, true or false, or text"),
        ("assets:\n- {asset: L-1, kind: lamp, links: {feeder: 3}}",
         "a.yaml:2: assets[0].links.feeder: must be the id of an asset, not 3"),
        ("assets:\n- {asset: L-1, kind: lamp, attributes: 3}",
         "a.yaml:2: assets[0].attributes: must be a mapping of names to values"),
        ("devices:\n- {device: d, asset: L-1, profile: generic/json-lamp}",
         "a.yaml:2: devices[0].asset: there is no asset `L-1`"),
        ("assets: [", "a.yaml:1: not valid YAML: did not find expected node content"),
        ("#" * (1 << 20) + "\n", "a.yaml: larger than 1 MiB: write so many assets as .csv or .json"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named_by_line_and_path(text: str, expected: str) -> None:
    assert mistakes(text, "a.yaml") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"assets": [{"asset": "L-1", "kind": "lamp"}, {"asset": "L-1", "kind": "lamp"}]}',
         "a.json: assets[1].asset: `L-1` stands already at a.json: assets[0].asset"),
        ('{"assets": [],\n "assets": []}', "a.json: assets: this key stands here twice"),
        ('{"assets": [}', "a.json:1: not valid JSON: Expecting value"),
        ("[" * 100_000, "a.json: not valid JSON: maximum recursion depth exceeded while decoding a JSON array"),
    ],
)  # fmt: skip
def test_json_mistakes_are_named_too(text: str, expected: str) -> None:
    (mistake,) = mistakes(text, "a.json")
    assert mistake.startswith(expected[:90])


def test_a_wrong_column_does_not_flood_the_screen() -> None:
    text = "asset,kind\n" + "".join(f"L-{n},tree\n" for n in range(1000))
    found = mistakes(text, "a.csv")
    assert len(found) == 201
    assert found[-1] == "a.csv: and 800 more mistakes"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("rated_power", "0.1 kW", 100.0),
        ("rated_power", 100, 100.0),
        ("rated_power", "100", 100.0),
        ("mount_height", "350 cm", 3.5),
        ("mast_height", "8 m", 8.0),
        ("wet_area", "12 m²", 12.0),
        ("posted_limit", "20000 kg", 20.0),
        ("design_strain", "180 µε", 180.0),
        ("pumps", 3, 3.0),
        ("main_road", True, True),
        ("risk_level", "high", "high"),
        ("note", "3 号井", "3 号井"),
        ("serial", "0004", "0004"),
    ],
)
def test_an_attribute_becomes_a_number_in_its_canonical_unit_or_stays_what_it_is(
    name: str, value: object, kept: object
) -> None:
    result = attribute(name, value)
    assert (result, type(result)) == (kept, type(kept))


def test_csv_cells_become_numbers_and_truths_but_names_made_of_digits_stay_text() -> None:
    text = row("L-1,lamp,3,TRUE,0004,0012,12345678901234567", "asset,kind,attr.a,attr.b,attr.serial,attr.c,attr.d")
    (asset,), _ = load_assets(text, "a.csv", PROFILES)
    assert asset.attributes == {"a": 3.0, "b": True, "serial": "0004", "c": "0012", "d": "12345678901234567"}


def test_the_journal_payload_gives_the_same_assets_back() -> None:
    assets, devices = EXPECTED
    assert parse_assets(to_json(assets, devices)) == EXPECTED
    assert parse_assets(b"{}") == ([], [])


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'{"asets": []}', b'{"assets": [{"kind": "lamp"}]}', b"\xff", b"[" * 9999]
)
def test_another_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_assets(payload)


@given(st.text(), st.sampled_from(["a.csv", "a.yaml", "a.json"]))
def test_no_text_makes_anything_but_assets_or_mistakes(text: str, file: str) -> None:
    with contextlib.suppress(ConfigError):
        load_assets(text, file, PROFILES)


CELLS = st.one_of(
    st.sampled_from(["", "L-1", "lamp", "generic/json-lamp", "1e999", "nan", "9" * 400, "5 cm", "\x00", "h:1/1", '"']),
    st.text(max_size=8),
)


@given(st.lists(st.lists(CELLS, min_size=12, max_size=12), max_size=5))
def test_no_cell_makes_anything_but_assets_or_mistakes(rows: list[list[str]]) -> None:
    heading = "asset,kind,longitude,latitude,link.feeder,attr.rated_power,attr.x,"
    heading += "device,profile,address,expected_interval,name"
    text = "\n".join([heading, *(",".join('"' + c.replace('"', '""') + '"' for c in cells) for cells in rows)])
    with contextlib.suppress(ConfigError):
        load_assets(text, "a.csv", PROFILES)
