"""python -m simulators city · stream · assets · load · witness · case-platform: the simulated world, as processes.

Every command but ``stream`` prints JSON lines on stdout (one object a line, ``type`` says what it is), and all say
people's words on stderr. Exit 0 done, 1 nothing got through, 2 wrong usage. SIGTERM ends each in order.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulators import city as cities
from simulators import fleet, load, witness
from simulators.ledger import CityLedger
from simulators.scenario import Scenario, duration_s, load_scenario, shipped_scenarios
from simulators.stream import stream


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    parser.add_argument("--die-with-parent", action="store_true", help="end when the process that started us does")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _city_arguments(commands.add_parser("city", help="a living city over MQTT, Modbus TCP and HJ 212"))
    _stream_arguments(
        commands.add_parser("stream", help="all that a scenario says, and the truth, as records on stdout")
    )
    _assets_arguments(commands.add_parser("assets", help="write the asset file of the simulated city"))
    loads = commands.add_parser("load", help="a load generator that accounts for every message")
    load.add_arguments(loads)
    loads.set_defaults(run=load.run)
    witnesses = commands.add_parser("witness", help="a webhook receiver that writes everything down")
    witness.add_arguments(witnesses)
    witnesses.set_defaults(run=witness.run)
    _platform_arguments(
        commands.add_parser("case-platform", help="a city's case platform, which takes cases and speaks back")
    )
    options = parser.parse_args(arguments)
    if options.die_with_parent:
        _die_with_parent()
    try:
        code: int = options.run(options)
    except (OSError, ValueError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2
    return code


def seconds(text: str) -> float:
    """``90``, ``90s``, ``5m``, ``1h30m`` → seconds. Raises ValueError."""
    return float(text) if text.strip().replace(".", "", 1).isdigit() else duration_s(text)


def _scenario_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenario", default="evening", metavar="NAME|FILE",
                        help=f"{', '.join(shipped_scenarios())}, or a file (default evening)")  # fmt: skip
    parser.add_argument("--seed", type=int, help="default: the scenario's")
    parser.add_argument("--devices", type=int, metavar="N", help="how many assets (default: the scenario's)")


def _city_of(options: argparse.Namespace) -> tuple[Scenario, cities.City]:
    scenario = load_scenario(options.scenario)
    seed = scenario.seed if options.seed is None else options.seed
    return scenario, cities.build_city(seed, options.devices or scenario.assets, scenario.city_intervals)


def _assets_arguments(parser: argparse.ArgumentParser) -> None:
    _scenario_arguments(parser)
    parser.add_argument("--modbus-base-port", type=int, default=0,
                        help="port of the first Modbus device (default 0: ports that are free just now)")  # fmt: skip
    parser.add_argument("--modbus-ports-file", type=Path, help="JSON written by `city`: device → port")
    parser.add_argument("--out", type=Path, required=True, help=".yaml or .json for the gateway, .geojson for a map")
    parser.add_argument("--map-out", type=Path, metavar="FOLDER", help="write roads.geojson and outline.geojson there")
    parser.set_defaults(run=_assets)


def _assets(options: argparse.Namespace) -> int:
    _, city = _city_of(options)
    if options.map_out is not None:
        for name, collection in (("roads", cities.roads_geojson(city)), ("outline", cities.outline_geojson(city))):
            cities.write_whole(options.map_out / f"{name}.geojson", json.dumps(collection, ensure_ascii=False) + "\n")
    if options.out.suffix == ".geojson":
        cities.write_whole(options.out, json.dumps(cities.geojson(city), ensure_ascii=False) + "\n")
        return 0
    if options.modbus_ports_file is not None:
        ports = json.loads(options.modbus_ports_file.read_text(encoding="utf-8"))
    elif options.modbus_base_port:
        ports = cities.ports_from(options.modbus_base_port, city.modbus_devices)
    else:
        ports = cities.free_ports(city.modbus_devices)
    cities.write_assets(cities.asset_document(city, ports), options.out)
    return 0


def _stream_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="NAME|FILE")
    parser.add_argument("--seed", type=int, help="default: the scenario's")
    parser.add_argument("--assets", type=int, metavar="N", help="default: the scenario's")
    parser.set_defaults(run=_stream)


def _stream(options: argparse.Namespace) -> int:
    gc.disable()  # millions of short-lived messages, and no circles among them
    stream(load_scenario(options.scenario), options.seed, options.assets, sys.stdout.buffer)
    return 0


def _city_arguments(parser: argparse.ArgumentParser) -> None:
    _scenario_arguments(parser)
    parser.add_argument("--mqtt-url", help="mqtt://host:port; without it only the Modbus devices run")
    parser.add_argument("--hj212", metavar="HOST:PORT", help="where dust stations connect")
    parser.add_argument("--credentials", type=Path, help="JSON: fleet {username, password}, devices {id: password}")
    parser.add_argument("--own-credentials", type=int, default=0, metavar="N", help="N lamps log in as themselves")
    parser.add_argument("--connections", type=int, default=4, help="connections that the other devices share")
    parser.add_argument("--assets", type=Path, metavar="FILE", help="take the Modbus ports from this asset file")
    parser.add_argument("--modbus-base-port", type=int, default=0, metavar="PORT")
    parser.add_argument("--modbus-ports-file", type=Path, metavar="FILE", help="write which port each device got")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds a second")
    parser.add_argument("--for", dest="duration", type=seconds, metavar="5m", help="end after so long")
    parser.add_argument("--start-ms", type=int, help="clock of the devices at the beginning (default: now)")
    parser.add_argument("--scenario-clock", action="store_true",
                        help="devices' clocks show the scenario's time, as fast as it goes")  # fmt: skip
    parser.add_argument("--wait", action="store_true", help="begin when a line comes on stdin")
    parser.add_argument("--no-stranger", action="store_true", help="no message from a device nobody knows")
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="SQLite: every message, sent and acknowledged when")
    parser.add_argument("--status-file", type=Path, metavar="FILE", help="JSON lines there instead of on stdout")
    parser.set_defaults(run=_city)


def _city(options: argparse.Namespace) -> int:
    scenario, city = _city_of(options)
    ports: dict[str, int] = {}
    if options.assets is not None:
        ports = cities.read_modbus_ports(options.assets)
    elif options.modbus_base_port:
        ports = cities.ports_from(options.modbus_base_port, city.modbus_devices)
    credentials = json.loads(options.credentials.read_text(encoding="utf-8")) if options.credentials else {}
    host, _, port = (options.hj212 or "").rpartition(":")
    city_options = fleet.CityOptions(
        city=city,
        scenario=scenario,
        mqtt_url=options.mqtt_url,
        hj212=(host, int(port)) if options.hj212 else None,
        credentials=credentials,
        own_credentials=options.own_credentials,
        connections=options.connections,
        modbus_ports=ports,
        modbus_ports_file=options.modbus_ports_file,
        seed=scenario.seed if options.seed is None else options.seed,
        speed=options.speed,
        duration_s=options.duration,
        scenario_clock=options.scenario_clock,
        stranger=not options.no_stranger,
        start_ms=options.start_ms,
        wait=options.wait,
    )
    ledger = CityLedger(options.ledger) if options.ledger else None
    out = options.status_file.open("w", encoding="utf-8") if options.status_file else sys.stdout

    def say(what: dict[str, Any]) -> None:
        print(json.dumps(what, ensure_ascii=False), file=out, flush=True)

    async def until_told() -> dict[str, Any]:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await fleet.run_city(city_options, ledger, say, stop)

    try:
        asyncio.run(until_told())
    finally:
        if ledger is not None:
            ledger.close()
        if out is not sys.stdout:
            out.close()
    return 0


def _platform_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret-file", type=Path, required=True, help="the key that the gateway signs cases with")
    parser.add_argument("--gateway", default="", metavar="URL", help="…/api/v1/inbound/cases/NAME of the gateway")
    parser.add_argument("--own-secret-file", type=Path, help="the key for what is said to the gateway")
    parser.add_argument("--faults", help="JSON list of faults, or @FILE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON lines of every case that came")
    parser.set_defaults(run=_case_platform)


def _case_platform(options: argparse.Namespace) -> int:
    from simulators import case_platform  # brings aiohttp: a fifth of a second that the others do not need

    return case_platform.run(options)


def _die_with_parent() -> None:
    """Ask the kernel for a SIGTERM when our parent dies, whatever kills it (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 = PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main())
