"""FIX bytes to frames, compiled: docs/fix.md, rule by rule."""

import numpy as np
from numba import njit

from hdl.fix_tags import (
    ACCOUNT_TAG,
    BODY_LENGTH_TAG,
    CHECK_SUM_FIELD_BYTES,
    CHECK_SUM_TAG,
    CL_ORD_ID_TAG,
    ENTRY_TAGS,
    MSG_SEQ_NUM_TAG,
    MSG_TYPE_TAG,
    ORD_TYPE_TAG,
    ORDER_QTY_TAG,
    ORIG_CL_ORD_ID_TAG,
    PRICE_TAG,
    SIDE_TAG,
    SOH,
    SYMBOL_TAG,
    TIME_IN_FORCE_TAG,
)
from hdl.fix_tags import KIND_OF_MSG_TYPE as KINDS
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT, PACKET_LIMIT
from host.card.ring_writer import finish_frame, has_frame_credit, next_frame, write_message
from host.card.soft_fix_entries import ENTRY_DTYPE, find_entry_causes, write_entries
from host.card.soft_fix_fields import (
    BAD_TAG,
    NO_TAG,
    check_sum_is_right,
    crc64,
    find_begin,
    read_announcement,
    read_tag,
)
from host.fix_number import read_integer, read_length, read_price, read_quantity
from host.memory import KERNEL, copy_bytes, find_byte

SEEK, LENGTH, BODY, DATA, TRAILER = range(5)
"""Phases of the framing."""

GARBAGE = int(Flag.GARBAGE)
LENGTH_FLAG = int(Flag.LENGTH)
CHECKSUM = int(Flag.CHECKSUM)
TAG = int(Flag.TAG)
VALUE = int(Flag.VALUE)
TOO_LONG = int(Flag.TOO_LONG)
STRUCTURE = int(Flag.STRUCTURE)
FRAGMENT = int(Flag.FRAGMENT)
DUPLICATE_TAG = int(Flag.DUPLICATE_TAG)
PRICE_ABSENT = int(Flag.PRICE_ABSENT)
QUANTITY_ABSENT = int(Flag.QUANTITY_ABSENT)
MALFORMED = int(Kind.MALFORMED)
GAP = int(Kind.GAP)

TAKEN = (
    ACCOUNT_TAG, CL_ORD_ID_TAG, MSG_SEQ_NUM_TAG, MSG_TYPE_TAG, ORDER_QTY_TAG, ORD_TYPE_TAG,
    ORIG_CL_ORD_ID_TAG, PRICE_TAG, SIDE_TAG, SYMBOL_TAG, TIME_IN_FORCE_TAG,
)  # fmt: skip
TAKEN_TAGS = sum(1 << tag for tag in TAKEN)
"""Bit n is set where tag n feeds the frame; all are below 64."""

KIND_OF_MSG_TYPE = np.full(1 << 16, Kind.OTHER, np.uint8)
"""Kind by ``message_type``."""
for _msg_type, _kind in KINDS.items():
    KIND_OF_MSG_TYPE[ord(_msg_type)] = _kind

ENTRY_TAG_OF_MSG_TYPE = np.full(1 << 8, NO_TAG, np.int64)
"""The tag with which entries begin, by a MsgType of one character."""
for _msg_type, _tag in ENTRY_TAGS.items():
    ENTRY_TAG_OF_MSG_TYPE[ord(_msg_type)] = _tag

KEPT_BYTES = 2 * MESSAGE_LIMIT + PACKET_LIMIT
"""Bytes kept a flow: the longest span that is not settled yet, and a packet behind it."""

