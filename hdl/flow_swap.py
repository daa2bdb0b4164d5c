"""A pipeline stage's state, of which every flow has its own."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.limits import FLOWS


class FlowSwap(wiring.Component):
    """One row of ``layout`` a flow, all zero at first and after a reset; the row in use stands in a register.

    ``state`` is that of the flow whose beat is in the stage now, ``next`` what it becomes; one step a cycle, whatever flow comes
    next. ``valid`` says whether a beat is in the stage, ``advance`` that the pipeline moves; with ``step`` alone ``next`` is
    taken but the beat stays; with ``waits`` the beat in the stage before stays, while this stage takes another step of it.
    ``coming_flow`` (where ``coming`` is high) is the flow of the beat two stages before, and ``coming_new`` says that this is its
    first one since the reset: it is there for two moves when its row is needed, which gives a block RAM its time.

    The RAM is read on the first of these moves. A row is written to it two moves after it was computed, so what was computed in
    the last three comes from elsewhere: from ``next``, or from ``recent``, which is chosen a move ahead. Of ``recent`` and
    what was read one at least is 0, so a bit of the state takes one LUT of four inputs, and one more for that of ``recent``.

    Of one flow the row stays in its register, and nothing of ``coming`` is looked at.
    """

    def __init__(self, layout: data.Layout, flows: int = FLOWS):
        self.layout = layout
        self.flows = flows
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
        return self._one() if self.flows == 1 else self._many()

    def _one(self):
        """The row of the only flow: there is nothing to swap."""
        m = Module()
        with m.If(self.valid & (self.advance | self.step)):
            m.d.sync += self.state.eq(self.next)
        return m

    def _many(self):
        m = Module()
        bits = len(Value.cast(self.state))
        rows = memory.Memory(shape=bits, depth=self.flows, init=[], attrs={"ram_style": "block"})
        m.submodules.rows = rows
        # Read and put into a register at once, so that the register's reset becomes that of the RAM's output.
        read, write = rows.read_port(domain="comb"), rows.write_port()
        row = Signal(bits, reset_less=True)

        # The flows of the beats in the stage before, in the stage, and of the one that left it last.
        near, near_flow, near_new = Signal(), Signal(range(FLOWS)), Signal()
        here_flow = Signal(range(FLOWS))
        left, left_flow, leaves = Signal(bits, reset_less=True), Signal(range(FLOWS)), Signal()
        # The row of the beat in the stage before, where it left this stage one move or two before the last.
        recent = Signal(bits, reset_less=True)
        # Whether the state after the next move is of the flow that it is of now.
        stays = Signal(init=1)

        # What is in the stage before is in the stage when the beat that comes is one move away, and so on.
        held_flow = Signal(range(FLOWS))
        same, from_stage, from_left = Signal(), Signal(), Signal()
        m.d.comb += [
            held_flow.eq(Mux(near, near_flow, here_flow)),
            same.eq(self.waits | ~self.coming | (self.coming_flow == held_flow)),
            from_stage.eq(self.valid & (self.coming_flow == here_flow)),
            from_left.eq(leaves & (self.coming_flow == left_flow)),
            read.addr.eq(self.coming_flow),
            write.addr.eq(left_flow),
            write.data.eq(left),
            # Again and again while nothing moves, which changes nothing.
            write.en.eq(leaves),
        ]
        with m.If(self.advance):
            m.d.sync += [
                here_flow.eq(held_flow),
                stays.eq(same),
                left.eq(self.next),
                left_flow.eq(here_flow),
                leaves.eq(self.valid),
                recent.eq(Mux(from_stage, self.next, Mux(from_left, left, 0))),
                row.eq(read.data),
            ]
            with m.If(~self.waits):
                m.d.sync += [near.eq(self.coming), near_flow.eq(self.coming_flow), near_new.eq(self.coming_new)]
        # Last and not within the other condition: so it is the reset of the RAM's output, and takes no LUT a bit.
        with m.If(self.advance & (from_stage | from_left)):
            m.d.sync += row.eq(0)

        # Without `advance` it is a step of the beat that stays.
        keeps = Signal()
        m.d.comb += keeps.eq(stays | ~self.advance)
        with m.If((self.advance & ~stays) | (self.valid & (self.advance | self.step))):
            m.d.sync += self.state.eq(Mux(keeps, self.next, recent | row))
        with m.If(self.advance & ~stays & near_new):
            m.d.sync += self.state.eq(0)
        return m
