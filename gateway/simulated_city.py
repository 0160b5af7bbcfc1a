"""The simulated city beside a gateway of its own: a process, its asset file, its logins. For the demo and live drills.

this process: gateway + embedded broker         child: python -m simulators city
    ◀────────── real MQTT, Modbus TCP and HJ 212 ──────────▶
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from gateway.app import Gateway
from gateway.config.settings import (
    ConsoleSettings,
    Hj212Settings,
    MapSettings,
    ModbusSettings,
    MqttSettings,
    Settings,
)
from gateway.core.networks import Network
from gateway.errors import CitywatchError

FLEET = "city"  # the one login that carries the simulated devices
MODULE = (sys.executable, "-P", "-m", "simulators", "--die-with-parent")


def run_simulators(*words: str) -> None:
    """Run one command of the simulators to its end; it dies with us. Raises CitywatchError when it fails."""
    done = subprocess.run([*MODULE, *words], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise CitywatchError(f"the simulators failed: {' | '.join(done.stderr.strip().splitlines()[-1:])}")


def city_settings(
    folder: Path,
    *,
    port: int = 0,
    mqtt_port: int = 0,
    rules: tuple[Path, ...] = (),
    modbus: ModbusSettings | None = None,
    routes: Path | None = None,
) -> Settings:
    """A gateway for the city whose assets are in ``folder``/assets.json, and its roads in roads.geojson and
    outline.geojson if they are there, with its data below ``folder``. Port 0: any free one."""
    files = (folder / "roads.geojson", folder / "outline.geojson")
    roads, outline = (file if file.exists() else None for file in files)
    return Settings(
        data=folder / "data",
        mqtt=(
            MqttSettings(
                id="city",
                embedded=True,
                port=mqtt_port,
                fleet_users=(FLEET,),
                networks=(Network.CITYWATCH, Network.CHIRPSTACK),
            ),
        ),
        hj212=(Hj212Settings(port=0),),
        modbus=modbus or ModbusSettings(),
        assets=(folder / "assets.json",),
        rules=rules,
        routes=routes,
        console=ConsoleSettings(port=port, map=MapSettings(roads=roads, outline=outline)),
    )


class SimulatedCity:
    """The child process, connected to a gateway that is ready."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self._folder / "simulators.log"

    async def start(self, gateway: Gateway, words: Sequence[str], own_logins: Sequence[str] = ()) -> None:
        """``words``: the scenario and how it is played. ``own_logins``: devices that log in as themselves."""
        broker = gateway.broker
        assert broker is not None, "its broker is the embedded one"
        credentials = self._folder / "credentials.json"
        logins = {
            "fleet": {"username": FLEET, "password": broker.password(FLEET)},
            "devices": {device: broker.password(device) for device in own_logins},
        }
        with os.fdopen(os.open(credentials, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(logins, file)
        self._process = await asyncio.create_subprocess_exec(
            *MODULE, "city", "--mqtt-url", broker.url, "--hj212", f"127.0.0.1:{gateway.hj212[0].port}",
            "--credentials", str(credentials), "--own-credentials", str(len(own_logins)),
            "--assets", str(self._folder / "assets.json"), *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self.log.open("wb"), limit=1 << 20,
        )  # fmt: skip

    async def says(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, a message at a time, to its end."""
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            yield json.loads(line)

    def begin(self) -> None:
        """Let a city that was started with ``--wait`` begin."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def ended(self) -> int:
        """Its exit code, when it has one."""
        assert self._process is not None
        return await self._process.wait()

    def stop(self) -> None:
        """It is told to go; it goes with us in any case."""
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.terminate()
            except ProcessLookupError:
                return  # it has ended, and nobody has told the loop yet