FIX_STATE_DTYPE = np.dtype(
    [
        # Bytes from the message's start on that are kept in the store, and how many of them are older than the packet.
        ("held", np.int64),
        ("arrival", np.int64),
        # Places relative to the message's start: the current field, how far it was searched, the ends of body and data.
        ("field", np.int64),
        ("scanned", np.int64),
        ("body_end", np.int64),
        ("data_end", np.int64),
        ("phase", np.int64),
        ("flags", np.int64),
        ("field_timestamp", np.uint64),
        ("message_timestamp", np.uint64),
        # What the field before has announced.
        ("data_tag", np.int64),
        ("data_bytes", np.int64),
        # What was taken from the message; bit n of `seen` is tag n, bit 0 any field of the body.
        ("seen", np.uint64),
        ("price", np.int64),
        ("quantity", np.uint64),
        ("instrument", np.uint64),
        ("sequence", np.uint32),
        ("message_type", np.uint16),
        ("side", np.uint8),
        ("order_type", np.uint8),
        ("time_in_force", np.uint8),
        ("client_order_id", np.uint16),
        ("original_order_id", np.uint16),
        ("symbol", np.uint16),
        ("account", np.uint16),
        # Its entries: the tag with which they begin (NO_TAG: they are not looked for) and where the first one
        # does (0: there is none yet); while they are written, whether the bytes are in the ring and how many frames.
        ("entry_tag", np.int64),
        ("first_entry", np.int64),
        ("stored", np.bool_),
        ("payload_offset", np.int64),
        ("entries_written", np.int64),
        ("entry", ENTRY_DTYPE),
    ]
)
"""A flow's state between packets."""


def fix_store() -> np.ndarray:
    """The bytes kept for all flows, KEPT_BYTES each."""
    return np.zeros(FLOWS * KEPT_BYTES, np.uint8)


@njit(**KERNEL)
def _forget(state):
    """A new message begins: nothing is taken yet."""
    state.phase = SEEK
    state.flags = 0
    state.seen = np.uint64(0)
    state.price = 0
    state.quantity = np.uint64(0)
    state.instrument = np.uint64(0)
    state.sequence = np.uint32(0)
    state.message_type = np.uint16(0)
    state.side = np.uint8(0)
    state.order_type = np.uint8(0)
    state.time_in_force = np.uint8(0)
    state.client_order_id = np.uint16(0)
    state.original_order_id = np.uint16(0)
    state.symbol = np.uint16(0)
    state.account = np.uint16(0)
    state.entry_tag = NO_TAG
    state.first_entry = 0


@njit(**KERNEL)
def _take(state, data, start, field, tag, value, end):
    """Take the field of the body at ``field``; its value is ``data[value:end]``."""
    if state.seen & np.uint64(1) == 0:
        state.seen |= np.uint64(1)
        if tag != MSG_TYPE_TAG or value == end:
            state.flags |= STRUCTURE
    if tag == BAD_TAG:
        state.flags |= TAG
        return
    if value == end:
        state.flags |= VALUE
        return
    if tag >= 64:
        state.data_tag, state.data_bytes, cause = read_announcement(data, tag, value, end)
        state.flags |= cause
        if tag == state.entry_tag and state.first_entry == 0:
            state.first_entry = field - start
        return
    if TAKEN_TAGS >> tag & 1 == 0 or state.first_entry:
        return
    bit = np.uint64(1) << np.uint64(tag)
    if state.seen & bit:
        state.flags |= DUPLICATE_TAG
        return
    state.seen |= bit

    offset = np.uint16(value - start)
    cause = 0
    if tag == CL_ORD_ID_TAG:
        state.client_order_id = offset
    elif tag == ORIG_CL_ORD_ID_TAG:
        state.original_order_id = offset
    elif tag == ACCOUNT_TAG:
        state.account = offset
    elif tag == SYMBOL_TAG:
        state.symbol = offset
        state.instrument = crc64(data, value, end)
    elif tag == PRICE_TAG:
        state.price, cause = read_price(data, value, end)
    elif tag == ORDER_QTY_TAG:
        state.quantity, cause = read_quantity(data, value, end)
    elif tag == MSG_SEQ_NUM_TAG:
        state.sequence, cause = read_integer(data, value, end)
    elif end - value > (2 if tag == MSG_TYPE_TAG else 1):
        cause = VALUE
    elif tag == SIDE_TAG:
        state.side = data[value]
    elif tag == ORD_TYPE_TAG:
        state.order_type = data[value]
    elif tag == TIME_IN_FORCE_TAG:
        state.time_in_force = data[value]
    else:
        state.message_type = np.uint16(data[value])
        if end - value == 2:
            state.message_type |= np.uint16(data[value + 1]) << np.uint16(8)
        else:
            state.entry_tag = ENTRY_TAG_OF_MSG_TYPE[data[value]]
    state.flags |= cause


