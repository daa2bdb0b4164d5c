"""Rendezvous hashing: shares follow weights, and a change moves only what it must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.cluster.node import NO_NODE
from host.gateway import Router
from host.gateway.router import LIVE_WEIGHT_LIMIT, PARTITIONS, WEIGHT_UNIT, _minus_log2

CODES = np.random.default_rng(5).integers(0, 1 << 63, 20_000).astype(np.uint64)

WEIGHTS = st.dictionaries(st.integers(0, 11), st.integers(0, 4 * WEIGHT_UNIT), min_size=1, max_size=8)


def nodes_of(router: Router) -> np.ndarray:
    nodes = np.zeros(len(CODES), np.uint8)
    router.assign(CODES, nodes)
    return nodes


def running(weights: dict[int, int]) -> Router:
    """A router with these weights in 1 / WEIGHT_UNIT."""
    router = Router({})
    router.update(weights)
    return router


def test_shares_follow_weights() -> None:
    # Five standard deviations of a binomial share of 4096 partitions; the draws are fixed, so this cannot flicker.
    owners = Router({0: 1, 1: 2, 7: 5}).owners
    for node, share in ((0, 1 / 8), (1, 2 / 8), (7, 5 / 8)):
        assert abs(np.mean(owners == node) - share) < 5 * math.sqrt(share * (1 - share) / PARTITIONS)


@pytest.mark.parametrize("nodes", [2, 3, 5, 16, 100])
def test_partitions_are_spread_as_chi_square_allows(nodes: int) -> None:
    weights = {node: 1 + node % 4 for node in range(nodes)}
    counts = np.bincount(Router(weights).owners, minlength=nodes)
    expected = PARTITIONS * np.array(list(weights.values())) / sum(weights.values())
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # Wilson and Hilferty: the 0.9999 quantile of chi-square.
    degrees = nodes - 1
    assert statistic < degrees * (1 - 2 / (9 * degrees) + 3.72 * math.sqrt(2 / (9 * degrees))) ** 3


def test_an_instrument_stays_in_its_partition_whatever_the_nodes() -> None:
    one, other = Router({0: 1}), Router({3: 7, 9: 1})
    assert all(one.partition(int(code)) == other.partition(int(code)) for code in CODES[:1000])


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


@settings(deadline=None, max_examples=200)
@given(WEIGHTS, st.data())
def test_a_change_of_one_node_moves_only_from_it_or_to_it(weights: dict[int, int], data: st.DataObject) -> None:
    node = data.draw(st.sampled_from(sorted(weights)))
    weight = data.draw(st.integers(0, 4 * WEIGHT_UNIT))
    router = running(weights)
    before = router.owners.copy()
    router.update({node: weight})
    moved = router.owners != before
    if weight >= weights[node]:
        assert (router.owners[moved] == node).all()
    else:
        assert (before[moved] == node).all()
        unchanged = running(weights)
        for partition in np.flatnonzero(moved)[:20].tolist():
            assert router.owners[partition] == (*unchanged.partition_order(partition), NO_NODE)[1]


@settings(deadline=None, max_examples=100)
@given(st.lists(WEIGHTS, min_size=1, max_size=6))
def test_the_table_depends_on_the_weights_and_not_on_how_they_came_about(changes: list[dict[int, int]]) -> None:
    router = Router({})
    for change in changes:
        router.update(change)
    anew = running({node: int(weight) for node, weight in enumerate(router.weights) if weight})
    assert router.owners.tolist() == anew.owners.tolist()
    assert [router.partition_order(part) for part in range(0, PARTITIONS, 17)] == [
        anew.partition_order(part) for part in range(0, PARTITIONS, 17)
    ]


def test_weights_count_relative_to_each_other() -> None:
    assert Router({0: 1, 1: 2, 2: 3}).owners.tolist() == running({0: 256, 1: 512, 2: 768}).owners.tolist()
    assert Router({0: 1, 1: 2}).owners.tolist() == Router({0: 100, 1: 200}).owners.tolist()


def test_similar_symbols_spread_too() -> None:
    codes = np.arange(20_000, dtype=np.uint64)
    nodes = np.zeros(len(codes), np.uint8)
    Router({0: 1, 1: 1, 2: 1, 3: 1}).assign(codes, nodes)
    assert np.bincount(nodes).min() > 4600


def test_the_choice_never_changes_between_versions() -> None:
    router = Router({0: 1, 1: 2, 2: 3, 3: 4})
    assert [router.partition(code) for code in range(6)] == [2506, 3679, 3983, 1533, 3705, 1732]
    assert [router.node(code) for code in range(16)] == [3, 0, 1, 3, 2, 2, 3, 3, 2, 2, 3, 3, 3, 3, 2, 2]
    assert [router.order(code) for code in range(3)] == [[3, 2, 0, 1], [0, 3, 2, 1], [1, 0, 2, 3]]


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
    router = Router({0: 1})
    with pytest.raises(ValueError, match="weight"):
        router.update({1: 1, 0: LIVE_WEIGHT_LIMIT + 1})
    assert router.weights.tolist() == [WEIGHT_UNIT]
