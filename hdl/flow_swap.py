"""A pipeline stage's state, of which every flow has its own."""

import enum

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.limits import FLOWS
from hdl.select import select


class Source(enum.Enum):
    """What a stage's next state is: what it computes, what it computed one move or two moves before, or a row of the RAM."""

    STAGE = 0
    LEFT = 1
    LEFT_BEFORE = 2
    RAM = 3


class FlowSwap(wiring.Component):
    """One row of ``layout`` a flow, all zero at first and after a reset; the row in use stands in a register.

    ``state`` is that of the flow whose beat is in the stage now, ``next`` what it becomes; one step a cycle, whatever flow comes
    next. ``valid`` says whether a beat is in the stage, ``advance`` that the pipeline moves; with ``step`` alone ``next`` is
    taken but the beat stays; with ``waits`` the beat in the stage before stays, while this stage takes another step of it. ``coming_flow`` (where ``coming`` is high) is the flow of the beat two stages before: it is
    there for two moves when its row is needed, which gives a block RAM its time.

    The RAM is read on the first of these moves. A row is written to it two moves after it was computed, so what was computed
    in the last three is taken from the registers that it passes.
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
        m = Module()
        rows = memory.Memory(shape=self.layout, depth=self.flows, init=[], attrs={"ram_style": "block"})
        m.submodules.rows = rows
        read, write = rows.read_port(), rows.write_port()

        # The flows of the beats in the stage before, in the stage, and of the two that left it last.
        near, near_flow = Signal(), Signal(range(FLOWS))
        here_flow = Signal(range(FLOWS))
        left = [Signal(self.layout, name=f"left{n}") for n in range(2)]
        left_flow = [Signal(range(FLOWS), name=f"left_flow{n}") for n in range(2)]
        leaves = [Signal(name=f"leaves{n}") for n in range(2)]
        # Where the state comes from with the next move.
        source, known = Signal(Source), Signal()

        # The flow that `state` will be of when the beat that comes is one move away.
        held_flow = Signal(range(FLOWS))
        m.d.comb += [
            held_flow.eq(Mux(near, near_flow, here_flow)),
            read.addr.eq(self.coming_flow),
            read.en.eq(self.advance & ~self.waits),
            write.addr.eq(left_flow[0]),
            write.data.eq(left[0]),
            write.en.eq(self.advance & leaves[0]),
        ]
        with m.If(self.advance):
            with m.If(~self.waits):
                m.d.sync += [
                    near.eq(self.coming),
                    near_flow.eq(self.coming_flow),
                    known.eq(~self.coming_new),
                ]
            m.d.sync += [
                here_flow.eq(held_flow),
                left[0].eq(self.next),
                left_flow[0].eq(here_flow),
                leaves[0].eq(self.valid),
                left[1].eq(left[0]),
                left_flow[1].eq(left_flow[0]),
                leaves[1].eq(leaves[0]),
            ]
            # For the next move: what is `left[0]` then is in the stage now.
            with m.If(self.waits | ~self.coming | (self.coming_flow == held_flow)):
                m.d.sync += source.eq(Source.STAGE)
            with m.Elif(self.valid & (self.coming_flow == here_flow)):
                m.d.sync += source.eq(Source.LEFT)
            with m.Elif(leaves[0] & (self.coming_flow == left_flow[0])):
                m.d.sync += source.eq(Source.LEFT_BEFORE)
            with m.Else():
                m.d.sync += source.eq(Source.RAM)

        chosen = Signal(Source)
        m.d.comb += chosen.eq(Mux(self.advance, source, Source.STAGE))
        row = Value.cast(read.data) & known.replicate(len(Value.cast(read.data)))
        updates = (self.advance & (source != Source.STAGE)) | (self.valid & (self.advance | self.step))
        with m.If(updates):
            m.d.sync += self.state.eq(select([self.next, *left, row], chosen, len(Value.cast(self.next))))
        return m
