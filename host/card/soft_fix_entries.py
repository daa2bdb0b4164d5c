"""The entries of FIX market data messages, compiled: docs/fix.md, "Market data: one frame an entry"."""

import numpy as np
from numba import njit

from hdl.fix_tags import (
    MD_ENTRY_PX_TAG,
    MD_ENTRY_SIZE_TAG,
    MD_ENTRY_TYPE_TAG,
    MD_PRICE_LEVEL_TAG,
    MD_UPDATE_ACTION_TAG,
    NUMBER_OF_ORDERS_TAG,
    RPT_SEQ_TAG,
    SOH,
    SYMBOL_TAG,
)
from hdl.frame import Flag, Kind
from host.card.ring_writer import finish_frame, has_frame_credit, next_frame, write_message
from host.card.soft_fix_fields import NO_TAG, crc64, read_announcement, read_tag
from host.card.soft_sbe import KIND_OF_ENTRY_TYPE
from host.fix_number import read_integer, read_price, read_quantity
from host.memory import KERNEL, find_byte

VALUE = int(Flag.VALUE)
RANGE = int(Flag.RANGE)
DUPLICATE_TAG = int(Flag.DUPLICATE_TAG)
PRICE_ABSENT = int(Flag.PRICE_ABSENT)
QUANTITY_ABSENT = int(Flag.QUANTITY_ABSENT)
BOOK_UPDATE = int(Kind.BOOK_UPDATE)

PRICE_LEVEL_LIMIT = 1 << 8

PRICE, QUANTITY, TYPE, ACTION, LEVEL, ORDERS, SEQUENCE, INSTRUMENT = (1 << bit for bit in range(8))
"""Bits of ``seen``: which tags an entry has."""

ENTRY_DTYPE = np.dtype(
    [
        ("price", np.int64),
        ("quantity", np.uint64),
        ("instrument", np.uint64),
        ("number_of_orders", np.uint32),
        ("instrument_sequence", np.uint32),
        ("entry_type", np.uint8),
        ("update_action", np.uint8),
        ("price_level", np.uint8),
        ("seen", np.int64),
        ("flags", np.int64),
    ]
)
"""What was read of an entry. ``instrument`` stands until an entry has another."""


@njit(**KERNEL)
def _bit_of(tag):
    """The bit of ``seen`` that stands for a tag; 0 for tags that entries are not read for."""
    if tag == MD_ENTRY_PX_TAG:
        return PRICE
    if tag == MD_ENTRY_SIZE_TAG:
        return QUANTITY
    if tag == MD_ENTRY_TYPE_TAG:
        return TYPE
    if tag == MD_UPDATE_ACTION_TAG:
        return ACTION
    if tag == MD_PRICE_LEVEL_TAG:
        return LEVEL
    if tag == NUMBER_OF_ORDERS_TAG:
        return ORDERS
    if tag == RPT_SEQ_TAG:
        return SEQUENCE
    if tag == SYMBOL_TAG:
        return INSTRUMENT
    return 0


@njit(**KERNEL)
def _read_character(data, value, end):
    """The only character of a value, and its cause."""
    return (data[value], 0) if end - value == 1 else (np.uint8(0), VALUE)


@njit(**KERNEL)
def _take_field(entry, data, bit, value, end):
    """Take a value that the frame carries into the entry; returns its cause."""
    cause = 0
    number = 0
    if bit == PRICE:
        entry.price, cause = read_price(data, value, end)
    elif bit == QUANTITY:
        entry.quantity, cause = read_quantity(data, value, end)
    elif bit == TYPE:
        entry.entry_type, cause = _read_character(data, value, end)
    elif bit == ACTION:
        entry.update_action, cause = _read_character(data, value, end)
    elif bit == LEVEL:
        number, cause = read_integer(data, value, end)
        if number >= PRICE_LEVEL_LIMIT:
            cause = RANGE
        else:
            entry.price_level = number
    elif bit == ORDERS:
        number, cause = read_integer(data, value, end)
        entry.number_of_orders = number
    elif bit == SEQUENCE:
        number, cause = read_integer(data, value, end)
        entry.instrument_sequence = number
    else:
        entry.instrument = crc64(data, value, end)
    return cause


@njit(**KERNEL)
def _read_entry(entry, data, start, stop, entry_tag):
    """Read the entry that begins at ``start`` with ``entry_tag``; returns where it ends, at most ``stop``.

    Its fields are sound: the message that they stand in is not malformed.
    """
    entry.price = 0
    entry.quantity = np.uint64(0)
    entry.number_of_orders = np.uint32(0)
    entry.instrument_sequence = np.uint32(0)
    entry.entry_type = np.uint8(0)
    entry.update_action = np.uint8(0)
    entry.price_level = np.uint8(0)
    entry.seen = 0
    entry.flags = 0
    data_tag = NO_TAG
    data_bytes = 0
    field = start
    while field < stop:
        tag, value = read_tag(data, field, stop)
        if tag == entry_tag and field > start:
            break
        end = value + data_bytes if tag == data_tag else find_byte(data, SOH, value, stop)
        data_tag, data_bytes, _ = read_announcement(data, tag, value, end)
        bit = _bit_of(tag)
        if entry.seen & bit:
            entry.flags |= DUPLICATE_TAG
        elif bit:
            entry.seen |= bit
            entry.flags |= _take_field(entry, data, bit, value, end)
        field = end + 1
    if entry.seen & PRICE == 0:
        entry.flags |= PRICE_ABSENT
    if entry.seen & QUANTITY == 0:
        entry.flags |= QUANTITY_ABSENT
    return field


@njit(**KERNEL)
def find_entry_causes(state, data, start, stop):
    """Why entries cannot be read: VALUE and RANGE of all those of the message at ``start``, whose trailer is at ``stop``."""
    causes = 0
    at = start + state.first_entry
    while at < stop:
        at = _read_entry(state.entry, data, at, stop, state.entry_tag)
        causes |= state.entry.flags & (VALUE | RANGE)
    return causes


@njit(**KERNEL)
def write_entries(ring, state, data, start, stop, length, flags, flow):
    """Write the message at ``start``, whose trailer is at ``stop``, and one frame an entry.

    False where a frame waits for credit: then call again, and what was written is not written twice.
    """
    if not state.stored:
        payload_offset = write_message(ring, data, start, length)
        if payload_offset < 0:
            return False
        state.stored = True
        state.payload_offset = payload_offset
    entry = state.entry
    entry.instrument = state.instrument
    at = start + state.first_entry
    number = 0
    while at < stop:
        following = _read_entry(entry, data, at, stop, state.entry_tag)
        if number >= state.entries_written:
            if not has_frame_credit(ring):
                return False
            frame = next_frame(ring)
            frame.timestamp = state.message_timestamp
            frame.price = entry.price
            frame.quantity = entry.quantity
            frame.instrument = entry.instrument
            frame.payload_offset = state.payload_offset
            frame.payload_length = length
            frame.flow = flow
            frame.sequence = state.sequence
            frame.kind = KIND_OF_ENTRY_TYPE[entry.entry_type] if entry.seen & TYPE else BOOK_UPDATE
            frame.entry_type = entry.entry_type
            frame.update_action = entry.update_action
            frame.price_level = entry.price_level
            frame.flags = flags | entry.flags
            frame.message_type = state.message_type
            frame.number_of_orders = entry.number_of_orders
            frame.instrument_sequence = entry.instrument_sequence
            frame.entry_offset = at - start
            frame.spare = 0
            finish_frame(ring)
            state.entries_written += 1
        number += 1
        at = following
    return True
