"""Nodes in several modules, and books that move between them: the same as if all were in one, whoever is killed."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from host.cluster import MatchingNode
from host.gateway.batch_ring import BatchRing
from host.gateway.handover import Handover
from host.gateway.session_replay import replay_session
from host.gateway.session_ring import create_session_rings
from host.gateway.stages import NodeStage, recover_nodes
from host.gateway.state import NodesState
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.journal import read_journal
from host.ring.records import RecordRings
from tests.host.gateway.test_stages import NODES, Place

SHARES = ((0, 2), (1,))
OWNERS = {0: "nodes", 1: "nodes-2", 2: "nodes"}
FLOWS = 8


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(1500, seed=3)


class Both:
    """Two stages that take turns, as the one that :class:`Place` knows of."""

    def __init__(self, stages: list[NodeStage]) -> None:
        self.stages = stages

    def step(self, spin_ns: int) -> bool:
        # One that waits for the other's book comes back instead, and finds it the next time; so it has always moved.
        before = [stage.figures()["batches"] for stage in self.stages]
        for stage in self.stages:
            stage.step(spin_ns)
        return before != [stage.figures()["batches"] for stage in self.stages]


@dataclass
class Shared(Place):
    """A gateway whose nodes are in two modules."""

    sessions: RecordRings = field(default_factory=lambda: create_session_rings(None, rings=2 * FLOWS, slots=1 << 14))
    feedback: RecordRings = field(default_factory=lambda: create_session_rings(None, rings=2, slots=1 << 14))

    def __post_init__(self) -> None:
        (self.directory / "books").mkdir(parents=True)
        self.stages: dict[int, NodeStage] = {}
        self.batches = BatchRing.create(None, base=0, nodes=2, slots=4, slot_frames=64)
        super().__post_init__()

    def make(self, *names: str) -> None:
        for name in names:
            if name not in ("nodes", "nodes-2"):
                super().make(name)
        for reader, share in enumerate(SHARES, 1):
            if reader not in self.stages or ("nodes", "nodes-2")[reader - 1] in names:
                nodes = [MatchingNode(number) for number in NODES]
                recover_nodes(nodes, self.directory, self.batches.ring.base + self.batches.ring.cursor(reader))
                self.stages[reader] = NodeStage(
                    [node for node in nodes if node.number in share],
                    self.batches, self.sessions, self.feedback, reader=reader, readers=2,
                    handover=Handover(self.directory / "books", OWNERS), stop=lambda: True,
                )  # fmt: skip
        self.node_stage = Both(list(self.stages.values()))

    def hashes(self) -> dict[str, str]:
        return {name: each for stage in self.stages.values() for name, each in stage.state_hashes().items()}

    def replayed_hashes(self) -> dict[str, str]:
        state = NodesState([MatchingNode(number) for number in NODES])
        for batch in read_journal(self.directory):
            state.apply(batch)
        return {str(number): node.state_hash() for number, node in state.nodes.items()}


def by_instrument(told: list[np.ndarray]) -> dict[int, list[tuple]]:
    """What was said of each instrument, in the order of the batches, without what names the node."""
    records = np.concatenate(told)
    records = records[np.lexsort((records["ordinal"], records["batch"]))]
    names = ["flow", "sequence", "order_sequence", "kind", "price", "quantity", "leaves", "cumulative"]
    accepted = records[records["verdict"] == 1]["report"]
    return {
        code: accepted[accepted["instrument"] == code][names].tolist() for code in np.unique(accepted["instrument"])
    }


def move(place: Place, random: np.random.Generator) -> None:
    """Asks for one instrument's book to go to another node."""
    instruments = place.risk.state.instruments
    row = int(random.integers(0, len(instruments)))
    source = int(instruments["node"][row])
    target = int(random.choice([node for node in NODES if node != source]))
    record = {"type": "move", "from": source, "to": target, "instruments": [int(instruments["code"][row])]}
    place.risk_stage.control(record)
    # Another may come before it and take the book away: then this one is refused.


@pytest.mark.parametrize("names", [(), ("nodes",), ("nodes-2",), ("nodes", "nodes-2"), ("risk", "nodes-2")])
def test_books_that_move_between_modules_at_any_point_change_nothing_that_a_session_sees(
    tmp_path: Path, lap: Lap, names: tuple[str, ...]
) -> None:
    count = len(lap) + 300
    still = Place(tmp_path / "still")
    still.drain(Load(lap, still.ring), count)
    place = Shared(tmp_path / "moving")
    load, random = Load(lap, place.ring), np.random.default_rng(7)
    for _ in range(60):
        load.run(count, int(random.integers(0, 20_000)))
        move(place, random)
        for _ in range(int(random.integers(0, 8))):
            stages = (place.risk_stage, place.journal_stage, *place.stages.values())
            stages[random.integers(0, 4)].step(0)
        place.make(*names)
        place.read_sessions()
    place.drain(load, count)
    moves = [batch.control for batch in read_journal(place.directory) if batch.control is not None]
    assert sum(OWNERS[each["from"]] != OWNERS[each["to"]] for each in moves) > 3
    assert place.hashes() == place.replayed_hashes()
    assert place.risk.state_hash() == place.replayed_hash()
    assert by_instrument(place.told) == by_instrument(still.told)
    told = np.concatenate(place.told)
    keys = np.stack(
        [told["batch"], told["report"]["node"].astype(np.uint64), told["ordinal"].astype(np.uint64)], axis=1
    )
    assert len(np.unique(keys, axis=0)) == len(told)


def test_a_session_has_the_same_records_again_out_of_the_journal(tmp_path: Path, lap: Lap) -> None:
    place = Shared(tmp_path / "shared")
    load, random = Load(lap, place.ring), np.random.default_rng(9)
    for count in range(100, 1000, 100):
        place.drain(load, count)
        move(place, random)
    place.drain(load, 1000)
    told = np.concatenate(place.told)
    nodes = [MatchingNode(number) for number in NODES]
    again = np.concatenate(list(replay_session(nodes, place.directory, 2, 1, modules=SHARES)))
    names = ["batch", "ordinal", "verdict", "report"]
    mine = told[told["report"]["flow"] == 2]
    assert sorted(mine[names].tolist()) == sorted(again[names].tolist())


def test_what_an_earlier_move_left_is_removed_by_the_next(tmp_path: Path, lap: Lap) -> None:
    place = Shared(tmp_path / "moving")
    load = Load(lap, place.ring)
    place.drain(load, 600)
    codes = place.risk.state.instruments["code"][place.risk.state.instruments["node"] == 0][:3].tolist()
    for number, code in enumerate(codes, 1):
        place.risk_stage.control({"type": "move", "from": 0, "to": 1, "instruments": [code]})
        place.drain(load, 600 + 100 * number)
    assert len(list((place.directory / "books").iterdir())) == 1
    assert place.hashes() == place.replayed_hashes()


def test_a_node_is_given_no_more_than_it_has_room_for(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    load = Load(lap, place.ring)
    place.drain(load, 900)
    open_orders = [node.open_orders for node in place.nodes]
    assert min(open_orders) > 2
    codes = place.risk.state.instruments["code"][place.risk.state.instruments["node"] == 0].tolist()
    place.risk_stage._nodes = dict.fromkeys(NODES, open_orders[1] + 1)
    place.risk_stage.control({"type": "move", "from": 0, "to": 1, "instruments": codes})
    place.drain(load, 901)
    assert f"would have {open_orders[0] + open_orders[1]}" in place.risk_stage.refused[0]
