"""Orders through the three stages: each once, in order, whatever was killed on the way."""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from hdl.frame import Kind
from host.card.ring import Ring
from host.cluster import MatchingNode
from host.cluster.matching_node import NODE_ORDERS
from host.cluster.report import ReportKind
from host.demo import DEMO_LIMITS
from host.gateway.batch_ring import BatchRing
from host.gateway.id_table import IdTable
from host.gateway.risk import Risk
from host.gateway.session_ring import SESSION_DTYPE, create_session_rings
from host.gateway.stages import (
    JournalStage,
    NodeStage,
    RiskStage,
    keep_ids,
    recover_nodes,
    recover_risk,
    ring_base,
)
from host.gateway.state import FollowedState
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.journal import Journal, newest_snapshot, read_journal
from host.journal.follower import Follower
from host.ring.records import RecordRings

SEGMENT = 8 << 20
NODES = tuple(DEMO_LIMITS.nodes)


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(1500, seed=3)


def make_risk(**rooms: IdTable | None) -> Risk:
    risk = DEMO_LIMITS.risk(**rooms)
    risk.route(DEMO_LIMITS.router())
    return risk


@dataclass
class Place:
    """A gateway's shared memory and journal, and its stages, which can be thrown away and made again."""

    directory: Path
    ring: Ring = field(default_factory=lambda: Ring.create(None, 1 << 12, 1 << 20))
    sessions: RecordRings = field(default_factory=lambda: create_session_rings(None, slots=1 << 14))
    batches: BatchRing | None = None
    told: list[np.ndarray] = field(default_factory=list)
    feedback: RecordRings = field(default_factory=lambda: create_session_rings(None, rings=1, slots=1 << 14))
    grouped: bool = False
    segment_bytes: int = SEGMENT
    ids: IdTable | None = None
    kept: bool = False

    def __post_init__(self) -> None:
        self.journal = Journal(self.directory, segment_bytes=self.segment_bytes)
        self.batches = self.batches or BatchRing.create(None, base=ring_base(self.journal), slots=4, slot_frames=64)
        self.make("risk", "journal", "nodes")

    def make(self, *names: str) -> None:
        """New stages, as after ``kill -9``: from what stands in the rings and in the journal."""
        for name in names:
            if name == "risk":
                self.kept = self.ids is not None and keep_ids(self.ids, self.batches)
                if self.ids is not None and not self.kept:
                    self.ids.clear()
                risk = make_risk(ids=None if self.kept else self.ids)
                nodes = [MatchingNode(number) for number in NODES]
                recover_risk(risk, nodes, self.directory, self.batches, self.ids if self.kept else None)
                self.risk_stage = RiskStage(
                    risk, self.ring, self.batches, self.feedback, nodes=dict.fromkeys(NODES, NODE_ORDERS)
                )
                self.risk = risk
            elif name == "journal":
                self.journal.close()
                self.journal = Journal(self.directory, segment_bytes=self.segment_bytes)
                self.journal_stage = JournalStage(self.journal, self.batches, grouped=self.grouped)
            else:
                self.nodes = [MatchingNode(number) for number in NODES]
                before = self.batches.ring.base + self.batches.ring.cursor(1)
                recover_nodes(self.nodes, self.directory, before)
                self.node_stage = NodeStage(self.nodes, self.batches, self.sessions, self.feedback)

    def read_sessions(self) -> None:
        for number in range(len(self.sessions)):
            while len(records := self.sessions[number].poll()):
                self.told.append(records.copy())
                self.sessions[number].release(len(records))

    def replayed_hash(self) -> str:
        """The hash of a risk that is made from the journal alone."""
        risk = make_risk()
        recover_risk(risk, [MatchingNode(number) for number in NODES], self.directory, self.batches)
        return risk.state_hash()

    def drain(self, load: Load, until: int) -> None:
        """Let everything run until nothing moves any more."""
        while True:
            load.run(until, 1_000_000)
            moved = [stage.step(0) for stage in (self.risk_stage, self.journal_stage, self.node_stage)]
            self.read_sessions()
            if load.number == until and not any(moved):
                return


