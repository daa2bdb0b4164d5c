"""The order books of one node in flat arrays: orders, price levels, books and the index of open orders.

Numbers of orders, levels and books are rows of their arrays; NONE ends a list. Free rows form a list through
``next``. A level's orders are a list in time priority, a side's levels a list from the best price on; a level that
holds no order does not exist. All quantities are 1e-8, all prices 1e-9.

``_nrt=False`` compiles without Numba's runtime: nothing here can allocate or counts references.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from hdl.frame import Side
from host.cluster.order_key import mix

NONE = -1
BID, ASK = 0, 1

QUANTITY_LIMIT = (1 << 63) - 1
"""Most that one order and one price level may hold, so that sums of two stay within 64 bits."""

ORDER_DTYPE = np.dtype(
    [
        ("key_low", "u8"),
        ("key_high", "u8"),
        ("price", "i8"),
        ("leaves", "u8"),
        ("cumulative", "u8"),
        ("sequence", "u8"),
        ("level", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
        ("flow", "u2"),
        ("side", "u1"),
        ("reserved", "u1"),
    ]
)
"""An open order, one cache line. ``side`` is the frame's character, ``sequence`` the journal's."""

LEVEL_DTYPE = np.dtype(
    [
        ("price", "i8"),
        ("quantity", "u8"),
        ("book", "i4"),
        ("direction", "i4"),
        ("first", "i4"),
        ("last", "i4"),
        ("next", "i4"),
        ("previous", "i4"),
    ]
)
"""A price level: the sum of its orders' leaves, its first and last order, its neighbours (``next`` is worse)."""

BOOK_DTYPE = np.dtype([("instrument", "u8"), ("best", "i4", (2,)), ("orders", "i4", (2,))])
"""A book: the best level and the number of open orders of each direction (BID, ASK)."""

COUNTER_DTYPE = np.dtype(
    [
        ("last_sequence", "u8"),
        ("applied", "u8"),
        ("repeated", "u8"),
        ("trades", "u8"),
        ("open_orders", "i8"),
        ("books", "i8"),
        ("free_order", "i8"),
        ("free_level", "i8"),
    ]
)


class Books(NamedTuple):
    """All state of a node, as the compiled functions take it."""

    orders: np.ndarray
    levels: np.ndarray
    books: np.ndarray
    order_index: np.ndarray
    book_index: np.ndarray
    counters: np.ndarray


def make_books(orders: int, instruments: int) -> Books:
    """Empty books with room for so many open orders and instruments."""
    state = Books(
        np.zeros(orders, ORDER_DTYPE),
        np.zeros(orders, LEVEL_DTYPE),
        np.zeros(instruments, BOOK_DTYPE),
        np.full(1 << (2 * orders - 1).bit_length(), NONE, np.int32),
        np.full(1 << (2 * instruments - 1).bit_length(), NONE, np.int32),
        np.zeros(1, COUNTER_DTYPE),
    )
    for rows in (state.orders, state.levels):
        rows["next"] = np.arange(1, orders + 1)
        rows["next"][-1] = NONE
    return state


@njit(cache=True, _nrt=False)
def direction_of(side):
    """BID for Buy, ASK for every kind of Sell."""
    return BID if side == np.uint8(Side.BUY) else ASK


@njit(cache=True, _nrt=False)
def find_book(state, instrument, make):
    """The instrument's book, or NONE when there is none (``make``: and no room for one)."""
    mask = state.book_index.shape[0] - 1
    slot = np.int64(mix(instrument) & np.uint64(mask))
    while state.book_index[slot] != NONE:
        if state.books[state.book_index[slot]].instrument == instrument:
            return np.int64(state.book_index[slot])
        slot = (slot + 1) & mask
    book = state.counters[0].books
    if not make or book == state.books.shape[0]:
        return np.int64(NONE)
    state.counters[0].books += 1
    state.book_index[slot] = book
    state.books[book].instrument = instrument
    for direction in (BID, ASK):
        state.books[book].best[direction] = NONE
        state.books[book].orders[direction] = 0
    return np.int64(book)


@njit(cache=True, _nrt=False)
def _index_slot(state, low, high):
    """The index slot that holds the key, or the empty one where it would go."""
    mask = state.order_index.shape[0] - 1
    slot = np.int64(low & np.uint64(mask))
    while state.order_index[slot] != NONE:
        order = state.order_index[slot]
        if state.orders[order].key_low == low and state.orders[order].key_high == high:
            break
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, _nrt=False)
def find_order(state, low, high):
    """The open order with this key, or NONE."""
    return np.int64(state.order_index[_index_slot(state, low, high)])


