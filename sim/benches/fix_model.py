"""docs/fix.md in plain Python, one flow at a time: what benches and tests expect, and what they count as coverage.

It is written from the page alone, for reading, not for speed: it shares nothing with either card but tags and limits.
"""

import enum
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hdl.fix_tags import BEGIN, KIND_OF_MSG_TYPE, MOST_LENGTH_DIGITS, MOST_TAG_DIGITS
from hdl.frame import FRAME_DTYPE, MALFORMED_FLAGS, PRICE_DECIMALS, QUANTITY_DECIMALS, Flag, Kind, crc64
from hdl.limits import FIELD_LIMIT, MESSAGE_LIMIT

SOH = b"\x01"
TRAILER_BYTES = len(b"10=000\x01")

ANNOUNCED = {
    90: 91, 93: 89, 95: 96, 212: 213, 348: 349, 350: 351, 352: 353, 354: 355, 356: 357, 358: 359, 360: 361, 362: 363,
    364: 365, 445: 446, 618: 619, 621: 622,
}  # fmt: skip
"""Length field to data field."""
MOST_ANNOUNCED_DIGITS, MOST_ANNOUNCED = 9, 4095

OFFSETS = {11: "client_order_id", 41: "original_order_id", 55: "symbol", 1: "account"}
CHARACTERS = {54: "side", 40: "order_type", 59: "time_in_force"}
TAKEN = (35, 34, 38, 44, *OFFSETS, *CHARACTERS)
"""The tags that the frame carries."""

ENTRY_TAGS = {"W": 269, "X": 279}
"""Which tag begins an entry, by MsgType."""
ENTRY_CHARACTERS = {269: "entry_type", 279: "update_action"}
ENTRY_NUMBERS = {
    1023: ("price_level", 255),
    346: ("number_of_orders", 2**32 - 1),
    83: ("instrument_sequence", 2**32 - 1),
}
TAKEN_OF_ENTRIES = (270, 271, 55, *ENTRY_CHARACTERS, *ENTRY_NUMBERS)
KIND_OF_ENTRY = {**dict.fromkeys(b"01EFJ", Kind.BOOK_UPDATE), ord("2"): Kind.TRADE}


class Phase(enum.Enum):
    """Which field the framing expects next."""

    SEEK = enum.auto()
    LENGTH = enum.auto()
    BODY = enum.auto()
    DATA = enum.auto()
    TRAILER = enum.auto()


class Span(NamedTuple):
    """What a field's end, or a hole, wrote.

    Attributes:
        raw: the bytes.
        start: their place in the flow's stream.
        frame: the message's own frame, as FRAME_DTYPE without what the ring writer fills in.
        entries: the frames that stand in its place; empty where it stands.
        common: where there are entries to be read, good or bad, the message's own frame without what is found in them.
    """

    raw: bytes
    start: int
    frame: np.void
    entries: tuple[np.void, ...] = ()
    common: np.void | None = None

    @property
    def frames(self) -> tuple[np.void, ...]:
        """The frames that the host sees."""
        return self.entries or (self.frame,)


class FieldEnd(NamedTuple):
    """A field that has ended.

    Attributes:
        first, end: its place in the flow's stream.
        text: its bytes.
        phase, after: the phases that it was read in and that it left.
        found: the flags that it added to its message's.
        taken: its tag where the frame carries its value, else None.
        span: what it wrote.
    """

    first: int
    end: int
    text: bytes
    phase: Phase
    after: Phase
    found: Flag
    taken: int | None
    span: Span | None


def integer(value: bytes, most: int = 2**32 - 1) -> tuple[int, Flag]:
    """The page's *integer*: its number, or 0 and the cause."""
    if len(value) > 10:
        return 0, Flag.RANGE
    if not value.isdigit():
        return 0, Flag.VALUE
    return (0, Flag.RANGE) if int(value) > most else (int(value), Flag(0))


