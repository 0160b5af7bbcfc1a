"""Webhooks: signed, bounded, and never talked into reaching inside."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.model import Condition, IsaState
from gateway.core.signature import sign
from gateway.errors import ConfigError, Rejected, Unavailable
from gateway.notify.dispatcher import Notification
from gateway.notify.message import cloud_event, what_happened
from gateway.notify.webhook import WebhookReceiver, allowed
from tests.console.city import record, step
from tests.notify.witness import endless, hang, nothing, status, witness

NOTE = Notification("lamp-1/lamp-out/1/ops", step(record()), 1)


@asynccontextmanager
async def receiver(url: str, secret: str | None = None, loopback: bool = True) -> AsyncIterator[WebhookReceiver]:
    made = WebhookReceiver(url, secret, allow_loopback=loopback)
    try:
        yield made
    finally:
        await made.close()


async def test_a_notification_is_a_signed_cloud_event() -> None:
    async with witness() as seen, receiver(seen.url, "s3cret") as hook:
        await hook.send(NOTE)
        (request,) = seen.requests
        assert request.headers["content-type"].startswith("application/cloudevents+json")
        assert request.headers["idempotency-key"] == NOTE.key
        assert request.headers["host"] == seen.url.split("/")[2]
        at = int(request.headers["x-citywatch-signature"].split(",")[0].removeprefix("t="))
        assert request.headers["x-citywatch-signature"] == sign(b"s3cret", at, request.body)
        event = request.event
        assert (event["specversion"], event["id"], event["subject"]) == ("1.0", NOTE.key, "lamp-1/lamp-out")
        assert event["type"] == "citywatch.alarm.raised"
        assert event["data"]["alarm"]["title"] == {"zh": "路灯熄灭", "en": "Lamp out"}


async def test_without_a_secret_there_is_no_signature() -> None:
    async with witness() as seen, receiver(seen.url) as hook:
        await hook.send(NOTE)
        assert "x-citywatch-signature" not in seen.requests[0].headers


@pytest.mark.parametrize(
    ("code", "error"), [(500, Unavailable), (503, Unavailable), (408, Unavailable), (429, Unavailable)]
)
async def test_not_now_is_unavailable(code: int, error: type[Exception]) -> None:
    async with witness(status(code, "Retry-After: 7")) as seen, receiver(seen.url) as hook:
        with pytest.raises(error, match=str(code)) as caught:
            await hook.send(NOTE)
        assert getattr(caught.value, "retry_after_s", None) == 7.0


@pytest.mark.parametrize("code", [300, 302, 307, 400, 401, 403, 404, 410, 422])
async def test_never_is_rejected_and_redirects_are_not_followed(code: int) -> None:
    async with (
        witness() as inside,
        witness(status(code, f"Location: {inside.url}")) as seen,
        receiver(seen.url) as hook,
    ):
        with pytest.raises(Rejected, match=str(code)):
            await hook.send(NOTE)
        assert inside.requests == []


async def test_an_answer_lost_on_the_way_is_unavailable() -> None:
    async with witness(nothing) as seen, receiver(seen.url) as hook:
        with pytest.raises(Unavailable):
            await hook.send(NOTE)


async def test_an_endless_answer_is_cut() -> None:
    async with witness(endless()) as seen, receiver(seen.url) as hook:
        await hook.send(NOTE)


async def test_no_answer_is_unavailable_after_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.notify.webhook.TIMEOUT_S", 0.2)
    async with witness(hang) as seen, receiver(seen.url) as hook:
        with pytest.raises(Unavailable, match=r"0\.2 s"):
            await hook.send(NOTE)


async def test_what_a_server_says_is_made_harmless_for_the_log() -> None:
    body = b"line\r\n\x1b[31mred\x00" + "错".encode() + b"\xff" * 9000
    async with witness(status(400, body=body)) as seen, receiver(seen.url) as hook:
        with pytest.raises(Rejected) as caught:
            await hook.send(NOTE)
        text = str(caught.value)
        assert text.isprintable()
        assert len(text) < 300


@pytest.mark.parametrize(
    "url", ["ftp://x/", "file:///etc/passwd", "gopher://x/", "x", "", "http://", "http://u:p@x/", "//x"]
)
def test_only_http_and_https_and_no_password_in_the_url(url: str) -> None:
    with pytest.raises(ConfigError):
        WebhookReceiver(url)


SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
]


@pytest.mark.parametrize("host", [*SPELLINGS, "127.1", "0", "LOCALHOST", "①②⑦.0.0.1"])
async def test_this_machine_is_out_of_reach_however_it_is_spelt(host: str) -> None:
    async with witness() as seen:
        port = seen.url.split(":")[2].split("/")[0]
        with pytest.raises((ConfigError, Rejected, Unavailable)):
            async with receiver(f"http://{host}:{port}/", loopback=False) as hook:
                await hook.send(NOTE)
        assert seen.requests == []


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("8.8.8.8", True),
        ("10.1.2.3", True),
        ("192.168.1.5", True),
        ("fd00::5", True),
        ("2001:4860::1", True),
        ("127.0.0.2", False),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_where_a_webhook_may_go(address: str, may: bool) -> None:
    assert allowed(ipaddress.ip_address(address), loopback=False) is may


async def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: one look-up, and no second one at connect."""
    asked: list[str] = []

    def resolve(host: str, *arguments: Any, **more: Any) -> list[Any]:
        asked.append(host)
        address = "203.0.113.7" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))]

    connected: list[str] = []

    async def post(self: WebhookReceiver, address: Any, *rest: Any) -> tuple[int, None, bytes]:
        connected.append(str(address))
        return 204, None, b""

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(WebhookReceiver, "_post", post)
    async with receiver("http://rebinding.example/", loopback=False) as hook:
        await hook.send(NOTE)
        with pytest.raises(Rejected):
            await hook.send(NOTE)
    assert connected == ["203.0.113.7"]


async def test_one_bad_address_among_good_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("203.0.113.7", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: found)
    async with receiver("http://two-faced.example/", loopback=False) as hook:
        with pytest.raises(Rejected, match=r"127\.0\.0\.1"):
            await hook.send(NOTE)


async def test_texts_of_devices_are_values_never_templates() -> None:
    odd = "{0.__class__} {{7*7}} ${HOME} %s \r\nBcc: x"
    note = Notification("k", step(record(title_zh=odd, value=odd)), 1)
    async with witness() as seen, receiver(seen.url) as hook:
        await hook.send(note)
        assert seen.requests[0].event["data"]["alarm"]["title"]["zh"] == odd
        assert seen.requests[0].event["data"]["alarm"]["value"] == odd


def test_a_person_wants_to_know_first_what_happened() -> None:
    raised = record(rev=1)
    acked = record(rev=2, acked=True)
    cleared = record(rev=3, cond=Condition.NORMAL)
    for transition, word in (
        (step(raised), "raised"),
        (step(acked, raised), "changed"),
        (step(cleared, raised), "cleared"),
        (step(raised, cleared), "raised"),
        (step(raised, acked), "changed"),
    ):
        assert what_happened(transition) == word
    assert cloud_event(Notification("k", step(cleared, raised), 3))["data"]["to"] == IsaState.RTNUN.value
