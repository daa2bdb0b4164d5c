"""The reader of the Ethernet card on a pair of virtual interfaces, beside sockets that are read frame by frame.

Frames are sent first and read then, and only the reading is measured: it is what the host has to keep up with.
"""

import socket
import struct
import time
from functools import partial

import numba
import numpy as np

from hdl.ethernet_frame import ETHERNET_BYTES, ETHERTYPE, LINE_BODY, MOST_BYTES, MOST_LINES, UP_HEADER
from hdl.frame import FRAME_DTYPE, Kind
from hdl.link_frame import Up, size
from hdl.ring_layout import LINE_BYTES
from host.bench.measure import Row, Work, compare
from host.card import eth_lines
from host.card.packet_ring import Interface, PacketRing
from host.card.ring import Ring
from host.memory import address_of, copy_to, load_number
from sim.veth import VethPair

SESSION = 1
FRAMES_AT_ONCE = 4000
"""About 6 MB of frames between two readings."""

TURN_SECONDS = 0.005
"""A turn is one reading or a few: what has to be sent for it takes ten times as long."""

RECEIVE_BYTES = 1 << 26
SO_RCVBUFFORCE = 33
ARRIVE_S = 0.005
"""Longer than the kernel keeps a block back that is not full."""

HEADER_BYTES = ETHERNET_BYTES + size(UP_HEADER)
LINE_STEP = size(LINE_BODY)
LINE_NUMBER = struct.Struct("<I")
LINE_NUMBER_BYTES = LINE_NUMBER.size
COUNT_AT = ETHERNET_BYTES + 1


UNSIGNED = {8: "u1", 16: "<u2", 32: "<u4", 64: "<u8"}
WIRE_DTYPE = np.dtype(
    [
        ("addresses", "V12"),
        ("ethertype", ">u2"),
        *((name, UNSIGNED[bits]) for name, bits in UP_HEADER.items()),
        ("lines", [("line", "<u4"), ("data", "V64")], MOST_LINES),
    ]
)
"""A full frame."""


class Traffic:
    """Frames of a board whose messages have one line and one frame each, into ``ring``, lap after lap."""

    def __init__(self, ring: Ring) -> None:
        header = ring.header[0]
        self._slots, self._payload_lines = int(header["frame_slots"]), int(header["payload_bytes"]) // LINE_BYTES
        self._first = int(header["frames_offset"]) // LINE_BYTES, int(header["payload_offset"]) // LINE_BYTES
        self._lines = 0

    def next(self, count: int) -> list[bytes]:
        """So many full frames, which go on behind those of the call before."""
        number = self._lines + np.arange(count * MOST_LINES)
        message = number // 2
        place = message % self._payload_lines
        records = np.zeros(len(number), FRAME_DTYPE)
        records["kind"], records["payload_length"] = Kind.NEW_ORDER, LINE_BYTES
        records["payload_offset"] = place * LINE_BYTES
        records["generation"] = message // self._slots + 1
        is_payload = number % 2 == 0
        frames = np.zeros(count, WIRE_DTYPE)
        frames["ethertype"], frames["kind"], frames["count"], frames["session"] = (
            ETHERTYPE,
            Up.LINES,
            MOST_LINES,
            SESSION,
        )
        frames["sequence"] = number[::MOST_LINES]
        frames["frames"] = number[::MOST_LINES] // 2
        frames["following"] = number[::MOST_LINES] + MOST_LINES
        lines = frames["lines"].reshape(-1)
        lines["line"] = np.where(is_payload, self._first[1] + place, self._first[0] + message % self._slots)
        lines["data"] = records.view("V64")
        frames["lines"] = lines.reshape(count, MOST_LINES)
        self._lines += count * MOST_LINES
        return [frame.tobytes() for frame in frames]


