"""The bytes of an input, a window at a time: a file, a pipe or standard input, decompressed where they are compressed.

A window is memory of its own. Packets are looked at where they lie in it, so it lives as long as they do, and then
its memory is used again; the input as a whole is never in memory.
"""

import io
import os
import stat
import sys
from pathlib import Path

import numpy as np

from host.capture.compressed import MAGIC_BYTES, Damaged, Decompressed, compression_of
from host.closing import Closing

STANDARD_INPUT = Path("-")

FIRST_WINDOW_BYTES = 64 << 10
WINDOW_BYTES = 4 << 20
"""New bytes a window: the first one is small, so that looking what a file is costs little, but holds its header."""

HEADROOM = 16
"""Bytes in front of what a window holds, which are free: a packet without Ethernet gets its header there."""

RAW_BYTES = 256 << 10
"""Compressed bytes that are read at once."""


class CaptureError(ValueError):
    """A file that cannot be read as a capture: one line with the file, what is wrong where, and what to do."""


class Source(Closing):
    """An open input.

    Attributes:
        path: of the file; ``-`` is standard input.
        again: whether it can be opened a second time, as pipes and standard input cannot.
        input_bytes: bytes of the input that were read so far, as they are in the file.
        total_bytes: how many it has; None where nobody knows.
        window: uint8, the present window, whose first HEADROOM bytes are not of the input.
        base: offset of the window's first byte (behind the headroom) from the beginning of the decompressed input.
        ended: whether the window reaches to the input's end.

    Raises CaptureError where the path cannot be read, and when it is found that compressed data is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.input_bytes = 0
        self.base = 0
        self.window = np.empty(HEADROOM, np.uint8)
        self.ended = False
        self._file = _open(path)
        status = os.fstat(self._file.fileno())
        self.again = stat.S_ISREG(status.st_mode) and path != STANDARD_INPUT
        self.total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._head = self._read(MAGIC_BYTES)
        if not self._head:
            self.close()
            raise CaptureError(f"{path}: {'nothing came' if not self.again else 'the file is empty, capture again'}")
        self._compression = compression_of(self._head)
        self._decompressed = Decompressed(self._compression, self._take) if self._compression else None
        self._move(0, FIRST_WINDOW_BYTES)

    @property
    def head(self) -> str:
        """The command that keeps the first bytes of the decompressed input; their number is to be put behind it."""
        return f"{self._compression.command} {self.path} | head -c" if self._compression else "head -c"

    @property
    def compression(self) -> str | None:
        """The compression's name; None: there is none."""
        return self._compression.name if self._compression else None

    @property
    def cut(self) -> bool:
        """Whether compressed data ended before its end."""
        return self._decompressed is not None and self._decompressed.cut

    @property
    def size(self) -> int:
        """Decompressed bytes up to the window's end."""
        return self.base + len(self.window) - HEADROOM

    def next_window(self, kept: int) -> None:
        """Move on: the last ``kept`` bytes of the window, then WINDOW_BYTES new ones, fewer only where the input ends."""
        self._move(kept, WINDOW_BYTES)

    def rest(self, most: int) -> bytes:
        """Everything from the window on, at most ``most`` bytes."""
        parts, size = [self.window[HEADROOM:].tobytes()], len(self.window) - HEADROOM
        while not self.ended and size < most:
            self.next_window(0)
            parts.append(self.window[HEADROOM:].tobytes())
            size += len(parts[-1])
        return b"".join(parts)[:most]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _move(self, kept: int, new_bytes: int) -> None:
        window = np.empty(HEADROOM + kept + new_bytes, np.uint8)
        begin = HEADROOM + kept
        window[HEADROOM:begin] = self.window[len(self.window) - kept :]
        self.base = self.size - kept
        filled = self._fill(memoryview(window.data)[begin:])
        self.ended = filled < new_bytes
        self.window = window[: begin + filled]

    def _fill(self, view: memoryview) -> int:
        if self._decompressed is None:
            filled = len(self._head)
            view[:filled] = self._head
            self._head = b""
            while filled < len(view) and (count := self._read_into(view[filled:])):
                filled += count
            return filled
        try:
            return self._decompressed.read_into(view)
        except Damaged as reason:
            raise CaptureError(
                f"{self.path}: {self.compression} data cannot be decompressed somewhere before byte offset "
                f"{self.input_bytes} ({reason}); copy it again, or decompress it by itself"
            ) from None

    def _take(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._read(RAW_BYTES)

    def _read(self, most: int) -> bytes:
        """Up to ``most`` bytes of the file; fewer only at its end."""
        buffer = bytearray(most)
        filled = 0
        while filled < most and (count := self._read_into(memoryview(buffer)[filled:])):
            filled += count
        return bytes(buffer[:filled])

    def _read_into(self, view: memoryview) -> int:
        try:
            count = self._file.readinto(view) or 0
        except OSError as error:
            raise CaptureError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        self.input_bytes += count
        return count


def _open(path: Path) -> io.FileIO:
    try:
        if path == STANDARD_INPUT:
            return io.FileIO(sys.stdin.fileno(), closefd=False)
        file = io.FileIO(path)
    except FileNotFoundError:
        raise CaptureError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CaptureError(f"{path}: is a directory, name a capture file in it") from None
    except OSError as error:
        raise CaptureError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a path with a zero byte
        raise CaptureError(f"{path!r}: cannot be read ({error})") from None
    mode = os.fstat(file.fileno()).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        file.close()
        raise CaptureError(f"{path}: cannot be read (neither a file nor a pipe)")
    return file
