"""A block between registers, so that what a tool measures is the block and not its pins."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring

BLOCK = "dut"
"""The block's name within the harness."""

FOLDED_AT_ONCE = 4
"""Inputs of a LUT: so many bits become one in a stage of the fold."""


class Harness(wiring.Component):
    """Every input of ``block`` comes from a register and every output goes to one.

    The input registers are one shift register behind ``scan_in``. The output registers are folded into
    ``scan_out`` by exclusive or, a LUT and a register a stage. So the block needs no pins, nothing of it is
    unused, and nothing but a register touches its ports. A register is named as its port.
    """

    scan_in: wiring.In(1)
    scan_out: wiring.Out(1)

    def __init__(self, block: wiring.Component):
        self.block = block
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules[BLOCK] = self.block
        inputs, outputs = [], []
        for path, member, port in self.block.signature.flatten(self.block):
            port = Value.cast(port)
            register = Signal(len(port), name="__".join(map(str, path)), reset_less=True)
            if member.flow == wiring.In:
                m.d.comb += port.eq(register)
                inputs.append(register)
            else:
                m.d.sync += register.eq(port)
                outputs.append(register)
        m.d.sync += Cat(*inputs).eq(Cat(self.scan_in, *inputs))

        bits = list(Cat(*outputs))
        while len(bits) > 1:
            folded = Signal(-(-len(bits) // FOLDED_AT_ONCE), name="fold", reset_less=True)
            for n, bit in enumerate(folded):
                m.d.sync += bit.eq(Cat(bits[n * FOLDED_AT_ONCE : (n + 1) * FOLDED_AT_ONCE]).xor())
            bits = list(folded)
        m.d.comb += self.scan_out.eq(Cat(bits))
        return m
