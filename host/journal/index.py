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

FIRST_ROOM = 1 << 12
"""Room for orders that the index of a segment begins with; it grows."""


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
        self._flows = np.zeros(FIRST_ROOM, np.uint16)
        self._hashes = np.zeros(FIRST_ROOM, np.uint64)
        self._hashed_rows = np.zeros(FIRST_ROOM, np.uint32)
        self._orders = self._hashed = 0

    def add(self, batch: Batch, offset: int) -> None:
        """Takes in a batch that begins at ``offset`` of the segment."""
        if not len(batch):
            return
        row = batch.first_sequence - self.first_sequence
        room = len(self._flows)
        if self._orders + len(batch) > room:
            room = 2 * (self._orders + len(batch))
            self._flows, self._hashes, self._hashed_rows = (
                np.concatenate([each, np.zeros(room - len(each), each.dtype)])
                for each in (self._flows, self._hashes, self._hashed_rows)
            )
        first, last, self._hashed = _collect(
            batch.frames, batch.payload, row,
            self._flows[self._orders :], self._hashes, self._hashed_rows, self._hashed,
        )  # fmt: skip
        self._entries.append((offset, row, len(batch), int(first), int(last)))
        self._orders += len(batch)

    def index(self, end: Position) -> Index:
        """The index of what was taken in; ``end`` is the position behind it."""
        flow_counts, flow_rows = _rows_by_flow(self._flows[: self._orders])
        present = np.flatnonzero(flow_counts).astype(np.uint16)
        id_hashes, id_rows = sorted_by_hash(self._hashes[: self._hashed], self._hashed_rows[: self._hashed])
        parts = {
            "batches": np.array(self._entries, ENTRY_DTYPE),
            "flows": present,
            "flow_ends": np.cumsum(flow_counts[present]).astype(np.uint32),
            "flow_rows": flow_rows,
            "id_hashes": id_hashes,
            "id_rows": id_rows,
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
    if crc32(data[offset + HEADER_BYTES : offset + header.total_bytes].data) != header.body_crc:
        raise CorruptJournal(f"{path}: byte {offset}: the CRC of batch {header.batch} does not match")
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
def _collect(frames, payload, first_row, flows, hashes, rows, hashed):
    """Takes in a batch's orders: flows, and, where the frame says that there is a ClOrdID (11), its hash and row from ``hashed`` on.
    Returns the first and the last timestamp, and how many hashes there are then."""
    first = last = frames[0].timestamp
    for row in range(frames.shape[0]):
        frame = frames[row]
        flows[row] = frame.flow
        first, last = min(first, frame.timestamp), max(last, frame.timestamp)
        if frame.client_order_id:
            begin = np.int64(frame.payload_offset)
            end = min(begin + np.int64(frame.payload_length), payload.shape[0])
            hashes[hashed] = text_hash(payload, begin + np.int64(frame.client_order_id), end)
            rows[hashed] = first_row + row
            hashed += 1
    return first, last, hashed


@njit(cache=True, nogil=True)
def _rows_by_flow(flows):
    """(how many orders each flow number has, rows by flow and then by row): counted, so every order is touched twice."""
    counts = np.zeros(1 << 16, np.int64)
    for row in range(flows.shape[0]):
        counts[flows[row]] += 1
    places = np.cumsum(counts) - counts
    rows = np.zeros(flows.shape[0], np.uint32)
    for row in range(flows.shape[0]):
        rows[places[flows[row]]] = row
        places[flows[row]] += 1
    return counts, rows


@njit(cache=True, nogil=True)
def sorted_by_hash(hashes, rows):
    """Hashes sorted, and their rows. Hashes are even, so two bytes of them say where each belongs but for some places: first the
    upper one, so that what comes next stays within the first-level cache."""
    count = hashes.shape[0]
    by_byte, rows_by_byte = np.zeros(count, np.uint64), np.zeros(count, np.uint32)
    ends = _scatter(hashes, rows, by_byte, rows_by_byte, np.uint64(56))
    sorted_hashes, sorted_rows = np.zeros(count, np.uint64), np.zeros(count, np.uint32)
    begin = 0
    for end in ends:
        its = slice(begin, end)
        _scatter(by_byte[its], rows_by_byte[its], sorted_hashes[its], sorted_rows[its], np.uint64(48))
        while begin < end:
            # What shares two bytes: a few, or as many as a client likes.
            following = begin + 1
            while following < end and (sorted_hashes[following] ^ sorted_hashes[begin]) >> np.uint64(48) == 0:
                following += 1
            _sort(sorted_hashes[begin:following], sorted_rows[begin:following])
            begin = following
    return sorted_hashes, sorted_rows


@njit(cache=True, nogil=True)
def _sort(hashes, rows):
    """Shellsort with Knuth's steps: what a few cost by insertion, and never a square of many."""
    step = 1
    while step < hashes.shape[0] // 3:
        step = 3 * step + 1
    while step > 0:
        for index in range(step, hashes.shape[0]):
            value, row, place = hashes[index], rows[index], index
            while place >= step and hashes[place - step] > value:
                hashes[place], rows[place] = hashes[place - step], rows[place - step]
                place -= step
            hashes[place], rows[place] = value, row
        step //= 3


@njit(cache=True, nogil=True)
def _scatter(hashes, rows, to_hashes, to_rows, shift):
    """Sorts by the byte at ``shift``, what is equal in its order; returns where the hashes of each value of it end."""
    counts = np.zeros(256, np.int64)
    for index in range(hashes.shape[0]):
        counts[(hashes[index] >> shift) & np.uint64(0xFF)] += 1
    places = np.cumsum(counts) - counts
    for index in range(hashes.shape[0]):
        byte = (hashes[index] >> shift) & np.uint64(0xFF)
        place = places[byte]
        to_hashes[place], to_rows[place] = hashes[index], rows[index]
        places[byte] = place + 1
    return places
