"""FIX fields to messages: BodyLength leads (docs/fix.md, "Framing")."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
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
from hdl.fix_tokenizer import field_beat
from hdl.fixed_point import WHOLE_DIGITS
from hdl.flow_swap import FlowSwap
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT

TAKEN_TAGS = (
    ACCOUNT_TAG, CL_ORD_ID_TAG, MSG_SEQ_NUM_TAG, MSG_TYPE_TAG, ORDER_QTY_TAG, ORD_TYPE_TAG,
    ORIG_CL_ORD_ID_TAG, PRICE_TAG, SIDE_TAG, SYMBOL_TAG, TIME_IN_FORCE_TAG,
)  # fmt: skip
"""Tags of the body that the frame has; bit n of a set of them is the nth."""

TAKEN_BITS = len(TAKEN_TAGS)
ONE_CHARACTER = (ORD_TYPE_TAG, SIDE_TAG, TIME_IN_FORCE_TAG)
KIND_BITS = max(Kind).bit_length()
NEAR_BITS = 14
"""A distance within a flow's stream, up to the longest message, and back behind the longest field."""

FLAG_BITS = 16
CHECK_SUM_DIGITS = 3
FRAMING_FLAGS = 8
"""The causes that the framing finds are the lowest bits of the flags; beside them only DUPLICATE_TAG."""

_DUPLICATE = Flag.DUPLICATE_TAG.bit_length() - 1

WHICH_BITS = unsigned((len(DATA_TAGS) - 1).bit_length())


def target_layout(lanes: int) -> data.StructLayout:
    """A place ahead in a flow's stream: ``left`` counts from the next beat's first byte. ``near``: behind which lane of that
    beat it is, one bit a lane; ``before``: that it is before the place behind that lane."""
    return data.StructLayout({"left": signed(NEAR_BITS), "near": lanes, "before": lanes})


def framing_layout(lanes: int) -> data.StructLayout:
    """A flow's place in its message.

    The phase is SEEK where no other is. ``body`` is where the body ends, ``data`` where the data's SOH does that was
    announced to stand in the next field (``announced``, the ``which`` of DATA_TAGS) or is being passed over. ``entry_type``: which type
    of ``ENTRY_TAGS`` the message is of. ``seen`` and ``first_seen``: which tags were taken, and whether any
    field was. ``page`` is another one for each message than for the one before.
    """
    return data.StructLayout(
        {
            "in_length": 1,
            "in_body": 1,
            "in_data": 1,
            "in_trailer": 1,
            "page": 1,
            "start": POSITION_BITS,
            "flags": FRAMING_FLAGS,
            "duplicate": 1,
            "sum": 8,
            "seen": TAKEN_BITS,
            "first_seen": 1,
            "entry_type": len(ENTRY_TAGS),
            "in_entries": 1,
            "body": target_layout(lanes),
            "data": target_layout(lanes),
            "announced": 1,
            "which": WHICH_BITS,
        }
    )


