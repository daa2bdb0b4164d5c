"""What a specification is made of: the design, free inputs, and what is remembered to state a property."""

import enum
from collections.abc import Callable
from typing import NamedTuple

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Elaboratable, Fragment, Module, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import Component, In
from amaranth.tracer import get_src_loc

TOP = "top"
"""The name of the specification's module."""


class Method(enum.Enum):
    """How a property is shown, in the words of the table."""

    K_INDUCTION = "k-induction"
    """For any number of cycles: from ``depth`` cycles that hold follows the next one (smtbmc with z3)."""
    PDR = "induction (PDR)"
    """For any number of cycles: the solver finds the inductive invariant itself (ABC's IC3)."""
    BOUNDED = "bounded"
    """For the first ``depth`` cycles from reset, with any inputs (ABC's bmc3)."""
    REACHED = "reached"
    """The other way round: what the specification says never happens does happen within ``depth`` cycles. So the
    assumptions of a proof leave room for what the proof is about."""


class Proof(NamedTuple):
    """One row of the table: ``claim`` of ``block``, shown with the specification that ``build`` makes.

    ``depth`` is in cycles. The name is that of the folder in build/formal.
    """

    name: str
    block: str
    claim: str
    build: Callable[[], "Specification"]
    method: Method
    depth: int


class Specification(Elaboratable):
    """A top module around a design: its inputs are free in each cycle but for what is assumed.

    A subclass states the property in ``state``. There is no reset: all begins with the registers' initial values.

    Attributes: ``ports``, the inputs by name; ``claims``, once it is elaborated: for each assertion a signal that is high where
    it does not hold, and its file and line; ``simulated``: Amaranth's simulator looks at these signals, and gets no assertions,
    which it would check before all signals have settled.
    """

    def __init__(self):
        self._domain = ClockDomain("sync", reset_less=True)
        self.ports: dict[str, Value] = {}
        self.claims: list[tuple[Signal, tuple[str, int]]] = []
        self.simulated = False

    def free(self, shape, name: str):
        """A signal that may have any value in any cycle."""
        signal = Signal(shape, name=name)
        self.ports[name] = Value.cast(signal)
        return signal

    def constant(self, m: Module, shape, name: str):
        """A signal that may have any value, the same in all cycles."""
        choice = self.free(shape, f"{name}_choice")
        begun, chosen = Signal(name=f"{name}_begun"), Signal(shape, name=f"{name}_chosen")
        signal = Signal(shape, name=name)
        m.d.sync += begun.eq(1)
        m.d.comb += signal.eq(choice)
        with m.If(begun):
            m.d.comb += signal.eq(chosen)
        with m.Else():
            m.d.sync += chosen.eq(choice)
        return signal

    def add(self, m: Module, name: str, design: Component) -> Component:
        """``design`` as a submodule, with all its inputs free."""
        m.submodules[name] = design
        self.free_inputs(name, design)
        return design

    def free_inputs(self, name: str, design: Component) -> None:
        """Leave all inputs of ``design`` free."""
        for path, member, value in design.signature.flatten(design):
            if member.flow == In:
                self.ports["__".join(map(str, (name, *path)))] = Value.cast(value)

    def prove(self, condition) -> list:
        """Statements that ``condition`` holds in every cycle, or in those of the ``m.If`` around them."""
        broken = Signal(name=f"broken{len(self.claims)}")
        file, line = get_src_loc()
        self.claims.append((broken, (file, line)))
        claim = [] if self.simulated else [Assert(condition, src_loc_at=1)]
        return [broken.eq(~Value.cast(condition).bool()), *claim]

    def assume(self, condition) -> list:
        """Statements that nothing is looked at that has not ``condition``, in every cycle or in those of the ``m.If`` around them."""
        return [] if self.simulated else [Assume(condition)]

    def elaborate(self, platform):
        m = Module()
        m.domains += self._domain
        self.claims.clear()
        self.state(m)
        return m

    def state(self, m: Module) -> None:
        """Adds the design and what is assumed and asserted of it to ``m``."""
        raise NotImplementedError

    def rtlil(self) -> str:
        """The specification as text for Yosys."""
        elaborated = Fragment.get(self, None)
        ports = {name: (signal, PortDirection.Input) for name, signal in self.ports.items()}
        ports["clk"] = (self._domain.clk, PortDirection.Input)
        return rtlil.convert(elaborated, name=TOP, ports=ports)


def taken(port):
    """Whether an item of the stream passes in this cycle."""
    return port.valid & port.ready


def waits_unchanged(m: Module, port, name: str):
    """Whether an item that was offered and not taken in the last cycle is still offered, the same as it was.

    The contract of Amaranth's streams: assumed of an input, asserted of an output.
    """
    waited, before = Signal(name=f"{name}_waited"), Signal.like(Value.cast(port.payload), name=f"{name}_before")
    m.d.sync += [waited.eq(port.valid & ~port.ready), before.eq(port.payload)]
    return ~waited | (port.valid & (Value.cast(port.payload) == before))
