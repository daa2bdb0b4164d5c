"""Whatever stands in the headers, both cards pass over, count and parse the same packets."""

from dataclasses import dataclass

from hypothesis import strategies as st

from hdl.flow import Protocol
from hdl.limits import PACKET_LIMIT
from host.capture.packets import Packets
from tests.cards.comparison import (
    CLIENTS,
    DEMO_SCHEMA,
    FEED,
    FEEDER,
    FLOWS,
    GATEWAY,
    GEOMETRIES,
    compiled,
    reading_of_equal_cards,
)
from tests.cards.fix_grammar import message
from tests.cards.fuzzing import fuzzed, mostly, weighted
from tests.cards.sbe_grammar import sbe_payloads

ADDRESSES = st.sampled_from([0, *(end.address for end in (*CLIENTS, FEEDER, GATEWAY, FEED))])
PORTS = st.sampled_from([0, *(end.port for end in (CLIENTS[0], FEEDER, GATEWAY, FLOWS[7].destination))])
ENDS = st.sampled_from(
    [(CLIENTS[0], GATEWAY), (CLIENTS[3], GATEWAY), (FEEDER, FEED), (CLIENTS[1], FLOWS[14].destination)]
)

payloads = st.one_of(
    st.just(message(b"35=D\x0134=1\x0138=5\x0144=1.25\x01", b"8=FIX.4.4\x01")),
    sbe_payloads(compiled(DEMO_SCHEMA).schema),
    st.binary(max_size=40),
    st.just(b"35=D\x0158=abc\x01"),
    st.integers(PACKET_LIMIT - 60, PACKET_LIMIT + 30).map(lambda size: (b"jumbo=1\x01" * (size // 8 + 1))[:size]),
)
tags = st.tuples(st.sampled_from([b"\x81\x00", b"\x88\xa8", b"\x91\x00"]), st.binary(min_size=2, max_size=2)).map(
    b"".join
)


@dataclass(frozen=True)
class HeaderDraw:
    """A packet's headers. Lengths are those that add up, plus ``more``; None: as it ought to be."""

    ends: tuple
    protocol: int
    tags: tuple[bytes, ...]
    ethertype: int
    version: int
    options: int
    options_stated: int | None
    total_more: int
    total_length: int | None
    fragment: int
    tcp_options: int
    tcp_header: int | None
    sequence: int
    tcp_flags: int
    udp_more: int
    address: int | None
    port: int | None
    payload: bytes
    trailer: bytes
    cut: int
    damage: tuple[tuple[int, int], ...]


headers = st.builds(
    HeaderDraw,
    ends=ENDS,
    protocol=weighted((5, st.just(Protocol.TCP)), (5, st.just(Protocol.UDP)), (1, st.integers(0, 255))),
    tags=weighted(
        (5, st.just(())), (3, st.lists(tags, max_size=2).map(tuple)), (1, st.lists(tags, max_size=4).map(tuple))
    ),
    ethertype=mostly(0x0800, st.sampled_from([0x86DD, 0x0806, 0x8100, 0x88A8, 0x0000, 0x0801, 0xFFFF]), 15),
    version=mostly(4, st.integers(0, 15), 15),
    options=mostly(0, st.integers(0, 10), 3),
    options_stated=mostly(None, st.integers(-5, 10), 15),
    total_more=mostly(0, st.integers(-70, 70), 5),
    total_length=mostly(None, st.sampled_from([0, 19, 20, 27, 28, 39, 40, PACKET_LIMIT, PACKET_LIMIT + 1, 65535]), 15),
    fragment=mostly(0x4000, st.sampled_from([0, 0x2000, 0x2001, 0x1FFF, 1, 0x8000, 0xA000]), 4),
    tcp_options=mostly(0, st.integers(0, 10), 3),
    tcp_header=mostly(None, st.integers(0, 15), 9),
    sequence=mostly(0, st.sampled_from([1, 2, 30, 2**31 - 1, 2**31, 2**32 - 1]), 3),
    tcp_flags=mostly(0x18, st.integers(0, 255), 3),
    udp_more=mostly(0, st.integers(-20, 20)),
    address=mostly(None, ADDRESSES, 5),
    port=mostly(None, PORTS, 5),
    payload=payloads,
    trailer=mostly(b"", st.binary(max_size=70), 2),
    cut=mostly(0, st.integers(1, 120), 4),
    damage=mostly((), st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=3).map(tuple), 4),
)


def two(number: int) -> bytes:
    """Two bytes, big endian."""
    return (number % 65536).to_bytes(2, "big")


def packet_of(drawn: HeaderDraw) -> bytes:
    """The packet that a draw describes."""
    source, destination = drawn.ends
    if drawn.port is not None:
        source = source._replace(port=drawn.port)
    if drawn.address is not None:
        destination = destination._replace(address=drawn.address)
    ports = two(source.port) + two(destination.port)
    if drawn.protocol == Protocol.TCP:
        words = 5 + drawn.tcp_options if drawn.tcp_header is None else drawn.tcp_header
        numbers = drawn.sequence.to_bytes(4, "big") + bytes(4)
        transport = (
            ports + numbers + bytes([words << 4, drawn.tcp_flags]) + bytes(6) + b"\x01" * (4 * drawn.tcp_options)
        )
    else:
        transport = ports + two(8 + len(drawn.payload) + drawn.udp_more) + bytes(2)
    segment = transport + drawn.payload
    words = 5 + drawn.options
    stated = words if drawn.options_stated is None else max(5 + drawn.options_stated, 0)
    total = 4 * words + len(segment) + drawn.total_more if drawn.total_length is None else drawn.total_length
    ip = b"".join(
        (
            bytes([drawn.version << 4 | stated & 15, 0]),
            two(max(total, 0)),
            two(7),
            two(drawn.fragment),
            bytes([64, drawn.protocol, 0, 0]),
            source.address.to_bytes(4, "big"),
            destination.address.to_bytes(4, "big"),
            b"\x01" * (4 * drawn.options),
        )
    )
    packet = bytearray(bytes(12) + b"".join(drawn.tags) + two(drawn.ethertype) + ip + segment + drawn.trailer)
    for place, byte in drawn.damage:
        if place < len(packet):
            packet[place] = byte
    return bytes(packet[: -drawn.cut or None])


packet_lists = st.lists(weighted((9, headers.map(packet_of)), (1, st.binary(max_size=60))), min_size=1, max_size=10)


@fuzzed("packet headers", 150, packet_lists, st.sampled_from(GEOMETRIES))
def test_any_headers_give_the_same_counters_and_frames_on_both_cards(packets, geometry):
    reading_of_equal_cards(Packets.of(packets), geometry=geometry)


@fuzzed("cut packets", 15, headers)
def test_a_packet_cut_at_every_byte_is_counted_alike(drawn):
    whole = packet_of(drawn)
    places = range(min(len(whole), 130) + 1)
    reading_of_equal_cards(Packets.of([whole[:place] for place in places]))
    reading_of_equal_cards(Packets.of([whole[: len(whole) - place] for place in places]))
