"""docs/fix.md itself, as ``formal.fix_framing`` has it: how long what is wrong can last."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.sim import Simulator

from formal import fix_framing
from formal.fix_framing import Phase
from formal.specification import Method, Proof, Specification
from hdl.beat import POSITION_BITS
from hdl.fix_tags import BEGIN, CHECK_SUM_FIELD_BYTES
from hdl.limits import FIELD_LIMIT, MESSAGE_LIMIT

BLOCK = "docs/fix.md"

HEARTBEAT = b"8=FIX|9=5|35=0|10=223|".replace(b"|", b"\x01")
"""A well-formed message."""


class Rule(Specification):
    """The rule for one flow: in each cycle a byte comes, or there is a hole.

    Positions are counted from where the message began, so a start is always 0. ``at`` is the place of the next byte, ``head`` that of
    the field's first one.
    """

    def state(self, m: Module) -> None:
        self.gap, self.byte = self.free(1, "gap"), self.free(8, "byte")
        self.at, self.head = Signal(POSITION_BITS), Signal(POSITION_BITS)
        self.field, self.flow = Signal(fix_framing.Field, init=fix_framing.NO_FIELD), Signal(fix_framing.Flow)
        grown, ends, overrun = fix_framing.grow(m, "byte", self.field, self.byte, self.at)
        self.event = event = Signal(fix_framing.Event)
        m.d.comb += [
            event.byte.eq(~self.gap),
            event.ends.eq(ends),
            event.overrun.eq(overrun),
            event.gap.eq(self.gap),
            event.end.eq(self.at + event.byte),
            event.field.eq(grown),
            self.head.eq(self.at - self.field.length),
        ]
        self.after, self.span = fix_framing.follow(m, "flow", self.flow, event)
        m.d.sync += [
            self.field.eq(grown),
            self.flow.eq(self.after),
            self.flow.start.eq(0),
            self.at.eq(event.end - self.after.start),
        ]
        with m.If(self.gap | ends | overrun):
            m.d.sync += self.field.eq(Const(fix_framing.NO_FIELD, fix_framing.Field))
        self._invariants(m)
        self.claim(m)

    def _invariants(self, m: Module) -> None:
        """What makes the properties inductive: how far a message can have come in each phase."""
        flow, field, at, head = self.flow, self.field, self.at, self.head
        body_left = flow.body_left.as_signed()
        body_end = Signal(signed(POSITION_BITS + 1))
        most = MESSAGE_LIMIT - CHECK_SUM_FIELD_BYTES
        m.d.comb += [
            body_end.eq(at.as_signed() + body_left),
            self.prove(flow.start == 0),
            self.prove(field.length < FIELD_LIMIT),
            self.prove((at >= field.length) & (head <= MESSAGE_LIMIT + FIELD_LIMIT)),
            self.prove(~field.begin | ((field.begin_at >= head) & (field.begin_at + len(BEGIN) <= at))),
        ]
        with m.Switch(flow.phase):
            with m.Case(Phase.SEEK):
                pass
            with m.Case(Phase.LENGTH):
                m.d.comb += self.prove((head <= FIELD_LIMIT) & (head > len(BEGIN)))
            with m.Case(Phase.BODY, Phase.DATA):
                m.d.comb += self.prove((body_end <= most) & (head.as_signed() <= body_end))
            with m.Case(Phase.TRAILER):
                m.d.comb += self.prove((body_end <= most) & (head.as_signed() == body_end))
            with m.Default():
                m.d.comb += self.prove(0)

    def claim(self, m: Module) -> None:
        """Assert a property of the rule."""
        raise NotImplementedError


class Lengths(Rule):
    """No raw message is longer than a message and two fields, and only that of a hole may have no byte."""

    def claim(self, m):
        span = self.span
        m.d.comb += [
            self.prove(~span.written | (span.length <= MESSAGE_LIMIT + 2 * FIELD_LIMIT)),
            self.prove(~span.written | span.gap | (span.length != 0)),
        ]


class Reports(Rule):
    """A message that has failed is written less than two fields' bytes behind the byte that failed."""

    def claim(self, m):
        failed, behind = Signal(), Signal(POSITION_BITS)
        with m.If(self.span.written | (self.after.phase != Phase.SEEK)):
            m.d.sync += [failed.eq(0), behind.eq(0)]
        with m.Elif(failed):
            m.d.sync += behind.eq(behind + 1)
        with m.Elif(self.flow.phase != Phase.SEEK):
            m.d.sync += failed.eq(1)
        with m.If(failed):
            m.d.comb += [
                self.prove(self.flow.phase == Phase.SEEK),
                # No field has ended since, or none so far behind the start that it would have been cut there.
                self.prove((behind < self.at) & ((behind == self.field.length) | (self.head < FIELD_LIMIT))),
                self.prove(behind < 2 * FIELD_LIMIT),
            ]


