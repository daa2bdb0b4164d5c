"""Rings of records: found new by their generation, given back by cursors, taken up by whoever comes after."""

from pathlib import Path

import numpy as np
import pytest

from host.ring.generation import generation_of
from host.ring.records import RecordRing, RecordRingError, RecordRings, has_room, publish_record, wait_for_record

RECORD = np.dtype([("value", "<u8"), ("reserved", "u1", (7,)), ("generation", "u1")])
SLOTS = 4


def put(ring: RecordRing, number: int, value: int) -> bool:
    if not has_room(ring.words, ring.slots, number):
        return False
    ring.records["value"][number % ring.slots] = value
    publish_record(ring.slot_bytes, ring.slots, number)
    return True


def test_records_come_in_order_lap_after_lap() -> None:
    ring = RecordRings.create(None, RECORD, SLOTS)[0]
    read: list[int] = []
    for number in range(300 * SLOTS):
        assert put(ring, number, number)
        if number % 3 == 2:
            while len(records := ring.poll()):
                read += records["value"].tolist()
                ring.release(len(records))
    assert read == list(range(300 * SLOTS))
    assert generation_of(300 * SLOTS - 1, SLOTS) == 300 % 256


def test_the_slowest_reader_holds_the_writer_up() -> None:
    ring = RecordRings.create(None, RECORD, SLOTS, cursors=2)[0]
    for number in range(SLOTS):
        assert put(ring, number, number)
    assert not put(ring, SLOTS, 0)
    ring.release(len(ring.poll(0)), 0)
    assert not put(ring, SLOTS, 0)
    ring.release(len(ring.poll(1, 1)), 1)
    assert put(ring, SLOTS, 0)
    assert not put(ring, SLOTS + 1, 0)
    assert (ring.cursor(0), ring.cursor(1)) == (SLOTS, 1)


def test_what_is_not_published_is_not_there() -> None:
    ring = RecordRings.create(None, RECORD, SLOTS)[0]
    put(ring, 0, 5)
    ring.records["value"][1] = 6
    assert ring.poll()["value"].tolist() == [5]
    assert wait_for_record(ring.slot_bytes, SLOTS, 1, SLOTS, 1000) == 0


@pytest.mark.parametrize("written", [0, 1, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS + 2])
@pytest.mark.parametrize("unread", [0, 1, 3])
def test_a_successor_finds_how_much_was_written(tmp_path: Path, written: int, unread: int) -> None:
    path = tmp_path / "ring"
    ring = RecordRings.create(path, RECORD, SLOTS)[0]
    for number in range(written):
        put(ring, number, number)
        if number >= unread:
            ring.release(1)
    assert RecordRings.open(path, RECORD)[0].written() == written


def test_rings_of_one_file_do_not_touch(tmp_path: Path) -> None:
    rings = RecordRings.create(tmp_path / "rings", RECORD, SLOTS, rings=3, base=7, rest=100)
    for ring in range(3):
        for number in range(ring + 1):
            put(rings[ring], number, 10 * ring + number)
    again = RecordRings.open(tmp_path / "rings", RECORD)
    assert [again[ring].poll()["value"].tolist() for ring in range(3)] == [[0], [10, 11], [20, 21, 22]]
    assert len(again) == 3
    assert again[1].base == 7
    assert len(again.rest) == 100
    assert not again.rest.any()


def test_what_is_no_ring_of_these_records_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    RecordRings.create(path, RECORD, SLOTS).close()
    other = np.dtype([("number", "<u8"), ("reserved", "u1", (7,)), ("generation", "u1")])
    with pytest.raises(RecordRingError, match="other records"):
        RecordRings.open(path, other)
    path.write_bytes(bytes(5000))
    with pytest.raises(RecordRingError, match="no ring of records"):
        RecordRings.open(path, RECORD)
    path.write_bytes(bytes(5))
    with pytest.raises(RecordRingError, match="too few"):
        RecordRings.open(path, RECORD)
    with pytest.raises(FileNotFoundError):
        RecordRings.open(tmp_path / "nothing", RECORD)
    with pytest.raises(RecordRingError, match="power of two"):
        RecordRings.create(None, RECORD, 3)
    with pytest.raises(RecordRingError, match="readers"):
        RecordRings.create(None, RECORD, SLOTS, cursors=0)