@njit(**KERNEL)
def _fill_frame(frame, state, payload_offset, length, flags, kind, flow):
    """Fill a frame's slot with what was taken, the order view; the caller finishes it."""
    if state.seen >> np.uint64(PRICE_TAG) & np.uint64(1) == 0:
        flags |= PRICE_ABSENT
    if state.seen >> np.uint64(ORDER_QTY_TAG) & np.uint64(1) == 0:
        flags |= QUANTITY_ABSENT
    frame.timestamp = state.message_timestamp
    frame.price = state.price
    frame.quantity = state.quantity
    frame.instrument = state.instrument
    frame.payload_offset = payload_offset
    frame.payload_length = length
    frame.flow = flow
    frame.sequence = state.sequence
    frame.kind = kind
    frame.side = state.side
    frame.order_type = state.order_type
    frame.time_in_force = state.time_in_force
    frame.flags = flags
    frame.message_type = state.message_type
    frame.client_order_id = state.client_order_id
    frame.original_order_id = state.original_order_id
    frame.symbol = state.symbol
    frame.account = state.account
    frame.entry_offset = 0
    frame.spare = 0


@njit(**KERNEL)
def _write(ring, state, data, start, length, flags, kind, flow):
    """Write the bytes ``data[start : start + length]`` and their one frame; False (and nothing) without credit."""
    if not has_frame_credit(ring):
        return False
    payload_offset = write_message(ring, data, start, length)
    if payload_offset < 0:
        return False
    frame = next_frame(ring)
    _fill_frame(frame, state, payload_offset, length, flags, kind, flow)
    finish_frame(ring)
    return True


@njit(**KERNEL)
def _write_market_data(ring, state, data, start, field, after, flags, flow):
    """Write the sound message from ``start`` to ``after``, whose trailer is at ``field`` and which has entries; False
    where a frame waits for credit."""
    causes = find_entry_causes(state, data, start, field)
    if causes:
        return _write(ring, state, data, start, after - start, flags | causes, MALFORMED, flow)
    if not write_entries(ring, state, data, start, field, after - start, flags, flow):
        return False
    state.stored = False
    state.entries_written = 0
    return True


@njit(**KERNEL)
def take_hole(ring, states, stored, flow, missing, timestamp, fragment):
    """``missing`` bytes are not there behind those that the flow has had: write a GAP frame of what is unfinished.

    False (and nothing) without credit.
    """
    state = states[flow]
    if not has_frame_credit(ring):
        return False
    payload_offset = write_message(ring, stored, flow * KEPT_BYTES, state.held)
    if payload_offset < 0:
        return False
    flags = state.flags | (FRAGMENT if fragment else 0)
    # Nothing of the message is needed any more: the frame is filled from the state.
    state.message_timestamp = timestamp
    state.sequence = np.uint32(missing)
    frame = next_frame(ring)
    _fill_frame(frame, state, payload_offset, state.held, flags, GAP, flow)
    finish_frame(ring)
    _forget(state)
    state.held = 0
    state.arrival = 0
    state.field = 0
    state.scanned = 0
    return True


