"""A capture made of generated traffic with everything that captures do to it: what comes out is what was sent."""

import random
import struct

import dpkt
import pytest

from host.capture.reader import open_captures
from host.generate import generate
from tests.host.capture.capture_files import (
    COMPRESSIONS,
    contents,
    enhanced,
    fragmented,
    interface,
    resolution,
    section,
    sll,
    sll2,
)

LOST_EVERY = 50
"""A market data packet in so many is lost."""

IPV6 = bytes(12) + b"\x86\xdd\x60" + bytes(60)


class Derived:
    """The capture, and what it consists of."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        made = generate(300, seed, sessions=3, feeds=2)
        self.sent = contents(made.packets)
        self.lost = self.fragmented = self.pieces = self.ipv6 = self.late = 0
        self.kept: list[bytes] = []
        self.captured: list[bytes] = []
        for packet in self.sent:
            self.add(packet)
        self.overtake()

    def add(self, packet: bytes) -> None:
        """One packet as it is captured: perhaps lost, tagged once more, in fragments, with a trailer."""
        tagged = packet[12:14] == b"\x81\x00"
        if tagged and self.random.random() < 1 / LOST_EVERY:
            self.lost += 1
            return
        self.kept.append(packet)
        if tagged and self.random.random() < 0.2:
            packet = packet[:12] + b"\x88\xa8\x00\x09" + packet[12:]
        parts = [packet]
        if tagged and self.random.random() < 0.2:
            parts = fragmented(packet, 32)
            self.fragmented += len(parts) > 1
            self.pieces += len(parts) if len(parts) > 1 else 0
            self.random.shuffle(parts)
        self.captured += [part + bytes(max(60 - len(part), 0)) + b"\xfe\xfe" for part in parts]
        if self.random.random() < 0.05:
            self.captured.append(IPV6)
            self.ipv6 += 1

    def overtake(self) -> None:
        """Segments with payload are overtaken by the next of their direction, which leave at once."""
        for at in range(len(self.captured) - 1):
            one, other = self.captured[at : at + 2]
            both = is_data(one) and is_data(other) and one[26:38] == other[26:38] and one != other
            if both and at > 40 and self.random.random() < 0.8:
                self.captured[at : at + 2] = [other, one]
                self.late += 1

    def pcapng(self) -> bytes:
        """Interfaces of four link types in two sections of either byte order."""
        out = b""
        half = len(self.captured) // 2
        for order, packets in (("<", self.captured[:half]), (">", self.captured[half:])):
            out += section(order)
            for link in (1, 113, 276, 228):
                out += interface(order, link, options=resolution(order, 9))
            for number, packet in enumerate(packets):
                time = 10**18 + (number + (order == ">") * half) * 1000
                kind = self.random.randrange(4 if packet[12:14] == b"\x08\x00" else 3)
                cooked = (lambda each: each, sll, sll2, lambda each: each[14:])[kind](packet)
                out += enhanced(order, cooked, time, kind)
        return out


def is_data(packet: bytes) -> bool:
    return packet[12:14] == b"\x08\x00" and packet[23] == 6 and struct.unpack(">H", packet[16:18])[0] > 40


def read_by_dpkt(packets):
    """UDP payloads by destination, and the bytes of each TCP direction without what came twice."""
    udp, tcp, due = {}, {}, {}
    for packet in packets:
        ethernet = dpkt.ethernet.Ethernet(packet)
        if not isinstance(ethernet.data, dpkt.ip.IP):
            continue
        ip = ethernet.data
        if isinstance(ip.data, dpkt.udp.UDP):
            udp.setdefault((ip.dst, ip.data.dport), []).append(bytes(ip.data.data))
        elif isinstance(ip.data, dpkt.tcp.TCP) and (ip.data.data or ip.data.flags & dpkt.tcp.TH_SYN):
            key = (ip.src, ip.data.sport, ip.dst, ip.data.dport)
            begin = ip.data.seq + bool(ip.data.flags & dpkt.tcp.TH_SYN)
            payload = bytes(ip.data.data)[max(due.setdefault(key, begin) - begin, 0) :]
            # A byte that comes before its time ends the stream: nothing behind it is compared by accident.
            assert begin <= due[key] or not payload, "a hole"
            due[key] += len(payload)
            tcp[key] = tcp.get(key, b"") + payload
    return udp, tcp


@pytest.mark.parametrize("seed", range(3))
def test_what_comes_out_is_what_was_sent(tmp_path, seed):
    derived = Derived(seed)
    assert min(derived.lost, derived.fragmented, derived.ipv6, derived.late) > 0
    data = derived.pcapng()
    path = tmp_path / "derived"
    # One more packet, cut, in a compressed stream that is whole.
    path.write_bytes(COMPRESSIONS["gzip"](data + enhanced(">", IPV6, 1)[:-3]))
    captures = open_captures([path])
    out = [packet for packets in captures.batches() for packet in contents(packets)]
    assert read_by_dpkt(out) == read_by_dpkt(derived.kept)
    counts = captures.counts
    assert counts.packets == len(derived.captured)
    assert len(out) == counts.packets - counts.fragments + counts.datagrams
    assert (counts.datagrams, counts.fragments, counts.fragments_left) == (derived.fragmented, derived.pieces, 0)
    assert counts.ipv6 == derived.ipv6
    assert counts.segments_waited > 0
    assert counts.tcp_holes == 0
    (warning,) = captures.warnings
    assert f"read the {len(derived.captured)} whole packets before it" in warning
    as_captured = open_captures([path], as_captured=True)
    assert sum(map(len, as_captured.batches())) == len(derived.captured)
    with pytest.raises(AssertionError, match="a hole"):
        read_by_dpkt(packet for packets in as_captured.batches() for packet in contents(packets))
