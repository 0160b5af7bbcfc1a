"""The composition root: settings → objects → one TaskGroup → ordered stop.

Order of a start: lock → journal (checked) → store → snapshot and replay → START, configuration and assets through the
journal → sinks, dispatcher, console → broker, sources. Nothing is taken from outside before everything behind it works.
Order of a stop: sources → what was taken is decided and stored → the rest.

Any task that fails ends the process; the next process reads what is really on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import structlog
import uvloop
from watchfiles import awatch

from gateway import canary, inbox, logs, watchdog
from gateway.canary import Canary
from gateway.case_platforms import LiveCaseWorld, Platforms, platforms_of
from gateway.clock import Clock
from gateway.config.assets import load_asset_files
from gateway.config.base_map import load_base_map
from gateway.config.bundle import Bundle, compile_bundle, load_configuration, rule_origins, watched_folders
from gateway.config.receivers import InboundSmsSettings, MirrorSettings
from gateway.config.settings import MqttSettings, OidcSettings, Settings
from gateway.console.app import create_app
from gateway.console.feed import Feed
from gateway.console.pages import Pages
from gateway.console.port import InboundSms, OidcOptions
from gateway.console.server import ConsoleServer
from gateway.core import routing, sparkplug
from gateway.core.assets_json import parse_assets, to_json
from gateway.core.baselines import with_learned
from gateway.core.model import Asset, Device, Level, Micros, Start, Transition
from gateway.core.networks import TOPICS
from gateway.core.processor import GATEWAY, Configuration
from gateway.core.profile import Profile, Transport
from gateway.core.records import Role
from gateway.core.registers import plan_reads
from gateway.core.rule import Rule
from gateway.errors import ConfigError, DecodeError, Mistake, StorageFailed, Unavailable
from gateway.historian.compaction import Retention as HistoryRetention
from gateway.historian.historian import Historian
from gateway.intake import JournalIntake
from gateway.journal.embedded import EmbeddedJournal
from gateway.lock import DataLock
from gateway.notify.dispatcher import Dispatcher, Handed
from gateway.notify.links import Links
from gateway.notify.mirror import Address, AlarmMirror
from gateway.notify.wording import Wording
from gateway.pipeline import Pipeline, Recovery, Retention, SnapshotEvery
from gateway.rulebook import Rulebook
from gateway.selfwatch import SelfWatch
from gateway.sinks.cursor import FileCursor
from gateway.sinks.forwarder import Forwarder
from gateway.sinks.influx import AssetTags, InfluxSink
from gateway.snapshots import SnapshotFolder
from gateway.sources.broker import MIRROR_USER, USER_NAME, BrokerOptions, EmbeddedBroker, loss_window, secret_file
from gateway.sources.hj212 import Hj212Options, Hj212Source
from gateway.sources.modbus import ModbusEndpoint, ModbusOptions, ModbusSource, ModbusUnit, endpoints
from gateway.sources.mqtt import MqttOptions, MqttSource
from gateway.store.store import Store
from gateway.telling import Telling, receivers_of, secret_of
from gateway.trials import Trials
from gateway.view import GatewayView

log = structlog.get_logger("gateway")

SWITCH_S = (
    0.001  # how long the historian's thread may keep the deciding one waiting; Python's own 5 ms is an alarm late
)
MIN_SECRET = 16  # characters of the secret that an SMS gateway shows
STORM_FRAMES = 1_000  # waiting to be decided: what can wait for it does
STOP_TIMEOUT_S = 4.0  # a stop has 5 s in all (reliability F04)
MONITOR_S = 1.0
ASSETS_AT_ONCE = 1_000  # a portion small enough that messages are decided between two of them
RELOAD_QUIET_MS = 400  # editors write a file in several steps


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a gateway that is ready can be reached. ``first_token`` only at the very first start."""

    console_url: str
    mqtt_url: str | None
    first_token: str | None


