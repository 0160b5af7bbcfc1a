"""The shipped profiles: every captured frame gives what it must, and every profile keeps the house's rules."""

from __future__ import annotations

import pytest

from gateway.config.decode_report import decode_one
from gateway.config.profile_cases import CaseModel, load_cases, run_case
from gateway.config.profiles import CASES, load_profiles
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.model import Quality
from gateway.core.profile import Transport, ValueType
from gateway.core.registers import plan_reads
from gateway.core.vocabulary import KINDS, unit_of

FILES = read_tree(shipped("device_profiles"), *PROFILE_FILES)
PROFILES = load_profiles(FILES)
CASE_LIST = [
    pytest.param(file.removesuffix(CASES), case, id=f"{file.removesuffix(CASES)}: {case.name}")
    for file, text in FILES.items()
    if file.endswith(CASES)
    for case in load_cases(file, text)
]


@pytest.mark.parametrize(("profile_id", "case"), CASE_LIST)
def test_a_captured_frame_gives_what_it_must(profile_id: str, case: CaseModel) -> None:
    assert run_case(PROFILES[profile_id], case) == []


@pytest.mark.parametrize("profile_id", sorted(PROFILES))
def test_every_profile_has_cases_for_good_and_for_bad(profile_id: str) -> None:
    assert f"{profile_id}{CASES}" in FILES


@pytest.mark.parametrize("profile_id", sorted(PROFILES))
def test_every_profile_keeps_the_houses_rules(profile_id: str) -> None:
    profile = PROFILES[profile_id]
    assert profile.title_zh
    assert profile.title_en
    assert profile.expected_interval
    assert set(profile.kinds) <= set(KINDS)
    for point in profile.points:
        for kind in profile.kinds:
            known = unit_of(kind, point.name)
            assert known is None or known == point.unit, f"{point.name} of {kind} is in {known}"
    assert any(unit_of(kind, point.name) is not None for kind in profile.kinds for point in profile.points)


def test_one_point_has_one_type_in_all_profiles_of_a_kind() -> None:
    """A sink makes one field of one type of it, for ever."""
    types: dict[tuple[str, str], set[ValueType]] = {}
    for profile in PROFILES.values():
        for kind in profile.kinds:
            for point in profile.points:
                types.setdefault((kind, point.name), set()).add(point.type)
    assert {key: found for key, found in types.items() if len(found) > 1} == {}


@pytest.mark.parametrize("profile_id", sorted(p.id for p in PROFILES.values() if p.transport is Transport.MODBUS))
def test_modbus_profiles_read_few_blocks(profile_id: str) -> None:
    profile = PROFILES[profile_id]
    apart = any(point.write is not None for point in profile.points)  # what may be set rarely lies by what is measured
    assert 1 <= len(plan_reads(profile)) <= 3 + apart


def test_the_pump_station_is_read_at_one_go() -> None:
    assert [(b.function_code, b.address, b.count) for b in plan_reads(PROFILES["generic/pump-station-3p"])] == [
        (3, 0, 39)
    ]


def test_the_periodic_and_the_alarm_frame_of_one_gauge_have_different_divisors() -> None:
    """rules.md E.7.6: a decoder that shares one divisor gives 1000."""
    profile = PROFILES["milesight/em500-udl"]
    for frame, distance in (("01756403821E00", 30), ("83E9E8030C0001", 100)):
        found = {r.point: r.value for r in decode_one(profile, hex=frame).readings}
        assert found["distance"] == distance


@pytest.mark.parametrize(("words", "quality"), [("43663333", Quality.GOOD), ("33334366", Quality.BAD),
                                                ("66433333", Quality.BAD), ("33336643", Quality.BAD)])  # fmt: skip
def test_a_wrong_word_order_is_a_data_quality_event_never_a_voltage(words: str, quality: Quality) -> None:
    """rules.md E.7.7."""
    (reading,) = decode_one(PROFILES["eastron/sdm630"], modbus=[f"4:0:{words}"]).readings
    assert reading.quality is quality
