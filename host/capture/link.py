"""Makes Ethernet packets of what was captured below other link layers, where they lie: cards take Ethernet.

The headers of Linux's cooked capture are longer than Ethernet's, so that it fits into them; IP without a link layer
has the capture's own record header in front of it, of which nobody needs the bytes any more.
"""

from pathlib import Path

import numpy as np
from numba import njit

from hdl.headers import ETHERTYPE_BYTES, ETHERTYPE_OFFSET, IPV4
from host.capture.headers import IPV6
from host.capture.source import CaptureError

ETHERNET, RAW, LINUX_SLL, IPV4_ONLY, IPV6_ONLY, LINUX_SLL2 = 1, 101, 113, 228, 229, 276
LINK_TYPES = frozenset((ETHERNET, RAW, LINUX_SLL, IPV4_ONLY, IPV6_ONLY, LINUX_SLL2))
"""The link types that are read (tcpdump.org/linktypes.html)."""

OTHERS = {
    0: "NULL (BSD loopback)",
    9: "PPP",
    105: "IEEE802_11 (Wi-Fi)",
    108: "LOOP (OpenBSD loopback)",
    127: "IEEE802_11_RADIOTAP (Wi-Fi)",
    189: "USB_LINUX",
    195: "IEEE802_15_4",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    220: "USB_LINUX_MMAPPED",
}
"""Names of others that people meet."""

SLL_HEADER, SLL2_HEADER = 16, 20
ETHERNET_HEADER = ETHERTYPE_OFFSET + ETHERTYPE_BYTES
SOURCE_MAC = 6
"""Where the source address stands in an Ethernet header, behind the destination's."""


def link_error(path: Path, link_type: int, at: int) -> CaptureError:
    """What is said of a link type that is not read."""
    return CaptureError(
        f"{path}: link type {link_type}, {OTHERS.get(link_type, 'unknown')}, at byte offset {at}; "
        "only Ethernet, Linux cooked and raw IP are read, capture on the Ethernet interface itself"
    )


@njit(cache=True)
def to_ethernet(data, offset, length, link):
    """Turn packets of ``link`` types into Ethernet packets in place: ``data``, ``offset`` and ``length`` change.

    Addresses that the capture does not have are 0. A packet that ends within its link header becomes an Ethernet packet
    that ends before its EtherType. In front of a packet there must be ETHERNET_HEADER bytes that may be overwritten.
    """
    for index in range(len(offset)):
        kind = link[index]
        if kind in (LINUX_SLL, LINUX_SLL2):
            header = SLL_HEADER if kind == LINUX_SLL else SLL2_HEADER
            shift = header - ETHERNET_HEADER
            start, whole = np.int64(offset[index]), length[index] >= header
            offset[index] += np.uint64(min(shift, length[index]))
            length[index] -= np.uint32(min(shift, length[index]))
            if not whole:
                continue
            # Both have the source address in front of what becomes the EtherType: SLL2's own one stands at its begin.
            if kind == LINUX_SLL2:
                for place in range(ETHERTYPE_BYTES):
                    data[start + header - ETHERTYPE_BYTES + place] = data[start + place]
            else:
                for place in range(6):
                    data[start + 13 - place] = data[start + 11 - place]
            for place in range(SOURCE_MAC):
                data[start + shift + place] = 0
        elif kind in (RAW, IPV4_ONLY, IPV6_ONLY):
            start = np.int64(offset[index])
            ethertype = IPV6 if kind == IPV6_ONLY else IPV4
            if kind == RAW and length[index] > 0 and data[start] >> 4 == 6:
                ethertype = IPV6
            for place in range(ETHERTYPE_OFFSET):
                data[start - ETHERNET_HEADER + place] = 0
            data[start - 2] = ethertype >> 8
            data[start - 1] = ethertype & 0xFF
            offset[index] -= np.uint64(ETHERNET_HEADER)
            length[index] += np.uint32(ETHERNET_HEADER)
