"""Feeds in software: what a generator did to two feeds is what the report says of them."""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.flow import Endpoint, Side
from hdl.limits import FEED_WINDOW
from hdl.sbe_framing import Framing
from hdl.sbe_schema import Slot
from hdl.sbe_venue import load_venue
from host.capture.flows import find_flows
from host.capture.packets import Packets
from host.capture.reader import open_capture
from host.capture.write import udp_packet
from host.market_data.arbitration import (
    FeedArbiter,
    FeedError,
    FeedPair,
    check_feeds,
    find_feeds,
    parse_feed,
    races_table,
)

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
CME = DATA / "cme_mdp3" / "Cme.Mdp3.Sbe.v6.1.pcap"
CME_SCHEMA = DATA / "schemas" / "omi" / "Cme.Futures.Mdp3.Sbe.v1.6.xml"

SENDER = Endpoint.parse("10.0.0.9:30000")
PAIR = parse_feed("A=224.0.31.64:14340,B=224.0.32.64:15340")
FRAMING = Framing(packet_size=8, packet_sequence=Slot(2, 4))
NUMBERS = struct.Struct("<2xI2x")
STEP = 1_000
"""ns from a number to the next one."""


@dataclass
class Feeds:
    """Two feeds of a channel as somebody makes them, and what they should be found to be."""

    lead: int
    """Numbers by which A is ahead of B."""
    copies: list[tuple[int, Side, int, bytes]] = field(default_factory=list)
    """When, whose, number, and the rest of the payload."""
    number: int = 5000
    slot: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    expected: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("passed", "duplicates", "late", "recovered", "missing", "resets"), 0)
    )
    early: int = 0
    old: int = 0

    def bring(self, side: Side, number: int, slot: int) -> None:
        """A copy, in the slot of time that belongs to it."""
        delay = 0 if side is Side.A else self.lead * STEP + STEP // 2
        self.copies.append((slot * STEP + delay, side, number, b"payload %d" % number))

    def both(self, count: int) -> None:
        """So many numbers on both feeds."""
        for _ in range(count):
            for side in Side:
                self.bring(side, self.number, self.slot)
            self.next()
            self.expected["passed"] += 1
            self.expected["duplicates"] += 1

    def next(self) -> None:
        self.number += 1
        self.slot += 1

    def left_to_b(self, count: int) -> None:
        """Numbers of which A's copies are left to B, which is behind; then a pause in which B catches up."""
        self.both(count)
        self.slot += self.lead + 2
        self.early += count
        self.expected["duplicates"] -= count

    def lost(self, side: Side) -> None:
        """A number that only the other feed brings."""
        self.bring(Side(1 - side), self.number, self.slot)
        self.next()
        self.expected["passed"] += 1
        if side is Side.A:
            self.expected["recovered"] += 1
            self.left_to_b(self.lead + 5)

    def lost_by_both(self, count: int) -> None:
        """Numbers that no feed brings: that is known when B has come past them too."""
        self.gaps.append((self.number, count))
        self.expected["missing"] += count
        self.number += count
        self.slot += count
        self.left_to_b(self.lead + 5)

    def late(self) -> None:
        """A number that A never brings, and B only behind a later one."""
        hole, slot = self.number, self.slot
        self.lost_by_both(1)
        self.bring(Side.B, hole, slot + 3)
        self.expected["late"] += 1

    def repeated(self, side: Side) -> None:
        """A packet that a feed brings twice."""
        self.bring(side, self.number, self.slot)
        self.both(1)
        self.expected["duplicates"] += 1

    def swapped_by_b(self) -> None:
        """Two packets that overtook each other on the feed that is behind anyway."""
        for n in range(2):
            self.bring(Side.A, self.number + n, self.slot + n)
            self.bring(Side.B, self.number + n, self.slot + 1 - n)
        self.number += 2
        self.slot += 2
        self.expected["passed"] += 2
        self.expected["duplicates"] += 2

    def anew(self) -> None:
        """The venue begins its numbers anew; B goes on with its old ones until it comes to that."""
        self.number = 1
        self.both(2 * FEED_WINDOW)
        self.expected["resets"] += 1
        self.old += self.lead
        self.expected["duplicates"] -= self.lead

    def packets(self) -> Packets:
        """In the order of the time, with heartbeats of another group between them."""
        groups = dict(zip(Side, PAIR, strict=True))
        self.copies.sort(key=lambda each: each[0])
        found = [
            (time, udp_packet(NUMBERS.pack(number) + rest, SENDER, groups[side]))
            for time, side, number, rest in self.copies
        ]
        found += [(time + 1, udp_packet(b"beat", SENDER, Endpoint.parse("224.9.9.9:9"))) for time, _ in found[::10]]
        found.sort(key=lambda each: each[0])
        return Packets.of([packet for _, packet in found], [time for time, _ in found])


