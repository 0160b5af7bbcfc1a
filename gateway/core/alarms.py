"""The alarm state machine: one table, one class.

Theory. OPC UA Part 9 keeps independent two-state variables; ISA-18.2 names their combinations with one letter. We store
the *regions* (condition, acknowledgement, latch, shelf, suppression, service) and derive the letter (``isa_state``): a
single status forgets, while an alarm is shelved, whether it was active or acknowledged.

The *condition* region of a ladder is a number: how many rungs are on. Each rung is a comparator with its own delays. A
rung goes on when its limit was exceeded, without a false sample between, for its on-delay; a more severe rung takes the
milder ones with it. The highest rung goes off when its value was inside by the deadband for its off-delay, then the
next one. No rung on, rung 0 timing: PENDING_ON. Every rung that is on timing its way out: PENDING_OFF, still active.
Pending regions are waiting, not history: they are never recorded (T1, T2, T4, T5 have no J).

=====  ==================  ======================================  ====================================================
row    from                event                                   effect (J recorded, N people told if annunciated)
=====  ==================  ======================================  ====================================================
T1     NORMAL              condition true, data good               PENDING_ON, deadline = now + on-delay (0: T3)
T2     PENDING_ON          condition false                         NORMAL; counted as fleeting
T3     PENDING_ON          deadline                                ACTIVE, new occurrence, level of highest rung; J N
T4     ACTIVE              inside the limit by the deadband        PENDING_OFF, deadline = now + off-delay (0: T6)
T5     PENDING_OFF         no longer inside by the deadband        ACTIVE, same occurrence
T6     PENDING_OFF         deadline                                NORMAL; acked → NORM, else RTNUN; J N(clear)
T7     RTNUN or latched    raised again                            as T3, repeat_count + 1; J N
T8/T9  ACTIVE              highest rung rises / falls              level follows; a rise annunciates again; J N / J
T10    UNACK, RTNUN        acknowledge                             acked; J
T11    acked, active       re-alarm timer, below its limit         acked = false, realarm_count + 1; J N
T12    acked, active       unacknowledge, with a comment           acked = false; J
T13    latched, normal     reset, acked                            NORM; J
T14    latched, active     reset                                   refused: the condition is still active
T15    any                 shelve for d ≤ max_time_shelved         TIMED until now + d; J
T16    any                 shelve once                             ONE_SHOT until T6, at most max_time_shelved; J
T17    shelved             unshelve by a person                    UNSHELVED; active: acknowledged; J
T18    shelved             unshelve_at                             UNSHELVED; active: unacknowledged; J N
T19    ONE_SHOT            T6                                      UNSHELVED; J
T20    any                 a cause stands or is about to           suppressed_by, parent; J
T21    suppressed          causes gone for the settle time         not suppressed; active: unacknowledged; J N
T22    any                 out of service, with work and reason;   recorded on, never annunciated; J
                           or maintenance of its asset begins
T23    out of service      back in service, or its end has come    active: unacknowledged; J N
T24    any                 rule disabled or removed / back         closed with the reason, record kept; J
T25    acked, NORMAL       confirm, with comment and cause code    confirmed: the occurrence may close; J
T26    any                 an event without a return               ACTIVE and NORMAL in one step → RTNUN; J N
T27    ACTIVE              force clear, condition not true         NORM; J
T28    any                 data bad or uncertain                   hold: no deadline fires; on return an overdue one
                                                                   fires at once if its condition still holds; J
T29    any                 3 activations in 60 s                   chattering: further N are folded into one, but for
                                                                   level I; J N. 10 quiet windows: over; J, N if folded
T30    active              24 h                                    stale; J
T31    any                 silence the sound                       silenced until the next N; J
T32    any                 late or historical sample               none: the live record is never touched
T33    restart             –                                       regions and absolute deadlines as before; overdue
                                                                   deadlines fire once, in order, marked late
–      any                 comment, assign                         the text; J
W1 …   any                 work: who was sent, accepted, done …    ``core/work.py``; J
=====  ==================  ======================================  ====================================================

What is born suppressed (T3 while a cause stands) or out of service asks nobody: it is acknowledged until T21 or T23
finds it still active. While its asset is under maintenance (``core/maintenance.py``) an alarm is born out of service,
and one whose own time out of service is over stays out for that (T22 in place of T23).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from gateway.core import maintenance, work
from gateway.core.model import (
    HOUR,
    SECOND,
    AlarmRecord,
    Command,
    CommandName,
    Condition,
    IsaState,
    Level,
    Micros,
    OutOfService,
    Quality,
    Shelve,
    Transition,
    Value,
)
from gateway.core.rule import QUIET_WINDOWS, Rule
from gateway.errors import CommandRefused

if TYPE_CHECKING:
    from gateway.core.plan import Rung

NOWHERE = work.Scene()
NOT_TIMING: Micros = -1
STALE_AFTER: Micros = 24 * HOUR  # T30, ISA-18.2
replace = msgspec.structs.replace

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CROCKFORD_OF = (_CROCKFORD * 8).encode()  # of every byte, the character of its lowest five bits


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """What decided: shown to people, stored in the record."""

    value: Value = None
    limit: float | None = None
    unit: str = ""


class Alarm(msgspec.Struct, array_like=True, gc=False):
    """The live state of one alarm. Only the engine touches it; ``record`` is what the last recorded transition said.

    ``no``: order among deadlines of one instant. ``on``: how many rungs are on. ``on_since``, ``off_since``: per rung,
    since when its timer runs, or NOT_TIMING. ``count``: further readings in a row beyond the rung's limit.
    ``unknown``: bit i, the data of rung i is not good now: its timers are held. ``release_at``: when T21 is due.
    ``scheduled``: the earliest time the engine's heap has for this alarm. ``activations``: the newest ones, for T29;
    ``folded``: notifications not sent since it chatters. ``up``: those who ask for it were told that it stands.
    ``verdict``: what fresh readings say of work that is verified, since ``verdict_since``; None while they say
    nothing. ``look_at``: when to look again at what no reading of the asset's own brings up. ``fresh_after``: only
    readings after it are, and after the work was done.
    """

    no: int
    asset: str
    rule: str
    record: AlarmRecord
    on_since: list[Micros]
    off_since: list[Micros]
    count: list[int]
    on: int = 0
    unknown: int = 0
    release_at: Micros | None = None
    scheduled: Micros | None = None
    activations: list[Micros] = []
    folded: int = 0
    up: bool = False
    verdict: bool | None = None
    verdict_since: Micros = NOT_TIMING
    look_at: Micros | None = None
    fresh_after: Micros = NOT_TIMING

    @property
    def condition(self) -> Condition:
        if self.on:
            return Condition.PENDING_OFF if self.off_since[0] != NOT_TIMING else Condition.ACTIVE
        return Condition.PENDING_ON if self.on_since[0] != NOT_TIMING else Condition.NORMAL

    @property
    def stands(self) -> bool:
        """Active, latched, or on its way to: then it explains (suppresses) its effects."""
        return self.on > 0 or self.on_since[0] != NOT_TIMING or self.record.latched

    @property
    def verifying(self) -> bool:
        """Its work is said to be done, and the readings decide."""
        return self.record.order is not None and self.record.work == work.VERIFYING

    @property
    def idle(self) -> bool:
        """Nothing happens to it unless its condition becomes true."""
        return self.on == 0 and self.on_since[0] == NOT_TIMING and not self.verifying

    def current(self) -> AlarmRecord:
        """The record with the condition region as it is now, pending or not."""
        condition = self.condition
        return self.record if self.record.cond is condition else replace(self.record, cond=condition)

    def mark(self, simulated: bool) -> None:
        """The asset is real or simulated from now on."""
        if self.record.simulated is not simulated:
            self.record = replace(self.record, simulated=simulated)

    # -- timers -------------------------------------------------------------------------------------------------------

    def feel(self, now: Micros, truths: Sequence[bool | None], counted: bool) -> bool:
        """Take in what the rungs' conditions are now: T1, T2, T4, T5 and the hold of T28. ``counted``: this is a new
        reading. Gives True when a pending alarm went away unraised (fleeting)."""
        was_pending = self.on == 0 and self.on_since[0] != NOT_TIMING
        unknown = 0
        for i, truth in enumerate(truths):
            if truth is None:
                unknown |= 1 << i
            elif i < self.on:
                self.off_since[i] = (
                    NOT_TIMING if truth else now if self.off_since[i] == NOT_TIMING else self.off_since[i]
                )
            elif truth:
                if self.on_since[i] == NOT_TIMING:
                    self.on_since[i] = now
                elif counted:
                    self.count[i] += 1
            else:
                self.on_since[i] = NOT_TIMING
                self.count[i] = 0
        self.unknown = unknown
        return was_pending and self.on_since[0] == NOT_TIMING

    def matured(self, rungs: Sequence[Rung], now: Micros) -> int:
        """How many rungs should be on at ``now``, by the timers that have run out."""
        up = self.on
        for i in range(self.on, len(rungs)):
            due = self._on_due(rungs, i)
            if due is not None and due <= now:
                up = i + 1
        if up > self.on:
            return up
        while up:
            due = self._off_due(rungs, up - 1)
            if due is None or due > now:
                break
            up -= 1
        return up

    def due(self, rule: Rule, rungs: Sequence[Rung]) -> Micros | None:
        """The next deadline of any region."""
        earliest = self._timed_due(rule) if self.record.rev else None
        on = self.on
        if on and (due := self._off_due(rungs, on - 1)) is not None and (earliest is None or due < earliest):
            earliest = due
        for i in range(on, len(rungs)):
            if self.on_since[i] != NOT_TIMING:
                due = self._on_due(rungs, i)
                if due is not None and (earliest is None or due < earliest):
                    earliest = due
        if self.record.order is not None and (due := self._verdict_due(rungs)) is not None:
            earliest = due if earliest is None else min(earliest, due)
        return earliest

    def _timed_due(self, rule: Rule) -> Micros | None:
        """The next deadline that is not the condition's: what ``timed`` waits for."""
        record = self.record
        earliest = self._stale_due()
        if record.unshelve_at is not None and (earliest is None or record.unshelve_at < earliest):
            earliest = record.unshelve_at
        if self.release_at is not None and (earliest is None or self.release_at < earliest):
            earliest = self.release_at
        away = record.out_of_service
        if away is not None and away.until is not None and (earliest is None or away.until < earliest):
            earliest = away.until
        if rule.realarm is not None:
            due = self._realarm_due(rule)
            if due is not None and (earliest is None or due < earliest):
                earliest = due
        if record.chattering:
            due = self._calm_due(rule)
            if due is not None and (earliest is None or due < earliest):
                earliest = due
        return earliest

    def _realarm_due(self, rule: Rule) -> Micros | None:
        record = self.record
        if rule.realarm is None or record.acked_at is None or not (record.acked and record.is_active):
            return None
        if record.realarm_count >= rule.realarm.times or not record.annunciated:
            return None
        return record.acked_at + rule.realarm.after

    def _stale_due(self) -> Micros | None:
        record = self.record
        if record.stale or not record.is_active or record.detected_at is None:
            return None
        return record.detected_at + STALE_AFTER

    def _calm_due(self, rule: Rule) -> Micros | None:
        if not self.record.chattering:
            return None
        newest = self.activations[-1] if self.activations else self.record.detected_at or 0
        return newest + QUIET_WINDOWS * rule.chatter.within

    def leap(self, by: Micros) -> None:
        """Every delay that runs began ``by`` later: the clock was set, no time has passed."""
        for timers in (self.on_since, self.off_since):
            timers[:] = [since if since == NOT_TIMING else since + by for since in timers]
        if self.release_at is not None:
            self.release_at += by
        if self.verdict_since != NOT_TIMING:
            self.verdict_since += by

    def _on_due(self, rungs: Sequence[Rung], i: int) -> Micros | None:
        rung = rungs[i]
        if self.on_since[i] == NOT_TIMING or self.unknown >> i & 1 or self.count[i] < rung.on_readings - 1:
            return None
        return self.on_since[i] + rung.on_delay

    def _off_due(self, rungs: Sequence[Rung], i: int) -> Micros | None:
        if self.off_since[i] == NOT_TIMING or self.unknown >> i & 1:
            return None
        return self.off_since[i] + rungs[i].off_delay

    def fit(self, rungs: int) -> None:
        """Take over a rule with another number of rungs: rungs that are gone go off, new ones start from nothing."""
        self.on = min(self.on, rungs)
        self.unknown &= (1 << rungs) - 1
        for timers in (self.on_since, self.off_since):
            timers[rungs:] = []
            timers.extend([NOT_TIMING] * (rungs - len(timers)))
        self.count[rungs:] = []
        self.count.extend([0] * (rungs - len(self.count)))

    def stop(self) -> None:
        """Every rung off, every timer stopped."""
        self.on = self.unknown = 0
        self.release_at = None
        for i in range(len(self.on_since)):
            self.on_since[i] = self.off_since[i] = NOT_TIMING
            self.count[i] = 0

    # -- transitions --------------------------------------------------------------------------------------------------

    def step(
        self,
        at: Micros,
        cause: str,
        record: AlarmRecord,
        *,
        notify: bool = False,
        by: str | None = None,
        why: str | None = None,
        late: bool = False,
    ) -> Transition:
        """Make ``record`` the live one, one revision on. ``notify`` counts only if it is annunciated, and while it
        chatters only at level I (T29)."""
        before = self.record.isa_state
        notify = notify and record.annunciated
        if notify and self.record.chattering and record.chattering and record.level is not Level.I:
            notify = False
            self.folded += 1
        record = replace(record, rev=self.record.rev + 1, silenced=record.silenced and not notify)
        self.record = record
        return Transition(
            record.alarm_id,
            record.rev,
            at,
            cause,
            before,
            record.isa_state,
            record,
            notify,
            by,
            why,
            late,
        )

    def settle(
        self,
        rule: Rule,
        rungs: Sequence[Rung],
        now: Micros,
        evidence: Callable[[int], Evidence],
        causes: tuple[str, ...],
        late: bool,
        away: OutOfService | None = None,
    ) -> list[Transition]:
        """Let every timer that has run out take effect: T3, T6, T7, T8, T9, T19. ``away``: its asset is under
        maintenance."""
        on = self.matured(rungs, now)
        if on == self.on:
            return []
        before, self.on = self.on, on
        first_true = self.on_since[0] if before == 0 else NOT_TIMING
        for i in range(len(rungs)):
            if i < on:
                self.on_since[i] = NOT_TIMING
                self.count[i] = 0
            else:
                self.off_since[i] = NOT_TIMING
        if before == 0:
            raised = self._raise(rule, rungs[on - 1].level, first_true, now, evidence(on - 1), causes, late, away)
            done = [raised, *self._activated(rule, now, late)]
            return done if self.record.order is None else [*done, *self._relapsed(now, late)]
        if on == 0:
            return self._clear(rule, now, evidence(0), late)
        return [self._move(rule, rungs[on - 1].level, now, evidence(on - 1), on > before, late)]

    def _raise(
        self,
        rule: Rule,
        level: Level,
        first_true: Micros,
        now: Micros,
        evidence: Evidence,
        causes: tuple[str, ...],
        late: bool,
        away: OutOfService | None,
    ) -> Transition:
        """T3, or T7 when the alarm was still up: RTNUN or latched. A cause that is gone but not yet settled (T21) still
        explains it."""
        old = self.record
        again = old.latched or not old.acked
        causes = causes or old.suppressed_by
        record = replace(
            old,
            occurrence_id=occurrence_id(old.alarm_id, old.rev + 1, now),
            enabled=True,
            cond=Condition.ACTIVE,
            level=level,
            last_level=old.level if again else level,
            max_level=min(level, old.max_level) if again else level,
            acked=old.acked if causes else not rule.ack_required,
            confirmed=False,
            latched=rule.latch,
            stale=False,
            shadow=rule.shadow,
            cause_code=None,
            suppressed_by=causes,
            parent_alarm_id=causes[0] if causes else None,
            quality=Quality.GOOD,
            repeat_count=old.repeat_count + 1 if again else 0,
            realarm_count=0,
            active_at=first_true,
            detected_at=now,
            inactive_at=None,
            acked_at=None,
            closed_at=None,
            acked_by=None,
            ack_channel=None,
            comment=None,
            assigned_to=old.assigned_to if again else None,
            value=evidence.value,
            limit=evidence.limit,
            unit=evidence.unit,
            title_zh=rule.title_zh,
            title_en=rule.title_en,
        )
        if away is not None or old.out_of_service is not None:
            record = replace(record, out_of_service=old.out_of_service or away, acked=old.acked)
        if old.order is not None and work.is_past(old, old.order, now):
            record = replace(record, work=work.NONE, order=None)
        return self.step(now, "T7" if again else "T3", record, notify=rule.annunciates, late=late)

    def _relapsed(self, now: Micros, late: bool) -> list[Transition]:
        """W8."""
        order = self.record.order
        again = work.reopened(self.record, order, now) if order is not None else None
        return [] if again is None else [self.step(now, "W8", again, late=late)]

    def _activated(self, rule: Rule, now: Micros, late: bool) -> list[Transition]:
        """T29: note the activation; too many in too short a time are chattering."""
        chatter = rule.chatter
        self.activations = [at for at in self.activations if at > now - chatter.within][1 - chatter.activations :]
        self.activations.append(now)
        if self.record.chattering or len(self.activations) < chatter.activations:
            return []
        why = f"{len(self.activations)} activations within {chatter.within // SECOND} s"
        chattering = replace(self.record, chattering=True)
        return [self.step(now, "T29", chattering, notify=rule.annunciates, why=why, late=late)]

    def _clear(self, rule: Rule, now: Micros, evidence: Evidence, late: bool) -> list[Transition]:
        """T6, and T19 when the shelf was for this occurrence only."""
        old = self.record
        record = replace(
            old,
            cond=Condition.NORMAL,
            quality=Quality.GOOD,
            stale=old.stale and old.latched,
            inactive_at=now,
            closed_at=now if old.acked and not old.latched and not rule.confirm else None,
            value=evidence.value,
        )
        done = [self.step(now, "T6", record, notify=rule.annunciates and not old.latched, late=late)]
        if record.shelve is Shelve.ONE_SHOT:
            open_again = replace(self.record, shelve=Shelve.UNSHELVED, unshelve_at=None)
            done.append(self.step(now, "T19", open_again, late=late))
        return done

    def _move(self, rule: Rule, level: Level, now: Micros, evidence: Evidence, rise: bool, late: bool) -> Transition:
        """T8 or T9: the level follows the highest rung."""
        old = self.record
        quiet = old.suppressed_by or old.out_of_service is not None
        acked = old.acked if quiet or not rise else not rule.ack_required
        record = replace(
            old,
            level=level,
            last_level=old.level,
            max_level=min(old.max_level, level),
            acked=acked,
            acked_at=old.acked_at if acked else None,
            acked_by=old.acked_by if acked else None,
            ack_channel=old.ack_channel if acked else None,
            value=evidence.value,
            limit=evidence.limit,
            unit=evidence.unit,
        )
        return self.step(now, "T8" if rise else "T9", record, notify=rise and rule.annunciates, late=late)

    def happen(
        self,
        rule: Rule,
        level: Level,
        now: Micros,
        evidence: Evidence,
        causes: tuple[str, ...],
        away: OutOfService | None = None,
    ) -> list[Transition]:
        """T26: the event happened; it is over, and wants acknowledgement. Again while unacknowledged: T7."""
        old = self.record
        raised = self._raise(rule, level, now, now, evidence, causes, False, away)
        over = replace(
            raised.record,
            rev=old.rev,
            cond=Condition.NORMAL,
            latched=False,
            inactive_at=now,
            closed_at=now if raised.record.acked and not rule.confirm else None,
        )
        self.record = old
        happened = self.step(now, "T26" if raised.cause == "T3" else "T7", over, notify=rule.annunciates)
        return [happened, *self._activated(rule, now, False), *self._relapsed(now, False)]

    def note_quality(self, now: Micros, quality: Quality) -> Transition | None:
        """T28: an alarm that stands says whether its data can be trusted."""
        if self.on == 0 or self.record.quality is quality:
            return None
        return self.step(now, "T28", replace(self.record, quality=quality))

    def suppress(self, now: Micros, causes: tuple[str, ...], settle: Micros, late: bool = False) -> Transition | None:
        """T20, or the beginning of T21: ``causes`` are those that stand now."""
        record = self.record
        if causes:
            self.release_at = None
            if record.suppressed_by == causes or not (record.suppressed_by or record.is_active or not record.acked):
                return None
            return self.step(now, "T20", replace(record, suppressed_by=causes, parent_alarm_id=causes[0]), late=late)
        if record.suppressed_by and self.release_at is None:
            self.release_at = now + settle
        return None

    def timed(self, rule: Rule, now: Micros, late: bool, under: OutOfService | None = None) -> list[Transition]:
        """The deadlines that are not the condition's: T18, T21, T23, T11, T30 and the end of T29. ``under``: its asset
        is under maintenance."""
        due = self._timed_due(rule)
        if due is None or due > now:
            return []
        done: list[Transition] = []
        record = self.record
        if record.unshelve_at is not None and record.unshelve_at <= now:
            acked = not rule.ack_required if record.is_active else record.acked
            record = replace(record, shelve=Shelve.UNSHELVED, unshelve_at=None, acked=acked)
            done.append(self.step(now, "T18", record, notify=rule.annunciates and record.is_active, late=late))
        if self.release_at is not None and self.release_at <= now:
            self.release_at = None
            record = self.record
            acked = not rule.ack_required if record.is_active else record.acked
            record = replace(record, suppressed_by=(), parent_alarm_id=None, acked=acked)
            done.append(self.step(now, "T21", record, notify=rule.annunciates and record.is_active, late=late))
        away = self.record.out_of_service
        if away is not None and away.until is not None and away.until <= now:
            done.append(self.bring_back(rule, now, late=late) if under is None else self._taken(now, under, late))
        if (due := self._realarm_due(rule)) is not None and due <= now:
            done.append(self._realarm(rule, now, late))
        if (due := self._stale_due()) is not None and due <= now:
            done.append(self.step(now, "T30", replace(self.record, stale=True), late=late))
        if (due := self._calm_due(rule)) is not None and due <= now:
            folded, self.folded = self.folded, 0
            self.activations = []
            why = f"quiet again; {folded} notifications were folded"
            calm = replace(self.record, chattering=False)
            done.append(self.step(now, "T29", calm, notify=folded > 0 and rule.annunciates, why=why, late=late))
        return done

    def _realarm(self, rule: Rule, now: Micros, late: bool) -> Transition:
        """T11."""
        asks_again = replace(
            self.record,
            acked=False,
            acked_at=None,
            acked_by=None,
            ack_channel=None,
            realarm_count=self.record.realarm_count + 1,
        )
        return self.step(now, "T11", asks_again, notify=rule.annunciates, late=late)

    def take_out(self, now: Micros, away: OutOfService, late: bool) -> Transition | None:
        """T22, because maintenance of its asset begins: what stands or waits for somebody."""
        record = self.record
        if record.rev == 0 or record.out_of_service is not None or record.isa_state is IsaState.NORM:
            return None
        return self._taken(now, away, late)

    def _taken(self, now: Micros, away: OutOfService, late: bool) -> Transition:
        gone = replace(self.record, out_of_service=away)
        return self.step(now, "T22", gone, by=away.by, why=away.reason, late=late)

    def bring_back(
        self, rule: Rule, now: Micros, *, by: str | None = None, why: str | None = None, late: bool = False
    ) -> Transition:
        """T23."""
        record = self.record
        back = replace(record, out_of_service=None)
        if record.is_active:
            back = replace(back, acked=not rule.ack_required, acked_at=None, acked_by=None, ack_channel=None)
        notify = rule.annunciates and record.is_active
        return self.step(now, "T23", back, notify=notify, by=by, why=why, late=late)

    def close(self, now: Micros, why: str) -> Transition | None:
        """T24: the rule is gone or disabled: the alarm ends, its record and its revision stay."""
        self.stop()
        record = self.record
        if record.rev == 0 or not record.enabled:
            return None
        closed = replace(
            record,
            enabled=False,
            cond=Condition.NORMAL,
            acked=True,
            latched=False,
            shelve=Shelve.UNSHELVED,
            unshelve_at=None,
            suppressed_by=(),
            out_of_service=None,
            chattering=False,
            stale=False,
            parent_alarm_id=None,
            inactive_at=now if record.is_active else record.inactive_at,
            closed_at=record.closed_at or now,
        )
        if self.verifying:
            closed = replace(closed, work=work.DONE)
        self._doubt()
        return self.step(now, "T24", closed, why=why)

    # -- work ---------------------------------------------------------------------------------------------------------

    def weigh(self, now: Micros, verdict: bool | None) -> None:
        """What fresh readings say of the condition now, of work that is verified; None: nothing."""
        if verdict is not self.verdict:
            self.verdict = verdict
            self.verdict_since = NOT_TIMING if verdict is None else now

    def _doubt(self) -> None:
        """Nothing is verified, or from the beginning."""
        self.verdict, self.verdict_since, self.look_at, self.fresh_after = None, NOT_TIMING, None, NOT_TIMING

    def _verdict_due(self, rungs: Sequence[Rung]) -> Micros | None:
        """When the verdict takes effect if it lasts, or when to look again for one."""
        if not self.verifying:
            return None
        held = self.decides_at(rungs)
        if held is None or self.look_at is None:
            return self.look_at if held is None else held
        return min(held, self.look_at)

    def decides_at(self, rungs: Sequence[Rung]) -> Micros | None:
        """When the verdict will have lasted long enough; None while there is none, and while what still stands waits
        for its own off-delay."""
        if self.verdict is None or (self.on and not self.verdict):
            return None
        return self.verdict_since + max(work.LEAST_HOLD, rungs[0].on_delay if self.verdict else rungs[0].off_delay)

    def judge_work(self, now: Micros, late: bool) -> list[Transition]:
        """W6 or W7, by the verdict, which has lasted."""
        order, failed = self.record.order, self.verdict
        if order is None or not self.verifying:
            return []
        self._doubt()
        if failed:
            return [self.step(now, "W7", work.failed(self.record, order, now), late=late)]
        return [self.step(now, "W6", work.passed(self.record, order, now), late=late)]

    # -- commands -----------------------------------------------------------------------------------------------------

    def obey(
        self,
        rule: Rule | None,
        command: Command,
        at: Micros,
        is_true: bool = False,
        scene: work.Scene = NOWHERE,
    ) -> Transition:
        """Carry out what a person asks for; ``rule`` is None when it is not in force, ``is_true``: its condition is
        true now; ``scene``: for a command about work. Raises CommandRefused."""
        record = self.record
        if command.rev is not None and command.rev != record.rev:
            raise CommandRefused("stale_rev", f"the alarm is at revision {record.rev}, you saw {command.rev}")
        if command.name is CommandName.COMMENT:
            return self._obeyed(command, at, "comment", replace(record, comment=_required(command, "a comment")))
        if command.name in work.COMMANDS:
            cause, after = work.obey(record, command, at, scene)
            self._doubt()
            return self._obeyed(command, at, cause, after)
        if rule is None or not record.enabled:
            raise CommandRefused("not_allowed", "the rule of this alarm is not in force")
        match command.name:
            case CommandName.ACKNOWLEDGE:
                return self._acknowledge(rule, command, at)
            case CommandName.UNACKNOWLEDGE:
                return self._unacknowledge(command, at)
            case CommandName.RESET:
                return self._reset(rule, command, at)
            case CommandName.SHELVE:
                return self._shelve(rule, command, at)
            case CommandName.UNSHELVE:
                return self._unshelve(command, at)
            case CommandName.OUT_OF_SERVICE:
                return self._out_of_service(command, at)
            case CommandName.IN_SERVICE:
                return self._in_service(rule, command, at)
            case CommandName.CONFIRM:
                return self._confirm(rule, command, at)
            case CommandName.FORCE_CLEAR:
                return self._force_clear(command, at, is_true)
            case CommandName.SILENCE:
                return self._silence(command, at)
            case CommandName.ASSIGN:
                to = command.arguments.get("to")
                if not isinstance(to, str) or not to:
                    raise CommandRefused("not_allowed", "say to whom (argument `to`)")
                return self._obeyed(command, at, "assign", replace(record, assigned_to=to))
            case _:
                raise CommandRefused("not_allowed", f"{command.name} is not possible for alarms yet")

    def _obeyed(self, command: Command, at: Micros, cause: str, record: AlarmRecord) -> Transition:
        return self.step(at, cause, record, by=command.by, why=command.why)

    def _acknowledge(self, rule: Rule, command: Command, at: Micros) -> Transition:
        record = self.record
        if record.acked:
            raise CommandRefused("not_allowed", "there is nothing to acknowledge")
        active = record.is_active
        return self._obeyed(
            command,
            at,
            "T10",
            replace(
                record,
                acked=True,
                acked_at=at,
                acked_by=command.by,
                ack_channel=command.channel,
                comment=command.why or record.comment,
                closed_at=record.closed_at if active or rule.confirm else at,
            ),
        )

    def _unacknowledge(self, command: Command, at: Micros) -> Transition:
        record = self.record
        if not (record.acked and record.is_active):
            raise CommandRefused("not_allowed", "only an active, acknowledged alarm can be unacknowledged")
        comment = _required(command, "a comment")
        undone = replace(record, acked=False, acked_at=None, acked_by=None, ack_channel=None, comment=comment)
        return self._obeyed(command, at, "T12", undone)

    def _reset(self, rule: Rule, command: Command, at: Micros) -> Transition:
        record = self.record
        if not record.latched:
            raise CommandRefused("not_allowed", "the alarm is not latched")
        if self.on:
            raise CommandRefused("not_allowed", "the condition is still active")  # T14
        if not record.acked:
            raise CommandRefused("not_allowed", "acknowledge it first")
        closed_at = None if rule.confirm else at
        return self._obeyed(command, at, "T13", replace(record, latched=False, stale=False, closed_at=closed_at))

    def _out_of_service(self, command: Command, at: Micros) -> Transition:
        """Arguments: ``work``, the order under which somebody works on it; ``until`` or ``seconds``, or none."""
        if self.record.out_of_service is not None:
            raise CommandRefused("not_allowed", "it is out of service already")
        for_work = command.arguments.get("work")
        if not isinstance(for_work, str) or not for_work:
            raise CommandRefused("not_allowed", "say for which work (argument `work`)")
        until = maintenance.end_of(command, at)
        away = OutOfService(for_work, command.by, _required(command, "a reason"), at, until)
        return self._obeyed(command, at, "T22", replace(self.record, out_of_service=away))

    def _in_service(self, rule: Rule, command: Command, at: Micros) -> Transition:
        record = self.record
        if record.out_of_service is None:
            raise CommandRefused("not_allowed", "it is in service")
        return self.bring_back(rule, at, by=command.by, why=command.why)

    def _confirm(self, rule: Rule, command: Command, at: Micros) -> Transition:
        """Argument ``cause_code``: what it was, in the words of the city's case platform."""
        record = self.record
        if not rule.confirm:
            raise CommandRefused("not_allowed", "this alarm needs no confirmation")
        if record.is_active or not record.acked or record.confirmed or record.detected_at is None:
            raise CommandRefused("not_allowed", "only an acknowledged alarm that is over can be confirmed, and once")
        code = command.arguments.get("cause_code")
        if not isinstance(code, str) or not code:
            raise CommandRefused("not_allowed", "say what it was (argument `cause_code`)")
        comment = _required(command, "a comment")
        done = replace(record, confirmed=True, closed_at=at, cause_code=code, comment=comment)
        return self._obeyed(command, at, "T25", done)

    def _force_clear(self, command: Command, at: Micros, is_true: bool) -> Transition:
        record = self.record
        if not record.is_active:
            raise CommandRefused("not_allowed", "the alarm is not active")
        if is_true:
            raise CommandRefused("not_allowed", "the condition is still true")
        why = _required(command, "a reason")
        self.stop()
        cleared = replace(
            record,
            cond=Condition.NORMAL,
            acked=True,
            latched=False,
            stale=False,
            quality=Quality.GOOD,
            suppressed_by=(),
            parent_alarm_id=None,
            inactive_at=at,
            closed_at=at,
            comment=why,
        )
        return self._obeyed(command, at, "T27", cleared)

    def _silence(self, command: Command, at: Micros) -> Transition:
        if self.record.silenced:
            raise CommandRefused("not_allowed", "it is silenced already")
        return self._obeyed(command, at, "T31", replace(self.record, silenced=True))

    def _shelve(self, rule: Rule, command: Command, at: Micros) -> Transition:
        """Arguments: ``seconds`` (a number), or ``once``: true with an optional ``seconds``."""
        _required(command, "a reason")
        longest = rule.max_time_shelved
        once = command.arguments.get("once") is True
        seconds = command.arguments.get("seconds", longest / SECOND if once else None)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise CommandRefused("not_allowed", "say for how many seconds (argument `seconds`)")
        if not 0 < seconds * SECOND <= longest:
            raise CommandRefused("not_allowed", f"shelving ends after at most {longest // SECOND} s")
        shelf = Shelve.ONE_SHOT if once else Shelve.TIMED
        return self._obeyed(
            command,
            at,
            "T16" if once else "T15",
            replace(self.record, shelve=shelf, unshelve_at=at + round(seconds * SECOND)),
        )

    def _unshelve(self, command: Command, at: Micros) -> Transition:
        record = self.record
        if record.shelve is Shelve.UNSHELVED:
            raise CommandRefused("not_allowed", "the alarm is not shelved")
        acked = record.acked or record.is_active
        return self._obeyed(command, at, "T17", replace(record, shelve=Shelve.UNSHELVED, unshelve_at=None, acked=acked))


