"""Both cards pass on the same copies of A and B feeds, with the same GAP frames, whatever comes (docs/feeds.md)."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.card import Card as CardGateware
from hdl.flow import Endpoint, Feed, Flow, Parser, Protocol, Side
from hdl.frame import Kind
from hdl.limits import FEED_WINDOW
from hdl.sbe_framing import Framing, FramingError, arbitrated_slot
from hdl.sbe_schema import Slot
from hdl.sbe_venue import load_venue
from host.capture.packets import Packets
from host.capture.write import udp_packet
from host.card import CardError, open_card
from host.card.soft_arbiter import Arbiter
from host.generate import SCHEMA
from host.generate.market_data import MarketData
from tests.cards.comparison import GEOMETRIES, ROOMY, SMALLEST, Geometry, Reading, both_readings, first_difference

# A card that is refused is never elaborated.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

SENDER = Endpoint.parse("10.0.0.9:30000")
GROUPS = [
    Endpoint.parse(f"224.0.3{1 + side}.{64 + channel}:{14340 + channel}") for channel in range(3) for side in Side
]
FLOWS = (
    *(Flow(Protocol.UDP, group, Parser.SBE, feed=Feed(n // 2, Side(n % 2))) for n, group in enumerate(GROUPS[:4])),
    # Two groups of one channel that are not arbitrated.
    *(Flow(Protocol.UDP, group, Parser.SBE) for group in GROUPS[4:]),
)

STEPS = (1,) * 10 + (2, 2, 3, 0, -1, -2, FEED_WINDOW, -FEED_WINDOW, 2 * FEED_WINDOW, -2 * FEED_WINDOW)

CASES = st.tuples(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(STEPS), st.integers(0, 9)), min_size=1, max_size=80),
    st.sampled_from([0, 1, 1000, (1 << 32) - 20]),
    st.sampled_from(GEOMETRIES),
)
"""Flow, step of its number, and 0 for a packet that is cut; where numbers begin; and a ring."""


def packets_of(steps: Sequence[tuple[int, int, int]], start: int) -> Packets:
    market = MarketData(random.Random(start))
    numbers = [start] * len(GROUPS)
    packets = []
    for flow, step, cut in steps:
        numbers[flow] = (numbers[flow] + step) % (1 << 32)
        payload = numbers[flow].to_bytes(4, "little") + market.packet(1)[4:]
        if cut == 0:
            payload = payload[: numbers[flow] % 14]
        packets.append(udp_packet(payload, SENDER, GROUPS[flow]))
    return Packets.of(packets)


def reading_of_equal_cards(packets: Packets, geometry: Geometry = ROOMY) -> Reading:
    soft, rtl = both_readings(packets, FLOWS, SCHEMA, geometry)
    difference = first_difference(soft, rtl)
    assert difference is None, difference
    counts = soft.counters
    assert counts["packets"] == len(packets) == counts["parsed"] + counts["repeated"] + counts["empty"]
    assert counts["gaps"] == (soft.frames["kind"] == Kind.GAP).sum()
    return soft


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(CASES)
def test_both_cards_arbitrate_alike(case: tuple) -> None:
    steps, start, geometry = case
    reading_of_equal_cards(packets_of(steps, start), geometry)


@pytest.mark.slow
def test_long_feeds_are_arbitrated_alike() -> None:
    chance = random.Random(7)
    steps = [(chance.randrange(6), chance.choice(STEPS), chance.randrange(30)) for _ in range(4000)]
    for geometry in (ROOMY, SMALLEST):
        reading = reading_of_equal_cards(packets_of(steps, 500), geometry)
    assert reading.counters["repeated"] > 100
    assert reading.counters["gaps"] > 100


@pytest.mark.slow
def test_a_gap_frame_says_which_packets_are_missing_and_a_new_beginning_none() -> None:
    """Feed A loses number 103, both lose 110 and 111; then the channel begins anew with 7."""
    numbers = [number for number in range(90, 200) if number not in (110, 111)]
    copies = [(flow, number) for number in numbers for flow in (0, 1) if (flow, number) != (0, 103)]
    copies += [(flow, number) for number in (7, 8) for flow in (0, 1)]
    market = MarketData(random.Random(3))
    packets = Packets.of(
        [
            udp_packet(number.to_bytes(4, "little") + market.packet(1)[4:], SENDER, GROUPS[flow])
            for flow, number in copies
        ]
    )
    reading = reading_of_equal_cards(packets)
    gaps = reading.frames[reading.frames["kind"] == Kind.GAP]
    assert gaps["sequence"].tolist() == [2, 0]
    assert gaps["instrument_sequence"].tolist() == [110, 7]
    assert gaps["payload_length"].tolist() == [0, 0]
    assert reading.counters["parsed"] == len(numbers) + 2
    passed = [int(frame["sequence"]) for frame in reading.frames if frame["kind"] != Kind.GAP]
    assert list(dict.fromkeys(passed)) == [*numbers, 7, 8]


def test_a_venue_whose_numbers_do_not_come_first_is_refused() -> None:
    assert arbitrated_slot(Framing(packet_size=8, packet_sequence=Slot(4, 4))) == Slot(4, 4)
    for slot, says in ((None, "no sequence number"), (Slot(6, 4), "u32@6"), (Slot(0, 8), "u64@0")):
        with pytest.raises(FramingError, match=says):
            arbitrated_slot(Framing(packet_size=12, packet_sequence=slot))
    with pytest.raises(CardError, match="no schema"):
        Arbiter.of(FLOWS, None)
    with pytest.raises(ValueError, match="a card needs a schema to arbitrate feeds"):
        CardGateware(channels=1)


def test_the_soft_card_passes_one_copy_of_each_packet() -> None:
    packets = packets_of([(flow, 1, 1) for _ in range(50) for flow in (1, 0, 2)], 100)
    with open_card("soft:", FLOWS, load_venue(SCHEMA)) as card:
        assert card.feed(packets) == len(packets)
        counts = card.counters()
    assert (counts["parsed"], counts["repeated"], counts["gaps"]) == (100, 50, 0)
