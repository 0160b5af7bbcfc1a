"""Receivers out of the settings: who is told by which means, and what each of them listens to."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple, assert_never

from gateway.config.receivers import (
    AppriseSettings,
    CasePlatformSettings,
    MirrorSettings,
    ReceiverSettings,
    RobotSettings,
)
from gateway.config.settings import LOG, Settings
from gateway.core.model import Level
from gateway.core.routing import Feed
from gateway.errors import ConfigError, Mistake
from gateway.notify.log import LogReceiver
from gateway.notify.robot import Platform, RobotReceiver
from gateway.notify.webhook import WebhookReceiver
from gateway.notify.wording import Form, Wording
from gateway.ports import Receiver


class Telling(NamedTuple):
    """``receivers`` by name; ``feeds``: what they get by themselves; ``for_simulated``: those that may hear of
    simulated assets; ``close``: what ends with them."""

    receivers: dict[str, Receiver]
    feeds: tuple[Feed, ...]
    for_simulated: frozenset[str]
    close: tuple[Callable[[], Awaitable[None]], ...]


def receivers_of(
    settings: Settings, wording: Wording, plain_wording: Wording, environment: Mapping[str, str] = os.environ
) -> Telling:
    """``plain_wording``: without links and codes, for the log. Raises ConfigError with every mistake."""
    receivers: dict[str, Receiver] = {LOG: LogReceiver(plain_wording)}
    feeds = [Feed((LOG,), simulated=None)]
    for_simulated = {LOG}
    close: list[Callable[[], Awaitable[None]]] = []
    mistakes: list[Mistake] = []
    for options in settings.receivers:
        if isinstance(options, (MirrorSettings, CasePlatformSettings)):
            continue
        try:
            made = _receiver(options, wording, environment)
        except ConfigError as error:
            mistakes += (Mistake(m.file, m.line, f"receivers {options.name}", m.message) for m in error.mistakes)
            continue
        receivers[options.name] = made
        if isinstance(made, (WebhookReceiver, RobotReceiver)):
            close.append(made.close)
        if options.simulated:
            for_simulated.add(options.name)
        if not options.people_only:
            level, kinds = Level[options.level], tuple(options.kinds)
            feeds.append(Feed((options.name,), level, kinds, options.groups, options.simulated))
    if mistakes:
        raise ConfigError(mistakes)
    return Telling(receivers, tuple(feeds), frozenset(for_simulated), tuple(close))


def _receiver(
    options: ReceiverSettings | AppriseSettings | RobotSettings, wording: Wording, environment: Mapping[str, str]
) -> Receiver:
    match options:
        case ReceiverSettings():
            secret = secret_of(options.secret_file)
            return WebhookReceiver(options.url, secret, allow_loopback=options.allow_loopback, wording=wording)
        case AppriseSettings():
            # 45 MB and a second of the start, for those who use it.
            from gateway.notify.apprise import AppriseReceiver

            return AppriseReceiver(
                _hidden(options.url_file, options.url_env, environment) or "",
                wording,
                form=None if options.form is None else Form(options.form),
                language=options.language,
                allow_loopback=options.allow_loopback,
            )
        case RobotSettings():
            return RobotReceiver(
                Platform(options.platform),
                _hidden(options.url_file, options.url_env, environment) or "",
                wording,
                secret=_hidden(options.secret_file, options.secret_env, environment),
                language=options.language,
                allow_loopback=options.allow_loopback,
            )
        case _:
            assert_never(options)


def secret_of(file: Path | None) -> str | None:
    """What a file holds, without white space around it. Raises ConfigError when it cannot be read."""
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Mistake(str(file), None, "", f"cannot be read: {error}")]) from error


def _hidden(file: Path | None, variable: str | None, environment: Mapping[str, str]) -> str | None:
    if variable is None:
        return secret_of(file)
    if variable not in environment:
        raise ConfigError([Mistake("settings", None, "", f"the environment has no variable {variable}")])
    return environment[variable].strip()
