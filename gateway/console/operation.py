"""The gateway's keepers over HTTP: how far everybody is, what is in force, its files, and who was told."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from gateway.console import models, views
from gateway.console.gate import Principal, needs, scope_of
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.upkeep import CheckedFiles, ConfigurationNow, Figures
from gateway.core.model import SECOND
from gateway.core.records import AuditRow, NotificationRow, OutboxFilter, OutboxState, Role
from gateway.errors import Mistake


class SiteView(models.Out):
    name_zh: str
    name_en: str
    timezone: str


class JournalFigures(models.Out):
    """The journal: positions of the oldest and the newest batch, bytes on the disk, when the newest frame came (null
    when there is none), and frames received and not yet decided."""

    first_position: int
    last_position: int
    bytes: int
    newest_frame: models.Time | None
    in_flight: int


class FollowerView(models.Out):
    """Somebody who follows the journal; ``behind`` batches."""

    name: str
    position: int
    behind: int


class SinkView(models.Out):
    """A copy of the readings elsewhere. ``away_s``: for how long it has not answered, and ``reason`` why; null while it
    does."""

    name: str
    position: int
    behind: int
    written: int
    refused: int
    attempts_failed: int
    away_s: float | None
    reason: str | None


class ReceiverView(models.Out):
    """Somebody who is told about alarms; counts since the start."""

    name: str
    delivered: int
    failed: int
    retried: int
    in_air: int
    down_since: models.Time | None
    last_error: str | None


class DiskView(models.Out):
    """Of the data folder; null where it cannot be asked. Below ``reserve_bytes`` no telemetry is taken."""

    free_bytes: int | None
    total_bytes: int | None
    used_percent: float | None
    reserve_bytes: int


class SystemView(models.Out):
    """The gateway at a glance; ``reasons`` say which parts are not well."""

    version: str
    status: Literal["ok", "failing"]
    reasons: list[str]
    started_at: models.Time
    now: models.Time
    uptime_s: float
    site: SiteView
    rates: dict[str, float]
    parts: dict[str, models.PartView]
    journal: JournalFigures
    followers: list[FollowerView]
    sinks: list[SinkView]
    receivers: list[ReceiverView]
    disk: DiskView


class MistakeView(models.Out):
    """A wrong place in a file; ``line`` is null where it cannot be known."""

    file: str
    line: int | None
    key: str
    message: str


class SourcesView(models.Out):
    """Paths. Of folders and files of one name the later ones count; ``settings`` is null for the demonstration,
    ``routes`` where nobody is told."""

    settings: str | None
    profiles: list[str]
    rules: list[str]
    console_rules: str | None
    routes: str | None
    assets: list[str]


class ConfigurationView(models.Out):
    """What is in force, since ``taken_over_at``. ``settings`` as in the file, without secrets; ``profiles`` and
    ``rules``: how many. ``mistakes`` are those of the last reload, which then changed nothing."""

    hash: str
    taken_over_at: models.Time | None
    settings: dict[str, Any]
    sources: SourcesView
    profiles: int
    rules: int
    mistakes: list[MistakeView]


class CheckedView(models.Out):
    """What the files say now, and nothing was taken over. ``changes``: other profiles or rules than those in force.
    ``settings_changed``: settings that only a restart takes over."""

    ok: bool
    hash: str | None
    changes: bool
    settings_changed: list[str]
    mistakes: list[MistakeView]


class ReloadedView(models.Out):
    """``taken_over``: false when there are mistakes; then everything is as it was."""

    taken_over: bool
    configuration: ConfigurationView


class Reloading(models.In):
    why: Annotated[str, Field(min_length=1, max_length=1000)]


class NotificationView(models.Out):
    """One notification for one receiver: a transition for a machine, or a message for a person (``recipient``).

    ``kind``: "transition", or why the person is told; ``alarms``: how many it is about, the first of which is named
    here. ``doubtful``: an attempt may have arrived without our hearing of it. ``due_at``: when the next attempt is
    made, while it is pending or sending."""

    id: int
    key: str
    state: Literal["pending", "sending", "delivered", "failed", "withdrawn"]
    receiver: str
    recipient: str
    kind: str
    alarms: int
    doubtful: bool
    alarm_id: str
    rev: int
    asset: str
    title: models.Title
    level: models.LevelName
    cause: str
    attempts: int
    created_at: models.Time
    due_at: models.Time | None
    ended_at: models.Time | None
    error: str | None


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["system"])
    desk = gateway.records.desk

    async def in_force(now: ConfigurationNow) -> dict[str, Any]:
        return _configuration(now, await desk.configuration_since())

    @router.get("/system", response_model=SystemView)
    async def system(who: Annotated[Principal, Depends(needs(Role.VIEWER, whole_city=True))]) -> dict[str, Any]:
        """Version, uptime, rates, parts, how far every follower of the journal is, sinks, receivers, disk."""
        health = gateway.health()
        zh, en = gateway.site_name
        return {
            **views.health(health, inside=True),
            "uptime_s": round((health.now - health.started_at) / SECOND, 1),
            "site": {"name_zh": zh, "name_en": en, "timezone": gateway.timezone},
            **_figures(gateway.upkeep.figures()),
        }

    @router.get("/configuration", response_model=ConfigurationView)
    async def configuration(
        who: Annotated[Principal, Depends(needs(Role.SUPERVISOR, whole_city=True))],
    ) -> dict[str, Any]:
        """What is in force and where it came from; never a secret. Needs the role supervisor."""
        return await in_force(gateway.upkeep.configuration())

    @router.post("/configuration/check", response_model=CheckedView)
    async def check(who: Annotated[Principal, Depends(needs(Role.ENGINEER, whole_city=True))]) -> dict[str, Any]:
        """Read settings, profiles, rules and assets again, and say what is wrong; nothing is taken over. Needs the role
        engineer."""
        return _checked(await gateway.upkeep.check(), gateway.upkeep.configuration().hash)

    @router.post("/configuration/reload", response_model=ReloadedView)
    async def reload(
        body: Reloading, who: Annotated[Principal, Depends(needs(Role.ENGINEER, whole_city=True))]
    ) -> dict[str, Any]:
        """Read profiles, rules and assets again and put them in force; with mistakes nothing changes. Settings are
        taken over by a restart. Needs the role engineer."""
        now = await gateway.upkeep.reload()
        outcome = "invalid" if now.mistakes else "done"
        line = AuditRow(0, gateway.now(), who.name, who.channel, "reload", "configuration", outcome, body.why)
        await gateway.records.add_audit(f"reload:{secrets.token_hex(16)}", line)
        return {"taken_over": not now.mistakes, "configuration": await in_force(now)}

    @router.get("/notifications", response_model=models.ListOf[NotificationView])
    async def notifications(
        request: Request,
        state: Annotated[
            Literal["pending", "delivered", "failed", "withdrawn"] | None, Query(description="All when left out.")
        ] = None,
        alarm: Annotated[str | None, Query(max_length=200, description="About this alarm.")] = None,
        recipient: Annotated[str | None, Query(max_length=64, description="To this person.")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """What was, is and will be sent to receivers, newest first; pending ones also while they are being sent."""
        wanted = OutboxFilter(OutboxState(state) if state is not None else None, alarm, recipient)
        return await page(desk.notifications(wanted, limit, cursor, scope_of(request)), _notification)

    return router


def _figures(now: Figures) -> dict[str, Any]:
    used = None if now.free is None or not now.total else round(100 * (1 - now.free / now.total), 1)
    return {
        "journal": {
            "first_position": now.first_position,
            "last_position": now.last_position,
            "bytes": now.bytes,
            "newest_frame": views.iso_or_none(now.newest_frame),
            "in_flight": now.in_flight,
        },
        "followers": [{"name": one.name, "position": one.position, "behind": one.behind} for one in now.followers],
        "sinks": [
            {
                "name": one.name,
                "position": one.position,
                "behind": one.behind,
                "written": one.written,
                "refused": one.refused,
                "attempts_failed": one.attempts_failed,
                "away_s": one.away_s,
                "reason": one.reason,
            }
            for one in now.sinks
        ],
        "receivers": [
            {
                "name": one.name,
                "delivered": one.delivered,
                "failed": one.failed,
                "retried": one.retried,
                "in_air": one.in_air,
                "down_since": views.iso_or_none(one.down_since),
                "last_error": one.last_error,
            }
            for one in now.receivers
        ],
        "disk": {
            "free_bytes": now.free,
            "total_bytes": now.total,
            "used_percent": used,
            "reserve_bytes": now.reserve,
        },
    }


def _configuration(now: ConfigurationNow, since: int | None) -> dict[str, Any]:
    sources = now.sources
    return {
        "hash": now.hash,
        "taken_over_at": views.iso_or_none(since),
        "settings": now.settings,
        "sources": {
            "settings": sources.settings,
            "profiles": sources.profiles,
            "rules": sources.rules,
            "console_rules": sources.console_rules,
            "routes": sources.routes,
            "assets": sources.assets,
        },
        "profiles": now.profiles,
        "rules": now.rules,
        "mistakes": [_mistake(one) for one in now.mistakes],
    }


def _checked(found: CheckedFiles, in_force: str) -> dict[str, Any]:
    return {
        "ok": not found.mistakes,
        "hash": found.hash,
        "changes": found.hash is not None and found.hash != in_force,
        "settings_changed": list(found.settings_changed),
        "mistakes": [_mistake(one) for one in found.mistakes],
    }


def _mistake(one: Mistake) -> dict[str, Any]:
    return {"file": one.file, "line": one.line, "key": one.key, "message": one.message}


def _notification(row: NotificationRow) -> dict[str, Any]:
    step, message = row.transition, row.message
    if step is not None:
        alarm_id, rev, asset, cause, alarms = step.alarm_id, step.rev, step.record.asset, step.cause, 1
        title = {"zh": step.record.title_zh, "en": step.record.title_en}
    else:
        assert message is not None  # the store keeps one of the two
        first = message.lines[0] if message.lines else None
        alarm_id, rev, asset = (first.alarm_id, first.rev, first.asset) if first is not None else ("", 0, "")
        title = {"zh": first.title_zh, "en": first.title_en} if first is not None else {"zh": "", "en": ""}
        cause, alarms = "", message.count
    waits = row.state in (OutboxState.PENDING, OutboxState.SENDING)
    return {
        "id": row.id,
        "key": row.key,
        "state": row.state.value,
        "receiver": row.receiver,
        "recipient": row.recipient,
        "kind": row.kind,
        "alarms": alarms,
        "doubtful": row.doubtful,
        "alarm_id": alarm_id,
        "rev": rev,
        "asset": asset,
        "title": title,
        "level": row.level.name,
        "cause": cause,
        "attempts": row.attempts,
        "created_at": views.iso(row.created_at),
        "due_at": views.iso(row.due_at) if waits else None,
        "ended_at": views.iso_or_none(row.ended_at),
        "error": row.error,
    }
