"""Capture files, built byte by byte, are read as their formats say; broken ones give one clear line."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.capture.pcapng import ticks_to_ns
from host.capture.reader import CaptureError, open_capture, open_captures, read_packets
from tests.host.capture.capture_files import (
    ORDERS,
    PACKETS,
    SECONDS,
    all_of,
    block,
    contents,
    enhanced,
    interface,
    obsolete,
    option,
    pcap_file,
    resolution,
    section,
    simple,
    sll,
    sll2,
)


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    return path


@ORDERS
@pytest.mark.parametrize(("magic", "tick"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap_of_both_byte_orders_and_resolutions(tmp_path, order, magic, tick):
    capture = open_capture(write(tmp_path, pcap_file(order, magic)))
    assert contents(capture.packets) == PACKETS
    assert capture.packets.timestamp.tolist() == [(SECONDS + n) * 10**9 + 5 * n * tick for n in range(5)]
    assert capture.warning is None


def test_pcap_whose_frames_end_with_an_fcs_is_ethernet_too(tmp_path):
    assert len(read_packets(write(tmp_path, pcap_file(link=0x24000001)))) == 5


def test_an_upper_half_slice_shares_the_bytes(tmp_path):
    packets = read_packets(write(tmp_path, pcap_file()))
    assert contents(packets.slice(3)) == PACKETS[3:]
    assert packets.slice(1, 3).data is packets.data


@ORDERS
def test_pcapng_blocks_of_every_packet_kind(tmp_path, order):
    ticks = SECONDS * 10**6 + 7
    data = section(order, option(order, 4, b"tests") + option(order, 0, b"")) + interface(order)
    data += block(order, 5, b"statistics..") + block(order, 0x0BAD, b"") + block(order, 0x80000001, b"own")
    data += enhanced(order, PACKETS[0], ticks, options=option(order, 1, b"why") + option(order, 0, b""))
    data += simple(order, PACKETS[1]) + obsolete(order, PACKETS[2], ticks + 1)
    packets = read_packets(write(tmp_path, data))
    assert contents(packets) == PACKETS[:3]
    assert packets.timestamp.tolist() == [ticks * 1000, ticks * 1000, ticks * 1000 + 1000]


def test_a_simple_packet_ends_at_the_snap_length_of_the_first_interface(tmp_path):
    data = section("<") + interface("<", snap=8) + interface("<") + simple("<", PACKETS[1][:8], len(PACKETS[1]))
    assert contents(read_packets(write(tmp_path, data))) == [PACKETS[1][:8]]


def test_a_second_section_has_its_own_byte_order_and_interfaces(tmp_path):
    data = section("<") + interface("<", 113) + interface("<", options=resolution("<", 9))
    data += enhanced("<", PACKETS[0], 123, interface=1)
    data += section(">") + interface(">", options=resolution(">", 3)) + enhanced(">", PACKETS[1], 123)
    packets = read_packets(write(tmp_path, data))
    assert contents(packets) == PACKETS[:2]
    assert packets.timestamp.tolist() == [123, 123 * 10**6]


def test_many_interfaces_with_an_offset_each(tmp_path):
    data = section("<")
    for n in range(9):
        data += interface("<", options=option("<", 14, struct.pack("<q", n - 3)))
    for n in range(9):
        data += enhanced("<", PACKETS[0], 5_000_000, interface=n)
    packets = read_packets(write(tmp_path, data))
    assert packets.timestamp.tolist() == [(5 + n - 3) * 10**9 for n in range(9)]


# The first example may have to wait for the compiler.
@settings(deadline=None)
@given(ticks=st.integers(0, 2**64 - 1), exponent=st.integers(0, 127), binary=st.booleans())
def test_ticks_become_ns_exactly(ticks, exponent, binary):
    expected = ticks * 10**9 // (2**exponent if binary else 10**exponent)
    assert int(ticks_to_ns(np.uint64(ticks), exponent | binary << 7)) == expected % 2**64


@pytest.mark.parametrize("pcapng", [False, True])
def test_a_file_cut_anywhere_is_read_up_to_its_last_whole_packet(tmp_path, pcapng):
    whole = pcap_file()
    ends = [24 + sum(16 + len(packet) for packet in PACKETS[:n]) for n in range(6)]
    if pcapng:
        whole = section("<") + interface("<")
        ends = [len(whole)]
        for packet in PACKETS:
            whole += enhanced("<", packet, 1)
            ends.append(len(whole))
    for size in range(ends[0], len(whole)):
        capture = open_capture(write(tmp_path, whole[:size]))
        count = sum(end <= size for end in ends) - 1
        assert contents(capture.packets) == PACKETS[:count]
        assert (capture.warning is None) == (size in ends)
        if capture.warning:
            assert f"begins at byte offset {ends[count]} " in capture.warning


REFUSED = {
    "empty": (b"", "the file is empty"),
    "text": ("a quotation „deep inside“\n" * 40, "text at byte offset 0"),
    "fix": (b"a log of 8=FIX.4.4|9=5|35=0|", "FIX text without a whole message at byte offset 0"),
    "compressed text": (gzip.compress(b"a quotation\n" * 40), "text at byte offset 0"),
    "half a gzip header": (gzip.compress(pcap_file())[:7], "the gzip data is cut at byte offset 7, before"),
    "compressed nothing": (gzip.compress(b""), "nothing is compressed in it, capture again"),
    "something behind gzip": (gzip.compress(pcap_file()) + b"extra bytes", "something else stands behind its end"),
    "damaged gzip": (
        gzip.compress(pcap_file())[:-8] + bytes(8),
        "gzip data cannot be decompressed somewhere before byte offset",
    ),
    "foreign": (
        b"\x7fELF\x02\x01\x01\x00\xff\xfe",
        "neither pcap nor pcapng at byte offset 0 (begins with 7f 45 4c 46)",
    ),
    "half a magic": (b"\xd4\xc3", "neither pcap nor pcapng"),
    "pcap header cut": (pcap_file()[:20], "cut inside its file header at byte offset 20"),
    "pcapng header cut": (section("<")[:20], None),
    "pcap of Wi-Fi": (
        pcap_file(link=105),
        "link type 105, IEEE802_11 (Wi-Fi), at byte offset 20; only Ethernet, Linux",
    ),
    "pcap of link type 9999": (
        pcap_file(link=9999),
        "link type 9999, unknown, at byte offset 20; only Ethernet, Linux",
    ),
    "old pcap": (pcap_file(version=(2, 2)), "pcap version 2.2 at byte offset 4"),
    "bogus length": (pcap_file()[:32] + b"\xff\xff\xff\xff" + bytes(99), "longer than 262144 bytes at byte offset 24"),
    "no byte order": (
        section("<").replace(b"\x4d\x3c\x2b\x1a", b"abcd"),
        "without its byte-order magic at byte offset 8",
    ),
    "pcapng 2": (section("<")[:12] + b"\x02" + section("<")[13:], "pcapng version 2.0 at byte offset 12"),
    "bogus block": (section("<") + struct.pack("<II", 6, 0xFFFFFFF0) + bytes(40), "do not add up at byte offset 28"),
    "block of 8": (section("<") + struct.pack("<III", 6, 8, 8), "do not add up at byte offset 28"),
    "unequal lengths": (section("<") + struct.pack("<III", 9, 12, 16), "do not add up at byte offset 28"),
    "no interface": (section("<") + enhanced("<", b"", 0), "interface that was not described at byte offset 28"),
    "no first interface": (section("<") + simple("<", b"abcd"), "interface that was not described at byte offset 28"),
    "short interface": (section("<") + block("<", 1, b"abcd"), "interface description that is too short"),
    "pcapng of USB": (section(">") + interface(">", 189) + obsolete(">", b"", 0), "link type 189, USB_LINUX"),
    "packet beyond block": (
        section("<") + interface("<") + simple("<", b"abcd", 99),
        "lengths do not add up at byte offset 48",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_where_and_why_in_one_line(tmp_path, name):
    data, expected = REFUSED[name]
    path = write(tmp_path, data.encode() if isinstance(data, str) else data)
    if expected is None:
        capture = open_capture(path)
        assert len(capture.packets) == 0
        assert "cut" in str(capture.warning)
        return
    with pytest.raises(CaptureError) as error:
        read_packets(path)
    assert expected in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_such_file_and_directories_are_told_apart(tmp_path):
    with pytest.raises(CaptureError, match="no such file"):
        open_capture(tmp_path / "none.pcap")
    with pytest.raises(CaptureError, match="is a directory"):
        open_capture(tmp_path)
    with pytest.raises(CaptureError, match="cannot be read"):
        open_capture("/dev/null")


PCAPNG = section("<") + interface("<") + b"".join(enhanced("<", packet, 1) for packet in PACKETS)
SEEDS = [pcap_file(), pcap_file(">"), PCAPNG, PCAPNG + section(">") + interface(">") + simple(">", PACKETS[0])]


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=5)), max_size=4),
    size=st.integers(0, 500),
)
def test_no_file_whatever_raises_anything_but_a_capture_error(tmp_path, seed, edits, size):
    data = bytearray(seed)
    for at, new in edits:
        data[at : at + len(new)] = new
    path = write(tmp_path, bytes(data[:size]))
    try:
        packets = read_packets(path)
    except CaptureError:
        return
    ends = packets.offset + packets.length
    assert (ends <= len(packets.data)).all()


SMALL_WINDOWS = [(28, 1), (28, 7), (50, 64), (300, 33)]


@pytest.mark.parametrize("windows", SMALL_WINDOWS)
@pytest.mark.parametrize("data", SEEDS)
def test_packets_are_the_same_wherever_windows_end(tmp_path, monkeypatch, data, windows):
    path = write(tmp_path, data)
    whole = all_of(open_capture(path).batches())
    monkeypatch.setattr("host.capture.source.FIRST_WINDOW_BYTES", windows[0])
    monkeypatch.setattr("host.capture.source.WINDOW_BYTES", windows[1])
    assert all_of(open_capture(path).batches()) == whole
    path.write_bytes(data[:-1])
    capture = open_capture(path)
    assert all_of(capture.batches()) == whole[:-1]
    assert f"read the {len(whole) - 1} whole packets before it" in capture.warning


def ip(packet):
    """From the EtherType on: what Linux's cooked capture keeps of a packet."""
    return packet[12:]


