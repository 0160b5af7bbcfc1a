"""Rules in words: every shipped rule in both languages with its numbers, and what each kind of condition is called."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from gateway.config.bundle import read_bundle
from gateway.config.rules import load_rules
from gateway.config.settings import Settings
from gateway.core.names import ATTRIBUTE_NAMES, KIND_NAMES, point_name
from gateway.core.rule import Deviation, Limit, Number, Outside, Rule, Share, Window, depends_on, parts
from gateway.core.vocabulary import COMMON, GATEWAY_POINTS, POINTS
from gateway.core.words import Words, titles_of, words

SHIPPED = load_rules(read_bundle(Settings()).rules)
TITLES = titles_of(SHIPPED.rules)

CHINESE = re.compile("[一-鿿]")
PYTHON = re.compile(r"None|Limit\(|Number\(|Side\.|Over\.|Level\.|\bTrue\b|\bFalse\b|\(\)|\[\]|\{|\}|<|_000|\bN_|pN_")


def numbers(rule: Rule) -> Iterator[tuple[Number, str]]:
    """Every limit in the rule, those of a share's members too, with its unit."""
    conditions = [rule.when, *([rule.clear_when] if rule.clear_when is not None else [])]
    while conditions:
        for part in parts(conditions.pop()):
            match part:
                case Limit() | Share() | Window() | Deviation():
                    yield from ((step.limit, part.unit) for step in part.steps)
                case Outside():
                    yield from ((part.low, part.unit), (part.high, part.unit))
                case _:
                    pass
            if isinstance(part, Share):
                conditions.append(part.where)


def spellings(number: Number, unit: str) -> set[str]:
    """How the number may stand in a text: as it is, small metres in mm, long seconds in min, a factor in per cent."""
    if number.points or number.attributes:
        if number.plus:
            return {f"{abs(number.plus):g}"}
        return {f"{abs(number.factor) * 100:g} %"} if abs(number.factor) != 1 else {""}
    value = abs(number.factor + number.plus)
    more = {f"{value * 1000:g} mm"} if unit == "m" else {f"{value / 60:g} min"} if unit == "s" else set()
    return {f"{value:g}", *more}


@pytest.mark.parametrize("rule", list(SHIPPED), ids=lambda rule: rule.id)
def test_every_shipped_rule_has_words_in_both_languages_with_every_number(rule: Rule) -> None:
    said = words(rule, TITLES)
    assert len(said.zh) == len(said.en) >= 4, "the same lines in both"
    for zh, en in zip(said.zh, said.en, strict=True):
        assert CHINESE.search(zh), zh
        assert not CHINESE.search(en), en
        assert len(zh) - len(zh.lstrip()) == len(en) - len(en.lstrip()), "indented alike"
        assert zh == zh.rstrip()
        assert "  " not in zh.lstrip() + en.lstrip()
    text_zh, text_en = "\n".join(said.zh), "\n".join(said.en)
    for text in (text_zh, text_en):
        assert not PYTHON.search(text), PYTHON.search(text)
    for number, unit in numbers(rule):
        assert any(spelling in text_en for spelling in spellings(number, unit)), (number, text_en)
        assert any(spelling.removesuffix("min") in text_zh for spelling in spellings(number, unit)), (number, text_zh)
    if rule.response_zh:
        assert rule.response_zh in text_zh
    for name in rule.notify:
        assert name in text_zh
        assert name in text_en
    for other in depends_on(rule):
        assert TITLES[other][0] in text_zh
        assert TITLES[other][1] in text_en


def test_every_kind_and_point_of_the_vocabulary_has_a_name() -> None:
    for kind, points in {**POINTS, "gateway": GATEWAY_POINTS}.items():
        assert kind in KIND_NAMES
        for point in (*points, *COMMON):
            zh, en = point_name(kind, point)
            assert CHINESE.search(zh), (kind, point)
            assert en != point or "_" not in point, (kind, point)
    assert point_name("pump", "p2_current") == ("2 号泵电机电流", "motor current of pump 2")
    assert all(CHINESE.search(zh) and not CHINESE.search(en) for zh, en in ATTRIBUTE_NAMES.values())


