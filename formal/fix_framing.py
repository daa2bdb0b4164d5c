"""docs/fix.md, "Fields" and "Framing", byte by byte: what the FIX parser is compared with.

It is written from that page and shares with the parser only tags and limits. Everything is said of one flow and of one byte at
a time, so there are no lanes, no stages and no rows of other flows: what makes the parser fast is what is proved. What a value
is worth (numbers, characters, CRC) is not said here.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum

from hdl.beat import POSITION_BITS
from hdl.fix_tags import (
    BEGIN,
    BODY_LENGTH_TAG,
    CHECK_SUM_FIELD_BYTES,
    CHECK_SUM_TAG,
    DATA_TAGS,
    MOST_DATA_BYTES,
    MOST_LENGTH_DIGITS,
    MOST_TAG_DIGITS,
    MSG_TYPE_TAG,
    SOH,
)
from hdl.frame import Flag
from hdl.limits import FIELD_LIMIT, MESSAGE_LIMIT

FLAGS = Flag.GARBAGE | Flag.LENGTH | Flag.CHECKSUM | Flag.TAG | Flag.TOO_LONG | Flag.STRUCTURE
"""Flags that follow from the framing. VALUE, RANGE and DUPLICATE_TAG depend on what values are worth."""

NUMBER_DIGITS = 4
"""Digits of the longest BodyLength and length of data that are good."""

TAG_DIGITS = 3
"""Last digits of a tag that are told apart: no tag that the framing knows has more."""


LEFT_BITS = 14
"""What is left of a body or of data, negative where a field went beyond: a message and a field."""


class Phase(enum.Enum, shape=unsigned(3)):
    """Which field the framing expects."""

    SEEK = 0
    LENGTH = 1
    BODY = 2
    DATA = 3
    TRAILER = 4


Field = data.StructLayout(
    {
        "length": FIELD_LIMIT.bit_length(),
        "recent": data.ArrayLayout(8, len(BEGIN) - 1),
        "sum": 8,
        "in_value": 1,
        "tag": data.ArrayLayout(4, TAG_DIGITS),
        "tag_count": range(MOST_TAG_DIGITS + 2),
        "tag_bad": 1,
        "value_count": FIELD_LIMIT.bit_length(),
        "digits_only": 1,
        "digits": data.ArrayLayout(4, MOST_LENGTH_DIGITS),
        "begin": 1,
        "begin_at": POSITION_BITS,
        "sum_from_begin": 8,
    }
)
"""The bytes since the last SOH. ``recent``: the last ones, the last first. ``tag``: its last digits, the last first; ``tag_count`` stops
at one more than a tag may have. ``digits``: the value's last ones, where it is ``digits_only``."""

Event = data.StructLayout(
    {
        "byte": 1,
        "ends": 1,
        "overrun": 1,
        "gap": 1,
        "last": 1,
        "end": POSITION_BITS,
        "field": Field,
    }
)
"""What came of a flow: a ``byte`` (the packet's ``last``) or a ``gap``; ``end`` is the position behind it. With the byte its field
``ends``, or is one that overran."""

Flow = data.StructLayout(
    {
        "phase": Phase,
        "start": POSITION_BITS,
        "flags": 16,
        "sum": 8,
        "body_left": LEFT_BITS,
        "data_left": LEFT_BITS,
        "first_seen": 1,
        "announced": len(DATA_TAGS),
        "announced_bytes": MOST_DATA_BYTES.bit_length(),
    }
)
"""A flow's place in its message. ``sum``: of the bytes from ``start`` to the unfinished field. ``body_left``: how many bytes of the
body are still to come (``body_end`` less the position). ``data_left``: the same of what is announced, with the SOH behind it."""

Span = data.StructLayout(
    {
        "written": 1,
        "garbled": 1,
        "gap": 1,
        "start": POSITION_BITS,
        "length": POSITION_BITS,
        "flags": 16,
        "last": 1,
        "release": POSITION_BITS,
    }
)
"""What came with a byte or a gap. ``written``: a frame, for ``length`` bytes from ``start`` on; ``garbled``: it is malformed whatever
its flags. ``last``: the packet ended; bytes before ``release`` belong to frames that are written."""

NO_FIELD = {"digits_only": 1}
"""A field of which nothing has come."""


def _tag_is(field, number: int):
    digits = [int(digit) for digit in reversed(str(number))]
    return (field.tag_count == len(digits)) & Cat(field.tag[n] == d for n, d in enumerate(digits)).all()


