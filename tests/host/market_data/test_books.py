"""What updates do to books, entry by entry, and what is said of books that do what they must not."""

import struct

import numpy as np
import pytest

from hdl.frame import FRAME_DTYPE, Flag, Kind, crc64
from hdl.sbe_schema import SchemaError
from host.market_data import Books, BooksError, Feed, Mark, View, Violation
from host.market_data.places import places_of
from tests.host.market_data.entries import (
    CHANGE,
    DEFINITION,
    DELETE,
    END,
    FIX_FLOW,
    FLOWS,
    FROM,
    NEW,
    ORDER_UPDATE,
    OVERLAY,
    PRICE,
    PROFILE,
    QUANTITY,
    RESET,
    SCHEMA,
    STATUS,
    THRU,
    Entry,
    Wire,
    books_venue,
    shown,
)


@pytest.fixture(scope="module")
def venue(tmp_path_factory):
    return books_venue(tmp_path_factory.mktemp("books"))


@pytest.fixture
def books(venue):
    return Books(FLOWS, venue)


def bids(*prices: int, first: int = 1) -> list[Entry]:
    return [
        Entry("0", NEW, price, 10 * price, level, number=first + level - 1) for level, price in enumerate(prices, 1)
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry("0", NEW, 8, 1, 2), [9, 8, 7]),
        (Entry("0", CHANGE, 7, 1, 2), [9, 7, 5]),
        (Entry("0", DELETE, 7, 1, 2), [9, 5]),
        (Entry("0", THRU, level=1), []),
        (Entry("0", FROM, level=2), [5]),
        (Entry("0", OVERLAY, 8, 1, 2), [9, 8, 5]),
    ],
    ids=["new", "change", "delete", "delete thru", "delete from", "overlay"],
)
def test_each_action_does_what_cme_says(books, entry, expected):
    wire = Wire()
    entry.number = 4
    wire.message(1, [*bids(9, 7, 5), entry])
    wire.give(books)
    assert [price for price, _, _ in shown(books)[0]] == expected
    assert books.levels(7).mark is Mark.VALID
    assert books.violation_counts() == {}


def test_a_new_level_pushes_the_last_one_out_of_a_full_book(books):
    wire = Wire()
    wire.message(1, [*bids(9, 7, 5), Entry("0", NEW, 10, 1, 1, number=4)])
    wire.give(books)
    assert [price for price, _, _ in shown(books)[0]] == [10, 9, 7]


def test_implied_and_outright_are_apart_and_combined_on_demand(books):
    wire = Wire()
    wire.message(
        1,
        [
            Entry("0", NEW, 9, 4, 1, 2, number=1),
            Entry("E", NEW, 9, 5, 1, 0, number=2),
            Entry("E", NEW, 8, 3, 2, 0, number=3),
            Entry("F", NEW, 11, 6, 1, 0, number=4),
        ],
    )
    wire.give(books)
    assert shown(books) == ([(9, 4, 2)], [])
    assert shown(books, view=View.IMPLIED) == ([(9, 5, 0), (8, 3, 0)], [(11, 6, 0)])
    assert shown(books, view=View.COMBINED) == ([(9, 9, 2), (8, 3, 0)], [(11, 6, 0)])


def test_a_crossed_book_is_counted_at_the_end_of_its_event_and_not_mended(books):
    wire = Wire()
    wire.message(1, [Entry("0", NEW, 9, 1, 1, number=1), Entry("1", NEW, 8, 1, 1, number=2)], root=bytes([0]))
    wire.message(2, [Entry("1", CHANGE, 8, 2, 1, number=3)])
    wire.give(books)
    books.finish()
    assert books.violation_counts() == {Violation.CROSSED: 1}
    assert shown(books) == ([(9, 1, 1)], [(8, 2, 1)])
    listed = books.violations[0]
    assert (listed["instrument"], listed["price"], listed["sequence"], listed["number"]) == (7, 9 * PRICE, 2, 3)


