"""The pure middle: the same frames always give the same outcome, from wherever one begins to replay them."""

from __future__ import annotations

import functools

import msgspec
import pytest

from gateway.core.assets_json import to_json
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    AssetsChanged,
    CommandDone,
    CommandName,
    Event,
    Frame,
    FrameKind,
    FrameRejected,
    IsaState,
    MaintenanceChanged,
    Quality,
    Replay,
    Replayed,
    Start,
    Transition,
)
from gateway.core.notification import Message, MessagesWithdrawn
from gateway.core.processor import GATEWAY, Outcome, Processor, read_snapshot
from tests.core.chronicle import (
    ASSETS,
    DEVICES,
    LATER,
    NOON,
    bundles,
    command,
    configurations,
    control,
    evening,
    journal,
    mqtt,
    readings,
    replayed,
)

END = len(evening())


def events(outcomes: list[Outcome]) -> list[Event]:
    return [event for outcome in outcomes for event in outcome.events]


def steps(outcomes: list[Outcome]) -> list[tuple[str, str, IsaState, bool]]:
    return [(t.alarm_id, t.cause, t.to_state, t.late) for t in events(outcomes) if isinstance(t, Transition)]


def in_force(**more: object) -> Processor:
    """A processor with the shipped configuration and the small city."""
    processor = Processor(configurations(), **more)  # type: ignore[arg-type]  # only the hook
    replayed(journal()[:3], processor)
    return processor


# -- replay -----------------------------------------------------------------------------------------------------------


@functools.cache
def undisturbed() -> tuple[list[bytes], list[Outcome]]:
    """The state after every batch (0: before the first), and what each batch gave."""
    processor = Processor(configurations())
    states, outcomes = [processor.snapshot()], []
    for position, frames in journal():
        outcomes.append(processor.process(position, frames))
        states.append(processor.snapshot())
    return states, outcomes


@pytest.mark.parametrize("begin", range(END))
def test_a_replay_from_any_snapshot_gives_the_same_states_and_the_same_outcomes(begin: int) -> None:
    states, outcomes = undisturbed()
    processor = Processor(configurations())
    processor.restore(states[begin])
    assert processor.snapshot() == states[begin]
    for position, frames in journal()[begin:]:
        assert processor.process(position, frames) == outcomes[position - 1]
        assert processor.snapshot() == states[position]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("at", [at for at, frames in journal() if len(frames) > 1])
def test_how_a_batch_is_cut_into_slices_changes_nothing(at: int, size: int) -> None:
    states, outcomes = undisturbed()
    processor = Processor(configurations())
    processor.restore(states[at - 1])
    frames = evening()[at - 1]
    outcome = Outcome(at, [], [])
    for first in range(0, len(frames), size):
        processor.process_slice(at, frames[first : first + size], first, outcome)
    processor.position = at
    assert outcome == outcomes[at - 1]
    assert processor.snapshot() == states[at]


def test_the_evening_holds_what_the_replay_must_survive() -> None:
    """The chronicle would prove nothing if it were dull."""
    processor, outcomes = replayed(journal())
    kinds = {frame.kind for batch in evening() for frame in batch}
    assert kinds == set(FrameKind)
    causes = {t.cause for t in events(outcomes) if isinstance(t, Transition)}
    assert causes >= {"T3", "T6", "T7", "T10", "W1", "W2", "W5", "W6"}
    assert {type(event) for event in events(outcomes)} == {
        Transition,
        FrameRejected,
        CommandDone,
        AssetsChanged,
        MaintenanceChanged,
        Message,
        MessagesWithdrawn,
    }
    total = processor.ledger.total
    assert total.duplicate == 2
    assert [(r.outcome, r.readings, r.historical) for o in outcomes for r in o.replayed] == [
        ("stored", 1, 1),
        ("duplicate", 0, 0),
        ("bad_payload", 0, 0),
    ]
    assert set(total.rejected) == {"unknown_device", "bad_payload", "retained"}
    assert {r.quality for r in readings(outcomes)} == {Quality.GOOD, Quality.BAD}
    assert any(r.historical for r in readings(outcomes))
    assert [r.value for r in readings(outcomes) if r.point == "energy"] == [16777.0, 16777.716]
    assert [r.value for r in readings(outcomes) if r.asset == "pipe-2" and r.point == "level"] == [0.5, 0.5]
    assert [r.value for r in readings(outcomes) if r.point == "pm25"] == [35, 37]


