"""The shipped evening through the gateway's pure middle, with the shipped rules, in virtual time.

What the truth expects of each act is raised, near the time the documents give, and nothing else is: a whole round of
twenty minutes makes no false alarm.
"""

from __future__ import annotations

import json
from collections import defaultdict

import msgspec
import pytest

from gateway.config.assets import load_assets
from gateway.config.bundle import Bundle, compile_bundle
from gateway.config.shipped import PROFILE_FILES, read_tree, shipped
from gateway.core.assets_json import to_json
from gateway.core.model import Frame, FrameKind, FrameRejected, Level, ModbusCycle, ModbusRead, Transition
from gateway.core.networks import split
from gateway.core.processor import Configuration, Outcome, Processor
from gateway.core.registers import plan_reads
from simulators.city import asset_document, ports_from
from simulators.devices import HJ212
from simulators.messages import Message, Note, Poll
from simulators.scenario import load_scenario
from simulators.simulation import Simulation
from simulators.truth import Expected, Hazard
from tests.simulators.playing import small_city

EVENING = load_scenario("evening")
SEED, CITY = 2, small_city(2, 150, demo=True)
START = round(EVENING.start.timestamp() * 1e6)
LIVES_S = 1190.0


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    profiles, rules = read_tree(shipped("device_profiles"), *PROFILE_FILES), read_tree(shipped("rules"))
    return compile_bundle(
        Bundle(
            {name: text for name, text in profiles.items() if not name.endswith(".cases.yaml")},
            {name: text for name, text in rules.items() if not name.startswith("tests/")},
        )
    )


class Evening:
    """A city and a gateway's middle, fed with what the one says; ``raised``: alarm → (seconds, level) at which it was
    raised, ``shown``: those of them that no cause held down."""

    def __init__(self, configuration: Configuration) -> None:
        self.notes: list[Note] = []
        self.expected: list[Expected] = []
        self.hazards: list[Hazard] = []
        self.raised: dict[str, list[tuple[float, Level]]] = defaultdict(list)
        self.shown: set[str] = set()
        self.cleared: dict[str, list[float]] = defaultdict(list)
        self.rejected: list[str] = []
        self._processor = Processor({configuration.hash: configuration})
        self._position = 0
        document = json.dumps(asset_document(CITY, ports_from(15020, CITY.modbus_devices)))
        assets, devices = load_assets(document, "city.json", set(configuration.profiles))
        self._feed(0.0, FrameKind.CONFIG, configuration.hash, b"")
        self._feed(0.0, FrameKind.ASSETS, "", to_json(assets, devices))
        self._blocks = {
            device.device: plan_reads(configuration.profiles[device.profile])
            for device in CITY.devices
            if device.is_modbus
        }
        self._stations = {device.device: device.address for device in CITY.devices}

    def live(self, seconds: float) -> None:
        """Let so many seconds pass from the beginning."""
        with Simulation(EVENING, CITY, SEED, polls=True) as simulation:
            for happening in simulation.until(seconds):
                match happening:
                    case Message(topic=topic) if topic == HJ212:
                        self._feed(happening.at, FrameKind.HJ212, self._stations[happening.device], happening.payload)
                    case Message():
                        for topic, part in split(happening.topic, happening.payload):
                            self._feed(happening.at, FrameKind.MQTT, topic, part)
                    case Poll():
                        self._feed(happening.at, FrameKind.MODBUS, happening.device, self._cycle(happening))
                    case Note():
                        self.notes.append(happening)
                    case Expected():
                        self.expected.append(happening)
                    case Hazard():
                        self.hazards.append(happening)
                    case _:
                        pass
            self.hazards += simulation.truth.end(seconds)
        self._feed(seconds, FrameKind.TICK, "", b"")

    def _cycle(self, poll: Poll) -> bytes:
        words = [int.from_bytes(poll.words[place : place + 2], "big") for place in range(0, len(poll.words), 2)]
        reads = [
            ModbusRead(
                block.function_code, block.address, words[block.address :][: block.count], poll.error, block.count
            )
            for block in self._blocks[poll.device]
        ]
        return msgspec.msgpack.encode(ModbusCycle(reads))

    def _feed(self, at: float, kind: FrameKind, address: str, payload: bytes) -> None:
        now = START + round(at * 1e6)
        deadline = self._processor.next_deadline
        while deadline is not None and deadline <= now:
            self._note(self._process(Frame(FrameKind.TICK, "timer", "", b"", deadline)))
            deadline = self._processor.next_deadline
        self._note(self._process(Frame(kind, "test", address, payload, now)))

    def _process(self, frame: Frame) -> Outcome:
        self._position += 1
        return self._processor.process(self._position, [frame])

    def _note(self, outcome: Outcome) -> None:
        for event in outcome.events:
            if isinstance(event, FrameRejected):
                self.rejected.append(event.rejection.code)
            if not isinstance(event, Transition) or event.record.shadow:
                continue
            seconds = (event.at - START) / 1e6
            # An event (a vehicle) is raised and over at once: its state was never active. T8: it has become worse.
            if event.cause in ("T3", "T8") or (event.cause == "T26" and event.notify):
                self.raised[event.alarm_id].append((seconds, event.record.level))
                if event.record.annunciated:
                    self.shown.add(event.alarm_id)
            elif event.cause == "T6" and not event.record.is_active:  # a latched one is active still
                self.cleared[event.alarm_id].append(seconds)


