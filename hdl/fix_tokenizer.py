"""FIX bytes to fields (docs/fix.md, "Fields")."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS, payload_beat
from hdl.crc64 import crc64_append
from hdl.fix_characters import Classifier, ends_a_beat
from hdl.fix_segmenter import PIECES, TAG_DIGITS, Segmenter
from hdl.fix_tags import BEGIN, MOST_TAG_DIGITS, MSG_SEQ_NUM_TAG, ORDER_QTY_TAG, PRICE_TAG
from hdl.fixed_point import FRACTION_DIGITS, MOST_CHARACTERS, WHOLE_DIGITS, Decimal, Form
from hdl.flow_swap import FlowSwap
from hdl.limits import FIELD_LIMIT, FLOWS
from hdl.select import is_in, select
from hdl.stage import stage

NUMBER_FORMS = {MSG_SEQ_NUM_TAG: Form.INTEGER, ORDER_QTY_TAG: Form.QUANTITY, PRICE_TAG: Form.PRICE}
"""Tags whose values the frame has as numbers."""

TAG_COUNT_BITS = (MOST_TAG_DIGITS + 1).bit_length()
LENGTH_BITS = FIELD_LIMIT.bit_length()
VALUE_COUNT_BITS = (MOST_CHARACTERS + 1).bit_length()

Token = data.StructLayout(
    {
        "open": 1,
        "older": 1,
        "length": signed(LENGTH_BITS),
        "near_limit": 1,
        "tag": data.ArrayLayout(4, TAG_DIGITS),
        "tag_count": TAG_COUNT_BITS,
        "tag_bad": 1,
        "in_value": 1,
        "value_count": VALUE_COUNT_BITS,
        "whole": data.ArrayLayout(4, WHOLE_DIGITS),
        "over": 1,
        "fraction": data.ArrayLayout(4, FRACTION_DIGITS),
        "fraction_count": unsigned(4),
        "finer": 1,
        "negative": 1,
        "point": 1,
        "odd": 1,
        "crc": 64,
        "begin": 1,
        "begin_position": POSITION_BITS,
        "first_sum": 8,
        "begin_sum": 8,
    }
)
"""What is known of a field so far.

``open``: it has bytes; ``older``: the first of them came in an earlier packet. ``length``: how far before the next
beat's first byte it began (below 0: behind, in a beat that comes again); ``near_limit``: a beat's bytes more may be too
many. ``tag``: the last digits, the lowest first; ``tag_count`` stops at one more than a tag may have. ``value_count``:
bytes of the value, which stops above those of a number. ``whole`` to ``odd``: the value as a number, as in ``Decimal``;
``fraction_count`` stops above the digits kept. ``crc``: CRC-64 of the value, which for up to eight characters is their
text. ``begin``: BEGIN stands in it; ``begin_position`` is that of the last one, in it or in a field before.
``first_sum`` and ``begin_sum``: sums modulo 256 of all bytes of the flow before the field and before BEGIN."""


def field_layout(lanes: int) -> data.StructLayout:
    """A field that has ended; ``end`` is the position behind its last byte, ``stop_lane`` the lane, and its SOH's lane has a bit
    in ``stop``. ``is_number``: its tag is one that the frame has a number of, in that ``form``. ``begin_at_first``: BEGIN
    is what it begins with, told of a field that does not go on from an earlier beat. The sums are those of all bytes of the flow
    before its first byte, before BEGIN, and with its last byte.

    ``number`` and ``crc`` of a field that does not go on are those of its value only where its tag has two digits or more; of a
    tag of one digit the number's ``whole`` digits are."""
    return data.StructLayout(
        {
            "first": POSITION_BITS,
            "end": POSITION_BITS,
            "stop_lane": unsigned(4),
            "stop": lanes,
            "older": 1,
            "tag": data.ArrayLayout(4, TAG_DIGITS),
            "tag_count": TAG_COUNT_BITS,
            "tag_bad": 1,
            "value_count": VALUE_COUNT_BITS,
            "number": Decimal,
            "form": Form,
            "is_number": 1,
            "crc": 64,
            "begin": 1,
            "begin_at_first": 1,
            "begin_position": POSITION_BITS,
            "first_sum": 8,
            "begin_sum": 8,
            "end_sum": 8,
        }
    )


