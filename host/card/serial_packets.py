"""A board that is a whole card: it is sent packets, and its lines are those of the ring's memory."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from hdl.flow import Flow
from hdl.register_map import ADDRESS, COUNTERS
from hdl.ring_layout import LINE_BYTES
from hdl.serial_frame import PACKET_HEADER, pack
from host.capture.packets import Packets
from host.card import CardError
from host.card.ring import FRAMES_READ, PAYLOAD_READ, Ring
from host.card.serial_board import SerialBoard
from host.card.serial_link import LinkError, SerialLink
from host.card.start import settings
from host.memory import store_release

WORDS = LINE_BYTES // 8

CREDITS = (("frames_read", FRAMES_READ), ("payload_read", PAYLOAD_READ))
"""Registers that the host goes on writing, and the words of the ring's header that they follow."""


@njit(cache=True)
def write_line(words: np.ndarray, index: int, line: np.ndarray) -> None:
    """A line into memory, as uint64: its last word behind the others, since a frame's generation stands there."""
    for number in range(WORDS - 1):
        words[index + number] = line[number]
    store_release(words, index + WORDS - 1, line[WORDS - 1])


class PacketBoard(SerialBoard):
    """See :class:`host.card.Card`; its flow table is written when it is made."""

    def __init__(self, url: str, link: SerialLink, flows: Sequence[Flow], ring: Ring) -> None:
        header = ring.header[0]
        self._parts = [
            (int(header[f"{name}_offset"]) // LINE_BYTES, memory.view(np.uint64))
            for name, memory in (("frames", ring.frame_bytes), ("payload", ring.payload))
        ]
        # Compiled now and not when the first line comes, which would wait meanwhile.
        write_line(np.zeros(WORDS, np.uint64), 0, np.frombuffer(bytes(LINE_BYTES), np.uint64))
        self._pushed = 0
        self._published = {name: 0 for name, _ in CREDITS}
        self._is_published = False
        super().__init__(url, link, ring)
        for address, value in settings(ring, flows):
            link.write(address, value)

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        self._link.wake()
        try:
            return {name: self._link.read(ADDRESS[name]) for name in COUNTERS}
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None

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

    def _settle(self) -> None:
        """Have the board know how far the ring is read, if it can be told now."""
        self._is_published = True
        for name, word in CREDITS:
            read = int(self.ring.words[word])
            if read != self._published[name]:
                if not self._link.has_room:
                    self._is_published = False
                    return
                self._link.write(ADDRESS[name], read)
                self._published[name] = read

    def _hand_over(self, packets: Packets, index: int) -> bytes:
        self._pushed += 1
        length, timestamp = int(packets.length[index]), int(packets.timestamp[index])
        return pack(PACKET_HEADER, length=length, timestamp=timestamp) + packets.packet(index)

    def _unfinished(self) -> int:
        return self._pushed - self._link.finished

    def _waits_for_credit(self) -> bool:
        return self._is_published and self._link.is_stalled
