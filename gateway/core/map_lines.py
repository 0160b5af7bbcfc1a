"""The lines of a map, from what the assets say of one another: circuits, drains, catchments, bridges.

Nobody surveys where a cable runs; what is known is which lamp hangs on which feeder. So a circuit is drawn along its
lamps, a drain from gauge to gauge towards its station, a catchment around its members. Lines to look at, not plans.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple, TypeAlias

from gateway.core.model import Asset

Place: TypeAlias = tuple[float, float]  # longitude, latitude; or metres east and north

METRES_A_DEGREE = 111_320.0
WALKED = 400  # members of one circuit or station that are put in order by walking from one to the next: quadratic
TOLERANCE_M = 3.0  # a bend smaller than this is not drawn
JUMP_M = 200.0  # two neighbours farther apart than this, and than six times the usual distance, are not joined
_WKT = re.compile(r"^\s*POLYGON\s*\(\(([^()]*)\)", re.IGNORECASE)


class Line(NamedTuple):
    """``places`` of an ``asset``: rings of an area, or stretches of a line. ``kind`` is feeder, area or an asset's."""

    kind: str
    asset: str
    places: list[list[Place]]
    area: bool = False


def lines_of(
    assets: Sequence[Asset], outlines: Mapping[str, Sequence[Sequence[Place]]] | None = None
) -> Iterator[Line]:
    """Everything that can be drawn of ``assets``. ``outlines``: rings of areas by the id of the asset they belong to,
    from a file; an attribute ``outline`` (WKT or GeoJSON) says the same of one asset, and a catchment without either
    gets a hull around its members."""
    by_id = {asset.asset: asset for asset in assets}
    groups: dict[str, dict[str, list[Asset]]] = {"feeder": {}, "station": {}, "catchment": {}}
    for asset in assets:
        for link, members in groups.items():
            parent = asset.links.get(link)
            if parent is not None and _placed(asset):
                members.setdefault(parent, []).append(asset)
    known: dict[str, Sequence[Sequence[Place]]] = dict(outlines or {})
    known |= {asset.asset: own for asset in assets if (own := _own_outline(asset))}
    for feeder, lamps in groups["feeder"].items():
        stretches = circuit(by_id.get(feeder), lamps)
        if stretches:
            yield Line("feeder", feeder, stretches)
    yield from _drains(by_id, groups["station"])
    for catchment, drained in groups["catchment"].items():
        if catchment not in known and (ring := hull([*map(_place, drained), *_place_of(by_id.get(catchment))])):
            yield Line("catchment", catchment, [ring], area=True)
    for asset_id, rings in known.items():
        if asset_id in by_id:
            kind = "catchment" if asset_id in groups["catchment"] else by_id[asset_id].kind
            yield Line(kind, asset_id, [list(ring) for ring in rings], area=True)
    for asset in assets:
        deck = _deck(asset)
        if deck is not None:
            yield Line(asset.kind, asset.asset, [deck])


def circuit(feeder: Asset | None, lamps: Sequence[Asset]) -> list[list[Place]]:
    """A circuit from its cabinet along its lamps. Lamps on both sides of a road make one line between them."""
    chains = _chains(lamps) or [_walk(_place_of(feeder), [_place(lamp) for lamp in lamps])]
    stretches: list[list[Place]] = []
    start = _place_of(feeder)
    for chain in chains:
        if start and len(chain) > 1 and _metres(start[0], chain[-1]) < _metres(start[0], chain[0]):
            chain = chain[::-1]
        for stretch in _without_jumps([*start, *chain] if chain is chains[0] or not stretches else chain):
            if len(stretch) > 1:
                stretches.append(straightened(_middles(stretch)))
    return stretches


def hull(places: Sequence[Place]) -> list[Place]:
    """The convex ring around places, counter-clockwise and closed; empty when they lie in one line."""
    points = sorted(set(places))
    if len(points) < 3:
        return []

    def half(ordered: Iterable[Place]) -> list[Place]:
        chain: list[Place] = []
        for point in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    ring = half(points) + half(reversed(points))
    return [*ring, ring[0]] if len(ring) > 2 else []


