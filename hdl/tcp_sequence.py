"""Follows TCP sequence numbers, so that a flow's bytes come once and its holes are known (docs/ethernet.md, "TCP")."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, fifo, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import RoutedBeat
from hdl.ethernet import Segment
from hdl.flow import Parser
from hdl.limits import FLOWS, PACKET_LIMIT
from hdl.trim import KEEP_ALL, Trim, tagged

SKIP_BITS = PACKET_LIMIT.bit_length()
"""Where more bytes are to be skipped than these bits can say, nothing of any packet is kept."""

OUT_BEATS = 16
"""Beats that wait for the store: two would do to keep its answer out of this block's cycle, and 16 cost as much."""

SEGMENT_COUNTERS = ("empty", "repeated", "parsed", "gaps")

FollowedFlow = data.StructLayout({"next": unsigned(32), "hole": 1})
"""What is kept of a flow whose sequence number is known: the next one, and whether a hole of 0 bytes lies before it."""

Verdict = data.StructLayout(
    {
        "flow": range(FLOWS),
        "parser": Parser,
        "fragment": 1,
        "empty": 1,
        "commits": 1,
        "commits_empty": 1,
        "begin": unsigned(32),
        "pending": 1,
        "hole": 1,
        "missing": unsigned(32),
    }
)
"""What becomes of a packet: ``begin`` is the sequence number of its first byte that is passed on. It ``commits`` the flow's
next sequence number if bytes are passed on, and if it ``commits_empty`` also if not; a hole is then ``pending``."""