def made(seed: int) -> Feeds:
    """Feeds with everything that may happen to them, between stretches in which nothing does."""
    chance = random.Random(seed)
    feeds = Feeds(lead=chance.randint(1, 6))
    feeds.both(2 * FEED_WINDOW)
    events = [feeds.swapped_by_b, feeds.anew, feeds.late]
    events += [lambda side=side: feeds.lost(side) for side in Side]
    events += [lambda side=side: feeds.repeated(side) for side in Side]
    events += [lambda count=count: feeds.lost_by_both(count) for count in (1, 2, 7)]
    for event in chance.choices(events, k=25):
        event()
        feeds.both(chance.randint(3 * FEED_WINDOW, 4 * FEED_WINDOW))
    return feeds


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch", [7, 1 << 20])
def test_what_a_generator_did_to_feeds_is_what_the_report_says(seed: int, batch: int) -> None:
    feeds = made(seed)
    packets = feeds.packets()
    arbiter = FeedArbiter([PAIR], FRAMING)
    races = np.concatenate([arbiter.add(packets.slice(at, at + batch)) for at in range(0, len(packets), batch)])
    [channel] = arbiter.report()
    found = {name: getattr(channel, name) for name in feeds.expected}
    assert found == feeds.expected
    assert [(int(gap["first"]), int(gap["count"])) for gap in channel.gap_list] == feeds.gaps
    assert channel.gaps == len(feeds.gaps)
    assert channel.differing == 0
    assert [side.early for side in channel.sides] == [feeds.early, 0]
    assert [side.old for side in channel.sides] == [0, feeds.old]
    brought = [sum(copy[1] is side for copy in feeds.copies) for side in Side]
    assert [side.packets for side in channel.sides] == brought
    assert sum(side.won for side in channel.sides) == len(races)
    assert channel.sides[Side.A].won > 0
    # A leads by what the generator put between the copies, which a bucket tells to half a percent.
    assert channel.sides[Side.A].lead_median == pytest.approx(feeds.lead * STEP + STEP // 2, rel=0.005)


def test_two_packets_of_one_number_that_differ_are_counted() -> None:
    payloads = [(Side.A, 1, b"x"), (Side.B, 1, b"x"), (Side.A, 2, b"x"), (Side.B, 2, b"y")]
    arbiter = FeedArbiter([PAIR], FRAMING)
    arbiter.add(Packets.of([udp_packet(NUMBERS.pack(n) + rest, SENDER, PAIR[side]) for side, n, rest in payloads]))
    [channel] = arbiter.report()
    assert (channel.duplicates, channel.differing) == (2, 1)


def test_packets_too_short_for_a_number_are_counted_apart() -> None:
    arbiter = FeedArbiter([PAIR], FRAMING)
    arbiter.add(Packets.of([udp_packet(bytes(size), SENDER, PAIR.a) for size in (0, 1, 5, 6, 8)]))
    [channel] = arbiter.report()
    assert (channel.sides[Side.A].unnumbered, channel.sides[Side.A].packets) == (2, 2)


def test_a_channel_without_packets_says_so() -> None:
    [channel] = FeedArbiter([PAIR], FRAMING).report()
    assert (channel.first, channel.last, channel.passed) == (None, None, 0)
    assert channel.sides[Side.A].lead_median is None


def test_a_feed_after_the_other_one_is_all_duplicates() -> None:
    """Captures of the two feeds that are not merged by time."""
    numbers = range(1, 20_000)
    arbiter = FeedArbiter([PAIR], FRAMING)
    for group in PAIR:
        arbiter.add(Packets.of([udp_packet(NUMBERS.pack(n), SENDER, group) for n in numbers]))
    [channel] = arbiter.report()
    assert (channel.passed, channel.duplicates) == (len(numbers), len(numbers))
    assert (channel.gaps, channel.late, channel.resets) == (0, 0, 0)


class Page:
    """The rule of docs/feeds.md in plain Python."""

    def __init__(self) -> None:
        self.passed: int | None = None
        self.last: dict[int, int | None] = {0: None, 1: None}
        self.old = {0: False, 1: False}

    def take(self, side: int, number: int) -> str:
        verdict = self._verdict(side, number)
        if verdict == "old":
            return verdict
        last = self.last[side]
        if verdict == "reset":
            self.old[1 - side] = self.last[1 - side] is not None
        if last is None or self.old[side] or number > last or last - number >= FEED_WINDOW:
            self.last[side] = number
        self.old[side] = False
        if verdict in ("passed", "gap", "reset"):
            self.passed = number
        return verdict

    def _verdict(self, side: int, number: int) -> str:
        if self.passed is None or number == self.passed + 1:
            return "passed"
        last, others = self.last[side], self.last[1 - side]
        back = 0 if last is None else last - number
        if number <= self.passed:
            far = back >= FEED_WINDOW and self.passed - number >= FEED_WINDOW
            return "reset" if far and not self.old[side] else "repeated"
        if self.old[side] and -FEED_WINDOW <= back < FEED_WINDOW:
            return "old"
        is_behind = others is not None and not self.old[1 - side] and others <= self.passed
        return "early" if is_behind and number - others <= FEED_WINDOW else "gap"


COPIES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from((1, 1, 1, 1, 2, 3, 0, -1, -5, 70, -70, -200, 500))), max_size=200
)


