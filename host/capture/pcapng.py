"""pcapng files (draft-ietf-opsawg-pcapng): the index pass, and their batches."""

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
    HEADER_BLOCK,
    NO_INTERFACE,
    OTHER_LINK,
    PACKET_BYTES_MAX,
    Rows,
    cut_warning,
    damage_error,
    header_cut_error,
    place,
    u16,
    u32,
    where,
)
from host.capture.source import HEADROOM, CaptureError, Source

SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
BYTE_ORDER_MAGIC = 0x1A2B3C4D

BLOCK_BYTES_MAX = 16 << 20
"""Longest block that is taken for one and not for damage (Wireshark's MAX_BLOCK_SIZE)."""

INTERFACES_MAX = 1 << 16
"""Interfaces of a section; more are damage."""

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
OBSOLETE_PACKET = 2
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6

LINK, SNAP, RESOLUTION, SHIFT, READ = range(5)
"""Columns of the interface table (uint64): link type, snap length (0: no limit), if_tsresol, if_tsoffset in ns modulo 2^64,
whether packets of the link type are read."""


class PcapngFile:
    """A pcapng file. Raises CaptureError where its first block says that it cannot be read.

    ``warning`` says after the last batch where the file was cut; ``None``: nowhere.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.warning: str | None = None
        self._order = "<"
        self._interfaces, self._known = np.zeros((4, READ + 1), np.uint64), 0
        if len(source.window) - HEADROOM < 12:
            raise header_cut_error(source)

    @classmethod
    def of(cls, source: Source) -> "PcapngFile | None":
        """The file, or None where it does not begin like one."""
        return cls(source) if source.window[HEADROOM : HEADROOM + 4].tobytes() == SECTION_MAGIC else None

    def batches(self) -> Iterator[Packets]:
        """Its packets, a window at a time. Raises CaptureError where it is damaged, or of a link type that is not read."""
        source = self._source
        at, latest, total = HEADROOM, np.uint64(0), 0
        while True:
            window = source.window
            rows = Rows(len(window) - at)
            count, at, why, latest = index_pcapng(
                window,
                at,
                self._order == ">",
                self._interfaces,
                self._known,
                np.uint64(latest),
                rows.offset,
                rows.length,
                rows.timestamp,
                rows.link,
            )
            total += count
            if count:
                yield rows.packets(window, count)
            if why == HEADER_BLOCK:
                size = self._header_block(at)
                at += size
                if not size:
                    why = CUT
            elif why not in (END, FULL, CUT):
                raise self._error(at, why)
            if why in (END, CUT):
                if source.ended:
                    break
                source.next_window(len(window) - at)
                at = HEADROOM
        self.warning = cut_warning(source, at, why, total)

    def _error(self, at: int, why: int) -> CaptureError:
        source = self._source
        if why == DAMAGED:
            return damage_error(source, at, "a block whose lengths do not add up")
        if why == NO_INTERFACE:
            return damage_error(source, at, "a packet of an interface that was not described")
        assert why == OTHER_LINK
        head = source.window[at : at + 12].tobytes()
        (kind,) = struct.unpack(self._order + "I", head[:4])
        interface = 0
        if kind != SIMPLE_PACKET:
            (interface,) = struct.unpack_from(self._order + ("I" if kind == ENHANCED_PACKET else "H"), head, 8)
        return link_error(source.path, int(self._interfaces[interface, LINK]), place(source, at))

    def _header_block(self, at: int) -> int:
        """Take over a section or interface block; its length, or 0 where the window ends before the block does."""
        source, kind = self._source, self._source.window[at : at + 4].tobytes()
        if kind == SECTION_MAGIC:
            self._order = _section_byte_order(source, at, self._order)
        body = _block_body(source, at, self._order)
        if body is None:
            return 0
        if kind == SECTION_MAGIC:
            self._known = 0
            _check_section(source, body, at, self._order)
        else:
            if self._known == len(self._interfaces):
                if self._known == INTERFACES_MAX:
                    raise damage_error(source, at, f"more than {INTERFACES_MAX} interfaces")
                self._interfaces = np.concatenate((self._interfaces, np.zeros_like(self._interfaces)))
            self._interfaces[self._known] = _interface(source, body, at, self._order)
            self._known += 1
        return len(body) + 12


def _section_byte_order(source: Source, at: int, order: str) -> str:
    """The byte order from here on: a section header names its own, any other block keeps ``order``."""
    if source.window[at : at + 4].tobytes() != SECTION_MAGIC or len(source.window) - at < 12:
        return order
    magic = source.window[at + 8 : at + 12].tobytes()
    for candidate in "<>":
        if struct.unpack(candidate + "I", magic)[0] == BYTE_ORDER_MAGIC:
            return candidate
    raise damage_error(source, at + 8, "a section without its byte-order magic")


def _block_body(source: Source, at: int, order: str) -> bytes | None:
    """What stands between a block's two lengths; None where the file ends before the block does."""
    if len(source.window) - at < 12:
        return None
    (total,) = struct.unpack(order + "I", source.window[at + 4 : at + 8].tobytes())
    if total < 12 or total % 4 or total > BLOCK_BYTES_MAX:
        raise damage_error(source, at, "a block whose lengths do not add up")
    if total > len(source.window) - at:
        return None
    if struct.unpack(order + "I", source.window[at + total - 4 : at + total].tobytes())[0] != total:
        raise damage_error(source, at, "a block whose lengths do not add up")
    return source.window[at + 8 : at + total - 4].tobytes()


