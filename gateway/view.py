"""The running gateway as its console sees it: current values, ledger, health and metrics; and the way to devices."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import prometheus_client as prometheus
import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__, disk
from gateway.config.assets import load_assets
from gateway.console.port import (
    Health,
    InboundSms,
    Links,
    OidcOptions,
    Part,
    PlatformOptions,
    PointView,
    RawRow,
    Records,
    StepRow,
)
from gateway.console.rule_port import Rulebook, Trials
from gateway.core.calls import CallStatus
from gateway.core.component_code import Layout
from gateway.core.escalation import CANARY
from gateway.core.load import FloodWatch
from gateway.core.modbus_write import write_request
from gateway.core.model import SECOND, Asset, Command, CommandDone, Device, IsaState, Level, Micros, Transition, Value
from gateway.core.processor import GATEWAY
from gateway.core.routing import Routing
from gateway.core.vocabulary import unit_of
from gateway.core.why import Explanation
from gateway.equipment import LiveEquipment
from gateway.errors import CommandRefused, ConfigError, Mistake, Rejected, Unavailable
from gateway.live_city import LiveCity
from gateway.selfwatch import DISK_FULL
from gateway.upkeep import LiveUpkeep

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.app import Gateway
    from gateway.sources.broker import EmbeddedBroker

RATE_SAMPLES = 11  # one a second: rates are over the last ten seconds
HISTORY_BEHIND = 600  # batches; the historian is a follower, but ten minutes of a quiet county is worth a word
STALE_INTERVALS = 3  # online means a message inside three expected intervals (docs: 设备在线率)


class GatewayView:
    """Implements ``console.port.ConsolePort`` on a ``Gateway``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._started = gateway.clock.now()
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=RATE_SAMPLES)
        self._transitions: dict[str, int] = {}
        self._process = psutil.Process()
        self._metrics = prometheus.CollectorRegistry()
        self._metrics.register(_Figures(self))
        self._load = FloodWatch()
        self.equipment = LiveEquipment(gateway.pipeline, gateway.journal, lambda: gateway.modbus, self.now)
        self.upkeep = LiveUpkeep(gateway)
        self.city = LiveCity(lambda: gateway.pipeline.processor)
        self.newest: deque[Transition] = deque(maxlen=50)

    # -- ConsolePort --------------------------------------------------------------------------------------------------

    @property
    def records(self) -> Records:
        return self._gateway.store

    @property
    def rulebook(self) -> Rulebook:
        return self._gateway.rulebook

    @property
    def trials(self) -> Trials:
        return self._gateway.trials

    @property
    def component_code_layout(self) -> Layout | None:
        return self._gateway.settings.site.component_code_layout

    @property
    def site_name(self) -> tuple[str, str]:
        site = self._gateway.settings.site
        return site.name_zh, site.name_en

    @property
    def timezone(self) -> str:
        return self._gateway.settings.site.timezone

    @property
    def links(self) -> Links:
        return self._gateway.links

    @property
    def platforms(self) -> Mapping[str, PlatformOptions]:
        return self._gateway.platforms.speaking

    @property
    def inbound_sms(self) -> InboundSms | None:
        return self._gateway.inbound_sms

    @property
    def oidc(self) -> OidcOptions | None:
        return self._gateway.oidc

    def now(self) -> Micros:
        return self._gateway.clock.now()

    async def submit(self, command: Command) -> CommandDone:
        return await self._gateway.pipeline.submit(command)

    def asset(self, asset_id: str) -> Asset | None:
        return self._gateway.pipeline.processor.registry.asset(asset_id)

    def device(self, device_id: str) -> Device | None:
        return self._gateway.pipeline.processor.registry.device(device_id)

    def is_registered(self, name: str) -> bool:
        registry = self._gateway.pipeline.processor.registry
        return registry.device(name) is not None or registry.device_by_address(name) is not None

    async def claim(self, wanted: Mapping[str, object]) -> Device:
        processor = self._gateway.pipeline.processor
        profiles = processor.configuration.profiles if processor.configuration is not None else {}
        known = {asset.asset: asset for asset in processor.registry.assets() if asset.asset != GATEWAY.asset}
        text = msgspec.json.encode({"devices": [wanted]}).decode()
        _, [device] = load_assets(text, "claim.json", profiles, known, self.component_code_layout)
        asset, profile = known[device.asset], profiles[device.profile]
        if asset.kind not in profile.kinds:
            said = f"{profile.id} is for {', '.join(profile.kinds)}, and {asset.asset} is a {asset.kind}"
            raise ConfigError([Mistake("claim", None, "profile", said)])
        if self.is_registered(device.device):
            raise ConfigError([Mistake("claim", None, "device", f"{device.device} is registered already")])
        await self._gateway.apply_assets([], [device])
        await self._gateway.wired()
        return device

    async def issue_credentials(self, device_id: str) -> tuple[str, str]:
        broker, user = self._at_broker(device_id)
        return user, await broker.issue(user)

    async def revoke_credentials(self, device_id: str) -> None:
        broker, user = self._at_broker(device_id)
        await broker.revoke(user)

    def _at_broker(self, device_id: str) -> tuple[EmbeddedBroker, str]:
        device = self._gateway.pipeline.processor.registry.device(device_id)
        broker = self._gateway.broker
        if device is None or broker is None:
            said = "there is no embedded broker" if broker is None else f"there is no device {device_id}"
            raise ConfigError([Mistake("credentials", None, "device", said)])
        return broker, device.address or device.device

    async def write_point(self, device_id: str, point: str, value: Value) -> Value:
        gateway = self._gateway
        if not gateway.settings.modbus.allow_writes:
            raise CommandRefused("writes_off", "the settings do not say `modbus: {allow_writes: true}`")
        processor = gateway.pipeline.processor
        device = processor.registry.device(device_id)
        profiles = processor.configuration.profiles if processor.configuration is not None else {}
        profile = profiles.get(device.profile) if device is not None else None
        found = profile.point(point) if profile is not None else None
        if found is None:
            raise CommandRefused("not_found", f"there is no device {device_id} with a point {point}")
        try:
            request = write_request(found, value)
        except ValueError as error:
            raise CommandRefused("invalid", str(error)) from error
        if gateway.modbus is None:
            raise Unavailable("no Modbus device is polled yet")
        try:
            await gateway.modbus.write(device_id, request)
        except Rejected as error:
            raise CommandRefused("device_refused", str(error)) from error
        return request.value

    def points(self, asset_id: str) -> Sequence[PointView]:
        processor = self._gateway.pipeline.processor
        asset = processor.registry.asset(asset_id)
        if processor.engine is None or asset is None:
            return ()
        mounted = processor.registry.devices_of(asset_id)
        patience = max((processor.interval(d) or 0 for d in mounted), default=0) * STALE_INTERVALS
        now = self.now()
        return [
            PointView(
                point=name,
                value=state.value,
                unit=unit_of(asset.kind, name) or "",
                quality=state.quality,
                source_time=state.source_time,
                received_at=state.received_at,
                device=mounted[-1] if mounted else "",
                reason=state.reason,
                stale=bool(patience) and now - state.received_at > patience,
            )
            for name, state in sorted(processor.engine.points(asset_id).items())
        ]

    def why(self, alarm_id: str) -> Explanation:
        engine = self._gateway.pipeline.processor.engine
        if engine is None:
            raise Unavailable("no configuration is in force yet")
        return engine.why(alarm_id)

    @property
    def routing(self) -> Routing:
        configuration = self._gateway.pipeline.processor.configuration
        return configuration.routing if configuration is not None else Routing()

    def calls_of(self, alarm_id: str) -> tuple[list[CallStatus], list[str]]:
        return self._gateway.pipeline.processor.escalations.calls_of(alarm_id)

    def teams_of(self, user: str) -> frozenset[str]:
        routing = self.routing
        person = routing.person_of_user(user)
        if person is None:
            return frozenset()
        return routing.teams_of(person.person, self.now()) | {person.person}

    def load(self) -> FloodWatch:
        self._load.advance(self.now())
        return self._load

    def shadows(self) -> Mapping[str, str | None]:
        configuration = self._gateway.pipeline.processor.configuration
        rules = configuration.rules if configuration is not None else ()
        return {rule.id: rule.shadow_of for rule in rules if rule.shadow and rule.enabled}

    def rule(self, rule_id: str) -> Mapping[str, object] | None:
        configuration = self._gateway.pipeline.processor.configuration
        rule = configuration.rules.get(rule_id) if configuration is not None else None
        return msgspec.to_builtins(rule, str_keys=True) if rule is not None else None

    async def readings(
        self, asset: str, point: str, start: Micros, end: Micros, step: Micros | None, limit: int
    ) -> Sequence[RawRow] | Sequence[StepRow]:
        historian = self._gateway.historian
        if step is None:
            samples = await historian.readings(asset, point, start, end, limit=limit)
            return [RawRow(r.time, r.value, r.quality, r.reason) for r in samples]
        steps = await historian.readings(asset, point, start, end, step, limit=limit)
        return [StepRow(r.time, r.count, r.min, r.mean, r.max, r.last, r.bad) for r in steps]

    async def resolution(self, start: Micros, end: Micros) -> Micros:
        return await self._gateway.historian.resolution(start, end)

    def ledger(self, device: str | None) -> Mapping[str, object] | None:
        ledger = self._gateway.pipeline.processor.ledger
        if device is not None:
            return ledger.balance(device) if device in ledger.accounts else None
        return ledger.balance(None, self._gateway.pipeline.in_flight)

    def ledger_devices(self, after: str, limit: int) -> Sequence[str]:
        return sorted(name for name in self._gateway.pipeline.processor.ledger.accounts if name > after)[:limit]

    def health(self) -> Health:
        return Health(__version__, self._started, self.now(), self._parts(), self.rates())

    def metrics(self) -> bytes:
        return prometheus.generate_latest(self._metrics)

    def also_measure(self, collector: Collector) -> None:
        """More for ``/metrics``."""
        self._metrics.register(collector)

    # -- what the gateway tells us ------------------------------------------------------------------------------------

    def count(self, transitions: Sequence[Transition]) -> None:
        """These were committed."""
        for transition in transitions:
            self._transitions[transition.cause] = self._transitions.get(transition.cause, 0) + 1
            if transition.record.rule != CANARY:  # it is no load for anybody
                self._load.take(transition)
        self.city.count(transitions)
        self.newest.extend(transitions)

    def sample(self) -> None:
        """Once a second, for the rates."""
        total = self._gateway.pipeline.processor.ledger.total
        self._samples.append((time.monotonic(), total.received, total.readings, sum(self._transitions.values())))

    def rates(self) -> dict[str, float]:
        """Frames, readings and transitions a second, over the last ten seconds."""
        if len(self._samples) < 2:
            return {"frames": 0.0, "readings": 0.0, "transitions": 0.0}
        (then, *before), (now, *after) = self._samples[0], self._samples[-1]
        names = ("frames", "readings", "transitions")
        return {name: round((b - a) / (now - then), 1) for name, a, b in zip(names, before, after, strict=True)}

    def standing(self) -> list[tuple[Level, IsaState]]:
        """Level and state of every recorded alarm that is not NORM."""
        return list(self.city.standing.counts.elements())

    def some_lamps(self, most: int) -> list[str]:
        """Ids of the first MQTT devices on lamps, for a demonstration."""
        registry = self._gateway.pipeline.processor.registry
        found: list[str] = []
        for device in registry.devices():
            asset = registry.asset(device.asset)
            if asset is not None and asset.kind == "lamp" and len(found) < most:
                found.append(device.device)
        return found

    # -- parts --------------------------------------------------------------------------------------------------------

    def _parts(self) -> list[Part]:
        gateway = self._gateway
        pipeline = gateway.pipeline
        journal, historian = gateway.journal, gateway.historian
        parts = [
            Part(
                "journal",
                True,
                "; ".join(journal.damage[-3:]),
                {"position": journal.last_position, "bytes": journal.size_bytes, "waiting": gateway.intake.waiting},
            ),
            Part(
                "intake",
                not gateway.intake.full,
                "full" if gateway.intake.full else "",
                {"offered": gateway.intake.offered},
            ),
            Part(
                "engine",
                pipeline.processor.engine is not None,
                "",
                {"position": pipeline.processor.position},
            ),
            Part("store", True, "", {"position": gateway.store.position}),
            Part(
                "historian",
                pipeline.history_lag < HISTORY_BEHIND,
                f"{pipeline.history_lag} batches behind" if pipeline.history_lag else "",
                {"position": historian.position, "behind": pipeline.history_lag},
            ),
            self._disk_part(),
            Part(
                "clock",
                not gateway.clock.uncertain,
                "the wall clock is not believed" if gateway.clock.uncertain else "",
            ),
            Part(
                "configuration",
                not gateway.reload_mistakes,
                "; ".join(map(str, gateway.reload_mistakes[:3])),
                {"hash": pipeline.processor.configuration.hash if pipeline.processor.configuration else None},
            ),
        ]
        for name, platform in gateway.platforms.receivers.items():
            away = "" if platform.down_since is None else "away: its cases go into the drop folder when it stays so"
            parts.append(Part(f"cases {name}", True, away, {"dropped": platform.dropped}))
        for source in gateway.mqtt:
            link = source.stats()
            parts.append(
                Part(
                    f"mqtt {link.id}",
                    link.connected,
                    link.reason or "",
                    {"received": link.received, "acknowledged": link.acknowledged, "reconnects": link.reconnects},
                )
            )
        if gateway.broker is not None:
            stats = gateway.broker.stats()
            parts.append(
                Part(
                    "broker",
                    stats.running,
                    "" if stats.running else "the embedded broker is not running",
                    {
                        "port": stats.port,
                        "restarts": stats.restarts,
                        "devices": stats.devices,
                        "publishes_refused": stats.publishes_refused,
                        "logins_refused": stats.logins_refused,
                    },
                )
            )
        if gateway.modbus is not None:
            for endpoint in gateway.modbus.stats():
                # A station that does not answer is its own alarm; the gateway does its job all the same.
                parts.append(
                    Part(
                        f"modbus {endpoint.address}",
                        True,
                        endpoint.reason or "",
                        {
                            "connected": endpoint.connected,
                            "cycles": endpoint.cycles,
                            "overruns": endpoint.overruns,
                            "writes": endpoint.writes,
                        },
                    )
                )
        for forwarder in gateway.forwarders:
            status = forwarder.status
            # A sink that is away delays nobody: said, counted, and no reason to call the gateway ill.
            parts.append(
                Part(
                    f"sink {status.name}",
                    True,
                    status.away_reason or "",
                    {"cursor": status.cursor, "written": status.written, "refused": status.refused},
                )
            )
        return parts

    def _disk_part(self) -> Part:
        try:
            room = disk.room(self._gateway.settings.data)
        except OSError as error:
            return Part("disk", False, str(error))
        full = DISK_FULL in self._gateway.intake.closed_for
        text = "below the reserve: no telemetry is taken" if full else ""
        return Part("disk", not full, text, {"free_bytes": room.free, "used_percent": round(room.used, 1)})


