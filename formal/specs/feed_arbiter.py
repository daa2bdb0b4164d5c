"""FeedArbiter: of a channel's packets each number passes once at most and in order, and what is missing is said."""

from unittest.mock import patch

from amaranth.hdl import Array, Cat, Module, Mux, Signal

from formal.ideal_state import IdealState
from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl import feed_arbiter
from hdl.beat import LANES, MISSING_BITS, RoutedBeat
from hdl.feed_arbiter import channel_layout
from hdl.flow import Side
from hdl.limits import FLOWS
from hdl.sbe_framing import Framing
from hdl.sbe_schema import Slot

CHANNELS = 1
"""That channels do not disturb each other is what FlowState is proved for."""
WINDOW = 4
PLACE = 1
BITS = 8
FRAMING = Framing(packet_size=2, packet_sequence=Slot(PLACE, BITS // 8))
"""Numbers of one byte, so that few packets go through all of them; their place is not the packet's first byte."""


class FeedArbiter(feed_arbiter.FeedArbiter):
    """The arbiter, what it keeps of a channel in registers, ``channel``."""

    def __init__(self):
        super().__init__(FRAMING, channels=CHANNELS, window=WINDOW)
        self._state = IdealState(channel_layout(BITS), CHANNELS)
        self.channel = self._state.rows[0]

    def elaborate(self, platform):
        with patch.object(feed_arbiter, "FlowState", lambda layout, flows: self._state):
            return super().elaborate(platform)


def numbers_agree(specification: Specification, arbiter: FeedArbiter) -> list:
    """What is kept of a beat beside it follows from it, from the first one on (before that, all is 0)."""
    due, number, untouched = arbiter.due, arbiter.held.data[PLACE], arbiter.due.as_value() == 0
    return [
        specification.prove(untouched | (due.before == number - 1)),
        specification.prove(untouched | (due.below == number - WINDOW)),
        specification.prove(untouched | (due.above == number + WINDOW)),
        specification.prove(untouched | (arbiter.row.as_value() == arbiter.feeds[arbiter.held.flow].as_value())),
    ]


class Packets(Specification):
    """An arbiter to which packets of any flows come, whichever channels those are of."""

    def state(self, m: Module) -> None:
        arbiter = self.add(m, "arbiter", FeedArbiter())
        beat = arbiter.i.payload
        within, flow = Signal(), Signal.like(beat.flow)
        with m.If(taken(arbiter.i)):
            m.d.sync += [within.eq(~beat.last), flow.eq(beat.flow)]
        before, begun = Signal.like(arbiter.feeds.as_value()), Signal()
        m.d.sync += [before.eq(arbiter.feeds), begun.eq(1)]
        row = arbiter.feeds[beat.flow]
        gap = beat.gap & ~within & ~row.arbitrated & ~beat.last & (beat.count == 0)
        m.d.comb += [
            self.assume(~begun | (arbiter.feeds.as_value() == before)),
            *(self.assume(arbiter.feeds[n].channel < CHANNELS) for n in range(FLOWS)),
            self.assume(waits_unchanged(m, arbiter.i, "i")),
            self.assume(
                gap | (~beat.gap & Mux(beat.last, (beat.count >= 1) & (beat.count <= LANES), beat.count == LANES))
            ),
            self.assume(~within | (beat.flow == flow)),
        ]
        self.claim(m, arbiter, ~within)

    def claim(self, m: Module, arbiter: FeedArbiter, first) -> None:
        """Assert a property of ``arbiter``; ``first`` says that a packet's first beat is offered to it."""
        raise NotImplementedError


class Waits(Packets):
    """What is offered stays as it is until it is taken."""

    def claim(self, m, arbiter, first):
        m.d.comb += self.prove(waits_unchanged(m, arbiter.o, "o"))


class Whole(Packets):
    """What is offered is the beat that was taken in the cycle before, or waited since, unchanged; and of a packet either all beats or
    none. A packet that is not arbitrated is passed on."""

    def claim(self, m, arbiter, first):
        beat, out = arbiter.i.payload, arbiter.o.payload
        due, shadow, begins = Signal(), Signal(RoutedBeat), Signal()
        passes, passing = Signal(), Signal()
        own_gap = out.gap & ~shadow.gap
        gone = due & ~arbiter.o.valid
        with m.If(taken(arbiter.i)):
            # The one before it has gone.
            m.d.comb += self.prove(~due | ~arbiter.o.valid | (arbiter.o.ready & ~own_gap))
            m.d.sync += [due.eq(1), shadow.eq(beat), begins.eq(first)]
        with m.Elif(gone | (taken(arbiter.o) & ~own_gap)):
            m.d.sync += due.eq(0)
        judged = arbiter.feeds[shadow.flow].arbitrated & (shadow.count > PLACE)
        m.d.comb += [
            passes.eq(Mux(begins, arbiter.o.valid, passing)),
            self.prove(~arbiter.o.valid | (due & ((out == shadow) | (own_gap & begins & judged)))),
            self.prove(~due | (arbiter.o.valid == passes)),
            self.prove(~due | judged | ~begins | arbiter.o.valid),
            # Only a beat that is offered, or its gap beat, keeps the next one waiting.
            self.prove(arbiter.i.ready | (arbiter.o.valid & (~arbiter.o.ready | own_gap))),
        ]
        with m.If(due):
            m.d.sync += passing.eq(passes)


class Once(Packets):
    """Of a channel the number that passes is greater than the last one; or numbers begin anew, below it by the window at least."""

    def claim(self, m, arbiter, first):
        out = arbiter.o.payload
        within, passed, begun = Signal(), Signal(BITS), Signal()
        number = out.data[PLACE]
        leaves = taken(arbiter.o) & arbiter.feeds[out.flow].arbitrated & ~out.gap
        with m.If(leaves):
            m.d.sync += within.eq(~out.last)
            with m.If(~within & (out.count > PLACE)):
                m.d.sync += [passed.eq(number), begun.eq(1)]
                m.d.comb += self.prove(~begun | (number > passed) | (number + WINDOW <= passed))
        m.d.comb += [
            *numbers_agree(self, arbiter),
            self.prove(arbiter.channel.begun == begun),
            self.prove(~begun | (arbiter.channel.passed == passed)),
        ]


class Gaps(Packets):
    """Of a channel the numbers that pass grow; the gap beat in front of a packet says exactly which were left out. A gap beat of 0 packets
    says that numbers begin anew, below the last one by the window at least. (The packet behind a gap beat is the one that is held: see
    :class:`Whole`.)"""

    def claim(self, m, arbiter, first):
        out = arbiter.o.payload
        within, told = Signal(), Signal()
        passed, begun = Signal(BITS), Signal()
        its_row, its_number = arbiter.feeds[out.flow], arbiter.held.data[PLACE]
        leaves = taken(arbiter.o) & its_row.arbitrated
        missing, beginning = Cat(out.data)[:MISSING_BITS], Cat(out.data)[MISSING_BITS:]
        with m.If(leaves & out.gap):
            m.d.sync += told.eq(1)
            m.d.comb += self.prove(~within & ~told & begun)
            with m.If(missing == 0):
                m.d.comb += self.prove((beginning == its_number) & (its_number + WINDOW <= passed))
            with m.Else():
                m.d.comb += self.prove((beginning == passed + 1) & (its_number == beginning + missing))
        with m.If(leaves & ~out.gap):
            m.d.sync += within.eq(~out.last)
            with m.If(~within & (out.count > PLACE)):
                m.d.sync += [passed.eq(its_number), begun.eq(1), told.eq(0)]
                m.d.comb += self.prove((out.data[PLACE] == its_number) & (~begun | told | (its_number == passed + 1)))

        # What the arbiter keeps is that; so it is for any number of packets.
        offered = arbiter.o.valid & ~out.gap & its_row.arbitrated & (out.count > PLACE)
        m.d.comb += [
            *numbers_agree(self, arbiter),
            self.prove(~told | (offered & ~within)),
            self.prove(arbiter.channel.begun == begun),
            self.prove(~begun | (arbiter.channel.passed == passed)),
        ]


class Anew(Packets):
    """Numbers begin anew only where the feed that begins them has brought one that is greater by the window."""

    def claim(self, m, arbiter, first):
        beat, out = arbiter.i.payload, arbiter.o.payload
        number, row = beat.data[PLACE], arbiter.feeds[beat.flow]
        greatest = Array(Signal(BITS, name=f"greatest{side.name}") for side in Side)
        with m.If(taken(arbiter.i) & first & row.arbitrated & (beat.count > PLACE) & (number > greatest[row.side])):
            m.d.sync += greatest[row.side].eq(number)
        its_row = arbiter.feeds[out.flow]
        with m.If(arbiter.o.valid & its_row.arbitrated & out.gap & (Cat(out.data)[:MISSING_BITS] == 0)):
            m.d.comb += self.prove(Cat(out.data)[MISSING_BITS:] + WINDOW <= greatest[its_row.side])
        sides = arbiter.channel.sides
        m.d.comb += [
            *numbers_agree(self, arbiter),
            *(self.prove(~sides[side].present | (sides[side].last <= greatest[side])) for side in Side),
        ]


class Waited(Packets):
    """A number that is due passes, whichever feed brings it: what is dropped came before, or comes before it is due."""

    def claim(self, m, arbiter, first):
        out, beat = arbiter.o.payload, arbiter.i.payload
        row, its_row = arbiter.feeds[beat.flow], arbiter.feeds[out.flow]
        within, passed, begun = Signal(), Signal(BITS), Signal()
        leaves = taken(arbiter.o) & its_row.arbitrated & ~out.gap
        with m.If(leaves):
            m.d.sync += within.eq(~out.last)
            with m.If(~within & (out.count > PLACE)):
                m.d.sync += [passed.eq(out.data[PLACE]), begun.eq(1)]
        due, number = Signal(), Signal(BITS)
        with m.If(taken(arbiter.i)):
            m.d.sync += [
                due.eq(first & row.arbitrated & (beat.count > PLACE)),
                number.eq(beat.data[PLACE]),
            ]
        with m.Elif(~arbiter.o.valid | (arbiter.o.ready & ~out.gap)):
            m.d.sync += due.eq(0)
        m.d.comb += [
            *numbers_agree(self, arbiter),
            self.prove(~due | (arbiter.held.data[PLACE] == number)),
            self.prove(arbiter.channel.begun == begun),
            self.prove(~begun | (arbiter.channel.passed == passed)),
        ]
        with m.If(due & (~begun | (number == passed + 1))):
            m.d.comb += self.prove(arbiter.o.valid & ~out.gap)


PROOFS = (
    Proof("arbiter_waits", "FeedArbiter", "a beat that waits does not change", Waits, Method.K_INDUCTION, 2),
    Proof("arbiter_whole", "FeedArbiter", "a packet passes whole and unchanged, or not at all", Whole, Method.PDR, 0),
    Proof(
        "arbiter_once",
        "FeedArbiter",
        "each of a channel's numbers passes once at most, and in order, until the channel begins anew",
        Once,
        Method.PDR,
        0,
    ),
    Proof("arbiter_gaps", "FeedArbiter", "gap beats say exactly which numbers are missing", Gaps, Method.BOUNDED, 14),
    Proof(
        "arbiter_anew",
        "FeedArbiter",
        "numbers begin anew only where a feed's own went back by the window",
        Anew,
        Method.PDR,
        0,
    ),
    Proof(
        "arbiter_due", "FeedArbiter", "the number that is due passes, whichever feed brings it", Waited, Method.PDR, 0
    ),
)
