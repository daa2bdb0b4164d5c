"""Takes a header off each packet and puts what follows into lane 0."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, PacketBeat
from hdl.trim import Trim, cut, tagged

WINDOW_BEATS = 3
WINDOW_BYTES = WINDOW_BEATS * LANES
"""Bytes of a packet that its header's reader sees: 20 of IPv4 or TCP, and Ethernet with two tags."""

SKIP_BITS = 7
QUEUE_BEATS = 16
"""Beats that wait for the answer to their packet's header: at most 4 and the answer's delay while the output is not held
up, and 16 is the depth of the smallest memory that an FPGA makes of its look-up tables."""


class Strip(wiring.Component):
    """Removes the first ``skip`` bytes (at least 8) of each packet and passes on at most ``keep`` of the rest.

    In the one cycle of a packet in which ``asks`` is high, ``window`` holds the packet's first ``available`` bytes, at most
    24, and ``known`` what is known of it. Whoever reads the header answers ``delay`` cycles later, when ``answers`` is
    high, with ``skip``, ``keep``, ``drop`` (nothing of the packet is passed on) and ``learned``, which goes on with the
    rest. Packets may be asked about in every cycle, so an answer's delay costs no throughput. A packet that
    is not dropped and has no byte left goes on as one beat without bytes, and may come as such a beat.

    Eight bytes a cycle without stalling its input, since the removed header makes room. Latency 4 + ``delay``
    cycles from the beat with the first byte behind the header, for a packet of at least 24 bytes.
    """

    def __init__(self, known, learned, delay=0):
        self._known = known
        self._learned = learned
        self._delay = delay
        super().__init__(
            {
                "i": In(stream.Signature(tagged(known))),
                "o": Out(stream.Signature(tagged(learned))),
                "asks": Out(1),
                "window": Out(data.ArrayLayout(8, WINDOW_BYTES)),
                "available": Out(range(WINDOW_BYTES + 1)),
                "known": Out(known),
                "answers": Out(1),
                "skip": In(SKIP_BITS),
                "keep": In(16),
                "drop": In(1),
                "learned": In(learned),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.beats = beats = fifo.SyncFIFO(width=PacketBeat.size, depth=QUEUE_BEATS)
        cut_layout = cut(SKIP_BITS, self._learned)
        m.submodules.cuts = cuts = fifo.SyncFIFO(width=cut_layout.size, depth=QUEUE_BEATS)
        m.submodules.trim = trim = Trim(SKIP_BITS, self._learned)
        arriving = self.i.payload.beat

        # Window: the packet's first beats are copied as they pass into the queue.
        index = Signal(range(WINDOW_BEATS + 1))
        arrives, complete = Signal(), Signal()
        queued = Signal(PacketBeat)
        m.d.comb += [
            self.i.ready.eq(beats.w_rdy),
            arrives.eq(self.i.valid & self.i.ready),
            complete.eq(arrives & ((index == WINDOW_BEATS - 1) | (arriving.last & (index < WINDOW_BEATS)))),
            # The first beat is all header. It is left out, or goes on without bytes where it is the only one.
            queued.eq(arriving),
            queued.count.eq(Mux(index == 0, 0, arriving.count)),
            beats.w_data.eq(queued),
            beats.w_en.eq(self.i.valid & ((index != 0) | arriving.last)),
        ]
        m.d.sync += self.asks.eq(complete)
        with m.If(arrives):
            m.d.sync += index.eq(Mux(arriving.last, 0, index + (index != WINDOW_BEATS)))
            with m.Switch(index):
                for n in range(WINDOW_BEATS):
                    with m.Case(n):
                        m.d.sync += [
                            Cat(self.window[n * LANES + lane] for lane in range(LANES)).eq(arriving.data),
                            self.available.eq(n * LANES + arriving.count),
                        ]
            with m.If(index == 0):
                m.d.sync += self.known.eq(self.i.payload.meta)

        # Answers: as many at most as packets wait in the queue, so there is always room.
        answers = self.asks
        for n in range(self._delay):
            later = Signal(name=f"asked{n}")
            m.d.sync += later.eq(answers)
            answers = later
        answer = Signal(cut_layout)
        m.d.comb += [
            self.answers.eq(answers),
            answer.skip.eq(self.skip - LANES),
            answer.keep.eq(self.keep),
            answer.drop.eq(self.drop),
            answer.meta.eq(self.learned),
            cuts.w_data.eq(answer),
            cuts.w_en.eq(answers),
        ]

        m.d.comb += [
            trim.i.valid.eq(beats.r_rdy),
            trim.i.payload.eq(beats.r_data),
            beats.r_en.eq(trim.i.ready),
            trim.cuts.valid.eq(cuts.r_rdy),
            trim.cuts.payload.eq(cuts.r_data),
            cuts.r_en.eq(trim.cuts.ready),
        ]
        wiring.connect(m, trim.o, wiring.flipped(self.o))
        return m
