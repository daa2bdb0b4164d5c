"""Reads capture files: pcap, pcapng and FIX text, told apart by what is in them and never by their name.

A capture is mapped, not copied: packets are where they lie in it. Only Ethernet is taken.
"""

import codecs
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.capture import fix_log, pcap
from host.capture.packets import Packets

CHUNK = 1 << 17
"""Packets indexed by one call: large enough that calls cost nothing, small enough to be thrown away."""

PCAP_MAGICS = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}
"""Magic number of a pcap file → ns a tick of its timestamps."""

BYTE_ORDER_MAGIC = 0x1A2B3C4D
SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"

COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\x04\x22\x4d\x18": ("lz4", "unlz4"),
}
"""First bytes of a compressed file → what it is, and what undoes it."""

LINK_TYPES = {
    0: "NULL (BSD loopback)",
    9: "PPP",
    101: "RAW (IP without Ethernet)",
    105: "IEEE802_11 (Wi-Fi)",
    108: "LOOP (OpenBSD loopback)",
    113: "LINUX_SLL (tcpdump -i any)",
    127: "IEEE802_11_RADIOTAP (Wi-Fi)",
    189: "USB_LINUX",
    195: "IEEE802_15_4",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    220: "USB_LINUX_MMAPPED",
    228: "IPV4 (no Ethernet)",
    229: "IPV6 (no Ethernet)",
    276: "LINUX_SLL2 (tcpdump -i any)",
}
"""Names of the link types that people meet, by their number at tcpdump.org/linktypes.html."""


class CaptureError(ValueError):
    """A file that cannot be read as a capture: one line with the file, what is wrong where, and what to do."""


@dataclass(frozen=True)
class Capture:
    """An open capture.

    Attributes:
        path: the file.
        packets: its whole packets, over the mapped file.
        warning: what is missing, in one line, where the file ends inside a packet; for FIX text what was read of it
            and what not; None for a whole capture.
    """

    path: Path
    packets: Packets
    warning: str | None = None


def read_packets(path: str | os.PathLike[str]) -> Packets:
    """The packets of a capture file. Raises CaptureError."""
    return open_capture(path).packets


def open_capture(path: str | os.PathLike[str]) -> Capture:
    """Map a pcap or pcapng file and find its packets, or make packets of the FIX messages of a log or byte stream
    (docs/captures.md). Raises CaptureError.

    A file that ends inside a packet is read up to its last whole one, and ``warning`` says so. The file must
    not be shortened while it is in use.
    """
    path = Path(path)
    data = _map(path)
    head = data[:24].tobytes()
    if head[:4] == SECTION_MAGIC:
        return _read_pcapng(path, data)
    for order in "<>":
        if len(head) >= 4 and struct.unpack(order + "I", head[:4])[0] in PCAP_MAGICS:
            return _read_pcap(path, data, order)
    if fix_log.has_fix(data) and (capture := _read_fix_text(path, data)) is not None:
        return capture
    raise CaptureError(f"{path}: {_what_it_is(data[:512].tobytes())}")


def _map(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0 and path.is_file():
                raise CaptureError(f"{path}: the file is empty, capture again")
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CaptureError(f"{path}: is a directory, name a capture file in it") from None
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror or error})") from None
    except CaptureError:
        raise
    except ValueError as error:  # a path with a zero byte, or something that cannot be mapped
        raise CaptureError(f"{path}: cannot be read ({error})") from None


def _what_it_is(head: bytes) -> str:
    """What a file that begins with ``head`` is instead of a capture, and what to do about it."""
    for magic, (name, command) in COMPRESSED.items():
        if head.startswith(magic):
            return f"{name}-compressed at byte offset 0, decompress it first ({command})"
    try:
        # Incremental, because the head may end inside a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = ""
    if text and all(char.isprintable() or char in "\t\r\n\f\x01" for char in text):
        name = "FIX text without a whole message" if "8=FIX" in text else "text"
        return f"{name} at byte offset 0, not a packet capture; give a pcap or pcapng file, or a log of FIX messages"
    return f"neither pcap nor pcapng at byte offset 0 (begins with {head[:4].hex(' ')}); give a pcap or pcapng file"


