"""Every field of every message as columns: captures to tables, a template each, groups as child tables.

Messages are found and walked by the rules of docs/sbe.md; blocks are copied into rows (:mod:`host.sbe.layout`).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.flow import Flow, Parser
from hdl.frame import Flag
from hdl.limits import ENTRY_LIMIT, MESSAGE_LIMIT
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card.sbe_source import framing_of
from host.card.soft_ethernet import PARSED, dissect, flow_table
from host.card.soft_sbe import BY_STRUCTURE, SBE_STATE_DTYPE, begin_packet, find_message, load, load_count
from host.memory import INLINED, KERNEL, address_of, copy_to, read_only, store_number
from host.sbe.layout import DATA, END, PRESENT, TableLayout, table_layouts, walk_of

SBE = int(Parser.SBE)
LENGTH = int(Flag.LENGTH)
TEMPLATE = int(Flag.TEMPLATE)
TRUNCATED = int(Flag.TRUNCATED)
TOO_LONG = int(Flag.TOO_LONG)
SHORT = -1
"""A message needs more bytes than it has; what that means depends on what ends it."""

FIRST_ROWS = 4096
"""Rows that a table has room for at first."""

GROWTH = 4
"""A full table gets so many times the room: copies are few, and what is never written takes no memory."""

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


GROUP_DTYPE = np.dtype([("remaining", np.int64), ("block", np.int64), ("row", np.int64), ("index", np.int64)])
"""A group that the walk is in: entries to come, their block length, the current entry's row and place in the group."""

PROGRESS_DTYPE = np.dtype(
    [("packet", np.int64), ("template", np.int64), ("messages", np.int64), ("problems", np.int64)]
)
"""How far the walk is: the packet, the last template (as a row of the walk's messages); how many messages and problems it has found."""


class Work(NamedTuple):
    """What the walk writes: by table, where its ``rows`` lie (an address), how many there are and for how many there is room; by
    node, the ``groups`` that it is in."""

    rows: np.ndarray
    counts: np.ndarray
    room: np.ndarray
    groups: np.ndarray
    problems: np.ndarray
    progress: np.ndarray


@njit(**INLINED)
def _add_row(work, walk, data, table, at, length):
    """Add a row for the block ``data[at:at+length]``; returns its number, and the address of its columns that are not of the block."""
    row = work.counts[table]
    work.counts[table] = row + 1
    its = walk.tables[table]
    place = work.rows[table] + row * its.row_bytes
    whole = its.block_bytes if length >= its.block_bytes else walk.cuts[its.cut + length]
    copy_to(place, address_of(data, at), whole)
    copy_to(place + whole, address_of(walk.blanks, its.blank + whole), its.row_bytes - whole)
    store_number(place + its.present, whole, 4)
    return row, place + its.first_column


@njit(**INLINED)
def _walk_message(work, walk, data, node, root_row, at, end, version):
    """Add the rows of a message's groups, which begin at ``node``. Returns its cause (0: none), where it
    ends, and how many entries it has."""
    entries = 0
    while node != END:
        if node <= -2:
            # An entry has ended.
            number = -2 - node
            group = work.groups[number]
            group.remaining -= 1
            if group.remaining == 0:
                node = walk.nodes[number].next
                continue
            group.index += 1
        else:
            its = walk.nodes[node]
            if at == end or version < its.since_version:
                node = its.next
                continue
            if its.size > end - at:
                return SHORT, at, entries
            size = load_count(data, at + its.length_offset, its.length_size, walk.big)
            if its.kind == DATA:
                at += its.size
                if size > end - at:
                    return SHORT, at, entries
                parent = root_row if its.parent == END else work.groups[its.parent].row
                place = work.rows[its.table] + parent * walk.tables[its.table].row_bytes + its.column
                store_number(place, at, 8)
                store_number(place + 8, size, 4)
                at += size
                node = its.next
                continue
            count = load_count(data, at + its.count_offset, its.count_size, walk.big)
            at += its.size
            if count == 0:
                node = its.next
                continue
            number = node
            group = work.groups[number]
            group.remaining = count
            group.block = size
            group.index = 0
        its = walk.nodes[number]
        size = group.block
        if size == 0 and not its.inside:
            return LENGTH, at, entries
        if size > end - at:
            return SHORT, at, entries
        entries += 1
        if entries == ENTRY_LIMIT:
            return TOO_LONG, at, entries
        group.row, place = _add_row(work, walk, data, its.table, at, size)
        store_number(place, root_row if its.parent == END else work.groups[its.parent].row, 8)
        store_number(place + 8, group.index, 4)
        at += size
        node = its.first
    return 0, at, entries


@njit(**INLINED)
def _has_room(work, message):
    """Whether there is room for all rows that a message may have."""
    if work.counts[message.table] == work.room[message.table]:
        return False
    for table in range(message.table + 1, message.table + message.tables):
        if work.counts[table] + ENTRY_LIMIT > work.room[table]:
            return False
    return True


