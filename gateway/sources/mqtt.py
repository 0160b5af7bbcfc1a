"""MQTT in: one broker, one persistent session; a PUBACK leaves only when the journal has the message on disk.

    connect → subscribe → serve (acknowledge after commit, pause while the intake is full) → back off → connect …

Each pass is one gmqtt client of its own, so an acknowledgement can never reach another connection than its message's.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import structlog

from gateway.core import networks
from gateway.core.model import FrameKind, Micros
from gateway.core.networks import THINGSBOARD_GATEWAY
from gateway.errors import ConfigError, Mistake
from gateway.ports import Intake
from gateway.retry import Backoff
from gateway.sources.gmqtt_ack import AckTally, LinkClosed, LoginRefused, OneConnection, VersionRefused

TOPICS = networks.TOPICS[networks.Network.CITYWATCH]
CONNECT_TIMEOUT_S = 8.0
RETRY_CAP_S = 20.0  # with the connect timeout: back within 28 s of the broker's return, even out of a silent network
STEADY_S = 10.0  # a link that lived so long is well: its next outage starts with a short wait
SILENCE = 1.5  # keep-alives without a byte from the broker until the link counts as dead (reliability F31)
SETTLE_S = 1.0  # at an ordered stop: time for the last batch to become durable and its acknowledgements to leave

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """One broker and how to talk to it.

    ``url``: mqtt://host[:port] (1883) or mqtts://host[:port] (8883). ``client_id``: names our session at the broker;
    whoever knows it can take our queue on some brokers, so it should be secret. ``version``: 5 or 311; 5 falls back by
    itself when the broker does not know it. ``share_group``: share the topics with other gateways of the same group.
    ``receive_maximum``: messages the broker may have in flight to us (MQTT 5 only; with 3.1.1 the broker decides).
    """

    id: str
    url: str
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    version: Literal[5, 311] = 5
    topics: tuple[str, ...] = TOPICS
    qos: Literal[0, 1, 2] = 1
    share_group: str | None = None
    receive_maximum: int = 1000
    session_expiry_s: int = 7 * 24 * 3600
    keepalive_s: int = 20


@dataclass(frozen=True, slots=True)
class LinkStats:
    """How a link does. ``since``: wall time of the last change of ``connected``, 0 before the first attempt ended."""

    id: str
    address: str
    connected: bool
    since: Micros
    received: int
    acknowledged: int
    unacknowledged: int
    reconnects: int
    late_acknowledgements: int
    paused: bool
    reason: str | None


class MqttSource:
    """A ``ports.Source``: delivers every message of one broker to the intake until cancelled."""

    def __init__(self, options: MqttOptions, *, backoff: Backoff | None = None) -> None:
        """Raises ConfigError for a url or certificate files that cannot work."""
        self.options = options
        self._backoff = backoff or Backoff(cap_s=RETRY_CAP_S)
        self.id = options.id
        self._host, self._port, self._tls = _where(options)
        self._version = 5 if options.version == 5 else 4
        self._filters = _filters(options)
        self._client: OneConnection | None = None
        self._up = asyncio.Event()
        self._stalled = asyncio.Event()
        self._had_session = False
        self._warned_down = False
        self._warned_refused = False
        self._down_since = time.monotonic()
        self._reason: str | None = None
        self._since: Micros = 0
        self._received = 0
        self._tally = AckTally()
        self._connects = 0

    async def run(self, intake: Intake) -> None:
        """Deliver messages until cancelled; reconnects by itself within 30 s of the broker's return."""
        async with asyncio.TaskGroup() as group:
            while True:
                began = time.monotonic()
                reason = await self._one_connection(intake, group)
                if reason is None:
                    continue
                self._went_down(reason)
                if time.monotonic() - began > STEADY_S:
                    self._backoff.reset()
                await self._backoff.wait()

    async def connected(self) -> None:
        """Returns when the session exists and is subscribed."""
        await self._up.wait()

    def publish(self, topic: str, payload: bytes) -> None:
        """Say something once, QoS 0; lost when there is no connection just now."""
        client = self._client
        if client is not None and client.is_open and self._up.is_set():
            client.publish(topic, payload, qos=0)

    def stats(self) -> LinkStats:
        client = self._client
        return LinkStats(
            id=self.id,
            address=f"{self._host}:{self._port}",
            connected=self._up.is_set(),
            since=self._since,
            received=self._received,
            acknowledged=self._tally.sent,
            unacknowledged=client.acks.unacknowledged if client else 0,
            reconnects=max(0, self._connects - 1),
            late_acknowledgements=self._tally.late,
            paused=client.paused if client else False,
            reason=self._reason,
        )

    # -- one connection ---------------------------------------------------------------------------------------------

    async def _one_connection(self, intake: Intake, group: asyncio.TaskGroup) -> str | None:
        """Connect, serve, clean up; the reason why it ended, None to try again at once with another version."""

        def receive(topic: str, payload: bytes, retained: bool, duplicate: bool) -> asyncio.Future[int]:
            self._received += 1
            for one, part in networks.split(topic, payload) if topic == THINGSBOARD_GATEWAY else ((topic, payload),):
                durable = intake.offer(FrameKind.MQTT, self.id, one, part, retained=retained, duplicate_hint=duplicate)
            if intake.full:
                client.pause()
                self._stalled.set()
            return durable

        options = self.options
        client = OneConnection(
            options.client_id,
            receive,
            self._tally,
            receive_maximum=options.receive_maximum,
            session_expiry_interval=options.session_expiry_s,
        )
        if options.username is not None:
            client.set_auth_credentials(options.username, options.password)
        self._client = client
        self._stalled.clear()
        flow = group.create_task(self._resume_when_room(client, intake), name=f"mqtt {self.id}: flow")
        try:
            await intake.room()  # a broker that may send to us at once must find somebody who reads
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.open(
                    self._host, self._port, tls=self._tls, keepalive_s=options.keepalive_s, version=self._version
                )
                granted = await client.subscribe_all(self._filters, options.qos)
            self._came_up(client, granted)
            return await self._serve(client)
        except VersionRefused as error:
            if self._version == 4:
                return str(error)
            log.info("the broker does not speak MQTT 5, using 3.1.1", source=self.id, broker=options.url)
            self._version = 4
            return None
        except LoginRefused as error:
            self._refused(str(error))
            return str(error)
        except TimeoutError:
            return f"no answer within {CONNECT_TIMEOUT_S:g} s"
        except (LinkClosed, OSError, UnicodeError) as error:
            return _short(error)
        finally:
            self._up.clear()
            flow.cancel()
            client.pause()
            await client.acks.settle(SETTLE_S if client.is_open else 0)
            await client.close()
            self._client = None

    async def _serve(self, client: OneConnection) -> str:
        """Until the link ends; returns why."""
        keepalive = self.options.keepalive_s
        while True:
            await asyncio.wait({client.ended}, timeout=keepalive / 4)
            if client.ended.done():
                return client.ended.result()
            client.keep_while_paused()
            if client.silent_for_s > SILENCE * keepalive:
                return f"nothing heard for {client.silent_for_s:.0f} s"

    async def _resume_when_room(self, client: OneConnection, intake: Intake) -> None:
        while True:
            await self._stalled.wait()
            await intake.room()
            self._stalled.clear()
            client.resume()

    # -- what people read -------------------------------------------------------------------------------------------

    def _came_up(self, client: OneConnection, granted: int) -> None:
        after_s = round(time.monotonic() - self._down_since, 1)
        if self._connects and self._warned_down:
            log.info("mqtt link back", source=self.id, broker=self.options.url, after_s=after_s)
        else:
            log.info("mqtt link up", source=self.id, broker=self.options.url)
        if self._had_session and not client.session_present:
            log.warning(
                "the broker had forgotten our session: what devices sent meanwhile is lost",
                source=self.id,
                broker=self.options.url,
            )
        if granted == 0 < self.options.qos:
            log.warning(
                "the broker grants QoS 0 only: it may lose any message", source=self.id, broker=self.options.url
            )
        self._had_session = True
        self._warned_down = self._warned_refused = False
        self._connects += 1
        self._reason = None
        self._since = time.time_ns() // 1000
        self._up.set()

    def _went_down(self, reason: str) -> None:
        if self._reason is None:
            self._down_since = time.monotonic()
            self._since = time.time_ns() // 1000
        self._reason = reason
        if not self._warned_down:
            self._warned_down = True
            log.warning("mqtt link down", source=self.id, broker=self.options.url, reason=reason)

    def _refused(self, reason: str) -> None:
        """Said once for each outage, even when the outage began with something else: only people can mend it."""
        if self._warned_down and not self._warned_refused:
            log.warning("mqtt login refused", source=self.id, broker=self.options.url, reason=reason)
        self._warned_refused = True


