"""What the store of a data folder knows, read from a copy: the folder may be a running gateway's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from gateway.core.model import Asset, Device
from gateway.errors import ConfigError, Mistake
from gateway.store.store import Store


async def city_of(data: Path) -> tuple[list[Asset], list[Device]]:
    """Assets and devices of the gateway with data folder ``data``. Raises ConfigError when it is none, StorageFailed
    when it cannot be read."""
    if not (data / "store.db").exists():
        raise ConfigError([Mistake(str(data), None, "", "is not the data folder of a gateway")])
    with tempfile.TemporaryDirectory(prefix="citywatch-still-") as name:
        for file in ("store.db", "store.db-wal"):
            if (data / file).exists():
                shutil.copy2(data / file, Path(name) / file)
        store = await Store.open(Path(name))
        try:
            return await store.everything()
        finally:
            await store.close()
