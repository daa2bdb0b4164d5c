"""FIX fields to messages: BodyLength leads (docs/fix.md, "Framing")."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS
from hdl.fix_segmenter import ends_a_beat
from hdl.fix_tags import (
    ACCOUNT_TAG,
    BODY_LENGTH_TAG,
    CHECK_SUM_FIELD_BYTES,
    CHECK_SUM_TAG,
    CL_ORD_ID_TAG,
    DATA_TAGS,
    ENTRY_TAGS,
    KIND_OF_MSG_TYPE,
    MOST_DATA_BYTES,
    MOST_LENGTH_DIGITS,
    MSG_SEQ_NUM_TAG,
    MSG_TYPE_TAG,
    ORD_TYPE_TAG,
    ORDER_QTY_TAG,
    ORIG_CL_ORD_ID_TAG,
    PRICE_TAG,
    SIDE_TAG,
    SYMBOL_TAG,
    TIME_IN_FORCE_TAG,
)
from hdl.fix_tokenizer import FIELD_BITS, field_beat
from hdl.fixed_point import WHOLE_DIGITS
from hdl.flow_swap import FlowSwap
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT

TAKEN_TAGS = (
    ACCOUNT_TAG, CL_ORD_ID_TAG, MSG_SEQ_NUM_TAG, MSG_TYPE_TAG, ORDER_QTY_TAG, ORD_TYPE_TAG,
    ORIG_CL_ORD_ID_TAG, PRICE_TAG, SIDE_TAG, SYMBOL_TAG, TIME_IN_FORCE_TAG,
)  # fmt: skip
"""Tags of the body that the frame has; bit n of a set of them is the nth."""

ONE_CHARACTER = (ORD_TYPE_TAG, SIDE_TAG, TIME_IN_FORCE_TAG)

DATA_BITS = MOST_DATA_BYTES.bit_length()
REACH_BITS = 14
"""Distances within a flow's stream: up to the longest message."""

FLAG_BITS = 16


class Phase(enum.Enum, shape=unsigned(3)):
    """Where in its message a flow is."""

    SEEK = 0
    LENGTH = 1
    BODY = 2
    DATA = 3
    TRAILER = 4


Framing = data.StructLayout(
    {
        "phase": Phase,
        "page": 1,
        "start": POSITION_BITS,
        "flags": FLAG_BITS,
        "sum": 8,
        "seen": len(TAKEN_TAGS),
        "first_seen": 1,
        "entry_type": len(ENTRY_TAGS),
        "in_entries": 1,
        "body_left": REACH_BITS,
        "data_left": REACH_BITS,
        "announced": len(DATA_TAGS),
        "announced_bytes": DATA_BITS,
    }
)
"""A flow's place in its message. ``body_left`` and ``data_left`` count from the beat's first byte to behind the last byte of
the body, or behind the SOH that ends the data. ``announced``: the data that may stand in the next field. ``entry_type``: which
type of ``ENTRY_TAGS`` the message is of. ``page`` is another one for each message than for the one before. ``seen`` and ``first_seen``: which tags were taken, and whether any field was."""

TAKEN_BITS = len(TAKEN_TAGS)
KIND_BITS = max(Kind).bit_length()


