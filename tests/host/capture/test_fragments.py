"""IPv4 fragments become the datagrams that they were, whatever way they come; others pass as they are."""

import struct

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.flow import Endpoint
from host.capture import fragments
from host.capture.fragments import WAIT_NS, Reassembly
from host.capture.headers import sort_kinds
from host.capture.packets import Packets
from host.capture.write import tcp_packet, udp_packet
from tests.host.capture.capture_files import all_of, contents, fragmented

CLIENT, FEED = Endpoint.parse("10.0.0.1:40000"), Endpoint.parse("239.1.2.3:5")


def kinds_of(packets: Packets) -> np.ndarray:
    kinds = np.empty(len(packets), np.uint8)
    sort_kinds(packets.data, packets.offset, packets.length, kinds, np.zeros(4, np.int64))
    return kinds


def put_together(packets, times=None, batch=1000):
    """All packets that come out, and the reassembly."""
    reassembly, given = Reassembly(), Packets.of(packets, times)
    out = []
    for start in range(0, len(given), batch):
        part = given.slice(start, start + batch)
        out += all_of([reassembly.put(part, kinds_of(part))])
    return out + all_of([reassembly.rest()]), reassembly


def datagram(number: int, size: int, vlans=()) -> bytes:
    payload = bytes(n * (number + 3) % 251 for n in range(size))
    return udp_packet(payload, CLIENT, FEED, vlans=vlans, identification=number)


@settings(deadline=None)
@given(data=st.data(), count=st.integers(1, 4), batch=st.integers(1, 9))
def test_fragments_in_any_order_and_twice_give_the_datagrams(data, count, batch):
    wholes = [datagram(n, data.draw(st.integers(30, 200)), vlans=(5,) * (n % 3)) for n in range(count)]
    pieces = []
    for whole in wholes:
        parts = fragmented(whole, data.draw(st.integers(1, 9)) * 8)
        # One that comes again is a fragment of a second datagram if it comes after all others: not here.
        again = data.draw(st.lists(st.sampled_from(parts[:-1] or parts), max_size=2)) if len(parts) > 1 else []
        pieces.append(data.draw(st.permutations(parts[:-1] + again)) + parts[-1:])
    order = data.draw(st.permutations([n for n, parts in enumerate(pieces) for _ in parts]))
    turns = [iter(parts) for parts in pieces]
    mixed = [next(turns[n]) for n in order]
    out, reassembly = put_together(mixed, batch=batch)
    # A datagram comes where its last fragment came, with its time.
    last = {n: place for place, n in enumerate(order)}
    assert out == [(wholes[n], last[n]) for n in sorted(last, key=lambda n: last[n])]
    assert reassembly.given_up == 0
    for packet in wholes:
        at = 14 + 4 * (packet[12:14] != b"\x08\x00") + 4 * (packet[12:14] == b"\x88\xa8")
        assert bytes(dpkt.ip.IP(packet[at:])) == packet[at:]


def test_other_packets_keep_their_places():
    parts = fragmented(datagram(1, 100), 48)
    other = [datagram(n, 10) for n in range(2, 6)]
    out, reassembly = put_together([other[0], parts[0], other[1], parts[2], other[2], parts[1], other[3]])
    assert [packet for packet, _ in out] == [*other[:3], datagram(1, 100), other[3]]
    assert [time for _, time in out] == [0, 2, 4, 5, 6]
    assert (reassembly.datagrams, reassembly.fragments, reassembly.given_up) == (1, 3, 0)


def test_a_batch_without_fragments_is_passed_on_as_it_is():
    packets = Packets.of([datagram(1, 9), b"short"])
    assert Reassembly().put(packets, kinds_of(packets)) is packets


def test_datagrams_between_other_ends_or_with_another_number_are_not_mixed_up():
    first = fragmented(udp_packet(b"a" * 64, CLIENT, FEED, identification=1), 32)
    second = fragmented(udp_packet(b"b" * 64, CLIENT, FEED, identification=2), 32)
    third = fragmented(tcp_packet(b"c" * 64, CLIENT, FEED, sequence=1, identification=1), 32)
    out, _ = put_together([*first[:1], *second[:2], *third, *second[2:], *first[1:]])
    assert [packet[-3:] for packet, _ in out] == [b"ccc", b"bbb", b"aaa"]


def test_bytes_that_came_first_count():
    whole = datagram(1, 56)
    parts = fragmented(whole, 32)
    wrong = parts[0][:34] + bytes(32)
    out, _ = put_together([parts[0], wrong, parts[1]])
    assert [packet for packet, _ in out] == [whole]


def test_what_never_becomes_whole_is_passed_on_after_a_time_or_at_the_end():
    parts, other = fragmented(datagram(1, 100), 48), datagram(2, 8)
    late, _ = put_together([parts[0], other, other, parts[1]], [5, 6, 7 + WAIT_NS, 8 + WAIT_NS])
    assert late == [(other, 6), (other, 7 + WAIT_NS), (parts[0], 5), (parts[1], 8 + WAIT_NS)]
    late, reassembly = put_together([parts[0], other, other, parts[1]], [5, 6, 7 + WAIT_NS, 8 + WAIT_NS], batch=1)
    assert late == [(other, 6), (other, 7 + WAIT_NS), (parts[0], 5), (parts[1], 8 + WAIT_NS)]
    assert reassembly.given_up == 2


def test_odd_fragments_are_passed_on_as_they_are():
    parts = fragmented(datagram(1, 100), 48)
    cut = parts[0][:-1]
    empty = parts[1][:16] + struct.pack(">H", 20) + parts[1][18:34]
    beyond = parts[1][:20] + struct.pack(">H", 0x1FFF) + parts[1][22:]
    odd = parts[0][:16] + struct.pack(">H", 20 + 47) + parts[0][18:-1]
    junk = parts[0][:14] + b"\x46" + parts[0][15:16] + struct.pack(">H", 21) + parts[0][18:]
    given = [cut, empty, beyond, odd, junk]
    out, reassembly = put_together(given)
    assert [packet for packet, _ in out] == given
    assert reassembly.given_up == 5


@pytest.mark.parametrize("limit", ["DATAGRAMS_MAX", "BYTES_MAX", "FRAGMENTS_MAX"])
def test_memory_is_bounded(monkeypatch, limit):
    monkeypatch.setattr(fragments, limit, 700 if limit == "BYTES_MAX" else 5)
    if limit == "FRAGMENTS_MAX":
        pieces = fragmented(datagram(1, 100), 8)[:-1]
    else:
        pieces = [fragmented(datagram(n, 100), 56)[0] for n in range(20)]
    reassembly, packets = Reassembly(), Packets.of(pieces)
    out = contents(reassembly.put(packets, kinds_of(packets)))
    assert 0 < len(out) < len(pieces)
    assert out == pieces[: len(out)]
    assert out + contents(reassembly.rest()) == pieces


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60).map(lambda tail: fragmented(datagram(1, 100), 48)[0][:20] + tail)))
def test_no_packet_is_lost_whatever_it_is(packets):
    out, reassembly = put_together(packets)
    assert len(out) == len(packets) - reassembly.fragments + reassembly.datagrams