def _required(command: Command, what: str) -> str:
    if not command.why:
        raise CommandRefused("not_allowed", f"{command.name} needs {what}")
    return command.why


def new_alarm(no: int, asset: str, kind: str, rule: Rule, rungs: Sequence[Rung], *, simulated: bool = False) -> Alarm:
    """A normal alarm that was never raised."""
    size = len(rungs)
    record = AlarmRecord(
        f"{asset}/{rule.id}",
        asset,
        rule.id,
        kind,
        level=rungs[0].level,
        last_level=rungs[0].level,
        max_level=rungs[0].level,
        simulated=simulated,
        title_zh=rule.title_zh,
        title_en=rule.title_en,
    )
    return Alarm(no, asset, rule.id, record, [NOT_TIMING] * size, [NOT_TIMING] * size, [0] * size)


def occurrence_id(alarm_id: str, counter: int, detected_at: Micros) -> str:
    """A ULID: the time of detection in ms, and 80 bits that are the same in every replay."""
    digest = hashlib.blake2b(f"{alarm_id}\0{counter}".encode(), digest_size=16).digest()
    return _ulid_time(max(0, detected_at // 1000)) + digest.translate(_CROCKFORD_OF).decode()


@lru_cache(maxsize=64)
def _ulid_time(ms: int) -> str:
    return "".join([_CROCKFORD[ms >> shift & 31] for shift in range(45, -1, -5)])
