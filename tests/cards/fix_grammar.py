"""FIX bytes: well-formed messages of every version, and all the ways to say them wrong."""

from hypothesis import strategies as st

from hdl.limits import FIELD_LIMIT, MESSAGE_LIMIT
from sim.benches.fix_model import ANNOUNCED, TAKEN, TAKEN_OF_ENTRIES
from tests.cards.fuzzing import mostly, weighted

SOH = b"\x01"
BEGIN_STRINGS = [
    b"8=FIX.4.0\x01",
    b"8=FIX.4.1\x01",
    b"8=FIX.4.2\x01",
    b"8=FIX.4.3\x01",
    b"8=FIX.4.4\x01",
    b"8=FIXT.1.1\x01",
]
MSG_TYPES = [
    b"D",
    b"F",
    b"G",
    b"8",
    b"9",
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"A",
    b"V",
    b"W",
    b"X",
    b"Y",
    b"AE",
    b"j",
]
DATA_LENGTH_TAGS = sorted(ANNOUNCED)

SMALL_ALPHABET = st.sampled_from([bytes([code]) for code in b"8=FIX\x01910=.-053"])


def joined(*parts: st.SearchStrategy) -> st.SearchStrategy[bytes]:
    """One of each, one behind the other."""
    return st.tuples(*parts).map(b"".join)


def several(part: st.SearchStrategy[bytes], most: int, least: int = 0) -> st.SearchStrategy[bytes]:
    """Some of a kind, one behind the other."""
    return st.lists(part, min_size=least, max_size=most).map(b"".join)


def field(tag: bytes | int, value: bytes) -> bytes:
    """A field with its SOH."""
    return (b"%d" % tag if isinstance(tag, int) else tag) + b"=" + value + SOH


def message(body: bytes, begin: bytes, length: bytes | int = 0, check: bytes | int = 0) -> bytes:
    """A FIX message. An integer ``length`` or ``check`` is what is added to the right number."""
    stated = b"%d" % max(0, len(body) + length) if isinstance(length, int) else length
    head = begin + b"9=" + stated + SOH + body
    return head + b"10=" + (b"%03d" % ((sum(head) + check) % 256) if isinstance(check, int) else check) + SOH


# Values.

digits = st.text("0123456789", max_size=24).map(str.encode)
LIMITS = [
    b"4294967295", b"4294967296", b"9999999999", b"00000000001", b"0000000001", b"255", b"256", b"0000000255",
    b"9223372036.854775807", b"9223372036.854775808", b"-9223372036.85477581", b"9223372036.85477580",
    b"-9223372036.854775807", b"-9223372036.854775808", b"99999999999.9999999", b"99999999999.99999999", b"100000000000",
    b"0.000000001", b"0.0000000001", b"0.0000000010", b"0.00000001", b"0.000000010", b"000000000000000000.0",
    b"000000000000000001", b"0000000000000000001", b"999999999999999999", b".999999999999999999", b"-999999999999999999.",
    b"12345678.0000000000", b"-", b".", b"-.", b"-0", b"-.0", b"0.", b".5", b"-.5", b"5.", b"1.2.3", b"+5", b"--1", b"1-", b" 1",
    b"1e5", b"12,5", b"000000000000000000000", b"0000000000000000000.", b"-000000000000000000.0",
]  # fmt: skip
numbers = st.one_of(
    digits,
    st.text("0123456789.-", max_size=24).map(str.encode),
    joined(st.sampled_from([b"", b"-", b"+"]), digits, st.sampled_from([b"", b"."]), digits),
    st.sampled_from(LIMITS),
)
good_numbers = st.builds(
    lambda whole, behind, point: b"%d" % whole + (b".%0*d" % (point, behind % 10**point) if point else b""),
    st.integers(0, 10**9),
    st.integers(0, 10**8),
    st.integers(0, 8),
)
good_prices = joined(st.sampled_from([b"", b"", b"-"]), good_numbers)