class _Figures(Collector):
    """Everything ``/metrics`` shows, read when it is asked for."""

    def __init__(self, view: GatewayView) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        view, gateway = self._view, self._view._gateway
        total = gateway.pipeline.processor.ledger.total
        frames = CounterMetricFamily("citywatch_frames", "Telemetry frames by outcome.", labels=["outcome", "reason"])
        frames.add_metric(["stored", ""], total.stored)
        frames.add_metric(["duplicate", ""], total.duplicate)
        for reason, count in sorted(total.rejected.items()):
            frames.add_metric(["rejected", reason], count)
        yield frames
        readings = CounterMetricFamily("citywatch_readings", "Readings kept.", labels=["quality"])
        readings.add_metric(["bad"], total.bad)
        readings.add_metric(["good_or_uncertain"], total.readings - total.bad)
        yield readings
        yield CounterMetricFamily(
            "citywatch_conflicts", "Readings with a known key and another value.", total.conflicts
        )
        yield GaugeMetricFamily(
            "citywatch_in_flight_frames", "Received and not yet decided.", gateway.pipeline.in_flight
        )
        transitions = CounterMetricFamily("citywatch_transitions", "Alarm transitions by cause.", labels=["cause"])
        for cause, count in sorted(view._transitions.items()):
            transitions.add_metric([cause], count)
        yield transitions
        alarms = GaugeMetricFamily("citywatch_alarms", "Alarms not NORM.", labels=["level", "state"])
        for (level, state), count in sorted(Counter(view.standing()).items()):
            alarms.add_metric([level.name, state.value], count)
        yield alarms
        positions = GaugeMetricFamily("citywatch_position", "Journal position each part has passed.", labels=["part"])
        positions.add_metric(["journal"], gateway.journal.last_position)
        positions.add_metric(["engine"], gateway.pipeline.processor.position)
        positions.add_metric(["store"], gateway.store.position)
        positions.add_metric(["historian"], gateway.historian.position)
        yield positions
        parts = GaugeMetricFamily("citywatch_part_ok", "1: the part does its job.", labels=["part"])
        for part in view._parts():
            parts.add_metric([part.name], int(part.ok))
        yield parts
        yield GaugeMetricFamily(
            "citywatch_previous_shutdown_clean",
            "0: the process before this one was killed.",
            int(gateway.journal.previous_shutdown_clean),
        )
        yield CounterMetricFamily(
            "citywatch_pauses", "Times the process was paused for seconds.", gateway.intake.pauses
        )
        yield GaugeMetricFamily("citywatch_resident_bytes", "Memory of the process.", view._process.memory_info().rss)
        yield GaugeMetricFamily("citywatch_open_files", "Open files of the process.", view._process.num_fds())
        yield GaugeMetricFamily("citywatch_uptime_seconds", "Since start.", (view.now() - view._started) / SECOND)
