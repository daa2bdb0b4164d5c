"""Two playbacks frame by frame: the first places where they differ, with the raw bytes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdl.flow import Flow
from hdl.frame import FIELDS, FRAME_BYTES, FRAME_DTYPE
from host.playback.batches import Batch, Playback
from host.playback.selection import SelectionError, channel_name

MOST_DIFFERENCES = 10
"""Where it stops."""

WINDOW = 256
"""Frames that are looked through for the place where both go on alike."""

OF_THE_RING = ("payload_offset", "generation", "spare")
"""Fields that say where a frame stood, not what it is."""


@dataclass(frozen=True)
class Found:
    """A frame of one side: its number from 0, its fields, its raw message."""

    number: int
    frame: np.void
    message: bytes


@dataclass(frozen=True)
class Difference:
    """Frames that differ (both there), or one that only one side has; and the names of the fields that differ."""

    first: Found | None
    second: Found | None
    fields: tuple[str, ...] = ()


@dataclass
class Comparison:
    """Frames that are equal, and the first differences; ``complete``: all frames of both were looked at."""

    equal: int
    differences: list[Difference]
    complete: bool


class _Side:
    """The frames of a playback: those at hand, and on to the next batch when they are used up."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._batch: Batch | None = None
        self.frames: np.ndarray[Any, Any] = np.empty(0, FRAME_DTYPE)
        self.number = 0

    def fill(self) -> bool:
        """See that there are frames; False where there are no more."""
        while not len(self.frames):
            # Its frames go back to the card.
            self._batch = None
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._batch, self.frames = batch, batch.frames
        return True

    def take(self, count: int) -> None:
        self.frames = self.frames[count:]
        self.number += count

    def found(self, index: int = 0) -> Found:
        assert self._batch is not None
        frame = self.frames[index]
        return Found(self.number + index, frame.copy(), self._batch.message(frame))

    def bytes_of(self, count: int, kept: np.ndarray) -> np.ndarray:
        """The first frames as rows of the bytes that are compared."""
        some = np.ascontiguousarray(self.frames[:count])
        return some.view(np.uint8).reshape(len(some), FRAME_BYTES)[:, kept]

    def messages(self, count: int, length: np.ndarray) -> np.ndarray:
        """The raw messages of the first frames, one behind the other."""
        assert self._batch is not None
        start = self.frames["payload_offset"][:count].astype(np.int64)
        ends = np.cumsum(length)
        return self._batch.payload[np.repeat(start - (ends - length), length) + np.arange(int(length.sum()))]


def compare(
    first: Playback,
    second: Playback,
    ignored: Sequence[str] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Compare two playbacks with the same flow table, apart from ``ignored`` fields of the frame. Raises SelectionError for
    a field that there is not."""
    kept = _kept_bytes(ignored)
    sides = _Side(first.batches()), _Side(second.batches())
    a, b = sides
    result = Comparison(0, [], False)
    while not stop():
        there = a.fill(), b.fill()
        if not any(there):
            result.complete = True
            break
        if len(result.differences) == MOST_DIFFERENCES:
            break
        if not all(there):
            only = a if there[0] else b
            result.differences.append(_only(only, only is a))
            only.take(1)
            continue
        count = min(len(a.frames), len(b.frames))
        same = _equal(a, b, count, kept)
        result.equal += same
        a.take(same)
        b.take(same)
        if same < count:
            _differ(a, b, kept, ignored, result)
    return result


def _equal(a: _Side, b: _Side, count: int, kept: np.ndarray) -> int:
    """How many of the next frames are equal, with their raw messages."""
    wrong = np.flatnonzero((a.bytes_of(count, kept) != b.bytes_of(count, kept)).any(axis=1))
    count = int(wrong[0]) if len(wrong) else count
    # As payload_length is compared, both have the same lengths, unless it is ignored.
    length = a.frames["payload_length"][:count].astype(np.int64)
    other = b.frames["payload_length"][:count].astype(np.int64)
    if not np.array_equal(length, other):
        return int(np.flatnonzero(length != other)[0])
    unlike = np.flatnonzero(a.messages(count, length) != b.messages(count, length))
    if len(unlike):
        return int(np.searchsorted(np.cumsum(length), unlike[0], side="right"))
    return count


def _differ(a: _Side, b: _Side, kept: np.ndarray, ignored: Sequence[str], result: Comparison) -> None:
    """The next frames differ: one side has some that the other has not, or they are two views of the same."""
    mine, yours = a.bytes_of(WINDOW, kept), b.bytes_of(WINDOW, kept)
    more_here = np.flatnonzero((mine == yours[0]).all(axis=1))
    more_there = np.flatnonzero((yours == mine[0]).all(axis=1))
    here = int(more_here[0]) if len(more_here) else WINDOW
    there = int(more_there[0]) if len(more_there) else WINDOW
    if 0 < min(here, there) < WINDOW:
        longer, count = (a, here) if here <= there else (b, there)
        for _ in range(min(count, MOST_DIFFERENCES - len(result.differences))):
            result.differences.append(_only(longer, longer is a))
            longer.take(1)
        return
    one, other = a.found(), b.found()
    fields = tuple(
        field.name
        for field in FIELDS
        if field.name not in (*OF_THE_RING, *ignored) and one.frame[field.name] != other.frame[field.name]
    )
    result.differences.append(Difference(one, other, fields))
    a.take(1)
    b.take(1)


def _only(side: _Side, is_first: bool) -> Difference:
    found = side.found()
    return Difference(found, None) if is_first else Difference(None, found)


def _kept_bytes(ignored: Iterable[str]) -> np.ndarray:
    names = [field.name for field in FIELDS]
    kept = np.ones(FRAME_BYTES, bool)
    for name in (*OF_THE_RING, *ignored):
        if name not in names:
            raise SelectionError(f"a frame has no field {name}; there are {', '.join(names)}")
        field = FIELDS[names.index(name)]
        kept[field.offset : field.offset + field.bits // 8] = False
    return np.flatnonzero(kept)


def describe(difference: Difference, names: tuple[str, str], flows: Sequence[Flow]) -> str:
    """A difference in lines: what differs, and the raw bytes of both."""
    lines = []
    for name, found in zip(names, (difference.first, difference.second), strict=True):
        if found is None:
            lines.append(f"  {name}: has no such frame")
            continue
        frame = found.frame
        shown = difference.fields or ("timestamp", "kind", "message_type", "instrument", "price", "quantity")
        values = ", ".join(f"{field} {frame[field]}" for field in shown)
        flow = int(frame["flow"])
        where = channel_name(flows[flow]) if flow < len(flows) else "no flow"
        lines.append(f"  {name}: frame {found.number} of {where}, packet {frame['sequence']}: {values}")
        lines.append(f"    {found.message.hex(' ') or 'no raw bytes'}")
    what = ", ".join(difference.fields) if difference.fields else "raw bytes"
    if difference.first is None or difference.second is None:
        what = "a frame that only one has"
    return "\n".join([f"Differs: {what}", *lines])
