"""The rules in force with their texts, and how people change them one by one.

A changed rule lies in ``data/rules/console/<rule>.yaml`` and replaces the one of that id. The order of a change, so
that file and history agree whenever the process dies:

    check everything with the new text → row "asked" in the store → file → row settled → in force through the journal

Killed before the row, nothing has happened. Killed after it, the next start writes the file (``finish``) before any
is read: the row decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from gateway import sabotage
from gateway.config.bundle import CONSOLE, Bundle, console_folder, read_console, read_rules
from gateway.config.rule_text import RuleText, rule_texts, with_keys
from gateway.config.rules import instrument_of, load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.console.rule_port import ChangeBy, Checked, Origin, RuleInForce, StoryName
from gateway.core.limits import LimitView, limits_on
from gateway.core.model import Value
from gateway.core.records import RuleChangeRow
from gateway.core.rule import RuleSet
from gateway.core.words import titles_of, words
from gateway.errors import CommandRefused, ConfigError, Mistake, Unavailable

if TYPE_CHECKING:
    from gateway.app import Files, Gateway

log = structlog.get_logger("rules")

Result = TypeVar("Result")

MAX_CONSOLE_RULES = 1000  # ten times what a county has; more is a program gone wild
TRIAL = "-trial"  # what the id of a rule on trial ends with
OUTSIDE = "data folder"  # who changed a file that nobody changed through us

_RULE_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_STORY = re.compile(r"^\s*- name:\s*(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Listing:
    """Everything about the rules of one configuration."""

    hash: str
    rules: dict[str, RuleInForce]
    base: dict[str, RuleText]


class Rulebook:
    """Implements ``console.rule_port.Rulebook`` on a ``Gateway``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        folder = console_folder(gateway.settings)
        assert folder is not None, "a gateway has a data folder"
        self._files = RuleFiles(folder)
        self._listing: _Listing | None = None
        self._under_way: set[asyncio.Task[object]] = set()
        self._checking = asyncio.Lock()  # one at a time: a check keeps a core busy for a tenth of a second

    # -- looking ------------------------------------------------------------------------------------------------------

    async def rules(self) -> Mapping[str, RuleInForce]:
        return (await self._listed()).rules

    async def _listed(self) -> _Listing:
        bundle, configuration = self._gateway.bundle, self._gateway.configuration
        listing = self._listing
        if listing is None or listing.hash != configuration.hash:
            origins = self._gateway.origins
            listing = await asyncio.to_thread(_list, bundle, configuration.rules, configuration.hash, origins)
            self._listing = listing
        return listing

    def limits(self, rule_id: str, asset_id: str) -> list[LimitView] | None:
        processor = self._gateway.pipeline.processor
        rule, asset = self._gateway.configuration.rules.get(rule_id), processor.registry.asset(asset_id)
        if rule is None or asset is None:
            return None
        points: dict[str, Value] = {}
        if processor.engine is not None:
            points = {name: state.value for name, state in processor.engine.points(asset_id).items()}
        return limits_on(rule, asset, points)

    async def stories(self, rule_id: str) -> Sequence[StoryName]:
        return await asyncio.to_thread(lambda: list(_stories(self.story_folders(), rule_id)))

    def story_folders(self) -> list[Path]:
        """Where stories lie: beside the shipped rules and beside the site's."""
        folders = (shipped("rules"), *self._gateway.settings.rules)
        return [folder / "tests" for folder in folders if (folder / "tests").is_dir()]

    async def check(self, text: str, rule_id: str | None) -> Checked:
        async with self._checking:
            return await asyncio.to_thread(self._check, text, rule_id)

    def _check(self, text: str, rule_id: str | None) -> Checked:
        name = rule_id or _id_in(text)
        file = _file(name)
        try:
            files, console = read_rules(self._gateway.settings)
            rules = load_rules(files, over={**console, file: text})
        except ConfigError as error:
            return Checked([_of_text(mistake, file) for mistake in error.mistakes])
        rule = rules.rules[name]
        return Checked([], rule, words(rule, titles_of(rules.rules)), rule_texts(text, file)[name].data)

    # -- changing -----------------------------------------------------------------------------------------------------

    async def put(self, rule_id: str, text: str, rev: str | None, by: ChangeBy) -> RuleInForce:
        return _there(await self._whole(self._change(rule_id, lambda now: _ended(text), by, Seen(rev))))

    async def put_on_trial(self, rule_id: str, text: str, rev: str | None, by: ChangeBy) -> RuleInForce:
        rules = await self.rules()
        now, other = rules.get(rule_id), rules.get(rule_id + TRIAL)
        if now is None:
            raise CommandRefused("not_found", f"there is no rule {rule_id} to compare with")
        Seen(rev).must_be(now)
        if other is not None and other.rule.shadow_of != rule_id:
            raise CommandRefused(
                "not_allowed", f"{rule_id}{TRIAL} is a rule of its own, and not on trial for {rule_id}"
            )
        if _id_in(text) != rule_id:
            raise ConfigError([Mistake("", 1, "[0].rule", f"this must be the rule {rule_id}")])
        tried = with_keys(_ended(text), {"rule": rule_id + TRIAL, "shadow": True, "shadow_of": rule_id})
        return _there(await self._whole(self._change(rule_id + TRIAL, lambda now: tried, by)))

    async def switch(self, rule_id: str, enabled: bool, rev: str | None, by: ChangeBy) -> RuleInForce:
        def switched(now: RuleInForce | None) -> str:
            if now is None or now.text is None:
                raise CommandRefused("not_found", f"there is no rule {rule_id}")
            if now.rule.enabled is enabled:
                raise CommandRefused("not_allowed", f"the rule is switched {'on' if enabled else 'off'} already")
            return with_keys(now.text, {"enabled": enabled})

        return _there(await self._whole(self._change(rule_id, switched, by, Seen(rev))))

    async def reset(self, rule_id: str, rev: str | None, by: ChangeBy) -> RuleInForce | None:
        def as_filed(now: RuleInForce | None) -> None:
            if now is None:
                raise CommandRefused("not_found", f"there is no rule {rule_id}")
            if now.origin is not Origin.CONSOLE:
                raise CommandRefused("not_allowed", "the rule is as its file says: nothing was changed at the console")

        return await self._whole(self._change(rule_id, as_filed, by, None if rev is None else Seen(rev)))

    async def undo(self, change_id: int, by: ChangeBy) -> RuleInForce | None:
        change = await self._gateway.store.rule_changes.one(change_id)
        if change is None:
            raise CommandRefused("not_found", f"there is no change {change_id}")

        def as_before(now: RuleInForce | None) -> str | None:
            if (None if now is None else now.text) != change.after:
                raise CommandRefused("stale_rev", "the rule has been changed since: undo its newest change first")
            return change.before

        return await self._whole(self._change(change.rule, as_before, by, undoes=change_id))

    async def _whole(self, change: Coroutine[None, None, Result]) -> Result:
        """Whoever waits may go away: a change that has begun is brought to its end."""
        task = asyncio.create_task(change, name="rule change")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _change(
        self,
        rule_id: str,
        make: Callable[[RuleInForce | None], str | None],
        by: ChangeBy,
        seen: Seen | None = None,
        undoes: int | None = None,
    ) -> RuleInForce | None:
        """``make`` gives the text that shall be in force from what is now; None: what the rule files say."""
        if not _RULE_ID.fullmatch(rule_id):
            raise CommandRefused("not_found", "a rule's name is small letters, digits and hyphens")
        gateway, changes = self._gateway, self._gateway.store.rule_changes
        async with gateway.reloading:
            listing = await self._listed()
            now, base = listing.rules.get(rule_id), listing.base.get(rule_id)
            if now is not None and now.part_of is not None:
                raise CommandRefused("not_allowed", f"this is the instrument alarm of the rule {now.part_of}")
            if seen is not None:
                seen.must_be(now)
            text = make(now)
            if text is not None and base is not None and text.strip() == base.text.strip():
                text = None
            after = text if text is not None else base.text if base is not None else None
            if now is not None and now.text == after:
                raise CommandRefused("not_allowed", "the rule says so already")
            row = RuleChangeRow(
                0, gateway.clock.now(), by.who, by.why, rule_id, None if now is None else now.text, after, undoes,
                text is not None,
            )  # fmt: skip
            files = await asyncio.to_thread(self._with, rule_id, text, gateway.bundle)
            row = await changes.intend(row, by.channel)
            sabotage.kill_at("rule change asked")
            try:
                await asyncio.to_thread(self._files.write, rule_id, text)
            except OSError as error:
                await changes.drop(row, by.channel, gateway.clock.now(), "failed")
                raise Unavailable(f"the rule could not be written: {error.strerror or error}") from error
            sabotage.kill_at("rule change written")
            await changes.settle(row, by.channel, gateway.clock.now())
            sabotage.kill_at("rule change settled")
            await gateway.take_over(files)
        log.info("rule changed", rule=rule_id, by=by.who, change=row.id)
        return (await self.rules()).get(rule_id)

    def _with(self, rule_id: str, text: str | None, in_force: Bundle) -> Files:
        """Everything as it would be with ``text``. Raises ConfigError, or CommandRefused when the folder is not as we
        left it."""
        console, file = read_console(self._gateway.settings), _file(rule_id)
        if console.get(file) != in_force.console.get(file):
            raise CommandRefused("stale_rev", f"{file} was changed by somebody else: reload the configuration first")
        console.pop(file, None)
        if text is not None:
            console[file] = text
        if len(console) > MAX_CONSOLE_RULES:
            raise CommandRefused("not_allowed", f"{MAX_CONSOLE_RULES} rules have been changed at the console already")
        try:
            return self._gateway.read_files(console)
        except ConfigError as error:
            path = str(self._files.path(rule_id))
            raise ConfigError([_of_text(mistake, file, path) for mistake in error.mistakes]) from error

    # -- what a dead process, or somebody else, left ------------------------------------------------------------------

    async def finish(self) -> bool:
        """At the start, before the files count: bring changes to their end that a dead process has begun. True when a
        file was changed."""
        changes = self._gateway.store.rule_changes
        touched = False
        for row in await changes.unsettled():
            wanted = row.after if row.kept else None
            if self._files.read(row.rule) != wanted:
                self._files.write(row.rule, wanted)
                touched = True
            await changes.settle(row, "restart", self._gateway.clock.now())
            log.warning("a change of a rule was brought to its end", rule=row.rule, by=row.who, change=row.id)
        return touched

    async def note_outside_changes(self) -> None:
        """Files that are not as the newest change of their rule says were changed in the folder itself: that is written
        down too, or the history would lie."""
        gateway, changes = self._gateway, self._gateway.store.rule_changes
        newest = await changes.newest()
        console = {Path(name).stem: text for name, text in gateway.bundle.console.items()}
        base: dict[str, RuleText] | None = None
        for rule_id in sorted({*newest, *console}):
            last = newest[rule_id][0] if rule_id in newest else None
            known = last.after if last is not None and last.kept else None
            if console.get(rule_id) == known:
                continue
            if base is None:
                base = (await self._listed()).base
            filed = base[rule_id].text if rule_id in base else None
            before, after = (filed if last is None else last.after), console.get(rule_id, filed)
            who, why = OUTSIDE, f"{self._files.path(rule_id)} was changed outside the console"
            now = gateway.clock.now()
            row = RuleChangeRow(0, now, who, why, rule_id, before, after, None, rule_id in console)
            await changes.settle(await changes.intend(row, "file"), "file", now)


