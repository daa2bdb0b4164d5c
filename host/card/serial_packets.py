"""A whole card at a serial line: it is sent packets, and its lines are those of the ring's memory."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from hdl.flow import Flow
from hdl.link_frame import pack
from hdl.ring_layout import LINE_BYTES
from hdl.serial_frame import PACKET_HEADER
from host.capture.packets import Packets
from host.card.link_session import LinkError
from host.card.linked import WholeCard
from host.card.ring import Ring
from host.card.serial_link import SerialLink
from host.card.serial_stream import SerialStream, patience_s
from host.memory import address_of, copy_line

WORDS = LINE_BYTES // 8


@njit(cache=True)
def write_line(words: np.ndarray, index: int, line: np.ndarray) -> None:
    """A line into memory, as uint64: its last word behind the others, since a frame's generation stands there."""
    copy_line(address_of(words, index), address_of(line, 0))


class PacketBoard(WholeCard):
    """See :class:`host.card.Card`."""

    def __init__(self, url: str, link: SerialLink, flows: Sequence[Flow], ring: Ring) -> None:
        header = ring.header[0]
        self._parts = [
            (int(header[f"{name}_offset"]) // LINE_BYTES, memory.view(np.uint64))
            for name, memory in (("frames", ring.frame_bytes), ("payload", ring.payload))
        ]
        # Compiled now and not when the first line comes, which would wait meanwhile.
        write_line(np.zeros(WORDS, np.uint64), 0, np.frombuffer(bytes(LINE_BYTES), np.uint64))
        self._stream = SerialStream(link, self._hand_over)
        link.write_line = self._take_line
        super().__init__(url, link, flows, ring, patience_s(link))

    def close(self) -> None:
        """See :meth:`host.card.Card.close`."""
        del self._parts
        super().close()

    def _take_line(self, line: int, data: bytes) -> None:
        for first, words in self._parts:
            if 0 <= line - first < len(words) // WORDS:
                write_line(words, (line - first) * WORDS, np.frombuffer(data, np.uint64))
                return
        raise LinkError(f"the board wrote outside the ring, at line {line}")

    @property
    def _all_sent(self) -> bool:
        return self._stream.is_empty

    def _push(self, packets: Packets, following: int) -> int:
        return self._stream.push(packets, following)

    def _hand_over(self, packets: Packets, index: int) -> bytes:
        self._pushed += 1
        length, timestamp = int(packets.length[index]), int(packets.timestamp[index])
        return pack(PACKET_HEADER, length=length, timestamp=timestamp) + packets.packet(index)
