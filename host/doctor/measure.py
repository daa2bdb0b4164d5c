"""What can only be measured: how long the machine stops a thread, wakes one late, and writes to a disk."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numba import njit

from host.clock import monotonic_ns
from host.doctor.finding import Finding, State

GAP_NS = 10_000
"""A busy loop that reads the clock and finds so much gone was stopped by somebody."""

GAP_BOUNDS_US = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
GAP_SHARE = 0.001
"""Share of time in gaps from which on they are felt."""

SLEEP_S = 100e-6
SLEEPS = 500
LATE_US = 100

SYNC_BYTES = 64 << 10
SYNCS = 200
SLOW_SYNC_MS = 1.0
"""A batch is durable within a millisecond, or the journal is what everything waits for."""


@njit(cache=True, nogil=True, _nrt=False)
def watch_gaps(until, least, starts, lengths):
    """Reads the clock until it is ``until`` (CLOCK_MONOTONIC, ns); writes when it stood still for ``least`` ns or longer, and
    for how long. Returns how many gaps there were, of which as many are written as there is room for."""
    count = 0
    before = monotonic_ns()
    while before < until:
        now = monotonic_ns()
        if now - before >= least:
            if count < starts.shape[0]:
                starts[count] = before
                lengths[count] = now - before
            count += 1
        before = now
    return count


def gaps(seconds: float) -> np.ndarray:
    """Lengths (ns) of the times for which a busy thread was stopped."""
    starts, lengths = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    watch_gaps(0, GAP_NS, starts, lengths)  # compiled, if it is not yet
    count = int(watch_gaps(time.monotonic_ns() + int(seconds * 1e9), GAP_NS, starts, lengths))
    return lengths[: min(count, len(lengths))]


def gap_finding(lengths: np.ndarray, seconds: float) -> Finding:
    """Gaps of a busy loop as a histogram."""
    share = float(lengths.sum()) / 1e9 / seconds
    counts = [int(np.count_nonzero(lengths >= bound * 1000)) for bound in GAP_BOUNDS_US]
    listed = ", ".join(
        f"{count} of {_time(bound)}" for bound, count in zip(GAP_BOUNDS_US, counts, strict=True) if count
    )
    worst = float(lengths.max()) / 1000 if len(lengths) else 0.0
    value = f"{100 * share:.2f} % of {seconds:g} s; longest {_time(worst)}" + (
        f"; or longer: {listed}" if listed else ""
    )
    if share < GAP_SHARE:
        return Finding("stalls of a busy thread", value, State.GOOD)
    return Finding(
        "stalls of a busy thread",
        value,
        State.COSTS,
        "what comes in such a time waits for its end: interrupts, other threads, or the host of a virtual machine",
        "isolate a processor (above), stop what else runs here",
    )


def wake_up() -> Finding:
    """How late a thread that sleeps 100 µs is woken."""
    late = np.zeros(SLEEPS)
    for index in range(SLEEPS):
        begin = time.perf_counter()
        time.sleep(SLEEP_S)
        late[index] = (time.perf_counter() - begin - SLEEP_S) * 1e6
    median, tail = np.percentile(late, [50, 99]).tolist()
    value = f"{median:.0f} µs late (median), {tail:.0f} µs (p99)"
    if median < LATE_US:
        return Finding("wake-up", value, State.GOOD)
    return Finding(
        "wake-up",
        value,
        State.COSTS,
        "a stage that sleeps sees what has come so much later",
        "spin longer: [wait] spin_us",
    )


def sync(directory: Path) -> Finding:
    """How long 64 KiB take to be durable in a directory, in a preallocated file. Raises OSError where it cannot be written."""
    name = f"fdatasync in {directory}"
    with tempfile.TemporaryFile(dir=directory) as file:
        block = os.urandom(SYNC_BYTES)
        os.pwrite(file.fileno(), bytes(SYNC_BYTES * 16), 0)
        os.fsync(file.fileno())
        took = np.zeros(SYNCS)
        for index in range(SYNCS):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), block, index % 16 * SYNC_BYTES)
            os.fdatasync(file.fileno())
            took[index] = (time.perf_counter() - begin) * 1e3
    median, tail = np.percentile(took, [50, 99]).tolist()
    value = f"{median:.2f} ms (median), {tail:.2f} ms (p99) for {SYNC_BYTES >> 10} KiB"
    if median <= SLOW_SYNC_MS:
        return Finding(name, value, State.GOOD)
    return Finding(
        name,
        value,
        State.COSTS,
        "every acknowledgement waits for it",
        "put the journal onto a disk with power-loss protection",
    )


def measure(directory: Path, seconds: float = 1.0) -> list[Finding]:
    """Measure this machine, as it is busy now. Raises OSError where ``directory`` cannot be written."""
    return [gap_finding(gaps(seconds), seconds), wake_up(), sync(directory)]


def _time(microseconds: float) -> str:
    return f"{microseconds:g} µs" if microseconds < 1000 else f"{microseconds / 1000:.3g} ms"
