"""Packets to payload bytes of a flow, compiled: docs/ethernet.md, rule by rule."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from hdl.flow import Flow, Parser, Protocol
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
from hdl.limits import PACKET_LIMIT
from hdl.register_map import COUNTERS
from host.memory import INLINED, KERNEL, address_of, load_number

FLOW_DTYPE = np.dtype(
    [
        ("protocol", np.int64),
        ("destination_address", np.int64),
        ("destination_port", np.int64),
        ("source_address", np.int64),
        ("source_port", np.int64),
        ("parser", np.int64),
        ("followed", np.bool_),
        ("channel", np.int64),
        ("side", np.int64),
    ]
)
"""A row of the flow table; a source address or port of 0 fits any. ``followed``: by TCP's sequence numbers. ``channel`` and ``side``
of a flow that is arbitrated; of others -1."""

FOLLOWED_DTYPE = np.dtype([("next", np.int64), ("known", np.bool_), ("renewed", np.bool_)])
"""Where a followed flow is: the sequence number that is due, whether it is known, and whether a SYN has begun another
connection of which no byte has come yet."""

_COUNTER = {name: index for index, name in enumerate(COUNTERS)}
OTHER = _COUNTER["other"]
DAMAGED = _COUNTER["damaged"]
OVERSIZE = _COUNTER["oversize"]
FRAGMENTS = _COUNTER["fragments"]
UNMATCHED = _COUNTER["unmatched"]
EMPTY = _COUNTER["empty"]
REPEATED = _COUNTER["repeated"]
PARSED = _COUNTER["parsed"]

TCP = int(Protocol.TCP)
UDP = int(Protocol.UDP)

SEQUENCE_OFFSET, FLAGS_OFFSET = 4, 13
SYN = 0x02
SEQUENCES = 1 << 32
NO_HOLE = -1


def flow_table(flows: Sequence[Flow]) -> np.ndarray:
    """The flow table as an array of FLOW_DTYPE."""
    return np.array(
        [
            (flow.protocol, *flow.destination, *flow.source, flow.parser, is_followed(flow), *(flow.feed or (-1, -1)))
            for flow in flows
        ],
        FLOW_DTYPE,
    )


def is_followed(flow: Flow) -> bool:
    """Whether a row is one direction of one TCP connection that FIX is read from."""
    return (
        flow.protocol is Protocol.TCP
        and flow.parser is Parser.FIX
        and flow.source.address != 0
        and flow.source.port != 0
    )


@njit(inline="always")
def _big_endian_16(data, index):
    return np.int64(load_number(address_of(data, index), 2, 0, 1))


@njit(inline="always")
def _big_endian_32(data, index):
    return np.int64(load_number(address_of(data, index), 4, 0, 1))


@njit(**INLINED)
def dissect(data, start, length, flows):
    """What becomes of the packet at ``data[start : start + length]``.

    Returns the counter that it belongs to and, for PARSED and EMPTY, the row of the flow table, where its TCP or UDP
    header begins, where its payload begins and ends in ``data``, and whether it is a fragment.
    """
    end = start + length
    at = start + ETHERTYPE_OFFSET
    for _ in range(MOST_VLAN_TAGS):
        if at + ETHERTYPE_BYTES > end or _big_endian_16(data, at) not in VLAN_TAGS:
            break
        at += VLAN_TAG_BYTES
    if at + ETHERTYPE_BYTES > end:
        return DAMAGED, 0, 0, 0, 0, False
    if _big_endian_16(data, at) != IPV4:
        return OTHER, 0, 0, 0, 0, False

    ip = at + ETHERTYPE_BYTES
    if end - ip < IPV4_HEADER_BYTES:
        return DAMAGED, 0, 0, 0, 0, False
    header_bytes = np.int64(data[ip] & 15) * 4
    total_bytes = _big_endian_16(data, ip + 2)
    if data[ip] >> 4 != 4 or header_bytes < IPV4_HEADER_BYTES or header_bytes > total_bytes:
        return DAMAGED, 0, 0, 0, 0, False
    if total_bytes > PACKET_LIMIT:
        return OVERSIZE, 0, 0, 0, 0, False
    fragment = _big_endian_16(data, ip + 6)
    if fragment & FRAGMENT_OFFSET:
        return FRAGMENTS, 0, 0, 0, 0, False
    protocol = np.int64(data[ip + 9])
    if protocol not in (TCP, UDP):
        return OTHER, 0, 0, 0, 0, False
    if end - ip < header_bytes:
        return DAMAGED, 0, 0, 0, 0, False

    transport = ip + header_bytes
    there = min(end, ip + total_bytes)
    if protocol == UDP:
        if there - transport < UDP_HEADER_BYTES:
            return DAMAGED, 0, 0, 0, 0, False
        payload = transport + UDP_HEADER_BYTES
    else:
        if there - transport < TCP_HEADER_BYTES:
            return DAMAGED, 0, 0, 0, 0, False
        data_offset = np.int64(data[transport + 12] >> 4) * 4
        if data_offset < TCP_HEADER_BYTES or data_offset > total_bytes - header_bytes:
            return DAMAGED, 0, 0, 0, 0, False
        payload = transport + data_offset

    source_address = _big_endian_32(data, ip + 12)
    destination_address = _big_endian_32(data, ip + 16)
    source_port = _big_endian_16(data, transport)
    destination_port = _big_endian_16(data, transport + 2)
    for number in range(flows.size):
        row = flows[number]
        if (
            row.protocol == protocol
            and row.destination_port == destination_port
            and row.destination_address == destination_address
            and (row.source_port == 0 or row.source_port == source_port)
            and (row.source_address == 0 or row.source_address == source_address)
        ):
            if payload >= there:
                return EMPTY, number, transport, payload, payload, False
            return PARSED, number, transport, payload, there, fragment & MORE_FRAGMENTS != 0
    return UNMATCHED, 0, 0, 0, 0, False


@njit(**KERNEL)
def follow(flow, data, transport, begin, end):
    """What of the payload ``data[begin:end]`` of a followed flow's segment, whose header is at ``transport``, is new.

    Returns the counter that the packet belongs to, where the new bytes begin, and how many bytes are missing before
    them (NO_HOLE: it is no hole). Doing so again changes nothing; :func:`settle` does, once the bytes are taken.
    """
    sequence = _big_endian_32(data, transport + SEQUENCE_OFFSET)
    if data[transport + FLAGS_OFFSET] & SYN:
        sequence = (sequence + 1) % SEQUENCES
        flow.renewed |= flow.known and flow.next != sequence
        flow.known = True
        flow.next = sequence
    if begin >= end:
        return EMPTY, begin, NO_HOLE
    if not flow.known:
        flow.known = True
        flow.next = sequence
    ahead = (sequence - flow.next + SEQUENCES // 2) % SEQUENCES - SEQUENCES // 2
    if ahead <= begin - end:
        return REPEATED, end, NO_HOLE
    if ahead > 0:
        return PARSED, begin, ahead
    return PARSED, begin - ahead, 0 if flow.renewed else NO_HOLE


@njit(**KERNEL)
def settle(flow, begin, end, missing):
    """The parser has been told of what :func:`follow` found, and takes the bytes ``[begin, end)``."""
    flow.next = (flow.next + max(missing, 0) + end - begin) % SEQUENCES
    flow.renewed = False
