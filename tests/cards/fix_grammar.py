"""FIX byte streams, well-formed, broken and neither, and how they are cut into packets."""

from typing import NamedTuple

from hypothesis import strategies as st

from hdl.limits import FIELD_LIMIT, MESSAGE_LIMIT
from host.capture.packets import Packets
from host.capture.write import tcp_packet, udp_packet
from tests.cards.comparison import CLIENTS, FLOWS, GATEWAY, SECOND_GATEWAY
from tests.cards.fuzzing import mostly, weighted

SOH = b"\x01"
CARRIED_TAGS = (1, 11, 34, 35, 38, 40, 41, 44, 54, 55, 59)
"""The tags that the frame carries."""

SMALL_ALPHABET = st.sampled_from([bytes([code]) for code in b"8=FIX\x01910=.-053"])

digits = st.text("0123456789", max_size=24).map(str.encode)
numbers = st.one_of(
    digits,
    st.text("0123456789.-", max_size=24).map(str.encode),
    st.tuples(st.sampled_from([b"", b"-", b"+"]), digits, st.sampled_from([b"", b"."]), digits).map(b"".join),
    st.sampled_from(
        [
            b"4294967295",
            b"4294967296",
            b"9999999999",
            b"9223372036.854775807",
            b"-9223372036.85477581",
            b"9223372036.85477580",
            b"99999999999.9999999",
            b"100000000000",
            b"0.000000001",
            b"0.0000000010",
            b"000000000000000000.0",
        ]
    ),
)
texts = st.one_of(
    st.sampled_from([b"", b"D", b"F", b"G", b"8", b"9", b"0", b"A", b"AE", b"1", b"8=FIX", b"x8=FIX.4.4", b"=", b"=="]),
    st.binary(max_size=30).map(lambda text: text.replace(SOH, b"\x02")),
    st.lists(SMALL_ALPHABET, max_size=12).map(b"".join),
)
long_values = st.tuples(
    st.one_of(st.integers(FIELD_LIMIT - 12, FIELD_LIMIT + 4), st.integers(1, MESSAGE_LIMIT + 300)),
    st.sampled_from([b"", b"8=FIX", b"8=FI", b"="]),
    st.integers(0, 12),
).map(lambda drawn: (b"y" * drawn[0])[: -drawn[2] - 1] + drawn[1] + b"z" * drawn[2])

tags = st.one_of(
    st.sampled_from([b"%d" % tag for tag in (*CARRIED_TAGS, *CARRIED_TAGS, 8, 9, 10, 58)]),
    st.sampled_from(
        [b"", b"0", b"034", b"3x", b"135", b"1035", b"100000010", b"123456789", b"1234567890", b"=", b"-1"]
    ),
    digits,
)
fields = weighted(
    (4, st.tuples(tags, st.just(b"="), st.one_of(numbers, texts), st.just(SOH)).map(b"".join)),
    (4, st.tuples(st.sampled_from([b"34", b"38", b"44"]), st.just(b"="), numbers, st.just(SOH)).map(b"".join)),
    (1, st.tuples(tags, st.just(b"="), long_values, st.just(SOH)).map(b"".join)),
    (
        1,
        st.sampled_from([SOH, SOH * 3, b"=\x01", b"58\x01", b"8=FIX.4.4\x01", b"9=5\x01", b"10=000\x01", b"1=x\x01"]),
    ),
    (1, texts),
)
orders = st.builds(
    lambda number, side, price, quantity: (
        b"35=D\x0134=%d\x0149=A\x0111=id%d\x0155=ESZ4\x0154=%d\x0138=%s\x0144=%s\x0140=2\x0159=0\x01"
        % (number, number, side, quantity, price)
    ),
    st.integers(0, 10**10),
    st.integers(0, 10),
    numbers,
    numbers,
)


def message(body: bytes, begin: bytes, length: bytes | int, check: bytes | int) -> bytes:
    """A FIX message. An integer ``length`` or ``check`` is what is added to the right number."""
    stated = b"%d" % max(0, len(body) + length) if isinstance(length, int) else length
    head = begin + b"9=" + stated + SOH + body
    return head + b"10=" + (b"%03d" % ((sum(head) + check) % 256) if isinstance(check, int) else check) + SOH


