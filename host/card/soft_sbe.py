"""SBE packets to frames, compiled: docs/sbe.md, rule by rule."""

import numpy as np
from numba import njit

from hdl.frame import Flag, Kind
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from hdl.sbe_framing import PACKET_HEADER_BYTES, SEQUENCE_BYTES, SIZE_BYTES
from hdl.sbe_plan import ENTRY_KINDS, FRAME_FIELDS
from host.card.ring_writer import finish_frame, has_frame_credit, write_message
from host.card.sbe_tables import ABSENT, CONSTANT, KIND_BY_ENTRY_TYPE, NO_TEMPLATE
from host.memory import KERNEL, load_unsigned

ZERO = ord("0")

LENGTH = int(Flag.LENGTH)
RANGE = int(Flag.RANGE)
TOO_LONG = int(Flag.TOO_LONG)
TRUNCATED = int(Flag.TRUNCATED)
TEMPLATE = int(Flag.TEMPLATE)
FRAGMENT = int(Flag.FRAGMENT)
PRICE_ABSENT = int(Flag.PRICE_ABSENT)
QUANTITY_ABSENT = int(Flag.QUANTITY_ABSENT)
MALFORMED = int(Kind.MALFORMED)
OTHER = int(Kind.OTHER)

_COLUMN = {frame_field.name: column for column, frame_field in enumerate(FRAME_FIELDS)}
PRICE = _COLUMN["price"]
QUANTITY = _COLUMN["quantity"]
INSTRUMENT = _COLUMN["instrument"]
ENTRY_TYPE = _COLUMN["entry_type"]
UPDATE_ACTION = _COLUMN["update_action"]
PRICE_LEVEL = _COLUMN["price_level"]
NUMBER_OF_ORDERS = _COLUMN["number_of_orders"]
INSTRUMENT_SEQUENCE = _COLUMN["instrument_sequence"]

KIND_OF_ENTRY_TYPE = np.full(256, Kind.STATISTIC, np.int64)
for _entry_type, _kind in ENTRY_KINDS.items():
    KIND_OF_ENTRY_TYPE[_entry_type] = _kind

HUGE = 1 << 40
"""What larger lengths and counts are cut to: beyond any message, and far from wrapping."""

SBE_STATE_DTYPE = np.dtype(
    [
        # Of the packet; `message` is the place of the current message's size in it, 0 before the first.
        ("timestamp", np.uint64),
        ("sequence", np.uint32),
        ("flow", np.uint16),
        ("fragment_flag", np.int64),
        ("message", np.int64),
        # Of the message: whether its bytes are in the ring, how many frames it has so far, and how many of them
        # an earlier call has written.
        ("stored", np.bool_),
        ("payload_offset", np.int64),
        ("payload_length", np.int64),
        ("message_type", np.uint16),
        ("frames", np.int64),
        ("written", np.int64),
    ]
)
"""Where a packet is, so that it can go on after it had to wait; all zero before a packet."""


@njit(inline="always")
def _value(data, source, entry, entry_bytes, root, root_bytes):
    """A source's value as 64 bits, sign-extended, and whether it is there and not null."""
    if source.place == ABSENT:
        return np.uint64(0), False
    if source.place == CONSTANT:
        return source.constant, True
    size = source.size
    if source.in_entry:
        block, block_bytes = entry, entry_bytes
    else:
        block, block_bytes = root, root_bytes
    if source.offset + size > block_bytes:
        return np.uint64(0), False
    value = load_unsigned(data, block + source.offset, size)
    if source.signed:
        value = np.uint64(np.int64(value << np.uint64(64 - 8 * size)) >> np.int64(64 - 8 * size))
    if source.has_null and value == source.null:
        return np.uint64(0), False
    return value, True


@njit(inline="always")
def _scaled(source, value):
    """A price or quantity in the frame's unit, and whether it fits."""
    if source.signed and np.int64(value) < 0:
        fits = np.uint64(0) - value <= source.lowest
    else:
        fits = value <= source.highest
    return (value * source.scale, True) if fits else (np.uint64(0), False)


@njit(inline="always")
def _number(data, index, size):
    """A length or count, cut to HUGE."""
    return np.int64(min(load_unsigned(data, index, size), np.uint64(HUGE)))


