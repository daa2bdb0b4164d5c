"""What books read from raw messages, compiled: numbers at the places of a schema, and the ids of entries of FIX."""

import numpy as np
from numba import njit

from host.memory import INLINED, KERNEL

SOH, EQUALS, ZERO, NINE = 1, 61, 48, 57
ENTRY_ID = 278
"""MDEntryID: what an entry is called by that is changed and deleted later."""
TRAILER = 10

FNV_BASIS, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@njit(**INLINED)
def load(payload, at, size, big):
    """An unsigned number of ``size`` bytes."""
    value = np.uint64(0)
    for n in range(size):
        byte = payload[at + n] if big else payload[at + size - 1 - n]
        value = value << np.uint64(8) | np.uint64(byte)
    return value


@njit(**INLINED)
def read_place(places, place, payload, frame):
    """(whether it is there, the number) of a place in a frame's raw message. Signed numbers are as their bits."""
    if place.width == 0:
        return False, np.uint64(0)
    if place.is_constant:
        return True, place.null
    begin = np.int64(frame.payload_offset)
    end = min(begin + np.int64(frame.payload_length), payload.size)
    at = begin + np.int64(place.offset)
    if not place.in_message:
        at += np.int64(frame.entry_offset)
    if at + place.width > end:
        return False, np.uint64(0)
    if place.since_version != 0:
        version = load(payload, begin + places.version_offset, places.version_size, places.big)
        if version < np.uint64(place.since_version):
            return False, np.uint64(0)
    value = load(payload, at, place.width, places.big)
    return not (place.has_null and value == place.null), value


@njit(**KERNEL)
def read_entry_id(payload, frame):
    """(whether it is there, 64 bits of a hash, FNV-1a) of the entry's MDEntryID."""
    at = np.int64(frame.payload_offset)
    end = min(at + np.int64(frame.payload_length), payload.size)
    at += np.int64(frame.entry_offset)
    first = np.int64(0)
    while at < end:
        tag = np.int64(0)
        while at < end and ZERO <= payload[at] <= NINE:
            tag = tag * 10 + np.int64(payload[at]) - ZERO
            at += 1
        if at == end or payload[at] != EQUALS or tag in (first, TRAILER):
            break
        if first == 0:
            first = tag
        at += 1
        if tag == ENTRY_ID:
            value = FNV_BASIS
            while at < end and payload[at] != SOH:
                value = (value ^ np.uint64(payload[at])) * FNV_PRIME
                at += 1
            return True, value
        while at < end and payload[at] != SOH:
            at += 1
        at += 1
    return False, np.uint64(0)
