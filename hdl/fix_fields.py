"""The fields of one FIX message, read from its bytes (docs/fix.md, "Fields")."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES
from hdl.crc64 import crc64_append
from hdl.fix_tags import SOH
from hdl.fixed_point import FRACTION_DIGITS, MOST_CHARACTERS, WHOLE_DIGITS, Decimal
from hdl.limits import MESSAGE_LIMIT

TAG_DIGITS = 4
"""Digits of the longest tag that anything is done with."""

PLACE_BITS = (2 * MESSAGE_LIMIT - 1).bit_length()
"""Places in a message. Twice the longest one: what is added to a place stays above it."""

RawField = data.StructLayout(
    {
        "final": 1,
        "tag": 4 * TAG_DIGITS,
        "tag_over": 1,
        "number": Decimal,
        "character": 8,
        "first": PLACE_BITS,
        "value_at": PLACE_BITS,
        "soh_at": PLACE_BITS,
        "crc": 64,
        "text": 64,
        "soh_lane": range(LANES),
    }
)
"""A field that has ended. ``tag``: its last four digits; ``tag_over``: there is one other than 0 before them. ``character``: the
value's first. Places (``first`` byte of the field, first byte of the value, the SOH) count from the message's beginning.
``crc``: CRC-64 of the value's bytes in earlier beats; those in the beat with the SOH, which is at ``soh_lane``, stand in
``text`` at their lanes, lane 0 in the highest byte. ``final``: the message ends here."""

Run = data.StructLayout(
    {
        "tag": data.ArrayLayout(4, TAG_DIGITS),
        "tag_over": 1,
        "tag_count": range(TAG_DIGITS + 1),
        "equals": 1,
        "value_lane": range(LANES + 1),
        "whole": data.ArrayLayout(4, LANES),
        "whole_count": range(LANES + 1),
        "fraction": data.ArrayLayout(4, LANES),
        "fraction_count": range(LANES + 1),
        "value_count": range(LANES + 1),
        "begins_value": 1,
        "character": 8,
        "negative": 1,
        "point": 1,
        "bad": 1,
        "text": 64,
    }
)
"""A beat's share of one field, each kind of digits together: ``tag`` and ``whole`` with the last one in [0], ``fraction``
with the first one in [0]. ``tag_count`` stands at four for any more. ``value_lane`` is the lane behind the ``=``."""

LaneKinds = data.StructLayout(
    dict.fromkeys(("tag", "equals", "whole", "point", "fraction", "value", "begins", "bad", "minus"), LANES)
)
"""Which lanes of a beat are what of one field. ``begins``: the value's first; ``bad``: no part of a number."""


def before(lanes):
    """Of each lane: whether one below it is set."""
    return Cat(lanes[:lane].any() for lane in range(LANES))


def last_of(lanes):
    """The highest lane of a run."""
    return lanes & ~(lanes >> 1)


def first_of(lanes):
    """The lowest lane of a run."""
    return lanes & ~(lanes << 1)[:LANES]


