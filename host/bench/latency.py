"""Latency of one order, ring to routed, in the busy-polling loop: at a rate, from when it was due, beside the machine's stalls.

Another process writes an order into the card's ring at each due moment. The loop notes when it had decided about the order,
routed it and copied it into the batch for the journal. Both loops note when somebody else had their processor
(host.gateway.route_loop, STALL_NS), so it is known of each order whether the machine stalled on its way.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.bench.measure import Row
from host.card.ring import Ring
from host.demo import DEMO_LIMITS
from host.gateway.batch_ring import JOURNAL, BatchRing
from host.gateway.risk import Risk
from host.gateway.route_loop import Watch, make_watch
from host.gateway.stages import RiskStage
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.journal.batch import DECISION_DTYPE, BatchBuffer
from host.ring.mapping import SHARED_MEMORY
from host.ring.records import move_cursor

RATE = 100_000
SECONDS = 10.0
PEER_SECONDS = 2.0
LAP_ORDERS = 20_000
SETTLE_S = 0.5
"""Orders that are due in the first half second are not counted: caches are cold, and the other process has just begun."""

MOST_STALLS = 1 << 20
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
FOLDER = Path("build/latency")


@dataclass(frozen=True)
class Latencies:
    """What was measured, all in ns.

    Attributes:
        due: when each order was due (CLOCK_MONOTONIC).
        taken: how long after that it was routed.
        stalls: rows of when a stall of either processor began, and how long it was.
        seconds: how long it was measured.
    """

    due: np.ndarray
    taken: np.ndarray
    stalls: np.ndarray
    seconds: float

    @property
    def disturbed(self) -> np.ndarray:
        """Whether a stall lies in an order's time, or so shortly before it that the queue was not yet empty again."""
        if not len(self.stalls) or not len(self.due):
            return np.zeros(len(self.due), bool)
        begin, length = self.stalls[:, 0], self.stalls[:, 1]
        # What waited for the end of a stall takes as long again at most to be worked off.
        ends = np.maximum.accumulate(begin + 2 * length)
        before = np.searchsorted(begin, self.due + self.taken, side="right") - 1
        return (before >= 0) & (ends[np.maximum(before, 0)] >= self.due)

    def percentiles(self, chosen: np.ndarray | None = None) -> dict[str, float]:
        """Percentiles in µs of all orders, or of those chosen."""
        taken = self.taken if chosen is None else self.taken[chosen]
        if not len(taken):
            return {}
        values = np.percentile(taken, PERCENTILES) / 1000
        return {f"p{each:g}": round(float(value), 3) for each, value in zip(PERCENTILES, values, strict=True)}

    def named(self) -> dict[str, object]:
        """The same for JSON."""
        undisturbed = ~self.disturbed
        return {
            "orders": len(self.taken),
            "seconds": round(self.seconds, 3),
            "all_us": self.percentiles(),
            "without_stalls_us": self.percentiles(undisturbed),
            "without_stalls_share": round(float(undisturbed.mean()), 6) if len(undisturbed) else 0.0,
            "stalls": len(self.stalls),
            "stalled_ms": round(float(self.stalls[:, 1].sum()) / 1e6, 3) if len(self.stalls) else 0.0,
            "longest_stall_ms": round(float(self.stalls[:, 1].max()) / 1e6, 3) if len(self.stalls) else 0.0,
        }


def compiled_loop(ring: Ring, watch: Watch, until: Callable[[], bool]) -> None:
    """The gateway's own loop. What it publishes is taken at once, as by a journal that takes no time."""
    risk = _risk()
    batches = BatchRing.create(None, base=0, slots=16)
    stage = RiskStage(risk, ring, batches, watch=watch)
    while not until():
        stage.step(1 << 40)
        for reader in (JOURNAL, 1):
            move_cursor(batches.ring.words, reader, batches.ring.written())


def python_loop(ring: Ring, watch: Watch, until: Callable[[], bool]) -> None:
    """The peer: the same work with the loop in Python, which polls, decides and copies by calls."""
    risk = _risk()
    buffer = BatchBuffer()
    decisions = np.zeros(1 << 16, DECISION_DTYPE)
    while not until():
        frames = ring.poll()
        if not len(frames):
            continue
        risk.decide(frames, ring.payload, decisions)
        buffer.take(frames, ring.payload, decisions)
        buffer.clear()
        now = time.monotonic_ns()
        count = int(watch.counts[0])
        end = min(count + len(frames), len(watch.samples))
        watch.samples[count:end, 0] = frames["timestamp"][: end - count]
        watch.samples[count:end, 1] = now
        watch.counts[0] = end
        ring.release(len(frames))


def _risk() -> Risk:
    risk = Risk(DEMO_LIMITS.instruments, DEMO_LIMITS.accounts, client_order_ids=1 << 23)
    risk.route(DEMO_LIMITS.router())
    return risk


