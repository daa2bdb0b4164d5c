"""The ``serial:`` card: a board at the other end of a UART (docs/serial.md)."""

from collections.abc import Sequence
from urllib.parse import parse_qs

import numpy as np
from numba import njit

from hdl.flow import Flow
from hdl.link_frame import pack
from hdl.ring_layout import LINE_BYTES
from hdl.sbe_venue import Venue
from hdl.serial_frame import CHUNK_BYTES, DEFAULT_BAUD, LINK_VERSION, PACKET_HEADER
from host.capture.packets import Packets
from host.card import CardError
from host.card.link_session import LinkError
from host.card.linked import LinkedCard
from host.card.ring import Ring
from host.card.serial_link import SerialLink
from host.memory import store_release

HANGS_S = 10.0
HANGS_WINDOWS = 10
"""A board that answers for so long, and for as long as so many windows take, but does nothing has a fault."""

WORDS = LINE_BYTES // 8


def parse_url(url: str) -> tuple[str, int]:
    """Device and baud rate of ``serial:/dev/ttyUSB1?baud=921600``. Raises CardError."""
    device, _, query = url.removeprefix("serial:").partition("?")
    options = parse_qs(query, keep_blank_values=True)
    baud = options.pop("baud", [str(DEFAULT_BAUD)])[-1]
    if not device or options or not baud.isdecimal() or int(baud) == 0:
        raise CardError(f"'{url}' is not serial:DEVICE or serial:DEVICE?baud=NUMBER (as serial:/dev/ttyUSB1)")
    return device, int(baud)


@njit(cache=True)
def write_line(words: np.ndarray, index: int, line: np.ndarray) -> None:
    """A line into memory, as uint64: its last word behind the others, since a frame's generation stands there."""
    for number in range(WORDS - 1):
        words[index + number] = line[number]
    store_release(words, index + WORDS - 1, line[WORDS - 1])


class SerialCard(LinkedCard):
    """A board that fills the ring over a serial line. See :class:`host.card.Card`.

    Raises CardError where there is no device, no permission, no answer, another card than this version's, or one that decodes
    another schema; and later where the board does not come back, was restarted, or hangs.
    """

    def __init__(self, url: str, flows: Sequence[Flow], venue: Venue | None, ring: Ring) -> None:
        device, baud = parse_url(url)
        header = ring.header[0]
        self._parts = [
            (int(header[f"{name}_offset"]) // LINE_BYTES, memory.view(np.uint64))
            for name, memory in (("frames", ring.frame_bytes), ("payload", ring.payload))
        ]
        # Compiled now and not when the first line comes, which would wait meanwhile.
        write_line(np.zeros(WORDS, np.uint64), 0, np.frombuffer(bytes(LINE_BYTES), np.uint64))
        # Bytes of packets that are still to be sent.
        self._stream = bytearray()
        try:
            self._link = link = SerialLink(device, baud, self._write_line)
        except LinkError as error:
            raise CardError(f"{url}: {error}") from None
        super().__init__(url, link, LINK_VERSION, flows, venue, ring, HANGS_S + HANGS_WINDOWS * link.window_s)

    def close(self) -> None:
        """See :meth:`host.card.Card.close`."""
        del self._parts
        super().close()

    @property
    def _all_sent(self) -> bool:
        return not self._stream

    def _push(self, packets: Packets, following: int) -> int:
        while self._link.has_room:
            while len(self._stream) < CHUNK_BYTES and following < len(packets):
                length, timestamp = int(packets.length[following]), int(packets.timestamp[following])
                self._stream += pack(PACKET_HEADER, length=length, timestamp=timestamp) + packets.packet(following)
                self._pushed += 1
                following += 1
            chunk = bytes(self._stream[:CHUNK_BYTES])
            if not chunk or len(chunk) > self._link.credit:
                break
            self._link.send_packets(chunk)
            del self._stream[: len(chunk)]
        return following

    def _write_line(self, line: int, data: bytes) -> None:
        for first, words in self._parts:
            if 0 <= line - first < len(words) // WORDS:
                write_line(words, (line - first) * WORDS, np.frombuffer(data, np.uint64))
                return
        raise LinkError(f"the board wrote outside the ring, at line {line}")
