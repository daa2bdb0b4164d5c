"""Bench of the PCIe card's way to the host, hdl/pcie_card.py with hdl/pcie_ultrascale.py, against a model of AMD's block and of a host
by others (cocotbext-pcie): enumeration, BAR0, and frames in memory as the host's own reader finds them."""

import os
import random
from typing import Any

import cocotb
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer
from cocotbext.pcie.core.tlp import CplStatus, TlpType
from cocotbext.pcie.xilinx.us.tlp import Tlp_us

from hdl.pcie_map import (
    BAR_BYTES,
    BOARD_BYTE,
    BOARD_FIELDS,
    PCI_DEVICE,
    PCI_VENDOR,
    PCIE_VERSION,
    WINDOW_BYTE,
    Board,
)
from hdl.pcie_tlp import unpack
from hdl.pcie_ultrascale import UltraScale
from hdl.register_map import IDENTITY, VERSION
from sim.benches.pcie_driver import HIGH, LOW
from sim.benches.pcie_endpoint import Endpoint
from sim.benches.pcie_host import CLOCK_NS, Host
from sim.benches.streams import RESET_CYCLES

SOURCES = ("sim/benches/pcie_endpoint.py", "sim/benches/ring_source.py")

FRAMES = int(os.environ.get("TICKGATE_PCIE_FRAMES", "1500"))
"""Frames of the longest test: the full run is a million (docs/pcie.md)."""


def component() -> wiring.Component:
    # The slot's reset goes to the block alone, which says so.
    return Endpoint(UltraScale(), sys_reset=In(1))


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
    await host.check_reads(image)
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

    await host.put([random.randbytes(random.choice((1, 7, 8, 9, 60, 64, 100, 1500, 9000))) for _ in range(12)])


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
    # So few that it is frames whose credit is used up first, not messages.
    host = await start(dut, max_payload=512, slots=512)
    lengths = host.watch_requests()
    await host.open(2)
    await host.take_until(FRAMES)
    dut._log.info("%d frames, %d requests, %d bytes", host.frames, len(lengths), sum(lengths))
    # What the card has written and nobody has taken comes to an end with the credit: a slot in some 30 ns.
    await Timer(20_000 + 60 * host.slots, "ns")
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
