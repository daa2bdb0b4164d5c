"""The serial card gives the frames of the others, over a cable that does what cables do: the board is RTL at a pseudo-terminal."""

import os
import tty
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from hdl.boards import find_board
from hdl.boards.board import Way
from hdl.flow import Parser
from hdl.register_map import IDENTITY, VERSION
from hdl.sbe_venue import load_venue
from host.card import CardError, open_card
from host.card.registers import open_registers
from host.card.ring import Ring
from host.card.serial import open_serial
from host.card.serial_link import LinkCounts
from host.card.soft import SoftCard
from host.generate import SCHEMA, generate
from sim.serial_board import SerialBoard
from tests.cards.comparison import ROOMY, SMALLEST, Geometry, Reading, first_difference, read_all

pytestmark = pytest.mark.slow

BOARD = replace(find_board("ulx3s_12f"), ways=(Way("serial", 25_000_000, flows=2, fix_width=8),))
"""With the smallest whole card, which is the quickest to compile."""

GENERATED = generate(orders=30, sessions=2, seed=7, malformed=0.1)
FLOWS = [flow for flow in GENERATED.flows if flow.parser is Parser.FIX]
"""As many as the board has rows for; market data are unmatched there."""


@cache
def expected(geometry: Geometry) -> Reading:
    """What the soft card makes of the packets."""
    with SoftCard(FLOWS, None, Ring.create(None, geometry.frame_slots, geometry.payload_bytes)) as card:
        return read_all(card, GENERATED.packets, geometry.release)


def over(board: SerialBoard, geometry: Geometry = ROOMY) -> LinkCounts:
    """Read all packets through a board; fails where they are not read as the soft card reads them."""
    ring = Ring.create(None, geometry.frame_slots, geometry.payload_bytes)
    with open_serial(board.url, FLOWS, None, ring) as card:
        reading = read_all(card, GENERATED.packets, geometry.release)
        difference = first_difference(expected(geometry), reading)
        print(f"{len(reading.frames)} frames; {board.faults} faults; {card.counts}")
        assert difference is None, difference
        return card.counts


@pytest.fixture(scope="module")
def board() -> Iterator[SerialBoard]:
    with SerialBoard(BOARD) as board:
        yield board


def test_frames_are_those_of_the_soft_card(board):
    counts = over(board)
    assert counts.damaged == counts.dropped == counts.missed == counts.reconnects == 0


def test_a_board_that_is_opened_again_begins_anew(board):
    """Rings without room, so that the card waits for credit again and again; then another session, with the card in its middle."""
    over(board, SMALLEST)
    with open_card(board.url, FLOWS, frame_slots=4, payload_bytes=1 << 15) as card:
        assert card.feed(GENERATED.packets) < len(GENERATED.packets)
    over(board)


def test_wrong_bits():
    with SerialBoard(BOARD, bit_errors=5e-5, seed=1) as board:
        counts = over(board)
        assert board.faults > 10
    assert counts.damaged + counts.dropped > 0
    assert counts.resent + counts.missed > 0


def test_lost_bytes():
    with SerialBoard(BOARD, byte_losses=1e-3, seed=2) as board:
        counts = over(board, SMALLEST)
        assert board.faults > 10
    assert counts.damaged + counts.dropped > 0
    assert counts.resent + counts.missed > 0


@pytest.mark.parametrize("after", [1003, 5017])
def test_a_cable_that_is_pulled_and_plugged_in(after):
    with SerialBoard(BOARD) as board:
        board.cut(after, seconds=0.3)
        counts = over(board)
        assert board.cuts == 1
    assert counts.reconnects == 1


def test_a_board_that_lost_its_power_says_so():
    with SerialBoard(BOARD) as board:
        with open_card(board.url, FLOWS) as card:
            board.cut(2000, seconds=0.2, power=True)
            with pytest.raises(CardError, match=r"the board was restarted.*open it anew"):
                read_all(card, GENERATED.packets, 1 << 10)
        over(board)


def test_what_the_card_was_not_built_for_is_refused(board):
    with pytest.raises(CardError, match="the card decodes no SBE: build and flash it for"):
        open_card(board.url, FLOWS, load_venue(SCHEMA))
    with pytest.raises(CardError, match="without a parser for SBE flows"):
        open_card(board.url, [flow for flow in GENERATED.flows if flow.parser is Parser.SBE], load_venue(SCHEMA))
    with pytest.raises(CardError, match="4 flows are too many: the card's flow table has 2 rows"):
        open_card(board.url, FLOWS * 2)


def test_the_card_says_what_it_was_built_from(board):
    with open_registers(board.url) as read:
        names = ("identity", "version", "flow_rows", "parsers", "venue", "source")
        assert [read(name) for name in names] == [IDENTITY, VERSION, BOARD.way().flows, 1 << Parser.FIX, 0, 0]


@pytest.mark.parametrize(
    ("constant", "value", "reason"),
    [
        ("start.VERSION", 99, "the card's registers have version 2, not 99: flash it anew"),
        ("serial.LINK_VERSION", 99, "the board's link has version 1, not 99: flash it anew"),
        ("start.IDENTITY", 0, "which is no Tickgate card"),
    ],
)
def test_a_board_of_another_version_is_refused(board, monkeypatch, constant, value, reason):
    """Seen from a host that is of another one."""
    monkeypatch.setattr(f"host.card.{constant}", value)
    with pytest.raises(CardError, match=reason):
        open_card(board.url, FLOWS)


def test_a_board_in_use_is_refused(board):
    with open_card(board.url, FLOWS):
        with pytest.raises(CardError, match="another program has it open"):
            open_card(board.url, FLOWS)


def test_a_device_that_is_not_there_or_does_not_answer():
    with pytest.raises(CardError, match=r"^serial:/dev/ttyNONE: there is no such device"):
        open_card("serial:/dev/ttyNONE", FLOWS)
    silent, host = os.openpty()
    tty.setraw(host)
    with pytest.raises(CardError, match="no answer at 115,200 baud"):
        open_card(f"serial:{os.ttyname(host)}?baud=115200", FLOWS)
    os.close(silent)
    os.close(host)


def test_what_is_no_serial_url():
    for url in ("serial:", "serial:?baud=9600", "serial:/dev/ttyUSB1?baud=fast", "serial:/dev/ttyUSB1?parity=1"):
        with pytest.raises(CardError, match="is not serial:DEVICE"):
            open_card(url, FLOWS)