@pytest.mark.parametrize("data", [b"", b"\x00", b"{}", msgspec.msgpack.encode({"version": 99})])
def test_what_is_not_a_snapshot_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a snapshot"):
        read_snapshot(data)


def test_a_snapshot_of_another_version_is_refused() -> None:
    processor, _ = replayed(journal()[:4])
    other = msgspec.msgpack.encode({**msgspec.msgpack.decode(processor.snapshot()), "version": 99})
    with pytest.raises(ValueError, match="version 99"):
        Processor(configurations()).restore(other)


# -- before there is a configuration ----------------------------------------------------------------------------------


def test_before_a_configuration_is_in_force_frames_are_kept_with_the_reason() -> None:
    processor = Processor(configurations())
    outcome = processor.process(1, [mqtt("lamp-1", {"power": 1.0}, NOON, kind="lamp")])
    (event,) = outcome.events
    assert isinstance(event, FrameRejected)
    assert event.rejection.code == "not_configured"
    assert processor.ledger.total.rejected == {"not_configured": 1}


def test_assets_that_come_before_the_configuration_are_there_when_it_comes() -> None:
    frames = [evening()[0], evening()[2], evening()[1]]
    processor, _ = replayed(enumerate(frames, 1))
    outcome = processor.process(4, [mqtt("cover-1", {"tilt": 3.0}, NOON + SECOND)])
    assert [(r.asset, r.value) for r in outcome.readings] == [("cover-1", 3.0)]


# -- silence and outages ----------------------------------------------------------------------------------------------


def test_after_two_hours_away_overdue_deadlines_fire_once_in_order_marked_late() -> None:
    processor = in_force()
    tilted = [mqtt("cover-1", {"tilt": 20.0}, NOON + 10 * SECOND), mqtt("cover-2", {"tilt": 20.0}, NOON + 5 * SECOND)]
    processor.process(4, tilted[::-1])
    back = NOON + 2 * HOUR
    outcome = processor.process(5, [control(FrameKind.START, Start(False), back)])
    raised = [t for t in outcome.events if isinstance(t, Transition)]
    assert [(t.alarm_id, t.cause, t.late) for t in raised] == [
        ("cover-2/manhole-tilted", "T3", True),
        ("cover-1/manhole-tilted", "T3", True),
    ]
    assert [t.at - NOON for t in raised] == [35 * SECOND, 40 * SECOND]  # when they were due, not when we noticed
    again = processor.process(6, [control(FrameKind.START, Start(False), back + SECOND)])
    assert not again.events


def test_nobody_fell_silent_while_we_were_away() -> None:
    processor = in_force()
    processor.process(4, [mqtt("lamp-1", {"power": 90.0}, NOON + SECOND, kind="lamp")])
    back = NOON + 10 * HOUR  # a lamp is silent after 45 min
    outcome = processor.process(5, [control(FrameKind.START, Start(False), back)])
    assert not outcome.events
    assert processor.next_deadline is not None
    assert processor.next_deadline > back
    silent = processor.process(6, [control(FrameKind.TICK, b"", back + 50 * MINUTE)])
    assert {t[0] for t in steps([silent])} >= {"lamp-1/lamp-offline"}


def test_a_storage_failure_that_ended_the_last_life_is_an_alarm_of_the_gateway() -> None:
    processor = in_force()
    outcome = processor.process(4, [control(FrameKind.START, Start(False, "EIO on fdatasync"), NOON + SECOND)])
    assert steps([outcome]) == [("gateway/gateway-journal-failed", "T3", IsaState.UNACK, False)]
    assert [(r.asset, r.point, r.value) for r in outcome.readings] == [(GATEWAY.asset, "journal_failed", True)]


# -- frames that raise ------------------------------------------------------------------------------------------------


def raise_on_poison(frame: Frame) -> None:
    if b"poison" in frame.payload:
        raise RuntimeError("sabotage")


