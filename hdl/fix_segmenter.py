"""FIX bytes to segments: a beat is cut at the ends of its fields, and what stands in each part is put in order."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS, payload_beat
from hdl.fix_tags import BEGIN, SOH
from hdl.limits import FLOWS

TAG_DIGITS = 4
"""Digits kept of a tag: no tag that is read has more than three."""

BEGIN_REACH = len(BEGIN) - 1
"""Most bytes of BEGIN that stand in earlier beats."""

PIECES = [(before, after) for after in range(2, len(BEGIN)) for before in range(1, after)]
"""A beat of few bytes may take what is there of BEGIN from ``before`` to ``after`` bytes."""


def ends_a_beat(lanes: int) -> int:
    """Most fields that end in a beat of well-formed FIX: the shortest field, ``1=x|``, has 4 bytes."""
    return 2 if lanes > 4 else 1


def segment_layout(lanes: int) -> data.StructLayout:
    """A beat's share of one field. Counts are of bytes.

    ``first_lane`` to ``stop_lane`` are its bytes with the SOH, whose lane's bit is set in ``stop``; the sums are
    those of the beat's bytes before it, up to its end, and before BEGIN. ``tag``: the last digits, the lowest first. ``in_value``: the
    field's ``=`` is here or came before. Of the value: ``whole`` the digits before the first point, the last one
    first; ``fraction`` those behind it, the first one first, or, where no point is here, all digits, for the case that it
    came before. ``text``: its bytes, the last one first. ``minus_first``: its first character here is ``-``; ``odd``: another one
    is no digit and no point, or is a second point. ``begin``: BEGIN stands here from ``begin_lane`` on.
    """
    lane_bits = unsigned(lanes.bit_length())
    return data.StructLayout(
        {
            "first_lane": lane_bits,
            "stop_lane": lane_bits,
            "stop": lanes,
            "used": 1,
            "sum_before": 8,
            "sum_behind": 8,
            "tag": data.ArrayLayout(4, TAG_DIGITS),
            "tag_count": lane_bits,
            "tag_zero": 1,
            "tag_bad": 1,
            "in_value": 1,
            "value_count": lane_bits,
            "text": data.ArrayLayout(8, lanes),
            "whole": data.ArrayLayout(4, lanes),
            "whole_count": lane_bits,
            "point": 1,
            "fraction": data.ArrayLayout(4, lanes),
            "fraction_count": lane_bits,
            "minus_first": 1,
            "odd": 1,
            "begin": 1,
            "begin_lane": lane_bits,
            "sum_before_begin": 8,
        }
    )


def segment_beat(lanes: int) -> data.StructLayout:
    """The segments of a beat: those that end in it (``ends``), and behind them the one that is left open.

    A beat with more ends than ``ends_a_beat`` comes as several, of which only the last has a ``count`` and may be the
    packet's ``last``. ``completes``, ``pieces`` and ``begun`` are about a BEGIN that packets or beats cut: the beat's first bytes are
    all that lacks behind so many bytes of it, or take it from so many to so many, or its last bytes are so many of it.
    """
    ends = ends_a_beat(lanes)
    return data.StructLayout(
        {
            "segments": data.ArrayLayout(segment_layout(lanes), ends + 1),
            "ends": ends,
            "more": 1,
            "position": POSITION_BITS,
            "count": unsigned(lanes.bit_length()),
            "timestamp": 64,
            "flow": range(FLOWS),
            "last": 1,
            "fragment": 1,
            "gap": 1,
            "missing": MISSING_BITS,
            "completes": BEGIN_REACH,
            "pieces": len(PIECES),
            "begun": BEGIN_REACH,
        }
    )


def _justified(m: Module, name: str, values, mask, count: int, *, last_first: bool) -> Signal:
    """The ``values`` of the lanes of ``mask`` (a run of lanes): the last ``count`` of them, the last one first, or the
    first ``count``, the first one first. 0 where there are fewer."""
    lanes = len(values)
    width = len(values[0])
    order = range(lanes) if last_first else range(lanes - 1, -1, -1)
    step = -1 if last_first else 1
    justified = Signal(data.ArrayLayout(width, count), name=name)
    ahead = (mask >> 1) if last_first else (mask << 1)[:lanes]
    edge = Signal(lanes, name=f"{name}_edge")
    m.d.comb += edge.eq(mask & ~ahead)
    for place in range(count):
        terms = []
        for lane in order:
            source = lane + step * place
            if 0 <= source < lanes:
                chosen = Signal(name=f"{name}_{place}_{lane}")
                m.d.comb += chosen.eq(edge[lane] & mask[source])
                terms.append(values[source] & chosen.replicate(width))
        m.d.comb += justified[place].eq(_any_of(terms, width))
    return justified


def _any_of(terms, width):
    total = Const(0, width)
    for term in terms:
        total = total | term
    return total


def _count(mask, lanes):
    return sum(mask[lane] for lane in range(lanes))


def _at_least(bits, number: int):
    """Whether so many of ``bits`` are high."""
    if number <= 0:
        return Const(1)
    if number > len(bits):
        return Const(0)
    if len(bits) == 1:
        return bits[0]
    low, high = bits[: len(bits) // 2], bits[len(bits) // 2 :]
    return _any_of([_at_least(low, n) & _at_least(high, number - n) for n in range(number + 1)], 1)


def _seen_before(sets, clears, at_first=0):
    """For each lane, and behind the last: whether ``sets`` came since ``clears``, in the lanes before it."""
    lanes = len(sets)
    seen = [Value.cast(at_first)]
    # In pairs, so that the chain is half as long.
    for lane in range(0, lanes, 2):
        before = seen[-1]
        seen.append(sets[lane] | (before & ~clears[lane]))
        if lane + 1 < lanes:
            seen.append(
                sets[lane + 1] | (sets[lane] & ~clears[lane + 1]) | (before & ~(clears[lane] | clears[lane + 1]))
            )
    return seen


def _sums_before(m: Module, name: str, values):
    """The sums of the first one of ``values``, the first two and so on, each in few steps."""
    if len(values) == 1:
        return [values[0]]
    half = len(values) // 2
    low, high = _sums_before(m, f"{name}_low", values[:half]), _sums_before(m, f"{name}_high", values[half:])
    sums = [Signal(8, name=f"{name}{n}") for n in range(len(high))]
    m.d.comb += [total.eq(low[-1] + part) for total, part in zip(sums, high, strict=True)]
    return [*low, *sums]


class Segmenter(wiring.Component):
    """Cuts beats into segments. Latency ``LATENCY`` steps; ``ready`` is low while a beat with more ends
    than ``ends_a_beat`` is being cut, a step more for each so many.

    It moves where ``advance`` is high. Of each flow it keeps whether the ``=`` of the unfinished field came. ``coming`` says
    that a beat of ``coming_flow`` is on its way into the first stage.
    """

    LATENCY = 2

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
                "o": Out(segment_beat(lanes)),
                "coming": Out(1),
                "coming_flow": Out(range(FLOWS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, ends = self.lanes, ends_a_beat(self.lanes)
        beat = self.beat

        # ---- Stage 1: what each byte is, and what came before it in the beat.
        kept = Signal(payload_beat(lanes), name="kept")
        kept_valid = Signal()
        kept_bytes = [kept.data[lane] for lane in range(lanes)]
        live, soh, equals, point = (Signal(lanes, name=name) for name in ("live", "soh", "equals", "point"))
        other_ends = [Signal(lanes + 1, name=f"ends_before{n + 1}") for n in range(ends)]
        came_here, in_value, behind_point = Signal(lanes + 1), Signal(lanes + 1), Signal(lanes)
        more = Signal()
        # What is left of a beat with more ends goes through stage 1 again.
        again = Signal()
        rest = other_ends[-1][:lanes]
        m.d.comb += [again.eq(kept_valid & more), self.ready.eq(self.advance & ~again)]

        arriving = [beat.data[lane] for lane in range(lanes)]
        arriving_live = Cat(lane < beat.count for lane in range(lanes))

        def marks(character, kept_marks, name):
            now = Signal(lanes, name=f"{name}_now")
            came = Cat((arriving[lane] == character) & (lane < beat.count) for lane in range(lanes))
            m.d.comb += now.eq(Mux(again, kept_marks & rest, came))
            return now

        soh_now, equals_now = marks(SOH, soh, "soh"), marks(ord("="), equals, "equals")
        point_now = marks(ord("."), point, "point")
        # Of each flow, whether the unfinished field's `=` came: that of the beat in stage 1 in a register.
        open_value = Signal(self.flows)
        goes_on, came = Signal(), Signal()
        # An `=` behind the first one of a field is part of its value.
        ends_now = []
        for n in range(ends + 1):
            reached = Signal(lanes + 1, name=f"ends_now{n + 1}")
            m.d.comb += reached.eq(Cat(_at_least(list(soh_now)[:lane], n + 1) for lane in range(lanes + 1)))
            ends_now.append(reached)
        with m.If(self.advance):
            m.d.sync += [
                kept_valid.eq(self.valid | again),
                live.eq(Mux(again, live & rest, arriving_live)),
                soh.eq(soh_now),
                equals.eq(equals_now),
                point.eq(point_now),
                came_here.eq(Cat(_seen_before(equals_now, soh_now))),
                goes_on.eq(
                    Mux(kept_valid & (kept.flow == beat.flow), came, open_value.bit_select(beat.flow, 1))
                    & ~again
                    & ~beat.gap
                ),
                behind_point.eq(Cat(_seen_before(point_now, soh_now))[:lanes]),
                *(before.eq(now) for before, now in zip(other_ends, ends_now, strict=False)),
                more.eq(ends_now[ends][lanes]),
            ]
            with m.If(self.valid & ~again):
                m.d.sync += kept.eq(beat)
            with m.If(kept_valid):
                m.d.sync += open_value.bit_select(kept.flow, 1).eq(came)
        m.d.comb += [
            in_value.eq(came_here | (~other_ends[0] & goes_on.replicate(lanes + 1))),
            came.eq(in_value[lanes]),
        ]

        def stage1(name, width, values):
            register = Signal(width, name=name)
            with m.If(self.advance & ~again):
                m.d.sync += register.eq(values)
            return register

        digit = stage1("digit", lanes, Cat((byte >= ord("0")) & (byte <= ord("9")) for byte in arriving))
        zero = stage1("zero", lanes, Cat(byte == ord("0") for byte in arriving))
        minus = stage1("minus", lanes, Cat(byte == ord("-") for byte in arriving))
        letters = [
            stage1(f"begin{n}", lanes, Cat((arriving[lane] == letter) & (lane < beat.count) for lane in range(lanes)))
            for n, letter in enumerate(BEGIN)
        ]
        # Sums of the bytes before each lane, of each half of the beat for itself.
        masked = [Mux(lane < beat.count, arriving[lane], 0) for lane in range(lanes)]
        middle = (lanes + 1) // 2
        sums = []
        for name, half in (("low", masked[:middle]), ("high", masked[middle:])):
            now = _sums_before(m, name, half) if half else []
            sums.append([Const(0, 8)] + [stage1(f"sum_{name}{n}", 8, value) for n, value in enumerate(now)])

        def sum_at(name, lane_bits):
            """The sum of the bytes up to the lane that has a bit, that one included; 0 where none has."""
            low_bits, high_bits = lane_bits[:middle], lane_bits[middle:]
            low = [sums[0][n + 1] & bit.replicate(8) for n, bit in enumerate(low_bits)]
            high = [sums[1][n + 1] & bit.replicate(8) for n, bit in enumerate(high_bits)]
            total = Signal(8, name=name)
            all_low = sums[0][-1] & high_bits.any().replicate(8) if len(high_bits) else Const(0, 8)
            m.d.comb += total.eq((_any_of(low, 8) | all_low) + _any_of(high, 8))
            return total

        # ---- Stage 2: the segments.
        out = Signal(segment_beat(lanes), name="segmented")
        base, base_sum = Signal(range(lanes + 1)), Signal(8)  # what went with earlier parts of this beat
        nibbles = [byte[:4] & is_digit.replicate(4) for byte, is_digit in zip(kept_bytes, digit, strict=True)]
        matches = [
            Cat(letters[n][lane + n] for n in range(len(BEGIN))).all() & live[lane]
            for lane in range(lanes - BEGIN_REACH)
        ]
        stops = []
        for k, segment in enumerate(out.segments):
            behind = other_ends[k - 1][:lanes] if k else Const((1 << lanes) - 1, lanes)
            ahead = other_ends[k][:lanes] if k < ends else Const(0, lanes)

            def mask(name, value, k=k):
                signal = Signal(lanes, name=f"{name}{k}")
                m.d.comb += signal.eq(value)
                return signal

            part = mask("part", live & behind & ~ahead)
            end = mask("end", part & soh)
            content = mask("content", part & ~soh)
            # Behind an SOH come at least a tag's digit and the `=`: where they do not, the tag is bad and no value counts.
            value_lanes = Const((1 << lanes) - (1 << min(k + 2, lanes) if k else 1), lanes)
            value = mask("value", content & in_value[:lanes] & value_lanes)
            tag = mask("tag", content & ~in_value[:lanes] & ~equals & Const((1 << lanes) - (1 << k), lanes))
            points = mask("points", value & point)
            whole = mask("whole", value & ~behind_point & ~point)
            fraction = mask("fraction", value & ~point & (behind_point | (~points.any()).replicate(lanes)))
            first_value = mask("first_value", value & ~(value << 1)[:lanes])
            first_tag = mask("first_tag", tag & ~(tag << 1)[:lanes])

            stop = Signal(range(lanes + 1), name=f"stop{k}")
            # Where none ends the segment goes to the beat's end, and bytes behind that count nothing.
            bounds = Mux(end.any(), end, 1 << (lanes - 1)) if k < ends else Const(1 << (lanes - 1), lanes)
            stop_sum = sum_at(f"stop_sum{k}", bounds)
            m.d.comb += stop.eq(kept.count)
            if k < ends:
                with m.If(end.any()):
                    m.d.comb += stop.eq(_any_of([Mux(end[n], n + 1, 0) for n in range(lanes)], 4))
                m.d.comb += out.ends[k].eq(end.any())
            stops.append((stop, stop_sum))
            start, start_sum = stops[k - 1] if k else (base, base_sum)

            starts = [mask_bit & hit for mask_bit, hit in zip(part, matches, strict=False)]
            begin_lane = Signal(range(lanes + 1), name=f"begin_lane{k}")
            for lane, hit in enumerate(starts):
                with m.If(hit):
                    m.d.comb += begin_lane.eq(lane)
            # The last match counts, and there is room for one within a segment.
            before_begin = Cat(*starts[1:], Const(0, lanes - len(starts[1:])))
            m.d.comb += [
                segment.first_lane.eq(start),
                segment.stop_lane.eq(stop),
                segment.stop.eq(end),
                segment.used.eq(part.any()),
                segment.sum_before.eq(start_sum),
                segment.sum_behind.eq(stop_sum),
                segment.tag.eq(
                    _justified(m, f"tag_digits{k}", nibbles, tag, min(TAG_DIGITS, lanes), last_first=True).as_value()
                ),
                segment.tag_count.eq(_count(tag, lanes)),
                segment.tag_zero.eq((first_tag & zero).any()),
                segment.tag_bad.eq((tag & ~digit).any()),
                segment.in_value.eq((part & (in_value[:lanes] | equals)).any()),
                segment.value_count.eq(_count(value, lanes)),
                segment.text.eq(_justified(m, f"text{k}", kept_bytes, value, lanes, last_first=True).as_value()),
                segment.whole.eq(_justified(m, f"wholes{k}", nibbles, whole, lanes, last_first=True).as_value()),
                segment.whole_count.eq(_count(whole, lanes)),
                segment.point.eq(points.any()),
                segment.fraction.eq(
                    _justified(m, f"fractions{k}", nibbles, fraction, lanes, last_first=False).as_value()
                ),
                segment.fraction_count.eq(_count(fraction, lanes)),
                segment.minus_first.eq((first_value & minus).any()),
                segment.odd.eq(
                    (value & ~digit & ~point & ~(first_value & minus)).any() | (points & behind_point).any()
                ),
                segment.begin.eq(Cat(starts).any() if starts else 0),
                segment.begin_lane.eq(begin_lane),
                segment.sum_before_begin.eq(sum_at(f"begin_sum{k}", before_begin)),
            ]

        def run(first_lane, first, stop):
            """Whether BEGIN's bytes from ``first`` to ``stop`` stand in the lanes from ``first_lane`` on."""
            found = (letters[n][first_lane + n - first] for n in range(first, stop))
            return Cat(found).all() if first_lane >= 0 and first_lane + stop - first <= lanes else Const(0)

        whole_beat = Signal()  # not a later part of a beat
        m.d.comb += [
            out.more.eq(more),
            out.position.eq(kept.position),
            out.count.eq(Mux(more, 0, kept.count)),
            out.timestamp.eq(kept.timestamp),
            out.flow.eq(kept.flow),
            out.last.eq(kept.last & ~more),
            out.fragment.eq(kept.fragment),
            out.gap.eq(kept.gap),
            out.missing.eq(kept.data.as_value()[:MISSING_BITS]),
            out.completes.eq(
                Cat(run(0, n, len(BEGIN)) for n in range(1, len(BEGIN))) & whole_beat.replicate(BEGIN_REACH)
            ),
            out.pieces.eq(
                Cat(run(0, before, after) & (kept.count == after - before) for before, after in PIECES)
                & (whole_beat & ~more).replicate(len(PIECES))
            ),
            out.begun.eq(
                Cat(
                    Cat(run(count - n, 0, n) & (kept.count == count) for count in range(n, lanes + 1)).any()
                    for n in range(1, len(BEGIN))
                )
                & (~more).replicate(BEGIN_REACH)
            ),
            self.coming.eq(self.valid | again),
            self.coming_flow.eq(Mux(again, kept.flow, beat.flow)),
        ]
        with m.If(self.advance):
            m.d.sync += [self.o_valid.eq(kept_valid), self.o.eq(out), whole_beat.eq(~again)]
            with m.If(again):
                m.d.sync += [base.eq(stops[ends - 1][0]), base_sum.eq(stops[ends - 1][1])]
            with m.Else():
                m.d.sync += [base.eq(0), base_sum.eq(0)]
        return m