def _number(digits):
    """What the last digits are worth; more are more than any limit."""
    return sum((digits[n] * 10**n for n in range(1, NUMBER_DIGITS)), digits[0])


def grow(m: Module, name: str, before, character, position) -> tuple[Signal, Signal, Signal]:
    """The field ``before`` with the byte at ``position``; whether it ends there, and whether it overran."""
    field = Signal(Field, name=f"{name}_field")
    ends, overrun = Signal(name=f"{name}_ends"), Signal(name=f"{name}_overrun")
    digit = (character >= ord("0")) & (character <= ord("9"))
    window = [character, *(before.recent[n] for n in range(len(BEGIN) - 1))]
    begins = Cat(window[n] == BEGIN[-1 - n] for n in range(len(BEGIN))).all() & (before.length >= len(BEGIN) - 1)
    m.d.comb += [
        ends.eq(character == SOH),
        overrun.eq(~ends & (field.length == FIELD_LIMIT)),
        field.eq(before),
        field.length.eq(before.length + 1),
        field.recent.eq(Cat(window[:-1])),
        field.sum.eq(before.sum + character),
        field.sum_from_begin.eq(before.sum_from_begin + character),
    ]
    with m.If(begins):
        m.d.comb += [
            field.begin.eq(1),
            field.begin_at.eq(position - (len(BEGIN) - 1)),
            field.sum_from_begin.eq(sum(BEGIN) % 256),
        ]
    with m.If(~ends):
        with m.If(before.in_value):
            m.d.comb += [
                field.value_count.eq(before.value_count + 1),
                field.digits_only.eq(before.digits_only & digit),
                field.digits.eq(Cat(character[:4], before.digits.as_value())),
            ]
        with m.Elif(character == ord("=")):
            m.d.comb += field.in_value.eq(1)
        with m.Else():
            m.d.comb += [
                field.tag.eq(Cat(character[:4], before.tag.as_value())),
                field.tag_bad.eq(before.tag_bad | ~digit | ((before.tag_count == 0) & (character == ord("0")))),
                field.tag_count.eq(before.tag_count + (before.tag_count <= MOST_TAG_DIGITS)),
            ]
    return field, ends, overrun


def follow(m: Module, name: str, flow, event) -> tuple[Signal, Signal]:
    """The flow ``flow`` behind an event, and what is written."""
    after, span = Signal(Flow, name=f"{name}_after"), Signal(Span, name=f"{name}_span")
    m.d.comb += [
        after.eq(flow),
        after.body_left.eq(flow.body_left - event.byte),
        after.data_left.eq(flow.data_left - event.byte),
        span.start.eq(flow.start),
        span.last.eq(event.byte & event.last),
        span.release.eq(after.start),
    ]
    with m.If(event.gap | (event.byte & event.overrun)):
        m.d.comb += [
            span.written.eq(1),
            span.garbled.eq(~event.gap),
            span.gap.eq(event.gap),
            span.length.eq(event.end - flow.start),
            span.flags.eq(flow.flags | Mux(event.gap, 0, Flag.TOO_LONG)),
            after.eq(0),
            after.start.eq(event.end),
        ]
    with m.Elif(event.byte & event.ends):
        _end(m, name, flow, event.field, event.end, after, span)
    return after, span


