"""A host with the PCIe card in its slot, by cocotbext-pcie: the card's way to the block, the block, the link and the host's driver."""

import logging
import mmap
import random
from typing import Any

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from cocotb.triggers import Timer
from cocotbext.axi import AxiStreamBus, MemoryRegion
from cocotbext.pcie.core import RootComplex
from cocotbext.pcie.core.dllp import FcType
from cocotbext.pcie.core.tlp import TlpType
from cocotbext.pcie.xilinx.us import UltraScalePlusPcieDevice

from hdl.pcie_card import PcieCard
from hdl.pcie_map import (
    BAR_BYTES,
    BOARD_BYTE,
    LINK_FIELDS,
    PCI_DEVICE,
    PCI_VENDOR,
    PROGRESS_FIELDS,
    Board,
)
from hdl.pcie_tlp import unpack
from hdl.pcie_ultrascale import UltraScale
from hdl.register_map import ADDRESS
from hdl.ring_layout import LINE_BYTES
from host.card.ring import Ring, ring_bytes
from sim.benches.ring_source import EVERY, MESSAGE_LINES, RingSource

CLOCK_NS = 4
"""250 MHz: a link of Gen3 x4."""

PAYLOAD_BYTES = 1 << 15

PAYLOAD_CODE = {128: 0, 256: 1, 512: 2}
"""Codes of Max_Payload_Size."""
LOW, HIGH = 0x9000_0000, 0x12_3456_0000
"""Where the ring lies in bus addresses: below and above 4 GiB. Both so that its parts begin within a page and cross several."""

BLOCK_INPUTS = (
    "pcie_rq_seq_num0",
    "pcie_rq_seq_num_vld0",
    "user_lnk_up",
    "cfg_function_status",
    "cfg_max_payload",
    "cfg_bus_number",
    "cfg_fc_ph",
    "cfg_fc_pd",
)


