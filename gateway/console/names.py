"""What people call kinds, points and attributes, over HTTP: one answer for all pages."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.console import models
from gateway.console.packed import Packed, pack
from gateway.core import names


class NamesView(models.Out):
    """Names in both languages by id; what is not here is called by its id."""

    kinds: dict[str, models.Title]
    points: dict[str, models.Title] = Field(description="`pN_run` stands for p1_run, p2_run, …: N is the pump.")
    points_of_kind: dict[str, dict[str, models.Title]] = Field(description="Where a kind calls a point otherwise.")
    attributes: dict[str, models.Title]
    states: dict[str, dict[str, models.Title]] = Field(description="What a value of a point means: `true`, `false`, …")


def routes() -> APIRouter:
    router = APIRouter(tags=["city"])
    packed: list[Packed] = []

    @router.get("/names", response_model=NamesView)
    async def all_names(request: Request) -> Response:
        """What people call the kinds of assets, their points and their attributes, in Chinese and English."""
        if not packed:
            packed.append(await pack([msgspec.json.encode(_names())]))
        return await packed[0].answer(request)

    return router


def _names() -> dict[str, Any]:
    return {
        "kinds": {kind: _title(pair) for kind, pair in names.KIND_NAMES.items()},
        "points": {point: _title(pair) for point, pair in names.POINT_NAMES.items()},
        "points_of_kind": {
            kind: {point: _title(pair) for point, pair in points.items()} for kind, points in names.OF_KIND.items()
        },
        "attributes": {name: _title(pair) for name, pair in names.ATTRIBUTE_NAMES.items()},
        "states": {
            point: {_word(value): _title(pair) for value, pair in values.items()}
            for point, values in names.STATES.items()
        },
    }


def _word(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _title(pair: names.Pair) -> dict[str, str]:
    return {"zh": pair[0], "en": pair[1]}
