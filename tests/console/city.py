"""A small gateway for the console's tests: the real store and the real feed, and a hand-made engine of one rule."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import cast

import httpx
import msgspec

from gateway.config.rules import load_rules
from gateway.console.app import create_app
from gateway.console.feed import Feed
from gateway.console.pages import Pages
from gateway.console.port import (
    Health,
    InboundSms,
    OidcOptions,
    Part,
    PlatformOptions,
    PointView,
    RawRow,
    Records,
    StepRow,
)
from gateway.console.rule_port import Rulebook, Trials
from gateway.console.server import ConsoleServer
from gateway.console.upkeep import CheckedFiles, ConfigurationNow, Figures, FollowerNow, ReceiverNow, SinkNow, Sources
from gateway.core import maintenance, work
from gateway.core.assets_json import parse_assets, to_json
from gateway.core.base_map import NO_BASE, BaseMap
from gateway.core.calls import CallStatus
from gateway.core.component_code import Layout
from gateway.core.load import FloodWatch
from gateway.core.model import (
    SECOND,
    AlarmRecord,
    Asset,
    AssetsChanged,
    Command,
    CommandDone,
    CommandName,
    Condition,
    Decoded,
    Device,
    Event,
    Frame,
    FrameKind,
    Level,
    MaintenanceChanged,
    Micros,
    Quality,
    Reading,
    Replay,
    Transition,
    Value,
)
from gateway.core.processor import Configuration, Processor
from gateway.core.records import Role
from gateway.core.routing import Routing
from gateway.core.why import Explanation, PointNow, Reason, RungNow, not_applicable
from gateway.equipment import LiveEquipment
from gateway.errors import CommandRefused, ConfigError, Mistake
from gateway.journal.embedded import EmbeddedJournal
from gateway.live_city import LiveCity
from gateway.notify.links import Links
from gateway.pipeline import Pipeline
from gateway.store.store import Store
from tests.console.rule_house import House

START: Micros = 1_752_993_000 * SECOND


def record(
    asset: str = "lamp-1", rule: str = "lamp-out", rev: int = 1, level: Level = Level.III, **more: object
) -> AlarmRecord:
    """An active, unacknowledged alarm."""
    base = AlarmRecord(
        f"{asset}/{rule}",
        asset,
        rule,
        "lamp",
        "01J",
        rev,
        cond=Condition.ACTIVE,
        level=level,
        acked=False,
        active_at=START,
        detected_at=START,
        value=0.5,
        limit=20.0,
        unit="W",
        title_zh="路灯熄灭",
        title_en="Lamp out",
    )
    return msgspec.structs.replace(base, **more)


def step(after: AlarmRecord, before: AlarmRecord | None = None, cause: str = "T3", **more: object) -> Transition:
    """The transition that led to ``after``."""
    was = before if before is not None else msgspec.structs.replace(after, cond=Condition.NORMAL, acked=True)
    at = START + after.rev * SECOND
    made = Transition(after.alarm_id, after.rev, at, cause, was.isa_state, after.isa_state, after, notify=True)
    return msgspec.structs.replace(made, **more)


ASSETS = [
    Asset(
        "lamp-1", "lamp", "一号灯", "水泊路", "梁山", "养护一所", 116.1, 35.8, {"feeder": "F1"}, {"rated_power": 100.0}
    ),
    Asset("lamp-2", "lamp", "二号灯", "水泊路", "梁山", "养护一所", attributes={"component_code": "3708320103000001"}),
    Asset("pump-1", "pump", "泵站", "人民路", "梁山", "排水处"),
]
DEVICES = [
    Device("d-1", "lamp-1", "generic/json-lamp", "d-1", 15 * SECOND),
    Device("d-2", "lamp-2", "generic/json-lamp"),
]


def real_city(assets: Sequence[Asset], interval_s: int = 60) -> Processor:
    """An engine without rules that listens to one device on each asset, since START."""
    configuration = Configuration("c", {}, load_rules({}))
    processor = Processor({"c": configuration})
    devices = [Device(f"d-{a.asset}", a.asset, "p", expected_interval=interval_s * SECOND) for a in assets]
    processor.process(1, [Frame(FrameKind.CONFIG, "gateway", "c", b"", START)])
    processor.process(2, [Frame(FrameKind.ASSETS, "gateway", "", to_json(assets, devices), START)])
    return processor


def tick(processor: Processor, at: Micros) -> None:
    """Time passes."""
    processor.process(processor.position + 1, [Frame(FrameKind.TICK, "timer", "", b"", at)])


def says(processor: Processor, asset: str, quality: Quality = Quality.GOOD, **values: Value) -> None:
    """The device on an asset speaks, now."""
    assert processor.engine is not None
    now = processor.engine.now
    readings = [
        Reading(asset, p, v, quality, now, now, f"d-{asset}", None, False, None, False) for p, v in values.items()
    ]
    processor.engine.observe(Decoded(f"d-{asset}", readings), [])


@contextlib.asynccontextmanager
async def holding() -> AsyncIterator[list[float]]:
    """For how long the loop was held, each time, in seconds of this thread's own CPU: what else the machine does does
    not count."""
    held: list[float] = []

    async def watch() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            last, before = time.thread_time(), last
            held.append(last - before)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield held
    finally:
        watcher.cancel()


@dataclass
class SmallUpkeep:
    """A gateway at rest; ``mistakes`` are in its files."""

    mistakes: list[Mistake] = field(default_factory=list)
    reloads: int = 0

    def figures(self) -> Figures:
        followers = [FollowerNow("store", 7, 2)]
        sinks = [SinkNow("influx", 5, 4, 100, 1, 3, 12.5, "connection refused")]
        receivers = [ReceiverNow("ops", 9, 1, 2, 0, START, "HTTP 503")]
        return Figures(1, 9, 4096, START, 0, followers, sinks, receivers, 600, 1000, 100)

    def configuration(self) -> ConfigurationNow:
        sources = Sources("/etc/citywatch.yaml", ["/p"], ["/r"], None, [])
        return ConfigurationNow("f00", {"site": {"timezone": "Asia/Shanghai"}}, sources, 50, 90, self.mistakes)

    async def check(self) -> CheckedFiles:
        return CheckedFiles(None if self.mistakes else "f11", self.mistakes, ["console"])

    async def reload(self) -> ConfigurationNow:
        self.reloads += 1
        return self.configuration()


@dataclass
class SmallGateway:
    """Satisfies ``ConsolePort``. Commands change the store at once, under the lock of ``rev``, as the engine does."""

    store: Store
    feed: Feed
    position: int = 0
    healthy: bool = True
    submitted: list[Command] = field(default_factory=list)
    rows: list[RawRow | StepRow] = field(default_factory=list)
    watch: FloodWatch = field(default_factory=FloodWatch)
    claimed: dict[str, Device] = field(default_factory=dict)
    writes_allowed: bool = True
    written: list[tuple[str, str, Value]] = field(default_factory=list)
    write_fault: Exception | None = None
    component_code_layout: Layout | None = Layout.CLASSIC
    site_name: tuple[str, str] = ("梁山城市运行中心", "Liangshan operations centre")
    timezone: str = "Asia/Shanghai"
    oidc: OidcOptions | None = None
    links: Links = field(default_factory=lambda: Links("00" * 16, "https://alarm.example.gov.cn"))
    inbound_sms: InboundSms | None = None
    platforms: dict[str, PlatformOptions] = field(default_factory=dict)
    upkeep: SmallUpkeep = field(default_factory=lambda: SmallUpkeep())
    processor: Processor = field(default_factory=lambda: Processor({}))
    city: LiveCity = field(init=False)
    windows: maintenance.Windows = field(default_factory=maintenance.Windows)
    teams: dict[str, frozenset[str]] = field(default_factory=dict)
    calls: dict[str, tuple[list[CallStatus], list[str]]] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    data: Path | None = None
    site_rules: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        self.city = LiveCity(lambda: self.processor)

    @cached_property
    def house(self) -> House:
        """The rules; read when somebody asks for them."""
        assert self.data is not None
        return House(self.data, self.store, self.processor, self.site_rules)

    @property
    def rulebook(self) -> Rulebook:
        return self.house.rulebook

    @property
    def trials(self) -> Trials:
        return self.house.trials

    @property
    def equipment(self) -> LiveEquipment:
        """Over the same registry; there is no journal to look into, and nothing is polled."""
        return LiveEquipment(cast(Pipeline, self), cast(EmbeddedJournal, None), lambda: None, self.now)

    async def replay(self, replays: Sequence[Replay], by: str) -> list[None]:
        """Offered; nothing decides them here."""
        return [None for _ in replays]

    @property
    def records(self) -> Records:
        return self.store

    def now(self) -> Micros:
        return time.time_ns() // 1000

    async def commit(self, *events: Event) -> None:
        self.position += 1
        await self.store.commit(self.position, events)
        for event in events:
            if isinstance(event, AssetsChanged):
                self.processor.registry.upsert(*parse_assets(event.payload))
        self.city.standing  # noqa: B018  from here on it hears every step
        self.city.count([event for event in events if isinstance(event, Transition)])
        self.feed.publish([event for event in events if isinstance(event, Transition)])

    async def submit(self, command: Command) -> CommandDone:
        self.submitted.append(command)
        if command.name in (CommandName.MAINTENANCE, CommandName.END_MAINTENANCE):
            return await self._maintain(command)
        before = await self.store.alarm(command.alarm_id)
        assert before is not None
        if command.rev is not None and command.rev != before.rev:
            refused = ("stale_rev", f"the alarm is at rev {before.rev}")
            await self.commit(CommandDone(command, self.now(), refused))
            raise CommandRefused(*refused)
        after = before
        if command.name is CommandName.ACKNOWLEDGE:
            after = msgspec.structs.replace(
                before, rev=before.rev + 1, acked=True, acked_by=command.by, comment=command.why
            )
        cause = "T10"
        if command.name in work.COMMANDS:
            try:
                cause, after = work.obey(before, command, self.now(), work.Scene(("power",), False, 116.1, 35.8))
            except CommandRefused as refusal:
                await self.commit(CommandDone(command, self.now(), (refusal.code, str(refusal))))
                raise
            after = msgspec.structs.replace(after, rev=before.rev + 1)
        done = CommandDone(command, self.now())
        await self.commit(step(after, before, cause, by=command.by, why=command.why), done)
        return done

    async def _maintain(self, command: Command) -> CommandDone:
        now = self.now()
        done = CommandDone(command, now)
        try:
            if command.name is CommandName.MAINTENANCE:
                window = maintenance.asked_for(command, now)
                self.windows.add(window)
            else:
                wanted = command.arguments["id"]
                found = next((w for w in self.windows.of(command.alarm_id) if w.id == wanted), None)
                if found is None:
                    raise CommandRefused("not_found", "it is over")
                self.windows.end(found)
                window = msgspec.structs.replace(found, ended_at=now, ended_by=command.by)
        except CommandRefused as refusal:
            await self.commit(CommandDone(command, now, (refusal.code, str(refusal))))
            raise
        await self.commit(MaintenanceChanged(now, window), done)
        return done

    def asset(self, asset_id: str) -> Asset | None:
        return next((asset for asset in ASSETS if asset.asset == asset_id), None)

    def device(self, device_id: str) -> Device | None:
        return next((device for device in DEVICES if device.device == device_id), None)

    def is_registered(self, name: str) -> bool:
        return name in ("d-1", "d-2", *self.claimed)

    async def claim(self, wanted: Mapping[str, object]) -> Device:
        if wanted["asset"] == "lamp-9":
            raise ConfigError([Mistake("claim", None, "asset", f"there is no asset `{wanted['asset']}`")])
        device = Device(str(wanted["device"]), "lamp-2", str(wanted["profile"]), str(wanted["address"]))
        self.claimed[str(wanted["address"] or wanted["device"])] = device
        return device

    async def issue_credentials(self, device_id: str) -> tuple[str, str]:
        if device_id != "d-1":
            raise ConfigError([Mistake("credentials", None, "device", f"there is no device {device_id}")])
        return "d-1", "a new password"

    async def revoke_credentials(self, device_id: str) -> None:
        await self.issue_credentials(device_id)

    async def write_point(self, device_id: str, point: str, value: Value) -> Value:
        if not self.writes_allowed:
            raise CommandRefused("writes_off", "the settings do not say `modbus: {allow_writes: true}`")
        if (device_id, point) != ("d-1", "setpoint"):
            raise CommandRefused("not_found", f"there is no device {device_id} with a point {point}")
        if not isinstance(value, float):
            raise CommandRefused("invalid", f"setpoint is a number, not {value!r}")
        self.written.append((device_id, point, value))
        if self.write_fault is not None:
            raise self.write_fault
        return round(value, 1)

    def points(self, asset_id: str) -> Sequence[PointView]:
        if asset_id != "lamp-1":
            return []
        return [PointView("power", 0.5, "W", Quality.GOOD, START, START + 1, "d-1")]

    def why(self, alarm_id: str) -> Explanation:
        asset, _, rule = alarm_id.partition("/")
        if asset not in ("lamp-1", "lamp-2"):
            return not_applicable(alarm_id, "no_asset", f"没有设施 {asset}", f"there is no asset {asset}")
        if rule != "lamp-out":
            return not_applicable(alarm_id, "no_rule", f"没有规则 {rule}", f"there is no rule {rule}")
        rung = RungNow(Level.IV, asset == "lamp-1", asset == "lamp-1", 0.5, 20.0, "W", -19.5, "CJJ 89")
        reason = Reason("above", "条件成立", "the condition is true")
        return Explanation(alarm_id, True, asset == "lamp-1", [reason], None, [rung], [PointNow("power", True, 0.5)])

    def teams_of(self, user: str) -> frozenset[str]:
        return self.teams.get(user, frozenset())

    def calls_of(self, alarm_id: str) -> tuple[list[CallStatus], list[str]]:
        return self.calls.get(alarm_id, ([], []))

    def load(self) -> FloodWatch:
        return self.watch

    def shadows(self) -> Mapping[str, str | None]:
        return {"lamp-out-strict": "lamp-out"}

    def rule(self, rule_id: str) -> Mapping[str, object] | None:
        return {"rule": rule_id, "when": {"point": "power"}} if rule_id == "lamp-out" else None

    async def readings(
        self, asset: str, point: str, start: Micros, end: Micros, step: Micros | None, limit: int
    ) -> Sequence[RawRow] | Sequence[StepRow]:
        return [row for row in self.rows if start <= row.time < end][:limit]  # type: ignore[return-value]

    async def resolution(self, start: Micros, end: Micros) -> Micros:
        return 0

    def ledger(self, device: str | None) -> Mapping[str, object] | None:
        if device not in (None, "d-1", "d-2"):
            return None
        numbers = {"received": 10, "stored": 7, "duplicate": 1, "rejected_total": 2, "in_flight": 0, "readings": 28}
        rest = {"bad_readings": 0, "conflicts": 0, "extra_points": 0, "balanced": True}
        return {"device": device, "rejected": {"bad_payload": 2}, **numbers, **rest}

    def ledger_devices(self, after: str, limit: int) -> Sequence[str]:
        return [name for name in ("d-1", "d-2") if name > after][:limit]

    def health(self) -> Health:
        parts = [Part("journal", self.healthy, "" if self.healthy else "disk full", {"position": self.position})]
        return Health("0.1.0", START, self.now(), parts, {"frames": 12.5, "readings": 50.0, "transitions": 0.1})

    def metrics(self) -> bytes:
        return b"# TYPE citywatch_up gauge\ncitywatch_up 1\n"


@dataclass
class Running:
    """A console on a real port, with a token for every role."""

    gateway: SmallGateway
    url: str
    tokens: dict[Role, str]

    def client(self, role: Role | None = Role.ADMIN) -> httpx.AsyncClient:
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        # verify=False: there is no TLS here, and reading the authorities takes longer than the request.
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=10, trust_env=False, verify=False)


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, ring: int = 4096, port: int = 0, pages: Pages | None = None, base: BaseMap = NO_BASE
) -> AsyncIterator[Running]:
    """Store, feed and a real uvicorn on loopback, with the assets of this file."""
    store = await Store.open(folder)
    feed = Feed(store.standing, lambda: time.time_ns() // 1000, ring=ring)
    gateway = SmallGateway(store, feed, store.position, data=folder)
    tokens = {role: await store.create_token(f"{role.word}-1", role, START) for role in Role}
    payload = msgspec.json.encode({"assets": ASSETS, "devices": DEVICES})
    await gateway.commit(AssetsChanged(START, payload))
    server = ConsoleServer(create_app(gateway, feed, pages, base), port=port)
    try:
        async with asyncio.TaskGroup() as group:
            await server.start()
            group.create_task(server.run(), name="console")
            try:
                yield Running(gateway, server.url, tokens)
            finally:
                feed.close()
                await server.stop()
    finally:
        await store.close()
