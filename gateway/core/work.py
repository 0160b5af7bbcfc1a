"""Work on an alarm: whom we sent, how far they are, and whether the readings agree that it is done. One table.

Theory. Work is a region of its own beside those of ``core/alarms.py``: it never changes the condition, and the
condition changes it in two places only (a failed check, W7; a relapse, W8). What a crew says is a claim; the order is
closed by readings that are *newer than the claim*, or by a person who puts their name to it. Old data, bad data and
silence close nothing. Shelved, suppressed or out of service: work goes on all the same.

While an order is VERIFYING, the *verdict* of the readings is false (the condition is not true), true, or not known: not
every point the rule looks at has a good reading that was measured and received after ``done_at``, or it is not the
rule's time. Like a pending condition, a verdict is waiting and not history: never recorded. It takes effect when it has
lasted: for W6 the off-delay of the mildest rung, for W7 its on-delay, and 60 s at least.

Of a rule that counts others (``share``) those count whose readings are fresh; the others are taken as either, and the
verdict is known when it is the same both ways. A silence ends with a reading, like every doubt.

=====  ====================  =====================================  ===================================================
row    from                  event                                  effect (all recorded; who hears of it is decided
                                                                    elsewhere, from the row)
=====  ====================  =====================================  ===================================================
W1     NONE, CLOSED          dispatch                               DISPATCHED, a new order; after CLOSED of the same
                                                                    occurrence the same one, reopened + 1
W1     REJECTED, or open     dispatch, to others                    DISPATCHED, the same order begins anew
W2     DISPATCHED            accept                                 ACCEPTED; an unacknowledged alarm is acknowledged
W3     DISPATCHED, ACCEPTED  refuse, with a reason                  REJECTED: somebody else must be sent
W4     ACCEPTED              on site, perhaps with a position       ON_SITE; the distance, and whether it is far
W5     ACCEPTED, ON_SITE     done, with cause code and what         VERIFYING; DONE where no reading can tell
                             was done
W6     VERIFYING             the verdict is false, and lasts        CLOSED by the readings
W7     VERIFYING             the verdict is true, and lasts         DISPATCHED to the same people, reworks + 1
W8     CLOSED                the alarm is raised again within 24 h  DISPATCHED to the same people, reopened + 1
W9     open, REJECTED        close, with a reason                   CLOSED: no work is needed, a false alarm …
W10    DONE, VERIFYING       verify / return, with a reason         CLOSED by a person / DISPATCHED to the same people,
                                                                    reworks + 1
=====  ====================  =====================================  ===================================================

Open: DISPATCHED, ACCEPTED, ON_SITE, DONE, VERIFYING. A rule that goes out of force (T24) turns VERIFYING into DONE:
nobody judges the readings any more. An order that was closed more than 24 h ago is forgotten when the alarm is raised
again.

A phone without a network tells later what was done, and when (argument ``device_at``): that is kept beside the time of
the transition, and believed within the order's own time only. The readings are measured against our own clock.
"""

from __future__ import annotations

import math

import msgspec

from gateway.core.model import (
    HOUR,
    MINUTE,
    AlarmRecord,
    Command,
    CommandName,
    Micros,
    WorkOrder,
    WorkState,
)
from gateway.errors import CommandRefused

COMMANDS = frozenset(
    {
        CommandName.DISPATCH,
        CommandName.ACCEPT,
        CommandName.REFUSE,
        CommandName.ON_SITE,
        CommandName.DONE,
        CommandName.VERIFY,
        CommandName.RETURN,
        CommandName.CLOSE,
    }
)
NONE, DISPATCHED, ACCEPTED, ON_SITE, DONE, VERIFYING, CLOSED, REJECTED = (state.value for state in WorkState)
OPEN = frozenset({DISPATCHED, ACCEPTED, ON_SITE, DONE, VERIFYING})
WAITING = OPEN | {REJECTED}  # somebody must still do something

REOPENS_WITHIN: Micros = 24 * HOUR  # W8: a repair that does not outlast a day was none
LEAST_HOLD: Micros = MINUTE  # W6, W7: one reading just after the spanner was put down proves little
LOOK_EVERY: Micros = MINUTE  # what no reading of the asset's own points brings up (silence, others' readings)
QUIET_INTERVALS = 3  # a device that was not heard for so many of its intervals vouches for nothing
# A town's network fix is good to some hundred metres, and a phone that gives GCJ-02 for WGS 84 is off by up to 700.
FAR_M = 1_000.0
PHONE_SKEW: Micros = MINUTE  # a phone's clock may be so far from ours; what it says is then set right
MAX_PHOTOS = 20
MAX_NAME = 64  # of a person, team or rota; the store's column
EARTH_M = 6_371_009.0  # mean radius

replace = msgspec.structs.replace


class Scene(msgspec.Struct, frozen=True):
    """What a command about work must know beside the record. ``waits_for``: the points whose readings can tell whether
    it is done; None: no reading can. ``confirms``: an acknowledged alarm waits for a confirmation. The place is the
    asset's."""

    waits_for: tuple[str, ...] | None = None
    confirms: bool = False
    longitude: float | None = None
    latitude: float | None = None


