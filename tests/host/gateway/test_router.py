"""Rendezvous hashing: shares follow weights, and a change moves only what it must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.cluster.node import NO_NODE
from host.gateway import Router
from host.gateway.router import _minus_log2

CODES = np.random.default_rng(5).integers(0, 1 << 63, 20_000).astype(np.uint64)


def nodes_of(router: Router) -> np.ndarray:
    nodes = np.zeros(len(CODES), np.uint8)
    router.assign(CODES, nodes)
    return nodes


def test_shares_follow_weights() -> None:
    nodes = nodes_of(Router({0: 1, 1: 2, 7: 5}))
    for node, share in ((0, 1 / 8), (1, 2 / 8), (7, 5 / 8)):
        assert abs(np.mean(nodes == node) - share) < 0.015


def test_removing_a_node_moves_only_its_instruments_each_to_its_stand_in() -> None:
    whole = Router({0: 3, 1: 2, 2: 2, 3: 1})
    before, after = nodes_of(whole), nodes_of(Router({0: 3, 1: 0, 2: 2, 3: 1}))
    assert (before[before != after] == 1).all()
    for code in CODES[before == 1][:100]:
        assert whole.order(int(code))[:2] == [1, Router({0: 3, 2: 2, 3: 1}).node(int(code))]


def test_more_weight_only_draws_instruments_to_the_node() -> None:
    before, after = nodes_of(Router({0: 2, 1: 2, 2: 2})), nodes_of(Router({0: 2, 1: 3, 2: 2}))
    moved = before != after
    assert (after[moved] == 1).all()
    assert 0.05 < moved.mean() < 0.15


def test_similar_symbols_spread_too() -> None:
    codes = np.arange(20_000, dtype=np.uint64)
    nodes = np.zeros(len(codes), np.uint8)
    Router({0: 1, 1: 1, 2: 1, 3: 1}).assign(codes, nodes)
    assert np.bincount(nodes).min() > 4700


def test_the_choice_never_changes_between_versions() -> None:
    router = Router({0: 1, 1: 2, 2: 3, 3: 4})
    assert [router.node(code) for code in range(16)] == [3, 3, 1, 1, 3, 1, 2, 3, 3, 3, 3, 0, 2, 3, 2, 1]


@settings(deadline=None)  # the first call compiles
@given(st.integers(1, (1 << 64) - 1))
def test_the_logarithm_is_a_logarithm(draw: int) -> None:
    assert int(_minus_log2(np.uint64(draw))) / 2**32 == pytest.approx(64 - math.log2(draw), abs=1e-8)


def test_nothing_to_route_to() -> None:
    assert Router({}).node(1) == NO_NODE
    assert Router({0: 0}).node(1) == NO_NODE
    assert Router({0: 0}).order(1) == []
    with pytest.raises(ValueError, match="255"):
        Router({255: 1})
    with pytest.raises(ValueError, match="weight"):
        Router({1: 65536})
