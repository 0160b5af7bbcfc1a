"""All profiles, rules and routes as one bundle: read from files, named by a hash, compiled to what the processor uses.

The bundle's text is kept in the store under its hash, so that a replay of the journal uses the files that were in force
then, whatever is on the disk now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from gateway.config.calendars import SITE, site_text
from gateway.config.profiles import CASES, load_profiles
from gateway.config.receivers import CasePlatformSettings, MirrorSettings
from gateway.config.routes import country_in, load_routes
from gateway.config.rules import load_rules
from gateway.config.settings import LOG, Settings
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.config.yaml_source import MAX_BYTES
from gateway.core.processor import Configuration
from gateway.errors import ConfigError, Mistake

TESTS = "tests/"  # the stories beside the rules
RULES = "rules"  # in the data folder …
CONSOLE = "console"  # … and in that


class Bundle(msgspec.Struct, frozen=True, omit_defaults=True):
    """Texts by file name: ``profiles`` ("milesight/em320-tilt.yaml"), ``rules`` ("lighting.yaml"), and what was changed
    at the console: ``console`` ("console/lamp-out.yaml"), one rule each, in place of the one of that id. ``routes``:
    the operator's file of that name, and time and place of the site ("site.json")."""

    profiles: dict[str, str]
    rules: dict[str, str]
    # These are left out of the JSON when empty: a bundle from before there was one keeps its hash.
    console: dict[str, str] = {}
    routes: dict[str, str] = {}

    @property
    def hash(self) -> str:
        """32 hexadecimal digits; equal texts, equal hash."""
        return hashlib.blake2b(self.to_json(), digest_size=16).hexdigest()

    def to_json(self) -> bytes:
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, data: bytes | str) -> Bundle:
        """Raises ConfigError when ``data`` is not a bundle."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ConfigError([Mistake("bundle", None, "", f"not a configuration bundle: {error}")]) from error


def case_files(settings: Settings) -> dict[str, str]:
    """The captured frames beside the profiles: name → text."""
    found: dict[str, str] = {}
    for folder in (shipped("device_profiles"), *settings.profiles):
        found |= read_tree(folder, CASES)
    return found


def read_bundle(settings: Settings) -> Bundle:
    """The shipped files, with the operator's folders laid over them (a file of the same name replaces the shipped
    one). Raises ConfigError for folders and files that cannot be read."""
    profiles: dict[str, str] = {}
    for folder in (shipped("device_profiles"), *settings.profiles):
        profiles |= read_tree(folder, *PROFILE_FILES)
    return Bundle(
        {name: text for name, text in sorted(profiles.items()) if not name.endswith(CASES)},
        *read_rules(settings),
        read_routes(settings),
    )


def read_rules(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """The rule files, and the rules that were changed at the console."""
    rules = read_tree(shipped("rules"))
    for folder in settings.rules:
        rules |= read_tree(folder)
    files = {name: text for name, text in sorted(rules.items()) if not name.startswith(TESTS)}
    return files, read_console(settings)


def read_routes(settings: Settings) -> dict[str, str]:
    """The file with the routes, if the settings name one, and what it needs to know of the site."""
    file = settings.routes
    if file is None:
        return {SITE: site_text(settings.site)}
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError([Mistake(str(file), None, "", f"larger than {MAX_BYTES} bytes")])
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Mistake(str(file), None, "", f"cannot be read: {error}")]) from error
    return {file.name: text, SITE: site_text(settings.site, country_in(text))}


def console_folder(settings: Settings) -> Path | None:
    """Where the rules that were changed at the console lie; None when the settings name no data folder (their default,
    ``data``, would be that of whoever stands in the wrong place)."""
    return settings.data / RULES / CONSOLE if "data" in settings.model_fields_set else None


def read_console(settings: Settings) -> dict[str, str]:
    """The rules that were changed at the console: "console/<rule>.yaml" → text."""
    folder = console_folder(settings)
    if folder is None or not folder.is_dir():
        return {}
    return {f"{CONSOLE}/{name}": text for name, text in read_tree(folder).items()}


def rule_origins(settings: Settings) -> dict[str, str]:
    """Where each rule file comes from: "shipped" or "site"."""
    names = dict.fromkeys(read_tree(shipped("rules")), "shipped")
    for folder in settings.rules:
        names |= dict.fromkeys(read_tree(folder), "site")
    return names


def load_configuration(settings: Settings, console: Mapping[str, str] | None = None) -> tuple[Bundle, Configuration]:
    """What the files say now; with ``console`` in place of what was changed at the console so far. Raises ConfigError
    with the mistakes of profiles, rules and routes together, each with the path of its file."""
    bundle = read_bundle(settings)
    if console is not None:
        bundle = msgspec.structs.replace(bundle, console=dict(sorted(console.items())))
    profiles, rules = (shipped("device_profiles"), *settings.profiles), (shipped("rules"), *settings.rules)
    routes = () if settings.routes is None else (settings.routes.parent,)
    no_people = (MirrorSettings, CasePlatformSettings)
    receivers = [LOG, *(one.name for one in settings.receivers if not isinstance(one, no_people))]
    return bundle, compile_bundle(bundle, profiles, (*rules, settings.data / RULES), routes, receivers)


def compile_bundle(
    bundle: Bundle,
    profile_folders: Sequence[Path] = (),
    rule_folders: Sequence[Path] = (),
    route_folders: Sequence[Path] = (),
    receivers: Collection[str] | None = None,
) -> Configuration:
    """Check everything and compile it. Raises ConfigError with the mistakes of profiles, rules and routes together;
    with the folders the texts came from (the last one counts) they name the file's path. ``receivers``: those there
    are; None for a bundle that was in force once, when there may have been others."""
    mistakes: list[Mistake] = []
    profiles = rules = routing = None
    try:
        profiles = load_profiles(bundle.profiles)
    except ConfigError as error:
        mistakes += _placed(error.mistakes, profile_folders)
    try:
        rules = load_rules(bundle.rules, over=bundle.console)
    except ConfigError as error:
        mistakes += _placed(error.mistakes, rule_folders)
    try:
        routing = load_routes(bundle.routes, rules, receivers)
    except ConfigError as error:
        mistakes += _placed(error.mistakes, route_folders)
    if profiles is None or rules is None or routing is None:
        raise ConfigError(mistakes)
    return Configuration(bundle.hash, profiles, rules, routing)


def _placed(mistakes: Sequence[Mistake], folders: Sequence[Path]) -> Iterator[Mistake]:
    for mistake in mistakes:
        paths = (folder / mistake.file for folder in reversed(folders))
        path = next((path for path in paths if path.is_file()), None)
        yield mistake if path is None else replace(mistake, file=str(path))


def watched_folders(settings: Settings) -> list[Path]:
    """The folders whose change may mean a new configuration."""
    return [shipped("device_profiles"), shipped("rules"), *settings.profiles, *settings.rules]
