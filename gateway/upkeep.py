"""The gateway as its keepers see it: how far each follower is, what is in force, and the files it came from."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator

from gateway import disk
from gateway.config.bundle import console_folder
from gateway.config.settings import Settings, load_settings, size
from gateway.config.shipped import shipped
from gateway.config.units import duration
from gateway.console.upkeep import CheckedFiles, ConfigurationNow, Figures, FollowerNow, ReceiverNow, SinkNow, Sources
from gateway.core.model import HOUR, MINUTE, SECOND, Micros
from gateway.errors import ConfigError, Mistake
from gateway.historian.columns import POSITION_SHIFT

if TYPE_CHECKING:
    from gateway.app import Gateway

HIDDEN = "***"
DAY: Micros = 24 * HOUR

_SECRET = re.compile(r"(password|passwd|secret|token|api_?key|private)", re.IGNORECASE)
_PLACE = re.compile(r"^\{[a-z]\}$")  # of a tile's address


class LiveUpkeep:
    """Implements ``console.upkeep.Upkeep`` on a ``Gateway``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    # -- figures --------------------------------------------------------------------------------------------------

    def figures(self) -> Figures:
        gateway = self._gateway
        journal, pipeline = gateway.journal, gateway.pipeline
        last = journal.last_position
        positions = {
            "engine": pipeline.processor.position,
            "store": gateway.store.position,
            "historian": gateway.historian.position,
        }
        try:
            room = disk.room(gateway.settings.data)
        except OSError:
            room = None
        return Figures(
            first_position=journal.first_position,
            last_position=last,
            bytes=journal.size_bytes,
            newest_frame=journal.last_received_at or None,
            in_flight=pipeline.in_flight,
            followers=[FollowerNow(name, at, max(0, last - at)) for name, at in positions.items()],
            sinks=list(self._sinks()),
            receivers=list(self._receivers()),
            free=room.free if room is not None else None,
            total=room.total if room is not None else None,
            reserve=gateway.settings.disk.reserve,
        )

    def _sinks(self) -> Sequence[SinkNow]:
        found: list[SinkNow] = []
        for forwarder in self._gateway.forwarders:
            status = forwarder.status
            position = status.cursor >> POSITION_SHIFT
            away = status.away_since_s
            # The cursor stands at the newest reading it has; batches without any behind it are not behind.
            behind = 0 if status.caught_up else max(0, self._gateway.historian.position - position)
            found.append(
                SinkNow(
                    name=status.name,
                    position=position,
                    behind=behind,
                    written=status.written,
                    refused=status.refused,
                    attempts_failed=status.attempts_failed,
                    away_s=round(time.monotonic() - away, 1) if away is not None else None,
                    reason=status.away_reason,
                )
            )
        return found

    def _receivers(self) -> Sequence[ReceiverNow]:
        dispatcher = self._gateway.dispatcher
        lanes = dict(dispatcher.statistics) if dispatcher is not None else {}
        lanes |= {mirror.name: mirror.statistics for mirror in self._gateway.mirrors}
        return [
            ReceiverNow(name, lane.delivered, lane.failed, lane.retried, lane.in_air, lane.down_since, lane.last_error)
            for name, lane in lanes.items()
        ]

    # -- configuration --------------------------------------------------------------------------------------------

    def configuration(self) -> ConfigurationNow:
        gateway = self._gateway
        settings = gateway.settings
        in_force = gateway.pipeline.processor.configuration
        console = console_folder(settings)
        return ConfigurationNow(
            hash=in_force.hash if in_force is not None else "",
            settings=redacted(settings),
            sources=Sources(
                settings=str(self._gateway.config_file) if self._gateway.config_file is not None else None,
                profiles=[str(shipped("device_profiles")), *map(str, settings.profiles)],
                rules=[str(shipped("rules")), *map(str, settings.rules)],
                console_rules=str(console) if console is not None else None,
                assets=[str(file) for file in settings.assets],
                routes=str(settings.routes) if settings.routes is not None else None,
            ),
            profiles=len(in_force.profiles) if in_force is not None else 0,
            rules=sum(1 for _ in in_force.rules) if in_force is not None else 0,
            mistakes=list(gateway.reload_mistakes),
        )

    async def check(self) -> CheckedFiles:
        return await asyncio.to_thread(self._check)

    def _check(self) -> CheckedFiles:
        """In a thread: thousands of lines of YAML."""
        mistakes: list[Mistake] = []
        changed: list[str] = []
        hash_: str | None = None
        if self._gateway.config_file is not None:
            try:
                changed = _differences(self._gateway.settings, load_settings(self._gateway.config_file))
            except ConfigError as error:
                mistakes += error.mistakes
        try:
            hash_ = self._gateway.read_files().configuration.hash
        except ConfigError as error:
            mistakes += error.mistakes
        return CheckedFiles(hash_, mistakes, changed)

    async def reload(self) -> ConfigurationNow:
        await self._gateway.reload()
        return self.configuration()


def _differences(before: Settings, after: Settings) -> list[str]:
    """The outermost keys in which two settings differ."""
    return [name for name in Settings.model_fields if getattr(before, name) != getattr(after, name)]


# -- without secrets --------------------------------------------------------------------------------------------------


def redacted(settings: BaseModel) -> dict[str, Any]:
    """Settings as they would stand in the file, for people to look at: no secret, no user or password in an address, no
    value behind its "?", and of a receiver's address only the host, because chat services put the key into the path."""
    return {name: _shown(settings, name, getattr(settings, name)) for name in type(settings).model_fields}


def _shown(model: BaseModel, name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, BaseModel):
        return redacted(value)
    if isinstance(value, Path):
        return str(value)
    if _SECRET.search(name) and not name.endswith("_file"):
        return HIDDEN
    if isinstance(value, int):
        return _with_unit(model, name, value)
    return _plain(value, whole_address=type(model).__name__ != "ReceiverSettings")


def _plain(value: Any, whole_address: bool = True) -> Any:
    if isinstance(value, BaseModel):
        return redacted(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return without_secrets(value, whole_address) if "://" in value else value
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if _SECRET.search(str(key)) else _plain(item, whole_address) for key, item in value.items()
        }
    if isinstance(value, (tuple, list, set, frozenset)):
        return [_plain(item, whole_address) for item in value]
    return str(value) if isinstance(value, Path) else value


def without_secrets(address: str, whole: bool = True) -> str:
    """An address that may be shown; unless ``whole``, only its scheme and host."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return HIDDEN
    place = f"{f'[{host}]' if ':' in host else host}{port}"
    place = f"{HIDDEN}@{place}" if parts.username is not None else place
    if not whole:
        rest = f"/{HIDDEN}" if parts.path.strip("/") or parts.query else parts.path
        return f"{parts.scheme}://{place}{rest}"
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([(key, value if _PLACE.match(value) else HIDDEN) for key, value in pairs], safe="*{}")
    return urlunsplit((parts.scheme, place, parts.path, query, ""))


def _with_unit(model: BaseModel, name: str, value: int) -> int | str:
    """A duration or a size as people write it."""
    readers = [m.func for m in type(model).model_fields[name].metadata if isinstance(m, BeforeValidator)]
    if duration in readers:
        for unit, span in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
            if value and value % span == 0:
                return f"{value // span}{unit}"
        return f"{value / SECOND:g}s"
    if size in readers:
        for unit, bytes_ in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
            if value and value % bytes_ == 0:
                return f"{value // bytes_} {unit}"
    return value