def _reader(pair: VethPair, sender: socket.socket) -> Work:
    ring = Ring.create()
    traffic = Traffic(ring)
    packets = PacketRing(Interface(pair.host, ETHERTYPE))
    state = eth_lines.new_state(SESSION, ring)

    def take() -> None:
        result = eth_lines.take_blocks(
            packets.words, packets.block_bytes, state, ring.frame_bytes.ctypes.data, ring.payload.ctypes.data
        )
        assert result == eth_lines.GOOD

    def run() -> tuple[int, float]:
        before = int(state[eth_lines.LINES])
        for frame in traffic.next(FRAMES_AT_ONCE):
            sender.send(frame)
        time.sleep(ARRIVE_S)
        begin = time.perf_counter()
        take()
        seconds = time.perf_counter() - begin
        lines = int(state[eth_lines.LINES]) - before
        assert lines == FRAMES_AT_ONCE * MOST_LINES
        assert state[eth_lines.MISSED] == state[eth_lines.GAPS] == 0
        return lines, seconds

    return run


def _socket_loop(pair: VethPair, sender: socket.socket, is_compiled: bool) -> Work:
    """Reads frame by frame, and writes each frame's lines in Python, or in a compiled function."""
    ring = Ring.create()
    traffic = Traffic(ring)
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    receiver.bind((pair.host, ETHERTYPE))
    receiver.setblocking(False)
    buffer = bytearray(MOST_BYTES)
    in_words = np.frombuffer(buffer, np.uint8)
    header = ring.header[0]
    frames_line, payload_line = (int(header[name]) // LINE_BYTES for name in ("frames_offset", "payload_offset"))
    frames, payload = ring.frame_bytes.data, ring.payload.data
    view = memoryview(buffer)

    def in_python() -> int:
        count = buffer[COUNT_AT]
        for at in range(HEADER_BYTES, HEADER_BYTES + count * LINE_STEP, LINE_STEP):
            (line,) = LINE_NUMBER.unpack_from(buffer, at)
            part, place = (payload, line - payload_line) if line >= payload_line else (frames, line - frames_line)
            part[place * LINE_BYTES : (place + 1) * LINE_BYTES] = view[at + LINE_NUMBER.size : at + LINE_STEP]
        return count

    def compiled() -> int:
        return int(
            _write_lines(in_words, frames_line, payload_line, ring.frame_bytes.ctypes.data, ring.payload.ctypes.data)
        )

    take = compiled if is_compiled else in_python

    def run() -> tuple[int, float]:
        for frame in traffic.next(FRAMES_AT_ONCE):
            sender.send(frame)
        lines = 0
        begin = time.perf_counter()
        try:
            while receiver.recv_into(buffer):
                lines += take()
        except BlockingIOError:
            pass
        seconds = time.perf_counter() - begin
        assert lines == FRAMES_AT_ONCE * MOST_LINES
        return lines, seconds

    return run


@numba.njit  # not cached: it is no loop of the host, and imports a simulated board
def _write_lines(frame, frames_line, payload_line, frames, payload):
    """The lines of a received frame into the rings in memory; returns how many."""
    count = np.int64(frame[COUNT_AT])
    for n in range(count):
        at = address_of(frame, HEADER_BYTES + n * LINE_STEP)
        line = np.int64(load_number(at, 4, False, False))
        if line >= payload_line:
            copy_to(payload + (line - payload_line) * LINE_BYTES, at + LINE_NUMBER_BYTES, LINE_BYTES)
        else:
            copy_to(frames + (line - frames_line) * LINE_BYTES, at + LINE_NUMBER_BYTES, LINE_BYTES)
    return count


def rows() -> list[Row]:
    """Lines of 64 bytes a second from an interface into the ring: of the card's reader, beside a loop over a socket in plain Python, and one
    whose lines are copied by compiled code. Each has a pair of interfaces of its own. Raises NoVeth where there can be none."""
    found = []
    for is_compiled, peer in ((False, "socket loop in plain Python"), (True, "socket loop, compiled copy")):
        with VethPair() as ours, VethPair() as theirs:
            works = []
            for pair, make in ((ours, _reader), (theirs, partial(_socket_loop, is_compiled=is_compiled))):
                sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                sender.bind((pair.board, 0))
                works.append(make(pair, sender))
            name = "eth.lines_per_s" if not is_compiled else "eth.compiled.lines_per_s"
            found.append(compare(name, "lines/s", works[0], peer, works[1], TURN_SECONDS))
    return found
