"""Bench of the PCIe card's way to the host, hdl/pcie_card.py with hdl/pcie_ultrascale.py, against a model of AMD's block and of a host
by others (cocotbext-pcie): enumeration, BAR0, and frames in memory as the host's own reader finds them."""

import logging
import mmap
import os
import random
from typing import Any

import cocotb
import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotbext.axi import AxiStreamBus, MemoryRegion
from cocotbext.pcie.core import RootComplex
from cocotbext.pcie.core.dllp import FcType
from cocotbext.pcie.core.tlp import CplStatus, TlpType
from cocotbext.pcie.xilinx.us import UltraScalePlusPcieDevice
from cocotbext.pcie.xilinx.us.tlp import Tlp_us

from hdl.pcie_card import PcieCard
from hdl.pcie_map import (
    BAR_BYTES,
    BOARD_BYTE,
    BOARD_FIELDS,
    LINK_FIELDS,
    PCI_DEVICE,
    PCI_VENDOR,
    PCIE_VERSION,
    PROGRESS_FIELDS,
    WINDOW_BYTE,
    WINDOW_BYTES,
    Board,
)
from hdl.pcie_tlp import unpack
from hdl.pcie_ultrascale import UltraScale
from hdl.register_map import ADDRESS, IDENTITY, VERSION
from hdl.ring_layout import LINE_BYTES
from host.card.ring import Ring, ring_bytes
from sim.benches.ring_source import EVERY, MESSAGE_LINES, SUMS, RingSource
from sim.benches.streams import RESET_CYCLES

SOURCES = ("sim/benches/ring_source.py",)

FRAMES = int(os.environ.get("TICKGATE_PCIE_FRAMES", "1500"))
"""Frames of the longest test: the full run is a million (docs/simulation.md)."""

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


def component() -> wiring.Component:
    return Endpoint()


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


async def start(dut: Any, **options: Any) -> Host:
    """A host that knows the card."""
    # The test before may have left a request half sent, which the model's sinks would take for the beginning of the first one.
    dut.rst.value = 1
    clock = Clock(dut.clk, CLOCK_NS, unit="ns")
    clock.start()
    for _ in range(RESET_CYCLES):
        await RisingEdge(dut.clk)
    clock.stop()
    host = Host(dut, **options)
    await host.enumerate()
    return host


@cocotb.test()
async def enumeration(dut):
    """The card is found by its numbers, with one 64-bit BAR of 64 KiB, behind which the identity stands."""
    host = await start(dut)
    device = host.device
    assert (device.vendor_id, device.device_id) == (PCI_VENDOR, PCI_DEVICE)
    assert device.bar_size[0] == BAR_BYTES
    assert await host.read("identity") == IDENTITY
    assert await host.read("version") == VERSION
    board = unpack(BOARD_FIELDS, await host.read_board(Board.BOARD))
    assert board == {"version": PCIE_VERSION}
    assert await host.progress() == {"finished": 0, "stalled": 0, "session": 0}


@cocotb.test()
async def reads_of_all_sizes(dut):
    """Any bytes of the BAR give what its words do, also where a completion has to be divided; where nothing stands there is 0."""
    host = await start(dut)
    await host.write_board(Board.SESSION, 0x12345678)
    image = b"".join([await host.bar.read(at, 8) for at in range(0, 2 * BOARD_BYTE, 8)])
    assert image[:8] == IDENTITY.to_bytes(8, "little")
    assert image[BOARD_BYTE + 8 * Board.PROGRESS + 4 :][:4] == (0x12345678 << 1).to_bytes(4, "little")
    for _ in range(150):
        at = random.choice((random.randrange(64), BOARD_BYTE - 100 + random.randrange(150)))
        length = random.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 100, 128, 130, 200, 513))
        assert await host.bar.read(at, length) == image[at : at + length], (at, length)
    assert await host.bar.read(WINDOW_BYTE - 64, 128) == bytes(128)
    assert await host.bar.read(BAR_BYTES - 8, 8) == bytes(8)


