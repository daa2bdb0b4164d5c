"""What each module does, in shared memory: whoever watches reads it without asking anybody."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from host.ring.mapping import map_existing, map_new
from host.serve.config import MODULES

FIGURES = {
    "frames": "frames of the card's ring that were looked at",
    "accepted": "orders that passed risk",
    "rejected": "orders that risk refused",
    "malformed": "frames of no message",
    "journaled": "orders made durable",
    "bytes": "bytes written to the journal",
    "sequence": "the last durable order's sequence",
    "applied": "orders that nodes hold or have held, those of before the start included",
    "trades": "trades of the nodes, likewise",
    "open": "orders that rest",
    "reports": "reports written for sessions",
    "detached": "sessions that read too slowly",
    "moved": "instruments whose books went to another node, those of before the start not included",
    "latency_ns": "how long after it was durable a batch was reported, the sum over batches",
    "read": "reports that were read",
    "sent": "orders or packets that went into the card",
    "batches": "batches of the batch ring that it is done with",
    "waits": "looks in vain at a batch ring that was full",
    "recovered": "orders taken back from the journal at the start",
}
"""What modules count, each what it knows of. Counts begin with the module, but for `sequence`, `applied`, `trades`, `batches`."""

STARTING, SERVING, DONE = 1, 2, 3

STATUS_DTYPE = np.dtype(
    [
        ("pid", "i8"),
        ("state", "i8"),
        ("starts", "i8"),
        ("began_ns", "i8"),
        ("serving_ns", "i8"),
        ("beat_ns", "i8"),
        ("cpu_ns", "i8"),
        ("rss", "i8"),
        *[(name, "i8") for name in FIGURES],
    ]
)
"""A module: its process, whether it serves, how often it was started; times are CLOCK_MONOTONIC, ``cpu_ns`` its thread's
processor time, ``rss`` its process's :func:`resident_bytes`."""


class Status:
    """One row a module, in the order of MODULES. Each has one writer, and what is read may be a moment old."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Map the file in a run directory; with ``create`` a new one. Raises OSError."""
        size = len(MODULES) * STATUS_DTYPE.itemsize
        memory = map_new(path, size) if create else map_existing(path)
        self.rows = np.frombuffer(memory, STATUS_DTYPE, len(MODULES))

    def row(self, module: str) -> np.void:
        """A module's row, to read or to write."""
        row: np.void = self.rows[MODULES.index(module)]
        return row

    def serves(self, module: str) -> bool:
        """Whether a module has come to serve, or is done."""
        return int(self.row(module)["state"]) >= SERVING

    def beat(self, module: str, figures: Mapping[str, int]) -> None:
        """A module says that it lives, and what it has done; to be called by the thread that runs it."""
        row = self.row(module)
        for name, value in figures.items():
            row[name] = value
        row["cpu_ns"], row["beat_ns"] = time.thread_time_ns(), time.monotonic_ns()

    def named(self) -> dict[str, dict[str, int]]:
        """Everything as plain numbers."""
        names = STATUS_DTYPE.names or ()
        return {module: {name: int(self.row(module)[name]) for name in names} for module in MODULES}


def resident_bytes(pid: int | str = "self") -> int:
    """What a process has in memory (``/proc/PID/status``), shared memory with it, without pages of files that it has mapped, which are
    the system's cache; 0 where it is gone."""
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
    except (OSError, KeyError, ValueError):
        return 0
