"""LoRaWAN devices and their network server: vendors' frames, and the ChirpStack v4 events they arrive in.

``encode(profile, values)`` packs canonical values into the frame of a device, for the profiles in ``PROFILES``; what
the device measures instead (a distance, a pressure) follows from the site's attributes, as on the site.
``NetworkServer`` puts the frame into the JSON that ChirpStack's MQTT integration publishes; every device there bears
the tag ``simulated: "true"``. Written from the published layouts: Milesight's and Decentlab's documents, Dragino's
manual, the codecs of the LoRaWAN device repository, ChirpStack's integration API.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from simulators.city import eui
from simulators.messages import Message
from simulators.radio import Radio, Signal

Values: TypeAlias = Mapping[str, object]
Attributes: TypeAlias = Mapping[str, float]

KPA_A_METRE = 9.80665  # of water of 1 kg/L


class Frame(NamedTuple):
    """What a device sends: LoRaWAN port and payload."""

    fport: int
    data: bytes


def encode(profile: str, values: Values, attributes: Attributes | None = None) -> Frame:
    """The frame in which a device of this profile says these values; None as a value: its sensor has failed.

    Values bear the names of the profile's points, in canonical units. Raises ValueError for a profile not in
    ``PROFILES``, a value the device does not measure, one that is missing, and one that its bytes cannot hold.
    """
    return _model(profile).encode(values, attributes or {})


def encode_history(profile: str, samples: Iterable[tuple[int, Values]], attributes: Attributes | None = None) -> Frame:
    """The frame of what was kept while the network was away: (epoch second by the device's clock, values) each.

    Raises ValueError as ``encode`` does, and for a profile not in ``HISTORY_PROFILES``.
    """
    model = _model(profile)
    if not model.history:
        raise ValueError(f"{profile} keeps no history")
    data = b""
    for second, values in samples:
        fields = _pack([f for channel in model.channels for f in channel.fields if f.point in model.history],
                       model.raw(values, attributes or {}), profile)  # fmt: skip
        data += b"\x20\xce" + struct.pack("<I", second) + fields
    return Frame(MILESIGHT_PORT, data)


# -- Milesight: channel, type, little-endian fields, and again ---------------------------------------------------------

MILESIGHT_PORT = 85


class _Field(NamedTuple):
    """One number of a channel. ``step``: one count in the canonical unit. ``codes``: of states instead of numbers.
    ``failed``: what it says when its sensor has failed."""

    point: str
    code: str
    step: float = 1.0
    codes: Mapping[object, int] | None = None
    failed: int | None = None


class _Channel(NamedTuple):
    head: str
    fields: tuple[_Field, ...]


Derive: TypeAlias = Callable[[dict[str, object], Attributes], None]


def _nothing_derived(values: dict[str, object], attributes: Attributes) -> None:
    """The device measures what the profile's points are."""


@dataclass(frozen=True, slots=True)
class _Milesight:
    """``history``: the points its history keeps. ``derive``: from a site's values to what the device measures."""

    channels: tuple[_Channel, ...]
    history: tuple[str, ...] = ()
    derive: Derive = _nothing_derived

    def raw(self, values: Values, attributes: Attributes) -> dict[str, object]:
        raw = dict(values)
        self.derive(raw, attributes)
        return raw

    def encode(self, values: Values, attributes: Attributes) -> Frame:
        raw = self.raw(values, attributes)
        _know(raw, {field.point for channel in self.channels for field in channel.fields})
        data = b""
        for channel in self.channels:
            if any(field.point in raw for field in channel.fields):
                data += bytes.fromhex(channel.head) + _pack(channel.fields, raw, channel.head)
        return Frame(MILESIGHT_PORT, data)


@dataclass(frozen=True, slots=True)
class _By:
    """A device whose frame a function packs."""

    packs: Callable[[dict[str, object], Attributes], Frame]
    points: frozenset[str]
    history: tuple[str, ...] = ()
    channels: tuple[_Channel, ...] = ()

    def raw(self, values: Values, attributes: Attributes) -> dict[str, object]:
        return dict(values)

    def encode(self, values: Values, attributes: Attributes) -> Frame:
        _know(values, self.points)
        return self.packs(dict(values), attributes)


_BATTERY = _Channel("0175", (_Field("battery", "B", failed=255),))
_TEMP = _Channel("0367", (_Field("temp", "h", 0.1),))
_HUMIDITY = _Channel("0468", (_Field("humidity", "B", 0.5),))
_NO_YES: Mapping[object, int] = {False: 0, True: 1}
_POSITION: Mapping[object, int] = {"normal": 0, "tilt": 1}


def _distance(values: dict[str, object], attributes: Attributes) -> None:
    """A gauge above the water measures the distance down to it, mm."""
    level = values.pop("level", _NOT_GIVEN)
    if level is not _NOT_GIVEN:
        values["distance"] = None if level is None else (attributes["mount_height"] - _number("level", level)) * 1000


def _depth_of(point: str) -> Derive:
    def derive(values: dict[str, object], attributes: Attributes) -> None:
        """A probe under water measures how much stands above it, cm; dry it measures nothing."""
        level = values.pop(point, _NOT_GIVEN)
        if level is not _NOT_GIVEN:
            above = None if level is None else _number(point, level) - attributes.get("probe_height", 0.0)
            values["depth"] = None if above is None else max(0.0, above) * 100

    return derive


_NOT_GIVEN = object()


# -- frames that a function packs --------------------------------------------------------------------------------------


def _em320_tilt(values: dict[str, object], attributes: Attributes) -> Frame:
    """Three words: hundredths of a degree above a bit that says "over its threshold"."""
    data = b""
    if "battery" in values:
        data += b"\x01\x75" + _pack(_BATTERY.fields, values, "battery")
    if any(name != "battery" for name in values):
        words = [
            round(_number(f"angle_{axis}", _given(values, f"angle_{axis}")) * 100) << 1
            | (values.get(f"threshold_{axis}") == "trigger")
            for axis in "xyz"
        ]
        data += b"\x03\xd4" + _packed("<hhh", *words)
    return Frame(MILESIGHT_PORT, data)


def _em310_tilt(values: dict[str, object], attributes: Attributes) -> Frame:
    """Three words of hundredths, then a byte with a bit for each that is over its threshold."""
    data = b""
    if "battery" in values:
        data += b"\x01\x75" + _pack(_BATTERY.fields, values, "battery")
    if any(name != "battery" for name in values):
        words = [round(_number(f"angle_{axis}", _given(values, f"angle_{axis}")) * 100) for axis in "xyz"]
        bits = sum((values.get(f"threshold_{axis}") == "trigger") << bit for bit, axis in enumerate("xyz"))
        data += b"\x03\xcf" + _packed("<hhhB", *words, bits)
    return Frame(MILESIGHT_PORT, data)


def _ws558(values: dict[str, object], attributes: Attributes) -> Frame:
    """The meter's values, then eight relays: a byte of which have changed (all, here), a byte of their states."""
    meter = tuple(channel for channel in _WS558_METER if channel.fields[0].point in values)
    data = b"".join(bytes.fromhex(channel.head) + _pack(channel.fields, values, channel.head) for channel in meter)
    if "switch_1" in values:
        states = sum(bool(_given(values, f"switch_{number + 1}")) << number for number in range(8))
        data += b"\x08\x31\xff" + bytes((states,))
    return Frame(MILESIGHT_PORT, data)


_WS558_METER = (
    _Channel("0374", (_Field("voltage_a", "H", 0.1),)),
    _Channel("0480", (_Field("power", "I", 0.001),)),
    _Channel("0581", (_Field("pf", "B", 0.01),)),
    _Channel("0683", (_Field("energy", "I", 0.001),)),
    _Channel("07C9", (_Field("current_a", "H", 0.001),)),
)


def _decentlab(device_id: int, block: bytes, values: Values) -> Frame:
    """Version 2, device id, flags of the blocks present, the probe's block, battery in mV; big-endian."""
    battery = round(_number("battery_voltage", values.get("battery_voltage", 3.2)) * 1000)
    return Frame(1, _packed(">BHH", 2, device_id, 3) + block + _packed(">H", battery))


def _pr26(values: dict[str, object], attributes: Attributes) -> Frame:
    """A share of the probe's range, 16384 at its beginning and 49152 at its end; 1 bar is 100 kPa."""
    if "level" in values:
        above = _number("level", values["level"]) - attributes.get("probe_height", 0.0)
        values["pressure"] = above * KPA_A_METRE * attributes.get("density", 1.0)
    p_min, p_max = attributes.get("p_min", 0.0), attributes["p_max"]
    share = (_number("pressure", _given(values, "pressure")) / 100 - p_min) / (p_max - p_min)
    temperature = round((_number("temp", values.get("temp", 15.0)) + 51.2) / 0.003125)
    return _decentlab(359, _packed(">HH", round(16384 + 32768 * share), temperature), values)


def _tbrg(values: dict[str, object], attributes: Attributes) -> Frame:
    """Tips since the last report, its interval, and tips since it was mounted, low word first."""
    tip = attributes["resolution"]
    total = round(_number("total", _given(values, "total")) / tip)
    tips, interval = round(_number("rain", _given(values, "rain")) / tip), _number("interval", values["interval"])
    block = _packed(">HHHH", tips, round(interval), total & 0xFFFF, total >> 16 & 0xFFFF)
    return _decentlab(760, block, values)


def _ldds75(values: dict[str, object], attributes: Attributes) -> Frame:
    """Battery mV, distance mm (0: the sensor does not answer), interrupt, temperature, sensor flag; big-endian."""
    _distance(values, attributes)
    distance = _given(values, "distance")
    counts = 0 if distance is None else round(_number("distance", distance))
    temperature = values.get("temp")
    tenths = 0x7FFF if temperature is None else round(_number("temp", temperature) * 10)
    battery = round(_number("battery_voltage", values.get("battery_voltage", 3.4)) * 1000)
    interrupt = bool(values.get("interrupt", False))
    return Frame(2, _packed(">HHBhB", battery, counts, interrupt, tenths, distance is not None))


def _volc2180(values: dict[str, object], attributes: Attributes) -> Frame:
    """A reply (58), or with a temperature a trap (00): dimming in 0.4 %, W, Wh in 24 bits (which wrap), ‰, mA, mV."""
    energy = round(_number("energy", _given(values, "energy")) * 1000) & 0xFFFFFF
    counts = {
        point: round(_number(point, _given(values, point)) / step)
        for point, step in (("dim", 0.4), ("power", 1), ("pf", 0.001), ("current", 0.001), ("voltage", 0.001))
    }
    head = b"\x58" if "temp" not in values else b"\x00"
    data = head + _packed(">BH", counts["dim"], counts["power"]) + energy.to_bytes(3, "big")
    data += _packed(">HHI", counts["pf"], counts["current"], counts["voltage"])
    if "temp" in values:
        data += _packed(">b", round(_number("temp", values["temp"])))
    return Frame(2, data)


def _tpl110(values: dict[str, object], attributes: Attributes) -> Frame:
    """A car has come or gone (port 1), or a heartbeat with the temperature (port 2)."""
    occupied = bool(_given(values, "occupied"))
    if "temp" not in values:
        return Frame(1, bytes((occupied,)))
    return Frame(2, bytes((occupied,)) + _packed("b", round(_number("temp", values["temp"]))))


def _nps405(values: dict[str, object], attributes: Attributes) -> Frame:
    """A car has come or gone (port 1), with the minutes the state before lasted in 7 bits; or a heartbeat (port 2)."""
    occupied = bool(_given(values, "occupied"))
    if "battery_voltage" not in values:
        minutes = _number("previous_duration", values.get("previous_duration", 0))
        return Frame(1, bytes((_nps405_duration(minutes) << 1 | occupied,)))
    battery = round((_number("battery_voltage", values["battery_voltage"]) - 2.5) / 0.004)
    health = round(_number("hardware_health", values.get("hardware_health", 0)))
    temperature = round((_number("temp", _given(values, "temp")) - 10) / 0.5)
    return Frame(2, _packed("BBb", health << 1 | occupied, battery, temperature))


def _nps405_duration(minutes: float) -> int:
    """Exact to 90 minutes, then in steps of 5 to 240, then of 60; 127 is 660 and more."""
    if minutes < 90:
        return int(minutes)
    if minutes < 240:
        return 90 + int((minutes - 90) / 5)
    return min(127, 120 + int((minutes - 240) / 60))


_MODELS: Mapping[str, _Milesight | _By] = {
    "milesight/em320-tilt": _By(_em320_tilt, frozenset(
        ["battery", *(f"{what}_{axis}" for what in ("angle", "threshold") for axis in "xyz")])),
    "milesight/em310-tilt": _By(_em310_tilt, frozenset(
        ["battery", *(f"{what}_{axis}" for what in ("angle", "threshold") for axis in "xyz")])),
    "milesight/em300-zld": _Milesight(
        (_BATTERY, _TEMP, _HUMIDITY, _Channel("0500", (_Field("water", "B", codes=_NO_YES),))),
        ("temp", "humidity", "water")),
    "milesight/em300-mcs": _Milesight(
        (_BATTERY, _TEMP, _HUMIDITY, _Channel("0600", (_Field("cover", "B", codes={"closed": 0, "open": 1}),))),
        ("temp", "humidity", "cover")),
    "milesight/em300-mcs-door": _Milesight(
        (_BATTERY, _TEMP, _HUMIDITY, _Channel("0600", (_Field("door_open", "B", codes=_NO_YES),))),
        ("temp", "humidity", "door_open")),
    "milesight/em500-swl": _Milesight(
        (_BATTERY, _Channel("0377", (_Field("depth", "H", failed=0xFFFF),))), ("depth",), _depth_of("level")),
    "milesight/em500-swl-wetwell": _Milesight(
        (_BATTERY, _Channel("0377", (_Field("depth", "H", failed=0xFFFF),))), ("depth",), _depth_of("wetwell")),
    "milesight/em500-udl": _Milesight(
        (_BATTERY, _Channel("0382", (_Field("distance", "H", failed=0xFFFF),))), ("distance",), _distance),
    "milesight/em310-udl": _Milesight(
        (_BATTERY, _Channel("0382", (_Field("distance", "H", failed=0xFFFF),)),
         _Channel("0400", (_Field("position", "B", codes=_POSITION),))), (), _distance),
    "milesight/em410-rdl": _Milesight(
        (_BATTERY, _TEMP, _Channel("0482", (_Field("distance", "h", failed=-1),)),
         _Channel("0500", (_Field("position", "B", codes=_POSITION),)),
         _Channel("06C7", (_Field("radar_signal_rssi", "h", 0.01),))), ("distance",), _distance),
    "milesight/em500-pt100": _Milesight((_BATTERY, _TEMP), ("temp",)),
    "milesight/em500-pp": _Milesight((_BATTERY, _Channel("037B", (_Field("pressure", "h"),))), ("pressure",)),
    "milesight/gs101": _Milesight((
        _Channel("058E", (_Field("alarm", "B", codes=_NO_YES),)),
        _Channel("0601", (_Field("valve", "B", codes=_NO_YES),)),
        _Channel("0701", (_Field("relay", "B", codes=_NO_YES),)), _Channel("0890", (_Field("life_remain", "I"),)),
        _Channel("FF3F", (_Field("event", "B", codes={
            "power_off": 0, "power_on": 1, "device_fault": 2, "device_fault_recovered": 3, "life_ends_soon": 4,
            "life_ended": 5}),)))),
    "milesight/ws558": _By(_ws558, frozenset(
        ["voltage_a", "power", "pf", "energy", "current_a", *(f"switch_{number}" for number in range(1, 9))])),
    "decentlab/pr26": _By(_pr26, frozenset(["level", "pressure", "temp", "battery_voltage"])),
    "decentlab/tbrg": _By(_tbrg, frozenset(["rain", "interval", "total", "battery_voltage"])),
    "dragino/ldds75": _By(_ldds75, frozenset(["level", "distance", "temp", "interrupt", "battery_voltage"])),
    "sls/volc2180": _By(_volc2180, frozenset(["dim", "power", "energy", "pf", "current", "voltage", "temp"])),
    "bosch/tpl110": _By(_tpl110, frozenset(["occupied", "temp"])),
    "nwave/nps405": _By(_nps405, frozenset(
        ["occupied", "previous_duration", "battery_voltage", "temp", "hardware_health"])),
}  # fmt: skip

PROFILES = tuple(_MODELS)
HISTORY_PROFILES = tuple(profile for profile, model in _MODELS.items() if model.history)


def _model(profile: str) -> _Milesight | _By:
    try:
        return _MODELS[profile]
    except KeyError:
        raise ValueError(f"no encoder for {profile!r}") from None


def _know(values: Values, points: Iterable[str]) -> None:
    unknown = sorted(set(values).difference(points))
    if unknown:
        raise ValueError(f"this device does not measure {', '.join(unknown)}")
    if not values:
        raise ValueError("nothing to say")


def _given(values: Values, point: str) -> object:
    if point not in values:
        raise ValueError(f"{point} is missing")
    return values[point]


def _number(point: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{point}: a number is needed, not {value!r}")
    return value


def _pack(fields: Iterable[_Field], values: Values, where: str) -> bytes:
    counts: list[int] = []
    codes = "<"
    for field in fields:
        value = _given(values, field.point)
        codes += field.code
        if value is None:
            if field.failed is None:
                raise ValueError(f"{field.point}: this device cannot say that its sensor has failed")
            counts.append(field.failed)
        elif field.codes is not None:
            if value not in field.codes:
                raise ValueError(f"{field.point}: {value!r} is none of {', '.join(map(str, field.codes))}")
            counts.append(field.codes[value])
        else:
            counts.append(round(_number(field.point, value) / field.step))
    return _packed(codes, *counts)


def _packed(codes: str, *counts: int) -> bytes:
    try:
        return struct.pack(codes, *counts)
    except struct.error as error:
        raise ValueError(f"{counts} does not fit the frame: {error}") from None


# -- the network server ------------------------------------------------------------------------------------------------

TENANT = "Shuipo"
TAGS = {"simulated": "true"}
# CN470, plan of 125 kHz channels: uplinks from 470.3 MHz in steps of 0.2 MHz; DR0 is SF12, DR5 is SF7.
FIRST_CHANNEL_HZ, CHANNEL_STEP_HZ, CHANNELS = 470_300_000, 200_000, 8


def event_topic(application: str, dev_eui: str, event: str) -> str:
    """Where ChirpStack publishes an event: up, join or status."""
    return f"application/{application}/device/{dev_eui}/event/{event}"


@dataclass(slots=True)
class _Session:
    """A device since its last join."""

    profile: str
    address: str
    counter: int = 0


class NetworkServer:
    """ChirpStack as its MQTT integration shows it: one application of simulated devices, heard over a ``Radio``.

    ``start_ms``: wall-clock time of second 0. ``speed``: simulated seconds a second of that clock. Frame counters begin
    at 0 with each join; a device that never joined here is taken to have done so before.
    """

    def __init__(self, radio: Radio, start_ms: int, *, speed: float = 1.0, application: str = "citywatch") -> None:
        self.radio, self.start_ms, self.speed = radio, start_ms, speed
        self.application = _uuid(f"application {application}")
        self._application_name = application
        self._sessions: dict[str, _Session] = {}

    def topic(self, device: str, event: str = "up") -> str:
        return event_topic(self.application, eui(device), event)

    def uplink(self, device: str, profile: str, at: float, sequence: int, frame: Frame, what: str = "telemetry",
               *, heard: Iterable[Signal] | None = None) -> Message:  # fmt: skip
        """A frame that the device sends at ``at``, as the server publishes it. ``heard``: by which gateways; else by
        the device's own, as its radio path has it."""
        session = self._session(device, profile)
        event = self._uplink_event(device, session, at, frame, list(heard or [self.radio.signal(device)]))
        return Message(at, device, sequence, self.topic(device), _json(event), what)

    def join(self, device: str, profile: str, at: float, sequence: int) -> Message:
        """The device has joined: a new address, and its frame counter begins again."""
        address = f"{_hash32(f'{device} {at}'):08x}"
        self._sessions[device] = session = _Session(profile, address)
        event = self._head(device, session, at, "join") | {"devAddr": address}
        return Message(at, device, sequence, self.topic(device, "join"), _json(event), "join")

    def status(self, device: str, profile: str, at: float, sequence: int, battery: float | None,
               margin: int = 7) -> Message:  # fmt: skip
        """The device's answer to the network's question: battery in percent (None: it runs on mains), and by how many
        dB it heard the question above its floor."""
        event = self._head(device, self._session(device, profile), at, "status") | {
            "margin": margin,
            "externalPowerSource": battery is None,
            "batteryLevelUnavailable": False,
            "batteryLevel": 0.0 if battery is None else battery,
        }
        return Message(at, device, sequence, self.topic(device, "status"), _json(event), "status")

    def as_history(self, message: Message, at: float) -> Message:
        """A ``radio.Marker``: the uplink of a device that kept it during an outage, sent at ``at`` as its history, with
        the time its own clock showed when it measured. Raises ValueError for a device that keeps none."""
        session = self._sessions[message.device]
        live = base64.b64decode(json.loads(message.payload)["data"])
        second = int(self._epoch_s(message.at) + self.radio.clock(message.device, message.at))
        frame = Frame(MILESIGHT_PORT, b"\x20\xce" + struct.pack("<I", second) + _history_of(session.profile, live))
        event = self._uplink_event(message.device, session, at, frame, [self.radio.signal(message.device)])
        return Message(message.at, message.device, message.sequence, message.topic, _json(event), message.what)

    def _uplink_event(
        self, device: str, session: _Session, at: float, frame: Frame, heard: list[Signal]
    ) -> dict[str, Any]:
        counter, session.counter = session.counter, session.counter + 1
        spreading = heard[0].spreading
        channel = counter % CHANNELS
        frequency = FIRST_CHANNEL_HZ + CHANNEL_STEP_HZ * channel
        lora = {"bandwidth": 125_000, "spreadingFactor": spreading, "codeRate": "CR_4_5"}
        return self._head(device, session, at, f"up {counter}") | {
            "devAddr": session.address,
            "adr": True,
            "dr": 12 - spreading,
            "fCnt": counter,
            "fPort": frame.fport,
            "confirmed": False,
            "data": base64.b64encode(frame.data).decode(),
            "rxInfo": [
                {
                    "gatewayId": eui(signal.gateway),
                    "uplinkId": int(
                        hashlib.sha256(f"{device} {counter} {signal.gateway}".encode()).hexdigest()[:8], 16
                    ),
                    "nsTime": self._iso(at),
                    "rssi": signal.rssi,
                    "snr": signal.snr,
                    "channel": channel,
                    "metadata": {"gateway_name": signal.gateway, "region_config_id": "cn470_10"},
                    "crcStatus": "CRC_OK",
                }
                for signal in heard
            ],
            "txInfo": {"frequency": frequency, "modulation": {"lora": lora}},
            "regionConfigId": "cn470_10",
        }

    def _head(self, device: str, session: _Session, at: float, what: str) -> dict[str, Any]:
        return {
            "deduplicationId": _uuid(f"{device} {session.address} {what} {at}"),
            "time": self._iso(at),
            "deviceInfo": {
                "tenantId": _uuid(TENANT),
                "tenantName": TENANT,
                "applicationId": self.application,
                "applicationName": self._application_name,
                "deviceProfileId": _uuid(session.profile),
                "deviceProfileName": session.profile,
                "deviceName": device,
                "devEui": eui(device),
                "deviceClassEnabled": "CLASS_A",
                "tags": TAGS,
            },
        }

    def _session(self, device: str, profile: str) -> _Session:
        session = self._sessions.get(device)
        if session is None:
            address = f"{_hash32(device):08x}"
            session = self._sessions[device] = _Session(profile, address)
        return session

    def _epoch_s(self, at: float) -> float:
        return self.start_ms / 1000 + at / self.speed

    def _iso(self, at: float) -> str:
        moment = _EPOCH + timedelta(milliseconds=self.start_ms + round(at * 1000 / self.speed))
        return moment.isoformat(timespec="milliseconds")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _history_of(profile: str, live: bytes) -> bytes:
    """The fields of a live frame of ours that the device's history keeps, in its order."""
    model = _model(profile)
    if not model.history:
        raise ValueError(f"{profile} keeps no history: give it no memory")
    kept, position = b"", 0
    for channel in model.channels:
        if live[position : position + 2] != bytes.fromhex(channel.head):
            continue
        position += 2
        for field in channel.fields:
            size = struct.calcsize(f"<{field.code}")
            if field.point in model.history:
                kept += live[position : position + size]
            position += size
    return kept


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _hash32(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _json(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
