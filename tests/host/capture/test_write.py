"""Packets that are built here are read by dpkt with every checksum right, and written captures read back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdl.flow import Endpoint
from host.capture.packets import Packets
from host.capture.reader import open_capture
from host.capture.write import FIN, ones_complement_sum, tcp_packet, udp_packet, write_pcap

CLIENT, GATEWAY, FEED = Endpoint.parse("10.0.0.1:40000"), Endpoint.parse("10.0.1.2:9880"), Endpoint.parse("239.1.2.3:5")
PSEUDO_HEADERS = {17: "UDP", 6: "TCP"}


@given(st.binary(max_size=64))
def test_the_checksum_is_that_of_rfc_1071(data):
    total = sum(int.from_bytes((data + bytes(len(data) % 2))[n : n + 2], "big") for n in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert ones_complement_sum(data) == total


@given(payload=st.binary(max_size=60), vlans=st.lists(st.integers(0, 0xFFFF), max_size=2), tcp=st.booleans())
def test_every_length_and_checksum_is_right(payload, vlans, tcp):
    dpkt = pytest.importorskip("dpkt")
    if tcp:
        packet = tcp_packet(payload, CLIENT, GATEWAY, sequence=2**32 + 7, flags=FIN, vlans=vlans, identification=3)
    else:
        packet = udp_packet(payload, CLIENT, FEED, vlans=vlans, identification=3)
    ip_at = 14 + 4 * len(vlans)
    assert packet[:6] == (b"\x02\x00\x0a\x00\x01\x02" if tcp else b"\x01\x00\x5e\x01\x02\x03")
    assert ones_complement_sum(packet[ip_at : ip_at + 20]) == 0xFFFF
    ip = dpkt.ip.IP(packet[ip_at:])
    assert ip.len == len(packet) - ip_at
    segment = packet[ip_at + 20 :]
    pseudo_header = ip.src + ip.dst + bytes([0, ip.p]) + len(segment).to_bytes(2, "big")
    assert ones_complement_sum(pseudo_header + segment) == 0xFFFF
    assert ip.data.data == payload
    assert (ip.data.sport, ip.data.dport) == (40000, 9880 if tcp else 5)
    if tcp:
        assert (ip.data.seq, ip.data.flags) == (7, FIN)
    else:
        assert ip.data.ulen == 8 + len(payload)


@pytest.mark.parametrize("vlans", [(), (5,), (6, 7)])
def test_vlan_tags_stand_from_the_outside_in(vlans):
    tags = udp_packet(b"x", CLIENT, FEED, vlans=vlans)[12 : 14 + 4 * len(vlans)]
    expected = {0: "0800", 1: "810000050800", 2: "88a80006810000070800"}
    assert tags.hex() == expected[len(vlans)]


def test_a_written_capture_reads_back_to_the_nanosecond(tmp_path, monkeypatch):
    monkeypatch.setattr("host.capture.write.WRITTEN_AT_ONCE", 3)
    contents = [bytes([n]) * (n * 9 % 70) for n in range(10)]
    times = np.array([1_700_000_000_123_456_789 + (n % 3) for n in range(10)], np.uint64)
    write_pcap(tmp_path / "a.pcap", Packets.of(contents, times).slice(1))
    capture = open_capture(tmp_path / "a.pcap")
    assert [capture.packets.packet(n) for n in range(9)] == contents[1:]
    assert (capture.packets.timestamp == times[1:]).all()
    assert capture.warning is None


def test_a_capture_of_no_packets_can_be_written_and_read(tmp_path):
    write_pcap(tmp_path / "a.pcap", Packets.of([]))
    assert len(open_capture(tmp_path / "a.pcap").packets) == 0


def test_packets_need_a_timestamp_each():
    with pytest.raises(ValueError, match="2 packets but 1 timestamps"):
        Packets.of([b"a", b"b"], [1])