@njit(cache=True, _nrt=False)
def unindex(state, order):
    """Takes an order's key out of the index, moving later entries back so that no hole breaks a probe."""
    mask = state.order_index.shape[0] - 1
    hole = _index_slot(state, state.orders[order].key_low, state.orders[order].key_high)
    slot = hole
    while True:
        slot = (slot + 1) & mask
        other = state.order_index[slot]
        if other == NONE:
            break
        home = np.int64(state.orders[other].key_low & np.uint64(mask))
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            state.order_index[hole] = other
            hole = slot
    state.order_index[hole] = NONE


@njit(cache=True, _nrt=False)
def index(state, order):
    """Enters an order's key into the index."""
    state.order_index[_index_slot(state, state.orders[order].key_low, state.orders[order].key_high)] = order


@njit(cache=True, _nrt=False)
def find_level(state, book, direction, price):
    """(level with this price or NONE, the level before its place or NONE), walking from the best price on."""
    previous = np.int64(NONE)
    level = np.int64(state.books[book].best[direction])
    while level != NONE:
        here = state.levels[level].price
        if here == price:
            return level, np.int64(state.levels[level].previous)
        if (here < price) == (direction == BID):
            break
        previous = level
        level = np.int64(state.levels[level].next)
    return np.int64(NONE), previous


@njit(cache=True, _nrt=False)
def rest(state, order, book, direction):
    """Puts an order at the end of its price level, which is made if need be. The caller has checked the sum."""
    level, previous = find_level(state, book, direction, state.orders[order].price)
    if level == NONE:
        # There are as many levels as orders, and each holds at least one order: one is free.
        level = state.counters[0].free_level
        state.counters[0].free_level = state.levels[level].next
        after = state.books[book].best[direction] if previous == NONE else state.levels[previous].next
        state.levels[level].price = state.orders[order].price
        state.levels[level].quantity = 0
        state.levels[level].book = book
        state.levels[level].direction = direction
        state.levels[level].first = NONE
        state.levels[level].last = NONE
        state.levels[level].next = after
        state.levels[level].previous = previous
        if previous == NONE:
            state.books[book].best[direction] = level
        else:
            state.levels[previous].next = level
        if after != NONE:
            state.levels[after].previous = level
    last = state.levels[level].last
    state.orders[order].level = level
    state.orders[order].previous = last
    state.orders[order].next = NONE
    if last == NONE:
        state.levels[level].first = order
    else:
        state.orders[last].next = order
    state.levels[level].last = order
    state.levels[level].quantity += state.orders[order].leaves
    state.books[book].orders[direction] += 1


@njit(cache=True, _nrt=False)
def unrest(state, order):
    """Takes an order out of its price level, and the level out of the book when that was its last."""
    level = state.orders[order].level
    book, direction = state.levels[level].book, state.levels[level].direction
    before, after = state.orders[order].previous, state.orders[order].next
    if before == NONE:
        state.levels[level].first = after
    else:
        state.orders[before].next = after
    if after == NONE:
        state.levels[level].last = before
    else:
        state.orders[after].previous = before
    state.levels[level].quantity -= state.orders[order].leaves
    state.books[book].orders[direction] -= 1
    if state.levels[level].first == NONE:
        better, worse = state.levels[level].previous, state.levels[level].next
        if better == NONE:
            state.books[book].best[direction] = worse
        else:
            state.levels[better].next = worse
        if worse != NONE:
            state.levels[worse].previous = better
        state.levels[level].next = state.counters[0].free_level
        state.counters[0].free_level = level


@njit(cache=True, _nrt=False)
def take_order(state):
    """A free order row, or NONE when the node is full."""
    order = state.counters[0].free_order
    if order != NONE:
        state.counters[0].free_order = state.orders[order].next
        state.counters[0].open_orders += 1
    return order


@njit(cache=True, _nrt=False)
def free_order(state, order):
    """Gives an order row back; it stands in no level and in no index any more."""
    state.orders[order].next = state.counters[0].free_order
    state.counters[0].free_order = order
    state.counters[0].open_orders -= 1
