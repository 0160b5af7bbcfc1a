"""The one path: journaled frames → decode → engine → store → feed and historian; the only task that touches the engine.

    intake ──batches──▶ Pipeline.run ──events──▶ store (one transaction with the position) ──▶ on_transitions
                             └──────readings──▶ history follower ──▶ historian (one transaction with its position)

Recovery is the same path: the newest snapshot both followers have passed, then the journal from there. Events up to the
store's position and readings up to the historian's are not stored again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from gateway import sabotage
from gateway.clock import Clock
from gateway.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Command,
    CommandDone,
    Event,
    Frame,
    FrameKind,
    Micros,
    Reading,
    Replay,
    Replayed,
    Start,
    Transition,
    Value,
)
from gateway.core.notification import Message
from gateway.core.processor import Configuration, Outcome, Processor, read_snapshot
from gateway.core.records import Known
from gateway.errors import CommandRefused, Unavailable
from gateway.intake import JournalIntake
from gateway.ports import Journal
from gateway.snapshots import SnapshotFolder

log = structlog.get_logger("pipeline")

QUEUE_BATCHES = 4  # journaled and not yet decided; beyond that the intake waits, and then the sockets
SLICE_FRAMES = 250  # decided in one go: 4 to 8 ms, so that PUBACKs, pings and browsers are never kept waiting longer
HISTORY_ROWS = 60_000  # readings waiting for the historian; beyond that it re-reads the journal
CATCH_UP_ROWS = 20_000  # readings in one append then
HISTORY_GATHER_S = 0.2  # an append costs 3 to 7 ms however small it is …
HISTORY_WORTH = 4_000  # … so fewer readings than this wait for company
POSITION_EVERY_S = 1.0  # how often the store's position is written when there is nothing else to store
COMMAND_TIMEOUT_S = 10.0
CRASHES_BEFORE_SKIP = 3  # reliability F10
TICK_FLOOR_S = 0.02  # deadlines that fall within 20 ms share one tick


class Store(Protocol):
    @property
    def position(self) -> int: ...
    async def commit(self, position: int, events: Sequence[Event]) -> None: ...
    async def known(self) -> Known: ...


class Historian(Protocol):
    @property
    def position(self) -> int: ...
    async def append(self, items: Sequence[tuple[int, Sequence[Reading]]]) -> None: ...


class KeptJournal(Journal, Protocol):
    @property
    def last_position(self) -> int: ...
    @property
    def first_position(self) -> int: ...
    @property
    def last_received_at(self) -> Micros: ...
    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Retention:
    """How long followed batches stay in the journal for inspection."""

    keep: Micros = 24 * HOUR
    max_size: int = 2 << 30


@dataclass(frozen=True, slots=True)
class SnapshotEvery:
    frames: int = 300_000
    interval: Micros = 5 * MINUTE


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found: from which snapshot, how many frames were replayed, in how many seconds."""

    snapshot: int
    batches: int
    frames: int
    seconds: float
    skipped: tuple[tuple[int, int], ...] = ()


