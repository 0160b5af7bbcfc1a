"""python -m simulators case-platform: the city's case platform (数字城管, 12345 …), small, and as bad as it is told.

It takes cases by POST, looks at their signature, keeps one document a case and one answer an idempotency key, gives
numbers, and says back, signed, how far a case is and what citizens report. Like the real ones it speaks Chinese JSON.
Its misbehaviour is a list of faults, used one a request, each ``times`` times (default 1); then it is well again:

    [{"status": 500, "times": 3}, {"delay_s": 20}, {"lost": true}, {"code": 500}, {"status": 400}]

``lost``: the case is taken, and the answer never comes. ``code``: HTTP 200 with a "no" inside, as many platforms say
it. Over HTTP: ``GET /cases``, ``POST /faults`` (such a list), ``POST /news`` and ``POST /ticket``, which are passed on
to the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import itertools
import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
from aiohttp import web

MAX_BODY = 1 << 20
FRESH_S = 300  # a signature that is older, or from the future, is not good
SIGNATURE = "X-Citywatch-Signature"
ZONE = ZoneInfo("Asia/Shanghai")

# What the gateway calls these, as its shipped field map has them.
KEY, NUMBER, EVENT_KEY, EVENT, STATUS = "外部编号", "问题编号", "幂等键", "事件代码", "案件状态"


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered instead: after ``delay_s``, with ``status``, with ``code`` inside of HTTP 200, or not
    at all although the case is taken (``lost``)."""

    status: int = 200
    delay_s: float = 0.0
    lost: bool = False
    code: int = 0
    times: int = 1


@dataclass
class CaseFile:
    """One case: its number, the newest document, and what happened to it in order."""

    number: str
    document: dict[str, Any]
    events: list[str] = field(default_factory=list)

    @property
    def is_closed(self) -> bool:
        """Opened, and what was told last of it was its end."""
        return bool(self.events) and self.events[-1] == "closed"


def signature(key: bytes, at: int, body: bytes) -> str:
    """The value of ``SIGNATURE`` for a body sent at ``at`` (unix seconds)."""
    return f"t={at},v1={hmac.new(key, f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def is_signed(key: bytes, said: str, body: bytes, now: float) -> bool:
    """``said`` is the signature of ``body`` with ``key``, made just now."""
    time_part, _, _ = said.partition(",")
    text = time_part.removeprefix("t=")
    if not text.isascii() or not text.isdigit() or abs(now - int(text)) > FRESH_S:
        return False
    return hmac.compare_digest(signature(key, int(text), body), said)


