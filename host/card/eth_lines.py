"""Lines of the ring out of received frames, straight from the memory that the kernel fills into the ring's (docs/eth.md).

Lines that were lost leave their traces: the next one's number is too high, and the frame's header says how many of the lines before it were
frames. Those get GAP frames into their slots, and so do frames whose message's bytes did not all come.
"""

import numpy as np
from numba import njit

from hdl.ethernet_frame import ETHERNET_BYTES, ETHERTYPE, LINE_BODY, UP_HEADER
from hdl.frame import FIELDS, NO_FLOW, Kind
from hdl.headers import ETHERTYPE_OFFSET
from hdl.link_frame import Up, offsets, size
from hdl.ring_layout import LINE_BYTES
from host.card.ring import Ring
from host.memory import KERNEL, address_of, copy_line, load_acquire, load_number, store_line, store_release

STATE = (
    # Set once: the session, and where the rings begin and how long they are, in lines.
    "session", "frames_line", "frame_slots", "payload_line", "payload_lines",
    # The block that is read next.
    "block",
    # Lines and frames that are here, lost ones among them; and how many frames were made GAP.
    "lines", "frames", "gaps",
    # The payload line that came last, its number among all lines, how many came before it without a gap, and lines lost since.
    "payload_index", "payload_number", "run", "lost_since",
    # The last frame's time, and its message.
    "timestamp", "offset", "length",
    # What the board said last, and which of it holds: `pending` once `pending_lines` are here.
    "following", "finished", "pending", "pending_lines", "stalled", "dropped", "reads", "value", "acknowledged", "lost", "overflow",
    # Whence; and what did not go smoothly: lines that were lost, frames that came again, frames of the board's other sessions.
    "board", "missed", "repeated", "foreign", "heard",
)  # fmt: skip
"""Names of the state's numbers, an array of int64."""

(
    SESSION, FRAMES_LINE, FRAME_SLOTS, PAYLOAD_LINE, PAYLOAD_LINES, BLOCK, LINES, FRAMES, GAPS,
    PAYLOAD_INDEX, PAYLOAD_NUMBER, RUN, LOST_SINCE, TIMESTAMP, OFFSET, LENGTH,
    FOLLOWING, FINISHED, PENDING, PENDING_LINES, STALLED, DROPPED, READS, VALUE, ACKNOWLEDGED, LOST, OVERFLOW,
    BOARD, MISSED, REPEATED, FOREIGN, HEARD,
) = range(len(STATE))  # fmt: skip


def new_state(session: int, ring: Ring) -> np.ndarray:
    """The state at a session's begin."""
    header = ring.header[0]
    state = np.zeros(len(STATE), np.int64)
    state[SESSION] = session
    state[FRAMES_LINE] = header["frames_offset"] // LINE_BYTES
    state[FRAME_SLOTS] = header["frame_slots"]
    state[PAYLOAD_LINE] = header["payload_offset"] // LINE_BYTES
    state[PAYLOAD_LINES] = header["payload_bytes"] // LINE_BYTES
    state[PAYLOAD_INDEX] = state[PAYLOAD_NUMBER] = -1
    return state


GOOD, OUTSIDE, OUT_OF_ORDER = range(3)
"""What came of reading: all is well, the board wrote outside the rings, or frames into the wrong slots."""

# struct tpacket_block_desc and struct tpacket3_hdr (linux/if_packet.h), offsets in bytes.
BLOCK_STATUS = 8
BLOCK_PACKETS = 12
BLOCK_FIRST = 16
PACKET_NEXT = 0
PACKET_BYTES = 12
PACKET_MAC = 24
OF_KERNEL, OF_READER = 0, 1

ETHERTYPE_ON_WIRE = int.from_bytes(ETHERTYPE.to_bytes(2, "big"), "little")
LINES_KIND = int(Up.LINES)
HEADER_BYTES = ETHERNET_BYTES + size(UP_HEADER)
LINE_STEP = size(LINE_BODY)
LINE_DATA = LINE_BODY["line"] // 8


_AT = offsets(UP_HEADER, ETHERNET_BYTES)
AT_KIND, AT_COUNT, AT_SESSION, AT_SEQUENCE, AT_FOLLOWING = (
    _AT[name] for name in ("kind", "count", "session", "sequence", "following")
)
AT_FRAMES, AT_FINISHED, AT_LOST, AT_OVERFLOW = (_AT[name] for name in ("frames", "finished", "lost", "overflow"))
AT_ACKNOWLEDGED, AT_STALLED, AT_DROPPED, AT_READS, AT_VALUE = (
    _AT[name] for name in ("acknowledged", "stalled", "dropped", "reads", "value")
)
AT_SOURCE = 6

