"""The console's HTTP application: the API of ``docs/api.md``, the live stream, and the page."""

from __future__ import annotations

from typing import Any, Never, Self, cast

from fastapi import FastAPI, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import __version__
from gateway.console import (
    alarms,
    calls,
    canaries,
    cases,
    city,
    devices,
    inbound,
    journal,
    links,
    load,
    maintenance,
    map,
    models,
    names,
    notes,
    oidc,
    operation,
    overview,
    people,
    places,
    platforms,
    problems,
    rules,
    shift,
    system,
    trends,
    work,
)
from gateway.console.answers import Answers
from gateway.console.feed import Feed
from gateway.console.gate import Gate
from gateway.console.pages import Pages, is_page
from gateway.console.port import ConsolePort
from gateway.console.sheets import MEDIA_TYPES, XLSX
from gateway.core.base_map import NO_BASE, BaseMap

COMPRESS_FROM = 1_000  # bytes
COMPRESS_LEVEL = 1  # a page of 1,000 alarms, 0.9 MB: 1.3 ms (level 6: 2.9) beside 11 ms for making it
COMPRESS_ASIDE = 128 << 10  # bytes from which a thread compresses
# As small as they will be.
PACKED = ("application/octet-stream", "application/vnd.pmtiles", MEDIA_TYPES[XLSX], "image/")

DESCRIPTION = """Live alarms, assets and readings of a city.

Programs send `Authorization: Bearer <token>`; the first token is shown once at the first start. Times are ISO 8601 with
zone. Lists give a `cursor` for the next page. Errors are RFC 9457 problem documents with a `code` and titles in Chinese
and English."""


def create_app(gateway: ConsolePort, feed: Feed, pages: Pages | None = None, base_map: BaseMap = NO_BASE) -> ASGIApp:
    """The ASGI application for ``gateway``. ``feed`` is what the pipeline publishes committed transitions to;
    ``pages`` are those that were built, where nothing is said; ``base_map`` lies below the assets."""
    return _application(gateway, feed, pages if pages is not None else Pages.read(), base_map)[1]


def openapi_document() -> dict[str, Any]:
    """What ``/openapi.json`` gives, without a gateway: no route is ever asked, only described."""
    nobody = cast(ConsolePort, _Nobody())
    return _application(nobody, Feed(nobody.records.standing, nobody.now), Pages({}), NO_BASE)[0].openapi()


class _Nobody:
    """Stands in the gateway's place while routes are made: everything may be named, and nothing asked."""

    def __getattr__(self, name: str) -> Self:
        return self

    def __call__(self, *arguments: object, **named: object) -> Never:
        raise RuntimeError("the application was made to be described, not to run")


def _application(gateway: ConsolePort, feed: Feed, pages: Pages, base: BaseMap) -> tuple[FastAPI, ASGIApp]:
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
    gate = Gate(app, gateway, map.tiles_origin(base))
    named = [
        Security(HTTPBearer(auto_error=False, description="A token.")),
        Security(APIKeyCookie(name="citywatch", auto_error=False, description="A session of the page.")),
    ]
    v1 = "/api/v1"
    door = people.Door(gateway, gate)
    app.include_router(system.public_routes(gateway), prefix=v1)
    app.include_router(people.public_routes(gateway, door), prefix=v1)
    app.include_router(oidc.routes(gateway, door), prefix=v1)
    answers = Answers(gateway)
    app.include_router(inbound.routes(gateway, answers), prefix=v1)
    app.include_router(platforms.routes(gateway), prefix=v1)
    app.include_router(links.routes(gateway, answers))
    routers = (
        alarms.routes(gateway),
        canaries.routes(gateway),
        cases.routes(gateway),
        city.routes(gateway),
        devices.routes(gateway),
        journal.routes(gateway),
        load.routes(gateway),
        maintenance.routes(gateway),
        map.routes(gateway, base),
        overview.routes(gateway),
        trends.routes(gateway),
        names.routes(),
        notes.routes(gateway),
        operation.routes(gateway),
        people.routes(gateway, gate, door),
        rules.routes(gateway),
        places.routes(gateway),
        shift.routes(gateway),
        system.routes(gateway, feed, gate),
        work.routes(gateway),
        calls.routes(gateway),
    )
    for router in routers:
        app.include_router(router, prefix=v1, dependencies=named)
    app.include_router(system.metrics_route(gateway), dependencies=named)
    app.router.default = pages
    app.add_middleware(
        _Compressed,
        minimum_size=COMPRESS_FROM,
        compresslevel=COMPRESS_LEVEL,
        thread_minimum_size=COMPRESS_ASIDE,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, *PACKED),
    )
    return app, gate


class _Compressed(GZipMiddleware):
    """Long answers of the API as gzip; pages bring their own, and a stream or a part of a file stays as it is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_page(scope["path"]):
            return await self.app(scope, receive, send)
        await super().__call__(scope, receive, send)
