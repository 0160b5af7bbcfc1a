"""Rules over HTTP: the list, one rule, what a text would do, and how a rule is changed, switched and put back."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from gateway.console import models, views
from gateway.console import rule_models as shapes
from gateway.console.gate import Principal, needs, scope_of, visible
from gateway.console.paging import Cursor
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.console.rule_port import (
    Backtest,
    ChangeBy,
    Checked,
    Comparison,
    RuleInForce,
    Side,
    StoriesReport,
    StoryOutcome,
)
from gateway.core.limits import LimitView, limits_of
from gateway.core.model import HOUR, Micros
from gateway.core.records import MAX_PAGE, Role, RuleChangeRow
from gateway.core.rule import Rule, steps
from gateway.core.words import Words
from gateway.errors import ConfigError, Mistake

Result = TypeVar("Result")

RECENT: Micros = 24 * HOUR

# Rules are the whole city's: who sees a part of it may look at them.
Engineer = Annotated[Principal, Depends(needs(Role.ENGINEER))]
CityEngineer = Annotated[Principal, Depends(needs(Role.ENGINEER, whole_city=True))]
ChangesLimit = Annotated[int, Query(ge=1, le=200, description="Items a page.")]


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["rules"])
    _add_looking(router, gateway)
    _add_trying(router, gateway)
    _add_changing(router, gateway)
    return router


# -- looking ----------------------------------------------------------------------------------------------------------


def _add_looking(router: APIRouter, gateway: ConsolePort) -> None:
    @router.get("/rules", response_model=models.ListOf[shapes.RuleView])
    async def rules(
        request: Request,
        kind: Annotated[str | None, Query(max_length=32, description="Rules about this kind of asset.")] = None,
        enabled: bool | None = None,
        q: Annotated[str | None, Query(max_length=200, description="Part of the id, a title or the words.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items a page.")] = MAX_PAGE,
        cursor: Annotated[str | None, Query(max_length=128, description="From the page before.")] = None,
    ) -> dict[str, Any]:
        """Every rule in force, on trial or switched off, in the order of the files."""
        found = [one for one in (await gateway.rulebook.rules()).values() if _matches(one, kind, enabled, q)]
        names = [one.rule.id for one in found]
        if cursor is not None and cursor not in names:
            raise Problem("bad_cursor")
        first = 0 if cursor is None else names.index(cursor) + 1
        shown = found[first : first + limit]
        more = await _more(gateway, request)
        items = [_rule(one, more) for one in shown]
        return {"items": items, "cursor": shown[-1].rule.id if first + limit < len(found) else None}

    @router.get("/rules/{rule}", response_model=shapes.RuleDetail)
    async def rule(rule: str, request: Request) -> dict[str, Any]:
        """One rule with its text, its limits, and the stories that name it."""
        return await _detail(gateway, request, await _existing(gateway, rule))

    @router.get("/rules/{rule}/limits", response_model=list[shapes.LimitOut])
    async def limits(rule: str, asset: Annotated[str, Query(max_length=64)], request: Request) -> list[dict[str, Any]]:
        """The numeric limits of a rule on one asset: overrides applied, attributes filled in; for drawing over a chart.
        Empty where the rule has none for it."""
        visible(request, gateway, asset)
        found = gateway.rulebook.limits(rule, asset)
        if found is None:
            raise Problem("not_found", f"there is no rule {rule!r}, or no asset {asset!r}")
        return [_limit(one) for one in found]

    @router.get("/assets/{asset_id}/limits", response_model=list[shapes.AssetLimitOut])
    async def limits_of_asset(asset_id: str, request: Request) -> list[dict[str, Any]]:
        """The numeric limits of all rules in force on one asset, as `GET /rules/{rule}/limits` gives those of one."""
        visible(request, gateway, asset_id)
        if gateway.asset(asset_id) is None:
            raise Problem("not_found", f"there is no asset {asset_id!r}")
        rules = [one.rule for one in (await gateway.rulebook.rules()).values()]
        asked = [rule.id for rule in rules if rule.enabled and not rule.shadow]
        return [
            _limit(limit) | {"rule": rule} for rule in asked for limit in gateway.rulebook.limits(rule, asset_id) or ()
        ]

    @router.get("/rules/{rule}/changes", response_model=models.ListOf[shapes.RuleChangeView])
    async def changes_of(rule: str, limit: ChangesLimit = 50, cursor: Cursor = None) -> dict[str, Any]:
        """What was changed of a rule through the API, newest first."""
        return await _changes(gateway, rule, limit, cursor)

    @router.get("/rule-changes", response_model=models.ListOf[shapes.RuleChangeView])
    async def changes(limit: ChangesLimit = 50, cursor: Cursor = None) -> dict[str, Any]:
        """What was changed of any rule through the API, newest first."""
        return await _changes(gateway, None, limit, cursor)


async def _changes(gateway: ConsolePort, rule: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
    try:
        found = await gateway.records.rule_changes.page(rule, limit, cursor)
    except ValueError as error:
        raise Problem("bad_cursor") from error
    # A diff of two long texts can take a while: not in the loop.
    items = await asyncio.to_thread(lambda: [_change(row) for row in found.items])
    return {"items": items, "cursor": found.cursor}


# -- trying -----------------------------------------------------------------------------------------------------------


def _add_trying(router: APIRouter, gateway: ConsolePort) -> None:
    @router.post("/rules/check", response_model=shapes.CheckView)
    async def check(body: shapes.Check, who: Engineer) -> dict[str, Any]:
        """What ``citywatch check`` would say of a text in place of the rule in force; changes nothing. Needs the role
        engineer."""
        found = await gateway.rulebook.check(body.yaml, body.rule)
        return {
            "mistakes": [_mistake(one) for one in found.mistakes],
            "words": None if found.words is None else _words(found.words),
            "plain": None if found.rule is None else _plain(found.rule),
            "data": found.data,
            "limits": None if found.rule is None else [_limit(one) for one in limits_of(found.rule)],
        }

    @router.post("/rules/stories", response_model=shapes.StoriesView, responses=_MISTAKEN)
    async def stories(body: shapes.TellStories, who: Engineer) -> dict[str, Any]:
        """Tell the shipped and the site's stories that a rule could change, with this text in its place. One at a time
        a person; up to a minute. Needs the role engineer."""
        await _without_mistakes(gateway, body.yaml, body.rule)
        return _stories(await gateway.trials.stories(body.rule, body.yaml, who.name))

    @router.post("/backtests", response_model=shapes.BacktestView, status_code=202, responses=_MISTAKEN)
    async def begin(body: shapes.Compare, who: CityEngineer) -> dict[str, Any]:
        """Ask what a text would have made of the readings that are kept, beside the rule in force. They run one after
        the other; the last 20 are kept until the gateway stops. Needs the role engineer."""
        await _without_mistakes(gateway, body.yaml, body.rule)
        since, until = views.micros(body.since.isoformat()), views.micros(body.until.isoformat())
        return _backtest(gateway.trials.begin(body.rule, body.yaml, who.name, since, until, body.assets))

    @router.get("/backtests", response_model=list[shapes.BacktestView])
    async def backtests(who: CityEngineer) -> list[dict[str, Any]]:
        """Those that are kept, the newest first, without their reports. Needs the role engineer."""
        return [_backtest(one) | {"report": None} for one in gateway.trials.backtests()]

    @router.get("/backtests/{id}", response_model=shapes.BacktestView)
    async def backtest(id: str, who: CityEngineer) -> dict[str, Any]:
        """How far it is, and its report. Needs the role engineer."""
        return _backtest(_kept(gateway.trials.backtest(id), id))

    @router.delete("/backtests/{id}", response_model=shapes.BacktestView)
    async def cancel(id: str, who: CityEngineer) -> dict[str, Any]:
        """End one that waits or runs. Needs the role engineer."""
        return _backtest(_kept(gateway.trials.cancel(id), id))


async def _without_mistakes(gateway: ConsolePort, text: str, rule: str) -> Checked:
    found = await gateway.rulebook.check(text, rule)
    if found.mistakes:
        raise _mistaken(found.mistakes)
    return found


def _kept(found: Backtest | None, id_: str) -> Backtest:
    if found is None:
        raise Problem("not_found", f"there is no backtest {id_!r}, or not any more")
    return found


# -- changing ---------------------------------------------------------------------------------------------------------


def _add_changing(router: APIRouter, gateway: ConsolePort) -> None:
    async def after(request: Request, change: Awaitable[RuleInForce | None]) -> dict[str, Any] | None:
        found = await _taken(change)
        return None if found is None else await _detail(gateway, request, found)

    @router.put("/rules/{rule}", response_model=shapes.RuleDetail, responses=_MISTAKEN)
    async def put(rule: str, body: shapes.PutRule, who: CityEngineer, request: Request) -> dict[str, Any]:
        """Put a text in force in place of the rule, or on trial beside it (``shadow``). A text with a mistake changes
        nothing. Needs the role engineer."""
        book = gateway.rulebook
        change = (book.put_on_trial if body.shadow else book.put)(rule, body.yaml, body.rev, _by(who, body.why))
        return await after(request, change) or {}

    @router.patch("/rules/{rule}", response_model=shapes.RuleDetail, responses=_MISTAKEN)
    async def switch(rule: str, body: shapes.SwitchRule, who: CityEngineer, request: Request) -> dict[str, Any]:
        """Switch a rule on or off; what stands of a rule that is switched off is closed with the reason. Needs the role
        engineer."""
        return await after(request, gateway.rulebook.switch(rule, body.enabled, body.rev, _by(who, body.why))) or {}

    @router.delete("/rules/{rule}", response_model=shapes.RuleAfter, responses=_MISTAKEN)
    async def reset(
        rule: str,
        who: CityEngineer,
        request: Request,
        body: shapes.ResetRule | None = None,
        why: Annotated[str | None, Query(max_length=1000, description="Where a body cannot be sent.")] = None,
    ) -> dict[str, Any]:
        """Back to what the rule files say: a rule that was made at the console, or a trial, is gone. Needs the role
        engineer."""
        said = body.why if body is not None else (why or "").strip()
        if not said:
            raise Problem("invalid", "why: say why")
        rev = body.rev if body is not None else None
        return {"rule": await after(request, gateway.rulebook.reset(rule, rev, _by(who, said)))}

    @router.post("/rule-changes/{id}/undo", response_model=shapes.RuleAfter, responses=_MISTAKEN)
    async def undo(id: int, body: shapes.Because, who: CityEngineer, request: Request) -> dict[str, Any]:
        """Put back what was in force before a change, as a new change; 409 when the rule has been changed since. Needs
        the role engineer."""
        return {"rule": await after(request, gateway.rulebook.undo(id, _by(who, body.why)))}


async def _taken(change: Awaitable[Result]) -> Result:
    """A change, or the problem with its mistakes."""
    try:
        return await change
    except ConfigError as error:
        raise _mistaken(error.mistakes) from error


def _by(who: Principal, why: str) -> ChangeBy:
    return ChangeBy(who.name, why, who.channel)


class MistakenView(models.ProblemView):
    """The text has mistakes: nothing was changed."""

    mistakes: list[shapes.MistakeView]


_MISTAKEN: dict[int | str, dict[str, Any]] = {422: {"model": MistakenView}}


def _mistaken(mistakes: list[Mistake]) -> Problem:
    said = "; ".join(one.message for one in mistakes[:3])
    return Problem("rule_mistakes", said, mistakes=[_mistake(one) for one in mistakes])


# -- views ------------------------------------------------------------------------------------------------------------

More = Callable[[str], dict[str, Any]]


async def _existing(gateway: ConsolePort, rule: str) -> RuleInForce:
    found = (await gateway.rulebook.rules()).get(rule)
    if found is None:
        raise Problem("not_found", f"there is no rule {rule!r}")
    return found


async def _more(gateway: ConsolePort, request: Request) -> More:
    """What the store knows of each rule."""
    records = gateway.records.rule_changes
    newest = await records.newest()
    activity = await records.activity(gateway.now() - RECENT, scope_of(request))

    def more(rule: str) -> dict[str, Any]:
        last, count = newest.get(rule, (None, 0))
        standing, raised = activity.get(rule, (0, 0))
        return {
            "changed_at": None if last is None else views.iso(last.at),
            "changed_by": None if last is None else last.who,
            "standing": standing,
            "raised_24h": raised,
            "history": count,
        }

    return more


async def _detail(gateway: ConsolePort, request: Request, found: RuleInForce) -> dict[str, Any]:
    names = await gateway.rulebook.stories(found.rule.id)
    return _rule(found, await _more(gateway, request)) | {
        "yaml": found.text,
        "base_yaml": found.base,
        "data": found.data,
        "plain": _plain(found.rule),
        "limits": [_limit(one) for one in limits_of(found.rule)],
        "stories": [{"file": one.file, "story": one.story} for one in names],
    }


def _matches(found: RuleInForce, kind: str | None, enabled: bool | None, q: str | None) -> bool:
    rule = found.rule
    if (kind is not None and kind not in rule.kinds) or (enabled is not None and rule.enabled is not enabled):
        return False
    if not q:
        return True
    texts = (rule.id, rule.title_zh, rule.title_en, *found.words.zh, *found.words.en)
    return any(q.lower() in text.lower() for text in texts)


def _rule(found: RuleInForce, more: More) -> dict[str, Any]:
    rule = found.rule
    levels = {step.level for step in steps(rule.when) if step.level is not None} or {rule.level}
    return {
        "rule": rule.id,
        "title": {"zh": rule.title_zh, "en": rule.title_en},
        "kinds": list(rule.kinds),
        "levels": [level.name for level in sorted(levels)],
        "enabled": rule.enabled,
        "shadow": rule.shadow,
        "shadow_of": rule.shadow_of,
        "part_of": found.part_of,
        "words": _words(found.words),
        "source": rule.source,
        "consequence": rule.consequence,
        "response": {"zh": rule.response_zh, "en": rule.response_en},
        "notify": list(rule.notify),
        "case": rule.case,
        "standard": _standard(rule),
        "origin": found.origin.value,
        "file": rule.file,
        "line": rule.line,
        "rev": found.rev,
        **more(rule.id),
    }


def _standard(rule: Rule) -> dict[str, Any] | None:
    found = rule.standard
    if found is None:
        return None
    texts = {
        "opened_when": found.opened_when,
        "closed_when": found.closed_when,
        "supervised_by": found.supervised_by,
        "responsible": found.responsible,
    }
    limit = rule.sla.resolve if rule.sla is not None else None
    return {name: {"zh": zh, "en": en} for name, (zh, en) in texts.items()} | {
        "resolve_s": None if limit is None else limit / 1e6,
        "clock": None if rule.sla is None else rule.sla.clock,
        "case_class": {"major": found.major, "minor": found.minor},
        "source": found.source,
    }


def _words(said: Words) -> dict[str, list[str]]:
    return {"zh": list(said.zh), "en": list(said.en)}


def _plain(rule: Rule) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(rule, str_keys=True)
    return plain


def _limit(limit: LimitView) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(limit)
    over = plain.pop("over")
    return plain | {"level": limit.level.name, "over_s": None if over is None else over / 1e6}


def _mistake(mistake: Mistake) -> dict[str, Any]:
    return {
        "file": mistake.file or None,
        "line": mistake.line,
        "key": mistake.key.removeprefix("[0].").removeprefix("[0]"),
        "message": mistake.message,
    }


def _change(row: RuleChangeRow) -> dict[str, Any]:
    before, after = (text.splitlines() if text is not None else [] for text in (row.before, row.after))
    names = ("before" if row.before is not None else "/dev/null", "after" if row.after is not None else "/dev/null")
    diff = difflib.unified_diff(before, after, *names, lineterm="")
    return {
        "id": row.id,
        "at": views.iso(row.at),
        "who": row.who,
        "why": row.why,
        "rule": row.rule,
        "before": row.before,
        "after": row.after,
        "kept": row.kept,
        "undoes": row.undoes,
        "diff": "\n".join(diff),
    }


def _stories(report: StoriesReport) -> dict[str, Any]:
    failed = sum(not one.passed for one in report.stories)
    return {
        "rule": report.rule,
        "passed": len(report.stories) - failed,
        "failed": failed,
        "stories": [_story(one) for one in report.stories],
        "mistakes": report.mistakes,
    }


def _story(outcome: StoryOutcome) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    for step in plain["steps"]:
        step["from"], step["to"] = step.pop("from_state"), step.pop("to_state")
    return plain


def _backtest(found: Backtest) -> dict[str, Any]:
    return {
        "id": found.id,
        "rule": found.rule,
        "who": found.who,
        "asked_at": views.iso(found.asked_at),
        "since": views.iso(found.since),
        "until": views.iso(found.until),
        "assets": list(found.assets),
        "state": found.state.value,
        "progress": found.progress,
        "report": None if found.report is None else _comparison(found.report),
        "error": found.error,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain | {
        "since": views.iso(found.since),
        "until": views.iso(found.until),
        "before": _side(found.before),
        "after": _side(found.after),
    }


def _side(side: Side) -> dict[str, Any]:
    load = side.load
    return {
        "raises": side.raises,
        "levels": side.levels,
        "told": load.alarms,
        "per_10_min": load.per_10_min,
        "peak_10_min": load.peak_10_min,
        "share_above_10": load.share_above_10,
        "floods": [views.flood(one) for one in load.floods],
        "periods": load.periods,
        "alarms": [msgspec.to_builtins(one) | {"at": views.iso(one.at)} for one in side.alarms],
        "alarms_cut": side.alarms_cut,
    }
