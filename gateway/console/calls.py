"""Who is told of an alarm, who is on duty, and to whom work can be given: the routes as people see them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from gateway.console import models, views
from gateway.console.gate import visible
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.calls import CallStatus
from gateway.core.model import Micros
from gateway.core.routing import Routing


class Named(models.Out):
    """Somebody or a group of people, as ``routes.yaml`` calls them."""

    name: str
    title: models.Title


class NextStep(models.Out):
    """What happens next unless somebody acts. ``people``: who would be told, were it now."""

    at: models.Time
    what: Literal["first", "step", "repeat", "time"]
    people: list[Named]


class CallView(models.Out):
    """One call about an alarm: the people of one route. ``alarms``: how many they are called about with it;
    ``waits_until``: when those not yet told will be; ``told``: whether this alarm has been."""

    route: str
    title: models.Title
    alarms: int
    told: bool
    told_at: models.Time | None
    waits_until: models.Time | None
    quiet: bool
    reached: list[Named]
    next: NextStep | None
    repeats: int


class CallsView(models.Out):
    """Everybody who is called about an alarm now. ``held_for``: those for whom it waits in a digest."""

    calls: list[CallView]
    held_for: list[Named]


class DutyView(models.Out):
    """A rota: who is on duty, and why they are. ``until``: when that changes; null: not within a year."""

    rota: str
    title: models.Title
    people: list[Named]
    why: Literal["shift", "swap", "fallback"]
    shift: str
    until: models.Time | None


class CrewView(models.Out):
    """To whom work can be given; ``people``: who that is now."""

    name: str
    title: models.Title
    kind: Literal["team", "rota", "person"]
    people: list[Named]


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["people told"])

    @router.get("/alarms/{alarm_id:alarm_id}/calls", response_model=CallsView)
    async def calls(alarm_id: str, request: Request) -> dict[str, Any]:
        """Who is called about an alarm now, on which routes, and who is next and when. What was sent, and whether it
        arrived, is in `/notifications`."""
        visible(request, gateway, alarm_id.partition("/")[0], f"alarm {alarm_id!r} yet")
        if await gateway.records.alarm(alarm_id) is None:
            raise Problem("not_found", f"there is no alarm {alarm_id!r} yet")
        routing, now = gateway.routing, gateway.now()
        found, held = gateway.calls_of(alarm_id)
        return {
            "calls": [_call(routing, one, now) for one in found],
            "held_for": [_person(routing, name) for name in held],
        }

    @router.get("/duty", response_model=list[DutyView])
    async def duty(
        at: Annotated[str | None, Query(max_length=40, description="ISO 8601; now when left out.")] = None,
    ) -> list[dict[str, Any]]:
        """Who is on duty on every rota."""
        moment = gateway.now() if at is None else _moment(at)
        routing = gateway.routing
        rows = []
        for name, rota in routing.rotas.items():
            found = rota.on_duty(moment)
            rows.append(
                {
                    "rota": name,
                    "title": _title(routing, name),
                    "people": [_person(routing, one) for one in found.people],
                    "why": found.why,
                    "shift": found.shift,
                    "until": views.iso_or_none(rota.next_change(moment)),
                }
            )
        return rows

    @router.get("/crews", response_model=list[CrewView])
    async def crews() -> list[dict[str, Any]]:
        """Teams, rotas and people to whom work can be given, in the order of the file."""
        routing, now = gateway.routing, gateway.now()
        rows: list[dict[str, Any]] = []
        for kind, names in (("team", routing.teams), ("rota", routing.rotas)):
            for name in names:
                people = [_person(routing, one) for one in routing.people_of(routing.named(name), now)]
                rows.append({"name": name, "title": _title(routing, name), "kind": kind, "people": people})
        for name in routing.people:
            somebody = _person(routing, name)
            rows.append({**somebody, "kind": "person", "people": [somebody]})
        return rows

    return router


def _call(routing: Routing, one: CallStatus, now: int) -> dict[str, Any]:
    following = None
    if one.next_at is not None:
        people = routing.people_of(one.next_tell, max(now, one.next_at))
        following = {
            "at": views.iso(one.next_at),
            "what": one.next_what,
            "people": [_person(routing, p) for p in people],
        }
    return {
        "route": one.route,
        "title": {"zh": one.title_zh or one.route, "en": one.title_en or one.route},
        "alarms": one.alarms,
        "told": one.told,
        "told_at": views.iso_or_none(one.told_at),
        "waits_until": views.iso_or_none(one.waits_until),
        "quiet": one.quiet,
        "reached": [_person(routing, name) for name in one.reached],
        "next": following,
        "repeats": one.repeats,
    }


def _moment(text: str) -> Micros:
    try:
        return views.micros(text)
    except (ValueError, OverflowError) as error:
        raise Problem("invalid", f"at: {error}") from error


def _person(routing: Routing, name: str) -> dict[str, Any]:
    person = routing.people.get(name)
    zh = person.name if person is not None else name
    en = (person.name_en or person.name) if person is not None else name
    return {"name": name, "title": {"zh": zh, "en": en}}


def _title(routing: Routing, name: str) -> dict[str, str]:
    zh, en = routing.titles.get(name, (name, name))
    return {"zh": zh, "en": en}
