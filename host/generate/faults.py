"""Malformed FIX, in many ways, each of which makes exactly one malformed frame under docs/fix.md.

BodyLength leads: what is broken must not reach into the message behind it. So a BodyLength is too large by no more
than the next message's first field takes, and a message is cut only where the next ``8=FIX`` cannot be taken for the
rest of one of its fields. Each fault stands between two well-formed messages.
"""

from collections.abc import Callable
from random import Random

SOH = b"\x01"
BEGIN_STRING = b"8=FIX.4.4" + SOH
BEGIN = b"8=FIX"

GARBAGE_MOST = 200
"""Bytes of garbage at a time: far below FIELD_LIMIT, where a span of garbage would be cut in two."""


def encode(fields: list[bytes], body_length: bytes | None = None, checksum: bytes | None = None) -> bytes:
    """A FIX message of the body's ``fields`` (``tag=value`` each, MsgType first); the other two override what is
    right."""
    body = SOH.join(fields) + SOH
    head = BEGIN_STRING + b"9=" + (b"%d" % len(body) if body_length is None else body_length) + SOH + body
    return head + b"10=" + (b"%03d" % (sum(head) % 256) if checksum is None else checksum) + SOH


def _body_length(fields: list[bytes]) -> int:
    return sum(map(len, fields)) + len(fields)


def _wrong_checksum(random: Random, fields: list[bytes]) -> bytes:
    whole = encode(fields)
    return encode(fields, checksum=b"%03d" % ((int(whole[-4:-1]) + random.randint(1, 255)) % 256))


def _checksum_of_two_digits(random: Random, fields: list[bytes]) -> bytes:
    return encode(fields, checksum=b"%02d" % random.randint(0, 99))


def _body_length_too_small(random: Random, fields: list[bytes]) -> bytes:
    return encode(fields, b"%d" % random.randint(0, _body_length(fields) - 1))


def _body_length_too_large(random: Random, fields: list[bytes]) -> bytes:
    # Up to 16: the trailer has 7 bytes and BeginString 10, which must end beyond the body to be seen as a begin.
    return encode(fields, b"%d" % (_body_length(fields) + random.randint(1, 16)))


def _body_length_beyond_limit(random: Random, fields: list[bytes]) -> bytes:
    return encode(fields, b"%d" % random.randint(4097, 999_999_999))


def _body_length_text(random: Random, fields: list[bytes]) -> bytes:
    return encode(fields, random.choice([b"", b"-5", b"1e2", b"0x7F", b"1234567890"]))


def _body_length_missing(random: Random, fields: list[bytes]) -> bytes:
    return encode(fields).replace(b"9=%d\x01" % _body_length(fields), b"", 1)


def _type_not_first(random: Random, fields: list[bytes]) -> bytes:
    return encode([fields[1], fields[0], *fields[2:]])


def _bad_tag(random: Random, fields: list[bytes]) -> bytes:
    place = random.randint(1, len(fields))
    bad = random.choice([b"price=1", b"=5", b"058=text", b"1234567890=x", b"no equals sign", b"-1=x", b"5 8=x"])
    return encode([*fields[:place], bad, *fields[place:]])


def _empty_value(random: Random, fields: list[bytes]) -> bytes:
    place = random.randrange(len(fields))
    tag = fields[place].partition(b"=")[0]
    return encode([*fields[:place], tag + b"=", *fields[place + 1 :]])


def _with(fields: list[bytes], tag: bytes, value: bytes) -> bytes:
    """The message with another value for ``tag``, which is added where it is missing."""
    kept = [field for field in fields if not field.startswith(tag + b"=")]
    return encode([*kept, tag + b"=" + value])


def _price_not_numeric(random: Random, fields: list[bytes]) -> bytes:
    return _with(fields, b"44", random.choice([b"12,50", b"abc", b"1.2.3", b".", b"1e3", b"--1", b"+5", b" 5"]))


def _price_out_of_range(random: Random, fields: list[bytes]) -> bytes:
    return _with(fields, b"44", random.choice([b"9223372036.854775808", b"0.0000000001", b"1" * 21]))


def _quantity_not_numeric(random: Random, fields: list[bytes]) -> bytes:
    return _with(fields, b"38", random.choice([b"-100", b"1OO", b"many", b"1_000"]))


def _sequence_not_numeric(random: Random, fields: list[bytes]) -> bytes:
    return _with(fields, b"34", random.choice([b"-1", b"4294967296", b"12a", b"00000000001"]))


def _side_of_two_characters(random: Random, fields: list[bytes]) -> bytes:
    return _with(fields, b"54", random.choice([b"11", b"BUY"]))


def _cut_in_head(random: Random, fields: list[bytes]) -> bytes:
    whole = encode(fields)
    return whole[: random.randint(1, whole.index(b"35=") - 1)]


def _cut_in_tail(random: Random, fields: list[bytes]) -> bytes:
    # Up to nine bytes of the body are missing, fewer than BeginString has, or the trailer from its '=' on.
    whole = encode(fields)
    trailer = len(whole) - 7
    return whole[: random.randint(trailer - 9, trailer + 2)]


def _garbage_bytes(random: Random, fields: list[bytes]) -> bytes:
    while True:
        garbage = random.randbytes(random.randint(1, GARBAGE_MOST))
        if BEGIN not in garbage + BEGIN[:-1]:
            return garbage


def _garbage_text(random: Random, fields: list[bytes]) -> bytes:
    return random.choice(
        [b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"9=12\x0135=0\x0110=000\x01", b"\x00" * 64, SOH, b"8=FI"]
    )


FAULTS: dict[str, Callable[[Random, list[bytes]], bytes]] = {
    "wrong checksum": _wrong_checksum,
    "checksum of two digits": _checksum_of_two_digits,
    "BodyLength too small": _body_length_too_small,
    "BodyLength too large": _body_length_too_large,
    "BodyLength beyond the limit": _body_length_beyond_limit,
    "BodyLength no number": _body_length_text,
    "BodyLength missing": _body_length_missing,
    "MsgType not first": _type_not_first,
    "bad tag": _bad_tag,
    "empty value": _empty_value,
    "price not numeric": _price_not_numeric,
    "price out of range": _price_out_of_range,
    "quantity not numeric": _quantity_not_numeric,
    "MsgSeqNum not numeric": _sequence_not_numeric,
    "side of two characters": _side_of_two_characters,
    "cut in its head": _cut_in_head,
    "cut in its tail": _cut_in_tail,
    "garbage bytes": _garbage_bytes,
    "garbage text": _garbage_text,
}
"""What can be wrong → from a random source and a message's body fields (MsgType first) the bytes to send."""
