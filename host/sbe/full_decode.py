"""Every field of every message as columns: captures to tables, a template each, groups as child tables.

Messages are found and walked by the rules of docs/sbe.md; blocks are copied into rows (:mod:`host.sbe.layout`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.flow import Flow, Parser
from hdl.frame import Flag
from hdl.limits import ENTRY_LIMIT
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card.sbe_source import framing_of
from host.card.soft_ethernet import PARSED, dissect, flow_table
from host.card.soft_feed import read_only
from host.card.soft_sbe import BY_STRUCTURE, SBE_STATE_DTYPE, begin_packet, find_message, load, load_count
from host.memory import KERNEL, copy_bytes
from host.sbe.layout import DATA, END, PRESENT, TableLayout, table_layouts, walk_of

SBE = int(Parser.SBE)
LENGTH = int(Flag.LENGTH)
TEMPLATE = int(Flag.TEMPLATE)
TRUNCATED = int(Flag.TRUNCATED)
TOO_LONG = int(Flag.TOO_LONG)

PROBLEM_DTYPE = np.dtype(
    [("timestamp", "<u8"), ("offset", "<u8"), ("length", "<u4"), ("flow", "<u2"), ("template", "<u2"), ("flags", "<u2")]
)
"""A message that was not decoded, or not to its end: where its bytes lie in the packets' ``data``, and why (bits of Flag)."""


class Header(NamedTuple):
    """The SBE header as compiled code takes it."""

    size: int
    schema_id: int
    block_length_offset: int
    block_length_size: int
    template_offset: int
    template_size: int
    schema_offset: int
    schema_size: int
    version_offset: int
    version_size: int


class Work(NamedTuple):
    """What the walk writes: ``out`` has all tables, one behind the other from ``base`` on; ``counts`` their rows so far; ``remaining``,
    ``block``, ``row`` and ``place`` are of the groups that it is in, by node."""

    out: np.ndarray
    base: np.ndarray
    counts: np.ndarray
    remaining: np.ndarray
    block: np.ndarray
    row: np.ndarray
    place: np.ndarray
    problems: np.ndarray
    problem_count: np.ndarray
    messages: np.ndarray


@njit(inline="always")
def _put(out, at, value, size):
    for n in range(size):
        out[at + n] = np.uint8(value >> np.uint64(8 * n))


@njit(**KERNEL)
def _add_row(work, walk, fill, data, table, at, length):
    """Add a row for the block ``data[at:at+length]``; returns its number."""
    row = work.counts[table]
    work.counts[table] = row + 1
    if fill:
        its = walk.tables[table]
        place = work.base[table] + row * its.row_bytes
        copy_bytes(work.out, place, walk.blanks, its.blank, its.row_bytes)
        whole = walk.cuts[its.cut + min(length, its.block_bytes)]
        copy_bytes(work.out, place, data, at, whole)
        _put(work.out, place + its.present, np.uint64(whole), 4)
    return row


@njit(**KERNEL)
def _walk_message(work, walk, fill, data, row_of_message, root, root_bytes, end, version):
    """Add the rows of a message whose root block is whole. Returns its cause (0: none) and where it ends."""
    message = walk.messages[row_of_message]
    root_row = _add_row(work, walk, fill, data, message.table, root, root_bytes)
    at = root + root_bytes
    entries = 0
    node = message.first
    while node != END:
        if node <= -2:
            # An entry has ended.
            group = -2 - node
            work.remaining[group] -= 1
            if work.remaining[group] == 0:
                node = walk.nodes[group].next
                continue
            work.place[group] += 1
        else:
            its = walk.nodes[node]
            if at == end or version < its.since_version:
                node = its.next
                continue
            if its.size > end - at:
                return LENGTH, at
            size = load_count(data, at + its.length_offset, its.length_size, walk.big)
            if its.kind == DATA:
                at += its.size
                if size > end - at:
                    return LENGTH, at
                if fill:
                    parent = root_row if its.parent == END else work.row[its.parent]
                    place = work.base[its.table] + parent * walk.tables[its.table].row_bytes + its.column
                    _put(work.out, place, np.uint64(at), 8)
                    _put(work.out, place + 8, np.uint64(size), 4)
                at += size
                node = its.next
                continue
            count = load_count(data, at + its.count_offset, its.count_size, walk.big)
            at += its.size
            if count == 0:
                node = its.next
                continue
            work.remaining[node] = count
            work.block[node] = size
            work.place[node] = 0
            group = node
        its = walk.nodes[group]
        size = work.block[group]
        if size > end - at or (size == 0 and not its.inside):
            return LENGTH, at
        entries += 1
        if entries == ENTRY_LIMIT:
            return TOO_LONG, at
        row = _add_row(work, walk, fill, data, its.table, at, size)
        work.row[group] = row
        if fill:
            table = walk.tables[its.table]
            place = work.base[its.table] + row * table.row_bytes + table.first_column
            parent = root_row if its.parent == END else work.row[its.parent]
            _put(work.out, place, np.uint64(parent), 8)
            _put(work.out, place + 8, np.uint64(work.place[group]), 4)
        at += size
        node = its.first
    return 0, at


