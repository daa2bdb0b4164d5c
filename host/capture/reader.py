"""Opens captures: pcap, pcapng and FIX text, compressed or not, told apart by what is in them and never by their name.

    captures = open_captures(["a.pcap.zst", "b.pcapng"])
    for packets in captures.batches():
        ...  # a Packets of some MiB; captures.done_bytes of captures.total_bytes are read

Bytes come from source.py, a format's packets from pcap.py and pcapng.py, Ethernet headers from link.py. Then captures are
merged (merge.py), fragments put together (fragments.py) and TCP segments put in order (tcp_order.py).
"""

import codecs
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.capture import fix_log
from host.capture.fragments import Reassembly
from host.capture.headers import KINDS, SIX, sort_kinds
from host.capture.merge import merge
from host.capture.packets import Packets
from host.capture.pcap import PcapFile
from host.capture.pcapng import PcapngFile
from host.capture.source import HEADROOM, STANDARD_INPUT, CaptureError, Source
from host.capture.tcp_order import TcpOrder

__all__ = ["Capture", "CaptureError", "Captures", "Counts", "open_capture", "open_captures", "read_packets"]

PREVIEW_PACKETS = 65536
PREVIEW_BYTES = 64 << 20
"""Of a pipe or standard input: packets that are looked at for their flows, and kept in memory until they are played;
fewer where they take so many bytes."""

CAPTURES_MAX = 256
"""Captures that are merged. Parts of a rotated one are open one after another, but captures of the same time at once."""

AnyPath = str | os.PathLike[str]


class Capture:
    """A capture. A file is read anew by each :meth:`batches`, a pipe or standard input can be read once.

    Attributes:
        path: the file; ``-`` is standard input.
        warning: what is missing, in one line, where the last reading found the capture cut; for FIX text what was read
            of it and what not; None for a whole capture.
        first_time: of its first packet, in ns; None: there is no packet.
        total_bytes: of the file as it is, perhaps compressed; None where nobody knows.
        is_text: whether the packets were made of FIX text.
    """

    def __init__(self, path: AnyPath) -> None:
        """Raises CaptureError."""
        self.path = Path(path)
        self.warning: str | None = None
        self.is_text = False
        source = Source(self.path)
        self.total_bytes = source.total_bytes
        self._source = source
        self._reading: Iterator[Packets] | None = self._read(source)
        first = next(self._reading, None)
        self.first_time = int(first.timestamp[0]) if first is not None else None
        self._kept = [] if first is None else [first]
        if source.again and not self.is_text:
            # There may be many files: each is closed until its packets are wanted.
            source.close()
            self._reading = None
            self._kept.clear()

    @property
    def done_bytes(self) -> int:
        """Bytes of the file that the present reading has taken."""
        return self._source.input_bytes

    @functools.cached_property
    def packets(self) -> Packets:
        """All packets as they were captured, in memory: for captures that are small. Raises CaptureError."""
        return Packets.joined(list(self.batches()))

    def batches(self) -> Iterator[Packets]:
        """All packets as they were captured. Raises CaptureError where the capture is damaged, or can't be read again."""
        if self.is_text:
            return iter(self._kept)
        if self._source.again:
            self._source = Source(self.path)
            return self._read(self._source)
        if self._reading is None:
            raise CaptureError(f"{self.path}: can be read only once")
        reading, self._reading = self._reading, None
        return self._handed_over(reading)

    def preview(self) -> Iterator[Packets]:
        """What :meth:`batches` will give: of a file everything, of a pipe or standard input the beginning."""
        if self.is_text or self._source.again:
            yield from self.batches()
            return
        yield from self._kept
        while self._reading is not None and self._has_room() and (packets := next(self._reading, None)) is not None:
            self._kept.append(packets)
            yield packets

    def sample(self, count: int, first: int = 0) -> Packets:
        """Up to ``count`` packets of :meth:`preview` from the one with index ``first`` on."""
        before, parts = 0, []
        for packets in self.preview():
            parts.append(packets.slice(max(first - before, 0), max(first + count - before, 0)))
            before += len(packets)
            if before >= first + count:
                break
        return Packets.joined(parts)

    def _has_room(self) -> bool:
        return (
            sum(map(len, self._kept)) < PREVIEW_PACKETS and sum(len(each.data) for each in self._kept) < PREVIEW_BYTES
        )

    def _handed_over(self, reading: Iterator[Packets]) -> Iterator[Packets]:
        while self._kept:
            yield self._kept.pop(0)
        yield from reading

    def _read(self, source: Source) -> Iterator[Packets]:
        with source:
            file = PcapFile.of(source) or PcapngFile.of(source)
            if file is not None:
                yield from file.batches()
                self.warning = file.warning
                return
            head = source.window[HEADROOM:]
            if fix_log.is_text(head) and (text := self._read_fix_text(source)) is not None:
                self.is_text = True
                self.warning = f"{self.path}: {text.describe()}"
                yield text.packets
                return
            if source.cut:
                raise CaptureError(
                    f"{self.path}: the {source.compression} data is cut at byte offset {source.input_bytes}, "
                    "before the first packet; copy it again"
                )
            raise CaptureError(f"{self.path}: {_what_it_is(head[:512].tobytes())}")

    def _read_fix_text(self, source: Source) -> fix_log.FixText | None:
        text = source.rest(fix_log.TEXT_BYTES_MAX + 1)
        if not fix_log.has_fix(text):
            return None
        if len(text) > fix_log.TEXT_BYTES_MAX:
            raise CaptureError(
                f"{self.path}: FIX text is too long, of its bytes at most {fix_log.TEXT_BYTES_MAX} are read at once; "
                "split it between lines, with 'split -C 1G'"
            )
        return fix_log.read_fix_text(text)