IPS = [packet[:12] + b"\x08\x00\x45" + packet[12:] for packet in PACKETS] + [bytes(12) + b"\x81\0\0\x07\x08\0E"]
SIXES = [bytes(12) + b"\x86\xdd\x60" + bytes(n) for n in range(3)]


@pytest.mark.parametrize("windows", [(1 << 16, 1 << 22), *SMALL_WINDOWS])
@pytest.mark.parametrize("kind", ["enhanced", "simple", "obsolete", "pcap"])
@pytest.mark.parametrize(("link", "cooked"), [(113, sll), (276, sll2)])
def test_linux_cooked_packets_become_ethernet_packets(tmp_path, monkeypatch, link, cooked, kind, windows):
    monkeypatch.setattr("host.capture.source.FIRST_WINDOW_BYTES", windows[0])
    monkeypatch.setattr("host.capture.source.WINDOW_BYTES", windows[1])
    packets = [cooked(packet) for packet in IPS]
    found = contents(read_packets(write(tmp_path, of_kind(kind, link, packets))))
    # The source address is the capture's, the destination's is not in it.
    assert found == [bytes(6) + packet[6:] for packet in IPS]


def of_kind(kind, link, packets):
    if kind == "pcap":
        return pcap_file(link=link, packets=packets)
    block_of = {"enhanced": lambda p: enhanced("<", p, 1), "obsolete": lambda p: obsolete("<", p, 1)}
    one = block_of.get(kind, lambda p: simple("<", p))
    return section("<") + interface("<", link) + b"".join(map(one, packets))


