"""The soft card takes packets as docs/ethernet.md says: each one counts once, and only its payload is read."""

import struct

import pytest

from hdl.flow import ANYWHERE, Endpoint, Flow, Parser, Protocol
from hdl.frame import Flag, Kind
from hdl.register_map import COUNTERS
from host.capture.packets import Packets
from host.capture.write import tcp_packet, udp_packet
from host.card import CardError, open_card

CLIENT = Endpoint.parse("10.0.0.2:40000")
GATEWAY = Endpoint.parse("10.0.0.1:5001")
FLOWS = (Flow(Protocol.TCP, GATEWAY, Parser.FIX), Flow(Protocol.UDP, GATEWAY, Parser.FIX))
HEARTBEAT = b"8=FIX.4.4\x019=5\x0135=0\x0110=163\x01"
PACKET = tcp_packet(HEARTBEAT, CLIENT, GATEWAY, sequence=1)
DATAGRAM = udp_packet(HEARTBEAT, CLIENT, GATEWAY)
IP, TRANSPORT = 14, 34


def changed(packet: bytes, at: int, new: bytes) -> bytes:
    return packet[:at] + new + packet[at + len(new) :]


def with_options(packet: bytes, option_bytes: int) -> bytes:
    """The same packet with IP options."""
    total = int.from_bytes(packet[IP + 2 : IP + 4], "big") + option_bytes
    header = struct.pack(">BBH", 0x40 | 5 + option_bytes // 4, 0, total)
    return packet[:IP] + header + packet[IP + 4 : TRANSPORT] + b"\x01" * option_bytes + packet[TRANSPORT:]


def counters_of(*packets: bytes, flows: tuple[Flow, ...] = FLOWS) -> tuple[dict[str, int], list[int]]:
    """The counters that are not 0, and the frames' flags."""
    with open_card("soft:", flows, frame_slots=64, payload_bytes=1 << 15) as card:
        assert card.feed(Packets.of(packets)) == len(packets)
        flags = card.ring.poll()["flags"].tolist()
        return {name: count for name, count in card.counters().items() if count}, flags


def test_the_heartbeat_is_a_frame():
    counters, flags = counters_of(PACKET, DATAGRAM)
    assert flags == [Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT] * 2
    length = len(HEARTBEAT)
    assert counters == {"packets": 2, "parsed": 2, "fix_bytes": 2 * length, "frames": 2, "payload_bytes": 2 * length}


def test_every_counter_is_reported_in_order():
    with open_card("soft:", FLOWS) as card:
        assert list(card.counters()) == list(COUNTERS)


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (PACKET + b"\0" * 60, "parsed"),
        (tcp_packet(HEARTBEAT, CLIENT, GATEWAY, sequence=1, vlans=(5,)), "parsed"),
        (tcp_packet(HEARTBEAT, CLIENT, GATEWAY, sequence=1, vlans=(5, 6)), "parsed"),
        (tcp_packet(HEARTBEAT, CLIENT, GATEWAY, sequence=1, vlans=(5, 6, 7)), "other"),
        (with_options(PACKET, 40), "parsed"),
        (with_options(PACKET, 40)[:70], "damaged"),
        (PACKET[:0], "damaged"),
        (PACKET[:13], "damaged"),
        (PACKET[:14], "damaged"),
        (PACKET[:33], "damaged"),
        (changed(PACKET, 12, b"\x08\x06"), "other"),
        (changed(PACKET, 12, b"\x81\x00")[:16], "damaged"),
        (changed(PACKET, 12, b"\x88\xa8"), "other"),
        (changed(PACKET, IP, b"\x65"), "damaged"),
        (changed(PACKET, IP, b"\x44"), "damaged"),
        (changed(PACKET, IP + 2, struct.pack(">H", 19)), "damaged"),
        (changed(PACKET, IP + 2, struct.pack(">H", 9217)), "oversize"),
        (changed(PACKET, IP + 2, struct.pack(">H", 9216)), "parsed"),
        (changed(PACKET, IP + 6, b"\x00\x01"), "fragments"),
        (changed(PACKET, IP + 6, b"\x20\x00"), "parsed"),
        (changed(PACKET, IP + 6, b"\x40\x00"), "parsed"),
        (changed(PACKET, IP + 9, b"\x01"), "other"),
        (PACKET[:53], "damaged"),
        (PACKET[:54], "empty"),
        (changed(PACKET, IP + 2, struct.pack(">H", 40)), "empty"),
        (changed(PACKET, IP + 2, struct.pack(">H", 39)), "damaged"),
        (changed(PACKET, TRANSPORT + 12, b"\x40"), "damaged"),
        (changed(PACKET, TRANSPORT + 12, b"\xf0"), "damaged"),
        (changed(DATAGRAM, IP + 2, struct.pack(">H", 27)), "damaged"),
        (changed(DATAGRAM, IP + 2, struct.pack(">H", 28)), "empty"),
        (changed(DATAGRAM, TRANSPORT + 4, b"\0\0"), "parsed"),
        (DATAGRAM[:41], "damaged"),
        (changed(PACKET, TRANSPORT + 2, b"\0\1"), "unmatched"),
        (changed(PACKET, IP + 16, b"\1"), "unmatched"),
    ],
)
def test_each_packet_counts_once_by_the_first_rule_that_fits(packet, counter):
    counters, _ = counters_of(packet)
    verdicts = ("other", "damaged", "oversize", "fragments", "unmatched", "empty", "parsed")
    assert [name for name in verdicts if name in counters] == [counter]
    assert counters["packets"] == counters[counter] == 1


