"""Bench of hdl/payload_store.py: beats come out with their position, and what was stored can be read."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import LANES, PayloadBeat, RoutedBeat
from hdl.flow import Parser
from hdl.limits import FLOWS, STORE_BYTES
from hdl.payload_store import PayloadStore, Release, RowAddress
from sim.benches.packing import packing
from sim.benches.parsers import POSITIONS, beats
from sim.benches.streams import Clocked

LATENCY = 1
BESIDE_DATA = ("timestamp", "flow", "position", "fragment", "gap")
ROWS = STORE_BYTES // LANES


def component() -> wiring.Component:
    return PayloadStore()


class StoreBench:
    """The store with its three outputs, and what each flow has carried and released."""

    def __init__(self, dut: Any, *, gaps: float = 1.0, ready: float = 1.0) -> None:
        self.dut = dut
        dut.releases.value = 0
        self.clocked = Clocked(dut)
        self.source = self.clocked.source("i", RoutedBeat, gaps)
        self.sinks = {
            Parser.FIX: self.clocked.sink("fix", PayloadBeat, ready),
            Parser.SBE: self.clocked.sink("sbe", PayloadBeat, ready),
        }
        self.order = self.clocked.sink("order", Parser, ready)
        self.streams = [bytearray() for _ in range(FLOWS)]
        self.released = [0] * FLOWS
        self.parsers: list[Parser] = []
        self.expected: dict[Parser, list[tuple]] = {parser: [] for parser in Parser}

    def send(self, payload: bytes, flow: int, fragment: bool = False, missing: int | None = None) -> None:
        """Have a packet stored, which begins with a gap beat where bytes are missing; even flows are FIX, odd ones SBE."""
        parser = Parser.SBE if flow % 2 else Parser.FIX
        timestamp = len(self.parsers)
        self.parsers.append(parser)
        same = {"timestamp": timestamp, "flow": flow, "fragment": fragment}
        if missing is not None:
            gap = {"data": missing.to_bytes(LANES, "little"), "count": 0, "gap": True}
            self.source.send([same | gap | {"parser": parser}])
            position = len(self.streams[flow]) % POSITIONS
            self.expected[parser].append((gap["data"], False, timestamp, flow, position, fragment, True))
        for beat in beats(payload, **same):
            self.source.send([beat | {"parser": parser}])
            position = len(self.streams[flow]) % POSITIONS
            here = (beat["data"], beat["last"], timestamp, flow, position, fragment, False)
            self.expected[parser].append(here)
            self.streams[flow] += beat["data"]

    def release(self, flow: int, position: int) -> None:
        """Release in the next cycle; :meth:`hold` ends it."""
        self.released[flow] = position
        self.dut.release_.value = packing(Release).pack({"flow": flow, "position": position % POSITIONS})
        self.dut.releases.value = 1

    def hold(self) -> None:
        """Release nothing."""
        self.dut.releases.value = 0

    async def row(self, flow: int, row: int) -> bytes:
        """Read a row of the store."""
        self.dut.read_address.value = packing(RowAddress).pack({"flow": flow, "row": row % ROWS})
        await self.clocked.cycles(2)
        return int(self.dut.read_data.value).to_bytes(LANES, "little")

    def arrived(self, flow: int) -> int:
        """Bytes of a flow that its parser has got."""
        sink = self.sinks[Parser.SBE if flow % 2 else Parser.FIX]
        return sum(value["count"] for value in sink.values() if value["flow"] == flow)

    def check(self) -> None:
        """Each parser got its beats, and the order of the packets is known."""
        assert self.order.values() == self.parsers
        for parser, sink in self.sinks.items():
            found = [
                (
                    beat["data"] if beat["gap"] else beat["data"][: beat["count"]],
                    bool(beat["last"]),
                    *(beat[name] for name in BESIDE_DATA),
                )
                for beat in sink.values()
            ]
            assert found == self.expected[parser]


@cocotb.test()
async def full_rate(dut):
    """Every length of packet, whatever position it begins at: a beat every cycle, one cycle later it is out."""
    bench = StoreBench(dut)
    await bench.clocked.reset()
    for length in range(1, 90):
        bench.send(random.randbytes(length), flow=0)
    await bench.clocked.until(lambda: bench.source.idle)
    await bench.clocked.cycles(5)
    bench.check()
    assert bench.source.stalls == 0
    assert [transfer.cycle - LATENCY for transfer in bench.sinks[Parser.FIX].received] == bench.source.taken


@cocotb.test()
async def many_flows(dut):
    """Packets of all flows in any order, some behind a hole, back-pressure on every output; what was released makes room."""
    bench = StoreBench(dut, gaps=0.9, ready=0.8)
    await bench.clocked.reset()
    for _ in range(700):
        missing = random.choice((None, None, 0, 1, (1 << 32) - 1))
        bench.send(random.randbytes(random.randint(1, 100)), random.randrange(FLOWS), random.random() < 0.1, missing)
    reads = 0
    while not bench.source.idle:
        flow = random.randrange(FLOWS)
        arrived = bench.arrived(flow)
        first, stop = -(-bench.released[flow] // LANES), arrived // LANES
        if first < stop:
            row = random.randrange(first, stop)
            expected = bench.streams[flow][row * LANES : (row + 1) * LANES]
            assert await bench.row(flow, row) == expected, f"row {row} of flow {flow}"
            reads += 1
        if random.random() < 0.1:
            bench.release(flow, random.randint(bench.released[flow], arrived))
        await bench.clocked.cycles(1)
        bench.hold()
    await bench.clocked.cycles(20)
    bench.check()
    assert reads > 300


@cocotb.test()
async def no_room(dut):
    """A flow's region takes exactly STORE_BYTES; a released byte makes no room for a beat, eight do. Rows wrap."""
    bench = StoreBench(dut)
    await bench.clocked.reset()
    beats_more = 40
    bench.send(random.randbytes(STORE_BYTES + beats_more * LANES), flow=2)
    await bench.clocked.cycles(ROWS + 50)
    assert len(bench.source.taken) == ROWS
    for n in range(beats_more):
        for position, taken in ((n * LANES + 1, ROWS + n), ((n + 1) * LANES, ROWS + n + 1)):
            bench.release(2, position)
            await bench.clocked.cycles(1)
            bench.hold()
            await bench.clocked.cycles(4)
            assert len(bench.source.taken) == taken
    await bench.clocked.cycles(4)
    bench.check()
    for row in range(beats_more, ROWS + beats_more, 101):
        assert await bench.row(2, row) == bench.streams[2][row * LANES : (row + 1) * LANES]
