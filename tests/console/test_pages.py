"""The pages: found in a table, in the smallest encoding a browser takes, and never where the API answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import httpx
import pytest

from gateway.console.pages import DIST, DOCS, Pages, accepted
from tests.console.city import record, running, step

SCRIPT = b"console.log(1);" * 200


def built(folder: Path) -> Pages:
    """What a build leaves: a page, a script in three encodings, a font, a manifest that is nobody's business."""
    dist = folder / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / ".vite").mkdir()
    (dist / "index.html").write_text("<!doctype html><title>page</title>")
    (dist / "favicon.svg").write_text("<svg/>")
    (dist / ".vite/manifest.json").write_text("{}")
    (dist / "assets/app-1a2b.js").write_bytes(SCRIPT)
    (dist / "assets/app-1a2b.js.br").write_bytes(b"brotli")
    (dist / "assets/app-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (dist / "assets/font-9.woff2").write_bytes(b"font")
    return Pages.read(dist)


async def test_every_place_of_the_application_is_the_page(tmp_path: Path) -> None:
    async with running(tmp_path, pages=built(tmp_path)) as console, console.client(None) as client:
        for path in (
            "/",
            "/index.html",
            "/wall",
            "/alarms/lamp-1%2Flamp-out",
            "/assets",
            "/assets/cam-0.1",
            "/a/b/c",
            "/apis",
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.text) == (200, "<!doctype html><title>page</title>"), path
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["cache-control"] == "no-cache"
        again = await client.get("/wall", headers={"If-None-Match": f'W/"x", {answer.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        head = await client.head("/")
        assert (head.status_code, head.content) == (200, b"")


async def test_files_are_a_table_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.js").write_text("secret")
    built(tmp_path)
    (tmp_path / "dist/assets/link.js").symlink_to(tmp_path / "secret.js")
    pages = Pages.read(tmp_path / "dist")
    assert "/assets/app-1a2b.js" in pages.paths
    assert "/assets/link.js" not in pages.paths
    (tmp_path / "dist/assets/late.js").write_text("late")
    async with running(tmp_path, pages=pages) as console, console.client(None) as client:
        for path in (
            "/assets/../../secret.js",
            "/assets/%2e%2e/%2e%2e/secret.js",
            "/assets/..%2f..%2fsecret.js",
            "/assets/",
            "/assets",
            "/assets/late.js",
            "/assets/app-1a2b.js.br",
            "/assets/app-1a2b.js%00",
            "/assets/app-1a2b.js/",
            "/.vite/manifest.json",
            "/docs/nothing.js",
            "/app.py",
            "/%2e%2e/app.py",
        ):
            answer = await client.get(console.url + path)
            assert "secret" not in answer.text
            assert answer.status_code == 404 or answer.text.startswith("<!doctype html><title>page"), path
            if path.endswith((".js", ".br", ".json")):
                assert answer.status_code == 404, path


async def test_what_bears_its_hash_may_be_kept_for_ever(tmp_path: Path) -> None:
    async with running(tmp_path, pages=built(tmp_path)) as console, console.client(None) as client:
        for path, kept in (("/assets/font-9.woff2", True), ("/assets/app-1a2b.js", True), ("/favicon.svg", False)):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert ("immutable" in answer.headers["cache-control"]) is kept


async def test_a_browser_gets_the_smallest_encoding_it_takes(tmp_path: Path) -> None:
    async with running(tmp_path, pages=built(tmp_path)) as console, console.client(None) as client:
        tags = set()
        for takes, expected in (
            ("gzip, deflate, br, zstd", "br"),
            ("gzip;q=1.0, br;q=0", "gzip"),
            ("gzip", "gzip"),
            ("identity", None),
            ("*", "br"),
        ):
            async with client.stream("GET", "/assets/app-1a2b.js", headers={"Accept-Encoding": takes}) as answer:
                content = b"".join([part async for part in answer.aiter_raw()])
            assert answer.headers.get("content-encoding") == expected, takes
            assert answer.headers["vary"] == "Accept-Encoding"
            assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
            match expected:
                case "br":
                    assert content == b"brotli"
                case "gzip":
                    assert gzip.decompress(content) == SCRIPT
                case _:
                    assert content == SCRIPT
            tags.add(answer.headers["etag"])
        assert len(tags) == 3, "an answer is the same only in the same encoding"


@pytest.mark.parametrize(
    ("header", "encodings"),
    [("", []), ("br", ["br"]), ("GZIP , br", ["br", "gzip"]), ("*;q=0", []), ("*, br;q=0.000", ["gzip"])],
)
def test_accept_encoding_is_read_as_it_is_written(header: str, encodings: list[str]) -> None:
    assert accepted(header) == encodings


async def test_without_a_build_a_page_says_how_to_get_one(tmp_path: Path) -> None:
    async with running(tmp_path, pages=Pages.read(tmp_path / "nothing")) as console, console.client(None) as client:
        for path in ("/", "/alarms"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "python3 run.py" in answer.text
            assert "构建" in answer.text
            assert "have not been built" in answer.text
        assert (await client.get("/assets/app.js")).status_code == 404
        assert (await client.get("/docs")).status_code == 200
        assert (await client.get("/api/v1/health")).status_code == 200


async def test_the_api_is_never_answered_with_a_page(tmp_path: Path) -> None:
    async with running(tmp_path, pages=built(tmp_path)) as console, console.client() as client:
        for path in ("/api", "/api/v1/nothing", "//api/v1/alarms", "/API/V1/ALARMS", "/metrics/x", "/openapi.json/"):
            answer = await client.get(httpx.URL(console.url + path))
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
        for method, status in (("POST", 404), ("PUT", 404), ("DELETE", 404)):
            assert (await client.request(method, "/wall")).status_code == status
        assert (await client.post("/api/v1/health")).status_code == 405
        async with console.client(None) as nobody:
            assert (await nobody.post("/wall")).status_code == 401
            assert (await nobody.get("/api/v1/nothing")).status_code == 401


async def test_long_answers_are_compressed_and_short_ones_are_not(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client() as client:
        await console.gateway.commit(*(step(record(f"lamp-{number}")) for number in range(20)))
        for path, size in (("/api/v1/alarms", 20), ("/api/v1/session", 0)):
            takes = await client.get(path, headers={"Accept-Encoding": "gzip"})
            assert takes.headers.get("content-encoding") == ("gzip" if size else None)
            plain = await client.get(path, headers={"Accept-Encoding": "identity"})
            assert plain.headers.get("content-encoding") is None
            assert plain.json() == takes.json()
        problem = await client.get("/api/v1/alarms?" + "state=x&" * 200, headers={"Accept-Encoding": "gzip"})
        assert problem.json()["code"] == "invalid"


async def test_the_live_stream_is_not_compressed_and_not_held_back(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as console,
        console.client() as client,
        client.stream("GET", "/api/v1/stream", headers={"Accept-Encoding": "gzip, br"}) as answer,
    ):
        assert "content-encoding" not in answer.headers
        lines = answer.aiter_lines()
        async for line in lines:
            if line == "event: snapshot":
                break
        await console.gateway.commit(step(record()))
        async for line in lines:
            if line.startswith("data: ") and "lamp-1/lamp-out" in line:
                assert json.loads(line[6:])["rev"] == 1
                break


def shipped() -> list[Path]:
    """What we serve, written by us or built."""
    return [file for folder in (DOCS, DIST) for file in folder.rglob("*.html") if folder.is_dir()]


def test_our_pages_are_made_for_their_own_policy() -> None:
    """No inline script or style, nothing from elsewhere."""
    assert DOCS / "docs.html" in shipped()
    for file in shipped():
        html = file.read_text(encoding="utf-8")
        assert "<style" not in html
        assert " style=" not in html
        assert "onclick" not in html
        assert html.count("<script") == sum(html.count(f"<script {a}") for a in ("src=", 'type="module"'))
        assert "http://" not in html.replace("http://www.w3.org", "")
        assert "https://" not in html
    script = (DOCS / "docs.js").read_text(encoding="utf-8")
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert sink not in script
