"""State that is kept a flow and swapped as packets of other flows come."""

from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.limits import FLOWS


class FlowState(wiring.Component):
    """One row of ``layout`` a flow, all zero at first.

    ``state`` is the row of ``flow`` in the same cycle; ``next`` replaces it at the cycle's end where
    ``commit`` is high. So a stage computes one step a cycle, whatever flow comes next.
    """

    def __init__(self, layout, flows: int = FLOWS):
        self.layout = layout
        self.flows = flows
        super().__init__(
            {"flow": In(range(flows)), "state": Out(layout), "next": In(layout), "commit": In(1)},
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rows = rows = memory.Memory(shape=self.layout, depth=self.flows, init=[])
        read = rows.read_port(domain="comb")
        write = rows.write_port()
        m.d.comb += [
            read.addr.eq(self.flow),
            self.state.eq(read.data),
            write.addr.eq(self.flow),
            write.data.eq(self.next),
            write.en.eq(self.commit),
        ]
        return m
