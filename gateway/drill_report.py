"""A drill's report as one HTML page that needs nothing else: the verdict, the figures, and the timeline drawn.

Everything that came from a file or a device is escaped; there is no script in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

WIDTH, LABEL, ROW = 1000, 250, 16  # pixels of the drawing, of its left margin, of one alarm
SHOWN_ROWS = 400
COLOURS = {"I": "#c62828", "II": "#ef6c00", "III": "#c9a100", "IV": "#1565c0"}
TICKS = 12
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

_STYLE = """
body { font: 14px/1.5 "Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", system-ui, sans-serif; margin: 24px auto;
  max-width: 1080px; color: #1c2733; background: #fff; padding: 0 16px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 28px 0 8px; }
.en { color: #5b6b7b; } .verdict { display: inline-block; padding: 4px 14px; border-radius: 4px; font-weight: 600;
  color: #fff; } .passed { background: #2e7d32; } .failed { background: #c62828; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.figure { border: 1px solid #d8dee5; border-radius: 6px; padding: 8px 14px; min-width: 120px; }
.figure b { display: block; font-size: 22px; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 4px 8px;
  border-bottom: 1px solid #e6ebf0; vertical-align: top; } td.n, th.n { text-align: right;
  font-variant-numeric: tabular-nums; } .bad { color: #c62828; font-weight: 600; }
svg text { font: 10px "Noto Sans CJK SC", system-ui, sans-serif; fill: #1c2733; }
.key span { display: inline-block; width: 26px; height: 10px; margin: 0 4px 0 14px; vertical-align: middle; }
"""


def html_page(report: Mapping[str, Any]) -> str:
    """``report`` as ``drill`` gives it."""
    title, passed = report["title"], report["passed"]
    report = _at_the_site(report, ZoneInfo(report["timezone"]))
    parts = [
        f"<!doctype html><html lang='zh'><meta charset='utf-8'><title>{escape(title['zh'])}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>演练报告：{escape(title['zh'])} <span class='en'>Drill: {escape(title['en'])}</span></h1>",
        f"<p>{escape(report['start'])} → {escape(report['end'])} · {report['assets']} 设施 assets · "
        f"{report['devices']} 设备 devices · seed {report['seed']} · speed {escape(str(report['speed']))} · "
        f"规则 rules: {escape(report['rules'])}</p>",
        f"<p><span class='verdict {'passed' if passed else 'failed'}'>{'合格 PASSED' if passed else '不合格 FAILED'}"
        f"</span> {escape('; '.join(report['short_of_floor']))}</p>",
        _figures(report),
        "<h2>时间线 <span class='en'>Timeline</span></h2>",
        _key(),
        _drawing(report),
        _rules(report["by_rule"]),
        _missed(report["missed"]),
        _false(report["false_alarms"]),
        _acts(report["acts"]),
    ]
    return "\n".join(parts) + "</html>\n"


def _at_the_site(part: Any, zone: ZoneInfo) -> Any:
    """Every time of the report as the site's clocks show it."""
    match part:
        case str() if _TIME.fullmatch(part):
            return datetime.fromisoformat(part).astimezone(zone).isoformat(timespec="seconds")
        case Mapping():
            return {name: _at_the_site(one, zone) for name, one in part.items()}
        case list():
            return [_at_the_site(one, zone) for one in part]
        case _:
            return part


def _figures(report: Mapping[str, Any]) -> str:
    total, load, one = report["total"], report["operator_load"], report["level_I"]
    rows = [
        ("检出率", "recall", _percent(total["recall"])),
        ("准确率", "precision", _percent(total["precision"])),
        ("一级检出", "level I found", f"{one['detected']}/{one['expected']}"),
        ("检出时延中位", "median delay", _seconds(total["delay_median_s"])),
        ("误报 / 千设施日", "false / 1,000 asset-days", _number(report["false_alarms_per_1000_asset_days"])),
        ("告警 / 10 分钟", "alarms / 10 min", _number(load["per_10_min"])),
        ("10 分钟峰值", "peak in 10 min", str(load["peak_10_min"])),
    ]
    cells = [
        f"<div class='figure'>{zh} <span class='en'>{en}</span><b>{escape(value)}</b></div>" for zh, en, value in rows
    ]
    return f"<div class='figures'>{''.join(cells)}</div>"


def _key() -> str:
    levels = "".join(f"<span style='background:{colour}'></span>{level} 级" for level, colour in COLOURS.items())
    return (
        "<p class='key'><span style='background:#e3eaf1'></span>可能告警 <i class='en'>may be</i>"
        "<span style='background:none;border:1px solid #37474f'></span>应告警 <i class='en'>expected</i>"
        f"{levels} <i class='en'>stood</i> <span class='bad' style='width:auto'>✕</span>漏报 <i class='en'>missed</i>"
        "<span class='bad' style='width:auto'>!</span>误报 <i class='en'>false</i></p>"
    )


def _drawing(report: Mapping[str, Any]) -> str:
    rows: Sequence[Mapping[str, Any]] = report["timeline"]
    # The worst first where there is no room for all: what was missed or false, then what was expected.
    if len(rows) > SHOWN_ROWS:
        rows = sorted(rows, key=lambda row: (not row["missed"], not row["false"], not row["expected"]))[:SHOWN_ROWS]
        rows = sorted(rows, key=lambda row: str(row["alarm"]))
    lasts = max(1.0, float(report["lasts_s"]))
    height = ROW * len(rows) + 34
    scale = (WIDTH - LABEL - 10) / lasts

    def x(second: float) -> float:
        return round(LABEL + second * scale, 1)

    drawn = [f"<svg viewBox='0 0 {WIDTH} {height}' width='100%' role='img' aria-label='timeline'>"]
    for step in range(TICKS + 1):
        second = lasts * step / TICKS
        drawn.append(f"<line x1='{x(second)}' x2='{x(second)}' y1='18' y2='{height - 4}' stroke='#e6ebf0'/>")
        drawn.append(f"<text x='{x(second)}' y='12' text-anchor='middle'>{_clock(report['start'], second)}</text>")
    for number, row in enumerate(rows):
        y = 22 + ROW * number
        drawn.append(f"<text x='{LABEL - 8}' y='{y + 10}' text-anchor='end'>{escape(row['alarm'])}</text>")
        for begin, end in row["hazards"]:
            drawn.append(_bar(x(begin), x(end), y + 1, 11, "#e3eaf1"))
        for begin, end, level, told in row["stood"]:
            colour = COLOURS[level] if told else f"{COLOURS[level]}66"
            tip = f"{level} {_clock(report['start'], begin)}–{_clock(report['start'], end)}"
            drawn.append(_bar(x(begin), x(end), y + 4, 5, colour, tip))
        for begin, end, level in row["expected"]:
            left, right = x(begin), max(x(begin) + 2, x(end))
            drawn.append(
                f"<rect x='{left}' y='{y + 1}' width='{round(right - left, 1)}' height='11' fill='none' "
                f"stroke='#37474f'><title>{escape(level)}</title></rect>"
            )
        marks = ("✕" if row["missed"] else "") + ("!" if row["false"] else "")
        if marks:
            drawn.append(f"<text x='{LABEL - 4}' y='{y + 10}' style='fill:#c62828'>{marks}</text>")
    return "".join([*drawn, "</svg>"])


def _bar(left: float, right: float, y: float, height: float, colour: str, tip: str = "") -> str:
    width = round(max(2.0, right - left), 1)
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f"<rect x='{left}' y='{y}' width='{width}' height='{height}' fill='{colour}'>{title}</rect>"


def _rules(rules: Mapping[str, Mapping[str, Any]]) -> str:
    head = (
        "<th>规则 rule</th><th class='n'>应告警 expected</th><th class='n'>检出 detected</th>"
        "<th class='n'>告警 raised</th><th class='n'>误报 false</th><th class='n'>时延中位 median</th>"
        "<th class='n'>时延 95 %</th>"
    )
    rows = [
        f"<tr><td>{escape(name)}</td><td class='n'>{rule['expected']}</td>"
        f"<td class='n{' bad' if rule['detected'] < rule['expected'] else ''}'>{rule['detected']}</td>"
        f"<td class='n'>{rule['raised']}</td><td class='n{' bad' if rule['false'] else ''}'>{rule['false']}</td>"
        f"<td class='n'>{_seconds(rule['delay_median_s'])}</td><td class='n'>{_seconds(rule['delay_p95_s'])}</td></tr>"
        for name, rule in rules.items()
    ]
    return _table("按规则", "By rule", head, rows)


def _missed(missed: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(one['alarm_id'])}</td><td>{one['level']}</td><td>{escape(one['since'])}</td>"
        f"<td>{escape(one['late_at'] or '–')}</td><td>{escape(one['why']['zh'])}<br>"
        f"<span class='en'>{escape(one['why']['en'])}</span></td></tr>"
        for one in missed
    ]
    head = "<th>告警 alarm</th><th>级 level</th><th>起 since</th><th>迟到 late</th><th>为何 why</th>"
    return _table("漏报", "Missed", head, rows)


def _false(alarms: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(one['alarm_id'])}</td><td>{one['level']}</td><td>{escape(one['at'])}</td>"
        f"<td>{escape(str(one['value']))} {escape(one['unit'])}</td><td>{escape(str(one['limit']))}</td></tr>"
        for one in alarms
    ]
    head = "<th>告警 alarm</th><th>级 level</th><th>时间 at</th><th>值 value</th><th>限值 limit</th>"
    return _table("误报", "False alarms", head, rows)


def _acts(acts: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"<tr><td>{escape(act['zh'])} <span class='en'>{escape(act['en'])}</span></td><td>{escape(act['asset'])}</td>"
        f"<td>{escape(act['since'])}</td><td>{escape(act['until'] or '–')}</td>"
        f"<td class='n'>{act['incidents']}</td></tr>"
        for act in acts
    ]
    head = "<th>事件 act</th><th>设施 asset</th><th>起 from</th><th>止 to</th><th class='n'>独立告警 incidents</th>"
    return _table("注入的事件", "What was done", head, rows)


def _table(zh: str, en: str, head: str, rows: Sequence[str]) -> str:
    if not rows:
        return f"<h2>{zh} <span class='en'>{en}</span></h2><p>无 none</p>"
    return f"<h2>{zh} <span class='en'>{en}</span></h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _clock(start: str, second: float) -> str:
    """The time of day at the site, as the report's start has it."""
    hours, minutes, seconds = (float(part) for part in start[11:19].split(":"))
    passed = int(hours * 3600 + minutes * 60 + seconds + second)
    return f"{passed // 3600 % 24:02d}:{passed // 60 % 60:02d}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:g} s"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