class TcpSequence(wiring.Component):
    """Skips what came before, puts a gap beat where bytes are missing, and passes on all else.

    Takes packets as Ethernet gives them and takes the empty ones out. ``counts`` is high for a cycle for each packet that was
    ``empty``, ``repeated`` or ``parsed``, and each gap beat.

    Eight bytes a cycle, a cycle more for a gap beat, and at most 3 cycles more for a followed packet that comes right behind
    another one, for which the headers in between leave room. Latency 3 cycles from the beat with the first byte
    that is passed on, where skipping it leaves whole beats.
    """

    i: In(stream.Signature(tagged(Segment)))
    o: Out(stream.Signature(RoutedBeat))
    counts: Out(data.StructLayout(dict.fromkeys(SEGMENT_COUNTERS, 1)))

    def __init__(self, flows: int = FLOWS):
        self._flows = flows
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.trim = trim = Trim(SKIP_BITS, Verdict)

        # Fetched: a beat, and what is kept of its flow.
        fetched, fetched_valid = Signal(tagged(Segment)), Signal()
        segment = fetched.meta
        begins, begins_next = Signal(), Signal(init=1)
        m.d.comb += self.i.ready.eq(~fetched_valid | trim.i.ready)
        with m.If(self.i.ready):
            m.d.sync += fetched_valid.eq(self.i.valid)
            with m.If(self.i.valid):
                m.d.sync += [
                    fetched.eq(self.i.payload),
                    begins.eq(begins_next),
                    begins_next.eq(self.i.payload.beat.last),
                ]

        # A followed packet waits until what the one before it leaves behind is written, and then read again.
        following, writes, fresh = Signal(), Signal(), Signal()
        waits = Signal()
        flow = Signal(range(FLOWS))
        m.d.comb += [
            waits.eq(fetched_valid & begins & segment.followed & (following | writes | ~fresh)),
            flow.eq(Mux(waits, segment.flow, self.i.payload.meta.flow)),
        ]
        m.d.sync += fresh.eq(~writes & (waits | self.i.ready))

        # As look-up tables, since a block RAM's output comes too late in the cycle to be calculated with.
        m.submodules.rows = rows = memory.Memory(
            shape=FollowedFlow, depth=self._flows, init=[], attrs={"ram_style": "distributed"}
        )
        read, write = rows.read_port(), rows.write_port()
        # A reset does not reach the memory: rows count from when they were first written.
        known = Signal(self._flows)
        flow_known = Signal()
        m.d.comb += read.addr.eq(flow)
        m.d.sync += flow_known.eq(known.bit_select(flow, 1))

        # Judged: what is to be skipped, and what is missing.
        row = read.data
        ahead, behind = Signal(32), Signal(32)
        differs, new, overlaps, runs_ahead = Signal(), Signal(), Signal(), Signal()
        verdict, skip = trim.cuts.payload.meta, trim.cuts.payload.skip
        m.d.comb += [
            ahead.eq(segment.sequence - row.next),
            behind.eq(row.next - segment.sequence),
            differs.eq(segment.sequence != row.next),
            new.eq(~flow_known | segment.syn),
            overlaps.eq(segment.followed & ~new & ahead[31]),
            runs_ahead.eq(segment.followed & ~new & ~ahead[31] & differs),
            skip.eq(Mux(overlaps, behind[:SKIP_BITS], 0)),
            trim.cuts.payload.keep.eq(Mux(overlaps & behind[SKIP_BITS:].any(), 0, KEEP_ALL)),
            verdict.flow.eq(segment.flow),
            verdict.parser.eq(segment.parser),
            verdict.fragment.eq(segment.fragment),
            verdict.empty.eq(fetched.beat.count == 0),
            verdict.commits.eq(segment.followed),
            verdict.commits_empty.eq(segment.followed & segment.syn),
            verdict.begin.eq(Mux(overlaps, row.next, segment.sequence)),
            verdict.pending.eq(flow_known & (row.hole | (segment.syn & differs))),
            verdict.hole.eq(runs_ahead | (segment.followed & verdict.pending)),
            verdict.missing.eq(Mux(runs_ahead, ahead, 0)),
        ]

        m.d.comb += [
            trim.i.valid.eq(fetched_valid),
            trim.i.payload.eq(fetched.beat),
            trim.cuts.valid.eq(~waits),
        ]

        # Passed on: what is left of a packet, behind the gap beat if there is one.
        m.submodules.out = out = fifo.SyncFIFO(width=RoutedBeat.size, depth=OUT_BEATS)
        left, beat = trim.o.payload.meta, trim.o.payload.beat
        routed = Signal(RoutedBeat)
        within, told = Signal(), Signal()
        bare, gap_first = trim.bare, Signal()
        leaves, ends = Signal(), Signal()
        m.d.comb += [
            gap_first.eq(left.hole & ~within & ~told & ~bare),
            routed.data.eq(Mux(gap_first, left.missing, beat.data.as_value())),
            routed.count.eq(Mux(gap_first, 0, beat.count)),
            routed.last.eq(beat.last & ~gap_first),
            routed.timestamp.eq(beat.timestamp),
            routed.flow.eq(left.flow),
            routed.fragment.eq(left.fragment),
            routed.gap.eq(gap_first),
            routed.parser.eq(left.parser),
            out.w_data.eq(routed),
            out.w_en.eq(trim.o.valid & ~bare),
            trim.o.ready.eq(out.w_rdy & ~gap_first),
            leaves.eq(trim.o.valid & trim.o.ready),
            ends.eq(leaves & beat.last),
            self.o.valid.eq(out.r_rdy),
            self.o.payload.eq(out.r_data),
            out.r_en.eq(self.o.ready),
            self.counts.empty.eq(ends & bare & left.empty),
            self.counts.repeated.eq(ends & bare & ~left.empty),
            self.counts.parsed.eq(ends & ~bare),
            self.counts.gaps.eq(trim.o.valid & out.w_rdy & gap_first),
        ]
        with m.If(trim.o.valid & out.w_rdy):
            m.d.sync += told.eq(gap_first)
        with m.If(leaves):
            m.d.sync += within.eq(~beat.last)

        # Written: where the flow goes on.
        passed = Signal(32)
        m.d.sync += writes.eq(ends & left.commits & (~bare | left.commits_empty))
        with m.If(leaves):
            m.d.sync += [
                passed.eq(Mux(within, passed, left.begin) + beat.count),
                write.addr.eq(left.flow),
                write.data.hole.eq(bare & left.pending),
            ]
        m.d.comb += [write.data.next.eq(passed), write.en.eq(writes)]
        with m.If(writes):
            m.d.sync += known.bit_select(write.addr, 1).eq(1)
        with m.If(ends):
            m.d.sync += following.eq(0)
        with m.If(trim.cuts.valid & trim.cuts.ready & segment.followed):
            m.d.sync += following.eq(1)
        return m
