"""``/a/<token>``: alarms are acknowledged from a message, without signing in.

The token is the right to do so: it is of one message, which says who got it and which alarms it named. To look changes
nothing; the button does, once.
"""

from __future__ import annotations

import hashlib

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from gateway.console.answers import Alarm, Answers, Fate, Outcome, user_of
from gateway.console.link_page import Page
from gateway.console.port import ConsolePort
from gateway.core.model import HOUR, Asset, Micros
from gateway.core.records import SentRow
from gateway.errors import Unavailable

GOOD_FOR: Micros = 24 * HOUR

# What the page of each way to end says with.
_STATUS = {"wrong": 403, "expired": 410, "nobody": 403, "used": 410, "nothing": 200, "done": 200}


def routes(gateway: ConsolePort, answers: Answers) -> APIRouter:
    router = APIRouter(include_in_schema=False)  # for people and their phones, not for programs

    async def found(token: str, *, asked: bool) -> SentRow | str:
        """The message that a token is of, or why it is none. ``asked``: somebody pressed the button."""
        links = gateway.links
        row = links.row_of(token)
        sent = await gateway.records.sent(row) if row is not None else None
        if row is None or sent is None or not links.good(token, row, sent.message):
            await answers.refused("?", "link", hashlib.sha256(token.encode()).hexdigest()[:12], "wrong")
            return "wrong"
        if gateway.now() - sent.created_at > GOOD_FOR:
            if asked:
                await answers.refused(sent.message.recipient, "link", _subject(sent), "expired")
            return "expired"
        return sent

    def page_for(sent: SentRow | None) -> Page:
        person = None if sent is None else gateway.routing.people.get(sent.message.recipient)
        language = "zh" if sent is None else sent.message.language
        return Page(language if person is None else person.language, gateway.timezone, gateway.site_name)

    def with_assets(alarms: list[Alarm]) -> list[tuple[Alarm, Asset | None]]:
        return [(alarm, gateway.asset(alarm.line.asset)) for alarm in alarms]

    def shown(sent: SentRow, alarms: list[Alarm], says: str | None, ask_as: str | None = None) -> Response:
        html = page_for(sent).alarms(
            with_assets(alarms),
            sent.message.count,
            says=says,
            ask_as=ask_as,
            simulated=sent.message.simulated,
            now=gateway.now(),
        )
        return _answer(html, _STATUS.get(says or "done", 200))

    @router.api_route("/a/{token}", methods=["GET", "HEAD"])
    async def look(token: str) -> Response:
        sent = await found(token, asked=False)
        if isinstance(sent, str):
            return _answer(page_for(None).note(sent), _STATUS[sent])
        person = await answers.person(sent)
        if person is None:
            return _answer(page_for(sent).note("nobody"), 403)
        alarms = await answers.alarms(sent)
        if await answers.used(sent):
            return shown(sent, alarms, "used")
        if not any(alarm.fate is Fate.OPEN for alarm in alarms):
            return shown(sent, alarms, "nothing")
        return shown(sent, alarms, None, person.name or user_of(person))

    @router.post("/a/{token}")
    async def acknowledge(token: str) -> Response:
        sent = await found(token, asked=True)
        if isinstance(sent, str):
            return _answer(page_for(None).note(sent), _STATUS[sent])
        try:
            outcome, alarms = await answers.acknowledge(sent, "link")
        except Unavailable:
            return _answer(page_for(sent).note("unavailable"), 503)
        if outcome is not Outcome.DONE:
            await answers.refused(sent.message.recipient, "link", _subject(sent), outcome.value)
        if outcome is Outcome.NOBODY:
            return _answer(page_for(sent).note("nobody"), 403)
        return shown(sent, alarms, outcome.value)

    return router


def _subject(sent: SentRow) -> str:
    return sent.message.lines[0].alarm_id if sent.message.lines else sent.key


def _answer(html: str, status: int) -> Response:
    return HTMLResponse(html, status, {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"})
