"""Group commit: while one ``fdatasync`` runs, the next batches are written; the one after it covers them all."""

import threading
from collections.abc import Callable

from host.closing import Closing
from host.journal.file import Journal
from host.journal.layout import JournalError
from host.journal.scan import Position


class GroupCommit(Closing):
    """A thread that commits a journal whenever it is asked to. ``fdatasync`` lets other threads run meanwhile.

    Append, :meth:`request`, and acknowledge what lies before ``journal.committed``, which moves when a sync is done.
    Close it before the journal; closing commits what was requested.

    Parameters: ``on_commit`` is called in the thread with what is durable, after each sync.
    """

    def __init__(self, journal: Journal, on_commit: Callable[[Position], None] | None = None) -> None:
        self._journal = journal
        self._on_commit = on_commit
        self._wanted = threading.Event()
        self._moved = threading.Condition()
        self._error: JournalError | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Asks for everything appended so far to be made durable, and returns at once. Raises the JournalError that
        ended the thread."""
        self._check()
        self._wanted.set()

    def wait(self, batches: int, seconds: float | None = None) -> bool:
        """Waits until all batches with numbers below ``batches`` are durable; False when ``seconds`` were too few.
        Raises the JournalError that ended the thread."""
        with self._moved:
            self._moved.wait_for(lambda: self._error or self._journal.committed.batch >= batches, seconds)
        self._check()
        return self._journal.committed.batch >= batches

    def close(self) -> None:
        """Commits what was requested and ends the thread."""
        self._ending = True
        self._wanted.set()
        self._thread.join()

    def _check(self) -> None:
        if self._error:
            raise JournalError(str(self._error))

    def _run(self) -> None:
        while not (self._ending and not self._wanted.is_set()):
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._journal.commit()
            except JournalError as error:
                self._error = error
            if self._on_commit and not self._error:
                self._on_commit(self._journal.committed)
            with self._moved:
                self._moved.notify_all()
            if self._error:
                return
