"""Client order ids that are remembered: an open-addressed table, in memory that may outlive the process that fills it.

A row is an id of two words; a search begins at the place that the lower one says and goes on row by row to an empty one. Ids are entered, and
never taken out one by one: so to empty the rows that were filled last gives the table as it was before them.

That is how a table in shared memory serves the successor of a process that was killed. All it has too much are ids of orders that
were decided about and are in no batch: these will be decided about again. Each new order's slot is noted, with the number
of its frame, before its id is entered, and :meth:`IdTable.keep` empties those of frames behind the last batch.
"""

from pathlib import Path
from typing import Self

import numpy as np
from numba import njit

from host.cluster.order_key import prefetch_row
from host.gateway.risk_state import LOOKAHEAD, table_size
from host.journal.id_log import FLOW_NUMBERS
from host.memory import INLINED, KERNEL, keep_order, touched
from host.ring.mapping import map_existing, map_new

PROBE_LIMIT = 512
"""Longest search. At half load a run of 100 is not seen in a lifetime, so a longer one is a client's choice of identifiers, and is
refused rather than paid for by all."""

NOTE_DTYPE = np.dtype([("slot", "<i8"), ("frame", "<i8")])
"""Where an id was entered, and the number of the frame that it came with."""

PAGE, ROW_BYTES = 4096, 16
ID_TABLE_MAGIC = int.from_bytes(b"TICKIDT1", "little")
_MAGIC, _OF, _BEFORE, _NOTED = range(4)
"""Words of the header page: what this is; of which batch ring's orders the ids are (its file's inode; 0: they are to be found anew); how many
there were before the first note; notes made since."""

_U = np.uint64
_FLOW_MASK = _U(FLOW_NUMBERS - 1)


class IdTable:
    """A table with room for ``room`` ids, in memory of this process or in ``memory`` (uint8, :meth:`size` bytes), whose slots of the last
    ``undone`` orders are known.

    ``rows`` (uint64, a row of two a slot; zeros: an empty one), ``notes`` (NOTE_DTYPE, note n in row n modulo their number) and ``words``
    (the header page, int64) are for compiled code."""

    def __init__(self, room: int, undone: int = 1, memory: np.ndarray | None = None) -> None:
        if memory is None:
            memory = touched(self.size(room, undone), np.uint8)
        rows = self.size(room, undone) - ROW_BYTES * table_size(room)
        self.room = room
        self.words = memory[:PAGE].view(np.int64)
        self.notes = memory[PAGE:rows].view(NOTE_DTYPE)
        self.rows = memory[rows:].view(np.uint64).reshape(-1, 2)

    @staticmethod
    def size(room: int, undone: int) -> int:
        """Bytes of a table and all that belongs to it."""
        return PAGE + NOTE_DTYPE.itemsize * table_size(undone) + ROW_BYTES * table_size(room)

    @classmethod
    def create(cls, path: Path, room: int, undone: int, *, huge_pages: bool = False) -> Self:
        """An empty one in shared memory; a file at ``path`` is replaced. Raises OSError."""
        memory = map_new(path, cls.size(room, undone), huge_pages=huge_pages)
        table = cls(room, undone, np.frombuffer(memory, np.uint8))
        table.words[_MAGIC] = ID_TABLE_MAGIC
        return table

    @classmethod
    def open(cls, path: Path, room: int, undone: int) -> Self | None:
        """The one that another process made; None where there is none of this size. Raises OSError."""
        if not path.exists() or path.stat().st_size != cls.size(room, undone):
            return None
        table = cls(room, undone, np.frombuffer(map_existing(path, populate=True), np.uint8))
        return table if table.words[_MAGIC] == ID_TABLE_MAGIC else None

    @property
    def count(self) -> int:
        """How many ids a table holds that :meth:`vouch` was told of since they were last forgotten."""
        return int(self.words[_BEFORE] + self.words[_NOTED])

    def sorted(self) -> np.ndarray:
        """The ids in an order that does not depend on where they stand (uint64, n × 2)."""
        ids = self.rows[self.rows.any(axis=1)]
        return ids[np.lexsort((ids[:, 1], ids[:, 0]))]

    def vouch(self, of: int, count: int) -> None:
        """It holds ``count`` ids, those of all orders in batches of a ring's (``of``) and no other."""
        self.disown()
        self.words[_BEFORE], self.words[_NOTED] = count, 0
        self.words[_OF] = of

    def disown(self) -> None:
        """What it holds is not to be kept, until :meth:`vouch`."""
        self.words[_OF] = 0

    def keep(self, of: int, end: int) -> bool:
        """Empties the slots of orders of frames from ``end`` on; False where that does not make it the table of a batch ring's orders: then it
        is to be filled anew."""
        noted = int(self.words[_NOTED])
        its = self.notes[np.arange(max(noted - len(self.notes), 0), noted) % len(self.notes)]
        surplus = int(np.count_nonzero(its["frame"] >= end))
        if not of or self.words[_OF] != of or (surplus == len(its) < noted):
            return False
        # Whoever is killed here leaves nothing half done.
        self.disown()
        self.rows[its["slot"][len(its) - surplus :]] = 0
        self.words[_NOTED] = noted - surplus
        self.words[_OF] = of
        return True

    def clear(self) -> None:
        """Forgets all ids."""
        self.disown()
        self.rows.fill(0)


