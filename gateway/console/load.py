"""Operator load over HTTP, now and for any period; and how rules on trial agree with the rules in force."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from gateway.console import models, views
from gateway.console.gate import scope_of
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.agreement import agreement
from gateway.core.load import FloodWatch, report_of
from gateway.core.model import HOUR, Micros, Transition
from gateway.core.records import Scope

PERIOD: Micros = 24 * HOUR  # asked for when nothing is said
NOW: Micros = HOUR  # steps read for the ten minutes of a part of the city: a flood that began earlier is seen as one
LONGEST: Micros = 100 * 24 * HOUR
MAX_STEPS = 500_000  # a hundred days of a county with five alarms a minute; a storm's worth more is an export

When = Annotated[str | None, Query(max_length=40, description="ISO 8601 with zone.")]


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["operator load"])

    @router.get("/operator-load", response_model=models.LoadView)
    async def operator_load(request: Request, since: When = None, until: When = None) -> dict[str, Any]:
        """Annunciated alarms per 10 min, floods, the most frequent rules, chattering and stale alarms, time to
        acknowledge and to clear; the last 24 h when no period is given. ``now`` is the last ten minutes."""
        begin, end = _period(gateway, since, until)
        scope = scope_of(request)
        report = report_of(await _steps(gateway, begin, end, scope), begin, end)
        return {**views.load_report(report), "now": views.load_now(await load_now(gateway, scope))}

    @router.get("/shadow", response_model=list[models.ShadowView])
    async def shadow(request: Request, since: When = None, until: When = None) -> list[dict[str, Any]]:
        """For each rule on trial: how often and for how long it and the rule in force stood together or alone."""
        begin, end = _period(gateway, since, until)
        on_trial = gateway.shadows()
        steps = await _steps(gateway, begin, end, scope_of(request)) if on_trial else []
        return [
            views.agreement(agreement(steps, shadow, other, begin, end)) for shadow, other in sorted(on_trial.items())
        ]

    return router


def _period(gateway: ConsolePort, since: str | None, until: str | None) -> tuple[Micros, Micros]:
    try:
        end = views.micros(until) if until is not None else gateway.now()
        begin = views.micros(since) if since is not None else end - PERIOD
    except ValueError as error:
        raise Problem("invalid", str(error)) from error
    if not begin < end <= begin + LONGEST:
        raise Problem("invalid", "`since` lies before `until`, at most 100 days")
    return begin, end


async def load_now(gateway: ConsolePort, scope: Scope) -> FloodWatch:
    """The last ten minutes: of the whole city from memory, of a part of it from what was recorded."""
    if not scope:
        return gateway.load()
    watch, now = FloodWatch(), gateway.now()
    for step in await _steps(gateway, now - NOW, now + 1, scope):
        watch.take(step)
    watch.advance(now)
    return watch


async def _steps(gateway: ConsolePort, begin: Micros, end: Micros, scope: Scope) -> list[Transition]:
    steps = await gateway.records.transitions_between(begin, end, MAX_STEPS + 1, scope)
    if len(steps) > MAX_STEPS:
        raise Problem("invalid", f"more than {MAX_STEPS} steps in this period; ask for a shorter one")
    return steps
