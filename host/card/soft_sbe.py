"""What all SBE decoders of the soft card have in common, compiled: docs/sbe.md, rule by rule.

The decoder of one (schema, profile) is generated (:mod:`host.card.sbe_source`) and calls what stands here.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.frame import Flag, Kind
from hdl.limits import MESSAGE_LIMIT
from hdl.sbe_plan import ENTRY_KINDS
from host.card.ring_writer import write_message
from host.memory import INLINED, KERNEL, load_unsigned, swap_bytes

GARBAGE = int(Flag.GARBAGE)
LENGTH = int(Flag.LENGTH)
RANGE = int(Flag.RANGE)
TOO_LONG = int(Flag.TOO_LONG)
TRUNCATED = int(Flag.TRUNCATED)
TEMPLATE = int(Flag.TEMPLATE)
FRAGMENT = int(Flag.FRAGMENT)
MALFORMED = int(Kind.MALFORMED)
OTHER = int(Kind.OTHER)

KIND_OF_ENTRY_TYPE = np.full(256, Kind.STATISTIC, np.uint8)
"""Kind by MDEntryType."""
for _entry_type, _kind in ENTRY_KINDS.items():
    KIND_OF_ENTRY_TYPE[_entry_type] = _kind

HUGE = 1 << 40
"""What larger lengths and counts are cut to: beyond any message, and far from wrapping."""

PACKET, BY_LENGTH, BY_STRUCTURE = range(3)
"""What tells a message's end, as :class:`hdl.sbe_framing.End` has it."""

SBE_STATE_DTYPE = np.dtype(
    [
        # Of the packet; `message` is where the current message's framing begins in it, -1 before the first.
        ("timestamp", np.uint64),
        ("packet_sequence", np.uint32),
        ("flow", np.uint16),
        ("fragment_flag", np.uint16),
        ("message", np.int64),
        # Of the message: whether its bytes are in the ring, how many frames it has so far, and how many of them
        # an earlier call has written.
        ("stored", np.bool_),
        ("payload_offset", np.uint32),
        ("payload_length", np.uint16),
        ("message_type", np.uint16),
        ("sequence", np.uint32),
        ("frames", np.int64),
        ("written", np.int64),
    ]
)
"""Where a packet is, so that it can go on after it had to wait; `message` is -1 before a packet."""


class Framing(NamedTuple):
    """A framing as compiled code takes it: :class:`hdl.sbe_framing.Framing` with a slot as offset and size (0: none)."""

    big: bool
    packet_size: int
    packet_sequence_offset: int
    packet_sequence_size: int
    message_size: int
    end: int
    length_offset: int
    length_size: int
    length_excess: int
    sequence_offset: int
    sequence_size: int
    magic_offset: int
    magic_size: int
    magic_value: int
    needed: int
    """How many bytes from its begin must be there before a message's framing can be read."""
    header_size: int
    """Of the SBE header."""


@njit(inline="always")
def load(data, index, size, big):
    """An unsigned number of ``size`` bytes (1 to 8) from any place."""
    number = load_unsigned(data, index, size)
    return swap_bytes(number) >> np.uint64(64 - 8 * size) if big else number


@njit(inline="always")
def load_count(data, index, size, big):
    """A length or count, cut to HUGE."""
    return np.int64(min(load(data, index, size, big), np.uint64(HUGE)))


@njit(**KERNEL)
def scaled(magnitude, negative, power, highest, lowest):
    """``magnitude × 10^power`` as 64 bits in two's complement, and whether it fits: at most ``highest``, or of a negative number at
    most ``lowest``. Of a negative ``power`` only 0 fits."""
    limit = lowest if negative else highest
    if magnitude == np.uint64(0):
        return np.uint64(0), True
    if power < 0 or power > 19:
        return np.uint64(0), False
    for _ in range(power):
        if magnitude > limit // np.uint64(10):
            return np.uint64(0), False
        magnitude *= np.uint64(10)
    if magnitude > limit:
        return np.uint64(0), False
    return np.uint64(0) - magnitude if negative else magnitude, True


