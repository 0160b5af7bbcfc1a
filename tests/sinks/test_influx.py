"""The InfluxDB sink: every reading is one point, whatever its names hold; every answer means one thing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from bench.faults.database import ScriptedDatabase, error, scripted_database
from gateway.core.model import Quality, Reading, Value
from gateway.errors import Rejected, Unavailable
from gateway.sinks.influx import NUMBERS_ONLY, AssetTags, InfluxSink, field_text, lines_of, tag_text
from tests.servers import Database

T0 = 1_735_689_600_000_000  # 2025-01-01T00:00:00Z
LAMP = AssetTags("lamp", "水泊中路", "水泊街道")


def describe(asset: str) -> AssetTags:
    return LAMP


def reading(
    value: Value = 96.5,
    *,
    asset: str = "lamp-17",
    point: str = "power",
    at: int = T0,
    quality: Quality = Quality.GOOD,
    device: str = "dtu-4",
) -> Reading:
    return Reading(asset, point, value, quality, at, at, device)


@pytest_asyncio.fixture
async def database() -> AsyncIterator[ScriptedDatabase]:
    async with scripted_database() as database:
        yield database


@pytest_asyncio.fixture
async def sink(database: ScriptedDatabase) -> AsyncIterator[InfluxSink]:
    async with InfluxSink(database.url, "city", "readings", "secret", describe, timeout_s=0.5) as sink:
        yield sink


def test_a_reading_is_one_line_of_the_contract() -> None:
    assert lines_of(reading(), LAMP) == [
        "lamp,asset=lamp-17,device=dtu-4,road=水泊中路,town=水泊街道 power=96.5 1735689600000"
    ]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (5, "5.0"),
        (-0.25, "-0.25"),
        (1e300, "1e+300"),
        (2**70, "1.1805916207174113e+21"),
        (True, "true"),
        (False, "false"),
        ("auto", '"auto"'),
        ('say "no" \\', '"say \\"no\\" \\\\"'),
        ("two\nlines", '"two\\nlines"'),
    ],
)
def test_a_field_has_the_type_of_its_value_and_integers_are_floats(value: Value, field: str) -> None:
    assert field_text(value) == field


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_not_a_value_has_no_field(value: Value) -> None:
    with pytest.raises(ValueError):
        field_text(value)


def test_a_bad_reading_is_a_count_and_never_a_value() -> None:
    lines = lines_of(reading(None, quality=Quality.BAD), LAMP)
    assert lines == ["quality,asset=lamp-17,device=dtu-4,point=power,road=水泊中路,town=水泊街道 bad=1i 1735689600000"]


def test_an_uncertain_reading_is_a_value_and_a_count() -> None:
    value, count = lines_of(reading(quality=Quality.UNCERTAIN), LAMP)
    assert "power=96.5" in value
    assert count.startswith("quality,")
    assert "uncertain=1i" in count


def test_an_empty_road_is_left_out_because_influxdb_refuses_an_empty_tag() -> None:
    assert lines_of(reading(device=""), AssetTags("lamp")) == ["lamp,asset=lamp-17 power=96.5 1735689600000"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b", "a\\ b"),
        ("a,b=c", "a\\,b\\=c"),
        ("line\nbreak", "line␊break"),
        ("ends in \\", "ends\\ in\\ ＼"),
        ("\ud800", "?"),
    ],
)
def test_a_name_keeps_the_line_in_one_piece(name: str, written: str) -> None:
    assert tag_text(name) == written


async def test_a_write_names_org_bucket_precision_and_token(sink: InfluxSink, database: ScriptedDatabase) -> None:
    await sink.write([reading()])
    assert database.target == "/api/v2/write?org=city&bucket=readings&precision=ms"
    assert database.headers["authorization"] == "Token secret"
    assert database.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_lines_that_are_refused_are_rejected(sink: InfluxSink, database: ScriptedDatabase, status: int) -> None:
    database.script = lambda lines: error(status, "field type conflict")
    with pytest.raises(Rejected, match="field type conflict") as caught:
        await sink.write([reading()])
    assert caught.value.items == ()


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500, 503])
async def test_a_database_that_is_not_itself_is_away(sink: InfluxSink, database: ScriptedDatabase, status: int) -> None:
    database.script = lambda lines: error(status, "not now", Location="http://127.0.0.1:1/")
    with pytest.raises(Unavailable, match=str(status)):
        await sink.write([reading()])


async def test_retry_after_is_heeded(sink: InfluxSink, database: ScriptedDatabase) -> None:
    database.script = lambda lines: error(429, "slow down", Retry_After="17")
    with pytest.raises(Unavailable) as caught:
        await sink.write([reading()])
    assert caught.value.retry_after_s == 17


async def test_a_database_that_never_answers_is_away(sink: InfluxSink, database: ScriptedDatabase) -> None:
    database.silent = True
    with pytest.raises(Unavailable):
        await sink.write([reading()])


async def test_a_database_that_is_not_there_is_away() -> None:
    async with InfluxSink("http://127.0.0.1:1", "o", "b", None, describe) as sink:
        with pytest.raises(Unavailable):
            await sink.write([reading()])


async def test_text_is_refused_by_name_where_only_numbers_are_kept(
    sink: InfluxSink, database: ScriptedDatabase
) -> None:
    database.health = b"OK"  # what VictoriaMetrics says
    with pytest.raises(Rejected, match=NUMBERS_ONLY) as caught:
        await sink.write([reading(1.0), reading("auto", point="mode"), reading(2.0, point="dim")])
    assert caught.value.items == (1,)
    assert len(database.stored) == 2


async def test_victoria_metrics_holds_exactly_what_was_written(victoria_metrics: Database) -> None:
    readings = [
        reading(float(i) if i % 3 else bool(i % 2), asset=f"lamp-{i % 20}", point=f"p{i % 3}", at=T0 + i * 1_000_000)
        for i in range(2_000)
    ]
    async with InfluxSink(victoria_metrics.url, "city", "readings", None, describe) as sink:
        await sink.write(readings)
        await sink.write(readings[:500])  # a crash between write and cursor sends a batch again
    await victoria_metrics.flush()
    assert await _points(victoria_metrics) == {
        ("lamp_" + r.point, r.asset, r.source_time // 1000, float(r.value or 0)) for r in readings
    }


async def test_ten_thousand_nasty_names_are_ten_thousand_points(victoria_metrics: Database) -> None:
    names = _nasty_names(10_000)
    tags = {f"a{i}": AssetTags("lamp", name, name[::-1]) for i, name in enumerate(names)}
    readings = [Reading(f"a{i}", "power", float(i), Quality.GOOD, T0, T0, name) for i, name in enumerate(names)]
    async with InfluxSink(victoria_metrics.url, "city", "readings", None, tags.__getitem__) as sink:
        for start in range(0, len(readings), 2_500):
            await sink.write(readings[start : start + 2_500])
    await victoria_metrics.flush()
    rows = await victoria_metrics.export('{__name__="lamp_power"}')
    assert len(rows) == len(readings)
    by_asset = {row["metric"]["asset"]: row for row in rows}
    for i, name in enumerate(names):
        row = by_asset[f"a{i}"]
        assert row["values"] == [i]
        assert row["metric"].get("device", "") == _read_back(name)
        assert row["metric"].get("road", "") == _read_back(name)


def _read_back(name: str) -> str:
    """The name as a database gives it back: without our escapes."""
    written = tag_text(name)
    for char in ", =":
        written = written.replace("\\" + char, char)
    return written


async def _points(database: Database) -> set[tuple[str, str, int, float]]:
    rows = await database.export('{__name__=~"lamp_.*"}')
    return {
        (row["metric"]["__name__"], row["metric"]["asset"], time, value)
        for row in rows
        for time, value in zip(row["timestamps"], row["values"], strict=True)
    }


def _nasty_names(count: int) -> Sequence[str]:
    chance = random.Random(49)
    pieces = [
        "\n",
        "\r",
        ",",
        " ",
        "=",
        "\\",
        '"',
        "'",
        "\t",
        "\0",
        "路",
        "🚰",
        "a",
        "0",
        "\u2028",
        "\u202e",
        "#",
        "{",
        "\x85",
    ]
    return ["".join(chance.choices(pieces, k=chance.randint(1, 12))) for _ in range(count)]
