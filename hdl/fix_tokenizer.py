"""FIX bytes to fields (docs/fix.md, "Fields")."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS, payload_beat
from hdl.crc64 import crc64_append
from hdl.fix_segmenter import PIECES, TAG_DIGITS, Segmenter, ends_a_beat, segment_beat
from hdl.fix_tags import BEGIN, MOST_TAG_DIGITS, MSG_SEQ_NUM_TAG, ORDER_QTY_TAG, PRICE_TAG
from hdl.fixed_point import FRACTION_DIGITS, MOST_CHARACTERS, WHOLE_DIGITS, Decimal, Form
from hdl.flow_swap import FlowSwap
from hdl.limits import FIELD_LIMIT, FLOWS
from hdl.select import select

NUMBER_FORMS = {MSG_SEQ_NUM_TAG: Form.INTEGER, ORDER_QTY_TAG: Form.QUANTITY, PRICE_TAG: Form.PRICE}
"""Tags whose values the frame has as numbers."""

TAG_COUNT_BITS = (MOST_TAG_DIGITS + 1).bit_length()
FIELD_BITS = FIELD_LIMIT.bit_length()

Token = data.StructLayout(
    {
        "open": 1,
        "older": 1,
        "page": 1,
        "first": POSITION_BITS,
        "length": FIELD_BITS,
        "tag": data.ArrayLayout(4, TAG_DIGITS),
        "tag_count": TAG_COUNT_BITS,
        "tag_bad": 1,
        "in_value": 1,
        "value_count": FIELD_BITS,
        "whole": data.ArrayLayout(4, WHOLE_DIGITS),
        "over": 1,
        "fraction": data.ArrayLayout(4, FRACTION_DIGITS),
        "fraction_count": unsigned(4),
        "finer": 1,
        "negative": 1,
        "point": 1,
        "odd": 1,
        "crc": 64,
        "sum": 8,
        "begin": 1,
        "begin_position": POSITION_BITS,
        "sum_from_begin": 8,
    }
)
"""What is known of a field so far.

``open``: it has bytes; ``older``: the first of them came in an earlier packet. ``page`` is another one than that of the field
that was left open before. ``tag``: the last digits, the lowest first; ``tag_count``
stops at one more than a tag may have. ``value_count``: bytes of the value. ``whole`` to ``odd``: the value as a number, as in
``Decimal``; ``fraction_count`` stops above the digits kept. ``crc``: CRC-64 of the value, which for up to eight characters is
their text. ``sum``: of all bytes, modulo 256."""


def field_layout(lanes: int) -> data.StructLayout:
    """A field that has ended; ``end`` is the position behind its last byte, ``stop_lane`` the lane, and its SOH's lane has a bit
    in ``stop``. ``is_number``: its tag is one that the frame has a number of, in that ``form``. ``begin_at_first``: BEGIN
    is what it begins with, told of a field that does not go on from an earlier beat."""
    return data.StructLayout(
        {
            "first": POSITION_BITS,
            "end": POSITION_BITS,
            "stop_lane": unsigned(4),
            "stop": lanes,
            "older": 1,
            "page": 1,
            "tag": data.ArrayLayout(4, TAG_DIGITS),
            "tag_count": TAG_COUNT_BITS,
            "tag_bad": 1,
            "value_count": FIELD_BITS,
            "number": Decimal,
            "form": Form,
            "is_number": 1,
            "crc": 64,
            "sum": 8,
            "begin": 1,
            "begin_at_first": 1,
            "begin_position": POSITION_BITS,
            "sum_from_begin": 8,
        }
    )


def field_beat(lanes: int) -> data.StructLayout:
    """The fields that end in one beat, in their order.

    ``overrun``: FIELD_LIMIT bytes have come without an SOH, up to the position ``cut``; the first field, or the one that stays
    open, begins there; ``cut_older``: the first of those bytes came in an earlier packet. ``stamp``: the field that stays open behind
    the beat began in this packet; its page is ``stamp_page``.
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
            "stamp_page": 1,
            "count": unsigned(lanes.bit_length()),
            "timestamp": 64,
            "flow": range(FLOWS),
            "last": 1,
            "fragment": 1,
            "gap": 1,
            "missing": MISSING_BITS,
        }
    )


