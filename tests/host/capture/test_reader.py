"""Capture files, built byte by byte, are read as their formats say; broken ones give one clear line."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host.capture.pcapng import ticks_to_ns
from host.capture.reader import CaptureError, open_capture, read_packets

PACKETS = [b"\x01\x00\x5e" + bytes([n]) * (11 + 7 * n) for n in range(5)]
SECONDS = 1_700_000_000
ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])


def pcap_file(order="<", magic=0xA1B2C3D4, link=1, packets=PACKETS, version=(2, 4)):
    out = struct.pack(order + "IHHIIII", magic, *version, 0, 0, 65535, link)
    for n, packet in enumerate(packets):
        out += struct.pack(order + "IIII", SECONDS + n, 5 * n, len(packet), len(packet) + 9) + packet
    return out


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order, options=b""):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + options)


def interface(order, link=1, snap=0, options=b""):
    return block(order, 1, struct.pack(order + "HHI", link, 0, snap) + options)


def enhanced(order, packet, ticks, interface=0, options=b""):
    head = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet))
    return block(order, 6, head + packet + bytes(-len(packet) % 4) + options)


def obsolete(order, packet, ticks, interface=0):
    head = struct.pack(order + "HHIIII", interface, 3, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet))
    return block(order, 2, head + packet)


def simple(order, packet, original=None):
    return block(order, 3, struct.pack(order + "I", original or len(packet)) + packet)


def resolution(order, value):
    return option(order, 2, b"card0") + option(order, 9, bytes([value])) + option(order, 0, b"")


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    return path


def contents(packets):
    return [packets.packet(n) for n in range(len(packets))]


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
    "gzip": (gzip.compress(pcap_file()), "gzip-compressed at byte offset 0, decompress it first (gunzip)"),
    "foreign": (
        b"\x7fELF\x02\x01\x01\x00\xff\xfe",
        "neither pcap nor pcapng at byte offset 0 (begins with 7f 45 4c 46)",
    ),
    "half a magic": (b"\xd4\xc3", "neither pcap nor pcapng"),
    "pcap header cut": (pcap_file()[:20], "cut inside its file header at byte offset 20"),
    "pcapng header cut": (section("<")[:20], None),
    "pcap of Wi-Fi": (pcap_file(link=105), "link type 105, IEEE802_11 (Wi-Fi), at byte offset 20; only Ethernet"),
    "pcap of link type 9999": (pcap_file(link=9999), "link type 9999, unknown, at byte offset 20; only Ethernet"),
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
    "pcapng of any": (section(">") + interface(">", 276) + obsolete(">", b"", 0), "link type 276, LINUX_SLL2"),
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
