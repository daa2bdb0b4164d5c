"""The append-only file journal: what is committed survives ``kill -9`` and power loss.

One writer. ``append`` writes a batch, ``commit`` makes everything written so far durable with one ``fdatasync``, and
only then may its orders be acknowledged. Another thread may commit while this one appends
(:class:`host.journal.group_commit.GroupCommit`). Segments are filled with zeros beforehand, so that a commit changes no
metadata of the file.
"""

import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hdl.frame import FRAME_BYTES
from host.closing import Closing
from host.journal.batch import DECISION_DTYPE, Batch, BatchBuffer, control_batch
from host.journal.layout import (
    BATCH_DTYPE,
    BATCH_END,
    BATCH_MAGIC,
    HEADER_BYTES,
    JOURNAL_VERSION,
    SEGMENT_DTYPE,
    SEGMENT_MAGIC,
    CorruptJournal,
    JournalError,
    batch_bytes,
    check_segment_bytes,
    crc32,
    header_crc,
    next_page,
    segment_path,
    segment_paths,
)
from host.journal.scan import JournalReader, Position, TornTail
from host.journal.segments import SegmentMaker, write_whole
from host.journal.snapshots import newest_snapshot

SEGMENT_BYTES = 64 << 20
"""Default size of a segment: filling one with zeros takes some tens of milliseconds."""

PREPARE_SHARE = 4
"""The first segment after the one that a writer begins with is made once one part in so many of that is used, those after
it at once: short runs make no more than they need, and long ones have as much time as there is."""

IN_FLIGHT_BATCHES = 256
"""Most batches that are written but not durable; the writer then waits for the disk."""


