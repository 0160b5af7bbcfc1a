"""The apprise library, held by the hand: real servers on loopback, every way to fail, and nowhere it must not go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from gateway.core.notification import MessageKind
from gateway.errors import ConfigError, Rejected, Unavailable
from gateway.notify import apprise
from gateway.notify.apprise import AT_ONCE, SERVICES, AppriseReceiver
from gateway.notify.wording import Form
from tests.notify.messages import line, lines, message, note, wording
from tests.notify.witness import hang, nothing, status, witness


def made(url: str, loopback: bool = True, form: Form | None = None) -> AppriseReceiver:
    return AppriseReceiver(url, wording(), allow_loopback=loopback, form=form)


def place(url: str) -> str:
    """host:port/path of a witness."""
    return url.removeprefix("http://")


class Mailbox:
    """An SMTP server's handler that keeps what comes; ``answers`` to RCPT and DATA are used up one a time."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.recipients: list[str] = []
        self.data: list[str | None] = []

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if self.recipients:
            return self.recipients.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        self.to.append(envelope.rcpt_tos)
        answer = self.data.pop(0) if self.data else "250 OK"
        if answer is None:  # the line breaks behind the message
            server.transport.abort()
            return "250 OK"
        return answer


@contextlib.contextmanager
def mail_server() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


# -- mail -------------------------------------------------------------------------------------------------------------


async def test_a_mail_reaches_the_person_and_reads_as_it_should() -> None:
    with mail_server() as (box, port):
        receiver = made(f"mailto://127.0.0.1:{port}?from=alarm@example.org&to={{to}}")
        await receiver.send(note(message(MessageKind.RAISED, *lines(), count=7), "zhang+night@example.org"))
    (mail,) = box.mails
    assert box.to == [["zhang+night@example.org"]]
    assert mail["subject"] == "红色 I 级报警：西泵站 集水井水位过高等 7 处"
    assert mail.get_content_type() == "text/plain"
    assert "人民路下穿 道路积水（II 级，14:31 起）" in mail.get_content()
    assert "https://alarm.example.gov.cn/a/" in mail.get_content()


async def test_a_mail_that_may_come_twice_says_so() -> None:
    with mail_server() as (box, port):
        receiver = made(f"mailto://127.0.0.1:{port}?from=a@example.org&to={{to}}")
        await receiver.send(note(address="z@example.org", doubtful=True))
        await receiver.send(note(message(language="en"), "z@example.org", doubtful=True))
    assert [mail["subject"] for mail in box.mails] == [
        "红色 I 级报警：西泵站 集水井水位过高（可能重复）",
        "RED I alarm. 西泵站: Wet well too high (possible repeat)",
    ]


async def test_a_mailbox_that_is_not_there_is_refused_for_good_and_a_full_one_is_tried_again() -> None:
    with mail_server() as (box, port):
        receiver = made(f"mailto://127.0.0.1:{port}?from=a@example.org&to={{to}}")
        box.recipients = ["550 no such user here", "452 mailbox full"]
        with pytest.raises(Rejected, match="SMTP 550"):
            await receiver.send(note(address="nobody@example.org"))
        with pytest.raises(Unavailable, match="SMTP 452") as caught:
            await receiver.send(note(address="full@example.org"))
        assert not caught.value.may_have_arrived


async def test_a_mail_whose_receipt_got_lost_may_have_arrived() -> None:
    with mail_server() as (box, port):
        receiver = made(f"mailto://127.0.0.1:{port}?from=a@example.org&to={{to}}")
        box.data = [None]
        with pytest.raises(Unavailable) as caught:
            await receiver.send(note(address="z@example.org"))
        assert caught.value.may_have_arrived
        await receiver.send(note(address="z@example.org", doubtful=True))
    assert len(box.mails) == 2


async def test_a_mail_server_that_is_away_has_nothing() -> None:
    with mail_server() as (_, port):
        pass
    receiver = made(f"mailto://127.0.0.1:{port}?from=a@example.org&to={{to}}")
    with pytest.raises(Unavailable) as caught:
        await receiver.send(note(address="z@example.org"))
    assert not caught.value.may_have_arrived


# -- HTTP -------------------------------------------------------------------------------------------------------------


async def test_a_service_over_http_gets_title_and_text() -> None:
    async with witness(status(200)) as seen:
        await made(f"json://{place(seen.url)}").send(note())
        (request,) = seen.requests
    body = json.loads(request.body)
    assert body["title"] == "红色 I 级报警：西泵站 集水井水位过高"
    assert body["message"].startswith("级别：I 级（红色，特别重大）\n地点：水泊大街，水泊街道\n")
    assert body["attachments"] == []


