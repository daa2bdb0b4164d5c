"""A board at the other end of a link: what the cards have in common whose registers are written frame by frame."""

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from hdl.flow import Flow
from hdl.link_frame import BOARD, BOARD_ADDRESS, size, unpack, venue_code
from hdl.register_map import ADDRESS, COUNTERS, IDENTITY, ROW_STRIDE, VERSION
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card import CardError
from host.card.link_session import LinkCounts, LinkError, LinkSession
from host.card.ring import FRAMES_READ, PAYLOAD_READ, Ring

CREDITS = (("frames_read", FRAMES_READ), ("payload_read", PAYLOAD_READ))
"""Registers that the host goes on writing, and the words of the ring's header that they follow."""

log = logging.getLogger(__name__)


class LinkedCard:
    """A board whose ``link`` is open and writes the ring's lines. See :class:`host.card.Card`.

    ``link_version`` is what the board's link must have. A board that answers for ``patience_s`` but does nothing has a fault. Raises CardError where the
    board has another version, decodes another schema or has too few flows, and closes the link then; later where it does not come
    back, was restarted, or hangs.
    """

    def __init__(
        self,
        url: str,
        link: LinkSession,
        link_version: int,
        flows: Sequence[Flow],
        venue: Venue | None,
        ring: Ring,
        patience_s: float,
    ) -> None:
        self.url = url
        self.ring = ring
        self._session = link
        self._patience_s = patience_s
        # Packets that were handed over, and those of them that the caller sees as not done.
        self._pushed = 0
        self._ahead = 0
        self._published = {name: 0 for name, _ in CREDITS}
        try:
            self._board = self._check(link_version, flows, venue)
            self._set_up(flows)
        except BaseException as error:
            link.close()
            if isinstance(error, LinkError):
                raise CardError(f"{url}: {error}") from None
            raise

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
                is_published = self._publish_credit()
                following = self._push(packets, following)
                if following == len(packets) and self._all_sent and link.finished == self._pushed:
                    break
                if is_published and link.is_stalled:
                    break
                link.exchange()
                if link.progress != progress:
                    progress, moved = link.progress, time.monotonic()
                elif time.monotonic() - moved > self._patience_s:
                    raise LinkError(f"the board answers but has done nothing for {self._patience_s:.0f} s")
            link.acknowledge()
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None
        self._ahead = self._pushed - link.finished
        return following - self._ahead

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        self._session.wake()
        try:
            return {name: self._session.read(ADDRESS[name]) for name in COUNTERS}
        except LinkError as error:
            raise CardError(f"{self.url}: {error}") from None

    def close(self) -> None:
        """See :meth:`host.card.Card.close`. Logs what did not go smoothly, if anything did not."""
        self._session.close()
        if self.counts != type(self.counts)():
            log.warning("%s: %s", self.url, self.counts)
        self.ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What each link does in its own way.

    @property
    def _all_sent(self) -> bool:
        """Whether nothing that was pushed waits to be sent."""
        return True

    def _push(self, packets: Packets, following: int) -> int:
        """Send packets from number ``following`` on as far as the board has room, and count them in ``_pushed``; returns the next number."""
        raise NotImplementedError

    # The board.

    def _check(self, link_version: int, flows: Sequence[Flow], venue: Venue | None) -> dict[str, int]:
        """What the board says of itself, once it is found to be the right one."""
        read = self._session.read
        board = unpack(BOARD, read(BOARD_ADDRESS).to_bytes(size(BOARD), "little"))
        if board["version"] != link_version:
            raise CardError(f"{self.url}: the board's link has version {board['version']}, not {link_version}")
        identity, version = read(ADDRESS["identity"]), read(ADDRESS["version"])
        if identity != IDENTITY:
            raise CardError(f"{self.url}: the board answers {identity:#018x}, which is no Tickgate card")
        if version != VERSION:
            raise CardError(f"{self.url}: the board's registers have version {version}, not {VERSION}: flash it anew")
        if len(flows) > board["flows"]:
            raise CardError(f"{self.url}: {len(flows)} flows are too many: the board has {board['flows']} rows")
        if venue is not None and board["venue"] != venue_code(venue):
            what = "another schema or profile" if board["venue"] else "no SBE"
            raise CardError(f"{self.url}: the board decodes {what}: build and flash it for {venue.schema.path}")
        return board

    def _set_up(self, flows: Sequence[Flow]) -> None:
        header = self.ring.header[0]
        settings = {
            "frames_base": int(header["frames_offset"]),
            "frame_slots_log2": int(header["frame_slots"]).bit_length() - 1,
            "payload_base": int(header["payload_offset"]),
            "payload_bytes_log2": int(header["payload_bytes"]).bit_length() - 1,
        }
        for name, value in settings.items():
            self._session.write(ADDRESS[name], value)
        for row, flow in enumerate(flows):
            for name, value in (
                ("flow_destination", flow.destination.address | flow.destination.port << 32),
                ("flow_source", flow.source.address | flow.source.port << 32),
                ("flow_control", flow.protocol | flow.parser << 8),
            ):
                self._session.write(ADDRESS[name] + ROW_STRIDE * row, value)

    def _publish_credit(self) -> bool:
        """Have the board know how far the ring is read; False where it cannot be told now."""
        for name, word in CREDITS:
            read = int(self.ring.words[word])
            if read != self._published[name]:
                if not self._session.has_room:
                    return False
                self._session.write(ADDRESS[name], read)
                self._published[name] = read
        return True
