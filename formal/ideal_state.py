"""FlowState as it is meant: one register a flow. In its place it makes induction over a block's state possible."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class IdealState(wiring.Component):
    """The same ports as ``hdl.flow_state.FlowState``, whose rows stand in registers, ``rows``.

    That FlowState does the same is a proof of its own.
    """

    def __init__(self, layout: data.Layout, flows: int):
        self.rows = Array(Signal(layout, name=f"row{n}") for n in range(flows))
        super().__init__({"flow": In(range(flows)), "state": Out(layout), "next": In(layout), "commit": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.state.eq(self.rows[self.flow])
        with m.If(self.commit):
            m.d.sync += self.rows[self.flow].eq(self.next)
        return m
