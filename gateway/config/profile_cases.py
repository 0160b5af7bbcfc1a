"""Cases beside a profile: captured frames and the readings they must give; ``citywatch check`` and the tests run them.

A case file ``<model>.cases.yaml`` (docs/profiles.md, "Cases"):

    source: where the frames come from
    cases:
      - name: y has passed its threshold
        hex: 01 75 64 03 D4 00 00 01 00 50 46
        expect: {battery: 100, angle_x: 0, threshold_y: trigger, level: {quality: bad, reason: sentinel FFFF}}
"""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.config.decode_report import bytes_of, decode_one, iso
from gateway.config.profiles import CASES
from gateway.config.yaml_source import checked, read_yaml
from gateway.core.model import Decoded, ModbusRead, Reading
from gateway.core.profile import Profile, Transport
from gateway.errors import ConfigError, Mistake

RECEIVED_AT = 1_753_000_000_000_000  # 2025-07-20T08:26:40Z: cases are decoded as if received then


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedModel(_Model):
    """A reading that is more than a good value. ``reason``: a part of the reason is enough."""

    value: Any = None
    quality: str = "good"
    reason: str | None = None
    time: str | None = None
    historical: bool = False


class CaseModel(_Model):
    """One payload (``hex``, ``json``, ``modbus`` or ``rtu``) and what it must give: exactly the readings of ``expect``
    (a list of such for several samples), or ``error``: a part of the rejection's "code: reason"."""

    name: str
    hex: str | None = None
    fport: int | None = None
    json_: Any = Field(default=None, alias="json")
    modbus: list[str] = []
    rtu: list[tuple[str, str]] = []
    hj212: str | None = None
    topic: str | None = None
    attributes: dict[str, float | str | bool] = {}
    expect: dict[str, Any] | list[dict[str, Any]] | None = None
    error: str | None = None
    extra: list[str] | None = None

    @model_validator(mode="after")
    def _says_what_is_expected(self) -> CaseModel:
        if (self.expect is None) is (self.error is None):
            raise ValueError("a case has either `expect` or `error`")
        return self


class CasesModel(_Model):
    source: str = ""
    cases: Annotated[list[CaseModel], Field(min_length=1)]


def load_cases(file: str, text: str) -> list[CaseModel]:
    """Raises ConfigError with every mistake of form."""
    return checked(CasesModel, read_yaml(text, file)).cases


def run_all_cases(files: Mapping[str, str], profiles: Mapping[str, Profile]) -> tuple[int, list[Mistake]]:
    """Run the cases of every ``*.cases.yaml`` in ``files``. Returns how many there were and the failures."""
    count = 0
    mistakes: list[Mistake] = []
    for file, text in files.items():
        if not file.endswith(CASES):
            continue
        profile = profiles.get(file.removesuffix(CASES))
        if profile is None:
            mistakes.append(Mistake(file, None, "", f"there is no profile `{file.removesuffix(CASES)}`"))
            continue
        try:
            source = read_yaml(text, file)
            cases = checked(CasesModel, source).cases
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        for index, case in enumerate(cases):
            count += 1
            for failure in run_case(profile, case):
                mistakes.append(source.mistake(("cases", index), f"{case.name}: {failure}"))
    return count, mistakes


def run_case(profile: Profile, case: CaseModel) -> list[str]:
    """What is wrong; [] when the case holds."""
    try:
        decoded = _decode(profile, case)
    except ConfigError as error:
        return [mistake.message for mistake in error.mistakes]
    rejection = decoded.rejection
    if case.error is not None:
        got = f"{rejection.code}: {rejection.reason}" if rejection is not None else "readings"
        return [] if rejection is not None and case.error in got else [f"expected the error {case.error!r}, got {got}"]
    if rejection is not None:
        return [f"rejected: {rejection.code}: {rejection.reason}"]
    assert case.expect is not None
    wanted = case.expect if isinstance(case.expect, list) else [case.expect]
    failures = _compare(wanted, decoded.readings)
    if case.extra is not None and list(decoded.extra_points) != case.extra:
        failures.append(f"extra points: expected {case.extra}, got {list(decoded.extra_points)}")
    return failures


