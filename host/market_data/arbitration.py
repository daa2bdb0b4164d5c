"""A/B feeds in software: the card's rule (docs/feeds.md) over captured packets, and a report of what each feed was worth.

Packets are taken in batches of any size, in the order of the capture; what is kept between them does not grow, whatever comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

from hdl.flow import Endpoint, Protocol, Side
from hdl.limits import PACKET_LIMIT
from hdl.sbe_framing import Framing
from host.capture.headers import transport_header
from host.capture.packets import Packets
from host.market_data.feed_rule import (
    CHANNEL_DTYPE,
    EARLY,
    GAP,
    IN_ORDER,
    OLD,
    REPEATED,
    RESET,
    SIDE_DTYPE,
    judge,
    settle,
)
from host.memory import load_word

if TYPE_CHECKING:
    import pyarrow as pa

HISTORY = 4096
"""Numbers of a channel that are remembered, for the other feed's copy to be compared with: far more than feeds lie apart. A power of
two."""

GAPS_KEPT = 10_000
"""Gaps that the report of a channel lists; all are counted."""

SAMPLE_PACKETS = 1 << 16
"""Packets that :func:`find_feeds` looks at."""

SHARED = 0.5
"""Share of the smaller group's packets that the other group must carry too for the two to be feeds of one channel; both may lose some,
and a sample begins and ends somewhere."""

EXACT_BITS = 8
"""Leads are counted in buckets: to the nanosecond below 2^8, above that to a 128th of their size."""
LEAD_BITS = 40
"""The longest lead that is told apart, 2^40 ns, is 18 minutes. Negative leads, where a capture's times step back, have buckets of
their own in front."""
HALF = 1 << EXACT_BITS - 1
BUCKETS = (LEAD_BITS - EXACT_BITS + 2) * HALF

UDP = int(Protocol.UDP)

RACE_DTYPE = np.dtype(
    [
        ("channel", np.uint16),
        ("sequence", np.uint64),
        ("winner", np.uint8),
        ("lead", np.int64),
        ("timestamp", np.uint64),
    ]
)
"""A number that both feeds brought: who was first (0: A, 1: B), by how many ns, and when the first one came (ns)."""

GAP_DTYPE = np.dtype([("channel", np.uint16), ("first", np.uint64), ("count", np.uint64), ("timestamp", np.uint64)])
"""Numbers that no feed brought in time: the first one, how many, and when the packet behind them came (ns)."""

GROUP_DTYPE = np.dtype([("address", np.int64), ("port", np.int64), ("channel", np.int64), ("side", np.int64)])
HISTORY_DTYPE = np.dtype(
    [
        ("number", np.int64),
        ("epoch", np.int64),
        ("hash", np.uint64),
        ("time", np.uint64),
        ("first", np.int64),
        ("brought", np.int64),
        ("passed", np.bool_),
    ]
)
"""A number of a channel that was brought: since which beginning anew (from 1 on), what its payload is, when and by which feed first, by which
ones at all (a bit each), and whether it was passed on."""

COUNT_DTYPE = np.dtype(
    [
        (name, np.int64)
        for name in (
            "passed",
            "first",
            "last",
            "duplicates",
            "differing",
            "late",
            "recovered",
            "gaps",
            "missing",
            "resets",
            "epoch",
        )
    ]
)
SIDE_COUNT_DTYPE = np.dtype([(name, np.int64) for name in ("packets", "unnumbered", "won", "early", "old")])
SAMPLE_DTYPE = np.dtype([("group", np.int64), ("number", np.uint64), ("hash", np.uint64)])


class FeedError(ValueError):
    """Feeds that are described wrongly, or are not there; one line that says what to do."""


class FeedPair(NamedTuple):
    """The multicast groups of a channel's two feeds."""

    a: Endpoint
    b: Endpoint

    def __str__(self) -> str:
        return f"A={self.a},B={self.b}"


