"""Market data messages of FIX, and what docs/fix.md makes of them."""

import random
from collections.abc import Iterable

import numpy as np

from hdl.fix_tags import DATA_TAGS, ENTRY_TAGS
from hdl.frame import Flag
from sim.benches.fix_model import FixFlow, Span

SYMBOL_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./-= "
BAD_NUMBERS = (
    b"-",
    b".",
    b"1.2.3",
    b"1-",
    b"abc",
    b"--1",
    b"1e5",
    b"9" * 19,
    b"1" * 21,
    b"0.0000000001",
    b"4294967296",
)
"""Bad as a price, as an integer or as both."""
LONG_TAG = 123456789


def message(msg_type: str, body: Iterable[tuple[int, bytes]]) -> bytes:
    """A well-formed message with these fields behind MsgType."""
    text = b"35=%b\x01" % msg_type.encode() + b"".join(b"%d=%b\x01" % field for field in body)
    whole = b"8=FIX.4.4\x019=%d\x01" % len(text) + text
    return whole + b"10=%03d\x01" % (sum(whole) % 256)


def read(raw: bytes) -> Span:
    """What the page says of a message."""
    (span,) = FixFlow(0).take(raw, 0)
    assert span.raw == raw
    return span


def causes(span: Span) -> int:
    """VALUE and RANGE."""
    return int(span.frame["flags"]) & (Flag.VALUE | Flag.RANGE)


def symbol() -> bytes:
    return bytes(random.choices(SYMBOL_CHARACTERS, k=random.choice((1, 3, 7, 8, 9, 15, 16, 17, random.randint(1, 60)))))


def price() -> bytes:
    whole, behind = random.randint(0, 10), random.randint(0, 9)
    if not whole + behind:
        whole = 1
    digits = "".join(random.choices("0123456789", k=min(whole + behind, 18)))
    text = digits[:whole] if not behind and random.random() < 0.5 else digits[:whole] + "." + digits[whole:]
    if whole == 10 and digits[:1] == "9":
        text = "8" + text[1:]
    return (random.choice(("", "-")) + text).encode()


def quantity() -> bytes:
    number = random.choice((random.randint(0, 9), random.randint(0, 10**6), random.randint(0, 10**11 - 1)))
    text = str(number).zfill(random.choice((1, 1, 8)))
    return (text + random.choice(("", ".", ".5", f".{random.randrange(10**7):07}0"))).encode()[:19]


def data_field() -> list[tuple[int, bytes]]:
    """A data field behind its length, with anything in it that looks like a field; or a length that announces nothing."""
    tag = random.choice(list(DATA_TAGS))
    if random.random() < 0.1:
        return [(tag, b"000"), (DATA_TAGS[tag], b"=")]
    parts = [
        b"\x01",
        b"10=000\x01",
        b"269=0\x01",
        b"\x01279=1\x01",
        b"270=1",
        b"95=3\x0196=",
        b"==",
        random.randbytes(random.randint(1, 20)),
    ]
    content = b"".join(random.choices(parts, k=random.randint(1, 5)))
    length = str(len(content)).zfill(random.choice((1, 1, 5, 9))).encode()
    announced = random.choice((DATA_TAGS[tag],) * 4 + (58,))
    if announced == 58:
        content = content.replace(b"\x01", b"~")
    return [(tag, length), (announced, content)]


def entry(msg_type: str, bad: float = 0.0) -> list[tuple[int, bytes]]:
    """An entry's fields, the one with which it begins first."""
    possible: list[list[tuple[int, bytes]]] = [
        [(270, price())],
        [(271, quantity())],
        [(1023, str(random.randint(0, 255)).encode())],
        [(346, str(random.randint(0, 2**32 - 1)).zfill(random.randint(1, 10)).encode())],
        [(83, str(random.randint(0, 2**32 - 1)).encode())],
        [(55, symbol())],
        [(random.choice((278, 272, 273, 336, 2700, 1270, LONG_TAG)), random.randbytes(6).replace(b"\x01", b"x"))],
        data_field(),
    ]
    if random.random() < bad:
        possible.append([(random.choice((270, 271, 346, 83, 1023)), random.choice(BAD_NUMBERS))])
    other = {"W": 279, "X": 269}[msg_type]
    types = random.choice((b"0", b"1", b"2", b"E", b"F", b"J", b"4", b"z", b"\x00"))
    possible.append([(other, types if random.random() >= bad / 8 else b"12")])
    groups = random.sample(possible, random.randint(0, len(possible)))
    if groups and random.random() < 0.2:
        groups.append(random.choice(groups))
    first = types if msg_type == "W" else random.choice((b"0", b"1", b"2"))
    return [(ENTRY_TAGS[msg_type], first), *(field for group in groups for field in group)]


def market_data(entries: int, bad: float = 0.0) -> bytes:
    """A message with so many entries, each bad with the probability ``bad``."""
    msg_type = random.choice("WX")
    other = 279 if msg_type == "W" else 269
    body = [
        (34, str(random.randint(1, 10**6)).encode()),
        (49, b"V" * random.randint(1, 12)),
        (262, b"q" * random.randint(1, 9)),
    ]
    if random.random() < 0.3:
        body += data_field()
    if random.random() < 0.3:
        body += random.choice(([(55, symbol())], [(270, b"junk")], [(44, price()), (44, b"x")], [(other, b"12")]))
    for _ in range(entries):
        body += entry(msg_type, bad)
    if random.random() < 0.3:
        body += data_field()
    return message(msg_type, body)


def described(frame: np.void) -> dict[str, int]:
    """What the frame of an entry says of the entry."""
    names = (
        "price",
        "quantity",
        "price_level",
        "entry_type",
        "update_action",
        "number_of_orders",
        "instrument_sequence",
        "entry_offset",
    )
    return {name: frame[name].item() for name in names}
