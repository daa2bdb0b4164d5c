"""The tables of a full decode: one for each template, and one for each group below it; and the walk that fills them, as arrays.

A row is a block as it stands on the wire, then what is not on the wire: constants, where var data lies, and whose row it is. So filling a
row is copying a block.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hdl.sbe_encoding import Family, Leaf, Presence, Simple
from hdl.sbe_schema import Block, Data, Group, Schema, Slot

PRESENT = "@present"
"""Column: bytes of the block that count. A field that ends behind them is absent, as the message is of an older version."""

ROOT_COLUMNS = (("@timestamp", "u8"), ("@sequence", "u4"), ("@flow", "u2"), ("@version", "u2"))
"""Of a template's table: the packet's time in ns, the packet's (or message's) sequence number, the flow, the message's version."""

ENTRY_COLUMNS = (("@parent", "u8"), ("@index", "u4"))
"""Of a group's table: the row in the table above, and the entry's place in its group."""

DATA_DTYPE = np.dtype([("offset", "<u8"), ("length", "<u4")])
"""Var data in a row: where its bytes lie in the decoded buffer. All zero where it is absent."""

END = -1
"""In the place of a node: the message ends."""

GROUP, DATA = range(2)

NODE_DTYPE = np.dtype(
    [
        ("kind", np.int64),
        ("table", np.int64),  # of the entries; of var data, that of the block that it stands in
        ("parent", np.int64),  # the group that it stands in, END in the root
        ("since_version", np.int64),
        ("size", np.int64),
        ("length_offset", np.int64),
        ("length_size", np.int64),
        ("count_offset", np.int64),
        ("count_size", np.int64),
        ("column", np.int64),  # of var data: where in the row
        ("inside", np.bool_),  # of a group: something may stand behind an entry's block
        ("first", np.int64),  # of a group: the node behind an entry's block
        ("next", np.int64),  # the node behind it; a node's own "entry ends" is -2 - node
    ]
)

TABLE_DTYPE = np.dtype(
    [
        ("row_bytes", np.int64),
        ("block_bytes", np.int64),
        ("present", np.int64),
        ("first_column", np.int64),  # of ROOT_COLUMNS or ENTRY_COLUMNS
        ("blank", np.int64),  # where its blank row begins in the buffer of them
        ("cut", np.int64),  # where its cuts begin: by a block's length, the bytes that are whole fields
    ]
)

MESSAGE_DTYPE = np.dtype([("table", np.int64), ("tables", np.int64), ("first", np.int64)])
"""A message: its table, how many there are with those of its groups, which follow it, and its first node."""


@dataclass(frozen=True)
class TableLayout:
    """A table: its name (``Template`` or ``Template.Group``), its rows' dtype, and the leaves and var data that are columns of it,
    each under its own name; those of var data are of :data:`DATA_DTYPE`."""

    name: str
    parent: str | None
    block: Block
    dtype: np.dtype
    leaves: tuple[Leaf, ...]

    @functools.cached_property
    def by_name(self) -> dict[str, Leaf]:
        """The leaves by their names."""
        return {leaf.name: leaf for leaf in self.leaves}


class Walk(NamedTuple):
    """All tables and the walk through messages, as compiled code takes them. ``templates`` gives a row of ``messages`` by template id."""

    templates: np.ndarray
    messages: np.ndarray
    nodes: np.ndarray
    tables: np.ndarray
    blanks: np.ndarray
    cuts: np.ndarray
    big: bool


def column_format(encoding: Simple, big: bool) -> str:
    """The NumPy format of a leaf's values."""
    primitive = encoding.primitive
    if primitive.family is Family.CHAR:
        return f"S{encoding.length}"
    letter = {Family.UNSIGNED: "u", Family.SIGNED: "i", Family.FLOATING: "f"}[primitive.family]
    shape = "" if encoding.length == 1 else f"({encoding.length},)"
    return f"{shape}{'>' if big else '<'}{letter}{primitive.size}"


def table_layouts(schema: Schema) -> tuple[TableLayout, ...]:
    """The tables of a schema: each template's, followed by those of its groups."""
    found: list[TableLayout] = []

    def add(block: Block, name: str, parent: str | None) -> None:
        found.append(_layout(block, name, parent, schema.byte_order == "big"))
        for group in block.groups:
            add(group, f"{name}.{group.name}", name)

    for message in schema.messages:
        add(message, message.name, None)
    return tuple(found)


