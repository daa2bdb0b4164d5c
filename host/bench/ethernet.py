"""The reader of the Ethernet card on a pair of virtual interfaces, beside sockets that are read frame by frame.

Frames are sent first and read then, and only the reading is measured: it is what the host has to keep up with.
"""

import socket
import struct
import time
from collections.abc import Callable

import numpy as np
from numba import njit

from hdl.ethernet_frame import ETHERNET_BYTES, ETHERTYPE, LINE_BODY, MOST_BYTES, MOST_LINES, UP_HEADER, lines_frame
from hdl.frame import FRAME_DTYPE, Kind
from hdl.link_frame import size
from hdl.ring_layout import LINE_BYTES
from host.bench.measure import Row, Work, compare
from host.card import eth_lines
from host.card.packet_ring import Interface, PacketRing
from host.card.ring import Ring
from host.memory import store_line
from sim.veth import VethPair

SESSION = 1
FRAMES_AT_ONCE = 4000
"""About 6 MB of frames between two readings."""

RECEIVE_BYTES = 1 << 26
SO_RCVBUFFORCE = 33
ARRIVE_S = 0.005
"""Longer than the kernel keeps a block back that is not full."""

HEADER_BYTES = ETHERNET_BYTES + size(UP_HEADER)
LINE_STEP = size(LINE_BODY)
LINE_NUMBER = struct.Struct("<I")
COUNT_AT = ETHERNET_BYTES + 1


class Traffic:
    """Frames of a board whose messages have one line and one frame each, into the rings of :class:`Ring`, lap after lap."""

    def __init__(self, ring: Ring) -> None:
        header = ring.header[0]
        self._slots, self._payload_lines = int(header["frame_slots"]), int(header["payload_bytes"]) // LINE_BYTES
        self._first = int(header["frames_offset"]) // LINE_BYTES, int(header["payload_offset"]) // LINE_BYTES
        self._lines = 0

    def next(self, frames: int) -> list[bytes]:
        """So many full frames, which go on behind those of the call before."""
        found = []
        record = np.zeros(1, FRAME_DTYPE)
        record["kind"], record["payload_length"] = Kind.NEW_ORDER, 60
        for _ in range(frames):
            first, lines = self._lines, []
            for line in range(first, first + MOST_LINES):
                message = line // 2
                place = message % self._payload_lines
                if line % 2 == 0:
                    lines.append((self._first[1] + place, bytes(LINE_BYTES)))
                else:
                    record["payload_offset"] = place * LINE_BYTES
                    record["generation"] = (message // self._slots + 1) % 256
                    lines.append((self._first[0] + message % self._slots, record.tobytes()))
            self._lines += MOST_LINES
            found.append(lines_frame(lines, session=SESSION, sequence=first, frames=first // 2, following=self._lines))
        return found


def _reader(pair: VethPair, sender: socket.socket) -> Work:
    ring = Ring.create()
    traffic = Traffic(ring)
    interface = Interface(pair.host, ETHERTYPE)
    packets = PacketRing(interface)
    state = eth_lines.new_state(SESSION, ring)

    def run() -> tuple[int, float]:
        _send(sender, traffic)
        before = int(state[eth_lines.LINES])
        begin = time.perf_counter()
        result = eth_lines.take_blocks(
            packets.words, packets.block_bytes, state, ring.frame_bytes.ctypes.data, ring.payload.ctypes.data
        )
        seconds = time.perf_counter() - begin
        assert result == eth_lines.GOOD
        assert state[eth_lines.MISSED] == state[eth_lines.GAPS] == 0
        return int(state[eth_lines.LINES]) - before, seconds

    return run


def _socket_loop(pair: VethPair, sender: socket.socket, take: Callable[[bytearray, Ring], int]) -> Work:
    """Reads frame by frame; ``take`` writes the lines of one."""
    ring = Ring.create()
    traffic = Traffic(ring)
    receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    buffer = bytearray(MOST_BYTES)
    receiver.bind((pair.host, ETHERTYPE))
    receiver.setblocking(False)

    def run() -> tuple[int, float]:
        _drain(receiver)
        _send(sender, traffic)
        lines = 0
        begin = time.perf_counter()
        try:
            while receiver.recv_into(buffer):
                lines += take(buffer, ring)
        except BlockingIOError:
            pass
        seconds = time.perf_counter() - begin
        assert lines == FRAMES_AT_ONCE * MOST_LINES
        return lines, seconds

    return run


def _drain(receiver: socket.socket) -> None:
    """What was sent for the others comes here too."""
    try:
        while receiver.recv(MOST_BYTES):
            pass
    except BlockingIOError:
        pass


def _send(sender: socket.socket, traffic: Traffic) -> None:
    for frame in traffic.next(FRAMES_AT_ONCE):
        sender.send(frame)
    time.sleep(ARRIVE_S)


def _in_python(buffer: bytearray, ring: Ring) -> int:
    """As one writes it first: a slice for each line."""
    memory = _memory(ring)
    view = memoryview(buffer)
    count = buffer[COUNT_AT]
    for at in range(HEADER_BYTES, HEADER_BYTES + count * LINE_STEP, LINE_STEP):
        place = LINE_NUMBER.unpack_from(buffer, at)[0] * LINE_BYTES
        memory[place : place + LINE_BYTES] = view[at + LINE_NUMBER.size : at + LINE_STEP]
    return count


_memories: dict[int, memoryview] = {}


def _memory(ring: Ring) -> memoryview:
    """All of a ring's file."""
    return _memories[id(ring)]
