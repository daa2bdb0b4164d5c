"""Takes a header off each packet and puts what follows into lane 0."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat

WINDOW_BEATS = 3
WINDOW_BYTES = WINDOW_BEATS * LANES
"""Bytes of a packet that its header's reader sees: 20 of IPv4 or TCP, and Ethernet with two tags."""

KEEP_ALL = 0xFFFF


def tagged(meta):
    """A packet's beat with what is known of the packet, the same in all its beats."""
    return data.StructLayout({"beat": PacketBeat, "meta": meta})


class Strip(wiring.Component):
    """Removes the first ``skip`` bytes (at least 8) of each packet and passes on at most ``keep`` of the rest.

    While ``asks`` is high, ``window`` holds the packet's first ``available`` bytes, at most 24, and
    ``known`` what is known of it; whoever reads the header answers in the same cycle with ``skip``, ``keep``,
    ``drop`` (nothing of the packet is passed on) and ``learned``, which goes on with the rest. ``takes`` is
    high in the one cycle in which the answer is taken. ``vanished`` is high for one cycle when a packet that
    was not dropped had no byte left.

    Eight bytes a cycle without stalling its input, since the removed header makes room. Latency 4
    cycles from the beat with the first byte behind the header, for a packet of at least 24 bytes.
    """

    def __init__(self, known, learned):
        self._known = known
        self._learned = learned
        super().__init__(
            {
                "i": In(stream.Signature(tagged(known))),
                "o": Out(stream.Signature(tagged(learned))),
                "asks": Out(1),
                "takes": Out(1),
                "window": Out(data.ArrayLayout(8, WINDOW_BYTES)),
                "available": Out(range(WINDOW_BYTES + 1)),
                "known": Out(known),
                "skip": In(7),
                "keep": In(16),
                "drop": In(1),
                "learned": In(learned),
                "vanished": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        # Stage 1, window: the first beat leaves when the packet's first 24 bytes are here, or its end.
        slots = [Signal(tagged(self._known), name=f"slot{n}") for n in range(WINDOW_BEATS + 1)]
        level = Signal(range(len(slots) + 1))
        ends = Cat(slots[n].beat.last & (n < level) for n in range(WINDOW_BEATS))
        head, head_ready, head_taken = slots[0], Signal(), Signal()
        m.d.comb += [
            head_ready.eq((level >= WINDOW_BEATS) | ends.any()),
            self.i.ready.eq(level < len(slots)),
        ]
        arrives = self.i.valid & self.i.ready
        m.d.sync += level.eq(level + arrives - head_taken)
        for n, slot in enumerate(slots):
            following = slots[n + 1] if n + 1 < len(slots) else slot
            with m.If(arrives & (level == n + head_taken)):
                m.d.sync += slot.eq(self.i.payload)
            with m.Elif(head_taken):
                m.d.sync += slot.eq(following)

        first = Signal(init=1)
        counts = [slots[n].beat.count for n in range(WINDOW_BEATS)]
        m.d.comb += [
            self.asks.eq(head_ready & first),
            self.window.eq(Cat(slots[n].beat.data for n in range(WINDOW_BEATS))),
            self.known.eq(head.meta),
        ]
        with m.If(ends[0]):
            m.d.comb += self.available.eq(counts[0])
        with m.Elif(ends[1]):
            m.d.comb += self.available.eq(LANES + counts[1])
        with m.Else():
            m.d.comb += self.available.eq(2 * LANES + counts[2])

        # Stage 2, rotate: a beat and the beginning of the next one make one beat of what is kept.
        skipped, rotate = Signal(4), Signal(3)
        left = Signal(16)
        silent = Signal()  # nothing more of this packet is passed on
        spoke = Signal()  # something was, or the packet was dropped
        meta = Signal(self._learned)
        held, held_valid = Signal(PacketBeat), Signal()

        # Behind a last beat comes another packet, which must not show while that beat waits.
        pair = Cat(held.data, Mux(held.last, 0, head.beat.data.as_value()))
        turned = Array([pair[8 * n : 8 * (n + LANES)] for n in range(LANES)])[rotate]
        from_next = Signal(4)
        whole = Signal(5)
        ends_here = Signal()
        m.d.comb += from_next.eq(Mux(head.beat.count < rotate, head.beat.count, rotate))
        with m.If(held.last):
            m.d.comb += [whole.eq(Mux(held.count > rotate, held.count - rotate, 0)), ends_here.eq(1)]
        with m.Else():
            m.d.comb += [
                whole.eq(LANES - rotate + from_next),
                ends_here.eq(head.beat.last & (head.beat.count <= rotate)),
            ]
        complete = held_valid & (held.last | head_ready)
        speaks = Signal()
        advance = Signal()
        m.d.comb += [
            speaks.eq(complete & ~silent & (skipped == 0) & (whole != 0) & (left != 0)),
            self.o.valid.eq(speaks),
            self.o.payload.meta.eq(meta),
            self.o.payload.beat.data.eq(turned),
            self.o.payload.beat.count.eq(Mux(left < whole, left, whole)),
            self.o.payload.beat.last.eq(ends_here | (left <= whole)),
            self.o.payload.beat.timestamp.eq(held.timestamp),
            advance.eq(~held_valid | (complete & (~speaks | self.o.ready))),
            head_taken.eq(advance & head_ready),
            self.takes.eq(head_taken & first),
            self.vanished.eq(held_valid & advance & held.last & ~spoke & ~speaks),
        ]
        with m.If(advance):
            m.d.sync += held_valid.eq(head_ready)
            with m.If(skipped != 0):
                m.d.sync += skipped.eq(skipped - 1)
            with m.If(speaks):
                m.d.sync += [
                    left.eq(left - self.o.payload.beat.count),
                    silent.eq(self.o.payload.beat.last),
                    spoke.eq(1),
                ]
        with m.If(head_taken):
            m.d.sync += [held.eq(head.beat), first.eq(head.beat.last)]
            with m.If(first):
                m.d.sync += [
                    skipped.eq(self.skip >> 3),
                    rotate.eq(self.skip[:3]),
                    left.eq(self.keep),
                    silent.eq(self.drop),
                    spoke.eq(self.drop),
                    meta.eq(self.learned),
                ]
        return m
