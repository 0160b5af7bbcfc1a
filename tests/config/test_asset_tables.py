"""Assets as people keep them: Excel, GeoJSON and CSV in and out, each mistake with its row, and nothing lost."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from gateway.check import check_everything
from gateway.cli import main
from gateway.config.asset_tables import document_json, to_csv, to_geojson, to_xlsx
from gateway.config.assets import LINKS, load_assets
from gateway.core.assets_json import to_json
from gateway.core.component_code import Layout, layouts_of, parse_component_code
from gateway.core.model import MINUTE, SECOND, Asset, AssetsChanged, Device
from gateway.errors import ConfigError
from gateway.inbox import dry_run, import_assets_command
from gateway.store.store import Store

PROFILES = ("generic/json-lamp", "generic/json-pipe", "generic/pump-station-3p")
CITY: tuple[list[Asset], list[Device]] = (
    [
        Asset("F1", "feeder", "一号照明箱", "水泊大街", "水泊街道", "县照明管理所", 116.1, 35.8),
        Asset("L-1", "lamp", "=1+1", links={"feeder": "F1"}, attributes={"rated_power": 100.0, "serial": "0004"}),
        Asset("W-1", "pipe", attributes={"hazard_source": True, "component_code": "3708320103000001"}),
        Asset("W-2", "pipe", simulated=True),
    ],
    [
        Device("lc-1", "L-1", "generic/json-lamp", "", 15 * MINUTE),
        Device("a-1", "W-1", "generic/json-pipe", "24e124713d000001", None, {"fport": 85.0}),
        Device("b-1", "W-1", "generic/json-pipe", "", 500_000_000),
    ],
)


def ordered(found: tuple[Sequence[Asset], Sequence[Device]]) -> tuple[list[Asset], list[Device]]:
    return sorted(found[0], key=lambda a: a.asset), sorted(found[1], key=lambda d: d.device)


FORMS: list[tuple[str, Callable[[Sequence[Asset], Sequence[Device]], bytes]]] = [
    ("csv", to_csv), ("xlsx", to_xlsx), ("geojson", to_geojson), ("json", document_json),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "write"), FORMS)
def test_what_is_written_is_read_again(tmp_path: Path, ending: str, write: Callable[..., bytes]) -> None:
    file = tmp_path / f"city.{ending}"
    file.write_bytes(write(*CITY))
    assert ordered(load_assets(file, file.name, PROFILES)) == ordered(CITY)


@pytest.mark.parametrize(("cell", "simulated"), [("true", True), ("TRUE", True), ("FALSE", False), ("", False)])
def test_a_column_says_which_assets_are_simulated(cell: str, simulated: bool) -> None:
    [asset], _ = load_assets(f"asset,kind,simulated\nL-1,lamp,{cell}\n", "a.csv", PROFILES)
    assert asset.simulated is simulated


def test_a_word_that_is_no_truth_is_a_mistake_and_not_a_real_asset() -> None:
    with pytest.raises(ConfigError, match="simulated: must be true or false, not 'ja'"):
        load_assets("asset,kind,simulated\nL-1,lamp,ja\n", "a.csv", PROFILES)


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
ids = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True)


@st.composite
def cities(draw: st.DrawFn) -> tuple[list[Asset], list[Device]]:
    asset_ids = draw(st.lists(ids, min_size=1, max_size=5, unique_by=str.lower))
    assets, devices = [], []
    for number, asset_id in enumerate(asset_ids):
        place = draw(st.none() | st.tuples(st.floats(-180, 180), st.floats(-90, 90)))
        rounded = (None, None) if place is None else (round(place[0], 6), round(place[1], 6))
        attributes: dict[str, str | float | bool] = {
            "rated_power": draw(st.floats(0.1, 1e6).map(lambda n: round(n, 3)))
        }
        if draw(st.booleans()):
            attributes["serial"] = draw(st.from_regex(r"[0-9]{1,8}", fullmatch=True))
        links = {draw(st.sampled_from(LINKS)): asset_ids[number - 1]} if number else {}
        assets.append(Asset(asset_id, "lamp", draw(names), draw(names), "", "", *rounded, links, attributes))
        for _ in range(draw(st.integers(0, 2))):
            interval = draw(st.none() | st.integers(1, 10_000).map(lambda n: n * SECOND))
            devices.append(Device(f"d{len(devices)}", asset_id, "generic/json-lamp", "", interval))
    return assets, devices


@settings(max_examples=20)
@given(cities())
@pytest.mark.parametrize(("ending", "write"), FORMS)
def test_any_city_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, ending: str, write: Callable[..., bytes], city: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / f"any.{ending}"
    file.write_bytes(write(*city))
    assert ordered(load_assets(file, file.name, PROFILES)) == ordered(city)


def test_an_excel_file_keeps_texts_as_texts(tmp_path: Path) -> None:
    file = tmp_path / "city.xlsx"
    file.write_bytes(to_xlsx(*CITY))
    sheet = load_workbook(file).worksheets[0]
    cells = {cell.value: cell for row in sheet.iter_rows() for cell in row}
    assert cells["=1+1"].data_type == "s"
    assert cells["0004"].data_type == "s"


def mistakes(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_assets(file, file.name, PROFILES)
    return [str(mistake) for mistake in error.value.mistakes]


def test_each_mistake_in_an_excel_file_has_its_row(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["资产编号", "类型", "attr.rated_power", "device", "profile", "attr.component_code"],
                ["L-1", "lamp", "100 W", "d1", "generic/json-lamp", 3708320103000001],
                [], ["L-2", "lmp", None, None, None, None],
                ["L-3", "lamp", "100 V", "d3", "generic/json-lmp", "37083201"]):  # fmt: skip
        sheet.append(row)
    file = tmp_path / "city.xlsx"
    book.save(file)
    found = mistakes(file)
    assert found[0] == "city.xlsx:4: kind: there is no kind `lmp`: did you mean `lamp`?"
    assert found[1].startswith("city.xlsx:5: attr.rated_power:")
    assert found[2].startswith("city.xlsx:5: attr.component_code: a component code has 16 digits")
    assert found[3] == "city.xlsx:5: profile: there is no profile `generic/json-lmp`: did you mean `generic/json-lamp`?"


@pytest.mark.parametrize("content", [b"", b"asset,kind\n", b"PK\x03\x04 and nothing else"])
def test_what_is_no_excel_file_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "city.xlsx"
    file.write_bytes(content)
    assert "not an Excel file" in mistakes(file)[0]


def test_an_excel_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(9):
            archive.writestr(f"xl/{number}.xml", b"\0" * (64 << 20))
    assert "unpacks to more than 512 MiB" in mistakes(file)[0]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"type": "Feature"}, "must be a GeoJSON FeatureCollection"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature", "properties": None}]},
         "features[0].properties: must be an object"),
        ({"type": "FeatureCollection", "features": [
            {"geometry": {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "properties": {"asset": "a"}}]},
         "features[0].geometry: must be a Point"),
        ({"type": "FeatureCollection", "features": [
            {"geometry": {"type": "Point", "coordinates": [35.8, 116.1]},
             "properties": {"asset": "a", "kind": "lamp"}}]},
         "features[0].latitude: 116.1 is outside ±90 degrees (longitude and latitude exchanged?)"),
        ({"type": "FeatureCollection", "features": [{"properties": {"asset": "a", "kind": "lamp", "colour": "red"}}]},
         "colour: no such column"),
    ],
)  # fmt: skip
def test_a_mistake_in_geojson_is_told_with_its_feature(tmp_path: Path, document: Any, said: str) -> None:
    file = tmp_path / "city.geojson"
    file.write_text(json.dumps(document), encoding="utf-8")
    assert said in mistakes(file)[0]


def test_component_codes_in_both_layouts() -> None:
    classic = parse_component_code("3205080101000001", Layout.CLASSIC)
    assert (classic.county, classic.major, classic.minor, classic.sequence) == ("320508", "01", "01", "000001")
    extended = parse_component_code("3708320199900012", Layout.EXTENDED)
    assert (extended.minor, extended.sequence) == ("999", "00012")
    assert layouts_of("3205080101000001") == [Layout.CLASSIC, Layout.EXTENDED]
    assert layouts_of("3205080100100001") == [Layout.EXTENDED]
    for wrong in (
        "",
        "320508010100000",
        "3205080901000001",
        "0205080101000001",
        "3205080100000000",
        "32050801O1000001",
    ):
        with pytest.raises(ValueError, match=r"component|begin"):
            layouts_of(wrong)


@pytest.mark.parametrize("ending", ["csv", "json", "geojson", "xlsx"])
def test_a_code_of_the_other_layout_is_a_mistake_with_its_place(tmp_path: Path, ending: str) -> None:
    """3205080100100001 is minor class 001 of the extended layout; of the classic one it is nothing."""
    assets = [
        Asset("A-1", "lamp", longitude=116.1, latitude=35.8, attributes={"component_code": "3205080101000001"}),
        Asset("A-2", "lamp", longitude=116.1, latitude=35.8, attributes={"component_code": "3205080100100001"}),
    ]
    written = {"csv": to_csv, "json": document_json, "geojson": to_geojson, "xlsx": to_xlsx}[ending](assets, [])
    file = tmp_path / f"city.{ending}"
    file.write_bytes(written)
    assert load_assets(file, file.name, PROFILES) == (assets, [])
    assert load_assets(file, file.name, PROFILES, layout=Layout.EXTENDED) == (assets, [])
    with pytest.raises(ConfigError) as error:
        load_assets(file, file.name, PROFILES, layout=Layout.CLASSIC)
    [mistake] = error.value.mistakes
    assert "component_code" in mistake.key
    assert mistake.message.endswith("here 00 and 100001 (site.component_code_layout is classic)")
    if ending in ("csv", "xlsx"):
        assert mistake.line == 3


def test_the_layout_is_a_setting_that_check_and_import_follow(tmp_path: Path) -> None:
    assets = tmp_path / "assets.csv"
    assets.write_text("asset,kind,attr.component_code\nA-2,lamp,3205080100100001\n", encoding="utf-8")
    config = tmp_path / "citywatch.yaml"
    for layout, wrong in (("extended", 0), ("classic", 1)):
        said = {"data": str(tmp_path / "data"), "assets": [str(assets)], "site": {"component_code_layout": layout}}
        config.write_text(yaml.safe_dump(said), encoding="utf-8")
        assert len(check_everything(config).mistakes) == wrong
        if wrong:
            for command in (dry_run, import_assets_command):
                with pytest.raises(ConfigError, match="component_code_layout is classic"):
                    command(assets, config)
        else:
            assert dry_run(assets, config)["assets"] == 1


# -- the commands -----------------------------------------------------------------------------------------------------


def site(tmp_path: Path) -> Path:
    """Settings of a gateway that has the city above."""
    config = tmp_path / "citywatch.yaml"
    data = tmp_path / "data"
    config.write_text(yaml.safe_dump({"data": str(data)}), encoding="utf-8")

    async def fill() -> None:
        store = await Store.open(data)
        await store.commit(1, [AssetsChanged(1_750_000_000 * SECOND, to_json(*CITY))])
        await store.close()

    data.mkdir()
    asyncio.run(fill())
    return config


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(end.value.code or 0)


@pytest.mark.parametrize("form", ["csv", "xlsx", "geojson", "json"])
def test_an_export_can_be_imported_and_changes_nothing(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = site(tmp_path), tmp_path / f"out.{form}"
    assert run("export", "assets", "--config", str(config), "--format", form, "--out", str(out)) == 0
    assert ordered(load_assets(out, out.name, PROFILES)) == ordered(CITY)
    capsys.readouterr()
    assert run("import-assets", str(out), "--config", str(config), "--dry-run", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [answer[key] for key in ("new_assets", "changed_assets", "new_devices", "changed_devices")] == [0, 0, 0, 0]
    assert not (tmp_path / "data" / "inbox").exists()


def test_a_dry_run_says_what_would_change_and_hands_nothing_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, file = site(tmp_path), tmp_path / "more.csv"
    file.write_text(
        "asset,kind,link.feeder,device,profile\nL-1,lamp,F1,lc-2,generic/json-lamp\nL-9,lamp,F1,lc-1,generic/json-lamp\n"
    )
    assert run("import-assets", str(file), "--config", str(config), "--dry-run") == 0
    told = capsys.readouterr().out
    assert "1 new assets, 1 changed assets, 1 new devices, 1 changed devices; nothing was handed over" in told
    assert not (tmp_path / "data" / "inbox").exists()
    file.write_text("asset,kind,link.feeder\nL-9,lamp,F7\n")
    assert run("import-assets", str(file), "--config", str(config), "--dry-run") == 2
    assert "more.csv:2: link.feeder: there is no asset `F7`" in capsys.readouterr().err
