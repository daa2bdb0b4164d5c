"""The card's end of the rings, for cards that are software: compiled functions over one record.

The protocol is docs/ring.md. A writer never waits: it says that there is no credit, and its caller
comes back later to the same message or frame.
"""

import numpy as np
from numba import from_dtype, njit, types
from numba.extending import intrinsic

from hdl.frame import FRAME_BYTES, FRAME_DTYPE
from hdl.ring_layout import LINE_BYTES
from host.card.ring import FRAMES_READ, GENERATION_BYTE, PAYLOAD_READ, Ring
from host.memory import (
    INLINED,
    KERNEL,
    address_of,
    clear_line,
    copy_to,
    load_acquire_at,
    store_byte_release,
    store_line,
)
from host.ring.generation import count_available

NO_CREDIT = -1

WRITER_DTYPE = np.dtype(
    [
        # Where the ring lies: addresses of its parts; slots are a power of two.
        ("words", np.int64),
        ("frames", np.int64),
        ("payload", np.int64),
        ("slot_bits", np.int64),
        ("payload_bits", np.int64),
        # Positions without wrap, and the one up to which there was credit when it was last looked at.
        ("frames_written", np.int64),
        ("frames_limit", np.int64),
        ("payload_position", np.int64),
        ("payload_limit", np.int64),
        # Bytes of messages written.
        ("payload_bytes", np.int64),
    ]
)
"""A ring as compiled code takes it, and what its writer remembers: one pointer to pass, however deep."""


def writer_of(ring: Ring) -> np.void:
    """The writer of a ring that nothing was written to yet. It holds addresses: the ring must outlive it."""
    writer = np.zeros(1, WRITER_DTYPE)
    for name, part in (("words", ring.words), ("frames", ring.frame_bytes), ("payload", ring.payload)):
        writer[name] = part.ctypes.data
    slots, payload_bytes = len(ring.frames), len(ring.payload)
    writer["slot_bits"], writer["payload_bits"] = slots.bit_length() - 1, payload_bytes.bit_length() - 1
    writer["frames_limit"], writer["payload_limit"] = slots, payload_bytes
    record: np.void = writer[0]
    return record


def writer_resumed(ring: Ring) -> np.void:
    """The writer of a ring that a predecessor, of which nothing else is left, wrote frames and messages to."""
    record = writer_of(ring)
    slots, size = len(ring.frames), len(ring.payload)
    written = ring.position
    while written < ring.position + slots and (
        more := count_available(ring.frame_bytes, FRAME_BYTES, written, slots, ring.position + slots - written)
    ):
        written += int(more)
    read = int(ring.words[PAYLOAD_READ])
    record["frames_written"], record["frames_limit"] = written, int(ring.words[FRAMES_READ]) + slots
    record["payload_position"], record["payload_limit"] = read, read + size
    if written:
        last = ring.frames[(written - 1) % slots]
        offset, length = int(last["payload_offset"]), -(-int(last["payload_length"]) // LINE_BYTES) * LINE_BYTES
        # At most one lap is unread, so the offset tells the position.
        end = read + (offset - read) % size + length
        record["payload_position"] = end if end <= read + size else end - size
    return record


@njit(**INLINED)
def write_message(ring, source, start, length):
    """Copy a raw message into the payload ring. Returns its ``payload_offset``, or NO_CREDIT."""
    position = ring.payload_position
    size = 1 << ring.payload_bits
    offset = position & (size - 1)
    if length == 0:
        return offset
    if offset + length > size:
        position += size - offset
        offset = 0
    end = (position + length + LINE_BYTES - 1) & -LINE_BYTES
    if end > ring.payload_limit and not _has_payload_credit(ring, end):
        return NO_CREDIT
    place = ring.payload + offset
    clear_line(place + end - position - LINE_BYTES)
    copy_to(place, address_of(source, start), length)
    ring.payload_position = end
    ring.payload_bytes += length
    return offset


@njit(**KERNEL)
def _has_payload_credit(ring, end):
    """Whether the payload ring may be written up to a position, by the credit as it is now."""
    ring.payload_limit = np.int64(load_acquire_at(ring.words + 8 * PAYLOAD_READ)) + (1 << ring.payload_bits)
    return end <= ring.payload_limit


@njit(**INLINED)
def has_frame_credit(ring):
    """Whether the next frame may be written."""
    return ring.frames_written < ring.frames_limit or _has_new_frame_credit(ring)


@njit(**KERNEL)
def _has_new_frame_credit(ring):
    ring.frames_limit = np.int64(load_acquire_at(ring.words + 8 * FRAMES_READ)) + (1 << ring.slot_bits)
    return ring.frames_written < ring.frames_limit


@njit(**INLINED)
def _next_slot(ring):
    """The address of the next frame's slot."""
    return ring.frames + (ring.frames_written & ((1 << ring.slot_bits) - 1)) * FRAME_BYTES


@njit(**INLINED)
def _next_generation(ring):
    """As :func:`host.ring.generation.generation_of`, whose higher bits are left to be cut off."""
    return np.uint64((ring.frames_written >> ring.slot_bits) + 1)


@njit(**INLINED)
def next_frame(ring):
    """The next frame's slot as a record, to be filled before :func:`finish_frame`."""
    return frame_at(_next_slot(ring))


@intrinsic
def frame_at(typing_context, address):
    """The frame at an address as a record."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return from_dtype(FRAME_DTYPE)(types.int64), generate


@njit(**INLINED)
def finish_frame(ring):
    """The next frame, whose other fields stand in its slot, is there: write its generation."""
    store_byte_release(_next_slot(ring) + GENERATION_BYTE, np.uint8(_next_generation(ring)))
    ring.frames_written += 1


@njit(**INLINED)
def write_frame(ring, word0, word1, word2, word3, word4, word5, word6, word7):
    """Write the next frame as eight words, its generation (the last byte) left 0."""
    generation = _next_generation(ring) << np.uint64(8 * (GENERATION_BYTE % 8))
    store_line(_next_slot(ring), word0, word1, word2, word3, word4, word5, word6, word7 | generation)
    ring.frames_written += 1