def test_a_frame_that_raises_is_quarantined_and_the_next_500_are_processed() -> None:
    processor = in_force(hook=raise_on_poison)
    poison = mqtt("cover-1", b'{"poison": 1}', NOON + SECOND)
    after = [mqtt("cover-2", {"tilt": 1.0}, NOON + 2 * SECOND + i, seq=i) for i in range(500)]
    outcome = processor.process(4, [poison, *after])
    refused = [e for e in outcome.events if isinstance(e, FrameRejected)]
    assert [(e.position, e.index, e.rejection.code) for e in refused] == [(4, 0, "crashed")]
    assert "sabotage" in refused[0].rejection.reason
    assert len([r for r in outcome.readings if r.asset == "cover-2"]) == 500
    balance = processor.ledger.balance()
    assert (balance["received"], balance["stored"], balance["rejected"]) == (501, 500, {"crashed": 1})
    assert balance["balanced"]
    assert ("gateway/gateway-crash-quarantine", "T3", IsaState.UNACK, False) in steps([outcome])


def test_a_frame_that_ended_the_process_is_passed_over_unseen() -> None:
    def deadly(frame: Frame) -> None:
        assert b"poison" not in frame.payload, "it was looked at"

    processor = in_force(hook=deadly)
    frames = [mqtt("cover-1", b'{"poison": 1}', NOON + SECOND), mqtt("cover-2", {"tilt": 1.0}, NOON + 2 * SECOND)]
    outcome = processor.process(4, frames, frozenset({0}))
    (refused,) = [e for e in outcome.events if isinstance(e, FrameRejected)]
    assert "ended the process" in refused.rejection.reason
    assert [r.asset for r in outcome.readings if r.asset != GATEWAY.asset] == ["cover-2"]


@pytest.mark.parametrize(
    "frame",
    [
        control(FrameKind.COMMAND, b"\xc1 not msgpack", NOON + SECOND),
        control(FrameKind.ASSETS, b'{"assets": 7}', NOON + SECOND),
        control(FrameKind.CONFIG, b"", NOON + SECOND, "0" * 32),
        control(FrameKind.SYSTEM, b"[]", NOON + SECOND),
        control(FrameKind.START, b"", NOON + SECOND),
        control(FrameKind.BLIND, b'{"since": "long ago"}', NOON + SECOND),
    ],
    ids=lambda frame: str(frame.kind),
)
def test_a_control_frame_nobody_can_read_does_not_stop_the_stream(frame: Frame) -> None:
    processor = in_force()
    outcome = processor.process(4, [frame, mqtt("cover-2", {"tilt": 1.0}, NOON + 2 * SECOND)])
    (refused,) = [e for e in outcome.events if isinstance(e, FrameRejected)]
    assert refused.rejection.code == "crashed"
    assert "cover-2" in {r.asset for r in outcome.readings}
    assert processor.ledger.balance()["balanced"], "the ledger counts telemetry only"
    assert processor.ledger.total.received == 1


# -- rejected frames that are offered again ---------------------------------------------------------------------------

OPEN = b'{"tilt": 70}'  # a cover that lies open, with no time of its own


def again(frame: Frame, at: int, index: int = 0) -> Frame:
    replay = msgspec.msgpack.encode(Replay(frame, 4, index))
    return Frame(FrameKind.REPLAY, "replay", f"4/{index}/a", replay, at, principal="li")


def about(outcome: Outcome, asset: str) -> list[tuple[str, str, IsaState, bool]]:
    return [step for step in steps([outcome]) if step[0].startswith(f"{asset}/")]


def strange_cover(payload: bytes = OPEN, at: int = NOON + SECOND) -> tuple[Processor, Frame]:
    """Cover 3 spoke before anybody had registered it; it is registered now."""
    processor = in_force()
    frame = mqtt("cover-3", payload, at)
    (refused,) = processor.process(4, [frame]).events
    assert isinstance(refused, FrameRejected)
    processor.process(5, [control(FrameKind.ASSETS, to_json([LATER[0]], [LATER[1]]), at + SECOND)])
    return processor, refused.frame


