"""FIX as people log and paste it, turned into packets that a card can be fed with.

What a message looks like on the wire is said by "FIX TagValue Encoding" (FIX Trading Community, 2020); what logs make of
it, and which reading is chosen where several are possible, by docs/captures.md. Bytes are never mended: a wrong
BodyLength or CheckSum stays wrong.
"""

import datetime
import functools
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hdl.flow import Endpoint
from host.capture.packets import Packets
from host.capture.write import ACKNOWLEDGE, PUSH, SYN, tcp_packet

TEXT_BYTES_MAX = 1 << 30
"""Longest text that is read: it is held in memory, its packets beside it."""

MESSAGE_BYTES_MAX = 1 << 20
"""A message that has no tag 10 in so many bytes has no end."""

SEGMENT_BYTES = 1460
"""Payload of the packets that are made: what TCP sends over Ethernet, whose MTU is 1500."""

FIRST_ADDRESS, PORT = 0x7F000001, 9878
"""127.0.0.1 stands for the first CompID that is met, the next address for the next one; all at one port."""

SEPARATORS = (
    b"\x01", b"<SOH>", b"<soh>", b"[SOH]", b"{SOH}", b"^A", b"\\x01", b"\\u0001", b"\\001", b"\xe2\x90\x81",
    b"&#1;", b"&#x1;", b"&#x01;", b" | ", b" |", b"| ", b"|", b";", b"^", b"~", b"#", b"!", b"\t", b" ",
)  # fmt: skip
"""What stands for SOH in logs. Where one begins with another, the longer one stands first."""

DIGIT_ENDED = tuple(separator for separator in SEPARATORS if separator[-1:].isdigit())

BREAK = rb"(?:\r?\n)?"
"""Lines may be broken anywhere, within ``8=FIX`` too."""

BEGIN = re.compile(
    BREAK.join((b"8", b"=", b"F", b"I", b"X"))
    + rb"(?:[A-Za-z0-9._]|\r?\n){0,32}("
    + b"|".join(BREAK.join(re.escape(bytes([each])) for each in separator) for separator in SEPARATORS)
    + rb")"
)
"""BeginString and the separator behind it, which is that of the whole message."""

EMPTY_LINE = re.compile(rb"\n[ \t\r\0]*\n")
HEAD = re.compile(rb"8=[^\x01]*\x019=([0-9]{1,9})\x01")
SENDER, TARGET = re.compile(rb"\x0149=([^\x01]*)\x01"), re.compile(rb"\x0156=([^\x01]*)\x01")
SENDING_TIME = re.compile(rb"\x0152=(\d{8})-(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?\x01")
BLANK = b" \t\r\n\f\0"
EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class FixText:
    """What a text has.

    Attributes:
        packets: the messages as TCP segments.
        messages: how many there are; None where the text is a byte stream, which is not taken apart.
        flows: how many pairs of SenderCompID and TargetCompID.
        unused: lines that are not blank and of which nothing was used.
        first_unused: number of the first of them, from 1; 0 where there is none.
        endless: messages that begin but have no end.
        first_endless: number of the line in which the first of them begins; 0 where there is none.
    """

    packets: Packets
    messages: int | None
    flows: int = 1
    unused: int = 0
    first_unused: int = 0
    endless: int = 0
    first_endless: int = 0

    def describe(self) -> str:
        """What was read and what was not, in one line."""
        if self.messages is None:
            return "FIX byte stream, its bytes played unchanged as one flow, whatever its CompIDs"
        parts = [f"FIX log, {_count(self.messages, 'message')} in {_count(self.flows, 'flow')}"]
        first = f" (the first is line {self.first_unused})" if self.unused else ""
        parts.append(f"{_count(self.unused, 'line')} could not be used{first}")
        if self.endless:
            has = "has" if self.endless == 1 else "have"
            parts.append(
                f"{_count(self.endless, 'message')} {has} no end (the first begins in line {self.first_endless})"
            )
        return ", ".join(parts)


