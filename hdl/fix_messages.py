"""What becomes of a FIX message: its bytes, its flags, what is taken from it (docs/fix.md, "Taking a field of the body")."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS
from hdl.fix_characters import ends_a_beat
from hdl.fix_facts import FRAMING_FLAGS, KIND_BITS, TAKEN_BITS, TAKEN_TAGS
from hdl.fix_framer import framed_layout
from hdl.fix_tags import ENTRY_TAGS, MSG_TYPE_TAG
from hdl.flow_swap import FlowSwap
from hdl.frame import Flag
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT

_GARBAGE, _LENGTH, _CHECKSUM, _VALUE, _TOO_LONG, _STRUCTURE, _FRAGMENT, _DUPLICATE = (
    flag.bit_length() - 1
    for flag in (
        Flag.GARBAGE, Flag.LENGTH, Flag.CHECKSUM, Flag.VALUE, Flag.TOO_LONG, Flag.STRUCTURE, Flag.FRAGMENT,
        Flag.DUPLICATE_TAG,
    )
)  # fmt: skip
_MSG_TYPE = TAKEN_TAGS.index(MSG_TYPE_TAG)

FLAG_BITS = 16
OFFSET_BITS = (MESSAGE_LIMIT - 1).bit_length()
"""What is taken lies within the body, and so within ``MESSAGE_LIMIT`` bytes of the message's start."""
SPAN_BITS = (MESSAGE_LIMIT + 2 * FIELD_LIMIT).bit_length()
"""No raw message is longer (docs/fix.md, "Framing")."""

SLOTS = 4
"""Timestamps kept a flow: that of the packet that comes differs from those that may still be needed, which are three."""

SECOND_TEXT = 3
"""Characters of a second field's value that is taken: between two SOHs of a beat is room for ``55=ABC``."""

State = data.StructLayout(
    {
        "page": 1,
        "begun": 1,
        "start": POSITION_BITS,
        "message_slot": range(SLOTS),
        "field_slot": range(SLOTS),
        "slot": range(SLOTS),
        "flags": FRAMING_FLAGS,
        "duplicate": 1,
        "start_sum": 8,
        "seen": TAKEN_BITS,
        "first_seen": 1,
        "entry_type": len(ENTRY_TAGS),
        "in_entries": 1,
        "stale": 1,
    }
)
"""A flow's message. ``page`` is another one for each message than for the one before. ``begun``: a field of it has
ended, so the field left open does not begin at ``start``. The slots are those of the timestamps of the packet with the
message's first byte, of the one with the first byte of the field left open, if that is an earlier packet, and of the
beat to come. ``start_sum`` is that of the flow's bytes before ``start``, where BEGIN stands there. ``seen`` and
``first_seen``: which tags were taken, and whether any field was. ``entry_type``: which type of ``ENTRY_TAGS`` the
message is of. ``stale``: too much garbage ended, so none of the flags and of what is behind ``start_sum`` counts; which
is known late, so it is a bit of its own."""


def taken_layout(text_bits: int) -> data.StructLayout:
    """A field of the body: the tags of the frame that it fills, those whose place it is written to (``writes``: these, and within
    entries others, that nothing is read of), where its value stands in the message, and the value:
    its CRC of so many bits, its one or two ``characters``, and the ``kind`` that it stands for as a MsgType."""
    return data.StructLayout(
        {
            "takes": TAKEN_BITS,
            "writes": TAKEN_BITS,
            "offset": OFFSET_BITS,
            "crc": text_bits,
            "characters": 16,
            "kind": unsigned(KIND_BITS),
        }
    )


Step = data.StructLayout(
    {
        "one": taken_layout(64),
        "two": taken_layout(8 * SECOND_TEXT),
        "page": 1,
        "slot": range(SLOTS),
        "timestamp": 64,
        "written": 1,
        "complete": 1,
        "gap": 1,
        "entries": 1,
        "flags": FLAG_BITS,
        "start": POSITION_BITS,
        "release": POSITION_BITS,
        "seen": TAKEN_BITS,
        "span_slot": range(SLOTS),
        "missing": MISSING_BITS,
        "flow": range(FLOWS),
        "packet_end": 1,
    }
)
"""What a beat did: the fields that it took, ``one`` and ``two``, to keep in the message's ``page``; its ``timestamp``, to keep in
``slot``; and the span that it completed (``written``), ``[start, release)`` of the stream, whose values are in ``page`` and whose
timestamp in ``span_slot``. Not ``complete``: the span is no message. ``seen``: what was taken of it, with ``one``; where a span
is written, ``two`` takes nothing."""


