"""A condition in Chinese and English: one line a limit, indented under the `all` or `any` that it is part of.

Numbers stand in the canonical unit of their point; in millimetres and minutes where that reads better.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, assert_never

from gateway.core.model import HOUR, MINUTE, SECOND, Level, Micros
from gateway.core.names import STATES as STATE_NAMES
from gateway.core.names import Pair, attribute_name, common_name, kind_name, link_name, point_name
from gateway.core.rule import (
    ZERO,
    All,
    Any,
    Bad,
    Condition,
    Deviation,
    Expression,
    Frozen,
    Is,
    Leaf,
    Limit,
    Not,
    Number,
    Outside,
    Over,
    PointFactor,
    Pumps,
    Share,
    Side,
    Silent,
    Stands,
    Step,
    Window,
)
from gateway.core.vocabulary import unit_of

SHOWN_UNITS: dict[str, Pair] = {
    "deg": ("°", "°"),
    "d": ("天", "days"),
    "h": ("小时", "h"),
    "min": ("分钟", "min"),
    "s": ("秒", "s"),
}
NO_GAP = frozenset({"°"})
SMALL_M = 0.05  # metres below this are told in millimetres

_ASCII_EDGE = re.compile(r"(?<=[一-鿿])(?=[A-Za-z0-9−+(`])|(?<=[A-Za-z0-9%°³²℃)`])(?=[一-鿿])")

_VERB_ZH = re.compile(r"^(?:达到|超过|低于|不高于)")
_VERB_EN = re.compile(r"^(?:is | )")


class Line(NamedTuple):
    """``depth``: 0 for a line by itself."""

    depth: int
    zh: str
    en: str


def duration_words(length: Micros, days: bool = False) -> Pair:
    """90 min → ("1 小时 30 分钟", "1 h 30 min"); one day is 24 hours unless it is counted in ``days``."""
    if length < SECOND:
        return f"{length / 1000:g} 毫秒", f"{length / 1000:g} ms"
    whole, rest = divmod(length, 24 * HOUR)
    if not rest and whole > (0 if days else 1):
        return f"{whole} 天", f"{whole} day{'' if whole == 1 else 's'}"
    zh, en = [], []
    for size, name, unit in ((HOUR, "小时", "h"), (MINUTE, "分钟", "min"), (SECOND, "秒", "s")):
        count = length / size if size == SECOND else length // size
        if count:
            zh.append(f"{count:g} {name}")
            en.append(f"{count:g} {unit}")
        length -= int(count * size)
    return " ".join(zh), " ".join(en)


def spaced(zh: str) -> str:
    """A gap between Chinese and Latin letters or digits, as printers set it."""
    return _ASCII_EDGE.sub(" ", zh)


def value_words(value: float, unit: str) -> Pair:
    """A number with its unit."""
    if unit == "m" and 0 < abs(value) < SMALL_M:
        value, unit = value * 1000, "mm"
    if unit == "s" and value >= 120 and value % 60 == 0:
        value, unit = value / 60, "min"
    shown = f"{value:.10g}".replace("-", "−")
    zh, en = SHOWN_UNITS.get(unit, (unit, unit))
    if value == 1:
        en = en.removesuffix("s") if unit == "d" else en
    gap = "" if not unit or unit in NO_GAP or zh in NO_GAP else " "
    return f"{shown}{gap}{zh}", f"{shown}{gap}{en}"


def level_words(level: Level) -> Pair:
    return f"{level.name} 级", f"level {level.name}"


class ConditionWords:
    """``kinds`` of the assets that the condition is asked of; ``titles`` of rules by id."""

    def __init__(self, kinds: tuple[str, ...], titles: Mapping[str, Pair], deadbands: bool = True) -> None:
        self._kinds = kinds
        self._titles = titles
        self._deadbands = deadbands

    def lines(self, condition: Condition, depth: int = 0) -> list[Line]:
        """One line for a leaf; for a combination a heading that ends with a colon, and its parts below."""
        match condition:
            case All(of):
                return self._several("以下全部成立：", "all of these are true:", of, depth)
            case Any(of):
                return self._several("以下任一成立：", "at least one of these is true:", of, depth)
            case Not(part):
                return self._not(part, depth)
            case Pumps(part, every):
                heading = ("每台水泵：", "every pump:") if every else ("任一台水泵：", "any pump:")
                return self._headed(heading, part, depth)
            case Share():
                return self._share(condition, depth)
            case _:
                zh, en = self._leaf(condition)
                return [Line(depth, spaced(zh), en)]

    def title(self, rule: str) -> Pair:
        """What an alarm is called; by its id when the rule is not among those known."""
        zh, en = self._titles.get(rule, (rule, rule))
        return f"「{zh}」", f"“{en}”"

    # -- combinations -------------------------------------------------------------------------------------------------

    def _several(self, zh: str, en: str, of: Iterable[Condition], depth: int) -> list[Line]:
        return [Line(depth, zh, en), *(line for part in of for line in self.lines(part, depth + 1))]

    def _headed(self, heading: Pair, part: Condition, depth: int) -> list[Line]:
        """On one line when ``part`` is a leaf."""
        inner = self.lines(part, depth + 1)
        if len(inner) == 1:
            return [Line(depth, spaced(heading[0] + inner[0].zh), f"{heading[1]} {inner[0].en}")]
        if not isinstance(part, (All, Any)):
            return [Line(depth, *heading), *inner]
        first, *rest = self.lines(part, depth)
        return [Line(depth, heading[0] + first.zh, f"{heading[1]} {first.en}"), *rest]

    def _not(self, part: Condition, depth: int) -> list[Line]:
        match part:
            case Any(of):
                return self._several("以下均不成立：", "none of these is true:", of, depth)
            case All(of):
                return self._several("以下并非全部成立：", "not all of these are true:", of, depth)
            case Stands():
                zh, en = self._stands(part, stands=False)
                return [Line(depth, spaced(zh), en)]
            case Bad(points):
                zh, en = self._points(points)
                each = "均" if len(points) > 1 else ""
                return [Line(depth, spaced(f"{zh}的最新读数{each}不是坏值"), f"no newest reading of {en} is bad")]
            case Pumps(inner, False):
                return self._headed(("没有任何一台水泵：", "no pump:"), inner, depth)
            case _:
                return self._headed(("以下不成立：", "it is not so that"), part, depth)

    def _share(self, share: Share, depth: int) -> list[Line]:
        members = kind_name(share.of)
        inner = ConditionWords((share.of,), self._titles, deadbands=False)  # members are counted by the limit alone
        least_zh = f"（至少 {share.least} 个才判断）" if share.least > 1 else ""
        least_en = f" (judged from {share.least} of them on)" if share.least > 1 else ""
        band_zh, band_en = self._ladder(share.side, share.inclusive, share.steps, share.deadband, "%")
        heading = (
            f"所辖{members[0]}中{least_zh}符合条件者的比例{band_zh}，条件为：",
            f"the share of its {members[1]}{least_en} {band_en}, counting those of which",
        )
        return inner._headed((spaced(heading[0]), heading[1]), share.where, depth)

    # -- leaves -------------------------------------------------------------------------------------------------------

    def _leaf(self, leaf: Leaf) -> Pair:
        match leaf:
            case Limit():
                said = self._rate(leaf) if leaf.over is not None else self._limit(leaf)
                return _with(said, _absent(leaf.absent))
            case Outside():
                return _with(self._outside(leaf), _absent(leaf.absent))
            case Is():
                return _with(self._is(leaf), _level(leaf.step), _absent(leaf.absent))
            case Silent():
                return _with(self._silent(leaf), _level(leaf.step))
            case Window():
                return self._window(leaf)
            case Frozen():
                return _with(self._frozen(leaf), _level(leaf.step))
            case Deviation():
                return self._deviation(leaf)
            case Stands():
                return _with(self._stands(leaf), _level(leaf.step))
            case Bad(points):
                zh, en = self._points(points)
                any_of = "任一" if len(points) > 1 else ""
                return _with((f"{zh}{any_of}的最新读数为坏值", f"the newest reading of {en} is bad"), _level(leaf.step))
            case Expression(text):
                return _with((f"表达式成立：`{text}`", f"this expression is true: `{text}`"), _level(leaf.step))
            case Share():
                raise AssertionError("a share has lines of its own")
            case _:
                assert_never(leaf)

    def _limit(self, limit: Limit) -> Pair:
        zh, en = self._point(limit.point)
        band_zh, band_en = self._ladder(limit.side, limit.inclusive, limit.steps, limit.deadband, limit.unit)
        return f"{zh}{band_zh}", f"the {en} {band_en}"

    def _rate(self, limit: Limit) -> Pair:
        """A change: rose by, fell by; where that cannot be said, the change beyond its limit."""
        zh, en = self._point(limit.point)
        within_zh, within_en = duration_words(limit.over or 0)
        up = limit.side is Side.ABOVE
        plain = all(not step.limit.attributes and not step.limit.points for step in limit.steps)
        signs = {step.limit.factor + step.limit.plus for step in limit.steps}
        if plain and all(value > 0 if up else value < 0 for value in signs):
            verb = ("上升", "rose by") if up else ("下降", "fell by")
            more_zh, more_en = ("达到", " or more") if limit.inclusive else ("超过", "")
            by = "" if limit.inclusive else " more than"

            def say(number: Number) -> Pair:
                value = value_words(abs(number.factor + number.plus), limit.unit)
                return f"{more_zh}{value[0]}", f"{by} {value[1]}{more_en}"

            band_zh, band_en = self._rungs(limit.steps, say)
            tail_zh, tail_en = self._band(limit.deadband, limit.unit)
            return (
                f"{zh}在 {within_zh}内{verb[0]}{band_zh}{tail_zh}",
                f"the {en} {verb[1]}{band_en} within {within_en}{tail_en}",
            )
        band_zh, band_en = self._ladder(limit.side, limit.inclusive, limit.steps, limit.deadband, limit.unit)
        return f"{zh}在 {within_zh}内的变化{band_zh}", f"the change of the {en} within {within_en} {band_en}"

    def _outside(self, band: Outside) -> Pair:
        zh, en = self._point(band.point)
        low, high = number_words(band.low, band.unit), number_words(band.high, band.unit)
        tail = self._band(band.deadband, band.unit)
        return _with(
            (f"{zh}低于 {low[0]} 或超过 {high[0]}{tail[0]}", f"the {en} is below {low[1]} or above {high[1]}{tail[1]}"),
            _level(band.step),
        )

    def _is(self, wanted: Is) -> Pair:
        known = STATE_NAMES.get(re.sub(r"^p\d{1,2}_", "pN_", wanted.point), {})
        found = [
            known[value]
            for value in wanted.values
            if value in known and all(type(value) is type(key) for key in known if key == value)
        ]
        if len(found) == len(wanted.values):
            return "或".join(pair[0] for pair in found), " or ".join(pair[1] for pair in found)
        zh, en = self._point(wanted.point)
        zh_values = [("是" if v else "否") if isinstance(v, bool) else _plain(v) for v in wanted.values]
        en_values = [("true" if v else "false") if isinstance(v, bool) else _plain(v) for v in wanted.values]
        return f"{zh}为 {'、'.join(zh_values)}{' 之一' if len(found) else ''}", f"the {en} is {' or '.join(en_values)}"

    def _silent(self, silent: Silent) -> Pair:
        count = f"{silent.intervals:g}"
        plus_zh, plus_en = duration_words(silent.plus) if silent.plus else ("", "")
        zh = f"连续 {count} 个上报周期{f'又 {plus_zh}' if plus_zh else ''}没有可信数据"
        intervals = "interval" if silent.intervals == 1 else "intervals"
        en = f"gave no good reading for {count} expected {intervals}{f' and {plus_en}' if plus_en else ''}"
        if silent.point is None:
            return f"设备{zh}", f"a device {en}"
        point = self._point(silent.point)
        return f"{point[0]}{zh}", f"the {point[1]} {en}"

    def _window(self, window: Window) -> Pair:
        zh, en = self._point(window.point)
        over_zh, over_en = duration_words(window.over)
        band_zh, band_en = self._ladder(window.side, window.inclusive, window.steps, window.deadband, window.unit)
        match window.function:
            case Over.MEAN:
                return f"{zh}最近 {over_zh}的平均值{band_zh}", f"the mean of the {en} over {over_en} {band_en}"
            case Over.MIN:
                return f"{zh}最近 {over_zh}的最小值{band_zh}", f"the least {en} over {over_en} {band_en}"
            case Over.MAX:
                return f"{zh}最近 {over_zh}的最大值{band_zh}", f"the greatest {en} over {over_en} {band_en}"
            case Over.SPREAD:
                return (
                    f"{zh}最近 {over_zh}内的波动幅度（最大减最小）{band_zh}",
                    f"the {en} moved within {over_en} by a span that {band_en}",
                )
            case Over.CHANGES:
                return (
                    f"{zh}最近 {over_zh}内的变化次数{band_zh}",
                    f"the number of changes of the {en} in {over_en} {band_en}",
                )
            case Over.COUNT:
                if window.counting is None:
                    return (
                        f"{zh}最近 {over_zh}内的读数个数{band_zh}",
                        f"the number of readings of the {en} in {over_en} {band_en}",
                    )
                side, limit = window.counting
                unit = unit_of(self._kinds[0], window.point) or ""
                beyond_zh, beyond_en = _bound(side, False, number_words(limit, unit))
                return (
                    f"最近 {over_zh}内{zh}{beyond_zh}的次数{band_zh}",
                    f"within {over_en} the number of readings of the {en} that {_plural(beyond_en)} {band_en}",
                )
            case _:
                assert_never(window.function)

    def _frozen(self, frozen: Frozen) -> Pair:
        zh, en = self._point(frozen.point)
        over = duration_words(frozen.over)
        change = value_words(frozen.change, frozen.unit)
        still = (f"{zh}在 {over[0]}内变化不足 {change[0]}", f"the {en} moved by less than {change[1]} in {over[1]}")
        if frozen.link is None:
            return still
        moved, common = value_words(frozen.moved, frozen.unit), common_name(frozen.link)
        return (
            f"{still[0]}，而同一{common[0]}另有一处变化达到 {moved[0]}",
            f"{still[1]}, while another one of the same {common[1]} moved by {moved[1]} or more",
        )

    def _deviation(self, deviation: Deviation) -> Pair:
        zh, en = self._point(deviation.point)
        if deviation.other is not None:
            other = self._point(deviation.other)
            reference = other[0], f"the {other[1]}"
        elif deviation.link is not None:
            common = common_name(deviation.link)
            reference = f"同一{common[0]}其他测点的中位数", f"the median of the others of the same {common[1]}"
        else:
            reference = number_words(deviation.number or ZERO, deviation.unit)
        more_zh, tail_en = ("达到", " or more") if deviation.inclusive else ("超过", "")
        by = "" if deviation.inclusive else " more than"

        def say(number: Number) -> Pair:
            value = number_words(number, deviation.unit)
            return f"{more_zh}{value[0]}", f"{by} {value[1]}{tail_en}"

        band_zh, band_en = self._rungs(deviation.steps, say)
        tail = self._band(deviation.deadband, deviation.unit)
        return (
            f"{zh}与{reference[0]}相差{band_zh}{tail[0]}",
            f"the {en} differs from {reference[1]} by{band_en}{tail[1]}",
        )

    def _stands(self, stands_on: Stands, stands: bool = True) -> Pair:
        zh, en = self.title(stands_on.rule)
        if stands_on.anywhere:
            return (
                (f"有任一处{zh}报警", f"{en} stands anywhere")
                if stands
                else (f"无任何一处{zh}报警", f"{en} stands nowhere")
            )
        if stands_on.beside and stands_on.link is not None:
            common = common_name(stands_on.link)
            where = f"同一{common[0]}的其他设施", f"another one of the same {common[1]}"
        elif stands_on.link is not None:
            where = link_name(stands_on.link)
        else:
            where = "本设施", "this asset"
        verb = ("有", "stands") if stands else ("无", "does not stand")
        return f"{where[0]}{verb[0]}{zh}报警", f"{en} {verb[1]} on {where[1]}"

    # -- numbers ------------------------------------------------------------------------------------------------------

    def _point(self, point: str) -> Pair:
        """By its own kind; where a rule is about several kinds that call it differently, by the general name."""
        names = {point_name(kind, point) for kind in self._kinds}
        return names.pop() if len(names) == 1 else point_name("", point)

    def _points(self, points: tuple[str, ...]) -> Pair:
        names = [self._point(point) for point in points]
        return "、".join(pair[0] for pair in names), " or ".join(f"the {pair[1]}" for pair in names)

    def _ladder(self, side: Side, inclusive: bool, steps: tuple[Step, ...], deadband: Number, unit: str) -> Pair:
        zh, en = self._rungs(steps, lambda number: _bound(side, inclusive, number_words(number, unit)))
        tail = self._band(deadband, unit)
        return f"{zh}{tail[0]}", f"{en}{tail[1]}"

    def _rungs(self, steps: tuple[Step, ...], say: Callable[[Number], Pair]) -> Pair:
        """Of a ladder, the verb once: is 5 cm or more (level IV), 15 cm or more (level II)."""
        said = [_with(say(step.limit), _level(step)) for step in steps]
        more = [(_VERB_ZH.sub("", zh), _VERB_EN.sub("", en)) for zh, en in said[1:]]
        return "、".join(pair[0] for pair in (*said[:1], *more)), ", ".join(pair[1] for pair in (*said[:1], *more))

    def _band(self, deadband: Number, unit: str) -> Pair:
        if not self._deadbands or deadband == ZERO or not (deadband.factor or deadband.plus):
            return "", ""
        band = number_words(deadband, unit)
        return f"（回差 {band[0]}）", f" (deadband {band[1]})"


def number_words(number: Number, unit: str) -> Pair:
    """A limit: 5 cm; 120 % of the posted weight limit; the L6 level − 0.3 m; 20 % of the rated power."""
    if not number.attributes and not number.points:
        return value_words(number.factor + number.plus, unit)
    names = [attribute_name(name) for name, _ in number.attributes]
    names += [_factor(factor) for factor in number.points]
    zh, en = " × ".join(pair[0] for pair in names), " × ".join(f"the {pair[1]}" for pair in names)
    factor, plus = number.factor, value_words(abs(number.plus), unit)
    if factor == -1.0 and number.plus > 0:
        zh, en = f"{plus[0]} 减{zh}", f"{plus[1]} less {en}"
    else:
        if factor == -1.0:
            zh, en = f"{zh}的负值", f"the negative of {en}"
        elif 0.001 <= abs(factor) < 10 and factor != 1.0:
            share = f"{factor * 100:.6g} %".replace("-", "−")
            zh, en = f"{zh}的 {share}", f"{share} of {en}"
        elif factor != 1.0:  # a conversion of units, mostly
            times = f"{factor:.6g}".replace("-", "−")
            zh, en = f"{zh}的 {times} 倍", f"{times} × {en}"
        if number.plus:
            sign = "+" if number.plus > 0 else "−"
            zh, en = f"{zh} {sign} {plus[0]}", f"{en} {sign} {plus[1]}"
    if all(default is not None for _, default in number.attributes) and not number.points and number.attributes:
        value = number.factor
        for _, default in number.attributes:
            value *= default or 0.0
        fallback = value_words(value + number.plus, unit)
        zh, en = f"{zh}（未设置时为 {fallback[0]}）", f"{en} ({fallback[1]} where it is not given)"
    return zh, en


def _factor(factor: PointFactor) -> Pair:
    zh, en = point_name("", factor.point)
    if factor.absent is None:
        return zh, en
    zh_value, en_value = value_words(factor.absent / factor.scale, "%" if factor.scale != 1.0 else "")
    return f"{zh}（未上报时按 {zh_value}）", f"{en} ({en_value} where it was never reported)"


def _bound(side: Side, inclusive: bool, limit: Pair) -> Pair:
    if side is Side.ABOVE:
        return (
            (f"达到{limit[0]}", f"is {limit[1]} or more") if inclusive else (f"超过{limit[0]}", f"is above {limit[1]}")
        )
    return (f"不高于{limit[0]}", f"is {limit[1]} or less") if inclusive else (f"低于{limit[0]}", f"is below {limit[1]}")


def _plural(clause: str) -> str:
    return f"are {clause.removeprefix('is ')}"


def _level(step: Step) -> Pair:
    if step.level is None:
        return "", ""
    zh, en = level_words(step.level)
    return f"（{zh}）", f" ({en})"


def _absent(absent: bool | None) -> Pair:
    if absent is None:
        return "", ""
    if absent:
        return "（从未上报时视为成立）", " (taken as true where it was never reported)"
    return "（从未上报时视为不成立）", " (taken as false where it was never reported)"


def _with(said: Pair, *more: Pair) -> Pair:
    return said[0] + "".join(pair[0] for pair in more), said[1] + "".join(pair[1] for pair in more)


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
