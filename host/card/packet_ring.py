"""Packets of an interface in memory that the kernel shares: AF_PACKET with TPACKET_V3 (Linux, packet_mmap.rst)."""

import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import sys

import numpy as np

from hdl.ethernet_frame import MAC_BYTES
from host.card.link_session import LinkError

SOL_PACKET = 263
PACKET_RX_RING = 5
PACKET_STATISTICS = 6
PACKET_VERSION = 10
TPACKET_V3 = 2
REQUEST = struct.Struct("=7I")
"""struct tpacket_req3: bytes of a block, blocks, bytes of a frame, frames, time-out in ms, private bytes, features."""

BLOCK_BYTES = 1 << 15
BLOCKS = 512
"""16 MiB: a reader may be away for 130 ms at 1 Gb/s, and for half a second where little comes and blocks are handed over nearly empty."""

SMALLEST_FRAME = 2048
"""The kernel packs packets into blocks as they come; this only has to divide a block."""

RETIRE_MS = 1
"""A block that is not full is handed over after so long, the least that there is."""

READ_MS = 10
"""How long a reader waits for a block."""

SIOCGIFFLAGS = 0x8913
SIOCGIFHWADDR = 0x8927
IFREQ_BYTES = 40
IFREQ_AT = 16
IFF_UP = 1
IFF_RUNNING = 0x40


class Interface:
    """A network interface, for raw frames. Raises :class:`LinkError` where there is none, no permission, or it is down.

    Attributes:
        address: its MAC address.
        socket: takes whole Ethernet frames without FCS; receives those of ``ethertype`` (0: none).
    """

    def __init__(self, name: str, ethertype: int = 0) -> None:
        self.name = name
        try:
            socket.if_nametoindex(name)
        except OSError:
            raise LinkError(f"there is no interface {name}: `ip link` names them") from None
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise LinkError(
                f"no permission for raw frames: `sudo setcap cap_net_raw+ep {os.path.realpath(sys.executable)}`, or run as root"
            ) from None
        try:
            flags = struct.unpack_from("H", self._ioctl(SIOCGIFFLAGS), IFREQ_AT)[0]
            if not flags & IFF_UP:
                raise LinkError(f"interface {name} is down: `sudo ip link set {name} up`")
            if not flags & IFF_RUNNING:
                raise LinkError(f"interface {name} has no carrier: is the cable plugged in, is the board on?")
            self.address = self._ioctl(SIOCGIFHWADDR)[IFREQ_AT + 2 :][:MAC_BYTES]
            self.socket.bind((name, ethertype))
        except BaseException:
            self.socket.close()
            raise

    def send(self, frame: bytes | memoryview) -> None:
        """Send a frame. Raises :class:`LinkError` where the interface is gone or down, or the frame too long for it."""
        while True:
            try:
                self.socket.send(frame)
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    # The interface is slower than we are.
                    select.select([], [self.socket], [], READ_MS / 1000)
                elif error.errno == errno.EMSGSIZE:
                    raise LinkError(
                        f"a packet of {len(frame):,} bytes is too long for interface {self.name}: raise its MTU if the board takes more"
                    ) from None
                else:
                    raise LinkError(f"interface {self.name}: {error.strerror}") from None

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()

    def _ioctl(self, request: int) -> bytes:
        asked = self.name.encode().ljust(IFREQ_BYTES, b"\0")
        return fcntl.ioctl(self.socket.fileno(), request, asked)


class PacketRing:
    """Blocks of received frames that the kernel fills. See :mod:`host.card.eth_lines` for how they are read.

    Attributes:
        words: all blocks as uint32.
        block_bytes: bytes of a block.
    """

    def __init__(self, interface: Interface, blocks: int = BLOCKS, block_bytes: int = BLOCK_BYTES) -> None:
        self._socket = interface.socket
        self.block_bytes = block_bytes
        length = blocks * block_bytes
        self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        request = REQUEST.pack(block_bytes, blocks, SMALLEST_FRAME, length // SMALLEST_FRAME, RETIRE_MS, 0, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
        memory = mmap.mmap(self._socket.fileno(), length)
        self.words = np.frombuffer(memory, np.uint32)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLERR)

    def wait(self, milliseconds: int = READ_MS) -> None:
        """Until a block is there, or so long."""
        self._poll.poll(milliseconds)

    def dropped(self) -> int:
        """Frames for which no block was free, since this was last asked."""
        _, drops, _ = struct.unpack("3I", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
        return drops

    def close(self) -> None:
        """Unmap the blocks, once the last view of them is gone."""
        del self.words
