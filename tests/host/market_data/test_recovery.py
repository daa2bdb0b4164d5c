"""When a book is valid: starts, gaps, copies, snapshots, natural refresh."""

import struct

import numpy as np
import pytest

from hdl.frame import NO_FLOW, Kind
from host.market_data import Books, Feed, Mark, Role, View, Violation
from tests.host.market_data.entries import (
    CHANGE,
    DELETE,
    FLOWS,
    NEW,
    ORDER_SNAPSHOT,
    ORDER_UPDATE,
    SNAPSHOT,
    Entry,
    Wire,
    books_venue,
    shown,
)

FEEDS = {0: Feed(0), 1: Feed(0), 2: Feed(0, Role.SNAPSHOT)}


@pytest.fixture(scope="module")
def venue(tmp_path_factory):
    return books_venue(tmp_path_factory.mktemp("books"))


@pytest.fixture
def books(venue):
    return Books(FLOWS, venue, feeds=FEEDS)


def update(
    wire: Wire, sequence: int, number: int, price: int, *, action: str = NEW, instrument: int = 7, flow: int = 0
):
    wire.message(sequence, [Entry("0", action, price, 1, 1, number=number, instrument=instrument)], flow=flow)


def snapshot(wire: Wire, last: int, number: int, *prices: int, instrument: int = 7, sequence: int = 1):
    entries = [Entry("0", price=price, quantity=1, level=level) for level, price in enumerate(prices, 1)]
    root = struct.pack("<IiIB", last, instrument, number, 0)
    wire.message(sequence, entries, template=SNAPSHOT, root=root, flow=2, instrument=instrument, number=number)


def prices(books: Books) -> list[int]:
    return [price for price, _, _ in shown(books)[0]]


def test_a_book_that_begins_with_its_first_update_is_valid_any_other_is_marked(books):
    wire = Wire()
    update(wire, 100, 1, 9)
    update(wire, 101, 55, 9, instrument=8)
    wire.give(books)
    assert books.levels(7).mark is Mark.VALID
    assert books.levels(8).mark is Mark.INVALID


def test_a_snapshot_makes_a_book_valid_older_updates_are_skipped_later_ones_applied_in_order(books):
    wire = Wire()
    update(wire, 100, 50, 9)
    update(wire, 101, 51, 10)
    update(wire, 102, 52, 11)
    snapshot(wire, 101, 51, 20, 19)
    wire.give(books)
    assert books.levels(7).mark is Mark.INVALID  # its last entry may be still to come
    books.finish()
    assert books.levels(7).mark is Mark.VALID
    assert prices(books) == [11, 20, 19]
    update(wire, 103, 53, 12)
    wire.give(books)
    assert prices(books) == [12, 11, 20]
    assert books.levels(7).mark is Mark.VALID
    assert books.violation_counts(Mark.VALID) == {Violation.LEVEL_ORDER: 1}
    counters = books.counters()
    assert (counters["snapshots"], counters["stale_updates"]) == (1, 2)


def test_a_snapshot_that_is_older_than_the_gap_is_passed(books):
    wire = Wire()
    update(wire, 100, 50, 9)
    snapshot(wire, 98, 48, 20)
    snapshot(wire, 99, 49, 21, sequence=2)
    wire.give(books)
    books.finish()
    assert prices(books) == [9, 21]
    counters = books.counters()
    assert (counters["snapshots"], counters["snapshots_passed"]) == (1, 1)


def test_updates_older_than_a_snapshot_that_come_after_it_are_skipped(books):
    wire = Wire()
    update(wire, 100, 50, 9)
    snapshot(wire, 102, 52, 20, 19)
    update(wire, 101, 51, 10)
    update(wire, 102, 52, 11)
    update(wire, 103, 53, 12)
    wire.give(books)
    assert prices(books) == [12, 20, 19]
    assert books.levels(7).mark is Mark.VALID
    assert books.violation_counts(Mark.VALID).get(Violation.SEQUENCE) is None


def test_a_gap_of_packets_leaves_those_instruments_valid_that_it_did_not_touch(books):
    wire = Wire()
    update(wire, 1, 1, 9)
    update(wire, 2, 1, 9, instrument=8)
    update(wire, 4, 2, 10, instrument=8)
    wire.give(books)
    # Nothing was heard of 7 since: it may have been in the packet that is missing.
    assert books.levels(7).mark is Mark.INVALID
    assert books.levels(8).mark is Mark.VALID
    update(wire, 5, 3, 8)
    wire.give(books)
    assert books.levels(7).mark is Mark.INVALID
    assert [level.is_stale for level in books.levels(7).bids] == [False, True]
    assert books.violation_counts() == {Violation.SEQUENCE: 1}
    counters = books.counters()
    assert (counters["gaps"], counters["missing"]) == (1, 1)


def test_a_quiet_instrument_is_valid_again_by_a_snapshot_from_behind_the_gap(books):
    wire = Wire()
    update(wire, 1, 1, 9)
    update(wire, 4, 1, 5, instrument=8)
    snapshot(wire, 2, 2, 20)
    wire.give(books)
    books.finish()
    assert books.levels(7).mark is Mark.INVALID
    snapshot(wire, 3, 2, 20, sequence=2)
    wire.give(books)
    books.finish()
    assert books.levels(7).mark is Mark.VALID
    assert prices(books) == [20]


def test_a_valid_book_is_not_replaced(books):
    wire = Wire()
    update(wire, 1, 1, 9)
    snapshot(wire, 1, 1, 20)
    wire.give(books)
    books.finish()
    assert prices(books) == [9]
    assert books.counters()["snapshots_passed"] == 1


