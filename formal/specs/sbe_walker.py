"""SbeWalker: whatever the bytes of packets are, its frames are counted and lie within what came, and a packet ends."""

from functools import partial

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from formal.any_bytes import AnyHistory, AnyWalker, NoHistory
from formal.small_venue import small_venue
from formal.specification import Method, Proof, Specification, taken
from hdl.beat import LANES, POSITION_BITS
from hdl.limits import ENTRY_LIMIT, PACKET_LIMIT
from hdl.sbe_framing import End


class Packets(Specification):
    """A walker to which packets come: beats that are full but for a packet's last one, which has a byte at least."""

    history = AnyHistory

    def __init__(self, end: End):
        super().__init__()
        self._end = end

    def state(self, m: Module) -> None:
        walker = self.add(m, "walker", AnyWalker(small_venue(self._end), self._leave_free, self.history))
        beat = walker.i.payload
        base, sent = Signal(POSITION_BITS), Signal(range(PACKET_LIMIT + 1))
        m.d.comb += [
            self.assume((beat.count == LANES) | (beat.last & (beat.count >= 1) & (beat.count < LANES))),
            self.assume(sent + beat.count <= PACKET_LIMIT),
            self.assume(beat.position == base),
        ]
        with m.If(taken(walker.i)):
            m.d.sync += sent.eq(sent + beat.count)
            with m.If(beat.last):
                m.d.sync += [sent.eq(0), base.eq(base + sent + beat.count)]
        self.claim(m, walker)

    def _leave_free(self, name: str, signal: Value) -> None:
        self.ports[name] = signal

    def claim(self, m: Module, walker: AnyWalker) -> None:
        """Assert a property of ``walker``."""
        raise NotImplementedError


class Waits(Packets):
    """What was found stays until it is taken."""

    def claim(self, m, walker):
        found = Cat(
            walker.valid, Value.cast(walker.step), *(getattr(walker, f"bytes{n}") for n in range(len(walker.operands)))
        )
        waited, before = Signal(), Signal.like(found)
        m.d.sync += [waited.eq(~walker.advance), before.eq(found)]
        m.d.comb += self.prove(~waited | (found == before))


class Keeps(Packets):
    """What the history is told is what its own proof assumes: a packet is done with when it is whole, and where nothing more is
    needed, that is so until then."""

    def claim(self, m, walker):
        history, dropped = walker.history, Signal()
        m.d.sync += dropped.eq(~history.next_packet & (dropped | history.unneeded))
        m.d.comb += [
            self.prove(~history.next_packet | history.ended),
            self.prove(~dropped | history.unneeded | history.ended),
        ]


class Counts(Packets):
    """A message has from one to ENTRY_LIMIT frames, and says how many; a packet's end is no message's. Whatever comes when."""

    history = NoHistory

    def claim(self, m, walker):
        step, frames = walker.step, Signal(range(ENTRY_LIMIT + 2))
        with m.If(walker.valid):
            m.d.comb += self.prove(step.has_frame | step.has_message)
            with m.If(step.has_frame):
                m.d.comb += self.prove(frames < ENTRY_LIMIT)
            with m.If(step.has_message):
                m.d.comb += [
                    self.prove(step.message.frames == frames + step.has_frame),
                    self.prove(step.message.packet_end == (step.message.frames == 0)),
                ]
            with m.If(walker.advance):
                m.d.sync += frames.eq(Mux(step.has_message, 0, frames + step.has_frame))


class Lies(Packets):
    """Messages lie one behind the other within what came, and frames within their message; all of a packet is released at its end."""

    def claim(self, m, walker):
        step, history = walker.step, walker.history
        message = step.message
        base, came = Signal(POSITION_BITS), Signal(range(PACKET_LIMIT + 1))
        m.d.sync += came.eq(Mux(history.available == 0, 0, history.available - history.origin))
        # What is found does not change while it waits; so nothing waits here.
        m.d.comb += self.assume(walker.advance)
        past, deepest = Signal.like(came), Signal(16)
        begin = Signal(POSITION_BITS)
        m.d.comb += begin.eq(message.start - base)
        deep = Signal(16)
        m.d.comb += deep.eq(Mux(step.has_frame & (step.entry_offset > deepest), step.entry_offset, deepest))
        with m.If(walker.valid):
            with m.If(step.has_message & ~message.packet_end):
                m.d.comb += [
                    self.prove(begin >= past),
                    self.prove(begin + message.length <= came),
                    self.prove(deep <= message.length),
                ]
            with m.If(message.packet_end & step.has_message):
                m.d.comb += self.prove(message.release == (base + came)[:POSITION_BITS])
            with m.If(walker.advance):
                m.d.sync += deepest.eq(Mux(step.has_message, 0, deep))
                with m.If(step.has_message):
                    m.d.sync += past.eq(begin + message.length)
                    with m.If(message.packet_end):
                        m.d.sync += [past.eq(0), base.eq(message.release)]


PROOFS = (
    *(
        Proof(f"walker_{name}_{end.value}", f"SbeWalker, end by {end.value}", claim, partial(build, end), method, depth)
        for end in (End.LENGTH, End.STRUCTURE)
        for name, claim, build, method, depth in (
            ("waits", "what was found stays until it is taken", Waits, Method.K_INDUCTION, 2),
            (
                "keeps",
                "the next packet comes when one is whole; what is not needed, not until then",
                Keeps,
                Method.BOUNDED,
                11,
            ),
            ("lies", "messages and frames lie within what came", Lies, Method.BOUNDED, 11),
            ("counts", "a message has 1 to ENTRY_LIMIT frames, as many as it says", Counts, Method.PDR, 0),
        )
    ),
)
