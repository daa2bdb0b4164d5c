"""A board that reads FIX alone: it is sent a flow's bytes, and its lines are frames that the host completes and writes."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.beat import POSITION_BITS
from hdl.fix_tags import CHECK_SUM_FIELD_BYTES, SOH
from hdl.flow import ANYWHERE, Flow, Parser, Protocol
from hdl.frame import FRAME_BYTES, FRAME_DTYPE, Flag, Kind
from hdl.limits import PACKET_LIMIT
from hdl.link_frame import pack
from hdl.register_map import COUNTERS
from hdl.serial_frame import ENTRIES, LINE_BODY, SEGMENT_HEADER, Segment
from host.capture.packets import Packets
from host.card.link_session import LinkError
from host.card.linked import LinkedCard
from host.card.ring import SMALLEST_FRAME_SLOTS, SMALLEST_PAYLOAD_BYTES, Ring
from host.card.ring_writer import NO_CREDIT, frame_at, has_frame_credit, write_frame, write_message, writer_of
from host.card.serial_link import SerialLink
from host.card.serial_stream import SerialStream, patience_s
from host.card.soft_ethernet import FOLLOWED_DTYPE, NO_HOLE, PARSED, dissect, flow_table, follow, settle
from host.card.soft_feed import FIX_BYTES, GAPS, PACKETS
from host.card.soft_fix import ENTRY_TAG_OF_MSG_TYPE, FIX_STATE_DTYPE
from host.card.soft_fix_entries import find_entry_causes, write_entries
from host.card.soft_fix_fields import NO_TAG, read_announcement, read_tag
from host.memory import KERNEL, address_of, find_byte, read_only

FRAMES, PAYLOAD_BYTES = (list(COUNTERS).index(name) for name in ("frames", "payload_bytes"))
ABSENT = int(Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT)
MALFORMED = int(Kind.MALFORMED)
FLOW = 0
POSITIONS = 1 << POSITION_BITS
SEGMENTS = 1 << LINE_BODY["line"]


@njit(**KERNEL)
def find_first_entry(data, stop, entry_tag):
    """Where the first entry begins in the good message ``data``, whose trailer is at ``stop``."""
    field = 0
    data_tag, data_bytes = NO_TAG, 0
    while field < stop:
        tag, value = read_tag(data, field, stop)
        if tag == entry_tag:
            break
        end = value + data_bytes if tag == data_tag else find_byte(data, SOH, value, stop)
        data_tag, data_bytes, _ = read_announcement(data, tag, value, end)
        field = end + 1
    return field


@njit(**KERNEL)
def write_record(ring, state, words, has_entries, data):
    """Write a message ``data`` and its frame, which is in ``words``, or the frames of its entries; False without credit: then call
    again."""
    frame = frame_at(address_of(words, 0))
    length = data.size
    if has_entries:
        trailer = length - CHECK_SUM_FIELD_BYTES
        state.entry_tag = ENTRY_TAG_OF_MSG_TYPE[frame.message_type]
        state.first_entry = find_first_entry(data, trailer, state.entry_tag)
        state.message_timestamp = frame.timestamp
        state.instrument = frame.instrument
        state.sequence = frame.sequence
        state.message_type = frame.message_type
        causes = find_entry_causes(state, data, 0, trailer)
        if causes == 0:
            if not write_entries(ring, state, data, 0, trailer, length, frame.flags & ~ABSENT, FLOW):
                return False
            state.stored = False
            state.entries_written = 0
            return True
        frame.flags |= causes
        frame.kind = MALFORMED
    if not has_frame_credit(ring):
        return False
    offset = write_message(ring, data, 0, length)
    if offset == NO_CREDIT:
        return False
    frame.payload_offset = offset
    write_frame(ring, words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
    return True


def _compile() -> None:
    """Now and not when the first line comes, which would wait meanwhile: a message is read into a ring of its own."""
    data = np.frombuffer(b"8=FIX|9=0|10=000|".replace(b"|", b"\x01"), np.uint8)
    nothing = np.frombuffer(bytes(PACKET_LIMIT), np.uint8)
    followed = np.zeros(1, FOLLOWED_DTYPE)[0]
    dissect(nothing, 0, 0, flow_table([Flow(Protocol.TCP, ANYWHERE, Parser.FIX)]))
    follow(followed, nothing, 0, 0, 0)
    settle(followed, 0, 0, NO_HOLE)
    ring = Ring.create(None, SMALLEST_FRAME_SLOTS, SMALLEST_PAYLOAD_BYTES)
    words = np.zeros(FRAME_BYTES // 8, np.uint64)
    write_record(writer_of(ring), np.zeros(1, FIX_STATE_DTYPE)[0], words, False, data)
    ring.close()


class Record(NamedTuple):
    """A frame as it came: the number of the segment that completed its message, and the frame, whose ``payload_offset`` is where
    the message starts in the flow's stream."""

    segment: int
    frame: np.ndarray
    has_entries: bool


