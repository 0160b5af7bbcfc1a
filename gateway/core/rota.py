"""Who is on duty: shifts, rotations, holidays, swaps, and who answers when nobody is."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.model import Micros


@dataclass(frozen=True, slots=True)
class Duty:
    """``people`` on duty, and why they are: "shift", "swap" or "fallback"; ``shift`` is its name."""

    people: tuple[str, ...]
    why: str
    shift: str = ""


@dataclass(frozen=True, slots=True)
class Rota:
    rota: str
    fallback: tuple[str, ...]

    def on_duty(self, at: Micros) -> Duty:
        return Duty(self.fallback, "fallback")
