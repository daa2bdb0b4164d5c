"""A batch: order frames, what was decided about them, and their raw messages, in one piece; or a control record.

It is what the journal writes, what it reads back and what nodes apply, so that all three see the same bytes.
"""

import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit

from hdl.frame import FRAME_DTYPE, Kind
from host.memory import address_of, copy_bytes, load_word, store_number

ACCEPTED = 1
"""The verdict of an order that passed every check. 0 is never written, so that no sector of a batch is all zeros."""

DECISION_DTYPE = np.dtype(
    [("verdict", "u1"), ("node", "u1"), ("self_trade", "u1"), ("flags", "u1"), ("account", "<u4"), ("price", "<i8")]
)
"""What the gateway decided about one order, 16 bytes: ``host.gateway.verdict.Verdict``, the node (255: none), what is done
where it would trade with its own account (``host.gateway.terms.SelfTrade``), bits (:data:`MARKED`), the account's number
plus 1 (0: none), and the instrument's reference price of that moment (1e-9), at which market orders were valued."""

MARKED, NOTED = 1, 2
"""Bits of ``flags``: the account's exposure in the instrument counts at this order's price from now on; a note on the
decision stands right behind the order's message, :data:`NOTE_BYTES` long."""

NOTE_DTYPE = np.dtype(
    [
        ("index", "i8"),
        ("verdict", "i8"),
        ("limit_high", "i8"),
        ("limit_low", "u8"),
        ("value_high", "i8"),
        ("value_low", "u8"),
    ]
)
"""A note on the decision about a frame of a slice: the frame's index, the verdict, and two numbers of 128 bits with a sign. Of
a refused order these are its rule's limit and its own value."""

NOTE_BYTES = 32
"""A note in a batch's payload: the low and the high word of the limit, those of the value, little endian."""

NO_NOTES = np.zeros(0, NOTE_DTYPE)

BATCH_FRAMES = 8192
"""Most orders a batch by default: 512 KiB of frames, enough that one fdatasync costs little an order."""

GATHER_SECONDS = 0.0007
"""How long orders are gathered for one batch: what is left of a millisecond is for its CRC and its write."""

MESSAGE_BYTES = 256
"""Room for raw messages per order of a batch by default: orders with some twenty fields."""

_FIRST_ORDER_KIND = int(Kind.NEW_ORDER)
_LAST_ORDER_KIND = int(Kind.REPLACE)


MERGED_ORDERS = 1 << 11
"""Most orders of batches that are merged."""

MERGED_BYTES = MERGED_ORDERS * 256
"""Most bytes of their raw messages."""


class BatchKind(enum.IntEnum):
    """What a batch holds."""

    ORDERS = 0
    CONTROL = 1


@dataclass(frozen=True)
class Batch:
    """Orders in sequence; order i has sequence ``first_sequence + i``. Or, of kind CONTROL, no orders and a mapping.

    ``frames[i].payload_offset`` counts from the beginning of ``payload``. The arrays are views: of a
    :class:`BatchBuffer`, which reuses them, or of a segment read back, which is theirs.
    """

    number: int
    first_sequence: int
    frames: np.ndarray
    decisions: np.ndarray
    payload: np.ndarray
    epoch: int = field(default=0)
    kind: BatchKind = field(default=BatchKind.ORDERS)

    def __len__(self) -> int:
        return len(self.frames)

    def note(self, index: int) -> tuple[int, int]:
        """The two numbers of the note on a NOTED order."""
        begin = int(self.frames["payload_offset"][index]) + int(self.frames["payload_length"][index])
        raw = self.payload[begin : begin + NOTE_BYTES].tobytes()
        half = NOTE_BYTES // 2
        return int.from_bytes(raw[:half], "little", signed=True), int.from_bytes(raw[half:], "little", signed=True)

    @cached_property
    def control(self) -> dict[str, Any] | None:
        """A control record: it takes effect between the orders ``first_sequence - 1`` and ``first_sequence``. None
        for orders."""
        if self.kind is not BatchKind.CONTROL:
            return None
        record: dict[str, Any] = json.loads(self.payload.tobytes())
        return record


