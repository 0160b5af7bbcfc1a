"""A house for the rulebook and the trials of the console's tests: real files, real store, real processes; what was put
in force is only remembered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from gateway.app import Files
from gateway.config.bundle import Bundle, load_configuration, rule_origins
from gateway.config.settings import Settings
from gateway.core.model import Micros
from gateway.core.processor import Configuration, Processor
from gateway.rulebook import Rulebook
from gateway.store.store import Store
from gateway.trials import Trials


@cache
def _shipped() -> tuple[Bundle, Configuration, dict[str, str]]:
    return *load_configuration(Settings()), rule_origins(Settings())


class House:
    """What ``Rulebook`` and ``Trials`` need of a gateway."""

    def __init__(self, data: Path, store: Store, processor: Processor, rules: tuple[Path, ...] = ()) -> None:
        self.settings = Settings(data=data, rules=rules)
        self.store = store
        self.clock = SimpleNamespace(now=self.now)
        self.pipeline = SimpleNamespace(processor=processor)
        self.reloading = asyncio.Lock()
        self.put_in_force = 0
        if rules or (data / "rules").exists():
            self._use(self.read_files())
        else:
            self.bundle, self.configuration, self.origins = _shipped()
        self.rulebook = Rulebook(self)  # type: ignore[arg-type]
        self.trials = Trials(self)  # type: ignore[arg-type]

    def now(self) -> Micros:
        return time.time_ns() // 1000

    def read_files(self, console: Mapping[str, str] | None = None) -> Files:
        bundle, configuration = load_configuration(self.settings, console)
        return Files(bundle, configuration, rule_origins(self.settings), ([], []))

    async def take_over(self, files: Files) -> None:
        self.put_in_force += 1
        self._use(files)

    def _use(self, files: Files) -> None:
        self.bundle, self.configuration, self.origins = files.bundle, files.configuration, files.origins
