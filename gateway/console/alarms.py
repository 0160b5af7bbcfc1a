"""Alarms over HTTP: lists, one alarm, its history, why, and what a person may do to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.convertors import Convertor, register_url_convertor

from gateway.console import models, views
from gateway.console.commands import Arguments, IdempotencyKey, carry_out, must_be
from gateway.console.gate import principal_of, scope_of, visible
from gateway.console.paging import Cursor, Limit, listed, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.model import MINUTE, AlarmRecord, CommandName, IsaState, Level, Micros
from gateway.core.records import AlarmFilter, Role


class _AlarmId(Convertor[str]):
    """``asset/rule``: exactly one slash, which servers decode from %2F before we see the path."""

    regex = "[^/]+/[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("alarm_id", _AlarmId())

SAMPLED: Micros = 30 * MINUTE  # how far back `why` shows readings; longer delays are seen in the chart
MAX_SAMPLES = 200
MAX_SAMPLED = 6  # points


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a person may do. ``why`` and ``arguments`` take it apart for the command; ``check`` raises a Problem
    for what the body names and is not there."""

    name: CommandName
    role: Role
    body: type[models.In]
    summary: str
    why: Callable[[Any], str | None] = lambda body: body.comment
    arguments: Callable[[Any], Arguments] = lambda body: {}
    check: Callable[[ConsolePort, str, Any], Awaitable[None]] | None = None


def _shelving(body: models.Shelving) -> Arguments:
    return {"once": body.once} | ({} if body.seconds is None else {"seconds": body.seconds})


def _time(given: datetime | None) -> Micros | None:
    return None if given is None else views.micros(given.isoformat())


def _out_of_service(body: models.OutOfServicing) -> Arguments:
    return {"work": body.work, "until": _time(body.until)}


def _told_late(body: Any) -> Arguments:
    return {} if body.at is None else {"device_at": _time(body.at)}


def _arriving(body: models.Arriving) -> Arguments:
    place = {"longitude": body.longitude, "latitude": body.latitude, "accuracy_m": body.accuracy_m}
    return {name: value for name, value in place.items() if value is not None} | _told_late(body)


def _finishing(body: models.Finishing) -> Arguments:
    said: Arguments = {"cause_code": body.cause_code, "photos": " ".join(body.photos)}
    return said | ({"by_person": True} if body.by_person else {}) | _told_late(body)


async def _has_photos(gateway: ConsolePort, alarm_id: str, body: models.Finishing) -> None:
    if not body.photos:
        return
    known = {row.id for row in await gateway.records.work.photos(alarm_id)}
    if missing := [photo for photo in body.photos if photo not in known]:
        raise Problem("invalid", f"photos: there is no photo {missing[0]} of this alarm")


ACTIONS: tuple[Action, ...] = (
    Action(CommandName.ACKNOWLEDGE, Role.OPERATOR, models.Simple, "Somebody has seen it and acts"),
    Action(CommandName.UNACKNOWLEDGE, Role.OPERATOR, models.Commented, "Take an acknowledgement back"),
    Action(
        CommandName.SHELVE,
        Role.OPERATOR,
        models.Shelving,
        "Set aside for a time; level I needs a supervisor",
        lambda body: body.reason,
        _shelving,
    ),
    Action(CommandName.UNSHELVE, Role.OPERATOR, models.Simple, "End the shelf now"),
    Action(
        CommandName.OUT_OF_SERVICE,
        Role.MAINTAINER,
        models.OutOfServicing,
        "Under maintenance: recorded, never annunciated",
        lambda body: body.reason,
        _out_of_service,
    ),
    Action(CommandName.IN_SERVICE, Role.MAINTAINER, models.Simple, "Maintenance is over"),
    Action(CommandName.RESET, Role.OPERATOR, models.Simple, "End a latched alarm whose condition is normal"),
    Action(CommandName.SILENCE, Role.OPERATOR, models.Simple, "Stop its sound until it is told again"),
    Action(
        CommandName.CONFIRM,
        Role.SUPERVISOR,
        models.Confirming,
        "Sign off an alarm that is over and asks for it",
        arguments=lambda b: {"cause_code": b.cause_code},
    ),
    Action(
        CommandName.FORCE_CLEAR,
        Role.SUPERVISOR,
        models.Commented,
        "End an active alarm whose condition is not true (its sensor is gone, say)",
    ),
    Action(CommandName.COMMENT, Role.OPERATOR, models.Commented, "Write a comment"),
    Action(
        CommandName.ASSIGN,
        Role.OPERATOR,
        models.Assigning,
        "Give to a person or crew",
        arguments=lambda b: {"to": b.to},
    ),
    Action(
        CommandName.DISPATCH,
        Role.OPERATOR,
        models.Dispatching,
        "Send a person, team or rota; others, when somebody was sent already",
        arguments=lambda b: {"to": b.to},
    ),
    Action(
        CommandName.ACCEPT,
        Role.MAINTAINER,
        models.Accepting,
        "Take the work; acknowledges the alarm",
        arguments=_told_late,
    ),
    Action(
        CommandName.REFUSE,
        Role.MAINTAINER,
        models.Refusing,
        "Give the work back: somebody else must be sent",
        lambda body: body.reason,
        _told_late,
    ),
    Action(CommandName.ON_SITE, Role.MAINTAINER, models.Arriving, "Arrive at the asset", arguments=_arriving),
    Action(
        CommandName.DONE,
        Role.MAINTAINER,
        models.Finishing,
        "Say that the work is done; the readings are asked whether it is",
        lambda body: body.action,
        _finishing,
        _has_photos,
    ),
    Action(CommandName.VERIFY, Role.SUPERVISOR, models.Verifying, "Close work that was looked at"),
    Action(
        CommandName.RETURN,
        Role.SUPERVISOR,
        models.Reasoned,
        "Send the same people again: it is not right",
        lambda body: body.reason,
    ),
    Action(
        CommandName.CLOSE,
        Role.OPERATOR,
        models.Reasoned,
        "Close work that is not needed",
        lambda body: body.reason,
    ),
)