class FixFields(wiring.Component):
    """Bytes of well-formed messages to fields, one field a cycle, eight bytes a cycle.

    Everything moves with ``enable``. A beat in which more fields end takes a cycle for each: until then ``ready`` is low. The field is
    there five cycles after its last byte was taken. A field that the message's end cuts off is one, too.
    """

    enable: In(1)
    valid: In(1)
    ready: Out(1)
    bytes: In(data.ArrayLayout(8, LANES))
    count: In(range(LANES + 1))
    last: In(1)
    field: Out(RawField)
    field_valid: Out(1)

    def elaborate(self, platform):
        m = Module()
        enable = self.enable

        # Classified: which lanes hold which characters, and which were not cut off yet.
        lanes = [self.bytes[lane] for lane in range(LANES)]
        live = Cat(lane < self.count for lane in range(LANES))
        valid1, last1, number1 = Signal(), Signal(), Signal(PLACE_BITS - 3)
        bytes1 = Signal(data.ArrayLayout(8, LANES))
        soh, equals, point, minus, digit, pending = (Signal(LANES) for _ in range(6))
        more = Signal()
        behind_soh = before(soh)
        m.d.comb += [
            more.eq((soh & behind_soh).any()),
            self.ready.eq(~(valid1 & more)),
        ]
        with m.If(enable):
            with m.If(self.ready):
                m.d.sync += [
                    valid1.eq(self.valid),
                    last1.eq(self.last),
                    bytes1.eq(self.bytes),
                    soh.eq(Cat(byte == SOH for byte in lanes) & live),
                    equals.eq(Cat(byte == ord("=") for byte in lanes)),
                    point.eq(Cat(byte == ord(".") for byte in lanes)),
                    minus.eq(Cat(byte == ord("-") for byte in lanes)),
                    digit.eq(Cat((byte >= ord("0")) & (byte <= ord("9")) for byte in lanes)),
                    pending.eq(live),
                ]
                with m.If(valid1):
                    m.d.sync += number1.eq(Mux(last1, 0, number1 + 1))
            with m.Else():
                m.d.sync += [soh.eq(soh & behind_soh), pending.eq(pending & behind_soh)]

        # Cut: the lanes up to the first SOH end a field (`head`); those behind it begin one (`tail`), unless it ends here too.
        valid2, ends2, final2 = Signal(), Signal(), Signal()
        number2, bytes2 = Signal.like(number1), Signal.like(bytes1)
        head, tail, soh2, equals2, point2, minus2, digit2 = (Signal(LANES) for _ in range(7))
        with m.If(enable):
            m.d.sync += [
                valid2.eq(valid1),
                ends2.eq(soh.any() | last1),
                final2.eq(last1 & ~more),
                number2.eq(number1),
                bytes2.eq(bytes1),
                head.eq(pending & ~behind_soh & ~soh),
                tail.eq(pending & behind_soh & ~(more | last1).replicate(LANES)),
                soh2.eq(soh & ~behind_soh),
                equals2.eq(equals),
                point2.eq(point),
                minus2.eq(minus),
                digit2.eq(digit),
            ]

        # Parsed: which lanes are what. The state is that of the unfinished field.
        in_value, in_fraction, value_next = Signal(), Signal(), Signal()
        valid3, ends3, final3 = Signal(), Signal(), Signal()
        number3, bytes3, soh3, digits3 = (
            Signal.like(number1),
            Signal.like(bytes1),
            Signal(LANES),
            Signal.like(self.bytes),
        )
        kinds = []
        for name, part, carried_value, carried_fraction, carried_next in (
            ("head", head, in_value, in_fraction, value_next),
            ("tail", tail, Const(0), Const(0), Const(0)),
        ):
            kind = Signal(LaneKinds, name=f"{name}_kinds")
            found = Signal(LaneKinds, name=f"{name}_found")
            behind_equals = before(equals2 & part) | carried_value.replicate(LANES)
            behind_point = before(point2 & part) | carried_fraction.replicate(LANES)
            m.d.comb += [
                found.tag.eq(part & ~behind_equals & ~equals2),
                found.equals.eq(part & ~behind_equals & equals2),
                found.value.eq(part & behind_equals),
                found.whole.eq(found.value & ~behind_point & ~point2),
                found.point.eq(found.value & ~behind_point & point2),
                found.fraction.eq(found.value & behind_point),
                found.begins.eq(part & Cat(carried_next, found.equals[:-1])),
                found.minus.eq(found.begins & minus2),
                found.bad.eq(found.value & ~digit2 & ~found.point & ~found.minus),
            ]
            with m.If(enable):
                m.d.sync += kind.eq(found)
            kinds.append((kind, found))
        (head3, head_found), (tail3, tail_found) = kinds
        with m.If(enable):
            m.d.sync += [
                valid3.eq(valid2),
                ends3.eq(ends2),
                final3.eq(final2),
                number3.eq(number2),
                bytes3.eq(bytes2),
                soh3.eq(soh2),
                *(digits3[lane].eq(Mux(digit2[lane], bytes2[lane][:4], 0)) for lane in range(LANES)),
            ]
        with m.If(enable & valid2):
            with m.If(ends2):
                m.d.sync += [
                    in_value.eq((equals2 & tail).any()),
                    in_fraction.eq((point2 & tail).any()),
                    value_next.eq(tail_found.equals[-1]),
                ]
            with m.Else():
                m.d.sync += [
                    in_value.eq(in_value | (equals2 & head).any()),
                    in_fraction.eq(in_fraction | (point2 & head).any()),
                    value_next.eq(head_found.equals[-1]),
                ]

        # Compact: each kind of digits together.
        valid4, ends4, final4 = Signal(), Signal(), Signal()
        number4, soh_lane4 = Signal.like(number1), Signal(range(LANES))
        head4, tail4 = Signal(Run), Signal(Run)
        with m.If(enable):
            m.d.sync += [
                valid4.eq(valid3),
                ends4.eq(ends3),
                final4.eq(final3),
                number4.eq(number3),
                soh_lane4.eq(_lane_of(soh3)),
                *self._compact(head4, head3, bytes3, digits3, range(LANES), range(LANES)),
                # Before the tail's value come an SOH, a tag and the `=`; before its fraction a digit or a sign, and the point.
                *self._compact(tail4, tail3, bytes3, digits3, range(3, LANES), range(4, LANES)),
            ]

        # Merged: the head goes to what is carried; where that ends, the tail is carried.
        carried, merged = Signal(RawField), Signal(RawField)
        fraction_places, merged_places = Signal(range(FRACTION_DIGITS + 1)), Signal(range(FRACTION_DIGITS + 1))
        soh_at = Cat(soh_lane4, number4)
        self._merge(m, merged, merged_places, carried, fraction_places, head4, number4)
        m.d.comb += [merged.final.eq(final4), merged.soh_at.eq(soh_at), merged.soh_lane.eq(soh_lane4)]
        with m.If(enable):
            m.d.sync += [self.field_valid.eq(valid4 & ends4), self.field.eq(merged)]
            m.d.sync += [self.field.crc.eq(carried.crc), self.field.text.eq(head4.text)]
        with m.If(enable & valid4):
            m.d.sync += [carried.eq(merged), fraction_places.eq(merged_places)]
            with m.If(ends4):
                m.d.sync += [
                    carried.tag.eq(tail4.tag),
                    carried.tag_over.eq(tail4.tag_over),
                    carried.character.eq(tail4.character),
                    carried.first.eq(Mux(final4, 0, soh_at + 1)),
                    carried.value_at.eq(_place(number4, tail4.value_lane)),
                    carried.crc.eq(tail4.text),
                    carried.number.eq(0),
                    carried.number.negative.eq(tail4.negative),
                    carried.number.point.eq(tail4.point),
                    carried.number.bad.eq(tail4.bad),
                    carried.number.length.eq(tail4.value_count),
                    *(carried.number.whole[n].eq(tail4.whole[n]) for n in range(LANES)),
                    *(carried.number.fraction[n].eq(tail4.fraction[n]) for n in range(LANES)),
                    fraction_places.eq(tail4.fraction_count),
                ]
        return m

    @staticmethod
    def _compact(run, kinds, text, digits, value_lanes, fraction_lanes):
        """Statements for ``run``: the lanes of each of ``kinds`` together; value and fraction are within these lanes."""

        def ending(lanes, within):
            """The run's digits, the last one in [0]."""
            end = last_of(lanes)
            kept = {n: Mux(lanes[n], digits[n][:4], 0) for n in within}
            return [
                _any_of(end[n].replicate(4) & kept[n - place] for n in within if n - place in kept)
                for place in range(len(within))
            ]

        def beginning(lanes, within):
            """The run's digits, the first one in [0]."""
            begin = first_of(lanes)
            kept = {n: Mux(lanes[n], digits[n][:4], 0) for n in within}
            return [
                _any_of(begin[n].replicate(4) & kept[n + place] for n in within if n + place in kept)
                for place in range(len(within))
            ]

        def count(lanes, within):
            return sum(lanes[n] for n in within)

        tag, tag_count = ending(kinds.tag, range(LANES)), count(kinds.tag, range(LANES))
        whole, fraction = ending(kinds.whole, value_lanes), beginning(kinds.fraction, fraction_lanes)
        return [
            *(run.tag[n].eq(tag[n]) for n in range(TAG_DIGITS)),
            run.tag_over.eq(Cat(tag[TAG_DIGITS:]).any()),
            run.tag_count.eq(Mux(tag_count >= TAG_DIGITS, TAG_DIGITS, tag_count)),
            run.equals.eq(kinds.equals.any()),
            run.value_lane.eq(_lane_of(kinds.equals) + 1),
            *(run.whole[n].eq(digit) for n, digit in enumerate(whole)),
            run.whole_count.eq(count(kinds.whole, value_lanes)),
            *(run.fraction[n].eq(digit) for n, digit in enumerate(fraction)),
            run.fraction_count.eq(count(kinds.fraction, fraction_lanes)),
            run.value_count.eq(count(kinds.value, value_lanes)),
            run.begins_value.eq(kinds.begins.any()),
            run.character.eq(_any_of(kinds.begins[n].replicate(8) & text[n] for n in value_lanes)),
            run.negative.eq(kinds.minus.any()),
            run.point.eq(kinds.point.any()),
            run.bad.eq(kinds.bad.any()),
            *(run.text.word_select(LANES - 1 - n, 8).eq(Mux(kinds.value[n], text[n], 0)) for n in value_lanes),
        ]

    @staticmethod
    def _merge(m, merged, merged_places, carried, places, run, beat):
        """``merged``: the field ``carried``, of whose fraction so many ``places`` came, with the bytes of ``run``."""
        before, after = carried.number, merged.number
        length = Signal(range(MOST_CHARACTERS + LANES + 2))
        filled = Signal(range(FRACTION_DIGITS + LANES + 1))
        whole, tag, fraction = before.whole.as_value(), carried.tag, run.fraction.as_value()
        not_zero = Cat(digit != 0 for digit in before.whole)
        m.d.comb += [
            merged.tag.eq(
                Array((tag << (4 * n))[: 4 * TAG_DIGITS] for n in range(TAG_DIGITS + 1))[run.tag_count]
                | run.tag.as_value()
            ),
            merged.tag_over.eq(
                carried.tag_over
                | run.tag_over
                | Array((tag >> (4 * (TAG_DIGITS - n))) != 0 for n in range(TAG_DIGITS + 1))[run.tag_count]
            ),
            merged.character.eq(Mux(run.begins_value, run.character, carried.character)),
            merged.first.eq(carried.first),
            merged.value_at.eq(Mux(run.equals, _place(beat, run.value_lane), carried.value_at)),
            # In a beat in which the value neither begins nor ends, it has all lanes; where it begins, `carried` is empty.
            merged.crc.eq(crc64_append(m, "crc", carried.crc, run.text, Const(LANES), LANES)),
            after.negative.eq(before.negative | run.negative),
            after.point.eq(before.point | run.point),
            after.bad.eq(before.bad | run.bad),
            length.eq(before.length + run.value_count),
            after.length.eq(Mux(length > MOST_CHARACTERS, MOST_CHARACTERS + 1, length)),
            after.whole.eq(
                Array((whole << (4 * n))[: 4 * WHOLE_DIGITS] for n in range(LANES + 1))[run.whole_count]
                | run.whole.as_value()
            ),
            after.over.eq(
                before.over | Array(not_zero[WHOLE_DIGITS - n :].any() for n in range(LANES + 1))[run.whole_count]
            ),
            filled.eq(places + run.fraction_count),
            merged_places.eq(Mux(filled > FRACTION_DIGITS, FRACTION_DIGITS, filled)),
            after.fraction.eq(
                before.fraction.as_value()
                | Array((fraction << (4 * n))[: 4 * FRACTION_DIGITS] for n in range(FRACTION_DIGITS + 1))[places]
            ),
            after.finer.eq(
                before.finer
                | Array((fraction >> (4 * (FRACTION_DIGITS - n))) != 0 for n in range(FRACTION_DIGITS + 1))[places]
            ),
        ]


def _any_of(values):
    result = Const(0)
    for value in values:
        result = result | value
    return result


def _lane_of(one_hot):
    """The number of the lane that is set."""
    return Cat(Cat(one_hot[n] for n in range(LANES) if n >> bit & 1).any() for bit in range(3))


def _place(beat, lane):
    return (Cat(Const(0, 3), beat) + lane)[:PLACE_BITS]
