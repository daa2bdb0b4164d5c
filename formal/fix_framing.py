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

TAG_DIGITS = 3
"""Last digits of a tag that are told apart: no tag that the framing knows has more."""


class Phase(enum.Enum, shape=unsigned(3)):
    """Where in its message a flow is."""

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
        "number": (10**MOST_LENGTH_DIGITS).bit_length(),
        "begin": 1,
        "begin_at": POSITION_BITS,
        "sum_from_begin": 8,
    }
)
"""The bytes since the last SOH. ``recent``: the last ones, the last first. ``number``: the value, while it is ``digits_only`` and has
no more digits than a length may have."""

Flow = data.StructLayout(
    {
        "field": Field,
        "phase": Phase,
        "start": POSITION_BITS,
        "flags": 16,
        "sum": 8,
        "body_end": POSITION_BITS,
        "data_end": POSITION_BITS,
        "first_seen": 1,
        "announced": len(DATA_TAGS),
        "announced_bytes": MOST_DATA_BYTES.bit_length(),
    }
)
"""A flow, as docs/fix.md names it. ``sum``: of the bytes from ``start`` to the unfinished field."""

Span = data.StructLayout(
    {"written": 1, "garbled": 1, "gap": 1, "start": POSITION_BITS, "length": POSITION_BITS, "flags": 16}
)
"""What a byte or a hole completed: a frame for ``length`` bytes from ``start`` on. ``garbled``: it is malformed whatever its flags."""


def before_all() -> dict:
    """The state of a flow of which nothing has come."""
    return {"field": {"digits_only": 1}}


def _tag_is(field, number: int):
    digits = [int(digit) for digit in reversed(str(number))]
    return (field.tag_count == len(digits)) & Cat(field.tag[n] == d for n, d in enumerate(digits)).all()


def _fresh_field(m: Module, field):
    m.d.comb += [field.eq(0), field.digits_only.eq(1)]


def hole(m: Module, name: str, flow, position) -> tuple[Signal, Signal]:
    """The flow behind a hole at ``position``, and the span that ends there."""
    after, span = Signal(Flow, name=f"{name}_after"), Signal(Span, name=f"{name}_span")
    _fresh_field(m, after.field)
    m.d.comb += [
        after.start.eq(position),
        span.written.eq(1),
        span.gap.eq(1),
        span.start.eq(flow.start),
        span.length.eq(position - flow.start),
        span.flags.eq(flow.flags),
    ]
    return after, span


def byte(m: Module, name: str, flow, character, position) -> tuple[Signal, Signal]:
    """The flow behind the byte ``character`` at ``position``, and the span that it completes."""
    after, span = Signal(Flow, name=f"{name}_after"), Signal(Span, name=f"{name}_span")
    field = _append(m, name, flow.field, character, position)
    end = Signal(POSITION_BITS, name=f"{name}_end")
    m.d.comb += [end.eq(position + 1), after.eq(flow), after.field.eq(field), span.start.eq(flow.start)]
    with m.If(character == SOH):
        _end(m, name, flow, field, end, after, span)
        _fresh_field(m, after.field)
    with m.Elif(field.length == FIELD_LIMIT):
        m.d.comb += [
            span.written.eq(1),
            span.garbled.eq(1),
            span.length.eq(end - flow.start),
            span.flags.eq(flow.flags | Flag.TOO_LONG),
            after.eq(0),
            after.start.eq(end),
        ]
        _fresh_field(m, after.field)
    return after, span


