"""A schema's frame plans as flat arrays, which one compiled decoder reads for every schema."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hdl.sbe_encoding import Family
from hdl.sbe_plan import FRAME_FIELDS, BlockPlan, FramePlan, Source, Target, Where, plan_frames
from hdl.sbe_schema import Schema, Slot

NO_TEMPLATE = -1
KIND_BY_ENTRY_TYPE = -1

ABSENT, ON_WIRE, CONSTANT = range(3)
"""Where a source's value comes from."""

SOURCE_DTYPE = np.dtype(
    [
        ("place", np.uint8),
        ("in_entry", np.bool_),
        ("signed", np.bool_),
        ("has_null", np.bool_),
        ("digit", np.bool_),
        ("offset", np.int64),
        ("size", np.int64),
        ("constant", np.uint64),
        ("null", np.uint64),
        ("scale", np.uint64),
        ("highest", np.uint64),
        ("lowest", np.uint64),
    ]
)
"""A source, in the two's complement of 64 bits. ``scale``, and the largest value and the largest negative magnitude
that may still be multiplied by it, are a price's or quantity's. ``digit``: a number shown as its digit."""

MESSAGE_DTYPE = np.dtype([("root_plan", np.int64), ("first_group", np.int64), ("groups", np.int64)])

GROUP_DTYPE = np.dtype(
    [
        ("plan", np.int64),
        ("dimension_bytes", np.int64),
        ("block_length_offset", np.int64),
        ("block_length_size", np.int64),
        ("count_offset", np.int64),
        ("count_size", np.int64),
    ]
)

HEADER_TABLE_DTYPE = np.dtype(
    [("size", np.int64), ("schema_id_is", np.uint64)]
    + [
        (f"{name}_{part}", np.int64)
        for name in ("block_length", "template_id", "schema_id")
        for part in ("offset", "size")
    ]
)


class SbeTables(NamedTuple):
    """The plans as compiled code takes them.

    ``sources`` has a row a plan and a column a frame field, in the order of FRAME_FIELDS; ``kinds`` a row a plan.
    ``templates`` gives the row of ``messages`` by template id.
    """

    header: np.ndarray
    templates: np.ndarray
    messages: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class _Limits:
    highest: int
    lowest: int


RANGES = {Target.PRICE: _Limits(2**63 - 1, 2**63), Target.QUANTITY: _Limits(2**64 - 1, 0)}
"""What the frame's fields hold: the largest value and the largest magnitude of a negative one."""


def sbe_tables(schema: Schema | None) -> SbeTables:
    """Tables of a schema; without one, tables that know no template. Raises SchemaError as the plan does."""
    plans: list[BlockPlan] = []
    groups: list[tuple[int, ...]] = []
    messages: list[tuple[int, ...]] = []
    templates = np.full(1 << 16, NO_TEMPLATE, np.int32)
    header = np.zeros(1, HEADER_TABLE_DTYPE)
    frame_plans: tuple[FramePlan, ...] = ()
    if schema is not None:
        frame_plans = plan_frames(schema)
        slots = (schema.header.block_length, schema.header.template_id, schema.header.schema_id)
        header[0] = (schema.header.size, schema.id, *(part for slot in slots for part in (slot.offset, slot.size)))
    for frame_plan in frame_plans:
        message = frame_plan.message
        templates[message.id] = len(messages)
        messages.append((len(plans), len(groups), len(message.groups)))
        plans.append(frame_plan.root)
        for group, plan in zip(message.groups, frame_plan.groups, strict=True):
            dimension = group.dimension
            groups.append((len(plans), dimension.size, *_parts(dimension.block_length), *_parts(dimension.count)))
            plans.append(plan)
    sources = np.zeros((len(plans), len(FRAME_FIELDS)), SOURCE_DTYPE)
    for row, plan in enumerate(plans):
        for column, frame_field in enumerate(FRAME_FIELDS):
            if (source := getattr(plan, frame_field.name)) is not None:
                sources[row, column] = _source_row(source)
    return SbeTables(
        header=header,
        templates=templates,
        messages=np.array(messages, MESSAGE_DTYPE),
        groups=np.array(groups, GROUP_DTYPE),
        sources=sources,
        kinds=np.array([KIND_BY_ENTRY_TYPE if plan.kind is None else plan.kind for plan in plans], np.int64),
    )


def _parts(slot: Slot) -> tuple[int, int]:
    return slot.offset, slot.size


def _source_row(source: Source) -> tuple[object, ...]:
    value = source.value
    limits = RANGES.get(source.target, _Limits(0, 0))
    return (
        ON_WIRE if value.constant is None else CONSTANT,
        source.where is Where.ENTRY,
        value.signed,
        value.null is not None,
        source.target is Target.ACTION and value.family is not Family.CHAR,
        value.offset,
        value.size,
        (value.constant or 0) & 2**64 - 1,
        (value.null or 0) & 2**64 - 1,
        source.scale,
        limits.highest // source.scale,
        limits.lowest // source.scale,
    )
