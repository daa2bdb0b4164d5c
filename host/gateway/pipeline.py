"""The way of an order through the gateway: risk and route, journal, nodes, reports."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from host.cluster.matching_node import MatchingNode
from host.gateway.risk import Risk
from host.gateway.router import Router
from host.gateway.state import GatewayState, NodesState, recover
from host.gateway.summary import Summary
from host.gateway.verdict import Verdict
from host.journal import BatchBuffer, Journal
from host.journal.batch import BATCH_FRAMES, DECISION_DTYPE, Batch
from host.journal.layout import batch_bytes


class GatewayError(Exception):
    """The gateway and what it drives do not fit together, or have come apart."""


@dataclass(frozen=True)
class Reconciliation:
    """Whether the journal, read again, gives what was counted and what the nodes hold. ``differences`` says what
    does not."""

    journaled: int
    accepted: int
    applied: int
    node_hashes: dict[int, str]
    differences: list[str] = field(default_factory=list)

    @property
    def closes(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


class Gateway:
    """Takes slices of the ring and sees every order in them through.

    An order that passes risk is written to the journal and made durable before any node sees it. Journaled are all
    order frames, the rejected ones with their verdict; market data, session and malformed frames are counted only.
    A journal that holds orders already is replayed into ``risk`` and ``nodes`` first, from its newest snapshot on; they must be
    new. Where it has limits, these are in force.

    Parameters: ``nodes``, one for each node number to which ``router`` gives a weight; ``on_reports``, called with
    the reports (``REPORT_DTYPE``) of each batch and node, which hold until it returns; ``batch_frames``, most orders
    made durable together.

    Raises GatewayError when a node is missing or the nodes did not apply exactly what was accepted; what the journal
    raises passes through. After an error the gateway is to be made anew from its journal.
    """

    def __init__(
        self,
        risk: Risk,
        router: Router,
        journal: Journal,
        nodes: Sequence[MatchingNode],
        *,
        on_reports: Callable[[np.ndarray], None] | None = None,
        batch_frames: int = BATCH_FRAMES,
    ) -> None:
        self.summary = Summary()
        self.recovered = 0
        self._risk = risk
        self._journal = journal
        self._state = GatewayState(risk, nodes)
        self._nodes = self._state.nodes
        self._on_reports = on_reports
        self._buffer = BatchBuffer(batch_frames)
        if batch_bytes(batch_frames, self._buffer.payload_room) > journal.batch_limit:
            raise GatewayError(f"batches of {batch_frames} orders do not fit the journal's segments")
        self._decisions = np.zeros(batch_frames, DECISION_DTYPE)
        missing = [number for number in np.flatnonzero(router.weights).tolist() if number not in self._nodes]
        if missing:
            raise GatewayError(f"the router knows node {missing[0]}, the gateway does not")
        risk.route(router)
        if journal.recovered:
            _, position = recover(self._state, journal.directory, journal.position.batch)
            self.recovered = position.sequence - 1

    def process(self, frames: np.ndarray, payload: np.ndarray) -> Summary:
        """Sees a slice of the ring through and returns what that added to ``summary``.

        ``frames`` has FRAME_DTYPE, ``payload`` is the whole payload ring (uint8). When it returns, every accepted
        order is durable and applied, and no reference to either array is kept.
        """
        step = Summary()
        counters = self._risk.state.counters[0]
        before = [counters[name].copy() for name in ("verdicts", "kinds", "causes")]
        room = len(self._decisions)
        for begin in range(0, len(frames), room):
            part = frames[begin : begin + room]
            self._risk.decide(part, payload, self._decisions)
            taken = self._buffer.take(part, payload, self._decisions, notes=self._risk.notes)
            while taken < len(part):
                self._flush(step)
                taken = self._buffer.take(part, payload, self._decisions, taken, self._risk.notes)
        self._flush(step)
        step.frames = len(frames)
        step.verdicts = counters["verdicts"] - before[0]
        step.kinds = counters["kinds"] - before[1]
        step.causes = counters["causes"] - before[2]
        self.summary = self.summary + step
        return step

    def reconcile(self, make_node: Callable[[int], MatchingNode]) -> Reconciliation:
        """Reads the journal again, replays it into new nodes, from its newest snapshot on, and compares them with the live ones.

        ``make_node`` gives an empty node of a number, with the same limits as the live one.
        """
        replay = _Replay([make_node(number) for number in self._nodes])
        _, position = recover(replay, self._journal.directory, self._journal.committed.batch)
        fresh, journaled, accepted = replay.nodes, position.sequence - 1, replay.accepted
        differences = []
        live_applied = sum(node.applied for node in self._nodes.values())
        for name, found, expected in (
            ("orders in the journal", journaled, self.recovered + self.summary.accepted + self.summary.rejected),
            ("accepted orders applied by the nodes", live_applied, accepted),
            ("accepted orders applied again", sum(node.applied for node in fresh.values()), accepted),
        ):
            if found != expected:
                differences.append(f"{name}: {found}, expected {expected}")
        hashes = {number: node.state_hash() for number, node in self._nodes.items()}
        for number, node in fresh.items():
            if node.state_hash() != hashes[number]:
                differences.append(f"node {number}: replaying the journal gives another state")
            if node.trades != self._nodes[number].trades:
                differences.append(
                    f"node {number}: {node.trades} trades in the replay, {self._nodes[number].trades} live"
                )
        return Reconciliation(journaled, accepted, live_applied, hashes, differences)

    def _flush(self, step: Summary) -> None:
        """Makes what was gathered durable, then lets the nodes apply it."""
        if not len(self._buffer):
            return
        written = self._journal.written_bytes
        batch = self._journal.append(self._buffer)
        self._journal.commit()
        step.batches += 1
        step.journaled += len(batch)
        step.journal_bytes += self._journal.written_bytes - written
        applied = 0
        for number, node in self._nodes.items():
            orders, trades = node.applied, node.trades
            reports = node.apply(batch)
            step.node_orders[number] += node.applied - orders
            step.node_trades[number] += node.trades - trades
            applied += node.applied - orders
            if len(reports):
                self._risk.settle(reports)
                step.reports += np.bincount(reports["kind"], minlength=len(step.reports))
                if self._on_reports:
                    self._on_reports(reports)
        if applied != _accepted(batch):
            raise GatewayError(f"batch {batch.number}: {_accepted(batch)} orders accepted, {applied} applied")
        self._buffer.clear()


class _Replay(NodesState):
    """Nodes that the journal is replayed into, and how many orders it says they were given."""

    def __init__(self, nodes: Iterable[MatchingNode]) -> None:
        super().__init__(nodes)
        self.accepted = 0

    def apply(self, batch: Batch) -> None:
        self.accepted += _accepted(batch)
        super().apply(batch)

    def load(self, parts: Mapping[str, np.ndarray]) -> None:
        super().load(parts)
        self.accepted = sum(node.applied for node in self.nodes.values())


def _accepted(batch: Batch) -> int:
    return int(np.count_nonzero(batch.decisions["verdict"] == Verdict.ACCEPTED))
