"""Instruments move between real nodes without one order out of its order, and a replay of the journal agrees."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.frame import Kind, Side, crc64
from host.cluster import NO_NODE
from host.cluster.invariants import check_books
from host.cluster.matching_node import MatchingNode
from host.gateway.health import SECOND, Health
from host.gateway.moves import Move, MoveError, Mover, Placement, carry_out, plan_moves
from host.gateway.node_state import NodeState
from host.gateway.router import Router
from host.journal.batch import ACCEPTED, DECISION_DTYPE, Batch
from tests.host.gateway.orders import ONE, Slice

SYMBOLS = [f"SYM{number}" for number in range(24)]
CODES = np.array([crc64(symbol.encode()) for symbol in SYMBOLS], np.uint64)
REFUSED = ACCEPTED + 1
MILLISECOND = 1_000_000


class Harness:
    """A gateway of the least kind: routes, journals (in a list), applies, and moves between batches."""

    def __init__(self, weights: dict[int, int], *, rate: int = 1000, room: int = 4096) -> None:
        self.journal: list[Batch | Mapping] = []
        self.reports: list[np.ndarray] = []
        self.refused = 0
        self.now = 0
        self._room = room
        self._weights = weights
        self._sequence = 1
        self.router, self.health = Router(weights), Health(weights)
        self.nodes = {node: self.make_node(node) for node in weights}
        self.routes = np.full(len(CODES), NO_NODE, np.uint8)
        self.placement = Placement(CODES)
        self.mover = Mover(
            self.placement,
            self.routes,
            self.router,
            self.health,
            self.nodes,
            self.write,
            lambda node: self.replay()[0][node],
            rate=rate,
        )

    def make_node(self, number: int) -> MatchingNode:
        return MatchingNode(number, orders=self._room, instruments=64)

    def write(self, records: Sequence[Mapping]) -> None:
        self.journal += records

    def orders(self, part: Slice) -> None:
        """Routes, journals and applies orders as one batch."""
        frames = part.frames
        decisions = np.zeros(len(frames), DECISION_DTYPE)
        decisions["node"] = self.routes[self.placement.rows(frames["instrument"])]
        decisions["verdict"] = np.where(decisions["node"] == NO_NODE, REFUSED, ACCEPTED)
        self.refused += int(np.count_nonzero(decisions["verdict"] == REFUSED))
        batch = Batch(len(self.journal), self._sequence, frames, decisions, part.payload)
        self._sequence += len(frames)
        self.journal.append(batch)
        for number in np.unique(decisions["node"][decisions["verdict"] == ACCEPTED]).tolist():
            assert self.health.serves(number)
            self.reports.append(self.nodes[number].apply(batch).copy())

    def between(self, milliseconds: int = 10) -> list[Move]:
        """What happens between two batches."""
        self.now += milliseconds * MILLISECOND
        if self.health.decide(self.now):
            self.write([self.health.record()])
            self.router.update(self.health.weights)
        return self.mover.step(self.now)

    def replay(self) -> tuple[dict[int, MatchingNode], Placement]:
        """New nodes and a placement from the journal alone; raises MoveError where orders and moves do not fit."""
        nodes = {node: self.make_node(node) for node in self.nodes}
        placement = Placement(CODES)
        for entry in self.journal:
            if isinstance(entry, Batch):
                placement.follow(entry)
                for node in nodes.values():
                    node.apply(entry)
            elif entry["type"] == "move":
                carry_out(Move.of(entry), nodes, placement)
        return nodes, placement


def traffic(random: np.random.Generator, first: int, count: int) -> Slice:
    """Orders that trade, cancel and replace; every client order id is new, the earlier one named is of the same symbol."""
    part = Slice()
    for number in range(first, first + count):
        symbol = number % len(SYMBOLS)
        earlier = symbol + len(SYMBOLS) * int(random.integers(0, number // len(SYMBOLS) + 1))
        kind = (Kind.NEW_ORDER, Kind.NEW_ORDER, Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE)[random.integers(0, 5)]
        part.order(
            f"order-{number}",
            kind=kind,
            original="" if kind == Kind.NEW_ORDER else f"order-{earlier}",
            symbol=SYMBOLS[symbol],
            side=Side.BUY if random.integers(0, 2) else Side.SELL,
            price=int(random.integers(98, 103)) * 10**9,
            quantity=int(random.integers(1, 9)) * ONE,
        )
    return part


def by_instrument(reports: list[np.ndarray]) -> dict[int, list[tuple]]:
    """What each instrument's clients were told, in order, without what names the node."""
    told: dict[int, list[tuple]] = {}
    for some in reports:
        for report in some:
            row = tuple(
                int(report[name])
                for name in ("kind", "reason", "side", "key_low", "key_high", "order_sequence", "sequence", "price",
                             "quantity", "leaves", "cumulative")
            )  # fmt: skip
            told.setdefault(int(report["instrument"]), []).append(row)
    return told


