"""Follows a journal beside its writer: replays what is durable into a state of its own, and writes snapshots of it.

The state behind a sequence is a pure function of the journal up to it, so the writer never stops for a snapshot.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from host.journal.batch import Batch
from host.journal.index import IndexBuilder, build_index, write_index
from host.journal.layout import HEADER_BYTES, segment_paths
from host.journal.retention import Retention, retain
from host.journal.scan import JournalReader, Position
from host.journal.snapshots import Snapshot, newest_snapshot, read_snapshot, write_snapshot

SNAPSHOT_SEGMENTS = 4
"""A snapshot is written after so many segments by default. What lies behind it is replayed at a restart."""

POLL_SECONDS = 0.05


class Follower:
    """Replays segments that the writer has left, each batch once it is known to be durable.

    Parameters: ``load`` takes the parts of the newest snapshot, once and only if there is one; ``apply`` takes each
    batch behind it; ``parts`` gives the state as arrays. ``snapshot_segments``, segments between snapshots;
    ``retention`` is kept after each segment and each snapshot; ``indexed``, whether segments get their index. Usable in a process of its
    own. :meth:`step` raises what the journal's reader raises, and OSError.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        load: Callable[[dict[str, np.ndarray]], None],
        apply: Callable[[Batch], None],
        parts: Callable[[], Mapping[str, np.ndarray]],
        snapshot_segments: int = SNAPSHOT_SEGMENTS,
        retention: Retention | None = None,
        indexed: bool = True,
    ) -> None:
        self.directory = Path(directory)
        self._apply = apply
        self._parts = parts
        self._snapshot_segments = snapshot_segments
        self._retention = retention
        self._indexed = indexed
        snapshot = newest_snapshot(self.directory)
        self._newest: Snapshot | None = None
        if snapshot:
            load(snapshot.parts)
            self._newest = replace(snapshot, parts={})  # the state's own arrays are not kept twice
        self._reader = JournalReader(self.directory, snapshot.position if snapshot else None)
        begins = self._reader.position.offset == HEADER_BYTES
        self._index = IndexBuilder(self._reader.position.sequence) if indexed and begins else None
        self._read: deque[tuple[Batch, Position]] = deque()
        self.position = self._reader.position
        """Behind the last batch that was applied."""
        self._snapshot = self.position

    def step(self) -> int:
        """Replays what has become replayable, and writes the snapshot that is due. Returns the orders replayed."""
        before = self.position.sequence
        begun = self._last_begun()
        while self._reader.position.segment < begun:
            left = self._reader.position
            batch = next(self._reader, None)
            if batch is None:
                break
            self._read.append((batch, self._reader.position))
            # What a later batch says to be durable cannot be torn away from under the snapshot.
            while self._read and self._read[0][0].number < self._reader.durable:
                applied, self.position = self._read.popleft()
                self._apply(applied)
            if self._reader.position.segment != left.segment:
                self._write_index(left)
                self._retain()
            if self._index:
                self._index.add(batch, self._reader.begin)
            if self.position.segment >= self._snapshot.segment + self._snapshot_segments:
                self.snapshot()
        return self.position.sequence - before

    def snapshot(self) -> None:
        """Writes a snapshot of what was replayed, and takes away what retention lets go."""
        path = write_snapshot(self.directory, self.position, self._parts())
        self._snapshot = self.position
        self._newest = replace(read_snapshot(path), parts={})
        self._retain()

    def run(self, until: Callable[[], bool], seconds: float = POLL_SECONDS) -> None:
        """Steps, and sleeps for ``seconds`` where there was nothing to do, until ``until`` says so."""
        while not until():
            if not self.step():
                time.sleep(seconds)

    def _write_index(self, left: Position) -> None:
        """Writes the index of the segment that was read to its end, and begins the one of the next."""
        if not self._indexed:
            return
        # It was not collected if the snapshot lay within the segment.
        write_index(
            self.directory, self._index.index(left) if self._index else build_index(self.directory, left.segment)
        )
        self._index = IndexBuilder(left.sequence)

    def _retain(self) -> None:
        if self._retention and self._newest:
            retain(self.directory, self._retention, self._newest)

    def _last_begun(self) -> int:
        """The number of the last segment that the writer has begun."""
        for number, path in reversed(segment_paths(self.directory)):
            try:
                with path.open("rb") as file:
                    if any(os.pread(file.fileno(), HEADER_BYTES, 0)):
                        return number
            except FileNotFoundError:
                continue
        return 0
