"""A device's own bytes → samples of raw values: Milesight-like TLV, fixed frames, Decentlab's blocks, codecs.

How each field is read is worked out once per profile, not once per frame. Everything here raises Refused for bytes that
are not what they should be, and nothing else, whatever the bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gateway.core.payload import MAX_BINARY, MAX_EXTRA, MAX_SAMPLES, Refused, Sample
from gateway.core.profile import (
    BlockPayload,
    Channel,
    CodecPayload,
    Field,
    FramePayload,
    FrameVariant,
    Records,
    TlvPayload,
)
from gateway.core.registers import RawValue, finish

BLOCK_VERSION, BLOCK_HEAD = 2, 5

_Reader: TypeAlias = Callable[[bytes, int], RawValue]
_Fields: TypeAlias = tuple[tuple[str, int, _Reader], ...]  # name, where it ends, how it is read


class BinaryReader:
    """Reads the payloads of one profile."""

    def __init__(self, payload: TlvPayload | FramePayload | BlockPayload | CodecPayload) -> None:
        self._samples: Callable[[bytes, int | None], list[Sample]]
        match payload:
            case TlvPayload():
                self._samples = _Tlv(payload).samples
            case FramePayload():
                self._samples = _Frames(payload).samples
            case BlockPayload():
                self._samples = _Blocks(payload).samples
            case CodecPayload():
                self._samples = _Codec(payload).samples

    def samples(self, data: bytes, fport: int | None) -> list[Sample]:
        """What ``data``, which came on ``fport`` (None: unknown), says. Raises Refused."""
        if not data:
            raise Refused("empty", "the payload is empty")
        if len(data) > MAX_BINARY:
            raise Refused("too_large", f"{len(data)} bytes; a binary payload has at most {MAX_BINARY}")
        return self._samples(data, fport)


class _Tlv:
    """Repeated head + data."""

    def __init__(self, payload: TlvPayload) -> None:
        self._head_size = payload.head_size
        self._channels: dict[bytes, tuple[Channel, _Fields]] = {
            head: (channel, _readers(channel.fields)) for head, channel in payload.channels.items()
        }

    def samples(self, data: bytes, _fport: int | None) -> list[Sample]:
        values: dict[str, RawValue] = {}
        samples: list[Sample] = []
        extra: list[str] = []
        at, end, head_size = 0, len(data), self._head_size
        while at < end:
            head = data[at : at + head_size]
            found = self._channels.get(head)
            if found is None:
                if at == 0:
                    raise Refused("unknown_points", f"begins with the unknown channel {_spaced(head)}")
                # Nobody can say how long an unknown channel is: what lies behind it is lost, what came before stands.
                extra.append(f"channel {_spaced(head)}")
                break
            channel, fields = found
            at += head_size
            if at + channel.size > end:
                raise Refused(
                    "bad_payload", f"truncated: channel {_spaced(head)} has {end - at} of {channel.size} bytes"
                )
            if channel.time is not None:
                if len(samples) >= MAX_SAMPLES:
                    raise Refused("bad_payload", f"more than {MAX_SAMPLES} samples in one message")
                own = {name: read(data, at) for name, _, read in fields}
                samples.append(Sample(own, own.pop(channel.time), historical=channel.historical))
            elif fields:
                for name, _, read in fields:
                    values[name] = read(data, at)
            elif len(extra) < MAX_EXTRA:
                extra.append(f"channel {_spaced(head)}")
            at += channel.size
        if values or extra or not samples:
            samples.insert(0, Sample(values, extra=tuple(extra)))
        return samples


class _Frames:
    """Whole frames of fixed layout."""

    def __init__(self, payload: FramePayload) -> None:
        self._variants = tuple(
            (variant, _readers(variant.fields), _readers(variant.records.fields) if variant.records is not None else ())
            for variant in payload.variants
        )

    def samples(self, data: bytes, fport: int | None) -> list[Sample]:
        size = len(data)
        nearest: str | None = None
        for variant, fields, of_records in self._variants:
            if variant.fports is not None and fport is not None and fport not in variant.fports:
                continue
            if not data.startswith(variant.prefix):
                continue
            if variant.at_least <= size <= variant.at_most:
                return _of_frame(data, variant, fields, of_records)
            nearest = f"{size} bytes; {variant.at_least} to {variant.at_most} were expected"
        raise Refused("bad_payload", nearest or f"no frame of this device begins with {_spaced(data[:4])}")


def _of_frame(data: bytes, variant: FrameVariant, fields: _Fields, of_records: _Fields) -> list[Sample]:
    """What a frame says once, and each of its records: a sample of its own."""
    values = _whole(data, 0, fields)
    if variant.remark is not None:
        return [Sample(values, extra=(variant.remark,))]
    records: Records | None = variant.records
    if records is None:
        return [Sample(values)]
    count, rest = divmod(len(data) - records.at, records.size)
    if rest:
        raise Refused("bad_payload", f"truncated: the last record has {rest} of {records.size} bytes")
    samples = [Sample(values)] if values else []
    for index in range(count):
        own = _whole(data, records.at + index * records.size, of_records)
        time = own.pop(records.time) if records.time is not None else None
        age = (count - 1 - index if records.oldest_first else index) * records.every
        samples.append(Sample(own, time, historical=records.historical, age=age))
    return samples


class _Blocks:
    """02, device id, flags, and the blocks the flags announce."""

    def __init__(self, payload: BlockPayload) -> None:
        self._blocks = tuple((block.size, _readers(block.fields)) for block in payload.blocks)

    def samples(self, data: bytes, _fport: int | None) -> list[Sample]:
        if len(data) < BLOCK_HEAD or data[0] != BLOCK_VERSION:
            raise Refused("bad_payload", f"no frame of this device begins with {_spaced(data[:BLOCK_HEAD])}")
        flags = int.from_bytes(data[3:5], "big")
        if flags >> len(self._blocks):
            raise Refused("bad_payload", f"the flags {flags:04X} announce blocks this device does not have")
        values: dict[str, RawValue] = {}
        at = BLOCK_HEAD
        for bit, (size, fields) in enumerate(self._blocks):
            if flags >> bit & 1:
                if at + size > len(data):
                    raise Refused("bad_payload", f"truncated: block {bit} has {len(data) - at} of {size} bytes")
                values |= _whole(data, at, fields)
                at += size
        if at != len(data):
            raise Refused("bad_payload", f"{len(data) - at} bytes more than the flags {flags:04X} announce")
        return [Sample(values)]


class _Codec:
    """The profile's own Python; whatever it raises or gives, this raises nothing but Refused."""

    def __init__(self, payload: CodecPayload) -> None:
        self._decode = payload.decode

    def samples(self, data: bytes, fport: int | None) -> list[Sample]:
        try:
            found = self._decode(data, fport)
        except Refused:
            raise
        except Exception as error:  # somebody else's code: what it does not survive is a frame it cannot read
            raise Refused("bad_payload", f"{type(error).__name__}: {str(error)[:160]}") from None
        if type(found) is not list or not all(type(sample) is Sample for sample in found) or len(found) > MAX_SAMPLES:
            raise Refused("bad_payload", f"the codec of this profile gave no list of at most {MAX_SAMPLES} samples")
        return found


