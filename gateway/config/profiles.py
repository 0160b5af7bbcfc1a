"""Profile files (YAML) → compiled profiles; every mistake of every file at once, with file, line and key.

The language is described in docs/profiles.md. Everything that can be known without a device is checked and worked out
here: units become two numbers, formulas functions, names in formulas are known names, registers fit the protocol.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.config.codecs import load_codec
from gateway.config.units import duration, linear, quantity
from gateway.config.yaml_source import Path, YamlSource, did_you_mean, mistakes_of, read_yaml
from gateway.core import profile as compiled
from gateway.core.counters import UNBOUNDED
from gateway.core.decode import json_path
from gateway.core.formula import Formula, FormulaError, parse_formula
from gateway.core.modbus_write import codes, write_request
from gateway.core.model import MINUTE, Micros, Quality, Value
from gateway.core.payload import MAX_BINARY
from gateway.core.profile import SIGNALS, Form, Linear, Profile, State, Transport, ValueType
from gateway.core.vocabulary import KINDS, unit_of
from gateway.errors import ConfigError, Mistake

NAME = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
CODEC_NAME = re.compile(r"^[a-z][a-z0-9_]*\.py$")
CASES = ".cases.yaml"
CODEC = ".py"

# What Milesight's devices send besides their measurements: version, power, serial number, class, reset.
_MILESIGHT_INFO = {
    "FF 01": 1, "FF 09": 2, "FF 0A": 2, "FF 0B": 1, "FF 0F": 1, "FF 16": 8, "FF FE": 1, "FF FF": 2,
}  # fmt: skip

# Units a JSON payload may name ({"value": 5, "unit": "cm"}); those that convert to the point's own are understood.
_UNITS = (
    "%", "°", "deg", "rad", "°C", "℃", "Cel", "K", "degF", "µm", "mm", "cm", "m", "km", "Pa", "hPa", "kPa", "MPa",
    "bar", "mbar", "psi", "V", "mV", "kV", "A", "mA", "W", "kW", "MW", "Wh", "kWh", "MWh", "Hz", "s", "min", "h", "L/s",
    "L/min", "m³/h", "m3/h", "m³/s", "m3/s", "m³", "m3", "L", "m/s", "km/h", "mm/h", "g", "kg", "t", "N", "kN", "%LEL",
    "%VOL", "dBm", "dB", "dB(A)", "µg/m³", "ug/m3", "mg/m3", "m/s²", "m/s2", "µε", "ue",
)  # fmt: skip

_SPACE_TYPES = {
    "int8": ("int", 1), "uint8": ("uint", 1), "int16": ("int", 2), "uint16": ("uint", 2), "int24": ("int", 3),
    "uint24": ("uint", 3), "int32": ("int", 4), "uint32": ("uint", 4), "int64": ("int", 8), "uint64": ("uint", 8),
    "float32": ("float", 4), "float64": ("float", 8), "bcd8": ("bcd", 1), "bcd16": ("bcd", 2), "bcd32": ("bcd", 4),
}  # fmt: skip
_REGISTER_TYPES = [name for name, (_, size) in _SPACE_TYPES.items() if size % 2 == 0] + ["text"]
_FIELD_TYPES = [*_SPACE_TYPES, "text"]
_UNWRITTEN = (ValueType.TEXT, ValueType.LIST)


def _listed(given: Any) -> Any:
    """One thing or a list of things → a list."""
    return given if isinstance(given, list) else [given]


def _in(key: str) -> Callable[[Any], Any]:
    """A bare scalar is the ``key`` of a mapping with nothing else in it."""
    return lambda given: {key: given} if isinstance(given, (str, int, float, bool)) else given


def _text(given: Any) -> Any:
    """A formula may be a bare number."""
    return str(given) if type(given) in (int, float) else given


Code = bool | int | float | str
Duration = Annotated[Micros, BeforeValidator(duration, json_schema_input_type=str | float)]
Names = Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])]
Port = Annotated[int, Field(ge=0, le=255)]
Ports = Annotated[list[Port], BeforeValidator(_listed, json_schema_input_type=Port | list[Port])]
FormulaText = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | float)]
FormulaTexts = Annotated[
    list[FormulaText], BeforeValidator(_listed, json_schema_input_type=str | float | list[str | float])
]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]


def load_profiles(files: Mapping[str, str]) -> dict[str, Profile]:
    """Text of each file by its name relative to the folder → profiles by id ("milesight/em320-tilt").

    Files of cases are passed over. Raises ConfigError with the mistakes of all files.
    """
    profiles: dict[str, Profile] = {}
    mistakes: list[Mistake] = []
    codecs = {file: text for file, text in files.items() if file.endswith(CODEC)}
    for file, text in files.items():
        if file.endswith((CASES, CODEC)):
            continue
        try:
            profile = load_profile(file, text, codecs)
        except ConfigError as error:
            mistakes += error.mistakes
        else:
            profiles[profile.id] = profile
    if mistakes:
        raise ConfigError(mistakes)
    return profiles


def load_profile(file: str, text: str, codecs: Mapping[str, str] | None = None) -> Profile:
    """One file; ``codecs``: text of the Python files it may name. Raises ConfigError with all its mistakes."""
    source = read_yaml(text, file)
    if not isinstance(source.data, dict):
        raise ConfigError([Mistake(file, 1, "", "a profile is a mapping of keys; see docs/profiles.md")])
    try:
        model = ProfileModel.model_validate(source.data)
    except ValidationError as error:
        raise ConfigError(mistakes_of(error, source, (), ProfileModel)) from error
    compiler = _Compiler(source, model, codecs or {})
    profile = compiler.profile()
    if compiler.mistakes:
        raise ConfigError(compiler.mistakes)
    return profile


# -- the file ---------------------------------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TitleModel(_Model):
    zh: str
    en: str


class StateModel(_Model):
    """What one code means: ``value``, and whether it can be trusted."""

    value: Code | None = None
    quality: Quality = Quality.GOOD
    reason: str | None = None


class CheckModel(_Model):
    """``when`` holds → not better than ``quality``, because of ``reason``."""

    when: FormulaText
    quality: Literal[Quality.UNCERTAIN, Quality.BAD] = Quality.BAD
    reason: str
    points: list[str] | None = None


class AttributeModel(_Model):
    unit: str = ""
    default: float | None = None


class _NumberModel(_Model):
    """How bytes are a number."""

    type: str | None = None
    bit: Annotated[int, Field(ge=0, le=63)] | None = None
    bits: tuple[int, int] | None = None
    length: Annotated[int, Field(ge=1, le=250)] | None = None
    scale: float = 1.0
    offset: float = 0.0
    sentinels: dict[Code, str] = {}


class RegisterModel(_NumberModel):
    function: Literal[1, 2, 3, 4] | None = None
    address: Annotated[int, Field(ge=0, le=65536)]
    order: Order | None = None
    alone: bool = False


class FieldModel(_NumberModel):
    at: Annotated[int, Field(ge=0, le=255)] | None = None
    byte_order: Literal["little", "big"] | None = None


class ChannelModel(_Model):
    size: Annotated[int, Field(ge=0, le=255)] | None = None
    fields: dict[str, FieldModel] = {}
    time: str | None = None
    historical: bool = False


class RecordsModel(_Model):
    """Several samples in one frame."""

    at: Annotated[int, Field(ge=0, le=255)]
    size: Annotated[int, Field(ge=1, le=255)] | None = None
    fields: Annotated[dict[str, FieldModel], Field(min_length=1)]
    time: str | None = None
    every: Duration | None = None
    first: Literal["newest", "oldest"] = "newest"
    historical: bool = False


class FrameModel(_Model):
    prefix: str = ""
    size: Annotated[int, Field(ge=1, le=255)] | None = None
    min_size: Annotated[int, Field(ge=1, le=255)] | None = None
    fport: Ports | None = None
    fields: dict[str, FieldModel] = {}
    records: RecordsModel | None = None
    remark: Annotated[str, Field(max_length=40)] | None = None


class BlockModel(_Model):
    fields: Annotated[dict[str, FieldModel], Field(min_length=1)]


class PayloadModel(_Model):
    format: Literal["json", "tlv", "milesight", "frames", "decentlab", "codec"] = "json"
    byte_order: Literal["little", "big"] = "big"
    channels: dict[str, ChannelModel] = {}
    frames: list[FrameModel] = []
    blocks: list[BlockModel] = []
    codec: str | None = None
    names: list[str] = []
    time: str = "ts"
    sequence: str = "seq"
    values: str = "values"
    zone: Annotated[str, Field(pattern=r"^[+-]\d\d:\d\d$")] = "+08:00"


class ModbusModel(_Model):
    function: Literal[1, 2, 3, 4] = 3
    order: Order = "ABCD"
    first_address: Literal[0, 1] = 0
    max_gap: Annotated[int, Field(ge=0, le=124)] = 8
    max_block: Annotated[int, Field(ge=1, le=125)] = 125
    all_zero_is_restart: bool = False
    pause: Annotated[Duration, Field(ge=0, le=10_000_000)] = 0
    connect_pause: Annotated[Duration, Field(ge=0, le=60_000_000)] = 0


class CounterModel(_Model):
    """``wraps_at``: the raw number it would be if it did not begin at 0 again."""

    wraps_at: Annotated[float, Field(gt=0)]


class WriteModel(_Model):
    """What a person may set a number to, in the point's unit; a text carries its own unit."""

    min: float | str
    max: float | str


