"""python -m simulators city · assets · load · witness: the simulated world, as processes of its own.

Every command prints JSON lines on stdout (one object a line, ``type`` says what it is) and people's words on stderr.
Exit 0 done, 2 wrong usage. With ``--die-with-parent`` the process ends when the one that started it does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simulators import city as cities
from simulators import load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _assets_arguments(commands.add_parser("assets", help="write the asset file of the simulated city"))
    loads = commands.add_parser("load", help="a load generator that accounts for every message")
    load.add_arguments(loads)
    loads.set_defaults(run=load.run)
    options = parser.parse_args(arguments)
    run = options.run
    code: int = run(options)
    return code


def _assets_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--devices", type=int, default=300, help="how many lamps (default 300)")
    parser.add_argument("--modbus-base-port", type=int, default=15020,
                        help="port of the first Modbus device; 0 = ports that are free just now")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(run=_assets)


def _assets(options: argparse.Namespace) -> int:
    city = cities.build_city(options.seed, options.devices)
    ports = cities.ports_from(options.modbus_base_port) if options.modbus_base_port else cities.free_ports()
    cities.write_assets(cities.asset_document(city, ports), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