def test_data_offset_beyond_what_was_captured_is_no_payload():
    packet = changed(tcp_packet(b"x" * 40, CLIENT, GATEWAY, sequence=1), TRANSPORT + 12, b"\xf0")
    assert counters_of(packet[:60])[0] == {"packets": 1, "empty": 1}


def test_a_first_fragment_flags_its_frames():
    _, flags = counters_of(changed(PACKET, IP + 6, b"\x20\x00"), PACKET)
    assert [bool(each & Flag.FRAGMENT) for each in flags] == [True, False]


def test_the_lowest_row_that_fits_takes_the_packet():
    rows = (
        Flow(Protocol.UDP, GATEWAY, Parser.FIX),
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(CLIENT.address, 1)),
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, Endpoint(0, CLIENT.port)),
        Flow(Protocol.TCP, GATEWAY, Parser.FIX, ANYWHERE),
    )
    with open_card("soft:", rows) as card:
        other = tcp_packet(HEARTBEAT, Endpoint.parse("10.0.0.9:9"), GATEWAY, sequence=1)
        card.feed(Packets.of([PACKET, other, DATAGRAM]))
        assert card.ring.poll()["flow"].tolist() == [2, 3, 0]
        assert card.ring.poll()["kind"].tolist() == [Kind.SESSION] * 3


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "'' is no card"),
        ("soft", "'soft' is no card"),
        ("fpga:", "'fpga:' is no card"),
        ("serial:", "is not serial:DEVICE"),
        ("pcie:03:00.0", "is not pcie:DOMAIN:BUS:DEVICE.FUNCTION"),
        ("eth:", "is not eth:INTERFACE"),
    ],
)
def test_what_is_no_card_is_refused(url, reason):
    with pytest.raises(CardError, match=reason):
        open_card(url, FLOWS)


def test_flow_tables_that_the_card_cannot_hold_are_refused():
    with pytest.raises(CardError, match="65 flows are too many"):
        open_card("soft:", FLOWS[:1] * 65)
    with pytest.raises(CardError, match="an SBE flow needs a schema"):
        open_card("soft:", [Flow(Protocol.UDP, GATEWAY, Parser.SBE)])


def test_a_packet_half_taken_must_be_gone_on_with():
    packets = Packets.of([tcp_packet(HEARTBEAT * 5, CLIENT, GATEWAY, sequence=1), PACKET])
    with open_card("soft:", FLOWS, frame_slots=2, payload_bytes=1 << 15) as card:
        assert card.feed(packets) == 0
        with pytest.raises(ValueError, match="half taken"):
            card.feed(packets, 1)
