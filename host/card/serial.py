"""The ``serial:`` card: a board at the other end of a UART (docs/serial.md)."""

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

import numpy as np
from numba import njit

from hdl.flow import Flow
from hdl.register_map import ADDRESS, COUNTERS
from hdl.ring_layout import LINE_BYTES
from hdl.sbe_venue import Venue
from hdl.serial_frame import (
    CHUNK_BYTES,
    DEFAULT_BAUD,
    LINK_ADDRESS,
    LINK_VERSION,
    PACKET_HEADER,
    Down,
    pack,
)
from host.capture.packets import Packets
from host.card import CardError
from host.card.ring import FRAMES_READ, PAYLOAD_READ, Ring
from host.card.serial_link import LinkCounts, LinkError, SerialLink
from host.card.start import check_card, settings
from host.memory import store_release

HANGS_S = 10.0
HANGS_WINDOWS = 10
"""A board that answers for so long, and for as long as so many windows take, but does nothing has a fault."""

WORDS = LINE_BYTES // 8

CREDITS = (("frames_read", FRAMES_READ), ("payload_read", PAYLOAD_READ))
"""Registers that the host goes on writing, and the words of the ring's header that they follow."""

log = logging.getLogger(__name__)


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


class SerialCard:
    """A board that fills the ring over a serial line. See :class:`host.card.Card`.

    Raises CardError where there is no device, no permission, no answer, another card than this version's, or one that decodes
    another schema; and later where the board does not come back, was restarted, or hangs.
    """

    def __init__(self, url: str, flows: Sequence[Flow], venue: Venue | None, ring: Ring) -> None:
        self.url = url
        self.ring = ring
        device, baud = parse_url(url)
        header = ring.header[0]
        self._parts = [
            (int(header[f"{name}_offset"]) // LINE_BYTES, memory.view(np.uint64))
            for name, memory in (("frames", ring.frame_bytes), ("payload", ring.payload))
        ]
        # Compiled now and not when the first line comes, which would wait meanwhile.
        write_line(np.zeros(WORDS, np.uint64), 0, np.frombuffer(bytes(LINE_BYTES), np.uint64))
        # Packets that were handed over, those of them that the caller sees as not done, and bytes that are still to be sent.
        self._pushed = 0
        self._ahead = 0
        self._stream = bytearray()
        self._published = {name: 0 for name, _ in CREDITS}
        try:
            self._link = SerialLink(device, baud, self._write_line)
        except LinkError as error:
            raise CardError(f"{url}: {error}") from None
        try:
            self._check(flows, venue)
            for address, value in settings(self.ring, flows):
                self._write(address, value)
        except BaseException:
            self._link.close()
            raise

    @property
    def counts(self) -> LinkCounts:
        """What was damaged, missed and resent on the line."""
        return self._link.counts

    def feed(self, packets: Packets, first: int = 0) -> int:
        """See :meth:`host.card.Card.feed`. Raises CardError where the board is lost."""
        link = self._link
        following = first + self._ahead
        link.wake()
        progress, moved = link.progress, time.monotonic()
        patience = HANGS_S + HANGS_WINDOWS * link.window_s
        try:
            while True:
                is_published = self._publish_credit()
                following = self._push(packets, following)
                if following == len(packets) and not self._stream and link.finished == self._pushed:
                    break
                if is_published and link.is_stalled:
                    break
                link.exchange()
                if link.progress != progress:
                    progress, moved = link.progress, time.monotonic()
                elif time.monotonic() - moved > patience:
                    raise LinkError(f"the board answers but has done nothing for {patience:.0f} s")
            link.acknowledge()
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None
        self._ahead = self._pushed - link.finished
        return following - self._ahead

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        return {name: self._read(ADDRESS[name]) for name in COUNTERS}

    def close(self) -> None:
        """See :meth:`host.card.Card.close`. Logs what was resent, if anything was."""
        self._link.close()
        if self.counts != LinkCounts():
            log.warning("%s: %s", self.url, self.counts)
        del self._parts
        self.ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, flows: Sequence[Flow], venue: Venue | None) -> None:
        if (version := self._read(LINK_ADDRESS)) != LINK_VERSION:
            raise CardError(f"{self.url}: the board's link has version {version}, not {LINK_VERSION}: flash it anew")
        check_card(self.url, lambda name: self._read(ADDRESS[name]), flows, venue)

    def _read(self, address: int) -> int:
        self._link.wake()
        try:
            return self._link.read(address)
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None

    def _write(self, address: int, value: int) -> None:
        try:
            self._link.write(address, value)
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None

    def _publish_credit(self) -> bool:
        """Have the board know how far the ring is read; False where it cannot be told now."""
        for name, word in CREDITS:
            read = int(self.ring.words[word])
            if read != self._published[name]:
                if not self._link.has_room:
                    return False
                self._link.write(ADDRESS[name], read)
                self._published[name] = read
        return True

    def _push(self, packets: Packets, following: int) -> int:
        """Send packets from number ``following`` on as far as the board has room; returns the next number."""
        while self._link.has_room:
            while len(self._stream) < CHUNK_BYTES and following < len(packets):
                length, timestamp = int(packets.length[following]), int(packets.timestamp[following])
                self._stream += pack(PACKET_HEADER, length=length, timestamp=timestamp) + packets.packet(following)
                self._pushed += 1
                following += 1
            chunk = bytes(self._stream[:CHUNK_BYTES])
            if not chunk or len(chunk) > self._link.credit:
                break
            self._link.send(Down.PACKETS, chunk)
            del self._stream[: len(chunk)]
        return following

    def _write_line(self, line: int, data: bytes) -> None:
        for first, words in self._parts:
            if 0 <= line - first < len(words) // WORDS:
                write_line(words, (line - first) * WORDS, np.frombuffer(data, np.uint64))
                return
        raise LinkError(f"the board wrote outside the ring, at line {line}")
