"""One of several values by a number, as a tree of two-way multiplexers, which fits LUTs best."""

from amaranth.hdl import Mux, Value


def select(values, index, width: int):
    """``values[index]`` in ``width`` bits; the last of them for a greater index."""
    values = [Value.cast(value) for value in values]
    bits = min(len(index), (len(values) - 1).bit_length())
    values = (values + [values[-1]] * (1 << bits))[: 1 << bits]
    for bit in range(bits):
        values = [Mux(index[bit], high, low) for low, high in zip(values[::2], values[1::2], strict=True)]
    (chosen,) = values
    return chosen[:width]
