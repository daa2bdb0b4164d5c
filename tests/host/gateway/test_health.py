"""Weights follow what is measured, within bounds and without oscillation, and a silent node is found dead in time."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.gateway.health import SECOND, Health, HealthError, HealthRules
from host.gateway.node_state import NEXT_STATES, NodeState
from host.gateway.router import PARTITIONS, WEIGHT_UNIT, Router

MILLISECOND = 1_000_000
RULES = HealthRules()

Slowness = Callable[[int, float], float]
"""How many times slower a node is at a time (s)."""


class Simulation:
    """Nodes with a queue each, sharing a load by what the router gives them; every 40 ms each acknowledges a batch.

    A node's latency is that of an M/M/1 queue: 1 ms × slowness / (1 - utilization), with a lognormal scatter of half
    its size. ``utilization`` is that of all nodes together at their usual speed.
    """

    TICK = 40 * MILLISECOND

    def __init__(self, weights: dict[int, int], slowness: Slowness, utilization: float = 0.4, seed: int = 1) -> None:
        self.health = Health(weights)
        self.router = Router(weights)
        self.now = 0
        self.moved: list[int] = []
        self.changes: list[tuple[int, int, int]] = []
        self.foreign = 0
        self._configured = weights
        self._slowness = slowness
        self._utilization = utilization
        self._random = np.random.default_rng(seed)
        self._count()

    def _count(self) -> None:
        self._shares = np.bincount(self.router.owners, minlength=256) / PARTITIONS

    def share(self, node: int) -> float:
        return float(self._shares[node])

    def run(self, seconds: float) -> "Simulation":
        end = self.now + int(seconds * SECOND)
        whole = sum(self._configured.values())
        while self.now < end:
            self.now += self.TICK
            for node, weight in self._configured.items():
                slow = self._slowness(node, self.now / SECOND)
                busy = min(self._utilization * self.share(node) / (weight / whole) * slow, 0.98)
                latency = MILLISECOND * slow / (1 - busy) * self._random.lognormal(0, 0.5)
                orders = int(self._random.poisson(400 * self.share(node)))
                if orders:
                    self.health.acknowledged(node, self.now, int(latency), orders)
                self.health.queued(node, self.now, int(latency / MILLISECOND * 20 * self.share(node)))
            if self.health.decide(self.now):
                self._follow()
        return self

    def _follow(self) -> None:
        before, old = self.router.owners.copy(), self.router.weights.copy()
        self.router.update(self.health.weights)
        self._count()
        changed = np.flatnonzero(old != self.router.weights)
        moved = before != self.router.owners
        self.moved.append(int(moved.sum()))
        # A partition moves from a node that changed or to one.
        self.foreign += int((moved & ~np.isin(before, changed) & ~np.isin(self.router.owners, changed)).sum())
        self.changes += [(self.now, int(node), int(self.router.weights[node] - old[node])) for node in changed]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("nodes", [2, 3, 8])
def test_nodes_that_are_alike_keep_their_weights_whatever_the_scatter(nodes: int, seed: int) -> None:
    simulation = Simulation({node: 1 + node % 2 for node in range(nodes)}, lambda *_: 1.0, seed=seed).run(60)
    assert simulation.changes == []


@pytest.mark.parametrize("seed", range(4))
def test_a_slow_node_gives_its_share_away_and_gets_it_back(seed: int) -> None:
    simulation = Simulation({0: 1, 1: 1, 2: 1, 3: 1}, lambda node, at: 6.0 if node == 2 and at < 60 else 1.0, seed=seed)
    healthy = simulation.router.owners.copy()
    simulation.run(60)
    # Six times as slow: with the tolerance of 1.5 a quarter, less what its scatter and shorter queue are worth.
    weight = simulation.health.weights[2] / WEIGHT_UNIT
    assert RULES.floor <= weight < 0.6
    assert set(simulation.health.weights.values()) - {simulation.health.weights[2]} == {WEIGHT_UNIT}
    expected = weight / (3 + weight)
    assert abs(simulation.share(2) - expected) < 5 * np.sqrt(expected * (1 - expected) / PARTITIONS)
    simulation.run(60)
    assert simulation.health.weights == dict.fromkeys(range(4), WEIGHT_UNIT)
    assert simulation.router.owners.tolist() == healthy.tolist()
    assert simulation.foreign == 0
    assert {node for _, node, _ in simulation.changes} == {2}
    # No way down or up is gone twice.
    signs = [np.sign(change) for _, _, change in simulation.changes]
    assert np.count_nonzero(np.diff(signs)) <= 3
    # What was moved is what the weight asked for: the share lost and won again, each partition once or twice.
    assert sum(simulation.moved) < 3 * PARTITIONS * (1 / 4)


@pytest.mark.parametrize("period", [0.5, 3.0, 10.0])
def test_a_flapping_node_does_not_make_instruments_flap(period: float) -> None:
    simulation = Simulation({0: 1, 1: 1, 2: 1}, lambda node, at: 8.0 if node == 0 and at % period < period / 2 else 1.0)
    simulation.run(200)
    raises = [at for at, _, change in simulation.changes if change > 0]
    starts = [at for index, at in enumerate(raises) if index == 0 or at - raises[index - 1] > 2 * SECOND]
    # Waits of 2, 4, 8, 16, 32, 32, ... s between relapses: 5 and then one each 32 s at most.
    assert len(starts) <= 6 + 200 // 32
    assert simulation.foreign == 0
    assert sum(simulation.moved) < 2 * len(starts) * PARTITIONS / 3 + PARTITIONS


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.floats(0.05, 3.0), st.integers(50, 3000))
def test_weights_keep_bounds_step_and_dwell_whatever_is_measured(seed: int, step: float, dwell: int) -> None:
    random = np.random.default_rng(seed)
    rules = HealthRules(step=step, dwell=dwell * MILLISECOND, half_life=100 * MILLISECOND)
    health = Health({0: 1000, 1: 500, 2: 65535}, rules)
    now, history = 0, []
    for _ in range(400):
        now += int(random.integers(1, 400)) * MILLISECOND
        for node in range(3):
            health.acknowledged(
                node, now, int(10 ** random.uniform(4, 9)), 40, int(random.integers(0, 40) ** 3 // 1600)
            )
            health.queued(node, now, int(10 ** random.uniform(0, 6)))
        if health.decide(now):
            history.append((now, health.weights))
    for node, configured in ((0, 1000), (1, 500), (2, 65535)):
        whole = configured * WEIGHT_UNIT
        series = [(0, whole), *((at, weights[node]) for at, weights in history)]
        changes = [
            (at, (weight - before) / whole)
            for (_, before), (at, weight) in itertools.pairwise(series)
            if weight != before
        ]
        assert all(rules.floor * whole - 1 <= weight <= rules.ceiling * whole + 1 for _, weight in series)
        assert all(after - at >= rules.dwell for (at, _), (after, _) in itertools.pairwise(changes))
        for first in range(len(changes)):
            total = np.cumsum([abs(change) for _, change in changes[first:]])
            lasted = np.array([at - changes[first][0] for at, _ in changes[first:]]) / SECOND
            assert (total <= step * (lasted + rules.dwell / SECOND) + 1e-4).all()


def test_errors_cost_a_node_its_share() -> None:
    health = Health({0: 1, 1: 1})
    for tick in range(1, 1001):
        for node in (0, 1):
            health.acknowledged(node, tick * 10 * MILLISECOND, MILLISECOND, 100, 6 if node else 0)
        health.decide(tick * 10 * MILLISECOND)
    # 6 % errors, each costing 8: 0.52.
    assert health.weights[0] == WEIGHT_UNIT
    assert health.weights[1] / WEIGHT_UNIT == pytest.approx(0.52, abs=0.01)


def test_a_deep_queue_costs_a_node_its_share_in_proportion_to_what_it_is_to_carry() -> None:
    def weights(depths: dict[int, int]) -> dict[int, int]:
        health = Health({0: 1, 1: 4})
        for tick in range(1, 1001):
            for node, depth in depths.items():
                health.queued(node, tick * 10 * MILLISECOND, depth)
            health.decide(tick * 10 * MILLISECOND)
        return health.weights

    assert weights({0: 1000, 1: 4000}) == {0: WEIGHT_UNIT, 1: 4 * WEIGHT_UNIT}
    assert weights({0: 0, 1: 60}) == {0: WEIGHT_UNIT, 1: 4 * WEIGHT_UNIT}
    assert weights({0: 1000, 1: 16000}) == {0: WEIGHT_UNIT, 1: pytest.approx(4 * WEIGHT_UNIT * 1.5 / 4, abs=4)}


def test_a_node_that_gets_nothing_any_more_is_not_held_down_for_ever() -> None:
    health = Health({0: 1, 1: 1})
    for tick in range(1, 1000):
        for node in (0, 1):
            health.acknowledged(node, tick * 10 * MILLISECOND, (1 + 99 * node) * MILLISECOND, 100)
        health.decide(tick * 10 * MILLISECOND)
    assert health.weights[1] == RULES.floor * WEIGHT_UNIT
    for tick in range(1000, 4000):
        health.acknowledged(0, tick * 10 * MILLISECOND, MILLISECOND, 100)
        health.decide(tick * 10 * MILLISECOND)
    assert health.weights == {0: WEIGHT_UNIT, 1: WEIGHT_UNIT}


def ping(health: Health, node: int, begin: int, end: int, *, answers: bool) -> int | None:
    """Pings a node as the rules say from ``begin`` to ``end``; returns when it was found dead."""
    for now in range(begin, end, health.rules.ping_interval):
        health.pinged(node, now)
        if answers:
            health.answered(node, now + MILLISECOND)
        health.decide(now + MILLISECOND)
        if health.states[node] is NodeState.DEAD:
            return now + MILLISECOND
    return None


@pytest.mark.parametrize("offset", range(0, 10 * MILLISECOND, 1_500_000))
def test_a_silent_node_is_found_dead_in_time_and_gets_nothing(offset: int) -> None:
    health = Health({0: 1, 1: 1})
    assert ping(health, 1, 0, SECOND, answers=True) is None
    last_sign = SECOND - RULES.ping_interval + MILLISECOND + offset
    health.acknowledged(1, last_sign, MILLISECOND)
    found = ping(health, 1, SECOND, 2 * SECOND, answers=False)
    assert found is not None
    assert (
        RULES.missed_pings * RULES.ping_interval <= found - last_sign + offset <= RULES.detection + MILLISECOND + offset
    )
    assert health.weights == {0: WEIGHT_UNIT, 1: 0}
    router = Router({0: 1, 1: 1})
    router.update(health.weights)
    assert set(router.owners.tolist()) == {0}


def test_acknowledgements_speak_for_a_node_but_not_for_ever() -> None:
    health = Health({0: 1, 1: 1})
    found = None
    for now in range(0, SECOND, RULES.ping_interval):
        health.pinged(1, now)
        health.acknowledged(1, now, MILLISECOND)
        health.decide(now)
        if found is None and health.states[1] is NodeState.DEAD:
            found = now
    assert found is not None
    assert RULES.detection < found <= RULES.latest_detection


def test_a_single_lost_ping_and_a_late_acknowledgement_kill_nobody() -> None:
    random = np.random.default_rng(3)
    health = Health({0: 1, 1: 1})
    for now in range(0, 60 * SECOND, RULES.ping_interval):
        health.pinged(1, now)
        if random.random() > 0.05:
            health.answered(1, now + MILLISECOND)
        health.acknowledged(1, now, int(random.integers(80, 160)) * MILLISECOND)
        health.decide(now + MILLISECOND)
    assert health.states[1] is NodeState.ACTIVE


def test_a_gateway_that_stood_still_itself_finds_nobody_dead() -> None:
    health = Health({0: 1})
    health.pinged(0, 0)
    for now in (260 * MILLISECOND, 260 * MILLISECOND + 1, 260 * MILLISECOND + 2, 261 * MILLISECOND):
        health.pinged(0, now)
    for missed in range(10):
        health.pinged(0, 261 * MILLISECOND + missed)
    health.decide(262 * MILLISECOND)
    assert health.states[0] is NodeState.ACTIVE


def test_a_dead_node_stays_dead_until_it_joins_and_begins_small() -> None:
    health = Health({0: 1, 1: 1})
    ping(health, 1, 0, SECOND, answers=False)
    assert ping(health, 1, SECOND, 2 * SECOND, answers=True) == SECOND + MILLISECOND
    health.join(1, 1, 2 * SECOND)
    assert health.decide(2 * SECOND)
    assert health.weights[1] == 0
    assert ping(health, 1, 2 * SECOND, 3 * SECOND, answers=True) is None
    assert health.states[1] is NodeState.ACTIVE
    assert health.weights[1] == RULES.floor * WEIGHT_UNIT
    for now in range(3 * SECOND, 10 * SECOND, 10 * MILLISECOND):
        health.decide(now)
    assert health.weights[1] == WEIGHT_UNIT


def test_only_the_transitions_of_the_table_are_possible() -> None:
    ways = {
        NodeState.ACTIVE: (),
        NodeState.DRAINING: ("drain",),
        NodeState.DRAINED: ("drain", "emptied"),
        NodeState.JOINING: ("drain", "emptied", "join"),
        NodeState.DEAD: ("died",),
    }
    acts = {
        "drain": NodeState.DRAINING,
        "emptied": NodeState.DRAINED,
        "resume": NodeState.ACTIVE,
        "died": NodeState.DEAD,
        "join": NodeState.JOINING,
    }

    def act(health: Health, name: str) -> None:
        if name == "join":
            health.join(1, 1, 0)
        else:
            getattr(health, name)(1)

    for state, way in ways.items():
        for name, target in acts.items():
            health = Health({1: 1})
            for step in way:
                act(health, step)
            assert health.states[1] is state
            if state is NodeState.JOINING and name == "drain":
                target = NodeState.DRAINED
            if state is NodeState.JOINING and name == "resume":
                continue  # as a node that has answered often enough
            if target in NEXT_STATES[state]:
                act(health, name)
                assert health.states[1] is target
            else:
                with pytest.raises(HealthError, match=f"node 1 is {state.value}"):
                    act(health, name)
    with pytest.raises(HealthError, match="node 7 is not known"):
        Health({1: 1}).drain(7)


def test_weights_and_drained_nodes_outlive_a_restart() -> None:
    health = Health({0: 1, 1: 1, 2: 4, 3: 1})
    for tick in range(1, 1000):
        for node in range(4):
            health.acknowledged(node, tick * 10 * MILLISECOND, (1 + 9 * (node == 2)) * MILLISECOND, 100)
        health.decide(tick * 10 * MILLISECOND)
    health.drain(1)
    health.died(3)
    after = Health({0: 1, 1: 1, 2: 4, 3: 1})
    after.follow(health.record(), 0)
    assert after.weights == {**health.weights, 3: WEIGHT_UNIT}
    assert 0 < after.weights[2] < 4 * WEIGHT_UNIT
    assert after.states[1] is NodeState.DRAINING
    again = Health({0: 1, 1: 1, 2: 4, 3: 1, 9: 1})
    again.load_parts(health.state_parts(), 0)
    assert again.weights == {**after.weights, 9: WEIGHT_UNIT}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"floor": 0.0}, "floor"),
        ({"ceiling": 0.9}, "ceiling"),
        ({"dwell": 0}, "dwell"),
        ({"tolerance": 0.5}, "tolerance"),
        ({"threshold": 1.0}, "threshold"),
        ({"evidence": 0.0}, "evidence"),
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HealthRules(**wrong)
    with pytest.raises(ValueError, match="weight"):
        Health({0: 65536})
