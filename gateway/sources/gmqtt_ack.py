"""gmqtt with acknowledgement after commit: a plain call for each PUBLISH, the PUBACKs of a durable batch in one write.

Why gmqtt's own path is not enough (0.8.0, pinned; bench/bare_gmqtt.py measures the difference):

- It runs one task for each message and formats log lines nobody reads.
- It reconnects by itself with the same handler object, so the PUBACK of a message from the old connection could
  acknowledge another message with the same packet id on the new one. Here a client lives for exactly one connection.
- It forgets a message whose handler raises or whose MQTT 5 properties it does not know: that message is never
  acknowledged and its place in the broker's window is lost. Here the properties are skipped by their length.
- It reads a 256 MB message into memory. Here what is longer than ``MAX_PAYLOAD`` is cut, so that decoding refuses it by
  its size and memory and journal stay bounded.
- Back-pressure needs the socket itself: gmqtt's stream reader and we would fight over ``pause_reading``.

Everything else of gmqtt stays as it is: CONNECT, TLS, SUBSCRIBE, keep-alive, QoS 2's second half, DISCONNECT.
All private names of gmqtt that citywatch touches stand in this file.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gmqtt import Client, MQTTConnectError, Subscription
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.constants import MQTTv50
from gmqtt.mqtt.package import Package
from gmqtt.mqtt.protocol import MQTTProtocol

MAX_PAYLOAD = 256 * 1024  # bytes; decode refuses longer ones as too_large, so one byte more is offered of those
MAX_PACKET = MAX_PAYLOAD + (1 << 17)  # topic (at most 64 kB) and properties stand before the payload
CLOSE_TIMEOUT_S = 2.0  # for the DISCONNECT to leave; a broker that no longer reads is not waited for

PUBLISH, DISCONNECT = 0x30, 0xE0
# Remaining length 2 and no reason code means "success" in 3.1.1 and in 5 alike (MQTT 5 §3.4.2.1, §3.5.2.1).
PUBACK, PUBREC = b"\x40\x02", b"\x50\x02"
ACK_BYTES = 4

# MQTT 5 §3.14.2.1: why the broker ended the connection; other codes are shown as numbers.
REASONS = {
    0x00: "the broker closed the connection",
    0x81: "the broker found a malformed packet",
    0x82: "the broker found a protocol error",
    0x83: "implementation specific error",
    0x87: "not authorised",
    0x89: "the broker is busy",
    0x8B: "the broker is shutting down",
    0x8D: "keep alive timeout",
    0x8E: "another client took over our client id",
    0x93: "receive maximum exceeded",
    0x95: "packet too large",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x9C: "use another server",
    0x9D: "server moved",
    0xA0: "maximum connect time",
}

# (topic, payload, retained, duplicate) → the future of the durable batch that will hold the message.
Receive = Callable[[str, bytes, bool, bool], "asyncio.Future[int]"]

logging.getLogger("gmqtt").setLevel(logging.CRITICAL)  # what it has to say comes out of OneConnection.ended instead


class LinkClosed(Exception):
    """The connection ended, or could not be opened; the text says why in a few words."""


class LoginRefused(LinkClosed):
    """The broker does not want us: user, password, client id or rights."""


class VersionRefused(LinkClosed):
    """The broker does not speak this version of MQTT."""


@dataclass(slots=True)
class AckTally:
    """Acknowledgements over all connections of a link: sent, and dropped because their connection was gone."""

    sent: int = 0
    late: int = 0


class AckAfterCommit:
    """The acknowledgements owed on ONE connection; they leave when the batch that holds their messages is durable.

    An acknowledgement whose connection is gone is dropped and counted as late: the broker delivers again.
    """

    def __init__(self, tally: AckTally, send: Callable[[bytes], None], is_open: Callable[[], bool]) -> None:
        self._tally = tally
        self._send = send
        self._is_open = is_open
        self._future: asyncio.Future[int] | None = None
        self._owed = bytearray()
        self._open: dict[asyncio.Future[int], bytearray] = {}

    def owe(self, durable: asyncio.Future[int], ack: bytes, packet_id: bytes) -> None:
        """Send ``ack`` (PUBACK or PUBREC) with ``packet_id`` (two bytes as received) once ``durable`` has ended."""
        if durable is not self._future:
            self._future = durable
            owed = self._open.get(durable)
            if owed is None:
                owed = self._open[durable] = bytearray()
                durable.add_done_callback(self._durable)
            self._owed = owed
        self._owed += ack + packet_id

    @property
    def unacknowledged(self) -> int:
        """Messages of this connection that are not durable yet."""
        return sum(len(owed) for owed in self._open.values()) // ACK_BYTES

    async def settle(self, timeout_s: float) -> None:
        """Wait until everything owed has left, or the time is up."""
        if self._open:
            await asyncio.wait(self._open, timeout=timeout_s)
            await asyncio.sleep(0)  # the futures' callbacks run after their waiters were told

    def _durable(self, future: asyncio.Future[int]) -> None:
        owed = self._open.pop(future)
        if self._future is future:
            self._future = None
        if future.cancelled() or future.exception() is not None:
            return  # not durable: never acknowledged
        if self._is_open():
            self._tally.sent += len(owed) // ACK_BYTES
            self._send(bytes(owed))
        else:
            self._tally.late += len(owed) // ACK_BYTES


class OneConnection(Client):  # type: ignore[misc]  # gmqtt has no types
    """A gmqtt client for exactly one connection: ``open`` it, wait for ``ended``, ``close`` it.

    ``receive`` is called for every PUBLISH in the order of the wire. If it raises, the connection is closed and the
    broker delivers the message again later; nothing is acknowledged for it.
    ``properties``: of the MQTT 5 CONNECT packet (``receive_maximum``, ``session_expiry_interval``).
    """

    def __init__(self, client_id: str, receive: Receive, tally: AckTally, **properties: Any) -> None:
        super().__init__(
            client_id,
            clean_session=False,
            optimistic_acknowledgement=False,
            logger=logging.getLogger("gmqtt.citywatch"),
            **properties,
        )
        self._receive = receive
        self._has_properties = True
        self._subscribed: asyncio.Future[tuple[int, ...]] | None = None
        self.acks = AckAfterCommit(tally, self._write, lambda: self.is_open)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.session_present = False
        self.paused = False
        self.on_connect = OneConnection._when_connected
        self.on_subscribe = OneConnection._when_subscribed
        self.on_disconnect = OneConnection._when_disconnected

    # -- life -------------------------------------------------------------------------------------------------------

    async def open(self, host: str, port: int, *, tls: ssl.SSLContext | None, keepalive_s: int, version: int) -> None:
        """Connect and log in. ``version``: 5 or 4 (3.1.1). Raises LinkClosed or one of its kinds, or OSError."""
        self._has_properties = version >= MQTTv50
        connecting: asyncio.Future[None] = asyncio.ensure_future(
            self.connect(host, port, ssl=tls or False, keepalive=keepalive_s, version=version)
        )
        try:
            # gmqtt waits for the CONNACK for ever, even when the broker has closed the connection instead.
            await _first(connecting, self.ended)
            if not connecting.done():
                if self._connection_state.protocol_version != version:
                    raise VersionRefused("the broker does not speak this version of MQTT")
                raise LinkClosed(self.ended.result())
            connecting.result()
        except MQTTConnectError as error:
            raise _refusal(error) from error
        finally:
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait({connecting})

    async def subscribe_all(self, filters: Sequence[str], qos: int) -> int:
        """Subscribe and wait for the broker's answer: the lowest QoS it grants. Raises LoginRefused when it refuses a
        filter, or LinkClosed."""
        self._subscribed = asyncio.get_running_loop().create_future()
        # Retain handling 1: retained messages only when the subscription is new, not at every reconnect (MQTT 5).
        handling = 1 if self._has_properties else 0
        self.subscribe([Subscription(name, qos=qos, retain_handling_options=handling) for name in filters])
        await _first(self._subscribed, self.ended)
        if not self._subscribed.done():
            raise LinkClosed(self.ended.result())
        refused = [name for name, code in zip(filters, self._subscribed.result(), strict=False) if code >= 0x80]
        if refused:
            raise LoginRefused(f"the broker refuses our subscription to {', '.join(refused)}")
        return min(self._subscribed.result(), default=qos)

    async def close(self) -> None:
        """Say DISCONNECT where that is still possible and let go of the socket. Never raises."""
        self._end("closed by us")
        connection = self._connection
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.disconnect()
        except Exception:
            pass  # it is being thrown away; what matters is the abort below
        finally:
            connection._transport.abort()

    async def reconnect(self, delay: bool = False) -> None:
        """gmqtt wants to connect again with this object: never (see above); the owner makes a new one."""
        self._end("connection lost")

    # -- flow -------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._connection is not None and not self._connection.is_closing() and not self.ended.done()

    @property
    def silent_for_s(self) -> float:
        """Seconds since the last byte from the broker; 0 while we do not listen ourselves."""
        return 0.0 if self.paused or self._connection is None else time.monotonic() - self._connection._last_data_in

    def pause(self) -> None:
        """Stop reading the socket; what has been read already is still delivered (at most 256 kB)."""
        if not self.paused and self.is_open:
            self.paused = True
            self._connection._transport.pause_reading()

    def resume(self) -> None:
        if self.paused and self.is_open:
            self._connection._transport.resume_reading()
            self._connection._last_data_in = time.monotonic()
        self.paused = False

    def keep_while_paused(self) -> None:
        """A broker we do not listen to is not silent: without this gmqtt closes the link after two keep-alives."""
        if self.paused and self._connection is not None:
            self._connection._last_data_in = time.monotonic()

    # -- gmqtt's hooks ----------------------------------------------------------------------------------------------

    async def _create_connection(
        self, host: str, port: int, ssl: ssl.SSLContext | bool, clean_session: bool, keepalive: int
    ) -> MQTTConnection:
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: _Protocol(self, self._connection_state, self._package_handler.id_generator), host, port, ssl=ssl
        )
        return MQTTConnection(
            protocol._transport, protocol, clean_session, keepalive, package_handler=self._package_handler
        )

    def received_publish(self, command: int, body: bytes) -> None:
        """One PUBLISH from the wire: ``command`` is its first byte, ``body`` what follows the length."""
        at = 2 + (body[0] << 8 | body[1])
        topic = body[2:at].decode("utf-8", "backslashreplace")
        ack = command & 0x06
        if ack:
            packet_id = body[at : at + 2]
            at += 2
        if self._has_properties:
            length, shift = 0, 0
            while True:
                byte = body[at]
                at += 1
                length |= (byte & 0x7F) << shift
                if not byte & 0x80:
                    break
                shift += 7
            at += length
        if at > len(body):
            raise ValueError("a PUBLISH shorter than it says")
        durable = self._receive(topic, body[at : at + MAX_PAYLOAD + 1], bool(command & 0x01), bool(command & 0x08))
        if ack:
            self.acks.owe(durable, PUBACK if ack == 0x02 else PUBREC, packet_id)

    def broken(self, why: str) -> None:
        """The byte stream makes no sense any more."""
        self._end(why)
        self._connection._transport.abort()

    def _write(self, data: bytes) -> None:
        self._connection.send_package(data)

    def _end(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_result(why)

    def _when_connected(self, session_present: int, _result: int, _properties: dict[str, Any]) -> None:
        self.session_present = bool(session_present)

    def _when_subscribed(self, _packet_id: int, granted: tuple[int, ...], _properties: dict[str, Any]) -> None:
        if self._subscribed is not None and not self._subscribed.done():
            self._subscribed.set_result(granted)

    def _when_disconnected(self, packet: object) -> None:
        if not isinstance(packet, bytes):
            self._end(f"the broker's answer makes no sense: {packet}")
        elif packet:
            self._end(REASONS.get(packet[0], f"the broker disconnected us with reason 0x{packet[0]:02X}"))
        else:
            self._end("connection lost")


class _Protocol(MQTTProtocol):  # type: ignore[misc]  # gmqtt has no types
    """Cuts the byte stream into packets itself; gmqtt's read loop stays only to notice the end of the stream."""

    def __init__(self, owner: OneConnection, state: Any, id_generator: Any) -> None:
        super().__init__(connection_state=state, id_generator=id_generator)
        self._owner = owner
        self._rest = bytearray()
        self._wanted = 0  # bytes ``_rest`` needs before looking at it again makes sense
        self._skip = 0  # bytes of an oversized packet still to throw away
        self._oversized: tuple[int, bytes] | None = None

    def data_received(self, data: bytes) -> None:
        try:
            self._connection._last_data_in = time.monotonic()
            self._cut(data)
        except Exception as error:
            self._owner.broken(f"a packet cannot be taken: {error or type(error).__name__}")

    def _cut(self, data: bytes) -> None:
        if self._oversized is not None:
            data, finished = self._throw_away(data)
            if not finished:
                return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        while end - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length & 0x80:
                length &= 0x7F
                shift = 7
                while start < end:
                    byte = data[start]
                    start += 1
                    length |= (byte & 0x7F) << shift
                    shift += 7
                    if not byte & 0x80:
                        break
                    if shift > 21:
                        raise ValueError("a packet length of more than four bytes")
                else:
                    break  # the length itself is not complete yet
            stop = start + length
            if stop > end:
                if end - start >= MAX_PACKET:
                    self._oversized = data[at], data[start : start + MAX_PACKET]
                    self._skip = stop - end
                    return
                self._rest += memoryview(data)[at:]
                self._wanted = start - at + min(length, MAX_PACKET)
                return
            if data[at] & 0xF0 == PUBLISH:
                self._owner.received_publish(data[at], data[start:stop])
            else:
                self._connection.put_package(Package(data[at], data[start:stop]))
            at = stop
        if at < end:
            self._rest += memoryview(data)[at:]
            self._wanted = 0

    def _throw_away(self, data: bytes) -> tuple[bytes, bool]:
        """The rest of an oversized packet; what follows it, and whether it is over."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        if self._skip:
            return b"", False
        assert self._oversized is not None
        (command, body), self._oversized = self._oversized, None
        if command & 0xF0 != PUBLISH:
            raise ValueError(f"a packet of type {command >> 4} with more than {MAX_PACKET} bytes")
        self._owner.received_publish(command, body)
        return data[skipped:], True


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Returns when one of them is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def _refusal(error: MQTTConnectError) -> LinkClosed:
    """The CONNACK's code as one of our errors (3.1.1 §3.2.2.3, 5 §3.2.2.2)."""
    text = str(error).partition("(")[2].rstrip(")") or str(error)
    if error._code in (1, 132):
        return VersionRefused("the broker does not speak this version of MQTT")
    if error._code in (2, 4, 5, 133, 134, 135, 138, 140):
        return LoginRefused(text)
    return LinkClosed(text)
