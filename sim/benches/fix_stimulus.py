"""FIX traffic at random, directed at what sim/benches/fix_coverage.py names: all that docs/fix.md has a rule for, in packets
of few bytes that cut it everywhere, over flows that take turns."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from random import Random
from typing import Any, NamedTuple

from hdl.limits import FIELD_LIMIT, MESSAGE_LIMIT
from sim.benches.fix_model import ANNOUNCED, SOH, TAKEN_OF_ENTRIES

ACTIVE = 5
"""Flows that take turns at a time: few, so that each comes back soon."""

NUMBERS = [
    b"0", b"7", b"-7", b"12345", b"-0", b"1.5", b"-1.5", b".5", b"-.5", b"5.", b"-5.", b".", b"-", b"-.", b"1.2.3", b"+5", b"5-",
    b"1x", b"1e5", b"0.000000001", b"0.0000000001", b"0.00000001", b"0.1000000000", b"-0.0000000000", b"999999999999999999",
    b"000000000000000001", b"0000000000000000001", b"-12345678.123456789", b"00000000012345.67890", b"000000000000000000000",
    b"9223372036.85477580", b"9223372036.85477581", b"-9223372036.85477580", b"-9223372036.85477581", b"99999999999.9999999",
    b"100000000000", b"4294967295", b"4294967296", b"9999999999", b"0000000009", b"00000000009", b"255", b"256",
]  # fmt: skip
BAD_TAGS = [b"", b"0", b"034", b"3x", b"1234567890", b"-1", b" 1", b"35 "]
MSG_TYPES = [b"D", b"F", b"G", b"8", b"9", b"0", b"1", b"5", b"A", b"j", b"AE", b"W", b"X"]
CHARACTERS = [b"0", b"1", b"2", b"5", b"E", b"J", b"w"]


class Sent(NamedTuple):
    """A packet: its payload and flow, whether it is a fragment, and how many bytes are missing before it."""

    payload: bytes
    flow: int
    fragment: bool = False
    missing: int | None = None


BEYOND = (256, 512)
"""What a CheckSum of three digits can have above the right one and still be the same, modulo 256."""


def framed(
    body: bytes, begin: bytes = b"8=FIX.4.4\x01", length: int = 0, check: int = 0, zeros: int = 0, beyond: int = 0
) -> bytes:
    """A message; ``length`` and ``check`` are added to what is right, ``zeros`` stand before BodyLength. ``beyond`` is added to the
    CheckSum and may make it larger than 255."""
    head = begin + b"9=%s%d\x01" % (b"0" * zeros, max(0, len(body) + length)) + body
    return head + b"10=%03d\x01" % ((sum(head) + check) % 256 + beyond)


class Deck:
    """Deals things in random order, each once before any comes again."""

    def __init__(self, random: Random, things: Iterable[Any]) -> None:
        self._random = random
        self._things = list(things)
        self._left: list[Any] = []

    def deal(self) -> Any:
        """The next one."""
        if not self._left:
            self._left = self._random.sample(self._things, len(self._things))
        return self._left.pop()


class Stimulus:
    """Packets without end, for ``flows``; ``lanes`` are the bytes of a beat."""

    def __init__(self, random: Random, flows: range, lanes: int) -> None:
        self.random = random
        self._flows = flows
        self._lanes = lanes
        self._waiting = dict.fromkeys(flows, b"")
        self._active = list(flows[:ACTIVE])
        self._flow_deck = Deck(random, flows)
        self._numbers = Deck(random, product((34, 38, 44), NUMBERS))
        self._lengths = Deck(random, ANNOUNCED)
        self._long = Deck(random, [*LONG, *BEFORE_OVERRUNS])
        self._pieces: list[tuple[int, Callable[[], bytes]]] = [
            (12, self.order),
            (4, self.short),
            (10, self.with_data),
            (8, self.market_data),
            (8, self.with_faults),
            (8, self.badly_framed),
            (6, self.garbage),
            (2, lambda: self._long.deal()(self)),
        ]

    def packets(self, count: int) -> Iterator[Sent]:
        """So many packets and a few more."""
        sent = 0
        while sent < count:
            if self.random.random() < 0.03:
                self._active[self.random.randrange(len(self._active))] = self._flow_deck.deal()
            for packet in self._turn():
                sent += 1
                yield packet

    def _turn(self) -> Iterator[Sent]:
        choose = self.random
        flow = choose.choice(self._active)
        pattern = choose.random()
        yield self._packet(flow)
        if pattern < 0.4:
            # Back again after one packet of one beat.
            other = choose.choice([each for each in self._active if each != flow] or [flow])
            yield self._packet(other, choose.randint(1, self._lanes))
            yield self._packet(flow)
        elif pattern < 0.7:
            yield self._packet(flow)

    def _packet(self, flow: int, size: int | None = None) -> Sent:
        choose = self.random
        if size is None:
            most = choose.choice([self._lanes, self._lanes, 2 * self._lanes, 40])
            size = choose.randint(1, most)
        waiting = self._waiting[flow]
        if len(waiting) > 100:
            size = choose.randint(100, len(waiting))  # what is long takes its time
        while len(waiting) < size:
            waiting += self.piece()
        payload, self._waiting[flow] = waiting[:size], waiting[size:]
        missing = None
        if choose.random() < 0.05:
            missing = choose.choice([0, choose.randint(1, 300), choose.randint(1 << 16, (1 << 31) - 1)])
        return Sent(payload, flow, choose.random() < 0.05, missing)

    def piece(self) -> bytes:
        """Bytes that come in a stream."""
        weights, makers = zip(*self._pieces, strict=True)
        return self.random.choices(makers, weights)[0]()

    def field(self, tag: bytes | int, value: bytes) -> bytes:
        """A field with its SOH."""
        return (b"%d" % tag if isinstance(tag, int) else tag) + b"=" + value + SOH

    def text(self, most: int = 12) -> bytes:
        """A value of letters."""
        return bytes(self.random.choices(b"ABCDEFGHIJ.-= 0189", k=self.random.randint(1, most)))

    def number(self) -> bytes:
        """A field with a number, or with what is none."""
        return self.field(*self._numbers.deal())

    def taken(self) -> bytes:
        """A field that the frame carries, mostly well-formed."""
        choose = self.random
        tag = choose.choice([34, 38, 44, 44, 11, 41, 55, 1, 54, 40, 59])
        if tag in (34, 38, 44):
            good = b"%d" % choose.randint(0, 99999) + (b".25" if tag != 34 and choose.random() < 0.5 else b"")
            return self.field(tag, good)
        return self.field(tag, choose.choice(CHARACTERS) if tag in (54, 40, 59) else self.text())

    def order(self) -> bytes:
        """A message without a fault, of any type."""
        choose = self.random
        fields = {field.partition(b"=")[0]: field for field in (self.taken() for _ in range(choose.randint(0, 9)))}
        rest = choose.choice([b"", b"58=" + self.text(9) + SOH, b"5001=x\x01", b"52=20240229-12:00:00.123456789\x01"])
        return framed(
            self.field(35, choose.choice(MSG_TYPES)) + b"".join(fields.values()) + rest,
            choose.choice([b"8=FIX.4.4\x01", b"8=FIXT.1.1\x01", b"8=FIX\x01"]),
            zeros=choose.choice([0, 0, 0, 1, 5]),
        )

    def short(self) -> bytes:
        """Fields of four and five bytes, or next to nothing."""
        choose = self.random
        body = b"35=%s\x01" % choose.choice([b"0", b"D", b"W"])
        body += b"".join(
            b"%d=%c\x01" % (choose.randint(1, 9), choose.choice(b"AB")) for _ in range(choose.randint(0, 7))
        )
        return framed(
            body, choose.choice([b"8=FIX\x01", b"8=FIX.4.2\x01"]), length=-9999 if choose.random() < 0.1 else 0
        )

    def data(self) -> bytes:
        """A length field and its data, right or not."""
        choose = self.random
        tag = self._lengths.deal()
        content = b"".join(
            choose.choice([b"a", SOH, SOH, b"xyz", b"10=123\x01", b"8=FIX.4.4\x01", b"=", self.text(5)])
            for _ in range(choose.randint(1, 6))
        )
        stated = b"%d" % len(content)
        between = b""
        other = ANNOUNCED[tag]
        if (lie := choose.random()) < 0.35:
            stated = b"%d" % max(0, len(content) + choose.choice([-3, -2, -1, 1, 2, 3, 40]))
        elif lie < 0.4:
            stated = choose.choice([b"0", b"x", b"4096", b"999999999", b"1234567890", b"-3", b""])
        elif lie < 0.45:
            between = choose.choice([b"58=x\x01", b"7\x01"])
        elif lie < 0.5:
            other = choose.choice([58, 96, 89])
        return self.field(tag, stated) + between + self.field(other, content)

    def with_data(self) -> bytes:
        """A message with data fields, at its end as well."""
        choose = self.random
        body = b"35=%s\x01" % choose.choice([b"B", b"A", b"W"])
        body += b"".join(choose.choice([self.data, self.data, self.taken])() for _ in range(choose.randint(1, 4)))
        return framed(body, length=choose.choice([0] * 12 + [-1, 1, 5, -5]))

    def market_data(self) -> bytes:
        """Entries, and sometimes what looks like them."""
        choose = self.random
        first = choose.choice([b"W", b"X"])
        body = b"35=%s\x01" % first + b"".join(self.taken() for _ in range(choose.randint(0, 2)))
        for _ in range(choose.randint(0, 4)):
            tag = 269 if first == b"W" else 279
            body += self.field(tag if choose.random() < 0.9 else 548 - tag, choose.choice(CHARACTERS))
            for _ in range(choose.randint(0, 3)):
                inner = choose.choice(TAKEN_OF_ENTRIES)
                value = choose.choice(CHARACTERS) if inner in (269, 279) else b"%d" % choose.randint(0, 255)
                body += self.field(inner, value)
            if choose.random() < 0.2:
                body += choose.choice([self.taken, self.data])()
            if choose.random() < 0.1:
                body += choose.choice([b"269=\x01", b"279=\x01", b"0269=1\x01", b"270=x\x01", b"44=1\x01"])
        return framed(body)

    def with_faults(self) -> bytes:
        """A message whose fields are odd, in a frame that holds."""
        choose = self.random
        body = b"" if choose.random() < 0.1 else self.field(35, choose.choice([*MSG_TYPES, b"", b"ABC"]))
        for _ in range(choose.randint(1, 5)):
            kind = choose.randrange(7)
            if kind == 0:
                body += self.field(choose.choice(BAD_TAGS), self.text(6))
            elif kind == 1:
                body += self.field(choose.choice([34, 38, 44, 55, 58, 35]), b"")
            elif kind <= 3:
                body += self.number()
            elif kind == 4:
                again = self.taken()
                body += again + self.taken() + again
            elif kind == 5:
                body += self.field(choose.choice([54, 40, 59]), b"12")
            else:
                body += choose.choice([SOH, b"=\x01", b"text\x01", b"x\x01", b"35=D\x01"])
        return framed(body, check=choose.choice([0, 0, 0, 1]))

    def badly_framed(self) -> bytes:
        """A message that does not end where it says, or not as it should."""
        choose = self.random
        whole = self.order()
        kind = choose.randrange(9)
        if kind == 0:
            return whole[: choose.randint(1, len(whole) - 1)]
        if kind == 1:
            return framed(b"35=0\x0134=5\x01" + self.taken(), length=choose.choice([-6, -1, 1, 2, 7, 20]))
        if kind == 2:
            return whole[:-7] + choose.choice(
                [b"10=12\x01", b"10=0000\x01", b"58=abc\x01", b"10=1x3\x01", b"010=12\x01", b"", SOH, b"8=FIX\x01x\x01"]
            )
        if kind == 3:
            return choose.choice([b"8=FIX.4.4\x01", b"8=FIX\x01"]) + choose.choice(
                [
                    b"9=\x01",
                    b"9=5x\x01",
                    b"9=0000000005\x01",
                    b"35=D\x01",
                    SOH,
                    b"9=9999\x01",
                    b"9=999999999\x01",
                    b"09=5\x01",
                    b"9=0\x01x\x01",
                ]
            )
        if kind == 4:
            return (
                b"8=FIX.4.4\x01"
                + choose.choice([b"", b"9=40\x01", b"9=40\x0135=D\x01", b"9=5\x0135=0\x01"])
                + b"x8=FIX.4.4\x01"
            )
        if kind == 5:
            content = choose.choice([b"b", b"8=FIX.4.4"])
            return framed(
                b"35=B\x0195=%d\x0196=a\x01%s\x01" % (choose.choice([2, 4, 5, 30]), content),
                length=choose.choice([0, -2]),
            )
        if kind == 6:
            return framed(b"", length=choose.choice([0, 5]))
        if kind == 7:
            return framed(b"35=0\x01" + self.taken(), beyond=choose.choice(BEYOND))
        return framed(b"35=0\x01", check=choose.randint(1, 255))

    def garbage(self) -> bytes:
        """Bytes that are no message."""
        choose = self.random
        return choose.choice(
            [
                bytes(choose.choices(b"8=FIX.49=1\x01\x01035=D", k=choose.randint(1, 30))),
                SOH * choose.randint(1, 20),
                choose.randbytes(choose.randint(1, 20)),
                b"8=FI" + b"8=FIX"[: choose.randint(1, 4)] + SOH,
                b"xx8=FIX8=FIX.4.4\x01" + framed(b"35=0\x01")[10:],
                b"".join(choose.choice([b"a\x01", b"ab\x01", b"abc\x01", b"8=FIX\x01"]) for _ in range(6)),
            ]
        )

    def overrun(self, before: bytes) -> bytes:
        """A field without end behind ``before``, with a begin that is not to be seen."""
        choose = self.random
        filling = b"y" * (FIELD_LIMIT - choose.randint(0, 16))
        return before + filling + choose.choice([b"8=FIX.4.4", b"8=FI", b"="]) + b"y" * choose.randint(1, 40) + SOH


def longest(more: int) -> Callable[[Stimulus], bytes]:
    """A message of MESSAGE_LIMIT bytes and some more, which may be fewer."""
    rest = MESSAGE_LIMIT + more - len(framed(b"35=8\x0158=" + b"p" * 2030 + b"\x0196=" + b"q" * 1000 + SOH))
    return lambda _: framed(b"35=8\x0158=" + b"p" * 2030 + b"\x0196=" + b"q" * (1000 + rest) + SOH)


def longest_field(more: int) -> Callable[[Stimulus], bytes]:
    """A field of FIELD_LIMIT bytes and some more, which may be fewer."""
    return lambda _: framed(b"35=0\x0158=" + b"z" * (FIELD_LIMIT - 4 + more) + SOH)


LONG = [limit(more) for limit in (longest, longest_field) for more in (-1, 0, 1)]
BEFORE_OVERRUNS = [
    (lambda stimulus, before=before: stimulus.overrun(before))
    for before in (
        b"",
        b"8=FIX.4.4\x01",
        b"8=FIX.4.4\x019=9\x01",
        b"8=FIX.4.4\x019=5\x0135=0\x01",
        b"8=FIX.4.4\x019=3000\x0135=B\x0195=2500\x0196=a\x01",
    )
]
"""Overruns in every phase."""
