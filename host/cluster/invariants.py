"""What must hold of a node's books at any time between two messages. For tests and for checking a running node."""

from typing import Any

import numpy as np

from hdl.frame import OrderType, TimeInForce
from host.cluster.book import (
    ASKS,
    BIDS,
    LADDERS,
    QUANTITY_LIMIT,
    SELL_STOPS,
    STOPS,
    WHOLE,
    Books,
    direction_of,
    displays_of,
    find_book,
)
from host.cluster.order_index import NONE, find_order


def check_books(state: Books) -> None:
    """Raises AssertionError, saying what is wrong where, unless every invariant holds.

    Books are not crossed, no stop waits that the last trade has reached, levels are in order of price and not empty, trees
    hold exactly the levels, quantities are positive, sums and counts match, links agree in both directions, every open order is
    found by its key, nothing waits to be entered, and no row is lost.
    """
    orders_seen: set[int] = set()
    levels_seen: set[int] = set()
    branches_seen: set[int] = set()
    counters = state.counters[0]
    books = np.flatnonzero(state.books["in_use"])
    for book in books.tolist():
        row = state.books[book]
        assert find_book(state, row["instrument"]) == book, f"book {book} is not found by its instrument"
        bid, ask = (int(level) for level in row["best"][[BIDS, ASKS]])
        if NONE not in (bid, ask):
            bid_price, ask_price = state.levels["price"][[bid, ask]]
            assert bid_price < ask_price, f"book {book} is crossed: bid {bid_price}, ask {ask_price}"
        displays = sum(_check_ladder(state, book, ladder, levels_seen, orders_seen) for ladder in range(LADDERS))
        assert displays == row["displays"], f"book {book} counts {row['displays']} displays, has {displays}"
        for ladder in range(LADDERS):
            _check_tree(state, book, ladder, branches_seen)
    assert len(orders_seen) == counters["open_orders"], "open orders are not counted right"
    indexed = state.order_index[state.order_index != NONE]
    assert sorted(indexed.tolist()) == sorted(orders_seen), "the index does not hold exactly the open orders"
    assert sorted(state.book_index[state.book_index != NONE].tolist()) == books.tolist(), "the index of books is wrong"
    assert np.count_nonzero(state.orders["level"] != NONE) == len(orders_seen), "a free order stands in a level"
    assert counters["first_triggered"] == counters["last_triggered"] == NONE, "a triggered order was left waiting"
    for links, head, used in (
        (state.orders["next"], counters["free_order"], orders_seen),
        (state.levels["next"], counters["free_level"], levels_seen),
        (state.branches["child"][:, 0], counters["free_branch"], branches_seen),
        (state.books["next"], counters["free_book"], set(books.tolist())),
    ):
        free = int(head)
        count = 0
        while free != NONE:
            assert free not in used, f"row {free} is both free and in use"
            count += 1
            free = int(links[free])
        assert count + len(used) == len(links), "a row is neither free nor in use"


def _check_ladder(state: Books, book: int, ladder: int, levels_seen: set[int], orders_seen: set[int]) -> int:
    """Checks one ladder of a book and returns how many displays its orders have."""
    displays = 0
    high_first = ladder in (BIDS, SELL_STOPS)
    previous = NONE
    level = int(state.books["best"][book][ladder])
    if ladder >= STOPS and level != NONE and state.books["traded"][book]:
        last, stop = state.books["last_price"][book], state.levels["price"][level]
        assert stop < last if high_first else stop > last, f"a stop at {stop} waits after a trade at {last}"
    while level != NONE:
        assert level not in levels_seen, f"level {level} stands twice"
        levels_seen.add(level)
        row = state.levels[level]
        assert (row["book"], row["ladder"], row["previous"]) == (book, ladder, previous), f"level {level}"
        if previous != NONE:
            better = state.levels["price"][previous]
            assert better != row["price"], f"levels {previous}, {level} have one price"
            assert (better > row["price"]) == high_first, f"levels {previous}, {level} out of order"
        total = 0
        before = NONE
        order = int(row["first"])
        assert order != NONE, f"level {level} is empty"
        while order != NONE:
            assert order not in orders_seen, f"order {order} stands twice"
            orders_seen.add(order)
            entry = state.orders[order]
            assert (entry["level"], entry["previous"]) == (level, before), f"order {order}"
            _check_order(entry, ladder, int(row["price"]))
            key = (np.uint64(entry["key_low"]), np.uint64(entry["key_high"]))
            assert find_order(state, *key) == order, f"order {order} is not found by its key"
            total += int(entry["leaves"])
            displays += int(entry["displays"])
            before, order = order, int(entry["next"])
        assert before == row["last"], f"level {level} ends with another order"
        assert total == row["quantity"] <= QUANTITY_LIMIT, f"level {level} sums to {row['quantity']}, holds {total}"
        previous, level = level, int(row["next"])
    return displays


def _check_order(order: Any, ladder: int, level_price: int) -> None:
    """Checks one open order, a row, by itself."""
    name = f"order {order['sequence']}"
    assert order["leaves"] > 0, f"{name} has nothing left and rests"
    assert direction_of(order["side"]) == ladder % STOPS, f"{name} rests on the wrong side"
    assert order["time_in_force"] in (TimeInForce.DAY, TimeInForce.GOOD_TILL_CANCEL), f"{name} may not rest"
    assert order["displays"] >= displays_of(order["leaves"], order["display"]) - (order["display"] < order["leaves"])
    if ladder >= STOPS:
        assert order["order_type"] in (OrderType.STOP, OrderType.STOP_LIMIT), f"{name} waits and is no stop"
        return
    assert order["order_type"] == OrderType.LIMIT, f"{name} rests and is no limit order"
    assert order["price"] == level_price, f"{name} rests at another price"
    assert 0 < order["shown"] <= min(order["leaves"], order["display"]), f"{name} shows {order['shown']}"
    if order["display"] == WHOLE:
        assert order["shown"] == order["leaves"], f"{name} hides something"


def _check_tree(state: Books, book: int, ladder: int, branches_seen: set[int]) -> None:
    """Checks that a ladder's tree, read from the best to the worst, holds its list of levels, and that bits go down."""
    found: list[int] = []
    root = int(state.books["root"][book][ladder])
    waiting = [] if root == NONE else [(root, 64)]
    while waiting:
        node, above = waiting.pop()
        if node >= 0:
            found.append(node)
            continue
        branch = -2 - node
        assert branch not in branches_seen, f"branch {branch} stands twice"
        branches_seen.add(branch)
        bit = int(state.branches["bit"][branch])
        assert bit < above, f"branch {branch} asks for bit {bit} below one that asks for bit {above}"
        first, second = (int(child) for child in state.branches["child"][branch])
        waiting += [(second, bit), (first, bit)]
    level = int(state.books["best"][book][ladder])
    for expected in found:
        assert level == expected, f"ladder {ladder} of book {book}: the tree has level {expected}, the list {level}"
        level = int(state.levels["next"][level])
    assert level == NONE, f"ladder {ladder} of book {book}: the tree has fewer levels than the list"
