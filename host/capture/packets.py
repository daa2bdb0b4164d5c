"""Packets in memory: one run of bytes and, per packet, where it lies in it and when it came."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit


@dataclass(frozen=True, eq=False)
class Packets:
    """Captured Ethernet packets, in the order of the capture. The arrays are views, never copies.

    Attributes:
        data: uint8, what the packets lie in: often a whole window of a capture file, headers and all.
        offset: uint64, per packet the offset in ``data`` of its destination MAC address.
        length: uint32, per packet the bytes that were captured (which may be fewer than were sent).
        timestamp: uint64, per packet ns since 1970. Captures may repeat a time or step back.
    """

    data: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    timestamp: np.ndarray

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, start: int, stop: int | None = None) -> Self:
        """Packets ``start`` to ``stop`` (not included; None: to the end), over the same bytes."""
        rows = slice(start, stop)
        return type(self)(self.data, self.offset[rows], self.length[rows], self.timestamp[rows])

    def take(self, rows: np.ndarray) -> Self:
        """The packets with these indices, in this order, over the same bytes."""
        return type(self)(self.data, self.offset[rows], self.length[rows], self.timestamp[rows])

    def packet(self, index: int) -> bytes:
        """One packet's bytes, copied. For tests and messages; hot loops index ``data``."""
        start = int(self.offset[index])
        return self.data[start : start + int(self.length[index])].tobytes()

    def copied(self) -> Self:
        """The same packets over bytes of their own, nothing between them."""
        return self.joined([self])

    @classmethod
    def joined(cls, parts: Sequence["Packets"]) -> Self:
        """The packets of all parts, one behind the other, over bytes of their own, nothing between them."""
        if not parts:
            return cls.of([])
        length = np.concatenate([part.length for part in parts])
        end = np.cumsum(length, dtype=np.uint64)
        data = np.empty(int(end[-1]) if len(end) else 0, np.uint8)
        at = 0
        for part in parts:
            at = _gather(part.data, part.offset, part.length, data, at)
        return cls(data, end - length, length, np.concatenate([part.timestamp for part in parts]))

    @classmethod
    def of(cls, packets: Sequence[bytes], timestamp: Sequence[int] | np.ndarray | None = None) -> Self:
        """Packets from byte strings; without ``timestamp`` (ns) they came one nanosecond apart from 0."""
        length = np.fromiter((len(packet) for packet in packets), np.uint32, len(packets))
        end = np.cumsum(length, dtype=np.uint64)
        times = np.arange(len(packets), dtype=np.uint64) if timestamp is None else np.asarray(timestamp, np.uint64)
        if len(times) != len(packets):
            raise ValueError(f"{len(packets)} packets but {len(times)} timestamps")
        return cls(np.frombuffer(b"".join(packets), np.uint8), end - length, length, times)


def sliced(batches: Iterable[Packets], most: int) -> Iterator[Packets]:
    """The packets of all batches, at most ``most`` at a time."""
    for packets in batches:
        for start in range(0, len(packets), most):
            yield packets.slice(start, start + most)


@njit(cache=True)
def _gather(data, offset, length, out, at):
    """Copy packets one behind the other, from ``out[at]`` on; returns where they end."""
    for index in range(len(offset)):
        start, size = np.int64(offset[index]), np.int64(length[index])
        for place in range(size):
            out[at + place] = data[start + place]
        at += size
    return at