class Messages(wiring.Component):
    """Follows each flow's message through the steps of the framer. One step each, answered in the same one.

    ``coming`` says that a beat of ``coming_flow`` is on its way into the stage two before, ``waits`` that the beat
    in the stage before stays there.

    A step completes one span at most, for the framer gives a beat two where both its fields may. So a span begins at the ``start``
    of before the step, and ends where the next message begins.
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
        framed, known, step = self.framed, self.framed.known, self.step
        m.submodules.carry = carry = FlowSwap(State, self.flows)
        m.d.comb += [
            carry.advance.eq(self.advance),
            carry.waits.eq(self.waits),
            carry.coming.eq(self.coming),
            carry.coming_flow.eq(self.coming_flow),
            carry.coming_new.eq(self.coming_new),
            carry.valid.eq(self.valid),
            *(step[name].eq(known[name]) for name in ("gap", "missing", "timestamp", "flow")),
            step.packet_end.eq(known.last & framed.last_step),
        ]
        state, after = Signal(State, name="now"), carry.next
        m.d.comb += state.eq(carry.state)
        with m.If(carry.state.stale):
            m.d.comb += [state[name].eq(0) for name in ("duplicate", "seen", "first_seen", "entry_type", "in_entries")]
            # What has begun since is garbage too.
            m.d.comb += state.flags.eq(carry.state.begun << _GARBAGE)
        fields = [_Field(m, k, framed, state) for k in range(ends_a_beat(self.lanes))]
        for before, field in zip([None, *fields], fields, strict=False):
            field.place(before)
            field.take(before)
        self._span(m, state, after, fields)
        self._flags(m, state, after, fields)
        self._slots(m, state, after, fields)
        return m

    def _span(self, m, state, after, fields):
        """The span that is written, and what the next message begins with, or this one goes on with."""
        framed, step = self.framed, self.step
        anew, cuts_or_done = Signal(), Signal()
        taken = [Signal(TAKEN_BITS, name=f"taken{k}") for k in range(len(fields))]
        m.d.comb += [
            # Too much garbage is known last.
            anew.eq(cuts_or_done | Cat(field.too_much for field in fields).any()),
            cuts_or_done.eq(framed.cuts | Cat(field.done for field in fields).any()),
            step.written.eq(framed.cuts | Cat(field.writes for field in fields).any()),
            step.complete.eq(Cat(field.outcome.complete for field in fields).any()),
            step.entries.eq(Cat(field.outcome.complete & field.in_entries for field in fields).any()),
            step.page.eq(state.page),
            step.start.eq(state.start),
            step.release.eq(after.start),
            step.seen.eq(state.seen | fields[0].takes),
            after.page.eq(state.page ^ anew),
            after.begun.eq(state.begun),
            after.start_sum.eq(state.start_sum),
        ]
        for k, field in enumerate(fields):
            part = step.two if k else step.one
            m.d.comb += [
                taken[k].eq(field.takes),
                part.takes.eq(taken[k]),
                part.writes.eq(field.writes_to),
                part.offset.eq((field.known.value - state.start)[:OFFSET_BITS]),
                *(part[name].eq(field.known[name]) for name in ("crc", "characters", "kind")),
            ]
            with m.If(field.outcome.restarts):
                m.d.comb += after.start_sum.eq(field.known.begin_sum)
        begun = state.begun & ~framed.cuts
        for field in fields:
            begun = Mux(field.outcome.runs, ~field.outcome.complete, begun)
        for field in fields:
            begun &= ~field.too_much
        if len(fields) == 2:
            # Behind the first field's garbage the second one begins anew.
            begun = Mux(fields[0].too_much, fields[1].outcome.runs & ~fields[1].outcome.complete, begun)
        m.d.comb += after.begun.eq(begun)
        # Two of these are high only where a second field begins with BEGIN behind a message: then both places are the same.
        places = [(framed.cuts, framed.known.cut)]
        for field in fields:
            places += [
                (field.outcome.restarts, field.known.begin_position),
                (field.outcome.complete, field.known.end),
            ]
        places.append((~Cat(which for which, _ in places).any(), state.start))
        m.d.comb += after.start.eq(reduce(or_, (place & which.replicate(POSITION_BITS) for which, place in places)))
        # Whether there is too much garbage is known last. Of two fields the first one that makes it so counts.
        for field in reversed(fields):
            with m.If(field.too_much):
                m.d.comb += after.start.eq(field.known.end)
        m.d.comb += after.stale.eq(Cat(field.too_much for field in fields).any() & ~fields[-1].done)
        with m.If(~cuts_or_done):
            m.d.comb += [
                after.seen.eq(state.seen | fields[0].takes | fields[-1].takes),
                after.first_seen.eq(fields[-1].first_seen | fields[-1].outcome.takes_it),
                after.entry_type.eq(fields[-1].entry_type | fields[-1].entry_type_taken),
                after.in_entries.eq(fields[-1].in_entries | fields[-1].begins_entry),
                after.duplicate.eq(state.duplicate | Cat(field.duplicate for field in fields).any()),
            ]

    def _flags(self, m, state, after, fields):
        framed, flags = self.framed, self.step.flags
        first, last = fields[0], fields[-1]
        found = [field.found() for field in fields]
        check_sum_wrong = Signal(len(fields))
        for k, field in enumerate(fields):
            # A message that a trailer in this beat completes began in an earlier one.
            start_sum = (field.known.first_sum - field.known.amount)[:8]
            good = field.known.check_sum_good & (start_sum == state.start_sum)
            m.d.comb += check_sum_wrong[k].eq(field.outcome.complete & ~good)
        # A second field that follows a message's last one, or its BEGIN, tells of the next message.
        if last is first:
            m.d.comb += flags[:FRAMING_FLAGS].eq(state.flags | found[0])
        else:
            of_second = found[1] & (~first.done).replicate(FRAMING_FLAGS)
            m.d.comb += flags[:FRAMING_FLAGS].eq(
                state.flags | found[0] | (of_second & (~first.too_much).replicate(FRAMING_FLAGS))
            )
        with m.If(framed.cuts & ~framed.known.gap):
            m.d.comb += flags[_TOO_LONG].eq(1)
        with m.If(check_sum_wrong.any()):
            m.d.comb += flags[_CHECKSUM].eq(1)
        m.d.comb += [
            flags[_FRAGMENT].eq(framed.known.fragment),
            flags[_DUPLICATE].eq(state.duplicate | first.duplicate),
        ]

        kept = (state.flags | found[0]) & (~(first.done | framed.cuts)).replicate(FRAMING_FLAGS)
        if last is not first:
            kept = (kept | found[1]) & (~last.done).replicate(FRAMING_FLAGS)
        m.d.comb += after.flags.eq(kept)

    def _slots(self, m, state, after, fields):
        """Which timestamp belongs to the span, and which ones have to be kept."""
        framed, known = self.framed, self.framed.known
        older = Signal()
        first_slot = Signal(range(SLOTS))  # of the field that was open before the beat
        m.d.comb += [
            older.eq(Mux(framed.cuts, known.cut_older, known.fields[0].older)),
            first_slot.eq(Mux(older, state.field_slot, state.slot)),
            self.step.slot.eq(state.slot),
            self.step.span_slot.eq(Mux(state.begun, state.message_slot, Mux(framed.half, state.slot, first_slot))),
            after.message_slot.eq(state.message_slot),
            after.field_slot.eq(Mux(known.stamp, state.slot, state.field_slot)),
        ]
        with m.If(known.gap):
            m.d.comb += self.step.span_slot.eq(state.slot)
        for k, field in enumerate(fields):
            with m.If(field.outcome.runs & (field.starts | field.outcome.restarts)):
                m.d.comb += after.message_slot.eq(state.slot if k else first_slot)
        # One that none of this step's slots is, for the span's is being read when the next beat's is written.
        in_use = (state.message_slot, state.field_slot, state.slot)
        for slot in reversed(range(SLOTS)):
            with m.If(~Cat(each == slot for each in in_use).any()):
                m.d.comb += after.slot.eq(slot)


class _Field:
    """What a field is to its flow's message. ``state`` is that before the beat."""

    def __init__(self, m, k, framed, state) -> None:
        self._m, self.index, self._framed, self._state = m, k, framed, state
        self.known, self.outcome = framed.known.fields[k], framed.outcomes[k]

    def _signal(self, name, value, width=1):
        made = Signal(width, name=f"{name}{self.index}")
        self._m.d.comb += made.eq(value)
        return made

    def place(self, before) -> None:
        """Where it lies: ``starts``: the message begins in it, with no flags yet where no BEGIN came;
        ``done``: a message begins in it, or ended with it; ``writes``: a span is complete.
        ``starts_if_little``: what ``starts`` is where no field before it made too much garbage. ``before``: the beat's
        first field."""
        known, outcome, state = self.known, self.outcome, self._state
        if before is None:
            starts = self.starts_if_little = ~state.begun
            # Both lie within one field, so their low bits say whether they are the same.
            field_bits = (FIELD_LIMIT - 1).bit_length()
            begins_at_first = known.begin_position[:field_bits] == known.first[:field_bits]
        else:
            # Behind a first field that ended a message a second one begins where that starts.
            self.starts_if_little = before.outcome.complete | (self._framed.half & ~state.begun)
            starts = before.too_much | self.starts_if_little
            begins_at_first = known.begin_at_first
        self.starts = self._signal("starts", starts)
        # Garbage of FIELD_LIMIT bytes or more.
        length = self._signal("length", known.end - state.start, SPAN_BITS)
        garbage = outcome.seeks & ~outcome.restarts
        if before is not None:
            garbage &= ~before.outcome.complete
        self.too_much = self._signal("too_much", garbage & length[FIELD_LIMIT.bit_length() - 1 :].any())
        self.done = self._signal("done", outcome.complete | outcome.restarts)
        moved = outcome.complete | self.too_much
        if before is not None:
            moved = outcome.complete | (self.too_much & ~before.too_much)
        moved = self._signal("moved", moved)
        self.writes = self._signal("writes", moved | (outcome.restarts & ~(self.starts & begins_at_first)))

    def take(self, before) -> None:
        """What it leaves in the frame: ``takes``, the tags; ``read``: it is looked at, ``duplicate``: in vain. ``first_seen``,
        ``entry_type`` and ``in_entries`` are the state's before it."""
        known, outcome, state = self.known, self.outcome, self._state
        if before is None:
            self.first_seen, self.entry_type, self.in_entries = state.first_seen, state.entry_type, state.in_entries
        else:
            self.first_seen = state.first_seen | before.outcome.takes_it
            self.entry_type = state.entry_type | before.entry_type_taken
            self.in_entries = self._signal("in_entries", state.in_entries | before.begins_entry)
        self.of_body = self._signal("of_body", outcome.takes_it & known.usable)
        self.read = self._signal("read", self.of_body & ~self.in_entries)
        duplicate = (known.tags & state.seen).any()
        takes = known.tags & ~state.seen & self.read.replicate(TAKEN_BITS)
        if before is not None:
            duplicate |= before.read & (known.tags & before.known.tags).any()
            takes &= ~(before.known.tags & before.read.replicate(TAKEN_BITS))
        self.duplicate = self._signal("duplicate", self.read & duplicate)
        self.takes = self._signal("takes", takes, TAKEN_BITS)
        # Within entries nothing is taken, so it does no harm that more is written: it is known sooner.
        writes_to = known.tags & ~state.seen & self.of_body.replicate(TAKEN_BITS)
        if before is not None:
            writes_to &= ~(before.known.tags & before.of_body.replicate(TAKEN_BITS))
        self.writes_to = self._signal("writes_to", writes_to, TAKEN_BITS)
        self.entry_type_taken = known.entry_type & self.takes[_MSG_TYPE].replicate(len(ENTRY_TAGS))
        self.begins_entry = self._signal("begins_entry", self.of_body & (known.entry_tag & self.entry_type).any())

    def found(self):
        """The flags that it gives its message, if no field before it in the beat made too much garbage."""
        known, outcome = self.known, self.outcome
        found = Signal(FRAMING_FLAGS, name=f"found{self.index}")
        self._m.d.comb += [
            found.eq(self._framed.causes[self.index] & outcome.takes_it.replicate(FRAMING_FLAGS)),
            found[_GARBAGE].eq(outcome.seeks & self.starts_if_little),
            found[_LENGTH].eq(outcome.fails & ~outcome.too_long),
            found[_TOO_LONG].eq(outcome.fails & outcome.too_long),
            found[_STRUCTURE].eq(
                (outcome.takes_it & ~self.first_seen & ~known.tags[_MSG_TYPE]) | (outcome.opened & known.no_body)
            ),
        ]
        with self._m.If(self.read & ~self.duplicate & known.value_cause):
            self._m.d.comb += found[_VALUE].eq(1)
        return found
