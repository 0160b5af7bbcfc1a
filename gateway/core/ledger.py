"""The ledger: what became of every telemetry frame, per device and in all; it always balances.

    received = stored + duplicate + rejected(reason) + in flight

Counted per frame (one MQTT message, one Modbus cycle). *Stored*: at least one reading was kept, good or bad.
*Duplicate*: every reading of it had been seen before. *Rejected*: kept with its reason instead of readings.
"""

from __future__ import annotations

import msgspec

UNKNOWN = "?"  # the account of frames whose device we cannot tell
_NO_REJECTIONS: dict[str, int] = {}  # shared by all accounts without one: nobody adds to it


class Account(msgspec.Struct, gc=False):
    """Counts of frames of one device, and of what its readings were like."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = {}
    readings: int = 0
    bad: int = 0
    conflicts: int = 0
    extra_points: int = 0

    @property
    def rejected_total(self) -> int:
        return sum(self.rejected.values())

    @property
    def balanced(self) -> bool:
        return self.received == self.stored + self.duplicate + self.rejected_total


class Ledger:
    """All accounts. ``total`` is kept beside them, so that a difference between the two can be seen."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.total = Account()

    def account(self, device: str | None) -> Account:
        name = device or UNKNOWN
        found = self.accounts.get(name)
        if found is None:
            found = self.accounts[name] = Account(rejected=_NO_REJECTIONS)
        return found

    def stored(self, device: str, readings: int, bad: int, duplicate_readings: int, conflicts: int, extra: int) -> None:
        """One frame of ``device`` gave ``readings`` kept ones (``bad`` of them bad)."""
        for account in (self.total, self.account(device)):
            account.received += 1
            account.readings += readings
            if readings or not duplicate_readings:
                account.stored += 1
            else:
                account.duplicate += 1
            if bad:
                account.bad += bad
            if conflicts:
                account.conflicts += conflicts
            if extra:
                account.extra_points += extra

    def rejected(self, device: str | None, code: str) -> None:
        """One frame was rejected; ``device`` None or "?" when it cannot be told."""
        for account in (self.total, self.account(device)):
            account.received += 1
            account.rejected = {**account.rejected, code: account.rejected.get(code, 0) + 1}

    def balance(self, device: str | None = None, in_flight: int = 0) -> dict[str, object]:
        """The answer of ``GET /api/v1/ledger``: counts, and whether they balance. ``in_flight`` frames are received
        and not yet decided; they are in the total only, because nobody has asked yet whose they are."""
        account = self.total if device is None else self.accounts.get(device, Account())
        return {
            "device": device,
            "received": account.received + in_flight,
            "stored": account.stored,
            "duplicate": account.duplicate,
            "rejected": dict(sorted(account.rejected.items())),
            "rejected_total": account.rejected_total,
            "in_flight": in_flight,
            "readings": account.readings,
            "bad_readings": account.bad,
            "conflicts": account.conflicts,
            "extra_points": account.extra_points,
            "balanced": account.balanced and (device is not None or self._accounts_agree()),
        }

    def _accounts_agree(self) -> bool:
        return sum(a.received for a in self.accounts.values()) == self.total.received

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((self.total, self.accounts))

    def restore(self, data: bytes) -> None:
        self.total, self.accounts = msgspec.msgpack.decode(data, type=tuple[Account, dict[str, Account]])