@dataclass(frozen=True, slots=True)
class Seen:
    """Which text a person looked at before they changed it; None: none, the rule is new."""

    rev: str | None

    def must_be(self, now: RuleInForce | None) -> None:
        """Raises CommandRefused when it is another one by now."""
        rev = None if now is None else now.rev
        if rev == self.rev:
            return
        if rev is None:
            raise CommandRefused("stale_rev", "there is no such rule any more")
        said = "there is a rule of that name" if self.rev is None else "the rule has been changed since you looked"
        raise CommandRefused("stale_rev", f"{said}: its rev is {rev}")


class RuleFiles:
    """The folder of changed rules, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, rule_id: str) -> Path:
        return self._folder / f"{rule_id}.yaml"

    def read(self, rule_id: str) -> str | None:
        try:
            return self.path(rule_id).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write(self, rule_id: str, text: str | None) -> None:
        """Whole and durable when it returns; None takes the file away. Raises OSError, and then nothing has changed."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.path(rule_id)
        beside = path.with_name(f".{rule_id}.part")  # hidden: not read by anybody
        if text is None:
            path.unlink(missing_ok=True)
        else:
            try:
                with beside.open("w", encoding="utf-8", newline="") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except OSError:
                beside.unlink(missing_ok=True)
                raise
        for folder in (self._folder, self._folder.parent, self._folder.parent.parent):
            _sync(folder)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


