"""Shared memory for rings: a file that several processes map, or memory that only this one has."""

import mmap
import os
import tempfile
from pathlib import Path

POPULATE = getattr(mmap, "MAP_POPULATE", 0)
"""Linux maps a new ring's pages at once, so that no first lap is slower than the next."""

_POPULATE_WRITE = 23
"""madvise's MADV_POPULATE_WRITE (Linux 5.14), which Python has no name for."""

SHARED_MEMORY = Path("/dev/shm")


def file_identity(path: Path | None) -> int:
    """Which ring a file is, as long as it is there (its inode); 0 for a ring in memory of this process. Raises OSError."""
    return 0 if path is None else path.stat().st_ino


def map_new(path: Path | None, length: int, *, huge_pages: bool = False) -> mmap.mmap:
    """Zeroed shared memory of ``length`` bytes at ``path`` (a file there is replaced), or without a name.

    ``huge_pages`` asks for them; where the system gives none, the pages are small. Raises OSError.
    """
    if path is None:
        # Unlinked at once: nothing is left behind, however the process ends.
        with tempfile.TemporaryFile(dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None) as file:
            return _map(file.fileno(), length, huge_pages)
    path.unlink(missing_ok=True)
    with path.open("x+b") as file:
        return _map(file.fileno(), length, huge_pages)


def map_existing(path: Path, *, populate: bool = False) -> mmap.mmap:
    """Maps a file that another process made, all of it, with ``populate`` all pages at once. Raises OSError, ValueError where it is empty."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED | (POPULATE if populate else 0))


def _map(file: int, length: int, huge_pages: bool) -> mmap.mmap:
    os.truncate(file, length)
    if not huge_pages:
        return mmap.mmap(file, length, mmap.MAP_SHARED | POPULATE)
    memory = mmap.mmap(file, length, mmap.MAP_SHARED)
    for advice in (getattr(mmap, "MADV_HUGEPAGE", None), _POPULATE_WRITE):
        try:
            if advice is not None:
                memory.madvise(advice)
        except OSError:
            pass  # an older kernel, or one without huge pages: the memory is there all the same
    return memory
