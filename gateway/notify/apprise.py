"""Messages through the apprise library: mail, SMS gateways, Telegram, ntfy, and some eighty other services.

The library is of good will and knows nothing of where it runs, so it is held by the hand:

- The URL is the operator's, with ``{to}`` where a person's address goes. An address is of few characters and
  percent-encoded: it chooses a recipient and nothing else.
- Services are those of ``SERVICES``: reached over HTTP or SMTP, in the thread that asks, and honest about failure. What
  shows things on this machine, runs programs here or loads code is not among them.
- Each send is in a thread of its own, of which there are at most eight. Whatever connects in that thread is looked at
  by an audit hook *at connect*: neither a redirect nor a name that changes its mind between check and connect leads to
  an address that webhooks may not reach either. Nothing can be started there.
- Its log is heard by us alone: warnings are the reason of a failure, and the exception that is being handled then says
  whether the message may have arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import smtplib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import apprise
import requests
from apprise.plugins.base import NotifyBase
from urllib3.exceptions import HTTPError, NewConnectionError

from gateway.errors import ConfigError, Mistake, Rejected, Unavailable
from gateway.notify.webhook import allowed
from gateway.notify.wording import Form, Text, Wording, plain
from gateway.ports import Notification

AT_ONCE = 8
CONNECT_S, READ_S = 5.0, 10.0
TIMEOUT_S = 20.0  # for the whole of a send, in which a service may ask more than once (a token, then the message)
SMS_LENGTH = 160  # characters: a service that takes no more gets the short form
MAX_REASON = 300

TO = "{to}"
ADDRESS = re.compile(r"[\w.+@#:=~-]{1,200}")  # telephone numbers, mailboxes, names and ids; nothing that separates
SAMPLES = ("13800000000", "somebody@example.org", "somebody", "0" * 32)

SERVICES = frozenset(
    """
    mailto mailtos mailgun sendgrid ses smtp2go sparkpost postmark brevo resend mailersend o365 azure
    46elks elks atalk bulksms bulkvs burstsms clickatell clicksend d7sms exotel freemobile httpsms kavenegar msg91
    msgbird nexmo octopush plivo ringc serwersms seven sfr sinch smsc smseagle smseagles smsmanager smsmgr sns
    twilio voipms vonage
    bark barks pushdeer pushdeers pushplus wechat wxpusher
    discord gchat line matrix matrixs mmost mmosts ncloud nclouds nctalk nctalks rocket rockets signal signals slack
    synology synologys tgram threema viber webex whatsapp workflow workflows wxteams zulip
    gotify gotifys join ntfy ntfys onesignal pbul pover prowl pushy spush
    opsgenie pagerduty pagertree signl4 splunk victorops
    apprise apprises form forms hassio hassios json jsons xml xmls
    """.split()  # noqa: SIM905
)
INSTEAD = {
    "dingtalk": "it takes a refusal of the service for a delivery; write `type: robot, platform: dingtalk`",
    "wecombot": "it takes a refusal of the service for a delivery; write `type: robot, platform: wecom`",
    "feishu": "it takes a refusal of the service for a delivery; write `type: robot, platform: feishu`",
    "wecom": "the library means Pushplus by that; write pushplus://, or `type: robot, platform: wecom`",
    "mqtt": "write `type: mqtt`",
    "mqtts": "write `type: mqtt`",
}
_TRY_AGAIN = frozenset({408, 409, 423, 425, 429})
_STATUS = re.compile(r"\berror=(\d{3})\b")
_WITH_SECRETS = re.compile(r"\b\w+://\S+")
_STARTS_SOMETHING = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"})


class AppriseReceiver:
    """``url``: of apprise; see https://appriseit.com/services/. ``form``: None chooses by what the service takes.

    ``allow_loopback``: a service on this machine may be reached. Raises ConfigError for a URL that is none, or of a
    service that is not in SERVICES.
    """

    at_once = AT_ONCE

    def __init__(
        self,
        url: str,
        wording: Wording,
        *,
        form: Form | None = None,
        language: str = "zh",
        allow_loopback: bool = False,
    ) -> None:
        self._url = url
        self._wording = wording
        self._language = language
        self._allow_loopback = allow_loopback
        self._says_format = re.search(r"[?&]format=", url, re.IGNORECASE) is not None
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._asset = apprise.AppriseAsset(
            app_id="citywatch",
            app_desc="citywatch",
            app_url="",
            async_mode=False,
            http_redirects=False,
            interpret_escapes=False,
            interpret_emojis=False,
            pgp_autogen=False,
            pem_autogen=False,
            secure_logging=True,
            storage_mode="memory",
        )
        _listen()
        plugin = self._checked()
        most = plugin.body_maxlen
        self._most = int(most) if isinstance(most, int) else 0
        self._form = form or (Form.SHORT if 0 < self._most <= SMS_LENGTH else Form.LONG)

    async def send(self, notification: Notification) -> None:
        """Raises Unavailable (again later) or Rejected (never)."""
        most = self._most if self._form is Form.LONG else 0
        text = self._wording.of(notification, self._form, most, self._language)
        url = self._url_for(notification.address)
        held = _Held(self._allow_loopback)
        if not self._room.acquire(blocking=False):
            raise Unavailable("earlier messages are still on their way to the service")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                delivered = await _in_a_thread(lambda: self._notify(held, url, text), self._room.release)
        except TimeoutError as error:
            raise Unavailable(f"no answer within {TIMEOUT_S:g} s", may_have_arrived=True) from error
        if not delivered:
            raise held.why()

    def _notify(self, held: _Held, url: str, text: Text) -> bool:
        """In a thread of its own."""
        _here.held = held
        plugin = apprise.Apprise.instantiate(url, asset=self._asset)
        if plugin is None:
            held.not_for_this_address = True
            return False
        _tame(plugin)
        if not self._says_format:
            plugin.notify_format = apprise.NotifyFormat.TEXT
        body = text.body
        if plugin.notify_format != apprise.NotifyFormat.TEXT:
            body = apprise.conversion.convert_between(
                apprise.NotifyFormat.TEXT, plugin.notify_format, _unmarked(body, plugin.notify_format)
            )
        try:
            return bool(plugin.notify(body=body, title=text.title, body_format=plugin.notify_format))
        except Exception as error:  # a plugin's bug is a failed delivery
            held.heard.append(f"{type(error).__name__}: {error}")
            held.error = held.error or error
            return False

    def _url_for(self, address: str) -> str:
        if TO not in self._url:
            return self._url
        if not ADDRESS.fullmatch(address):
            raise Rejected("this is no address for it" if address else "the person has no address for it")
        return self._url.replace(TO, quote(address, safe=""))

    def _checked(self) -> NotifyBase:
        """The URL as the library understands it, for an address like those that will come."""
        schema, _, rest = self._url.partition("://")
        schema = schema.strip().lower()
        if not rest or schema not in SERVICES:
            why = INSTEAD.get(schema, "the services that may be used are in docs/operations.md")
            raise _wrong(f"{schema[:20]}:// cannot be used here: {why}" if rest else "not a URL of apprise")
        authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        if TO in authority:
            raise _wrong(f"{TO} must stand behind the host; nearly every service takes ?to={TO}")
        held = _here.held = _Held(self._allow_loopback)
        try:
            for sample in SAMPLES if TO in self._url else ("",):
                plugin = apprise.Apprise.instantiate(self._url_for(sample), asset=self._asset)
                if plugin is not None and getattr(plugin, "smtp_host", "mail") != "":
                    return plugin
        finally:
            _here.held = None
        raise _wrong(f"apprise does not understand it: {held.reason()}")


def _wrong(why: str) -> ConfigError:
    return ConfigError([Mistake("settings", None, "receivers: apprise", why)])


def _tame(plugin: NotifyBase) -> None:
    """Whatever the URL says: no redirects, no second try of its own, and a failure is a failure."""
    plugin.redirects = False
    plugin.retry = 0
    plugin.optional = False
    plugin.interpret_emojis = False
    plugin.socket_connect_timeout = CONNECT_S
    plugin.socket_read_timeout = READ_S


def _unmarked(text: str, to: Any) -> str:
    """Foreign text that makes no links, names nobody and breaks no table, where it becomes Markdown."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~@-])", r"\\\1", text) if to == apprise.NotifyFormat.MARKDOWN else text


