"""Builds packets and writes captures: what the generator and the tests send.

Headers are those of RFC 791 (IPv4), RFC 768 (UDP) and RFC 9293 (TCP), lengths and checksums filled in.
"""

import os
import struct
from collections.abc import Sequence

import numpy as np
from numba import njit

from hdl.flow import Endpoint, Protocol
from host.capture.packets import Packets

PCAP_NS_MAGIC = 0xA1B23C4D
SNAP_LENGTH = 65535

FIN, SYN, PUSH, ACKNOWLEDGE = 0x01, 0x02, 0x08, 0x10
"""TCP's flags (RFC 9293, section 3.1)."""

VLAN_TPIDS = (0x8100, 0x88A8)
"""EtherTypes of the innermost tag (802.1Q) and of an outer one (802.1ad)."""

WRITTEN_AT_ONCE = 1 << 16
"""Packets turned into pcap records by one call, so that a large capture is not held twice."""


def ones_complement_sum(data: bytes) -> int:
    """The Internet checksum's sum of 16-bit words before it is inverted (RFC 1071), 0 to 0xFFFF.

    The words' sum with end-around carry is the number modulo 65535, because 65536 ≡ 1; a sum that is not zero but
    a multiple of 65535 stands as 0xFFFF.
    """
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return number % 0xFFFF or (0xFFFF if number else 0)


def _ethernet(destination: int, vlans: Sequence[int], source_mac: bytes) -> bytes:
    """The Ethernet header of an IPv4 packet to address ``destination``, ``vlans`` from the outside in."""
    # Multicast addresses map to their MAC (RFC 1112); others get a locally administered one.
    if destination >> 28 == 0xE:
        mac = b"\x01\x00\x5e" + (destination & 0x7FFFFF).to_bytes(3, "big")
    else:
        mac = b"\x02\x00" + destination.to_bytes(4, "big")
    tags = b"".join(
        struct.pack(">HH", VLAN_TPIDS[min(len(vlans) - 1 - level, 1)], vlan) for level, vlan in enumerate(vlans)
    )
    return mac + source_mac + tags + b"\x08\x00"


def _ipv4(payload_bytes: int, protocol: int, source: int, destination: int, identification: int) -> bytes:
    header = struct.pack(
        ">BBHHHBBHII", 0x45, 0, 20 + payload_bytes, identification, 0x4000, 64, protocol, 0, source, destination
    )
    return header[:10] + (0xFFFF ^ ones_complement_sum(header)).to_bytes(2, "big") + header[12:]


def _datagram(
    segment: bytes,
    checksum_at: int,
    protocol: int,
    source: Endpoint,
    destination: Endpoint,
    vlans: Sequence[int],
    identification: int,
) -> bytes:
    pseudo_header = struct.pack(">IIHH", source.address, destination.address, protocol, len(segment))
    checksum = 0xFFFF ^ ones_complement_sum(pseudo_header + segment)
    if protocol == Protocol.UDP:
        checksum = checksum or 0xFFFF  # 0 would mean 'none' (RFC 768)
    return b"".join(
        (
            _ethernet(destination.address, vlans, b"\x02\x00" + source.address.to_bytes(4, "big")),
            _ipv4(len(segment), protocol, source.address, destination.address, identification),
            segment[:checksum_at],
            checksum.to_bytes(2, "big"),
            segment[checksum_at + 2 :],
        )
    )


def udp_packet(
    payload: bytes, source: Endpoint, destination: Endpoint, *, vlans: Sequence[int] = (), identification: int = 0
) -> bytes:
    """An Ethernet packet with a UDP datagram, without padding and FCS.

    Args:
        payload: at most 65507 bytes.
        source: address and port that it comes from.
        destination: address and port that it goes to; a multicast address gets its multicast MAC.
        vlans: tag control information of each VLAN tag, from the outside in.
        identification: of the IP header.
    """
    segment = struct.pack(">HHHH", source.port, destination.port, 8 + len(payload), 0) + payload
    return _datagram(segment, 6, Protocol.UDP, source, destination, vlans, identification)


def tcp_packet(
    payload: bytes,
    source: Endpoint,
    destination: Endpoint,
    *,
    sequence: int,
    acknowledgement: int = 0,
    flags: int = PUSH | ACKNOWLEDGE,
    vlans: Sequence[int] = (),
    identification: int = 0,
) -> bytes:
    """An Ethernet packet with a TCP segment without options, padding and FCS.

    Args:
        payload: the segment's bytes, possibly none.
        source: address and port that it comes from.
        destination: address and port that it goes to.
        sequence: number of the payload's first byte, modulo 2^32.
        acknowledgement: number of the next byte that is expected.
        flags: FIN, SYN, PUSH, ACKNOWLEDGE.
        vlans: tag control information of each VLAN tag, from the outside in.
        identification: of the IP header.
    """
    header = struct.pack(
        ">HHIIBBHHH",
        source.port,
        destination.port,
        sequence & 0xFFFFFFFF,
        acknowledgement & 0xFFFFFFFF,
        0x50,
        flags,
        0xFFFF,
        0,
        0,
    )
    return _datagram(header + payload, 16, Protocol.TCP, source, destination, vlans, identification)


def write_pcap(path: str | os.PathLike[str], packets: Packets) -> None:
    """Write a little-endian nanosecond pcap file of Ethernet packets. Times beyond 2106 wrap, as pcap's do."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", PCAP_NS_MAGIC, 2, 4, 0, 0, SNAP_LENGTH, 1))
        for start in range(0, len(packets), WRITTEN_AT_ONCE):
            part = packets.slice(start, start + WRITTEN_AT_ONCE)
            out = np.empty(int(part.length.sum(dtype=np.uint64)) + 16 * len(part), np.uint8)
            _records(part.data, part.offset, part.length, part.timestamp, out)
            file.write(out.data)


@njit(cache=True)
def _records(data: np.ndarray, offset: np.ndarray, length: np.ndarray, timestamp: np.ndarray, out: np.ndarray) -> None:
    at = np.int64(0)
    billion = np.uint64(1_000_000_000)
    for index in range(len(offset)):
        size = np.int64(length[index])
        words = (timestamp[index] // billion, timestamp[index] % billion, np.uint64(size), np.uint64(size))
        for word in words:
            for byte in range(4):
                out[at + byte] = (word >> np.uint64(8 * byte)) & np.uint64(0xFF)
            at += 4
        start = np.int64(offset[index])
        out[at : at + size] = data[start : start + size]
        at += size
