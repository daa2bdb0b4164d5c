"""A board at the other end of a link: what the host does whatever link and board are."""

import contextlib
import logging
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from hdl.flow import Flow
from hdl.link_frame import BOARD, BOARD_ADDRESS, size, unpack
from hdl.register_map import ADDRESS, COUNTERS
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card import CardError
from host.card.link_session import LinkCounts, LinkError, LinkSession
from host.card.ring import FRAMES_READ, PAYLOAD_READ, Ring
from host.card.start import check_card, settings
from host.closing import Closing

CREDITS = (("frames_read", FRAMES_READ), ("payload_read", PAYLOAD_READ))
"""Registers that the host goes on writing, and the words of the ring's header that they follow."""

log = logging.getLogger(__name__)


def check_board(
    url: str, link: LinkSession, link_version: int, flows: Sequence[Flow], venue: Venue | None
) -> dict[str, int]:
    """What the board says of itself (BOARD), once it is found to be the right one for these flows.

    Raises CardError where it is not, LinkError where it does not answer.
    """
    board = unpack(BOARD, link.read(BOARD_ADDRESS).to_bytes(size(BOARD), "little"))
    if board["version"] != link_version:
        raise CardError(f"{url}: the board's link has version {board['version']}, not {link_version}: flash it anew")
    check_card(url, lambda name: link.read(ADDRESS[name]), flows, venue)
    return board


@contextlib.contextmanager
def closing_where_it_fails(url: str, link: LinkSession) -> Iterator[None]:
    """Close ``link`` where what is done with it raises; a LinkError becomes a CardError."""
    try:
        yield
    except LinkError as error:
        link.close()
        raise CardError(f"{url}: {error}") from None
    except BaseException:
        link.close()
        raise


class LinkedCard(Closing):
    """A card over a ``link`` that is open. See :class:`host.card.Card`. A class by kind of board says what it is sent and what comes back.

    A board that answers for ``patience_s`` but does nothing has a fault. Raises CardError where it does not come back, was restarted, or hangs.
    """

    def __init__(self, url: str, link: LinkSession, ring: Ring, patience_s: float) -> None:
        self.url = url
        self.ring = ring
        self._session = link
        self._patience_s = patience_s
        # Packets that were handed over, but that the caller sees as not done.
        self._ahead = 0

    @property
    def counts(self) -> LinkCounts:
        """What was damaged, missed and resent on the link."""
        return self._session.counts

    def feed(self, packets: Packets, first: int = 0) -> int:
        """See :meth:`host.card.Card.feed`. Raises CardError where the board is lost."""
        link = self._session
        following = first + self._ahead
        link.wake()
        progress, moved = link.progress, time.monotonic()
        try:
            while True:
                self._settle()
                following = self._push(packets, following)
                self._ahead = self._unfinished()
                if (following == len(packets) and self._all_sent and not self._ahead) or self._waits_for_credit():
                    break
                link.exchange()
                if link.progress != progress:
                    progress, moved = link.progress, time.monotonic()
                elif time.monotonic() - moved > self._patience_s:
                    raise LinkError(f"the board answers but has done nothing for {self._patience_s:.0f} s")
            link.acknowledge()
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None
        return following - self._ahead

    @abstractmethod
    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""

    def close(self) -> None:
        """See :meth:`host.card.Card.close`. Logs what did not go smoothly, if anything did not."""
        self._session.close()
        if self.counts != type(self.counts)():
            log.warning("%s: %s", self.url, self.counts)
        self.ring.close()

    @property
    def _all_sent(self) -> bool:
        """Whether nothing that was handed over waits to be sent."""
        return True

    @abstractmethod
    def _settle(self) -> None:
        """Do what credit of the rings, or what has come, allows."""

    @abstractmethod
    def _push(self, packets: Packets, following: int) -> int:
        """Send packets from number ``following`` on as far as the board has room; returns the next number."""

    @abstractmethod
    def _unfinished(self) -> int:
        """Packets that were handed over and are not done."""

    @abstractmethod
    def _waits_for_credit(self) -> bool:
        """Whether nothing goes on until the ring is read."""


class WholeCard(LinkedCard):
    """A board that is a whole card: it is sent packets, and writes the ring's lines. Its registers are set up when it is made."""

    def __init__(self, url: str, link: LinkSession, flows: Sequence[Flow], ring: Ring, patience_s: float) -> None:
        super().__init__(url, link, ring, patience_s)
        self._pushed = 0
        self._published = {name: 0 for name, _ in CREDITS}
        self._is_published = False
        for address, value in settings(ring, flows):
            link.write(address, value)

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        self._session.wake()
        try:
            return {name: self._session.read(ADDRESS[name]) for name in COUNTERS}
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None

    def _settle(self) -> None:
        """Have the board know how far the ring is read, if it can be told now."""
        self._is_published = True
        for name, word in CREDITS:
            read = int(self.ring.words[word])
            if read != self._published[name]:
                if not self._session.has_room:
                    self._is_published = False
                    return
                self._session.write(ADDRESS[name], read)
                self._published[name] = read

    def _unfinished(self) -> int:
        return self._pushed - self._session.finished

    def _waits_for_credit(self) -> bool:
        return self._is_published and self._session.is_stalled
