"""The router's table after one node's weight has changed, beside the same table in plain Python."""

import itertools
import math

from host.bench.measure import Row, compare, timed
from host.gateway.router import PARTITIONS, WEIGHT_UNIT, Router

NODES = 16


def recompute_row() -> Row:
    """Changed nodes a second, of 16 over 4096 partitions; the peer too computes only the changed node's scores anew."""
    weights = {node: 1 + node % 3 for node in range(NODES)}
    router = Router(weights)
    changes = itertools.cycle(
        (node, weights[node] * WEIGHT_UNIT * percent // 100) for percent in (80, 100) for node in range(NODES)
    )

    def compiled() -> int:
        for _ in range(NODES):
            node, weight = next(changes)
            router.update({node: weight})
        return NODES

    draws = [[_draw(node, partition) for node in range(NODES)] for partition in range(PARTITIONS)]
    scores = [[draw / weights[node] for node, draw in enumerate(row)] for row in draws]
    plain_changes = itertools.cycle((node, weights[node] * factor) for factor in (0.8, 1.0) for node in range(NODES))

    def plain() -> int:
        node, weight = next(plain_changes)
        for row, drawn in zip(scores, draws, strict=True):
            row[node] = drawn[node] / weight
        _ranks = [sorted(range(NODES), key=row.__getitem__) for row in scores]
        return 1

    return compare("router.recompute.nodes_per_s", "changed nodes/s", timed(compiled), "plain Python", timed(plain))


def _draw(node: int, partition: int) -> float:
    """As the router's, with Python's own hash of a pair."""
    return -math.log2((hash((node, partition)) % (1 << 61) + 1) / (1 << 61))
