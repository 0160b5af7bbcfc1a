"""Group robots of DingTalk, WeCom and Feishu (群机器人): a text into a group, with the person named in it.

All three answer 200 whatever becomes of the text, and say in the body whether they took it; that is what counts here.
A person's address is the mobile number (Feishu: the open id) by which the group's member is called up.

- https://open.dingtalk.com/document/robots/custom-robot-access
- https://developer.work.weixin.qq.com/document/path/91770
- https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from gateway.errors import Rejected, Unavailable
from gateway.notify.webhook import SignedPost
from gateway.notify.wording import Form, Wording, plain
from gateway.ports import Notification

ADDRESS = re.compile(r"[\w+-]{1,64}")
JSON = "application/json; charset=utf-8"
MOST = 650  # characters: WeCom takes 2,048 bytes, three a Chinese character


class Platform(StrEnum):
    DINGTALK = "dingtalk"
    WECOM = "wecom"
    FEISHU = "feishu"


# What they say when they have had too much, or are not well themselves: not now. All else means: never.
_NOT_NOW = {
    Platform.DINGTALK: frozenset({-1, 130101, 410100, 90018}),
    Platform.WECOM: frozenset({-1, 45009, 45033}),
    Platform.FEISHU: frozenset({11232, 99991400}),
}
PAUSE_S = 20.0  # twenty texts a minute is the most a DingTalk robot says; one that is over it is silenced for minutes


class RobotReceiver:
    """``url``: the robot's own, which is a secret; ``secret``: where the robot asks for signatures; ``now_s``: unix
    time. Raises ConfigError as a webhook does."""

    def __init__(
        self,
        platform: Platform,
        url: str,
        wording: Wording,
        *,
        secret: str | None = None,
        language: str = "zh",
        allow_loopback: bool = False,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._platform = platform
        self._secret = secret or ""
        self._wording = wording
        self._language = language
        self._now_s = now_s
        self._post = SignedPost(url, allow_loopback=allow_loopback)

    async def close(self) -> None:
        await self._post.close()

    async def send(self, notification: Notification) -> None:
        """Raises Unavailable (again later) or Rejected (never)."""
        text = self._wording.of(notification, Form.LONG, MOST, self._language).whole
        address = notification.address
        if address and not ADDRESS.fullmatch(address):
            raise Rejected("this is no address for it")
        body, query = self._signed(self._document(text, address))
        answer = await self._post.post(msgspec.json.encode(body), notification.key, JSON, query)
        self._judge(answer)

    def _document(self, text: str, address: str) -> dict[str, Any]:
        match self._platform:
            case Platform.DINGTALK:
                at = {"atMobiles": [address] if address else [], "isAtAll": False}
                return {"msgtype": "text", "text": {"content": f"{text}\n@{address}" if address else text}, "at": at}
            case Platform.WECOM:
                named = {"mentioned_mobile_list": [address]} if address else {}
                return {"msgtype": "text", "text": {"content": text, **named}}
            case Platform.FEISHU:
                text = text.replace("<", "＜").replace(">", "＞")  # its only markup: <at user_id="all">
                if address:
                    text = f'{text}\n<at user_id="{address}"></at>'
                return {"msg_type": "text", "content": {"text": text}}

    def _signed(self, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """The body and what goes into the URL."""
        if not self._secret or self._platform is Platform.WECOM:
            return body, {}
        if self._platform is Platform.DINGTALK:
            at = str(round(self._now_s() * 1000))
            return body, {"timestamp": at, "sign": _mac(self._secret, f"{at}\n{self._secret}")}
        at = str(round(self._now_s()))
        return body | {"timestamp": at, "sign": _mac(f"{at}\n{self._secret}", "")}, {}

    def _judge(self, answer: bytes) -> None:
        """Raises unless the platform says that it took the text."""
        try:
            said = msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Unavailable("the answer is not the platform's", may_have_arrived=True) from error
        names = ("code", "StatusCode") if self._platform is Platform.FEISHU else ("errcode",)
        code = next((said[name] for name in names if isinstance(said.get(name), int)), None)
        if code is None:
            raise Unavailable("the answer says nothing of the text", may_have_arrived=True)
        if code == 0:
            return
        reason = f"{self._platform.value} {code}: {plain(str(said.get('errmsg') or said.get('msg') or ''), 200)}"
        if code in _NOT_NOW[self._platform]:
            raise Unavailable(reason, PAUSE_S)
        raise Rejected(reason)


def _mac(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()
