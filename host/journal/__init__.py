"""The order journal: durable before anything is acknowledged."""

from host.journal.batch import Batch, BatchBuffer
from host.journal.file import Journal
from host.journal.layout import CorruptJournal, JournalError
from host.journal.scan import read_journal

__all__ = ["Batch", "BatchBuffer", "CorruptJournal", "Journal", "JournalError", "read_journal"]
