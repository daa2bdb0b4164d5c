"""Reads segments back: whole batches, and where and why they end."""

import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdl.frame import FRAME_BYTES, FRAME_DTYPE
from host.journal.batch import DECISION_DTYPE, Batch
from host.journal.layout import (
    BATCH_DTYPE,
    BATCH_END,
    BATCH_MAGIC,
    HEADER_BYTES,
    JOURNAL_VERSION,
    LINE_BYTES,
    SECTOR_BYTES,
    SEGMENT_DTYPE,
    SEGMENT_MAGIC,
    CorruptJournal,
    JournalError,
    batch_bytes,
    header_crc,
    segment_paths,
)


@dataclass
class Position:
    """Where the next batch belongs."""

    segment: int = 0
    offset: int = 0
    batch: int = 0
    sequence: int = 1
    chain: int = 0


@dataclass(frozen=True)
class TornTail:
    """The remains of a batch whose write was cut short. It had not been acknowledged."""

    path: Path
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path}: torn batch at byte {self.offset}, {self.length} bytes cut"


def _map(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        if path.stat().st_size < HEADER_BYTES:
            raise CorruptJournal(f"{path}: byte 0: the segment is shorter than its header")
        # A private mapping, so that the arrays have the same (writable) type as those of a BatchBuffer.
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)


def read_segment_header(path: Path, data: np.ndarray) -> np.ndarray:
    """The verified segment header. Raises JournalError for another version, CorruptJournal for damage."""
    header = data[:HEADER_BYTES].view(SEGMENT_DTYPE)[0]
    if header["magic"] != SEGMENT_MAGIC:
        raise CorruptJournal(f"{path}: byte 0: not a journal segment")
    if header["version"] != JOURNAL_VERSION:
        raise JournalError(f"{path}: byte 8: version {header['version']}, this program reads {JOURNAL_VERSION}")
    if header["crc"] != header_crc(header):
        raise CorruptJournal(f"{path}: byte 0: the segment header's CRC does not match")
    if header["bytes"] != len(data):
        raise CorruptJournal(f"{path}: the segment has {len(data)} bytes, its header says {header['bytes']}")
    return header


def _header_at(data: np.ndarray, offset: int) -> np.ndarray | None:
    """The batch header at ``offset`` if one was written there whole."""
    if offset + HEADER_BYTES > len(data):
        return None
    header = data[offset : offset + HEADER_BYTES].view(BATCH_DTYPE)[0]
    if header["magic"] != BATCH_MAGIC or header["crc"] != header_crc(header):
        return None
    total = batch_bytes(int(header["count"]), int(header["payload_bytes"]))
    if header["version"] != JOURNAL_VERSION or header["total_bytes"] != total or offset + total > len(data):
        return None
    return header


