"""Makes segments ahead of time, so that the writer never waits for one: full of zeros and durable."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from host.journal.layout import segment_path

FILL_BYTES = 1 << 20
_ZEROS = memoryview(bytes(FILL_BYTES))

SPARE_SUFFIX = ".spare"
SPARES = 2
"""Retired segments that are kept to be made new ones of: their blocks are there already, so that filling them changes
no metadata of the file system, and nothing is discarded on the device."""


def write_whole(file: int, parts: list, total: int, offset: int) -> None:
    """Writes the parts one after another; a short write is continued, and the disk's refusal raises OSError."""
    written = os.pwritev(file, parts, offset)
    while written < total:
        rest = b"".join(parts)[written:]
        written += os.pwrite(file, rest, offset + written)


def sync_directory(directory: Path) -> None:
    """Makes names in a directory durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_segment(directory: Path, number: int, segment_bytes: int) -> None:
    """Makes a segment under another name, full of zeros and durable, before it gets its own. Raises OSError."""
    path = segment_path(directory, number)
    new = path.with_suffix(".new")
    for spare in sorted(directory.glob(f"*{SPARE_SUFFIX}")):
        try:
            spare.rename(new)
            break
        except FileNotFoundError:
            continue
    for _ in _make(new, path, segment_bytes):
        pass
    sync_directory(directory)


def make_spares(directory: Path, count: int, segment_bytes: int) -> Iterator[int]:
    """Makes spares that never were segments: a disk that finds its blocks when they are first written does so now, and not
    while orders wait. Gives the bytes written as they are; spares that are there already stay. Raises OSError."""
    for number in range(count):
        path = directory / f"prepared-{number:08}{SPARE_SUFFIX}"
        if path.exists():
            continue
        yield from _make(path.with_suffix(".new"), path, segment_bytes)
    sync_directory(directory)


def _make(new: Path, path: Path, segment_bytes: int) -> Iterator[int]:
    """Fills ``new``, which may be there, with zeros, makes them durable and gives it its name ``path``. Gives the bytes written as
    they are."""
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(file, min(os.fstat(file).st_size, segment_bytes))
        for offset in range(0, segment_bytes, FILL_BYTES):
            length = min(FILL_BYTES, segment_bytes - offset)
            write_whole(file, [_ZEROS[:length]], length, offset)
            yield length
        os.fsync(file)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def retire_segment(path: Path) -> None:
    """Takes a segment away: it becomes a spare, or is deleted where a reader holds it or there are spares enough."""
    if len(list(path.parent.glob(f"*{SPARE_SUFFIX}"))) < SPARES:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                path.unlink()
                return
            path.rename(path.with_suffix(SPARE_SUFFIX))
        return
    path.unlink()


class SegmentMaker:
    """Makes one segment at a time in a thread of its own."""

    def __init__(self, directory: Path, segment_bytes: int) -> None:
        self._directory = directory
        self._bytes = segment_bytes
        self._thread: threading.Thread | None = None
        self._prepared = 0

    def prepare(self, number: int) -> None:
        """Begins to make a segment, unless it is there."""
        if number == self._prepared:
            return
        self._prepared = number
        if not segment_path(self._directory, number).exists():
            self.wait()
            self._thread = threading.Thread(target=self._make, args=(number,), name="journal segment", daemon=True)
            self._thread.start()

    def open(self, number: int) -> int:
        """The segment as a file descriptor, made now if it has not been. Raises OSError."""
        self.wait()
        path = segment_path(self._directory, number)
        if not path.exists():
            make_segment(self._directory, number, self._bytes)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def wait(self) -> None:
        """Waits for what was begun."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _make(self, number: int) -> None:
        # The writer tries again when it needs the segment, and says what is wrong.
        with contextlib.suppress(OSError):
            make_segment(self._directory, number, self._bytes)
