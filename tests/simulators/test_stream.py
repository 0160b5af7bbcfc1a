"""A scenario as a stream of records: framed, in the order of time, and the same every time."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulators.__main__ import main
from simulators.city import read_modbus_ports
from simulators.messages import Message, Note, Poll
from simulators.simulation import Done
from simulators.stream import record, stream
from simulators.truth import Expected, Hazard
from tests.simulators.playing import scenario

ROOT = Path(__file__).parents[2]
SHORT = scenario(
    {"at": 30, "do": "cover-opened", "asset": {"kind": "manhole"}, "for": "4m"},
    {"at": 40, "do": "station-answers-late", "asset": "PS-01", "for": "1m"},
    {"at": 50, "do": "overload", "asset": {"kind": "bridge"}},
    {"at": 60, "do": "messages-late", "share": 0.3, "for": "4m"},
    {"at": 100, "do": "lamp-fails", "asset": {"kind": "lamp"}},
    scenario="short",
    lasts="6m",
    pace="demo",
    seed=5,
    weather={"rain": [{"at": 100, "shower": {"peak": 20, "lasts": "5m"}}]},
    enable=["gas-leak"],
    floor={"recall": 0.9},
)
START_US = round(SHORT.start.timestamp() * 1e6)


def played(seed: int | None = None, assets: int | None = None) -> bytes:
    out = io.BytesIO()
    stream(SHORT, seed, assets, out)
    return out.getvalue()


def records_of(data: bytes) -> list[list[Any]]:
    """As the format says: four bytes of length, big-endian, and that many of MessagePack."""
    records = []
    while data:
        size, data = int.from_bytes(data[:4], "big"), data[4:]
        assert len(data) >= size
        records.append(msgspec.msgpack.decode(data[:size]))
        data = data[size:]
    return records


@pytest.fixture(scope="module")
def whole() -> bytes:
    return played()


@pytest.fixture(scope="module")
def records(whole: bytes) -> list[list[Any]]:
    return records_of(whole)


def test_two_runs_give_the_same_bytes_and_another_seed_others(whole: bytes) -> None:
    assert played() == whole
    assert played(5, 120) == whole, "the scenario's own seed and size"
    assert played(6) != whole
    assert len(records_of(played(5, 130))[0][1]["assets"]["assets"]) == 130


def test_it_begins_with_what_it_is_and_ends_with_its_end(records: list[list[Any]]) -> None:
    name, begin = records[0]
    assert name == "begin"
    document = begin["assets"]
    assert {key: value for key, value in begin.items() if key != "assets"} == {
        "scenario": "short", "title_zh": "试验", "title_en": "A test", "seed": 5, "start": START_US, "lasts_s": 360.0,
        "enable": ["gas-leak"], "floor": {"recall": 0.9},
    }  # fmt: skip
    assert len(document["assets"]) == 120
    addresses = [device["address"] for device in document["devices"]]
    assert len(set(addresses)) == len(addresses)
    assert records[-1] == ["end", 360_000_000]
    assert [one[0] for one in records].count("begin") == [one[0] for one in records].count("end") == 1


def test_its_asset_document_can_be_written_as_an_asset_file(tmp_path: Path, records: list[list[Any]]) -> None:
    path = tmp_path / "assets.json"
    path.write_bytes(msgspec.json.encode(records[0][1]["assets"]))
    assert len(read_modbus_ports(path)) == 6


def test_every_record_is_of_a_known_shape(records: list[list[Any]]) -> None:
    shapes: dict[str, list[type | tuple[type, ...]]] = {
        "begin": [dict], "mqtt": [int, str, bytes], "hj212": [int, bytes], "act": [dict], "due": [dict],
        "hazard": [dict], "modbus": [int, str, bytes, (str, type(None))], "now": [int], "end": [int],
    }  # fmt: skip
    for name, *values in records:
        assert len(values) == len(shapes[name])
        assert all(isinstance(value, kind) for value, kind in zip(values, shapes[name], strict=True)), name
    assert {one[0] for one in records} == set(shapes)


def test_what_is_said_comes_in_the_order_of_its_time_and_each_minute_says_how_far_it_is(
    records: list[list[Any]],
) -> None:
    timed = [(name, values[0]) for name, *values in records if name in ("mqtt", "hj212", "modbus", "now")]
    assert [at for _, at in timed] == sorted(at for _, at in timed)
    assert [at for name, at in timed if name == "now"] == [60_000_000 * minute for minute in range(1, 7)]
    assert all(0 <= at <= 360_000_000 for _, at in timed)


def test_truth_is_told_no_later_than_it_is_due_and_never_of_the_future(records: list[list[Any]]) -> None:
    now = 0
    kinds = []
    for name, *values in records:
        if name in ("mqtt", "hj212", "modbus", "now", "end"):
            now = values[0]
        elif name == "due":
            kinds.append(values[0]["rule"])
            assert values[0]["since"] <= values[0]["due"] <= now + 30_000_000
            assert set(values[0]) == {"asset", "rule", "level", "since", "due", "delay", "interval"}
        elif name == "hazard":
            assert set(values[0]) == {"asset", "rule", "since", "until"}
            assert values[0]["until"] is None or values[0]["since"] < values[0]["until"]
    assert {"manhole-open", "bridge-overload", "station-stale"} <= set(kinds)


def test_acts_are_told_when_they_are_over_and_the_rest_at_the_end(records: list[list[Any]]) -> None:
    acts = {values[0]["cause"]: values[0] for name, *values in records if name == "act"}
    seconds = {cause: (act["since"] // 10**6, act["until"] and act["until"] // 10**6) for cause, act in acts.items()}
    assert seconds == {
        "cover-opened": (30, 270), "station-answers-late": (40, 100), "overload": (50, 50), "messages-late": (60, 300),
        "lamp-fails": (100, None),
    }  # fmt: skip
    assert records[-2][0] in ("act", "hazard"), "what still goes on is told last"


def test_a_device_that_does_not_answer_has_a_reason_and_no_words(records: list[list[Any]]) -> None:
    polls = [values for name, *values in records if name == "modbus" and values[1] == "plc-01"]
    failed = [at // 1_000_000 for at, _, words, error in polls if error is not None and words == b""]
    assert failed == list(range(failed[0], failed[0] + 60, 5))
    assert 40 <= failed[0] < 45
    assert all(len(words) == 78 for _, _, words, error in polls if error is None)


@pytest.mark.parametrize(
    ("happening", "expected"),
    [
        (Message(1.5, "d", 1, "t/x", b"hi"), ("mqtt", 1_500_000, "t/x", b"hi")),
        (Message(0.0000014, "d", 1, "hj212", b"##"), ("hj212", 1, b"##")),
        (Poll(2.0, "plc", b"\x00\x01"), ("modbus", 2_000_000, "plc", b"\x00\x01", None)),
        (Poll(2.0, "plc", b"", "no answer"), ("modbus", 2_000_000, "plc", b"", "no answer")),
        (Note(1.0, "lamp-fails", "L", "begin", "坏", "bad"), None),
        (
            Done("a-0", "a", "L", "坏", "bad", 1.0, None, ("M",)),
            ("act", {"act": "a-0", "cause": "a", "asset": "L", "zh": "坏", "en": "bad", "since": 1_000_000,
                     "until": None, "scope": ["M"]}),
        ),
        (
            Expected("L", "r", 2, 1.0, 3.0, 1.0, 0.5),
            ("due", {"asset": "L", "rule": "r", "level": 2, "since": 1_000_000, "due": 3_000_000, "delay": 1_000_000,
                     "interval": 500_000}),
        ),
        (Hazard("L", "r", 1.0, None), ("hazard", {"asset": "L", "rule": "r", "since": 1_000_000, "until": None})),
        (Hazard("L", "r", 1.0, 2.0), ("hazard", {"asset": "L", "rule": "r", "since": 1_000_000, "until": 2_000_000})),
    ],
)  # fmt: skip
def test_a_happening_becomes_its_record(happening: Any, expected: tuple[object, ...] | None) -> None:
    assert record(happening) == expected


def test_a_listener_that_goes_away_ends_it() -> None:
    class Gone(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        stream(SHORT, None, None, Gone())  # type: ignore[arg-type]


def command(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "simulators", "stream", *arguments],
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


def test_the_command_writes_the_same_bytes_in_another_process(tmp_path: Path, whole: bytes) -> None:
    """Another process has another hash seed: no order of a set may have got into it."""
    path = tmp_path / "short.yaml"
    text = SHORT.model_dump_json(exclude_defaults=True, by_alias=True)
    path.write_text(text, encoding="utf-8")
    done = command(str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == whole
    assert done.stderr == b""


def test_the_command_refuses_what_it_cannot_play_with_words_and_no_bytes(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("scenario: wrong\n", encoding="utf-8")
    assert main(["stream", str(path)]) == 2
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert err.decode().splitlines()[0] == "stream: wrong.yaml: title: Field required"
    assert main(["stream", "nowhere"]) == 2
    assert b"there is no scenario 'nowhere'" in capfdbinary.readouterr().err
