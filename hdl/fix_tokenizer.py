"""FIX bytes to fields, eight bytes a cycle (docs/fix.md, "Fields")."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import LANES, POSITION_BITS, PayloadBeat
from hdl.fix_tags import BEGIN, SOH
from hdl.flow_state import FlowState
from hdl.limits import FIELD_LIMIT, FLOWS

TAG_DIGITS = 4
"""Digits kept of a tag. Tags that the frame carries have at most two, no used tag has more than four."""
NUMBER_CHARACTERS = 20
"""Characters kept of a value for conversion: sign, 18 digits, decimal point."""

POINT = 0xE
MINUS = 0xD
NO_DIGIT = 0xF

Token = data.StructLayout(
    {
        "first": POSITION_BITS,
        "timestamp": 64,
        "tag": data.ArrayLayout(4, TAG_DIGITS),
        "tag_digits": unsigned(4),
        "tag_bad": 1,
        "in_value": 1,
        "value": POSITION_BITS,
        "value_length": unsigned(12),
        "characters": data.ArrayLayout(4, NUMBER_CHARACTERS),
        "crc": 64,
        "sum": 8,
        "begin": 1,
        "begin_position": POSITION_BITS,
        "sum_before_begin": 8,
    }
)
"""What is known of a field so far.

``tag``: the last digits, the lowest first. ``in_value``: the ``=`` came. ``characters``: the last characters of the
value, the last one first: a digit as itself, else POINT, MINUS or NO_DIGIT. ``crc``: CRC-64 of the value, which for up to eight
characters is their text. ``sum``: of all bytes, modulo 256."""

Field = data.StructLayout({"valid": 1, "unterminated": 1, "end": POSITION_BITS, "token": Token})
"""A field that has ended; ``end`` is the position behind its last byte."""

FieldBeat = data.StructLayout(
    {
        "fields": data.ArrayLayout(Field, 2),
        "flow": range(FLOWS),
        "last": 1,
        "fragment": 1,
    }
)
"""The fields that ended in one beat, in their order: none, the first, or both. ``last`` ends the packet."""

Segment = data.StructLayout(
    {
        "used": 1,
        "ends": 1,
        "unterminated": 1,
        "length": unsigned(4),
        "tag_count": unsigned(4),
        "tag": data.ArrayLayout(4, LANES),
        "tag_zero": 1,
        "tag_bad": 1,
        "equals": 1,
        "value_offset": unsigned(4),
        "value_count": unsigned(4),
        "value_bytes": 64,
        "value_count_whole": unsigned(4),
        "value_bytes_whole": 64,
        "sum": 8,
        "begin": 1,
        "begin_offset": unsigned(4),
        "sum_before_begin": 8,
    }
)
"""A beat's share of one field. Of each kind of content there are two versions, because only the next stage
knows whether the field's ``=`` came in an earlier beat: ``value_*`` counts from this segment's own ``=``,
``value_*_whole`` takes the whole segment for value. ``begin_offset`` counts from four bytes before the segment."""

SegmentBeat = data.StructLayout(
    {
        "segments": data.ArrayLayout(Segment, 3),
        "position": POSITION_BITS,
        "timestamp": 64,
        "flow": range(FLOWS),
        "last": 1,
        "fragment": 1,
    }
)


def crc64_append(state, text, count):
    """CRC-64 of ``state``'s text with ``count`` (0 to 8) more bytes, right-justified in ``text``.

    x^64 = x^4 + x^3 + x + 1, so what is shifted out of 64 bits comes back at four places, and the
    four bits which that shifts out once more.
    """
    wide = Signal(128)
    once = Cat(wide[64:], Const(0, 4)) ^ (wide[64:] << 1)[:68] ^ (wide[64:] << 3)[:68] ^ (wide[64:] << 4)[:68]
    folded = Signal(68)
    over = folded[64:]
    twice = over ^ (over << 1) ^ (over << 3) ^ (over << 4)
    shifted = Array([(state << (8 * n))[:128] for n in range(LANES + 1)])[count]
    return [wide.eq(shifted ^ text), folded.eq(wide[:64] ^ once)], (folded[:64] ^ twice)[:64]


class Segmenter(wiring.Component):
    """Cuts a beat at the ends of its fields, into at most three segments: two that end, and what is left.

    A beat with more than two ends (no well-formed FIX has that: the shortest field is ``1=x|``) takes a
    cycle more for each two. Latency 1 cycle.
    """

    i: In(stream.Signature(PayloadBeat))
    o: Out(stream.Signature(SegmentBeat))

    def elaborate(self, platform):
        m = Module()

        beat = self.i.payload
        byte = [beat.data[lane] for lane in range(LANES)]

        # Of each flow: bytes of the unfinished field, and its last four.
        layout = data.StructLayout({"length": unsigned(12), "window": data.ArrayLayout(8, 4)})
        m.submodules.carry = carry = FlowState(layout)
        carried = Signal(layout)
        m.d.comb += [carry.flow.eq(beat.flow), carried.eq(carry.state)]

        # Lanes before `done` were taken in an earlier cycle.
        done = Signal(4)
        live = Signal(LANES)
        m.d.comb += live.eq(Cat((lane >= done) & (lane < beat.count) for lane in range(LANES)))

        soh = Signal(LANES)
        m.d.comb += soh.eq(Cat(byte[lane] == SOH for lane in range(LANES)) & live)

        # A field without SOH ends at the limit; the lane where that happens, if it is in this beat.
        room = Signal(12)
        m.d.comb += room.eq(FIELD_LIMIT - 1 - carried.length)
        forced = Signal(LANES)
        for lane in range(LANES):
            m.d.comb += forced[lane].eq((room == lane) & (done == 0) & live[lane] & ~soh[: lane + 1].any())

        ends = Signal(LANES)
        first_end = Signal(LANES)
        second_end = Signal(LANES)
        m.d.comb += [
            ends.eq(soh | forced),
            first_end.eq(ends & -ends),
            second_end.eq((ends ^ first_end) & -(ends ^ first_end)),
        ]
        more = Signal()
        m.d.comb += more.eq((ends ^ first_end ^ second_end).any())

        # Segment boundaries: [starts[k], stops[k]).
        def behind(one_hot, otherwise):
            value = Signal(4)
            m.d.comb += value.eq(otherwise)
            for lane in range(LANES):
                with m.If(one_hot[lane]):
                    m.d.comb += value.eq(lane + 1)
            return value

        starts = [done, behind(first_end, beat.count), behind(second_end, beat.count)]
        stops = [starts[1], starts[2], Signal(4)]
        m.d.comb += stops[2].eq(Mux(more, starts[2], beat.count))
        ending = [first_end, second_end, Const(0, LANES)]

        window = [carried.window[k] for k in range(4)] + byte
        matches = Signal(LANES)
        m.d.comb += matches.eq(
            Cat(
                Cat(window[lane + k] == BEGIN[k] for k in range(len(BEGIN))).all() & live[lane] for lane in range(LANES)
            )
        )
        sums = [Const(0, 8)]
        for lane in range(LANES):
            total = Signal(8)
            m.d.comb += total.eq(sums[-1] + byte[lane])
            sums.append(total)
        sums_at = Array(sums)
        # Sum of the bytes before lane `index - 4`; of a begin that started before this beat, less what is known of it.
        sums_before = Array([Const(-sum(BEGIN[: 4 - k]) % 256, 8) for k in range(4)] + sums)

        out = Signal(SegmentBeat)
        m.d.comb += [
            out.position.eq(beat.position + done),
            out.timestamp.eq(beat.timestamp),
            out.flow.eq(beat.flow),
            out.last.eq(beat.last & ~more),
            out.fragment.eq(beat.fragment),
        ]
        for k, segment in enumerate(out.segments):
            start, stop, end = starts[k], stops[k], ending[k]
            inside = Signal(LANES, name=f"inside{k}")
            content = Signal(LANES, name=f"content{k}")
            m.d.comb += [
                inside.eq(Cat((lane >= start) & (lane < stop) for lane in range(LANES))),
                content.eq(inside & ~(end & soh)),
            ]
            equals = Signal(LANES, name=f"equals{k}")
            first_equals = Signal(LANES, name=f"first_equals{k}")
            tag = Signal(LANES, name=f"tag_lanes{k}")
            value = Signal(LANES, name=f"value_lanes{k}")
            m.d.comb += [
                equals.eq(Cat(byte[lane] == ord("=") for lane in range(LANES)) & content),
                first_equals.eq(equals & -equals),
                tag.eq(Mux(equals.any(), (first_equals - 1) & content, content)),
                value.eq(Mux(equals.any(), content & ~tag & ~first_equals, 0)),
            ]
            digit = Cat((byte[lane] >= ord("0")) & (byte[lane] <= ord("9")) for lane in range(LANES))
            zero = Cat(byte[lane] == ord("0") for lane in range(LANES))

            def count(lanes, name):
                number = Signal(4, name=name)
                m.d.comb += number.eq(sum(lanes[lane] for lane in range(LANES)))
                return number

            def right_justified(lanes, width, name):
                """The lanes' low ``width`` bits, the last lane's lowest."""
                packed = Signal(width * LANES, name=name)
                for top in range(LANES):
                    with m.If(lanes[top] & ~(lanes >> (top + 1)).any()):
                        m.d.comb += packed.eq(
                            Cat(
                                byte[top - n][:width] & lanes[top - n].replicate(width) if top >= n else Const(0, width)
                                for n in range(LANES)
                            )
                        )
                return packed

            tag_count = count(tag, f"tag_count{k}")
            value_count = count(value, f"value_count{k}")
            content_count = count(content, f"content_count{k}")
            lowest_tag = tag & -tag
            m.d.comb += [
                segment.used.eq(inside.any()),
                segment.ends.eq(end.any()),
                segment.unterminated.eq((end & ~soh).any()),
                segment.length.eq(stop - start),
                segment.tag_count.eq(tag_count),
                segment.tag.eq(right_justified(tag, 4, f"tag{k}")),
                segment.tag_zero.eq((lowest_tag & zero).any()),
                segment.tag_bad.eq((tag & ~digit).any()),
                segment.equals.eq(equals.any()),
                segment.value_offset.eq(tag_count + 1),
                segment.value_count.eq(value_count),
                segment.value_bytes.eq(right_justified(value, 8, f"value{k}")),
                segment.value_count_whole.eq(content_count),
                segment.value_bytes_whole.eq(right_justified(content, 8, f"whole{k}")),
                segment.sum.eq(sums_at[stop] - sums_at[start]),
            ]
            for lane in range(LANES):
                # A begin lies wholly within its field: in this segment, or reaching back into what was carried.
                reach = lane >= start + 4
                if k == 0:
                    reach = Mux(done == 0, carried.length + lane >= 4, reach)
                with m.If(matches[lane] & inside[lane] & reach):
                    m.d.comb += [
                        segment.begin.eq(1),
                        segment.begin_offset.eq(lane - start),
                        segment.sum_before_begin.eq(sums_before[lane] - sums_at[start]),
                    ]

        # Carry: the window needs no reset, since `length` bounds how far back a begin may reach.
        recent = [Array(window[k : k + LANES + 1])[beat.count] for k in range(4)]
        left = Signal(12)
        with m.If(second_end.any()):
            m.d.comb += left.eq(beat.count - starts[2])
        with m.Elif(first_end.any()):
            m.d.comb += left.eq(beat.count - starts[1])
        with m.Else():
            m.d.comb += left.eq(Mux(done == 0, carried.length, 0) + beat.count - done)

        advance = Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(advance & ~more),
            carry.next.length.eq(left),
            carry.next.window.eq(Cat(recent)),
            carry.commit.eq(self.i.valid & self.i.ready),
        ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(out)]
            with m.If(self.i.valid):
                m.d.sync += done.eq(Mux(more, starts[2], 0))
        return m


class Tokenizer(wiring.Component):
    """FIX bytes to the fields that end in each beat. Eight bytes a cycle, latency 2 cycles.

    Of each flow the unfinished field is kept, so packets may cut fields anywhere.
    """

    i: In(stream.Signature(PayloadBeat))
    o: Out(stream.Signature(FieldBeat))

    def elaborate(self, platform):
        m = Module()
        m.submodules.segmenter = segmenter = Segmenter()
        wiring.connect(m, wiring.flipped(self.i), segmenter.i)

        beat = segmenter.o.payload
        m.submodules.carry = carry = FlowState(data.StructLayout({"open": 1, "token": Token}))
        m.d.comb += carry.flow.eq(beat.flow)

        opened = Signal(carry.layout)
        m.d.comb += opened.eq(carry.state)

        out = Signal(FieldBeat)
        m.d.comb += [out.flow.eq(beat.flow), out.last.eq(beat.last), out.fragment.eq(beat.fragment)]

        position = [beat.position]
        tokens = []
        for k, segment in enumerate(beat.segments):
            token = Signal(Token, name=f"token{k}")
            before = Signal(Token, name=f"before{k}")
            m.d.comb += before.eq(0)
            if k == 0:
                with m.If(opened.open):
                    m.d.comb += before.eq(opened.token)
                with m.Else():
                    m.d.comb += [before.first.eq(position[k]), before.timestamp.eq(beat.timestamp)]
            else:
                m.d.comb += [before.first.eq(position[k]), before.timestamp.eq(beat.timestamp)]
            self._append(m, token, before, segment, position[k])
            tokens.append(token)
            position.append((position[k] + segment.length)[:POSITION_BITS])

        for k in range(2):
            m.d.comb += [
                out.fields[k].valid.eq(beat.segments[k].ends),
                out.fields[k].unterminated.eq(beat.segments[k].unterminated),
                out.fields[k].end.eq(position[k + 1]),
                out.fields[k].token.eq(tokens[k]),
            ]
        # What is left open: the segment behind the last one that ended.
        m.d.comb += [carry.next.open.eq(beat.segments[0].used), carry.next.token.eq(tokens[0])]
        for k in range(2):
            with m.If(beat.segments[k].ends):
                m.d.comb += [
                    carry.next.open.eq(beat.segments[k + 1].used),
                    carry.next.token.eq(tokens[k + 1]),
                ]

        advance = Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            segmenter.o.ready.eq(advance),
            carry.commit.eq(advance & segmenter.o.valid),
        ]
        with m.If(advance):
            m.d.sync += [self.o.valid.eq(segmenter.o.valid), self.o.payload.eq(out)]
        return m

    @staticmethod
    def _append(m, token, before, segment, position):
        """``token`` is the field ``before`` with the bytes of ``segment``, which begins at ``position``."""
        value_count = Mux(before.in_value, segment.value_count_whole, segment.value_count)
        value_bytes = Mux(before.in_value, segment.value_bytes_whole, segment.value_bytes)
        count = Signal(4)
        text = Signal(64)
        m.d.comb += [count.eq(value_count), text.eq(value_bytes)]

        characters = []
        for n in range(LANES):
            byte = text[8 * n : 8 * n + 8]
            code = Signal(4)
            with m.If((byte >= ord("0")) & (byte <= ord("9"))):
                m.d.comb += code.eq(byte[:4])
            with m.Elif(byte == ord(".")):
                m.d.comb += code.eq(POINT)
            with m.Elif(byte == ord("-")):
                m.d.comb += code.eq(MINUS)
            with m.Else():
                m.d.comb += code.eq(NO_DIGIT)
            characters.append(Mux(n < count, code, 0))
        bits = 4 * NUMBER_CHARACTERS
        shifted = Array([(before.characters.as_value() << (4 * n))[:bits] for n in range(LANES + 1)])[count]

        tag_bits = 4 * TAG_DIGITS
        tags = Array([(before.tag.as_value() << (4 * n))[:tag_bits] for n in range(TAG_DIGITS)] + [Const(0, tag_bits)])
        tag_digits = Signal(5)
        fold, crc = crc64_append(before.crc, text, count)

        m.d.comb += [
            *fold,
            token.first.eq(before.first),
            token.timestamp.eq(before.timestamp),
            token.in_value.eq(before.in_value | segment.equals),
            token.value.eq(Mux(before.in_value, before.value, position + segment.value_offset)),
            token.value_length.eq(before.value_length + count),
            token.characters.eq(shifted | Cat(characters)),
            token.crc.eq(crc),
            token.sum.eq(before.sum + segment.sum),
            token.begin.eq(before.begin | segment.begin),
            token.begin_position.eq(
                Mux(segment.begin, position + segment.begin_offset - (len(BEGIN) - 1), before.begin_position)
            ),
            token.sum_before_begin.eq(
                Mux(segment.begin, before.sum + segment.sum_before_begin, before.sum_before_begin)
            ),
        ]
        with m.If(before.in_value):
            m.d.comb += [
                token.tag.eq(before.tag),
                token.tag_digits.eq(before.tag_digits),
                token.tag_bad.eq(before.tag_bad),
            ]
        with m.Else():
            kept = Mux(segment.tag_count > TAG_DIGITS, TAG_DIGITS, segment.tag_count)[:3]
            m.d.comb += [
                tag_digits.eq(before.tag_digits + segment.tag_count),
                token.tag.eq(tags[kept] | segment.tag.as_value()[:tag_bits]),
                # 10 digits are too many already: stop counting there.
                token.tag_digits.eq(Mux(tag_digits > 10, 10, tag_digits)),
                token.tag_bad.eq(before.tag_bad | segment.tag_bad | ((before.tag_digits == 0) & segment.tag_zero)),
            ]
