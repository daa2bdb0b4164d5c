"""Rings of fixed records in a shared-memory file, several of one kind side by side: one writer a ring, some readers.

They are found new and given back as the card's frames are (docs/ring.md): the generation in a record's last byte says
that it is there, and each reader publishes how many records it has done with, in a cursor on a cache line of its own. The
writer never overwrites what one of them has not read. All of it stands in the file, so whoever takes the place of a
reader or a writer that was killed goes on where it stopped.
"""

import mmap
import zlib
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numba import njit

from host.clock import monotonic_ns, pause
from host.closing import Closing
from host.memory import load_acquire, store_release
from host.ring.generation import count_available, generation_of_lap
from host.ring.mapping import map_existing, map_new

RECORDS_MAGIC = int.from_bytes(b"TICKRECS", "little")
RECORDS_VERSION = 1
PAGE = 4096
WORD = 8
FIRST_CURSOR, CURSOR_STRIDE = 16, 8
"""Words of the header page: the first cursor, and from one to the next, a cache line."""
MOST_CURSORS = (PAGE // WORD - FIRST_CURSOR) // CURSOR_STRIDE

_MAGIC, _VERSION, _SLOTS, _RECORD_BYTES, _CURSORS, _BASE, _LAYOUT, _RINGS = range(8)
"""Words of the header page."""


OWN_WORD = 8
"""The first of eight words of the header page that are the user's."""


class RecordRingError(ValueError):
    """The file is no ring of these records."""


class RingArrays(NamedTuple):
    """A ring as compiled code takes it: the header page's words, the records, and the same memory as bytes."""

    words: np.ndarray
    records: np.ndarray
    slot_bytes: np.ndarray


@njit(cache=True, nogil=True, _nrt=False)
def cursor_word(cursor):
    """The word of the header page that holds a reader's cursor."""
    return FIRST_CURSOR + CURSOR_STRIDE * cursor


@njit(cache=True, nogil=True, _nrt=False)
def read_cursor(words, cursor):
    """How many records a reader has done with."""
    return np.int64(load_acquire(words, cursor_word(cursor)))


@njit(cache=True, nogil=True, _nrt=False)
def move_cursor(words, cursor, number):
    """Says that a reader has done with all records before ``number``."""
    store_release(words, cursor_word(cursor), np.uint64(number))


@njit(cache=True, nogil=True, _nrt=False)
def least_cursor(words):
    """How many records every reader has done with."""
    least = read_cursor(words, 0)
    for cursor in range(1, np.int64(words[_CURSORS])):
        least = min(least, read_cursor(words, cursor))
    return least


@njit(cache=True, nogil=True, _nrt=False)
def has_room(words, slots, number):
    """Whether record ``number`` may be written."""
    return number - least_cursor(words) < slots


@njit(cache=True, nogil=True, _nrt=False)
def publish_record(slot_bytes, slots, number):
    """Record ``number``, whose other bytes stand in its slot, is there: writes its generation."""
    publish_slot(slot_bytes, slot_bytes.shape[0] // slots, number % slots, number // slots)


@njit(cache=True, nogil=True, _nrt=False)
def publish_slot(slot_bytes, record_bytes, slot, lap):
    """As :func:`publish_record`, for who knows the slot and the lap (from 0) already."""
    store_release(slot_bytes, (slot + 1) * record_bytes - 1, np.uint8(generation_of_lap(lap)))


@njit(cache=True, nogil=True, _nrt=False)
def count_records(slot_bytes, slots, number, limit):
    """How many records from ``number`` on are there, up to the ring's end and ``limit``."""
    return count_available(slot_bytes, slot_bytes.shape[0] // slots, number, slots, limit)


@njit(cache=True, nogil=True, _nrt=False)
def wait_for_record(slot_bytes, slots, number, limit, spin_ns):
    """As :func:`count_records`, polling for up to ``spin_ns`` until there is one."""
    count = count_records(slot_bytes, slots, number, limit)
    if count > 0 or spin_ns <= 0:
        return count
    end = monotonic_ns() + spin_ns
    while count == 0 and monotonic_ns() < end:
        pause()
        count = count_records(slot_bytes, slots, number, limit)
    return count


@njit(cache=True, nogil=True, _nrt=False)
def wait_for_cursor(words, cursor, number, spin_ns):
    """How far a reader is, polling for up to ``spin_ns`` until it is beyond ``number``."""
    there = read_cursor(words, cursor)
    if there > number or spin_ns <= 0:
        return there
    end = monotonic_ns() + spin_ns
    while there <= number and monotonic_ns() < end:
        pause()
        there = read_cursor(words, cursor)
    return there


def layout_code(dtype: np.dtype) -> int:
    """A code of a dtype's fields, so that a ring of other records is refused."""
    return zlib.crc32(repr(sorted((dtype.fields or {}).items(), key=lambda each: each[1][1])).encode())


class RecordRing:
    """One ring of a file. ``words``, ``records`` and ``slot_bytes`` are views, and hold the mapping."""

    def __init__(self, words: np.ndarray, records: np.ndarray) -> None:
        self.words = words
        self.records = records
        self.slot_bytes = records.view(np.uint8)

    @property
    def arrays(self) -> RingArrays:
        """For compiled code."""
        return RingArrays(self.words, self.records, self.slot_bytes)

    @property
    def slots(self) -> int:
        """How many records there is room for: a power of two."""
        return len(self.records)

    @property
    def base(self) -> int:
        """The number, by whatever the writer counts, of the ring's first record."""
        return int(self.words[_BASE])

    @property
    def cursors(self) -> int:
        """How many readers there are."""
        return int(self.words[_CURSORS])

    def cursor(self, reader: int = 0) -> int:
        """How many records a reader has done with."""
        return int(read_cursor(self.words, reader))

    def least_cursor(self) -> int:
        """How many records every reader has done with."""
        return int(least_cursor(self.words))

    def written(self) -> int:
        """How many records were written ever, found by their generations: what a writer's successor begins with."""
        number = int(least_cursor(self.words))
        end = number + self.slots
        while number < end and (count := count_records(self.slot_bytes, self.slots, number, end - number)):
            number += int(count)
        return number

    def poll(self, reader: int = 0, limit: int = 1 << 30) -> np.ndarray:
        """What is there for a reader, as a view, at most ``limit`` and never across the ring's end. It stays until
        :meth:`release`."""
        number = self.cursor(reader)
        slot = number % self.slots
        return self.records[slot : slot + count_records(self.slot_bytes, self.slots, number, limit)]

    def release(self, count: int, reader: int = 0) -> None:
        """A reader has done with the next ``count`` records."""
        move_cursor(self.words, reader, self.cursor(reader) + count)


class RecordRings(Closing):
    """Rings of one kind in a mapped file; ``rings[0]`` is the first of them.

    Behind them the file has room for what the records speak of (``rest``, bytes), if it was made so.
    """

    def __init__(self, memory: mmap.mmap, dtype: np.dtype, path: Path | None) -> None:
        """Take a mapped file. Raises :class:`RecordRingError` where it is none of these records."""
        name = path or "ring"
        if len(memory) < PAGE:
            raise RecordRingError(f"{name}: {len(memory)} bytes are too few for a ring")
        head = np.frombuffer(memory, np.uint64, PAGE // WORD)
        found = [int(word) for word in head[: _RINGS + 1]]
        if (found[_MAGIC], found[_VERSION]) != (RECORDS_MAGIC, RECORDS_VERSION):
            raise RecordRingError(f"{name}: no ring of records of version {RECORDS_VERSION}")
        if (found[_RECORD_BYTES], found[_LAYOUT]) != (dtype.itemsize, layout_code(dtype)):
            raise RecordRingError(f"{name}: a ring of other records than this version writes")
        slots, rings = found[_SLOTS], found[_RINGS]
        begin, end = rings * PAGE, rings * (PAGE + slots * dtype.itemsize)
        if end > len(memory):
            raise RecordRingError(f"{name}: {rings} rings of {slots} records do not fit into {len(memory)} bytes")
        self.path = path
        words = np.frombuffer(memory, np.uint64, rings * PAGE // WORD).reshape(rings, -1)
        records = np.frombuffer(memory, dtype, rings * slots, begin).reshape(rings, slots)
        self.words, self.records = words, records
        self.slot_bytes = np.frombuffer(memory, np.uint8, end - begin, begin).reshape(rings, -1)
        self.rest = np.frombuffer(memory, np.uint8, len(memory) - end, end)
        self._rings = [RecordRing(words[ring], records[ring]) for ring in range(rings)]

    @classmethod
    def create(
        cls,
        path: Path | None,
        dtype: np.dtype,
        slots: int,
        *,
        rings: int = 1,
        cursors: int = 1,
        base: int = 0,
        rest: int = 0,
        huge_pages: bool = False,
    ) -> Self:
        """Make zeroed rings at ``path`` (a file there is replaced), or in memory of this process.

        Raises :class:`RecordRingError` for sizes that are none, OSError where it cannot be written.
        """
        if slots & (slots - 1) or slots < 2:
            raise RecordRingError(f"{path or 'ring'}: {slots} slots: must be a power of two, 2 or more")
        if rings < 1 or not 1 <= cursors <= MOST_CURSORS:
            raise RecordRingError(f"{path or 'ring'}: wants 1 ring or more, and 1 to {MOST_CURSORS} readers")
        memory = map_new(path, rings * (PAGE + slots * dtype.itemsize) + rest, huge_pages=huge_pages)
        words = np.frombuffer(memory, np.uint64, rings * PAGE // WORD).reshape(rings, -1)
        values = {
            _VERSION: RECORDS_VERSION, _SLOTS: slots, _RECORD_BYTES: dtype.itemsize, _CURSORS: cursors,
            _BASE: base, _LAYOUT: layout_code(dtype), _RINGS: rings, _MAGIC: RECORDS_MAGIC,
        }  # fmt: skip
        for word, value in values.items():
            words[:, word] = value
        return cls(memory, dtype, path)

    @classmethod
    def open(cls, path: Path, dtype: np.dtype) -> Self:
        """Map rings that another process made. Raises :class:`RecordRingError` or OSError."""
        try:
            return cls(map_existing(path), dtype, path)
        except ValueError as error:
            raise RecordRingError(str(error)) from None

    def __len__(self) -> int:
        return len(self._rings)

    def __getitem__(self, ring: int) -> RecordRing:
        return self._rings[ring]

    def close(self) -> None:
        """Unmap the file, once the last view of it is gone. The file itself stays."""
        del self.words, self.records, self.slot_bytes, self.rest, self._rings
