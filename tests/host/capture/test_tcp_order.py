"""TCP segments come in order; no packet is lost, changed or made up."""

import random
from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.flow import Endpoint
from host.capture.headers import sort_kinds
from host.capture.packets import Packets
from host.capture.tcp_order import ACKNOWLEDGED_WAIT_NS, BYTES_MAX, SEGMENTS_MAX, SETS, WAIT_NS, WAYS, TcpOrder
from host.capture.write import ACKNOWLEDGE, SYN, tcp_packet, udp_packet
from tests.host.capture.capture_files import all_of

ENDS = [Endpoint.parse("10.0.0.1:40000"), Endpoint.parse("10.0.1.2:9880"), Endpoint.parse("10.0.0.1:40001")]
WAYS_ROUND = [(ENDS[0], ENDS[1]), (ENDS[1], ENDS[0]), (ENDS[2], ENDS[1])]
UDP = udp_packet(b"x", ENDS[0], Endpoint.parse("239.1.2.3:5"))


def segment(begin, size, way=0, **more):
    """Bytes ``begin`` to ``begin + size`` of a direction whose first byte has number 2^32 - 100."""
    source, destination = WAYS_ROUND[way]
    payload = bytes((n * 7 + way) % 256 for n in range(begin, begin + size))
    return tcp_packet(payload, source, destination, sequence=2**32 - 100 + begin, **more)


def put_in_order(packets, times=None, batch=1000):
    order, given, out = TcpOrder(), Packets.of(packets, times), []
    for start in range(0, len(given), batch):
        part = given.slice(start, start + batch)
        kinds = np.empty(len(part), np.uint8)
        sort_kinds(part.data, part.offset, part.length, kinds, np.zeros(4, np.int64))
        out += all_of([order.put(part, kinds)])
    return out + all_of([order.rest()]), order


def holes_of(packets):
    """Bytes that a card finds missing, by docs/ethernet.md, and what it reads of each direction."""
    due, read, holes = {}, {}, 0
    for packet in packets:
        if packet[23] != 6:
            continue
        key, payload = packet[26:38], packet[54:]
        sequence = int.from_bytes(packet[38:42])
        if packet[47] & SYN:
            sequence = (sequence + 1) % 2**32
            due[key] = sequence
        if not payload:
            continue
        ahead = (sequence - due.get(key, sequence) + 2**31) % 2**32 - 2**31
        holes += max(ahead, 0)
        if ahead < 0:
            payload = payload[-ahead:]
        if payload:
            read[key] = read.get(key, b"") + payload
            due[key] = (sequence + len(packet[54:])) % 2**32
    return holes, read


@st.composite
def disordered(draw):
    """Segments of three directions with other packets between, some again, some overlapping, none far from its place."""
    randomly = random.Random(draw(st.integers(0, 2**32)))
    packets = []
    for way in range(3):
        begin = 0
        for place in range(draw(st.integers(1, 12))):
            size = randomly.randrange(1, 40)
            back = randomly.choice((0, 0, 0, randomly.randrange(0, begin + 1)))
            packets.append((place * 3 + way, segment(begin - back, size + back, way)))
            if randomly.random() < 0.3:
                packets.append((place * 3 + way, packets[-1][1]))
            if randomly.random() < 0.2:
                packets.append((place * 3 + way, UDP))
            begin += size
    # The first segment of a direction stays first: the stream begins with what is seen first.
    far = draw(st.integers(0, 20))
    return [packet for _, packet in sorted((at + (at > 2) * randomly.random() * far, packet) for at, packet in packets)]


@settings(deadline=None)
@given(packets=disordered(), batch=st.integers(1, 30))
def test_every_stream_is_read_without_a_hole_and_nothing_is_lost(packets, batch):
    out, order = put_in_order(packets, batch=batch)
    assert Counter(packet for packet, _ in out) == Counter(packets)
    holes, read = holes_of([packet for packet, _ in out])
    assert holes == order.holes == 0
    for way, (_, stream) in enumerate(sorted(read.items(), key=lambda each: WAYS_ROUND.index(ends_of(each[0])))):
        assert stream == bytes((n * 7 + way) % 256 for n in range(len(stream)))
    times = [time for _, time in out]
    assert times == sorted(times)
    assert (out, order.waited) == ((again := put_in_order(packets))[0], again[1].waited)


def ends_of(key):
    source, destination = int.from_bytes(key[:4]), int.from_bytes(key[4:8])
    return Endpoint(source, int.from_bytes(key[8:10])), Endpoint(destination, int.from_bytes(key[10:12]))