def parse_feed(text: str) -> FeedPair:
    """Read ``A=224.0.31.64:14340,B=224.0.32.64:15340``. Raises :class:`FeedError`."""
    found: dict[str, Endpoint] = {}
    for part in text.split(","):
        name, equals, group = part.strip().partition("=")
        if not equals or name not in Side.__members__:
            raise FeedError(f"feed '{text}': '{part.strip()}' is not A=ADDRESS:PORT or B=ADDRESS:PORT")
        if name in found:
            raise FeedError(f"feed '{text}': {name} is there twice; a channel is A=ADDRESS:PORT,B=ADDRESS:PORT")
        try:
            found[name] = Endpoint.parse(group)
        except ValueError as error:
            raise FeedError(f"feed '{text}': {error}") from None
    if missing := [side.name for side in Side if side.name not in found]:
        raise FeedError(f"feed '{text}' has no {missing[0]}; a channel is A=ADDRESS:PORT,B=ADDRESS:PORT")
    pair = FeedPair(found["A"], found["B"])
    if pair.a == pair.b:
        raise FeedError(f"feed '{text}': A and B are one group")
    return pair


def check_feeds(pairs: Sequence[FeedPair], groups: Sequence[Endpoint]) -> None:
    """Raises :class:`FeedError` where a feed is none of the ``groups`` that the captures have, or is named twice."""
    named: set[Endpoint] = set()
    for pair in pairs:
        for side, group in zip(Side, pair, strict=True):
            if group in named:
                raise FeedError(f"feed {side.name}={group} is named twice")
            named.add(group)
            if group not in groups:
                there = ", ".join(map(str, groups)) or "none"
                raise FeedError(f"feed {side.name}={group} is not in the captures; their UDP groups: {there}")


@dataclass(frozen=True)
class SideReport:
    """What a feed of a channel brought.

    Attributes:
        packets: with a sequence number.
        unnumbered: too short to have one.
        won: numbers that both feeds brought, and this one first.
        lead_median: ns by which it was ahead where it won; None where it never did. Within half a percent above 256 ns.
        lead_99: the 99th percentile of that.
        early: left to the other feed, which was behind and could still bring what was missing before them.
        old: of before the channel began anew.
    """

    packets: int
    unnumbered: int
    won: int
    lead_median: int | None
    lead_99: int | None
    early: int
    old: int


@dataclass(frozen=True)
class ChannelReport:
    """What became of a channel.

    Attributes:
        feeds: its groups.
        sides: A's and B's part.
        passed: packets passed on, each number once.
        first, last: the first number that was passed on, and the last one so far; None where none was.
        duplicates: copies that came behind a first one.
        differing: those of them whose payload is not the first one's.
        gaps: how often numbers were missing.
        missing: how many were.
        late: of those that came after all, behind a later number; they were not passed on.
        recovered: numbers passed on that one feed had skipped and the other one brought.
        resets: how often the channel began anew.
        gap_list: rows of GAP_DTYPE, at most GAPS_KEPT.
    """

    feeds: FeedPair
    sides: tuple[SideReport, SideReport]
    passed: int
    first: int | None
    last: int | None
    duplicates: int
    differing: int
    gaps: int
    missing: int
    late: int
    recovered: int
    resets: int
    gap_list: np.ndarray


class _State(NamedTuple):
    """What the compiled loop keeps between batches."""

    groups: np.ndarray
    channels: np.ndarray
    sides: np.ndarray
    counts: np.ndarray
    side_counts: np.ndarray
    history: np.ndarray
    leads: np.ndarray


