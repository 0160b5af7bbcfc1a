"""A command as somebody asks for it over HTTP: through the journal, with who asks, once for each Idempotency-Key."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header

from gateway.console.gate import Principal
from gateway.console.port import ConsolePort
from gateway.console.problems import Problem
from gateway.core.model import Command, CommandName, Micros
from gateway.core.records import AuditRow, Role
from gateway.errors import CommandRefused

Arguments = dict[str, str | int | float | bool | None]
IdempotencyKey = Annotated[
    str | None, Header(description="The same key again gives the same outcome, without doing it twice.")
]

_KEY = re.compile(r"^[\x21-\x7e]{1,64}$")


async def carry_out(
    gateway: ConsolePort,
    who: Principal,
    key: str | None,
    name: CommandName,
    subject: str,
    *,
    rev: int | None = None,
    why: str | None = None,
    arguments: Arguments | None = None,
    check: Callable[[], Awaitable[None]] | None = None,
) -> tuple[str, Micros]:
    """Id and time of a command that was carried out, now or under the same ``key`` before. ``check`` raises a Problem
    for what it names and is not there. Raises as ``ConsolePort.submit``, and the problem invalid for a key that was
    used for something else."""
    command = Command(
        command_id=_command_id(who, key),
        name=name,
        alarm_id=subject,
        by=who.name,
        channel=who.channel,
        rev=rev,
        why=why,
        arguments=(arguments or {}) | {"role": who.role.word},
    )
    before = await gateway.records.command(command.command_id) if key is not None else None
    if before is None:
        if check is not None:
            await check()
        return command.command_id, (await gateway.submit(command)).at
    if before.name != name.value or before.alarm_id != subject:
        raise Problem("invalid", "this Idempotency-Key was used for something else")
    if before.refused is not None:
        raise CommandRefused(*before.refused)
    return command.command_id, before.at


async def must_be(gateway: ConsolePort, who: Principal, needed: Role, name: CommandName, subject: str) -> None:
    """Raises the problem forbidden unless ``who`` has the role. Such a refusal never reaches the journal, but it is
    recorded with who and what."""
    if who.role >= needed:
        return
    row = AuditRow(0, gateway.now(), who.name, who.channel, name.value, subject, "forbidden")
    await gateway.records.add_audit(f"refused:{secrets.token_hex(16)}", row)
    raise Problem("forbidden", f"{name.value} needs the role {needed.word}; yours is {who.role.word}")


def _command_id(who: Principal, key: str | None) -> str:
    """Random, or the caller's own key within the caller's name: nobody can use up another one's keys."""
    if key is None:
        return f"api:{secrets.token_hex(16)}"
    if not _KEY.match(key):
        raise Problem("invalid", "Idempotency-Key: 1 to 64 visible ASCII characters")
    return f"api:{who.name}:{key}"