def rule(text: str) -> Rule:
    """The last rule of a text."""
    return list(load_rules({"rules.yaml": text}, complete=False))[-1]


def of(when: str, kind: str = "pipe", more: str = "") -> Words:
    """The line that says when, and those under it."""
    said = words(rule(f"- {{rule: x, applies_to: {{kind: {kind}}}, when: {when}{more}}}"), TITLES)
    begin = next(i for i, line in enumerate(said.en) if line.startswith("Raised when: "))
    end = next((i for i in range(begin + 1, len(said.en)) if not said.en[i].startswith(" ")), len(said.en))
    return Words(
        tuple(line.removeprefix("报警条件：") for line in said.zh[begin:end]),
        tuple(line.removeprefix("Raised when: ") for line in said.en[begin:end]),
    )


@pytest.mark.parametrize(
    ("kind", "when", "zh", "en"),
    [
        (
            "road",
            "{point: depth, above: 5 cm}",
            "积水深度达到 5 cm（回差 0.25 cm）",
            "the water depth is 5 cm or more (deadband 0.25 cm)",
        ),
        (
            "road",
            "{point: depth, above: 5 cm, inclusive: false, deadband: 0 cm}",
            "积水深度超过 5 cm",
            "the water depth is above 5 cm",
        ),
        (
            "pipe",
            "{point: level, below: 3 cm, inclusive: true, deadband: 0 m, absent: false}",
            "管道水位不高于 30 mm（从未上报时视为不成立）",
            "the water level in the pipe is 30 mm or less (taken as false where it was never reported)",
        ),
        (
            "bridge",
            "{point: gvw, above: {attribute: posted_limit, factor: 1.2}, deadband: 0 t}",
            "车辆总重达到限载的 120 %",
            "the gross vehicle weight is 120 % of the posted weight limit or more",
        ),
        (
            "manhole",
            "{point: tilt, above: {attribute: my_limit, default: 15 deg}, deadband: 0 deg}",
            "倾斜角达到属性 my_limit（未设置时为 15°）",
            "the tilt is the attribute my_limit (15° where it is not given) or more",
        ),
        (
            "pump",
            "{point: wetwell, below: {attribute: L1, plus: -0.1 m}, deadband: 0 m}",
            "集水池水位低于 L1 水位 − 0.1 m",
            "the wet-well level is below the L1 level − 0.1 m",
        ),
        (
            "lamp",
            "{point: voltage, outside: [198 V, 231 V], deadband: 3 V}",
            "电压低于 198 V 或超过 231 V（回差 3 V）",
            "the voltage is below 198 V or above 231 V (deadband 3 V)",
        ),
        (
            "lamp",
            "{point: power, below: 20 %, of: [rated_power, dim], deadband: 0 %}",
            "功率低于额定功率 × 调光值的 20 %",
            "the power is below 20 % of the rated power × the dimming level",
        ),
        (
            "manhole",
            "{point: cover, is: [open, missing]}",
            "井盖打开或井盖丢失",
            "the cover is open or the cover is missing",
        ),
        ("lamp", "{point: fault, is: [3, E7]}", "故障码为 3、E7", "the fault code is 3 or E7"),
        ("pump", "{point: p2_run, is: false}", "水泵停止", "the pump stands still"),
        (
            "pipe",
            "{point: level, rate: {over: 10m, above: 0.5 m, deadband: 0 m}}",
            "管道水位在 10 分钟内上升达到 0.5 m",
            "the water level in the pipe rose by 0.5 m or more within 10 min",
        ),
        (
            "pipe",
            "{point: level, rate: {over: 90s, below: -2 m, deadband: 0 m}}",
            "管道水位在 1 分钟 30 秒内下降超过 2 m",
            "the water level in the pipe fell by more than 2 m within 1 min 30 s",
        ),
        (
            "pipe",
            "{point: level, rate: {over: 1h, below: 0.1 m, deadband: 0 m}}",
            "管道水位在 1 小时内的变化低于 0.1 m",
            "the change of the water level in the pipe within 1 h is below 0.1 m",
        ),
        (
            "pipe",
            "{silent: 3}",
            "设备连续 3 个上报周期没有可信数据",
            "a device gave no good reading for 3 expected intervals",
        ),
        (
            "pipe",
            "{point: level, silent: {intervals: 1, plus: 2h}}",
            "管道水位连续 1 个上报周期又 2 小时没有可信数据",
            "the water level in the pipe gave no good reading for 1 expected interval and 2 h",
        ),
        (
            "bridge",
            "{point: gvw, window: {over: 24h, function: count, counting: {above: 55 t}, above: 20, deadband: 0}}",
            "最近 24 小时内车辆总重超过 55 t 的次数达到 20",
            "within 24 h the number of readings of the gross vehicle weight that are above 55 t is 20 or more",
        ),
        (
            "pipe",
            "{point: fill, window: {over: 2d, function: spread, below: 10 %, deadband: 0 %}}",
            "充满度最近 2 天内的波动幅度（最大减最小）低于 10 %",
            "the filling moved within 2 days by a span that is below 10 %",
        ),
        (
            "pipe",
            "{point: level, frozen: {over: 24h, change: 1 mm, link: catchment, moved: 10 mm}}",
            "管道水位在 24 小时内变化不足 1 mm，而同一汇水区另有一处变化达到 10 mm",
            "the water level in the pipe moved by less than 1 mm in 24 h, while another one of the same catchment "
            "moved by 10 mm or more",
        ),
        (
            "pump",
            "{point: wetwell, deviation: {from: {point: wetwell_2}, above: 0.3 m, deadband: 0 m}}",
            "集水池水位与集水池第二液位计水位相差达到 0.3 m",
            "the wet-well level differs from the wet-well level of the second gauge by 0.3 m or more",
        ),
        (
            "pipe",
            "{stands: {rule: storm-mode, anywhere: true}}",
            "有任一处「暴雨模式」报警",
            "“Storm mode” stands anywhere",
        ),
        (
            "lamp",
            "{stands: {rule: lamp-out, link: before}, level: II}",
            "前一盏有「路灯不亮」报警（II 级）",
            "“Lamp out” stands on the one before it (level II)",
        ),
        (
            "pipe",
            "{not: {stands: unheard-of}}",
            "本设施无「unheard-of」报警",
            "“unheard-of” does not stand on this asset",
        ),
        (
            "pipe",
            "{bad: [level, fill]}",
            "管道水位、充满度任一的最新读数为坏值",
            "the newest reading of the water level in the pipe or the filling is bad",
        ),
        (
            "pump",
            "{expr: 'wetwell > L5 && outfall > wetwell + 0.5'}",
            "表达式成立：`wetwell > L5 && outfall > wetwell + 0.5`",
            "this expression is true: `wetwell > L5 && outfall > wetwell + 0.5`",
        ),
    ],
)
def test_a_condition_is_said_as_people_say_it(kind: str, when: str, zh: str, en: str) -> None:
    assert of(when, kind) == Words((zh,), (en,))


