"""Profile files: what they mean, and that every mistake is named with file, line and key, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.decode_report import decode_report, parse_attributes, parse_read, profile_and_library
from gateway.config.profile_cases import modbus_crc, rtu_read, run_all_cases
from gateway.config.profiles import load_profile, load_profiles, units_for
from gateway.core.model import MINUTE, SECOND, ModbusRead
from gateway.core.profile import Profile, Transport, ValueType
from gateway.core.registers import plan_reads
from gateway.errors import ConfigError

HEAD = "title: {zh: 试验, en: Trial}\nkind: pump\nexpected_interval: 1m\n"
NOW = 1_753_000_000 * SECOND


def mistakes(text: str, file: str = "make/model.yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_profile(file, text)
    return [str(mistake) for mistake in caught.value.mistakes]


def modbus(body: str) -> Profile:
    return load_profile("make/model.yaml", HEAD + "transport: modbus\n" + body)


def test_the_id_is_the_file_name_and_the_defaults_are_the_papers() -> None:
    profile = load_profile(
        "make/model.yaml", HEAD + "transport: mqtt\npoints: {wetwell: , flow: {range: [0, 10 L/s]}}\n"
    )
    assert (profile.id, profile.kind, profile.transport) == ("make/model", "pump", Transport.MQTT)
    assert (profile.expected_interval, profile.allowed_lateness) == (MINUTE, 10 * MINUTE)
    wetwell, flow = profile.points
    assert (wetwell.unit, wetwell.type, wetwell.scale.is_identity) == ("m", ValueType.NUMBER, True)
    assert (flow.unit, flow.low, flow.high) == ("m³/h", 0, 36)


def test_units_are_converted_once_and_exactly() -> None:
    profile = modbus("points: {wetwell: {address: 0, unit: mm}, pressure: {address: 1, unit: bar, scale: 0.1}}")
    wetwell, pressure = profile.points
    assert wetwell.scale(2350) == 2.35
    assert pressure.scale(3) == 30
    assert units_for("m")["cm"] == (0.01, 0)
    assert "V" not in units_for("m")
    assert units_for("") == {}


def test_registers_by_type_order_bit_and_first_address() -> None:
    profile = modbus(
        "modbus: {function: 4, order: CDAB, first_address: 1, max_gap: 4}\n"
        "raw: {code: {address: 40, function: 3, bits: [0, 2]}}\n"
        "points:\n"
        "  mains: {address: 1, function: 2}\n"
        "  wetwell: {address: 1, type: float32}\n"
        "  flow: {address: 7, type: int32, order: ABCD}\n"
        "  p1_run: {address: 9, bit: 3}\n"
        "  p1_code: {from: code}\n"
        "  maker: {address: 20, type: text, length: 8}\n"
    )
    assert [(b.function_code, b.address, b.count) for b in plan_reads(profile)] == [
        (2, 0, 1), (3, 39, 1), (4, 0, 9), (4, 19, 8),
    ]  # fmt: skip
    by_name = {register.name: register for register in profile.registers}
    assert (by_name["wetwell"].order, by_name["flow"].order) == ("CDAB", "ABCD")
    assert [profile.unit(p.name) for p in profile.points] == ["", "m", "m³/h", "", "", ""]
    types = {point.name: point.type for point in profile.points}
    assert types["mains"] is types["p1_run"] is ValueType.BOOL
    assert types["maker"] is ValueType.TEXT


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("points: {}", ":5: points: Dictionary should have at least 1 item"),
        ("point: {wetwell: {}}", ":5: point: no such key: did you mean `points`?"),
        ("points: {wetwell: {adress: 1}}", ":5: points.wetwell.adress: no such key: did you mean `address`?"),
        ("points: {wetwell: {}}", ":5: points.wetwell: no raw value is called `wetwell` (see `address`)"),
        ("points: {Wetwell: {address: 0}}", "a name is a small letter"),
        ("points: {wetwell: {address: 70000}}", "less than or equal to 65536"),
        ("points: {wetwell: {address: 65535, type: uint32}}", "wire addresses are 0 to 65535"),
        ("points: {wetwell: {address: 0, type: uint23}}", "there is no type `uint23` here: did you mean `uint32`?"),
        ("points: {wetwell: {address: 0, type: int8}}", "there is no type `int8` here"),
        ("points: {wetwell: {address: 0, bit: 16}}", "uint16 has the bits 0 to 15"),
        ("points: {wetwell: {address: 0, type: float32, bit: 1}}", "float32 has the bits"),
        ("points: {wetwell: {address: 0, bits: [5, 2]}}", "uint16 has the bits 0 to 15"),
        ("points: {wetwell: {address: 0, bit: 1, bits: [1, 2]}}", "not both"),
        ("points: {wetwell: {address: 0, type: text}}", "a text needs its `length`"),
        ("points: {wetwell: {address: 0, length: 3}}", "only a text has a length"),
        ("points: {wetwell: {address: 0, type: text, length: 2, order: CDAB}}", "a text is in the order ABCD"),
        ("points: {wetwell: {address: 0, function: 1, type: int16}}", "function code 1 reads single bits"),
        ("points: {wetwell: {address: 0, function: 6}}", ":5: points.wetwell.function:"),
        ("points: {wetwell: {address: 0, order: BACD}}", ":5: points.wetwell.order:"),
        ("points: {wetwell: {address: 0, unit: kW}}", "'kW' cannot be converted to 'm'"),
        ("points: {wetwell: {address: 0, range: [5, 1]}}", "the lower limit comes first"),
        ("points: {wetwell: {address: 0, range: [0 V, 1]}}", "'V' cannot be converted to 'm'"),
        ("points: {wetwell: {address: 0, smallest: -1}}", "is not negative"),
        ("points: {wetwell: {address: 0, scale: 0}}", "a scale of 0"),
        ("points: {wetwell: {address: 0, invert: true}}", "only a bool can be inverted"),
        ("points: {p1_run: {address: 0, bit: 0, scale: 2}}", "a bool has no scale"),
        ("points: {wetwell: {address: 0, from: other}}", "`from` or `address`, not both"),
        ("points: {wetwell: {from: deptj}}\nraw: {depth: {address: 0}}", "did you mean `depth`?"),
        ("points: {wetwell: {formula: 1 +}}", "ends too early"),
        ("points: {wetwell: {formula: a + b}}\nraw: {a: {address: 0}}",
         "`b` is no raw value, earlier point or attribute"),
        ("points: {wetwell: {formula: hight - a}}\nraw: {a: {address: 0}}\nattributes: {height: m}",
         "did you mean `height`?"),
        ("points: {wetwell: {formula: flow}, flow: {address: 0}}", "`flow` is no raw value, earlier point"),
        ("points: {wetwell: {formula: wetwell}}", "`wetwell` is no raw value"),
        ("points: {wetwell: {address: 0, states: {0: a}, unit: cm}}", "states look at the code itself"),
        ("points: {wetwell: {address: 0, states: {0: {quality: bad}}}}", "needs its `reason`"),
        ("points: {wetwell: {address: 0, states: {0: a, true: b}}}", "codes are all true/false, or none is"),
        ("points: {wetwell: {address: 0, formula: 1, states: {0: a}}}", "no states beside it"),
        ("points: {wetwell: {address: 0}}\nchecks: [{when: wetwel > 1, reason: x}]", "did you mean `wetwell`?"),
        ("points: {wetwell: {address: 0}}\nchecks: [{when: wetwell > 1, reason: x, points: [flow]}]",
         "there is no point `flow`"),
        ("points: {wetwell: {address: 0}}\nchecks: [{when: wetwell > 1, reason: x, quality: good}]",
         "checks[0].quality"),
        ("points: {wetwell: {address: 0, checks: [{when: 1, reason: x, points: []}]}}",
         "only the profile's own checks"),
        ("points: {wetwell: {address: 0}}\nattributes: {wetwell: m}", "a raw value or a point has this name too"),
        ("points: {wetwell: {address: 0}}\npayload: {format: json}", "has registers, not a payload"),
        ("points: {wetwell: {address: 0}}\nmodbus: {max_block: 200}", "less than or equal to 125"),
        ("points: {wetwell: {address: 0}}\nexpected_interval: soon", "not a duration"),
        ("points: {wetwell: {address: 0}}\nkind: pomp", "there is no kind `pomp`: did you mean `pump`?"),
        ("points: {wetwell: {address: 0}}\nkind: []", "name at least one kind"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(body: str, mistake: str) -> None:
    found = mistakes(_without(body) + "transport: modbus\n" + body)
    assert any(mistake in line for line in found), found
    assert all(line.startswith("make/model.yaml:") for line in found)


def _without(body: str) -> str:
    """The head without the keys the body sets itself (twice the same key is a mistake of its own)."""
    keys = {line.split(":")[0] for line in body.splitlines()}
    return "".join(f"{line}\n" for line in HEAD.splitlines() if line.split(":")[0] not in keys)


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("transport: lorawan\npoints: {wetwell: {}}", "a LoRaWAN payload is binary"),
        ("transport: mqtt\nfport: 1\npoints: {wetwell: {}}", "only for `transport: lorawan`"),
        ("transport: mqtt\nraw: {a: {address: 1}}\npoints: {wetwell: {}}", "only for `transport: modbus`"),
        ("transport: mqtt\npoints: {wetwell: {address: 1}}", "only for `transport: modbus`"),
        ("transport: mqtt\npoints: {wetwell: {from: 'a[x]'}}", "is not a path"),
        ("transport: mqtt\npayload: {zone: Beijing}\npoints: {wetwell: {}}", "payload.zone"),
        ("transport: lorawan\npayload: {format: milesight}\npoints: {wetwell: {}}", "list at least one channel"),
        ("transport: lorawan\npayload: {format: frames}\npoints: {wetwell: {}}", "list at least one frame"),
        ("transport: lorawan\npayload: {format: tlv, channels: {zz: {fields: {a: {}}}}}\npoints: {wetwell: {from: a}}",
         "written as hexadecimal bytes"),
        ("transport: lorawan\npayload: {format: tlv, channels: {aa bb: {fields: {a: {}}}, cc: {}}}\n"
         "points: {wetwell: {from: a}}", "every channel's head has the same length"),
        ("transport: lorawan\npayload: {format: tlv, channels: {aa bb: {size: 1, fields: {a: {type: int16}}}}}\n"
         "points: {wetwell: {from: a}}", "the fields need 2 bytes"),
        ("transport: lorawan\npayload: {format: tlv, channels: {aa bb: {time: t, fields: {a: {}}}}}\n"
         "points: {wetwell: {from: a}}", "`t` is not a field of this channel"),
        ("transport: lorawan\npayload: {format: frames, frames: [{prefix: x, size: 1, fields: {a: {type: int16}}}]}\n"
         "points: {wetwell: {from: a}}", "the fields need 2 bytes"),
        ("transport: lorawan\npayload: {format: frames, frames: [{fields: {a: {}}}]}\npoints: {wetwell: {from: b}}",
         "no raw value is called `b`"),
    ],
)  # fmt: skip
def test_mistakes_of_payloads(body: str, mistake: str) -> None:
    found = mistakes(HEAD + body)
    assert any(mistake in line for line in found), found


def test_points_that_may_be_written_say_where_and_in_which_limits() -> None:
    profile = modbus(
        "points:\n"
        "  p1_run: {address: 3, function: 1, write: true}\n"
        "  mode: {address: 4, states: {0: auto, 1: hand}, write: true}\n"
        "  start_level: {address: 5, unit: mm, write: {min: 500, max: 400 cm}}\n"
        "  wetwell: {address: 6}\n"
    )
    run, mode, start, wetwell = (point.write for point in profile.points)
    assert run is not None
    assert (run.register.function, run.register.address, run.low) == (1, 3, float("-inf"))
    assert mode is not None
    assert start is not None
    assert (start.low, start.high) == (500, 4000), "in the unit of the point, here mm"
    assert wetwell is None


@pytest.mark.parametrize(
    ("point", "mistake"),
    [
        ("{address: 0, write: true}", "a number needs its limits: {min: …, max: …}"),
        ("{address: 0, write: {min: 1}}", "`max` is missing"),
        ("{address: 0, write: {min: 1, max: 1}}", "`min` is less than `max`"),
        ("{address: 0, write: {min: 1, max: .inf}}", "`min` is less than `max`"),
        ("{address: 0, write: {min: 1, max: 5 kg}}", "'kg' cannot be converted to 'm'"),
        ("{address: 0, write: {min: 0, max: 9}, range: [0, 8]}", "beyond the `range` of the point"),
        ("{address: 0, write: {min: -1, max: 9}}", "-1 does not fit into uint16"),
        ("{address: 0, write: {min: 0, max: 65535}, sentinels: {65535: fault}}", "takes 65535 for: fault"),
        ("{address: 0, function: 4, write: {min: 0, max: 9}}", "nothing writes to input registers"),
        ("{address: 0, function: 2, write: true}", "nothing writes to discrete inputs"),
        ("{address: 0, function: 1, write: {min: 0, max: 1}}", "only a number has limits: write `true`"),
        ("{address: 0, function: 1, as: number, write: {min: 0, max: 1}}", "a coil is a bool"),
        ("{address: 0, as: bool, write: true}", "a register a number or states"),
        ("{address: 0, bit: 3, write: true}", "a part of a register cannot be written"),
        ("{address: 0, bits: [0, 3], write: {min: 0, max: 9}}", "a part of a register cannot be written"),
        ("{address: 0, type: bcd16, write: {min: 0, max: 9}}", "a bcd cannot be written"),
        ("{address: 0, type: text, length: 4, write: true}", "a text cannot be written"),
        ("{address: 0, formula: wetwell * 2, write: {min: 0, max: 9}}", "a formula cannot be undone"),
        ("{address: 0, counter: true, write: {min: 0, max: 9}}", "a counter counts by itself"),
        ("{address: 0, states: {0: a, 1: a}, write: true}", "two states have the same value"),
        ("{address: 0, states: {0: a, 70000: b}, write: true}", "70000 does not fit into uint16"),
        ("{address: 0, states: {true: a, false: b}, write: true}", "the code True is not what the register holds"),
        ("{address: 0, write: false}", "write"),
    ],
)
def test_a_point_that_cannot_be_written_as_it_says_is_a_mistake_with_its_line(point: str, mistake: str) -> None:
    found = mistakes(HEAD + f"transport: modbus\npoints:\n  wetwell: {point}\n")
    assert any(said.startswith("make/model.yaml:6: points.wetwell.write") and mistake in said for said in found), found


def test_only_a_register_is_written() -> None:
    [found] = mistakes(HEAD + "transport: mqtt\npoints: {wetwell: {write: {min: 0, max: 1}}}\n")
    assert "points.wetwell.write: only together with `address`" in found
    [found] = mistakes(
        HEAD + "transport: modbus\nraw: {code: {address: 1}}\npoints: {mode: {from: code, write: {min: 0, max: 1}}}\n"
    )
    assert "only together with `address`" in found


def test_all_mistakes_of_all_files_at_once() -> None:
    wrong = (
        HEAD + "transport: modbus\npoints:\n  wetwell: {address: 0, unit: kW}\n  flow: {address: 1, range: [2, 1]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_profiles({"a.yaml": wrong, "b.yaml": "title: 5\n", "c.yaml": "[1]", "d.yaml": "a: [", "x.cases.yaml": "?"})
    text = str(caught.value)
    assert "a.yaml:6: points.wetwell.unit" in text
    assert "a.yaml:7: points.flow.range" in text
    assert "b.yaml:1: title" in text
    assert "b.yaml: points: `points` is missing" in text or "b.yaml:1: " in text
    assert "c.yaml:1: a profile is a mapping" in text
    assert "d.yaml" in text
    assert "x.cases.yaml" not in text


# -- decode reports ---------------------------------------------------------------------------------------------------


def shipped(name: str) -> tuple[str, dict[str, Profile]]:
    return profile_and_library(name)


def test_the_report_of_a_binary_payload_is_the_contracts() -> None:
    name, profiles = shipped("milesight/em320-tilt")
    report = decode_report(name, profiles, hex="01753C03D45CF6DF1B302A", fport=85, received_at=NOW)
    assert list(report) == ["profile", "device_time", "historical", "readings", "error"]
    assert (report["profile"], report["device_time"], report["historical"]) == ("milesight/em320-tilt", None, False)
    assert report["error"] is None
    assert {"point": "angle_y", "value": 35.67, "unit": "deg", "quality": "good"} in report["readings"]


def test_the_report_of_registers_json_and_refusals() -> None:
    name, profiles = shipped("eastron/sdm630")
    report = decode_report(name, profiles, modbus=["4:0:43663333"])
    assert report["readings"] == [{"point": "voltage_a", "value": 230.2, "unit": "V", "quality": "good"}]
    name, profiles = shipped("generic/json-lamp")
    report = decode_report(name, profiles, json='{"ts": 1753000000, "power": "x", "mood": 1}', received_at=NOW)
    assert report["device_time"] == "2025-07-20T08:26:40Z"
    assert report["readings"] == [
        {"point": "power", "value": None, "unit": "W", "quality": "bad",
         "reason": "the text 'x' where a number belongs"},
    ]  # fmt: skip
    assert report["extra_points"] == ["mood"]
    report = decode_report(name, profiles, json="{", received_at=NOW)
    assert report["readings"] == []
    assert report["error"].startswith("bad_payload: ")


def test_history_frames_show_each_its_own_time() -> None:
    name, profiles = shipped("milesight/em500-udl")
    report = decode_report(name, profiles, hex="20CE A09C7C68 1E00 0382 2800", received_at=NOW)
    times: list[Any] = [(r["value"], r["device_time"], r["historical"]) for r in report["readings"]]
    assert times == [(40, None, False), (30, "2025-07-20T07:37:04Z", True)]
    assert report["historical"] is False


def test_attributes_and_topic_of_the_device() -> None:
    name, profiles = shipped("milesight/em500-udl")
    attributes = parse_attributes(["mount_height=2.5", "note=well 3", "checked=true"])
    assert attributes == {"mount_height": 2.5, "note": "well 3", "checked": True}
    report = decode_report(name, profiles, hex="0382DC05", attributes=attributes)
    assert report["readings"][1] == {"point": "level", "value": 1.0, "unit": "m", "quality": "good"}
    topic = "citywatch/v1/manhole/well-3/telemetry"
    assert decode_report(name, profiles, hex="0382DC05", topic=topic)["error"] is None
    assert decode_report(name, profiles, hex="0382DC05", topic="x/y")["error"].startswith("unknown_topic")


@pytest.mark.parametrize("arguments", [{}, {"hex": "0G"}, {"hex": "00", "json": "{}"}, {"modbus": ["4:0"]},
                                       {"modbus": ["9:0:0000"]}, {"modbus": ["4:0:000"]}])  # fmt: skip
def test_wrong_arguments_are_told(arguments: dict[str, Any]) -> None:
    name, profiles = shipped("eastron/sdm630")
    with pytest.raises(ConfigError):
        decode_report(name, profiles, **arguments)


def test_unknown_profiles_are_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `eastron/sdm630`"):
        profile_and_library("eastron/sdm63")
    with pytest.raises(ConfigError, match="cannot be read"):
        profile_and_library("/nowhere/at-all.yaml")
    with pytest.raises(ConfigError):
        parse_attributes(["x"])


def test_reads_as_people_type_them() -> None:
    assert parse_read("4:0:43663333") == ModbusRead(4, 0, [0x4366, 0x3333], None, 2)
    assert parse_read("1:8:05") == ModbusRead(1, 8, [1, 0, 1, 0, 0, 0, 0, 0], None, 8)
    assert parse_read("3:0+4:!exception 02") == ModbusRead(3, 0, [], "exception 02", 4)


# -- cases ------------------------------------------------------------------------------------------------------------


def test_captured_rtu_frames_are_checked_by_their_crc() -> None:
    assert rtu_read("01 04 00 00 00 02 71 CB", "01 04 04 43 66 33 33 5A FA").words == [0x4366, 0x3333]
    assert rtu_read("01 03 00 00 00 02 C4 0B", "01 83 02 C0 F1").error == "exception 02"
    assert modbus_crc(bytes.fromhex("0103000000 02")) == 0x0BC4
    with pytest.raises(ConfigError, match="CRC"):
        rtu_read("01 04 00 00 00 02 71 CB", "01 04 04 43 66 33 34 5A FA")


def test_a_case_that_does_not_hold_is_told_with_its_line() -> None:
    profiles = load_profiles({"m.yaml": HEAD + "transport: mqtt\npoints: {wetwell: {range: [0, 5]}, flow: {}}\n"})
    cases = """cases:
  - {name: right, json: {wetwell: 1}, expect: {wetwell: 1}}
  - {name: wrong value, json: {wetwell: 1}, expect: {wetwell: 2}}
  - {name: one too many, json: {wetwell: 1, flow: 2}, expect: {wetwell: 1}}
  - {name: one missing, json: {wetwell: 1}, expect: {wetwell: 1, flow: 2}}
  - {name: no error, json: {wetwell: 1}, error: empty}
  - {name: an error, json: {}, expect: {wetwell: 1}}
  - {name: another reason, json: {wetwell: 9}, expect: {wetwell: {quality: bad, reason: sentinel}}}
  - {name: true is not 1, json: {wetwell: 1}, expect: {wetwell: true}}
"""
    count, failures = run_all_cases({"m.cases.yaml": cases, "n.cases.yaml": cases, "o.yaml": ""}, profiles)
    assert count == 8
    assert [(failure.line, failure.message.split(":")[0]) for failure in failures] == [
        (3, "wrong value"), (4, "one too many"), (5, "one missing"), (6, "no error"), (7, "an error"),
        (8, "another reason"), (9, "true is not 1"), (None, "there is no profile `n`"),
    ]  # fmt: skip