def _layout(block: Block, name: str, parent: str | None, big: bool) -> TableLayout:
    names: list[str] = []
    formats: list[str | np.dtype] = []
    offsets: list[int] = []
    running = block.block_length

    def append(column: str, its_format: str | np.dtype, offset: int | None = None) -> None:
        nonlocal running
        names.append(column)
        formats.append(its_format)
        offsets.append(running if offset is None else offset)
        if offset is None:
            running += np.dtype(its_format).itemsize

    leaves = tuple(leaf for leaf in block.leaves() if leaf.encoding.length)
    for leaf in leaves:
        on_wire = leaf.encoding.presence is not Presence.CONSTANT
        append(leaf.name, column_format(leaf.encoding, big), leaf.offset if on_wire else None)
    for data in block.data:
        append(data.name, DATA_DTYPE)
    append(PRESENT, "<u4")
    for column_name, its_format in ROOT_COLUMNS if parent is None else ENTRY_COLUMNS:
        append(column_name, f"<{its_format}")
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": running})
    return TableLayout(name, parent, block, dtype, leaves)


def blank_row(layout: TableLayout) -> np.ndarray:
    """A row with constants and nulls in it: what a block that is not there leaves."""
    row = np.zeros(1, layout.dtype)
    for leaf in layout.leaves:
        encoding = leaf.encoding
        if encoding.constant is not None:
            row[leaf.name] = encoding.constant
        elif encoding.null is not None and encoding.primitive.family is not Family.CHAR:
            row[leaf.name] = encoding.null
    return row


def walk_of(schema: Schema, layouts: tuple[TableLayout, ...]) -> Walk:
    """The walk through all messages of a schema."""
    numbers = {layout.name: number for number, layout in enumerate(layouts)}
    tables = np.zeros(len(layouts), TABLE_DTYPE)
    blanks: list[bytes] = []
    cuts: list[np.ndarray] = []
    for number, layout in enumerate(layouts):
        assert layout.dtype.fields is not None
        fields = layout.dtype.fields
        tables[number] = (
            layout.dtype.itemsize,
            layout.block.block_length,
            fields[PRESENT][1],
            fields["@timestamp" if layout.parent is None else "@parent"][1],
            sum(map(len, blanks)),
            sum(map(len, cuts)),
        )
        blanks.append(blank_row(layout).tobytes())
        cuts.append(_cuts(layout))
    nodes: list[tuple[object, ...]] = []
    templates = np.full(1 << 16, END, np.int32)
    messages = np.zeros(len(schema.messages), MESSAGE_DTYPE)
    for number, message in enumerate(schema.messages):
        if message.id < len(templates):
            templates[message.id] = number
        first = _add_nodes(nodes, message, message.name, numbers, layouts, END, END)
        table = numbers[message.name]
        tables_of_message = sum(1 for layout in layouts if layout.name.partition(".")[0] == message.name)
        messages[number] = (table, tables_of_message, first)
    return Walk(
        templates,
        messages,
        np.array(nodes, NODE_DTYPE) if nodes else np.zeros(1, NODE_DTYPE),
        tables,
        np.frombuffer(b"".join(blanks), np.uint8),
        np.concatenate(cuts),
        schema.byte_order == "big",
    )


def _cuts(layout: TableLayout) -> np.ndarray:
    """By a block's length: how many of its bytes are whole fields. The last one is for every longer block."""
    cuts = np.zeros(layout.block.block_length + 1, np.int64)
    for leaf in layout.leaves:
        if leaf.encoding.size:
            cuts[leaf.end :] = np.maximum(cuts[leaf.end :], leaf.end)
    cuts[-1] = layout.block.block_length
    return cuts


def _add_nodes(
    nodes: list[tuple[object, ...]],
    block: Block,
    name: str,
    numbers: dict[str, int],
    layouts: tuple[TableLayout, ...],
    parent: int,
    behind: int,
) -> int:
    """Append the nodes of what stands behind a block; returns the first, or ``behind``, which follows the last."""
    parts: tuple[Group | Data, ...] = (*block.groups, *block.data)
    following = behind
    fields = layouts[numbers[name]].dtype.fields
    assert fields is not None
    for part in reversed(parts):
        node = len(nodes)
        nodes.append(())
        if isinstance(part, Group):
            its_name = f"{name}.{part.name}"
            dimension = part.dimension
            first = _add_nodes(nodes, part, its_name, numbers, layouts, node, -2 - node)
            nodes[node] = (
                GROUP,
                numbers[its_name],
                parent,
                part.since_version,
                dimension.size,
                *dimension.block_length,
                *dimension.count,
                0,
                part.is_followed,
                first,
                following,
            )
        else:
            length: Slot = part.length
            nodes[node] = (
                DATA,
                numbers[name],
                parent,
                part.since_version,
                part.prefix,
                *length,
                0,
                0,
                fields[part.name][1],
                False,
                END,
                following,
            )
        following = node
    return following
