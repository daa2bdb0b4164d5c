"""The index passes over pcap and pcapng files: where each packet lies and when it came.

pcap: draft-ietf-opsawg-pcap, pcapng: draft-ietf-opsawg-pcapng. Each pass fills arrays until they are full or
something stands in its way that Python must look at; it never reads beyond the file.
"""

import numpy as np
from numba import njit

PACKET_BYTES_MAX = 262144
"""Longest captured packet (libpcap's MAXIMUM_SNAPLEN); a longer length is damage, not data."""

BLOCK_BYTES_MAX = 16 << 20
"""Longest pcapng block that may reach beyond the end of a file and still count as cut, not as damage
(Wireshark's MAX_BLOCK_SIZE)."""

END, FULL, CUT, DAMAGED, HEADER_BLOCK, NO_INTERFACE, OTHER_LINK = range(7)
"""Why a pass stopped: end of the file, arrays full, file ends inside a record, a length that cannot be,
a section or interface block that Python reads, a packet of an interface that was never described,
a packet of a link type other than Ethernet."""

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
OBSOLETE_PACKET = 2
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6

ETHERNET = 1
"""LINKTYPE_ETHERNET."""


@njit(cache=True, inline="always")
def _u16(data: np.ndarray, at: int, swapped: bool) -> np.uint64:
    low, high = np.uint64(data[at]), np.uint64(data[at + 1])
    return (low << np.uint64(8)) | high if swapped else low | (high << np.uint64(8))


@njit(cache=True, inline="always")
def _u32(data: np.ndarray, at: int, swapped: bool) -> np.uint64:
    first, second = _u16(data, at, swapped), _u16(data, at + 2, swapped)
    return (first << np.uint64(16)) | second if swapped else first | (second << np.uint64(16))


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
        captured = np.int64(_u32(data, at + 8, swapped))
        if captured > PACKET_BYTES_MAX:
            return count, at, DAMAGED
        if captured > size - at - 16:
            return count, at, CUT
        offset[count] = at + 16
        length[count] = captured
        seconds, ticks = _u32(data, at, swapped), _u32(data, at + 4, swapped)
        timestamp[count] = seconds * np.uint64(1_000_000_000) + ticks * np.uint64(tick_ns)
        count += 1
        at += 16 + captured


@njit(cache=True)
def ticks_to_ns(ticks: np.uint64, resolution: int) -> np.uint64:
    """``ticks`` of an interface in ns, rounded down, modulo 2^64.

    ``resolution`` is if_tsresol: a power of 10, or of 2 where the highest bit is set, negated.
    """
    billion = np.uint64(1_000_000_000)
    exponent = np.int64(resolution & 0x7F)
    if not resolution & 0x80:
        if exponent > 9 + 19:
            return np.uint64(0)
        scale = np.uint64(1)
        for _ in range(abs(exponent - 9)):
            scale *= np.uint64(10)
        return ticks * scale if exponent <= 9 else ticks // scale
    if exponent <= 32:
        shift = np.uint64(exponent)
        fraction = ticks & ((np.uint64(1) << shift) - np.uint64(1))
        return (ticks >> shift) * billion + ((fraction * billion) >> shift)
    if exponent - 32 >= 64:
        return np.uint64(0)
    # The product needs 94 bits: its top part, floor(ticks × 10^9 / 2^32), fits 64.
    low = (ticks & np.uint64(0xFFFFFFFF)) * billion
    top = (ticks >> np.uint64(32)) * billion + (low >> np.uint64(32))
    return top >> np.uint64(exponent - 32)


@njit(cache=True)
def index_pcapng(
    data: np.ndarray,
    at: np.int64,
    swapped: bool,
    interfaces: np.ndarray,
    known: int,
    latest: np.uint64,
    offset: np.ndarray,
    length: np.ndarray,
    timestamp: np.ndarray,
) -> tuple[int, np.int64, int, np.uint64]:
    """Index pcapng blocks from byte ``at`` on, up to the next section or interface block.

    ``interfaces`` is uint64 with a row an interface, of which ``known`` are described: link type, snap
    length (0: no limit), if_tsresol, if_tsoffset in ns. ``latest`` is the time of the packet before, which a
    simple packet takes over because it has none of its own.
    Returns (packets found, byte offset of the next block, why it stopped, latest).
    """
    size = len(data)
    count = 0
    while True:
        if at == size:
            return count, at, END, latest
        if count == len(offset):
            return count, at, FULL, latest
        if size - at < 12:
            return count, at, CUT, latest
        kind = _u32(data, at, swapped)
        if kind in (SECTION_HEADER, INTERFACE_DESCRIPTION):
            return count, at, HEADER_BLOCK, latest
        total = np.int64(_u32(data, at + 4, swapped))
        if total < 12 or total % 4 != 0:
            return count, at, DAMAGED, latest
        if total > size - at:
            return count, at, DAMAGED if total > BLOCK_BYTES_MAX else CUT, latest
        if np.int64(_u32(data, at + total - 4, swapped)) != total:
            return count, at, DAMAGED, latest

        if kind in (ENHANCED_PACKET, OBSOLETE_PACKET, SIMPLE_PACKET):
            fixed = 12 if kind == SIMPLE_PACKET else 28
            if total < fixed + 4:
                return count, at, DAMAGED, latest
            if kind == ENHANCED_PACKET:
                interface = np.int64(_u32(data, at + 8, swapped))
            elif kind == OBSOLETE_PACKET:
                interface = np.int64(_u16(data, at + 8, swapped))
            else:
                interface = np.int64(0)
            if interface >= known:
                return count, at, NO_INTERFACE, latest
            if interfaces[interface, 0] != ETHERNET:
                return count, at, OTHER_LINK, latest
            if kind == SIMPLE_PACKET:
                captured = np.int64(_u32(data, at + 8, swapped))
                snap = np.int64(interfaces[interface, 1])
                if snap != 0 and captured > snap:
                    captured = snap
            else:
                captured = np.int64(_u32(data, at + 20, swapped))
                ticks = (_u32(data, at + 12, swapped) << np.uint64(32)) | _u32(data, at + 16, swapped)
                latest = ticks_to_ns(ticks, interfaces[interface, 2]) + interfaces[interface, 3]
            if captured > total - fixed - 4 or captured > PACKET_BYTES_MAX:
                return count, at, DAMAGED, latest
            offset[count] = at + fixed
            length[count] = captured
            timestamp[count] = latest
            count += 1
        at += total
