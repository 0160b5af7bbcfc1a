"""Laws of cases: whatever people and sensors do, the platform hears a story that makes sense."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.case_fields import read_case_fields
from gateway.core.case_messages import read_message
from gateway.core.cases import (
    CAUSES,
    OVER,
    QUIET,
    Case,
    CaseEvent,
    CaseRow,
    CaseStatus,
    Said,
    advance,
    arrived,
    hear,
    is_over,
)
from gateway.core.model import CommandName
from gateway.errors import DecodeError
from tests.core.street import START, Street
from tests.core.test_cases import ALARM, RULE

READING = st.tuples(st.just("reading"), st.sampled_from([1.0, 11.0, 25.0]))
COMMAND = st.tuples(st.just("command"), st.sampled_from([
    CommandName.ACKNOWLEDGE, CommandName.RESET, CommandName.DISPATCH, CommandName.ACCEPT, CommandName.REFUSE,
    CommandName.ON_SITE, CommandName.DONE, CommandName.VERIFY, CommandName.RETURN, CommandName.CLOSE,
    CommandName.SHELVE, CommandName.UNSHELVE, CommandName.FORCE_CLEAR, CommandName.COMMENT, CommandName.CONFIRM,
]))  # fmt: skip
STEP = st.tuples(st.one_of(READING, COMMAND), st.sampled_from([1, 30, 120, 4000, 100_000]))


def lived(extra: str, steps: list[tuple[tuple[str, Any], int]]) -> Street:
    town = Street(RULE % extra)
    now = 0.0
    for (kind, what), pause in steps:
        now += pause
        if kind == "reading":
            town.send(now, depth=what)
            continue
        arguments: dict[str, Any] = {"to": f"crew-{round(now)}", "cause_code": "c", "seconds": 600}
        town.do(now, what, ALARM, why="because", **arguments)  # a refusal is as good
    return town


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["off_delay: 0s", "latch: true", "confirm: true"]), st.lists(STEP, min_size=1, max_size=25))
def test_the_platform_hears_a_story_that_makes_sense(extra: str, steps: list[tuple[tuple[str, Any], int]]) -> None:
    town = lived(extra, steps)
    told = [one for one in town.transitions if one.cause in QUIET or (one.notify and one.cause in CAUSES)]
    case: Case | None = None
    keys: list[str] = []
    for step in told:
        moved = advance(case, step)
        if moved is None:
            continue
        before, (case, event) = case, moved
        was_open = before is not None and before.is_open
        match event:
            case CaseEvent.OPENED:
                assert not was_open
                assert case.key not in keys, "two cases of one key"
                keys.append(case.key)
            case CaseEvent.REOPENED:
                assert before is not None
                assert case.key == before.key
            case CaseEvent.CLOSED:
                assert was_open
                assert is_over(step.record)
            case _:
                assert was_open
        assert (case.status in OVER) is (event is CaseEvent.CLOSED)
        assert (case.closed_at is None) is (event is not CaseEvent.CLOSED)
        assert case.rev == step.rev
        assert advance(case, step) is None, "a step that was told is told no more"
    if case is not None and case.is_open and told:
        assert not is_over(told[-1].record), "nobody has to do anything, and the case is open for ever"


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=20), st.lists(st.sampled_from(["handling", "closed", "rework", "refused"])))
def test_whatever_the_platform_says_between_the_row_stays_whole(
    steps: list[tuple[tuple[str, Any], int]], words: list[str]
) -> None:
    """The platform speaks after every event; what it has closed, only a step that opens it again opens."""
    town = lived("off_delay: 0s", steps)
    row: CaseRow | None = None
    said = iter(words * 50)
    for number, step in enumerate(town.transitions):
        moved = advance(None if row is None else row.case, step)
        if moved is None:
            continue
        case, event = moved
        if row is None or row.case.key != case.key:
            row = CaseRow("city", msgspec.structs.replace(case, status=CaseStatus.OPENING, rev=0))
        was_over = not row.case.is_open
        row = arrived(row, step, event, step.at)
        assert row.case.is_open is (
            event not in (CaseEvent.CLOSED,) and not (was_over and event is not CaseEvent.REOPENED)
        )
        word = next(said, None)
        if word is not None:
            heard = hear(row, f"m{number}", Said(step.at, step.at, word, CaseStatus(word)), None)
            assert heard is not None
            row = heard
            assert (row.case.closed_at is None) is row.case.is_open
        assert msgspec.json.decode(msgspec.json.encode(row), type=CaseRow) == row


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "消息类型", "消息编号", "外部编号", "问题编号", "案件状态", "时间", "操作人", "说明",
    "工单编号", "问题类别", "经纬度", "上报时间", "道路",
]  # fmt: skip
RECEIVING = read_case_fields(None).receiving


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.dictionaries(st.sampled_from(NAMES), st.one_of(JSON, st.sampled_from(["工单", "案件状态", "1e999,1"]))).map(
            lambda one: json.dumps(one).encode()
        ),
    )
)
def test_whatever_a_platform_sends_is_understood_or_refused_with_a_reason(body: bytes) -> None:
    try:
        message = read_message(RECEIVING, body, START)
    except DecodeError:
        return
    encoded = msgspec.json.encode(message)  # what is kept is text that every store takes
    assert b"\\u0000" not in encoded
    assert message.id
    encoded.decode()
