"""Reads a journal back: whole batches, and where and why they end. See docs/journal.md for the recovery rule."""

import fcntl
import mmap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

from hdl.frame import FRAME_BYTES, FRAME_DTYPE
from host.journal.batch import DECISION_DTYPE, Batch, BatchKind
from host.journal.layout import (
    BATCH_END,
    BATCH_MAGIC,
    CRC_BYTES,
    HEADER_BYTES,
    JOURNAL_VERSION,
    LINE_BYTES,
    SECTOR_BYTES,
    SEGMENT_DTYPE,
    SEGMENT_MAGIC,
    CorruptJournal,
    JournalError,
    batch_bytes,
    crc32,
    header_crc,
    next_page,
    segment_path,
    segment_paths,
    unpack_batch_header,
)

RETRIES = 3
RETRY_SECONDS = 0.02
"""A reader beside the writer may see a later batch before an earlier one: what looks damaged is looked at again."""

CHUNK_BYTES = 1 << 20

_KINDS = {int(kind): kind for kind in BatchKind}
_SALT = Struct("<I")
_SALT_OFFSET = SEGMENT_DTYPE.fields["salt"][1]  # type: ignore[index]


class Position(NamedTuple):
    """Where the next batch belongs: behind ``batch`` batches and the order ``sequence - 1``, whose CRC is ``chain``."""

    segment: int = 1
    offset: int = HEADER_BYTES
    batch: int = 0
    sequence: int = 1
    chain: int = 0


class Extent(NamedTuple):
    """Bytes of a segment that hold remains of batches."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class TornTail:
    """The remains of batches whose writing was cut short. None of them had been acknowledged."""

    path: Path
    offset: int
    extents: tuple[Extent, ...]

    @property
    def length(self) -> int:
        """Bytes that are cut."""
        return sum(extent.length for extent in self.extents)

    def __str__(self) -> str:
        return f"{self.path}: torn batch at byte {self.offset}, {self.length} bytes cut"


def is_written(directory: Path) -> bool:
    """Whether a writer holds the directory now."""
    try:
        with (directory / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


class SegmentGone(JournalError):
    """Retention took a segment away while it was to be read."""


def map_segment(path: Path) -> np.ndarray:
    """A segment's bytes. Raises SegmentGone when it is not there, CorruptJournal when it has no room for a header."""
    try:
        with path.open("rb") as file:
            # Retention makes no new segment of a file that is read: the lock holds as long as the mapping does.
            fcntl.flock(file, fcntl.LOCK_SH)
            if path.stat().st_size < HEADER_BYTES:
                raise CorruptJournal(f"{path}: byte 0: the segment is shorter than its header")
            # A private mapping, so that the arrays have the same (writable) type as those of a BatchBuffer.
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
    except FileNotFoundError:
        raise SegmentGone(f"{path}: the segment is gone: retention has deleted it") from None


def read_segment_header(path: Path, data: np.ndarray) -> np.void | None:
    """The verified segment header, None where none was written yet. Raises JournalError for another version,
    CorruptJournal for damage."""
    header: np.void = data[:HEADER_BYTES].view(SEGMENT_DTYPE)[0]
    if not data[:HEADER_BYTES].any():
        return None
    if header["magic"] != SEGMENT_MAGIC:
        raise CorruptJournal(f"{path}: byte 0: not a journal segment")
    if header["version"] != JOURNAL_VERSION:
        raise JournalError(f"{path}: byte 8: version {header['version']}, this program reads {JOURNAL_VERSION}")
    if header["crc"] != header_crc(header):
        raise CorruptJournal(f"{path}: byte 0: the segment header's CRC does not match")
    if segment_path(path.parent, int(header["segment"])) != path:
        raise CorruptJournal(f"{path}: byte 12: the header is of segment {header['segment']}")
    if header["bytes"] != len(data):
        raise CorruptJournal(f"{path}: the segment has {len(data)} bytes, its header says {header['bytes']}")
    return header


def header_at(data: np.ndarray, offset: int) -> Any | None:
    """The batch header (:class:`BatchHeader`) at ``offset`` of a segment's ``data`` if one was written there whole. Where the segment's header
    is missing, whatever its salt."""
    if offset + HEADER_BYTES > len(data):
        return None
    # A copy: the writer may be at work.
    raw = data[offset : offset + HEADER_BYTES].tobytes()
    header = unpack_batch_header(raw)
    if header.magic != BATCH_MAGIC or header.crc != crc32(raw[:-CRC_BYTES]):
        return None
    total = batch_bytes(header.count, header.payload_bytes)
    if header.version != JOURNAL_VERSION or header.total_bytes != total or offset + total > len(data):
        return None
    (salt,) = _SALT.unpack_from(data.data, _SALT_OFFSET)
    if salt and header.salt != salt:
        return None
    return header if header.kind in _KINDS else None


