"""Which node gets an instrument: instrument → partition → nodes in order, a pure function of nodes and weights.

An instrument belongs for ever to one of 4096 partitions. For each partition every node draws a number h in (0, 1)
from a hash of node and partition, and the nodes stand in the order of -weight / ln(h), the largest first
(weighted rendezvous hashing: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005). The first is the
partition's node, each other one the stand-in of those before it. A node wins in proportion to its weight, and
whatever happens to one node moves only partitions from it or to it. Here the smallest -log2(h) / weight wins, which is
the same, in integers, so that every machine finds the same order.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

from host.cluster.node import NO_NODE
from host.cluster.order_key import mix
from host.gateway.notional import multiply

PARTITION_BITS = 12
PARTITIONS = 1 << PARTITION_BITS
"""Partitions of all instruments. A node's part of them misses its share s by a standard deviation of
sqrt(s (1 - s) / 4096), 0.7 % at most; what is computed anew when a weight changes is 4096 scores."""

WEIGHT_LIMIT = 65535
"""Largest weight that a node may be configured with."""

WEIGHT_UNIT = 256
"""What a configured weight of 1 counts, so that a node's weight can be lowered below that."""

LIVE_WEIGHT_LIMIT = 2 * WEIGHT_LIMIT * WEIGHT_UNIT
"""Largest weight of a running node, in 1 / WEIGHT_UNIT."""

_FRACTION_BITS = 32
"""Binary places of -log2(h)."""

_SCORE_SHIFT = 24
"""Places that division by a weight adds: 64 × 2^(32 + 24) is below 2^63."""

_NEVER = (1 << 63) - 1
"""The score of a node without weight."""

_RANKED_SINGLY = 8
"""Nodes that may change at once before sorting all is quicker."""

_U = np.uint64


@njit(cache=True, _nrt=False)
def _minus_log2(draw):
    """-log2(draw / 2^64) in 2^-32, for draw > 0, rounded up."""
    whole = 0
    while draw < _U(1 << 63):
        draw <<= _U(1)
        whole += 1
    # The draw is now a number from 1 to 2 with 63 places: each squaring gives one binary place of its logarithm.
    fraction = 0
    for _ in range(_FRACTION_BITS):
        high, _low = multiply(draw, draw)
        fraction <<= 1
        if high >= _U(1 << 63):
            fraction |= 1
            draw = high
        else:
            draw = high << _U(1) | _low >> _U(63)
    return ((whole + 1) << _FRACTION_BITS) - fraction


@njit(cache=True, _nrt=False)
def partition_of(instrument):
    """The partition of an instrument (uint64 code)."""
    return np.int64(mix(instrument + _U(0x9E3779B97F4A7C15)) >> _U(64 - PARTITION_BITS))


@njit(cache=True, _nrt=False)
def _draw(node, draws):
    """Writes what a node draws for every partition, -log2(h) in 2^-32; no weight changes it."""
    for partition in range(PARTITIONS):
        draw = mix(mix(_U(partition) + _U(0x9E3779B97F4A7C15)) ^ mix(_U(node + 1) * _U(0xD1B54A32D192ED03)))
        draws[partition, node] = _minus_log2(draw | _U(1))


@njit(cache=True, _nrt=False)
def _rank(node, weight, draws, scores, ranks, owners):
    """Gives a node's scores for a weight and puts it in its place in every partition's order; equal scores stand by
    node number."""
    last = ranks.shape[1] - 1
    for partition in range(PARTITIONS):
        bid = (draws[partition, node] << _SCORE_SHIFT) // weight if weight > 0 else np.int64(_NEVER)
        scores[partition, node] = bid
        order = ranks[partition]
        place = 0
        while order[place] != node:
            place += 1
        while place > 0:
            other = order[place - 1]
            if (scores[partition, other], other) < (bid, node):
                break
            order[place] = other
            place -= 1
        while place < last:
            other = order[place + 1]
            if (scores[partition, other], other) > (bid, node):
                break
            order[place] = other
            place += 1
        order[place] = node
        first = order[0]
        owners[partition] = first if scores[partition, first] != _NEVER else NO_NODE


@njit(cache=True, _nrt=False)
def assign_nodes(instruments, owners, nodes):
    """Writes the node of every instrument code to ``nodes``."""
    for index in range(instruments.shape[0]):
        nodes[index] = owners[partition_of(instruments[index])]


