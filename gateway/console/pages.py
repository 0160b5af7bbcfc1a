"""The console's pages: what ``npm run build`` left in ``web/dist``, and the reader of the API in ``docs``.

Everything is read once, at start: a path that comes in is looked up in a table and never touches the disk. The build
lays a ``.br`` and a ``.gz`` beside what is worth it; a browser gets the smallest that it takes. What stands below
``/assets/`` bears its hash in its name and may be kept for ever; all else is asked for again and told when it is the
same. Every other path that does not end like a file is ``index.html``: the page finds its way by itself. So does the
crews' page below ``/crew``, a small application of its own, which a phone keeps to have it without a network (its
service worker is ``/sw.js``, for ``/crew`` alone).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

HERE = Path(__file__).parent
DIST = HERE / "web" / "dist"
DOCS = HERE / "docs"

INDEX = "/index.html"
CREW = "/crew/index.html"
IMMUTABLE = "/assets/"
NOT_PAGES = frozenset({"api", "metrics", "openapi.json"})  # first parts of paths that are never a page

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".pbf": "application/x-protobuf",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".wav": "audio/wav",
    ".webmanifest": "application/manifest+json",
}
ENCODINGS = {"br": ".br", "gzip": ".gz"}  # the better first

NOT_BUILT = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><title>城市更夫 citywatch</title></head><body>
<h1>页面尚未构建</h1>
<p>网关与接口运行正常，但控制台页面还没有构建。请在程序目录运行 <code>python3 run.py</code>，然后重新启动网关。</p>
<h1 lang="en">The pages have not been built</h1>
<p lang="en">The gateway and its API are running, but the console's pages have not been built. Run
<code>python3 run.py</code> in the program's folder, then start the gateway again.</p>
<p><a href="/docs">API</a></p>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file in every encoding there is ("" = as it is)."""

    media_type: str
    tag: str
    immutable: bool
    contents: dict[str, bytes]


class Pages:
    """An ASGI application for everything that is no route of the API. ``built``: there is a page to show."""

    def __init__(self, files: dict[str, PageFile]) -> None:
        self._files = files

    @classmethod
    def read(cls, dist: Path = DIST, docs: Path = DOCS) -> Pages:
        """The files as they are now; a folder that is not there is an empty one."""
        files = dict(_read(dist, "/"))
        files |= {name.removesuffix("/docs.html"): file for name, file in _read(docs, "/docs/")}
        return cls(files)

    @property
    def built(self) -> bool:
        return INDEX in self._files

    @property
    def paths(self) -> list[str]:
        """Every file that can be asked for."""
        return sorted(self._files)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not is_page(path):
            raise HTTPException(404)
        file = self._files.get(path) or (self._page(path) if _is_route(path) else None)
        await self._answer(file, path, Headers(scope=scope))(scope, receive, send)

    def _page(self, path: str) -> PageFile | None:
        crews = path.lstrip("/").partition("/")[0] == "crew"
        return (self._files.get(CREW) if crews else None) or self._files.get(INDEX)

    def _answer(self, file: PageFile | None, path: str, headers: Headers) -> Response:
        if file is None:
            if _is_route(path) and not self.built:
                return Response(NOT_BUILT, 503, {"Cache-Control": "no-store"}, "text/html; charset=utf-8")
            raise HTTPException(404)
        encoding = next((e for e in accepted(headers.get("accept-encoding", "")) if e in file.contents), "")
        tag = f'"{file.tag}{encoding and "-" + encoding}"'
        extra = {
            "ETag": tag,
            "Cache-Control": "public, max-age=31536000, immutable" if file.immutable else "no-cache",
        }
        if len(file.contents) > 1:
            extra["Vary"] = "Accept-Encoding"
        if tag in (given.strip().removeprefix("W/") for given in headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=extra)
        if encoding:
            extra["Content-Encoding"] = encoding
        return Response(file.contents[encoding], headers=extra, media_type=file.media_type)


def is_page(path: str) -> bool:
    """Whether ``path`` is the page's own, the same for everybody: no route of the API and nothing of the gateway's."""
    return path.lstrip("/").partition("/")[0].lower() not in NOT_PAGES


def accepted(header: str) -> list[str]:
    """Those of our encodings that an Accept-Encoding takes, the better first."""
    takes: dict[str, bool] = {}
    for part in header.split(","):
        name, _, parameters = part.partition(";")
        takes[name.strip().lower()] = parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return [encoding for encoding in ENCODINGS if takes.get(encoding, takes.get("*", False))]


def _is_route(path: str) -> bool:
    """A place within the application; an id at its end may have a dot, but does not end like a file of the web."""
    suffix = Path(path).suffix.lower()
    return suffix not in MEDIA_TYPES and suffix not in ENCODINGS.values()


def _read(folder: Path, below: str) -> Iterator[tuple[str, PageFile]]:
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        inside = file.relative_to(folder)
        if (
            file.is_symlink()
            or not file.is_file()
            or file.suffix in ENCODINGS.values()
            or any(p.startswith(".") for p in inside.parts)
        ):
            continue
        contents = {"": file.read_bytes()}
        for encoding, suffix in ENCODINGS.items():
            beside = file.with_name(file.name + suffix)
            if beside.is_file():
                contents[encoding] = beside.read_bytes()
        path = below + inside.as_posix()
        tag = hashlib.sha256(contents[""]).hexdigest()[:32]
        media_type = MEDIA_TYPES.get(file.suffix.lower(), "application/octet-stream")
        yield path, PageFile(media_type, tag, path.startswith(IMMUTABLE), contents)