@njit(**KERNEL)
def _note(work, fill, state, message, length, cause):
    """Add a message to those that were not decoded to their end."""
    number = work.problem_count[0]
    work.problem_count[0] = number + 1
    if fill:
        problem = work.problems[number]
        problem.timestamp = state.timestamp
        problem.offset = message
        problem.length = length
        problem.flow = state.flow
        problem.template = state.message_type
        problem.flags = cause


@njit(**KERNEL)
def decode_packets(work, walk, header, framing, fill, states, flows, data, offset, length, timestamp):
    """Count the rows of all packets, or with ``fill`` write them too."""
    state = states[0]
    for packet in range(offset.size):
        counter, flow, _, begin, end, fragment = dissect(
            data, np.int64(offset[packet]), np.int64(length[packet]), flows
        )
        if counter != PARSED or flows[flow].parser != SBE:
            continue
        begin_packet(state, framing, data, begin, end, flow, timestamp[packet], fragment)
        while state.message < end - begin:
            message, there, following, readable, cause = find_message(state, framing, data, begin, end)
            work.messages[0] += 1
            if readable and there >= header.size:
                template = load(data, message + header.template_offset, header.template_size, walk.big)
                state.message_type = np.uint16(template)
                known = END
                if load(data, message + header.schema_offset, header.schema_size, walk.big) == np.uint64(
                    header.schema_id
                ) and template < np.uint64(walk.templates.size):
                    known = walk.templates[np.int64(template)]
                if known == END:
                    cause = TEMPLATE if cause == 0 else cause
                else:
                    root = message + header.size
                    place = message + header.block_length_offset
                    root_bytes = load_count(data, place, header.block_length_size, walk.big)
                    if root_bytes > message + there - root:
                        if cause == 0:
                            cause = TRUNCATED if framing.end == BY_STRUCTURE else LENGTH
                    else:
                        place = message + header.version_offset
                        version = load_count(data, place, header.version_size, walk.big)
                        row = work.counts[walk.messages[known].table]
                        wrong, at = _walk_message(
                            work, walk, fill, data, known, root, root_bytes, message + there, version
                        )
                        if fill:
                            table = walk.tables[walk.messages[known].table]
                            place = work.base[walk.messages[known].table] + row * table.row_bytes + table.first_column
                            _put(work.out, place, np.uint64(timestamp[packet]), 8)
                            _put(work.out, place + 8, np.uint64(state.sequence), 4)
                            _put(work.out, place + 12, np.uint64(flow), 2)
                            _put(work.out, place + 14, np.uint64(version), 2)
                        if cause == 0 and wrong != 0:
                            cause = TRUNCATED if framing.end == BY_STRUCTURE else wrong
                        if framing.end == BY_STRUCTURE and cause == 0:
                            there = at - message
                            following = at - begin
            if cause != 0:
                _note(work, fill, state, message, there, cause)
            state.message = following if framing.end != BY_STRUCTURE or cause == 0 else end - begin
        state.message = -1