@pytest.fixture(scope="module")
def round_(configuration: Configuration) -> Evening:
    round_ = Evening(configuration)
    round_.live(LIVES_S)
    return round_


RULES = {
    "cover-opened": "manhole-open", "battery-low": "manhole-battery", "cover-tilted": "manhole-tilted",
    "station-loses-mains": "station-power-lost", "overload": "bridge-overload", "water-on-road": "road-depth",
    "feeder-loses-mains": "circuit-lost", "lamp-fails": "lamp-out",
}  # fmt: skip


def alarm_of(round_: Evening, fault: str) -> str:
    """The alarm that the first act of that name must raise."""
    return next(f"{note.asset}/{RULES[fault]}" for note in round_.notes if note.fault == fault)


def test_every_act_that_must_be_seen_is_expected_by_the_truth(round_: Evening) -> None:
    """But the circuit: it is mended before the rule's delay, two intervals and some grace have passed."""
    victims = {f"{note.asset}/{RULES[note.fault]}" for note in round_.notes if note.fault in RULES}
    assert len(victims) == 9
    expected = {f"{one.asset}/{one.rule}" for one in round_.expected}
    assert expected == victims - {alarm_of(round_, "feeder-loses-mains")}


def test_what_is_expected_is_raised_as_severe_and_in_time(round_: Evening) -> None:
    late = []
    for one in round_.expected:
        steps = round_.raised.get(f"{one.asset}/{one.rule}", [])
        if not any(one.since <= at <= one.due and level <= one.level for at, level in steps):
            late.append((one, steps))
    assert late == []


def test_nothing_is_raised_that_is_not_so(round_: Evening) -> None:
    false = [
        (alarm, at)
        for alarm, steps in round_.raised.items()
        for at, _ in steps
        if alarm in round_.shown
        and not any(
            f"{hazard.asset}/{hazard.rule}" == alarm
            and hazard.since <= at
            and (hazard.until is None or at <= hazard.until)
            for hazard in round_.hazards
        )
    ]
    assert false == []


def test_nonsense_is_rejected_or_a_fault_of_the_gauge_and_never_a_level(round_: Evening) -> None:
    gauge = next(note.asset for note in round_.notes if note.fault == "nonsense")
    assert round_.rejected == ["bad_payload"] * 3 + ["unknown_device"]  # nan, truncated, not UTF-8; the stranger
    assert {alarm for alarm in round_.raised if alarm.startswith(f"{gauge}/")} == {f"{gauge}/gauge-fault"}


@pytest.mark.parametrize(
    ("fault", "from_s", "to_s"),
    [
        ("cover-opened", 30, 30),
        ("battery-low", 45, 166),
        ("station-loses-mains", 55, 61),
        ("cover-tilted", 100, 100),
        ("overload", 110, 110),
        ("water-on-road", 105, 190),
        ("feeder-loses-mains", 200, 200),
        ("lamp-fails", 615, 631),
    ],
)
def test_alarms_are_raised_when_the_documents_say(round_: Evening, fault: str, from_s: float, to_s: float) -> None:
    assert from_s <= round_.raised[alarm_of(round_, fault)][0][0] <= to_s


def test_alarms_clear_again_within_eight_minutes_but_the_open_cover_waits_for_a_person(round_: Evening) -> None:
    for fault in ("battery-low", "cover-tilted", "station-loses-mains", "water-on-road", "feeder-loses-mains"):
        assert round_.cleared[alarm_of(round_, fault)][0] < 480, fault
    assert alarm_of(round_, "cover-opened") not in round_.cleared


def test_a_dark_circuit_is_one_alarm_not_one_for_each_lamp(round_: Evening) -> None:
    assert [alarm for alarm in round_.shown if alarm.endswith(("/lamp-out", "/lamp-offline", "/lamp-voltage"))] == [
        alarm_of(round_, "lamp-fails")
    ]
