"""FIX characters to segments: a beat is cut at the ends of its fields, and what stands in each part is put in order."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS
from hdl.fix_characters import OpenField, character_beat, ends_a_beat
from hdl.fix_tags import BEGIN
from hdl.limits import FLOWS
from hdl.select import is_in
from hdl.stage import stage

TAG_DIGITS = 3
"""Digits kept of a tag: no tag that is read here has more."""

BEGIN_REACH = len(BEGIN) - 1
"""Most bytes of BEGIN that stand in earlier beats."""

PIECES = [(before, after) for after in range(2, len(BEGIN)) for before in range(1, after)]
"""A beat of few bytes may take what is there of BEGIN from ``before`` to ``after`` bytes."""


class Room:
    """Which lanes a part of a beat can have its field's characters in, and so how many of them there are.

    The first field goes on from an earlier beat, and has all lanes. Any other stands behind an SOH, a tag and a ``=``: its value
    begins in lane 3 or, where anything but its length matters and the tag is one that is read as a number or as
    text, behind two digits, in lane 4. The ``second`` one has its own SOH in the beat.
    """

    def __init__(self, lanes: int, part: str):
        self._lanes = lanes
        self._stop = lanes - (part == "second")
        self._behind_soh = part != "first"

    def _from(self, lane):
        return range(lane if self._behind_soh else 0, self._stop)

    @property
    def tag(self) -> range:
        return self._from(1)

    @property
    def value(self) -> range:
        return self._from(3)

    @property
    def text(self) -> range:
        return self._from(4)

    @property
    def fraction(self) -> range:
        return self._from(5)


def segment_layout(lanes: int, part: str) -> data.StructLayout:
    """A beat's share of one field: of the ``first`` one that has bytes in it, of a ``second`` one that begins and ends in it, or
    of the ``last`` one that begins in it and stays open. Counts are of bytes.

    ``tag``: the last digits, the lowest first; ``tag_zero``: the first character here is ``0``. ``in_value``: the
    field's ``=`` is here or came before. Of the value: ``whole`` the digits before the first point without a sign, the last one
    first; ``fraction`` those behind it, the first one first. ``text``: its bytes, the last one first. ``minus_first``: its first
    character here is ``-``; ``odd``: another one is no digit and no point, or is a second point. ``begin``: BEGIN stands here.
    """
    room = Room(lanes, part)
    count = unsigned(lanes.bit_length())
    return data.StructLayout(
        {
            "tag": data.ArrayLayout(4, TAG_DIGITS),
            "tag_count": count,
            "tag_zero": 1,
            "tag_bad": 1,
            "in_value": 1,
            "value_count": count,
            "text": data.ArrayLayout(8, len(room.text)),
            "whole": data.ArrayLayout(4, len(room.value)),
            "whole_count": count,
            "point": 1,
            "fraction": data.ArrayLayout(4, len(room.fraction)),
            "fraction_count": count,
            "minus_first": 1,
            "odd": 1,
            "begin": 1,
        }
    )


def segment_beat(lanes: int) -> data.StructLayout:
    """The segments of a beat, and of each field that ``ends`` in it: ``stops``, its SOH's lane as a bit and the lane
    behind that as a number (for none that of the beat's end), and ``sums`` of the beat's bytes up to there; behind
    these the sum of all.

    ``tail``: bytes from the last SOH to the beat's end, below 0 in a beat that comes again; ``tail_open``: there are
    some. ``begin_lane``, and ``begin_sum`` of the bytes before it, are where BEGIN is, in whatever segment;
    ``begin_at_second``: the second field begins with it. ``row_before`` is ``position`` without its lowest three bits,
    less one.

    A beat with more ends than ``ends_a_beat`` comes as several, of which only the last has a ``count`` and may be the
    packet's ``last``. ``completes``, ``pieces`` and ``begun`` are about a BEGIN that packets or beats cut: the beat's
    first bytes are all that lacks behind so many bytes of it, or take it from so many to so many, or its last bytes are
    so many of it.
    """
    ends = ends_a_beat(lanes)
    count = unsigned(lanes.bit_length())
    return data.StructLayout(
        {
            "first": segment_layout(lanes, "first"),
            **({"second": segment_layout(lanes, "second")} if ends == 2 else {}),
            "last_open": segment_layout(lanes, "last"),
            "ends": ends,
            "stops": data.ArrayLayout(data.StructLayout({"bits": lanes, "lane": count}), ends),
            "sums": data.ArrayLayout(8, ends + 1),
            "tail": signed(lanes.bit_length() + 1),
            "tail_open": 1,
            "begin_lane": count,
            "begin_sum": 8,
            "begin_at_second": 1,
            "position": POSITION_BITS,
            "row_before": POSITION_BITS - 3,
            "count": count,
            "timestamp": 64,
            "flow": range(FLOWS),
            "last": 1,
            "fragment": 1,
            "gap": 1,
            "new": 1,
            "missing": MISSING_BITS,
            "completes": BEGIN_REACH,
            "pieces": len(PIECES),
            "begun": BEGIN_REACH,
        }
    )


class Segmenter(wiring.Component):
    """Cuts beats into segments. Latency ``LATENCY`` step; it moves where ``advance`` is high.

    ``open`` says what is known of the field that was left open before the beat, ``left`` what of the one behind it, in
    the same step. Not ``pipelined``, which is for beats of one byte: it takes no step.
    """

    LATENCY = 1

    def __init__(self, lanes: int, pipelined: bool = True):
        self.lanes = lanes
        self._pipelined = pipelined
        super().__init__(
            {
                "advance": In(1),
                "valid": In(1),
                "characters": In(character_beat(lanes)),
                "open": In(OpenField),
                "left": Out(OpenField),
                "o_valid": Out(1),
                "o": Out(segment_beat(lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, ends, known = self.lanes, ends_a_beat(self.lanes), self.characters
        beat, before = known.beat, known.before
        out = Signal(segment_beat(lanes), name="segmented")

        m.d.comb += [
            self.left[name].eq(known[name][lanes] | (~before[0][lanes] & self.open[name]))
            for name in ("in_value", "behind_point")
        ]

        stops = [Signal(lanes, name=f"stop{k}") for k in range(ends)]
        for k, stop in enumerate(stops):
            already = before[k - 1][:lanes] if k else Const((1 << lanes) - 1, lanes)
            m.d.comb += stop.eq(known.soh & already & ~before[k][:lanes])
        matches = Cat(
            Cat(known.letters[n][lane + n] for n in range(len(BEGIN))).all() & known.live[lane]
            for lane in range(lanes - BEGIN_REACH)
        )
        last = known.behind_last
        self._read(m, "first", out.first, known.first)
        self._read(m, "last", out.last_open, last)
        m.d.comb += [out.first.begin.eq((matches & known.first).any()), out.last_open.begin.eq((matches & last).any())]
        if ends == 2:
            self._read(m, "second", out.second, known.second)
            m.d.comb += out.second.begin.eq((matches & known.second).any())

        # Places and sums.
        for k, stop in enumerate(stops):
            at = out.stops[k]
            m.d.comb += [
                at.bits.eq(stop),
                at.lane.eq(
                    Mux(stop.any(), _any_of([Const(n + 1, 4) & stop[n].replicate(4) for n in range(lanes)]), beat.count)
                ),
                out.sums[k].eq(self._sum_up_to(m, f"sum{k}", stop)),
            ]
        begins = [matches[lane] for lane in range(len(matches))]
        # Of the last SOH that is told, and for each lane that it may be in what is behind that: looked up.
        last_stop = Signal(lanes)
        m.d.comb += last_stop.eq(stops[0] if ends == 1 else stops[1] | (stops[0] & ~before[1][lanes].replicate(lanes)))
        tails = [
            Cat(
                is_in(out.count, [count for count in range(lanes + 1) if (count - lane - 1) >> bit & 1])
                for bit in range(len(out.tail))
            )
            for lane in range(lanes)
        ]
        m.d.comb += [
            out.ends.eq(Cat(stop.any() for stop in stops)),
            out.sums[ends].eq(self._sum_up_to(m, "sum_of_all", known.live & ~(known.live >> 1))),
            out.count.eq(Mux(known.more, 0, beat.count)),
            out.tail_open.eq(last.any()),
            out.tail.eq(_any_of([tail & bit.replicate(len(tail)) for tail, bit in zip(tails, last_stop, strict=True)])),
            out.begin_lane.eq(_any_of([Const(lane, 4) & begin.replicate(4) for lane, begin in enumerate(begins)])),
            out.begin_sum.eq(
                _any_of([known.low_sums[lane] & begin.replicate(8) for lane, begin in enumerate(begins[1:])])
            ),
        ]
        if ends == 2:
            m.d.comb += out.begin_at_second.eq((matches & (stops[0] << 1)[: len(matches)]).any())

        def run(first_lane, first, stop):
            """Whether BEGIN's bytes from ``first`` to ``stop`` stand in the lanes from ``first_lane`` on."""
            found = (known.letters[n][first_lane + n - first] for n in range(first, stop))
            return Cat(found).all() if first_lane >= 0 and first_lane + stop - first <= lanes else Const(0)

        first_time, last_time = ~known.again, ~known.more
        m.d.comb += [
            *(out[name].eq(beat[name]) for name in ("position", "timestamp", "flow", "fragment", "gap")),
            out.new.eq(known.new),
            out.row_before.eq((beat.position >> 3) - 1),
            out.last.eq(beat.last & last_time),
            out.missing.eq(beat.data.as_value()[:MISSING_BITS]),
            out.completes.eq(
                Cat(run(0, n, len(BEGIN)) for n in range(1, len(BEGIN))) & first_time.replicate(BEGIN_REACH)
            ),
            out.pieces.eq(
                Cat(run(0, before, after) & (beat.count == after - before) for before, after in PIECES)
                & (first_time & last_time).replicate(len(PIECES))
            ),
            out.begun.eq(
                Cat(
                    Cat(run(count - n, 0, n) & (beat.count == count) for count in range(n, lanes + 1)).any()
                    for n in range(1, len(BEGIN))
                )
                & last_time.replicate(BEGIN_REACH)
            ),
        ]
        with stage(m, self.advance, self._pipelined) as register:
            register += [self.o_valid.eq(self.valid), self.o.eq(out)]
        if self._pipelined:
            # What is behind the last SOH is told with that. Not within the other condition, so this is a reset of flip-flops.
            with m.If(self.advance & known.more):
                m.d.sync += [self.o.last_open.eq(0), self.o.tail_open.eq(0)]
        return m

    def _read(self, m, name, segment, content):
        """What the bytes of ``content``, without their SOH, are in their field."""
        lanes, known, room = self.lanes, self.characters, Room(self.lanes, name)
        in_value, behind_point = known.in_value[:lanes], known.behind_point[:lanes]
        if name == "first":
            in_value, behind_point = (
                in_value | self.open.in_value.replicate(lanes),
                behind_point | self.open.behind_point.replicate(lanes),
            )
        data_bytes = [known.beat.data[lane] for lane in range(lanes)]
        nibbles = [byte[:4] for byte in data_bytes]

        def mask(its_name, value, places):
            signal = Signal(lanes, name=f"{name}_{its_name}")
            m.d.comb += signal.eq(value & sum(1 << lane for lane in places))
            return signal

        tag = mask("tag", content & ~in_value & ~known.equals, room.tag)
        value = mask("value", content & in_value, room.value)
        text = mask("text", value, room.text)
        points = mask("points", content & known.point, room.value)
        whole = mask("whole", value & ~behind_point & ~known.point & ~known.minus, room.value)
        fraction = mask("fraction", value & behind_point & ~known.point, room.fraction)
        first_tag, first_value = (
            mask("first_tag", tag & ~(tag << 1), room.tag),
            mask("first_value", value & ~(value << 1), room.value),
        )
        minus_first = first_value & known.minus

        def justified(its_name, values, lanes_of, count, *, last_first):
            return _justified(m, f"{name}_{its_name}s", values, lanes_of, count, last_first=last_first)

        m.d.comb += [
            segment.tag.eq(justified("tag", nibbles, tag, TAG_DIGITS, last_first=True)),
            segment.tag_count.eq(_count(tag)),
            segment.tag_zero.eq((first_tag & known.zero).any()),
            segment.tag_bad.eq((tag & ~known.digit).any()),
            segment.in_value.eq((content & (in_value | known.equals)).any()),
            segment.value_count.eq(_count(value)),
            segment.text.eq(justified("text", data_bytes, text, len(room.text), last_first=True)),
            segment.whole_count.eq(_count(whole)),
            segment.point.eq(points.any()),
            segment.fraction_count.eq(_count(fraction)),
            segment.minus_first.eq(minus_first.any()),
            segment.odd.eq((value & ~known.digit & ~known.point & ~minus_first).any() | (points & behind_point).any()),
        ]
        if name == "first":
            self._turn_digits(m, segment, nibbles, whole, fraction)
        else:
            m.d.comb += [
                segment.whole.eq(justified("whole", nibbles, whole, len(room.value), last_first=True)),
                segment.fraction.eq(justified("fraction", nibbles, fraction, len(room.fraction), last_first=False)),
            ]

    def _turn_digits(self, m, segment, nibbles, whole, fraction):
        """Digits of the first field, which can be in any lane: those behind the point and those before it are put in order by one
        rotation, to the point, or the field's end where none is here, or the lane before the beat where it came before."""
        lanes, known = self.lanes, self.characters
        behind = Signal(range(max(lanes, 2)))  # the lane behind the point
        found = _any_of(
            [Const((lane + 1) % lanes, len(behind)) & bit.replicate(len(behind)) for lane, bit in enumerate(known.mark)]
        )
        with m.If(~self.open.behind_point):
            m.d.comb += behind.eq(Mux(known.marked, found, (known.beat.count + 1)[: len(behind)]))
        digits = _turned(nibbles, behind)
        is_whole, is_fraction = _turned(whole, behind), _turned(fraction, behind)
        before = [(lanes - 2 - place) % lanes for place in range(lanes)]
        m.d.comb += [
            segment.fraction.eq(Cat(digits[n] & is_fraction[n].replicate(4) for n in range(lanes))),
            segment.whole.eq(Cat(digits[n] & is_whole[n].replicate(4) for n in before)),
        ]

    def _sum_up_to(self, m, name, lane_bits):
        """The sum of the beat's bytes up to the lane that has a bit, that one included."""
        known = self.characters
        middle = len(known.low_sums)
        low = [known.low_sums[n] & bit.replicate(8) for n, bit in enumerate(lane_bits[:middle])]
        high = [known.high_sums[n] & bit.replicate(8) for n, bit in enumerate(lane_bits[middle:])]
        all_low = known.low_sums[middle - 1] & lane_bits[middle:].any().replicate(8) if high else Const(0, 8)
        total = Signal(8, name=name)
        m.d.comb += total.eq(_any_of([*low, all_low]) + _any_of(high))
        return total


def _justified(m: Module, name: str, values, mask, count: int, *, last_first: bool):
    """The ``values`` of the lanes of ``mask`` (a run of lanes): the last ``count`` of them, the last one first, or the
    first ``count``, the first one first. Where there are fewer, digits are 0."""
    lanes, width = len(values), len(values[0])
    order = range(lanes) if last_first else range(lanes - 1, -1, -1)
    step = -1 if last_first else 1
    edge = Signal(lanes, name=f"{name}_edge")
    m.d.comb += edge.eq(mask & ~((mask >> 1) if last_first else (mask << 1)))
    justified = []
    for place in range(count):
        terms = []
        for lane in order:
            source = lane + step * place
            if 0 <= source < lanes:
                chosen = Signal(name=f"{name}_{place}_{lane}")
                m.d.comb += chosen.eq(edge[lane] & mask[source])
                terms.append(values[source] & chosen.replicate(width))
        justified.append(_any_of(terms))
    return Cat(*justified)


def _turned(values, amount):
    """``values`` from number ``amount`` on, and behind the last of them the first ones."""
    values = list(values)
    for bit in range((len(values) - 1).bit_length()):
        turn = 1 << bit
        values = [Mux(amount[bit], high, low) for low, high in zip(values, values[turn:] + values[:turn], strict=True)]
    return values


def _any_of(terms):
    total = Const(0)
    for term in terms:
        total = total | term
    return total


def _count(mask):
    """How many bits of ``mask`` are high. Each four are looked up, and so is the sum of two such counts."""
    bits = list(mask)
    fours = [bits[n : n + 4] for n in range(0, len(bits), 4)]
    counts = [Cat(is_in(Cat(four), _with_count(len(four), bit)) for bit in range(3)) for four in fours]
    if len(counts) == 1:
        return counts[0]
    low, high = counts
    sums = [[a + 8 * b for a in range(5) for b in range(5) if (a + b) >> bit & 1] for bit in range(4)]
    return Cat(is_in(Cat(low, high), each) for each in sums)


def _with_count(bits: int, bit: int):
    """Numbers of so many bits, of which so many are high that the count has this bit."""
    return [number for number in range(1 << bits) if number.bit_count() >> bit & 1]