def rtu_read(request: str, response: str) -> ModbusRead:
    """A request and its answer as captured on an RS-485 line → the read. Raises ConfigError (CRC, form)."""
    asked, answer = bytes_of(request), bytes_of(response)
    for frame in (asked, answer):
        if len(frame) < 5 or modbus_crc(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            raise ConfigError([Mistake("cases", None, "rtu", f"the CRC of {frame.hex(' ').upper()} is wrong")])
    function, address, count = asked[1], int.from_bytes(asked[2:4], "big"), int.from_bytes(asked[4:6], "big")
    if answer[1] == function | 0x80:
        return ModbusRead(function, address, [], f"exception {answer[2]:02X}", count)
    data = answer[3:-2]
    if answer[0] != asked[0] or answer[1] != function or len(data) != answer[2]:
        raise ConfigError([Mistake("cases", None, "rtu", "the answer does not fit the request")])
    if function in (1, 2):
        return ModbusRead(function, address, [data[bit // 8] >> bit % 8 & 1 for bit in range(count)], None, count)
    words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
    return ModbusRead(function, address, words, None, count)


def modbus_crc(data: bytes) -> int:
    """CRC-16/MODBUS (polynomial A001 reflected, start FFFF), sent low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def _decode(profile: Profile, case: CaseModel) -> Decoded:
    json: str | None = None
    if case.json_ is not None:
        json = case.json_ if isinstance(case.json_, str) else jsonlib.dumps(case.json_, ensure_ascii=False)
    reads = [rtu_read(request, response) for request, response in case.rtu]
    modbus = [*case.modbus, *(_as_text(read) for read in reads)]
    if profile.transport is not Transport.MODBUS and modbus:
        raise ConfigError([Mistake("cases", None, "modbus", "the profile is not for Modbus")])
    return decode_one(
        profile,
        hex=case.hex,
        fport=case.fport,
        json=json,
        modbus=modbus,
        hj212=case.hj212,
        topic=case.topic,
        attributes=case.attributes,
        received_at=RECEIVED_AT,
    )


def _as_text(read: ModbusRead) -> str:
    if read.error is not None:
        return f"{read.function_code}:{read.address}+{read.count}:!{read.error}"
    if read.function_code in (1, 2):
        packed = sum(bit << index for index, bit in enumerate(read.words))
        return f"{read.function_code}:{read.address}:{packed.to_bytes((len(read.words) + 7) // 8, 'little').hex()}"
    return f"{read.function_code}:{read.address}:{''.join(f'{word:04x}' for word in read.words)}"


def _compare(wanted: list[dict[str, Any]], readings: list[Reading]) -> list[str]:
    failures: list[str] = []
    rest = list(readings)
    for sample in wanted:
        for point, expected in sample.items():
            full = expected if isinstance(expected, dict) else {"value": expected}
            model = ExpectedModel.model_validate(full)
            found = next((r for r in rest if r.point == point and _same(model, r)), None)
            if found is None:
                got = [_shown(r) for r in rest if r.point == point]
                failures.append(f"{point}: expected {_wanted(model)}, got {', '.join(got) or 'nothing'}")
                rest = [r for r in rest if r.point != point]
            else:
                rest.remove(found)
    failures += [f"{reading.point}: not expected, got {_shown(reading)}" for reading in rest]
    return failures


def _same(model: ExpectedModel, reading: Reading) -> bool:
    return (
        _equal(model.value, reading.value)
        and model.quality == str(reading.quality)
        and (model.reason is None or model.reason in (reading.reason or ""))
        and (model.time is None or model.time == iso(reading.source_time))
        and model.historical == reading.historical
    )


def _equal(wanted: Any, got: Any) -> bool:
    if type(wanted) in (int, float) and type(got) in (int, float):
        return math.isclose(wanted, got, rel_tol=1e-6, abs_tol=1e-9)
    return bool(wanted == got and type(wanted) is type(got))


def _shown(reading: Reading) -> str:
    parts = [repr(reading.value), str(reading.quality), *([reading.reason] if reading.reason else [])]
    if reading.historical:
        parts.append("historical")
    return " ".join([*parts, *([iso(reading.source_time)] if reading.has_source_time else [])])


def _wanted(model: ExpectedModel) -> str:
    return " ".join(str(part) for part in (repr(model.value), model.quality, model.reason, model.time) if part)
