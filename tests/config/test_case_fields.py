"""The field map of a case platform: what it means, what is said of every mistake, and what is made of it both ways."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config.case_fields import load_case_fields, read_case_fields
from gateway.config.rules import load_rules
from gateway.core.case_clock import Calendar
from gateway.core.case_facts import PATHS, Facts, describe, facts
from gateway.core.case_fields import FieldMap, TimeForm, cells, columns, read_answer, write
from gateway.core.case_messages import CaseMessage, TicketMessage, read_message
from gateway.core.cases import Case, CaseEvent, CaseRow, CaseStatus
from gateway.core.component_code import Layout
from gateway.core.gcj02 import from_gcj02, to_gcj02
from gateway.core.model import HOUR, SECOND, Asset, Micros, WorkOrder
from gateway.core.work import distance_m
from gateway.errors import ConfigError, DecodeError
from tests.console.city import START, record, step

ROOT = Path(__file__).resolve().parents[2]
RULES = load_rules(
    {
        "r.yaml": """
- rule: manhole-open
  title: {zh: 井盖打开或丢失, en: Cover open or missing}
  applies_to: {kind: manhole}
  when: {point: tilt, above: 45 deg}
  response: {zh: 立即围挡, en: Cordon off}
  sla: {resolve: 6h, clock: urgent}
  case: true
  standard:
    opened_when: {zh: 井盖缺失, en: Cover missing}
    closed_when: {zh: 补齐, en: Replaced}
    supervised_by: {zh: 城管局, en: City management}
    responsible: {zh: 权属单位, en: Owner}
    case_class: {major: "01", minor: "03"}
"""
    }
)
COVER = Asset(
    "cover-1", "manhole", "12 号井盖", "水泊大街", "梁山街道", "排水处", 116.1, 35.8,
    attributes={"component_code": "3708320102000012", "grid": "37083200100101"},
)  # fmt: skip
KEY = "01KABCDEFGHJKMNPQRSTVWXYZ0"
ALARM = record(
    "cover-1", "manhole-open", 7, kind="manhole", occurrence_id=KEY, title_zh="井盖打开或丢失",
    title_en="Cover open or missing", value=62.4, limit=45.0, unit="deg", work="ACCEPTED",
    order=WorkOrder(KEY, "cover-crew", "li", START, "快", accepted_by="zhang", accepted_at=START + 60 * SECOND),
)  # fmt: skip
ROW = CaseRow("city", Case(KEY, ALARM.alarm_id, KEY, START, CaseStatus.HANDLING, 7, START + 6 * HOUR), number="S-9")

SMALL = """
send:
  fields:
    event.key: 幂等键
    case.key: 外部编号
