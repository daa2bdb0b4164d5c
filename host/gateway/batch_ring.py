"""Batches on their way from risk to the journal and on to the nodes: a ring of records, with a room for each.

One slot is one batch of the journal: batch ``ring.base + n`` lies in record n. Risk fills a slot in place and publishes
it, the journal makes it durable and says so with its cursor, and only then do nodes read it. All three may be threads or
processes. What a process that was killed had done stands in the file: which batches were published (their generations),
which are durable and which each node has applied (the cursors), and up to which frame of the card's ring they reach.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from hdl.frame import FRAME_BYTES, FRAME_DTYPE
from host.closing import Closing
from host.journal.batch import DECISION_DTYPE, Batch, BatchBuffer, BatchKind, payload_room
from host.ring.mapping import file_identity
from host.ring.records import OWN_WORD, RecordRing, RecordRings

SLOTS = 16
"""Batches between risk and the slowest nodes by default."""

SLOT_FRAMES = 4096
"""Most orders of a batch by default: at a million a second, four milliseconds of them."""

JOURNAL = 0
"""The journal's cursor: batches before it are durable. Modules of nodes have those from 1 on."""

SLOT_DTYPE = np.dtype(
    [
        ("first_sequence", "<u8"),
        ("frames_end", "<u8"),
        ("published", "<i8"),
        ("durable", "<i8"),
        ("count", "<u4"),
        ("payload_bytes", "<u4"),
        ("kind", "u1"),
        ("reserved", "u1", (22,)),
        ("generation", "u1"),
    ]
)
"""A batch. ``frames_end`` is the number of the first frame of the card's ring that is in no batch up to this one,
``published`` a CLOCK_MONOTONIC in ns, ``kind`` a BatchKind. ``first_sequence`` and ``durable`` (CLOCK_MONOTONIC, ns) are written
by the journal, before it moves its cursor."""
assert SLOT_DTYPE.itemsize == 64


_SLOT_FRAMES, CARD_RING, CARD_RING_BATCH = range(OWN_WORD, OWN_WORD + 3)
"""Words of the header page: how many frames a slot has room for; which card's ring the batches are of (its file's inode);
the first batch that is of that one."""


class BatchArrays(NamedTuple):
    """A batch ring as compiled code takes it: the ring of records, and a row of each room a slot."""

    words: np.ndarray
    records: np.ndarray
    slot_bytes: np.ndarray
    frames: np.ndarray
    decisions: np.ndarray
    payload: np.ndarray


class BatchRing(Closing):
    """A batch ring in a mapped file. ``ring`` is the ring of records, ``arrays`` all of it for compiled code."""

    def __init__(self, rings: RecordRings, slot_frames: int) -> None:
        slots = rings[0].slots
        self._rings = rings
        self.ring: RecordRing = rings[0]
        frames_end = slots * slot_frames * FRAME_BYTES
        decisions_end = frames_end + slots * slot_frames * DECISION_DTYPE.itemsize
        self.arrays = BatchArrays(
            *self.ring.arrays,
            frames=rings.rest[:frames_end].view(FRAME_DTYPE).reshape(slots, slot_frames),
            decisions=rings.rest[frames_end:decisions_end].view(DECISION_DTYPE).reshape(slots, slot_frames),
            payload=rings.rest[decisions_end:].reshape(slots, -1),
        )

    @classmethod
    def create(
        cls,
        path: Path | None,
        *,
        base: int,
        nodes: int = 1,
        slots: int = SLOTS,
        slot_frames: int = SLOT_FRAMES,
        huge_pages: bool = False,
    ) -> Self:
        """Make one for batches from number ``base`` on, and for ``nodes`` readers behind the journal. Raises as RecordRings does."""
        room = slot_frames * (FRAME_BYTES + DECISION_DTYPE.itemsize) + payload_room(slot_frames)
        rings = RecordRings.create(
            path, SLOT_DTYPE, slots, cursors=1 + nodes, base=base, rest=slots * room, huge_pages=huge_pages
        )
        rings[0].words[_SLOT_FRAMES] = slot_frames
        return cls(rings, slot_frames)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map one that another process made. Raises RecordRingError or OSError."""
        rings = RecordRings.open(path, SLOT_DTYPE)
        return cls(rings, int(rings[0].words[_SLOT_FRAMES]))

    @property
    def identity(self) -> int:
        """Which ring this is, as long as its file is there (the file's inode); 0 for one in memory of this process."""
        return file_identity(self._rings.path)

    def frames_end(self) -> int:
        """The number of the first frame of its card's ring that is in no published batch."""
        published = self.ring.written()
        # What older batches say of frames is of another card's ring.
        if published <= self.arrays.words[CARD_RING_BATCH]:
            return 0
        return int(self.arrays.records[(published - 1) % self.ring.slots]["frames_end"])

    @property
    def slot_frames(self) -> int:
        """Most orders of a batch."""
        return self.arrays.frames.shape[1]

    @property
    def payload_room(self) -> int:
        """Most bytes of raw messages of a batch."""
        return self.arrays.payload.shape[1]

    def batch(self, number: int, first_sequence: int | None = None) -> Batch:
        """Record ``number`` as the batch that nodes apply: views of its slot, once it is durable; or, if its first sequence is
        given, once it is published."""
        slot = number % self.ring.slots
        record = self.arrays.records[slot]
        count, filled = int(record["count"]), int(record["payload_bytes"])
        return Batch(
            self.ring.base + number,
            int(record["first_sequence"]) if first_sequence is None else first_sequence,
            self.arrays.frames[slot, :count],
            self.arrays.decisions[slot, :count],
            self.arrays.payload[slot, :filled],
            kind=BatchKind(int(record["kind"])),
        )

    def buffer(self, number: int) -> BatchBuffer:
        """Record ``number`` as what the journal appends: views of its slot, once it is published."""
        return SlotBuffer(self, number)

    def close(self) -> None:
        """Unmap the file, once the last view of it is gone."""
        del self.arrays, self.ring
        self._rings.close()


class SlotBuffer(BatchBuffer):
    """A slot of a batch ring in place of a buffer of its own."""

    def __init__(self, ring: BatchRing, number: int) -> None:
        slot = number % ring.ring.slots
        record = ring.arrays.records[slot]
        self._frames, self._decisions = ring.arrays.frames[slot], ring.arrays.decisions[slot]
        self._payload = ring.arrays.payload[slot]
        self._used = int(record["count"]), int(record["payload_bytes"])