@njit(**KERNEL)
def take_fix(ring, states, store, stored, data, begin, end, flow, timestamp, fragment, resumed):
    """Parse a flow's next bytes, ``data[begin:end]``; False where a frame waits for credit.

    Then call again with ``resumed``: the bytes are kept in ``store`` (``stored`` is the same memory, read-only like
    ``data``), and the field that gave the frame is read again. A field gives the frames of one message at most, and
    nothing is settled before they are written.
    """
    state = states[flow]
    base = flow * KEPT_BYTES
    fragment_flag = FRAGMENT if fragment else 0
    in_store = resumed or state.held > 0
    if resumed:
        source, start, arrival, stop = stored, base, base + state.arrival, base + state.held
    elif in_store:
        source, start, arrival = stored, base, base + state.held
        stop = arrival + end - begin
        copy_bytes(store, arrival, data, begin, end - begin)
    else:
        source, start, arrival, stop = data, begin, begin, end
    field = start + state.field
    scanned = start + state.scanned
    body_end = start + state.body_end

    done = False
    while True:
        # The field: [field, after), its value [value, value_end).
        limit = min(stop, field + FIELD_LIMIT)
        value_end = find_byte(source, SOH, scanned, limit)
        field_timestamp = timestamp if field >= arrival else state.field_timestamp
        if field == start:
            state.message_timestamp = field_timestamp
        if value_end == limit:
            if limit - field < FIELD_LIMIT:
                scanned = stop
                done = True
                break
            # An overrun.
            flags = state.flags | TOO_LONG | fragment_flag
            if not _write(ring, state, source, start, limit - start, flags, MALFORMED, flow):
                break
            _forget(state)
            start = field = scanned = limit
            continue
        after = value_end + 1
        tag, value = read_tag(source, field, value_end)

        # The phase: a cause means that the field fails it.
        cause = 0
        if state.phase == BODY:
            announced = state.data_tag != NO_TAG and state.data_tag == tag
            lacking = state.data_bytes - (value_end - value) if announced else 0
            if after > body_end or lacking < 0:
                cause = LENGTH_FLAG
            elif lacking > 0:
                state.phase = DATA
                state.data_end = value + state.data_bytes - start
                state.data_tag = NO_TAG
            else:
                state.data_tag = NO_TAG
                _take(state, source, start, field, tag, value, value_end)
                if after == body_end:
                    state.phase = TRAILER
        elif state.phase == DATA:
            data_after = start + state.data_end + 1
            if after > body_end or after > data_after:
                cause = LENGTH_FLAG
            elif after == data_after:
                state.phase = TRAILER if after == body_end else BODY
        elif state.phase == TRAILER:
            if tag == CHECK_SUM_TAG and after - field == CHECK_SUM_FIELD_BYTES:
                flags = state.flags | fragment_flag
                if not check_sum_is_right(source, start, field, value, value_end):
                    flags |= CHECKSUM
                kind = MALFORMED if flags & MALFORMED_FLAGS else KIND_OF_MSG_TYPE[state.message_type]
                if state.first_entry and kind != MALFORMED:
                    if not _write_market_data(ring, state, source, start, field, after, flags, flow):
                        break
                elif not _write(ring, state, source, start, after - start, flags, kind, flow):
                    break
                _forget(state)
                start = after
            else:
                cause = LENGTH_FLAG
        elif state.phase == LENGTH:
            body_length = read_length(source, value, value_end) if tag == BODY_LENGTH_TAG else -1
            if body_length < 0:
                cause = LENGTH_FLAG
            elif after - start + body_length + CHECK_SUM_FIELD_BYTES > MESSAGE_LIMIT:
                cause = TOO_LONG
            else:
                body_end = after + body_length
                state.data_tag = NO_TAG
                state.phase = BODY
                if body_length == 0:
                    state.phase = TRAILER
                    state.flags |= STRUCTURE
        else:
            cause = state.flags if state.flags else GARBAGE

        if cause:
            flags = state.flags | cause
            message = find_begin(source, field, after)
            if message >= 0:
                if message > start and not _write(
                    ring, state, source, start, message - start, flags | fragment_flag, MALFORMED, flow
                ):
                    break
                _forget(state)
                start = message
                state.message_timestamp = field_timestamp
                state.phase = LENGTH
            elif state.phase == SEEK and after - start >= FIELD_LIMIT:
                if not _write(ring, state, source, start, after - start, flags | fragment_flag, MALFORMED, flow):
                    break
                _forget(state)
                start = after
            else:
                state.flags = flags
                state.phase = SEEK
        field = after
        scanned = after

    if done and field >= arrival:
        state.field_timestamp = timestamp
    state.held = stop - start
    state.arrival = arrival - start
    state.field = field - start
    state.scanned = (scanned if done else field) - start
    state.body_end = body_end - start
    if in_store:
        copy_bytes(store, base, stored, start, stop - start)
    else:
        copy_bytes(store, base, data, start, stop - start)
    return done