@njit(**KERNEL)
def _fill_common(frame, state, kind, flags):
    """What every frame of a message has."""
    frame.timestamp = state.timestamp
    frame.payload_offset = state.payload_offset
    frame.payload_length = state.payload_length
    frame.flow = state.flow
    frame.sequence = state.sequence
    frame.kind = kind
    frame.flags = flags | state.fragment_flag
    frame.message_type = state.message_type
    frame.spare = 0


@njit(**KERNEL)
def _write_plain(ring, state, kind, flags):
    """Write a frame without decoded fields; False where it waits for credit."""
    if state.frames >= ENTRY_LIMIT:
        return True
    if state.frames == ENTRY_LIMIT - 1:
        kind, flags = MALFORMED, TOO_LONG
    if state.frames >= state.written:
        if not has_frame_credit(ring):
            return False
        frame = ring.frames[ring.writer[0].frames_written % ring.frames.size]
        _fill_common(frame, state, kind, flags)
        frame.price = 0
        frame.quantity = 0
        frame.instrument = 0
        frame.entry_type = 0
        frame.update_action = 0
        frame.price_level = 0
        frame.number_of_orders = 0
        frame.instrument_sequence = 0
        frame.entry_offset = 0
        finish_frame(ring)
    state.frames += 1
    return True


@njit(**KERNEL)
def _write_block(ring, state, data, sources, kind, message, entry, entry_bytes, root, root_bytes):
    """Write the frame of the entry at ``entry``, or of the message itself (0); False where it waits for credit."""
    if state.frames < state.written:
        state.frames += 1
        return True
    if not has_frame_credit(ring):
        return False
    flags = 0
    price, there = _value(data, sources[PRICE], entry, entry_bytes, root, root_bytes)
    if there:
        price, fits = _scaled(sources[PRICE], price)
        flags |= 0 if fits else RANGE
    else:
        flags |= PRICE_ABSENT
    quantity, there = _value(data, sources[QUANTITY], entry, entry_bytes, root, root_bytes)
    if there:
        quantity, fits = _scaled(sources[QUANTITY], quantity)
        flags |= 0 if fits else RANGE
    else:
        flags |= QUANTITY_ABSENT
    entry_type, _ = _value(data, sources[ENTRY_TYPE], entry, entry_bytes, root, root_bytes)
    action, there = _value(data, sources[UPDATE_ACTION], entry, entry_bytes, root, root_bytes)
    if sources[UPDATE_ACTION].digit:
        action = action + np.uint64(ZERO) if there and action <= np.uint64(9) else np.uint64(0)
    if kind == KIND_BY_ENTRY_TYPE:
        kind = KIND_OF_ENTRY_TYPE[entry_type]
    frame = ring.frames[ring.writer[0].frames_written % ring.frames.size]
    _fill_common(frame, state, MALFORMED if flags & RANGE else kind, flags)
    frame.price = np.int64(price)
    frame.quantity = quantity
    frame.instrument = _value(data, sources[INSTRUMENT], entry, entry_bytes, root, root_bytes)[0]
    frame.entry_type = np.uint8(entry_type)
    frame.update_action = np.uint8(action)
    frame.price_level = np.uint8(_value(data, sources[PRICE_LEVEL], entry, entry_bytes, root, root_bytes)[0])
    frame.number_of_orders = np.uint32(_value(data, sources[NUMBER_OF_ORDERS], entry, entry_bytes, root, root_bytes)[0])
    frame.instrument_sequence = np.uint32(
        _value(data, sources[INSTRUMENT_SEQUENCE], entry, entry_bytes, root, root_bytes)[0]
    )
    frame.entry_offset = entry - message if entry else 0
    finish_frame(ring)
    state.frames += 1
    return True


