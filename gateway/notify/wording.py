"""What a person reads: a message in Chinese or English, short for SMS, long for everything else.

Every text is put together from values, piece by piece; names and titles come from files and devices, so they lose
control characters and line breaks, and are cut. A text that must be shorter loses its least needed pieces first: in the
short form what to do, then the place, the time, the value; in the long form the alarms that it lists.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar, TypeAlias
from zoneinfo import ZoneInfo

from gateway.core.model import MINUTE, SECOND, Asset, IsaState, Level, Micros, Transition, Value
from gateway.core.notification import Line, Message, MessageKind, line_of
from gateway.core.rule import Rule
from gateway.notify.links import Links
from gateway.notify.message import what_happened
from gateway.ports import Notification

MOST_LONG = 3000  # characters: Telegram takes 4,096, and nobody reads more
NAME, TITLE, PLACE, RESPONSE, FIGURE = 40, 60, 40, 200, 40  # characters of what is foreign
_HOUR, _DAY = 60, 24 * 60  # minutes
LARGEST = 1e15  # beyond it a value is an instrument's fault, and no figure

_OVER = frozenset({IsaState.NORM, IsaState.RTNUN})

Describe: TypeAlias = Callable[[str], Asset | None]
RuleOf: TypeAlias = Callable[[str], Rule | None]


class Form(StrEnum):
    """``short``: one line, for SMS; ``long``: a title and lines below it."""

    SHORT = "short"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class Text:
    """``title`` is "" in the short form."""

    title: str
    body: str

    @property
    def whole(self) -> str:
        return f"{self.title}\n{self.body}" if self.title else self.body


class Wording:
    """``describe`` gives an asset, ``rule`` a rule in force; ``zone``: the site's civil time. ``links`` makes what
    people acknowledge with; ``codes``: answers by SMS are heard, so short texts ask for one."""

    def __init__(
        self, describe: Describe, rule: RuleOf, zone: str, links: Links | None = None, *, codes: bool = False
    ) -> None:
        self._describe = describe
        self._rule = rule
        self._zone = ZoneInfo(zone)
        self._links = links
        self._codes = codes

    def of(self, notification: Notification, form: Form, most: int = 0, language: str = "zh") -> Text:
        """The text of a notification, in the language of its person, or for a machine in ``language``. ``most``
        characters, title included; 0: as many as the form has."""
        message = notification.message
        if message is None:
            assert notification.transition is not None
            message = _as_message(notification.transition, notification.key, language)
        speaker = _SPEAKERS.get(message.language, _SPEAKERS["en"])(self._describe, self._rule, self._zone)
        link = code = ""
        if self._links is not None and notification.message is not None and _wants_answer(message):
            link = self._links.link(notification.row, message)
            code = self._links.code(message.key) if self._codes and form is Form.SHORT else ""
        if form is Form.SHORT:
            return Text("", speaker.short(message, link, code, notification.doubtful, most or speaker.most_short))
        return speaker.long(message, link, notification.doubtful, min(most or MOST_LONG, MOST_LONG))


def _wants_answer(message: Message) -> bool:
    """Is there anything in it that somebody can acknowledge?"""
    told = message.kind not in (MessageKind.CLEARED, MessageKind.CANARY)
    return told and any(line.state in (IsaState.UNACK, IsaState.RTNUN) for line in message.lines)


def _as_message(transition: Transition, key: str, language: str) -> Message:
    """A step that a machine is told of, in the words that people get."""
    record = transition.record
    kind = MessageKind.RAISED
    if what_happened(transition) == "cleared":
        kind = MessageKind.CLEARED
    elif transition.cause == "T11":
        kind = MessageKind.REMINDER
    lines = (line_of(record),)
    return Message(key, key, "", kind, transition.at, record.level, lines, 1, "", 0, (), language, record.simulated)


class _Speaker(ABC):
    """One language. The order of things is here, the words are below."""

    between: str  # the pieces of a short text
    stop: str  # before what to answer
    most_short: int

    def __init__(self, describe: Describe, rule: RuleOf, zone: ZoneInfo) -> None:
        self._describe = describe
        self._rule = rule
        self._zone = zone

    # -- the short form -----------------------------------------------------------------------------------------------

    def short(self, message: Message, link: str, code: str, doubtful: bool, most: int) -> str:
        """One line of at most ``most`` characters, or of what cannot be left out."""
        answer = self.answer(code, link)
        if message.kind is MessageKind.CANARY or not message.lines:
            return self.canary(self.moment(message.at, message.at))
        head = self.headline(message) + (self.repeat if doubtful else "")
        pieces = [piece for piece in self._pieces(message) if piece[1]]
        while True:
            text = self.between.join((head, *(piece for _, piece in pieces)))
            text = f"{text}{self.stop}{answer}" if answer else text
            if len(text) <= most or not pieces:
                return text
            pieces.remove(min(pieces))

    def _pieces(self, message: Message) -> list[tuple[int, str]]:
        """What stands behind the headline, in the order in which it is read; the smallest number is needed least."""
        first = message.lines[0]
        time = self._times_short(first, message.at)
        if message.count > 1:
            return [(1, self._road(first)), (2, self.deadline_short(message) or time)]
        return [
            (4, self.deadline_short(message)),
            (3, self.figure_short(first)),
            (1, self._road(first)),
            (2, time),
            (0, "" if first.state in _OVER else self.response(first)),
        ]

    def _road(self, line: Line) -> str:
        asset = self._describe(line.asset)
        return plain(asset.road or asset.town, PLACE) if asset is not None else ""

    def _times_short(self, line: Line, now: Micros) -> str:
        if line.inactive_at is not None and line.state in _OVER:
            return self.ended(self.moment(line.inactive_at, now))
        return self.began(self.moment(line.active_at, now)) if line.active_at is not None else ""

    # -- the long form ------------------------------------------------------------------------------------------------

    def long(self, message: Message, link: str, doubtful: bool, most: int) -> Text:
        if message.kind is MessageKind.CANARY or not message.lines:
            return Text(self.canary_title, self.canary(self.moment(message.at, message.at)))
        title = self.headline(message) + (self.repeat if doubtful else "")
        body = [why for why in [self.why(message)] if why]
        tail = [self.link(link)] if link else []
        if message.count == 1:
            body += self._details(message.lines[0], message.at)
        else:
            room = most - len(title) - sum(len(line) + 1 for line in (*body, *tail)) - 40
            body += self._listed(message, room)
        text = "\n".join((*body, *tail))
        if len(title) + 1 + len(text) > most:
            cut = most - len(title) - 1 - sum(len(line) + 1 for line in tail)
            text = "\n".join(("\n".join(body)[: max(0, cut - 1)] + "…", *tail))
        return Text(title, text)

    def _details(self, line: Line, now: Micros) -> Iterator[str]:
        asset = self._describe(line.asset)
        yield self.level_row(line.level)
        place = [] if asset is None else [plain(part, PLACE) for part in (asset.road, asset.town) if part]
        if place:
            yield self.place_row(place)
        if line.active_at is not None:
            over = line.inactive_at if line.state in _OVER else None
            yield self.time_row(line.active_at, over, now)
        figure = self.figure(line)
        if figure:
            yield self.figure_row(figure)
        response = self.response(line)
        if response and line.state not in _OVER:
            yield self.response_row(response)
        if asset is not None and asset.unit:
            yield self.unit_row(plain(asset.unit, PLACE))
        yield self.id_row(plain(line.alarm_id, 200))

    def _listed(self, message: Message, room: int) -> list[str]:
        """As many of the alarms as there is room for, and how many more there are."""
        rows: list[str] = []
        for line in message.lines:
            row = self.item(line, message.at)
            if len(row) + 1 > room:
                break
            room -= len(row) + 1
            rows.append(row)
        left = message.count - len(rows)
        return rows + ([self.not_listed(left)] if left else [])

    # -- what both need -----------------------------------------------------------------------------------------------

    def name(self, line: Line) -> str:
        asset = self._describe(line.asset)
        return plain((asset.name if asset is not None else "") or line.asset, NAME)

    def civil(self, at: Micros) -> datetime:
        return datetime.fromtimestamp(at / SECOND, UTC).astimezone(self._zone)

    def moment(self, at: Micros, now: Micros) -> str:
        """The time on the clock, and the day when it is not today."""
        there, here = self.civil(at), self.civil(now)
        clock = f"{there:%H:%M}"
        return clock if there.date() == here.date() else self.on_day(there, clock)

    def figure(self, line: Line) -> tuple[str, str] | None:
        """Value and limit with their unit; None when the value is no number or text worth reading."""
        value = number(line.value)
        if not value:
            return None
        unit = f" {plain(line.unit, FIGURE)}" if line.unit else ""
        return value + unit, "" if line.limit is None else number(line.limit) + unit

    def response(self, line: Line) -> str:
        found = self._rule(line.rule)
        if found is None:
            return ""
        rule = found.variant(line.asset)
        return plain(self.of_two(rule.response_zh, rule.response_en), RESPONSE)

    def title(self, line: Line) -> str:
        return plain(self.of_two(line.title_zh, line.title_en) or line.rule, TITLE)

    def span(self, length: Micros) -> str:
        """How long something lasted, in its two largest units."""
        minutes = max(0, length) // MINUTE
        if minutes < _HOUR:
            return self.lasted((("minute", minutes),))
        if minutes < _DAY:
            return self.lasted((("hour", minutes // _HOUR), ("minute", minutes % _HOUR)))
        return self.lasted((("day", minutes // _DAY), ("hour", minutes % _DAY // _HOUR)))

    def deadline_short(self, message: Message) -> str:
        if message.due_at is None:
            return ""
        return self.due(message.text, self.moment(message.due_at, message.at), message.kind is MessageKind.OVERDUE)

    # -- the words ----------------------------------------------------------------------------------------------------

    repeat: str
    canary_title: str

    @abstractmethod
    def of_two(self, zh: str, en: str) -> str: ...
    @abstractmethod
    def on_day(self, there: datetime, clock: str) -> str: ...
    @abstractmethod
    def lasted(self, parts: tuple[tuple[str, int], ...]) -> str: ...
    @abstractmethod
    def headline(self, message: Message) -> str:
        """What happened, how bad, where: the one line that everybody reads."""

    @abstractmethod
    def why(self, message: Message) -> str:
        """Why it is told now, where the headline leaves it open."""

    @abstractmethod
    def canary(self, moment: str) -> str: ...
    @abstractmethod
    def answer(self, code: str, link: str) -> str: ...
    @abstractmethod
    def link(self, link: str) -> str: ...
    @abstractmethod
    def not_listed(self, count: int) -> str: ...
    @abstractmethod
    def figure_short(self, line: Line) -> str: ...
    @abstractmethod
    def began(self, moment: str) -> str: ...
    @abstractmethod
    def ended(self, moment: str) -> str: ...
    @abstractmethod
    def due(self, what: str, moment: str, over: bool) -> str: ...
    @abstractmethod
    def level_row(self, level: Level) -> str: ...
    @abstractmethod
    def place_row(self, parts: list[str]) -> str: ...
    @abstractmethod
    def time_row(self, began: Micros, ended: Micros | None, now: Micros) -> str: ...
    @abstractmethod
    def figure_row(self, figure: tuple[str, str]) -> str: ...
    @abstractmethod
    def response_row(self, response: str) -> str: ...
    @abstractmethod
    def unit_row(self, unit: str) -> str: ...
    @abstractmethod
    def id_row(self, alarm_id: str) -> str: ...
    @abstractmethod
    def item(self, line: Line, now: Micros) -> str: ...


class _Chinese(_Speaker):
    between = "，"
    stop = "。"
    most_short = 70  # one SMS with Chinese in it (UCS-2)
    repeat = "（可能重复）"
    canary_title = "通道测试"

    COLOURS: ClassVar = {Level.I: "红色", Level.II: "橙色", Level.III: "黄色", Level.IV: "蓝色"}
    WORDS: ClassVar = {Level.I: "特别重大", Level.II: "重大", Level.III: "较大", Level.IV: "一般"}
    UNITS: ClassVar = {"day": "天", "hour": "小时", "minute": "分钟"}
    DEADLINES: ClassVar = {"respond": "响应", "resolve": "处置完毕"}
    WORK: ClassVar = {
        "dispatched": ("派单", "请接单并赶赴现场，不能前往请退单。"),
        "rework": ("返工", "数据核实未通过，请再次处置。"),
        "reopened": ("复发", "结案后再次报警，请再次处置。"),
        "returned": ("返工", "人工核查未通过，请再次处置。"),
        "refused": ("退单", "承接人已退单，请另行派遣。"),
    }

    def of_two(self, zh: str, en: str) -> str:
        return zh or en

    def on_day(self, there: datetime, clock: str) -> str:
        return f"{there.month}月{there.day}日 {clock}"

    def lasted(self, parts: tuple[tuple[str, int], ...]) -> str:
        return " ".join(f"{count} {self.UNITS[unit]}" for unit, count in parts if count or len(parts) == 1)

    def headline(self, message: Message) -> str:
        first = message.lines[0]
        level = f"{self.COLOURS[message.level]} {message.level.name} 级"
        what = f"{self.name(first)} {self.title(first)}"
        many = f"等 {message.count} 处" if message.count > 1 else ""
        drill = "演练·" if message.simulated else ""
        match message.kind:
            case MessageKind.RAISED:
                text = f"{level}报警：{what}{many}"
            case MessageKind.ESCALATED:
                text = (
                    f"升级·{level}报警无人处理：{what}{many}"
                    if _open(message)
                    else f"升级·{level}报警未解除：{what}{many}"
                )
            case MessageKind.REMINDER:
                text = f"再次提醒·{level}报警：{what}{many}"
            case MessageKind.CLEARED:
                text = f"已恢复·{level}报警：{what}{many}"
            case MessageKind.DIGEST:
                text = f"报警汇总 {message.count} 处，最高{level}：{what}" + ("等" if many else "")
            case MessageKind.WORK:
                text = f"{self.WORK.get(message.text, ('工单', ''))[0]}·{level}：{what}{many}"
            case MessageKind.DUE:
                text = f"{self._deadline(message)}时限将到·{level}：{what}{many}"
            case MessageKind.OVERDUE:
                text = f"{self._deadline(message)}已超时·{level}：{what}{many}"
            case MessageKind.CANARY:
                text = self.canary_title
        return drill + text

    def _deadline(self, message: Message) -> str:
        return "响应" if message.text == "respond" else "处置"

    def why(self, message: Message) -> str:
        first, now = message.lines[0], message.at
        since = self.span(now - first.active_at) if first.active_at is not None else ""
        match message.kind:
            case MessageKind.ESCALATED | MessageKind.REMINDER if since:
                return f"报警已 {since}，" + ("仍无人确认。" if _open(message) else "已有人确认，仍未恢复。")
            case MessageKind.DIGEST:
                return f"以下 {message.count} 处因限频或免打扰未逐条发送。"
            case MessageKind.WORK:
                return self.WORK.get(message.text, ("", ""))[1]
            case MessageKind.DUE | MessageKind.OVERDUE:
                return self.deadline_short(message) + "。" if message.due_at is not None else ""
            case _:
                return ""

    def due(self, what: str, moment: str, over: bool) -> str:
        done = self.DEADLINES.get(what, "处置完毕")
        return f"时限 {moment}，仍未{done}" if over else f"请于 {moment} 前{done}"

    def canary(self, moment: str) -> str:
        return f"城市更夫通道测试 {moment}，一切正常，无需处理。"

    def answer(self, code: str, link: str) -> str:
        if code:
            return f"回复 {code} 确认"
        return f"确认 {link}" if link else ""

    def link(self, link: str) -> str:
        return f"确认（24 小时内有效）：{link}"

    def not_listed(self, count: int) -> str:
        return f"另有 {count} 处未列出，请登录查看。"

    def figure_short(self, line: Line) -> str:
        figure = self.figure(line)
        if figure is None:
            return ""
        return f"{figure[0]}（限值 {figure[1]}）" if figure[1] else figure[0]

    def began(self, moment: str) -> str:
        return f"{moment} 起"

    def ended(self, moment: str) -> str:
        return f"{moment} 恢复"

    def level_row(self, level: Level) -> str:
        return f"级别：{level.name} 级（{self.COLOURS[level]}，{self.WORDS[level]}）"

    def place_row(self, parts: list[str]) -> str:
        return f"地点：{'，'.join(parts)}"

    def time_row(self, began: Micros, ended: Micros | None, now: Micros) -> str:
        start = self.moment(began, now)
        if ended is not None:
            return f"时间：{start} 至 {self.moment(ended, now)}，历时 {self.span(ended - began)}"
        return f"时间：{start} 起，已 {self.span(now - began)}"

    def figure_row(self, figure: tuple[str, str]) -> str:
        return f"数值：{figure[0]}" + (f"（限值 {figure[1]}）" if figure[1] else "")

    def response_row(self, response: str) -> str:
        return f"处置：{response}"

    def unit_row(self, unit: str) -> str:
        return f"权属：{unit}"

    def id_row(self, alarm_id: str) -> str:
        return f"编号：{alarm_id}"

    def item(self, line: Line, now: Micros) -> str:
        when = self._times_short(line, now)
        return f"· {self.name(line)} {self.title(line)}（{line.level.name} 级{'，' if when else ''}{when}）"


class _English(_Speaker):
    between = ", "
    stop = ". "
    most_short = 140  # one SMS (GSM 7 bit) with room for the sender's name
    repeat = " (possible repeat)"
    canary_title = "Path test"

    COLOURS: ClassVar = {Level.I: "RED", Level.II: "ORANGE", Level.III: "YELLOW", Level.IV: "BLUE"}
    WORDS: ClassVar = {Level.I: "extremely serious", Level.II: "serious", Level.III: "considerable", Level.IV: "minor"}
    UNITS: ClassVar = {"day": "d", "hour": "h", "minute": "min"}
    WORK: ClassVar = {
        "dispatched": ("Sent to you", "Please accept and go there, or refuse."),
        "rework": ("Sent again", "The readings do not agree that it is done. Please look again."),
        "reopened": ("Came back", "The alarm came back after the work was closed. Please look again."),
        "returned": ("Sent again", "Somebody looked, and it is not right. Please look again."),
        "refused": ("Refused", "The crew refused the work. Please send somebody else."),
    }

    def of_two(self, zh: str, en: str) -> str:
        return en or zh

    def on_day(self, there: datetime, clock: str) -> str:
        return f"{there.day} {there:%b} {clock}"

    def lasted(self, parts: tuple[tuple[str, int], ...]) -> str:
        return " ".join(f"{count} {self.UNITS[unit]}" for unit, count in parts if count or len(parts) == 1)

    def headline(self, message: Message) -> str:
        first = message.lines[0]
        level = f"{self.COLOURS[message.level]} {message.level.name}"
        what = f"{self.name(first)}: {self.title(first)}"
        many = f" and {message.count - 1} more" if message.count > 1 else ""
        drill = "DRILL: " if message.simulated else ""
        match message.kind:
            case MessageKind.RAISED:
                text = f"{level} alarm. {what}{many}"
            case MessageKind.ESCALATED:
                text = f"Escalated, {'nobody acts' if _open(message) else 'not over'}. {level}. {what}{many}"
            case MessageKind.REMINDER:
                text = f"Reminder. {level}. {what}{many}"
            case MessageKind.CLEARED:
                text = f"Over. {level}. {what}{many}"
            case MessageKind.DIGEST:
                text = f"Digest of {message.count}, worst {level}. {what}"
            case MessageKind.WORK:
                text = f"{self.WORK.get(message.text, ('Work', ''))[0]}. {level}. {what}{many}"
            case MessageKind.DUE:
                text = f"Nearly due: {self._deadline(message)}. {level}. {what}{many}"
            case MessageKind.OVERDUE:
                text = f"Overdue: {self._deadline(message)}. {level}. {what}{many}"
            case MessageKind.CANARY:
                text = self.canary_title
        return drill + text

    def _deadline(self, message: Message) -> str:
        return "response" if message.text == "respond" else "repair"

    def why(self, message: Message) -> str:
        first, now = message.lines[0], message.at
        since = self.span(now - first.active_at) if first.active_at is not None else ""
        match message.kind:
            case MessageKind.ESCALATED | MessageKind.REMINDER if since:
                state = "nobody has acknowledged it." if _open(message) else "acknowledged, and not over."
                return f"It has stood for {since}: {state}"
            case MessageKind.DIGEST:
                return f"These {message.count} were held back by a limit or quiet hours."
            case MessageKind.WORK:
                return self.WORK.get(message.text, ("", ""))[1]
            case MessageKind.DUE | MessageKind.OVERDUE:
                text = self.deadline_short(message)
                return f"{text[0].upper()}{text[1:]}." if text else ""
            case _:
                return ""

    def due(self, what: str, moment: str, over: bool) -> str:
        if what == "respond":
            return f"a response was due at {moment}" if over else f"respond by {moment}"
        return f"it had to be done by {moment}" if over else f"to be done by {moment}"

    def canary(self, moment: str) -> str:
        return f"citywatch path test {moment}. All is well, nobody has to do anything."

    def answer(self, code: str, link: str) -> str:
        if code:
            return f"Reply {code} to acknowledge"
        return f"Acknowledge: {link}" if link else ""

    def link(self, link: str) -> str:
        return f"Acknowledge (within 24 h): {link}"

    def not_listed(self, count: int) -> str:
        return f"{count} more are not listed; sign in to see them."

    def figure_short(self, line: Line) -> str:
        figure = self.figure(line)
        if figure is None:
            return ""
        return f"{figure[0]} (limit {figure[1]})" if figure[1] else figure[0]

    def began(self, moment: str) -> str:
        return f"since {moment}"

    def ended(self, moment: str) -> str:
        return f"over at {moment}"

    def level_row(self, level: Level) -> str:
        return f"Level: {level.name} ({self.COLOURS[level].lower()}, {self.WORDS[level]})"

    def place_row(self, parts: list[str]) -> str:
        return f"Place: {', '.join(parts)}"

    def time_row(self, began: Micros, ended: Micros | None, now: Micros) -> str:
        start = self.moment(began, now)
        if ended is not None:
            return f"Time: {start} to {self.moment(ended, now)}, {self.span(ended - began)}"
        return f"Time: since {start}, {self.span(now - began)}"

    def figure_row(self, figure: tuple[str, str]) -> str:
        return f"Value: {figure[0]}" + (f" (limit {figure[1]})" if figure[1] else "")

    def response_row(self, response: str) -> str:
        return f"To do: {response}"

    def unit_row(self, unit: str) -> str:
        return f"Belongs to: {unit}"

    def id_row(self, alarm_id: str) -> str:
        return f"Id: {alarm_id}"

    def item(self, line: Line, now: Micros) -> str:
        when = self._times_short(line, now)
        return f"· {self.name(line)}: {self.title(line)} ({line.level.name}{', ' if when else ''}{when})"


_SPEAKERS: dict[str, type[_Speaker]] = {"zh": _Chinese, "en": _English}


def _open(message: Message) -> bool:
    """Has nobody said that they act on one of them?"""
    return any(line.state is IsaState.UNACK for line in message.lines)


def number(value: Value) -> str:
    """A value as people write it, with three or four digits that say something; "" for what is no value to read."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return plain(value, FIGURE)
    if not abs(value) < LARGEST:  # nor not-a-number
        return ""
    if abs(value) >= 1000 or value == 0:
        return f"{value:.0f}"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    text = f"{value:.{max(2, 5 - whole)}f}" if abs(value) >= 0.01 else f"{value:.8f}"
    return text.rstrip("0").rstrip(".")


def plain(text: str, most: int) -> str:
    """One line of foreign text: no control, format or private characters, at most ``most`` of what is left."""
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: most * 4])
    kept = " ".join(kept.split())
    return kept if len(kept) <= most else kept[: most - 1] + "…"
