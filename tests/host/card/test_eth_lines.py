"""Lines that come over a real interface into the ring, some of them lost: each frame is as the card wrote it, or a gap."""

import random
import socket
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from hdl.ethernet_frame import ETHERTYPE, MOST_LINES, lines_frame
from hdl.frame import FRAME_DTYPE, NO_FLOW, Kind
from hdl.ring_layout import LINE_BYTES
from host.card import eth_lines
from host.card.packet_ring import Interface, PacketRing
from host.card.ring import Ring
from sim.veth import NoVeth, VethPair

SESSION = 0x1234_5678
FRAME_SLOTS, PAYLOAD_BYTES = 16, 1 << 15


@pytest.fixture(scope="module")
def pair() -> Iterator[VethPair]:
    try:
        pair = VethPair()
    except NoVeth as reason:
        pytest.skip(str(reason))
    with pair:
        yield pair


class Written(NamedTuple):
    """A frame as a card wrote it: its number and bytes, its message, and the numbers of the lines that it needs."""

    frame: np.void
    message: bytes
    needs: range
    line: int


class Writer:
    """Writes messages as docs/ring.md has it, as far as there is credit; ``lines`` are all that was written, ``written`` the frames."""

    def __init__(self, ring: Ring) -> None:
        header = ring.header[0]
        self._ring = ring
        self._first = int(header["frames_offset"]) // LINE_BYTES, int(header["payload_offset"]) // LINE_BYTES
        self._position = 0
        self.lines: list[tuple[int, bytes]] = []
        self.written: list[Written] = []

    def write(self, message: bytes, frames: int) -> bool:
        """A message with its frames; False, and nothing is written, where there is no credit for it."""
        length = -(-len(message) // LINE_BYTES) * LINE_BYTES
        begin = self._position
        if begin % PAYLOAD_BYTES + length > PAYLOAD_BYTES:
            begin += PAYLOAD_BYTES - begin % PAYLOAD_BYTES
        number = len(self.written)
        words = self._ring.header[0]
        if begin + length - int(words["payload_read"]) > PAYLOAD_BYTES:
            return False
        if number + frames - 1 - int(words["frames_read"]) >= FRAME_SLOTS:
            return False
        self._position = begin + length
        needs = range(len(self.lines), len(self.lines) + length // LINE_BYTES)
        padded = message.ljust(length, b"\0")
        for at in range(0, length, LINE_BYTES):
            self.lines.append(
                (self._first[1] + (begin % PAYLOAD_BYTES + at) // LINE_BYTES, padded[at : at + LINE_BYTES])
            )
        for n in range(frames):
            frame = np.zeros(1, FRAME_DTYPE)[0]
            for name, value in (
                ("timestamp", 1000 + number + n),
                ("price", random.getrandbits(60)),
                ("payload_offset", begin % PAYLOAD_BYTES),
                ("payload_length", len(message)),
                ("flow", 3),
                ("sequence", number + n),
                ("kind", Kind.NEW_ORDER),
                ("generation", ((number + n) // FRAME_SLOTS + 1) % 256),
            ):
                frame[name] = value
            self.written.append(Written(frame, message, needs, len(self.lines)))
            self.lines.append((self._first[0] + (number + n) % FRAME_SLOTS, frame.tobytes()))
        return True


class Wire:
    """Sends lines in batches, of which some are lost, and has them taken from the interface."""

    def __init__(self, pair: VethPair, ring: Ring) -> None:
        self._sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._sender.bind((pair.board, 0))
        self._interface = Interface(pair.host, ETHERTYPE)
        self._packets = PacketRing(self._interface)
        self._ring = ring
        self.state = eth_lines.new_state(SESSION, ring)
        self.arrived: set[int] = set()
        self.sent = 0

    def send(self, writer: Writer, losses: float, repeats: float = 0) -> None:
        """All lines that were not sent yet, and at the end the board's word that there are no more."""
        end = len(writer.lines)
        while self.sent < end:
            count = min(random.randint(1, MOST_LINES), end - self.sent)
            frame = self._frame(writer, self.sent, count)
            if random.random() >= losses:
                self.arrived |= set(range(self.sent, self.sent + count))
                for _ in range(2 if random.random() < repeats else 1):
                    self._sender.send(frame)
            self.sent += count
        self._sender.send(self._frame(writer, end, 0))
        self.take(end)

    def take(self, lines: int) -> None:
        """Until so many lines are here or known to be lost."""
        for _ in range(1000):
            result = eth_lines.take_blocks(
                self._packets.words,
                self._packets.block_bytes,
                self.state,
                self._ring.frame_bytes.ctypes.data,
                self._ring.payload.ctypes.data,
            )
            assert result == eth_lines.GOOD
            if self.state[eth_lines.LINES] == lines:
                return
            self._packets.wait()
        raise AssertionError(f"{self.state[eth_lines.LINES]} of {lines} lines came")

    def close(self) -> None:
        self._packets.close()
        self._interface.close()
        self._sender.close()

    def _frame(self, writer: Writer, first: int, count: int) -> bytes:
        before = bisect_left(writer.written, first, key=lambda written: written.line)
        return lines_frame(
            writer.lines[first : first + count],
            session=SESSION,
            sequence=first,
            frames=before,
            following=len(writer.lines),
            finished=len(writer.written),
        )


@pytest.mark.parametrize(
    ("losses", "repeats", "seed"), [(0, 0, 1), (0, 0.3, 2), (0.05, 0, 3), (0.3, 0.1, 4), (0.8, 0, 5)]
)
def test_every_frame_is_whole_or_a_gap(pair, losses, repeats, seed):
    """Messages of all lengths with one to five frames each, read frame by frame or many at once, over many laps of both rings."""
    random.seed(seed)
    ring = Ring.create(None, FRAME_SLOTS, PAYLOAD_BYTES)
    writer, wire = Writer(ring), Wire(pair, ring)
    read = gaps = 0
    try:
        while len(writer.written) < 1500:
            while random.random() < 0.9 and writer.write(
                random.randbytes(random.choice((0, 10, 64, 100, 300, 4000))), random.randint(1, 5)
            ):
                pass
            wire.send(writer, losses, repeats)
            while len(polled := ring.poll(random.choice((1, 3, FRAME_SLOTS)))):
                for frame in polled:
                    written = writer.written[read]
                    came = written.line in wire.arrived
                    whole = came and wire.arrived.issuperset(written.needs)
                    if whole:
                        assert frame.tobytes() == written.frame.tobytes(), f"frame {read}"
                        assert bytes(ring.message(frame)) == written.message, f"message of frame {read}"
                    else:
                        gaps += 1
                        assert frame["kind"] == Kind.GAP, f"frame {read}"
                        assert frame["flow"] == (3 if came else NO_FLOW)
                        assert frame["generation"] == written.frame["generation"]
                    read += 1
                ring.release(len(polled))
            assert read == len(writer.written)
        assert (gaps > 0) == (losses > 0)
        assert wire.state[eth_lines.GAPS] == gaps
        assert wire.state[eth_lines.MISSED] == len(writer.lines) - len(wire.arrived)
        assert (wire.state[eth_lines.REPEATED] > 0) == (repeats > 0)
        assert wire.state[eth_lines.FINISHED] == len(writer.written)
    finally:
        wire.close()


def test_frames_that_are_not_ours_are_left_alone(pair):
    """Another session, another kind, too short for its lines, another EtherType: nothing of it comes into the ring."""
    ring = Ring.create(None, FRAME_SLOTS, PAYLOAD_BYTES)
    writer, wire = Writer(ring), Wire(pair, ring)
    try:
        assert writer.write(b"x" * 100, 1)
        good = wire._frame(writer, 0, 3)
        for bad in (
            lines_frame(writer.lines, session=SESSION + 1),
            lines_frame(writer.lines, session=SESSION)[:-1],
            good[:14] + b"\x63" + good[15:],
            good[:12] + b"\x88\xb6" + good[14:],
        ):
            wire._sender.send(bad)
        wire._sender.send(lines_frame([], session=SESSION))
        while not wire.state[eth_lines.HEARD]:
            wire._packets.wait()
            wire.take(0)
        assert len(ring.poll()) == 0
        wire.send(writer, 0)
        assert ring.poll()[0].tobytes() == writer.written[0].frame.tobytes()
    finally:
        wire.close()


def test_a_board_that_writes_elsewhere_is_found(pair):
    for line, expected in ((0, eth_lines.OUTSIDE), (1 << 30, eth_lines.OUTSIDE), (64 + 3, eth_lines.OUT_OF_ORDER)):
        ring = Ring.create(None, FRAME_SLOTS, PAYLOAD_BYTES)
        wire = Wire(pair, ring)
        try:
            wire._sender.send(lines_frame([(line, bytes(64))], session=SESSION))
            wire._packets.wait(1000)
            assert (
                eth_lines.take_blocks(
                    wire._packets.words,
                    wire._packets.block_bytes,
                    wire.state,
                    ring.frame_bytes.ctypes.data,
                    ring.payload.ctypes.data,
                )
                == expected
            )
        finally:
            wire.close()
