"""Packets as the window of a PCIe card takes them (docs/pcie.md)."""

import numpy as np
from numba import njit

from hdl.pcie_map import PACKET_HEADER
from host.memory import load_word

HEADER_WORDS = sum(PACKET_HEADER.values()) // 64


@njit(cache=True)
def pack_packets(
    data: np.ndarray,
    offset: np.ndarray,
    length: np.ndarray,
    timestamp: np.ndarray,
    first: int,
    words: np.ndarray,
) -> tuple[int, int]:
    """Packets from number ``first`` on as the window takes them, as many as ``words`` has room for: how many words, and the number of
    the next packet."""
    at = 0
    while first < len(length):
        count = np.int64(length[first])
        if at + HEADER_WORDS + (count + 7) // 8 > len(words):
            break
        words[at] = count
        words[at + 1] = timestamp[first]
        at += HEADER_WORDS
        begin = np.int64(offset[first])
        whole = int(count // 8)
        for number in range(whole):
            words[at + number] = load_word(data, begin + 8 * number)
        at += whole
        if count % 8:
            rest = np.uint64(0)
            for number in range(count % 8):
                rest |= np.uint64(data[begin + 8 * whole + number]) << np.uint64(8 * number)
            words[at] = rest
            at += 1
        first += 1
    return at, first
