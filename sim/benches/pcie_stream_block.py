"""What AMD's 7 Series block does at its streams, by PG054, with a host behind it. TLPs are put together and taken apart by cocotbext-pcie."""

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.pcie.core.tlp import CplStatus, Tlp, TlpTc, TlpType
from cocotbext.pcie.core.utils import PcieId

from hdl.pcie_tlp import BOUNDARY_BYTES, CREDIT_BYTES, DWORD_BYTES
from sim.benches.pcie_driver import HIGH, Driver
from sim.benches.streams import RESET_CYCLES

CLOCK_NS = 16
"""62.5 MHz."""

AXI_BYTES = 8
FIRST_DWORD, BOTH_DWORDS = 0x0F, 0xFF
"""All that tkeep may be."""

DISCONTINUE = 0b1000
CREDIT_LIMIT = 0b101
BUS_MASTER = 1 << 2

CARD, HOST = PcieId(3, 5, 0), PcieId(0, 0, 0)

BAR_PLACES = 0xFE00_0000, 0x38_0000_0000
"""BAR0 below and above 4 GiB. The block looks at addresses alone, so requests go to either."""

MOST_READ, MOST_WRITTEN = 512, 256
"""Bytes of a request of the host."""

PATIENCE = 20_000
"""Cycles that an answer may take."""


