"""Where a venue's raw messages have what books need and frames do not carry: order ids, priorities, the snapshot's numbers.

Made from the schema and the profile's section ``[books]``, as the frame plans are from ``[fields]`` (hdl/sbe_plan.py).
"""

from typing import NamedTuple

import numpy as np

from hdl.frame import Kind
from hdl.sbe_plan import BlockPlan
from hdl.sbe_profile import BOOK_FIELDS, Candidate
from hdl.sbe_schema import Block, Message, Schema, SchemaError
from hdl.sbe_venue import Venue

PLACE_DTYPE = np.dtype(
    [
        ("null", "u8"),
        ("offset", "i4"),
        ("since_version", "u2"),
        ("width", "u1"),
        ("in_message", "?"),
        ("has_null", "?"),
        ("is_constant", "?"),
    ]
)
"""A number in a raw message: ``width`` bytes (0: there is none) at ``offset`` from the message's begin where ``in_message``, else from
the entry's. ``null`` is the number that means absent, or the constant's value."""

TEMPLATE_DTYPE = np.dtype([("is_snapshot", "?"), ("is_dated", "?"), ("is_by_order", "?")])
"""A template: whether it has whole books, whether it says up to where these were processed (``last_sequence``), and
whether these are of orders."""

KINDS = 16

ORDER_ID, PRIORITY, ENTRY, AGGRESSOR, LAST_SEQUENCE, CHUNK, CHUNKS, STATUS, END_OF_EVENT = range(len(BOOK_FIELDS))
"""The places of BOOK_FIELDS, in their order."""


class Places(NamedTuple):
    """As compiled code takes it: ``rows`` by template id (-1: none), ``templates`` and ``places[row, kind, field]`` by row."""

    rows: np.ndarray
    templates: np.ndarray
    places: np.ndarray
    version_offset: int
    version_size: int
    end_of_event_bit: int
    big: bool


def no_places() -> Places:
    """Those of a feed without a schema."""
    return Places(
        np.full(1, -1, np.int32),
        np.zeros(1, TEMPLATE_DTYPE),
        np.zeros((1, KINDS, len(BOOK_FIELDS)), PLACE_DTYPE),
        0,
        0,
        0,
        False,
    )


def places_of(venue: Venue) -> Places:
    """The places of a venue.

    Raises :class:`SchemaError` where a field that the profile names is no whole number, or where two groups of a template give
    frames of one kind and have it at different places: frames do not tell groups apart otherwise.
    """
    schema, rules = venue.schema, venue.profile.books
    rows = np.full(max((message.id for message in schema.messages), default=0) + 1, -1, np.int32)
    templates = np.zeros(len(schema.messages) or 1, TEMPLATE_DTYPE)
    places = np.zeros((len(templates), KINDS, len(BOOK_FIELDS)), PLACE_DTYPE)
    candidates = dict(rules.fields)
    problems: list[str] = []
    for row, plan in enumerate(venue.plans):
        message = plan.message
        rows[message.id] = row
        for block_plan in plan.blocks:
            for field, name in enumerate(BOOK_FIELDS):
                try:
                    _fill(places[row, :, field], schema, message, block_plan, candidates.get(name, ()))
                except SchemaError as error:
                    problems.append(f"{schema.path}: message '{message.name}': [books] {name}: {error}")
        template = templates[row]
        template["is_snapshot"] = rules.is_snapshot(message.name)
        template["is_dated"] = places[row, Kind.BOOK_UPDATE, LAST_SEQUENCE]["width"] > 0
        template["is_by_order"] = places[row, Kind.BOOK_UPDATE, ORDER_ID]["width"] > 0
    if problems:
        raise SchemaError(*problems)
    version = schema.header.version
    return Places(
        rows, templates, places, version.offset, version.size, rules.end_of_event_bit, schema.byte_order == "big"
    )


def _fill(
    column: np.ndarray, schema: Schema, message: Message, plan: BlockPlan, candidates: tuple[Candidate, ...]
) -> None:
    """Enter the place of a field by the kinds that a block's frames may have."""
    block: Block = message
    for name in plan.path[1:]:
        block = next(group for group in block.groups if group.name == name)
    found = _place(block, candidates)
    in_message = plan.level == 0
    if found is None and not in_message:
        found, in_message = _place(message, candidates), True
    if found is None:
        return
    place = np.zeros((), PLACE_DTYPE)
    offset, size, since, null, constant = found
    place["width"] = size
    place["offset"] = offset + (schema.header.size if in_message else 0)
    place["since_version"] = since
    place["in_message"] = in_message
    place["has_null"] = null is not None
    place["is_constant"] = constant is not None
    place["null"] = ((null if constant is None else constant) or 0) & (1 << 64) - 1
    kinds = (Kind.BOOK_UPDATE, Kind.TRADE, Kind.STATISTIC) if plan.kind is None else (plan.kind,)
    for kind in kinds:
        there = column[kind]
        if there["width"] and not there["in_message"] and not in_message and there.tobytes() != place.tobytes():
            raise SchemaError(f"group '{'.'.join(plan.path[1:])}' has it elsewhere than another of its kind")
        column[kind] = place
    if plan.level == 0:
        # What the message says holds for its entries too, unless they say it themselves.
        column[column["width"] == 0] = place


def _place(block: Block, candidates: tuple[Candidate, ...]) -> tuple[int, int, int, int | None, int | None] | None:
    """(offset, size, since version, null, constant) of the first candidate that a block has, or None."""
    for candidate in candidates:
        for field in block.fields:
            if candidate.field not in (field.id, field.name):
                continue
            leaves = list(field.leaves())
            leaf = leaves[0]
            encoding = leaf.encoding
            if len(leaves) != 1 or not (encoding.is_integer or encoding.is_char):
                raise SchemaError(f"field '{field.name}' is {field.encoding.described()}, no whole number")
            null = encoding.null if isinstance(encoding.null, int) else None
            constant = encoding.constant
            if isinstance(constant, bytes):
                constant = constant[0]
            if constant is not None:
                return leaf.offset, encoding.primitive.size, leaf.since_version, None, int(constant)
            if null is not None and null < 0:
                null &= (1 << 8 * encoding.size) - 1
            return leaf.offset, encoding.size, leaf.since_version, null, None
    return None