@pytest.mark.parametrize("windows", [(1 << 16, 1 << 22), *SMALL_WINDOWS])
@pytest.mark.parametrize("kind", ["enhanced", "simple", "obsolete", "pcap"])
@pytest.mark.parametrize(("link", "expected"), [(228, IPS[:5]), (229, SIXES), (101, IPS[:5] + SIXES)])
def test_ip_without_a_link_layer_gets_an_ethernet_header(tmp_path, monkeypatch, link, expected, kind, windows):
    monkeypatch.setattr("host.capture.source.FIRST_WINDOW_BYTES", windows[0])
    monkeypatch.setattr("host.capture.source.WINDOW_BYTES", windows[1])
    path = write(tmp_path, of_kind(kind, link, [packet[14:] for packet in expected]))
    assert contents(read_packets(path)) == [bytes(12) + packet[12:] for packet in expected]
    captures = open_captures([path])
    assert len(all_of(captures.batches())) == len(expected)
    assert captures.counts.ipv6 == sum(packet in SIXES for packet in expected)


@pytest.mark.parametrize(("link", "header"), [(113, 16), (276, 20)])
def test_a_packet_that_ends_within_its_cooked_header_is_damaged_ethernet(tmp_path, link, header):
    for size in range(header):
        (packet,) = contents(read_packets(write(tmp_path, pcap_file(link=link, packets=[bytes(range(size))]))))
        assert len(packet) < 14


def test_interfaces_of_one_file_may_have_different_link_types(tmp_path):
    data = section("<") + interface("<", 113) + interface("<") + interface("<", 228)
    data += enhanced("<", sll(IPS[0]), 1) + enhanced("<", IPS[1], 2, 1) + enhanced("<", IPS[2][14:], 3, 2)
    packets = read_packets(write(tmp_path, data))
    assert [ip(packet) for packet in contents(packets)] == [ip(packet) for packet in IPS[:3]]
    assert contents(packets)[1] == IPS[1]


def test_every_public_capture_reads_as_dpkt_reads_it(shared_data):
    dpkt = pytest.importorskip("dpkt")
    paths = sorted(shared_data.rglob("*.pcap*"))
    assert paths
    for path in paths:
        capture = open_capture(path)
        assert capture.warning is None
        with path.open("rb") as file:
            reader = dpkt.pcapng.Reader if file.read(4) == b"\x0a\x0d\x0d\x0a" else dpkt.pcap.Reader
            file.seek(0)
            expected = [(time, bytes(packet)) for time, packet in reader(file)]
        assert contents(capture.packets) == [packet for _, packet in expected]
        # dpkt's times are floats, exact to about a microsecond.
        times = np.array([float(time) for time, _ in expected])
        assert np.abs(capture.packets.timestamp / 1e9 - times).max() < 2e-6