class Block:
    """The block, its link and the host's memory, served at each rising edge.

    Attributes:
        busy: chance that the block takes nothing in a cycle.
        pauses: chance that it has nothing to give.
        voided: TLPs of the card that the link's end has cut off.
        lengths: bytes of each write that arrived.
        answers: completions that arrived.
        in_packet: a TLP of the card is under way.
    """

    def __init__(self, dut: Any, memory: Any, base: int, max_payload: int, headers: int, data: int):
        self.dut, self._memory, self._base, self._max_payload = dut, memory, base, max_payload
        self._granted = headers, data
        self.busy = self.pauses = 0.3
        self.lengths: list[int] = []
        self.answers: deque[Tlp] = deque()
        self.in_packet = False
        self.voided = 0
        self.is_master = True
        self._up = False
        self._fill_credit()
        # Towards the card: beats of (data, keep, last), the first of which is offered.
        self._down: deque[tuple[int, int, bool]] = deque()
        self._offered = self._inside = False
        # From the card.
        self._packet = bytearray()
        self._is_void = self._is_write = False
        self._waiting: tuple[int, ...] | None = None
        self._ready = False
        dut.m_axis_rx__tvalid.value = 0
        dut.s_axis_tx__tready.value = 0
        dut.m_axis_rx__tuser.value = random.getrandbits(22)
        # Fields that are none of the card's business hold anything.
        dut.cfg_dcommand.value = random.getrandbits(16) & ~0xE0 | (max_payload // 128).bit_length() - 1 << 5
        dut.cfg_bus_number.value, dut.cfg_device_number.value = CARD.bus, CARD.device
        dut.cfg_function_number.value = CARD.function
        self.set_master(True)
        dut.user_lnk_up.value = 0

    def set_master(self, enable: bool) -> None:
        """Bus Master Enable."""
        self.is_master = enable
        self.dut.cfg_command.value = random.getrandbits(16) & ~BUS_MASTER | BUS_MASTER * enable

    def set_link(self, up: bool) -> None:
        """The link goes up, or down: then what is under way is void, and a TLP for the card is filled up with anything to its end."""
        self._up = up
        self.dut.user_lnk_up.value = up
        if up:
            self._fill_credit()
            return
        self._is_void |= self.in_packet
        rest = []
        if self._inside or self._offered:
            while self._down:
                rest.append(self._down.popleft())
                if rest[-1][2]:
                    break
        kept = 1 if self._offered else 0
        self._down = deque(rest[:kept] + [(random.getrandbits(64), keep, last) for _, keep, last in rest[kept:]])

    def send(self, tlp: Tlp) -> None:
        """Hand a TLP to the card."""
        assert self._up
        raw = bytes(tlp.pack())
        dwords = [int.from_bytes(raw[at : at + DWORD_BYTES], "big") for at in range(0, len(raw), DWORD_BYTES)]
        for at in range(0, len(dwords), 2):
            pair = dwords[at : at + 2]
            data = pair[0] | (pair[1] if len(pair) == 2 else random.getrandbits(32)) << 32
            self._down.append((data, BOTH_DWORDS if len(pair) == 2 else FIRST_DWORD, at + 2 >= len(dwords)))

    async def run(self) -> None:
        """Serve the streams for ever."""
        edge = RisingEdge(self.dut.clk)
        while True:
            await edge
            self._edge()

    def _edge(self) -> None:
        dut = self.dut
        assert int(dut.fc_sel.value) == CREDIT_LIMIT
        # Credit comes back a while after it was used.
        for kind in range(2):
            if self._limits[kind] is not None and random.random() < 0.2:
                back = random.randint(0, self._owed[kind])
                self._owed[kind] -= back
                self._limits[kind] += back
        dut.fc_ph.value = (self._limits[0] or 0) % 256
        dut.fc_pd.value = (self._limits[1] or 0) % 4096

        if self._offered and int(dut.m_axis_rx__tready.value):
            self._inside = not self._down.popleft()[2]
            self._offered = False
        if not self._offered:
            self._offered = bool(self._down) and random.random() >= self.pauses
            dut.m_axis_rx__tvalid.value = self._offered
            if self._offered:
                data, keep, last = self._down[0]
                dut.m_axis_rx__tdata.value, dut.m_axis_rx__tkeep.value = data, keep
                dut.m_axis_rx__tlast.value = last

        if int(dut.s_axis_tx__tvalid.value):
            beat = tuple(int(getattr(dut, f"s_axis_tx__{name}").value) for name in ("tdata", "tkeep", "tlast", "tuser"))
            assert self._waiting is None or beat == self._waiting, "a beat changed while it waited"
            self._waiting = None if self._ready or not self._up else beat
            if self._ready:
                self._take(*beat)
        else:
            assert self._waiting is None or not self._up, "a beat was withdrawn"
            assert not (self.in_packet and self._is_write and not self._is_void), "a write has a gap"
            self._waiting = None
        self._ready = random.random() >= self.busy
        dut.s_axis_tx__tready.value = self._ready

    def _take(self, data: int, keep: int, last: int, user: int) -> None:
        assert keep == BOTH_DWORDS or (keep == FIRST_DWORD and last)
        assert user in (0, DISCONTINUE)
        if not self.in_packet:
            self._packet.clear()
            self._is_void = not self._up
            self._is_write = data >> 30 & 1 and not data >> 24 & 0x1F
        for n in range(keep.bit_count() // DWORD_BYTES):
            self._packet += (data >> 32 * n & 0xFFFF_FFFF).to_bytes(DWORD_BYTES, "big")
        self.in_packet = not last
        assert user != DISCONTINUE or (self._is_void and last), "what was whole is given up"
        if not last:
            return
        if self._is_void:
            self.voided += 1
            return
        tlp = Tlp.unpack(bytes(self._packet))
        if tlp.is_completion():
            assert tlp.completer_id == CARD
            self.answers.append(tlp)
        else:
            self._write(tlp)

    def _write(self, tlp: Tlp) -> None:
        length = DWORD_BYTES * tlp.length
        assert tlp.fmt_type in (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64)
        assert (tlp.fmt_type is TlpType.MEM_WRITE_64) == (tlp.address >= 1 << 32)
        assert tlp.address % BOUNDARY_BYTES + length <= BOUNDARY_BYTES, "a request crosses 4 KiB"
        assert len(tlp.data) == length <= self._max_payload
        assert (tlp.first_be, tlp.last_be) == (0xF, 0xF)
        assert tlp.requester_id == CARD
        for kind, used in enumerate((1, length // CREDIT_BYTES)):
            self._used[kind] += used
            self._owed[kind] += used
            assert self._limits[kind] is None or self._used[kind] <= self._limits[kind], "written without credit"
        at = tlp.address - self._base
        assert 0 <= at <= len(self._memory) - length, "a write outside the ring"
        # A line's last word is written behind the others: a frame's generation is there.
        self._memory[at : at + length] = tlp.data
        self.lengths.append(length)

    def _fill_credit(self) -> None:
        """As much as is granted when the link comes up; 0: without limit."""
        self._limits: list[Any] = [granted or None for granted in self._granted]
        self._used, self._owed = [0, 0], [0, 0]


class Bar:
    """BAR0 by requests of the host, whose addresses have 32 or 64 bits at random."""

    def __init__(self, block: Block):
        self._block = block
        self._tag = 0

    def request(self, kind: str, address: int, length: int, data: bytes = b"") -> Tlp:
        """A request of the kind ``MEM_READ`` and the like, for bytes of the BAR."""
        base = random.choice(BAR_PLACES)
        tlp = Tlp()
        tlp.fmt_type = TlpType[f"{kind}_64" if base >= 1 << 32 else kind]
        if data:
            tlp.set_addr_be_data(base + address, data)
        else:
            tlp.set_addr_be(base + address, length)
        self._tag = (self._tag + 1) % 32
        tlp.tag, tlp.requester_id, tlp.tc = self._tag, HOST, TlpTc(random.randrange(8))
        return tlp

    async def answer(self, tlp: Tlp) -> Tlp:
        """The next completion, which must be one for a request."""
        for _ in range(PATIENCE):
            if self._block.answers:
                found = self._block.answers.popleft()
                assert (found.tag, found.requester_id, found.tc) == (tlp.tag, HOST, tlp.tc)
                return found
            await RisingEdge(self._block.dut.clk)
        raise AssertionError(f"no answer in {PATIENCE} cycles to {tlp}")

    async def read(self, at: int, length: int) -> bytes:
        """Bytes of the BAR."""
        found = b""
        for address, count in _pieces(at, length, MOST_READ) or [(at, 0)]:
            tlp = self.request("MEM_READ", address, count)
            self._block.send(tlp)
            found += await self._completed(tlp, address, count)
        return found

    async def _completed(self, tlp: Tlp, address: int, count: int) -> bytes:
        """What all completions of a read bring."""
        found = b""
        while True:
            answer = await self.answer(tlp)
            assert answer.status == CplStatus.SC
            assert answer.byte_count == max(count, 1) - len(found)
            assert answer.lower_address == (address + len(found)) % 128 or not count
            assert len(answer.data) == DWORD_BYTES * answer.length
            first = (address + len(found)) % DWORD_BYTES
            found += answer.data[first : first + answer.byte_count]
            if not count:
                return b""
            if len(found) == count:
                return found

    async def write(self, at: int, data: bytes) -> None:
        """Write bytes of the BAR; returns before they are there."""
        for address, count in _pieces(at, len(data), MOST_WRITTEN):
            self._block.send(self.request("MEM_WRITE", address, count, data[address - at : address - at + count]))


class Slot(Driver):
    """The card in the block's slot, and its driver."""

    def __init__(self, dut: Any, base: int, slots: int, max_payload: int, headers: int, data: int):
        super().__init__(base, slots)
        self.dut = dut
        self.block = Block(dut, self.memory, base, max_payload, headers, data)
        self.bar: Bar = Bar(self.block)

    async def cycles(self, count: int) -> None:
        """Let cycles pass."""
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    async def pull(self, cycles: int) -> None:
        """Have the link go down for some cycles and come up again."""
        self.block.set_link(False)
        await self.cycles(cycles)
        self.block.set_link(True)


def _pieces(at: int, length: int, most: int) -> Sequence[tuple[int, int]]:
    """Requests for some bytes: none crosses a multiple of 4 KiB."""
    found = []
    while length:
        count = min(length, random.randint(most // 2, most), BOUNDARY_BYTES - at % BOUNDARY_BYTES)
        found.append((at, count))
        at, length = at + count, length - count
    return found


async def insert(
    dut: Any, *, base: int = HIGH, slots: int = 256, max_payload: int = 512, headers: int = 8, data: int = 80
) -> Slot:
    """The card in a slot whose link has just come up; ``headers`` and ``data`` are the credits, 0 without limit."""
    dut.rst.value = 1
    slot = Slot(dut, base, slots, max_payload, headers, data)
    Clock(dut.clk, CLOCK_NS, unit="ns").start()
    await slot.cycles(RESET_CYCLES)
    dut.rst.value = 0
    cocotb.start_soon(slot.block.run())
    await slot.cycles(3)
    slot.block.set_link(True)
    await slot.cycles(10)
    return slot
