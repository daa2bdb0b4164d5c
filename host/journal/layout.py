"""How a journal looks on disk. See docs/gateway.md for the recovery rule.

A directory holds ``lock`` and segments ``00000001.journal``, ``00000002.journal``, …: one segment header, then
batches on 64-byte boundaries, then zeros. A batch is its header, its frames (64 bytes each), its decisions
(16 bytes each), its raw messages, zeros up to the last byte of a 64-byte line, and :data:`BATCH_END`.
"""

import zlib
from pathlib import Path

import numpy as np

from hdl.frame import FRAME_BYTES
from host.journal.batch import DECISION_DTYPE

LINE_BYTES = 64
SECTOR_BYTES = 512
"""What a disk writes whole or not at all; the unit in which torn writes are recognised."""

SEGMENT_MAGIC = int.from_bytes(b"TICKJRNL", "little")
BATCH_MAGIC = int.from_bytes(b"TKBT", "little")
JOURNAL_VERSION = 2
BATCH_END = 0xE5
"""The last byte of every batch. It is not 0, so a write that was cut short ends in a zero that should not be there."""

SEGMENT_DTYPE = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u4"),
        ("segment", "<u4"),
        ("bytes", "<u8"),
        ("first_batch", "<u8"),
        ("first_sequence", "<u8"),
        ("chain", "<u4"),
        ("gateway", "<u4"),
        ("reserved", "V12"),
        ("crc", "<u4"),
    ]
)
"""A segment's first 64 bytes. ``chain`` is the CRC of the batch before it (0: none), ``crc`` covers bytes 0 to 59."""

BATCH_DTYPE = np.dtype(
    [
        ("magic", "<u4"),
        ("version", "<u4"),
        ("batch", "<u8"),
        ("first_sequence", "<u8"),
        ("count", "<u4"),
        ("payload_bytes", "<u4"),
        ("total_bytes", "<u4"),
        ("epoch", "<u4"),
        ("chain", "<u4"),
        ("body_crc", "<u4"),
        ("reserved", "V12"),
        ("crc", "<u4"),
    ]
)
"""A batch's first 64 bytes. ``total_bytes`` is the whole batch with header, padding and end; ``body_crc`` is the
CRC-32 of everything behind the header; ``chain`` is ``crc`` of the batch before; ``crc`` covers bytes 0 to 59 and so,
through ``body_crc`` and ``chain``, everything that was written before."""

HEADER_BYTES = 64
assert SEGMENT_DTYPE.itemsize == BATCH_DTYPE.itemsize == HEADER_BYTES


class JournalError(Exception):
    """The journal cannot be read or written; the text names file, byte offset and cause."""


class CorruptJournal(JournalError):
    """Bytes that had been written whole are no longer what was written."""


def segment_path(directory: Path, segment: int) -> Path:
    """Where segment number ``segment`` (from 1) lies."""
    return directory / f"{segment:08d}.journal"


def segment_paths(directory: Path) -> list[tuple[int, Path]]:
    """The segments of a directory in order, with their numbers."""
    found = [(int(path.stem), path) for path in directory.glob("*.journal") if path.stem.isdigit()]
    return sorted(found)


def batch_bytes(count: int, payload_bytes: int) -> int:
    """Bytes that a batch of ``count`` orders takes on disk."""
    body = count * (FRAME_BYTES + DECISION_DTYPE.itemsize) + payload_bytes + 1
    return HEADER_BYTES + -(-body // LINE_BYTES) * LINE_BYTES


def header_crc(header: np.ndarray) -> int:
    """CRC-32 of a header's bytes before its ``crc`` field."""
    return zlib.crc32(header.tobytes()[: HEADER_BYTES - 4])
