"""Where things stand in a captured Ethernet packet, by the rules of docs/ethernet.md."""

import numpy as np
from numba import njit

from hdl.flow import Protocol
from hdl.headers import (
    ETHERTYPE_BYTES,
    ETHERTYPE_OFFSET,
    FRAGMENT_OFFSET,
    IPV4,
    IPV4_HEADER_BYTES,
    MORE_FRAGMENTS,
    MOST_VLAN_TAGS,
    TCP_HEADER_BYTES,
    UDP_HEADER_BYTES,
    VLAN_TAG_BYTES,
    VLAN_TAGS,
)

IPV6 = 0x86DD
"""EtherType of what no parser reads, and which is counted."""

OTHER, TCP, FRAGMENT, SIX = range(4)
"""Kinds of packets, as the stages behind the reader want to know them: anything else, whole TCP segments, IPv4
fragments, IPv6."""
KINDS = 4

TCP_PROTOCOL, UDP_PROTOCOL = int(Protocol.TCP), int(Protocol.UDP)

Offset = int | np.int64


@njit(cache=True, inline="always")
def number(packet: np.ndarray, at: int, size: int) -> np.int64:
    """``size`` bytes in network order."""
    value = np.int64(0)
    for place in range(at, at + size):
        value = value << 8 | np.int64(packet[place])
    return value


@njit(cache=True)
def ip_header(packet: np.ndarray) -> tuple[Offset, Offset]:
    """The EtherType behind at most two VLAN tags, and where the header behind it begins; zeros where the packet ends before."""
    size = len(packet)
    ip = ETHERTYPE_OFFSET + ETHERTYPE_BYTES
    for _ in range(MOST_VLAN_TAGS):
        if size >= ip and number(packet, ip - 2, 2) in VLAN_TAGS:
            ip += VLAN_TAG_BYTES
    if size < ip:
        return 0, 0
    return number(packet, ip - 2, 2), ip


@njit(cache=True)
def ipv4_header(packet: np.ndarray) -> tuple[Offset, Offset, Offset]:
    """Where the IPv4 header begins, its length and the packet's total length; zeros where there is none that can be right.

    The packet need not be there up to its end.
    """
    nothing = (0, 0, 0)
    ethertype, ip = ip_header(packet)
    if ethertype != IPV4 or len(packet) < ip + IPV4_HEADER_BYTES:
        return nothing
    header = (np.int64(packet[ip]) & 15) * 4
    total = number(packet, ip + 2, 2)
    if packet[ip] >> 4 != 4 or header < IPV4_HEADER_BYTES or header > total:
        return nothing
    return ip, header, total


@njit(cache=True)
def transport_header(packet: np.ndarray, most: int) -> tuple[Offset, Offset, Offset, Offset, Offset]:
    """Protocol, offsets of the IP and transport headers, begin and end of the payload that is there.

    All zeros where the rules pass the packet over, with ``most`` bytes as the longest IP packet.
    """
    nothing = (0, 0, 0, 0, 0)
    ip, header, total = ipv4_header(packet)
    if ip == 0 or total > most or number(packet, ip + 6, 2) & FRAGMENT_OFFSET != 0:
        return nothing
    protocol = np.int64(packet[ip + 9])
    transport = ip + header
    end = min(len(packet), ip + total)
    if protocol == UDP_PROTOCOL:
        return (
            (protocol, ip, transport, transport + UDP_HEADER_BYTES, end)
            if end >= transport + UDP_HEADER_BYTES
            else nothing
        )
    if protocol != TCP_PROTOCOL or end < transport + TCP_HEADER_BYTES:
        return nothing
    data_offset = (np.int64(packet[transport + 12]) >> 4) * 4
    if data_offset < TCP_HEADER_BYTES or transport + data_offset > ip + total:
        return nothing
    return protocol, ip, transport, transport + data_offset, end


@njit(cache=True)
def sort_kinds(data, offset, length, kinds, counts):
    """Write each packet's kind to ``kinds``, and add how many there are of each to ``counts``."""
    for index in range(len(offset)):
        packet = data[offset[index] : offset[index] + np.uint64(length[index])]
        kind = OTHER
        ethertype, ip = ip_header(packet)
        if ethertype == IPV6:
            kind = SIX
        elif ethertype == IPV4 and len(packet) >= ip + IPV4_HEADER_BYTES:
            if number(packet, ip + 6, 2) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0:
                kind = FRAGMENT
            elif packet[ip + 9] == TCP_PROTOCOL:
                kind = TCP
        kinds[index] = kind
        counts[kind] += 1
