"""The soft card's way of a packet, compiled: headers, the TCP stream's order, FIX. SBE packets are handed to their decoder."""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.flow import Parser
from hdl.limits import FLOWS
from hdl.register_map import COUNTERS
from host.card.soft_arbiter import DROPPED, TOLD, WAITS, Arbiter, arbitrate
from host.card.soft_ethernet import FOLLOWED_DTYPE, NO_HOLE, PARSED, REPEATED, dissect, follow, settle
from host.card.soft_fix import FIX_STATE_DTYPE, fix_store, take_fix, take_hole
from host.card.soft_sbe import SBE_STATE_DTYPE
from host.memory import INLINED, KERNEL, read_only

_INDEX = {name: index for index, name in enumerate(COUNTERS)}
PACKETS = _INDEX["packets"]
GAPS = _INDEX["gaps"]
FIX_BYTES = _INDEX["fix_bytes"]
FIX = int(Parser.FIX)

PLACE_DTYPE = np.dtype([("begin", np.int64), ("end", np.int64), ("flow", np.int64), ("fragment", np.bool_)])
"""An SBE packet's payload, for its decoder."""


class Parsing(NamedTuple):
    """All that the compiled card keeps between packets.

    ``stored`` is ``store``, read-only, so that it has the packets' type; ``waiting`` is 1 while a packet is half taken.
    """

    flows: np.ndarray
    followed: np.ndarray
    counters: np.ndarray
    waiting: np.ndarray
    fix: np.ndarray
    store: np.ndarray
    stored: np.ndarray
    sbe: np.ndarray
    place: np.ndarray
    arbiter: Arbiter

    @classmethod
    def of(cls, flows: np.ndarray, arbiter: Arbiter) -> "Parsing":
        """That of a card that has taken nothing yet."""
        store = fix_store()
        sbe = np.zeros(1, SBE_STATE_DTYPE)
        sbe["message"] = -1
        return cls(
            flows=flows,
            followed=np.zeros(FLOWS, FOLLOWED_DTYPE),
            counters=np.zeros(len(COUNTERS), np.int64),
            waiting=np.zeros(1, np.int64),
            fix=np.zeros(FLOWS, FIX_STATE_DTYPE),
            store=store,
            stored=read_only(store, np.uint8),
            sbe=sbe,
            place=np.zeros(1, PLACE_DTYPE),
            arbiter=arbiter,
        )


@njit(**INLINED)
def advance(ring, parsing, data, offset, length, timestamp, first):
    """Take packets from ``first`` on, up to one of SBE. Returns its index and True, having set ``parsing.place``; or the index of the
    first packet that is not done, and False."""
    counters = parsing.counters
    for index in range(first, offset.size):
        start = np.int64(offset[index])
        counter, flow, header, begin, end, fragment = dissect(data, start, np.int64(length[index]), parsing.flows)
        resumed = parsing.waiting[0] != 0
        if header and parsing.flows[flow].followed and not resumed:
            counter, begin, missing = follow(parsing.followed[flow], data, header, begin, end)
            if missing != NO_HOLE:
                # Without credit the packet is as good as not looked at: it comes again.
                if not take_hole(ring, parsing.fix, parsing.stored, flow, missing, timestamp[index], fragment):
                    return index, False
                counters[GAPS] += 1
            if counter == PARSED:
                settle(parsing.followed[flow], begin, end, missing)
        if counter == PARSED and parsing.flows[flow].channel >= 0 and not resumed:
            row = parsing.flows[flow]
            done = arbitrate(ring, parsing.arbiter, row, data, begin, end, flow, timestamp[index], fragment)
            if done == WAITS:
                return index, False
            if done == DROPPED:
                counter = REPEATED
            counters[GAPS] += done == TOLD
        fix = counter == PARSED and parsing.flows[flow].parser == FIX
        if not resumed:
            counters[PACKETS] += 1
            counters[counter] += 1
            if fix:
                counters[FIX_BYTES] += end - begin
        if fix:
            done = take_fix(
                ring,
                parsing.fix,
                parsing.store,
                parsing.stored,
                data,
                begin,
                end,
                flow,
                timestamp[index],
                fragment,
                resumed,
            )
            if not done_with_packet(parsing, done):
                return index, False
        elif counter == PARSED:
            place = parsing.place[0]
            place.begin = begin
            place.end = end
            place.flow = flow
            place.fragment = fragment
            return index, True
        else:
            parsing.waiting[0] = 0
    return offset.size, False


@njit(**INLINED)
def done_with_packet(parsing, done):
    """Remember whether the packet has to come again; returns ``done``."""
    parsing.waiting[0] = not done
    return done


@njit(**KERNEL)
def feed_packets(ring, parsing, data, offset, length, timestamp, first):
    """Take packets from ``first`` on, none of them SBE; returns the index of the first one that is not done."""
    return advance(ring, parsing, data, offset, length, timestamp, first)[0]
