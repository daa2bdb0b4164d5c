"""Snapshots: the state behind a journal position as flat arrays, named by the sequence and batch that come next:
``00000000000000001234-000000000056.snapshot``. See :mod:`host.journal.parts` for the file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.journal.layout import CorruptJournal
from host.journal.parts import read_parts, write_parts
from host.journal.scan import Position

SNAPSHOT_MAGIC = int.from_bytes(b"TICKSNAP", "little")
SNAPSHOT_SUFFIX = ".snapshot"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was found: ``parts`` are mapped copy-on-write, so they may be written to and the file stays."""

    path: Path
    position: Position
    parts: dict[str, np.ndarray]


def write_snapshot(directory: Path | str, position: Position, parts: Mapping[str, np.ndarray]) -> Path:
    """Writes the arrays as the state that holds at ``position``, which must lie behind durable batches only.

    The file gets its name once it is whole and durable. Raises OSError when the disk refuses, ValueError for arrays of
    Python objects.
    """
    path = Path(directory) / f"{position.sequence:020d}-{position.batch:012d}{SNAPSHOT_SUFFIX}"
    write_parts(path, SNAPSHOT_MAGIC, position, parts)
    return path


def newest_snapshot(
    directory: Path | str, *, verify: bool = True, fits: Callable[[Position], bool] = lambda position: True
) -> Snapshot | None:
    """The newest whole snapshot of a directory whose position ``fits``, with its parts mapped; None when there is none.

    A damaged one is passed over for the one before. ``verify`` reads all parts and compares their CRCs; without it
    only header, table and size are verified. Raises JournalError for a version that this program does not read.
    """
    for path in snapshot_paths(directory):
        try:
            snapshot = read_snapshot(path, verify=verify)
        except (CorruptJournal, FileNotFoundError):
            continue
        if fits(snapshot.position):
            return snapshot
    return None


def read_snapshot(path: Path, *, verify: bool = True) -> Snapshot:
    """One snapshot. Raises CorruptJournal when it is not whole, JournalError for another version."""
    position, parts = read_parts(path, SNAPSHOT_MAGIC, verify=verify)
    return Snapshot(path, position, parts)


def snapshot_paths(directory: Path | str) -> list[Path]:
    """The snapshots of a directory, the newest first."""
    return sorted(Path(directory).glob(f"*{SNAPSHOT_SUFFIX}"), reverse=True)
