"""The slowest paths of a placed block, from the delays that nextpnr writes (SDF)."""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bitstreams.harness import BLOCK

Pin = tuple[str, str]
"""A cell and its port."""

CELL_TYPE = re.compile(r'\(CELLTYPE "(\S+)"\)')
INSTANCE = re.compile(r"\(INSTANCE (\S+)\)")
IOPATH = re.compile(r"\(IOPATH (\S+) (\S+) \(([\d:]+)\)")
SETUP = re.compile(r"\(SETUPHOLD \(posedge (\S+)\) \(\S+ (\S+)\) \(([\d:]+)\)")
INTERCONNECT = re.compile(r"\(INTERCONNECT (\S+) (\S+) \(([\d:]+)\)")
"""What an SDF file of nextpnr says, one a line. Delays are least:typical:most, in ps."""

TYPES = (
    r"TRELLIS_FF|LUT4|PFUMX|L6MUX21|CCU2C|DP16KD|PDPW16KD|TRELLIS_DPR16X4|MULT18X18D|ALU54B|SB_[A-Z]+\d*[A-Z]*(?:_4K)?"
)
NAMED_AFTER = re.compile(rf"^(?P<signal>.*?)_(?:{TYPES})_(?P<rest>.*)$")
"""yosys names cells after a signal that they touch: ``sum_LUT4_Z`` drives ``sum``, ``sum_LUT4_Z_A_LUT4_Z`` the input A
of that one."""

DRIVES = re.compile(r"(?:Q|Z|O|S0|S1|DO[AB]?\d*|RDATA)(?:_\d+)?(?:\$.*)?")
"""What is left of the name of a cell that drives the signal itself; nextpnr adds $ and more."""

MEMORY_CELL = re.compile(r"\$DPRAM_COMB\d$|\$RAMW_BLOCK$")
"""What nextpnr adds to the names of the cells of a distributed RAM."""

CONTROLS = {"CE": "enable of ", "LSR": "reset of ", "CEN": "enable of ", "SR": "reset of "}
"""A register's inputs other than its data."""

CARRIES = ("FCI", "CIN")
"""Inputs of a cell that lie on a carry chain."""

KINDS = {"DP16KD": "block RAM", "ICESTORM_RAM": "block RAM", "MULT18X18D": "DSP", "ICESTORM_DSP": "DSP"}
"""Cells that are neither LUTs nor registers."""

BIT = re.compile(r"(\[\d+\])+$")
INSIDE = f"{BLOCK}."


@dataclass(frozen=True)
class Hop:
    """A wire, and the cells behind it that no other wire leads to: a LUT, a carry chain, the last register.

    ``signal`` is what the last of them is named after; with ``~`` in front it is in the logic around that signal.
    ``kind`` is empty for a LUT and a register. Delays in ns; those of registers are clock to output and setup.
    """

    signal: str
    kind: str
    routing_ns: float
    logic_ns: float


@dataclass(frozen=True)
class TimingPath:
    """From register to register. The clock's period cannot be shorter than ``ns``."""

    start: str
    end: str
    hops: tuple[Hop, ...]

    @property
    def routing_ns(self) -> float:
        return sum(hop.routing_ns for hop in self.hops)

    @property
    def logic_ns(self) -> float:
        return sum(hop.logic_ns for hop in self.hops)

    @property
    def ns(self) -> float:
        return self.routing_ns + self.logic_ns

    @property
    def through(self) -> list[str]:
        """The signals between the registers, without their bits, each once in a row."""
        ends = {_vector(self.start), _vector(self.end)}
        names = [_vector(hop.signal) for hop in self.hops[1:-1]]
        return [name for name, _ in groupby(name for name in names if name not in ends)]

    def sentence(self) -> str:
        """From which register, through what, to which, and where the time goes."""
        through = f" through {', '.join(self.through)}" if self.through else ""
        return f"{self.start} to {self.end}{through}: {self.figures()}"

    def figures(self) -> str:
        """Where the time goes."""
        return (
            f"{self.ns:.2f} ns, {self.logic_ns:.2f} ns logic + {self.routing_ns:.2f} ns routing "
            f"in {len(self.hops) - 1} wires"
        )


def _vector(signal: str) -> str:
    return BIT.sub("", signal).removeprefix("~")


def signal_name(cell: str, fields: Mapping[str, str]) -> str:
    """The signal of the design that a cell is named after; ``~`` in front: the cell is in the logic around it. ``fields``
    has better names for some bits within the block."""
    found = NAMED_AFTER.match(cell)
    name, near = MEMORY_CELL.sub("", cell), ""
    if found is not None:
        name = found["signal"]
        near = "" if DRIVES.fullmatch(found["rest"]) else "~"
    inside = name if name.startswith(INSIDE) else INSIDE + name
    port = "" if name == inside else "port "
    return near + port + fields.get(inside, inside).removeprefix(INSIDE).replace("__", ".")


@dataclass(frozen=True)
class Arc:
    """A delay in ns from ``source`` to the pin that the arc belongs to, along a wire or through a cell."""

    source: Pin
    ns: float
    routed: bool