async def test_sms_gets_the_short_form() -> None:
    async with witness(status(200)) as seen:
        await made(f"json://{place(seen.url)}", form=Form.SHORT).send(note())
        text = json.loads(seen.requests[0].body)["message"]
    assert text.startswith("红色 I 级报警：西泵站 集水井水位过高，4.812 m（限值 4.5 m），水泊大街，14:30 起。回复 ")
    assert len(text) <= 70
    sms = AppriseReceiver("burstsms://apikey:secret@15551234567/{to}", wording())
    assert sms._form is Form.SHORT


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
async def test_a_refusal_is_for_good(code: int) -> None:
    async with witness(status(code)) as seen:
        with pytest.raises(Rejected, match=str(code)):
            await made(f"json://{place(seen.url)}").send(note())


@pytest.mark.parametrize("code", [408, 429, 500, 503])
async def test_not_now_is_tried_again(code: int) -> None:
    async with witness(status(code)) as seen:
        with pytest.raises(Unavailable, match=str(code)) as caught:
            await made(f"json://{place(seen.url)}").send(note())
        assert not caught.value.may_have_arrived


async def test_an_answer_lost_on_the_way_leaves_a_doubt() -> None:
    async with witness(nothing) as seen:
        with pytest.raises(Unavailable) as caught:
            await made(f"json://{place(seen.url)}").send(note())
        assert caught.value.may_have_arrived
        assert len(seen.requests) == 1


async def test_no_answer_leaves_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise, "READ_S", 0.2)
    async with witness(hang) as seen:
        with pytest.raises(Unavailable, match="Timeout") as caught:
            await made(f"json://{place(seen.url)}").send(note())
        assert caught.value.may_have_arrived


async def test_a_port_where_nobody_listens_leaves_none() -> None:
    async with witness() as seen:
        url = place(seen.url)
    with pytest.raises(Unavailable) as caught:
        await made(f"json://{url}").send(note())
    assert not caught.value.may_have_arrived


async def test_a_library_that_hangs_holds_up_nobody_for_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise, "TIMEOUT_S", 0.2)
    stuck = threading.Event()
    receiver = made("json://127.0.0.1:1/")
    monkeypatch.setattr(receiver, "_notify", lambda *_: stuck.wait(20))
    try:
        ends = await asyncio.gather(*(receiver.send(note()) for _ in range(AT_ONCE)), return_exceptions=True)
        assert [type(end) for end in ends] == [Unavailable] * AT_ONCE
        assert all(end.may_have_arrived for end in ends if isinstance(end, Unavailable))
        with pytest.raises(Unavailable, match="on their way") as caught:  # all the threads there may be are stuck
            await receiver.send(note())
        assert not caught.value.may_have_arrived
    finally:
        stuck.set()
    async with asyncio.timeout(5):
        while receiver._room._value < AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_two_sends_at_once_do_not_hear_one_another() -> None:
    async with witness(status(401)) as wrong, witness(status(200)) as right:
        bad, good = made(f"json://{place(wrong.url)}"), made(f"json://{place(right.url)}")
        ends = await asyncio.gather(
            *(one.send(note()) for _ in range(4) for one in (bad, good)), return_exceptions=True
        )
        wrong.answers = [status(401)] * 3
    assert sum(isinstance(end, Rejected) for end in ends) >= 1
    assert [end for end in ends[1::2] if end is not None] == []


async def test_the_library_says_nothing_in_our_log() -> None:
    """pytest's own ``caplog`` would put its ear even to loggers that do not pass anything on."""
    heard: list[logging.LogRecord] = []
    ear = logging.Handler()
    ear.emit = heard.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(ear)
    try:
        async with witness(status(500)) as seen:
            with pytest.raises(Unavailable):
                await made(f"json://user:s3cret@{place(seen.url)}").send(note())
    finally:
        logging.getLogger().removeHandler(ear)
    assert [record.getMessage() for record in heard if record.name.startswith("apprise")] == []


# -- where it may go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "169.254.169.254", "[fe80::1]"]
)
@pytest.mark.parametrize(
    "url",
    ["json://{}/", "xml://{}/", "form://{}/", "ntfy://{}/topic", "gotify://{}/t0ken123456789", "matrix://u:p@{}/#room",
     "mailto://{}?from=a@example.org&to=b@example.org", "apprise://{}/token1234567890", "mmost://{}/token1234567890",
     "hassio://{}/token1234567"],
)  # fmt: skip
async def test_nothing_reaches_where_webhooks_may_not_go(host: str, url: str) -> None:
    try:
        receiver = made(url.format(host), loopback=False)
    except ConfigError:
        return  # the library does not take such a host at all
    with pytest.raises((Rejected, Unavailable)) as caught:
        await receiver.send(note())
    if isinstance(caught.value, Unavailable):  # no such route here, or a name that is nobody's
        assert not caught.value.may_have_arrived


