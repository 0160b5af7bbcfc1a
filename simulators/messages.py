"""What leaves a simulation: messages of devices, and what people and judges are told beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message, or (topic ``hj212``) one telegram. ``at``: seconds since the start, in simulated time.
    ``what``: "telemetry", or the name of the nonsense it is on purpose."""

    at: float
    device: str
    sequence: int
    topic: str
    payload: bytes
    what: str = "telemetry"


@dataclass(frozen=True, slots=True)
class Note:
    """Something the scenario did, for people and for the ledger."""

    at: float
    fault: str
    asset: str
    step: str  # begin or end
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Poll:
    """A Modbus device is due to be asked (only where nobody asks by himself): its registers from address 0 on, or why
    it does not answer."""

    at: float
    device: str
    words: bytes
    error: str | None = None
