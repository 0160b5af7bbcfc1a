"""The judge: decides from evidence alone whether a run with faults lost, doubled or changed anything.

    what was sent (load ledgers) ─┐
    journal, store, history ──────┼─▶ judge ─▶ verdict: one finding an invariant, with the identities that break it
    what people were told ────────┤
    what the sink holds ──────────┘

The invariants are those of docs/reliability.md: I1 nothing acknowledged is lost · I2 every frame has one fate · I3 the
alarms are those of an undisturbed run · I4 every notification is in the outbox and ended · I5 people were told in order
and of nothing a simulator made · I6 the sink equals history · I8 no step outside the state machine · I9 recovery
times. Values are recomputed from the seed, never taken from what the gateway says; nor is what is simulated: the assets
of a load are, all others are not. A gateway must have stopped before its folder is judged.

    python -m bench.judge --data DIR --ledger FILE … [--receiver NAME[=FILE]] [--simulated-receiver NAME[=FILE]]
                          [--balance FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.faults.evidence import DataFolder, KeptTransition, Told, told_to
from gateway.config.bundle import Bundle, compile_bundle
from gateway.core.model import Frame, FrameKind, Transition
from gateway.core.processor import GATEWAY, Configuration, Processor
from simulators.ledger import read_load_ledger, read_parameters
from simulators.load import device_id, expected_values

SHOWN = 10  # broken identities named in a finding; all of them are counted
ENDED = ("delivered", "failed")
LOG = "log"  # the receiver that is always there, told of everything, and that no witness stands behind
LOADED = "load-"  # what the assets of a load are called, and no others
_TELEMETRY = (FrameKind.MQTT, FrameKind.MODBUS)
_PLACES = tuple[str, int]  # device, sequence


class Finding(msgspec.Struct):
    """One invariant: how many things were looked at, how many break it, and some of those by name."""

    invariant: str
    checked: int = 0
    broken: int = 0
    examples: list[str] = []

    @property
    def holds(self) -> bool:
        return self.broken == 0

    def breaks(self, what: str) -> None:
        self.broken += 1
        if len(self.examples) < SHOWN:
            self.examples = [*self.examples, what]


class Verdict(msgspec.Struct):
    """All findings of one run, figures that are no invariant by themselves, and the alarms that had any step."""

    findings: list[Finding] = []
    figures: dict[str, float] = {}
    raised: list[str] = []

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def broken(self) -> list[str]:
        """The invariants that do not hold."""
        return [finding.invariant for finding in self.findings if not finding.holds]

    def as_json(self) -> dict[str, Any]:
        return {"holds": self.holds, "figures": self.figures, "findings": msgspec.to_builtins(self.findings)}

    def __str__(self) -> str:
        lines = [
            f"{'ok  ' if f.holds else 'FAIL'} {f.invariant}: {f.checked} checked, {f.broken} broken"
            + "".join(f"\n       {example}" for example in f.examples)
            for f in self.findings
        ]
        return "\n".join([*lines, f"     {self.figures}"])


@dataclass
class Case:
    """Everything the judge is given. ``raises``: telemetry that was made to raise (its frames are quarantined);
    ``sink``: (asset, point, source time in ms, value) of every point the sink holds, ``sink_refuses``: (asset, point)
    it was told to refuse; ``balance``: the gateway's own
    ledger just before it stopped; ``excused``: messages (device, sequence) that may be missing, with the reason known
    to the caller; ``receivers``: who must be told, and of what: True the notifications of simulated assets alone, False
    those of all others alone, None all; ``witnesses``: what receivers wrote down, by their names."""

    data: Path
    ledgers: Sequence[Path] = ()
    witnesses: Mapping[str, Path] = field(default_factory=dict)
    balance: Mapping[str, Any] | None = None
    sink: set[tuple[str, str, int, float]] | None = None
    sink_refuses: set[tuple[str, str]] = field(default_factory=set)
    receivers: Mapping[str, bool | None] = field(default_factory=dict)
    raises: bytes | None = None
    excused: set[_PLACES] = field(default_factory=set)
    damage_expected: bool = False


class _Sent(NamedTuple):
    """One message of a load: what it must have become."""

    device: str
    sequence: int
    sent_ms: int
    acked: bool
    values: dict[str, float]


def judge(case: Case) -> Verdict:
    """Look at everything there is evidence for."""
    folder = DataFolder(case.data)
    sent = _all_sent(case.ledgers)
    journal = list(folder.batches())
    verdict = Verdict()
    seen = _seen_in(journal)
    verdict.findings += [
        _nothing_lost(sent, seen, case.excused),
        _history_is_right(folder, sent, seen, case.excused),
    ]
    oracle = _replayed(journal, folder, case.raises)
    transitions = folder.transitions()
    verdict.findings += [
        _one_fate(journal, folder, oracle.processor, case.balance),
        _same_as(transitions, oracle.transitions, "I3 transitions are exactly those of a replay of the whole journal"),
        _same_alarms(transitions, _undisturbed(journal, folder, case.raises)),
        _lawful(transitions, folder.alarm_records()),
        _outbox_complete(folder, transitions, case.receivers),
    ]
    if not case.damage_expected:
        verdict.findings.append(_undamaged(folder))
    told = {name: told_to(witness) for name, witness in case.witnesses.items()}
    if told:
        verdict.findings += [_received(folder, told), _told_in_order(told), _told_to_whom(told, case.receivers)]
    if case.sink is not None:
        verdict.findings.append(_sink_equals_history(folder, case.sink, case.sink_refuses))
    verdict.raised = sorted({t.alarm_id for t in transitions})
    verdict.figures = {
        "sent": float(len(sent)),
        "acked": float(sum(s.acked for s in sent.values())),
        "frames": float(sum(len(frames) for _, frames in journal)),
        "redelivered": float(sum(count - 1 for count in seen.values())),
        "transitions": float(len(transitions)),
        **{f"told_{name}": float(len(heard)) for name, heard in told.items()},
    }
    return verdict


# -- what was sent, what the journal has ------------------------------------------------------------------------------


def _all_sent(ledgers: Iterable[Path]) -> dict[_PLACES, _Sent]:
    sent: dict[_PLACES, _Sent] = {}
    for path in ledgers:
        plan = read_parameters(path)
        for index, sequence, sent_at, acked_at in read_load_ledger(path):
            device = device_id(index)
            values = expected_values(plan["seed"], index, sequence, plan["payload_values"], plan["alarms_every"])
            sent[device, sequence] = _Sent(device, sequence, sent_at // 1000, acked_at > 0, values)
    return sent


def _place(frame: Frame) -> tuple[_PLACES, int] | None:
    """(device, sequence), sent ms of a load's message; None for anything else."""
    if frame.kind is not FrameKind.MQTT:
        return None
    parts = frame.address.split("/")
    if len(parts) != 5 or not parts[3].startswith(LOADED):
        return None
    try:
        body = json.loads(frame.payload)
        return (parts[3], int(body["seq"])), int(body["ts"])
    except (ValueError, KeyError, TypeError):
        return None


