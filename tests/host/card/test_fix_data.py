"""Data fields may hold any byte, as long as their length says so: docs/fix.md, "Data fields"."""

import pytest
import simplefix

from hdl.fix_tags import DATA_TAGS
from hdl.frame import MALFORMED_FLAGS, Flag, Kind

HARD = b"a\x01" + b"10=000\x01" + b"8=FIX.4.4\x019=5\x01" + b"=\x01\x01" + b"\x0044=1\x01z"
"""Everything that ends fields and messages elsewhere."""
NEXT = b"8=FIX.4.4\x019=5\x0135=1\x0110=164\x01"


def news(length: bytes, value: bytes, length_tag: int = 95, data_tag: int = 96, behind: bytes = b"44=7\x01") -> bytes:
    return b"35=B\x01%d=%s\x01%d=%s\x01%s" % (length_tag, length, data_tag, value, behind)


@pytest.mark.parametrize(("length_tag", "data_tag"), DATA_TAGS.items())
def test_every_pair_of_tags_announces_data(parse_fix, fix_message, length_tag, data_tag):
    message = fix_message(news(b"%d" % len(HARD), HARD, length_tag, data_tag))
    (frame, raw), (after, _) = parse_fix(message + NEXT)
    assert (raw, frame["kind"], frame["flags"]) == (message, Kind.OTHER, Flag.QUANTITY_ABSENT)
    assert frame["price"] == 7 * 10**9
    assert after["kind"] == Kind.SESSION


@pytest.mark.parametrize(
    "value", [b"x", b"\x01", b"\x01\x01\x01", b"10=000\x01", b"\x0110=", b"a\x01" * 700, b"96=b\x0196=c", b"=", HARD]
)
def test_data_is_read_as_simplefix_reads_it(parse_fix, fix_message, value):
    message = fix_message(news(b"%d" % len(value), value))
    parser = simplefix.FixParser()
    parser.append_buffer(message)
    parsed = parser.get_message()
    assert parsed.get(96) == value
    (frame, raw), _ = parse_fix(message + NEXT)
    assert (raw, frame["kind"], frame["price"]) == (message, Kind.OTHER, int(parsed.get(44)) * 10**9)


def test_data_may_end_the_body(parse_fix, fix_message):
    for value in (b"abc", HARD):
        ((frame, _),) = parse_fix(fix_message(news(b"%d" % len(value), value, behind=b"")))
        assert frame["flags"] & MALFORMED_FLAGS == 0


def test_leading_zeros_count_as_digits_of_a_length(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message(news(b"000000003", b"a\x01b")))
    assert frame["flags"] == Flag.QUANTITY_ABSENT
    (frame, _), *_ = parse_fix(fix_message(news(b"0000000003", b"abc")))
    assert frame["flags"] == Flag.VALUE | Flag.QUANTITY_ABSENT


@pytest.mark.parametrize(
    ("length", "flags"),
    [
        (b"0", 0),
        (b"000", 0),
        (b"4096", Flag.RANGE),
        (b"999999999", Flag.RANGE),
        (b"1a", Flag.VALUE),
        (b"-1", Flag.VALUE),
    ],
)
def test_a_length_that_announces_nothing_leaves_the_next_field_as_it_is(parse_fix, fix_message, length, flags):
    ((frame, _),) = parse_fix(fix_message(news(length, b"abc")))
    assert frame["flags"] & MALFORMED_FLAGS == flags
    assert frame["price"] == 7 * 10**9
    ((frame, _),) = parse_fix(fix_message(news(length, b"abc\x0138=2")))
    assert (frame["flags"], frame["quantity"]) == (flags, 2 * 10**8)


def test_an_empty_length_is_an_empty_value(parse_fix, fix_message):
    ((frame, _),) = parse_fix(fix_message(news(b"", b"abc")))
    assert frame["flags"] == Flag.VALUE | Flag.QUANTITY_ABSENT


