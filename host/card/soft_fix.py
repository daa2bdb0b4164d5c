"""FIX bytes to frames, compiled: docs/fix.md, rule by rule."""

import numpy as np
from numba import njit

from hdl.fix_tags import (
    ACCOUNT_TAG,
    BODY_LENGTH_TAG,
    CHECK_SUM_FIELD_BYTES,
    CHECK_SUM_TAG,
    CL_ORD_ID_TAG,
    MOST_LENGTH_DIGITS,
    MOST_TAG_DIGITS,
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
from hdl.fix_tags import BEGIN as BEGIN_TEXT
from hdl.fix_tags import KIND_OF_MSG_TYPE as KINDS
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT, STORE_BYTES
from host.card.ring_writer import finish_frame, has_frame_credit, write_message
from host.card.soft_number import read_integer, read_price, read_quantity
from host.memory import KERNEL, copy_bytes, find_byte

SEEK, LENGTH, BODY, TRAILER = range(4)
"""Phases of the framing."""

GARBAGE = int(Flag.GARBAGE)
LENGTH_FLAG = int(Flag.LENGTH)
CHECKSUM = int(Flag.CHECKSUM)
TAG = int(Flag.TAG)
VALUE = int(Flag.VALUE)
RANGE = int(Flag.RANGE)
TOO_LONG = int(Flag.TOO_LONG)
STRUCTURE = int(Flag.STRUCTURE)
FRAGMENT = int(Flag.FRAGMENT)
DUPLICATE_TAG = int(Flag.DUPLICATE_TAG)
PRICE_ABSENT = int(Flag.PRICE_ABSENT)
QUANTITY_ABSENT = int(Flag.QUANTITY_ABSENT)
MALFORMED = int(Kind.MALFORMED)

EQUALS = ord("=")
ZERO = ord("0")
BEGIN = np.frombuffer(BEGIN_TEXT, np.uint8)
BAD_TAG = -1
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

FIX_STATE_DTYPE = np.dtype(
    [
        # Bytes from the message's start on that are kept in the store, and how many of them are older than the packet.
        ("held", np.int64),
        ("arrival", np.int64),
        # Places relative to the message's start: the current field, how far it was searched, the body's end.
        ("field", np.int64),
        ("scanned", np.int64),
        ("body_end", np.int64),
        ("phase", np.int64),
        ("flags", np.int64),
        ("field_timestamp", np.uint64),
        ("message_timestamp", np.uint64),
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
    ]
)
"""A flow's state between packets."""


def fix_store() -> np.ndarray:
    """The bytes kept for all flows, STORE_BYTES each."""
    return np.zeros(FLOWS * STORE_BYTES, np.uint8)


@njit(**KERNEL)
def _crc64(data, start, end):
    """hdl.frame.crc64 of ``data[start:end]``."""
    state = np.uint64(0)
    for index in range(start, end):
        overflow = state >> np.uint64(56)
        state = state << np.uint64(8) | np.uint64(data[index])
        state ^= overflow ^ overflow << np.uint64(1) ^ overflow << np.uint64(3) ^ overflow << np.uint64(4)
    return state


@njit(**KERNEL)
def _read_tag(data, field, end):
    """A field's tag (BAD_TAG where it is bad) and where its value begins."""
    tag = 0
    index = field
    while index < end and index - field <= MOST_TAG_DIGITS:
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            break
        tag = tag * 10 + digit
        index += 1
    digits = index - field
    if index >= end or data[index] != EQUALS or not 1 <= digits <= MOST_TAG_DIGITS or data[field] == ZERO:
        return BAD_TAG, end
    return tag, index + 1


@njit(**KERNEL)
def _find_begin(data, field, end):
    """The last place of BeginString's first bytes within a field, or -1."""
    for index in range(end - BEGIN.size, field - 1, -1):
        if data[index] == BEGIN[0]:
            same = 1
            while same < BEGIN.size and data[index + same] == BEGIN[same]:
                same += 1
            if same == BEGIN.size:
                return index
    return -1


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


@njit(**KERNEL)
def _take(state, data, start, tag, value, end):
    """Take a field of the body; its value is ``data[value:end]``."""
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
    if tag >= 64 or TAKEN_TAGS >> tag & 1 == 0:
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
        state.instrument = _crc64(data, value, end)
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
    state.flags |= cause


@njit(**KERNEL)
def _read_body_length(data, value, end):
    """BodyLength, or -1 where it is not 1 to 9 digits."""
    if not 1 <= end - value <= MOST_LENGTH_DIGITS:
        return -1
    length = 0
    for index in range(value, end):
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            return -1
        length = length * 10 + digit
    return length


@njit(**KERNEL)
def _check_sum_is_right(data, start, field, value, end):
    """Whether the three digits ``data[value:end]`` are the sum of ``data[start:field]`` modulo 256."""
    if end - value != 3:
        return False
    stated = 0
    for index in range(value, end):
        digit = np.int64(data[index]) - ZERO
        if digit < 0 or digit > 9:
            return False
        stated = stated * 10 + digit
    total = np.uint32(0)
    for index in range(start, field):
        total += np.uint32(data[index])
    return stated == np.int64(total & np.uint32(0xFF))


@njit(**KERNEL)
def _write(ring, state, data, start, length, flags, garbled, flow):
    """Write the message ``data[start : start + length]`` and its frame; False (and nothing) without credit."""
    if not has_frame_credit(ring):
        return False
    payload_offset = write_message(ring, data, start, length)
    if payload_offset < 0:
        return False
    if state.seen >> np.uint64(PRICE_TAG) & np.uint64(1) == 0:
        flags |= PRICE_ABSENT
    if state.seen >> np.uint64(ORDER_QTY_TAG) & np.uint64(1) == 0:
        flags |= QUANTITY_ABSENT
    frame = ring.frames[ring.writer[0].frames_written % ring.frames.size]
    frame.timestamp = state.message_timestamp
    frame.price = state.price
    frame.quantity = state.quantity
    frame.instrument = state.instrument
    frame.payload_offset = payload_offset
    frame.payload_length = length
    frame.flow = flow
    frame.sequence = state.sequence
    frame.kind = MALFORMED if garbled or flags & MALFORMED_FLAGS else KIND_OF_MSG_TYPE[state.message_type]
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
    finish_frame(ring)
    return True


@njit(**KERNEL)
def take_fix(ring, states, store, stored, data, begin, end, flow, timestamp, fragment, resumed):
    """Parse a flow's next bytes, ``data[begin:end]``; False where a frame waits for credit.

    Then call again with ``resumed``: the bytes are kept in ``store`` (``stored`` is the same memory, read-only like
    ``data``), and the field that gave the frame is read again. A field gives at most one frame, and nothing is
    settled before that is written.
    """
    state = states[flow]
    base = flow * STORE_BYTES
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
        unterminated = value_end == limit
        if unterminated and limit - field < FIELD_LIMIT:
            scanned = stop
            done = True
            break
        after = value_end if unterminated else value_end + 1
        tag, value = _read_tag(source, field, value_end)
        field_timestamp = timestamp if field >= arrival else state.field_timestamp
        if field == start:
            state.message_timestamp = field_timestamp

        # The phase: a cause means that the field fails it.
        cause = 0
        if state.phase == BODY:
            if unterminated:
                cause = TOO_LONG
            elif after > body_end:
                cause = LENGTH_FLAG
            else:
                _take(state, source, start, tag, value, value_end)
                if after == body_end:
                    state.phase = TRAILER
        elif state.phase == TRAILER:
            if tag == CHECK_SUM_TAG and not unterminated:
                flags = state.flags | fragment_flag
                if not _check_sum_is_right(source, start, field, value, value_end):
                    flags |= CHECKSUM
                if not _write(ring, state, source, start, after - start, flags, False, flow):
                    break
                _forget(state)
                start = after
            else:
                cause = TOO_LONG if unterminated else LENGTH_FLAG
        elif state.phase == LENGTH:
            body_length = _read_body_length(source, value, value_end) if tag == BODY_LENGTH_TAG else -1
            if unterminated:
                cause = TOO_LONG
            elif body_length < 0:
                cause = LENGTH_FLAG
            elif after - start + body_length + CHECK_SUM_FIELD_BYTES > MESSAGE_LIMIT:
                cause = TOO_LONG
            else:
                body_end = after + body_length
                state.phase = BODY
                if body_length == 0:
                    state.phase = TRAILER
                    state.flags |= STRUCTURE
        else:
            cause = state.flags if state.flags else GARBAGE

        if cause:
            flags = state.flags | cause
            message = _find_begin(source, field, after)
            if message >= 0:
                if message > start and not _write(
                    ring, state, source, start, message - start, flags | fragment_flag, True, flow
                ):
                    break
                _forget(state)
                start = message
                state.message_timestamp = field_timestamp
                if unterminated:
                    state.flags = TOO_LONG
                else:
                    state.phase = LENGTH
            elif after - start >= FIELD_LIMIT:
                if not _write(ring, state, source, start, after - start, flags | fragment_flag, True, flow):
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
