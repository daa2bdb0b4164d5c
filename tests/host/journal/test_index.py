"""What an index finds is what looking at every order finds, whatever became of the index's file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from host.journal import Batch, read_journal
from host.journal.follower import Follower
from host.journal.index import Query, build_index, index_path, open_index, select, sorted_by_hash, write_index
from host.journal.layout import segment_path, segment_paths
from tests.host.journal.orders import write_random

SMALL = 32 << 10
BASE = 10**18

QUERIES = [
    Query(),
    Query(times=(BASE + 100_000, BASE + 400_000)),
    Query(times=(0, 5)),
    Query(flow=3),
    Query(flow=77),
    Query(client_order_id=b"id-17"),
    Query(client_order_id=b"id-800"),
    Query(client_order_id=b"id-80"),
    Query(client_order_id=b"no such id"),
    Query(client_order_id=b""),
    Query(times=(BASE + 100_000, BASE + 400_000), flow=2),
    Query(flow=1, client_order_id=b"id-17"),
]


def scan(directory: Path, query: Query) -> Iterator[int]:
    """Sequences of the wanted orders, by looking at each."""
    for batch in read_journal(directory):
        for place, frame in enumerate(batch.frames):
            message = bytes(batch.payload[frame["payload_offset"] :][: frame["payload_length"]])
            name = message.split(b"\x0111=")[1].split(b"\x01")[0] if frame["client_order_id"] else None
            if query.times and not query.times[0] <= frame["timestamp"] < query.times[1]:
                continue
            if query.flow is not None and frame["flow"] != query.flow:
                continue
            if query.client_order_id is not None and name != query.client_order_id:
                continue
            yield batch.first_sequence + place


def selected(directory: Path, query: Query) -> list[int]:
    found: list[tuple[Batch, np.ndarray]] = list(select(directory, query))
    return [batch.first_sequence + int(place) for batch, places in found for place in places]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("journal")
    write_random(directory, 2000, segment_bytes=SMALL)
    return directory


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_an_index_finds_what_a_scan_finds(journal: Path, query: Query) -> None:
    expected = list(scan(journal, query))
    assert selected(journal, query) == expected
    assert selected(journal, query) == expected  # now from the files


def test_some_queries_find_something(journal: Path) -> None:
    assert sum(bool(selected(journal, query)) for query in QUERIES) >= 6
    assert len(list(journal.glob("*.index"))) >= len(segment_paths(journal)) - 2


def test_a_damaged_index_is_built_anew(journal: Path) -> None:
    query = Query(client_order_id=b"id-17")
    expected = list(scan(journal, query))
    path = index_path(segment_path(journal, 1))
    write_index(journal, build_index(journal, 1))
    whole = path.read_bytes()
    for content in (
        b"",
        whole[:100],
        whole[:4100] + b"\xff" + whole[4101:],
        b"\0" * len(whole),
        whole[:8] + b"\x09" + whole[9:],
    ):
        path.write_bytes(content)
        assert selected(journal, query) == expected
        assert path.read_bytes() == whole


def test_an_index_of_what_was_in_the_segment_before_is_not_used(journal: Path) -> None:
    path = index_path(segment_path(journal, 2))
    other = build_index(journal, 1)
    write_index(journal, other)
    path.write_bytes(index_path(segment_path(journal, 1)).read_bytes())
    assert open_index(journal, 2).end != other.end
    query = Query(flow=2)
    assert selected(journal, query) == list(scan(journal, query))


def test_a_follower_writes_the_index_that_is_built_of_the_segment(journal: Path) -> None:
    for path in journal.glob("*.index"):
        path.unlink()
    nothing: dict[str, np.ndarray] = {"a": np.zeros(1)}
    follower = Follower(journal, load=lambda parts: None, apply=lambda batch: None, parts=lambda: nothing)
    assert follower.step()
    written = sorted(journal.glob("*.index"))
    assert len(written) >= len(segment_paths(journal)) - 2
    for path in written:
        found, built = open_index(journal, int(path.stem)), build_index(journal, int(path.stem))
        assert (found.end, found.first_sequence) == (built.end, built.first_sequence)
        assert {name: part.tolist() for name, part in found.parts.items()} == {
            name: part.tolist() for name, part in built.parts.items()
        }


def test_a_directory_that_takes_no_files_is_searched_all_the_same(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    for path in journal.glob("*.index"):
        path.unlink()
    monkeypatch.setattr("host.journal.index.write_parts", refuse)
    query = Query(client_order_id=b"id-17")
    assert selected(journal, query) == list(scan(journal, query))
    assert not list(journal.glob("*.index"))


@pytest.mark.parametrize("bits", [1, 20, 48, 64])
def test_hashes_are_sorted_however_many_begin_alike(bits: int) -> None:
    random = np.random.default_rng(bits)
    for count in (0, 1, 2, 17, 5000):
        hashes = (
            random.integers(0, 1 << bits, count, dtype=np.uint64, endpoint=False)
            if bits < 64
            else random.bytes(8 * count)
        )
        hashes = np.frombuffer(hashes, np.uint64)
        rows = np.arange(count, dtype=np.uint32)
        found, found_rows = sorted_by_hash(hashes, rows)
        assert found.tolist() == sorted(hashes.tolist())
        assert (hashes[found_rows] == found).all()
        assert sorted(found_rows.tolist()) == rows.tolist()
