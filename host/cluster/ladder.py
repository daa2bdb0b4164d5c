"""The ladders of a book: price levels from the best on, each a queue of orders in time priority.

Levels stand in a list, the best first, and hang as leaves in a crit-bit tree (a binary PATRICIA trie: D. R. Morrison, 1968) over
the 64 bits of their prices. So a level is found, made or taken out with at most 64 steps, whatever prices clients choose and
however deep the book is (some log2 of the number of levels where prices are evenly spread), and the next one is a link away.
A level that holds no order does not exist.

The best level is: of bids the highest price, of asks the lowest; of stops that which is triggered first, so of buy stops the
lowest stop price, of sell stops the highest.
"""

import numpy as np
from numba import njit

from host.cluster.book import BIDS, QUANTITY_LIMIT, SELL_STOPS
from host.cluster.order_index import NONE
from host.memory import INLINED, KERNEL, leading_zeros

_BRANCH = -2
"""Child numbers from here down are branches: ``_BRANCH - number``."""

_SIGN = np.uint64(1 << 63)
_ONE = np.uint64(1)
_MOST = np.uint64(QUANTITY_LIMIT)


@njit(**INLINED)
def _rank(ladder, price):
    """A price as an unsigned number that is smaller the better the price."""
    rank = np.uint64(price) ^ _SIGN
    return ~rank if ladder in (BIDS, SELL_STOPS) else rank


@njit(**INLINED)
def _turn(rank, branch):
    """Which child of a branch leads to a rank."""
    return np.int64((rank >> np.uint64(branch.bit)) & _ONE)


@njit(**INLINED)
def find_level(state, book, ladder, price):
    """The level with this price, or NONE."""
    level = np.int64(state.books[book].best[ladder])
    if level == NONE or state.levels[level].price == price:
        return level
    rank = _rank(ladder, price)
    node = np.int64(state.books[book].root[ladder])
    while node <= _BRANCH:
        branch = state.branches[_BRANCH - node]
        node = np.int64(branch.child[_turn(rank, branch)])
    return node if state.levels[node].price == price else np.int64(NONE)


@njit(**KERNEL)
def _make_level(state, book, ladder, price):
    """A new level, empty, in its place in list and tree. There are as many rows as orders, so one is free."""
    counters = state.counters[0]
    level = counters.free_level
    row = state.levels[level]
    counters.free_level = row.next
    row.price = price
    row.quantity = 0
    row.book = book
    row.ladder = ladder
    row.first = NONE
    row.last = NONE
    rank = _rank(ladder, price)
    root = np.int64(state.books[book].root[ladder])
    previous = after = np.int64(NONE)
    if root == NONE:
        state.books[book].root[ladder] = level
    else:
        node = root
        while node <= _BRANCH:
            branch = state.branches[_BRANCH - node]
            node = np.int64(branch.child[_turn(rank, branch)])
        bit = 63 - np.int64(leading_zeros(rank ^ _rank(ladder, state.levels[node].price)))
        side = np.int64((rank >> np.uint64(bit)) & _ONE)
        parent, turn, node = np.int64(NONE), np.int64(0), root
        while node <= _BRANCH and state.branches[_BRANCH - node].bit > bit:
            parent = _BRANCH - node
            turn = _turn(rank, state.branches[parent])
            node = np.int64(state.branches[parent].child[turn])
        # Everything below ``node`` lies on the other side of the new level, and nothing lies between.
        near = node
        while near <= _BRANCH:
            near = np.int64(state.branches[_BRANCH - near].child[side])
        if side == 1:
            previous, after = near, np.int64(state.levels[near].next)
        else:
            previous, after = np.int64(state.levels[near].previous), near
        number = counters.free_branch
        branch = state.branches[number]
        counters.free_branch = np.int64(branch.child[0])
        branch.bit = bit
        branch.child[side] = level
        branch.child[1 - side] = node
        if parent == NONE:
            state.books[book].root[ladder] = _BRANCH - number
        else:
            state.branches[parent].child[turn] = _BRANCH - number
    row.previous = previous
    row.next = after
    if previous == NONE:
        state.books[book].best[ladder] = level
    else:
        state.levels[previous].next = level
    if after != NONE:
        state.levels[after].previous = level
    return level


@njit(**KERNEL)
def _drop_level(state, level):
    """Takes a level out of list and tree and gives its row back."""
    counters = state.counters[0]
    row = state.levels[level]
    book, ladder = row.book, row.ladder
    if row.previous == NONE:
        state.books[book].best[ladder] = row.next
    else:
        state.levels[row.previous].next = row.next
    if row.next != NONE:
        state.levels[row.next].previous = row.previous
    rank = _rank(ladder, row.price)
    parent = grandparent = np.int64(NONE)
    turn = turn_before = np.int64(0)
    node = np.int64(state.books[book].root[ladder])
    while node <= _BRANCH:
        grandparent, turn_before = parent, turn
        parent = _BRANCH - node
        turn = _turn(rank, state.branches[parent])
        node = np.int64(state.branches[parent].child[turn])
    if parent == NONE:
        state.books[book].root[ladder] = NONE
    else:
        sibling = state.branches[parent].child[1 - turn]
        if grandparent == NONE:
            state.books[book].root[ladder] = sibling
        else:
            state.branches[grandparent].child[turn_before] = sibling
        state.branches[parent].child[0] = counters.free_branch
        counters.free_branch = parent
    row.next = counters.free_level
    counters.free_level = level


@njit(**INLINED)
def _append(state, order, level):
    """Puts an order at the end of a level's queue."""
    last = state.levels[level].last
    state.orders[order].previous = last
    state.orders[order].next = NONE
    if last == NONE:
        state.levels[level].first = order
    else:
        state.orders[last].next = order
    state.levels[level].last = order


@njit(**INLINED)
def _unlink(state, order, level):
    """Takes an order out of a level's queue."""
    before, after = state.orders[order].previous, state.orders[order].next
    if before == NONE:
        state.levels[level].first = after
    else:
        state.orders[before].next = after
    if after == NONE:
        state.levels[level].last = before
    else:
        state.orders[after].previous = before


@njit(**INLINED)
def rest(state, order, book, ladder, price):
    """Puts an order at the end of the level of this price, which is made if need be. False, and nothing is done, where the
    level would hold more than QUANTITY_LIMIT."""
    leaves = state.orders[order].leaves
    level = find_level(state, book, ladder, price)
    if level == NONE:
        level = _make_level(state, book, ladder, price)
    elif state.levels[level].quantity + leaves > _MOST:
        return False
    state.orders[order].level = level
    state.levels[level].quantity += leaves
    _append(state, order, level)
    return True


@njit(**INLINED)
def unrest(state, order):
    """Takes an order out of its level, and the level out of the book when that was its last."""
    level = np.int64(state.orders[order].level)
    _unlink(state, order, level)
    state.levels[level].quantity -= state.orders[order].leaves
    if state.levels[level].first == NONE:
        _drop_level(state, level)


@njit(**KERNEL)
def move_to_end(state, order):
    """Puts an order behind all others of its level."""
    level = np.int64(state.orders[order].level)
    _unlink(state, order, level)
    _append(state, order, level)
