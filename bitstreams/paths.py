"""The slowest paths of a placed block, from the delays that nextpnr writes (SDF)."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bitstreams.harness import BLOCK

Pin = tuple[str, str]
"""A cell and its port."""

INTERCONNECT = re.compile(r"\(INTERCONNECT (\S+) (\S+) \(([\d:]+)\)")
INSTANCE = re.compile(r"\(INSTANCE (\S+)\)")
IOPATH = re.compile(r"\(IOPATH (\S+) (\S+) \(([\d:]+)\)")
SETUP = re.compile(r"\(SETUPHOLD \(posedge (\S+)\) \(\S+ (\S+)\) \(([\d:]+)\)")
"""Of an SDF file by nextpnr: one of these a line. Delays are least:typical:most in ps."""

TYPES = "TRELLIS_FF|LUT4|PFUMX|L6MUX21|CCU2C|DP16KD|PDPW16KD|TRELLIS_DPR16X4|MULT18X18D|ALU54B|SB_[A-Z0-9]+(?:_4K)?"
NAMED_AFTER = re.compile(rf"^(?P<signal>.*?)_(?:{TYPES})_(?P<rest>.*)$")
"""yosys names cells after a signal that they touch: ``sum_LUT4_Z`` drives ``sum``, ``sum_LUT4_Z_A_LUT4_Z`` the input A
of that one."""
DRIVES = re.compile(r"(?:Q|Z|O|S0|S1|F|DO[AB]?\d*)(?:_\d+)?(?:\$.*)?")
"""What is left of the name of a cell that drives the signal itself; nextpnr adds $ and more."""

CONTROLS = {"CE": "enable of ", "LSR": "reset of ", "CEN": "enable of ", "SR": "reset of "}
"""A register's inputs other than its data."""

BIT = re.compile(r"(\[\d+\])+$")


@dataclass(frozen=True)
class Hop:
    """A step of a path: through a cell (``routed`` is false) or along a wire to one. ``place`` is in words."""

    place: str
    ns: float
    routed: bool


@dataclass(frozen=True)
class TimingPath:
    """From register to register, setup time included: the clock's period cannot be shorter than ``ns``."""

    start: str
    end: str
    hops: tuple[Hop, ...]

    @property
    def routing_ns(self) -> float:
        return sum(hop.ns for hop in self.hops if hop.routed)

    @property
    def logic_ns(self) -> float:
        return sum(hop.ns for hop in self.hops if not hop.routed)

    @property
    def ns(self) -> float:
        return sum(hop.ns for hop in self.hops)

    @property
    def wires(self) -> int:
        """Wires that take time; a carry chain is none."""
        return sum(hop.routed and hop.ns > 0 for hop in self.hops)

    @property
    def through(self) -> list[str]:
        """The signals between the two registers, without their bits and each once in a row."""
        found: list[str] = []
        for hop in self.hops:
            name = BIT.sub("", hop.place)
            if name not in (BIT.sub("", self.start), BIT.sub("", self.end), *found[-1:]):
                found.append(name)
        return found

    def sentence(self) -> str:
        """The path in a line: from which register, through what, to which, and where the time goes."""
        through = f" through {', '.join(self.through)}" if self.through else ""
        return (
            f"{self.start} to {self.end}{through}: {self.ns:.2f} ns, {self.logic_ns:.2f} ns logic, "
            f"{self.routing_ns:.2f} ns routing, {self.wires} wires"
        )


def signal_name(cell: str) -> str:
    """The signal of the design that a cell is named after; ``~`` in front: the cell is in the logic around it."""
    found = NAMED_AFTER.match(cell)
    name, near = cell, ""
    if found is not None:
        name = found["signal"]
        near = "" if DRIVES.fullmatch(found["rest"]) else "~"
    if name.startswith(INSIDE):
        return near + name.removeprefix(INSIDE).replace("__", ".")
    return f"{near}port {name.replace('__', '.')}"


INSIDE = f"{BLOCK}."


@dataclass(frozen=True)
class Delays:
    """A placed design as a graph of pins (cell, port), in ns: what goes into a pin, and which pins a clock ends at."""

    into: dict[Pin, list[tuple[Pin, float, bool]]]
    setup: dict[Pin, float]
    clocks: frozenset[Pin]


def read_delays(lines: Iterable[str]) -> Delays:
    """The graph that an SDF file of nextpnr describes."""
    into: dict[Pin, list[tuple[Pin, float, bool]]] = defaultdict(list)
    setup: dict[Pin, float] = {}
    clocks: set[Pin] = set()
    cell = ""
    for line in lines:
        if found := INTERCONNECT.search(line):
            source, sink = (_pin(text) for text in found.group(1, 2))
            into[sink].append((source, _most(found[3]), True))
        elif found := INSTANCE.search(line):
            cell = found[1].replace("\\", "")
        elif found := IOPATH.search(line):
            into[cell, found[2]].append(((cell, found[1]), _most(found[3]), False))
        elif found := SETUP.search(line):
            setup[cell, found[1]] = _most(found[3])
            clocks.add((cell, found[2]))
    return Delays(dict(into), setup, frozenset(clocks))


def _pin(text: str) -> Pin:
    cell, _, port = text.replace("\\", "").rpartition("/")
    return cell, port


def _most(triple: str) -> float:
    return int(triple.rpartition(":")[2]) / 1000


def worst_paths(delays: Delays, number: int) -> list[TimingPath]:
    """The slowest paths, the slowest first; of those between the same two signals only one."""
    arrival, before = _arrivals(delays)
    ends = sorted(((arrival[pin] + time, pin) for pin, time in delays.setup.items() if pin in arrival), reverse=True)
    found: dict[tuple[str, str], TimingPath] = {}
    for _, pin in ends:
        path = _trace(pin, delays, before)
        if path is not None:
            found.setdefault((BIT.sub("", path.start), BIT.sub("", path.end)), path)
        if len(found) == number:
            break
    return list(found.values())


def _arrivals(delays: Delays) -> tuple[dict[Pin, float], dict[Pin, tuple[Pin, float, bool]]]:
    """When each pin's value is there after the clock's edge, and which arc brings it last."""
    arrival = dict.fromkeys(delays.clocks, 0.0)
    before: dict[Pin, tuple[Pin, float, bool]] = {}
    visited = set(delays.clocks)
    for pin in [*delays.setup]:
        waiting = [pin]
        while waiting:
            here = waiting[-1]
            arcs = [] if here in delays.clocks else delays.into.get(here, [])
            unknown = [source for source, _, _ in arcs if source not in visited]
            if here not in visited and unknown:
                visited.add(here)
                waiting.extend(unknown)
                continue
            waiting.pop()
            visited.add(here)
            for arc in arcs:
                source, delay, _ = arc
                if source in arrival and arrival[source] + delay > arrival.get(here, -1.0):
                    arrival[here] = arrival[source] + delay
                    before[here] = arc
    return arrival, before


def _trace(end: Pin, delays: Delays, before: dict[Pin, tuple[Pin, float, bool]]) -> TimingPath | None:
    """The slowest path to ``end``; None where it does not begin at a register."""
    last = signal_name(end[0])
    hops = [Hop(last, delays.setup[end], routed=False)]
    pin = end
    while pin in before:
        source, delay, routed = before[pin]
        hops.append(Hop(signal_name(pin[0]), delay, routed))
        pin = source
    if pin not in delays.clocks:
        return None
    hops.reverse()
    return TimingPath(signal_name(pin[0]), CONTROLS.get(end[1], "") + last, tuple(hops))