def _seen_in(journal: Sequence[tuple[int, list[Frame]]]) -> Counter[_PLACES]:
    return Counter(place[0] for _, frames in journal for place in map(_place, frames) if place is not None)


def _nothing_lost(sent: Mapping[_PLACES, _Sent], seen: Mapping[_PLACES, int], excused: set[_PLACES]) -> Finding:
    finding = Finding("I1 everything acknowledged is in the journal")
    for place, message in sent.items():
        if message.acked and place not in excused:
            finding.checked += 1
            if place not in seen:
                finding.breaks(f"{place[0]} sequence {place[1]}, sent at {message.sent_ms} ms")
    return finding


def _history_is_right(
    folder: DataFolder, sent: Mapping[_PLACES, _Sent], seen: Mapping[_PLACES, int], excused: set[_PLACES]
) -> Finding:
    """Each acknowledged message's values stand in history once, as the seed makes them; and nothing else does."""
    finding = Finding("I1 every acknowledged value is in history exactly once and right")
    expected: dict[tuple[str, str, int, int | None], tuple[float, bool]] = {
        (message.device, point, message.sent_ms * 1000, message.sequence): (
            value,
            place in seen or (message.acked and place not in excused),
        )
        for place, message in sent.items()
        for point, value in message.values.items()
    }
    found: Counter[tuple[str, str, int, int | None]] = Counter()
    for reading in folder.readings():
        if not reading.asset.startswith(LOADED):
            continue
        identity = (reading.asset, reading.point, reading.source_time, reading.sequence)
        found[identity] += 1
        wanted = expected.get(identity)
        if wanted is not None and wanted[0] != reading.value:
            finding.breaks(f"{identity}: {reading.value} instead of {wanted[0]}")
        if wanted is None and (reading.asset, reading.sequence) not in seen:
            finding.breaks(f"{identity}: nobody sent it")
    for identity, (_, must_be_there) in expected.items():
        finding.checked += 1
        if found[identity] > 1:
            finding.breaks(f"{identity}: {found[identity]} times")
        elif found[identity] == 0 and must_be_there:
            finding.breaks(f"{identity}: missing")
    return finding


