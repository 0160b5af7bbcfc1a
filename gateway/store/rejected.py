"""Rejected frames are evidence, kept in a ring by bytes: the oldest go first, of the device that makes too many.

Two budgets: one for all, one for each device. The sums are kept in memory (read once at open) so that a stream of
nonsense costs one insert a frame and now and then one delete of a tenth of a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from gateway.core.model import FrameRejected
from gateway.store.schema import rejected
from gateway.store.text import clean

ROW_BYTES = 200  # the columns beside the payload and the texts, and two index entries; measured about 180
PAYLOAD_BYTES = 4096  # enough to see what is wrong; the journal has the whole while it lasts
KEEP = 0.9  # after a trim, so that not every frame trims

_ORDER = (rejected.c.position, rejected.c["index"])


class RejectedRing:
    """Owner of the table ``rejected``; used by the writer's thread only."""

    def __init__(self, budget: int, budget_device: int) -> None:
        self._budget = budget
        self._budget_device = min(budget_device, budget)
        self._sizes: dict[str, int] | None = None

    def load(self, connection: sa.Connection) -> None:
        """Read the sums."""
        statement = sa.select(rejected.c.device, sa.func.sum(rejected.c.size)).group_by(rejected.c.device)
        self._sizes = {device: int(size) for device, size in connection.execute(statement)}

    def forget(self) -> None:
        """A transaction failed: the sums are no longer those of the table."""
        self._sizes = None

    def write(self, connection: sa.Connection, insert: Any, events: Sequence[FrameRejected]) -> None:
        """Add ``events``, then trim what is over budget."""
        if self._sizes is None:
            self.load(connection)
        sizes = self._sizes
        assert sizes is not None
        rows = self._affordable([_row(event) for event in events])
        connection.execute(insert, rows)
        for row in rows:
            sizes[row["device"]] = sizes.get(row["device"], 0) + row["size"]
        for device in {row["device"] for row in rows}:
            if sizes[device] > self._budget_device:
                where = rejected.c.device == device
                self._trim(connection, where, sizes[device] - int(self._budget_device * KEEP))
        total = sum(sizes.values())
        if total > self._budget:
            self._trim(connection, sa.true(), total - int(self._budget * KEEP))

    def _affordable(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The newest rows of one batch that fit the budgets: the others would be deleted at once."""
        kept: list[dict[str, Any]] = []
        used: dict[str, int] = {}
        total = 0
        for row in reversed(rows):
            of_device = used.get(row["device"], 0) + row["size"]
            if (of_device <= self._budget_device and total + row["size"] <= self._budget) or not kept:
                used[row["device"]] = of_device
                total += row["size"]
                kept.append(row)
        return kept[::-1]

    def _trim(self, connection: sa.Connection, where: sa.ColumnElement[bool], excess: int) -> None:
        """Delete the oldest rows that match until ``excess`` bytes are gone."""
        assert self._sizes is not None
        statement = sa.select(*_ORDER, rejected.c.device, rejected.c.size).where(where).order_by(*_ORDER)
        last: tuple[int, int] | None = None
        offset = 0
        while excess > 0:
            chunk = connection.execute(statement.limit(1000).offset(offset)).all()
            if not chunk:
                break
            offset += len(chunk)
            for position, index, device, size in chunk:
                last = (position, index)
                excess -= size
                left = self._sizes.get(device, 0) - size
                if left > 0:
                    self._sizes[device] = left
                else:
                    self._sizes.pop(device, None)
                if excess <= 0:
                    break
        if last is not None:
            up_to = sa.or_(
                rejected.c.position < last[0], sa.and_(rejected.c.position == last[0], rejected.c["index"] <= last[1])
            )
            connection.execute(sa.delete(rejected).where(where, up_to))


def _row(event: FrameRejected) -> dict[str, Any]:
    frame, rejection = event.frame, event.rejection
    device, reason = clean(rejection.device or "", 128), clean(rejection.reason, 500)
    address, principal = clean(frame.address, 500), clean(frame.principal, 200)
    payload = frame.payload[:PAYLOAD_BYTES]
    return {
        "position": event.position,
        "index": event.index,
        "device": device,
        "received_at": frame.received_at,
        "code": clean(rejection.code, 64),
        "reason": reason,
        "kind": frame.kind.value,
        "source": clean(frame.source, 128),
        "address": address,
        "principal": principal,
        "retained": frame.retained,
        "payload": payload,
        "payload_size": len(frame.payload),
        "size": ROW_BYTES + len(payload) + len((device + reason + address + principal).encode()),
    }
