"""What the demo shows in the terminal: a live picture where there is a screen, a line a minute where there is none.

    with DemoView(timezone=ZoneInfo("Asia/Shanghai")) as view:
        view.announce([("网页 Page", "http://127.0.0.1:8080/")], token="…", user=("demo", "…"))
        while …:
            view.update(status)          # about twice a second; draws or keeps quiet

Pure rendering: it counts nothing, reads no clock and starts no thread; what it shows is what it is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.core.model import SECOND, IsaState, Level, Micros

QUIET_EVERY_S = 60.0
HISTORY = 40  # rates in the little curve: 20 s at two updates a second
NEWEST = 10
FAULTS = 5

_LEVELS: dict[Level, tuple[str, str]] = {
    Level.I: ("Ⅰ 红 red", "bold white on red"),
    Level.II: ("Ⅱ 橙 orange", "bold dark_orange"),
    Level.III: ("Ⅲ 黄 yellow", "yellow"),
    Level.IV: ("Ⅳ 蓝 blue", "dodger_blue1"),
}
# Only the states in which an alarm asks for something or is kept from asking.
_STATES: dict[IsaState, str] = {
    IsaState.UNACK: "未确认\nunack",
    IsaState.ACKED: "已确认\nacked",
    IsaState.RTNUN: "已恢复\nreturned",
    IsaState.DSUPR: "被抑制\nsuppr.",
    IsaState.SHLVD: "已搁置\nshelved",
    IsaState.OOSRV: "停用\nout",
}
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where every frame went: received = stored + duplicate + rejected + in flight, or something is wrong."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    in_flight: int = 0

    @property
    def balances(self) -> bool:
        return self.received == self.stored + self.duplicate + self.rejected + self.in_flight


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of one alarm, as a line to show. ``name`` is the asset's own name."""

    at: Micros
    level: Level
    state: IsaState
    title_zh: str
    title_en: str
    asset: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class DemoStatus:
    """The demo at one instant. ``alarms``: how many stand, by level and state. ``newest``: latest first.
    ``faults``: what the simulators have broken or mended, latest first. ``note``: anything that is not as it should
    be ("broker away for 12 s"), shown in red."""

    elapsed_s: float
    messages_per_s: float = 0.0
    readings_per_s: float = 0.0
    messages: int = 0
    readings: int = 0
    devices: int = 0
    devices_heard: int = 0
    alarms: Mapping[tuple[Level, IsaState], int] = field(default_factory=dict)
    newest: Sequence[Step] = ()
    faults: Sequence[str] = ()
    ledger: Ledger = field(default_factory=Ledger)
    note: str = ""

    @property
    def standing(self) -> int:
        """Alarms that stand, suppressed ones not counted."""
        return sum(n for (_, state), n in self.alarms.items() if state is not IsaState.DSUPR)


