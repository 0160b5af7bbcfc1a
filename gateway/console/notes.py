"""What people write down, over HTTP: notes about assets for each other, and views of the pages under a name."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from gateway.console import models, views
from gateway.console.gate import Principal, in_scope, needs, principal_of
from gateway.console.paging import Cursor, Limit, page
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.records import AuditRow, NoteRow, Role, SavedView

MAX_VIEWS = 100  # of one person; and shared ones

PageName = Annotated[str, Path(pattern=r"^[a-z][a-z-]{0,31}$")]
ViewName = Annotated[str, Path(min_length=1, max_length=100)]
SHARED = ""  # the owner of what is everybody's


class NoteView(models.Out):
    """What somebody wrote about an asset."""

    id: int
    asset: str
    at: models.Time
    who: str
    text: str


class Noting(models.In):
    text: Annotated[str, Field(min_length=1, max_length=2000)]


class SavedViewOut(models.Out):
    """A page as somebody likes it: ``query`` is its address bar. ``owner`` is "" for one that is shared with all."""

    owner: str
    page: str
    name: str
    query: str
    shared: bool
    changed_at: models.Time


class SavingView(models.In):
    """``shared``: everybody sees it."""

    query: Annotated[str, Field(max_length=2000)]
    shared: bool = False


def note(row: NoteRow) -> dict[str, Any]:
    return {"id": row.id, "asset": row.asset, "at": views.iso(row.at), "who": row.who, "text": row.text}


def saved_view(row: SavedView) -> dict[str, Any]:
    return {
        "owner": row.owner,
        "page": row.page,
        "name": row.name,
        "query": row.query,
        "shared": row.owner == SHARED,
        "changed_at": views.iso(row.changed_at),
    }


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["notes and views"])
    records = gateway.records
    desk = records.desk

    async def noted(who: Principal, action: str, subject: str, why: str | None = None) -> None:
        line = AuditRow(0, gateway.now(), who.name, who.channel, action, subject, "done", why)
        await records.add_audit(f"{action}:{secrets.token_hex(16)}", line)

    async def existing(request: Request, asset_id: str) -> None:
        row = await records.asset(asset_id)
        if row is None or not in_scope(request, row.asset):
            raise Problem("not_found", f"there is no asset {asset_id!r}")

    @router.get("/assets/{asset_id}/notes", response_model=models.ListOf[NoteView])
    async def notes(asset_id: str, request: Request, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
        """What people wrote about the asset, newest first."""
        await existing(request, asset_id)
        return await page(desk.notes(asset_id, limit, cursor), note)

    @router.post("/assets/{asset_id}/notes", response_model=NoteView, status_code=201)
    async def write(
        asset_id: str, body: Noting, request: Request, who: Annotated[Principal, Depends(needs(Role.OPERATOR))]
    ) -> dict[str, Any]:
        """Write a note. Needs the role operator."""
        await existing(request, asset_id)
        row = await desk.add_note(asset_id, gateway.now(), who.name, body.text)
        await noted(who, "note", asset_id, body.text)
        return note(row)

    @router.get("/views", response_model=list[SavedViewOut])
    async def saved(
        request: Request, of: Annotated[str | None, Query(alias="page", max_length=32)] = None
    ) -> list[dict[str, Any]]:
        """The caller's own views and the shared ones; of one page when it is named."""
        return [saved_view(row) for row in await desk.views(principal_of(request).name, of)]

    @router.put("/views/{page}/{name}", response_model=SavedViewOut)
    async def save(page: PageName, name: ViewName, body: SavingView, request: Request) -> dict[str, Any]:
        """Save the caller's view, or a shared one (needs the role supervisor); one of the same name is replaced. At
        most 100 a person, and 100 shared."""
        who = principal_of(request)
        view = SavedView(_owner(who, body.shared), page, name, body.query, gateway.now())
        if not await desk.put_view(view, MAX_VIEWS):
            raise Problem("not_allowed", f"there are {MAX_VIEWS} views already: delete one first")
        await noted(who, "save-view", f"view {page}/{name}", "shared" if body.shared else None)
        return saved_view(view)

    @router.delete("/views/{page}/{name}", status_code=204)
    async def delete(page: PageName, name: ViewName, request: Request, shared: bool = False) -> Response:
        """Delete the caller's view, or a shared one (needs the role supervisor)."""
        who = principal_of(request)
        if not await desk.delete_view(_owner(who, shared), page, name):
            raise Problem("not_found", f"there is no view {name!r}")
        await noted(who, "delete-view", f"view {page}/{name}", "shared" if shared else None)
        return Response(status_code=204)

    return router


def _owner(who: Principal, shared: bool) -> str:
    if shared and who.role < Role.SUPERVISOR:
        raise Problem("forbidden", f"shared views need the role supervisor; yours is {who.role.word}")
    return SHARED if shared else who.name