class Router:
    """Nodes, their weights, and the table of partitions that follows from them.

    Parameters: ``weights``, node number (0 to 254) to weight (0 to 65535); a node of weight 0 gets nothing.
    Attributes: ``weights``, int64, one a node number, in 1 / WEIGHT_UNIT; ``owners``, uint8, the node of every
    partition (NO_NODE when no node has a weight). Both are for reading.
    """

    def __init__(self, weights: Mapping[int, int]) -> None:
        for node, weight in weights.items():
            if not 0 <= weight <= WEIGHT_LIMIT:
                raise ValueError(f"weight {weight} of node {node} is not between 0 and {WEIGHT_LIMIT}")
        self.weights = np.zeros(0, np.int64)
        self.owners = np.full(PARTITIONS, NO_NODE, np.uint8)
        self._draws = np.zeros((PARTITIONS, 0), np.int64)
        self._scores = np.zeros((PARTITIONS, 0), np.int64)
        self._ranks = np.zeros((PARTITIONS, 0), np.uint8)
        self.update({node: weight * WEIGHT_UNIT for node, weight in weights.items()})

    def update(self, weights: Mapping[int, int]) -> None:
        """Changes the weights of some nodes, known ones or new ones; 0 takes a node out.

        ``weights`` are in 1 / WEIGHT_UNIT. Only the changed nodes' scores are computed anew: 4096 for each.
        Raises ValueError, and changes nothing, for a node number or weight out of range.
        """
        for node, weight in weights.items():
            if not 0 <= node < NO_NODE:
                raise ValueError(f"node number {node} is not between 0 and {NO_NODE - 1}")
            if not 0 <= weight <= LIVE_WEIGHT_LIMIT:
                raise ValueError(f"weight {weight} of node {node} is not between 0 and {LIVE_WEIGHT_LIMIT}")
        self._make_room(max(weights, default=-1) + 1)
        changed = [node for node, weight in weights.items() if weight != self.weights[node]]
        for node in changed:
            self.weights[node] = weights[node]
            if len(changed) <= _RANKED_SINGLY:
                _rank(node, weights[node], self._draws, self._scores, self._ranks, self.owners)
        if len(changed) > _RANKED_SINGLY:
            self._rank_all()

    def partition(self, instrument: int) -> int:
        """The partition (0 to 4095) of an instrument, the frame's 64-bit code. It depends on nothing else."""
        return int(partition_of(_U(instrument)))

    def node(self, instrument: int) -> int:
        """The node of an instrument, NO_NODE when no node has a weight."""
        return int(self.owners[self.partition(instrument)])

    def order(self, instrument: int) -> list[int]:
        """All nodes that may get the instrument, the best first: each is the stand-in of those before it."""
        return self.partition_order(self.partition(instrument))

    def partition_order(self, partition: int) -> list[int]:
        """As :meth:`order`, of a partition."""
        return [node for node in self._ranks[partition].tolist() if self.weights[node] > 0]

    def assign(self, instruments: np.ndarray, nodes: np.ndarray) -> None:
        """Writes :meth:`node` of every instrument code (uint64) to ``nodes`` (uint8)."""
        assign_nodes(instruments, self.owners, nodes)

    def _rank_all(self) -> None:
        divisors = np.maximum(self.weights, 1)
        self._scores[:] = np.where(self.weights > 0, (self._draws << _SCORE_SHIFT) // divisors, _NEVER)
        self._ranks[:] = np.argsort(self._scores, axis=1, kind="stable")
        self.owners[:] = self._ranks[:, 0] if self.weights.any() else NO_NODE

    def _make_room(self, nodes: int) -> None:
        """Makes the tables wide enough for so many node numbers; new ones stand last, without weight."""
        known = len(self.weights)
        if nodes <= known:
            return
        self.weights = np.concatenate([self.weights, np.zeros(nodes - known, np.int64)])
        self._draws, self._scores, self._ranks = (
            np.ascontiguousarray(np.pad(table, ((0, 0), (0, nodes - known)), constant_values=filling))
            for table, filling in ((self._draws, 0), (self._scores, _NEVER), (self._ranks, 0))
        )
        for node in range(known, nodes):
            _draw(node, self._draws)
            self._ranks[:, node] = node
