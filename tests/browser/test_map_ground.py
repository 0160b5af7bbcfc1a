"""The ground of the map: roads and tiles of the settings, tiles from where they say and from nowhere else."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.browsing import browsing_site, chromium

COVER = {"asset": "cover-1", "kind": "manhole", "name": "水泊大街 1 号井", "longitude": 116.1, "latitude": 35.8}
CITY = {
    "assets": [COVER],
    "devices": [{"device": "cover-1", "asset": "cover-1", "profile": "generic/json-manhole"}],
}
ROADS = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": "水泊大街"},
            "geometry": {"type": "LineString", "coordinates": [[116.09, 35.8], [116.11, 35.8]]},
        }
    ],
}
PIXEL = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\x00\x00\x0c"
    b"IDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00"
)
PIXEL += zlib.crc32(b"IDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00").to_bytes(4) + b"\x00\x00\x00\x00IEND\xaeB`\x82"


class Tiles(http.server.ThreadingHTTPServer):
    """A tile server; ``asked`` are the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Tile)


class _Tile(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Tiles)
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.end_headers()
        self.wfile.write(PIXEL)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def tiles() -> Iterator[Tiles]:
    server = Tiles()
    thread = threading.Thread(target=server.serve_forever, name="tiles")
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_chinese_tiles_lie_under_assets_that_are_shifted_with_them(tmp_path: Path, tiles: Tiles) -> None:
    roads = tmp_path / "roads.geojson"
    await asyncio.to_thread(roads.write_text, json.dumps(ROADS), encoding="utf-8")
    url = f"http://127.0.0.1:{tiles.server_port}/{{z}}/{{x}}/{{y}}.png"
    ground = {"roads": str(roads), "tiles": {"url": url, "attribution": "测试", "gcj02": True}}
    async with chromium() as browser, browsing_site(tmp_path, CITY, ground=ground) as site:
        page = await site.open(browser, "/map?asset=cover-1")
        await expect(page.locator('.map[data-ready="true"]')).to_be_visible()
        await expect(page.get_by_role("region", name="水泊大街 1 号井")).to_be_visible()
        await page.get_by_role("button", name="Close").click()
        box = await page.locator(".map canvas").bounding_box()
        assert box is not None
        # The page has gone to the asset: it lies in the middle, shifted like the tiles below it.
        await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        await expect(page.get_by_role("region", name="水泊大街 1 号井")).to_be_visible()
        await expect(page.locator(".maplibregl-ctrl-attrib")).to_contain_text("测试")
        await site.close_pages()
    assert tiles.asked
    assert all(re.fullmatch(r"/\d+/\d+/\d+\.png", path) for path in tiles.asked)
    elsewhere = [one for one in site.refused if f"127.0.0.1:{tiles.server_port}" not in one]
    assert elsewhere == []
