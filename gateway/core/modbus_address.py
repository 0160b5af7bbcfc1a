"""Where a Modbus device is, as its ``address`` says it.

==============================  ===================================================================================
``10.0.0.7:502/1``              Modbus TCP: host, port, unit id
``10.0.0.7:502|10.0.0.8:502/1``  the same with a standby, tried when the first cannot be reached
``rtu://10.0.0.7:4001/3``       a converter that passes RTU frames, with their checksums, through TCP
``serial:/dev/ttyS1:9600:8E1/3``  a serial line: 8 data bits, even parity, 1 stop bit
==============================  ===================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_PORT = 502
BAUDRATES = (1200, 2400, 4800, 9600, 14400, 19200, 28800, 38400, 57600, 115200)

_PLACE = r"(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?"
_TCP = re.compile(rf"(?P<rtu>rtu://)?(?P<place>{_PLACE})(?:\|(?P<standby>{_PLACE}))?/(?P<unit>\d{{1,3}})")
_SERIAL = re.compile(
    r"serial:(?P<port>/dev/[A-Za-z0-9._/-]{1,100}|COM\d{1,3}):(?P<baudrate>\d{3,6})"
    r":(?P<bits>[78])(?P<parity>[NEO])(?P<stop>[12])/(?P<unit>\d{1,3})"
)


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """What carries requests to one unit or several: one connection, one request at a time.

    ``places``: (host, port) of a TCP line, the first and perhaps a standby. ``rtu``: frames with checksums, as on a
    serial line. ``port``: device file of a serial line, with its settings.
    """

    places: tuple[tuple[str, int], ...] = ()
    rtu: bool = False
    port: str = ""
    baudrate: int = 9600
    bits: int = 8
    parity: str = "N"
    stop: int = 1

    @property
    def name(self) -> str:
        """As people write it, without the unit."""
        if self.port:
            return f"serial:{self.port}:{self.baudrate}:{self.bits}{self.parity}{self.stop}"
        places = "|".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in self.places)
        return f"rtu://{places}" if self.rtu else places


def parse_address(address: str) -> tuple[Line, int]:
    """Line and unit id. Raises ValueError with what is wrong."""
    if serial := _SERIAL.fullmatch(address):
        baudrate = int(serial["baudrate"])
        if baudrate not in BAUDRATES:
            raise ValueError(f"not a usual speed: {baudrate} (one of {', '.join(map(str, BAUDRATES))})")
        line = Line((), True, serial["port"], baudrate, int(serial["bits"]), serial["parity"], int(serial["stop"]))
        return line, _unit(serial["unit"], 1)
    match = _TCP.fullmatch(address)
    if match is None:
        raise ValueError(
            f"not a Modbus address: {address[:100]!r} (write host:port/unit, like 10.0.0.7:502/1; "
            "rtu://host:port/unit; serial:/dev/ttyS1:9600:8N1/unit)"
        )
    places = tuple(_place(text) for text in (match["place"], match["standby"]) if text is not None)
    return Line(places, match["rtu"] is not None), _unit(match["unit"], 0)


def is_modbus_address(address: str) -> bool:
    """Whether it is meant as one: names of MQTT devices have neither colon nor slash."""
    return ":" in address or "/" in address


def _place(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or (host.count(":") and not text.startswith("[")) or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    number = int(port)
    if not 1 <= number <= 65535:
        raise ValueError(f"not a port: {number}")
    return host.strip("[]"), number


def _unit(text: str, least: int) -> int:
    unit = int(text)
    if not least <= unit <= (247 if least else 255):
        raise ValueError(f"a unit id is {least} to {247 if least else 255}, not {unit}")
    return unit