@njit(**KERNEL)
def scaled_binary(bits, mantissa_bits, exponent_bits, power, highest, lowest):
    """A floating point number of IEEE 754, given by its bits, times ``10^power`` (at most 9), rounded to the nearest whole number (of
    two, to the even one); and whether it fits as in :func:`scaled`. Infinite numbers do not. Not for NaN."""
    sign = bits >> np.uint64(mantissa_bits + exponent_bits) != 0
    exponent = np.int64(bits >> np.uint64(mantissa_bits)) & ((1 << exponent_bits) - 1)
    mantissa = bits & ((np.uint64(1) << np.uint64(mantissa_bits)) - np.uint64(1))
    if exponent == (1 << exponent_bits) - 1:
        return np.uint64(0), False
    if exponent != 0:
        mantissa |= np.uint64(1) << np.uint64(mantissa_bits)
    # It is mantissa × 2^-down; the product of 53 and 30 bits takes two words.
    down = (1 << (exponent_bits - 1)) - 1 + mantissa_bits - max(exponent, 1)
    factor = np.uint64(1)
    for _ in range(power):
        factor *= np.uint64(10)
    middle = (mantissa & np.uint64(0xFFFFFFFF)) * factor
    high = (mantissa >> np.uint64(32)) * factor + (middle >> np.uint64(32))
    low = high << np.uint64(32) | middle & np.uint64(0xFFFFFFFF)
    high >>= np.uint64(32)
    if down > 0:
        if down > 84:
            return np.uint64(0), True
        # Half of the last place, less where it would round an even number up.
        _, odd = _right(high, low, down)
        half_high, half_low = _power_of_two(down - 1)
        high, low = _sum(high, low, half_high, half_low)
        if odd & np.uint64(1) == 0:
            high, low = high - np.uint64(low == 0), low - np.uint64(1)
        high, low = _right(high, low, down)
    elif down < 0:
        if low != 0 and (down <= -64 or low >> np.uint64(64 + down) != 0):
            return np.uint64(0), False
        low = np.uint64(0) if down <= -64 else low << np.uint64(-down)
    if high != 0 or low > (lowest if sign else highest):
        return np.uint64(0), False
    return np.uint64(0) - low if sign else low, True


@njit(**KERNEL)
def _right(high, low, places):
    """A number of two words, shifted right by 1 to 127 places."""
    if places >= 64:
        return np.uint64(0), high >> np.uint64(places - 64)
    return high >> np.uint64(places), low >> np.uint64(places) | high << np.uint64(64 - places)


@njit(**KERNEL)
def _power_of_two(exponent):
    if exponent >= 64:
        return np.uint64(1) << np.uint64(exponent - 64), np.uint64(0)
    return np.uint64(0), np.uint64(1) << np.uint64(exponent)


@njit(**KERNEL)
def _sum(high, low, other_high, other_low):
    total = low + other_low
    return high + other_high + np.uint64(total < low), total


@njit(**INLINED)
def store_message(ring, state, data, start, length):
    """Write a raw message, unless an earlier call has; False where it waits for credit."""
    state.frames = 0
    if not state.stored:
        payload_offset = write_message(ring, data, start, length)
        if payload_offset < 0:
            return False
        state.stored = True
        state.payload_offset = payload_offset
        state.payload_length = length
    return True


@njit(**INLINED)
def begin_packet(state, framing, data, begin, end, flow, timestamp, fragment):
    """Set the state for a packet's payload ``data[begin:end]``, unless it goes on with it."""
    state.timestamp = timestamp
    state.flow = flow
    state.fragment_flag = FRAGMENT if fragment else 0
    whole = end - begin >= framing.packet_size
    state.packet_sequence = np.uint32(0)
    if whole and framing.packet_sequence_size:
        at = begin + framing.packet_sequence_offset
        state.packet_sequence = np.uint32(load(data, at, framing.packet_sequence_size, framing.big))
    if state.message < 0:
        state.message = framing.packet_size if whole else 0


@njit(**INLINED)
def find_message(state, framing, data, begin, end):
    """What the framing at ``state.message`` says: where the message (its SBE header) begins, how many of its bytes are
    there, where in the packet the next one's framing begins, whether the message may be read, and its cause (0: none).
    A packet without a whole header is one truncated message."""
    at = begin + state.message
    there = end - at
    length = end - begin
    state.sequence = state.packet_sequence
    state.message_type = np.uint16(0)
    if length < framing.packet_size or there < framing.needed:
        return at, there, length, False, TRUNCATED
    if framing.sequence_size:
        place = at + framing.sequence_offset
        state.sequence = np.uint32(load(data, place, framing.sequence_size, framing.big))
    message = at + framing.message_size
    there = end - message
    rest = min(there, MESSAGE_LIMIT)
    if framing.magic_size:
        found = load(data, at + framing.magic_offset, framing.magic_size, framing.big)
        if found != np.uint64(framing.magic_value):
            return message, rest, length, False, GARBAGE
    if framing.end == BY_LENGTH:
        declared = (
            load_count(data, at + framing.length_offset, framing.length_size, framing.big) - framing.length_excess
        )
        if declared < framing.header_size:
            return message, rest, length, False, LENGTH
        if declared > MESSAGE_LIMIT:
            return message, rest, length, False, TOO_LONG
    else:
        declared = there
        if framing.end == PACKET and there > MESSAGE_LIMIT:
            return message, rest, length, True, TOO_LONG
    if there < declared or there < framing.header_size:
        return message, there, length, True, TRUNCATED
    return message, declared, state.message + framing.message_size + declared, True, 0