@dataclass(frozen=True)
class Delays:
    """A placed design as a graph of pins: the arcs into each, setup times in ns, the clocks' pins, cells' types."""

    into: dict[Pin, list[Arc]]
    setup: dict[Pin, float]
    clocks: frozenset[Pin]
    types: dict[str, str]

    def without(self, cells: Container[str]) -> "Delays":
        """The same without the paths that begin or end in ``cells``, by their names in the netlist."""
        return replace(
            self,
            setup={pin: ns for pin, ns in self.setup.items() if MEMORY_CELL.sub("", pin[0]) not in cells},
            clocks=frozenset(pin for pin in self.clocks if MEMORY_CELL.sub("", pin[0]) not in cells),
        )


def read_delays(lines: Iterable[str]) -> Delays:
    """The graph that an SDF file of nextpnr describes."""
    into: dict[Pin, list[Arc]] = defaultdict(list)
    setup: dict[Pin, float] = {}
    clocks: set[Pin] = set()
    types: dict[str, str] = {}
    kind = cell = ""
    for line in lines:
        if found := INTERCONNECT.search(line):
            source, sink = (_pin(text) for text in found.group(1, 2))
            into[sink].append(Arc(source, _most(found[3]), routed=True))
        elif found := IOPATH.search(line):
            into[cell, found[2]].append(Arc((cell, found[1]), _most(found[3]), routed=False))
        elif found := SETUP.search(line):
            setup[cell, found[1]] = _most(found[3])
            clocks.add((cell, found[2]))
        elif found := CELL_TYPE.search(line):
            kind = found[1]
        elif found := INSTANCE.search(line):
            cell = found[1].replace("\\", "")
            types[cell] = kind
    return Delays(dict(into), setup, frozenset(clocks), types)


def _pin(text: str) -> Pin:
    cell, _, port = text.replace("\\", "").rpartition("/")
    return cell, port


def _most(triple: str) -> float:
    return int(triple.rpartition(":")[2]) / 1000


def worst_paths(delays: Delays, number: int, fields: Mapping[str, str]) -> list[TimingPath]:
    """The slowest paths, the slowest first; of those between the same two signals only one. ``fields``: see
    :func:`signal_name`."""
    arrivals = _Arrivals(delays, fields)
    found: dict[tuple[str, str], TimingPath] = {}
    for end in arrivals.ends():
        path = arrivals.path(end)
        found.setdefault((_vector(path.start), _vector(path.end)), path)
        if len(found) == number:
            break
    return list(found.values())


class _Arrivals:
    """When each pin's value is there after the clock's edge at the latest, and which arc brings it."""

    def __init__(self, delays: Delays, fields: Mapping[str, str]):
        self._delays = delays
        self._fields = fields
        self._ns = dict.fromkeys(delays.clocks, 0.0)
        self._last: dict[Pin, Arc] = {}
        self._visited = set(delays.clocks)
        for end in delays.setup:
            self._reach(end)

    def _reach(self, end: Pin) -> None:
        """Depth first, without recursion: a path may have thousands of pins."""
        waiting = [end]
        while waiting:
            pin = waiting[-1]
            arcs = self._delays.into.get(pin, [])
            unknown = [arc.source for arc in arcs if arc.source not in self._visited]
            if unknown and pin not in self._visited:
                self._visited.add(pin)
                waiting.extend(unknown)
                continue
            waiting.pop()
            self._visited.add(pin)
            for arc in arcs:
                if arc.source in self._ns and self._ns[arc.source] + arc.ns > self._ns.get(pin, -1.0):
                    self._ns[pin] = self._ns[arc.source] + arc.ns
                    self._last[pin] = arc

    def ends(self) -> Sequence[Pin]:
        """Registers' inputs that a register leads to, the latest first."""
        setup = self._delays.setup
        return sorted(
            (pin for pin in setup if pin in self._ns), key=lambda pin: self._ns[pin] + setup[pin], reverse=True
        )

    def path(self, end: Pin) -> TimingPath:
        """The slowest path to ``end``."""
        hops: list[Hop] = []
        pin, signal, kind, logic = end, signal_name(end[0], self._fields), self._kind(end), self._delays.setup[end]
        while pin in self._last:
            arc = self._last[pin]
            if arc.routed and arc.ns > 0:
                hops.append(Hop(signal, kind, round(arc.ns, 3), round(logic, 3)))
                signal, kind, logic = self._signal(arc.source, signal), "", 0.0
            elif not arc.routed:
                logic += arc.ns
            pin = arc.source
            kind = kind or self._kind(pin)
        hops.append(Hop(signal, kind, 0.0, round(logic, 3)))
        hops.reverse()
        start, last = signal.removeprefix("~"), signal_name(end[0], self._fields).removeprefix("~")
        return TimingPath(start, CONTROLS.get(end[1], "") + last, tuple(hops))

    def _signal(self, pin: Pin, following: str) -> str:
        """What a pin's cell is named after; one that only nextpnr knows (where a carry chain begins or ends) as ``following``."""
        cell, _ = pin
        return following if cell.startswith("$nextpnr") else signal_name(cell, self._fields)

    def _kind(self, pin: Pin) -> str:
        cell, port = pin
        if port in CARRIES:
            return "carry chain"
        if MEMORY_CELL.search(cell):
            return "distributed RAM"
        return KINDS.get(self._delays.types.get(cell, ""), "")
