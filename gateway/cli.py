"""The command ``citywatch``: one short function a command; the work is done elsewhere.

Exit codes: 0 done, 1 the answer is "no", 2 wrong usage or configuration. Errors are one line a person can act on;
``--debug`` shows the traceback instead.
"""

from __future__ import annotations

import json as jsonlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import __version__
from gateway.errors import CitywatchError, ConfigError, Mistake

app = typer.Typer(
    name="citywatch",
    help="城市更夫 · The gateway that keeps watch over a city's streetlights, covers, rain pipes, pumps and bridges.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
Config = Annotated[Path, typer.Option("--config", help="The settings file.", dir_okay=False)]


class TransportName(StrEnum):
    mqtt = "mqtt"
    lorawan = "lorawan"
    modbus = "modbus"
    hj212 = "hj212"


class ExportName(StrEnum):
    assets = "assets"


class ExportForm(StrEnum):
    csv = "csv"
    xlsx = "xlsx"
    geojson = "geojson"
    json = "json"


class SchemaName(StrEnum):
    profile = "profile"
    rules = "rules"
    assets = "assets"


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if version:
        typer.echo(f"citywatch {__version__}")
        raise typer.Exit


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port of the page and the API; 0 = any free one.")] = 8080,
    mqtt_port: Annotated[int, typer.Option(help="Port of the embedded broker; 0 = any free one.")] = 1883,
    data: Annotated[Path | None, typer.Option(help="Data folder; default: a fresh one, deleted at the end.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same city and the same evening.")] = 1,
    assets: Annotated[int, typer.Option("--assets", "--devices", min=120, max=50_000, help="Size of the city.")] = 500,
    stop_after: Annotated[str | None, typer.Option("--for", help="Stop by itself after this long, e.g. 5m.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
) -> None:
    """A living city on this machine: embedded broker, simulated city, gateway and page, on loopback."""
    from gateway.demo import DemoOptions, run_demo

    seconds = _seconds(stop_after) if stop_after is not None else None
    raise typer.Exit(run_demo(DemoOptions(port, mqtt_port, data, seed, assets, seconds, not no_browser)))


@app.command()
def run(config: Config = Path("citywatch.yaml")) -> None:
    """The gateway, until it is told to stop (SIGTERM, Ctrl-C); SIGHUP reads the configuration again."""
    from gateway.app import run_gateway
    from gateway.config.settings import load_settings

    raise typer.Exit(run_gateway(load_settings(config), config))


@app.command()
def check(
    config: Annotated[Path | None, typer.Option("--config", help="Settings to check too.")] = None,
    json: Json = False,
) -> None:
    """Load every setting, profile, rule, route and asset file; print all mistakes with file, line and key."""
    from gateway.check import check_everything

    report = check_everything(config)
    if json:
        typer.echo(jsonlib.dumps(report.as_json(), ensure_ascii=False))
    else:
        for line in report.lines():
            typer.echo(line)
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def decode(
    profile: Annotated[str, typer.Argument(help="Profile id, e.g. milesight/em320-tilt, or a profile file.")],
    hex: Annotated[str | None, typer.Option("--hex", help="A binary payload as hexadecimal digits.")] = None,
    fport: Annotated[int | None, typer.Option("--fport", help="LoRaWAN port of the payload.")] = None,
    payload: Annotated[str | None, typer.Option("--json", help="A JSON payload.")] = None,
    modbus: Annotated[
        list[str] | None, typer.Option("--modbus", help="FC:ADDRESS:HEXWORDS, repeatable; the address is 0-based.")
    ] = None,
    hj212: Annotated[
        str | None, typer.Option("--hj212", help="An HJ 212 telegram, or its body from QN= to && alone.")
    ] = None,
    topic: Annotated[str | None, typer.Option("--topic", help="The topic it came on.")] = None,
    attr: Annotated[
        list[str] | None, typer.Option("--attr", help="Attribute of the asset or device: NAME=VALUE, repeatable.")
    ] = None,
) -> None:
    """What a profile makes of a payload, as one line of JSON; exit 1 when it cannot be decoded."""
    from gateway.config.decode_report import decode_report, parse_attributes, profile_and_library

    profile_id, profiles = profile_and_library(profile)
    report = decode_report(
        profile_id,
        profiles,
        hex=hex,
        fport=fport,
        json=payload,
        modbus=modbus or [],
        hj212=hj212,
        topic=topic,
        attributes=parse_attributes(attr or []),
    )
    typer.echo(jsonlib.dumps(report, ensure_ascii=False))
    raise typer.Exit(1 if report["error"] else 0)


@app.command()
def schema(what: Annotated[SchemaName, typer.Argument(help="Which kind of file.")]) -> None:
    """The JSON Schema of profiles, rules or asset files, for an editor that completes YAML."""
    from gateway.config.schema import schema_of

    typer.echo(jsonlib.dumps(schema_of(what.value), ensure_ascii=False, indent=2))


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Option("--output", help="File to write.", dir_okay=False)] = None,
) -> None:
    """The HTTP API as an OpenAPI document: what `/openapi.json` gives, for making clients; no gateway need run."""
    from gateway.console.app import openapi_document

    text = jsonlib.dumps(openapi_document(), ensure_ascii=False, indent=2)
    if output is None:
        typer.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")