@settings(max_examples=200, deadline=None)
@given(COPIES, st.integers(0, 300))
def test_any_packets_are_judged_as_the_page_says(steps: Sequence[tuple[int, int]], start: int) -> None:
    numbers, copies = [start, start], []
    for side, step in steps:
        numbers[side] = max(numbers[side] + step, 0)
        copies.append((side, numbers[side]))
    page = Page()
    verdicts = [page.take(*copy) for copy in copies]
    arbiter = FeedArbiter([PAIR], FRAMING)
    arbiter.add(Packets.of([udp_packet(NUMBERS.pack(n), SENDER, PAIR[side]) for side, n in copies]))
    [channel] = arbiter.report()
    assert channel.passed == sum(verdict in ("passed", "gap", "reset") for verdict in verdicts)
    assert (channel.gaps, channel.resets) == (verdicts.count("gap"), verdicts.count("reset"))
    assert channel.duplicates + channel.late == verdicts.count("repeated")
    assert sum(side.early for side in channel.sides) == verdicts.count("early")
    assert sum(side.old for side in channel.sides) == verdicts.count("old")
    passed = [n for (_, n), verdict in zip(copies, verdicts, strict=True) if verdict in ("passed", "gap")]
    if channel.resets == 0:
        assert passed == sorted(set(passed))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("224.0.31.64:14340", "'224.0.31.64:14340' is not A=ADDRESS:PORT or B=ADDRESS:PORT"),
        ("A=224.0.31.64:14340", "has no B"),
        ("B=224.0.31.64:14340", "has no A"),
        ("A=224.0.31.64:1,A=224.0.31.64:2", "A is there twice"),
        ("A=224.0.31.64:1,B=224.0.31.64:1", "one group"),
        ("A=224.0.31.64:1,B=224.0.31.64:70000", "'224.0.31.64:70000' is not ADDRESS:PORT"),
        ("A=224.0.31.640:1,B=224.0.31.64:7", "'224.0.31.640:1' is not ADDRESS:PORT"),
        ("A=224.0.31.64:1,C=224.0.31.64:7", "'C=224.0.31.64:7' is not A="),
        ("", "'' is not A="),
    ],
)
def test_a_feed_that_is_written_wrongly_is_refused(text: str, says: str) -> None:
    with pytest.raises(FeedError) as refused:
        parse_feed(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_feed_is_written_as_it_is_read() -> None:
    assert parse_feed(" A=224.0.31.64:14340, B=224.0.32.64:15340") == PAIR
    assert parse_feed(str(PAIR)) == PAIR


def test_a_feed_that_is_not_there_is_refused_with_those_that_are() -> None:
    there = [Endpoint.parse("224.1.1.1:1"), PAIR.a]
    with pytest.raises(
        FeedError, match=r"B=224.0.32.64:15340 is not in the captures; .* 224.1.1.1:1, 224.0.31.64:14340"
    ):
        check_feeds([PAIR], there)
    with pytest.raises(FeedError, match="named twice"):
        check_feeds([PAIR, PAIR], [*PAIR])
    check_feeds([PAIR], [*PAIR])


def test_a_venue_without_numbers_is_refused() -> None:
    with pytest.raises(FeedError, match="no sequence number"):
        FeedArbiter([PAIR], Framing())


def test_feeds_are_found_by_their_packets() -> None:
    """Two channels whose numbers are the same, and a group that is alone; each feed lost some."""
    second = FeedPair(Endpoint.parse("224.0.31.65:14341"), Endpoint.parse("224.0.32.65:15341"))
    alone = Endpoint.parse("224.0.33.1:1")
    packets = []
    for number in range(100):
        for pair in (PAIR, second):
            for group in reversed(pair):
                if number % 7 != group.port % 7:
                    packets.append(udp_packet(NUMBERS.pack(number) + str(pair).encode(), SENDER, group))
        packets.append(udp_packet(NUMBERS.pack(number) + b"alone", SENDER, alone))
    groups = [alone, second.b, PAIR.b, second.a, PAIR.a]
    assert find_feeds(Packets.of(packets), groups, FRAMING) == [PAIR, second]


@pytest.mark.skipif(not CME.exists(), reason="the CME capture is not in ../shared/data")
def test_the_feeds_of_cme() -> None:
    """5000 numbers without a gap, each payload twice, B first on 85 %."""
    packets = open_capture(CME).packets
    framing = load_venue(CME_SCHEMA).profile.framing
    groups = [found.flow.destination for found in find_flows(packets, True)]
    assert find_feeds(packets, groups, framing) == [PAIR]
    arbiter = FeedArbiter([PAIR], framing)
    races = np.concatenate([arbiter.add(packets.slice(at, at + 999)) for at in range(0, len(packets), 999)])
    [channel] = arbiter.report()
    assert [side.packets for side in channel.sides] == [5000, 5000]
    assert (channel.first, channel.last, channel.passed) == (5615, 10614, 5000)
    assert (channel.duplicates, channel.differing) == (5000, 0)
    assert (channel.gaps, channel.missing, channel.late, channel.resets) == (0, 0, 0, 0)
    assert channel.sides[Side.B].won / 5000 == pytest.approx(0.85, abs=0.005)
    assert len(races) == 5000
    for side in Side:
        leads = races["lead"][races["winner"] == side]
        row = channel.sides[side]
        for share, value in ((50, row.lead_median), (99, row.lead_99)):
            assert value == pytest.approx(np.percentile(leads, share, method="inverted_cdf"), rel=0.005)
    table = races_table(races)
    assert table.column_names == ["channel", "sequence", "winner", "lead", "timestamp"]
    assert sorted(table["sequence"].to_pylist()) == list(range(5615, 10615))
    assert table["winner"].to_pylist().count("B") == channel.sides[Side.B].won