@dataclass
class Counts:
    """What a reading met: packets captured, how many of them were IPv6; datagrams put together, of how many fragments,
    and fragments that were not; segments that waited for an earlier one, and holes in TCP streams that none filled."""

    packets: int = 0
    ipv6: int = 0
    datagrams: int = 0
    fragments: int = 0
    fragments_left: int = 0
    segments_waited: int = 0
    tcp_holes: int = 0


class Captures:
    """Captures that are played together.

    Attributes:
        captures: each of them.
        counts: what the present reading has met so far.
    """

    def __init__(self, captures: Sequence[Capture], as_captured: bool = False) -> None:
        self.captures = tuple(captures)
        self.counts = Counts()
        self._as_captured = as_captured

    @property
    def warnings(self) -> list[str]:
        """The warning of each capture that has one."""
        return [capture.warning for capture in self.captures if capture.warning is not None]

    @property
    def done_bytes(self) -> int:
        """Bytes of the files that the present reading has taken."""
        return sum(capture.done_bytes for capture in self.captures)

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all files; None where nobody knows."""
        sizes = [capture.total_bytes for capture in self.captures]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def batches(self) -> Iterator[Packets]:
        """The packets of all captures by time; then those of FIX texts, one text after another.

        Fragments are put together and TCP segments put in order, unless it was asked for packets ``as_captured``.
        Raises CaptureError.
        """
        self.counts = Counts()
        merged = merge([capture for capture in self.captures if not capture.is_text])
        yield from self._prepared(merged)
        # Their clock is SendingTime, and two logs of the same CompIDs would pass for one connection.
        for capture in self.captures:
            if capture.is_text:
                yield from self._prepared(capture.batches())

    def _prepared(self, batches: Iterable[Packets]) -> Iterator[Packets]:
        reassembly, order, counts = Reassembly(), TcpOrder(), self.counts

        def ordered(packets: Packets, kinds: np.ndarray) -> Packets:
            whole = reassembly.put(packets, kinds)
            return order.put(whole, kinds if whole is packets else _kinds(whole)[0])

        for packets in batches:
            kinds, by_kind = _kinds(packets)
            counts.packets += len(packets)
            counts.ipv6 += int(by_kind[SIX])
            if not self._as_captured:
                packets = ordered(packets, kinds)
                counts.datagrams, counts.fragments = reassembly.datagrams, reassembly.fragments
                counts.fragments_left = reassembly.given_up
                counts.segments_waited, counts.tcp_holes = order.waited, order.holes
            if len(packets):
                yield packets
        for packets in (reassembly.rest(), order.rest()):
            if len(packets):
                yield packets
        counts.fragments_left, counts.tcp_holes = reassembly.given_up, order.holes


def open_capture(path: AnyPath) -> Capture:
    """Look at what a file is, and at its first packet. Raises CaptureError. A file must not change while it is in use."""
    return Capture(path)


def open_captures(paths: Sequence[AnyPath], as_captured: bool = False) -> Captures:
    """Open captures to play them together. Raises CaptureError."""
    if len(paths) > CAPTURES_MAX:
        raise CaptureError(f"{len(paths)} captures, at most {CAPTURES_MAX} are merged; join some with mergecap")
    if [Path(path) for path in paths].count(STANDARD_INPUT) > 1:
        raise CaptureError("-: standard input can be one of the captures only once")
    return Captures([Capture(path) for path in paths], as_captured)


def read_packets(path: AnyPath) -> Packets:
    """:attr:`Capture.packets` of a file."""
    return Capture(path).packets


def _kinds(packets: Packets) -> tuple[np.ndarray, np.ndarray]:
    """The kind of each packet, and how many there are of each (see headers.py)."""
    kinds, counts = np.empty(len(packets), np.uint8), np.zeros(KINDS, np.int64)
    sort_kinds(packets.data, packets.offset, packets.length, kinds, counts)
    return kinds, counts


def _what_it_is(head: bytes) -> str:
    """What a file that begins with ``head`` is instead of a capture, and what to do about it."""
    if not head:
        return "nothing is compressed in it, capture again"
    try:
        # Incremental, because the head may end inside a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = ""
    if text and all(char.isprintable() or char in "\t\r\n\f\x01" for char in text):
        name = "FIX text without a whole message" if "8=FIX" in text else "text"
        return f"{name} at byte offset 0, not a packet capture; give a pcap or pcapng file, or a log of FIX messages"
    return f"neither pcap nor pcapng at byte offset 0 (begins with {head[:4].hex(' ')}); give a pcap or pcapng file"