def run_gateway(
    settings: Settings,
    config_file: Path | None,
    on_ready: Callable[[Gateway], None] | None = None,
    log_file: Path | None = None,
    make_clock: Callable[[Micros], Clock] = Clock,
) -> int:
    """Run until told to stop; gives the exit code: 0 stopped in order, 1 something failed (said in the log).

    ``make_clock``: gateway time, from the newest in the journal (``Clock``). Raises ConfigError before anything was
    touched when the files are wrong.
    """
    logs.configure(file=None if log_file is None else log_file.open("a", encoding="utf-8"))
    gateway = Gateway(settings, config_file, make_clock)
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(gateway.run(on_ready))
        except Exception as error:  # the top: say what happened, give the exit code
            return gateway.ended_by(error)
        finally:
            gc.unfreeze()  # or the interpreter ends with everything still standing, and DuckDB complains of it
    return 0


@dataclass(frozen=True, slots=True)
class Files:
    """What the operator's files say; ``origins``: of each rule file, "shipped" or "site"."""

    bundle: Bundle
    configuration: Configuration
    origins: dict[str, str]
    assets: tuple[list[Asset], list[Device]]


class Gateway:
    """One running gateway; ``view`` is what the console and the demo look at. ``on_transitions``: who else wants to
    hear them, in their order."""

    bundle: Bundle  # in force, as are the two that follow
    configuration: Configuration
    origins: dict[str, str]
    _file_assets: tuple[list[Asset], list[Device]]

    def __init__(
        self, settings: Settings, config_file: Path | None, make_clock: Callable[[Micros], Clock] = Clock
    ) -> None:
        self.settings = settings
        self._make_clock = make_clock
        self.on_transitions: Callable[[Sequence[Transition]], None] | None = None
        self.config_file = config_file
        self._use(self.read_files())
        self._base_map = load_base_map(settings.console.map)
        self._lock = DataLock(settings.data)
        self._stop = asyncio.Event()
        self._sources: dict[str, asyncio.Task[None]] = {}
        self._feeds: tuple[routing.Feed, ...] = ()
        self._rewire_wanted = False
        self._wired = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self.reloading = asyncio.Lock()
        self.rulebook = Rulebook(self)
        self.trials = Trials(self)
        self.reload_mistakes: list[Mistake] = []
        self.mqtt: list[MqttSource] = []
        self.modbus: ModbusSource | None = None
        self.hj212: list[Hj212Source] = []
        self.broker: EmbeddedBroker | None = None
        self.forwarders: list[Forwarder] = []
        self.dispatcher: Dispatcher | None = None
        self.mirrors: tuple[AlarmMirror, ...] = ()
        self.canary: Canary | None = None
        self.recovery: Recovery | None = None
        self.addresses = Addresses("", None, None)
        self.oidc = _oidc(settings.console.oidc)
        self.inbound_sms = _inbound_sms(settings.inbound.sms)

    def stop(self) -> None:
        """Ask for an ordered stop."""
        self._stop.set()

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(self, on_ready: Callable[[Gateway], None] | None = None) -> None:
        """The whole life, until ``stop`` or a failure."""
        data = self.settings.data
        self._lock.take()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._open(data, stack)
                self.recovery = await self.pipeline.recover()
                log.info(
                    "recovered",
                    snapshot=self.recovery.snapshot,
                    frames=self.recovery.frames,
                    seconds=round(self.recovery.seconds, 2),
                )
                await self._live(stack, on_ready)
        finally:
            (data / "run.json").unlink(missing_ok=True)
            self._lock.release()

    async def _open(self, data: Path, stack: contextlib.AsyncExitStack) -> None:
        """Everything that keeps state on the disk."""
        settings = self.settings
        snapshots = SnapshotFolder(data / "snapshots")
        self.journal = await EmbeddedJournal.open(data)
        stack.push_async_callback(self.journal.close)
        telling = self._tell(stack)
        self.platforms = self._platforms(stack)
        self._receivers = {**telling.receivers, **self.platforms.receivers}
        self._feeds = (*telling.feeds, *self.platforms.feeds)
        for_simulated = telling.for_simulated | self.platforms.for_simulated
        self.store = await Store.open(data, receivers=self._told, for_simulated=for_simulated)
        stack.push_async_callback(self.store.close)
        kept = settings.historian
        self.historian = await Historian.open(
            data / "history",
            retention=HistoryRetention(kept.keep, kept.keep_minutes, kept.keep_hours, kept.max_size),
        )
        stack.push_async_callback(self.historian.close)
        await self.journal.advance_to(max(self.store.position, self.historian.position))
        for damage in (*self.journal.damage, *self.historian.damage, *snapshots.damaged):
            log.error("damage found", what=damage)
        self.clock = self._make_clock(self.journal.last_received_at)
        if await self.rulebook.finish():
            self._use(self.read_files())
        self.intake = JournalIntake(self.clock)
        self.feed = Feed(self.store.standing, self.clock.now)
        self.pipeline = Pipeline(
            clock=self.clock,
            intake=self.intake,
            journal=self.journal,
            store=self.store,
            historian=self.historian,
            snapshots=snapshots,
            state_folder=data,
            configuration_of=self._configuration_of,
            on_transitions=self._on_transitions,
            on_rebirth=self._ask_for_rebirth,
            on_messages=self._wake_dispatcher,
            snapshot_every=SnapshotEvery(settings.snapshots.frames, settings.snapshots.interval),
            retention=Retention(settings.journal.keep, settings.journal.max_size),
            locked=(self._lock.fileno(),),
        )
        self.pipeline.configurations[self.configuration.hash] = self.configuration
        self.view = GatewayView(self)

    async def _live(self, stack: contextlib.AsyncExitStack, on_ready: Callable[[Gateway], None] | None) -> None:
        async with asyncio.TaskGroup() as group:
            pipeline = group.create_task(self.pipeline.run(), name="pipeline")
            helpers = [pipeline]
            await self._enter_journal()
            helpers += await self._start_followers(group, stack)
            pages = Pages.read()
            if not pages.built:
                log.warning("the console's pages have not been built: python3 run.py builds them")
            console = ConsoleServer(
                create_app(self.view, self.feed, pages, self._base_map),
                self.settings.console.host,
                self.settings.console.port,
                trusted_proxies=self.settings.console.trusted_proxies,
            )
            await console.start()
            helpers.append(group.create_task(console.run(), name="console"))
            await self._start_sources(group)
            helpers.append(group.create_task(self._monitor(group), name="monitor"))
            helpers.append(group.create_task(self._keep_configuration(), name="configuration"))
            helpers.append(group.create_task(self._watch_rules(), name="rule files"))
            helpers.append(group.create_task(self.trials.run(), name="trials of rules"))
            helpers.append(group.create_task(self._watch_files(), name="asset files and routes"))
            helpers.append(group.create_task(self._keep_history(), name="history upkeep"))
            token = await self.store.first_token(self.clock.now())
            self.addresses = Addresses(console.url, self.broker.url if self.broker is not None else None, token)
            _settle_memory()
            self._announce(on_ready)
            with _signals(self._stop, self._reload_wanted.set):
                await self._stop.wait()
            await self._stop_in_order(helpers, console)

    async def _enter_journal(self) -> None:
        """We are up; then what changed in the files while we were away."""
        failure = self._failure_file()
        reason = failure.read_text(encoding="utf-8")[:500] if failure.exists() else None
        await self.pipeline.start(Start(self.journal.previous_shutdown_clean, reason))
        failure.unlink(missing_ok=True)
        if self.pipeline.processor.configuration is None or (
            self.pipeline.processor.configuration.hash != self.configuration.hash
        ):
            await self._put_in_force(self.bundle, self.configuration)
        if await self.store.asset(GATEWAY.asset) is None:
            # What the gateway says of itself is asked for like the readings and alarms of any other asset.
            await self.pipeline.apply_assets(to_json([GATEWAY], []))
        await self.apply_assets(*self._file_assets)
        self._file_assets = ([], [])  # the registry has them now
        await self.rulebook.note_outside_changes()
        await self._take_letters()

    async def _start_followers(
        self, group: asyncio.TaskGroup, stack: contextlib.AsyncExitStack
    ) -> list[asyncio.Task[None]]:
        tasks = []
        self.canary = self._make_canary()
        self.dispatcher = Dispatcher(
            self.store,
            self._receivers,
            self.clock.now,
            on_handed=self._on_handed,
            busy=lambda: self.pipeline.in_flight > STORM_FRAMES,
        )
        tasks.append(group.create_task(self.dispatcher.run(), name="dispatcher"))
        if self.canary is not None:
            self.view.also_measure(self.canary.histogram)
            tasks.append(group.create_task(self.canary.run(), name="canary"))
        self.mirrors = tuple(self._mirrors())
        tasks += (group.create_task(mirror.run(), name=f"mirror {mirror.name}") for mirror in self.mirrors)
        for options in self.settings.sinks:
            token = options.token_file.read_text().strip() if options.token_file is not None else None
            sink = InfluxSink(options.url, options.org, options.bucket, token, self._describe)
            stack.push_async_callback(sink.close)
            forwarder = Forwarder(
                options.name, sink, self.historian, FileCursor(self.settings.data / "sinks", options.name)
            )
            self.forwarders.append(forwarder)
            tasks.append(group.create_task(forwarder.run(), name=f"sink {options.name}"))
        return tasks

    async def _start_sources(self, group: asyncio.TaskGroup) -> None:
        for options in self.settings.mqtt:
            if options.embedded:
                self.broker = EmbeddedBroker(
                    BrokerOptions(
                        folder=self.settings.data / "broker",
                        secrets=self.settings.data / "secrets",
                        port=options.port,
                        fleet_users=options.fleet_users,
                        topics=_topics(options),
                        receive_maximum=options.receive_maximum,
                        readers=self._readers(),
                    )
                )
                await self.broker.start(self._mqtt_devices())
                self._sources["broker"] = group.create_task(self.broker.run(), name="broker")
                source = MqttSource(self.broker.source_options(options.id))
            else:
                source = MqttSource(self._mqtt_options(options))
                for text in loss_window(options.url or ""):
                    log.warning("broker", id=options.id, note=text)
            self.mqtt.append(source)
            self._sources[f"mqtt {options.id}"] = group.create_task(source.run(self.intake), name=f"mqtt {options.id}")
        for settings in self.settings.hj212:
            stations = Hj212Source(Hj212Options(settings.id, settings.host, settings.port))
            await stations.open()
            self.hj212.append(stations)
            name = f"hj212 {settings.id}"
            self._sources[name] = group.create_task(stations.run(self.intake), name=name)
        await self._rewire(group)

    def _readers(self) -> tuple[str, ...]:
        """Who may read the live records of alarms on the embedded broker."""
        mirrors = (one for one in self.settings.receivers if isinstance(one, MirrorSettings) and one.embedded)
        return tuple(dict.fromkeys(name for mirror in mirrors for name in mirror.readers))

    async def _stop_in_order(self, helpers: list[asyncio.Task[None]], console: ConsoleServer) -> None:
        watchdog.notify("STOPPING=1")
        log.info("stopping")
        self.feed.close()
        await console.stop()
        await _cancel([task for name, task in self._sources.items() if name != "broker"])
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.pipeline.drain()
        except TimeoutError:
            log.warning("not everything was written in time; the next start reads it from the journal")
        await _cancel([*helpers, *self._sources.values()])
        if self.broker is not None:
            await self.broker.stop()

    def _announce(self, on_ready: Callable[[Gateway], None] | None) -> None:
        """Tell whoever waits: a file for scripts, systemd, the terminal, the caller."""
        addresses = self.addresses
        if on_ready is None and addresses.first_token is not None:  # before anybody is told that we are ready
            print(f"first token, shown only now (administrator): {addresses.first_token}", flush=True)
            config = f" --config {self.config_file}" if self.config_file is not None else ""
            print(f"make the first person who signs in: citywatch user add NAME --role admin{config}", flush=True)
        running = {"pid": os.getpid(), "console_url": addresses.console_url, "mqtt_url": addresses.mqtt_url}
        path = self.settings.data / "run.json"
        beside = path.with_suffix(".part")
        beside.write_bytes(msgspec.json.encode(running))
        beside.rename(path)
        watchdog.notify("READY=1")
        log.info("ready", **running)
        if on_ready is not None:
            on_ready(self)

    # -- configuration and assets -------------------------------------------------------------------------------------

    def read_files(self, console: Mapping[str, str] | None = None) -> Files:
        """Everything the files say now; with ``console`` in place of the rules that were changed at the console. For
        any thread. Raises ConfigError."""
        bundle, configuration = load_configuration(self.settings, console)
        assets = _read_asset_files(self.settings, configuration)
        return Files(bundle, configuration, rule_origins(self.settings), assets)

    def _use(self, files: Files) -> None:
        self.bundle, self.configuration, self.origins = files.bundle, files.configuration, files.origins
        self._file_assets = files.assets

    async def reload(self) -> None:
        """Read the files again; a mistake changes nothing and is kept in ``reload_mistakes``."""
        async with self.reloading:
            try:
                files = await asyncio.to_thread(self.read_files)
            except ConfigError as error:
                self.reload_mistakes = error.mistakes
                for mistake in error.mistakes:
                    log.error("configuration not taken over", mistake=str(mistake))
                return
            await self.take_over(files)
            await self.rulebook.note_outside_changes()

    async def take_over(self, files: Files) -> None:
        """Put in force what was read; hold ``reloading`` from before it was read until now."""
        self.reload_mistakes = []
        before = self.pipeline.processor.configuration
        if before is None or before.hash != files.configuration.hash:
            await self._put_in_force(files.bundle, files.configuration)
            log.info("configuration in force", hash=files.configuration.hash)
        self._use(files)
        await self.apply_assets(*self._file_assets)
        self._file_assets = ([], [])

    async def _put_in_force(self, bundle: Bundle, configuration: Configuration) -> None:
        # The text must be in the store before the journal names it: a replay looks it up there.
        await self.store.save_config(configuration.hash, bundle.to_json().decode(), self.clock.now())
        await self.pipeline.reconfigure(configuration)

    async def _configuration_of(self, hash_: str) -> Configuration:
        text = await self.store.config(hash_)
        if text is None:
            raise StorageFailed(f"the store has no configuration {hash_}, which the journal names")
        return compile_bundle(Bundle.from_json(text))

    async def apply_assets(self, assets: Sequence[Asset], devices: Sequence[Device]) -> None:
        """Journal those assets and devices that are new or different."""
        registry = self.pipeline.processor.registry
        kept = (with_learned(asset, registry.asset(asset.asset)) for asset in assets)
        new_assets = [asset for asset in kept if registry.asset(asset.asset) != asset]
        new_devices = [d for d in devices if registry.device(d.device) != d]
        if not new_assets and not new_devices:
            return
        # In portions: 100,000 devices in one frame hold everything else for many seconds.
        for first in range(0, len(new_assets), ASSETS_AT_ONCE):
            await self.pipeline.apply_assets(to_json(new_assets[first : first + ASSETS_AT_ONCE], []))
        for first in range(0, len(new_devices), ASSETS_AT_ONCE):
            await self.pipeline.apply_assets(to_json([], new_devices[first : first + ASSETS_AT_ONCE]))
        self._rewire_wanted = True
        self._wired.clear()
        log.info("assets in force", assets=len(new_assets), devices=len(new_devices))

    async def wired(self) -> None:
        """Returns when the sources know the devices in force, or after ten seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self._wired.wait()

    async def _take_letters(self) -> None:
        """Assets handed over by ``import-assets``."""
        for path, payload in inbox.letters(self.settings.data):
            try:
                assets, devices = parse_assets(payload)
                self._must_be_known(assets, devices)
            except DecodeError as error:
                log.error("assets not taken over", file=path.name, reason=str(error))
                inbox.refuse(path, str(error))
                continue
            await self.apply_assets(assets, devices)
            path.unlink()

    def _must_be_known(self, assets: Sequence[Asset], devices: Sequence[Device]) -> None:
        """Raises DecodeError when a device or a link names an asset that is neither here nor among ``assets``."""
        registry = self.pipeline.processor.registry
        new = {asset.asset for asset in assets}
        named = {device.asset for device in devices}.union(*(asset.links.values() for asset in assets))
        missing = sorted(name for name in named - new if registry.asset(name) is None)
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise DecodeError(f"no such asset: {', '.join(missing[:5])}{more}")

    async def _keep_configuration(self) -> None:
        """Read the files again whenever they changed or somebody asks for it: one reload after the other."""
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            await self.reload()

    async def _watch_rules(self) -> None:
        """Profiles and rules: their folders with all that is in them."""
        async for _ in awatch(*watched_folders(self.settings), debounce=RELOAD_QUIET_MS, stop_event=self._stop):
            self._reload_wanted.set()

    async def _watch_files(self) -> None:
        """Asset files and the routes are watched through their folders: one that is replaced is another file of the
        same name."""
        routes = (self.settings.routes,) if self.settings.routes is not None else ()
        files = (*self.settings.assets, *routes)
        folders = {file: file.parent.resolve() for file in files if file.parent.is_dir()}
        if not folders:
            return
        ours = {str(folder / file.name) for file, folder in folders.items()}
        changes = awatch(
            *set(folders.values()),
            watch_filter=lambda _, path: path in ours,
            debounce=RELOAD_QUIET_MS,
            stop_event=self._stop,
            recursive=False,  # the data folder may stand beside them
        )
        async for _ in changes:
            self._reload_wanted.set()

    # -- sources ------------------------------------------------------------------------------------------------------

    async def _rewire(self, group: asyncio.TaskGroup) -> None:
        """Make broker users and Modbus workers agree with the devices in force."""
        if self.broker is not None:
            try:
                await self.broker.admit(self._mqtt_devices())
            except (ConfigError, Unavailable) as error:
                log.error("device logins not changed", reason=str(error))
        try:
            wanted = self._wanted_endpoints()
        except ConfigError as error:
            log.error("Modbus endpoints not changed", reason=str(error))
            return
        if self.modbus is not None:
            self.modbus.poll(wanted)
        elif wanted:
            self.modbus = ModbusSource(ModbusOptions(endpoints=wanted, timeout=self.settings.modbus.timeout))
            self._sources["modbus"] = group.create_task(self.modbus.run(self.intake), name="modbus")

    def _ask_for_rebirth(self, node: str) -> None:
        """Every broker is asked: the node is on one of them."""
        group, _, edge = node.partition("/")
        for source in self.mqtt:
            source.publish(f"{sparkplug.ROOT}/{group}/NCMD/{edge}", sparkplug.rebirth(self.clock.now()))
        log.info("sparkplug rebirth asked for", node=node)

    def _mqtt_devices(self) -> list[str]:
        """Those that log in to the embedded broker themselves. A name that cannot be a user's (a Sparkplug device's
        ``edge.device``) comes in through somebody else's connection."""
        profiles = self._profiles()
        names = (
            device.address or device.device
            for device in self.pipeline.processor.registry.devices()
            if device.profile in profiles
            and profiles[device.profile].transport not in (Transport.MODBUS, Transport.HJ212)
        )
        return [name for name in names if USER_NAME.fullmatch(name)]

    def _wanted_endpoints(self) -> tuple[ModbusEndpoint, ...]:
        """One worker's task for every address that a Modbus device names."""
        profiles, settings = self._profiles(), self.settings.modbus
        wanted = []
        for device in self.pipeline.processor.registry.devices():
            profile = profiles.get(device.profile)
            if profile is not None and profile.transport is Transport.MODBUS:
                interval = device.expected_interval or profile.expected_interval or settings.default_interval
                unit = ModbusUnit(
                    device.device,
                    0,
                    plan_reads(profile),
                    round(interval / self.clock.pace),
                    profile.pause,
                    profile.connect_pause,
                )
                wanted.append((device.address, unit))
        return endpoints(wanted)

    def _profiles(self) -> Mapping[str, Profile]:
        configuration = self.pipeline.processor.configuration
        return configuration.profiles if configuration is not None else {}

    def _mqtt_options(self, settings: MqttSettings) -> MqttOptions:
        return MqttOptions(
            id=settings.id,
            url=settings.url or "",
            client_id=secret_of(settings.client_id_file) or _own_client_id(self.settings.data, settings.id),
            username=settings.username,
            password=secret_of(settings.password_file),
            ca_file=settings.ca_file,
            certificate_file=settings.certificate_file,
            key_file=settings.key_file,
            version=5 if settings.version == "5" else 311,
            topics=_topics(settings),
            share_group=settings.share_group,
            receive_maximum=settings.receive_maximum,
        )

    def _told(self, transition: Transition) -> tuple[str, ...]:
        """Names of the receivers of one transition. Called in the store's thread: reads frozen objects only."""
        if transition.record.rule == canary.RULE:  # for people only: no feed has use for it
            if self.canary is not None:
                self.canary.decided(transition)
            return ()
        return routing.receivers(transition, self._rule(transition.record.rule), self._feeds)

    def _tell(self, stack: contextlib.AsyncExitStack) -> Telling:
        """The receivers of the settings, and what they say."""
        zone, wants_codes = self.settings.site.timezone, self.settings.inbound.sms is not None
        self.links = Links(secret_file(self.settings.data / "secrets" / "links"), self.settings.console.public_url)
        wording = Wording(self._asset, self._rule, zone, self.links, codes=wants_codes)
        telling = receivers_of(self.settings, wording, Wording(self._asset, self._rule, zone))
        for close in telling.close:
            stack.push_async_callback(close)
        return telling

    def _platforms(self, stack: contextlib.AsyncExitStack) -> Platforms:
        """The case platforms of the settings. The store and the clock are there when the first case is."""
        rules, world = self.configuration.rules.rules, LiveCaseWorld(self)
        found = platforms_of(self.settings, rules, world, lambda: self.store.cases, lambda: self.clock.now())
        for close in found.close:
            stack.push_async_callback(close)
        return found

    def _make_canary(self) -> Canary | None:
        options = self.settings.canary
        if options is None:
            return None
        return Canary(
            self.clock,
            self.intake,
            self.store.canaries,
            self._canary_people,
            lambda lost: self.pipeline.report(canary_lost=lost),
            every=options.every,
            patience=options.patience,
        )

    def _canary_people(self, at: Micros) -> list[str]:
        """Whom the next path test goes to."""
        configuration = self.pipeline.processor.configuration
        if configuration is None:
            return []
        routes = configuration.routing
        people = routes.people
        return [name for name in routes.people_of(routes.canary, at) if name in people and people[name].channels]

    def _on_handed(self, handed: Handed) -> None:
        if self.canary is not None:
            self.canary.handed(handed)

    def _mirrors(self) -> Iterator[AlarmMirror]:
        for options in self.settings.receivers:
            if isinstance(options, MirrorSettings):
                where = partial(self._mirror_address, options, secret_of(options.password_file))
                yield AlarmMirror(options.name, self.store, where, self.clock.now, simulated=options.simulated)

    def _mirror_address(self, options: MirrorSettings, password: str | None) -> Address | None:
        if options.url is not None:
            return Address(options.url, options.username, password, options.ca_file)
        broker = self.broker
        if broker is None or not broker.stats().running:
            return None
        return Address(broker.url, MIRROR_USER, broker.password(MIRROR_USER))

    def _asset(self, asset_id: str) -> Asset | None:
        return self.pipeline.processor.registry.asset(asset_id)

    def _rule(self, rule_id: str) -> Rule | None:
        configuration = self.pipeline.processor.configuration
        return configuration.rules.get(rule_id) if configuration is not None else None

    def _describe(self, asset_id: str) -> AssetTags:
        asset = self.pipeline.processor.registry.asset(asset_id)
        return AssetTags(asset.kind, asset.road, asset.town) if asset is not None else AssetTags("unknown")

    def _on_transitions(self, transitions: Sequence[Transition]) -> None:
        self.feed.publish(transitions)
        self.view.count(transitions)
        if self.on_transitions is not None:
            self.on_transitions(transitions)
        for mirror in self.mirrors:
            mirror.hear(transitions)
        if self.canary is not None:
            self.canary.stored(transitions)
        self._wake_dispatcher()

    def _wake_dispatcher(self) -> None:
        if self.dispatcher is not None:
            self.dispatcher.wake()

    # -- watching ourselves -------------------------------------------------------------------------------------------

    async def _monitor(self, group: asyncio.TaskGroup) -> None:
        """Once a second: ourselves, our letters, our wires; and the sign of life for systemd."""
        watch = SelfWatch(
            data=self.settings.data,
            reserve=self.settings.disk.reserve,
            clock=self.clock,
            intake=self.intake,
            pipeline=self.pipeline,
            links=lambda: [source.stats() for source in self.mqtt],
            undelivered=self._undelivered,
            mistaken=lambda: bool(self.reload_mistakes),
            new_alarms=lambda: self.view.load().count,
        )
        while True:
            watch.look()
            self.view.sample()
            self.feed.publish_load(self.view.load())
            await self._take_letters()
            if self._rewire_wanted:
                self._rewire_wanted = False
                await self._rewire(group)
            if not self._rewire_wanted:
                self._wired.set()
            # The sign of life comes from what matters: everything journaled a moment ago has been decided.
            async with asyncio.timeout(60):
                await self.pipeline.settled()
            watchdog.notify("WATCHDOG=1")
            await asyncio.sleep(MONITOR_S)

    def _undelivered(self) -> Mapping[Level, int]:
        """Notifications given up since the start."""
        return self.dispatcher.undelivered if self.dispatcher is not None else {}

    async def _keep_history(self) -> None:
        """Once a minute the historian's own work; once an hour its retention."""
        minutes = 0
        while True:
            await asyncio.sleep(60)
            minutes += 1
            try:
                await self.historian.compact(self.clock.now())
                await asyncio.to_thread(_trim)  # sorting a million rows took a hundred megabytes for a second
                if minutes % 60 == 0:
                    for name in await self.historian.retain(self.clock.now()):
                        log.info("history given up", file=name)
            except Unavailable as error:
                # No room or memory just now: nothing is lost, the next minute tries again.
                log.warning("history upkeep put off", reason=str(error))

    # -- failures -----------------------------------------------------------------------------------------------------

    def _failure_file(self) -> Path:
        return self.settings.data / "failure.txt"

    def ended_by(self, error: Exception) -> int:
        """Say why this life ended; gives the exit code. Raises ConfigError when it was the operator's files."""
        leaves = _leaves(error)
        mistakes = [m for leaf in leaves if isinstance(leaf, ConfigError) for m in leaf.mistakes]
        if mistakes:
            raise ConfigError(mistakes) from error
        failed = next((leaf for leaf in leaves if isinstance(leaf, StorageFailed)), None)
        if failed is not None:
            log.critical("our own disk failed: nothing more is acknowledged", reason=str(failed))
            # Word for the next start; on a failed disk this may fail too, and then the log has to do.
            with contextlib.suppress(OSError):
                self._failure_file().write_text(str(failed), encoding="utf-8")
            return 1
        for leaf in leaves:
            log.critical("ended by a fault", error=f"{type(leaf).__name__}: {leaf}", exc_info=leaf)
        return 1


