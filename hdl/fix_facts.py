"""What FIX fields are in themselves: their tags and values read, without the message that they stand in."""

from itertools import combinations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.beat import MISSING_BITS, POSITION_BITS
from hdl.fix_characters import ends_a_beat
from hdl.fix_segmenter import TAG_DIGITS
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
from hdl.frame import Kind
from hdl.limits import FLOWS, MESSAGE_LIMIT
from hdl.select import is_in
from hdl.stage import stage

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

CLOSE_BITS = 5
"""A place as many bytes ahead as more bits count is not within the next beat, nor behind its beginning, for any offset."""

assert all(len(str(tag)) == len(str(data)) in (2, 3) for tag, data in DATA_TAGS.items()), "what an offset goes by"

CHECK_SUM_DIGITS = 3
FRAMING_FLAGS = 8
"""The causes that the framing finds are the lowest bits of the flags; beside them only DUPLICATE_TAG."""

WHICH_BITS = unsigned((len(DATA_TAGS) - 1).bit_length())

LENGTH_TAGS = (621, 90, 93, 445, 95, 352, 356, 212, 358, 350, 348, 360, 364, 618, 354, 362)
"""Those of ``DATA_TAGS`` in an order, found by search, in which each bit of their index follows from four bits of the tag's
digits, and from four of those of the data's tag: so it takes one LUT."""

assert sorted(LENGTH_TAGS) == sorted(DATA_TAGS)


def known_field_layout(lanes: int) -> data.StructLayout:
    """What of a field does not depend on the message that it stands in. ``amount``: the number of its last four digits,
    as a BodyLength or a length of data or, without the highest of them, a CheckSum. ``far``: it has more than
    ``CLOSE_BITS``. ``amount`` and ``offset`` together (``close``, where it is not far) are where the body or the data
    would end that it tells of, counted from the next beat. ``excess``: two numbers; as the BodyLength of the message
    that the last BEGIN began it makes that longer than MESSAGE_LIMIT, unless their sum is below 0. ``stop`` and
    ``below``: its SOH's lane, and those in front of that."""
    return data.StructLayout(
        {
            "valid": 1,
            "first": POSITION_BITS,
            "value": POSITION_BITS,
            "end": POSITION_BITS,
            "stop": lanes,
            "below": lanes,
            "older": 1,
            "begin": 1,
            "begin_at_first": 1,
            "begin_position": POSITION_BITS,
            "first_sum": 8,
            "begin_sum": 8,
            "end_sum": 8,
            "usable": 1,
            "tags": TAKEN_BITS,
            "entry_tag": len(ENTRY_TAGS),
            "entry_type": len(ENTRY_TAGS),
            "tag_bad": 1,
            "empty": 1,
            "value_cause": 1,
            "announces": 1,
            "plain": 1,
            "huge": 1,
            "announced_which": WHICH_BITS,
            "is_data": 1,
            "data_which": WHICH_BITS,
            "is_length": 1,
            "large": 1,
            "no_body": 1,
            "excess": data.ArrayLayout(POSITION_BITS, 2),
            "amount": NEAR_BITS,
            "far": 1,
            "close": signed(CLOSE_BITS + 2),
            "offset": signed(lanes.bit_length() + 3),
            "is_trailer": 1,
            "check_sum_good": 1,
            "crc": 64,
            "characters": 16,
            "kind": unsigned(KIND_BITS),
        }
    )


def known_beat_layout(lanes: int) -> data.StructLayout:
    """The fields of a beat, as far as they are known without their message.

    About a second field: ``next_ends`` and ``next_passes`` compare it with the body that the first one would open,
    ``follow_ends`` and ``follow_passes`` with the data that it would announce. ``splits``: both may complete a span, so
    the beat takes two steps. ``cuts``: an overrun or a hole cuts what was framed, in a step before that of a field that
    ends.
    """
    return data.StructLayout(
        {
            "fields": data.ArrayLayout(known_field_layout(lanes), ends_a_beat(lanes)),
            "next_ends": 1,
            "next_passes": 1,
            "follow_ends": 1,
            "follow_passes": 1,
            "splits": 1,
            "overrun": 1,
            "gap": 1,
            "cuts": 1,
            "cut": POSITION_BITS,
            "cut_older": 1,
            "missing": MISSING_BITS,
            "stamp": 1,
            "count": unsigned(lanes.bit_length()),
            "timestamp": 64,
            "flow": range(FLOWS),
            "new": 1,
            "last": 1,
            "fragment": 1,
        }
    )


