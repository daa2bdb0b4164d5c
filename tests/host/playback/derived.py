"""Two feeds of a channel with everything that networks and captures do to them, and what must come of it."""

import gzip
import random
import struct
from collections.abc import Sequence
from itertools import pairwise

from hdl.flow import Endpoint
from host.capture.packets import Packets
from host.capture.write import udp_packet
from host.generate.market_data import MarketData
from tests.host.capture.capture_files import enhanced, fragmented, interface, resolution, section

GROUPS = tuple(map(Endpoint.parse, ("224.0.31.64:14340", "224.0.32.64:15340")))
SENDER = Endpoint.parse("10.0.0.9:30000")
APART = 12
"""Numbers between two things that are done to the feeds."""

HEADERS = 14 + 20 + 8
"""Ethernet, IPv4 and UDP, as captured packets of both feeds have them."""


def side_of(packet: bytes) -> int:
    """0 for feed A, 1 for B."""
    return int(packet[30:34] == GROUPS[1].address.to_bytes(4))


def number_of(packet: bytes) -> int:
    """Its sequence number."""
    return int.from_bytes(packet[HEADERS : HEADERS + 4], "little")


def messages_of(packet: bytes) -> int:
    """How many messages it has: each begins with its size, behind number and time of the packet."""
    at, count = HEADERS + 12, 0
    while at < len(packet):
        at += int.from_bytes(packet[at : at + 2], "little")
        count += 1
    return count


def generated(numbers: int, seed: int = 1) -> Packets:
    """Both feeds of a channel without a flaw; B is first as a rule."""
    rng = random.Random(seed)
    market, sent = MarketData(rng), []
    for number in range(100, 100 + numbers):
        payload = struct.pack("<I", number) + market.packet(10**18 + 50_000 * number)[4:]
        for side in (0, 1):
            late = rng.choice((300, 4000)) if side == 0 else 900
            sent.append((10**18 + 50_000 * number + late, udp_packet(payload, SENDER, GROUPS[side])))
    sent.sort(key=lambda each: each[0])
    return Packets.of([packet for _, packet in sent], [time for time, _ in sent])


class Derived:
    """A capture derived from one of both feeds that has no flaw.

    Numbers are lost on A (in the first quarter), packets of B overtake each other (in the second), numbers are lost on B (in the third), and
    on both (in the last one). Packets are tagged, cut into fragments, and the file, gzip, ends in the middle of one.

    Attributes:
        delivered, messages: numbers that at least one feed brought, and how many messages they have.
        missing: runs of numbers that none did, (first, how many).
        packets: by feed. won: by feed, numbers that both brought and this one first. recovered: numbers that a feed had
            skipped when the other one brought them.
        datagrams, fragments: packets that were cut, and into how many in all. captured: packets that are whole in the file.
    """

    def __init__(self, whole: Sequence[bytes], times: Sequence[int], seed: int = 1) -> None:
        self._random = random.Random(seed)
        numbers = sorted({number_of(packet) for packet in whole})
        quarter = len(numbers) // 4
        parts = [numbers[n * quarter + APART : (n + 1) * quarter - APART : APART] for n in range(4)]
        lost_a, swapped, lost_b, lost_both = (set(self._random.sample(part, len(part) // 2)) for part in parts)
        for number in sorted(lost_both):
            lost_both |= set(range(number, number + self._random.randrange(1, 4)))
        lost = (lost_a | lost_both, lost_b | lost_both)
        # The feed's times stay where they are: another packet has them.
        kept = [
            (packet, time)
            for packet, time in zip(whole, times, strict=True)
            if number_of(packet) not in lost[side_of(packet)]
        ]
        order = [packet for packet, _ in kept]
        places = {number_of(packet): at for at, packet in enumerate(order) if side_of(packet) == 1}
        for number in swapped:
            one, other = places[number], places[number + 1]
            order[one], order[other] = order[other], order[one]
        self.swapped = len(swapped)
        # The last packet is cut.
        self._count(order[:-1])
        self._write(order, [time for _, time in kept])

    def _count(self, order: Sequence[bytes]) -> None:
        self.packets = [0, 0]
        self.won = [0, 0]
        self.recovered = 0
        first: dict[int, int] = {}
        self.messages = 0
        highest = [0, 0]
        for packet in order:
            side, number = side_of(packet), number_of(packet)
            self.packets[side] += 1
            if number in first:
                self.won[first[number]] += 1
            else:
                first[number] = side
                self.messages += messages_of(packet)
                self.recovered += highest[1 - side] > number
            highest[side] = max(highest[side], number)
        self.delivered = sorted(first)
        self.missing = [(one + 1, other - one - 1) for one, other in pairwise(self.delivered) if other > one + 1]

    def _write(self, order: Sequence[bytes], times: Sequence[int]) -> None:
        out = section("<") + interface("<", options=resolution("<", 9))
        self.datagrams = self.fragments = self.tagged = 0
        for packet, time in zip(order, times, strict=True):
            last = packet is order[-1]
            if self._random.random() < 0.2:
                packet = packet[:12] + b"\x81\x00\x00\x07" + packet[12:]
                self.tagged += 1
            pieces = [packet]
            if self._random.random() < 0.1 and not last:
                pieces = fragmented(packet, 40)
                if len(pieces) > 1:
                    self.datagrams += 1
                    self.fragments += len(pieces)
                    self._random.shuffle(pieces)
            for piece in pieces:
                out += enhanced("<", piece, time)
        self.captured = len(order) - 1 + self.fragments - self.datagrams
        self.content = gzip.compress(out[:-7], 1)
