"""A book as rows in canonical order: what moves to another node, and what a state's hash is made of.

The first row is the book itself (ladder BOOK), then come its open orders, ladder by ladder, from the best level on and in
time priority. Nothing of where they stand in memory is in them.
"""

import numpy as np
from numba import njit

from host.cluster.book import LADDERS, Books, find_book, free_book, free_order, make_book, take_order
from host.cluster.ladder import rest, unrest
from host.cluster.order_index import NONE, find_order, index, unindex
from host.memory import INLINED, KERNEL

BOOK = 255
"""The ladder of a book's own row."""

ROW_DTYPE = np.dtype(
    [
        ("instrument", "<u8"),
        ("key_low", "<u8"),
        ("key_high", "<u8"),
        ("level_price", "<i8"),
        ("price", "<i8"),
        ("leaves", "<u8"),
        ("shown", "<u8"),
        ("display", "<u8"),
        ("cumulative", "<u8"),
        ("sequence", "<u8"),
        ("flow", "<u2"),
        ("ladder", "u1"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("post_only", "u1"),
        ("displays", "u1"),
        ("account", "<u4"),
        ("self_trade", "u1"),
        ("reserved", "u1", (3,)),
    ]
)
"""An open order, 96 bytes; the fields are those of ORDER_DTYPE, ``level_price`` is the price or, of a stop order, the stop price.
In a book's own row ``level_price`` is the last trade's price if ``shown`` is 1, everything else but the instrument is 0."""


@njit(**KERNEL)
def _count(state, book):
    count = 1
    for ladder in range(LADDERS):
        level = state.books[book].best[ladder]
        while level != NONE:
            order = state.levels[level].first
            while order != NONE:
                count += 1
                order = state.orders[order].next
            level = state.levels[level].next
    return count


@njit(**INLINED)
def _copy(target, source):
    """What an order and its row have alike."""
    target.key_low = source.key_low
    target.key_high = source.key_high
    target.price = source.price
    target.leaves = source.leaves
    target.shown = source.shown
    target.display = source.display
    target.cumulative = source.cumulative
    target.sequence = source.sequence
    target.flow = source.flow
    target.side = source.side
    target.order_type = source.order_type
    target.time_in_force = source.time_in_force
    target.post_only = source.post_only
    target.displays = source.displays
    target.account = source.account
    target.self_trade = source.self_trade


@njit(**KERNEL)
def _write(state, book, rows):
    """Fills ``rows``, which are zeros, with a book."""
    rows[0].instrument = state.books[book].instrument
    rows[0].ladder = BOOK
    rows[0].level_price = state.books[book].last_price
    rows[0].shown = state.books[book].traded
    count = 1
    for ladder in range(LADDERS):
        level = state.books[book].best[ladder]
        while level != NONE:
            order = state.levels[level].first
            while order != NONE:
                row, source = rows[count], state.orders[order]
                row.instrument = state.books[book].instrument
                row.ladder = ladder
                row.level_price = state.levels[level].price
                _copy(row, source)
                count += 1
                order = source.next
            level = state.levels[level].next


@njit(**KERNEL)
def _clear(state, book):
    """Takes all orders out of a book, and the book out of the node."""
    for ladder in range(LADDERS):
        while state.books[book].best[ladder] != NONE:
            order = np.int64(state.levels[state.books[book].best[ladder]].first)
            unindex(state, order)
            unrest(state, order)
            free_order(state, order, book)
    free_book(state, book)


@njit(**KERNEL)
def _known(state, rows):
    """The first row whose key an open order has, or -1."""
    for number in range(1, rows.shape[0]):
        if find_order(state, rows[number].key_low, rows[number].key_high) != NONE:
            return number
    return -1


@njit(**KERNEL)
def _enter(state, rows):
    """Makes the book of ``rows``. Returns the number of rows entered: fewer where a level would hold too much."""
    book = make_book(state, rows[0].instrument)
    state.books[book].last_price = rows[0].level_price
    state.books[book].traded = rows[0].shown
    for number in range(1, rows.shape[0]):
        source = rows[number]
        order = take_order(state, book, source.displays)
        row = state.orders[order]
        _copy(row, source)
        if not rest(state, order, book, source.ladder, source.level_price):
            free_order(state, order, book)
            _clear(state, book)
            return number
        index(state, order)
    return rows.shape[0]


def book_rows(state: Books, book: int) -> np.ndarray:
    """The rows of a book (its number)."""
    rows = np.zeros(_count(state, book), ROW_DTYPE)
    _write(state, book, rows)
    return rows


def take_rows(state: Books, instrument: int) -> np.ndarray:
    """The rows of an instrument's book, which is taken out of the node; none where there is no such book."""
    book = find_book(state, np.uint64(instrument))
    if book == NONE:
        return np.zeros(0, ROW_DTYPE)
    rows = book_rows(state, book)
    _clear(state, book)
    return rows


def give_rows(state: Books, instrument: int, rows: np.ndarray) -> None:
    """Enters a book that :func:`take_rows` gave. Raises ValueError, and nothing is changed, where that cannot be."""
    if rows.dtype != ROW_DTYPE:
        raise ValueError("these are no rows of a book")
    if not len(rows):
        return
    rows = np.ascontiguousarray(rows)
    orders = len(rows) - 1
    if rows["ladder"][0] != BOOK or (rows["ladder"][1:] >= LADDERS).any() or (rows["instrument"] != instrument).any():
        raise ValueError(f"these are not the rows of instrument {instrument}'s book")
    if find_book(state, np.uint64(instrument)) != NONE:
        raise ValueError(f"the node has a book of instrument {instrument} already")
    if state.books["in_use"].all():
        raise ValueError(f"the node has no room for instrument {instrument}")
    if (free := len(state.orders) - int(state.counters["open_orders"][0])) < orders:
        raise ValueError(f"the node has room for {free} more orders, instrument {instrument} has {orders}")
    if (known := _known(state, rows)) >= 0:
        raise ValueError(f"order {rows['sequence'][known]} of instrument {instrument} is open in the node already")
    if (entered := _enter(state, rows)) < len(rows):
        raise ValueError(f"order {rows['sequence'][entered]} of instrument {instrument} does not fit its price level")
