"""What ``citywatch routes`` shows people: the answers of ``routes_report.py``, in Chinese and in English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from gateway.config.units import format_duration
from gateway.core.model import Level
from gateway.core.notification import MessageKind

MAX_SHOWN = 60  # moments of one answer; the JSON has all

LEVELS = {Level.I: ("Ⅰ 红 red", "bold white on red"), Level.II: ("Ⅱ 橙 orange", "bold dark_orange"),
          Level.III: ("Ⅲ 黄 yellow", "yellow"), Level.IV: ("Ⅳ 蓝 blue", "dodger_blue1")}  # fmt: skip
KINDS = {
    MessageKind.RAISED: ("告知", "told"),
    MessageKind.ESCALATED: ("升级", "escalated"),
    MessageKind.REMINDER: ("再次提醒", "reminded"),
    MessageKind.DIGEST: ("汇总", "digest"),
    MessageKind.DUE: ("即将超时", "nearly overdue"),
    MessageKind.OVERDUE: ("已超时", "overdue"),
    MessageKind.CLEARED: ("恢复", "cleared"),
    MessageKind.WORK: ("工单", "work"),
    MessageKind.CANARY: ("通路测试", "canary"),
}
WORK = ("自动派单", "work given")
TIMES = {"respond": ("响应", "respond"), "resolve": ("处置", "resolve")}
FIELDS = {
    "simulated": "模拟", "level": "级别", "kind": "类型", "rule": "规则", "asset": "资产", "road": "道路",
    "town": "乡镇", "unit": "单位", "notify": "通知对象", "attributes": "属性", "during": "时段", "unless": "除外时段",
}  # fmt: skip
WHY = {"swap": ("替班", "standing in"), "fallback": ("后备", "fallback")}
CLOCKS = {
    "urgent": ("紧急工作时", "every hour counts"),
    "working_hours": ("工作时", "working hours count"),
    "working_days": ("工作日", "working days count"),
    "natural_days": ("自然日", "calendar days count"),
}

Answer = dict[str, Any]


def screen() -> Console:
    """Standard output; as wide as the answer needs where no terminal says how wide it is."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def show_test(answer: Answer, console: Console) -> None:
    zone = ZoneInfo(answer["timezone"])
    for alarm in answer["alarms"]:
        _show_alarm(alarm, zone, console)
    _show_timeline(answer, zone, console)


def show_duty(answer: Answer, console: Console) -> None:
    zone = ZoneInfo(answer["timezone"])
    console.print(Text.assemble(("值班 On duty", "bold"), f"  {_shown(answer['at'], zone)}"))
    if not answer["rotas"]:
        console.print(Text("没有值班表 There are no rotas", style="dim"))
        return
    table = _table()
    for rota in answer["rotas"]:
        title, after = rota["title"], rota["next"]
        following = "" if after is None else f"{_shown(rota['until'], zone)} → {_names(after['people'])}"
        style = "yellow" if rota["why"] == "fallback" else "green"
        table.add_row(
            Text(_both(title["zh"], title["en"]), style="bold"),
            Text(_names(rota["people"]), style=style),
            Text(_duty_words(rota)),
            Text(following, style="dim"),
        )
    console.print(table)


def _show_alarm(alarm: Answer, zone: ZoneInfo, console: Console) -> None:
    words, style = LEVELS[Level[alarm["level"]]]
    title = alarm["title"]
    console.print(
        Text.assemble((words, style), "  ", (_both(title["zh"], title["en"]), "bold"), "  ", alarm["alarm_id"])
    )
    place = [part for part in (alarm["name"], alarm["road"], alarm["kind"]) if part]
    others = [level for level in alarm["levels"] if level != alarm["level"]]
    if others:
        place.append(f"另有级别 other levels {', '.join(others)}（--level）")
    if alarm["simulated"]:
        place.append("模拟资产 simulated")
    console.print(Text("  " + " · ".join(place), style="dim"))
    if alarm["silent_because"]:
        console.print(Text("  " + _both(*alarm["silent_because"]), style="yellow"))
    console.print(_tree(alarm["looked_at"]))
    for route in alarm["chosen"]:
        _show_chosen(route, zone, console)
    if alarm["sla"] is not None:
        _show_sla(alarm["sla"], zone, console)
    console.print()


