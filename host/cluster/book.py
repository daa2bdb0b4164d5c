"""The state of one node in flat arrays: orders, price levels, books, and the index of open orders.

Numbers of orders, levels, branches and books are rows of their arrays; NONE ends a list. Free rows form lists. All
quantities are 1e-8, all prices 1e-9. Everything that must survive stands in these arrays: they are the snapshot.

The compiled functions have no runtime of Numba's: nothing here can allocate or counts references.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.frame import Side
from host.cluster.order_index import NONE
from host.cluster.order_key import mix
from host.memory import INLINED, KERNEL

BIDS, ASKS, BUY_STOPS, SELL_STOPS = 0, 1, 2, 3
"""The ladders of a book: resting buy and sell orders, and stop orders that wait to be triggered."""

LADDERS = 4
STOPS = BUY_STOPS
"""The first ladder of stops: an order of direction d (0 buys, 1 sells) rests in ladder d and waits in STOPS + d."""

QUANTITY_LIMIT = (1 << 63) - 1
"""Most that one order and one price level may hold, so that sums of two stay within 64 bits."""

WHOLE = QUANTITY_LIMIT
"""The display quantity of an order that shows all it has."""

MOST_DISPLAYS = 100
"""An order's quantity over its display quantity is at most this. It bounds how often one order can be filled by one other,
and so the work and the reports of one message; venues ask for a larger share (Xetra: a twentieth)."""

ORDER_DTYPE = np.dtype(
    [
        ("key_low", "u8"),
        ("key_high", "u8"),
        ("price", "i8"),
        ("leaves", "u8"),
        ("shown", "u8"),
        ("display", "u8"),
        ("cumulative", "u8"),
        ("sequence", "u8"),
        ("level", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
        ("flow", "u2"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("post_only", "u1"),
        ("displays", "u1"),
        ("self_trade", "u1"),
        ("account", "u4"),
    ]
)
"""An open order. ``side``, ``order_type`` and ``time_in_force`` are the frame's characters (Day where that had none, Market
or Limit once triggered), ``sequence`` the journal's. ``shown`` is what of ``leaves`` others see now, ``display`` what is
shown anew when that has traded (WHOLE: all), ``displays`` how often that may be, at most. ``level`` is NONE in a free row. ``account`` (0: none)
and ``self_trade`` (``host.cluster.self_trade``) are what risk decided."""

LEVEL_DTYPE = np.dtype(
    [
        ("price", "i8"),
        ("quantity", "u8"),
        ("book", "i4"),
        ("ladder", "i4"),
        ("first", "i4"),
        ("last", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
    ]
)
"""A price level (of stops: a stop price): the sum of its orders' leaves, hidden ones included, its first and last order, its
neighbours in the ladder (``next`` is worse)."""

BRANCH_DTYPE = np.dtype([("bit", "i4"), ("child", "i4", (2,)), ("reserved", "i4")])
"""A branch of a ladder's tree (``host.cluster.ladder``). A child is a level's number, or ``-2 - number`` of a branch."""

BOOK_DTYPE = np.dtype(
    [
        ("instrument", "u8"),
        ("last_price", "i8"),
        ("displays", "i8"),
        ("next", "i4"),
        ("traded", "u1"),
        ("in_use", "u1"),
        ("reserved", "u1", (2,)),
        ("best", "i4", (LADDERS,)),
        ("root", "i4", (LADDERS,)),
    ]
)
"""A book, one cache line: best level and tree of each ladder, the price of the last trade (if it has ``traded``), and the sum of
its open orders' ``displays``."""

COUNTER_DTYPE = np.dtype(
    [
        ("last_sequence", "u8"),
        ("applied", "u8"),
        ("repeated", "u8"),
        ("trades", "u8"),
        ("last_control", "i8"),
        ("open_orders", "i8"),
        ("free_order", "i8"),
        ("free_level", "i8"),
        ("free_branch", "i8"),
        ("free_book", "i8"),
        ("first_triggered", "i8"),
        ("last_triggered", "i8"),
    ]
)
"""``last_control`` is the number of the last control batch applied. The triggered orders wait here while a message is
applied; between two messages there are none."""


class Books(NamedTuple):
    """All state of a node, as the compiled functions take it."""

    orders: np.ndarray
    levels: np.ndarray
    branches: np.ndarray
    books: np.ndarray
    order_index: np.ndarray
    book_index: np.ndarray
    counters: np.ndarray


