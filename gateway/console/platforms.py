"""What the city's case platforms say to us: how far our cases are, and what citizens have reported to them.

Who posts here has no name and no token: the signature of the body with the platform's own key is the right to speak. A
message that comes twice does nothing twice. What a platform closes or sends back is told to the alarm as a command by
``platform:<name>``, through the journal as everything a person does; what a citizen reports is kept, and where it is
about an alarm of ours it becomes a comment on it.
"""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal

import msgspec
import structlog
from fastapi import APIRouter, Request

from gateway.console import models
from gateway.console.cases import CaseView, TicketView, case, ticket
from gateway.console.port import ConsolePort, PlatformOptions
from gateway.console.problems import Problem
from gateway.console.throttle import Sparingly
from gateway.core.case_match import Match, Report, match
from gateway.core.case_messages import CaseMessage, TicketMessage, read_message
from gateway.core.cases import OVER, STATUS_WORDS, CaseRow, CaseStatus, TicketRow, hear, speaker
from gateway.core.model import AlarmRecord, Command, CommandName, WorkState
from gateway.core.records import AuditRow
from gateway.core.signature import HEADER, why_not
from gateway.core.work import OPEN
from gateway.errors import CommandRefused, DecodeError

log = structlog.get_logger("cases")

MOST_CANDIDATES = 2_000  # alarms of one class that stand or have just ended: a flood has a thousand
MOST_WORDS = 1_000  # of a comment
CHANNEL = "platform"

_DOUBT = (WorkState.DONE.value, WorkState.VERIFYING.value)  # said to be done, and not closed


class HeardView(models.Out):
    """What became of a message: ``id`` as it was sent (or made of its bytes), ``repeated``: it came before. ``done``:
    what was done to the alarm, null when nothing had to be; ``refused``: why that was not possible."""

    kind: Literal["update", "ticket"]
    id: str
    repeated: bool
    alarm_id: str | None
    done: Literal["comment", "close", "return"] | None
    refused: str | None
    case: CaseView | None
    ticket: TicketView | None


def routes(gateway: ConsolePort) -> APIRouter:
    router = APIRouter(tags=["inbound"])
    failures = Sparingly()

    async def told_off(platform: str, outcome: str, why: str) -> None:
        """A message that was not taken is written down, but a flood of them fills nothing."""
        count = failures.worth(gateway.now())
        if not count:
            return
        log.warning("message of a platform not taken", platform=platform, reason=why)
        said = why if count == 1 else f"{why} (and {count - 1} more)"
        row = AuditRow(0, gateway.now(), speaker(platform)[:64], CHANNEL, "inbound", platform[:64], outcome, said)
        await gateway.records.add_audit(f"inbound:{secrets.token_hex(16)}", row)

    @router.post(
        "/inbound/cases/{platform}",
        response_model=HeardView,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}},
        responses={403: {"model": models.ProblemView, "description": "The signature is not good, or too old"}},
    )
    async def say(platform: str, request: Request) -> dict[str, Any]:
        """For the case platform of that name in the settings: a JSON object as its field map says, at most 64 kB, with
        ``X-Citywatch-Signature: t=<unix seconds>,v1=<hex>`` where v1 is HMAC-SHA256 of ``<t>.<body>`` with the key of
        ``inbound_secret_file``, at most five minutes old. The same message again is answered and does nothing."""
        options = gateway.platforms.get(platform)
        body = await request.body()
        # A platform that there is not is no other than one with another key: nobody learns the names.
        key = options.key if options is not None else secrets.token_bytes(32)
        why = why_not(key, request.headers.get(HEADER), body, time.time())
        if why is not None or options is None:
            await told_off(platform, "forbidden", why or "there is no such platform")
            raise Problem("bad_signature", why)
        try:
            message = read_message(options.receiving, body, gateway.now())
        except DecodeError as error:
            await told_off(platform, "invalid", str(error))
            raise Problem("invalid", str(error)) from error
        if isinstance(message, CaseMessage):
            return await _news(gateway, options, message)
        return await _ticket(gateway, options, message)

    return router


# -- news of our cases ------------------------------------------------------------------------------------------------


async def _news(gateway: ConsolePort, options: PlatformOptions, message: CaseMessage) -> dict[str, Any]:
    cases = gateway.records.cases
    row = await cases.find(options.name, message.key, message.number)
    if row is None:
        raise Problem("not_found", f"there is no case {message.key or message.number!r} with this platform")
    repeated = message.id in row.heard

    def heard(now: CaseRow | None) -> CaseRow | None:
        return None if now is None else hear(now, message.id, message.said, message.number or None)

    row = await cases.change(options.name, row.case.key, heard) or row
    record = await gateway.records.alarm(row.case.alarm_id)
    done, refused = (None, None) if record is None else await _act(gateway, options, message, record)
    return _answer("update", message.id, repeated, row.case.alarm_id, done, refused) | {
        "case": case(row, gateway.now()),
        "ticket": None,
    }