times = st.builds(
    lambda seconds, part, places: (
        b"20240229-%02d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)
        + (b".%0*d" % (places, part % 10**places) if places else b"")
    ),
    st.integers(0, 86400),
    st.integers(0, 10**9 - 1),
    st.sampled_from([0, 3, 6, 9]),
)
"""UTC times in s, ms, µs and ns; a leap second as well."""

texts = st.one_of(
    st.sampled_from([b"", b"D", b"F", b"G", b"8", b"9", b"0", b"A", b"AE", b"1", b"8=FIX", b"x8=FIX.4.4", b"=", b"=="]),
    st.binary(max_size=30).map(lambda text: text.replace(SOH, b"\x02")),
    st.lists(SMALL_ALPHABET, max_size=12).map(b"".join),
)
words = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 =.-/", min_size=1, max_size=20).map(str.encode)
long_values = st.tuples(
    st.one_of(st.integers(FIELD_LIMIT - 12, FIELD_LIMIT + 4), st.integers(1, MESSAGE_LIMIT + 300)),
    st.sampled_from([b"", b"8=FIX", b"8=FI", b"="]),
    st.integers(0, 12),
).map(lambda drawn: (b"y" * drawn[0])[: -drawn[2] - 1] + drawn[1] + b"z" * drawn[2])
characters = st.sampled_from([b"0", b"1", b"2", b"5", b"E", b"F", b"J", b"4", b"w"])

# Data fields.

contents = st.one_of(
    st.sampled_from(
        [b"a", SOH, SOH * 3, b"10=123\x01", b"8=FIX.4.4\x019=5\x01", b"x\x0110=000\x01y", b"\x0195=3\x0196=abc", b"="]
    ),
    st.binary(min_size=1, max_size=40),
    several(SMALL_ALPHABET, 20, 1),
)


def data_field(
    tag: int, content: bytes, length: bytes | int = 0, between: bytes = b"", other: int | None = None
) -> bytes:
    """A length field and its data field. An integer ``length`` is what is added to the right number."""
    stated = b"%d" % max(0, len(content) + length) if isinstance(length, int) else length
    return field(tag, stated) + between + field(ANNOUNCED[tag] if other is None else other, content)


