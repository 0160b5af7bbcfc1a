"""Figures out of the recorded steps, for charts: how many alarms an hour, how often a rule spoke, when alarms stood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from gateway.core.bands import Band, bands_of
from gateway.core.load import ASKS
from gateway.core.model import Level, Micros, Transition
from gateway.core.records import EVERYWHERE, Scope
from gateway.store import schema
from gateway.store.queries import within

_TRANSITION = msgspec.json.Decoder(Transition)
Result = TypeVar("Result")
# What was annunciated has no column; between these marks no text can say so, since its quotes are escaped.
_TOLD = '%"notify":true,"by":%'


class Transact(Protocol):
    """Runs something with a connection, in a transaction of its own, in a thread of the store's."""

    async def __call__(self, work: Callable[[sa.Connection], Result]) -> Result: ...


class Figures:
    """A part of ``Store``, which hands it its way to read; errors are those of the store's methods."""

    def __init__(self, read: Transact) -> None:
        self._read = read

    async def alarms_by(
        self, since: Micros, until: Micros, width: Micros, scope: Scope = EVERYWHERE
    ) -> list[tuple[Micros, Level, int]]:
        """(begin, level, count) of the alarms that asked for attention, in periods of ``width``."""
        return await self._read(lambda c: alarms_by(c, since, until, width, scope))

    async def raised(self, rule: str, kind: str, since: Micros) -> dict[str, int]:
        """By asset of ``kind``: how often since then its alarm of ``rule`` asked for attention, annunciated or not."""
        return await self._read(lambda c: raised(c, rule, kind, since))

    async def bands(
        self, asset: str, rules: Sequence[str] | None, since: Micros, until: Micros, limit: int
    ) -> tuple[list[Band], bool]:
        """When alarms of an asset stood, and whether there were more than ``limit`` steps: then only the first count.
        Only of ``rules``, where they are given."""
        before, steps = await self._read(lambda c: steps_of(c, asset, rules, since, until, limit + 1))
        return bands_of(before, steps[:limit], since), len(steps) > limit


def alarms_by(
    connection: sa.Connection, since: Micros, until: Micros, width: Micros, scope: Scope
) -> list[tuple[Micros, Level, int]]:
    """(begin, level, count) of the steps with since ≤ at < until that asked for attention (``core.load.asks``), in
    periods of ``width`` from ``since`` on; empty ones are left out."""
    table = schema.transitions
    period = (table.c.at - since) // width
    statement = (
        sa.select(period, table.c.level, sa.func.count())
        .where(
            table.c.at >= since,
            table.c.at < until,
            table.c.cause.in_(sorted(ASKS)),
            table.c.document.like(_TOLD),
            within(scope, table.c.asset),
        )
        .group_by(period, table.c.level)
        .order_by(period, table.c.level)
    )
    return [(since + number * width, Level(level), count) for number, level, count in connection.execute(statement)]


def raised(connection: sa.Connection, rule: str, kind: str, since: Micros) -> dict[str, int]:
    """By asset of ``kind``: how often since then its alarm of ``rule`` asked for attention, annunciated or not."""
    table, assets = schema.transitions, schema.assets
    statement = (
        sa.select(table.c.asset, sa.func.count())
        .where(
            table.c.asset.in_(sa.select(assets.c.asset).where(assets.c.kind == kind)),  # a few, by their own index
            table.c.at >= since,
            table.c.cause.in_(sorted(ASKS)),
            table.c.alarm_id == table.c.asset.concat(f"/{rule}"),
        )
        .group_by(table.c.asset)
    )
    return {row[0]: row[1] for row in connection.execute(statement)}


def steps_of(
    connection: sa.Connection, asset: str, rules: Sequence[str] | None, since: Micros, until: Micros, limit: int
) -> tuple[list[Transition], list[Transition]]:
    """The newest step of each alarm of an asset before ``since``; and the steps with since ≤ at < until in their order,
    the first ``limit``. Only of ``rules``, where they are given."""
    table, alarms = schema.transitions, schema.alarms
    wanted = sa.select(alarms.c.alarm_id).where(alarms.c.asset == asset)
    steps = sa.select(table.c.document).where(table.c.asset == asset, table.c.at >= since, table.c.at < until)
    if rules is not None:
        wanted = wanted.where(alarms.c.rule.in_(rules))
        steps = steps.where(table.c.alarm_id.in_([f"{asset}/{rule}" for rule in rules]))
    before = []
    for alarm_id in connection.execute(wanted).scalars().all():
        newest = (
            sa.select(table.c.document)
            .where(table.c.alarm_id == alarm_id, table.c.at < since)
            .order_by(table.c.rev.desc())
            .limit(1)
        )
        document = connection.execute(newest).scalar()
        if document is not None:
            before.append(_TRANSITION.decode(document))
    ordered = steps.order_by(table.c.at, table.c.position, table.c.alarm_id, table.c.rev).limit(limit)
    return before, [_TRANSITION.decode(document) for document in connection.execute(ordered).scalars()]
