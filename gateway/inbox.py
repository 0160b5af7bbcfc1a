"""The gateway's letter box: a folder through which commands hand it assets without talking to it.

A file is written beside, synced and renamed; the running gateway takes it within a second, a stopped one at its next
start; it is deleted only when its content is in the journal.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.config.asset_tables import document_json, to_csv, to_geojson, to_xlsx
from gateway.config.assets import load_assets
from gateway.config.bundle import load_configuration
from gateway.config.settings import load_settings
from gateway.core.assets_json import to_json
from gateway.core.baselines import with_learned
from gateway.errors import ConfigError, Mistake
from gateway.lock import is_running
from gateway.store.still import city_of

FOLDER = "inbox"
PATIENCE_S = 10.0


def put(data: Path, payload: bytes) -> Path:
    """Leave an assets payload for the gateway of data folder ``data``; durable when it returns."""
    folder = data / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{time.time_ns():020d}-{os.getpid()}.json"
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    return path


def letters(data: Path) -> Iterator[tuple[Path, bytes]]:
    """What lies there, oldest first; the caller deletes each file when it is safe."""
    folder = data / FOLDER
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.json")):
        yield path, path.read_bytes()


def import_assets_command(file: Path, config: Path) -> dict[str, object]:
    """Check ``file`` against the configuration and hand it over. Raises ConfigError with every mistake in it."""
    settings = load_settings(config)
    profiles = load_configuration(settings)[1].profiles
    # What the gateway has already it knows itself, and refuses the letter if a name leads nowhere.
    assets, devices = load_assets(file, str(file), profiles, None, settings.site.component_code_layout)
    path = put(settings.data, to_json(assets, devices))
    counted = f"{len(assets)} assets and {len(devices)} devices"
    running = is_running(settings.data)
    taken = running and _wait_until_taken(path, file)
    if taken:
        message = f"{counted} are in force"
    elif running:
        message = f"{counted} are handed over; the gateway has not taken them yet: see its log"
    else:
        message = f"{counted} are handed over; the gateway takes them in when it starts"
    return {"assets": len(assets), "devices": len(devices), "taken": taken, "message": message}


def dry_run(file: Path, config: Path) -> dict[str, object]:
    """Check ``file`` as ``import_assets_command`` does, and say what it would change; nothing is handed over. Raises
    ConfigError with every mistake in it."""
    settings = load_settings(config)
    profiles = load_configuration(settings)[1].profiles
    here = (settings.data / "store.db").exists()
    known_assets, known_devices = asyncio.run(city_of(settings.data)) if here else ([], [])
    before = {asset.asset: asset for asset in known_assets}
    devices_before = {device.device: device for device in known_devices}
    layout = settings.site.component_code_layout
    assets, devices = load_assets(file, str(file), profiles, before if here else None, layout)
    found = [with_learned(asset, before.get(asset.asset)) for asset in assets]
    counts = {
        "new_assets": sum(asset.asset not in before for asset in found),
        "changed_assets": sum(asset.asset in before and before[asset.asset] != asset for asset in found),
        "new_devices": sum(device.device not in devices_before for device in devices),
        "changed_devices": sum(d.device in devices_before and devices_before[d.device] != d for d in devices),
    }
    told = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items())
    message = f"{len(assets)} assets and {len(devices)} devices are right: {told}; nothing was handed over"
    return {"assets": len(assets), "devices": len(devices), **counts, "taken": False, "message": message}


def export_assets(config: Path, form: str) -> bytes:
    """All assets and devices of the gateway, as a file that ``import_assets_command`` understands; ``form``: csv, xlsx,
    geojson or json."""
    assets, devices = asyncio.run(city_of(load_settings(config).data))
    mine = [asset for asset in assets if asset.kind != "gateway"]
    match form:
        case "csv":
            return to_csv(mine, devices)
        case "xlsx":
            return to_xlsx(mine, devices)
        case "geojson":
            return to_geojson(mine, devices)
        case _:
            return document_json(mine, devices)


def refuse(path: Path, reason: str) -> None:
    """The gateway will not take this letter: leave the reason beside it."""
    path.with_suffix(".reason").write_text(reason, encoding="utf-8")
    path.rename(path.with_suffix(".refused"))


def _wait_until_taken(path: Path, file: Path) -> bool:
    """Raises ConfigError when the gateway refuses the letter."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if not path.exists():
            reason = path.with_suffix(".reason")
            if reason.exists():
                raise ConfigError([Mistake(str(file), None, "", reason.read_text(encoding="utf-8"))])
            return True
        time.sleep(0.1)
    return False
