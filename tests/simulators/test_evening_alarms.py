"""The scripted evening through the gateway's pure middle, with the shipped rules, in virtual time.

What each act of the scenario announces is raised, near the time the documents give, and nothing else is: a whole
round of twenty minutes makes no false alarm.
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
from gateway.core.model import Frame, FrameKind, ModbusCycle, ModbusRead, Transition
from gateway.core.processor import Configuration, Outcome, Processor
from gateway.core.registers import plan_reads
from simulators.city import asset_document, build_city, ports_from
from simulators.devices import Message, Note, Simulation
from simulators.modbus_servers import ModbusServers
from simulators.scenarios import evening

START_MS = 1_752_980_400_000
POLL_S = 5.0
CITY = build_city(2, 40)


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
    """A city and a gateway's middle, fed with what the one says; ``raised``: alarm → seconds at which it was raised."""

    def __init__(self, configuration: Configuration) -> None:
        self.simulation = Simulation(CITY, 2, START_MS, 1.0, evening)
        self.notes: list[Note] = []
        self.raised: dict[str, list[float]] = defaultdict(list)
        self.cleared: dict[str, list[float]] = defaultdict(list)
        self.rejected = 0
        self._processor = Processor({configuration.hash: configuration})
        self._position = 0
        document = json.dumps(asset_document(CITY, ports_from(15020)))
        assets, devices = load_assets(document, "city.json", set(configuration.profiles))
        self._feed(0.0, FrameKind.CONFIG, configuration.hash, b"")
        self._feed(0.0, FrameKind.ASSETS, "", to_json(assets, devices))
        self._modbus = ModbusServers(CITY, self.simulation.world).registers
        self._blocks = {
            device.device: plan_reads(configuration.profiles[device.profile])
            for device in CITY.devices
            if device.is_modbus
        }

    def live(self, seconds: float) -> None:
        """Let so many seconds pass from the beginning."""
        next_poll = at = 0.0
        while at < seconds:
            at = min(self.simulation.next_at, next_poll)
            for happening in self.simulation.until(at):
                if isinstance(happening, Message):
                    self._feed(happening.at, FrameKind.MQTT, happening.topic, happening.payload)
                else:
                    self.notes.append(happening)
            if at >= next_poll:
                next_poll += POLL_S
                for device, registers in self._modbus.items():
                    self._feed(at, FrameKind.MODBUS, device, self._cycle(device, registers()))

    def _cycle(self, device: str, words: list[int]) -> bytes:
        reads = [
            ModbusRead(block.function_code, block.address, words[block.address :][: block.count], None, block.count)
            for block in self._blocks[device]
        ]
        return msgspec.msgpack.encode(ModbusCycle(reads))

    def _feed(self, at: float, kind: FrameKind, address: str, payload: bytes) -> None:
        now = START_MS * 1000 + round(at * 1e6)
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
            if not isinstance(event, Transition):
                self.rejected += 1
                continue
            seconds = (event.at - START_MS * 1000) / 1e6
            # An event (a vehicle) is raised and over at once: its state was never active.
            if event.cause == "T3" or (event.cause == "T26" and event.notify):
                self.raised[event.alarm_id].append(seconds)
            elif event.cause == "T6" and not event.record.is_active:  # a latched one is active still
                self.cleared[event.alarm_id].append(seconds)


@pytest.fixture(scope="module")
def round_(configuration: Configuration) -> Evening:
    round_ = Evening(configuration)
    round_.live(1190.0)
    return round_


def expected_of(round_: Evening, fault: str) -> str:
    """The first alarm that an act announces."""
    return next(note.expect[0] for note in round_.notes if note.fault == fault and note.expect)


def test_what_is_announced_is_raised_and_nothing_else(round_: Evening) -> None:
    announced = {alarm for note in round_.notes for alarm in note.expect}
    # The opened cover is tilted too: shown under the cause, told to nobody.
    hidden = expected_of(round_, "cover-open").replace("manhole-open", "manhole-tilted")
    assert set(round_.raised) == announced | {hidden}


@pytest.mark.parametrize(
    ("fault", "from_s", "to_s"),
    [
        ("cover-open", 30, 30),
        ("battery-low", 45, 106),
        ("cover-tilted", 100, 100),
        ("pump-no-start", 105, 116),
        ("overload", 110, 110),
        ("road-water", 150, 180),
        ("circuit-lost", 200, 200),
        ("lamp-out", 615, 615),
    ],
)
def test_alarms_are_raised_when_the_documents_say(round_: Evening, fault: str, from_s: float, to_s: float) -> None:
    assert from_s <= round_.raised[expected_of(round_, fault)][0] <= to_s


def test_alarms_clear_again_within_seven_minutes_but_the_open_cover_waits_for_a_person(round_: Evening) -> None:
    for fault in ("battery-low", "cover-tilted", "pump-no-start", "road-water", "circuit-lost"):
        assert round_.cleared[expected_of(round_, fault)][0] < 420, fault
    assert expected_of(round_, "cover-open") not in round_.cleared


def test_a_dark_circuit_is_one_alarm_not_one_for_each_lamp(round_: Evening) -> None:
    assert [alarm for alarm in round_.raised if alarm.endswith(("/lamp-out", "/lamp-offline", "/lamp-voltage"))] == [
        expected_of(round_, "lamp-out")
    ]
