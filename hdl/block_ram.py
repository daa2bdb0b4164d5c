"""A block RAM without logic around it."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class BlockRam(wiring.Component):
    """``depth`` rows of ``shape`` with one port to write and one to read; ``read`` comes one step of ``advance`` after ``read_row``.

    Where ``wanted`` was low with ``read_row``, ``read`` is 0: block RAMs can clear their output register, so values that are not
    to be seen cost no gate behind it. A row that is read in the step in which it is written gives anything: block RAMs say
    nothing about that, and telling it from registers would cost a multiplexer for each bit and two registers.
    """

    def __init__(self, shape, depth: int):
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "advance": In(1),
                "row": In(range(depth)),
                "writes": In(1),
                "value": In(shape),
                "read_row": In(range(depth)),
                "wanted": In(1, init=1),
                "read": Out(shape),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Yosys takes a port without a clock and the register behind it for a port with one, and with `no_rw_check` it
        # adds nothing for rows that are read while they are written.
        m.submodules.rows = rows = memory.Memory(
            shape=self._shape, depth=self._depth, init=[], attrs={"ram_style": "block", "no_rw_check": 1}
        )
        write, read = rows.write_port(), rows.read_port(domain="comb")
        register = Signal(len(Value.cast(self.read)), reset_less=True)
        m.d.comb += [
            write.addr.eq(self.row),
            write.data.eq(self.value),
            write.en.eq(self.advance & self.writes),
            read.addr.eq(self.read_row),
            self.read.eq(register),
        ]
        with m.If(self.advance):
            m.d.sync += register.eq(Mux(self.wanted, Value.cast(read.data), 0))
        return m
