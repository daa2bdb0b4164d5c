"""One of several values by a number, and what holds for a number, in forms that fit LUTs best."""

from amaranth.hdl import Const, Mux, Value


def select(values, index, width: int):
    """``values[index]`` in ``width`` bits, by a tree of two-way multiplexers; the last of them for a greater index."""
    values = [Value.cast(value) for value in values]
    bits = min(len(index), (len(values) - 1).bit_length())
    values = (values + [values[-1]] * (1 << bits))[: 1 << bits]
    for bit in range(bits):
        values = [Mux(index[bit], high, low) for low, high in zip(values[::2], values[1::2], strict=True)]
    (chosen,) = values
    return chosen[:width]


def is_in(value, numbers):
    """Whether ``value`` is one of ``numbers``, looked up in a table: for few bits that is smaller and faster than a comparison,
    which takes a carry chain."""
    bits = len(value)
    table = sum(1 << number for number in set(numbers) if number < 1 << bits)
    return Const(table, 1 << bits).bit_select(value, 1)
