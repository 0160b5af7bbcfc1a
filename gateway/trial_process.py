"""A process of its own that tries the text of a rule: tells it the stories, or the readings that are kept.

    python -m gateway.trial_process     one JSON request on standard input, JSON lines on standard output

First to be ended when memory is short, and gone with the gateway: when standard input ends, it ends.
The last line is the answer: ``stories`` or ``comparison``, or ``error``; lines before it tell the ``progress``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from gateway.comparison import compare
from gateway.config.bundle import Bundle, compile_bundle
from gateway.config.rule_text import rule_texts
from gateway.config.rules import load_rules
from gateway.config.shipped import read_tree, shipped
from gateway.config.stories import parse_stories, rules_at
from gateway.console.rule_port import Comparison, StoriesReport, StoryFailure, StoryOutcome, StoryStep
from gateway.core.rule import RuleSet
from gateway.core.storyteller import StateIs, Story, StoryResult, TransitionsAre, tell
from gateway.errors import CitywatchError, ConfigError
from gateway.trials import BacktestRequest, Line, StoriesRequest

STEPS_SHOWN = 100  # of one failed story …
TOLD = 50  # … and of so many of them: nobody reads more


def main() -> int:
    _first_to_go()
    signal.signal(signal.SIGTERM, _ended)
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=StoriesRequest | BacktestRequest)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        if isinstance(request, StoriesRequest):
            _say(Line(stories=stories_report(request)))
        else:
            _say(Line(comparison=_comparison(request)))
    except CitywatchError as error:
        _say(Line(error=str(error)[:2000]))
    return 0


def _say(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # through every `finally`: the still picture of the readings is taken away


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _first_to_go() -> None:
    """The machine's memory is the gateway's before it is ours."""
    try:
        Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")
    except OSError:
        return


# -- stories ----------------------------------------------------------------------------------------------------------


def stories_report(request: StoriesRequest) -> StoriesReport:
    """Every story that the rule can change, with the text in its place: failed ones first."""
    over = {**request.bundle.console, request.file: request.text}
    rules = _RulesOf(request.bundle, over, [Path(folder).parent for folder in request.folders])
    kinds = rules(None).rules[request.rule].kinds
    outcomes: list[StoryOutcome] = []
    mistakes: list[str] = []
    for folder in request.folders:
        for name, text in read_tree(Path(folder)).items():
            if not any(kind in text for kind in kinds):
                continue  # nothing in it that the rule speaks of: spared the reading
            try:
                stories = parse_stories(text, f"{folder}/{name}", None, rules)
            except ConfigError as error:
                mistakes += [str(mistake) for mistake in error.mistakes]
                continue
            outcomes += [_outcome(name, request.rule, tell(s)) for s in stories if _concerns(s, request.rule)]
    outcomes.sort(key=lambda one: (one.passed, not one.names))
    outcomes[TOLD:] = [msgspec.structs.replace(one, steps=[]) for one in outcomes[TOLD:]]
    return StoriesReport(request.rule, outcomes, mistakes[:100])


class _RulesOf:
    """What a story file means by its ``rules``, as they are in force, and with the text that is tried."""

    def __init__(self, bundle: Bundle, over: dict[str, str], roots: list[Path]) -> None:
        self._bundle = bundle
        self._over = over
        self._roots = [root.resolve() for root in (shipped("rules"), *roots)]
        self._read = cache(self._read_once)

    def __call__(self, where: Path | None) -> RuleSet:
        return self._read(None if where is None else where.resolve())

    def _read_once(self, where: Path | None) -> RuleSet:
        if where is None or where in self._roots:
            return load_rules(self._bundle.rules, over=self._over)
        for root in self._roots:
            name = where.relative_to(root).as_posix() if where.is_relative_to(root) else ""
            if name in self._bundle.rules:
                text = self._bundle.rules[name]
                ours = {file: one for file, one in self._over.items() if Path(file).stem in rule_texts(text, name)}
                return load_rules({name: text}, over=ours, complete=False)
        return rules_at(where)  # rules of the story's own


def _concerns(story: Story, rule_id: str) -> bool:
    """Whether the rule speaks of anything in the story."""
    rule = story.rules.get(rule_id)
    return rule is not None and any(asset.kind in rule.kinds for asset in story.assets)


def _names(story: Story, rule_id: str) -> bool:
    """Whether the story expects something of the rule."""
    for expected in story.expect:
        match expected:
            case StateIs(_, alarm) | TransitionsAre(alarm):
                if fnmatchcase(alarm, f"*/{rule_id}"):
                    return True
            case _:
                if rule_id in expected.counts:
                    return True
    return False


def _outcome(file: str, rule_id: str, result: StoryResult) -> StoryOutcome:
    story = result.story
    failures = [StoryFailure(f.at / 1e6, f.alarm, f.expected, f.got, f.line) for f in result.failures[:STEPS_SHOWN]]
    steps = [] if result.passed else list(_steps(result))
    return StoryOutcome(file, story.name, result.passed, _names(story, rule_id), failures, steps)


def _steps(result: StoryResult) -> Iterator[StoryStep]:
    """What happened in a story that failed."""
    for step in result.transitions[:STEPS_SHOWN]:
        record = step.record
        yield StoryStep(
            (step.at - result.story.start) / 1e6, step.alarm_id, step.cause, step.from_state.value, step.to_state.value,
            record.level.name, record.value, record.limit, record.unit,
        )  # fmt: skip


# -- readings ---------------------------------------------------------------------------------------------------------


def _comparison(request: BacktestRequest) -> Comparison:
    bundle = request.bundle
    before = compile_bundle(bundle)
    after = load_rules(bundle.rules, over={**bundle.console, request.file: request.text})
    return compare(
        request.rule,
        before.rules,
        after,
        before.profiles,
        Path(request.data),
        request.since,
        request.until,
        request.assets,
        lambda part: _say(Line(progress=part)),
    )


if __name__ == "__main__":
    sys.exit(main())
