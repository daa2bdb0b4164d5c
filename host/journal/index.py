"""Indexes: which orders of a segment are of a time, of a flow, or have a client order id.

Each segment that the writer has left gets a file beside it, ``00000001.index`` (see :mod:`host.journal.parts`), built off
the hot path and built anew when it is missing, damaged or not of the segment as it is now. Its parts, by row (an order's
sequence less the segment's first):

- ``batches``: each batch's offset, first row, orders, and the bounds of its orders' timestamps;
- ``flows`` (sorted), ``flow_ends`` and ``flow_rows``: the rows of ``flows[i]`` are
  ``flow_rows[flow_ends[i - 1] : flow_ends[i]]``;
- ``id_hashes`` (sorted) and ``id_rows``: hashes of ClOrdID (11), and whose they are.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from host.journal.batch import Batch
from host.journal.layout import HEADER_BYTES, CorruptJournal, JournalError, crc32, segment_path, segment_paths
from host.journal.parts import read_parts, write_parts
from host.journal.scan import JournalReader, Position, batch_at, header_at, map_segment, read_segment_header

INDEX_MAGIC = int.from_bytes(b"TICKINDX", "little")

ENTRY_DTYPE = np.dtype(
    [("offset", "<u8"), ("row", "<u4"), ("count", "<u4"), ("first_time", "<u8"), ("last_time", "<u8")]
)

SOH = 1


@dataclass(frozen=True)
class Query:
    """Which orders are wanted; None is any. ``times`` are two timestamps in ns, the first one included."""

    times: tuple[int, int] | None = None
    flow: int | None = None
    client_order_id: bytes | None = None


@dataclass(frozen=True)
class Index:
    """A segment's index; ``end`` is the position behind the segment's last batch."""

    end: Position
    first_sequence: int
    parts: dict[str, np.ndarray]

    def rows(self, query: Query) -> np.ndarray:
        """Rows among which are all those that a query wants, sorted. A hash may be of more than one text, and a
        batch's times are known as a range, so that each is to be looked at."""
        parts = self.parts
        if query.client_order_id is not None:
            wanted = np.uint64(text_hash(np.frombuffer(query.client_order_id, np.uint8), 0, len(query.client_order_id)))
            first = int(np.searchsorted(parts["id_hashes"], wanted))
            end = int(np.searchsorted(parts["id_hashes"], wanted, "right"))
            return np.sort(parts["id_rows"][first:end])
        if query.flow is not None:
            place = int(np.searchsorted(parts["flows"], query.flow))
            if place == len(parts["flows"]) or parts["flows"][place] != query.flow:
                return np.zeros(0, np.uint32)
            first = int(parts["flow_ends"][place - 1]) if place else 0
            rows: np.ndarray = parts["flow_rows"][first : int(parts["flow_ends"][place])]
            return rows
        batches = parts["batches"]
        if query.times is not None:
            low, high = query.times
            batches = batches[(batches["last_time"] >= low) & (batches["first_time"] < high)]
        spans = [np.arange(row, row + count, dtype=np.uint32) for row, count in batches[["row", "count"]].tolist()]
        return np.concatenate([np.zeros(0, np.uint32), *spans])


def index_path(segment: Path) -> Path:
    """Where a segment's index lies."""
    return segment.with_suffix(".index")


class IndexBuilder:
    """Collects what a segment's index is made of, batch by batch from the segment's first on.

    Parameters: ``first_sequence`` of the segment.
    """

    def __init__(self, first_sequence: int) -> None:
        self.first_sequence = first_sequence
        self._entries: list[tuple[int, int, int, int, int]] = []
        self._flows = [np.zeros(0, np.uint16)]
        self._hashes = [np.zeros(0, np.uint64)]
        self._hashed_rows = [np.zeros(0, np.uint32)]

    def add(self, batch: Batch, offset: int) -> None:
        """Takes in a batch that begins at ``offset`` of the segment."""
        if not len(batch):
            return
        frames = batch.frames
        row = batch.first_sequence - self.first_sequence
        times = frames["timestamp"]
        self._entries.append((offset, row, len(batch), int(times.min()), int(times.max())))
        self._flows.append(frames["flow"].copy())
        hashes = np.zeros(len(batch), np.uint64)
        hash_ids(frames, batch.payload, hashes)
        named = np.flatnonzero(frames["client_order_id"])
        self._hashes.append(hashes[named])
        self._hashed_rows.append((named + row).astype(np.uint32))

    def index(self, end: Position) -> Index:
        """The index of what was taken in; ``end`` is the position behind it."""
        flows, hashes = np.concatenate(self._flows), np.concatenate(self._hashes)
        present, counts = np.unique(flows, return_counts=True)
        by_hash = np.argsort(hashes)  # rows of equal hashes in any order: whoever reads them sorts
        parts = {
            "batches": np.array(self._entries, ENTRY_DTYPE),
            "flows": present,
            "flow_ends": np.cumsum(counts).astype(np.uint32),
            "flow_rows": np.argsort(flows, kind="stable").astype(np.uint32),
            "id_hashes": hashes[by_hash],
            "id_rows": np.concatenate(self._hashed_rows)[by_hash],
        }
        return Index(end, self.first_sequence, parts)


