"""Every error citywatch raises, sorted by what the catcher should do about it.

    CitywatchError
    ├── ConfigError      the operator's files are wrong: say where, do not start (or keep the running configuration)
    ├── DecodeError      the device's bytes are wrong: count it, keep the frame, go on
    ├── Unavailable      the other side is away: keep the data, back off, try again (perhaps it arrived all the same)
    ├── Rejected         the other side will never take this: drop this item, keep the rest
    ├── CommandRefused   a person asked for something the rules do not allow now: tell the person why
    └── StorageFailed    a write or a sync of our own disk failed: acknowledge nothing more and exit

Library exceptions are translated once, at the border, with ``raise … from``.
"""

from __future__ import annotations

from dataclasses import dataclass


class CitywatchError(Exception):
    """Root of the tree; never raised itself."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong place in an operator's file.

    ``file`` and ``key`` as the operator wrote them; ``line`` is 1-based, None where it cannot be known.
    """

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(CitywatchError):
    """The configuration has mistakes; all of them at once, in ``mistakes``."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(m) for m in mistakes))


class DecodeError(CitywatchError):
    """A payload cannot be understood; the text is the reason shown to people."""


class Unavailable(CitywatchError):
    """The other side cannot be reached now; ``retry_after_s`` when it told us how long. ``may_have_arrived``: what was
    asked of it was sent, and only the answer is missing: trying again may do it twice."""

    def __init__(self, message: str, retry_after_s: float | None = None, *, may_have_arrived: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.may_have_arrived = may_have_arrived


class Rejected(CitywatchError):
    """The other side refuses these items for good; ``items`` are their indexes in what was offered."""

    def __init__(self, message: str, items: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.items = items


class CommandRefused(CitywatchError):
    """A command is not allowed now. ``code`` is stable for programs: stale_rev, not_found, forbidden, not_allowed;
    for a value that is to be written: writes_off, invalid, device_refused."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StorageFailed(CitywatchError):
    """Our own disk failed us: nothing may be acknowledged after this; the process exits and re-reads the disk.

    ``disk_full``: the write was refused for want of room, nothing is damaged: opening again may work later.
    """

    def __init__(self, message: str, *, disk_full: bool = False) -> None:
        super().__init__(message)
        self.disk_full = disk_full