class Journal(Closing):
    """The one writer of a journal directory, which is made if it does not exist.

    Opening verifies every batch that follows the newest snapshot, or every one where there is none. ``recovered`` is
    the last order's sequence that was found, ``torn`` describes a torn tail that was cut, if there was one. Raises
    JournalError when another writer holds the directory, when the disk is full or a write fails, and CorruptJournal
    when committed bytes are damaged. After a failed write or ``fdatasync`` the journal refuses everything: what the
    disk holds is known only after opening it again.

    :meth:`commit` may be called from another thread than the one that appends; everything else belongs to that one.

    Parameters: ``segment_bytes``, size of new segments, a multiple of 4096; ``gateway`` and ``epoch`` are written to
    the headers, for consumers of more than one gateway's journals.
    """

    def __init__(
        self, directory: Path | str, *, segment_bytes: int = SEGMENT_BYTES, gateway: int = 0, epoch: int = 0
    ) -> None:
        check_segment_bytes(segment_bytes)
        self.directory = Path(directory)
        self.epoch = epoch
        self.torn: TornTail | None = None
        self._segment_bytes = segment_bytes
        self._gateway = gateway
        self._failed: str | None = None
        self._maker = SegmentMaker(self.directory, segment_bytes)
        self._position = Position()
        self._file = -1
        self._size = 0
        self._salt = _new_salt()
        self._written = 0
        self._first_segment = 0
        self._state = threading.Lock()
        """Held while what a commit has to make durable is changed or read: the two below and the file."""
        self._full: list[int] = []
        self._appended = self._position
        self._syncing = threading.Lock()
        """Held by the thread that commits, which alone changes what is durable."""
        self._durable = self._position
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._take_lock()
        try:
            self._recover()
        except BaseException:
            self.close()
            raise
        self.recovered = self._position.sequence - 1

    @property
    def next_sequence(self) -> int:
        """The sequence that the next appended order gets, from 1."""
        return self._position.sequence

    @property
    def position(self) -> Position:
        """Where the next batch belongs."""
        return self._position

    @property
    def committed(self) -> Position:
        """Behind what is durable. Batches with numbers below ``committed.batch`` are."""
        return self._durable

    @property
    def committed_sequence(self) -> int:
        """The last durable order's sequence, 0 when there is none."""
        return self._durable.sequence - 1

    @property
    def written_bytes(self) -> int:
        """Bytes of the batches written by this writer, headers included."""
        return self._written

    @property
    def batch_limit(self) -> int:
        """Largest batch in bytes (``host.journal.layout.batch_bytes``) that a segment of this journal holds."""
        return self._segment_bytes - HEADER_BYTES

    def append(self, buffer: BatchBuffer) -> Batch:
        """Writes what the buffer holds as one batch and returns it, with its sequences. Durable once :meth:`commit`
        has returned or :attr:`committed` has passed it; the buffer is not needed for that.

        With IN_FLIGHT_BATCHES written and not durable it commits first. Raises JournalError when the write fails (the
        batch is then not in the journal) and ValueError when the buffer is empty or too large for a segment.
        """
        if not len(buffer):
            raise ValueError("an empty batch is not written")
        return self._append(buffer.batch(self._position.batch, self._position.sequence, self.epoch))

    def append_control(self, record: Mapping[str, Any]) -> Batch:
        """Writes a control record (see :func:`host.journal.batch.control_batch`) as a batch of its own, which takes no
        sequence: it takes effect behind all orders appended so far and before the next. Durable as orders are."""
        return self._append(control_batch(record, self._position.batch, self._position.sequence, self.epoch))

    def commit(self) -> int:
        """Makes what was appended durable and returns the last durable sequence. Raises JournalError."""
        self._check()
        with self._syncing:
            with self._state:
                appended = self._appended
                files = [*self._full, self._file]
                full = len(self._full)
            if appended.batch != self._durable.batch:
                try:
                    for file in files:
                        os.fdatasync(file)
                except OSError as error:
                    raise self._fail(f"fdatasync failed: {error.strerror}") from error
                with self._state:
                    del self._full[:full]
                for file in files[:full]:
                    os.close(file)
                self._durable = appended
        return self.committed_sequence

    def close(self) -> None:
        """Gives up the directory. What was not committed may or may not be found again."""
        self._maker.wait()
        for file in (*self._full, self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._full, self._file, self._lock = [], -1, -1
        self._failed = self._failed or "it is closed"

    def _check(self) -> None:
        if self._failed:
            raise JournalError(f"{self.directory}: the journal takes no more: {self._failed}")

    def _fail(self, cause: str) -> JournalError:
        self._failed = cause
        return JournalError(f"{segment_path(self.directory, self._position.segment)}: {cause}")

    def _take_lock(self) -> int:
        lock = os.open(self.directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise JournalError(f"{self.directory}: another process writes this journal") from error
        return lock

    def _recover(self) -> None:
        for leftover in self.directory.glob("*.new"):
            leftover.unlink()  # a segment whose making was interrupted; nothing was written to it
        snapshot = newest_snapshot(self.directory, verify=False)
        reader = JournalReader(self.directory, snapshot.position if snapshot else None, beside_writer=False)
        if snapshot is None and reader.start.batch:
            path = segment_path(self.directory, reader.start.segment)
            raise CorruptJournal(
                f"{path}: segment {reader.start.segment - 1} is missing before it, and no snapshot stands for it"
            )
        last_batches = {reader.start.segment: 0}
        for batch in reader:
            last_batches[reader.position.segment] = batch.number
        if snapshot and not segment_path(self.directory, reader.position.segment).exists():
            raise CorruptJournal(
                f"{self.directory}: segment {reader.position.segment} of the newest snapshot is missing"
            )
        self.torn = reader.torn
        self._position = self._appended = self._durable = reader.position
        try:
            self._make_whole([segment for segment, batch in last_batches.items() if batch >= reader.durable])
            self._file = self._maker.open(self._position.segment)
        except OSError as error:
            raise self._fail(f"no room for a new segment: {error.strerror}") from error
        self._size = os.fstat(self._file).st_size
        if self._position.offset > HEADER_BYTES:
            header = np.frombuffer(os.pread(self._file, HEADER_BYTES, 0), SEGMENT_DTYPE)[0]
            self._salt = int(header["salt"])
        self._first_segment = self._position.segment

    def _make_whole(self, unsure: list[int]) -> None:
        """Cuts the torn tail, and makes durable what was found whole but may have been written only."""
        # The next batches must lie over zeros, or their own torn writes could not be told from damage. From the end, so
        # that what is left looks torn still if this is interrupted.
        for extent in reversed(self.torn.extents if self.torn else ()):
            file = os.open(extent.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                write_whole(file, [bytes(extent.length)], extent.length, extent.offset)
                os.fdatasync(file)
            finally:
                os.close(file)
        for number, path in segment_paths(self.directory):
            if number in unsure:
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    os.fdatasync(file)
                finally:
                    os.close(file)
            if number > self._position.segment and path.stat().st_size != self._segment_bytes:
                path.unlink()  # made ahead, of another size

    def _append(self, batch: Batch) -> Batch:
        self._check()
        total = batch_bytes(len(batch), len(batch.payload))
        if total > self.batch_limit:
            raise ValueError(f"a batch of {total} bytes does not fit a segment of {self._segment_bytes} bytes")
        if self._position.batch - self._durable.batch >= IN_FLIGHT_BATCHES:
            self.commit()
        begin = self._position.offset
        durable = self._durable.batch
        if durable != self._position.batch:
            # The page on which the batch before ends may be on its way to the disk.
            begin = next_page(begin) if begin > HEADER_BYTES else begin
        if begin + total > self._size:
            self._rotate()
            begin = HEADER_BYTES
        crc = self._write(batch, total, begin, durable)
        where = self._position
        end = begin + total
        self._position = Position(where.segment, end, where.batch + 1, where.sequence + len(batch), crc)
        with self._state:
            self._appended = self._position
        self._written += total
        if where.segment > self._first_segment or end > self._size // PREPARE_SHARE:
            self._maker.prepare(where.segment + 1)
        return batch

    def _rotate(self) -> None:
        """Goes on to the next segment, which was made before."""
        number = self._position.segment + 1
        try:
            file = self._maker.open(number)
        except OSError as error:
            self._failed = error.strerror
            path = segment_path(self.directory, number)
            raise JournalError(f"{path}: no room for a new segment: {error.strerror}") from error
        with self._state:
            self._full.append(self._file)
            self._file = file
        self._size, self._salt = os.fstat(file).st_size, _new_salt()
        self._position = self._position._replace(segment=number, offset=HEADER_BYTES)

    def _write(self, batch: Batch, total: int, begin: int, durable: int) -> int:
        """Writes a batch, behind the segment's header if it is the segment's first. Returns the header's CRC."""
        count, payload_bytes = len(batch), len(batch.payload)
        padding = bytearray(total - HEADER_BYTES - count * (FRAME_BYTES + DECISION_DTYPE.itemsize) - payload_bytes)
        padding[-1] = BATCH_END
        parts: list[Any] = [
            batch.frames.view(np.uint8).data,
            batch.decisions.view(np.uint8).data,
            batch.payload.data,
            memoryview(padding),
        ]
        body_crc = 0
        for part in parts:
            body_crc = crc32(part, body_crc)
        header = np.zeros(1, BATCH_DTYPE)
        header["magic"], header["version"], header["kind"] = BATCH_MAGIC, JOURNAL_VERSION, batch.kind
        header["batch"], header["first_sequence"] = batch.number, batch.first_sequence
        header["count"], header["payload_bytes"], header["total_bytes"] = count, payload_bytes, total
        header["epoch"], header["durable"] = batch.epoch, durable
        header["chain"], header["body_crc"] = self._position.chain, body_crc
        header["salt"] = self._salt
        header["crc"] = crc = header_crc(header[0])
        parts.insert(0, header.view(np.uint8).data)
        if begin == HEADER_BYTES:
            parts.insert(0, self._segment_header())
            begin, total = 0, total + HEADER_BYTES
        try:
            write_whole(self._file, parts, total, begin)
        except OSError as error:
            raise self._fail(f"byte {begin}: write failed: {error.strerror}") from error
        return crc

    def _segment_header(self) -> bytes:
        header = np.zeros(1, SEGMENT_DTYPE)
        header["magic"], header["version"] = SEGMENT_MAGIC, JOURNAL_VERSION
        header["segment"], header["bytes"] = self._position.segment, self._size
        header["first_batch"], header["first_sequence"] = self._position.batch, self._position.sequence
        header["chain"], header["gateway"] = self._position.chain, self._gateway
        header["salt"] = self._salt
        header["crc"] = header_crc(header[0])
        return header.tobytes()


def _new_salt() -> int:
    """A random number that is not 0."""
    return int.from_bytes(os.urandom(4), "little") or 1