def test_what_waited_has_the_time_of_what_it_waited_for():
    out, order = put_in_order([segment(0, 5), segment(9, 3), UDP, segment(5, 4), segment(12, 1)], [1, 2, 3, 4, 5])
    assert out == [(segment(0, 5), 1), (UDP, 3), (segment(5, 4), 4), (segment(9, 3), 4), (segment(12, 1), 5)]
    assert (order.waited, order.holes) == (1, 0)


def test_a_batch_in_order_is_passed_on_as_it_is():
    packets = Packets.of([segment(0, 5), UDP, segment(5, 4), segment(5, 4), segment(0, 9, 1)])
    kinds = np.empty(len(packets), np.uint8)
    sort_kinds(packets.data, packets.offset, packets.length, kinds, np.zeros(4, np.int64))
    assert TcpOrder().put(packets, kinds) is packets


def test_a_hole_is_given_up_after_a_time_and_what_waited_keeps_its_own():
    given = [segment(0, 5), segment(9, 3), segment(7, 2), UDP, UDP, segment(12, 1)]
    out, order = put_in_order(given, [1, 2, 3, 1 + WAIT_NS, 2 + WAIT_NS, 3 + WAIT_NS], batch=2)
    assert out == [
        (given[0], 1), (UDP, 1 + WAIT_NS), (given[2], 3), (given[1], 2), (UDP, 2 + WAIT_NS), (given[5], 3 + WAIT_NS),
    ]  # fmt: skip
    assert (order.waited, order.holes) == (0, 1)


def test_a_hole_whose_bytes_the_receiver_has_is_given_up_soon():
    acknowledged = segment(0, 0, 1, acknowledgement=2**32 - 100 + 12, flags=ACKNOWLEDGE)
    given = [segment(0, 5), segment(9, 3), acknowledged, UDP, UDP]
    later = 3 + ACKNOWLEDGED_WAIT_NS
    out, _ = put_in_order(given, [1, 2, 3, later - 1, later])
    assert [packet for packet, _ in out] == [given[0], acknowledged, UDP, given[1], UDP]
    # An acknowledgement that was captured ahead of what it is for does no harm.
    out, order = put_in_order([*given[:3], segment(5, 4)], [1, 2, 3, 4])
    assert [packet for packet, _ in out] == [given[0], acknowledged, segment(5, 4), given[1]]
    assert order.holes == 0


def test_at_the_end_of_the_capture_nothing_waits_any_more():
    given = [segment(0, 5), segment(20, 3), segment(9, 3), UDP]
    out, order = put_in_order(given)
    assert [packet for packet, _ in out] == [given[0], UDP, given[2], given[1]]
    assert order.holes == 2


def test_a_new_connection_between_the_same_ends_begins_anew():
    given = [segment(0, 5), segment(9, 3), segment(5000, 0, flags=SYN), segment(5001, 4), segment(5005, 2)]
    out, _ = put_in_order(given)
    assert [packet for packet, _ in out] == given


def test_a_segment_that_the_capture_cut_is_no_hole():
    given = [segment(0, 50)[:-30], segment(50, 5), segment(60, 5), segment(55, 5)[:-4]]
    out, order = put_in_order(given)
    assert [packet for packet, _ in out] == [given[0], given[1], given[3], given[2]]
    assert order.holes == 0


def test_segments_longer_than_a_card_takes_are_followed_too():
    given = [segment(0, 5), segment(5, 20000), segment(20006, 2), segment(20005, 1)]
    out, _ = put_in_order(given)
    assert [packet for packet, _ in out] == [given[0], given[1], given[3], given[2]]


def test_segments_that_wait_are_bounded_by_number():
    given = [segment(0, 1), *(segment(2 + n, 1) for n in range(SEGMENTS_MAX + 1)), segment(1, 1)]
    out, order = put_in_order(given, batch=500)
    assert [packet for packet, _ in out] == given
    assert order.holes == 1


def test_segments_that_wait_are_bounded_by_bytes():
    size = 60000
    most = BYTES_MAX // size
    given = [segment(0, 1), *(segment(2 + n * size, size) for n in range(most + 2)), segment(1, 1)]
    out, order = put_in_order(given, batch=50)
    assert [packet for packet, _ in out] == given
    assert order.holes == 1


def test_more_directions_than_are_followed_lose_nothing():
    source, given = ENDS[0], []
    for begin in (0, 2, 1):
        for number in range(2 * SETS * WAYS):
            end = Endpoint(ENDS[1].address + number % 300, number)
            given.append(tcp_packet(b"x", source, end, sequence=begin))
    out, _ = put_in_order(given, batch=3000)
    assert Counter(packet for packet, _ in out) == Counter(given)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=70).map(lambda tail: segment(0, 9)[:30] + tail), max_size=9))
def test_damaged_packets_are_passed_on(packets):
    out, _ = put_in_order(packets, batch=3)
    assert Counter(packet for packet, _ in out) == Counter(packets)