def known_field_layout(lanes: int) -> data.StructLayout:
    """What of a field does not depend on the message that it stands in. ``body_left`` and ``data_left`` are where the body or
    the data would end that it tells of, counted from the next beat."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": POSITION_BITS,
            "value": POSITION_BITS,
            "end": POSITION_BITS,
            "stop": lanes,
            "older": 1,
            "page": 1,
            "sum": 8,
            "begin": 1,
            "begin_at_first": 1,
            "begin_position": POSITION_BITS,
            "sum_from_begin": 8,
            "usable": 1,
            "tags": TAKEN_BITS,
            "entry_tag": len(ENTRY_TAGS),
            "entry_type": len(ENTRY_TAGS),
            "causes": FRAMING_FLAGS,
            "value_cause": 1,
            "announces": 1,
            "announced_which": WHICH_BITS,
            "data_left": signed(NEAR_BITS),
            "is_data": 1,
            "data_which": WHICH_BITS,
            "is_length": 1,
            "large": 1,
            "no_body": 1,
            "body_left": signed(NEAR_BITS),
            "limit": POSITION_BITS,
            "is_trailer": 1,
            "check_sum": 8,
            "check_sum_good": 1,
            "crc": 64,
            "characters": 16,
            "kind": unsigned(KIND_BITS),
        }
    )


def known_beat_layout(lanes: int) -> data.StructLayout:
    """The fields of a beat, as far as they are known without their message.

    About a second field: ``next_ends`` and ``next_passes`` compare it with the body that the first one would open; ``follows``:
    it is of the data that the first one would announce, and ``follow_ends`` and ``follow_passes`` compare it with that.
    """
    return data.StructLayout(
        {
            "fields": data.ArrayLayout(known_field_layout(lanes), ends_a_beat(lanes)),
            "next_ends": 1,
            "next_passes": 1,
            "follows": 1,
            "follow_ends": 1,
            "follow_passes": 1,
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


class _Tags:
    """Compares a field's tag with many. Leading zeros make a tag bad, so the digits and their number say it all."""

    def __init__(self, m, k, field) -> None:
        self._m, self._k, self._field = m, k, field
        self._parts: dict[tuple[int, int], Signal] = {}
        self._tags: dict[int, Signal] = {}

    def _part(self, place: int, value: int):
        """The digit at a place (the lowest is 0), or with place -1 the number of digits."""
        if (place, value) not in self._parts:
            part = self._parts[place, value] = Signal(name=f"tag{self._k}_{place + 1}_{value}")
            if place < 0:
                self._m.d.comb += part.eq((self._field.tag_count == value) & ~self._field.tag_bad)
            else:
                self._m.d.comb += part.eq(self._field.tag[place] == value)
        return self._parts[place, value]

    def is_(self, tag: int):
        """Whether the field has this tag."""
        if tag not in self._tags:
            digits = [int(digit) for digit in reversed(str(tag))]
            signal = self._tags[tag] = Signal(name=f"is_{tag}_{self._k}")
            parts = [self._part(-1, len(digits)), *(self._part(place, digit) for place, digit in enumerate(digits))]
            self._m.d.comb += signal.eq(Cat(parts).all())
        return self._tags[tag]

    def which(self, tags) -> tuple:
        """Whether it has one of ``tags``, and which."""
        index = Signal(range(len(tags)), name=f"which{self._k}_{next(iter(tags))}")
        hits = [self.is_(tag) for tag in tags]
        for bit in range(len(index)):
            self._m.d.comb += index[bit].eq(Cat(hit for n, hit in enumerate(hits) if n >> bit & 1).any())
        return Cat(hits).any(), index


def _number(m, name, digits, count: int, bits: int):
    """The lowest ``count`` BCD digits as a number, looked up and added two by two."""
    worths = []
    for place in range(count):
        worth = Signal(bits, name=f"{name}_{place}")
        with m.Switch(digits[place]):
            for digit in range(1, 10):
                with m.Case(digit):
                    m.d.comb += worth.eq(digit * 10**place)
        worths.append(worth)
    while len(worths) > 1:
        worths = [sum(worths[n : n + 2], Const(0))[:bits] for n in range(0, len(worths), 2)]
    return worths[0]


def _above(digits, most: int):
    """Whether the BCD number of the lowest digits of ``most`` is above it, whatever higher digits say."""
    above = Const(0)
    for place, digit in enumerate(int(digit) for digit in reversed(str(most))):
        above = (digits[place] > digit) | ((digits[place] == digit) & above)
    return above


