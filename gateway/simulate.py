"""``citywatch simulate``: load against any broker, with an account of every message.

The sending is done by a process of its own, ``python -m simulators load``; this one passes on what to do, shows how it
goes, and judges the outcome. The broker's password reaches the child by its environment, where ``ps`` does not show it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from gateway.errors import CitywatchError, ConfigError, Mistake

USERNAME, PASSWORD = "CITYWATCH_MQTT_USERNAME", "CITYWATCH_MQTT_PASSWORD"
ERROR_LINES = 3


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """``rate``: messages a second in all, None: as many as the broker takes. ``seconds`` None: until told to stop.
    ``url`` None: only write the assets."""

    devices: int
    rate: float | None = None
    url: str | None = None
    seconds: float | None = None
    ledger: Path | None = None
    assets_out: Path | None = None
    connections: int = 8
    drain_s: float = 10.0


def run_load(options: LoadOptions, progress: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any] | None:
    """Send, and give the summary; None when there was nothing to send. ``progress`` hears the counts once a second.

    SIGINT and SIGTERM end the sending, not the account: what is under way is still waited for. Raises ConfigError for
    an address that is none and CitywatchError when the load could not be run.
    """
    words = ["--devices", str(options.devices), "--status"]
    environment = dict(os.environ)
    if options.url is not None:
        url, login = _without_login(options.url)
        environment.update(login)
        words += ["--mqtt-url", url, "--rate", "max" if options.rate is None else str(options.rate)]
        words += ["--connections", str(options.connections), "--drain", str(options.drain_s)]
    for name, value in (("for", options.seconds), ("ledger", options.ledger), ("assets-out", options.assets_out)):
        if value is not None:
            words += [f"--{name}", str(value)]
    child = subprocess.Popen(
        [sys.executable, "-m", "simulators", "--die-with-parent", "load", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches it through us, once
    )
    with child:
        return _listen(child, progress)


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary in words."""
    quantiles = ", ".join(f"{name} {value:g} ms" for name, value in summary["ack_ms"].items()) or "nothing acknowledged"
    again = f", {summary['resent']:,} sent again" if summary["resent"] else ""
    made = f"{summary['connections']:,} connections, {summary['reconnects']:,} attempts after the first"
    refused = f", refused {summary['refused']:,} times: check the login" if summary["refused"] else ""
    return [
        f"sent            {summary['sent']:,}{again}",
        f"acknowledged    {summary['acked']:,}",
        f"unacknowledged  {summary['unacked']:,}",
        f"rate            {summary['rate']:,.0f} a second, {summary['seconds']:g} s in all",
        f"PUBACK after    {quantiles}",
        f"broker          {made}{refused}",
    ]


def all_acknowledged(summary: dict[str, Any]) -> bool:
    """Did anything get through, and everything that was sent?"""
    return bool(summary["sent"]) and not summary["unacked"]


def _listen(child: subprocess.Popen[str], progress: Callable[[dict[str, Any]], None] | None) -> dict[str, Any] | None:
    def stop(number: int, frame: object) -> None:
        child.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    summary: dict[str, Any] | None = None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        for line in child.stdout:
            said = json.loads(line)
            if said["type"] == "summary":
                summary = said
            elif progress is not None:
                progress(said)
        complaint = child.stderr.read().strip().splitlines()[-ERROR_LINES:]
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if summary is None and code != 0:
        raise CitywatchError("; ".join(complaint) or f"the load generator ended with code {code}")
    return summary


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """The address alone, and user name and password for the environment. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        said = f"write mqtt://host:port or mqtts://host:port, not {url.rpartition('@')[2]!r}"
        raise ConfigError([Mistake("simulate", None, "--mqtt", said)])
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    login = {USERNAME: parts.username, PASSWORD: parts.password}
    plain = urlunsplit((parts.scheme, host + (f":{port}" if port else ""), "", "", ""))
    return plain, {name: unquote(value) for name, value in login.items() if value is not None}
