"""The flow table that is proposed for a capture has its FIX streams and, with a schema, its UDP destinations."""

from hypothesis import given
from hypothesis import strategies as st

from hdl.flow import ANYWHERE, Endpoint, Flow, Parser, Protocol
from hdl.limits import FLOWS
from host.capture.flows import CONVERSATIONS, find_flows
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.capture.write import SYN, tcp_packet, udp_packet

CLIENT, GATEWAY, FEED = Endpoint.parse("10.0.0.1:40000"), Endpoint.parse("10.0.1.2:9880"), Endpoint.parse("239.1.2.3:5")
LOGON = b"8=FIX.4.4\x019=5\x0135=A\x01"


def tcp(payload, source=CLIENT, destination=GATEWAY, sequence=1, **kw):
    return tcp_packet(payload, source, destination, sequence=sequence, **kw)


def test_each_direction_of_a_fix_session_gives_a_row_with_its_source():
    packets = [tcp(b"", flags=SYN), tcp(b"junk" + LOGON), tcp(LOGON, GATEWAY, CLIENT), tcp(b"GET /", FEED)]
    found = find_flows(Packets.of(packets), sbe=False)
    assert found.table() == [
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, CLIENT),
        Flow(Protocol.TCP, CLIENT, Parser.FIX, GATEWAY),
    ]
    assert (found.left_out, found.other_packets, len(found.conversations)) == (0, 1, 3)


def test_a_begin_string_cut_across_segments_is_found_but_not_across_a_gap():
    cut = [tcp(b"88=F", sequence=2**32 - 2), tcp(b"other", FEED), tcp(b"IX", sequence=2)]
    assert len(find_flows(Packets.of(cut), sbe=False)) == 1
    gap = [tcp(b"8=F", sequence=1), tcp(b"IX", sequence=5)]
    assert len(find_flows(Packets.of(gap), sbe=False)) == 0


def test_udp_destinations_are_sbe_only_where_there_is_a_schema():
    packets = Packets.of([udp_packet(b"x", CLIENT, FEED, vlans=(1, 2)), udp_packet(b"x", GATEWAY, FEED)])
    assert find_flows(packets, sbe=True).table() == [Flow(Protocol.UDP, FEED, Parser.SBE, ANYWHERE)]
    assert find_flows(packets, sbe=False).table() == []
    assert find_flows(packets, sbe=False).describe() == "UDP to 239.1.2.3:5 (2 packets)"


def test_the_busiest_rows_stay_in_order_of_appearance_and_the_rest_is_counted():
    packets = []
    for port in range(1, FLOWS + 4):
        packets += [udp_packet(b"x", CLIENT, Endpoint(FEED.address, port))] * (1 if port in (2, 5, 7) else 2)
    found = find_flows(Packets.of(packets), sbe=True)
    assert [flow.destination.port for flow in found.table()] == [n for n in range(1, FLOWS + 4) if n not in (2, 5, 7)]
    assert found.left_out == 3


def test_conversations_beyond_the_limit_are_counted_as_packets():
    packets = [udp_packet(b"x", CLIENT, Endpoint(FEED.address + n, 5)) for n in range(CONVERSATIONS + 7)]
    found = find_flows(Packets.of(packets), sbe=False)
    assert (len(found.conversations), found.unlisted_packets) == (CONVERSATIONS, 7)
    assert "7 packets of further conversations" in found.describe()


def test_an_empty_capture_has_nothing():
    assert find_flows(Packets.of([]), sbe=True).describe() == "no packets"


@given(st.lists(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: tcp(LOGON)[:30] + b))))
def test_damaged_packets_are_passed_over(packets):
    found = find_flows(Packets.of(packets), sbe=True)
    assert sum(talk.packets for talk in found.conversations) + found.other_packets == len(packets)


def test_public_captures(shared_data):
    cme = find_flows(read_packets(shared_data / "cme_mdp3" / "Cme.Mdp3.Sbe.v6.1.pcap"), sbe=True)
    assert {str(flow.destination) for flow in cme.table()} == {"224.0.31.64:14340", "224.0.32.64:15340"}
    for name in ("trace-fix4.2.pcap", "trace-fix4.4.pcap"):
        fix = find_flows(read_packets(shared_data / "fix_tcp" / name), sbe=False)
        assert [flow.parser for flow in fix.table()] == [Parser.FIX] * 2
