"""FIX bytes to characters: what each byte of a beat is, and what came before it (docs/fix.md, "Fields")."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import payload_beat
from hdl.fix_tags import BEGIN, SOH
from hdl.limits import FLOWS
from hdl.select import is_in


def ends_a_beat(lanes: int) -> int:
    """Most fields that end in a beat of well-formed FIX: the shortest field, ``1=x|``, has 4 bytes."""
    return 2 if lanes > 4 else 1


def character_beat(lanes: int) -> data.StructLayout:
    """A beat, and one bit a lane of what its bytes are.

    ``live``: it counts; of a beat that comes again the lanes behind the last end that was told. ``letters``: it is the nth byte
    of BEGIN. ``before``: so many SOHs, at least, stand in front of it. ``first``, ``second``, ``behind_last``: it belongs to the
    first field of the beat, to one between two SOHs, or to what is behind the last one, and is no SOH. ``mark``: it is the first
    SOH or point, if any is (``marked``).
    ``in_value``: a ``=`` of its field stands in front of it in this beat; ``behind_point``: a point does.
    ``low_sums`` and ``high_sums``: sums modulo 256 of the bytes of each half of the beat, up to each.

    ``more``: more fields end than are told at once, so the beat comes ``again``. ``new``: the flow's first beat since
    the reset.
    """
    ends = ends_a_beat(lanes)
    middle = (lanes + 1) // 2
    return data.StructLayout(
        {
            "beat": payload_beat(lanes),
            "live": lanes,
            "soh": lanes,
            "equals": lanes,
            "point": lanes,
            "digit": lanes,
            "zero": lanes,
            "minus": lanes,
            "letters": data.ArrayLayout(lanes, len(BEGIN)),
            "before": data.ArrayLayout(lanes + 1, ends),
            "first": lanes,
            "second": lanes,
            "behind_last": lanes,
            "mark": lanes,
            "marked": 1,
            "in_value": lanes + 1,
            "behind_point": lanes + 1,
            "low_sums": data.ArrayLayout(8, middle),
            "high_sums": data.ArrayLayout(8, lanes - middle),
            "more": 1,
            "again": 1,
            "new": 1,
        }
    )


OpenField = data.StructLayout({"in_value": 1, "behind_point": 1})
"""Of the field that a flow left open: whether its ``=`` came, and a point behind it."""


class Classifier(wiring.Component):
    """Tells what each byte of a beat is. Latency ``LATENCY`` steps; it moves where ``advance`` is high.

    ``ready`` is low while a beat with more ends than ``ends_a_beat`` is told again, a step for each so many. ``open`` goes with
    the output: what is known of the field that the flow of its beat had left open, kept a flow. ``left`` is to answer
    in the same step with what it leaves. ``again``: what is told now comes once more. ``new``: the beat on its way in is its flow's
    first one since the reset.
    """

    LATENCY = 1

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
                "o": Out(character_beat(lanes)),
                "open": Out(OpenField),
                "left": In(OpenField),
                "again": Out(1),
                "new": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes, ends, beat, kept = self.lanes, ends_a_beat(self.lanes), self.beat, self.o
        again, rest = Signal(), kept.before[ends - 1][:lanes]
        arriving = [beat.data[lane] for lane in range(lanes)]
        # The lanes of the beat that arrives; none of them while an earlier one is told again.
        counts, counts_now = Signal(lanes), Signal(lanes)
        m.d.comb += [
            counts.eq(Cat(is_in(beat.count, range(lane + 1, lanes + 1)) for lane in range(lanes))),
            counts_now.eq(counts & (~again).replicate(lanes)),
        ]

        def of_whole_beat(field, value):
            """What stays as it is while the beat is told again."""
            with m.If(self.advance & ~again):
                m.d.sync += field.eq(value)

        def marks(character, field):
            """Lanes of a character, of those that count this time."""
            now = Signal(lanes, name=f"{chr(character) if character > 32 else 'soh'}_now")
            told_again = Signal(lanes, name=f"{now.name}_again")
            is_ours = Cat(byte == character for byte in arriving) & counts_now
            m.d.comb += [told_again.eq(field & rest & again.replicate(lanes)), now.eq(is_ours | told_again)]
            with m.If(self.advance):
                m.d.sync += field.eq(now)
            return now

        soh, equals, point = marks(SOH, kept.soh), marks(ord("="), kept.equals), marks(ord("."), kept.point)
        reached = []
        for n in range(ends + 1):
            now = Signal(lanes + 1, name=f"reached{n}")
            m.d.comb += now.eq(Cat(at_least(list(soh)[:lane], n + 1) for lane in range(lanes + 1)))
            reached.append(now)
        live = Signal(lanes, name="live_now")
        content, behind_first = live & ~soh, reached[0][:lanes]
        marks_now = soh | point
        m.d.comb += [
            live.eq(counts_now | (kept.live & rest & again.replicate(lanes))),
            again.eq(kept.more),
            self.ready.eq(self.advance & ~again),
            self.again.eq(again),
        ]
        with m.If(self.advance):
            m.d.sync += [
                self.o_valid.eq(self.valid | again),
                kept.again.eq(again),
                kept.live.eq(live),
                kept.first.eq(content & ~behind_first),
                kept.second.eq(content & behind_first & ~reached[ends - 1][:lanes]),
                kept.behind_last.eq(content & behind_first & Cat(~soh[lane:].any() for lane in range(lanes))),
                kept.mark.eq(Cat(marks_now[lane] & ~marks_now[:lane].any() for lane in range(lanes))),
                kept.marked.eq(marks_now.any()),
                *(before.eq(now) for before, now in zip(kept.before, reached, strict=False)),
                kept.more.eq((self.valid | again) & reached[ends][lanes]),
                # An `=` behind the first one of a field is part of its value.
                kept.in_value.eq(Cat(seen_before(equals, soh))),
                kept.behind_point.eq(Cat(seen_before(point, soh))),
            ]
        of_whole_beat(kept.beat, beat)
        of_whole_beat(kept.digit, Cat((byte[4:] == ord("0") >> 4) & is_in(byte[:4], range(10)) for byte in arriving))
        of_whole_beat(kept.zero, Cat(byte == ord("0") for byte in arriving))
        of_whole_beat(kept.minus, Cat(byte == ord("-") for byte in arriving))
        for letter, field in zip(BEGIN, kept.letters, strict=True):
            of_whole_beat(field, Cat(byte == letter for byte in arriving) & counts)
        middle = (lanes + 1) // 2
        for name, fields, half in (
            ("low", kept.low_sums, arriving[:middle]),
            ("high", kept.high_sums, arriving[middle:]),
        ):
            for field, total in zip(fields, sums_up_to(m, name, half) if half else [], strict=True):
                of_whole_beat(field, total)
        self._keep_open(m, again)
        return m

    def _keep_open(self, m, again):
        """What is kept a flow. The beat that is told was left open by the one before, where that is of the same flow."""
        came = Signal(self.flows)  # a reset does not reach the RAM
        of_same_flow = Signal()
        m.submodules.rows = rows = memory.Memory(shape=OpenField, depth=self.flows, init=[])
        read, write = rows.read_port(domain="comb"), rows.write_port()
        flow, kept_flow = self.beat.flow, self.o.beat.flow
        m.d.comb += [
            read.addr.eq(flow),
            write.addr.eq(kept_flow),
            write.data.eq(self.left),
            write.en.eq(self.advance & self.o_valid),
            of_same_flow.eq(self.o_valid & (kept_flow == flow)),
            self.new.eq(~of_same_flow & ~came.bit_select(flow, 1)),
        ]
        with m.If(self.advance):
            m.d.sync += [
                self.o.new.eq(self.new & ~again),
                self.open.eq(Mux(of_same_flow, self.left.as_value(), read.data.as_value())),
            ]
            with m.If(again | self.beat.gap | self.new):
                m.d.sync += self.open.eq(0)
            with m.If(self.o_valid):
                m.d.sync += came.bit_select(kept_flow, 1).eq(1)


def at_least(bits, number: int):
    """Whether so many of ``bits`` are high: each four of them are looked up."""
    if number <= 0:
        return Value.cast(1)
    if number > len(bits):
        return Value.cast(0)
    if len(bits) <= 4:
        return is_in(Cat(bits), [value for value in range(1 << len(bits)) if value.bit_count() >= number])
    low, high = bits[:4], bits[4:]
    return Cat(at_least(low, n) & at_least(high, number - n) for n in range(number + 1)).any()


def seen_before(sets, clears):
    """For each lane, and behind the last: whether ``sets`` came since ``clears``, in the lanes before it. In a tree, so that it takes
    few steps."""
    # Of runs of lanes that end in each: whether it was set there and not cleared since, and whether it was never cleared.
    runs = [(sets[lane], ~clears[lane]) for lane in range(len(sets))]
    reach = 1
    while reach < len(runs):
        runs = [
            (own | (keeps & runs[lane - reach][0]), keeps & runs[lane - reach][1]) if lane >= reach else (own, keeps)
            for lane, (own, keeps) in enumerate(runs)
        ]
        reach *= 2
    return [Const(0, 1), *(seen for seen, _ in runs)]


def sums_up_to(m: Module, name: str, values):
    """The sums of the first one of ``values``, the first two and so on, each in few steps."""
    if len(values) == 1:
        return [values[0]]
    half = len(values) // 2
    low, high = sums_up_to(m, f"{name}_low", values[:half]), sums_up_to(m, f"{name}_high", values[half:])
    sums = [Signal(8, name=f"{name}{n}") for n in range(len(high))]
    m.d.comb += [total.eq(low[-1] + part) for total, part in zip(sums, high, strict=True)]
    return [*low, *sums]
