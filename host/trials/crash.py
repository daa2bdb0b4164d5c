"""`python -m host.trials.crash`: `kill -9` of the gateway's processes at random moments under load.

The gateway runs as `tickgate serve` with a process for each module. This one reads the sessions' rings, as sessions do,
and kills one process after another, the supervisor too (then everything dies, and the command is given again). Meanwhile nodes
are drained and restored, so that books are on their way from one process to another when it happens.
At the end host/trials/checker.py compares the journal with what was sent and with what sessions got.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from host.compiled import compile_imports
from host.demo import DEMO_LIMITS
from host.gateway.batch_ring import BatchRing
from host.gateway.id_table import IdTable
from host.gateway.session_ring import open_session_rings
from host.gateway.state import GatewayState
from host.journal import newest_snapshot, read_journal
from host.journal.layout import segment_paths
from host.ring.records import RecordRings
from host.serve.balancer import DRAIN, RESTORE
from host.serve.config import MODULES, SESSIONS, load_config
from host.serve.control import ControlError, send
from host.serve.modules import BATCHES, make_nodes, make_risk, open_ids, read_hashes
from host.serve.status import Status
from host.trials.checker import client_order_id, frames_written, judge, shown
from host.trials.served import Served

SUPERVISOR = "supervisor"
VICTIMS = ("card", "risk", "journal", "nodes", "nodes-2", "snapshots", SUPERVISOR)
SEGMENT_BYTES, SNAPSHOT_SEGMENTS = 8 << 20, 2
"""Small ones, so that there are snapshots to begin from, and rotations to be killed in."""

IDLE_RATE = 1000
"""Orders a second while the follower has to come up with the journal."""

MOVES_PER_S = 40
"""So few that a node is being drained for as long as it takes to be killed."""

SERVING_LIMIT_S = 2.0
"""A killed gateway serves again in less."""

START_LIMIT_S = 300.0
"""The first start may compile."""

STALL_S = 0.1
"""A poll of ours that comes so late says that the machine stalled: then a restart's time proves nothing."""

GROUPS = [["card"], ["risk"], ["journal"], ["nodes"], ["nodes-2"], ["snapshots"]]


@dataclass(frozen=True)
class Kill:
    """One kill: of whom, after which the gateway served again, and how long the machine had stalled us meanwhile."""

    victim: str
    seconds: float
    stalled: float


@dataclass
class Result:
    """What came out: ``faults`` is empty if nothing was lost or done twice."""

    kills: list[Kill] = field(default_factory=list)
    sent: int = 0
    reports: int = 0
    moved: int = 0
    """Instruments whose books went from one process to another."""
    faults: list[str] = field(default_factory=list)