@pytest.mark.parametrize("seed", range(4))
def test_random_moves_under_load_change_nothing_that_a_client_sees(seed: int) -> None:
    random = np.random.default_rng(seed)
    moving, still = Harness({0: 2, 1: 1, 2: 1, 3: 1}), Harness({0: 1})
    died = 0
    for step in range(60):
        seeds = int(random.integers(0, 1 << 32))
        for harness in (moving, still):
            harness.orders(traffic(np.random.default_rng(seeds), 60 * step, 60))
        choice, node = int(random.integers(0, 4)), int(random.integers(0, 4))
        state = moving.health.states[node]
        if choice == 0:
            moving.router.update({node: int(random.integers(1, 1024)) if state is NodeState.ACTIVE else 0})
        elif choice == 1 and state is NodeState.ACTIVE and list(moving.health.states.values()).count(state) > 1:
            if random.integers(0, 2):
                moving.health.drain(node)
            else:
                del moving.nodes[node]
                moving.nodes[node] = moving.make_node(node)  # all that it knew is lost
                moving.health.died(node)
                died += 1
        elif choice == 2 and state in (NodeState.DRAINED, NodeState.DEAD):
            moving.nodes[node] = moving.replay()[0][node]
            moving.health.join(node, 1, moving.now)
            for _ in range(moving.health.rules.joining_answers):
                moving.health.answered(node, moving.now)
        moving.between()
    assert moving.mover.moved > 50
    assert died > 0
    assert moving.refused == 0
    assert by_instrument(moving.reports) == by_instrument(still.reports)
    nodes, placement = moving.replay()
    assert placement.holders.tolist() == moving.placement.holders.tolist()
    for number, node in nodes.items():
        check_books(node.state)
        if moving.health.serves(number):
            assert node.state_hash() == moving.nodes[number].state_hash()


def test_a_dead_nodes_books_are_on_its_stand_ins_before_the_next_order() -> None:
    harness = Harness({0: 1, 1: 1, 2: 1}, rate=1)
    random = np.random.default_rng(1)
    harness.orders(traffic(random, 0, 480))
    before = harness.placement.holders.copy()
    harness.nodes[1] = None  # whoever asks it anything fails
    harness.health.died(1)
    moves = harness.between()
    assert 1 not in harness.routes.tolist()
    moved = {int(CODES[row]) for row in np.flatnonzero(before == 1)}
    assert {instrument for move in moves for instrument in move.instruments} == moved != set()
    order = Router({0: 1, 1: 1, 2: 1}).order
    assert all(order(instrument)[1] == move.target for move in moves for instrument in move.instruments)
    assert (before[before != 1] == harness.routes[before != 1]).all()
    harness.orders(traffic(random, 480, 480))
    assert harness.refused == 0
    assert harness.between() == []


