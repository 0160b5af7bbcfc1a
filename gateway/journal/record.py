"""One batch as it lies on the disk: encoded frames with a checksum of their own and a link to the batch before.

The CRC covers every column, position and hash included, so a row proves itself wherever it is found: in the table, in
the write-ahead log, or in a page of a file SQLite no longer opens. The hash chains each batch to the one before it, so
a batch that was taken out or rewritten (CRC and all) shows too.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from gateway.core.model import Frame, Micros

PAGE_SIZE = 4096  # larger pages make small batches dear (every commit writes whole pages), smaller ones gain nothing
SCHEMA = f"""
PRAGMA page_size = {PAGE_SIZE};
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE batch (
    position INTEGER PRIMARY KEY, frames INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
    crc INTEGER NOT NULL, hash BLOB NOT NULL, payload BLOB NOT NULL);
CREATE TABLE quarantine (
    position INTEGER PRIMARY KEY, reason TEXT NOT NULL, frames, first_at, last_at, crc, hash, payload);
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
COMMIT;
"""
COLUMNS = "position, frames, first_at, last_at, crc, hash, payload"
INSERT = f"INSERT OR IGNORE INTO batch ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"

HASH_SIZE = 16
FIRST_HASH = bytes(HASH_SIZE)  # what the batch at position 1 follows

_HEAD = struct.Struct("<qqqq")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Frame])


class Batch(NamedTuple):
    """One row of table ``batch``, columns in order."""

    position: int
    frames: int
    first_at: Micros
    last_at: Micros
    crc: int
    hash: bytes
    payload: bytes


def seal(position: int, frames: Sequence[Frame], previous_hash: bytes) -> Batch:
    """The batch that holds ``frames`` (at least one) at ``position`` behind the batch of ``previous_hash``."""
    payload = _encoder.encode(frames)
    head = (position, len(frames), frames[0].received_at, frames[-1].received_at)
    link = link_hash(position, payload, previous_hash)
    return Batch(*head, _crc(head, link, payload), link, payload)


def link_hash(position: int, payload: bytes, previous_hash: bytes) -> bytes:
    """BLAKE2b-128 over the hash before, the position and the payload."""
    link = blake2b(previous_hash, digest_size=HASH_SIZE)
    link.update(position.to_bytes(8, "little"))
    link.update(payload)
    return link.digest()


def open_batch(batch: Batch) -> list[Frame]:
    """The frames of a row read back. Raises ValueError with the reason when the row is not what ``seal`` made."""
    damage = find_damage(batch)
    if damage is not None:
        raise ValueError(damage)
    try:
        frames = _decoder.decode(batch.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"frames cannot be decoded: {error}") from error
    if len(frames) != batch.frames:
        raise ValueError(f"{len(frames)} frames where {batch.frames} were written")
    return frames


def find_damage(batch: Batch) -> str | None:
    """Why this row is not what was written, or None. Never raises, whatever the columns hold."""
    position, frames, first_at, last_at, crc, link, payload = batch
    if not all(isinstance(number, int) for number in (position, frames, first_at, last_at, crc)):
        return "a number column does not hold a number"
    if not isinstance(link, bytes) or not isinstance(payload, bytes):
        return "a bytes column does not hold bytes"
    if _crc((position, frames, first_at, last_at), link, payload) != crc:
        return "checksum does not match"
    return None


def _crc(head: tuple[int, int, int, int], link: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(link, zlib.crc32(_HEAD.pack(*head))))
