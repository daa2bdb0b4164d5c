"""Counters of 64 bits in one memory, because each in registers and an adder of its own would take a twentieth of the card."""

from collections.abc import Mapping

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out


def lag(counters: int) -> int:
    """So many cycles after something happened the total of one of so many ``counters`` has it."""
    return counters + 2


class Counters(wiring.Component):
    """Counters that all may grow in the same cycle. ``widths`` has their names and the bits of the most that each grows in a cycle.

    What is counted is collected in a few bits for each counter, which go to its total in turn (:func:`lag`); so many cycles after a reset
    all totals are 0. ``total`` is that of the counter that was ``selected`` one cycle before; of a number without a counter it says
    nothing.
    """

    def __init__(self, widths: Mapping[str, int]):
        self._widths = dict(widths)
        super().__init__(
            {
                "increments": In(data.StructLayout(self._widths)),
                "selected": In(range(len(widths))),
                "total": Out(64),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = len(self._widths)
        m.submodules.totals = totals = memory.Memory(shape=64, depth=count, init=[])
        write, before, shown = totals.write_port(), totals.read_port(domain="comb"), totals.read_port(domain="comb")

        # A reset does not clear a memory: what is there before every counter had its turn does not count.
        turn, has_begun = Signal(range(count)), Signal()
        m.d.sync += turn.eq(turn + 1)
        with m.If(turn == count - 1):
            m.d.sync += [turn.eq(0), has_begun.eq(1)]

        collected = []
        for number, (name, width) in enumerate(self._widths.items()):
            # From its turn to the next one a counter grows ``count`` times.
            some = Signal((count * ((1 << width) - 1)).bit_length(), name=f"{name}_collected")
            with m.If(turn == number):
                m.d.sync += some.eq(self.increments[name])
            with m.Else():
                m.d.sync += some.eq(some + self.increments[name])
            collected.append(some)

        # A total that is read is written a cycle later, and read again after all others.
        total, more, place = Signal(64), Signal(max(map(len, collected))), Signal(range(count))
        m.d.comb += before.addr.eq(turn)
        m.d.sync += [total.eq(Mux(has_begun, before.data, 0)), more.eq(Array(collected)[turn]), place.eq(turn)]
        m.d.comb += [write.addr.eq(place), write.data.eq(total + more), write.en.eq(1)]

        m.d.comb += shown.addr.eq(self.selected)
        m.d.sync += self.total.eq(shown.data)
        return m
