"""docs/sbe.md, "The packet" and "The message", of one short packet at once: what the SBE decoder is compared with.

It is written from that page for the schema of ``formal/small_venue`` whose profile gives lengths, and shares limits and flags
with the decoder. All of a packet is there, so nothing waits: no states, no moves, no memory.
"""

from typing import NamedTuple

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value

from hdl.frame import Flag
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT

SCHEMA, PLAIN, BOOK = 9, 1, 2
GROUP_SINCE = 1
MAGIC = 0xA5
PACKET_HEADER, PREFIX, HEADER, DIMENSION = 2, 2, 4, 2
SHORTEST = PREFIX + HEADER
"""Bytes of the shortest message after which another one follows."""

BITS = 10
"""Of a place in a packet, or beyond it."""


class Expected(NamedTuple):
    """What the page says of one message. Frames before the last one, and the last one unless ``failed``, are whole entries, or
    that of the root block where the message has none (``entries`` is 0)."""

    exists: Value
    start: Value
    length: Value
    message_type: Value
    frames: Value
    entries: Value
    failed: Value
    unknown: Value
    cause: Value
    first: Value
    """Where the first entry begins in the message; each is ``size`` bytes."""
    size: Value
    book: Value
    """Whether its frames have the market data view of the schema's second template."""
    has_root: Value
    """Whether the root block has its field."""


def most_messages(size: int) -> int:
    """Messages of a packet, at most; the last one may be cut."""
    return 1 + (size - PACKET_HEADER) // SHORTEST


def expected_of(m: Module, bytes_: list[Value], size: Value) -> list[Expected]:
    """What is expected of a packet: the first ``size`` of ``bytes_``."""
    names = iter(range(10_000))

    def named(value, width=BITS):
        signal = Signal(width, name=f"rule{next(names)}")
        m.d.comb += signal.eq(value)
        return signal

    array = Array(bytes_)

    def at(place):
        return named(Mux(place < len(bytes_), array[place[: (len(bytes_) - 1).bit_length()]], 0), 8)

    messages = []
    no_header = named(size < PACKET_HEADER, 1)
    begin, goes_on = (
        named(Mux(no_header, 0, PACKET_HEADER)),
        named((size > 0) & (no_header | (size > PACKET_HEADER)), 1),
    )
    for number in range(most_messages(len(bytes_))):
        without = no_header if number == 0 else Const(0)
        no_prefix = named((size - begin < PREFIX) | without, 1)
        start = named(Mux(no_prefix, begin, begin + PREFIX))
        told = at(begin + 1)
        garbage = named(~no_prefix & (at(begin) != MAGIC), 1)
        too_short, too_long = named(told < HEADER, 1), named(told > MESSAGE_LIMIT, 1)
        lost = named(no_prefix | garbage | too_short | too_long, 1)
        end = named(start + told)
        cut = named(no_prefix | (~lost & (end > size)), 1)
        there = named(Mux(lost | (end > size), size, end))  # where the bytes of the message that are there end
        headless = named(lost | (there - start < HEADER), 1)
        root_length, template, schema, version = (at(start + n) for n in range(HEADER))
        known = named(~headless & (schema == SCHEMA) & ((template == PLAIN) | (template == BOOK)), 1)
        body = named(start + HEADER)
        root_end = named(body + root_length)
        root_fits = named(known & (root_end <= there), 1)
        has_group = named(root_fits & (template == BOOK) & (version >= GROUP_SINCE) & (root_end < there), 1)
        dimension_fits = named(has_group & (root_end + DIMENSION <= there), 1)
        block, count = at(root_end), at(root_end + 1)
        first = named(root_end + DIMENSION)
        endless = named((block == 0) & (count != 0), 1)
        fits = Cat(
            dimension_fits & ~endless & (count > n) & (first + (n + 1) * block <= there) for n in range(ENTRY_LIMIT)
        )
        whole = named(sum(fits[1:], fits[0]), 4)
        lengthy = named(
            known
            & (
                ~root_fits
                | (has_group & ~dimension_fits)
                | (dimension_fits & (endless | (count > whole) & (whole < ENTRY_LIMIT)))
            ),
            1,
        )
        foreign = named(~headless & ~known, 1)
        wrong = named(lost | cut | foreign | lengthy, 1)
        beyond = named((whole == ENTRY_LIMIT) | ((whole == ENTRY_LIMIT - 1) & wrong), 1)
        entries = named(Mux(beyond, ENTRY_LIMIT - 1, whole), 4)
        failed = named(wrong | beyond, 1)
        cause = named(0, 16)
        with m.If(beyond):
            m.d.comb += cause.eq(Flag.TOO_LONG)
        with m.Elif(garbage):
            m.d.comb += cause.eq(Flag.GARBAGE)
        with m.Elif(cut):
            m.d.comb += cause.eq(Flag.TRUNCATED)
        with m.Elif(too_short | lengthy):
            m.d.comb += cause.eq(Flag.LENGTH)
        with m.Elif(too_long):
            m.d.comb += cause.eq(Flag.TOO_LONG)
        with m.Elif(foreign):
            m.d.comb += cause.eq(Flag.TEMPLATE)
        messages.append(
            Expected(
                exists=goes_on,
                start=start,
                length=named(there - start),
                message_type=named(Mux(headless, 0, template), 8),
                frames=named(Mux(failed, entries + 1, Mux(entries == 0, 1, entries)), 4),
                entries=entries,
                failed=failed,
                unknown=named(foreign & ~cut & (schema == SCHEMA), 1),
                cause=cause,
                first=named(first - start),
                size=block,
                book=named(template == BOOK, 1),
                has_root=named(root_length != 0, 1),
            )
        )
        begin, goes_on = end, named(goes_on & ~lost & (end < size), 1)
    return messages
