"""The shapes of the overview, and how each of its figures is counted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.console import models


class LevelCounts(models.Out):
    """Alarms of one level by state (ISA-18.2); rules on trial do not count."""

    level: models.LevelName
    unacknowledged: int = Field(description="UNACK: the condition is true and nobody has acknowledged it.")
    acknowledged: int = Field(description="ACKED: it is true, and somebody has.")
    returned: int = Field(description="RTNUN: it is over, and nobody has acknowledged it.")
    shelved: int
    suppressed: int
    out_of_service: int


class LampsView(models.Out):
    """Lamps lit. A lamp should be lit when its newest command says so; one that was silent for two intervals, or says
    no command, is asked what its feeder is commanded. It is lit with at least 20 % of rated power × dimming (without a
    rated power: of rated current); a relay that is on is no light. Lamps out of service count only in `total`."""

    total: int
    out_of_service: int = Field(description="An alarm of it is out of service.")
    should_be_lit: int
    lit: int
    dark: int = Field(description="Should be lit and measures less.")
    unknown: int = Field(description="Should be lit, and is silent or does not say what it takes.")
    lit_share: float | None = Field(
        description="% of those that should be lit; unknown ones count as dark (the conservative form). Rounded down: "
        "97.999 is no 98. Null by day."
    )
    lit_share_observed: float | None = Field(description="% of those that tell; see `coverage`.")
    coverage: float | None = Field(description="% of those that should be lit and tell.")
    target: float = Field(description="%: `lit_share_min` of the first asset of kind area, else 98.")
    on_target: bool | None = Field(description="Compared before rounding.")
    feeders: int = Field(description="Feeders and cabinets.")
    feeders_without_supply: int = Field(
        description="Those that say that the mains are gone, or the contactor open while commanded on, or on which the "
        "alarm circuit-lost is active."
    )


class CoversView(models.Out):
    """Manhole covers as they lie now: `cover` as it says itself, else by its tilt from how it was mounted."""

    total: int
    open: int = Field(description="Says open, or tilts by 45° and more.")
    missing: int
    moved: int = Field(description="Says ajar, or tilts by more than its tilt_limit (15°).")
    unknown: int = Field(description="Says neither, or is silent for three intervals.")
    water_high: int = Field(description="The float in the well is wet, whatever the cover.")


class LevelNow(models.Out):
    """Water against its limit; `share` is 1 at the limit. `trend`: over five minutes, by 2 % of the limit; null until
    it is known."""

    asset: str
    name: str
    kind: str
    value: float
    limit: float
    unit: str
    share: float
    trend: Literal["rising", "falling", "steady"] | None


class PumpsView(models.Out):
    """Pump stations, and the pumps that say anything. A pump that says a fault is failed, whatever else it says."""

    stations: int
    stations_silent: int = Field(description="Quiet for three intervals.")
    stations_without_supply: int = Field(description="Say that the mains are gone.")
    pumps: int
    running: int
    standby: int = Field(description="Not running, in automatic, no fault.")
    manual: int = Field(description="Not running, not in automatic, no fault.")
    failed: int
    levels: list[LevelNow] = Field(description="The 12 fullest wet wells against their L6 (else the ground).")


class DrainsView(models.Out):
    """Pipes and low points of roads."""

    pipes: int
    surcharged: int = Field(description="Pipes that are full: 100 % and more.")
    roads: int
    flooded: int = Field(description="Roads under 15 cm of water and more (GB 50014: one lane passable).")
    levels: list[LevelNow] = Field(description="The 12 fullest: pipes against 100 %, roads against 15 cm.")


class GaugeView(models.Out):
    """A rain gauge: mm/h now, mm in the last hour as it says, mm in 24 h as the historian adds its reports up; null
    where unknown."""

    asset: str
    name: str
    intensity: float | None
    last_hour: float | None
    last_24_h: float | None


class RainView(models.Out):
    """Rain gauges. `intensity`: the heaviest now, mm/h; `last_hour`: the most, mm."""

    total: int
    silent: int
    raining: int = Field(description="Gauges that say more than 0 mm/h.")
    intensity: float | None
    last_hour: float | None
    gauges: list[GaugeView] = Field(description="The 12 wettest.")


class BridgeView(models.Out):
    """How far a bridge is used: the larger of mean strain ÷ design_strain and deflection ÷ design_deflection."""

    asset: str
    name: str
    point: str
    value: float
    limit: float
    unit: str
    share: float
    overweight_24_h: int


class BridgesView(models.Out):
    total: int
    silent: int
    overweight_24_h: int = Field(
        description="Vehicles above the posted limit in 24 h: how often the rule bridge-overload spoke."
    )
    worst: list[BridgeView] = Field(description="The 6 most used.")


class KindView(models.Out):
    """Assets of one kind. `in_alarm`: with an alarm that is not shelved, suppressed or out of service; `silent`:
    without one, and every device quiet for three intervals."""

    kind: str
    total: int
    in_alarm: int
    worst_level: models.LevelName | None
    silent: int


class DevicesNow(models.Out):
    """Devices that are expected to speak; `online`: heard within three of their intervals (设备在线率)."""

    expected: int
    online: int
    online_share: float | None = Field(description="%, rounded down.")


class GatewayNow(models.Out):
    """`waiting`: frames received and not yet decided; `history_behind`: batches the historian has yet to take."""

    ok: bool
    reasons: list[str]
    started_at: models.Time
    rates: dict[str, float] = Field(description="Frames, readings and transitions a second.")
    devices: DevicesNow
    waiting: int
    history_behind: int


class OverviewView(models.Out):
    """The city at a glance, of what the caller may see; at most some seconds old (`at`)."""

    at: models.Time
    assets: int
    alarms: list[LevelCounts]
    lamps: LampsView
    covers: CoversView
    pumps: PumpsView
    drains: DrainsView
    rain: RainView
    bridges: BridgesView
    kinds: list[KindView] = Field(description="Every kind there is, the most frequent first.")
    load: models.LoadNowView
    gateway: GatewayNow
    newest: list[models.AlarmView] = Field(description="The 12 newest alarms that are told and not normal.")


class HourView(models.Out):
    """Alarms that began to ask for attention in one hour, by level."""

    at: models.Time
    counts: dict[models.LevelName, int]


class AlarmHistoryView(models.Out):
    since: models.Time
    until: models.Time
    hours: list[HourView] = Field(description="Full hours, oldest first; the last one is not over.")
