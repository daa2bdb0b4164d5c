"""The peer of the journal: the same orders in SQLite, durable transaction by transaction."""

import sqlite3
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def sqlite_seconds(batches: Iterable[np.ndarray], payload: np.ndarray) -> float:
    """Seconds in which order frames and their raw messages are stored, a transaction (WAL, synchronous=FULL) for each of
    ``batches``."""
    with tempfile.TemporaryDirectory(prefix="tickgate-bench-", dir=".") as folder:
        database = sqlite3.connect(Path(folder) / "journal.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE orders (sequence INTEGER PRIMARY KEY, frame BLOB, message BLOB)")
        begin = time.perf_counter()
        for orders in batches:
            rows = [
                (frame.tobytes(), payload[start : start + length].tobytes())
                for frame, start, length in zip(
                    orders, orders["payload_offset"].tolist(), orders["payload_length"].tolist(), strict=True
                )
            ]
            database.execute("BEGIN")
            database.executemany("INSERT INTO orders (frame, message) VALUES (?, ?)", rows)
            database.execute("COMMIT")
        seconds = time.perf_counter() - begin
        database.close()
    return seconds
