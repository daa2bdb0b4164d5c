"""The Ethernet card gives the frames of the others, over a wire that loses some: the board is RTL at the other end of a pair of interfaces."""

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hdl.flow import Parser
from hdl.frame import FRAME_DTYPE, Kind
from hdl.register_map import IDENTITY, VERSION
from hdl.sbe_venue import load_venue
from host.card import CardError, open_card
from host.card.eth import EthCard
from host.card.eth_link import EthCounts
from host.card.registers import open_registers
from host.card.ring import Ring
from host.card.soft import SoftCard
from host.generate import SCHEMA, generate
from sim.ethernet_board import EthernetBoard, Faults, ethernet_model
from sim.veth import NoVeth, VethPair
from tests.cards.comparison import ROOMY, SMALLEST, Geometry, Reading, first_difference, read_all

pytestmark = pytest.mark.slow

GENERATED = generate(orders=60, seed=7, malformed=0.1)
FLOWS = [flow for flow in GENERATED.flows if flow.parser is Parser.FIX]
"""A board without SBE is compiled in a third of the time."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pair() -> Iterator[VethPair]:
    try:
        pair = VethPair()
    except NoVeth as reason:
        pytest.skip(str(reason))
    with pair:
        yield pair


def a_board(pair: VethPair, **faults: Faults | int) -> EthernetBoard:
    return EthernetBoard(pair.board, model=ethernet_model(len(FLOWS)), **faults)  # type: ignore[arg-type]


def url(pair: VethPair) -> str:
    return f"eth:{pair.host}"


def without_times(reading: Reading) -> Reading:
    """The board has its own clock."""
    frames, memory = reading.frames.copy(), reading.memory[0].copy()
    frames["timestamp"] = 0
    memory.view(FRAME_DTYPE)["timestamp"] = 0
    return reading._replace(frames=frames, memory=(memory, reading.memory[1]))


@cache
def expected(geometry: Geometry) -> Reading:
    """What the soft card makes of the packets."""
    with SoftCard(FLOWS, None, Ring.create(None, geometry.frame_slots, geometry.payload_bytes)) as card:
        return without_times(read_all(card, GENERATED.packets, geometry.release))


def over(board: EthernetBoard, pair: VethPair, geometry: Geometry = ROOMY) -> tuple[Reading, EthCounts]:
    """All packets through a board."""
    ring = Ring.create(None, geometry.frame_slots, geometry.payload_bytes)
    with EthCard(url(pair), FLOWS, None, ring) as card:
        reading = read_all(card, GENERATED.packets, geometry.release)
        print(f"{len(reading.frames)} frames; {board.faults()}; {board.broken} broken; {card.counts}")
        return reading, card._link.counts


def test_frames_are_those_of_the_soft_card(pair):
    """Also with rings without room, and with a session that begins while another one is in its middle."""
    with a_board(pair) as board:
        began = time.time_ns()
        reading, counts = over(board, pair)
        assert first_difference(expected(ROOMY), without_times(reading)) is None
        times = reading.frames["timestamp"].astype(np.int64)
        assert began <= times.min() < times.max() < time.time_ns() + 10**9
        assert (counts.gaps, counts.missed, counts.dropped, counts.lost, counts.overflow) == (0, 0, 0, 0, 0)

        reading, _ = over(board, pair, SMALLEST)
        assert first_difference(expected(SMALLEST), without_times(reading)) is None
        with open_card(url(pair), FLOWS, None, frame_slots=4, payload_bytes=1 << 15) as card:
            assert card.feed(GENERATED.packets) < len(GENERATED.packets)
        reading, _ = over(board, pair)
        assert first_difference(expected(ROOMY), without_times(reading)) is None
        assert board.broken == 0


def test_frames_to_the_board_with_faults(pair):
    """Lost, damaged and repeated: nothing of it is seen in the ring."""
    with a_board(pair, link_down=Faults(0.1, 0.1, 0.1), seed=3) as board:
        for geometry in (ROOMY, SMALLEST):
            reading, counts = over(board, pair, geometry)
            assert first_difference(expected(geometry), without_times(reading)) is None
            assert counts.resent > 0
        faults = board.faults()["link_down"]
        assert min(faults.lost, faults.damaged, faults.repeated) > 0


@pytest.mark.parametrize(("faults", "seed"), [(Faults(0.1, 0.1, 0.1), 1), (Faults(0.4, 0, 0), 2)])
def test_frames_from_the_board_with_faults(pair, faults, seed):
    """Every slot has its frame, or a gap where something of it was lost."""
    with a_board(pair, link_up=faults, seed=seed) as board:
        for geometry in (ROOMY, SMALLEST):
            reading, counts = over(board, pair, geometry)
            soft, ours = expected(geometry), without_times(reading)
            assert len(ours.frames) == len(soft.frames)
            gaps = 0
            for number, (frame, wanted) in enumerate(zip(ours.frames, soft.frames, strict=True)):
                if frame["kind"] == Kind.GAP and wanted["kind"] != Kind.GAP:
                    gaps += 1
                    assert frame["generation"] == wanted["generation"]
                    continue
                assert frame.tobytes() == wanted.tobytes(), f"frame {number}"
                assert ours.messages[number] == soft.messages[number], f"message of frame {number}"
            assert counts.gaps >= gaps > 0
            assert counts.missed > 0
        assert board.faults()["link_up"].lost > 0


def test_packets_that_are_lost_on_their_way(pair):
    """Those do not hold up the others; the ones that came damaged are counted."""
    with a_board(pair, traffic=Faults(0.1, 0.1, 0), seed=4) as board:
        _, counts = over(board, pair)
        faults = board.faults()["traffic"]
        assert min(faults.lost, faults.damaged) > 0
        assert counts.lost == faults.damaged
        assert counts.overflow == counts.gaps == 0


def test_the_card_says_what_it_was_built_from(pair):
    with a_board(pair), open_registers(url(pair)) as read:
        names = ("identity", "version", "flow_rows", "parsers", "venue", "source")
        assert [read(name) for name in names] == [IDENTITY, VERSION, len(FLOWS), 1 << Parser.FIX, 0, 0]


def test_a_board_that_lost_its_power_says_so(pair):
    with a_board(pair) as board:
        with open_card(url(pair), FLOWS, None) as card:
            board.restart()
            with pytest.raises(CardError, match=r"the board was restarted.*open it anew"):
                card.counters()
        over(board, pair)


def test_a_board_that_is_not_the_right_one_is_refused(pair, monkeypatch):
    with a_board(pair):
        with pytest.raises(CardError, match="the card decodes no SBE: build and flash it for"):
            open_card(url(pair), FLOWS, load_venue(SCHEMA))
        with pytest.raises(CardError, match="9 flows are too many: the card's flow table has 8 rows"):
            open_card(url(pair), GENERATED.flows[:1] * 9, None)
        with monkeypatch.context() as patch:
            patch.setattr("host.card.eth.LINK_VERSION", 99)
            with pytest.raises(CardError, match="the board's link has version 1, not 99"):
                open_card(url(pair), FLOWS, None)
        with pytest.raises(CardError, match="no answer from a board"):
            open_card(f"{url(pair)}?board=02:00:00:00:00:77", FLOWS, None)


def test_interfaces_that_cannot_be_used(pair):
    with pytest.raises(CardError, match=r"^eth:nonet0: there is no interface nonet0"):
        open_card("eth:nonet0", FLOWS, None)
    with VethPair() as other:
        other.set_down(other.board)
        with pytest.raises(CardError, match=f"interface {other.host} has no carrier"):
            open_card(url(other), FLOWS, None)
        other.set_down(other.host)
        with pytest.raises(CardError, match=f"interface {other.host} is down: `sudo ip link set"):
            open_card(url(other), FLOWS, None)
    script = (
        "import os\nfrom host.card import CardError, open_card\nimport host.card.eth\nos.setuid(65534)\n"
        f"try:\n    open_card('{url(pair)}', [])\nexcept CardError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "no permission for raw frames: `sudo setcap cap_net_raw+ep " in result.stdout


def test_what_is_no_eth_url():
    for wrong in (
        "eth:",
        "eth:?board=02:00:00:00:00:01",
        "eth:enp3s0?board=2",
        "eth:enp3s0?speed=10",
        "eth:enp3s0?traffic=",
    ):
        with pytest.raises(CardError, match="is not eth:INTERFACE"):
            open_card(wrong, FLOWS, None)