def straightened(places: Sequence[Place], tolerance_m: float = TOLERANCE_M) -> list[Place]:
    """Without the bends smaller than ``tolerance_m`` (Douglas and Peucker)."""
    flat = _flat(places)
    keep = {0, len(places) - 1}
    ranges = [(0, len(places) - 1)]
    while ranges:
        first, last = ranges.pop()
        farthest, distance = first, tolerance_m
        for index in range(first + 1, last):
            away = _aside(flat[index], flat[first], flat[last])
            if away > distance:
                farthest, distance = index, away
        if farthest != first:
            keep.add(farthest)
            ranges += [(first, farthest), (farthest, last)]
    return [places[index] for index in sorted(keep)]


# -- circuits ---------------------------------------------------------------------------------------------------------


def _chains(lamps: Sequence[Asset]) -> list[list[Place]]:
    """Lamps in the order of their links ``before`` and ``after``; empty when they do not say."""
    by_id = {lamp.asset: lamp for lamp in lamps}
    linked = [lamp for lamp in lamps if "before" in lamp.links or "after" in lamp.links]
    if 2 * len(linked) < len(lamps) or len(lamps) < 2:
        return []
    chains: list[list[Place]] = []
    seen: set[str] = set()
    for lamp in lamps:
        if lamp.links.get("before") in by_id:
            continue
        chain: list[Place] = []
        here: Asset | None = lamp
        while here is not None and here.asset not in seen:
            seen.add(here.asset)
            chain.append(_place(here))
            here = by_id.get(here.links.get("after", ""))
        chains.append(chain)
    return chains if len(seen) == len(lamps) else []


def _walk(start: Sequence[Place], places: Sequence[Place]) -> list[Place]:
    """Places in an order in which they can be walked: the next is always the nearest; of very many, along the line on
    which they lie."""
    if len(places) > WALKED:
        return _along(places)
    everything = [*start, *places]
    rest = _flat(everything)
    left = set(range(len(start), len(rest)))
    if not left:
        return []
    here = 0 if start else _end_of(rest)
    left.discard(here)
    order = [] if start else [here]
    while left:
        x, y = rest[here]
        here = min(left, key=lambda index: (rest[index][0] - x) ** 2 + (rest[index][1] - y) ** 2)
        left.remove(here)
        order.append(here)
    return [everything[index] for index in order]


def _end_of(flat: Sequence[Place]) -> int:
    """The index of a place at an end: the farthest from the middle."""
    x, y = sum(p[0] for p in flat) / len(flat), sum(p[1] for p in flat) / len(flat)
    return max(range(len(flat)), key=lambda index: (flat[index][0] - x) ** 2 + (flat[index][1] - y) ** 2)


def _along(places: Sequence[Place]) -> list[Place]:
    """Sorted along the direction in which they spread most."""
    flat = _flat(places)
    x, y = sum(p[0] for p in flat) / len(flat), sum(p[1] for p in flat) / len(flat)
    xx = sum((p[0] - x) ** 2 for p in flat)
    yy = sum((p[1] - y) ** 2 for p in flat)
    xy = sum((p[0] - x) * (p[1] - y) for p in flat)
    angle = math.atan2(2 * xy, xx - yy) / 2
    east, north = math.cos(angle), math.sin(angle)
    order = sorted(range(len(flat)), key=lambda index: flat[index][0] * east + flat[index][1] * north)
    return [places[index] for index in order]


