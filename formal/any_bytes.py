"""An SBE walker whose packets have any bytes at any time: what holds of it holds whatever stands in a packet.

Only the memory is left out: what comes, and when, is counted as ever. What memory finds is proved by itself (``PacketHistory``).
"""

from collections.abc import Callable
from unittest.mock import patch

from amaranth.hdl import Value

from hdl import sbe_walker
from hdl.packet_history import PacketHistory
from hdl.sbe_venue import Venue


class AnyHistory(PacketHistory):
    """Its ports find anything, in each cycle anew."""

    def _add_port(self, m, banks, n, size, row_bits):
        pass


class AnyWalker(sbe_walker.SbeWalker):
    """The walker, on :class:`AnyHistory`. Once it is elaborated, ``history`` is that; ``free`` was called with the name of each
    signal that may have any value, and the signal."""

    def __init__(self, venue: Venue, free: Callable[[str, Value], None]):
        super().__init__(venue)
        self._free = free
        self.history = AnyHistory(
            self.rows, [sbe_walker.CONTROL_BYTES] * self._control_ports + [each.size for each in self.operands]
        )

    def elaborate(self, platform):
        for n in range(self._control_ports + len(self.operands)):
            self._free(f"found{n}", Value.cast(getattr(self.history, f"bytes{n}")))
        with patch.object(sbe_walker, "PacketHistory", lambda rows, sizes: self.history):
            return super().elaborate(platform)
