"""The books' best prices, which the fat-finger check compares with."""

import numpy as np
from numba import njit

from host.gateway.risk_state import set_top
from host.market_data.layout import ASK, BID, BY_ORDER, BY_ORDER_BOOK, BY_PRICE_BOOK, OUTRIGHT, Mark
from host.market_data.views import best_of, mark_of
from host.memory import KERNEL

_INVALID = int(Mark.INVALID)


@njit(**KERNEL)
def _top(books, number, book, layer):
    """((whether there is a best bid, its price), (the same of asks)) of a book that can be trusted."""
    if mark_of(books, number, book) == _INVALID:
        return (False, np.int64(0)), (False, np.int64(0))
    return best_of(books, number, layer * 2 + BID), best_of(books, number, layer * 2 + ASK)


@njit(**KERNEL)
def take_top(state, books, row):
    """Moves an instrument's bounds to the best prices of its book: those by price, else by order.

    Books that begin anew tell nothing until they can be trusted: until then what a journal gave back holds.
    """
    terms = state.terms[row]
    number = np.int64(terms.book)
    if number < 0:
        return
    (has_bid, bid), (has_ask, ask) = _top(books, number, BY_PRICE_BOOK, OUTRIGHT)
    if not has_bid and not has_ask:
        (has_bid, bid), (has_ask, ask) = _top(books, number, BY_ORDER_BOOK, BY_ORDER)
    terms.followed |= has_bid or has_ask
    if terms.followed:
        set_top(state, row, has_bid, bid, has_ask, ask)


@njit(**KERNEL)
def take_tops(state, books):
    """The same for every instrument."""
    for row in range(state.instruments.shape[0]):
        take_top(state, books, row)
