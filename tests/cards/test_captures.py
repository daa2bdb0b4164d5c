"""Real captures give the same frames on both cards, and what decoders by others read in them."""

from collections import Counter

import pytest

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import MALFORMED_FLAGS
from host.capture.flows import find_flows
from host.capture.reader import CaptureError, read_packets
from tests.cards.comparison import (
    GEOMETRIES,
    ROOMY,
    Geometry,
    assert_every_byte_is_in_one_message,
    frames_of_flow,
    reading_of_equal_cards,
)
from tests.cards.fix_packets import Cut, cut_into_packets
from tests.cards.peers import entries_that_agree_with_sbe, frames_that_agree_with_simplefix

CME_FEEDS = [
    Flow(Protocol.UDP, Endpoint.parse("224.0.31.64:14340"), Parser.SBE),
    Flow(Protocol.UDP, Endpoint.parse("224.0.32.64:15340"), Parser.SBE),
]
CME_MESSAGES = {32: 19_138, 35: 614, 37: 388, 42: 388, 12: 18}
"""Messages of the capture by template."""
CME_BOOK_ENTRIES = 29_148
"""Entries of the capture's messages of template 32."""

SBE_CAPTURES = {
    "deribit_multicast": ("deribit_multicast_v3_RECONSTRUCTED.xml", 1656),
    "omi_packets/Cme/iLink3.Sbe.8.5": ("omi/Cme.Futures.iLink3.Sbe.v8.5.xml", 7),
    "omi_packets/B3/BinaryEntryPoint.v8.0": ("omi/B3.Equities.BinaryEntryPoint.Sbe.v8.0.xml", 2),
    "omi_packets/B3/BinaryEntryPoint.v8.1": ("omi/B3.Equities.BinaryEntryPoint.Sbe.v8.1.xml", 6),
    "omi_packets/B3/BinaryUmdf.v1.8": ("omi/B3.Equities.BinaryUmdf.Sbe.v1.8.xml", 4),
    "omi_packets/Coinbase/MarketDataApi.v1.2": ("omi/Coinbase.Derivatives.MarketDataApi.Sbe.v1.2.xml", 13),
    "omi_packets/Coinbase/OrderApi.v1.4": ("omi/Coinbase.Derivatives.OrdersApi.Sbe.v1.4.xml", 39),
}
"""Captures by folder: their schema, and how many frames they give."""

FIX_LOGS = "fix_logs/FIX42-CoyTrade-BCExchange-"
FIX_MESSAGES = {
    "fix_tcp/trace-fix4.2.pcap": 4,
    "fix_tcp/trace-fix4.4.pcap": 5,
    "fix_streams/fix.4.1.set.1": 16,
    "fix_streams/fix.5.0.set.2": 65,
    f"{FIX_LOGS}MarketDataRequest.log": 1,
    f"{FIX_LOGS}MessagesSplitBetweenMultipleLines.log": 4,
    f"{FIX_LOGS}PipeDelimeter.log": 1,
    f"{FIX_LOGS}SenderAndTargetInSameLogFile.log": 6,
    f"{FIX_LOGS}SenderMessagePerLine.log": 4,
    f"{FIX_LOGS}SenderMessagePerLineMixedWithOtherText.log": 6,
    f"{FIX_LOGS}SenderMessagePerLineNoExtraLoggingInfo.log": 4,
    f"{FIX_LOGS}TargetMessagePerLine.log": 6,
    f"{FIX_LOGS}TargetMessagePerLineNoExtraLoggingInfo.log": 6,
    # Its one message has a BodyLength that is too large, so it is never complete.
    "fix_logs/FIX44-FXSpot-WithSubparties.log": 0,
}
"""Messages of each file of FIX, all of them well-formed."""
LOG_WITHOUT_MESSAGES = f"{FIX_LOGS}NoMessagesInLog.log"

FIX_STREAMS = ("fix.4.1.set.1", "fix.5.0.set.2")


