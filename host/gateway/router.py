"""Which node gets an instrument: weighted rendezvous hashing, a pure function of instrument, nodes and weights.

Each node draws a number h in (0, 1) from a hash of node and instrument, and the node with the largest
-weight / ln(h) wins (Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005). A node wins in
proportion to its weight, and whatever happens to one node moves only instruments from it or to it. Here the
smallest -log2(h) / weight wins, which is the same, in integers, so that every machine finds the same node.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

from host.cluster.node import NO_NODE
from host.cluster.order_key import mix
from host.gateway.notional import multiply

WEIGHT_LIMIT = 65535
"""Largest weight of a node."""

_FRACTION_BITS = 32
"""Binary places of -log2(h)."""

_SCORE_SHIFT = 24
"""Places that division by a weight adds: 64 × 2^(32 + 24) is below 2^63."""

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
def score(node, weight, instrument):
    """A node's bid for an instrument (uint64 code): the smallest wins. ``weight`` is at least 1."""
    draw = mix(mix(instrument + _U(0x9E3779B97F4A7C15)) ^ mix(_U(node + 1) * _U(0xD1B54A32D192ED03)))
    return (_minus_log2(draw | _U(1)) << _SCORE_SHIFT) // weight


@njit(cache=True, _nrt=False)
def best_node(instrument, weights):
    """The node for an instrument, NO_NODE when all weights are 0. ``weights``: int64, one a node number."""
    best, best_score = NO_NODE, 0
    for node in range(weights.shape[0]):
        if weights[node] > 0:
            bid = score(node, weights[node], instrument)
            if best == NO_NODE or bid < best_score:
                best, best_score = node, bid
    return best


@njit(cache=True, _nrt=False)
def assign_nodes(instruments, weights, nodes):
    """Writes the node of every instrument code to ``nodes``."""
    for index in range(instruments.shape[0]):
        nodes[index] = best_node(instruments[index], weights)


class Router:
    """Nodes and their weights.

    Parameters: ``weights``, node number (0 to 254) to weight (0 to 65535); a node of weight 0 gets nothing.
    """

    def __init__(self, weights: Mapping[int, int]) -> None:
        for node, weight in weights.items():
            if not 0 <= node < NO_NODE:
                raise ValueError(f"node number {node} is not between 0 and {NO_NODE - 1}")
            if not 0 <= weight <= WEIGHT_LIMIT:
                raise ValueError(f"weight {weight} of node {node} is not between 0 and {WEIGHT_LIMIT}")
        self.weights = np.zeros(max(weights, default=-1) + 1, np.int64)
        for node, weight in weights.items():
            self.weights[node] = weight

    def node(self, instrument: int) -> int:
        """The node of an instrument (the frame's 64-bit code), NO_NODE when no node has a weight."""
        return int(best_node(_U(instrument), self.weights))

    def order(self, instrument: int) -> list[int]:
        """All nodes that may get the instrument, the best first: each is the next one's stand-in."""
        bids = [
            (int(score(node, weight, _U(instrument))), node) for node, weight in enumerate(self.weights) if weight > 0
        ]
        return [node for _, node in sorted(bids)]

    def assign(self, instruments: np.ndarray, nodes: np.ndarray) -> None:
        """Writes :meth:`node` of every instrument code (uint64) to ``nodes`` (uint8)."""
        assign_nodes(instruments, self.weights, nodes)