def test_what_was_offered_again_in_time_is_taken_as_if_it_had_been_understood_at_once() -> None:
    processor, frame = strange_cover()
    outcome = processor.process(6, [again(frame, NOON + 5 * MINUTE)])
    assert outcome.replayed == [Replayed("4/0/a", "stored", None, 1, 0)]
    (reading,) = outcome.readings
    assert (reading.source_time, reading.received_at) == (frame.received_at, frame.received_at)
    assert ("cover-3/manhole-open", "T3", IsaState.UNACK, False) in steps([outcome])
    assert processor.ledger.balance()["balanced"]


def test_what_was_offered_again_too_late_is_history_and_raises_nothing() -> None:
    processor, frame = strange_cover()
    outcome = processor.process(6, [again(frame, NOON + 11 * MINUTE)])
    assert outcome.replayed == [Replayed("4/0/a", "stored", None, 1, 1)]
    assert [(r.value, r.historical, r.source_time) for r in outcome.readings] == [(70.0, True, frame.received_at)]
    assert not about(outcome, "cover-3")
    assert processor.engine is not None
    assert processor.engine.points("cover-3") == {}


def test_a_replay_never_takes_the_place_of_what_was_said_since() -> None:
    processor, frame = strange_cover()
    processor.process(6, [mqtt("cover-3", {"tilt": 1.0}, NOON + MINUTE)])
    outcome = processor.process(7, [again(frame, NOON + 2 * MINUTE)])
    assert outcome.replayed[0].outcome == "stored"
    assert not about(outcome, "cover-3")
    assert processor.engine is not None
    assert processor.engine.points("cover-3")["tilt"].value == 1.0


def test_the_same_frame_offered_twice_is_a_duplicate_the_second_time() -> None:
    for later in (2 * MINUTE, 20 * MINUTE):
        processor, frame = strange_cover()
        processor.process(6, [again(frame, NOON + later)])
        outcome = processor.process(7, [again(frame, NOON + later + SECOND)])
        assert [r.outcome for r in outcome.replayed] == ["duplicate"]
        assert outcome.readings == []


@pytest.mark.parametrize("ahead", [HOUR, 2 * HOUR, 3 * HOUR])
def test_a_device_clock_that_runs_ahead_does_not_make_an_old_frame_new(ahead: int) -> None:
    """Two hours after it came, its own stamp may lie in the past, now, or in the future."""
    stamp = (NOON + SECOND + ahead) // 1000
    processor, frame = strange_cover(b'{"ts": %d, "values": {"tilt": 70}}' % stamp)
    outcome = processor.process(6, [again(frame, NOON + 2 * HOUR)])
    assert [(r.historical, r.quality) for r in outcome.readings] == [(True, Quality.UNCERTAIN)]
    assert not about(outcome, "cover-3")


