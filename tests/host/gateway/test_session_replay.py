"""What a session was told can be had again out of the journal: the same records with the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from host.cli import BAD_INPUT, app
from host.cluster import MatchingNode
from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.gateway.session_replay import replay_session
from host.gateway.session_ring import MISSED, create_session_rings
from host.gateway.stages import NodeStage
from host.gateway.state import FollowedState
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.journal import JournalError, newest_snapshot
from host.journal.follower import Follower
from tests.host.gateway.test_stages import NODES, Place, make_risk

FIELDS = ["report", "batch", "ordinal", "verdict", "limit_high", "value_high"]


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(1500, seed=3)


def nodes() -> list[MatchingNode]:
    return [MatchingNode(number) for number in NODES]


def replayed(directory: Path, session: int, first: int, before: int | None = None) -> list:
    """The records as plain values."""
    parts = list(replay_session(nodes(), directory, session, first, before))
    return np.concatenate(parts)[FIELDS].tolist() if parts else []


def of_session(told: np.ndarray, session: int, first: int = 1) -> list:
    its = told[(told["report"]["flow"] == session) & (told["report"]["sequence"] >= first)]
    return its[FIELDS].tolist()


def test_the_journal_gives_every_session_the_records_that_it_got(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path)
    load = Load(lap, place.ring)
    place.drain(load, 800)
    place.risk_stage.control({"type": "kill", "scope": "instrument", "name": "ACORN", "cancel": True})
    place.drain(load, 1200)
    told = np.concatenate(place.told)
    for session in np.unique(told["report"]["flow"]).tolist():
        assert replayed(tmp_path, session, 1) == of_session(told, session)
        assert replayed(tmp_path, session, 777) == of_session(told, session, 777) != []
    refused = told[told["verdict"] != 1]
    assert len(refused) >= 10
    # A gateway that runs may have batches of which nobody may hear yet.
    middle = int(told["batch"][len(told) // 2])
    assert replayed(tmp_path, 0, 1, middle) == of_session(told[told["batch"] < middle], 0)
    assert replayed(tmp_path, 40, 1) == []


def test_a_session_that_was_detached_finds_what_it_missed(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, sessions=create_session_rings(None, slots=8))
    place.node_stage = NodeStage(place.nodes, place.batches, place.sessions, place.feedback, patience_ns=1_000_000)
    load = Load(lap, place.ring)
    stages = place.risk_stage, place.journal_stage, place.node_stage
    while load.run(1000, 1_000_000) < 1000 or any(stage.step(0) for stage in stages):
        pass
    ring = place.sessions[2]
    got = ring.poll().copy()
    assert len(got) == 8
    last = got[-1]
    records = np.concatenate(list(replay_session(nodes(), tmp_path, 2, int(last["report"]["sequence"]))))
    missed = records[
        (records["batch"] > last["batch"])
        | ((records["batch"] == last["batch"]) & (records["ordinal"] > last["ordinal"]))
    ]
    assert len(missed) == int(ring.words[MISSED]) > 50
    assert replayed(tmp_path, 2, 1) == got[FIELDS].tolist() + missed[FIELDS].tolist()


def test_it_begins_with_the_newest_snapshot_before_the_sequence(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, segment_bytes=1 << 20)
    load = Load(lap, place.ring)
    state = FollowedState(make_risk(), nodes(), tmp_path)
    follower = Follower(tmp_path, load=state.load, apply=state.apply, parts=state.parts, snapshot_segments=1)
    while load.number < 5 * len(lap):
        place.drain(load, min(load.number + 500, 5 * len(lap)))
        follower.step()
    snapshot = newest_snapshot(tmp_path)
    assert snapshot is not None
    told = np.concatenate(place.told)
    first = snapshot.position.sequence + 10
    for path in tmp_path.glob("00000001.journal"):
        path.unlink()  # as retention does
    assert replayed(tmp_path, 1, first) == of_session(told, 1, first) != []
    with pytest.raises(JournalError, match="segment 1 is missing"):
        replayed(tmp_path, 1, 1)


def test_the_command_says_them_in_words(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path / "journal")
    place.drain(Load(lap, place.ring), 600)
    (tmp_path / "limits.toml").write_text(dump_limits(DEMO_LIMITS))
    path = tmp_path / "serve.toml"
    path.write_text(f'[gateway]\ncard = "load:"\nlimits = "limits.toml"\njournal = "journal"\nrun = "{tmp_path}/run"\n')

    def run(*arguments: str) -> tuple[int, list[str], str]:
        result = CliRunner().invoke(app, ["reports", str(path), *arguments])
        return result.exit_code, result.stdout.splitlines(), result.stderr

    told = np.concatenate(place.told)
    expected = of_session(told, 3, 100)
    code, lines, _ = run("--session", "3", "--from", "100", "--json")
    assert code == 0
    rows = [json.loads(line) for line in lines]
    assert [(row["batch"], row["ordinal"]) for row in rows] == [each[1:3] for each in expected]
    assert {row["kind"] for row in rows} >= {"new", "fill", "canceled"}
    texts = {row["text"] for row in rows if row["node"] is None}
    code, lines, _ = run("--session", "3", "--from", "100")
    assert len(lines) == 1 + len(expected)
    assert all(any(line.endswith(text) for line in lines) for text in texts)
    code, _, error = run("--session", "64")
    assert code == BAD_INPUT
    assert error.splitlines() == ["tickgate: 64 is no session: there are 0 to 63"]
