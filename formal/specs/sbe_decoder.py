"""SbeDecoder: the frames of a short packet are those of docs/sbe.md, whatever the beats' pauses and the back-pressure."""

from functools import partial

from amaranth.hdl import Array, Module, Mux, Signal, Value

from formal.sbe_rule import BOOK, GROUP_SINCE, MAGIC, PACKET_HEADER, PLAIN, SCHEMA, expected_of
from formal.small_venue import small_venue
from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.beat import LANES, POSITION_BITS
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.sbe_decoder import SbeDecoder
from hdl.sbe_framing import End

CAUSES = MALFORMED_FLAGS | Flag.TEMPLATE

ENDS = 34
"""At the full rate, so many cycles behind the last beat of a packet of at most LONG bytes comes its end, or fewer."""

SHORT, LONG = 10, 16
"""Bytes of packets: one with any bytes, and two beats."""


class Packets(Specification):
    """Packets of at most ``most`` bytes, any ones but always the same, one behind the other; ``steady``: at the full rate.

    ``begin`` is what the packet begins with, so that few cycles go deep; None stands for any byte.
    """

    def __init__(self, most: int, steady: bool, begin: tuple[int | None, ...] = ()):
        super().__init__()
        self._most, self._steady, self._begin = most, steady, begin

    def state(self, m: Module) -> None:
        decoder = self.add(m, "decoder", SbeDecoder(small_venue(End.LENGTH)))
        size = self.constant(m, range(self._most + 1), "size")
        bytes_ = [self.constant(m, 8, f"byte{n}") for n in range(self._most)]
        m.d.comb += [self.assume(size >= max(len(self._begin), 1)), self.assume(size <= self._most)]
        m.d.comb += [self.assume(bytes_[n] == value) for n, value in enumerate(self._begin) if value is not None]

        # The packet's beats.
        beat, sent, base = decoder.i.payload, Signal(range(self._most + LANES)), Signal(POSITION_BITS)
        left = Signal.like(size)
        lanes = Array(Value.cast(each) for each in [*bytes_, *[Signal(8, name="none")] * LANES])
        m.d.comb += [
            left.eq(size - sent),
            self.assume(waits_unchanged(m, decoder.i, "i")),
            self.assume(beat.last == (left <= LANES)),
            self.assume(beat.count == Mux(left <= LANES, left, LANES)),
            self.assume(beat.position == base),
            self.assume(beat.flow == 0),
            self.assume(~beat.fragment),
            *(self.assume(beat.data[n] == Mux(sent + n < size, lanes[sent + n], 0)) for n in range(LANES)),
        ]
        if self._steady:
            m.d.comb += [self.assume(decoder.i.valid), self.assume(decoder.o.ready)]
        with m.If(taken(decoder.i)):
            m.d.sync += sent.eq(sent + LANES)
            with m.If(beat.last):
                m.d.sync += [sent.eq(0), base.eq(base + size)]

        self.claim(m, decoder, expected_of(m, bytes_, size), bytes_, size)

    def claim(self, m: Module, decoder: SbeDecoder, messages, bytes_, size) -> None:
        """Assert that what comes out is what is expected: frame by frame, then the message's end, then the packet's."""
        out, frame = decoder.o.payload, decoder.o.payload.frame
        number, frames = Signal(range(len(messages) + 1)), Signal(4)
        base = Signal(POSITION_BITS)

        def this(name):
            values = [getattr(each, name) for each in messages]
            chosen = Signal(len(values[0]), name=f"expected_{name}")
            m.d.comb += chosen.eq(Array([*values, 0])[number])
            return chosen

        exists, failed, entries = this("exists"), this("failed"), this("entries")
        is_last = frames + 1 == this("frames")
        fails = failed & is_last
        is_entry = ~fails & (entries != 0)
        start, first = this("start"), this("first")
        offset = Signal(16)
        m.d.comb += offset.eq(Mux(is_entry, first + frames * this("size"), 0))
        array = Array(Value.cast(each) for each in bytes_)
        root = Mux(this("has_root"), array[start + 4], 0)
        kind = Mux(this("book"), Mux(is_entry, Kind.BOOK_UPDATE, Kind.OTHER), Kind.STATUS)
        with m.If(decoder.o.valid):
            m.d.comb += self.prove(out.has_frame | out.has_message)
            with m.If(out.has_frame):
                m.d.comb += [
                    self.prove(exists & (frames < this("frames"))),
                    self.prove(frame.flags & CAUSES == Mux(fails, this("cause"), 0)),
                    self.prove(frame.kind == Mux(fails, Mux(this("unknown"), Kind.OTHER, Kind.MALFORMED), kind)),
                    self.prove(frame.message_type == this("message_type")),
                    self.prove(frame.entry_offset == offset),
                    self.prove(frame.sequence == Mux(size < PACKET_HEADER, 0, array[1])),
                    self.prove(frame.instrument == Mux(fails, 0, root)),
                    self.prove(frame.price_level == Mux(is_entry, array[(start + offset)[:8]], 0)),
                ]
            with m.If(out.has_message & ~out.message.packet_end):
                m.d.comb += [
                    self.prove(exists),
                    self.prove(out.message.frames == this("frames")),
                    self.prove(out.message.frames == frames + out.has_frame),
                    self.prove(out.message.start == (base + start)[:POSITION_BITS]),
                    self.prove(out.message.length == this("length")),
                ]
            with m.If(out.has_message & out.message.packet_end):
                m.d.comb += [
                    self.prove(~exists & ~out.has_frame & (out.message.frames == 0)),
                    self.prove(out.message.release == (base + size)[:POSITION_BITS]),
                ]
        with m.If(taken(decoder.o)):
            m.d.sync += frames.eq(frames + out.has_frame)
            with m.If(out.has_message):
                m.d.sync += [frames.eq(0), number.eq(number + 1)]
                with m.If(out.message.packet_end):
                    m.d.sync += [number.eq(0), base.eq(base + size)]