_FIELD = {field.name: field for field in FIELDS}
OFFSET_AT, LENGTH_AT, FLOW_AT = (_FIELD[name].offset for name in ("payload_offset", "payload_length", "flow"))
KIND_SHIFT, SEQUENCE_SHIFT = (8 * (_FIELD[name].offset % 8) for name in ("kind", "sequence"))
LENGTH_SHIFT, FLOW_SHIFT, GENERATION_SHIFT = (
    8 * (_FIELD[name].offset % 8) for name in ("payload_length", "flow", "generation")
)
GAP = int(Kind.GAP)

MESSAGE_LINES = 128
"""Lines of the longest message, and of the longest skip at a lap's end (docs/ring.md)."""


@njit(inline="always")
def _gap(state, target, timestamp, flow, sequence, offset, length):
    """A GAP frame into the slot at ``target``, which is that of the next frame. Bytes 32 to 39 hold the message's place and the flow, 40 to 47
    sequence and kind."""
    generation = (state[FRAMES] // state[FRAME_SLOTS] + 1) & 0xFF
    store_line(
        target,
        np.uint64(timestamp),
        np.uint64(0),
        np.uint64(0),
        np.uint64(0),
        np.uint64(offset | length << LENGTH_SHIFT | flow << FLOW_SHIFT),
        np.uint64(sequence << SEQUENCE_SHIFT | GAP << KIND_SHIFT),
        np.uint64(0),
        np.uint64(generation << GENERATION_SHIFT),
    )
    state[GAPS] += 1


@njit(inline="always")
def _modulo_32(number, near):
    """The number of which 32 bits are ``number``, as near to ``near`` as can be."""
    ahead = (np.int64(number) - near) & 0xFFFFFFFF
    return near + (ahead - 0x100000000 if ahead >= 0x80000000 else ahead)


@njit(inline="always")
def _take_line(state, source, frames, payload):
    """A line at ``source`` into the ring."""
    line = np.int64(load_number(source, 4, False, False))
    data = source + LINE_DATA
    index = line - state[PAYLOAD_LINE]
    if 0 <= index < state[PAYLOAD_LINES]:
        copy_line(payload + index * LINE_BYTES, data)
        follows = index == state[PAYLOAD_INDEX] + 1 and state[LINES] == state[PAYLOAD_NUMBER] + 1
        state[RUN] = state[RUN] + 1 if follows else 1
        state[PAYLOAD_INDEX] = index
        state[PAYLOAD_NUMBER] = state[LINES]
        state[LOST_SINCE] = 0
        return GOOD
    index = line - state[FRAMES_LINE]
    if not 0 <= index < state[FRAME_SLOTS]:
        return OUTSIDE
    if index != state[FRAMES] % state[FRAME_SLOTS]:
        return OUT_OF_ORDER
    offset = np.int64(load_number(data + OFFSET_AT, 4, False, False))
    length = np.int64(load_number(data + LENGTH_AT, 2, False, False))
    state[TIMESTAMP] = np.int64(load_number(data, 8, False, False))
    lines = (length + LINE_BYTES - 1) // LINE_BYTES
    # The last payload line is the message's last, and those before it came one behind the other. So many lost since that the ring
    # may have gone round to the same place: who knows.
    is_whole = lines == 0 or (
        state[PAYLOAD_INDEX] == offset // LINE_BYTES + lines - 1
        and state[RUN] >= lines
        and state[LOST_SINCE] < state[PAYLOAD_LINES] - 2 * MESSAGE_LINES
    )
    target = frames + index * LINE_BYTES
    if is_whole:
        state[OFFSET] = offset
        state[LENGTH] = length
        copy_line(target, data)
    else:
        state[OFFSET] = 0
        state[LENGTH] = 0
        flow = np.int64(load_number(data + FLOW_AT, 2, False, False))
        _gap(state, target, state[TIMESTAMP], flow, 0, 0, 0)
    state[FRAMES] += 1
    return GOOD


@njit(inline="always")
def _take_frame(state, packet, length, frames, payload):
    """A frame from the board; ``packet`` is where its destination address stands."""
    if length < HEADER_BYTES or load_number(packet + ETHERTYPE_OFFSET, 2, False, False) != ETHERTYPE_ON_WIRE:
        return GOOD
    count = np.int64(load_number(packet + AT_COUNT, 1, False, False))
    if load_number(packet + AT_KIND, 1, False, False) != LINES_KIND or length < HEADER_BYTES + count * LINE_STEP:
        return GOOD
    source = np.int64(load_number(packet + AT_SOURCE, 4, False, False))
    source |= np.int64(load_number(packet + AT_SOURCE + 4, 2, False, False)) << 32
    if np.int64(load_number(packet + AT_SESSION, 4, False, False)) != state[SESSION]:
        state[FOREIGN] += source == state[BOARD]
        return GOOD
    state[BOARD] = source
    sequence = _modulo_32(load_number(packet + AT_SEQUENCE, 4, False, False), state[LINES])
    if sequence < state[LINES]:
        state[REPEATED] += 1
        return GOOD
    lost = sequence - state[LINES]
    state[MISSED] += lost
    state[LOST_SINCE] += lost
    state[LINES] = sequence
    gaps = _modulo_32(load_number(packet + AT_FRAMES, 4, False, False), state[FRAMES]) - state[FRAMES]
    if gaps < 0 or gaps > lost:
        return OUT_OF_ORDER
    for _ in range(gaps):
        slot = state[FRAMES] % state[FRAME_SLOTS]
        # With the message of the frame before: it may have been of that one too, whose bytes are to stay until another's frame comes.
        _gap(state, frames + slot * LINE_BYTES, state[TIMESTAMP], NO_FLOW, gaps, state[OFFSET], state[LENGTH])
        state[FRAMES] += 1
    line = packet + HEADER_BYTES
    for _ in range(count):
        result = _take_line(state, line, frames, payload)
        if result != GOOD:
            return result
        state[LINES] += 1
        line += LINE_STEP

    state[HEARD] += 1
    state[BOARD] = (
        np.int64(load_number(packet + AT_SOURCE, 4, False, False))
        | np.int64(load_number(packet + AT_SOURCE + 4, 2, False, False)) << 32
    )
    state[FOLLOWING] = _modulo_32(load_number(packet + AT_FOLLOWING, 4, False, False), state[LINES])
    state[STALLED] = np.int64(load_number(packet + AT_STALLED, 1, False, False))
    state[DROPPED] = np.int64(load_number(packet + AT_DROPPED, 1, False, False))
    state[READS] = np.int64(load_number(packet + AT_READS, 1, False, False))
    state[VALUE] = np.int64(load_number(packet + AT_VALUE, 8, False, False))
    state[ACKNOWLEDGED] = np.int64(load_number(packet + AT_ACKNOWLEDGED, 1, False, False))
    state[LOST] = np.int64(load_number(packet + AT_LOST, 2, False, False))
    state[OVERFLOW] = np.int64(load_number(packet + AT_OVERFLOW, 2, False, False))
    # Of a board that never rests `following` is always ahead: one snapshot is kept until its lines are here.
    if state[LINES] >= state[PENDING_LINES]:
        state[FINISHED] = state[PENDING]
        state[PENDING] = np.int64(load_number(packet + AT_FINISHED, 4, False, False))
        state[PENDING_LINES] = state[FOLLOWING]
        if state[LINES] >= state[PENDING_LINES]:
            state[FINISHED] = state[PENDING]
    return GOOD


@njit(**KERNEL)
def take_blocks(words, block_bytes, state, frames, payload):
    """Take all frames of the blocks that the kernel has handed over, and give the blocks back.

    ``words`` is the kernel's memory as uint32, ``frames`` and ``payload`` where the rings lie in memory. Returns GOOD or what is wrong.
    """
    blocks = words.size * 4 // block_bytes
    while True:
        at = state[BLOCK] * block_bytes
        if load_acquire(words, (at + BLOCK_STATUS) // 4) & OF_READER == 0:
            return GOOD
        left = words[(at + BLOCK_PACKETS) // 4]
        header = address_of(words, at // 4) + np.int64(words[(at + BLOCK_FIRST) // 4])
        while left > 0:
            packet = header + np.int64(load_number(header + PACKET_MAC, 2, False, False))
            length = np.int64(load_number(header + PACKET_BYTES, 4, False, False))
            result = _take_frame(state, packet, length, frames, payload)
            if result != GOOD:
                return result
            header += np.int64(load_number(header + PACKET_NEXT, 4, False, False))
            left -= 1
        store_release(words, (at + BLOCK_STATUS) // 4, np.uint32(OF_KERNEL))
        state[BLOCK] = (state[BLOCK] + 1) % blocks
