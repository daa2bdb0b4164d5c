"""Ports are single vectors in Verilog: this packs and unpacks them by their Amaranth layout."""

import functools
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data


class Packing:
    """A shape's bits as Python values: a structure as a dict, an array of bytes as bytes, any other array as
    a list, all else as an int. What is left out when packing is 0; an int is taken for the bits themselves."""

    def __init__(self, shape: Any) -> None:
        self.width = Shape.cast(shape).width
        self.signed = Shape.cast(shape).signed
        self.fields: list[tuple[Any, int, Packing]] = []
        self.is_array = isinstance(shape, data.ArrayLayout)
        self.is_bytes = self.is_array and shape.elem_shape == 8
        if isinstance(shape, data.Layout) and not self.is_bytes:
            self.fields = [(name, field.offset, Packing(field.shape)) for name, field in shape]

    def pack(self, value: Any) -> int:
        """The bits of a value."""
        if isinstance(value, bytes):
            assert self.is_bytes
            assert 8 * len(value) <= self.width
            return int.from_bytes(value, "little")
        if not isinstance(value, dict | list):
            return int(value) & (1 << self.width) - 1
        members = dict(enumerate(value)) if isinstance(value, list) else value
        unknown = members.keys() - {name for name, _, _ in self.fields}
        assert not unknown, f"no field {unknown}"
        return sum(packing.pack(members[name]) << at for name, at, packing in self.fields if name in members)

    def unpack(self, bits: int) -> Any:
        """The value of bits."""
        bits &= (1 << self.width) - 1
        if self.is_bytes:
            return bits.to_bytes(self.width // 8, "little")
        if self.is_array:
            return [packing.unpack(bits >> at) for _, at, packing in self.fields]
        if self.fields:
            return {name: packing.unpack(bits >> at) for name, at, packing in self.fields}
        return bits - (1 << self.width) if self.signed and bits >> (self.width - 1) else bits


@functools.cache
def packing(shape: Any) -> Packing:
    """The packing of a shape."""
    return Packing(shape)
