"""Where a pipeline has registers, and where it has none."""

from contextlib import contextmanager

from amaranth.hdl import Const, Module


@contextmanager
def stage(m: Module, advance, pipelined: bool):
    """The domain for what a stage makes: a register that moves where ``advance`` is high or, where the stages are not
    ``pipelined``, the same cycle."""
    with m.If(advance if pipelined else Const(1)):
        yield m.d.sync if pipelined else m.d.comb