class Pipeline:
    """``on_transitions`` is called with what was committed, after it was committed; it must not block or raise.

    Nor must the others: ``on_messages`` is called when messages to people were committed, ``on_rebirth`` with a
    Sparkplug node ("group/edge") that must say again what it has. ``configuration_of`` gives a Configuration by hash
    (from the store) when the journal names one not yet in ``configurations``. ``locked``: file numbers whose locks must
    die with this very process."""

    def __init__(
        self,
        *,
        clock: Clock,
        intake: JournalIntake,
        journal: KeptJournal,
        store: Store,
        historian: Historian,
        snapshots: SnapshotFolder,
        state_folder: Path,
        configuration_of: Callable[[str], Coroutine[None, None, Configuration]],
        on_transitions: Callable[[Sequence[Transition]], None],
        on_rebirth: Callable[[str], None] = lambda _node: None,
        on_messages: Callable[[], None] = lambda: None,
        snapshot_every: SnapshotEvery = SnapshotEvery(),
        retention: Retention = Retention(),
        locked: Sequence[int] = (),
    ) -> None:
        self._clock = clock
        self._intake = intake
        self._journal = journal
        self._store = store
        self._historian = historian
        self._snapshots = snapshots
        self._guard = _ReplayGuard(state_folder / "replay.json")
        self._configuration_of = configuration_of
        self._on_transitions = on_transitions
        self._on_rebirth = on_rebirth
        self._on_messages = on_messages
        self._snapshot_every = snapshot_every
        self._retention = retention
        self._locked = locked
        self.configurations: dict[str, Configuration] = {}
        self.processor = Processor(self.configurations, _hook())
        self._queue: asyncio.Queue[tuple[int, Sequence[Frame]]] = asyncio.Queue(QUEUE_BATCHES)
        self._history = _HistoryQueue()
        self._queued_frames = 0
        self._decided = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[CommandDone]] = {}
        self._replays: dict[str, asyncio.Future[Replayed]] = {}
        self._committed_at = 0.0
        self._snapshot_at: Micros = 0
        self._snapshot_frames = 0
        self._kept_since: deque[tuple[Micros, int]] = deque()
        self._system: dict[str, Value] = {}
        self._snapshotting: asyncio.Task[None] | None = None

    # -- recovery -----------------------------------------------------------------------------------------------------

    async def recover(self) -> Recovery:
        """Bring the engine to the end of the journal. Call once, before ``run`` and before any source."""
        began = time.monotonic()
        self.processor = await self._restored(min(self._store.position, self._historian.position))
        if self._journal_is_cut(self.processor):
            await self._rebuild()
        start = self.processor.position
        batches = frames = 0
        skipped: list[tuple[int, int]] = []
        self._guard.open()
        async for position, batch in self._journal.read(start):
            await self._load_configurations(batch)
            skip = self._guard.enter(position)
            if skip:
                skipped.extend((position, index) for index in skip)
                log.error("a frame ended the process again and again: quarantined", position=position, frames=skip)
            self._guard.watch(self.processor, position, len(batch))
            outcome = self.processor.process(position, batch, frozenset(skip))
            self._guard.leave()
            await self._catch_up(outcome)
            batches, frames = batches + 1, frames + len(batch)
        self._guard.close()
        self.processor.sessions.take_wanted()  # asked for when it was live
        # Batches lost or quarantined at the journal's end are passed, too.
        self.processor.position = max(self.processor.position, self._journal.last_position)
        await self._commit([], force=True)
        if self._history.rows:
            await self._historian.append(self._history.take())
        self._history.resume()
        return Recovery(start, batches, frames, time.monotonic() - began, tuple(skipped))

    async def _restored(self, upto: int) -> Processor:
        """A processor as it was at the newest snapshot at or before ``upto``; without one, at the very beginning."""
        processor = Processor(self.configurations, _hook())
        found = self._snapshots.newest(upto)
        if found is None:
            return processor
        position, data = found
        try:
            hash_ = read_snapshot(data).configuration
            if hash_ is not None and hash_ not in self.configurations:
                self.configurations[hash_] = await self._configuration_of(hash_)
            processor.restore(data)
        except ValueError as error:
            log.warning("snapshot not used: rebuilding from the journal", position=position, reason=str(error))
            return Processor(self.configurations, _hook())
        return processor

    def _journal_is_cut(self, processor: Processor) -> bool:
        """Whether the journal no longer holds what follows on ``processor``'s position."""
        return self._journal.first_position > processor.position + 1 and self._store.position > processor.position

    async def _rebuild(self) -> None:
        """Go on from the store's own knowledge: the way out when every snapshot is damaged or of another version and
        the journal's beginning has been released. First the historian gets the readings it lacks."""
        known = await self._from_store()
        log.error("no snapshot can be used and the journal is cut: going on from the store", position=known.position)
        if self._historian.position < known.position:
            aside = await self._from_store()
            aside.position = self._historian.position
            await self._replay_aside(aside, known.position)
        self.processor = known

    async def _from_store(self) -> Processor:
        processor = Processor(self.configurations, _hook())
        known = await self._store.known()
        if known.configuration is None:
            return processor
        if known.configuration not in self.configurations:
            self.configurations[known.configuration] = await self._configuration_of(known.configuration)
        processor.rebuild(
            self._store.position,
            self.configurations[known.configuration],
            known.assets,
            known.devices,
            known.alarms,
            self._journal.last_received_at,
            known.maintenance,
        )
        return processor

    async def _catch_up(self, outcome: Outcome) -> None:
        """Store what a replayed batch gave, as far as it is not stored yet."""
        if self._history.rows + len(outcome.readings) > HISTORY_ROWS // 2:
            await self._historian.append(self._history.take())
        events = self._take(outcome)
        if events:
            await self._commit(events)

    async def _load_configurations(self, batch: Sequence[Frame]) -> None:
        for frame in batch:
            if frame.kind is FrameKind.CONFIG and frame.address not in self.configurations:
                self.configurations[frame.address] = await self._configuration_of(frame.address)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled; any failed write of our own disk leaves as StorageFailed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._intake.run(self._journal, self._deliver), name="intake")
            group.create_task(self._decide(), name="decide")
            group.create_task(self._tick(), name="deadlines")
            group.create_task(self._follow_history(), name="history")
            group.create_task(self._housekeeping(), name="housekeeping")

    async def drain(self) -> None:
        """Ordered stop: everything offered is journaled, decided and stored; call with the sources already stopped."""
        await self._intake.drain()
        while self._intake.waiting or not self._queue.empty() or self.processor.position < self._journal.last_position:
            self._decided.clear()
            await self._decided.wait()
        await self._commit([], force=True)
        await self._history.idle.wait()
        if self._snapshotting is not None:
            await asyncio.wait([self._snapshotting])
        await self._snapshot(last=True)

    async def start(self, start: Start) -> None:
        """Journal that we are up again; time since the last frame was not seen live."""
        await self._intake.offer(FrameKind.START, "gateway", "", msgspec.json.encode(start))

    async def reconfigure(self, configuration: Configuration) -> None:
        """Put a checked configuration in force (its bundle must be in the store already)."""
        self.configurations[configuration.hash] = configuration
        await self._intake.offer(FrameKind.CONFIG, "gateway", configuration.hash, b"")
        await self.settled()

    async def apply_assets(self, payload: bytes) -> None:
        """Add or change assets and devices (JSON of ``core.assets_json``)."""
        await self._intake.offer(FrameKind.ASSETS, "gateway", "", payload)
        await self.settled()

    def report(self, **values: Value) -> None:
        """The gateway about itself: points of the asset "gateway"; only changes are journaled."""
        changed = {k: v for k, v in values.items() if self._system.get(k) != v}
        if changed:
            self._system.update(changed)
            self._intake.offer(FrameKind.SYSTEM, "gateway", "", msgspec.json.encode(changed))

    def forget(self, **values: Value) -> None:
        """These points were set by the engine itself; the next ``report`` of them counts as a change."""
        self._system.update(values)

    async def submit(self, command: Command) -> CommandDone:
        """Journal a person's command and wait until it is carried out or refused and stored. Raises CommandRefused
        when refused, Unavailable when there is no answer in time (it may still be carried out: it is journaled)."""
        future: asyncio.Future[CommandDone] = asyncio.get_running_loop().create_future()
        self._waiting[command.command_id] = future
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                await self._intake.offer(
                    FrameKind.COMMAND, "api", command.command_id, msgspec.msgpack.encode(command), principal=command.by
                )
                done = await future
        except TimeoutError as error:
            raise Unavailable("the command is journaled but not yet carried out") from error
        finally:
            self._waiting.pop(command.command_id, None)
        if done.refused is not None:
            raise CommandRefused(*done.refused)
        return done

    async def replay(self, replays: Sequence[Replay], by: str) -> list[Replayed | None]:
        """Offer rejected frames again, through the journal as everything; gives what became of each, None where that
        is not known yet (it is journaled, and will be decided). Raises Unavailable when no more telemetry is taken now:
        then nothing was offered."""
        if self._intake.full:
            raise Unavailable("the intake is full: nothing was offered")
        waiting: dict[str, asyncio.Future[Replayed]] = {}
        loop = asyncio.get_running_loop()
        for replay in replays:
            replay_id = f"{replay.position}/{replay.index}/{secrets.token_hex(8)}"
            waiting[replay_id] = self._replays[replay_id] = loop.create_future()
            self._intake.offer(FrameKind.REPLAY, "replay", replay_id, msgspec.msgpack.encode(replay), principal=by)
        try:
            if waiting:
                await asyncio.wait(waiting.values(), timeout=COMMAND_TIMEOUT_S)
            return [future.result() if future.done() else None for future in waiting.values()]
        finally:
            for replay_id in waiting:
                self._replays.pop(replay_id, None)

    async def settled(self) -> None:
        """Returns when everything journaled so far has been decided."""
        target = self._journal.last_position
        while self.processor.position < target:
            self._decided.clear()
            await self._decided.wait()

    @property
    def in_flight(self) -> int:
        """Telemetry and other frames received and not yet decided."""
        return self._intake.waiting + self._queued_frames

    @property
    def history_lag(self) -> int:
        """Batches the historian is behind."""
        return max(0, self.processor.position - self._historian.position)

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def _deliver(self, position: int, frames: Sequence[Frame]) -> None:
        await self._queue.put((position, frames))
        self._queued_frames += len(frames)

    async def _decide(self) -> None:
        while True:
            position, frames = await self._queue.get()
            await self._load_configurations(frames)
            outcome = await _process_in_slices(self.processor, position, frames)
            await self._commit(self._take(outcome))
            for replayed in outcome.replayed:
                asking = self._replays.get(replayed.replay_id)
                if asking is not None and not asking.done():
                    asking.set_result(replayed)
            for node in self.processor.sessions.take_wanted():
                self._on_rebirth(node)
            self._queued_frames -= len(frames)
            self._decided.set()
            await self._maybe_snapshot(len(frames))

    def _take(self, outcome: Outcome) -> list[Event]:
        """Hand the readings on; give back the events that are still to be stored."""
        if outcome.position > self._historian.position:
            self._history.put(outcome.position, outcome.readings)
        return outcome.events if outcome.position > self._store.position else []

    async def _commit(self, events: list[Event], force: bool = False) -> None:
        now = time.monotonic()
        position = self.processor.position
        if not events and not force and now - self._committed_at < POSITION_EVERY_S:
            return
        if position > self._store.position or events:
            await self._store.commit(position, events)
        self._committed_at = now
        transitions = [e for e in events if isinstance(e, Transition)]
        if transitions:
            self._on_transitions(transitions)
        if any(isinstance(event, Message) for event in events):
            self._on_messages()
        for event in events:
            if isinstance(event, CommandDone):
                waiting = self._waiting.get(event.command.command_id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(event)

    async def _tick(self) -> None:
        """The one timer: journal a TICK when a deadline is due, so that a replay sees it at the same place."""
        while True:
            self._decided.clear()
            now = self._clock.now()
            deadline = self.processor.wake_at(now)
            wait = None if deadline is None else (deadline - now) / SECOND / self._clock.pace
            if wait is not None and wait <= 0:
                await self._intake.offer(FrameKind.TICK, "timer", "", b"")
                await self.settled()
                await asyncio.sleep(TICK_FLOOR_S)
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._decided.wait()
                    # A busy journal moves time by itself; look again soon, not after every batch.
                    await asyncio.sleep(TICK_FLOOR_S)
            except TimeoutError:
                continue

    # -- history ------------------------------------------------------------------------------------------------------

    async def _follow_history(self) -> None:
        """Feed the historian; after an overflow, re-read the journal from its own position until caught up."""
        while True:
            await self._history.wait()
            if self._history.lagging:
                await self._catch_up_history()
                continue
            if self._history.rows < HISTORY_WORTH:
                await asyncio.sleep(HISTORY_GATHER_S)
            await self._historian.append(self._history.take())
            self._history.settle()

    async def _catch_up_history(self) -> None:
        """Decide the journal once more, beside the work, for its readings: only an engine knows which of them are
        duplicates, which came too late, and what the gateway said of itself."""
        log.warning("historian is behind: reading the journal again", batches=self.history_lag)
        self._history.take()
        began = time.monotonic()
        aside = await self._restored(self._historian.position)
        if self._journal_is_cut(aside):
            aside = await self._from_store()
            aside.position = self._historian.position
        while True:
            await self._replay_aside(aside, self.processor.position)
            # The next two lines are one step of the loop: nothing can be decided between them.
            if self._historian.position >= self.processor.position:
                self._history.resume()
                break
        log.info("historian caught up", seconds=round(time.monotonic() - began, 1))

    async def _replay_aside(self, aside: Processor, upto: int) -> None:
        """Give the historian the readings of the batches it lacks up to ``upto``."""
        items: list[tuple[int, Sequence[Reading]]] = []
        rows = 0
        async for position, frames in self._journal.read(aside.position):
            if position > upto:
                break
            await self._load_configurations(frames)
            outcome = await _process_in_slices(aside, position, frames, frozenset(self._guard.skipped(position)))
            if position > self._historian.position:
                items.append((position, outcome.readings))
                rows += len(outcome.readings)
            if rows >= CATCH_UP_ROWS:
                await self._historian.append(items)
                items, rows = [], 0
        if not items or items[-1][0] < upto:  # the last ones were damaged and are passed over
            items.append((upto, []))
        await self._historian.append(items)
        aside.position = upto

    # -- snapshots and retention --------------------------------------------------------------------------------------

    async def _maybe_snapshot(self, frames: int) -> None:
        self._snapshot_frames += frames
        now = self._clock.now()
        if self._snapshot_at == 0:
            self._snapshot_at = now
        if (
            self._snapshot_frames >= self._snapshot_every.frames
            or now - self._snapshot_at >= self._snapshot_every.interval
        ):
            await self._snapshot()

    async def _snapshot(self, last: bool = False) -> None:
        """Write the state at this position: beside the work, or in place when it is the ``last`` thing we do."""
        if self._snapshotting is not None and not self._snapshotting.done():
            return
        self._snapshot_at, self._snapshot_frames = self._clock.now(), 0
        await self._commit([], force=True)
        position = self.processor.position
        if last:
            await self._save(self._snapshots.save_now(position, self.processor.snapshot()))
        else:
            aside = self._snapshots.save_aside(position, self.processor.snapshot, self._locked)
            self._snapshotting = asyncio.create_task(self._save(aside), name="snapshot")
            # One turn of the loop: the fork happens now, before anything else is decided.
            await asyncio.sleep(0)

    async def _save(self, saving: Coroutine[None, None, None]) -> None:
        try:
            await saving
        except OSError as error:
            # A snapshot is only a shorter way through the journal: without it the next start takes longer.
            log.warning("snapshot not written", reason=str(error))

    async def _housekeeping(self) -> None:
        """Once a second the heartbeat; once a minute let go of what every follower has passed."""
        turns = 0
        while True:
            self._intake.heartbeat()
            await asyncio.sleep(1.0)
            turns += 1
            if turns % 60 == 0:
                await self.release()

    async def release(self) -> None:
        """Delete snapshots no longer needed and journaled batches that are followed, old or too many."""
        both = min(self._store.position, self._historian.position)
        kept = await asyncio.to_thread(self._snapshots.prune, both)
        now, upto = self._clock.now(), 0
        self._kept_since.append((now, both))
        while self._kept_since and now - self._kept_since[0][0] > self._retention.keep:
            upto = self._kept_since.popleft()[1]
        if self._journal.size_bytes > self._retention.max_size:
            first, last = self._journal.first_position, self._journal.last_position
            upto = max(upto, first + (last - first) // 4)
        if min(upto, kept) > 0:
            await self._journal.release(min(upto, kept))


async def _process_in_slices(
    processor: Processor, position: int, frames: Sequence[Frame], skip: frozenset[int] = frozenset()
) -> Outcome:
    """One batch; long ones give the loop a breath between slices (the position moves only at the end)."""
    if len(frames) <= SLICE_FRAMES:
        return processor.process(position, frames, skip)
    whole = Outcome(position, [], [])
    for start in range(0, len(frames), SLICE_FRAMES):
        processor.process_slice(position, frames[start : start + SLICE_FRAMES], start, whole, skip)
        await asyncio.sleep(0)
    processor.position = position
    return whole


class _HistoryQueue:
    """Readings between the deciding task and the historian; overflows into "read the journal again"."""

    def __init__(self) -> None:
        self._items: list[tuple[int, Sequence[Reading]]] = []
        self._filled = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.rows = 0
        self.lagging = False

    def put(self, position: int, readings: Sequence[Reading]) -> None:
        self.idle.clear()
        if self.lagging:
            return
        if self.rows + len(readings) > HISTORY_ROWS and self._items:
            self.lagging = True
        else:
            self._items.append((position, readings))
            self.rows += max(1, len(readings))
        self._filled.set()

    def take(self) -> list[tuple[int, Sequence[Reading]]]:
        items, self._items, self.rows = self._items, [], 0
        if not self.lagging:
            self._filled.clear()
        return items

    def settle(self) -> None:
        """What was taken is durable."""
        if not self._items and not self.lagging:
            self.idle.set()

    def resume(self) -> None:
        """The journal has been read again up to where the deciding task is."""
        self.lagging = False
        self.take()
        self.settle()

    async def wait(self) -> None:
        await self._filled.wait()


class _ReplayGuard:
    """Finds the frame that ends the process in every replay: after three crashes at one place it is passed over.

    The file names the batch (and, once a batch is suspect, the frame) in hand. It is written without a sync: it must
    outlive the process, not the machine.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._crashes: dict[int, int] = {}
        self._skip: dict[int, list[int]] = {}
        self._suspect: int | None = None

    def open(self) -> None:
        try:
            state = msgspec.json.decode(self._path.read_bytes())
            self._skip = {int(k): list(v) for k, v in state.get("skip", {}).items()}
            at, index, crashes = state.get("position"), state.get("index"), int(state.get("crashes", 0))
        except (OSError, msgspec.MsgspecError, AttributeError, TypeError, ValueError):
            return
        if at is None:
            return
        self._suspect = at
        self._crashes[at] = crashes + 1
        # The crash that made the first replay necessary is the one not counted here.
        if self._crashes[at] + 1 >= CRASHES_BEFORE_SKIP and index is not None:
            self._skip.setdefault(at, []).append(index)
            self._crashes[at] = 0

    def enter(self, position: int) -> list[int]:
        """Called before a batch is replayed; gives the indexes to pass over."""
        self._write(position, None)
        return self.skipped(position)

    def skipped(self, position: int) -> list[int]:
        """Indexes of frames of this batch that are passed over."""
        return self._skip.get(position, [])

    def watch(self, processor: Processor, position: int, frames: int) -> None:
        """For a batch that crashed us before, note each frame before it is processed."""
        processor.on_frame = (lambda index: self._write(position, index)) if position == self._suspect else None

    def leave(self) -> None:
        """The batch came through."""
        self._write(None, None)

    def close(self) -> None:
        """The replay came through."""
        self._suspect = None
        if self._skip:
            self._path.write_bytes(msgspec.json.encode({"skip": {str(k): v for k, v in self._skip.items()}}))
        else:
            self._path.unlink(missing_ok=True)

    def _write(self, position: int | None, index: int | None) -> None:
        state = {
            "position": position,
            "index": index,
            "crashes": self._crashes.get(position, 0) if position is not None else 0,
            "skip": {str(k): v for k, v in self._skip.items()},
        }
        self._path.write_bytes(msgspec.json.encode(state))


def _hook() -> Callable[[Frame], None] | None:
    """The fault tests' way in; None in every real run."""
    if sabotage.CRASH_ON is None and sabotage.RAISE_ON is None:
        return None

    def hook(frame: Frame) -> None:
        if sabotage.CRASH_ON is not None and sabotage.CRASH_ON in frame.payload:
            sabotage.crash()
        if sabotage.RAISE_ON is not None and sabotage.RAISE_ON in frame.payload:
            raise RuntimeError("sabotage")

    return hook