class PointModel(_Model):
    """One point; the keys from ``address`` on are a register's, for Modbus."""

    from_: str | None = Field(default=None, alias="from")
    as_: ValueType | None = Field(default=None, alias="as")
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    invert: bool = False
    range: tuple[float | str, float | str] | None = None
    smallest: float | str = 0.0
    sentinels: dict[Code, str] = {}
    states: (
        dict[Code, Annotated[StateModel, BeforeValidator(_in("value"), json_schema_input_type=StateModel | Code)]]
        | None
    ) = None
    formula: FormulaTexts = []
    optional: bool = False
    checks: list[CheckModel] = []
    counter: Literal[True] | CounterModel | None = None
    address: Annotated[int, Field(ge=0, le=65536)] | None = None
    function: Literal[1, 2, 3, 4] | None = None
    type: str | None = None
    order: Order | None = None
    bit: Annotated[int, Field(ge=0, le=63)] | None = None
    bits: tuple[int, int] | None = None
    length: Annotated[int, Field(ge=1, le=125)] | None = None
    alone: bool = False
    write: Literal[True] | WriteModel | None = None


class ProfileModel(_Model):
    title: TitleModel
    kind: Names
    transport: Transport
    expected_interval: Duration
    allowed_lateness: Duration = 10 * MINUTE
    source: str = ""
    fport: Ports | None = None
    payload: PayloadModel | None = None
    modbus: ModbusModel = ModbusModel()
    raw: dict[str, RegisterModel] = {}
    attributes: dict[
        str, Annotated[AttributeModel, BeforeValidator(_in("unit"), json_schema_input_type=AttributeModel | str)]
    ] = {}
    checks: list[CheckModel] = []
    points: Annotated[dict[str, PointModel | None], Field(min_length=1)]


