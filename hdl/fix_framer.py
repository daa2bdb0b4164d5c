"""FIX fields to messages: BodyLength leads (docs/fix.md, "Framing"). The phases alone; what they
mean for the message follows in fix_messages.py."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import POSITION_BITS
from hdl.fix_characters import ends_a_beat
from hdl.fix_facts import CLOSE_BITS, FRAMING_FLAGS, WHICH_BITS, known_beat_layout
from hdl.flow_swap import FlowSwap
from hdl.frame import Flag
from hdl.limits import FLOWS, MESSAGE_LIMIT
from hdl.stage import stage

LEFT_BITS = MESSAGE_LIMIT.bit_length()

PHASES = ("in_length", "in_body", "in_data", "in_trailer")


def target_layout(lanes: int) -> data.StructLayout:
    """A place ahead in a flow's stream: ``left`` counts from the next beat's first byte, until it has ``passed``.
    ``near``: behind which lane of that beat it is, one bit a lane; ``passed``: it is that beat's beginning, or before
    that. ``far``: it is not in that beat; where it may be, ``left`` has at most ``CLOSE_BITS`` and one more."""
    return data.StructLayout({"left": LEFT_BITS, "near": lanes, "passed": 1, "far": 1})


def framing_layout(lanes: int) -> data.StructLayout:
    """A flow's phase, SEEK where no other is, and the places that it waits for. ``fallen``: there is no other but
    ``in_length``, whatever the bits say, for a BodyLength was too much for its message. That is known late, so it is a
    bit of its own.

    ``body`` is where the body ends, ``data`` where the data's SOH does that was announced to stand in the next field
    (``announced``, the ``which`` of LENGTH_TAGS) or is being passed over.
    """
    return data.StructLayout(
        {
            **dict.fromkeys(PHASES, 1),
            "fallen": 1,
            "body": target_layout(lanes),
            "data": target_layout(lanes),
            "announced": 1,
            "which": WHICH_BITS,
        }
    )


Outcome = data.StructLayout(
    dict.fromkeys(
        (
            "runs",
            "seeks",
            "opened",
            "takes_it",
            "within_data",
            "announces",
            "complete",
            "fails",
            "too_long",
            "restarts",
        ),
        1,
    )
)
"""What a field is to its message. ``runs``: it is its turn. ``seeks``: no message had begun. ``opened``: it is a good
BodyLength. ``takes_it``: a field of the body. ``within_data``: its SOH is one of the data's bytes, or it fails.
``announces``: it announces data, or fails. ``complete``: the trailer. ``fails``: none of what should be here, with
``too_long`` because of the limit; ``restarts``: another message begins in it."""


def framed_layout(lanes: int) -> data.StructLayout:
    """A beat's fields with what they are to their messages. ``cuts``: first of all, what was framed is cut. ``half``:
    an earlier step did the first field. ``last_step``: the beat is done. ``causes``: the flags of a field as one of the
    body."""
    return data.StructLayout(
        {
            "known": known_beat_layout(lanes),
            "outcomes": data.ArrayLayout(Outcome, ends_a_beat(lanes)),
            "causes": data.ArrayLayout(FRAMING_FLAGS, ends_a_beat(lanes)),
            "cuts": 1,
            "half": 1,
            "last_step": 1,
        }
    )


class Framer(wiring.Component):
    """The phase of each field of a beat, all in one step. Latency ``LATENCY`` step.

    Where two fields of a beat may both complete a span (where the second one has BEGIN, but the first one has not and
    it begins with it), and where a field is too long, a beat takes two or three steps: it ``waits``, and ``ready`` is
    low, in all but the last. ``advance`` moves the whole; ``coming`` says that a beat of ``coming_flow`` is on its way
    into the stage before, ``next_has_steps`` that the beat on its way into this one takes more than one step. Not ``pipelined``,
    which is for beats of one byte, it has no step of latency, and what is on its way is here.
    """

    LATENCY = 1

    def __init__(self, lanes: int, flows: int = FLOWS, pipelined: bool = True):
        self.lanes = lanes
        self.flows = flows
        self._pipelined = pipelined
        super().__init__(
            {
                "advance": In(1),
                "coming": In(1),
                "coming_flow": In(range(FLOWS)),
                "coming_new": In(1),
                "next_has_steps": In(1),
                "valid": In(1),
                "known": In(known_beat_layout(lanes)),
                "waits": Out(1),
                "ready": Out(1),
                "o_valid": Out(1),
                "o": Out(framed_layout(lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        known, ends = self.known, ends_a_beat(self.lanes)
        m.submodules.carry = carry = FlowSwap(framing_layout(self.lanes), self.flows)
        state = carry.state
        cut_done, half = Signal(), Signal()
        framed = Signal(framed_layout(self.lanes), name="framed")
        cuts, split, body_is_set = Signal(), Signal(), Signal()
        if ends == 2:
            m.d.comb += split.eq(known.splits)
        m.d.comb += [
            cuts.eq(known.cuts & ~cut_done),
            self.ready.eq(self.advance & ~self.waits),
            carry.advance.eq(self.ready),
            carry.step.eq(self.advance),
            carry.coming.eq(self.coming),
            carry.coming_flow.eq(self.coming_flow),
            carry.coming_new.eq(self.coming_new),
            carry.valid.eq(self.valid),
        ]
        if self._pipelined:
            with m.If(self.ready):
                m.d.sync += [cut_done.eq(0), half.eq(0), body_is_set.eq(0), self.waits.eq(self.next_has_steps)]
            with m.Elif(self.advance):
                m.d.sync += [cut_done.eq(1), half.eq(~cuts), self.waits.eq(cuts & split)]
                m.d.sync += body_is_set.eq(framed.outcomes[0].too_long & ~cuts)
        else:
            m.d.comb += self.waits.eq(self.next_has_steps & ~cut_done)
            with m.If(self.advance):
                m.d.sync += cut_done.eq(self.waits)

        runs = [known.fields[0].valid & ~cuts & ~half]
        if ends == 2:
            runs.append(known.fields[1].valid & ~cuts & (half | ~split))
        after = carry.next
        m.d.comb += after.eq(state)
        now = Signal.like(state, name="now")
        m.d.comb += now.eq(state)
        with m.If(state.fallen):
            m.d.comb += [now[name].eq(0) for name in ("in_body", "in_data", "in_trailer")]
        before, fallen = now, Const(0)
        for k in range(ends):
            behind, exceeds = self._field(m, k, known, now, before, fallen, body_is_set, runs[k], framed.outcomes)
            with m.If(runs[k]):
                m.d.comb += [after.eq(behind), after.fallen.eq(exceeds | fallen)]
            # A second field has its turn in the same step, or in the next one: then the state is that behind the first.
            before = Signal.like(state, name=f"before{k + 1}")
            m.d.comb += before.eq(Mux(half, now, behind))
            fallen = exceeds & ~half
        self._approach(m, known, state, after, framed.outcomes, body_is_set)
        with m.If(cuts):
            m.d.comb += after.eq(0)
        m.d.comb += [
            framed.known.eq(known),
            *(cause.eq(self._causes(field)) for cause, field in zip(framed.causes, known.fields, strict=True)),
            # One character too many is none.
            *(
                framed.known.fields[k].characters.eq(field.characters & (~field.value_cause).replicate(16))
                for k, field in enumerate(known.fields)
            ),
            framed.cuts.eq(cuts),
            framed.half.eq(half),
            framed.last_step.eq(~self.waits),
        ]
        with stage(m, self.advance, self._pipelined) as register:
            register += [self.o_valid.eq(self.valid), self.o.eq(framed)]
        return m

    @staticmethod
    def _causes(field):
        """What is wrong with a field as one of a body."""
        bad_value = field.empty | (field.announces & ~field.plain)
        bad_length = field.announces & field.huge
        return Mux(field.tag_bad, Flag.TAG, Mux(bad_value, Flag.VALUE, Mux(bad_length, Flag.RANGE, 0)))

    def _approach(self, m, known, state, after, outcomes, body_is_set):
        """The beat's bytes have passed, or a field has set a new target, counted from the next beat. ``body_is_set``:
        an earlier step of this beat did, for the body. (Data that a first field announced end before a second one has
        BEGIN, so there is no such step for them.)"""
        targets = [
            self._target(m, f"target{k}", field.far, field.far, field.amount + field.offset, field.close)
            for k, field in enumerate(known.fields)
        ]
        for name in ("body", "data"):
            m.d.comb += after[name].eq(state[name])
            with m.If(~self.waits & (~body_is_set if name == "body" else 1)):
                left, close = state[name].left, state[name].left[: CLOSE_BITS + 1]
                still_far = left[CLOSE_BITS:].any()
                closer = self._target(
                    m, f"{name}_closer", state[name].far, still_far, left - known.count, close - known.count
                )
                m.d.comb += [
                    after[name].eq(closer),
                    after[name].near.eq(closer.near & ~state[name].passed.replicate(self.lanes)),
                    after[name].passed.eq(closer.passed | state[name].passed),
                ]
            # All that may follow is worked out, and one of it chosen: which one is known last. Where the field fails the target
            # means nothing, so whether it does is not asked.
            for outcome, target in zip(outcomes, targets, strict=True):
                with m.If(outcome.too_long if name == "body" else outcome.announces):
                    m.d.comb += after[name].eq(target)

    def _target(self, m, name, far, still_far, left, close):
        """The target at ``left``, which is far where ``still_far``. Where it was not ``far`` at first, ``close`` has
        the lowest bits of ``left``: so what is near is told without a long carry."""
        target = Signal(target_layout(self.lanes), name=name)
        low = Signal(signed(CLOSE_BITS + 2), name=f"{name}_low")
        m.d.comb += [
            low.eq(close),
            target.left.eq(left),
            target.far.eq(still_far),
            target.near.eq(Cat(~far & (low == lane + 1) for lane in range(self.lanes))),
            target.passed.eq(~far & ((low == 0) | low[-1])),
        ]
        return target

    @staticmethod
    def _field(m, k, known, state, before, fallen, body_is_set, runs, outcomes):
        """The framing behind field ``k``, and whether it would be a BodyLength that exceeds what is left of
        MESSAGE_LIMIT, so that it fails. ``state`` is the framing before the beat, ``before`` that before the field.
        Whether a BodyLength exceeds is known late: it is not in what follows from it, but decides on that last.
        ``fallen``: the first field of two did, in the same step. ``body_is_set``: in an earlier one it was a
        BodyLength."""
        field, outcome = known.fields[k], outcomes[k]

        def signal(name, value):
            made = Signal(name=f"{name}{k}")
            m.d.comb += made.eq(value)
            return made

        # Of two fields: whether it is a good length of data.
        goods = [each.announces & each.plain & ~each.no_body & ~each.huge for each in known.fields]

        # Where the field ends, beside where the body and the announced data do.
        body_ends = (state.body.near & field.stop).any()
        body_passed = state.body.passed | (state.body.near & field.below).any()
        data_ends = (state.data.near & field.stop).any()
        data_passed = state.data.passed | (state.data.near & field.below).any()
        announced = state.announced & field.is_data & (state.which == field.data_which)
        if k:
            # The phase before the beat says what the first field did, if it did not fail; where it did, nothing of this counts.
            first = outcomes[0]
            announces = state.in_body & goods[0]
            opens = state.in_length | body_is_set
            body_ends = Mux(opens, known.next_ends, body_ends)
            body_passed = Mux(opens, known.next_passes, body_passed)
            announced = announces & field.is_data & (known.fields[0].announced_which == field.data_which)
            data_ends = Mux(announces, known.follow_ends, data_ends)
            data_passed = Mux(announces, known.follow_passes, data_passed)
        body_ends, body_passed = signal("body_ends", body_ends), signal("body_passed", body_passed)
        data_ends, data_passed = signal("data_ends", data_ends), signal("data_passed", data_passed)

        # As if it were its turn, and within a body, or within data: whether it is comes late.
        in_length = before.in_length
        opened = signal("opened", in_length & field.is_length & ~field.large)
        excess = Signal(POSITION_BITS, name=f"excess{k}")
        m.d.comb += excess.eq(field.excess[0] + field.excess[1])
        exceeds = signal("exceeds", opened & ~excess[-1])

        def within(name, of_a_body, of_data):
            """What it is in the phase that it is in: of the body, or of the data."""
            of_a_body, of_data = signal(f"{name}_in_body", of_a_body), signal(f"{name}_in_data", of_data)
            return signal(name, (before.in_body & of_a_body) | (before.in_data & of_data))

        fits = within("fits", ~(body_passed | (announced & data_passed)), ~(body_passed | data_passed))
        passes = within(
            "passes", announced & ~(body_passed | data_passed | data_ends), ~(body_passed | data_passed | data_ends)
        )
        ends = within("ends", body_ends & ~body_passed & (~announced | data_ends), body_ends & ~body_passed & data_ends)
        stays = within(
            "stays", ~(body_ends | body_passed) & (~announced | data_ends), ~(body_ends | body_passed) & data_ends
        )
        within_data = within("within_data", announced & ~data_ends, ~data_ends)
        takes_it = before.in_body & ~body_passed & (~announced | data_ends)
        announces = signal("announces", goods[k] & ~(first.within_data if k else state.in_data))
        seeks = ~Cat(before[name] for name in PHASES).any()
        # A good BodyLength, too long or not, and a trailer have no BEGIN.
        restarts = signal("restarts", field.begin & ~fits)
        found = {
            "runs": Const(1),
            "seeks": seeks,
            "too_long": in_length & field.is_length,
            "opened": opened & ~exceeds,
            "takes_it": takes_it,
            "within_data": within_data,
            "announces": announces,
            "complete": before.in_trailer & field.is_trailer,
            "fails": exceeds | (~seeks & ~(opened | fits | (before.in_trailer & field.is_trailer))),
            "restarts": restarts,
        }
        m.d.comb += [outcome[name].eq(runs & value) for name, value in found.items()]
        # What sets a target does not wait for the turn: in a step that cuts it means nothing, a field with BEGIN sets none, and what the first
        # field sets again in the second one's step is not asked for.
        m.d.comb += [outcome[name].eq(field.valid & found[name]) for name in ("too_long", "announces")]
        behind = Signal.like(before, name=f"behind{k}")
        m.d.comb += [
            behind.eq(before),
            behind.in_length.eq(restarts),
            behind.in_body.eq((opened & ~field.no_body) | stays),
            behind.in_data.eq(passes),
            behind.in_trailer.eq((opened & field.no_body) | ends),
            behind.announced.eq(announces),
            behind.which.eq(field.announced_which),
        ]
        with m.If(fallen):
            # No message has begun.
            m.d.comb += [outcome[name].eq(0) for name in ("opened", "takes_it", "within_data", "complete", "fails")]
            m.d.comb += [
                outcome.seeks.eq(runs),
                outcome.restarts.eq(runs & field.begin),
                behind.in_length.eq(field.begin),
            ]
        return behind, exceeds
