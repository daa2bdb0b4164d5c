"""The host's end of the rings: a shared-memory file that a card fills, read without copying.

The protocol is docs/ring.md. The reader finds frames by their generation alone; what it releases goes
back to the card as credit.
"""

import mmap
from pathlib import Path
from typing import Self

import numpy as np
from numba import njit

from hdl.frame import FIELDS, FRAME_BYTES, FRAME_DTYPE
from hdl.ring_layout import HEADER_BYTES, HEADER_DTYPE, LINE_BYTES, RING_MAGIC, RING_VERSION, header_offset
from host.closing import Closing
from host.memory import store_release
from host.ring.generation import count_available, count_intact, is_overrun
from host.ring.mapping import map_existing, map_new

FRAME_SLOTS = 1 << 16
"""Slots of a ring unless the caller wants others: 4 MiB of frames, which a second-level cache nearly holds."""

PAYLOAD_BYTES = 1 << 24
"""Bytes of a payload ring unless the caller wants others: 256 a frame slot."""

SMALLEST_FRAME_SLOTS = 2
SMALLEST_PAYLOAD_BYTES = 1 << 15
"""A message held back, a skip and one more message fit: three times 8192 bytes (docs/ring.md)."""

LARGEST_PAYLOAD_BYTES = 1 << 32
"""``payload_offset`` has 32 bits."""

GENERATION_BYTE = next(field.offset for field in FIELDS if field.name == "generation")
assert GENERATION_BYTE == FRAME_BYTES - 1, "host.ring.generation finds it in a slot's last byte"
FRAMES_READ = header_offset("frames_read") // 8
"""The word of the header page that holds the frame credit."""
PAYLOAD_READ = header_offset("payload_read") // 8
"""The word of the header page that holds the payload credit."""


class RingError(ValueError):
    """The file is no ring that this reader knows, or cannot be one."""


class Lapped(RuntimeError):
    """The card wrote where the host was still reading: the frames in hand are void."""