def _check_section(source: Source, body: bytes, at: int, order: str) -> None:
    if len(body) < 16:
        raise damage_error(source, at, "a section header that is too short")
    major, minor = struct.unpack_from(order + "HH", body, 4)
    if major != 1:
        raise CaptureError(
            f"{source.path}: pcapng version {major}.{minor} {where(source, at + 12)}, only version 1 is read"
        )


def _interface(source: Source, body: bytes, at: int, order: str) -> tuple[int, int, int, int, int]:
    """An interface description's row of the table."""
    if len(body) < 8:
        raise damage_error(source, at, "an interface description that is too short")
    link_type, _, snap_length = struct.unpack_from(order + "HHI", body)
    resolution, offset_seconds = 6, 0
    cursor = 8
    while cursor + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, cursor)
        value = body[cursor + 4 : cursor + 4 + length]
        if code == 0 or len(value) < length:
            break
        if code == 9 and length == 1:
            resolution = value[0]
        elif code == 14 and length == 8:
            (offset_seconds,) = struct.unpack(order + "q", value)
        cursor += 4 + (length + 3) // 4 * 4
    shift = offset_seconds * 1_000_000_000 % (1 << 64)
    return link_type, snap_length, resolution, shift, link_type in LINK_TYPES


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
    link: np.ndarray,
) -> tuple[int, np.int64, int, np.uint64]:
    """Index pcapng blocks from byte ``at`` on, up to the next section or interface block.

    ``interfaces`` has a row an interface, of which ``known`` are described. ``latest`` is the time of the packet before, which a
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
        kind = u32(data, at, swapped)
        if kind in (SECTION_HEADER, INTERFACE_DESCRIPTION):
            return count, at, HEADER_BLOCK, latest
        total = np.int64(u32(data, at + 4, swapped))
        if total < 12 or total % 4 != 0 or total > BLOCK_BYTES_MAX:
            return count, at, DAMAGED, latest
        if total > size - at:
            return count, at, CUT, latest
        if np.int64(u32(data, at + total - 4, swapped)) != total:
            return count, at, DAMAGED, latest

        if kind in (ENHANCED_PACKET, OBSOLETE_PACKET, SIMPLE_PACKET):
            fixed = 12 if kind == SIMPLE_PACKET else 28
            if total < fixed + 4:
                return count, at, DAMAGED, latest
            if kind == ENHANCED_PACKET:
                interface = np.int64(u32(data, at + 8, swapped))
            elif kind == OBSOLETE_PACKET:
                interface = np.int64(u16(data, at + 8, swapped))
            else:
                interface = np.int64(0)
            if interface >= known:
                return count, at, NO_INTERFACE, latest
            if interfaces[interface, READ] == 0:
                return count, at, OTHER_LINK, latest
            if kind == SIMPLE_PACKET:
                captured = np.int64(u32(data, at + 8, swapped))
                snap = np.int64(interfaces[interface, SNAP])
                if snap != 0 and captured > snap:
                    captured = snap
            else:
                captured = np.int64(u32(data, at + 20, swapped))
                ticks = (u32(data, at + 12, swapped) << np.uint64(32)) | u32(data, at + 16, swapped)
                latest = ticks_to_ns(ticks, interfaces[interface, RESOLUTION]) + interfaces[interface, SHIFT]
            if captured > total - fixed - 4 or captured > PACKET_BYTES_MAX:
                return count, at, DAMAGED, latest
            offset[count] = at + fixed
            length[count] = captured
            timestamp[count] = latest
            link[count] = interfaces[interface, LINK]
            count += 1
        at += total