bodies = weighted(
    (4, orders),
    (2, st.lists(fields, max_size=6).map(b"".join)),
    (4, st.tuples(st.just(b"35=D\x01"), st.lists(fields, max_size=8).map(b"".join)).map(b"".join)),
    # As long as a message may be, and a little more.
    (
        1,
        st.integers(MESSAGE_LIMIT - 2000 - 40, MESSAGE_LIMIT - 2000).map(
            lambda size: b"35=8\x0158=" + b"p" * 1990 + b"\x0196=" + b"q" * (size - 17) + SOH
        ),
    ),
)
wrong_lengths = st.one_of(
    st.sampled_from([1, -1, 7, -7]),
    st.sampled_from(
        [b"", b"0", b"00", b"4069", b"4096", b"999999999", b"0000000005", b"-5", b"5.", b"65536", b"16384"]
    ),
    digits,
)
messages = st.builds(
    message,
    bodies,
    mostly(
        b"8=FIX.4.4\x01", st.sampled_from([b"8=FIX\x01", b"8=FIXT.1.1\x01", b"8=FIX8=FIX.4.2\x01", b"8=FI\x01", b""])
    ),
    mostly(0, wrong_lengths),
    mostly(0, st.sampled_from([1, -1, b"", b"0", b"0000", b"25 ", b"1=2"])),
)
cut_short = st.tuples(messages, st.integers(0, 80)).map(lambda drawn: drawn[0][: -drawn[1] or None])
pieces = weighted((6, messages), (2, cut_short), (1, fields), (1, st.lists(SMALL_ALPHABET, max_size=40).map(b"".join)))
streams = st.lists(pieces, max_size=8).map(b"".join)

FIX_ENDS = {
    0: (CLIENTS[0], GATEWAY),
    1: (CLIENTS[1], GATEWAY),
    2: (CLIENTS[2], GATEWAY),
    7: (CLIENTS[0], FLOWS[7].destination),
    15: (CLIENTS[3], SECOND_GATEWAY),
    3: (CLIENTS[3], GATEWAY),
}
"""Source and destination of rows of the flow table; row 3 is FIX over UDP."""

LONGEST_PAYLOAD = 9000


class Cut(NamedTuple):
    """How streams become packets: in turns, ``size`` bytes of a stream each; a size of 0 sends a packet without payload."""

    flow: int
    size: int


sizes = st.one_of(st.integers(1, 12), st.integers(1, 200), st.integers(1, LONGEST_PAYLOAD), st.just(0))
cuts = st.lists(st.builds(Cut, st.sampled_from(list(FIX_ENDS)), sizes), min_size=1, max_size=12)


def fix_packet(flow: int, payload: bytes, sequence: int = 0) -> bytes:
    """A packet of one of the flow table's FIX rows."""
    source, destination = FIX_ENDS[flow]
    if flow == 3:
        return udp_packet(payload, source, destination)
    return tcp_packet(payload, source, destination, sequence=sequence)


def cut_into_packets(streams: dict[int, bytes], turns: list[Cut], most_packets: int = 1500) -> Packets:
    """Packets of interleaved streams: ``turns`` again and again, and what is left once there are ``most_packets``."""
    sent = dict.fromkeys(streams, 0)
    packets: list[bytes] = []

    def send(flow: int, size: int) -> None:
        payload = streams[flow][sent[flow] : sent[flow] + size]
        packets.append(fix_packet(flow, payload, sent[flow]))
        sent[flow] += len(payload)

    useful = [turn for turn in turns if turn.flow in streams]
    while len(packets) < most_packets and any(
        sent[turn.flow] < len(streams[turn.flow]) and turn.size for turn in useful
    ):
        for turn in useful:
            if sent[turn.flow] < len(streams[turn.flow]):
                send(*turn)
    for flow, stream in streams.items():
        while sent[flow] < len(stream):
            send(flow, LONGEST_PAYLOAD)
    return Packets.of(packets, [1_700_000_000_000_000_000 + 1000 * number for number in range(len(packets))])