@pytest.mark.parametrize(
    "geometry",
    [ROOMY, Geometry(256, 1 << 16, 100), Geometry(1 << 11, 1 << 15, 100)],
    ids=["roomy", "few slots", "few bytes"],
)
def test_the_cme_capture_gives_the_same_frames_on_both_cards_and_those_of_the_sbe_package(shared_data, geometry):
    schema = shared_data / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"
    packets = read_packets(shared_data / "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap")
    reading = reading_of_equal_cards(packets, CME_FEEDS, schema, geometry)
    assert reading.counters["parsed"] == len(packets) == 10_000
    frames = reading.frames
    assert not (frames["flags"] & MALFORMED_FLAGS).any()
    assert ((frames["message_type"] == 32) & (frames["entry_offset"] > 0)).sum() == CME_BOOK_ENTRIES
    distinct = reading.distinct_messages()
    assert Counter(int.from_bytes(message[2:4], "little") for _, message in distinct) == CME_MESSAGES
    assert sum(CME_MESSAGES.values()) == len(distinct)
    if geometry is ROOMY:
        assert entries_that_agree_with_sbe(reading, schema) >= CME_BOOK_ENTRIES


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(folder, marks=() if folder == "deribit_multicast" else pytest.mark.every_venue)
        for folder in SBE_CAPTURES
    ],
)
def test_sbe_of_other_venues_gives_the_same_frames_on_both_cards(shared_data, folder):
    schema, frames = SBE_CAPTURES[folder]
    found = 0
    for path in sorted((shared_data / folder).glob("*.pcap*")):
        packets = read_packets(path)
        flows = find_flows(packets, sbe=True, sbe_streams=True).table()
        found += len(reading_of_equal_cards(packets, flows, shared_data / "schemas" / schema).frames)
    assert found == frames


def test_no_capture_of_sbe_is_left_out(shared_data):
    files = [*shared_data.glob("deribit_multicast/*.pcap*"), *shared_data.glob("omi_packets/**/*.pcap*")]
    assert {str(path.parent.relative_to(shared_data)) for path in files} == set(SBE_CAPTURES)


@pytest.mark.parametrize("path", FIX_MESSAGES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_fix_by_others_gives_the_same_frames_on_both_cards_and_those_of_simplefix(shared_data, path, geometry):
    """As `tickgate replay` reads it: captures, byte streams and logs."""
    packets = read_packets(shared_data / path)
    reading = reading_of_equal_cards(packets, find_flows(packets, sbe=False).table(), geometry=geometry)
    assert frames_that_agree_with_simplefix(reading) == len(reading.frames) == FIX_MESSAGES[path]


def test_no_file_of_fix_by_others_is_left_out(shared_data):
    files = [path for path in shared_data.glob("fix_*/*") if path.name not in ("SOURCE.txt", "COPYING")]
    assert {str(path.relative_to(shared_data)) for path in files} == {*FIX_MESSAGES, LOG_WITHOUT_MESSAGES}
    with pytest.raises(CaptureError):
        read_packets(shared_data / LOG_WITHOUT_MESSAGES)


@pytest.mark.parametrize("name", FIX_STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 61, 1448, 9000])
def test_a_fix_stream_gives_the_same_frames_on_both_cards_however_it_is_cut(shared_data, name, size):
    stream = (shared_data / "fix_streams" / name).read_bytes()
    reading = reading_of_equal_cards(cut_into_packets({0: stream}, [Cut(0, size)], most_packets=len(stream)))
    assert_every_byte_is_in_one_message(reading, {0: stream})
    assert frames_that_agree_with_simplefix(reading) == stream.count(b"8=FIX")


def test_fix_streams_interleaved_give_the_frames_that_each_gives_alone(shared_data):
    streams = {row: (shared_data / "fix_streams" / name).read_bytes() for row, name in enumerate(FIX_STREAMS)}
    turns = [Cut(0, 13), Cut(1, 200), Cut(0, 1), Cut(1, 8)]
    together = reading_of_equal_cards(cut_into_packets(streams, turns), geometry=GEOMETRIES[1])
    for row, stream in streams.items():
        alone = reading_of_equal_cards(cut_into_packets({row: stream}, [Cut(row, 9000)]))
        assert frames_of_flow(together, row) == frames_of_flow(alone, row)
