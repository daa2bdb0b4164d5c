"""A TCP flow whose row names its source is followed by sequence number: docs/ethernet.md, "TCP"."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from hdl.flow import ANYWHERE, Endpoint, Flow, Parser, Protocol
from hdl.frame import MALFORMED_FLAGS, Flag, Kind
from host.capture.packets import Packets
from host.capture.write import ACKNOWLEDGE, FIN, PUSH, SYN, tcp_packet
from host.card import open_card

CLIENT, OTHER_CLIENT = Endpoint.parse("10.0.0.2:40000"), Endpoint.parse("10.0.0.3:40000")
GATEWAY = Endpoint.parse("10.0.0.1:5001")
FOLLOWED = (Flow(Protocol.TCP, GATEWAY, Parser.FIX, CLIENT),)
RST = 0x04
FRAGMENT_FIELD = 20


def order(number: int) -> bytes:
    body = b"35=D\x0134=%03d\x0144=1\x0138=1\x01" % number
    head = b"8=FIX.4.4\x019=%d\x01" % len(body) + body
    return head + b"10=%03d\x01" % (sum(head) % 256)


ORDERS = b"".join(order(number) for number in range(1, 8))
SIZE = len(order(1))


def segment(payload: bytes, sequence: int, flags: int = PUSH | ACKNOWLEDGE, source: Endpoint = CLIENT) -> bytes:
    return tcp_packet(payload, source, GATEWAY, sequence=sequence, flags=flags)


class Run:
    """What came of some packets: frames with their bytes, and counters that are not 0."""

    def __init__(
        self, packets: Sequence[bytes], flows: Sequence[Flow] = FOLLOWED, frame_slots: int = 64, payload: int = 1 << 16
    ) -> None:
        fed = Packets.of(packets)
        self.frames, self.raw, self.stops = [], [], 0
        with open_card("soft:", flows, frame_slots=frame_slots, payload_bytes=payload) as card:
            done = 0
            while True:
                done = card.feed(fed, done)
                while len(frames := card.ring.poll(1)):
                    self.frames.append(frames[0].copy())
                    self.raw.append(bytes(card.ring.message(frames[0])))
                    card.ring.release(1)
                if done == len(fed):
                    break
                self.stops += 1
            self.counters = {name: count for name, count in card.counters().items() if count}

    @property
    def kinds(self) -> list[Kind]:
        return [Kind(frame["kind"]) for frame in self.frames]

    @property
    def orders(self) -> list[int]:
        """Sequence numbers of the orders."""
        return [int(frame["sequence"]) for frame in self.frames if frame["kind"] == Kind.NEW_ORDER]

    @property
    def gaps(self) -> list[tuple[int, bytes]]:
        """GAP frames: bytes that are missing, bytes of what was unfinished."""
        pairs = zip(self.frames, self.raw, strict=True)
        return [(int(frame["sequence"]), raw) for frame, raw in pairs if frame["kind"] == Kind.GAP]


STARTS = (0, 1, 2**31 - 100, 2**31, 2**32 - SIZE, 2**32 - 50, 2**32 - 1)
"""First sequence numbers, so that half of the range and its end come at all sorts of places."""


@pytest.mark.parametrize("start", STARTS)
def test_bytes_that_come_again_are_read_once(start):
    run = Run(
        [
            segment(ORDERS[:100], start),
            segment(ORDERS[:100], start),
            segment(ORDERS[50:100], start + 50),
            segment(ORDERS[99:200], start + 99),
            segment(ORDERS[:300], start),
            segment(ORDERS[150:], start + 150),
            segment(ORDERS[-1:], start + len(ORDERS) - 1),
        ]
    )
    assert run.orders == [1, 2, 3, 4, 5, 6, 7]
    assert run.counters == {
        "packets": 7,
        "repeated": 3,
        "parsed": 4,
        "fix_bytes": len(ORDERS),
        "frames": 7,
        "payload_bytes": len(ORDERS),
    }


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("lost", [1, SIZE - 1, SIZE, 3 * SIZE + 5])
def test_a_hole_is_a_gap_frame_with_what_was_unfinished(start, lost):
    before = ORDERS[: SIZE + 10]
    behind = SIZE + 10 + lost
    run = Run([segment(before, start), segment(ORDERS[behind:], start + behind)])
    assert run.gaps == [(lost, ORDERS[SIZE : SIZE + 10])]
    assert run.kinds[:2] == [Kind.NEW_ORDER, Kind.GAP]
    assert run.orders == [1, *range(1 + -(-behind // SIZE), 8)]
    assert run.counters["gaps"] == 1
    assert run.counters["payload_bytes"] == run.counters["fix_bytes"] == len(ORDERS) - lost
    assert b"".join(run.raw) == before + ORDERS[behind:]


def test_the_gap_frame_has_the_time_of_the_packet_behind_it_and_what_was_taken():
    run = Run([segment(ORDERS[:34], 0), segment(b"", 34, ACKNOWLEDGE), segment(ORDERS[SIZE:], SIZE)])
    gap = run.frames[0]
    assert (gap["kind"], gap["timestamp"], gap["message_type"]) == (Kind.GAP, 2, ord("D"))
    assert (gap["price"], gap["flags"], gap["payload_length"]) == (10**9, Flag.QUANTITY_ABSENT, 34)
    assert run.orders == [2, 3, 4, 5, 6, 7]
    assert int(run.frames[1]["timestamp"]) == 2


@pytest.mark.parametrize(
    ("unfinished", "flags"),
    [
        (b"", 0),
        (b"junk", 0),
        (b"junk\x01more", Flag.GARBAGE),
        (b"8=FIX.4.4\x01", 0),
        (b"8=FIX.4.4\x019=x\x01", Flag.LENGTH),
        (b"8=FIX.4.4\x019=50\x0134=1\x010=5\x01", Flag.STRUCTURE | Flag.TAG),
        (b"8=FIX.4.4\x019=50\x0135=B\x0195=9\x0196=a\x01b", 0),
        (b"8=FIX.4.4\x019=5\x0135=0\x0110=1", 0),
        (b"8=FIX.4.4\x019=99\x0135=W\x01269=0\x01270=x\x01", 0),
    ],
)
def test_a_hole_ends_every_phase_and_keeps_the_flags(unfinished, flags):
    run = Run([segment(unfinished or order(0), 0), segment(order(1), len(unfinished or order(0)) + 9)])
    gap = run.frames[-2]
    assert (gap["kind"], gap["flags"] & MALFORMED_FLAGS) == (Kind.GAP, flags)
    assert (run.gaps, run.orders[-1]) == ([(9, unfinished)], 1)
    assert gap["entry_offset"] == 0


def test_an_overtaken_segment_is_a_hole_and_is_skipped_when_it_comes():
    run = Run(
        [
            segment(ORDERS[:SIZE], 0),
            segment(ORDERS[2 * SIZE : 3 * SIZE], 2 * SIZE),
            segment(ORDERS[SIZE : 2 * SIZE], SIZE),
            segment(ORDERS[3 * SIZE :], 3 * SIZE),
        ]
    )
    assert run.orders == [1, 3, 4, 5, 6, 7]
    assert run.gaps == [(SIZE, b"")]
    assert (run.counters["repeated"], run.counters["gaps"]) == (1, 1)


def test_what_the_capture_cut_off_is_a_hole_when_the_next_packet_comes():
    cut = segment(ORDERS[: 2 * SIZE], 0)[: 54 + SIZE + 4]
    assert Run([cut]).kinds == [Kind.NEW_ORDER]
    run = Run([cut, segment(ORDERS[2 * SIZE :], 2 * SIZE)])
    assert (run.gaps, run.orders) == ([(SIZE - 4, ORDERS[SIZE : SIZE + 4])], [1, 3, 4, 5, 6, 7])
    headers = segment(ORDERS[SIZE : 2 * SIZE], SIZE)[:54]
    run = Run([segment(ORDERS[:SIZE], 0), headers, segment(ORDERS[2 * SIZE :], 2 * SIZE)])
    assert (run.gaps, run.counters["empty"]) == ([(SIZE, b"")], 1)


def test_packets_without_payload_move_nothing():
    run = Run(
        [
            segment(ORDERS[:70], 5),
            segment(b"", 9999, ACKNOWLEDGE),
            segment(b"", 75, FIN | ACKNOWLEDGE),
            segment(b"", 1, RST),
            segment(ORDERS[70:], 75, RST | PUSH),
        ]
    )
    assert run.orders == [1, 2, 3, 4, 5, 6, 7]
    assert (run.counters["empty"], run.counters["parsed"]) == (3, 2)
    assert "gaps" not in run.counters


@pytest.mark.parametrize("start", STARTS)
def test_a_syn_counts_as_one_byte_before_the_first(start):
    run = Run([segment(b"", start, SYN), segment(ORDERS, start + 1)])
    assert (run.orders, run.gaps) == ([1, 2, 3, 4, 5, 6, 7], [])
    run = Run([segment(ORDERS[:30], start, SYN), segment(ORDERS[30:], start + 31)])
    assert (run.orders, run.gaps) == ([1, 2, 3, 4, 5, 6, 7], [])
    run = Run([segment(b"", start, SYN), segment(ORDERS[SIZE:], start + 1 + SIZE)])
    assert (run.orders, run.gaps) == ([2, 3, 4, 5, 6, 7], [(SIZE, b"")])


def test_a_syn_of_the_number_that_is_due_changes_nothing():
    run = Run([segment(ORDERS[:70], 1), segment(b"", 70, SYN), segment(ORDERS[70:], 71)])
    assert (run.orders, run.gaps) == ([1, 2, 3, 4, 5, 6, 7], [])


def test_a_syn_begins_another_connection_with_a_hole_of_no_bytes():
    packets = [segment(ORDERS[:70], 1000), segment(b"", 5, SYN)]
    run = Run(packets)
    assert (run.gaps, run.counters.get("gaps")) == ([], None)
    run = Run([*packets, segment(b"", 900, SYN), segment(ORDERS, 901), segment(ORDERS, 901)])
    assert run.gaps == [(0, ORDERS[SIZE:70])]
    assert run.orders == [1, 1, 2, 3, 4, 5, 6, 7]
    assert (run.counters["gaps"], run.counters["repeated"], run.counters["empty"]) == (1, 1, 2)


def test_bytes_missing_behind_a_syn_are_one_hole_with_it():
    run = Run([segment(ORDERS[:70], 1000), segment(b"", 5, SYN), segment(ORDERS[SIZE:], 6 + SIZE)])
    assert (run.gaps, run.counters["gaps"]) == ([(SIZE, ORDERS[SIZE:70])], 1)
    assert run.orders == [1, 2, 3, 4, 5, 6, 7]


def test_bytes_before_the_first_of_a_new_connection_are_skipped():
    run = Run([segment(ORDERS[:70], 1000), segment(b"", 5, SYN), segment(ORDERS[:10] + ORDERS, 6 - 10)])
    assert run.gaps == [(0, ORDERS[SIZE:70])]
    assert run.orders == [1, 1, 2, 3, 4, 5, 6, 7]


def test_half_of_all_numbers_lie_ahead_and_half_behind():
    run = Run([segment(order(1), 0), segment(order(2), SIZE + 2**31 - 1)])
    assert (run.gaps, run.orders) == ([(2**31 - 1, b"")], [1, 2])
    run = Run([segment(order(1), 0), segment(order(2), SIZE + 2**31)])
    assert (run.gaps, run.orders, run.counters["repeated"]) == ([], [1], 1)


def test_the_packet_behind_a_hole_gives_the_gap_frame_its_fragment_flag():
    fragment = bytearray(segment(order(2), SIZE + 3))
    fragment[FRAGMENT_FIELD] = 0x20
    run = Run([segment(order(1), 0), bytes(fragment)])
    assert [bool(frame["flags"] & Flag.FRAGMENT) for frame in run.frames] == [False, True, True]


@pytest.mark.parametrize(
    "row",
    [
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, ANYWHERE),
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(CLIENT.address, 0)),
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(0, CLIENT.port)),
    ],
)
def test_rows_that_fit_several_connections_are_not_followed(row):
    packets = [
        segment(order(1), 7),
        segment(order(1), 7),
        segment(order(2), 900),
        segment(order(3), 2, source=OTHER_CLIENT),
    ]
    run = Run(packets, [row, Flow(Protocol.TCP, GATEWAY, Parser.FIX)])
    assert sorted(run.orders) == [1, 1, 2, 3]
    assert run.counters["parsed"] == 4


def test_flows_are_followed_each_for_itself():
    rows = [Flow(Protocol.TCP, GATEWAY, Parser.FIX, each) for each in (CLIENT, OTHER_CLIENT)]
    cuts = [*range(0, len(ORDERS), 37), len(ORDERS)]
    packets = []
    for first, end in pairwise(cuts):
        packets += [
            segment(ORDERS[first:end], 50 + first),
            segment(ORDERS[first:end], 2**32 - 9 + first, source=OTHER_CLIENT),
        ]
    run = Run(packets, rows)
    assert [int(frame["flow"]) for frame in run.frames] == [0, 1] * 7
    assert run.orders == [number for number in range(1, 8) for _ in range(2)]


def test_waiting_for_credit_repeats_no_gap_and_loses_none():
    packets, at = [], 2**32 - 500
    for number in range(60):
        payload = ORDERS[: 50 + number]
        packets += [segment(payload, at), segment(payload, at)]
        at += len(payload) + number % 3
    plenty, tiny = Run(packets, frame_slots=1 << 10), Run(packets, frame_slots=2, payload=1 << 15)
    assert tiny.stops > 50 > plenty.stops == 0
    assert tiny.counters == plenty.counters
    assert (tiny.raw, tiny.gaps, tiny.orders) == (plenty.raw, plenty.gaps, plenty.orders)
    assert len(plenty.gaps) == plenty.counters["gaps"] == 39
    assert plenty.counters["repeated"] == 60


def test_a_gap_of_a_span_that_the_payload_ring_has_no_room_for_waits():
    head = b"8=FIX.4.4\x019=4000\x01"
    long = head + b"58=" + b"x" * 2000 + b"\x01" + b"59=" + b"y" * 1900 + b"\x01" + b"60=" + b"z" * 1000
    packets, at = [], 0
    for _ in range(12):
        packets.append(segment(long, at))
        at += len(long) + 1
    packets.append(segment(order(1), at))
    run = Run(packets, payload=1 << 15)
    assert run.gaps == [(1, long)] * 12
    assert run.orders == [1]
