"""HJ 212-2017, the telegrams of environmental stations (dust, noise) over TCP.

    ##0101QN=20160801085857223;ST=32;CN=1062;PW=100000;MN=010000A8900016F000169DC0;Flag=5;CP=&&RtdInterval=30&&1C80\\r\\n

``##``, four digits of length, the body, four hexadecimal digits of checksum (not Modbus's), carriage return, line feed.
Facts of the layout: HJ 212-2017, with the standard's own example checked.
"""

from __future__ import annotations

import re

import msgspec

from gateway.core.payload import MAX_NAME, Refused, Sample
from gateway.core.registers import Fault

HEAD = b"##"
OVERHEAD = 12  # ##, length, checksum, CR LF
MAX_BODY = 1024  # the standard's own limit of one telegram

# Which command carries measurements, and what is added to the names of its values: those of minutes, hours and days are
# different points.
DATA = {"2011": "", "2051": "", "2061": "-hour", "2031": "-day"}
WRONG_FLAGS = {
    "F": "stopped", "M": "maintenance", "S": "entered by hand", "D": "fault", "C": "calibration", "T": "over the range",
    "B": "no communication",
}  # fmt: skip

_BODY = re.compile(r"(?P<head>[^&]*)CP=&&(?P<cp>.*?)&&", re.DOTALL)
_TIME = re.compile(r"\d{14}")
_NUMBER = re.compile(r"[-+]?\d{1,15}(\.\d{1,15})?")


class Telegram(msgspec.Struct, frozen=True):
    """``fields``: QN, ST, CN, PW, MN, Flag …; ``groups``: the parts of CP, each name → value."""

    fields: dict[str, str]
    groups: list[dict[str, str]]

    @property
    def station(self) -> str:
        return self.fields.get("MN", "")

    @property
    def wants_answer(self) -> bool:
        flag = self.fields.get("Flag", "")
        return flag.isascii() and flag.isdigit() and len(flag) < 4 and bool(int(flag) & 1)


def _eight_steps(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value


_STEPS = tuple(map(_eight_steps, range(256)))  # of what is left of a register: its high half with a character upon it


def crc(body: bytes) -> int:
    """The standard's: the high half of the register takes each character before eight steps."""
    value = 0xFFFF
    for character in body:
        value = _STEPS[(value >> 8) ^ character]
    return value


def wrap(body: str) -> bytes:
    """A whole telegram."""
    data = body.encode()
    return b"##%04d%b%04X\r\n" % (len(data), data, crc(data))


def cut(buffer: bytearray) -> tuple[bytes | None, bytes]:
    """Take the next telegram from the front of ``buffer``: (it, or None while it is not whole; what stood before)."""
    start = buffer.find(HEAD)
    if start < 0:
        keep = 1 if buffer.endswith(b"#") else 0
        noise = bytes(buffer[: len(buffer) - keep])
        del buffer[: len(buffer) - keep]
        return None, noise
    noise = bytes(buffer[:start])
    del buffer[:start]
    if len(buffer) < 6:
        return None, noise
    digits = bytes(buffer[2:6])
    if not digits.isdigit() or int(digits) > MAX_BODY:
        del buffer[:2]  # no length: look for the next beginning
        return None, noise + HEAD
    size = int(digits) + OVERHEAD
    if len(buffer) < size:
        return None, noise
    telegram = bytes(buffer[:size])
    del buffer[:size]
    return telegram, noise


def parse(telegram: bytes) -> Telegram:
    """Raises Refused for anything that is not a whole telegram with the right checksum."""
    if telegram[:2] != HEAD or len(telegram) < OVERHEAD:
        raise Refused("bad_payload", "not an HJ 212 telegram")
    body, check = telegram[6:-6], telegram[-6:-2]
    if telegram[2:6] != b"%04d" % len(body) or telegram[-2:] != b"\r\n":
        raise Refused("bad_payload", "the length of the telegram is wrong")
    if check.upper() != b"%04X" % crc(body):
        raise Refused("bad_payload", f"checksum {check.decode('ascii', 'replace')}, {crc(body):04X} was expected")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Refused("bad_payload", "not UTF-8") from None
    match = _BODY.fullmatch(text)
    if match is None:
        raise Refused("bad_payload", "no CP=&&…&& in it")
    fields = _pairs(match["head"].split(";"))
    if not fields.get("MN") or not fields.get("CN"):
        raise Refused("bad_payload", "no MN or no CN in it")
    return Telegram(fields, [_pairs(group.split(",")) for group in match["cp"].split(";") if group])


def sample_of(telegram: Telegram) -> Sample:
    """What it measured, under names like ``a34004-Rtd``; other commands are a remark. A value whose flag is not N is a
    fault. Raises Refused for data without its time."""
    command = telegram.fields["CN"]
    ending = DATA.get(command)
    if ending is None:
        return Sample({}, extra=(f"CN {command[:MAX_NAME]}",))
    values: dict[str, object] = {}
    time: str | None = None
    for group in telegram.groups:
        time = group.get("DataTime", time)
        for name, text in group.items():
            code, dash, what = name.partition("-")
            if not dash or what == "Flag":
                continue
            flag = group.get(f"{code}-Flag", "N")
            value: object = float(text) if _NUMBER.fullmatch(text) else text
            if flag != "N":
                value = Fault(f"flag {flag[:4]}: {WRONG_FLAGS.get(flag, 'not valid')}")
            values[name + ending] = value
    if time is None or not _TIME.fullmatch(time):
        raise Refused("bad_time", "no DataTime of 14 digits in it")
    iso = f"{time[:4]}-{time[4:6]}-{time[6:8]}T{time[8:10]}:{time[10:12]}:{time[12:]}"
    return Sample(dict(values), iso)


def answer(telegram: Telegram) -> bytes:
    """The acknowledgement of data (CN 9014) a station asks for."""
    fields = telegram.fields
    password = f"PW={fields['PW']};" if "PW" in fields else ""
    return wrap(f"QN={fields.get('QN', '')};ST=91;CN=9014;{password}MN={fields['MN']};Flag=4;CP=&&&&")


def _pairs(parts: list[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for part in parts if "=" in part for name, value in (part.split("=", 1),)}