# -- fields -----------------------------------------------------------------------------------------------------------


def _whole(data: bytes, start: int, fields: _Fields) -> dict[str, RawValue]:
    """The fields that lie whole in ``data``; an optional tail of a frame may be missing."""
    room = len(data) - start
    return {name: read(data, start) for name, end, read in fields if end <= room}


def _readers(fields: Sequence[Field]) -> _Fields:
    return tuple((field.name, field.at + field.form.size, _reader(field)) for field in fields)


_CODES = {("uint", 1): "B", ("int", 1): "b", ("uint", 2): "H", ("int", 2): "h", ("uint", 4): "I", ("int", 4): "i",
          ("uint", 8): "Q", ("int", 8): "q"}  # fmt: skip


def _reader(field: Field) -> _Reader:
    """A function that takes the field out of its channel; whole numbers, which nearly all are, the short way."""
    form, at, scale, sentinels = field.form, field.at, field.scale, field.sentinels
    code = _CODES.get((form.kind, form.size))
    low, high = form.low_bit, form.low_bit + form.width
    whole = not form.width or form.is_flag or form.kind == "uint" or high == 8 * form.size
    if code is None or not whole:
        return lambda data, start: finish(
            form, data[start + at : start + at + form.size], field.little, scale, sentinels
        )
    take = struct.Struct(("<" if field.little else ">") + code).unpack_from
    if form.is_flag:
        bit = 1 << low
        return lambda data, start: bool(take(data, start + at)[0] & bit)
    mask = (1 << form.width) - 1 if form.width and form.kind == "uint" else -1
    if sentinels:

        def careful(data: bytes, start: int) -> RawValue:
            return finish(form, data[start + at : start + at + form.size], field.little, scale, sentinels)

        bare = not form.width and scale.is_identity
        if not bare:
            return careful

        def checked(data: bytes, start: int) -> RawValue:
            value: int = take(data, start + at)[0]
            return careful(data, start) if value in sentinels else value

        return checked
    numerator, denominator, offset = scale.numerator, scale.denominator, scale.offset
    if offset:
        return lambda data, start: scale(take(data, start + at)[0] >> low & mask)
    if denominator != 1:
        return lambda data, start: (take(data, start + at)[0] >> low & mask) * numerator / denominator
    if numerator != 1:
        return lambda data, start: (take(data, start + at)[0] >> low & mask) * numerator
    if low or mask != -1:
        return lambda data, start: take(data, start + at)[0] >> low & mask
    return lambda data, start: take(data, start + at)[0]


def _spaced(data: bytes) -> str:
    return data.hex(" ").upper()