async def test_a_name_that_leads_inside_is_refused_at_connect() -> None:
    async with witness() as seen:
        port = seen.url.split(":")[2].split("/")[0]
        with pytest.raises(Rejected, match=r"127\.0\.0\.1|::1"):
            await made(f"json://localhost:{port}/", loopback=False).send(note())
        assert seen.requests == []


async def test_a_redirect_is_not_followed_whatever_the_url_says() -> None:
    async with witness() as inside, witness(status(302, f"Location: {inside.url}")) as seen:
        with pytest.raises(Unavailable, match="302"):
            await made(f"json://{place(seen.url)}?redirect=yes").send(note())
        assert inside.requests == []


async def test_failure_is_failure_and_there_is_no_second_try_whatever_the_url_says() -> None:
    async with witness(status(500)) as seen:
        with pytest.raises(Unavailable):
            await made(f"json://{place(seen.url)}?optional=yes&retry=5&wait=0.1").send(note())
        assert len(seen.requests) == 1


async def test_no_program_is_started_in_the_thread_of_a_send(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def send(*_: Any, **__: Any) -> bool:
        import subprocess

        return subprocess.run(["touch", str(tmp_path / "started")], check=False).returncode == 0

    monkeypatch.setattr(NotifyJSON, "send", send)
    with pytest.raises(Rejected, match="start a program"):
        await made("json://127.0.0.1:1/").send(note())
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "url",
    ["syslog://", "rsyslog://localhost", "dbus://", "qt://", "gnome://", "glib://", "macosx://", "windows://",
     "mqtt://localhost/topic", "irc://localhost/#x", "xmpp://u:p@localhost", "smpp://u:p@h/1/2", "growl://localhost",
     "blink1://", "aprs://", "file:///etc/passwd", "http://example.org/", "notify://x", "dingtalk://token",
     "feishu://token123", "wecombot://key", "schan://key", "", "json", "json://", "://x", "exec://x", "lamp-1"],
)  # fmt: skip
def test_what_is_no_service_over_the_network_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(url)
    assert "receivers" in str(caught.value)


def test_every_service_is_one_that_the_library_knows() -> None:
    from apprise.manager_plugins import NotificationManager

    known = NotificationManager()
    assert sorted(service for service in SERVICES if service not in known) == []


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["13800000000", "+86-138.0000", "zhang@example.org", "@group", "#room", "oXyZ_123-abc=", "张三"]
)
async def test_an_address_is_one_recipient(address: str) -> None:
    async with witness(status(200)) as seen:
        await made(f"json://{place(seen.url)}?:name={{to}}").send(note(address=address))
        assert json.loads(seen.requests[0].body)["name"] == address
        assert urlsplit(seen.requests[0].path).path == "/hook"


@pytest.mark.parametrize(
    "address",
    ["", "a,b", "a b", "a/b", "../x", "a?x=y", "a&to=b", "a%2Cb", "a;b", "a\nBcc: b", "a\r\nb", "a\\b", "<a>", '"a"',
     "x" * 201],
)  # fmt: skip
async def test_an_address_that_could_be_more_is_refused(address: str) -> None:
    async with witness(status(200)) as seen:
        with pytest.raises(Rejected):
            await made(f"json://{place(seen.url)}?:name={{to}}").send(note(address=address))
        assert seen.requests == []


@pytest.mark.parametrize(
    "url", ["json://{to}/", "json://{to}@localhost/", "json://u:{to}@localhost/", "json://h:{to}/"]
)
def test_an_address_never_stands_in_the_host(url: str) -> None:
    with pytest.raises(ConfigError, match="behind the host"):
        made(url)


async def test_foreign_text_stays_text() -> None:
    odd = "<script>alert(1)</script> [link](http://evil) *bold* @all\r\nBcc: x@y {0} %s"
    async with witness(status(200), status(200)) as seen:
        for form in ("html", "markdown"):
            told = message(MessageKind.RAISED, line(title_zh=odd))
            await made(f"json://{place(seen.url)}?format={form}").send(note(told))
        html, markdown = (json.loads(request.body) for request in seen.requests)
    assert "\n" not in html["title"]
    assert "<script>" not in html["message"]
    assert "](http" not in markdown["message"]