@pytest.mark.parametrize("between", [b"58=x\x01", b"95=0\x01", b"91=abc\x01", b"0=1\x01"])
def test_only_the_very_next_field_is_data_and_only_with_its_tag(parse_fix, fix_message, between):
    body = b"35=B\x0195=9\x01" + between + b"96=abc\x0138=3\x01"
    ((frame, _),) = parse_fix(fix_message(body))
    assert frame["quantity"] == 3 * 10**8
    assert frame["flags"] & MALFORMED_FLAGS == (Flag.TAG if between.startswith(b"0") else 0)


@pytest.mark.parametrize(
    ("length", "value"),
    [
        (b"2", b"abc"),
        (b"2", b"abc\x01de"),
        (b"4", b"ab\x01cde"),
        (b"4", b"a\x01bcd\x01e"),
        (b"7", b"abc"),
        (b"4095", b"abc"),
    ],
)
def test_data_whose_length_lies_fails_the_message(parse_fix, fix_message, length, value):
    message = fix_message(news(length, value, behind=b"58=good\x01"))
    (frame, raw), (after, _) = parse_fix(message + NEXT)
    assert (raw, frame["kind"]) == (message, Kind.MALFORMED)
    assert frame["flags"] & MALFORMED_FLAGS == Flag.LENGTH
    assert after["kind"] == Kind.SESSION


def test_data_that_reaches_beyond_the_body_fails_it(parse_fix, fix_message):
    good = fix_message(news(b"3", b"a\x01b", behind=b""))
    for less in range(1, 5):
        message = fix_message(news(b"3", b"a\x01b", behind=b""), length=len(news(b"3", b"a\x01b", behind=b"")) - less)
        (frame, _), *_ = parse_fix(message + NEXT)
        assert frame["flags"] & MALFORMED_FLAGS == Flag.LENGTH, less
    assert parse_fix(good)[0][0]["kind"] == Kind.OTHER


def test_a_field_within_data_has_at_most_2048_bytes_like_any_other(parse_fix, fix_message):
    fits = b"a\x01" + b"x" * 2047
    ((frame, _),) = parse_fix(fix_message(news(b"%d" % len(fits), fits)))
    assert frame["kind"] == Kind.OTHER
    long = b"a\x01" + b"x" * 2048
    (frame, raw), *_ = parse_fix(fix_message(news(b"%d" % len(long), long)))
    assert frame["flags"] & MALFORMED_FLAGS == Flag.TOO_LONG
    assert raw.endswith(b"a\x01" + b"x" * 2048)


def test_a_begin_within_data_that_fails_begins_a_message(parse_fix, fix_message):
    inner = fix_message("35=1|")
    stream = b"8=FIX.4.4\x019=60\x0135=B\x0195=50\x0196=a\x01" + inner + b"b" * 60 + b"\x01"
    assert [(frame["kind"], raw) for frame, raw in parse_fix(stream)] == []
    first, second = parse_fix(stream + NEXT)
    assert first[1] == stream
    assert (first[0]["flags"] & MALFORMED_FLAGS, second[1]) == (Flag.LENGTH, NEXT)


def test_a_stream_of_data_cut_at_every_byte_gives_the_same_frames(parse_fix, fix_message, without_time_and_place):
    entries = b"35=W\x0155=A\x01269=0\x01270=1\x01354=5\x01355=x\x01=\x01y\x01269=1\x01271=4\x01"
    stream = (
        fix_message(news(b"%d" % len(HARD), HARD))
        + fix_message(news(b"4", b"ab\x01cde"))
        + fix_message(entries)
        + fix_message(news(b"5", b"\x01\x01\x01\x01\x01", behind=b""))
        + fix_message(entries, length=len(entries) - 6)
        + NEXT
    )
    whole = without_time_and_place(parse_fix(stream))
    assert without_time_and_place(parse_fix(*(stream[at : at + 1] for at in range(len(stream))))) == whole
    for cut in range(len(stream)):
        assert without_time_and_place(parse_fix(stream[:cut], stream[cut:])) == whole
