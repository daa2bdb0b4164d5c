"""pcap files (draft-ietf-opsawg-pcap): the index pass, and their batches."""

import struct
from collections.abc import Iterator

import numpy as np
from numba import njit

from host.capture.link import LINK_TYPES, link_error
from host.capture.packets import Packets
from host.capture.records import (
    CUT,
    DAMAGED,
    END,
    FULL,
    PACKET_BYTES_MAX,
    Rows,
    cut_warning,
    damage_error,
    header_cut_error,
    u32,
)
from host.capture.source import HEADROOM, CaptureError, Source

MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""Magic number of the file → ns a tick of its timestamps."""

HEADER_BYTES = 24


class PcapFile:
    """A pcap file. Raises CaptureError where its header says that it cannot be read.

    ``warning`` says after the last batch where the file was cut; ``None``: nowhere.
    """

    def __init__(self, source: Source, order: str) -> None:
        self._source = source
        self._order = order
        self.warning: str | None = None
        head = source.window[HEADROOM : HEADROOM + HEADER_BYTES].tobytes()
        if len(head) < HEADER_BYTES:
            raise header_cut_error(source)
        magic, major, minor, _, _, _, link = struct.unpack(order + "IHHIIII", head)
        if (major, minor) != (2, 4):
            raise CaptureError(
                f"{source.path}: pcap version {major}.{minor} at byte offset 4, convert it with editcap to 2.4"
            )
        # The upper half tells whether frames end with an FCS, which the IP length cuts off anyway.
        self._link = link & 0xFFFF
        if self._link not in LINK_TYPES:
            raise link_error(source.path, self._link, 20)
        self._tick_ns = MAGICS[magic]

    @classmethod
    def of(cls, source: Source) -> "PcapFile | None":
        """The file, or None where it does not begin like one."""
        head = source.window[HEADROOM : HEADROOM + 4].tobytes()
        for order in "<>":
            if len(head) == 4 and struct.unpack(order + "I", head)[0] in MAGICS:
                return cls(source, order)
        return None

    def batches(self) -> Iterator[Packets]:
        """Its packets, a window at a time. Raises CaptureError where it is damaged."""
        source = self._source
        at, total = HEADROOM + HEADER_BYTES, 0
        while True:
            window = source.window
            rows = Rows(len(window) - at)
            count, at, why = index_pcap(
                window, at, self._order == ">", self._tick_ns, rows.offset, rows.length, rows.timestamp
            )
            total += count
            if count:
                rows.link[:count] = self._link
                yield rows.packets(window, count)
            if why == DAMAGED:
                raise damage_error(source, at, f"a packet longer than {PACKET_BYTES_MAX} bytes")
            if why != FULL:
                if source.ended:
                    break
                source.next_window(len(window) - at)
                at = HEADROOM
        self.warning = cut_warning(source, at, why, total)


@njit(cache=True)
def index_pcap(
    data: np.ndarray,
    at: np.int64,
    swapped: bool,
    tick_ns: int,
    offset: np.ndarray,
    length: np.ndarray,
    timestamp: np.ndarray,
) -> tuple[int, np.int64, int]:
    """Index pcap records from byte ``at`` on, whose fractions of a second count ``tick_ns`` ns.

    Returns (packets found, byte offset of the next record, why it stopped).
    """
    size = len(data)
    count = 0
    while True:
        if at == size:
            return count, at, END
        if count == len(offset):
            return count, at, FULL
        if size - at < 16:
            return count, at, CUT
        captured = np.int64(u32(data, at + 8, swapped))
        if captured > PACKET_BYTES_MAX:
            return count, at, DAMAGED
        if captured > size - at - 16:
            return count, at, CUT
        offset[count] = at + 16
        length[count] = captured
        seconds, ticks = u32(data, at, swapped), u32(data, at + 4, swapped)
        timestamp[count] = seconds * np.uint64(1_000_000_000) + ticks * np.uint64(tick_ns)
        count += 1
        at += 16 + captured
