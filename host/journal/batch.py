"""A batch: order frames, what was decided about them, and their raw messages, in one piece.

It is what the journal writes, what it reads back and what nodes apply, so that all three see the same bytes.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from hdl.frame import FRAME_DTYPE, Kind

ACCEPTED = 1
"""The verdict of an order that passed every check. 0 is never written, so that no sector of a batch is all zeros."""

DECISION_DTYPE = np.dtype([("verdict", "u1"), ("node", "u1"), ("reserved", "u1", (6,)), ("price", "<i8")])
"""What the gateway decided about one order: ``host.gateway.verdict.Verdict``, the node (255: none), and the price
(1e-9) at which risk valued the order: its limit price, else the reference price of that moment."""

BATCH_FRAMES = 8192
"""Most orders a batch by default: 512 KiB of frames, enough that one fdatasync costs little an order."""

MESSAGE_BYTES = 256
"""Room for raw messages per order of a batch by default: orders with some twenty fields."""

_FIRST_ORDER_KIND = int(Kind.NEW_ORDER)
_LAST_ORDER_KIND = int(Kind.REPLACE)


@dataclass(frozen=True)
class Batch:
    """Orders in sequence; order i has sequence ``first_sequence + i``.

    ``frames[i].payload_offset`` counts from the beginning of ``payload``. The arrays are views: of a
    :class:`BatchBuffer`, which reuses them, or of a segment read back, which is theirs.
    """

    number: int
    first_sequence: int
    frames: np.ndarray
    decisions: np.ndarray
    payload: np.ndarray
    epoch: int = field(default=0)

    def __len__(self) -> int:
        return len(self.frames)


@njit(cache=True, nogil=True, _nrt=False)
def gather(frames, payload, decisions, begin, used, out_frames, out_decisions, out_payload):
    """Copies order frames and their messages from ``begin`` until the slice ends or the room does.

    Returns (next frame to take, frames held, bytes held); ``used`` is (frames, bytes) held before.
    """
    count, filled = used
    source, target = np.int64(-1), 0
    for index in range(begin, frames.shape[0]):
        kind = frames[index].kind
        if kind < _FIRST_ORDER_KIND or kind > _LAST_ORDER_KIND:
            continue
        offset = np.int64(frames[index].payload_offset)
        length = np.int64(frames[index].payload_length)
        if offset + length > payload.shape[0]:
            length = np.int64(0)  # a corrupt frame was rejected by the risk pass; its bytes are nowhere
        if count == out_frames.shape[0] or (offset != source and filled + length > out_payload.shape[0]):
            return index, count, filled
        if offset != source:
            source, target = offset, filled
            for byte in range(length):
                out_payload[filled + byte] = payload[offset + byte]
            filled += length
        out_frames[count] = frames[index]
        out_frames[count].payload_offset = target
        out_frames[count].payload_length = length
        out_decisions[count] = decisions[index]
        count += 1
    return frames.shape[0], count, filled


class BatchBuffer:
    """Preallocated room for one batch, filled from slices of the ring and used again and again.

    Parameters: ``frames``, most orders; ``payload_bytes``, room for their raw messages (at least one message).
    """

    def __init__(self, frames: int = BATCH_FRAMES, payload_bytes: int | None = None) -> None:
        room = max(frames * MESSAGE_BYTES, 1 << 16) if payload_bytes is None else payload_bytes
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

    def take(self, frames: np.ndarray, payload: np.ndarray, decisions: np.ndarray, begin: int = 0) -> int:
        """Copies the order frames of ``frames[begin:]`` (NEW_ORDER, CANCEL, REPLACE) and their messages.

        Returns the index of the first frame that was not looked at: ``len(frames)`` when everything fitted.
        Raises ValueError if a single message is larger than the buffer.
        """
        taken, count, filled = gather(
            frames, payload, decisions, begin, self._used, self._frames, self._decisions, self._payload
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
