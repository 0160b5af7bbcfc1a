"""Bytes → samples: strict JSON, times as devices write them, TLV and frames; everything else is refused by name."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.binary import BinaryReader
from gateway.core.model import SECOND
from gateway.core.networks import bare_or_chirpstack
from gateway.core.payload import (
    AHEAD,
    MAX_SAMPLES,
    Refused,
    Sample,
    at_path,
    json_samples,
    read_document,
    read_json,
    read_time,
)
from gateway.core.profile import (
    BlockPayload,
    Channel,
    CodecPayload,
    Field,
    Form,
    FramePayload,
    FrameVariant,
    JsonPayload,
    Records,
    TlvPayload,
)

NOW = 1_753_000_000 * SECOND
SHAPE = JsonPayload()

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=8)
documents: st.SearchStrategy[Any] = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def refusal(read: Callable[[], object]) -> str | None:
    """The code of the refusal, which must have a reason; None when it was read."""
    try:
        read()
    except Refused as refused:
        return refused.code if str(refused) else "no reason"
    return None


@given(documents, st.booleans())
def test_every_honest_document_is_read_as_it_is(document: Any, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    got = read_json(text.encode())
    assert got == document or json.dumps(got) == json.dumps(document)


@given(st.dictionaries(texts, documents, min_size=1, max_size=4), st.data())
def test_a_key_that_stands_twice_is_found_whatever_is_around_it(document: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(document)))
    other = data.draw(documents)
    escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in key)
    name = data.draw(st.sampled_from([json.dumps(key), json.dumps(key, ensure_ascii=False), f'"{escaped}"']))
    text = json.dumps(document)[:-1] + f", {name}: {json.dumps(other)}}}"
    wrapped = data.draw(st.sampled_from(["{}", '[1, {}, "a:b"]', '{{"x:y": {}, "z": "\\u003a\\u003a"}}'])).format(text)
    with pytest.raises(Refused, match="twice"):
        read_json(wrapped.encode())


@given(st.binary(max_size=60))
def test_bytes_are_json_or_refused(payload: bytes) -> None:
    code = refusal(lambda: read_json(payload))
    assert code in (None, "bad_payload", "empty")


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", "empty", "empty"),
        (b" \n", "empty", "empty"),
        (b'{"a": 1', "bad_payload", "truncated"),
        (b'{"a": "\xff"}', "bad_payload", "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "bad_payload", "not UTF-8"),
        (b'{"a": "\\ud800"}', "bad_payload", "not JSON"),
        (b'{"a": NaN}', "bad_payload", "not JSON"),
        (b'{"a": Infinity}', "bad_payload", "not JSON"),
        (b'{"a": 1e999}', "bad_payload", "out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_payload", "out of range"),
        (b"{'a': 1}", "bad_payload", "not JSON"),
        (b'{"a": 1} x', "bad_payload", "not JSON"),
        (b'{"a": 01}', "bad_payload", "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "bad_payload", "not JSON"),
        (b"[" * 200 + b"]" * 200, "bad_payload", "deeper than 32"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "bad_payload", "deeper than 32"),
        (b"[" * 15_000, "bad_payload", "deeper than 32"),
        (b'{"a":' * 15_000, "bad_payload", "deeper than 32"),
        (b"[" * 100_000, "bad_payload", "more than 20000 values"),
        (b"[" + b"1," * 100_000 + b"1]", "bad_payload", "more than 20000 values"),
        (b'{"a": 1, "a": 2}', "bad_payload", "'a' stands there twice"),
        (b'{"values": {"power": 1, "power": 1}}', "bad_payload", "'power' stands there twice"),
        (b'{"t": "1:2", "a": 1, "\\u0061": 2}', "bad_payload", "'a' stands there twice"),
    ],
)
def test_what_is_no_clean_json_has_a_code_and_a_reason(payload: bytes, code: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        read_json(payload)
    assert caught.value.code == code


def test_thirty_two_levels_are_allowed() -> None:
    read_json(b"[" * 32 + b"]" * 32)


# -- telemetry documents ----------------------------------------------------------------------------------------------


def test_the_three_shapes() -> None:
    flat = json_samples({"ts": 5, "seq": 1, "power": 2}, SHAPE, "d")
    enveloped = json_samples({"ts": 5, "seq": 1, "values": {"power": 2}}, SHAPE, "d")
    assert flat == enveloped
    assert (flat[0].values, flat[0].time, flat[0].sequence, flat[0].historical) == ({"power": 2}, 5, 1, False)
    several = json_samples([{"ts": 5, "power": 2}, {"ts": 6, "historical": True, "values": {}}], SHAPE, "d")
    assert [(s.time, s.historical, s.values) for s in several] == [(5, False, {"power": 2}), (6, True, {})]


@pytest.mark.parametrize("sequence", ["7", 1.0, -1, True, 2**63, [1]])
def test_a_sequence_that_is_none_is_left_out_and_listed(sequence: object) -> None:
    sample = json_samples({"seq": sequence, "power": 1}, SHAPE, "d")[0]
    assert sample.sequence is None
    assert sample.extra == ("seq",)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (5, "bad_payload"),
        ("x", "bad_payload"),
        (None, "bad_payload"),
        ([1], "bad_payload"),
        ([], "empty"),
        ([{}] * (MAX_SAMPLES + 1), "bad_payload"),
        ({"values": [1]}, "bad_payload"),
        ({"device": "other", "power": 1}, "wrong_device"),
        ({"device_id": "other", "values": {}}, "wrong_device"),
    ],
)
def test_documents_of_no_known_shape(document: object, code: str) -> None:
    with pytest.raises(Refused) as caught:
        json_samples(document, SHAPE, "d")
    assert caught.value.code == code


def test_a_payload_may_name_its_own_device() -> None:
    assert json_samples({"device": "d", "power": 1}, SHAPE, "d")[0].values == {"power": 1}


@pytest.mark.parametrize(
    ("path", "value"),
    [(("a", 0, "b"), 5), (("a", -1, "b"), 5), (("a", 1, "b"), None), (("a", "b"), None), (("x",), None), ((), None)],
)
def test_paths(path: tuple[str | int, ...], value: object) -> None:
    assert at_path({"a": [{"b": 5}]}, path) == (value if path else {"a": [{"b": 5}]})


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [1_753_000_000, 1_753_000_000.0, 1_753_000_000_000, 1_753_000_000_000_000, 1_753_000_000_000_000_000,
     "2025-07-20T08:26:40Z", "2025-07-20T16:26:40+08:00", "2025-07-20T16:26:40", "2025-07-20 16:26:40",
     "2025-07-20T08:26:40.000000000Z"],
)  # fmt: skip
def test_the_same_instant_in_all_ways_of_writing_it(written: object) -> None:
    assert read_time(written, NOW + SECOND, 8 * 3600) == (NOW, True, None)


@pytest.mark.parametrize(
    "written", [0, 12, -5, 1_753_000_000 * 10**10, 4_102_444_800, 4_102_444_800_000, 10**9 * 31_556_952, 1e300,
                "1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "0001-01-01T00:00:00"],
)  # fmt: skip
def test_a_time_nobody_believes_is_replaced_and_named(written: object) -> None:
    time, believed, reason = read_time(written, NOW, 8 * 3600)
    assert (time, believed) == (NOW, False)
    assert reason is not None
    assert "not believed" in reason


def test_a_clock_a_little_ahead_is_kept_as_it_is() -> None:
    ahead = NOW + AHEAD
    assert read_time(ahead // SECOND, NOW, 0) == (ahead, True, None)
    assert read_time(ahead // SECOND + 1, NOW, 0)[1] is False


@pytest.mark.parametrize("written", ["", "yesterday", "2025-13-01", True, [], {}, "20:15"])
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(Refused) as caught:
        read_time(written, NOW, 0)
    assert caught.value.code == "bad_time"


def test_an_integer_beyond_64_bits_is_no_time() -> None:
    with pytest.raises(Refused, match="64 bits"):
        read_time(10**400, NOW, 0)


@given(documents)
def test_any_json_as_time_is_a_time_or_refused(written: Any) -> None:
    try:
        time, believed, reason = read_time(written, NOW, 0)
    except Refused:
        return
    assert believed or time == NOW
    assert written is None or believed is (reason is None)


@given(st.integers(1_300_000_000, 1_753_000_000), st.integers(0, 999_999))
def test_microseconds_survive_an_iso_time(second: int, micro: int) -> None:
    moment = datetime.fromtimestamp(second, UTC).replace(microsecond=micro)
    assert read_time(moment.isoformat(), NOW, 0) == (second * SECOND + micro, True, None)


# -- binary -----------------------------------------------------------------------------------------------------------

TLV = TlvPayload(
    2,
    {
        b"\x01\x75": Channel(1, (Field("battery", 0, Form("uint", 1), True),)),
        b"\x03\x67": Channel(2, (Field("temp", 0, Form("int", 2), True),)),
        b"\x20\xce": Channel(
            6, (Field("at", 0, Form("uint", 4), True), Field("temp", 4, Form("int", 2), True)), "at", True
        ),
        b"\xff\x0b": Channel(1),
    },
)
FRAMES = FramePayload(
    (
        FrameVariant(b"\x58", 3, 3, (Field("dim", 1, Form("uint", 2), False),)),
        FrameVariant(b"", 2, 4, (Field("a", 0, Form("uint", 1), False), Field("b", 3, Form("uint", 1), False)),
                     frozenset([2])),
    )
)  # fmt: skip


def test_channels_one_behind_the_other_and_history_with_its_own_time() -> None:
    now, old = BinaryReader(TLV).samples(bytes.fromhex("017564 20CE 01000000 FFFF FF0BFF 0367 0101"), None)
    assert now.values == {"battery": 100, "temp": 257}
    assert now.extra == ("channel FF 0B",)
    assert (old.values, old.time, old.historical) == ({"temp": -1}, 1, True)


@pytest.mark.parametrize(("data", "code"), [("", "empty"), ("0299", "unknown_points"), ("0367 01", "bad_payload")])
def test_tlv_that_cannot_be_read(data: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        BinaryReader(TLV).samples(bytes.fromhex(data), None)
    assert caught.value.code == code


def test_frames_are_told_apart_by_prefix_size_and_port() -> None:
    assert BinaryReader(FRAMES).samples(b"\x58\x01\x00", None)[0].values == {"dim": 256}
    assert BinaryReader(FRAMES).samples(b"\x07\x00", 2)[0].values == {"a": 7}  # the optional tail is missing
    assert BinaryReader(FRAMES).samples(b"\x07\x00\x00\x09", 2)[0].values == {"a": 7, "b": 9}
    for data, port in ((b"\x07\x00", 3), (b"\x07", 2), (b"\x07" * 5, 2)):
        with pytest.raises(Refused, match=r"bytes|begins"):
            BinaryReader(FRAMES).samples(data, port)


@given(st.binary(max_size=80), st.none() | st.integers(0, 255))
def test_any_bytes_are_samples_or_refused(data: bytes, fport: int | None) -> None:
    for payload in (TLV, FRAMES):
        code = refusal(partial(BinaryReader(payload).samples, data, fport))
        assert code in (None, "empty", "unknown_points", "bad_payload")


@given(st.binary(min_size=1, max_size=40))
def test_an_envelope_is_opened_and_bare_bytes_are_themselves(data: bytes) -> None:
    envelope = json.dumps({"fPort": 85, "fCnt": 3, "data": base64.b64encode(data).decode()}).encode()
    uplink = bare_or_chirpstack(envelope)
    assert (uplink.data, uplink.fport, uplink.counter) == (data, 85, 3)
    if not data.startswith(b"{"):
        assert bare_or_chirpstack(data).data == data


@pytest.mark.parametrize(
    "envelope", [b'{"fPort": 85}', b'{"data": 5}', b'{"data": "not base64!"}', b'{"data": "AA"}', b"{}"]
)
def test_an_envelope_without_bytes_is_refused(envelope: bytes) -> None:
    with pytest.raises(Refused):
        bare_or_chirpstack(envelope)


# -- records, blocks, codecs, CBOR ------------------------------------------------------------------------------------

RECORDS = FramePayload(
    (
        FrameVariant(b"\x01", 2, 200, (Field("battery", 1, Form("uint", 1), False),), None,
                     Records(2, 2, (Field("level", 0, Form("int", 2), False),), None, 60 * SECOND)),
        FrameVariant(b"\x02", 1, 200, (), None,
                     Records(1, 5, (Field("at", 0, Form("uint", 4), False), Field("level", 4, Form("uint", 1), False)),
                             "at", 0, False, True)),
        FrameVariant(b"\x03", 1, 200, (), None,
                     Records(1, 1, (Field("level", 0, Form("uint", 1), False),), None, SECOND, True)),
    )
)  # fmt: skip
BLOCKS = BlockPayload(
    (
        Channel(2, (Field("level", 0, Form("uint", 2), False),)),
        Channel(2, (Field("battery", 0, Form("uint", 2), False),)),
    )
)


def test_the_records_of_a_frame_are_samples_with_their_own_times() -> None:
    whole, newest, older = BinaryReader(RECORDS).samples(b"\x01\x64\x00\x05\xff\xff", None)
    assert (whole.values, newest.values, older.values) == ({"battery": 100}, {"level": 5}, {"level": -1})
    assert (whole.age, newest.age, older.age) == (0, 0, 60 * SECOND)
    [kept] = BinaryReader(RECORDS).samples(b"\x02\x68\x7c\xa0\x00\x07", None)
    assert (kept.values, kept.time, kept.historical) == ({"level": 7}, 0x687CA000, True)
    first, second = BinaryReader(RECORDS).samples(b"\x03\x01\x02", None)
    assert (first.age, second.age) == (SECOND, 0)
    with pytest.raises(Refused, match="the last record has 1 of 2 bytes"):
        BinaryReader(RECORDS).samples(b"\x01\x64\x00", None)


def test_a_frame_that_is_no_measurement_is_a_remark() -> None:
    frames = FramePayload((FrameVariant(b"", 1, 255, (), frozenset([4]), remark="settings"),))
    [sample] = BinaryReader(frames).samples(b"\x01\x02", 4)
    assert (sample.values, sample.extra) == ({}, ("settings",))
    with pytest.raises(Refused):
        BinaryReader(frames).samples(b"\x01\x02", 5)


def test_blocks_come_where_the_flags_say() -> None:
    assert BinaryReader(BLOCKS).samples(bytes.fromhex("02 0001 0003 0005 0C80"), None)[0].values == {
        "level": 5, "battery": 3200,
    }  # fmt: skip
    assert BinaryReader(BLOCKS).samples(bytes.fromhex("02 0001 0002 0C80"), None)[0].values == {"battery": 3200}
    for data, said in (
        ("02 0001 0003 0005", "truncated"), ("02 0001 0002 0C80 00", "more than"), ("02 0001 0004 0000", "announce"),
        ("01 0001 0002 0C80", "begins"), ("02 00", "begins"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=said):
            BinaryReader(BLOCKS).samples(bytes.fromhex(data), None)


def test_whatever_a_codec_does_the_frame_is_samples_or_refused() -> None:
    def decode(data: bytes, _: int | None) -> Any:
        if data[0] == 1:
            return [Sample({"level": data[1]})]
        if data[0] == 2:
            raise Refused("unknown_points", "not mine")
        return "nonsense"

    codec = CodecPayload(decode, ("level",))
    assert BinaryReader(codec).samples(b"\x01\x07", None)[0].values == {"level": 7}
    for data, said in ((b"\x01", "IndexError"), (b"\x02", "not mine"), (b"\x03", "no list")):
        with pytest.raises(Refused, match=said):
            BinaryReader(codec).samples(data, None)


def test_cbor_is_read_as_json_would_be() -> None:
    document = {"ts": 1_753_000_000, "values": {"level": 1.5, "wet": True, 5: None}}
    assert read_document(cbor2.dumps(document)) == {
        "ts": 1_753_000_000,
        "values": {"level": 1.5, "wet": True, "5": None},
    }
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    for payload, said in (
        (cbor2.dumps([1.5])[:-1], "not CBOR"), (cbor2.dumps([1]) + b"\x00", "behind its end"),
        (cbor2.dumps([math.nan]), "NaN"), (cbor2.dumps([b"x"]), "bytes"), (cbor2.dumps({(1, 2): 3}), "a key"),
        (cbor2.dumps(deep), "deeper"), (cbor2.dumps(cycle, value_sharing=True), "deeper"),
        (b"\x9b" + b"\xff" * 8, "CBOR"),
        (cbor2.dumps([0] * 30_000), "more than"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=said):
            read_document(payload)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    for payload in (data, b"\x82" + data, b"\xa1" + data, b"\xc1" + data):
        assert refusal(partial(read_document, payload)) in (None, "bad_payload", "empty")
