"""Answers by SMS: a gateway posts what people send to it, and ``4711`` acknowledges the message that said 4711.

Whoever posts here shows that it is the SMS gateway: by a signature over the body, as our own webhooks have it
(``X-Citywatch-Signature: t=<unix seconds>,v1=<hex>``, v1 = HMAC-SHA256(secret, "<t>.<body>")), or by the secret itself
as a bearer token. Who the person is, their number says. Four digits are few: after five wrong ones a number must wait.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections import OrderedDict, deque
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from fastapi import APIRouter, Request

from gateway.console import models
from gateway.console.answers import Answers, Fate, Outcome
from gateway.console.port import ConsolePort, InboundSms
from gateway.console.problems import Problem
from gateway.core.model import HOUR, MINUTE, SECOND, Micros
from gateway.core.records import SentRow
from gateway.core.routing import Person

NEWEST: Micros = 24 * HOUR
MOST_SENT = 500  # messages of a person looked through: more in a day no limit lets pass
SKEW_S = 300  # how far the sender's clock may be from ours
WRONG, WITHIN = 5, 10 * MINUTE
REMEMBERED = 10_000  # numbers
MOST_TEXT = 1000
CODE = re.compile(r"(?<!\d)\d{4}(?!\d)")

_TEXTS = {
    "acknowledged": ("已确认 {count} 处报警，谢谢。", "{count} acknowledged. Thank you."),
    "failed": ("确认未成功，请登录控制台处理。", "It could not be acknowledged; please sign in."),
    "already": ("无需确认：报警已结束或已有人确认。", "Nothing to do: it is over, or somebody has acknowledged it."),
    "repeated": ("您已确认过，无需重复回复。", "You have acknowledged it before."),
    "no_code": ("请回复短信末尾的 4 位数字。", "Please reply with the four digits at the end of the message."),
    "unknown_code": ("代码不对或已过期（24 小时内有效）。", "This code is not right, or older than 24 hours."),
    "ambiguous": ("该代码对应多条报警，请登录控制台处理。", "This code is of several messages; please sign in."),
    "too_many": ("错误次数过多，请稍后再试。", "Too many wrong codes; wait a little."),
    "unknown_number": ("该号码不在通知名单中。", "This number is not among those who are told."),
}


class SmsAnswer(models.Out):
    """What became of an SMS: ``outcome`` for programs, ``text`` for the one who wrote, in their language."""

    outcome: str
    text: str
    texts: models.Title
    acknowledged: list[str]


class _Wrong:
    """How often a number sent a wrong code lately."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[Micros]] = OrderedDict()

    def too_many(self, number: str, now: Micros) -> bool:
        times = self._times.get(number)
        while times and now - times[0] >= WITHIN:
            times.popleft()
        return times is not None and len(times) >= WRONG

    def add(self, number: str, now: Micros) -> None:
        self._times.setdefault(number, deque(maxlen=WRONG)).append(now)
        self._times.move_to_end(number)
        if len(self._times) > REMEMBERED:
            self._times.popitem(last=False)

    def forget(self, number: str) -> None:
        self._times.pop(number, None)


def routes(gateway: ConsolePort, answers: Answers) -> APIRouter:
    router = APIRouter(tags=["inbound"])
    wrong = _Wrong()

    @router.post("/inbound/sms", response_model=SmsAnswer)
    async def sms(request: Request) -> dict[str, Any]:
        """An SMS that somebody sent. JSON or a form with the number it came from and its text, under the names that the
        settings say; signed, or with the secret as a bearer token. Always 200 when it was understood: what became of it
        is in ``outcome``."""
        options = gateway.inbound_sms
        if options is None:
            raise Problem("not_found", "the settings say nothing of answers by SMS")
        body = await request.body()
        _must_be_the_sender(options, request, body, gateway.now())
        number, text = _read(options, request, body)
        outcome, person, done = await _answer(gateway, answers, wrong, number, text)
        if outcome != "acknowledged":
            who = person.person if person is not None else f"…{number[-4:]}"
            await answers.refused(who, "sms", "sms", outcome)
        texts = tuple(one.replace("{count}", str(len(done))) for one in _TEXTS[outcome])
        language = person.language if person is not None else "zh"
        return {
            "outcome": outcome,
            "text": texts[0] if language == "zh" else texts[1],
            "texts": {"zh": texts[0], "en": texts[1]},
            "acknowledged": done,
        }

    return router