@njit(cache=True)
def payload_credit(
    frames: np.ndarray, slot: int, count: int, next_slot: int, read: int, held_end: int, size: int
) -> tuple[int | np.int64, int | np.int64]:
    """The payload position that may be published when ``count`` frames from ``slot`` on are released, and the
    position at which the last of their messages ends.

    ``next_slot`` is that of the frame behind them, or -1 where it is not there yet: then more frames of
    the last message may follow, and its bytes are kept.
    """
    last = count - 1
    while last >= 0 and frames[slot + last].payload_length == 0:
        last -= 1
    if last < 0:
        return held_end, held_end
    offset = np.int64(frames[slot + last].payload_offset)
    length = np.int64(frames[slot + last].payload_length)
    # At most one lap is unread, so the offset tells the position.
    start = read + (offset - read) % size
    end = start + (length + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
    over = last < count - 1 or (
        next_slot >= 0
        and (
            np.int64(frames[next_slot].payload_offset) != offset or np.int64(frames[next_slot].payload_length) != length
        )
    )
    return (end if over else start), end


class Ring(Closing):
    """Both rings in one mapped file, and the reader's place in them.

    Attributes:
        path: the file, or None for a ring that only this process has.
        header: the header page as one record of HEADER_DTYPE.
        words: the header page as uint64, for credits in compiled code (FRAMES_READ, PAYLOAD_READ).
        frames: all slots as an array of FRAME_DTYPE; zero-copy.
        frame_bytes: the same memory as bytes.
        payload: the payload ring as uint8.
        position: frames released since the ring was made, which is the number of the next one.
    """

    def __init__(self, memory: mmap.mmap, path: Path | None) -> None:
        """Take a mapped file. Raises :class:`RingError` where it is not a ring of this version."""
        name = path or "ring"
        if len(memory) < HEADER_BYTES:
            raise RingError(f"{name}: {len(memory)} bytes are too few for a ring")
        self.path = path
        self.header = np.frombuffer(memory, HEADER_DTYPE, 1)
        magic, version, slots, payload_bytes, frames_offset, payload_offset = (
            int(self.header[name][0])
            for name in ("magic", "version", "frame_slots", "payload_bytes", "frames_offset", "payload_offset")
        )
        if magic != RING_MAGIC:
            raise RingError(f"{name}: not a ring (magic {magic:#018x}, not {RING_MAGIC:#018x})")
        if version != RING_VERSION:
            raise RingError(f"{name}: ring version {version} is not supported, only {RING_VERSION}")
        check_geometry(slots, payload_bytes, str(name))
        if (
            frames_offset < HEADER_BYTES
            or frames_offset % LINE_BYTES
            or payload_offset % LINE_BYTES
            or payload_offset < frames_offset + slots * FRAME_BYTES
            or payload_offset + payload_bytes > len(memory)
        ):
            raise RingError(
                f"{name}: rings at {frames_offset} and {payload_offset} do not fit into {len(memory)} bytes"
            )
        self.words = np.frombuffer(memory, np.uint64, HEADER_BYTES // 8)
        self.frames = np.frombuffer(memory, FRAME_DTYPE, slots, frames_offset)
        self.frame_bytes = np.frombuffer(memory, np.uint8, slots * FRAME_BYTES, frames_offset)
        self.payload = np.frombuffer(memory, np.uint8, payload_bytes, payload_offset)
        self._payload_view = self.payload.data.toreadonly()
        self._payload_read = int(self.words[PAYLOAD_READ])
        self._payload_end = self._payload_read
        # A predecessor published one frame less than it had released.
        published = int(self.words[FRAMES_READ])
        self.position = published + 1 if published else 0

    @classmethod
    def create(
        cls,
        path: Path | None = None,
        frame_slots: int = FRAME_SLOTS,
        payload_bytes: int = PAYLOAD_BYTES,
        *,
        huge_pages: bool = False,
    ) -> Self:
        """Make a ring, zeroed, at ``path`` (a file there is replaced), or one that only this process has.

        Raises :class:`RingError` for sizes that are no power of two or too small, OSError where it cannot be written.
        """
        check_geometry(frame_slots, payload_bytes, str(path or "ring"))
        memory = map_new(path, ring_bytes(frame_slots, payload_bytes), huge_pages=huge_pages)
        return cls.within(memory, frame_slots, payload_bytes, path)

    @classmethod
    def within(cls, memory: mmap.mmap, frame_slots: int, payload_bytes: int, path: Path | None = None) -> Self:
        """Make a ring in zeroed memory of at least :func:`ring_bytes`. Raises :class:`RingError` for the sizes."""
        check_geometry(frame_slots, payload_bytes, str(path or "ring"))
        header = np.frombuffer(memory, HEADER_DTYPE, 1)
        header["version"] = RING_VERSION
        header["frame_slots"] = frame_slots
        header["payload_bytes"] = payload_bytes
        header["frames_offset"] = HEADER_BYTES
        header["payload_offset"] = HEADER_BYTES + frame_slots * FRAME_BYTES
        header["magic"] = RING_MAGIC
        return cls(memory, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a ring that another process made. Raises :class:`RingError` or OSError."""
        size = path.stat().st_size
        if size < HEADER_BYTES:
            raise RingError(f"{path}: {size} bytes are too few for a ring")
        return cls(map_existing(path), path)

    def poll(self, limit: int = FRAME_SLOTS, ahead: int = 0) -> np.ndarray:
        """The frames that are there, as a view of the ring, at most ``limit`` and never across the ring's end; with ``ahead`` those
        behind so many that were polled and not yet released.

        They stay until :meth:`release`. What was read from the view counts once release has not raised. Raises
        :class:`Lapped` where the next slot holds a frame of a later lap.
        """
        slots = len(self.frames)
        number = self.position + ahead
        slot = number % slots
        count = count_available(self.frame_bytes, FRAME_BYTES, number, slots, min(limit, slots - ahead))
        if count == 0 and is_overrun(self.frame_bytes, FRAME_BYTES, number, slots):
            raise Lapped(f"the card has overrun frame {number}, which was not read yet")
        return self.frames[slot : slot + count]

    def message(self, frame: np.void) -> memoryview:
        """The raw message of a frame, as a read-only view of the payload ring."""
        start = int(frame["payload_offset"])
        return self._payload_view[start : start + int(frame["payload_length"])]

    def release(self, count: int) -> None:
        """Give the next ``count`` frames, and the messages that are over with them, back to the card.

        Raises :class:`Lapped`, and releases nothing, where the card has overrun one of them.
        """
        if count == 0:
            return
        self._check(count)
        slots = len(self.frames)
        slot = self.position % slots
        self.position += count
        following = (
            self.position % slots if count_available(self.frame_bytes, FRAME_BYTES, self.position, slots, 1) else -1
        )
        read, end = payload_credit(
            self.frames, slot, count, following, self._payload_read, self._payload_end, len(self.payload)
        )
        self._payload_read, self._payload_end = int(read), int(end)
        publish(self.words, self.position - 1, self._payload_read)

    def read(self, limit: int = FRAME_SLOTS) -> np.ndarray:
        """A copy of the frames that are there, none of them half-written. Raises :class:`Lapped`."""
        frames = self.poll(limit).copy()
        if len(frames):
            self._check(len(frames))
        return frames

    @property
    def payload_read(self) -> int:
        """The credit of payload that was published last, in bytes since the ring was made."""
        return self._payload_read

    def close(self) -> None:
        """Unmap the file, once the last view of it is gone. The file itself stays."""
        del self.header, self.words, self.frames, self.frame_bytes, self._payload_view, self.payload

    def _check(self, count: int) -> None:
        slots = len(self.frames)
        if count > slots - self.position % slots:
            raise ValueError(f"{count} frames from frame {self.position} on are more than one poll gives")
        intact = count_intact(self.frame_bytes, FRAME_BYTES, self.position, slots, count)
        if intact < count:
            raise Lapped(f"the card has overrun frame {self.position + intact}, which was not released yet")


@njit(cache=True)
def publish(words: np.ndarray, frames_read: int, payload_read: int) -> None:
    """Write the credits to the header, after everything that was read before."""
    store_release(words, FRAMES_READ, np.uint64(frames_read))
    store_release(words, PAYLOAD_READ, np.uint64(payload_read))


def ring_bytes(frame_slots: int, payload_bytes: int) -> int:
    """How much memory a ring takes."""
    return HEADER_BYTES + frame_slots * FRAME_BYTES + payload_bytes


def check_geometry(frame_slots: int, payload_bytes: int, name: str) -> None:
    """Raise :class:`RingError` unless both sizes are powers of two that a reader and a card can work with."""
    for what, number, least, most in (
        ("frame slots", frame_slots, SMALLEST_FRAME_SLOTS, 1 << 32),
        ("payload bytes", payload_bytes, SMALLEST_PAYLOAD_BYTES, LARGEST_PAYLOAD_BYTES),
    ):
        if number & (number - 1) or not least <= number <= most:
            raise RingError(f"{name}: {number} {what}: must be a power of two from {least} to {most}")