class Followed(Rule):
    """The rule, of which nothing is claimed."""

    def claim(self, m):
        pass


def states_within(message: bytes) -> list[tuple[data.Const, data.Const]]:
    """The field and the flow before each byte of ``message``, where that is the first that comes."""
    rule = Followed()
    rule.simulated = True
    simulator = Simulator(rule)
    simulator.add_clock(1e-8)
    states = []

    async def testbench(context):
        for byte in message:
            states.append((context.get(rule.field), context.get(rule.flow)))
            context.set(rule.byte, byte)
            await context.tick()

    simulator.add_testbench(testbench)
    simulator.run()
    return states


class Quiet(Rule):
    """The rule where for a while no BEGIN comes. ``seeks``: as many bytes have come without BEGIN as a message may have, and the
    last was an SOH."""

    def claim(self, m):
        self.seeks = seeks = Signal()
        quiet = Signal(range(MESSAGE_LIMIT + 1))
        window = [self.byte, *(self.field.recent[n] for n in range(len(BEGIN) - 1))]
        begins = Cat(window[n] == BEGIN[-1 - n] for n in range(len(BEGIN))).all()
        begins &= self.field.length >= len(BEGIN) - 1
        m.d.sync += quiet.eq(Mux(self.gap | begins, 0, quiet + (quiet != MESSAGE_LIMIT)))
        m.d.comb += [
            seeks.eq((quiet == MESSAGE_LIMIT) & (self.field.length == 0)),
            self.prove(~seeks | (self.flow.phase == Phase.SEEK)),
            # The BEGIN of the message, or one behind it, was the last.
            self.prove((self.flow.phase == Phase.SEEK) | (quiet + len(BEGIN) <= self.at)),
            self.prove(~self.field.begin | (quiet + self.field.begin_at + len(BEGIN) <= self.at)),
        ]
        self.follow(m)

    def follow(self, m: Module) -> None:
        """Assert what is claimed of what comes where the rule ``seeks``."""
        raise NotImplementedError


class Anew(Quiet):
    """Where the rule ``seeks``, whatever comes next is framed as if it were the first of its flow, from its first BEGIN on.

    So there is the rule twice: from some such place on the second one gets the same bytes and holes, and it had none before.
    """

    def follow(self, m):
        now, follows, met, steps = self.free(1, "now"), Signal(), Signal(), Signal()
        at = Signal(POSITION_BITS, name="its_at")
        field = Signal(fix_framing.Field, name="its_field", init=fix_framing.NO_FIELD)
        flow = Signal(fix_framing.Flow, name="its_flow")
        event = Signal(fix_framing.Event, name="its_event")
        grown, ends, overrun = fix_framing.grow(m, "its_byte", field, self.byte, at)
        m.d.comb += [
            steps.eq(follows | (now & self.seeks)),
            event.eq(self.event),
            event.end.eq(at + event.byte),
            event.field.eq(grown),
        ]
        after, span = fix_framing.follow(m, "its", flow, event)
        with m.If(steps):
            m.d.sync += [
                follows.eq(1),
                field.eq(grown),
                flow.eq(after),
                flow.start.eq(0),
                at.eq(event.end - after.start),
            ]
            with m.If(self.gap | ends | overrun):
                m.d.sync += field.eq(Const(fix_framing.NO_FIELD, fix_framing.Field))
            with m.If(after.phase != Phase.SEEK):
                m.d.sync += met.eq(1)
        with m.If(met):
            m.d.comb += [self.prove(self.span[name] == span[name]) for name in ("written", "release")]
            with m.If(span.written):
                m.d.comb += [
                    self.prove(self.span[name] == span[name]) for name in ("garbled", "gap", "start", "length", "flags")
                ]

        # What makes it inductive.
        def same(ours, its, *names):
            return [self.prove(Value.cast(ours[name]) == Value.cast(its[name])) for name in names]

        m.d.comb += [self.prove(~met | follows), self.prove(flow.start == 0)]
        with m.If(follows):
            m.d.comb += same(self.field, field, *(name for name in fix_framing.Field.members if name != "begin_at"))
            m.d.comb += same(self.flow, flow, "phase")
            with m.If(field.begin):
                m.d.comb += self.prove(
                    (self.field.begin_at - self.at)[:POSITION_BITS] == (field.begin_at - at)[:POSITION_BITS]
                )
        with m.Else():
            m.d.comb += [self.prove(at == 0), self.prove(flow.as_value() == 0)]
            m.d.comb += self.prove(field.as_value() == Const(fix_framing.NO_FIELD, fix_framing.Field).as_value())
        with m.If(follows & ~met):
            m.d.comb += self.prove(flow.phase == Phase.SEEK)
        with m.If(met):
            m.d.comb += [self.prove(self.at == at), *same(self.flow, flow, "flags", "sum", "first_seen", "announced")]
            with m.If(flow.announced.any()):
                m.d.comb += same(self.flow, flow, "announced_bytes")
            with m.Switch(flow.phase):
                with m.Case(Phase.BODY, Phase.TRAILER):
                    m.d.comb += same(self.flow, flow, "body_left")
                with m.Case(Phase.DATA):
                    m.d.comb += same(self.flow, flow, "body_left", "data_left")


