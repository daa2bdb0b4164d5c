"""What is measured of the modules of nodes becomes weights, and weights become moves: the control records that say so.

Health (host/gateway/health.py) judges, the router says where books should be, and each step gives at most one record, which
takes effect between two orders and is journaled, so that every replay carries the same books at the same places.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.cluster.node import NO_NODE
from host.gateway.batch_ring import JOURNAL, BatchRing
from host.gateway.health import SECOND, Health, HealthRules
from host.gateway.moves import STEPS_PER_SECOND, plan_moves
from host.gateway.node_state import NodeState
from host.gateway.risk import Risk
from host.serve.config import Config
from host.serve.status import Status

DRAIN, RESTORE = "drain", "restore"
"""Records from outside that are for the balancer; what is journaled is the "weights" record that comes of them."""

NODES = "nodes.json"
"""The file of the run directory with the last "weights" record."""

LOOK_NS = SECOND // 10
"""Between two looks at what modules have counted, which are as many pings: they count twice as often."""

STEP_NS = SECOND // STEPS_PER_SECOND

MOST_MEASURED = 64
"""So many batches of one look say all there is to be known of it."""

_MS, _US, _PERCENT = 1_000_000, 1000, 100


def health_rules(config: Config) -> HealthRules:
    """The rules of the table [health]. Raises ValueError for some that do not fit together."""
    of = {name: config[f"health.{name}"] for table, name in config.values if table == "health"}
    return HealthRules(
        half_life=of["half_life_ms"] * _MS,
        tolerance=of["tolerance_percent"] / _PERCENT,
        latency_grain=of["latency_grain_us"] * _US,
        queue_grain=of["queue_grain"],
        error_cost=of["error_cost"],
        floor=of["floor_percent"] / _PERCENT,
        ceiling=of["ceiling_percent"] / _PERCENT,
        step=of["step_percent"] / _PERCENT,
        threshold=of["threshold_percent"] / _PERCENT,
        dwell=of["dwell_ms"] * _MS,
        ping_interval=LOOK_NS,
        missed_pings=-(-of["dead_ms"] * _MS // LOOK_NS),
    )


@dataclass
class _Seen:
    """What a module's row said at the last look."""

    starts: int
    batches: int
    latency_ns: int
    beat_ns: int
    serves: bool = False
    """Whether it has served ever: until then nobody asks whether it lives."""


