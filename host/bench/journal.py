"""Durable commits beside SQLite's, and beside what the disk does with the same bytes."""

import os
import tempfile
import time

import numpy as np

from hdl.frame import Kind
from host.bench.gateway import Traffic
from host.bench.measure import Row, compare
from host.bench.sqlite_journal import sqlite_seconds
from host.gateway.verdict import Verdict
from host.journal import BatchBuffer, Journal
from host.journal.batch import DECISION_DTYPE, GATHER_SECONDS
from host.journal.group_commit import GroupCommit

ORDERS = 1_000_000
"""Journaled in a turn."""

SLICE = 256
"""Frames that are gathered at a time."""

BATCH_ROOM = 2048
"""Most orders of a batch: half a megabyte, which is written within the millisecond too."""

SQLITE_ORDERS = 50_000
SQLITE_BATCH = 1000
"""Orders of a transaction: what comes in a millisecond at a million orders a second."""

RAW_BYTES = 64 << 20
"""Of the file that the raw loop writes."""


class Orders:
    """Orders as they stand in the ring, as many as a turn needs."""

    def __init__(self, traffic: Traffic) -> None:
        frames = traffic.frames
        self.frames = frames[np.isin(frames["kind"], (Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE))].copy()
        self.payload = traffic.payload
        self.decisions = np.zeros(len(self.frames), DECISION_DTYPE)
        self.decisions["verdict"] = Verdict.ACCEPTED

    def gather(self, buffer: BatchBuffer, first: int) -> int:
        """Fills a buffer from order ``first`` on until its time is over or it is full; returns the next order."""
        until = time.perf_counter() + GATHER_SECONDS
        while True:
            begin = first % len(self.frames)
            part = slice(begin, min(begin + SLICE, len(self.frames)))
            taken = buffer.take(self.frames[part], self.payload, self.decisions[part])
            first += taken
            if taken < part.stop - part.start or time.perf_counter() >= until:
                return first


def durable_row(traffic: Traffic) -> Row:
    """Orders a second that are durable, in batches that are gathered and written within a millisecond while the one before
    is synced. The peer stores the same in SQLite, a transaction for what comes in a millisecond."""
    orders = Orders(traffic)
    formed: list[tuple[float, float]] = []
    durable: list[float] = []
    sizes: list[int] = []
    cpu: list[float] = []

    def journal() -> tuple[int, float]:
        buffer = BatchBuffer(BATCH_ROOM)
        begun: list[float] = []
        reached: list[tuple[int, float]] = []
        with tempfile.TemporaryDirectory(prefix="tickgate-bench-", dir=".") as folder, Journal(folder) as opened:
            with GroupCommit(opened, lambda position: reached.append((position.batch, time.perf_counter()))) as group:
                used, begin, first = time.thread_time(), time.perf_counter(), 0
                while first < ORDERS:
                    start, own = time.perf_counter(), time.thread_time()
                    buffer.clear()
                    first = orders.gather(buffer, first)
                    opened.append(buffer)
                    group.request()
                    begun.append(start)
                    formed.append((time.perf_counter() - start, time.thread_time() - own))
                cpu.append((time.thread_time() - used) / first)
                group.wait(opened.position.batch)
                seconds = time.perf_counter() - begin
            sizes.append(opened.written_bytes // len(begun))
        places = np.searchsorted([batch for batch, _ in reached], np.arange(1, len(begun) + 1))
        durable.extend(np.array([when for _, when in reached])[places] - begun)
        return first, seconds

    def sqlite() -> tuple[int, float]:
        places = (np.arange(first, first + SQLITE_BATCH) for first in range(0, SQLITE_ORDERS, SQLITE_BATCH))
        parts = (orders.frames[each % len(orders.frames)] for each in places)
        return SQLITE_ORDERS, sqlite_seconds(parts, orders.payload)

    row = compare("journal.durable.orders_per_s", "orders/s", journal, "SQLite (WAL, FULL)", sqlite)
    size = int(np.median(sizes))
    raw_rate, raw_sync = _raw(size)
    batch, batch_cpu = np.percentile(np.array(formed) * 1e3, [50, 99], axis=0).T
    until = np.percentile(np.array(durable) * 1e3, [50, 99])
    note = (
        f"batch of {size >> 10} KiB formed in {batch[0]:.2f} ms p50, {batch[1]:.2f} p99 ({batch_cpu[1]:.2f} of the "
        f"thread's own time: the rest, the machine had taken it away); durable {until[0]:.1f} ms p50, "
        f"{until[1]:.1f} p99 after its first order; {min(cpu) * 1e6:.2f} µs of a core an order; the disk alone, "
        f"pwrite and fdatasync in turn: {raw_rate:,.0f} MB/s, {raw_sync:.2f} ms a sync p50"
    )
    return Row(row.name, row.value, row.unit, row.peer, row.peer_value, note)


def _raw(size: int) -> tuple[float, float]:
    """MB/s and the median sync in ms of writing and syncing ``size`` bytes in turn over a file that has its blocks."""
    data = np.random.default_rng(1).bytes(size)
    with tempfile.TemporaryFile(prefix="tickgate-bench-", dir=".") as file:
        handle = file.fileno()
        for offset in range(0, RAW_BYTES, 1 << 20):
            os.pwrite(handle, bytes(1 << 20), offset)
        os.fsync(handle)
        syncs: list[float] = []
        begin = time.perf_counter()
        while time.perf_counter() - begin < 1:
            os.pwrite(handle, data, len(syncs) % (RAW_BYTES // size) * size)
            start = time.perf_counter()
            os.fdatasync(handle)
            syncs.append(time.perf_counter() - start)
        return len(syncs) * size / (time.perf_counter() - begin) / 1e6, float(np.median(syncs)) * 1e3
