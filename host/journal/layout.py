"""How a journal looks on disk. See docs/journal.md for the recovery rule.

A directory holds ``lock`` and segments ``00000001.journal``, ``00000002.journal``, …: one segment header, then
batches, then zeros. A batch is its header, its frames (64 bytes each), its decisions (16 bytes each), its raw
messages, zeros up to the last byte of a 64-byte line, and :data:`BATCH_END`. It begins where the batch before ends or,
if that was not durable when it was written, on the page behind.
"""

from collections import namedtuple
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from zlib_ng import zlib_ng

from hdl.frame import FRAME_BYTES
from host.journal.batch import DECISION_DTYPE

LINE_BYTES = 64
SECTOR_BYTES = 512
"""What a disk writes whole or not at all; the unit in which torn writes are recognised."""

PAGE_BYTES = 4096
"""What the kernel writes out in one piece. A page of which a sync is under way is not written again."""

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
        ("salt", "<u4"),
        ("reserved", "V8"),
        ("crc", "<u4"),
    ]
)
"""A segment's first 64 bytes. ``chain`` is the CRC of the batch before it (0: none), ``salt`` a random
number that is not 0, ``crc`` covers bytes 0 to 59."""

BATCH_DTYPE = np.dtype(
    [
        ("magic", "<u4"),
        ("version", "<u2"),
        ("kind", "<u2"),
        ("batch", "<u8"),
        ("first_sequence", "<u8"),
        ("count", "<u4"),
        ("payload_bytes", "<u4"),
        ("total_bytes", "<u4"),
        ("epoch", "<u4"),
        ("durable", "<u8"),
        ("chain", "<u4"),
        ("body_crc", "<u4"),
        ("salt", "<u4"),
        ("crc", "<u4"),
    ]
)
"""A batch's first 64 bytes. ``kind`` is ``host.journal.batch.BatchKind``; ``total_bytes`` is the whole batch with header,
padding and end; all batches with numbers below ``durable`` were durable before this one was written; ``body_crc`` is the
CRC-32 of everything behind the header; ``chain`` is ``crc`` of the batch before; ``salt`` is the segment's, so that no
client can send a message that passes for a batch; ``crc`` covers bytes 0 to 59 and so,
through ``body_crc`` and ``chain``, everything that was written before."""

BatchHeader: Any = namedtuple("BatchHeader", BATCH_DTYPE.names)  # type: ignore[misc, arg-type]
"""A batch header as numbers: reading one field of an array's row takes as long as all of these."""

_BATCH_STRUCT = Struct("<" + "".join({"<u2": "H", "<u4": "I", "<u8": "Q"}[each[1]] for each in BATCH_DTYPE.descr))


def unpack_batch_header(raw: bytes) -> Any:
    """64 bytes as a :class:`BatchHeader`, whatever they are."""
    return BatchHeader._make(_BATCH_STRUCT.unpack(raw))


HEADER_BYTES = 64
assert SEGMENT_DTYPE.itemsize == BATCH_DTYPE.itemsize == HEADER_BYTES

CRC_BYTES = 4
"""A header's last field."""


class JournalError(Exception):
    """The journal cannot be read or written; the text names file, byte offset and cause."""


class CorruptJournal(JournalError):
    """Bytes that had been written whole are no longer what was written."""


def check_segment_bytes(segment_bytes: int) -> None:
    """Raises ValueError for what is no size of a segment."""
    if segment_bytes < 2 * PAGE_BYTES or segment_bytes % PAGE_BYTES:
        raise ValueError(
            f"segment_bytes is {segment_bytes}; it must be a multiple of {PAGE_BYTES} and at least {2 * PAGE_BYTES}"
        )


def crc32(data: bytes | memoryview, value: int = 0) -> int:
    """The CRC-32 of ISO 3309, as ``zlib.crc32`` computes it at a tenth of the speed."""
    crc: int = zlib_ng.crc32(data, value)
    return crc


def segment_path(directory: Path, segment: int) -> Path:
    """Where segment number ``segment`` (from 1) lies."""
    return directory / f"{segment:08d}.journal"


def segment_paths(directory: Path) -> list[tuple[int, Path]]:
    """The segments of a directory in order, with their numbers."""
    found = [(int(path.stem), path) for path in directory.glob("*.journal") if path.stem.isdigit()]
    return sorted(found)


def next_page(offset: int) -> int:
    """The first page boundary at or behind ``offset``."""
    return -(-offset // PAGE_BYTES) * PAGE_BYTES


def batch_bytes(count: int, payload_bytes: int) -> int:
    """Bytes that a batch of ``count`` orders takes on disk."""
    body = count * (FRAME_BYTES + DECISION_DTYPE.itemsize) + payload_bytes + 1
    return HEADER_BYTES + -(-body // LINE_BYTES) * LINE_BYTES


def header_crc(header: np.ndarray | np.void) -> int:
    """CRC-32 of a header's bytes before its ``crc`` field."""
    return crc32(header.tobytes()[: HEADER_BYTES - CRC_BYTES])