def books_layout(orders: int, instruments: int) -> dict[str, tuple[int, np.dtype]]:
    """How many rows of what each array has, with room for so many open orders and instruments."""
    order_slots, book_slots = (1 << (2 * room - 1).bit_length() for room in (orders, instruments))
    return {
        "orders": (orders, ORDER_DTYPE),
        "levels": (orders, LEVEL_DTYPE),
        "branches": (orders, BRANCH_DTYPE),
        "books": (instruments, BOOK_DTYPE),
        "order_index": (order_slots, np.dtype(np.int32)),
        "book_index": (book_slots, np.dtype(np.int32)),
        "counters": (1, COUNTER_DTYPE),
    }


def make_books(orders: int, instruments: int) -> Books:
    """Empty books with room for so many open orders and instruments."""
    state = Books(**{name: np.zeros(rows, dtype) for name, (rows, dtype) in books_layout(orders, instruments).items()})
    state.order_index[:] = state.book_index[:] = NONE
    for links in (state.orders["next"], state.levels["next"], state.branches["child"][:, 0], state.books["next"]):
        links[:] = np.arange(1, len(links) + 1)
        links[-1] = NONE
    state.orders["level"] = NONE
    for name in ("last_control", "first_triggered", "last_triggered"):
        state.counters[name] = NONE
    return state


@njit(**INLINED)
def direction_of(side):
    """0 for Buy, 1 for every kind of Sell."""
    return 0 if side == np.uint8(Side.BUY) else 1


@njit(**INLINED)
def _book_slot(state, instrument):
    """The index slot that holds the instrument's book, or the empty one where it would go."""
    mask = state.book_index.shape[0] - 1
    slot = np.int64(mix(instrument) & np.uint64(mask))
    while state.book_index[slot] != NONE and state.books[state.book_index[slot]].instrument != instrument:
        slot = (slot + 1) & mask
    return slot


@njit(**INLINED)
def find_book(state, instrument):
    """The instrument's book, or NONE."""
    return np.int64(state.book_index[_book_slot(state, instrument)])


@njit(**KERNEL)
def make_book(state, instrument):
    """The instrument's book, made if there is none; NONE when there is no room for it."""
    slot = _book_slot(state, instrument)
    book = np.int64(state.book_index[slot])
    if book != NONE:
        return book
    book = state.counters[0].free_book
    if book == NONE:
        return book
    row = state.books[book]
    state.counters[0].free_book = row.next
    state.book_index[slot] = book
    row.instrument = instrument
    row.in_use = 1
    row.traded = 0
    row.last_price = 0
    row.displays = 0
    for ladder in range(LADDERS):
        row.best[ladder] = NONE
        row.root[ladder] = NONE
    return book


@njit(**KERNEL)
def free_book(state, book):
    """Gives back the row of a book that holds no order."""
    mask = state.book_index.shape[0] - 1
    hole = _book_slot(state, state.books[book].instrument)
    slot = hole
    while True:
        slot = (slot + 1) & mask
        other = state.book_index[slot]
        if other == NONE:
            break
        home = np.int64(mix(state.books[other].instrument) & np.uint64(mask))
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            state.book_index[hole] = other
            hole = slot
    state.book_index[hole] = NONE
    state.books[book].in_use = 0
    state.books[book].next = state.counters[0].free_book
    state.counters[0].free_book = book


@njit(**KERNEL)
def displays_of(quantity, display):
    """How often so much is shown anew until it has traded, at most: what is shown first may be the rest of a display."""
    return 1 if display >= quantity else np.int64((quantity - np.uint64(1)) // display) + 2


@njit(**INLINED)
def take_order(state, book, displays):
    """A free order row, or NONE when the node is full."""
    order = state.counters[0].free_order
    if order != NONE:
        state.counters[0].free_order = state.orders[order].next
        state.counters[0].open_orders += 1
        state.orders[order].displays = displays
        state.books[book].displays += displays
    return order


@njit(**INLINED)
def free_order(state, order, book):
    """Gives an order row back; it stands in no level and in no index any more."""
    state.books[book].displays -= np.int64(state.orders[order].displays)
    state.orders[order].level = NONE
    state.orders[order].next = state.counters[0].free_order
    state.counters[0].free_order = order
    state.counters[0].open_orders -= 1
