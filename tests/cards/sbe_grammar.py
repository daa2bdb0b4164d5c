"""SBE packets in CME's framing: encoded by a schema, then damaged in every place that has a length, a count or an id."""

from dataclasses import dataclass

from hypothesis import strategies as st

from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from hdl.sbe_schema import Message, Schema, Slot
from host.capture.write import tcp_packet, udp_packet
from tests.cards.comparison import CLIENTS, FEED, FEEDER
from tests.cards.fuzzing import mostly, weighted

LONGEST_PAYLOAD = 9100

block_parts = st.one_of(
    st.integers(0, 2**22).map(lambda number: number.to_bytes(8, "little")),
    st.integers(0, 2**20).map(lambda number: number.to_bytes(4, "little")),
    st.sampled_from(
        [
            bytes(8),
            b"\xff" * 8,
            (2**63 - 1).to_bytes(8, "little"),
            (2**63).to_bytes(8, "little"),
            (2**31 - 1).to_bytes(4, "little"),
            (2**31).to_bytes(4, "little"),
            (2**63 // 100).to_bytes(8, "little"),
            (2**63 // 100 + 1).to_bytes(8, "little"),
            (2**64 - 2**63 // 100).to_bytes(8, "little"),
            (2**64 - 2**63 // 100 - 1).to_bytes(8, "little"),
            (425_025_000_000).to_bytes(8, "little"),
            (17).to_bytes(4, "little"),
            b"\x7f",
            b"\x80",
            b"\x00",
            b"\x09",
            b"\x0a",
            b"0",
            b"1",
            b"2",
            b"J",
        ]
    ),
    st.binary(min_size=1, max_size=9),
)
block_patterns = st.lists(block_parts, min_size=1, max_size=8).map(b"".join)
"""What blocks are filled with, again and again: numbers near their limits, nulls, characters of entry types."""


@dataclass(frozen=True)
class GroupDraw:
    """A group: how much longer its blocks are than the schema says, or how long; entries there; entries counted besides."""

    more: int
    stated_length: int | None
    entries: int
    more_counted: int


@dataclass(frozen=True)
class MessageDraw:
    """A message before it is encoded. None: as the schema and the bytes have it."""

    template: int
    pattern: bytes
    root_more: int
    root_length: int | None
    groups: tuple[GroupDraw, ...]
    groups_there: int
    template_id: int | None
    schema_id: int | None
    version: int
    size: int | None
    size_more: int
    tail: bytes
    cut: int


small_changes = mostly(0, st.sampled_from([-8, -2, -1, 1, 2, 5, 8]))
lengths = mostly(None, st.one_of(st.sampled_from([0, 1, 7, 255, 4096, 65535]), st.integers(0, 100)), 15)
ids = mostly(None, st.sampled_from([0, 1, 255, 256, 65535, 2**16 + 3, 2**32 - 1]), 15)
group_draws = st.builds(
    GroupDraw,
    more=small_changes,
    stated_length=lengths,
    entries=weighted((8, st.integers(0, 4)), (1, st.integers(0, 255)), (1, st.integers(250, ENTRY_LIMIT + 100))),
    more_counted=mostly(0, st.sampled_from([-1, 1, 2, 300, 65536, 2**24])),
)


def message_draws(schema: Schema) -> st.SearchStrategy[MessageDraw]:
    """Messages of a schema, most of them nearly right."""
    return st.builds(
        MessageDraw,
        template=st.integers(0, len(schema.messages) - 1),
        pattern=block_patterns,
        root_more=small_changes,
        root_length=lengths,
        groups=st.lists(group_draws, min_size=1, max_size=3).map(tuple),
        groups_there=mostly(9, st.sampled_from([0, 1])),
        template_id=ids,
        schema_id=ids,
        version=st.integers(0, 65535),
        size=mostly(
            None,
            st.one_of(
                st.integers(0, 12), st.sampled_from([MESSAGE_LIMIT + 1, MESSAGE_LIMIT + 2, MESSAGE_LIMIT + 3, 65535])
            ),
            30,
        ),
        size_more=mostly(0, st.sampled_from([-8, -2, -1, 1, 2, 5, 8]), 20),
        tail=mostly(b"", st.binary(max_size=20)),
        cut=mostly(0, st.integers(0, 60), 20),
    )


def _filled(pattern: bytes, size: int) -> bytes:
    return (pattern * (size // len(pattern) + 1))[: max(size, 0)]


def _put(target: bytearray, slot: Slot, number: int) -> None:
    target[slot.offset : slot.offset + slot.size] = (number % (1 << 8 * slot.size)).to_bytes(slot.size, "little")


def encode(schema: Schema, drawn: MessageDraw, own_limit: int = 65535 - 2) -> bytes:
    """The message behind its size, at most ``own_limit`` bytes of it."""
    template: Message = schema.messages[drawn.template]
    header = bytearray(schema.header.size)
    root = _filled(drawn.pattern, template.block_length + drawn.root_more)
    _put(header, schema.header.block_length, len(root) if drawn.root_length is None else drawn.root_length)
    _put(header, schema.header.template_id, template.id if drawn.template_id is None else drawn.template_id)
    _put(header, schema.header.schema_id, schema.id if drawn.schema_id is None else drawn.schema_id)
    _put(header, schema.header.version, drawn.version)
    parts = [bytes(header), root]
    for number, group in enumerate(template.groups[: drawn.groups_there]):
        draw = drawn.groups[number % len(drawn.groups)]
        length = max(group.block_length + draw.more, 0) if draw.stated_length is None else draw.stated_length
        dimension = bytearray(_filled(drawn.pattern, group.dimension.size))
        _put(dimension, group.dimension.block_length, length)
        entries = min(draw.entries, own_limit // max(length, 1))
        _put(dimension, group.dimension.count, max(entries + draw.more_counted, 0))
        parts += [bytes(dimension), _filled(drawn.pattern[::-1] + drawn.pattern, length * entries)]
    body = (b"".join(parts) + drawn.tail)[:own_limit]
    stated = len(body) + 2 + drawn.size_more if drawn.size is None else drawn.size
    whole = (stated % 65536).to_bytes(2, "little") + body
    return whole[: len(whole) - drawn.cut]


def sbe_payloads(schema: Schema) -> st.SearchStrategy[bytes]:
    """Payloads of packets: a header of 12 bytes and a few messages, rarely cut or followed by junk."""
    headers = weighted((20, st.binary(min_size=12, max_size=12)), (1, st.binary(max_size=13)))
    return st.builds(
        lambda header, drawn, limit, junk, cut: (
            header + b"".join(encode(schema, each, limit) for each in drawn) + junk
        )[:LONGEST_PAYLOAD][: cut or None],
        headers,
        st.lists(message_draws(schema), max_size=4),
        st.sampled_from([MESSAGE_LIMIT, MESSAGE_LIMIT, LONGEST_PAYLOAD]),
        mostly(b"", st.binary(max_size=5)),
        mostly(0, st.integers(1, 400)),
    )


def sbe_packet(flow: int, payload: bytes) -> bytes:
    """A packet of one of the flow table's SBE rows (4, 5 and, by TCP, 6)."""
    if flow == 6:
        return tcp_packet(payload, CLIENTS[0], FEED, sequence=0)
    return udp_packet(payload, FEEDER if flow == 4 else CLIENTS[0], FEED)
