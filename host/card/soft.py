"""The ``soft:`` card: the card's parsing in Numba, bit for bit the same frames as the RTL's."""

from collections.abc import Sequence

import numpy as np

from hdl.flow import Flow
from hdl.register_map import COUNTERS
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card.ring import Ring
from host.card.ring_writer import writer_of
from host.card.sbe_decoders import decoder
from host.card.soft_arbiter import Arbiter
from host.card.soft_ethernet import flow_table
from host.card.soft_feed import Parsing, feed_packets
from host.closing import Closing
from host.memory import read_only

FRAMES = list(COUNTERS).index("frames")
PAYLOAD_BYTES = list(COUNTERS).index("payload_bytes")


class SoftCard(Closing):
    """A card that is this processor. See :class:`host.card.Card`."""

    url = "soft:"

    def __init__(self, flows: Sequence[Flow], venue: Venue | None, ring: Ring) -> None:
        self.ring = ring
        self._writer = writer_of(ring)
        # It has the addresses of these: they stay mapped as long as it may write.
        self._mapped = ring.words, ring.frame_bytes, ring.payload
        self._parsing = Parsing.of(flow_table(flows), Arbiter.of(flows, venue))
        self._feed_packets = feed_packets if venue is None else decoder(venue)
        self._waiting_packet: tuple[int, int] | None = None
        self._source: tuple[Packets, tuple[np.ndarray, ...]] | None = None

    def feed(self, packets: Packets, first: int = 0) -> int:
        """See :meth:`host.card.Card.feed`. Raises ValueError where it does not go on with the packet that it named."""
        if self._source is None or self._source[0] is not packets:
            self._source = (
                packets,
                (
                    read_only(packets.data, np.uint8),
                    read_only(packets.offset, np.uint64),
                    read_only(packets.length, np.uint32),
                    read_only(packets.timestamp, np.uint64),
                ),
            )
        arrays = self._source[1]
        if self._waiting_packet is not None and (
            first >= len(packets) or self._waiting_packet != self._identity(packets, first)
        ):
            raise ValueError(f"a packet is half taken: feed must go on with it, not with packet {first}")
        following = int(self._feed_packets(self._writer, self._parsing, *arrays, first))
        self._waiting_packet = self._identity(packets, following) if self._parsing.waiting[0] else None
        return following

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        writer = self._writer
        counts = self._parsing.counters
        counts[FRAMES] = writer["frames_written"]
        counts[PAYLOAD_BYTES] = writer["payload_bytes"]
        return dict(zip(COUNTERS, counts.tolist(), strict=True))

    def close(self) -> None:
        """See :meth:`host.card.Card.close`."""
        del self._writer, self._mapped
        self.ring.close()

    @staticmethod
    def _identity(packets: Packets, index: int) -> tuple[int, int]:
        return int(packets.timestamp[index]), int(packets.length[index])
