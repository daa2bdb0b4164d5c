"""An SBE walker whose packets have any bytes at any time: what holds of it holds whatever stands in a packet.

What the history finds in memory is left out, or all that it says; what memory finds is proved by itself (``PacketHistory``).
"""

from collections.abc import Callable
from unittest.mock import patch

from amaranth.hdl import Module, Value
from amaranth.lib.wiring import Component, Out

from hdl import sbe_walker
from hdl.packet_history import PacketHistory
from hdl.sbe_venue import Venue


class AnyHistory(PacketHistory):
    """Its ports find anything, in each cycle anew; what comes, and when, is counted as ever."""

    def _add_port(self, m, banks, n, size, row_bits):
        pass

    def undecided(self) -> dict[str, Value]:
        """What it says that may have any value, by name."""
        return {name: value for name, value in _outputs_of(self).items() if name.startswith("bytes")}


class NoHistory(AnyHistory):
    """All that it says is anything, in each cycle anew: also how much of a packet came, and whether that is all."""

    def elaborate(self, platform):
        return Module()

    def undecided(self) -> dict[str, Value]:
        return _outputs_of(self)


def _outputs_of(component: Component) -> dict[str, Value]:
    return {
        "__".join(map(str, path)): Value.cast(value)
        for path, member, value in component.signature.flatten(component)
        if member.flow == Out
    }


class AnyWalker(sbe_walker.SbeWalker):
    """The walker, on an :class:`AnyHistory`. Once it is elaborated, ``history`` is that; ``free`` was called with the name of each
    signal that may have any value, and the signal."""

    def __init__(self, venue: Venue, free: Callable[[str, Value], None], kind: type[AnyHistory] = AnyHistory):
        super().__init__(venue)
        self._free = free
        self.history = kind(
            self.rows, [sbe_walker.CONTROL_BYTES] * self._control_ports + [each.size for each in self.operands]
        )

    def elaborate(self, platform):
        for name, value in self.history.undecided().items():
            self._free(f"history__{name}", value)
        with patch.object(sbe_walker, "PacketHistory", lambda rows, sizes: self.history):
            return super().elaborate(platform)