def obey(record: AlarmRecord, command: Command, at: Micros, scene: Scene) -> tuple[str, AlarmRecord]:
    """The row and the record after it. Raises CommandRefused: not_allowed, or invalid for a wrong argument."""
    match command.name:
        case CommandName.DISPATCH:
            return "W1", _dispatch(record, command, at)
        case CommandName.ACCEPT:
            return "W2", _accept(record, command, at, scene)
        case CommandName.REFUSE:
            return "W3", _refuse(record, command, at)
        case CommandName.ON_SITE:
            return "W4", _on_site(record, command, at, scene)
        case CommandName.DONE:
            return "W5", _done(record, command, at, scene)
        case CommandName.CLOSE:
            order = _order(record, command, OPEN | {REJECTED})
            return "W9", _closed(record, order, at, command.by, _words(command, "a reason"))
        case CommandName.VERIFY:
            order = _order(record, command, frozenset({DONE, VERIFYING}))
            return "W10", _closed(record, order, at, command.by, command.why)
        case CommandName.RETURN:
            order = _order(record, command, frozenset({DONE, VERIFYING}))
            why = _words(command, "a reason")
            again = _anew(order, at, by=command.by, comment=why, reworks=order.reworks + 1)
            return "W10", replace(record, work=DISPATCHED, order=again)
        case _:
            raise CommandRefused("not_allowed", f"{command.name} is no command about work")


# -- what the readings do ---------------------------------------------------------------------------------------------


def passed(record: AlarmRecord, order: WorkOrder, at: Micros) -> AlarmRecord:
    """W6."""
    return _closed(record, order, at, None, None)


def failed(record: AlarmRecord, order: WorkOrder, at: Micros) -> AlarmRecord:
    """W7."""
    return replace(record, work=DISPATCHED, order=_anew(order, at, reworks=order.reworks + 1))


def reopened(record: AlarmRecord, order: WorkOrder, at: Micros) -> AlarmRecord | None:
    """W8, for an alarm that has just been raised; None when it is not so."""
    if record.work != CLOSED or is_past(record, order, at):
        return None
    return replace(record, work=DISPATCHED, order=_anew(order, at, reopened=order.reopened + 1))


def is_past(record: AlarmRecord, order: WorkOrder, at: Micros) -> bool:
    """It was closed so long ago that what happens now has nothing to do with it."""
    return record.work == CLOSED and order.closed_at is not None and at - order.closed_at > REOPENS_WITHIN


# -- what people do ---------------------------------------------------------------------------------------------------


def _dispatch(record: AlarmRecord, command: Command, at: Micros) -> AlarmRecord:
    """Arguments: ``to``, a person, team or rota."""
    to = command.arguments.get("to")
    if not isinstance(to, str) or not to:
        raise CommandRefused("not_allowed", "say whom to send (argument `to`)")
    if len(to) > MAX_NAME or not to.isprintable():
        raise CommandRefused("invalid", f"to: a name of at most {MAX_NAME} characters")
    if record.shadow:
        raise CommandRefused("not_allowed", "a rule on trial sends nobody")
    order = record.order
    if order is None or (record.work == CLOSED and order.id != record.occurrence_id):
        new = WorkOrder(record.occurrence_id, to, command.by, at, command.why)
        return replace(record, work=DISPATCHED, order=new)
    if record.work == DISPATCHED and order.to == to:
        raise CommandRefused("not_allowed", f"it is dispatched to {to} already")
    more = 1 if record.work == CLOSED else 0
    again = _anew(order, at, by=command.by, to=to, comment=command.why, reopened=order.reopened + more)
    return replace(record, work=DISPATCHED, order=again)


def _accept(record: AlarmRecord, command: Command, at: Micros, scene: Scene) -> AlarmRecord:
    order = _order(record, command, frozenset({DISPATCHED}))
    said = _device_time(command, at, order)
    order = replace(order, accepted_by=command.by, accepted_at=at, accepted_device_at=said)
    record = replace(record, work=ACCEPTED, order=order)
    if record.acked:
        return record
    closes = not (record.is_active or scene.confirms)
    return replace(
        record,
        acked=True,
        acked_at=at,
        acked_by=command.by,
        ack_channel=command.channel,
        closed_at=at if closes else record.closed_at,
    )


def _refuse(record: AlarmRecord, command: Command, at: Micros) -> AlarmRecord:
    order = _order(record, command, frozenset({DISPATCHED, ACCEPTED}))
    why, said = _words(command, "a reason"), _device_time(command, at, order)
    order = replace(order, refused_by=command.by, refused_at=at, refused_device_at=said, refused_why=why)
    return replace(record, work=REJECTED, order=order)


