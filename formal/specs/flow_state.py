"""FlowState: what is kept of a flow is what was last committed for that flow."""

from amaranth.hdl import Signal

from formal.specification import Method, Proof, Specification
from hdl.flow_state import FlowState

FLOWS = 4


class OwnRow(Specification):
    """The row of a flow, any one of four, is the last that was committed for it, or zero; whatever the others commit."""

    def state(self, m):
        rows = self.add(m, "rows", FlowState(8, flows=FLOWS))
        watched = self.constant(m, range(FLOWS), "watched")
        kept = Signal(8)
        with m.If(rows.flow == watched):
            m.d.comb += self.prove(rows.state == kept)
            with m.If(rows.commit):
                m.d.sync += kept.eq(rows.next)


PROOFS = (Proof("flow_state_row", "FlowState", "a commit changes its flow's row and no other", OwnRow, Method.PDR, 0),)
