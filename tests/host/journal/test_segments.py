"""Segments are made before they are needed, of spares where there are some."""

from pathlib import Path

import pytest

from host.journal import Journal, JournalError, read_journal
from host.journal.layout import segment_path, segment_paths
from host.journal.scan import map_segment
from host.journal.segments import SPARES, make_segment, make_spares, retire_segment
from tests.host.journal.orders import filled, messages_of, write

SMALL = 8192


def test_going_on_to_the_next_segment_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path, segment_bytes=SMALL) as journal:
        for number in range(5):
            journal.append(filled(b"x" * 3000, b"%d" % number))
            journal.commit()
            journal._maker.wait()
            segment = journal.position.segment
            assert segment_path(tmp_path, segment + 1).exists()
            with monkeypatch.context() as patch:
                patch.setattr(journal._maker, "prepare", lambda number: None)
                patch.setattr("host.journal.segments.make_segment", refuse)
                journal.append(filled(b"y" * 5000))
            assert journal.position.segment == segment + 1
            journal.commit()
    assert sum(len(batch) for batch in read_journal(tmp_path)) == 15


def refuse(*_: object) -> None:
    raise AssertionError("a segment was made while an order waited")


def test_a_segment_made_ahead_is_used_by_the_next_writer(tmp_path: Path) -> None:
    write(tmp_path, (b"x" * 3000,), segment_bytes=SMALL)
    ahead = segment_path(tmp_path, 2)
    before = ahead.stat().st_ino
    write(tmp_path, (b"y" * 5000,), segment_bytes=SMALL)
    assert ahead.stat().st_ino == before
    assert [messages_of(batch) for batch in read_journal(tmp_path)] == [[b"x" * 3000], [b"y" * 5000]]


def test_one_of_another_size_is_made_anew(tmp_path: Path) -> None:
    write(tmp_path, (b"x" * 3000,), segment_bytes=SMALL)
    write(tmp_path, (b"y" * 12_000,), segment_bytes=2 * SMALL)
    assert segment_path(tmp_path, 2).stat().st_size == 2 * SMALL
    assert sum(len(batch) for batch in read_journal(tmp_path)) == 2


def test_what_could_not_be_made_ahead_is_said_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path, segment_bytes=SMALL) as journal:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("host.journal.segments.make_segment", full)
        journal.append(filled(b"x" * 3000))
        assert journal.commit() == 1
        with pytest.raises(JournalError, match=r"00000002.journal: no room for a new segment: No space left on device"):
            journal.append(filled(b"y" * 5000))
        with pytest.raises(JournalError, match="takes no more"):
            journal.commit()
    assert sum(len(batch) for batch in read_journal(tmp_path)) == 1


def test_a_spare_becomes_a_segment_of_zeros(tmp_path: Path) -> None:
    write(tmp_path, (b"x" * 5000,), (b"y" * 5000,), (b"z" * 5000,), segment_bytes=SMALL)
    inodes = {path.stat().st_ino for _, path in segment_paths(tmp_path)[:2]}
    for _, path in segment_paths(tmp_path)[:3]:
        retire_segment(path)
    assert len(list(tmp_path.glob("*.spare"))) == SPARES == 2
    make_segment(tmp_path, 9, SMALL)
    make_segment(tmp_path, 10, SMALL // 2)
    assert {segment_path(tmp_path, number).stat().st_ino for number in (9, 10)} == inodes
    assert segment_path(tmp_path, 9).read_bytes() == bytes(SMALL)
    assert segment_path(tmp_path, 10).read_bytes() == bytes(SMALL // 2)


def test_prepared_spares_become_the_next_segments(tmp_path: Path) -> None:
    assert sum(make_spares(tmp_path, 2, SMALL)) == 2 * SMALL
    spares = {path.stat().st_ino for path in tmp_path.glob("*.spare")}
    assert not sum(make_spares(tmp_path, 2, SMALL))  # they are there
    write(tmp_path, (b"x" * 3000,), segment_bytes=SMALL)
    write(tmp_path, (b"y" * 5000,), segment_bytes=SMALL)
    assert {path.stat().st_ino for _, path in segment_paths(tmp_path)} >= spares
    assert not list(tmp_path.glob("*.spare"))
    assert [messages_of(batch) for batch in read_journal(tmp_path)] == [[b"x" * 3000], [b"y" * 5000]]


def test_a_segment_that_a_reader_has_mapped_is_deleted_and_no_spare(tmp_path: Path) -> None:
    write(tmp_path, (b"x" * 5000,), (b"y" * 5000,), segment_bytes=SMALL)
    path = segment_path(tmp_path, 1)
    data = map_segment(path)
    whole = data.tobytes()
    retire_segment(path)
    assert not path.exists()
    assert not list(tmp_path.glob("*.spare"))
    assert data.tobytes() == whole