@njit(**KERNEL)
def decode_packets(work, walk, header, framing, states, flows, data, offset, length, timestamp):
    """Add the rows of all packets; False where there is no room: then call again with more of it."""
    state = states[0]
    progress = work.progress[0]
    for packet in range(progress.packet, offset.size):
        progress.packet = packet
        counter, flow, _, begin, end, fragment = dissect(
            data, np.int64(offset[packet]), np.int64(length[packet]), flows
        )
        if counter != PARSED or flows[flow].parser != SBE:
            continue
        begin_packet(state, framing, data, begin, end, flow, timestamp[packet], fragment)
        while state.message < end - begin:
            if progress.problems == work.problems.size:
                return False
            message, there, following, readable, cause = find_message(state, framing, data, begin, end)
            entries = 0
            by_structure = framing.end == BY_STRUCTURE
            goes_on = by_structure and there > MESSAGE_LIMIT
            if goes_on:
                there = MESSAGE_LIMIT
            if readable and there >= header.size:
                template = load(data, message + header.template_offset, header.template_size, walk.big)
                state.message_type = np.uint16(template)
                schema = load(data, message + header.schema_offset, header.schema_size, walk.big)
                known = END
                if schema == np.uint64(header.schema_id) and template < np.uint64(walk.templates.size):
                    known = walk.templates[np.int64(template)]
                if known == END:
                    wrong, at = TEMPLATE, message
                else:
                    its = walk.messages[known]
                    progress.template = known
                    if not _has_room(work, its):
                        return False
                    at = message + header.size
                    place = message + header.block_length_offset
                    root_bytes = load_count(data, place, header.block_length_size, walk.big)
                    if root_bytes > message + there - at:
                        wrong = SHORT
                    else:
                        place = message + header.version_offset
                        version = load_count(data, place, header.version_size, walk.big)
                        row, place = _add_row(work, walk, data, its.table, at, root_bytes)
                        store_number(place, np.int64(timestamp[packet]), 8)
                        store_number(place + 8, np.int64(state.sequence), 4)
                        store_number(place + 12, flow, 2)
                        store_number(place + 14, version, 2)
                        wrong, at, entries = _walk_message(
                            work, walk, data, its.first, row, at + root_bytes, message + there, version
                        )
                if wrong == SHORT:
                    wrong = LENGTH if not by_structure else TOO_LONG if goes_on else TRUNCATED
                if cause == 0:
                    cause = wrong
                    if by_structure and cause == 0:
                        there = at - message
                        following = at - begin
            progress.messages += 1
            if cause != 0:
                # The frame that would say so is the message's last one, whatever it would have said.
                if entries >= ENTRY_LIMIT - 1:
                    cause = TOO_LONG
                problem = work.problems[progress.problems]
                progress.problems += 1
                problem.timestamp = state.timestamp
                problem.offset = message
                problem.length = there
                problem.flow = state.flow
                problem.template = state.message_type
                problem.flags = cause
            # Where a message that ends by its structure is wrong, the next one's begin is not known.
            state.message = end - begin if by_structure and cause != 0 else following
        state.message = -1
    return True


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

    @functools.cached_property
    def _is_whole(self) -> bool:
        """Whether every row has all fields of its block."""
        return not len(self.rows) or int(self.rows[PRESENT].min()) >= self.layout.block.block_length

    def is_null(self, name: str) -> np.ndarray:
        """By row: whether a field (or member, or var data) has no value. Raises KeyError where there is none of that name."""
        if any(data.name == name for data in self.layout.block.data):
            empty: np.ndarray = self.rows[name]["offset"] == 0
            return empty
        leaf = self.layout.by_name[name]
        encoding = leaf.encoding
        if not encoding.size:
            return np.zeros(len(self.rows), bool)
        absent: np.ndarray = np.zeros(len(self.rows), bool) if self._is_whole else self.rows[PRESENT] < leaf.end
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
        self._empty = {layout.name: Table(layout, np.empty(0, layout.dtype)) for layout in self._layouts}
        self._room = np.zeros(len(self._layouts), np.int64)
        """Rows by table that there is room for at first: somewhat more than the last packets had."""
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
        work = Work(
            rows=np.zeros(len(self._layouts), np.int64),
            counts=np.zeros(len(self._layouts), np.int64),
            room=np.zeros(len(self._layouts), np.int64),
            groups=np.zeros(len(self._walk.nodes), GROUP_DTYPE),
            problems=np.empty(FIRST_ROWS, PROBLEM_DTYPE),
            progress=np.zeros(1, PROGRESS_DTYPE),
        )
        buffers: dict[int, np.ndarray] = {}

        def make_room(table: int, room: int) -> None:
            buffer = np.empty(room * self._layouts[table].dtype.itemsize, np.uint8)
            if (before := buffers.get(table)) is not None:
                buffer[: len(before)] = before
            buffers[table] = buffer
            work.rows[table] = buffer.ctypes.data
            work.room[table] = room

        for table in np.flatnonzero(self._room).tolist():
            make_room(table, self._room[table])
        state = np.zeros(1, SBE_STATE_DTYPE)
        state["message"] = -1
        while not decode_packets(work, self._walk, self._header, self._framing, state, self._flows, *arrays):
            progress = work.progress[0]
            if progress["problems"] == len(work.problems):
                longer = np.concatenate([work.problems, np.empty((GROWTH - 1) * len(work.problems), PROBLEM_DTYPE)])
                work = work._replace(problems=longer)
                continue
            message = self._walk.messages[progress["template"]]
            for table in range(message["table"], message["table"] + message["tables"]):
                if work.counts[table] + ENTRY_LIMIT > work.room[table]:
                    make_room(table, max(GROWTH * work.room[table], FIRST_ROWS))
        self._room = np.where(work.counts > 0, work.counts + work.counts // 8 + ENTRY_LIMIT, 0)
        tables = dict(self._empty)
        for number, buffer in buffers.items():
            layout = self._layouts[number]
            rows = buffer[: work.counts[number] * layout.dtype.itemsize].view(layout.dtype)
            tables[layout.name] = Table(layout, rows)
        progress = work.progress[0]
        return Decoded(tables, work.problems[: progress["problems"]], int(progress["messages"]), packets.data)
