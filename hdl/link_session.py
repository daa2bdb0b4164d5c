"""What a board knows of its link, whichever that is: the session, numbered frames, registers, and how the card stands."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.link_frame import NUMBERED, OUTSIDE, Down
from hdl.registers import RegisterBus

STALLED_CYCLES = 64
"""How long the card must have waited for credit to say so: longer than its pipeline takes to use what was written."""

SessionFrame = data.StructLayout({"kind": 8, "sequence": 8, "session": 32, "address": 16, "value": 64})
"""What the session looks at of a frame from the host."""

SessionStatus = data.StructLayout(
    {"session": 32, "acknowledged": 8, "dropped": 8, "reads": 8, "value": 64, "stalled": 1}
)
"""What the host is told of it: ``acknowledged`` is the numbered frame that is expected next."""


class LinkSession(wiring.Component):
    """Takes ``frame`` where it is ``good``, for a cycle; ``bad`` counts one that was damaged.

    ``opens`` is high for a cycle, a cycle behind an OPEN of another session: all that a session has, the card too, is reset by it. Numbered frames
    are taken in order, once each: ``takes`` is high with ``good``, unless one does not fit (``fits``). A frame's address must stand for a cycle
    before it is good. READs from ``OUTSIDE`` on give ``outside``. ``asked``: an answer may begin, all that a frame did is in ``status``.
    """

    frame: In(SessionFrame)
    good: In(1)
    bad: In(1)
    fits: In(1, init=1)
    outside: In(64)
    card_stalled: In(1)
    bus: Out(RegisterBus)
    opens: Out(1)
    of_session: Out(1)
    takes: Out(1)
    asked: Out(1)
    status: Out(SessionStatus)

    def elaborate(self, platform):
        m = Module()
        frame, status = self.frame, self.status
        done = Signal()
        m.d.comb += self.of_session.eq(self.good & (frame.session == status.session) & (status.session != 0))
        m.d.sync += [self.opens.eq(0), done.eq(self.good | self.bad), self.asked.eq(done)]
        with m.If(self.good & (frame.kind == Down.OPEN) & (frame.session != status.session)):
            m.d.sync += self.opens.eq(1)

        # Numbered frames: the one that is expected is taken, those that came before are known, those behind it come again.
        ahead = Signal(8)
        m.d.comb += ahead.eq(frame.sequence - status.acknowledged)
        with m.Switch(frame.kind):
            with m.Case(*NUMBERED):
                m.d.comb += self.takes.eq(self.of_session & (ahead == 0) & self.fits)
                with m.If(self.of_session & ~self.takes & ~ahead[-1]):
                    m.d.sync += status.dropped.eq(status.dropped + 1)
        with m.If(self.bad):
            m.d.sync += status.dropped.eq(status.dropped + 1)
        with m.If(self.takes):
            m.d.sync += status.acknowledged.eq(status.acknowledged + 1)

        m.d.comb += [
            self.bus.address.eq(frame.address),
            self.bus.write_data.eq(frame.value),
            self.bus.write.eq(self.takes & (frame.kind == Down.WRITE)),
        ]
        with m.If(self.takes & (frame.kind == Down.READ)):
            is_outside = frame.address >= OUTSIDE
            m.d.sync += [
                status.reads.eq(status.reads + 1),
                status.value.eq(Mux(is_outside, self.outside, self.bus.read_data)),
            ]

        # For how long the card has waited for credit.
        waited = Signal(range(STALLED_CYCLES + 1))
        m.d.sync += status.stalled.eq(waited == STALLED_CYCLES)
        with m.If(~self.card_stalled | self.bus.write):
            m.d.sync += waited.eq(0)
        with m.Elif(waited != STALLED_CYCLES):
            m.d.sync += waited.eq(waited + 1)

        with m.If(self.opens):
            m.d.sync += [status[name].eq(0) for name in ("acknowledged", "dropped", "reads", "value", "stalled")]
            m.d.sync += [status.session.eq(frame.session), waited.eq(0)]
        return m