class CasePlatform:
    """The platform. Listens while the context is open; ``url`` is where cases go. ``key``: what the gateway signs with;
    ``gateway``: where it listens for us (".../api/v1/inbound/cases/NAME"), with ``own_key`` for what we sign.
    ``log``: JSON lines of everything that came."""

    def __init__(
        self,
        key: str,
        *,
        gateway: str = "",
        own_key: str = "",
        port: int = 0,
        faults: Iterable[Fault] = (),
        log: Path | None = None,
    ) -> None:
        self.port = port
        self.gateway = gateway
        self.cases: dict[str, CaseFile] = {}  # by the gateway's key of the case
        self.answers: dict[str, dict[str, Any]] = {}  # by idempotency key: what was answered
        self.requests = 0
        self.repeats = 0  # requests whose key was known
        self.refused: list[str] = []  # why requests were not taken
        self._key = key.encode()
        self._own_key = own_key.encode()
        self._faults = _one_by_one(faults)
        self._numbers = itertools.count(1)
        self._log = log
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/cases"

    def then(self, *faults: Fault) -> None:
        """From now on misbehave so."""
        self._faults = _one_by_one(faults)

    async def __aenter__(self) -> CasePlatform:
        await self.come_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.go_down()

    async def come_up(self) -> None:
        """Listen, on the port it had before."""
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.post("/cases", self._take),
                web.get("/cases", self._list),
                web.post("/faults", self._set_faults),
                web.post("/news", self._pass_on),
                web.post("/ticket", self._pass_on),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = int(self._runner.addresses[0][1])

    async def go_down(self) -> None:
        """Nobody listens any more; what was taken is still known."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- taking cases -------------------------------------------------------------------------------------------------

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        fault = next(self._faults)
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.status >= 300:
            return _json({"message": "not now"}, status=fault.status)
        if fault.code:
            return _json({"code": fault.code, "message": "系统繁忙"})
        if not is_signed(self._key, request.headers.get(SIGNATURE, ""), body, time.time()):
            return self._refuse(401, "签名无效")
        try:
            document = json.loads(body)
            key, event_key, event = (str(document[name]) for name in (KEY, EVENT_KEY, EVENT))
        except (ValueError, TypeError, KeyError) as error:
            return self._refuse(422, f"缺少字段 {error}")
        if request.headers.get("Idempotency-Key") != event_key:
            return self._refuse(422, "幂等键不一致")
        answer = self._file(key, event_key, event, document)
        self._note(document)
        if fault.lost:
            assert request.transport is not None
            request.transport.abort()
        return _json(answer)

    def _file(self, key: str, event_key: str, event: str, document: dict[str, Any]) -> dict[str, Any]:
        if event_key in self.answers:
            self.repeats += 1
            return self.answers[event_key]
        case = self.cases.get(key)
        if case is None:
            case = self.cases[key] = CaseFile(f"CG{datetime.now(ZONE):%Y%m%d}{next(self._numbers):06}", document)
        case.document = document
        case.events.append(event)
        answer = self.answers[event_key] = {"code": 0, "message": "ok", NUMBER: case.number}
        return answer

    def _refuse(self, status: int, why: str) -> web.Response:
        self.refused.append(why)
        return _json({"code": status, "message": why}, status=status)

    def _note(self, document: dict[str, Any]) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(document, ensure_ascii=False) + "\n")

    async def _list(self, request: web.Request) -> web.Response:
        found = [
            {"key": key, "number": case.number, "events": case.events, "document": case.document}
            for key, case in self.cases.items()
        ]
        return _json({"cases": found, "requests": self.requests, "repeats": self.repeats})

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self.then(*read_faults(await request.json()))
        except (TypeError, ValueError) as error:
            return _json({"message": str(error)}, status=400)
        return _json({})

    # -- speaking to the gateway --------------------------------------------------------------------------------------

    async def _pass_on(self, request: web.Request) -> web.Response:
        kind = "案件状态" if request.path == "/news" else "工单"
        status, answer = await self.say({"消息类型": kind, **(await request.json())})
        return _json({"status": status, "answer": answer})

    async def news(self, case: CaseFile, status: str, text: str = "", *, id: str | None = None) -> tuple[int, Any]:
        """Tell the gateway how far one of its cases is: 已立案, 已派遣, 处置中, 待核查, 返工, 已结案, 不予立案 …"""
        said = {"消息类型": "案件状态", NUMBER: case.number, STATUS: status, "说明": text, "操作人": "平台坐席"}
        return await self.say(said | {"时间": _now()} | ({"消息编号": id} if id is not None else {}))

    async def ticket(
        self,
        number: str,
        class_: str,
        text: str,
        *,
        place: str = "",
        at: tuple[float, float] | None = None,
        **more: str,
    ) -> tuple[int, Any]:
        """Pass on what a citizen reports; ``at``: longitude and latitude (WGS-84)."""
        said = {"消息类型": "工单", "工单编号": number, "问题类别": class_, "问题描述": text, "地址描述": place}
        position = {} if at is None else {"经纬度": f"{at[0]},{at[1]}"}
        return await self.say(said | {"上报时间": _now()} | position | more)

    async def say(
        self, document: Mapping[str, Any], *, key: str | None = None, age_s: float = 0.0, body: bytes | None = None
    ) -> tuple[int, Any]:
        """POST to the gateway, signed; gives status and answer. ``key``: sign with another one; ``age_s``: as if it had
        been signed so long ago; ``body``: send this under that signature."""
        own = json.dumps(document, ensure_ascii=False).encode()
        signing = self._own_key if key is None else key.encode()
        headers = {SIGNATURE: signature(signing, round(time.time() - age_s), own), "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            session.post(self.gateway, data=own if body is None else body, headers=headers) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if text else None


def _json(what: Any, status: int = 200) -> web.Response:
    return web.json_response(what, status=status, dumps=lambda said: json.dumps(said, ensure_ascii=False))


def _now() -> str:
    return f"{datetime.now(ZONE):%Y-%m-%d %H:%M:%S}"


def _one_by_one(faults: Iterable[Fault]) -> Iterator[Fault]:
    for fault in faults:
        for _ in range(fault.times):
            yield fault
    while True:
        yield Fault()


def read_faults(rows: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """Faults as JSON has them. Raises TypeError for an unknown word."""
    return [Fault(**row) for row in rows]


def run(options: argparse.Namespace) -> int:
    """Carry out ``python -m simulators case-platform``: prints {"type": "ready", "url": …}, ends at SIGTERM."""
    text = options.faults or "[]"
    try:
        faults = read_faults(json.loads(Path(text[1:]).read_text() if text.startswith("@") else text))
        key = options.secret_file.read_text(encoding="utf-8").strip()
        own = options.own_secret_file.read_text(encoding="utf-8").strip() if options.own_secret_file else ""
    except (TypeError, ValueError, OSError) as error:
        print(f"case-platform: {error}", file=sys.stderr)
        return 2
    platform = CasePlatform(
        key, gateway=options.gateway, own_key=own, port=options.port, faults=faults, log=options.out
    )  # fmt: skip
    return asyncio.run(_serve_until_told(platform))


async def _serve_until_told(platform: CasePlatform) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with platform:
        print(json.dumps({"type": "ready", "url": platform.url}), flush=True)
        await stop.wait()
        summary = {"type": "summary", "requests": platform.requests, "cases": len(platform.cases)}
        print(json.dumps(summary), flush=True)
    return 0