def _undamaged(folder: DataFolder) -> Finding:
    finding = Finding("F21 no batch of the journal is in quarantine", 1)
    for position, reason in folder.quarantined():
        finding.breaks(f"batch {position}: {reason}")
    return finding


# -- the oracle -------------------------------------------------------------------------------------------------------


class _Replay(NamedTuple):
    processor: Processor
    transitions: list[Transition]


@lru_cache
def _compiled(bundle: str) -> Configuration:
    return compile_bundle(Bundle.from_json(bundle))


def _processor(folder: DataFolder, raises: bytes | None) -> Processor:
    configurations = {hash_: _compiled(text) for hash_, text in folder.bundles().items()}

    def hook(frame: Frame) -> None:
        if raises is not None and raises in frame.payload:
            raise RuntimeError("sabotage")

    return Processor(configurations, hook if raises else None)


def _replayed(journal: Sequence[tuple[int, list[Frame]]], folder: DataFolder, raises: bytes | None) -> _Replay:
    """The whole journal through a new processor, from the first batch to the last."""
    processor = _processor(folder, raises)
    transitions: list[Transition] = []
    upto = folder.store_position()
    skipped = folder.skipped()
    for position, frames in journal:
        outcome = processor.process(position, frames, skipped.get(position, frozenset()))
        if position <= upto:
            transitions += [e for e in outcome.events if isinstance(e, Transition)]
    return _Replay(processor, transitions)


def _undisturbed(
    journal: Sequence[tuple[int, list[Frame]]], folder: DataFolder, raises: bytes | None
) -> list[Transition]:
    """A run in which nothing went wrong: each message once, no restart, no pause, time that moves by messages alone."""
    processor = _processor(folder, raises)
    transitions: list[Transition] = []
    known: set[tuple[str, bytes, bool]] = set()
    started = False
    for position, frames in journal:
        clean: list[Frame] = []
        for frame in frames:
            match frame.kind:
                case FrameKind.MQTT:
                    # A retained copy is another thing than the message itself: it must never count.
                    identity = (frame.address, frame.payload, frame.retained)
                    if identity in known:
                        continue
                    known.add(identity)
                case FrameKind.START if started:
                    continue
                case FrameKind.BLIND | FrameKind.TICK | FrameKind.SYSTEM:
                    continue
                case _:
                    pass
            started = started or frame.kind is FrameKind.START
            clean.append(frame)
        if clean:
            outcome = processor.process(position, clean)
            transitions += [e for e in outcome.events if isinstance(e, Transition)]
    if processor.engine is not None and journal:
        events: list[Any] = []
        processor.engine.advance(journal[-1][1][-1].received_at, events)
        transitions += [e for e in events if isinstance(e, Transition)]
    return transitions


def _one_fate(
    journal: Sequence[tuple[int, list[Frame]]],
    folder: DataFolder,
    oracle: Processor,
    balance: Mapping[str, Any] | None,
) -> Finding:
    """received = stored + duplicate + rejected, over the journal's own count of telemetry frames."""
    frames = sum(frame.kind in _TELEMETRY for _, batch in journal for frame in batch)
    finding = Finding("I2 every frame of the journal has exactly one fate", frames)
    total = oracle.ledger.total
    if not total.received == total.stored + total.duplicate + total.rejected_total == frames:
        finding.breaks(f"replay: {total} for {frames} frames")
    kept = sum(folder.rejected().values())
    if kept != total.rejected_total:
        finding.breaks(f"{kept} rejected frames are kept for inspection, {total.rejected_total} were rejected")
    if balance is not None:
        own = (balance["received"], balance["stored"], balance["duplicate"], balance["rejected_total"])
        wanted = (frames, total.stored, total.duplicate, total.rejected_total)
        if own != wanted:
            finding.breaks(f"the gateway counts {own}, the journal says {wanted}")
        if balance["in_flight"] or not balance["balanced"]:
            finding.breaks(f"does not balance: {dict(balance)}")
    return finding