def known_field_layout(lanes: int) -> data.StructLayout:
    """What of a field does not depend on the message that it stands in."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": POSITION_BITS,
            "value": POSITION_BITS,
            "end": POSITION_BITS,
            "stop_lane": unsigned(4),
            "older": 1,
            "page": 1,
            "sum": 8,
            "begin": 1,
            "begin_at_first": 1,
            "begin_position": POSITION_BITS,
            "sum_from_begin": 8,
            "tag_bad": 1,
            "empty": 1,
            "tags": TAKEN_BITS,
            "too_many": 1,
            "entry_tag": len(ENTRY_TAGS),
            "entry_type": len(ENTRY_TAGS),
            "announces": len(DATA_TAGS),
            "announced_bytes": DATA_BITS,
            "length_cause": FLAG_BITS,
            "data_tag": len(DATA_TAGS),
            "value_count": FIELD_BITS,
            "data_from": REACH_BITS,
            "is_length": 1,
            "large": 1,
            "no_body": 1,
            "body_left": REACH_BITS,
            "limit": POSITION_BITS,
            "is_trailer": 1,
            "check_sum": 8,
            "check_sum_good": 1,
            "crc": 64,
            "characters": 16,
            "kind": unsigned(KIND_BITS),
        }
    )


def _tag_is(token, tag: int):
    """``token`` has this tag. Leading zeros make a tag bad, so the digits and their number say it all."""
    digits = [int(digit) for digit in reversed(str(tag))]
    return (token.tag_count == len(digits)) & Cat(token.tag[n] == d for n, d in enumerate(digits)).all()


def _number(digits, count: int, bits: int):
    """The lowest ``count`` BCD digits as a number."""
    return sum((digits[n] * 10**n for n in range(1, count)), digits[0])[:bits]


def known_beat_layout(lanes: int) -> data.StructLayout:
    """The fields of a beat, as far as they are known without their message.

    About a second field: ``next_is_end`` and ``next_is_beyond`` compare it with the body that the first one would open,
    ``follows_equal`` and ``follows_longer`` with the data that the first one would announce, ``reach`` is the length
    that data beginning in the first one has where the second one ends. ``split``: both may complete a span.
    """
    return data.StructLayout(
        {
            "fields": data.ArrayLayout(known_field_layout(lanes), ends_a_beat(lanes)),
            "next_is_end": 1,
            "next_is_beyond": 1,
            "follows_equal": 1,
            "follows_longer": 1,
            "reach": FIELD_BITS,
            "split": 1,
            "overrun": 1,
            "gap": 1,
            "cut": POSITION_BITS,
            "cut_older": 1,
            "missing": MISSING_BITS,
            "stamp": 1,
            "stamp_page": 1,
            "count": unsigned(lanes.bit_length()),
            "timestamp": 64,
            "flow": range(FLOWS),
            "last": 1,
            "fragment": 1,
        }
    )


class Clock(enum.Enum, shape=unsigned(2)):
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


class Framer(wiring.Component):
    """Fields to messages. All fields of a beat in one step, latency ``LATENCY`` steps.

    Where two fields of a beat may both complete a span (only after garbage), and where a field is too long, a beat takes two or
    three steps: ``ready`` is low in all but the last. ``advance`` moves the whole; ``coming`` says that a beat of ``coming_flow``
    is on its way into the stage before. ``fresh`` says that the beat in the last stage has just come there.
    """

    LATENCY = 2

    def __init__(self, lanes: int, flows: int = FLOWS):
        self.lanes = lanes
        self.flows = flows
        super().__init__(
            {
                "advance": In(1),
                "coming": In(1),
                "coming_flow": In(range(FLOWS)),
                "valid": In(1),
                "beat": In(field_beat(lanes)),
                "ready": Out(1),
                "o_valid": Out(1),
                "o": Out(Step),
                "fresh": Out(1),
                "takes": Out(data.ArrayLayout(TAKEN_BITS, 2)),
                "taking_flow": Out(range(2 * FLOWS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ends = ends_a_beat(self.lanes)

        # ---- Stage 1: what is known of each field without its message.
        known = Signal(known_beat_layout(self.lanes), name="known")
        valid = Signal()
        now = Signal(known_beat_layout(self.lanes), name="known_now")
        m.d.comb += [
            *(
                now[name].eq(self.beat[name])
                for name in (
                    "overrun", "gap", "cut", "cut_older", "missing", "stamp", "stamp_page", "count", "timestamp", "flow",
                    "last", "fragment",
                )
            )
        ]  # fmt: skip
        for k in range(ends):
            self._know(m, k, now.fields[k], self.beat.fields[k])
            m.d.comb += now.fields[k].valid.eq(self.beat.ends[k])
        if ends == 2:
            one, two = self.beat.fields
            span = Signal(range(self.lanes + 1))
            digits = one.number.whole
            single = ~Cat(digits[n] != 0 for n in range(1, WHOLE_DIGITS)).any()
            m.d.comb += [
                span.eq(two.stop_lane - one.stop_lane),
                now.next_is_end.eq(single & (digits[0] == span)),
                now.next_is_beyond.eq(single & (digits[0] < span)),
                now.follows_equal.eq(single & (digits[0] == two.value_count[:4])),
                now.follows_longer.eq(single & (digits[0] < two.value_count[:4])),
                now.reach.eq(one.value_count + span),
                now.split.eq(self.beat.ends[1] & two.begin & (~two.begin_at_first | one.begin)),
            ]

        # ---- Stage 2: the message.
        m.submodules.carry = carry = FlowSwap(Framing, self.flows)
        state = carry.state
        cut_done, half = Signal(), Signal()
        cuts, last_step = Signal(), Signal()
        m.d.comb += [
            cuts.eq((known.overrun | known.gap) & ~cut_done),
            last_step.eq(Mux(cuts, ~known.fields[0].valid, half | ~known.split)),
            self.ready.eq(self.advance & (~valid | last_step)),
            carry.advance.eq(self.ready),
            carry.step.eq(self.advance),
            carry.coming.eq(self.coming),
            carry.coming_flow.eq(self.coming_flow),
            carry.valid.eq(valid),
        ]
        with m.If(self.ready):
            m.d.sync += [valid.eq(self.valid), known.eq(now), cut_done.eq(0), half.eq(0), self.fresh.eq(self.valid)]
        with m.Elif(self.advance):
            m.d.sync += [cut_done.eq(1), half.eq(~cuts), self.fresh.eq(0)]

        step = Signal(Step, name="step")
        after = Signal(Framing)
        m.d.comb += [
            *(
                step[name].eq(known[name])
                for name in ("missing", "stamp", "stamp_page", "timestamp", "flow", "fragment")
            ),
            step.older.eq(Mux(cuts, known.cut_older, known.fields[0].older)),
            step.field_page.eq(known.fields[0].page ^ (cuts & known.overrun)),
            step.taken_page.eq(state.page),
            step.keep_page.eq(after.page),
            step.packet_end.eq(known.last & last_step),
            step.release.eq(after.start),
            carry.next.eq(after),
        ]
        self._fields(m, known, state, after, step, cuts, half, last_step)
        m.d.comb += [
            self.takes.eq(Cat(step.taken[0].takes, step.taken[1].takes)),
            self.taking_flow.eq(Cat(state.page, known.flow)),
        ]
        with m.If(self.advance):
            m.d.sync += [self.o_valid.eq(valid), self.o.eq(step)]
        return m

    @staticmethod
    def _know(m, k, known, field):
        """Stage 1 for one field."""
        digits, number = field.number.whole, field.number
        plain = Signal(name=f"plain{k}")
        body_length = Signal(REACH_BITS, name=f"body_length{k}")
        is_tag = {}
        for tag in {*TAKEN_TAGS, BODY_LENGTH_TAG, CHECK_SUM_TAG, *DATA_TAGS, *DATA_TAGS.values(), *ENTRY_TAGS.values()}:
            is_tag[tag] = Signal(name=f"is_{tag}_{k}")
            m.d.comb += is_tag[tag].eq(_tag_is(field, tag) & ~field.tag_bad)
        length_tag = Cat(is_tag[tag] for tag in DATA_TAGS)
        nothing = Cat(digits[n] != 0 for n in range(4)).any()
        large = Cat(digits[n] != 0 for n in range(4, WHOLE_DIGITS)).any()
        announces = Signal(name=f"announces{k}")
        empty = field.value_count == 0
        m.d.comb += [
            plain.eq(
                ~(number.bad | number.negative | number.point) & ~empty & (field.value_count <= MOST_LENGTH_DIGITS)
            ),
            body_length.eq(_number(digits, 4, REACH_BITS)),
            *(
                known[name].eq(field[name])
                for name in (
                    "first", "end", "stop_lane", "older", "page", "sum", "begin", "begin_at_first", "begin_position",
                    "sum_from_begin", "tag_bad", "value_count", "crc",
                )
            ),
            known.value.eq((field.first + field.tag_count + 1)[:POSITION_BITS]),
            known.empty.eq(empty),
            known.tags.eq(Cat(is_tag[tag] for tag in TAKEN_TAGS) & (~empty).replicate(TAKEN_BITS)),
            known.too_many.eq(
                (Cat(is_tag[tag] for tag in ONE_CHARACTER).any() & (field.value_count > 1))
                | (is_tag[MSG_TYPE_TAG] & (field.value_count > 2))
            ),
            known.entry_tag.eq(Cat(is_tag[tag] for tag in ENTRY_TAGS.values()) & (~empty).replicate(len(ENTRY_TAGS))),
            known.entry_type.eq(
                Cat(
                    is_tag[MSG_TYPE_TAG] & (field.value_count == 1) & (field.crc[:8] == ord(msg_type))
                    for msg_type in ENTRY_TAGS
                )
            ),
            announces.eq(plain & ~large & nothing & (body_length <= MOST_DATA_BYTES)),
            known.announces.eq(length_tag & announces.replicate(len(DATA_TAGS))),
            known.announced_bytes.eq(body_length),
            known.data_tag.eq(Cat(is_tag[tag] for tag in DATA_TAGS.values())),
            known.data_from.eq(field.stop_lane - field.value_count),
            known.is_length.eq(is_tag[BODY_LENGTH_TAG] & plain),
            known.large.eq(large),
            known.no_body.eq(~nothing),
            known.body_left.eq(field.stop_lane + body_length),
            known.limit.eq(field.end + body_length + (CHECK_SUM_FIELD_BYTES - MESSAGE_LIMIT - 1)),
            known.is_trailer.eq(is_tag[CHECK_SUM_TAG] & (field.value_count == 3)),
            known.check_sum.eq(_number(digits, 3, 8)),
            known.check_sum_good.eq(plain & (digits[2] < 3) & ~((digits[2] == 2) & ((digits[1] > 5) | ((digits[1] == 5) & (digits[0] > 5))))),
            known.kind.eq(Kind.OTHER),
        ]  # fmt: skip
        with m.If(length_tag.any() & ~empty):
            with m.If(~plain):
                m.d.comb += known.length_cause.eq(Flag.VALUE)
            with m.Elif(large | (body_length > MOST_DATA_BYTES)):
                m.d.comb += known.length_cause.eq(Flag.RANGE)
        with m.If(field.value_count == 1):
            with m.Switch(field.crc[:8]):
                for msg_type, kind in KIND_OF_MSG_TYPE.items():
                    with m.Case(ord(msg_type)):
                        m.d.comb += known.kind.eq(kind)
        # The CRC of up to eight characters is their text, the last one lowest; the frame wants the first one lowest.
        with m.If(~known.too_many):
            with m.If(field.value_count == 2):
                m.d.comb += known.characters.eq(Cat(field.crc[8:16], field.crc[:8]))
            with m.Else():
                m.d.comb += known.characters.eq(field.crc[:8])

    def _fields(self, m, known, state, after, step, cuts, half, last_step):
        """Stage 2: ``after`` all fields of the beat, and what they did."""
        ends = ends_a_beat(self.lanes)
        states = [state]
        outcomes = []
        for k in range(ends):
            field = known.fields[k]
            runs = Signal(name=f"runs{k}")
            here = field.stop_lane
            before = outcomes[0] if k else None
            body_end = state.body_left == here
            beyond = state.body_left[-1] | (state.body_left < here)
            data_end = state.data_left == here
            data_beyond = state.data_left[-1] | (state.data_left < here)
            announced = (state.announced & field.data_tag).any()
            equal = state.announced_bytes == field.value_count
            longer = state.announced_bytes < field.value_count
            if before is not None:
                opened, began_data = before["opened"], before["began_data"]
                body_end = Mux(opened, known.next_is_end, body_end)
                beyond = Mux(opened, known.next_is_beyond, beyond)
                data_end = Mux(began_data, state.announced_bytes == known.reach, data_end)
                data_beyond = Mux(began_data, state.announced_bytes < known.reach, data_beyond)
                alone = half
                announced = Mux(alone, announced, (before["announces"] & field.data_tag).any())
                equal = Mux(alone, equal, known.follows_equal)
                longer = Mux(alone, longer, known.follows_longer)
                m.d.comb += runs.eq(field.valid & ~cuts & (half | ~known.split))
                fresh_start = before["moved"] | (half & (state.start == field.first))
            else:
                m.d.comb += runs.eq(field.valid & ~cuts & ~half)
                fresh_start = state.start == field.first
            outcome = self._step(
                m, k, states[-1], field, runs, before,
                body_end=body_end, beyond=beyond, data_end=data_end, data_beyond=data_beyond,
                announced=announced, equal=equal, longer=longer, starts_here=fresh_start,
            )  # fmt: skip
            outcomes.append(outcome)
            states.append(outcome["state"])
            m.d.comb += [
                step.taken[k].takes.eq(outcome["takes"]),
                step.taken[k].offset.eq(field.value - state.start),
                step.taken[k].crc.eq(field.crc),
                step.taken[k].characters.eq(field.characters),
                step.taken[k].kind.eq(field.kind),
            ]

        # The distances go on from the next beat's first byte.
        m.d.comb += after.eq(states[-1])
        passed = Signal.like(known.count)
        opened = Cat(outcome["opened"] for outcome in outcomes).any()
        began_data = Cat(outcome["began_data"] for outcome in outcomes).any()
        m.d.comb += passed.eq(Mux(last_step, known.count, 0))
        with m.If(~opened):
            m.d.comb += after.body_left.eq(state.body_left - passed)
        with m.If(~began_data):
            m.d.comb += after.data_left.eq(state.data_left - passed)
        for k, outcome in enumerate(outcomes):
            field = known.fields[k]
            with m.If(outcome["opened"]):
                m.d.comb += after.body_left.eq(field.body_left - passed)
            with m.If(outcome["began_data"]):
                its_bytes = state.announced_bytes
                if k:
                    its_bytes = Mux(half, its_bytes, known.fields[0].announced_bytes)
                m.d.comb += after.data_left.eq(field.data_from + its_bytes - passed)

        with m.If(cuts):
            m.d.comb += [
                step.written.eq(1),
                step.garbled.eq(1),
                step.gap.eq(known.gap),
                step.flags.eq(state.flags | Mux(known.gap, 0, Flag.TOO_LONG)),
                step.start.eq(state.start),
                step.stop.eq(known.cut),
                step.seen.eq(state.seen),
                step.page.eq(state.page),
                step.clock.eq(Mux(known.gap, Clock.PACKET, Mux(state.start == known.cut - FIELD_LIMIT, Clock.FIELD, Clock.KEPT))),
                after.eq(0),
                after.start.eq(known.cut),
                after.page.eq(~state.page),
            ]  # fmt: skip
        with m.Else():
            chosen = outcomes[-1]["written"] if ends == 2 else Const(0)
            for k in range(ends):
                with m.If(outcomes[k]["written"] if k == 0 else chosen):
                    m.d.comb += [
                        step.written.eq(1),
                        step.garbled.eq(~outcomes[k]["complete"]),
                        step.flags.eq(outcomes[k]["flags"]),
                        step.entries.eq(
                            outcomes[k]["complete"]
                            & states[k].in_entries
                            & ((outcomes[k]["flags"] & MALFORMED_FLAGS) == 0)
                        ),
                        step.start.eq(states[k].start),
                        step.stop.eq(outcomes[k]["stop"]),
                        step.seen.eq(states[k].seen),
                        step.page.eq(states[k].page),
                        step.clock.eq(outcomes[k]["clock"]),
                    ]
            for outcome in outcomes:
                with m.If(outcome["keeps_clock"]):
                    m.d.comb += [step.keeps_clock.eq(1), step.keep_clock.eq(outcome["own_clock"])]

    @staticmethod
    def _step(
        m,
        k,
        state,
        field,
        runs,
        before,
        *,
        body_end,
        beyond,
        data_end,
        data_beyond,
        announced,
        equal,
        longer,
        starts_here,
    ):
        """The framing after ``field``, where it ``runs``, and what the field did."""

        def signal(name, width=1):
            return Signal(width, name=f"{name}{k}")

        after = Signal(Framing, name=f"after{k}")
        fails, fail_cause = signal("fails"), signal("fail_cause", FLAG_BITS)
        restarts, complete, cut = signal("restarts"), signal("complete"), signal("cut")
        opened, began_data, in_body = signal("opened"), signal("began_data"), signal("in_body")
        to_trailer = signal("to_trailer")
        causes, takes = signal("causes", FLAG_BITS), signal("takes", TAKEN_BITS)
        check_sum_wrong = signal("check_sum_wrong")
        held = signal("held", POSITION_BITS)
        m.d.comb += [held.eq(field.end - state.start), after.eq(state)]

        # What the field does to the phase.
        with m.If(runs):
            with m.Switch(state.phase):
                with m.Case(Phase.SEEK):
                    m.d.comb += [
                        restarts.eq(field.begin),
                        fail_cause.eq(Mux(state.flags == 0, Flag.GARBAGE, 0)),
                        cut.eq(~field.begin & (held >= FIELD_LIMIT)),
                    ]
                with m.Case(Phase.LENGTH):
                    too_long = field.large | ~(field.limit - state.start)[POSITION_BITS - 1]
                    m.d.comb += [
                        fails.eq(~field.is_length | too_long),
                        fail_cause.eq(Mux(field.is_length, Flag.TOO_LONG, Flag.LENGTH)),
                        opened.eq(~fails),
                        to_trailer.eq(field.no_body),
                        after.phase.eq(Mux(field.no_body, Phase.TRAILER, Phase.BODY)),
                        causes.eq(Mux(field.no_body, Flag.STRUCTURE, 0)),
                    ]
                with m.Case(Phase.BODY):
                    m.d.comb += [
                        fail_cause.eq(Flag.LENGTH),
                        fails.eq(beyond | (announced & longer)),
                        began_data.eq(~beyond & announced & ~equal & ~longer),
                        in_body.eq(~fails & ~began_data),
                        after.phase.eq(Mux(began_data, Phase.DATA, Mux(body_end, Phase.TRAILER, Phase.BODY))),
                    ]
                with m.Case(Phase.DATA):
                    m.d.comb += [
                        fail_cause.eq(Flag.LENGTH),
                        fails.eq(beyond | data_beyond),
                        after.phase.eq(Mux(data_end, Mux(body_end, Phase.TRAILER, Phase.BODY), Phase.DATA)),
                    ]
                with m.Case(Phase.TRAILER):
                    m.d.comb += [
                        fail_cause.eq(Flag.LENGTH),
                        fails.eq(~field.is_trailer),
                        complete.eq(field.is_trailer),
                        check_sum_wrong.eq(~field.check_sum_good | (field.check_sum != state.sum)),
                        after.phase.eq(Phase.SEEK),
                    ]
            with m.If(fails):
                m.d.comb += [restarts.eq(field.begin), after.phase.eq(Phase.SEEK)]
            with m.If(restarts):
                m.d.comb += after.phase.eq(Phase.LENGTH)

        # What a field of the body leaves in the frame.
        duplicate, structure = signal("duplicate"), signal("structure")
        m.d.comb += [
            duplicate.eq((field.tags & state.seen).any()),
            structure.eq(~state.first_seen & ~field.tags[TAKEN_TAGS.index(MSG_TYPE_TAG)]),
        ]
        with m.If(in_body):
            m.d.comb += [
                after.announced.eq(field.announces),
                after.announced_bytes.eq(field.announced_bytes),
                after.first_seen.eq(1),
                after.in_entries.eq(state.in_entries | (~field.tag_bad & (field.entry_tag & state.entry_type).any())),
            ]
            with m.If(~field.tag_bad & ~field.empty & ~state.in_entries):
                m.d.comb += [
                    takes.eq(field.tags & ~state.seen),
                    after.entry_type.eq(
                        state.entry_type | (field.entry_type & (~duplicate).replicate(len(ENTRY_TAGS)))
                    ),
                ]
            m.d.comb += [
                after.seen.eq(state.seen | takes),
                causes.eq(
                    Mux(
                        field.tag_bad,
                        Flag.TAG,
                        Mux(
                            field.empty,
                            Flag.VALUE,
                            field.length_cause
                            | Mux(
                                state.in_entries,
                                0,
                                Mux(duplicate, Flag.DUPLICATE_TAG, Mux(field.too_many, Flag.VALUE, 0)),
                            ),
                        ),
                    )
                    | Mux(structure, Flag.STRUCTURE, 0)
                ),
            ]
        with m.Elif(runs):
            m.d.comb += after.announced.eq(0)

        flags = signal("flags", FLAG_BITS)
        seeks = state.phase == Phase.SEEK
        begin_is_start, moved = signal("begin_is_start"), signal("moved")
        written = signal("written")
        m.d.comb += [
            flags.eq(
                state.flags | Mux(fails | seeks, fail_cause, 0) | Mux(complete & check_sum_wrong, Flag.CHECKSUM, 0)
            ),
            begin_is_start.eq(
                (field.begin_position == state.start) if before is None else (starts_here & field.begin_at_first)
            ),
            moved.eq(complete | cut),
            written.eq(complete | cut | (restarts & ~begin_is_start)),
            after.sum.eq(state.sum + Mux(runs, field.sum, 0)),
        ]
        with m.If(runs):
            m.d.comb += after.flags.eq(Mux(fails | seeks, flags, state.flags | causes))
        with m.If(moved | restarts):
            m.d.comb += [
                after.page.eq(~state.page),
                after.flags.eq(0),
                after.seen.eq(0),
                after.first_seen.eq(0),
                after.entry_type.eq(0),
                after.in_entries.eq(0),
                after.start.eq(Mux(restarts, field.begin_position, field.end)),
                after.sum.eq(Mux(restarts, field.sum_from_begin, 0)),
            ]

        # The message's timestamp is that of the field in which it starts.
        own_clock = Clock.FIELD if before is None else Clock.PACKET
        clock = Signal(Clock, name=f"clock{k}")
        m.d.comb += clock.eq(Clock.KEPT)
        if before is not None:
            with m.If(before["keeps_clock"]):
                m.d.comb += clock.eq(before["own_clock"])
        with m.If(starts_here):
            m.d.comb += clock.eq(own_clock)
        return {
            "state": after,
            "takes": takes,
            "opened": opened,
            "began_data": began_data,
            "announces": Mux(in_body, field.announces, 0),
            "moved": moved,
            "written": written,
            "complete": complete,
            "flags": flags,
            "stop": Mux(restarts, field.begin_position, field.end),
            "clock": clock,
            "own_clock": own_clock,
            "keeps_clock": runs & (restarts | (starts_here & ~moved)),
        }