routes_app = typer.Typer(
    help="Whom alarms are told to, and who is on duty.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(routes_app, name="routes")

At = Annotated[
    str | None, typer.Option("--at", help="When: 2026-10-01T22:30, in the site's time zone unless it names one.")
]


class LevelName(StrEnum):
    I = "I"  # noqa: E741
    II = "II"
    III = "III"
    IV = "IV"


@routes_app.command("test")
def routes_test(
    alarms: Annotated[list[str], typer.Argument(metavar="ALARM...", help="asset/rule; several are raised together.")],
    at: At = None,
    level: Annotated[LevelName | None, typer.Option("--level", help="Default: the worst the rule has.")] = None,
    config: Config = Path("citywatch.yaml"),
    json: Json = False,
) -> None:
    """Who would be told of an alarm, when, through what and why, if nobody does anything; nothing is sent. Exit 1 when
    nobody would."""
    from gateway import routes_report, routes_words
    from gateway.core.model import Level

    answer = routes_report.routes_test(alarms, config, at, Level[level.value] if level is not None else None)
    if json:
        typer.echo(jsonlib.dumps(answer, ensure_ascii=False))
    else:
        routes_words.show_test(answer, routes_words.screen())
    raise typer.Exit(0 if answer["told"] else 1)


@routes_app.command("duty")
def routes_duty(at: At = None, config: Config = Path("citywatch.yaml"), json: Json = False) -> None:
    """Who is on duty, why, until when, and who is next."""
    from gateway import routes_report, routes_words

    answer = routes_report.routes_duty(config, at)
    if json:
        typer.echo(jsonlib.dumps(answer, ensure_ascii=False))
    else:
        routes_words.show_duty(answer, routes_words.screen())


profile_app = typer.Typer(help="Write a device profile.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(profile_app, name="profile")


@profile_app.command("new")
def profile_new(
    file: Annotated[Path, typer.Argument(help="<vendor>/<model>.yaml, to be written.", dir_okay=False)],
    kind: Annotated[str, typer.Option("--kind", help="Kind of asset it measures: lamp, pipe, pump …")],
    transport: Annotated[TransportName, typer.Option("--transport", help="How it speaks.")] = TransportName.mqtt,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and run its cases whenever it is saved.")] = False,
) -> None:
    """Begin a profile and its cases."""
    from gateway.core.profile import Transport
    from gateway.profile_workshop import new_profile

    for path in new_profile(file, kind, Transport(transport.value)):
        typer.echo(f"wrote {path}")
    if watch:
        profile_try(file, watch=True)


@profile_app.command("try")
def profile_try(
    file: Annotated[Path, typer.Argument(help="A profile file; its cases stand beside it.", dir_okay=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and run its cases whenever it is saved.")] = False,
) -> None:
    """Load a profile and run its cases; exit 1 when one does not hold."""
    from gateway.profile_workshop import try_again_and_again, verdict

    def tell(ok: bool, lines: list[str]) -> None:
        for line in lines:
            typer.secho(line, fg=typer.colors.GREEN if ok else typer.colors.RED)

    if watch:
        try_again_and_again(file, tell)
        return
    ok, lines = verdict(file)
    tell(ok, lines)
    raise typer.Exit(0 if ok else 1)


class RoleName(StrEnum):
    viewer = "viewer"
    operator = "operator"
    maintainer = "maintainer"
    supervisor = "supervisor"
    engineer = "engineer"
    admin = "admin"


user_app = typer.Typer(help="People who sign in at the console.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(user_app, name="user")

UserName = Annotated[str, typer.Argument(help="The name that is typed to sign in.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make a one-time password and print it.")]


@user_app.command("add")
def user_add(
    name: UserName,
    role: Annotated[RoleName, typer.Option("--role", help="What they may do.")],
    full_name: Annotated[str, typer.Option("--full-name", help="What people call them.")] = "",
    kinds: Annotated[str | None, typer.Option("--kinds", help="Only these kinds of assets: lamp,pump …")] = None,
    towns: Annotated[str | None, typer.Option("--towns", help="Only assets in these towns.")] = None,
    units: Annotated[str | None, typer.Option("--units", help="Only assets of these units.")] = None,
    generate: Generate = False,
    config: Config = Path("citywatch.yaml"),
) -> None:
    """A new user. Asks for the password twice, or reads it as one line where nobody types."""
    from gateway import people
    from gateway.config.settings import load_settings
    from gateway.core.records import Role

    settings, scope = load_settings(config), people.scope_from(kinds, towns, units)
    password = None if generate else _new_password()
    made = people.add_user(settings, name, Role[role.value.upper()], full_name, scope, password)
    typer.echo(_one_time(made) if generate else f"{name} can sign in")


@user_app.command("password")
def user_password(name: UserName, generate: Generate = False, config: Config = Path("citywatch.yaml")) -> None:
    """Another password; the user's sessions end."""
    from gateway import people
    from gateway.config.settings import load_settings

    settings = load_settings(config)
    made = people.set_password(settings, name, None if generate else _new_password())
    typer.echo(_one_time(made) if generate else f"{name} has a new password")


@user_app.command("disable")
def user_disable(name: UserName, config: Config = Path("citywatch.yaml")) -> None:
    """The user cannot sign in any more; their sessions end."""
    from gateway import people
    from gateway.config.settings import load_settings

    people.disable(load_settings(config), name, disabled=True)
    typer.echo(f"{name} is disabled")


@user_app.command("enable")
def user_enable(name: UserName, config: Config = Path("citywatch.yaml")) -> None:
    """The user may sign in again."""
    from gateway import people
    from gateway.config.settings import load_settings

    people.disable(load_settings(config), name, disabled=False)
    typer.echo(f"{name} may sign in")


@user_app.command("list")
def user_list(config: Config = Path("citywatch.yaml"), json: Json = False) -> None:
    """All users, with role and scope."""
    import msgspec

    from gateway import people
    from gateway.config.settings import load_settings

    found = people.users(load_settings(config))
    if json:
        plain = [msgspec.to_builtins(user) | {"role": user.role.word} for user in found]
        typer.echo(jsonlib.dumps(plain, ensure_ascii=False))
        return
    for user in found:
        typer.echo(people.line_of(user))


def _one_time(password: str) -> str:
    return f"one-time password, shown only now: {password}"


def _new_password() -> str:
    """Typed twice on a terminal, else the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    import getpass

    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise CitywatchError("these were two different passwords; nothing was changed")
    return password


@app.command("test-rules")
def tell_stories(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Story files or folders; default: the shipped ones.")
    ] = None,
    rules: Annotated[Path | None, typer.Option("--rules", help="Rule file or folder to test instead.")] = None,
    json: Json = False,
) -> None:
    """Run stories against rules; exit 1 on a failed one, naming time, alarm, expected and got."""
    from gateway.config.stories import report, run_stories, to_json

    results = run_stories(paths or (), rules)
    failed = [result for result in results if not result.passed]
    if json:
        typer.echo(jsonlib.dumps([to_json(result) for result in results], ensure_ascii=False))
    else:
        for result in failed:
            head, *rest = report(result)
            typer.secho(head, fg=typer.colors.RED)
            for line in rest:
                typer.secho(line, fg=typer.colors.YELLOW if "expected" in line else None)
        typer.echo(f"{len(results) - len(failed)} stories hold, {len(failed)} do not")
    raise typer.Exit(1 if failed else 0)


@app.command()
def backtest(
    rules: Annotated[Path, typer.Argument(help="Rule file or folder to try.")],
    data: Annotated[Path, typer.Option("--data", help="Data folder of a gateway, running or not.", file_okay=False)],
    since: Annotated[str, typer.Option("--from", help="ISO 8601 with zone.")],
    until: Annotated[str, typer.Option("--to", help="ISO 8601 with zone.")],
) -> None:
    """What rules would have made of the readings that are kept: a JSON report, beside the rules in force."""
    from gateway.backtest import run_backtest

    typer.echo(jsonlib.dumps(run_backtest(rules, data, since, until), ensure_ascii=False, indent=2))


@app.command()
def drill(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario by name, or a file.")],
    seed: Annotated[int | None, typer.Option("--seed", help="Another city and other victims.")] = None,
    assets: Annotated[int | None, typer.Option("--assets", min=120, max=50_000, help="Size of the city.")] = None,
    speed: Annotated[
        str, typer.Option("--speed", help="max (no sockets), or times real time over real wires.")
    ] = "max",
    rules: Annotated[
        Path | None, typer.Option("--rules", help="Rules instead of the shipped ones.", exists=True)
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the JSON here, and an HTML page beside.")
    ] = None,
    json: Json = False,
) -> None:
    """A simulated city with known faults through the engine, and a verdict on the rules; exit 1 below the floor."""
    from gateway.drill import DrillOptions, as_text, drill, in_words, run_drill

    options = DrillOptions(scenario, seed, assets, None if speed == "max" else _speed(speed), rules)
    play = drill
    if options.speed is not None:
        from gateway.drill_live import live_drill as play  # the whole gateway, of which the other needs nothing
    answer = run_drill(options, report, play)
    typer.echo(as_text(answer) if json else in_words(answer))
    if not answer["passed"]:
        raise typer.Exit(1)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 3600:
        raise ConfigError([Mistake("--speed", None, "", f"max, or 1 to 3600, not {text!r}")])
    return speed


@app.command("import-assets")
def import_assets(
    file: Annotated[Path, typer.Argument(help="Assets and devices: .csv, .xlsx, .geojson, .yaml or .json.")],
    config: Config = Path("citywatch.yaml"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check, and say what would change.")] = False,
    json: Json = False,
) -> None:
    """Check an asset file and hand it to the gateway (running: taken in at once; stopped: at its next start)."""
    from gateway import inbox

    answer = inbox.dry_run(file, config) if dry_run else inbox.import_assets_command(file, config)
    typer.echo(jsonlib.dumps(answer, ensure_ascii=False) if json else answer["message"])


@app.command()
def export(
    what: Annotated[ExportName, typer.Argument(help="What to write: assets (with their devices).")],
    config: Config = Path("citywatch.yaml"),
    form: Annotated[ExportForm, typer.Option("--format", help="In which form.")] = ExportForm.csv,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: standard output.")] = None,
) -> None:
    """Write assets and devices as a file that `import-assets` understands."""
    from gateway.inbox import export_assets

    content = export_assets(config, form.value)
    if out is not None:
        out.write_bytes(content)
        typer.echo(f"wrote {out}")
    elif form is ExportForm.xlsx and sys.stdout.isatty():
        raise CitywatchError("an Excel file is no text: say --out FILE.xlsx")
    else:
        sys.stdout.buffer.write(content)


@app.command()
def doctor(config: Config = Path("citywatch.yaml"), json: Json = False) -> None:
    """Check ports, disk, clock, broker, database and sinks of the running configuration; one line each."""
    from gateway.doctor import examine

    findings = examine(config)
    if json:
        typer.echo(jsonlib.dumps([f.as_json() for f in findings], ensure_ascii=False))
    else:
        for finding in findings:
            typer.echo(str(finding))
    raise typer.Exit(0 if all(f.ok for f in findings) else 1)


@app.command()
def simulate(
    devices: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many devices speak.")] = 1000,
    rate: Annotated[str, typer.Option(help="Messages a second in all, or max: as many as the broker takes.")] = "max",
    mqtt: Annotated[
        str | None,
        typer.Option(
            "--mqtt",
            metavar="URL",
            help="The broker: mqtt://[user:password@]host[:port], or mqtts:// for TLS. User and password may stand in "
            "CITYWATCH_MQTT_USERNAME and CITYWATCH_MQTT_PASSWORD instead.",
        ),
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option("--for", help="Stop by itself after this long, e.g. 60s; default: at Ctrl-C.")
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", help="Write down every message: when sent, when acknowledged.")
    ] = None,
    assets_out: Annotated[
        Path | None, typer.Option("--assets-out", help="Write the asset file of these devices (.yaml .json .csv).")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=100_000, help="Connections the devices share.")] = 8,
    json: Json = False,
) -> None:
    """Load for a broker, with an account of every message; exit 1 when one was not acknowledged."""
    from gateway.simulate import LoadOptions, all_acknowledged, lines, run_load

    if mqtt is None and assets_out is None:
        raise typer.BadParameter("say where to send: --mqtt URL (or only --assets-out FILE)", param_hint="--mqtt")
    options = LoadOptions(
        devices,
        _rate(rate),
        mqtt,
        _seconds(stop_after) if stop_after is not None else None,
        ledger,
        assets_out,
        connections,
    )

    def show(now: dict[str, int]) -> None:
        counts = ", ".join(f"{name} {now[key]:,}" for name, key in _PROGRESS.items())
        typer.echo(f"\r{counts}\x1b[K", nl=False, err=True)

    watched = sys.stderr.isatty()
    summary = run_load(options, show if watched else None)
    if watched:
        typer.echo("\r\x1b[K", nl=False, err=True)
    if summary is None:
        typer.echo(jsonlib.dumps({"assets": str(assets_out)}) if json else f"wrote {assets_out}")
        return
    for line in [jsonlib.dumps(summary)] if json else lines(summary):
        typer.echo(line)
    raise typer.Exit(0 if all_acknowledged(summary) else 1)


_PROGRESS = {"sent": "sent", "acknowledged": "acked", "unacknowledged": "unacked", "connected": "connected"}


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which; default: all. `list` names them.")] = None,
    runs: Annotated[int, typer.Option("--runs", help="Runs of the fault campaign.")] = 20,
) -> None:
    """Run benchmarks and print their figures as JSON."""
    try:
        from bench.run import run_benchmarks
    except ImportError as error:
        raise CitywatchError(f"the benchmarks cannot be loaded: {error}") from error
    raise typer.Exit(run_benchmarks(names or [], runs=runs))


def _rate(text: str) -> float | None:
    """``"max"`` → None."""
    if text == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise typer.BadParameter(f"write max, or messages a second, not {text!r}", param_hint="--rate")
    return rate


def _seconds(text: str) -> float:
    from gateway.config.units import duration

    try:
        return duration(text) / 1e6
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from error


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command; turns errors into one line and an exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    if debug:
        words = [w for w in words if w != "--debug"]
    try:
        app(words, prog_name="citywatch")  # ends with SystemExit: 2 for wrong usage
    except ConfigError as error:
        if debug:
            raise
        for mistake in error.mistakes:
            typer.echo(str(mistake), err=True)
        sys.exit(2)
    except CitywatchError as error:
        if debug:
            raise
        _fail(str(error))
    except OSError as error:
        if debug:
            raise
        what = error.strerror or str(error) or type(error).__name__
        _fail(what + (f": {error.filename}" if error.filename else ""))


def _fail(message: str) -> NoReturn:
    typer.echo(f"citywatch: {message}", err=True)
    sys.exit(1)
