"""A small board that reads FIX alone, and its host, give the frames of the other cards: the board is RTL at a pseudo-terminal."""

import random
from collections.abc import Iterator

import pytest

from hdl.boards import find_board
from hdl.flow import Parser
from hdl.sbe_venue import load_venue
from host.capture.packets import Packets
from host.card import CardError, open_card
from host.card.ring import Ring
from host.card.serial import open_serial
from host.card.serial_link import LinkCounts
from host.card.serial_segments import SegmentBoard
from host.card.soft import SoftCard
from host.generate import SCHEMA, generate
from host.generate.faults import FAULTS, encode
from sim.serial_board import SerialBoard
from tests.cards.comparison import FLOWS, ROOMY, SMALLEST, Geometry, first_difference, read_all
from tests.cards.fix_grammar import message
from tests.cards.fix_packets import fix_packet, timed
from tests.cards.test_garbled import HEARTBEAT, built, table

pytestmark = pytest.mark.slow

BOARD = find_board("icebreaker")
FLOW = (FLOWS[0],)
ORDER = [b"35=D", b"34=17", b"11=A-1", b"55=ESZ5", b"54=1", b"38=12.5", b"44=-4300.25", b"40=2"]
GENERATED = generate(orders=20, seed=7, sessions=1, malformed=0.1)
VENUE = load_venue(SCHEMA)

MARKET_DATA = (
    b"35=W|34=1|55=ES|268=2|269=0|270=5|271=7|1023=1|269=1|270=5.25|271=2|346=12|",
    b"35=X|34=2|268=3|279=0|269=2|270=-1.5|83=77|279=1|55=NQ|279=2|269=J|270=3|270=4|",
    b"35=W|34=3|268=1|269=0|270=x|271=7|",
    b"35=X|34=4|268=1|279=0|1023=256|",
    b"35=W|34=5|95=5|96=269=0|268=1|269=0|270=1|",
    b"35=W|34=6|268=0|",
)
"""Good entries and bad ones, data that looks like one, and a message without any."""


def in_packets(runs: list[tuple[bytes, int]], size: int) -> Packets:
    """Packets of ``size`` bytes of row 0; each run with the size of the hole behind it."""
    packets, sequence = [], 0
    for run, hole in runs:
        packets += [fix_packet(0, run[at : at + size], sequence + at) for at in range(0, len(run), size)]
        sequence += len(run) + hole
    return timed(packets)


def compare(board: SerialBoard, packets: Packets, flows=FLOW, geometry: Geometry = ROOMY) -> LinkCounts:
    """Read all packets through a board; fails where they are not read as the soft card reads them."""
    readings = []
    for card_of in (lambda ring: SoftCard(flows, None, ring), lambda ring: open_serial(board.url, flows, None, ring)):
        with card_of(Ring.create(None, geometry.frame_slots, geometry.payload_bytes)) as card:
            readings.append(read_all(card, packets, geometry.release))
    assert isinstance(card, SegmentBoard)
    difference = first_difference(*readings)
    print(f"{len(packets)} packets, {len(readings[0].frames)} frames; {board.faults} faults; {card.counts}")
    assert difference is None, difference
    return card.counts


@pytest.fixture(scope="module")
def board() -> Iterator[SerialBoard]:
    with SerialBoard(BOARD) as board:
        yield board


def test_garbled_input(board):
    """Every row of docs/fix.md's table with a heartbeat behind, in one stream: holes too."""
    runs: list[tuple[bytes, int]] = []
    for example in table():
        runs += [*built(example.text), (HEARTBEAT, 0)]
    assert len(runs) > 120
    assert any(hole for _, hole in runs)
    counts = compare(board, in_packets(runs, 500))
    assert counts.damaged == counts.dropped == counts.missed == 0


def test_market_data_and_faults_in_rings_without_room(board):
    """Entries are the host's: their frames wait for credit one by one."""
    chance = random.Random(3)
    runs = [(message(body.replace(b"|", b"\x01"), b"8=FIX.4.4\x01"), 0) for body in MARKET_DATA]
    for fault in FAULTS.values():
        runs += [(fault(chance, ORDER), chance.choice([0, 0, 0, 5])), (encode(ORDER), 0)]
    compare(board, in_packets(runs, 61), geometry=SMALLEST)


def test_a_session_among_other_traffic(board):
    """Packets of other flows are passed over, and counted as the other cards count them."""
    orders = next(flow for flow in GENERATED.flows if flow.parser is Parser.FIX)
    compare(board, GENERATED.packets, (orders,))


def test_wrong_bits_and_a_pulled_cable():
    with SerialBoard(BOARD, bit_errors=5e-5, seed=1) as board:
        board.cut(3001, seconds=0.3)
        counts = compare(board, in_packets([(encode(ORDER) * 40, 0)], 100))
        assert board.faults > 3
        assert board.cuts == 1
    assert counts.reconnects == 1


def test_what_it_cannot_do_is_refused(board):
    with pytest.raises(CardError, match="the card was built without a parser for SBE flows"):
        open_card(board.url, [flow for flow in GENERATED.flows if flow.parser is Parser.SBE][:1], VENUE)
    with pytest.raises(CardError, match="2 flows are too many: the card's flow table has 1 row"):
        open_card(board.url, FLOWS[:2])
