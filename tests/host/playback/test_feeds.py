"""A replay's feeds: named or found, and the table that says what each was worth."""

import random
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.sbe_venue import load_venue
from host.capture.packets import Packets
from host.capture.write import udp_packet, write_pcap
from host.cli import app
from host.generate import SCHEMA
from host.generate.market_data import MarketData
from host.market_data.arbitration import FeedError, parse_feed
from host.playback.feeds import arbiter_of, feeds_json, feeds_of, feeds_table

PAIR = parse_feed("A=224.0.31.64:14340,B=224.0.32.64:15340")
FLOWS = [Flow(Protocol.UDP, group, Parser.SBE) for group in PAIR]
SENDER = Endpoint.parse("10.0.0.9:30000")
VENUE = load_venue(SCHEMA)


def packets() -> Packets:
    """300 numbers; A lost 105, both 110 and 111. B is first by 400 ns."""
    sent, market = [], MarketData(random.Random(1))
    for number in range(100, 400):
        payload = number.to_bytes(4, "little") + market.packet(1000 * number)[4:]
        for side in (1, 0):
            if number not in (110, 111) and (side, number) != (0, 105):
                sent.append((1000 * number + 400 * (1 - side), udp_packet(payload, SENDER, PAIR[side])))
    return Packets.of([packet for _, packet in sent], [time for time, _ in sent])


def test_feeds_are_found_and_shown():
    arbiter = arbiter_of([], FLOWS, [packets()], VENUE)
    assert arbiter is not None
    arbiter.add(packets())
    out = StringIO()
    Console(file=out, width=120).print(feeds_table(arbiter.report()))
    rows = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "224.0.31.64:14340" in rows
    assert "packets (100 to 399) 297 298 298" in rows
    assert "first 0.0% 100.0%" in rows
    assert "gap: 110 to 111 2" in rows
    [channel] = feeds_json(arbiter.report())
    assert channel["missing"] == 2
    assert channel["gap_list"] == [{"first": 110, "count": 2}]
    assert channel["feeds"]["B"]["won"] == 297
    assert channel["feeds"]["B"]["lead_median"] == pytest.approx(400, rel=0.005)


def test_without_feeds_nothing_is_arbitrated():
    assert arbiter_of([], FLOWS[:1], [packets()], VENUE) is None
    assert arbiter_of([], FLOWS, [packets()], None) is None


def test_feeds_need_a_schema():
    with pytest.raises(FeedError, match="--feed needs a --schema"):
        feeds_of([str(PAIR)], FLOWS, [], None)


def test_the_command_refuses_a_wrong_feed_and_says_which_groups_there_are(tmp_path):
    capture = tmp_path / "feeds.pcap"
    write_pcap(capture, packets())
    wrong = "A=224.0.31.64:14340,B=224.0.99.64:15340"
    done = CliRunner().invoke(
        app, ["replay", str(capture), "--schema", str(SCHEMA), "--card", "soft:", "--feed", wrong]
    )
    assert done.exit_code == 2
    assert "feed B=224.0.99.64:15340 is not in the captures" in " ".join(done.output.split())
    assert "224.0.32.64:15340" in done.output
