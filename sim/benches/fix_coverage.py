"""What the bench of the FIX parser must have tried: which bins there are, and which of them a packet hits.

Bins are about what the parser's stages have to get right: where in a beat something stands, what is carried from beat to
beat and from packet to packet, and by which field, in which phase, a message fails. ``lanes`` are the bytes of a beat.
"""

import re
from bisect import bisect_right
from itertools import combinations, pairwise, product
from typing import NamedTuple

from hdl.beat import POSITION_BITS
from hdl.fix_tags import BEGIN
from hdl.frame import Flag, Kind
from hdl.limits import FIELD_LIMIT, FLOWS, MESSAGE_LIMIT
from sim.benches.coverage import Coverage
from sim.benches.fix_model import ANNOUNCED, SOH, TAKEN, TRAILER_BYTES, FieldEnd, FixFlow, Phase, Span, split
from sim.benches.fix_stimulus import BEYOND

CAUSES = {
    Phase.SEEK: (Flag.GARBAGE,),
    Phase.LENGTH: (Flag.LENGTH, Flag.TOO_LONG, Flag.STRUCTURE),
    Phase.BODY: (Flag.LENGTH, Flag.TAG, Flag.VALUE, Flag.RANGE, Flag.STRUCTURE, Flag.DUPLICATE_TAG),
    Phase.DATA: (Flag.LENGTH,),
    Phase.TRAILER: (Flag.LENGTH, Flag.CHECKSUM),
}
"""What may be found by the phase in which a field is read; an overrun apart."""

FOLLOWING = {
    Phase.SEEK: (Phase.SEEK, Phase.LENGTH),
    Phase.LENGTH: (Phase.SEEK, Phase.LENGTH, Phase.BODY, Phase.TRAILER),
    Phase.BODY: (Phase.BODY, Phase.DATA, Phase.TRAILER, Phase.SEEK, Phase.LENGTH),
    Phase.DATA: (Phase.DATA, Phase.BODY, Phase.TRAILER, Phase.SEEK, Phase.LENGTH),
    Phase.TRAILER: (Phase.SEEK, Phase.LENGTH),
}
"""Phases of a field and of the next one."""

LATER = ("a later beat", "a later packet")
SWITCHES = ("the same flow", "one beat of another flow", "more of others")
MISSING = ("0", "up to 65535", "more")
KINDS = (
    Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE, Kind.EXECUTION, Kind.CANCEL_REJECT, Kind.SESSION, Kind.OTHER, Kind.GAP,
    Kind.MALFORMED,
)  # fmt: skip
DATA = (
    "without SOH", "one SOH", "two", "more", "`8=FIX` in it", "`10=` in it", "ends the body", "in several packets",
    "longer than announced", "in another tag", "announced 0", "announced by no number", "announced above the limit",
)  # fmt: skip
DECIMAL_FORMS = {
    "digits": rb"[1-9]\d*",
    "point among them": rb"\d+\.\d+",
    "point before": rb"\.\d+",
    "point behind": rb"\d+\.",
    "point alone": rb"\.",
    "two points": rb"\d+\.\d+\.\d+",
    "letter": rb"\d+[a-z]\d*",
    "plus": rb"\+\d+",
    "minus behind": rb"\d+-",
    "minus": rb"-\d+(\.\d*)?",
    "minus alone": rb"-",
    "zero": rb"0",
    "leading zeros": rb"0\d+",
    "18 digits": rb"\d{18}",
    "19 digits": rb"\d{19}",
    "21 characters": rb".{21}",
    "ten decimals": rb"0\.0{9}1",
    "zeros beyond the last decimal": rb"\d\.\d{9}0",
}
"""Forms of a price or quantity."""
LIMITS = {
    44: (
        "9223372036.85477580", "9223372036.85477581", "-9223372036.85477580", "-9223372036.85477581", "0.000000001",
        "0.0000000001",
    ),
    38: ("99999999999.9999999", "100000000000", "0.00000001", "0.000000001"),
    34: ("4294967295", "4294967296", "9999999999", "0000000009", "00000000009", "7", "1x", "-7", "1.5"),
}  # fmt: skip
"""Values to be met with each tag."""


