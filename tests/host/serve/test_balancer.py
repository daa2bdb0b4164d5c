"""What modules of nodes count becomes weights, and weights become moves; a gateway that runs drains and restores nodes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host.cluster.matching_node import MatchingNode
from host.gateway.batch_ring import JOURNAL, BatchRing
from host.gateway.health import SECOND
from host.gateway.id_table import IdTable
from host.gateway.state import NodesState, reroute
from host.journal import read_journal
from host.ring.records import move_cursor, publish_record
from host.serve.balancer import Balancer
from host.serve.config import load_config
from host.serve.modules import make_risk, read_hashes
from host.serve.status import SERVING, Status
from tests.host.serve.test_control import send
from tests.host.serve.test_serve import config, ended, serve, serving

LOOK = SECOND // 10


class Modules:
    """Two modules of nodes as the balancer sees them: their rows and their cursors, which the test moves."""

    def __init__(self, directory: Path, **tables: str) -> None:
        (directory / "run").mkdir()
        self.config = load_config(config(directory, **({"nodes": "modules = 2"} | tables)))
        self.risk = make_risk(self.config, IdTable(1 << 10))
        self.batches = BatchRing.create(None, base=0, nodes=2, slots=16, slot_frames=64)
        self.status = Status(self.config.run / "status", create=True)
        self.now = SECOND
        self.latency = dict.fromkeys(self.config.node_modules, 100_000)
        for module in self.latency:
            self.status.row(module)["state"], self.status.row(module)["starts"] = SERVING, 1
        self.balancer = Balancer(self.config, self.risk, self.batches, self.status, self.now)

    def run(self, seconds: float, *, silent: str = "") -> list[dict[str, Any]]:
        """Has them take 20 batches a look, and what the balancer says take effect; returns that."""
        records = []
        for _ in range(int(seconds * 100)):
            self.now += SECOND // 100
            if self.now % LOOK == 0:
                for module, latency in self.latency.items():
                    if module != silent:
                        row = self.status.row(module)
                        row["batches"] += 20
                        row["latency_ns"] += 20 * latency
                        row["beat_ns"] = self.now
            if (record := self.balancer.step(self.now)) is not None:
                reroute(self.risk, json.loads(json.dumps(record)))
                records.append(dict(record))
        return records

    def ask(self, kind: str, node: int) -> None:
        """What comes of a record from outside takes effect."""
        reroute(self.risk, self.balancer.ask({"type": kind, "node": node}, self.now))

    def shares(self) -> np.ndarray:
        """How many instruments each node has."""
        return np.bincount(self.risk.state.instruments["node"], minlength=3)


def test_where_all_are_alike_nothing_changes(tmp_path: Path) -> None:
    modules = Modules(tmp_path)
    modules.latency["nodes-2"] *= 50  # below the grain
    assert modules.run(20) == []


def test_a_slow_module_has_less_and_gets_it_back_when_it_is_as_quick_as_the_other(tmp_path: Path) -> None:
    modules = Modules(tmp_path)
    before = modules.shares()
    modules.latency["nodes-2"] = 200_000_000
    records = modules.run(10)
    assert records[0]["type"] == "weights"
    assert records[-1]["type"] == "move"
    assert {each["from"] for each in records if each["type"] == "move"} == {1}
    assert modules.shares()[1] < before[1]
    # All of it follows from what was journaled.
    again = make_risk(modules.config, IdTable(1 << 10))
    for record in records:
        reroute(again, record)
    assert again.state_hash() == modules.risk.state_hash()
    assert (again.state.instruments["node"] == modules.risk.state.instruments["node"]).all()
    modules.latency["nodes-2"] = 100_000
    modules.run(60)
    assert (modules.shares() == before).all()


def test_a_module_that_does_not_run_is_given_nothing_and_asked_for_nothing(tmp_path: Path) -> None:
    modules = Modules(tmp_path)
    modules.run(1)
    before = modules.shares()
    records = modules.run(5, silent="nodes-2")
    assert [each["type"] for each in records] == ["weights"]
    assert records[0]["states"]["1"] == "dead"
    modules.ask("drain", 0)
    records = modules.run(5, silent="nodes-2")
    moves = [each for each in records if each["type"] == "move"]
    assert {(each["from"], each["to"]) for each in moves} == {(0, 2)}
    assert modules.shares()[1] == before[1]
    # It is back, and comes to have its share again.
    modules.run(20)
    assert modules.balancer._told["states"] == {"0": "drained", "1": "active", "2": "active"}
    assert modules.balancer._told["weights"]["1"] == modules.balancer._told["weights"]["2"]


def test_a_node_is_drained_when_every_module_is_behind_its_last_move(tmp_path: Path) -> None:
    modules = Modules(tmp_path)
    ring = modules.batches.ring
    publish_record(ring.slot_bytes, ring.slots, 0)
    modules.ask("drain", 1)
    modules.run(2)
    assert modules.shares()[1] == 0
    assert modules.balancer._told["states"]["1"] == "draining"
    for cursor in (JOURNAL, 1, 2):
        move_cursor(ring.words, cursor, 1)
    modules.run(1)
    assert modules.balancer._told["states"]["1"] == "drained"


def test_a_restart_goes_on_with_the_weights_of_the_journal(tmp_path: Path) -> None:
    modules = Modules(tmp_path)
    modules.ask("drain", 1)
    modules.run(2)
    again = make_risk(modules.config, IdTable(1 << 10))
    reroute(again, modules.risk.weights_record)
    balancer = Balancer(modules.config, again, modules.batches, modules.status, modules.now)
    assert balancer._health.weights[1] == 0


def test_new_instruments_go_by_the_weights_and_others_stay(tmp_path: Path) -> None:
    modules = Modules(tmp_path, health="moves_per_s = 0")
    before = modules.risk.state.instruments["node"].copy()
    modules.ask("drain", 1)
    assert all(each["type"] == "weights" for each in modules.run(2))
    record = modules.risk.terms.record()
    instrument = record["instruments"][0]
    record["instruments"] = [instrument | {"symbol": f"NEW{number}", "security_id": None} for number in range(40)]
    modules.risk.apply_control(record)
    nodes = modules.risk.state.instruments["node"]
    assert (nodes[: len(before)] == before).all()
    assert set(nodes[len(before) :].tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"type": "drain", "node": 7}, "drain: 7 is none of the nodes 0, 1, 2"),
        ({"type": "drain"}, "drain: None is none of the nodes"),
        ({"type": "restore", "node": 1}, "node 1 is active, which joining cannot follow"),
    ],
)
def test_what_cannot_be_drained_or_restored_is_refused(tmp_path: Path, record: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Modules(tmp_path).balancer.ask(record, SECOND)


def test_the_last_node_is_not_drained(tmp_path: Path) -> None:
    balancer = Modules(tmp_path).balancer
    for node in (0, 1):
        balancer.ask({"type": "drain", "node": node}, SECOND)
    with pytest.raises(ValueError, match="no other node that could take what node 2 has"):
        balancer.ask({"type": "drain", "node": 2}, SECOND)


def until(lines: Iterator[dict[str, Any]], node: str, state: str) -> None:
    next(line for line in lines if line["nodes"].get(node, {}).get("state") == state)


def test_a_gateway_drains_a_node_of_another_process_and_restores_it(tmp_path: Path) -> None:
    path = config(
        tmp_path, nodes="modules = 2", processes='groups = [["risk"], ["journal"], ["nodes"], ["nodes-2"]]',
        traffic="orders_per_s = 3000\nlap_orders = 500",
    )  # fmt: skip
    with serving(path) as (process, lines):
        next(line for line in lines if line["modules"]["nodes-2"]["applied"] > 500)
        assert send(path, '{"type": "drain", "node": 1}').exit_code == 0
        until(lines, "1", "drained")
        drained = next(lines)["modules"]["nodes-2"]["applied"]
        assert next(lines)["modules"]["nodes-2"]["applied"] == drained
        refused = send(path, '{"type": "move", "from": 0, "to": 1, "instruments": []}')
        assert refused.exit_code == 2
        assert "the router says where books are" in refused.output
        assert send(path, '{"type": "restore", "node": 1}').exit_code == 0
        until(lines, "1", "active")
        next(line for line in lines if line["modules"]["nodes-2"]["applied"] > drained)
        last = ended(process, lines)
    assert last["modules"]["sessions"]["read"] == last["reports"]
    state, moved = NodesState([MatchingNode(number) for number in range(3)]), 0
    for batch in read_journal(tmp_path / "journal"):
        state.apply(batch)
        if batch.control is not None and batch.control["type"] == "move":
            moved += len(batch.control["instruments"])
    assert last["modules"]["risk"]["moved"] == moved > 0
    assert read_hashes(tmp_path / "run") == {str(number): node.state_hash() for number, node in state.nodes.items()}
    applied = sum(last["modules"][module]["applied"] for module in ("nodes", "nodes-2"))
    assert applied == last["modules"]["risk"]["accepted"]
    # With these rings, there must be as many modules as before.
    path.write_text(path.read_text().replace("modules = 2", "modules = 3").replace(', ["nodes-2"]', ""))
    run = serve(path)
    assert run.returncode == 2
    assert "[nodes] modules is 3, and the rings of" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_processes_of_nodes_that_are_killed_during_a_drain_lose_no_book(tmp_path: Path) -> None:
    path = config(
        tmp_path, nodes="modules = 2", processes='groups = [["risk"], ["journal"], ["nodes"], ["nodes-2"]]',
        traffic="orders_per_s = 3000\nlap_orders = 500", health="moves_per_s = 10",
    )  # fmt: skip
    with serving(path) as (process, lines):
        next(line for line in lines if line["modules"]["nodes-2"]["applied"] > 500)
        assert send(path, '{"type": "drain", "node": 1}').exit_code == 0
        status = Status(tmp_path / "run" / "status")
        for module in ("nodes", "nodes-2"):
            os.kill(int(status.row(module)["pid"]), signal.SIGKILL)
            time.sleep(0.2)
        until(lines, "1", "drained")
        last = ended(process, lines)
    assert last["restarts"] == 2
    assert last["modules"]["risk"]["moved"] > 0
    state = NodesState([MatchingNode(number) for number in range(3)])
    for batch in read_journal(tmp_path / "journal"):
        state.apply(batch)
    assert read_hashes(tmp_path / "run") == {str(number): node.state_hash() for number, node in state.nodes.items()}
