"""What the tests of the console share: what would cost each of them a third of a second again and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from fastapi import params, routing
from fastapi._compat import v2
from fastapi.dependencies.models import Dependant
from pydantic import TypeAdapter


@pytest.fixture(autouse=True)
def nobody_pays_for_passwords(cheap_passwords: None) -> None:
    """Three people who can sign in would cost each test a third of a second."""


@pytest.fixture(scope="session", autouse=True)
def routes_are_looked_at_once() -> Iterator[None]:
    """Each test makes an application of its own, and FastAPI looks at the parameters and answers of its hundred routes
    each time. What it finds there is the same: annotations are evaluated in their module, where nothing belongs to one
    application."""
    adapters: dict[Any, TypeAdapter[Any]] = {}
    dependants: dict[Any, Dependant] = {}
    get_dependant = routing.get_dependant

    def adapter(type_: Any, *, config: Any = None) -> TypeAdapter[Any]:
        annotation, *more = get_args(type_)
        key = (annotation, repr(more), repr(config))
        if key not in adapters:
            adapters[key] = TypeAdapter(type_, config=config)
        return adapters[key]

    def dependant(*, path: str, call: Callable[..., Any], **how: Any) -> Dependant:
        code = getattr(call, "__code__", None)
        defaults = [
            *(getattr(call, "__defaults__", None) or ()),
            *(getattr(call, "__kwdefaults__", None) or {}).values(),
        ]
        if code is None or any(isinstance(one, params.Depends) for one in defaults):
            return get_dependant(path=path, call=call, **how)
        key = (path, code, repr(defaults), repr(how))
        if key not in dependants:
            dependants[key] = get_dependant(path=path, call=call, **how)
        found = dependants[key]
        return dataclasses.replace(found, call=call, dependencies=list(found.dependencies))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(v2, "TypeAdapter", adapter)
        patch.setattr(routing, "get_dependant", dependant)
        yield
