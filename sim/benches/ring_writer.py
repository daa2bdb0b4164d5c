"""Bench of hdl/ring_writer.py: messages go through the rings to the host's own reader (docs/ring.md)."""

import random
from collections.abc import Callable
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.beat import LANES, Parsed
from hdl.flow import Parser
from hdl.frame import FRAME_BYTES
from hdl.limits import FLOWS, STORE_BYTES
from hdl.payload_store import Release, RowAddress
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import RingSettings, RingWriter
from sim.benches.host_memory import HostMemory
from sim.benches.packing import packing
from sim.benches.parsers import OF_THE_RING, POSITIONS, described
from sim.benches.streams import Clocked

LONGEST = 6144
CYCLES_A_MESSAGE = 2
"""Beside one for each 8 bytes and one for each frame."""
MOST_FRAMES = 6

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
        self._store = [random.randbytes(STORE_BYTES) for _ in range(FLOWS)]
        self._position = [random.randrange(POSITIONS) for _ in range(FLOWS)]
        self._frames = 0
        self.expected: list[dict[str, Any]] = []
        self._first_frames: set[int] = set()
        self.released: list[tuple[int, int, int]] = []
        self._releases: list[tuple[int, int, int]] = []
        self.messages_at: list[int] = []
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
        if int(self.dut.wrote_payload.value):
            self.messages_at.append(cycle)
        self.stalled += int(self.dut.stalled.value)

    def send(
        self, lengths: list[int], parser: Parser, frames: Callable[[], int] = lambda: 1, end_alone: bool | None = None
    ) -> None:
        """A packet with messages of these lengths; its end comes with the last one or alone (None: at random)."""
        flow = random.randrange(FLOWS)
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
        end = {"packet_end": 1, "release": self._position[flow] % POSITIONS}
        if not (random.random() < 0.5 if end_alone is None else end_alone):
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
    """A message takes one cycle for each 8 bytes, one for each frame, and CYCLES_A_MESSAGE; a packet's end that comes
    alone takes one."""
    bench = RingWriterBench(dut, frame_slots=1 << 10, payload_bytes=1 << 20)
    await bench.clocked.reset()
    shape = [(length, frames) for length in (1, 8, 9, 63, 64, 65, 150, 1000) for frames in (1, 2, 5)]
    for length, frames in shape:
        bench.send([length], Parser.SBE, lambda frames=frames: frames, end_alone=length == 150)
    bench.host.sink.activity = 0
    await bench.clocked.cycles(500)
    bench.host.sink.activity = 1
    await bench.check()
    spent = [after - before for before, after in zip(bench.messages_at, bench.messages_at[1:], strict=False)]
    expected = [-(-length // LANES) + frames + CYCLES_A_MESSAGE + (length == 150) for length, frames in shape]
    # The first one waited.
    assert spent[1:] == expected[1:-1]