def decimal(value: bytes, decimals: int, limit: int, sign: bool) -> tuple[int, Flag]:
    """The page's *decimal* in 10^-``decimals``: its number, or 0 and the cause."""
    if len(value) > 20:
        return 0, Flag.RANGE
    parts = re.fullmatch(rb"(-?)([0-9]*)(?:\.([0-9]*))?", value)
    if parts is None or (parts[1] and not sign):
        return 0, Flag.VALUE
    whole, behind = parts[2], parts[3] or b""
    if not whole + behind:
        return 0, Flag.VALUE
    number = int(whole + behind.ljust(decimals, b"0")[:decimals] or b"0")
    if len(whole + behind) > 18 or behind[decimals:].strip(b"0") or number >= limit:
        return 0, Flag.RANGE
    return (-number if parts[1] else number), Flag(0)


def price(value: bytes) -> tuple[int, Flag]:
    """A price in 1e-9."""
    return decimal(value, PRICE_DECIMALS, 2**63, sign=True)


def quantity(value: bytes) -> tuple[int, Flag]:
    """A quantity in 1e-8."""
    return decimal(value, QUANTITY_DECIMALS, 10**19, sign=False)


def split(content: bytes) -> tuple[int | None, bytes]:
    """Tag and value of a field without its SOH; None for a bad tag."""
    text, equals, value = content.partition(b"=")
    good = equals and text.isdigit() and text[:1] != b"0" and len(text) <= MOST_TAG_DIGITS
    return (int(text) if good else None), value