def control_batch(record: Mapping[str, Any], number: int, first_sequence: int, epoch: int = 0) -> Batch:
    """A control record as a batch: JSON in UTF-8 with sorted keys and no spaces, so that equal records are equal bytes.

    Raises ValueError without a "type", or for what JSON cannot say (NaN, keys that are no text).
    """
    if not isinstance(record.get("type"), str):
        raise ValueError("a control record has a text under the key 'type'")
    if not all(isinstance(key, str) for key in record):
        raise ValueError("a control record's keys are texts")
    text = json.dumps(dict(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    payload = np.frombuffer(bytearray(text.encode()), np.uint8)
    nothing = np.zeros(0, FRAME_DTYPE), np.zeros(0, DECISION_DTYPE)
    return Batch(number, first_sequence, *nothing, payload, epoch, BatchKind.CONTROL)


@njit(cache=True, nogil=True, _nrt=False)
def _put_note(note, payload, begin):
    """Writes a note to ``begin`` of a payload."""
    address = address_of(payload, begin)
    store_number(address, note.limit_low, 8)
    store_number(address + 8, note.limit_high, 8)
    store_number(address + 16, note.value_low, 8)
    store_number(address + 24, note.value_high, 8)


@njit(cache=True, nogil=True, _nrt=False)
def read_note(frame, payload):
    """(limit's low word, its high word, value's low word, its high word) of a NOTED order of a batch, as uint64; zeros
    where the payload ends before."""
    begin = np.int64(frame.payload_offset) + np.int64(frame.payload_length)
    if begin + NOTE_BYTES > payload.shape[0]:
        return np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    return (
        load_word(payload, begin),
        load_word(payload, begin + 8),
        load_word(payload, begin + 16),
        load_word(payload, begin + 24),
    )


@njit(cache=True, nogil=True, _nrt=False)
def gather(frames, payload, decisions, notes, begin, used, out_frames, out_decisions, out_payload):
    """Copies order frames, their messages and the notes on their decisions from ``begin`` until the slice ends or the room does.

    Returns (next frame to take, frames held, bytes held); ``used`` is (frames, bytes) held before.
    """
    count, filled = used
    source, held, target, note = np.int64(-1), np.int64(0), 0, 0
    for index in range(begin, frames.shape[0]):
        kind = frames[index].kind
        if kind < _FIRST_ORDER_KIND or kind > _LAST_ORDER_KIND:
            continue
        offset = np.int64(frames[index].payload_offset)
        length = np.int64(frames[index].payload_length)
        if offset + length > payload.shape[0]:
            length = np.int64(0)  # a corrupt frame was rejected by the risk pass; its bytes are nowhere
        noted = decisions[index].flags & NOTED != 0
        fresh = offset != source or length != held or noted
        wanted = length + NOTE_BYTES if noted else length
        if count == out_frames.shape[0] or (fresh and filled + wanted > out_payload.shape[0]):
            return index, count, filled
        if fresh:
            source, held, target = offset, length, filled
            copy_bytes(out_payload, filled, payload, offset, length)
            filled += length
        out_frames[count] = frames[index]
        out_frames[count].payload_offset = target
        out_frames[count].payload_length = length
        out_decisions[count] = decisions[index]
        if noted:
            while note < notes.shape[0] and notes[note].index < index:
                note += 1
            if note < notes.shape[0] and notes[note].index == index:
                _put_note(notes[note], out_payload, filled)
                filled += NOTE_BYTES
            else:
                out_decisions[count].flags &= ~np.uint8(NOTED)
        count += 1
    return frames.shape[0], count, filled


def payload_room(frames: int) -> int:
    """Room for raw messages of a batch of so many orders: at least one message of 64 KiB with a note."""
    return max(frames * MESSAGE_BYTES, (1 << 16) + 2 * NOTE_BYTES)


class BatchBuffer:
    """Preallocated room for one batch, filled from slices of the ring and used again and again.

    Parameters: ``frames``, most orders; ``payload_bytes``, room for their raw messages (at least one message).
    """

    def __init__(self, frames: int = BATCH_FRAMES, payload_bytes: int | None = None) -> None:
        room = payload_room(frames) if payload_bytes is None else payload_bytes
        self._frames = np.zeros(frames, FRAME_DTYPE)
        self._decisions = np.zeros(frames, DECISION_DTYPE)
        self._payload = np.zeros(room, np.uint8)
        self._used = (0, 0)

    def __len__(self) -> int:
        return self._used[0]

    @property
    def payload_room(self) -> int:
        """Room for raw messages, bytes."""
        return len(self._payload)

    def clear(self) -> None:
        """Empties the buffer; views handed out before are void."""
        self._used = (0, 0)

    def take(
        self,
        frames: np.ndarray,
        payload: np.ndarray,
        decisions: np.ndarray,
        begin: int = 0,
        notes: np.ndarray = NO_NOTES,
    ) -> int:
        """Copies the order frames of ``frames[begin:]`` (NEW_ORDER, CANCEL, REPLACE), their messages and decisions.

        ``decisions`` (DECISION_DTYPE) has a row for each frame, whatever its kind; ``notes`` (NOTE_DTYPE) are those on
        decisions that are NOTED. A decision whose note is not there is taken without.

        Returns the index of the first frame that was not looked at: ``len(frames)`` when everything fitted.
        Raises ValueError if a single message is larger than the buffer.
        """
        taken, count, filled = gather(
            frames, payload, decisions, notes, begin, self._used, self._frames, self._decisions, self._payload
        )
        if count == 0 and taken < len(frames):
            raise ValueError(f"a message of {frames[taken]['payload_length']} bytes does not fit a batch")
        self._used = (int(count), int(filled))
        return int(taken)

    def batch(self, number: int, first_sequence: int, epoch: int = 0) -> Batch:
        """What was taken, as views that hold until :meth:`clear` or the next :meth:`take`."""
        count, filled = self._used
        return Batch(
            number, first_sequence, self._frames[:count], self._decisions[:count], self._payload[:filled], epoch
        )


def merge_small(batches: Iterable[Batch], room: Callable[[], int]) -> Iterator[Batch]:
    """The same orders and controls in fewer batches, each of at most so many orders as there is ``room`` for when the one before it has been
    taken: whoever replays a journal spends more on a batch of one order than on a hundred orders. A batch is numbered as the first
    that it is made of."""
    waiting: list[Batch] = []
    orders = payload_bytes = most = 0
    for batch in batches:
        small = batch.kind is BatchKind.ORDERS and 2 * len(batch) <= MERGED_ORDERS
        orders += len(batch)
        payload_bytes += len(batch.payload)
        if waiting and not (small and orders <= most and payload_bytes <= MERGED_BYTES):
            yield _merged(waiting)
            waiting = []
        if not small:
            yield batch
            continue
        if not waiting:
            orders, payload_bytes, most = len(batch), len(batch.payload), min(room(), MERGED_ORDERS)
        waiting.append(batch)
    if waiting:
        yield _merged(waiting)


def _merged(batches: list[Batch]) -> Batch:
    """Batches of orders that follow one another as one."""
    first = batches[0]
    if len(batches) == 1:
        return first
    # As bytes: NumPy looks at each array's fields anew, which takes longer than all the rest.
    frames, decisions, payload = (
        np.frombuffer(bytearray().join(parts), dtype)  # type: ignore[arg-type]
        for parts, dtype in (
            ([each.frames for each in batches], FRAME_DTYPE),
            ([each.decisions for each in batches], DECISION_DTYPE),
            ([each.payload for each in batches], np.uint8),
        )
    )
    begins = np.cumsum([0, *(len(each.payload) for each in batches[:-1])])
    frames["payload_offset"] += np.repeat(begins, [len(each) for each in batches]).astype(np.uint32)
    return Batch(first.number, first.first_sequence, frames, decisions, payload, first.epoch)