class Balancer:
    """Parameters: ``risk``, brought to where the journal and the ring are; ``now``, CLOCK_MONOTONIC in ns, as of all steps.
    Attribute: ``moved``, instruments moved so far."""

    def __init__(self, config: Config, risk: Risk, batches: BatchRing, status: Status, now: int) -> None:
        self.moved = 0
        self._config = config
        self._risk = risk
        self._ring = batches.ring
        self._status = status
        self._health = Health(config.limits.nodes, health_rules(config), now)
        self._told: Mapping[str, Any] = self._health.record()
        if risk.weights_record is not None:
            self._told = risk.weights_record
            self._health.follow(self._told, now)
        self._seen = {module: self._look(module) for module in config.node_modules}
        self._looked = self._stepped = now
        self._rate = config["health.moves_per_s"]
        self._allowance = 0.0
        self._owners = np.zeros(0, np.uint8)
        self._targets = np.zeros(0, np.uint8)
        self._refused: set[tuple[int, int]] = set()
        self._left: dict[int, int] = {}
        self._write()

    @property
    def moves_books(self) -> bool:
        """Whether books follow the weights; otherwise only new instruments do."""
        return self._rate > 0

    def ask(self, record: Mapping[str, Any], now: int) -> Mapping[str, Any]:
        """What comes of a "drain" or "restore": the record to be journaled. Raises ValueError where that cannot be."""
        kind, node, states = record["type"], record.get("node"), self._health.states
        if not isinstance(node, int) or isinstance(node, bool) or node not in states:
            raise ValueError(f"{kind}: {node!r} is none of the nodes {', '.join(map(str, sorted(states)))}")
        others = [each for each, state in states.items() if state is NodeState.ACTIVE and each != node]
        if kind == DRAIN:
            if not any(self._config.limits.nodes[each] for each in others):
                raise ValueError(f"drain: there is no other node that could take what node {node} has")
            self._health.drain(node)
        elif states[node] is NodeState.DRAINING:
            self._health.resume(node)
        else:
            self._health.join(node, self._config.limits.nodes[node], now)
        return self._tell()

    def is_due(self, now: int) -> bool:
        """Whether a step would look at anything."""
        return now - self._stepped >= STEP_NS

    def step(self, now: int) -> Mapping[str, Any] | None:
        """The next record that is due, to be applied before the next step; None where there is none."""
        if not self.is_due(now):
            return None
        self._allowance += self._rate * (now - self._stepped) / SECOND
        self._allowance = min(self._allowance, max(1.0, self._rate / STEPS_PER_SECOND))
        self._stepped = now
        if now - self._looked >= LOOK_NS:
            self._looked = now
            for module, nodes in self._config.node_modules.items():
                self._measure(module, nodes, now)
            self._health.decide(now)
            if self._health.record() != self._told:
                return self._tell()
        return self._move()

    def refuse(self, record: Mapping[str, Any]) -> None:
        """A move cannot be: it is not tried again until the router's table changes."""
        self._refused.update((instrument, record["to"]) for instrument in record["instruments"])
        self.moved -= len(record["instruments"])

    def _tell(self) -> Mapping[str, Any]:
        self._told = self._health.record()
        self._write()
        return self._told

    def _write(self) -> None:
        path = self._config.run / NODES
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self._told))
        new.rename(path)

    def _look(self, module: str) -> _Seen:
        row = self._status.row(module)
        return _Seen(int(row["starts"]), int(row["batches"]), int(row["latency_ns"]), int(row["beat_ns"]))

    def _measure(self, module: str, nodes: tuple[int, ...], now: int) -> None:
        """Tells health what has become of a module since the last look. Its nodes take turns in one thread: what is true of it is true of
        each of them."""
        health, before, seen = self._health, self._seen[module], self._look(module)
        self._seen[module] = seen
        seen.serves = before.serves or self._status.serves(module)
        waiting = self._waiting(1 + list(self._config.node_modules).index(module))
        weights = self._config.limits.nodes
        for node in nodes:
            health.queued(node, now, waiting * weights[node] / max(sum(weights.values()), 1))
            if seen.starts > before.starts and before.serves:
                # It has died, and what came meanwhile has waited since its last sign of life.
                health.acknowledged(node, now, max(now - before.beat_ns, 0), errors=1)
        if seen.starts > before.starts:
            before.latency_ns = 0
        if (done := seen.batches - before.batches) > 0:
            latency = max(seen.latency_ns - before.latency_ns, 0) // done
            for node in nodes:
                for _ in range(min(done, MOST_MEASURED)):
                    health.acknowledged(node, now, latency)
        else:
            seen.latency_ns, seen.batches = before.latency_ns, before.batches
        if not seen.serves:
            return
        for node in nodes:
            if self._status.serves(module) and seen.beat_ns > before.beat_ns:
                if health.states[node] is NodeState.DEAD:
                    health.join(node, weights[node], now)
                health.answered(node, now)
            health.pinged(node, now)

    def _waiting(self, reader: int) -> int:
        """Orders of durable batches that a module is not done with."""
        ring = self._ring
        slots = [number % ring.slots for number in range(ring.cursor(reader), ring.cursor(JOURNAL))]
        return int(ring.records["count"][slots].sum())

    def _move(self) -> Mapping[str, Any] | None:
        router, instruments = self._risk.router, self._risk.state.instruments
        if router is None:
            return None
        if len(self._targets) != len(instruments) or not np.array_equal(self._owners, router.owners):
            self._owners = router.owners.copy()
            self._targets = np.zeros(len(instruments), np.uint8)
            router.assign(np.ascontiguousarray(instruments["code"]), self._targets)
            self._refused.clear()
        holders = np.ascontiguousarray(instruments["node"])
        self._empty(holders)
        if self._allowance < 1 or np.array_equal(holders, self._targets):
            return None
        away = self._away()
        targets = np.where(np.isin(holders, away) | np.isin(self._targets, away), NO_NODE, self._targets)
        for row in np.flatnonzero(targets != holders) if self._refused else ():
            if (int(instruments["code"][row]), int(targets[row])) in self._refused:
                targets[row] = NO_NODE
        moves = plan_moves(instruments["code"], holders, targets, int(self._allowance))
        if not moves:
            return None
        count = len(moves[0].instruments)
        self._allowance -= count
        self.moved += count
        return moves[0].record()

    def _away(self) -> list[int]:
        """Nodes whose modules do not run: nobody could hand their books over, or take some."""
        dead = {node for node, state in self._health.states.items() if state is NodeState.DEAD}
        return sorted(
            dead
            | {
                node
                for module, its in self._config.node_modules.items()
                for node in its
                if not self._status.serves(module)
            }
        )

    def _empty(self, holders: np.ndarray) -> None:
        """A draining node is drained when every module is behind the last move from it."""
        for node, state in self._health.states.items():
            if state is not NodeState.DRAINING or np.any(holders == node):
                self._left.pop(node, None)
            elif self._ring.least_cursor() >= self._left.setdefault(node, self._ring.written()):
                self._health.emptied(node)


def read_nodes(run: Path) -> dict[str, dict[str, Any]]:
    """State and weight (a part of the configured one's 256) of each node of a gateway that runs; empty where none has said so yet."""
    try:
        record = json.loads((run / NODES).read_text())
    except (OSError, ValueError):
        return {}
    return {node: {"state": state, "weight": record["weights"][node]} for node, state in record["states"].items()}
