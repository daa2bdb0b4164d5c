"""The append-only file journal: what is committed survives ``kill -9`` and power loss.

One writer, one batch in flight: ``append`` writes a batch, ``commit`` makes it durable with one ``fdatasync``, and
only then may its orders be acknowledged. Segments are filled with zeros beforehand, so that a commit changes no
metadata of the file.
"""

import fcntl
import os
import zlib
from pathlib import Path

import numpy as np

from hdl.frame import FRAME_BYTES
from host.closing import Closing
from host.journal.batch import DECISION_DTYPE, Batch, BatchBuffer
from host.journal.layout import (
    BATCH_DTYPE,
    BATCH_END,
    BATCH_MAGIC,
    HEADER_BYTES,
    JOURNAL_VERSION,
    SEGMENT_DTYPE,
    SEGMENT_MAGIC,
    JournalError,
    batch_bytes,
    header_crc,
    segment_path,
)
from host.journal.scan import Position, TornTail, scan_journal

SEGMENT_BYTES = 64 << 20
"""Default size of a segment: filling one with zeros takes some tens of milliseconds."""

_ZEROS = bytes(1 << 20)


class Journal(Closing):
    """The one writer of a journal directory, which is made if it does not exist.

    Opening verifies every batch from the first on. ``recovered`` counts the orders found, ``torn`` describes a torn
    tail that was cut, if there was one. Raises JournalError when another writer holds the directory, when the disk
    is full or a write fails, and CorruptJournal when committed bytes are damaged. After a failed write or
    ``fdatasync`` the journal refuses everything: what the disk holds is known only after opening it again.

    Parameters: ``segment_bytes``, size of new segments, a multiple of 4096; ``gateway`` and ``epoch`` are written to
    the headers, for consumers of more than one gateway's journals.
    """

    def __init__(
        self, directory: Path | str, *, segment_bytes: int = SEGMENT_BYTES, gateway: int = 0, epoch: int = 0
    ) -> None:
        if segment_bytes < 8192 or segment_bytes % 4096:
            raise ValueError(f"segment_bytes is {segment_bytes}; it must be a multiple of 4096 and at least 8192")
        self.directory = Path(directory)
        self.epoch = epoch
        self.torn: TornTail | None = None
        self._segment_bytes = segment_bytes
        self._gateway = gateway
        self._failed: str | None = None
        self._file = -1
        self._size = 0
        self._uncommitted = 0
        self._header = np.zeros(1, BATCH_DTYPE)
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
        """Where the next batch goes."""
        return self._position

    @property
    def committed_sequence(self) -> int:
        """The last durable order's sequence, 0 when there is none."""
        return self._position.sequence - 1 - self._uncommitted

    @property
    def written_bytes(self) -> int:
        """Bytes written by this writer, headers included."""
        return self._written

    @property
    def batch_limit(self) -> int:
        """Largest batch in bytes (``host.journal.layout.batch_bytes``) that a segment of this journal holds."""
        return self._segment_bytes - HEADER_BYTES

    def append(self, buffer: BatchBuffer) -> Batch:
        """Writes what the buffer holds as one batch and returns it, with its sequences. Not durable before
        :meth:`commit`; the journal takes one batch between two commits.

        Raises JournalError when the write fails (the batch is then not in the journal) and ValueError when the
        buffer is empty or too large for a segment.
        """
        self._check()
        if self._uncommitted:
            raise JournalError(f"{self.directory}: the batch before has not been committed")
        batch = buffer.batch(self._position.batch, self._position.sequence, self.epoch)
        total = batch_bytes(len(batch), len(batch.payload))
        if not len(batch):
            raise ValueError("an empty batch is not written")
        if total > self.batch_limit:
            raise ValueError(f"a batch of {total} bytes does not fit a segment of {self._segment_bytes} bytes")
        if self._position.offset + total > self._size:
            self._rotate()
        self._write(batch, total)
        self._position.offset += total
        self._position.batch += 1
        self._position.sequence += len(batch)
        self._uncommitted = len(batch)
        return batch

    def commit(self) -> int:
        """Makes what was appended durable and returns the last durable sequence. Raises JournalError."""
        self._check()
        if self._uncommitted:
            try:
                os.fdatasync(self._file)
            except OSError as error:
                raise self._fail(f"fdatasync failed: {error.strerror}") from error
            self._uncommitted = 0
        return self.committed_sequence

    def close(self) -> None:
        """Gives up the directory. What was not committed may or may not be found again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
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
        self._position = Position()
        self._written = 0
        for leftover in self.directory.glob("*.new"):
            leftover.unlink()  # a segment whose making was interrupted; nothing was written to it
        for item in scan_journal(self.directory, self._position):
            if isinstance(item, TornTail):
                self.torn = item
        if self._position.segment == 0:
            self._rotate()
            return
        path = segment_path(self.directory, self._position.segment)
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._size = os.fstat(self._file).st_size
        try:
            if self.torn:
                # The next batch must lie over zeros, or its own torn write could not be told from damage.
                self._write_at([bytes(self.torn.length)], self.torn.length, self.torn.offset)
            # A batch found whole may have been written but not yet synced when the process died.
            os.fdatasync(self._file)
        except OSError as error:
            raise self._fail(f"recovery failed: {error.strerror}") from error

    def _rotate(self) -> None:
        """Makes the next segment under another name, full of zeros and durable, before it gets its own."""
        path = segment_path(self.directory, self._position.segment + 1)
        new = path.with_suffix(".new")
        header = np.zeros(1, SEGMENT_DTYPE)
        header["magic"], header["version"] = SEGMENT_MAGIC, JOURNAL_VERSION
        header["segment"], header["bytes"] = self._position.segment + 1, self._segment_bytes
        header["first_batch"], header["first_sequence"] = self._position.batch, self._position.sequence
        header["chain"], header["gateway"] = self._position.chain, self._gateway
        header["crc"] = header_crc(header[0])
        file = -1
        try:
            file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            for offset in range(0, self._segment_bytes, len(_ZEROS)):
                length = min(len(_ZEROS), self._segment_bytes - offset)
                self._write_to(file, [memoryview(_ZEROS)[:length]], length, offset)
            self._write_to(file, [header.tobytes()], HEADER_BYTES, 0)
            os.fsync(file)
            os.rename(new, path)
            self._sync_directory()
        except OSError as error:
            if file >= 0:
                os.close(file)
            new.unlink(missing_ok=True)
            self._failed = error.strerror
            raise JournalError(f"{path}: no room for a new segment: {error.strerror}") from error
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size = file, self._segment_bytes
        self._position.segment += 1
        self._position.offset = HEADER_BYTES

    def _sync_directory(self) -> None:
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _write(self, batch: Batch, total: int) -> None:
        count, payload_bytes = len(batch), len(batch.payload)
        padding = bytearray(total - HEADER_BYTES - count * (FRAME_BYTES + DECISION_DTYPE.itemsize) - payload_bytes)
        padding[-1] = BATCH_END
        parts = [
            batch.frames.view(np.uint8).data,
            batch.decisions.view(np.uint8).data,
            batch.payload.data,
            memoryview(padding),
        ]
        body_crc = 0
        for part in parts:
            body_crc = zlib.crc32(part, body_crc)
        header = self._header
        header["magic"], header["version"] = BATCH_MAGIC, JOURNAL_VERSION
        header["batch"], header["first_sequence"] = batch.number, batch.first_sequence
        header["count"], header["payload_bytes"], header["total_bytes"] = count, payload_bytes, total
        header["epoch"], header["chain"], header["body_crc"] = batch.epoch, self._position.chain, body_crc
        header["crc"] = crc = header_crc(header[0])
        try:
            self._write_at([header.view(np.uint8).data, *parts], total, self._position.offset)
        except OSError as error:
            raise self._fail(f"byte {self._position.offset}: write failed: {error.strerror}") from error
        self._position.chain = crc
        self._written += total

    def _write_at(self, parts: list, total: int, offset: int) -> None:
        self._write_to(self._file, parts, total, offset)

    @staticmethod
    def _write_to(file: int, parts: list, total: int, offset: int) -> None:
        """Writes the parts one after another; a short write is continued, and the disk's refusal raises."""
        written = os.pwritev(file, parts, offset)
        while written < total:
            rest = b"".join(parts)[written:]
            written += os.pwrite(file, rest, offset + written)