def _same_as(kept: Sequence[KeptTransition], replayed: Sequence[Transition], invariant: str) -> Finding:
    finding = Finding(invariant)
    # Through JSON, as the store keeps them: a tuple is a list there.
    wanted = {(t.alarm_id, t.rev): json.loads(msgspec.json.encode(t)) for t in replayed}
    found = {(t.alarm_id, t.rev): t.document for t in kept}
    for key in sorted({*wanted, *found}):
        finding.checked += 1
        if key not in found:
            finding.breaks(f"{key}: not stored")
        elif key not in wanted:
            finding.breaks(f"{key}: stored, but a replay does not make it")
        elif (difference := _difference(found[key], wanted[key])) is not None:
            finding.breaks(f"{key}: {difference}")
    return finding


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    for name in sorted({*found, *wanted}):
        one, other = found.get(name), wanted.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            if (inner := _difference(one, other)) is not None:
                return f"{name}.{inner}"
        elif one != other:
            return f"{name} is {one!r}, should be {other!r}"[:300]
    return None


def _same_alarms(kept: Sequence[KeptTransition], clean: Sequence[Transition]) -> Finding:
    """The same steps of the same alarms at the same times; the gateway's alarms about itself are no part of it."""
    finding = Finding("I3 alarms are those of an undisturbed run over the same messages")
    found: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    wanted: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for kept_one in kept:
        document = kept_one.document
        found[kept_one.alarm_id].append(
            (document["at"], document["cause"], document["to_state"], document["record"]["level"])
        )
    for one in clean:
        wanted[one.alarm_id].append((one.at, one.cause, one.to_state.value, int(one.record.level)))
    for alarm_id in sorted({*found, *wanted}):
        if alarm_id.startswith(f"{GATEWAY.asset}/"):
            continue
        finding.checked += len(wanted[alarm_id])
        if found[alarm_id] != wanted[alarm_id]:
            pairs = zip(found[alarm_id] + [()], wanted[alarm_id] + [()], strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), ((), ()))
            finding.breaks(f"{alarm_id}: {first[0] or 'nothing'} instead of {first[1] or 'nothing'}")
    return finding


# -- the state machine, the outbox, the people ------------------------------------------------------------------------