@dataclass(frozen=True)
class Table:
    """A template's messages or a group's entries.

    ``rows[name]`` is a column: a field, ``field.member`` of a composite, var data as offset and length into the packets' ``data``,
    and those that begin with ``@`` (:mod:`host.sbe.layout`). Numbers stand as on the wire, nulls too; :meth:`is_null` tells.
    """

    layout: TableLayout
    rows: np.ndarray

    @property
    def name(self) -> str:
        """``Template`` or ``Template.Group``."""
        return self.layout.name

    def __len__(self) -> int:
        return len(self.rows)

    def is_null(self, name: str) -> np.ndarray:
        """By row: whether a field (or member, or var data) has no value. Raises KeyError where there is none of that name."""
        for data in self.layout.data:
            if data.name == name:
                return self.rows[name]["offset"] == 0
        column = next((column for column in self.layout.columns if column.name == name), None)
        if column is None:
            raise KeyError(name)
        encoding = column.leaf.encoding
        if not encoding.size:
            return np.zeros(len(self.rows), bool)
        absent: np.ndarray = self.rows[PRESENT] < column.leaf.end
        if encoding.length != 1 or encoding.null is None:
            return absent
        values = self.rows[name]
        if encoding.is_floating:
            return absent | (np.isnan(values) if encoding.null != encoding.null else values == encoding.null)
        if encoding.is_char:
            return absent | (_codes(values) == encoding.null)
        return absent | (values == encoding.null)


def _codes(characters: np.ndarray) -> np.ndarray:
    """The codes of single characters."""
    return np.ascontiguousarray(characters).view(np.uint8)


@dataclass(frozen=True)
class Decoded:
    """What a capture's packets hold: ``tables`` by name (all of the schema's, some without rows), ``problems`` of :data:`PROBLEM_DTYPE`,
    and how many ``messages`` there were, those of ``problems`` among them."""

    tables: Mapping[str, Table]
    problems: np.ndarray
    messages: int
    data: np.ndarray

    def bytes_of(self, reference: np.void) -> bytes:
        """Var data: the bytes that a row's column of offset and length names."""
        begin = int(reference["offset"])
        return self.data[begin : begin + int(reference["length"])].tobytes()


class FullDecoder:
    """Decodes packets of SBE flows; one for a venue and its flow table."""

    def __init__(self, venue: Venue, flows: Sequence[Flow]) -> None:
        schema, header = venue.schema, venue.schema.header
        self._layouts = table_layouts(schema)
        self._walk = walk_of(schema, self._layouts)
        self._framing = framing_of(venue.profile.framing, schema)
        self._flows = flow_table(flows)
        self._header = Header(
            header.size,
            schema.id,
            *header.block_length,
            *header.template_id,
            *header.schema_id,
            *header.version,
        )

    def decode(self, packets: Packets) -> Decoded:
        """All messages of packets, each from the beginning: a message never goes on in the next packet."""
        arrays = (
            read_only(packets.data, np.uint8),
            read_only(packets.offset, np.uint64),
            read_only(packets.length, np.uint32),
            read_only(packets.timestamp, np.uint64),
        )
        nothing = np.zeros(len(self._layouts), np.int64)
        counted = self._run(False, np.empty(1, np.uint8), nothing, np.zeros(1, PROBLEM_DTYPE), arrays)
        sizes = counted.counts * self._walk.tables["row_bytes"]
        base = np.cumsum(sizes) - sizes
        # One buffer for all tables; page by page it is written once.
        out = np.empty(int(sizes.sum()) or 1, np.uint8)
        problems = np.zeros(int(counted.problem_count[0]) or 1, PROBLEM_DTYPE)
        self._run(True, out, base, problems, arrays)
        tables = {
            layout.name: Table(layout, out[begin : begin + size].view(layout.dtype))
            for layout, begin, size in zip(self._layouts, base.tolist(), sizes.tolist(), strict=True)
        }
        return Decoded(tables, problems[: counted.problem_count[0]], int(counted.messages[0]), packets.data)

    def _run(
        self, fill: bool, out: np.ndarray, base: np.ndarray, problems: np.ndarray, arrays: tuple[np.ndarray, ...]
    ) -> Work:
        """Walk through all packets; returns what was counted."""
        nodes = len(self._walk.nodes)
        work = Work(
            out=out,
            base=base,
            counts=np.zeros(len(self._layouts), np.int64),
            remaining=np.zeros(nodes, np.int64),
            block=np.zeros(nodes, np.int64),
            row=np.zeros(nodes, np.int64),
            place=np.zeros(nodes, np.int64),
            problems=problems,
            problem_count=np.zeros(1, np.int64),
            messages=np.zeros(1, np.int64),
        )
        state = np.zeros(1, SBE_STATE_DTYPE)
        state["message"] = -1
        decode_packets(work, self._walk, self._header, self._framing, fill, state, self._flows, *arrays)
        return work
