"""Identifiers of accepted orders, beside the segments: each is written once, so that snapshots need not hold a day's.

``BEGIN-END.ids`` (see :mod:`host.journal.parts`) has those of the orders from sequence BEGIN to before END that were remembered at END: rows
of two words, the upper one's lowest 16 bits the flow. What was forgotten later is not taken out of a file: a state says for each
flow the sequence before which files do not count for it (the part :data:`FORGOTTEN` of its snapshots).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from host.journal.layout import CorruptJournal
from host.journal.parts import read_parts, write_parts
from host.journal.scan import Position

IDS_MAGIC = int.from_bytes(b"TICKCIDS", "little")
IDS_SUFFIX = ".ids"

FORGOTTEN = "forgotten"
"""The part of a state with a sequence for each flow: files that end there or before do not count for it."""

FLOW_NUMBERS = 1 << 16
"""The lowest bits of an id's upper word are the flow's number, which is below this."""

_IDS = "ids"


def flows_of(ids: np.ndarray) -> np.ndarray:
    """The flow of each id (rows of two uint64)."""
    flows: np.ndarray = ids[:, 1] & np.uint64(FLOW_NUMBERS - 1)
    return flows


def id_paths(directory: Path) -> list[tuple[int, int, Path]]:
    """The files of a directory in order, with the sequences at which they begin and end."""
    found = []
    for path in directory.glob(f"*{IDS_SUFFIX}"):
        begin, _, end = path.stem.partition("-")
        if begin.isdigit() and end.isdigit():
            found.append((int(begin), int(end), path))
    return sorted(found)


def write_ids(directory: Path, begin: int, end: int, ids: np.ndarray) -> None:
    """Makes the ids (n × 2, uint64) durable that orders from sequence ``begin`` to before ``end`` left. What a predecessor wrote of
    these orders and has no snapshot of goes. Raises OSError."""
    for _, its_end, path in id_paths(directory):
        if its_end > begin:
            path.unlink()
    path = directory / f"{begin:020d}-{end:020d}{IDS_SUFFIX}"
    write_parts(path, IDS_MAGIC, Position(sequence=end), {_IDS: ids})


def read_ids(directory: Path, forgotten: np.ndarray, end: int) -> Iterator[np.ndarray]:
    """The ids that are remembered before sequence ``end``, file by file. Raises CorruptJournal where some are missing or
    damaged."""
    reached = max(int(forgotten.min()), 1)
    for begin, its_end, path in id_paths(directory):
        if its_end <= reached or its_end > end:
            continue
        if begin > reached:
            break
        ids = read_file(path)
        if int(forgotten.max()) >= its_end:
            ids = ids[forgotten[flows_of(ids)] < its_end]
        yield ids
        reached = its_end
    if reached < end:
        raise CorruptJournal(f"{directory}: the client order ids of the orders from sequence {reached} on are missing")


def read_file(path: Path) -> np.ndarray:
    """The ids of one file. Raises CorruptJournal where it is not whole."""
    return read_parts(path, IDS_MAGIC)[1][_IDS]


def first_needed(parts: Mapping[str, np.ndarray]) -> int | None:
    """The sequence from which on a state needs ids; None for one that has none."""
    return int(parts[FORGOTTEN].min()) if FORGOTTEN in parts else None


def drop_ids(directory: Path, before: int) -> None:
    """Takes away the files that end at sequence ``before`` or earlier."""
    for _, its_end, path in id_paths(directory):
        if its_end <= before:
            path.unlink()
