"""A county's equipment, 50,000 assets: enough of each kind for a flood, for a storm of changes and for single alarms.

``covers`` are the manholes that are opened all at once, ``probes`` those that are opened one by one (both level I);
on ``bridges`` every lorry that is too heavy is an event, of level IV or I; the rest are lamps. Nobody is missed in the
hour that a benchmark may take: silence is not what it is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COVERS, BRIDGES, PROBES, LAMPS = 20_000, 15_000, 1_500, 13_500
POSTED_LIMIT_T = 30
HEAVY_T, HEAVIER_T = 31.0, 46.0  # level IV, and level I: half as much again
PROFILES = {"manhole": "generic/json-manhole", "bridge": "generic/json-bridge", "lamp": "generic/json-lamp"}
ROADS = ("水泊大街", "人民南路", "公明路", "水浒街", "金城大道", "西环路", "青年路", "文化路")
TOWNS = ("水泊街道", "梁山街道", "小路口镇", "韩岗镇")
WEST, SOUTH = 115.9, 35.65
WIDTH, HEIGHT = 0.34, 0.3  # degrees: a county


@dataclass(frozen=True, slots=True)
class BigCity:
    covers: int = COVERS
    bridges: int = BRIDGES
    probes: int = PROBES
    lamps: int = LAMPS

    @property
    def size(self) -> int:
        return self.covers + self.bridges + self.probes + self.lamps

    def document(self) -> dict[str, list[dict[str, Any]]]:
        """As an assets file has it."""
        assets, devices = [], []
        for number, (name, kind) in enumerate(self._names()):
            attributes = {"posted_limit": POSTED_LIMIT_T} if kind == "bridge" else {}
            # The golden ratio spreads any number of points evenly over a line, the square root of two over another.
            x, y = number * 0.618033988749895 % 1, number * 0.414213562373095 % 1
            assets.append(
                {
                    "asset": name, "kind": kind, "name": f"{ROADS[number % 8]} {number} 号", "road": ROADS[number % 8],
                    "town": TOWNS[number // 8 % 4], "unit": "市政", "longitude": round(WEST + WIDTH * x, 6),
                    "latitude": round(SOUTH + HEIGHT * y, 6), "attributes": attributes,
                }
            )  # fmt: skip
            devices.append(
                {"device": name, "asset": name, "profile": PROFILES[kind], "address": name, "expected_interval": "1h"}
            )
        return {"assets": assets, "devices": devices}

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.document(), ensure_ascii=False), encoding="utf-8")

    def _names(self) -> Iterator[tuple[str, str]]:
        for word, kind, count in (
            ("cover", "manhole", self.covers), ("bridge", "bridge", self.bridges), ("probe", "manhole", self.probes),
            ("lamp", "lamp", self.lamps),
        ):  # fmt: skip
            for number in range(count):
                yield f"{word}-{number:05}", kind


def cover(name: str, state: str = "open") -> tuple[str, bytes]:
    """Topic and payload of a cover or a probe."""
    return f"citywatch/v1/manhole/{name}/telemetry", b'{"values":{"cover":"%s"}}' % state.encode()


def lorry(name: str, tonnes: float) -> tuple[str, bytes]:
    """Topic and payload of a lorry on a bridge."""
    return f"citywatch/v1/bridge/{name}/telemetry", b'{"values":{"gvw":%.1f}}' % tonnes
