"""What a follower leaves beside the segments is the gateway's state, client order ids included."""

from pathlib import Path

import numpy as np
import pytest

from host.cluster.matching_node import MatchingNode
from host.demo import DEMO_LIMITS
from host.gateway.risk import Risk
from host.gateway.stages import recover_risk
from host.gateway.state import FollowedState
from host.generate.lap import make_lap
from host.generate.load import Lap, Load
from host.journal import CorruptJournal, newest_snapshot
from host.journal.follower import Follower
from host.journal.id_log import first_needed, id_paths, read_ids
from host.journal.retention import Retention
from tests.host.gateway.test_stages import NODES, Place, make_risk

SEGMENT = 1 << 19


@pytest.fixture(scope="module")
def lap() -> Lap:
    return make_lap(1500, seed=4)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host.gateway.state.FILE_IDS", 500)


def followed(directory: Path, retention: Retention | None = None, room: int = 300) -> Follower:
    """A follower whose room for client order ids is soon full."""
    terms = DEMO_LIMITS.terms
    risk = Risk(
        terms.instruments, terms.accounts, sessions=terms.sessions, positions=terms.positions,
        default_account=terms.default_account, client_order_ids=room,
    )  # fmt: skip
    risk.route(DEMO_LIMITS.router())
    state = FollowedState(risk, [MatchingNode(number) for number in NODES], directory)
    return Follower(
        directory, load=state.load, apply=state.apply, parts=state.parts, snapshot_segments=1, retention=retention
    )


def run(place: Place, load: Load, follower: Follower, until: int) -> None:
    while load.number < until:
        place.drain(load, min(load.number + 500, until))
        follower.step()


def recovered_hash(place: Place) -> str:
    """The hash of a risk that is made from the newest snapshot, the ids beside it, and what follows; which must not be all."""
    risk = make_risk()
    read = recover_risk(risk, [MatchingNode(number) for number in NODES], place.directory, place.batches)
    assert read < place.journal.next_sequence - 1
    return risk.state_hash()


def test_each_id_is_written_once_and_a_restart_has_them_all(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, segment_bytes=SEGMENT)
    load, follower = Load(lap, place.ring), followed(tmp_path)
    run(place, load, follower, 5 * len(lap))
    assert recovered_hash(place) == place.risk.state_hash()
    snapshot = newest_snapshot(tmp_path)
    assert snapshot is not None
    files = id_paths(tmp_path)
    assert len(files) > len(list(tmp_path.glob("*.snapshot"))) > 1
    assert [begin for begin, _, _ in files] == [1, *(end for _, end, _ in files[:-1])]
    ids = np.concatenate(list(read_ids(tmp_path, snapshot.parts["forgotten"], snapshot.position.sequence)))
    assert len(np.unique(ids, axis=0)) == len(ids)
    again = make_risk()
    again.remember_client_order_ids(ids)
    assert again.client_order_ids == len(ids)


@pytest.mark.parametrize("record", [{"type": "new_day"}, {"type": "session_day", "flow": 2}])
def test_what_is_forgotten_stays_so(tmp_path: Path, lap: Lap, record: dict) -> None:
    place = Place(tmp_path, segment_bytes=SEGMENT)
    load, follower = Load(lap, place.ring), followed(tmp_path)
    for laps in (2, 3, 5):
        run(place, load, follower, laps * len(lap) + 700)
        place.risk_stage.control(record)
    run(place, load, follower, 9 * len(lap))
    assert recovered_hash(place) == place.risk.state_hash()
    # Ids of the day before may come again.
    before = place.risk_stage.figures()["accepted"]
    place.risk_stage.control(record)
    load.number = 0
    run(place, load, follower, 100)
    assert place.risk_stage.figures()["accepted"] > before
    assert recovered_hash(place) == place.risk.state_hash()


def test_a_follower_that_died_before_its_snapshot_leaves_nothing_twice(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, segment_bytes=SEGMENT)
    load, follower = Load(lap, place.ring), followed(tmp_path)
    run(place, load, follower, 4 * len(lap))
    newest = newest_snapshot(tmp_path)
    assert newest is not None
    newest.path.unlink()
    before = newest_snapshot(tmp_path)
    assert before is not None
    assert max(end for _, end, _ in id_paths(tmp_path)) > before.position.sequence
    assert recovered_hash(place) == place.risk.state_hash()
    run(place, load, followed(tmp_path), 7 * len(lap))
    assert recovered_hash(place) == place.risk.state_hash()
    begins = [begin for begin, _, _ in id_paths(tmp_path)]
    assert begins == sorted(set(begins))


def test_missing_and_damaged_ids_are_said(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, segment_bytes=SEGMENT)
    load, follower = Load(lap, place.ring), followed(tmp_path)
    run(place, load, follower, 4 * len(lap))
    _begin, _end, path = id_paths(tmp_path)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-4096] + bytes(4096))
    with pytest.raises(CorruptJournal, match="the CRC of part ids"):
        recovered_hash(place)
    path.unlink()
    with pytest.raises(CorruptJournal, match=f"the orders from sequence {id_paths(tmp_path)[0][1]} on are missing"):
        recovered_hash(place)
    path.write_bytes(whole)
    assert recovered_hash(place) == place.risk.state_hash()


def test_retention_keeps_the_ids_of_the_day_and_no_others(tmp_path: Path, lap: Lap) -> None:
    place = Place(tmp_path, segment_bytes=SEGMENT)
    load, follower = Load(lap, place.ring), followed(tmp_path, Retention(total_bytes=8 * SEGMENT))
    run(place, load, follower, 6 * len(lap))
    assert not list(tmp_path.glob("00000001.journal"))
    assert id_paths(tmp_path)[0][0] == 1
    assert recovered_hash(place) == place.risk.state_hash()
    day = place.journal.next_sequence
    place.risk_stage.control({"type": "new_day"})
    run(place, load, follower, 14 * len(lap))
    snapshot = newest_snapshot(tmp_path)
    assert snapshot is not None
    assert first_needed(snapshot.parts) == day
    assert all(end > day for _, end, _ in id_paths(tmp_path))
    assert recovered_hash(place) == place.risk.state_hash()