def test_a_draining_node_serves_until_it_is_empty_and_the_budget_holds() -> None:
    harness = Harness({0: 1, 1: 1}, rate=200)
    random = np.random.default_rng(2)
    held = int(np.count_nonzero(harness.routes == 1))
    harness.health.drain(1)
    steps = 0
    while harness.health.states[1] is NodeState.DRAINING:
        harness.orders(traffic(random, 120 * steps, 120))
        moves = harness.between(10)
        steps += 1
        assert sum(len(move.instruments) for move in moves) <= 2
        assert harness.mover.moved <= 200 * harness.now / SECOND
    assert harness.health.states[1] is NodeState.DRAINED
    assert steps == -(-held // 2)
    assert harness.refused == 0
    assert 1 not in harness.routes.tolist()


def test_where_no_node_lives_nothing_is_routed_and_the_books_wait_for_one() -> None:
    harness = Harness({0: 1})
    random = np.random.default_rng(4)
    harness.orders(traffic(random, 0, 240))
    open_orders = harness.nodes[0].open_orders
    harness.health.died(0)
    assert harness.between() == []
    assert set(harness.routes.tolist()) == {NO_NODE}
    harness.orders(traffic(random, 240, 24))
    assert harness.refused == 24
    harness.nodes[5] = harness.make_node(5)
    harness.health.join(5, 1, harness.now)
    for _ in range(harness.health.rules.joining_answers):
        harness.health.answered(5, harness.now)
    assert sum(len(move.instruments) for move in harness.between()) == len(CODES)
    assert set(harness.routes.tolist()) == {5}
    assert harness.nodes[5].open_orders == open_orders > 0


def test_what_the_new_node_has_no_room_for_stays_and_replays_so() -> None:
    harness = Harness({0: 1, 1: 1}, room=100)
    part = Slice()
    for number in range(160):
        part.order(f"order-{number}", symbol=SYMBOLS[number % len(SYMBOLS)])
    harness.orders(part)
    harness.health.drain(1)
    for _ in range(10):
        harness.between(100)
    written = len(harness.journal)
    assert harness.health.states[1] is NodeState.DRAINING
    assert harness.nodes[0].open_orders + harness.nodes[1].open_orders > 100
    assert set(harness.routes.tolist()) == {0, 1}
    harness.between(100)
    assert len(harness.journal) == written  # it is not tried again and again
    nodes, placement = harness.replay()
    assert placement.holders.tolist() == harness.placement.holders.tolist()
    assert [nodes[node].state_hash() for node in (0, 1)] == [harness.nodes[node].state_hash() for node in (0, 1)]


def test_another_configuration_after_a_restart_moves_the_books_that_are_elsewhere() -> None:
    before = Harness({0: 1, 1: 1, 2: 1})
    before.orders(traffic(np.random.default_rng(5), 0, 480))
    nodes, placement = before.replay()
    routes = np.zeros(len(CODES), np.uint8)
    router, health = Router({0: 1, 1: 3}), Health({0: 1, 1: 3})
    records: list[Mapping] = []
    mover = Mover(placement, routes, router, health, nodes, records.extend, nodes.__getitem__, rate=100_000)
    # Node 2 is configured no more: what it has is moved at once, the rest by the budget.
    assert {record["from"] for record in records} == {2}
    assert 2 not in routes.tolist()
    mover.step(SECOND)
    assert routes.tolist() == [router.node(int(code)) for code in CODES]
    assert mover.pending == 0


def test_orders_and_moves_that_do_not_fit_are_found() -> None:
    harness = Harness({0: 1, 1: 1})
    harness.orders(traffic(np.random.default_rng(6), 0, 48))
    row = int(np.flatnonzero(harness.routes == 0)[0])
    wrong = Move(1, 0, (int(CODES[row]),))
    with pytest.raises(MoveError, match="from node 1, but is on node 0"):
        carry_out(wrong, harness.nodes, harness.placement)
    harness.routes[row] = 1
    harness.orders(Slice().order("late", symbol=SYMBOLS[row]))
    with pytest.raises(MoveError, match=r"sequence 49: an order went to node 1, .* on node 0"):
        harness.replay()


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, NO_NODE]), st.sampled_from([0, 1, 2, NO_NODE])), max_size=40),
    st.integers(0, 50),
    st.sets(st.integers(0, 2)),
)
def test_a_plan_is_the_difference_within_the_budget(pairs: list[tuple], budget: int, urgent: set[int]) -> None:
    holders, targets = (np.array([pair[side] for pair in pairs], np.uint8) for side in (0, 1))
    codes = np.arange(1000, 1000 + len(pairs), dtype=np.uint64)[::-1].copy()
    planned = [
        (instrument, move.source, move.target)
        for move in plan_moves(codes, holders, targets, budget, urgent)
        for instrument in move.instruments
    ]
    due = {
        (int(code), int(holder), int(target))
        for code, holder, target in zip(codes, holders, targets, strict=True)
        if holder != target and NO_NODE not in (holder, target)
    }
    hurried = {entry for entry in due if entry[1] in urgent}
    assert len(planned) == len(set(planned))
    assert hurried <= set(planned) <= due
    assert len(planned) == len(hurried) + min(budget, len(due - hurried))


def test_a_placement_goes_on_from_a_snapshot_of_other_instruments() -> None:
    placement, after = Placement(CODES[:10]), Placement(CODES[5:15][::-1])
    placement.holders[:] = range(10)
    after.load_parts(placement.state_parts())
    assert after.holders.tolist() == [NO_NODE] * 5 + [9, 8, 7, 6, 5]


def test_a_record_says_the_move() -> None:
    move = Move(3, 1, (1, (1 << 64) - 1))
    assert Move.of(move.record()) == move
    codes = np.arange(3000, dtype=np.uint64)
    moves = plan_moves(codes, np.zeros(3000, np.uint8), np.ones(3000, np.uint8), 3000)
    assert [len(move.instruments) for move in moves] == [1024, 1024, 952]