@cocotb.test()
async def writes_of_all_sizes(dut):
    """A register is written by 8 bytes, or by 4 and 4, and by nothing less; bytes of the window in any pieces make packets."""
    host = await start(dut)
    session = BOARD_BYTE + 8 * Board.SESSION

    async def said() -> int:
        return (await host.progress())["session"]

    await host.bar.write(session, (0x1111).to_bytes(8, "little"))
    assert await said() == 0x1111
    await host.bar.write(session, (0x2222).to_bytes(4, "little"))
    assert await said() == 0x1111
    await host.bar.write(session + 4, bytes(4))
    assert await said() == 0x2222
    await host.bar.write(session, b"\x33")
    await host.bar.write(session + 4, bytes(2))
    assert await said() == 0x2222
    # Two registers and halves of those around them with one request.
    await host.bar.write(session - 4, bytes(4) + (0x4444).to_bytes(8, "little") + bytes(4))
    assert await said() == 0x4444

    packets = [random.randbytes(random.choice((1, 7, 8, 9, 60, 64, 100, 1500, 9000))) for _ in range(12)]
    stream = b"".join(
        len(packet).to_bytes(8, "little") + bytes(8) + packet + bytes(-len(packet) % 8) for packet in packets
    )
    sent = 0
    while sent < len(stream):
        taken = await host.read_board(Board.TAKEN)
        piece = stream[sent : sent + min(WINDOW_BYTES - (sent - taken), random.randrange(8, 2000) // 8 * 8)]
        at = 0
        while at < len(piece):
            place = (sent + at) % WINDOW_BYTES
            count = min(random.choice((1, 2, 3, 4, 8, 13, 64, 500)), len(piece) - at, WINDOW_BYTES - place)
            await host.bar.write(WINDOW_BYTE + place, piece[at : at + count])
            at += count
        sent += len(piece)
        await host.write_board(Board.WRITTEN, sent)
    while await host.read_board(Board.TAKEN) != sent:
        pass
    assert (await host.progress())["finished"] == len(packets)
    assert await host.read("packets") == sum(map(len, packets))
    words = np.frombuffer(b"".join(packet + bytes(-len(packet) % 8) for packet in packets), np.uint16).reshape(-1, 4)
    assert [await host.read(name) for name in SUMS] == words.sum(axis=0, dtype=np.uint64).tolist()


@cocotb.test()
async def what_is_no_memory_access_is_refused(dut):
    """Requests that want an answer get Unsupported Request, posted ones nothing; the next read is answered as ever."""
    host = await start(dut)
    for kind, data in (
        (TlpType.MEM_READ_LOCKED, b""),
        (TlpType.IO_READ, b""),
        (TlpType.IO_WRITE, bytes(4)),
        (TlpType.FETCH_ADD_64, bytes(8)),
        (TlpType.SWAP, bytes(4)),
        (TlpType.CAS_64, bytes(16)),
    ):
        request = Tlp_us()
        request.fmt_type = kind
        request.address = host.device.bar_addr[0]
        request.length = max(len(data) // 4, 1)
        request.first_be = 0xF
        request.last_be = 0xF if request.length > 1 else 0
        request.set_data(data)
        request.requester_id = host.complex.upstream_bridge.pcie_id
        request.completer_id = host.block.functions[0].pcie_id
        request.tag = await host.complex.alloc_tag()
        host.block.cq_queue.put_nowait(request)
        answer = await host.complex.recv_cpl(request.tag, 10_000, "ns")
        host.complex.release_tag(request.tag)
        assert answer is not None, kind
        assert answer.status == CplStatus.UR
        assert not answer.get_data()
        assert await host.read("identity") == IDENTITY


@cocotb.test()
@cocotb.parametrize(max_payload=[128, 256, 512], base=[LOW, HIGH])
async def frames_land_in_order(dut, max_payload, base):
    """Frames and messages of several laps, the host slow at random, the block and its credit scarce."""
    host = await start(dut, max_payload=max_payload, base=base, headers=8, data=80)
    host.block.rq_sink.set_pause_generator(random.random() < 0.3 for _ in iter(int, 1))
    lengths = host.watch_requests()
    await host.open(1)
    await host.take_until(FRAMES // 5)
    assert max(lengths) <= max_payload
    assert max(lengths) > 64, "no lines went together"
    assert (await host.progress())["session"] == 1


@cocotb.test()
async def a_long_run(dut):
    """As many frames as were asked for (TICKGATE_PCIE_FRAMES), with credit given at random."""
    host = await start(dut, max_payload=512, slots=256 if FRAMES < 100_000 else 8192)
    lengths = host.watch_requests()
    await host.open(2)
    await host.take_until(FRAMES)
    dut._log.info("%d frames, %d requests, %d bytes", host.frames, len(lengths), sum(lengths))
    # What the card has written and nobody has taken comes to an end with the credit.
    await Timer(20, "us")
    assert (await host.progress())["stalled"] == 1
    assert await host.read("frames") == int(host.ring.header[0]["frames_read"]) + host.slots


@cocotb.test()
async def without_bus_master(dut):
    """Bus Master Enable is taken away in the middle, again and again: no frame is lost."""
    host = await start(dut, max_payload=256, headers=16, data=160)
    await host.open(3)
    for turn in range(6):
        await host.take_until(host.frames + 60)
        await host.device.clear_master()
        await Timer(random.randint(0, 3000), "ns")
        await host.take()
        while (held := len(host.ring.poll(host.slots))) and turn % 2:
            await host.take(0)
            assert held <= host.slots
        await host.device.set_master()
    await host.take_until(host.frames + 300)
    link = await host.link()
    assert link["returns"] == 6
    assert link["dropped"] == 0


@cocotb.test()
async def function_level_reset(dut):
    """A reset in the middle ends the session: nothing is written any more, the host sees it, and the next session begins with frame 0."""
    host = await start(dut, max_payload=256)
    for session in (5, 6, 7):
        await host.open(session)
        await host.take_until(random.randint(1, 200))
        dut.cfg_flr_in_process.value = 1
        while not int(dut.cfg_flr_done.value) & 1:
            await RisingEdge(dut.clk)
        dut.cfg_flr_in_process.value = 0
        await Timer(2, "us")
        there = bytes(host.memory)
        assert await host.progress() == {"finished": 0, "stalled": 0, "session": 0}
        await Timer(2, "us")
        assert bytes(host.memory) == there
    assert (await host.link())["function_resets"] == 3
    await host.open(8)
    await host.take_until(600)


@cocotb.test()
async def link_down(dut):
    """The link goes down in the middle, of a request too: behind it the card is as new, but for what it counted."""
    host = await start(dut, max_payload=512)
    for turn in range(1, 5):
        await host.open(turn)
        await host.take_until(random.randint(1, 200))
        await Timer(4 * random.randint(1, 300), "ns")
        await host.pull()
        assert (await host.link())["link_downs"] == turn
        assert (await host.progress())["session"] == 0
    await host.open(9)
    await host.take_until(600)