def run(
    loop: Callable[[Ring, Watch, Callable[[], bool]], None], lap: Lap, *, rate: int, seconds: float, folder: Path
) -> Latencies:
    """Run a loop here and the orders' writer in another process, on a processor each. ``folder`` is for what it notes. Raises RuntimeError where the writer failed."""
    folder.mkdir(parents=True, exist_ok=True)
    count = int(rate * (seconds + SETTLE_S))
    # In shared memory, as a gateway's: pages of a disk's file are watched for changes.
    path = SHARED_MEMORY / f"tickgate-latency-{os.getpid()}"
    with Ring.create(path) as ring:
        stalls_file = folder / "stalls.npy"
        watch = make_watch(samples=count, stalls=MOST_STALLS)
        start = time.monotonic_ns() + 200_000_000
        processors = sorted(os.sched_getaffinity(0))
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.sched_setaffinity(0, {processors[-1]})
                code = _write(path, lap, rate, count, start, stalls_file)
            finally:
                os._exit(code)
        # A writer that died must not be waited for.
        end = start + int((seconds + SETTLE_S + 5) * 1e9)
        os.sched_setaffinity(0, {processors[0]})
        try:
            loop(ring, watch, lambda: int(watch.counts[0]) >= count or time.monotonic_ns() > end)
        finally:
            os.sched_setaffinity(0, processors)
            path.unlink()
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise RuntimeError("the process that writes orders has failed")
    samples = watch.samples[: int(watch.counts[0])]
    samples = samples[samples[:, 0] >= start + int(SETTLE_S * 1e9)]
    noted = watch.stalls[: min(int(watch.counts[1]), MOST_STALLS)]
    stalls = np.concatenate([noted, np.load(stalls_file)])
    stalls = stalls[np.argsort(stalls[:, 0])]
    stalls = stalls[stalls[:, 0] >= start + int(SETTLE_S * 1e9)]
    return Latencies(samples[:, 0], samples[:, 1] - samples[:, 0], stalls, seconds)


def _write(path: Path, lap: Lap, rate: int, count: int, start: int, stalls_file: Path) -> int:
    watch = make_watch(stalls=MOST_STALLS)
    load = Load(lap, Ring.open(path), watch)
    load.pace(rate, start)
    end = start + int(count / rate * 1e9) + 4_000_000_000
    while load.number < count and time.monotonic_ns() < end:
        load.run(count, 1 << 40)
    np.save(stalls_file, watch.stalls[: min(int(watch.counts[1]), MOST_STALLS)])
    return 0


def warm_up(lap: Lap, folder: Path) -> None:
    """Have everything compiled before two processes want it at once."""
    with Ring.create(None, 1 << 10, 1 << 18) as ring:
        load = Load(lap, ring, make_watch(stalls=1))
        load.pace(None, 0)
        load.run(100, 1_000_000)
        watch = make_watch(samples=100, stalls=1)
        compiled_loop(ring, watch, lambda: int(watch.counts[0]) >= 100)


def latency_row(folder: Path = FOLDER, *, rate: int = RATE, seconds: float = SECONDS) -> Row:
    """The median in µs (less is better), beside the same work in a Python loop. Writes the pictures."""
    lap = make_lap(LAP_ORDERS)
    warm_up(lap, folder)
    ours = run(compiled_loop, lap, rate=rate, seconds=seconds, folder=folder)
    peer = run(python_loop, lap, rate=rate, seconds=min(seconds, PEER_SECONDS), folder=folder)
    write_report(folder, ours, peer, rate)
    return Row(
        "gateway.latency.p50_us", ours.percentiles()["p50"], "µs", "the loop in Python", peer.percentiles()["p50"]
    )


def write_report(folder: Path, ours: Latencies, peer: Latencies, rate: int) -> None:
    """Write latency.json, latency.png and latency.html."""
    from host.bench.latency_picture import write_pictures

    content = {"orders_per_s": rate, "loop": ours.named(), "python_loop": peer.named()}
    (folder / "latency.json").write_text(json.dumps(content, indent=2) + "\n")
    write_pictures(folder, ours, peer, rate)


def main() -> int:
    """`python -m host.bench.latency`."""
    parser = argparse.ArgumentParser(prog="python -m host.bench.latency", description=__doc__)
    parser.add_argument("--rate", type=int, default=RATE, metavar="ORDERS", help=f"orders a second (default: {RATE})")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"(default: {SECONDS:g})")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help=f"(default: {FOLDER})")
    arguments = parser.parse_args()
    row = latency_row(arguments.folder, rate=arguments.rate, seconds=arguments.seconds)
    print((arguments.folder / "latency.json").read_text(), end="")
    print(f"{row.name}: {row.value} µs; {row.peer}: {row.peer_value} µs. Pictures are in {arguments.folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
