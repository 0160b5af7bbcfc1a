"""The lines of a map: circuits along their lamps, drains towards their station, hulls around what drains together."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from gateway.core.map_lines import Line, circuit, hull, lines_of, straightened
from gateway.core.model import Asset

EAST = 0.0001  # about 9 m


def lamp(number: int, x: float, y: float = 0.0, **links: str) -> Asset:
    return Asset(
        f"l{number}", "lamp", longitude=116 + x * EAST, latitude=35.8 + y * EAST, links={"feeder": "f", **links}
    )


FEEDER = Asset("f", "feeder", longitude=116.0, latitude=35.8 + 3 * EAST)


def test_two_rows_of_lamps_are_one_line_along_the_road() -> None:
    """Lamps stand left and right by turns; nobody wants to see the zigzag."""
    lamps = [lamp(n, 4 * n, 1 if n % 2 else -1) for n in range(1, 20)]
    shuffled = random.Random(1).sample(lamps, len(lamps))
    (line,) = circuit(FEEDER, shuffled)
    assert line[0] == (116.0, pytest.approx(35.8 + 3 * EAST))
    assert line[-1] == (pytest.approx(116 + 76 * EAST), pytest.approx(35.8 + EAST))
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert all(abs(y - 35.8) < EAST / 2 for _, y in line[1:-1])
    assert len(line) < 8, "a straight road needs few places"


def test_the_order_that_lamps_know_of_one_another_is_believed() -> None:
    """Around a corner, where the nearest lamp is on the wrong street."""
    places = [(0, 0), (4, 0), (8, 0), (8, 4), (8, 8), (4, 8), (0, 8)]
    lamps = []
    for n, (x, y) in enumerate(places):
        links = {"before": f"l{n - 1}"} if n else {}
        links |= {"after": f"l{n + 1}"} if n + 1 < len(places) else {}
        lamps.append(lamp(n, x, y, **links))
    (line,) = circuit(None, lamps[::-1])
    assert line[0] == (pytest.approx(116), pytest.approx(35.8))
    assert line[-1] == (pytest.approx(116), pytest.approx(35.8 + 8 * EAST))
    length = sum(math.dist(a, b) for a, b in pairwise(line)) / EAST
    assert 18 < length < 25


def test_a_far_lamp_is_not_joined_across_the_city() -> None:
    lamps = [lamp(n, 4 * n) for n in range(10)] + [lamp(n, 500 + 4 * n) for n in range(10, 20)]
    assert len(circuit(None, lamps)) == 2


def test_a_circuit_of_thousands_is_drawn_in_no_time() -> None:
    lamps = [lamp(n, n / 10, n % 2) for n in range(5000)]
    (line,) = circuit(FEEDER, random.Random(2).sample(lamps, len(lamps)))
    assert len(line) < 20


def test_water_runs_towards_the_station() -> None:
    station = Asset("ps", "pump", longitude=116.0, latitude=35.8)

    def pipe(name: str, x: float, y: float = 0.0, **links: str) -> Asset:
        both = {"station": "ps", "catchment": "ps", **links}
        return Asset(name, "pipe", longitude=116 + x * EAST, latitude=35.8 + y * EAST, links=both)

    pipes = [pipe("far", 30), pipe("near", 10), pipe("middle", 20, 1), pipe("side", 10, 9, downstream="far")]
    drains = {line.asset: line.places[0] for line in lines_of([station, *pipes]) if line.kind == "pipe"}
    east = {name: [round((x - 116) / EAST) for x, _ in places] for name, places in drains.items()}
    assert east == {"near": [10, 0], "middle": [20, 10], "far": [30, 20], "side": [10, 30]}


def test_a_cover_says_what_lies_upstream_of_it() -> None:
    a = Asset("a", "manhole", longitude=116.0, latitude=35.8)
    b = Asset("b", "manhole", longitude=116.1, latitude=35.8, links={"upstream": "a"})
    assert list(lines_of([a, b])) == [Line("manhole", "a", [[(116.0, 35.8), (116.1, 35.8)]])]


def test_a_catchment_is_its_outline_or_the_hull_of_its_members() -> None:
    members = [
        Asset(f"p{n}", "road", longitude=116 + x, latitude=35.8 + y, links={"catchment": "c"})
        for n, (x, y) in enumerate([(0, 0), (1, 0), (1, 1), (0, 1), (0.5, 0.5)])
    ]
    (line,) = lines_of(members)
    assert (line.kind, line.asset, line.area) == ("catchment", "c", True)
    assert len(line.places[0]) == 5, "four corners, closed"
    assert line.places[0][0] == line.places[0][-1]
    wkt = Asset("c", "catchment", attributes={"outline": "POLYGON((0 0, 1 0, 1 1, 0 0))"})
    (own,) = lines_of([*members, wkt])
    assert own.places == [[(0, 0), (1, 0), (1, 1), (0, 0)]]
    geojson = Asset("c", "catchment", attributes={"outline": '{"coordinates": [[[0, 0], [2, 0], [2, 2], [0, 0]]]}'})
    assert next(iter(lines_of([*members, geojson]))).places[0][1] == (2, 0)
    ring = [(5.0, 5.0), (6.0, 5.0), (6.0, 6.0), (5.0, 5.0)]
    (from_file,) = lines_of([*members, Asset("c", "catchment")], {"c": [ring], "unknown": [ring]})
    assert from_file.places == [ring]


@pytest.mark.parametrize(
    "outline", ["POLYGON((x y))", "{}", "[1]", '{"coordinates": 1}', "POLYGON((0 0, 999 0, 1 1, 0 0))"]
)
def test_an_outline_that_cannot_be_read_is_none(outline: str) -> None:
    assert list(lines_of([Asset("c", "area", attributes={"outline": outline})])) == []


def test_places_in_a_line_have_no_hull() -> None:
    assert hull([(0, 0), (1, 1), (2, 2), (2, 2)]) == []
    assert hull([(0, 0), (1, 1)]) == []


def test_a_bridge_is_drawn_where_it_says_its_length_and_bearing() -> None:
    where = {"span": 100.0, "bearing": 90.0}
    bridge = Asset("b", "bridge", longitude=116.0, latitude=35.8, attributes=where)
    ((line),) = lines_of([bridge, Asset("c", "bridge", longitude=116.0, latitude=35.8, attributes={"span": 10.0})])
    (west, _), (east, _) = line.places[0]
    assert (east - west) * math.cos(math.radians(35.8)) * 111_320 == pytest.approx(100, abs=0.5)


def test_assets_without_a_place_draw_nothing() -> None:
    lamps = [Asset(f"l{n}", "lamp", links={"feeder": "f", "catchment": "c", "station": "s"}) for n in range(5)]
    assert list(lines_of([*lamps, Asset("f", "feeder"), Asset("s", "pump")])) == []


def test_straightening_moves_no_place_by_more_than_it_may() -> None:
    choose = random.Random(3)
    places = [(116 + n * EAST, 35.8 + choose.uniform(-0.2, 0.2) * EAST) for n in range(200)]
    kept = straightened(places, 5.0)
    assert kept[0] == places[0]
    assert kept[-1] == places[-1]
    assert len(kept) < 20
