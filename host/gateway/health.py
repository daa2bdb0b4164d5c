"""From measurements to states and weights of nodes: who is dead, and how much each of the others should get.

Nothing here reads a clock: all times are given, in ns, and equal calls give equal weights. Floating-point numbers end
here, in the integer weights that are journaled and that every machine computes the same table from.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from host.gateway.node_state import NEXT_STATES, SERVING, NodeState
from host.gateway.router import WEIGHT_LIMIT, WEIGHT_UNIT

SECOND = 1_000_000_000

_LONGEST_BACKOFF = 32
"""A node whose weight goes up and down waits at most so many dwell times before it is raised again."""


class HealthError(ValueError):
    """A node that is not known, or a state that it cannot go to from the one it is in."""


@dataclass(frozen=True)
class HealthRules:
    """How measurements become weights. Times are ns; ``floor``, ``ceiling``, ``step`` and ``threshold`` are parts of
    the configured weight.

    Smoothing: a measurement counts half after ``half_life``; a mean of fewer than ``evidence`` acknowledgements
    (decayed) says nothing, and a node of which nothing is known goes back to its configured weight.

    Comparison: a node's mean latency and its queue are held against the lower median of all active nodes. What is
    within a factor of ``tolerance`` of it is equal, and below ``latency_grain`` and ``queue_grain`` (orders, for a node
    of mean weight) all are. An error rate e takes ``error_cost`` × e away.

    Bounds: a weight stays between ``floor`` and ``ceiling`` and changes by at most ``step`` a second.

    Hysteresis: a weight begins to fall when it is too high by ``threshold``, to rise when it is too low by twice that
    (a node with less to do looks better) or when its node is as good as the others; then it goes all the way.
    ``dwell`` passes between two changes, and after each relapse twice as long, to 32 times, before it is raised.

    Death: ``missed_pings`` in a row, sent every ``ping_interval``, unless an acknowledgement came in that time;
    twice as many in any case. A joining node becomes active after ``joining_answers`` in a row.
    """

    half_life: int = SECOND // 2
    evidence: float = 16.0
    tolerance: float = 1.5
    latency_grain: int = 100_000
    queue_grain: float = 64.0
    error_cost: float = 8.0
    floor: float = 0.125
    ceiling: float = 1.5
    step: float = 0.25
    threshold: float = 0.2
    dwell: int = SECOND
    ping_interval: int = 10_000_000
    missed_pings: int = 5
    joining_answers: int = 10

    def __post_init__(self) -> None:
        for name in ("half_life", "dwell", "ping_interval", "missed_pings", "joining_answers", "latency_grain", "step"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")
        if not 0 < self.floor <= 1 <= self.ceiling <= 2:
            raise ValueError("floor is above 0 and at most 1, ceiling is 1 to 2: parts of the configured weight")
        if not self.tolerance >= 1:
            raise ValueError("tolerance is a factor of at least 1")
        if not 0 <= self.threshold < 1:
            raise ValueError("threshold is 0 to below 1: a part of the configured weight")
        if not (self.evidence > 0 and self.queue_grain > 0 and self.error_cost >= 0):
            raise ValueError("evidence and queue_grain must be above 0, error_cost not below")

    @property
    def detection(self) -> int:
        """Within so many ns of its last answer and acknowledgement a silent node is found dead."""
        return (self.missed_pings + 1) * self.ping_interval

    @property
    def latest_detection(self) -> int:
        """As :attr:`detection`, of a node that answers no ping though acknowledgements of it still come in."""
        return (2 * self.missed_pings + 1) * self.ping_interval


class _Smoothed:
    """What is known of one node: means in which a measurement counts half after the half-life."""

    __slots__ = ("_at", "_half_life", "_queued_at", "count", "depth", "errors", "latencies", "orders", "queue")

    def __init__(self, half_life: int, now: int) -> None:
        self._half_life = half_life
        self._at = self._queued_at = now
        self.count = self.latencies = self.orders = self.errors = 0.0
        self.depth = self.queue = 0.0

    def add(self, now: int, latency: int, orders: int, errors: int) -> None:
        self.decay(now)
        # The orders of one acknowledgement wait for the same thing: they are one measurement.
        self.count += 1
        self.latencies += latency
        self.orders += orders
        self.errors += errors

    def decay(self, now: int) -> None:
        if now > self._at:
            keeps = math.exp2((self._at - now) / self._half_life)
            self.count *= keeps
            self.latencies *= keeps
            self.orders *= keeps
            self.errors *= keeps
            self._at = now

    def set_depth(self, now: int, depth: float) -> None:
        """The depth holds until the next one: each counts by the time for which it held."""
        if now > self._queued_at:
            keeps = math.exp2((self._queued_at - now) / self._half_life)
            self.queue = self.queue * keeps + self.depth * (1 - keeps)
            self._queued_at = now
        self.depth = depth


class _Watched:
    """One node: its state, its weight as a share of the configured one, and what was heard of it."""

    __slots__ = (
        "answers",
        "awaiting",
        "backoff",
        "changed_at",
        "configured",
        "cut_at",
        "direction",
        "heard_at",
        "missed",
        "pinged_at",
        "raised",
        "share",
        "smoothed",
        "state",
    )

    def __init__(self, configured: int, state: NodeState, share: float, rules: HealthRules, now: int) -> None:
        self.configured = configured
        self.state = state
        self.share = share
        self.smoothed = _Smoothed(rules.half_life, now)
        self.direction = 0
        self.changed_at = now - rules.dwell
        self.cut_at = now
        self.raised = False
        self.backoff = 1
        self.heard_at: int | None = None
        self.pinged_at: int | None = None
        self.awaiting = False
        self.missed = self.answers = 0

    @property
    def weight(self) -> int:
        """For the router, in 1 / WEIGHT_UNIT."""
        if self.state is not NodeState.ACTIVE or not self.configured:
            return 0
        return max(1, round(self.configured * WEIGHT_UNIT * self.share))


class Health:
    """All nodes' states and weights, and the measurements that they follow from.

    Parameters: ``weights``, configured weights (0 to 65535) of the nodes that are there, ACTIVE from the beginning;
    ``now``, ns of any clock that only goes forward. Measurements are taken as they come; :meth:`decide` turns them into
    weights. A node that is never pinged never dies. Raises HealthError for nodes that are not known.
    """

    def __init__(self, weights: Mapping[int, int], rules: HealthRules | None = None, now: int = 0) -> None:
        self.rules = rules or HealthRules()
        self._nodes = {
            node: _Watched(_configured(node, weight), NodeState.ACTIVE, 1.0, self.rules, now)
            for node, weight in weights.items()
        }
        self._told = False

    @property
    def weights(self) -> dict[int, int]:
        """Every node's weight for the router (``Router.update``), in 1 / WEIGHT_UNIT; 0 unless it is ACTIVE."""
        return {node: watched.weight for node, watched in self._nodes.items()}

    @property
    def states(self) -> dict[int, NodeState]:
        """Every node's state."""
        return {node: watched.state for node, watched in self._nodes.items()}

    def serves(self, node: int) -> bool:
        """Whether a node applies orders: it is active or draining."""
        return self._of(node).state in SERVING

    def record(self) -> dict:
        """The control record that says all weights and states: what a router and a health made later go on from."""
        return {
            "type": "weights",
            "weights": {str(node): watched.weight for node, watched in sorted(self._nodes.items())},
            "states": {str(node): watched.state.value for node, watched in sorted(self._nodes.items())},
        }

    def follow(self, record: Mapping, now: int) -> None:
        """Goes on from a :meth:`record`: the nodes configured now have the state and the weight that it says.

        A node that was dead or joining is made anew with the gateway's others, from the journal, so it is active.
        """
        for name, state in record["states"].items():
            if (watched := self._nodes.get(int(name))) is None:
                continue
            if NodeState(state) in (NodeState.DRAINING, NodeState.DRAINED):
                watched.state = NodeState.DRAINING
            elif watched.configured and (weight := record["weights"][name]):
                share = weight / (watched.configured * WEIGHT_UNIT)
                watched.share = min(max(share, self.rules.floor), self.rules.ceiling)
            watched.changed_at = now

    def state_parts(self) -> dict[str, np.ndarray]:
        """What must survive, for a snapshot: the :meth:`record` as JSON (uint8)."""
        return {"weights": np.frombuffer(json.dumps(self.record(), sort_keys=True).encode(), np.uint8)}

    def load_parts(self, parts: Mapping[str, np.ndarray], now: int) -> None:
        """As :meth:`follow`, from :meth:`state_parts`."""
        self.follow(json.loads(np.asarray(parts["weights"]).tobytes()), now)

    # What is heard of nodes.

    def acknowledged(self, node: int, now: int, latency: int, orders: int = 1, errors: int = 0) -> None:
        """A node has acknowledged ``orders`` (at least 1) orders, ``latency`` ns after they were sent; ``errors`` of them failed for
        a cause of its own (no room, an internal fault), not for one in the order."""
        watched = self._of(node)
        watched.smoothed.add(now, latency, orders, errors)
        watched.heard_at = now

    def queued(self, node: int, now: int, depth: float) -> None:
        """From now on a node has ``depth`` orders before it that it has not acknowledged."""
        self._of(node).smoothed.set_depth(now, depth)

    def pinged(self, node: int, now: int) -> None:
        """A ping was sent. The one before it, if it is not answered by now, is missed.

        Pings are counted, not time: a gateway that was itself stopped for a while sent none. So take in what has
        arrived before sending one; one that comes after less than half the interval counts for nothing.
        """
        watched = self._of(node)
        if watched.pinged_at is not None and 2 * (now - watched.pinged_at) < self.rules.ping_interval:
            return
        watched.pinged_at = now
        if watched.awaiting:
            watched.missed += 1
            watched.answers = 0
        watched.awaiting = True

    def answered(self, node: int, now: int) -> None:
        """A ping's answer has come, this one's or an earlier one's."""
        watched = self._of(node)
        watched.awaiting = False
        watched.missed = 0
        watched.answers += 1

    # What is asked for.

    def join(self, node: int, weight: int, now: int) -> None:
        """A node made from the journal is there: an unknown one, or one that was drained or dead."""
        if node in self._nodes:
            self._to(node, NodeState.JOINING)
        self._nodes[node] = _Watched(_configured(node, weight), NodeState.JOINING, self.rules.floor, self.rules, now)
        self._told = True

    def drain(self, node: int) -> None:
        """Its instruments are to be moved away, so that it can be stopped."""
        self._to(node, NodeState.DRAINED if self._of(node).state is NodeState.JOINING else NodeState.DRAINING)

    def resume(self, node: int) -> None:
        """A draining node is to stay."""
        self._to(node, NodeState.ACTIVE)

    def emptied(self, node: int) -> None:
        """The last instrument of a draining node has been moved away."""
        self._to(node, NodeState.DRAINED)

    def died(self, node: int) -> None:
        """A node is known to be dead otherwise than by its silence: its process has ended."""
        self._to(node, NodeState.DEAD)

    # What follows.

    def decide(self, now: int) -> bool:
        """Judges all nodes; returns whether a weight or a state is another than at the last call."""
        before = self.weights
        changed, self._told = self._told, False
        for watched in self._nodes.values():
            if watched.state is not NodeState.DEAD and self._is_dead(watched, now):
                watched.state = NodeState.DEAD
                changed = True
            elif watched.state is NodeState.JOINING and watched.answers >= self.rules.joining_answers:
                watched.state = NodeState.ACTIVE
                watched.changed_at = now
                changed = True
        active = [watched for watched in self._nodes.values() if watched.state is NodeState.ACTIVE]
        for watched in active:
            watched.smoothed.decay(now)
            watched.smoothed.set_depth(now, watched.smoothed.depth)
        for watched, wanted in zip(active, self._wanted(active), strict=True):
            self._approach(watched, wanted, now)
        return changed or self.weights != before

    def _is_dead(self, watched: _Watched, now: int) -> bool:
        rules = self.rules
        if watched.missed < rules.missed_pings:
            return False
        silent = watched.heard_at is None or now - watched.heard_at >= rules.missed_pings * rules.ping_interval
        return silent or watched.missed >= 2 * rules.missed_pings

    def _wanted(self, active: list[_Watched]) -> list[float]:
        """The share of its configured weight that each node should have by what is known of it."""
        rules = self.rules
        known = [watched.smoothed.count >= rules.evidence for watched in active]
        latencies = [
            max(each.smoothed.latencies / each.smoothed.count, rules.latency_grain) if enough else None
            for each, enough in zip(active, known, strict=True)
        ]
        # A node gets orders by its weight, and so has a queue by its weight when all are equally quick.
        weighted = [each for each in active if each.configured]
        mean_weight = sum(each.configured for each in weighted) / max(len(weighted), 1)
        queues = [
            max(each.smoothed.queue / each.configured, rules.queue_grain / mean_weight) if each.configured else None
            for each in active
        ]
        wanted = []
        for index, each in enumerate(active):
            slowness = max(_ratio(latencies, index), _ratio(queues, index))
            share = 1.0
            if slowness > rules.tolerance:
                share = rules.tolerance / slowness
            elif slowness * rules.tolerance < 1 and known[index]:
                share = 1 / (slowness * rules.tolerance)
            if known[index]:
                share *= max(0.0, 1 - rules.error_cost * each.smoothed.errors / each.smoothed.orders)
            wanted.append(min(max(share, rules.floor), rules.ceiling))
        return wanted

    def _approach(self, watched: _Watched, wanted: float, now: int) -> None:
        """Moves a share towards what is wanted as far as bounds and hysteresis allow."""
        rules = self.rules
        gap = wanted - watched.share
        begins = watched.direction == 0
        if begins and not self._is_wrong(watched.share, wanted):
            return
        if not begins and gap * watched.direction <= 0:
            watched.direction = 0
            return
        waits = rules.dwell * (watched.backoff if begins and gap > 0 else 1)
        waited = now - watched.changed_at
        if waited < waits:
            return
        if begins and gap < 0:
            quiet = (now - watched.cut_at) // (_LONGEST_BACKOFF * rules.dwell)
            watched.backoff = max(1, watched.backoff >> min(quiet, 8))
            if watched.raised:
                watched.backoff = min(2 * watched.backoff, _LONGEST_BACKOFF)
            watched.raised = False
            watched.cut_at = now
        elif begins:
            watched.raised = True
        furthest = rules.step * min(waited, rules.dwell) / SECOND
        arrives = abs(gap) <= furthest
        watched.share = wanted if arrives else watched.share + math.copysign(furthest, gap)
        watched.direction = 0 if arrives else int(math.copysign(1, gap))
        watched.changed_at = now

    def _is_wrong(self, share: float, wanted: float) -> bool:
        """Whether a share that stands still is to be changed."""
        if wanted < share:
            return share - wanted >= self.rules.threshold
        return share < 1 <= wanted or wanted - share >= 2 * self.rules.threshold

    def _of(self, node: int) -> _Watched:
        try:
            return self._nodes[node]
        except KeyError:
            raise HealthError(f"node {node} is not known") from None

    def _to(self, node: int, state: NodeState) -> None:
        watched = self._of(node)
        if state not in NEXT_STATES[watched.state]:
            raise HealthError(f"node {node} is {watched.state.value}, which {state.value} cannot follow")
        watched.state = state
        self._told = True


def _configured(node: int, weight: int) -> int:
    if not 0 <= weight <= WEIGHT_LIMIT:
        raise ValueError(f"weight {weight} of node {node} is not between 0 and {WEIGHT_LIMIT}")
    return weight


def _ratio(values: list[float | None], index: int) -> float:
    """One value over the lower median of those there are; 1 where there is none."""
    value = values[index]
    return 1.0 if value is None else value / statistics.median_low([each for each in values if each is not None])
