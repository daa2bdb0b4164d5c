"""The `rtl:` card: the card's own RTL, compiled by Verilator, writing the real rings."""

import ctypes
from collections.abc import Sequence

import numpy as np

from hdl.flow import Flow
from hdl.register_map import ADDRESS, COUNTERS
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card.ring import Ring
from host.card.start import check_card, settings
from host.closing import Closing
from sim.shared_library import ARBITRATING_CARD, CARD, card_library


class VerilatedCard(Closing):
    """A card that takes packets from memory and is clocked as long as it has work and credit.

    Raises ToolMissing without a compiler (the first time only), SchemaError for a schema that the card cannot
    decode, ValueError for more flows than the table has rows.
    """

    url = "rtl:"

    def __init__(self, flows: Sequence[Flow], venue: Venue | None, ring: Ring) -> None:
        self.ring = ring
        model = ARBITRATING_CARD if any(flow.feed is not None for flow in flows) else CARD
        library = ctypes.CDLL(str(card_library(venue, model)))
        self._functions = library
        pointer, u64, u32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32
        for name, result, arguments in (
            ("open", pointer, [pointer, u64]),
            ("close", None, [pointer]),
            ("write", None, [pointer, u32, u64]),
            ("read", u64, [pointer, u32]),
            ("cycles", u64, [pointer]),
            ("feed", ctypes.c_int64, [pointer] * 5 + [ctypes.c_int64, pointer]),
        ):
            function = getattr(library, f"tickgate_{name}")
            function.restype, function.argtypes = result, arguments
        header = ring.header[0]
        memory_bytes = int(header["payload_offset"] + header["payload_bytes"])
        self._handle = library.tickgate_open(ring.header.ctypes.data, memory_bytes)
        # Packets that are inside the card while the caller sees them as not done.
        self._ahead = 0
        check_card(self.url, self.read, flows, venue)
        for address, value in settings(ring, flows):
            library.tickgate_write(self._handle, address, value)

    def read(self, register: str) -> int:
        """Read a register by its name in hdl/register_map.py."""
        return self._functions.tickgate_read(self._handle, ADDRESS[register])

    @property
    def cycles(self) -> int:
        """Clock cycles since the card was opened."""
        return self._functions.tickgate_cycles(self._handle)

    def feed(self, packets: Packets, first: int = 0) -> int:
        """Take packets from number ``first`` on, as far as the rings have credit.

        Returns the number of the next packet to go on with; when that is ``len(packets)``, all frames are in the ring.
        """
        begin = first + self._ahead
        rest = packets.slice(begin)
        arrays = [
            np.ascontiguousarray(array, dtype)
            for array, dtype in (
                (rest.data, np.uint8),
                (rest.offset, np.uint64),
                (rest.length, np.uint32),
                (rest.timestamp, np.uint64),
            )
        ]
        unfinished = ctypes.c_uint32()
        taken = self._functions.tickgate_feed(
            self._handle, *(array.ctypes.data for array in arrays), len(rest), ctypes.byref(unfinished)
        )
        if taken < 0:
            raise RuntimeError("the card hangs" if taken == -2 else "the card wrote outside the ring's memory")
        self._ahead = unfinished.value
        return begin + taken - self._ahead

    def counters(self) -> dict[str, int]:
        """The card's counters by their names in hdl/register_map.py."""
        return {name: self.read(name) for name in COUNTERS}

    def close(self) -> None:
        """Free the model; the ring stays."""
        if self._handle:
            self._functions.tickgate_close(self._handle)
            self._handle = None
