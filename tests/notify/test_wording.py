"""What people read. Every text stands whole in ``texts_zh.txt`` and ``texts_en.txt``; who changes one reads it there.

The rest is about what must not happen: foreign text that breaks out, texts that are too long, figures nobody can read.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import HOUR, MINUTE, IsaState, Level
from gateway.core.notification import Line, Message, MessageKind
from gateway.notify.dispatcher import Notification
from gateway.notify.wording import MOST_LONG, Form, number, plain
from tests.console.city import START, record, step
from tests.notify.messages import line, lines, message, note, wording

K = MessageKind
OVER = START + 27 * MINUTE
DAY = 24 * HOUR


def over(one: Line) -> Line:
    return msgspec.structs.replace(one, state=IsaState.NORM, inactive_at=OVER)


CASES: dict[str, Message] = {
    "one alarm": message(),
    "one alarm, nothing known of it": message(
        K.RAISED, line("X-9", rule="odd", title_zh="", title_en="", value=True, limit=None, unit="")
    ),
    "one alarm of level IV without a limit": message(
        K.RAISED, line("L-1", level=Level.IV, value=0.5, limit=None, unit="W")
    ),
    "a code instead of a number": message(K.RAISED, line(value="E-17", limit=None, unit="")),
    "three alarms": message(K.RAISED, *lines()),
    "many alarms": message(K.RAISED, *lines(), count=47),
    "a drill": message(simulated=True),
    "escalated, nobody acts": message(K.ESCALATED, after=12 * MINUTE),
    "escalated, somebody acts": message(K.ESCALATED, line(state=IsaState.ACKED), after=75 * MINUTE),
    "reminder": message(K.REMINDER, after=2 * DAY + 3 * HOUR),
    "reminder of what is acknowledged": message(K.REMINDER, line(state=IsaState.ACKED), after=HOUR),
    "over": message(K.CLEARED, over(line()), after=27 * MINUTE),
    "three are over": message(K.CLEARED, *(over(one) for one in lines()), after=27 * MINUTE),
    "digest": message(K.DIGEST, lines()[1], over(lines()[2]), count=2, after=HOUR),
    "sent to somebody": message(K.WORK, text="dispatched"),
    "the readings do not agree": message(K.WORK, text="rework"),
    "it came back": message(K.WORK, text="reopened"),
    "somebody looked and it is not right": message(K.WORK, text="returned"),
    "the crew refused": message(K.WORK, text="refused"),
    "time to respond nearly over": message(K.DUE, text="respond", due_at=START + 15 * MINUTE, after=12 * MINUTE),
    "time to respond over": message(K.OVERDUE, text="respond", due_at=START + 15 * MINUTE, after=15 * MINUTE),
    "time to repair nearly over": message(K.DUE, text="resolve", due_at=START + DAY, after=19 * HOUR),
    "time to repair over": message(K.OVERDUE, text="resolve", due_at=START + 4 * HOUR, after=4 * HOUR),
    "path test": message(K.CANARY),
}


def shown(language: str) -> str:
    """All texts of a language, as the files have them."""
    parts: list[str] = []
    words, mute = wording(), wording(None, codes=False)
    for name, told in CASES.items():
        told = msgspec.structs.replace(told, language=language)
        long, short = words.of(note(told), Form.LONG), words.of(note(told), Form.SHORT)
        parts.append(f"=== {name}\n{long.title}\n---\n{long.body}\n--- short\n{short.body}\n")
    repeat = note(msgspec.structs.replace(message(), language=language), doubtful=True)
    parts.append(f"=== perhaps for the second time\n{words.of(repeat, Form.LONG).title}\n")
    parts.append(f"--- short\n{words.of(repeat, Form.SHORT).body}\n")
    for name, transition in (
        ("for a group, raised", step(record(), at=START + MINUTE)),
        ("for a group, over", step(record(cond="NORMAL", inactive_at=OVER), record(), "T6", at=OVER)),
    ):
        told_all = mute.of(Notification("k", transition, 1), Form.LONG, 0, language)
        parts.append(f"=== {name}\n{told_all.title}\n---\n{told_all.body}\n")
    return "\n".join(parts)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_text_is_as_it_was_approved(language: str) -> None:
    file = Path(__file__).with_name(f"texts_{language}.txt")
    assert shown(language) == file.read_text(encoding="utf-8")


def test_one_alarm_is_one_sms_in_chinese() -> None:
    words = wording()
    too_long = {name: text for name, told in CASES.items() if len(text := words.of(note(told), Form.SHORT).body) > 70}
    assert too_long == {}


FOREIGN = st.text(max_size=300) | st.sampled_from(
    ["{0.__class__} {{7*7}} ${HOME} %s", "a\r\nBcc: x@y", "\x1b[31mred\x00", "\u202eevil\u2066", "a\u2028b", "", " "]
)


@given(
    FOREIGN,
    FOREIGN,
    FOREIGN,
    FOREIGN,
    st.sampled_from(list(K)),
    st.sampled_from(["zh", "en", "xx"]),
    st.integers(60, 4000),
)
def test_foreign_text_never_breaks_out_and_every_text_fits(
    title: str, asset: str, unit: str, value: str, kind: MessageKind, language: str, most: int
) -> None:
    odd = line(asset, alarm_id=f"{asset}/x", title_zh=title, title_en=title, unit=unit, value=value, rule=title)
    told = message(kind, *(odd,) * 3, count=3000, language=language, text=title, due_at=START)
    for one in (told, msgspec.structs.replace(told, lines=(odd,), count=1)):
        long = wording(None).of(note(one), Form.LONG, most)
        short = wording(None).of(note(one), Form.SHORT)
        assert "\n" not in long.title
        assert "\n" not in short.body
        for text in (long.title, short.body, *long.body.split("\n")):
            assert text.isprintable()
        assert len(long.whole) <= max(min(most, MOST_LONG), len(long.title) + 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (4.812, "4.812"), (4.0, "4"), (17, "17"), (12345.678, "12346"), (0.00012, "0.00012"),
     (-3.25, "-3.25"), (0, "0"), (0.0, "0"), (999.96, "999.96"), (1e300, ""), (True, ""), (None, ""),
     (float("nan"), ""), (float("inf"), ""), ("open", "open"), (23.456789, "23.457")],
)  # fmt: skip
def test_figures_are_as_people_write_them(value: float | str | None, text: str) -> None:
    assert number(value) == text


def test_foreign_text_becomes_one_line() -> None:
    assert plain("a\r\n\tb\x00c\u202e d", 20) == "a b c d"
    assert plain("积" * 50, 10) == "积" * 9 + "…"


def test_no_link_without_an_address_and_none_for_what_is_over() -> None:
    assert "http" not in wording(None).of(note(), Form.LONG).whole
    cleared = note(message(K.CLEARED, over(line())))
    assert "http" not in wording().of(cleared, Form.LONG).whole
    assert "回复" not in wording().of(cleared, Form.SHORT).body
    acknowledged = note(message(K.ESCALATED, line(state=IsaState.ACKED)))
    assert "http" not in wording().of(acknowledged, Form.LONG).whole


def test_without_answers_by_sms_a_short_text_has_the_link() -> None:
    text = wording(codes=False).of(note(), Form.SHORT).body
    assert "确认 https://alarm.example.gov.cn/a/" in text
    assert "回复" not in text