def client_order_ids(directory: Path) -> list[tuple[int, bytes, int]]:
    """(flow, ClOrdID, verdict) of every journaled order, read from its raw message."""
    found = []
    for batch in read_journal(directory):
        for frame, decision in zip(batch.frames, batch.decisions, strict=True):
            begin = int(frame["payload_offset"])
            raw = batch.payload[begin : begin + int(frame["payload_length"])].tobytes()
            identifier = raw.split(b"\x0111=", 1)[1].split(b"\x01", 1)[0]
            found.append((int(frame["flow"]), identifier, int(decision["verdict"])))
    return found


def expected_ids(lap: Lap, count: int) -> list[tuple[int, bytes]]:
    ids = []
    for number in range(count):
        raw = lap.message(number % len(lap), number // len(lap))
        ids.append((int(lap.frames["flow"][number % len(lap)]), raw.split(b"\x0111=", 1)[1].split(b"\x01", 1)[0]))
    return ids


def straight(directory: Path, lap: Lap, count: int) -> tuple[list[str], np.ndarray]:
    """Hashes of the nodes and all reports of a run that nothing disturbed."""
    place = Place(directory)
    place.drain(Load(lap, place.ring), count)
    return [node.state_hash() for node in place.nodes], np.concatenate(place.told)


def test_every_order_is_journaled_in_the_order_of_the_ring_and_reported(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    count = 2 * len(lap) + 100
    place.drain(Load(lap, place.ring), count)
    journaled = client_order_ids(tmp_path)
    assert [each[:2] for each in journaled] == expected_ids(lap, count)
    told = np.concatenate(place.told)
    reported = set(told["report"]["sequence"].tolist())
    assert reported == set(range(1, count + 1))
    assert place.risk.state_hash() == place.replayed_hash()
    accepted = sum(verdict == 1 for *_, verdict in journaled)
    assert accepted == sum(node.applied for node in place.nodes) < count
    assert np.count_nonzero(told["verdict"] != 1) == count - accepted
    fills = told[told["report"]["execution"] > 0]["report"]
    assert len(fills) == 2 * sum(node.trades for node in place.nodes) > 0


def test_the_books_are_empty_after_a_lap(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    place.drain(Load(lap, place.ring), len(lap))
    assert [node.open_orders for node in place.nodes] == [0, 0, 0]
    assert {int(kind) for kind in lap.frames["kind"]} == {Kind.NEW_ORDER, Kind.CANCEL, Kind.REPLACE}


@pytest.mark.parametrize("names", [("risk",), ("journal",), ("nodes",), ("risk", "journal", "nodes")])
def test_a_stage_that_is_made_again_at_any_point_changes_nothing(
    tmp_path: Path, lap: Lap, names: tuple[str, ...]
) -> None:
    count = len(lap) + 300
    hashes, reports = straight(tmp_path / "straight", lap, count)
    place = Place(tmp_path / "killed")
    load = Load(lap, place.ring)
    random = np.random.default_rng(5)
    for _ in range(25):
        load.run(count, int(random.integers(0, 30_000)))
        for _ in range(int(random.integers(0, 8))):
            stage = (place.risk_stage, place.journal_stage, place.node_stage)[random.integers(0, 3)]
            stage.step(0)
        place.make(*names)
        place.read_sessions()
    place.drain(load, count)
    assert [node.state_hash() for node in place.nodes] == hashes
    assert [each[:2] for each in client_order_ids(tmp_path / "killed")] == expected_ids(lap, count)
    told = np.concatenate(place.told)
    assert place.risk.state_hash() == place.replayed_hash()
    keys = ["flow", "sequence", "kind", "execution", "price", "quantity", "leaves"]
    # Batches are cut otherwise, so only each session's order is the same.
    for flow in range(8):
        mine, theirs = (each["report"][each["report"]["flow"] == flow][keys] for each in (told, reports))
        assert sorted(mine.tolist()) == sorted(theirs.tolist())


def test_what_was_published_and_reported_in_part_is_not_reported_again(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    load = Load(lap, place.ring)
    load.run(200, 10_000_000)
    while place.risk_stage.step(0) or place.journal_stage.step(0):
        pass
    place.journal_stage.step(0)
    before = place.batches.ring.cursor(1)
    place.node_stage.step(0)
    told = sum(place.sessions[number].written() for number in range(8))
    # Killed just before it could say that it has applied the batches.
    place.batches.ring.words[16 + 8] = before
    place.make("nodes")
    place.node_stage.step(0)
    assert sum(place.sessions[number].written() for number in range(8)) == told


def test_threads_give_the_same_as_one_after_another(tmp_path: Path, lap: Lap) -> None:
    count = 2 * len(lap)
    hashes, reports = straight(tmp_path / "straight", lap, count)
    place = Place(tmp_path / "threads", grouped=True)
    over = threading.Event()

    def run(stage) -> None:
        while not over.is_set():
            if not stage.step(20_000):
                over.wait(0.0002)

    threads = [
        threading.Thread(target=run, args=(stage,), daemon=True)
        for stage in (place.risk_stage, place.journal_stage, place.node_stage)
    ]
    for thread in threads:
        thread.start()
    load = Load(lap, place.ring)
    while sum(map(len, place.told)) < len(reports):
        load.run(count, 1_000_000)
        place.read_sessions()
    over.set()
    for thread in threads:
        thread.join()
    assert [node.state_hash() for node in place.nodes] == hashes
    assert sum(map(len, place.told)) == len(reports)
    assert np.concatenate(place.told).dtype == SESSION_DTYPE


def test_a_batch_has_its_sequence_when_the_journal_takes_it(tmp_path: Path, lap: Lap) -> None:
    # The thread that syncs may say at once that it is durable, and then nodes read the sequence, in which they leave out what is old.
    place = Place(tmp_path)
    known: list[tuple[int, int]] = []

    class Watched(Journal):
        def append(self, buffer):
            record = place.batches.arrays.records[self.position.batch % place.batches.ring.slots]
            known.append((int(record["first_sequence"]), self.next_sequence))
            return super().append(buffer)

    place.journal.close()
    place.journal = Watched(tmp_path, segment_bytes=SEGMENT)
    place.journal_stage = JournalStage(place.journal, place.batches, grouped=False)
    place.drain(Load(lap, place.ring), len(lap))
    assert len(known) > place.batches.ring.slots
    assert all(written == due for written, due in known)


def test_a_session_that_does_not_read_is_detached_and_holds_nobody_up(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, sessions=create_session_rings(None, slots=8))
    place.node_stage = NodeStage(place.nodes, place.batches, place.sessions, place.feedback, patience_ns=1_000_000)
    load = Load(lap, place.ring)
    for _ in range(100_000):
        load.run(1000, 1_000_000)
        moved = [stage.step(0) for stage in (place.risk_stage, place.journal_stage, place.node_stage)]
        if load.number == 1000 and not any(moved):
            break
    figures = place.node_stage.figures()
    assert figures["detached"] == 8
    assert figures["applied"] > 900


def test_a_control_record_takes_effect_between_two_orders_in_risk_and_nodes_alike(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    load = Load(lap, place.ring)
    place.drain(load, 400)
    accepted = int(place.risk.state.counters["verdicts"][0][1])
    place.risk_stage.control({"type": "kill", "scope": "all"})
    place.risk_stage.control({"type": "kill", "scope": "nothing"})
    place.drain(load, 500)
    verdicts = np.array([verdict for *_, verdict in client_order_ids(tmp_path)])
    cancels = lap.frames["kind"][400:500] == Kind.CANCEL
    assert not (verdicts[400:500][~cancels] == 1).any()
    assert "scope 'nothing'" in place.risk_stage.refused[0]
    # What is made again knows of it too.
    place.make("risk", "nodes")
    place.risk_stage.control({"type": "release", "scope": "all"})
    place.drain(load, 700)
    verdicts = np.array([verdict for *_, verdict in client_order_ids(tmp_path)])
    assert np.count_nonzero(verdicts[:400] == 1) == accepted
    assert np.count_nonzero(verdicts[500:700] == 1) > 150
    controls = [batch.control["type"] for batch in read_journal(tmp_path) if batch.control is not None]
    assert controls == ["kill", "release"]
    place.risk_stage.control({"type": "new_day"})
    place.drain(load, 701)
    assert any((told["report"]["kind"] == ReportKind.EXPIRED).any() for told in place.told)


def test_a_move_carries_books_over_and_everything_made_again_agrees(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    load = Load(lap, place.ring)
    place.drain(load, 900)
    instruments = place.risk.state.instruments
    code = int(instruments["code"][instruments["node"] == 0][0])
    place.risk_stage.control({"type": "move", "from": 0, "to": 1, "instruments": [code]})
    place.drain(load, 1500)
    hashes, risk_hash = [node.state_hash() for node in place.nodes], place.risk.state_hash()
    place.make("risk", "journal", "nodes")
    assert [node.state_hash() for node in place.nodes] == hashes
    assert place.risk.state_hash() == risk_hash
    place.drain(load, len(lap))
    assert [node.open_orders for node in place.nodes] == [0, 0, 0]
    after = [batch.decisions["node"][batch.frames["instrument"] == code] for batch in read_journal(tmp_path)]
    nodes = np.concatenate(after)
    assert set(nodes[nodes != 255].tolist()) == {0, 1}
    assert (np.diff(nodes[nodes != 255].astype(int)) >= 0).all()


def test_a_start_reads_the_journal_from_the_newest_snapshot_on(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, segment_bytes=1 << 20)
    load = Load(lap, place.ring)
    state = FollowedState(make_risk(), [MatchingNode(number) for number in NODES], tmp_path)
    follower = Follower(tmp_path, load=state.load, apply=state.apply, parts=state.parts, snapshot_segments=1)
    count = 5 * len(lap)
    while load.number < count:
        place.drain(load, min(load.number + 500, count))
        follower.step()
    hashes, risk_hash = [node.state_hash() for node in place.nodes], place.risk.state_hash()
    assert newest_snapshot(tmp_path) is not None
    nodes = [MatchingNode(number) for number in NODES]
    read = recover_nodes(nodes, tmp_path, place.batches.ring.base + place.batches.ring.cursor(1))
    assert 0 < read < count - 1000
    assert [node.state_hash() for node in nodes] == hashes
    risk = make_risk()
    assert recover_risk(risk, [MatchingNode(number) for number in NODES], tmp_path, place.batches) == read
    assert risk.state_hash() == risk_hash


def test_orders_are_gathered_for_as_long_as_is_asked_unless_the_batch_is_full(lap: Lap) -> None:
    ring, batches = Ring.create(None, 1 << 12, 1 << 20), BatchRing.create(None, base=0, slots=4, slot_frames=64)
    gather_ns = 100_000_000
    stage, load = RiskStage(make_risk(), ring, batches, gather_ns=gather_ns), Load(lap, ring)
    load.run(10, 1_000_000)
    begun = time.monotonic_ns()
    while not batches.ring.written():
        stage.step(0)
    assert time.monotonic_ns() - begun >= gather_ns
    assert int(batches.arrays.records[0]["count"]) == 10
    # The journal has not moved: it has something to do.
    load.run(30, 1_000_000)
    stage.step(2 * gather_ns)
    assert batches.ring.written() == 1
    load.run(10 + 64 + 1, 1_000_000)
    stage.step(0)
    assert batches.ring.written() == 2
    assert int(batches.arrays.records[1]["count"]) == 64
