"""Snapshots, what follows them, and what may be deleted before them."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host.journal import (
    Batch,
    CorruptJournal,
    Journal,
    JournalError,
    Position,
    newest_snapshot,
    read_journal,
    write_snapshot,
)
from host.journal.follower import Follower
from host.journal.index import index_path
from host.journal.layout import segment_path, segment_paths
from host.journal.retention import Retention, retain, used_bytes
from host.journal.segments import SPARES
from host.journal.snapshots import snapshot_paths
from tests.host.journal.orders import filled, messages_of, write_random

SMALL = 32 << 10


class Sums:
    """A state that depends on every byte and on their order."""

    def __init__(self) -> None:
        self.orders = np.zeros(1, np.int64)
        self.controls = np.zeros(1, np.int64)
        self.digest = np.zeros(1, np.uint64)
        self.flows = np.zeros(8, np.dtype([("count", "<i8"), ("quantity", "<u8", (2,))]))

    def apply(self, batch: Batch) -> None:
        self.orders += len(batch)
        self.controls += batch.control is not None
        for part in (batch.frames.view(np.uint8), batch.decisions.view(np.uint8), batch.payload):
            self.digest[0] = hash((int(self.digest[0]), part.tobytes())) & (2**64 - 1)
        for flow, quantity in zip(batch.frames["flow"].tolist(), batch.frames["quantity"].tolist(), strict=True):
            self.flows[flow]["count"] += 1
            self.flows[flow]["quantity"][1] += quantity

    def parts(self) -> dict[str, np.ndarray]:
        return vars(self)

    def load(self, parts: dict[str, np.ndarray]) -> None:
        for name, array in parts.items():
            setattr(self, name, array)

    def values(self) -> list[Any]:
        return [array.tobytes() for array in self.parts().values()]


def replayed(directory: Path) -> Sums:
    """The state from the newest snapshot and what follows it, or from the whole journal."""
    state = Sums()
    snapshot = newest_snapshot(directory)
    if snapshot:
        state.load(snapshot.parts)
    for batch in read_journal(directory, snapshot.position if snapshot else None):
        state.apply(batch)
    return state


def follower(directory: Path, state: Sums, **more: Any) -> Follower:
    return Follower(directory, load=state.load, apply=state.apply, parts=state.parts, **more)


def test_a_snapshot_gives_back_its_parts_and_its_position(tmp_path: Path) -> None:
    parts = {
        "table": np.arange(100_000, dtype=np.uint64).reshape(-1, 2),
        "rows": np.zeros(3, np.dtype([("a", "<u2"), ("b", "<i8", (2, 2)), ("c", [("d", "u1"), ("e", "<u4")])])),
        "nothing": np.zeros(0, np.int32),
        "sparse": np.zeros(1 << 20, np.uint64),
        "scalar": np.array(7),
    }
    parts["rows"]["c"]["e"] = 9
    parts["sparse"][500_000] = 5
    position = Position(3, 128, 17, 1234, 0xFFFFFFFF)
    path = write_snapshot(tmp_path, position, parts)
    snapshot = newest_snapshot(tmp_path)
    assert snapshot
    assert snapshot.path == path
    assert snapshot.position == position
    assert list(snapshot.parts) == list(parts)
    for name, array in parts.items():
        assert snapshot.parts[name].dtype == array.dtype
        assert snapshot.parts[name].shape == array.shape
        assert snapshot.parts[name].tobytes() == array.tobytes()
    assert path.stat().st_blocks * 512 < path.stat().st_size / 4  # zeros are holes


def test_parts_are_written_to_without_changing_the_file(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, Position(), {"counts": np.arange(5)})
    before = path.read_bytes()
    snapshot = newest_snapshot(tmp_path)
    assert snapshot
    snapshot.parts["counts"] += 1
    assert snapshot.parts["counts"].tolist() == [1, 2, 3, 4, 5]
    assert path.read_bytes() == before


def test_the_newest_whole_snapshot_counts(tmp_path: Path) -> None:
    assert newest_snapshot(tmp_path) is None
    for sequence in (9, 10, 11):
        write_snapshot(tmp_path, Position(1, 64, 2, sequence, 0), {"a": np.full(1000, sequence)})
    newest = snapshot_paths(tmp_path)[0]
    whole = newest.read_bytes()
    for byte in [*range(0, 8), *range(12, 150, 7), len(whole) - 4000]:  # 8 to 11 are the version
        damaged = bytearray(whole)
        damaged[byte] ^= 4
        newest.write_bytes(damaged)
        found = newest_snapshot(tmp_path)
        assert found
        assert found.position.sequence == 10
    damaged = bytearray(whole)
    damaged[8] ^= 4
    newest.write_bytes(damaged)
    with pytest.raises(JournalError, match="byte 8: version 5, this program reads 1"):
        newest_snapshot(tmp_path)
    newest.write_bytes(whole[:-1])
    found = newest_snapshot(tmp_path)
    assert found
    assert found.position.sequence == 10
    newest.with_suffix(".snapshot.making").write_bytes(whole)
    assert newest_snapshot(tmp_path, verify=False) is not None


def test_objects_are_no_state(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part names"):
        write_snapshot(tmp_path, Position(), {"names": np.array(["a", None], object)})
    assert list(tmp_path.iterdir()) == []


def test_snapshot_and_rest_give_the_state_of_the_whole_journal(tmp_path: Path) -> None:
    write_random(tmp_path, 3000, segment_bytes=SMALL)
    straight = replayed(tmp_path)
    state = Sums()
    follow = follower(tmp_path, state, snapshot_segments=3)
    assert follow.step() > 2000
    assert follow.step() == 0
    assert len(snapshot_paths(tmp_path)) > 2
    for path in snapshot_paths(tmp_path):
        assert replayed(tmp_path).values() == straight.values()
        path.unlink()
    assert replayed(tmp_path).values() == straight.values()


def test_a_follower_goes_on_from_its_snapshot_while_the_writer_goes_on(tmp_path: Path) -> None:
    write_random(tmp_path, 1500, segment_bytes=SMALL)
    follower(tmp_path, Sums(), snapshot_segments=2).step()
    write_random(tmp_path, 1500, segment_bytes=SMALL)
    state = Sums()
    follow = follower(tmp_path, state, snapshot_segments=2)
    assert follow.position.sequence > 0
    assert 500 < follow.step() < 2500
    first, second = snapshot_paths(tmp_path)[:2]
    expected = replayed(tmp_path).values()
    first.unlink()
    assert replayed(tmp_path).values() == expected
    second.unlink()


def test_what_may_still_be_torn_is_not_followed(tmp_path: Path) -> None:
    with Journal(tmp_path, segment_bytes=8192) as journal:
        follow = follower(tmp_path, state := Sums(), snapshot_segments=1)
        for number in range(12):
            journal.append(filled(b"x" * 3000, b"y%d" % number))
            follow.step()
            assert state.orders[0] <= journal.committed_sequence
        assert state.orders[0] == 0
        journal.commit()
        journal.append(filled(b"z" * 6000))
        journal.append(filled(b"z" * 6000))
        follow.step()
        assert 0 < state.orders[0] <= journal.committed_sequence == 24
        journal.commit()


def test_opening_verifies_only_what_follows_the_snapshot(tmp_path: Path) -> None:
    write_random(tmp_path, 3000, segment_bytes=SMALL)
    state = Sums()
    follower(tmp_path, state, snapshot_segments=3).step()
    position = newest_snapshot(tmp_path).position  # type: ignore[union-attr]
    damaged = segment_path(tmp_path, 1)
    data = bytearray(damaged.read_bytes())
    data[5000] ^= 1
    damaged.write_bytes(data)
    with Journal(tmp_path, segment_bytes=SMALL) as journal:
        assert journal.recovered >= 3000
        assert (
            sum(len(batch) for batch in read_journal(tmp_path, position)) == journal.recovered - position.sequence + 1
        )
    with pytest.raises(CorruptJournal):
        list(read_journal(tmp_path))


def test_retention_keeps_what_a_restart_needs(tmp_path: Path) -> None:
    write_random(tmp_path, 4000, segment_bytes=SMALL)
    expected = replayed(tmp_path).values()
    assert retain(tmp_path, Retention(total_bytes=0)) == []
    last = segment_paths(tmp_path)[-1][0]
    state = Sums()
    follower(tmp_path, state, snapshot_segments=5, retention=Retention(total_bytes=0)).step()
    newest = newest_snapshot(tmp_path)
    assert newest
    numbers = [number for number, _ in segment_paths(tmp_path)]
    assert numbers[0] == newest.position.segment
    assert numbers[-1] >= last
    assert len(snapshot_paths(tmp_path)) == 1
    assert len(list(tmp_path.glob("*.spare"))) == SPARES
    assert [int(path.stem) for path in tmp_path.glob("*.index")] >= numbers[:1]
    assert replayed(tmp_path).values() == expected
    with Journal(tmp_path, segment_bytes=SMALL) as journal:
        journal.append(filled(b"next"))
        journal.commit()
    with pytest.raises(JournalError, match="is in a snapshot only"):
        read_journal(tmp_path)
    newest.path.unlink()
    with pytest.raises(CorruptJournal, match="is missing before it, and no snapshot"):
        Journal(tmp_path, segment_bytes=SMALL)


def test_budgets_of_bytes_and_age(tmp_path: Path) -> None:
    write_random(tmp_path, 4000, segment_bytes=SMALL)
    follower(tmp_path, Sums(), snapshot_segments=5).step()
    assert retain(tmp_path, Retention()) == []  # but for snapshots
    assert len(snapshot_paths(tmp_path)) == 2
    before = used_bytes(tmp_path)
    assert retain(tmp_path, Retention(total_bytes=before)) == []
    assert retain(tmp_path, Retention(seconds=3600)) == []
    # Two become spares, which still take room.
    retired = retain(tmp_path, Retention(total_bytes=before - SMALL))
    assert retired == list(range(1, len(retired) + 1))
    assert before - 3 * SMALL < used_bytes(tmp_path) <= before - SMALL
    oldest = segment_paths(tmp_path)[0][0]
    for number in (oldest, oldest + 1):
        os.utime(segment_path(tmp_path, number), (0, 0))
    assert retain(tmp_path, Retention(seconds=3600)) == [oldest, oldest + 1]
    assert not index_path(segment_path(tmp_path, oldest)).exists()


def test_a_segment_that_is_read_is_not_made_new(tmp_path: Path) -> None:
    write_random(tmp_path, 3000, segment_bytes=SMALL)
    follower(tmp_path, Sums(), snapshot_segments=3).step()
    whole = [messages_of(batch) for batch in read_journal(tmp_path)]
    reader = read_journal(tmp_path)
    batches = [next(reader)]
    assert retain(tmp_path, Retention(total_bytes=0))
    write_random(tmp_path, 2000, segment_bytes=SMALL)  # makes segments of the spares
    batches += (next(reader) for _ in range(3))
    assert [messages_of(batch) for batch in batches] == whole[:4]
    with pytest.raises(JournalError, match=r"missing|deleted"):
        list(reader)


def test_a_reader_beside_the_writer_sees_what_was_written(tmp_path: Path) -> None:
    ended = threading.Event()

    def follow_writer() -> None:
        reader = read_journal(tmp_path)
        expected = 1
        while True:
            finished = ended.is_set()
            for batch in reader:
                assert batch.first_sequence == expected
                expected += len(batch)
            if finished:
                break
        seen.append(expected - 1)

    seen: list[int] = []
    thread = threading.Thread(target=follow_writer)
    thread.start()
    try:
        write_random(tmp_path, 6000, segment_bytes=SMALL)
    finally:
        ended.set()
        thread.join()
    assert seen
    assert seen[0] >= 6000
