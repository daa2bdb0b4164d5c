"""What becomes of a FIX message: its bytes, its flags, what is taken from it (docs/fix.md, "Taking a field of the body")."""

import enum

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS
from hdl.fix_characters import ends_a_beat
from hdl.fix_facts import FRAMING_FLAGS, KIND_BITS, TAKEN_BITS, TAKEN_TAGS
from hdl.fix_framer import framed_layout
from hdl.fix_tags import ENTRY_TAGS, MSG_TYPE_TAG
from hdl.flow_swap import FlowSwap
from hdl.frame import MALFORMED_FLAGS, Flag
from hdl.limits import FIELD_LIMIT, FLOWS

_DUPLICATE = Flag.DUPLICATE_TAG.bit_length() - 1
_MSG_TYPE = TAKEN_TAGS.index(MSG_TYPE_TAG)

FLAG_BITS = 16

State = data.StructLayout(
    {
        "page": 1,
        "start": POSITION_BITS,
        "flags": FRAMING_FLAGS,
        "duplicate": 1,
        "start_sum": 8,
        "seen": TAKEN_BITS,
        "first_seen": 1,
        "entry_type": len(ENTRY_TAGS),
        "in_entries": 1,
    }
)
"""A flow's message. ``page`` is another one for each message than for the one before. ``seen`` and ``first_seen``: which tags were
taken, and whether any field was. ``entry_type``: which type of ``ENTRY_TAGS`` the message is of."""


class Clock(enum.Enum):
    """Which packet's timestamp a message has: kept from before, that of the first field's packet, or this packet's."""

    KEPT = 0
    FIELD = 1
    PACKET = 2


TakenField = data.StructLayout(
    {"takes": TAKEN_BITS, "offset": POSITION_BITS, "crc": 64, "characters": 16, "kind": unsigned(KIND_BITS)},
)
"""A field of the body: the tags of the frame that it fills, where its value stands in the message, and the value:
its CRC, its one or two ``characters``, and the ``kind`` that it stands for as a MsgType."""

Step = data.StructLayout(
    {
        "taken": data.ArrayLayout(TakenField, 2),
        "written": 1,
        "garbled": 1,
        "gap": 1,
        "entries": 1,
        "flags": FLAG_BITS,
        "start": POSITION_BITS,
        "stop": POSITION_BITS,
        "release": POSITION_BITS,
        "seen": TAKEN_BITS,
        "missing": MISSING_BITS,
        "clock": Clock,
        "keep_clock": Clock,
        "keeps_clock": 1,
        "older": 1,
        "field_page": 1,
        "stamp": 1,
        "stamp_page": 1,
        "page": 1,
        "taken_page": 1,
        "keep_page": 1,
        "timestamp": 64,
        "flow": range(FLOWS),
        "fragment": 1,
        "packet_end": 1,
    }
)
"""What a beat did: the fields that it took, and the span that it completed (``written``), ``[start, stop)`` of the stream.

``clock``: where the span's timestamp is from; ``keeps_clock``: a message has begun whose timestamp is that of ``keep_clock``.
``older``: the first field began in an earlier packet; ``stamp``: the field left open in this one. The pages say where to read
and keep what belongs to the span, to the fields taken, to the message that has begun, and to the fields."""