def field_beat(lanes: int) -> data.StructLayout:
    """The fields that end in one beat, in their order.

    ``overrun``: FIELD_LIMIT bytes have come without an SOH, up to the position ``cut``; the first field, or the one
    that stays open, begins there; ``cut_older``: the first of those bytes came in an earlier packet. ``stamp``: the
    field that stays open behind the beat began in this packet.
    """
    ends = ends_a_beat(lanes)
    return data.StructLayout(
        {
            "fields": data.ArrayLayout(field_layout(lanes), ends),
            "ends": ends,
            "overrun": 1,
            "cut": POSITION_BITS,
            "cut_older": 1,
            "stamp": 1,
            "count": unsigned(lanes.bit_length()),
            "timestamp": 64,
            "flow": range(FLOWS),
            "last": 1,
            "fragment": 1,
            "gap": 1,
            "new": 1,
            "missing": MISSING_BITS,
        }
    )


class Tokenizer(wiring.Component):
    """FIX bytes to the fields that end in each beat. ``lanes`` bytes a step, latency ``LATENCY`` steps.

    It moves where ``advance`` is high. Of each flow the unfinished field is kept, so packets may cut fields anywhere. A beat
    with more ends than ``ends_a_beat`` takes a step more for each so many. ``next_valid`` says that a beat of ``next_flow`` comes
    out with the next step, ``next_new`` that it is its flow's first one since the reset. Not ``pipelined`` it takes one step.
    """

    LATENCY = Classifier.LATENCY + Segmenter.LATENCY + 1

    def __init__(self, lanes: int, flows: int = FLOWS, pipelined: bool = True):
        self.lanes = lanes
        self.flows = flows
        self._pipelined = pipelined
        super().__init__(
            {
                "advance": In(1),
                "valid": In(1),
                "beat": In(payload_beat(lanes)),
                "ready": Out(1),
                "o_valid": Out(1),
                "o": Out(field_beat(lanes)),
                "next_valid": Out(1),
                "next_flow": Out(range(FLOWS)),
                "next_new": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, ends = self.lanes, ends_a_beat(self.lanes)
        m.submodules.classifier = classifier = Classifier(lanes, self.flows)
        m.submodules.segmenter = segmenter = Segmenter(lanes, self._pipelined)
        m.submodules.carry = carry = FlowSwap(
            data.StructLayout({"token": Token, "begun": len(BEGIN) - 1, "sum": 8}), self.flows
        )
        beat, carried = segmenter.o, carry.state.token
        m.d.comb += [
            classifier.advance.eq(self.advance),
            classifier.valid.eq(self.valid),
            classifier.beat.eq(self.beat),
            self.ready.eq(classifier.ready),
            segmenter.advance.eq(self.advance),
            segmenter.valid.eq(classifier.o_valid),
            segmenter.characters.eq(classifier.o),
            segmenter.open.eq(classifier.open),
            classifier.left.eq(segmenter.left),
            carry.advance.eq(self.advance),
            carry.waits.eq(classifier.again),
            carry.coming.eq(self.valid),
            carry.coming_flow.eq(self.beat.flow),
            carry.coming_new.eq(classifier.new),
            carry.valid.eq(segmenter.o_valid),
            self.next_valid.eq(segmenter.o_valid),
            self.next_flow.eq(beat.flow),
            self.next_new.eq(beat.new),
        ]

        # Where things are, and the sums up to there. What begins in this beat does so at `begin_position`.
        first_position, begin_position, begin_sum = Signal(POSITION_BITS), Signal(POSITION_BITS), Signal(8)
        stop_positions = [Signal(POSITION_BITS, name=f"stop_position{k}") for k in range(ends)]
        stop_sums = [Signal(8, name=f"stop_sum{k}") for k in range(ends)]
        sum_before = carry.state.sum
        m.d.comb += [
            first_position.eq(beat.position - carried.length),
            begin_position.eq(beat.position + beat.begin_lane),
            begin_sum.eq(sum_before + beat.begin_sum),
            *(position.eq(beat.position + beat.stops[k].lane) for k, position in enumerate(stop_positions)),
            *(total.eq(sum_before + beat.sums[k]) for k, total in enumerate(stop_sums)),
        ]
        begin_here = {"begin_position": begin_position, "begin_sum": begin_sum}

        # The first field goes on with what was left open; a second one and the one left open are new.
        merged = self._merge(m, carry.state, beat, begin_here)
        others = [self._fresh(m, "second", beat.second, begin_here)] if ends == 2 else []
        last_open = self._fresh(m, "last", beat.last_open, begin_here)

        begins_here = Cat(
            segment.begin for segment in (beat.first, *([beat.second] if ends == 2 else []), beat.last_open)
        ).any()

        # Too long a field is cut at the limit; what is behind goes on as a field.
        left_over = Signal(range(2 * lanes))  # the length above what is a multiple of `lanes`
        near_limit, beyond, overrun = carried.near_limit, Signal(), Signal()
        low_bits = lanes.bit_length() - 1
        low = carried.length[:low_bits] if low_bits else Const(0, 1)
        m.d.comb += [
            left_over.eq(low + beat.stops[0].lane),
            beyond.eq(is_in(left_over, range(lanes + 1, 2 * lanes))),
            overrun.eq(~beat.gap & near_limit & (beyond | (~beat.ends[0] & (left_over == lanes)))),
        ]
        first = Signal(Token)
        m.d.comb += [first.eq(merged), first.length.eq(carried.length + beat.count)]
        with m.If(overrun):
            m.d.comb += [
                first.length.eq(left_over - lanes),
                first.open.eq(beyond),
                first.older.eq(0),
                first.begin.eq(beat.first.begin & (beat.begin_lane + low >= lanes)),
            ]

        # What stays open behind the beat.
        left = Signal(Token)
        m.d.comb += left.eq(first)
        with m.If(beat.ends.any()):
            m.d.comb += [
                left.eq(last_open),
                left.open.eq(beat.tail_open),
                left.length.eq(beat.tail),
                *(left[name].eq(Mux(begins_here, here, merged[name])) for name, here in begin_here.items()),
                left.first_sum.eq(stop_sums[0] if ends == 1 else Mux(beat.ends[1], stop_sums[1], stop_sums[0])),
            ]
        with m.If(beat.gap):
            m.d.comb += [left.eq(0), left.first_sum.eq(sum_before)]
        begun, may_cut = carry.state.begun, near_limit & ~beat.ends[0]
        still_begun = Cat(
            beat.begun[after - 1]
            | Cat(
                begun[before - 1] & beat.pieces[n] for n, (before, its_after) in enumerate(PIECES) if its_after == after
            ).any()
            for after in range(1, len(BEGIN))
        )
        m.d.comb += [
            carry.next.token.eq(left),
            carry.next.token.near_limit.eq(left.length[low_bits : LENGTH_BITS - 1].all() & ~left.length[-1]),
            carry.next.token.older.eq(Mux(beat.last, left.open, left.older)),
            # What begins behind an overrun has not all of what was begun.
            carry.next.begun.eq(
                Cat(
                    begun & ~(beat.gap | (may_cut & is_in(left_over, range(lanes, lanes + n))))
                    for n, begun in enumerate(still_begun, 1)
                )
            ),
            carry.next.sum.eq(sum_before + Mux(beat.count == 0, 0, beat.sums[ends])),
        ]

        out = Signal(field_beat(lanes), name="tokenized")
        m.d.comb += [
            *(
                out[name].eq(beat[name])
                for name in ("count", "timestamp", "flow", "last", "fragment", "gap", "new", "missing", "ends")
            ),
            out.overrun.eq(overrun),
            out.cut.eq(Mux(beat.gap, beat.position, first_position + FIELD_LIMIT)),
            out.cut_older.eq(carried.older),
            out.stamp.eq(left.open & ~left.older),
            out.fields[0].first.eq(Mux(overrun, first_position + FIELD_LIMIT, first_position)),
        ]
        for k, token in enumerate([first, *others]):
            field = out.fields[k]
            self._end(m, field, token)
            m.d.comb += [
                field.end.eq(stop_positions[k]),
                field.end_sum.eq(stop_sums[k]),
                field.stop_lane.eq(beat.stops[k].lane),
                field.stop.eq(beat.stops[k].bits),
            ]
            if k:
                m.d.comb += [
                    field.first.eq(stop_positions[k - 1]),
                    field.first_sum.eq(stop_sums[k - 1]),
                    field.begin_at_first.eq(beat.begin_at_second),
                ]
        with stage(m, self.advance, self._pipelined) as register:
            register += [self.o_valid.eq(segmenter.o_valid), self.o.eq(out)]
        return m

    @staticmethod
    def _end(m, field, token):
        m.d.comb += [
            *(
                field[name].eq(token[name])
                for name in (
                    "older", "tag", "tag_count", "value_count", "crc", "begin", "begin_position", "first_sum",
                    "begin_sum",
                )
            ),
            field.tag_bad.eq(
                token.tag_bad | ~token.in_value | (token.tag_count == 0) | (token.tag_count == MOST_TAG_DIGITS + 1)
            ),
            *(field.number[name].eq(token[name]) for name in ("whole", "over", "fraction", "finer", "negative", "point")),
            field.number.bad.eq(token.odd),
            field.number.length.eq(token.value_count),
        ]  # fmt: skip
        for tag, form in NUMBER_FORMS.items():
            digits = [int(digit) for digit in reversed(str(tag))]
            its_tag = (token.tag_count == len(digits)) & Cat(token.tag[n] == d for n, d in enumerate(digits)).all()
            with m.If(its_tag):
                m.d.comb += [
                    field.form.eq(form),
                    field.is_number.eq(token.in_value & ~token.tag_bad & (token.value_count != 0)),
                ]

    @staticmethod
    def _fresh(m, name, segment, begin_here):
        """A field that begins in ``segment``."""
        token = Signal(Token, name=f"{name}_token")
        m.d.comb += [
            *(
                token[name].eq(segment[name])
                for name in ("tag", "tag_count", "in_value", "value_count", "point", "fraction_count", "odd", "begin")
            ),
            *(token[name].eq(segment[name].as_value()) for name in ("whole", "fraction")),
            token.tag_bad.eq(segment.tag_bad | segment.tag_zero),
            token.negative.eq(segment.minus_first),
            token.crc.eq(segment.text.as_value()),
            *(token[name].eq(value) for name, value in begin_here.items()),
        ]
        return token

    @staticmethod
    def _merge(m, state, beat, begin_here):
        """The field that was left open, with the bytes of the first segment."""
        token, segment, carried = Signal(Token, name="merged"), beat.first, state.token
        lanes = len(segment.whole)

        # BEGIN may have begun in an earlier beat; the bytes that came of it say how far back, before it is known that the others come.
        completed, back, sum_back = Signal(), Signal(range(len(BEGIN))), Signal(8)
        for n in range(1, len(BEGIN)):
            with m.If(state.begun[n - 1]):
                m.d.comb += [back.eq(n), sum_back.eq(sum(BEGIN[:n]))]
        m.d.comb += [
            completed.eq((state.begun & beat.completes).any()),
            token.open.eq(carried.open | (beat.count != 0)),
            token.older.eq(carried.older),
            token.first_sum.eq(carried.first_sum),
            token.begin.eq(carried.begin | completed | segment.begin),
            token.begin_position.eq(carried.begin_position),
            token.begin_sum.eq(carried.begin_sum),
        ]
        with m.If(completed):
            m.d.comb += [
                token.begin_position.eq(_before(beat, back)),
                token.begin_sum.eq(state.sum - sum_back),
            ]
        with m.If(segment.begin):
            m.d.comb += [token[name].eq(value) for name, value in begin_here.items()]

        # The tag, and how long the value is.
        tag_count = Signal(TAG_COUNT_BITS + 1)
        too_many_digits = is_in(tag_count, range(MOST_TAG_DIGITS + 1, 2 << TAG_COUNT_BITS))
        shifted_tag = select(
            [carried.tag.as_value() << (4 * n) for n in range(TAG_DIGITS)] + [Const(0, 4 * TAG_DIGITS)],
            Mux(is_in(segment.tag_count, range(TAG_DIGITS)), segment.tag_count, TAG_DIGITS)[:2],
            4 * TAG_DIGITS,
        )
        uncounted = carried.value_count[3:VALUE_COUNT_BITS].all()  # more would not fit
        counted_up = carried.value_count + segment.value_count
        m.d.comb += [
            token.tag.eq(shifted_tag | segment.tag.as_value()),
            tag_count.eq(carried.tag_count + segment.tag_count),
            token.tag_count.eq(Mux(too_many_digits, MOST_TAG_DIGITS + 1, tag_count)),
            token.tag_bad.eq(carried.tag_bad | segment.tag_bad | (segment.tag_zero & (carried.tag_count == 0))),
            token.in_value.eq(carried.in_value | segment.in_value),
            token.value_count.eq(Mux(uncounted, carried.value_count, counted_up)),
            token.crc.eq(crc64_append(m, "crc", carried.crc, segment.text.as_value(), segment.value_count, lanes)),
        ]

        # The number. The segmenter knows whether a point came before, so digits are of one kind or the other.
        whole = select(
            [carried.whole.as_value() << (4 * n) for n in range(lanes + 1)], segment.whole_count, 4 * WHOLE_DIGITS
        )
        high = [Cat(digit != 0 for digit in list(carried.whole)[WHOLE_DIGITS - n :]).any() for n in range(1, lanes + 1)]
        base = carried.fraction_count
        fraction = select(
            [segment.fraction.as_value() << (4 * n) for n in range(FRACTION_DIGITS + 1)], base, 4 * FRACTION_DIGITS
        )
        low = [
            Cat(digit != 0 for digit in list(segment.fraction)[FRACTION_DIGITS - n :]).any()
            for n in range(FRACTION_DIGITS + 1)
        ]
        fraction_count = Signal(5)
        m.d.comb += [
            fraction_count.eq(carried.fraction_count + segment.fraction_count),
            token.point.eq(carried.point | segment.point),
            token.negative.eq(carried.negative | (segment.minus_first & (carried.value_count == 0))),
            token.odd.eq(carried.odd | segment.odd | (segment.minus_first & (carried.value_count != 0))),
            token.whole.eq(whole | segment.whole.as_value()),
            token.over.eq(carried.over | select([Const(0, 1), *high], segment.whole_count, 1)),
            token.fraction.eq(carried.fraction.as_value() | fraction),
            token.finer.eq(carried.finer | select(low, base, 1)),
            token.fraction_count.eq(
                Mux(is_in(fraction_count, range(FRACTION_DIGITS + 1)), fraction_count, FRACTION_DIGITS + 1)
            ),
        ]
        return token


def _before(beat, back):
    """The position ``back`` bytes, at most eight, before the beat: without a carry through all of it."""
    low = beat.position[:3]
    return Cat((low - back)[:3], Mux(low < back, beat.row_before, beat.position[3:]))
