"""Orders a second from the card's ring to the report in the session's ring, durable in between, with everything on two cores.

The gateway runs as `tickgate serve` does, its modules and the source of orders in processes of their own. Afterwards the
journal is read again: what was sent, journaled, applied and reported must be the same, and nodes made from the journal must be
in the state of the live ones.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from host.bench.measure import Row
from host.cluster.matching_node import MatchingNode
from host.demo import DEMO_LIMITS
from host.gateway.pipeline import Gateway
from host.gateway.risk import Risk
from host.gateway.state import NodesState
from host.generate.lap import make_lap
from host.generate.load import Lap
from host.journal import Journal, JournalReader, newest_snapshot
from host.journal.retention import used_bytes
from host.journal.segments import make_spares
from host.serve.modules import read_hashes
from host.trials.served import Served

SECONDS = 60.0
RATE = 1_010_000
"""Orders a second that are offered by default: what has no credit waits in its source."""

LAP_ORDERS = 20_000
MOST_ORDERS_PER_S = 2_000_000
"""There is room for the client order ids of so many, or of a given rate."""

RETAIN_BYTES = 6 << 30
"""Budget of the journal's directory: with the segments and the snapshot that come between two looks it stays below 8 GB."""
SEGMENT_BYTES, SNAPSHOT_SEGMENTS = 256 << 20, 8
PREPARED_BYTES, ORDER_BYTES = 5 << 30, 300
"""Blocks of the disk that are found before the run rather than in it, at most, and what an order takes of them."""

RINGS = {
    "frame_slots": 1 << 17,
    "payload_bytes": 1 << 25,
    "batch_slots": 16,
    "batch_frames": 1 << 13,
    "gather_us": 6000,
    "session_slots": 1 << 15,
}
"""Room for what comes while a stage's turn has not come yet: there are more of them than processors."""

FOLDER = Path("build/end_to_end")
GROUPS = [["card"], ["risk"], ["journal"], ["nodes"], ["sessions"], ["snapshots"]]
STAGES = ("card", "risk", "journal", "nodes", "sessions", "snapshots")
PEER_ORDERS = 60_000


@dataclass
class Outcome:
    """What a run gave. ``cpu_ns`` is each module's processor time an order; ``differences`` is empty if all adds up."""

    orders: int
    seconds: float
    reports: int
    journal_bytes: int
    cpu_ns: dict[str, float]
    lag_batches: int
    directory_bytes: int
    differences: list[str] = field(default_factory=list)

    @property
    def orders_per_s(self) -> float:
        """From the first second in which all modules ran to the last."""
        return self.orders / self.seconds

    def named(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "orders_per_s": round(self.orders_per_s),
            "orders": self.orders,
            "seconds": round(self.seconds, 3),
            "reports": self.reports,
            "journal_bytes": self.journal_bytes,
            "most_bytes_of_its_directory": self.directory_bytes,
            "cpu_ns_an_order": {name: round(value, 1) for name, value in self.cpu_ns.items()},
            "differences": self.differences,
        }


