"""Drives and watches a bench's streams, all of them once a clock cycle.

A handshake at rising edge n counts as cycle n. What a register stage takes at edge n it shows at edge n + 1:
that is a latency of one cycle.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from sim.benches import CLOCK_NS
from sim.benches.packing import packing

RESET_CYCLES = 2
"""One edge is too few: there is a race at time 0."""


class Transfer(NamedTuple):
    """What a sink took, and when."""

    cycle: int
    value: Any


class Source:
    """Offers items, each until it is taken; with ``activity`` below 1 it pauses between them at random.

    Attributes:
        taken: the cycles at which items were taken.
        stalls: cycles in which an item waited.
    """

    def __init__(self, dut: Any, name: str, shape: Any, activity: float = 1.0) -> None:
        self._valid, self._ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload")
        self._packing = packing(shape)
        self._offered = False
        self._waiting: deque[int] = deque()
        self._valid.value = 0
        self.activity = activity
        self.taken: list[int] = []
        self.stalls = 0

    def send(self, items: Iterable[Any]) -> None:
        """Have items offered behind what waits already."""
        self._waiting.extend(self._packing.pack(item) for item in items)

    @property
    def idle(self) -> bool:
        """Whether all was taken."""
        return not self._waiting and not self._offered

    def edge(self, cycle: int) -> None:
        """One clock edge."""
        before = self._offered
        if before:
            if int(self._ready.value):
                self.taken.append(cycle)
                self._offered = False
            else:
                self.stalls += 1
                return
        if self._waiting and (self.activity >= 1 or random.random() < self.activity):
            self._payload.value = self._waiting.popleft()
            self._offered = True
        if self._offered != before:
            self._valid.value = self._offered


class Sink:
    """Takes items, with ``activity`` below 1 not in every cycle. Asserts what every stream promises: an item that waits
    stays as it is until it is taken (Amaranth RFC 61).

    Attributes:
        received: the items, each with the cycle in which it was taken.
    """

    def __init__(self, dut: Any, name: str, shape: Any, activity: float = 1.0) -> None:
        self._valid, self._ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload")
        self._packing = packing(shape)
        self._name = name
        self._is_ready = False
        self._held: int | None = None
        self._ready.value = 0
        self.activity = activity
        self.received: list[Transfer] = []

    def edge(self, cycle: int) -> None:
        """One clock edge."""
        if int(self._valid.value):
            payload = int(self._payload.value)
            assert self._held is None or payload == self._held, f"{self._name}: an item changed while it waited"
            self._held = payload
            if self._is_ready:
                self.received.append(Transfer(cycle, self._packing.unpack(payload)))
                self._held = None
        else:
            assert self._held is None, f"{self._name}: an item was withdrawn"
        wanted = self.activity >= 1 or random.random() < self.activity
        if wanted != self._is_ready:
            self._is_ready = wanted
            self._ready.value = wanted

    def values(self) -> list[Any]:
        """The items alone."""
        return [transfer.value for transfer in self.received]


class Clocked:
    """A design under its clock; streams and watchers are served at each rising edge."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.cycle = 0
        self._served: list[Callable[[int], None]] = []
        Clock(dut.clk, CLOCK_NS, unit="ns").start()

    def source(self, name: str, shape: Any, activity: float = 1.0) -> Source:
        """Drive the stream ``name``."""
        source = Source(self.dut, name, shape, activity)
        self._served.append(source.edge)
        return source

    def sink(self, name: str, shape: Any, activity: float = 1.0) -> Sink:
        """Take from the stream ``name``."""
        sink = Sink(self.dut, name, shape, activity)
        self._served.append(sink.edge)
        return sink

    def watch(self, watcher: Callable[[int], None]) -> None:
        """Call ``watcher`` with the cycle at each rising edge, before the streams that are added later."""
        self._served.append(watcher)

    async def reset(self) -> None:
        """Hold reset. Memories keep what they hold."""
        self.dut.rst.value = 1
        for _ in range(RESET_CYCLES):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def cycles(self, count: int) -> None:
        """Let cycles pass."""
        edge = RisingEdge(self.dut.clk)
        for _ in range(count):
            await edge
            self.cycle += 1
            for serve in self._served:
                serve(self.cycle)

    async def until(self, condition: Callable[[], bool], most: int = 100_000) -> None:
        """Let cycles pass until a condition holds; fails where that takes more than ``most`` cycles."""
        for _ in range(most):
            if condition():
                return
            await self.cycles(1)
        raise AssertionError(f"nothing came in {most} cycles")