class _Tags:
    """Compares a good tag with many. Leading zeros make a tag bad, so the digits say it all, unless there are more of them."""

    def __init__(self, m, k, field) -> None:
        self._m, self._k, self._field = m, k, field
        self._digits: dict[tuple[int, int], Signal] = {}
        self._tags: dict[int, Signal] = {}
        self._short = Signal(name=f"short{k}")
        m.d.comb += self._short.eq(is_in(field.tag_count, range(TAG_DIGITS + 1)) & ~field.tag_bad)

    def _digit(self, place: int, value: int):
        """Whether it is this digit that stands at a place (the lowest is 0)."""
        if (place, value) not in self._digits:
            digit = self._digits[place, value] = Signal(name=f"tag{self._k}_{place}_{value}")
            self._m.d.comb += digit.eq(self._field.tag[place] == value)
        return self._digits[place, value]

    def _has_digits(self, tag: int):
        if tag not in self._tags:
            signal = self._tags[tag] = Signal(name=f"is_{tag}_{self._k}")
            self._m.d.comb += signal.eq(Cat(self._digit(*each) for each in enumerate(_digits_of(tag))).all())
        return self._tags[tag]

    def is_one_of(self, tags):
        """Whether the field has one of ``tags``: those that differ in their last digit alone are looked up together."""
        last_digits: dict[tuple[int, ...], list[int]] = {}
        for last, *others in map(_digits_of, tags):
            last_digits.setdefault(tuple(others), []).append(last)
        found = [
            Cat(
                is_in(self._field.tag[0], last), *(self._digit(place, digit) for place, digit in enumerate(others, 1))
            ).all()
            for others, last in last_digits.items()
        ]
        return self._short & Cat(found).any()

    def are(self, tags):
        """One bit for each of ``tags``: whether it is the field's."""
        return Cat(self._has_digits(tag) for tag in tags) & self._short.replicate(len(tags))

    def index(self, tags):
        """Which of ``tags`` it is, if it is one of them."""
        digits = self._field.tag.as_value()
        bits = []
        for bit in range((len(tags) - 1).bit_length()):
            places, numbers = _told_by(tags, bit)
            bits.append(is_in(Cat(digits[place] for place in places), numbers))
        return Cat(bits)


def _digits_of(tag: int) -> list[int]:
    """TAG_DIGITS digits of a tag, the lowest first."""
    return [int(digit) for digit in reversed(f"{tag:0{TAG_DIGITS}}")]


def _told_by(tags, bit: int) -> tuple[tuple[int, ...], set[int]]:
    """The fewest bits of the digits of ``tags`` that tell this bit of their index, and the numbers in them that stand for 1."""
    numbers = [sum(digit << (4 * place) for place, digit in enumerate(_digits_of(tag))) for tag in tags]
    for size in range(4 * TAG_DIGITS + 1):
        for places in combinations(range(4 * TAG_DIGITS), size):
            found: tuple[set[int], set[int]] = (set(), set())
            for index, number in enumerate(numbers):
                found[index >> bit & 1].add(sum((number >> place & 1) << n for n, place in enumerate(places)))
            if found[0].isdisjoint(found[1]):
                return places, found[1]
    raise AssertionError("two tags are the same")


def _worths(m, name, digits):
    """What each of the lowest four BCD ``digits`` is worth, looked up."""
    worths = []
    for place in range(4):
        worth = Signal(NEAR_BITS, name=f"{name}_{place}")
        with m.Switch(digits[place]):
            for digit in range(1, 10):
                with m.Case(digit):
                    m.d.comb += worth.eq(digit * 10**place)
        worths.append(worth)
    return worths


