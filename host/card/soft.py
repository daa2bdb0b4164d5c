"""The ``soft:`` card: the card's parsing in Numba, bit for bit the same frames as the RTL's."""

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from numba import njit

from hdl.flow import Flow, Parser
from hdl.limits import FLOWS
from hdl.register_map import COUNTERS
from hdl.sbe_schema import Schema
from host.capture.packets import Packets
from host.card.ring import Ring
from host.card.ring_writer import RingMemory
from host.card.sbe_tables import SbeTables, sbe_tables
from host.card.soft_ethernet import FOLLOWED_DTYPE, NO_HOLE, PARSED, dissect, flow_table, follow, settle
from host.card.soft_fix import FIX_STATE_DTYPE, fix_store, take_fix, take_hole
from host.card.soft_sbe import SBE_STATE_DTYPE, take_sbe
from host.memory import KERNEL

_INDEX = {name: index for index, name in enumerate(COUNTERS)}
PACKETS = _INDEX["packets"]
GAPS = _INDEX["gaps"]
FIX_BYTES = _INDEX["fix_bytes"]
FRAMES = _INDEX["frames"]
PAYLOAD_BYTES = _INDEX["payload_bytes"]
FIX = int(Parser.FIX)


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
    tables: SbeTables


@njit(**KERNEL)
def feed_packets(ring, parsing, data, offset, length, timestamp, first):
    """Take packets from ``first`` on; returns the index of the first one that is not done."""
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
                    return index
                counters[GAPS] += 1
            if counter == PARSED:
                settle(parsing.followed[flow], begin, end, missing)
        fix = counter == PARSED and parsing.flows[flow].parser == FIX
        if not resumed:
            counters[PACKETS] += 1
            counters[counter] += 1
            if fix:
                counters[FIX_BYTES] += end - begin
        done = True
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
        elif counter == PARSED:
            done = take_sbe(ring, parsing.tables, parsing.sbe, data, begin, end, flow, timestamp[index], fragment)
        parsing.waiting[0] = not done
        if not done:
            return index
    return offset.size


def _read_only(array: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    """A contiguous read-only view, whatever the capture is made of: one type to compile for."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


class SoftCard:
    """A card that is this processor. See :class:`host.card.Card`."""

    url = "soft:"

    def __init__(self, flows: Sequence[Flow], schema: Schema | None, ring: Ring) -> None:
        self.ring = ring
        store = fix_store()
        self._memory = RingMemory.of(ring)
        self._parsing = Parsing(
            flows=flow_table(flows),
            followed=np.zeros(FLOWS, FOLLOWED_DTYPE),
            counters=np.zeros(len(COUNTERS), np.int64),
            waiting=np.zeros(1, np.int64),
            fix=np.zeros(FLOWS, FIX_STATE_DTYPE),
            store=store,
            stored=_read_only(store, np.uint8),
            sbe=np.zeros(1, SBE_STATE_DTYPE),
            tables=sbe_tables(schema),
        )
        self._waiting_packet: tuple[int, int] | None = None
        self._source: tuple[Packets, tuple[np.ndarray, ...]] | None = None

    def feed(self, packets: Packets, first: int = 0) -> int:
        """See :meth:`host.card.Card.feed`. Raises ValueError where it does not go on with the packet that it named."""
        if self._source is None or self._source[0] is not packets:
            self._source = (
                packets,
                (
                    _read_only(packets.data, np.uint8),
                    _read_only(packets.offset, np.uint64),
                    _read_only(packets.length, np.uint32),
                    _read_only(packets.timestamp, np.uint64),
                ),
            )
        arrays = self._source[1]
        if self._waiting_packet is not None and (
            first >= len(packets) or self._waiting_packet != self._identity(packets, first)
        ):
            raise ValueError(f"a packet is half taken: feed must go on with it, not with packet {first}")
        following = int(feed_packets(self._memory, self._parsing, *arrays, first))
        self._waiting_packet = self._identity(packets, following) if self._parsing.waiting[0] else None
        return following

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        writer = self._memory.writer[0]
        counts = self._parsing.counters
        counts[FRAMES] = writer["frames_written"]
        counts[PAYLOAD_BYTES] = writer["payload_bytes"]
        return dict(zip(COUNTERS, counts.tolist(), strict=True))

    def close(self) -> None:
        """See :meth:`host.card.Card.close`."""
        del self._memory
        self.ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _identity(packets: Packets, index: int) -> tuple[int, int]:
        return int(packets.timestamp[index]), int(packets.length[index])
