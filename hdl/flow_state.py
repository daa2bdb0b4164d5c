"""State that is kept a flow and swapped as packets of other flows come."""

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.limits import FLOWS


class FlowState(wiring.Component):
    """One row of ``layout`` a flow, all zero at first and after a reset.

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
        # A reset does not reach the memory: rows count from when they were first written.
        written = Signal(self.flows)
        with m.If(self.commit):
            m.d.sync += written.bit_select(self.flow, 1).eq(1)
        with m.If(written.bit_select(self.flow, 1)):
            m.d.comb += self.state.eq(read.data)
        m.d.comb += [
            read.addr.eq(self.flow),
            write.addr.eq(self.flow),
            write.data.eq(self.next),
            write.en.eq(self.commit),
        ]
        return m
