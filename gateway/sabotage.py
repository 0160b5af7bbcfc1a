"""Broken builds on purpose: the controls that prove the fault tests can fail.

``CITYWATCH_SABOTAGE`` names one defect; unset in every real run. A durability test that still passes with its defect
switched on is worth nothing (docs/reliability.md).
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

_DEFECT = os.environ.get("CITYWATCH_SABOTAGE", "")

SYNCHRONOUS_OFF = _DEFECT == "synchronous_off"
ACK_BEFORE_COMMIT = _DEFECT == "ack_before_commit"
OUTBOX_AFTER_STATE = _DEFECT == "outbox_after_state"
CURSOR_BEFORE_READINGS = _DEFECT == "cursor_before_readings"

# A frame whose payload holds these bytes kills the process in the middle of its work (F10).
CRASH_ON = os.environ.get("CITYWATCH_CRASH_ON", "").encode() or None
# A frame whose payload holds these bytes makes the engine raise (F09).
RAISE_ON = os.environ.get("CITYWATCH_RAISE_ON", "").encode() or None


# The step of a change of a rule after which the process is killed (gateway.rulebook).
KILL_AT = os.environ.get("CITYWATCH_KILL_AT", "")


def kill_at(step: str) -> None:
    """Ends the process here when that is asked for."""
    if step == KILL_AT:
        crash()


def crash() -> NoReturn:
    """End the process as a fault in native code would: no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")