class Messages(wiring.Component):
    """Follows each flow's message through the steps of the framer. One step each, answered in the same one.

    ``coming`` says that a beat of ``coming_flow`` is on its way into the stage two before, ``waits`` that the beat
    in the stage before stays there.
    """

    def __init__(self, lanes: int, flows: int = FLOWS):
        self.lanes = lanes
        self.flows = flows
        super().__init__(
            {
                "advance": In(1),
                "waits": In(1),
                "coming": In(1),
                "coming_flow": In(range(FLOWS)),
                "coming_new": In(1),
                "valid": In(1),
                "framed": In(framed_layout(lanes)),
                "step": Out(Step),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ends, framed, known, step = ends_a_beat(self.lanes), self.framed, self.framed.known, self.step
        m.submodules.carry = carry = FlowSwap(State, self.flows)
        state, after = carry.state, carry.next
        m.d.comb += [
            carry.advance.eq(self.advance),
            carry.waits.eq(self.waits),
            carry.coming.eq(self.coming),
            carry.coming_flow.eq(self.coming_flow),
            carry.coming_new.eq(self.coming_new),
            carry.valid.eq(self.valid),
            *(
                step[name].eq(known[name])
                for name in ("missing", "stamp", "stamp_page", "timestamp", "flow", "fragment")
            ),
            step.gap.eq(known.gap),
            step.older.eq(Mux(framed.cuts, known.cut_older, known.fields[0].older)),
            step.field_page.eq(known.fields[0].page ^ (framed.cuts & known.overrun)),
            step.taken_page.eq(state.page),
            step.keep_page.eq(after.page),
            step.packet_end.eq(known.last & framed.last_step),
            step.release.eq(after.start),
        ]
        states, spans = [state], list[dict]()
        for k in range(ends):
            after_field, span = self._field(m, k, framed, state, states[-1], spans[0] if k else None)
            states.append(after_field)
            spans.append(span)
            field = known.fields[k]
            m.d.comb += [
                step.taken[k].takes.eq(span["takes"]),
                step.taken[k].offset.eq(field.value - state.start),
                *(step.taken[k][name].eq(field[name]) for name in ("crc", "characters", "kind")),
            ]
        m.d.comb += after.eq(states[-1])

        with m.If(framed.cuts):
            overrun_starts = state.start == (known.cut - FIELD_LIMIT)[:POSITION_BITS]
            m.d.comb += [
                step.written.eq(1),
                step.garbled.eq(1),
                step.flags[:FRAMING_FLAGS].eq(state.flags | Mux(known.gap, 0, Flag.TOO_LONG)),
                step.flags[_DUPLICATE].eq(state.duplicate),
                step.start.eq(state.start),
                step.stop.eq(known.cut),
                step.seen.eq(state.seen),
                step.page.eq(state.page),
                step.clock.eq(Mux(known.gap, Clock.PACKET, Mux(overrun_starts, Clock.FIELD, Clock.KEPT))),
                after.eq(0),
                after.start.eq(known.cut),
                after.page.eq(~state.page),
            ]
        with m.Else():
            for k, span in enumerate(spans):
                with m.If(span["written"] if k else ~Cat(other["written"] for other in spans[1:]).any()):
                    m.d.comb += [
                        step.written.eq(span["written"]),
                        step.garbled.eq(~framed.outcomes[k].complete),
                        step.flags[:FRAMING_FLAGS].eq(span["flags"]),
                        step.flags[_DUPLICATE].eq(states[k].duplicate),
                        step.entries.eq(
                            framed.outcomes[k].complete
                            & states[k].in_entries
                            & ((span["flags"] & MALFORMED_FLAGS) == 0)
                        ),
                        step.start.eq(states[k].start),
                        step.stop.eq(span["stop"]),
                        step.seen.eq(states[k].seen),
                        step.page.eq(states[k].page),
                        step.clock.eq(span["clock"]),
                    ]
            for span in spans:
                with m.If(span["keeps_clock"]):
                    m.d.comb += [step.keeps_clock.eq(1), step.keep_clock.eq(span["own_clock"])]
        return m

    @staticmethod
    def _field(m, k, framed, state, before, first):
        """The message after field ``k``, and the span that the field completes. ``state`` is that before the beat, ``before``
        that before the field, ``first`` what the first field did, for the second one."""
        field, outcome = framed.known.fields[k], framed.outcomes[k]

        def signal(name, value, width=1):
            made = Signal(width, name=f"{name}{k}")
            m.d.comb += made.eq(value)
            return made

        # Behind a first field that ended a message the second one begins where it starts; else the start is the one
        # before the beat, or the second field does not look at it.
        held = signal("held", field.end - state.start, POSITION_BITS)
        too_much = signal(
            "too_much", outcome.seeks & ~outcome.restarts & (held >> (FIELD_LIMIT.bit_length() - 1)).any()
        )
        cut, starts_here = too_much, state.start == field.first
        begins_at_start = state.start == field.begin_position
        no_flags = state.flags == 0
        seen_before = (field.tags & state.seen).any()
        untaken = field.tags & ~state.seen
        if first is not None:
            cut = too_much & ~first["moved"]
            starts_here = first["moved"] | (framed.half & starts_here)
            begins_at_start = starts_here & field.begin_at_first
            no_flags = first["moved"] | (framed.half & no_flags)
            other = framed.known.fields[0].tags & first["read"].replicate(TAKEN_BITS)
            seen_before |= (field.tags & other).any()
            untaken = untaken & ~other
        starts_here = signal("starts_here", starts_here)
        moved = signal("moved", outcome.complete | cut)
        anew = signal("anew", moved | outcome.restarts)

        # What a field of the body leaves in the frame.
        read = signal("read", outcome.takes_it & field.usable & ~before.in_entries)
        duplicate = signal("duplicate", read & seen_before)
        takes = signal("takes", untaken & read.replicate(TAKEN_BITS), TAKEN_BITS)
        found = signal(
            "found",
            Mux(outcome.fails, Mux(outcome.too_long, Flag.TOO_LONG, Flag.LENGTH), 0)
            | Mux(outcome.seeks & no_flags, Flag.GARBAGE, 0),
            FRAMING_FLAGS,
        )
        of_field = (
            Mux(outcome.takes_it, field.causes, 0)
            | Mux(read & ~duplicate & field.value_cause, Flag.VALUE, 0)
            | Mux(outcome.takes_it & ~before.first_seen & ~field.tags[_MSG_TYPE], Flag.STRUCTURE, 0)
            | Mux(outcome.opened & field.no_body, Flag.STRUCTURE, 0)
        )
        # A message that a trailer in this beat completes began in an earlier one.
        total = signal("total", field.first_sum - state.start_sum, 8)
        check_sum_wrong = outcome.complete & (~field.check_sum_good | (field.check_sum != total))

        after = Signal.like(before, name=f"after{k}")
        m.d.comb += after.eq(before)
        with m.If(outcome.runs):
            m.d.comb += [
                after.flags.eq(before.flags | found | of_field),
                after.duplicate.eq(before.duplicate | duplicate),
                after.seen.eq(before.seen | takes),
                after.first_seen.eq(before.first_seen | outcome.takes_it),
                after.entry_type.eq(
                    before.entry_type | (field.entry_type & takes[_MSG_TYPE].replicate(len(ENTRY_TAGS)))
                ),
                after.in_entries.eq(
                    before.in_entries | (outcome.takes_it & field.usable & (field.entry_tag & before.entry_type).any())
                ),
            ]
        with m.If(anew):
            m.d.comb += [
                after.eq(0),
                after.page.eq(~before.page),
                after.start.eq(Mux(outcome.restarts, field.begin_position, field.end)),
                after.start_sum.eq(Mux(outcome.restarts, field.begin_sum, field.end_sum)),
            ]

        # The message's timestamp is that of the field in which it starts.
        own_clock = Clock.FIELD if first is None else Clock.PACKET
        clock = Signal(Clock, name=f"clock{k}")
        m.d.comb += clock.eq(Clock.KEPT)
        if first is not None:
            with m.If(first["keeps_clock"]):
                m.d.comb += clock.eq(first["own_clock"])
        with m.If(starts_here):
            m.d.comb += clock.eq(own_clock)
        return after, {
            "takes": takes,
            "read": read,
            "moved": moved,
            "restarts": outcome.restarts,
            "written": signal("written", moved | (outcome.restarts & ~begins_at_start)),
            "flags": signal("span_flags", before.flags | found | Mux(check_sum_wrong, Flag.CHECKSUM, 0), FRAMING_FLAGS),
            "stop": Mux(outcome.restarts, field.begin_position, field.end),
            "clock": clock,
            "own_clock": own_clock,
            "keeps_clock": signal("keeps_clock", outcome.runs & (outcome.restarts | (starts_here & ~moved))),
        }
