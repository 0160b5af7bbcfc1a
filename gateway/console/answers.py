"""What somebody answers to a message, by a link or by SMS: the alarms it names are acknowledged, once.

The message says which alarms, and who got it; the routes say which account that is. An alarm of another occurrence than
the one that was told is not touched.
"""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum

import msgspec

from gateway.console.port import ConsolePort
from gateway.console.throttle import Sparingly
from gateway.core.model import AlarmRecord, Command, CommandName
from gateway.core.notification import Line
from gateway.core.records import AuditRow, SentRow
from gateway.core.routing import Person
from gateway.errors import CommandRefused

ATTEMPTS = 3  # an alarm may change between the look and the command


class Fate(StrEnum):
    """How an alarm of a message is now, as far as an answer is concerned."""

    OPEN = "open"  # it can be acknowledged
    ACKNOWLEDGED = "acknowledged"
    OVER = "over"  # the occurrence that was told of is over
    FAILED = "failed"  # it could not be acknowledged just now


class Alarm(msgspec.Struct, frozen=True):
    """One alarm of a message: as it was told, and as it is (None: nobody knows it any more)."""

    line: Line
    record: AlarmRecord | None
    fate: Fate


class Outcome(StrEnum):
    DONE = "done"
    USED = "used"  # this message was answered before
    NOTHING = "nothing"  # all of it is over or acknowledged
    NOBODY = "nobody"  # the person is in no route any more, or their account is closed


class Answers:
    """Of one gateway; keeps what is being answered at this moment."""

    def __init__(self, gateway: ConsolePort) -> None:
        self._gateway = gateway
        self._now_answering: set[str] = set()
        self._refusals = Sparingly()

    async def alarms(self, sent: SentRow) -> list[Alarm]:
        """The alarms a message names, as they are now."""
        return [await self._alarm(line) for line in sent.message.lines]

    async def person(self, sent: SentRow) -> Person | None:
        """Who got it; None when they may no longer answer."""
        person = self._gateway.routing.people.get(sent.message.recipient)
        if person is None:
            return None
        account = await self._gateway.records.people.user(user_of(person))
        return None if account is not None and account.disabled_at is not None else person

    async def used(self, sent: SentRow) -> bool:
        """Was it answered before, by whichever way?"""
        return sent.key in self._now_answering or await self._answered(sent)

    async def _answered(self, sent: SentRow) -> bool:
        ids = [_command_id(sent.key, way, 0) for way in ("link", "sms")]
        return any([await self._gateway.records.command(one) is not None for one in ids])

    async def acknowledge(self, sent: SentRow, channel: str) -> tuple[Outcome, list[Alarm]]:
        """Acknowledge what is still open, as the person who got the message. Raises Unavailable when there is no answer
        in time; what was asked for is journaled then."""
        if sent.key in self._now_answering:  # said before the first await: of two thumbs at once one is later
            return Outcome.USED, await self.alarms(sent)
        self._now_answering.add(sent.key)
        try:
            person = await self.person(sent)
            if person is None:
                return Outcome.NOBODY, []
            if await self._answered(sent):
                return Outcome.USED, await self.alarms(sent)
            before = await self.alarms(sent)
            if not any(alarm.fate is Fate.OPEN for alarm in before):
                return Outcome.NOTHING, before
            # The first id marks the message as answered, so something is always carried out under it.
            ordered = sorted(before, key=lambda alarm: alarm.fate is not Fate.OPEN)
            after = [
                await self._one(alarm, _command_id(sent.key, channel, number), person, channel)
                if alarm.fate is Fate.OPEN
                else alarm
                for number, alarm in enumerate(ordered)
            ]
            return Outcome.DONE, after
        finally:
            self._now_answering.discard(sent.key)

    async def refused(self, who: str, channel: str, subject: str, outcome: str) -> None:
        """An answer that led to nothing is written down; of a flood of them a few."""
        now = self._gateway.now()
        worth = self._refusals.worth(now)
        if worth:
            why = f"and {worth - 1} more" if worth > 1 else None
            row = AuditRow(0, now, who, channel, CommandName.ACKNOWLEDGE.value, subject, outcome, why)
            await self._gateway.records.add_audit(f"answer:{secrets.token_hex(16)}", row)

    async def _one(self, alarm: Alarm, command_id: str, person: Person, channel: str) -> Alarm:
        for attempt in range(ATTEMPTS):
            record = alarm.record
            assert record is not None
            command = Command(
                command_id if not attempt else f"{command_id}.{attempt}",
                CommandName.ACKNOWLEDGE,
                record.alarm_id,
                user_of(person),
                channel,
                record.rev,
                arguments={"role": "operator"},
            )
            try:
                await self._gateway.submit(command)
            except CommandRefused as refused:
                alarm = await self._alarm(alarm.line)
                if refused.code != "stale_rev" or alarm.fate is not Fate.OPEN:
                    break
                continue
            return await self._alarm(alarm.line)
        return alarm if alarm.fate is not Fate.OPEN else msgspec.structs.replace(alarm, fate=Fate.FAILED)

    async def _alarm(self, line: Line) -> Alarm:
        record = await self._gateway.records.alarm(line.alarm_id)
        return Alarm(line, record, _fate(line, record))


def user_of(person: Person) -> str:
    """The name under which a person acts."""
    return person.user or person.person


def _fate(line: Line, record: AlarmRecord | None) -> Fate:
    if record is None or record.occurrence_id != line.occurrence_id:
        return Fate.OVER
    if not record.acked:
        return Fate.OPEN
    return Fate.ACKNOWLEDGED if record.is_active or record.acked_by is not None else Fate.OVER


def _command_id(key: str, way: str, number: int) -> str:
    """The same for the same answer to the same message: it is carried out once."""
    digest = hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()[:32]
    return f"{way}:{digest}:{number}" if number else f"{way}:{digest}"
