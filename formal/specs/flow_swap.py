"""FlowSwap: what is kept of a flow is what was last computed for that flow, in whatever order flows come."""

from amaranth.hdl import ResetInserter, Signal
from amaranth.lib import data

from formal.ideal_swap import IdealSwap
from formal.specification import Method, Proof, Specification
from hdl.flow_swap import FlowSwap
from hdl.limits import FLOWS

ROW = data.StructLayout({"row": 2})
"""A row is moved as a whole, so a narrow one shows what holds for wide ones."""


class SameAsRegisters(Specification):
    """FlowSwap beside registers, one a flow: the state is the same wherever a beat is in the stage. A reset, which may come at any
    time, leaves the RAM as it is."""

    def state(self, m):
        swap, ideal = FlowSwap(ROW, FLOWS), IdealSwap(ROW, FLOWS)
        self.free_inputs("swap", swap)
        reset = self.free(1, "reset")
        m.submodules.swap, m.submodules.ideal = ResetInserter(reset)(swap), ResetInserter(reset)(ideal)
        near, here, came = Signal(), Signal(), Signal(FLOWS)
        with m.If(swap.advance):
            m.d.sync += here.eq(near)
            with m.If(~swap.waits):
                m.d.sync += near.eq(swap.coming)
                with m.If(swap.coming):
                    m.d.sync += came.bit_select(swap.coming_flow, 1).eq(1)
        with m.If(reset):
            m.d.sync += [signal.eq(0) for signal in (near, here, came)]
        m.d.comb += [
            *(
                getattr(ideal, name).eq(getattr(swap, name))
                for name in ("advance", "step", "waits", "coming", "coming_flow", "valid", "next")
            ),
            # A beat is in the stage two moves after it was said to come, and again while it waits in the stage before.
            self.assume(swap.valid == here),
            self.assume(swap.coming_new == ~came.bit_select(swap.coming_flow, 1)),
            self.assume(~(swap.advance & swap.waits) | near),
            self.prove(~swap.valid | (swap.state == ideal.state)),
        ]


PROOFS = (
    Proof("flow_swap", "FlowSwap", "a flow's state is what was last computed for it", SameAsRegisters, Method.PDR, 0),
)