_texts = lru_cache(maxsize=256)(rule_texts)  # of a change, all files but one are as they were


def _list(bundle: Bundle, rules: RuleSet, hash_: str, origins: Mapping[str, str]) -> _Listing:
    base: dict[str, RuleText] = {}
    for name, whole in bundle.rules.items():
        for rule_id, found in _texts(whole, name).items():
            base.setdefault(rule_id, found)
    titles = titles_of(rules.rules)
    listed: dict[str, RuleInForce] = {}
    for rule in rules:
        owner = instrument_of(rule.id, rules.rules)
        filed = base.get(rule.id) if owner is None else None
        changed = bundle.console.get(_file(rule.id)) if owner is None else None
        now = filed if changed is None else RuleText(rule.id, changed, rule_texts(changed, "")[rule.id].data, "", 1)
        listed[rule.id] = RuleInForce(
            rule=rule,
            words=words(rule, titles),
            origin=Origin.CONSOLE if rule.file in bundle.console else Origin(origins.get(rule.file, "site")),
            text=None if now is None else now.text,
            data=None if now is None else now.data,
            rev=None if now is None else now.rev,
            base=None if filed is None else filed.text,
            part_of=owner,
        )
    return _Listing(hash_, listed, base)


def _stories(folders: Sequence[Path], rule_id: str) -> Iterator[StoryName]:
    """By their texts: a story is what stands between its name and the next one's."""
    named = re.compile(rf"(?<![a-z0-9-]){re.escape(rule_id)}(?![a-z0-9-])")
    for folder in folders:
        with contextlib.suppress(ConfigError):  # the runner tells what is wrong with them
            for file, text in read_tree(folder).items():
                begins = list(_STORY.finditer(text))
                ends = [*(match.start() for match in begins[1:]), len(text)]
                for match, end in zip(begins, ends, strict=True):
                    if named.search(text, match.end(), end):
                        yield StoryName(file, match[1].strip("\"'"))


def _file(rule_id: str) -> str:
    """How the bundle calls the file of a changed rule."""
    return f"{CONSOLE}/{rule_id}.yaml"


def _id_in(text: str) -> str:
    """The id of the first rule in a text; "rule" when there is none to be seen."""
    with contextlib.suppress(ConfigError):
        for rule_id in rule_texts(text, ""):
            return rule_id
    return "rule"


def _of_text(mistake: Mistake, file: str, path: str | None = None) -> Mistake:
    """A mistake in the given text has no file."""
    return replace(mistake, file="") if mistake.file in (file, path) else mistake


def _ended(text: str) -> str:
    return text.rstrip() + "\n"


def _there(found: RuleInForce | None) -> RuleInForce:
    if found is None:  # put in force and gone in the same moment: somebody reset it
        raise CommandRefused("not_found", "the rule is gone again")
    return found
