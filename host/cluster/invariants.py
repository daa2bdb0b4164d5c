"""What must hold of a node's books at any time between two messages. For tests and for checking a running node."""

import numpy as np

from host.cluster.book import ASK, BID, NONE, QUANTITY_LIMIT, Books, direction_of, find_order


def check_books(state: Books) -> None:
    """Raises AssertionError, saying what is wrong where, unless every invariant holds.

    Books are not crossed, levels are in order of price and not empty, quantities are positive, sums and counts
    match, links agree in both directions, every open order is found by its key, and no row is lost.
    """
    orders_seen: set[int] = set()
    levels_seen: set[int] = set()
    counters = state.counters[0]
    for book in range(int(counters["books"])):
        row = state.books[book]
        best = [int(level) for level in row["best"]]
        if NONE not in best:
            bid, ask = state.levels["price"][best]
            assert bid < ask, f"book {book} is crossed: bid {bid}, ask {ask}"
        for direction in (BID, ASK):
            found = _check_side(state, book, direction, levels_seen, orders_seen)
            assert found == row["orders"][direction], f"book {book} counts {row['orders'][direction]}, has {found}"
    assert len(orders_seen) == counters["open_orders"], "open orders are not counted right"
    indexed = state.order_index[state.order_index != NONE]
    assert sorted(indexed.tolist()) == sorted(orders_seen), "the index does not hold exactly the open orders"
    for rows, head, used in (
        (state.orders, counters["free_order"], orders_seen),
        (state.levels, counters["free_level"], levels_seen),
    ):
        free = int(head)
        count = 0
        while free != NONE:
            assert free not in used, f"row {free} is both free and in use"
            count += 1
            free = int(rows["next"][free])
        assert count + len(used) == len(rows), "a row is neither free nor in use"


def _check_side(state: Books, book: int, direction: int, levels_seen: set[int], orders_seen: set[int]) -> int:
    """Checks one side of a book and returns how many orders it has."""
    found = 0
    previous = NONE
    level = int(state.books["best"][book][direction])
    while level != NONE:
        assert level not in levels_seen, f"level {level} stands twice"
        levels_seen.add(level)
        row = state.levels[level]
        assert (row["book"], row["direction"], row["previous"]) == (book, direction, previous), f"level {level}"
        if previous != NONE:
            better = state.levels["price"][previous]
            assert (better > row["price"]) == (direction == BID), f"levels {previous}, {level} out of order"
            assert better != row["price"], f"levels {previous}, {level} have one price"
        total = 0
        before = NONE
        order = int(row["first"])
        assert order != NONE, f"level {level} is empty"
        while order != NONE:
            assert order not in orders_seen, f"order {order} stands twice"
            orders_seen.add(order)
            entry = state.orders[order]
            assert entry["leaves"] > 0, f"order {order} has nothing left and rests"
            assert (entry["level"], entry["previous"], entry["price"]) == (level, before, row["price"]), (
                f"order {order}"
            )
            assert direction_of(entry["side"]) == direction, f"order {order} rests on the wrong side"
            key = (np.uint64(entry["key_low"]), np.uint64(entry["key_high"]))
            assert find_order(state, *key) == order, f"order {order} is not found by its key"
            total += int(entry["leaves"])
            found += 1
            before, order = order, int(entry["next"])
        assert before == row["last"], f"level {level} ends with another order"
        assert total == row["quantity"] <= QUANTITY_LIMIT, f"level {level} sums to {row['quantity']}, holds {total}"
        previous, level = level, int(row["next"])
    return found
