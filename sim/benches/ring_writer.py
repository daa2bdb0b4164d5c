"""Bench of hdl/ring_writer.py: messages go through the rings to the host's own reader (docs/ring.md)."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from amaranth.lib import wiring

from hdl.beat import LANES, Parsed
from hdl.fix_entries import FixEntries
from hdl.flow import Parser
from hdl.frame import FRAME_BYTES, Kind
from hdl.limits import FLOWS, MESSAGE_LIMIT, STORE_BYTES
from hdl.payload_store import Release, RowAddress
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import RingSettings, RingWriter
from sim.benches.fix_model import FixFlow
from sim.benches.host_memory import HostMemory
from sim.benches.market_data import causes, market_data, message
from sim.benches.packing import packing
from sim.benches.parsers import OF_THE_RING, POSITIONS, described
from sim.benches.streams import Clocked

LONGEST = 2 * MESSAGE_LIMIT
FEWEST_CYCLES = 3
"""Of a message among others as short."""
MOST_FRAMES = 6
ENTRY_FLOWS = FLOWS // 2
"""Market data messages come by the other half of the flows: what is stored of these is not random."""

STREAMS = {Parser.FIX: "fix", Parser.SBE: "sbe"}


def component() -> wiring.Component:
    return RingWriter()


class RingWriterBench:
    """The writer between parsers that say what the bench wants, a store full of random bytes, and the host."""

    def __init__(
        self,
        dut: Any,
        *,
        gaps: float = 1.0,
        ready: float = 1.0,
        frame_slots: int = 16,
        payload_bytes: int = 1 << 15,
    ) -> None:
        self.dut = dut
        self.clocked = Clocked(dut)
        self._sources = {
            parser: self.clocked.source(name, Parsed, gaps / len(STREAMS)) for parser, name in STREAMS.items()
        }
        self._order = self.clocked.source("order", Parser, gaps)
        self.clocked.watch(self._answer)
        self.host = HostMemory(
            self.clocked,
            "o",
            self._publish,
            ready=ready,
            frame_slots=frame_slots,
            payload_bytes=payload_bytes,
        )
        self._settings = self.host.settings()
        self._set()
        self._store = [bytearray(random.randbytes(STORE_BYTES)) for _ in range(FLOWS)]
        self._position = [random.randrange(POSITIONS) for _ in range(FLOWS)]
        self._stored = [0] * FLOWS
        self._frames = 0
        self.expected: list[dict[str, Any]] = []
        self._first_frames: set[int] = set()
        self.released: list[tuple[int, int, int]] = []
        self._releases: list[tuple[int, int, int]] = []
        self.released_at: list[int] = []
        self.stalled = 0

    def _set(self) -> None:
        self.dut.settings.value = packing(RingSettings).pack(self._settings)

    def _publish(self, name: str, value: int) -> None:
        self._settings[name] = value
        self._set()

    def _answer(self, cycle: int) -> None:
        """The store: the row asked for at this edge is there at the next."""
        address = packing(RowAddress).unpack(int(self.dut.read_address.value))
        at = address["row"] * LANES
        self.dut.read_data.value = int.from_bytes(self._store[address["flow"]][at : at + LANES], "little")
        if int(self.dut.releases.value):
            release = packing(Release).unpack(int(self.dut.release_.value))
            self.released.append((release["flow"], release["position"], int(self.dut.packet_end.value)))
            self.released_at.append(cycle)
        self.stalled += int(self.dut.stalled.value)

    def send(
        self, lengths: list[int], parser: Parser, frames: Callable[[], int] = lambda: 1, end_alone: bool | None = None
    ) -> None:
        """A packet with messages of these lengths; its end comes with the last one or alone (None: at random)."""
        flow = random.randrange(ENTRY_FLOWS)
        items: list[dict[str, Any]] = []
        for length in lengths:
            start = self._position[flow] % POSITIONS
            self._position[flow] += length
            raw = bytes(self._store[flow][(start + n) % STORE_BYTES] for n in range(length))
            count = frames()
            self._first_frames.add(len(self.expected))
            for n in range(count):
                frame = self._frame(flow)
                items.append({"has_frame": 1, "frame": frame})
                self._expect(frame, raw)
                if n == count - 1:
                    message = {"flow": flow, "start": start, "length": length, "frames": count}
                    items[-1] |= {"has_message": 1, "message": message}
            self._releases.append((flow, (start + length) % POSITIONS, 0))
        self._send(parser, flow, items, random.random() < 0.5 if end_alone is None else end_alone)

    def send_market_data(self, raw: bytes, end_alone: bool | None = None) -> list[np.void]:
        """A packet with a FIX message whose entries are to be read; returns the frames that must come of it."""
        flow = min(range(ENTRY_FLOWS, FLOWS), key=self._stored.__getitem__)
        self._stored[flow] += len(raw)
        assert self._stored[flow] <= STORE_BYTES, "bytes that the writer did not read yet would be lost"
        start = self._position[flow] % POSITIONS
        self._position[flow] += len(raw)
        for n, byte in enumerate(raw):
            self._store[flow][(start + n) % STORE_BYTES] = byte
        self._frames += 1
        (span,) = FixFlow(flow).take(raw, self._frames)
        common = span.frame.copy()
        common["flags"] &= ~np.uint16(causes(span))
        common["kind"] = Kind.OTHER
        self._first_frames.add(len(self.expected))
        for frame in span.frames:
            self._expect(int.from_bytes(frame.tobytes(), "little"), raw)
        message = {"flow": flow, "start": start, "length": len(raw), "frames": 1, "entries": 1}
        common["payload_length"] = 0  # the writer's business
        self._releases.append((flow, (start + len(raw)) % POSITIONS, 0))
        items = [
            {"has_frame": 1, "frame": int.from_bytes(common.tobytes(), "little"), "has_message": 1, "message": message}
        ]
        self._send(Parser.FIX, flow, items, random.random() < 0.5 if end_alone is None else end_alone)
        return list(span.frames)

    def _send(self, parser: Parser, flow: int, items: list[dict[str, Any]], end_alone: bool) -> None:
        """A packet with what the parser says of it; its end is added."""
        end = {"packet_end": 1, "release": self._position[flow] % POSITIONS}
        if not end_alone:
            items[-1]["message"] |= end
            self._releases[-1] = (flow, end["release"], 1)
        else:
            items.append({"has_message": 1, "message": end | {"flow": flow}})
            self._releases.append((flow, end["release"], 1))
        self._sources[parser].send(items)
        self._order.send([parser])

    def _frame(self, flow: int) -> int:
        """A frame that is told from all others; the ring's fields are 0."""
        self._frames += 1
        content = random.randbytes(32) + bytes(6) + flow.to_bytes(2, "little") + self._frames.to_bytes(4, "little")
        return int.from_bytes(content + random.randbytes(FRAME_BYTES - 1 - len(content)) + b"\0", "little")

    def _expect(self, frame: int, raw: bytes) -> None:
        fields = packing(Parsed.members["frame"]).unpack(frame)
        kept = {name: value for name, value in fields.items() if name not in OF_THE_RING}
        self.expected.append(kept | {"message": raw, "payload_length": len(raw)})

    async def check(self) -> None:
        """Let everything through; the reader must have got it, and the store have been released."""
        await self.clocked.until(lambda: len(self.host.parsed) >= len(self.expected))
        await self.clocked.cycles(60)
        payload_position, ring_bytes = 0, len(self.host.ring.payload)
        for number, ((frame, raw), theirs) in enumerate(zip(self.host.parsed, self.expected, strict=True)):
            ours = described(frame, raw) | {"payload_length": int(frame["payload_length"])}
            assert ours == theirs, f"frame {number}"
            assert int(frame["generation"]) == (number // len(self.host.ring.frames) + 1) % 256
            if number in self._first_frames:
                padded = -(-len(raw) // LINE_BYTES) * LINE_BYTES
                left = ring_bytes - payload_position % ring_bytes
                payload_position += left if padded > left else 0
                offset = payload_position % ring_bytes
                payload_position += padded
            assert int(frame["payload_offset"]) == offset, f"frame {number}"
        assert self.released == self._releases


def some_frames() -> int:
    return random.randint(1, MOST_FRAMES)


@cocotb.test()
async def every_length_and_alignment(dut):
    """Short messages of every length beginning in every lane, two parsers taking turns, a slow host."""
    bench = RingWriterBench(dut, gaps=0.9, ready=0.7)
    await bench.clocked.reset()
    for length in range(1, 140):
        bench.send([length], Parser.FIX)
        bench.send([length, random.randint(0, 200)], Parser.SBE, some_frames)
    await bench.check()


@cocotb.test()
async def long_messages(dut):
    """Long messages in the smallest ring: laps, skips at the end of a lap, waits for credit."""
    bench = RingWriterBench(dut, ready=0.9)
    bench.host.eagerness = 0.001
    await bench.clocked.reset()
    for _ in range(14):
        bench.send([random.randint(2000, LONGEST)], Parser.FIX)
        bench.send([LONGEST, 0, 64, 63], Parser.SBE, some_frames)
    await bench.check()
    assert bench.stalled > 100


@cocotb.test()
async def many_laps(dut):
    """More than 255 laps of the smallest frame ring: the generation goes round."""
    bench = RingWriterBench(dut, frame_slots=2)
    bench.host.eagerness = 0.3
    await bench.clocked.reset()
    for _ in range(300):
        bench.send([0, 1], Parser.SBE)
    await bench.check()


@cocotb.test()
async def no_credit(dut):
    """Without credit nothing is written beyond it, for as long as it takes."""
    bench = RingWriterBench(dut, frame_slots=8)
    bench.host.eagerness = 0
    await bench.clocked.reset()
    for _ in range(30):
        bench.send([100], Parser.FIX)
    await bench.clocked.cycles(1500)
    frames = [
        transfer for transfer in bench.host.sink.received if transfer.value["address"] < 1 << 12 | 8 * FRAME_BYTES
    ]
    assert len(frames) == 8
    assert int(dut.stalled.value)
    bench.host.eagerness = 0.1
    await bench.check()


@cocotb.test()
async def cycles_of_a_message(dut):
    """A message takes one cycle for each 8 bytes and one for each frame; a packet's end that comes alone takes two."""
    bench = RingWriterBench(dut, frame_slots=1 << 10, payload_bytes=1 << 20)
    await bench.clocked.reset()
    shape = [(length, frames) for length in (9, 16, 17, 63, 64, 65, 150, 1000) for frames in (1, 2, 5)]
    for length, frames in shape:
        bench.send([length], Parser.SBE, lambda frames=frames: frames, end_alone=length == 150)
    bench.host.sink.activity = 0
    await bench.clocked.cycles(500)
    bench.host.sink.activity = 1
    await bench.check()
    ends = [at for at, (_, _, packet_end) in zip(bench.released_at, bench.released, strict=True) if packet_end]
    spent = [after - before for before, after in pairwise(ends)]
    alone = [length == 150 for length, _ in shape]
    # The second of the two cycles passes before the next message's first word.
    expected = [
        -(-length // LANES) + frames + end + before
        for (length, frames), end, before in zip(shape, alone, [False, *alone], strict=False)
    ]
    # The first ones waited.
    assert spent[2:] == expected[3:]


@cocotb.test()
async def cycles_of_short_messages(dut):
    """Messages of up to 16 bytes take FEWEST_CYCLES each, one with another."""
    bench = RingWriterBench(dut, frame_slots=1 << 10, payload_bytes=1 << 20)
    await bench.clocked.reset()
    lengths = [0, 1, 7, 8, 9, 15, 16]
    bench.send(lengths * 10, Parser.SBE, end_alone=False)
    await bench.check()
    # The first ones find the writer waiting.
    rounds = bench.released_at[len(lengths) :: len(lengths)]
    assert [after - before for before, after in pairwise(rounds)] == [FEWEST_CYCLES * len(lengths)] * 8


@cocotb.test()
async def entries_become_frames(dut):
    """Market data messages at every alignment among others, some with a bad entry, a slow host."""
    bench = RingWriterBench(dut, gaps=0.9, ready=0.7)
    bench.host.eagerness = 0.02
    await bench.clocked.reset()
    for _ in range(250):
        bench.send_market_data(market_data(random.randint(1, 5), bad=0.1))
        if random.random() < 0.3:
            bench.send([random.randint(0, 100)], random.choice(list(Parser)))
    await bench.check()


@cocotb.test()
async def more_entries_than_slots(dut):
    """A message with more entries than the frame ring has slots, and one that is bad in its last entry."""
    bench = RingWriterBench(dut, frame_slots=4)
    bench.host.eagerness = 0.1
    await bench.clocked.reset()
    most = [(269, b"0")] * (MESSAGE_LIMIT // 6 - 8)
    assert len(bench.send_market_data(message("W", most))) == len(most)
    (frame,) = bench.send_market_data(message("W", [*most, (83, b"x")]))
    assert frame["kind"] == Kind.MALFORMED
    bench.send_market_data(market_data(3))
    await bench.check()
    assert bench.stalled > len(most)


@cocotb.test()
async def cycles_of_entries(dut):
    """Two passes of one cycle for each 8 bytes, where no more than one field ends in a beat."""
    bench = RingWriterBench(dut, frame_slots=1 << 10, payload_bytes=1 << 20)
    await bench.clocked.reset()
    body = [(269, b"0"), (55, b"SYMBOL--"), (270, b"1234.5678"), (271, b"12345.6789")] * 20
    raw = message("X", [(1128, b"9" * 8), (279, b"0"), *body])
    for _ in range(4):
        bench.send_market_data(raw, end_alone=False)
    await bench.check()
    beats = [max(1, raw[at : at + LANES].count(b"\x01")) for at in range(0, len(raw), LANES)]
    spent = [after - before for before, after in pairwise(bench.released_at)]
    assert spent == [2 * sum(beats) + FixEntries.LATENCY + 1] * 3