class Tokenizer(wiring.Component):
    """FIX bytes to the fields that end in each beat. ``lanes`` bytes a step, latency ``LATENCY`` steps.

    It moves where ``advance`` is high. Of each flow the unfinished field is kept, so packets may cut fields anywhere. A beat
    with more ends than ``ends_a_beat`` takes a step more for each so many.
    """

    LATENCY = Segmenter.LATENCY + 1

    def __init__(self, lanes: int, flows: int = FLOWS):
        self.lanes = lanes
        self.flows = flows
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
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, ends = self.lanes, ends_a_beat(self.lanes)
        m.submodules.segmenter = segmenter = Segmenter(lanes, self.flows)
        m.submodules.carry = carry = FlowSwap(data.StructLayout({"token": Token, "begun": len(BEGIN) - 1}), self.flows)
        beat = Signal(segment_beat(lanes))
        carried, begun = carry.state.token, carry.state.begun
        m.d.comb += [
            segmenter.advance.eq(self.advance),
            segmenter.valid.eq(self.valid),
            segmenter.beat.eq(self.beat),
            self.ready.eq(segmenter.ready),
            beat.eq(segmenter.o),
            carry.advance.eq(self.advance),
            carry.coming.eq(segmenter.coming),
            carry.coming_flow.eq(segmenter.coming_flow),
            carry.valid.eq(segmenter.o_valid),
            self.next_valid.eq(segmenter.o_valid),
            self.next_flow.eq(beat.flow),
        ]

        # The first segment goes on with the field that was left open; the others are new.
        merged = self._merge(m, carried, begun, beat)
        fresh = [self._fresh(m, k, beat) for k in range(1, ends + 1)]

        # Too long a field is cut at the limit; what is behind goes on as a field.
        part = beat.segments[0]
        grown = Signal(FIELD_BITS)
        left_over = Signal(range(2 * lanes))  # the length above what is a multiple of `lanes`
        near_limit, overrun, late_begin = Signal(), Signal(), Signal()
        cut = Signal(POSITION_BITS)
        low_bits = lanes.bit_length() - 1
        low = carried.length[:low_bits] if low_bits else Const(0, 1)
        m.d.comb += [
            grown.eq(carried.length + (part.stop_lane - part.first_lane)[: len(part.stop_lane)]),
            left_over.eq(low + (part.stop_lane - part.first_lane)[: len(part.stop_lane)]),
            near_limit.eq(carried.length[low_bits : FIELD_BITS - 1].all()),
            overrun.eq(~beat.gap & near_limit & Mux(beat.ends[0], left_over > lanes, left_over >= lanes)),
            cut.eq(merged.first + FIELD_LIMIT),
            late_begin.eq(part.begin & (part.begin_lane + low >= lanes)),
        ]
        first = Signal(Token)
        m.d.comb += [first.eq(merged), first.length.eq(grown)]
        with m.If(overrun):
            m.d.comb += [
                first.first.eq(cut),
                first.length.eq(left_over - lanes),
                first.open.eq(left_over > lanes),
                first.older.eq(0),
                first.page.eq(~carried.page),
                first.begin.eq(late_begin),
            ]

        # What stays open behind the beat.
        left = Signal(Token)
        m.d.comb += left.eq(first)
        for k in range(ends):
            with m.If(beat.ends[k]):
                m.d.comb += [left.eq(fresh[k]), left.page.eq(~carried.page)]
        with m.If(beat.gap):
            m.d.comb += [left.eq(0), left.first.eq(beat.position), left.page.eq(~carried.page)]
        with m.If(beat.more):
            m.d.comb += [
                left.eq(0),
                left.first.eq((beat.position + beat.segments[ends].first_lane)[:POSITION_BITS]),
                left.page.eq(~carried.page),
            ]
        still_begun = Cat(
            beat.begun[after - 1]
            | Cat(
                begun[before - 1] & beat.pieces[n] for n, (before, its_after) in enumerate(PIECES) if its_after == after
            ).any()
            for after in range(1, len(BEGIN))
        )
        m.d.comb += [
            carry.next.token.eq(left),
            carry.next.token.older.eq(Mux(beat.last, left.open, left.older)),
            carry.next.begun.eq(Mux(beat.gap, 0, still_begun)),
        ]

        out = Signal(field_beat(lanes), name="tokenized")
        m.d.comb += [
            *(
                out[name].eq(beat[name])
                for name in ("count", "timestamp", "flow", "last", "fragment", "gap", "missing", "ends")
            ),
            out.overrun.eq(overrun),
            out.cut.eq(Mux(beat.gap, beat.position, cut)),
            out.cut_older.eq(merged.older),
            out.stamp.eq(left.open & ~left.older),
            out.stamp_page.eq(left.page),
        ]
        for k, token in enumerate([first, *fresh[: ends - 1]]):
            self._end(m, out.fields[k], token, beat, k)
        with m.If(self.advance):
            m.d.sync += [self.o_valid.eq(segmenter.o_valid), self.o.eq(out)]
        return m

    @staticmethod
    def _end(m, field, token, beat, k):
        segment = beat.segments[k]
        m.d.comb += [
            *(
                field[name].eq(token[name])
                for name in (
                    "first", "older", "page", "tag", "tag_count", "value_count", "crc", "sum", "begin", "begin_position",
                    "sum_from_begin",
                )
            ),
            field.tag_bad.eq(
                token.tag_bad | ~token.in_value | (token.tag_count == 0) | (token.tag_count > MOST_TAG_DIGITS)
            ),
            field.end.eq((beat.position + segment.stop_lane)[:POSITION_BITS]),
            field.stop_lane.eq(segment.stop_lane),
            field.stop.eq(segment.stop),
            *(field.number[name].eq(token[name]) for name in ("whole", "over", "fraction", "finer", "negative", "point")),
            field.number.bad.eq(token.odd),
            field.number.length.eq(Mux(token.value_count > MOST_CHARACTERS, MOST_CHARACTERS + 1, token.value_count)),
            field.begin_at_first.eq(segment.begin & (segment.begin_lane == segment.first_lane) if k else 0),
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
    def _fresh(m, k, beat):
        """A field that begins in segment ``k``."""
        token, segment = Signal(Token, name=f"fresh{k}"), beat.segments[k]
        fraction_count = Mux(segment.point, segment.fraction_count, 0)
        m.d.comb += [
            token.open.eq(segment.used),
            token.first.eq((beat.position + segment.first_lane)[:POSITION_BITS]),
            token.length.eq(segment.stop_lane - segment.first_lane),
            token.tag.eq(segment.tag),
            token.tag_count.eq(segment.tag_count),
            token.tag_bad.eq(segment.tag_bad | segment.tag_zero),
            token.in_value.eq(segment.in_value),
            token.value_count.eq(segment.value_count),
            token.whole.eq(segment.whole),
            token.fraction.eq(Mux(segment.point, segment.fraction.as_value(), 0)),
            token.fraction_count.eq(fraction_count),
            token.negative.eq(segment.minus_first),
            token.point.eq(segment.point),
            token.odd.eq(segment.odd),
            token.crc.eq(segment.text),
            token.sum.eq(segment.sum_behind - segment.sum_before),
            token.begin.eq(segment.begin),
            token.begin_position.eq((beat.position + segment.begin_lane)[:POSITION_BITS]),
            token.sum_from_begin.eq(segment.sum_behind - segment.sum_before_begin),
        ]
        return token

    @staticmethod
    def _merge(m, carried, begun, beat):
        """The field that was left open, with the bytes of the first segment."""
        token, segment = Signal(Token, name="merged"), beat.segments[0]
        lanes = len(segment.whole)

        # BEGIN may have begun in an earlier beat.
        completed, added = Signal(len(BEGIN) - 1), Signal(8)
        m.d.comb += [
            # A field that begins behind an overrun has not all of what was begun.
            completed.eq(begun & beat.completes & Cat(carried.length >= n for n in range(1, len(BEGIN)))),
            token.open.eq(carried.open | segment.used),
            token.older.eq(carried.older),
            token.page.eq(carried.page),
            token.first.eq(carried.first),
            added.eq(segment.sum_behind - segment.sum_before),
            token.sum.eq(carried.sum + added),
            token.begin.eq(carried.begin),
            token.begin_position.eq(carried.begin_position),
            token.sum_from_begin.eq(carried.sum_from_begin + added),
        ]
        for n in range(1, len(BEGIN)):
            with m.If(completed[n - 1]):
                m.d.comb += [
                    token.begin_position.eq(beat.position - n),
                    token.sum_from_begin.eq(sum(BEGIN[:n]) + added),
                ]
        with m.If(completed.any()):
            m.d.comb += token.begin.eq(1)
        with m.If(segment.begin):
            m.d.comb += [
                token.begin.eq(1),
                token.begin_position.eq((beat.position + segment.begin_lane)[:POSITION_BITS]),
                token.sum_from_begin.eq(segment.sum_behind - segment.sum_before_begin),
            ]

        # The tag, and how long the value is.
        tag_count = carried.tag_count + segment.tag_count
        shifted_tag = select(
            [carried.tag.as_value() << (4 * n) for n in range(TAG_DIGITS + 1)], segment.tag_count, 4 * TAG_DIGITS
        )
        m.d.comb += [
            token.tag.eq(shifted_tag | segment.tag.as_value()),
            token.tag_count.eq(Mux(tag_count > MOST_TAG_DIGITS, MOST_TAG_DIGITS + 1, tag_count)),
            token.tag_bad.eq(carried.tag_bad | segment.tag_bad | (segment.tag_zero & (carried.tag_count == 0))),
            token.in_value.eq(carried.in_value | segment.in_value),
            token.value_count.eq(carried.value_count + segment.value_count),
            token.crc.eq(crc64_append(m, "crc", carried.crc, segment.text.as_value(), segment.value_count, lanes)),
        ]

        # The number. Once the point has come, all digits are of the fraction.
        counted = segment.whole_count
        whole = select([carried.whole.as_value() << (4 * n) for n in range(lanes + 1)], counted, 4 * WHOLE_DIGITS)
        high = [Cat(digit != 0 for digit in list(carried.whole)[WHOLE_DIGITS - n :]).any() for n in range(1, lanes + 1)]
        base = carried.fraction_count
        fraction = select(
            [segment.fraction.as_value() << (4 * n) for n in range(FRACTION_DIGITS + 1)], base, 4 * FRACTION_DIGITS
        )
        low = [
            Cat(digit != 0 for digit in list(segment.fraction)[FRACTION_DIGITS - n :]).any()
            for n in range(FRACTION_DIGITS + 1)
        ]
        count = Signal(5, name="fraction_count")
        m.d.comb += [
            count.eq(carried.fraction_count + segment.fraction_count),
            token.point.eq(carried.point | segment.point),
            token.negative.eq(carried.negative | (segment.minus_first & (carried.value_count == 0))),
            token.odd.eq(
                carried.odd
                | segment.odd
                | (segment.minus_first & (carried.value_count != 0))
                | (carried.point & segment.point)
            ),
            token.whole.eq(carried.whole),
            token.over.eq(carried.over),
            token.fraction.eq(carried.fraction),
            token.fraction_count.eq(carried.fraction_count),
            token.finer.eq(carried.finer),
        ]
        with m.If(~carried.point):
            m.d.comb += [
                token.whole.eq(whole | segment.whole.as_value()),
                token.over.eq(carried.over | select([Const(0, 1), *high], counted, 1)),
            ]
        with m.If(carried.point | segment.point):
            m.d.comb += [
                token.fraction.eq(carried.fraction.as_value() | fraction),
                token.finer.eq(carried.finer | select(low, base, 1)),
                token.fraction_count.eq(Mux(count > FRACTION_DIGITS, FRACTION_DIGITS + 1, count)),
            ]
        return token
