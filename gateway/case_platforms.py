"""The city's case platforms out of the settings: the receivers that tell them, and what is known of who answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from gateway.config.case_fields import read_case_fields
from gateway.config.receivers import CasePlatformSettings
from gateway.config.settings import Settings
from gateway.console.port import PlatformOptions
from gateway.core.case_clock import Calendar
from gateway.core.component_code import Layout
from gateway.core.model import Asset, Level, Micros
from gateway.core.routing import Feed
from gateway.core.rule import Rule
from gateway.errors import ConfigError, Mistake
from gateway.notify.case_drop import CaseDrop
from gateway.notify.case_platform import CaseBook, CasePlatform, drop_columns, key_column
from gateway.notify.webhook import SignedPost
from gateway.telling import secret_of

if TYPE_CHECKING:
    from gateway.app import Gateway


class Platforms(NamedTuple):
    """``receivers`` by name; ``feeds``: what they get; ``for_simulated``: those of simulated assets; ``speaking``: who
    may speak to us, by name; ``close``: what ends with them."""

    receivers: dict[str, CasePlatform]
    feeds: tuple[Feed, ...]
    for_simulated: frozenset[str]
    speaking: dict[str, PlatformOptions]
    close: tuple[Callable[[], Awaitable[None]], ...]


class LiveCaseWorld:
    """What a case says besides its alarm, as it is when it is told. Implements ``notify.case_platform.CaseWorld``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def calendar(self) -> Calendar:
        configuration = self._gateway.pipeline.processor.configuration
        return configuration.routing.calendar if configuration is not None else Calendar()

    @property
    def layout(self) -> Layout | None:
        return self._gateway.settings.site.component_code_layout

    def asset(self, asset_id: str) -> Asset | None:
        return self._gateway.pipeline.processor.registry.asset(asset_id)

    def rule(self, rule_id: str, asset_id: str) -> Rule | None:
        configuration = self._gateway.pipeline.processor.configuration
        rule = configuration.rules.get(rule_id) if configuration is not None else None
        return None if rule is None else rule.variant(asset_id)


def platforms_of(
    settings: Settings,
    rules: Iterable[str],
    world: LiveCaseWorld,
    book: Callable[[], CaseBook],
    now: Callable[[], Micros],
) -> Platforms:
    """``rules``: the names there are, for the classes of the field maps. Raises ConfigError with every mistake."""
    receivers: dict[str, CasePlatform] = {}
    feeds: list[Feed] = []
    speaking: dict[str, PlatformOptions] = {}
    mistakes: list[Mistake] = []
    names = tuple(rules)
    for options in settings.receivers:
        if not isinstance(options, CasePlatformSettings):
            continue
        try:
            fields = read_case_fields(options.fields, names)
            key, own = secret_of(options.secret_file), secret_of(options.inbound_secret_file)
            post = SignedPost(options.url, key, allow_loopback=options.allow_loopback)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        if not key or own == "":
            mistakes.append(Mistake("settings", None, f"receivers {options.name}", "a key is empty"))
        if key and key == own:
            # What we send could be sent back to us.
            said = "secret_file and inbound_secret_file must hold two keys"
            mistakes.append(Mistake("settings", None, f"receivers {options.name}", said))
        drop = CaseDrop(
            options.folder, options.name, drop_columns(fields), key_column(fields), settings.site.timezone
        )  # fmt: skip
        receivers[options.name] = CasePlatform(
            options.name, post, fields, drop, book, world, now, options.patience
        )  # fmt: skip
        feeds.append(
            Feed((options.name,), Level[options.level], tuple(options.kinds), (), options.simulated, cases=True)
        )
        if own:
            receiving = fields.receiving
            speaking[options.name] = PlatformOptions(options.name, own.encode(), receiving, options.simulated)
    if mistakes:
        raise ConfigError(mistakes)
    for_simulated = frozenset(
        one.name for one in settings.receivers if isinstance(one, CasePlatformSettings) and one.simulated
    )
    close = tuple(receiver.close for receiver in receivers.values())
    return Platforms(receivers, tuple(feeds), for_simulated, speaking, close)
