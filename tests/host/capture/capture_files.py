"""Capture files, built byte by byte by what their formats say, and what is behind a link layer other than Ethernet."""

import bz2
import functools
import gzip
import lzma
import struct

import lz4.frame
import pytest
from backports import zstd

from host.capture.write import ones_complement_sum

PACKETS = [b"\x01\x00\x5e" + bytes([n]) * (11 + 7 * n) for n in range(5)]
SECONDS = 1_700_000_000
ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])


def pcap_file(order="<", magic=0xA1B2C3D4, link=1, packets=PACKETS, version=(2, 4)):
    out = struct.pack(order + "IHHIIII", magic, *version, 0, 0, 65535, link)
    for n, packet in enumerate(packets):
        out += struct.pack(order + "IIII", SECONDS + n, 5 * n, len(packet), len(packet) + 9) + packet
    return out


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order, options=b""):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + options)


def interface(order, link=1, snap=0, options=b""):
    return block(order, 1, struct.pack(order + "HHI", link, 0, snap) + options)


def enhanced(order, packet, ticks, interface=0, options=b""):
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet))
    return block(order, 6, head + packet + bytes(-len(packet) % 4) + options)


def obsolete(order, packet, ticks, interface=0):
    head = struct.pack(order + "HHIIII", interface, 3, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet))
    return block(order, 2, head + packet)


def simple(order, packet, original=None):
    return block(order, 3, struct.pack(order + "I", original or len(packet)) + packet)


def resolution(order, value):
    return option(order, 2, b"card0") + option(order, 9, bytes([value])) + option(order, 0, b"")


COMPRESSIONS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": functools.partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
    "lz4": functools.partial(lz4.frame.compress, content_checksum=True),
}
"""With checksums, as the commands of these names write them."""


def sll(packet: bytes) -> bytes:
    """An Ethernet packet as LINUX_SLL has it: type, ARPHRD_ETHER, address length, source address, padding, protocol."""
    return struct.pack(">HHH", 0, 1, 6) + packet[6:12] + b"\xaa\xbb" + packet[12:]


def sll2(packet: bytes) -> bytes:
    """The same as LINUX_SLL2: protocol, reserved, interface, ARPHRD_ETHER, type, address length, address, padding."""
    return packet[12:14] + struct.pack(">HIHBB", 0, 7, 1, 0, 6) + packet[6:12] + b"\xaa\xbb" + packet[14:]


def contents(packets) -> list[bytes]:
    return [packets.packet(n) for n in range(len(packets))]


def all_of(batches) -> list[tuple[bytes, int]]:
    """Each packet of some batches, with its time."""
    return [(packets.packet(n), int(packets.timestamp[n])) for packets in batches for n in range(len(packets))]


def fragmented(packet: bytes, size: int) -> list[bytes]:
    """The IPv4 fragments of a packet whose header has no options, with at most ``size`` bytes of payload each."""
    ip = 14
    while packet[ip - 2 : ip] in (b"\x81\x00", b"\x88\xa8"):
        ip += 4
    payload, parts = packet[ip + 20 :], []
    for at in range(0, len(payload), size):
        part = payload[at : at + size]
        more = 0x2000 if at + size < len(payload) else 0
        header = packet[ip : ip + 2] + struct.pack(">H", 20 + len(part)) + packet[ip + 4 : ip + 6]
        header += (
            struct.pack(">H", more | 0x4000 | at // 8) + packet[ip + 8 : ip + 10] + b"\0\0" + packet[ip + 12 : ip + 20]
        )
        header = header[:10] + (0xFFFF ^ ones_complement_sum(header)).to_bytes(2) + header[12:]
        parts.append(packet[:ip] + header + part)
    return parts
