"""gateway.sources.gmqtt_ack: packets out of any stream of bytes, and acknowledgements only after the commit."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from gmqtt.mqtt.package import Package
from hypothesis import given
from hypothesis import strategies as st

from gateway.sources import gmqtt_ack
from gateway.sources.gmqtt_ack import MAX_PAYLOAD, PUBACK, PUBREC, AckAfterCommit, AckTally, OneConnection
from tests.sources.raw_broker import length, publish

Message = tuple[str, bytes, bool, bool]


class Cut:
    """A connection without a socket: bytes in, messages and other packets out."""

    def __init__(self, version: int = 5) -> None:
        self.messages: list[Message] = []
        self.others: list[Package] = []
        self.durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.owner = OneConnection("id", self._receive, AckTally())
        self.owner._has_properties = version == 5
        self._connection: Any = self
        self._last_data_in = 0.0
        self.aborted = False
        self.owner._connection = self
        self._transport = self
        self.protocol = gmqtt_ack._Protocol(self.owner, None, None)
        self.protocol._connection = self

    def _receive(self, topic: str, payload: bytes, retained: bool, duplicate: bool) -> asyncio.Future[int]:
        self.messages.append((topic, payload, retained, duplicate))
        return self.durable

    def put_package(self, package: Package) -> None:
        self.others.append(package)

    def abort(self) -> None:
        self.aborted = True


packets = st.lists(
    st.one_of(
        st.builds(
            lambda topic, payload, qos, properties: (
                publish(topic, payload, 9, qos=qos, properties=properties),
                (topic, payload),
            ),
            st.text("abc/é城", min_size=1, max_size=40),
            st.binary(max_size=300),
            st.integers(0, 2),
            st.binary(max_size=200),
        ),
        st.just((b"\xd0\x00", None)),
    ),
    max_size=8,
)


@given(wanted=packets, cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_however_the_stream_is_cut_the_same_messages_come_out(
    wanted: list[tuple[bytes, tuple[str, bytes] | None]], cuts: list[int]
) -> None:
    async def run() -> None:
        stream = b"".join(packet for packet, _ in wanted)
        places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        cut = Cut()
        for start, stop in pairwise(places):
            cut.protocol.data_received(stream[start:stop])
        assert [message[:2] for message in cut.messages] == [message for _, message in wanted if message is not None]
        assert len(cut.others) == sum(message is None for _, message in wanted)
        assert not cut.aborted

    asyncio.run(run())


@given(st.binary(max_size=600))
def test_no_bytes_whatever_raise_into_the_event_loop(data: bytes) -> None:
    async def run() -> None:
        cut = Cut()
        cut.protocol.data_received(data)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("payload", "step"),
    [
        (MAX_PAYLOAD, 1000),
        (MAX_PAYLOAD + 1, 1000),
        *((size, step) for size in (MAX_PAYLOAD + 1, MAX_PAYLOAD + 200_000, 3_000_000) for step in (65536, 10_000_000)),
    ],
)
async def test_a_message_that_is_too_long_is_cut_to_one_byte_too_long(payload: int, step: int) -> None:
    cut = Cut()
    stream = publish("a/b", b"x" * payload, 5) + publish("a/c", b"behind it", 6)
    for start in range(0, len(stream), step):
        cut.protocol.data_received(stream[start : start + step])
        assert len(cut.protocol._rest) <= gmqtt_ack.MAX_PACKET + step + 10
    assert [(topic, len(body)) for topic, body, *_ in cut.messages] == [
        ("a/b", min(payload, MAX_PAYLOAD + 1)),
        ("a/c", 9),
    ]


@pytest.mark.parametrize(
    ("why", "data"),
    [
        ("a length of five bytes", b"\x32\xff\xff\xff\xff\x01"),
        ("a topic longer than its packet", b"\x32\x04\x00\xff\x61\x62"),
        ("properties longer than their packet", b"\x32\x07\x00\x01\x61\x00\x01\x7f\x00"),
        ("an empty PUBLISH", b"\x32\x00"),
        ("an oversized packet that is no PUBLISH", b"\x90" + length(2_000_000) + b"\0" * 2_000_000),
    ],
)
async def test_a_stream_that_makes_no_sense_ends_the_connection(why: str, data: bytes) -> None:
    cut = Cut()
    for start in range(0, len(data), 65536):
        cut.protocol.data_received(data[start : start + 65536])
    assert cut.aborted, why
    assert "cannot be taken" in cut.owner.ended.result()


async def test_unknown_properties_are_skipped_by_their_length() -> None:
    cut = Cut()
    cut.protocol.data_received(publish("a/b", b"{}", properties=b"\x7e\x01\x02\x03" * 50))
    assert cut.messages == [("a/b", b"{}", False, False)]


async def test_a_topic_that_is_not_utf8_does_not_break_anything() -> None:
    cut = Cut(version=4)
    cut.protocol.data_received(publish(b"a/\xff\xfe", b"{}", properties=None))
    assert cut.messages == [("a/\\xff\\xfe", b"{}", False, False)]


# -- acknowledgements -------------------------------------------------------------------------------------------------


class Wire:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = True
        self.tally = AckTally()
        self.acks = AckAfterCommit(self.tally, self.written.append, lambda: self.open)


def future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


async def test_nothing_leaves_before_the_commit_and_everything_in_one_write_after_it() -> None:
    wire, batch = Wire(), future()
    wire.acks.owe(batch, PUBACK, b"\x00\x01")
    wire.acks.owe(batch, PUBREC, b"\x00\x02")
    wire.acks.owe(batch, PUBACK, b"\x01\x00")
    await asyncio.sleep(0)
    assert wire.written == []
    assert wire.acks.unacknowledged == 3
    batch.set_result(0)
    await wire.acks.settle(1)
    assert wire.written == [b"\x40\x02\x00\x01\x50\x02\x00\x02\x40\x02\x01\x00"]
    assert (wire.tally.sent, wire.tally.late, wire.acks.unacknowledged) == (3, 0, 0)


async def test_batches_are_acknowledged_each_in_its_own_time() -> None:
    wire, first, second = Wire(), future(), future()
    wire.acks.owe(first, PUBACK, b"\x00\x01")
    wire.acks.owe(second, PUBACK, b"\x00\x02")
    wire.acks.owe(first, PUBACK, b"\x00\x03")
    second.set_result(0)
    await asyncio.sleep(0)
    assert wire.written == [b"\x40\x02\x00\x02"]
    first.set_result(0)
    await asyncio.sleep(0)
    assert wire.written[1:] == [b"\x40\x02\x00\x01\x40\x02\x00\x03"]


async def test_a_batch_that_failed_is_never_acknowledged() -> None:
    wire, broken, dropped = Wire(), future(), future()
    wire.acks.owe(broken, PUBACK, b"\x00\x01")
    wire.acks.owe(dropped, PUBACK, b"\x00\x02")
    broken.set_exception(OSError("disk"))
    dropped.cancel()
    await asyncio.sleep(0)
    assert wire.written == []


async def test_after_the_end_of_its_connection_an_acknowledgement_is_dropped_and_counted() -> None:
    wire, batch = Wire(), future()
    wire.acks.owe(batch, PUBACK, b"\x00\x01")
    wire.open = False
    batch.set_result(0)
    await asyncio.sleep(0)
    assert wire.written == []
    assert (wire.tally.sent, wire.tally.late) == (0, 1)


async def test_settling_does_not_wait_for_ever() -> None:
    wire, batch = Wire(), future()
    wire.acks.owe(batch, PUBACK, b"\x00\x01")
    await wire.acks.settle(0.01)
    assert wire.acks.unacknowledged == 1
