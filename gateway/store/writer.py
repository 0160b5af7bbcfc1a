"""Events → rows: the body of the one transaction that makes a stretch of the journal true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, assert_never

import msgspec
import sqlalchemy as sa

from gateway.core.assets_json import parse_assets
from gateway.core.cases import QUIET
from gateway.core.model import (
    AlarmRecord,
    AssetsChanged,
    CommandDone,
    Event,
    FrameRejected,
    IsaState,
    Maintenance,
    MaintenanceChanged,
    Transition,
)
from gateway.core.notification import Message, MessagesWithdrawn
from gateway.core.records import AuditRow, OutboxState
from gateway.store import dialect, schema
from gateway.store.outbox import withdraw
from gateway.store.rejected import RejectedRing
from gateway.store.schema import NORMAL_RANK
from gateway.store.text import clean

TRANSITION = "transition"  # the kind of an outbox row that is no message


_JSON = msgspec.json.Encoder()


def rank_of(record: AlarmRecord) -> int:
    return NORMAL_RANK if record.isa_state is IsaState.NORM else int(record.level)


class EventWriter:
    """Prepared statements of one dialect, and the ring of rejected frames."""

    def __init__(self, kind: str, rejected: RejectedRing) -> None:
        self._rejected = rejected
        alarms = schema.alarms
        self._alarm = dialect.ManyRows(
            dialect.upsert(kind, alarms, key=("alarm_id",), where=lambda excluded: excluded.rev >= alarms.c.rev)
        )
        self._transition = dialect.ManyRows(
            dialect.upsert(kind, schema.transitions, key=("alarm_id", "rev"), keep=True)
        )
        self._outbox = dialect.ManyRows(dialect.upsert(kind, schema.outbox, key=("key",), keep=True))
        self._command = dialect.upsert(kind, schema.commands, key=("command_id",), keep=True)
        self._audit = dialect.upsert(kind, schema.audit, key=("once",), keep=True)
        self._asset = dialect.upsert(kind, schema.assets, key=("asset",))
        self._device = dialect.upsert(kind, schema.devices, key=("device",))
        self._maintenance = dialect.upsert(
            kind, schema.maintenance, key=("id",), where=lambda excluded: schema.maintenance.c.ended_at.is_(None)
        )
        self._reject = dialect.upsert(kind, schema.rejected, key=("position", "index"), keep=True)

    def write(
        self,
        connection: sa.Connection,
        position: int,
        events: Sequence[Event],
        receivers: Callable[[Transition], Iterable[str]],
        for_simulated: frozenset[str],
    ) -> None:
        """All rows of ``events``; nothing is committed here."""
        alarms: dict[str, dict[str, Any]] = {}
        transitions: list[dict[str, Any]] = []
        outbox: list[dict[str, Any]] = []
        rejected: list[FrameRejected] = []
        done: list[CommandDone] = []
        for event in events:
            match event:
                case Transition():
                    transitions.append(_transition_row(position, event))
                    alarms[event.alarm_id] = _alarm_row(event)
                    outbox.extend(_outbox_rows(event, receivers, for_simulated))
                case FrameRejected():
                    rejected.append(event)
                case CommandDone():
                    done.append(event)
                case Message():
                    outbox.append(_message_row(event))
                case MessagesWithdrawn():
                    # What was written in this same stretch of the journal must be there to be withdrawn.
                    self._outbox.write(connection, outbox)
                    outbox = []
                    withdraw(connection, event.keys, event.at, event.why)
                case MaintenanceChanged():
                    connection.execute(self._maintenance, _maintenance_row(event.window))
                case AssetsChanged():
                    self._assets_changed(connection, event)
                case _:
                    assert_never(event)
        self._transition.write(connection, transitions)
        self._alarm.write(connection, list(alarms.values()))
        self._outbox.write(connection, outbox)
        if done:
            connection.execute(self._command, [_command_row(one) for one in done])
            self.audit(connection, [(f"command:{one.command.command_id}", _audit_row(one)) for one in done])
        if rejected:
            self._rejected.write(connection, self._reject, rejected)

    def audit(self, connection: sa.Connection, lines: Sequence[tuple[str, AuditRow]]) -> None:
        """Audit lines; one whose ``once`` is already there is left as it was."""
        connection.execute(
            self._audit,
            [
                {
                    "once": clean(once, 240),
                    "at": line.at,
                    "who": clean(line.who, 200),
                    "channel": clean(line.channel, 64),
                    "action": clean(line.action, 64),
                    "subject": clean(line.subject, 256),
                    "outcome": clean(line.outcome, 64),
                    "why": None if line.why is None else clean(line.why, 2000),
                }
                for once, line in lines
            ],
        )

    def _assets_changed(self, connection: sa.Connection, event: AssetsChanged) -> None:
        all_assets, all_devices = parse_assets(event.payload)
        assets = {asset.asset: asset for asset in all_assets}  # a statement may touch a row only once
        devices = {device.device: device for device in all_devices}
        if assets:
            connection.execute(
                self._asset,
                [
                    {
                        "asset": asset.asset,
                        "kind": asset.kind,
                        "road": asset.road,
                        "town": asset.town,
                        "unit": asset.unit,
                        "search": f"{asset.asset} {asset.name}".lower(),
                        "changed_at": event.at,
                        "document": _JSON.encode(asset).decode(),
                    }
                    for asset in assets.values()
                ],
            )
        if devices:
            connection.execute(
                self._device,
                [
                    {
                        "device": device.device,
                        "asset": device.asset,
                        "profile": device.profile,
                        "address": device.address,
                        "changed_at": event.at,
                        "document": _JSON.encode(device).decode(),
                    }
                    for device in devices.values()
                ],
            )


def _transition_row(position: int, transition: Transition) -> dict[str, Any]:
    return {
        "alarm_id": transition.alarm_id,
        "rev": transition.rev,
        "position": position,
        "at": transition.at,
        "asset": transition.record.asset,
        "kind": transition.record.kind,
        "level": int(transition.record.level),
        "cause": transition.cause,
        "by": transition.by,
        "document": _JSON.encode(transition).decode(),
    }


def _alarm_row(transition: Transition) -> dict[str, Any]:
    record = transition.record
    return {
        "alarm_id": record.alarm_id,
        "asset": record.asset,
        "rule": record.rule,
        "kind": record.kind,
        "rev": record.rev,
        "state": record.isa_state.value,
        "level": int(record.level),
        "rank": rank_of(record),
        "changed_at": transition.at,
        "search": f"{record.alarm_id} {record.title_zh} {record.title_en}".lower(),
        "work": record.work,
        "work_to": "" if record.order is None else record.order.to,
        "record": _JSON.encode(record).decode(),
    }


def _outbox_rows(
    transition: Transition, receivers: Callable[[Transition], Iterable[str]], for_simulated: frozenset[str]
) -> Iterable[dict[str, Any]]:
    """One row a receiver. Simulated and shadow alarms can never page a crew, whatever anybody else decides."""
    if transition.record.shadow or not (transition.notify or transition.cause in QUIET):
        return
    for receiver in dict.fromkeys(receivers(transition)):
        if transition.record.simulated and receiver not in for_simulated:
            continue
        yield {
            "key": f"{transition.alarm_id}/{transition.rev}/{receiver}",
            "thread": transition.alarm_id,
            "receiver": receiver,
            "recipient": "",
            "kind": TRANSITION,
            "alarm_id": transition.alarm_id,
            "rev": transition.rev,
            "level": int(transition.record.level),
            "state": OutboxState.PENDING.value,
            "attempts": 0,
            "channel": 0,
            "doubtful": False,
            "created_at": transition.at,
            "due_at": transition.at,
            "message": None,
        }


def _message_row(message: Message) -> dict[str, Any]:
    first = message.lines[0] if message.lines else None
    return {
        "key": message.key,
        "thread": f"{message.recipient} {message.thread}",
        "receiver": message.channels[0].receiver,
        "recipient": message.recipient,
        "kind": message.kind.value,
        "alarm_id": first.alarm_id if first is not None else "",
        "rev": first.rev if first is not None else 0,
        "level": int(message.level),
        "state": OutboxState.PENDING.value,
        "attempts": 0,
        "channel": 0,
        "doubtful": False,
        "created_at": message.at,
        "due_at": message.at,
        "message": _JSON.encode(message).decode(),
    }


def _maintenance_row(window: Maintenance) -> dict[str, Any]:
    row = msgspec.structs.asdict(window)
    return row | {"reason": clean(window.reason, 2000), "work": clean(window.work, 200), "by": clean(window.by, 200)}


def _command_row(done: CommandDone) -> dict[str, Any]:
    command = done.command
    code, text = done.refused or (None, None)
    return {
        "command_id": command.command_id,
        "name": command.name.value,
        "alarm_id": clean(command.alarm_id, 200),
        "by": clean(command.by, 200),
        "channel": clean(command.channel, 64),
        "why": None if command.why is None else clean(command.why, 2000),
        "at": done.at,
        "refused_code": code,
        "refused_text": text,
    }


def _audit_row(done: CommandDone) -> AuditRow:
    command = done.command
    return AuditRow(
        id=0,
        at=done.at,
        who=command.by,
        channel=command.channel,
        action=command.name.value,
        subject=command.alarm_id,
        outcome=done.refused[0] if done.refused else "done",
        why=command.why,
    )
