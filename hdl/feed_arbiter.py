"""Passes on one copy of what the two feeds of a channel carry, in the order of its sequence numbers (docs/feeds.md)."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, RoutedBeat
from hdl.flow import Side
from hdl.flow_state import FlowState
from hdl.limits import FEED_WINDOW, FLOWS
from hdl.sbe_framing import Framing, arbitrated_slot

CHANNELS = FLOWS // 2
"""As many channels as the flow table has pairs of rows."""

FeedRow = data.StructLayout({"channel": range(FLOWS), "side": Side, "arbitrated": 1})
"""What the flow table says of a flow beside its parser: which feed of which channel it is, if it is ``arbitrated``."""

ARBITER_COUNTERS = ("parsed", "repeated", "gaps")


def side_layout(bits: int) -> data.StructLayout:
    """What is kept of a feed: the last number that it brought, once it has brought one, and whether the channel has begun anew without
    it since."""
    return data.StructLayout({"last": unsigned(bits), "present": 1, "old": 1})


def due_layout(bits: int, window: int) -> data.StructLayout:
    """What the numbers that are kept are compared by, beside a packet's number: the one before it, and those a window below and above."""
    return data.StructLayout(
        {
            "before": signed(bits + 1),
            "below": signed(max(bits, window.bit_length()) + 1),
            "above": unsigned(max(bits, window.bit_length()) + 1),
        }
    )


def channel_layout(bits: int) -> data.StructLayout:
    """What is kept of a channel: the last number that was passed on, once one was, and its feeds."""
    return data.StructLayout(
        {"passed": unsigned(bits), "begun": 1, "sides": data.ArrayLayout(side_layout(bits), len(Side))}
    )


