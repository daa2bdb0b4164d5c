"""The order journal: durable before anything is acknowledged."""

from host.journal.batch import Batch, BatchBuffer, BatchKind
from host.journal.file import Journal
from host.journal.layout import CorruptJournal, JournalError
from host.journal.scan import JournalReader, Position, read_journal
from host.journal.snapshots import Snapshot, newest_snapshot, write_snapshot

__all__ = [
    "Batch",
    "BatchBuffer",
    "BatchKind",
    "CorruptJournal",
    "Journal",
    "JournalError",
    "JournalReader",
    "Position",
    "Snapshot",
    "newest_snapshot",
    "read_journal",
    "write_snapshot",
]