def _lawful(transitions: Sequence[KeptTransition], records: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Revs rise by one from one, each step begins where the one before ended, and the live record is the last step."""
    finding = Finding("I8 every alarm's steps follow one another to its live record", len(transitions))
    last: dict[str, KeptTransition] = {}
    for step in transitions:
        before = last.get(step.alarm_id)
        if step.rev != (before.rev + 1 if before else 1):
            finding.breaks(f"{step.alarm_id}: rev {step.rev} after {before.rev if before else 'nothing'}")
        if before is not None:
            if step.document["from_state"] != before.document["to_state"]:
                finding.breaks(f"{step.alarm_id} rev {step.rev}: begins at {step.document['from_state']}")
            if step.document["at"] < before.document["at"] or step.position < before.position:
                finding.breaks(f"{step.alarm_id} rev {step.rev}: earlier than the step before")
        last[step.alarm_id] = step
    for alarm_id in {*last, *records}:
        if alarm_id not in last or records.get(alarm_id) != last[alarm_id].document["record"]:
            finding.breaks(f"{alarm_id}: the live record is not the one after its last step")
    return finding


def _may_hear(alarm_id: str, receiver: str, receivers: Mapping[str, bool | None]) -> bool:
    """The law of provenance: nothing simulated pages a crew, and nothing real goes to testers alone."""
    return receivers[receiver] in (None, alarm_id.startswith(LOADED))


def _outbox_complete(
    folder: DataFolder, transitions: Sequence[KeptTransition], receivers: Mapping[str, bool | None]
) -> Finding:
    finding = Finding("I4 every notification has its outbox row, and every row has ended")
    rows = {(row.alarm_id, row.rev, row.receiver): row.state for row in folder.outbox()}
    notified = [t for t in transitions if t.document.get("notify")]
    wanted = {(t.alarm_id, t.rev, r) for t in notified for r in receivers if _may_hear(t.alarm_id, r, receivers)}
    for key in sorted({*wanted, *rows}):
        finding.checked += 1
        if key not in rows:
            finding.breaks(f"{key}: no row")
        elif key not in wanted:
            finding.breaks(f"{key}: nobody asked for it")
        elif rows[key] not in ENDED:
            finding.breaks(f"{key}: still {rows[key]}")
    return finding


def _received(folder: DataFolder, told: Mapping[str, Sequence[Told]]) -> Finding:
    """What was delivered to a receiver, that receiver has heard."""
    delivered = {(r.alarm_id, r.rev, r.receiver) for r in folder.outbox() if r.state == "delivered"}
    delivered = {one for one in delivered if one[2] != LOG}
    heard = {(t.alarm_id, t.rev, name) for name, those in told.items() for t in those if _accepted(t)}
    finding = Finding("I5 what the outbox calls delivered was received", len(delivered))
    for alarm_id, rev, receiver in sorted(delivered - heard):
        finding.breaks(f"{alarm_id} rev {rev} to {receiver}")
    return finding


def _told_in_order(told: Mapping[str, Sequence[Told]]) -> Finding:
    """Of one alarm, every rev is first received after the ones before it, by each receiver."""
    finding = Finding("I5 each alarm was told in order, each step under one key", sum(map(len, told.values())))
    for name, those in told.items():
        heard = {(t.alarm_id, t.rev) for t in those if _accepted(t)}
        keys: dict[tuple[str, int], str] = {}
        last: dict[str, int] = {}
        for one in those:
            what = f"{name}, {one.alarm_id}"
            if keys.setdefault((one.alarm_id, one.rev), one.key) != one.key:
                finding.breaks(f"{what} rev {one.rev}: key {one.key} after {keys[one.alarm_id, one.rev]}")
            if one.rev < last.get(one.alarm_id, 0) and (one.alarm_id, one.rev) not in heard:
                finding.breaks(f"{what}: rev {one.rev} after {last[one.alarm_id]}")
            if one.alarm_id not in last and one.state in ("NORM", "RTNUN"):
                finding.breaks(f"{what}: cleared (rev {one.rev}) before it was raised")
            last[one.alarm_id] = max(one.rev, last.get(one.alarm_id, 0))
    return finding


def _told_to_whom(told: Mapping[str, Sequence[Told]], receivers: Mapping[str, bool | None]) -> Finding:
    """Every message that arrived may have arrived there, and says itself whether it is simulated."""
    finding = Finding("I5 simulated alarms reach testers alone, all others crews alone", sum(map(len, told.values())))
    for name, those in told.items():
        for one in those:
            if not _may_hear(one.alarm_id, name, receivers):
                finding.breaks(f"{one.alarm_id} rev {one.rev} was told to {name}")
            elif one.simulated is not one.alarm_id.startswith(LOADED):
                finding.breaks(f"{one.alarm_id} rev {one.rev} says simulated: {one.simulated}")
    return finding


def _accepted(told: Told) -> bool:
    return 200 <= told.answered < 300


def _sink_equals_history(
    folder: DataFolder, sink: set[tuple[str, str, int, float]], refused: set[tuple[str, str]]
) -> Finding:
    history = {
        (r.asset, r.point, r.source_time // 1000, float(r.value))
        for r in folder.readings()
        if isinstance(r.value, (int, float)) and r.quality != "bad" and (r.asset, r.point) not in refused
    }
    finding = Finding("I6 the sink holds what history holds", len(history))
    for missing in sorted(history - sink):
        finding.breaks(f"{missing}: not in the sink")
    for extra in sorted(sink - history):
        finding.breaks(f"{extra}: only in the sink")
    return finding


def recovered_within(seconds: Sequence[float], limit_s: float) -> Finding:
    """I9 over the starts of one run."""
    finding = Finding(f"I9 ready within {limit_s:g} s of each start", len(seconds))
    for value in seconds:
        if value > limit_s:
            finding.breaks(f"{value:.1f} s")
    return finding


def expect(what: str, holds: bool, got: object = "") -> Finding:
    """A single fact a fault's own test asks for."""
    return Finding(what, 1, int(not holds), [] if holds else [str(got)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge a folder from the command line; prints the verdict as JSON, exit 1 when an invariant is broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.judge", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, action="append", default=[])
    for word, whose in (("--receiver", "real"), ("--simulated-receiver", "simulated")):
        parser.add_argument(word, action="append", default=[], metavar="NAME[=FILE]",
                            help=f"told of {whose} assets; FILE: what its witness wrote down")  # fmt: skip
    parser.add_argument("--balance", type=Path, help="the answer of /api/v1/ledger just before the stop, as JSON")
    options = parser.parse_args(arguments)
    balance = json.loads(options.balance.read_text()) if options.balance else None
    receivers: dict[str, bool | None] = {LOG: None}
    witnesses: dict[str, Path] = {}
    for words, simulated in ((options.receiver, False), (options.simulated_receiver, True)):
        for word in words:
            name, _, file = word.partition("=")
            receivers[name] = simulated
            if file:
                witnesses[name] = Path(file)
    verdict = judge(Case(options.data, options.ledger, witnesses, balance, receivers=receivers))
    print(json.dumps(verdict.as_json(), ensure_ascii=False))
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
