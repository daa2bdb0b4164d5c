"""The bytes that frames are made of: which are read where, by how many ports."""

from dataclasses import dataclass, field
from typing import Literal

from hdl.sbe_encoding import Family
from hdl.sbe_plan import BlockPlan, Form, Source, Value
from hdl.sbe_schema import ByteOrder

Part = Literal["value", "exponent"]


@dataclass
class Operand:
    """A place in hardware for one of a frame field's values on the wire.

    It is read with each block that ``reads`` names, and used for the frames of those that ``uses`` names; these may lie in
    groups of the block that was read.
    """

    name: str
    part: Part
    reads: dict[int, Value] = field(default_factory=dict)
    uses: dict[int, Value] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes: those of the longest value."""
        return max(value.primitive_size for value in self.reads.values())

    def begin(self, value: Value, byte_order: ByteOrder) -> int:
        """Where in a value's block the operand's bytes begin. A shorter value is at their less significant end."""
        return value.offset + (value.primitive_size - self.size if byte_order == "big" else 0)

    def outer_levels(self, plans: list[BlockPlan]) -> list[int]:
        """Levels of blocks whose value is still wanted when blocks within them have been read."""
        return sorted({value.level for block, value in self.uses.items() if value.level != plans[block].level})


def on_wire(source: Source) -> dict[Part, Value]:
    """A source's values that are no constants: whether they are there depends on their block's length."""
    parts: dict[Part, Value | None] = {"value": source.value, "exponent": source.exponent}
    return {part: value for part, value in parts.items() if value is not None and value.constant is None}


def to_read(source: Source) -> dict[Part, Value]:
    """What of a source has to be read. Of a value whose place alone counts, that is what tells whether it is there."""
    return {part: value for part, value in on_wire(source).items() if source.form is not Form.OFFSET or has_null(value)}


def has_null(value: Value) -> bool:
    """Whether a value that is there can mean that it is absent; of an array of characters, its first one is 0."""
    encoding = value.leaf.encoding
    if encoding.length != 1:
        return value.family is Family.CHAR
    return encoding.is_floating or value.null is not None


def operands_of(plans: list[BlockPlan]) -> list[Operand]:
    """The operands of all block plans, as few as there can be."""
    number = {plan.path: index for index, plan in enumerate(plans)}
    operands: list[Operand] = []
    for index, plan in enumerate(plans):
        for name, source in plan.sources.items():
            if name in plan.constants:
                continue
            for part, value in to_read(source).items():
                reader = number[plan.path[: value.level + 1]]
                fitting = (
                    operand
                    for operand in operands
                    if (operand.name, operand.part) == (name, part) and operand.reads.get(reader, value) == value
                )
                operand = next(fitting, None)
                if operand is None:
                    operand = Operand(name, part)
                    operands.append(operand)
                operand.reads[reader] = value
                operand.uses[index] = value
    return operands


def span_of(operands: list[Operand]) -> int:
    """Bytes from a block's begin within which all that is read of it stands."""
    return max((value.offset + value.primitive_size for each in operands for value in each.reads.values()), default=0)