def _read_asset_files(settings: Settings, configuration: Configuration) -> tuple[list[Asset], list[Device]]:
    files = {str(file): file for file in settings.assets}
    return load_asset_files(files, configuration.profiles, layout=settings.site.component_code_layout)


def _oidc(settings: OidcSettings | None) -> OidcOptions | None:
    if settings is None:
        return None
    return OidcOptions(
        settings.issuer,
        settings.client_id,
        secret_of(settings.client_secret_file) or "",
        settings.title_zh,
        settings.title_en,
        settings.role_claim,
        {value: Role[role.upper()] for value, role in settings.roles.items()},
        None if settings.default_role is None else Role[settings.default_role.upper()],
    )


def _inbound_sms(settings: InboundSmsSettings | None) -> InboundSms | None:
    if settings is None:
        return None
    secret = secret_of(settings.secret_file) or ""
    if len(secret) < MIN_SECRET:
        file = str(settings.secret_file)
        raise ConfigError([Mistake(file, None, "", f"at least {MIN_SECRET} characters: it lets in who knows it")])
    return InboundSms(secret, settings.number, settings.text)


def _own_client_id(data: Path, source: str) -> str:
    """A secret 128-bit client id, made once: whoever knows it can take our session and what waits in it."""
    # On the disk before it is used: with another id after a power cut, what waits in our session would never come.
    return f"citywatch-{secret_file(data / 'secrets' / f'client-id-{source}')}"


def _topics(settings: MqttSettings) -> tuple[str, ...]:
    return tuple(topic for network in settings.networks for topic in TOPICS[network])


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _settle_memory() -> None:
    """What stands now stands for long: spare the collector looking at it again and again, and give the memory that
    reading the files took back to the system (glibc keeps it otherwise)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # what we make thousands a second of has no circles
    _trim()


def _trim() -> None:
    """Give free memory back to the system (glibc; elsewhere nothing happens)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel and wait; a task that had failed before tells its group, not us."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _signals(stop: asyncio.Event, reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for an ordered stop, SIGHUP for a reload."""
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: reload}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
