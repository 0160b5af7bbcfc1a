"""Notifications as signed JSON over HTTP, to an address that cannot be talked into reaching inside.

The host is resolved once, every address of it is checked, and the connection goes to the address that was checked: a
name that changes its mind between check and connect (DNS rebinding) gains nothing. Redirects are not followed. Answers
are read up to 64 kB and within 10 s.

A receiver checks ``X-Citywatch-Signature: t=<unix seconds>,v1=<hex>``, where v1 = HMAC-SHA256(secret, "<t>.<body>"),
and ignores an ``Idempotency-Key`` it has seen.

A request that was begun and got no whole answer may have arrived; one that found nobody to talk to has not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from gateway.core.signature import HEADER, sign
from gateway.errors import ConfigError, Mistake, Rejected, Unavailable
from gateway.notify.message import cloud_event
from gateway.notify.wording import Form, Wording
from gateway.ports import Notification

TIMEOUT_S = 10.0
MAX_ANSWER = 64 << 10
MAX_RETRY_AFTER_S = 3600.0

CLOUD_EVENTS = "application/cloudevents+json; charset=utf-8"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What a server may say about a request that is right in form: not now. All other 4xx mean: never.
_TRY_AGAIN = frozenset({408, 409, 423, 425, 429})
# A proxy that had passed it on and got no answer.
_IN_DOUBT = frozenset({502, 504})


class SignedPost:
    """POSTs to ``url``. ``secret``: the HMAC key; None or "" sends no signature.

    ``allow_loopback``: this machine may be reached (tests, a bridge that runs beside us). Private networks may, because
    that is where a city's own servers are; link-local, multicast, unspecified and reserved addresses never.
    Raises ConfigError for a URL that is not http or https.
    """

    def __init__(self, url: str, secret: str | None = None, *, allow_loopback: bool = False) -> None:
        self._secret = (secret or "").encode()
        self._allow_loopback = allow_loopback
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigError([Mistake("settings", None, "receivers.url", f"not a URL: {error}")]) from error
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ConfigError(
                [Mistake("settings", None, "receivers.url", "the URL must be http://host/… or https://host/…")]
            )
        if self._url.userinfo:
            raise ConfigError(
                [Mistake("settings", None, "receivers.url", "no user or password in the URL: it would be logged")]
            )
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_S, follow_redirects=False, trust_env=False, limits=httpx.Limits(max_connections=16)
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, body: bytes, key: str, media_type: str, query: Mapping[str, str] | None = None) -> bytes:
        """Send ``body`` under the idempotency key ``key``, with ``query`` beside what the URL says; gives the answer,
        the first 64 kB of it. Raises Unavailable (again later) or Rejected (never)."""
        headers = {"Content-Type": media_type, "Idempotency-Key": key.encode("ascii", "backslashreplace").decode()}
        sent = _Sent(query or {})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                addresses = await self._addresses()
                status, retry_after_s, answer = await self._post_to_first(addresses, body, headers, sent)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {TIMEOUT_S:g} s", may_have_arrived=sent.begun) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {error}"[:200], may_have_arrived=sent.begun) from error
        if 200 <= status < 300:
            return answer
        text = in_a_line(answer)
        reason = f"HTTP {status}" + (f": {text}" if text else "")
        if status >= 500 or status in _TRY_AGAIN:
            raise Unavailable(reason, retry_after_s, may_have_arrived=status in _IN_DOUBT)
        raise Rejected(reason)

    async def _post_to_first(
        self, addresses: list[Address], body: bytes, headers: dict[str, str], sent: _Sent
    ) -> tuple[int, float | None, bytes]:
        """To the first address that takes a connection, as browsers do."""
        for address in addresses[:-1]:
            try:
                return await self._post(address, body, headers, sent)
            except httpx.ConnectError:
                continue
        return await self._post(addresses[-1], body, headers, sent)

    async def _post(
        self, address: Address, body: bytes, more: dict[str, str], sent: _Sent
    ) -> tuple[int, float | None, bytes]:
        """Send to ``address`` itself, under the host's name; (status, Retry-After in seconds, the answer)."""
        host = self._url.netloc.decode("ascii")
        headers = {"Host": host, "Accept-Encoding": "identity", "User-Agent": "citywatch", **more}
        if self._secret:
            headers[HEADER] = sign(self._secret, int(time.time()), body)
        request = self._client.build_request(
            "POST",
            self._url.copy_with(host=str(address)).copy_merge_params(dict(sent.query)),
            content=body,
            headers=headers,
            extensions={"sni_hostname": self._url.raw_host.decode("ascii"), "trace": sent.trace},
        )
        answer = await self._client.send(request, stream=True)
        try:
            read = b""
            async for chunk in answer.aiter_raw():
                read += chunk
                if len(read) > MAX_ANSWER:
                    break
        finally:
            await answer.aclose()
        return answer.status_code, _retry_after_s(answer.headers.get("retry-after")), read[:MAX_ANSWER]

    async def _addresses(self) -> list[Address]:
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        return await resolved(self._url.host, port, loopback=self._allow_loopback)


class WebhookReceiver(SignedPost):
    """Transitions for machines, and messages for people, as CloudEvents. ``wording``: what people read."""

    def __init__(
        self, url: str, secret: str | None = None, *, allow_loopback: bool = False, wording: Wording | None = None
    ) -> None:
        super().__init__(url, secret, allow_loopback=allow_loopback)
        self._wording = wording

    async def send(self, notification: Notification) -> None:
        """Raises Unavailable (again later) or Rejected (never)."""
        words = None
        if self._wording is not None and notification.message is not None:
            words = self._wording.of(notification, Form.LONG)
        body = msgspec.json.encode(cloud_event(notification, words))
        await self.post(body, notification.key, CLOUD_EVENTS)


class _Sent:
    """One request: whether it has begun to leave (``trace`` is told by httpx's transport what it does), and what its
    URL says besides."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.query = query
        self.begun = False

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        if event.endswith(".send_request_headers.started"):
            self.begun = True


async def resolved(host: str, port: int, *, loopback: bool) -> list[Address]:
    """The addresses of a host; Rejected when any one of them is not allowed, Unavailable when it has none."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"{host} cannot be resolved: {error.strerror or error}") from error
    except UnicodeError as error:
        raise Rejected(f"{host} is not a host name") from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not allowed(address, loopback=loopback):
            raise Rejected(f"{host} is {address}, where notifications must not go")
    return list(dict.fromkeys(addresses))


def in_a_line(answer: bytes) -> str:
    """The beginning of what a server said, made harmless for a log."""
    text = answer[:200].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def allowed(address: Address, *, loopback: bool) -> bool:
    """Whether a webhook may go to ``address``; IPv4 in IPv6's clothes is judged as IPv4."""
    inner = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return allowed(inner, loopback=loopback)
    if address.is_loopback:
        return loopback
    if address in _THIS_NETWORK:
        return False
    return not (address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved)


_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _retry_after_s(text: str | None) -> float | None:
    """Retry-After as seconds, from a number or a date; None when it is neither."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), MAX_RETRY_AFTER_S)