def test_a_book_may_be_crossed_within_an_event_and_in_an_auction(books):
    wire = Wire()
    wire.message(1, [Entry("0", NEW, 9, 1, 1, number=1), Entry("1", NEW, 8, 1, 1, number=2)], root=bytes([0]))
    wire.message(2, [Entry("1", DELETE, 8, 1, 1, number=3)])
    status = struct.pack("<8siB", b"", 7, 21)
    wire.message(3, [], template=STATUS, root=status, instrument=7, kind=Kind.STATUS)
    wire.message(4, [Entry("1", NEW, 8, 1, 1, number=4)])
    wire.give(books)
    books.finish()
    assert books.violation_counts() == {}
    assert books.status(7) == 21


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ([Entry("0", NEW, 9, 1, 1), Entry("0", NEW, 10, 1, 2)], Violation.LEVEL_ORDER),
        ([Entry("0", NEW, 9, 0, 1)], Violation.SIZE),
        ([Entry("0", NEW, None, 1, 1)], Violation.PRICE),
        ([Entry("0", NEW, 9, 1, 1), Entry("0", CHANGE, 8, 1, 1)], Violation.PRICE_CHANGED),
        ([Entry("0", NEW, 9, 1, 4)], Violation.DEPTH),
        ([Entry("0", NEW, 9, 1, 2)], Violation.LEVEL_HOLE),
        ([Entry("0", DELETE, 9, 1, 1)], Violation.LEVEL_ABSENT),
        ([Entry("E", NEW, 9, 1, 1), Entry("1", NEW, 9, 1, 1)], Violation.IMPLIED_CROSSED),
        ([Entry("0", "9", 9, 1, 1)], Violation.UNSUPPORTED),
    ],
    ids=lambda value: value.name if isinstance(value, Violation) else "",
)
def test_every_violation_is_counted_and_listed(books, entries, cause):
    for number, entry in enumerate(entries, 1):
        entry.number = number
    wire = Wire()
    wire.message(1, entries)
    wire.give(books)
    books.finish()
    assert books.violation_counts() == {cause: 1}
    assert books.violation_counts(Mark.VALID) == {cause: 1}
    assert [row["cause"] for row in books.violations] == [cause]