class Framer(wiring.Component):
    """Fields to messages. All fields of a beat in one step, latency ``LATENCY`` steps.

    Where two fields of a beat may both complete a span (only where both have BEGIN, or after garbage), and where a field is too
    long, a beat takes two or three steps: ``ready`` is low in all but the last. ``advance`` moves the whole; ``coming`` says that
    a beat of ``coming_flow`` is on its way into the stage before. ``fresh`` says that the beat in the last stage has just
    come there; it takes ``takes`` for the message of ``taking_row``.
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
                "taking_row": Out(range(2 * FLOWS)),
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
            now[name].eq(self.beat[name])
            for name in (
                "overrun", "gap", "cut", "cut_older", "missing", "stamp", "stamp_page", "count", "timestamp", "flow",
                "last", "fragment",
            )
        ]  # fmt: skip
        for k in range(ends):
            self._know(m, k, now.fields[k], self.beat.fields[k], self.beat)
        if ends == 2:
            self._compare(m, now, self.beat)

        # ---- Stage 2: the message.
        m.submodules.carry = carry = FlowSwap(framing_layout(self.lanes), self.flows)
        state = carry.state
        seeks = ~(state.in_length | state.in_body | state.in_data | state.in_trailer)
        cut_done, half = Signal(), Signal()
        cuts, split, last_step = Signal(), Signal(), Signal()
        if ends == 2:
            one, two = known.fields
            garbage = ~two.begin_at_first & (seeks | (state.in_trailer & one.is_trailer))
            m.d.comb += split.eq(two.valid & two.begin & (one.begin | garbage))
        m.d.comb += [
            cuts.eq((known.overrun | known.gap) & ~cut_done),
            last_step.eq(Mux(cuts, ~known.fields[0].valid, half | ~split)),
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
        after = Signal(framing_layout(self.lanes))
        m.d.comb += [
            *(
                step[name].eq(known[name])
                for name in ("missing", "stamp", "stamp_page", "timestamp", "flow", "fragment")
            ),
            step.gap.eq(known.gap),
            step.older.eq(Mux(cuts, known.cut_older, known.fields[0].older)),
            step.field_page.eq(known.fields[0].page ^ (cuts & known.overrun)),
            step.taken_page.eq(state.page),
            step.keep_page.eq(after.page),
            step.packet_end.eq(known.last & last_step),
            step.release.eq(after.start),
            carry.next.eq(after),
        ]
        runs = [known.fields[0].valid & ~cuts & ~half]
        if ends == 2:
            runs.append(known.fields[1].valid & ~cuts & (half | ~split))
        self._frame(m, known, state, after, step, runs, cuts, half, last_step)
        m.d.comb += [
            self.takes.eq(Cat(step.taken[0].takes, step.taken[1].takes)),
            self.taking_row.eq(Cat(state.page, known.flow)),
        ]
        with m.If(self.advance):
            m.d.sync += [self.o_valid.eq(valid), self.o.eq(step)]
        return m

    def _know(self, m, k, known, field, beat):
        """Stage 1 for one field."""
        digits, number = field.number.whole, field.number
        tags = _Tags(m, k, field)
        plain, empty = Signal(name=f"plain{k}"), Signal(name=f"empty{k}")
        some, large, huge = Signal(name=f"some{k}"), Signal(name=f"large{k}"), Signal(name=f"huge{k}")
        amount = _number(m, f"amount{k}", digits, 4, NEAR_BITS)
        announces, announced_which = tags.which(DATA_TAGS)
        is_data, data_which = tags.which(tuple(DATA_TAGS.values()))
        # What stands between the length's SOH and the data's, beside the data: its tag, the `=` and that SOH.
        data_tags = set(map(str, DATA_TAGS.values()))
        shortest = min(map(len, data_tags))
        longer_tag = Cat(tags.is_(tag) for tag, its in DATA_TAGS.items() if len(str(its)) > shortest).any()
        lanes_left = Signal(signed(beat.count.shape().width + 1), name=f"lanes_left{k}")
        too_many = Cat(tags.is_(tag) for tag in ONE_CHARACTER).any() & (field.value_count > 1)
        too_many |= tags.is_(MSG_TYPE_TAG) & (field.value_count > 2)
        m.d.comb += [
            empty.eq(field.value_count == 0),
            plain.eq(
                ~(number.bad | number.negative | number.point) & ~empty & (field.value_count <= MOST_LENGTH_DIGITS)
            ),
            some.eq(Cat(digits[n] != 0 for n in range(4)).any()),
            large.eq(Cat(digits[n] != 0 for n in range(4, WHOLE_DIGITS)).any()),
            # 4096 or more, by its digits: the number itself comes too late.
            huge.eq(large | _above(digits, MOST_DATA_BYTES)),
            lanes_left.eq(field.stop_lane - beat.count),
            *(
                known[name].eq(field[name])
                for name in (
                    "first", "end", "stop", "older", "page", "sum", "begin", "begin_at_first", "begin_position",
                    "sum_from_begin", "crc",
                )
            ),
            known.valid.eq(beat.ends[k]),
            known.value.eq((field.first + field.tag_count + 1)[:POSITION_BITS]),
            known.usable.eq(~field.tag_bad & ~empty),
            known.tags.eq(Cat(tags.is_(tag) for tag in TAKEN_TAGS) & (~empty).replicate(TAKEN_BITS)),
            known.entry_tag.eq(Cat(tags.is_(tag) for tag in ENTRY_TAGS.values()) & (~empty).replicate(len(ENTRY_TAGS))),
            known.entry_type.eq(
                Cat(
                    tags.is_(MSG_TYPE_TAG) & (field.value_count == 1) & (field.crc[:8] == ord(msg_type))
                    for msg_type in ENTRY_TAGS
                )
            ),
            known.value_cause.eq(too_many),
            known.announces.eq(announces & plain & some & ~huge),
            known.announced_which.eq(announced_which),
            known.data_left.eq(amount + lanes_left + (shortest + 2) + longer_tag),
            known.is_data.eq(is_data),
            known.data_which.eq(data_which),
            known.is_length.eq(tags.is_(BODY_LENGTH_TAG) & plain),
            known.large.eq(large),
            known.no_body.eq(~some),
            known.body_left.eq(amount + lanes_left),
            known.limit.eq(field.end + amount + (CHECK_SUM_FIELD_BYTES - MESSAGE_LIMIT - 1)),
            known.is_trailer.eq(tags.is_(CHECK_SUM_TAG) & (field.value_count == CHECK_SUM_DIGITS)),
            known.check_sum.eq(_number(m, f"check_sum{k}", digits, CHECK_SUM_DIGITS, 8)),
            known.check_sum_good.eq(plain & ~_above(digits, 0xFF)),
            known.kind.eq(Kind.OTHER),
        ]  # fmt: skip
        with m.If(field.tag_bad):
            m.d.comb += known.causes.eq(Flag.TAG)
        with m.Elif(empty | (announces & ~plain)):
            m.d.comb += known.causes.eq(Flag.VALUE)
        with m.Elif(announces & huge):
            m.d.comb += known.causes.eq(Flag.RANGE)
        # The CRC of up to eight characters is their text, the last one lowest; the frame wants the first one lowest.
        with m.If(~too_many):
            with m.If(field.value_count == 2):
                m.d.comb += known.characters.eq(Cat(field.crc[8:16], field.crc[:8]))
            with m.Else():
                m.d.comb += known.characters.eq(field.crc[:8])
        with m.If(field.value_count == 1):
            with m.Switch(field.crc[:8]):
                for msg_type, kind in KIND_OF_MSG_TYPE.items():
                    with m.Case(ord(msg_type)):
                        m.d.comb += known.kind.eq(kind)

    @staticmethod
    def _compare(m, now, beat):
        """Stage 1: the second field beside what the first one would announce. All of it is within a beat, so one digit counts."""
        one, two = beat.fields
        first, second = now.fields
        digit, single = one.number.whole[0], Signal()
        m.d.comb += [
            single.eq(~Cat(one.number.whole[n] != 0 for n in range(1, WHOLE_DIGITS)).any()),
            now.follows.eq(first.announces & second.is_data & (first.announced_which == second.data_which)),
            now.follow_ends.eq(single & (digit == two.value_count[:4])),
            now.follow_passes.eq(single & (digit < two.value_count[:4])),
        ]
        span = Signal(4)
        m.d.comb += [
            span.eq(two.stop_lane - one.stop_lane),
            now.next_ends.eq(single & (digit == span)),
            now.next_passes.eq(single & (digit < span)),
        ]

    def _frame(self, m, known, state, after, step, runs, cuts, half, last_step):
        """Stage 2: ``after`` all fields of the beat, and what they did."""
        ends = ends_a_beat(self.lanes)
        states, outcomes = [state], []
        for k in range(ends):
            outcome = self._field(m, k, known, state, states[-1], runs[k], half, outcomes[0] if k else None)
            outcomes.append(outcome)
            states.append(outcome["after"])
            field = known.fields[k]
            m.d.comb += [
                step.taken[k].takes.eq(outcome["takes"]),
                step.taken[k].offset.eq(field.value - state.start),
                *(step.taken[k][name].eq(field[name]) for name in ("crc", "characters", "kind")),
            ]

        m.d.comb += after.eq(states[-1])
        for name, sets, left_name in (("body", "opened", "body_left"), ("data", "announces", "data_left")):
            target, left = after[name], Signal(signed(NEAR_BITS), name=f"{name}_left")
            passed = Signal(signed(NEAR_BITS), name=f"{name}_passed")
            m.d.comb += [
                passed.eq(state[name].left - known.count),
                left.eq(Mux(last_step, passed, state[name].left)),
            ]
            for k in range(ends):
                with m.If(outcomes[k][sets]):
                    m.d.comb += left.eq(known.fields[k][left_name])
            low_bits = self.lanes.bit_length()
            low, far = left[:low_bits], Signal(name=f"{name}_far")
            m.d.comb += [
                far.eq(left[low_bits:].any()),
                target.left.eq(left),
                target.near.eq(Cat(~far & (low == lane + 1) for lane in range(self.lanes))),
                target.before.eq(Cat(left[-1] | (~far & (low <= lane)) for lane in range(self.lanes))),
            ]

        flags = [Signal(FLAG_BITS, name=f"span_flags{k}") for k in range(ends)]
        with m.If(cuts):
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
            for k, outcome in enumerate(outcomes):
                with m.If(outcome["written"] if k else ~Cat(other["written"] for other in outcomes[1:]).any()):
                    m.d.comb += [
                        step.written.eq(outcome["written"]),
                        step.garbled.eq(~outcome["complete"]),
                        step.flags.eq(flags[k]),
                        step.entries.eq(
                            outcome["complete"] & states[k].in_entries & ((flags[k] & MALFORMED_FLAGS) == 0)
                        ),
                        step.start.eq(states[k].start),
                        step.stop.eq(outcome["stop"]),
                        step.seen.eq(states[k].seen),
                        step.page.eq(states[k].page),
                        step.clock.eq(outcome["clock"]),
                    ]
            for outcome in outcomes:
                with m.If(outcome["keeps_clock"]):
                    m.d.comb += [step.keeps_clock.eq(1), step.keep_clock.eq(outcome["own_clock"])]
        for k, outcome in enumerate(outcomes):
            m.d.comb += [
                flags[k][:FRAMING_FLAGS].eq(
                    states[k].flags
                    | outcome["fail_flags"]
                    | Mux(outcome["complete"] & outcome["check_sum_wrong"], Flag.CHECKSUM, 0)
                ),
                flags[k][_DUPLICATE].eq(states[k].duplicate),
            ]

    @staticmethod
    def _field(m, k, known, state, before, runs, half, first):
        """The framing after field ``k``, and what the field did. ``state`` is that before the beat, ``before`` that before
        the field, ``first`` what the first field did, for the second one."""
        field = known.fields[k]

        def signal(name, value, width=1):
            made = Signal(width, name=f"{name}{k}")
            m.d.comb += made.eq(value)
            return made

        # Where the field ends, beside where the body and the announced data do.
        body_ends = (state.body.near & field.stop).any()
        body_passed = (state.body.before & field.stop).any()
        data_ends = (state.data.near & field.stop).any()
        data_passed = (state.data.before & field.stop).any()
        announced = state.announced & field.is_data & (state.which == field.data_which)
        starts_here = before.start == field.first
        begins_at_start = before.start == field.begin_position
        if first is not None:
            body_ends = Mux(first["opened"], known.next_ends, body_ends)
            body_passed = Mux(first["opened"], known.next_passes, body_passed)
            announced = first["announces"] & known.follows
            data_ends = Mux(first["announces"], known.follow_ends, data_ends)
            data_passed = Mux(first["announces"], known.follow_passes, data_passed)
            starts_here = first["moved"] | (half & (state.start == field.first))
            begins_at_start = starts_here & field.begin_at_first
        body_ends, body_passed = signal("body_ends", body_ends), signal("body_passed", body_passed)
        data_ends, data_passed = signal("data_ends", data_ends), signal("data_passed", data_passed)
        starts_here = signal("starts_here", starts_here)

        # The phases.
        seeks = signal("seeks", runs & ~(before.in_length | before.in_body | before.in_data | before.in_trailer))
        in_length, in_trailer = runs & before.in_length, runs & before.in_trailer
        within = signal("within", runs & (before.in_body | before.in_data))
        of_data = signal("of_data", runs & (before.in_data | (before.in_body & announced)))
        too_long = signal("too_long", field.large | ~(field.limit - before.start)[POSITION_BITS - 1])
        opened = signal("opened", in_length & field.is_length & ~too_long)
        wrong = signal("wrong", (within & body_passed) | (of_data & data_passed))
        passes = signal("passes", of_data & ~wrong & ~data_ends)
        goes_on = signal("goes_on", within & ~wrong & ~passes)
        complete = signal("complete", in_trailer & field.is_trailer)
        fails = signal("fails", (in_length & ~opened) | wrong | (in_trailer & ~field.is_trailer))
        restarts = signal("restarts", field.begin & (fails | seeks))
        held = signal("held", field.end - before.start, POSITION_BITS)
        cut = signal("cut", seeks & ~field.begin & (held >= FIELD_LIMIT))
        moved = signal("moved", complete | cut)
        anew = signal("anew", moved | restarts)

        # What a field of the body leaves in the frame.
        takes_it = signal("takes_it", goes_on & before.in_body)
        announces = signal("announces", takes_it & field.announces)
        read = signal("read", takes_it & field.usable & ~before.in_entries)
        duplicate = signal("duplicate", read & (field.tags & before.seen).any())
        takes = signal("takes", field.tags & ~before.seen & read.replicate(TAKEN_BITS), TAKEN_BITS)
        message_type = TAKEN_TAGS.index(MSG_TYPE_TAG)
        fail_cause = Mux(in_length & field.is_length, Flag.TOO_LONG, Flag.LENGTH)
        garbage = Mux(before.flags == 0, Flag.GARBAGE, 0)
        fail_flags = signal("fail_flags", Mux(fails, fail_cause, 0) | Mux(seeks, garbage, 0), FRAMING_FLAGS)
        field_flags = (
            Mux(takes_it, field.causes, 0)
            | Mux(read & ~duplicate & field.value_cause, Flag.VALUE, 0)
            | Mux(takes_it & ~before.first_seen & ~field.tags[message_type], Flag.STRUCTURE, 0)
            | Mux(opened & field.no_body, Flag.STRUCTURE, 0)
        )

        after = Signal.like(before, name=f"after{k}")
        m.d.comb += after.eq(before)
        with m.If(runs):
            m.d.comb += [
                after.in_length.eq(restarts),
                after.in_body.eq((opened & ~field.no_body) | (goes_on & ~body_ends)),
                after.in_data.eq(passes),
                after.in_trailer.eq((opened & field.no_body) | (goes_on & body_ends)),
                after.flags.eq(before.flags | fail_flags | field_flags),
                after.duplicate.eq(before.duplicate | duplicate),
                after.sum.eq(before.sum + field.sum),
                after.seen.eq(before.seen | takes),
                after.first_seen.eq(before.first_seen | takes_it),
                after.entry_type.eq(
                    before.entry_type | (field.entry_type & takes[message_type].replicate(len(ENTRY_TAGS)))
                ),
                after.in_entries.eq(
                    before.in_entries | (takes_it & field.usable & (field.entry_tag & before.entry_type).any())
                ),
                after.announced.eq(announces),
                after.which.eq(field.announced_which),
            ]
        with m.If(anew):
            m.d.comb += [
                after.page.eq(~before.page),
                after.start.eq(Mux(restarts, field.begin_position, field.end)),
                after.flags.eq(0),
                after.duplicate.eq(0),
                after.sum.eq(Mux(restarts, field.sum_from_begin, 0)),
                after.seen.eq(0),
                after.first_seen.eq(0),
                after.entry_type.eq(0),
                after.in_entries.eq(0),
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
        return {
            "after": after,
            "takes": takes,
            "opened": opened,
            "announces": announces,
            "moved": moved,
            "written": signal("written", moved | (restarts & ~begins_at_start)),
            "complete": complete,
            "check_sum_wrong": ~field.check_sum_good | (field.check_sum != before.sum),
            "fail_flags": fail_flags,
            "stop": Mux(restarts, field.begin_position, field.end),
            "clock": clock,
            "own_clock": own_clock,
            "keeps_clock": signal("keeps_clock", runs & (restarts | (starts_here & ~moved))),
        }