class DemoView:
    """The screen, or the quiet line; which of the two is decided once, by what stdout is.

    ``console``: None for stdout. ``timezone``: the civil time to show; None for UTC.
    """

    def __init__(self, console: Console | None = None, timezone: tzinfo | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._timezone = timezone or UTC
        self.quiet = not self._console.is_terminal or self._console.is_dumb_terminal
        self._addresses: Sequence[tuple[str, str]] = ()
        self._token = ""
        self._user = ""
        self._rates: deque[float] = deque(maxlen=HISTORY)
        self._live: Live | None = None
        self._next_line_s = QUIET_EVERY_S
        self._last: DemoStatus | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Leaves the terminal as it was, the last picture above the prompt."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._last is not None:
            self._line(self._last)

    def announce(
        self, addresses: Sequence[tuple[str, str]], token: str = "", user: tuple[str, str] | None = None
    ) -> None:
        """What to open, as (what it is, address); and the access token, which is shown once when quiet."""
        self._addresses, self._token = tuple(addresses), token
        self._user = " / ".join(user or ())
        if self.quiet:
            for label, address in addresses:
                self._console.print(Text(f"{label}  {address}"), soft_wrap=True)
            if self._user:
                self._console.print(Text(f"登录 Sign in  {self._user}"), soft_wrap=True)
            if token:
                self._console.print(Text(f"令牌 Token  {token}"), soft_wrap=True)

    def update(self, status: DemoStatus) -> None:
        """Draw it now; or, when quiet, say a line when a minute of the demo's time has passed."""
        self._rates.append(status.messages_per_s)
        if not self.quiet:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
                self._live.start()
            self._live.update(self.picture(status), refresh=True)
            return
        self._last = status
        if status.elapsed_s >= self._next_line_s:
            self._next_line_s = (status.elapsed_s // QUIET_EVERY_S + 1) * QUIET_EVERY_S
            self._line(status)
            self._last = None

    def picture(self, status: DemoStatus) -> RenderableType:
        """The whole screen for ``status``; beside one another where the terminal is wide enough."""
        wide = self._console.width >= 100
        # What must stay on the screen takes 17 lines beside one another, 26 below; the rest is for the two lists.
        room = self._console.height - (17 if wide else 26) - len(self._addresses) - bool(self._user)
        faults = status.faults[: max(1, min(FAULTS, room // 4))]
        newest = status.newest[: max(3, min(NEWEST, room - len(faults)))]
        top: RenderableType
        if wide:
            grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
            grid.add_column(ratio=1)
            grid.add_column()
            grid.add_row(self._flow(status), self._alarms(status))
            top = grid
        else:
            top = Group(self._flow(status), self._alarms(status))
        parts: list[RenderableType] = [top, self._newest(newest)]
        if faults:
            lines = Text("\n".join(faults), style="magenta", no_wrap=True, overflow="ellipsis")
            parts.append(Panel(lines, title="模拟故障 Faults injected", title_align="left", border_style="magenta"))
        parts.append(self._open())
        title = Text.assemble(("城市更夫 citywatch", "bold"), f"  ·  {_clock(status.elapsed_s)}")
        return Panel(Group(*parts), title=title, box=box.ROUNDED, border_style="cyan")

    def _flow(self, status: DemoStatus) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim")
        table.add_column(justify="right")
        table.add_column()
        table.add_row(
            "消息 Messages", f"{status.messages:,}", f"{status.messages_per_s:,.1f} /s  {_curve(self._rates)}"
        )
        table.add_row("读数 Readings", f"{status.readings:,}", f"{status.readings_per_s:,.1f} /s")
        table.add_row("设备 Devices", f"{status.devices_heard:,}", f"/ {status.devices:,} 已上线 heard")
        ledger = status.ledger
        balance = (
            Text("✓ 账平 balances", style="green") if ledger.balances else Text("✗ 账不平 DOES NOT BALANCE", "red")
        )
        table.add_row("账本 Ledger", f"{ledger.received:,}", balance)
        table.add_row("", "", Text(_ledger_line(ledger), style="dim"))
        if status.note:
            table.add_row("", "", Text(status.note, style="bold red"))
        return table

    def _alarms(self, status: DemoStatus) -> RenderableType:
        shown = [s for s in _STATES if s in _ALWAYS or any(status.alarms.get((lv, s)) for lv in Level)]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        table.add_column("报警 Alarms")
        for state in shown:
            table.add_column(_STATES[state], justify="right")
        for level, (name, style) in _LEVELS.items():
            counts = [status.alarms.get((level, state), 0) for state in shown]
            cells = [Text(str(n) if n else "·", style=style if n else "dim") for n in counts]
            table.add_row(Text(name, style=style if any(counts) else "dim"), *cells)
        return table

    def _newest(self, newest: Sequence[Step]) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for step in newest:
            ended = step.state in (IsaState.NORM, IsaState.RTNUN)
            style = "green" if ended else _LEVELS[step.level][1]
            table.add_row(
                self._time(step.at),
                Text(step.level.name, style=style),
                Text(step.state, style=style),
                Text(f"{step.title_zh} {step.title_en}".strip(), style="dim" if ended else ""),
                Text(f"{step.asset} {step.name}".strip(), style="dim"),
            )
        if not newest:
            table.add_row("", "", "", Text("一切正常 All is well", style="green"), "")
        return Panel(table, title="最新动态 Newest transitions", title_align="left", border_style="dim")

    def _open(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for label, address in self._addresses:
            # A link is only followed by a terminal that knows how; the text is the whole address all the same.
            link = f"bold link {address}" if address.startswith("http") else "bold"
            table.add_row(label, Text(address, style=link))
        if self._user:
            table.add_row("登录 Sign in", Text(self._user))
        if self._token:
            table.add_row("令牌 Token", Text(self._token))
        table.add_row("", Text("按 Ctrl-C 结束 · Ctrl-C stops everything", style="dim"))
        return table

    def _line(self, status: DemoStatus) -> None:
        levels = " ".join(
            f"{level.name}:{sum(n for (lv, s), n in status.alarms.items() if lv is level and s is not IsaState.DSUPR)}"
            for level in Level
        )
        ledger = "" if status.ledger.balances else "  LEDGER DOES NOT BALANCE"
        note = f"  {status.note}" if status.note else ""
        self._console.print(
            Text(
                f"{_clock(status.elapsed_s)}  {status.messages:,} messages ({status.messages_per_s:,.1f}/s)  "
                f"{status.readings:,} readings  alarms {status.standing} ({levels})  "
                f"{_ledger_line(status.ledger)}{ledger}{note}"
            ),
            soft_wrap=True,
        )

    def _time(self, at: Micros) -> str:
        return datetime.fromtimestamp(at / SECOND, self._timezone).strftime("%H:%M:%S")


_ALWAYS = (IsaState.UNACK, IsaState.ACKED, IsaState.RTNUN)


def _clock(elapsed_s: float) -> str:
    """Minutes and seconds, with hours when there are any: 3:07, 1:02:33."""
    minutes, seconds = divmod(int(elapsed_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _curve(values: Sequence[float] | deque[float]) -> str:
    """``values`` as small bars, the highest full."""
    top = max(values, default=0.0)
    if top <= 0:
        return ""
    return "".join(_BARS[min(len(_BARS) - 1, int(max(0.0, v) / top * len(_BARS)))] for v in values)


def _ledger_line(ledger: Ledger) -> str:
    return (
        f"= {ledger.stored:,} stored + {ledger.duplicate:,} duplicate + {ledger.rejected:,} rejected "
        f"+ {ledger.in_flight:,} in flight"
    )
