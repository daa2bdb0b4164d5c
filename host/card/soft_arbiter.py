"""The soft card's feed arbiter, compiled: docs/feeds.md. What becomes of a packet is :mod:`host.market_data.feed_rule`'s to say."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.flow import Flow, Side
from hdl.frame import Flag, Kind
from hdl.sbe_framing import arbitrated_slot
from hdl.sbe_venue import Venue
from host.card import CardError
from host.card.ring_writer import has_frame_credit, write_frame, write_message
from host.card.soft_sbe import load
from host.market_data.feed_rule import CHANNEL_DTYPE, GAP, RESET, SIDE_DTYPE, judge, settle
from host.memory import INLINED

KIND = int(Kind.GAP)
FRAGMENT = int(Flag.FRAGMENT)

PASSED, DROPPED, TOLD, WAITS = range(4)
"""What becomes of a packet: passed on; not; passed on behind a GAP frame, which was written; or nothing, since that frame has no credit."""


class Arbiter(NamedTuple):
    """What is kept of channels and their feeds, and where a packet's sequence number stands."""

    channels: np.ndarray
    sides: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    big: np.ndarray

    @classmethod
    def of(cls, flows: Sequence[Flow], venue: Venue | None) -> "Arbiter":
        """That of a card that has taken nothing yet. Raises CardError without a venue for feeds, FramingError
        where the venue's cannot be arbitrated."""
        channels = max((flow.feed.channel + 1 for flow in flows if flow.feed is not None), default=0)
        if channels and venue is None:
            raise CardError("feeds cannot be arbitrated: there is no schema")
        slot = arbitrated_slot(venue.profile.framing) if channels and venue is not None else None
        return cls(
            channels=np.zeros(channels, CHANNEL_DTYPE),
            sides=np.zeros((channels, len(Side)), SIDE_DTYPE),
            offset=np.array([slot.offset if slot else 0]),
            size=np.array([slot.size if slot else 0]),
            big=np.array([venue is not None and venue.profile.framing.byte_order == "big"]),
        )


@njit(**INLINED)
def arbitrate(ring, arbiter, row, data, begin, end, flow, timestamp, fragment):
    """What becomes of a packet of a flow that is arbitrated (WAITS: as if it had not come; it comes again)."""
    if end - begin < arbiter.offset[0] + arbiter.size[0]:
        return PASSED
    number = np.int64(load(data, begin + arbiter.offset[0], arbiter.size[0], arbiter.big[0]))
    channel = arbiter.channels[row.channel]
    own, other = arbiter.sides[row.channel, row.side], arbiter.sides[row.channel, 1 - row.side]
    verdict = judge(channel, own, other, number)
    done = PASSED if verdict <= RESET else DROPPED
    if verdict in (GAP, RESET):
        first = number if verdict == RESET else channel.passed + 1
        if not _write_gap(ring, data, flow, timestamp, fragment, number - first, first):
            return WAITS
        done = TOLD
    settle(channel, own, other, number, verdict)
    return done


@njit(**INLINED)
def _write_gap(ring, data, flow, timestamp, fragment, missing, first):
    """A GAP frame, which has no message; False without credit."""
    if not has_frame_credit(ring):
        return False
    payload_offset = np.uint64(write_message(ring, data, 0, 0))
    write_frame(
        ring,
        timestamp,
        np.uint64(0),
        np.uint64(0),
        np.uint64(0),
        payload_offset | np.uint64(flow) << np.uint64(48),
        np.uint64(missing) | np.uint64(KIND) << np.uint64(32),
        np.uint64(FRAGMENT if fragment else 0),
        np.uint64(first),
    )
    return True
