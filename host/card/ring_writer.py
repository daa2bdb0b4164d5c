"""The card's end of the rings, for cards that are software: compiled functions over one memory.

The protocol is docs/ring.md. A writer never waits: it says that there is no credit, and its caller
comes back later to the same message or frame.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.frame import FRAME_BYTES
from hdl.ring_layout import LINE_BYTES
from host.card.ring import FRAMES_READ, GENERATION_BYTE, PAYLOAD_READ, Ring, generation_of
from host.memory import KERNEL, copy_bytes, load_acquire, store_release

NO_CREDIT = -1

WRITER_DTYPE = np.dtype(
    [
        ("frames_written", np.int64),
        ("payload_position", np.int64),
        ("frames_read", np.int64),
        ("payload_read", np.int64),
        ("payload_bytes", np.int64),
    ]
)
"""What a writer remembers: positions without wrap, the credit that it last saw, bytes of messages written."""


class RingMemory(NamedTuple):
    """The ring as compiled code takes it; ``writer`` is one record of WRITER_DTYPE."""

    words: np.ndarray
    frames: np.ndarray
    frame_bytes: np.ndarray
    payload: np.ndarray
    writer: np.ndarray

    @classmethod
    def of(cls, ring: Ring) -> "RingMemory":
        """The memory of a ring that nothing was written to yet."""
        return cls(ring.words, ring.frames, ring.frame_bytes, ring.payload, np.zeros(1, WRITER_DTYPE))


@njit(**KERNEL)
def write_message(ring, source, start, length):
    """Copy a raw message into the payload ring. Returns its ``payload_offset``, or NO_CREDIT."""
    writer = ring.writer[0]
    size = ring.payload.size
    position = writer.payload_position
    offset = position % size
    if length == 0:
        return offset
    if offset + length > size:
        position += size - offset
        offset = 0
    end = position + (length + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
    if end - writer.payload_read > size:
        writer.payload_read = np.int64(load_acquire(ring.words, PAYLOAD_READ))
        if end - writer.payload_read > size:
            return NO_CREDIT
    copy_bytes(ring.payload, offset, source, start, length)
    for index in range(offset + length, offset + end - position):
        ring.payload[index] = 0
    writer.payload_position = end
    writer.payload_bytes += length
    return offset


@njit(**KERNEL)
def has_frame_credit(ring):
    """Whether the next frame may be written."""
    writer = ring.writer[0]
    if writer.frames_written - writer.frames_read < ring.frames.size:
        return True
    writer.frames_read = np.int64(load_acquire(ring.words, FRAMES_READ))
    return writer.frames_written - writer.frames_read < ring.frames.size


@njit(**KERNEL)
def finish_frame(ring):
    """The next frame, whose other fields stand in its slot, is there: write its generation."""
    writer = ring.writer[0]
    number = writer.frames_written
    slot = number % ring.frames.size
    store_release(
        ring.frame_bytes, slot * FRAME_BYTES + GENERATION_BYTE, np.uint8(generation_of(number, ring.frames.size))
    )
    writer.frames_written = number + 1
