"""Slows down whoever guesses: by the name that is tried and by the address it is tried from, each twice as long.

A try counts when it begins and is forgiven when it succeeds, so a hundred at once are no way around. Whose password was
right from an address before is not kept out there by strangers who guess at the same name elsewhere. Names that do not
exist count like those that do.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.console.problems import Problem
from gateway.core.model import MINUTE, SECOND, Micros

FREE = 5  # tries that cost nothing: a caps lock, the password of last year
FIRST_WAIT: Micros = SECOND
LONGEST_WAIT: Micros = 5 * MINUTE
FORGET: Micros = 15 * MINUTE  # after the last try; three times the longest wait
REMEMBERED = 10_000  # of names, of addresses and of pairs: about 3 MB in all

LINES, WINDOW = 30, 60 * MINUTE  # of failures in the audit

Key = TypeVar("Key", bound=Hashable)


class Throttle:
    """``begin`` before a secret is looked at, ``succeeded`` when it was right."""

    def __init__(self, now: Callable[[], Micros]) -> None:
        self._now = now
        self._names = _Tries[str]()
        self._addresses = _Tries[str]()
        self._pairs = _Tries[tuple[str, str]]()
        self._at_home: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, name: str | None, address: str) -> None:
        """Count a try as ``name`` (None: with a secret that has no name) from ``address``; raises Problem too_many,
        uncounted, while it is too soon for one."""
        now, place = self._now(), _place(address)
        strange = name is not None and (name, place) not in self._at_home
        wait = self._addresses.wait(place, now)
        if name is not None and strange:
            wait = max(wait, self._names.wait(name, now))
        if wait > 0:
            seconds = -(-wait // SECOND)
            raise Problem("too_many", f"again in {seconds} s", {"Retry-After": str(seconds)}, retry_after_s=seconds)
        self._addresses.add(place, now)
        if name is not None:
            self._pairs.add((name, place), now)
            if strange:
                self._names.add(name, now)

    def succeeded(self, name: str | None, address: str) -> None:
        """The try that began was right: what somebody mistyped on the way is forgiven, other people's tries from the
        same address are not."""
        place = _place(address)
        if name is None:
            self._addresses.take_back(place, 1)
            return
        self._addresses.take_back(place, self._pairs.forget((name, place)))
        self._names.forget(name)
        self._at_home[name, place] = None
        self._at_home.move_to_end((name, place))
        if len(self._at_home) > REMEMBERED:
            self._at_home.popitem(last=False)


@dataclass(slots=True)
class _Count:
    tries: int
    last: Micros


class _Tries(Generic[Key]):
    """How often, and when last. The one that was quiet longest goes when there are too many."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Key, _Count] = OrderedDict()

    def wait(self, key: Key, now: Micros) -> Micros:
        """How long until the next try; 0: now."""
        found = self._counts.get(key)
        if found is None or found.tries < FREE or now - found.last >= FORGET:
            return 0
        return found.last + min(LONGEST_WAIT, FIRST_WAIT << min(found.tries - FREE, 20)) - now

    def add(self, key: Key, now: Micros) -> None:
        found = self._counts.pop(key, None)
        tries = found.tries if found is not None and now - found.last < FORGET else 0
        self._counts[key] = _Count(tries + 1, now)
        if len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)

    def take_back(self, key: Key, tries: int) -> None:
        found = self._counts.get(key)
        if found is not None:
            found.tries -= tries
            if found.tries <= 0:
                del self._counts[key]

    def forget(self, key: Key) -> int:
        """How many there were."""
        found = self._counts.pop(key, None)
        return 0 if found is None else found.tries


class Sparingly:
    """Which failures get a line of their own: the first thirty of an hour, then each tenth, hundredth, thousandth …,
    so that a flood is told and fills nothing."""

    def __init__(self) -> None:
        self._since: Micros | None = None
        self._count = 0

    def worth(self, now: Micros) -> int:
        """0: no line; 1: a line of its own; more: a line that says so many."""
        if self._since is None or not 0 <= now - self._since < WINDOW:
            self._since, self._count = now, 0
        self._count += 1
        beyond = self._count - LINES
        if beyond <= 0:
            return 1
        return beyond if beyond >= 10 and str(beyond).strip("0") == "1" else 0


def _place(address: str) -> str:
    """An IPv6 customer has 2⁶⁴ addresses and is one guesser."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
