"""What a rule must say before its alarms may become cases on the city's platform: the row of the city's standard.

Asked by ``citywatch check`` of the files as they are now. It is no mistake in the reader: rules that were in force
before there was such a row must still be understood when the journal is read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gateway.core.rule import Rule
from gateway.errors import Mistake


def missing_standards(rules: Iterable[Rule], folders: Sequence[Path] = ()) -> Iterator[Mistake]:
    """One mistake for each rule with ``case: true`` that lacks its row, or the time limit that belongs to it.
    ``folders``: where the files of the rules lie (the last one counts); with them a mistake names the file's path."""
    for rule in rules:
        if not rule.case:
            continue
        file = next((str(f / rule.file) for f in reversed(folders) if (f / rule.file).is_file()), rule.file)
        if rule.standard is None:
            said = f"{rule.id} becomes a case: say `standard` (opened_when, closed_when, supervised_by, responsible)"
            yield Mistake(file, rule.line, "standard", said)
        if rule.sla is None or rule.sla.resolve is None:
            yield Mistake(
                file, rule.line, "sla", f"{rule.id} becomes a case: say its time limit, `sla: {{resolve: …}}`"
            )
