"""Messages for people as the tests of receivers use them, and the words for them."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.model import MINUTE, Asset, IsaState, Level, Micros
from gateway.core.notification import Channel, Line, Message, MessageKind
from gateway.core.rule import All, Rule
from gateway.notify.dispatcher import Notification
from gateway.notify.links import Links
from gateway.notify.wording import Wording
from tests.console.city import START

ASSETS = {
    "PS-01": Asset("PS-01", "pump", "西泵站", "水泊大街", "水泊街道", "县排水管理处"),
    "RD-3": Asset("RD-3", "road", "人民路下穿", "人民路", "梁山街道", "县排水管理处"),
    "L-1": Asset("L-1", "lamp", "一号灯", "水泊大街", "水泊街道", "养护一所"),
}
RULE = Rule(
    "wetwell-high",
    ("pump",),
    All(()),
    response_zh="启动备用泵，派人到场",
    response_en="Start the spare pump, send somebody",
)
SECRET = "00" * 16
LINKS = Links(SECRET, "https://alarm.example.gov.cn/")


def rule(rule_id: str) -> Rule | None:
    """What is to be done about a full wet well, and of no other rule."""
    return RULE if rule_id == "wetwell-high" else None


def wording(links: Links | None = LINKS, *, codes: bool = True) -> Wording:
    return Wording(ASSETS.get, rule, "Asia/Shanghai", links, codes=codes)


def line(asset: str = "PS-01", **more: Any) -> Line:
    """A full wet well since START."""
    base = Line(
        f"{asset}/wetwell-high", "01J0000000000000000000000A", 3, asset, "wetwell-high", "pump", Level.I,
        IsaState.UNACK, "集水井水位过高", "Wet well too high", 4.812, 4.5, "m", START, None,
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def lines() -> tuple[Line, ...]:
    """Three alarms, the worst first."""
    flood = line(
        "RD-3", alarm_id="RD-3/road-depth", rule="road-depth", level=Level.II, title_zh="道路积水",
        title_en="Road flooding", value=17.0, limit=15.0, unit="cm", active_at=START + MINUTE,
    )  # fmt: skip
    lamp = line(
        "L-1", alarm_id="L-1/lamp-out", rule="lamp-out", level=Level.IV, state=IsaState.ACKED, title_zh="路灯熄灭",
        title_en="Lamp out", value=0.5, limit=20.0, unit="W", active_at=START - 25 * 60 * MINUTE,
    )  # fmt: skip
    return line(), flood, lamp


def message(kind: MessageKind = MessageKind.RAISED, *of: Line, after: Micros = 3 * MINUTE, **more: Any) -> Message:
    told = of or (line(),)
    base = Message(
        "01J.3/flood/s0/zhang", "01J.3/flood", "zhang", kind, START + after, min(one.level for one in told), told,
        len(told), "flood", 0, (Channel("sms", "13800000000"),),
    )  # fmt: skip
    return msgspec.structs.replace(base, **more)


def note(of: Message | None = None, address: str = "", *, doubtful: bool = False, row: int = 77) -> Notification:
    told = of or message()
    return Notification(told.key, None, 2 if doubtful else 1, told, address, doubtful, row)