class Resynchronizes(Quiet):
    """Where the rule ``seeks``, a heartbeat that comes next gives its frame, whatever was before."""

    def follow(self, m):
        place, comes = Signal(range(len(HEARTBEAT))), Signal()
        with m.Switch(place):
            for n, (byte, (field, flow)) in enumerate(zip(HEARTBEAT, states_within(HEARTBEAT), strict=True)):
                with m.Case(n):
                    m.d.comb += comes.eq(~self.gap & (self.byte == byte) & (n != 0 or self.seeks))
                    if n != 0:
                        self._is_within(m, n, field, flow)
        m.d.sync += place.eq(Mux(comes & (place != len(HEARTBEAT) - 1), place + 1, 0))
        with m.If(comes & (place == len(HEARTBEAT) - 1)):
            self.heartbeat_ends(m)

    def heartbeat_ends(self, m: Module) -> None:
        """Assert what is claimed of the heartbeat's last byte."""
        span = self.span
        m.d.comb += [
            self.prove(span.written & ~span.garbled & (span.flags == 0)),
            self.prove(span.length == len(HEARTBEAT)),
        ]

    def _is_within(self, m: Module, place: int, field: data.Const, flow: data.Const) -> None:
        """What makes it inductive: behind so many bytes of the message the rule is where it is with these alone. Until the field with
        BEGIN ends, what was before it is still there."""
        same = [(self.field[name], field[name]) for name in field.shape().members if name != "begin_at"]
        same.append((self.flow.phase, flow.phase))
        if flow.phase is not Phase.SEEK:
            same += [(self.flow[name], flow[name]) for name in ("flags", "sum", "first_seen", "announced")]
            same.append((self.at, place))
        if flow.phase in (Phase.BODY, Phase.TRAILER):
            same.append((self.flow.body_left, flow.body_left))
        m.d.comb += [self.prove(Value.cast(ours) == Value.cast(its)) for ours, its in same]
        if field.begin:
            m.d.comb += self.prove(self.field.begin_at == self.head)


class NoHeartbeat(Resynchronizes):
    """No such heartbeat ever comes: false. Nothing else is asserted, or a solver would look for that too."""

    def prove(self, condition):
        return []

    def heartbeat_ends(self, m):
        m.d.comb += super().prove(0)


PROOFS = (
    Proof(
        "rule_lengths",
        BLOCK,
        "no raw message is longer than 8192 bytes; one without a byte is a hole's",
        Lengths,
        Method.K_INDUCTION,
        2,
    ),
    Proof(
        "rule_reports",
        BLOCK,
        "what has failed is written less than 4096 bytes later",
        Reports,
        Method.K_INDUCTION,
        2,
    ),
    Proof(
        "rule_anew",
        BLOCK,
        "behind 4096 bytes without 8=FIX, ended by an SOH, a message is framed as at its flow's beginning",
        Anew,
        Method.K_INDUCTION,
        2,
    ),
    Proof(
        "rule_resync",
        BLOCK,
        "a heartbeat behind 4096 bytes without 8=FIX, ended by an SOH, gives its frame",
        Resynchronizes,
        Method.K_INDUCTION,
        2,
    ),
    Proof(
        "rule_heartbeat",
        BLOCK,
        "a heartbeat comes behind 4096 bytes without 8=FIX, ended by an SOH",
        NoHeartbeat,
        Method.REACHED,
        MESSAGE_LIMIT + len(HEARTBEAT),
    ),
)