def test_orders_queue_by_priority_and_an_update_by_reference_has_the_levels_price_and_side(books):
    wire = Wire()
    wire.message(
        1,
        [
            Entry("0", NEW, 9, 30, 1, 2, number=1),
            Entry("1", NEW, 12, 7, 1, 1, number=2),
            Entry("", NEW, None, 20, kind=Kind.DETAIL, order_id=101, priority=6, reference=1),
            Entry("", NEW, None, 10, kind=Kind.DETAIL, order_id=102, priority=5, reference=1),
            Entry("", NEW, None, 7, kind=Kind.DETAIL, order_id=103, priority=7, reference=2),
        ],
    )
    wire.message(2, [Entry("0", NEW, 8, 1, order_id=104, priority=9)], template=ORDER_UPDATE)
    wire.give(books)
    its_bids, its_asks = books.orders(7)
    assert [(order.id, order.price // PRICE, order.quantity // QUANTITY) for order in its_bids] == [
        (102, 9, 10),
        (101, 9, 20),
        (104, 8, 1),
    ]
    assert [order.id for order in its_asks] == [103]
    assert shown(books, view=View.BY_ORDER) == ([(9, 30, 2), (8, 1, 1)], [(12, 7, 1)])
    assert shown(books) == ([(9, 30, 2)], [(12, 7, 1)])


def test_an_order_that_refers_to_no_entry_changes_no_book(books):
    wire = Wire()
    wire.message(1, [Entry("", NEW, None, 20, kind=Kind.DETAIL, order_id=101, reference=3)])
    wire.give(books)
    assert books.counters()["updates"] == 0


def test_trades_statistics_and_status_are_kept(books):
    wire = Wire()
    wire.message(
        1,
        [
            Entry("2", NEW, 10, 3, number=1),
            Entry("2", NEW, 11, 4, number=2),
            Entry("4", NEW, 10, number=3),
            Entry("C", NEW, None, 500, number=4),
            Entry("6", NEW, 9, number=5),
            Entry("6", DELETE, 9, number=6),
        ],
    )
    status = struct.pack("<8siB", b"", 7, 17)
    wire.message(2, [], template=STATUS, root=status, instrument=7, kind=Kind.STATUS)
    wire.give(books)
    (row,) = books.statistics().to_pylist()
    assert (row["last_price"], row["traded_quantity"], row["trades"]) == (11 * PRICE, 7 * QUANTITY, 2)
    assert (row["open"], row["open_interest"], row["settlement"]) == (10 * PRICE, 500 * QUANTITY, None)
    assert row["status"] == 17
    assert [(trade["price"], trade["quantity"]) for trade in books.trades().to_pylist()] == [
        (10 * PRICE, 3 * QUANTITY),
        (11 * PRICE, 4 * QUANTITY),
    ]
    assert books.trades().num_rows == 0


def test_a_definition_gives_symbol_tick_multiplier_and_depth_and_a_groups_status_reaches_its_instruments(books):
    wire = Wire()
    root = struct.pack("<i8s8sqqi", 7, b"ESZ5", b"ES", PRICE // 4, PRICE // 100, 50) + struct.pack(
        "<HB3sb", 4, 1, b"GBX", 2
    )
    wire.message(1, [], template=DEFINITION, root=root, instrument=7, kind=Kind.DEFINITION)
    # The root block's length is that of its fields, without the group.
    wire.raw[64:66] = struct.pack("<H", 40)
    wire.message(2, [*bids(9, 8, 7)])
    status = struct.pack("<8siB", b"ES", -(2**31), 15)
    wire.message(3, [], template=STATUS, root=status, kind=Kind.STATUS)
    wire.give(books)
    assert [price for price, _, _ in shown(books, "ESZ5")[0]] == [9, 8]
    assert books.violation_counts() == {Violation.DEPTH: 1}
    assert books.status("ESZ5") == 15
    (row,) = books.definition_table().to_pylist()
    assert (row["instrument"], row["symbol"], row["group"]) == (7, "ESZ5", "ES")
    assert (float(row["tick"]), float(row["multiplier"]), float(row["display_factor"])) == (0.25, 50, 0.01)


def test_resets_empty_books_and_make_them_valid(books):
    wire = Wire()
    wire.message(5, [*bids(9, 8, first=11), Entry("J", instrument=7, number=13), Entry("0", NEW, 5, 1, 1, number=14)])
    wire.give(books)
    assert shown(books) == ([(5, 1, 1)], [])
    assert books.levels(7).mark is Mark.VALID
    wire.message(6, [Entry("0", NEW, 5, 1, 1, number=40, instrument=8)])
    wire.message(7, [Entry("J", instrument=0)], template=RESET, root=b"J")
    wire.give(books)
    books.finish()
    assert shown(books) == ([], [])
    assert shown(books, 8) == ([], [])
    assert (books.levels(7).mark, books.levels(8).mark) == (Mark.VALID, Mark.VALID)
    # The numbers of packets and instruments begin anew.
    wire.message(1, [Entry("0", NEW, 6, 1, 1, number=1)])
    wire.give(books)
    assert shown(books) == ([(6, 1, 1)], [])
    assert books.levels(7).mark is Mark.VALID


def test_limits_are_refused_and_counted_and_tables_grow_up_to_them(venue):
    books, wire = Books(FLOWS, venue, instruments=600, orders=1500, slots=20_000), Wire()
    for number in range(1, 701):
        wire.message(number, [Entry("0", NEW, 9, 1, 1, number=1, instrument=number)])
    wire.give(books)
    assert books.counters()["refused_instruments"] == 100
    assert shown(books, 600) == ([(9, 1, 1)], [])
    for number in range(1600):
        wire.message(701 + number, [Entry("0", NEW, number, 1, order_id=number)], template=ORDER_UPDATE)
    wire.give(books)
    assert books.counters()["refused_orders"] == 100
    assert len(books.orders(7)[0]) == 1500
    assert books.levels(7, View.BY_ORDER).mark is Mark.INVALID


def test_slots_beyond_the_limit_are_refused_and_counted(venue):
    books, wire = Books(FLOWS, venue, slots=6), Wire()
    for number in range(1, 8):
        wire.message(number, [Entry("0", NEW, number, 1, number=number)])
    wire.give(books)
    assert books.counters()["refused_levels"] == 3
    assert books.levels(7).mark is Mark.INVALID


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"levels": 0}, "levels is 0: a row has 1 to 64 price levels"),
        ({"interval": -1}, "interval is -1"),
        ({"instruments": 0}, "instruments is 0: 1 to 1048576 are possible"),
        ({"feeds": {9: Feed(0)}}, "feed 9: the flow table has 4 rows"),
        ({"feeds": {0: Feed(64)}}, "feed 0: channel 64 is none of 0 to 63"),
        ({"venue": None}, "an SBE flow needs a venue"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(venue, options, reason):
    with pytest.raises(BooksError, match=reason):
        Books(FLOWS, **{"venue": venue, **options})


def test_an_instrument_that_is_not_known_or_in_several_channels_is_said(books):
    with pytest.raises(KeyError, match="no frame was of instrument 7"):
        books.levels(7)
    wire = Wire()
    for flow in (0, 1):
        wire.message(1, bids(9), flow=flow)
    wire.give(books)
    with pytest.raises(KeyError, match=r"in channels \[0, 1\]: name one"):
        books.levels(7)
    assert books.levels(7, channel=1).bids


def test_a_place_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "books.xml").write_text(SCHEMA)
    (tmp_path / "books.profile.toml").write_text(PROFILE.replace('order_id = "OrderID"', 'order_id = "Px"'))
    from hdl.sbe_venue import load_venue

    with pytest.raises(
        SchemaError, match=r"message 'Update': \[books\] order_id: field 'Px' is decimal, no whole number"
    ):
        places_of(load_venue(tmp_path / "books.xml"))


