"""Bench of the PCIe card's way to AMD's 7 Series block, hdl/pcie_card.py with hdl/pcie_series7.py, against TLPs by others (cocotbext-pcie) at
the block's documented streams: BAR0, and frames in memory as the host's own reader finds them."""

import random

import cocotb
from amaranth.lib import wiring
from cocotbext.pcie.core.tlp import CplStatus, Tlp

from hdl.pcie_map import BAR_BYTES, BOARD_BYTE, PCIE_VERSION, WINDOW_BYTE, Board
from hdl.pcie_series7 import Series7
from hdl.register_map import IDENTITY, VERSION
from sim.benches.pcie_driver import HIGH, LOW
from sim.benches.pcie_endpoint import Endpoint
from sim.benches.pcie_stream_block import CARD, HOST, insert

SOURCES = ("sim/benches/pcie_endpoint.py", "sim/benches/ring_source.py")


def component() -> wiring.Component:
    return Endpoint(Series7())


@cocotb.test()
async def registers_of_all_sizes(dut):
    """Any bytes of the BAR, asked for with headers of three and of four dwords, give what its words do."""
    slot = await insert(dut)
    assert await slot.read("identity") == IDENTITY
    assert await slot.read("version") == VERSION
    assert await slot.read_board(Board.BOARD) == PCIE_VERSION
    await slot.write_board(Board.SESSION, 0x12345678)
    image = await slot.bar.read(0, 2 * BOARD_BYTE)
    assert image[:8] == IDENTITY.to_bytes(8, "little")
    assert image[BOARD_BYTE + 8 * Board.PROGRESS + 4 :][:4] == (0x12345678 << 1).to_bytes(4, "little")
    await slot.check_reads(image)
    assert await slot.bar.read(BAR_BYTES - 8, 8) == bytes(8)


@cocotb.test()
async def packets_by_the_window(dut):
    """Bytes of the window, written in any pieces and with either header, make packets."""
    slot = await insert(dut)
    await slot.put([random.randbytes(random.choice((1, 7, 8, 9, 60, 64, 100, 1500, 9000))) for _ in range(12)])


@cocotb.test()
async def what_is_no_memory_access(dut):
    """Requests that want an answer get Unsupported Request; poisoned writes and completions that nobody waits for are passed over."""
    slot = await insert(dut)
    session = BOARD_BYTE + 8 * Board.SESSION
    for kind, count in (("MEM_READ_LOCKED", 0), ("FETCH_ADD", 8), ("SWAP", 4), ("CAS", 16)):
        request = slot.bar.request(kind, session, 8, random.randbytes(count))
        slot.block.send(request)
        answer = await slot.bar.answer(request)
        assert answer.status == CplStatus.UR
        assert not answer.data
        poisoned = slot.bar.request("MEM_WRITE", session, 8, random.randbytes(8))
        poisoned.ep = True
        slot.block.send(poisoned)
        stray = Tlp.create_completion_data_for_tlp(slot.bar.request("MEM_READ", 0, 8), HOST)
        stray.requester_id = CARD
        stray.set_data(random.randbytes(4 * random.randint(1, 9)))
        slot.block.send(
            random.choice((stray, Tlp.create_ur_completion_for_tlp(slot.bar.request("MEM_READ", 0, 8), HOST)))
        )
        assert (await slot.progress())["session"] == 0
        assert await slot.read("identity") == IDENTITY
    assert not slot.block.answers


@cocotb.test()
@cocotb.parametrize(max_payload=[128, 256, 512], base=[LOW, HIGH])
async def frames_land_in_order(dut, max_payload, base):
    """Frames and messages of several laps, the block slow at random, its credit scarce; registers are read meanwhile, and none of it comes
    into the middle of a write."""
    slot = await insert(dut, max_payload=max_payload, base=base)
    await slot.open(1)
    while slot.frames < 300:
        before = slot.frames
        await slot.take_until(before + 30)
        assert await slot.read("identity") == IDENTITY
        assert (await slot.progress())["session"] == 1
    assert max(slot.block.lengths) > 64, "no lines went together"


@cocotb.test()
async def without_limits(dut):
    """Credit without limit, a block that is always ready: writes are as long as they may be, and have no gap."""
    slot = await insert(dut, headers=0, data=0)
    slot.block.busy = 0
    await slot.open(1)
    await slot.take_until(1000)
    assert max(slot.block.lengths) > 64


@cocotb.test()
async def without_bus_master(dut):
    """Bus Master Enable is taken away again and again: no write begins any more, and no frame is lost."""
    slot = await insert(dut, max_payload=256)
    await slot.open(3)
    for _ in range(6):
        await slot.take_until(slot.frames + 40)
        slot.block.set_master(False)
        # A write that has begun is finished.
        await slot.cycles(200)
        there = len(slot.block.lengths)
        assert (await slot.progress())["session"] == 3
        await slot.cycles(random.randint(0, 200))
        assert len(slot.block.lengths) == there
        slot.block.set_master(True)
    await slot.take_until(slot.frames + 200)
    link = await slot.link()
    assert (link["returns"], link["dropped"]) == (6, 0)


@cocotb.test()
async def link_down(dut):
    """The link goes down in the middle of a TLP, of the card's or of the host's or of both, for a cycle or for long, and the block takes all or nothing
    meanwhile: behind it the card is as new, and nothing of before is taken for something else."""
    slot = await insert(dut)
    block = slot.block
    turns = 24
    for turn in range(turns):
        await slot.open(turn + 1)
        await slot.take_until(random.randint(1, 60))
        if turn % 3:
            await slot.bar.write(WINDOW_BYTE, random.randbytes(1024))
            await slot.cycles(random.randint(1, 60))
        if turn % 2:
            while not block.in_packet:
                await slot.cycles(1)
        block.busy = random.choice((0.0, 0.3, 1.0))
        await slot.pull(random.choice((1, 2, 3, 50, 300)))
        await slot.cycles(random.randint(0, 30))
        block.busy = 0.3
        block.answers.clear()
        link = await slot.link()
        assert link["link_downs"] == turn + 1
        assert await slot.progress() == {"finished": 0, "stalled": 0, "session": 0}
    assert block.voided >= turns // 3, "no TLP was cut off"
    await slot.open(turns + 1)
    await slot.take_until(300)
