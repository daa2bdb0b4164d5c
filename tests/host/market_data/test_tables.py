"""Books as Arrow tables: rows at each change and on a grid, decimals, nulls."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from host.market_data import Books, View, as_decimals
from tests.host.market_data.entries import CHANGE, FLOWS, NEW, PRICE, QUANTITY, Entry, Wire, books_venue


@pytest.fixture(scope="module")
def venue(tmp_path_factory):
    return books_venue(tmp_path_factory.mktemp("books"))


def test_there_is_a_row_for_each_event_that_changes_a_level_of_the_view(venue):
    books, wire = Books(FLOWS, venue, levels=2), Wire()
    wire.message(1, [Entry("0", NEW, 9, 1, 1, 3, number=1), Entry("1", NEW, 11, 2, 1, 4, number=2)])
    wire.message(2, [Entry("0", NEW, 8, 1, 2, number=3), Entry("E", NEW, 9, 1, 1, number=4)])
    wire.message(3, [Entry("0", NEW, 7, 1, 3, number=5)])  # a third level
    wire.message(4, [Entry("F", NEW, 12, 1, 1, number=6)])  # another view
    wire.give(books)
    books.finish()
    table = books.table()
    assert table.schema.field("timestamp").type == pa.timestamp("ns", tz="UTC")
    assert table.schema.field("bid_price_1").metadata == {b"exponent": b"-9"}
    assert table.schema.field("ask_quantity_2").metadata == {b"exponent": b"-8"}
    first, second = table.to_pylist()
    assert first == {
        "instrument": 7,
        "timestamp": first["timestamp"],
        "channel": 0,
        "mark": "VALID",
        "status": 0,
        "bid_price_1": 9 * PRICE,
        "bid_quantity_1": QUANTITY,
        "bid_orders_1": 3,
        "ask_price_1": 11 * PRICE,
        "ask_quantity_1": 2 * QUANTITY,
        "ask_orders_1": 4,
        "bid_price_2": None,
        "bid_quantity_2": None,
        "bid_orders_2": None,
        "ask_price_2": None,
        "ask_quantity_2": None,
        "ask_orders_2": None,
    }
    assert table.column("timestamp").cast(pa.int64()).to_pylist() == [1000, 2000]
    assert (second["bid_price_2"], second["ask_price_2"]) == (8 * PRICE, None)
    assert books.table().num_rows == 0


def test_decimals_are_exact(venue):
    books, wire = Books(FLOWS, venue, levels=1), Wire()
    wire.message(1, [Entry("0", NEW, 9, 1, 1, number=1)])
    wire.frames[0]["price"], wire.frames[0]["quantity"] = -123_456_789_123_456_789, 5
    wire.give(books)
    books.finish()
    table = as_decimals(books.table())
    assert pa.types.is_decimal128(table.schema.field("bid_price_1").type)
    (row,) = table.to_pylist()
    assert row["bid_price_1"] == Decimal("-123456789.123456789")
    assert row["bid_quantity_1"] == Decimal("0.00000005")
    assert row["ask_price_1"] is None


def test_on_a_grid_each_instrument_that_has_changed_has_a_row_as_it_is_then(venue):
    books, wire = Books(FLOWS, venue, levels=1, interval=10_000), Wire()
    number = {7: 0, 8: 0}
    for time, instrument, price in ((3, 7, 1), (9, 7, 2), (9, 8, 5), (10, 7, 3), (41, 8, 6)):
        number[instrument] += 1
        wire.time = (time - 1) * 1000
        action = NEW if number[instrument] == 1 else CHANGE
        wire.message(
            sum(number.values()), [Entry("0", action, price, 1, 1, number=number[instrument], instrument=instrument)]
        )
    wire.give(books)
    books.finish()
    rows = books.table().to_pylist()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    found = {
        ((row["timestamp"] - epoch) // timedelta(microseconds=1), row["instrument"]): row["bid_price_1"] // PRICE
        for row in rows
    }
    assert found == {(10, 7): 2, (10, 8): 5, (20, 7): 3, (50, 8): 6}
    assert len(rows) == 4


def test_nothing_is_recorded_where_nothing_is_asked_for(venue):
    books, wire = Books(FLOWS, venue, interval=0, trades=False), Wire()
    wire.message(1, [Entry("0", NEW, 9, 1, 1, number=1), Entry("2", NEW, 9, 1, number=2)])
    wire.give(books)
    books.finish()
    assert (books.table().num_rows, books.trades().num_rows) == (0, 0)


@pytest.mark.parametrize("view", list(View))
def test_every_view_can_be_recorded(venue, view):
    books, wire = Books(FLOWS, venue, levels=1, view=view), Wire()
    wire.message(1, [Entry("0", NEW, 9, 1, 1, number=1), Entry("E", NEW, 8, 1, 1, number=2)])
    wire.give(books)
    books.finish()
    expected = {View.OUTRIGHT: [9], View.IMPLIED: [8], View.COMBINED: [9], View.BY_ORDER: []}[view]
    assert [price // PRICE for price in books.table().column("bid_price_1").to_pylist()] == expected


def test_an_event_with_more_instruments_than_rows_are_kept_is_recorded_whole(venue):
    books, wire = Books(FLOWS, venue, levels=1), Wire()
    for number in range(1, 5001):
        wire.message(number, [Entry("0", NEW, 9, 1, 1, number=1, instrument=number)], root=bytes([0]))
    wire.message(5001, [Entry("0", CHANGE, 9, 2, 1, number=2, instrument=1)])
    wire.give(books)
    books.finish()
    assert np.unique(books.table().column("instrument").to_numpy()).size == 5000
