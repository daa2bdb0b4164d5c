"""A block between registers, so that what a tool measures is the block and not its pins."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring

BLOCK = "dut"
"""The block's name within the harness."""

CHAIN_BITS = 256
"""Longest shift register. Yosys walks along one by recursion, and has no stack for thousands of bits."""

FOLDED_AT_ONCE = 4
"""Inputs of a LUT: so many bits become one in a stage of the fold."""


class Harness(wiring.Component):
    """Every input of ``block`` comes from a register and every output goes to one.

    The input registers are shift registers; what goes into each is another function of what came through ``scan_in``, so
    that none of them is the same as another. The output registers are folded into ``scan_out`` by exclusive
    or, a LUT and a register a stage. So the block needs no pins, nothing of it is unused, and nothing but a register
    touches its ports. A register is named as its port.
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
        bits = list(Cat(*inputs))
        chains = [bits[n : n + CHAIN_BITS] for n in range(0, len(bits), CHAIN_BITS)]
        scanned = Signal(len(chains) + 1, reset_less=True)
        m.d.sync += scanned.eq(Cat(self.scan_in, scanned))
        for n, chain in enumerate(chains):
            m.d.sync += Cat(chain).eq(Cat(scanned[n] ^ scanned[n + 1], chain))

        bits = list(Cat(*outputs))
        while len(bits) > 1:
            folded = Signal(-(-len(bits) // FOLDED_AT_ONCE), name="fold", reset_less=True)
            for n, bit in enumerate(folded):
                m.d.sync += bit.eq(Cat(bits[n * FOLDED_AT_ONCE : (n + 1) * FOLDED_AT_ONCE]).xor())
            bits = list(folded)
        m.d.comb += self.scan_out.eq(Cat(bits))
        return m