"""


def known(**more: Any) -> Facts:
    at = step(ALARM, cause="W2", by="zhang", why="在路上")
    given: dict[str, Any] = {"language": "zh", "layout": Layout.CLASSIC} | more
    return facts(ROW, at, CaseEvent.ACCEPTED, COVER, RULES.rules["manhole-open"], Calendar(), **given)


def sent(text: str, **more: Any) -> dict[str, Any]:
    return write(load_case_fields(text, "m.yaml").sending, known(**more))


# -- facts ------------------------------------------------------------------------------------------------------------


def test_every_fact_of_the_table_can_be_there_and_no_other_is() -> None:
    found = known() | {"asset.coordinates": ""}  # made where it is written
    assert {path for path in found if not path.startswith("asset.attributes.")} == set(PATHS)
    assert found["asset.attributes.grid"] == "37083200100101"


def test_the_problem_is_said_in_a_sentence_in_either_language() -> None:
    at = step(ALARM)
    assert describe(at, COVER, "zh") == "梁山街道水泊大街12 号井盖：井盖打开或丢失（62.4 deg，限值 45）"
    assert describe(at, COVER, "en") == "梁山街道, 水泊大街, 12 号井盖: Cover open or missing (62.4 deg, limit 45)"
    assert describe(step(msgspec.structs.replace(ALARM, value="missing")), None, "zh") == "cover-1：井盖打开或丢失"


def test_the_time_limit_is_said_with_its_clock_and_its_end() -> None:
    found = known()
    assert found["deadline.limit"] == "6 紧急工作时"
    assert found["deadline.text"] == "6 紧急工作时，2025-07-20 20:30 前"
    assert known(language="en")["deadline.text"] == "6 hours, night and day, by 2025-07-20 20:30"


def test_the_asset_s_own_code_says_which_minor_class_it_is() -> None:
    """The rule says 雨水井盖 (03); this one is 污水井盖 (02)."""
    assert (known()["class.major"], known()["class.minor"]) == ("01", "02")
    assert known(layout=None)["class.minor"] == "03"


def test_without_rule_and_asset_what_is_known_is_said_all_the_same() -> None:
    found = facts(ROW, step(ALARM), CaseEvent.CLOSED, None, None, Calendar())
    assert found["alarm.text"] == "cover-1：井盖打开或丢失（62.4 deg，限值 45）"
    assert "rule.responsible" not in found
    write(read_case_fields(None).sending, found)


# -- out --------------------------------------------------------------------------------------------------------------


def test_the_shipped_map_speaks_as_the_cities_do() -> None:
    document = write(read_case_fields(None).sending, known())
    expected = {
        "问题编号": "S-9",
        "外部编号": KEY,
        "幂等键": f"{KEY}/7/accepted",
        "上报时间": "2025-07-20 14:30:00",
        "大类": "01",
        "小类": "02",
        "问题描述": "梁山街道水泊大街12 号井盖：井盖打开或丢失（62.4 deg，限值 45）",
        "经纬度": "116.1000000,35.8000000",
        "立案时间": "2025-07-20 14:30:00",
        "处置时限": "6 紧急工作时",
        "处置截止时间": "2025-07-20 20:30:00",
        "事件": "接单",
        "案件状态": "处置中",
        "派遣对象": "cover-crew",
        "责任主体": "权属单位",
        "问题来源": "物联感知",
        "紧急程度": "一般",
    }
    assert document | expected == document
    assert "结案时间" not in document


def test_names_are_nested_values_are_translated_and_what_is_missing_is_null() -> None:
    document = write(read_case_fields(ROOT / "deploy" / "cases.fields.yaml").sending, known())
    assert document["case"]["location"] == {
        "lng": pytest.approx(116.1056, abs=1e-3),
        "lat": pytest.approx(35.8, abs=1e-2),
    }
    assert document["case"]["urgency"] == 1
    assert document["case"]["eventType"] == "部件"
    assert document["case"]["gridCode"] == "37083200100101"
    assert document["case"]["regionCode"] == "370832"
    assert document["case"]["deadline"] == (START + 6 * HOUR) // 1000
    assert document["case"]["reportTime"] == "2025-07-20T14:30:00+08:00"
    assert (document["action"], document["actionName"], document["source"]) == ("UPDATE", "接单", "IOT")
    assert document["handle"]["finishTime"] is None
    assert document["sensor"]["alarming"] == "Y"
    json.dumps(document)


def test_one_fact_may_have_two_names() -> None:
    document = sent(SMALL + "    event.kind: [动作, {name: 动作名, values: {accepted: 接单}}]\n")
    assert (document["动作"], document["动作名"]) == ("accepted", "接单")


def test_a_table_has_the_same_columns_for_every_case() -> None:
    sending = read_case_fields(ROOT / "deploy" / "cases.fields.yaml").sending
    assert columns(sending)[:2] == ["requestId", "case.extId"]
    assert len(columns(sending)) == len(cells(sending, known())) == len(cells(sending, {}))


@pytest.mark.parametrize(
    ("empty", "left"), [("omit", {}), ("text", {"结案": ""}), ('"null"', {"结案": None})]
)  # fmt: skip
def test_what_is_not_there_is_left_out_or_said_to_be_empty(empty: str, left: dict[str, Any]) -> None:
    document = sent(SMALL.replace("send:", f"send:\n  empty: {empty}") + "    case.closed_at: 结案\n")
    assert {name: value for name, value in document.items() if name == "结案"} == left


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("iso", "2025-07-20T14:30:00+08:00"),
        ("unix", 1_752_993_000),
        ("unix_ms", 1_752_993_000_000),
        ("%Y%m%d%H%M%S", "20250720143000"),
        ("%Y-%m-%d %H:%M:%S%z", "2025-07-20 14:30:00+0800"),
    ],
)
def test_a_time_is_written_and_read_in_every_form(form: str, written: str | int) -> None:
    assert TimeForm(form).write(START) == written
    assert TimeForm(form).read(written) == START


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("unix", "soon"),
        ("unix", 1_752_993_000_000),
        ("unix_ms", -1),
        ("iso", ""),
        ("%Y-%m-%d", "20.7.2025"),
        ("unix", float("nan")),
        ("iso", "9999-01-01"),
    ],
)
def test_what_is_no_time_is_refused(form: str, value: Any) -> None:
    with pytest.raises(ValueError):
        TimeForm(form).read(value)


# -- coordinates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("longitude", "latitude"), [(116.1, 35.8), (121.47, 31.23), (87.6, 43.8), (110.33, 20.03)])
def test_gcj02_is_some_hundred_metres_off_and_comes_back(longitude: float, latitude: float) -> None:
    there = to_gcj02(longitude, latitude)
    assert 50 < distance_m(longitude, latitude, *there) < 1000
    assert distance_m(longitude, latitude, *from_gcj02(*there)) < 0.01


def test_outside_of_china_nothing_is_shifted() -> None:
    assert to_gcj02(2.35, 48.86) == (2.35, 48.86) == from_gcj02(2.35, 48.86)


@pytest.mark.parametrize(
    ("wgs84", "gcj02"),
    [
        ((121.5272106, 31.1774276), (121.531541859215, 31.17530398364597)),
        ((113.912316, 22.543847), (113.9171764808363, 22.540796131694766)),
        ((116.377817, 39.911954), (116.38404722455657, 39.91334545536069)),
    ],
)
def test_the_shift_is_that_of_others(wgs84: tuple[float, float], gcj02: tuple[float, float]) -> None:
    """Vectors of googollee/eviltransform, which takes another earth: a centimetre."""
    assert distance_m(*to_gcj02(*wgs84), *gcj02) < 0.05


# -- answers ----------------------------------------------------------------------------------------------------------


def answered(body: bytes, text: str = "answer: {number: data.no, ok: {name: code, values: [0]}, message: msg}") -> Any:
    return read_answer(load_case_fields(SMALL + text, "m.yaml").answer, body)


@pytest.mark.parametrize(
    ("body", "number", "why"),
    [
        (b'{"code": 0, "data": {"no": "S-1"}}', "S-1", None),
        (b'{"code": "0", "data": {"no": 17}}', "17", None),
        (b'{"code": 0}', None, None),
        (b'{"code": 500, "msg": "busy\\n"}', None, "code = 500: busy"),
        (b"{}", None, "code = nothing"),
        (b"", None, "code = nothing"),
        (b"<html>", None, "code = nothing"),
        (b"[" * 90000, None, "code = nothing"),
    ],
)
def test_a_no_inside_of_http_200_is_understood(body: bytes, number: str | None, why: str | None) -> None:
    assert answered(body) == (number, why)


def test_without_a_word_about_it_http_200_is_a_yes() -> None:
    assert answered(b"ok", "") == (None, None)
    assert answered(b'{"no": "A1"}', "answer: {number: no}") == ("A1", None)


# -- in ---------------------------------------------------------------------------------------------------------------

NOW: Micros = START + HOUR


def heard(message: Any, of: FieldMap | None = None) -> CaseMessage | TicketMessage:
    body = message if isinstance(message, bytes) else json.dumps(message, ensure_ascii=False).encode()
    return read_message((of or read_case_fields(None)).receiving, body, NOW)


def test_news_of_a_case() -> None:
    found = heard(
        {
            "消息类型": "案件状态", "消息编号": "m-1", "问题编号": "S-9", "案件状态": "处置中",
            "时间": "2025-07-20 14:45:00", "操作人": "王五", "说明": "已到\n现场",
        }
    )  # fmt: skip
    assert isinstance(found, CaseMessage)
    assert (found.id, found.number, found.key) == ("m-1", "S-9", "")
    assert (found.said.status, found.said.word, found.said.by, found.said.text) == (
        "handling", "处置中", "王五", "已到 现场",
    )  # fmt: skip
    assert found.said.at == START + 15 * 60 * SECOND


def test_a_word_that_the_table_does_not_know_is_kept() -> None:
    found = heard({"消息类型": "案件状态", "外部编号": KEY, "案件状态": "挂账"})
    assert isinstance(found, CaseMessage)
    assert (found.said.status, found.said.word, found.key) == (None, "挂账", KEY)


def test_a_message_without_id_is_known_by_its_bytes() -> None:
    body = '{"消息类型":"案件状态","外部编号":"x"}'.encode()
    found = heard(body)
    assert found.id == hashlib.sha256(body).hexdigest()[:32]
    assert heard(body).id == found.id


def test_a_clock_that_runs_ahead_is_set_right() -> None:
    found = heard({"消息类型": "案件状态", "外部编号": KEY, "时间": "2025-07-21 00:00:00"})
    assert isinstance(found, CaseMessage)
    assert found.said.at == NOW


def test_a_ticket_with_its_place_and_class() -> None:
    longitude, latitude = to_gcj02(116.1, 35.8)
    of = read_case_fields(ROOT / "deploy" / "cases.fields.yaml")
    data = {
        "orderNo": 2025072000017, "smallClass": "0103", "content": "井盖不见了", "address": "水泊大街 12 号",
        "location": {"lng": str(longitude), "lat": latitude}, "reportTime": "2025-07-20T14:20:00+08:00",
    }  # fmt: skip
    found = heard({"msgType": "TICKET", "data": data}, of)
    assert isinstance(found, TicketMessage)
    assert (found.number, found.class_, found.class_of.kinds) == ("2025072000017", "0103", ("manhole",))
    assert found.longitude is not None
    assert found.latitude is not None
    assert distance_m(found.longitude, found.latitude, 116.1, 35.8) < 0.1


@pytest.mark.parametrize(
    ("said", "position"),
    [
        ("116.1,35.8", (116.1, 35.8)),
        ("116.1，35.8", (116.1, 35.8)),
        ("0,0", (None, None)),
        ("35.8,116.1", (None, None)),
        ("nan,35", (None, None)),
        ("116.1", (None, None)),
        ("1e400,1", (None, None)),
        ("", (None, None)),
    ],
)
def test_a_position_that_is_none_is_no_position(said: str, position: tuple[float | None, float | None]) -> None:
    found = heard({"消息类型": "工单", "工单编号": "T1", "经纬度": said})
    assert isinstance(found, TicketMessage)
    assert (found.longitude, found.latitude) == position


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 90000, "not JSON"),
        (b'"\xff"', "not JSON"),
        ({}, "消息类型: '' is neither of 案件状态, 工单"),
        ({"消息类型": "案件状态"}, "it names no case: 外部编号 or 问题编号 is missing"),
        ({"消息类型": "工单"}, "the ticket has no number: 工单编号 is missing"),
        (
            {"消息类型": "案件状态", "外部编号": KEY, "时间": "yesterday"},
            "时间: not a time as the field map says: 'yesterday'",
        ),
        ({"消息类型": "案件状态", "外部编号": {"x": 1}}, "it names no case"),
    ],
)
def test_what_cannot_be_understood_is_said_with_its_reason(message: Any, said: str) -> None:
    with pytest.raises(DecodeError) as caught:
        heard(message)
    assert said in str(caught.value)


def test_long_texts_are_cut() -> None:
    found = heard({"消息类型": "工单", "工单编号": "T1" * 500, "问题描述": "长" * 50_000, "问题类别": ["井盖"]})
    assert isinstance(found, TicketMessage)
    assert (len(found.number), len(found.text), found.class_) == (100, 2000, "")


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "must be a mapping of title, send, answer, receive"),
        ("title: x", "`send` is missing"),
        (SMALL + "    asset.raod: 道路\n", "m.yaml:6: send.fields.asset.raod: there is no fact asset.raod: did you"),
        (SMALL + "    asset.road: ' '\n", "is not a name"),
        (SMALL + "    asset.road: a..b\n", "is not a name"),
        (SMALL + "    asset.road: a.b.c.d.e.f.g.h.i\n", "at most 8 deep"),
        (SMALL + "    asset.road: 外部编号\n", "this name is given twice (外部编号 stands in line 5)"),
        (SMALL + "    asset.road: 外部编号.x\n", "one of these would hide the other"),
        (SMALL + "    asset.road: {nme: x}\n", "no such key: did you mean `name`?"),
        (SMALL + "    asset.road: {name: x, time: {format: iso}}\n", "`asset.road` is no time"),
        (SMALL + "    event.at: {name: x, values: {a: b}}\n", "it has a format, no values"),
        (SMALL + "    event.at: {name: x, time: {format: yyyy-MM-dd}}\n", "not a format: 'yyyy-MM-dd'"),
        (SMALL + "    event.at: {name: x, time: {format: '%q'}}\n", "not a format"),
        (SMALL + "    event.at: {name: x, time: {zone: Beijing}}\n", "no such time zone: 'Beijing'"),
        (SMALL + "    asset.road: 7\n", "must be a mapping of name"),
        (SMALL + "  coordinates: bd09\n", "'wgs84' or 'gcj02'"),
        (SMALL + "  fixed: {外部编号: 1}\n", "this name is given twice"),
        ("send: {fields: {case.key: x}}", "`event.key` must have a name"),
        ("send: {fields: {event.key: x}}", "`case.key` must have a name"),
        (SMALL + "answer: {number: a..b}", "answer.number: 'a..b' is not a name"),
        (SMALL + "receive: {}", "say what comes in"),
        (SMALL + "receive: {update: {status: x}}", "the case must be named"),
        (SMALL + "receive: {update: {keyy: x, key: y}}", "no such field: did you mean `key`?"),
        (SMALL + "receive: {update: {key: x, status: {name: s, values: {1: closd}}}}", "did you mean `closed`?"),
        (SMALL + "receive: {update: {key: {name: x, values: {a: b}}}}", "there is no table for this"),
        (SMALL + "receive: {ticket: {text: x}}", "`number` is missing"),
        (SMALL + "receive: {ticket: {number: x}}", "without classes no ticket is ever about an alarm"),
        (SMALL + "receive: {ticket: {number: x, longitude: y}}", "come together"),
        (SMALL + "receive: {update: {key: x}, ticket: {number: y}}", "`type` must tell an update from a ticket"),
        (SMALL + "receive: {type: {name: t, values: {a: upd}}, update: {key: x}}", "upd is neither update nor ticket"),
        (SMALL + "receive: {ticket: {number: x}, classes: {'01': {}}}", "say which `kinds` or `rules`"),
        (SMALL + "receive: {ticket: {number: x}, classes: {'01': {kinds: manhol}}}", "did you mean `manhole`?"),
        (SMALL + "receive: {ticket: {number: x}, classes: {'01': {rules: manhole-opn}}}", "mean `manhole-open`?"),
        (SMALL + "receive: {update: {key: x}, match: {distance: 5 km}}", "between 1 m and 2000 m"),
        (SMALL + "receive: {update: {key: x}, match: {distance: 5 kg}}", "receive.match.distance"),
        (SMALL + "receive: {update: {key: x}, match: {within: 30d}}", "between 1s and 7d"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_case_fields(text, "m.yaml", RULES.rules)
    assert said in str(caught.value), str(caught.value)
    assert all(str(mistake).startswith("m.yaml:") for mistake in caught.value.mistakes)


def test_all_mistakes_are_told_at_once() -> None:
    text = "send: {coordinates: x, fields: {a: b}}\nreceive: {classes: {'1': {kinds: x}}}\n"
    with pytest.raises(ConfigError) as caught:
        load_case_fields(text, "m.yaml")
    keys = {mistake.key for mistake in caught.value.mistakes}
    assert keys == {"send.coordinates", "receive", "receive.classes.1.kinds"}


def test_a_file_that_is_not_there_is_a_mistake_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_case_fields(tmp_path / "nothing.yaml")
