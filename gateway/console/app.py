"""The console's HTTP application: the API of ``docs/api.md``, the live stream, and the page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Never, Self, cast

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway import __version__
from gateway.console import alarms, city, load, models, problems, system
from gateway.console.feed import Feed
from gateway.console.gate import Gate
from gateway.console.port import ConsolePort

WEB = Path(__file__).with_name("web")

# Path on the server → file and media type. A table, not a folder: nothing else can be asked for.
PAGES: dict[str, tuple[str, str]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
    "/static/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/static/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/static/style.css": ("style.css", "text/css; charset=utf-8"),
}

DESCRIPTION = """Live alarms, assets and readings of a city.

Programs send `Authorization: Bearer <token>`; the first token is shown once at the first start. Times are ISO 8601 with
zone. Lists give a `cursor` for the next page. Errors are RFC 9457 problem documents with a `code` and titles in Chinese
and English."""


def create_app(gateway: ConsolePort, feed: Feed) -> ASGIApp:
    """The ASGI application for ``gateway``. ``feed`` is what the pipeline publishes committed transitions to."""
    return _application(gateway, feed)[1]


def openapi_document() -> dict[str, Any]:
    """What ``/openapi.json`` gives, without a gateway: no route is ever asked, only described."""
    nobody = cast(ConsolePort, _Nobody())
    return _application(nobody, Feed(nobody.records.standing, nobody.now))[0].openapi()


class _Nobody:
    """Stands in the gateway's place while routes are made: everything may be named, and nothing asked."""

    def __getattr__(self, name: str) -> Self:
        return self

    def __call__(self, *arguments: object, **named: object) -> Never:
        raise RuntimeError("the application was made to be described, not to run")


def _application(gateway: ConsolePort, feed: Feed) -> tuple[FastAPI, ASGIApp]:
    """The API as it describes itself, and the door before it."""
    app = FastAPI(
        title="citywatch 城市更夫",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"default": {"model": models.ProblemView, "description": "A problem document"}},
    )
    problems.install(app)
    gate = Gate(app, gateway)
    named = [
        Security(HTTPBearer(auto_error=False, description="A token.")),
        Security(APIKeyCookie(name="citywatch", auto_error=False, description="A session of the page.")),
    ]
    v1 = "/api/v1"
    app.include_router(system.public_routes(gateway), prefix=v1)
    routers = (alarms.routes(gateway), city.routes(gateway), load.routes(gateway), system.routes(gateway, feed, gate))
    for router in routers:
        app.include_router(router, prefix=v1, dependencies=named)
    app.include_router(system.metrics_route(gateway), dependencies=named)
    app.include_router(_pages())
    return app, gate


def _pages() -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in PAGES.items():
        router.add_api_route(path, _page((WEB / name).read_bytes(), media_type), methods=["GET"])
    return router


def _page(content: bytes, media_type: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """One file from memory; browsers ask again each time and are told when it is the same."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    async def page(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(content, media_type=media_type, headers={"ETag": tag})

    return page
