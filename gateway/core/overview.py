"""What a big screen counts, asset by asset: lit lamps, open covers, running pumps, levels against their limits.

Each figure says how it is counted, because a county that counts otherwise gets another number from the same lamps. A
value whose quality is bad says nothing. Nothing here knows a rule: the screen shows what is, and alarms what is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec

from gateway.core.model import Asset, Quality, Value
from gateway.core.points import PointState

Ask: TypeAlias = Callable[[str], PointState | None]  # a point of the asset in question

LIT_SHARE = 0.2  # of rated power × dimming: the lit test of the domain; a relay that is on is no light
LIT_TARGET = 98.0  # %: what the county is asked for
OPEN_TILT = 45.0  # degrees: no cover in its frame lies so
MOVED_TILT = 15.0  # degrees, where the cover's tilt_limit does not say
MOST_PUMPS = 12
PIPE_FULL = 100.0  # %
ROAD_FLOODED = 15.0  # cm: GB 50014, one lane passable


class Lamp(Enum):
    NOT_ASKED = "not_asked"  # off by command, or nobody knows the command
    LIT = "lit"
    DARK = "dark"
    UNKNOWN = "unknown"  # should be lit, and does not tell


class Cover(Enum):
    CLOSED = "closed"
    MOVED = "moved"
    OPEN = "open"
    MISSING = "missing"
    UNKNOWN = "unknown"


class Pump(Enum):
    RUNNING = "running"
    STANDBY = "standby"
    MANUAL = "manual"
    FAILED = "failed"


class Share(msgspec.Struct, frozen=True):
    """A value against its limit: ``share`` is 1 at the limit."""

    point: str
    value: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        return self.value / self.limit


def lamp(asset: Asset, ask: Ask, heard: bool, feeder_on: bool | None) -> Lamp:
    """Whether a lamp should be lit now, and is.

    It should when its newest command says so; a lamp that was not ``heard`` for two intervals, or says no command, is
    asked what its feeder is (``feeder_on``). It is lit with at least 20 % of its rated power × dimming (without a rated
    power: of its rated current).
    """
    commanded = believed_state(ask("cmd_on")) if heard else None
    if commanded is None:
        commanded = feeder_on if feeder_on is not None else believed_state(ask("cmd_on"))
    if not commanded:
        return Lamp.NOT_ASKED
    if not heard:
        return Lamp.UNKNOWN
    dim = believed(ask("dim"))
    for point, rated in (("power", "rated_power"), ("current", "rated_current")):
        measured, whole = believed(ask(point)), _attribute(asset, rated)
        if measured is not None and whole is not None:
            return Lamp.LIT if measured >= LIT_SHARE * whole * (1.0 if dim is None else dim / 100) else Lamp.DARK
    return Lamp.UNKNOWN


def cover(asset: Asset, ask: Ask) -> Cover:
    """How a cover lies: what it says itself (``cover``), else its tilt: from 45° open, beyond its ``tilt_limit`` (15°)
    moved."""
    said = _value(ask("cover"))
    if said in ("open", "missing"):
        return Cover(said)
    tilt = believed(ask("tilt"))
    if tilt is not None and tilt >= OPEN_TILT:
        return Cover.OPEN
    if said == "ajar" or (tilt is not None and tilt > (_attribute(asset, "tilt_limit") or MOVED_TILT)):
        return Cover.MOVED
    return Cover.UNKNOWN if said is None and tilt is None else Cover.CLOSED


def water_high(ask: Ask) -> bool:
    """The well's float is wet."""
    return believed_state(ask("water")) is True


def pumps(asset: Asset, ask: Ask) -> list[Pump]:
    """Each pump of a station that says anything: failed when it says a fault, else running, else standing by in
    automatic, else set to manual."""
    found = []
    for number in range(1, round(_attribute(asset, "pumps") or MOST_PUMPS) + 1):
        run, fault, auto = (believed_state(ask(f"p{number}_{what}")) for what in ("run", "fault", "auto"))
        if run is None and fault is None:
            continue
        if fault:
            found.append(Pump.FAILED)
        elif run:
            found.append(Pump.RUNNING)
        else:
            found.append(Pump.MANUAL if auto is False else Pump.STANDBY)
    return found


def without_supply(ask: Ask) -> bool:
    """A cabinet or station says that the mains are gone, or that its contactor is open while it is commanded on."""
    if believed_state(ask("mains")) is False:
        return True
    return believed_state(ask("contactor")) is False and believed_state(ask("cmd_on")) is True


def level(asset: Asset, ask: Ask) -> Share | None:
    """The water of an asset against what it may be: a wet well against its highest level (L6, else the ground), a
    pipe's fill against full, a road's depth against 15 cm. None when nothing is known."""
    match asset.kind:
        case "pump":
            return _share(ask, "wetwell", _attribute(asset, "L6") or _attribute(asset, "ground"), "m")
        case "pipe":
            return _share(ask, "fill", PIPE_FULL, "%")
        case "road":
            return _share(ask, "depth", ROAD_FLOODED, "cm")
        case _:
            return None


def strain(asset: Asset, ask: Ask) -> Share | None:
    """How far a bridge is used: the larger of its mean strain and its deflection, each against its design value."""
    shares = [
        _share(ask, "strain_mean", _attribute(asset, "design_strain"), "µε")
        or _share(ask, "strain", _attribute(asset, "design_strain"), "µε"),
        _share(ask, "deflection", _attribute(asset, "design_deflection"), "mm"),
    ]
    known = [share for share in shares if share is not None]
    return max(known, key=lambda share: share.share) if known else None


def _share(ask: Ask, point: str, limit: float | None, unit: str) -> Share | None:
    value = believed(ask(point))
    if value is None or limit is None or limit <= 0:
        return None
    return Share(point, abs(value), limit, unit)


def believed(state: PointState | None) -> float | None:
    """The number of a point, when it has one and its quality is not bad."""
    value = _value(state)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _value(state: PointState | None) -> Value:
    return None if state is None or state.quality is Quality.BAD else state.value


def believed_state(state: PointState | None) -> bool | None:
    """The same of a point that is true or false."""
    value = _value(state)
    return bool(value) if isinstance(value, (bool, int, float)) else None


def _attribute(asset: Asset, name: str) -> float | None:
    value = asset.attributes.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