def _where(options: MqttOptions) -> tuple[str, int, ssl.SSLContext | None]:
    """Host, port and TLS of the url. Raises ConfigError."""

    def wrong(key: str, message: str) -> ConfigError:
        return ConfigError([Mistake("settings", None, f"mqtt {options.id}: {key}", message)])

    parts = urlsplit(options.url)
    try:
        port = parts.port
    except ValueError as error:
        raise wrong("url", str(error)) from error
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise wrong("url", f"write mqtt://host:port or mqtts://host:port, not {options.url!r}")
    if parts.scheme == "mqtt":
        if options.ca_file or options.certificate_file:
            raise wrong("url", "certificates are of no use without TLS: write mqtts://")
        return parts.hostname, port or 1883, None
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if options.certificate_file is not None:
            context.load_cert_chain(options.certificate_file, options.key_file)
    except (OSError, ssl.SSLError) as error:
        raise wrong("certificates", f"cannot be used: {error}") from error
    return parts.hostname, port or 8883, context


def _filters(options: MqttOptions) -> tuple[str, ...]:
    if options.share_group is None:
        return options.topics
    return tuple(f"$share/{options.share_group}/{topic}" for topic in options.topics)


def _short(error: BaseException) -> str:
    """One line of an error; several addresses of one host that all failed come as one long text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