@njit(**KERNEL)
def _write_entries(ring, state, data, tables, row, message, there, whole):
    """Write the frames of a message whose template is known and whose header is whole; False where one waits for credit.

    ``there`` bytes of it arrived. Where they are not the ``whole`` message, the caller adds TRUNCATED.
    """
    header = tables.header[0]
    end = message + there
    root = message + header.size
    root_bytes = _number(data, message + header.block_length_offset, header.block_length_size)
    if root_bytes > end - root:
        return not whole or _write_plain(ring, state, MALFORMED, LENGTH)
    at = root + root_bytes
    first_group = tables.messages[row].first_group
    for number in range(first_group, first_group + tables.messages[row].groups):
        if at == end:
            break
        group = tables.groups[number]
        if group.dimension_bytes > end - at:
            return not whole or _write_plain(ring, state, MALFORMED, LENGTH)
        block_bytes = _number(data, at + group.block_length_offset, group.block_length_size)
        count = _number(data, at + group.count_offset, group.count_size)
        at += group.dimension_bytes
        sources = tables.sources[group.plan]
        kind = tables.kinds[group.plan]
        for _ in range(count):
            if block_bytes == 0 or block_bytes > end - at:
                return not whole or _write_plain(ring, state, MALFORMED, LENGTH)
            if state.frames == ENTRY_LIMIT - 1:
                return _write_plain(ring, state, MALFORMED, TOO_LONG)
            if not _write_block(ring, state, data, sources, kind, message, at, block_bytes, root, root_bytes):
                return False
            at += block_bytes
    if whole and state.frames == 0:
        plan = tables.messages[row].root_plan
        sources = tables.sources[plan]
        return _write_block(ring, state, data, sources, tables.kinds[plan], message, 0, 0, root, root_bytes)
    return True


@njit(**KERNEL)
def _write_message(ring, tables, state, data, message, there, readable, cause):
    """Write a raw message and all its frames; False where one waits for credit.

    ``readable``: the header may be read where it is whole. ``cause``: 0, or why the message is malformed as it stands.
    """
    state.frames = 0
    if not state.stored:
        payload_offset = write_message(ring, data, message, there)
        if payload_offset < 0:
            return False
        state.stored = True
        state.payload_offset = payload_offset
        state.payload_length = there
    state.message_type = np.uint16(0)
    header = tables.header[0]
    if readable and there >= header.size:
        template_id = load_unsigned(data, message + header.template_id_offset, header.template_id_size)
        schema_id = load_unsigned(data, message + header.schema_id_offset, header.schema_id_size)
        state.message_type = np.uint16(template_id)
        row = np.int64(NO_TEMPLATE)
        if template_id < np.uint64(tables.templates.size):
            row = np.int64(tables.templates[np.int64(template_id)])
        if schema_id == header.schema_id_is and row != NO_TEMPLATE:
            if not _write_entries(ring, state, data, tables, row, message, there, cause == 0):
                return False
        elif cause == 0:
            kind = OTHER if schema_id == header.schema_id_is else MALFORMED
            if not _write_plain(ring, state, kind, TEMPLATE):
                return False
    return cause == 0 or _write_plain(ring, state, MALFORMED, cause)


@njit(**KERNEL)
def take_sbe(ring, tables, states, data, begin, end, flow, timestamp, fragment):
    """Decode a packet's payload ``data[begin:end]``; False where a frame waits for credit: then call again with the same.

    ``states`` holds one record of SBE_STATE_DTYPE, all zero at first.
    """
    state = states[0]
    state.timestamp = timestamp
    state.flow = flow
    state.fragment_flag = FRAGMENT if fragment else 0
    length = end - begin
    state.sequence = np.uint32(0)
    if state.message == 0 and length >= PACKET_HEADER_BYTES:
        state.message = PACKET_HEADER_BYTES
    if length >= PACKET_HEADER_BYTES:
        state.sequence = np.uint32(load_unsigned(data, begin, SEQUENCE_BYTES))

    while state.message < length:
        at = begin + state.message
        message = at
        there = end - at
        following = length
        readable = False
        cause = TRUNCATED
        if there >= SIZE_BYTES and length >= PACKET_HEADER_BYTES:
            size = np.int64(load_unsigned(data, at, SIZE_BYTES))
            declared = size - SIZE_BYTES
            message = at + SIZE_BYTES
            there = end - message
            if declared < tables.header[0].size or declared > MESSAGE_LIMIT:
                cause = TOO_LONG if declared > MESSAGE_LIMIT else LENGTH
                there = min(there, MESSAGE_LIMIT)
            else:
                readable = True
                if there >= declared:
                    there = declared
                    following = state.message + size
                    cause = 0
        if not _write_message(ring, tables, state, data, message, there, readable, cause):
            state.written = state.frames
            return False
        state.stored = False
        state.written = 0
        state.message = following
    state.message = 0
    return True