def run(folder: Path, seconds: float, *, rate: int = 0, lap_orders: int = LAP_ORDERS) -> Outcome:
    """Run the gateway for so long under load (``rate`` orders a second; 0: as many as it takes), and reconcile."""
    tables: dict[str, dict[str, Any]] = {
        "traffic": {"orders_per_s": rate, "lap_orders": lap_orders},
        "processes": {"groups": GROUPS},
        # There are more processes than processors: whoever has nothing to do leaves his to the others, long enough for a batch.
        "wait": {"spin_us": 0, "sleep_us": 400},
        "rings": RINGS,
        "risk": {"client_order_ids": int((1.02 * rate or MOST_ORDERS_PER_S) * (seconds + 5))},
        "journal": {
            "segment_bytes": SEGMENT_BYTES,
            "snapshot_segments": SNAPSHOT_SEGMENTS,
            "retain_bytes": RETAIN_BYTES,
        },
        "sessions": {"patience_ms": 10_000},
    }
    with Served(folder, lap_orders, 1, tables) as served:
        served.journal.mkdir()
        wanted = min(PREPARED_BYTES, int((rate or MOST_ORDERS_PER_S) * seconds * ORDER_BYTES))
        for _ in make_spares(served.journal, -(-wanted // SEGMENT_BYTES), SEGMENT_BYTES):
            pass
        served.start()
        first: tuple[float, dict[str, Any]] | None = None
        last: tuple[float, dict[str, Any]] | None = None
        most = 0
        for line in served.lines():
            now = time.monotonic()
            most = max(most, used_bytes(served.journal))
            if first is None:
                if all(line["modules"][each]["state"] >= 2 for each in STAGES) and line["journaled"]:
                    first = (now, line)
            elif last is None and now - first[0] >= seconds:
                last = (now, line)
                served.end()
            final = line
        if first is None or last is None:
            raise RuntimeError(f"the gateway ended too early: see {folder / 'serve.log'}")
        begin, end = first[1]["modules"], last[1]["modules"]
        # Counted at the moments of the modules' own signs of life.
        took = (end["journal"]["beat_ns"] - begin["journal"]["beat_ns"]) / 1e9
        orders = end["journal"]["sequence"] - begin["journal"]["sequence"]
        return Outcome(
            orders=orders,
            seconds=took,
            reports=final["modules"]["nodes"]["reports"],
            journal_bytes=final["modules"]["journal"]["bytes"],
            cpu_ns={each: (end[each]["cpu_ns"] - begin[each]["cpu_ns"]) / max(orders, 1) for each in STAGES},
            lag_batches=last[1]["lag_batches"],
            directory_bytes=most,
            differences=reconcile(served, final["modules"]),
        )


def reconcile(served: Served, modules: dict[str, dict[str, int]]) -> list[str]:
    """What does not add up between what was sent, the journal read again, and what modules say at their end.

    Where retention has taken segments away, what they held is taken from the snapshot.
    """
    state = NodesState(MatchingNode(number) for number in DEMO_LIMITS.nodes)
    snapshot = newest_snapshot(served.journal)
    reader = JournalReader(served.journal, snapshot.position if snapshot else None)
    if snapshot:
        state.load(snapshot.parts)
    for batch in reader:
        state.apply(batch)
    nodes = {str(number): node for number, node in state.nodes.items()}
    journaled = reader.position.sequence - 1
    accepted = sum(node.applied for node in nodes.values())
    hashes = read_hashes(served.run_directory)
    return [
        f"{name}: {found}, expected {expected}"
        for name, found, expected in (
            ("orders in the journal", journaled, modules["card"]["sent"]),
            ("orders of the journal's process", modules["journal"]["sequence"], journaled),
            ("orders that risk accepted", modules["risk"]["accepted"], accepted),
            ("orders applied", modules["nodes"]["applied"], accepted),
            ("reports read by sessions", modules["sessions"]["read"], modules["nodes"]["reports"]),
            ("sessions that were too slow", modules["nodes"]["detached"], 0),
            ("states of nodes", hashes, {name: node.state_hash() for name, node in nodes.items()}),
        )
        if found != expected
    ]


def one_after_another(lap: Lap) -> tuple[int, float]:
    """The peer: the same orders through Gateway.process, which does one thing after the other; its reports go nowhere."""
    risk = Risk(DEMO_LIMITS.instruments, DEMO_LIMITS.accounts)
    with tempfile.TemporaryDirectory(prefix="tickgate-bench-", dir=".") as folder, Journal(folder) as journal:
        nodes = [MatchingNode(number) for number in DEMO_LIMITS.nodes]
        gateway = Gateway(risk, DEMO_LIMITS.router(), journal, nodes)
        begin = time.perf_counter()
        for at in range(0, len(lap), 4096):
            gateway.process(lap.frames[at : at + 4096], lap.payload)
        return len(lap), time.perf_counter() - begin


def end_to_end_row(folder: Path = FOLDER, seconds: float = SECONDS, rate: int = RATE) -> tuple[Row, Outcome]:
    """Orders a second, beside the same stages one after another in one thread. Raises RuntimeError where something is lost."""
    outcome = run(folder, seconds, rate=rate)
    if outcome.differences:
        raise RuntimeError("; ".join(outcome.differences))
    lap = make_lap(LAP_ORDERS)
    one_after_another(lap)
    peer = max(count / took for count, took in (one_after_another(lap) for _ in range(3)))
    name = "the same stages one after another, no reports"
    return Row("gateway.end_to_end.orders_per_s", outcome.orders_per_s, "orders/s", name, peer), outcome


def main() -> int:
    """`python -m host.bench.end_to_end`."""
    parser = argparse.ArgumentParser(prog="python -m host.bench.end_to_end", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"(default: {SECONDS:g})")
    parser.add_argument(
        "--rate",
        type=int,
        default=RATE,
        metavar="ORDERS",
        help="orders a second; 0: what it takes (default: %(default)s)",
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help=f"(default: {FOLDER})")
    arguments = parser.parse_args()
    row, outcome = end_to_end_row(arguments.folder, arguments.seconds, arguments.rate)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    named = outcome.named() | {
        "peer": row.peer,
        "peer_orders_per_s": round(row.peer_value),
        "processors": os.cpu_count(),
    }
    (arguments.folder / "end_to_end.json").write_text(json.dumps(named, indent=2) + "\n")
    print(json.dumps(named, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
