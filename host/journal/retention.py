"""Retention: which segments may go. Only those before the newest whole snapshot, so never the one that is written."""

import time
from dataclasses import dataclass
from pathlib import Path

from host.journal.id_log import drop_ids, first_needed
from host.journal.index import index_path
from host.journal.layout import segment_paths
from host.journal.segments import retire_segment
from host.journal.snapshots import Snapshot, newest_snapshot, read_snapshot, snapshot_paths

SNAPSHOTS = 2
"""Snapshots that are kept, budget permitting: should the newest be damaged, the one before with its segments stands in."""

BLOCK_BYTES = 512
"""What ``st_blocks`` counts."""


@dataclass(frozen=True)
class Retention:
    """Budgets of a journal directory; None is without end.

    ``total_bytes``: what all its files take on the disk, snapshots, indexes and segments made ahead included.
    ``seconds``: how long ago a segment was last written.
    """

    total_bytes: int | None = None
    seconds: float | None = None


def used_bytes(directory: Path) -> int:
    """What a directory's files take on the disk."""
    used = 0
    for path in directory.iterdir():
        try:
            used += path.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            continue  # renamed or deleted meanwhile
    return used


def retain(directory: Path | str, retention: Retention, newest: Snapshot | None = None) -> list[int]:
    """Takes away the oldest segments, with what is kept beside them, until the budgets hold; returns their numbers.

    ``newest`` is the newest whole snapshot, which is looked for and verified if it is not given.

    A budget that would need what lies behind the newest whole snapshot is exceeded instead. An older snapshot goes
    together with the first segment that it needs, or when there are more than SNAPSHOTS; files of client order ids go when no snapshot
    needs them.
    """
    directory = Path(directory)
    newest = newest or newest_snapshot(directory)
    if newest is None:
        return []
    older = [read_snapshot(path, verify=False) for path in snapshot_paths(directory) if path < newest.path]
    for snapshot in older[SNAPSHOTS - 1 :]:
        snapshot.path.unlink()
    older = older[: SNAPSHOTS - 1]
    retired = []
    for number, path in segment_paths(directory):
        if number >= newest.position.segment:
            break
        too_old = retention.seconds is not None and time.time() - path.stat().st_mtime > retention.seconds
        too_many = retention.total_bytes is not None and used_bytes(directory) > retention.total_bytes
        if not too_old and not too_many:
            break
        for snapshot in older:
            if snapshot.position.segment <= number:
                snapshot.path.unlink(missing_ok=True)
        index_path(path).unlink(missing_ok=True)
        retire_segment(path)
        retired.append(number)
    needed = first_needed(read_snapshot(snapshot_paths(directory)[-1], verify=False).parts)
    if needed is not None:
        drop_ids(directory, needed)
    return retired