class Endpoint(wiring.Component):
    """The card's way to the block, with frames from a source."""

    def __init__(self) -> None:
        self._card = PcieCard(RingSource())
        self._adapter = UltraScale()
        inside = self._card.signature.members
        ports = {name: member for name, member in self._adapter.signature.members.items() if name not in inside}
        # The slot's reset goes to the block alone, which says so.
        super().__init__(ports | {"sys_reset": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.card = card = self._card
        m.submodules.adapter = adapter = self._adapter
        for name, member in card.signature.members.items():
            _join(m, member, getattr(card, name), getattr(adapter, name))
        for name, member in adapter.signature.members.items():
            if name in self.signature.members:
                outside = getattr(self, name)
                _join(m, member, getattr(adapter, name), wiring.flipped(outside) if member.is_signature else outside)
        return m


def _join(m: Module, member: wiring.Member, one: Any, other: Any) -> None:
    """Connect a member of an interface to the same one of another."""
    if member.is_signature:
        wiring.connect(m, one, other)
    else:
        m.d.comb += one.eq(other) if member.flow == In else other.eq(one)


class Host:
    """A host with the card in its only slot.

    Attributes:
        ring: the ring in its memory, seen by the host's reader.
        next: number of the frame that comes next.
        device: the card as the host's PCI code has it, once it was enumerated.
    """

    def __init__(
        self,
        dut: Any,
        *,
        max_payload: int = 512,
        base: int = HIGH,
        headers: int = 64,
        data: int = 1024,
        slots: int = 256,
    ):
        self.dut = dut
        logging.getLogger("cocotb.pcie").setLevel(logging.ERROR)
        logging.getLogger("cocotb.bench").setLevel(logging.ERROR)
        dut.cfg_flr_in_process.value = 0
        dut.sys_reset.value = 1
        self.complex = RootComplex()
        self.block = UltraScalePlusPcieDevice(
            pcie_generation=3,
            pcie_link_width=4,
            user_clk_frequency=250e6,
            max_payload_size=512,
            rq_bus=AxiStreamBus.from_prefix(dut, "s_axis_rq", bus_separator="__"),
            cc_bus=AxiStreamBus.from_prefix(dut, "s_axis_cc", bus_separator="__"),
            cq_bus=AxiStreamBus.from_prefix(dut, "m_axis_cq", bus_separator="__"),
            pcie_cq_np_req=dut.pcie_cq_np_req,
            cfg_fc_sel=dut.cfg_fc_sel,
            user_clk=dut.clk,
            user_reset=dut.rst,
            sys_reset=dut.sys_reset,
            **{name: getattr(dut, name) for name in BLOCK_INPUTS},
        )
        for part in (self.complex, self.block, *self.block.functions):
            part.log.setLevel(logging.ERROR)
        for stream in (self.block.rq_sink, self.block.cc_sink, self.block.cq_source):
            stream.log.setLevel(logging.ERROR)
        function = self.block.functions[0]
        function.vendor_id, function.device_id = PCI_VENDOR, PCI_DEVICE
        function.configure_bar(0, BAR_BYTES, ext=True, prefetch=False)
        self.port = self.complex.make_port()
        credit = self.port.downstream_port.fc_state[0]
        for kind, granted in ((credit.ph, headers), (credit.pd, data)):
            kind.rx_initial_allocation = kind.rx_credits_allocated = granted
        self.port.connect(self.block)
        self.complex.max_payload_size = PAYLOAD_CODE[max_payload]
        self.slots = slots
        self.memory = mmap.mmap(-1, -(-ring_bytes(slots, PAYLOAD_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.base = base
        self.complex.mem_address_space.register_region(MemoryRegion(len(self.memory), self.memory), base)
        self.device: Any = None
        self.bar: Any = None

    async def enumerate(self) -> None:
        """What a host's firmware and the card's driver do before the card is used."""
        await Timer(1, "us")
        await self.complex.enumerate()
        self.device = self.complex.find_device(self.block.functions[0].pcie_id)
        await self.device.enable_device()
        await self.device.set_master()
        self.bar = self.device.bar_window[0]

    async def read(self, name: str) -> int:
        """A register of the card by its name."""
        return int.from_bytes(await self.bar.read(8 * ADDRESS[name], 8), "little")

    async def write(self, name: str, value: int) -> None:
        """Write a register of the card."""
        await self.bar.write(8 * ADDRESS[name], value.to_bytes(8, "little"))

    async def read_board(self, register: Board) -> int:
        """A register of the board."""
        return int.from_bytes(await self.bar.read(BOARD_BYTE + 8 * register, 8), "little")

    async def write_board(self, register: Board, value: int) -> None:
        """Write a register of the board."""
        await self.bar.write(BOARD_BYTE + 8 * register, value.to_bytes(8, "little"))

    async def progress(self) -> dict[str, int]:
        """What PROGRESS says."""
        return unpack(PROGRESS_FIELDS, await self.read_board(Board.PROGRESS))

    async def link(self) -> dict[str, int]:
        """What LINK says."""
        return unpack(LINK_FIELDS, await self.read_board(Board.LINK))

    async def open(self, session: int) -> None:
        """Begin a session with a new ring: frames come from now on."""
        self.memory[:] = bytes(len(self.memory))
        self.ring = Ring.within(self.memory, self.slots, PAYLOAD_BYTES)
        self.frames = self.messages = 0
        await self.write_board(Board.SESSION, session)
        header = self.ring.header[0]
        await self.write("frame_slots_log2", self.slots.bit_length() - 1)
        await self.write("payload_base", self.base + int(header["payload_offset"]))
        await self.write("payload_bytes_log2", PAYLOAD_BYTES.bit_length() - 1)
        await self.write("frames_base", self.base + int(header["frames_offset"]))

    def watch_requests(self) -> list[int]:
        """Bytes of each request of the card, from now on. Fails where one crosses a page."""
        lengths: list[int] = []

        async def look(tlp: Any) -> None:
            length = 4 * tlp.length
            assert tlp.address % 4096 + length <= 4096, "a request crosses 4 KiB"
            assert (tlp.fmt_type is TlpType.MEM_WRITE_64) == (tlp.address >= 1 << 32)
            lengths.append(length)
            await self.complex.handle_mem_write_tlp(tlp)

        for kind in (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64):
            self.complex.register_rx_tlp_handler(kind, look)
        return lengths

    async def pull(self) -> None:
        """Have the link go down and come up again. The model leaves three things of that to us: a request that was cut off is void, credit
        is granted anew, and the card has forgotten its addresses."""
        self.dut.sys_reset.value = 0
        await Timer(200, "ns")
        sink = self.block.rq_sink
        if sink.active:
            # As a block does with what a reset cuts off: discontinued.
            sink.sample_obj = sink._transaction_obj(tlast=1, tkeep=1, tuser=1 << sink.discontinue_offset)
            sink.sample_sync.set()
        for port in (self.port.downstream_port, self.block.upstream_port):
            port.fc_state[0].reset()
            port.fc_state[0].active = True
            port.fc_initialized, port.fc_init_vc, port.fc_init_type = False, 0, FcType.P
            port.send_fc.set()
        await Timer(1, "us")
        self.dut.sys_reset.value = 1
        await Timer(1, "us")

    async def take(self, share: float = 0.7) -> None:
        """Look for frames, check some of them, and give their room back."""
        there = self.ring.poll(self.slots)
        if random.random() < share:
            there = there[: random.randint(0, len(there))]
        count = len(there)
        numbers = np.arange(self.frames, self.frames + count, dtype=np.uint64)
        assert (there["timestamp"] == numbers).all(), "frames out of order"
        for frame in there[numbers % EVERY == 0]:
            words = np.frombuffer(self.ring.message(frame), np.uint64)
            first = self.messages * MESSAGE_LINES * LINE_BYTES // 8
            assert (words == np.arange(first, first + MESSAGE_LINES * LINE_BYTES // 8)).all(), (
                "a message that is not there"
            )
            self.messages += 1
        self.frames += count
        self.ring.release(count)
        if count:
            await self.write("frames_read", int(self.ring.header[0]["frames_read"]))
            await self.write("payload_read", int(self.ring.header[0]["payload_read"]))

    async def take_until(self, frames: int, share: float = 0.7) -> None:
        """Take frames until there were so many. Fails where none comes for long."""
        patience = 0
        while self.frames < frames:
            before = self.frames
            await self.take(share)
            await Timer(random.randint(1, 4000), "ns")
            patience = 0 if self.frames > before else patience + 1
            assert patience < 1000, f"no frame behind {self.frames}"
