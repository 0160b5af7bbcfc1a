"""Modbus in: a worker for every endpoint, one request at a time; each polling cycle of a unit is one frame.

    due → connect if need be → block reads, one after the other → MODBUS frame → next due time
                             ↖ commands that wait go before the next read, also in the middle of a cycle

A wrong value is worse than none, so an answer counts only when transaction, unit, function and length are those of the
one request that is open (``modbus_strict``). After anything else, a time-out above all, the connection is closed: what
still comes on it can never be taken for the answer to a later request (reliability F41).

A command is sent once and never again by itself: a pump that is started twice is not what anybody asked for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from gateway.core.modbus_address import Line, parse_address
from gateway.core.modbus_write import WriteRequest
from gateway.core.model import SECOND, FrameKind, Micros, ModbusCycle, ModbusRead
from gateway.core.registers import BlockRead
from gateway.errors import ConfigError, Mistake, Rejected, Unavailable
from gateway.ports import Intake
from gateway.retry import Backoff
from gateway.sources.modbus_strict import ClosedByDevice, DeviceSaysNo, LinkBroken, NoAnswer, StrictClient

RETRY_CAP_S = 20.0  # with the connect timeout: back within 23 s of the device's return
SILENT_CYCLES = 2  # so many cycles without any answer in a row and the unit is only asked now and then:
PROBE_EVERY_S = 20.0  # … a dead unit costs its neighbours on the bus one time-out in 20 s, no more
START_SPREAD_S = 5.0  # the first cycles after a start are spread over so long, or over the interval if that is less

MAX_COMMANDS = 16  # waiting on one line: more than a person gives before the first is answered
FULL_LOOK_S = 0.5  # how long a command may have to wait behind an intake that is full
COMMAND_S = 30.0  # until its outcome; nobody waits longer before a page that says nothing
NOT_KNOWN = "it is not known whether the device carried it out"

log = structlog.get_logger(__name__)

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class ModbusUnit:
    """One device behind an endpoint: ``unit_id`` 0–255, the ``reads`` of one cycle, a cycle every ``interval``.
    ``pause``: how long it wants to be left alone between two requests; ``connect_pause``: after connecting."""

    device_id: str
    unit_id: int
    reads: tuple[BlockRead, ...]
    interval: Micros = 5 * SECOND
    pause: Micros = 0
    connect_pause: Micros = 0


@dataclass(frozen=True, slots=True)
class ModbusEndpoint:
    """One line: a device, or a bus of units."""

    line: Line
    units: tuple[ModbusUnit, ...]

    @property
    def name(self) -> str:
        return self.line.name


@dataclass(frozen=True, slots=True)
class ModbusOptions:
    """``timeout``: for connecting and for every single answer. ``source_id`` stands in every frame."""

    endpoints: tuple[ModbusEndpoint, ...] = ()
    timeout: Micros = 3 * SECOND
    source_id: str = "modbus"


@dataclass(slots=True)
class UnitStats:
    """One unit since the start. ``reason``: why the newest cycle failed, None when it did not."""

    device_id: str
    cycles: int = 0
    failed_reads: int = 0
    skipped_cycles: int = 0
    reason: str | None = None


@dataclass(slots=True)
class EndpointStats:
    """One endpoint since the start. ``since``: wall time of the last change of ``connected``."""

    address: str
    connected: bool = False
    on_standby: bool = False
    since: Micros = 0
    reconnects: int = 0
    timeouts: int = 0
    writes: int = 0
    reason: str | None = None
    units: dict[str, UnitStats] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        return sum(unit.cycles for unit in self.units.values())

    @property
    def overruns(self) -> int:
        """Cycles that were left out because an earlier one took too long."""
        return sum(unit.skipped_cycles for unit in self.units.values())


def endpoints(devices: Iterable[tuple[str, ModbusUnit]]) -> tuple[ModbusEndpoint, ...]:
    """(address, unit) of every Modbus device → endpoints with their units, in order of address. The unit's ``unit_id``
    is taken from its address.

    Raises ConfigError with every address that makes no sense or stands twice.
    """
    mistakes: list[Mistake] = []
    found: dict[Line, dict[int, ModbusUnit]] = {}
    for address, unit in devices:
        try:
            line, unit_id = parse_address(address)
            if unit.interval <= 0:
                raise ValueError("the interval must be above 0")
            for read in unit.reads:
                _check(read)
        except ValueError as error:
            mistakes.append(Mistake("assets", None, f"device {unit.device_id}", str(error)))
            continue
        units = found.setdefault(line, {})
        if unit_id in units:
            twice = f"has the same address as {units[unit_id].device_id}: {address}"
            mistakes.append(Mistake("assets", None, f"device {unit.device_id}", twice))
        else:
            units[unit_id] = replace(unit, unit_id=unit_id)
    ports: dict[str, Line] = {}
    for line in found:
        if line.port and ports.setdefault(line.port, line) != line:
            said = f"{line.name} and {ports[line.port].name}: one serial line has one speed and one format"
            mistakes.append(Mistake("assets", None, f"device {next(iter(found[line].values())).device_id}", said))
    if mistakes:
        raise ConfigError(mistakes)
    return tuple(
        ModbusEndpoint(line, tuple(units[unit] for unit in sorted(units))) for line, units in sorted(found.items())
    )


def _check(read: BlockRead) -> None:
    """Raises ValueError for a request the protocol does not have (Modbus application protocol V1.1b3, 6.1–6.4)."""
    limit = {1: 2000, 2: 2000, 3: 125, 4: 125}.get(read.function_code)
    if limit is None:
        raise ValueError(f"function code {read.function_code} is not a read")
    if not 1 <= read.count <= limit or read.address < 0 or read.address + read.count > 65536:
        raise ValueError(f"cannot read {read.count} from address {read.address} on with function {read.function_code}")


class ModbusSource:
    """A ``ports.Source``: polls all endpoints until cancelled. An endpoint that hangs holds up nobody but itself."""

    def __init__(self, options: ModbusOptions) -> None:
        self.id = options.source_id
        self._timeout_s = options.timeout / SECOND
        self._wanted = {endpoint.name: endpoint for endpoint in options.endpoints}
        self._changed = asyncio.Event()
        self._workers: dict[str, _Worker] = {}

    async def run(self, intake: Intake) -> None:
        """Poll until cancelled."""
        tasks: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for name in [name for name, worker in self._workers.items() if self._wanted.get(name) != worker.wanted]:
                    del self._workers[name]
                    tasks[name].cancel()
                    await asyncio.wait({tasks.pop(name)})  # two masters at once confuse some converters
                for name, endpoint in self._wanted.items():
                    if name not in self._workers:
                        worker = self._workers[name] = _Worker(endpoint, self.id, self._timeout_s)
                        tasks[name] = group.create_task(worker.run(intake), name=f"modbus {name}")
                await self._changed.wait()

    def poll(self, wanted: Sequence[ModbusEndpoint]) -> None:
        """Poll these and no other endpoints from now on; those that stay the same are not interrupted."""
        self._wanted = {endpoint.name: endpoint for endpoint in wanted}
        self._changed.set()

    async def write(self, device_id: str, request: WriteRequest) -> None:
        """Have ``device_id`` carry out ``request``, before anything else that waits on its line; returns when the
        device has confirmed it.

        Raises Rejected when the device refuses it, and Unavailable when it could not be sent (the device is not
        polled or cannot be reached, too many commands wait) or when there was no proper answer: then the text says
        that nobody knows what became of it. It is sent at most once.
        """
        for worker in self._workers.values():
            for unit in worker.wanted.units:
                if unit.device_id == device_id:
                    await worker.command(unit, request)
                    return
        raise Unavailable(f"{device_id} is not polled now")

    def stats(self) -> list[EndpointStats]:
        return [worker.stats for worker in self._workers.values()]

    def polled(self) -> list[tuple[ModbusEndpoint, EndpointStats]]:
        """What is really asked for, and how that goes; in order of address."""
        workers = sorted(self._workers.values(), key=lambda worker: worker.wanted.line)
        return [(worker.wanted, worker.stats) for worker in workers]


class _Poll:
    """A unit and when it is due (event loop time)."""

    def __init__(self, unit: ModbusUnit, due: float) -> None:
        self.unit = unit
        self.interval_s = unit.interval / SECOND
        self.due = due
        self.silent_cycles = 0
        self.probe_at = 0.0
        self.warned = False
        self.stats = UnitStats(unit.device_id)


class _Command:
    """A request of a person that waits for its turn. ``outcome`` has an error, or None when it was confirmed."""

    def __init__(self, unit: ModbusUnit, request: WriteRequest) -> None:
        self.unit = unit
        self.request = request
        self.sent = False
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():  # whoever asked may have gone away
            self.outcome.set_exception(error)


class _Worker:
    """One endpoint: one connection, one request at a time."""

    def __init__(self, wanted: ModbusEndpoint, source_id: str, timeout_s: float) -> None:
        self.wanted = wanted
        self._source_id = source_id
        self._client = StrictClient(wanted.line, timeout_s)
        self._backoff = Backoff(cap_s=RETRY_CAP_S)
        self._connect_at = 0.0
        self._down: str | None = None
        self._down_since = 0.0
        self._polls: list[_Poll] = []
        self._ever_connected = False
        self._connect_pause_s = max((unit.connect_pause for unit in wanted.units), default=0) / SECOND
        self._quiet_until = 0.0  # a device that wants a pause is left alone until then
        self._commands: deque[_Command] = deque()
        self._wake = asyncio.Event()  # set while commands wait
        self._ended = False
        self.stats = EndpointStats(wanted.name)

    async def run(self, intake: Intake) -> None:
        now = asyncio.get_running_loop().time
        # A whole city of endpoints started at once must not poll in step for ever after.
        self._polls = [
            _Poll(unit, now() + random.uniform(0, min(START_SPREAD_S, unit.interval / SECOND)))
            for unit in self.wanted.units
        ]
        self.stats.units = {poll.unit.device_id: poll.stats for poll in self._polls}
        if not self._polls:
            return
        try:
            while True:
                await self._carry_out()
                poll = min(self._polls, key=lambda p: p.due)
                if not await self._is_time(self._next(poll) - now(), intake):
                    continue
                if self._down is not None and now() >= self._connect_at and await self._connect():
                    self._all_due()
                if now() < poll.due:
                    continue
                self._take_turn(poll, now())
                cycle = await self._cycle(poll)
                intake.offer(FrameKind.MODBUS, self._source_id, poll.unit.device_id, _encode(cycle))
        finally:
            self._ended = True
            self._client.close()
            self._fail_commands("the line is no longer polled")

    async def _is_time(self, wait_s: float, intake: Intake) -> bool:
        """Returns True after ``wait_s``, with room in the intake; False as soon as a command waits."""
        try:
            if wait_s > 0:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
                return False
        except TimeoutError:
            pass
        if intake.full:
            try:
                async with asyncio.timeout(FULL_LOOK_S):
                    await intake.room()
            except TimeoutError:
                return False
        return not self._commands

    def _all_due(self) -> None:
        now = asyncio.get_running_loop().time()
        for poll in self._polls:
            poll.due = min(poll.due, now)

    def _next(self, poll: _Poll) -> float:
        return poll.due if self._down is None else min(poll.due, self._connect_at)

    def _take_turn(self, poll: _Poll, now: float) -> None:
        """Set the next due time on the unit's own grid; turns that were missed are counted, never made up (F45)."""
        missed = int((now - poll.due) / poll.interval_s)
        poll.stats.skipped_cycles += missed
        poll.due += (missed + 1) * poll.interval_s

    # -- a cycle ----------------------------------------------------------------------------------------------------

    async def _cycle(self, poll: _Poll) -> ModbusCycle:
        """Ask for every block of the unit; what fails has its reason instead of words."""
        poll.stats.cycles += 1
        reads: list[ModbusRead] = []
        reason = self._not_now(poll)
        answered, waited, gave_up = False, False, reason
        for block in poll.unit.reads:
            await self._carry_out()
            words: list[int] = []
            error = gave_up
            if gave_up is None:
                try:
                    words = await self._read(poll.unit, block)
                    answered = True
                except DeviceSaysNo as no:
                    error = str(no)
                    if no.absent:
                        gave_up, waited = error, True
                    else:
                        answered = True
                except (NoAnswer, LinkBroken) as fault:
                    # The rest of this cycle would only wait as long again, and its neighbours with it.
                    error = gave_up = str(fault)
                    waited = isinstance(fault, NoAnswer)
                    self.stats.timeouts += waited
            reads.append(ModbusRead(block.function_code, block.address, words, error, block.count))
        failed = [read for read in reads if read.error is not None]
        poll.stats.failed_reads += len(failed)
        if reason is None and self._down is None:
            self._judge(poll, failed[0].error if failed else None, silent=waited and not answered)
        else:
            poll.stats.reason = reason or self._down
        return ModbusCycle(reads)

    def _not_now(self, poll: _Poll) -> str | None:
        """Why this unit need not be asked at all this time."""
        if self._down is not None:
            return self._down
        if poll.silent_cycles >= SILENT_CYCLES and asyncio.get_running_loop().time() < poll.probe_at:
            return poll.stats.reason
        return None

    async def _read(self, unit: ModbusUnit, block: BlockRead) -> list[int]:
        """The words of one block. Closes the connection on everything but a clean answer."""
        for last_try in (False, True):
            if not self._client.connected and not await self._connect():
                raise LinkBroken(self._down or "not connected")
            await self._quiet()
            try:
                return await self._client.read(unit.unit_id, block.function_code, block.address, block.count)
            except DeviceSaysNo:
                raise
            except ClosedByDevice:
                self._client.close()
                if last_try:
                    raise
            except BaseException:
                self._client.close()
                raise
            finally:
                self._leave_alone(unit)
        raise AssertionError("unreachable: the last try returns or raises")

    async def _quiet(self) -> None:
        """Wait until the device that was asked last has had its pause."""
        if (wait := self._quiet_until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)

    def _leave_alone(self, unit: ModbusUnit) -> None:
        if unit.pause:
            self._quiet_until = asyncio.get_running_loop().time() + unit.pause / SECOND

    def _judge(self, poll: _Poll, reason: str | None, *, silent: bool) -> None:
        """What a cycle in which the unit was asked says about it. ``silent``: all we got was waiting."""
        poll.stats.reason = reason
        poll.silent_cycles = poll.silent_cycles + 1 if silent else 0
        poll.probe_at = asyncio.get_running_loop().time() + PROBE_EVERY_S
        if reason is not None and not poll.warned:
            log.warning("modbus device fails", device=poll.unit.device_id, endpoint=self.wanted.name, reason=reason)
        elif reason is None and poll.warned:
            log.info("modbus device back", device=poll.unit.device_id, endpoint=self.wanted.name)
        poll.warned = reason is not None

    # -- commands ---------------------------------------------------------------------------------------------------

    async def command(self, unit: ModbusUnit, request: WriteRequest) -> None:
        """Queue it and wait for the outcome; see ``ModbusSource.write``. One whose caller has gone before its turn
        came is not sent."""
        if self._ended:
            raise Unavailable("the line is no longer polled")
        if len(self._commands) >= MAX_COMMANDS:
            raise Unavailable(f"{MAX_COMMANDS} commands already wait for {self.wanted.name}; this one was not sent")
        command = _Command(unit, request)
        self._commands.append(command)
        self._wake.set()
        try:
            async with asyncio.timeout(COMMAND_S):
                await command.outcome
        except TimeoutError as error:
            end = f"no outcome within {COMMAND_S:g} s; {NOT_KNOWN}"
            raise Unavailable(end if command.sent else f"its turn did not come in {COMMAND_S:g} s; not sent") from error

    async def _carry_out(self) -> None:
        """All commands that wait, one after the other."""
        while self._commands:
            if not await self._ready():
                self._fail_commands(f"{self._down or 'the device closes the connection'}; it was not sent")
                break
            command = self._commands.popleft()
            if not command.outcome.done():
                await self._write(command)
        self._wake.clear()

    async def _ready(self) -> bool:
        """Connected, and the pause over; connects if need be, twice only when a pause outlasts it."""
        for _ in range(2):
            if not self._client.connected:
                was_down = self._down is not None
                if not await self._connect():
                    return False
                if was_down:
                    self._all_due()
            await self._quiet()
            if self._client.connected:
                return True
        return False

    async def _write(self, command: _Command) -> None:
        unit, request = command.unit, command.request
        command.sent = True
        said = {"device": unit.device_id, "endpoint": self.wanted.name, "request": str(request)}
        try:
            await self._client.write(unit.unit_id, request.function_code, request.address, request.words)
        except DeviceSaysNo as no:
            log.warning("modbus write refused", **said, reason=str(no))
            if no.for_good:
                command.fail(Rejected(str(no)))
            else:
                command.fail(Unavailable(f"{no}; {NOT_KNOWN}" if no.open_end else str(no)))
        except LinkBroken as fault:
            self._client.close()
            self.stats.timeouts += isinstance(fault, NoAnswer)
            log.warning("modbus write in doubt", **said, reason=str(fault))
            command.fail(Unavailable(f"{fault}; {NOT_KNOWN}"))
        except BaseException:
            self._client.close()
            command.fail(Unavailable(f"the gateway stopped polling; {NOT_KNOWN}"))
            raise
        else:
            self.stats.writes += 1
            log.info("modbus write", **said)
            if not command.outcome.done():
                command.outcome.set_result(None)
        finally:
            self._leave_alone(unit)
            self._read_soon(unit)

    def _read_soon(self, unit: ModbusUnit) -> None:
        """People want to see what became of a command, most of all when nobody knows."""
        for poll in self._polls:
            if poll.unit is unit:
                poll.due = min(poll.due, asyncio.get_running_loop().time())

    def _fail_commands(self, reason: str) -> None:
        while self._commands:
            self._commands.popleft().fail(Unavailable(reason))

    # -- the connection ---------------------------------------------------------------------------------------------

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            await self._client.connect()
        except LinkBroken as error:
            self._backoff_from(str(error), loop.time())
            return False
        if self._connect_pause_s:
            self._quiet_until = loop.time() + self._connect_pause_s
        self.stats.on_standby = self._client.on_standby
        self.stats.reconnects += self._ever_connected
        self._ever_connected = True
        self._backoff.reset()
        if self._down is not None:
            after_s = round(loop.time() - self._down_since, 1)
            log.info("modbus link back", endpoint=self.wanted.name, after_s=after_s)
        if not self.stats.connected:
            self.stats.connected, self.stats.since = True, time.time_ns() // 1000
        self._down = self.stats.reason = None
        return True

    def _backoff_from(self, reason: str, now: float) -> None:
        self._connect_at = now + self._backoff.next_delay_s()
        if self._down is None:
            self._down_since = now
            log.warning("modbus link down", endpoint=self.wanted.name, reason=reason)
        if self.stats.connected or self.stats.since == 0:
            self.stats.connected, self.stats.since = False, time.time_ns() // 1000
        self._down = self.stats.reason = reason