def _saved(m, name, terms):
    """Two numbers with the sum of ``terms``, in as many bits as the last of these has: carries are saved, so no chain
    of them is long. What comes last in time is to stand last."""
    bits = len(terms[-1])
    total, carries, *others = terms
    for n, term in enumerate(others):
        # Signals, or Yosys finds the sum again and adds it up in its own way.
        saved, carried = Signal(bits, name=f"{name}_sum{n}"), Signal(bits, name=f"{name}_carries{n}")
        m.d.comb += [
            saved.eq(total ^ carries ^ term),
            carried.eq(((total & carries) | (total & term) | (carries & term)) << 1),
        ]
        total, carries = saved, carried
    return total, carries


def _above(digits, most: int):
    """Whether the BCD number of the lowest digits of ``most`` is above it, whatever higher digits say."""
    above = Const(0)
    for place, digit in enumerate(int(digit) for digit in reversed(str(most))):
        above = (digits[place] > digit) | ((digits[place] == digit) & above)
    return above


class Facts(wiring.Component):
    """Reads the fields of a beat. Latency ``LATENCY`` step of ``advance``; not ``pipelined`` none. ``next_has_steps``: the beat on
    its way in will take more than one step."""

    LATENCY = 1

    def __init__(self, lanes: int, pipelined: bool = True):
        self.lanes = lanes
        self._pipelined = pipelined
        super().__init__(
            {
                "advance": In(1),
                "valid": In(1),
                "beat": In(field_beat(lanes)),
                "next_has_steps": Out(1),
                "o_valid": Out(1),
                "o": Out(known_beat_layout(lanes)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        ends = ends_a_beat(self.lanes)
        now = Signal(known_beat_layout(self.lanes), name="known_now")
        m.d.comb += [
            now[name].eq(self.beat[name])
            for name in (
                "overrun", "gap", "cut", "cut_older", "missing", "stamp", "count", "timestamp", "flow",
                "new", "last", "fragment",
            )
        ]  # fmt: skip
        for k in range(ends):
            self._know(m, k, now.fields[k], self.beat.fields[k], self.beat)
        m.d.comb += [
            now.cuts.eq(self.beat.overrun | self.beat.gap),
            self.next_has_steps.eq(self.valid & ((now.cuts & self.beat.ends[0]) | now.splits)),
        ]
        if ends == 2:
            self._compare(m, now, self.beat)
        with stage(m, self.advance, self._pipelined) as register:
            register += [self.o_valid.eq(self.valid), self.o.eq(now)]
        return m

    def _know(self, m, k, known, field, beat):
        """What one field is."""
        digits, number = field.number.whole, field.number
        tags = _Tags(m, k, field)
        plain, empty = Signal(name=f"plain{k}"), Signal(name=f"empty{k}")
        some, large, huge = Signal(name=f"some{k}"), Signal(name=f"large{k}"), Signal(name=f"huge{k}")
        worths = _worths(m, f"amount{k}", digits)
        data_tags = [DATA_TAGS[tag] for tag in LENGTH_TAGS]
        # A BodyLength has a tag of one digit; a length of data has one of as many digits as that of the data, which stands with a
        # `=` and an SOH between the length's SOH and the data's.
        to_body = field.stop_lane - beat.count
        to_data = Mux(field.tag_count[0], to_body + len("999=|"), to_body + len("99=|"))
        # A message whose BodyLength this is begins with the last BEGIN before the field.
        header = Signal(POSITION_BITS, name=f"header{k}")
        low, high = Signal(NEAR_BITS, name=f"low{k}"), Signal(NEAR_BITS, name=f"high{k}")
        too_many = tags.is_one_of(ONE_CHARACTER) & ~is_in(field.value_count, range(2))
        too_many |= tags.are([MSG_TYPE_TAG]) & ~is_in(field.value_count, range(3))
        m.d.comb += [
            empty.eq(field.value_count == 0),
            plain.eq(
                ~(number.bad | number.negative | number.point) & ~empty & is_in(field.value_count, range(MOST_LENGTH_DIGITS + 1))
            ),
            some.eq(Cat(digits[n] != 0 for n in range(4)).any()),
            large.eq(Cat(digits[n] != 0 for n in range(4, WHOLE_DIGITS)).any()),
            # 4096 or more, by its digits: the number itself comes too late.
            huge.eq(large | _above(digits, MOST_DATA_BYTES)),
            header.eq(field.end - beat.fields[0].begin_position + (CHECK_SUM_FIELD_BYTES - MESSAGE_LIMIT - 1)),
            *(
                known[name].eq(field[name])
                for name in (
                    "first", "end", "stop", "older", "begin", "begin_at_first", "begin_position",
                    "first_sum", "begin_sum", "end_sum", "crc",
                )
            ),
            known.valid.eq(beat.ends[k]),
            known.value.eq((field.first + field.tag_count + 1)[:POSITION_BITS]),
            known.usable.eq(~field.tag_bad & ~empty),
            known.tags.eq(tags.are(TAKEN_TAGS) & (~empty).replicate(TAKEN_BITS)),
            known.entry_tag.eq(tags.are(ENTRY_TAGS.values()) & (~empty).replicate(len(ENTRY_TAGS))),
            known.entry_type.eq(
                Cat(
                    tags.are([MSG_TYPE_TAG]) & (field.value_count == 1) & (field.crc[:8] == ord(msg_type))
                    for msg_type in ENTRY_TAGS
                )
            ),
            known.value_cause.eq(too_many),
            known.announces.eq(tags.is_one_of(LENGTH_TAGS)),
            known.plain.eq(plain),
            known.huge.eq(huge),
            known.tag_bad.eq(field.tag_bad),
            known.empty.eq(empty),
            known.announced_which.eq(tags.index(LENGTH_TAGS)),
            known.is_data.eq(tags.is_one_of(data_tags)),
            known.data_which.eq(tags.index(data_tags)),
            known.is_length.eq(tags.are([BODY_LENGTH_TAG]) & plain),
            known.large.eq(large),
            known.no_body.eq(~some),
            known.excess.eq(Cat(_saved(m, f"excess{k}", [*reversed(worths), header]))),
            known.below.eq(Cat(field.stop[lane + 1 :].any() for lane in range(self.lanes))),
            known.amount.eq(low + high),
            known.close.eq(low[:CLOSE_BITS] + known.offset),
            known.far.eq(_above(digits, (1 << CLOSE_BITS) - 1) | digits[2].any() | digits[3].any()),
            low.eq(worths[0] + worths[1]),
            high.eq(worths[2] + worths[3]),
            known.offset.eq(Mux(field.tag_count[1], to_data, to_body)),
            known.is_trailer.eq(tags.are([CHECK_SUM_TAG]) & (field.value_count == CHECK_SUM_DIGITS)),
            known.check_sum_good.eq(plain & ~_above(digits, 0xFF)),
            known.kind.eq(Kind.OTHER),
        ]  # fmt: skip
        # The CRC of up to eight characters is their text, the last one lowest; the frame wants the first one lowest.
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
        """The second field beside what the first one would announce. All of it is within a beat, so one digit counts."""
        one, two = beat.fields
        digit, single = one.number.whole[0], Signal()
        m.d.comb += [
            single.eq(~Cat(one.number.whole[n] != 0 for n in range(1, WHOLE_DIGITS)).any()),
            now.follow_ends.eq(single & (digit == two.value_count[:4])),
            now.follow_passes.eq(single & (digit < two.value_count[:4])),
        ]
        m.d.comb += [
            # Only where no message has begun does the garbage in front of a BEGIN make a span. But what stalls all stages before
            # is not to wait for the message's state.
            now.splits.eq(beat.ends[1] & two.begin & (one.begin | ~two.begin_at_first)),
        ]
        span = Signal(4)
        m.d.comb += [
            span.eq(two.stop_lane - one.stop_lane),
            now.next_ends.eq(single & (digit == span)),
            now.next_passes.eq(single & (digit < span)),
        ]
