"""``citywatch.yaml`` → checked, frozen settings. Every key, its unit and its default stand here.

Secrets never stand in the file: a setting that ends in ``_file`` names a file that holds one, and
``${NAME}`` in a text is replaced by the environment variable NAME.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from gateway.config.receivers import AnyReceiver, CanarySettings, InboundSettings, MirrorSettings
from gateway.config.receivers import ReceiverSettings as ReceiverSettings
from gateway.config.units import duration
from gateway.config.yaml_source import YamlSource, checked, read_yaml
from gateway.core.component_code import Layout
from gateway.core.model import HOUR, MINUTE, SECOND, Micros
from gateway.core.networks import Network
from gateway.errors import ConfigError, Mistake

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?\s*$")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def size(text: str | int) -> int:
    """``"256 MB"`` → bytes (k, M, G, T are powers of 1024). Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.match(str(text))
    if match is None:
        raise ValueError(f"not a size: {text!r} (write 256 MB or 2 GB)")
    return round(float(match[1]) * float(1024 ** " kMGT".index(match[2] or " ")))


def _yaml_file(file: Path) -> Path:
    if file.suffix != ".yaml":
        raise ValueError(f"name it .yaml: {file.name}")
    return file


Duration = Annotated[Micros, BeforeValidator(duration)]
Size = Annotated[int, BeforeValidator(size)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SiteSettings(_Settings):
    """The place: its names, its position (WGS-84 degrees; for the sun) and its civil time. ``component_code_layout``:
    how the city numbers its components; without it a code of either layout is taken, and no parts are shown."""

    name_zh: str = "城市更夫"
    name_en: str = "citywatch"
    longitude: Annotated[float, Field(ge=-180, le=180)] = 116.10
    latitude: Annotated[float, Field(ge=-90, le=90)] = 35.80
    timezone: str = "Asia/Shanghai"
    component_code_layout: Layout | None = None

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            return ZoneInfo(name).key
        except (ValueError, LookupError, OSError) as error:
            raise ValueError(f"no such time zone: {name!r} (write Asia/Shanghai)") from error


class MqttSettings(_Settings):
    """One broker. ``embedded: true`` starts our own; else ``url`` names one (mqtt:// or mqtts://)."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] = "main"
    embedded: bool = False
    url: str | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 1883
    version: Literal["5", "3.1.1"] = "5"
    username: str | None = None
    password_file: Path | None = None
    client_id_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    share_group: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    receive_maximum: Annotated[int, Field(ge=1, le=65535)] = 2000
    fleet_users: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], ...] = ()
    networks: Annotated[tuple[Network, ...], Field(min_length=1)] = (Network.CITYWATCH,)

    @model_validator(mode="before")
    @classmethod
    def _version_as_text(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("version"), (int, float)):
            return {**data, "version": str(data["version"])}
        return data

    @model_validator(mode="after")
    def _one_broker(self) -> MqttSettings:
        if self.embedded == (self.url is not None):
            raise ValueError("say either `embedded: true` or `url: mqtt://host:port`")
        if self.url is not None and not re.match(r"^mqtts?://[^/\s]+$", self.url):
            raise ValueError("url must be mqtt://host:port or mqtts://host:port")
        return self


class ModbusSettings(_Settings):
    """How Modbus endpoints are polled; which ones there are comes from the devices. ``allow_writes``: people may set
    those points whose profiles allow it; a gateway that nobody has asked to only looks."""

    timeout: Duration = 3 * SECOND
    default_interval: Duration = 5 * SECOND
    allow_writes: bool = False


class Hj212Settings(_Settings):
    """Where environmental stations (HJ 212 over TCP) connect. Another host than loopback must be asked for by name."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")] = "hj212"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9212


class TilesSettings(_Settings):
    """Raster tiles of a map server: ``url`` with {z}, {x} and {y}. Browsers fetch them, so its origin enters the pages'
    content security policy. ``gcj02``: the server draws in GCJ-02, as Chinese map services do; the page then shifts
    what it lays over the tiles, and nothing that is stored or sent is ever shifted."""

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:\d{1,5})?/[^\s\"'<>\\^`|;,]*$", max_length=500)]
    attribution: Annotated[str, Field(max_length=200)] = ""
    gcj02: bool = False
    max_zoom: Annotated[int, Field(ge=1, le=24)] = 18

    @model_validator(mode="after")
    def _has_places(self) -> TilesSettings:
        if not all(self.url.count(place) == 1 for place in ("{z}", "{x}", "{y}")):
            raise ValueError("the url needs {z}, {x} and {y}, each once")
        return self