@njit(**INLINED)
def stored_id(high, flow):
    """The upper word of a client order id as it is remembered: its lowest bits are the session's number."""
    return (high & ~_FLOW_MASK) | _U(flow)


@njit(**INLINED)
def id_slot(ids, low, high):
    """(slot, whether it holds the id); slot -1 when no place was found within PROBE_LIMIT."""
    mask = ids.shape[0] - 1
    slot = np.int64(low & _U(mask))
    for _ in range(min(PROBE_LIMIT, ids.shape[0])):
        if ids[slot, 0] == low and ids[slot, 1] == high:
            return slot, True
        if ids[slot, 0] == 0 and ids[slot, 1] == 0:
            return slot, False
        slot = (slot + 1) & mask
    return np.int64(-1), False


@njit(**INLINED)
def note_id(state, slot, frame_number):
    """Notes that an id is about to be entered: whoever is killed leaves no id without its note."""
    notes, words = state.id_notes, state.id_words
    noted = words[_NOTED]
    note = notes[noted & (notes.shape[0] - 1)]
    note.slot, note.frame = slot, frame_number
    keep_order()
    words[_NOTED] = noted + 1
    keep_order()


@njit(**INLINED)
def remember_id(state, slot, low, high):
    """Enters a client order id, as it is stored, into the slot that was found for it."""
    state.client_order_ids[slot, 0], state.client_order_ids[slot, 1] = low, high
    state.tables[0].client_order_ids += 1


@njit(**INLINED)
def enter_id(state, low, high):
    """Has a client order id, as it is stored, be remembered; False where there is no room."""
    slot, known = id_slot(state.client_order_ids, low, high)
    if known:
        return True
    tables = state.tables[0]
    if slot < 0 or tables.client_order_ids >= tables.client_order_id_room:
        return False
    remember_id(state, slot, low, high)
    return True


@njit(**KERNEL, nogil=True)
def enter_ids(state, ids):
    """Enters client order ids (rows of two words); returns how many had no room."""
    table, lost = state.client_order_ids, 0
    mask = _U(table.shape[0] - 1)
    for index in range(ids.shape[0]):
        if index + LOOKAHEAD < ids.shape[0]:
            prefetch_row(table, np.int64(ids[index + LOOKAHEAD, 0] & mask))
        if not enter_id(state, ids[index, 0], ids[index, 1]):
            lost += 1
    return lost


@njit(**KERNEL, nogil=True)
def take_ids(state, ids):
    """Moves all client order ids out of their table to ``ids``, which has a row for each."""
    table, count = state.client_order_ids, 0
    for slot in range(table.shape[0]):
        if table[slot, 0] != 0 or table[slot, 1] != 0:
            ids[count, 0], ids[count, 1] = table[slot, 0], table[slot, 1]
            table[slot, 0] = table[slot, 1] = 0
            count += 1
    state.tables[0].client_order_ids = 0