def batch_at(data: np.ndarray, begin: int, header: Any) -> Batch:
    """The batch whose header stands at ``begin``, as views; its body is not verified."""
    frames = begin + HEADER_BYTES
    decisions = frames + header.count * FRAME_BYTES
    payload = decisions + header.count * DECISION_DTYPE.itemsize
    return Batch(
        header.batch,
        header.first_sequence,
        # A view of a slice of another dtype takes twice as long.
        np.ndarray(header.count, FRAME_DTYPE, data, frames),
        np.ndarray(header.count, DECISION_DTYPE, data, decisions),
        data[payload : payload + header.payload_bytes],
        header.epoch,
        _KINDS[header.kind],
    )


def read_journal(directory: Path | str, after: Position | None = None) -> "JournalReader":
    """Reads every whole batch behind ``after`` (None: from the first one on), verifying all CRCs and the chain.

    A torn tail ends the journal silently: what it held had not been acknowledged (``Journal`` reports and cuts it
    when it opens the directory). The iteration raises CorruptJournal, with file and offset, for anything else. Raises
    JournalError when the first batch is asked for and retention has taken it away.
    """
    reader = JournalReader(directory, after)
    if after is None and reader.start.batch:
        path = segment_path(reader.directory, reader.start.segment)
        raise JournalError(
            f"{path}: segment {reader.start.segment - 1} is missing before it: what it held is in a snapshot only"
        )
    return reader