class MapSettings(_Settings):
    """What the map shows below the assets. ``roads`` and ``outline``: GeoJSON files in WGS 84, of at most 50 MB;
    ``tiles`` of a server, or ``pmtiles``, a file of tiles that the gateway serves itself; ``center`` (longitude,
    latitude) and ``zoom``: where it begins, else where the assets are."""

    roads: Path | None = None
    outline: Path | None = None
    tiles: TilesSettings | None = None
    pmtiles: Path | None = None
    center: tuple[Annotated[float, Field(ge=-180, le=180)], Annotated[float, Field(ge=-90, le=90)]] | None = None
    zoom: Annotated[float, Field(ge=0, le=24)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> MapSettings:
        if self.tiles is not None and self.pmtiles is not None:
            raise ValueError("say either `tiles` or `pmtiles`")
        return self


RoleName = Literal["viewer", "operator", "maintainer", "supervisor", "engineer", "admin"]

_SAFE_ISSUER = re.compile(r"^https://|^http://(127\.0\.0\.1|localhost|\[::1\])(?=[:/]|$)")


class OidcSettings(_Settings):
    """An OpenID Connect provider where people may sign in instead of here. Its redirect address is
    ``https://<this console>/api/v1/oidc/callback``. ``roles`` gives the role for a value of ``role_claim``, the highest
    when several fit; whom none fits gets ``default_role``, and is refused without one."""

    issuer: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$", max_length=200)]
    client_id: Annotated[str, Field(min_length=1, max_length=200)]
    client_secret_file: Path
    title_zh: Annotated[str, Field(min_length=1, max_length=50)] = "统一登录"
    title_en: Annotated[str, Field(min_length=1, max_length=50)] = "Single sign-on"
    role_claim: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    roles: dict[str, RoleName] = {}
    default_role: RoleName | None = None

    @model_validator(mode="after")
    def _is_of_use(self) -> OidcSettings:
        if _SAFE_ISSUER.match(self.issuer) is None:
            raise ValueError("issuer must be https://, or on this machine")
        if (self.role_claim is None) is not (not self.roles):
            raise ValueError("role_claim and roles need one another")
        if not self.roles and self.default_role is None:
            raise ValueError("nobody could sign in: say role_claim and roles, or default_role")
        return self


class ConsoleSettings(_Settings):
    """Where the API and the page listen, and what its map shows. Another host than loopback must be asked for by
    name. ``trusted_proxies``: addresses or networks of reverse proxies that are believed when they say where a request
    came from and that it came by TLS. ``public_url``: how people's phones reach it, for the links in messages; without
    it there are none. ``oidc``: where people may sign in instead of here."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    trusted_proxies: tuple[Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:]+(/\d{1,3})?$")], ...] = ()
    public_url: (
        Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$", max_length=200)] | None
    ) = None
    oidc: OidcSettings | None = None
    map: MapSettings = MapSettings()


class JournalSettings(_Settings):
    """How long followed batches stay for inspection: until both the age and the size allow more."""

    keep: Duration = 24 * HOUR
    max_size: Size = 2 << 30


class HistorianSettings(_Settings):
    """How long readings, their minute values and their hour values are kept, and how large all may grow together."""

    keep: Duration = 90 * 24 * HOUR
    keep_minutes: Duration = 2 * 365 * 24 * HOUR
    keep_hours: Duration = 10 * 365 * 24 * HOUR
    max_size: Size = 200 << 30


class DiskSettings(_Settings):
    """Below ``reserve`` free bytes telemetry is no longer taken; alarms, commands and audit go on within it."""

    reserve: Size = 256 << 20


class SinkSettings(_Settings):
    """A copy of all readings to InfluxDB v2 or VictoriaMetrics."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    org: str = "citywatch"
    bucket: str = "citywatch"
    token_file: Path | None = None


LOG = "log"  # the receiver that is always there, and no person


class SnapshotSettings(_Settings):
    """The engine's state is written after so many frames or so long, whichever comes first."""

    frames: Annotated[int, Field(ge=1)] = 300_000
    interval: Duration = 5 * MINUTE


class Settings(_Settings):
    """The whole of ``citywatch.yaml``. Relative paths are relative to the file."""

    data: Path = Path("data")
    site: SiteSettings = SiteSettings()
    mqtt: tuple[MqttSettings, ...] = ()
    modbus: ModbusSettings = ModbusSettings()
    hj212: tuple[Hj212Settings, ...] = ()
    profiles: tuple[Path, ...] = ()
    rules: tuple[Path, ...] = ()
    routes: Annotated[Path, AfterValidator(_yaml_file)] | None = None
    assets: tuple[Path, ...] = ()
    console: ConsoleSettings = ConsoleSettings()
    journal: JournalSettings = JournalSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    historian: HistorianSettings = HistorianSettings()
    disk: DiskSettings = DiskSettings()
    sinks: tuple[SinkSettings, ...] = ()
    receivers: tuple[AnyReceiver, ...] = ()
    inbound: InboundSettings = InboundSettings()
    canary: CanarySettings | None = None

    @model_validator(mode="after")
    def _names_once(self) -> Settings:
        for what, names in (
            ("mqtt", [m.id for m in self.mqtt]),
            ("hj212", [h.id for h in self.hj212]),
            ("sinks", [s.name for s in self.sinks]),
            ("receivers", [r.name for r in self.receivers]),
        ):
            for name in {n for n in names if names.count(n) > 1}:
                raise ValueError(f"two {what} entries are called {name!r}")
        if sum(m.embedded for m in self.mqtt) > 1:
            raise ValueError("only one embedded broker")
        mirrors = [r for r in self.receivers if isinstance(r, MirrorSettings) and r.embedded]
        if mirrors and not any(m.embedded for m in self.mqtt):
            raise ValueError(f"receiver {mirrors[0].name!r}: there is no embedded broker in mqtt")
        if any(r.name == LOG for r in self.receivers):
            raise ValueError(f"a receiver cannot be called {LOG!r}: that one is always there")
        return self


def load_settings(file: Path) -> Settings:
    """Read and check ``file``; paths in it become absolute. Raises ConfigError with every mistake."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Mistake(str(file), None, "", f"cannot be read: {error}")]) from error
    return parse_settings(text, str(file), file.resolve().parent, os.environ)


def parse_settings(text: str, file: str, folder: Path, environment: Mapping[str, str]) -> Settings:
    """``text`` as settings; ``folder`` anchors relative paths."""
    source = read_yaml(text, file)
    mistakes: list[Mistake] = []
    data = _filled_in(source, source.data if source.data is not None else {}, (), environment, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    if not isinstance(data, dict):
        raise ConfigError([Mistake(file, 1, "", "must be a mapping of settings")])
    settings: Settings = _anchored(checked(Settings, source, data), folder)
    return settings


def _filled_in(
    source: YamlSource, data: Any, path: tuple[str | int, ...], environment: Mapping[str, str], out: list[Mistake]
) -> Any:
    """``${NAME}`` replaced from the environment."""
    if isinstance(data, dict):
        return {k: _filled_in(source, v, (*path, k), environment, out) for k, v in data.items()}
    if isinstance(data, list):
        return [_filled_in(source, v, (*path, i), environment, out) for i, v in enumerate(data)]
    if not isinstance(data, str):
        return data

    def replace(match: re.Match[str]) -> str:
        value = environment.get(match[1])
        if value is None:
            out.append(source.mistake(path, f"the environment has no variable {match[1]}"))
            return ""
        return value

    return _VARIABLE.sub(replace, data)


def _anchored(model: Any, folder: Path) -> Any:
    """``model`` with every relative Path made absolute against ``folder``."""
    if isinstance(model, Path):
        return model if model.is_absolute() else folder / model
    if isinstance(model, tuple):
        return tuple(_anchored(item, folder) for item in model)
    if isinstance(model, BaseModel):
        changes = {name: _anchored(getattr(model, name), folder) for name in type(model).model_fields}
        return model.model_copy(update=changes)
    return model