async def _act(
    gateway: ConsolePort, options: PlatformOptions, message: CaseMessage, record: AlarmRecord
) -> tuple[CommandName | None, str | None]:
    """What a platform's word means for the alarm: work that it closes is closed, work that it sends back is returned,
    and whoever looks at the alarm can read what it said."""
    said = message.said
    command_id = f"platform:{options.name}:{message.id}"
    before = await gateway.records.command(command_id)
    if before is not None:
        return CommandName(before.name), None if before.refused is None else before.refused[1]
    name = CommandName.COMMENT
    if said.status in OVER and (record.work in OPEN or record.work == WorkState.REJECTED):
        name = CommandName.CLOSE
    elif said.status is CaseStatus.REWORK and record.work in _DOUBT:
        name = CommandName.RETURN
    elif said.status not in OVER and said.status is not CaseStatus.REWORK and not said.text:
        return None, None  # how far they are stands in the case
    words = _words(options.name, message, record)
    refused = await _once(gateway, options, command_id, name, record.alarm_id, words)
    if refused is None or name is CommandName.COMMENT:
        return name, refused
    # Somebody was quicker: what the platform said is told all the same.
    again = await _once(gateway, options, f"{command_id}:said", CommandName.COMMENT, record.alarm_id, words)
    return CommandName.COMMENT, refused if again is None else again


def _words(platform: str, message: CaseMessage, record: AlarmRecord) -> str:
    said = message.said
    word = said.word or (STATUS_WORDS[said.status][0] if said.status is not None else "")
    number = f" {message.number}" if message.number else ""
    who = f" · {said.by}" if said.by else ""
    stands = "（报警仍在 the alarm still stands）" if said.status in OVER and record.is_active else ""
    text = f"：{said.text}" if said.text else ""
    return f"【{platform}{number}】{word}{who}{text}{stands}"[:MOST_WORDS]


# -- what citizens report ---------------------------------------------------------------------------------------------


async def _ticket(gateway: ConsolePort, options: PlatformOptions, message: TicketMessage) -> dict[str, Any]:
    cases = gateway.records.cases
    before = await cases.ticket(options.name, message.number)
    row = TicketRow(
        0,
        options.name,
        message.number,
        message.at,
        before.received_at if before is not None else gateway.now(),
        message.class_,
        message.status,
        message.place,
        message.text,
        message.longitude,
        message.latitude,
    )
    if before is not None and before.alarm_id is not None:
        row = _about(row, before)
    else:
        row = _matched(row, await _match(gateway, options, message))
    row = await cases.keep_ticket(row)
    done = refused = None
    if row.alarm_id is not None:
        words = _ticket_words(row)
        command_id = f"platform:{options.name}:ticket:{row.number}"
        done = CommandName.COMMENT
        refused = await _once(gateway, options, command_id, done, row.alarm_id, words)
    return _answer("ticket", message.id, before is not None, row.alarm_id, done, refused) | {
        "case": None,
        "ticket": ticket(row),
    }


async def _match(gateway: ConsolePort, options: PlatformOptions, message: TicketMessage) -> Match:
    receiving, meant = options.receiving, message.class_of
    now = gateway.now()
    found = await gateway.records.cases.near(
        meant.kinds, meant.rules, now - receiving.bounds.recent, MOST_CANDIDATES, simulated=options.simulated
    )
    assets = ((record, gateway.asset(record.asset)) for record in found)
    pairs = [(record, asset) for record, asset in assets if asset is not None]
    report = Report(
        message.at, meant.kinds, meant.rules, message.longitude, message.latitude, message.road, message.place
    )
    return match(report, pairs, now, receiving.bounds)


def _matched(row: TicketRow, found: Match) -> TicketRow:
    record = found.record
    return msgspec.structs.replace(
        row,
        alarm_id=None if record is None else record.alarm_id,
        occurrence_id=None if record is None else record.occurrence_id,
        score=None if record is None else found.score,
        why_zh=found.why_zh,
        why_en=found.why_en,
        others=found.others,
    )


def _about(row: TicketRow, before: TicketRow) -> TicketRow:
    """What a ticket was about once it is about for ever."""
    return msgspec.structs.replace(
        row,
        alarm_id=before.alarm_id,
        occurrence_id=before.occurrence_id,
        score=before.score,
        why_zh=before.why_zh,
        why_en=before.why_en,
        others=before.others,
    )


def _ticket_words(row: TicketRow) -> str:
    where = f"（{row.place}）" if row.place else ""
    text = row.text if len(row.text) <= 300 else f"{row.text[:300]}…"
    return f"【{row.platform} 工单 {row.number}】{row.class_}{where}：{text}（{row.why_zh}）"[:MOST_WORDS]


# -- both -------------------------------------------------------------------------------------------------------------


async def _once(
    gateway: ConsolePort, options: PlatformOptions, command_id: str, name: CommandName, alarm_id: str, words: str
) -> str | None:
    """Carry a command out unless it was already; gives why it was refused."""
    before = await gateway.records.command(command_id)
    if before is not None:
        return None if before.refused is None else before.refused[1]
    command = Command(command_id, name, alarm_id, speaker(options.name), CHANNEL, None, words)
    try:
        await gateway.submit(command)
    except CommandRefused as error:
        return str(error)
    return None


def _answer(
    kind: str, message_id: str, repeated: bool, alarm_id: str | None, done: CommandName | None, refused: str | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "id": message_id,
        "repeated": repeated,
        "alarm_id": alarm_id,
        "done": None if done is None else done.value,
        "refused": refused,
    }