class FeedArbiter:
    """Arbitrates the channels ``pairs`` of a venue with this framing.

    Raises :class:`FeedError` where its packets have no sequence number.
    """

    def __init__(self, pairs: Sequence[FeedPair], framing: Framing) -> None:
        self._slot = _slot(framing)
        self._pairs = tuple(pairs)
        channels = len(self._pairs)
        rows = [(*group, channel, side) for channel, pair in enumerate(pairs) for side, group in enumerate(pair)]
        counts = np.zeros(channels, COUNT_DTYPE)
        counts["epoch"] = 1
        self._state = _State(
            groups=np.array(rows, GROUP_DTYPE),
            channels=np.zeros(channels, CHANNEL_DTYPE),
            sides=np.zeros((channels, len(Side)), SIDE_DTYPE),
            counts=counts,
            side_counts=np.zeros((channels, len(Side)), SIDE_COUNT_DTYPE),
            history=np.zeros((channels, HISTORY), HISTORY_DTYPE),
            leads=np.zeros((channels, len(Side), 2 * BUCKETS), np.int64),
        )
        self._gaps: list[np.ndarray] = [np.empty(0, GAP_DTYPE) for _ in pairs]

    def add(self, packets: Packets) -> np.ndarray:
        """Take the next packets. Returns their races: rows of RACE_DTYPE, one for each number that both feeds have now brought, by
        the time of its second copy."""
        return self.arbitrate(packets)[0]

    def arbitrate(self, packets: Packets) -> tuple[np.ndarray, np.ndarray]:
        """Take the next packets. Returns their races as :meth:`add` does, and by packet whether it is passed on (bool). Packets
        of no channel and those without a number are."""
        races, gaps = np.empty(len(packets), RACE_DTYPE), np.empty(len(packets), GAP_DTYPE)
        passed = np.ones(len(packets), np.bool_)
        arrays = packets.data, packets.offset, packets.length, packets.timestamp
        raced, missed = _arbitrate(*self._state, *self._slot, *arrays, races, gaps, passed)
        for channel, kept in enumerate(self._gaps):
            room = GAPS_KEPT - len(kept)
            if room and len(more := gaps[:missed][gaps[:missed]["channel"] == channel][:room]):
                self._gaps[channel] = np.concatenate([kept, more])
        return races[:raced], passed

    def report(self) -> tuple[ChannelReport, ...]:
        """What became of each channel so far."""
        return tuple(self._channel(number) for number in range(len(self._pairs)))

    def _channel(self, number: int) -> ChannelReport:
        count = {name: int(self._state.counts[number][name]) for name in COUNT_DTYPE.names or ()}
        del count["epoch"]
        begun = bool(self._state.channels[number]["begun"])
        first, last = count.pop("first"), count.pop("last")
        sides = []
        for side in Side:
            row, leads = self._state.side_counts[number, side], self._state.leads[number, side]
            sides.append(
                SideReport(
                    **{name: int(row[name]) for name in SIDE_COUNT_DTYPE.names or ()},
                    lead_median=_quantile(leads, 0.5),
                    lead_99=_quantile(leads, 0.99),
                )
            )
        return ChannelReport(
            feeds=self._pairs[number],
            sides=(sides[0], sides[1]),
            first=first if begun else None,
            last=last if begun else None,
            gap_list=self._gaps[number],
            **count,
        )


def races_table(races: np.ndarray) -> "pa.Table":
    """Races as an Arrow table with the columns channel, sequence, winner (``A`` or ``B``), lead (ns) and timestamp (ns, UTC)."""
    import pyarrow as pa

    winners = pa.DictionaryArray.from_arrays(
        pa.array(races["winner"].astype(np.int8)), pa.array([side.name for side in Side])
    )
    times = pa.array(races["timestamp"].astype(np.int64), pa.timestamp("ns", tz="UTC"))
    columns = {name: pa.array(np.ascontiguousarray(races[name])) for name in ("channel", "sequence", "lead")}
    return pa.table(
        {
            "channel": columns["channel"],
            "sequence": columns["sequence"],
            "winner": winners,
            "lead": columns["lead"],
            "timestamp": times,
        }
    )