def test_a_ladder_says_its_verb_once_and_each_level() -> None:
    ladder = "{point: depth, above: [{limit: 5 cm, level: IV}, {limit: 15 cm, level: II}], deadband: 3 cm}"
    assert of(ladder, "road").en == (
        "the water depth is 5 cm or more (level IV), 15 cm or more (level II) (deadband 3 cm)",
    )
    assert of(ladder, "road").zh == ("积水深度达到 5 cm（IV 级）、15 cm（II 级）（回差 3 cm）",)


def test_what_is_nested_is_indented_under_what_it_is_part_of() -> None:
    said = of(
        "{all: [{point: cmd_on, is: true}, {share: {of: lamp, link: feeder, least: 5, above: 60 %, deadband: 0 %, "
        "where: {any: [{silent: 3}, {point: on, is: false}]}}}]}",
        "feeder",
    )
    assert said.en == (
        "all of these are true:",
        "  · it is commanded on",
        "  · the share of its lamps (judged from 5 of them on) is 60 % or more, counting those of which at least one "
        "of these is true:",
        "    · a device gave no good reading for 3 expected intervals",
        "    · the lamp is dark",
    )
    assert said.zh[2] == "  · 所辖路灯中（至少 5 个才判断）符合条件者的比例达到 60 %，条件为：以下任一成立："


