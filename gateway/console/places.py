"""The directory of assets: what each is called and where it is, by columns. A page asks for it once and then knows
every name it will show; the names of roads, towns and units are said once each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.console import models
from gateway.console.gate import scope_of
from gateway.console.packed import Packed, pack
from gateway.console.port import ConsolePort
from gateway.core.model import Asset
from gateway.core.records import Scope

SCOPES = 8  # directories kept: of the city, and of parts of it

_encode = msgspec.json.Encoder().encode


class PlacesView(models.Out):
    """All assets that the caller may see; the n-th entries of the columns are those of one asset."""

    kinds: list[str] = Field(description="What `kind` counts in, from 0.")
    roads: list[str] = Field(description="What `road` counts in.")
    towns: list[str] = Field(description="What `town` counts in.")
    units: list[str] = Field(description="What `unit` counts in.")
    asset: list[str]
    name: list[str] = Field(description="Empty where the name is the id.")
    kind: list[int]
    road: list[int]
    town: list[int]
    unit: list[int]
    longitude: list[float | None] = Field(description="WGS 84, degrees; null where it is not known.")
    latitude: list[float | None]


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["city"])
    kept: OrderedDict[Scope, tuple[int, Packed]] = OrderedDict()
    making = asyncio.Lock()

    @router.get("/places", response_model=PlacesView)
    async def places(request: Request) -> Response:
        """The directory of assets, by columns. `ETag` spares sending it again."""
        scope, city = scope_of(request), gateway.city
        async with making:
            version, packed = kept.get(scope, (-1, None))
            if packed is None or version != city.version:
                version, assets = city.version, city.assets()
                # Frozen assets in a list of our own: the thread sees one moment.
                packed = await pack([await asyncio.to_thread(_directory, [a for a in assets if scope.covers(a)])])
                kept[scope] = (version, packed)
            kept.move_to_end(scope)
            if len(kept) > SCOPES:
                kept.popitem(last=False)
        return await packed.answer(request)

    return router


def _directory(assets: list[Asset]) -> bytes:
    columns: dict[str, list[object]] = {
        "asset": [asset.asset for asset in assets],
        "name": ["" if asset.name == asset.asset else asset.name for asset in assets],
        "longitude": [None if asset.longitude is None else round(asset.longitude, 6) for asset in assets],
        "latitude": [None if asset.latitude is None else round(asset.latitude, 6) for asset in assets],
    }
    for one, many in (("kind", "kinds"), ("road", "roads"), ("town", "towns"), ("unit", "units")):
        numbers: dict[str, int] = {}
        columns[one] = [numbers.setdefault(getattr(asset, one), len(numbers)) for asset in assets]
        columns[many] = list(numbers)
    return _encode(columns)
