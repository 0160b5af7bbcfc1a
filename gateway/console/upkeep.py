"""What the console needs of the running gateway for those who keep it going; a part of the port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from gateway.core.model import Micros
from gateway.errors import Mistake


class FollowerNow(msgspec.Struct, frozen=True):
    """Somebody who follows the journal: ``behind`` batches."""

    name: str
    position: int
    behind: int


class SinkNow(msgspec.Struct, frozen=True):
    """A copy of the readings elsewhere. ``behind``: batches of the journal; ``away_s``: for how long it has not
    answered, None while it does, ``reason`` why."""

    name: str
    position: int
    behind: int
    written: int
    refused: int
    attempts_failed: int
    away_s: float | None
    reason: str | None


class ReceiverNow(msgspec.Struct, frozen=True):
    """Somebody who is told about alarms; counts since the start. ``down_since``: while it cannot be reached."""

    name: str
    delivered: int
    failed: int
    retried: int
    in_air: int
    down_since: Micros | None
    last_error: str | None


class Figures(msgspec.Struct, frozen=True):
    """``first_position`` and ``bytes``: of the journal; ``free`` … ``reserve``: bytes of the data folder's disk, None
    when it cannot be asked."""

    first_position: int
    last_position: int
    bytes: int
    newest_frame: Micros | None
    in_flight: int
    followers: list[FollowerNow]
    sinks: list[SinkNow]
    receivers: list[ReceiverNow]
    free: int | None
    total: int | None
    reserve: int


class Sources(msgspec.Struct, frozen=True):
    """Where the configuration comes from, as paths: the settings, folders of profiles and rules (the later ones lie
    over the earlier), the rules changed at the console, the file with the routes, asset files."""

    settings: str | None
    profiles: list[str]
    rules: list[str]
    console_rules: str | None
    assets: list[str]
    routes: str | None = None


class ConfigurationNow(msgspec.Struct, frozen=True):
    """What is in force. ``settings`` as in the file, without secrets; ``mistakes`` are those of the last reload, which
    then changed nothing."""

    hash: str
    settings: dict[str, Any]
    sources: Sources
    profiles: int
    rules: int
    mistakes: Sequence[Mistake]


class CheckedFiles(msgspec.Struct, frozen=True):
    """What the files say now. ``hash`` is None with mistakes in profiles or rules. ``settings_changed``: settings that
    differ from those in force, which only a restart takes over."""

    hash: str | None
    mistakes: Sequence[Mistake]
    settings_changed: Sequence[str] = ()


class Upkeep(Protocol):
    """The gateway and its files. Only for the event loop."""

    def figures(self) -> Figures: ...

    def configuration(self) -> ConfigurationNow: ...

    async def check(self) -> CheckedFiles:
        """Read the files again and take nothing over."""
        ...

    async def reload(self) -> ConfigurationNow:
        """Read the files again and take them over, unless they have mistakes; gives what is in force then."""
        ...