class FixFlow:
    """One flow's bytes on their way to frames; ``watch`` is told of each field's end."""

    def __init__(self, flow: int, watch: Callable[[FieldEnd], None] | None = None) -> None:
        self.flow = flow
        self.phase = Phase.SEEK
        self.position = 0  # places in the stream: its end so far,
        self.start = 0  # where the message began,
        self.first = 0  # and the current field
        self.body_end = self.data_end = 0
        self.flags = Flag(0)
        self._watch = watch
        self._bytes = bytearray()  # from `start` on
        self._searched = 0
        self._field_time = self._time = 0
        self._fragment = False
        self._forget()

    def take(self, payload: bytes, timestamp: int, fragment: bool = False, missing: int | None = None) -> list[Span]:
        """What a packet's payload gives; ``missing``: a hole of so many bytes lies before it."""
        spans = []
        self._fragment = fragment
        if missing is not None:
            self._time = timestamp
            spans.append(self._span(self.position, Kind.GAP, self.flags, sequence=missing))
            self._restart_at(self.position)
            self.first = self._searched = self.position
        arrival = self.position
        self.position += len(payload)
        self._bytes += payload
        while (end := self._field_end()) is not None:
            if self.first >= arrival:
                self._field_time = timestamp
            if self.first == self.start:
                self._time = self._field_time
            before, phase = self.flags, self.phase
            text = self._slice(self.first, end)
            self._taken_tag: int | None = None
            span, flags = self._read(text, end)
            if span is not None:
                spans.append(span)
            if self._watch is not None:
                found = flags & ~before
                self._watch(FieldEnd(self.first, end, text, phase, self.phase, found, self._taken_tag, span))
            self.first = self._searched = end
        if arrival <= self.first < self.position:
            self._field_time = timestamp
        return spans

    def _slice(self, first: int, end: int) -> bytes:
        return bytes(self._bytes[first - self.start : end - self.start])

    def _field_end(self) -> int | None:
        """Where the current field ends; None as long as it does not."""
        limit = self.first + FIELD_LIMIT
        soh = self._bytes.find(SOH, self._searched - self.start, limit - self.start)
        self._searched = min(limit, self.position)
        if soh >= 0:
            return self.start + soh + 1
        return limit if self.position >= limit else None

    def _forget(self) -> None:
        """A new message begins."""
        self.phase = Phase.SEEK
        self.flags = Flag(0)
        self._taken: dict[str, Any] = {}
        self._seen: set[int] = set()
        self._body_begun = False
        self._announced: tuple[int, int] | None = None  # the data field's tag, and its length
        self._entry_tag: int | None = None  # once the first entry has begun
        self._entries: list[list[tuple[int, int, bytes]]] = []

    def _restart_at(self, start: int) -> None:
        del self._bytes[: start - self.start]
        self.start = start
        self._forget()

    def _read(self, text: bytes, end: int) -> tuple[Span | None, Flag]:
        """A field that ended: what it wrote, and the flags of the message that it was part of."""
        if text[-1:] != SOH:
            flags = self.flags | Flag.TOO_LONG
            span = self._span(end, Kind.MALFORMED, flags)
            self._restart_at(end)
            return span, flags
        tag, value = split(text[:-1])
        cause = None  # what the field fails by
        if self.phase is Phase.SEEK:
            return self._seek(text, end)
        if self.phase is Phase.LENGTH:
            cause = self._body_length(tag, value, end)
        elif self.phase is Phase.BODY:
            cause = self._body(tag, value, end)
        elif self.phase is Phase.DATA:
            if end > self.body_end or end > self.data_end + 1:
                cause = Flag.LENGTH
            elif end == self.data_end + 1:
                self.phase = Phase.TRAILER if end == self.body_end else Phase.BODY
        elif len(text) == TRAILER_BYTES and text.startswith(b"10="):
            right = value.isdigit() and int(value) == sum(self._slice(self.start, self.first)) % 256
            flags = self.flags | (Flag(0) if right else Flag.CHECKSUM)
            span = self._span(end, None, flags)
            self._restart_at(end)
            return span, flags
        else:
            cause = Flag.LENGTH
        if cause is None:
            return None, self.flags
        self.flags |= cause
        self.phase = Phase.SEEK
        return (self._restart(text), self.flags | cause) if BEGIN in text else (None, self.flags)

    def _seek(self, text: bytes, end: int) -> tuple[Span | None, Flag]:
        flags = self.flags or Flag.GARBAGE
        if BEGIN in text:
            span = self._restart(text)
            return span, flags if span is not None else Flag(0)
        self.flags = flags
        if end - self.start < FIELD_LIMIT:
            return None, flags
        span = self._span(end, Kind.MALFORMED, flags)
        self._restart_at(end)
        return span, flags

    def _restart(self, text: bytes) -> Span | None:
        begin = self.first + text.rindex(BEGIN)
        span = self._span(begin, Kind.MALFORMED, self.flags or Flag.GARBAGE) if begin > self.start else None
        self._restart_at(begin)
        self._time = self._field_time
        self.phase = Phase.LENGTH
        return span

    def _body_length(self, tag: int | None, value: bytes, end: int) -> Flag | None:
        if tag != 9 or not value.isdigit() or len(value) > MOST_LENGTH_DIGITS:
            return Flag.LENGTH
        body_length = int(value)
        if end - self.start + body_length + TRAILER_BYTES > MESSAGE_LIMIT:
            return Flag.TOO_LONG
        self.body_end = end + body_length
        self.phase = Phase.BODY
        if body_length == 0:
            self.phase = Phase.TRAILER
            self.flags |= Flag.STRUCTURE
        return None

    def _body(self, tag: int | None, value: bytes, end: int) -> Flag | None:
        if end > self.body_end:
            return Flag.LENGTH
        announced, self._announced = self._announced, None
        if announced is not None and announced[0] == tag:
            if len(value) > announced[1]:
                return Flag.LENGTH
            if len(value) < announced[1]:
                self.phase = Phase.DATA
                self.data_end = end - 1 - len(value) + announced[1]
                return None
        self._take(tag, value, end - 1 - len(value))
        if end == self.body_end:
            self.phase = Phase.TRAILER
        return None

    def _take(self, tag: int | None, value: bytes, value_at: int) -> None:
        if not self._body_begun:
            self._body_begun = True
            if tag != 35 or not value:
                self.flags |= Flag.STRUCTURE
        if tag is None:
            self.flags |= Flag.TAG
            return
        if not value:
            self.flags |= Flag.VALUE
            return
        if tag in ANNOUNCED:
            if not value.isdigit() or len(value) > MOST_ANNOUNCED_DIGITS:
                self.flags |= Flag.VALUE
            elif int(value) > MOST_ANNOUNCED:
                self.flags |= Flag.RANGE
            elif int(value):
                self._announced = ANNOUNCED[tag], int(value)
        if self._entry_tag is None:
            self._entry_tag = self._tag_of_entries() if tag == self._tag_of_entries() else None
        if self._entry_tag is not None:
            if tag == self._entry_tag:
                self._entries.append([])
            self._entries[-1].append((self.first - self.start, tag, value))
        elif tag in TAKEN:
            if tag in self._seen:
                self.flags |= Flag.DUPLICATE_TAG
                return
            self._seen.add(tag)
            self._taken_tag = tag
            self.flags |= self._take_once(tag, value, value_at - self.start)

    def _tag_of_entries(self) -> int | None:
        return ENTRY_TAGS.get(chr(self._taken.get("message_type", 0)))

    def _take_once(self, tag: int, value: bytes, offset: int) -> Flag:
        cause = Flag(0)
        taken = self._taken
        if tag == 35:
            if len(value) > 2:
                return Flag.VALUE
            taken["message_type"] = int.from_bytes(value, "little")
        elif tag in OFFSETS:
            taken[OFFSETS[tag]] = offset
            if tag == 55:
                taken["instrument"] = crc64(value)
        elif tag in CHARACTERS:
            if len(value) > 1:
                return Flag.VALUE
            taken[CHARACTERS[tag]] = value[0]
        elif tag == 34:
            taken["sequence"], cause = integer(value)
        elif tag == 38:
            taken["quantity"], cause = quantity(value)
        else:
            taken["price"], cause = price(value)
        return cause

    def _span(self, end: int, kind: Kind | None, flags: Flag, **instead: int) -> Span:
        """A message's bytes up to ``end`` with its frames; ``kind`` None: as MsgType and flags say."""
        if 44 not in self._seen:
            flags |= Flag.PRICE_ABSENT
        if 38 not in self._seen:
            flags |= Flag.QUANTITY_ABSENT
        if self._fragment:
            flags |= Flag.FRAGMENT
        entries: tuple[np.void, ...] = ()
        common = None
        own_kind = KIND_OF_MSG_TYPE.get(chr(self._taken.get("message_type", 0)), Kind.OTHER) if kind is None else kind
        if kind is None and self._entries and not flags & MALFORMED_FLAGS:
            common = self._frame(end, own_kind, flags, **self._taken)
            entries, causes = self._entry_frames(flags, end)
            flags |= causes
        if kind is None and flags & MALFORMED_FLAGS:
            own_kind = Kind.MALFORMED
        frame = self._frame(end, own_kind, flags, **{**self._taken, **instead})
        return Span(self._slice(self.start, end), self.start, frame, entries, common)

    def _frame(self, end: int, kind: Kind, flags: Flag, **values: int) -> np.void:
        frame = np.zeros(1, FRAME_DTYPE)[0]
        values |= {
            "timestamp": self._time, "flow": self.flow, "payload_length": end - self.start, "kind": kind, "flags": flags
        }  # fmt: skip
        for name, number in values.items():
            frame[name] = number
        return frame

    def _entry_frames(self, flags: Flag, end: int) -> tuple[tuple[np.void, ...], Flag]:
        """The entries' frames; none of them and the causes, where any has one."""
        frames = []
        every_cause = Flag(0)
        own = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT
        instrument = self._taken.get("instrument", 0)
        for fields in self._entries:
            values: dict[str, int] = {"instrument": instrument}
            seen: set[int] = set()
            of_entry = Flag(0)
            for _, tag, value in fields:
                if tag not in TAKEN_OF_ENTRIES:
                    continue
                if tag in seen:
                    of_entry |= Flag.DUPLICATE_TAG
                    continue
                seen.add(tag)
                cause = Flag(0)
                if tag in ENTRY_NUMBERS:
                    name, most = ENTRY_NUMBERS[tag]
                    values[name], cause = integer(value, most)
                elif tag in ENTRY_CHARACTERS:
                    values[ENTRY_CHARACTERS[tag]] = value[0]
                    cause = Flag.VALUE if len(value) > 1 else Flag(0)
                elif tag == 270:
                    values["price"], cause = price(value)
                elif tag == 271:
                    values["quantity"], cause = quantity(value)
                else:
                    instrument = values["instrument"] = crc64(value)
                every_cause |= cause
            if 270 not in seen:
                of_entry |= Flag.PRICE_ABSENT
            if 271 not in seen:
                of_entry |= Flag.QUANTITY_ABSENT
            kind = KIND_OF_ENTRY.get(values.get("entry_type", ord("0")), Kind.STATISTIC)
            values |= {name: self._taken.get(name, 0) for name in ("message_type", "sequence")}
            values["entry_offset"] = fields[0][0]
            frames.append(self._frame(end, kind, flags & ~own | of_entry, **values))
        return ((), every_cause) if every_cause else (tuple(frames), every_cause)