def _read_fix_text(path: Path, data: np.ndarray) -> Capture | None:
    if len(data) > fix_log.TEXT_BYTES_MAX:
        raise CaptureError(
            f"{path}: FIX text of {len(data)} bytes, at most {fix_log.TEXT_BYTES_MAX} are read at once; "
            "split it between lines, with 'split -C 1G'"
        )
    text = fix_log.read_fix_text(data.tobytes())
    return None if text is None else Capture(path, text.packets, f"{path}: {text.describe()}")


def _link_type_error(path: Path, link_type: int, at: int) -> CaptureError:
    name = LINK_TYPES.get(link_type, "unknown")
    return CaptureError(
        f"{path}: link type {link_type}, {name}, at byte offset {at}; "
        "only Ethernet is read, capture on the Ethernet interface itself"
    )


def _damage_error(path: Path, at: int, what: str) -> CaptureError:
    return CaptureError(
        f"{path}: {what} at byte offset {at}, the file is damaged there; 'head -c {at}' keeps what comes before"
    )


def _cut_warning(path: Path, at: int, packets: int, size: int) -> str:
    return (
        f"{path}: cut inside a packet that begins at byte offset {at} (the file has {size} bytes), "
        f"read the {packets} whole packets before it; capture or copy it again for the rest"
    )