def _on_site(record: AlarmRecord, command: Command, at: Micros, scene: Scene) -> AlarmRecord:
    """Arguments: ``longitude``, ``latitude`` (WGS 84) and ``accuracy_m``, or none. Where the crew stands is not kept,
    only how far that is from the asset."""
    order = _order(record, command, frozenset({ACCEPTED}))
    said = _device_time(command, at, order)
    longitude, latitude = _number(command, "longitude", 180.0), _number(command, "latitude", 90.0)
    accuracy = _number(command, "accuracy_m", 1e6)
    distance: float | None = None
    if (longitude is None) is not (latitude is None):
        raise CommandRefused("invalid", "longitude and latitude come together")
    if longitude is not None and latitude is not None and scene.longitude is not None and scene.latitude is not None:
        distance = round(distance_m(longitude, latitude, scene.longitude, scene.latitude), 1)
    order = replace(
        order,
        on_site_by=command.by,
        on_site_at=at,
        on_site_device_at=said,
        distance_m=distance,
        accuracy_m=accuracy,
        far=distance is not None and distance > FAR_M + abs(accuracy or 0.0),
    )
    return replace(record, work=ON_SITE, order=order)


def _done(record: AlarmRecord, command: Command, at: Micros, scene: Scene) -> AlarmRecord:
    """The reason is what was done. Arguments: ``cause_code``, what it was; ``photos``, ids with spaces between;
    ``by_person``: the readings cannot tell this time (the sensor is gone, say), somebody must look."""
    order = _order(record, command, frozenset({ACCEPTED, ON_SITE}))
    said = _device_time(command, at, order)
    code = command.arguments.get("cause_code")
    if not isinstance(code, str) or not code:
        raise CommandRefused("not_allowed", "say what it was (argument `cause_code`)")
    photos = tuple(dict.fromkeys(str(command.arguments.get("photos") or "").split()))
    if len(photos) > MAX_PHOTOS:
        raise CommandRefused("invalid", f"at most {MAX_PHOTOS} photos")
    judged = scene.waits_for is not None and command.arguments.get("by_person") is not True
    order = replace(
        order,
        done_by=command.by,
        done_at=at,
        done_device_at=said,
        cause_code=code,
        action=_words(command, "words about what was done"),
        photos=photos,
        verify_since=at if judged else None,
        waits_for=(scene.waits_for or ()) if judged else (),
    )
    return replace(record, work=VERIFYING if judged else DONE, order=order)


def _closed(record: AlarmRecord, order: WorkOrder, at: Micros, by: str | None, why: str | None) -> AlarmRecord:
    return replace(record, work=CLOSED, order=replace(order, closed_by=by, closed_at=at, close_why=why))


def _anew(
    order: WorkOrder,
    at: Micros,
    *,
    by: str | None = None,
    to: str | None = None,
    comment: str | None = None,
    reworks: int | None = None,
    reopened: int | None = None,
) -> WorkOrder:
    """The same order, not begun; what was done before is in the history."""
    return WorkOrder(
        order.id,
        order.to if to is None else to,
        order.by if by is None else by,
        at,
        order.comment if comment is None and by is None else comment,
        order.reworks if reworks is None else reworks,
        order.reopened if reopened is None else reopened,
    )


def _order(record: AlarmRecord, command: Command, states: frozenset[str]) -> WorkOrder:
    """The order, if it is in one of ``states``."""
    if record.order is None:
        raise CommandRefused("not_allowed", "nobody was sent: there is no work on this alarm")
    if record.work not in states:
        raise CommandRefused("not_allowed", f"{command.name} is not possible while the work is {record.work}")
    return record.order


def _words(command: Command, what: str) -> str:
    if not command.why:
        raise CommandRefused("not_allowed", f"{command.name} needs {what}")
    return command.why


def _number(command: Command, name: str, most: float) -> float | None:
    value = command.arguments.get(name)
    if value is None:
        return None
    if isinstance(value, (bool, str)) or not -most <= value <= most:
        raise CommandRefused("invalid", f"{name}: a number within ±{most:g}")
    return float(value)


def _device_time(command: Command, at: Micros, order: WorkOrder) -> Micros | None:
    """When the phone says it was (argument ``device_at``); None when it says nothing."""
    said = command.arguments.get("device_at")
    if said is None:
        return None
    if isinstance(said, bool) or not isinstance(said, int):
        raise CommandRefused("invalid", "at: a time")
    if said > at + PHONE_SKEW:
        raise CommandRefused("invalid", "at: that is in the future")
    if said < order.since - PHONE_SKEW:
        raise CommandRefused("invalid", "at: that was before the dispatch")
    return min(max(said, order.since), at)


def distance_m(longitude: float, latitude: float, other_longitude: float, other_latitude: float) -> float:
    """Along the ground between two places in degrees (haversine on a sphere: good to 0.5 %)."""
    a, b = math.radians(latitude), math.radians(other_latitude)
    half = math.radians(other_longitude - longitude) / 2
    share = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(half) ** 2
    return 2 * EARTH_M * math.asin(math.sqrt(min(1.0, share)))
