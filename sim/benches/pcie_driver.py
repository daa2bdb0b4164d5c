"""What a host's driver does with the PCIe card: registers by BAR0, and frames in memory as the host's own reader finds them."""

import mmap
import random
from typing import Any

import numpy as np
from cocotb.triggers import Timer

from hdl.pcie_map import BOARD_BYTE, LINK_FIELDS, PROGRESS_FIELDS, WINDOW_BYTE, WINDOW_BYTES, Board
from hdl.pcie_tlp import unpack
from hdl.register_map import ADDRESS
from hdl.ring_layout import LINE_BYTES
from host.card.ring import Ring, ring_bytes
from sim.benches.ring_source import EVERY, MESSAGE_LINES, SUMS

PAYLOAD_BYTES = 1 << 15

LOW, HIGH = 0x9000_0000, 0x12_3456_0000
"""Where the ring lies in bus addresses: below and above 4 GiB. Both so that its parts begin within a page and cross several."""


class Driver:
    """A ring with its reader, and the card's registers.

    Attributes:
        bar: BAR0, with ``read(address, length)`` and ``write(address, data)``.
        memory: where the ring is, from the bus address ``base`` on.
        ring: the ring in memory, seen by the host's reader.
        frames: so many have been taken.
    """

    bar: Any

    def __init__(self, base: int, slots: int) -> None:
        self.base, self.slots = base, slots
        self.memory = mmap.mmap(-1, -(-ring_bytes(slots, PAYLOAD_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE)
        self.frames = self.messages = 0

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

    async def check_reads(self, image: bytes) -> None:
        """Read any bytes of the registers, of the card and of the board, and see that they are those of ``image``, in which the BAR begins."""
        for _ in range(150):
            at = random.choice((random.randrange(64), BOARD_BYTE - 100 + random.randrange(150)))
            length = random.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 100, 128, 130, 200, 513))
            assert await self.bar.read(at, length) == image[at : at + length], (at, length)

    async def put(self, packets: list[bytes]) -> None:
        """Put packets into the window, in pieces of any size, and see that the card has read them. Before that it has had none."""
        stream = b"".join(
            len(packet).to_bytes(8, "little") + bytes(8) + packet + bytes(-len(packet) % 8) for packet in packets
        )
        sent = 0
        while sent < len(stream):
            taken = await self.read_board(Board.TAKEN)
            piece = stream[sent : sent + min(WINDOW_BYTES - (sent - taken), random.randrange(8, 2000) // 8 * 8)]
            at = 0
            while at < len(piece):
                place = (sent + at) % WINDOW_BYTES
                count = min(random.choice((1, 2, 3, 4, 8, 13, 64, 500)), len(piece) - at, WINDOW_BYTES - place)
                await self.bar.write(WINDOW_BYTE + place, piece[at : at + count])
                at += count
            sent += len(piece)
            await self.write_board(Board.WRITTEN, sent)
        while await self.read_board(Board.TAKEN) != sent:
            pass
        assert (await self.progress())["finished"] == len(packets)
        assert await self.read("packets") == sum(map(len, packets))
        words = np.frombuffer(b"".join(packet + bytes(-len(packet) % 8) for packet in packets), np.uint16)
        sums = words.reshape(-1, len(SUMS)).sum(axis=0, dtype=np.uint64)
        assert [await self.read(name) for name in SUMS] == sums.tolist()
