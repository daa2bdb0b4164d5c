"""Puts IPv4 fragments together (RFC 791, section 3.2), so that a card gets whole datagrams.

What cannot be put together is passed on as it was captured, for the card to count.
"""

from dataclasses import dataclass, field

import numpy as np

from hdl.headers import FRAGMENT_OFFSET, IPV4_HEADER_BYTES, MORE_FRAGMENTS
from host.capture.headers import FRAGMENT, ipv4_header
from host.capture.packets import Packets
from host.capture.write import ones_complement_sum

WAIT_NS = 30_000_000_000
"""By the capture's clock, how long a datagram's first fragment waits for the others (Linux's ipfrag_time)."""

DATAGRAMS_MAX = 1024
"""Datagrams waited for at a time; one more, and the oldest is given up."""

BYTES_MAX = 16 << 20
"""Bytes of all fragments that wait; beyond, the oldest datagram is given up."""

FRAGMENTS_MAX = 1024
"""Fragments of a datagram. The longest one has 119 where links take the 576 bytes that all must take (RFC 791)."""

IPV4_BYTES_MAX = 65535

Key = tuple[bytes, bytes, int, bytes]
"""Source, destination, protocol and identification: what fragments of one datagram have in common."""


@dataclass
class _Datagram:
    """Fragments of one datagram as they came: packets and times, and what is known of the payload."""

    packets: list[bytes] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    parts: list[tuple[int, bytes]] = field(default_factory=list)
    """Offset and bytes of each fragment's payload."""
    header: bytes = b""
    """Everything in front of the payload, of the fragment that has its begin."""
    ip: int = 0
    """Where the IP header begins in ``header``."""
    end: int | None = None
    """The payload's length, known by the last fragment."""

    def add(self, packet: bytes, time: int, ip: int, header: int, total: int) -> None:
        word = int.from_bytes(packet[ip + 6 : ip + 8])
        offset = (word & FRAGMENT_OFFSET) * 8
        payload = packet[ip + header : ip + total]
        self.packets.append(packet)
        self.times.append(time)
        self.parts.append((offset, payload))
        if offset == 0 and not self.header:
            self.header, self.ip = packet[: ip + header], ip
        if not word & MORE_FRAGMENTS and self.end is None:
            self.end = offset + len(payload)

    def whole(self) -> bytes | None:
        """The datagram as one packet; None while bytes are missing. Of bytes that came twice the first ones count."""
        if self.end is None or not self.header or len(self.header) - self.ip + self.end > IPV4_BYTES_MAX:
            return None
        reached = 0
        for offset, payload in sorted(self.parts, key=lambda part: part[0]):
            if offset > reached:
                return None
            reached = max(reached, offset + len(payload))
        if reached < self.end:
            return None
        joined = bytearray(reached)
        for offset, payload in reversed(self.parts):
            joined[offset : offset + len(payload)] = payload
        return self._header() + bytes(joined[: self.end])

    def _header(self) -> bytes:
        """The first fragment's headers, with the length and flags of the whole, and the checksum for it."""
        assert self.end is not None
        link, header = self.header[: self.ip], bytearray(self.header[self.ip :])
        header[2:4] = (len(header) + self.end).to_bytes(2)
        header[6:8] = (int.from_bytes(header[6:8]) & ~(MORE_FRAGMENTS | FRAGMENT_OFFSET)).to_bytes(2)
        header[10:12] = bytes(2)
        header[10:12] = (0xFFFF ^ ones_complement_sum(bytes(header))).to_bytes(2)
        return link + bytes(header)


class Reassembly:
    """Takes batches of packets and gives them back with whole datagrams for fragments.

    A datagram stands where its last fragment stood, and has its time. Fragments that are cut, whose lengths cannot be, or
    whose datagram is given up, are passed on as they are.

    Attributes:
        datagrams: how many were put together.
        fragments: of how many fragments.
        given_up: fragments passed on as they were.
    """

    def __init__(self) -> None:
        self.datagrams = self.fragments = self.given_up = 0
        self._waiting: dict[Key, _Datagram] = {}
        self._bytes = 0
        self._out: list[tuple[int, bytes, int]] = []
        """What is put in, by where: the index of the packet that it stands for."""

    def put(self, packets: Packets, kinds: np.ndarray) -> Packets:
        """The next batch, whose packets are of the given kinds (see headers.py)."""
        rows = np.flatnonzero(kinds == FRAGMENT).tolist()
        if not rows and not self._waiting:
            return packets
        self._out = []
        for row in rows:
            self._fragment(row, packets.packet(row), int(packets.timestamp[row]))
        if len(packets):
            self._give_up_older(len(packets), int(packets.timestamp[-1]))
        if not rows and not self._out:
            return packets
        kept = np.flatnonzero(kinds != FRAGMENT)
        place = np.concatenate([kept, np.array([at for at, _, _ in self._out], np.int64)])
        made = Packets.of([packet for _, packet, _ in self._out], [time for _, _, time in self._out])
        return Packets.joined([packets.take(kept), made]).take(np.argsort(place, kind="stable"))

    def rest(self) -> Packets:
        """What still waits at the end, as it was captured."""
        self._out = []
        while self._waiting:
            self._give_up_oldest(0)
        return Packets.of([packet for _, packet, _ in self._out], [time for _, _, time in self._out])

    def _fragment(self, row: int, packet: bytes, time: int) -> None:
        self._give_up_older(row, time)
        ip, header, total = map(int, ipv4_header(np.frombuffer(packet, np.uint8)))
        word = int.from_bytes(packet[ip + 6 : ip + 8])
        end = (word & FRAGMENT_OFFSET) * 8 + total - header
        odd = word & MORE_FRAGMENTS and (total - header) % 8
        if not ip or ip + total > len(packet) or total == header or odd or end + IPV4_HEADER_BYTES > IPV4_BYTES_MAX:
            self.given_up += 1
            self._out.append((row, packet, time))
            return
        key = (packet[ip + 12 : ip + 16], packet[ip + 16 : ip + 20], packet[ip + 9], packet[ip + 4 : ip + 6])
        datagram = self._waiting.setdefault(key, _Datagram())
        datagram.add(packet, time, ip, header, total)
        self._bytes += len(packet)
        if (whole := datagram.whole()) is not None:
            self._forget(key)
            self.datagrams += 1
            self.fragments += len(datagram.packets)
            self._out.append((row, whole, time))
        elif len(datagram.packets) > FRAGMENTS_MAX:
            self._give_up(row, key)
        while len(self._waiting) > DATAGRAMS_MAX or self._bytes > BYTES_MAX:
            self._give_up_oldest(row)

    def _give_up_older(self, row: int, time: int) -> None:
        while self._waiting and time - next(iter(self._waiting.values())).times[0] > WAIT_NS:
            self._give_up_oldest(row)

    def _give_up_oldest(self, row: int) -> None:
        self._give_up(row, next(iter(self._waiting)))

    def _give_up(self, row: int, key: Key) -> None:
        datagram = self._forget(key)
        self.given_up += len(datagram.packets)
        self._out += [(row, packet, time) for packet, time in zip(datagram.packets, datagram.times, strict=True)]

    def _forget(self, key: Key) -> _Datagram:
        datagram = self._waiting.pop(key)
        self._bytes -= sum(map(len, datagram.packets))
        return datagram
