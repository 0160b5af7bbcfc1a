"""The page behind a link in a message, on a phone in the rain: what it is about, how that is now, and one button.

No script and nothing from elsewhere; whoever only looks (a preview in a chat does) changes nothing. The texts are ours,
everything else is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Literal
from zoneinfo import ZoneInfo

from gateway.console.answers import Alarm, Fate
from gateway.core.model import SECOND, Asset, Level, Micros

Language = Literal["zh", "en"]

STYLE = (
    "body{margin:0;font:17px/1.5 system-ui,'PingFang SC','Microsoft YaHei',sans-serif;background:#f2f4f6;color:#16202a}"
    "main{max-width:34rem;margin:0 auto;padding:1rem}h1{font-size:1.2rem;margin:.2rem 0 1rem}"
    "li{list-style:none;background:#fff;border-left:.5rem solid;border-radius:.3rem;margin:0 0 .7rem;padding:.6rem}"
    "ul{padding:0;margin:0}.I{border-color:#c62828}.II{border-color:#ef6c00}.III{border-color:#d4a600}"
    ".IV{border-color:#1565c0}b{font-weight:600}small{display:block;color:#50606e;font-size:.9rem;overflow-wrap:anywhere}"
    "button{width:100%;min-height:3.4rem;font-size:1.2rem;border:0;border-radius:.4rem;background:#0b57a4;color:#fff}"
    "p.note{background:#fff;border-radius:.3rem;padding:.7rem .8rem}"
    "@media(prefers-color-scheme:dark){body{background:#101418;color:#e8edf2}li,p.note{background:#1c232a}"
    "small{color:#a8b4bf}button{background:#3d8bdc}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("报警确认", "Acknowledge alarms"),
    "button": ("确认收到，我来处理", "Acknowledge: I act on it"),
    "signed_by": ("将以 {name} 的名义确认。", "This will be acknowledged as {name}."),
    "open": ("待确认", "not acknowledged yet"),
    "over": ("本次报警已结束", "this alarm is over"),
    "acknowledged": ("已由 {name} 于 {time} 确认", "acknowledged by {name} at {time}"),
    "needless": ("无需确认", "needs no acknowledgement"),
    "failed": ("暂未确认成功，请登录处理", "could not be acknowledged; please sign in"),
    "since": ("{time} 起", "since {time}"),
    "more": ("另有 {count} 处报警未列出，请登录查看。", "{count} more alarms are not listed; sign in to see them."),
    "done": ("已确认，谢谢。", "Acknowledged. Thank you."),
    "used": ("此链接已使用过。", "This link has been used."),
    "nothing": ("无需确认：报警已结束或已有人确认。", "Nothing to acknowledge: it is over, or somebody has done so."),
    "expired": ("链接已过期（24 小时内有效）。请登录控制台处理。", "This link has expired (24 hours). Please sign in."),
    "wrong": ("链接无效。请核对短信或邮件中的地址。", "This link is not right. Please look at the message again."),
    "nobody": ("您已不在通知名单中，无法确认。", "You are no longer among those who are told."),
    "unavailable": ("系统繁忙，请稍后刷新本页查看结果。", "Busy just now. Please look at this page again in a moment."),
    "drill": ("演练", "Drill"),
}


class Page:
    """One page in one language. ``zone``: the site's civil time; ``asset`` gives what is known of one."""

    def __init__(self, language: str, zone: str, site: tuple[str, str]) -> None:
        self._zh = language == "zh"
        self._zone = ZoneInfo(zone)
        self._site = site[0] if self._zh else site[1]

    def words(self, of: str, **values: str) -> str:
        """One of the texts, escaped, with escaped values."""
        text = escape(_WORDS[of][0 if self._zh else 1])
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", escape(value))
        return text

    def note(self, *names: str) -> str:
        """A page that only says something."""
        return self._page(*(f'<p class="note">{self.words(name)}</p>' for name in names))

    def alarms(
        self,
        alarms: Sequence[tuple[Alarm, Asset | None]],
        count: int,
        *,
        says: str | None = None,
        ask_as: str | None = None,
        simulated: bool = False,
        now: Micros,
    ) -> str:
        """The alarms as they are. ``ask_as``: the button is there, and whose name stands below it."""
        parts: list[str] = []
        if simulated:
            parts.append(f'<p class="note"><b>{self.words("drill")}</b></p>')
        if says is not None:
            parts.append(f'<p class="note"><b>{self.words(says)}</b></p>')
        parts.append(f"<ul>{''.join(self._item(alarm, asset, now) for alarm, asset in alarms)}</ul>")
        if count > len(alarms):
            parts.append(f'<p class="note">{self.words("more", count=str(count - len(alarms)))}</p>')
        if ask_as is not None:
            parts.append(f'<form method="post"><button>{self.words("button")}</button></form>')
            parts.append(f"<small>{self.words('signed_by', name=ask_as)}</small>")
        return self._page(*parts)

    def _item(self, alarm: Alarm, asset: Asset | None, now: Micros) -> str:
        line, record = alarm.line, alarm.record
        titles = (line.title_zh, line.title_en) if self._zh else (line.title_en, line.title_zh)
        title = titles[0] or titles[1] or line.rule
        place = [part for part in (asset.road, asset.town) if part] if asset is not None else []
        name = (asset.name if asset is not None else "") or line.asset
        level = Level(record.level if record is not None and alarm.fate is not Fate.OVER else line.level)
        facts = [self._level(level), *(escape(part) for part in place)]
        if line.active_at is not None:
            facts.append(self.words("since", time=self._moment(line.active_at, now)))
        state = self._state(alarm, now)
        return (
            f'<li class="{level.name}"><b>{escape(name)} {escape(title)}</b>'
            f"<small>{(' · ').join(facts)}</small><small>{state}</small></li>"
        )

    def _state(self, alarm: Alarm, now: Micros) -> str:
        record = alarm.record
        if alarm.fate is Fate.ACKNOWLEDGED and record is not None and record.acked_by and record.acked_at is not None:
            return self.words("acknowledged", name=record.acked_by, time=self._moment(record.acked_at, now))
        return self.words("needless" if alarm.fate is Fate.ACKNOWLEDGED else alarm.fate.value)

    def _level(self, level: Level) -> str:
        return f"{level.name} 级" if self._zh else f"Level {level.name}"

    def _moment(self, at: Micros, now: Micros) -> str:
        there, here = (datetime.fromtimestamp(t / SECOND, UTC).astimezone(self._zone) for t in (at, now))
        day = "" if there.date() == here.date() else (f"{there:%m-%d} ")
        return f"{day}{there:%H:%M}"

    def _page(self, *parts: str) -> str:
        title = self.words("title")
        language = "zh-CN" if self._zh else "en"
        return (
            f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
            f"<title>{title}</title><style>{STYLE}</style></head>"
            f"<body><main><h1>{escape(self._site)} · {title}</h1>{''.join(parts)}</main></body></html>"
        )
