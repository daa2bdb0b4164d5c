"""A board at the other end of a serial link: what the host does whatever the board is (docs/serial.md)."""

import logging
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from hdl.serial_frame import CHUNK_BYTES, Down
from host.capture.packets import Packets
from host.card import CardError
from host.card.ring import Ring
from host.card.serial_link import LinkCounts, LinkError, SerialLink

HANGS_S = 10.0
HANGS_WINDOWS = 10
"""A board that answers for so long, and for as long as so many windows take, but does nothing has a fault."""

log = logging.getLogger(__name__)


class SerialBoard(ABC):
    """A card over a ``link`` that is open. A class by kind of board says what it is sent and what its lines are."""

    def __init__(self, url: str, link: SerialLink, ring: Ring) -> None:
        self.url = url
        self.ring = ring
        self._link = link
        self._stream = bytearray()
        # Packets that were handed over, but that the caller sees as not done.
        self._ahead = 0
        link.write_line = self._take_line

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
                self._settle()
                following = self._push(packets, following)
                self._ahead = self._unfinished()
                if (following == len(packets) and not self._stream and not self._ahead) or self._waits_for_credit():
                    break
                link.exchange()
                if link.progress != progress:
                    progress, moved = link.progress, time.monotonic()
                elif time.monotonic() - moved > patience:
                    raise LinkError(f"the board answers but has done nothing for {patience:.0f} s")
            link.acknowledge()
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None
        return following - self._ahead

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""

    def close(self) -> None:
        """See :meth:`host.card.Card.close`. Logs what was resent, if anything was."""
        self._link.close()
        if self.counts != LinkCounts():
            log.warning("%s: %s", self.url, self.counts)
        self.ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _take_line(self, line: int, data: bytes) -> None:
        """A line has come, each once and in order."""

    @abstractmethod
    def _settle(self) -> None:
        """Do what credit of the rings, or what has come, allows."""

    @abstractmethod
    def _hand_over(self, packets: Packets, index: int) -> bytes:
        """What the board is to have of a packet, which may be nothing. It counts as unfinished from now on."""

    @abstractmethod
    def _unfinished(self) -> int:
        """Packets that were handed over and are not done."""

    @abstractmethod
    def _waits_for_credit(self) -> bool:
        """Whether nothing goes on until the ring is read."""

    def _push(self, packets: Packets, following: int) -> int:
        """Send packets from number ``following`` on as far as the board has room; returns the next number."""
        while self._link.has_room:
            while len(self._stream) < CHUNK_BYTES and following < len(packets):
                self._stream += self._hand_over(packets, following)
                following += 1
            chunk = bytes(self._stream[:CHUNK_BYTES])
            if not chunk or len(chunk) > self._link.credit:
                break
            self._link.send(Down.PACKETS, chunk)
            del self._stream[: len(chunk)]
        return following