def test_delays_schedule_life_and_people_have_lines_of_their_own() -> None:
    said = words(
        rule("""
- rule: x
  applies_to: {kind: site, attributes: {lot: true}, profile: v/m}
  when: {point: laeq, window: {over: 20m, function: mean, above: 70, deadband: 3}}
  level: II
  on_delay: 3 readings
  off_delay: 90m
  schedule: {between: ["22:00", sunrise - 30m], days: [sat, sun], season: ["11-15", "03-15"], zone: Asia/Urumqi}
  latch: true
  confirm: true
  realarm: {after: 30m, times: 3}
  chatter: {activations: 5, within: 2m}
  max_time_shelved: 2d
  on_bad_data: assume_normal
  bad_data_reason: it reports when it likes
  suppress_when: [{cause: raining}, {cause: network-lost, link: network}]
  settle: 5m
  response: {zh: 去看看}
  notify: [ops]
  sla: {respond: 15m, resolve: 24h, clock: working_days}
  case: true
  shadow: true
  shadow_of: site-noise-day
  enabled: false
"""),
        TITLES,
    )
    assert said.en == (
        "Applies to: building sites with a device of profile v/m whose lot is yes",
        "Switched off: it raises nothing",
        "On trial: recorded, told to nobody; compared with “Noise from a building site by day”",
        "Raised when: the mean of the equivalent sound level over 20 min is 70 dB(A) or more (deadband 3 dB(A))",
        "Level: II (orange)",
        "Delays: raised after 3 readings in a row; over when it has been normal for 1 h 30 min",
        "In force: from 22:00 to 30 min before sunrise, Sat, Sun, from 15 November to 15 March (Asia/Urumqi)",
        "Latched: stays up until somebody has looked and resets it",
        "Needs a second sign-off, with its cause, when it is over",
        "Asks again when it still stands 30 min after it was acknowledged, at most 3 times",
        "Raised 5 times within 2 min it chatters, and is told folded",
        "May be shelved for 2 days at most",
        "Data that cannot be trusted count as normal (it reports when it likes)",
        "Not told while “Rain” stands on this asset, or “A network lost many of its devices” stands on its network; it "
        "speaks for itself again 5 min after that has gone",
        "Response: 去看看",
        "Told: ops",
        "Deadline: respond within 15 min, resolve within 1 day (in working days)",
        "Pushed to the city's case platform",
    )


def test_an_override_says_only_what_is_otherwise() -> None:
    said = words(
        rule("""
- rule: x
  applies_to: {kind: road}
  when: {point: depth, above: 5 cm, deadband: 1 cm}
  on_delay: 2m
  overrides:
    - {assets: [road-7, road-u*], set: {when.above: 3 cm, level: III}}
""")
    )
    assert said.en[-3:] == (
        "Otherwise for road-7, road-u*:",
        "  · Raised when: the water depth is 3 cm or more (deadband 1 cm)",
        "  · Level: III (yellow)",
    )
    assert said.zh[-3] == "例外（road-7、road-u*）："