# -- the thread of one send -------------------------------------------------------------------------------------------


class _NotThere(PermissionError):
    """A connection to where notifications must not go."""


@dataclass(slots=True)
class _Held:
    """What happens in the thread of one send: what the library says, and where it may not go."""

    allow_loopback: bool
    heard: list[str] = field(default_factory=list)
    error: BaseException | None = None
    refusal: str | None = None
    not_for_this_address: bool = False

    def connects(self, address: Any) -> None:
        """Called before every connect of the thread; raises to prevent it."""
        try:
            found = ipaddress.ip_address(str(address[0]).partition("%")[0])
        except (ValueError, TypeError, IndexError):
            found = None  # a name that was not looked up, a socket in the file system
        if found is None or not allowed(found, loopback=self.allow_loopback):
            self.refusal = f"{found or 'that'} is where notifications must not go"
            raise _NotThere(self.refusal)

    def hears(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.heard.append(record.getMessage())
        # The library tells of an exception while it handles it; only its text would be in the record.
        self.error = sys.exc_info()[1] or self.error

    def reason(self) -> str:
        """What the library said, without addresses that hold secrets."""
        said = dict.fromkeys(_WITH_SECRETS.sub("…", plain(one, MAX_REASON)) for one in self.heard)
        return plain("; ".join(said) or "no reason given", MAX_REASON)

    def why(self) -> Unavailable | Rejected:
        if self.refusal is not None:
            return Rejected(self.refusal)
        if self.not_for_this_address:
            return Rejected(f"not an address of this service: {self.reason()}")
        error = self.error
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            codes = [code for code, _ in error.recipients.values()]
            return self._by_code(codes[0] if codes else 0)
        if isinstance(error, smtplib.SMTPResponseException):
            return self._by_code(error.smtp_code)
        if error is not None:
            return Unavailable(self._with(error), may_have_arrived=self._sent(error))
        status = _STATUS.search(" ".join(self.heard))
        code = int(status[1]) if status is not None else 0
        if 400 <= code < 500 and code not in _TRY_AGAIN:
            return Rejected(self.reason())
        return Unavailable(self.reason())

    def _by_code(self, code: int) -> Unavailable | Rejected:
        """SMTP: 5xx is for good, 4xx is not now."""
        text = f"SMTP {code}: {self.reason()}"
        return Rejected(text) if 500 <= code < 600 else Unavailable(text)

    def _with(self, error: BaseException) -> str:
        return f"{type(_innermost(error)).__name__}: {self.reason()}"

    def _sent(self, error: BaseException) -> bool:
        """May the message have left before it failed?"""
        if isinstance(error, requests.RequestException):
            if isinstance(error, (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError)):
                return False
            return not isinstance(_innermost(error), NewConnectionError)
        # Mail: everything before the message itself is told as a failed connection.
        return not any(said.startswith("Connection error while submitting") for said in self.heard)


def _innermost(error: BaseException) -> BaseException:
    """What requests and urllib3 wrapped."""
    inner = error.args[0] if isinstance(error, requests.RequestException) and error.args else error
    reason = getattr(inner, "reason", None)
    if isinstance(reason, BaseException):
        return reason
    return inner if isinstance(inner, (HTTPError, OSError)) else error


_here = threading.local()
_set_up = threading.Lock()
_is_set_up = False


class _Ear(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        held = getattr(_here, "held", None)
        if held is not None:
            held.hears(record)


def _listen() -> None:
    """Once a process: the library's log goes to whoever sends in that thread, and its connections are looked at."""
    global _is_set_up
    with _set_up:
        if _is_set_up:
            return
        _is_set_up = True
        heard = logging.getLogger("apprise")
        heard.handlers = [_Ear(logging.DEBUG)]
        heard.propagate = False
        heard.setLevel(logging.DEBUG)
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Every process-wide event comes here; only the threads of sends are of interest."""
    if event != "socket.connect" and event not in _STARTS_SOMETHING:
        return
    held = getattr(_here, "held", None)
    if held is None:
        return
    if event == "socket.connect":
        held.connects(arguments[1])
    else:
        held.refusal = "the service wanted to start a program"
        raise _NotThere(held.refusal)


async def _in_a_thread(work: Callable[[], bool], at_end: Callable[[], None]) -> bool:
    """``work`` in a thread that holds up neither us nor the end of the process; ``at_end`` is called there when it is
    over, whether or not somebody still waits."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def tell(result: bool) -> None:
        if not future.done():
            future.set_result(result)

    def run() -> None:
        result = False
        try:
            result = work()
        finally:
            at_end()
            with contextlib.suppress(RuntimeError):  # the loop has ended without us
                loop.call_soon_threadsafe(tell, result)

    try:
        threading.Thread(target=run, name="apprise", daemon=True).start()
    except RuntimeError as error:
        at_end()
        raise Unavailable(f"no thread can be started: {error}") from error
    return await future