def _end(m: Module, name: str, flow, field, end, after, span):
    """What the end of a field does to its flow, phase by phase."""

    def signal(what, shape=1):
        return Signal(shape, name=f"{name}_{what}")

    tag_bad, empty, length_like = signal("tag_bad"), signal("empty"), signal("length_like")
    m.d.comb += [
        tag_bad.eq(field.tag_bad | ~field.in_value | (field.tag_count == 0) | (field.tag_count > MOST_TAG_DIGITS)),
        empty.eq(field.value_count == 0),
        length_like.eq(field.digits_only & ~empty & (field.value_count <= MOST_LENGTH_DIGITS)),
    ]

    fails, cause, takes, complete, cut = (
        signal("fails"),
        signal("cause", 16),
        signal("takes"),
        signal("complete"),
        signal("cut"),
    )
    large = signal("large")
    held, number = signal("held", POSITION_BITS), signal("number", range(10**NUMBER_DIGITS))
    body_left, data_left = after.body_left, after.data_left
    m.d.comb += [
        held.eq(end - flow.start),
        number.eq(_number(field.digits)),
        large.eq(field.digits.as_value()[4 * NUMBER_DIGITS :].any()),
        after.sum.eq(flow.sum + field.sum),
        after.announced.eq(0),
    ]
    body_done, body_passed = signal("body_done"), signal("body_passed")
    data_done, data_passed = signal("data_done"), signal("data_passed")
    for left, done, passed in (("body_left", body_done, body_passed), ("data_left", data_done, data_passed)):
        rest = signal(f"{left}_behind", LEFT_BITS)
        m.d.comb += [rest.eq(flow[left] - 1), done.eq(rest == 0), passed.eq(rest[-1])]
    with m.Switch(flow.phase):
        with m.Case(Phase.SEEK):
            m.d.comb += cause.eq(Mux(flow.flags == 0, Flag.GARBAGE, 0))
            with m.If(~field.begin):
                m.d.comb += [after.flags.eq(flow.flags | cause), cut.eq(held >= FIELD_LIMIT)]
        with m.Case(Phase.LENGTH):
            with m.If(tag_bad | ~_tag_is(field, BODY_LENGTH_TAG) | ~length_like):
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]
            with m.Elif(large | (held + number + CHECK_SUM_FIELD_BYTES > MESSAGE_LIMIT)):
                m.d.comb += [fails.eq(1), cause.eq(Flag.TOO_LONG)]
            with m.Else():
                m.d.comb += [body_left.eq(number), after.phase.eq(Phase.BODY)]
                with m.If(number == 0):
                    m.d.comb += [after.phase.eq(Phase.TRAILER), after.flags.eq(flow.flags | Flag.STRUCTURE)]
        with m.Case(Phase.BODY):
            announced = ~tag_bad & Cat(
                flow.announced[n] & _tag_is(field, tag) for n, tag in enumerate(DATA_TAGS.values())
            ).any()  # fmt: skip
            with m.If(body_passed | (announced & (field.value_count > flow.announced_bytes))):
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]
            with m.Elif(announced & (field.value_count < flow.announced_bytes)):
                m.d.comb += [after.phase.eq(Phase.DATA), data_left.eq(flow.announced_bytes - field.value_count)]
            with m.Else():
                m.d.comb += takes.eq(1)
                with m.If(body_done):
                    m.d.comb += after.phase.eq(Phase.TRAILER)
        with m.Case(Phase.DATA):
            with m.If(body_passed | data_passed):
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]
            with m.Elif(data_done):
                m.d.comb += after.phase.eq(Mux(body_done, Phase.TRAILER, Phase.BODY))
        with m.Case(Phase.TRAILER):
            trailer = ~tag_bad & _tag_is(field, CHECK_SUM_TAG) & (field.length == CHECK_SUM_FIELD_BYTES)
            right = field.digits_only & (field.value_count == 3) & (number == flow.sum)
            with m.If(trailer):
                m.d.comb += [complete.eq(1), cause.eq(Mux(right, 0, Flag.CHECKSUM))]
            with m.Else():
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]

    with m.If(takes):
        announces = ~tag_bad & length_like & ~large & (number != 0) & (number <= MOST_DATA_BYTES)
        first_is_type = ~tag_bad & ~empty & _tag_is(field, MSG_TYPE_TAG)
        m.d.comb += [
            after.first_seen.eq(1),
            after.announced.eq(Cat(announces & _tag_is(field, tag) for tag in DATA_TAGS)),
            after.announced_bytes.eq(number),
            after.flags.eq(
                flow.flags | Mux(tag_bad, Flag.TAG, 0) | Mux(~flow.first_seen & ~first_is_type, Flag.STRUCTURE, 0)
            ),
        ]

    # fail, restart, and what is complete.
    restarts = (fails | (flow.phase == Phase.SEEK)) & field.begin
    flags = signal("flags", 16)
    m.d.comb += flags.eq(flow.flags | cause)
    with m.If(fails):
        m.d.comb += [after.flags.eq(flags), after.phase.eq(Phase.SEEK)]
    with m.If(restarts):
        m.d.comb += [
            span.written.eq(field.begin_at != flow.start),
            span.garbled.eq(1),
            span.length.eq(field.begin_at - flow.start),
            span.flags.eq(Mux(flags == 0, Flag.GARBAGE, flags)),
            after.start.eq(field.begin_at),
            after.sum.eq(field.sum_from_begin),
            after.flags.eq(0),
            after.first_seen.eq(0),
            after.phase.eq(Phase.LENGTH),
        ]
    with m.If(complete | cut):
        m.d.comb += [
            span.written.eq(1),
            span.garbled.eq(cut),
            span.length.eq(held),
            span.flags.eq(flags),
            after.start.eq(end),
            after.sum.eq(0),
            after.flags.eq(0),
            after.first_seen.eq(0),
            after.phase.eq(Phase.SEEK),
        ]
