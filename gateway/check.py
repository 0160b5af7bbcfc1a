"""``citywatch check`` and ``test-rules``: is what is written in the files right, before it can wake anybody?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.assets import load_asset_files
from gateway.config.base_map import load_base_map
from gateway.config.bundle import RULES, case_files, load_configuration
from gateway.config.case_fields import read_case_fields
from gateway.config.case_standard import missing_standards
from gateway.config.profile_cases import run_all_cases
from gateway.config.receivers import CasePlatformSettings
from gateway.config.settings import Settings, load_settings
from gateway.config.shipped import shipped
from gateway.errors import ConfigError, Mistake
from gateway.notify.wording import Wording
from gateway.sources.broker import loss_window
from gateway.telling import receivers_of


@dataclass(slots=True)
class CheckReport:
    """What was loaded, what is wrong, and what is right but should be known (``notes``)."""

    counts: dict[str, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.mistakes

    def lines(self) -> list[str]:
        counted = ", ".join(f"{n} {what}" for what, n in self.counts.items())
        end = f"{len(self.mistakes)} mistakes" if self.mistakes else f"all good: {counted}"
        return [*map(str, self.mistakes), *(f"note: {note}" for note in self.notes), end]

    def as_json(self) -> dict[str, object]:
        return {
            "ok": self.ok,
            "counts": self.counts,
            "mistakes": [{"file": m.file, "line": m.line, "key": m.key, "message": m.message} for m in self.mistakes],
            "notes": self.notes,
        }


def check_everything(config: Path | None) -> CheckReport:
    """Load the settings (if named), every profile, rule and asset file; gather all mistakes."""
    report = CheckReport()
    settings = Settings()
    if config is not None:
        try:
            settings = load_settings(config)
        except ConfigError as error:
            report.mistakes += error.mistakes
            return report
    try:
        _, configuration = load_configuration(settings)
    except ConfigError as error:
        report.mistakes += error.mistakes
        return report
    rule_folders = (shipped("rules"), *settings.rules, settings.data / RULES)
    report.mistakes += missing_standards(configuration.rules, rule_folders)
    routing = configuration.routing
    report.counts = {"profiles": len(configuration.profiles), "rules": len(configuration.rules)}
    if settings.routes is not None:
        report.counts |= {"routes": sum(1 for _ in routing.root.all_routes), "people": len(routing.people)}
    cases, failed = run_all_cases(case_files(settings), configuration.profiles)
    report.counts["cases"] = cases
    report.mistakes += failed
    try:
        files = {str(file): file for file in settings.assets}
        layout = settings.site.component_code_layout
        assets, devices = load_asset_files(files, configuration.profiles, layout=layout)
        report.counts |= {"assets": len(assets), "devices": len(devices)}
    except ConfigError as error:
        report.mistakes += error.mistakes
    try:
        load_base_map(settings.console.map)
    except ConfigError as error:
        report.mistakes += error.mistakes
    for broker in settings.mqtt:
        report.notes += [f"mqtt {broker.id}: {text}" for text in loss_window(broker.url or "embedded")]
        for name in ("password_file", "client_id_file", "ca_file", "certificate_file", "key_file"):
            _must_exist(getattr(broker, name), f"mqtt {broker.id}", name, config, report)
    if settings.console.oidc is not None:
        _must_exist(settings.console.oidc.client_secret_file, "console.oidc", "client_secret_file", config, report)
    for sink in settings.sinks:
        _must_exist(sink.token_file, f"sinks {sink.name}", "token_file", config, report)
    for receiver in settings.receivers:
        for name in ("secret_file", "inbound_secret_file", "url_file", "password_file", "ca_file"):
            _must_exist(getattr(receiver, name, None), f"receivers {receiver.name}", name, config, report)
        if isinstance(receiver, CasePlatformSettings):
            try:
                read_case_fields(receiver.fields, configuration.rules.rules)
            except ConfigError as error:
                report.mistakes += error.mistakes
    if settings.inbound.sms is not None:
        _must_exist(settings.inbound.sms.secret_file, "inbound.sms", "secret_file", config, report)
    if report.ok:
        try:
            receivers_of(settings, words := Wording(_nothing, _nothing, settings.site.timezone), words)
        except ConfigError as error:
            report.mistakes += error.mistakes
    return report


def _nothing(_name: str) -> None:
    """Receivers are made and thrown away: nobody is told anything."""


def _must_exist(file: Path | None, where: str, key: str, config: Path | None, report: CheckReport) -> None:
    if file is not None and not file.is_file():
        report.mistakes.append(Mistake(str(config), None, f"{where}.{key}", f"there is no file {file}"))
