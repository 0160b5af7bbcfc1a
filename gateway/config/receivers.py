"""The part of ``citywatch.yaml`` about telling people and machines: receivers, answers that come in, the canary.

An address that holds a secret (a token in a path, a password before an @) never stands in the file itself: ``url_file``
names a file with it, ``url_env`` a variable of the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from gateway.config.units import duration
from gateway.core.model import HOUR, MINUTE, SECOND, Micros
from gateway.core.vocabulary import KINDS

Duration = Annotated[Micros, BeforeValidator(duration)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]


def _yaml_file(file: Path) -> Path:
    if file.suffix != ".yaml":
        raise ValueError(f"name it .yaml: {file.name}")
    return file


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Told(_Part):
    """Who is told: of what is at least as severe as ``level`` and, where these say something, of one of ``kinds`` of
    assets and of rules that name one of ``groups`` in their ``notify``. ``simulated: true``: a receiver of tests, told
    of simulated assets and never of real ones; all others are told of real ones only. ``people_only``: it carries
    messages to the people whose channels name it, and gets nothing by itself. ``language``: of what it gets by itself,
    where that is words."""

    name: Name
    level: Literal["I", "II", "III", "IV"] = "IV"
    kinds: tuple[Literal[KINDS], ...] = ()  # type: ignore[valid-type]
    groups: tuple[str, ...] = ()
    simulated: bool = False
    people_only: bool = False
    language: Literal["zh", "en"] = "zh"


class ReceiverSettings(_Told):
    """A signed JSON webhook that is told about alarms; ``secret_file`` holds the HMAC key."""

    type: Literal["webhook"] = "webhook"
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    secret_file: Path | None = None
    allow_loopback: bool = False


class _BySecretUrl(_Told):
    url_file: Path | None = None
    url_env: Variable | None = None
    allow_loopback: bool = False
    people_only: bool = True

    @model_validator(mode="before")
    @classmethod
    def _not_here(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "url" in data:
            raise ValueError("its address holds secrets: say url_file (a file with it) or url_env (a variable)")
        return data

    @model_validator(mode="after")
    def _one_url(self) -> _BySecretUrl:
        if (self.url_file is None) is (self.url_env is None):
            raise ValueError("say either `url_file` or `url_env`")
        return self


class AppriseSettings(_BySecretUrl):
    """A service that the apprise library knows: mail, SMS, Telegram … ``{to}`` in its address is the person's.
    ``form``: short for SMS, long for all else; where nothing is said, by how much the service takes."""

    type: Literal["apprise"]
    form: Literal["short", "long"] | None = None


class RobotSettings(_BySecretUrl):
    """A group's robot. ``secret_file``, ``secret_env``: where the robot asks for signatures."""

    type: Literal["robot"]
    platform: Literal["dingtalk", "wecom", "feishu"]
    secret_file: Path | None = None
    secret_env: Variable | None = None


class MirrorSettings(_Part):
    """The live record of every alarm, retained on an MQTT broker: another one, or our own (``embedded``), where
    ``readers`` may read it. ``simulated: true``: those of simulated assets, and no others."""

    type: Literal["mqtt"]
    name: Name
    embedded: bool = False
    url: str | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    readers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ...] = ()
    simulated: bool = False

    @model_validator(mode="after")
    def _one_broker(self) -> MirrorSettings:
        if self.embedded == (self.url is not None):
            raise ValueError("say either `embedded: true` or `url: mqtt://host:port`")
        if self.url is not None and not re.match(r"^mqtts?://[^/@\s]+$", self.url):
            raise ValueError("url must be mqtt://host:port or mqtts://host:port")
        if self.readers and not self.embedded:
            raise ValueError("readers are those of the embedded broker; another one has its own")
        return self


class CasePlatformSettings(_Part):
    """The city's case platform (数字城管, 12345 …): alarms of rules with ``case`` become cases there. ``secret_file``
    holds the key that we sign with, ``inbound_secret_file`` another one, which the platform signs with when it speaks
    to ``/api/v1/inbound/cases/<name>``; without it nothing is taken from there. ``fields``: the field map, the shipped
    one where nothing is said. ``folder``: where cases go as CSV while the platform is away for longer than
    ``patience``. ``level``, ``kinds``, ``simulated``: as for every receiver."""

    type: Literal["case-platform"]
    name: Name
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    secret_file: Path
    inbound_secret_file: Path | None = None
    fields: Annotated[Path, AfterValidator(_yaml_file)] | None = None
    folder: Path
    patience: Duration = 10 * MINUTE
    allow_loopback: bool = False
    level: Literal["I", "II", "III", "IV"] = "IV"
    kinds: tuple[Literal[KINDS], ...] = ()  # type: ignore[valid-type]
    simulated: bool = False

    @model_validator(mode="after")
    def _in_time(self) -> CasePlatformSettings:
        if not SECOND <= self.patience <= 12 * HOUR:
            raise ValueError("patience: between 1s and 12h")
        return self


def _type_of(value: Any) -> str:
    """Which of them; a webhook where nothing is said."""
    said = value.get("type", "webhook") if isinstance(value, Mapping) else getattr(value, "type", "webhook")
    return said if isinstance(said, str) else ""


AnyReceiver: TypeAlias = Annotated[
    Annotated[ReceiverSettings, Tag("webhook")]
    | Annotated[AppriseSettings, Tag("apprise")]
    | Annotated[RobotSettings, Tag("robot")]
    | Annotated[MirrorSettings, Tag("mqtt")]
    | Annotated[CasePlatformSettings, Tag("case-platform")],
    Discriminator(
        _type_of,
        custom_error_type="unknown_type",
        custom_error_message="type must be webhook, apprise, robot, mqtt or case-platform",
    ),
]


class InboundSmsSettings(_Part):
    """Answers by SMS, from a gateway that posts each of them to ``/api/v1/inbound/sms``: ``secret_file`` holds what it
    signs with, or sends as a bearer token; ``number`` and ``text`` are what it calls the sender and what they wrote."""

    secret_file: Path
    number: Annotated[str, Field(min_length=1, max_length=50)] = "number"
    text: Annotated[str, Field(min_length=1, max_length=50)] = "text"


class InboundSettings(_Part):
    sms: InboundSmsSettings | None = None


class CanarySettings(_Part):
    """An alarm that is none, made ``every`` so often and sent to the ``canary`` of the routes: when it has not been
    handed over within ``patience``, that is an alarm."""

    every: Duration = 15 * MINUTE
    patience: Duration = 60 * SECOND

    @model_validator(mode="after")
    def _in_time(self) -> CanarySettings:
        if not MINUTE <= self.every <= 24 * HOUR:
            raise ValueError("every: between 1m and 24h")
        if not SECOND <= self.patience <= self.every:
            raise ValueError("patience: between 1s and `every`")
        return self
