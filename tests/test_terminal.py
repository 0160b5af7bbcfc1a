"""The demo's terminal: a picture on a screen, a line a minute elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from rich.console import Console

from gateway.core.model import SECOND, IsaState, Level
from gateway.terminal import DemoStatus, DemoView, Ledger, Step

STEP = Step(1_752_969_600 * SECOND, Level.I, IsaState.UNACK, "井盖打开", "Cover open", "cover-007", "育才路 [red]7 号")
STATUS = DemoStatus(
    elapsed_s=187.4, messages_per_s=41.2, readings_per_s=160.0, messages=7_700, readings=30_000, devices=420,
    devices_heard=418, newest=[STEP], faults=["0:30 cover-007 opens"], ledger=Ledger(7_700, 7_650, 20, 28, 2),
    alarms={(Level.I, IsaState.UNACK): 1, (Level.II, IsaState.ACKED): 2, (Level.IV, IsaState.DSUPR): 30},
)  # fmt: skip
ADDRESSES = [("网页 Page", "http://127.0.0.1:8080/"), ("MQTT", "mqtt://127.0.0.1:1883")]


def screen(width: int = 120, height: int = 50, *, terminal: bool = True) -> tuple[DemoView, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=width, height=height, color_system=None, legacy_windows=False
    )
    return DemoView(console, timezone(timedelta(hours=8))), out


@pytest.mark.parametrize("width", [60, 99, 120, 200])
def test_a_screen_of_any_width_shows_what_matters(width: int) -> None:
    view, out = screen(width)
    with view:
        view.announce(ADDRESSES, "s3cret", ("demo", "once-only"))
        view.update(STATUS)
    text = out.getvalue()
    for words in ("3:07", "7,700", "Ⅰ 红 red", "UNACK", "井盖打开", "08:00:00", "cover-007 opens", "balances"):
        assert words in text, words
    assert "http://127.0.0.1:8080/" in text
    assert "s3cret" in text
    assert "demo / once-only" in text
    if width >= 120:
        assert "育才路 [red]7 号" in text, "what looks like markup is text"


def test_suppressed_alarms_get_a_column_only_when_there_are_any() -> None:
    view, out = screen()
    view.update(DemoStatus(1.0))
    assert "被抑制" not in out.getvalue()
    assert "一切正常" in out.getvalue()
    view.update(STATUS)
    assert "被抑制" in out.getvalue()
    view.__exit__(None, None, None)


def test_a_ledger_that_does_not_balance_is_said_aloud() -> None:
    for terminal in (True, False):
        view, out = screen(terminal=terminal)
        with view:
            view.update(DemoStatus(61.0, ledger=Ledger(received=10, stored=9)))
        assert "NOT BALANCE" in out.getvalue()


def test_without_a_screen_it_says_the_addresses_once_and_then_a_line_a_minute() -> None:
    view, out = screen(terminal=False)
    assert view.quiet
    view.announce(ADDRESSES, "s3cret", ("demo", "once-only"))
    for half_seconds in range(2 * 150):
        view.update(DemoStatus(half_seconds / 2, messages=half_seconds, alarms=STATUS.alarms))
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["网页 Page  http://127.0.0.1:8080/", "MQTT  mqtt://127.0.0.1:1883"]
    assert lines[2:4] == ["登录 Sign in  demo / once-only", "令牌 Token  s3cret"]
    assert [line.split()[0] for line in lines[4:]] == ["1:00", "2:00"]
    assert "alarms 3 (I:1 II:2 III:0 IV:0)" in lines[4]
    view.__exit__(None, None, None)
    assert out.getvalue().splitlines()[-1].startswith("2:29")


def test_a_long_pause_gives_one_line_not_many() -> None:
    view, out = screen(terminal=False)
    for elapsed_s in (0.0, 3_700.0, 3_701.0, 3_721.0):
        view.update(DemoStatus(elapsed_s))
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["1:01:40", "1:02:01"]


def test_on_a_small_screen_the_lists_give_way_and_the_addresses_stay() -> None:
    view, out = screen(120, 24)
    view.announce(ADDRESSES, user=("demo", "once-only"))
    crowded = replace(STATUS, newest=[STEP] * 30, faults=[f"fault {n}" for n in range(30)])
    view._console.print(view.picture(crowded))
    text = out.getvalue()
    assert text.count("\n") <= 24
    assert "http://127.0.0.1:8080/" in text
    assert "Ctrl-C" in text
