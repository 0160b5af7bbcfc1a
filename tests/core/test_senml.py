"""SenML (RFC 8428): base fields, relative and absolute times, JSON and CBOR."""

from __future__ import annotations

import json

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import SECOND
from gateway.core.payload import Refused, read_document
from gateway.core.senml import is_senml, senml_samples

KNOWN = {"voltage", "current", "temp"}


def test_example_2_of_the_standard_two_quantities_of_one_device() -> None:
    [sample] = senml_samples(
        [
            {"bn": "urn:dev:ow:10e2073a01080063:", "n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "u": "A", "v": 1.2},
        ],
        KNOWN,
    )
    assert sample.values == {"voltage": {"value": 120.1, "unit": "V"}, "current": {"value": 1.2, "unit": "A"}}
    assert (sample.time, sample.age) == (None, 0)


def test_example_3_of_the_standard_six_times_from_one_base() -> None:
    records = [{"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.276020076001e9, "bu": "A", "bver": 5, "n": "voltage",
                "u": "V", "v": 120.1}]  # fmt: skip
    records += [{"n": "current", "t": t, "v": v} for t, v in ((-5, 1.2), (-4, 1.3), (-3, 1.4), (-2, 1.5), (-1, 1.6))]
    records += [{"n": "current", "v": 1.7}]
    samples = senml_samples(records, KNOWN)
    times = [sample.time for sample in samples]
    assert times == pytest.approx([1276020076.001 + t for t in (0, -5, -4, -3, -2, -1)])
    assert samples[0].values == {
        "voltage": {"value": 120.1, "unit": "V"}, "current": {"value": 1.7, "unit": "A"},
    }  # fmt: skip


def test_a_small_time_is_relative_to_now() -> None:
    earlier, now = senml_samples(
        [{"n": "temp", "u": "Cel", "t": -60, "v": 20}, {"n": "temp", "u": "Cel", "v": 21}], KNOWN
    )
    assert (earlier.time, earlier.age) == (None, 60 * SECOND)
    assert (now.time, now.age) == (None, 0)


def test_texts_booleans_sums_and_base_values() -> None:
    [sample] = senml_samples(
        [{"n": "state", "vs": "open"}, {"n": "wet", "vb": True}, {"bv": 20, "n": "temp", "u": "Cel", "v": 3.5},
         {"n": "energy", "s": 7, "bs": 100}, {"n": "blob", "vd": "aGk"}],
        KNOWN,
    )  # fmt: skip
    assert sample.values["state"] == "open"
    assert sample.values["wet"] is True
    assert sample.values["temp"] == {"value": 23.5, "unit": "Cel"}
    assert sample.values["energy"] == 107
    assert sample.extra == ("blob",)


def test_the_labels_of_cbor_are_numbers() -> None:
    packed = cbor2.dumps(
        [{-2: "urn:dev:mac:0024befffe804ff1:", 0: "voltage", 1: "V", 2: 120.1}, {0: "current", 2: 1.2}]
    )
    document = read_document(packed)
    assert is_senml(document)
    [sample] = senml_samples(document, KNOWN)
    assert sample.values == {"voltage": {"value": 120.1, "unit": "V"}, "current": 1.2}


@pytest.mark.parametrize(
    "record",
    [{"n": "a", "v": "1"}, {"n": 5, "v": 1}, {"n": "a", "v": 1, "secret_": 1}, {"n": "a", "bver": 11, "v": 1},
     {"n": "a", "t": "now", "v": 1}],
)  # fmt: skip
def test_what_is_not_senml_is_refused(record: dict[str, object]) -> None:
    if record.get("v") == "1":
        assert senml_samples([record], KNOWN)[0].values == {"a": "1"}  # the point says that a text is no number
        return
    with pytest.raises(Refused):
        senml_samples([record], KNOWN)


KEYS = st.sampled_from(["n", "bn", "v", "t", "bt", "u", "vs", "x_"])
json_values = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
)
records = st.dictionaries(KEYS, json_values | st.lists(json_values, max_size=2), max_size=4)


@given(st.lists(records, max_size=5))
def test_any_list_of_objects_is_samples_or_refused(document: list[dict[str, object]]) -> None:
    if not is_senml(document):
        return
    try:
        for sample in senml_samples(json.loads(json.dumps(document)), KNOWN):
            assert all(isinstance(name, str) for name in sample.values)
    except Refused:
        pass