def test_copies_of_packets_count_once(books):
    wire = Wire()
    for sequence in (1, 2, 3):
        update(wire, sequence, sequence, sequence, flow=0)
        update(wire, sequence, sequence, sequence, flow=1)
    wire.give(books)
    assert prices(books) == [3, 2, 1]
    assert books.violation_counts() == {}
    assert books.counters()["duplicates"] == 3


def test_a_sequence_that_begins_anew_makes_books_doubtful(books):
    wire = Wire()
    update(wire, 5000, 1, 9)
    update(wire, 3, 9, 8)
    wire.give(books)
    assert books.levels(7).mark is Mark.INVALID
    assert books.counters()["sequence_resets"] == 1


@pytest.mark.parametrize("kind", [Kind.GAP, Kind.MALFORMED])
def test_what_was_lost_or_could_not_be_read_makes_books_doubtful(books, kind):
    wire = Wire()
    update(wire, 1, 1, 9)
    wire.message(2, [], flow=0, kind=kind)
    wire.give(books)
    assert books.levels(7).mark is Mark.INVALID


def test_frames_that_a_link_lost_make_all_books_doubtful(books):
    wire = Wire()
    update(wire, 1, 1, 9)
    wire.message(3, [], flow=NO_FLOW, kind=Kind.GAP)
    wire.give(books)
    assert books.levels(7).mark is Mark.INVALID


def test_books_by_order_recover_by_packet_number_and_in_chunks(books):
    wire = Wire()
    wire.message(50, [Entry("0", NEW, 9, 1, order_id=1)], template=ORDER_UPDATE)
    wire.message(51, [Entry("0", NEW, 8, 1, order_id=2)], template=ORDER_UPDATE)

    def chunk(sequence: int, number: int, last: int, *orders: int) -> None:
        root = struct.pack("<IiII", last, 7, 2, number)
        entries = [Entry("0", price=5, quantity=1, order_id=order) for order in orders]
        wire.message(sequence, entries, template=ORDER_SNAPSHOT, root=root, flow=2, instrument=7)

    chunk(1, 1, 50, 1, 11)
    wire.message(52, [Entry("0", NEW, 7, 1, order_id=3)], template=ORDER_UPDATE)
    wire.give(books)
    assert books.levels(7, View.BY_ORDER).mark is Mark.INVALID
    chunk(2, 2, 50, 12)
    wire.give(books)
    books.finish()
    assert books.levels(7, View.BY_ORDER).mark is Mark.VALID
    assert [order.id for order in books.orders(7)[0]] == [2, 3, 1, 11, 12]


def test_a_snapshot_with_a_missing_chunk_is_given_up(books):
    wire = Wire()
    wire.message(50, [Entry("0", NEW, 9, 1, order_id=1)], template=ORDER_UPDATE)
    for sequence, number in ((1, 1), (3, 3)):
        root = struct.pack("<IiII", 50, 7, 3, number)
        entries = [Entry("0", price=5, quantity=1, order_id=10 + number)]
        wire.message(sequence, entries, template=ORDER_SNAPSHOT, root=root, flow=2, instrument=7)
    wire.give(books)
    books.finish()
    assert books.levels(7, View.BY_ORDER).mark is Mark.INVALID
    assert books.counters()["snapshots_passed"] == 1


def test_natural_refresh_marks_a_book_whose_levels_were_all_set(books):
    wire = Wire()
    entries = [
        Entry(side, CHANGE, price, 1, level)
        for side, start, step in (("0", 9, -1), ("1", 11, 1))
        for level, price in enumerate(range(start, start + 3 * step, step), 1)
    ]
    for number, entry in enumerate(entries, 50):
        entry.number = number
    wire.message(100, entries[:-1])
    wire.give(books)
    assert books.levels(7).mark is Mark.INVALID
    wire.message(101, entries[-1:])
    wire.give(books)
    assert books.levels(7).mark is Mark.REFRESHED
    update(wire, 102, 56, 9, action=DELETE)
    wire.give(books)
    assert books.levels(7).mark is Mark.REFRESHED
    assert books.violation_counts(Mark.REFRESHED) == {}


def test_what_waits_for_a_snapshot_is_bounded(books):
    state = books._state
    state.waiting["next"][2] = -1  # room for three
    wire = Wire()
    for number in range(5):
        update(wire, 100 + number, 50 + number, 9)
    snapshot(wire, 101, 51, 20)
    wire.give(books)
    books.finish()
    assert books.levels(7).mark is Mark.INVALID
    assert books.counters()["lost_waiting"] == 4
    snapshot(wire, 103, 53, 20, sequence=2)
    wire.give(books)
    books.finish()
    assert books.levels(7).mark is Mark.VALID
    assert prices(books) == [9, 20]


def test_however_frames_are_cut_into_batches_the_books_are_the_same(venue):
    wire = Wire()
    for sequence in range(1, 20):
        update(wire, sequence, sequence, sequence)
        if sequence == 7:
            snapshot(wire, 7, 7, 50, 49, 48)
    frames, payload = np.array(wire.frames), np.frombuffer(bytes(wire.raw), np.uint8)
    found = []
    for size in (1, 3, len(frames)):
        books = Books(FLOWS, venue, feeds=FEEDS)
        for first in range(0, len(frames), size):
            books.update(frames[first : first + size], payload)
        books.finish()
        found.append((books.levels(7), books.counters(), books.table().to_pylist()))
    assert found[0] == found[1] == found[2]