def _middles(places: Sequence[Place]) -> list[Place]:
    """From the first to the last through the middles between neighbours: the line between two rows of lamps."""
    pairs = pairwise(places[1:])
    return [places[0], *(_rounded((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairs), places[-1]]


def _without_jumps(places: Sequence[Place]) -> Iterator[list[Place]]:
    steps = [_metres(a, b) for a, b in pairwise(places)]
    most = max(JUMP_M, 6 * median(steps)) if steps else JUMP_M
    stretch = list(places[:1])
    for place, step in zip(places[1:], steps, strict=True):
        if step > most:
            yield stretch
            stretch = []
        stretch.append(place)
    yield stretch


# -- drains -----------------------------------------------------------------------------------------------------------


def _drains(by_id: Mapping[str, Asset], stations: Mapping[str, Sequence[Asset]]) -> Iterator[Line]:
    """From each gauged well to the next one down. What says ``downstream`` or ``upstream`` is believed; of the pipes of
    one station without it, each is joined to the nearest that is closer to the station."""
    said: set[str] = set()
    for asset in by_id.values():
        for link, down in (("downstream", True), ("upstream", False)):
            other = by_id.get(asset.links.get(link, ""))
            if other is None or not _placed(asset) or not _placed(other):
                continue
            first, second = (asset, other) if down else (other, asset)
            if first.asset not in said:
                said.add(first.asset)
                yield Line(first.kind, first.asset, [[_place(first), _place(second)]])
    for station, members in stations.items():
        end = by_id.get(station)
        pipes = [asset for asset in members if asset.kind == "pipe"]
        if end is None or not _placed(end) or not pipes:
            continue
        flat = _flat([_place(end), *map(_place, pipes)])
        order = sorted(range(1, len(flat)), key=lambda index: math.dist(flat[0], flat[index]))
        joined = [0]
        for index in order:
            nearest = min(joined[-WALKED:], key=lambda other: math.dist(flat[index], flat[other]))
            joined.append(index)
            pipe = pipes[index - 1]
            if pipe.asset not in said:
                yield Line("pipe", pipe.asset, [[_place(pipe), _place(end if nearest == 0 else pipes[nearest - 1])]])


# -- areas and bridges ------------------------------------------------------------------------------------------------


def _own_outline(asset: Asset) -> list[list[Place]]:
    """The rings that an asset's attribute ``outline`` says; empty when it says none that can be read."""
    text = asset.attributes.get("outline")
    if not isinstance(text, str):
        return []
    try:
        if match := _WKT.match(text):
            pairs = [pair.split() for pair in match[1].split(",")]
            ring = [(float(pair[0]), float(pair[1])) for pair in pairs]
        else:
            geometry = json.loads(text)
            ring = [(float(place[0]), float(place[1])) for place in geometry["coordinates"][0]]
    except (ValueError, LookupError, TypeError):
        return []
    return [ring] if len(ring) > 3 and all(abs(x) <= 180 and abs(y) <= 90 for x, y in ring) else []


def _deck(asset: Asset) -> list[Place] | None:
    """The two ends of a bridge that says how long it is (``length`` or ``span``, m) and where it goes (``bearing``,
    degrees from north)."""
    length = asset.attributes.get("length", asset.attributes.get("span"))
    bearing = asset.attributes.get("bearing")
    if asset.kind != "bridge" or not _placed(asset) or not _number(length) or not _number(bearing):
        return None
    assert isinstance(length, float | int)
    assert isinstance(bearing, float | int)
    x, y = _place(asset)
    north = length / 2 * math.cos(math.radians(bearing)) / METRES_A_DEGREE
    east = length / 2 * math.sin(math.radians(bearing)) / (METRES_A_DEGREE * math.cos(math.radians(y)))
    return [_rounded(x - east, y - north), _rounded(x + east, y + north)]


def _number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 100_000


# -- geometry ---------------------------------------------------------------------------------------------------------


def _placed(asset: Asset) -> bool:
    return asset.longitude is not None and asset.latitude is not None


def _place(asset: Asset) -> Place:
    return (asset.longitude or 0.0, asset.latitude or 0.0)


def _place_of(asset: Asset | None) -> list[Place]:
    return [_place(asset)] if asset is not None and _placed(asset) else []


def _rounded(x: float, y: float) -> Place:
    return (round(x, 6), round(y, 6))


def _flat(places: Sequence[Place]) -> list[Place]:
    """Metres east and north of the first one: good for a city."""
    if not places:
        return []
    x0, y0 = places[0]
    east = METRES_A_DEGREE * math.cos(math.radians(y0))
    return [((x - x0) * east, (y - y0) * METRES_A_DEGREE) for x, y in places]


def _metres(a: Place, b: Place) -> float:
    return math.dist(*_flat([a, b]))


def _turn(a: Place, b: Place, c: Place) -> float:
    """Positive when a → b → c turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _aside(point: Place, a: Place, b: Place) -> float:
    """How far a point lies from the stretch a–b."""
    length = math.dist(a, b)
    if length == 0:
        return math.dist(point, a)
    along = ((point[0] - a[0]) * (b[0] - a[0]) + (point[1] - a[1]) * (b[1] - a[1])) / length**2
    along = min(1.0, max(0.0, along))
    return math.dist(point, (a[0] + along * (b[0] - a[0]), a[1] + along * (b[1] - a[1])))
