"""Bench of hdl/dma_pcie.py: lines become memory writes by the rules of PCI Express, each once and in order."""

import random
from typing import Any

import cocotb
from amaranth.lib import wiring

from hdl.dma_pcie import IN_FLIGHT, LINES, NUMBER_BITS, POINTER_BITS, LineWriter, Link
from hdl.pcie_tlp import (
    BOUNDARY_BYTES,
    CREDIT_BYTES,
    DATA_CREDIT_BITS,
    DWORD_BYTES,
    HEADER_CREDIT_BITS,
    REQUEST,
    Fmt,
    TlpBeat,
    Type,
    unpack,
)
from hdl.ring_layout import LINE_BYTES
from hdl.ring_writer import MemoryWrite
from sim.benches.packing import packing
from sim.benches.streams import Clocked

FUNCTION = 0x0300


def component() -> wiring.Component:
    return LineWriter()


class Block:
    """A hard block behind the writer: takes TLPs, checks them, grants credit, acknowledges, and drops what it has without Bus Master
    Enable.

    Attributes:
        landed: the lines that came, by number, each time that they came.
        lengths: lines of each TLP.
        dropped: TLPs that were not sent.
    """

    def __init__(
        self,
        dut: Any,
        *,
        code: int = 0,
        ready: float = 1.0,
        grant: float = 1.0,
        acknowledge: float = 1.0,
        headers: int = 8,
        data: int = 64,
    ):
        self.dut = dut
        self.clocked = Clocked(dut)
        dut.drop.value = dut.acknowledges.value = dut.acknowledged.value = 0
        self.source = self.clocked.source("i", MemoryWrite)
        self.sink = self.clocked.sink("o", TlpBeat, ready)
        self.code, self.grant, self.acknowledge = code, grant, acknowledge
        self.is_master, self._drops, self.owes = True, False, True
        self.headers, self.data = headers, data
        self.headers_used = self.data_used = 0
        self.landed: list[int] = []
        self.lengths: list[int] = []
        self.dropped = 0
        self.returns = 0
        self.lines: list[tuple[int, bytes]] = []
        self._number_of: dict[bytes, int] = {}
        self._beats: list[dict[str, Any]] = []
        self._seen = 0
        self._sent: list[tuple[int, int, list[int]]] = []
        self.set_link()
        self.clocked.watch(self._edge)

    def set_link(self, *, up: bool = True) -> None:
        """Tell the writer how the link is."""
        credit = {
            "headers": self.headers % (1 << HEADER_CREDIT_BITS),
            "data": self.data % (1 << DATA_CREDIT_BITS),
        }
        self.dut.link.value = packing(Link).pack(
            {
                "up": up,
                "bus_master": self.is_master,
                "max_payload": self.code,
                "function": FUNCTION,
                "credit": credit,
            }
        )

    def send(self, addresses: list[int]) -> None:
        """Have a line with bytes of its own written to each address."""
        items = []
        for address in addresses:
            data = len(self.lines).to_bytes(8, "little") + random.randbytes(LINE_BYTES - 8)
            self._number_of[data] = len(self.lines)
            self.lines.append((address, data))
            items.append({"address": address, "data": data})
        self.source.send(items)

    @property
    def is_done(self) -> bool:
        """Whether every line is acknowledged."""
        return self.source.idle and int(self.dut.settled.value) == len(self.lines) % (1 << POINTER_BITS)

    async def enable(self) -> None:
        """Set Bus Master Enable again, once the block has nothing left of what it had."""
        await self.clocked.until(lambda: not self._beats and not self._sent)
        begun = len(self.sink.received)
        await self.clocked.cycles(50)
        assert len(self.sink.received) == begun, "a TLP began without Bus Master Enable"
        self.is_master, self._drops = True, False

    def _edge(self, _cycle: int) -> None:
        self.returns += int(self.dut.returns.value)
        for transfer in self.sink.received[self._seen :]:
            self._beats.append(transfer.value)
            if transfer.value["last"]:
                self._take(self._beats)
                self._beats = []
        self._seen = len(self.sink.received)
        self.dut.acknowledges.value = 0
        if not self.is_master and random.random() < 0.1:
            self._drops = True
        if self._sent and (self._drops or random.random() < self.acknowledge):
            number, used, lines = self._sent.pop(0)
            if not self._drops:
                self.landed += lines
                self.dut.acknowledges.value = 1
                self.dut.acknowledged.value = number
                if random.random() < self.grant:
                    self.headers += 1
                    self.data += used
            else:
                # What it has dropped it has not used the credit of.
                self.dropped += 1
                self.headers_used -= 1
                self.data_used -= used
        elif self.owes and random.random() < 0.2:
            # All credit that is owed comes back at once.
            self.headers = max(self.headers, self.headers_used + 8)
            self.data = max(self.data, self.data_used + 64)
        self.set_link()

    def _take(self, beats: list[dict[str, Any]]) -> None:
        header = unpack(REQUEST, beats[0]["data"])
        assert [beat["header"] for beat in beats] == [1] + [0] * (len(beats) - 1)
        address = header["address_first"]
        assert header["type"] == Type.MEMORY
        if header["fmt"] == Fmt.FOUR_DWORDS_DATA:
            assert address, "an address below 4 GiB has three dwords"
            address = address << 32 | header["address_second"]
            assert beats[0]["count"] == 4
        else:
            assert header["fmt"] == Fmt.THREE_DWORDS_DATA
            assert beats[0]["count"] == 3
        assert (header["first_enable"], header["last_enable"], header["requester"]) == (0xF, 0xF, FUNCTION)
        assert all(beat["count"] == 4 for beat in beats[1:])
        data = b"".join(beat["data"].to_bytes(16, "little") for beat in beats[1:])
        assert len(data) == header["length"] * DWORD_BYTES
        assert len(data) <= 128 << self.code
        assert address // BOUNDARY_BYTES == (address + len(data) - 1) // BOUNDARY_BYTES
        used = len(data) // CREDIT_BYTES
        self.headers_used += 1
        self.data_used += used
        assert self.headers_used <= self.headers, "no credit for a header"
        assert self.data_used <= self.data, "no credit for data"
        numbers = []
        for at in range(0, len(data), LINE_BYTES):
            number = self._number_of[data[at : at + LINE_BYTES]]
            assert self.lines[number][0] == address + at
            numbers.append(number)
        self.lengths.append(len(numbers))
        self._sent.append((header["tag"], used, numbers))
        assert header["tag"] < 1 << NUMBER_BITS
        assert len(self._sent) <= IN_FLIGHT + 1