def fix_frames(*messages: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Frames of W and X messages (SOH is |) as docs/fix.md has them, the instrument being tag 55 of each."""
    raw, frames = bytearray(64), []
    for sequence, message in enumerate(messages, 1):
        message = message.replace(b"|", b"\1")
        fields = dict(part.split(b"=") for part in message.split(b"\1")[:3])
        first = b"279=" if fields[b"35"] == b"X" else b"269="
        starts = [at for at in range(len(message)) if message.startswith(b"\1" + first, at)]
        for start, end in zip(starts, [*starts[1:], len(message)], strict=True):
            entry = dict(part.split(b"=") for part in message[start + 1 : end].split(b"\1") if part)
            frame = np.zeros((), FRAME_DTYPE)
            frame["timestamp"], frame["sequence"] = sequence, sequence
            frame["payload_offset"], frame["payload_length"] = len(raw), len(message)
            frame["entry_offset"] = start + 1
            frame["kind"] = Kind.BOOK_UPDATE
            frame["message_type"] = fields[b"35"][0]
            frame["instrument"] = crc64(fields[b"55"])
            frame["entry_type"] = entry.get(b"269", b"\0")[0]
            frame["update_action"] = entry.get(b"279", b"\0")[0]
            frame["price"] = int(entry.get(b"270", b"0")) * PRICE
            frame["quantity"] = int(entry.get(b"271", b"0")) * QUANTITY
            frame["flags"] = (b"270" not in entry) * Flag.PRICE_ABSENT | (b"271" not in entry) * Flag.QUANTITY_ABSENT
            frames.append(frame)
        raw += message
    return np.array(frames, FRAME_DTYPE), np.frombuffer(bytes(raw), np.uint8)


def test_fix_snapshots_and_updates_build_books_by_price():
    books = Books([FIX_FLOW])
    books.update(
        *fix_frames(
            b"35=X|34=1|55=EURUSD|279=0|269=0|270=7|271=1|10=0|",
            b"35=W|34=2|55=EURUSD|269=0|270=9|271=4|269=0|270=8|271=2|269=1|270=11|271=3|10=0|",
            b"35=X|34=3|55=EURUSD|279=1|269=0|270=8|271=5|279=2|269=1|270=11|279=0|269=1|270=12|271=1|10=0|",
        )
    )
    assert shown(books, "EURUSD") == ([(9, 4, 0), (8, 5, 0)], [(12, 1, 0)])
    assert books.levels("EURUSD").mark is Mark.VALID


def test_fix_entries_with_ids_build_books_by_order():
    books = Books([FIX_FLOW])
    books.update(
        *fix_frames(
            b"35=W|34=1|55=EURUSD|269=0|278=a1|270=9|271=4|269=0|278=a2|270=9|271=2|269=1|278=b1|270=11|271=3|10=0|",
            b"35=X|34=2|55=EURUSD|279=2|278=a1|279=1|278=b1|271=1|10=0|",
        )
    )
    books.finish()
    assert shown(books, "EURUSD", View.BY_ORDER) == ([(9, 2, 1)], [(11, 1, 1)])
    assert books.levels("EURUSD", View.BY_ORDER).mark is Mark.VALID
    assert books.violation_counts() == {}


def test_an_event_ends_with_the_bit_that_the_profile_names(venue):
    books, wire = Books(FLOWS, venue, levels=1), Wire()
    wire.message(1, bids(9), root=bytes([0]))
    wire.message(2, [Entry("0", CHANGE, 9, 5, 1, number=2)], root=bytes([END]))
    wire.give(books)
    books.finish()
    assert books.table().column("bid_quantity_1").to_pylist() == [5 * QUANTITY]
