"""Assets out of service for a time: which windows are planned, which are open, and when the next one begins or ends.

From its beginning on every alarm that stands on the asset is out of service (T22), and so is every alarm that is raised
on it: recorded, and told to nobody. Each knows the window's end and comes back by itself (T23), so a window and its
alarms need not remember one another. At one moment a window begins and ends before anything else happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.core.model import HOUR, MINUTE, Command, Maintenance, Micros, OutOfService
from gateway.errors import CommandRefused

LONGEST: Micros = 30 * 24 * HOUR  # what takes longer is no maintenance: change the rule, or the asset
SHORTEST: Micros = MINUTE
FURTHEST: Micros = 366 * 24 * HOUR  # how far ahead it may be planned
MAX_WORK = 200


class Windows:
    """All windows that are not over. ``at``, ``no`` and ``scheduled`` as those of every target of the engine's heap."""

    __slots__ = ("_begun", "_windows", "no", "open", "scheduled")

    def __init__(self) -> None:
        self.no = -(1 << 40)  # before every schedule
        self.scheduled: Micros | None = None
        self.open: dict[str, OutOfService] = {}  # asset → what is so of every alarm raised on it now
        self._windows: dict[str, Maintenance] = {}
        self._begun: set[str] = set()

    def load(self, saved: Iterable[tuple[Maintenance, bool]]) -> None:
        """Begin with these, and whether each has begun."""
        for window, begun in saved:
            self._windows[window.id] = window
            if begun:
                self.begin(window)

    def dump(self) -> list[tuple[Maintenance, bool]]:
        return [(window, id_ in self._begun) for id_, window in self._windows.items()]

    def of(self, asset: str) -> list[Maintenance]:
        """The windows of an asset, planned and open, the next one first."""
        found = (window for window in self._windows.values() if window.asset == asset)
        return sorted(found, key=lambda window: window.since)

    def due(self) -> Micros | None:
        """When the next one begins or ends."""
        return min((self._due(window) for window in self._windows.values()), default=None)

    def next(self, now: Micros) -> Maintenance | None:
        """One that begins or ends by ``now``; what ends comes first, so that the next may begin."""
        due = [window for window in self._windows.values() if self._due(window) <= now]
        return min(due, key=lambda window: (self._due(window), window.id not in self._begun, window.id), default=None)

    def has_begun(self, window: Maintenance) -> bool:
        return window.id in self._begun

    def add(self, window: Maintenance) -> None:
        """Plan it. Raises CommandRefused when it overlaps with another one of its asset."""
        for other in self.of(window.asset):
            if window.since < other.until and other.since < window.until:
                raise CommandRefused("not_allowed", f"{window.asset} is under maintenance then already ({other.id})")
        self._windows[window.id] = window

    def begin(self, window: Maintenance) -> OutOfService:
        away = OutOfService(window.work, window.by, window.reason, window.since, window.until, window.id)
        self._begun.add(window.id)
        self.open[window.asset] = away
        return away

    def end(self, window: Maintenance) -> None:
        """It is over, or will not be."""
        del self._windows[window.id]
        if window.id in self._begun:
            self._begun.discard(window.id)
            del self.open[window.asset]

    def _due(self, window: Maintenance) -> Micros:
        return window.until if window.id in self._begun else window.since


def window_id(command_id: str) -> str:
    """The id of the window that a command asks for: the same in every replay, and fit for an address bar."""
    return hashlib.blake2b(command_id.encode(), digest_size=10).hexdigest()


def asked_for(command: Command, at: Micros) -> Maintenance:
    """The window of a command. Arguments: ``work``, the order under which somebody works on it; ``since`` (now when
    left out); ``until``, or ``seconds``. Raises CommandRefused."""
    work = command.arguments.get("work")
    if not isinstance(work, str) or not work:
        raise CommandRefused("not_allowed", "say for which work (argument `work`)")
    if not command.why:
        raise CommandRefused("not_allowed", f"{command.name} needs a reason")
    since = command.arguments.get("since")
    begins = at if since is None else max(at, moment(since, "since"))
    until = end_of(command, begins)
    if until is None:
        raise CommandRefused("not_allowed", "say until when (argument `until` or `seconds`)")
    if begins > at + FURTHEST:
        raise CommandRefused("invalid", "since: at most a year from now")
    if until - begins < SHORTEST:
        raise CommandRefused("invalid", "until: at least a minute after the beginning, and not over already")
    return Maintenance(
        window_id(command.command_id), command.alarm_id, begins, until, work[:MAX_WORK], command.why, command.by, at
    )


def end_of(command: Command, begins: Micros) -> Micros | None:
    """The end that a command sets (arguments ``until``, or ``seconds``); None when it sets none. Raises
    CommandRefused."""
    until, seconds = command.arguments.get("until"), command.arguments.get("seconds")
    if until is None and seconds is None:
        return None
    if until is not None:
        end = moment(until, "until")
    elif isinstance(seconds, (bool, str)) or seconds is None or not 0 < seconds <= LONGEST / 1e6:
        raise CommandRefused("invalid", f"seconds: a number up to {LONGEST // 1_000_000}")
    else:
        end = begins + round(seconds * 1e6)
    if end > begins + LONGEST:
        raise CommandRefused("invalid", f"until: at most {LONGEST // (24 * HOUR)} days")
    if end <= begins:
        raise CommandRefused("invalid", "until: that is over already")
    return end


def moment(value: object, name: str) -> Micros:
    if isinstance(value, bool) or not isinstance(value, int):
        raise CommandRefused("invalid", f"{name}: a time")
    return value