async def _answer(
    gateway: ConsolePort, answers: Answers, wrong: _Wrong, number: str, text: str
) -> tuple[str, Person | None, list[str]]:
    """What an SMS leads to: the outcome, whom it came from, the alarms that it acknowledged."""
    now = gateway.now()
    people = [one for one in gateway.routing.people.values() if number and number in map(digits_of, one.numbers)]
    if not people:
        return "unknown_number", None, []
    person = people[0]
    if wrong.too_many(number, now):
        return "too_many", person, []
    codes = set(CODE.findall(unicodedata.normalize("NFKC", text)))
    if len(codes) != 1:
        return "no_code" if not codes else "ambiguous", person, []
    found = await _sent_with(gateway, people, codes.pop(), now)
    if not found:
        wrong.add(number, now)
        return "unknown_code", person, []
    sent = found[0]
    if len(found) > 1:
        # Four digits may be of two messages: only one of them may still be open, or nobody knows which is meant.
        still = [one for one in found if any(alarm.fate is Fate.OPEN for alarm in await answers.alarms(one))]
        if len({one.message.thread for one in still}) > 1:
            return "ambiguous", person, []
        sent = still[0] if still else sent
    wrong.forget(number)
    outcome, alarms = await answers.acknowledge(sent, "sms")
    person = gateway.routing.people.get(sent.message.recipient, person)
    match outcome:
        case Outcome.NOBODY:
            return "unknown_number", person, []
        case Outcome.USED:
            return "repeated", person, []
        case Outcome.NOTHING:
            return "already", person, []
        case Outcome.DONE:
            done = [alarm.line.alarm_id for alarm in alarms if alarm.fate is Fate.ACKNOWLEDGED]
            return ("acknowledged" if done else "failed"), person, done


async def _sent_with(gateway: ConsolePort, people: list[Person], code: str, now: Micros) -> list[SentRow]:
    """Messages to one of ``people`` that said this code, the newest first."""
    rows: list[SentRow] = []
    for person in people:
        sent = await gateway.records.sent_to(person.person, now - NEWEST, MOST_SENT)
        rows += (row for row in sent if hmac.compare_digest(gateway.links.code(row.key), code))
    return sorted(rows, key=lambda row: -row.created_at)


def _must_be_the_sender(options: InboundSms, request: Request, body: bytes, now: Micros) -> None:
    secret = options.secret.encode()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if secret and scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), secret):
        return
    signature = request.headers.get("x-citywatch-signature", "")
    match = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", signature)
    if match is not None and secret and abs(int(match[1]) - now / SECOND) <= SKEW_S:
        wanted = hmac.new(secret, match[1].encode() + b"." + body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(wanted, match[2]):
            return
    raise Problem("unauthenticated", "neither a good signature nor the secret as a bearer token")


def _read(options: InboundSms, request: Request, body: bytes) -> tuple[str, str]:
    """Number and text."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            given: Any = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
        else:
            given = msgspec.json.decode(body)
    except (ValueError, msgspec.MsgspecError) as error:
        raise Problem("bad_request", "neither JSON nor a form") from error
    number, text = (given.get(name) if isinstance(given, dict) else None for name in (options.number, options.text))
    if isinstance(number, int) and not isinstance(number, bool):
        number = str(number)
    if isinstance(text, int) and not isinstance(text, bool):
        text = f"{text:04d}"  # somebody's JSON made a number of the code
    if not isinstance(number, str) or not isinstance(text, str):
        raise Problem("invalid", f"{options.number} and {options.text} must be texts")
    return digits_of(number), text[:MOST_TEXT]


def digits_of(number: str) -> str:
    """A telephone number as it is compared: without +86 or 0086, spaces and dashes; "" for what is none."""
    digits = "".join(c for c in unicodedata.normalize("NFKC", number) if c in "0123456789")
    digits = digits.removeprefix("00")
    if len(digits) == 13 and digits.startswith("86"):
        digits = digits[2:]
    return digits if 3 <= len(digits) <= 20 else ""