def find_feeds(packets: Packets, groups: Sequence[Endpoint], framing: Framing) -> list[FeedPair]:
    """Which of the UDP ``groups`` are the two feeds of a channel: those of which one carries most of the other's packets, number and
    payload, in the first SAMPLE_PACKETS. A is the one with the lower address (and port). Each group belongs to one channel, the
    one with the most packets in common. Raises :class:`FeedError` where packets have no sequence number.
    """
    sample = packets.slice(0, SAMPLE_PACKETS)
    table = np.array([(*group, index, 0) for index, group in enumerate(groups)], GROUP_DTYPE)
    rows = np.empty(len(sample), SAMPLE_DTYPE)
    arrays = sample.data, sample.offset, sample.length
    rows = rows[: _sample(table, *_slot(framing), *arrays, rows)]
    carried = [np.unique(rows[rows["group"] == index][["number", "hash"]]) for index in range(len(groups))]
    candidates: list[tuple[int, FeedPair]] = []
    for one in range(len(groups)):
        for other in range(one):
            common = len(np.intersect1d(carried[one], carried[other], assume_unique=True))
            if common and common >= SHARED * min(len(carried[one]), len(carried[other])):
                candidates.append((common, FeedPair(*sorted((groups[one], groups[other])))))
    pairs: list[FeedPair] = []
    taken: set[Endpoint] = set()
    for _, pair in sorted(candidates, key=lambda each: (-each[0], each[1])):
        if not taken & set(pair):
            taken |= set(pair)
            pairs.append(pair)
    return sorted(pairs)


def _slot(framing: Framing) -> tuple[int, int, bool]:
    """Offset, size and byte order of the packet's sequence number."""
    slot = framing.packet_sequence
    if slot is None:
        raise FeedError(
            "feeds cannot be arbitrated: the venue's packets have no sequence number (framing: packet, sequence)"
        )
    return slot.offset, slot.size, framing.byte_order == "big"