async def start(dut: Any, **options: Any) -> Block:
    """The writer behind its reset."""
    block = Block(dut, **options)
    await block.clocked.reset()
    return block


def some_addresses(count: int) -> list[int]:
    """Runs of lines that follow each other, below and above 4 GiB, many of them over a multiple of 4 KiB."""
    addresses: list[int] = []
    while len(addresses) < count:
        top = random.choice((0, 0, 1, 0x12345678))
        page = top << 32 | random.randrange(1, 1 << 20) * BOUNDARY_BYTES
        begin = page - LINE_BYTES * random.randint(-2, 12)
        addresses += [begin + LINE_BYTES * number for number in range(random.choice((1, 1, 2, 5, 24)))]
    # The last page below 4 GiB, and what is behind it.
    addresses += [(1 << 32) - 2 * LINE_BYTES + LINE_BYTES * number for number in range(4)]
    return addresses


@cocotb.test()
@cocotb.parametrize(code=[0, 1, 2, 3])
async def every_line_once(dut, code):
    """Any lines, a block that is slow with everything: each line arrives once, in order; runs go together up to max payload."""
    block = await start(dut, code=min(code, 2) if code < 3 else 3, ready=0.7, grant=0.8, acknowledge=0.3)
    block.send(some_addresses(1500))
    await block.clocked.until(lambda: block.is_done)
    assert block.landed == list(range(len(block.lines)))
    assert max(block.lengths) == min((128 << code) // LINE_BYTES, 8)
    assert block.returns == 0


@cocotb.test()
async def at_full_speed(dut):
    """A block that takes all: single lines take 6 cycles each, runs of 8 with their header 34."""
    block = await start(dut, code=2, headers=100, data=2000)
    block.source.activity = 1.0
    block.send([0x1000 * number for number in range(1, 33)])
    await block.clocked.until(lambda: block.is_done)
    assert block.clocked.cycle <= 32 * 6 + 20
    begun = block.clocked.cycle
    block.send([0x100000 + LINE_BYTES * number for number in range(128)])
    await block.clocked.until(lambda: block.is_done)
    assert block.clocked.cycle - begun <= 128 * 5 + 20
    assert block.landed == list(range(160))


@cocotb.test()
async def without_bus_master(dut):
    """Bus Master Enable taken away again and again: what the block dropped is sent again, nothing is lost or out of order."""
    block = await start(dut, code=1, ready=0.8, acknowledge=0.2)
    block.send(some_addresses(1500))
    while not block.is_done:
        assert block.clocked.cycle < 100_000, "it does not come to an end"
        await block.clocked.cycles(random.randint(1, 400))
        block.is_master = False
        for _ in range(random.randint(1, 300)):
            await block.clocked.cycles(1)
        await block.enable()
    assert block.dropped > 0
    assert block.returns > 1
    # Where what was dropped is sent again, so is what arrived and had not been acknowledged; never anything too early.
    expected = 0
    for number in block.landed:
        assert number <= expected
        expected = max(expected, number + 1)
    assert expected == len(block.lines)
    last = [number for at, number in enumerate(block.landed) if number not in block.landed[at + 1 :]]
    assert last == sorted(last)


@cocotb.test()
async def an_acknowledgement_that_comes_late(dut):
    """Numbers from before lines were sent again say nothing about those that have gone since."""
    block = await start(dut, acknowledge=0.0)
    block.send([0x10000 + 0x1000 * number for number in range(6)])
    await block.clocked.until(lambda: len(block.lengths) == 6)
    block.is_master = False
    await block.clocked.cycles(5)
    block._sent.clear()
    block.headers_used = block.data_used = 0
    await block.enable()
    await block.clocked.until(lambda: block.returns == 1)
    # The block had sent all of them after all, and says so only now.
    await block.clocked.cycles(2)
    dut.acknowledges.value, dut.acknowledged.value = 1, 5
    await block.clocked.cycles(20)
    assert int(dut.settled.value) == 0
    await block.clocked.until(lambda: len(block.lengths) == 12)
    block.acknowledge = 1.0
    await block.clocked.until(lambda: block.is_done)
    assert block.landed == list(range(6))


@cocotb.test()
async def waits_for_credit(dut):
    """Without credit nothing begins; what waits goes once there is some."""
    block = await start(dut, code=2, headers=2, data=64)
    block.grant, block.owes = 0.0, False
    block.send([0x10000 + 0x1000 * number for number in range(40)])
    await block.clocked.cycles(500)
    assert len(block.lengths) == 2
    block.owes = True
    await block.clocked.until(lambda: block.is_done)
    assert block.landed == list(range(40))


@cocotb.test()
async def drop(dut):
    """Lines of which no TLP has begun are forgotten, and the next ones go as if nothing had been."""
    block = await start(dut, code=1, ready=0.5, acknowledge=0.1)
    for _ in range(20):
        block.send(some_addresses(60))
        await block.clocked.cycles(random.randint(1, 250))
        # The source withdraws what it offers, as a card in reset does.
        block.source._waiting.clear()
        dut.drop.value = 1
        dut.i__valid.value = 0
        block.source._offered = False
        await block.clocked.cycles(1)
        dut.drop.value = 0
        taken = len(block.source.taken)
        assert taken <= len(block.lines)
        await block.clocked.cycles(random.randint(0, 3))
        if random.random() < 0.3:
            block.is_master = False
            await block.clocked.cycles(100)
            await block.enable()
    await block.clocked.until(lambda: int(dut.entered.value) == int(dut.settled.value))
    await block.clocked.cycles(200)
    before = len(block.landed)
    first = len(block.lines)
    block.send(some_addresses(LINES))
    await block.clocked.until(
        lambda: block.source.idle and int(dut.entered.value) == int(dut.settled.value) and len(block.landed) > before
    )
    await block.clocked.cycles(50)
    assert block.landed[before:] == list(range(first, len(block.lines)))