class Trial:
    """A gateway under load in ``folder``, and whoever kills it."""

    def __init__(
        self, folder: Path, *, rate: int, seed: int, lap_orders: int, client_order_ids: int = 1 << 20, before: int = 0
    ) -> None:
        self._random = Random(seed)
        self._before, self._rate = before, rate
        tables: dict[str, dict[str, Any]] = {
            "traffic": {"orders_per_s": 0 if before else rate},
            "processes": {"groups": GROUPS},
            "nodes": {"modules": 2},
            "health": {"moves_per_s": MOVES_PER_S},
            "journal": {"segment_bytes": SEGMENT_BYTES, "snapshot_segments": SNAPSHOT_SEGMENTS},
            "risk": {"client_order_ids": client_order_ids},
            # Nobody reads while we are stopped ourselves.
            "sessions": {"count": False, "patience_ms": 60_000},
        }
        self._served = Served(folder, lap_orders, seed, tables)
        self._sessions: RecordRings | None = None
        self._flows = np.unique(self._served.lap.frames["flow"]).tolist()
        self._told: list[np.ndarray] = []
        self._reports = 0
        self._drained: int | None = None
        self._looked = time.monotonic()
        self._stalled = 0.0

    def run(self, kills: int, show: bool) -> Result:
        """Start, kill so often, end and judge."""
        result = Result()
        compile_imports()
        with self._served:
            self._start(START_LIMIT_S)
            if self._before:
                self._fill()
            for number in range(kills):
                self._watch(0.05 + 0.4 * self._random.random())
                self._steer()
                self._watch(0.2 * self._random.random())
                victim = VICTIMS[number % len(VICTIMS)] if number < len(VICTIMS) else self._random.choice(VICTIMS)
                kill = self._kill(victim)
                result.kills.append(kill)
                if show:
                    print(f"{number + 1:4} {victim:<10} serves again after {kill.seconds:.3f} s", flush=True)
            self._watch(0.2)
            self._end()
            result.sent = frames_written(self._served.run_directory / "card")
            result.reports = self._reports
            result.faults = judge(self._served.journal, result.sent, self._identity, self._told)
            result.moved, differences = self._replay()
            result.faults += differences
        return result

    def _fill(self) -> None:
        """Have the orders that are to be there before the first kill come as fast as they go, and the follower, which that leaves
        behind, come up with them."""
        while self._journaled() < self._before:
            self._watch(0.1)
        for rate in (IDLE_RATE, self._rate):
            self._end()
            self._served.pace(rate)
            self._start(START_LIMIT_S)
            while self._segments_behind() > SNAPSHOT_SEGMENTS + 1:
                self._watch(0.1)

    def _steer(self) -> None:
        """Drain a node, or have the one that was drained come back."""
        if self._drained is None:
            self._drained = self._random.choice(sorted(DEMO_LIMITS.nodes))
            record = {"type": DRAIN, "node": self._drained}
        else:
            record = {"type": RESTORE, "node": self._drained}
            self._drained = None
        with contextlib.suppress(ControlError):  # it may be dead, or not yet back
            send(self._served.run_directory, record)

    def _replay(self) -> tuple[int, list[str]]:
        """How many instruments the journal moves between processes, and what differs from a gateway that reads it anew."""
        config = load_config(self._served.config)
        owner = {node: module for module, share in config.node_modules.items() for node in share}
        risk = make_risk(config, IdTable(config["risk.client_order_ids"]), before=0)
        state, moved = GatewayState(risk, make_nodes(config)), 0
        for batch in read_journal(self._served.journal):
            state.apply(batch)
            record = batch.control or {"type": None}
            if record["type"] == "move" and owner[record["from"]] != owner[record["to"]]:
                moved += len(record["instruments"])
        hashes = read_hashes(self._served.run_directory)
        differences = [
            f"node {number} is not as the journal makes it"
            for number, node in state.nodes.items()
            if hashes[str(number)] != node.state_hash()
        ]
        with BatchRing.open(self._served.run_directory / BATCHES) as batches:
            ids, kept = open_ids(config, batches)
        if not kept or not np.array_equal(ids.sorted(), risk.ids.sorted()):
            differences.append("the client order ids that risk remembers are not those of the journal")
        return moved, differences

    def _identity(self, number: int) -> tuple[int, bytes]:
        row = number % len(self._served.lap)
        return int(self._served.lap.frames["flow"][row]), client_order_id(
            self._served.lap.message(row, number // len(self._served.lap))
        )

    def _start(self, limit_s: float) -> None:
        (self._served.run_directory / "status").unlink(missing_ok=True)
        self._served.start()
        self._wait_until_serving({}, limit_s)

    def _kill(self, victim: str) -> Kill:
        before = self._pids()
        self._stalled = 0.0
        began = self._looked = time.monotonic()
        if victim == SUPERVISOR:
            self._served.process.kill()
            self._served.process.wait()
            self._start(START_LIMIT_S)
        else:
            os.kill(before[victim], signal.SIGKILL)
            self._wait_until_serving({victim: before[victim]}, START_LIMIT_S)
        # It serves when an order that came afterwards has been answered.
        reports = self._reports
        while self._reports == reports:
            self._watch(0.001)
        return Kill(victim, time.monotonic() - began, self._stalled)

    def _wait_until_serving(self, gone: dict[str, int], limit_s: float) -> None:
        """Until every module serves, those of ``gone`` in other processes than before."""
        end = time.monotonic() + limit_s
        while True:
            self._watch(0.001)
            pids = self._pids()
            if len(pids) == len(VICTIMS) - 1 and all(pids[each] != pid for each, pid in gone.items()):
                return
            if self._served.process.poll() is not None:
                raise RuntimeError(f"the gateway has ended: see {self._served.log}")
            if time.monotonic() > end:
                raise RuntimeError(f"the gateway does not serve after {limit_s:.0f} s: see {self._served.log}")

    def _segments_behind(self) -> int:
        """The segments that a restart reads."""
        newest = newest_snapshot(self._served.journal, verify=False)
        last, _ = segment_paths(self._served.journal)[-1]
        return last - (newest.position.segment if newest else 0)

    def _journaled(self) -> int:
        """The last durable order's sequence."""
        return int(Status(self._served.run_directory / "status").row("journal")["sequence"])

    def _pids(self) -> dict[str, int]:
        """The processes of the modules that serve."""
        try:
            status = Status(self._served.run_directory / "status")
        except (OSError, ValueError):
            return {}
        return {each: int(status.row(each)["pid"]) for each in MODULES if status.serves(each)}

    def _watch(self, seconds: float) -> None:
        """Read the sessions' rings for so long."""
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if now - self._looked > STALL_S:
                self._stalled += now - self._looked
            self._looked = now
            if self._sessions is None:
                # From the first report on: a session that does not read is sent no more.
                with contextlib.suppress(OSError, ValueError):
                    self._sessions = open_session_rings(self._served.run_directory / "sessions")
            if self._sessions is not None:
                for first in range(0, len(self._sessions), SESSIONS):
                    for flow in self._flows:
                        ring = self._sessions[first + flow]
                        records = ring.poll()
                        if len(records):
                            self._told.append(records.copy())
                            self._reports += len(records)
                            ring.release(len(records))
            if time.monotonic() >= end:
                return
            time.sleep(0.001)

    def _end(self) -> None:
        self._served.end()
        while self._served.process.poll() is None:
            self._watch(0.01)
        self._watch(0.01)
        if self._served.process.returncode:
            raise RuntimeError(f"the gateway ended with {self._served.process.returncode}: see {self._served.log}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m host.trials.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="(default: 100)")
    parser.add_argument("--rate", type=int, default=20_000, metavar="ORDERS", help="orders a second (default: 20000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of traffic and moments (default: 1)")
    parser.add_argument("--lap", type=int, default=5_000, metavar="ORDERS", help="orders of a lap (default: 5000)")
    parser.add_argument(
        "--before",
        type=int,
        default=0,
        metavar="ORDERS",
        help="orders in the journal before the first kill (default: 0)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build/crash"), metavar="DIR", help="(default: build/crash)"
    )
    arguments = parser.parse_args()
    trial = Trial(
        arguments.folder,
        rate=arguments.rate,
        seed=arguments.seed,
        lap_orders=arguments.lap,
        before=arguments.before,
        client_order_ids=(1 << 22) + arguments.before * 5 // 4,
    )
    result = trial.run(arguments.kills, show=True)
    by_victim = {victim: [each.seconds for each in result.kills if each.victim == victim] for victim in VICTIMS}
    for victim, seconds in by_victim.items():
        if seconds:
            print(
                f"{victim:<10} {len(seconds):3} kills  median {np.median(seconds):.3f} s  longest {max(seconds):.3f} s"
            )
    slow = [each for each in result.kills if each.seconds >= SERVING_LIMIT_S]
    unclear = [each for each in slow if each.stalled > 0]
    print(
        f"{result.sent:,} orders, {result.reports:,} reports, {len(result.kills)} kills, {result.moved:,} books moved between processes, "
        f"{len(result.faults)} faults"
    )
    print(
        f"{len(slow)} restarts took {SERVING_LIMIT_S:g} s or longer, in {len(unclear)} of them the machine stalled us"
    )
    if result.faults:
        print(shown(result.faults))
    return 1 if result.faults or len(slow) > len(unclear) else 0


if __name__ == "__main__":
    sys.exit(main())