def _tree(looked_at: Sequence[Answer]) -> Tree:
    """The routes that were looked at, those passed by with the field that did not match."""
    top = Tree(_label(looked_at[0]), guide_style="dim")
    branches = [top]
    for one in looked_at[1:]:
        del branches[one["depth"] :]
        branches.append(branches[-1].add(_label(one)))
    return top


def _label(one: Answer) -> Text:
    title = one["title"]
    shown = one["route"]
    if title["zh"] != one["route"]:
        shown += f"  {_both(title['zh'], title['en'])}"
    if one["misses"] is not None:
        field = f"{FIELDS[one['misses']]} {one['misses']}"
        return Text(f"✗ {shown}   {field}: {one['found']} ≠ {one['wanted']}", style="dim")
    if one["chosen"]:
        return Text.assemble(("✓ " + shown, "bold green"))
    return Text(f"· {shown}")


def _show_chosen(route: Answer, zone: ZoneInfo, console: Console) -> None:
    group, repeat, quiet = route["group"], route["repeat"], route["quiet"]
    facts = [f"合并 grouped by {', '.join(group['by'])}{_waits(group)}"]
    if repeat is not None:
        facts.append(f"重复 repeated every {_length(repeat['every_s'])} × {repeat['times']} ({repeat['if_still']})")
    if quiet is not None:
        facts.append(f"静默 quiet {quiet['hours']}: {_quiet_words(quiet, zone)}")
    if not route["cleared"]:
        facts.append("恢复不通知 the end is not told")
    if route["dispatch"]:
        facts.append(f"自动派单 work goes to {route['dispatch']}")
    console.print(Text.assemble("  ", (f"✓ {route['route']}", "green"), "  ", (" · ".join(facts), "dim")))


def _quiet_words(quiet: Answer, zone: ZoneInfo) -> str:
    if not quiet["on"]:
        return "现在不在其中 not now"
    if quiet["until"] is None:
        return "Ⅰ级不等待 level I waits for nothing"
    return f"等到 waits until {_shown(quiet['until'], zone)}"


def _waits(group: Answer) -> str:
    waits = [(group["wait_s"], "等待 wait"), (group["interval_s"], "间隔 interval")]
    said = [f"{words} {_length(length)}" for length, words in waits if length]
    return f" ({', '.join(said)})" if said else ""


def _show_sla(sla: Answer, zone: ZoneInfo, console: Console) -> None:
    for one in sla["times"]:
        zh, en = TIMES[one["what"]]
        in_hours = sla["clock"] == "working_hours"  # of which 24 are three days
        lasts = f"{one['lasts_s'] / 3600:g}h" if in_hours else _length(one["lasts_s"])
        line = f"{lasts} → {_shown(one['over_at'], zone)}（{_shown(one['warn_at'], zone)} 预警 warned）"
        console.print(
            Text.assemble("  ", (f"{zh}时限 time to {en}", "dim"), f"  {line}  {_both(*CLOCKS[sla['clock']])}")
        )


def _show_timeline(answer: Answer, zone: ZoneInfo, console: Console) -> None:
    console.print(Text.assemble(("如果没有人处理 If nobody does anything", "bold"), f"  {_shown(answer['at'], zone)}"))
    if not answer["told"]:
        console.print(Text("  没有人会收到通知 Nobody would be told", style="bold red"))
    moments = _moments(answer["timeline"])
    several = len(answer["alarms"]) > 1
    table = _table()
    for moment in moments[:MAX_SHOWN]:
        for number, (who, how, why) in enumerate(moment.people):
            first = number == 0
            style = {"overdue": "red", "escalated": "dark_orange", "due": "yellow"}.get(moment.kind, "")
            table.add_row(
                Text(f"+{_length(moment.after_s)}" if first else ""),
                Text(_shown(moment.at, zone) if first else "", style="dim"),
                Text(_moment_title(moment, zone) if first else "", style=style),
                Text(who),
                Text(how, style="dim"),
                Text(why, style="dim"),
                Text(", ".join(moment.alarms) if first and several else "", style="dim"),
            )
    if moments:
        console.print(table)
    if len(moments) > MAX_SHOWN:
        console.print(Text(f"  …还有 and {len(moments) - MAX_SHOWN} more", style="dim"))