class Ends(Packets):
    """At the full rate, a packet's end comes at most ENDS cycles behind its last beat."""

    def claim(self, m, decoder, messages, bytes_, size):
        out, waited = decoder.o, Signal(range(2 * ENDS))
        m.d.comb += self.prove(waited <= ENDS)
        with m.If(taken(out) & out.payload.has_message & out.payload.message.packet_end):
            m.d.sync += waited.eq(0)
        with m.Elif((waited != 0) | (taken(decoder.i) & decoder.i.payload.last)):
            m.d.sync += waited.eq(waited + 1)


class Waits(Specification):
    """What is offered stays as it is until it is taken."""

    def state(self, m):
        decoder = self.add(m, "decoder", SbeDecoder(small_venue(End.LENGTH)))
        m.d.comb += self.prove(waits_unchanged(m, decoder.o, "o"))


IN_ENTRIES = (None, None, MAGIC, None, 1, BOOK, SCHEMA, GROUP_SINCE)
"""A packet whose message has a root block of one byte, then a group."""
IN_NEXT = (None, None, MAGIC, 5, 1, PLAIN, SCHEMA, 0, None)
"""A packet with a whole message, then any bytes."""

PROOFS = (
    Proof("sbe_waits", "SbeDecoder", "a frame that waits does not change", Waits, Method.K_INDUCTION, 2),
    Proof(
        "sbe_ends",
        "SbeDecoder",
        f"a packet of up to {LONG} bytes ends {ENDS} cycles behind its last beat, or earlier",
        partial(Ends, LONG, True),
        Method.BOUNDED,
        ENDS + 3,
    ),
    *(
        Proof(f"sbe_{name}", "SbeDecoder", claim, partial(Packets, most, steady, begin), Method.BOUNDED, depth)
        for name, claim, most, steady, begin, depth in (
            ("first", "frames of docs/sbe.md, of packets of up to 10 bytes", SHORT, True, (), 18),
            ("entries", "frames of docs/sbe.md, from a group on", 15, True, IN_ENTRIES, 17),
            ("next", "frames of docs/sbe.md, from a second message on", 16, True, IN_NEXT, 22),
            (
                "entries_any",
                "frames of docs/sbe.md, from a group on, with pauses and back-pressure",
                16,
                False,
                IN_ENTRIES,
                15,
            ),
        )
    ),
)