def is_text(data: np.ndarray) -> bool:
    """Whether what data begins with may be FIX text.

    A damaged capture of FIX traffic is not: its headers are full of control characters. Logs have few, of which only
    the zero bytes that some programs write in front of a message are usual.
    """
    head = data[:65536]
    odd = int(np.count_nonzero((head < 32) & ~np.isin(head, (1, 9, 10, 12, 13, 27))))
    return odd * 32 <= len(head)


def has_fix(text: bytes) -> bool:
    """Whether something like the begin of a FIX message stands in a text."""
    return BEGIN.search(text) is not None


def read_fix_text(data: bytes) -> FixText | None:
    """The messages of a log, or a byte stream as it is; None where not one message is whole. Raises nothing."""
    if _is_stream(data):
        made = _Segments()
        made.add(data, Endpoint(FIRST_ADDRESS + 1, PORT), Endpoint(FIRST_ADDRESS, PORT), None)
        return FixText(made.packets(), None)
    log = _Log(data)
    for message in log.messages():
        log.segments.add(message, *log.ends(message), _sending_time(message))
    if not log.used:
        return None
    return FixText(
        log.segments.packets(),
        log.used,
        len(log.pairs),
        log.unused,
        log.first_unused,
        log.endless,
        log.first_endless,
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _is_stream(data: bytes) -> bool:
    """Whether the text has no lines: it begins with a message, or with the rest of one, and SOH ends all fields.

    Line feeds within values do not make lines; a blank or line feed behind the first message does.
    """
    begin = BEGIN.search(data)
    if begin is None or begin[1] != b"\x01":
        return False
    before = data[: begin.start()]
    if before and (before[-1:] != b"\x01" or b"\n" in before):
        return False
    trailer = re.compile(rb"\x0110=[^\x01\r\n]*\x01").search(data, begin.start())
    return not data[trailer.end() : trailer.end() + 1].isspace() if trailer else b"\n" not in data


class _Segments:
    """Collects TCP segments; sequence numbers run on in each flow, times in all.

    A flow's first segment carries SYN, so that a card that has another text's flow between the same ends begins anew.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._length = array("I")
        self._timestamp = array("Q")
        self._sequence: dict[tuple[Endpoint, Endpoint], int] = {}

    def add(self, payload: bytes, source: Endpoint, destination: Endpoint, time: int | None) -> None:
        """Append bytes of a flow, sent at ``time`` (ns since 1970), or 1 ns after what was sent before."""
        if time is None:
            time = self._timestamp[-1] + 1 if self._timestamp else 0
        sequence = self._sequence.get((source, destination), 1)
        for start in range(0, len(payload), SEGMENT_BYTES):
            part = payload[start : start + SEGMENT_BYTES]
            if sequence + start == 1:
                packet = tcp_packet(part, source, destination, sequence=0, flags=SYN | PUSH | ACKNOWLEDGE)
            else:
                packet = tcp_packet(part, source, destination, sequence=sequence + start)
            self._data += packet
            self._length.append(len(packet))
            self._timestamp.append(min(time, 2**64 - 1))
        self._sequence[source, destination] = (sequence + len(payload)) & 0xFFFFFFFF

    def packets(self) -> Packets:
        """All of them."""
        length = np.array(self._length, np.uint32)
        offset = np.cumsum(length, dtype=np.uint64) - length
        return Packets(np.frombuffer(self._data, np.uint8), offset, length, np.array(self._timestamp, np.uint64))


class _Log:
    """Goes through a log once and counts what it could not use."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.segments = _Segments()
        self.used = self.unused = self.first_unused = self.endless = self.first_endless = 0
        self.pairs: set[tuple[bytes, bytes]] = set()
        self._addresses: dict[bytes, int] = {}
        self._line, self._counted = 1, 0

    def messages(self) -> Iterator[bytes]:
        """The whole messages as on the wire."""
        data, end = self.data, 0
        begin = self._begin(0)
        while begin is not None:
            at = begin.start()
            following = self._begin(at + 1)
            limit = min(at + MESSAGE_BYTES_MAX, following.start() if following else len(data))
            found = _message(data[at:limit], _joined(begin[1]))
            if found is None:
                self.endless += 1
                self.first_endless = self.first_endless or self._line + data.count(b"\n", self._counted, at)
            else:
                message, size = found
                self._pass_over(end, at, self.used == 0, False)
                end = at + size
                self.used += 1
                yield message
            begin = following
        self._pass_over(end, len(data), self.used == 0, True)

    def ends(self, message: bytes) -> tuple[Endpoint, Endpoint]:
        """Where a message comes from and goes to: an address for each CompID, so each direction is a flow."""
        sender, target = SENDER.search(message), TARGET.search(message)
        pair = (sender[1] if sender else b"", target[1] if target else b"")
        self.pairs.add(pair)
        source, destination = (
            Endpoint(FIRST_ADDRESS + self._addresses.setdefault(each, len(self._addresses)), PORT) for each in pair
        )
        return source, destination

    def _begin(self, start: int) -> re.Match[bytes] | None:
        """The next begin from ``start`` on. Behind a digit that ends no separator it is another tag's (108=FIX)."""
        while (begin := BEGIN.search(self.data, start)) is not None:
            at = begin.start()
            before = self.data[max(0, at - 8) : at]
            if not before[-1:].isdigit() or before.endswith(DIGIT_ENDED):
                return begin
            start = at + 1
        return None

    def _pass_over(self, start: int, stop: int, first: bool, last: bool) -> None:
        """Count the lines that lie wholly between two messages; those of the messages themselves were used."""
        lines = self.data[start:stop].split(b"\n")
        for place, line in enumerate(lines):
            whole = (place > 0 or first) and (place < len(lines) - 1 or last)
            if whole and line.strip(BLANK):
                self.unused += 1
                self.first_unused = (
                    self.first_unused or self._line + self.data.count(b"\n", self._counted, start) + place
                )
        self._line += self.data.count(b"\n", self._counted, stop)
        self._counted = stop


def _joined(separator: bytes) -> bytes:
    """A separator without the line break that may stand in it."""
    return separator.replace(b"\r\n", b"").replace(b"\n", b"")


def _message(text: bytes, separator: bytes) -> tuple[bytes, int] | None:
    """The message with which ``text`` begins, as on the wire, and how many bytes of the text it takes.

    Of the readings of docs/captures.md the first whose BodyLength and CheckSum are right, or simply the first.
    """
    line = text.partition(b"\n")[0]
    size = _size(line, separator, whole=True)
    if size:
        return _on_the_wire(text[:size], separator)[0], size
    empty = EMPTY_LINE.search(text)
    lines = (text[: empty.start()] if empty else text).split(b"\n")
    first: tuple[bytes, int] | None = None
    ended = False
    for indented in (False, True):
        parts = [part.removesuffix(b"\r") for part in lines]
        if indented:
            parts = [parts[0], *(part.lstrip(b" \t") for part in parts[1:])]
        joined = b"".join(parts)
        size = _size(joined, separator, whole=False)
        if size:
            message, right = _on_the_wire(joined[:size], separator)
            taken = _taken(lines, parts, size)
            if right:
                return message, taken
            if first is None:
                first, ended = (message, taken), joined[:size].endswith(separator)
    # Line feeds may be part of a value.
    size = _size(text, separator, whole=False)
    if size:
        message, right = _on_the_wire(text[:size], separator)
        if right:
            return message, size
    short = _size(line, separator, whole=False)
    if short and not ended:
        return _on_the_wire(line[:short], separator)[0], short
    return first


def _taken(lines: list[bytes], parts: list[bytes], size: int) -> int:
    """Bytes of ``lines``, joined by line feeds, that hold the first ``size`` bytes of the joined ``parts``."""
    taken = 0
    for line, part in zip(lines, parts, strict=True):
        if size <= len(part):
            # What was cut off in front of a part lies in front of what is left of it.
            return taken + len(line.removesuffix(b"\r")) - len(part) + size
        size -= len(part)
        taken += len(line) + 1
    raise AssertionError("more bytes than the parts have")


@functools.cache
def _trailer(separator: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(separator) + b"10=")


@functools.cache
def _value(separator: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Tag 10's value and the separator behind it: three digits and perhaps one, whatever and certainly one."""
    end = re.escape(separator)
    value = rb"[^\x01\r\n]" if separator == b"\x01" else rb"[^\s\x01]"
    return re.compile(rb"[0-9]{3}(?![0-9A-Za-z])(?:" + end + rb")?"), re.compile(value + rb"{0,64}?" + end)


def _size(text: bytes, separator: bytes, whole: bool) -> int:
    """Bytes of a message up to the end of its tag 10, with the separator if it is there; 0 without an end.

    The value ends with a separator, or behind three digits where none follows; unless it must be ``whole``, any digits
    will do.
    """
    trailer = _trailer(separator).search(text)
    if trailer is None:
        return 0
    digits, ended = _value(separator)
    start = trailer.end()
    value = digits.match(text, start) or ended.match(text, start) or re.compile(rb"[0-9]{3}").match(text, start)
    if value is None and not whole:
        value = re.compile(rb"[0-9]+").match(text, start)
    return value.end() if value else 0


def _on_the_wire(text: bytes, separator: bytes) -> tuple[bytes, bool]:
    """A message's bytes with SOH for each separator, and whether its BodyLength and CheckSum are right.

    A separator within a value is told by a tag not following it. Where that reading and the plain one differ, the one
    that is right is taken; where neither is, the plain one, except for blanks, which are more often in values.
    """
    if not text.endswith(separator):
        text += separator
    plain = text.replace(separator, b"\x01")
    if separator == b"\x01":
        return plain, _is_right(plain)
    if separator != b" " and _is_right(plain):
        return plain, True
    careful = re.sub(re.escape(separator) + rb"(?=[0-9]+=|\Z)", b"\x01", text)
    readings = (careful, plain) if separator == b" " else (plain, careful)
    for reading in readings:
        if _is_right(reading):
            return reading, True
    return readings[0], False


def _is_right(message: bytes) -> bool:
    """Whether BodyLength and CheckSum are those of the message (FIX TagValue Encoding, BodyLength and CheckSum)."""
    head = HEAD.match(message)
    trailer = message.rfind(b"\x0110=") + 1
    if head is None or not trailer or int(head[1]) != trailer - head.end():
        return False
    return message[trailer + 3 :] == b"%03d\x01" % (sum(message[:trailer]) & 0xFF)


def _sending_time(message: bytes) -> int | None:
    """SendingTime (52) in ns since 1970; None where it is missing or no UTCTimestamp that fits 64 bits."""
    found = SENDING_TIME.search(message)
    if found is None:
        return None
    day = _day(found[1])
    hour, minute, second = int(found[2]), int(found[3]), int(found[4])
    # 60 is a leap second's.
    if day is None or hour > 23 or minute > 59 or second > 60:
        return None
    fraction = int((found[5] or b"0").ljust(9, b"0"))
    time = (((day * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000 + fraction
    return time if time < 2**64 else None


@functools.lru_cache(64)
def _day(text: bytes) -> int | None:
    """Days since 1970 of YYYYMMDD; None for no date, and for earlier ones."""
    try:
        days = datetime.date(int(text[:4]), int(text[4:6]), int(text[6:])).toordinal() - EPOCH_DAY
    except ValueError:
        return None
    return days if days >= 0 else None