@dataclass(slots=True)
class _Told:
    """What is said at one moment, for a person to read: everybody once. ``repeats``: how often after that too, until
    ``last``."""

    at: str
    after_s: float
    kind: str
    what: str | None
    alarms: list[str]
    people: list[tuple[str, str, str]]
    repeats: int = 0
    last: str = ""


def _moments(timeline: Sequence[Answer]) -> list[_Told]:
    found: dict[tuple[str, str, str | None], _Told] = {}
    for said in timeline:
        key = (said["at"], said["kind"], said.get("what"))
        moment = found.setdefault(key, _Told(said["at"], said["after_s"], said["kind"], said.get("what"), [], []))
        moment.alarms += [alarm for alarm in said["alarms"] if alarm not in moment.alarms]
        row = _row(said)
        if row not in moment.people:
            moment.people.append(row)
    folded: list[_Told] = []
    reminders: dict[str, _Told] = {}
    for moment in found.values():
        names = repr((sorted(who for who, _, _ in moment.people), sorted(moment.alarms)))
        before = reminders.get(names)
        if moment.kind == MessageKind.REMINDER and before is not None:
            before.repeats, before.last = before.repeats + 1, moment.at
            continue
        if moment.kind == MessageKind.REMINDER:
            reminders[names] = moment
        folded.append(moment)
    return folded


def _row(said: Answer) -> tuple[str, str, str]:
    """Who, how, why."""
    if said["kind"] == "dispatch":
        return _both(said["title"]["zh"], said["title"]["en"]), _names(said["people"]), ""
    who = _both(said["person"]["name"], said["person"]["name_en"])
    return who, _channels(said["channels"]), _why(said["because"])


def _channels(channels: Sequence[Answer]) -> str:
    """In the order in which they are tried; an address that is the same for several stands at the last of them."""
    words: list[str] = []
    for number, channel in enumerate(channels):
        following = channels[number + 1]["to"] if number + 1 < len(channels) else None
        words.append(channel["receiver"] if channel["to"] == following else f"{channel['receiver']} {channel['to']}")
    return " ⇢ ".join(word.strip() for word in words)


def _moment_title(moment: _Told, zone: ZoneInfo) -> str:
    zh, en = WORK if moment.kind == "dispatch" else KINDS[MessageKind(moment.kind)]
    if moment.what in TIMES:
        zh, en = f"{TIMES[moment.what][0]}{zh}", f"{TIMES[moment.what][1]} {en}"
    repeats = f" ×{moment.repeats + 1} → {_shown(moment.last, zone)[-5:]}" if moment.repeats else ""
    return _both(zh, en) + repeats


def _why(ways: Sequence[Answer]) -> str:
    said: list[str] = []
    for way in ways[:2]:
        titles = [_both(title["zh"], title["en"]) for title in way["titles"]]
        if way["duty"] is not None:
            titles.append(_duty_words(way["duty"]))
        if titles:
            said.append(" › ".join(titles))
    return "; ".join(said)


def _duty_words(duty: Answer) -> str:
    why = "" if duty["why"] == "shift" else _both(*WHY[duty["why"]])
    words = " ".join(part for part in (duty["shift"], why) if part)
    for swap in duty["swaps"]:
        instead = _both(swap["instead_of"]["name"], swap["instead_of"]["name_en"])
        words += f"（代 for {instead}{'：' + swap['why'] if swap['why'] else ''}）"
    return words


def _names(people: Sequence[Answer]) -> str:
    return ", ".join(_both(person["name"], person["name_en"]) for person in people)


def _both(zh: str, en: str) -> str:
    return zh if zh == en else f"{zh} {en}"


def _table() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(7):
        table.add_column(overflow="fold")
    return table


def _length(seconds: float) -> str:
    return format_duration(round(seconds * 1e6)) if seconds else "0m"


def _shown(text: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(text).astimezone(zone):%m-%d %a %H:%M}"