class FeedArbiter(wiring.Component):
    """Judges each packet of a flow that is ``arbitrated`` by its first beat, by the rule of docs/feeds.md; packets of other flows, and
    those too short to have a number, pass as they are.

    ``framing`` says where a packet's sequence number stands. There are ``channels`` channels (at least 1), and a feed is waited for
    over ``window`` numbers (at least 1). ``feeds`` is meant to stand still while packets come. Raises ValueError for a framing that
    does not allow it (:func:`hdl.sbe_framing.arbitrated_slot`).

    A packet in front of which numbers are missing begins with a gap beat: the low 32 bits of ``data`` say how many, the high ones
    which is the first of them. A gap beat of 0 packets says that the channel begins anew, with that number. ``counts`` is high for a
    cycle for each packet that was passed on (``parsed``) or not (``repeated``), and each gap beat.

    Eight bytes a cycle without stalling its input, latency 1 cycle; a gap beat takes one cycle more.

    Attributes: ``held``, the beat that was taken last, with the ``row`` of its flow and ``due``, which is compared; proofs look at them.
    """

    def __init__(
        self, framing: Framing, flows: int = FLOWS, channels: int = CHANNELS, window: int = FEED_WINDOW
    ) -> None:
        if channels < 1 or window < 1:
            raise ValueError(f"{channels} channels and a window of {window} are none")
        self._slot = arbitrated_slot(framing)
        self._byte_order = framing.byte_order
        self._channels = channels
        self.held, self.row = Signal(RoutedBeat), Signal(FeedRow)
        self.due = Signal(due_layout(8 * self._slot.size, window))
        self._window = window
        super().__init__(
            {
                "i": In(stream.Signature(RoutedBeat)),
                "o": Out(stream.Signature(RoutedBeat)),
                "feeds": In(data.ArrayLayout(FeedRow, flows)),
                "counts": Out(data.StructLayout(dict.fromkeys(ARBITER_COUNTERS, 1))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slot = self._slot
        bits, window = 8 * slot.size, self._window
        m.submodules.state = state = FlowState(channel_layout(bits), self._channels)

        # Held: a beat; of a packet's first one whose it is, and its number with what that is compared by.
        held, row, due = self.held, self.row, self.due
        held_valid, leaves = Signal(), Signal()
        begins, judged = Signal(init=1), Signal()
        coming = self.i.payload
        number, its_number = self._number(held), self._number(coming)
        m.d.comb += self.i.ready.eq(~held_valid | leaves)
        with m.If(self.i.ready):
            m.d.sync += held_valid.eq(self.i.valid)
            with m.If(self.i.valid):
                its_row = self.feeds[coming.flow]
                m.d.sync += [
                    held.eq(coming),
                    begins.eq(coming.last),
                    row.eq(its_row),
                    judged.eq(begins & its_row.arbitrated & ~coming.gap & (coming.count >= slot.offset + slot.size)),
                    due.before.eq(its_number - 1),
                    due.below.eq(its_number - window),
                    due.above.eq(its_number + window),
                ]

        # Judged: what becomes of the packet.
        channel = state.state
        own, other = channel.sides[row.side], channel.sides[~row.side]
        in_order, ahead, resets, early, stray = Signal(), Signal(), Signal(), Signal(), Signal()
        went_back = Signal()
        m.d.comb += [
            state.flow.eq(row.channel),
            in_order.eq(~channel.begun | (due.before == channel.passed)),
            ahead.eq(due.before > channel.passed),
            went_back.eq(own.present & (due.above <= own.last)),
            resets.eq(~ahead & ~own.old & went_back & (due.above <= channel.passed)),
            stray.eq(ahead & own.old & ~went_back & (due.below <= own.last)),
            early.eq(ahead & other.present & ~other.old & (other.last <= channel.passed) & (due.below <= other.last)),
        ]
        drops, hole = Signal(), Signal()
        m.d.comb += [
            drops.eq(judged & ~in_order & ~resets & (~ahead | stray | early)),
            hole.eq(judged & ~in_order & ~drops),
        ]

        # Passed on: the beat, behind the gap beat if there is one; or none of the packet.
        first, silent, told = Signal(init=1), Signal(), Signal()
        gap_first, dropped = Signal(), Signal()
        m.d.comb += [
            gap_first.eq(hole & ~told),
            dropped.eq(Mux(first, drops, silent)),
            self.o.valid.eq(held_valid & ~dropped),
            self.o.payload.eq(held),
            leaves.eq(held_valid & (dropped | (self.o.ready & ~gap_first))),
            self.counts.parsed.eq(leaves & held.last & ~dropped),
            self.counts.repeated.eq(leaves & held.last & dropped),
            self.counts.gaps.eq(self.o.valid & self.o.ready & gap_first),
        ]
        with m.If(gap_first):
            missing, beginning = Signal(MISSING_BITS), Signal(MISSING_BITS)
            m.d.comb += [
                missing.eq(Mux(resets, 0, due.before - channel.passed)),
                beginning.eq(Mux(resets, number, channel.passed + 1)),
                Cat(self.o.payload.data).eq(Cat(missing, beginning)),
                self.o.payload.count.eq(0),
                self.o.payload.last.eq(0),
                self.o.payload.gap.eq(1),
            ]
        with m.If(self.counts.gaps):
            m.d.sync += told.eq(1)
        with m.If(leaves):
            m.d.sync += [first.eq(held.last), silent.eq(dropped), told.eq(0)]

        # Written: what the packet leaves behind of its channel.
        m.d.comb += [state.next.eq(channel), state.commit.eq(leaves & judged & ~stray)]
        own_next, other_next = state.next.sides[row.side], state.next.sides[~row.side]
        with m.If(~own.present | own.old | went_back | (number > own.last)):
            m.d.comb += own_next.last.eq(number)
        m.d.comb += [own_next.present.eq(1), own_next.old.eq(0)]
        with m.If(~drops):
            m.d.comb += [state.next.passed.eq(number), state.next.begun.eq(1)]
        with m.If(resets):
            m.d.comb += other_next.old.eq(other.present)
        return m

    def _number(self, beat):
        """The sequence number in a packet's first beat."""
        slot = self._slot
        lanes = [beat.data[slot.offset + n] for n in range(slot.size)]
        return Cat(lanes if self._byte_order == "little" else reversed(lanes))