def _quantile(leads: np.ndarray, share: float) -> int | None:
    """The lead that ``share`` of those counted do not exceed (the nearest rank), in ns: the middle of its bucket."""
    total = int(leads.sum())
    if not total:
        return None
    bucket = int(np.searchsorted(np.cumsum(leads), max(1, int(np.ceil(share * total))))) - BUCKETS
    size = bucket if bucket >= 0 else -bucket - 1
    doubled = max(size // HALF - 1, 0)
    lead = ((size - doubled * HALF) << doubled) + ((1 << doubled) >> 1)
    return lead if bucket >= 0 else -lead


@njit(cache=True, inline="always")
def _bucket(lead):
    """Below 2^EXACT_BITS the lead itself; above, its highest EXACT_BITS bits behind those of smaller powers of two."""
    size = min(abs(lead), (1 << LEAD_BITS) - 1)
    doubled = 0
    while size >> doubled >= 2 * HALF:
        doubled += 1
    place = doubled * HALF + (size >> doubled)
    return BUCKETS + place if lead >= 0 else BUCKETS - 1 - place


@njit(cache=True)
def _hash(payload):
    """It tells copies from packets that only have the same number: FNV-1a over words of 8 bytes and then the bytes that are left,
    each step with its high half folded into the low one, since a multiplication moves nothing down."""
    value = np.uint64(0xCBF29CE484222325)
    words = len(payload) // 8
    for index in range(words):
        value = (value ^ load_word(payload, 8 * index)) * np.uint64(0x100000001B3)
        value ^= value >> np.uint64(32)
    for index in range(8 * words, len(payload)):
        value = (value ^ np.uint64(payload[index])) * np.uint64(0x100000001B3)
    return value


@njit(cache=True, inline="always")
def _number(payload, offset, size, big):
    """The packet's sequence number, without the highest of 64 bits."""
    value = np.uint64(0)
    for n in range(size):
        at = n if big else size - 1 - n
        value = value << np.uint64(8) | np.uint64(payload[offset + at])
    return np.int64(value & np.uint64(0x7FFFFFFFFFFFFFFF))


@njit(cache=True, inline="always")
def _group_of(groups, packet):
    """Row of the packet's group (-1: of none), and begin and end of its payload."""
    protocol, ip, transport, begin, end = transport_header(packet, PACKET_LIMIT)
    if protocol != UDP or begin >= end:
        return -1, begin, end
    address = np.int64(0)
    for place in range(ip + 16, ip + 20):
        address = address << 8 | np.int64(packet[place])
    port = np.int64(packet[transport + 2]) << 8 | np.int64(packet[transport + 3])
    for index in range(len(groups)):
        if groups[index].address == address and groups[index].port == port:
            return index, begin, end
    return -1, begin, end


@njit(cache=True)
def _sample(groups, slot_offset, slot_size, big, data, offset, length, rows):
    """Number and hash of each packet of a group; returns how many there are."""
    count = 0
    for index in range(len(offset)):
        packet = data[offset[index] : offset[index] + np.uint64(length[index])]
        group, begin, end = _group_of(groups, packet)
        if group >= 0 and end - begin >= slot_offset + slot_size:
            payload = packet[begin:end]
            rows[count].group = group
            rows[count].number = np.uint64(_number(payload, slot_offset, slot_size, big))
            rows[count].hash = _hash(payload)
            count += 1
    return count


@njit(cache=True)
def _arbitrate(
    groups,
    channels,
    sides,
    counts,
    side_counts,
    history,
    leads,
    slot_offset,
    slot_size,
    big,
    data,
    offset,
    length,
    timestamp,
    races,
    gaps,
    passed,
):
    """All packets of a batch; returns how many races and gaps there were. ``passed`` is True for each of them before."""
    raced, missed = 0, 0
    for index in range(len(offset)):
        packet = data[offset[index] : offset[index] + np.uint64(length[index])]
        group, begin, end = _group_of(groups, packet)
        if group < 0:
            continue
        number_of_channel, side = groups[group].channel, groups[group].side
        side_count = side_counts[number_of_channel, side]
        if end - begin < slot_offset + slot_size:
            side_count.unnumbered += 1
            continue
        side_count.packets += 1
        payload = packet[begin:end]
        number = _number(payload, slot_offset, slot_size, big)
        time = timestamp[index]

        channel, count = channels[number_of_channel], counts[number_of_channel]
        own, other = sides[number_of_channel, side], sides[number_of_channel, 1 - side]
        verdict = judge(channel, own, other, number)
        passed[index] = verdict <= RESET
        skipped_by_other = other.present and not other.old and other.last > number
        if verdict == OLD:
            side_count.old += 1
            continue
        if verdict == EARLY:
            side_count.early += 1
        elif verdict == RESET:
            count.resets += 1
            count.epoch += 1
        elif verdict == GAP:
            row = gaps[missed]
            row.channel = number_of_channel
            row.first = channel.passed + 1
            row.count = number - channel.passed - 1
            row.timestamp = time
            missed += 1
            count.gaps += 1
            count.missing += number - channel.passed - 1
        if verdict <= RESET:
            count.passed += 1
            if not channel.begun:
                count.first = number
            count.last = number

        kept = history[number_of_channel, number & (HISTORY - 1)]
        is_known = kept.epoch == count.epoch and kept.number == number
        if verdict == REPEATED:
            # What would be remembered if it had been passed on is one of those that were missing.
            if channel.passed - number < HISTORY and not (is_known and kept.passed):
                count.late += 1
            else:
                count.duplicates += 1
        if not is_known and verdict != REPEATED:
            if verdict == IN_ORDER and skipped_by_other:
                count.recovered += 1
            kept.epoch = count.epoch
            kept.number = number
            kept.hash = _hash(payload)
            kept.time = time
            kept.first = side
            kept.brought = 1 << side
            kept.passed = False
        elif is_known:
            if kept.hash != _hash(payload):
                count.differing += 1
            if kept.brought & 1 << side == 0:
                kept.brought |= 1 << side
                lead = np.int64(time) - np.int64(kept.time)
                row = races[raced]
                row.channel = number_of_channel
                row.sequence = number
                row.winner = kept.first
                row.lead = lead
                row.timestamp = kept.time
                raced += 1
                side_counts[number_of_channel, kept.first].won += 1
                leads[number_of_channel, kept.first, _bucket(lead)] += 1
        if verdict <= RESET:
            kept.passed = True
        settle(channel, own, other, number, verdict)
    return raced, missed