good_data = st.builds(data_field, st.sampled_from(DATA_LENGTH_TAGS), contents)
data_fields = st.builds(
    data_field,
    st.sampled_from(DATA_LENGTH_TAGS),
    weighted((8, contents), (1, st.integers(1000, FIELD_LIMIT + 20).map(lambda size: b"\x01d" * (size // 2)))),
    mostly(
        0,
        st.one_of(
            st.integers(-12, 12),
            st.sampled_from(
                [
                    b"0",
                    b"000",
                    b"4095",
                    b"4096",
                    b"999999999",
                    b"1234567890",
                    b"0000000003",
                    b"x",
                    b"-1",
                    b"1.0",
                    b"2047",
                ]
            ),
        ),
        2,
    ),
    mostly(b"", st.sampled_from([b"58=x\x01", SOH, b"95=2\x01", b"096=a\x01", b"96=\x01"]), 6),
    mostly(None, st.sampled_from([96, 91, 58, 10, 9]), 8),
)

# Fields.

tags = st.one_of(
    st.sampled_from([b"%d" % tag for tag in (*TAKEN, *TAKEN, 8, 9, 10, 58, 60, *TAKEN_OF_ENTRIES, *DATA_LENGTH_TAGS)]),
    st.sampled_from(
        [
            b"",
            b"0",
            b"00",
            b"034",
            b"3x",
            b"135",
            b"1035",
            b"100000010",
            b"123456789",
            b"999999999",
            b"1234567890",
            b"=",
            b"-1",
            b" 1",
        ]
    ),
    digits,
)
fields = weighted(
    (4, st.builds(field, tags, st.one_of(numbers, texts, times))),
    (4, st.builds(field, st.sampled_from([34, 38, 44]), numbers)),
    (1, st.builds(field, tags, long_values)),
    (2, data_fields),
    (
        1,
        st.sampled_from([SOH, SOH * 3, b"=\x01", b"58\x01", b"8=FIX.4.4\x01", b"9=5\x01", b"10=000\x01", b"1=x\x01"]),
    ),
    (1, st.sampled_from([b"58=FIX\x01", b"8=FIX\x01", b"528=FIXT\x01"])),
    (1, texts),
)


def header(msg_type: bytes, number: int, time: bytes) -> bytes:
    """The fields that every message begins with."""
    return (
        field(35, msg_type) + field(49, b"CLIENT") + field(56, b"GATEWAY") + field(34, b"%d" % number) + field(52, time)
    )


headers = st.builds(header, st.sampled_from(MSG_TYPES), st.integers(0, 2**32 - 1), times)
good_fields = st.lists(
    st.one_of(
        st.builds(field, st.sampled_from([11, 41, 55, 1, 58, 60, 207, 5000, 999999999]), words),
        st.builds(field, st.sampled_from([54, 40, 59]), characters),
        st.builds(field, st.just(44), good_prices),
        st.builds(field, st.just(38), good_numbers),
        st.builds(field, st.sampled_from([60, 432]), times),
        good_data,
    ),
    max_size=14,
    unique_by=lambda whole: whole.partition(b"=")[0],
).map(b"".join)
good_bodies = joined(headers, good_fields)
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

# Market data.

good_entry_fields = st.lists(
    st.one_of(
        st.builds(field, st.just(270), good_prices),
        st.builds(field, st.just(271), good_numbers),
        st.builds(field, st.just(1023), st.integers(0, 255).map(lambda level: b"%d" % level)),
        st.builds(field, st.sampled_from([346, 83]), st.integers(0, 2**32 - 1).map(lambda count: b"%d" % count)),
        st.builds(field, st.sampled_from([55, 278, 58]), words),
        st.builds(field, st.just(273), times),
        good_data,
    ),
    max_size=6,
    unique_by=lambda whole: whole.partition(b"=")[0],
).map(b"".join)
good_snapshots = st.tuples(
    st.builds(header, st.just(b"W"), st.integers(0, 2**32 - 1), times),
    st.sampled_from([b"", b"55=ESZ4\x01", b"55=A\x0144=7\x01"]),
    several(joined(characters.map(lambda kind: field(269, kind)), good_entry_fields), 6),
).map(lambda drawn: b"".join((*drawn[:2], b"268=%d\x01" % drawn[2].count(b"269="), drawn[2])))
good_updates = joined(
    st.builds(header, st.just(b"X"), st.integers(0, 2**32 - 1), times),
    st.sampled_from([b"", b"55=ESZ4\x01", b"268=3\x01"]),
    several(
        joined(
            characters.map(lambda action: field(279, action)),
            st.one_of(st.just(b""), characters.map(lambda kind: field(269, kind))),
            good_entry_fields,
        ),
        6,
    ),
)
entry_fields = weighted(
    (
        6,
        st.builds(
            field,
            st.sampled_from(TAKEN_OF_ENTRIES),
            weighted((3, good_prices), (2, characters), (1, numbers), (1, texts)),
        ),
    ),
    (2, st.builds(field, st.sampled_from([270, 271, 1023, 346, 83]), numbers)),
    (1, data_fields),
    (1, fields),
)
odd_market_data = joined(
    st.sampled_from(
        [
            b"35=W\x01",
            b"35=X\x01",
            b"35=W\x01",
            b"35=X\x01",
            b"35=WX\x01",
            b"35=Y\x01",
            b"269=0\x0135=W\x01",
            b"35=\x01",
        ]
    ),
    several(st.one_of(fields, st.sampled_from([b"34=7\x01", b"55=A\x01", b"44=1\x01"])), 3),
    several(
        joined(
            st.sampled_from(
                [
                    b"269=0\x01",
                    b"279=0\x01",
                    b"269=2\x01",
                    b"279=1\x01269=1\x01",
                    b"269=\x01",
                    b"269=10\x01",
                    b"0269=1\x01",
                    b"",
                ]
            ),
            several(entry_fields, 4),
        ),
        6,
    ),
)
many_entries = st.tuples(st.sampled_from([b"35=W\x01", b"35=X\x01"]), st.integers(505, 700)).map(
    lambda drawn: (drawn[0] + (b"269=0\x01" if b"W" in drawn[0] else b"279=0\x01") * drawn[1])[: MESSAGE_LIMIT // 6 * 6]
)
"""More entries than a message may have frames."""
market_data = weighted((4, good_snapshots), (4, good_updates), (6, odd_market_data), (1, many_entries))

# Messages.

begin_strings = mostly(
    b"8=FIX.4.4\x01",
    st.sampled_from([*BEGIN_STRINGS, b"8=FIX\x01", b"8=FIX8=FIX.4.2\x01", b"8=FI\x01", b"", b"x8=FIX.4.4\x01"]),
    4,
)
bodies = weighted(
    (4, orders),
    (3, good_bodies),
    (3, market_data),
    (2, several(fields, 6)),
    (4, joined(st.just(b"35=D\x01"), several(fields, 8))),
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
wrong_sums = st.sampled_from([1, -1, b"", b"0", b"0000", b"25 ", b"1=2", b"-12", b"999"])


def with_leading_zeros(body: bytes, begin: bytes, zeros: int) -> bytes:
    """A message whose BodyLength has so many of them, as far as nine digits go."""
    return message(body, begin, b"%0*d" % (min(9, zeros + len(b"%d" % len(body))), len(body)))


good_messages = st.one_of(
    st.builds(message, st.one_of(good_bodies, good_snapshots, good_updates), st.sampled_from(BEGIN_STRINGS)),
    st.builds(with_leading_zeros, good_bodies, st.sampled_from(BEGIN_STRINGS), st.integers(0, 8)),
)
messages = st.builds(message, bodies, begin_strings, mostly(0, wrong_lengths), mostly(0, wrong_sums))
data_messages = st.builds(
    message, joined(headers, several(data_fields, 4, 1), good_fields), begin_strings, mostly(0, wrong_lengths, 20)
)
market_data_messages = st.builds(
    message, market_data, begin_strings, mostly(0, wrong_lengths, 20), mostly(0, wrong_sums, 20)
)
cut_short = st.tuples(messages, st.integers(0, 80)).map(lambda drawn: drawn[0][: -drawn[1] or None])
pieces = weighted((6, messages), (2, cut_short), (1, fields), (1, several(SMALL_ALPHABET, 40)))
streams = several(pieces, 8)
overruns = several(
    weighted((3, long_values), (2, messages), (1, st.integers(1, 700).map(lambda size: SOH * size)), (2, fields)), 6, 1
)


# Mutations of what is right.

CHANGES = ("flip", "insert", "remove", "repeat", "move")


def mutated(stream: bytes, changes: list[tuple[str, int, int, int]]) -> bytes:
    """A stream with changes made to it, each at a place (in 65536ths) and of some size."""
    for what, place, size, byte in changes:
        at = place * len(stream) >> 16
        part = stream[at : at + size]
        before, behind = stream[:at], stream[at + size :]
        if what == "flip":
            stream = before + bytes([byte]) + stream[at + 1 :]
        elif what == "insert":
            stream = before + bytes([byte]) * size + stream[at:]
        elif what == "remove":
            stream = before + behind
        elif what == "repeat":
            stream = before + part + part + behind
        else:
            stream = before + behind[: 2 * size] + part + behind[2 * size :]
    return stream


changes = st.tuples(
    st.sampled_from(CHANGES),
    st.integers(0, 65535),
    st.integers(1, 12),
    st.one_of(st.sampled_from(list(b"8=FIX\x0190.-")), st.integers(0, 255)),
)
mutated_streams = st.builds(mutated, several(good_messages, 5, 1), st.lists(changes, min_size=1, max_size=6))