class SegmentBoard(LinkedCard):
    """See :class:`host.card.Card`: Ethernet, IP, TCP, raw messages and entries of market data are the host's, by the soft card's rules."""

    def __init__(self, url: str, link: SerialLink, flows: Sequence[Flow], ring: Ring) -> None:
        _compile()
        self._writer = writer_of(ring)
        # It has the addresses of these: they stay mapped as long as it may write.
        self._mapped = ring.words, ring.frame_bytes, ring.payload
        self._flows = flow_table(flows)
        self._followed = np.zeros(1, FOLLOWED_DTYPE)[0]
        self._counters = np.zeros(len(COUNTERS), np.int64)
        self._state = np.zeros(1, FIX_STATE_DTYPE)[0]
        self._source: tuple[Packets, np.ndarray] | None = None
        # The flow's bytes that belong to no message yet, and where they begin.
        self._kept, self._start = bytearray(), 0
        self._segments = 0
        # For each packet that is not done: how many segments must be.
        self._open: deque[int] = deque()
        self._records: deque[Record] = deque()
        self._stream = SerialStream(link, self._hand_over)
        link.write_line = self._take_line
        super().__init__(url, link, ring, patience_s(link))

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        self._counters[FRAMES] = self._writer["frames_written"]
        self._counters[PAYLOAD_BYTES] = self._writer["payload_bytes"]
        return dict(zip(COUNTERS, self._counters.tolist(), strict=True))

    def close(self) -> None:
        """See :meth:`host.card.Card.close`."""
        del self._writer, self._mapped
        super().close()

    @property
    def _all_sent(self) -> bool:
        return self._stream.is_empty

    def _push(self, packets: Packets, following: int) -> int:
        return self._stream.push(packets, following)

    def _hand_over(self, packets: Packets, index: int) -> bytes:
        if self._source is None or self._source[0] is not packets:
            self._source = packets, read_only(packets.data, np.uint8)
        data, offset = self._source[1], int(packets.offset[index])
        counter, flow, transport, begin, end, fragment = dissect(data, offset, int(packets.length[index]), self._flows)
        missing = NO_HOLE
        if transport and self._flows[flow]["followed"]:
            counter, begin, missing = follow(self._followed, data, transport, begin, end)
            if counter == PARSED:
                settle(self._followed, begin, end, missing)
        self._counters[PACKETS] += 1
        self._counters[counter] += 1
        segment = b""
        if counter == PARSED:
            payload = data[begin:end].tobytes()
            flags = Segment.FRAGMENT if fragment else Segment(0)
            if missing != NO_HOLE:
                flags |= Segment.GAP
                self._counters[GAPS] += 1
            header = pack(
                SEGMENT_HEADER,
                length=len(payload),
                flags=flags,
                missing=max(missing, 0),
                timestamp=int(packets.timestamp[index]),
            )
            segment = header + payload
            self._kept += payload
            self._segments += 1
            self._counters[FIX_BYTES] += len(payload)
        self._open.append(self._segments)
        return segment

    def _take_line(self, line: int, data: bytes) -> None:
        frame = np.frombuffer(bytearray(data), FRAME_DTYPE)
        has_entries = bool(frame["generation"][0] & ENTRIES)
        frame["generation"] = 0
        self._records.append(
            Record(self._session.finished + (line - self._session.finished) % SEGMENTS, frame, has_entries)
        )

    def _settle(self) -> None:
        while self._records:
            frame, has_entries = self._records[0].frame, self._records[0].has_entries
            length = int(frame["payload_length"][0])
            if length > len(self._kept) or frame["payload_offset"][0] != self._start:
                raise LinkError("the board's messages are not those of the bytes that it was sent")
            data = np.frombuffer(bytes(self._kept[:length]), np.uint8)
            if not write_record(self._writer, self._state, frame.view(np.uint64), has_entries, data):
                break
            self._records.popleft()
            del self._kept[:length]
            self._start = (self._start + length) % POSITIONS

    def _unfinished(self) -> int:
        done = self._records[0].segment if self._records else self._session.finished
        while self._open and self._open[0] <= done:
            self._open.popleft()
        return len(self._open)

    def _waits_for_credit(self) -> bool:
        return bool(self._records)