def pairs(bins: dict[Phase, tuple]) -> list[tuple[str, str]]:
    """Names of the pairs of a table by phase."""
    return [(phase.name, each.name) for phase, several in bins.items() for each in several]


class Place(NamedTuple):
    """Where a byte stood: its packet's number, the beat in the packet, the lane in the beat."""

    packet: int
    beat: int
    lane: int


class Left(NamedTuple):
    """How a flow's last packet ended: in which phase, whether within a field, with how many bytes in its last beat."""

    phase: str
    where: str
    count: int
    packet: int


class Stream:
    """What is kept of a flow: where its packets began, what was left, and its last field."""

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.packets: list[int] = []
        self.left = Left(Phase.SEEK.name, "at its end", 0, 0)
        self.last: FieldEnd | None = None
        self.announced: tuple[int, int] | None = None  # tag and length of the data that may stand in the next field
        self.data_from = 0  # the field in which the data began
        self.data_soh = 0

    def place(self, position: int, lanes: int) -> Place:
        """Where a byte stood."""
        index = bisect_right(self.firsts, position) - 1
        at = position - self.firsts[index]
        return Place(self.packets[index], at // lanes, at % lanes)


class FixCoverage:
    """Counts what packets hit; ``coverage`` has the bins."""

    def __init__(self, lanes: int) -> None:
        self.coverage = Coverage()
        self._lanes = lanes
        self._name_bins()
        self.forget()

    def forget(self) -> None:
        """A test begins: the parser was reset."""
        self._streams: dict[int, Stream] = {}
        self._sent: list[tuple[int, int]] = []  # flow and bytes of every packet

    def _name_bins(self) -> None:
        lanes, group = range(self._lanes), self.coverage.group
        names = [phase.name for phase in Phase]
        within = ("in a field", "at its end")
        cuts = ("by beats", "by packets")
        where = ("the same beat", *LATER) if self._lanes > 1 else LATER
        group("lanes of a message's first and last byte", product(lanes, lanes))
        group("lane of a beat's one field end", product(lanes))
        group("lanes of a beat's two field ends", combinations(lanes, 2))
        group("more field ends in a beat", product(range(3, self._lanes + 1)))
        group("phases of a field and the next, where it ends", [
            (*pair, place) for pair in pairs(FOLLOWING) for place in where
        ])  # fmt: skip
        group("where a packet ends, lane, what comes next", product(names, within, range(1, self._lanes + 1), SWITCHES))
        group("phase, what is found, lane", [(*pair, lane) for pair in pairs(CAUSES) for lane in lanes])
        group("CheckSum too large, by how much", product(BEYOND))
        group("phase of an overrun", product(names))
        group("lane of an overrun's end", product(lanes))
        group("phase of a field in which a message begins", product(names))
        group("lane where a message begins within a field", product(lanes))
        group("begin cut, behind how many bytes", product(cuts, range(1, len(BEGIN))))
        group("kind", product([kind.name for kind in KINDS]))
        group("MsgType", product(["one character", "two", "entries", "entries of which one is bad", "no entries"]))
        group("tag that is taken, lane of its end", product(TAKEN, lanes))
        group("tag that comes again", product(TAKEN))
        group("form of a number", product((44, 38), DECIMAL_FORMS))
        group("number at its limits", [(tag, value) for tag, values in LIMITS.items() for value in values])
        group("number cut", [
            *product((44, 38), ("before its point", "behind it"), cuts), *product((34,), ("before its point",), cuts)
        ])  # fmt: skip
        group("length of data, tag", product(ANNOUNCED))
        group("data", product(DATA))
        group("lane of data's end", product(lanes))
        group("where a hole is, bytes missing", product(names, within, MISSING))
        group("hole behind", product(["its own flow", "another flow", "no byte", "some bytes"]))
        group("fragment", product(["well-formed", "malformed", "hole"]))
        group("at a limit", product(["message of 4096 bytes", "field of 2048", "positions begin anew"]))
        group("flow", product(range(FLOWS)))

    def packet(
        self,
        flow: FixFlow,
        payload: bytes,
        fragment: bool,
        missing: int | None,
        fields: list[FieldEnd],
        spans: list[Span],
    ) -> None:
        """A packet of a flow, and what the model made of it; ``flow`` is behind it now."""
        hit, number = self.coverage.hit, flow.flow
        first = flow.position - len(payload)
        stream = self._streams.setdefault(number, Stream())
        if missing is None:
            self._came_back(stream)
        else:
            self._hole(stream, number, missing, spans[0])
        self._sent.append((number, len(payload)))
        stream.firsts.append(first)
        stream.packets.append(len(self._sent))
        hit("flow", number)
        beats: dict[int, list[int]] = {}
        for field in fields:
            place = stream.place(field.end - 1, self._lanes)
            beats.setdefault(place.beat, []).append(place.lane)
            self._field(stream, field, place)
        for ends in beats.values():
            if len(ends) == 1:
                hit("lane of a beat's one field end", *ends)
            elif len(ends) == 2:
                hit("lanes of a beat's two field ends", *ends)
            else:
                hit("more field ends in a beat", len(ends))
        for span in spans:
            self._written(stream, span, fragment)
        where = "in a field" if flow.first < flow.position else "at its end"
        stream.left = Left(flow.phase.name, where, (len(payload) - 1) % self._lanes + 1, len(self._sent))

    def _came_back(self, stream: Stream) -> None:
        since = len(self._sent) - stream.left.packet
        switch = SWITCHES[2]
        if since == 0:
            switch = SWITCHES[0]
        elif since == 1 and self._sent[-1][1] <= self._lanes:
            switch = SWITCHES[1]
        self.coverage.hit("where a packet ends, lane, what comes next", *stream.left[:3], switch)

    def _hole(self, stream: Stream, flow: int, missing: int, span: Span) -> None:
        hit = self.coverage.hit
        size = MISSING[0 if missing == 0 else 1 if missing < 1 << 16 else 2]
        hit("where a hole is, bytes missing", stream.left.phase, stream.left.where, size)
        hit("hole behind", "some bytes" if span.raw else "no byte")
        if self._sent:
            hit("hole behind", "its own flow" if self._sent[-1][0] == flow else "another flow")
        stream.last = stream.announced = None

    def _cuts(self, stream: Stream, start: int, end: int) -> list[tuple[str, int]]:
        """How bytes of a flow are cut, and behind how many of them."""
        places = [stream.place(position, self._lanes) for position in range(start, end)]
        return [
            ("by beats" if one.packet == other.packet else "by packets", count)
            for count, (one, other) in enumerate(pairwise(places), 1)
            if one[:2] != other[:2]
        ]

    def _field(self, stream: Stream, field: FieldEnd, place: Place) -> None:
        hit = self.coverage.hit
        name = field.phase.name
        if stream.last is not None:
            before = stream.place(stream.last.end - 1, self._lanes)
            later = "a later packet" if before.packet != place.packet else "a later beat"
            hit(
                "phases of a field and the next, where it ends",
                stream.last.phase.name,
                name,
                "the same beat" if before[:2] == place[:2] else later,
            )
        stream.last = field
        if field.text[-1:] != SOH:
            hit("phase of an overrun", name)
            hit("lane of an overrun's end", place.lane)
            stream.announced = None
            return
        for flag in field.found:
            hit("phase, what is found, lane", name, flag.name, place.lane)
        if BEGIN in field.text and field.after is Phase.LENGTH:
            begin = field.first + field.text.rindex(BEGIN)
            hit("phase of a field in which a message begins", name)
            hit("lane where a message begins within a field", stream.place(begin, self._lanes).lane)
            for cut in self._cuts(stream, begin, begin + len(BEGIN)):
                hit("begin cut, behind how many bytes", *cut)
        if len(field.text) == FIELD_LIMIT:
            hit("at a limit", "field of 2048")
        tag, value = split(field.text[:-1])
        if Flag.CHECKSUM in field.found and field.span is not None and value.isdigit():
            hit("CheckSum too large, by how much", int(value) - sum(field.span.raw[:-TRAILER_BYTES]) % 256)
        if field.taken is not None:
            self._value(stream, field.taken, value, field.end - 1 - len(value))
            hit("tag that is taken, lane of its end", field.taken, place.lane)
        elif Flag.DUPLICATE_TAG in field.found:
            hit("tag that comes again", tag)
        self._data(stream, field, tag, value, place)

    def _value(self, stream: Stream, tag: int, value: bytes, start: int) -> None:
        hit = self.coverage.hit
        if tag == 35:
            hit("MsgType", "two" if len(value) == 2 else "one character")
        if tag not in LIMITS:
            return
        hit("number at its limits", tag, value.decode("latin-1"))
        if tag != 34:
            for form, text in DECIMAL_FORMS.items():
                if re.fullmatch(text, value):
                    hit("form of a number", tag, form)
        point = value.find(b".") if b"." in value else len(value)
        for by, count in self._cuts(stream, start, start + len(value)):
            hit("number cut", tag, "before its point" if count <= point else "behind it", by)

    def _data(self, stream: Stream, field: FieldEnd, tag: int | None, value: bytes, place: Place) -> None:
        """Fields that announce data, and data."""
        hit = self.coverage.hit
        announced, stream.announced = stream.announced, None
        complete = False
        if field.phase is Phase.DATA:
            stream.data_soh += 1
            complete = field.after in (Phase.BODY, Phase.TRAILER)
        elif field.phase is Phase.BODY and announced is not None:
            if tag != announced[0]:
                hit("data", "in another tag")
            elif len(value) > announced[1]:
                hit("data", "longer than announced")
            else:
                stream.data_from, stream.data_soh = field.first, 0
                complete = field.after is not Phase.DATA
        if complete:
            hit("data", ("without SOH", "one SOH", "two", "more")[min(stream.data_soh, 3)])
            hit("lane of data's end", place.lane)
            for what, there in (
                ("`8=FIX` in it", BEGIN in field.text),
                ("`10=` in it", b"10=" in field.text),
                ("ends the body", field.after is Phase.TRAILER),
                ("in several packets", stream.place(stream.data_from, self._lanes).packet != place.packet),
            ):
                if there:
                    hit("data", what)
        elif field.phase is Phase.BODY and field.after is Phase.BODY and tag in ANNOUNCED and value:
            if not value.isdigit() or len(value) > 9:
                hit("data", "announced by no number")
            elif int(value) > 4095:
                hit("data", "announced above the limit")
            elif int(value) == 0:
                hit("data", "announced 0")
            else:
                stream.announced = ANNOUNCED[tag], int(value)
                hit("length of data, tag", tag)

    def _written(self, stream: Stream, span: Span, fragment: bool) -> None:
        hit = self.coverage.hit
        kind = Kind(span.frame["kind"])
        hit("kind", kind.name)
        if span.common is not None:
            hit("MsgType", "entries" if span.entries else "entries of which one is bad")
        well_formed = kind not in (Kind.GAP, Kind.MALFORMED)
        if fragment:
            hit("fragment", "hole" if kind is Kind.GAP else "well-formed" if well_formed else "malformed")
        end = span.start + len(span.raw)
        if span.raw and span.start >> POSITION_BITS != (end - 1) >> POSITION_BITS:
            hit("at a limit", "positions begin anew")
        if not well_formed:
            return
        lanes = (stream.place(position, self._lanes).lane for position in (span.start, end - 1))
        hit("lanes of a message's first and last byte", *lanes)
        if len(span.raw) == MESSAGE_LIMIT:
            hit("at a limit", "message of 4096 bytes")
        if span.common is None and span.frame["message_type"] in (ord("W"), ord("X")):
            hit("MsgType", "no entries")