class _Index:
    """Collects what the passes find, a chunk a call."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.chunks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.count = 0
        # The smallest record of either format takes 16 bytes.
        rows = min(CHUNK, len(data) // 16 + 1)
        self.offset = np.empty(rows, np.uint64)
        self.length = np.empty(rows, np.uint32)
        self.timestamp = np.empty(rows, np.uint64)

    def keep(self, count: int) -> None:
        """Take the first ``count`` rows of the arrays, which are then free to be filled again."""
        self.count += count
        if count:
            self.chunks.append((self.offset[:count].copy(), self.length[:count].copy(), self.timestamp[:count].copy()))

    def packets(self) -> Packets:
        """All packets found."""
        if not self.chunks:
            return Packets(self.data, np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint64))
        offset, length, timestamp = (np.concatenate(column) for column in zip(*self.chunks, strict=True))
        return Packets(self.data, offset, length, timestamp)


def _read_pcap(path: Path, data: np.ndarray, order: str) -> Capture:
    if len(data) < 24:
        raise CaptureError(f"{path}: cut inside its file header at byte offset {len(data)}, capture or copy it again")
    magic, major, minor, _, _, _, link = struct.unpack(order + "IHHIIII", data[:24].tobytes())
    if (major, minor) != (2, 4):
        raise CaptureError(f"{path}: pcap version {major}.{minor} at byte offset 4, convert it with editcap to 2.4")
    # The upper half tells whether frames end with an FCS, which the IP length cuts off anyway.
    if link & 0xFFFF != pcap.ETHERNET:
        raise _link_type_error(path, link & 0xFFFF, 20)
    index = _Index(data)
    at, why = 24, pcap.FULL
    while why == pcap.FULL:
        count, at, why = pcap.index_pcap(
            data, at, order == ">", PCAP_MAGICS[magic], index.offset, index.length, index.timestamp
        )
        index.keep(count)
    if why == pcap.DAMAGED:
        raise _damage_error(path, at, "a packet longer than 262144 bytes")
    packets = index.packets()
    return Capture(path, packets, _cut_warning(path, at, len(packets), len(data)) if why == pcap.CUT else None)


def _read_pcapng(path: Path, data: np.ndarray) -> Capture:
    index = _Index(data)
    interfaces, known = np.zeros((4, 4), np.uint64), 0
    at, why, order, latest = 0, pcap.HEADER_BLOCK, "<", np.uint64(0)
    while True:
        if why == pcap.HEADER_BLOCK:
            # Section and interface blocks are few; a block that is not whole ends the reading as it does below.
            order = _section_byte_order(path, data, at, order)
            body = _block_body(path, data, at, order)
            if body is None:
                why = pcap.CUT
                break
            if data[at : at + 4].tobytes() == SECTION_MAGIC:
                known = 0
                _check_section(path, body, at, order)
            else:
                if known == len(interfaces):
                    interfaces = np.concatenate((interfaces, np.zeros_like(interfaces)))
                interfaces[known] = _interface(path, body, at, order)
                known += 1
            at += len(body) + 12
        elif why != pcap.FULL:
            break
        count, at, why, latest = pcap.index_pcapng(
            data, at, order == ">", interfaces, known, np.uint64(latest), index.offset, index.length, index.timestamp
        )
        index.keep(count)
    if why == pcap.DAMAGED:
        raise _damage_error(path, at, "a block whose lengths do not add up")
    if why == pcap.NO_INTERFACE:
        raise _damage_error(path, at, "a packet of an interface that was not described")
    if why == pcap.OTHER_LINK:
        head = data[at : at + 12].tobytes()
        (kind,) = struct.unpack(order + "I", head[:4])
        interface = 0
        if kind != pcap.SIMPLE_PACKET:
            (interface,) = struct.unpack_from(order + ("I" if kind == pcap.ENHANCED_PACKET else "H"), head, 8)
        raise _link_type_error(path, int(interfaces[interface, 0]), at)
    packets = index.packets()
    return Capture(path, packets, _cut_warning(path, at, len(packets), len(data)) if why == pcap.CUT else None)


def _section_byte_order(path: Path, data: np.ndarray, at: int, order: str) -> str:
    """The byte order from here on: a section header names its own, any other block keeps ``order``."""
    if data[at : at + 4].tobytes() != SECTION_MAGIC or len(data) - at < 12:
        return order
    magic = data[at + 8 : at + 12].tobytes()
    for candidate in "<>":
        if struct.unpack(candidate + "I", magic)[0] == BYTE_ORDER_MAGIC:
            return candidate
    raise _damage_error(path, at + 8, "a section without its byte-order magic")


def _block_body(path: Path, data: np.ndarray, at: int, order: str) -> bytes | None:
    """What stands between a block's two lengths; None where the file ends before the block does."""
    if len(data) - at < 12:
        if at == 0:
            raise CaptureError(
                f"{path}: cut inside its file header at byte offset {len(data)}, capture or copy it again"
            )
        return None
    (total,) = struct.unpack(order + "I", data[at + 4 : at + 8].tobytes())
    if total < 12 or total % 4 or (total > len(data) - at and total > pcap.BLOCK_BYTES_MAX):
        raise _damage_error(path, at, "a block whose lengths do not add up")
    if total > len(data) - at:
        return None
    if struct.unpack(order + "I", data[at + total - 4 : at + total].tobytes())[0] != total:
        raise _damage_error(path, at, "a block whose lengths do not add up")
    return data[at + 8 : at + total - 4].tobytes()


def _check_section(path: Path, body: bytes, at: int, order: str) -> None:
    if len(body) < 16:
        raise _damage_error(path, at, "a section header that is too short")
    major, minor = struct.unpack_from(order + "HH", body, 4)
    if major != 1:
        raise CaptureError(f"{path}: pcapng version {major}.{minor} at byte offset {at + 12}, only version 1 is read")


def _interface(path: Path, body: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Link type, snap length, if_tsresol and if_tsoffset (ns, modulo 2^64) of an interface description."""
    if len(body) < 8:
        raise _damage_error(path, at, "an interface description that is too short")
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
    return link_type, snap_length, resolution, offset_seconds * 1_000_000_000 % (1 << 64)