# -- the compiler -----------------------------------------------------------------------------------------------------


class _Compiler:
    """One model → one profile, collecting mistakes on the way."""

    def __init__(self, source: YamlSource, model: ProfileModel, codecs: Mapping[str, str]) -> None:
        self.codecs = codecs
        self.codec_names: tuple[str, ...] = ()
        self.source = source
        self.model = model
        self.mistakes: list[Mistake] = []
        self.kinds = tuple(model.kind)
        self.registers: list[compiled.Register] = []
        self.fields: dict[str, compiled.Field] = {}

    def wrong(self, path: Path, message: str) -> None:
        self.mistakes.append(self.source.mistake(path, message))

    def profile(self) -> Profile:
        model = self.model
        for index, kind in enumerate(self.kinds):
            if kind not in KINDS:
                path: Path = ("kind", index) if ("kind", index) in self.source.lines else ("kind",)
                self.wrong(path, f"there is no kind `{kind}`" + did_you_mean(kind, KINDS))
        if not self.kinds:
            self.wrong(("kind",), "name at least one kind")
            self.kinds = (KINDS[0],)
        attributes = self.attributes()
        payload = self.payload()
        for name, register in model.raw.items():
            self.name(name, ("raw", name))
            made = self.register(name, register, ("raw", name), scaled=True)
            if made is not None:
                self.registers.append(made)
        points = tuple(self.points(attributes))
        known = [*self.raw_names(), *(point.name for point in points), *attributes]
        for name in attributes:
            if name in self.raw_names() or name in model.points:
                self.wrong(("attributes", name), "a raw value or a point has this name too")
        return Profile(
            id=self.source.file.removesuffix(".yaml"),
            kinds=self.kinds,
            transport=model.transport,
            points=points,
            title_zh=model.title.zh,
            title_en=model.title.en,
            expected_interval=model.expected_interval,
            allowed_lateness=model.allowed_lateness,
            payload=payload,
            fports=_ports(model.fport),
            registers=tuple(self.registers),
            max_gap=model.modbus.max_gap,
            max_block=model.modbus.max_block,
            all_zero_is_restart=model.modbus.all_zero_is_restart,
            pause=model.modbus.pause,
            connect_pause=model.modbus.connect_pause,
            checks=self.checks(model.checks, ("checks",), known, [point.name for point in points]),
            attributes=attributes,
            source=model.source,
        )

    def raw_names(self) -> list[str]:
        return [*(register.name for register in self.registers), *self.fields, *self.codec_names]

    def name(self, name: str, path: Path) -> None:
        if not NAME.match(name):
            self.wrong(path, "a name is a small letter, then small letters, digits and _")

    def attributes(self) -> dict[str, compiled.Attribute]:
        found = {}
        for name, given in self.model.attributes.items():
            found[name] = compiled.Attribute(name, given.unit, given.default)
        return found

    # -- where values stand -------------------------------------------------------------------------------------------

    def payload(self) -> compiled.Payload | None:
        model, given = self.model, self.model.payload
        if model.transport is Transport.MODBUS:
            if given is not None:
                self.wrong(("payload",), "a Modbus profile has registers, not a payload")
            return None
        for key in ("raw", "modbus"):
            if key in model.model_fields_set:
                self.wrong((key,), "only for `transport: modbus`")
        given = given if given is not None else PayloadModel()
        if model.transport is Transport.MQTT and model.fport is not None:
            self.wrong(("fport",), "only for `transport: lorawan`")
        if model.transport is Transport.HJ212 and given.format != "json":
            self.wrong(("payload", "format"), "an HJ 212 telegram has names of its own: no format")
        if given.format == "json":
            if model.transport is Transport.LORAWAN:
                self.wrong(("transport",), "a LoRaWAN payload is binary: say `payload: {format: …}`")
            sign = -1 if given.zone[0] == "-" else 1
            zone = sign * (int(given.zone[1:3]) * 3600 + int(given.zone[4:6]) * 60)
            return compiled.JsonPayload(given.time, given.sequence, given.values, zone)
        if given.format == "frames":
            if not given.frames:
                self.wrong(("payload", "frames"), "list at least one frame")
            return compiled.FramePayload(tuple(self.frame(index, frame) for index, frame in enumerate(given.frames)))
        if given.format == "decentlab":
            return self.blocks(given)
        if given.format == "codec":
            return self.codec(given)
        return self.tlv(given)

    def tlv(self, given: PayloadModel) -> compiled.TlvPayload:
        little = given.format == "milesight" or given.byte_order == "little"
        channels: dict[bytes, compiled.Channel] = {}
        head_size = 2
        for number, (text, channel) in enumerate(given.channels.items()):
            path: Path = ("payload", "channels", text)
            try:
                head = bytes.fromhex(text)
            except ValueError:
                self.wrong(path, "a channel is written as hexadecimal bytes: 03 D4")
                continue
            if number == 0:
                head_size = len(head)
            if len(head) != head_size or not head:
                self.wrong(path, f"every channel's head has the same length, here {head_size} bytes")
            fields, size = self.lay_out(channel.fields, little, (*path, "fields"))
            if channel.time is not None and channel.time not in channel.fields:
                self.wrong((*path, "time"), f"`{channel.time}` is not a field of this channel")
            if channel.size is not None and channel.size < size:
                self.wrong((*path, "size"), f"the fields need {size} bytes")
            size = channel.size if channel.size is not None else size
            channels[head] = compiled.Channel(size, fields, channel.time, channel.historical)
        if given.format == "milesight":
            for text, size in _MILESIGHT_INFO.items():
                channels.setdefault(bytes.fromhex(text), compiled.Channel(size))
        if not given.channels:
            self.wrong(("payload", "channels"), "list at least one channel")
        return compiled.TlvPayload(head_size, channels)

    def frame(self, index: int, frame: FrameModel) -> compiled.FrameVariant:
        path: Path = ("payload", "frames", index)
        assert self.model.payload is not None
        fields, size = self.lay_out(frame.fields, self.model.payload.byte_order == "little", (*path, "fields"))
        try:
            prefix = bytes.fromhex(frame.prefix)
        except ValueError:
            self.wrong((*path, "prefix"), "a prefix is written as hexadecimal bytes: 58")
            prefix = b""
        records = self.records(frame.records, (*path, "records")) if frame.records is not None else None
        if records is not None:
            size = max(size, records.at)
        elif not fields and frame.remark is None:
            self.wrong(path, "`fields`, `records` or both say what stands in a frame; `remark`, that nothing does")
        least = frame.size or frame.min_size or max(size, 1)
        if frame.size is not None and frame.size < size:
            self.wrong((*path, "size"), f"the fields need {size} bytes")
        most = frame.size or (MAX_BINARY if records is not None else 255)
        return compiled.FrameVariant(prefix, least, most, fields, _ports(frame.fport), records, frame.remark)

    def records(self, given: RecordsModel, path: Path) -> compiled.Records:
        assert self.model.payload is not None
        fields, size = self.lay_out(given.fields, self.model.payload.byte_order == "little", (*path, "fields"))
        if given.size is not None and given.size < size:
            self.wrong((*path, "size"), f"the fields need {size} bytes")
        if (given.time is None) is (given.every is None):
            self.wrong(path, "say either `time` (the field that is a record's own time) or `every` (how far apart)")
        if given.time is not None and given.time not in given.fields:
            self.wrong((*path, "time"), f"`{given.time}` is not a field of the records")
        oldest_first = given.first == "oldest"
        return compiled.Records(
            given.at, given.size or max(size, 1), fields, given.time, given.every or 0, oldest_first, given.historical
        )

    def blocks(self, given: PayloadModel) -> compiled.BlockPayload:
        if not 1 <= len(given.blocks) <= 16:
            self.wrong(("payload", "blocks"), "list the blocks in the order of their flags, 1 to 16 of them")
        blocks = []
        for index, block in enumerate(given.blocks):
            fields, size = self.lay_out(block.fields, False, ("payload", "blocks", index, "fields"))
            blocks.append(compiled.Channel(size, fields))
        return compiled.BlockPayload(tuple(blocks))

    def codec(self, given: PayloadModel) -> compiled.CodecPayload:
        path: Path = ("payload", "codec")
        for name in given.names:
            self.name(name, ("payload", "names"))
        if not given.names:
            self.wrong(("payload", "names"), "list the raw values the codec gives")
        self.codec_names = tuple(given.names)
        folder = self.source.file.rpartition("/")[0]
        file = f"{folder}/{given.codec}" if folder else str(given.codec)
        if given.codec is None or not CODEC_NAME.match(given.codec):
            self.wrong(path, "name the Python file beside this one: uc300.py")
        elif (text := self.codecs.get(file)) is None:
            self.wrong(path, f"there is no file {file}")
        else:
            try:
                return compiled.CodecPayload(load_codec(file, text), self.codec_names)
            except ConfigError as error:
                self.wrong(path, error.mistakes[0].message)
        return compiled.CodecPayload(lambda _data, _fport: [], self.codec_names)

    def lay_out(
        self, fields: Mapping[str, FieldModel], little: bool, path: Path
    ) -> tuple[tuple[compiled.Field, ...], int]:
        """Fields one behind the other unless ``at`` says where; and the bytes they take."""
        made: list[compiled.Field] = []
        end = 0
        for name, field in fields.items():
            here = (*path, name)
            self.name(name, here)
            form = self.form(field, field.type, field.length, _FIELD_TYPES, "uint8", here)
            if form is None:
                continue
            at = field.at if field.at is not None else end
            end = max(end, at + form.size)
            is_little = little if field.byte_order is None else field.byte_order == "little"
            scale = Linear.of(Fraction(str(field.scale)), field.offset)
            entry = compiled.Field(name, at, form, is_little, scale, _numbers(field.sentinels))
            made.append(entry)
            self.fields[name] = entry
        return tuple(made), end

    def register(
        self, name: str, given: RegisterModel | PointModel, path: Path, scaled: bool
    ) -> compiled.Register | None:
        """``scaled``: scale and sentinels belong to the raw value; for a point they are the point's."""
        modbus = self.model.modbus
        if self.model.transport is not Transport.MODBUS:
            self.wrong((*path, "address"), "only for `transport: modbus`")
            return None
        assert given.address is not None
        address = given.address - modbus.first_address
        function = given.function or modbus.function
        if function in (1, 2):
            if given.type not in (None, "bool") or given.bit is not None or given.bits is not None:
                self.wrong(path, f"function code {function} reads single bits: no type, no bit")
            form: Form | None = Form("bool", 1)
        else:
            length = None if given.length is None else 2 * given.length
            form = self.form(given, given.type, length, _REGISTER_TYPES, "uint16", path)
        if form is None:
            return None
        # A device of swapped words still writes its texts from left to right.
        order = given.order or ("ABCD" if form.kind == "text" else modbus.order)
        count = max(1, form.size // 2) if function in (3, 4) else 1
        if form.kind == "text" and order in ("CDAB", "DCBA"):
            self.wrong((*path, "order"), "a text is in the order ABCD, or BADC where the bytes are swapped")
        if not 0 <= address <= 65536 - count:
            self.wrong((*path, "address"), f"wire addresses are 0 to 65535; this is {address} for {count} registers")
            return None
        if count > modbus.max_block:
            self.wrong((*path, "length"), f"{count} registers do not fit into a block of {modbus.max_block}")
        scale = Linear.of(Fraction(str(given.scale)), given.offset) if scaled else Linear()
        sentinels = _numbers(given.sentinels) if scaled else {}
        return compiled.Register(name, function, address, count, form, order, scale, sentinels, given.alone)

    def form(
        self,
        given: _NumberModel | PointModel,
        name: str | None,
        length: int | None,
        allowed: Sequence[str],
        default: str,
        path: Path,
    ) -> Form | None:
        name = name or default
        if name not in allowed:
            self.wrong((*path, "type"), f"there is no type `{name}` here" + did_you_mean(name, allowed))
            return None
        if name == "text":
            if length is None:
                self.wrong(path, "a text needs its `length`")
                return None
            return Form("text", length)
        if length is not None:
            self.wrong((*path, "length"), "only a text has a length")
        kind, size = _SPACE_TYPES[name]
        if given.bit is None and given.bits is None:
            return Form(kind, size)
        if given.bit is not None and given.bits is not None:
            self.wrong((*path, "bits"), "`bit` or `bits`, not both")
        low, high = given.bits if given.bits is not None else (given.bit or 0, given.bit or 0)
        if kind not in ("int", "uint") or not 0 <= low <= high < 8 * size:
            self.wrong((*path, "bits" if given.bits is not None else "bit"), f"{name} has the bits 0 to {8 * size - 1}")
            return None
        return Form(kind, size, low, high - low + 1, given.bits is None)

    # -- points -------------------------------------------------------------------------------------------------------

    def points(self, attributes: Mapping[str, compiled.Attribute]) -> Iterable[compiled.Point]:
        earlier: list[str] = []
        for name, given in self.model.points.items():
            point = self.point(name, given if given is not None else PointModel(), earlier, attributes)
            if point is not None:
                yield point
            earlier.append(name)

    def point(
        self, name: str, given: PointModel, earlier: list[str], attributes: Mapping[str, compiled.Attribute]
    ) -> compiled.Point | None:
        path: Path = ("points", name)
        self.name(name, path)
        form: Form | None = None
        register: compiled.Register | None = None
        formulas = self.formulas(given.formula, path)
        if given.address is not None:
            register = self.register(name, given, path, scaled=False)
            if register is None:
                return None
            self.registers.append(register)
            form = register.form
            if given.from_ is not None:
                self.wrong((*path, "from"), "`from` or `address`, not both")
        else:
            for key in ("function", "type", "order", "bit", "bits", "length", "alone", "write"):
                if key in given.model_fields_set:
                    self.wrong((*path, key), "only together with `address`")
        source = given.from_ or name
        has_source = self.check_source(source, given, bool(formulas), path)
        canonical = next((unit for kind in self.kinds if (unit := unit_of(kind, name)) is not None), None)
        unit = canonical if canonical is not None else (given.unit or "")
        scale = self.scale(given, unit, path)
        known = [*self.raw_names(), *earlier, *attributes]
        for formula in formulas:
            own = [name] if has_source else []
            self.names_known(formula, [*known, *own], (*path, "formula"))
        low, high = self.range(given, unit, path)
        smallest = self.smallest(given, unit, path)
        states = self.states(given, path)
        value_type = given.as_ or _type(form, states, self.fields.get(source), formulas)
        if states is not None and formulas:
            self.wrong((*path, "states"), "a formula gives the value itself: no states beside it")
        if given.invert and value_type is not ValueType.BOOL:
            self.wrong((*path, "invert"), "only a bool can be inverted")
        if states is not None and not scale.is_identity:
            self.wrong((*path, "states"), "states look at the code itself: no scale, no other unit")
        if value_type in (ValueType.BOOL, ValueType.TEXT) and not scale.is_identity:
            self.wrong(path, f"a {value_type} has no scale and no unit to convert")
        size = form.size if form is not None else self.raw_size(source)
        point = compiled.Point(
            name=name,
            source=source,
            unit=unit,
            type=value_type,
            scale=scale,
            low=low,
            high=high,
            smallest=smallest,
            sentinels=dict[Value, str](given.sentinels.items()),
            states=states,
            invert=given.invert,
            formulas=formulas,
            optional=given.optional,
            checks=self.checks(given.checks, (*path, "checks"), [*known, name], None),
            wraps_at=self.counter(given, scale, value_type, path),
            units=units_for(unit) if self.model.transport is Transport.MQTT else {},
            raw_bytes=size,
        )
        if given.write is None or register is None:
            return point
        return replace(point, write=self.writable(given.write, point, register, given.counter is not None, path))

    def writable(
        self, given: bool | WriteModel, point: compiled.Point, register: compiled.Register, counts: bool, path: Path
    ) -> compiled.Writable | None:
        """How ``point`` is set; None after a mistake. Whatever its limits or states allow can then be sent."""
        path = (*path, "write")
        before = len(self.mistakes)
        if register.function in (2, 4):
            table = "discrete inputs" if register.function == 2 else "input registers"
            self.wrong(path, f"nothing writes to {table}: Modbus has no request for it")
        elif register.form.width:
            self.wrong(path, "a part of a register cannot be written without the rest of it")
        elif register.form.kind in ("bcd", "text"):
            self.wrong(path, f"a {register.form.kind} cannot be written")
        elif point.formulas:
            self.wrong(path, "a formula cannot be undone: only scale, offset, unit, invert and states can")
        elif counts:
            self.wrong(path, "a counter counts by itself")
        elif point.states is None and (point.type in _UNWRITTEN or register.is_bit_space is not _is_bool(point)):
            self.wrong(path, f"a {point.type} cannot be written here: a coil is a bool, a register a number or states")
        if len(self.mistakes) > before:
            return None
        if point.states is not None or _is_bool(point):
            found = self.written_states(given, point, register, path)
        else:
            found = self.written_numbers(given, point, register, path)
        return found if len(self.mistakes) == before else None

    def written_states(
        self, given: bool | WriteModel, point: compiled.Point, register: compiled.Register, path: Path
    ) -> compiled.Writable:
        """``write: true``, for values that are listed or true and false."""
        found = compiled.Writable(register)
        if isinstance(given, WriteModel):
            self.wrong(path, "only a number has limits: write `true`")
        states = (point.states or {}).values()
        values = [state.value for state in states if state.quality is Quality.GOOD and state.value is not None]
        known = codes(point)
        if len(known) < len(values):
            self.wrong(path, "two states have the same value: which of their codes to write cannot be told")
        for (_, value), code in known.items():
            if (type(code) is bool) is not register.is_bit_space:
                self.wrong(path, f"the code {code!r} is not what the register holds")
            else:
                self.can_be_sent(replace(point, write=found), value, path)
        return found

    def written_numbers(
        self, given: bool | WriteModel, point: compiled.Point, register: compiled.Register, path: Path
    ) -> compiled.Writable:
        """``write: {min, max}``."""
        found = compiled.Writable(register)
        if not isinstance(given, WriteModel):
            self.wrong(path, "a number needs its limits: {min: …, max: …}")
            return found
        try:
            low, high = quantity(given.min, point.unit), quantity(given.max, point.unit)
        except ValueError as error:
            self.wrong(path, str(error))
            return found
        if not -math.inf < low < high < math.inf:
            self.wrong(path, "`min` is less than `max`")
        elif low < point.low or high > point.high:
            self.wrong(path, "beyond the `range` of the point: what is written would read as a fault")
        else:
            found = compiled.Writable(register, low, high)
            for limit in (low, high):
                self.can_be_sent(replace(point, write=found), limit, path)
        return found

    def can_be_sent(self, point: compiled.Point, value: object, path: Path) -> None:
        try:
            write_request(point, value)
        except ValueError as error:
            self.wrong(path, str(error))

    def raw_size(self, name: str) -> int:
        """Bytes of a raw value; 0 where it is not binary."""
        if name in self.fields:
            return self.fields[name].form.size
        return next((register.form.size for register in self.registers if register.name == name), 0)

    def counter(self, given: PointModel, scale: Linear, value_type: ValueType, path: Path) -> float | None:
        """What a counter wraps at, in the point's unit; None for what is none."""
        if given.counter is None:
            return None
        if value_type not in (ValueType.NUMBER, ValueType.INTEGER):
            self.wrong((*path, "counter"), "only a number counts")
        if given.counter is True:
            return UNBOUNDED
        return scale(given.counter.wraps_at) - scale.offset

    def check_source(self, source: str, given: PointModel, has_formula: bool, path: Path) -> bool:
        """Whether a raw value can come under ``source``; a mistake when nothing can give the point a value."""
        if self.model.transport in (Transport.MQTT, Transport.HJ212) and not self.fields:
            try:
                json_path(source)
            except ValueError:
                self.wrong((*path, "from"), f"`{source}` is not a path: write sensors[0].temp")
            return True
        raws = [*self.raw_names(), *SIGNALS] if self.model.transport is Transport.LORAWAN else self.raw_names()
        if source in raws:
            return True
        if given.from_ is not None or not has_formula:
            where = "address" if self.model.transport is Transport.MODBUS else "payload"
            self.wrong(
                (*path, "from") if given.from_ is not None else path,
                f"no raw value is called `{source}`" + (did_you_mean(source, raws) or f" (see `{where}`)"),
            )
        return False

    def formulas(self, given: Sequence[str], path: Path) -> tuple[Formula, ...]:
        found = []
        for text in given:
            try:
                found.append(parse_formula(text))
            except FormulaError as error:
                self.wrong((*path, "formula"), str(error))
        return tuple(found)

    def names_known(self, formula: Formula, known: Iterable[str], path: Path) -> None:
        names = list(dict.fromkeys(known))
        for name in formula.names:
            if name not in names:
                hint = did_you_mean(name, names) or " (attributes of the asset are listed under `attributes`)"
                self.wrong(path, f"`{name}` is no raw value, earlier point or attribute" + hint)

    def scale(self, given: PointModel, unit: str, path: Path) -> Linear:
        factor, offset = Fraction(str(given.scale)), given.offset
        if given.unit is not None and given.unit != unit:
            try:
                unit_factor, unit_offset = linear(given.unit, unit)
            except ValueError as error:
                self.wrong((*path, "unit"), str(error))
            else:
                exact = Fraction(f"{unit_factor:.12g}")
                factor, offset = factor * exact, float(f"{offset * unit_factor + unit_offset:.12g}")
        if factor == 0:
            self.wrong((*path, "scale"), "a scale of 0 makes every value the same")
        return Linear.of(factor, offset)

    def range(self, given: PointModel, unit: str, path: Path) -> tuple[float, float]:
        if given.range is None:
            return float("-inf"), float("inf")
        try:
            low, high = (quantity(limit, unit) for limit in given.range)
        except ValueError as error:
            self.wrong((*path, "range"), str(error))
            return float("-inf"), float("inf")
        if not low < high:
            self.wrong((*path, "range"), "the lower limit comes first")
        return low, high

    def smallest(self, given: PointModel, unit: str, path: Path) -> float:
        try:
            smallest = quantity(given.smallest, unit)
        except ValueError as error:
            self.wrong((*path, "smallest"), str(error))
            return 0.0
        if smallest < 0:
            self.wrong((*path, "smallest"), "a distance from zero is not negative")
        return smallest

    def states(self, given: PointModel, path: Path) -> dict[Value, State] | None:
        if given.states is None:
            return None
        found: dict[Value, State] = {}
        for code, meaning in given.states.items():
            if meaning.quality is not Quality.GOOD and not meaning.reason:
                self.wrong((*path, "states", str(code)), "a state that is not good needs its `reason`")
            found[code] = State(meaning.value, meaning.quality, meaning.reason)
        if len({type(code) is bool for code in found}) > 1:
            self.wrong((*path, "states"), "codes are all true/false, or none is")
        return found

    def checks(
        self, given: Sequence[CheckModel], path: Path, known: Sequence[str], points: Sequence[str] | None
    ) -> tuple[compiled.Check, ...]:
        """``points``: those a check may name; None for the checks of one point, which may name none."""
        found: list[compiled.Check] = []
        for index, check in enumerate(given):
            here = (*path, index)
            try:
                when = parse_formula(check.when)
            except FormulaError as error:
                self.wrong((*here, "when"), str(error))
                continue
            self.names_known(when, known, (*here, "when"))
            if check.points is not None and points is None:
                self.wrong((*here, "points"), "only the profile's own checks name points")
            for name in check.points or ():
                if points is not None and name not in points:
                    self.wrong((*here, "points"), f"there is no point `{name}`" + did_you_mean(name, points))
            named = frozenset(check.points) if check.points is not None else None
            found.append(compiled.Check(when, check.quality, check.reason, named))
        return tuple(found)


@cache
def units_for(unit: str) -> Mapping[str, tuple[float, float]]:
    """Spelling → (factor, offset) for every unit that can be converted to ``unit``."""
    found: dict[str, tuple[float, float]] = {}
    if unit:
        for spelling in _UNITS:
            try:
                found[spelling] = linear(spelling, unit)
            except ValueError:
                continue
    return found


def _type(
    form: Form | None, states: Mapping[Value, State] | None, field: compiled.Field | None, formulas: Sequence[Formula]
) -> ValueType:
    """The type of values nobody named: of the states, else of the bytes; a number where neither says."""
    if states:
        kinds = {type(state.value) for state in states.values() if state.value is not None}
        if kinds <= {bool}:
            return ValueType.BOOL
        return ValueType.NUMBER if kinds <= {int, float} else ValueType.TEXT
    form = form if form is not None else field.form if field is not None else None
    if form is None or formulas:
        return ValueType.NUMBER
    if form.kind == "bool" or form.is_flag:
        return ValueType.BOOL
    return ValueType.TEXT if form.kind == "text" else ValueType.NUMBER


def _is_bool(point: compiled.Point) -> bool:
    return point.type is ValueType.BOOL


def _numbers(sentinels: Mapping[Any, str]) -> dict[float, str]:
    return {code: meaning for code, meaning in sentinels.items() if type(code) in (int, float)}


def _ports(given: list[int] | None) -> frozenset[int] | None:
    return None if given is None else frozenset(given)