def build_index(directory: Path, number: int) -> Index:
    """The index of a segment as it is now, from its batches."""
    path = segment_path(directory, number)
    header = read_segment_header(path, map_segment(path))
    if header is None:
        return IndexBuilder(1).index(Position(number))
    first = int(header["first_sequence"])
    begin = Position(number, batch=int(header["first_batch"]), sequence=first, chain=int(header["chain"]))
    reader, builder, end = JournalReader(directory, begin), IndexBuilder(first), begin
    for batch in reader:
        if reader.position.segment != number:
            break
        builder.add(batch, reader.begin)
        end = reader.position
    return builder.index(end)


def write_index(directory: Path, index: Index) -> None:
    """Writes the index of a segment that the writer has left. Raises OSError."""
    first = np.array([index.first_sequence], np.uint64)
    path = index_path(segment_path(directory, index.end.segment))
    write_parts(path, INDEX_MAGIC, index.end, {**index.parts, "first_sequence": first})


def open_index(directory: Path, number: int) -> Index:
    """The index of a segment: its file's where that is whole and of the segment as it is, else built now; it is written
    where the writer has left the segment and the directory takes it."""
    segment = segment_path(directory, number)
    following = _begin_of(segment_path(directory, number + 1))
    if following is None:
        return build_index(directory, number)
    try:
        end, parts = read_parts(index_path(segment), INDEX_MAGIC)
        if end[2:] == following:
            return Index(end, int(parts.pop("first_sequence")[0]), parts)
    except (JournalError, OSError):
        pass  # built anew below
    index = build_index(directory, number)
    with contextlib.suppress(OSError):
        write_index(directory, index)
    return index


def _begin_of(path: Path) -> tuple[int, int, int] | None:
    """What a segment's header says was before it: batch, sequence, chain. None where it has not been begun."""
    if not path.exists():
        return None
    header = read_segment_header(path, map_segment(path))
    if header is None:
        return None
    return int(header["first_batch"]), int(header["first_sequence"]), int(header["chain"])


def select(directory: Path | str, query: Query) -> Iterator[tuple[Batch, np.ndarray]]:
    """Batches with the places of the wanted orders in them, in sequence. Only batches that may hold some are read, and
    their CRCs are verified. Raises what the journal's reader raises."""
    directory = Path(directory)
    for number, path in segment_paths(directory):
        index = open_index(directory, number)
        rows = index.rows(query)
        if not len(rows):
            continue
        data = map_segment(path)
        batches = index.parts["batches"]
        owners = np.searchsorted(batches["row"], rows, "right") - 1
        for owner in np.unique(owners):
            entry = batches[owner]
            batch = _verified(path, data, int(entry["offset"]))
            places = rows[owners == owner].astype(np.int64) - int(entry["row"])
            kept = places[matches(batch, places, query)]
            if len(kept):
                yield batch, kept


def matches(batch: Batch, places: np.ndarray, query: Query) -> np.ndarray:
    """Which of the orders at ``places`` a query wants, as booleans."""
    frames = batch.frames[places]
    wanted = np.ones(len(places), bool)
    if query.times is not None:
        low, high = query.times
        wanted &= (frames["timestamp"] >= low) & (frames["timestamp"] < high)
    if query.flow is not None:
        wanted &= frames["flow"] == query.flow
    if query.client_order_id is not None:
        wanted &= [field_text(batch, int(place), "client_order_id") == query.client_order_id for place in places]
    return wanted


def field_text(batch: Batch, place: int, field: str) -> bytes | None:
    """The bytes of a field that the frame points to; None where the message has none."""
    frame = batch.frames[place]
    if not frame[field]:
        return None
    begin = int(frame["payload_offset"])
    message = batch.payload[begin : begin + int(frame["payload_length"])].tobytes()
    return message[int(frame[field]) :].split(b"\x01", 1)[0]


def _verified(path: Path, data: np.ndarray, offset: int) -> Batch:
    header = header_at(data, offset)
    if header is None:
        raise CorruptJournal(f"{path}: byte {offset}: not a batch header")
    if crc32(data[offset + HEADER_BYTES : offset + int(header["total_bytes"])].data) != header["body_crc"]:
        raise CorruptJournal(f"{path}: byte {offset}: the CRC of batch {header['batch']} does not match")
    return batch_at(data, offset, header)


@njit(cache=True, nogil=True)
def text_hash(text, begin, end):
    """FNV-1a of the bytes up to a SOH, and MurmurHash3's finalizer: a bucket, no proof, so texts are compared."""
    value = np.uint64(0xCBF29CE484222325)
    for place in range(begin, end):
        if text[place] == SOH:
            break
        value = (value ^ np.uint64(text[place])) * np.uint64(0x100000001B3)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    return value ^ (value >> np.uint64(33))


@njit(cache=True, nogil=True, _nrt=False)
def hash_ids(frames, payload, out):
    """Hashes of ClOrdID (11), where the frame says that there is one."""
    for row in range(frames.shape[0]):
        frame = frames[row]
        if frame.client_order_id:
            begin = np.int64(frame.payload_offset)
            end = min(begin + np.int64(frame.payload_length), payload.shape[0])
            out[row] = text_hash(payload, begin + np.int64(frame.client_order_id), end)
