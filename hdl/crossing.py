"""Numbers that cross from one clock domain to another."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


def to_gray(number: Value) -> Value:
    """A number's Gray code (US 2,632,058): of a counter's only one bit changes at a time, so it does not matter when another domain sees it."""
    return number ^ number[1:]


def from_gray(code: Value) -> Value:
    """The number of a code."""
    return Cat(code[n:].xor() for n in range(len(code)))


class GrayCounter(wiring.Component):
    """Counts cycles with ``counts``, modulo ``2 ** width``; ``code`` is the number's Gray code, two cycles later."""

    def __init__(self, width: int):
        super().__init__({"counts": In(1), "code": Out(width)})

    def elaborate(self, platform):
        m = Module()
        number, counts = Signal.like(self.code), Signal()
        m.d.sync += [counts.eq(self.counts), number.eq(number + counts), self.code.eq(to_gray(number))]
        return m


def synchronized(m: Module, code: Value, domain: str) -> Signal:
    """``code`` in a domain, two or three cycles late; adds what it takes to ``m``."""
    there = Signal.like(code)
    m.submodules += FFSynchronizer(code, there, o_domain=domain)
    return there


class NumberCrossing(wiring.Component):
    """``o``, in the domain ``there``, is what ``i`` was in the domain ``here`` some cycles before: any number, since it stands still while it
    crosses. It follows within 4 cycles of each domain, and skips values that ``i`` has for less."""

    def __init__(self, width: int, here: str, there: str):
        self._here = here
        self._there = there
        super().__init__({"i": In(width), "o": Out(width)})

    def elaborate(self, platform):
        m = Module()
        held = Signal.like(self.i)
        asked, answered = Signal(), Signal()
        with m.If(synchronized(m, answered, self._here) == asked):
            m.d[self._here] += [held.eq(self.i), asked.eq(~asked)]
        asks = synchronized(m, asked, self._there)
        with m.If(asks != answered):
            m.d[self._there] += [self.o.eq(held), answered.eq(asks)]
        return m