def _later_batch(data: np.ndarray, offset: int, number: int) -> int | None:
    """Where behind ``offset`` a batch with a number above ``number`` was begun, if anywhere.

    Such a batch is written only after the one before it has become durable.
    """
    lines = data[: len(data) // LINE_BYTES * LINE_BYTES].reshape(-1, LINE_BYTES)
    first = offset // LINE_BYTES + 1
    magics = lines[first:, :4].copy().view("<u4")[:, 0]
    for line in np.flatnonzero(magics == BATCH_MAGIC):
        place = (first + int(line)) * LINE_BYTES
        header = _header_at(data, place)
        if header is not None and header["batch"] > number:
            return place
    return None


def _follows(position: Position, header: np.ndarray, batch: str) -> bool:
    """Whether a header (its batch number in the field ``batch``) continues what was read so far."""
    found = (int(header[batch]), int(header["first_sequence"]), int(header["chain"]))
    return found == (position.batch, position.sequence, position.chain)


def _torn(data: np.ndarray, begin: int, end: int) -> bool:
    """Whether ``data[begin:end]`` looks like a write that was cut short over zeroed ground: its last byte or
    one of its sectors was never written."""
    if data[end - 1] == 0:
        return True
    edges = range(begin // SECTOR_BYTES * SECTOR_BYTES, end, SECTOR_BYTES)
    return any(not data[max(edge, begin) : min(edge + SECTOR_BYTES, end)].any() for edge in edges)


def scan_segment(path: Path, position: Position, last: bool) -> Iterator[Batch | TornTail]:
    """Yields the whole batches of one segment and moves ``position`` behind each of them.

    A torn tail is yielded at last, if this is the journal's ``last`` segment. Raises CorruptJournal with file
    and offset for everything else that is not as it was written.
    """
    data = _map(path)
    segment = read_segment_header(path, data)
    if not _follows(position, segment, "first_batch"):
        raise CorruptJournal(f"{path}: byte 0: the segment does not follow the one before it")
    position.offset = HEADER_BYTES
    while position.offset < len(data):
        begin = position.offset
        header = _header_at(data, begin)
        end = len(data) if header is None else begin + int(header["total_bytes"])
        if header is None:
            rest = data[begin:]
            if not rest.any():
                return
            # How long the batch was is unknown: a header that was cut short has zeros behind it, one whose sector
            # was not written is all zeros.
            written = int(np.flatnonzero(rest)[-1]) + 1
            torn = written < HEADER_BYTES or not rest[:HEADER_BYTES].any()
            end = begin + -(-written // LINE_BYTES) * LINE_BYTES
            cause = "not a batch header"
        elif zlib.crc32(data[begin + HEADER_BYTES : end].data) != header["body_crc"] or data[end - 1] != BATCH_END:
            torn = _torn(data, begin, end) and not data[end:].any()
            cause = f"the CRC of batch {header['batch']} does not match"
        else:
            if not _follows(position, header, "batch"):
                raise CorruptJournal(f"{path}: byte {begin}: batch {header['batch']} does not follow the one before it")
            batch = _batch(data, begin, header)
            position.offset = end
            position.batch += 1
            position.sequence += len(batch)
            position.chain = int(header["crc"])
            yield batch
            continue
        if last and torn and _later_batch(data, begin, position.batch) is None:
            yield TornTail(path, begin, end - begin)
            return
        raise CorruptJournal(f"{path}: byte {begin}: {cause}")


def _batch(data: np.ndarray, begin: int, header: np.ndarray) -> Batch:
    count, payload_bytes = int(header["count"]), int(header["payload_bytes"])
    frames = begin + HEADER_BYTES
    decisions = frames + count * FRAME_BYTES
    payload = decisions + count * DECISION_DTYPE.itemsize
    return Batch(
        number=int(header["batch"]),
        first_sequence=int(header["first_sequence"]),
        frames=data[frames:decisions].view(FRAME_DTYPE),
        decisions=data[decisions:payload].view(DECISION_DTYPE),
        payload=data[payload : payload + payload_bytes],
        epoch=int(header["epoch"]),
    )


def read_journal(directory: Path | str) -> Iterator[Batch]:
    """Reads every whole batch from the first one on, verifying all CRCs and the chain.

    A torn tail ends the journal silently: what it held had not been acknowledged (``Journal`` reports and cuts it
    when it opens the directory). Raises CorruptJournal, with file and offset, for anything else.
    """
    for item in scan_journal(Path(directory), Position()):
        if isinstance(item, Batch):
            yield item


def scan_journal(directory: Path, position: Position) -> Iterator[Batch | TornTail]:
    """As :func:`read_journal`, with the torn tail, and moving ``position`` along."""
    paths = segment_paths(directory)
    for index, (segment, path) in enumerate(paths):
        if segment != position.segment + 1:
            raise CorruptJournal(f"{path}: segment {position.segment + 1} is missing before it")
        position.segment = segment
        yield from scan_segment(path, position, last=index == len(paths) - 1)