def _append(m: Module, name: str, before, character, position):
    """The field with one more byte; an SOH adds to its length and sum."""
    field = Signal(Field, name=f"{name}_field")
    digit = (character >= ord("0")) & (character <= ord("9"))
    window = [character, *(before.recent[n] for n in range(len(BEGIN) - 1))]
    begins = Cat(window[n] == BEGIN[-1 - n] for n in range(len(BEGIN))).all() & (before.length >= len(BEGIN) - 1)
    m.d.comb += [
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
    with m.If(character != SOH):
        with m.If(before.in_value):
            m.d.comb += [
                field.value_count.eq(before.value_count + 1),
                field.digits_only.eq(before.digits_only & digit),
            ]
            with m.If(before.value_count < MOST_LENGTH_DIGITS):
                m.d.comb += field.number.eq(before.number * 10 + character[:4])
        with m.Elif(character == ord("=")):
            m.d.comb += field.in_value.eq(1)
        with m.Else():
            m.d.comb += [
                field.tag.eq(Cat(character[:4], before.tag.as_value()[: 4 * (TAG_DIGITS - 1)])),
                field.tag_bad.eq(before.tag_bad | ~digit | ((before.tag_count == 0) & (character == ord("0")))),
                field.tag_count.eq(before.tag_count + (before.tag_count <= MOST_TAG_DIGITS)),
            ]
    return field


def _end(m: Module, name: str, flow, field, end, after, span):
    """What the end of a field does to its flow, phase by phase."""

    def signal(what, shape=1):
        return Signal(shape, name=f"{name}_{what}")

    tag_bad, empty, length_like = signal("tag_bad"), signal("empty"), signal("length_like")
    m.d.comb += [
        tag_bad.eq(
            field.tag_bad | ~field.in_value | (field.tag_count == 0) | (field.tag_count > MOST_TAG_DIGITS)
        ),
        empty.eq(field.value_count == 0),
        length_like.eq(field.digits_only & ~empty & (field.value_count <= MOST_LENGTH_DIGITS)),
    ]

    fails, cause, takes, complete, cut = signal("fails"), signal("cause", 16), signal("takes"), signal("complete"), signal("cut")
    held = signal("held", POSITION_BITS)
    body_left, data_left = signal("body_left", POSITION_BITS), signal("data_left", POSITION_BITS)

    def beyond(left):
        return left[-1]

    m.d.comb += [
        held.eq(end - flow.start),
        body_left.eq(flow.body_end - end),
        data_left.eq(flow.data_end + 1 - end),
        after.sum.eq(flow.sum + field.sum),
        after.announced.eq(0),
    ]
    with m.Switch(flow.phase):
        with m.Case(Phase.SEEK):
            m.d.comb += cause.eq(Mux(flow.flags == 0, Flag.GARBAGE, 0))
            with m.If(~field.begin):
                m.d.comb += [after.flags.eq(flow.flags | cause), cut.eq(held >= FIELD_LIMIT)]
        with m.Case(Phase.LENGTH):
            with m.If(tag_bad | ~_tag_is(field, BODY_LENGTH_TAG) | ~length_like):
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]
            with m.Elif(held + field.number + CHECK_SUM_FIELD_BYTES > MESSAGE_LIMIT):
                m.d.comb += [fails.eq(1), cause.eq(Flag.TOO_LONG)]
            with m.Else():
                m.d.comb += [after.body_end.eq(end + field.number), after.phase.eq(Phase.BODY)]
                with m.If(field.number == 0):
                    m.d.comb += [after.phase.eq(Phase.TRAILER), after.flags.eq(flow.flags | Flag.STRUCTURE)]
        with m.Case(Phase.BODY):
            announced = Cat(
                flow.announced[n] & _tag_is(field, tag) for n, tag in enumerate(DATA_TAGS.values())
            ).any() & ~tag_bad  # fmt: skip
            with m.If(beyond(body_left) | (announced & (field.value_count > flow.announced_bytes))):
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]
            with m.Elif(announced & (field.value_count < flow.announced_bytes)):
                m.d.comb += [
                    after.phase.eq(Phase.DATA),
                    after.data_end.eq(end - 1 - field.value_count + flow.announced_bytes),
                ]
            with m.Else():
                m.d.comb += takes.eq(1)
                with m.If(body_left == 0):
                    m.d.comb += after.phase.eq(Phase.TRAILER)
        with m.Case(Phase.DATA):
            with m.If(beyond(body_left) | beyond(data_left)):
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]
            with m.Elif(data_left == 0):
                m.d.comb += after.phase.eq(Mux(body_left == 0, Phase.TRAILER, Phase.BODY))
        with m.Case(Phase.TRAILER):
            trailer = ~tag_bad & _tag_is(field, CHECK_SUM_TAG) & (field.length == CHECK_SUM_FIELD_BYTES)
            right = field.digits_only & (field.value_count == 3) & (field.number == flow.sum)
            with m.If(trailer):
                m.d.comb += [complete.eq(1), cause.eq(Mux(right, 0, Flag.CHECKSUM))]
            with m.Else():
                m.d.comb += [fails.eq(1), cause.eq(Flag.LENGTH)]

    with m.If(takes):
        announces = length_like & (field.number != 0) & (field.number <= MOST_DATA_BYTES) & ~tag_bad
        first_is_type = ~tag_bad & ~empty & _tag_is(field, MSG_TYPE_TAG)
        m.d.comb += [
            after.first_seen.eq(1),
            after.announced.eq(Cat(announces & _tag_is(field, tag) for tag in DATA_TAGS)),
            after.announced_bytes.eq(field.number),
            after.flags.eq(
                flow.flags
                | Mux(tag_bad, Flag.TAG, 0)
                | Mux(~flow.first_seen & ~first_is_type, Flag.STRUCTURE, 0)
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