_PATH = "/alarms/{alarm_id:alarm_id}"


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["alarms"])
    records = gateway.records

    async def existing(request: Request, alarm_id: str) -> AlarmRecord:
        visible(request, gateway, alarm_id.partition("/")[0], f"alarm {alarm_id!r} yet")
        record = await records.alarm(alarm_id)
        if record is None:
            raise Problem("not_found", f"there is no alarm {alarm_id!r} yet")
        return record

    @router.get("/alarms", response_model=models.ListOf[models.AlarmView])
    async def alarms(
        request: Request,
        state: Annotated[list[str] | None, Query(description="ISA states, comma-separated or repeated.")] = None,
        level: Annotated[list[str] | None, Query(description="I, II, III, IV.")] = None,
        kind: Annotated[list[str] | None, Query(description="Kinds of asset.")] = None,
        asset: Annotated[str | None, Query(max_length=200)] = None,
        rule: Annotated[str | None, Query(max_length=200)] = None,
        q: Annotated[str | None, Query(max_length=200, description="Part of the id or a title.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Every alarm that ever was, worst and newest first, the normal ones last; each filter narrows."""
        wanted = AlarmFilter(
            states=tuple(listed(state, "state", IsaState.__members__)),
            levels=tuple(listed(level, "level", Level.__members__)),
            kinds=tuple(listed(kind, "kind", None)),
            asset=asset,
            rule=rule,
            q=q,
            scope=scope_of(request),
        )
        return await page(records.alarms(wanted, limit, cursor), views.alarm)

    @router.get(_PATH, response_model=models.AlarmView)
    async def alarm(alarm_id: str, request: Request) -> dict[str, Any]:
        """The live record."""
        return views.alarm(await existing(request, alarm_id))

    @router.get(_PATH + "/history", response_model=models.ListOf[models.TransitionView])
    async def history(alarm_id: str, request: Request, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
        """Every recorded step, newest first."""
        await existing(request, alarm_id)
        return await page(records.history(alarm_id, limit, cursor), views.transition)

    @router.get(_PATH + "/why", response_model=models.WhyView)
    async def why(alarm_id: str, request: Request) -> dict[str, Any]:
        """Why an alarm stands, or why it does not: what its rule looks at with limits, timers and quality, what keeps
        it from being told, the newest readings, the rule, its newest step. For any asset and rule, raised or not."""
        asset, _, rule = alarm_id.partition("/")
        visible(request, gateway, asset)
        explanation = gateway.why(alarm_id)
        record = await records.alarm(alarm_id)
        if record is None and not explanation.applies and explanation.reasons[0].code in ("no_asset", "no_rule"):
            raise Problem("not_found", explanation.reasons[0].en)
        newest = (await records.history(alarm_id, 1)).items
        now = gateway.now()
        samples: dict[str, Any] = {}
        for point in explanation.points[:MAX_SAMPLED]:
            rows = await gateway.readings(asset, point.point, now - SAMPLED, now + MINUTE, None, MAX_SAMPLES)
            samples[point.point] = [views.reading(row) for row in rows]
        return {
            "alarm": None if record is None else views.alarm(record),
            "last_transition": views.transition(newest[0]) if newest else None,
            "rule": gateway.rule(rule),
            "points": [views.point(point) for point in gateway.points(asset)],
            "explanation": views.explanation(explanation),
            "samples": samples,
        }

    for action in ACTIONS:
        _add_action(router, gateway, action, existing)
    return router


def _add_action(
    router: APIRouter, gateway: ConsolePort, action: Action, existing: Callable[[Request, str], Any]
) -> None:
    async def act(
        alarm_id: str,
        body: Any,
        request: Request,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        principal = principal_of(request)
        record = await existing(request, alarm_id)
        await must_be(gateway, principal, _needed(action, record), action.name, alarm_id)

        async def check() -> None:
            if action.check is not None:
                await action.check(gateway, alarm_id, body)

        command_id, at = await carry_out(
            gateway,
            principal,
            idempotency_key,
            action.name,
            alarm_id,
            rev=body.rev,
            why=action.why(body),
            arguments=action.arguments(body),
            check=check,
        )
        after = views.alarm(await existing(request, alarm_id))
        return {"command_id": command_id, "at": views.iso(at), "alarm": after}

    act.__annotations__["body"] = action.body
    act.__name__ = action.name.value.replace("-", "_")
    act.__doc__ = f"{action.summary}. Needs the role {action.role.word}."
    router.add_api_route(
        f"{_PATH}/{action.name.value}",
        act,
        methods=["POST"],
        summary=action.summary,
        response_model=models.DoneView,
        responses={
            code: {"model": models.ProblemView, "description": text}
            for code, text in ((403, "Role"), (404, "No such alarm"), (409, "rev is stale, or not allowed now"))
        },
    )


def _needed(action: Action, record: AlarmRecord) -> Role:
    if action.name is CommandName.SHELVE and record.level is Level.I:
        return Role.SUPERVISOR
    return action.role