@pytest.mark.parametrize("again_after", [None, 40 * SECOND, 9 * MINUTE])
def test_a_replay_is_no_sign_of_life(again_after: int | None) -> None:
    """A lamp speaks every 15 min and falls silent; a frame of its that was rejected is offered again meanwhile."""
    processor = in_force()
    lamp = {"on": True, "cmd_on": True, "dim": 100, "power": 95.0}
    outcomes = [processor.process(4, [mqtt("lamp-1", lamp, NOON, kind="lamp")])]
    if again_after is not None:
        kept = mqtt("lamp-1", lamp, NOON + 2, kind="lamp")  # as a profile mended since reads it
        outcomes.append(processor.process(5, [again(kept, NOON + again_after)]))
        assert outcomes[-1].replayed[0].outcome == "stored"
    outcomes.append(processor.process(6, [control(FrameKind.TICK, b"", NOON + HOUR)]))
    offline = [t for t in events(outcomes) if isinstance(t, Transition) and t.alarm_id == "lamp-1/lamp-offline"]
    assert [(t.cause, t.at // SECOND) for t in offline] == [("T3", (NOON + 45 * MINUTE) // SECOND)]


def test_a_historical_reading_of_a_clock_that_runs_ahead_drives_no_live_alarm() -> None:
    processor = in_force()
    stamp = (NOON + SECOND + HOUR) // 1000
    payload = b'{"ts": %d, "historical": true, "values": {"tilt": 70}}' % stamp
    outcome = processor.process(4, [mqtt("cover-1", payload, NOON + SECOND)])
    assert [(r.historical, r.quality) for r in outcome.readings] == [(True, Quality.UNCERTAIN)]
    assert not steps([outcome])


def test_a_frame_rejected_again_is_kept_again_as_it_first_came() -> None:
    processor, frame = strange_cover(b"{not json")
    outcome = processor.process(6, [again(frame, NOON + MINUTE)])
    (refused,) = [e for e in outcome.events if isinstance(e, FrameRejected)]
    assert (refused.frame.source, refused.frame.received_at) == ("replay of 4/0", frame.received_at)
    assert (refused.frame.kind, refused.frame.payload) == (frame.kind, frame.payload)
    assert outcome.replayed == [Replayed("4/0/a", "bad_payload", refused.rejection.reason)]
    assert processor.ledger.balance()["balanced"]


def test_a_replay_that_raises_is_quarantined_and_answered() -> None:
    processor = in_force(hook=raise_on_poison)
    outcome = processor.process(4, [again(mqtt("cover-1", b"poison", NOON), NOON + SECOND)])
    assert [r.outcome for r in outcome.replayed] == ["crashed"]
    assert processor.ledger.balance()["balanced"]


# -- commands and configuration -------------------------------------------------------------------------------------


def test_a_command_sent_twice_is_carried_out_once_and_answered_twice() -> None:
    processor = in_force()
    processor.process(4, [mqtt("cover-1", {"tilt": 70.0}, NOON + SECOND)])
    asked = command(CommandName.ACKNOWLEDGE, "cover-1/manhole-open", 1, NOON + 2 * SECOND, "c-1")
    once = processor.process(5, [asked])
    twice = processor.process(6, [msgspec.structs.replace(asked, received_at=NOON + 3 * SECOND)])
    assert steps([once]) == [("cover-1/manhole-open", "T10", IsaState.ACKED, False)]
    assert not steps([twice])
    assert [e.refused for e in events([once, twice]) if isinstance(e, CommandDone)] == [None, None]


def test_a_change_of_rules_keeps_standing_alarms_and_running_delays() -> None:
    processor = in_force()
    processor.process(4, [mqtt("cover-1", {"tilt": 70.0}, NOON), mqtt("cover-2", {"tilt": 20.0}, NOON + 1)])
    changed = bundles()[1].hash
    outcome = processor.process(5, [control(FrameKind.CONFIG, b"", NOON + 10 * SECOND, changed)])
    assert not steps([outcome])
    assert processor.configuration is configurations()[changed]
    assert processor.engine is not None
    record = processor.engine.alarm("cover-1/manhole-open")
    assert record is not None
    assert record.isa_state is IsaState.UNACK
    due = processor.process(6, [control(FrameKind.TICK, b"", NOON + 21 * SECOND)])
    assert ("cover-2/manhole-tilted", "T3", IsaState.UNACK, False) in steps([due]), "20 s now, counted from the start"


def test_names_made_up_by_a_sender_fill_neither_ledger_nor_registry() -> None:
    processor = in_force()
    frames = [mqtt(f"ghost-{i}", {"tilt": 1.0}, NOON + i) for i in range(2_000)]
    processor.process(4, frames)
    assert set(processor.ledger.accounts) == {"?"}
    assert processor.registry.device_count == len(DEVICES)
    assert processor.registry.asset_count == len(ASSETS) + 1  # and the gateway itself


def test_people_are_told_the_same_from_whatever_snapshot_one_goes_on() -> None:
    """Escalations are part of what a snapshot holds: the messages of the whole evening, from a restart anywhere."""
    whole = [event for event in events(replayed(journal())[1]) if isinstance(event, Message)]
    assert {message.kind.value for message in whole} >= {"raised", "escalated", "reminder"}
    assert len({message.key for message in whole}) == len(whole)
    for cut in range(1, END, 5):
        first, before = replayed(journal()[:cut])
        second = Processor(configurations())
        second.restore(first.snapshot())
        _, after = replayed(journal()[cut:], second)
        assert [event for event in events([*before, *after]) if isinstance(event, Message)] == whole
