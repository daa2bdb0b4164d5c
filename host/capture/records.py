"""What the readers of both capture formats share: why an index pass stops, the rows that it fills, what is said of damage."""

import numpy as np
from numba import njit

from host.capture.link import ETHERNET, to_ethernet
from host.capture.packets import Packets
from host.capture.source import HEADROOM, CaptureError, Source

PACKET_BYTES_MAX = 262144
"""Longest captured packet (libpcap's MAXIMUM_SNAPLEN); a longer length is damage, not data."""

ROWS_MAX = 1 << 17
"""Packets indexed by one call: large enough that calls cost nothing."""

ROW_BYTES = 64
"""There is a row for so many bytes of a window, which is fewer than any packet takes that a card reads."""

END, FULL, CUT, DAMAGED, HEADER_BLOCK, NO_INTERFACE, OTHER_LINK = range(7)
"""Why a pass stopped: end of the window, rows full, the window ends inside a record, a length that cannot be,
a section or interface block that Python reads, a packet of an interface that was never described,
a packet of a link type that is not read."""


@njit(cache=True, inline="always")
def u16(data: np.ndarray, at: int, swapped: bool) -> np.uint64:
    """Two bytes; ``swapped``: the first one is the highest."""
    low, high = np.uint64(data[at]), np.uint64(data[at + 1])
    return (low << np.uint64(8)) | high if swapped else low | (high << np.uint64(8))


@njit(cache=True, inline="always")
def u32(data: np.ndarray, at: int, swapped: bool) -> np.uint64:
    """Four bytes; ``swapped``: the first one is the highest."""
    first, second = u16(data, at, swapped), u16(data, at + 2, swapped)
    return (first << np.uint64(16)) | second if swapped else first | (second << np.uint64(16))


class Rows:
    """What a pass over ``size`` bytes of a window fills, a row a packet: as in Packets, and the link type."""

    def __init__(self, size: int) -> None:
        count = min(ROWS_MAX, size // ROW_BYTES + 1)
        self.offset = np.empty(count, np.uint64)
        self.length = np.empty(count, np.uint32)
        self.timestamp = np.empty(count, np.uint64)
        self.link = np.empty(count, np.uint16)

    def packets(self, window: np.ndarray, count: int) -> Packets:
        """The first ``count`` rows as Ethernet packets; the bytes between packets in ``window`` may be overwritten."""
        offset, length, link = self.offset[:count], self.length[:count], self.link[:count]
        if (link != ETHERNET).any():
            to_ethernet(window, offset, length, link)
        return Packets(window, offset, length, self.timestamp[:count])


def place(source: Source, at: int) -> int:
    """The offset in the input of index ``at`` of the window."""
    return source.base + at - HEADROOM


def where(source: Source, at: int) -> str:
    """The same in words."""
    behind = f" of the decompressed {source.compression} data" if source.compression else ""
    return f"at byte offset {place(source, at)}{behind}"


def damage_error(source: Source, at: int, what: str) -> CaptureError:
    """``what`` was found at index ``at`` of the window."""
    return CaptureError(
        f"{source.path}: {what} {where(source, at)}, the file is damaged there; "
        f"'{source.head} {place(source, at)}' keeps what comes before"
    )


def header_cut_error(source: Source) -> CaptureError:
    """There is less than a file header."""
    return CaptureError(
        f"{source.path}: cut inside its file header {where(source, len(source.window))}, capture or copy it again"
    )


def cut_warning(source: Source, at: int, why: int, packets: int) -> str | None:
    """What is said of an input that ends at index ``at`` of its last window because of ``why``: END or CUT."""
    if why == CUT:
        behind = f", decompressed {source.compression}" if source.compression else ""
        return (
            f"{source.path}: cut inside a packet that begins at byte offset {place(source, at)} "
            f"(the file has {source.size} bytes{behind}), read the {packets} whole packets before it; "
            "capture or copy it again for the rest"
        )
    if source.cut:
        return (
            f"{source.path}: the {source.compression} data is cut at byte offset {source.input_bytes}, "
            f"read the {packets} whole packets before it; compress or copy it again for the rest"
        )
    return None