class JournalReader(Iterator[Batch]):
    """An iterator over a journal's whole batches behind ``after``, by default from the oldest that is there.

    ``start`` is where it began, ``position`` is behind the batch that it gave last, ``begin`` where in its segment that
    one begins; ``durable``: batches below this number are said to be durable by later ones; ``torn`` is the torn tail
    once the iteration has ended, if there is one. More may be read after the end, when more was written. The writer may
    be at work meanwhile, unless ``beside_writer`` is false.
    """

    def __init__(self, directory: Path | str, after: Position | None = None, *, beside_writer: bool = True) -> None:
        self.directory = Path(directory)
        self._beside_writer = beside_writer
        self.durable = 0
        self.begin = 0
        self.torn: TornTail | None = None
        self._data: np.ndarray | None = None
        self.position = self.start = self._oldest() if after is None else after

    def __next__(self) -> Batch:
        for attempt in range(RETRIES):
            try:
                batch = self._next()
                break
            except CorruptJournal:
                if attempt == RETRIES - 1 or not self._beside_writer or not is_written(self.directory):
                    raise
                self._data = None
                time.sleep(RETRY_SECONDS)
        if batch is None:
            self._data = None
            raise StopIteration
        return batch

    def _oldest(self) -> Position:
        paths = segment_paths(self.directory)
        if not paths:
            return Position()
        number, path = paths[0]
        header = read_segment_header(path, map_segment(path))
        if header is None:
            if number > 1:
                raise CorruptJournal(f"{path}: segment {number - 1} is missing before it")
            return Position()
        first = int(header["first_batch"]), int(header["first_sequence"]), int(header["chain"])
        return Position(number, HEADER_BYTES, *first)

    def _path(self) -> Path:
        return segment_path(self.directory, self.position.segment)

    def _next(self) -> Batch | None:
        """The next whole batch; None at the journal's end."""
        self.torn = None
        while True:
            if self._data is None and not self._open():
                return None
            data, offset = self._data, self.position.offset
            assert data is not None
            begin = offset
            header = header_at(data, begin)
            if header is None and not data[begin : begin + LINE_BYTES].any():
                begin = next_page(offset)
                header = header_at(data, begin)
                if not self._resembles(data, begin) if header is None else not self._follows(header):
                    if not data[offset:].any() and self._step():
                        continue
                    self._end(offset, True, "a batch is missing")
                    return None
                if data[offset:begin].any():
                    raise CorruptJournal(f"{self._path()}: byte {offset}: not zeros before a batch")
            if header is None:
                # A header whose write was cut short has zeros behind it, and so has everything.
                self._end(begin, _written_end(data, begin) < begin + HEADER_BYTES, "not a batch header")
                return None
            if not self._follows(header):
                raise CorruptJournal(
                    f"{self._path()}: byte {begin}: batch {header.batch} does not follow the one before it"
                )
            end = begin + header.total_bytes
            if crc32(data[begin + HEADER_BYTES : end].data) != header.body_crc or data[end - 1] != BATCH_END:
                self._end(begin, _torn(data, begin, end), f"the CRC of batch {header.batch} does not match")
                return None
            batch = batch_at(data, begin, header)
            self.begin = begin
            self.durable = max(self.durable, header.durable)
            where = self.position
            self.position = Position(where.segment, end, where.batch + 1, where.sequence + header.count, header.crc)
            return batch

    def _open(self) -> bool:
        """Maps the position's segment, verifying that it belongs there; False at the journal's end."""
        path = self._path()
        later = [number for number, _ in segment_paths(self.directory) if number >= self.position.segment]
        if not later:
            return False
        if later[0] != self.position.segment:
            raise CorruptJournal(
                f"{segment_path(self.directory, later[0])}: segment {later[0] - 1} is missing before it"
            )
        data = map_segment(path)
        segment = read_segment_header(path, data)
        if segment is None:
            self._end(0, True, "the segment's header is missing")
            return False
        if self.position.offset == HEADER_BYTES and not self._is_begun_by(segment):
            raise CorruptJournal(f"{path}: byte 0: the segment does not follow the one before it")
        if self.position.offset > len(data):
            raise CorruptJournal(f"{path}: byte {len(data)}: the segment ends before {self.position.offset}")
        self._data = data
        return True

    def _step(self) -> bool:
        """Goes on to the next segment if that was begun by what follows here."""
        path = segment_path(self.directory, self.position.segment + 1)
        if not path.exists():
            if any(number > self.position.segment for number, _ in segment_paths(self.directory)):
                raise CorruptJournal(f"{self._path()}: segment {self.position.segment + 1} is missing behind it")
            return False
        segment = read_segment_header(path, map_segment(path))
        if segment is None:
            return False
        if not self._is_begun_by(segment):
            if segment["first_batch"] > self.position.batch:
                return False  # batches between are missing
            raise CorruptJournal(f"{path}: byte 0: the segment does not follow the one before it")
        self.position = self.position._replace(segment=self.position.segment + 1, offset=HEADER_BYTES)
        self._data = None
        self._data = map_segment(path)
        return True

    def _follows(self, header: Any) -> bool:
        """Whether a batch continues what was read so far."""
        return (header.batch, header.first_sequence, header.chain) == self.position[2:]

    def _is_begun_by(self, segment: np.void) -> bool:
        """Whether a segment continues what was read so far."""
        return tuple(int(segment[name]) for name in ("first_batch", "first_sequence", "chain")) == self.position[2:]

    def _resembles(self, data: np.ndarray, begin: int) -> bool:
        """Whether bytes that are no whole header are the next batch's, damaged: most of what is known of it stands there.
        What else may stand there is the inside of a batch whose beginning was not written."""
        if begin + HEADER_BYTES > len(data):
            return False
        header = unpack_batch_header(data[begin : begin + HEADER_BYTES].tobytes())
        known = (BATCH_MAGIC, JOURNAL_VERSION, *self.position[2:])
        names = ("magic", "version", "batch", "first_sequence", "chain")
        return sum(getattr(header, name) == value for name, value in zip(names, known, strict=True)) > len(known) // 2

    def _end(self, offset: int, plausible: bool, cause: str) -> None:
        """Decides what ends the journal at ``offset`` of the position's segment: nothing, a torn tail, or damage."""
        extents = []
        durable = 0
        for number, path in segment_paths(self.directory):
            if number < self.position.segment:
                continue
            data = map_segment(path)
            begin = offset if number == self.position.segment else 0
            end = _written_end(data, begin)
            if end > begin:
                extents.append(Extent(path, begin, -(-(end - begin) // LINE_BYTES) * LINE_BYTES))
                durable = max(durable, _said_durable(data, begin))
        if not extents:
            return
        path = self._path()
        if durable > self.position.batch:
            raise CorruptJournal(f"{path}: byte {offset}: {cause}, but batch {self.position.batch} had been durable")
        if not plausible:
            raise CorruptJournal(f"{path}: byte {offset}: {cause}")
        self.torn = TornTail(path, offset, tuple(extents))


def _written_end(data: np.ndarray, begin: int) -> int:
    """Behind the last byte from ``begin`` on that is not zero; ``begin`` where there is none."""
    for end in range(len(data), begin, -CHUNK_BYTES):
        # A copy: the writer may be at work.
        chunk = data[max(begin, end - CHUNK_BYTES) : end].copy()
        if chunk.any():
            return end - len(chunk) + int(np.flatnonzero(chunk)[-1]) + 1
    return begin


def _said_durable(data: np.ndarray, offset: int) -> int:
    """The highest ``durable`` of whole batch headers behind ``offset``."""
    lines = data[: len(data) // LINE_BYTES * LINE_BYTES].reshape(-1, LINE_BYTES)
    first = -(-offset // LINE_BYTES)
    magics = lines[first:, :4].copy().view("<u4")[:, 0]
    headers = (header_at(data, (first + int(line)) * LINE_BYTES) for line in np.flatnonzero(magics == BATCH_MAGIC))
    return max((header.durable for header in headers if header is not None), default=0)


def _torn(data: np.ndarray, begin: int, end: int) -> bool:
    """Whether ``data[begin:end]`` looks like a write that was cut short over zeroed ground: its last byte or
    one of its sectors was never written."""
    if data[end - 1] == 0:
        return True
    edges = range(begin // SECTOR_BYTES * SECTOR_BYTES, end, SECTOR_BYTES)
    return any(not data[max(edge, begin) : min(edge + SECTOR_BYTES, end)].any() for edge in edges)
