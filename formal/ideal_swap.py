"""FlowSwap as it is meant: one register a flow. In its place it makes induction over a parser's state possible."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.limits import FLOWS


class IdealSwap(wiring.Component):
    """The same ports as ``hdl.flow_swap.FlowSwap``, whose rows stand in registers, ``rows``, and are read when they are needed.

    That FlowSwap does the same is a proof of its own.
    """

    def __init__(self, layout: data.Layout, flows: int = FLOWS):
        self.layout = layout
        self.rows = Array(Signal(layout, name=f"row{n}") for n in range(flows))
        super().__init__(
            {
                "advance": In(1),
                "step": In(1),
                "waits": In(1),
                "coming": In(1),
                "coming_flow": In(range(FLOWS)),
                "coming_new": In(1),
                "valid": In(1),
                "state": Out(layout),
                "next": In(layout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        near, near_flow, here_flow = Signal(), Signal(range(FLOWS)), Signal(range(FLOWS))
        with m.If(self.advance):
            m.d.sync += here_flow.eq(Mux(near, near_flow, here_flow))
            with m.If(~self.waits):
                m.d.sync += [near.eq(self.coming), near_flow.eq(self.coming_flow)]
        m.d.comb += self.state.eq(self.rows[here_flow])
        with m.If((self.advance | self.step) & self.valid):
            m.d.sync += self.rows[here_flow].eq(self.next)
        return m
